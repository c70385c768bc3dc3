//! RFC 6791 and its successor: ICMPv6 errors from sources that have no IPv4 address.

use std::net::Ipv4Addr;

use xlatd::translate::{DropReason, Settings};

use super::{
    checker::Ip,
    packets::{CLIENT4, CLIENT6, OWN4, PEER6, ROUTER6, SERVER4, SERVER6, payload, v6},
    rig::{Rig, rig, rig_of},
    rows::rows,
};

rows! {
    i91_01 Should "RFC 6791 1, 3" => errors_are_not_dropped,
    i91_02 Should "RFC 6791 3" => own_address,
    i91_03 Should "draft-ietf-v6ops-icmpext-xlat-v6only-source, RFC 7600 4.8" => dummy_address,
    i91_04 Must "draft-ietf-v6ops-icmpext-xlat-v6only-source" => translatable_sources_stay,
    i91_05 Should "draft-ietf-v6ops-icmpext-xlat-v6only-source" unproven
        "the Node Identification object comes from an Internet-Draft whose code points are not \
         final: none is appended",
    i91_06 Must "draft-ietf-v6ops-icmpext-xlat-v6only-source" unproven
        "no object is appended (I91-05); extensions that are there already pass (E84)",
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
        assert_eq!(inside.upper, super::packets::v4().udp(&payload(32)).upper());
    }
    let too_soon = super::packets::v4().hops(1).udp(&payload(32));
    rig.send(&too_soon).error(DropReason::HopLimit, 11, 0);
}
