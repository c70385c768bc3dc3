//! Special-purpose addresses, by xlatd and by TAYGA 0.9.2.

use std::net::Ipv4Addr;

use crate::{
    differential::{Node, Read},
    harness::{tayga, xlatd_case},
    packet::{EXPERIMENT, ICMP, Ipv4, Ipv6, sum},
};

/// A host that has a map, of those of [`Node`], and its peer in IPv4.
const HOST4: &str = "10.0.0.1";
const HOST6: &str = "2001:db8:aaaa::1";
const PEER4: &str = "8.8.8.8";

// Why they differ.
const SILENT: &str = "RFC 3927 section 7, RFC 7915 section 5.1: nobody is told, as by later taygas";
const ERRORS: &str = "RFC 7915 section 4.1: an ICMP error is translated, whatever its source is";
const THIS_NETWORK: &str = "RFC 1122 section 3.2.1.3: no host has such an address";
const SHARED: &str = "RFC 6598: not global; later taygas know it";
const RESERVED: &str = "in use inside of networks; later taygas pass it";

/// What becomes of packets whose IPv4 address is such a one: `F`, it is translated; `A`, its sender
/// is told by ICMP that it is not; `S`, nobody is told; `-`, the kernel does not send it.
///
/// Two letters for xlatd and for TAYGA 0.9.2: with the address as source and as destination in
/// IPv4, the same in IPv6 in the prefix, and as source of an ICMPv4 error; first in a prefix of
/// one's own, then in the well-known one.
#[rustfmt::skip]
const RANGES: &[(&str, &str, &str, &[&str])] = &[
    ("0.1.2.3", "SF -- SF SF FF", "SF -- SF SF FF", &[THIS_NETWORK]),
    ("10.255.0.1", "FF FF FF FF FF", "AA AA AA AA FS", &[ERRORS]),
    ("100.64.0.1", "FF FF FF FF FF", "AF AF AF AF FF", &[SHARED]),
    ("127.0.0.1", "SS -- SA SA FS", "SS -- SA SA FS", &[SILENT, ERRORS]),
    ("169.254.0.1", "SS SS SA SA FS", "SS SS SA SA FS", &[SILENT, ERRORS]),
    ("169.254.169.254", "SS SS SA SA FS", "SS SS SA SA FS", &[SILENT, ERRORS]),
    ("172.16.0.1", "FF FF FF FF FF", "AA AA AA AA FS", &[ERRORS]),
    ("192.0.0.1", "FF FF FF FF FF", "FF FF FF FF FF", &[]),
    ("192.0.2.1", "FF FF FF FF FF", "AA AA AA AA FS", &[ERRORS]),
    ("192.31.196.1", "FF FF FF FF FF", "FF FF FF FF FF", &[]),
    ("192.52.193.1", "FF FF FF FF FF", "FF FF FF FF FF", &[]),
    ("192.88.99.1", "FF FF FF FF FF", "FF FF FF FF FF", &[]),
    ("192.168.0.1", "FF FF FF FF FF", "AA AA AA AA FS", &[ERRORS]),
    ("192.175.48.1", "FF FF FF FF FF", "FF FF FF FF FF", &[]),
    ("198.18.0.1", "FF FF FF FF FF", "AA AA AA AA FS", &[ERRORS]),
    ("198.51.100.1", "FF FF FF FF FF", "AA AA AA AA FS", &[ERRORS]),
    ("203.0.113.1", "FF FF FF FF FF", "AA AA AA AA FS", &[ERRORS]),
    ("224.0.0.1", "SS -- SA SA FS", "SS -- SA SA FS", &[SILENT, ERRORS]),
    ("240.0.0.1", "FS FS FA FA FS", "FS FS FA FA FS", &[RESERVED]),
    ("255.255.255.254", "FS FS FA FA FS", "FS FS FA FA FS", &[RESERVED]),
    ("255.255.255.255", "SS -- SA SA FS", "SS -- SA SA FS", &[SILENT, ERRORS]),
    ("9.9.9.9", "FF FF FF FF FF", "FF FF FF FF FF", &[]),
];

#[test]
fn special_addresses_as_tayga() {
    xlatd_case(|_| {
        let Some(tayga) = tayga() else {
            return;
        };
        let mut found = [Vec::new(), Vec::new()];
        for (prefix, found) in ["2001:db8:64::", "64:ff9b::"].into_iter().zip(&mut found) {
            let with = (prefix, PEER4);
            let mut ours = Node::xlatd(with, "");
            let mut theirs = Node::start(&tayga, with, "");
            for (address, ..) in RANGES {
                let both = packets(address, prefix).map(|packet| match packet {
                    Some(packet) => [&mut ours, &mut theirs].map(|node| outcome(node, &packet)),
                    None => ['-'; 2],
                });
                found.push(both.map(String::from_iter).join(" "));
            }
        }
        let [own, well_known] = found;
        for (row, found) in RANGES.iter().zip(own.iter().zip(&well_known)) {
            let (address, own, well_known, reasons) = *row;
            println!("{address} {found:?} {reasons:?}");
            assert_eq!(
                (found.0.as_str(), found.1.as_str()),
                (own, well_known),
                "{address}"
            );
            let differs = |both: &str| both.split(' ').any(|both| both[..1] != both[1..]);
            assert_eq!(
                differs(own) || differs(well_known),
                !reasons.is_empty(),
                "{address}"
            );
        }
    });
}

fn packets(address: &str, prefix: &str) -> [Option<Vec<u8>>; 5] {
    let payload = || b"special".to_vec();
    let embedded = format!("{prefix}{address}");
    let v4: Ipv4Addr = address.parse().unwrap();
    let has_route = !matches!(v4.octets()[0], 0 | 127 | 224..=239) && !v4.is_broadcast();
    let quoted = Ipv4::new(HOST4, PEER4, EXPERIMENT, payload());
    let mut expired = [&[11, 0, 0, 0, 0, 0, 0, 0][..], &quoted.octets()].concat();
    let checksum = !sum(&expired);
    expired[2..4].copy_from_slice(&checksum.to_be_bytes());
    [
        Some(Ipv4::new(address, HOST4, EXPERIMENT, payload()).octets()),
        has_route.then(|| Ipv4::new(PEER4, address, EXPERIMENT, payload()).octets()),
        Some(Ipv6::new(&embedded, HOST6, EXPERIMENT, payload()).octets()),
        Some(Ipv6::new(HOST6, &embedded, EXPERIMENT, payload()).octets()),
        Some(Ipv4::new(address, HOST4, ICMP, expired).octets()),
    ]
}

fn outcome(node: &mut Node, packet: &[u8]) -> char {
    match &node.translate(packet)[..] {
        [] => 'S',
        // An error that is translated may also get the translator for its source.
        [one] if Read::of(one).is_reply() && !Read::of(packet).is_error() => 'A',
        [_] => 'F',
        _ => '?',
    }
}
