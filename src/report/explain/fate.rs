//! What becomes of a packet.

use std::{net::IpAddr, time::Instant};

use serde::Serialize;

use crate::{
    report::packet_log::Summary,
    translate::{Direction, DropReason, Outcome, Packet, Reply, Rule, Translator},
    wire::Malformed,
};

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// The packet as it came.
    pub received: Summary,
    /// What is done with it.
    pub verdict: Verdict,
    /// Why it goes no further, if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// What is sent: its translation, the fragments of that, or the answer to its sender.
    pub sent: Vec<Summary>,
    /// Whether its source gets an address of the pool by it. In a daemon this may be another one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lends: bool,
}

/// What is done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is translated.
    Translated,
    /// It is translated, and cut into fragments.
    Fragmented,
    /// It is an echo request to the translator itself, which answers.
    EchoAnswered,
    /// It is dropped, and its sender is told by an ICMP error.
    Rejected,
    /// It is dropped.
    Dropped,
}

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The reason; written as its [key](DropReason::key).
    #[serde(serialize_with = "key")]
    pub reason: DropReason,
    /// Where it is written.
    #[serde(flatten)]
    pub rule: Rule,
}

fn key<S: serde::Serializer>(reason: &DropReason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.key())
}

impl Fate {
    /// Has a packet translated, in `buffer`. Octets that no packet can have are left out.
    pub(super) fn of(
        translator: &mut Translator,
        buffer: &mut Packet,
        octets: &[u8],
        now: Instant,
    ) -> Self {
        let octets = &octets[..octets.len().min(Packet::MAX_LEN)];
        let received = Summary::of(octets);
        let direction = Direction::of(octets);
        buffer.replace(octets);
        let (verdict, reason, mut sent) = match translator.translate(buffer, now) {
            Outcome::Forward => (Verdict::Translated, None, Vec::new()),
            Outcome::Fragments(mut fragments) => {
                let (mut sent, mut fragment) = (Vec::new(), Packet::new());
                while fragments.next(&mut fragment) {
                    sent.push(Summary::of(fragment.bytes()));
                }
                (Verdict::Fragmented, None, sent)
            }
            Outcome::Reply(Reply::Echo) => (Verdict::EchoAnswered, None, Vec::new()),
            Outcome::Reply(Reply::Error(reason)) => (Verdict::Rejected, Some(reason), Vec::new()),
            Outcome::Drop(reason) => (Verdict::Dropped, Some(reason), Vec::new()),
            // Only of a super-packet, which the buffer does not hold: nothing of it is offloaded;
            // and only of a translator that borrows.
            Outcome::Segments(_) | Outcome::HandOver => {
                let reason = DropReason::Malformed(Malformed::Offload);
                (Verdict::Dropped, Some(reason), Vec::new())
            }
        };
        if sent.is_empty() && verdict != Verdict::Dropped {
            sent.push(Summary::of(buffer.bytes()));
        }
        let why = reason.map(|reason| Why {
            reason,
            rule: reason.rule(direction),
        });
        Self {
            received,
            verdict,
            why,
            sent,
            lends: matches!(translator.take_lent(), Some((_, Ok(_)))),
        }
    }

    /// Source and destination of the translation, if there is one.
    pub fn translation(&self) -> Option<(IpAddr, IpAddr)> {
        match self.verdict {
            Verdict::Translated | Verdict::Fragmented => self.sent.first()?.addresses(),
            Verdict::EchoAnswered | Verdict::Rejected | Verdict::Dropped => None,
        }
    }

    /// Whether it comes back to its own family: its destination is a host with an explicit mapping
    /// that was addressed by the prefix (RFC 7757 section 4).
    pub fn is_hairpinned(&self) -> bool {
        let before = self.received.addresses();
        let (Some((before, _)), Some((after, _))) = (before, self.translation()) else {
            return false;
        };
        before.is_ipv6() == after.is_ipv6()
    }
}
