//! What becomes of the packets of a capture, one after the other, as in a daemon that reads them.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    net::IpAddr,
    ops::Range,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    capture::{Capture, Captured},
    fate::{Fate, Verdict},
    frame::Frame,
};
use crate::{
    report::packet_log::Summary,
    translate::{Direction, Packet, Translator},
    wire::{
        FragmentPlace,
        checksum::Sum,
        icmp,
        ipv4::Ipv4Packet,
        ipv6::{self, Ipv6Packet},
        protocol,
    },
};

/// Has the packets of a capture translated.
#[derive(Debug)]
pub struct Reading {
    translator: Translator,
    buffer: Packet,
    /// The time of the first packet, here and in the capture.
    start: Option<(Instant, Duration)>,
    counts: Counts,
}

/// A frame of a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its number, from 1.
    pub number: u64,
    /// What is in it.
    #[serde(flatten)]
    pub seen: Seen,
}

/// What is in a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Seen {
    /// A packet.
    Packet {
        /// The number of its octets that were not captured, and count as zeros here.
        #[serde(skip_serializing_if = "is_zero")]
        not_captured: usize,
        /// What becomes of it.
        #[serde(flatten)]
        fate: Box<Fate>,
    },
    /// No IP packet, or none that can be found.
    Other {
        /// What it is, in words.
        not_read: String,
    },
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What has become of the packets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames.
    pub frames: u64,
    /// Packets that were translated.
    pub translated: u64,
    /// Echo requests that were answered.
    pub answered: u64,
    /// Packets that were dropped, their senders told or not.
    pub dropped: u64,
}

impl Reading {
    /// By a translator as it starts.
    pub fn new(translator: Translator) -> Self {
        Self {
            translator,
            buffer: Packet::new(),
            start: None,
            counts: Counts::default(),
        }
    }

    /// What becomes of the next frame. `now` is the time when the first one is asked for; the
    /// others follow by the clock of the capture, for the rate limits.
    pub fn next(&mut self, captured: &Captured<'_>, now: Instant) -> Entry {
        let (start, first) = *self.start.get_or_insert((now, captured.time));
        let since = captured.time.saturating_sub(first);
        let now = start.checked_add(since).unwrap_or(start);
        self.counts.frames += 1;
        let seen = match Frame::read(captured.link, captured.octets) {
            Frame::Packet { octets, at } => {
                let missing = missing(captured, at, octets);
                let padded = match missing {
                    0 => Cow::Borrowed(octets),
                    missing => Cow::Owned(padded(octets, missing)),
                };
                let fate = Fate::of(&mut self.translator, &mut self.buffer, &padded, now);
                self.count(fate.verdict);
                Seen::Packet {
                    not_captured: missing,
                    fate: Box::new(fate),
                }
            }
            Frame::NoPacket => Seen::Other {
                not_read: "no IP packet".to_owned(),
            },
            Frame::UnknownLink => Seen::Other {
                not_read: format!("link type {}, which is not known here", captured.link),
            },
        };
        let number = self.counts.frames;
        Entry { number, seen }
    }

    fn count(&mut self, verdict: Verdict) {
        let count = match verdict {
            Verdict::Translated | Verdict::Fragmented => &mut self.counts.translated,
            Verdict::EchoAnswered => &mut self.counts.answered,
            Verdict::Rejected | Verdict::Dropped => &mut self.counts.dropped,
        };
        *count += 1;
    }

    /// What has become of all frames so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// The addresses of the packets of a capture, as far as it can be read.
pub fn addresses_in(capture: Capture<'_>) -> BTreeSet<IpAddr> {
    let mut addresses = BTreeSet::new();
    for captured in capture.flatten() {
        if let Frame::Packet { octets, .. } = Frame::read(captured.link, captured.octets)
            && let Some((source, destination)) = Summary::of(octets).addresses()
        {
            addresses.extend([source, destination]);
        }
    }
    addresses
}

/// Octets of a packet that were on the wire, and not kept. `at` is where it starts in its frame.
fn missing(captured: &Captured<'_>, at: usize, octets: &[u8]) -> usize {
    if captured.len <= captured.octets.len() {
        return 0;
    }
    let len = (captured.len - at).min(Packet::MAX_LEN);
    len.saturating_sub(octets.len())
}

/// A packet with zeros for what was not captured. The checksum of an ICMP message is made right for
/// them: that of what was captured cannot be verified, and is taken to have been right.
fn padded(octets: &[u8], missing: usize) -> Vec<u8> {
    let mut padded = [octets, &vec![0; missing]].concat();
    if let Some((message, pseudo)) = icmp_message(&padded) {
        icmp::put_checksum(&mut padded[message], pseudo);
    }
    padded
}

/// The place of the ICMP message of a packet, if it has a whole one, and the sum of its
/// pseudo-header.
fn icmp_message(octets: &[u8]) -> Option<(Range<usize>, Sum)> {
    let (is_icmp, message, pseudo) = match Direction::of(octets)? {
        Direction::FourToSix => {
            let packet = Ipv4Packet::parse(octets).ok()?;
            let is_whole = packet.fragment() == FragmentPlace::WHOLE;
            let start = packet.header_len();
            (
                is_whole && packet.protocol() == protocol::ICMPV4,
                start..start + packet.payload().len(),
                Sum::default(),
            )
        }
        Direction::SixToFour => {
            let packet = Ipv6Packet::parse(octets).ok()?;
            let upper = packet.upper_layer().ok()?;
            let message = upper.offset..ipv6::HEADER_LEN + packet.payload().len();
            let (source, destination) = (packet.source(), packet.destination());
            (
                upper.fragment.is_none() && upper.protocol == protocol::ICMPV6,
                message.clone(),
                Sum::pseudo_v6(source, destination, protocol::ICMPV6, message.len()),
            )
        }
    };
    (is_icmp && message.len() >= icmp::HEADER_LEN).then_some((message, pseudo))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::{
        addr::AddressMap,
        report::explain::probe::{Echo, Ends},
        translate::{IcmpErrors, Settings},
    };

    /// A translator that maps its own addresses only, and may send one ICMP error a second.
    fn reading() -> Reading {
        let own_v6 = "2001:db8::1".parse().unwrap();
        let map = AddressMap::new([192, 0, 2, 1].into(), own_v6, None, true);
        let settings = Settings {
            icmp_errors: IcmpErrors::PerSecond(1),
            ..Settings::default()
        };
        Reading::new(Translator::new(settings, map, 0))
    }

    fn request() -> Vec<u8> {
        let ends = Ends::V4([198, 51, 100, 1].into(), [203, 0, 113, 1].into());
        ends.echo(Echo::Request)
    }

    fn captured(octets: &[u8], len: usize, seconds: u64) -> Captured<'_> {
        Captured {
            link: 101,
            time: Duration::from_secs(seconds),
            len,
            octets,
        }
    }

    /// What a snapshot length has cut off counts as zeros, so that the packet is not malformed.
    #[test]
    fn octets_that_were_not_captured_are_zeros() {
        let request = request();
        let entry = reading().next(&captured(&request[..28], request.len(), 0), Instant::now());
        let Seen::Packet { not_captured, fate } = entry.seen else {
            panic!("{entry:?}");
        };
        assert_eq!(not_captured, 8);
        assert_eq!(fate.received, Summary::of(&request));
        assert_eq!(fate.why.unwrap().reason.key(), "no_destination");
    }

    /// RFC 7915 sections 4.2 and 5.2 drop ICMP errors with a wrong checksum: what was cut off of
    /// one does not make it wrong.
    #[test]
    fn the_checksum_of_what_was_captured_in_part_is_taken_to_be_right() {
        let (host4, host6) = ([203, 0, 113, 1].into(), "2001:db8::7".parse().unwrap());
        let error4 = {
            let quoted = Ends::V4(host4, [192, 0, 2, 1].into()).echo(Echo::Request);
            let mut message = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
            icmp::put_checksum(&mut message, Sum::default());
            let ends = Ends::V4([198, 51, 100, 1].into(), host4);
            let mut packet = [&ends.echo(Echo::Request)[..20], &message].concat();
            crate::wire::ipv4::put_len(&mut packet, 0);
            packet
        };
        let error6 = {
            let own = "2001:db8::1".parse().unwrap();
            let quoted = Ends::V6(host6, own).echo(Echo::Request);
            let mut message = [&[1, 0, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
            let pseudo = Sum::pseudo_v6(own, host6, protocol::ICMPV6, message.len());
            icmp::put_checksum(&mut message, pseudo);
            let mut packet = [&Ends::V6(own, host6).echo(Echo::Request)[..40], &message].concat();
            crate::wire::ipv6::put_len(&mut packet);
            packet
        };
        for packet in [error4, error6] {
            let at = icmp_message(&packet).unwrap().0.start;
            for kept in [packet.len() - 1, packet.len() - 9] {
                let padded = padded(&packet[..kept], packet.len() - kept);
                let (_, pseudo) = icmp_message(&padded).unwrap();
                assert!((Sum::of(&padded[at..]) + pseudo).verifies(), "{padded:?}");
                let all_but_checksum = [&padded[..at + 2], &padded[at + 4..kept]].concat();
                assert_eq!(
                    all_but_checksum,
                    [&packet[..at + 2], &packet[at + 4..kept]].concat()
                );
            }
        }
    }

    /// Rate limits go by the clock of the capture.
    #[test]
    fn time_is_that_of_the_capture() {
        let (mut reading, request, now) = (reading(), request(), Instant::now());
        let verdicts = [7, 7, 9, 8].map(|seconds| {
            let frame = captured(&request, request.len(), seconds);
            match reading.next(&frame, now).seen {
                Seen::Packet { fate, .. } => fate.verdict,
                Seen::Other { not_read } => panic!("{not_read}"),
            }
        });
        use Verdict::{Dropped, Rejected};
        assert_eq!(verdicts, [Rejected, Dropped, Rejected, Dropped]);
        assert_eq!(reading.counts().dropped, 4);
    }
}
