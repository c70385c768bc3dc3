//! `xlatd clat`: IPv4 for programs on a host that has none.
//!
//! ```text
//!  host ------------ router -------------------------- server
//!  IPv6 only, SLAAC  RAs; NAT64: Debian's tayga, nft   IPv4 only
//! ```

use std::{
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::AsRawFd,
    time::Instant,
};

use nix::sys::{
    signal::Signal,
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, setsockopt,
        socket, sockopt::Ipv6MulticastHops,
    },
};

use crate::{
    forward::{connect, exchange, listen},
    harness::{Daemon, Netns, tayga, wait_for, xlatd_case},
};

const SERVER: &str = "198.51.100.2";
const PREFIX: &str = "2001:db8:64::";
const OTHER_PREFIX: &str = "2001:db8:46::";

/// The network of a host that has IPv6 only.
struct ClatNet {
    host: Netns,
    router: Netns,
    server: Netns,
    _plats: Vec<Daemon>,
}

/// Runs one case with the network; `None` where there is no tayga.
fn clat_case(body: impl FnOnce(&ClatNet)) {
    xlatd_case(|_| {
        if let Some(net) = ClatNet::new() {
            body(&net);
        }
    });
}

impl ClatNet {
    fn new() -> Option<Self> {
        let tayga = tayga()?;
        let [host, router, server] =
            std::array::from_fn(|_| Netns::new().expect("a network namespace"));
        for ns in [&host, &router, &server] {
            ns.sysctl("ipv6/conf/all/accept_dad", "0");
            ns.sysctl("ipv6/conf/default/accept_dad", "0");
            ns.sysctl("ipv6/icmp/ratelimit", "0");
            ns.sysctl("ipv4/icmp_ratelimit", "0");
        }
        router.sysctl("ipv6/conf/all/forwarding", "1");
        router.sysctl("ipv4/ip_forward", "1");
        let (host_path, server_path) = (host.path(), server.path());
        router.ip(&format!(
            "link add host type veth peer name eth0 netns {host_path}
            link add server type veth peer name router netns {server_path}
            link set lo up
            link set host up
            link set server up
            addr add 2001:db8:6::1/64 dev host nodad
            addr add 198.51.100.1/24 dev server"
        ));
        host.ip("link set lo up
            link set eth0 up");
        server.ip("link set lo up
            link set router up
            addr add 198.51.100.2/24 dev router
            route add default via 198.51.100.1");
        for (ns, device) in [(&host, "eth0"), (&router, "host"), (&server, "router")] {
            wait_for(device, || {
                let addresses = ns.run(&format!("ip -6 address show dev {device} scope link"));
                (ns.is_running(device) && addresses.contains("fe80::")).then_some(())
            });
        }
        // A NAT64 for each of two prefixes.
        let plats = [("plat", PREFIX, 255), ("plat2", OTHER_PREFIX, 254)]
            .map(|(device, prefix, net)| {
                router.ip(&format!(
                    "tuntap add dev {device} mode tun
                    link set {device} up
                    route add {prefix}/96 dev {device}
                    route add 192.168.{net}.0/24 dev {device}"
                ));
                let config = format!(
                    "tun-device {device}\nipv4-addr 192.168.{net}.1\nipv6-addr 2001:db8:{net}::1\n\
                     prefix {prefix}/96\ndynamic-pool 192.168.{net}.0/24\n"
                );
                Daemon::start_program(&tayga, &router, &config)
            })
            .into();
        router.run(
            "nft add table ip nat ; \
             add chain ip nat postrouting { type nat hook postrouting priority srcnat ; } ; \
             add rule ip nat postrouting oifname server masquerade",
        );
        Some(Self {
            host,
            router,
            server,
            _plats: plats,
        })
    }

    /// Sends a Router Advertisement to the host, with NAT64 prefixes and their lifetimes in seconds.
    fn advertise(&self, pref64: &[(&str, u16)]) {
        self.advertise_with(&advertisement(1800, pref64));
    }

    fn advertise_with(&self, message: &[u8]) {
        let (socket, link) = self.router.inside(|| {
            let socket = socket(
                AddressFamily::Inet6,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::IcmpV6,
            );
            (
                socket.unwrap(),
                nix::net::if_::if_nametoindex("host").unwrap(),
            )
        });
        setsockopt(&socket, Ipv6MulticastHops, &255).unwrap();
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let to = SockaddrIn6::from(SocketAddrV6::new(all_nodes, 0, 0, link));
        sendto(socket.as_raw_fd(), message, &to, MsgFlags::empty()).unwrap();
    }

    /// Until the host has an address and a way out.
    fn wait_for_ipv6(&self) {
        wait_for("an IPv6 route", || {
            let routes = self.host.run("ip -6 route");
            routes.contains("default").then_some(())
        });
    }

    /// Until IPv4 works on the host.
    fn wait_for_ipv4(&self) {
        let start = Instant::now();
        wait_for("IPv4 on the host", || self.pings().then_some(()));
        println!("IPv4 after {:.3} s", start.elapsed().as_secs_f64());
    }

    fn pings(&self) -> bool {
        let ping = format!("ping -n -c 1 -W 0.2 {SERVER}");
        self.host.output(&ping).status.success()
    }

    /// What the host is, without what changes by itself.
    fn state(&self) -> String {
        let mut state = String::new();
        for command in [
            "ip -4 address",
            "ip -6 address show scope global",
            "ip -4 route show table all",
            "ip -6 route show table all",
            "ip -4 rule",
            "ip -6 rule",
            "ip -6 neighbour show proxy",
            "nft --stateless list ruleset",
            "sysctl -a --pattern ^net.ipv[46].conf",
        ] {
            state += &format!("\n# {command}\n{}", self.host.run(command));
        }
        filter(&state)
    }
}

/// Removes what changes by itself: lifetimes.
fn filter(state: &str) -> String {
    let mut words = Vec::new();
    for line in state.lines() {
        let mut left = line.split(' ').peekable();
        while let Some(word) = left.next() {
            if ["valid_lft", "preferred_lft", "expires"].contains(&word) {
                left.next();
            } else {
                words.push(word);
            }
        }
        words.push("\n");
    }
    words.join(" ")
}

/// A Router Advertisement of 2001:db8:6::/64, from its type on; the kernel fills in the checksum.
fn advertisement(router_lifetime: u16, pref64: &[(&str, u16)]) -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0];
    message.extend(router_lifetime.to_be_bytes());
    message.extend([0; 8]);
    message.extend([3, 4, 64, 0xc0]);
    message.extend([3600_u32, 1800, 0].map(u32::to_be_bytes).as_flattened());
    message.extend("2001:db8:6::".parse::<Ipv6Addr>().unwrap().octets());
    for (prefix, lifetime) in pref64 {
        message.extend([38, 2]);
        message.extend((lifetime & !7).to_be_bytes()); // a /96 is 0 in the lower bits
        message.extend(&prefix.parse::<Ipv6Addr>().unwrap().octets()[..12]);
    }
    message
}

/// RFC 8781: with nothing configured, programs have IPv4 once a router says how the NAT64 is reached; and when it ends, no
/// trace is left.
#[test]
fn advertised_prefix_gives_ipv4_and_leaves_no_trace() {
    clat_case(|net| {
        net.advertise(&[]);
        net.wait_for_ipv6();
        let before = net.state();
        let mut daemon = Daemon::start_clat(&net.host, "");
        daemon.prints("Waiting for a NAT64 prefix on eth0");
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
        daemon.prints("IPv4 goes by eth0 and 2001:db8:64::/96 (Router Advertisement)");
        let listener = listen(&net.server, SERVER);
        exchange(&connect(&net.host, SERVER, &listener), 1 << 20);
        assert_ne!(net.state(), before);
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
        assert_eq!(net.state(), before, "{}", daemon.log());
    });
}
