//! RFC 7915 sections 1, 4 and 5, what both directions share; sections 6 and 7.

use std::time::Duration;

use xlatd::{
    addr::Via,
    translate::{DropReason, IcmpErrors, Settings},
    wire::Malformed,
};

use super::{
    packets::{
        CLIENT4, CLIENT6, OWN4, OWN6, PREFIX, ROUTER4, ROUTER6, SERVER4, SERVER6, payload, v4, v6,
    },
    rig::{Seen, map, rig, rig_of, rig_with},
    rows::rows,
};

rows! {
    g_01 Must "RFC 7915 1.4" => too_big_is_cut_or_told,
    g_02 Must "RFC 7915 4, 5" => multicast_is_dropped,
    g_03 Should "RFC 7915 4, 5" => order_is_kept,
    g_04 Must "RFC 7915 4.6, 5.6" unproven
        "the routing table of the kernel decides which packets reach the device; all that do \
         are to be translated",
    g_05 Derived "RFC 7915 4.1, 5.1" => one_hop,
    g_06 Should "RFC 7915 4.4, 5.4" => errors_are_configurable,
    g_07 Must "RFC 7915 4.5, 5.5" => every_protocol_passes,
    g_08 Derived "RFC 7915 1.2" => fragmented_icmp_is_dropped,
    g_09 Derived "RFC 1812 4.3.2, RFC 4443 2.4" => no_error_where_none_may_be,
    s6_01 Must "RFC 7915 6" => the_prefix_maps,
    s6_02 Should "RFC 7915 6" => explicit_mappings_map,
    s6_03 Should "RFC 7915 6" => untranslatable_sources_are_replaced,
    s6_04 Derived "RFC 7915 7" => size_errors_are_never_filtered,
}

fn too_big_is_cut_or_told() {
    let mut rig = rig();
    // IPv4 with DF and IPv6 packets that no router may cut: told. Others: cut.
    let whole = v4().df().udp(&payload(1452)); // 1480 octets
    rig.send(&whole).forwarded();
    let error = rig.send(&v4().df().udp(&payload(1453)));
    assert_eq!(error.error(DropReason::TooBig, 3, 4).icmp().mtu_v4(), 1480);
    rig.send(&v4().udp(&payload(1453))).fragments();
    rig.send(&v6().udp(&payload(1472))).forwarded(); // 1520 octets, 1500 as IPv4
    let error = rig.send(&v6().udp(&payload(1473)));
    assert_eq!(error.error(DropReason::TooBig, 2, 0).icmp().word(), 1520);
    let [first, _] = v6().udp(&payload(3000)).cut(1488, 7); // 1508 octets as IPv4
    rig.send(&first).fragments();

    rig.set_mtu(1400);
    let error = rig.send(&whole).error(DropReason::TooBig, 3, 4);
    assert_eq!(error.icmp().mtu_v4(), 1380);
    let error = rig.send(&v6().udp(&payload(1373)));
    assert_eq!(error.error(DropReason::TooBig, 2, 0).icmp().word(), 1420);
}

fn multicast_is_dropped() {
    let mut rig = rig();
    for group in [
        "224.0.0.1",
        "232.1.2.3",
        "239.255.255.255",
        "255.255.255.255",
    ] {
        // Hop limit 1 and source routes are answered, but not for these.
        for packet in [v4(), v4().hops(1), v4().options(&[131, 7, 4, 1, 2, 3, 4])] {
            rig.send(&packet.clone().to(group).udp(b"x"))
                .dropped(DropReason::IllegalAddress);
            rig.send(&packet.from(group).udp(b"x"))
                .dropped(DropReason::IllegalAddress);
        }
    }
    for group in ["ff02::1", "ff0e::1", "ff3e::8000:1", "2001:db8:64::e000:1"] {
        for packet in [v6(), v6().hops(1), v6().routing(1)] {
            rig.send(&packet.clone().to(group).udp(b"x"))
                .dropped(DropReason::IllegalAddress);
            rig.send(&packet.from(group).udp(b"x"))
                .dropped(DropReason::IllegalAddress);
        }
    }
}

/// Each packet is translated before the next is read; fragments go out in the order of their octets
/// (`reassemble`).
fn order_is_kept() {
    let mut rig = rig();
    for i in 0..50u8 {
        let len = if i.is_multiple_of(3) { 2500 } else { 10 };
        let packet = v4().id(u16::from(i) + 1).udp(&payload(len));
        let ids: Vec<u32> = match rig.send(&packet) {
            Seen::Forward(packet) => vec![packet.id],
            Seen::Fragments(fragments) => fragments.iter().map(|ip| ip.id).collect(),
            other => panic!("{other:?}"),
        };
        let expected = if len > 10 { u32::from(i) + 1 } else { 0 };
        assert!(ids.iter().all(|&id| id == expected), "{ids:?}");
    }
}

fn one_hop() {
    let mut rig = rig();
    for hops in 2..=255 {
        let packet = rig.send(&v4().hops(hops).udp(b"x")).forwarded();
        assert_eq!(packet.hops, hops - 1);
        let packet = rig.send(&v6().hops(hops).udp(b"x")).forwarded();
        assert_eq!(packet.hops, hops - 1);
        let [first, _] = v4().hops(hops).udp(&payload(64)).cut(32, 7);
        assert_eq!(rig.send(&first).forwarded().hops, hops - 1);
        for fragment in rig.send(&v4().hops(hops).udp(&payload(1500))).fragments() {
            assert_eq!(fragment.hops, hops - 1);
        }
    }
    for hops in [0, 1] {
        let packet = v4().hops(hops).udp(b"x");
        rig.send(&packet).error(DropReason::HopLimit, 11, 0);
        let packet = v6().hops(hops).udp(b"x");
        rig.send(&packet).error(DropReason::HopLimit, 3, 0);
    }
    // Who asks the translator itself is not on the way through it.
    rig.send(&v4().hops(1).to(OWN4).echo_request(b"x")).echo();
    rig.send(&v6().hops(1).to(OWN6).echo_request(b"x")).echo();
}

fn errors_are_configurable() {
    let sent = |icmp_errors| {
        let mut rig = rig_of(Settings {
            icmp_errors,
            ..Settings::default()
        });
        let mut count = |packet: &dyn Fn(u8) -> _| {
            let errors = (0..=255).filter(|&n| match rig.send(&packet(n)) {
                Seen::Error(..) => true,
                Seen::Drop(_) => false,
                other => panic!("{other:?}"),
            });
            errors.count()
        };
        let expired_v4 = count(&|n| v4().hops(1).from(&format!("203.0.113.{n}")).udp(b"x"));
        let too_big_v6 = count(&|n| {
            v6().from(&format!("2001:db8:2::{n:x}:10"))
                .hops(1)
                .udp(b"x")
        });
        (expired_v4, too_big_v6)
    };
    assert_eq!(sent(IcmpErrors::Off), (0, 0));
    assert_eq!(sent(IcmpErrors::PerSecond(0)), (0, 0));
    let (v4, v6) = sent(IcmpErrors::PerSecond(100));
    assert_eq!(v4 + v6, 100);
    assert_eq!(sent(IcmpErrors::PerSecond(10_000)), (256, 256));
}

fn every_protocol_passes() {
    let mut rig = rig();
    let octets = payload(64);
    for protocol in 0..=255u8 {
        // Checked for their content by rows of their own.
        if matches!(protocol, 1 | 6 | 17 | 33 | 58 | 136) {
            continue;
        }
        let seen = rig.send(&v4().raw(protocol, &octets));
        // IPv6 extension headers; IGMP (X46-20).
        if matches!(protocol, 0 | 2 | 43 | 44 | 60) {
            seen.dropped(DropReason::Protocol);
        } else {
            assert_eq!(seen.forwarded().upper, octets, "protocol {protocol}");
        }
        if !matches!(protocol, 0 | 43 | 44 | 60) {
            let packet = rig.send(&v6().raw(protocol, &octets)).forwarded();
            assert_eq!(packet.upper, octets, "next header {protocol}");
            // Nothing at all behind the IP header.
            rig.send(&v6().raw(protocol, &[])).forwarded();
        }
    }
    // The other family's ICMP.
    rig.send(&v4().raw(58, &octets))
        .dropped(DropReason::Protocol);
    rig.send(&v6().raw(1, &octets))
        .dropped(DropReason::Protocol);
    for len in [0, 1, 99] {
        let data = payload(len);
        for packet in [v4(), v6()] {
            rig.send(&packet.clone().udp(&data)).forwarded();
            rig.send(&packet.clone().tcp(&data)).forwarded();
            rig.send(&packet.clone().udp_lite(&data)).forwarded();
            rig.send(&packet.clone().dccp(&data)).forwarded();
            rig.send(&packet.clone().echo_request(&data)).forwarded();
            rig.send(&packet.echo_reply(&data)).forwarded();
        }
    }
}

fn fragmented_icmp_is_dropped() {
    let mut rig = rig();
    for packet in [
        v4().echo_request(&payload(64)),
        v6().echo_request(&payload(64)),
        v4().echo_reply(&payload(64)),
        v6().echo_reply(&payload(64)),
        v4().to(OWN4).echo_request(&payload(64)),
        v6().to(OWN6).echo_request(&payload(64)),
        v4().hops(1).echo_request(&payload(64)),
        v6().hops(1).echo_request(&payload(64)),
    ] {
        for fragment in packet.cut(32, 7) {
            rig.send(&fragment).dropped(DropReason::FragmentedIcmp);
        }
    }
}

fn no_error_where_none_may_be() {
    let mut rig = rig();
    // Expired: what would be answered, and is.
    let expired4 = v4().hops(1);
    let expired6 = v6().hops(1);
    for packet in [
        expired4.clone().udp(b"x"),
        expired4.clone().tcp(b"x"),
        expired4.clone().raw(253, b"x"),
        expired4.clone().echo_request(b"x"),
        expired4.clone().echo_reply(b"x"),
        expired4.clone().udp(&payload(64)).cut(32, 7)[0].clone(),
    ] {
        rig.send(&packet).error(DropReason::HopLimit, 11, 0);
    }
    for packet in [
        expired6.clone().udp(b"x"),
        expired6.clone().tcp(b"x"),
        expired6.clone().raw(253, b"x"),
        expired6.clone().echo_request(b"x"),
        expired6.clone().echo_reply(b"x"),
        expired6.clone().options_header(60).echo_request(b"x"),
        expired6.clone().udp(&payload(64)).cut(32, 7)[0].clone(),
    ] {
        rig.send(&packet).error(DropReason::HopLimit, 3, 0);
    }

    let quoted4 = v4().from(CLIENT4).to(SERVER4).udp(b"x").build();
    let quoted6 = v6().from(SERVER6).to(CLIENT6).udp(b"x").build();
    for kind in (1..=255).filter(|&kind| kind != 8) {
        let packet = expired4.clone().icmp(kind, 0, [0; 4], &quoted4);
        assert!(rig.send(&packet).is_silent(), "about ICMPv4 type {kind}");
    }
    for kind in (0..=255).filter(|&kind| !matches!(kind, 128 | 129)) {
        for packet in [expired6.clone(), expired6.clone().options_header(60)] {
            let packet = packet.icmp(kind, 0, [0; 4], &quoted6);
            assert!(rig.send(&packet).is_silent(), "about ICMPv6 type {kind}");
        }
    }
    for cause in [expired4.clone(), v4().to(OWN4)] {
        let [_, second] = cause.udp(&payload(64)).cut(32, 7);
        assert!(rig.send(&second).is_silent(), "about a fragment");
    }
    for cause in [expired6.clone(), v6().to("2001:db8:99::1"), v6().routing(1)] {
        let [_, second] = cause.udp(&payload(64)).cut(32, 7);
        assert!(rig.send(&second).is_silent(), "about a fragment");
    }
    // Nor if it is behind headers for which a packet is refused.
    for (kind, answered) in [
        (1, false),
        (3, false),
        (135, false),
        (128, true),
        (129, true),
    ] {
        let options = [58, 0, 1, 4, 0, 0, 0, 0];
        let upper = [&options[..], &[kind, 0, 0, 0, 0, 0, 0, 0], &quoted6].concat();
        for packet in [v6().fragment(0, false, 7), v6().fragment(0, true, 7)] {
            let octets = packet.raw(60, &upper[..upper.len() & !7]);
            let seen = rig.send(&octets);
            assert_eq!(
                seen.is_silent(),
                !answered,
                "about ICMPv6 type {kind}: {seen:?}"
            );
        }
    }
    // A second fragment that looks like an echo request is not one.
    let second = expired6.clone().fragment(32, false, 7).raw(58, &[128; 32]);
    assert!(rig.send(&second).is_silent());
    for source in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1"] {
        let packet = expired4.clone().from(source).udp(b"x");
        assert!(rig.send(&packet).is_silent(), "to {source}");
    }
    for source in ["::", "::1", "ff02::1", "fe80::1", "2001:db8:64::e000:1"] {
        let packet = expired6.clone().from(source).udp(b"x");
        assert!(rig.send(&packet).is_silent(), "to {source}");
    }
    // Nor to itself.
    assert!(rig.send(&expired4.from(OWN4).udp(b"x")).is_silent());
    assert!(rig.send(&expired6.from(OWN6).udp(b"x")).is_silent());
    // Nor about octets that are no packet.
    let mut octets = v4().hops(1).udp(b"x").build();
    octets[10] ^= 1;
    rig.send_octets(&octets)
        .dropped(DropReason::Malformed(Malformed::HeaderChecksum));
}

fn the_prefix_maps() {
    // Nothing but a prefix: all that a stateless translator needs.
    let mut rig = rig_with(Settings::default(), map(Some(PREFIX), &[]));
    let packet = rig.send(&v4().udp(b"x")).forwarded();
    let expected = ("2001:db8:64::cb00:7109", "2001:db8:64::c633:640a");
    assert_eq!(packet.addresses(), (expected.0.into(), expected.1.into()));
    let packet = rig.send(&v6().from("2001:db8:64::c633:640a").udp(b"x"));
    let expected = (CLIENT4.to_owned(), SERVER4.to_owned());
    assert_eq!(packet.forwarded().addresses(), expected);
}

fn explicit_mappings_map() {
    // Nothing but explicit mappings.
    let eams = [(CLIENT4, CLIENT6), ("203.0.113.0/24", "2001:db8:5::/120")];
    let map = map(None, &eams);
    assert_eq!(
        map.to_v6(CLIENT4.parse().unwrap()).unwrap().via,
        Via::Explicit
    );
    let mut rig = rig_with(Settings::default(), map);
    let packet = rig.send(&v4().udp(b"x")).forwarded();
    let expected = ("2001:db8:5::9".to_owned(), CLIENT6.to_owned());
    assert_eq!(packet.addresses(), expected);
    let packet = rig.send(&v6().to("2001:db8:5::9").udp(b"x")).forwarded();
    let expected = (CLIENT4.to_owned(), SERVER4.to_owned());
    assert_eq!(packet.addresses(), expected);
}

/// More in the rows of RFC 6791.
fn untranslatable_sources_are_replaced() {
    let quoted = v6().from(SERVER6).to(CLIENT6).udp(b"x").build();
    let error = v6().from(ROUTER6).icmp(3, 0, [0; 4], &quoted);
    let packet = rig().send(&error).forwarded();
    assert_eq!(packet.addresses(), (OWN4.to_owned(), SERVER4.to_owned()));
}

/// Translated errors have no rate limit, whoever sends them: RFC 4890 is for the firewall, as the
/// man page says.
fn size_errors_are_never_filtered() {
    let settings = Settings {
        icmp_errors: IcmpErrors::Off,
        ..Settings::default()
    };
    let mut rig = rig_of(settings);
    let quoted6 = v6().from(SERVER6).to(CLIENT6).udp(&payload(1400)).build();
    let too_big = v6()
        .from(ROUTER6)
        .icmp(2, 0, [0, 0, 5, 100], &quoted6[..1232]);
    let quoted4 = v4()
        .from(CLIENT4)
        .to(SERVER4)
        .df()
        .udp(&payload(1400))
        .build();
    let needed = v4()
        .from(ROUTER4)
        .icmp(3, 4, [0, 0, 5, 100], &quoted4[..28]);
    for _ in 0..3000 {
        assert!(rig.send(&too_big).forwarded().icmp().is(3, 4));
        assert!(rig.send(&needed).forwarded().icmp().is(2, 0));
    }
    rig.advance(Duration::from_secs(1));
    rig.send(&too_big).forwarded();
}

/// RFC 4861 section 7.2.2: a packet to a next hop that does not answer is refused, "destination
/// unreachable", and so is its IPv4 counterpart.
#[test]
fn packets_to_a_next_hop_that_does_not_answer_are_refused() {
    let mut rig = rig();
    rig.set_unreachable();
    rig.send(&v4().udp(b"x")).error(DropReason::NextHop, 3, 1);
    rig.send(&v4().to(OWN4).echo_request(b"x")).echo();
}
