//! Busy polling: reading again for a moment before sleeping, since a wakeup costs more than the
//! moment where the next packet is about to come.

/// The maximum number of reads that find nothing before the thread sleeps. They take about 15 us,
/// as much as a sleep and a wakeup. Where there is an uplink, too, each is one of both sides: half
/// as many were measured, and answers came no sooner.
const MAX_READS: u32 = 100;
/// The number of wakeups after which polling is tried again where it did not pay.
const RETRY_WAKEUPS: u32 = 64;

/// The budget of reads that find nothing. It is full while one packet follows another, as with
/// requests and responses, and halves with each sleep. While no packets come there is no polling.
#[derive(Debug, Default)]
pub(crate) struct Spin {
    budget: u32,
    left: u32,
    wakeups: u32,
}

impl Spin {
    /// Starts a wakeup.
    pub(crate) fn wake(&mut self) {
        self.wakeups = self.wakeups.wrapping_add(1);
        if self.wakeups.is_multiple_of(RETRY_WAKEUPS) {
            self.budget = MAX_READS;
        }
        self.left = self.budget;
    }

    /// Counts a read that found nothing, and returns whether to read again rather than to sleep.
    pub(crate) fn again(&mut self) -> bool {
        if self.left == 0 {
            self.budget /= 2;
            return false;
        }
        self.left -= 1;
        true
    }

    /// Counts a read that found a packet. If others had found nothing, polling has paid.
    pub(crate) fn found(&mut self) {
        if self.left < self.budget {
            self.budget = MAX_READS;
            self.left = MAX_READS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads, and finds nothing, until it is time to sleep.
    fn reads(spin: &mut Spin) -> u32 {
        let mut reads = 0;
        while spin.again() {
            reads += 1;
        }
        reads
    }

    #[test]
    fn polling_stops_where_it_does_not_pay() {
        let mut spin = Spin::default();
        let wakeups = 10 * RETRY_WAKEUPS;
        let mut all = 0;
        for _ in 0..wakeups {
            spin.wake();
            all += reads(&mut spin);
        }
        // The budget of a retry halves each time, so its reads are fewer than twice MAX_READS:
        // about three for each wakeup.
        assert!(
            all > 0 && all <= wakeups * 2 * MAX_READS / RETRY_WAKEUPS,
            "{all}"
        );
    }

    #[test]
    fn polling_continues_where_it_pays() {
        let mut spin = Spin::default();
        while reads(&mut spin) == 0 {
            spin.wake();
        }
        spin.budget = MAX_READS;
        spin.wake();
        for _ in 0..10 * MAX_READS {
            assert!(spin.again());
            spin.found();
        }
        assert_eq!(reads(&mut spin), MAX_READS);
    }

    #[test]
    fn packets_found_at_once_do_not_start_polling() {
        let mut spin = Spin::default();
        spin.wake();
        for _ in 0..1000 {
            spin.found();
        }
        assert!(!spin.again());
    }
}
