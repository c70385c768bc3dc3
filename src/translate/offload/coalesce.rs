//! Receive offload (GRO): joins packets that follow each other in a flow to one super-packet, so
//! that a stream of small packets needs few writes.
//!
//! The kernel must be able to cut a super-packet into the very packets that were joined: they have
//! the same addresses, ports, traffic class, hop limit, DF, TCP flags and options, each is as long
//! as the first, none is a fragment, and their checksums are right. A wrong checksum would be
//! repaired on the way: such a packet goes out alone, and still wrong.
//!
//! No packet overtakes another of its flow: one that cannot be joined is written after those of its
//! flow that came before, and one of no flow (ICMP, fragments) after all others.

use std::{collections::VecDeque, hash::Hasher};

use rustc_hash::FxHasher;

use super::patience::Patience;
use crate::{
    translate::{Direction, Packet},
    wire::{
        checksum::Sum,
        ipv4::{self, Ipv4Packet},
        ipv6::{self, Ipv6Packet},
        protocol, put_u16,
        tcp::{self, TcpSegment},
        transport,
        udp::{self, UdpDatagram},
        virtio::{Offload, PartialChecksum, SegmentKind, SegmentTransport},
    },
};

/// Most segments of a UDP super-packet that the kernel cuts (UDP_MAX_SEGMENTS of linux/udp.h, 64
/// before Linux 6.7).
const MAX_SEGMENTS: usize = 64;
/// Longest packet whose length IPv4 and IPv6 can state, in octets.
const MAX_LEN: usize = 65535;
/// Most flows that wait; then the oldest is written for the newest.
const MAX_FLOWS: usize = 128;

/// Packets that wait for more of their flows.
#[derive(Debug, Default)]
pub struct Coalescer {
    /// The oldest first.
    waiting: VecDeque<Waiting>,
    /// The key of each in `waiting`: all that is searched for a packet.
    keys: VecDeque<u32>,
    patience: Patience,
    /// The packet that is being written.
    written: Packet,
    /// Buffers that are not in use. The last that was used is the next: it is in the cache.
    spare: Vec<Packet>,
    /// Packets that were joined to one before, of IPv4 and of IPv6.
    joined: [u64; 2],
}

/// The packets of one flow.
#[derive(Debug)]
struct Waiting {
    /// Its first packet, with the payload of the others after its own.
    packet: Packet,
    flow: Flow,
}

/// The state of a flow whose packets wait.
#[derive(Clone, Copy, Debug)]
struct Flow {
    /// Of the first packet.
    shape: Shape,
    segments: usize,
    /// Whether no packet can follow: the last one was shorter than the others, or had PSH.
    ended: bool,
    /// Whether the checksum of the first packet has been verified.
    verified: bool,
}

/// The parts of a packet that can be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Offset of the transport header, in octets.
    transport_at: usize,
    /// Offset of the payload, in octets.
    payload_at: usize,
    /// Payload of each segment, in octets; not zero.
    size: usize,
    protocol: FlowProtocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlowProtocol {
    Tcp { push: bool },
    Udp,
}

/// The answer to a packet that was offered.
#[derive(Debug)]
#[must_use]
pub enum Offered<'c> {
    /// The packet waits, alone or joined to others.
    Taken,
    /// Write this packet first, then offer the other again.
    First(&'c mut Packet),
    /// Write the packet: it can be joined to none, and none waits that it might overtake.
    Alone,
}

impl Coalescer {
    /// Offers a translated packet, which is about to be written.
    pub fn offer(&mut self, packet: &Packet) -> Offered<'_> {
        let Some(transport_at) = transport_at(packet.bytes()) else {
            // Its flow is unknown.
            return match self.take() {
                Some(waiting) => Offered::First(waiting),
                None => Offered::Alone,
            };
        };
        let key = key(packet.bytes(), transport_at);
        // With none that waits there is none that it might overtake.
        if self.keys.is_empty() && self.patience.passes(key) {
            return Offered::Alone;
        }
        let shape = Shape::of(packet, transport_at);
        if let Some(at) = position(&self.keys, key) {
            let joined = shape.is_some_and(|shape| self.waiting[at].join(packet, shape));
            return if joined {
                self.patience.joined();
                self.joined[usize::from(packet.is_ipv6())] += 1;
                Offered::Taken
            } else {
                self.remove(at)
            };
        }
        let Some(shape) = shape else {
            return Offered::Alone;
        };
        if self.waiting.len() == MAX_FLOWS {
            return self.remove(0);
        }
        self.patience.held();
        let mut first = self.spare.pop().unwrap_or_default();
        first.copy(packet);
        self.keys.push_back(key);
        self.waiting.push_back(Waiting {
            packet: first,
            flow: Flow {
                shape,
                segments: 1,
                ended: shape.has_push(),
                verified: false,
            },
        });
        Offered::Taken
    }

    /// Takes the packet that has waited longest, to be written.
    pub fn take(&mut self) -> Option<&mut Packet> {
        self.keys.pop_front()?;
        let waiting = self.waiting.pop_front()?;
        Some(self.finish(waiting))
    }

    /// The number of packets that came by a direction, and were joined to one before them.
    pub fn joined(&self, direction: Direction) -> u64 {
        let [ipv4, ipv6] = self.joined;
        match direction {
            Direction::FourToSix => ipv6,
            Direction::SixToFour => ipv4,
        }
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
    /// Joins `next` to the packets of the flow, if it continues them.
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
        flow.ended = shape.size < flow.shape.size || shape.has_push();
        if shape.has_push() {
            // Of the segments of a super-packet the last one has the flag.
            tcp::set_push(packet.tail_mut(flow.shape.transport_at));
        }
        true
    }
}

impl Flow {
    /// Whether `next`, of this `shape`, continues the flow whose first packet is `first`.
    fn continues(&self, first: &Packet, next: &Packet, shape: Shape) -> bool {
        let (first, next) = (first.bytes(), next.bytes());
        if self.ended
            || self.segments == MAX_SEGMENTS
            || first.len() + shape.size > MAX_LEN
            || shape.size > self.shape.size
            || shape.transport_at != self.shape.transport_at
        {
            return false;
        }
        let (first_ip, first) = first.split_at(shape.transport_at);
        let (next_ip, next) = next.split_at(shape.transport_at);
        let same_ip = match shape.transport_at {
            ipv4::HEADER_LEN => ipv4::is_same_but_for_length(first_ip, next_ip),
            _ => ipv6::is_same_but_for_length(first_ip, next_ip),
        };
        if !same_ip || first[..transport::PORTS_LEN] != next[..transport::PORTS_LEN] {
            return false;
        }
        match (self.shape.protocol, shape.protocol) {
            (FlowProtocol::Udp, FlowProtocol::Udp) => true,
            (FlowProtocol::Tcp { .. }, FlowProtocol::Tcp { .. }) => {
                match (TcpSegment::parse(first), TcpSegment::parse(next)) {
                    (Ok(first), Ok(next)) => first.is_continued_by(&next),
                    _ => false,
                }
            }
            _ => false,
        }
    }
}

impl Shape {
    /// The shape of a packet; `None` if it can never be joined.
    fn of(packet: &Packet, transport_at: usize) -> Option<Self> {
        let octets = packet.bytes();
        if packet.is_super() {
            return None;
        }
        let (protocol, len) = match protocol_of(octets) {
            protocol::TCP => {
                let segment = TcpSegment::parse(&octets[transport_at..]).ok()?;
                let push = segment.flags() & tcp::PSH != 0;
                let joinable = segment.flags() & !tcp::PSH == tcp::ACK;
                (
                    joinable.then_some(FlowProtocol::Tcp { push })?,
                    segment.payload().len(),
                )
            }
            _ => {
                let datagram = UdpDatagram::parse(&octets[transport_at..]).ok()?;
                let has_checksum = packet.offload().checksum.is_some() || datagram.has_checksum();
                let is_all = datagram.total_len() == octets.len() - transport_at;
                (
                    (has_checksum && is_all).then_some(FlowProtocol::Udp)?,
                    datagram.payload().len(),
                )
            }
        };
        (len > 0).then_some(Self {
            transport_at,
            payload_at: octets.len() - len,
            size: len,
            protocol,
        })
    }

    fn protocol_number(self) -> u8 {
        match self.protocol {
            FlowProtocol::Tcp { .. } => protocol::TCP,
            FlowProtocol::Udp => protocol::UDP,
        }
    }

    fn has_push(self) -> bool {
        self.protocol == FlowProtocol::Tcp { push: true }
    }

    /// Makes a super-packet of a packet to which payload was appended: sets its lengths, and a
    /// checksum that the kernel finishes for each segment.
    fn make_super(self, packet: &mut Packet) {
        let octets = packet.tail_mut(0);
        if octets[0] >> 4 == 4 {
            ipv4::put_len(octets, 0);
        } else {
            ipv6::put_len(octets);
        }
        let upper_len = octets.len() - self.transport_at;
        let pseudo = pseudo_header(octets, self.protocol_number(), upper_len);
        let transport = &mut octets[self.transport_at..];
        let (transport, field) = match self.protocol {
            FlowProtocol::Tcp { .. } => (SegmentTransport::Tcp { ecn: false }, tcp::CHECKSUM_AT),
            FlowProtocol::Udp => {
                udp::put_len(transport);
                (SegmentTransport::Udp, udp::CHECKSUM_AT)
            }
        };
        put_u16(octets, self.transport_at + field, pseudo.fold());
        packet.set_offload(Offload {
            checksum: Some(PartialChecksum {
                start: self.transport_at,
                field: self.transport_at + field,
            }),
            segments: Some(SegmentKind {
                transport,
                size: self.size as u16, // of a packet
            }),
        });
    }
}

/// Offset of the transport header of a TCP or UDP packet, in octets, if its ports are there. `None`
/// if there are options or extension headers before it, or if it is a fragment.
fn transport_at(octets: &[u8]) -> Option<usize> {
    let at = match octets.first()? >> 4 {
        4 => {
            let packet = Ipv4Packet::parse_quoted(octets).ok()?;
            let is_plain = packet.header_len() == ipv4::HEADER_LEN && packet.fragment().is_whole();
            is_plain.then_some(ipv4::HEADER_LEN)?
        }
        6 if octets.len() > ipv6::HEADER_LEN => ipv6::HEADER_LEN,
        _ => return None,
    };
    let protocol = protocol_of(octets);
    let is_known = matches!(protocol, protocol::TCP | protocol::UDP);
    (is_known && transport::ports(protocol, &octets[at..]).is_some()).then_some(at)
}

/// The protocol that the IP header names, all of which is there.
fn protocol_of(octets: &[u8]) -> u8 {
    match octets[0] >> 4 {
        4 => octets[ipv4::PROTOCOL_AT],
        _ => octets[ipv6::NEXT_HEADER_AT],
    }
}

/// A hash of addresses, ports and protocol. Flows that share a key are told apart before they are
/// joined.
fn key(octets: &[u8], transport_at: usize) -> u32 {
    // In both headers the addresses come last, and the ports follow them.
    let from = match transport_at {
        ipv4::HEADER_LEN => ipv4::SOURCE_AT,
        _ => ipv6::SOURCE_AT,
    };
    let mut hasher = FxHasher::default();
    hasher.write(&octets[from..transport_at + transport::PORTS_LEN]);
    hasher.write_u8(protocol_of(octets));
    hasher.finish() as u32
}

/// The place of a key. To compare several at once takes fewer instructions.
fn position(keys: &VecDeque<u32>, key: u32) -> Option<usize> {
    let search = |keys: &[u32]| {
        let (parts, _) = keys.as_chunks::<16>();
        let has_key = |part: &[u32; 16]| part.iter().fold(false, |any, &one| any | (one == key));
        let before = 16 * parts.iter().take_while(|part| !has_key(part)).count();
        let at = keys[before..].iter().position(|&one| one == key)?;
        Some(before + at)
    };
    let (front, back) = keys.as_slices();
    search(front).or_else(|| Some(front.len() + search(back)?))
}

/// Whether the transport checksum is right, or is still to be calculated.
fn is_intact(packet: &Packet, shape: Shape) -> bool {
    if packet.offload().checksum.is_some() {
        return true;
    }
    let octets = packet.bytes();
    let transport = &octets[shape.transport_at..];
    let pseudo = pseudo_header(octets, shape.protocol_number(), transport.len());
    (Sum::of(transport) + pseudo).verifies()
}

/// The sum of the pseudo-header of a translated packet, whose IP header is whole.
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
                |((version, is_tcp, port), (tos, ttl, push, options, fragment), len, checksum)| {
                    Spec {
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
                    }
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
}
