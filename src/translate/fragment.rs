//! Fragmentation of a translated packet to the MTU of the next hop, and the identification of IPv4
//! packets.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Packet, offload::Treatment};
use crate::wire::{
    FragmentPlace,
    ipv4::{self, Ipv4Header},
    ipv6::{self, FragmentHeader, Ipv6Header},
};

/// The size of a translated packet compared with the MTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Fits,
    /// The packet is to be cut into fragments of at most `mtu` octets.
    Cut {
        mtu: usize,
    },
    /// The packet is to be cut, and its offloaded work must be done in software first: no fragment
    /// can have it left.
    NeedsSoftware,
}

impl Size {
    /// The size of a packet of `len` octets that may be fragmented.
    pub(super) fn of(len: usize, mtu: usize, treatment: Treatment) -> Self {
        if len <= mtu {
            Self::Fits
        } else if treatment == Treatment::Plain {
            Self::Cut { mtu }
        } else {
            Self::NeedsSoftware
        }
    }
}

/// The fragments of one packet.
///
/// Each is put together in a buffer of the caller: rare enough for a copy.
#[derive(Debug)]
pub struct Fragments<'p> {
    packet: &'p Packet,
    header: Header,
    /// Offset in `packet` of the payload of the next fragment, in octets.
    at: usize,
    /// Payload of each fragment but the last, in octets; a multiple of 8.
    chunk: usize,
    /// Place of the payload that is left.
    place: FragmentPlace,
}

/// The header of each fragment; lengths and place are filled in.
#[derive(Debug)]
enum Header {
    V4(Ipv4Header),
    V6(Ipv6Header, FragmentHeader),
}

impl<'p> Fragments<'p> {
    /// Cuts what `packet` holds from its octet `at` on into IPv6 packets of at most `mtu` octets,
    /// at least 1280.
    pub(super) fn v6(
        packet: &'p Packet,
        at: usize,
        header: Ipv6Header,
        extension: FragmentHeader,
        mtu: usize,
    ) -> Self {
        let chunk = (mtu - ipv6::HEADER_LEN - ipv6::FRAGMENT_LEN) & !7;
        Self {
            packet,
            at,
            chunk,
            place: extension.place,
            header: Header::V6(header, extension),
        }
    }

    /// Cuts what `packet` holds from its octet `at` on into IPv4 packets of at most `mtu` octets,
    /// at least 68.
    pub(super) fn v4(packet: &'p Packet, at: usize, header: Ipv4Header, mtu: usize) -> Self {
        let chunk = (mtu - ipv4::HEADER_LEN) & !7;
        Self {
            packet,
            at,
            chunk,
            place: header.fragment,
            header: Header::V4(header),
        }
    }

    /// Puts the next fragment into `fragment`. `false` if there is none any more.
    pub fn next(&mut self, fragment: &mut Packet) -> bool {
        let payload = &self.packet.bytes()[self.at..];
        let left = payload.len();
        if left == 0 {
            return false;
        }
        let len = left.min(self.chunk);
        let payload = &payload[..len];
        let place = FragmentPlace {
            offset: self.place.offset,
            more: self.place.more || len < left,
        };
        self.at += len;
        self.place.offset += len as u16; // less than 65536 in all (FragmentPlace::admits)
        match &self.header {
            Header::V4(header) => {
                let total_len = (ipv4::HEADER_LEN + len) as u16;
                let header = Ipv4Header {
                    total_len,
                    fragment: place,
                    ..*header
                };
                fragment.put(&[&header.octets(), payload]);
            }
            Header::V6(header, extension) => {
                let payload_len = (ipv6::FRAGMENT_LEN + len) as u16;
                let header = Ipv6Header {
                    payload_len,
                    ..*header
                };
                let extension = FragmentHeader {
                    place,
                    ..*extension
                };
                fragment.put(&[&header.octets(), &extension.octets(), payload]);
            }
        }
        true
    }
}

/// Identification of IPv4 packets that may be fragmented on their way: not zero, and not to be
/// guessed from outside (RFC 7915 section 5.1, RFC 7739).
#[derive(Debug)]
pub(super) struct Identification {
    seed: u64,
    drawn: u64,
    /// Bits left of the last draw, 16 a packet.
    stock: u64,
}

impl Identification {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            drawn: 0,
            stock: 0,
        }
    }

    pub(super) fn next(&mut self) -> u16 {
        loop {
            if self.stock == 0 {
                // A keyed hash of a counter: SipHash, so that seeing some does not tell the rest.
                let mut hasher = DefaultHasher::new();
                (self.seed, self.drawn).hash(&mut hasher);
                self.stock = hasher.finish();
                self.drawn += 1;
            }
            let next = self.stock as u16;
            self.stock >>= 16;
            if next != 0 {
                return next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::wire::{ipv4::Ipv4Packet, ipv6::Ipv6Packet};

    fn packet(payload: &[u8]) -> Packet {
        let mut packet = Packet::new();
        packet.replace(payload);
        packet
    }

    fn payload(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i / 8) as u8).collect()
    }

    /// RFC 7915 section 4.1: a fragment stays a fragment of the same datagram.
    #[test]
    fn reassembled_ipv6_fragments_are_the_payload() {
        let payload = payload(3001);
        let packet = packet(&payload);
        let header = Ipv6Header {
            traffic_class: 1,
            payload_len: 0,
            next_header: 44,
            hop_limit: 9,
            source: "2001:db8::1".parse().unwrap(),
            destination: "2001:db8::2".parse().unwrap(),
        };
        let place = FragmentPlace {
            offset: 1480,
            more: true,
        };
        let fragment = FragmentHeader {
            next_header: 17,
            place,
            identification: 0x1234,
        };
        let mut fragments = Fragments::v6(&packet, 0, header, fragment, 1280);
        let (mut whole, mut mores) = (Vec::new(), Vec::new());
        let mut fragment = Packet::new();
        while fragments.next(&mut fragment) {
            let octets = fragment.bytes();
            assert!(octets.len() <= 1280);
            let upper = Ipv6Packet::parse(octets).unwrap().upper_layer().unwrap();
            let fragment = upper.fragment.unwrap();
            assert_eq!(
                (fragment.identification, fragment.next_header),
                (0x1234, 17)
            );
            assert_eq!(usize::from(fragment.place.offset), 1480 + whole.len());
            mores.push(fragment.place.more);
            whole.extend_from_slice(&octets[48..]);
        }
        assert_eq!(whole, payload);
        assert_eq!(
            mores,
            [true, true, true],
            "the packet was itself not the last fragment"
        );
    }

    /// RFC 7915 section 5.1.
    #[test]
    fn reassembled_ipv4_fragments_are_the_payload() {
        let payload = payload(3001);
        let packet = packet(&payload);
        let header = Ipv4Header {
            tos: 1,
            total_len: 0,
            identification: 77,
            dont_fragment: false,
            fragment: FragmentPlace::WHOLE,
            ttl: 9,
            protocol: 17,
            source: [192, 0, 2, 1].into(),
            destination: [192, 0, 2, 2].into(),
        };
        let mut fragments = Fragments::v4(&packet, 0, header, 1500);
        let (mut whole, mut mores) = (Vec::new(), Vec::new());
        let mut fragment = Packet::new();
        while fragments.next(&mut fragment) {
            let octets = fragment.bytes();
            assert!(octets.len() <= 1500);
            let read = Ipv4Packet::parse(octets).unwrap();
            assert_eq!(read.verify_checksum(), Ok(()));
            assert_eq!(usize::from(read.fragment().offset), whole.len());
            mores.push(read.fragment().more);
            whole.extend_from_slice(read.payload());
        }
        assert_eq!(whole, payload);
        assert_eq!(mores, [true, true, false]);
    }

    /// RFC 7915 section 5.1.
    #[test]
    fn identifications_are_not_zero_and_depend_on_the_seed() {
        let draw = |seed| {
            let mut identification = Identification::new(seed);
            (0..100_000)
                .map(|_| identification.next())
                .collect::<Vec<_>>()
        };
        let drawn = draw(1);
        assert!(drawn.iter().all(|&id| id != 0));
        assert_ne!(drawn[..8], draw(2)[..8]);
        let mut distinct = drawn[..1000].to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 950, "{} of 1000 distinct", distinct.len());
    }
}
