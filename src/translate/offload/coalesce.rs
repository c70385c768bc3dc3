//! Joins packets that follow each other in a flow to one super-packet, as the kernel's own receive offload does (GRO), so
//! that streams of small packets are few writes and not many.
//!
//! Joined is only what the kernel can cut again into the very packets that came: same addresses, ports, traffic class, hop
//! limit, DF and TCP flags, each as long as the first, no options that differ, no fragments, and a checksum that is
//! right. A checksum that is wrong would be repaired on the way: such a packet goes out alone, and still wrong.
//! Nothing overtakes anything of its flow: what cannot be joined is written after all of it that came before, and what is
//! of no flow (ICMP, fragments) after everything.

use std::{collections::VecDeque, hash::Hasher};

use rustc_hash::FxHasher;

use crate::{
    translate::Packet,
    wire::{
        checksum::Sum,
        ipv4::{self, Ipv4Packet},
        ipv6::{self, Ipv6Packet},
        protocol, transport,
        virtio::{Offload, PartialChecksum, SegmentKind, SegmentTransport},
    },
};

/// The kernel cuts UDP super-packets of up to so many segments (UDP_MAX_SEGMENTS of linux/udp.h, 64 before Linux 6.7).
const MOST_SEGMENTS: usize = 64;
/// The longest packet whose length IPv4 and IPv6 can say, in octets.
const MAX_LEN: usize = 65535;

const TCP_ACK: u8 = 0x10;
const TCP_PSH: u8 = 0x08;

/// So many flows wait at most; then the oldest is written for the newest.
const FLOWS: usize = 128;

/// Packets that wait for more of their flows.
#[derive(Debug, Default)]
pub struct Coalescer {
    /// The oldest first.
    waiting: VecDeque<Waiting>,
    /// Where each waits, by what its flow is known by: this is all that is looked through for a packet.
    keys: VecDeque<u64>,
    /// What is being written.
    written: Packet,
    /// Buffers that are not in use. The last that was is the next to be: its memory is near.
    spare: Vec<Packet>,
}

/// One flow.
#[derive(Debug)]
struct Waiting {
    /// Its first packet, with the payload of the others after its own.
    packet: Packet,
    flow: Flow,
}

/// What is to be known of a flow whose packets wait.
#[derive(Clone, Copy, Debug)]
struct Flow {
    shape: Shape,
    segments: usize,
    /// Whether the last one was the last that can be joined: shorter than the others, or with PSH.
    ended: bool,
    /// Whether the first checksum is known to be right.
    verified: bool,
}

/// Where things are in a packet that can be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Where the transport header is, in octets.
    transport_at: usize,
    /// Where the payload is, in octets.
    payload_at: usize,
    /// Payload of each segment, in octets; not zero.
    size: usize,
    is_tcp: bool,
}

/// What to do with a packet that was offered.
#[derive(Debug)]
#[must_use]
pub enum Offered<'c> {
    /// Nothing: it waits, or has joined what waits.
    Taken,
    /// This is to be written first, and then the packet is to be offered again.
    First(&'c mut Packet),
    /// It is to be written: nothing waits that it might overtake, and it can be joined to nothing.
    Alone,
}

impl Coalescer {
    /// A translated packet, which is about to be written.
    pub fn offer(&mut self, packet: &Packet) -> Offered<'_> {
        let Some(transport_at) = transport_at(packet.bytes()) else {
            // Nobody knows which flow it is of.
            return match self.take() {
                Some(waiting) => Offered::First(waiting),
                None => Offered::Alone,
            };
        };
        let shape = Shape::of(packet, transport_at);
        let key = key(packet.bytes(), transport_at);
        if let Some(at) = self.keys.iter().position(|&other| other == key) {
            let joined = shape.is_some_and(|shape| self.waiting[at].join(packet, shape));
            return if joined {
                Offered::Taken
            } else {
                self.remove(at)
            };
        }
        let Some(shape) = shape else {
            return Offered::Alone;
        };
        if self.waiting.len() == FLOWS {
            return self.remove(0);
        }
        let mut first = self.spare.pop().unwrap_or_default();
        first.copy(packet);
        self.keys.push_back(key);
        self.waiting.push_back(Waiting {
            packet: first,
            flow: Flow {
                shape,
                segments: 1,
                ended: shape.is_tcp && has_push(packet, shape),
                verified: false,
            },
        });
        Offered::Taken
    }

    /// What has waited longest, to be written.
    pub fn take(&mut self) -> Option<&mut Packet> {
        self.keys.pop_front()?;
        let waiting = self.waiting.pop_front()?;
        Some(self.finish(waiting))
    }

    fn remove(&mut self, at: usize) -> Offered<'_> {
        self.keys.remove(at);
        match self.waiting.remove(at) {
            Some(waiting) => Offered::First(self.finish(waiting)),
            None => Offered::Alone, // never: `at` is one that waits
        }
    }

    fn finish(&mut self, mut waiting: Waiting) -> &mut Packet {
        if waiting.flow.segments > 1 {
            waiting.flow.shape.make_super(&mut waiting.packet);
        }
        let before = std::mem::replace(&mut self.written, waiting.packet);
        self.spare.push(before);
        &mut self.written
    }
}

impl Waiting {
    /// Joins the next packet of the flow, if it is that.
    fn join(&mut self, next: &Packet, shape: Shape) -> bool {
        let Self { packet, flow } = self;
        if !flow.continues(packet, next, shape) {
            return false;
        }
        if !flow.verified {
            if !is_intact(packet, flow.shape) {
                return false;
            }
            flow.verified = true;
        }
        if !is_intact(next, shape) {
            return false;
        }
        packet.append(&next.bytes()[shape.payload_at..]);
        flow.segments += 1;
        flow.ended = shape.size < flow.shape.size || shape.is_tcp && has_push(next, shape);
        if flow.ended && shape.is_tcp {
            // Of a super-packet it is the last segment that has the flag.
            let flags = next.bytes()[shape.transport_at + 13];
            packet.tail_mut(flow.shape.transport_at)[13] = flags;
        }
        true
    }
}

impl Flow {
    /// Whether a packet is the next one of the flow.
    fn continues(&self, first: &Packet, next: &Packet, shape: Shape) -> bool {
        let (first, next) = (first.bytes(), next.bytes());
        let Shape {
            transport_at,
            payload_at,
            size,
            is_tcp,
        } = self.shape;
        if self.ended
            || self.segments == MOST_SEGMENTS
            || first.len() + shape.size > MAX_LEN
            || shape.size > size
            || (shape.transport_at, shape.payload_at, shape.is_tcp)
                != (transport_at, payload_at, is_tcp)
        {
            return false;
        }
        let same = |from: usize, to: usize| first[from..to] == next[from..to];
        let same_ip = match first[0] >> 4 {
            // Version, header length, TOS; flags; TTL and protocol; addresses. Lengths, identifications and checksums differ.
            4 => same(0, 2) && same(6, 10) && same(12, 20),
            // Version, traffic class, flow label; next header, hop limit, addresses.
            _ => same(0, 4) && same(6, 40),
        };
        let at = transport_at;
        if !same_ip || !same(at, at + 4) {
            return false;
        }
        if !is_tcp {
            return true;
        }
        let sequence = |octets: &[u8]| {
            let octets = &octets[at + 4..at + 8];
            u32::from_be_bytes([octets[0], octets[1], octets[2], octets[3]])
        };
        let expected = sequence(first).wrapping_add((first.len() - payload_at) as u32);
        // Acknowledgement and header length; window; urgent pointer and options. PSH may be with the last.
        sequence(next) == expected
            && same(at + 8, at + 13)
            && first[at + 13] | TCP_PSH == next[at + 13] | TCP_PSH
            && same(at + 14, at + 16)
            && same(at + 18, payload_at)
    }
}

impl Shape {
    /// `None` if it is a packet that is never joined.
    fn of(packet: &Packet, transport_at: usize) -> Option<Self> {
        let octets = packet.bytes();
        if packet.is_super() {
            return None;
        }
        let protocol = protocol_of(octets);
        let transport = &octets[transport_at..];
        let header_len = transport::header_len(protocol, transport)?;
        let size = transport.len() - header_len;
        let is_tcp = protocol == protocol::TCP;
        let joinable = if is_tcp {
            transport[13] & !TCP_PSH == TCP_ACK
        } else {
            // Its length is that of the packet, and it has a checksum.
            transport::udp_len(transport) == Some(transport.len())
                && (packet.offload().checksum.is_some()
                    || !transport::is_udp_without_checksum(protocol, transport))
        };
        (joinable && size > 0).then_some(Self {
            transport_at,
            payload_at: transport_at + header_len,
            size,
            is_tcp,
        })
    }

    fn protocol(self) -> u8 {
        if self.is_tcp {
            protocol::TCP
        } else {
            protocol::UDP
        }
    }

    /// Gives the packet, which has the payload of several by now, the lengths of all and a checksum that the kernel
    /// finishes for each.
    fn make_super(self, packet: &mut Packet) {
        let octets = packet.tail_mut(0);
        let upper_len = octets.len() - self.transport_at;
        if octets[0] >> 4 == 4 {
            let len = octets.len() as u16; // MAX_LEN at most
            octets[2..4].copy_from_slice(&len.to_be_bytes());
            octets[10..12].fill(0);
            let checksum = Sum::of(&octets[..ipv4::HEADER_LEN]).checksum();
            octets[10..12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            octets[4..6].copy_from_slice(&(upper_len as u16).to_be_bytes());
        }
        let pseudo = pseudo_header(octets, self.protocol(), upper_len);
        let transport = &mut octets[self.transport_at..];
        if !self.is_tcp {
            transport[4..6].copy_from_slice(&(upper_len as u16).to_be_bytes());
        }
        let at = transport::checksum_at(self.protocol()).unwrap_or(0); // both have one
        transport[at..at + 2].copy_from_slice(&pseudo.fold().to_be_bytes());
        packet.leave(Offload {
            checksum: Some(PartialChecksum {
                start: self.transport_at,
                field: self.transport_at + at,
            }),
            segments: Some(SegmentKind {
                transport: if self.is_tcp {
                    SegmentTransport::Tcp { ecn: false }
                } else {
                    SegmentTransport::Udp
                },
                size: self.size as u16, // of a packet
            }),
        });
    }
}

/// Where the transport header of a TCP or UDP packet is, in octets, with its ports at least. `None` if there are options or
/// extension headers before it, or if it is a fragment.
fn transport_at(octets: &[u8]) -> Option<usize> {
    let at = match octets.first()? >> 4 {
        4 => {
            let header = octets.first_chunk::<{ ipv4::HEADER_LEN }>()?;
            let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
            if header[0] != 0x45 || is_fragment {
                return None;
            }
            ipv4::HEADER_LEN
        }
        6 if octets.len() > ipv6::HEADER_LEN => ipv6::HEADER_LEN,
        _ => return None,
    };
    let protocol = protocol_of(octets);
    let is_known = matches!(protocol, protocol::TCP | protocol::UDP);
    (is_known && transport::ports(protocol, &octets[at..]).is_some()).then_some(at)
}

/// What follows the IP header, of which there is all.
fn protocol_of(octets: &[u8]) -> u8 {
    match octets[0] >> 4 {
        4 => octets[9],
        _ => octets[6],
    }
}

/// What a flow is known by: addresses, ports and protocol. Two flows with one key are taken apart where it matters.
fn key(octets: &[u8], transport_at: usize) -> u64 {
    // Addresses are the last that is in either header, and ports the first after them.
    let from = if transport_at == ipv4::HEADER_LEN {
        12
    } else {
        8
    };
    let mut hasher = FxHasher::default();
    hasher.write(&octets[from..transport_at + 4]);
    hasher.write_u8(protocol_of(octets));
    hasher.finish()
}

fn has_push(packet: &Packet, shape: Shape) -> bool {
    packet.bytes()[shape.transport_at + 13] & TCP_PSH != 0
}

/// Whether the transport checksum is right, or is still to be calculated.
fn is_intact(packet: &Packet, shape: Shape) -> bool {
    if packet.offload().checksum.is_some() {
        return true;
    }
    let octets = packet.bytes();
    let transport = &octets[shape.transport_at..];
    let pseudo = pseudo_header(octets, shape.protocol(), transport.len());
    (Sum::of(transport) + pseudo).verifies()
}

/// Of a packet that has been translated: its header is whole.
fn pseudo_header(octets: &[u8], protocol: u8, len: usize) -> Sum {
    if let Ok(packet) = Ipv4Packet::parse_quoted(octets) {
        Sum::pseudo_v4(packet.source(), packet.destination(), protocol, len)
    } else if let Ok(packet) = Ipv6Packet::parse_quoted(octets) {
        Sum::pseudo_v6(packet.source(), packet.destination(), protocol, len)
    } else {
        Sum::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use proptest::prelude::*;

    use super::*;
    use crate::{
        translate::Segments,
        wire::{FragmentPlace, ipv4::Ipv4Header, ipv6::Ipv6Header},
    };

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
        /// What the checksum is.
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
        flags: TCP_ACK,
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
            packet.leave(Offload {
                checksum: Some(PartialChecksum {
                    start: header.len(),
                    field: header.len() + at,
                }),
                segments: None,
            });
        }
        packet
    }

    /// What is written, as the kernel sends it: super-packets cut, checksums finished.
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
        alone.leave(packet.offload());
        alone.complete_checksum();
        vec![alone.bytes().to_vec()]
    }

    /// How many writes there are, and what is sent by them.
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

    /// Without the identification, which the kernel counts up.
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
                flags: TCP_ACK | TCP_PSH,
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

    #[test]
    fn streams_are_a_write_each() {
        let flow = |port: usize| Spec {
            port: port as u16,
            ..PLAIN
        };
        let turns = |flows: usize| (0..5 * flows).map(|number| flow(number % flows)).collect();
        let all: Vec<_> = turns(FLOWS);
        assert_eq!(writes(&all), FLOWS);
        let more: Vec<_> = turns(FLOWS + 1);
        assert_eq!(writes(&more), more.len(), "the oldest goes for the newest");
        let fragment = Spec {
            fragment: true,
            ..PLAIN
        };
        let all = [flow(1), flow(2), fragment, flow(1), flow(2)];
        assert_eq!(writes(&all), 5, "nothing overtakes what is of no flow");
    }

    #[test]
    fn what_differs_is_not_joined() {
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
                        flags: TCP_ACK | flag,
                        ..tcp
                    },
                ));
                pairs.push((
                    Spec {
                        flags: TCP_ACK | flag,
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
            (rare(4), rare(1), rare(TCP_PSH), rare(1), rare(1)),
            prop_oneof![9 => Just(100_usize), 1 => 1_usize..120],
            prop_oneof![
                6 => Just(Right::Yes),
                6 => Just(Right::Partial),
                1 => Just(Right::Wrong),
                1 => Just(Right::None)
            ],
        )
            .prop_map(
                |((version, is_tcp, port), (tos, ttl, push, options, fragment), len, checksum)| {
                    Spec {
                        version,
                        is_tcp,
                        port,
                        tos,
                        ttl: 9 + ttl,
                        flags: TCP_ACK | push,
                        options,
                        fragment: fragment != 0,
                        len,
                        checksum: if is_tcp && checksum == Right::None {
                            Right::Yes
                        } else {
                            checksum
                        },
                        ..PLAIN
                    }
                },
            )
    }

    proptest! {
        /// Whatever comes, what the kernel sends is what would have been sent one by one, each flow in its order, and in
        /// order with what is of no flow.
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

    /// Sorted by flow, up to each packet that is of none, and as far as they are to be the same.
    fn by_flow(packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut packets: Vec<_> = packets.into_iter().map(comparable).collect();
        for between in packets.split_mut(|octets| transport_at(octets).is_none()) {
            between.sort_by_key(|octets| key(octets, transport_at(octets).unwrap()));
        }
        packets
    }
}
