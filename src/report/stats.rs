//! Counters of packets, by outcome and direction.

use std::fmt;

use crate::{
    addr::AddressMap,
    translate::{Direction, DropReason, Outcome, Reply},
    wire::{ipv6, protocol},
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

impl Stats {
    /// Counts a packet that came in, and what became of it. `None` if it is of neither family.
    pub fn count(&mut self, direction: Option<Direction>, outcome: &Outcome<'_>) {
        let counters = match direction {
            Some(Direction::FourToSix) => &mut self.four_to_six,
            Some(Direction::SixToFour) => &mut self.six_to_four,
            None => {
                self.other += 1;
                return;
            }
        };
        match outcome {
            Outcome::Forward => counters.translated += 1,
            Outcome::Fragments(_) => {
                counters.translated += 1;
                counters.fragmented += 1;
            }
            Outcome::Reply(Reply::Echo) => counters.echo_replies += 1,
            Outcome::Reply(Reply::Error(reason)) => {
                counters.icmp_errors += 1;
                counters.drop(*reason);
            }
            Outcome::Drop(reason) => counters.drop(*reason),
            Outcome::Segments(_) => {} // each segment is counted by itself
        }
    }

    /// Notes that a packet that was counted [is no answer](is_of_the_way).
    pub fn count_as_no_answer(&mut self, outcome: &Outcome<'_>) {
        if let Outcome::Forward = outcome {
            self.no_answers += 1;
        }
    }

    /// Packets of a direction that were translated.
    pub fn translated(&self, direction: Direction) -> u64 {
        match direction {
            Direction::FourToSix => self.four_to_six.translated,
            Direction::SixToFour => self.six_to_four.translated,
        }
    }

    /// Packets that show that a NAT64 answers.
    pub fn answers(&self) -> u64 {
        self.six_to_four.translated - self.no_answers
    }

    /// A line of totals for each direction, each followed by a line for each reason for which
    /// packets were dropped.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (direction, counters) in [
            ("IPv4 to IPv6", &self.four_to_six),
            ("IPv6 to IPv4", &self.six_to_four),
        ] {
            lines.push(format!("{direction}: {counters}"));
            for (reason, count) in DropReason::ALL.iter().zip(counters.dropped) {
                if count != 0 {
                    lines.push(format!("{direction}: {count} dropped: {reason}"));
                }
            }
        }
        if self.other != 0 {
            lines.push(format!(
                "{} dropped: neither IPv4 nor IPv6",
                packets(self.other)
            ));
        }
        lines
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
struct Counters {
    translated: u64,
    /// Packets among the translated that were fragmented.
    fragmented: u64,
    echo_replies: u64,
    /// Packets among the dropped whose senders got an ICMP error.
    icmp_errors: u64,
    /// In the order of [`DropReason::ALL`].
    dropped: [u64; DropReason::ALL.len()],
}

impl Counters {
    fn drop(&mut self, reason: DropReason) {
        // A search costs less than the system call that read the packet; only packets that go
        // nowhere pay for it.
        if let Some(index) = DropReason::ALL.iter().position(|&other| other == reason) {
            self.dropped[index] += 1;
        }
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            translated: 0,
            fragmented: 0,
            echo_replies: 0,
            icmp_errors: 0,
            dropped: [0; DropReason::ALL.len()],
        }
    }
}

impl fmt::Display for Counters {
    /// `7 packets translated (1 of them fragmented), 2 echo requests answered, 3 dropped (1 with an
    /// ICMP error)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} translated", packets(self.translated))?;
        if self.fragmented != 0 {
            write!(f, " ({} of them fragmented)", self.fragmented)?;
        }
        if self.echo_replies != 0 {
            write!(
                f,
                ", {} answered at the own address",
                packets(self.echo_replies)
            )?;
        }
        write!(f, ", {} dropped", self.dropped.iter().sum::<u64>())?;
        if self.icmp_errors != 0 {
            write!(f, " ({} of them with an ICMP error)", self.icmp_errors)?;
        }
        Ok(())
    }
}

/// `1 packet`, `2 packets`
fn packets(count: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| write!(f, "{count} packet{}", if count == 1 { "" } else { "s" }))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::addr::Nat64Prefix;

    const FIRST: DropReason = DropReason::ALL[0];
    const LAST: DropReason = DropReason::ALL[DropReason::ALL.len() - 1];

    #[test]
    fn no_packets_are_two_lines_of_zeros() {
        assert_eq!(
            Stats::default().lines(),
            [
                "IPv4 to IPv6: 0 packets translated, 0 dropped",
                "IPv6 to IPv4: 0 packets translated, 0 dropped",
            ]
        );
    }

    #[test]
    fn each_direction_has_its_totals_and_a_line_for_each_reason() {
        let mut stats = Stats::default();
        let (four, six) = (Some(Direction::FourToSix), Some(Direction::SixToFour));
        for (direction, outcome) in [
            (four, Outcome::Forward),
            (six, Outcome::Forward),
            (six, Outcome::Forward),
            (six, Outcome::Reply(Reply::Echo)),
            (six, Outcome::Reply(Reply::Error(LAST))),
            (six, Outcome::Drop(LAST)),
            (four, Outcome::Drop(FIRST)),
            (None, Outcome::Drop(FIRST)),
        ] {
            stats.count(direction, &outcome);
        }
        assert_eq!(
            stats.lines(),
            [
                "IPv4 to IPv6: 1 packet translated, 1 dropped".to_owned(),
                format!("IPv4 to IPv6: 1 dropped: {FIRST}"),
                "IPv6 to IPv4: 2 packets translated, 1 packet answered at the own address, \
                 2 dropped (1 of them with an ICMP error)"
                    .to_owned(),
                format!("IPv6 to IPv4: 2 dropped: {LAST}"),
                "1 packet dropped: neither IPv4 nor IPv6".to_owned(),
            ]
        );
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
            stats.count(Some(Direction::SixToFour), &outcome);
            stats.count_as_no_answer(&outcome);
        }
        assert_eq!(stats.answers(), 0);
        stats.count(Some(Direction::SixToFour), &Outcome::Forward);
        assert_eq!(stats.answers(), 1);
    }

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let mut stats = Stats::default();
        for &reason in DropReason::ALL {
            stats.count(Some(Direction::FourToSix), &Outcome::Drop(reason));
        }
        let lines = stats.lines();
        for reason in DropReason::ALL {
            let line = format!("IPv4 to IPv6: 1 dropped: {reason}");
            assert_eq!(lines.iter().filter(|&other| *other == line).count(), 1);
        }
    }
}
