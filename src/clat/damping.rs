//! The damping of changes: a limit on how often a CLAT may change its mind.

use std::time::Duration;

/// Changes that may follow each other at once, and the interval after which one more may. Routers
/// that contradict each other, by mistake or not, flap neither the routes nor the log faster.
const BURST: u32 = 20;
const INTERVAL: Duration = Duration::from_secs(5);

/// A change that is damped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// IPv4 is back. The last change that is left is kept for it.
    Restore,
    /// Any other one.
    Other,
}

/// The changes that may still be made.
#[derive(Debug)]
pub(super) struct Damping {
    /// Number that may follow at once, as of `since`.
    left: u32,
    since: Duration,
    /// When to try again a change that was not allowed in this turn.
    retry: Option<Duration>,
}

impl Default for Damping {
    fn default() -> Self {
        Self {
            left: BURST,
            since: Duration::ZERO,
            retry: None,
        }
    }
}

impl Damping {
    /// Begins a turn, in which all that waited is decided anew.
    pub(super) fn begin_turn(&mut self) {
        self.retry = None;
    }

    /// Takes one of the changes that are left, if one is; otherwise it waits for the deadline.
    pub(super) fn allows(&mut self, change: Change, now: Duration) -> bool {
        let elapsed = now.saturating_sub(self.since).as_secs() / INTERVAL.as_secs();
        if elapsed > 0 {
            let earned = u32::try_from(elapsed).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(BURST);
            self.since = now;
        }
        let reserved = u32::from(change != Change::Restore);
        if self.left > reserved {
            self.left -= 1;
            return true;
        }
        self.retry = Some(self.since + INTERVAL);
        false
    }

    /// When a change that was not allowed may be.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.retry
    }
}
