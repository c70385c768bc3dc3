//! The path of a packet: from the device through the translator and back.
//!
//! One read and one write a packet, by a single thread, on a descriptor that does not block. What costs is the kernel's work
//! for each of the two calls, about 3 us of 4; so the calls are made fewer, by super-packets and by joining. Left out, since
//! it did not pay: io_uring, which saves a part of the calls and none of their work, where joining has already taken most of
//! them (a single sender is slower than the joined path), and would cost a ring in memory and a way of its own through the
//! kernel; a longer queue at the device, which loses no fewer packets of TCP; reading with a header apart (readv), and waiting
//! for more packets than there are.

pub(crate) mod device;
pub(crate) mod leases;
mod spin;
mod tally;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::Instant,
};

use log::{info, warn};
use nix::{errno::Errno, poll::PollFlags};
use xlatd::{
    addr::AddressMap,
    config::LogClasses,
    report::hints::Hints,
    report::packet_log::{PacketLog, Summary},
    report::stats::Stats,
    translate::{Coalescer, Direction, DropReason, Offered, Outcome, Packet, Reply, Translator},
    wire::Malformed,
};

use crate::{
    datapath::device::Device,
    datapath::leases::{Event, Leases},
    datapath::spin::Spin,
    error::Error,
    sys::netlink::Link,
};

/// So many packets a turn at most: a flood starves neither signals nor timers.
const BATCH: usize = 256;

/// What `-d` logs.
pub(crate) const EVERY_PACKET: LogClasses = LogClasses {
    drop: true,
    reject: true,
    icmp: true,
    own: true,
    dynamic: true,
};

/// Device and translator, and what is kept about the packets between them.
pub(crate) struct PacketPath {
    device: Device,
    translator: Translator,
    /// The packet that is being translated.
    packet: Packet,
    /// One of its segments, if it cannot be translated in one.
    segment: Packet,
    /// A fragment of either.
    fragment: Packet,
    /// Packets that wait for more of their flows.
    coalescer: Coalescer,
    spin: Spin,
    books: Books,
}

/// What is kept about packets.
struct Books {
    leases: Option<Leases>,
    packet_log: Option<PacketLog>,
    stats: Stats,
    hints: Hints,
}

impl PacketPath {
    /// `log`: the packets that are logged.
    pub(crate) fn new(
        log: LogClasses,
        hints: Hints,
        device: Device,
        translator: Translator,
        leases: Option<Leases>,
    ) -> Self {
        Self {
            device,
            translator,
            packet: Packet::new(),
            segment: Packet::new(),
            fragment: Packet::new(),
            coalescer: Coalescer::default(),
            spin: Spin::default(),
            books: Books {
                leases,
                packet_log: PacketLog::new(log),
                stats: Stats::default(),
                hints,
            },
        }
    }

    /// Translates what has come in, but no more than [`BATCH`] packets. No packet costs more than a read and a write:
    /// no allocation, no lock, no clock.
    fn translate_batch(&mut self, now: Instant) -> Result<(), Error> {
        let mut packets = 0;
        self.spin.wake();
        while packets < BATCH {
            match self.device.tun.read(self.packet.space()) {
                Ok(len) => {
                    packets += 1;
                    self.spin.found();
                    match self.packet.received(len) {
                        Ok(()) => self.translate(now),
                        Err(malformed) => self.books.refused(&self.packet, malformed),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    write_waiting(&mut self.coalescer, &mut self.device, now);
                    if !self.spin.again() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    write_waiting(&mut self.coalescer, &mut self.device, now);
                    return Err(self.read_failed(error));
                }
            }
        }
        write_waiting(&mut self.coalescer, &mut self.device, now);
        Ok(())
    }

    /// Translates the packet that was read, and writes what comes of it.
    fn translate(&mut self, now: Instant) {
        let Self {
            device,
            translator,
            packet,
            segment,
            fragment,
            coalescer,
            books,
            ..
        } = self;
        let outcome = books.translate(translator, packet, now);
        if let Outcome::Forward = outcome
            && device.coalesces
        {
            loop {
                match coalescer.offer(packet) {
                    Offered::Taken => return,
                    Offered::First(waiting) => device.write(waiting, now),
                    Offered::Alone => return device.write(packet, now),
                }
            }
        }
        write_waiting(coalescer, device, now); // nothing overtakes it
        match outcome {
            Outcome::Segments(mut segments) => {
                while segments.next(segment) {
                    let outcome = books.translate(translator, segment, now);
                    let refused = refused(&outcome);
                    if write_fragments(device, outcome, fragment, now) {
                        device.write(segment, now);
                    }
                    books.hint(refused, segment);
                }
            }
            outcome => {
                let refused = refused(&outcome);
                if write_fragments(device, outcome, fragment, now) {
                    device.write(packet, now);
                }
                books.hint(refused, packet);
            }
        }
    }

    /// The descriptor that packets come in by.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.device.tun.as_fd()
    }

    /// The device as a link, when it was looked at last.
    pub(crate) fn link(&self) -> &Link {
        &self.device.link
    }

    /// Takes notice of what the link is now.
    pub(crate) fn set_link(&mut self, link: Link) {
        self.device.link = link;
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

    /// Does what a turn of the loop has for it: leases, packets, and what the log left out. `ready` is what poll(2) found at
    /// the device.
    pub(crate) fn turn(&mut self, ready: PollFlags, now: Instant) -> Result<(), Error> {
        self.look_after_leases(now);
        // Only a device that is no more has conditions other than input.
        if ready.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) {
            return Err(self.gone());
        }
        if !ready.is_empty() {
            self.translate_batch(now)?;
        }
        self.log_left_out(now);
        Ok(())
    }

    /// Tells the pool the time, and has leases aged and written when it is time.
    fn look_after_leases(&mut self, now: Instant) {
        if let Some(leases) = &mut self.books.leases {
            for event in leases.look_after(self.translator.map_mut(), now) {
                log_lease(&mut self.books.packet_log, &event, now);
            }
        }
    }

    /// Writes leases now.
    pub(crate) fn write_leases(&mut self, now: Instant) {
        self.look_after_leases(now);
        if let Some(leases) = &mut self.books.leases {
            leases.write(self.translator.map());
        }
    }

    /// Logs how many lines were left out, if it is time.
    fn log_left_out(&mut self, now: Instant) {
        if let Some(log) = &mut self.books.packet_log
            && log.deadline().is_some_and(|deadline| deadline <= now)
        {
            log_lines(log.left_out(Some(now)));
        }
    }

    /// When there is something to do without a packet.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let log = self.books.packet_log.as_ref();
        let leases = self.books.leases.as_ref();
        let deadlines = [
            log.and_then(PacketLog::deadline),
            leases.map(|leases| leases.upkeep.next_check()),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Writes leases for the last time, and says what became of the packets.
    pub(crate) fn end(&mut self) {
        self.look_after_leases(Instant::now());
        if let Some(log) = &mut self.books.packet_log {
            log_lines(log.left_out(None));
        }
        if let Some(leases) = &mut self.books.leases {
            leases.end(self.translator.map());
        }
        self.report();
    }

    /// Where leases are kept, if they are.
    pub(crate) fn lease_directory(&self) -> Option<BorrowedFd<'_>> {
        self.books.leases.as_ref().and_then(Leases::directory)
    }

    /// How many packets have been translated so far.
    pub(crate) fn translated(&self) -> u64 {
        self.books.stats.translated()
    }

    /// Says what became of the packets so far.
    pub(crate) fn report(&self) {
        log_lines(self.books.stats.lines());
        let unwritten = self.device.unwritten.count;
        if unwritten != 0 {
            info!("The kernel did not take: {unwritten}");
        }
    }

    fn read_failed(&self, cause: io::Error) -> Error {
        match cause.raw_os_error().map(Errno::from_raw) {
            // What the kernel says of a descriptor whose device is gone, or is going.
            Some(Errno::EBADFD | Errno::EFAULT) => self.gone(),
            _ => Error::Tun {
                device: self.device.link.name.clone(),
                call: "read from",
                cause,
            },
        }
    }

    fn gone(&self) -> Error {
        Error::Gone {
            device: self.device.link.name.clone(),
        }
    }
}

/// Writes what waits for more of its flow. Nothing waits past the end of a wakeup.
fn write_waiting(coalescer: &mut Coalescer, device: &mut Device, now: Instant) {
    while let Some(waiting) = coalescer.take() {
        device.write(waiting, now);
    }
}

/// Writes the fragments of an outcome, and says whether the packet itself is to be written.
fn write_fragments(
    device: &mut Device,
    outcome: Outcome<'_>,
    fragment: &mut Packet,
    now: Instant,
) -> bool {
    match outcome {
        Outcome::Forward | Outcome::Reply(_) => true,
        Outcome::Fragments(mut fragments) => {
            while fragments.next(fragment) {
                device.write(fragment, now);
            }
            false
        }
        Outcome::Segments(_) | Outcome::Drop(_) => false,
    }
}

impl Books {
    /// Translates a packet, counts and logs what became of it, and enters what it did to the pool.
    fn translate<'p>(
        &mut self,
        translator: &mut Translator,
        packet: &'p mut Packet,
        now: Instant,
    ) -> Outcome<'p> {
        let octets = packet.bytes();
        let direction = Direction::of(octets);
        // It holds its translation afterwards.
        let summary = self.packet_log.as_ref().map(|_| Summary::of(octets));
        let outcome = translator.translate(packet, now);
        self.stats.count(direction, &outcome);
        if let (Some(log), Some(summary)) = (&mut self.packet_log, &summary)
            && let Some(line) = log.line(summary, &outcome, now)
        {
            info!("{line}");
        }
        if let Some((host, lent)) = translator.take_lent()
            && let Some(leases) = &mut self.leases
            && let Some(event) = leases.lent(host, lent, now)
        {
            log_lease(&mut self.packet_log, &event, now);
        }
        outcome
    }

    /// Counts a packet that cannot even be looked at.
    fn refused(&mut self, packet: &Packet, malformed: Malformed) {
        let direction = Direction::of(packet.bytes());
        let dropped = Outcome::Drop(DropReason::Malformed(malformed));
        self.stats.count(direction, &dropped);
    }

    /// Says once what to do about a refusal that surprises people. `packet` was refused.
    fn hint(&mut self, refused: Option<DropReason>, packet: &Packet) {
        if let Some(reason) = refused
            && let Some(hint) = self.hints.about(reason, packet.bytes())
        {
            warn!("{hint}");
        }
    }
}

/// Why a packet was not passed on, if it was not.
fn refused(outcome: &Outcome<'_>) -> Option<DropReason> {
    match outcome {
        Outcome::Drop(reason) | Outcome::Reply(Reply::Error(reason)) => Some(*reason),
        _ => None,
    }
}

fn log_lease(log: &mut Option<PacketLog>, event: &Event, now: Instant) {
    if let Some(log) = log
        && let Some(line) = log.lease_line(event.what, event.address, event.host, now)
    {
        info!("{line}");
    }
}

fn log_lines(lines: Vec<String>) {
    for line in lines {
        info!("{line}");
    }
}
