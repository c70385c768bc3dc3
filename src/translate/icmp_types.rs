//! Type, code, pointer and MTU of ICMP errors, both directions side by side (RFC 7915 sections 4.2
//! and 5.2).

use crate::wire::{
    icmp::{self, Icmpv4Error, Icmpv6Error},
    ipv6,
};

/// Difference between the headers of the two families, in octets.
const HEADER_GROWTH: u32 = 20;
/// Smallest MTU of an IPv4 link, in octets (RFC 791 section 3.2).
const MIN_MTU_V4: u16 = 68;
/// Usual link MTUs, in octets, for "fragmentation needed" from routers that do not report theirs
/// (RFC 1191 section 7).
const PLATEAUS: [u16; 11] = [
    65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68,
];

/// The ICMPv6 type of an ICMPv4 echo message; other informational messages have none (RFC 7915
/// section 4.2).
pub(super) fn echo_to_v6(kind: u8) -> Option<u8> {
    match kind {
        icmp::V4_ECHO_REQUEST => Some(icmp::V6_ECHO_REQUEST),
        icmp::V4_ECHO_REPLY => Some(icmp::V6_ECHO_REPLY),
        _ => None,
    }
}

/// The ICMPv4 type of an ICMPv6 echo message (RFC 7915 section 5.2).
pub(super) fn echo_to_v4(kind: u8) -> Option<u8> {
    match kind {
        icmp::V6_ECHO_REQUEST => Some(icmp::V4_ECHO_REQUEST),
        icmp::V6_ECHO_REPLY => Some(icmp::V4_ECHO_REPLY),
        _ => None,
    }
}

/// The ICMPv6 error for an ICMPv4 error, if there is one (RFC 7915 section 4.2).
///
/// `quoted_len` is the total length of the quoted packet, `mtu` the MTU of the
/// device, both in octets.
pub(super) fn to_v6(error: Icmpv4Error, quoted_len: u16, mtu: u16) -> Option<Icmpv6Error> {
    use Icmpv6Error::{PacketTooBig, ParameterProblem, TimeExceeded, Unreachable};
    Some(match error {
        Icmpv4Error::Unreachable { code } => match code {
            0 | 1 | 5 | 6 | 7 | 8 | 11 | 12 => Unreachable { code: 0 },
            // "Set the Pointer to 6 to point at the IPv6 Next Header field."
            2 => ParameterProblem {
                code: 1,
                pointer: ipv6::NEXT_HEADER_AT as u32,
            },
            3 => Unreachable { code: 4 },
            9 | 10 | 13 | 15 => Unreachable { code: 1 },
            _ => return None,
        },
        Icmpv4Error::FragmentationNeeded { mtu: reported } => {
            let reported = if reported < MIN_MTU_V4 {
                plateau_below(quoted_len)
            } else {
                reported
            };
            let reported = u32::from(reported) + HEADER_GROWTH;
            PacketTooBig {
                mtu: reported.min(mtu.into()).max(ipv6::MIN_MTU.into()),
            }
        }
        Icmpv4Error::TimeExceeded { code } => TimeExceeded { code },
        Icmpv4Error::ParameterProblem {
            code: 0 | 2,
            pointer,
        } => ParameterProblem {
            code: 0,
            pointer: pointer_to_v6(pointer)?,
        },
        Icmpv4Error::ParameterProblem { .. } => return None,
    })
}

/// The ICMPv4 error for an ICMPv6 error, if there is one (RFC 7915 section 5.2).
///
/// `fragmented`: the quoted packet has a Fragment header, which IPv4 lacks. `mtu` is the MTU of the
/// device, in octets.
pub(super) fn to_v4(error: Icmpv6Error, fragmented: bool, mtu: u16) -> Option<Icmpv4Error> {
    use Icmpv4Error::{FragmentationNeeded, ParameterProblem, TimeExceeded, Unreachable};
    Some(match error {
        Icmpv6Error::Unreachable { code } => match code {
            0 | 2 | 3 => Unreachable { code: 1 },
            1 => Unreachable { code: 10 },
            4 => Unreachable { code: 3 },
            _ => return None,
        },
        Icmpv6Error::PacketTooBig { mtu: reported } => {
            let growth = HEADER_GROWTH
                + if fragmented {
                    ipv6::FRAGMENT_LEN as u32
                } else {
                    0
                };
            let reported = reported.min(mtu.into()).checked_sub(growth)?;
            // It fits: `mtu` does.
            let mtu = reported as u16;
            if mtu < MIN_MTU_V4 {
                return None;
            }
            FragmentationNeeded { mtu }
        }
        Icmpv6Error::TimeExceeded { code } => TimeExceeded { code },
        Icmpv6Error::ParameterProblem { code: 0, pointer } => ParameterProblem {
            code: 0,
            pointer: pointer_to_v4(pointer)?,
        },
        Icmpv6Error::ParameterProblem { code: 1, .. } => Unreachable { code: 2 },
        Icmpv6Error::ParameterProblem { .. } => return None,
    })
}

/// The IPv6 counterpart of a pointer (figure 3 of RFC 7915).
fn pointer_to_v6(pointer: u8) -> Option<u32> {
    Some(match pointer {
        0 => 0,        // version, IHL -> version, Traffic Class
        1 => 1,        // TOS -> Traffic Class, Flow Label
        2 | 3 => 4,    // total length -> payload length
        8 => 7,        // TTL -> hop limit
        9 => 6,        // protocol -> Next Header
        12..=15 => 8,  // source
        16..=19 => 24, // destination
        _ => return None,
    })
}

/// The IPv4 counterpart of a pointer (figure 6 of RFC 7915).
fn pointer_to_v4(pointer: u32) -> Option<u8> {
    Some(match pointer {
        0 => 0,
        1 => 1,
        4 | 5 => 2,
        6 => 9,
        7 => 8,
        8..=23 => 12,
        24..=39 => 16,
        _ => return None,
    })
}

/// The largest plateau below the length of the packet that did not fit (RFC 7915 section 4.2, RFC
/// 1191 section 5).
fn plateau_below(len: u16) -> u16 {
    PLATEAUS
        .into_iter()
        .find(|&plateau| plateau < len)
        .unwrap_or(MIN_MTU_V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7915 sections 4.2 and 5.2, for every type.
    #[test]
    fn only_echo_has_a_counterpart_among_informational_messages() {
        let pairs = |map: fn(u8) -> Option<u8>| -> Vec<_> {
            (0..=255)
                .filter_map(|kind| Some((kind, map(kind)?)))
                .collect()
        };
        assert_eq!(pairs(echo_to_v6), [(0, 129), (8, 128)]);
        assert_eq!(pairs(echo_to_v4), [(128, 8), (129, 0)]);
    }

    /// RFC 7915 section 4.2, for every code.
    #[test]
    fn unreachable_codes_to_v6() {
        for code in 0..=255 {
            let expected = match code {
                0 | 1 | 5..=8 | 11 | 12 => Some(Icmpv6Error::Unreachable { code: 0 }),
                3 => Some(Icmpv6Error::Unreachable { code: 4 }),
                9 | 10 | 13 | 15 => Some(Icmpv6Error::Unreachable { code: 1 }),
                2 => Some(Icmpv6Error::ParameterProblem {
                    code: 1,
                    pointer: 6,
                }),
                _ => None,
            };
            assert_eq!(
                to_v6(Icmpv4Error::Unreachable { code }, 100, 1500),
                expected,
                "code {code}"
            );
        }
    }

    /// RFC 7915 section 5.2, for every code.
    #[test]
    fn unreachable_codes_to_v4() {
        for code in 0..=255 {
            let expected = match code {
                0 | 2 | 3 => Some(1),
                1 => Some(10),
                4 => Some(3),
                _ => None,
            };
            let expected = expected.map(|code| Icmpv4Error::Unreachable { code });
            assert_eq!(
                to_v4(Icmpv6Error::Unreachable { code }, false, 1500),
                expected,
                "code {code}"
            );
        }
    }

    /// RFC 7915 section 4.2: at most the MTU of the device, at least 1280.
    #[test]
    fn mtu_to_v6() {
        let mtu = |reported, quoted_len, device| {
            let error = Icmpv4Error::FragmentationNeeded { mtu: reported };
            to_v6(error, quoted_len, device)
        };
        for (reported, quoted_len, device, expected) in [
            (1400, 1480, 1500, 1420),
            (1480, 1500, 1500, 1500),
            (9000, 9500, 1500, 1500), // not over our own
            (1260, 1480, 1500, 1280),
            (576, 1480, 1500, 1280), // never below 1280
            (68, 1480, 1500, 1280),
            (0, 1480, 9000, 1280),  // plateau 1006
            (0, 1500, 9000, 1512),  // plateau 1492
            (0, 1492, 9000, 1280),  // below, not at, 1492
            (67, 2003, 9000, 2022), // below any IPv4 MTU: as if none were reported
            (0, 65535, 65535, 32020),
            (0, 20, 1500, 1280),
            (65535, 65535, 65535, 65535),
        ] {
            let expected = Some(Icmpv6Error::PacketTooBig { mtu: expected });
            assert_eq!(
                mtu(reported, quoted_len, device),
                expected,
                "{reported}, {quoted_len}, {device}"
            );
        }
    }

    /// RFC 7915 section 5.2: 20 octets less, or 28 with a Fragment header.
    #[test]
    fn mtu_to_v4() {
        for (reported, fragmented, device, expected) in [
            (1480, false, 1500, Some(1460)),
            (1480, true, 1500, Some(1452)),
            (9000, false, 1500, Some(1480)),
            (u32::MAX, false, 65535, Some(65515)),
            (1280, false, 1500, Some(1260)),
            (576, false, 1500, Some(556)), // below 1280, still said on
            (88, false, 1500, Some(68)),
            (87, false, 1500, None),
            (95, true, 1500, None),
            (0, false, 1500, None),
        ] {
            let expected = expected.map(|mtu| Icmpv4Error::FragmentationNeeded { mtu });
            let error = Icmpv6Error::PacketTooBig { mtu: reported };
            assert_eq!(
                to_v4(error, fragmented, device),
                expected,
                "{reported}, {fragmented}, {device}"
            );
        }
    }

    /// RFC 7915 figure 3, for every pointer.
    #[test]
    fn pointers_to_v6() {
        for pointer in 0..=255 {
            let expected = match pointer {
                0 => Some(0),
                1 => Some(1),
                2 | 3 => Some(4),
                8 => Some(7),
                9 => Some(6),
                12..=15 => Some(8),
                16..=19 => Some(24),
                _ => None,
            };
            let expected =
                expected.map(|pointer| Icmpv6Error::ParameterProblem { code: 0, pointer });
            for code in [0, 2] {
                let error = Icmpv4Error::ParameterProblem { code, pointer };
                assert_eq!(to_v6(error, 100, 1500), expected, "pointer {pointer}");
            }
            assert_eq!(
                to_v6(
                    Icmpv4Error::ParameterProblem { code: 1, pointer },
                    100,
                    1500
                ),
                None
            );
        }
    }

    /// RFC 7915 figure 6, for every pointer into a header, and the largest ones.
    #[test]
    fn pointers_to_v4() {
        for pointer in (0..100).chain([255, 256, 0x100 + 7, u32::MAX - 1, u32::MAX]) {
            let expected = match pointer {
                0 => Some(0),
                1 => Some(1),
                4 | 5 => Some(2),
                6 => Some(9),
                7 => Some(8),
                8..=23 => Some(12),
                24..=39 => Some(16),
                _ => None,
            };
            let expected =
                expected.map(|pointer| Icmpv4Error::ParameterProblem { code: 0, pointer });
            let error = Icmpv6Error::ParameterProblem { code: 0, pointer };
            assert_eq!(to_v4(error, false, 1500), expected, "pointer {pointer}");
        }
        let unrecognized_next_header = Icmpv6Error::ParameterProblem {
            code: 1,
            pointer: 40,
        };
        assert_eq!(
            to_v4(unrecognized_next_header, false, 1500),
            Some(Icmpv4Error::Unreachable { code: 2 })
        );
        let option = Icmpv6Error::ParameterProblem {
            code: 2,
            pointer: 6,
        };
        assert_eq!(to_v4(option, false, 1500), None);
    }

    /// RFC 7915 sections 4.2 and 5.2.
    #[test]
    fn time_exceeded_keeps_its_code() {
        for code in [0, 1] {
            let (v4, v6) = (
                Icmpv4Error::TimeExceeded { code },
                Icmpv6Error::TimeExceeded { code },
            );
            assert_eq!(to_v6(v4, 100, 1500), Some(v6));
            assert_eq!(to_v4(v6, false, 1500), Some(v4));
        }
    }
}
