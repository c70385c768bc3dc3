//! A counter for events that a flood could cause, with a limit on their log lines.

use std::time::{Duration, Instant};

use xlatd::pace::{Rate, TokenBucket};

const INTERVAL: Duration = Duration::from_secs(60);
/// The limit on log lines of one counter.
const LINES: Rate = Rate::new(1, INTERVAL);

/// A counter whose value is logged at most once a minute.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    lines: TokenBucket<Instant>,
}

impl Tally {
    /// Counts one event. Returns the count if it may be logged now.
    pub(crate) fn add(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        self.lines.take(LINES, now).is_ok().then_some(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_logged_at_once_and_then_once_a_minute() {
        let now = Instant::now();
        let mut tally = Tally::default();
        assert_eq!(tally.add(now), Some(1));
        assert_eq!(tally.add(now), None);
        assert_eq!(tally.add(now + INTERVAL - Duration::from_nanos(1)), None);
        assert_eq!(tally.add(now + INTERVAL), Some(4));
        assert_eq!(tally.add(now + INTERVAL), None);
    }
}
