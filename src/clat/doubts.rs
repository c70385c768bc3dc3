//! Doubts about NAT64 prefixes: by which packets left and none came back, and when such a one is
//! tried again.

use std::time::Duration;

use crate::addr::Nat64Prefix;

/// How long no packet has to come back. After each false alarm it is twice as long, up to so many
/// times: what needs no answers, as a log by UDP, does not raise one after the other.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_DOUBLINGS: u32 = 4;
/// The pauses before a prefix that has given way is tried again: from the first to the last,
/// doubled each time.
const PAUSE: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(3600)];
/// A doubt that is so old says nothing about the next one.
const MEMORY: Duration = Duration::from_secs(3600);
/// Number of doubts that are kept: more than the prefixes that can be used within [`MEMORY`].
const MAX_DOUBTS: usize = 64;

/// What speaks for a prefix, beside what was said about it: the first one is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It answers, or it is time to try.
    Good,
    /// It does not answer, and is in use.
    SilentInUse,
    /// It does not answer.
    Silent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Silent,
    /// It is tried again.
    OnTrial,
    Answers,
}

/// A prefix that did not answer.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    link: u32,
    prefix: Nat64Prefix,
    state: State,
    /// How often that was found.
    times: u32,
    /// When it was found last.
    found: Duration,
    /// When it is to be tried again.
    until: Duration,
}

/// The prefixes that did not answer.
#[derive(Debug, Default)]
pub(super) struct Doubts(Vec<Doubt>);

impl Doubts {
    fn of(&self, link: u32, prefix: Nat64Prefix) -> Option<&Doubt> {
        let mut all = self.0.iter();
        all.find(|one| one.link == link && one.prefix == prefix)
    }

    fn of_mut(&mut self, link: u32, prefix: Nat64Prefix) -> Option<&mut Doubt> {
        let mut all = self.0.iter_mut();
        all.find(|one| one.link == link && one.prefix == prefix)
    }

    /// Takes notice that a prefix does not answer.
    pub(super) fn silent(&mut self, link: u32, prefix: Nat64Prefix, now: Duration) {
        self.0.retain(|one| now < one.found + MEMORY);
        let times = self.of(link, prefix).map_or(0, |one| one.times);
        self.0
            .retain(|one| (one.link, one.prefix) != (link, prefix));
        if self.0.len() >= MAX_DOUBTS {
            self.0.remove(0);
        }
        let mut doubt = Doubt {
            link,
            prefix,
            state: State::Silent,
            times: times + 1,
            found: now,
            until: now,
        };
        doubt.pause(now);
        self.0.push(doubt);
    }

    /// Takes notice that a prefix answers.
    pub(super) fn answers(&mut self, link: u32, prefix: Nat64Prefix) {
        if let Some(one) = self.of_mut(link, prefix) {
            one.state = State::Answers;
        }
    }

    /// Takes notice that a prefix is in use, maybe in place of another one, which pauses if it is
    /// silent.
    pub(super) fn begins(
        &mut self,
        new: (u32, Nat64Prefix),
        old: Option<(u32, Nat64Prefix)>,
        now: Duration,
    ) {
        if let Some(one) = old.and_then(|old| self.of_mut(old.0, old.1)) {
            one.pause(now);
        }
        if let Some(one) = self.of_mut(new.0, new.1) {
            one.state = State::OnTrial;
        }
    }

    /// Whether the last packets to a prefix were not answered.
    pub(super) fn is_silent(&self, link: u32, prefix: Nat64Prefix) -> bool {
        self.of(link, prefix)
            .is_some_and(|one| one.state == State::Silent)
    }

    /// The standing of a prefix, while `current` is in use.
    pub(super) fn standing(
        &self,
        link: u32,
        prefix: Nat64Prefix,
        current: Option<Nat64Prefix>,
        now: Duration,
    ) -> Standing {
        match self.of(link, prefix) {
            Some(one) if one.state != State::Silent => Standing::Good,
            Some(_) if current == Some(prefix) => Standing::SilentInUse,
            Some(one) if now < one.until => Standing::Silent,
            _ => Standing::Good,
        }
    }

    /// How long no packet has to come back by a prefix, until it counts as silent.
    pub(super) fn patience(&self, link: u32, prefix: Nat64Prefix, now: Duration) -> Duration {
        match self.of(link, prefix) {
            Some(one) if one.state == State::Answers && now < one.found + MEMORY => {
                PATIENCE * (1 << one.times.min(MAX_DOUBLINGS))
            }
            _ => PATIENCE,
        }
    }

    /// When the next prefix is to be tried again.
    pub(super) fn deadline(&self, now: Duration) -> Option<Duration> {
        let silent = self.0.iter().filter(|one| one.state == State::Silent);
        silent.map(|one| one.until).filter(|at| *at > now).min()
    }

    /// Forgets what was found by links that are not there any more.
    pub(super) fn retain_links(&mut self, is_there: impl Fn(u32) -> bool) {
        self.0.retain(|one| is_there(one.link));
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Doubt {
    fn pause(&mut self, now: Duration) {
        let doublings = self.times.saturating_sub(1).min(16);
        self.until = now + (PAUSE[0] * (1 << doublings)).min(PAUSE[1]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    const LINK: u32 = 2;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn prefix(text: &str) -> Nat64Prefix {
        Nat64Prefix::new(text.parse().unwrap()).unwrap()
    }

    /// One that stays silent is tried again after 1, 2, 4 minutes and so on, up to an hour.
    #[test]
    fn pauses_grow() {
        let (one, other) = (prefix("64:ff9b::/96"), prefix("2001:db8::/96"));
        let mut doubts = Doubts::default();
        let mut now = seconds(0);
        let standing =
            |doubts: &Doubts, current, now| doubts.standing(LINK, one, Some(current), now);
        for pause in [60, 120, 240, 480, 960, 1920] {
            doubts.silent(LINK, one, now);
            assert_eq!(standing(&doubts, one, now), Standing::SilentInUse);
            now += seconds(1);
            doubts.begins((LINK, other), Some((LINK, one)), now);
            assert_eq!(standing(&doubts, other, now), Standing::Silent);
            assert_eq!(doubts.deadline(now), Some(now + seconds(pause)));
            now += seconds(pause);
            assert_eq!(standing(&doubts, other, now), Standing::Good);
            doubts.begins((LINK, one), Some((LINK, other)), now);
            assert_eq!(standing(&doubts, one, now), Standing::Good);
            assert_eq!(doubts.patience(LINK, one, now), PATIENCE);
            now += PATIENCE;
        }
        assert_eq!(doubts.deadline(now), None);
        // What is long over does not count.
        doubts.answers(LINK, one);
        now += MEMORY;
        doubts.silent(LINK, one, now);
        assert_eq!(doubts.deadline(now), Some(now + seconds(60)));
    }

    /// Traffic that is answered once a minute is called silent a few times, and then no more.
    #[test]
    fn false_alarms_end() {
        let one = prefix("64:ff9b::/96");
        let mut doubts = Doubts::default();
        let mut alarms = Vec::new();
        for minute in 0..50 {
            let patience = doubts.patience(LINK, one, seconds(60 * minute));
            if patience < seconds(60) {
                alarms.push(patience.as_secs());
                doubts.silent(LINK, one, seconds(60 * minute) + patience);
                assert!(doubts.is_silent(LINK, one));
            }
            doubts.answers(LINK, one);
            assert!(!doubts.is_silent(LINK, one));
        }
        assert_eq!(alarms, [10, 20, 40]);
    }

    /// A doubt that is an hour old says nothing about the next one, nor about patience.
    #[test]
    fn doubts_are_forgotten_after_an_hour() {
        const NANOSECOND: Duration = Duration::from_nanos(1);
        let (one, start) = (prefix("64:ff9b::/96"), seconds(10));
        for (after, patience, pause) in [
            (MEMORY - NANOSECOND, 2 * PATIENCE, 2 * PAUSE[0]),
            (MEMORY, PATIENCE, PAUSE[0]),
        ] {
            let mut doubts = Doubts::default();
            doubts.silent(LINK, one, start);
            doubts.answers(LINK, one);
            let now = start + after;
            assert_eq!(doubts.patience(LINK, one, now), patience);
            doubts.silent(LINK, one, now);
            assert_eq!(doubts.deadline(now), Some(now + pause));
        }
    }

    /// However many prefixes there were.
    #[test]
    fn doubts_are_bounded() {
        let mut doubts = Doubts::default();
        for number in 0..1000_u32 {
            let made_up = prefix(&format!("2001:db8:{number:x}::/96"));
            doubts.silent(LINK, made_up, seconds(10));
        }
        assert_eq!(doubts.0.len(), MAX_DOUBTS);
        doubts.retain_links(|link| link != LINK);
        assert!(doubts.0.is_empty());
    }
}
