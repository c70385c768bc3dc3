//! `clat-v6-addr`: the IPv6 address that a CLAT's packets leave with.

use std::{
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

use nix::sys::{
    signal::Signal,
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, bind, sendto,
        setsockopt, socket, sockopt::Ipv6Ttl,
    },
};

use crate::{
    clat::{ClatNet, PREFIX, address_behind, advertisement, clat_case, host_address},
    harness::{Daemon, uninterrupted, wait_for},
    packet::Ipv6,
    socket::{Capture, Fragmentation, udp_socket},
};

/// A router's address on the link.
const ROUTER: &str = "2001:db8:6::1";

/// The CLAT, when IPv4 works, and its address.
fn start(net: &ClatNet, config: &str) -> (Daemon, String) {
    let daemon = net.start_up(config);
    let address = address_behind(net);
    (daemon, address)
}

/// Flushes what each side of the link knows of the other.
fn forget_neighbours(net: &ClatNet) {
    net.host.ip("neigh flush dev eth0");
    net.router.ip("neigh flush dev host");
}

/// RFC 6877 section 6.3: packets leave with the CLAT address, which no device has and no program
/// can use. Neighbours that do not know it find it, and those that check it reach it.
#[test]
fn packets_leave_with_the_clat_address() {
    clat_case(|net| {
        let (_daemon, address) = start(net, "");
        assert!(address.starts_with("2001:db8:6:0:"), "{address}");
        assert_ne!(address, host_address(net));
        let addresses = net.host.run("ip -6 address");
        assert!(!addresses.contains(&address), "{addresses}");
        let at_router = Capture::start(&net.router);
        assert!(net.pings());
        let ours: Ipv6Addr = address.parse().unwrap();
        let from_us = |octets: &[u8]| Ipv6::parse(octets).filter(|packet| packet.source == ours);
        assert!(at_router.next(from_us).is_some());

        forget_neighbours(net);
        assert!(net.pings(), "cold caches");
        // A gateway with a global address.
        net.host
            .ip(&format!("route add default via {ROUTER} dev eth0 metric 1"));
        forget_neighbours(net);
        net.wait_for_ipv4();
        net.host.ip(&format!(
            "route delete default via {ROUTER} dev eth0 metric 1"
        ));

        // The router asks again and again, by unicast alone (RFC 4861 section 7.3.3).
        let set = |name, value| net.router.sysctl(&format!("ipv6/neigh/host/{name}"), value);
        set("base_reachable_time_ms", "100");
        set("delay_first_probe_time", "0");
        set("retrans_time_ms", "200");
        set("ucast_solicit", "10"); // for a machine that is busy
        forget_neighbours(net);
        assert!(net.pings());
        set("mcast_solicit", "0");
        for round in 0..20 {
            assert!(net.pings(), "after {round} rounds");
            thread::sleep(Duration::from_millis(200));
        }
    });
}

/// RFC 4861 section 7.2.2: a router may ask from any address of its own.
#[test]
fn a_router_may_ask_from_a_global_address() {
    clat_case(|net| {
        let (_daemon, address) = start(net, "");
        let (source, target): (Ipv6Addr, Ipv6Addr) =
            (ROUTER.parse().unwrap(), address.parse().unwrap());
        let socket = net.router.inside(|| {
            let flags = SockFlag::SOCK_CLOEXEC;
            let protocol = SockProtocol::IcmpV6;
            socket(AddressFamily::Inet6, SockType::Raw, flags, protocol).unwrap()
        });
        let from = SockaddrIn6::from(SocketAddrV6::new(source, 0, 0, 0));
        bind(socket.as_raw_fd(), &from).unwrap();
        setsockopt(&socket, Ipv6Ttl, &255).unwrap();
        let mut solicitation = vec![135, 0, 0, 0, 0, 0, 0, 0];
        solicitation.extend(target.octets());
        let at_router = Capture::start(&net.router);
        let to = SockaddrIn6::from(SocketAddrV6::new(target, 0, 0, 0));
        let _ = sendto(socket.as_raw_fd(), &solicitation, &to, MsgFlags::empty());
        let advertised = at_router.ipv6("a Neighbour Advertisement", |packet| {
            packet.destination == source
                && packet.payload.first() == Some(&136)
                && packet.payload.get(8..24) == Some(&target.octets())
        });
        assert_eq!(advertised.hop_limit, 255);
        assert_eq!(advertised.payload[4], 0x60, "solicited, override");
    });
}

/// A network that drops what comes from any address but the host's, behind the router that answers
/// the test, is noticed by what does not come back; then the host's address serves, and stays.
#[test]
fn an_address_that_is_filtered_behind_the_router_is_given_up() {
    filtered_behind_the_router("drop");
}

/// The same where the router says so: its errors are no answers of the NAT64.
#[test]
fn an_address_that_is_rejected_behind_the_router_is_given_up() {
    filtered_behind_the_router("reject with icmpv6 type admin-prohibited");
}

fn filtered_behind_the_router(verdict: &str) {
    clat_case(|net| {
        net.advertise(&[]);
        net.wait_for_ipv6();
        let host = host_address(net);
        net.router.run(&format!(
            "nft add table ip6 guard ; \
             add chain ip6 guard forward {{ type filter hook forward priority 0 ; }} ; \
             add rule ip6 guard forward iifname host ip6 saddr != {host} {verdict}"
        ));
        let daemon = net.start("");
        net.advertise(&[(PREFIX, 600)]);
        daemon.prints("IPv4 via eth0");
        assert!(!net.pings());
        assert_ne!(address_behind(net), host);
        net.wait_for_ipv4();
        daemon.prints(
            "Using the IPv6 address of this host: packets from any other address are not answered",
        );
        let log = daemon.log();
        assert!(!log.contains("NAT64 does not answer"), "{log}");
    });
}

/// RFC 4862 section 5.4: no other host can take it; where another host has it, the CLAT takes
/// another one. It is the same each time.
#[test]
fn a_conflict_means_another_address() {
    clat_case(|net| {
        for (ns, device) in [(&net.host, "eth0"), (&net.router, "host")] {
            ns.sysctl(&format!("ipv6/conf/{device}/accept_dad"), "1");
        }
        let (mut daemon, address) = start(net, "");
        // Somebody tries to take it.
        let at_router = || net.router.run("ip -6 address show dev host");
        net.router.ip(&format!("addr add {address}/64 dev host"));
        wait_for("a conflict at the other host", || {
            at_router().contains("dadfailed").then_some(())
        });
        net.router.ip(&format!("addr delete {address}/64 dev host"));
        net.wait_for_ipv4();
        daemon.signal(Signal::SIGTERM);
        daemon.wait();

        let (mut daemon, again) = start(net, "");
        assert_eq!(again, address);
        daemon.signal(Signal::SIGTERM);
        daemon.wait();

        net.router
            .ip(&format!("addr add {address}/64 dev host nodad"));
        let (_daemon, other) = start(net, "");
        assert_ne!(other, address);
        assert_ne!(other, host_address(net));
    });
}

/// A network that lets no other addresses pass than those that it knows: the host's own is used,
/// and that is said once.
#[test]
fn a_router_that_filters_means_the_hosts_address() {
    clat_case(|net| {
        net.advertise(&[]);
        net.wait_for_ipv6();
        let host = host_address(net);
        net.router.run(&format!(
            "nft add table ip6 guard ; \
             add chain ip6 guard in {{ type filter hook prerouting priority -300 ; }} ; \
             add rule ip6 guard in iifname host ip6 saddr != {{ {host}, fe80::/10, :: }} drop"
        ));
        let (daemon, address) = start(net, "");
        assert_eq!(address, "fdc1:a700:464::c000:1");
        let said = "Using the IPv6 address of this host: the network drops";
        net.advertise(&[(PREFIX, 600)]);
        assert_eq!(daemon.log().matches(said).count(), 1, "{}", daemon.log());
    });
}

/// Networks without Router Advertisements, with a static /64, or with one /128 as of DHCPv6.
#[test]
fn without_a_router_that_announces_one_the_hosts_address_is_used() {
    for length in [64, 128] {
        clat_case(|net| {
            let gateway = net.router.run("ip -6 address show dev host scope link");
            let gateway = gateway.split_once("inet6 ").unwrap().1;
            let gateway = gateway.split_once('/').unwrap().0;
            net.host.sysctl("ipv6/conf/eth0/accept_ra", "0");
            net.host.ip(&format!(
                "addr add 2001:db8:6::99/{length} dev eth0
                route add default via {gateway} dev eth0"
            ));
            net.router.ip("route add 2001:db8:6::99/128 dev host");
            let config = format!("plat-prefix={PREFIX}/96\n");
            let daemon = Daemon::start_clat(&net.host, &net.runtime, &config);
            net.wait_for_ipv4();
            assert_eq!(address_behind(net), "fdc1:a700:464::c000:1");
            let said = "Using the IPv6 address of this host: no router announces";
            assert_eq!(daemon.log().matches(said).count(), 1, "{}", daemon.log());
        });
    }
}

/// RFC 7756: by an address that was given to it the host is found from outside; by others it is
/// not.
#[test]
fn an_explicit_address_is_open() {
    for (config, is_open) in [("", false), ("clat-v6-addr=2001:db8:6::c1a7\n", true)] {
        clat_case(|net| {
            let (_daemon, address) = start(net, config);
            assert_eq!(address == "2001:db8:6::c1a7", is_open);
            let at_host = net.host.inside(|| UdpSocket::bind("192.0.0.1:4000"));
            let at_host = at_host.unwrap();
            at_host
                .set_read_timeout(Some(Duration::from_millis(500)))
                .unwrap();
            let remote = "2001:db8:64::c633:6409"; // 198.51.100.9
            net.router
                .ip(&format!("addr add {remote}/128 dev lo nodad"));
            let outside = udp_socket(&net.router, remote, 4001, Fragmentation::Allowed);
            outside.send_to(b"hello", (address.as_str(), 4000)).unwrap();
            let received = uninterrupted(|| at_host.recv_from(&mut [0; 100]));
            let from = received.ok().map(|(_, from)| from.to_string());
            let expected = is_open.then(|| "198.51.100.9:4001".to_owned());
            assert_eq!(from, expected);
        });
    }
}

/// `derived`, as by clatd: the host's address that is made of its link-layer address, with c1:a7
/// for ff:fe.
#[test]
fn an_address_is_derived() {
    clat_case(|net| {
        net.host.sysctl("ipv6/conf/eth0/addr_gen_mode", "0");
        let (_daemon, address) = start(net, "clat-v6-addr=derived\n");
        let host: Ipv6Addr = host_address(net).parse().unwrap();
        let mut expected = host.octets();
        assert_eq!(expected[11..13], [0xff, 0xfe]);
        expected[11..13].copy_from_slice(&[0xc1, 0xa7]);
        assert_eq!(address.parse(), Ok(Ipv6Addr::from(expected)));
    });
}

/// Killed while the address is tested, which takes long here, it leaves nothing in the end.
#[test]
fn a_tested_address_is_removed_after_a_crash() {
    clat_case(|net| {
        net.advertise(&[]);
        net.wait_for_ipv6();
        net.host.sysctl("ipv6/conf/eth0/accept_dad", "1");
        net.host.sysctl("ipv6/conf/eth0/dad_transmits", "60");
        let before = net.state();
        let mut daemon = net.start("");
        net.advertise_with(&advertisement(1800, &[(PREFIX, 600)]));
        daemon.prints("Checking whether");
        assert_ne!(net.state(), before);
        daemon.signal(Signal::SIGKILL);
        daemon.wait();
        let mut daemon = net.start("");
        daemon.prints("Undoing what was left");
        wait_for("all to be undone", || (net.state() == before).then_some(()));
        // It is not the kernel's fault if it takes too long: the host's own address is used.
        net.advertise_with(&advertisement(1800, &[(PREFIX, 600)]));
        net.wait_for_ipv4();
        assert_eq!(address_behind(net), "fdc1:a700:464::c000:1");
        daemon.signal(Signal::SIGTERM);
        daemon.wait();
        assert_eq!(net.state(), before);
    });
}
