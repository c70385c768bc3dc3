//! Special-purpose addresses, and how the translator treats them: a table for each family, with the
//! ranges of IANA's [IPv4] and [IPv6] registries (RFC 6890), and multicast.
//!
//! [IPv4]: https://www.iana.org/assignments/iana-ipv4-special-registry
//! [IPv6]: https://www.iana.org/assignments/iana-ipv6-special-registry

use std::net::{Ipv4Addr, Ipv6Addr};

use self::Treatment::{Illegal, LinkLocal, Passes, Private};
use super::Prefix4;

/// The treatment of packets from and to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It is translated as any other.
    Passes,
    /// It is not translated with 64:ff9b::/96 while `wkpf-strict` is on, as "non-global" (RFC 6052
    /// section 3.1). The sender is told.
    ///
    /// This is tayga's list to the bit, so that an existing tayga.conf goes on to reach what it
    /// reached.
    Private,
    /// It is not translated with any prefix: "a router MUST NOT forward" it (RFC 3927 sections 2.7
    /// and 7). The sender is not told. Explicit mappings, leases and the translator's own addresses
    /// may be in the range, as with newer versions of tayga; 0.9.2 refuses them there.
    LinkLocal,
    /// No host has it on a wire that a router may forward from or to. Whatever maps it, the packet
    /// is dropped, and the sender is not told (RFC 7915 sections 4.1 and 5.1, RFC 1812 section
    /// 5.3.7).
    Illegal,
}

/// A row of a table.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The first 64 bits of the first address; an IPv4 address is in the first 32.
    bits: u64,
    /// In bits, 4 to 64.
    length: u8,
    /// The treatment of packets from and to its addresses.
    pub treatment: Treatment,
    /// The name that the registry has for it.
    pub name: &'static str,
    /// The document that the treatment follows, or that defines the range.
    pub document: &'static str,
}

/// The ranges of IPv4. Where they are within each other, the narrower one is first, and decides.
#[rustfmt::skip]
pub const IPV4: &[Range] = &[
    v4([0, 0, 0, 0], 8, Illegal, "this network", "RFC 1122 section 3.2.1.3"),
    v4([10, 0, 0, 0], 8, Private, "private use", "RFC 1918"),
    v4([100, 64, 0, 0], 10, Private, "shared address space", "RFC 6598"),
    v4([127, 0, 0, 0], 8, Illegal, "loopback", "RFC 1122 section 3.2.1.3"),
    v4([169, 254, 0, 0], 16, LinkLocal, "link-local", "RFC 3927"),
    v4([172, 16, 0, 0], 12, Private, "private use", "RFC 1918"),
    v4([192, 168, 0, 0], 16, Private, "private use", "RFC 1918"),
    v4([192, 0, 2, 0], 24, Private, "documentation", "RFC 5737"),
    v4([192, 0, 0, 0], 24, Passes, "IETF protocol assignments", "RFC 6890"),
    v4([192, 31, 196, 0], 24, Passes, "AS112-v4", "RFC 7535"),
    v4([192, 52, 193, 0], 24, Passes, "AMT", "RFC 7450"),
    v4([192, 88, 99, 0], 24, Passes, "deprecated 6to4 relay anycast", "RFC 7526"),
    v4([192, 175, 48, 0], 24, Passes, "direct delegation AS112 service", "RFC 7534"),
    v4([198, 18, 0, 0], 15, Private, "benchmarking", "RFC 2544"),
    v4([198, 51, 100, 0], 24, Private, "documentation", "RFC 5737"),
    v4([203, 0, 113, 0], 24, Private, "documentation", "RFC 5737"),
    v4([224, 0, 0, 0], 4, Illegal, "multicast", "RFC 5771"),
    v4([255; 4], 32, Illegal, "limited broadcast", "RFC 919 section 7"),
    v4([240, 0, 0, 0], 4, Passes, "reserved", "RFC 1112 section 4"),
];

/// The ranges of IPv6. Where they are within each other, the narrower one is first, and decides.
#[rustfmt::skip]
pub const IPV6: &[Range] = &[
    // 64:ff9b::/96 (RFC 6052) and 64:ff9b:1::/48 (RFC 8215); tayga takes any prefix of it.
    v6([0x64, 0xff9b, 0, 0], 32, Passes, "IPv4-IPv6 translation", "RFC 6052, RFC 8215"),
    // ::, ::1, and addresses with an IPv4 address at their end.
    v6([0; 4], 8, Illegal, "unspecified, loopback, IPv4-mapped", "RFC 4291 section 2.5"),
    v6([0x100, 0, 0, 0], 64, Passes, "discard-only", "RFC 6666"),
    v6([0x100, 0, 0, 1], 64, Passes, "dummy prefix", "RFC 9780"),
    v6([0x2001, 0, 0, 0], 23, Passes, "IETF protocol assignments", "RFC 2928"),
    v6([0x2001, 0xdb8, 0, 0], 32, Passes, "documentation", "RFC 3849"),
    v6([0x2002, 0, 0, 0], 16, Passes, "6to4", "RFC 3056"),
    v6([0x2620, 0x4f, 0x8000, 0], 48, Passes, "AS112 service", "RFC 7534"),
    v6([0x3fff, 0, 0, 0], 20, Passes, "documentation", "RFC 9637"),
    v6([0x5f00, 0, 0, 0], 16, Passes, "segment routing SIDs", "RFC 9602"),
    v6([0xfc00, 0, 0, 0], 7, Passes, "unique-local", "RFC 4193"),
    v6([0xfe80, 0, 0, 0], 10, Illegal, "link-local", "RFC 4291 section 2.5.6"),
    v6([0xfec0, 0, 0, 0], 10, Passes, "deprecated site-local", "RFC 3879"),
    v6([0xff00, 0, 0, 0], 8, Illegal, "multicast", "RFC 4291 section 2.7"),
];

/// The treatment of packets from and to `address`.
pub fn treatment_v4(address: Ipv4Addr) -> Treatment {
    static INDEX: [FirstOctet; 256] = by_first_octet(IPV4);
    treatment(IPV4, &INDEX, left_aligned(address))
}

/// The treatment of packets from and to `address`.
pub fn treatment_v6(address: Ipv6Addr) -> Treatment {
    static INDEX: [FirstOctet; 256] = by_first_octet(IPV6);
    treatment(IPV6, &INDEX, (address.to_bits() >> 64) as u64)
}

/// Whether packets from and to `address` are dropped, mapped or not.
pub fn is_illegal_v4(address: Ipv4Addr) -> bool {
    treatment_v4(address) == Illegal
}

/// Whether packets from and to `address` are dropped, mapped or not.
pub fn is_illegal_v6(address: Ipv6Addr) -> bool {
    treatment_v6(address) == Illegal
}

/// The ranges of IPv4 that are treated so.
pub fn ranges_v4(treatment: Treatment) -> impl Iterator<Item = Prefix4> {
    let ranges = IPV4
        .iter()
        .filter(move |range| range.treatment == treatment);
    ranges.map(|range| {
        let network = range.bits >> (64 - range.length);
        Prefix4::from_first_bits(network as u32, range.length)
    })
}

impl Range {
    const fn contains(&self, bits: u64) -> bool {
        (self.bits ^ bits) >> (64 - self.length) == 0
    }
}

/// The decision by the first octet of an address.
#[derive(Clone, Copy)]
enum FirstOctet {
    /// All addresses that begin with it are treated so: most packets have to look no further.
    Decides(Treatment),
    /// These rows of the table decide: from and to.
    Rows(u8, u8),
}

const fn by_first_octet(table: &[Range]) -> [FirstOctet; 256] {
    let mut index = [FirstOctet::Decides(Passes); 256];
    let mut octet = 0;
    while octet < index.len() {
        let (mut at, mut matters) = (0, false);
        while at < table.len() {
            let Range {
                bits,
                length,
                treatment,
                ..
            } = table[at];
            // Compared as far as both are known.
            let unknown = 8_u8.saturating_sub(length);
            if octet >> unknown == (bits >> 56) as usize >> unknown {
                let from = match index[octet] {
                    FirstOctet::Decides(_) => at as u8,
                    FirstOctet::Rows(from, _) => from,
                };
                let is_first = from == at as u8;
                index[octet] = if is_first && length <= 8 {
                    FirstOctet::Decides(treatment)
                } else {
                    FirstOctet::Rows(from, at as u8 + 1)
                };
                matters |= !matches!(treatment, Passes);
            }
            at += 1;
        }
        if !matters {
            index[octet] = FirstOctet::Decides(Passes);
        }
        octet += 1;
    }
    index
}

fn treatment(table: &[Range], index: &[FirstOctet; 256], bits: u64) -> Treatment {
    match index[(bits >> 56) as usize] {
        FirstOctet::Decides(treatment) => treatment,
        FirstOctet::Rows(from, to) => {
            let mut rows = table[from.into()..to.into()].iter();
            rows.find(|range| range.contains(bits))
                .map_or(Passes, |range| range.treatment)
        }
    }
}

const fn v4(
    octets: [u8; 4],
    length: u8,
    treatment: Treatment,
    name: &'static str,
    document: &'static str,
) -> Range {
    Range {
        bits: left_aligned(Ipv4Addr::from_octets(octets)),
        length,
        treatment,
        name,
        document,
    }
}

const fn v6(
    [a, b, c, d]: [u16; 4],
    length: u8,
    treatment: Treatment,
    name: &'static str,
    document: &'static str,
) -> Range {
    Range {
        bits: (Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).to_bits() >> 64) as u64,
        length,
        treatment,
        name,
        document,
    }
}

/// The bits of `address`, with zeros behind.
const fn left_aligned(address: Ipv4Addr) -> u64 {
    (address.to_bits() as u64) << 32
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
        let expected = if in_any4(ILLEGAL_V4, address) {
            Illegal
        } else if in_any4(PRIVATE, address) {
            Private
        } else if in_any4(&["169.254.0.0/16"], address) {
            LinkLocal
        } else {
            Passes
        };
        assert_eq!(treatment_v4(address), expected, "{address}");
        assert_eq!(is_illegal_v4(address), expected == Illegal, "{address}");
    }

    fn check6(address: Ipv6Addr) {
        let illegal = in_any6(&["::/8", "ff00::/8", "fe80::/10"], address)
            && !in_any6(&["64:ff9b::/32"], address);
        let expected = if illegal { Illegal } else { Passes };
        assert_eq!(treatment_v6(address), expected, "{address}");
        assert_eq!(is_illegal_v6(address), illegal, "{address}");
    }

    /// The first 64 bits of both ends of each range, and of what is beside them.
    fn edges(table: &[Range]) -> impl Iterator<Item = u64> {
        table.iter().flat_map(|range| {
            let last = range.bits | u64::MAX.checked_shr(range.length.into()).unwrap_or(0);
            [
                range.bits.wrapping_sub(1),
                range.bits,
                last,
                last.wrapping_add(1),
            ]
        })
    }

    /// The rows of the tables end where the registries say, have no host
    /// bits, and stand before those that enclose them.
    #[test]
    fn rows_of_the_tables() {
        for bits in edges(IPV4) {
            check4(Ipv4Addr::from_bits((bits >> 32) as u32));
        }
        for bits in edges(IPV6) {
            for rest in [0, u64::MAX] {
                check6(Ipv6Addr::from_bits(
                    u128::from(bits) << 64 | u128::from(rest),
                ));
            }
        }
        for table in [IPV4, IPV6] {
            for (at, range) in table.iter().enumerate() {
                let (name, document) = (range.name, range.document);
                let host_bits = u64::MAX.checked_shr(range.length.into()).unwrap_or(0);
                assert_eq!(range.bits & host_bits, 0, "{name}");
                assert!(
                    range.length >= 4,
                    "{name}: no range of the registries is larger"
                );
                assert!(document.starts_with("RFC "), "{name}");
                for before in &table[..at] {
                    let encloses = before.length <= range.length && before.contains(range.bits);
                    assert!(
                        !encloses,
                        "{name} is after {}, which has it all",
                        before.name
                    );
                }
            }
        }
    }

    /// The pool keeps out what it may not lend.
    #[test]
    fn ranges_of_no_host() {
        let mut found: Vec<_> = ranges_v4(Illegal)
            .map(|prefix| prefix.to_string())
            .collect();
        found.sort();
        assert_eq!(
            found,
            [
                "0.0.0.0/8",
                "127.0.0.0/8",
                "224.0.0.0/4",
                "255.255.255.255/32"
            ]
        );
    }

    /// Each range ends where its registry says, on both sides.
    #[test]
    fn edges_of_the_ranges() {
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

    /// Special addresses that are not illegal.
    #[test]
    fn class_e_passes() {
        for address in ["240.0.0.0", "255.255.255.254", "192.0.0.8"] {
            assert_eq!(treatment_v4(address.parse().unwrap()), Passes, "{address}");
        }
    }

    /// Addresses that tayga lets through although they are not global (RFC 6052 section 3.1).
    #[test]
    fn private_ranges_are_those_of_tayga() {
        for address in ["192.0.0.1", "192.88.99.1", "240.0.0.1", "8.8.8.8"] {
            assert_eq!(treatment_v4(address.parse().unwrap()), Passes, "{address}");
        }
    }

    /// RFC 6052 section 2.1, RFC 8215: translators' prefixes are usable, other addresses with an
    /// IPv4 address in them are not.
    #[test]
    fn translators_prefixes_pass() {
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
        fn x64_09_anywhere(v4: u32, v6: u128, first in 0..0x200_u128) {
            check4(Ipv4Addr::from_bits(v4));
            check6(Ipv6Addr::from_bits(v6));
            check6(Ipv6Addr::from_bits(first << 112 | v6 >> 16));
        }
    }
}
