//! IPv4 packets (RFC 791 section 3.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Version|  IHL  |Type of Service|          Total Length         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |         Identification        |Flags|      Fragment Offset    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  Time to Live |    Protocol   |         Header Checksum       |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                       Source Address                          |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                    Destination Address                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                    Options                    |    Padding    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use std::net::Ipv4Addr;

use super::{FragmentPlace, Malformed, checksum::Sum, put_u16};

/// Length of a header without options, in octets.
pub const HEADER_LEN: usize = 20;
/// Offset of the protocol, in octets.
pub const PROTOCOL_AT: usize = 9;
/// Offset of the source address, which the destination follows, in octets.
pub const SOURCE_AT: usize = 12;

const VERSION_AND_IHL_AT: usize = 0;
const TOS_AT: usize = 1;
const TOTAL_LEN_AT: usize = 2;
const IDENTIFICATION_AT: usize = 4;
const FLAGS_AND_OFFSET_AT: usize = 6;
const TTL_AT: usize = 8;
const CHECKSUM_AT: usize = 10;
const DESTINATION_AT: usize = 16;

/// Version 4, and a header of five 32-bit words.
const VERSION_AND_MIN_IHL: u8 = 0x45;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// Offset of the pointer in a source route option, in octets.
const OPTION_POINTER_AT: usize = 2;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_LOOSE_SOURCE_ROUTE: u8 = 131;
const OPTION_STRICT_SOURCE_ROUTE: u8 = 137;

/// A received IPv4 packet, borrowed from the buffer it was read into (RFC 791 section 3.1).
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Ipv4Packet<'a> {
    /// Reads one packet; octets after its total length are link padding and ignored.
    pub fn parse(octets: &'a [u8]) -> Result<Self, Malformed> {
        let packet = Self::parse_quoted(octets)?;
        let total_len = usize::from(packet.total_len());
        if octets.len() < total_len {
            return Err(Malformed::Truncated);
        }
        Ok(packet)
    }

    /// Reads the packet that an ICMP error quotes: its payload is as much of it as is there, which
    /// may be nothing.
    pub fn parse_quoted(octets: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = octets.split_first_chunk().ok_or(Malformed::Truncated)?;
        let header: &[u8; HEADER_LEN] = header;
        if header[VERSION_AND_IHL_AT] >> 4 != 4 {
            return Err(Malformed::Version);
        }
        let header_len = header_len(header);
        let total_len = [header[TOTAL_LEN_AT], header[TOTAL_LEN_AT + 1]];
        let total_len = usize::from(u16::from_be_bytes(total_len));
        if header_len < HEADER_LEN || total_len < header_len {
            return Err(Malformed::Length);
        }
        if octets.len() < header_len {
            return Err(Malformed::Truncated);
        }
        let rest = &rest[..rest.len().min(total_len - HEADER_LEN)];
        let (options, payload) = rest.split_at(header_len - HEADER_LEN);
        Ok(Self {
            header,
            options,
            payload,
        })
    }

    /// Length of the header with its options, in octets.
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// Type of service: DSCP and ECN (RFC 2474, RFC 3168).
    pub fn tos(&self) -> u8 {
        self.header[TOS_AT]
    }

    /// Length of header and payload as the header says, in octets.
    pub fn total_len(&self) -> u16 {
        self.field(TOTAL_LEN_AT)
    }

    /// Identifies the fragments of one datagram.
    pub fn identification(&self) -> u16 {
        self.field(IDENTIFICATION_AT)
    }

    /// Whether routers may not fragment this packet (DF).
    pub fn dont_fragment(&self) -> bool {
        self.field(FLAGS_AND_OFFSET_AT) & DONT_FRAGMENT != 0
    }

    /// Its place in its datagram.
    pub fn fragment(&self) -> FragmentPlace {
        let field = self.field(FLAGS_AND_OFFSET_AT);
        FragmentPlace {
            offset: (field & OFFSET_MASK) << 3,
            more: field & MORE_FRAGMENTS != 0,
        }
    }

    /// Time to live, in hops.
    pub fn ttl(&self) -> u8 {
        self.header[TTL_AT]
    }

    /// Protocol of the payload.
    pub fn protocol(&self) -> u8 {
        self.header[PROTOCOL_AT]
    }

    /// Source address.
    pub fn source(&self) -> Ipv4Addr {
        self.address(SOURCE_AT)
    }

    /// Destination address.
    pub fn destination(&self) -> Ipv4Addr {
        self.address(DESTINATION_AT)
    }

    /// All that follows the header and its options.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Checks the header checksum.
    pub fn verify_checksum(&self) -> Result<(), Malformed> {
        if (Sum::of(self.header) + Sum::of(self.options)).verifies() {
            Ok(())
        } else {
            Err(Malformed::HeaderChecksum)
        }
    }

    /// Whether a loose or strict source route has addresses left to visit (RFC 791 section 3.1,
    /// RFC 7915 section 4.1).
    pub fn has_unexpired_source_route(&self) -> Result<bool, Malformed> {
        let mut options = self.options;
        while let [kind, rest @ ..] = options {
            match *kind {
                OPTION_END => break,
                OPTION_NOP => options = rest,
                kind => {
                    let len = usize::from(*rest.first().ok_or(Malformed::Options)?);
                    if len < 2 || len > options.len() {
                        return Err(Malformed::Options);
                    }
                    if kind == OPTION_LOOSE_SOURCE_ROUTE || kind == OPTION_STRICT_SOURCE_ROUTE {
                        let pointer = *options[..len]
                            .get(OPTION_POINTER_AT)
                            .ok_or(Malformed::Options)?;
                        if usize::from(pointer) <= len {
                            return Ok(true);
                        }
                    }
                    options = &options[len..];
                }
            }
        }
        Ok(false)
    }

    fn field(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.header[at], self.header[at + 1]])
    }

    fn address(&self, at: usize) -> Ipv4Addr {
        let mut octets = [0; 4];
        octets.copy_from_slice(&self.header[at..at + 4]);
        Ipv4Addr::from_octets(octets)
    }
}

/// Length of a header with its options, in octets, as its IHL says in 32-bit words.
fn header_len(header: &[u8; HEADER_LEN]) -> usize {
    usize::from(header[VERSION_AND_IHL_AT] & 0x0f) * 4
}

/// Whether two headers, both whole, are the same but for total length, identification and checksum.
pub fn is_same_but_for_length(one: &[u8], other: &[u8]) -> bool {
    one[..TOTAL_LEN_AT] == other[..TOTAL_LEN_AT]
        && one[FLAGS_AND_OFFSET_AT..CHECKSUM_AT] == other[FLAGS_AND_OFFSET_AT..CHECKSUM_AT]
        && one[SOURCE_AT..] == other[SOURCE_AT..]
}

/// Makes the total length of a packet, whose header is whole, that of `packet`, and adds `step` to
/// its identification.
pub fn put_len(packet: &mut [u8], step: u16) {
    let (total_len, mut header_end) = (packet.len(), HEADER_LEN);
    if let Some(header) = packet.first_chunk_mut() {
        header_end = header_len(header).clamp(HEADER_LEN, total_len);
        let old = [header[IDENTIFICATION_AT], header[IDENTIFICATION_AT + 1]];
        let identification = u16::from_be_bytes(old).wrapping_add(step);
        put_u16(header, TOTAL_LEN_AT, total_len as u16); // no packet is longer
        put_u16(header, IDENTIFICATION_AT, identification);
        put_u16(header, CHECKSUM_AT, 0);
    }
    let checksum = Sum::of(&packet[..header_end]).checksum();
    put_u16(packet, CHECKSUM_AT, checksum);
}

/// A header to send, without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Header {
    /// Type of service.
    pub tos: u8,
    /// Length of header and payload, in octets.
    pub total_len: u16,
    /// Identifies the fragments of one datagram.
    pub identification: u16,
    /// DF.
    pub dont_fragment: bool,
    /// Place in the datagram.
    pub fragment: FragmentPlace,
    /// Time to live, in hops.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
}

impl Ipv4Header {
    /// The header, with its checksum.
    pub fn octets(&self) -> [u8; HEADER_LEN] {
        let mut flags_and_offset = self.fragment.offset >> 3; // 8-octet units on the wire
        if self.fragment.more {
            flags_and_offset |= MORE_FRAGMENTS;
        }
        if self.dont_fragment {
            flags_and_offset |= DONT_FRAGMENT;
        }
        let mut octets = [0; HEADER_LEN];
        octets[VERSION_AND_IHL_AT] = VERSION_AND_MIN_IHL;
        octets[TOS_AT] = self.tos;
        put_u16(&mut octets, TOTAL_LEN_AT, self.total_len);
        put_u16(&mut octets, IDENTIFICATION_AT, self.identification);
        put_u16(&mut octets, FLAGS_AND_OFFSET_AT, flags_and_offset);
        octets[TTL_AT] = self.ttl;
        octets[PROTOCOL_AT] = self.protocol;
        octets[SOURCE_AT..DESTINATION_AT].copy_from_slice(&self.source.octets());
        octets[DESTINATION_AT..].copy_from_slice(&self.destination.octets());
        let checksum = Sum::of(&octets).checksum();
        put_u16(&mut octets, CHECKSUM_AT, checksum);
        octets
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    // ping -c 1 -s 4 -p 6162 -T tsonly 192.0.2.2 (with a timestamp option of 8 octets), 36 octets
    // in all
    const PING: [u8; 40] = [
        0x47, 0x00, 0x00, 0x28, 0x1c, 0x46, 0x40, 0x00, 0x40, 0x01, 0x00, 0x00, 192, 0, 2, 1, 192,
        0, 2, 2, // header
        0x44, 0x08, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, // timestamp
        0x08, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x01, b'a', b'b', b'a',
        b'b', // echo request
    ];

    fn header() -> Ipv4Header {
        Ipv4Header {
            tos: 0xb8,
            total_len: 576,
            identification: 0x1234,
            dont_fragment: false,
            fragment: FragmentPlace {
                offset: 65528,
                more: true,
            },
            ttl: 3,
            protocol: 17,
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(203, 0, 113, 9),
        }
    }

    #[test]
    fn reads_every_field() {
        let packet = Ipv4Packet::parse(&PING).unwrap();
        assert_eq!(packet.header_len(), 28);
        assert_eq!(packet.tos(), 0);
        assert_eq!(packet.total_len(), 40);
        assert_eq!(packet.identification(), 0x1c46);
        assert!(packet.dont_fragment());
        assert!(packet.fragment().is_whole());
        assert_eq!(packet.ttl(), 64);
        assert_eq!(packet.protocol(), 1);
        assert_eq!(packet.source(), Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(packet.destination(), Ipv4Addr::new(192, 0, 2, 2));
        assert_eq!(packet.payload(), &PING[28..]);
        assert_eq!(packet.verify_checksum(), Err(Malformed::HeaderChecksum));
    }

    #[test]
    fn a_written_header_is_read_back() {
        let mut octets = header().octets().to_vec();
        octets.resize(576, 0xa5);
        let packet = Ipv4Packet::parse(&octets).unwrap();
        assert_eq!(packet.verify_checksum(), Ok(()));
        assert_eq!(packet.tos(), 0xb8);
        assert_eq!(packet.identification(), 0x1234);
        assert!(!packet.dont_fragment());
        assert_eq!(packet.fragment(), header().fragment);
        assert_eq!((packet.ttl(), packet.protocol()), (3, 17));
        assert_eq!(packet.source(), header().source);
        assert_eq!(packet.destination(), header().destination);
    }

    /// Every octet counts but those of total length, identification and checksum.
    #[test]
    fn headers_of_a_flow_differ_in_length_identification_and_checksum() {
        let one = header().octets();
        for at in 0..HEADER_LEN {
            let mut other = one;
            other[at] ^= 1;
            let expected = matches!(at, 2..=5 | 10 | 11);
            assert_eq!(is_same_but_for_length(&one, &other), expected, "octet {at}");
        }
    }

    #[test]
    fn a_new_length_comes_with_identification_and_checksum() {
        let mut octets = PING;
        put_len(&mut octets[..36], 3);
        let packet = Ipv4Packet::parse(&octets).unwrap();
        assert_eq!(packet.total_len(), 36);
        assert_eq!(packet.identification(), 0x1c49);
        assert_eq!(packet.verify_checksum(), Ok(()), "options and all");
        assert_eq!(packet.payload(), &PING[28..36]);
    }

    #[test]
    fn every_shorter_prefix_is_refused() {
        for len in 0..PING.len() {
            assert_eq!(
                Ipv4Packet::parse(&PING[..len]).unwrap_err(),
                Malformed::Truncated,
                "{len}"
            );
        }
    }

    #[test]
    fn padding_after_the_packet_is_ignored() {
        let padded = [PING.as_slice(), &[0xa5; 6]].concat();
        assert_eq!(Ipv4Packet::parse(&padded).unwrap().payload(), &PING[28..]);
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for (octet, value) in [(0, 0x44), (0, 0x40), (3, 27), (3, 0)] {
            let mut octets = PING;
            octets[octet] = value;
            assert_eq!(
                Ipv4Packet::parse(&octets).unwrap_err(),
                Malformed::Length,
                "octet {octet} = {value}"
            );
        }
        let mut octets = PING;
        octets[0] = 0x65;
        assert_eq!(Ipv4Packet::parse(&octets).unwrap_err(), Malformed::Version);
    }

    #[test]
    fn a_quoted_packet_may_be_cut_anywhere_after_its_header() {
        for len in 28..PING.len() {
            assert_eq!(
                Ipv4Packet::parse_quoted(&PING[..len]).unwrap().payload(),
                &PING[28..len]
            );
        }
        assert_eq!(
            Ipv4Packet::parse_quoted(&PING[..27]).unwrap_err(),
            Malformed::Truncated
        );
    }

    fn with_options(options: &[u8]) -> Result<bool, Malformed> {
        let mut octets = header().octets().to_vec();
        octets[0] = 0x40 | (5 + options.len() / 4) as u8;
        octets[3] = 20 + options.len() as u8;
        octets[2] = 0;
        octets.extend_from_slice(options);
        Ipv4Packet::parse(&octets)
            .unwrap()
            .has_unexpired_source_route()
    }

    #[test]
    fn source_routes_are_found_and_their_pointer_is_read() {
        assert_eq!(with_options(&[131, 7, 4, 192, 0, 2, 9, 0]), Ok(true));
        assert_eq!(with_options(&[1, 137, 7, 4, 192, 0, 2, 9]), Ok(true));
        assert_eq!(
            with_options(&[131, 7, 8, 192, 0, 2, 9, 0]),
            Ok(false),
            "visited"
        );
        assert_eq!(
            with_options(&[7, 7, 4, 0, 0, 0, 0, 0]),
            Ok(false),
            "record route"
        );
        assert_eq!(
            with_options(&[0, 131, 7, 4]),
            Ok(false),
            "after the end of options"
        );
    }

    #[test]
    fn impossible_options_are_refused() {
        for options in [
            [131, 1, 4, 0],
            [7, 0, 4, 0],
            [7, 5, 4, 0],
            [1, 1, 1, 131],
            [1, 1, 131, 2],
        ] {
            assert_eq!(
                with_options(&options),
                Err(Malformed::Options),
                "{options:?}"
            );
        }
    }
}
