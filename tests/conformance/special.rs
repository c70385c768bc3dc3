//! What becomes of special-purpose addresses: each range of IANA's registries, in each direction,
//! and with each way to map an address. A table that was written without a look at that of the
//! code.

use std::net::{Ipv4Addr, Ipv6Addr};

use xlatd::{
    config::Config,
    translate::{DropReason, Settings},
};

use super::{
    packets::{Builder, CLIENT4, CLIENT6, OWN4, OWN6, v4, v6},
    rig::{Rig, Seen, rig_with},
};

/// What becomes of a packet: a letter each.
///
/// - `F`: it is translated.
/// - `E`: it is an echo request to the translator, and answered by it.
/// - `A`: it is refused, and its sender told by ICMP (`wkpf-strict`).
/// - `S`: it is dropped, and nobody told.
/// - `R` alone: tayga.conf is refused with such an address.
/// - `-` alone: there is no such thing.
type Cell = &'static str;

/// For each range of IPv4 addresses two of them, and what becomes of them where they are
///
/// 0. in a `map` of their own,
/// 1. in a `map` of half of all addresses,
/// 2. a lease of `dynamic-pool`,
/// 3. `ipv4-addr`,
///
/// as source and as destination of an IPv4 packet, as that of the IPv4 packet that an IPv6 packet
/// is translated to, in this order; and where they are
///
/// 4. in `prefix 64:ff9b::/96` with `wkpf-strict yes`,
/// 5. the same with `wkpf-strict no`,
/// 6. in another `prefix`,
///
/// then also as source of an ICMPv4 error, and as that of an ICMPv6 error.
#[rustfmt::skip]
const IPV4: &[(&str, [&str; 2], [Cell; 7])] = &[
    // Registry of special-purpose IPv4 addresses.
    ("this network, RFC 791", ["0.0.0.0", "0.255.255.255"],
        ["R", "SSSS", "R", "R", "SSSSFS", "SSSSFS", "SSSSFS"]),
    ("private use, RFC 1918", ["10.0.0.0", "10.255.255.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "AAAAFF", "FFFFFF", "FFFFFF"]),
    ("shared address space, RFC 6598", ["100.64.0.0", "100.127.255.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "AAAAFF", "FFFFFF", "FFFFFF"]),
    ("loopback, RFC 1122", ["127.0.0.0", "127.255.255.255"],
        ["R", "SSSS", "R", "R", "SSSSFS", "SSSSFS", "SSSSFS"]),
    ("link-local, RFC 3927", ["169.254.0.0", "169.254.255.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "SSSSFF", "SSSSFF", "SSSSFF"]),
    ("metadata services of clouds", ["169.254.169.254", "169.254.170.2"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "SSSSFF", "SSSSFF", "SSSSFF"]),
    ("private use, RFC 1918", ["172.16.0.0", "172.31.255.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "AAAAFF", "FFFFFF", "FFFFFF"]),
    ("IETF protocol assignments, RFC 6890", ["192.0.0.0", "192.0.0.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "FFFFFF", "FFFFFF", "FFFFFF"]),
    ("IPv4 service continuity, RFC 7335", ["192.0.0.1", "192.0.0.7"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "FFFFFF", "FFFFFF", "FFFFFF"]),
    ("dummy address, RFC 7600", ["192.0.0.8", "192.0.0.8"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "FFFFFF", "FFFFFF", "FFFFFF"]),
    ("PCP and TURN anycast, RFC 7723, RFC 8155", ["192.0.0.9", "192.0.0.10"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "FFFFFF", "FFFFFF", "FFFFFF"]),
    ("NAT64 and DNS64 discovery, RFC 7050", ["192.0.0.170", "192.0.0.171"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "FFFFFF", "FFFFFF", "FFFFFF"]),
    ("documentation, RFC 5737", ["192.0.2.0", "192.0.2.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "AAAAFF", "FFFFFF", "FFFFFF"]),
    ("AS112-v4, RFC 7535", ["192.31.196.0", "192.31.196.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "FFFFFF", "FFFFFF", "FFFFFF"]),
    ("AMT, RFC 7450", ["192.52.193.0", "192.52.193.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "FFFFFF", "FFFFFF", "FFFFFF"]),
    ("6to4 relay anycast, RFC 7526", ["192.88.99.0", "192.88.99.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "FFFFFF", "FFFFFF", "FFFFFF"]),
    ("6a44 relay anycast, RFC 6751", ["192.88.99.2", "192.88.99.2"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "FFFFFF", "FFFFFF", "FFFFFF"]),
    ("private use, RFC 1918", ["192.168.0.0", "192.168.254.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "AAAAFF", "FFFFFF", "FFFFFF"]),
    ("AS112 service, RFC 7534", ["192.175.48.0", "192.175.48.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "FFFFFF", "FFFFFF", "FFFFFF"]),
    ("benchmarking, RFC 2544", ["198.18.0.0", "198.19.255.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "AAAAFF", "FFFFFF", "FFFFFF"]),
    ("documentation, RFC 5737", ["198.51.100.0", "198.51.100.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "AAAAFF", "FFFFFF", "FFFFFF"]),
    ("documentation, RFC 5737", ["203.0.113.0", "203.0.113.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "AAAAFF", "FFFFFF", "FFFFFF"]),
    ("reserved, RFC 1112", ["240.0.0.0", "255.255.255.254"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "FFFFFF", "FFFFFF", "FFFFFF"]),
    ("limited broadcast, RFC 919", ["255.255.255.255", "255.255.255.255"],
        ["R", "SSSS", "-", "R", "SSSSFS", "SSSSFS", "SSSSFS"]),
    // Registry of multicast addresses.
    ("multicast, RFC 5771", ["224.0.0.0", "239.255.255.255"],
        ["R", "SSSS", "R", "R", "SSSSFS", "SSSSFS", "SSSSFS"]),
    // What is beside them.
    ("global", ["1.0.0.0", "9.255.255.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "FFFFFF", "FFFFFF", "FFFFFF"]),
    ("global", ["169.253.255.255", "169.255.0.0"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "FFFFFF", "FFFFFF", "FFFFFF"]),
    ("global", ["128.0.0.0", "223.255.255.255"],
        ["FFFF", "FFFF", "FFFF", "FEFE", "FFFFFF", "FFFFFF", "FFFFFF"]),
];

/// For each range of IPv6 addresses two of them, and what becomes of them where they are
///
/// 0. in a `map` of their own,
/// 1. in a `map` of the 2^121 addresses around them,
/// 2. `ipv6-addr`,
///
/// as source and as destination of an IPv6 packet, as that of the IPv6 packet that an IPv4 packet
/// is translated to, in this order; where they are
///
/// 3. a host that gets a lease by its first packet, as source of this packet, then the same;
/// 4. and whether tayga.conf is taken with a `prefix` of length 96 that they are in.
#[rustfmt::skip]
const IPV6: &[(&str, [&str; 2], [Cell; 5])] = &[
    // Registry of special-purpose IPv6 addresses.
    ("loopback, RFC 4291", ["::1", "::1"], ["R", "SSSS", "R", "S", "R"]),
    ("unspecified, RFC 4291", ["::", "::"], ["R", "SSSS", "R", "S", "R"]),
    ("IPv4-mapped, RFC 4291", ["::ffff:0.0.0.0", "::ffff:8.8.8.8"], ["R", "SSSS", "R", "S", "R"]),
    // As `ipv6-addr` only with wkpf-strict no.
    ("translation, RFC 6052", ["64:ff9b::1", "64:ff9b::ffff:ffff"],
        ["FFFF", "FFFF", "R", "FFFF", "F"]),
    ("translation, RFC 8215", ["64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"],
        ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("discard-only, RFC 6666", ["100::", "100::ffff:ffff:ffff:ffff"],
        ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("dummy prefix, RFC 9780", ["100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff"],
        ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("IETF protocol assignments, RFC 2928", ["2001:1ff::1", "2001:1ff:ffff::"],
        ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("Teredo, RFC 4380", ["2001::1", "2001:0:ffff::"], ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("PCP and TURN anycast, RFC 7723, RFC 8155", ["2001:1::1", "2001:1::2"],
        ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("SRP anycast, RFC 9665", ["2001:1::3", "2001:1::3"], ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("benchmarking, RFC 5180", ["2001:2::1", "2001:2:0:ffff::"],
        ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("AMT, RFC 7450", ["2001:3::1", "2001:3:ffff::"], ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("AS112-v6, RFC 7535", ["2001:4:112::1", "2001:4:112:ffff::"],
        ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("ORCHID, RFC 4843", ["2001:10::1", "2001:1f:ffff::"], ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("ORCHIDv2, RFC 7343", ["2001:20::1", "2001:2f:ffff::"],
        ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("DRIP, RFC 9374", ["2001:30::1", "2001:3f:ffff::"], ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("documentation, RFC 3849", ["2001:db8::1", "2001:db8:ffff::"],
        ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("6to4, RFC 3056", ["2002::1", "2002:ffff::"], ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("AS112 service, RFC 7534", ["2620:4f:8000::1", "2620:4f:8000:ffff::"],
        ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("documentation, RFC 9637", ["3fff::1", "3fff:fff:ffff::"],
        ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("segment routing, RFC 9602", ["5f00::1", "5f00:ffff::"],
        ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("unique-local, RFC 4193", ["fc00::1", "fdff:ffff::"], ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("link-local, RFC 4291", ["fe80::1", "febf:ffff::"], ["R", "SSSS", "R", "S", "R"]),
    // Registry of multicast addresses.
    ("multicast, RFC 4291", ["ff02::1", "ffff:ffff::"], ["R", "SSSS", "R", "S", "R"]),
    // What is beside them.
    ("IPv4-compatible, RFC 4291", ["::192.0.2.1", "::8.8.8.8"], ["R", "SSSS", "R", "S", "R"]),
    ("rest of ::/8", ["64:ff9a:ffff::", "ff:ffff::"], ["R", "SSSS", "R", "S", "R"]),
    ("site-local, RFC 3879", ["fec0::1", "feff:ffff::"], ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
    ("global", ["2a00::1", "3ffe:ffff::"], ["FFFF", "FFFF", "FEFE", "FFFF", "F"]),
];

/// An IPv6 host of whose address nothing is special.
const HOST6: &str = "2a00:db8::99";
/// The prefix where it is not what is looked at.
const OTHER: &str = "2001:db8:64::";

#[test]
fn ipv4_ranges() {
    for (name, addresses, cells) in IPV4 {
        for address in addresses {
            let found = [
                with_map(address),
                with_half(address),
                with_lease(address),
                with_own_v4(address),
                with_prefix(address, "64:ff9b::", "yes"),
                with_prefix(address, "64:ff9b::", "no"),
                with_prefix(address, OTHER, "yes"),
            ];
            for (way, (found, cell)) in found.iter().zip(cells).enumerate() {
                if *cell != "-" {
                    assert_eq!(found, cell, "{name}: {address}, way {way}");
                }
            }
        }
    }
}

#[test]
fn ipv6_ranges() {
    for (name, addresses, cells) in IPV6 {
        for address in addresses {
            let found = [
                with_map_v6(address),
                with_wide_map_v6(address),
                with_own_v6(address),
                with_lease_v6(address),
                with_prefix_v6(address),
            ];
            for (way, (found, cell)) in found.iter().zip(cells).enumerate() {
                assert_eq!(found, cell, "{name}: {address}, way {way}");
            }
        }
    }
}

fn with_map(address: &str) -> String {
    let Some(mut rig) = start(&format!("map {address} {HOST6}\n")) else {
        return "R".to_owned();
    };
    from_v4_then_v6(&mut rig, address, HOST6, OTHER)
}

fn with_half(address: &str) -> String {
    let bits = v4_bits(address);
    let half = Ipv4Addr::from_bits(bits & 1 << 31);
    let mut rig = start(&format!("map {half}/1 2a00:db8:1::/97\n")).unwrap();
    let host = Ipv4Addr::from_bits(bits & !(1 << 31));
    from_v4_then_v6(&mut rig, address, &format!("2a00:db8:1::{host}"), OTHER)
}

/// An address of the pool that `address` is in.
fn with_lease(address: &str) -> String {
    let network = Ipv4Addr::from_bits(v4_bits(address) & !0xff);
    let Some(mut rig) = start(&format!("dynamic-pool {network}/24\n")) else {
        return "R".to_owned();
    };
    let first = v6()
        .from(HOST6)
        .to(&peer6(address, OTHER))
        .echo_request(b"x");
    let lease = rig.send(&first).forwarded().source.to_string();
    assert_eq!(v4_bits(&lease) & !0xff, network.to_bits());
    from_v4_then_v6(&mut rig, &lease, HOST6, OTHER)
}

fn with_own_v4(address: &str) -> String {
    let config = format!("ipv4-addr {address}\nipv6-addr {OWN6}\n");
    let Some(mut rig) = start_as(&config, OTHER, "") else {
        return "R".to_owned();
    };
    let embedded = format!("{OTHER}{address}");
    [
        from_v4(&mut rig, address),
        to_v4(&mut rig, address),
        from_v6(&mut rig, OWN6, &peer6(address, OTHER)),
        to_v6(&mut rig, &embedded),
    ]
    .iter()
    .collect()
}

fn with_prefix(address: &str, prefix: &str, strict: &str) -> String {
    let config = format!("ipv4-addr {OWN4}\nipv6-addr {OWN6}\n");
    let more = format!("wkpf-strict {strict}\n");
    let mut rig = start_as(&config, prefix, &more).unwrap();
    let embedded = format!("{prefix}{address}");
    let mut found = from_v4_then_v6(&mut rig, address, &embedded, prefix);

    let peer = (peer4(address), peer6(address, prefix));
    let quoted = v4().from(CLIENT4).to(peer.0).udp(b"x").build();
    let error = v4().from(address).icmp(11, 0, [0; 4], &quoted);
    found.push(outcome(&mut rig, &error, (0, 0)));
    // From a router of the IPv6 side that calls itself so, about a packet to the client.
    let quoted = v6().from(&peer.1).to(CLIENT6).udp(b"x").build();
    let error = v6().from(&embedded).to(&peer.1).icmp(3, 0, [0; 4], &quoted);
    found.push(outcome(&mut rig, &error, (0, 0)));
    found
}

fn with_map_v6(address: &str) -> String {
    let Some(mut rig) = start(&format!("map 9.9.9.9 {address}\n")) else {
        return "R".to_owned();
    };
    from_v6_then_v4(&mut rig, "9.9.9.9", address)
}

/// The first 32 bits of the address are those of the IPv4 host, but for the first seven.
fn with_wide_map_v6(address: &str) -> String {
    let bits = address.parse::<Ipv6Addr>().unwrap().to_bits();
    let network = Ipv6Addr::from_bits(bits >> 121 << 121);
    let mut rig = start(&format!("map 16.0.0.0/7 {network}/7\n")).unwrap();
    let host = Ipv4Addr::from_bits(16 << 24 | (bits >> 96) as u32 & 0x01ff_ffff);
    from_v6_then_v4(&mut rig, &host.to_string(), address)
}

fn with_own_v6(address: &str) -> String {
    let config = format!("ipv4-addr {OWN4}\nipv6-addr {address}\n");
    let Some(mut rig) = start_as(&config, OTHER, "") else {
        return "R".to_owned();
    };
    from_v6_then_v4(&mut rig, OWN4, address)
}

fn with_lease_v6(address: &str) -> String {
    let mut rig = start("dynamic-pool 9.9.9.0/24\n").unwrap();
    let first = v6().from(address).to(&peer6("9.9.9.0", OTHER));
    match rig.send(&first.echo_request(b"x")) {
        Seen::Forward(packet) => {
            let lease = packet.source.to_string();
            from_v6_then_v4(&mut rig, &lease, address)
        }
        Seen::Drop(DropReason::IllegalAddress) => "S".to_owned(),
        other => format!("{other:?}"),
    }
}

fn with_prefix_v6(address: &str) -> String {
    let config = format!("ipv4-addr {OWN4}\nipv6-addr {OWN6}\n");
    let bits = address.parse::<Ipv6Addr>().unwrap().to_bits();
    let prefix = Ipv6Addr::from_bits(bits >> 32 << 32).to_string();
    match start_as(&config, &prefix, "") {
        Some(mut rig) => to_v4(&mut rig, CLIENT4).to_string(),
        None => "R".to_owned(),
    }
}

/// A translator with these lines of tayga.conf beside those of the client; `None` if it is refused.
fn start(more: &str) -> Option<Rig> {
    start_as(
        &format!("ipv4-addr {OWN4}\nipv6-addr {OWN6}\n"),
        OTHER,
        more,
    )
}

fn start_as(own: &str, prefix: &str, more: &str) -> Option<Rig> {
    let config = format!("tun-device n\n{own}prefix {prefix}/96\nmap {CLIENT4} {CLIENT6}\n{more}");
    let (config, _) = Config::read(config).ok()?;
    Some(rig_with(Settings::default(), config.address_map()))
}

/// A peer in IPv4 that is in the other half of all addresses, so that it never shares a mapping.
fn peer4(address: &str) -> &'static str {
    if v4_bits(address) >> 31 == 0 {
        "193.0.0.1"
    } else {
        "8.8.8.8"
    }
}

fn peer6(address: &str, prefix: &str) -> String {
    format!("{prefix}{}", peer4(address))
}

fn v4_bits(address: &str) -> u32 {
    address.parse::<Ipv4Addr>().unwrap().to_bits()
}

fn from_v4_then_v6(rig: &mut Rig, address4: &str, address6: &str, prefix: &str) -> String {
    [
        from_v4(rig, address4),
        to_v4(rig, address4),
        from_v6(rig, address6, &peer6(address4, prefix)),
        to_v6(rig, address6),
    ]
    .iter()
    .collect()
}

fn from_v6_then_v4(rig: &mut Rig, address4: &str, address6: &str) -> String {
    [
        from_v6(rig, address6, &peer6(address4, OTHER)),
        to_v6(rig, address6),
        from_v4(rig, address4),
        to_v4(rig, address4),
    ]
    .iter()
    .collect()
}

fn from_v4(rig: &mut Rig, source: &str) -> char {
    outcome(rig, &v4().from(source).echo_request(b"x"), (3, 10))
}

fn to_v4(rig: &mut Rig, destination: &str) -> char {
    let packet = v4().from(peer4(destination)).to(destination);
    outcome(rig, &packet.echo_request(b"x"), (3, 13))
}

fn from_v6(rig: &mut Rig, source: &str, peer: &str) -> char {
    let packet = v6().from(source).to(peer);
    outcome(rig, &packet.echo_request(b"x"), (1, 5))
}

fn to_v6(rig: &mut Rig, destination: &str) -> char {
    outcome(rig, &v6().to(destination).echo_request(b"x"), (1, 1))
}

/// The letter of what becomes of `packet`; `answer` is type and code of what a refusal is.
#[track_caller]
fn outcome(rig: &mut Rig, packet: &Builder, (kind, code): (u8, u8)) -> char {
    match rig.send(packet) {
        Seen::Forward(_) => 'F',
        Seen::Echo(_) => 'E',
        Seen::Drop(DropReason::IllegalAddress) => 'S',
        seen @ Seen::Error(..) => {
            seen.error(DropReason::WkpfStrict, kind, code);
            'A'
        }
        other => panic!("{packet:?}: {other:?}"),
    }
}
