//! Trying again what failed.

use std::time::{Duration, Instant};

/// The time to the first retry: another instance may just have been faster.
const FIRST: Duration = Duration::from_secs(1);
/// The time between later ones.
const LATER: Duration = Duration::from_secs(10);

/// A failure that is tried again, and reported once.
#[derive(Debug, Default)]
pub struct Retry {
    at: Option<Instant>,
    failure: Option<String>,
}

impl Retry {
    /// Takes notice of a failure. Whether it is another one than before, and so to be reported.
    pub fn failed(&mut self, failure: &str, now: Instant) -> bool {
        let after = if self.failure.is_none() { FIRST } else { LATER };
        self.at = Some(self.at.map_or(now + after, |at| at.min(now + after)));
        if self.failure.as_deref() == Some(failure) {
            return false;
        }
        self.failure = Some(failure.to_owned());
        true
    }

    /// Takes notice of success. Whether it ends a failure.
    pub fn succeeded(&mut self) -> bool {
        self.at = None;
        self.failure.take().is_some()
    }

    /// The failure that lasts.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The time of the next retry.
    pub fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// Whether a retry is due; if so, it is taken for granted.
    pub fn is_due(&mut self, now: Instant) -> bool {
        self.at.take_if(|at| *at <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_retry_comes_soon_and_later_ones_each_10_s() {
        let mut now = Instant::now();
        let mut retry = Retry::default();
        assert!(retry.failed("no device", now));
        for after in [1, 10, 10] {
            let at = now + Duration::from_secs(after);
            assert_eq!(retry.deadline(), Some(at));
            assert!(!retry.is_due(at - Duration::from_nanos(1)));
            assert!(retry.is_due(at));
            assert!(!retry.failed("no device", at), "reported once");
            now = at;
        }
        assert!(retry.failed("no memory", now), "another one is reported");
        assert_eq!(retry.failure(), Some("no memory"));
        assert!(retry.succeeded());
        assert!(!retry.succeeded());
        assert_eq!(retry.deadline(), None);
    }

    #[test]
    fn a_failure_in_between_does_not_put_off_the_retry() {
        let now = Instant::now();
        let mut retry = Retry::default();
        retry.failed("no device", now);
        retry.failed("no device", now + Duration::from_millis(500));
        assert_eq!(retry.deadline(), Some(now + Duration::from_secs(1)));
    }
}
