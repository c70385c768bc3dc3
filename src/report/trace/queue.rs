//! What waits for the client of a trace.

use std::collections::VecDeque;

/// The maximum number of octets that wait for a client.
pub const MAX_QUEUED: usize = 1 << 20;

/// Octets that wait for a client, in order.
#[derive(Debug)]
pub struct Queue(VecDeque<u8>);

impl Default for Queue {
    fn default() -> Self {
        Self(VecDeque::with_capacity(MAX_QUEUED))
    }
}

impl Queue {
    /// The number of octets that still fit.
    pub(super) fn room(&self) -> usize {
        MAX_QUEUED - self.0.len()
    }

    /// Adds octets, if they fit. Returns whether they did.
    pub fn push(&mut self, octets: &[u8]) -> bool {
        let fits = octets.len() <= self.room();
        if fits {
            self.0.extend(octets);
        }
        fits
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The octets that are next, or a part of them.
    pub fn front(&self) -> &[u8] {
        self.0.as_slices().0
    }

    /// Removes the first `len` octets, which the client has taken.
    pub fn taken(&mut self, len: usize) {
        self.0.drain(..len.min(self.0.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What does not fit is refused as a whole, and what was taken makes room.
    #[test]
    fn no_more_waits_than_fits() {
        let mut queue = Queue::default();
        assert!(queue.push(&[1; MAX_QUEUED - 1]));
        assert!(!queue.push(&[2, 3]));
        queue.taken(1);
        assert!(queue.push(&[2, 3]));
        assert!(!queue.push(&[4]));
        let mut all: Vec<u8> = Vec::new();
        while !queue.is_empty() {
            all.extend(queue.front());
            queue.taken(queue.front().len());
        }
        assert_eq!(all.len(), MAX_QUEUED);
        assert_eq!(all[MAX_QUEUED - 3..], [1, 2, 3]);
    }
}
