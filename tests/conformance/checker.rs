//! A plain parser of packets that fails on anything a translator must not emit. It shares no code
//! with the library.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const DCCP: u8 = 33;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const UDP_LITE: u8 = 136;

/// A packet of either family, with at most a Fragment header between IP header and upper layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ip {
    pub(crate) version: u8,
    /// TOS or Traffic Class.
    pub(crate) class: u8,
    /// TTL or hop limit.
    pub(crate) hops: u8,
    /// Length of the whole packet as the header says, in octets.
    pub(crate) len: usize,
    /// Of the IPv4 header, or of the Fragment header, or 0.
    pub(crate) id: u32,
    pub(crate) df: bool,
    pub(crate) more: bool,
    /// Fragment offset in octets.
    pub(crate) offset: usize,
    pub(crate) fragment_header: bool,
    /// Protocol of the upper layer.
    pub(crate) protocol: u8,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) upper: Vec<u8>,
}

/// What a transport checksum is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
    /// A UDP packet without one.
    Absent,
    /// Of a protocol without one that covers addresses.
    Unknown,
}

/// An ICMP message of either family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Icmp {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// The four octets after the checksum.
    pub(crate) rest: [u8; 4],
    pub(crate) body: Vec<u8>,
}

/// RFC 1071, word by word; the result is not inverted.
pub(crate) fn sum(octets: &[u8]) -> u16 {
    let mut sum = 0u16;
    for pair in octets.chunks(2) {
        let word = u16::from(pair[0]) << 8 | u16::from(*pair.get(1).unwrap_or(&0));
        let (wrapped, carry) = sum.overflowing_add(word);
        sum = wrapped + u16::from(carry);
    }
    sum
}

/// Both addresses, length and protocol as the checksum of the upper layer covers them.
pub(crate) fn pseudo_header(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    len: usize,
) -> Vec<u8> {
    let len = (len as u32).to_be_bytes();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => [
            &source.octets()[..],
            &destination.octets(),
            &[0, protocol],
            &len[2..],
        ]
        .concat(),
        (IpAddr::V6(source), IpAddr::V6(destination)) => [
            &source.octets()[..],
            &destination.octets(),
            &len,
            &[0, 0, 0, protocol],
        ]
        .concat(),
        _ => panic!("two families in one packet"),
    }
}

/// Where a protocol has its checksum, if that covers addresses.
pub(crate) fn checksum_at(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(16),
        UDP | UDP_LITE | DCCP => Some(6),
        ICMP | ICMPV6 => Some(2),
        _ => None,
    }
}

/// Reads an emitted packet and verifies all of it but the upper layer.
pub(crate) fn parse(octets: &[u8]) -> Ip {
    let ip = read(octets);
    assert_eq!(ip.len, octets.len(), "length in the IP header");
    ip
}

/// Reads a packet that an ICMP error quotes: possibly cut, possibly padded.
pub(crate) fn parse_quoted(octets: &[u8]) -> Ip {
    read(octets)
}

fn read(octets: &[u8]) -> Ip {
    match octets[0] >> 4 {
        4 => read_v4(octets),
        6 => read_v6(octets),
        version => panic!("version {version}"),
    }
}

fn read_v4(octets: &[u8]) -> Ip {
    assert!(octets.len() >= 20, "shorter than an IPv4 header");
    assert_eq!(octets[0], 0x45, "IPv4 without options");
    assert_eq!(sum(&octets[..20]), 0xffff, "IPv4 header checksum");
    assert_eq!(octets[6] & 0x80, 0, "reserved flag");
    let len = usize::from(octets[2]) << 8 | usize::from(octets[3]);
    assert!(len >= 20, "total length {len}");
    let address = |at: usize| -> [u8; 4] { octets[at..at + 4].try_into().unwrap() };
    Ip {
        version: 4,
        class: octets[1],
        hops: octets[8],
        len,
        id: u32::from(octets[4]) << 8 | u32::from(octets[5]),
        df: octets[6] & 0x40 != 0,
        more: octets[6] & 0x20 != 0,
        offset: (usize::from(octets[6] & 0x1f) << 8 | usize::from(octets[7])) * 8,
        fragment_header: false,
        protocol: octets[9],
        source: Ipv4Addr::from(address(12)).into(),
        destination: Ipv4Addr::from(address(16)).into(),
        upper: octets[20..len.min(octets.len())].to_vec(),
    }
}

fn read_v6(octets: &[u8]) -> Ip {
    assert!(octets.len() >= 40, "shorter than an IPv6 header");
    assert_eq!(octets[1] & 0x0f, 0, "flow label");
    assert_eq!(octets[2..4], [0, 0], "flow label");
    let len = 40 + (usize::from(octets[4]) << 8 | usize::from(octets[5]));
    let address = |at: usize| -> [u8; 16] { octets[at..at + 16].try_into().unwrap() };
    let mut ip = Ip {
        version: 6,
        class: octets[0] << 4 | octets[1] >> 4,
        hops: octets[7],
        len,
        id: 0,
        df: false,
        more: false,
        offset: 0,
        fragment_header: false,
        protocol: octets[6],
        source: Ipv6Addr::from(address(8)).into(),
        destination: Ipv6Addr::from(address(24)).into(),
        upper: octets[40..len.min(octets.len())].to_vec(),
    };
    if ip.protocol == FRAGMENT {
        let header: Vec<u8> = ip.upper.drain(..8).collect();
        assert_eq!(header[1], 0, "reserved octet of the Fragment header");
        assert_eq!(header[3] & 0x06, 0, "reserved bits of the Fragment header");
        ip.protocol = header[0];
        ip.fragment_header = true;
        ip.offset = usize::from(header[2]) << 8 | usize::from(header[3] & 0xf8);
        ip.more = header[3] & 1 != 0;
        ip.id = u32::from_be_bytes(header[4..8].try_into().unwrap());
    }
    assert!(
        !matches!(ip.protocol, 0 | 43 | 44 | 60),
        "an extension header was emitted: {}",
        ip.protocol
    );
    ip
}

impl Ip {
    pub(crate) fn is_fragment(&self) -> bool {
        self.more || self.offset != 0
    }

    /// The packet's ICMP message.
    pub(crate) fn icmp(&self) -> Icmp {
        let expected = if self.version == 4 { ICMP } else { ICMPV6 };
        assert_eq!(self.protocol, expected, "not an ICMP message");
        let upper = &self.upper;
        assert!(upper.len() >= 8, "ICMP message of {} octets", upper.len());
        Icmp {
            kind: upper[0],
            code: upper[1],
            rest: upper[4..8].try_into().unwrap(),
            body: upper[8..].to_vec(),
        }
    }

    /// Whether it is an ICMP error.
    pub(crate) fn is_icmp_error(&self) -> bool {
        match (self.version, self.protocol, self.upper.first()) {
            (4, ICMP, Some(kind)) => matches!(kind, 3 | 4 | 5 | 11 | 12),
            (6, ICMPV6, Some(kind)) => *kind < 128,
            _ => false,
        }
    }

    /// What the checksum in the upper layer is, of a whole datagram.
    pub(crate) fn verdict(&self) -> Verdict {
        let Some(at) = checksum_at(self.protocol) else {
            return Verdict::Unknown;
        };
        if self.protocol == UDP && self.upper[at..at + 2] == [0, 0] {
            return Verdict::Absent;
        }
        // A UDP packet is as long as it says (RFC 768); others are all that is there.
        let upper = match self.protocol {
            UDP => &self.upper[..usize::from(self.upper[4]) << 8 | usize::from(self.upper[5])],
            _ => &self.upper[..],
        };
        let mut covered = match self.protocol {
            ICMP => Vec::new(),
            protocol => pseudo_header(self.source, self.destination, protocol, upper.len()),
        };
        covered.extend(upper);
        if sum(&covered) == 0xffff {
            Verdict::Right
        } else {
            Verdict::Wrong
        }
    }

    /// Source and destination as text.
    pub(crate) fn addresses(&self) -> (String, String) {
        (self.source.to_string(), self.destination.to_string())
    }
}

impl Icmp {
    /// Type and code.
    pub(crate) fn is(&self, kind: u8, code: u8) -> bool {
        (self.kind, self.code) == (kind, code)
    }

    /// The four octets after the checksum as a number: MTU of a Packet Too Big, pointer of ICMPv6.
    pub(crate) fn word(&self) -> u32 {
        u32::from_be_bytes(self.rest)
    }

    /// The MTU in a "fragmentation needed".
    pub(crate) fn mtu_v4(&self) -> u16 {
        u16::from_be_bytes([self.rest[2], self.rest[3]])
    }

    /// What an error quotes.
    pub(crate) fn quoted(&self) -> Ip {
        parse_quoted(&self.body)
    }
}

/// Puts fragments together that came in order, and verifies that they are of one datagram.
pub(crate) fn reassemble(fragments: &[Ip]) -> Ip {
    let mut whole = fragments[0].clone();
    for fragment in &fragments[1..] {
        assert_eq!(
            fragment.offset,
            whole.offset + whole.upper.len(),
            "a gap before a fragment"
        );
        assert!(whole.more, "more after the last fragment");
        assert!(
            whole.upper.len().is_multiple_of(8),
            "only the last fragment may have any length"
        );
        whole.upper.extend(&fragment.upper);
        whole.more = fragment.more;
        let expected = Ip {
            len: fragment.len,
            offset: fragment.offset,
            more: fragment.more,
            upper: fragment.upper.clone(),
            ..whole.clone()
        };
        assert_eq!(*fragment, expected, "fragments of one datagram");
    }
    whole
}

/// Whether a good packet is an IPv6 packet with a Fragment header.
pub(crate) fn has_fragment_header(octets: &[u8]) -> bool {
    let (mut protocol, mut at) = (octets[6], 40);
    while octets[0] >> 4 == 6 && matches!(protocol, 0 | 43 | 60) {
        (protocol, at) = (octets[at], at + (usize::from(octets[at + 1]) + 1) * 8);
    }
    octets[0] >> 4 == 6 && protocol == FRAGMENT
}

/// Protocol and upper layer of any good packet, whatever options or extension headers it has.
pub(crate) fn upper_layer(octets: &[u8]) -> (u8, Vec<u8>) {
    let number = |at: usize| usize::from(octets[at]) << 8 | usize::from(octets[at + 1]);
    if octets[0] >> 4 == 4 {
        let header_len = usize::from(octets[0] & 0x0f) * 4;
        return (octets[9], octets[header_len..number(2)].to_vec());
    }
    let (mut protocol, mut at) = (octets[6], 40);
    while matches!(protocol, 0 | 43 | 44 | 60) {
        let len = match protocol {
            FRAGMENT => 8,
            _ => (usize::from(octets[at + 1]) + 1) * 8,
        };
        protocol = octets[at];
        at += len;
    }
    (protocol, octets[at..40 + number(4)].to_vec())
}
