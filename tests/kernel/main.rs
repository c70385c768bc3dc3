//! The daemon between real kernels: network namespaces, veth pairs and a TUN device.
//!
//! ```text
//!  client ------- gate6 ------- xlat ------- gate4 ------- server
//!  IPv6 only      IPv6          both         IPv4          IPv4 only
//!                               daemon, TUN "nat64"
//! ```
//!
//! Each test has namespaces of its own. They have no name and live by their descriptors alone, so
//! the kernel removes them and all that is in them when the test ends, however it ends. They need
//! root; without it a test is skipped, except where `REQUIRE_NETNS=1`: there, to skip is to fail.
//!
//! `OFFLOAD=off` runs xlatd with `offload no`: packets are the same from outside.
//!
//! `WORKERS=2` runs it with `workers 2`, on a device with several queues.
//!
//! `DAEMON=/usr/sbin/tayga` runs the same cases against TAYGA 0.9.2. [`TAYGA_DIFFERS`] lists the
//! cases in which it is known to behave otherwise, and those must then fail: the list stays true.

#![allow(clippy::unwrap_used, reason = "in a test, to panic is to fail")]

mod checksum;
mod clat;
mod clat_address;
mod clat_dns;
mod clat_firewall;
mod clat_flow;
mod clat_forwarding;
mod clat_host;
mod clat_leaks;
mod clat_links;
mod clat_neighbours;
mod clat_uplink;
mod clat_vpn;
mod container;
mod control;
mod data_dir;
mod detach;
mod device;
mod differential;
mod doctor;
mod doctor_clat;
mod doctor_filters;
mod explain;
mod failover;
mod fault;
mod flood;
mod forward;
mod fragment;
mod hairpin;
mod harness;
mod icmp;
mod log;
mod metrics;
mod notify;
mod offload;
mod own;
mod packet;
mod pool;
mod pool_choice;
mod privilege;
mod reload;
mod service;
mod socket;
mod special;
mod tayga;
mod trace;
mod tshark;
mod workers;
mod workers_life;

/// The cases in which TAYGA 0.9.2 does not do what is expected here, each with the document that
/// asks for it.
const TAYGA_DIFFERS: &[(&str, &str)] = &[
    (
        "checksum::checksum_that_becomes_zero_is_sent_as_ffff",
        "RFC 768: a UDP checksum that is calculated to be zero is sent as 0xffff; TAYGA sends zero, and the IPv6 host drops \
         the packet (RFC 8200 section 8.1)",
    ),
    (
        "device::attaches_to_a_multi_queue_device_of_ip",
        "no RFC, but Linux's tuntap.rst: a device with several queues is attached to with IFF_MULTI_QUEUE; TAYGA 0.9.2 \
         does not, and stops",
    ),
    (
        "device::device_that_vanishes_ends_the_daemon",
        "no RFC: TAYGA reads from a device that is gone without end, at the cost of a processor",
    ),
    (
        "device::mtu_of_the_device_is_followed",
        "RFC 7915 section 4.1: it is the MTU of the next hop that packets are measured by; TAYGA reads it once, at the start",
    ),
    (
        "forward::other_bits_of_an_embedding_address_are_ignored",
        "RFC 6052 section 2.3: the other bits of an address in the prefix are not looked at; TAYGA \
         drops packets to one in which they are not zero",
    ),
    (
        "fragment::df_is_set_above_1260_octets",
        "RFC 7915 section 5.1: DF is clear in IPv4 packets of up to 1260 octets; TAYGA sets it in most of them",
    ),
    (
        "hairpin::mapped_hosts_reach_each_other",
        "RFC 7757 section 4: hosts with explicit mappings reach each other through the translator; TAYGA drops their packets",
    ),
    (
        "hairpin::closed_port_refuses_a_mapped_host",
        "RFC 7757 section 4: so do the ICMP errors about such packets",
    ),
    (
        "icmp::error_about_an_echo_reply_reaches_the_server",
        "RFC 7915 section 5.3: only a quoted ICMP error stops the translation of an ICMP error; TAYGA drops those that \
         quote an Echo Reply too",
    ),
    (
        "icmp::extension_header_behind_the_fragment_header_is_refused",
        "RFC 7915 section 5.1.1: such packets are dropped; TAYGA passes the extension header off as an IPv4 protocol",
    ),
    (
        "icmp::frag_needed_quoting_8_octets_of_tcp_reaches_the_client",
        "RFC 792 lets a router quote 8 octets, RFC 7915 section 4.3 has the quoted packet translated as far as it goes; \
         TAYGA drops the message, and path MTU discovery fails",
    ),
    (
        "icmp::no_error_about_a_later_fragment",
        "RFC 1812 section 4.3.2.7: no ICMP error is sent about a fragment other than the first; TAYGA sends it",
    ),
    (
        "icmp::packet_too_big_quoting_8_octets_of_tcp_reaches_the_server",
        "RFC 7915 section 5.3 has the quoted packet translated as far as it goes; TAYGA drops the message",
    ),
    (
        "icmp::source_route_is_refused",
        "RFC 7915 section 4.1: a packet with an unexpired source route is discarded; TAYGA translates it without",
    ),
    (
        "icmp::traceroute_over_routers_without_mapping",
        "RFC 6791: an ICMPv6 error whose source has no IPv4 address gets one of the translator's; TAYGA 0.9.2 drops it",
    ),
];

/// The table names cases that exist, each with a reason; it is printed, to be read with
/// `--nocapture`.
#[test]
fn differences_name_their_cases() {
    let sources = [
        ("checksum", include_str!("checksum.rs")),
        ("device", include_str!("device.rs")),
        ("forward", include_str!("forward.rs")),
        ("fragment", include_str!("fragment.rs")),
        ("hairpin", include_str!("hairpin.rs")),
        ("icmp", include_str!("icmp.rs")),
        ("own", include_str!("own.rs")),
    ];
    for (case, reason) in TAYGA_DIFFERS {
        let (module, function) = case.split_once("::").unwrap();
        let (_, source) = sources.iter().find(|(name, _)| *name == module).unwrap();
        assert!(
            source.contains(&format!("\nfn {function}() {{\n    case(")),
            "{case}: there is no such case"
        );
        assert!(
            reason.contains("RFC"),
            "{case}: \"{reason}\" does not say which document explains it"
        );
        println!("{case}: {reason}");
    }
}
