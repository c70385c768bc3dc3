//! Explicit address mappings, by longest match (RFC 7757).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    longest_match::LongestMatch,
    prefix::{Address, Prefix4, Prefix6},
};

/// One explicit address mapping: a prefix of each family
/// ([RFC 7757 section 3.1](https://www.rfc-editor.org/rfc/rfc7757#section-3.1)).
///
/// The bits after the prefix of an IPv4 address follow the prefix of the IPv6 address; if there is
/// more room, the rest is zero, and ignored on the way back (sections 3.3.1 and 3.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Eam {
    v4: Prefix4,
    v6: Prefix6,
}

impl Eam {
    /// The pair, if every IPv4 address of it has an IPv6 address (RFC 7757 section 3.2).
    pub fn new(v4: Prefix4, v6: Prefix6) -> Result<Self, SuffixTooShort> {
        if suffix6(v6.length()) < suffix4(v4.length()) {
            return Err(SuffixTooShort);
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

    /// The IPv6 address of an IPv4 address in the mapping (RFC 7757 section 3.3.1).
    pub fn v6_of(&self, address: Ipv4Addr) -> Ipv6Addr {
        v6_of(self.v4.length(), self.v6, address)
    }

    /// The IPv4 address of an IPv6 address in the mapping (RFC 7757 section 3.3.2).
    pub fn v4_of(&self, address: Ipv6Addr) -> Ipv4Addr {
        v4_of(self.v4, self.v6.length(), address)
    }
}

impl fmt::Display for Eam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.v4, self.v6)
    }
}

/// The IPv6 prefix leaves fewer bits for the host than the IPv4 prefix (RFC 7757 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuffixTooShort;

/// An address that does not come back to itself, since one mapping lies within another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The enclosing mapping.
    pub outer: Eam,
    /// An address of the enclosing mapping.
    pub host: IpAddr,
    /// The address that it is translated to.
    pub there: IpAddr,
    /// The address that `there` is translated to: another one than `host`.
    pub back: IpAddr,
}

/// Explicit mappings, found from either side by the longest prefix of that side (RFC 7757 section
/// 3.3).
///
/// The two sides are independent: with overlapping mappings, which section 5 allows, the way there
/// may take another mapping than the way back.
#[derive(Clone, Debug, Default)]
pub(super) struct EamTable {
    by_v4: LongestMatch<u32, Prefix6>,
    // As octets, not as a number: FxHasher multiplies a number half by half and keeps the low
    // halves of the products, so addresses that differ only in the top 16 bits of either half would
    // meet in a few buckets. Octets it mixes in full.
    by_v6: LongestMatch<[u8; 16], Prefix4>,
}

impl EamTable {
    /// Adds a mapping; one that has the same prefix on either side is returned if there is one, and
    /// nothing changes.
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
        self.to_v6_from(0, address)
    }

    /// The same, by prefixes of `shortest` bits or more.
    pub(super) fn to_v6_from(&self, shortest: u8, address: Ipv4Addr) -> Option<Ipv6Addr> {
        let (length, v6) = self.by_v4.longest(|length| key4(address, length))?;
        (length >= shortest).then(|| v6_of(length, *v6, address))
    }

    /// The IPv4 address of `address` by the longest IPv6 prefix (RFC 7757 section 3.3.2).
    pub(super) fn to_v4(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let (length, v4) = self.by_v6.longest(|length| key6(address, length))?;
        Some(v4_of(*v4, length, address))
    }

    /// The mapping by which an address is translated.
    pub(super) fn of(&self, address: IpAddr) -> Option<Eam> {
        match address {
            IpAddr::V4(address) => {
                let (length, &v6) = self.by_v4.longest(|length| key4(address, length))?;
                let v4 = Prefix4::from_first_bits(key4(address, length), length);
                Some(Eam { v4, v6 })
            }
            IpAddr::V6(address) => {
                let (length, &v4) = self.by_v6.longest(|length| key6(address, length))?;
                let v6 = Prefix6::from_first_bits(address.first_bits(length), length);
                Some(Eam { v4, v6 })
            }
        }
    }

    /// The number of mappings.
    pub(super) fn len(&self) -> usize {
        self.by_v4.len()
    }

    /// Whether `inner`, which is one of the mappings, lies within another so that the two
    /// directions disagree (RFC 7757 section 5). A mapping that says the same as the enclosing one
    /// does not, nor do several that exchange addresses of it. An enclosing one of all IPv4
    /// addresses is another spelling of a prefix, to which explicit mappings are exceptions: only
    /// those in its IPv6 prefix can disagree with it.
    ///
    /// Looked at are the first and the last address that the two share, so that it takes no longer
    /// for large ones. Only where a third mapping covers both ends can a disagreement stay hidden.
    pub(super) fn disagreement(&self, inner: Eam) -> Option<Disagreement> {
        self.disagreement_in_v4(inner)
            .or_else(|| self.disagreement_in_v6(inner))
    }

    /// The mapping that encloses `inner` in IPv4 has IPv6 addresses for its hosts as well. Those
    /// are translated to IPv4 addresses that do not come back to them.
    fn disagreement_in_v4(&self, Eam { v4, .. }: Eam) -> Option<Disagreement> {
        let key = |length| key4(v4.address(), length);
        let (length, &v6) = self.by_v4.enclosing(v4.length(), key)?;
        if length == 0 {
            return None;
        }
        let outer = Eam {
            v4: Prefix4::from_first_bits(key(length), length),
            v6,
        };
        [v4.address(), v4.last()].into_iter().find_map(|there| {
            let host = outer.v6_of(there);
            let back = self.to_v6(there).filter(|&back| back != host)?;
            let (length, _) = self.by_v6.longest(|length| key6(host, length))?;
            (length == v6.length()).then_some(Disagreement {
                outer,
                host: host.into(),
                there: there.into(),
                back: back.into(),
            })
        })
    }

    /// The same the other way round.
    fn disagreement_in_v6(&self, Eam { v6, .. }: Eam) -> Option<Disagreement> {
        let (length, &v4) = self
            .by_v6
            .enclosing(v6.length(), |length| key6(v6.address(), length))?;
        let outer = Eam {
            v4,
            v6: Prefix6::from_first_bits(v6.address().first_bits(length), length),
        };
        [v6.address(), v6.last()].into_iter().find_map(|address| {
            let host = outer.v4_of(address);
            // Without surplus bits, which no IPv4 address is translated to.
            let there = outer.v6_of(host);
            let back = self.to_v4(there).filter(|&back| back != host)?;
            (v6.contains(there) && self.to_v6(host) == Some(there)).then_some(Disagreement {
                outer,
                host: host.into(),
                there: there.into(),
                back: back.into(),
            })
        })
    }

    /// Every mapping, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Eam> {
        self.by_v4.iter().map(|(length, &network, &v6)| Eam {
            v4: Prefix4::from_first_bits(network, length),
            v6,
        })
    }
}

/// The bits of `address` behind the first `length`, put after `v6`; what is left is zero.
fn v6_of(length: u8, v6: Prefix6, address: Ipv4Addr) -> Ipv6Addr {
    let suffix = address.to_bits() & u32::MAX.checked_shr(length.into()).unwrap_or(0);
    let suffix = u128::from(suffix)
        .checked_shl(surplus(length, v6.length()))
        .unwrap_or(0);
    Ipv6Addr::from_bits(v6.address().to_bits() | suffix)
}

/// The bits of `address` behind the first `length`, put after `v4`; what has no room is ignored.
fn v4_of(v4: Prefix4, length: u8, address: Ipv6Addr) -> Ipv4Addr {
    let suffix = address.to_bits() & u128::MAX.checked_shr(length.into()).unwrap_or(0);
    let suffix = suffix
        .checked_shr(surplus(v4.length(), length))
        .unwrap_or(0);
    // Without the surplus, the suffix is as long as the IPv4 one: at most 32 bits.
    Ipv4Addr::from_bits(v4.address().to_bits() | suffix as u32)
}

/// The first `length` bits of `address`. Host bits are shifted out, not masked: the low bits of a
/// key spread best.
fn key4(address: Ipv4Addr, length: u8) -> u32 {
    address.first_bits(length)
}

/// The first `length` bits of `address`.
fn key6(address: Ipv6Addr, length: u8) -> [u8; 16] {
    address.first_bits(length).to_ne_bytes()
}

/// Host bits behind a prefix of `length` bits.
fn suffix4(length: u8) -> u8 {
    32 - length
}

/// Host bits behind a prefix of `length` bits.
fn suffix6(length: u8) -> u8 {
    128 - length
}

/// The number of host bits that the IPv6 prefix of a mapping leaves beyond those of IPv4, 0 to 128.
fn surplus(length4: u8, length6: u8) -> u32 {
    u32::from(suffix6(length6)) - u32::from(suffix4(length4))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::hash::{BuildHasher, Hash};

    use proptest::{collection::vec, prelude::*};
    use rustc_hash::FxBuildHasher;

    use super::*;

    fn eam(v4: &str, v6: &str) -> Eam {
        Eam::new(v4.parse().unwrap(), v6.parse().unwrap()).unwrap()
    }

    fn table(pairs: &[(&str, &str)]) -> EamTable {
        let mut table = EamTable::default();
        for (v4, v6) in pairs {
            table.insert(eam(v4, v6)).unwrap();
        }
        table
    }

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    /// The table of RFC 7757 section 3.1.
    fn rfc_table() -> EamTable {
        table(&[
            ("192.0.2.1", "2001:db8:aaaa::"),
            ("192.0.2.2/32", "2001:db8:bbbb::b/128"),
            ("192.0.2.16/28", "2001:db8:cccc::/124"),
            ("192.0.2.128/26", "2001:db8:dddd::/64"),
            ("192.0.2.192/29", "2001:db8:eeee:8::/62"),
            ("192.0.2.224/31", "64:ff9b::/127"),
        ])
    }

    /// The vectors of RFC 7757 section 3.1.
    #[test]
    fn vectors() {
        let table = rfc_table();
        for (host4, host6) in [
            ("192.0.2.1", "2001:db8:aaaa::"),
            ("192.0.2.2", "2001:db8:bbbb::b"),
            ("192.0.2.16", "2001:db8:cccc::"),
            ("192.0.2.24", "2001:db8:cccc::8"),
            ("192.0.2.31", "2001:db8:cccc::f"),
            ("192.0.2.128", "2001:db8:dddd::"),
            ("192.0.2.152", "2001:db8:dddd:0:6000::"),
            ("192.0.2.183", "2001:db8:dddd:0:dc00::"),
            ("192.0.2.191", "2001:db8:dddd:0:fc00::"),
            ("192.0.2.193", "2001:db8:eeee:8:8000::"),
            ("192.0.2.199", "2001:db8:eeee:b:8000::"),
            ("192.0.2.224", "64:ff9b::"),
            ("192.0.2.225", "64:ff9b::1"),
        ] {
            assert_eq!(table.to_v6(v4(host4)), Some(v6(host6)), "{host4}");
            assert_eq!(table.to_v4(v6(host6)), Some(v4(host4)), "{host6}");
        }
        for host in [
            "192.0.2.0",
            "192.0.2.3",
            "192.0.2.15",
            "192.0.2.32",
            "192.0.2.200",
            "192.0.2.226",
        ] {
            assert_eq!(table.to_v6(v4(host)), None, "{host}");
        }
        for host in [
            "2001:db8:aaaa::1",
            "2001:db8:bbbb::",
            "2001:db8:cccc::10",
            "2001:db8:dddd:1::",
            "2001:db8:eeee:c::",
            "64:ff9b::2",
        ] {
            assert_eq!(table.to_v4(v6(host)), None, "{host}");
        }
    }

    /// RFC 7757 section 3.3.2: surplus bits do not matter, suffix bits do.
    #[test]
    fn surplus_bits_are_ignored() {
        let table = rfc_table();
        for (host6, host4) in [
            ("2001:db8:dddd:0:6000::1", "192.0.2.152"),
            ("2001:db8:dddd:0:63ff:ffff:ffff:ffff", "192.0.2.152"),
            ("2001:db8:dddd:0:6400::", "192.0.2.153"),
            ("2001:db8:eeee:8:8123:4567:89ab:cdef", "192.0.2.193"),
        ] {
            assert_eq!(table.to_v4(v6(host6)), Some(v4(host4)), "{host6}");
        }
    }

    /// RFC 7757 section 3.2, at every pair of lengths.
    #[test]
    fn ipv6_suffix_is_not_shorter() {
        for n in 0..=32 {
            for m in 0..=128 {
                let v4 = Prefix4::from_first_bits(0, n);
                let v6 = Prefix6::from_first_bits(0, m);
                let fits = 128 - i32::from(m) >= 32 - i32::from(n);
                assert_eq!(Eam::new(v4, v6).is_ok(), fits, "{v4} {v6}");
            }
        }
    }

    /// RFC 7757 section 5: the longest prefix decides, on either side without regard to the other.
    #[test]
    fn each_side_has_its_own_longest_match() {
        let table = table(&[
            ("192.0.2.0/24", "2001:db8::/64"),
            // Longer in IPv4; its IPv6 prefix is longer too, and within the first one's.
            ("192.0.2.7", "2001:db8::7"),
            // Longer in IPv4, shorter in IPv6.
            ("192.0.2.128/25", "2001:db8::/32"),
        ]);
        assert_eq!(table.to_v6(v4("192.0.2.7")), Some(v6("2001:db8::7")));
        assert_eq!(table.to_v4(v6("2001:db8::7")), Some(v4("192.0.2.7")));
        assert_eq!(table.to_v4(v6("2001:db8::8")), Some(v4("192.0.2.0")));

        // To 2001:db8::/32 by the /25; back by the /64, where the same bits mean another host.
        assert_eq!(table.to_v6(v4("192.0.2.129")), Some(v6("2001:db8:200::")));
        assert_eq!(table.to_v6(v4("192.0.2.128")), Some(v6("2001:db8::")));
        assert_eq!(table.to_v4(v6("2001:db8::")), Some(v4("192.0.2.0")));
        assert_eq!(table.to_v4(v6("2001:db8:200::")), Some(v4("192.0.2.129")));
    }

    /// The lengths at which all bits are suffix, or none is.
    #[test]
    fn extreme_lengths() {
        let everyone = table(&[("0.0.0.0/0", "2001:db8::/96")]);
        assert_eq!(
            everyone.to_v6(v4("255.0.0.1")),
            Some(v6("2001:db8::ff00:1"))
        );
        assert_eq!(
            everyone.to_v4(v6("2001:db8::ff00:1")),
            Some(v4("255.0.0.1"))
        );
        let one_to_everyone = table(&[("192.0.2.1", "::/0")]);
        assert_eq!(one_to_everyone.to_v6(v4("192.0.2.1")), Some(v6("::")));
        assert_eq!(
            one_to_everyone.to_v4(v6("2001:db8::1")),
            Some(v4("192.0.2.1"))
        );
        let top = table(&[("0.0.0.0/0", "::/0")]);
        assert_eq!(top.to_v6(v4("192.0.2.1")), Some(v6("c000:201::")));
        assert_eq!(top.to_v4(v6("c000:201::1")), Some(v4("192.0.2.1")));
    }

    #[test]
    fn the_same_prefix_again_is_refused_with_the_first_mapping() {
        let first = eam("192.0.2.0/24", "2001:db8::/120");
        let mut table = EamTable::default();
        table.insert(first).unwrap();
        for again in [
            first,
            eam("192.0.2.0/24", "2001:db8:1::/120"),
            eam("198.51.100.0/24", "2001:db8::/120"),
        ] {
            assert_eq!(table.insert(again), Err(first));
        }
        // Nothing of what was refused is left, and other lengths are other prefixes.
        assert_eq!(table.to_v4(v6("2001:db8:1::1")), None);
        assert_eq!(table.to_v6(v4("198.51.100.1")), None);
        let longer = eam("192.0.2.0/25", "2001:db8::/121");
        table.insert(longer).unwrap();
        let mut all: Vec<_> = table.iter().collect();
        all.sort();
        assert_eq!(all, [first, longer]);
        assert_eq!(first.to_string(), "192.0.2.0/24 2001:db8::/120");
    }

    /// Bit `index` of an address, from the left.
    fn bit(octets: &[u8], index: usize) -> bool {
        octets[index / 8] & (0x80 >> (index % 8)) != 0
    }

    /// RFC 7757 sections 3.3.1 and 3.3.2 bit by bit: prefix, then the suffix of the other, then
    /// zeros or nothing.
    fn rejoin<const N: usize>(
        prefix: [u8; N],
        length: u8,
        other: &[u8],
        other_length: u8,
    ) -> [u8; N] {
        let (length, other_length) = (usize::from(length), usize::from(other_length));
        let mut joined = [0; N];
        for index in 0..N * 8 {
            let other_index = (index + other_length).wrapping_sub(length);
            let set = if index < length {
                bit(&prefix, index)
            } else {
                other_index < other.len() * 8 && bit(other, other_index)
            };
            joined[index / 8] |= u8::from(set) << (7 - index % 8);
        }
        joined
    }

    /// Both answers for one address of each family, by looking at every mapping.
    fn linear(
        eams: &[Eam],
        host4: Ipv4Addr,
        host6: Ipv6Addr,
    ) -> (Option<Ipv6Addr>, Option<Ipv4Addr>) {
        let to_v6 = eams
            .iter()
            .filter(|eam| eam.v4.contains(host4))
            .max_by_key(|eam| eam.v4.length())
            .map(|Eam { v4, v6 }| {
                rejoin(
                    v6.address().octets(),
                    v6.length(),
                    &host4.octets(),
                    v4.length(),
                )
                .into()
            });
        let to_v4 = eams
            .iter()
            .filter(|eam| eam.v6.contains(host6))
            .max_by_key(|eam| eam.v6.length())
            .map(|Eam { v4, v6 }| {
                rejoin(
                    v4.address().octets(),
                    v4.length(),
                    &host6.octets(),
                    v6.length(),
                )
                .into()
            });
        (to_v6, to_v4)
    }

    /// Numbers with few bits set, so that prefixes of them nest and repeat.
    fn sparse() -> impl Strategy<Value = u128> {
        vec(0..128_u32, 0..3).prop_map(|bits| bits.iter().fold(0, |sum, bit| sum | 1 << bit))
    }

    /// A mapping whose IPv6 prefix length is any that fits.
    fn any_eam() -> impl Strategy<Value = Eam> {
        (sparse(), 0..=32_u8, sparse(), 0..=128_u8).prop_map(|(a4, n, a6, m)| {
            let m = m.min(96 + n);
            let a4 = Ipv4Addr::from_bits((a4 >> 96) as u32);
            let v4 = Prefix4::from_first_bits(a4.first_bits(n), n);
            let v6 = Prefix6::from_first_bits(Ipv6Addr::from_bits(a6).first_bits(m), m);
            Eam::new(v4, v6).unwrap()
        })
    }

    proptest! {
        /// RFC 7757 section 3.3: a search finds what looking at every mapping finds.
        #[test]
        fn longest_match_equals_a_linear_search(
            candidates in vec(any_eam(), 0..40),
            hosts in vec((sparse(), sparse()), 1..40),
        ) {
            let mut table = EamTable::default();
            let mut eams: Vec<Eam> = Vec::new();
            for eam in candidates {
                let same = eams.iter().find(|one| one.v4 == eam.v4)
                    .or_else(|| eams.iter().find(|one| one.v6 == eam.v6)).copied();
                prop_assert_eq!(table.insert(eam).err(), same);
                if same.is_none() {
                    eams.push(eam);
                }
            }
            for (host4, host6) in hosts {
                let host4 = Ipv4Addr::from_bits((host4 >> 96) as u32);
                let host6 = Ipv6Addr::from_bits(host6);
                let (to_v6, to_v4) = linear(&eams, host4, host6);
                prop_assert_eq!(table.to_v6(host4), to_v6);
                prop_assert_eq!(table.to_v4(host6), to_v4);
            }
            let mut all: Vec<Eam> = table.iter().collect();
            all.sort();
            eams.sort();
            prop_assert_eq!(all, eams);
        }
    }

    proptest! {
        // A case is 3,729 pairs.
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// RFC 7757 section 3.3: there and back is the same host, at every pair of lengths.
        #[test]
        fn there_and_back_at_every_pair_of_lengths(host: u32, network: u128, surplus_bits: u128) {
            for n in 0..=32_u8 {
                for m in 0..=96 + n {
                    let host = Ipv4Addr::from_bits(host);
                    let v4 = Prefix4::from_first_bits(host.first_bits(n), n);
                    let v6 = Prefix6::around(Ipv6Addr::from_bits(network), m);
                    let mut table = EamTable::default();
                    table.insert(Eam::new(v4, v6).unwrap()).unwrap();

                    let there = table.to_v6(host).unwrap();
                    prop_assert!(v6.contains(there));
                    let want = rejoin(v6.address().octets(), m, &host.octets(), n);
                    prop_assert_eq!(there.octets(), want, "{} {}", v4, v6);
                    prop_assert_eq!(table.to_v4(there), Some(host), "{} {}", v4, v6);

                    let used = u32::from(m) + u32::from(32 - n);
                    let surplus = surplus_bits.checked_shr(used).unwrap_or(0);
                    let noisy = Ipv6Addr::from_bits(there.to_bits() | surplus);
                    prop_assert_eq!(table.to_v4(noisy), Some(host), "{} {}", v4, v6);
                }
            }
        }
    }

    /// RFC 7757 section 5 leaves overlapping mappings to the operator. Those that lie
    /// within each other are told apart by whether addresses come back to themselves.
    #[test]
    fn mappings_that_disagree() {
        let outer = ("192.168.2.0/30", "2001:db8:1::/126");
        for (inner, expected) in [
            // Says the same, for a host and for a network.
            (&[("192.168.2.1", "2001:db8:1::1")][..], ""),
            (&[("192.168.2.2/31", "2001:db8:1::2/127")], ""),
            // Another host of the network, and one from outside of it.
            (
                &[("192.168.2.1", "2001:db8:1::3")],
                "2001:db8:1::1 192.168.2.1 2001:db8:1::3",
            ),
            (
                &[("192.168.2.1", "2001:db8:2::1")],
                "2001:db8:1::1 192.168.2.1 2001:db8:2::1",
            ),
            (
                &[("192.168.3.1", "2001:db8:1::1")],
                "192.168.2.1 2001:db8:1::1 192.168.3.1",
            ),
            (
                &[("192.168.3.0/31", "2001:db8:1::2/127")],
                "192.168.2.2 2001:db8:1::2 192.168.3.0",
            ),
            // Two hosts that change places: each comes back to itself.
            (
                &[
                    ("192.168.2.1", "2001:db8:1::2"),
                    ("192.168.2.2", "2001:db8:1::1"),
                ],
                "",
            ),
            // Not within.
            (&[("192.168.3.1", "2001:db8:2::1")], ""),
        ] {
            let table = table(&[&[outer][..], inner].concat());
            assert_eq!(table.disagreement(eam(outer.0, outer.1)), None);
            for (v4, v6) in inner {
                let found = table.disagreement(eam(v4, v6));
                let text = found.map_or(String::new(), |found| {
                    assert_eq!(found.outer, eam(outer.0, outer.1));
                    format!("{} {} {}", found.host, found.there, found.back)
                });
                assert_eq!(text, expected, "{v4} {v6}");
            }
        }
        // In bits that the enclosing mapping has no use for, or does.
        let surplus = ("192.0.2.0/24", "2001:db8::/64");
        for (inner, disagrees) in [
            (("203.0.113.7", "2001:db8::7"), false),
            (("203.0.113.7", "2001:db8:0:0:700::"), true),
            (("192.0.2.7", "2001:db8:0:0:700::"), false),
            (("192.0.2.7", "2001:db8:0:0:700::/72"), false),
        ] {
            let found = table(&[surplus, inner]).disagreement(eam(inner.0, inner.1));
            assert_eq!(found.is_some(), disagrees, "{inner:?}");
        }
    }

    /// A mapping of hosts in 192.0.2.0/28 and 2001:db8::/120.
    fn small_eam() -> impl Strategy<Value = Eam> {
        (0..16_u32, 28..=32_u8, 0..256_u128, 120..=128_u8).prop_map(|(a4, n, a6, m)| {
            let m = m.min(96 + n);
            let a4 = Ipv4Addr::from_bits(0xc000_0200 | a4);
            let a6 = Ipv6Addr::from_bits(0x2001_0db8 << 96 | a6);
            let v4 = Prefix4::from_first_bits(a4.first_bits(n), n);
            let v6 = Prefix6::from_first_bits(a6.first_bits(m), m);
            Eam::new(v4, v6).unwrap()
        })
    }

    proptest! {
        /// RFC 7757 section 5: what is said to disagree does; where nothing is, each address comes
        /// back to itself.
        #[test]
        fn disagreements_are_found(candidates in vec(small_eam(), 0..6)) {
            let mut table = EamTable::default();
            for eam in candidates {
                let _ = table.insert(eam);
            }
            let mut found = false;
            for eam in table.iter() {
                let Some(disagreement) = table.disagreement(eam) else {
                    continue;
                };
                found = true;
                let Disagreement { outer, host, there, back } = disagreement;
                let encloses4 = outer.v4.contains(eam.v4.address());
                prop_assert!(encloses4 || outer.v6.contains(eam.v6.address()));
                prop_assert!(table.iter().any(|other| other == outer));
                prop_assert_ne!(host, back);
                let across = |address| match address {
                    IpAddr::V4(address) => table.to_v6(address).map(IpAddr::from),
                    IpAddr::V6(address) => table.to_v4(address).map(IpAddr::from),
                };
                prop_assert_eq!((across(host), across(there)), (Some(there), Some(back)));
            }
            let comes_back4 = (0..16).all(|host| {
                let host = Ipv4Addr::from_bits(0xc000_0200 | host);
                table.to_v6(host).is_none_or(|there| table.to_v4(there) == Some(host))
            });
            let comes_back6 = (0..256).all(|host| {
                let host = Ipv6Addr::from_bits(0x2001_0db8 << 96 | host);
                let by = table.iter().filter(|eam| eam.v6.contains(host));
                let by = by.max_by_key(|eam| eam.v6.length());
                // Bits that it has no use for do not come back.
                let by = by.filter(|eam| eam.v6_of(eam.v4_of(host)) == host);
                by.is_none_or(|eam| table.to_v6(eam.v4_of(host)) == Some(host))
            });
            let all_come_back = comes_back4 && comes_back6;
            prop_assert!(!(found && all_come_back));
            // Of more than two, a third may hide both ends of what two disagree about.
            prop_assert!(found || all_come_back || table.iter().count() > 2);
        }
    }

    /// The number of 65,536 keys that have a place of their own among 65,536; by chance it is 63 %.
    fn places<K: Hash>(key: impl Fn(u32) -> K) -> usize {
        let hasher = FxBuildHasher;
        let mut taken = vec![false; 0x10000];
        for number in 0..=0xffff {
            taken[hasher.hash_one(key(number)) as usize & 0xffff] = true;
        }
        taken.iter().filter(|taken| **taken).count()
    }

    /// Networks and hosts spread over the table, wherever in the address they differ: a search
    /// costs the same for any number of mappings.
    #[test]
    fn keys_spread_wherever_they_differ() {
        for length in (16..=32).step_by(4) {
            let host = |number| Ipv4Addr::from_bits(0x0a00_0000 ^ (number << (32 - length)));
            assert!(
                places(|number| key4(host(number), length)) > 30_000,
                "/{length}"
            );
            assert!(
                places(|number| key4(host(number), 32)) > 30_000,
                "hosts by /{length}"
            );
        }
        for length in (16..=128).step_by(8) {
            let host = |number| {
                let network = u128::from(number) << (128 - u32::from(length));
                Ipv6Addr::from_bits(v6("2001:db8::1").to_bits() ^ network)
            };
            assert!(
                places(|number| key6(host(number), length)) > 30_000,
                "/{length}"
            );
            assert!(
                places(|number| key6(host(number), 128)) > 30_000,
                "hosts by /{length}"
            );
        }
    }
}
