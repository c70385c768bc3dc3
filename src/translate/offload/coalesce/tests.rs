//! Which packets are joined, and what becomes of them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use proptest::prelude::*;

use super::*;
use crate::{
    translate::Segments,
    wire::{FragmentPlace, ipv4::Ipv4Header, ipv6::Ipv6Header},
};

/// What is cut short has no ports, wherever the cut is.
#[test]
fn ports_are_there_or_not() {
    let mut octets = [0; ipv6::HEADER_LEN + transport::PORTS_LEN];
    octets[0] = 0x60;
    octets[ipv6::NEXT_HEADER_AT] = protocol::UDP;
    for len in 0..octets.len() {
        assert_eq!(transport_at(&octets[..len]), None, "{len} octets");
    }
    assert_eq!(transport_at(&octets), Some(ipv6::HEADER_LEN));
}

/// The list begins anywhere in its memory.
#[test]
fn a_key_is_found_wherever_it_is() {
    let mut keys: VecDeque<u32> = (0..100).collect();
    for next in 100..400 {
        for (at, &key) in keys.iter().enumerate() {
            assert_eq!(position(&keys, key), Some(at), "{key} of {keys:?}");
        }
        assert_eq!(position(&keys, next), None);
        keys.pop_front();
        keys.push_back(next);
    }
}

/// A packet as it comes out of the translator.
#[derive(Clone, Copy, Debug)]
struct Spec {
    version: u8,
    is_tcp: bool,
    port: u16,
    sequence: u32,
    flags: u8,
    options: u8,
    tos: u8,
    ttl: u8,
    df: bool,
    fragment: bool,
    len: usize,
    /// Kind of checksum.
    checksum: Right,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Yes,
    Partial,
    Wrong,
    /// UDP without one.
    None,
}

const PLAIN: Spec = Spec {
    version: 4,
    is_tcp: false,
    port: 53,
    sequence: 0,
    flags: tcp::ACK,
    options: 0,
    tos: 0,
    ttl: 9,
    df: false,
    fragment: false,
    len: 100,
    checksum: Right::Yes,
};

fn packet(spec: &Spec) -> Packet {
    let protocol = if spec.is_tcp {
        protocol::TCP
    } else {
        protocol::UDP
    };
    let mut transport = if spec.is_tcp {
        let mut tcp = vec![0; 24];
        tcp[4..8].copy_from_slice(&spec.sequence.to_be_bytes());
        (tcp[12], tcp[13], tcp[23]) = (0x60, spec.flags, spec.options);
        tcp
    } else {
        let mut udp = vec![0; 8];
        udp[4..6].copy_from_slice(&((8 + spec.len) as u16).to_be_bytes());
        udp
    };
    transport[..2].copy_from_slice(&spec.port.to_be_bytes());
    transport.extend((0..spec.len).map(|at| (at as u32).wrapping_add(spec.sequence) as u8));
    let len = transport.len();
    let (header, pseudo) = if spec.version == 4 {
        let header = Ipv4Header {
            tos: spec.tos,
            total_len: (20 + len) as u16,
            identification: 0,
            dont_fragment: spec.df,
            fragment: FragmentPlace {
                offset: 0,
                more: spec.fragment,
            },
            ttl: spec.ttl,
            protocol,
            source: [192, 0, 2, 1].into(),
            destination: [192, 0, 2, 2].into(),
        };
        let pseudo = Sum::pseudo_v4(header.source, header.destination, protocol, len);
        (header.octets().to_vec(), pseudo)
    } else {
        let header = Ipv6Header {
            traffic_class: spec.tos,
            payload_len: len as u16,
            next_header: if spec.fragment {
                protocol::FRAGMENT
            } else {
                protocol
            },
            hop_limit: spec.ttl,
            source: "2001:db8::1".parse().unwrap(),
            destination: "2001:db8::2".parse().unwrap(),
        };
        let pseudo = Sum::pseudo_v6(header.source, header.destination, protocol, len);
        (header.octets().to_vec(), pseudo)
    };
    let at = transport::checksum_at(protocol).unwrap();
    let whole = (Sum::of(&transport) + pseudo).checksum();
    let field = match spec.checksum {
        Right::Yes => whole,
        Right::Partial => pseudo.fold(),
        Right::Wrong => whole ^ 0x0100,
        Right::None => 0,
    };
    transport[at..at + 2].copy_from_slice(&field.to_be_bytes());
    let mut packet = Packet::new();
    packet.put(&[&header, &transport]);
    if spec.checksum == Right::Partial {
        packet.set_offload(Offload {
            checksum: Some(PartialChecksum {
                start: header.len(),
                field: header.len() + at,
            }),
            segments: None,
        });
    }
    packet
}

/// The packets that the kernel sends for a write: super-packets cut, checksums finished.
fn written(packet: &Packet) -> Vec<Vec<u8>> {
    if let Some(mut segments) = Segments::of(packet) {
        let mut segment = Packet::new();
        let mut all = Vec::new();
        while segments.next(&mut segment) {
            all.push(segment.bytes().to_vec());
        }
        return all;
    }
    let mut alone = Packet::new();
    alone.put(&[packet.bytes()]);
    alone.set_offload(packet.offload());
    alone.complete_checksum();
    vec![alone.bytes().to_vec()]
}

/// The number of writes, and the packets that the kernel sends for them.
fn run(specs: &[Spec]) -> (usize, Vec<Vec<u8>>) {
    let mut coalescer = Coalescer::default();
    let (mut writes, mut sent) = (0, Vec::new());
    let mut write = |packet: &Packet| {
        writes += 1;
        sent.extend(written(packet));
    };
    for spec in specs {
        let packet = packet(spec);
        loop {
            match coalescer.offer(&packet) {
                Offered::Taken => break,
                Offered::First(waiting) => write(waiting),
                Offered::Alone => break write(&packet),
            }
        }
    }
    while let Some(waiting) = coalescer.take() {
        write(waiting);
    }
    (writes, sent)
}

/// A packet without its identification, which the kernel counts up.
fn comparable(mut octets: Vec<u8>) -> Vec<u8> {
    if octets[0] >> 4 == 4 {
        octets[4..6].fill(0);
        octets[10..12].fill(0);
    }
    octets
}

fn writes(specs: &[Spec]) -> usize {
    run(specs).0
}

#[test]
fn a_stream_is_one_write() {
    for version in [4, 6] {
        let udp = Spec { version, ..PLAIN };
        assert_eq!(writes(&[udp; 40]), 1);
        assert_eq!(writes(&[udp; 65]), 2, "64 segments at most");
        let short = Spec { len: 1, ..udp };
        assert_eq!(
            writes(&[udp, udp, short, udp, udp]),
            2,
            "a short one is the last"
        );
        assert_eq!(writes(&[short, udp]), 2, "none is longer than the first");
        let tcp = |number: u32| Spec {
            version,
            is_tcp: true,
            sequence: number.wrapping_mul(100).wrapping_sub(250),
            ..PLAIN
        };
        let stream: Vec<_> = (0..20).map(tcp).collect();
        assert_eq!(writes(&stream), 1);
        assert_eq!(writes(&[tcp(0), tcp(2)]), 2, "one is missing");
        let push = Spec {
            flags: tcp::ACK | tcp::PSH,
            ..tcp(1)
        };
        assert_eq!(
            writes(&[tcp(0), push, tcp(2), tcp(3)]),
            2,
            "PSH is the last"
        );
        let large = Spec { len: 1200, ..udp };
        assert_eq!(
            writes(&[large; 60]),
            2,
            "no packet is longer than 65535 octets"
        );
    }
}

/// What the kernel gets is a valid packet before it cuts it: its lengths are those of the whole,
/// and its identification is that of the first, from which the kernel counts up.
#[test]
fn a_super_packet_has_the_lengths_of_the_whole() {
    for (version, is_tcp) in [(4, false), (4, true), (6, false), (6, true)] {
        let mut coalescer = Coalescer::default();
        for sequence in [0, 100, 200] {
            let joined = packet(&Spec {
                version,
                is_tcp,
                sequence,
                ..PLAIN
            });
            assert!(matches!(coalescer.offer(&joined), Offered::Taken));
        }
        let joined = coalescer.take().unwrap().bytes();
        let transport_at = match version {
            4 => {
                let header = Ipv4Packet::parse(joined).unwrap();
                assert_eq!(usize::from(header.total_len()), joined.len());
                assert_eq!(header.identification(), 0);
                header.verify_checksum().unwrap();
                ipv4::HEADER_LEN
            }
            _ => {
                let payload = Ipv6Packet::parse(joined).unwrap().payload().len();
                assert_eq!(payload, joined.len() - ipv6::HEADER_LEN);
                ipv6::HEADER_LEN
            }
        };
        if !is_tcp {
            let datagram = UdpDatagram::parse(&joined[transport_at..]).unwrap();
            assert_eq!(datagram.total_len(), joined.len() - transport_at);
        }
    }
}

/// The last octet that an IPv4 packet can have is used, and no more.
#[test]
fn joined_packets_have_at_most_65535_octets() {
    let part = Spec {
        len: (65535 - 20 - 8) / 13,
        ..PLAIN
    };
    assert_eq!(part.len * 13, 65535 - 20 - 8);
    assert_eq!(writes(&[part; 13]), 1);
    assert_eq!(writes(&[part; 14]), 2);
}

/// RFC 9293 section 3.9.1.2: PSH is on the last segment still.
#[test]
fn the_last_segment_keeps_its_push_flag() {
    let tcp = |sequence, flags| Spec {
        is_tcp: true,
        sequence,
        flags,
        ..PLAIN
    };
    let (writes, sent) = run(&[tcp(0, tcp::ACK), tcp(100, tcp::ACK | tcp::PSH)]);
    assert_eq!(writes, 1);
    let flags: Vec<_> = sent.iter().map(|octets| octets[20 + 13]).collect();
    assert_eq!(flags, [tcp::ACK, tcp::ACK | tcp::PSH]);
}

/// What follows a UDP datagram within its packet would be lost between joined ones.
#[test]
fn a_datagram_shorter_than_its_packet_is_not_joined() {
    let mut packet = packet(&Spec {
        checksum: Right::Partial,
        ..PLAIN
    });
    packet.tail_mut(20)[4..6].copy_from_slice(&(8 + 99_u16).to_be_bytes());
    let mut coalescer = Coalescer::default();
    assert!(matches!(coalescer.offer(&packet), Offered::Alone));
}

/// What is joined is counted by the direction that it came by.
#[test]
fn joined_packets_are_counted() {
    let mut coalescer = Coalescer::default();
    for version in [4, 4, 4, 6, 6] {
        let packet = packet(&Spec { version, ..PLAIN });
        assert!(matches!(coalescer.offer(&packet), Offered::Taken));
    }
    assert_eq!(coalescer.joined(Direction::SixToFour), 2);
    assert_eq!(coalescer.joined(Direction::FourToSix), 1);
}

/// The ports tell flows apart: a packet that is cut off before their end is of none.
#[test]
fn a_packet_that_is_cut_short_is_of_no_flow() {
    for (version, at) in [(4, 20), (6, 40)] {
        let packet = packet(&Spec { version, ..PLAIN });
        for len in 0..at + 8 {
            let found = transport_at(&packet.bytes()[..len]);
            let expected = (len >= at + transport::PORTS_LEN).then_some(at);
            assert_eq!(found, expected, "{version} {len}");
        }
    }
}

#[test]
fn each_stream_is_one_write() {
    let flow = |port: usize| Spec {
        port: port as u16,
        ..PLAIN
    };
    let turns = |flows: usize| (0..5 * flows).map(|number| flow(number % flows)).collect();
    let all: Vec<_> = turns(MAX_FLOWS);
    assert_eq!(writes(&all), MAX_FLOWS);
    let more: Vec<_> = turns(MAX_FLOWS + 1);
    assert_eq!(writes(&more), more.len(), "the oldest goes for the newest");
    let fragment = Spec {
        fragment: true,
        ..PLAIN
    };
    let all = [flow(1), flow(2), fragment, flow(1), flow(2)];
    assert_eq!(writes(&all), 5, "nothing overtakes a packet of no flow");
}

#[test]
fn packets_that_differ_are_not_joined() {
    for version in [4, 6] {
        let udp = Spec { version, ..PLAIN };
        let tcp = Spec {
            is_tcp: true,
            sequence: 100,
            ..udp
        };
        let first = Spec { sequence: 0, ..tcp };
        let mut pairs = vec![
            (udp, Spec { port: 54, ..udp }),
            (udp, Spec { tos: 4, ..udp }),
            (udp, Spec { ttl: 8, ..udp }),
            (
                udp,
                Spec {
                    fragment: true,
                    ..udp
                },
            ),
            (udp, Spec { len: 0, ..udp }),
            (
                udp,
                Spec {
                    checksum: Right::None,
                    ..udp
                },
            ),
            (
                Spec {
                    checksum: Right::None,
                    ..udp
                },
                udp,
            ),
            (
                udp,
                Spec {
                    checksum: Right::Wrong,
                    ..udp
                },
            ),
            (
                Spec {
                    checksum: Right::Wrong,
                    ..udp
                },
                udp,
            ),
            (
                first,
                Spec {
                    checksum: Right::Wrong,
                    ..tcp
                },
            ),
            (first, Spec { options: 1, ..tcp }),
            (first, Spec { port: 54, ..tcp }),
            (
                udp,
                Spec {
                    version: 10 - version,
                    ..udp
                },
            ),
        ];
        // FIN, SYN, RST, URG, ECE, CWR.
        for flag in [1, 2, 4, 0x20, 0x40, 0x80] {
            pairs.push((
                first,
                Spec {
                    flags: tcp::ACK | flag,
                    ..tcp
                },
            ));
            pairs.push((
                Spec {
                    flags: tcp::ACK | flag,
                    ..first
                },
                tcp,
            ));
        }
        if version == 4 {
            pairs.push((udp, Spec { df: true, ..udp }));
        }
        for (one, other) in pairs {
            let (writes, sent) = run(&[one, other]);
            assert_eq!(writes, 2, "{one:?} {other:?}");
            let expected = [one, other].map(|spec| written(&packet(&spec)).remove(0));
            assert_eq!(sent, expected, "as they were");
        }
        assert_eq!(writes(&[first, tcp]), 1);
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let rare = |value: u8| prop_oneof![20 => Just(0_u8), 1 => Just(value)];
    (
        (
            prop_oneof![Just(4_u8), Just(6)],
            any::<bool>(),
            prop_oneof![9 => Just(53_u16), 1 => Just(54)],
        ),
        (rare(4), rare(1), rare(tcp::PSH), rare(1), rare(1)),
        prop_oneof![9 => Just(100_usize), 1 => 1_usize..120],
        prop_oneof![
            6 => Just(Right::Yes),
            6 => Just(Right::Partial),
            1 => Just(Right::Wrong),
            1 => Just(Right::None)
        ],
    )
        .prop_map(
            |((version, is_tcp, port), (tos, ttl, push, options, fragment), len, checksum)| Spec {
                version,
                is_tcp,
                port,
                tos,
                ttl: 9 + ttl,
                flags: tcp::ACK | push,
                options,
                fragment: fragment != 0,
                len,
                checksum: if is_tcp && checksum == Right::None {
                    Right::Yes
                } else {
                    checksum
                },
                ..PLAIN
            },
        )
}

proptest! {
    /// The kernel sends the same packets as without joining, in the order of each flow, and in
    /// order with packets of no flow.
    #[test]
    fn nothing_is_lost_changed_or_overtaken(
        mut specs in proptest::collection::vec((spec(), 1_usize..6), 1..20)
    ) {
        let mut sequence = 0;
        let mut all = Vec::new();
        for (spec, times) in &mut specs {
            for _ in 0..*times {
                spec.sequence = sequence;
                sequence = sequence.wrapping_add(spec.len as u32);
                all.push(*spec);
            }
        }
        let (writes, sent) = run(&all);
        prop_assert!(writes <= all.len());
        let one_by_one = all.iter().flat_map(|spec| written(&packet(spec))).collect();
        prop_assert_eq!(by_flow(sent), by_flow(one_by_one));
    }
}

/// Comparable packets, sorted by flow between those that are of no flow.
fn by_flow(packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut packets: Vec<_> = packets.into_iter().map(comparable).collect();
    for between in packets.split_mut(|octets| transport_at(octets).is_none()) {
        between.sort_by_key(|octets| key(octets, transport_at(octets).unwrap()));
    }
    packets
}
