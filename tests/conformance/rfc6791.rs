//! RFC 6791 and its successor: ICMPv6 errors from sources that have no IPv4 address.

use std::net::{Ipv4Addr, Ipv6Addr};

use xlatd::translate::{DropReason, Settings};

use super::{
    checker::{self, Icmp, Ip},
    packets::{CLIENT4, CLIENT6, OWN4, PEER6, ROUTER6, SERVER4, SERVER6, payload, v6},
    rig::{Rig, rig, rig_of},
    rows::rows,
};

rows! {
    i91_01 Should "RFC 6791 1, 3" => errors_are_not_dropped,
    i91_02 Should "RFC 6791 3" => own_address,
    i91_03 Should "draft-ietf-v6ops-icmpext-xlat-v6only-source, RFC 7600 4.8" => dummy_address,
    i91_04 Must "draft-ietf-v6ops-icmpext-xlat-v6only-source" => translatable_sources_stay,
    i91_05 Should "draft-ietf-v6ops-icmpext-xlat-v6only-source" => the_source_is_named,
    i91_06 Must "draft-ietf-v6ops-icmpext-xlat-v6only-source" => beside_what_is_there,
    i91_07 Derived "RFC 6791 1" => traceroute,
}

/// Every kind of error that has a counterpart.
const ERRORS: &[(u8, u8)] = &[
    (1, 0),
    (1, 1),
    (1, 4),
    (2, 0),
    (3, 0),
    (3, 1),
    (4, 0),
    (4, 1),
];

/// An error about a packet from the server to the client, translated.
fn error(rig: &mut Rig, source: &str, (kind, code): (u8, u8)) -> Ip {
    let quoted = v6().from(SERVER6).to(CLIENT6).udp(&payload(20)).build();
    let rest = if kind == 2 { [0, 0, 5, 0] } else { [0; 4] };
    let error = v6().from(source).icmp(kind, code, rest, &quoted);
    let packet = rig.send(&error).forwarded();
    assert_eq!(packet.destination.to_string(), SERVER4);
    assert_eq!(
        packet.icmp().quoted().addresses(),
        (SERVER4.into(), CLIENT4.into())
    );
    packet
}

fn with_source(source: &str) -> Rig {
    rig_of(Settings {
        icmp_source: Some(source.parse::<Ipv4Addr>().unwrap()),
        ..Settings::default()
    })
}

fn errors_are_not_dropped() {
    let mut rig = rig();
    for &kind in ERRORS {
        // Nobody has a mapping for these.
        for source in [ROUTER6, "fd00::1", "2a00:1450::1"] {
            error(&mut rig, source, kind);
        }
    }
    // What is wrong with anything else is wrong with these.
    let quoted = v6().from(SERVER6).to(CLIENT6).udp(b"x").build();
    let to_nobody = v6().from(ROUTER6).to("2001:db8:99::1");
    rig.send(&to_nobody.icmp(1, 0, [0; 4], &quoted))
        .dropped(DropReason::NoDestination);
}

fn own_address() {
    for &kind in ERRORS {
        assert_eq!(error(&mut rig(), ROUTER6, kind).source.to_string(), OWN4);
        let packet = error(&mut with_source("203.0.113.200"), ROUTER6, kind);
        assert_eq!(packet.source.to_string(), "203.0.113.200");
    }
}

fn dummy_address() {
    let mut rig = with_source("192.0.0.8");
    for &kind in ERRORS {
        let packet = error(&mut rig, ROUTER6, kind);
        assert_eq!(packet.source.to_string(), "192.0.0.8");
    }
}

fn translatable_sources_stay() {
    let mut rig = with_source("192.0.0.8");
    for &kind in ERRORS {
        for (source, expected) in [
            (CLIENT6, CLIENT4),
            (PEER6, "198.51.100.20"),
            ("2001:db8:64::c000:201", "192.0.2.1"),
        ] {
            let packet = error(&mut rig, source, kind);
            assert_eq!(packet.source.to_string(), expected);
            let icmp = packet.icmp();
            assert_eq!(icmp.rest[1], 0, "no extension");
            assert_eq!(icmp.body.len(), 48, "nothing is added");
        }
    }
    // Nor is it given to anything that is not an error.
    rig.send(&v6().from(ROUTER6).udp(b"x"))
        .error(DropReason::NoSource, 1, 5);
}

/// The Node Identification object of a router (draft-ietf-intarea-extended-icmp-nodeid, RFC
/// 5837 section 4.2).
fn node(address: &str) -> Vec<u8> {
    let address: Ipv6Addr = address.parse().unwrap();
    [&[0, 24, 5, 4, 0, 2, 0, 0][..], &address.octets()].concat()
}

/// An extension structure of these objects.
fn structure(objects: &[u8]) -> Vec<u8> {
    let mut octets = [&[0x20, 0, 0, 0], objects].concat();
    let checksum = !checker::sum(&octets);
    octets[2..4].copy_from_slice(&checksum.to_be_bytes());
    octets
}

/// In each kind of error: the ICMPv4 types that they become can all be extended (RFC 4884 section
/// 4).
fn the_source_is_named() {
    for mut rig in [rig(), with_source("192.0.0.8")] {
        for &kind in ERRORS {
            let icmp = error(&mut rig, ROUTER6, kind).icmp();
            assert_eq!(icmp.rest[1], 32, "128 octets, {kind:?}");
            assert_eq!(icmp.body[128..], structure(&node(ROUTER6)), "{kind:?}");
            // The packet of 48 octets, and nothing but padding.
            assert!(icmp.body[48..128].iter().all(|&octet| octet == 0));
        }
        // The length is in octet 5, the MTU in octets 6 and 7.
        let too_big = error(&mut rig, ROUTER6, (2, 0)).icmp();
        assert_eq!(too_big.rest, [0, 32, 0x04, 0xec], "an MTU of 1260");
        // And the pointer in octet 4.
        let icmp = error(&mut rig, ROUTER6, (4, 0)).icmp();
        assert!(icmp.is(12, 0));
        assert_eq!(icmp.rest, [0, 32, 0, 0]);
    }
    let mut silent = rig_of(Settings {
        icmp_node_id: false,
        ..Settings::default()
    });
    for &kind in ERRORS {
        let icmp = error(&mut silent, ROUTER6, kind).icmp();
        assert_eq!((icmp.rest[1], icmp.body.len()), (0, 48), "icmp-node-id no");
    }
}

fn beside_what_is_there() {
    objects_are_appended();
    the_quoted_datagram_makes_room();
    origins_that_name_themselves();
    what_is_not_understood_stays();
}

/// An error of `ROUTER6` that quotes `len` octets of a packet, and has an extension, if not empty.
fn extended(rig: &mut Rig, len: usize, extension: &[u8]) -> Icmp {
    let mut quoted = v6()
        .from(SERVER6)
        .to(CLIENT6)
        .udp(&payload(len - 48))
        .build();
    let mut rest = [0; 4];
    if !extension.is_empty() {
        quoted.resize(len.next_multiple_of(8).max(128), 0);
        rest[0] = (quoted.len() / 8) as u8;
    }
    let body = [&quoted, extension].concat();
    let error = v6().from(ROUTER6).icmp(3, 0, rest, &body);
    rig.send(&error).forwarded().icmp()
}

/// The length attribute in octets, and what is behind the quoted datagram.
fn split(icmp: &Icmp) -> (usize, &[u8]) {
    let len = usize::from(icmp.rest[1]) * 4;
    (len, &icmp.body[len..])
}

/// The objects of the origin come first, with or without a checksum of theirs.
fn objects_are_appended() {
    let mut rig = rig();
    let objects = [0, 8, 1, 1, 1, 2, 3, 4, 0, 8, 2, 8, 0, 0, 0, 7];
    let expected = structure(&[&objects[..], &node(ROUTER6)].concat());
    let mut unsummed = structure(&objects);
    unsummed[2..4].fill(0);
    for received in [structure(&objects), unsummed] {
        for (len, quoted_len) in [(60, 128), (128, 128), (300, 280)] {
            let icmp = extended(&mut rig, len, &received);
            assert_eq!(split(&icmp), (quoted_len, &expected[..]));
        }
    }
    let only_a_header = structure(&[]);
    let icmp = extended(&mut rig, 300, &only_a_header);
    assert_eq!(split(&icmp), (280, &structure(&node(ROUTER6))[..]));
}

/// 576 octets at most, of which 128 are quoted at least; objects of the origin come before ours.
fn the_quoted_datagram_makes_room() {
    let mut rig = rig();
    for len in 48..1280usize {
        let icmp = extended(&mut rig, len, &[]);
        let (quoted_len, extension) = split(&icmp);
        assert_eq!(extension, structure(&node(ROUTER6)), "{len} octets");
        let room = 576 - 28 - 28;
        let expected = (len - 20).next_multiple_of(4).clamp(128, room);
        assert_eq!(quoted_len, expected, "{len} octets");
    }
    // 576 - 28 - 128: what there is for an extension, 396 and our object.
    for (object_len, fits) in [(392, true), (396, false), (416, false)] {
        let mut object = vec![1; object_len];
        object[..2].copy_from_slice(&(object_len as u16).to_be_bytes());
        let icmp = extended(&mut rig, 600, &structure(&object));
        if fits {
            object.extend(node(ROUTER6));
        }
        let (quoted_len, extension) = split(&icmp);
        assert_eq!(extension, structure(&object), "{object_len} octets");
        assert_eq!(quoted_len, 548 - extension.len());
    }
}

/// An error names one node, once: what the origin says of itself stays.
fn origins_that_name_themselves() {
    let mut rig = rig();
    let name = [0, 12, 5, 2, 6, b'h', b'o', b'p', b'-', b'1', 0, 0];
    for object in [&node("2001:db8:9::99")[..], &name, &[0, 4, 5, 0]] {
        for before in [&[][..], &[0, 8, 1, 1, 1, 2, 3, 4]] {
            let received = structure(&[before, object].concat());
            let icmp = extended(&mut rig, 128, &received);
            assert_eq!(split(&icmp), (128, &received[..]));
        }
    }
}

/// An extension of another version, with a wrong checksum, or with objects that do not fill it
/// (RFC 4884 sections 5.4 and 7).
fn what_is_not_understood_stays() {
    let mut rig = rig();
    let sound = structure(&[0, 8, 1, 1, 1, 2, 3, 4]);
    let mut wrong = sound.clone();
    wrong[11] ^= 1;
    let mut version = sound;
    version[0] = 0x30;
    let short = structure(&[0, 3, 1, 1]);
    let long = structure(&[0, 9, 1, 1, 1, 2, 3, 4]);
    for received in [wrong, version, short, long] {
        let icmp = extended(&mut rig, 128, &received);
        assert_eq!(split(&icmp), (128, &received[..]));
    }
}

/// Each hop of a traceroute from the IPv4 side is seen, also those between the translator and the
/// host.
fn traceroute() {
    let mut rig = with_source("192.0.0.8");
    for hop in 1..5u8 {
        let probe = super::packets::v4().hops(hop + 1).udp(&payload(32));
        let probe = rig.send(&probe).forwarded();
        assert_eq!(probe.hops, hop);
        // What the router that it expired at makes of it: the packet as it arrived there.
        let quoted = v6().from(SERVER6).to(CLIENT6).hops(1).raw(17, &probe.upper);
        let source = format!("2001:db8:9::{hop}");
        let error = v6().from(&source).icmp(3, 0, [0; 4], &quoted.build());
        let heard = rig.send(&error).forwarded();
        assert_eq!(heard.addresses(), ("192.0.0.8".into(), SERVER4.into()));
        assert!(heard.icmp().is(11, 0));
        // The host recognizes its probe: ports, length and checksum are those that it sent.
        let inside = heard.icmp().quoted();
        let sent = super::packets::v4().udp(&payload(32)).upper();
        assert_eq!(inside.upper[..sent.len()], sent);
        assert!(heard.icmp().body.ends_with(&node(&source)));
    }
    let too_soon = super::packets::v4().hops(1).udp(&payload(32));
    rig.send(&too_soon).error(DropReason::HopLimit, 11, 0);
}
