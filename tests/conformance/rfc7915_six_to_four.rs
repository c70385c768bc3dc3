//! RFC 7915 section 5: IPv6 to IPv4.

use std::collections::HashSet;

use xlatd::{
    translate::{DropReason, Settings, TrafficClass, UdpChecksum},
    wire::Malformed,
};

use super::{
    checker::{self, ICMP, Icmp, Ip, UDP, Verdict, reassemble},
    packets::{Builder, CLIENT4, CLIENT6, OWN4, OWN6, ROUTER6, SERVER4, SERVER6, payload, v4, v6},
    rig::{Rig, Seen, default_map, map, map_with_strict, rig, rig_of, rig_seeded, rig_with},
    rows::rows,
};

rows! {
    x64_01 Derived "RFC 7915 5.1" => version_and_header,
    x64_02 Derived "RFC 7915 5.1" => tos,
    x64_03 Must "RFC 7915 5, 5.1" => df,
    x64_04 Derived "RFC 7915 5.1" => identification,
    x64_05 Derived "RFC 7915 5.1" => total_length,
    x64_06 Derived "RFC 7915 5.1" => extension_headers_are_skipped,
    x64_07 Must "RFC 7915 5.1" => segments_left,
    x64_08 Must "RFC 7915 5.1" => hop_limit,
    x64_09 Should "RFC 7915 5.1" => illegal_sources,
    x64_10 Derived "RFC 7915 5.1.1" => fragments,
    x64_11 Should "RFC 7915 5.1.1" => header_after_fragment_header,
    x64_12 Derived "RFC 7915 5, 5.1.1" => larger_than_the_mtu,
    x64_13 Must "RFC 7915 5.2" => type_checksum_and_quoted_packet,
    x64_14 Derived "RFC 7915 5.2" => echo,
    x64_15 Derived "RFC 7915 5.2" => types_without_counterpart,
    x64_16 Derived "RFC 7915 5.2" => unreachable_codes,
    x64_17 Must "RFC 7915 5.2" => packet_too_big,
    x64_18 Derived "RFC 7915 5.2" => time_exceeded,
    x64_19 Derived "RFC 7915 5.2 fig. 6" => parameter_problem,
    x64_20 Must "RFC 7915 5.2" => extension_length,
    x64_21 Must "RFC 7915 5.3" => quoted_hop_limit_and_outer_length,
    x64_22 Must "RFC 7915 5.3" => errors_about_errors,
    x64_23 Must "RFC 7915 5.4" => what_is_discarded_is_answered,
    x64_24 Must "RFC 7915 5.5" => checksums_are_updated,
    x64_25 Derived "RFC 8200 8.1, RFC 6935" => udp_without_checksum,
    x64_26 Derived "RFC 7915 5.2" => errors_from_anywhere,
    x64_27 Derived "RFC 8200 4" => chain_of_headers,
}

/// What the server sent to the client, and somebody quotes in an error.
fn inner() -> Builder {
    v6().from(SERVER6).to(CLIENT6).hops(1)
}

/// An error about `quoted` from the client.
fn error(kind: u8, code: u8, rest: [u8; 4], quoted: &[u8]) -> Builder {
    v6().icmp(kind, code, rest, quoted)
}

/// The translation of an error, and what it quotes.
fn translated(rig: &mut Rig, error: &Builder) -> (Icmp, Ip) {
    let packet = rig.send(error).forwarded();
    assert_eq!(packet.addresses(), (CLIENT4.into(), SERVER4.into()));
    let icmp = packet.icmp();
    let quoted = icmp.quoted();
    assert_eq!(quoted.version, 4);
    assert_eq!(quoted.addresses(), (SERVER4.into(), CLIENT4.into()));
    (icmp, quoted)
}

fn version_and_header() {
    let mut rig = rig();
    // `checker` verifies version, IHL, the reserved flag and the header checksum of all that comes
    // out.
    for len in 0..300 {
        for packet in [v6().udp(&payload(len)), v6().tcp(&payload(len))] {
            let packet = rig.send(&packet).forwarded();
            assert_eq!((packet.version, packet.offset, packet.more), (4, 0, false));
        }
    }
    for class in 0..=255 {
        rig.send(&v6().class(class).hops(class | 2).udp(b"x"))
            .forwarded();
    }
}

fn tos() {
    let mut rig = rig();
    for class in 0..=255 {
        assert_eq!(
            rig.send(&v6().class(class).udp(b"x")).forwarded().class,
            class
        );
    }
    let [fragment, _] = v6().class(0xb9).udp(&payload(64)).cut(32, 7);
    assert_eq!(rig.send(&fragment).forwarded().class, 0xb9);
    let quoted = inner().class(0xb8).udp(b"x").build();
    let packet = rig.send(&error(3, 0, [0; 4], &quoted).class(0xc0));
    let packet = packet.forwarded();
    assert_eq!((packet.class, packet.icmp().quoted().class), (0xc0, 0xb8));
    for fixed in [0, 0x28] {
        let mut rig = rig_of(Settings {
            tos: TrafficClass::Fixed(fixed),
            ..Settings::default()
        });
        for class in [0, 1, 0xb8, 0xff] {
            assert_eq!(
                rig.send(&v6().class(class).udp(b"x")).forwarded().class,
                fixed
            );
        }
        let back = v4().class(0xb9).udp(b"x");
        assert_eq!(rig.send(&back).forwarded().class, 0xb9, "the other way");
    }
}

fn df() {
    let mut rig = rig();
    for len in [0, 1, 1231, 1232, 1239, 1240, 1241, 1252, 1260, 1272, 1480] {
        for packet in [v6(), v6().options_header(60)] {
            let packet = rig.send(&packet.raw(253, &payload(len))).forwarded();
            assert_eq!(packet.len, 20 + len);
            assert_eq!(packet.df, packet.len > 1260, "{} octets", packet.len);
        }
    }
    let echo = rig.send(&v6().echo_request(&payload(1400))).forwarded();
    assert!(echo.df);
    // A fragment can be cut again.
    let large = v6().fragment(0, true, 7).raw(253, &payload(1400));
    assert!(!rig.send(&large).forwarded().df);
    // A long error is short after translation (`rig` checks DF and identification).
    let long = inner().udp(&payload(1300)).build();
    let packet = rig.send(&error(1, 4, [0; 4], &long)).forwarded();
    assert_eq!((packet.len, packet.df), (576, false));
    let quoted = packet.icmp().quoted();
    assert_eq!((quoted.len, quoted.df), (1328, true));
}

fn identification() {
    let ids = |seed, count| -> Vec<u32> {
        let mut rig = rig_seeded(Settings::default(), default_map(), seed);
        let octets = v6().raw(253, b"x").build();
        (0..count)
            .map(|_| rig.send_octets(&octets).forwarded().id)
            .collect()
    };
    // With these seeds, zero is among what is drawn, and must be passed over.
    for seed in [0, 15, 27] {
        assert!(ids(seed, 4000).iter().all(|&id| id != 0));
    }
    let first = ids(1, 2000);
    // Not a counter: neighbours differ by anything, and another seed gives others.
    let steps: HashSet<u32> = first
        .windows(2)
        .map(|pair| pair[1].wrapping_sub(pair[0]) & 0xffff)
        .collect();
    assert!(steps.len() > 1900, "{} different steps", steps.len());
    assert!(first.iter().collect::<HashSet<_>>().len() > 1900);
    assert_ne!(first[..8], ids(2, 8));
    // Both the small packets and those that are cut or quoted keep theirs: see `fragments`.
    let mut rig = rig();
    let echo = rig.send(&v6().to(SERVER6).echo_request(b"x")).forwarded();
    assert_ne!(echo.id, 0);
}

fn total_length() {
    let mut rig = rig();
    for len in [0, 1, 7, 8, 100, 1400] {
        for (packet, _) in with_extension_headers() {
            let packet = rig.send(&packet.raw(253, &payload(len))).forwarded();
            assert_eq!(packet.len, 20 + len);
        }
    }
    let fragment = v6()
        .options_header(0)
        .fragment(8, true, 7)
        .raw(253, &payload(64));
    assert_eq!(rig.send(&fragment).forwarded().len, 84);
    let mut padded = v6().udp(b"x").build();
    padded.extend([0xa5; 17]);
    assert_eq!(rig.send_octets(&padded).forwarded().len, 29);
    // A total length that IPv4 cannot say.
    rig.set_mtu(65535);
    rig.send(&v6().raw(253, &payload(65515))).forwarded();
    for len in [65516, 65535] {
        let seen = rig.send(&v6().raw(253, &payload(len)));
        seen.error(DropReason::TooBig, 2, 0);
    }
}

/// Packets with extension headers that are skipped, and the length of those, in octets.
fn with_extension_headers() -> Vec<(Builder, usize)> {
    let long = [&[0, 3, 1, 28][..], &[0; 28]].concat();
    vec![
        (v6(), 0),
        (v6().options_header(0), 8),
        (v6().options_header(60), 8),
        (v6().routing(0), 24),
        (v6().extension(60, &long), 32),
        (
            v6().options_header(0)
                .options_header(60)
                .routing(0)
                .options_header(60),
            48,
        ),
    ]
}

fn extension_headers_are_skipped() {
    let mut rig = rig();
    for (headers, _) in with_extension_headers() {
        for packet in [
            headers.clone().udp(b"load"),
            headers.clone().tcp(b"load"),
            headers.clone().echo_request(b"load"),
            headers.clone().raw(50, b"load"),
        ] {
            // `rig` compares protocol and payload.
            let packet = rig.send(&packet).forwarded();
            assert_eq!(packet.upper[packet.upper.len() - 4..], *b"load");
        }
        let echo = rig.send(&headers.to(OWN6).echo_request(b"load")).echo();
        assert_eq!(echo.icmp().body, b"load");
    }
    // In a quoted packet as well.
    for (headers, _) in with_extension_headers() {
        let quoted = headers.from(SERVER6).to(CLIENT6).udp(b"load").build();
        let (_, inside) = translated(&mut rig, &error(3, 0, [0; 4], &quoted));
        assert_eq!((inside.len, inside.verdict()), (32, Verdict::Right));
    }
}

fn segments_left() {
    let mut rig = rig();
    for (packet, pointer) in [
        (v6().routing(1), 43),
        (v6().routing(255), 43),
        (v6().options_header(0).routing(1), 51),
        (v6().routing(0).routing(2), 67),
        (v6().routing(1).routing(2), 43),
        (v6().options_header(0).options_header(60).routing(1), 59),
    ] {
        for packet in [packet.clone().udp(b"x"), packet.clone().echo_request(b"x")] {
            let told = rig.send(&packet).error(DropReason::RoutingHeader, 4, 0);
            assert_eq!(told.icmp().word(), pointer);
            assert_ne!(packet.build()[pointer as usize], 0);
        }
        let error = packet.icmp(1, 0, [0; 4], &inner().udp(b"x").build());
        rig.send(&error).dropped(DropReason::RoutingHeader);
    }
    rig.send(&v6().routing(0).udp(b"x")).forwarded();
}

fn hop_limit() {
    let mut rig = rig();
    for hops in 2..=255 {
        let packet = rig.send(&v6().hops(hops).echo_request(b"x"));
        assert_eq!(packet.forwarded().hops, hops - 1);
    }
    for hops in [0, 1] {
        for packet in [v6().udp(b"x"), v6().echo_request(b"x"), v6().raw(253, b"")] {
            rig.send(&packet.hops(hops))
                .error(DropReason::HopLimit, 3, 0);
        }
        let expired = error(1, 0, [0; 4], &inner().udp(b"x").build()).hops(hops);
        rig.send(&expired).dropped(DropReason::HopLimit);
    }
}

fn illegal_sources() {
    let mut rig = rig();
    for source in [
        "::",
        "::1",
        "::203.0.113.1",
        "::ffff:203.0.113.1",
        "ff02::1",
        "ff0e::1",
        "fe80::1",
        "febf:ffff::1",
        "2001:db8:64::7f00:1",
    ] {
        for packet in [
            v6().udp(b"x"),
            v6().echo_request(b"x"),
            v6().hops(1).udp(b"x"),
            v6().routing(1).udp(b"x"),
            v6().to("2001:db8:99::1").udp(b"x"),
            error(1, 0, [0; 4], &inner().udp(b"x").build()),
        ] {
            rig.send(&packet.from(source))
                .dropped(DropReason::IllegalAddress);
        }
    }
    // Others are the business of maps.
    for source in ["fec0::1", "fc00::1", "fd00::1", "100::1", "2002::1"] {
        rig.send(&v6().from(source).udp(b"x"))
            .error(DropReason::NoSource, 1, 5);
    }
}

fn fragments() {
    let mut rig = rig();
    for (offset, more) in [
        (0, true),
        (8, true),
        (1480, false),
        (65512, false),
        (65488, true),
    ] {
        for (id, expected) in [
            (0, 0),
            (0xffff_0001, 1),
            (0x1234_ffff, 0xffff),
            (0xdead_beef, 0xbeef),
        ] {
            let len = if offset == 65512 { 3 } else { 24 };
            let packet = v6().fragment(offset, more, id).raw(253, &payload(len));
            let packet = rig.send(&packet).forwarded();
            assert_eq!((packet.offset, packet.more), (offset, more));
            assert_eq!((packet.id, packet.df), (expected, false));
            assert_eq!((packet.protocol, packet.len), (253, 20 + len));
        }
    }
    let parts: Vec<Ip> = v6()
        .options_header(0)
        .udp(&payload(1000))
        .cut(512, 7)
        .iter()
        .map(|part| rig.send(part).forwarded())
        .collect();
    assert_eq!(reassemble(&parts).verdict(), Verdict::Right);
    // A datagram that is all in one fragment (an atomic fragment), ICMPv6 included.
    let packet = v6().fragment(0, false, 0x1_2345);
    for packet in [packet.clone().udp(b"load"), packet.echo_request(b"load")] {
        let packet = rig.send(&packet).forwarded();
        assert_eq!((packet.id, packet.df, packet.more), (0x2345, false, false));
        assert_eq!(packet.verdict(), Verdict::Right);
    }
    // Reserved octet and bits are ignored.
    let reserved = |field: u16| {
        v6().extension(
            44,
            &[0, 0xff, (field >> 8) as u8, field as u8 | 6, 0, 0, 0, 7],
        )
    };
    let packet = rig.send(&reserved(0).echo_request(b"load")).forwarded();
    assert_eq!((packet.offset, packet.more), (0, false));
    let packet = rig.send(&reserved(65512).raw(253, &payload(3))).forwarded();
    assert_eq!((packet.offset, packet.more), (65512, false));
    // Fragments that cannot be.
    for packet in [
        v6().fragment(0, true, 7).raw(253, &payload(9)),
        v6().fragment(65512, false, 7).raw(253, &payload(4)),
        v4().fragment(0, true, 7).raw(253, &payload(9)),
        v4().fragment(65512, false, 7).raw(253, &payload(4)),
        v6().fragment(0, true, 7).raw(1, &payload(9)),
        v6().fragment(0, true, 7).raw(17, &payload(9)).hops(1),
        v6().fragment(0, true, 7).raw(17, &payload(9)).to(OWN6),
    ] {
        rig.send(&packet).dropped(DropReason::FragmentLength);
    }
}

fn header_after_fragment_header() {
    let mut rig = rig();
    for number in [0, 43, 44, 51, 60, 135, 139, 140] {
        let upper = [&[17, 0, 0, 0, 0, 0, 0, 0][..], &payload(24)].concat();
        for packet in [
            v6().fragment(0, true, 7).raw(number, &upper),
            v6().fragment(0, false, 7).raw(number, &upper),
            v6().options_header(60)
                .fragment(0, true, 7)
                .raw(number, &upper),
        ] {
            rig.send(&packet)
                .error(DropReason::HeaderAfterFragment, 1, 1);
        }
        // No error about others than the first.
        rig.send(&v6().fragment(32, true, 7).raw(number, &upper))
            .dropped(DropReason::HeaderAfterFragment);
        let quoted = inner().fragment(0, true, 7).raw(number, &upper).build();
        rig.send(&error(1, 0, [0; 4], &quoted))
            .dropped(DropReason::QuotedPacket);
        // Fragments that cannot be put together are answered as those that can (section 5.4).
        for odd in [25, 31, 33] {
            let upper = &[upper.clone(), payload(8)].concat()[..odd];
            let first = v6().fragment(0, true, 7).raw(number, upper);
            rig.send(&first)
                .error(DropReason::HeaderAfterFragment, 1, 1);
            rig.send(&first.clone().from("2001:db8:99::1")).error(
                DropReason::HeaderAfterFragment,
                1,
                1,
            );
            rig.send(&v6().fragment(32, true, 7).raw(number, upper))
                .dropped(DropReason::HeaderAfterFragment);
            rig.send(&v6().fragment(65512, false, 7).raw(number, upper))
                .dropped(DropReason::HeaderAfterFragment);
            // The translator itself is a host.
            rig.send(&first.to(OWN6))
                .dropped(DropReason::FragmentLength);
        }
        // Not about an ICMPv6 error.
        let hidden = [&[58, 0], &[0; 6][..], &[1, 4, 0, 0], &[0; 7]].concat();
        rig.send(&v6().fragment(0, true, 7).raw(number, &hidden))
            .dropped(DropReason::HeaderAfterFragment);
    }
    // ESP may follow, and anything that is no extension header.
    for protocol in [50, 17, 132, 253] {
        let upper = payload(32);
        rig.send(&v6().fragment(0, true, 7).raw(protocol, &upper))
            .forwarded();
    }
}

fn larger_than_the_mtu() {
    let mut rig = rig();
    for mtu in [1280usize, 1400, 1500, 9000] {
        rig.set_mtu(mtu as u16);
        rig.send(&v6().raw(253, &payload(mtu - 20))).forwarded();
        for over in [1, 20, 28] {
            let packet = v6().raw(253, &payload(mtu - 20 + over));
            let told = rig.send(&packet).error(DropReason::TooBig, 2, 0);
            assert_eq!(told.icmp().word(), mtu as u32 + 20);
        }
        // A fragment is cut again.
        let len = mtu.next_multiple_of(8);
        for (offset, more) in [(0, true), (4000, true), (4000, false)] {
            let fragment = v6()
                .fragment(offset, more, 0x1_0007)
                .raw(253, &payload(len));
            let parts = rig.send(&fragment).fragments();
            assert!(parts.iter().all(|part| part.len <= mtu && !part.df));
            // No more of them than are needed.
            assert_eq!(parts[0].len, 20 + ((mtu - 20) & !7));
            assert_eq!(parts.len(), 2);
            let whole = reassemble(&parts);
            assert_eq!((whole.offset, whole.more, whole.id), (offset, more, 7));
        }
    }
}

fn type_checksum_and_quoted_packet() {
    let mut rig = rig();
    for (kind, code, expected) in [
        (1, 0, (3, 1)),
        (2, 0, (3, 4)),
        (3, 0, (11, 0)),
        (4, 0, (12, 0)),
    ] {
        for (quoted, protocol) in [
            (inner().udp(b"load"), UDP),
            (inner().tcp(b"load"), 6),
            (inner().dccp(b"load"), 33),
            (inner().udp_lite(b"load"), 136),
            (inner().echo_request(b"load"), ICMP),
            (inner().echo_reply(b"load"), ICMP),
            (inner().raw(132, b"load"), 132),
        ] {
            let rest = if kind == 2 { [0, 0, 5, 0] } else { [0; 4] };
            let (icmp, inside) = translated(&mut rig, &error(kind, code, rest, &quoted.build()));
            assert_eq!((icmp.kind, icmp.code), expected);
            assert_eq!(inside.protocol, protocol);
            assert!(matches!(
                inside.verdict(),
                Verdict::Right | Verdict::Unknown
            ));
            assert_eq!(inside.upper[inside.upper.len() - 4..], *b"load");
        }
    }
    // An error is made anew, so it must have been right.
    let bad = error(1, 0, [0; 4], &inner().udp(b"x").build()).checksum(0x1234);
    rig.send(&bad).dropped(DropReason::IcmpChecksum);
}

fn echo() {
    let mut rig = rig();
    for (packet, kind) in [
        (v6().echo_request(b"data"), 8),
        (v6().echo_reply(b"data"), 0),
    ] {
        let icmp = rig.send(&packet).forwarded().icmp();
        assert!(icmp.is(kind, 0));
        assert_eq!(icmp.rest, [0x12, 0x34, 0, 7]);
        assert_eq!(icmp.body, b"data");
    }
    for len in 0..40 {
        rig.send(&v6().echo_request(&payload(len))).forwarded();
    }
}

fn types_without_counterpart() {
    let mut rig = rig();
    let quoted = inner().udp(b"x").build();
    for kind in (0..=255).filter(|kind| !matches!(kind, 1..=4 | 128 | 129)) {
        rig.send(&v6().icmp(kind, 0, [0; 4], &quoted))
            .dropped(DropReason::IcmpType);
        for packet in [v6().to(OWN6), v6().to("2001:db8:99::1"), v6().from(ROUTER6)] {
            let packet = packet.icmp(kind, 0, [0; 4], &quoted);
            assert!(rig.send(&packet).is_silent(), "type {kind}");
        }
    }
}

fn unreachable_codes() {
    let mut rig = rig();
    let quoted = inner().udp(b"x").build();
    for code in 0..=255 {
        let error = error(1, code, [0; 4], &quoted);
        let expected = match code {
            0 | 2 | 3 => 1,
            1 => 10,
            4 => 3,
            _ => {
                rig.send(&error).dropped(DropReason::IcmpType);
                continue;
            }
        };
        let (icmp, _) = translated(&mut rig, &error);
        assert!(icmp.is(3, expected), "code {code}: {icmp:?}");
        assert_eq!(icmp.rest, [0; 4]);
    }
}

fn packet_too_big() {
    let mut rig = rig();
    let whole = inner().udp(&payload(1400)).build();
    let fragment = inner()
        .fragment(0, true, 7)
        .raw(UDP, &payload(1400))
        .build();
    let behind = inner()
        .options_header(0)
        .fragment(8, true, 7)
        .raw(UDP, &payload(1400))
        .build();
    for (reported, heard) in [
        (1500u32, 1480),
        (1501, 1480), // our own MTU
        (9000, 1480),
        (u32::MAX, 1480),
        (0x1_0000, 1480),
        (0x1_05dc, 1480),
        (1499, 1479),
        (1280, 1260),
        (1279, 1259), // passed on like any other
        (576, 556),
        (96, 76),
    ] {
        let rest = reported.to_be_bytes();
        let (icmp, _) = translated(&mut rig, &error(2, 0, rest, &whole));
        assert!(icmp.is(3, 4));
        assert_eq!(
            (icmp.mtu_v4(), icmp.rest[..2].to_vec()),
            (heard, vec![0, 0])
        );
        for fragment in [&fragment, &behind] {
            let (icmp, _) = translated(&mut rig, &error(2, 0, rest, fragment));
            assert_eq!(icmp.mtu_v4(), heard - 8, "with a Fragment header");
        }
        // The code is none.
        let (icmp, _) = translated(&mut rig, &error(2, 77, rest, &whole));
        assert!(icmp.is(3, 4));
    }
    for (reported, quoted, heard) in [(88u32, &whole, 68), (96, &fragment, 68)] {
        let (icmp, _) = translated(&mut rig, &error(2, 0, reported.to_be_bytes(), quoted));
        assert_eq!(icmp.mtu_v4(), heard);
        for reported in [0, 1, 19, 20, reported - 1] {
            rig.send(&error(2, 0, reported.to_be_bytes(), quoted))
                .dropped(DropReason::IcmpType);
        }
    }
    rig.set_mtu(1280);
    let (icmp, _) = translated(&mut rig, &error(2, 0, [0, 0, 0x23, 0x28], &whole[..1232]));
    assert_eq!(icmp.mtu_v4(), 1260);
    rig.set_mtu(65535);
    let (icmp, _) = translated(&mut rig, &error(2, 0, [0xff; 4], &whole));
    assert_eq!(icmp.mtu_v4(), 65515);
}

fn time_exceeded() {
    for code in [0, 1] {
        let error = error(3, code, [0; 4], &inner().udp(b"x").build());
        let (icmp, _) = translated(&mut rig(), &error);
        assert!(icmp.is(11, code));
    }
}

fn parameter_problem() {
    let mut rig = rig();
    let quoted = inner().udp(b"x").build();
    let high = (8..32).map(|bit| 1u32 << bit);
    let wrapped = (0..40).map(|low| 0x100 | low);
    for pointer in (0..=255).chain(high).chain(wrapped).chain([u32::MAX]) {
        let expected = match pointer {
            0 => Some(0),
            1 => Some(1),
            4 | 5 => Some(2),
            6 => Some(9),
            7 => Some(8),
            8..=23 => Some(12),
            24..=39 => Some(16),
            _ => None,
        };
        let rest = pointer.to_be_bytes();
        match expected {
            Some(expected) => {
                let (icmp, _) = translated(&mut rig, &error(4, 0, rest, &quoted));
                assert!(icmp.is(12, 0));
                assert_eq!(icmp.rest, [expected, 0, 0, 0], "pointer {pointer}");
            }
            None => rig
                .send(&error(4, 0, rest, &quoted))
                .dropped(DropReason::IcmpType),
        }
        let (icmp, _) = translated(&mut rig, &error(4, 1, rest, &quoted));
        assert!(icmp.is(3, 2));
        assert_eq!(icmp.rest, [0; 4]);
        for code in [2, 3, 255] {
            rig.send(&error(4, code, rest, &quoted))
                .dropped(DropReason::IcmpType);
        }
    }
}

/// More in the rows of RFC 4884.
fn extension_length() {
    let mut quoted = inner().udp(&payload(152)).build(); // 200 octets
    let extension = super::rfc4884::extension(&[8, 12]);
    quoted.extend(&extension);
    let (icmp, inside) = translated(&mut rig(), &error(3, 0, [25, 0, 0, 0], &quoted));
    assert_eq!(icmp.rest, [0, 45, 0, 0]);
    assert_eq!(inside.len, 180);
    assert_eq!(icmp.body[180..], extension);
}

fn quoted_hop_limit_and_outer_length() {
    let mut rig = rig();
    for hops in [0, 1, 2, 64, 255] {
        let quoted = inner().hops(hops).udp(b"x").build();
        let packet = rig.send(&error(3, 0, [0; 4], &quoted).hops(9)).forwarded();
        assert_eq!((packet.hops, packet.icmp().quoted().hops), (8, hops));
    }
    for len in [0, 1, 2, 3, 8, 100, 519, 520, 521, 1000, 1184] {
        let quoted = inner().udp(&payload(len)).build();
        let packet = rig.send(&error(1, 0, [0; 4], &quoted)).forwarded();
        assert_eq!(packet.len, (20 + 8 + 20 + 8 + len).min(576));
        assert_eq!(packet.icmp().quoted().len, 28 + len);
    }
    // A fragment other than the first has no checksum: what looks like one is data.
    for protocol in [UDP, 6, 33, 136] {
        let second = inner().fragment(1200, true, 7).raw(protocol, &payload(40));
        let (_, inside) = translated(&mut rig, &error(3, 1, [0; 4], &second.build()));
        assert_eq!(inside.upper, payload(40));
    }
    // A quoted packet that was cut short, anywhere.
    for quoted in [
        inner().udp(&payload(40)),
        inner().tcp(&payload(40)),
        inner().options_header(60).echo_request(&payload(40)),
        inner().fragment(0, true, 7).raw(UDP, &payload(40)),
        inner().raw(253, &payload(40)),
    ] {
        let octets = quoted.build();
        let (protocol, upper) = checker::upper_layer(&octets);
        let headers = octets.len() - upper.len();
        for len in 0..octets.len() {
            let error = error(1, 0, [0; 4], &octets[..len]);
            if len < headers + usize::from(protocol == checker::ICMPV6) {
                rig.send(&error).dropped(DropReason::QuotedPacket);
                continue;
            }
            let (_, inside) = translated(&mut rig, &error);
            assert_eq!(inside.len, 20 + upper.len(), "the length it had");
            assert_eq!(inside.upper.len(), len - headers);
        }
    }
}

fn errors_about_errors() {
    let mut rig = rig();
    let innermost = v6().udp(b"x").build();
    for kind in (0..=255).filter(|kind| !matches!(kind, 128 | 129)) {
        let quoted = inner().icmp(kind, 0, [0; 4], &innermost).build();
        rig.send(&error(3, 0, [0; 4], &quoted))
            .dropped(DropReason::QuotedPacket);
    }
    for quoted in [inner().echo_reply(b"load"), inner().echo_request(b"load")] {
        let (_, inside) = translated(&mut rig, &error(3, 0, [0; 4], &quoted.build()));
        assert_eq!(inside.verdict(), Verdict::Right);
    }
    for (quoted, why) in [
        (inner().raw(1, &[8; 8]), "ICMPv4"),
        (inner().to("ff02::1").udp(b"x"), "multicast"),
        (inner().from("::1").udp(b"x"), "loopback"),
        (inner().from("2001:db8:99::1").udp(b"x"), "no mapping"),
        (
            inner().fragment(8, false, 7).raw(58, &[128; 8]),
            "a fragment of ICMPv6",
        ),
    ] {
        let seen = rig.send(&error(3, 0, [0; 4], &quoted.build()));
        assert!(seen.is_silent(), "{why}: {seen:?}");
    }
    // A length that IPv4 cannot say.
    let mut quoted = inner().udp(&payload(100)).build();
    quoted[4..6].copy_from_slice(&[0xff; 2]);
    rig.send(&error(3, 0, [0; 4], &quoted))
        .dropped(DropReason::QuotedPacket);
}

fn what_is_discarded_is_answered() {
    let mut rig = rig();
    let strict = map_with_strict(Some("64:ff9b::/96"), &[(CLIENT4, CLIENT6)], true);
    let mut strict = rig_with(Settings::default(), strict);
    let explicit = map(None, &[(CLIENT4, CLIENT6), (SERVER4, "2001:db8:5::9")]);
    let mut explicit = rig_with(Settings::default(), explicit);
    for packet in [
        v6().udp(b"x"),
        v6().tcp(b"x"),
        v6().raw(253, b""),
        v6().echo_request(b"x"),
        v6().echo_reply(b"x"),
        v6().options_header(60).udp(b"x"),
    ] {
        let nowhere = packet.clone().to("2001:db8:99::1");
        rig.send(&nowhere).error(DropReason::NoDestination, 1, 0);
        explicit
            .send(&packet)
            .error(DropReason::NoDestination, 1, 0);
        let nobody = packet.clone().from("2001:db8:99::1");
        rig.send(&nobody).error(DropReason::NoSource, 1, 5);
        let private = packet.clone().to("64:ff9b::a00:1");
        strict.send(&private).error(DropReason::WkpfStrict, 1, 1);
        let private = packet.from("64:ff9b::a00:1").to("64:ff9b::808:808");
        strict.send(&private).error(DropReason::WkpfStrict, 1, 5);
    }
    // 1/1 where nothing else is specified.
    rig.send(&v6().fragment(0, true, 7).raw(60, &[0; 16]))
        .error(DropReason::HeaderAfterFragment, 1, 1);
    // The translator itself is a host without services; the pointer is at what named the protocol.
    for (packet, pointer) in [
        (v6(), 6),
        (v6().options_header(60), 40),
        (v6().options_header(0).routing(0), 48),
    ] {
        let own = packet.to(OWN6).udp(b"x");
        let told = rig.send(&own).error(DropReason::OwnAddress, 4, 1);
        assert_eq!(told.icmp().word(), pointer);
        assert_eq!(own.build()[pointer as usize], UDP);
    }
    let error = error(1, 0, [0; 4], &inner().udp(b"x").build());
    rig.send(&error.to("2001:db8:99::1"))
        .dropped(DropReason::NoDestination);
}

fn checksums_are_updated() {
    let mut rig = rig();
    for word in 0..=0xffff_u16 {
        rig.send(&v6().udp(&word.to_be_bytes())).forwarded();
        if word.is_multiple_of(16) {
            rig.send(&v6().tcp(&word.to_be_bytes())).forwarded();
            rig.send(&v6().echo_request(&word.to_be_bytes()))
                .forwarded();
        }
    }
    for len in 0..64 {
        let data = payload(len);
        for packet in [
            v6().udp(&data),
            v6().tcp(&data),
            v6().dccp(&data),
            v6().udp_lite(&data),
        ] {
            assert_eq!(rig.send(&packet).forwarded().verdict(), Verdict::Right);
        }
    }
    // Wrong ones stay wrong.
    let mut rig = rig.expecting(Verdict::Wrong);
    for packet in [v6().udp(b"x"), v6().tcp(b"x"), v6().echo_request(b"x")] {
        rig.send(&packet.checksum(0x1234)).forwarded();
    }
}

/// Treated as from IPv4: `udp-cksum-mode` says what becomes of it, and the default is to drop it.
fn udp_without_checksum() {
    let none = v6().udp(&payload(101)).checksum(0);
    let rig_of = |udp_checksum| {
        rig_of(Settings {
            udp_checksum,
            ..Settings::default()
        })
    };
    rig().send(&none).dropped(DropReason::UdpChecksum);
    rig_of(UdpChecksum::Drop)
        .send(&none)
        .dropped(DropReason::UdpChecksum);
    rig_of(UdpChecksum::Calculate).send(&none).forwarded();
    let mut forward = rig_of(UdpChecksum::Forward).expecting(Verdict::Absent);
    forward.send(&none).forwarded();
    let [first, second] = none.cut(64, 7);
    let mut calculate = rig_of(UdpChecksum::Calculate);
    calculate
        .send(&first)
        .dropped(DropReason::UdpFragmentChecksum);
    calculate.send(&second).forwarded();
}

fn errors_from_anywhere() {
    let mut rig = rig();
    let quoted = inner().udp(b"x").build();
    for (kind, code) in [
        (1, 0),
        (1, 1),
        (1, 3),
        (1, 4),
        (2, 0),
        (3, 0),
        (3, 1),
        (4, 0),
        (4, 1),
    ] {
        let rest = if kind == 2 { [0, 0, 5, 0] } else { [0; 4] };
        let packet = v6().from(ROUTER6).icmp(kind, code, rest, &quoted);
        let packet = rig.send(&packet).forwarded();
        assert_eq!(packet.addresses(), (OWN4.into(), SERVER4.into()));
    }
    // But only errors are.
    rig.send(&v6().from(ROUTER6).echo_reply(b"x"))
        .error(DropReason::NoSource, 1, 5);
}

fn chain_of_headers() {
    let mut rig = rig();
    let chain = |count| (0..count).fold(v6(), |packet, _| packet.options_header(60));
    for count in 0..=8 {
        rig.send(&chain(count).udp(b"x")).forwarded();
    }
    for count in [9, 10, 100, 8000] {
        rig.send(&chain(count).udp(b"x"))
            .dropped(DropReason::Malformed(Malformed::ExtensionHeaders));
    }
    // AH, ESP and "no next header" end it: what follows is payload, whatever it looks like.
    let looks_like = v6().routing(1).udp(b"x").build()[40..].to_vec();
    for terminal in [50, 51, 59] {
        let packet = v6().options_header(60).raw(terminal, &looks_like);
        let packet = rig.send(&packet).forwarded();
        assert_eq!(
            (packet.protocol, packet.upper),
            (terminal, looks_like.clone())
        );
    }
    // Every length that each header can claim, in a packet that has 64 octets of it.
    for number in [0, 43, 60] {
        for claimed in 0..=255u8 {
            let mut header = [0; 64];
            header[1] = claimed;
            let packet = v6().extension(number, &header).udp(b"x");
            let seen = rig.send_octets(&packet.build());
            if claimed > 8 {
                assert!(matches!(
                    seen,
                    Seen::Drop(DropReason::Malformed(Malformed::ExtensionHeaders))
                ));
            }
        }
    }
    // Every length that is too short for what is named.
    let headers = v6()
        .options_header(0)
        .routing(0)
        .options_header(60)
        .fragment(0, true, 7);
    let octets = headers.udp(&payload(24)).build();
    for len in 40..octets.len() {
        let mut cut = octets[..len].to_vec();
        cut[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        let seen = rig.send_octets(&cut);
        if len < 40 + 48 {
            assert!(
                matches!(seen, Seen::Drop(DropReason::Malformed(_))),
                "{len}: {seen:?}"
            );
        }
    }
}
