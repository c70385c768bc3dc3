//! Questions to the other workers: what has become of packets, and which leases were used.

use std::time::Instant;

use crate::daemon::control::MAX_WAIT;

/// The question that is asked, and what was answered before.
#[derive(Default)]
pub(super) struct Reports {
    /// The number of the last question.
    number: u64,
    /// When it was asked, and whether for uses of leases, too, until all have answered.
    asked: Option<(Instant, bool)>,
    /// When the last question was asked that all have answered.
    reported: Option<Instant>,
    /// Whether uses of leases that were asked for have come.
    has_uses: bool,
}

impl Reports {
    /// Begins a question, and returns its number.
    pub(super) fn begin(&mut self, uses: bool, now: Instant) -> u64 {
        self.number += 1;
        self.asked = Some((now, uses));
        self.number
    }

    /// Ends it, if all have answered: those that answer have given these numbers.
    pub(super) fn end_if_answered(&mut self, mut numbers: impl Iterator<Item = u64>) {
        if numbers.all(|number| number == self.number) {
            let asked = self.asked.take();
            self.has_uses |= asked.is_some_and(|(_, uses)| uses);
            self.reported = asked.map(|(at, _)| at);
        }
    }

    /// The question that is not answered yet: whether it is for uses of leases.
    pub(super) fn asked(&self) -> Option<bool> {
        self.asked.map(|(_, uses)| uses)
    }

    /// Whether this number is an answer to the last question, or none is asked.
    pub(super) fn has_answered(&self, number: u64) -> bool {
        self.asked.is_none() || number == self.number
    }

    /// Whether uses of leases that were asked for have come since the last time.
    pub(super) fn take_uses(&mut self) -> bool {
        std::mem::take(&mut self.has_uses)
    }

    /// Whether the last answers are to a question after `since`, or are what there is after the
    /// time that a client waits.
    pub(super) fn are_current(&self, since: Instant, now: Instant) -> bool {
        self.reported.is_some_and(|reported| reported >= since) || now >= since + MAX_WAIT
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// xlatd-status(8): figures are of after the request, unless a worker does not answer.
    #[test]
    fn reports_are_current_once_all_have_answered() {
        let mut reports = Reports::default();
        let start = Instant::now();
        let later = |milliseconds| start + Duration::from_millis(milliseconds);
        assert!(!reports.are_current(start, start));
        assert_eq!(reports.begin(false, later(1)), 1);
        reports.end_if_answered([1, 0].into_iter());
        assert_eq!(reports.asked(), Some(false));
        assert!(reports.has_answered(1) && !reports.has_answered(0));
        reports.end_if_answered([1, 1].into_iter());
        assert!(reports.asked().is_none() && reports.has_answered(0));
        assert!(!reports.take_uses());
        assert!(reports.are_current(later(1), later(2)));
        assert!(!reports.are_current(later(2), later(2)));
        assert!(reports.are_current(later(2), later(2) + MAX_WAIT));

        assert_eq!(reports.begin(true, later(3)), 2);
        // An answer to the question before.
        reports.end_if_answered([2, 1].into_iter());
        assert!(!reports.take_uses());
        reports.end_if_answered([2, 2].into_iter());
        assert!(reports.take_uses() && !reports.take_uses());
    }
}
