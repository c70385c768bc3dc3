//! The IP packet in a frame of a capture (<https://www.tcpdump.org/linktypes.html>).

use crate::wire::{ethernet, ipv6, u16_at};

/// The type of IPv4 packets.
const IPV4: u16 = 0x0800;
/// The types of the tags of VLANs (IEEE 802.1Q, IEEE 802.1ad).
const VLAN_TAGS: [u16; 2] = [0x8100, 0x88a8];
/// Length of a VLAN tag, in octets.
const VLAN_TAG_LEN: usize = 4;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// An IP packet, which starts at this offset, in octets.
    Packet { octets: &'a [u8], at: usize },
    /// Something else.
    NoPacket,
    /// It is not known where a packet would be.
    UnknownLink,
}

impl<'a> Frame<'a> {
    /// Looks for the packet in a frame of a link type.
    pub(super) fn read(link: i32, octets: &'a [u8]) -> Self {
        let found = match link {
            // NULL and LOOP have the family of the operating system, in an order that is its own.
            0 | 108 => Some(4),
            1 => behind_types(octets, 12),
            12 | 14 | 101 | 228 | 229 => Some(0),
            113 => behind_types(octets, 14),
            276 => (u16_at(octets, 0).is_some_and(is_ip)).then_some(20),
            _ => return Self::UnknownLink,
        };
        let packet = found.and_then(|at| Some((at, octets.get(at..)?)));
        match packet {
            Some((at, octets)) if matches!(octets.first().map(|first| first >> 4), Some(4 | 6)) => {
                let octets = &octets[..octets.len().min(len(octets))];
                Self::Packet { octets, at }
            }
            _ => Self::NoPacket,
        }
    }
}

/// The end of the types of a header, of which the first is at `at`, if the last one is that of IP.
fn behind_types(octets: &[u8], mut at: usize) -> Option<usize> {
    let mut found = u16_at(octets, at)?;
    while VLAN_TAGS.contains(&found) {
        at += VLAN_TAG_LEN;
        found = u16_at(octets, at)?;
    }
    is_ip(found).then_some(at + 2)
}

fn is_ip(found: u16) -> bool {
    matches!(found, IPV4 | ethernet::IPV6)
}

/// The length of a packet by its header, in octets: a short frame is padded. A length of zero is
/// that of a super-packet that is too long for the field.
fn len(packet: &[u8]) -> usize {
    let len = match packet.first().map(|first| first >> 4) {
        Some(4) => u16_at(packet, 2).map(usize::from),
        _ => u16_at(packet, 4).map(|len| match len {
            0 => 0,
            len => ipv6::HEADER_LEN + usize::from(len),
        }),
    };
    len.filter(|&len| len != 0).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 packet without data.
    const PACKET: [u8; 20] = [
        0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
    ];

    fn frame(link: i32, before: &[u8], padding: usize) -> Vec<u8> {
        let octets = [before, &PACKET, &vec![0; padding]].concat();
        match Frame::read(link, &octets) {
            Frame::Packet { octets, at } => {
                assert_eq!(at, before.len());
                octets.to_vec()
            }
            other => panic!("{link}: {other:?}"),
        }
    }

    /// The link types that captures of IP have, each with its header.
    #[test]
    fn the_packet_of_a_frame_is_found() {
        let ethernet = [&[0; 12][..], &[0x08, 0]].concat();
        let tagged = [&[0; 12][..], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 0x08, 0]].concat();
        let cooked = [&[0; 14][..], &[0x08, 0]].concat();
        let cooked2 = [&[0x08, 0][..], &[0; 18]].concat();
        for (link, before) in [
            (0, &[2, 0, 0, 0][..]),
            (1, &ethernet),
            (1, &tagged),
            (12, &[]),
            (101, &[]),
            (108, &[0, 0, 0, 2]),
            (113, &cooked),
            (228, &[]),
            (276, &cooked2),
        ] {
            assert_eq!(frame(link, before, 0), PACKET, "{link}");
            assert_eq!(frame(link, before, 26), PACKET, "{link}: padding");
        }
    }

    #[test]
    fn other_frames_have_none() {
        let arp = [&[0; 12][..], &[0x08, 0x06], &PACKET].concat();
        let cut_off = [&[0; 12][..], &[0x81, 0]].concat();
        for (link, octets) in [
            (1, &arp[..]),
            (1, &cut_off),
            (1, &[]),
            (276, &[8]),
            (101, &[0]),
        ] {
            assert_eq!(
                Frame::read(link, octets),
                Frame::NoPacket,
                "{link}, {octets:?}"
            );
        }
        assert_eq!(Frame::read(147, &PACKET), Frame::UnknownLink);
    }

    /// What a super-packet of more than 65535 octets has in its length field.
    #[test]
    fn a_length_of_zero_is_none() {
        let mut packet = PACKET;
        packet[3] = 0;
        let expected = Frame::Packet {
            octets: &packet,
            at: 0,
        };
        assert_eq!(Frame::read(101, &packet), expected);
    }
}
