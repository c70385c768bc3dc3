//! Which link is the uplink of a CLAT, of whatever kind, and where packets go there.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{read, write},
};

use crate::{
    clat::{ClatNet, PREFIX, SERVER, clat_case, with_each_way},
    forward::{connect, exchange, listen},
    harness::{Netns, wait_for, without_offload},
};

/// Data of a connection, in octets, and the segments that it takes at least.
const DATA: usize = 4 << 20;
const SEGMENTS: u64 = (DATA / 1500) as u64;

/// A network whose router has this link-local address, and of whose default route the host makes
/// nothing.
fn without_default_route(net: &ClatNet) {
    net.host.sysctl("ipv6/conf/eth0/accept_ra_defrtr", "0");
    net.router.ip("addr add fe80::1/64 dev host nodad");
}

/// TCP goes both ways by the CLAT.
fn carries_tcp(net: &ClatNet) {
    let listener = listen(&net.server, SERVER);
    exchange(&connect(&net.host, SERVER, &listener), DATA);
}

/// The CLAT uses a packet socket, by which TCP goes both ways.
fn works_by_a_packet_socket(net: &ClatNet, config: &str) {
    let mut daemon = net.start_up(config);
    daemon.prints("IPv4 via eth0");
    let blackholes = "ip -6 route show table local type blackhole proto 100";
    assert!(!net.host.run(blackholes).is_empty(), "{}", daemon.log());
    assert!(!daemon.log().contains("forwarded"), "{}", daemon.log());
    carries_tcp(net);
    daemon.stop();
    assert_eq!(net.host.run(blackholes), "");
}

/// A default route is not the only way to a NAT64: there may be a route to its prefix, or to the
/// Internet, or a default route in another table.
#[test]
fn an_uplink_needs_no_default_route() {
    for route in [
        "2001:db8:64::/96 via fe80::1 dev eth0",
        "2001:db8:64::/64 via fe80::1 dev eth0",
        "2000::/3 via fe80::1 dev eth0",
        "::/0 via fe80::1 dev eth0 table 1000",
    ] {
        with_each_way(|net, config| {
            println!("{route} {config}");
            without_default_route(net);
            net.host.ip(&format!("route add {route}"));
            let daemon = net.start_up(config);
            daemon.prints("IPv4 via eth0");
            carries_tcp(net);
        });
    }
}

/// `plat-dev` by itself: without any route, packets go to the router that has announced itself.
#[test]
fn the_uplink_that_is_named_needs_no_route() {
    with_each_way(|net, config| {
        without_default_route(net);
        net.host.ip("addr add 2001:db8:6::10/64 dev eth0 nodad");
        let daemon = net.start(&format!("plat-dev=eth0\nplat-prefix={PREFIX}/96\n{config}"));
        daemon.prints("Waiting for a router: no IPv6 route by plat-dev");
        net.advertise(&[]);
        net.wait_for_ipv4();
        assert!(!net.host.run("ip -6 route").contains("default"));
        carries_tcp(net);
    });
}

/// The uplink is not a network card itself.
#[test]
fn a_bridge_is_the_uplink() {
    clat_case(|net| {
        net.host.ip("link set eth0 down
            link set eth0 name port
            link add eth0 type bridge
            link set port master eth0
            link set port up
            link set eth0 up");
        net.wait_for_link();
        works_by_a_packet_socket(net, "");
    });
}

#[test]
fn a_macvlan_is_the_uplink() {
    clat_case(|net| {
        net.host.ip("link set eth0 down
            link set eth0 name card
            link set card up addrgenmode none
            link add link card name eth0 type macvlan mode bridge");
        net.host.sysctl("ipv6/conf/card/disable_ipv6", "1");
        net.host.ip("link set eth0 up");
        net.wait_for_link();
        works_by_a_packet_socket(net, "");
    });
}

/// An Ethernet whose neighbours are not resolved: the kernel, too, puts the device's own address in
/// both places.
#[test]
fn an_ethernet_without_neighbours_is_the_uplink() {
    clat_case(|net| {
        for (ns, device, own) in [(&net.host, "eth0", 2), (&net.router, "host", 1)] {
            ns.ip(&format!(
                "link set {device} down
                link set {device} address 02:00:00:00:00:05 arp off addrgenmode none
                link set {device} up
                addr add fe80::{own}/64 dev {device} nodad"
            ));
        }
        net.router.ip("addr add 2001:db8:6::1/64 dev host nodad");
        net.wait_for_link();
        works_by_a_packet_socket(net, "");
    });
}

/// A link without link-layer addresses, as of PPP and WWAN. It carries super-packets both ways.
#[test]
fn a_link_without_a_link_layer_is_the_uplink() {
    clat_case(|net| {
        net.router.ip("link del host");
        let _link = BareLink::new([(&net.host, "eth0"), (&net.router, "host")]);
        net.router.ip("addr add 2001:db8:6::1/64 dev host nodad");
        net.wait_for_link();
        // A TUN device may be a VPN's: it is to be named.
        works_by_a_packet_socket(net, "plat-dev=eth0\n");

        // Debian's tayga sends no super-packets, but a kernel does, that has an address itself.
        let server = "2001:db8:64::c633:6403";
        net.router
            .ip(&format!("addr add {server}/128 dev lo nodad"));
        let _daemon = net.start_up("plat-dev=eth0\n");
        let before = packets(&net.host, "eth0");
        let listener = listen(&net.router, server);
        exchange(&connect(&net.host, "198.51.100.3", &listener), DATA);
        let after = packets(&net.host, "eth0");
        let [sent, received] = [after[0] - before[0], after[1] - before[1]];
        println!("{sent} packets sent and {received} received for {SEGMENTS} segments each way");
        if !without_offload() {
            assert!(sent < SEGMENTS && received < SEGMENTS, "{sent} {received}");
        }
    });
}

/// The packets that a device has sent and received.
fn packets(ns: &Netns, device: &str) -> [u64; 2] {
    let links = ns.run(&format!("ip -json -statistics link show {device}"));
    let links: serde_json::Value = serde_json::from_str(&links).unwrap();
    ["tx", "rx"].map(|way| links[0]["stats64"][way]["packets"].as_u64().unwrap())
}

/// Neighbour Unreachability Detection of the host takes a second, and not half a minute.
fn hurry_neighbours(net: &ClatNet) {
    for (file, value) in [
        ("base_reachable_time_ms", "1000"),
        ("delay_first_probe_time", "1"),
        ("retrans_time_ms", "100"),
    ] {
        net.host.sysctl(&format!("ipv6/neigh/eth0/{file}"), value);
    }
}

/// Has the router a second link to the same network, with fe80::b: as another router.
fn add_router(net: &ClatNet) {
    net.router
        .ip("link add link host name host2 type macvlan mode bridge
        link set host2 addrgenmode none
        link set host2 up
        addr add fe80::b/64 dev host2 nodad");
}

/// RFC 4861 section 6.3.6: a router that does not answer gives way to the other one; the connection
/// goes on. When none answers, programs are told.
#[test]
fn a_router_that_fails_gives_way_to_another() {
    clat_case(|net| {
        hurry_neighbours(net);
        add_router(net);
        net.host.ip("route add ::/0 via fe80::b dev eth0 metric 10");
        let _daemon = net.start_up("");
        assert!(
            packets(&net.router, "host2")[1] > 0,
            "the best one is in use"
        );
        let listener = listen(&net.server, SERVER);
        let connection = connect(&net.host, SERVER, &listener);
        exchange(&connection, 1000);
        net.router.ip("link set host2 down");
        exchange(&connection, 1000);
        let before = packets(&net.router, "host")[1];
        exchange(&connection, 1000);
        assert!(packets(&net.router, "host")[1] > before);

        net.router.run(
            "nft add table ip6 silent ; \
             add chain ip6 silent in { type filter hook input priority 0 ; policy drop ; } ; \
             add chain ip6 silent out { type filter hook output priority 0 ; policy drop ; } ;",
        );
        wait_for("an ICMP error", || {
            let ping = format!("ping -n -c 1 -W 1 {SERVER}");
            let printed = net.host.output(&ping).stdout;
            let printed = String::from_utf8(printed).unwrap();
            printed.contains("Unreachable").then_some(())
        });
    });
}

/// A gateway is replaced by another one, and its route by one to that: packets follow at once, and
/// the connection goes on.
#[test]
fn packets_follow_the_default_route() {
    with_each_way(|net, config| {
        add_router(net);
        let _daemon = net.start_up(config);
        let listener = listen(&net.server, SERVER);
        let connection = connect(&net.host, SERVER, &listener);
        exchange(&connection, 1000);
        for metric in [10, 5] {
            let other = if metric == 10 { "fe80::b" } else { "fe80::c" };
            net.router
                .ip(&format!("addr replace {other}/64 dev host2 nodad"));
            net.host.ip(&format!(
                "route add ::/0 via {other} dev eth0 metric {metric}"
            ));
            let before = packets(&net.router, "host2")[1];
            wait_for("packets by the other router", || {
                exchange(&connection, 1000);
                (packets(&net.router, "host2")[1] > before + 5).then_some(())
            });
        }
        exchange(&connection, DATA);
    });
}

nix::ioctl_write_int!(tunsetiff, b'T', 202);
nix::ioctl_write_int!(tunsetoffload, b'T', 208);

/// A TUN device in each of two namespaces, between which packets are moved, super-packets included.
struct BareLink {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BareLink {
    fn new(ends: [(&Netns, &str); 2]) -> Self {
        let ends = ends.map(|(ns, device)| {
            let tun = ns.inside(|| open_tun(device));
            ns.ip(&format!("link set {device} up"));
            tun
        });
        let done = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&done);
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 17];
            while !stop.load(Ordering::Relaxed) {
                let [one, other] = &ends;
                let mut fds = [one, other].map(|tun| PollFd::new(tun.as_fd(), PollFlags::POLLIN));
                let _ = poll(&mut fds, PollTimeout::from(50_u8));
                let is_ready = fds.map(|fd| fd.any().unwrap_or(false));
                for (is_ready, from, to) in [(is_ready[0], one, other), (is_ready[1], other, one)] {
                    if is_ready && let Ok(len) = read(from, &mut buffer) {
                        let _ = write(to, &buffer[..len]);
                    }
                }
            }
        });
        Self {
            done,
            thread: Some(thread),
        }
    }
}

impl Drop for BareLink {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A TUN device with all offload.
fn open_tun(name: &str) -> File {
    /// Partial checksums, TCP of both families, ECN, and UDP of both (linux/if_tun.h).
    const OFFLOAD: u64 = 1 | 2 | 4 | 8 | 0x20 | 0x40;
    let tun = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .unwrap();
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: flags as i16,
        },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    let request = (&raw mut request) as u64;
    // SAFETY: TUNSETIFF reads and writes an ifreq, which outlives the call.
    unsafe { tunsetiff(tun.as_raw_fd(), request) }.unwrap();
    // SAFETY: the argument is a number.
    unsafe { tunsetoffload(tun.as_raw_fd(), OFFLOAD) }.unwrap();
    tun
}
