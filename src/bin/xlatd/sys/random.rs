//! Unpredictable numbers.

use std::hash::{BuildHasher, RandomState};

/// A random number, derived from the keys that the kernel gave this process.
pub(crate) fn seed() -> u64 {
    RandomState::new().hash_one(())
}
