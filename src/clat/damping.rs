//! The damping of changes: a limit on how often a CLAT may change its mind.

use std::time::Duration;

use crate::pace::{Rate, TokenBucket};

/// 20 changes may follow each other at once, and then one in 5 s. Routers that contradict each
/// other, by mistake or not, flap neither the routes nor the log faster.
const CHANGES: Rate = Rate::new(20, Duration::from_secs(100));

/// A change that is damped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// IPv4 is back. The last change that is left is kept for it.
    Restore,
    /// Any other one.
    Other,
}

/// The changes that may still be made.
#[derive(Debug, Default)]
pub(super) struct Damping {
    left: TokenBucket<Duration>,
    /// When to try again a change that was not allowed in this turn.
    retry: Option<Duration>,
}

impl Damping {
    /// Begins a turn, in which all that waited is decided anew.
    pub(super) fn begin_turn(&mut self) {
        self.retry = None;
    }

    /// Takes one of the changes that are left, if one is; otherwise it waits for the deadline.
    pub(super) fn allows(&mut self, change: Change, now: Duration) -> bool {
        let reserve = u32::from(change != Change::Restore);
        match self.left.take_above(reserve, CHANGES, now) {
            Ok(()) => true,
            Err(next) => {
                self.retry = next;
                false
            }
        }
    }

    /// When a change that was not allowed may be.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.retry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However often others change their minds: programs that have lost IPv4 get it back at once.
    #[test]
    fn the_last_change_is_kept_for_ipv4_to_come_back() {
        let now = Duration::from_secs(1000);
        let mut damping = Damping::default();
        for number in 1..20 {
            assert!(damping.allows(Change::Other, now), "{number}");
        }
        assert_eq!(damping.deadline(), None);
        assert!(!damping.allows(Change::Other, now));
        assert_eq!(damping.deadline(), Some(now + Duration::from_secs(5)));
        damping.begin_turn();
        assert_eq!(damping.deadline(), None);
        assert!(damping.allows(Change::Restore, now));
        assert!(!damping.allows(Change::Restore, now));
        assert!(damping.allows(Change::Restore, now + Duration::from_secs(5)));
    }
}
