//! Looking again for a moment before going to sleep: to be woken costs more than the moment, where an answer is on its way.

/// So often the device is looked at again, at most: about 15 us, which is what a sleep and a wakeup cost.
const MOST: u32 = 100;
/// Every so many wakeups it is tried again, where it did not pay before.
const TRY_AGAIN: u32 = 64;

/// How often to look again. It pays where one packet follows another, as with requests and responses, and is given up
/// where it does not. There is nothing of it while nothing comes in.
#[derive(Debug, Default)]
pub(crate) struct Spin {
    budget: u32,
    left: u32,
    wakeups: u32,
}

impl Spin {
    /// Something has come in, after a sleep.
    pub(crate) fn wake(&mut self) {
        self.wakeups = self.wakeups.wrapping_add(1);
        if self.wakeups.is_multiple_of(TRY_AGAIN) {
            self.budget = MOST;
        }
        self.left = self.budget;
    }

    /// Nothing more is there: whether to look once more.
    pub(crate) fn again(&mut self) -> bool {
        if self.left == 0 {
            self.budget /= 2;
            return false;
        }
        self.left -= 1;
        true
    }

    /// Something was there, after a look or many.
    pub(crate) fn found(&mut self) {
        if self.left < self.budget {
            self.budget = MOST;
            self.left = MOST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks until it gives up.
    fn looks(spin: &mut Spin) -> u32 {
        let mut looks = 0;
        while spin.again() {
            looks += 1;
        }
        looks
    }

    #[test]
    fn it_is_given_up_where_it_does_not_pay() {
        let mut spin = Spin::default();
        let wakeups = 10 * TRY_AGAIN;
        let mut all = 0;
        for _ in 0..wakeups {
            spin.wake();
            all += looks(&mut spin);
        }
        // A try halves each time: twice MOST in TRY_AGAIN wakeups, about three looks for each.
        assert!(all > 0 && all <= wakeups * 2 * MOST / TRY_AGAIN, "{all}");
    }

    #[test]
    fn it_goes_on_where_it_pays() {
        let mut spin = Spin::default();
        while looks(&mut spin) == 0 {
            spin.wake();
        }
        spin.budget = MOST;
        spin.wake();
        for _ in 0..10 * MOST {
            assert!(spin.again());
            spin.found();
        }
        assert_eq!(looks(&mut spin), MOST);
    }

    /// What is there at once is not the fruit of looking again.
    #[test]
    fn what_comes_in_a_row_counts_for_nothing() {
        let mut spin = Spin::default();
        spin.wake();
        for _ in 0..1000 {
            spin.found();
        }
        assert!(!spin.again());
    }
}
