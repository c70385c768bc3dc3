//! IPv6 packets and their extension headers (RFC 8200 sections 3 and 4).
//!
//! ```text
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Version| Traffic Class |           Flow Label                  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |         Payload Length        |  Next Header  |   Hop Limit   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                 Source Address (16 octets)                    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |               Destination Address (16 octets)                 |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Hop-by-Hop Options, Routing and Destination Options headers; octet 3 is Segments Left in a
//! Routing header:
//!
//! ```text
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  Next Header  |  Hdr Ext Len  |  Routing Type | Segments Left |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Fragment header:
//!
//! ```text
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  Next Header  |   Reserved    |      Fragment Offset    |Res|M|
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                         Identification                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use std::net::Ipv6Addr;

use super::{FragmentPlace, Malformed, protocol, put_u16};

/// Length of the fixed header, in octets.
pub const HEADER_LEN: usize = 40;
/// Length of a Fragment header, in octets.
pub const FRAGMENT_LEN: usize = 8;
/// Every link carries IPv6 packets of this many octets (RFC 8200 section 5).
pub const MIN_MTU: u16 = 1280;
/// Offset of Next Header in the fixed header, in octets.
pub const NEXT_HEADER_AT: usize = 6;
/// Offset of the source address, which the destination follows, in octets.
pub const SOURCE_AT: usize = 8;

const VERSION_AND_CLASS_AT: usize = 0;
const PAYLOAD_LEN_AT: usize = 4;
const HOP_LIMIT_AT: usize = 7;
/// Offset of the destination, in octets.
pub const DESTINATION_AT: usize = 24;

/// Offset of Next Header in each extension header, in octets.
const EXTENSION_NEXT_HEADER_AT: usize = 0;
/// Offset of the length in each extension header but the Fragment header, in octets.
const EXTENSION_LEN_AT: usize = 1;
const SEGMENTS_LEFT_AT: usize = 3;
const FRAGMENT_OFFSET_AT: usize = 2;
const FRAGMENT_IDENTIFICATION_AT: usize = 4;

/// Most extension headers of a packet. No sender has a use for more, and to walk 8,000 of them in
/// every packet would be work that an attacker gets for nothing (RFC 8504 section 5.3 lets a node
/// limit them).
const MAX_EXTENSION_HEADERS: usize = 8;

const MORE_FRAGMENTS: u16 = 0x0001;
const OFFSET_MASK: u16 = 0xfff8;

/// A received IPv6 packet, borrowed from the buffer it was read into (RFC 8200 section 3).
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

/// The upper layer of a packet, behind its extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpperLayer {
    /// Protocol of what follows the extension headers.
    pub protocol: u8,
    /// Its offset in the packet, in octets.
    pub offset: usize,
    /// Offset in the packet of the Next Header field that names it, in octets.
    pub next_header_at: usize,
    /// The Fragment header, if there is one; headers after it are not walked.
    pub fragment: Option<FragmentHeader>,
    /// Offset in the packet of the first Segments Left field that is not zero, in octets.
    pub segments_left_at: Option<usize>,
}

impl<'a> Ipv6Packet<'a> {
    /// Reads one packet; octets after its payload length are link padding and ignored.
    pub fn parse(octets: &'a [u8]) -> Result<Self, Malformed> {
        let packet = Self::parse_quoted(octets)?;
        if packet.payload.len() < usize::from(packet.payload_len()) {
            return Err(Malformed::Truncated);
        }
        Ok(packet)
    }

    /// Reads the packet that an ICMPv6 error quotes: its payload is as much of it as is there,
    /// which may be nothing.
    pub fn parse_quoted(octets: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = octets.split_first_chunk().ok_or(Malformed::Truncated)?;
        let header: &[u8; HEADER_LEN] = header;
        if header[VERSION_AND_CLASS_AT] >> 4 != 6 {
            return Err(Malformed::Version);
        }
        let payload_len = [header[PAYLOAD_LEN_AT], header[PAYLOAD_LEN_AT + 1]];
        let payload_len = usize::from(u16::from_be_bytes(payload_len));
        Ok(Self {
            header,
            payload: &rest[..rest.len().min(payload_len)],
        })
    }

    /// Traffic Class: DSCP and ECN.
    pub fn traffic_class(&self) -> u8 {
        (self.field(VERSION_AND_CLASS_AT) >> 4) as u8
    }

    /// Length of all that follows the fixed header, as the header says, in octets.
    pub fn payload_len(&self) -> u16 {
        self.field(PAYLOAD_LEN_AT)
    }

    /// Hop limit.
    pub fn hop_limit(&self) -> u8 {
        self.header[HOP_LIMIT_AT]
    }

    /// Source address.
    pub fn source(&self) -> Ipv6Addr {
        self.address(SOURCE_AT)
    }

    /// Destination address.
    pub fn destination(&self) -> Ipv6Addr {
        self.address(DESTINATION_AT)
    }

    /// All that follows the fixed header, extension headers too.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Walks Hop-by-Hop Options, Routing and Destination Options headers, up to and including a
    /// Fragment header. Everything else is the upper layer: ESP, AH and No Next Header too (RFC
    /// 7915 section 5.1).
    pub fn upper_layer(&self) -> Result<UpperLayer, Malformed> {
        let mut upper = UpperLayer {
            protocol: self.header[NEXT_HEADER_AT],
            offset: HEADER_LEN,
            next_header_at: NEXT_HEADER_AT,
            fragment: None,
            segments_left_at: None,
        };
        for _ in 0..=MAX_EXTENSION_HEADERS {
            let rest = &self.payload[upper.offset - HEADER_LEN..];
            let len = match upper.protocol {
                protocol::FRAGMENT => {
                    let octets = rest.first_chunk().ok_or(Malformed::Truncated)?;
                    upper.fragment = Some(FragmentHeader::parse(octets));
                    FRAGMENT_LEN
                }
                protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                    let len = rest.get(EXTENSION_LEN_AT).ok_or(Malformed::Truncated)?;
                    // In 8-octet units, the first not counted.
                    let len = (usize::from(*len) + 1) * 8;
                    if len > rest.len() {
                        return Err(Malformed::ExtensionHeaders);
                    }
                    if upper.protocol == protocol::ROUTING
                        && rest[SEGMENTS_LEFT_AT] != 0
                        && upper.segments_left_at.is_none()
                    {
                        upper.segments_left_at = Some(upper.offset + SEGMENTS_LEFT_AT);
                    }
                    len
                }
                _ => return Ok(upper),
            };
            upper.protocol = rest[EXTENSION_NEXT_HEADER_AT];
            upper.next_header_at = upper.offset + EXTENSION_NEXT_HEADER_AT;
            upper.offset += len;
            if upper.fragment.is_some() {
                return Ok(upper);
            }
        }
        Err(Malformed::ExtensionHeaders)
    }

    fn field(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.header[at], self.header[at + 1]])
    }

    fn address(&self, at: usize) -> Ipv6Addr {
        let mut octets = [0; 16];
        octets.copy_from_slice(&self.header[at..at + 16]);
        Ipv6Addr::from_octets(octets)
    }
}

/// Whether a protocol number names an extension header that may not follow a Fragment header in a
/// packet to be translated (RFC 7915 section 5.1.1, which excepts ESP, since IPv4 has it too).
pub fn is_extension_header(number: u8) -> bool {
    matches!(
        number,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6
    )
}

/// Walks extension headers of all kinds, of which `number` is the first, to the upper layer, and
/// returns its protocol and its octets; `None` if they are cut off. Unlike
/// [`Ipv6Packet::upper_layer`] this goes on behind a Fragment header, and however many there are.
pub fn behind_extension_headers(mut number: u8, mut octets: &[u8]) -> Option<(u8, &[u8])> {
    // Each has 8 octets or more, so the end of the packet is the end of this.
    while is_extension_header(number) {
        let len = match number {
            protocol::FRAGMENT => FRAGMENT_LEN,
            // In 4-octet units, two of them not counted (RFC 4302 section 2.2).
            protocol::AUTHENTICATION => (usize::from(*octets.get(EXTENSION_LEN_AT)?) + 2) * 4,
            _ => (usize::from(*octets.get(EXTENSION_LEN_AT)?) + 1) * 8,
        };
        number = *octets.get(EXTENSION_NEXT_HEADER_AT)?;
        octets = octets.get(len..)?;
    }
    Some((number, octets))
}

/// Whether two fixed headers, both whole, are the same but for the payload length.
pub fn is_same_but_for_length(one: &[u8], other: &[u8]) -> bool {
    one[..PAYLOAD_LEN_AT] == other[..PAYLOAD_LEN_AT]
        && one[NEXT_HEADER_AT..] == other[NEXT_HEADER_AT..]
}

/// Makes the payload length of a packet, whose fixed header is whole, that of `packet`.
pub fn put_len(packet: &mut [u8]) {
    let len = packet.len() - HEADER_LEN;
    put_u16(packet, PAYLOAD_LEN_AT, len as u16); // no packet is longer
}

/// A fixed header to send, with flow label zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Header {
    /// Traffic Class.
    pub traffic_class: u8,
    /// Length of all that follows, in octets.
    pub payload_len: u16,
    /// Protocol of what follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Ipv6Header {
    /// The header.
    pub fn octets(&self) -> [u8; HEADER_LEN] {
        let mut octets = [0; HEADER_LEN];
        let version_and_class = 0x6000 | u16::from(self.traffic_class) << 4;
        put_u16(&mut octets, VERSION_AND_CLASS_AT, version_and_class);
        put_u16(&mut octets, PAYLOAD_LEN_AT, self.payload_len);
        octets[NEXT_HEADER_AT] = self.next_header;
        octets[HOP_LIMIT_AT] = self.hop_limit;
        octets[SOURCE_AT..DESTINATION_AT].copy_from_slice(&self.source.octets());
        octets[DESTINATION_AT..].copy_from_slice(&self.destination.octets());
        octets
    }
}

/// A Fragment header (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentHeader {
    /// Protocol of what was fragmented.
    pub next_header: u8,
    /// Place in the datagram.
    pub place: FragmentPlace,
    /// Identifies the fragments of one datagram.
    pub identification: u32,
}

impl FragmentHeader {
    fn parse(octets: &[u8; FRAGMENT_LEN]) -> Self {
        let [next_header, _, high, low, identification @ ..] = *octets;
        let field = u16::from_be_bytes([high, low]);
        Self {
            next_header,
            place: FragmentPlace {
                offset: field & OFFSET_MASK,
                more: field & MORE_FRAGMENTS != 0,
            },
            identification: u32::from_be_bytes(identification),
        }
    }

    /// The header.
    pub fn octets(&self) -> [u8; FRAGMENT_LEN] {
        let field = self.place.offset | u16::from(self.place.more);
        let mut octets = [0; FRAGMENT_LEN];
        octets[EXTENSION_NEXT_HEADER_AT] = self.next_header;
        put_u16(&mut octets, FRAGMENT_OFFSET_AT, field);
        octets[FRAGMENT_IDENTIFICATION_AT..].copy_from_slice(&self.identification.to_be_bytes());
        octets
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    fn header(next_header: u8, payload_len: u16) -> Ipv6Header {
        Ipv6Header {
            traffic_class: 0xb9,
            payload_len,
            next_header,
            hop_limit: 7,
            source: "2001:db8::1".parse().unwrap(),
            destination: "64:ff9b::192.0.2.33".parse().unwrap(),
        }
    }

    fn packet(next_header: u8, payload: &[u8]) -> Vec<u8> {
        [
            header(next_header, payload.len() as u16)
                .octets()
                .as_slice(),
            payload,
        ]
        .concat()
    }

    #[test]
    fn a_written_header_is_read_back() {
        let octets = packet(17, &[0xa5; 8]);
        assert_eq!(&octets[..4], &[0x6b, 0x90, 0, 0], "flow label zero");
        let read = Ipv6Packet::parse(&octets).unwrap();
        assert_eq!(read.traffic_class(), 0xb9);
        assert_eq!(read.payload_len(), 8);
        assert_eq!(read.hop_limit(), 7);
        assert_eq!(read.source(), header(17, 8).source);
        assert_eq!(read.destination(), header(17, 8).destination);
        let upper = UpperLayer {
            protocol: 17,
            offset: 40,
            next_header_at: 6,
            fragment: None,
            segments_left_at: None,
        };
        assert_eq!(read.upper_layer().unwrap(), upper);
    }

    /// Every octet counts but those of the payload length.
    #[test]
    fn headers_of_a_flow_differ_in_payload_length() {
        let one = header(17, 8).octets();
        for at in 0..HEADER_LEN {
            let mut other = one;
            other[at] ^= 1;
            let expected = matches!(at, 4 | 5);
            assert_eq!(is_same_but_for_length(&one, &other), expected, "octet {at}");
        }
    }

    #[test]
    fn a_new_length_is_read_back() {
        let mut octets = packet(17, &[0xa5; 8]);
        put_len(&mut octets[..45]);
        assert_eq!(Ipv6Packet::parse(&octets).unwrap().payload().len(), 5);
    }

    #[test]
    fn every_shorter_prefix_is_refused() {
        let octets = packet(17, &[0xa5; 8]);
        for len in 0..octets.len() {
            assert_eq!(
                Ipv6Packet::parse(&octets[..len]).unwrap_err(),
                Malformed::Truncated
            );
            assert_eq!(Ipv6Packet::parse_quoted(&octets[..len]).is_ok(), len >= 40);
        }
        let mut octets = octets;
        octets[0] = 0x45;
        assert_eq!(Ipv6Packet::parse(&octets).unwrap_err(), Malformed::Version);
    }

    #[test]
    fn extension_headers_are_walked_to_the_upper_layer() {
        // Hop-by-hop options, then destination options of 16 octets.
        let mut payload = vec![60, 0, 1, 4, 0, 0, 0, 0];
        payload.extend([43, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        payload.extend([6, 0, 4, 0, 0, 0, 0, 0]); // routing, no segments left
        payload.extend([0xa5; 20]);
        let octets = packet(0, &payload);
        let upper = Ipv6Packet::parse(&octets).unwrap().upper_layer().unwrap();
        assert_eq!(
            (upper.protocol, upper.offset, upper.next_header_at),
            (6, 40 + 32, 40 + 24)
        );
        assert_eq!((upper.fragment, upper.segments_left_at), (None, None));
    }

    #[test]
    fn first_routing_header_with_segments_left_is_pointed_at() {
        let octets = packet(43, &[43, 0, 4, 0, 0, 0, 0, 0, 17, 0, 4, 9, 0, 0, 0, 0]);
        assert_eq!(
            Ipv6Packet::parse(&octets)
                .unwrap()
                .upper_layer()
                .unwrap()
                .segments_left_at,
            Some(51)
        );
        let octets = packet(43, &[43, 0, 4, 1, 0, 0, 0, 0, 17, 0, 4, 9, 0, 0, 0, 0]);
        assert_eq!(
            Ipv6Packet::parse(&octets)
                .unwrap()
                .upper_layer()
                .unwrap()
                .segments_left_at,
            Some(43)
        );
    }

    #[test]
    fn the_walk_ends_behind_a_fragment_header() {
        let fragment = FragmentHeader {
            next_header: 60,
            place: FragmentPlace {
                offset: 65528,
                more: true,
            },
            identification: 0xdead_beef,
        };
        let octets = packet(44, &[fragment.octets().as_slice(), &[0xa5; 8]].concat());
        let upper = Ipv6Packet::parse(&octets).unwrap().upper_layer().unwrap();
        assert_eq!(upper.fragment, Some(fragment));
        assert_eq!(
            (upper.protocol, upper.offset, upper.next_header_at),
            (60, 48, 40)
        );
    }

    #[test]
    fn impossible_extension_headers_are_refused() {
        let walk = |next, payload: &[u8]| {
            Ipv6Packet::parse(&packet(next, payload))
                .unwrap()
                .upper_layer()
        };
        assert_eq!(walk(0, &[]), Err(Malformed::Truncated));
        assert_eq!(walk(0, &[17]), Err(Malformed::Truncated));
        assert_eq!(
            walk(0, &[17, 0, 0, 0, 0, 0, 0]),
            Err(Malformed::ExtensionHeaders)
        );
        assert_eq!(
            walk(60, &[17, 255, 0, 0, 0, 0, 0, 0]),
            Err(Malformed::ExtensionHeaders)
        );
        assert_eq!(walk(44, &[17, 0, 0, 0, 0, 0, 0]), Err(Malformed::Truncated));
        assert_eq!(
            walk(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(5000)),
            Err(Malformed::ExtensionHeaders)
        );
    }

    #[test]
    fn every_kind_of_extension_header_is_walked() {
        let mut octets = Vec::new();
        // Each names the next. A Fragment header has no length, and that of AH counts in 4 octets.
        for (next, length, len) in [(44, 1, 16), (60, 0xff, 8), (51, 0, 8), (58, 4, 24)] {
            octets.extend_from_slice(&[next, length]);
            octets.resize(octets.len() + len - 2, 0xa5);
        }
        octets.extend_from_slice(b"message");
        for (number, at) in [(0, 0), (44, 16), (60, 24), (51, 32)] {
            let behind = behind_extension_headers(number, &octets[at..]);
            assert_eq!(behind, Some((58, b"message".as_slice())), "from {number}");
        }
        assert_eq!(
            behind_extension_headers(17, b"udp"),
            Some((17, b"udp".as_slice()))
        );
        for len in 0..56 {
            assert_eq!(
                behind_extension_headers(0, &octets[..len]),
                None,
                "{len} octets"
            );
        }
        let endless = [60, 0, 0, 0, 0, 0, 0, 0].repeat(100);
        assert_eq!(behind_extension_headers(60, &endless), None);
    }
}
