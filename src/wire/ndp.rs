//! Neighbour Discovery: Router Advertisements (RFC 4861 section 4.2) with the options that a CLAT
//! needs, and the messages that it sends.
//!
//! Messages are read from their ICMPv6 type on. Whoever has the IPv6 header checks that they came
//! from a neighbour, by hop limit 255 and a link-local source (RFC 4861 section 6.1.2); the kernel
//! has verified the checksum.
//!
//! Router Advertisement; M, O and Prf (RFC 4191 section 2.2) are the flags:
//!
//! ```text
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     Type      |     Code      |          Checksum             |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | Cur Hop Limit |M|O|H|Prf|Resvd|       Router Lifetime         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                         Reachable Time                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                          Retrans Timer                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   Options ...
//! ```
//!
//! Options begin with a type and a length in units of 8 octets. The fields behind those:
//!
//! ```text
//! offset                   2          3          4                    8           12   16
//! 3  Prefix Information    length     L|A flags  valid lifetime       preferred   -    prefix
//! 5  MTU                   -          -          MTU
//! 25 Recursive DNS Server  -          -          lifetime             addresses of 16 octets
//! 38 PREF64                lifetime and code     96 bits of prefix
//! ```
//!
//! Neighbour Solicitation and Advertisement have four octets of flags or none behind the checksum,
//! then the target address, then options.

use std::{net::Ipv6Addr, time::Duration};

use super::{icmp, ipv6, u16_at, u32_at};

/// Type of a Router Solicitation.
pub const ROUTER_SOLICITATION: u8 = 133;
/// Type of a Router Advertisement.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Type of a Neighbour Solicitation.
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Type of a Neighbour Advertisement.
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Type of a Redirect.
pub const REDIRECT: u8 = 137;

/// Length of a Router Advertisement without options, in octets.
const ADVERTISEMENT_LEN: usize = 16;
const ADVERTISEMENT_FLAGS_AT: usize = 5;
const ROUTER_LIFETIME_AT: usize = 6;
/// Offset of the target in Neighbour Solicitations and Advertisements, in octets.
pub const TARGET_AT: usize = 8;

const OPTION_TYPE_AT: usize = 0;
const OPTION_LEN_AT: usize = 1;
const PREFIX_LENGTH_AT: usize = 2;
const PREFIX_FLAGS_AT: usize = 3;
const PREFIX_VALID_AT: usize = 4;
const PREFIX_PREFERRED_AT: usize = 8;
const PREFIX_AT: usize = 16;
const MTU_AT: usize = 4;
const DNS_LIFETIME_AT: usize = 4;
const DNS_SERVERS_AT: usize = 8;
const PREF64_LIFETIME_AND_CODE_AT: usize = 2;
const PREF64_PREFIX_AT: usize = 4;
/// Length of the prefix in a PREF64 option, in octets.
const PREF64_PREFIX_LEN: usize = 12;

const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;
const RECURSIVE_DNS_SERVER: u8 = 25;
const PREF64: u8 = 38;

/// Most options of one kind that are kept: an RA has room for hundreds.
pub const MAX_OPTIONS: usize = 16;

/// A Router Advertisement, as far as a CLAT needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterAdvertisement {
    /// Time for which the sender is a default router; zero if it is none.
    pub router_lifetime: Duration,
    /// Higher is better, from -1 to 1 (RFC 4191 section 2.2).
    pub preference: i8,
    /// Prefixes of the link.
    pub prefixes: Vec<PrefixInformation>,
    /// MTU of the link, in octets, if there is an option for it.
    pub mtu: Option<u32>,
    /// Recursive DNS servers with their lifetimes (RFC 8106 section 5.1).
    pub dns_servers: Vec<(Ipv6Addr, Duration)>,
    /// NAT64 prefixes (RFC 8781).
    pub pref64: Vec<Pref64>,
}

/// A Prefix Information option (RFC 4861 section 4.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixInformation {
    /// The prefix, with any bits behind its length.
    pub prefix: Ipv6Addr,
    /// Length of the prefix, in bits, 0 to 128.
    pub length: u8,
    /// Whether hosts may configure an address in it (the A flag, RFC 4862).
    pub autonomous: bool,
    /// Valid lifetime of addresses in it.
    pub valid: Duration,
    /// Preferred lifetime of addresses in it: the time for which new connections use them.
    pub preferred: Duration,
}

/// A NAT64 prefix (RFC 8781 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pref64 {
    /// Bits behind the prefix length are zero.
    pub prefix: Ipv6Addr,
    /// Length of the prefix, in bits: 96, 64, 56, 48, 40 or 32.
    pub length: u8,
    /// Lifetime, up to 65528 s; zero withdraws the prefix.
    pub lifetime: Duration,
}

impl RouterAdvertisement {
    /// Reads a message from its type on. Options that are not known, or have a wrong length, are
    /// ignored (RFC 4861 section 9).
    ///
    /// `None` if it is another message, is cut off, or has an option of length zero (RFC 4861
    /// section 4.6).
    pub fn parse(message: &[u8]) -> Option<Self> {
        let header = message.get(..ADVERTISEMENT_LEN)?;
        if header[..2] != [ROUTER_ADVERTISEMENT, 0] {
            return None;
        }
        let mut advertisement = Self {
            router_lifetime: seconds(u16_at(header, ROUTER_LIFETIME_AT).unwrap_or(0)),
            // The fourth value is reserved, and counts as medium (RFC 4191 section 2.2).
            preference: match header[ADVERTISEMENT_FLAGS_AT] >> 3 & 3 {
                0b01 => 1,
                0b11 => -1,
                _ => 0,
            },
            ..Self::default()
        };
        let mut options = &message[ADVERTISEMENT_LEN..];
        while !options.is_empty() {
            let len = usize::from(*options.get(OPTION_LEN_AT)?) * 8;
            if len == 0 {
                return None;
            }
            let option = options.get(..len)?;
            options = &options[len..];
            advertisement.option(option);
        }
        Some(advertisement)
    }

    /// Takes one option, of 8 octets or more.
    fn option(&mut self, option: &[u8]) {
        match (option[OPTION_TYPE_AT], option.len()) {
            (PREFIX_INFORMATION, 32) => {
                if let Some(prefix) = prefix_information(option) {
                    put(&mut self.prefixes, prefix);
                }
            }
            (MTU, 8) => self.mtu = u32_at(option, MTU_AT),
            (RECURSIVE_DNS_SERVER, 24..) => {
                let lifetime = u32_at(option, DNS_LIFETIME_AT).unwrap_or(0);
                let lifetime = Duration::from_secs(lifetime.into());
                let (addresses, _) = option[DNS_SERVERS_AT..].as_chunks::<16>();
                for &address in addresses {
                    put(&mut self.dns_servers, (address.into(), lifetime));
                }
            }
            // RFC 8781 section 4: any other length is to be ignored.
            (PREF64, 16) => {
                if let Some(prefix) = pref64(option) {
                    put(&mut self.pref64, prefix);
                }
            }
            _ => {}
        }
    }
}

fn put<T>(list: &mut Vec<T>, item: T) {
    if list.len() < MAX_OPTIONS {
        list.push(item);
    }
}

fn prefix_information(option: &[u8]) -> Option<PrefixInformation> {
    const AUTONOMOUS: u8 = 0x40;
    let length = option[PREFIX_LENGTH_AT];
    (length <= 128).then_some(PrefixInformation {
        prefix: address(option, PREFIX_AT)?,
        length,
        autonomous: option[PREFIX_FLAGS_AT] & AUTONOMOUS != 0,
        valid: Duration::from_secs(u32_at(option, PREFIX_VALID_AT)?.into()),
        preferred: Duration::from_secs(u32_at(option, PREFIX_PREFERRED_AT)?.into()),
    })
}

fn pref64(option: &[u8]) -> Option<Pref64> {
    /// Prefix lengths by their code, in bits.
    const LENGTHS: [u8; 6] = [96, 64, 56, 48, 40, 32];
    let word = u16_at(option, PREF64_LIFETIME_AND_CODE_AT)?;
    let length = *LENGTHS.get(usize::from(word & 7))?;
    let mut octets = [0; 16];
    let prefix = option.get(PREF64_PREFIX_AT..)?.get(..PREF64_PREFIX_LEN)?;
    octets[..PREF64_PREFIX_LEN].copy_from_slice(prefix);
    let mask = u128::MAX << (128 - u32::from(length));
    Some(Pref64 {
        prefix: (u128::from_be_bytes(octets) & mask).into(),
        length,
        lifetime: seconds(word & !7), // in units of 8 s, which is where the three bits are
    })
}

fn address(octets: &[u8], at: usize) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = octets.get(at..)?.first_chunk().copied()?;
    Some(octets.into())
}

fn seconds(seconds: u16) -> Duration {
    Duration::from_secs(seconds.into())
}

/// A Router Solicitation from a device with this link-layer address, if it has one (RFC 4861
/// section 4.1). The kernel calculates the checksum.
pub fn router_solicitation(link_layer_address: Option<[u8; 6]>) -> Vec<u8> {
    let mut message = vec![ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    if let Some(address) = link_layer_address {
        message.extend([SOURCE_LINK_LAYER_ADDRESS, 1]);
        message.extend(address);
    }
    message
}

/// The target of a Neighbour Solicitation, read from its type on (RFC 4861 section 4.3).
pub fn solicited_target(message: &[u8]) -> Option<Ipv6Addr> {
    if message.get(..2)? != [NEIGHBOUR_SOLICITATION, 0] {
        return None;
    }
    address(message, TARGET_AT)
}

/// A Neighbour Advertisement for `target` (RFC 4861 section 4.4), without its checksum. `solicited`
/// if it answers a solicitation that came from an address.
pub fn neighbour_advertisement(
    target: Ipv6Addr,
    solicited: bool,
    link_layer_address: Option<[u8; 6]>,
) -> Vec<u8> {
    const SOLICITED: u8 = 0x40;
    const OVERRIDE: u8 = 0x20;
    let flags = OVERRIDE | if solicited { SOLICITED } else { 0 };
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    if let Some(address) = link_layer_address {
        message.extend([TARGET_LINK_LAYER_ADDRESS, 1]);
        message.extend(address);
    }
    message
}

/// Type of an Echo Reply.
pub const ECHO_REPLY: u8 = icmp::V6_ECHO_REPLY;
/// Type of a Time Exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Offset of the identifier in echo messages, in octets (RFC 4443 section 4).
const IDENTIFIER_AT: usize = 4;

/// An Echo Request that asks the first router whether it receives from us. The kernel calculates
/// the checksum.
pub fn probe(identifier: u16) -> Vec<u8> {
    let [high, low] = identifier.to_be_bytes();
    vec![icmp::V6_ECHO_REQUEST, 0, 0, 0, high, low, 0, 1]
}

/// Whether a message, read from its type on, answers a [`probe`]: with an Echo Reply, or with a
/// Time Exceeded that quotes it (RFC 4443 section 3.3).
pub fn answers_probe(message: &[u8], identifier: u16) -> bool {
    let echo = match message {
        [ECHO_REPLY, 0, ..] => message,
        [TIME_EXCEEDED, 0, ..] => match message.get(icmp::HEADER_LEN + ipv6::HEADER_LEN..) {
            Some(quoted @ [icmp::V6_ECHO_REQUEST, ..]) => quoted,
            _ => return false,
        },
        _ => return false,
    };
    u16_at(echo, IDENTIFIER_AT) == Some(identifier)
}

/// The multicast group in which `address` is solicited (RFC 4291 section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let [a, b, c] = [a, b, c].map(u16::from);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | a, b << 8 | c)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use proptest::{collection::vec, prelude::*};

    use super::*;

    const HEADER: [u8; 16] = [134, 0, 0, 0, 64, 0x08, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];

    fn read(options: &[&[u8]]) -> Option<RouterAdvertisement> {
        RouterAdvertisement::parse(&[&HEADER, &*options.concat()].concat())
    }

    fn option_pref64(scaled: u16, code: u16, prefix: &str) -> Vec<u8> {
        let word = scaled << 3 | code;
        let prefix: Ipv6Addr = prefix.parse().unwrap();
        [&[38, 2], &word.to_be_bytes()[..], &prefix.octets()[..12]].concat()
    }

    /// RFC 4861 section 4.2, RFC 4191 section 2.2.
    #[test]
    fn an_advertisement_is_read() {
        let prefix = [
            &[3, 4, 64, 0xc0][..],
            &[0, 0, 0x1c, 0x20, 0, 0, 0x0e, 0x10, 0, 0, 0, 0],
            &"2001:db8:6::".parse::<Ipv6Addr>().unwrap().octets(),
        ]
        .concat();
        let dns: Ipv6Addr = "2001:db8::53".parse().unwrap();
        let rdnss = [&[25, 3, 0, 0, 0, 0, 2, 88][..], &dns.octets()].concat();
        let mtu = [5, 1, 0, 0, 0, 0, 5, 0xdc];
        let unknown = [99, 1, 0, 0, 0, 0, 0, 0];
        let read = read(&[&unknown, &prefix, &mtu, &rdnss]).unwrap();
        assert_eq!(
            read,
            RouterAdvertisement {
                router_lifetime: Duration::from_secs(1800),
                preference: 1,
                prefixes: vec![PrefixInformation {
                    prefix: "2001:db8:6::".parse().unwrap(),
                    length: 64,
                    autonomous: true,
                    valid: Duration::from_secs(7200),
                    preferred: Duration::from_secs(3600),
                }],
                mtu: Some(1500),
                dns_servers: vec![(dns, Duration::from_secs(600))],
                pref64: vec![],
            }
        );
    }

    /// RFC 8781 section 4.
    #[test]
    fn nat64_prefixes_of_every_length_are_read() {
        let written = "2001:db8:a:b:c:d:e:f";
        for (code, length, prefix) in [
            (0, 96, "2001:db8:a:b:c:d::"),
            (1, 64, "2001:db8:a:b::"),
            (2, 56, "2001:db8:a::"),
            (3, 48, "2001:db8:a::"),
            (4, 40, "2001:db8::"),
            (5, 32, "2001:db8::"),
        ] {
            let read = read(&[&option_pref64(75, code, written)]).unwrap();
            let expected = Pref64 {
                prefix: prefix.parse().unwrap(),
                length,
                lifetime: Duration::from_secs(600),
            };
            assert_eq!(read.pref64, [expected], "/{length}");
        }
        for code in [6, 7] {
            assert_eq!(
                read(&[&option_pref64(75, code, written)]).unwrap().pref64,
                []
            );
        }
        let mut longer = option_pref64(75, 0, written);
        longer[1] = 3;
        longer.extend([0; 8]);
        assert_eq!(read(&[&longer]).unwrap().pref64, []);
        let zero = read(&[&option_pref64(0, 0, written)]).unwrap();
        assert_eq!(zero.pref64[0].lifetime, Duration::ZERO);
        let longest = read(&[&option_pref64(0x1fff, 0, written)]).unwrap();
        assert_eq!(longest.pref64[0].lifetime, Duration::from_secs(65528));
    }

    /// RFC 4861 section 4.6: an option of length zero invalidates it.
    #[test]
    fn other_messages_are_refused() {
        assert!(read(&[]).is_some());
        assert!(read(&[&[38, 0, 0, 0, 0, 0, 0, 0]]).is_none(), "no length");
        assert!(read(&[&[38, 2, 0, 0, 0, 0, 0, 0]]).is_none(), "cut");
        assert!(read(&[&[38]]).is_none(), "cut");
        for at in [0, 1] {
            let mut other = HEADER;
            other[at] += 1;
            assert!(RouterAdvertisement::parse(&other).is_none());
        }
        assert!(RouterAdvertisement::parse(&HEADER[..15]).is_none());
    }

    #[test]
    fn options_of_a_kind_are_limited() {
        let many = option_pref64(75, 0, "2001:db8::").repeat(1000);
        assert_eq!(read(&[&many]).unwrap().pref64.len(), MAX_OPTIONS);
    }

    /// RFC 4861 sections 4.1, 4.3 and 4.4.
    #[test]
    fn messages_are_written_as_neighbours_read_them() {
        let mac = [2, 0, 0, 0, 0, 1];
        assert_eq!(
            router_solicitation(Some(mac)),
            [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1]
        );
        assert_eq!(router_solicitation(None).len(), 8);
        let target: Ipv6Addr = "2001:db8::12:3456".parse().unwrap();
        let mut solicitation = vec![135, 0, 0, 0, 0, 0, 0, 0];
        solicitation.extend(target.octets());
        assert_eq!(solicited_target(&solicitation), Some(target));
        assert_eq!(solicited_target(&solicitation[..23]), None);
        assert_eq!(solicited_node(target).to_string(), "ff02::1:ff12:3456");
        let advertisement = neighbour_advertisement(target, true, Some(mac));
        assert_eq!(advertisement[..8], [136, 0, 0, 0, 0x60, 0, 0, 0]);
        assert_eq!(advertisement[8..24], target.octets());
        assert_eq!(advertisement[24..], [2, 1, 2, 0, 0, 0, 0, 1]);
        assert_eq!(neighbour_advertisement(target, false, None)[4], 0x20);
    }

    /// RFC 4443 sections 3.3, 4.1 and 4.2.
    #[test]
    fn answers_to_probes_are_recognised() {
        let probe = probe(0x1234);
        assert_eq!(probe, [128, 0, 0, 0, 0x12, 0x34, 0, 1]);
        let exceeded = [&[3, 0, 0, 0, 0, 0, 0, 0], &[0; 40][..], &probe].concat();
        assert!(answers_probe(&exceeded, 0x1234));
        assert!(!answers_probe(&exceeded, 0x1235));
        assert!(!answers_probe(&exceeded[..53], 0x1234), "cut");
        assert!(answers_probe(&[129, 0, 0, 0, 0x12, 0x34, 0, 1], 0x1234));
        assert!(!answers_probe(&probe, 0x1234), "its echo");
        assert!(!answers_probe(&[1, 0, 0, 0, 0x12, 0x34], 0x1234));
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(message in vec(any::<u8>(), 0..200)) {
            let message = [&[134, 0], &*message].concat();
            if let Some(read) = RouterAdvertisement::parse(&message) {
                prop_assert!(read.pref64.len() + read.prefixes.len() <= message.len() / 16);
            }
            let _ = (solicited_target(&message), answers_probe(&message, 0));
        }
    }

    /// RFC 4191 section 2.2: high, medium, reserved, and low, beside flags that are not of it.
    #[test]
    fn preferences_are_read() {
        for (bits, preference) in [(0b01, 1), (0b00, 0), (0b10, 0), (0b11, -1)] {
            for flags in [0, 0xe7] {
                let mut message = [0; ADVERTISEMENT_LEN];
                message[0] = ROUTER_ADVERTISEMENT;
                message[ADVERTISEMENT_FLAGS_AT] = bits << 3 | flags;
                let read = RouterAdvertisement::parse(&message).unwrap();
                assert_eq!(read.preference, preference, "{bits:02b}");
            }
        }
    }

    /// RFC 4861 section 4.6.2: the A flag is the second one, after that of prefixes on the link.
    #[test]
    fn addresses_are_formed_in_autonomous_prefixes() {
        for (flags, autonomous) in [(0x00, false), (0x80, false), (0x40, true), (0xff, true)] {
            let mut option = [0; 32];
            (option[PREFIX_LENGTH_AT], option[PREFIX_FLAGS_AT]) = (64, flags);
            let read = prefix_information(&option).unwrap();
            assert_eq!(read.autonomous, autonomous, "{flags:#04x}");
        }
    }
}
