//! The packet path of one of several workers: what it does for the others.

use std::{net::Ipv4Addr, time::Instant};

use log::warn;
use xlatd::{addr::pool::Followed, report::workers::Leases as Told, translate::DropReason};

use crate::datapath::{Hinted, PacketPath, borrower::Borrower, leases::Leases, write_waiting};

/// The first worker: it lends the addresses of the pool.
impl PacketPath {
    /// Has other workers follow the leases, and mark what they add to a trace.
    pub(crate) fn start_lending(&mut self, workers: u32) {
        if let Some(leases) = &mut self.accounting.leases {
            leases.start_following();
        }
        self.links.trace.set_worker(1, workers);
    }

    /// The buffer for the next packet that is handed over, with its header.
    pub(crate) fn read_buffer(&mut self) -> &mut [u8] {
        self.packet.read_buffer()
    }

    /// Begins to translate packets that another worker has handed over. They are written to its
    /// queue, so that it gets their answers.
    pub(crate) fn begin_handed_over(&mut self, worker: usize, now: Instant) {
        self.look_after_leases(now);
        self.links.device.writes_by = Some(worker);
        self.links.trace.begin_turn(now);
    }

    /// Translates the packet of `len` octets in the [buffer](Self::read_buffer).
    pub(crate) fn handed_over(&mut self, len: usize, now: Instant) {
        let received = self.packet.received(len);
        self.links.trace.came(&self.packet);
        match received {
            Ok(()) => self.translate(now),
            Err(malformed) => self.drop_malformed(malformed, now),
        }
    }

    /// Has all packets that were handed over written.
    pub(crate) fn end_handed_over(&mut self, now: Instant) {
        write_waiting(&mut self.coalescer, &mut self.links, now);
        self.links.device.writes_by = None;
    }

    /// The leases, if addresses are lent.
    pub(crate) fn leases_mut(&mut self) -> Option<&mut Leases> {
        self.accounting.leases.as_mut()
    }

    /// The leases that have changed since the last time.
    pub(crate) fn take_changed_leases(&mut self) -> Vec<Followed> {
        let leases = self.accounting.leases.as_mut();
        leases.map(Leases::take_changed).unwrap_or_default()
    }

    /// The maximum number of leases.
    pub(crate) fn max_leases(&self) -> usize {
        let pool = self.translator.map().pool();
        pool.map_or(0, |pool| usize::try_from(pool.size()).unwrap_or(usize::MAX))
    }

    /// Notes that leases were used elsewhere.
    pub(crate) fn leases_were_used(
        &mut self,
        uses: impl Iterator<Item = (Ipv4Addr, u64)>,
        now: Instant,
    ) {
        let map = self.translator.map_mut();
        if let Some(leases) = &mut self.accounting.leases {
            leases.upkeep.set_time(map, now);
        }
        if let Some(pool) = map.pool() {
            let now = map.now();
            uses.for_each(|(address, second)| pool.used(address, second, now));
        }
    }

    /// Whether a client takes a trace.
    pub(crate) fn is_traced(&self) -> bool {
        self.links.trace.is_taken()
    }

    /// Adds a block of another worker to the trace.
    pub(crate) fn add_to_trace(&self, block: &[u8]) {
        self.links.trace.add(block);
    }

    /// Gives a hint about a packet that another worker has refused, if none was given yet: by its
    /// beginning, and its length.
    pub(crate) fn hint(&mut self, reason: DropReason, packet: (&[u8], usize)) {
        if let Some(hint) = self.accounting.hints.about(reason, packet) {
            warn!("{hint}");
        }
    }
}

/// Another worker.
impl PacketPath {
    /// Leaves the pool to the first worker, and hints.
    pub(crate) fn start_borrowing(&mut self, borrower: Borrower, (worker, workers): (u32, u32)) {
        self.translator.set_borrower();
        self.borrower = Some(borrower);
        self.accounting.hinted = Some(Vec::new());
        self.links.trace.set_worker(worker, workers);
    }

    /// Takes over leases of the first worker.
    pub(crate) fn follow(&mut self, leases: &Told) {
        if let Some(borrower) = &mut self.borrower {
            borrower.follow(leases, self.translator.map_mut());
        }
    }

    /// The uses of leases since the last time.
    pub(crate) fn uses(&mut self) -> Vec<(Ipv4Addr, u64)> {
        let map = self.translator.map();
        let borrower = self.borrower.as_mut();
        borrower.map_or_else(Vec::new, |borrower| borrower.uses(map).collect())
    }

    /// Packets for which there is a hint.
    pub(crate) fn take_hinted(&mut self) -> Vec<Hinted> {
        let hinted = self.accounting.hinted.as_mut();
        hinted.map(std::mem::take).unwrap_or_default()
    }
}
