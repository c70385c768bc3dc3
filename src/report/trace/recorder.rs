//! Records packets as they come and as they go, with what became of each.

use std::time::{Duration, Instant};

use super::{
    filter::Filter,
    pcapng::{Side, Writer},
    queue::Queue,
};
use crate::{
    pace::{Rate, TokenBucket},
    report::packet_log::Summary,
    translate::{Direction, DropReason, Outcome, Packet, Reply},
};

/// Packets that came, and are shown.
pub(super) const PACKETS: Rate = Rate::per_second(10_000);
/// Their octets, each counted twice: as it came and as it goes. 50 Mbit/s.
pub(super) const OCTETS: Rate = Rate::per_second(6_250_000);
/// Room for the blocks of a packet besides its octets: headers, comments, fragments.
const BLOCKS_LEN: usize = 4096;

/// Writes a trace.
///
/// It hears of a packet in this order: that it [`came`](Self::came); where a super-packet is cut in
/// software, each [`segment`](Self::segment); what was [`decided`](Self::decided) about either,
/// unless that is to forward it or to cut it; and what of it [`went`](Self::went) out. It copies
/// the packet first, since its buffer holds the translation afterwards.
pub struct Recorder {
    filter: Filter,
    queue: Queue,
    writer: Writer,
    /// The worker, if there are several.
    worker: Option<u32>,
    /// The number of packets in the file: readers number them so, unless other workers add theirs.
    frames: u64,
    /// Packets that were left out since the last one in the file.
    left_out: u64,
    packet_rate: Rate,
    octet_rate: Rate,
    packets: TokenBucket<Instant>,
    octets: TokenBucket<Instant>,
    /// The time of this turn, also since 1970.
    now: Instant,
    time: Duration,
    current: Current,
}

/// The packet that came last.
#[derive(Debug, Default)]
struct Current {
    /// As it came, unless there was no room for it.
    octets: Vec<u8>,
    has_room: bool,
    len: usize,
    direction: Option<Direction>,
    /// Number and size of segments, if it is a super-packet.
    segments: Option<(usize, u16)>,
    /// Whether it, or what was made of it, passes the filter.
    matches: bool,
    fate: Fate,
    /// The segment that is translated: its number and its octets; 0 if the packet is not cut.
    segment: usize,
    segment_octets: Vec<u8>,
    /// The fragment that went out last.
    fragment: usize,
    shown: Shown,
}

/// What is done with a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    Translated,
    Fragmented,
    Answered,
    Refused(DropReason),
    Dropped(DropReason),
}

/// Whether the packet as it came is in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shown {
    #[default]
    NotYet,
    As(u64),
    LeftOut,
}

impl Recorder {
    /// Begins the trace of a device.
    pub fn new(device: &str, filter: Filter, now: Instant) -> Self {
        Self::of_worker((1, 1), device, filter, now)
    }

    /// Begins the part of a worker, by its number and that of all. The blocks of all parts follow
    /// those at the head of the first one, in any order.
    pub fn of_worker(
        (worker, workers): (u32, u32),
        device: &str,
        filter: Filter,
        now: Instant,
    ) -> Self {
        let mut queue = Queue::default();
        let mut writer = Writer::new(device);
        let head = writer.take();
        if worker == 1 {
            queue.push(&head);
        }
        Self {
            filter,
            queue,
            writer,
            worker: (workers > 1).then_some(worker),
            frames: 0,
            left_out: 0,
            packet_rate: PACKETS.shared_by(workers),
            octet_rate: OCTETS.shared_by(workers),
            packets: TokenBucket::default(),
            octets: TokenBucket::default(),
            now,
            time: Duration::ZERO,
            current: Current::default(),
        }
    }

    /// Sets the time of what follows. `time` is since 1970.
    pub fn set_time(&mut self, now: Instant, time: Duration) {
        (self.now, self.time) = (now, time);
    }

    /// What waits for the client.
    pub fn queue(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// A packet has come.
    pub fn came(&mut self, packet: &Packet) {
        let octets = packet.bytes();
        let summary = Summary::of(octets);
        let direction = Direction::of(octets);
        let has_room = self.queue.room() >= 2 * octets.len() + BLOCKS_LEN
            && !self.packets.is_empty(self.packet_rate, self.now)
            && !self.octets.is_empty(self.octet_rate, self.now);
        let mut copy = std::mem::take(&mut self.current.octets);
        copy.clear();
        if has_room && self.filter.takes(direction) {
            copy.extend(octets);
        }
        self.current = Current {
            octets: copy,
            has_room,
            len: octets.len(),
            direction,
            segments: packet.segments(),
            matches: self.filter.matches(&summary),
            ..Current::default()
        };
    }

    /// The next segment of the packet is to be translated.
    pub fn segment(&mut self, segment: &Packet) {
        let current = &mut self.current;
        current.segment += 1;
        current.fragment = 0;
        current.fate = Fate::default();
        current.segment_octets.clear();
        current.segment_octets.extend(segment.bytes());
    }

    /// What was decided about the packet or its segment.
    pub fn decided(&mut self, outcome: &Outcome<'_>) {
        self.current.fate = match outcome {
            Outcome::Forward | Outcome::Segments(_) | Outcome::HandOver => Fate::Translated,
            Outcome::Fragments(_) => Fate::Fragmented,
            Outcome::Reply(Reply::Echo) => Fate::Answered,
            Outcome::Reply(Reply::Error(reason)) => Fate::Refused(*reason),
            Outcome::Drop(reason) => Fate::Dropped(*reason),
        };
        if let Outcome::Drop(_) = outcome
            && let Some(number) = self.show()
            && self.current.segment > 0
        {
            let comment = format!("{}{}", self.name(number), self.current.reason("; dropped"));
            let octets = std::mem::take(&mut self.current.segment_octets);
            self.write(Side::In, &octets, comment);
            self.current.segment_octets = octets;
        }
    }

    /// A packet goes out.
    pub fn went(&mut self, packet: &Packet) {
        let current = &mut self.current;
        current.fragment += 1;
        current.matches = current.matches || self.filter.matches(&Summary::of(packet.bytes()));
        if let Some(number) = self.show() {
            let comment = self.current.made(&self.name(number)) + &joined(packet.segments());
            self.write(Side::Out, packet.bytes(), comment);
        }
    }

    /// `packet 7`, or `segment 2 of packet 7`; and the worker.
    fn name(&self, number: u64) -> String {
        let packet = packet_name(number, self.worker);
        match self.current.segment {
            0 => packet,
            segment => format!("segment {segment} of {packet}"),
        }
    }

    /// Writes the packet as it came, if it is to be seen and was not written before. Returns its
    /// number in the file, if it is there.
    fn show(&mut self) -> Option<u64> {
        let current = &self.current;
        let is_dropped = matches!(current.fate, Fate::Refused(_) | Fate::Dropped(_));
        let is_to_be_seen = current.matches
            && self.filter.takes(current.direction)
            && (is_dropped || !self.filter.dropped);
        if is_to_be_seen && current.shown == Shown::NotYet {
            self.current.shown = self.write_current();
        }
        match self.current.shown {
            Shown::As(number) if is_to_be_seen => Some(number),
            _ => None,
        }
    }

    fn write_current(&mut self) -> Shown {
        let octets = u32::try_from(2 * self.current.len).unwrap_or(u32::MAX);
        if !self.current.has_room
            || self.packets.take(self.packet_rate, self.now).is_err()
            || self
                .octets
                .take_many(octets, self.octet_rate, self.now)
                .is_err()
        {
            self.left_out += 1;
            return Shown::LeftOut;
        }
        let number = self.frames + 1;
        let comment = self.current.came(&packet_name(number, self.worker));
        let octets = std::mem::take(&mut self.current.octets);
        let is_written = self.write(Side::In, &octets, comment);
        self.current.octets = octets;
        if is_written {
            Shown::As(number)
        } else {
            Shown::LeftOut
        }
    }

    /// Writes a packet to the file, if there is room.
    fn write(&mut self, side: Side, octets: &[u8], mut comment: String) -> bool {
        match self.left_out {
            0 => {}
            1 => comment += "; 1 packet was left out before this one",
            count => comment += &format!("; {count} packets were left out before this one"),
        }
        let (time, left_out) = (self.time, self.left_out);
        self.writer.packet(side, time, octets, &comment, left_out);
        let is_written = self.queue.push(&self.writer.take());
        if is_written {
            self.frames += 1;
            self.left_out = 0;
        } else {
            self.left_out += 1;
        }
        is_written
    }
}

impl Current {
    /// The comment on the packet as it came.
    fn came(&self, packet: &str) -> String {
        let segments = joined(self.segments);
        let fate = match self.segment {
            0 => self.reason("; dropped"),
            _ => "; cut into its segments".to_owned(),
        };
        format!("{packet}{segments}{fate}")
    }

    /// The comment on what goes out.
    fn made(&self, name: &str) -> String {
        match self.fate {
            Fate::Translated => format!("translation of {name}"),
            Fate::Fragmented => format!("fragment {} of {name}", self.fragment),
            Fate::Answered => format!("echo reply to {name}"),
            Fate::Refused(_) | Fate::Dropped(_) => {
                format!("ICMP error about {name}{}", self.reason(""))
            }
        }
    }

    /// Why it was dropped, if it was, with a word before.
    fn reason(&self, before: &str) -> String {
        match self.fate {
            Fate::Refused(reason) | Fate::Dropped(reason) => {
                let rule = reason.rule(self.direction);
                format!("{before}: {reason} ({rule})")
            }
            Fate::Translated | Fate::Fragmented | Fate::Answered => String::new(),
        }
    }
}

/// `packet 7`, or `packet 7 of worker 2`.
fn packet_name(number: u64, worker: Option<u32>) -> String {
    match worker {
        None => format!("packet {number}"),
        Some(worker) => format!("packet {number} of worker {worker}"),
    }
}

/// What a comment says of a super-packet.
fn joined(segments: Option<(usize, u16)>) -> String {
    segments.map_or_else(String::new, |(count, size)| {
        format!("; super-packet of {count} segments of {size} octets")
    })
}
