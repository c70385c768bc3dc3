//! Joins packets that follow each other in a flow to one super-packet, as the kernel's own receive offload does (GRO), so
//! that a stream of small packets is one write and not many.
//!
//! Joined is only what the kernel can cut again into the very packets that came: same addresses, ports, traffic class, hop
//! limit, DF and TCP flags, each as long as the first, no options that differ, no fragments, and a checksum that is
//! right. A checksum that is wrong would be repaired on the way: such a packet goes out alone, and still wrong.
//! Nothing overtakes anything: what cannot be joined is written after all that came before it.

use super::Packet;
use crate::wire::{
    checksum::Sum,
    ipv4::{self, Ipv4Packet},
    ipv6::{self, Ipv6Packet},
    protocol, transport,
    virtio::{Offload, PartialChecksum, SegmentKind, SegmentTransport},
};

/// The kernel cuts UDP super-packets of up to so many segments (UDP_MAX_SEGMENTS of linux/udp.h, 64 before Linux 6.7).
const MOST_SEGMENTS: usize = 64;
/// The longest packet whose length IPv4 and IPv6 can say, in octets.
const MAX_LEN: usize = 65535;

const TCP_ACK: u8 = 0x10;
const TCP_PSH: u8 = 0x08;

/// Packets that wait for more of their flow.
#[derive(Debug, Default)]
pub struct Coalescer {
    /// The first packet, with the payload of the others after its own.
    packet: Packet,
    /// `None` if nothing waits.
    flow: Option<Flow>,
}

/// What waits.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Offered {
    /// Nothing: it waits, or has joined what waits. The buffer holds something else now.
    Taken,
    /// What waits is to be written first, and then this is to be offered again.
    WriteFirst,
    /// It is to be written: nothing waits, and it can be joined to nothing.
    Alone,
}

impl Coalescer {
    /// A translated packet, which is about to be written.
    pub fn offer(&mut self, packet: &mut Packet) -> Offered {
        let shape = Shape::of(packet);
        let Some(flow) = &mut self.flow else {
            let Some(shape) = shape else {
                return Offered::Alone;
            };
            std::mem::swap(&mut self.packet, packet);
            self.flow = Some(Flow {
                shape,
                segments: 1,
                ended: shape.is_tcp && has_push(&self.packet, shape),
                verified: false,
            });
            return Offered::Taken;
        };
        let Some(shape) = shape else {
            return Offered::WriteFirst;
        };
        if !flow.continues(&self.packet, packet, shape) {
            return Offered::WriteFirst;
        }
        if !flow.verified {
            if !is_intact(&self.packet, flow.shape) {
                return Offered::WriteFirst;
            }
            flow.verified = true;
        }
        if !is_intact(packet, shape) {
            return Offered::WriteFirst;
        }
        self.packet.append(&packet.bytes()[shape.payload_at..]);
        flow.segments += 1;
        flow.ended = shape.size < flow.shape.size || shape.is_tcp && has_push(packet, shape);
        if flow.ended && shape.is_tcp {
            // Of a super-packet it is the last segment that has the flag.
            let flags = packet.bytes()[shape.transport_at + 13];
            self.packet.tail_mut(flow.shape.transport_at)[13] = flags;
        }
        Offered::Taken
    }

    /// What waits, to be written; nothing waits then.
    pub fn take(&mut self) -> Option<&Packet> {
        let Flow {
            shape, segments, ..
        } = self.flow.take()?;
        if segments > 1 {
            shape.make_super(&mut self.packet);
        }
        Some(&self.packet)
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
    fn of(packet: &Packet) -> Option<Self> {
        let octets = packet.bytes();
        if packet.is_super() {
            return None;
        }
        let (protocol, transport_at) = match octets.first()? >> 4 {
            4 => {
                let header = octets.first_chunk::<{ ipv4::HEADER_LEN }>()?;
                let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
                if header[0] != 0x45 || is_fragment {
                    return None;
                }
                (header[9], ipv4::HEADER_LEN)
            }
            6 => (*octets.get(6)?, ipv6::HEADER_LEN),
            _ => return None,
        };
        let transport = octets.get(transport_at..)?;
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
