//! Stepping aside for native IPv4: the overlap, in which open flows go on through the CLAT.

use std::time::Duration;

/// The overlap ends when no packet was translated for so long, and at the latest after so long.
pub(super) const QUIET: Duration = Duration::from_secs(120);
pub(super) const MAX_OVERLAP: Duration = Duration::from_secs(900);

/// Native IPv4, and how far the CLAT has stepped aside for it.
#[derive(Debug, Default)]
pub(super) enum Native {
    /// There is none, or the CLAT is not to step aside for it.
    #[default]
    Absent,
    /// An interface has it, and has to keep it for `v4-conncheck-delay` first.
    Settling { interface: String, since: Duration },
    /// It has stayed: programs use it, and what they have open goes on through the CLAT.
    Aside {
        interface: String,
        since: Duration,
        /// Number of packets translated when it last changed, and when that was.
        packets: u64,
        quiet_since: Duration,
    },
}

impl Native {
    /// Takes notice of the interface that has native IPv4 now, if one has.
    pub(super) fn is_on(&mut self, found: Option<&str>, now: Duration) {
        match (&mut *self, found) {
            (_, None) => *self = Self::Absent,
            (Self::Absent, Some(found)) => {
                *self = Self::Settling {
                    interface: found.to_owned(),
                    since: now,
                };
            }
            (Self::Settling { interface, .. } | Self::Aside { interface, .. }, Some(found)) => {
                found.clone_into(interface);
            }
        }
    }

    /// Steps aside for native IPv4 that has stayed for `delay`, or sees whether flows go on:
    /// `translated` is the number of packets so far, `None` while nothing is set up.
    pub(super) fn go_on(&mut self, delay: Duration, translated: Option<u64>, now: Duration) {
        match (&mut *self, translated) {
            (Self::Settling { interface, since }, _) if now >= *since + delay => {
                *self = Self::Aside {
                    interface: std::mem::take(interface),
                    since: now,
                    packets: translated.unwrap_or(0),
                    quiet_since: now,
                };
            }
            (
                Self::Aside {
                    packets,
                    quiet_since,
                    ..
                },
                Some(translated),
            ) if *packets != translated => (*packets, *quiet_since) = (translated, now),
            _ => {}
        }
    }

    /// The interface that the CLAT steps aside for.
    pub(super) fn aside_for(&self) -> Option<&str> {
        match self {
            Self::Aside { interface, .. } => Some(interface),
            Self::Absent | Self::Settling { .. } => None,
        }
    }

    /// The end of the overlap, as it looks now.
    pub(super) fn end(&self) -> Option<Duration> {
        match self {
            Self::Aside {
                since, quiet_since, ..
            } => Some((*quiet_since + QUIET).min(*since + MAX_OVERLAP)),
            Self::Absent | Self::Settling { .. } => None,
        }
    }

    /// When the CLAT steps aside, if native IPv4 stays.
    pub(super) fn settled_at(&self, delay: Duration) -> Option<Duration> {
        match self {
            Self::Settling { since, .. } => Some(*since + delay),
            Self::Absent | Self::Aside { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(10);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Another interface does not begin it anew; its end does.
    #[test]
    fn native_ipv4_settles_before_the_clat_steps_aside() {
        let mut native = Native::default();
        native.is_on(Some("eth0"), seconds(100));
        assert_eq!(native.settled_at(DELAY), Some(seconds(110)));
        native.go_on(DELAY, Some(0), seconds(109));
        assert_eq!(native.aside_for(), None);
        native.is_on(Some("wlan0"), seconds(109));
        native.go_on(DELAY, Some(0), seconds(110));
        assert_eq!(native.aside_for(), Some("wlan0"));
        assert_eq!(native.settled_at(DELAY), None);
        native.is_on(None, seconds(111));
        native.is_on(Some("eth0"), seconds(112));
        assert_eq!(native.settled_at(DELAY), Some(seconds(122)));
    }

    /// Packets put the end off, but not for ever; while nothing is set up none count.
    #[test]
    fn the_overlap_ends_when_no_packet_is_translated() {
        let mut native = Native::default();
        native.is_on(Some("eth0"), seconds(100));
        native.go_on(Duration::ZERO, Some(7), seconds(100));
        assert_eq!(native.end(), Some(seconds(100) + QUIET));
        native.go_on(DELAY, Some(7), seconds(150));
        assert_eq!(native.end(), Some(seconds(100) + QUIET));
        native.go_on(DELAY, Some(8), seconds(150));
        assert_eq!(native.end(), Some(seconds(150) + QUIET));
        native.go_on(DELAY, None, seconds(160));
        assert_eq!(native.end(), Some(seconds(150) + QUIET));
        native.go_on(DELAY, Some(9), seconds(990));
        assert_eq!(native.end(), Some(seconds(100) + MAX_OVERLAP));
    }
}
