//! Segmentation of a super-packet in software.

use crate::{
    translate::Packet,
    wire::{
        checksum::Sum,
        ipv4, ipv6, put_u16,
        tcp::{self, TcpSegment},
        transport, u16_at, udp,
        virtio::{Offload, PartialChecksum, SegmentKind, SegmentTransport},
    },
};

/// The segments of a super-packet, with no offloaded work left.
///
/// They are needed where a super-packet cannot be translated as one: its IP header has options or
/// extension headers, or its segments would have to be fragmented. Rare, slow and correct.
#[derive(Debug)]
pub struct Segments<'p> {
    packet: &'p Packet,
    kind: SegmentKind,
    checksum: PartialChecksum,
    /// Offset of the payload that is cut, in octets.
    payload_at: usize,
    /// Length of the payload that has been taken, in octets.
    taken: usize,
    /// Number of segments that have been taken.
    count: u16,
}

impl<'p> Segments<'p> {
    /// The segments of `packet`; `None` if it is no super-packet, or if its headers do not match
    /// its offload header.
    pub(crate) fn of(packet: &'p Packet) -> Option<Self> {
        let Offload { checksum, segments } = packet.offload();
        let (kind, checksum) = (segments?, checksum?);
        let protocol = kind.transport.protocol();
        let transport = packet.bytes().get(checksum.start..)?;
        let header_len = transport::header_len(protocol, transport)?;
        let is_checksum = checksum.field == checksum.start + transport::checksum_at(protocol)?;
        let has_header = match packet.bytes()[0] >> 4 {
            4 => checksum.start >= ipv4::HEADER_LEN,
            _ => checksum.start >= ipv6::HEADER_LEN,
        };
        (is_checksum && has_header).then_some(Self {
            packet,
            kind,
            checksum,
            payload_at: checksum.start + header_len,
            taken: 0,
            count: 0,
        })
    }

    /// Puts the next segment into `segment`. `false` if there is none any more.
    pub fn next(&mut self, segment: &mut Packet) -> bool {
        let octets = self.packet.bytes();
        let payload = &octets[self.payload_at..];
        if self.taken >= payload.len() {
            return false;
        }
        let len = (payload.len() - self.taken).min(self.kind.size.into());
        let is_last = self.taken + len == payload.len();
        let payload = &payload[self.taken..self.taken + len];
        segment.put(&[&octets[..self.payload_at], payload]);
        let new = segment.tail_mut(0);
        if new[0] >> 4 == 4 {
            ipv4::put_len(new, self.count);
        } else {
            ipv6::put_len(new); // extension headers stay
        }
        let PartialChecksum { start, field } = self.checksum;
        let transport = &mut new[start..];
        match self.kind.transport {
            SegmentTransport::Tcp { ecn } => self.put_tcp(transport, ecn, is_last),
            SegmentTransport::Udp => udp::put_len(transport),
        }
        // The length in the pseudo-header is now that of the segment.
        let (before, after) = (octets.len() - start, transport.len());
        let pseudo = Sum::word(u16_at(transport, field - start).unwrap_or(0)); // it is there
        let pseudo = pseudo + Sum::word(!(before as u16)) + Sum::word(after as u16);
        put_u16(transport, field - start, pseudo.fold());
        segment.finish(self.checksum);
        self.taken += len;
        self.count += 1;
        true
    }

    /// Writes the sequence number of the next segment. FIN and PSH are left to the last one, and
    /// CWR to the first one (RFC 3168 section 6.1.2).
    fn put_tcp(&self, segment: &mut [u8], ecn: bool, is_last: bool) {
        let Ok(tcp) = TcpSegment::parse(segment) else {
            return; // never: the header was read before
        };
        let sequence = tcp.sequence().wrapping_add(self.taken as u32); // less than 65536
        let mut flags = tcp.flags();
        if !is_last {
            flags &= !(tcp::FIN | tcp::PSH);
        }
        if ecn && self.count > 0 {
            flags &= !tcp::CWR;
        }
        tcp::put_sequence_and_flags(segment, sequence, flags);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use std::time::Instant;

    use super::*;
    use crate::{
        addr::{AddressMap, Eam, Nat64Prefix},
        translate::{Outcome, Reply, Settings, Translator},
        wire::{
            FragmentPlace,
            ipv4::{Ipv4Header, Ipv4Packet},
            ipv6::Ipv6Header,
            protocol,
            virtio::HEADER_LEN,
        },
    };

    fn translator(settings: Settings) -> Translator {
        let prefix = Nat64Prefix::new("2001:db8:64::/96".parse().unwrap()).unwrap();
        let own = ["192.0.2.1", "2001:db8::1"];
        let mut map = AddressMap::new(
            own[0].parse().unwrap(),
            own[1].parse().unwrap(),
            Some(prefix),
            true,
        );
        let host = Eam::new(
            "203.0.113.9".parse().unwrap(),
            "2001:db8:6::9".parse().unwrap(),
        );
        map.insert(host.unwrap()).unwrap();
        Translator::new(settings, map, 1)
    }

    /// A super-packet of `segments` times `size` octets less 3, as the kernel passes it.
    fn super_packet(version: u8, protocol: u8, df: bool, size: usize, segments: usize) -> Packet {
        let len = size * segments - 3;
        let payload: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
        let mut transport = if protocol == protocol::TCP {
            let mut tcp = vec![0; 32]; // with 12 octets of options
            tcp[4..8].copy_from_slice(&0xffff_f000_u32.to_be_bytes()); // it wraps around
            (tcp[12], tcp[13]) = (0x80, 0x98); // CWR, PSH and ACK
            tcp
        } else {
            vec![0; 8]
        };
        transport[..4].copy_from_slice(&[0x10, 0, 0, 80]);
        let header_len = transport.len();
        transport.extend(&payload);
        let upper_len = transport.len();
        if protocol == protocol::UDP {
            transport[4..6].copy_from_slice(&(upper_len as u16).to_be_bytes());
        }
        let (header, pseudo) = if version == 4 {
            let header = Ipv4Header {
                tos: 2,
                total_len: (20 + upper_len) as u16,
                identification: 77,
                dont_fragment: df,
                fragment: FragmentPlace::WHOLE,
                ttl: 9,
                protocol,
                source: "198.51.100.7".parse().unwrap(),
                destination: "203.0.113.9".parse().unwrap(),
            };
            let pseudo = Sum::pseudo_v4(header.source, header.destination, protocol, upper_len);
            (header.octets().to_vec(), pseudo)
        } else {
            let header = Ipv6Header {
                traffic_class: 2,
                payload_len: upper_len as u16,
                next_header: protocol,
                hop_limit: 9,
                source: "2001:db8:6::9".parse().unwrap(),
                destination: "2001:db8:64::198.51.100.7".parse().unwrap(),
            };
            let pseudo = Sum::pseudo_v6(header.source, header.destination, protocol, upper_len);
            (header.octets().to_vec(), pseudo)
        };
        let at = transport::checksum_at(protocol).unwrap();
        transport[at..at + 2].copy_from_slice(&pseudo.fold().to_be_bytes());
        let octets = [header.as_slice(), &transport].concat();
        let is_tcp = protocol == protocol::TCP;
        let offload = Offload {
            checksum: Some(PartialChecksum {
                start: header.len(),
                field: header.len() + at,
            }),
            segments: Some(SegmentKind {
                transport: if is_tcp {
                    SegmentTransport::Tcp { ecn: true }
                } else {
                    SegmentTransport::Udp
                },
                size: size as u16,
            }),
        };
        received(
            &octets,
            &offload.octets(version, 0, header.len() + header_len),
        )
    }

    fn received(octets: &[u8], header: &[u8; HEADER_LEN]) -> Packet {
        let mut packet = Packet::new();
        let read = [header.as_slice(), octets].concat();
        packet.read_buffer()[..read.len()].copy_from_slice(&read);
        packet.received(read.len()).unwrap();
        packet
    }

    /// An IPv6 packet with a Destination Options header of 8 octets before its transport header.
    fn with_options(packet: &Packet) -> Vec<u8> {
        let mut octets = packet.bytes().to_vec();
        let protocol = std::mem::replace(&mut octets[6], protocol::DESTINATION_OPTIONS);
        octets.splice(40..40, [protocol, 0, 1, 4, 0, 0, 0, 0]);
        let len = (octets.len() - 40) as u16;
        octets[4..6].copy_from_slice(&len.to_be_bytes());
        octets
    }

    /// The segments of a super-packet.
    fn cut(packet: &Packet) -> Vec<Vec<u8>> {
        let mut segments = Segments::of(packet).unwrap();
        let mut segment = Packet::new();
        let mut all = Vec::new();
        while segments.next(&mut segment) {
            assert!(segment.offload().is_none());
            all.push(segment.bytes().to_vec());
        }
        all
    }

    /// A packet without its identification, which is random, and the header checksum.
    fn comparable(mut octets: Vec<u8>) -> Vec<u8> {
        if octets[0] >> 4 == 4 {
            octets[4..6].fill(0);
            octets[10..12].fill(0);
        }
        octets
    }

    /// Fails unless lengths and checksums are right.
    fn check(octets: &[u8]) {
        let sum = match octets[0] >> 4 {
            4 => {
                let packet = Ipv4Packet::parse(octets).unwrap();
                assert_eq!(packet.verify_checksum(), Ok(()));
                assert_eq!(usize::from(packet.total_len()), octets.len());
                let upper = packet.payload();
                let (source, destination) = (packet.source(), packet.destination());
                Sum::pseudo_v4(source, destination, packet.protocol(), upper.len()) + Sum::of(upper)
            }
            _ => {
                let packet = ipv6::Ipv6Packet::parse(octets).unwrap();
                let upper = packet.payload();
                assert_eq!(40 + upper.len(), octets.len());
                let (source, destination) = (packet.source(), packet.destination());
                Sum::pseudo_v6(source, destination, octets[6], upper.len()) + Sum::of(upper)
            }
        };
        assert!(sum.verifies(), "{octets:02x?}");
    }

    /// A network card that joins segments (LRO) has verified the checksum, and leaves that of one
    /// of them: it becomes the partial one that a kernel would have given.
    #[test]
    fn a_super_packet_whose_checksum_was_verified_gets_a_partial_one() {
        const VERIFIED: u8 = 2; // VIRTIO_NET_HDR_F_DATA_VALID
        for (version, protocol) in [
            (4, protocol::TCP),
            (6, protocol::TCP),
            (4, protocol::UDP),
            (6, protocol::UDP),
        ] {
            let whole = super_packet(version, protocol, true, 1200, 4);
            let PartialChecksum { field, .. } = whole.offload().checksum.unwrap();
            let mut octets = whole.bytes().to_vec();
            octets[field..field + 2].copy_from_slice(&[0xa5, 0x5a]);
            let mut header = whole.offload().octets(version, 0, 60);
            header[0] = VERIFIED;
            header[6..].fill(0);
            let packet = received(&octets, &header);
            assert_eq!(packet.bytes(), whole.bytes(), "{version} {protocol}");
            assert_eq!(packet.offload(), whole.offload());

            // Of another protocol, cut short, or with octets behind it that do not count.
            let mut other = octets.clone();
            other[if version == 4 { 9 } else { 6 }] = protocol::SCTP;
            for broken in [&other[..], &octets[..field + 1], &octets[..30], &[]] {
                let mut packet = Packet::new();
                let read = [&header, broken].concat();
                packet.read_buffer()[..read.len()].copy_from_slice(&read);
                assert!(packet.received(read.len()).is_err());
                assert!(packet.offload().is_none());
            }
        }
    }

    /// Translation before segmentation gives the same packets as segmentation before translation.
    #[test]
    fn a_super_packet_is_translated_as_its_segments_are() {
        for (version, protocol, df, size, segments) in [
            (4, protocol::TCP, true, 1428, 40),
            (6, protocol::TCP, false, 1428, 40),
            (4, protocol::UDP, true, 1200, 50),
            (4, protocol::UDP, false, 1200, 50),
            (6, protocol::UDP, false, 1200, 50),
            (6, protocol::UDP, false, 1400, 2),
            (4, protocol::TCP, true, 7, 3),
        ] {
            let mut whole = super_packet(version, protocol, df, size, segments);
            let before = cut(&whole);
            assert_eq!(before.len(), segments);
            let mut one_by_one = Vec::new();
            let mut translator = translator(Settings::default());
            for octets in before {
                check(&octets);
                let mut packet = received(&octets, &[0; HEADER_LEN]);
                let outcome = translator.translate(&mut packet, Instant::now());
                assert!(matches!(outcome, Outcome::Forward), "{outcome:?}");
                check(packet.bytes());
                one_by_one.push(comparable(packet.bytes().to_vec()));
            }
            let outcome = translator.translate(&mut whole, Instant::now());
            assert!(matches!(outcome, Outcome::Forward), "{outcome:?}");
            let header = *whole.with_header().first_chunk::<HEADER_LEN>().unwrap();
            let kind = [header[1] & 0x7f, header[1] & 0x80];
            match (version, protocol) {
                (4, protocol::TCP) => assert_eq!(kind, [4, 0x80]),
                (6, protocol::TCP) => assert_eq!(kind, [1, 0x80]),
                _ => assert_eq!(kind, [5, 0]),
            }
            let at_once = received(whole.bytes(), &header);
            let at_once: Vec<_> = cut(&at_once)
                .into_iter()
                .inspect(|octets| check(octets))
                .map(comparable)
                .collect();
            assert_eq!(at_once, one_by_one, "{version} {protocol} {size}");
        }
    }

    /// RFC 9293 section 3.1, RFC 3168 section 6.1.2: sequence numbers go on, the last segment has
    /// PSH, the first one CWR.
    #[test]
    fn segments_have_their_sequence_numbers_and_flags() {
        let segments = cut(&super_packet(4, protocol::TCP, true, 1000, 10));
        for (index, octets) in segments.iter().enumerate() {
            let sequence = u32::from_be_bytes(octets[24..28].try_into().unwrap());
            assert_eq!(sequence, 0xffff_f000_u32.wrapping_add(index as u32 * 1000));
            assert_eq!(octets[33] & 0x80 != 0, index == 0, "CWR of {index}");
            assert_eq!(octets[33] & 0x08 != 0, index == 9, "PSH of {index}");
            let identification = u16::from_be_bytes([octets[4], octets[5]]);
            assert_eq!(identification, 77 + index as u16);
        }
    }

    /// RFC 7915 section 4.1: the size of a segment counts, never that of the super-packet.
    #[test]
    fn a_super_packet_is_too_big_if_its_segments_are() {
        let mut translator = translator(Settings::default());
        // 20 + 32 + 1429 octets of IPv4 are 1501 of IPv6, where the MTU is 1500.
        for (size, fits) in [(1428, true), (1429, false)] {
            let mut packet = super_packet(4, protocol::TCP, true, size, 20);
            match translator.translate(&mut packet, Instant::now()) {
                Outcome::Forward => assert!(fits),
                Outcome::Reply(Reply::Error(_)) => {
                    assert!(!fits);
                    assert!(packet.offload().is_none());
                    assert_eq!(packet.bytes()[20..22], [3, 4]);
                    assert_eq!(packet.bytes()[26..28], 1480_u16.to_be_bytes());
                }
                other => panic!("{other:?}"),
            }
        }
        let mut packet = super_packet(6, protocol::TCP, false, 1469, 20);
        let outcome = translator.translate(&mut packet, Instant::now());
        assert!(
            matches!(outcome, Outcome::Reply(Reply::Error(_))),
            "{outcome:?}"
        );
    }

    /// Segments that would have to be fragmented, and headers with options or extensions, are cut
    /// in software first.
    #[test]
    fn a_super_packet_that_cannot_pass_as_one_is_cut_first() {
        let mut translator = translator(Settings::default());
        let mut packet = super_packet(4, protocol::UDP, false, 1400, 10); // offlink-mtu is 1280
        let before = cut(&packet);
        match translator.translate(&mut packet, Instant::now()) {
            Outcome::Segments(mut segments) => {
                let mut segment = Packet::new();
                for octets in before {
                    assert!(segments.next(&mut segment));
                    assert_eq!(segment.bytes(), octets);
                }
                assert!(!segments.next(&mut segment));
            }
            other => panic!("{other:?}"),
        }
        // A Destination Options header before the transport header.
        let plain = super_packet(6, protocol::TCP, false, 1000, 10);
        let octets = with_options(&plain);
        let mut offload = plain.offload();
        let checksum = offload.checksum.as_mut().unwrap();
        (checksum.start, checksum.field) = (48, 64);
        let mut packet = received(&octets, &offload.octets(6, 0, 80));
        match translator.translate(&mut packet, Instant::now()) {
            Outcome::Segments(mut segments) => {
                let mut segment = Packet::new();
                while segments.next(&mut segment) {
                    let outcome = translator.translate(&mut segment, Instant::now());
                    assert!(matches!(outcome, Outcome::Forward), "{outcome:?}");
                    check(segment.bytes());
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// IPv4 has 20 octets less for the payload of a super-packet than IPv6.
    #[test]
    fn a_super_packet_that_is_too_long_for_ipv4_is_cut_first() {
        let mut translator = translator(Settings::default());
        let mut packet = super_packet(6, protocol::UDP, false, 1365, 48);
        assert!(packet.bytes().len() > 65535 + 20);
        let outcome = translator.translate(&mut packet, Instant::now());
        assert!(matches!(outcome, Outcome::Segments(_)), "{outcome:?}");
    }

    /// virtio 1.2 section 5.1.6.2: `hdr_len` says what headers each segment has.
    #[test]
    fn a_super_packet_is_written_with_the_length_of_its_headers() {
        for (version, protocol, headers) in [
            (4, protocol::TCP, 20 + 32),
            (6, protocol::TCP, 40 + 32),
            (4, protocol::UDP, 20 + 8),
            (6, protocol::UDP, 40 + 8),
        ] {
            let mut packet = super_packet(version, protocol, true, 1200, 4);
            let expected = packet.offload().octets(version, 0, headers);
            assert_eq!(packet.with_header()[..HEADER_LEN], expected);
        }
    }

    /// An offload header of another packet leads nowhere.
    #[test]
    fn a_super_packet_whose_offload_does_not_match_is_not_cut() {
        for version in [4, 6] {
            for (start, field) in [(0, 1), (-1, 0), (-1, -1)] {
                let mut packet = super_packet(version, protocol::UDP, true, 1200, 4);
                let mut offload = packet.offload();
                let checksum = offload.checksum.as_mut().unwrap();
                checksum.start = checksum.start.checked_add_signed(start).unwrap();
                checksum.field = checksum.field.checked_add_signed(field).unwrap();
                packet.set_offload(offload);
                assert!(Segments::of(&packet).is_none(), "{start} {field}");
            }
        }
    }

    /// A partial checksum stays partial, and a partial one of zero is no missing one (RFC 768).
    #[test]
    fn a_partial_checksum_is_finished_for_the_other_family() {
        for version in [4, 6] {
            let mut packet = super_packet(version, protocol::UDP, true, 100, 1);
            packet.set_offload(Offload {
                segments: None,
                ..packet.offload()
            });
            let mut translator = translator(Settings::default());
            let outcome = translator.translate(&mut packet, Instant::now());
            assert!(matches!(outcome, Outcome::Forward), "{outcome:?}");
            assert_eq!(packet.with_header()[..2], [1, 0]);
            assert!(packet.complete_checksum());
            check(packet.bytes());
        }
    }

    /// A checksum is completed before fragmentation: that of a fragment could not be.
    #[test]
    fn fragments_have_whole_checksums() {
        let mut packet = super_packet(4, protocol::UDP, false, 1400, 1);
        packet.set_offload(Offload {
            segments: None,
            ..packet.offload()
        });
        let mut translator = translator(Settings::default());
        let mut whole = Vec::new();
        match translator.translate(&mut packet, Instant::now()) {
            Outcome::Fragments(mut fragments) => {
                let mut fragment = Packet::new();
                while fragments.next(&mut fragment) {
                    whole.extend_from_slice(&fragment.bytes()[48..]);
                }
            }
            other => panic!("{other:?}"),
        }
        let [source, destination] = ["2001:db8:64::198.51.100.7", "2001:db8:6::9"];
        let pseudo = Sum::pseudo_v6(
            source.parse().unwrap(),
            destination.parse().unwrap(),
            protocol::UDP,
            whole.len(),
        );
        assert!((pseudo + Sum::of(&whole)).verifies());
    }

    /// A host gets an address of the pool by its first packet, also if that needs software first.
    #[test]
    fn a_packet_that_needs_software_first_gets_a_lease() {
        let mut packet = super_packet(6, protocol::UDP, false, 100, 1);
        let mut octets = with_options(&packet);
        // Another host, and the sum of its pseudo-header with it; the checksum is said to be where
        // it is not.
        octets[23] = 10;
        let sum = Sum::word(u16::from_be_bytes([octets[54], octets[55]])) + Sum::word(1);
        octets[54..56].copy_from_slice(&sum.fold().to_be_bytes());
        let offload = Offload {
            checksum: Some(PartialChecksum {
                start: 40,
                field: 54,
            }),
            segments: None,
        };
        packet = received(&octets, &offload.octets(6, 0, 0));
        let mut translator = translator(Settings::default());
        translator
            .map_mut()
            .set_pool("198.18.0.0/24".parse().unwrap());
        let outcome = translator.translate(&mut packet, Instant::now());
        assert!(matches!(outcome, Outcome::Forward), "{outcome:?}");
        assert!(matches!(translator.take_lent(), Some((_, Ok(_)))));
    }
}
