//! What is counted and said now and then.

use std::time::{Duration, Instant};

/// How often one thing is said.
const INTERVAL: Duration = Duration::from_secs(60);

/// Counts what a flood could bring about, so that it is said now and then.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    silent_until: Option<Instant>,
}

impl Tally {
    /// Counts one more, and returns how many there were if that may be said now.
    pub(crate) fn add(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.silent_until.is_some_and(|until| now < until) {
            return None;
        }
        self.silent_until = Some(now + INTERVAL);
        Some(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_once_a_minute_with_the_count() {
        let now = Instant::now();
        let mut tally = Tally::default();
        assert_eq!(tally.add(now), Some(1));
        assert_eq!(tally.add(now), None);
        assert_eq!(tally.add(now + INTERVAL - Duration::from_nanos(1)), None);
        assert_eq!(tally.add(now + INTERVAL), Some(4));
        assert_eq!(tally.add(now + INTERVAL), None);
    }
}
