//! Tells a service manager in time that the daemon is not stuck.

use std::time::{Duration, Instant};

/// When the manager is to hear of us next: twice in the time after which it would end us (sd_watchdog_enabled(3)).
pub(crate) struct Watchdog {
    period: Duration,
    at: Instant,
}

impl Watchdog {
    /// `period` is the manager's time.
    pub(crate) fn new(period: Duration, now: Instant) -> Self {
        Self { period, at: now }
    }

    /// When [`is_due`](Self::is_due) will say so.
    pub(crate) fn deadline(&self) -> Instant {
        self.at
    }

    /// Whether the manager is to hear of us now; if so, it is taken for granted that it does.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        if now < self.at {
            return false;
        }
        self.at = now + self.period / 2;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_at_once_and_then_twice_in_the_period() {
        let now = Instant::now();
        let mut watchdog = Watchdog::new(Duration::from_secs(30), now);
        assert!(watchdog.is_due(now));
        assert!(!watchdog.is_due(now));
        let half = now + Duration::from_secs(15);
        assert_eq!(watchdog.deadline(), half);
        assert!(!watchdog.is_due(half - Duration::from_nanos(1)));
        // However late it is told, the next time is counted from there.
        let late = half + Duration::from_secs(1);
        assert!(watchdog.is_due(late));
        assert_eq!(watchdog.deadline(), late + Duration::from_secs(15));
    }
}
