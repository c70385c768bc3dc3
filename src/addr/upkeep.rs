//! The upkeep of leases: when they are aged, when their file is written, and by which clock.

use std::time::{Duration, Instant};

use super::{AddressMap, pool::Aged};

/// The time between two checks, which age the leases and write those that changed: tayga's figure.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(45);
/// The time after which leases are written though none changed, for the times of their use: 3.5
/// days, tayga's figure.
pub const WRITE_INTERVAL: Duration = Duration::from_secs(302_400);
/// A difference above this is a step of the system's clock, and not its drift, in seconds.
const MAX_DRIFT: u64 = 60;
/// The most leases that are aged at once, so that packets wait for no more.
const MAX_AGED: usize = 10_000;

/// The state of the upkeep.
///
/// The clock of the leases is set once, from the system's, and then runs by itself: a step of the
/// system's clock changes the age of no lease.
#[derive(Debug)]
pub struct Upkeep {
    /// The second since 1970 at which the clock of the leases was set.
    start: (Instant, u64),
    /// The number of seconds by which the system's clock has been set since then.
    set_by: i64,
    /// Whether there is something that the file does not have.
    changed: bool,
    next_check: Instant,
    /// The time of the next write where nothing changes.
    write_at: Instant,
}

/// The outcome of a check.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The number of seconds by which the system's clock was set since the last check.
    pub clock_step: Option<i64>,
    /// The leases that changed with time.
    pub aged: Vec<Aged>,
    /// Whether the file is to be written now.
    pub write: bool,
}

impl Upkeep {
    /// Starts at `system_second`, by the system's clock in seconds since 1970.
    pub fn new(now: Instant, system_second: u64) -> Self {
        Self {
            start: (now, system_second),
            set_by: 0,
            changed: false,
            next_check: now + CHECK_INTERVAL,
            write_at: now + WRITE_INTERVAL,
        }
    }

    /// The time of the next check.
    pub const fn next_check(&self) -> Instant {
        self.next_check
    }

    /// Sets the time of the map, and returns it.
    pub fn set_time(&self, map: &mut AddressMap, now: Instant) -> u64 {
        let (start, second) = self.start;
        let second = second + now.saturating_duration_since(start).as_secs();
        map.set_now(second);
        second
    }

    /// Sets the time of the map. Where a check is due, ages leases and decides whether to write.
    pub fn tick(
        &mut self,
        map: &mut AddressMap,
        now: Instant,
        system_second: impl FnOnce() -> u64,
    ) -> Checked {
        let second = self.set_time(map, now);
        if now < self.next_check {
            return Checked::default();
        }
        self.next_check = now + CHECK_INTERVAL;
        let set_by = system_second().cast_signed() - second.cast_signed();
        let step = set_by - self.set_by;
        self.set_by = set_by;
        let aged = map.age_leases(MAX_AGED);
        self.changed |= !aged.is_empty();
        Checked {
            clock_step: (step.unsigned_abs() > MAX_DRIFT).then_some(step),
            aged,
            write: self.changed || now >= self.write_at,
        }
    }

    /// Notes a change that the file does not have, or a write that failed: the next check writes.
    pub fn changed(&mut self) {
        self.changed = true;
    }

    /// Notes that a write of all leases has begun.
    pub fn written(&mut self, now: Instant) {
        self.changed = false;
        self.write_at = now + WRITE_INTERVAL;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use std::net::Ipv6Addr;

    use super::*;
    use crate::addr::pool::ACTIVE_FOR;

    const SECOND: Duration = Duration::from_secs(1);
    /// The system's clock at the start.
    const SYSTEM: u64 = 1_795_406_857;

    fn start() -> (Upkeep, AddressMap, Instant) {
        let now = Instant::now();
        let own = "2001:db8:ffff::1".parse().unwrap();
        let mut map = AddressMap::new([192, 0, 2, 1].into(), own, None, true);
        map.set_pool("192.0.2.0/24".parse().unwrap());
        map.set_now(SYSTEM);
        (Upkeep::new(now, SYSTEM), map, now)
    }

    fn lend(map: &mut AddressMap) -> Ipv6Addr {
        let host = "2001:db8::2".parse().unwrap();
        map.lend(host).unwrap().unwrap();
        host
    }

    /// Packets between two checks are told the time, and nothing else is done for them.
    #[test]
    fn a_check_is_made_every_45_seconds() {
        let (mut upkeep, mut map, start) = start();
        let just_before = start + CHECK_INTERVAL - Duration::from_nanos(1);
        let checked = upkeep.tick(&mut map, just_before, || panic!("the clock is not read"));
        assert_eq!((checked, map.now()), (Checked::default(), SYSTEM + 44));
        for check in 1..4 {
            let at = start + CHECK_INTERVAL * check;
            assert_eq!(upkeep.next_check(), at);
            upkeep.tick(&mut map, at, || SYSTEM + u64::from(check) * 45);
        }
    }

    #[test]
    fn leases_are_written_when_they_changed() {
        let (mut upkeep, mut map, start) = start();
        let mut write = |upkeep: &mut Upkeep, check: u64| {
            let at = start + CHECK_INTERVAL * check as u32;
            upkeep.tick(&mut map, at, || SYSTEM + check * 45).write
        };
        assert!(!write(&mut upkeep, 1));
        upkeep.changed();
        assert!(write(&mut upkeep, 2));
        assert!(write(&mut upkeep, 3), "not yet written");
        upkeep.written(start + CHECK_INTERVAL * 3);
        assert!(!write(&mut upkeep, 4));
        // For the times of their use alone.
        let checks = WRITE_INTERVAL.as_secs() / CHECK_INTERVAL.as_secs();
        assert!(!write(&mut upkeep, 3 + checks - 1));
        assert!(write(&mut upkeep, 3 + checks));
    }

    #[test]
    fn a_lease_that_has_aged_is_a_change() {
        let (mut upkeep, mut map, start) = start();
        let host = lend(&mut map);
        let at = start + SECOND * ACTIVE_FOR as u32;
        let checked = upkeep.tick(&mut map, at, || SYSTEM + ACTIVE_FOR);
        assert!(matches!(checked.aged[..], [Aged::Dormant { host: of, .. }] if of == host));
        assert!(checked.write);
        assert_eq!(checked.clock_step, None);
    }

    /// Each step of the system's clock is reported once, and neither wakes nor ages a lease.
    #[test]
    fn a_step_of_the_clock_changes_no_lease() {
        const WEEK: u64 = 7 * 24 * 3600;
        let (mut upkeep, mut map, start) = start();
        let host = lend(&mut map);
        let mut check = |number: u64, system: u64| {
            let at = start + CHECK_INTERVAL * number as u32;
            let checked = upkeep.tick(&mut map, at, || system);
            assert_eq!(checked.aged, []);
            assert_eq!(map.now(), SYSTEM + number * 45);
            assert!(map.to_v4(host).is_ok());
            checked.clock_step
        };
        assert_eq!(check(1, SYSTEM + 45), None);
        assert_eq!(check(2, SYSTEM + 90 + WEEK), Some(WEEK as i64));
        assert_eq!(check(3, SYSTEM + 135 + WEEK), None);
        // A drift of a minute is none; one that adds up is not either, between two checks.
        assert_eq!(check(4, SYSTEM + 180 + WEEK + 60), None);
        assert_eq!(check(5, SYSTEM + 225 + WEEK + 120), None);
        assert_eq!(check(6, 0), Some(-((SYSTEM + 270 + WEEK + 120) as i64)));
    }
}
