//! Packets in octets, built and read plainly: nothing here comes from the library, which is what is
//! tested.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;
/// Use for experimentation and testing (RFC 3692).
pub(crate) const EXPERIMENT: u8 = 253;

/// "Don't fragment", in [`Ipv4::fragment`].
pub(crate) const DF: u16 = 0x4000;
/// "More fragments", in [`Ipv4::fragment`].
pub(crate) const MF: u16 = 0x2000;

/// The ones' complement sum of 16-bit words (RFC 1071), its carries folded in.
pub(crate) fn sum(octets: &[u8]) -> u16 {
    let mut sum = 0u64;
    for word in octets.chunks(2) {
        sum += u64::from(u16::from_be_bytes([
            word[0],
            word.get(1).copied().unwrap_or(0),
        ]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of a TCP or UDP segment, or an ICMPv6 message, with its pseudo-header: 0xffff where the
/// checksum in it is right.
pub(crate) fn transport_sum(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    segment: &[u8],
) -> u16 {
    let mut octets = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => octets.extend(address.octets()),
            IpAddr::V6(address) => octets.extend(address.octets()),
        }
    }
    octets.extend((segment.len() as u32).to_be_bytes());
    octets.extend([0, 0, 0, protocol]);
    octets.extend(segment);
    sum(&octets)
}

/// An IPv4 packet (RFC 791).
#[derive(Clone, Debug)]
pub(crate) struct Ipv4 {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) tos: u8,
    pub(crate) identification: u16,
    /// [`DF`], [`MF`] and the offset in units of 8 octets.
    pub(crate) fragment: u16,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Ipv4 {
    pub(crate) fn new(source: &str, destination: &str, protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            tos: 0,
            identification: 1,
            fragment: 0,
            ttl: 64,
            protocol,
            options: Vec::new(),
            payload,
        }
    }

    /// Reads a packet; `None` where it is no complete IPv4 packet with a good header checksum.
    pub(crate) fn parse(octets: &[u8]) -> Option<Self> {
        if octets.len() < 20 || octets[0] >> 4 != 4 {
            return None;
        }
        let word = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
        let header = usize::from(octets[0] & 15) * 4;
        let total = usize::from(word(2));
        if header < 20 || total < header || octets.len() < total || sum(&octets[..header]) != 0xffff
        {
            return None;
        }
        Some(Self {
            source: address4(&octets[12..16]),
            destination: address4(&octets[16..20]),
            tos: octets[1],
            identification: word(4),
            fragment: word(6),
            ttl: octets[8],
            protocol: octets[9],
            options: octets[20..header].to_vec(),
            payload: octets[header..total].to_vec(),
        })
    }

    pub(crate) fn octets(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let mut octets = vec![0x40 | (header / 4) as u8, self.tos];
        octets.extend(((header + self.payload.len()) as u16).to_be_bytes());
        octets.extend(self.identification.to_be_bytes());
        octets.extend(self.fragment.to_be_bytes());
        octets.extend([self.ttl, self.protocol, 0, 0]);
        octets.extend(self.source.octets());
        octets.extend(self.destination.octets());
        octets.extend(&self.options);
        let checksum = !sum(&octets);
        octets[10..12].copy_from_slice(&checksum.to_be_bytes());
        octets.extend(&self.payload);
        octets
    }

    /// The sum over payload and pseudo-header: 0xffff where the checksum is right.
    pub(crate) fn transport_sum(&self) -> u16 {
        if self.protocol == ICMP {
            return sum(&self.payload); // no pseudo-header
        }
        transport_sum(
            self.source.into(),
            self.destination.into(),
            self.protocol,
            &self.payload,
        )
    }
}

/// An IPv6 packet (RFC 8200); extension headers are part of the payload.
#[derive(Clone, Debug)]
pub(crate) struct Ipv6 {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) traffic_class: u8,
    pub(crate) hop_limit: u8,
    pub(crate) next_header: u8,
    pub(crate) payload: Vec<u8>,
}

impl Ipv6 {
    pub(crate) fn new(source: &str, destination: &str, next_header: u8, payload: Vec<u8>) -> Self {
        Self {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            traffic_class: 0,
            hop_limit: 64,
            next_header,
            payload,
        }
    }

    /// Reads a packet; `None` where it is no complete IPv6 packet.
    pub(crate) fn parse(octets: &[u8]) -> Option<Self> {
        if octets.len() < 40 || octets[0] >> 4 != 6 {
            return None;
        }
        let payload = usize::from(u16::from_be_bytes([octets[4], octets[5]]));
        Some(Self {
            source: address6(&octets[8..24]),
            destination: address6(&octets[24..40]),
            traffic_class: octets[0] << 4 | octets[1] >> 4,
            hop_limit: octets[7],
            next_header: octets[6],
            payload: octets[40..].get(..payload)?.to_vec(),
        })
    }

    pub(crate) fn octets(&self) -> Vec<u8> {
        let class = self.traffic_class;
        let mut octets = vec![0x60 | class >> 4, class << 4, 0, 0];
        octets.extend((self.payload.len() as u16).to_be_bytes());
        octets.extend([self.next_header, self.hop_limit]);
        octets.extend(self.source.octets());
        octets.extend(self.destination.octets());
        octets.extend(&self.payload);
        octets
    }

    /// The sum over payload and pseudo-header: 0xffff where the checksum is right.
    pub(crate) fn transport_sum(&self) -> u16 {
        transport_sum(
            self.source.into(),
            self.destination.into(),
            self.next_header,
            &self.payload,
        )
    }

    /// The Fragment header, where the packet has one as its first extension header, and what is
    /// behind it.
    pub(crate) fn fragment(&self) -> Option<(FragmentHeader, &[u8])> {
        if self.next_header != FRAGMENT {
            return None;
        }
        let (header, rest) = self.payload.split_first_chunk::<8>()?;
        let field = u16::from_be_bytes([header[2], header[3]]);
        let header = FragmentHeader {
            next_header: header[0],
            offset: field & !7,
            more: field & 1 != 0,
            identification: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        };
        Some((header, rest))
    }
}

/// The IPv6 Fragment header (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FragmentHeader {
    pub(crate) next_header: u8,
    /// In octets.
    pub(crate) offset: u16,
    pub(crate) more: bool,
    pub(crate) identification: u32,
}

impl FragmentHeader {
    /// The header with `payload` behind it.
    pub(crate) fn before(self, payload: &[u8]) -> Vec<u8> {
        let mut octets = vec![self.next_header, 0];
        octets.extend((self.offset | u16::from(self.more)).to_be_bytes());
        octets.extend(self.identification.to_be_bytes());
        octets.extend(payload);
        octets
    }
}

/// A UDP datagram between the ports, its checksum right for the addresses.
pub(crate) fn udp(source: &str, destination: &str, ports: [u16; 2], data: &[u8]) -> Vec<u8> {
    let mut octets = udp_without_checksum(ports, data);
    let checksum = !transport_sum(
        source.parse().unwrap(),
        destination.parse().unwrap(),
        UDP,
        &octets,
    );
    octets[6..8].copy_from_slice(&checksum.to_be_bytes());
    octets
}

/// A UDP datagram between the ports; its checksum is 0, which says that there is none.
pub(crate) fn udp_without_checksum(ports: [u16; 2], data: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    for word in [ports[0], ports[1], (8 + data.len()) as u16, 0] {
        octets.extend(word.to_be_bytes());
    }
    octets.extend(data);
    octets
}

/// An ICMPv4 message, its checksum right (RFC 792).
pub(crate) fn icmp(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut octets = vec![kind, code, 0, 0];
    octets.extend(rest);
    octets.extend(body);
    let checksum = !sum(&octets);
    octets[2..4].copy_from_slice(&checksum.to_be_bytes());
    octets
}

/// An ICMPv6 message, its checksum right for the addresses (RFC 4443).
pub(crate) fn icmpv6(
    source: &str,
    destination: &str,
    kind: u8,
    code: u8,
    rest: [u8; 4],
    body: &[u8],
) -> Vec<u8> {
    let mut octets = vec![kind, code, 0, 0];
    octets.extend(rest);
    octets.extend(body);
    let checksum = !transport_sum(
        source.parse().unwrap(),
        destination.parse().unwrap(),
        ICMPV6,
        &octets,
    );
    octets[2..4].copy_from_slice(&checksum.to_be_bytes());
    octets
}

/// `len` octets that differ from those of another length, and from themselves shifted.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at * 7 + len * 13 + at / 251) as u8)
        .collect()
}

fn address4(octets: &[u8]) -> Ipv4Addr {
    <[u8; 4]>::try_from(octets).unwrap().into()
}

fn address6(octets: &[u8]) -> Ipv6Addr {
    <[u8; 16]>::try_from(octets).unwrap().into()
}
