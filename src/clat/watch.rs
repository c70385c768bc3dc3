//! The watch on packets: whether any come back, which shows that the NAT64 answers.
//!
//! No timer is set. Packets that leave are what wakes the daemon, and what is looked at then: an
//! idle CLAT stays idle, and proves nothing.

use std::{net::Ipv6Addr, time::Duration};

use crate::addr::Nat64Prefix;

/// So many packets have to leave without an answer, with no longer pause between them, until that
/// says something. One program that tries to connect to a server that is down sends fewer.
const MIN_PACKETS: u64 = 10;
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The packets that were translated so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets to the NAT64.
    pub out: u64,
    /// Packets by which the NAT64 answers.
    pub back: u64,
}

/// The way of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    /// The index of the uplink.
    pub(super) link: u32,
    pub(super) prefix: Nat64Prefix,
    pub(super) source: Ipv6Addr,
}

/// What packets show about a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Packets come back.
    Answers,
    /// Packets leave, and none has come back for a while.
    Silent,
}

/// The watch on the way in use.
#[derive(Debug, Default)]
pub(super) struct Watch {
    way: Option<Watched>,
    /// How long no packet has to come back.
    patience: Duration,
    seen: Traffic,
    unanswered: Option<Unanswered>,
    /// What was found about the way last.
    found: Option<Finding>,
    /// Whether that has not been taken yet.
    is_news: bool,
}

/// The packets since the last answer.
#[derive(Clone, Copy, Debug)]
struct Unanswered {
    since: Duration,
    /// When the last one was seen to leave.
    last: Duration,
    /// The number of packets before the first one.
    before: u64,
}

impl Watch {
    /// Watches this way, if there is one, which is silent after `patience` without an answer.
    pub(super) fn follow(&mut self, way: Option<Watched>, patience: Duration) {
        if self.way != way {
            *self = Self {
                way,
                seen: self.seen,
                ..Self::default()
            };
        }
        self.patience = patience;
    }

    /// Begins anew: what was found does not count any more.
    pub(super) fn forget(&mut self) {
        self.follow(None, Duration::ZERO);
    }

    /// Takes notice of the packets so far.
    pub(super) fn passed(&mut self, traffic: Traffic, now: Duration) {
        let before = std::mem::replace(&mut self.seen, traffic);
        if traffic.back > before.back {
            self.unanswered = None;
            self.found(Finding::Answers);
        } else if traffic.out > before.out {
            let begins = Unanswered {
                since: now,
                last: now,
                before: before.out,
            };
            let unanswered = self.unanswered.filter(|one| now <= one.last + MAX_PAUSE);
            let unanswered = Unanswered {
                last: now,
                ..unanswered.unwrap_or(begins)
            };
            self.unanswered = Some(unanswered);
            if now >= unanswered.since + self.patience
                && traffic.out - unanswered.before >= MIN_PACKETS
            {
                self.found(Finding::Silent);
            }
        }
    }

    fn found(&mut self, finding: Finding) {
        if self.way.is_some() && self.found.replace(finding) != Some(finding) {
            self.is_news = true;
        }
    }

    /// Whether there is a finding that was not taken.
    pub(super) fn has_news(&self) -> bool {
        self.is_news
    }

    /// Takes a new finding about the way in use.
    pub(super) fn take_news(&mut self) -> Option<(Watched, Finding)> {
        std::mem::take(&mut self.is_news)
            .then_some(self.way.zip(self.found))
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn watch() -> (Watch, Watched) {
        let way = Watched {
            link: 2,
            prefix: Nat64Prefix::new("64:ff9b::/96".parse().unwrap()).unwrap(),
            source: "2001:db8::1".parse().unwrap(),
        };
        let mut watch = Watch::default();
        watch.follow(Some(way), PATIENCE);
        (watch, way)
    }

    /// Lets packets leave, so many in all, at a time in milliseconds. Returns what is found then.
    fn leaves(watch: &mut Watch, out: u64, at: u64) -> Option<Finding> {
        let back = watch.seen.back;
        watch.passed(Traffic { out, back }, Duration::from_millis(at));
        watch.take_news().map(|(_, finding)| finding)
    }

    /// To the millisecond, and said once; an answer ends it, and is said once, too.
    #[test]
    fn no_answer_for_ten_seconds_is_silence() {
        let (mut watch, way) = watch();
        for second in 0..10 {
            assert_eq!(leaves(&mut watch, second + 1, 1000 * second), None);
        }
        assert_eq!(leaves(&mut watch, 11, 9_999), None);
        assert_eq!(leaves(&mut watch, 12, 10_000), Some(Finding::Silent));
        assert_eq!(leaves(&mut watch, 13, 11_000), None);
        let answered = Traffic { out: 13, back: 1 };
        watch.passed(answered, Duration::from_secs(12));
        assert_eq!(watch.take_news(), Some((way, Finding::Answers)));
        watch.passed(Traffic { out: 13, back: 2 }, Duration::from_secs(13));
        assert_eq!(watch.take_news(), None);
        for second in 14..24 {
            assert_eq!(leaves(&mut watch, second, 1000 * second), None);
        }
        assert_eq!(leaves(&mut watch, 24, 24_000), Some(Finding::Silent));
    }

    /// Few packets, or with long pauses, may be for a server that is down, or need no answer.
    #[test]
    fn few_packets_prove_nothing() {
        let (mut watch, _) = watch();
        for (number, second) in [0, 1, 3, 7, 15].into_iter().enumerate() {
            assert_eq!(leaves(&mut watch, number as u64 + 1, 1000 * second), None);
        }
        for number in 10..100 {
            assert_eq!(leaves(&mut watch, number, 11_000 * number), None);
        }
        // A burst, and nothing after it.
        assert_eq!(leaves(&mut watch, 1000, 2_000_000), None);
        assert_eq!(leaves(&mut watch, 1001, 2_010_001), None);
        // The pause is one of packets, whatever else there is to do meanwhile.
        assert_eq!(leaves(&mut watch, 1001, 2_019_000), None);
        assert_eq!(leaves(&mut watch, 1101, 2_021_000), None);
    }

    /// Another way is judged by its own packets; without one nothing is.
    #[test]
    fn another_way_is_judged_anew() {
        let (mut watch, way) = watch();
        for second in 0..10 {
            leaves(&mut watch, second + 1, 1000 * second);
        }
        let link = 3;
        watch.follow(Some(Watched { link, ..way }), PATIENCE);
        for second in 10..=20 {
            assert_eq!(leaves(&mut watch, 10 + second / 4, 1000 * second), None);
        }
        watch.follow(None, PATIENCE);
        for second in 20..40 {
            assert_eq!(leaves(&mut watch, second, 1000 * second), None);
        }
        // The device, and its counts, are new.
        watch.follow(Some(way), PATIENCE);
        watch.passed(Traffic::default(), Duration::from_secs(40));
        assert_eq!(watch.take_news(), None);
    }
}
