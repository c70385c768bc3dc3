//! Packets for which the kernel has left work to do: which of them are translated as they are, and the work itself where
//! they cannot be.

use super::Packet;
use crate::wire::{
    FragmentPlace,
    checksum::Sum,
    ipv4::{self, Ipv4Packet},
    ipv6, protocol, transport,
    virtio::{Offload, PartialChecksum, SegmentKind, SegmentTransport},
};

/// How a packet with work left to do is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// As any other: there is none.
    Plain,
    /// With a checksum that stays partial.
    Partial,
    /// As one packet, and the kernel cuts it. The longest segment has so many octets after its IP header.
    Whole { upper_len: usize },
    /// Not before the work is done.
    WorkFirst,
}

/// `transport` is what starts at octet `at`; `bare` says whether nothing but the IP header is before it.
pub(super) fn treatment(
    offload: &Offload,
    protocol: u8,
    place: FragmentPlace,
    at: usize,
    bare: bool,
    transport: &[u8],
) -> Treatment {
    if offload.is_none() {
        return Treatment::Plain;
    }
    let expected = transport::checksum_at(protocol).map(|field| PartialChecksum {
        start: at,
        field: at + field,
    });
    if !place.is_whole() || offload.checksum != expected || expected.is_none() {
        return Treatment::WorkFirst;
    }
    let Some(SegmentKind {
        transport: kind,
        size,
    }) = offload.segments
    else {
        return Treatment::Partial;
    };
    let fits = match kind {
        SegmentTransport::Tcp { .. } => protocol == protocol::TCP,
        SegmentTransport::Udp => protocol == protocol::UDP,
    };
    match transport::header_len(protocol, transport) {
        Some(header_len) if fits && bare => Treatment::Whole {
            upper_len: transport.len().min(header_len + usize::from(size)),
        },
        _ => Treatment::WorkFirst,
    }
}

/// The packets that a super-packet is made of, with nothing left to do.
///
/// What the kernel does in hardware's stead is done here where a super-packet cannot cross as it is: its header has
/// options or extensions, or its segments would have to be fragmented. Rare, slow and correct.
#[derive(Debug)]
pub struct Segments<'p> {
    packet: &'p Packet,
    kind: SegmentKind,
    checksum: PartialChecksum,
    /// Where the payload that is cut starts, in octets.
    payload_at: usize,
    /// How much of it has been taken, in octets.
    taken: usize,
    /// How many segments have been.
    count: u16,
}

impl<'p> Segments<'p> {
    /// `None` if it is no super-packet, or not one that can be cut: what says how long its headers are makes no sense.
    pub(super) fn of(packet: &'p Packet) -> Option<Self> {
        let Offload { checksum, segments } = packet.offload();
        let (kind, checksum) = (segments?, checksum?);
        let protocol = match kind.transport {
            SegmentTransport::Tcp { .. } => protocol::TCP,
            SegmentTransport::Udp => protocol::UDP,
        };
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

    /// Puts the next packet into `segment`. `false` if there is none any more.
    pub fn next(&mut self, segment: &mut Packet) -> bool {
        let octets = self.packet.bytes();
        let payload = &octets[self.payload_at..];
        if self.taken >= payload.len() {
            return false;
        }
        let len = (payload.len() - self.taken).min(self.kind.size.into());
        let is_last = self.taken + len == payload.len();
        segment.put(&[
            &octets[..self.payload_at],
            &payload[self.taken..self.taken + len],
        ]);
        let new = segment.tail_mut(0);
        let new_len = new.len();
        if new[0] >> 4 == 4 {
            set_ipv4_len(new, self.count);
        } else {
            // Extension headers stay.
            put_word(new, 4, new_len - ipv6::HEADER_LEN);
        }
        let start = self.checksum.start;
        // The pseudo-header has the length of the transport packet in it, which is another now.
        let (before, after) = (octets.len() - start, new_len - start);
        let transport = &mut new[start..];
        match self.kind.transport {
            SegmentTransport::Tcp { ecn } => {
                let sequence =
                    u32::from_be_bytes([transport[4], transport[5], transport[6], transport[7]]);
                let sequence = sequence.wrapping_add(self.taken as u32); // less than 65536
                transport[4..8].copy_from_slice(&sequence.to_be_bytes());
                const FIN_AND_PSH: u8 = 0x09;
                const CWR: u8 = 0x80;
                if !is_last {
                    transport[13] &= !FIN_AND_PSH;
                }
                if ecn && self.count > 0 {
                    transport[13] &= !CWR;
                }
            }
            SegmentTransport::Udp => put_word(transport, 4, after),
        }
        let field = self.checksum.field - start;
        let pseudo = u16::from_be_bytes([transport[field], transport[field + 1]]);
        let pseudo = Sum::word(pseudo) + Sum::word(!(before as u16)) + Sum::word(after as u16);
        put_word(transport, field, pseudo.fold().into());
        segment.finish(self.checksum);
        self.taken += len;
        self.count += 1;
        true
    }
}

/// Each segment is a packet of its own: length, identification and checksum of the header.
fn set_ipv4_len(packet: &mut [u8], count: u16) {
    let len = packet.len();
    put_word(packet, 2, len);
    let identification = u16::from_be_bytes([packet[4], packet[5]]).wrapping_add(count);
    put_word(packet, 4, identification.into());
    put_word(packet, 10, 0);
    let header_len =
        Ipv4Packet::parse(packet).map_or(ipv4::HEADER_LEN, |packet| packet.header_len());
    let checksum = Sum::of(&packet[..header_len]).checksum();
    put_word(packet, 10, checksum.into());
}

/// No more than 16 bits of it are there.
fn put_word(octets: &mut [u8], at: usize, word: usize) {
    octets[at..at + 2].copy_from_slice(&(word as u16).to_be_bytes());
}
