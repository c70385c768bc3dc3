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
    /// Whether uses of leases are to be asked for next.
    uses_are_next: bool,
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
        self.uses_are_next &= !uses;
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

    /// Whether there is such a question. Uses that are wanted and that it is not for are due after
    /// it.
    pub(super) fn are_asked(&mut self, uses: bool) -> bool {
        self.uses_are_next |= uses && self.asked() == Some(false);
        self.asked.is_some()
    }

    /// Whether uses of leases are to be asked for now.
    pub(super) fn are_uses_due(&self) -> bool {
        self.asked.is_none() && self.uses_are_next
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

        assert!(!reports.are_asked(true) && !reports.are_uses_due());
        assert_eq!(reports.begin(true, later(3)), 2);
        // An answer to the question before.
        reports.end_if_answered([2, 1].into_iter());
        assert!(!reports.take_uses());
        reports.end_if_answered([2, 2].into_iter());
        assert!(reports.take_uses() && !reports.take_uses());
    }

    /// The check of leases waits for uses: they are asked for as soon as another question is
    /// answered, and once.
    #[test]
    fn uses_are_asked_for_after_another_question() {
        let mut reports = Reports::default();
        let now = Instant::now();
        reports.begin(false, now);
        assert!(reports.are_asked(false) && reports.are_asked(true));
        assert!(!reports.are_uses_due());
        reports.end_if_answered([1].into_iter());
        assert!(reports.are_uses_due());
        reports.begin(true, now);
        assert!(reports.are_asked(true) && !reports.are_uses_due());
        reports.end_if_answered([2].into_iter());
        assert!(!reports.are_uses_due());
    }
}
