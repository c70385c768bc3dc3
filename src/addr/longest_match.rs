//! A table of prefixes, searched by longest match.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// Prefixes by length, each with its value.
///
/// A search costs a probe for each length that occurs, with any number of prefixes; tables have few
/// lengths.
#[derive(Clone, Debug)]
pub(super) struct LongestMatch<K, V> {
    /// The longest first.
    levels: Vec<Level<K, V>>,
}

#[derive(Clone, Debug)]
struct Level<K, V> {
    length: u8,
    values: FxHashMap<K, V>,
}

impl<K: Eq + Hash, V> LongestMatch<K, V> {
    /// The value of the longest prefix, with its length; `key` makes a key of the first bits of an
    /// address, by their number.
    pub(super) fn longest(&self, key: impl Fn(u8) -> K) -> Option<(u8, &V)> {
        self.levels.iter().find_map(|level| {
            let value = level.values.get(&key(level.length))?;
            Some((level.length, value))
        })
    }

    /// The value of the longest prefix that is shorter than `length`, as
    /// [`longest`](Self::longest).
    pub(super) fn enclosing(&self, length: u8, key: impl Fn(u8) -> K) -> Option<(u8, &V)> {
        let mut shorter = self
            .levels
            .iter()
            .skip_while(|level| level.length >= length);
        shorter.find_map(|level| {
            let value = level.values.get(&key(level.length))?;
            Some((level.length, value))
        })
    }

    /// The value of this very prefix.
    pub(super) fn exact(&self, length: u8, key: &K) -> Option<&V> {
        let index = self.level(length).ok()?;
        self.levels[index].values.get(key)
    }

    /// Adds a prefix, or changes its value.
    pub(super) fn insert(&mut self, length: u8, key: K, value: V) {
        let index = self.level(length).unwrap_or_else(|index| {
            let values = FxHashMap::default();
            self.levels.insert(index, Level { length, values });
            index
        });
        self.levels[index].values.insert(key, value);
    }

    /// Every prefix, as length and key, with its value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, &K, &V)> {
        self.levels.iter().flat_map(|level| {
            let values = level.values.iter();
            values.map(|(key, value)| (level.length, key, value))
        })
    }

    /// The number of prefixes.
    pub(super) fn len(&self) -> usize {
        self.levels.iter().map(|level| level.values.len()).sum()
    }

    /// The index of the level of `length`, or else the one that it would have.
    fn level(&self, length: u8) -> Result<usize, usize> {
        self.levels
            .binary_search_by(|level| length.cmp(&level.length))
    }
}

impl<K, V> Default for LongestMatch<K, V> {
    fn default() -> Self {
        Self { levels: Vec::new() }
    }
}
