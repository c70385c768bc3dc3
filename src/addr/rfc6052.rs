//! IPv4 addresses in IPv6 prefixes (RFC 6052).

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::{Prefix6, special};

/// 64:ff9b::/96, the well-known prefix (RFC 6052 section 2.1).
const WELL_KNOWN: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

/// A prefix that IPv4 addresses are embedded in: /32, /40, /48, /56, /64 or /96
/// ([RFC 6052 section 2.2](https://www.rfc-editor.org/rfc/rfc6052#section-2.2)).
///
/// ```text
///  PL   0-------------32--40--48--56--64--72--80--88--96--104---------127
///  32       prefix     |  IPv4 address | u |          suffix
///  40       prefix         | IPv4      | u | v4|      suffix
///  48       prefix             | IPv4  | u |  v4   |  suffix
///  56       prefix                 | v4| u |   IPv4    | suffix
///  64       prefix                     | u |  IPv4 address | suffix
///  96       prefix                                     |  IPv4 address
/// ```
///
/// `u` is the reserved octet, bits 64 to 71. It and the suffix are zero in addresses that are
/// written, and ignored in those that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nat64Prefix {
    prefix: Prefix6,
    /// Distance of the IPv4 address from the low end, in bits, if the reserved octet were not
    /// there.
    shift: u8,
    /// Width of the reserved octet, in bits: 8, or 0 in a /96, where it is part of the prefix.
    reserved: u8,
}

impl Nat64Prefix {
    /// Checks the length, and that addresses in the prefix can be a host's
    /// ([`special::is_illegal_v6`]).
    pub fn new(prefix: Prefix6) -> Result<Self, Nat64PrefixError> {
        let length = prefix.length();
        if !matches!(length, 32 | 40 | 48 | 56 | 64 | 96) {
            return Err(Nat64PrefixError::Length);
        }
        // The ranges are decided by the first 32 bits, which every prefix has.
        if special::is_illegal_v6(prefix.address()) {
            return Err(Nat64PrefixError::NotUnicast);
        }
        Ok(Self {
            prefix,
            shift: 96 - length,
            reserved: if length == 96 { 0 } else { 8 },
        })
    }

    /// The prefix.
    pub const fn prefix(&self) -> Prefix6 {
        self.prefix
    }

    /// `address` in this prefix; the suffix is zero. Any address is embedded: which ones may be is
    /// the caller's to say.
    pub fn embed(&self, address: Ipv4Addr) -> Ipv6Addr {
        let embedded = u128::from(address.to_bits()) << self.shift;
        // What lies in the low half makes room for the reserved octet.
        let high = embedded & HIGH_HALF;
        let low = (embedded & LOW_HALF) >> self.reserved;
        Ipv6Addr::from_bits(self.prefix.address().to_bits() | high | low)
    }

    /// The IPv4 address in `address`, or `None` if that is not in this prefix.
    ///
    /// The algorithm of RFC 6052 section 2.3 only takes the IPv4 address out: neither the reserved
    /// octet nor the suffix is looked at.
    pub fn extract(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        if !self.prefix.contains(address) {
            return None;
        }
        let bits = address.to_bits();
        let low = (bits << self.reserved) & LOW_HALF;
        let embedded = ((bits & HIGH_HALF) | low) >> self.shift;
        // The cast cuts off the prefix.
        Some(Ipv4Addr::from_bits(embedded as u32))
    }

    /// Whether this is 64:ff9b::/96 (RFC 6052 section 2.1). Its neighbour for local use,
    /// 64:ff9b:1::/48 (RFC 8215), is not.
    pub fn is_well_known(&self) -> bool {
        self.prefix.length() == 96 && self.prefix.address() == WELL_KNOWN
    }

    /// Whether this is a /96 with a bit of 64 to 71 set, against RFC 6052 section 2.2. It works,
    /// but is worth a warning.
    pub fn has_reserved_bits(&self) -> bool {
        self.prefix.address().octets()[8] != 0
    }
}

impl fmt::Display for Nat64Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix.fmt(f)
    }
}

/// The reason that a prefix cannot embed IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat64PrefixError {
    /// The length is none of 32, 40, 48, 56, 64, 96.
    Length,
    /// Multicast, link-local or in ::/8 (see [`special::is_illegal_v6`]).
    NotUnicast,
}

const LOW_HALF: u128 = u64::MAX as u128;
const HIGH_HALF: u128 = !LOW_HALF;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use proptest::prelude::*;

    use super::*;

    const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

    fn nat64(prefix: &str) -> Nat64Prefix {
        Nat64Prefix::new(prefix.parse().unwrap()).unwrap()
    }

    /// The prefix of `length` bits that `bits` begins with, in 2000::/3.
    fn prefix_of(bits: u128, length: u8) -> Nat64Prefix {
        let bits = bits >> 3 | 1 << 125;
        let network = bits >> (128 - length) << (128 - length);
        Nat64Prefix::new(Prefix6::new(Ipv6Addr::from_bits(network), length).unwrap()).unwrap()
    }

    /// The figure of RFC 6052 section 2.2, octet by octet: where the IPv4 octets lie.
    fn places(length: u8) -> [usize; 4] {
        match length {
            32 => [4, 5, 6, 7],
            40 => [5, 6, 7, 9],
            48 => [6, 7, 9, 10],
            56 => [7, 9, 10, 11],
            64 => [9, 10, 11, 12],
            96 => [12, 13, 14, 15],
            _ => unreachable!(),
        }
    }

    /// The vectors of RFC 6052 section 2.4, there and back.
    #[test]
    fn vectors() {
        let host = Ipv4Addr::new(192, 0, 2, 33);
        for (prefix, address) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::c000:221"),
            ("64:ff9b::/96", "64:ff9b::c000:221"),
        ] {
            let address: Ipv6Addr = address.parse().unwrap();
            assert_eq!(nat64(prefix).embed(host), address, "{prefix}");
            assert_eq!(nat64(prefix).extract(address), Some(host), "{prefix}");
        }
    }

    /// RFC 6052 section 2.2
    #[test]
    fn six_lengths_only() {
        for length in 0..=128 {
            // No host bits at any length, and unicast at those that are allowed.
            let prefix = Prefix6::new(Ipv6Addr::from_bits(0), length).unwrap();
            let is_refused = Nat64Prefix::new(prefix) == Err(Nat64PrefixError::Length);
            assert_eq!(is_refused, !LENGTHS.contains(&length), "{length}");
        }
    }

    #[test]
    fn prefixes_that_no_host_can_be_in_are_refused() {
        for prefix in [
            "::/96",
            "::ffff:0.0.0.0/96",
            "1::/32",
            "ff00::/32",
            "ff0e::/96",
            "fe80::/64",
            "febf:ffff::/32",
        ] {
            let nat64 = Nat64Prefix::new(prefix.parse().unwrap());
            assert_eq!(nat64, Err(Nat64PrefixError::NotUnicast), "{prefix}");
        }
        for prefix in [
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "64:ff9b:1:fffe::/96",
            "100::/64",
            "fec0::/64",
            "fd00::/48",
        ] {
            assert_eq!(nat64(prefix).to_string(), prefix);
        }
    }

    /// RFC 8215: the whole prefix decides, not its first 32 bits.
    #[test]
    fn only_one_prefix_is_well_known() {
        assert!(nat64("64:ff9b::/96").is_well_known());
        for prefix in [
            "64:ff9b:1::/48",
            "64:ff9b:1::/96",
            "64:ff9b::/64",
            "64:ff9b::/32",
            "64:ff9b::1:0:0/96",
        ] {
            assert!(!nat64(prefix).is_well_known(), "{prefix}");
        }
    }

    /// RFC 6052 section 2.2: in a /96 the octet is part of the prefix, and known to be set.
    #[test]
    fn reserved_octet_in_a_96() {
        let odd = nat64("2001:db8:0:0:100::/96");
        assert!(odd.has_reserved_bits());
        let host = Ipv4Addr::new(192, 0, 2, 33);
        assert_eq!(odd.extract(odd.embed(host)), Some(host));
        assert!(!nat64("2001:db8:0:0:1::/96").has_reserved_bits());
        assert!(!nat64("2001:db8::/32").has_reserved_bits());
    }

    proptest! {
        /// RFC 6052 section 2.2: at every length the octets lie where the figure has them, and all
        /// else is zero.
        #[test]
        fn a52_02_octets_lie_as_in_the_figure(prefix: u128, host: u32) {
            let host = Ipv4Addr::from_bits(host);
            for length in LENGTHS {
                let nat64 = prefix_of(prefix, length);
                let mut want = nat64.prefix().address().octets();
                for (place, octet) in places(length).into_iter().zip(host.octets()) {
                    want[place] = octet;
                }
                prop_assert_eq!(nat64.embed(host).octets(), want);
                prop_assert_eq!(nat64.extract(nat64.embed(host)), Some(host));
            }
        }

        /// RFC 6052 section 2.2: neither suffix bits nor reserved bits change anything; in a /96
        /// the latter are of the prefix.
        #[test]
        fn a52_03_reserved_octet_and_suffix_are_ignored(
            prefix: u128, host: u32, suffix: u128, reserved in 1..=u8::MAX,
        ) {
            let host = Ipv4Addr::from_bits(host);
            for length in LENGTHS {
                let nat64 = prefix_of(prefix, length);
                let after = places(length)[3].max(8) + 1;
                let mut octets = nat64.embed(host).octets();
                octets[after..].copy_from_slice(&suffix.to_be_bytes()[after..]);
                prop_assert_eq!(nat64.extract(octets.into()), Some(host));
                octets[8] ^= reserved;
                let want = if length == 96 { None } else { Some(host) };
                prop_assert_eq!(nat64.extract(octets.into()), want);
            }
        }

        /// One changed bit of the prefix is another prefix.
        #[test]
        fn addresses_outside_of_the_prefix_are_not_in_it(
            prefix: u128,
            host: u32,
            flip in 0..96_u32,
        ) {
            for length in LENGTHS {
                let nat64 = prefix_of(prefix, length);
                let bits = nat64.embed(Ipv4Addr::from_bits(host)).to_bits();
                let outside = Ipv6Addr::from_bits(bits ^ 1 << (127 - flip % u32::from(length)));
                prop_assert_eq!(nat64.extract(outside), None);
            }
        }
    }
}
