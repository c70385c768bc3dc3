//! What becomes of the packets of a capture, one after the other, as in a daemon that reads them.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    net::IpAddr,
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
    translate::{Packet, Translator},
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
                    missing => Cow::Owned([octets, &vec![0; missing]].concat()),
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
