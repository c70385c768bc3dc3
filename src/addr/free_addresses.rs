//! The addresses of a pool that are free, as ranges.

use std::collections::BTreeMap;

/// Free addresses. Every operation costs a few steps in a tree, also in a pool of four million.
#[derive(Clone, Debug)]
pub(super) struct FreeAddresses {
    /// The last address of each range, by its first. No two ranges touch.
    ranges: BTreeMap<u32, u32>,
}

impl FreeAddresses {
    /// All from `first` to `last`.
    pub(super) fn new(first: u32, last: u32) -> Self {
        Self {
            ranges: BTreeMap::from([(first, last)]),
        }
    }

    /// The first free address from `start` on, and then from the first of the pool on.
    pub(super) fn next(&self, start: u32) -> Option<u32> {
        let before = self.ranges.range(..=start).next_back();
        if before.is_some_and(|(_, &to)| to >= start) {
            return Some(start);
        }
        let after = self.ranges.range(start..).next();
        after
            .or_else(|| self.ranges.first_key_value())
            .map(|(&from, _)| from)
    }

    /// Makes the addresses from `start` to `end` not free.
    pub(super) fn take(&mut self, start: u32, end: u32) {
        while let Some((&from, &to)) = self.ranges.range(..=end).next_back()
            && to >= start
        {
            self.ranges.remove(&from);
            if from < start {
                self.ranges.insert(from, start - 1);
            }
            if to > end {
                self.ranges.insert(end + 1, to);
            }
        }
    }

    /// Makes an address free, which is not, and joins it to the ranges beside it.
    pub(super) fn give_back(&mut self, address: u32) {
        let (mut from, mut to) = (address, address);
        if let Some((&before, &end)) = self.ranges.range(..address).next_back()
            && end + 1 == address
        {
            self.ranges.remove(&before);
            from = before;
        }
        if let Some(end) = address
            .checked_add(1)
            .and_then(|after| self.ranges.remove(&after))
        {
            to = end;
        }
        self.ranges.insert(from, to);
    }

    /// The number of free addresses. It takes a step for each range.
    pub(super) fn count(&self) -> u64 {
        let lengths = self.ranges.iter().map(|(first, last)| last - first + 1);
        lengths.map(u64::from).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranges that touch are joined, so that there are no more of them than there have to be.
    #[test]
    fn an_address_joins_the_ranges_beside_it() {
        const LAST: u32 = u32::MAX;
        let ranges = |free: &FreeAddresses| {
            let ranges = free.ranges.iter().map(|(from, to)| (*from, *to));
            ranges.collect::<Vec<_>>()
        };
        let mut free = FreeAddresses::new(0, LAST);
        free.take(10, 14);
        assert_eq!(ranges(&free), [(0, 9), (15, LAST)]);
        free.give_back(12);
        assert_eq!(ranges(&free), [(0, 9), (12, 12), (15, LAST)]);
        free.give_back(10);
        assert_eq!(ranges(&free), [(0, 10), (12, 12), (15, LAST)]);
        free.give_back(14);
        assert_eq!(ranges(&free), [(0, 10), (12, 12), (14, LAST)]);
        free.give_back(13);
        free.give_back(11);
        assert_eq!(ranges(&free), [(0, LAST)]);
        free.take(LAST, LAST);
        free.give_back(LAST);
        assert_eq!(ranges(&free), [(0, LAST)]);
    }
}
