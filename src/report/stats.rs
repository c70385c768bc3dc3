//! Counters of packets, by outcome and direction.

use std::time::Instant;

use crate::{
    addr::AddressMap,
    translate::{Direction, DropReason, Outcome, Packet, Reply},
    wire::{ipv4, ipv6, protocol},
};

/// Counts packets.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    four_to_six: Counters,
    six_to_four: Counters,
    /// Packets from IPv6 that were translated, but are [no answers](is_of_the_way).
    no_answers: u64,
    /// Packets of neither family.
    other: u64,
}

/// A packet as it came in, before its buffer holds another one.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    direction: Option<Direction>,
    /// Length in octets.
    len: usize,
    is_super: bool,
}

impl Received {
    /// What is counted of a packet that came in.
    pub fn of(packet: &Packet) -> Self {
        let octets = packet.bytes();
        Self {
            direction: Direction::of(octets),
            len: octets.len(),
            is_super: packet.is_super(),
        }
    }

    /// Its direction; `None` if it is of neither family.
    pub fn direction(&self) -> Option<Direction> {
        self.direction
    }
}

impl Stats {
    /// Counts a packet that came in, and what became of it.
    pub fn count(&mut self, received: &Received, outcome: &Outcome<'_>) {
        let Some(counters) = self.counters_mut(received.direction) else {
            self.other += 1;
            return;
        };
        match outcome {
            Outcome::Forward => counters.translate(received),
            Outcome::Fragments(_) => {
                counters.translate(received);
                counters.fragmented += 1;
            }
            Outcome::Reply(Reply::Echo) => counters.echo_replies += 1,
            Outcome::Reply(Reply::Error(reason)) => {
                counters.icmp_errors += 1;
                counters.drop(*reason);
            }
            Outcome::Drop(reason) => counters.drop(*reason),
            // Each segment is counted by itself, and what is handed over where it goes.
            Outcome::Segments(_) | Outcome::HandOver => {}
        }
    }

    /// Counts the fragments that were made of a packet.
    pub fn count_fragments(&mut self, received: &Received, fragments: u64) {
        if let Some(counters) = self.counters_mut(received.direction) {
            counters.fragments += fragments;
        }
    }

    /// Keeps the packet that was refused last for a reason. `left` is what its buffer holds now:
    /// the ICMP error that quotes it where it was `answered`, or else itself.
    pub fn keep_refused(
        &mut self,
        received: &Received,
        (reason, answered): (DropReason, bool),
        left: &[u8],
        now: Instant,
    ) {
        let packet = if answered { quoted(left) } else { Some(left) };
        if let Some(counters) = self.counters_mut(received.direction)
            && let (Some(index), Some(packet)) = (index(reason), packet)
        {
            counters.last[index] = Some(Refused::new(packet, received.len, now));
        }
    }

    fn counters_mut(&mut self, direction: Option<Direction>) -> Option<&mut Counters> {
        match direction? {
            Direction::FourToSix => Some(&mut self.four_to_six),
            Direction::SixToFour => Some(&mut self.six_to_four),
        }
    }

    /// The packets of a direction.
    pub fn counters(&self, direction: Direction) -> &Counters {
        match direction {
            Direction::FourToSix => &self.four_to_six,
            Direction::SixToFour => &self.six_to_four,
        }
    }

    /// Packets of neither family. All were dropped.
    pub fn other(&self) -> u64 {
        self.other
    }

    /// Notes that a packet that was counted [is no answer](is_of_the_way).
    pub fn count_as_no_answer(&mut self, outcome: &Outcome<'_>) {
        if let Outcome::Forward = outcome {
            self.no_answers += 1;
        }
    }

    /// Packets of a direction that were translated.
    pub fn translated(&self, direction: Direction) -> u64 {
        self.counters(direction).translated
    }

    /// Packets that show that a NAT64 answers.
    pub fn answers(&self) -> u64 {
        self.six_to_four.translated - self.no_answers
    }
}

/// Whether a packet comes from a router before the NAT64: that has no IPv4 address, and so all that
/// it can send to IPv4 is ICMPv6 errors. They are no answers of the NAT64.
pub fn is_of_the_way(packet: &[u8], map: &AddressMap) -> bool {
    Direction::of(packet) == Some(Direction::SixToFour)
        && packet.get(ipv6::NEXT_HEADER_AT) == Some(&protocol::ICMPV6)
        && packet
            .get(ipv6::SOURCE_AT..)
            .and_then(<[u8]>::first_chunk::<16>)
            .is_some_and(|source| map.to_v4((*source).into()).is_err())
}

/// The packets of one direction.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Packets that were translated. A super-packet is one.
    pub translated: u64,
    /// Their octets, as they came in.
    pub octets: u64,
    /// Super-packets among the translated.
    pub super_packets: u64,
    /// Packets among the translated that were fragmented.
    pub fragmented: u64,
    /// The fragments that were made of them.
    pub fragments: u64,
    /// Packets to the translator itself that it answered.
    pub echo_replies: u64,
    /// Packets among the dropped whose senders got an ICMP error.
    pub icmp_errors: u64,
    /// In the order of [`DropReason::ALL`].
    dropped: [u64; DropReason::ALL.len()],
    /// The last packet for each reason.
    last: Box<[Option<Refused>; DropReason::ALL.len()]>,
}

impl Counters {
    fn translate(&mut self, received: &Received) {
        self.translated += 1;
        self.octets += received.len as u64;
        self.super_packets += u64::from(received.is_super);
    }

    fn drop(&mut self, reason: DropReason) {
        // A search costs less than the system call that read the packet; only packets that go
        // nowhere pay for it.
        if let Some(index) = index(reason) {
            self.dropped[index] += 1;
        }
    }

    /// The reasons for which packets were dropped, each with their number and the last one.
    pub fn dropped(&self) -> impl Iterator<Item = (DropReason, u64, Option<&Refused>)> {
        let all = DropReason::ALL
            .iter()
            .zip(self.dropped)
            .zip(self.last.iter());
        all.filter(|((_, count), _)| *count != 0)
            .map(|((&reason, count), last)| (reason, count, last.as_ref()))
    }
}

fn index(reason: DropReason) -> Option<usize> {
    DropReason::ALL.iter().position(|&other| other == reason)
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            translated: 0,
            octets: 0,
            super_packets: 0,
            fragmented: 0,
            fragments: 0,
            echo_replies: 0,
            icmp_errors: 0,
            dropped: [0; DropReason::ALL.len()],
            last: Box::new([None; DropReason::ALL.len()]),
        }
    }
}

/// The beginning of a packet that was refused: all that is read of it is in its headers.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    octets: [u8; Self::MAX_LEN],
    kept: u8,
    /// Length of the packet, in octets.
    pub len: usize,
    /// When it came.
    pub at: Instant,
}

impl Refused {
    /// The maximum length of a beginning, in octets.
    pub const MAX_LEN: usize = 128;

    fn new(packet: &[u8], len: usize, at: Instant) -> Self {
        let kept = packet.len().min(Self::MAX_LEN);
        let mut octets = [0; Self::MAX_LEN];
        octets[..kept].copy_from_slice(&packet[..kept]);
        Self {
            octets,
            kept: kept as u8,
            len,
            at,
        }
    }

    /// The beginning of the packet.
    pub fn octets(&self) -> &[u8] {
        &self.octets[..self.kept.into()]
    }
}

/// The packet that an ICMP error of ours quotes: behind a header without options or extensions.
fn quoted(error: &[u8]) -> Option<&[u8]> {
    const ICMP_HEADER_LEN: usize = 8;
    let header_len = match Direction::of(error)? {
        Direction::FourToSix => ipv4::HEADER_LEN,
        Direction::SixToFour => ipv6::HEADER_LEN,
    };
    error.get(header_len + ICMP_HEADER_LEN..)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::net::Ipv6Addr;

    use super::*;
    use crate::addr::Nat64Prefix;

    const FIRST: DropReason = DropReason::ALL[0];
    const LAST: DropReason = DropReason::ALL[DropReason::ALL.len() - 1];

    const FOUR: Option<Direction> = Some(Direction::FourToSix);
    const SIX: Option<Direction> = Some(Direction::SixToFour);

    fn received(direction: Option<Direction>) -> Received {
        Received {
            direction,
            len: 100,
            is_super: false,
        }
    }

    /// What was translated is counted in octets, too, and super-packets and fragments are told
    /// apart.
    #[test]
    fn sizes_are_counted() {
        let mut stats = Stats::default();
        let super_packet = Received {
            len: 30_000,
            is_super: true,
            ..received(FOUR)
        };
        stats.count(&super_packet, &Outcome::Forward);
        stats.count(&received(FOUR), &Outcome::Forward);
        stats.count(&received(FOUR), &Outcome::Drop(FIRST));
        stats.count_fragments(&received(FOUR), 3);
        let counters = stats.counters(Direction::FourToSix);
        let counted = (
            counters.translated,
            counters.octets,
            counters.super_packets,
            counters.fragments,
        );
        assert_eq!(counted, (2, 30_100, 1, 3));
        assert_eq!(stats.counters(Direction::SixToFour).octets, 0);
    }

    /// The last packet that was refused, from the error that quotes it or from its own buffer.
    #[test]
    fn the_last_refused_packet_is_kept() {
        let mut stats = Stats::default();
        let now = Instant::now();
        let packet: Vec<u8> = (0..100).collect();
        let error = [&[0x45; 28][..], &packet[..60]].concat();
        for (left, answered) in [(&packet, false), (&error, true)] {
            stats.count(&received(FOUR), &Outcome::Drop(LAST));
            stats.keep_refused(&received(FOUR), (LAST, answered), left, now);
            let counters = stats.counters(Direction::FourToSix);
            let (reason, _, kept) = counters.dropped().next().unwrap();
            let kept = kept.unwrap();
            assert_eq!((reason, kept.len, kept.at), (LAST, 100, now));
            assert!(packet.starts_with(kept.octets()) && kept.octets().len() >= 60);
        }
    }

    /// An ICMPv6 error of a router that has no IPv4 address is no answer; what comes from behind
    /// the NAT64 is one, also an error, and what is dropped is none.
    #[test]
    fn errors_of_routers_on_the_way_are_no_answers() {
        let prefix = "64:ff9b::/96".parse().ok();
        let prefix = prefix.and_then(|prefix| Nat64Prefix::new(prefix).ok());
        let own = [192, 0, 0, 2].into();
        let map = AddressMap::new(own, Ipv6Addr::LOCALHOST, prefix, false);
        let packet = |source: Ipv6Addr, next_header| {
            let mut octets = [0; 48];
            (octets[0], octets[6]) = (0x60, next_header);
            octets[8..24].copy_from_slice(&source.octets());
            octets
        };
        let router = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        let behind = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0xc633, 0x6401);
        for (source, next_header, expected) in [
            (router, protocol::ICMPV6, true),
            (behind, protocol::ICMPV6, false),
            (behind, protocol::UDP, false),
        ] {
            assert_eq!(is_of_the_way(&packet(source, next_header), &map), expected);
        }
        assert!(!is_of_the_way(
            &packet(router, protocol::ICMPV6)[..20],
            &map
        ));
        let mut stats = Stats::default();
        for outcome in [Outcome::Forward, Outcome::Drop(FIRST)] {
            stats.count(&received(SIX), &outcome);
            stats.count_as_no_answer(&outcome);
        }
        assert_eq!(stats.answers(), 0);
        stats.count(&received(SIX), &Outcome::Forward);
        assert_eq!(stats.answers(), 1);
    }
}
