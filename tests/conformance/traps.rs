//! Mistakes of tayga, and places where it departs from the RFCs.

use std::time::Duration;

use xlatd::translate::{DropReason, Settings, UdpChecksum};

use super::{
    checker::Verdict,
    packets::{
        CLIENT4, CLIENT6, OWN4, OWN6, PREFIX, ROUTER4, SERVER4, SERVER6, fix_header_checksum,
        fix_icmp_checksum, payload, v4, v6,
    },
    rig::{Seen, map, rig, rig_of, rig_with},
    robustness,
    rows::rows,
};

rows! {
    trap_pointers Derived "RFC 7915 fig. 6" => pointers,
    trap_length_fields Derived "RFC 7915" => length_fields,
    trap_short_quotes Derived "RFC 792, RFC 7915 4.3, 5.3" => short_quotes,
    trap_udp_checksum_zero Must "RFC 768, RFC 7915 4.5" => udp_checksums,
    trap_errors_about_errors Must "RFC 1812 4.3.2.7" => errors_about_errors,
    trap_replies Derived "RFC 1122 3.2.2.6" => replies,
    trap_limits Must "RFC 1812 4.3.2.8" => limits,
    trap_header_after_fragment_header Should "RFC 7915 5.1.1" => hidden_header,
    trap_source_routes Must "RFC 7915 4.1" => source_routes,
    trap_df Must "RFC 7915 5" => df,
    trap_segments_left Should "RFC 7915 5.1" => segments_left,
    trap_extensions Must "RFC 4884, RFC 7915 4.2, 5.2" => extensions,
    trap_maps Must "RFC 7757, RFC 6052 2.2" => maps,
    trap_mtu Must "RFC 7915 1.4" => mtu_is_followed,
}

fn pointers() {
    let mut rig = rig();
    let quoted = v6().from(SERVER6).to(CLIENT6).udp(b"x").build();
    let mut octets = v6().icmp(4, 0, [0; 4], &quoted).build();
    // All that fit in 16 bits, in either half, and those around each power of two.
    let around = (0..32).flat_map(|bit| {
        let power = 1u32 << bit;
        [power.wrapping_sub(1), power, power.wrapping_add(1), !power]
    });
    for pointer in (0..=0xffff)
        .step_by(3)
        .chain((0..=0xffff).step_by(257).map(|high| high << 16 | 8))
        .chain(around)
    {
        octets[44..48].copy_from_slice(&pointer.to_be_bytes());
        fix_icmp_checksum(&mut octets);
        let seen = rig.send_octets(&octets);
        let known = matches!(pointer, 0 | 1 | 4..=39);
        assert_eq!(seen.is_silent(), !known, "pointer {pointer}");
    }
}

/// Every octet of every kind of packet takes every value, with right checksums: nothing panics, and
/// either a good packet comes out (`rig`) or none.
fn length_fields() {
    let settings = Settings {
        udp_checksum: UdpChecksum::Calculate,
        ..Settings::default()
    };
    let mut rig = rig_of(settings);
    for good in robustness::kinds() {
        let headers = if good[0] >> 4 == 4 { 20 } else { 40 };
        for at in (0..headers + 80).filter(|&at| at < good.len()) {
            for value in [
                0, 1, 4, 7, 8, 15, 16, 0x3f, 0x40, 0x45, 0x60, 0x7f, 0x80, 0xfe, 0xff,
            ] {
                let mut octets = good.clone();
                if octets[at] == value {
                    continue;
                }
                octets[at] = value;
                if octets[0] >> 4 == 4 {
                    let whole = octets[0] == 0x45
                        && octets[9] == 1
                        && usize::from(octets[2]) << 8 | usize::from(octets[3]) == octets.len();
                    if whole && at >= 24 {
                        fix_icmp_checksum(&mut octets);
                    }
                    if at < 20 {
                        fix_header_checksum(&mut octets);
                    }
                } else if octets[6] == 58 && at >= 44 {
                    fix_icmp_checksum(&mut octets);
                }
                rig.advance(Duration::from_millis(1));
                let mut probe = std::panic::AssertUnwindSafe(&mut rig);
                let seen = std::panic::catch_unwind(move || {
                    probe.send_unverified(&octets);
                });
                assert!(seen.is_ok(), "octet {at} is {value} in {good:x?}");
            }
        }
    }
}

fn short_quotes() {
    let mut rig = rig();
    // 8 octets of TCP: what RFC 792 asks for, and what Path MTU Discovery lives on.
    let tcp = v4()
        .from(CLIENT4)
        .to(SERVER4)
        .df()
        .tcp(&payload(1400))
        .build();
    let error = v4().from(ROUTER4).icmp(3, 4, [0, 0, 5, 0x64], &tcp[..28]);
    let icmp = rig.send(&error).forwarded().icmp();
    assert!(icmp.is(2, 0));
    assert_eq!(icmp.word(), 1400);
    assert_eq!(icmp.quoted().upper, tcp[20..28]);
    let tcp6 = v6().from(SERVER6).to(CLIENT6).tcp(&payload(1400)).build();
    let error = v6().icmp(2, 0, [0, 0, 5, 0x64], &tcp6[..48]);
    let icmp = rig.send(&error).forwarded().icmp();
    assert_eq!(icmp.mtu_v4(), 1360);
    assert_eq!(icmp.quoted().upper, tcp6[40..48]);
    // A fragment, cut short.
    let [first, _] = v4()
        .from(CLIENT4)
        .to(SERVER4)
        .tcp(&payload(1400))
        .cut(1200, 7);
    let error = v4().from(ROUTER4).icmp(11, 1, [0; 4], &first.build()[..28]);
    let inside = rig.send(&error).forwarded().icmp().quoted();
    assert_eq!((inside.len, inside.upper.len()), (40 + 8 + 1200, 8));
    assert!(inside.more);
    let [_, second] = v6()
        .from(SERVER6)
        .to(CLIENT6)
        .tcp(&payload(1400))
        .cut(1200, 7);
    let error = v6().icmp(3, 1, [0; 4], &second.build()[..56]);
    let inside = rig.send(&error).forwarded().icmp().quoted();
    assert_eq!((inside.offset, inside.upper.len()), (1200, 8));
    // An echo reply.
    let reply = v4().from(CLIENT4).to(SERVER4).echo_reply(b"load").build();
    let error = v4().from(ROUTER4).icmp(3, 1, [0; 4], &reply[..28]);
    let inside = rig.send(&error).forwarded().icmp().quoted();
    assert_eq!(inside.upper, v6().echo_reply(b"load").upper()[..8]);
    let reply = v6().from(SERVER6).to(CLIENT6).echo_reply(b"load").build();
    let error = v6().icmp(1, 4, [0; 4], &reply[..48]);
    let inside = rig.send(&error).forwarded().icmp().quoted();
    assert_eq!(inside.upper, v4().echo_reply(b"load").upper()[..8]);
}

fn udp_checksums() {
    let mut calculate = rig_of(Settings {
        udp_checksum: UdpChecksum::Calculate,
        ..Settings::default()
    });
    let mut plain = rig();
    let mut zeros = 0;
    for word in 0..=0xffff_u16 {
        let data = word.to_be_bytes();
        for packet in [
            plain.send(&v4().udp(&data)),
            plain.send(&v6().udp(&data)),
            calculate.send(&v4().udp(&data).checksum(0)),
            calculate.send(&v6().udp(&data).checksum(0)),
        ] {
            let packet = packet.forwarded();
            assert_eq!(packet.verdict(), Verdict::Right);
            zeros += usize::from(packet.upper[6..8] == [0xff, 0xff]);
        }
    }
    assert!(zeros >= 4, "each way met a sum of zero");
    for packet in [v4().udp(&payload(64)), v6().udp(&payload(64))] {
        let [first, _] = packet.checksum(0).cut(32, 7);
        calculate
            .send(&first)
            .dropped(DropReason::UdpFragmentChecksum);
    }
}

fn errors_about_errors() {
    let mut rig = rig();
    let quoted = v4().from(CLIENT4).to(SERVER4).udp(b"x").build();
    let error = v4().from(ROUTER4).icmp(11, 0, [0; 4], &quoted);
    rig.send(&error.clone().hops(1))
        .dropped(DropReason::HopLimit);
    rig.send(&error.to(OWN4)).dropped(DropReason::OwnAddress);
    let [_, second] = v4().hops(1).udp(&payload(64)).cut(32, 7);
    rig.send(&second).dropped(DropReason::HopLimit);
    let [_, second] = v4().to(OWN4).udp(&payload(64)).cut(32, 7);
    rig.send(&second).dropped(DropReason::OwnAddress);
    let [_, second] = v6().hops(1).udp(&payload(64)).cut(32, 7);
    rig.send(&second).dropped(DropReason::HopLimit);
}

fn limits() {
    // Path MTU Discovery goes on during a scan; the rates are in rows sec_03 and sec_05.
    let mut rig = rig();
    let flood = |n: u32| {
        let source = std::net::Ipv4Addr::from(0x0b00_0000 + n).to_string();
        v4().from(&source).hops(1).udp(b"x")
    };
    for n in 0..2000 {
        let _ = rig.send(&flood(n));
    }
    assert!(rig.send(&flood(5000)).is_silent());
    let packet = v4().df().udp(&payload(1480));
    rig.send(&packet).error(DropReason::TooBig, 3, 4);
    let packet = v6().udp(&payload(1480));
    rig.send(&packet).error(DropReason::TooBig, 2, 0);
    // Replies are limited likewise, and errors go on.
    for _ in 0..200 {
        let _ = rig.send(&v4().to(OWN4).echo_request(b"x"));
    }
    rig.send(&v4().to(OWN4).echo_request(b"x"))
        .dropped(DropReason::EchoLimit);
    rig.advance(Duration::from_secs(1));
    rig.send(&flood(1)).error(DropReason::HopLimit, 11, 0);
}

/// What is answered is the packet, not what a link put behind it; and a reply is treated on its way
/// as the request was (RFC 1122 section 3.2.2.6).
fn replies() {
    let mut rig = rig();
    for (request, expired) in [(v4().to(OWN4), v4().hops(1)), (v6().to(OWN6), v6().hops(1))] {
        for class in [0, 0x28, 0xb9] {
            let mut octets = request.clone().class(class).echo_request(b"load").build();
            let len = octets.len();
            octets.extend([0xa5; 18]);
            let reply = rig.send_octets(&octets).echo();
            assert_eq!((reply.len, reply.class), (len, class));
        }
        // `rig` compares what an error quotes with the packet.
        let mut octets = expired.udp(b"load").build();
        octets.extend([0xa5; 18]);
        assert!(matches!(rig.send_octets(&octets), Seen::Error(..)));
    }
}

fn hidden_header() {
    let upper = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &v6().udp(b"load").upper()].concat();
    let upper = &upper[..16];
    for (offset, more) in [(0, true), (0, false), (16, false)] {
        let seen = rig().send(&v6().fragment(offset, more, 7).raw(60, upper));
        match seen {
            Seen::Error(DropReason::HeaderAfterFragment, _) if offset == 0 => {}
            Seen::Drop(DropReason::HeaderAfterFragment) if offset != 0 => {}
            other => panic!("{other:?}"),
        }
    }
}

fn source_routes() {
    let routed = v4().options(&[131, 7, 4, 192, 0, 2, 1]).udp(b"x");
    rig().send(&routed).error(DropReason::SourceRoute, 3, 5);
    let arrived = v4().options(&[131, 7, 8, 192, 0, 2, 1]).udp(b"x");
    rig().send(&arrived).forwarded();
}

fn df() {
    let mut rig = rig();
    for (payload_len, df) in [(1240, false), (1241, true)] {
        let packet = v6().raw(253, &payload(payload_len));
        assert_eq!(rig.send(&packet).forwarded().df, df);
    }
}

fn segments_left() {
    let told = rig().send(&v6().routing(3).udp(b"x"));
    assert_eq!(
        told.error(DropReason::RoutingHeader, 4, 0).icmp().word(),
        43
    );
}

fn extensions() {
    let extension = super::rfc4884::extension(&[12]);
    let mut quoted = v4().from(CLIENT4).to(SERVER4).udp(b"x").build();
    quoted.resize(128, 0);
    let body = [&quoted[..], &extension].concat();
    let error = v4().from(ROUTER4).icmp(11, 0, [0, 32, 0, 0], &body);
    let icmp = rig().send(&error).forwarded().icmp();
    assert_eq!(icmp.rest, [16, 0, 0, 0], "128 octets, as 64-bit words");
    assert_eq!(icmp.body[128..], extension);
    assert!(icmp.body[49..128].iter().all(|&octet| octet == 0));
}

fn maps() {
    let map = map(
        Some("2001:db8:64::/64"),
        &[
            ("198.51.100.0/24", "2001:db8:a::/64"), // unequal suffixes
            ("198.51.100.128/25", "2001:db8:a:0:8000::/72"), // overlapping on both sides
            (CLIENT4, CLIENT6),
        ],
    );
    let mut rig = rig_with(Settings::default(), map);
    let mut to_v6 = |host: &str| {
        let packet = rig.send(&v4().to(host).udp(b"x")).forwarded();
        packet.destination.to_string()
    };
    assert_eq!(to_v6("198.51.100.7"), "2001:db8:a:0:700::");
    assert_eq!(to_v6("198.51.100.129"), "2001:db8:a:0:8002::");
    assert_eq!(to_v6(CLIENT4), CLIENT6);
    // A suffix that is not zero; and hairpinning through it.
    let suffixed = v6().to("2001:db8:64:0:cb:71:9ab:cdef").udp(b"x");
    let packet = rig.send(&suffixed).forwarded();
    assert_eq!(packet.addresses(), (CLIENT4.into(), SERVER4.into()));
    let hairpinned = v6().to("2001:db8:64:0:c6:3364:700:1").udp(b"x");
    let packet = rig.send(&hairpinned).forwarded();
    let expected = ("2001:db8:64:0:c6:3364:a00:0", "2001:db8:a:0:700::");
    assert_eq!(packet.addresses(), (expected.0.into(), expected.1.into()));
    assert_ne!(PREFIX, "2001:db8:64::/64");
}

fn mtu_is_followed() {
    let mut rig = rig();
    let packet = v4().df().udp(&payload(1452));
    let back = v6().udp(&payload(1472));
    rig.send(&packet).forwarded();
    rig.send(&back).forwarded();
    rig.set_mtu(1400);
    rig.send(&packet).error(DropReason::TooBig, 3, 4);
    rig.send(&back).error(DropReason::TooBig, 2, 0);
    rig.set_mtu(1500);
    rig.send(&packet).forwarded();
    rig.send(&back).forwarded();
    // No IPv6 link has less than 1280.
    let mut small = rig_of(Settings::default());
    small.set_mtu_below_minimum();
    small.send(&v4().df().udp(&payload(1232))).forwarded();
    let told = small.send(&v4().df().udp(&payload(1233)));
    assert_eq!(told.error(DropReason::TooBig, 3, 4).icmp().mtu_v4(), 1260);
}
