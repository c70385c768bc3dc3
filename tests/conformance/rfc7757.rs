//! RFC 7757: explicit address mappings.

use xlatd::{
    addr::{AddressMap, Eam},
    translate::{DropReason, Settings},
};

use super::{
    checker::{Ip, UDP, Verdict, reassemble},
    packets::{
        CLIENT4, CLIENT6, OWN6, PEER4, PEER6, PREFIX, ROUTER4, ROUTER6, SERVER4, SERVER6, payload,
        v4, v6,
    },
    rig::{Rig, map, map_with_strict, rig, rig_of, rig_with},
    rows::rows,
};

rows! {
    eam_01 Must "RFC 7757 3.1, 3.2" => suffix_lengths,
    eam_02 Must "RFC 7757 3.3.1" => four_to_six,
    eam_03 Must "RFC 7757 3.3.2" => six_to_four,
    eam_04 Must "RFC 7757 3.3" => before_the_prefix,
    eam_05 Must "RFC 7757 5" => overlapping_entries,
    eam_06 Must "RFC 7757 4" => hairpinning,
    eam_07 Derived "RFC 7757 4.2.1" unproven
        "intrinsic hairpinning (EAM-08) is done instead: mapping the source by the prefix \
         whenever both ends have explicit mappings would break those who map IPv4 servers to \
         IPv6 addresses",
    eam_08 Derived "RFC 7757 4.2.2" => intrinsic_hairpinning,
    eam_09 Derived "RFC 7757 4" => errors_about_hairpinned_packets,
    eam_10 Must "RFC 7757 6" => checksums_are_updated,
    eam_11 Derived "RFC 7757 3, table" => vectors,
    eam_12 Derived "RFC 7915 4.3, 5.3" => roles_in_quoted_packets,
}

/// `PEER6` as other IPv6 hosts must address it, and `CLIENT6` as it sees them.
const PEER_BY_PREFIX: &str = "2001:db8:64::c633:6414";
const CLIENT_BY_PREFIX: &str = "2001:db8:64::c633:640a";

const TABLE: &[(&str, &str)] = &[
    ("192.0.2.1", "2001:db8:aaaa::"),
    ("192.0.2.2/32", "2001:db8:bbbb::b/128"),
    ("192.0.2.16/28", "2001:db8:cccc::/124"),
    ("192.0.2.128/26", "2001:db8:dddd::/64"),
    ("192.0.2.192/29", "2001:db8:eeee:8::/62"),
    ("192.0.2.224/31", "64:ff9b::/127"),
];

fn rig_of_table(eams: &[(&str, &str)]) -> Rig {
    rig_with(Settings::default(), map(Some(PREFIX), eams))
}

fn to_v6(rig: &mut Rig, host: &str) -> String {
    let packet = rig.send(&v4().to(host).udp(b"x")).forwarded();
    let back = v4().from(host).to("198.18.0.1").udp(b"x");
    assert_eq!(rig.send(&back).forwarded().source, packet.destination);
    packet.destination.to_string()
}

fn to_v4(rig: &mut Rig, host: &str) -> String {
    let packet = rig.send(&v6().from("2001:db8:64::c612:1").to(host).udp(b"x"));
    packet.forwarded().destination.to_string()
}

fn suffix_lengths() {
    for v4_length in 0..=32u8 {
        for v6_length in 0..=128u8 {
            let v4 = format!("0.0.0.0/{v4_length}").parse().unwrap();
            let v6 = format!("::/{v6_length}").parse().unwrap();
            let accepted = Eam::new(v4, v6).is_ok();
            assert_eq!(
                accepted,
                128 - v6_length >= 32 - v4_length,
                "/{v4_length} and /{v6_length}"
            );
        }
    }
}

fn four_to_six() {
    let mut rig = rig_of_table(TABLE);
    for (host, expected) in [
        ("192.0.2.16", "2001:db8:cccc::"),
        ("192.0.2.31", "2001:db8:cccc::f"),
        ("192.0.2.129", "2001:db8:dddd:0:400::"),
        ("192.0.2.199", "2001:db8:eeee:b:8000::"),
        // No match.
        ("192.0.2.3", "2001:db8:64::c000:203"),
        ("192.0.2.32", "2001:db8:64::c000:220"),
        ("192.0.2.200", "2001:db8:64::c000:2c8"),
        ("192.0.2.226", "2001:db8:64::c000:2e2"),
    ] {
        assert_eq!(to_v6(&mut rig, host), expected);
    }
}

fn six_to_four() {
    let mut rig = rig_of_table(TABLE);
    for (host, expected) in [
        ("2001:db8:cccc::8", "192.0.2.24"),
        // Surplus low bits mean nothing.
        ("2001:db8:dddd:0:6000::", "192.0.2.152"),
        ("2001:db8:dddd:0:6000::1", "192.0.2.152"),
        ("2001:db8:dddd:0:63ff:ffff:ffff:ffff", "192.0.2.152"),
        ("2001:db8:dddd:0:6400::", "192.0.2.153"),
        ("2001:db8:eeee:8:7fff:ffff:ffff:ffff", "192.0.2.192"),
        ("2001:db8:eeee:b:8000:0:0:1", "192.0.2.199"),
    ] {
        assert_eq!(to_v4(&mut rig, host), expected);
        let packet = rig.send(&v6().from(host).udp(b"x")).forwarded();
        assert_eq!(packet.addresses(), (expected.into(), SERVER4.into()));
    }
    for host in [
        "2001:db8:cccc::10",
        "2001:db8:dddd:1::",
        "2001:db8:eeee:c::",
        "2001:db8:aaaa::1",
    ] {
        let packet = v6().from("2001:db8:64::c612:1").to(host).udp(b"x");
        rig.send(&packet).error(DropReason::NoDestination, 1, 0);
    }
}

fn before_the_prefix() {
    // Also where both would do.
    let eams = [
        ("203.0.113.0/28", "2001:db8:64::c633:6400/124"),
        (CLIENT4, CLIENT6),
    ];
    let mut rig = rig_of_table(&eams);
    let packet = rig.send(&v4().udp(b"x")).forwarded();
    assert_eq!(packet.source.to_string(), "2001:db8:64::c633:6409");
    let packet = rig.send(&v6().to("2001:db8:64::c633:6409").udp(b"x"));
    assert_eq!(packet.forwarded().destination.to_string(), SERVER4);
    // What has no mapping falls back to the prefix, and without one is discarded.
    let packet = rig.send(&v4().from("203.0.113.16").udp(b"x")).forwarded();
    assert_eq!(packet.source.to_string(), "2001:db8:64::cb00:7110");
    let mut rig = rig_with(Settings::default(), map(None, &eams));
    rig.send(&v4().from("203.0.113.16").udp(b"x"))
        .error(DropReason::NoSource, 3, 10);
    rig.send(&v4().to("203.0.113.16").udp(b"x"))
        .error(DropReason::NoDestination, 3, 1);
    rig.send(&v6().to("2001:db8:64::cb00:7110").udp(b"x"))
        .error(DropReason::NoDestination, 1, 0);
}

fn overlapping_entries() {
    let mut rig = rig_of_table(&[
        ("192.0.2.0/24", "2001:db8:a::/120"),
        ("192.0.2.128/25", "2001:db8:b::/121"),
        ("192.0.2.130", "2001:db8:a::5"),
        (CLIENT4, CLIENT6),
    ]);
    for (host, expected) in [
        ("192.0.2.127", "2001:db8:a::7f"),
        ("192.0.2.128", "2001:db8:b::"),
        ("192.0.2.130", "2001:db8:a::5"),
        ("192.0.2.131", "2001:db8:b::3"),
        ("192.0.2.5", "2001:db8:a::5"),
    ] {
        assert_eq!(to_v6(&mut rig, host), expected);
    }
    for (host, expected) in [
        ("2001:db8:a::5", "192.0.2.130"), // the longer of two
        ("2001:db8:a::6", "192.0.2.6"),
        ("2001:db8:a::83", "192.0.2.131"),
        ("2001:db8:b::2", "192.0.2.130"),
    ] {
        assert_eq!(to_v4(&mut rig, host), expected);
    }
}

fn hairpinning() {
    assert!(Settings::default().hairpin, "on by default");
    let packet = v6().to(PEER_BY_PREFIX);
    let error = {
        let quoted = v6().from(PEER_BY_PREFIX).to(CLIENT6).udp(b"x").build();
        packet.clone().icmp(1, 4, [0; 4], &quoted)
    };
    let mut on = rig();
    let mut off = rig_of(Settings {
        hairpin: false,
        ..Settings::default()
    });
    for packet in [
        packet.clone().udp(b"x"),
        packet.clone().tcp(b"x"),
        packet.clone().echo_request(b"x"),
        packet.raw(253, b"x"),
        error,
    ] {
        let there = on.send(&packet).forwarded();
        assert_eq!(there.version, 6);
        assert_eq!(there.addresses(), (CLIENT_BY_PREFIX.into(), PEER6.into()));
        off.send(&packet).dropped(DropReason::Hairpin);
    }
    // There and back again.
    let there = on
        .send(&v6().to(PEER_BY_PREFIX).udp(b"question"))
        .forwarded();
    let answer = v6()
        .from(PEER6)
        .to(&there.source.to_string())
        .udp(b"answer");
    let back = on.send(&answer).forwarded();
    assert_eq!(back.addresses(), (PEER_BY_PREFIX.into(), CLIENT6.into()));
    // Everything else does not care.
    off.send(&v6().udp(b"x")).forwarded();
}

fn intrinsic_hairpinning() {
    let mut rig = rig();
    // One hop, although there are two translations.
    for hops in 2..=255 {
        let packet = v6().to(PEER_BY_PREFIX).hops(hops).class(0xb9).udp(b"x");
        let packet = rig.send(&packet).forwarded();
        assert_eq!((packet.hops, packet.class), (hops - 1, 0xb9));
    }
    let expired = v6().to(PEER_BY_PREFIX).hops(1).udp(b"x");
    rig.send(&expired).error(DropReason::HopLimit, 3, 0);
    // Every size that fits; extension headers go.
    for len in [0, 1, 1232, 1233, 1400, 1452] {
        let packet = rig.send(&v6().to(PEER_BY_PREFIX).udp(&payload(len)));
        match packet {
            super::rig::Seen::Forward(packet) => {
                assert!(!packet.fragment_header);
                assert_eq!(packet.len, 48 + len);
            }
            other => panic!("{len}: {other:?}"),
        }
    }
    let told = rig.send(&v6().to(PEER_BY_PREFIX).udp(&payload(1453)));
    assert_eq!(told.error(DropReason::TooBig, 2, 0).icmp().word(), 1500);
    let packet = v6().to(PEER_BY_PREFIX).options_header(60).routing(0);
    assert_eq!(rig.send(&packet.udp(b"x")).forwarded().len, 49);
    // Fragments, also those that are cut again.
    let parts = v6()
        .to(PEER_BY_PREFIX)
        .udp(&payload(2600))
        .cut(1448, 0x1_0007);
    let mut seen: Vec<Ip> = Vec::new();
    for part in &parts {
        match rig.send(part) {
            super::rig::Seen::Forward(packet) => seen.push(packet),
            other => seen.extend(other.fragments()),
        }
    }
    let whole = reassemble(&seen);
    assert!(seen.iter().all(|part| part.len <= 1280));
    assert_eq!((whole.id, whole.protocol), (7, UDP));
    assert_eq!(whole.verdict(), Verdict::Right);
    // To itself, and to the translator by its IPv4 address.
    let to_itself = rig.send(&v6().to(CLIENT_BY_PREFIX).udp(b"x")).forwarded();
    assert_eq!(
        to_itself.addresses(),
        (CLIENT_BY_PREFIX.into(), CLIENT6.into())
    );
    rig.send(&v6().to("2001:db8:64::c0a8:ff01").echo_request(b"x"))
        .echo();
    // A host whose own address has no counterpart has nothing to be answered at.
    rig.send(&v6().from("2001:db8:99::1").to(PEER_BY_PREFIX).udp(b"x"))
        .error(DropReason::NoSource, 1, 5);
    // Where the prefix may not hold the source (`wkpf-strict`), it is told.
    let eams = [(CLIENT4, CLIENT6), ("192.88.99.7", PEER6)];
    let strict = map_with_strict(Some("64:ff9b::/96"), &eams, true);
    let mut strict = rig_with(Settings::default(), strict);
    strict
        .send(&v6().to("64:ff9b::c058:6307").udp(b"x"))
        .error(DropReason::WkpfStrict, 1, 5);
}

fn errors_about_hairpinned_packets() {
    let mut rig = rig();
    for probe in [
        v6().to(PEER_BY_PREFIX).udp(b"probe"),
        v6().to(PEER_BY_PREFIX).tcp(b"probe"),
        v6().to(PEER_BY_PREFIX).echo_request(b"probe"),
        v6().to(PEER_BY_PREFIX).dccp(b"probe"),
        v6().to(PEER_BY_PREFIX).raw(253, b"probe"),
    ] {
        let sent = rig.send(&probe).forwarded();
        // What the peer has received, and what it or a router before it says about that.
        let received = v6().from(CLIENT_BY_PREFIX).to(PEER6).hops(63);
        let received = received.raw(sent.protocol, &sent.upper).build();
        for (source, expected) in [(PEER6, PEER_BY_PREFIX), (ROUTER6, OWN6)] {
            for (kind, code, rest, heard) in [
                (1, 4, [0; 4], (1, 4, 0)),
                (1, 0, [0; 4], (1, 0, 0)),
                (3, 0, [0; 4], (3, 0, 0)),
                (4, 1, [0, 0, 0, 6], (4, 1, 6)),
                (2, 0, [0, 0, 5, 100], (2, 0, 1380)),
            ] {
                let error = v6().from(source).to(CLIENT_BY_PREFIX);
                let error = error.icmp(kind, code, rest, &received);
                let packet = rig.send(&error).forwarded();
                assert_eq!(packet.addresses(), (expected.into(), CLIENT6.into()));
                assert_eq!(packet.hops, 63, "one hop");
                let icmp = packet.icmp();
                assert_eq!((icmp.kind, icmp.code, icmp.word()), heard);
                // It quotes what the client has sent, to the octet.
                let inside = icmp.quoted();
                assert_eq!(inside.addresses(), (CLIENT6.into(), PEER_BY_PREFIX.into()));
                assert_eq!(inside.upper, probe.upper());
            }
        }
    }
}

fn checksums_are_updated() {
    // Pairs whose sums differ by all sorts of values; `rig` verifies the checksums.
    for n in 0..200u32 {
        let host4 = format!("198.18.{}.{}", n % 7, n + 1);
        let host6 = format!("2001:db8:{:x}::{:x}", n * 317, n * n);
        let mut rig = rig_of_table(&[(&host4, &host6)]);
        for packet in [
            v4().udp(b"load"),
            v4().tcp(b"load"),
            v4().echo_request(b"load"),
        ] {
            let packet = rig.send(&packet.to(&host4)).forwarded();
            assert_eq!(packet.verdict(), Verdict::Right);
        }
        for packet in [
            v6().udp(b"load"),
            v6().tcp(b"load"),
            v6().echo_request(b"load"),
        ] {
            let packet = rig.send(&packet.from(&host6)).forwarded();
            assert_eq!(packet.verdict(), Verdict::Right);
        }
    }
}

fn vectors() {
    let mut rig = rig_of_table(TABLE);
    for (host4, host6) in [
        ("192.0.2.1", "2001:db8:aaaa::"),
        ("192.0.2.2", "2001:db8:bbbb::b"),
        ("192.0.2.16", "2001:db8:cccc::"),
        ("192.0.2.24", "2001:db8:cccc::8"),
        ("192.0.2.31", "2001:db8:cccc::f"),
        ("192.0.2.128", "2001:db8:dddd::"),
        ("192.0.2.152", "2001:db8:dddd:0:6000::"),
        ("192.0.2.183", "2001:db8:dddd:0:dc00::"),
        ("192.0.2.191", "2001:db8:dddd:0:fc00::"),
        ("192.0.2.193", "2001:db8:eeee:8:8000::"),
        ("192.0.2.199", "2001:db8:eeee:b:8000::"),
        ("192.0.2.224", "64:ff9b::"),
        ("192.0.2.225", "64:ff9b::1"),
    ] {
        assert_eq!(to_v6(&mut rig, host4), host6);
        assert_eq!(to_v4(&mut rig, host6), host4);
    }
}

fn roles_in_quoted_packets() {
    let mut rig = rig();
    // From IPv4: the client sent to the server; a router says something to the client.
    let quoted = v4().from(CLIENT4).to(SERVER4).tcp(b"load").build();
    let error = v4().from(ROUTER4).icmp(3, 1, [0; 4], &quoted);
    let inside = rig.send(&error).forwarded().icmp().quoted();
    assert_eq!(inside.addresses(), (CLIENT6.into(), SERVER6.into()));
    assert_eq!(inside.verdict(), Verdict::Right);
    let sent = v6().tcp(b"load");
    assert_eq!(
        inside.upper,
        sent.upper(),
        "what the client sent, to the octet"
    );
    // From IPv6: the server sent to the peer; the peer says something to the server.
    let quoted = v6().from(SERVER6).to(PEER6).tcp(b"load").build();
    let error = v6().from(PEER6).icmp(1, 4, [0; 4], &quoted);
    let inside = rig.send(&error).forwarded().icmp().quoted();
    assert_eq!(inside.addresses(), (SERVER4.into(), PEER4.into()));
    let sent = v4().to(PEER4).tcp(b"load");
    assert_eq!(
        inside.upper,
        sent.upper(),
        "what the server sent, to the octet"
    );

    // Overlapping entries: each address by the longest match of its own side, in the quoted packet
    // as in others.
    let map: AddressMap = map(
        Some(PREFIX),
        &[
            ("192.0.2.0/24", "2001:db8:a::/120"),
            ("192.0.2.130", "2001:db8:a::5"),
            (CLIENT4, CLIENT6),
        ],
    );
    let mut rig = rig_with(Settings::default(), map);
    let quoted = v4().from("192.0.2.130").to("192.0.2.5").udp(b"x").build();
    let error = v4().from(ROUTER4).to("192.0.2.130");
    let error = error.icmp(3, 1, [0; 4], &quoted);
    let inside = rig.send(&error).forwarded().icmp().quoted();
    let expected = ("2001:db8:a::5".to_owned(), "2001:db8:a::5".to_owned());
    assert_eq!(inside.addresses(), expected);
    let quoted = v6().from(SERVER6).to("2001:db8:a::5").udp(b"x").build();
    let error = v6().from("2001:db8:a::5").icmp(1, 4, [0; 4], &quoted);
    let inside = rig.send(&error).forwarded().icmp().quoted();
    assert_eq!(inside.addresses(), (SERVER4.into(), "192.0.2.130".into()));
}
