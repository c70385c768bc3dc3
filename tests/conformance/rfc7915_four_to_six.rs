//! RFC 7915 section 4: IPv4 to IPv6.

use xlatd::translate::{DropReason, Settings, TrafficClass, UdpChecksum};

use super::{
    checker::{self, ICMPV6, Icmp, Ip, UDP, Verdict, reassemble},
    packets::{
        Builder, CLIENT4, CLIENT6, OWN4, OWN6, PREFIX, ROUTER4, ROUTER4_AS_6, SERVER4, SERVER6,
        payload, v4, v6,
    },
    rig::{Rig, map, map_with_strict, rig, rig_of, rig_with},
    rows::rows,
};

rows! {
    x46_01 Derived "RFC 7915 4.1" => lengths,
    x46_02 Derived "RFC 7915 4.1" => traffic_class_is_tos,
    x46_03 Should "RFC 7915 4.1" => traffic_class_can_be_fixed,
    x46_04 Derived "RFC 7915 4.1" => next_header,
    x46_05 Must "RFC 7915 4.1" => ttl,
    x46_06 Derived "RFC 7915 4.1, 6" => explicit_then_prefix,
    x46_07 Should "RFC 7915 4.1" => illegal_sources,
    x46_08 Derived "RFC 7915 4.1" => illegal_sources_of_errors,
    x46_09 Must "RFC 7915 4.1" => options_are_ignored,
    x46_10 Must "RFC 7915 4.1" => unexpired_source_routes,
    x46_11 Should "RFC 7915 4.1" => what_may_be_cut_fits_1280,
    x46_12 Must "RFC 7915 4, 4.1" => lowest_mtu_is_configurable,
    x46_13 Must "RFC 7915 4.1" => df_and_too_big,
    x46_14 Must "RFC 7915 4" => no_atomic_fragments,
    x46_15 Derived "RFC 7915 4" => fragments_stay_fragments,
    x46_16 Derived "RFC 7915 4.1" => fragment_header,
    x46_17 Must "RFC 7915 4.2" => icmp_checksum,
    x46_18 Must "RFC 7915 4.2" => type_and_quoted_packet,
    x46_19 Derived "RFC 7915 4.2" => echo,
    x46_20 Derived "RFC 7915 4.2" => types_without_counterpart,
    x46_21 Derived "RFC 7915 4.2" => unreachable_codes,
    x46_22 Derived "RFC 7915 4.2" => protocol_unreachable,
    x46_23 Must "RFC 7915 4.2" => fragmentation_needed,
    x46_24 Must "RFC 7915 4.2" => plateaus,
    x46_25 Derived "RFC 7915 4.2" => time_exceeded,
    x46_26 Derived "RFC 7915 4.2 fig. 3" => parameter_problem,
    x46_27 Must "RFC 7915 4.2" => extension_length,
    x46_28 Should "RFC 7915 4.2" => extension_is_cut,
    x46_29 Derived "RFC 7915 4.2" => objects_are_opaque,
    x46_30 Must "RFC 7915 4.3" => quoted_ttl_stays,
    x46_31 Must "RFC 7915 4.3" => outer_length,
    x46_32 Must "RFC 7915 4.3" => errors_about_errors,
    x46_33 Derived "RFC 7915 4.3" => quoted_packets_are_cut_short,
    x46_34 Should "RFC 7915 4.4" => what_is_discarded_is_answered,
    x46_35 Must "RFC 7915 4.5" => checksums_are_updated,
    x46_36 Should "RFC 7915 4.5" => udp_without_checksum,
    x46_37 Should "RFC 7915 4.5" => udp_fragment_without_checksum,
    x46_38 Derived "RFC 7915 4.5" => wrong_stays_wrong,
}

/// What the client sent to the server, and somebody quotes in an error.
fn inner() -> Builder {
    v4().from(CLIENT4).to(SERVER4).hops(1)
}

/// An error about `quoted` from a router on the path.
fn error(kind: u8, code: u8, rest: [u8; 4], quoted: &[u8]) -> Builder {
    v4().from(ROUTER4).icmp(kind, code, rest, quoted)
}

/// The translation of an error, and what it quotes.
fn translated(rig: &mut Rig, error: &Builder) -> (Icmp, Ip) {
    let packet = rig.send(error).forwarded();
    let addresses = packet.addresses();
    assert_eq!(addresses, (ROUTER4_AS_6.into(), CLIENT6.into()));
    let icmp = packet.icmp();
    let quoted = icmp.quoted();
    assert_eq!(quoted.version, 6);
    assert_eq!(quoted.addresses(), (CLIENT6.into(), SERVER6.into()));
    (icmp, quoted)
}

/// An extension structure (RFC 4884 section 7) with an object of each of these lengths, in octets
/// with its header.
fn extension(lengths: &[usize]) -> Vec<u8> {
    super::rfc4884::extension(lengths)
}

fn lengths() {
    let mut rig = rig();
    for len in [0, 1, 2, 7, 8, 100, 1231, 1232] {
        for options in [0, 4, 8, 40] {
            let packet = v4().options(&vec![1; options]).raw(253, &payload(len));
            let packet = rig.send(&packet).forwarded();
            assert_eq!((packet.version, packet.len), (6, 40 + len));
        }
    }
    let fragment = v4()
        .fragment(8, true, 7)
        .options(&[1; 12])
        .raw(253, &payload(64));
    assert_eq!(rig.send(&fragment).forwarded().len, 40 + 8 + 64);
    // Link padding is no part of it.
    let mut padded = v4().udp(b"x").build();
    padded.extend([0xa5; 17]);
    assert_eq!(rig.send_octets(&padded).forwarded().len, 40 + 9);
}

fn traffic_class_is_tos() {
    let mut rig = rig();
    for tos in 0..=255 {
        assert_eq!(rig.send(&v4().class(tos).udp(b"x")).forwarded().class, tos);
        let fragments = rig.send(&v4().class(tos).udp(&payload(1500))).fragments();
        assert!(fragments.iter().all(|fragment| fragment.class == tos));
    }
    let quoted = inner().class(0xb9).udp(b"x").build();
    let error = error(11, 0, [0; 4], &quoted).class(0xc0);
    let packet = rig.send(&error).forwarded();
    assert_eq!((packet.class, packet.icmp().quoted().class), (0xc0, 0xb9));
}

fn traffic_class_can_be_fixed() {
    for class in [0, 0x28] {
        let mut rig = rig_of(Settings {
            traffic_class: TrafficClass::Fixed(class),
            ..Settings::default()
        });
        for tos in [0, 1, 0xb8, 0xff] {
            assert_eq!(
                rig.send(&v4().class(tos).udp(b"x")).forwarded().class,
                class
            );
        }
        let back = v6().class(0xb9).udp(b"x");
        assert_eq!(rig.send(&back).forwarded().class, 0xb9, "the other way");
    }
}

fn next_header() {
    let mut rig = rig();
    assert_eq!(rig.send(&v4().udp(b"x")).forwarded().protocol, UDP);
    assert_eq!(rig.send(&v4().raw(50, b"x")).forwarded().protocol, 50);
    let echo = rig.send(&v4().echo_request(b"x")).forwarded();
    assert_eq!(echo.protocol, ICMPV6);
    // And in the packet that an error quotes.
    let error = error(11, 0, [0; 4], &inner().echo_request(b"x").build());
    assert_eq!(translated(&mut rig, &error).1.protocol, ICMPV6);
    let [first, _] = v4().udp(&payload(64)).cut(32, 7);
    assert_eq!(rig.send(&first).forwarded().protocol, UDP);
}

fn ttl() {
    let mut rig = rig();
    for ttl in 2..=255 {
        let packet = rig.send(&v4().hops(ttl).echo_request(b"x"));
        assert_eq!(packet.forwarded().hops, ttl - 1);
    }
    for ttl in [0, 1] {
        for packet in [v4().udp(b"x"), v4().echo_request(b"x"), v4().raw(253, b"")] {
            rig.send(&packet.hops(ttl))
                .error(DropReason::HopLimit, 11, 0);
        }
        let expired = error(3, 1, [0; 4], &inner().udp(b"x").build()).hops(ttl);
        rig.send(&expired).dropped(DropReason::HopLimit);
    }
}

fn explicit_then_prefix() {
    let eams = [(CLIENT4, CLIENT6), ("203.0.113.128/25", "2001:db8:5::/121")];
    let mut rig = rig_with(Settings::default(), map(Some(PREFIX), &eams));
    for (host, expected) in [
        ("203.0.113.127", "2001:db8:64::cb00:717f"),
        ("203.0.113.128", "2001:db8:5::"),
        ("203.0.113.255", "2001:db8:5::7f"),
        ("203.0.114.0", "2001:db8:64::cb00:7200"),
    ] {
        let packet = rig.send(&v4().from(host).udp(b"x")).forwarded();
        assert_eq!(packet.addresses(), (expected.into(), CLIENT6.into()));
        let packet = rig.send(&v4().from(CLIENT4).to(host).udp(b"x")).forwarded();
        assert_eq!(packet.addresses(), (CLIENT6.into(), expected.into()));
    }
}

const ILLEGAL: &[&str] = &[
    "0.0.0.0",
    "0.255.255.255",
    "127.0.0.1",
    "127.255.255.255",
    "224.0.0.0",
    "239.255.255.255",
    "255.255.255.255",
];

fn illegal_sources() {
    let mut rig = rig();
    for source in ILLEGAL {
        for packet in [
            v4().udp(b"x"),
            v4().tcp(b"x"),
            v4().echo_request(b"x"),
            v4().raw(253, b"x"),
            v4().hops(1).udp(b"x"),
            v4().to("192.0.2.1").udp(b"x"),
        ] {
            rig.send(&packet.from(source))
                .dropped(DropReason::IllegalAddress);
        }
    }
    for source in [
        "1.0.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "223.255.255.255",
        "240.0.0.0",
        "255.255.255.254",
    ] {
        rig.send(&v4().from(source).udp(b"x")).forwarded();
    }
    // Link-local addresses do not go through a prefix, in neither direction (RFC 3927 section 7),
    // and nobody is told, whatever else is wrong.
    let link_local = "2001:db8:64::a9fe:1";
    for packet in [
        v4().from("169.254.0.1"),
        v4().from("169.254.0.1").hops(1),
        v4().to("169.254.0.1"),
        v6().from(link_local),
        v6().from(link_local).hops(1),
        v6().to(link_local),
    ] {
        rig.send(&packet.udp(b"x"))
            .dropped(DropReason::IllegalAddress);
    }
    // They are hosts as any other where they have a mapping, and hairpinning knows them by the
    // prefix.
    let eams = [("169.254.0.0/24", "2001:db8:5::/120"), (CLIENT4, CLIENT6)];
    let mut mapped = rig_with(Settings::default(), map(Some(PREFIX), &eams));
    let host = "2001:db8:5::1";
    for (packet, addresses) in [
        (v4().from("169.254.0.1"), (host, CLIENT6)),
        (v4().to("169.254.0.1"), (SERVER6, host)),
        (v6().from(host), ("169.254.0.1", SERVER4)),
        (
            v6().from(host).to("2001:db8:64::c633:640a"),
            (link_local, CLIENT6),
        ),
        (v6().to(link_local), ("2001:db8:64::c633:640a", host)),
    ] {
        let packet = mapped.send(&packet.udp(b"x")).forwarded();
        let (source, destination) = addresses;
        assert_eq!(packet.addresses(), (source.into(), destination.into()));
    }
    mapped
        .send(&v6().from(link_local).udp(b"x"))
        .dropped(DropReason::SpoofedSource);
    // Nor does an explicit mapping make an address of a host of what is none, on either side.
    let eams = [
        ("192.0.2.0/24", "fe80::/120"),
        ("127.0.0.0/8", "2001:db8:7f::/104"),
        (CLIENT4, CLIENT6),
    ];
    let mut rig = rig_with(Settings::default(), map(Some(PREFIX), &eams));
    for packet in [
        v4().from("192.0.2.1"),
        v4().to("192.0.2.1"),
        v4().from("127.0.0.1"),
        v6().to("2001:db8:7f::1"),
        v6().from("2001:db8:7f::1"),
        v6().from("fe80::1"),
    ] {
        rig.send(&packet.udp(b"x"))
            .dropped(DropReason::IllegalAddress);
    }
}

fn illegal_sources_of_errors() {
    let quoted = inner().udp(b"x").build();
    let mut by_prefix = rig();
    let strict = map_with_strict(Some("64:ff9b::/96"), &[(CLIENT4, CLIENT6)], true);
    let mut strict = rig_with(Settings::default(), strict);
    let public = inner().to("8.8.8.8").udp(b"x").build();
    let explicit_only = map(None, &[(CLIENT4, CLIENT6), (SERVER4, "2001:db8:5::9")]);
    let mut explicit_only = rig_with(Settings::default(), explicit_only);
    for source in ILLEGAL.iter().chain(&["169.254.0.1"]) {
        for (kind, code) in [(3, 0), (3, 1), (3, 3), (3, 4), (11, 0), (12, 0)] {
            let error = v4().from(source).icmp(kind, code, [0; 4], &quoted);
            let packet = by_prefix.send(&error).forwarded();
            let source: std::net::Ipv4Addr = source.parse().unwrap();
            let embedded = source.octets();
            let std::net::IpAddr::V6(found) = packet.source else {
                panic!("not IPv6");
            };
            assert_eq!(
                found.octets()[..12],
                [0x20, 1, 0xd, 0xb8, 0, 0x64, 0, 0, 0, 0, 0, 0]
            );
            assert_eq!(found.octets()[12..], embedded);
        }
        // Where the prefix cannot hold the source, or there is none, it is the translator's own.
        let error = v4().from(source).icmp(11, 0, [0; 4], &public);
        let packet = strict.send(&error).forwarded();
        assert_eq!(packet.addresses(), (OWN6.into(), CLIENT6.into()));
        let error = v4().from(source).icmp(11, 0, [0; 4], &quoted);
        let packet = explicit_only.send(&error).forwarded();
        assert_eq!(packet.addresses(), (OWN6.into(), CLIENT6.into()));
    }
    // So it does for a router without a mapping.
    let error = v4().from(ROUTER4).icmp(11, 0, [0; 4], &quoted);
    let packet = explicit_only.send(&error).forwarded();
    assert_eq!(packet.source.to_string(), OWN6);
    let error = v4().from("10.0.0.1").icmp(11, 0, [0; 4], &public);
    assert_eq!(strict.send(&error).forwarded().source.to_string(), OWN6);
    // The other way round as well, for what the prefix has of link-local addresses.
    let quoted = v6().from(SERVER6).to(CLIENT6).udp(b"x").build();
    let error = v6().from("2001:db8:64::a9fe:1").icmp(3, 0, [0; 4], &quoted);
    let packet = by_prefix.send(&error).forwarded();
    assert_eq!(packet.addresses(), (OWN4.into(), SERVER4.into()));
    // What an error quotes did not go through the prefix.
    let never = inner().to("169.254.0.1").udp(b"x").build();
    let error = v4().from(ROUTER4).icmp(11, 0, [0; 4], &never);
    by_prefix.send(&error).dropped(DropReason::QuotedPacket);
}

fn options_are_ignored() {
    let mut rig = rig();
    for options in [
        &[1, 1, 1, 0][..],            // no operation
        &[0, 0xff, 0xff, 0xff],       // nothing behind the end counts
        &[0, 131, 7, 4],              // no source route either
        &[148, 4, 0, 0],              // router alert
        &[7, 7, 4, 0, 0, 0, 0],       // record route
        &[0x44, 8, 5, 0, 0, 0, 0, 0], // timestamp
        &[131, 7, 8, 192, 0, 2, 1],   // expired source routes
        &[137, 7, 8, 192, 0, 2, 1],
        &[1, 131, 11, 12, 192, 0, 2, 1, 192, 0, 2, 2],
        &[131, 3, 4],
        &[30, 2, 30, 4, 1, 2, 131, 3, 255],
        &[1; 40],
    ] {
        for packet in [
            v4().udp(b"load"),
            v4().tcp(b"load"),
            v4().echo_request(b"load"),
        ] {
            let expected = rig.send(&packet).forwarded();
            assert_eq!(rig.send(&packet.options(options)).forwarded(), expected);
        }
        // In the packet that an error quotes, too.
        let with = inner().options(options).udp(b"load").build();
        let (_, quoted) = translated(&mut rig, &error(11, 0, [0; 4], &with));
        assert_eq!(quoted.len, 40 + 12);
        assert_eq!(quoted.verdict(), Verdict::Right);
    }
}

fn unexpired_source_routes() {
    let mut rig = rig();
    for options in [
        &[131, 7, 4, 192, 0, 2, 1][..],
        &[137, 7, 4, 192, 0, 2, 1],
        &[131, 7, 7, 192, 0, 2, 1],
        &[1, 1, 137, 11, 8, 192, 0, 2, 1, 192, 0, 2, 2],
        &[148, 4, 0, 0, 131, 7, 4, 192, 0, 2, 1],
        &[131, 3, 4, 137, 7, 4, 192, 0, 2, 1],
    ] {
        for packet in [v4().udp(b"x"), v4().raw(253, b""), v4().echo_request(b"x")] {
            rig.send(&packet.options(options))
                .error(DropReason::SourceRoute, 3, 5);
        }
        let error = error(11, 0, [0; 4], &inner().udp(b"x").build());
        rig.send(&error.options(options))
            .dropped(DropReason::SourceRoute);
        let [_, second] = v4().udp(&payload(64)).cut(32, 7);
        rig.send(&second.options(options))
            .dropped(DropReason::SourceRoute);
    }
    // Options that contradict themselves can hide one.
    for options in [
        &[131, 0][..],
        &[131, 1, 4, 0],
        &[131, 9, 4, 0],
        &[1, 1, 1, 131],
        &[131, 2, 0, 0],
    ] {
        let seen = rig.send(&v4().options(options).udp(b"x"));
        assert!(seen.is_silent(), "{options:?}: {seen:?}");
    }
}

fn what_may_be_cut_fits_1280() {
    let mut rig = rig();
    for len in 0..3000 {
        let packet = v4().udp(&payload(len));
        let size = 40 + 8 + len;
        if size <= 1280 {
            assert_eq!(rig.send(&packet).forwarded().len, size);
            continue;
        }
        let fragments = rig.send(&packet).fragments();
        assert!(fragments.iter().all(|fragment| fragment.len <= 1280));
        // No more of them than are needed.
        assert_eq!(fragments.len(), (8 + len).div_ceil(1232), "{len}");
        assert_eq!(fragments[0].len, 1280);
    }
    // A fragment is cut again, its place and "more" kept.
    for more in [false, true] {
        let fragment = v4().fragment(1480, more, 7).raw(UDP, &payload(1400));
        let fragments = rig.send(&fragment).fragments();
        assert!(fragments.iter().all(|fragment| fragment.len <= 1280));
        let whole = reassemble(&fragments);
        assert_eq!((whole.offset, whole.more, whole.id), (1480, more, 7));
    }
    let largest = v4().raw(253, &payload(65515));
    assert_eq!(rig.send(&largest).fragments().len(), 54);
    let last = v4()
        .fragment(65512 - 1472, false, 7)
        .raw(253, &payload(1475));
    assert_eq!(rig.send(&last).fragments().len(), 2);
}

fn lowest_mtu_is_configurable() {
    for (offlink_mtu, mtu, largest) in [
        (1280, 9000, 1280),
        (1400, 1500, 1400),
        (1500, 1500, 1500),
        (9000, 1500, 1500),
        (65535, 9000, 9000),
    ] {
        let mut rig = rig_of(Settings {
            mtu,
            offlink_mtu,
            ..Settings::default()
        });
        let fits = v4().udp(&payload(largest - 48));
        assert_eq!(rig.send(&fits).forwarded().len, largest);
        for fragment in rig.send(&v4().udp(&payload(largest - 47))).fragments() {
            assert!(fragment.len <= largest);
        }
        // DF has nothing to do with it.
        let whole = v4().df().udp(&payload(usize::from(mtu) - 48));
        assert_eq!(rig.send(&whole).forwarded().len, usize::from(mtu));
    }
}

fn df_and_too_big() {
    for mtu in [1280u16, 1420, 1500, 9000, 65535] {
        let mut rig = rig_of(Settings {
            mtu,
            ..Settings::default()
        });
        let room = usize::from(mtu) - 40;
        rig.send(&v4().df().raw(253, &payload(room))).forwarded();
        if mtu < 65535 {
            for over in [1, 2, 28] {
                for packet in [
                    v4().df().raw(253, &payload(room + over)),
                    v4().df().udp(&payload(room + over - 8)),
                    v4().df().echo_request(&payload(room + over - 8)),
                    v4().df().options(&[1; 8]).raw(253, &payload(room + over)),
                ] {
                    let told = rig.send(&packet).error(DropReason::TooBig, 3, 4).icmp();
                    assert_eq!(told.mtu_v4(), mtu - 20);
                    assert_eq!(told.rest[..2], [0, 0]);
                }
            }
        }
        // A fragment also gets a Fragment header.
        let room = (room - 8) & !7;
        let fragment = v4().df().fragment(0, true, 7);
        rig.send(&fragment.clone().raw(253, &payload(room)))
            .forwarded();
        let over = rig.send(&fragment.raw(253, &payload(room + 8)));
        let told = over.error(DropReason::TooBig, 3, 4).icmp();
        assert_eq!(told.mtu_v4(), mtu - 28);
        // Who does as told is heard: the largest such packets pass.
        let whole = v4().df().raw(253, &payload(usize::from(mtu) - 20 - 20));
        rig.send(&whole).forwarded();
        // The others are silent.
        let second = v4().df().fragment(8, true, 7).raw(253, &payload(room + 8));
        rig.send(&second).dropped(DropReason::TooBig);
    }
}

fn no_atomic_fragments() {
    let mut rig = rig();
    for len in [0, 1, 1000, 1232] {
        for packet in [v4(), v4().df(), v4().id(0), v4().df().id(0xffff)] {
            let packet = rig.send(&packet.raw(253, &payload(len))).forwarded();
            assert!(!packet.fragment_header);
        }
    }
    for packet in [v4().echo_request(b"x"), v4().tcp(b"x"), v4().df().tcp(b"x")] {
        assert!(!rig.send(&packet).forwarded().fragment_header);
    }
    // Nor is one quoted.
    let quoted = inner().udp(b"x").build();
    let (_, quoted) = translated(&mut rig, &error(11, 0, [0; 4], &quoted));
    assert!(!quoted.fragment_header);
}

fn fragments_stay_fragments() {
    let mut rig = rig();
    for packet in [v4(), v4().df()] {
        for part in packet.udp(&payload(1000)).cut(512, 7) {
            assert!(rig.send(&part).forwarded().fragment_header);
        }
    }
    // Both halves together are the datagram, with a right checksum.
    let datagram = v4().udp(&payload(1000));
    let parts: Vec<Ip> = datagram
        .cut(512, 7)
        .iter()
        .map(|part| rig.send(part).forwarded())
        .collect();
    let whole = reassemble(&parts);
    assert!(!whole.is_fragment());
    assert_eq!(whole.verdict(), Verdict::Right);
    let (_, quoted) = {
        let [first, _] = inner().udp(&payload(1000)).cut(512, 7);
        translated(&mut rig, &error(11, 1, [0; 4], &first.build()[..28]))
    };
    assert!(quoted.fragment_header && quoted.more && quoted.id == 7);
}

fn fragment_header() {
    let mut rig = rig();
    for (offset, more) in [
        (0, true),
        (8, true),
        (1480, false),
        (65512, false),
        (65488, true),
    ] {
        for id in [0, 1, 0x8000, 0xffff] {
            let fragment = v4().fragment(offset, more, id);
            let len = if offset == 65512 { 3 } else { 24 };
            let packet = rig.send(&fragment.raw(253, &payload(len))).forwarded();
            assert_eq!((packet.offset, packet.more), (offset, more));
            assert_eq!((packet.id, packet.protocol), (id, 253));
        }
    }
    // One that is cut here: the identification that it would have had.
    for fragment in rig.send(&v4().id(0xbeef).udp(&payload(2000))).fragments() {
        assert_eq!((fragment.id, fragment.protocol), (0xbeef, UDP));
    }
    // ICMP becomes ICMPv6 in a Fragment header as well: a large echo request is cut.
    for fragment in rig.send(&v4().echo_request(&payload(2000))).fragments() {
        assert_eq!(fragment.protocol, ICMPV6);
    }
}

fn icmp_checksum() {
    let mut rig = rig();
    // `rig` verifies it with the pseudo-header.
    for len in (0..40).chain([555, 1000, 1231, 1232, 2000]) {
        match rig.send(&v4().echo_request(&payload(len))) {
            super::rig::Seen::Forward(packet) => assert_eq!(packet.verdict(), Verdict::Right),
            seen => drop(seen.fragments()),
        }
        let quoted = inner().udp(&payload(len)).build();
        let packet = rig.send(&error(3, 1, [0; 4], &quoted)).forwarded();
        assert_eq!(packet.verdict(), Verdict::Right);
    }
    for octet in 0..=255 {
        rig.send(&v4().echo_request(&[octet, octet])).forwarded();
        rig.send(&v4().echo_reply(&[octet, !octet])).forwarded();
    }
    // An error is made anew, so it must have been right.
    let bad = error(3, 1, [0; 4], &inner().udp(b"x").build()).checksum(0x1234);
    rig.send(&bad).dropped(DropReason::IcmpChecksum);
}

fn type_and_quoted_packet() {
    let mut rig = rig();
    for (kind, code, expected) in [
        (3, 1, (1, 0)),
        (11, 0, (3, 0)),
        (12, 0, (4, 0)),
        (3, 4, (2, 0)),
    ] {
        for (quoted, protocol) in [
            (inner().udp(b"load"), UDP),
            (inner().tcp(b"load"), 6),
            (inner().dccp(b"load"), 33),
            (inner().udp_lite(b"load"), 136),
            (inner().echo_request(b"load"), ICMPV6),
            (inner().echo_reply(b"load"), ICMPV6),
            (inner().raw(132, b"load"), 132),
        ] {
            let quoted = quoted.class(7).build();
            let (icmp, inside) = translated(&mut rig, &error(kind, code, [0; 4], &quoted));
            assert_eq!((icmp.kind, icmp.code), expected);
            assert_eq!((inside.protocol, inside.class), (protocol, 7));
            // It is whole, so its checksum can be verified, and is that of the packet the client
            // sent.
            assert!(matches!(
                inside.verdict(),
                Verdict::Right | Verdict::Unknown
            ));
            assert_eq!(inside.upper[inside.upper.len() - 4..], *b"load");
        }
    }
}

fn echo() {
    let mut rig = rig();
    for (packet, kind) in [
        (v4().echo_request(b"data"), 128),
        (v4().echo_reply(b"data"), 129),
    ] {
        let icmp = rig.send(&packet).forwarded().icmp();
        assert!(icmp.is(kind, 0));
        assert_eq!(icmp.rest, [0x12, 0x34, 0, 7]);
        assert_eq!(icmp.body, b"data");
    }
}

fn types_without_counterpart() {
    let mut rig = rig();
    let quoted = inner().udp(b"x").build();
    for kind in (1..=255).filter(|kind| !matches!(kind, 3 | 8 | 11 | 12)) {
        for packet in [v4(), v4().to(super::packets::OWN4), v4().to("192.0.2.1")] {
            let packet = packet.icmp(kind, 0, [0; 4], &quoted);
            assert!(rig.send(&packet).is_silent(), "type {kind}");
        }
        rig.send(&v4().icmp(kind, 0, [0; 4], &quoted))
            .dropped(DropReason::IcmpType);
    }
    // IGMP to a host: "SHOULD also be silently dropped".
    let igmp = v4().raw(2, &[0x11, 0, 0xee, 0xff, 0, 0, 0, 0]);
    rig.send(&igmp).dropped(DropReason::Protocol);
}

fn unreachable_codes() {
    let mut rig = rig();
    let quoted = inner().udp(b"x").build();
    for code in (0..=255u8).filter(|code| !matches!(code, 2 | 4)) {
        let error = error(3, code, [0; 4], &quoted);
        let expected = match code {
            0 | 1 | 5 | 6 | 7 | 8 | 11 | 12 => 0,
            3 => 4,
            9 | 10 | 13 | 15 => 1,
            _ => {
                rig.send(&error).dropped(DropReason::IcmpType);
                continue;
            }
        };
        let (icmp, _) = translated(&mut rig, &error);
        assert!(icmp.is(1, expected), "code {code}: {icmp:?}");
        assert_eq!(icmp.rest, [0; 4]);
    }
}

fn protocol_unreachable() {
    let error = error(3, 2, [0; 4], &inner().raw(132, &[0; 8]).build());
    let (icmp, _) = translated(&mut rig(), &error);
    assert!(icmp.is(4, 1));
    assert_eq!(icmp.word(), 6);
}

/// The error that the client gets when a router reports an MTU of `reported` about a packet of
/// `len` octets.
fn mtu_heard(rig: &mut Rig, reported: u16, len: u16) -> u32 {
    let mut quoted = inner().df().udp(b"12345678").build();
    quoted[2..4].copy_from_slice(&len.to_be_bytes());
    super::packets::fix_header_checksum(&mut quoted);
    let [high, low] = reported.to_be_bytes();
    let (icmp, _) = translated(rig, &error(3, 4, [0, 0, high, low], &quoted));
    assert!(icmp.is(2, 0));
    icmp.word()
}

fn fragmentation_needed() {
    let mut rig = rig();
    for (reported, heard) in [
        (1400, 1420),
        (1479, 1499),
        (1480, 1500),
        (1481, 1500), // our own MTU
        (65535, 1500),
        (1261, 1281),
        (1260, 1280),
        (1259, 1280), // no IPv6 link has less
        (576, 1280),
        (68, 1280),
        (67, 1500), // below any IPv4 link: as if it were not said (X46-24)
    ] {
        assert_eq!(mtu_heard(&mut rig, reported, 1500), heard, "{reported}");
    }
    rig.set_mtu(1280);
    assert_eq!(mtu_heard(&mut rig, 1400, 1500), 1280);
    rig.set_mtu(9000);
    assert_eq!(mtu_heard(&mut rig, 8000, 9000), 8020);
    rig.set_mtu(65535);
    assert_eq!(mtu_heard(&mut rig, 65535, 65535), 65535);
}

fn plateaus() {
    let mut rig = rig();
    rig.set_mtu(65535);
    // RFC 1191 section 7, each less by one from a packet of just that length.
    for (len, heard) in [
        (65535, 32020),
        (32001, 32020),
        (32000, 17934),
        (17915, 17934),
        (17914, 8186),
        (8167, 8186),
        (8166, 4372),
        (4353, 4372),
        (4352, 2022),
        (2003, 2022),
        (2002, 1512),
        (1493, 1512),
        (1492, 1280),
        (1006, 1280),
        (28, 1280),
    ] {
        assert_eq!(mtu_heard(&mut rig, 0, len), heard, "{len}");
    }
    rig.set_mtu(1500);
    assert_eq!(mtu_heard(&mut rig, 0, 65535), 1500);
}

fn time_exceeded() {
    for code in [0, 1] {
        let error = error(11, code, [0; 4], &inner().udp(b"x").build());
        let (icmp, _) = translated(&mut rig(), &error);
        assert!(icmp.is(3, code));
    }
}

fn parameter_problem() {
    let mut rig = rig();
    let quoted = inner().udp(b"x").build();
    for pointer in 0..=255 {
        let expected = match pointer {
            0 => Some(0),
            1 => Some(1),
            2 | 3 => Some(4),
            8 => Some(7),
            9 => Some(6),
            12..=15 => Some(8),
            16..=19 => Some(24),
            _ => None,
        };
        for code in [0, 2] {
            let error = error(12, code, [pointer, 0, 0, 0], &quoted);
            match expected {
                Some(expected) => {
                    let (icmp, _) = translated(&mut rig, &error);
                    assert!(icmp.is(4, 0));
                    assert_eq!(icmp.word(), expected, "pointer {pointer}");
                }
                None => rig.send(&error).dropped(DropReason::IcmpType),
            }
        }
        for code in [1, 3, 255] {
            let error = error(12, code, [pointer, 0, 0, 0], &quoted);
            rig.send(&error).dropped(DropReason::IcmpType);
        }
    }
}

/// More in the rows of RFC 4884.
fn extension_length() {
    let mut quoted = inner().udp(&payload(100)).build(); // 128 octets
    quoted.extend(extension(&[8, 12]));
    let (icmp, inside) = translated(&mut rig(), &error(11, 0, [0, 32, 0, 0], &quoted));
    // 148 octets and 4 of padding
    assert_eq!(icmp.rest, [19, 0, 0, 0]);
    assert_eq!(inside.len, 148);
    assert_eq!(icmp.body[148..152], [0; 4]);
    assert_eq!(icmp.body[152..], extension(&[8, 12]));
}

fn extension_is_cut() {
    let mut quoted = inner().udp(&payload(100)).build();
    quoted.extend(extension(&[400, 400, 400]));
    let error = error(11, 0, [0, 32, 0, 0], &quoted);
    let packet = rig().send(&error).forwarded();
    let icmp = packet.icmp();
    assert_eq!(
        icmp.rest,
        [16, 0, 0, 0],
        "what must be quoted of the datagram"
    );
    assert_eq!(icmp.body.len(), 128 + 804);
    let cut = &icmp.body[128..];
    assert_eq!(checker::sum(cut), 0xffff, "checksum of what is left");
    assert_eq!(cut[4..], extension(&[400, 400, 400])[4..804]);
}

fn objects_are_opaque() {
    // Interface information (RFC 5837) with an IPv4 address, MPLS labels, and an unknown class.
    let mut structure = vec![0x20, 0, 0, 0];
    structure.extend([0, 12, 2, 0x0c, 0, 1, 0, 0, 203, 0, 113, 1]);
    structure.extend([0, 8, 1, 1, 0, 1, 0xe1, 0xff]);
    structure.extend([0, 8, 0xfe, 0xfe, 1, 2, 3, 4]);
    let checksum = !checker::sum(&structure);
    structure[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut quoted = inner().udp(&payload(200)).build();
    quoted.extend(&structure);
    let (icmp, _) = translated(&mut rig(), &error(3, 1, [0, 57, 0, 0], &quoted));
    assert_eq!(icmp.rest, [31, 0, 0, 0]);
    assert_eq!(icmp.body[248..], structure);
}

fn quoted_ttl_stays() {
    let mut rig = rig();
    for ttl in [0, 1, 2, 64, 255] {
        let quoted = inner().hops(ttl).udp(b"x").build();
        let error = error(11, 0, [0; 4], &quoted).hops(9);
        let packet = rig.send(&error).forwarded();
        assert_eq!((packet.hops, packet.icmp().quoted().hops), (8, ttl));
    }
}

fn outer_length() {
    let mut rig = rig();
    for len in [0, 1, 2, 3, 8, 100, 548, 1203, 1204, 1205, 1300, 1452] {
        let quoted = inner().udp(&payload(len)).build();
        for packet in [v4(), v4().df()] {
            let error = packet.from(ROUTER4).icmp(3, 1, [0; 4], &quoted);
            let packet = rig.send(&error).forwarded();
            // The length is right (`checker`): it is all there, or as much as fits.
            assert_eq!(packet.len, (40 + 8 + 40 + 8 + len).min(1280));
            assert_eq!(packet.icmp().quoted().len, 48 + len);
        }
    }
}

fn errors_about_errors() {
    let mut rig = rig();
    let innermost = v4().udp(b"x").build();
    for kind in (0..=255).filter(|kind| !matches!(kind, 0 | 8)) {
        let quoted = inner().icmp(kind, 0, [0; 4], &innermost).build();
        rig.send(&error(11, 0, [0; 4], &quoted))
            .dropped(DropReason::QuotedPacket);
    }
    // Nor are other things that cannot be translated.
    for (quoted, why) in [
        (inner().raw(58, &[0; 8]), "ICMPv6"),
        (inner().raw(0, &[0; 8]), "hop-by-hop options"),
        (inner().raw(2, &[0; 8]), "IGMP"),
        (inner().to("224.0.0.1").udp(b"x"), "multicast"),
        (inner().from("127.0.0.1").udp(b"x"), "loopback"),
        (
            inner().fragment(8, false, 7).raw(1, &[8; 8]),
            "a fragment of ICMP",
        ),
    ] {
        let seen = rig.send(&error(11, 0, [0; 4], &quoted.build()));
        assert!(seen.is_silent(), "{why}: {seen:?}");
    }
}

fn quoted_packets_are_cut_short() {
    let mut rig = rig();
    for quoted in [
        inner().udp(&payload(40)),
        inner().tcp(&payload(40)),
        inner().dccp(&payload(40)),
        inner().udp_lite(&payload(40)),
        inner().echo_request(&payload(40)),
        inner().echo_reply(&payload(40)),
        inner().raw(253, &payload(40)),
    ] {
        let octets = quoted.build();
        let all = translated(&mut rig, &error(11, 0, [0; 4], &octets)).1.upper;
        // As if it had been the other way about: what the client sent.
        let checksum_at = checker::checksum_at(octets[9]);
        for len in 20..octets.len() {
            let error = error(11, 0, [0; 4], &octets[..len]);
            if octets[9] == 1 && len == 20 {
                // Not even the type is there.
                rig.send(&error).dropped(DropReason::QuotedPacket);
                continue;
            }
            let (_, inside) = translated(&mut rig, &error);
            let upper = len - 20;
            assert_eq!(inside.len, octets.len() + 20, "the length it had");
            match checksum_at {
                Some(at) if (at..at + 2).contains(&upper) => {
                    // A checksum that is not all there is left alone.
                    assert_eq!(inside.upper[..at], all[..at]);
                    assert_eq!(inside.upper[at..], octets[20 + at..len]);
                }
                _ => assert_eq!(inside.upper, all[..upper], "{len} octets"),
            }
        }
        for len in 0..20 {
            rig.send(&error(11, 0, [0; 4], &octets[..len]))
                .dropped(DropReason::QuotedPacket);
        }
    }
    // Neither its checksum nor its length is verified: NATs and routers change both.
    let mut wrong = inner().udp(b"x").checksum(0x1234).build();
    wrong[10] ^= 0xff;
    translated(&mut rig, &error(11, 0, [0; 4], &wrong));
    // In a fragment other than the first there is none: what looks like one is data.
    for protocol in [UDP, 6, 33, 136] {
        let second = inner().fragment(1200, true, 7).raw(protocol, &payload(40));
        let (_, inside) = translated(&mut rig, &error(11, 1, [0; 4], &second.build()));
        assert_eq!(inside.upper, payload(40));
    }
    // One without a checksum gets none.
    let none = inner().udp(b"x").checksum(0).build();
    let (_, inside) = translated(&mut rig, &error(11, 0, [0; 4], &none));
    assert_eq!(inside.verdict(), Verdict::Absent);
}

fn what_is_discarded_is_answered() {
    let strict = map_with_strict(Some("64:ff9b::/96"), &[(CLIENT4, CLIENT6)], true);
    let mut strict = rig_with(Settings::default(), strict);
    let mut explicit = rig_with(Settings::default(), map(None, &[(CLIENT4, CLIENT6)]));
    for packet in [
        v4().udp(b"x"),
        v4().echo_request(b"x"),
        v4().echo_reply(b"x"),
        v4().raw(253, b""),
    ] {
        let unmapped = packet.clone().to("192.0.2.1");
        strict.send(&unmapped).error(DropReason::WkpfStrict, 3, 13);
        strict.send(&packet).error(DropReason::WkpfStrict, 3, 10);
        explicit
            .send(&unmapped)
            .error(DropReason::NoDestination, 3, 1);
        explicit.send(&packet).error(DropReason::NoSource, 3, 10);
    }
    let error = v4()
        .to("192.0.2.1")
        .icmp(3, 1, [0; 4], &inner().udp(b"x").build());
    explicit.send(&error).dropped(DropReason::NoDestination);
    strict.send(&error).dropped(DropReason::WkpfStrict);
    // The translator itself is a host without services.
    let own = v4().to(super::packets::OWN4).udp(b"x");
    explicit.send(&own).error(DropReason::OwnAddress, 3, 2);
}

/// A UDP packet to the client whose checksum after translation would be zero.
fn becomes_zero() -> Builder {
    let (source, destination) = (SERVER6.parse().unwrap(), CLIENT6.parse().unwrap());
    let sum = |word: u16| {
        let upper = v4().udp(&word.to_be_bytes()).checksum(0).upper();
        let pseudo = checker::pseudo_header(source, destination, UDP, upper.len());
        checker::sum(&[pseudo, upper].concat())
    };
    let word = (0..=0xffff).find(|&word| sum(word) == 0xffff).unwrap();
    v4().udp(&word.to_be_bytes())
}

fn checksums_are_updated() {
    let mut rig = rig();
    // `rig` verifies them; here every value that a word can have.
    for word in 0..=0xffff_u16 {
        rig.send(&v4().udp(&word.to_be_bytes())).forwarded();
        if word.is_multiple_of(16) {
            rig.send(&v4().tcp(&word.to_be_bytes())).forwarded();
            rig.send(&v4().echo_request(&word.to_be_bytes()))
                .forwarded();
        }
    }
    let packet = rig.send(&becomes_zero()).forwarded();
    assert_eq!(packet.upper[6..8], [0xff, 0xff]);
    // In the quoted packet as well.
    let quoted = inner().udp(b"load").build();
    let (_, inside) = translated(&mut rig, &error(11, 0, [0; 4], &quoted));
    assert_eq!(inside.verdict(), Verdict::Right);
}

fn udp_rig(udp_checksum: UdpChecksum) -> Rig {
    rig_of(Settings {
        udp_checksum,
        ..Settings::default()
    })
}

fn udp_without_checksum() {
    let none = v4().udp(&payload(101)).checksum(0);
    udp_rig(UdpChecksum::Drop)
        .send(&none)
        .dropped(DropReason::UdpChecksum);
    let mut calculate = udp_rig(UdpChecksum::Calculate);
    calculate.send(&none).forwarded();
    calculate
        .send(&v4().udp(&payload(2000)).checksum(0))
        .fragments();
    calculate.send(&becomes_zero().checksum(0)).forwarded();
    let mut forward = udp_rig(UdpChecksum::Forward).expecting(Verdict::Absent);
    forward.send(&none).forwarded();
    // What is behind a UDP packet is not covered (RFC 768: by its own length).
    for packet in [v4(), v6()] {
        let upper = [
            &packet.clone().udp(b"load").checksum(0).upper()[..],
            b"more",
        ]
        .concat();
        let packet = calculate.send(&packet.raw(UDP, &upper)).forwarded();
        assert_eq!(packet.verdict(), Verdict::Right);
    }
    // A length that is not there cannot be summed.
    let mut upper = none.upper();
    upper[5] += 1;
    calculate
        .send(&v4().raw(UDP, &upper))
        .dropped(DropReason::TransportTruncated);
}

fn udp_fragment_without_checksum() {
    let parts = v4().udp(&payload(100)).checksum(0).cut(64, 7);
    for mode in [UdpChecksum::Drop, UdpChecksum::Calculate] {
        let mut rig = udp_rig(mode);
        rig.send(&parts[0]).dropped(DropReason::UdpFragmentChecksum);
        // Of the others nobody can tell.
        rig.send(&parts[1]).forwarded();
    }
    let mut forward = udp_rig(UdpChecksum::Forward);
    let upper = forward.send(&parts[0]).forwarded().upper;
    assert_eq!(upper[6..8], [0, 0]);
}

fn wrong_stays_wrong() {
    let mut rig = rig().expecting(Verdict::Wrong);
    for packet in [
        v4().udp(b"load"),
        v4().tcp(b"load"),
        v4().dccp(b"load"),
        v4().udp_lite(b"load"),
        v4().echo_request(b"load"),
    ] {
        let at = checker::checksum_at(packet.build()[9]).unwrap();
        let upper = packet.upper();
        let right = u16::from_be_bytes([upper[at], upper[at + 1]]);
        for wrong in [right ^ 1, right ^ 0x8000, right.wrapping_add(0x100)] {
            rig.send(&packet.clone().checksum(wrong)).forwarded();
        }
    }
}
