//! When the network, and the firewalls of the host, are looked at again.

use std::time::{Duration, Instant};

/// Changes of the network come in bursts: one look serves all of this time.
const MIN_DEBOUNCE: Duration = Duration::from_millis(20);
/// The longest that a change waits for a look.
const MAX_DEBOUNCE: Duration = Duration::from_secs(1);
/// The same of firewalls, which are many rules, and of which nothing but a warning depends.
const FIREWALL_DEBOUNCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// Rescans take at most one part in this many of wall time, whoever changes the network however
/// often.
const MAX_SHARE: u32 = 10;

/// The time of the next look, and how long changes are gathered before it.
#[derive(Debug)]
pub struct Rescan {
    at: Option<Instant>,
    debounce: Duration,
    /// The shortest and the longest debounce.
    bounds: [Duration; 2],
}

impl Rescan {
    /// Of the network: the first look is due at once.
    pub fn new(now: Instant) -> Self {
        Self {
            at: Some(now),
            debounce: MIN_DEBOUNCE,
            bounds: [MIN_DEBOUNCE, MAX_DEBOUNCE],
        }
    }

    /// Of firewalls: none is due yet.
    pub fn of_firewalls() -> Self {
        let [debounce, _] = FIREWALL_DEBOUNCE;
        Self {
            at: None,
            debounce,
            bounds: FIREWALL_DEBOUNCE,
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
        let [min, max] = self.bounds;
        self.debounce = (time * MAX_SHARE).clamp(min, max);
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

    /// Firewalls of which a look takes 500 ms are looked at every 5 s.
    #[test]
    fn firewalls_are_looked_at_less_often() {
        let now = Instant::now();
        let mut rescan = Rescan::of_firewalls();
        assert_eq!(rescan.deadline(), None);
        for (took, debounce) in [(0, 1000), (500, 5000), (60_000, 60_000)] {
            rescan.took(Duration::from_millis(took));
            rescan.changed(now);
            let deadline = now + Duration::from_millis(debounce);
            assert_eq!(rescan.deadline(), Some(deadline), "{took} ms");
            assert!(rescan.is_due(deadline));
        }
    }
}
