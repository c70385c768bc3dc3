//! Whether it pays to hold packets back. Where each packet is of another flow, holding one takes
//! more time than its translation, and joins nothing.

/// The number of packets in a row that are held, and joined to none, before the others pass.
const PATIENCE: u32 = 1024;
/// The number of packets that pass before some are held again, to see whether they are joined now.
const REST: u32 = 16384;
/// The number of these: where 128 flows take turns, each has two or more of them.
const TRIAL: u32 = 256;

/// Counts packets since the last one that was joined.
#[derive(Debug, Default)]
pub(super) struct Patience {
    vain: u32,
    /// The key of the flow of the last packet that passed.
    last: u32,
}

impl Patience {
    /// Returns whether a packet of a flow with this key passes; otherwise it is to be held. A flow
    /// whose packets follow each other is recognized by its second packet.
    pub(super) fn passes(&mut self, key: u32) -> bool {
        if self.vain < PATIENCE {
            return false;
        }
        if std::mem::replace(&mut self.last, key) == key {
            self.vain = PATIENCE - 1;
            return false;
        }
        self.vain += 1;
        if self.vain >= PATIENCE + REST {
            self.vain = PATIENCE - TRIAL;
        }
        true
    }

    /// A packet is held, as the first of its flow.
    pub(super) fn held(&mut self) {
        self.vain = PATIENCE.min(self.vain + 1);
    }

    /// A packet was joined.
    pub(super) fn joined(&mut self) {
        self.vain = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flow whose packets follow each other has the next packet held, too, whosever it is: one
    /// of its own may be none that can be joined.
    #[test]
    fn a_flow_that_is_recognized_gets_one_more_trial() {
        let mut patience = Patience::default();
        (0..PATIENCE).for_each(|_| patience.held());
        assert!(patience.passes(7));
        assert!(!patience.passes(7));
        assert!(!patience.passes(8));
        patience.held();
        assert!(patience.passes(8));
    }

    /// Of so many packets, of flows that take turns, how many are held. A flow is known for the
    /// packets that are held among the last `window`.
    fn held(patience: &mut Patience, packets: u32, flows: u32) -> u32 {
        const WINDOW: u32 = 256;
        let mut seen = vec![None; flows as usize];
        let mut held = 0;
        for number in 0..packets {
            let flow = number % flows;
            if patience.passes(flow + 1) {
                continue;
            }
            held += 1;
            let before = seen[flow as usize].replace(number);
            if before.is_some_and(|before| number - before < WINDOW) {
                patience.joined();
            } else {
                patience.held();
            }
        }
        held
    }

    #[test]
    fn packets_pass_where_none_is_joined() {
        let held = held(&mut Patience::default(), 1_000_000, 100_000);
        assert!(held < 1_000_000 / 60, "{held}");
    }

    #[test]
    fn packets_are_held_where_some_are_joined() {
        for flows in [1, 2, 100, 128] {
            assert_eq!(held(&mut Patience::default(), 100_000, flows), 100_000);
        }
    }

    /// So many packets pass, and so many are held then to see whether they are joined.
    #[test]
    fn each_rest_is_followed_by_a_trial() {
        let mut patience = Patience::default();
        let mut keys = 1..;
        let mut held_in_a_row = |patience: &mut Patience| {
            let mut count = 0;
            while !patience.passes(keys.next().unwrap_or(0)) {
                patience.held();
                count += 1;
            }
            count
        };
        assert_eq!(held_in_a_row(&mut patience), PATIENCE);
        for _ in 0..3 {
            for number in 1..REST {
                assert_eq!(held_in_a_row(&mut patience), 0, "{number}");
            }
            assert_eq!(held_in_a_row(&mut patience), TRIAL);
        }
        // A packet that is joined begins it anew.
        patience.joined();
        assert_eq!(held_in_a_row(&mut patience), PATIENCE);
    }

    #[test]
    fn many_flows_that_become_few_are_held_again() {
        let mut patience = Patience::default();
        held(&mut patience, 100_000, 100_000);
        // Not before the next trial, unless a flow follows itself.
        assert!(held(&mut patience, 20_000, 100) > 20_000 - REST - 1);
        held(&mut patience, 100_000, 100_000);
        assert!(held(&mut patience, 100, 1) >= 99);
    }
}
