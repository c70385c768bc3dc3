//! Special-purpose addresses that the translator treats apart
//! (the [IPv4](https://www.iana.org/assignments/iana-ipv4-special-registry) and
//! [IPv6](https://www.iana.org/assignments/iana-ipv6-special-registry) registries of IANA, RFC 6890).

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether `address` can be no host's on a wire: 0.0.0.0/8 (RFC 1122 section 3.2.1.3), 127.0.0.0/8 (the same),
/// 224.0.0.0/4 (RFC 5771) and 255.255.255.255 (RFC 919 section 7).
///
/// RFC 7915 section 4.1 leaves what an illegal source is to RFC 1812 section 5.3.7, which names these. Link-local
/// addresses (169.254.0.0/16) and the rest of 240.0.0.0/4 pass, as in tayga: both are in use inside of networks.
pub fn is_illegal_v4(address: Ipv4Addr) -> bool {
    matches!(
        address.octets(),
        [0 | 127 | 224..=239, ..] | [255, 255, 255, 255]
    )
}

/// Whether `address` can be no host's on a wire that a router may forward from or to: ::/8, which has the unspecified
/// and the loopback address and those with an IPv4 address at their end (RFC 4291 section 2.5), ff00::/8 (multicast,
/// RFC 4291 section 2.7) and fe80::/10 (link-local, RFC 4291 section 2.5.6).
///
/// 64:ff9b::/32 is not, though within ::/8: it has the prefixes that IANA gave to translators, 64:ff9b::/96
/// (RFC 6052 section 2.1) and 64:ff9b:1::/48 (RFC 8215).
pub fn is_illegal_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x64, 0xff9b, ..] => false,
        [first, ..] => matches!(first, 0..=0xff | 0xfe80..=0xfebf | 0xff00..),
    }
}

/// Whether `wkpf-strict` keeps `address` out of 64:ff9b::/96, as "non-global" (RFC 6052 section 3.1): 10.0.0.0/8,
/// 172.16.0.0/12 and 192.168.0.0/16 (RFC 1918), 100.64.0.0/10 (RFC 6598), 198.18.0.0/15 (RFC 2544), 192.0.2.0/24,
/// 198.51.100.0/24 and 203.0.113.0/24 (RFC 5737).
///
/// This is tayga's list to the bit: an existing tayga.conf goes on to reach what it reached, so 192.0.0.0/24,
/// 192.88.99.0/24, 169.254.0.0/16 and 240.0.0.0/4 are not in it.
pub fn is_private_for_wkpf(address: Ipv4Addr) -> bool {
    matches!(
        address.octets(),
        [10, ..]
            | [100, 64..=127, ..]
            | [172, 16..=31, ..]
            | [192, 0, 2, _]
            | [192, 168, ..]
            | [198, 18..=19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use proptest::prelude::*;

    use super::*;
    use crate::addr::{Prefix4, Prefix6};

    const ILLEGAL_V4: &[&str] = &[
        "0.0.0.0/8",
        "127.0.0.0/8",
        "224.0.0.0/4",
        "255.255.255.255/32",
    ];
    const PRIVATE: &[&str] = &[
        "10.0.0.0/8",
        "100.64.0.0/10",
        "172.16.0.0/12",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
    ];

    fn in_any4(list: &[&str], address: Ipv4Addr) -> bool {
        list.iter()
            .any(|prefix| prefix.parse::<Prefix4>().unwrap().contains(address))
    }

    fn in_any6(list: &[&str], address: Ipv6Addr) -> bool {
        list.iter()
            .any(|prefix| prefix.parse::<Prefix6>().unwrap().contains(address))
    }

    fn check4(address: Ipv4Addr) {
        assert_eq!(
            is_illegal_v4(address),
            in_any4(ILLEGAL_V4, address),
            "{address}"
        );
        assert_eq!(
            is_private_for_wkpf(address),
            in_any4(PRIVATE, address),
            "{address}"
        );
    }

    fn check6(address: Ipv6Addr) {
        let illegal = in_any6(&["::/8", "ff00::/8", "fe80::/10"], address)
            && !in_any6(&["64:ff9b::/32"], address);
        assert_eq!(is_illegal_v6(address), illegal, "{address}");
    }

    /// X46-07, X64-09, A52-05: each range ends where its registry says, on both sides.
    #[test]
    fn x46_07_x64_09_a52_05_edges_of_the_ranges() {
        for prefix in ILLEGAL_V4.iter().chain(PRIVATE) {
            let prefix: Prefix4 = prefix.parse().unwrap();
            let first = prefix.address().to_bits();
            let last = first | u32::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
            for edge in [first.wrapping_sub(1), first, last, last.wrapping_add(1)] {
                check4(Ipv4Addr::from_bits(edge));
            }
        }
        for prefix in [
            "::/8",
            "64:ff9b::/32",
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "ff00::/8",
            "fe80::/10",
        ] {
            let prefix: Prefix6 = prefix.parse().unwrap();
            let first = prefix.address().to_bits();
            let last = first | (u128::MAX >> prefix.length());
            for edge in [first.wrapping_sub(1), first, last, last.wrapping_add(1)] {
                check6(Ipv6Addr::from_bits(edge));
            }
        }
    }

    /// X46-07: what is not illegal, though special.
    #[test]
    fn x46_07_link_local_and_class_e_pass() {
        for address in [
            "169.254.0.1",
            "169.254.255.255",
            "240.0.0.0",
            "255.255.255.254",
            "192.0.0.8",
        ] {
            assert!(!is_illegal_v4(address.parse().unwrap()), "{address}");
        }
    }

    /// A52-05: what tayga lets through although it is not global.
    #[test]
    fn a52_05_the_list_is_taygas() {
        for address in [
            "192.0.0.1",
            "192.88.99.1",
            "169.254.0.1",
            "240.0.0.1",
            "8.8.8.8",
        ] {
            assert!(!is_private_for_wkpf(address.parse().unwrap()), "{address}");
        }
    }

    /// X64-09, A52-07: translators' prefixes are usable, other addresses with an IPv4 address in them are not.
    #[test]
    fn x64_09_a52_07_translators_prefixes_pass() {
        for address in [
            "64:ff9b::1",
            "64:ff9b::c000:201",
            "64:ff9b:1::1",
            "64:ff9b:1:ffff::",
            "100::1",
        ] {
            assert!(!is_illegal_v6(address.parse().unwrap()), "{address}");
        }
        for address in [
            "::",
            "::1",
            "::ffff:192.0.2.1",
            "::192.0.2.1",
            "64:ff9a::1",
            "64:ff9c::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(is_illegal_v6(address.parse().unwrap()), "{address}");
        }
    }

    proptest! {
        #[test]
        fn x46_07_x64_09_anywhere(v4: u32, v6: u128, first in 0..0x200_u128) {
            check4(Ipv4Addr::from_bits(v4));
            check6(Ipv6Addr::from_bits(v6));
            check6(Ipv6Addr::from_bits(first << 112 | v6 >> 16));
        }
    }
}
