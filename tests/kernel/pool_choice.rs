//! The address of the dynamic pool that a host gets: the same as from Debian's tayga.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use crate::{
    differential::{Chance, Node, PREFIX},
    harness::{tayga, xlatd_case},
    packet::{EXPERIMENT, Ipv4, Ipv6},
};

/// What a host gets with its first packet, and who is reached by what is sent there.
type Lent = (Ipv4Addr, Option<Ipv6Addr>);

/// Hosts of one pool, as far as it has addresses.
const HOSTS: usize = 240;
/// A server below the NAT64 prefix.
const SERVER: &str = "2001:db8:64::198.51.100.7";

/// Lengths of pools: those in use, and some on either side of them.
const LENGTHS: [u8; 18] = [
    8, 9, 10, 12, 13, 14, 16, 18, 20, 21, 22, 23, 24, 25, 26, 28, 30, 31,
];

/// A host of 2001:db8::/32, its last words in the byte order of this machine: tayga adds up words
/// as the machine reads them.
fn host(words: [u32; 3]) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    for (octets, word) in octets[4..].chunks_mut(4).zip(words) {
        octets.copy_from_slice(&word.to_ne_bytes());
    }
    octets.into()
}

/// Hosts of many kinds, none twice.
fn hosts(length: u8, chance: &mut Chance) -> Vec<Ipv6Addr> {
    // The largest host part. Folded with end-around carry, a sum is its remainder modulo this.
    let ones = u32::MAX >> length;
    let first = u32::from_ne_bytes([0x20, 0x01, 0x0d, 0xb8]) % ones;
    let mut hosts = Vec::new();
    for number in 0_u32.. {
        if hosts.len() >= HOSTS {
            break;
        }
        let host = match number % 6 {
            // Neighbours.
            0 => Ipv6Addr::from_bits(0x2001_0db8_0001_u128 << 80 | u128::from(number)),
            // Privacy extensions (RFC 8981).
            1 => Ipv6Addr::from_bits(0x2001_0db8_0001_u128 << 80 | u128::from(chance.next())),
            // Hosts of many networks.
            2 => {
                let network = u128::from(chance.next() >> 16 | 0x2a02 << 48);
                Ipv6Addr::from_bits(network << 64 | u128::from(chance.next()))
            }
            // About half of these sums wrap around in 32 bits.
            3 => host([(); 3].map(|()| u32::MAX - chance.below(ones.into()) as u32)),
            // All prefer the last address.
            4 => match u64::from(ones - first) + u64::from(number) * u64::from(ones) {
                last @ ..=0xffff_ffff => host([0, 0, last as u32]),
                _ => continue,
            },
            // The sum wraps around to zero: both prefer the network address.
            _ if number == 5 => host([0, 0, first.wrapping_neg()]),
            _ if number == 11 => host([0, first.wrapping_neg(), 0]),
            _ => host([0, 0, number]),
        };
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// The address that each host gets; `None` where it gets none.
fn addresses(node: &mut Node, hosts: &[Ipv6Addr]) -> Vec<Option<Lent>> {
    let mut packet = Ipv6::new("::", SERVER, EXPERIMENT, vec![0; 8]);
    let mut answer = Ipv4::new("198.51.100.7", "0.0.0.0", EXPERIMENT, vec![0; 8]);
    hosts
        .iter()
        .map(|&host| {
            packet.source = host;
            let packets = node.translate(&packet.octets());
            let translated = packets.iter().find_map(|octets| Ipv4::parse(octets))?;
            answer.destination = translated.source;
            let packets = node.translate(&answer.octets());
            let reached = packets.iter().find_map(|octets| Ipv6::parse(octets));
            Some((translated.source, reached.map(|packet| packet.destination)))
        })
        .collect()
}

/// Runs both with the same pool: each host must get the same address from both, and be reached
/// there.
fn compare(tayga: &Path, config: &str, hosts: &[Ipv6Addr]) {
    let ours = addresses(&mut Node::xlatd(PREFIX, config), hosts);
    let theirs = addresses(&mut Node::start(tayga, PREFIX, config), hosts);
    let differ: Vec<_> = (hosts.iter().zip(ours.iter().zip(&theirs)))
        .filter(|(host, (ours, theirs))| {
            let reached = ours.and_then(|(_, reached)| reached);
            ours != theirs || reached != Some(**host)
        })
        .map(|(host, (ours, theirs))| format!("{host}: {ours:?}, from tayga {theirs:?}"))
        .collect();
    assert!(
        differ.is_empty(),
        "{config}{} of {} hosts:\n{}",
        differ.len(),
        hosts.len(),
        differ.join("\n")
    );
}

/// At every pool length, with hosts that prefer the same address and with full pools.
#[test]
fn each_host_gets_the_address_that_tayga_gives_it() {
    xlatd_case(|_| {
        let Some(tayga) = tayga() else { return };
        let mut chance = Chance(0x0123_4567_89ab_cdef);
        for length in LENGTHS {
            let mut hosts = hosts(length, &mut chance);
            // All addresses but the network address.
            hosts.truncate((u32::MAX >> length) as usize);
            let network = if length < 16 {
                "44.0.0.0"
            } else {
                "100.64.0.0"
            };
            compare(
                &tayga,
                &format!("dynamic-pool {network}/{length}\n"),
                &hosts,
            );
        }
    });
}

/// Addresses of `ipv4-addr` and `map` are passed over as by tayga.
#[test]
fn reserved_addresses_are_passed_over_as_by_tayga() {
    const WIDE: &str = "map 192.168.252.64/26 2001:db8:bbbb::/122\n\
                        map 192.168.255.128/25 2001:db8:bbbc::/121\n";
    xlatd_case(|_| {
        let Some(tayga) = tayga() else { return };
        let mut chance = Chance(0xfedc_ba98_7654_3210);
        // And so many addresses are left.
        for (pool, maps, left) in [
            ("192.168.255.0/24", "", 254), // ipv4-addr is in it
            (
                "192.168.255.0/24",
                "map 192.168.255.255 2001:db8:bbbb::1\n",
                253,
            ),
            ("192.168.252.0/22", WIDE, 830),
            (
                "192.168.255.0/28",
                "map 192.168.255.2/31 2001:db8:bbbb::2/127\n",
                12,
            ),
            ("10.0.0.0/26", "", 23), // 40 maps, which every node has
            (
                "192.168.255.0/24",
                "map 192.168.0.0/16 2001:db8:bbbb::/112\n",
                254,
            ),
        ] {
            let (_, length) = pool.rsplit_once('/').unwrap();
            let mut hosts = hosts(length.parse().unwrap(), &mut chance);
            hosts.truncate(left);
            compare(&tayga, &format!("dynamic-pool {pool}\n{maps}"), &hosts);
        }
    });
}
