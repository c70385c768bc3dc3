//! Packets as data: of counters, in lines, and those of several workers together.

use std::{fmt, time::Instant};

use super::{Dropped, LastPacket, Packets, Traffic};
use crate::{
    report::{packet_log::Summary, stats::Stats},
    translate::{Direction, DropReason},
    wire::Malformed,
};

impl Packets {
    /// The packets that were counted until `now`; `joined` of each direction to one before.
    pub fn new(stats: &Stats, joined: impl Fn(Direction) -> u64, now: Instant) -> Self {
        let traffic = |direction| Traffic::new(stats, direction, joined(direction), now);
        Self {
            four_to_six: traffic(Direction::FourToSix),
            six_to_four: traffic(Direction::SixToFour),
            neither: stats.other(),
            ..Self::default()
        }
    }

    /// Adds the packets of another worker.
    pub fn add(&mut self, other: &Self) {
        self.four_to_six.add(&other.four_to_six);
        self.six_to_four.add(&other.six_to_four);
        add(&mut self.neither, other.neither);
        add(&mut self.suppressed_messages, other.suppressed_messages);
        add(&mut self.suppressed_lines, other.suppressed_lines);
        add(&mut self.rejected, other.rejected);
    }

    /// A line of totals for each direction, each followed by a line for each reason for which
    /// packets were dropped.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (direction, traffic) in [
            (Direction::FourToSix, &self.four_to_six),
            (Direction::SixToFour, &self.six_to_four),
        ] {
            lines.push(format!("{direction}: {traffic}"));
            for Dropped {
                text, rule, count, ..
            } in &traffic.dropped
            {
                lines.push(format!("{direction}: {count} dropped: {text} ({rule})"));
            }
        }
        if self.neither != 0 {
            let reason = DropReason::Malformed(Malformed::Version);
            let (count, rule) = (packets(self.neither), reason.rule(None));
            lines.push(format!("{count} dropped: {reason} ({rule})"));
        }
        lines
    }
}

impl Traffic {
    /// The packets of a direction at the time `now`; `joined` of them to one before.
    fn new(stats: &Stats, direction: Direction, joined: u64, now: Instant) -> Self {
        let counters = stats.counters(direction);
        let dropped = counters.dropped().map(|(reason, count, last)| Dropped {
            reason: reason.key().to_owned(),
            text: reason.to_string(),
            rule: reason.rule(Some(direction)).to_string(),
            count,
            last: last.map(|last| LastPacket {
                packet: Summary::of_beginning(last.octets(), last.len).to_string(),
                age_seconds: now.saturating_duration_since(last.at).as_secs(),
            }),
        });
        Self {
            packets: counters.translated,
            octets: counters.octets,
            super_packets: counters.super_packets,
            joined,
            fragmented: counters.fragmented,
            fragments: counters.fragments,
            answered: counters.echo_replies,
            icmp_errors: counters.icmp_errors,
            dropped: dropped.collect(),
        }
    }

    /// Adds the packets of another worker. Of two last packets, the later one is kept.
    fn add(&mut self, other: &Self) {
        add(&mut self.packets, other.packets);
        add(&mut self.octets, other.octets);
        add(&mut self.super_packets, other.super_packets);
        add(&mut self.joined, other.joined);
        add(&mut self.fragmented, other.fragmented);
        add(&mut self.fragments, other.fragments);
        add(&mut self.answered, other.answered);
        add(&mut self.icmp_errors, other.icmp_errors);
        for dropped in &other.dropped {
            let same = |one: &&mut Dropped| one.reason == dropped.reason;
            match self.dropped.iter_mut().find(same) {
                Some(one) => {
                    add(&mut one.count, dropped.count);
                    let last = [one.last.take(), dropped.last.clone()];
                    one.last = last.into_iter().flatten().min_by_key(|one| one.age_seconds);
                }
                None => self.dropped.push(dropped.clone()),
            }
        }
        let place = |dropped: &Dropped| {
            let mut all = DropReason::ALL.iter();
            all.position(|reason| reason.key() == dropped.reason)
        };
        self.dropped.sort_by_key(place);
    }
}

/// Adds to a figure; what other workers say need not be sane.
fn add(figure: &mut u64, more: u64) {
    *figure = figure.saturating_add(more);
}

impl fmt::Display for Traffic {
    /// `7 packets translated (1 of them fragmented), 2 echo requests answered, 3 dropped (1 with an
    /// ICMP error)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} translated", packets(self.packets))?;
        if self.fragmented != 0 {
            write!(f, " ({} of them fragmented)", self.fragmented)?;
        }
        if self.answered != 0 {
            write!(
                f,
                ", {} answered at the own address",
                packets(self.answered)
            )?;
        }
        let dropped = self.dropped.iter().map(|dropped| dropped.count);
        write!(f, ", {} dropped", dropped.fold(0, u64::saturating_add))?;
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
    use super::*;
    use crate::{
        report::stats::Received,
        translate::{Outcome, Packet, Reply},
    };

    const FIRST: DropReason = DropReason::ALL[0];
    const LAST: DropReason = DropReason::ALL[DropReason::ALL.len() - 1];

    /// A packet of this version, of 100 octets.
    fn received(version: u8) -> Received {
        let mut packet = Packet::new();
        packet.replace(&[version << 4; 100]);
        Received::of(&packet)
    }

    fn of(stats: &Stats) -> Packets {
        Packets::new(stats, |_| 0, Instant::now())
    }

    #[test]
    fn no_packets_are_two_lines_of_zeros() {
        assert_eq!(
            of(&Stats::default()).lines(),
            [
                "IPv4 to IPv6: 0 packets translated, 0 dropped",
                "IPv6 to IPv4: 0 packets translated, 0 dropped",
            ]
        );
    }

    #[test]
    fn each_direction_has_its_totals_and_a_line_for_each_reason() {
        let mut stats = Stats::default();
        let [four, six, other] = [4, 6, 5].map(received);
        for (direction, outcome) in [
            (four, Outcome::Forward),
            (six, Outcome::Forward),
            (six, Outcome::Forward),
            (six, Outcome::Reply(Reply::Echo)),
            (six, Outcome::Reply(Reply::Error(LAST))),
            (six, Outcome::Drop(LAST)),
            (four, Outcome::Drop(FIRST)),
            (other, Outcome::Drop(FIRST)),
        ] {
            stats.count(&direction, &outcome);
        }
        assert_eq!(
            of(&stats).lines(),
            [
                "IPv4 to IPv6: 1 packet translated, 1 dropped".to_owned(),
                format!("IPv4 to IPv6: 1 dropped: {FIRST} (RFC 1812 section 5.2.2)"),
                "IPv6 to IPv4: 2 packets translated, 1 packet answered at the own address, \
                 2 dropped (1 of them with an ICMP error)"
                    .to_owned(),
                format!("IPv6 to IPv4: 2 dropped: {LAST} (RFC 4861 section 7.2.2)"),
                "1 packet dropped: neither IPv4 nor IPv6 (RFC 1812 section 5.2.2)".to_owned(),
            ]
        );
    }

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let mut stats = Stats::default();
        for &reason in DropReason::ALL {
            stats.count(&received(4), &Outcome::Drop(reason));
        }
        let lines = of(&stats).lines();
        for reason in DropReason::ALL {
            let rule = reason.rule(Some(Direction::FourToSix));
            let line = format!("IPv4 to IPv6: 1 dropped: {reason} ({rule})");
            assert_eq!(lines.iter().filter(|&other| *other == line).count(), 1);
        }
    }

    /// What several workers have counted is what one of them had counted alone.
    #[test]
    fn the_sum_of_workers_is_that_of_one() {
        let mut one = Stats::default();
        let mut workers = [Stats::default(), Stats::default(), Stats::default()];
        let outcomes = || {
            let reasons = DropReason::ALL.iter().map(|&reason| Outcome::Drop(reason));
            let answered = Outcome::Reply(Reply::Error(FIRST));
            reasons.chain([Outcome::Forward, Outcome::Reply(Reply::Echo), answered])
        };
        for (number, outcome) in outcomes().chain(outcomes()).chain(outcomes()).enumerate() {
            let packet = received([4, 6, 5, 6][number % 4]);
            one.count(&packet, &outcome);
            workers[number * 7 % 5 % 3].count(&packet, &outcome);
        }
        let mut sum = of(&workers[0]);
        sum.add(&of(&workers[1]));
        sum.add(&of(&workers[2]));
        assert_eq!(sum, of(&one));
        sum.add(&sum.clone());
        assert_eq!(sum.neither, 2 * one.other());
        assert_eq!(
            sum.six_to_four.octets,
            2 * one.counters(Direction::SixToFour).octets
        );
    }
}
