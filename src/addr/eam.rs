//! Explicit address mappings, by longest match (RFC 7757).

use std::{
    fmt,
    hash::Hash,
    net::{Ipv4Addr, Ipv6Addr},
};

use rustc_hash::FxHashMap;

use super::{
    Prefix4, Prefix6,
    prefix::{network4, network6},
};

/// One explicit address mapping: a prefix of each family
/// ([RFC 7757 section 3.1](https://www.rfc-editor.org/rfc/rfc7757#section-3.1)).
///
/// What follows the prefix in an IPv4 address follows it in the IPv6 address as well; if there is more room, the rest is
/// zero, and ignored on the way back (sections 3.3.1 and 3.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Eam {
    v4: Prefix4,
    v6: Prefix6,
}

impl Eam {
    /// The pair, if every IPv4 address of it has an IPv6 address (RFC 7757 section 3.2).
    pub fn new(v4: Prefix4, v6: Prefix6) -> Result<Self, EamError> {
        if suffix6(v6.length()) < suffix4(v4.length()) {
            return Err(EamError::SuffixTooShort { v4, v6 });
        }
        Ok(Self { v4, v6 })
    }

    /// The IPv4 prefix.
    pub const fn v4(&self) -> Prefix4 {
        self.v4
    }

    /// The IPv6 prefix.
    pub const fn v6(&self) -> Prefix6 {
        self.v6
    }
}

impl fmt::Display for Eam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.v4, self.v6)
    }
}

/// Why two prefixes cannot be mapped to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EamError {
    /// The IPv6 prefix leaves fewer bits for the host than the IPv4 prefix (RFC 7757 section 3.2).
    SuffixTooShort {
        /// The IPv4 prefix.
        v4: Prefix4,
        /// The IPv6 prefix.
        v6: Prefix6,
    },
}

impl fmt::Display for EamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::SuffixTooShort { v4, v6 } = self;
        let bits = suffix4(v4.length());
        write!(
            f,
            "{v4} has {bits} host bits, {v6} only {}: expected an IPv6 prefix length of at most {}",
            suffix6(v6.length()),
            128 - bits
        )
    }
}

impl std::error::Error for EamError {}

/// Explicit mappings, found from either side by the longest prefix of that side (RFC 7757 section 3.3).
///
/// The two sides are independent: with overlapping mappings, which section 5 allows, the way there may take another
/// mapping than the way back.
#[derive(Clone, Debug, Default)]
pub(super) struct EamTable {
    by_v4: LongestMatch<u32, Prefix6>,
    // As octets, not as a number: FxHasher multiplies a number half by half and keeps the low halves of the products, so
    // addresses that differ only in the top 16 bits of either half would meet in a few buckets. Octets it mixes in full.
    by_v6: LongestMatch<[u8; 16], Prefix4>,
}

impl EamTable {
    /// Adds a mapping; one that has the same prefix on either side is returned if there is one, and nothing changes.
    pub(super) fn insert(&mut self, eam: Eam) -> Result<(), Eam> {
        let Eam { v4, v6 } = eam;
        let key4 = key4(v4.address(), v4.length());
        let key6 = key6(v6.address(), v6.length());
        if let Some(&v6) = self.by_v4.exact(v4.length(), &key4) {
            return Err(Eam { v4, v6 });
        }
        if let Some(&v4) = self.by_v6.exact(v6.length(), &key6) {
            return Err(Eam { v4, v6 });
        }
        self.by_v4.insert(v4.length(), key4, v6);
        self.by_v6.insert(v6.length(), key6, v4);
        Ok(())
    }

    /// The IPv6 address of `address` by the longest IPv4 prefix (RFC 7757 section 3.3.1).
    pub(super) fn to_v6(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        let (length, v6) = self.by_v4.longest(|length| key4(address, length))?;
        let suffix = address.to_bits() & u32::MAX.checked_shr(length.into()).unwrap_or(0);
        let suffix = u128::from(suffix)
            .checked_shl(surplus(length, v6.length()))
            .unwrap_or(0);
        Some(Ipv6Addr::from_bits(v6.address().to_bits() | suffix))
    }

    /// The IPv4 address of `address` by the longest IPv6 prefix (RFC 7757 section 3.3.2).
    pub(super) fn to_v4(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let (length, v4) = self.by_v6.longest(|length| key6(address, length))?;
        let suffix = address.to_bits() & u128::MAX.checked_shr(length.into()).unwrap_or(0);
        let suffix = suffix
            .checked_shr(surplus(v4.length(), length))
            .unwrap_or(0);
        // Without the surplus, the suffix is as long as the IPv4 one: at most 32 bits.
        Some(Ipv4Addr::from_bits(v4.address().to_bits() | suffix as u32))
    }

    /// Every mapping, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Eam> {
        self.by_v4.iter().map(|(length, &network, &v6)| Eam {
            v4: Prefix4::from_network(network, length),
            v6,
        })
    }
}

/// Prefixes by length, each with its value.
///
/// A search costs a probe for each length that occurs, whatever the number of prefixes; tables have few lengths.
#[derive(Clone, Debug)]
struct LongestMatch<K, V> {
    /// The longest first.
    levels: Vec<Level<K, V>>,
}

#[derive(Clone, Debug)]
struct Level<K, V> {
    length: u8,
    values: FxHashMap<K, V>,
}

impl<K: Eq + Hash, V> LongestMatch<K, V> {
    /// The value of the longest prefix, with its length; `key` makes the key of the first so many bits of an address.
    fn longest(&self, key: impl Fn(u8) -> K) -> Option<(u8, &V)> {
        self.levels.iter().find_map(|level| {
            let value = level.values.get(&key(level.length))?;
            Some((level.length, value))
        })
    }

    /// The value of this very prefix.
    fn exact(&self, length: u8, key: &K) -> Option<&V> {
        let index = self.level(length).ok()?;
        self.levels[index].values.get(key)
    }

    /// Adds a prefix, or changes its value.
    fn insert(&mut self, length: u8, key: K, value: V) {
        let index = self.level(length).unwrap_or_else(|index| {
            let values = FxHashMap::default();
            self.levels.insert(index, Level { length, values });
            index
        });
        self.levels[index].values.insert(key, value);
    }

    /// Every prefix, as length and key, with its value.
    fn iter(&self) -> impl Iterator<Item = (u8, &K, &V)> {
        self.levels.iter().flat_map(|level| {
            let values = level.values.iter();
            values.map(|(key, value)| (level.length, key, value))
        })
    }

    /// Where the level of `length` is, or else where it would have to be.
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

/// The first `length` bits of `address`. Host bits are shifted out, not masked: the low bits of a key spread best.
fn key4(address: Ipv4Addr, length: u8) -> u32 {
    network4(address, length)
}

/// The first `length` bits of `address`.
fn key6(address: Ipv6Addr, length: u8) -> [u8; 16] {
    network6(address, length).to_ne_bytes()
}

/// Host bits behind a prefix of `length` bits.
fn suffix4(length: u8) -> u8 {
    32 - length
}

/// Host bits behind a prefix of `length` bits.
fn suffix6(length: u8) -> u8 {
    128 - length
}

/// How many more host bits the IPv6 prefix of a mapping leaves, 0 to 128.
fn surplus(length4: u8, length6: u8) -> u32 {
    u32::from(suffix6(length6)) - u32::from(suffix4(length4))
}
