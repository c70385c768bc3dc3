//! When the network is looked at again.

use std::time::{Duration, Instant};

/// Changes of the network come in bursts: one look serves all of this time.
const MIN_DEBOUNCE: Duration = Duration::from_millis(20);
/// The longest that a change waits for a look.
const MAX_DEBOUNCE: Duration = Duration::from_secs(1);
/// Rescans take at most one part in this many of wall time, whoever changes the network however
/// often.
const MAX_SHARE: u32 = 10;

/// The time of the next look at the network, and how long changes are gathered before it.
#[derive(Debug)]
pub struct Rescan {
    at: Option<Instant>,
    debounce: Duration,
}

impl Rescan {
    /// The first look is due at once.
    pub fn new(now: Instant) -> Self {
        Self {
            at: Some(now),
            debounce: MIN_DEBOUNCE,
        }
    }

    /// Takes notice of a change.
    pub fn changed(&mut self, now: Instant) {
        self.look_at(now + self.debounce);
    }

    /// Has the network looked at by this time.
    pub fn look_at(&mut self, at: Instant) {
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
    }

    /// The time of the next look.
    pub fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// Whether a look is due; if so, it is taken for granted.
    pub fn is_due(&mut self, now: Instant) -> bool {
        self.at.take_if(|at| *at <= now).is_some()
    }

    /// Takes notice of the time that a look took.
    pub fn took(&mut self, time: Duration) {
        self.debounce = (time * MAX_SHARE).clamp(MIN_DEBOUNCE, MAX_DEBOUNCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NANOSECOND: Duration = Duration::from_nanos(1);

    #[test]
    fn one_look_serves_a_burst_of_changes() {
        let now = Instant::now();
        let mut rescan = Rescan::new(now);
        assert!(rescan.is_due(now));
        assert!(!rescan.is_due(now));
        rescan.changed(now);
        rescan.changed(now + MIN_DEBOUNCE / 2);
        assert_eq!(rescan.deadline(), Some(now + MIN_DEBOUNCE));
        assert!(!rescan.is_due(now + MIN_DEBOUNCE - NANOSECOND));
        assert!(rescan.is_due(now + MIN_DEBOUNCE));
        assert_eq!(rescan.deadline(), None);
    }

    /// A look of 30 ms is followed by 300 ms without one; of however long, by 1 s.
    #[test]
    fn rescans_take_at_most_a_tenth_of_wall_time() {
        let now = Instant::now();
        let mut rescan = Rescan::new(now);
        for (took, debounce) in [(0, 20), (2, 20), (30, 300), (100, 1000), (5000, 1000)] {
            assert!(rescan.is_due(now));
            rescan.took(Duration::from_millis(took));
            rescan.changed(now);
            let deadline = now + Duration::from_millis(debounce);
            assert_eq!(rescan.deadline(), Some(deadline), "{took} ms");
            rescan.look_at(now);
        }
    }
}
