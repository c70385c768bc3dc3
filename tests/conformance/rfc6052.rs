//! RFC 6052: IPv4 addresses in IPv6 prefixes.

use xlatd::{
    addr::{Nat64Prefix, Nat64PrefixError, Prefix6},
    translate::{DropReason, Settings},
};

use super::{
    packets::{
        CLIENT4, CLIENT6, OWN4, PEER4, PEER6, PREFIX, ROUTER6, SERVER4, SERVER6, canonical,
        payload, v4, v6,
    },
    rig::{map, map_with_strict, rig, rig_with},
    rows::rows,
};

rows! {
    a52_01 Must "RFC 6052 2.2" => six_lengths,
    a52_02 Must "RFC 6052 2.2" => reserved_octet,
    a52_03 Should "RFC 6052 2.2" => suffix_is_ignored,
    a52_04 Derived "RFC 6052 2.4" => vectors,
    a52_05 Must "RFC 6052 3.1" => well_known_prefix_is_for_global,
    a52_06 Should "RFC 6052 3.1" => hosts_keep_their_own_addresses,
    a52_07 Derived "RFC 8215" => local_use_prefix_is_free,
    a52_08 Should "RFC 6052 3.3" => one_prefix_for_both_roles,
    a52_09 Derived "RFC 6052 5.1-5.3" => spoofed_sources,
    a52_10 Derived "RFC 6052 4.1" => neutral_addresses,
}

/// 192.0.2.33 in each prefix.
const VECTORS: &[(&str, &str)] = &[
    ("2001:db8::/32", "2001:db8:c000:221::"),
    ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
    ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
    ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
    ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
    ("2001:db8:122:344::/96", "2001:db8:122:344::c000:221"),
];

/// A host that is in none of the prefixes.
const HOST: (&str, &str) = (CLIENT4, "2a00:db8::10");

fn six_lengths() {
    for length in 0..=128u8 {
        let prefix: Prefix6 = if length < 16 {
            format!("::/{length}").parse().unwrap()
        } else {
            format!("2000::/{length}").parse().unwrap()
        };
        let accepted = Nat64Prefix::new(prefix);
        if [32, 40, 48, 56, 64, 96].contains(&length) {
            let map = map(Some(&format!("2000::/{length}")), &[HOST]);
            let mut rig = rig_with(Settings::default(), map);
            let server = rig.send(&v4().udp(b"x")).forwarded().source.to_string();
            let answer = v6().from(HOST.1).to(&server).udp(b"x");
            let packet = rig.send(&answer).forwarded();
            assert_eq!(packet.addresses(), (HOST.0.into(), SERVER4.into()));
        } else {
            assert_eq!(accepted, Err(Nat64PrefixError::Length));
        }
    }
}

fn reserved_octet() {
    for (prefix, _) in VECTORS {
        let mut rig = rig_with(Settings::default(), map(Some(prefix), &[HOST]));
        let packet = rig.send(&v4().from("223.255.255.255").udp(b"x"));
        let std::net::IpAddr::V6(composed) = packet.forwarded().source else {
            panic!("not IPv6");
        };
        assert_eq!(composed.octets()[8], 0, "{prefix}");
        if prefix.ends_with("/96") {
            continue;
        }
        for bit in 0..8 {
            let mut octets = composed.octets();
            octets[8] |= 1 << bit;
            let reserved = std::net::Ipv6Addr::from(octets).to_string();
            // RFC 6052 section 2.3 does not look at the octet: it is the same host,
            let packet = v6().from(HOST.1).to(&reserved).udp(b"x");
            let packet = rig.send(&packet).forwarded();
            assert_eq!(
                packet.addresses(),
                (HOST.0.into(), "223.255.255.255".into())
            );
            let packet = v6().from(&reserved).to(HOST.1).udp(b"x");
            let packet = rig.send(&packet).forwarded();
            assert_eq!(
                packet.addresses(),
                ("223.255.255.255".into(), HOST.0.into())
            );
            // and so it is in what an error quotes.
            let quoted = v6().from(&reserved).to(HOST.1).udp(b"x").build();
            let error = v6().from(HOST.1).to(&reserved).icmp(1, 4, [0; 4], &quoted);
            let quoted = rig.send(&error).forwarded().icmp().quoted();
            assert_eq!(
                quoted.addresses(),
                ("223.255.255.255".into(), HOST.0.into())
            );
        }
    }
    // A host with a mapping is reached so by its peers, and nobody passes for it.
    let eams = [(CLIENT4, CLIENT6), (PEER4, PEER6)];
    let mut rig = rig_with(Settings::default(), map(Some("2001:db8:64::/64"), &eams));
    let peer = "2001:db8:64:0:8c6:3364:1400:0";
    let packet = rig.send(&v6().to(peer).udp(b"x")).forwarded();
    let client = "2001:db8:64:0:c6:3364:a00:0";
    assert_eq!(packet.addresses(), (canonical(client), PEER6.into()));
    let spoofed = v6().from(peer).to("2001:db8:64:0:cb:71:900:0").udp(b"x");
    rig.send(&spoofed).dropped(DropReason::SpoofedSource);
    // A /96 has those bits within; to set them is wrong, and worth a warning, but works.
    let bad: Prefix6 = "2001:db8:1:2:ff00::/96".parse().unwrap();
    assert!(Nat64Prefix::new(bad).unwrap().has_reserved_bits());
    let map = map(Some("2001:db8:1:2:ff00::/96"), &[HOST]);
    let mut rig = rig_with(Settings::default(), map);
    let host = "2001:db8:1:2:ff00:0:cb00:7109";
    let packet = rig.send(&v6().from(HOST.1).to(host).udp(b"x")).forwarded();
    assert_eq!(packet.addresses(), (HOST.0.into(), SERVER4.into()));
    let packet = rig.send(&v4().udp(b"x")).forwarded();
    assert_eq!(packet.addresses(), (host.into(), HOST.1.into()));
    let good: Prefix6 = "2001:db8:1:2:ff:ffff::/96".parse().unwrap();
    assert!(!Nat64Prefix::new(good).unwrap().has_reserved_bits());
}

fn suffix_is_ignored() {
    for (prefix, server) in VECTORS {
        let mut rig = rig_with(Settings::default(), map(Some(prefix), &[HOST]));
        let length: u32 = prefix.rsplit_once('/').unwrap().1.parse().unwrap();
        // Prefix, 32 bits and the reserved octet; a /96 has no suffix.
        let suffix_len = if length == 96 {
            0
        } else {
            128 - (length + 32 + 8)
        };
        let server: std::net::Ipv6Addr = server.parse().unwrap();
        for bit in 0..suffix_len {
            let with_suffix = std::net::Ipv6Addr::from(u128::from(server) | 1 << bit).to_string();
            let packet = v6().from(HOST.1).to(&with_suffix).udp(&payload(20));
            let packet = rig.send(&packet).forwarded();
            assert_eq!(packet.addresses(), (HOST.0.into(), "192.0.2.33".into()));
        }
        // And sent as zero.
        let sent = rig.send(&v4().from("192.0.2.33").udp(b"x")).forwarded();
        assert_eq!(sent.source, std::net::IpAddr::V6(server));
    }
}

fn vectors() {
    let well_known = [("64:ff9b::/96", "64:ff9b::c000:221")];
    for (prefix, host) in VECTORS.iter().chain(&well_known) {
        let map = map_with_strict(Some(prefix), &[HOST], false);
        let mut rig = rig_with(Settings::default(), map);
        for packet in [v4().udp(b"x"), v4().tcp(b"x"), v4().echo_request(b"x")] {
            let packet = rig.send(&packet.from("192.0.2.33")).forwarded();
            assert_eq!(packet.addresses(), (canonical(host), HOST.1.into()));
        }
        for packet in [v6().udp(b"x"), v6().tcp(b"x"), v6().echo_request(b"x")] {
            let packet = rig.send(&packet.from(HOST.1).to(host)).forwarded();
            assert_eq!(packet.addresses(), (HOST.0.into(), "192.0.2.33".into()));
        }
    }
}

fn well_known_prefix_is_for_global() {
    let hosts = [
        ("10.0.0.1", "64:ff9b::a00:1"),
        ("100.64.0.1", "64:ff9b::6440:1"),
        ("172.31.255.255", "64:ff9b::ac1f:ffff"),
        ("192.0.2.1", "64:ff9b::c000:201"),
        ("192.168.0.1", "64:ff9b::c0a8:1"),
        ("198.19.255.255", "64:ff9b::c613:ffff"),
        ("198.51.100.1", "64:ff9b::c633:6401"),
        ("203.0.113.9", "64:ff9b::cb00:7109"),
    ];
    let server = ("8.8.8.8", "64:ff9b::808:808");
    let eams = [(CLIENT4, CLIENT6)];
    let strict = map_with_strict(Some("64:ff9b::/96"), &eams, true);
    let mut strict = rig_with(Settings::default(), strict);
    let lax = map_with_strict(Some("64:ff9b::/96"), &eams, false);
    let mut lax = rig_with(Settings::default(), lax);
    for (host4, host6) in hosts {
        let to = v4().from(server.0).to(host4).udp(b"x");
        let from = v4().from(host4).udp(b"x");
        strict.send(&to).error(DropReason::WkpfStrict, 3, 13);
        strict.send(&from).error(DropReason::WkpfStrict, 3, 10);
        lax.send(&to).forwarded();
        assert_eq!(lax.send(&from).forwarded().source.to_string(), host6);
        let to = v6().to(host6).udp(b"x");
        let from = v6().from(host6).to(server.1).udp(b"x");
        strict.send(&to).error(DropReason::WkpfStrict, 1, 1);
        strict.send(&from).error(DropReason::WkpfStrict, 1, 5);
        assert_eq!(lax.send(&to).forwarded().destination.to_string(), host4);
        lax.send(&from).forwarded();
    }
    // What else is not global passes, as it does in tayga.
    for host in ["8.8.8.8", "192.0.0.1", "192.88.99.1", "240.0.0.1"] {
        let packet = strict.send(&v4().from(host).udp(b"x")).forwarded();
        assert_eq!(packet.destination.to_string(), CLIENT6);
    }
    // But for link-local addresses, which no router forwards (RFC 3927 section 7).
    for rig in [&mut strict, &mut lax] {
        for packet in [
            v4().from("169.254.169.254"),
            v4().from(server.0).to("169.254.169.254"),
            v6().to("64:ff9b::a9fe:a9fe"),
            v6().from("64:ff9b::a9fe:a9fe").to(server.1),
        ] {
            rig.send(&packet.udp(b"x"))
                .dropped(DropReason::IllegalAddress);
        }
    }
}

/// The IPv4 address of a host comes from a mapping: the host needs no address in the well-known
/// prefix.
fn hosts_keep_their_own_addresses() {
    let map = map_with_strict(Some("64:ff9b::/96"), &[("192.88.99.7", CLIENT6)], true);
    let mut rig = rig_with(Settings::default(), map);
    let packet = rig.send(&v4().from("8.8.8.8").to("192.88.99.7").udp(b"x"));
    let packet = packet.forwarded();
    assert_eq!(
        packet.addresses(),
        ("64:ff9b::808:808".into(), CLIENT6.into())
    );
    let packet = rig.send(&v6().to("64:ff9b::808:808").udp(b"x")).forwarded();
    assert_eq!(packet.addresses(), ("192.88.99.7".into(), "8.8.8.8".into()));
    // Another host cannot take it by way of the prefix.
    let packet = v6().from("64:ff9b::c058:6307").to("64:ff9b::808:808");
    rig.send(&packet.udp(b"x"))
        .dropped(DropReason::SpoofedSource);
}

fn local_use_prefix_is_free() {
    for (prefix, host) in [
        ("64:ff9b:1::/96", "64:ff9b:1::a00:1"),
        ("64:ff9b:1::/48", "64:ff9b:1:a00:0:100::"),
        ("64:ff9b:1:fffe::/64", "64:ff9b:1:fffe:a:0:100::"),
        ("64:ff9b:0:0:0:1::/96", "64:ff9b::1:a00:1"),
        (PREFIX, "2001:db8:64::a00:1"),
    ] {
        let map = map_with_strict(Some(prefix), &[(CLIENT4, CLIENT6)], true);
        let mut rig = rig_with(Settings::default(), map);
        let packet = rig.send(&v4().from("10.0.0.1").udp(b"x")).forwarded();
        assert_eq!(packet.addresses(), (canonical(host), CLIENT6.into()));
        let packet = rig.send(&v6().to(host).udp(b"x")).forwarded();
        assert_eq!(packet.addresses(), (CLIENT4.into(), "10.0.0.1".into()));
    }
}

fn one_prefix_for_both_roles() {
    let mut rig = rig_with(Settings::default(), map(Some(PREFIX), &[]));
    // An IPv4-translatable host and an IPv4-converted one, there and back.
    let host = "2001:db8:64::c633:6407";
    let packet = rig.send(&v6().from(host).udp(b"x")).forwarded();
    assert_eq!(packet.addresses(), ("198.51.100.7".into(), SERVER4.into()));
    let packet = rig.send(&v4().to("198.51.100.7").udp(b"x")).forwarded();
    assert_eq!(packet.addresses(), (SERVER6.into(), host.into()));
}

fn spoofed_sources() {
    let mut rig = rig();
    for source in [
        "2001:db8:64::7f00:1",    // 127.0.0.1
        "2001:db8:64::",          // 0.0.0.0
        "2001:db8:64::e000:1",    // 224.0.0.1
        "2001:db8:64::ffff:ffff", // 255.255.255.255
    ] {
        for packet in [v6(), v6().hops(1)] {
            rig.send(&packet.from(source).udp(b"x"))
                .dropped(DropReason::IllegalAddress);
        }
    }
    // The client's address, by way of the prefix: as sender of anything, errors included.
    let client = "2001:db8:64::c633:640a";
    rig.send(&v6().from(client).udp(b"x"))
        .dropped(DropReason::SpoofedSource);
    let quoted = v6().from(SERVER6).to(CLIENT6).udp(b"x").build();
    rig.send(&v6().from(client).icmp(1, 4, [0; 4], &quoted))
        .dropped(DropReason::SpoofedSource);
    // Not so one that nobody owns.
    rig.send(&v6().from("2001:db8:64::c633:640b").udp(b"x"))
        .forwarded();
    // Errors from anywhere else are heard, but not under a name of the sender's choice.
    let quoted = v6().from(SERVER6).to(CLIENT6).udp(b"x").build();
    for source in ["2001:db8:64::7f00:1", "::1", "fe80::1", "ff02::1"] {
        rig.send(&v6().from(source).icmp(1, 0, [0; 4], &quoted))
            .dropped(DropReason::IllegalAddress);
    }
    let error = rig.send(&v6().from(ROUTER6).icmp(1, 0, [0; 4], &quoted));
    assert_eq!(error.forwarded().source.to_string(), OWN4);
}

/// Addresses whose sums are those of their counterparts: no checksum changes.
fn neutral_addresses() {
    // 2001:db8:64:: sums to 0x2e1d; 0xd1e2 more is 0xffff, which is zero.
    let prefix = "2001:db8:64:d1e2::/96";
    // 198.51.100.10 sums to 0x2a3e, and so does the client's address.
    let client = "2001:db8:2:0:fc82::";
    let sum =
        |text: &str| super::checker::sum(&text.parse::<std::net::Ipv6Addr>().unwrap().octets());
    assert_eq!(sum("2001:db8:64:d1e2::"), 0xffff);
    assert_eq!(
        sum(client),
        super::checker::sum(&CLIENT4.parse::<std::net::Ipv4Addr>().unwrap().octets())
    );
    let mut rig = rig_with(Settings::default(), map(Some(prefix), &[(CLIENT4, client)]));
    for (packet, at) in [
        (v4().udp(&payload(33)), 6),
        (v4().tcp(&payload(33)), 16),
        (v4().dccp(&payload(33)), 6),
    ] {
        let translated = rig.send(&packet).forwarded().upper;
        assert_eq!(translated[at..at + 2], packet.upper()[at..at + 2]);
    }
}
