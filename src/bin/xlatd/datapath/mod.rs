//! The packet path: from the device through the translator and back to the device; and, where a
//! CLAT has a path of its own, from the device to the uplink and back.
//!
//! One thread reads and writes one packet at a time, on a nonblocking descriptor. Of the 4 us that
//! a packet takes, the kernel spends about 3 in these two system calls. Super-packets and joining
//! make the calls fewer. These were measured and did not pay:
//!
//! - io_uring saves a part of the calls, and none of the kernel's work. A loop that writes packets
//!   back as they are passes 1.1 to 1.2 times as many with it (32 reads and writes a call, buffers
//!   and descriptor registered): no translator gains more. It would take memory for a ring, and a
//!   code path of its own.
//! - IFF_NAPI: the same loop passes a sixth fewer.
//! - A longer queue of the device loses no fewer TCP packets.
//! - Reading the header into a buffer of its own (readv(2)).
//! - Waiting for more packets than there are.

pub(crate) mod borrower;
mod crew;
pub(crate) mod device;
pub(crate) mod leases;
mod links;
mod spin;
mod tally;
mod trace;
pub(crate) mod uplink;

pub(crate) use trace::Traced;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::Instant,
};

use log::{info, warn};
use nix::{errno::Errno, poll::PollFlags};
use xlatd::{
    addr::AddressMap,
    clat::Sending,
    config::LogClasses,
    report::hints::Hints,
    report::packet_log::{PacketLog, Summary},
    report::stats::{self, Received, Stats},
    report::status,
    report::trace::Filter,
    translate::{Coalescer, DropReason, Offered, Outcome, Packet, Reply, Translator},
    wire::Malformed,
};

use crate::{
    datapath::borrower::Borrower,
    datapath::device::Device,
    datapath::leases::{LeaseEvent, Leases},
    datapath::links::{Links, Side, Sides},
    datapath::spin::Spin,
    datapath::trace::Trace,
    datapath::uplink::Uplink,
    error::Error,
    sys::netlink::LinkState,
};

/// The maximum number of packets that are read in a turn, and of those that are written (a
/// super-packet may become 45), so that a flood starves neither signals nor timers. The more there
/// are, the more are joined: of 100 flows that take turns, ten of each.
const MAX_BATCH: usize = 1024;

/// The packets that `--debug` logs: all.
pub(crate) const EVERY_PACKET: LogClasses = LogClasses {
    drop: true,
    reject: true,
    icmp: true,
    own: true,
    dynamic: true,
};

/// Number of [descriptors](PacketPath::fds) of a packet path.
pub(crate) const FDS: usize = 3;

/// The device, the translator, and the accounting of the packets between them.
pub(crate) struct PacketPath {
    links: Links,
    /// The side that is read first in this turn.
    first: Side,
    translator: Translator,
    /// The packet that is being translated.
    packet: Packet,
    /// A segment of it, if it is a super-packet that must be segmented in software.
    segment: Packet,
    /// A fragment of the packet or segment.
    fragment: Packet,
    /// Packets that wait for others of their flow.
    coalescer: Coalescer,
    spin: Spin,
    /// The pool that another worker lends.
    borrower: Option<Borrower>,
    accounting: Accounting,
}

/// The records kept about packets: leases, log, counters and hints.
struct Accounting {
    leases: Option<Leases>,
    packet_log: Option<PacketLog>,
    stats: Stats,
    hints: Hints,
    /// Where another worker gives the hints: packets for which there is one.
    hinted: Option<Vec<Hinted>>,
}

/// A packet for which there is a hint.
pub(crate) struct Hinted {
    pub(crate) reason: DropReason,
    /// The beginning of the packet.
    pub(crate) packet: Vec<u8>,
    /// The length of the packet, in octets.
    pub(crate) len: usize,
}

impl PacketPath {
    /// Connects `device` and `translator`. `log` selects the packets that are logged.
    pub(crate) fn new(
        log: LogClasses,
        hints: Hints,
        device: Device,
        translator: Translator,
        leases: Option<Leases>,
    ) -> Self {
        let sharers = translator.sharers();
        Self {
            links: Links {
                device,
                uplink: None,
                written: 0,
                rejected_before: 0,
                trace: Trace::default(),
            },
            first: Side::Device,
            translator,
            packet: Packet::new(),
            segment: Packet::new(),
            fragment: Packet::new(),
            coalescer: Coalescer::default(),
            spin: Spin::default(),
            borrower: None,
            accounting: Accounting {
                leases,
                packet_log: PacketLog::new(log, sharers),
                stats: Stats::default(),
                hints,
                hinted: None,
            },
        }
    }

    /// Translates waiting packets, at most [`MAX_BATCH`], of those sides that are ready; while it
    /// spins, of all. A packet costs a read and a write, and no allocation, lock or clock reading.
    fn translate_batch(&mut self, ready: Sides, all: Sides, now: Instant) -> Result<(), Error> {
        let mut packets = 0;
        let mut left = ready; // of these there may be more packets
        self.spin.wake();
        self.links.written = 0;
        while packets.max(self.links.written) < MAX_BATCH {
            let Some(side) = left.first(self.first) else {
                write_waiting(&mut self.coalescer, &mut self.links, now);
                if !self.spin.again() {
                    return Ok(());
                }
                left = all;
                continue;
            };
            match self.links.read(side, &mut self.packet) {
                Ok(received) => {
                    packets += 1;
                    self.spin.found();
                    self.links.trace.came(&self.packet);
                    match received {
                        Ok(()) => self.translate(now),
                        Err(malformed) => self.drop_malformed(malformed, now),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => left.remove(side),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => packets += 1,
                Err(error) => {
                    write_waiting(&mut self.coalescer, &mut self.links, now);
                    return Err(self.read_error(error));
                }
            }
        }
        // A flood on one side does not starve the other.
        self.first = self.first.other();
        write_waiting(&mut self.coalescer, &mut self.links, now);
        Ok(())
    }

    /// Translates the packet that was read, and writes the outcome.
    fn translate(&mut self, now: Instant) {
        let Self {
            links,
            translator,
            packet,
            segment,
            fragment,
            coalescer,
            borrower,
            accounting,
            ..
        } = self;
        let received = Received::of(packet);
        let outcome = accounting.translate(translator, packet, &received, now);
        if let Outcome::HandOver = outcome {
            return hand_over(borrower, packet, now);
        }
        if let Outcome::Forward = outcome
            && links.device.coalesces
        {
            links.trace.went(packet); // before it is joined to others
            loop {
                match coalescer.offer(packet) {
                    Offered::Taken => return,
                    Offered::First(waiting) => links.write(waiting, now),
                    Offered::Alone => return links.write(packet, now),
                }
            }
        }
        write_waiting(coalescer, links, now); // no packet overtakes those that came before it
        match outcome {
            Outcome::Segments(mut segments) => {
                while segments.next(segment) {
                    links.trace.segment(segment);
                    let received = Received::of(segment);
                    let outcome = accounting.translate(translator, segment, &received, now);
                    let refused = refused(&outcome);
                    if let Outcome::HandOver = outcome {
                        hand_over(borrower, segment, now);
                        continue;
                    }
                    match write_fragments(links, outcome, fragment, now) {
                        None => links.send(segment, now),
                        Some(made) => accounting.stats.count_fragments(&received, made),
                    }
                    accounting.refused(&received, refused, segment, now);
                }
            }
            outcome => {
                let refused = refused(&outcome);
                match write_fragments(links, outcome, fragment, now) {
                    None => links.send(packet, now),
                    Some(made) => accounting.stats.count_fragments(&received, made),
                }
                accounting.refused(&received, refused, packet, now);
            }
        }
    }

    /// Drops the packet that was read, whose virtio_net_hdr is invalid.
    fn drop_malformed(&mut self, malformed: Malformed, now: Instant) {
        let outcome = Outcome::Drop(DropReason::Malformed(malformed));
        self.links.trace.decided(&outcome);
        let received = Received::of(&self.packet);
        let accounting = &mut self.accounting;
        accounting.stats.count(&received, &outcome);
        accounting.refused(&received, refused(&outcome), &self.packet, now);
    }

    /// Has IPv6 packets come and go by a packet socket of this place, or by the device.
    pub(crate) fn set_uplink(&mut self, place: Option<uplink::Place>) -> Result<(), Error> {
        if let (Some(uplink), Some(place)) = (&mut self.links.uplink, &place)
            && (uplink.place() == place || uplink.follow(place, Instant::now()))
        {
            return Ok(());
        }
        let opened = place.map(Uplink::open).transpose()?;
        let left = std::mem::replace(&mut self.links.uplink, opened);
        self.links.rejected_before += left.map_or(0, |uplink| uplink.rejected.count);
        Ok(())
    }

    /// The descriptors that packets are read from, and that of news of the next hop.
    pub(crate) fn fds(&self) -> [Option<BorrowedFd<'_>>; FDS] {
        let Links { device, uplink, .. } = &self.links;
        let holds_packets = uplink.as_ref().is_some_and(Uplink::holds_packets)
            || self.borrower.as_ref().is_some_and(Borrower::is_waiting);
        let device = (!holds_packets).then(|| device.tun.as_fd());
        let [packets, neighbours] = uplink.as_ref().map(Uplink::fds).unwrap_or_default();
        [device, packets, neighbours]
    }

    /// The link of the device, as last read.
    pub(crate) fn link(&self) -> &LinkState {
        &self.links.device.link
    }

    /// Replaces the link with a newer reading.
    pub(crate) fn set_link(&mut self, link: LinkState) {
        self.links.device.link = link;
    }

    /// The address mapping in force.
    pub(crate) fn map(&self) -> &AddressMap {
        self.translator.map()
    }

    /// Replaces the address mapping; leases stay. See [`Translator::set_map`].
    pub(crate) fn set_map(&mut self, map: AddressMap) {
        self.translator.set_map(map);
    }

    /// Replaces the MTU of the device, in octets. See [`Translator::set_mtu`].
    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.translator.set_mtu(mtu);
    }

    /// Handles one turn of the loop: leases, packets and the log. `ready` holds the events of
    /// poll(2) on the [descriptors](Self::fds).
    pub(crate) fn turn(&mut self, ready: [PollFlags; FDS], now: Instant) -> Result<(), Error> {
        self.look_after_leases(now);
        self.links.trace.begin_turn(now);
        let [device, uplink, neighbours] = ready;
        // Only a removed device has events other than input.
        if device.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) {
            return Err(self.removed());
        }
        // The lease may have come after the wait.
        let is_waiting = self.borrower.as_ref().is_some_and(Borrower::is_waiting);
        let mut ready = Sides {
            device: !device.is_empty() && !is_waiting,
            uplink: !uplink.is_empty(),
        };
        let mut all = Sides {
            device: true,
            uplink: self.links.uplink.is_some(),
        };
        if let Some(uplink) = &mut self.links.uplink {
            if !neighbours.is_empty() {
                uplink.read_neighbours(now);
            }
            let sending = uplink.sending(ready.device, now);
            self.translator.set_unreachable(sending == Sending::Refuse);
            if !matches!(sending, Sending::Send | Sending::Refuse) {
                ready.device = false;
                all.device = false;
            }
        }
        if ready.device || ready.uplink {
            self.translate_batch(ready, all, now)?;
        }
        if let Some(uplink) = &mut self.links.uplink {
            uplink.end_turn();
        }
        self.log_left_out(now);
        Ok(())
    }

    /// Passes the time to the pool, and ages and writes leases when due.
    fn look_after_leases(&mut self, now: Instant) {
        if let Some(borrower) = &self.borrower {
            borrower.set_time(self.translator.map_mut(), now);
        }
        if let Some(leases) = &mut self.accounting.leases {
            for event in leases.look_after(self.translator.map_mut(), now) {
                log_lease(&mut self.accounting.packet_log, &event, now);
            }
        }
    }

    /// Traces packets from now on, for a process. There is one trace at a time: fails with the
    /// process that takes another one.
    pub(crate) fn trace(&mut self, filter: Filter, pid: i32, now: Instant) -> Result<Traced, i32> {
        let device = &self.links.device.link.name;
        self.links.trace.start(device, filter, pid, now)
    }

    /// Writes the leases now.
    pub(crate) fn write_leases(&mut self, now: Instant) {
        self.look_after_leases(now);
        if let Some(leases) = &mut self.accounting.leases {
            leases.write(self.translator.map());
        }
    }

    /// Logs how many lines the rate limit left out, if due.
    fn log_left_out(&mut self, now: Instant) {
        if let Some(log) = &mut self.accounting.packet_log
            && log.deadline().is_some_and(|deadline| deadline <= now)
        {
            log_lines(log.left_out(Some(now)));
        }
    }

    /// The time of the next [`turn`](Self::turn) if no packet comes before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let log = self.accounting.packet_log.as_ref();
        let leases = self.accounting.leases.as_ref();
        let deadlines = [
            log.and_then(PacketLog::deadline),
            leases.and_then(Leases::deadline),
            self.links.uplink.as_ref().and_then(Uplink::deadline),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Writes the leases for the last time, and logs the counters with those of `others`.
    pub(crate) fn end(&mut self, others: &[status::Packets]) {
        let now = Instant::now();
        self.look_after_leases(now);
        self.end_log();
        if let Some(leases) = &mut self.accounting.leases {
            leases.end(self.translator.map());
        }
        let mut packets = self.packets(now);
        others.iter().for_each(|other| packets.add(other));
        report(&packets);
    }

    /// Logs how many lines the rate limit has left out until the end.
    pub(crate) fn end_log(&mut self) {
        if let Some(log) = &mut self.accounting.packet_log {
            log_lines(log.left_out(None));
        }
    }

    /// The directory of the lease file, if leases are kept.
    pub(crate) fn lease_directory(&self) -> Option<BorrowedFd<'_>> {
        self.accounting.leases.as_ref().and_then(Leases::directory)
    }

    /// The counters.
    pub(crate) fn stats(&self) -> &Stats {
        &self.accounting.stats
    }

    /// Packets that the kernel did not take.
    fn rejected(&self) -> u64 {
        let Links {
            device,
            uplink,
            rejected_before,
            ..
        } = &self.links;
        let by_uplink = uplink.as_ref().map_or(0, |uplink| uplink.rejected.count);
        let by_first = self.borrower.as_ref().map_or(0, Borrower::lost);
        device.rejected.count + rejected_before + by_uplink + by_first
    }

    /// The packets so far, as data.
    pub(crate) fn packets(&self, now: Instant) -> status::Packets {
        let Accounting {
            stats, packet_log, ..
        } = &self.accounting;
        let joined = |direction| self.coalescer.joined(direction);
        status::Packets {
            suppressed_messages: self.translator.suppressed_messages(),
            suppressed_lines: packet_log.as_ref().map_or(0, PacketLog::suppressed),
            rejected: self.rejected(),
            ..status::Packets::new(stats, joined, now)
        }
    }

    /// The device, as data.
    pub(crate) fn device(&self) -> status::Device {
        let Device { link, offload, .. } = &self.links.device;
        status::Device {
            name: link.name.clone(),
            up: link.up,
            mtu: link.mtu,
            offload: (*offload).to_owned(),
        }
    }

    /// The pool, as data, if there is one.
    pub(crate) fn pool(&self) -> Option<status::Pool> {
        let refused = self.accounting.leases.as_ref().map_or(0, Leases::refused);
        status::Pool::of(self.map(), refused)
    }

    fn read_error(&self, cause: io::Error) -> Error {
        match cause.raw_os_error().map(Errno::from_raw) {
            // The errors of a descriptor whose device has been, or is being, removed.
            Some(Errno::EBADFD | Errno::EFAULT) => self.removed(),
            _ => Error::Tun {
                device: self.links.device.link.name.clone(),
                call: "read from",
                cause,
            },
        }
    }

    fn removed(&self) -> Error {
        Error::DeviceRemoved {
            device: self.links.device.link.name.clone(),
        }
    }
}

/// Logs counters.
pub(crate) fn report(packets: &status::Packets) {
    log_lines(packets.lines());
    let rejected = packets.rejected;
    if rejected != 0 {
        info!("Packets rejected by the kernel: {rejected}");
    }
}

/// Gives a packet to the worker that lends the pool.
#[cold]
fn hand_over(borrower: &mut Option<Borrower>, packet: &mut Packet, now: Instant) {
    if let Some(borrower) = borrower {
        borrower.hand_over(packet, now);
    }
}

/// Writes packets that wait for others of their flow. None waits longer than a wakeup.
fn write_waiting(coalescer: &mut Coalescer, links: &mut Links, now: Instant) {
    while let Some(waiting) = coalescer.take() {
        links.write(waiting, now);
    }
}

/// Writes the fragments of an outcome, and returns their number. `None`: the packet itself is still
/// to be written.
fn write_fragments(
    links: &mut Links,
    outcome: Outcome<'_>,
    fragment: &mut Packet,
    now: Instant,
) -> Option<u64> {
    if let Outcome::Forward = outcome {
        return None;
    }
    links.trace.decided(&outcome);
    match outcome {
        Outcome::Forward | Outcome::Reply(_) | Outcome::HandOver => None,
        Outcome::Fragments(mut fragments) => {
            let mut made = 0;
            while fragments.next(fragment) {
                links.send(fragment, now);
                made += 1;
            }
            Some(made)
        }
        Outcome::Segments(_) | Outcome::Drop(_) => Some(0),
    }
}

impl Accounting {
    /// Translates a packet, counts and logs the outcome, and records a new lease.
    fn translate<'p>(
        &mut self,
        translator: &mut Translator,
        packet: &'p mut Packet,
        received: &Received,
        now: Instant,
    ) -> Outcome<'p> {
        let octets = packet.bytes();
        // Before the translation replaces it.
        let summary = self.packet_log.as_ref().map(|_| Summary::of(octets));
        let map = translator.map();
        // Only a CLAT has its NAT64 on the path.
        let is_of_the_way = map.is_at_edge() && stats::is_of_the_way(octets, map);
        let outcome = translator.translate(packet, now);
        self.stats.count(received, &outcome);
        if is_of_the_way {
            self.stats.count_as_no_answer(&outcome);
        }
        if let (Some(log), Some(summary)) = (&mut self.packet_log, &summary)
            && let Some(line) = log.line(summary, &outcome, now)
        {
            info!("{line}");
        }
        if let Some((host, lent)) = translator.take_lent()
            && let Some(leases) = &mut self.leases
            && let Some(event) = leases.lent(host, lent, translator.map(), now)
        {
            log_lease(&mut self.packet_log, &event, now);
        }
        outcome
    }

    /// Keeps a packet that was refused, and warns, once for each reason, what to do about a common
    /// one.
    fn refused(
        &mut self,
        received: &Received,
        refused: Option<(DropReason, bool)>,
        packet: &Packet,
        now: Instant,
    ) {
        let Some(refused) = refused else {
            return;
        };
        let octets = packet.bytes();
        self.stats.keep_refused(received, refused, octets, now);
        let len = octets.len();
        if let Some(hint) = self.hints.about(refused.0, (octets, len)) {
            match &mut self.hinted {
                None => warn!("{hint}"),
                Some(hinted) => hinted.push(Hinted {
                    reason: refused.0,
                    packet: octets[..len.min(stats::Refused::MAX_LEN)].to_vec(),
                    len,
                }),
            }
        }
    }
}

/// The reason for which a packet was refused, if it was, and whether its sender gets an ICMP error.
fn refused(outcome: &Outcome<'_>) -> Option<(DropReason, bool)> {
    match outcome {
        Outcome::Drop(reason) => Some((*reason, false)),
        Outcome::Reply(Reply::Error(reason)) => Some((*reason, true)),
        _ => None,
    }
}

fn log_lease(log: &mut Option<PacketLog>, event: &LeaseEvent, now: Instant) {
    if let Some(log) = log
        && let Some(line) = log.lease_line(event.kind, event.address, event.host, now)
    {
        info!("{line}");
    }
}

fn log_lines(lines: Vec<String>) {
    for line in lines {
        info!("{line}");
    }
}
