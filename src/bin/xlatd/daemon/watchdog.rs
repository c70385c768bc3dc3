//! The watchdog of the service manager, which ends a daemon that stops sending notifications.

use std::time::{Duration, Instant};

/// The time of the next notification: twice in the manager's timeout (sd_watchdog_enabled(3)).
pub(crate) struct Watchdog {
    timeout: Duration,
    deadline: Instant,
}

impl Watchdog {
    /// `timeout` is the manager's. The first notification is due at once.
    pub(crate) fn new(timeout: Duration, now: Instant) -> Self {
        Self {
            timeout,
            deadline: now,
        }
    }

    /// The time at which the next notification is due.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether a notification is due. If so, the caller must send it, and the next one is
    /// scheduled.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        if now < self.deadline {
            return false;
        }
        self.deadline = now + self.timeout / 2;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_are_due_at_once_and_then_twice_in_the_timeout() {
        let now = Instant::now();
        let mut watchdog = Watchdog::new(Duration::from_secs(30), now);
        assert!(watchdog.is_due(now));
        assert!(!watchdog.is_due(now));
        let half = now + Duration::from_secs(15);
        assert_eq!(watchdog.deadline(), half);
        assert!(!watchdog.is_due(half - Duration::from_nanos(1)));
        // After a late notification, the next one is due half a timeout later.
        let late = half + Duration::from_secs(1);
        assert!(watchdog.is_due(late));
        assert_eq!(watchdog.deadline(), late + Duration::from_secs(15));
    }
}
