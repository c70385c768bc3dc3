//! Rate limiting by the generic cell rate algorithm (GCRA, ITU-T I.371 annex A).
//!
//! A [`Rate`] says how many events there may be in what time; a [`TokenBucket`] remembers what has
//! been used of it. A bucket is one point in time, so thousands of them are cheap. The caller has
//! the clock and keeps the rate, which many buckets may share.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A number of events in a period.
///
/// All of them may happen at once; after that, tokens come back evenly over the period. So in a
/// time of `t` there are at most `count * (1 + t / period)` events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    period: Duration,
}

impl Rate {
    /// `count` events in each `period`; a count of zero allows none.
    pub const fn new(count: u32, period: Duration) -> Self {
        Self { count, period }
    }

    /// `count` events a second.
    pub const fn per_second(count: u32) -> Self {
        Self::new(count, Duration::from_secs(1))
    }

    /// The share of one of `sources`, so that all of them together keep to this rate. Each may
    /// have one event at once, however small its share is.
    pub fn shared_by(self, sources: u32) -> Self {
        let Some(interval) = self.interval() else {
            return self;
        };
        let count = (self.count / sources.max(1)).max(1);
        Self::new(count, interval * sources.max(1) * count)
    }

    /// The time in which one token comes back, rounded down to nanoseconds.
    fn interval(self) -> Option<Duration> {
        self.period.checked_div(self.count)
    }
}

/// The tokens of one source of events: full at first, and never fuller than its rate's count.
///
/// `T` is a point in time: an [`Instant`](std::time::Instant), or a [`Duration`] since a start
/// that the caller chooses. Time that goes backwards brings no tokens and takes none.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket<T> {
    /// When the bucket is full again; `None` if it was never used.
    full_at: Option<T>,
}

impl<T> Default for TokenBucket<T> {
    fn default() -> Self {
        Self { full_at: None }
    }
}

impl<T> TokenBucket<T>
where
    T: Copy + Ord + Add<Duration, Output = T> + Sub<T, Output = Duration>,
{
    /// Takes a token. Fails if there is none, with the earliest time at which there is one; `None`
    /// if there never is.
    pub fn take(&mut self, rate: Rate, now: T) -> Result<(), Option<T>> {
        self.take_above(0, rate, now)
    }

    /// Takes `count` tokens, or none. Fails as [`take`](Self::take) does.
    pub fn take_many(&mut self, count: u32, rate: Rate, now: T) -> Result<(), Option<T>> {
        self.take_some(count, 0, rate, now)
    }

    /// Whether there is no token to take now.
    pub fn is_empty(mut self, rate: Rate, now: T) -> bool {
        self.take(rate, now).is_err()
    }

    /// Takes a token as [`take`](Self::take) does, but only if `reserve` others are left, for
    /// events that matter more.
    pub fn take_above(&mut self, reserve: u32, rate: Rate, now: T) -> Result<(), Option<T>> {
        self.take_some(1, reserve, rate, now)
    }

    fn take_some(&mut self, count: u32, reserve: u32, rate: Rate, now: T) -> Result<(), Option<T>> {
        let interval = rate
            .interval()
            .filter(|_| reserve < rate.count && count <= rate.count - reserve)
            .ok_or(None)?;
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + interval * count;
        let kept_until = full_at + interval * reserve;
        let limit = now + interval * rate.count;
        if kept_until > limit {
            return Err(Some(now + (kept_until - limit)));
        }
        self.full_at = Some(full_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::time::Instant;

    use super::*;

    const RATE: Rate = Rate::new(3, Duration::from_secs(12));
    const NANOSECOND: Duration = Duration::from_nanos(1);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// tayga.conf(5), workers: limits are divided, so that the sum holds.
    #[test]
    fn shares_add_up_to_the_whole() {
        let now = Instant::now();
        for (rate, sources, burst) in [
            (Rate::per_second(1000), 4, 1000),
            (Rate::per_second(1000), 3, 999),
            (RATE, 3, 3),
            (RATE, 64, 64), // one each
        ] {
            let share = rate.shared_by(sources);
            let events = |period: Duration| {
                let all = (0..sources).map(|_| {
                    let mut bucket = TokenBucket::default();
                    let mut taken = 0;
                    let mut at = now;
                    while at <= now + period {
                        match bucket.take(share, at) {
                            Ok(()) => taken += 1,
                            Err(next) => at = next.unwrap(),
                        }
                    }
                    taken
                });
                all.sum::<u32>()
            };
            assert_eq!(events(Duration::ZERO), burst, "{rate:?} by {sources}");
            let whole = rate.count * 64;
            let found = events(rate.period * 64);
            assert!(
                found >= whole && found <= whole + burst + sources,
                "{found} {rate:?}"
            );
        }
        let none = Rate::per_second(0).shared_by(2);
        assert!(TokenBucket::default().is_empty(none, now));
    }

    #[test]
    fn a_burst_and_then_one_each_interval() {
        let mut bucket = TokenBucket::default();
        for _ in 0..3 {
            assert!(!bucket.is_empty(RATE, seconds(100)));
            assert_eq!(bucket.take(RATE, seconds(100)), Ok(()));
        }
        assert!(bucket.is_empty(RATE, seconds(104) - NANOSECOND));
        assert!(!bucket.is_empty(RATE, seconds(104)));
        let next = Err(Some(seconds(104)));
        assert_eq!(bucket.take(RATE, seconds(100)), next);
        assert_eq!(bucket.take(RATE, seconds(104) - NANOSECOND), next);
        assert_eq!(bucket.take(RATE, seconds(104)), Ok(()));
        assert_eq!(bucket.take(RATE, seconds(104)), Err(Some(seconds(108))));
    }

    #[test]
    fn many_tokens_are_taken_all_or_none() {
        let mut bucket = TokenBucket::default();
        assert_eq!(bucket.take_many(4, RATE, seconds(100)), Err(None));
        assert_eq!(bucket.take_many(2, RATE, seconds(100)), Ok(()));
        let next = Err(Some(seconds(104)));
        assert_eq!(bucket.take_many(2, RATE, seconds(100)), next);
        assert_eq!(bucket.take_many(1, RATE, seconds(100)), Ok(()));
        assert!(bucket.is_empty(RATE, seconds(100)));
    }

    #[test]
    fn a_bucket_holds_no_more_than_a_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::default();
        for later in [0, 12, 3600, 1_000_000] {
            let now = start + seconds(later);
            let taken = (0..10).filter(|_| bucket.take(RATE, now).is_ok()).count();
            assert_eq!(taken, 3, "{later} s later");
        }
    }

    /// 7 does not divide a second: the rest of the division is never missing from a burst.
    #[test]
    fn an_odd_rate_has_its_whole_burst() {
        let mut bucket = TokenBucket::default();
        let rate = Rate::per_second(7);
        let taken = |bucket: &mut TokenBucket<Duration>, now| {
            (0..100).filter(|_| bucket.take(rate, now).is_ok()).count()
        };
        assert_eq!(taken(&mut bucket, seconds(0)), 7);
        assert_eq!(taken(&mut bucket, seconds(1)), 7);
    }

    #[test]
    fn a_reserve_is_left_for_what_matters_more() {
        let mut bucket = TokenBucket::default();
        let now = seconds(0);
        assert_eq!(bucket.take_above(1, RATE, now), Ok(()));
        assert_eq!(bucket.take_above(1, RATE, now), Ok(()));
        assert_eq!(bucket.take_above(1, RATE, now), Err(Some(seconds(4))));
        assert_eq!(bucket.take(RATE, now), Ok(()));
        assert_eq!(bucket.take(RATE, now), Err(Some(seconds(4))));
        assert_eq!(bucket.take_above(1, RATE, now), Err(Some(seconds(8))));
        assert_eq!(bucket.take_above(3, RATE, seconds(100)), Err(None));
    }

    #[test]
    fn a_clock_that_steps_back_changes_nothing() {
        let mut bucket = TokenBucket::default();
        for _ in 0..3 {
            assert_eq!(bucket.take(RATE, seconds(100)), Ok(()));
        }
        assert!(bucket.take(RATE, seconds(50)).is_err());
        assert!(bucket.take(RATE, seconds(103)).is_err());
        assert_eq!(bucket.take(RATE, seconds(104)), Ok(()));
    }

    #[test]
    fn a_rate_of_zero_allows_nothing() {
        let mut bucket = TokenBucket::default();
        let rate = Rate::per_second(0);
        assert_eq!(bucket.take(rate, seconds(1)), Err(None));
        assert_eq!(bucket.take(rate, seconds(1_000_000)), Err(None));
    }
}
