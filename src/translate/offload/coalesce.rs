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
mod tests;
