//! Fragments: put together, they are the translation of the datagram (RFC 7915 sections 4.1,
//! 5.1.1).

use proptest::{collection::vec, prelude::*};
use xlatd::translate::{DropReason, UdpChecksum};

use crate::{
    cases,
    given::{Answer, Content, World, contents, mapped_picks, sane_worlds},
    judge,
    plain::{self, AUTHENTICATION, ICMP, Ip, UDP},
};

/// How a datagram's payload is cut: each piece but the last so many times 8 octets long.
fn cuts(len: usize, units: &[usize]) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    let mut at = 0;
    let mut units = units.iter().cycle();
    while at < len {
        // The first holds the whole transport header.
        let piece = (units.next().unwrap() * 8).max(24).min(len - at);
        places.push((at, piece));
        at += piece;
    }
    places
}

/// The same, of a protocol that may come in fragments in both families, and cut further.
fn fragmentable(content: Content, world: &World) -> Content {
    let without_checksum =
        content.without_checksum && world.settings.udp_checksum == UdpChecksum::Forward;
    let protocol = match content.protocol {
        ICMP | AUTHENTICATION => UDP,
        other => other,
    };
    Content {
        dont_fragment: false,
        protocol,
        without_checksum,
        ..content
    }
}

proptest! {
    #![proptest_config(cases())]

    /// X46-11, X46-15, X46-16, X64-10, X64-12: a datagram that comes in fragments, which are cut
    /// again where they do not fit.
    #[test]
    fn of_datagrams_that_came_in_fragments(
        world in sane_worlds(),
        content in contents(20_000),
        units in vec(prop_oneof![1..40_usize, 100..400_usize, 1000..3000_usize], 1..5),
        v6: bool,
        (source, destination) in (mapped_picks(), mapped_picks()),
    ) {
        let len = content.len + units[0] * 8 + 24; // two fragments at least
        let content = Content { len, ..fragmentable(content, &world) };
        let (source, destination) = (source.of(&world, v6), destination.of(&world, v6));
        let payload = content.payload(source, destination);
        let places = cuts(payload.len(), &units);
        prop_assert!(places.len() > 1);

        let mut node = world.node(1);
        let mut made = Vec::new();
        for (at, len) in places {
            let more = at + len < payload.len();
            let piece = &payload[at..at + len];
            let packet = content.around(source, destination, Some((at, more)), piece);
            for packet in judge::send(&world, &mut node, &packet)?.passed()? {
                made.push(plain::read_made(&packet.0)?);
            }
        }
        let whole = plain::reassemble(&made)?;
        prop_assert_eq!((whole.offset, whole.more), (0, false));
        prop_assert_eq!(whole.id, content.id & 0xffff);
        let given = Ip { payload, source, destination, ..whole.clone() };
        prop_assert_eq!(plain::transport_residue(&whole), plain::transport_residue(&given));
        prop_assert_eq!(whole.payload.len(), given.payload.len());
        let from = plain::checksum_at(content.protocol).map_or(0, |at| at + 2);
        prop_assert!(whole.payload[from..] == given.payload[from..]);
    }

    /// X46-37: the checksum of a first fragment would cover what is not there, so there is none to
    /// be had.
    #[test]
    fn that_begin_udp_without_checksum(
        world in sane_worlds(),
        content in contents(1000),
        v6: bool,
        (source, destination) in (mapped_picks(), mapped_picks()),
    ) {
        let content = Content {
            protocol: UDP, len: content.len & !7 | 8, without_checksum: true, ..content
        };
        let (source, destination) = (source.of(&world, v6), destination.of(&world, v6));
        let payload = content.payload(source, destination);
        let packet = content.around(source, destination, Some((0, true)), &payload);
        let answer = judge::send(&world, &mut world.node(1), &packet)?;
        if world.settings.udp_checksum == UdpChecksum::Forward {
            prop_assert_eq!(&answer.put_together()?.payload, &payload);
        } else {
            let dropped = matches!(answer, Answer::Drop(DropReason::UdpFragmentChecksum, _));
            prop_assert!(dropped, "{answer:?}");
        }
    }

    /// X46-11, X64-12: none is smaller than it has to be, so there are as few as there can be.
    #[test]
    fn are_as_large_as_they_can_be(
        world in sane_worlds(),
        content in contents(65535),
        v6: bool,
        (source, destination) in (mapped_picks(), mapped_picks()),
    ) {
        let content = Content { dont_fragment: false, ..content };
        let (source, destination) = (source.of(&world, v6), destination.of(&world, v6));
        let packet = content.packet(source, destination);
        if let Answer::Fragments(packets) = judge::send(&world, &mut world.node(1), &packet)? {
            prop_assert!(!v6, "what is not a fragment is either fragmentable and small, or too big");
            let limit = usize::from(world.settings.mtu.min(world.settings.offlink_mtu));
            for packet in &packets[..packets.len() - 1] {
                prop_assert!(packet.0.len() + 8 > limit);
            }
        }
    }

    /// RFC 791, RFC 8200 section 4.5: a fragment past the end of the largest datagram, or with a
    /// length that cannot go on, goes nowhere.
    #[test]
    fn that_cannot_be_part_of_a_datagram(
        world in sane_worlds(),
        content in contents(2000),
        v6: bool,
        offset in 0..65536_usize,
        more: bool,
        (source, destination) in (mapped_picks(), mapped_picks()),
    ) {
        let content = fragmentable(content, &world);
        let (source, destination) = (source.of(&world, v6), destination.of(&world, v6));
        let offset = offset & !7 | 8;
        let payload = content.payload(source, destination);
        let packet = content.around(source, destination, Some((offset, more)), &payload);
        let has_place = offset + payload.len() <= 65515;
        let possible = (!more || payload.len().is_multiple_of(8)) && has_place;
        let answer = judge::send(&world, &mut world.node(1), &packet)?;
        prop_assert_eq!(matches!(answer, Answer::Drop(..)), !possible, "{:?}", answer);
    }
}
