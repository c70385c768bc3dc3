//! `xlatd clat`: IPv4 for programs on a host that has none.
//!
//! ```text
//!  host ------------ router -------------------------- server
//!  IPv6 only, SLAAC  RAs; NAT64: Debian's tayga, nft   IPv4 only
//! ```

use std::{
    fs,
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::{
    signal::Signal,
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, bind, getsockopt,
        sendto, setsockopt, socket, sockopt::Ipv6MulticastHops,
    },
};

use crate::{
    forward::{connect, exchange, listen},
    harness::{Daemon, Directory, Netns, tayga, uninterrupted, wait_for, xlatd_case},
    icmp::{extensions, names_node},
    packet::{Ipv4, pattern},
    socket::{Capture, Fragmentation, Ipv4Mtu, udp_socket},
};

pub(crate) const SERVER: &str = "198.51.100.2";
/// The server, by the prefix.
pub(crate) const PREFIX_SERVER: &str = "2001:db8:64::c633:6402";
pub(crate) const PREFIX: &str = "2001:db8:64::";
pub(crate) const OTHER_PREFIX: &str = "2001:db8:46::";

/// The network of a host that has IPv6 only.
#[derive(Debug)]
pub(crate) struct ClatNet {
    pub(crate) host: Netns,
    pub(crate) router: Netns,
    pub(crate) server: Netns,
    pub(crate) runtime: Directory,
    /// The NAT64s of [`PREFIX`] and [`OTHER_PREFIX`].
    plats: [Daemon; 2],
}

/// Runs one case with the network; it is left out where there is no tayga.
pub(crate) fn clat_case(body: impl FnOnce(&ClatNet)) {
    xlatd_case(|_| {
        if let Some(net) = ClatNet::new() {
            body(&net);
        }
    });
}

/// The line of a configuration that has the kernel forward packets of the CLAT address.
pub(crate) const FORWARD: &str = "clat-path=forward\n";

/// Runs one case with each way that packets can leave by, which is said by a line of the
/// configuration: a packet socket, the kernel's forwarding, and the latter with the host's address.
pub(crate) fn with_each_way(body: impl Fn(&ClatNet, &str)) {
    for config in ["", FORWARD, "clat-v6-addr=shared\n"] {
        println!("with {config:?}");
        clat_case(|net| body(net, config));
    }
}

impl ClatNet {
    fn new() -> Option<Self> {
        tayga()?;
        let [host, router, server] = std::array::from_fn(|_| namespace());
        forward(&router);
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
            wait_for_link_local(ns, device);
        }
        // A NAT64 for each of two prefixes.
        let plats = [("plat", PREFIX, 255), ("plat2", OTHER_PREFIX, 254)]
            .map(|(device, prefix, net)| nat64(&router, device, prefix, net));
        masquerade(&router);
        Some(Self {
            host,
            router,
            server,
            runtime: Directory::new(),
            plats,
        })
    }

    pub(crate) fn start(&self, config: &str) -> Daemon {
        let daemon = Daemon::start_clat(&self.host, &self.runtime, config);
        daemon.prints("Waiting for"); // it listens
        daemon
    }

    /// The CLAT, once IPv4 works by it.
    pub(crate) fn start_up(&self, config: &str) -> Daemon {
        let daemon = self.start(config);
        self.advertise(&[(PREFIX, 600)]);
        self.wait_for_ipv4();
        daemon
    }

    /// Sends a Router Advertisement to the host, with NAT64 prefixes and their lifetimes in
    /// seconds.
    pub(crate) fn advertise(&self, pref64: &[(&str, u16)]) {
        self.advertise_with(&advertisement(1800, pref64));
    }

    pub(crate) fn advertise_with(&self, message: &[u8]) {
        self.advertise_by(message, 255);
    }

    fn advertise_by(&self, message: &[u8], hop_limit: i32) {
        self.advertise_from(None, message, hop_limit);
    }

    /// From the router's link-local address, or another one of its own.
    fn advertise_from(&self, source: Option<&str>, message: &[u8], hop_limit: i32) {
        send_to_all_nodes(&self.router, source, message, hop_limit);
    }

    /// Until the host can be reached on its link.
    pub(crate) fn wait_for_link(&self) {
        wait_for_link_local(&self.host, "eth0");
        wait_for_link_local(&self.router, "host");
    }

    /// Until the host has an address and a way out.
    pub(crate) fn wait_for_ipv6(&self) {
        wait_for("an IPv6 route", || {
            let routes = self.host.run("ip -6 route");
            let tentative = self.host.run("ip -6 address show tentative");
            (routes.contains("default") && tentative.is_empty()).then_some(())
        });
    }

    /// Until IPv4 works on the host.
    pub(crate) fn wait_for_ipv4(&self) {
        let start = Instant::now();
        wait_for("IPv4 on the host", || self.pings().then_some(()));
        println!("IPv4 after {:.3} s", start.elapsed().as_secs_f64());
    }

    /// Until it works by one of several devices.
    pub(crate) fn wait_for_ipv4_by(&self, device: &str) {
        let ping = format!("ping -n -c 1 -W 0.3 -I {device} {SERVER}");
        wait_for(device, || {
            self.host.output(&ping).status.success().then_some(())
        });
    }

    /// A container behind the host, 10.1.0.2, for which the host forwards.
    pub(crate) fn container(&self) -> Netns {
        let container = Netns::new().unwrap();
        let path = container.path();
        self.host.ip(&format!(
            "link add box type veth peer name eth0 netns {path}
            link set box up
            addr add 10.1.0.1/24 dev box"
        ));
        container.ip("link set lo up
            link set eth0 up
            addr add 10.1.0.2/24 dev eth0
            route add default via 10.1.0.1");
        self.host.sysctl("ipv4/ip_forward", "1");
        container
    }

    pub(crate) fn pings(&self) -> bool {
        let ping = format!("ping -n -c 1 -W 0.2 {SERVER}");
        self.host.output(&ping).status.success()
    }

    /// What the host is, without what changes by itself.
    pub(crate) fn state(&self) -> String {
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
        ] {
            state += &format!("\n# {command}\n{}", self.host.run(command));
        }
        for directory in ["ipv4/conf", "ipv6/conf"] {
            state += &format!("\n# {directory}\n{}", self.host.sysctls(directory));
        }
        filter(&state)
    }
}

/// A namespace whose addresses are usable at once, and in which the kernel does not limit ICMP.
pub(crate) fn namespace() -> Netns {
    let ns = Netns::new().expect("a network namespace");
    ns.sysctl("ipv6/conf/all/accept_dad", "0");
    ns.sysctl("ipv6/conf/default/accept_dad", "0");
    ns.sysctl("ipv6/icmp/ratelimit", "0");
    ns.sysctl("ipv4/icmp_ratelimit", "0");
    ns
}

/// Makes a router of it.
pub(crate) fn forward(router: &Netns) {
    router.sysctl("ipv6/conf/all/forwarding", "1");
    router.sysctl("ipv4/ip_forward", "1");
}

/// A NAT64 of a router: tayga behind a device, with IPv4 addresses of 192.168.`net`.0/24.
pub(crate) fn nat64(router: &Netns, device: &str, prefix: &str, net: u8) -> Daemon {
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
    Daemon::start_program(&tayga().unwrap(), router, &config)
}

/// Has a router send to the server from its own address.
pub(crate) fn masquerade(router: &Netns) {
    router.run(
        "nft add table ip nat ; \
         add chain ip nat postrouting { type nat hook postrouting priority srcnat ; } ; \
         add rule ip nat postrouting oifname server masquerade",
    );
}

/// Sends a message of a router to all nodes of its link to hosts, by default from its link-local
/// address.
pub(crate) fn send_to_all_nodes(
    router: &Netns,
    source: Option<&str>,
    message: &[u8],
    hop_limit: i32,
) {
    let (socket, link) = router.inside(|| {
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
    setsockopt(&socket, Ipv6MulticastHops, &hop_limit).unwrap();
    if let Some(source) = source {
        let source = SocketAddrV6::new(source.parse().unwrap(), 0, 0, link);
        bind(socket.as_raw_fd(), &SockaddrIn6::from(source)).unwrap();
    }
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let to = SockaddrIn6::from(SocketAddrV6::new(all_nodes, 0, 0, link));
    sendto(socket.as_raw_fd(), message, &to, MsgFlags::empty()).unwrap();
}

pub(crate) fn wait_for_link_local(ns: &Netns, device: &str) {
    wait_for(device, || {
        let addresses = ns.run(&format!("ip -6 address show dev {device} scope link"));
        let is_usable = addresses.contains("fe80::") && !addresses.contains("tentative");
        (ns.is_running(device) && is_usable).then_some(())
    });
}

/// Removes what changes by itself: lifetimes.
pub(crate) fn filter(state: &str) -> String {
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
pub(crate) fn advertisement(router_lifetime: u16, pref64: &[(&str, u16)]) -> Vec<u8> {
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

/// A name server of the router, which has a DNS64: it answers any question with these addresses, or
/// says that there are none.
pub(crate) struct NameServer {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    pub(crate) fn start(router: &Netns, addresses: &[&str]) -> Self {
        // A program that another test is just starting may still have the port of one before.
        let socket = wait_for("port 53", || {
            router.inside(|| UdpSocket::bind("[::]:53")).ok()
        });
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let addresses: Vec<Ipv6Addr> = addresses.iter().map(|one| one.parse().unwrap()).collect();
        let done = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&done);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 512];
            while !stop.load(Ordering::Relaxed) {
                let Ok((len, from)) = uninterrupted(|| socket.recv_from(&mut buffer)) else {
                    continue;
                };
                // The question, with the answers behind it (RFC 1035 section 4.1).
                let mut answer = buffer[..len].to_vec();
                answer[2..4].copy_from_slice(&[0x81, 0x80]);
                answer[7] = addresses.len() as u8;
                for address in &addresses {
                    answer.extend([0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16]);
                    answer.extend(address.octets());
                }
                let _ = socket.send_to(&answer, from);
            }
        });
        Self {
            done,
            thread: Some(thread),
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// RFC 8781: with nothing configured, programs have IPv4 once a router says how the NAT64 is
/// reached; and when it ends, no trace is left.
#[test]
fn advertised_prefix_gives_ipv4_and_leaves_no_trace() {
    with_each_way(|net, config| {
        net.advertise(&[]);
        net.wait_for_ipv6();
        let before = net.state();
        let mut daemon = net.start(config);
        daemon.prints("Waiting for a NAT64 prefix on eth0");
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
        daemon.prints("IPv4 via eth0, NAT64 prefix 2001:db8:64::/96 (Router Advertisement)");
        let listener = listen(&net.server, SERVER);
        exchange(&connect(&net.host, SERVER, &listener), 1 << 20);
        assert_ne!(net.state(), before);
        daemon.stop();
        assert_eq!(net.state(), before, "{}", daemon.log());
    });
}

/// Started before there is a network, it waits for it, and nothing has to be started again.
#[test]
fn waits_for_the_network() {
    clat_case(|net| {
        net.host.ip("link set eth0 down");
        let daemon = net.start("");
        daemon.prints("Waiting for an uplink: no IPv6 default route");
        net.host.ip("link set eth0 up");
        net.wait_for_link();
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
        drop(daemon);
    });
}

/// RFC 7050: a network with a DNS64 only. Its name servers are those of the advertisement (RFC
/// 8106).
#[test]
fn resolved_prefix_gives_ipv4() {
    clat_case(|net| {
        let _dns = NameServer::start(
            &net.router,
            &["2001:db8:64::192.0.0.170", "2001:db8:64::192.0.0.171"],
        );
        let daemon = net.start("");
        let mut message = advertisement(1800, &[]);
        message.extend([25, 3, 0, 0, 0, 0, 2, 88]);
        message.extend("2001:db8:6::1".parse::<Ipv6Addr>().unwrap().octets());
        net.advertise_with(&message);
        net.wait_for_ipv4();
        daemon.prints("IPv4 via eth0, NAT64 prefix 2001:db8:64::/96 (DNS64)");
        // RFC 9872 section 3.1: a router's prefix replaces it, without a restart.
        net.advertise(&[(OTHER_PREFIX, 600)]);
        daemon.prints("IPv4 via eth0, NAT64 prefix 2001:db8:46::/96 (Router Advertisement)");
        net.wait_for_ipv4();
    });
}

/// resolv.conf(5): a name server may have a link-local address, with its link (RFC 4007 section
/// 11). What cannot be asked is said once, however often the others are.
#[test]
fn name_server_with_a_link_is_asked() {
    clat_case(|net| {
        let addresses = net.router.run("ip -6 -o addr show dev host scope link");
        let router = addresses
            .split_whitespace()
            .find(|word| word.starts_with("fe80:"));
        let router = router.unwrap().split('/').next().unwrap();
        let script = format!(
            "set -e
            mount -t tmpfs none /mnt
            echo nameserver fe80::53%eth9 >/mnt/resolv.conf
            echo nameserver {router}%eth0 >>/mnt/resolv.conf
            mount --bind /mnt/resolv.conf /etc/resolv.conf
            exec \"$@\""
        );
        let launcher = ["unshare", "--mount", "sh", "-c", &script, "sh"];
        let daemon = Daemon::start_clat_by(&launcher, &net.host, &net.runtime, "");
        net.advertise(&[]);
        daemon.prints("cannot be asked");
        let _dns = NameServer::start(&net.router, &["2001:db8:64::192.0.0.170"]);
        daemon.prints("IPv4 via eth0, NAT64 prefix 2001:db8:64::/96 (DNS64)");
        net.wait_for_ipv4();
        let log = daemon.log();
        assert_eq!(log.matches("cannot be asked").count(), 1, "{log}");
        assert!(
            log.contains("expected an address whose zone is a device, found \"fe80::53%eth9\""),
            "{log}"
        );
    });
}

/// RFC 7050 section 3: without a DNS64, or any name server, the CLAT asks on.
#[test]
fn no_dns64_is_no_end() {
    clat_case(|net| {
        let dns = NameServer::start(&net.router, &[]);
        let mut daemon = net.start("dns64-servers=2001:db8:6::1\n");
        net.advertise(&[]);
        daemon.prints("Waiting for a NAT64 prefix");
        drop(dns);
        let _dns = NameServer::start(&net.router, &["2001:db8:64::192.0.0.170"]);
        net.wait_for_ipv4();
        daemon.stop();
    });
}

/// RFC 8781 section 4: another prefix takes the place of one that ends, and a lifetime of zero is
/// the end at once. The address that programs use stays, and so do their sockets.
#[test]
fn prefix_changes_under_open_sockets() {
    with_each_way(|net, config| {
        let daemon = net.start_up(config);
        let socket = net.host.inside(|| UdpSocket::bind("192.0.0.1:0")).unwrap();
        let server = net
            .server
            .inside(|| UdpSocket::bind((SERVER, 4000)))
            .unwrap();
        let asks = || {
            wait_for("an answer", || {
                socket.send_to(b"question", (SERVER, 4000)).unwrap();
                for one in [&server, &socket] {
                    one.set_read_timeout(Some(Duration::from_millis(300)))
                        .unwrap();
                }
                let mut buffer = [0; 100];
                let (len, from) = uninterrupted(|| server.recv_from(&mut buffer)).ok()?;
                server.send_to(&buffer[..len], from).unwrap();
                uninterrupted(|| socket.recv_from(&mut buffer))
                    .ok()
                    .map(drop)
            });
        };
        asks();
        net.advertise(&[(PREFIX, 0), (OTHER_PREFIX, 600)]);
        daemon.prints("IPv4 via eth0, NAT64 prefix 2001:db8:46::/96");
        asks();
        net.advertise(&[(OTHER_PREFIX, 0)]);
        daemon.prints("Waiting for a NAT64 prefix on eth0");
        wait_for("no IPv4 route", || {
            net.host.run("ip -4 route").is_empty().then_some(())
        });
        net.advertise(&[(PREFIX, 600)]);
        asks();
    });
}

/// RFC 4861 section 5.1: each of two routers speaks for itself. That they announce and withdraw the
/// same prefix in turns changes nothing; when the preferred one says goodbye, the other one serves.
#[test]
fn two_routers_speak_for_themselves() {
    clat_case(|net| {
        let [first, second] = ["fe80::1", "fe80::2"];
        for router in [first, second] {
            net.router
                .ip(&format!("addr add {router}/64 dev host nodad"));
        }
        let daemon = net.start("");
        let says = |source, preference, lifetime, pref64: &[(&str, u16)]| {
            let mut message = advertisement(lifetime, pref64);
            message[5] = preference; // RFC 4191 section 2.2
            net.advertise_from(Some(source), &message, 255);
        };
        let (high, low) = (0x08, 0x18);
        says(first, high, 1800, &[(PREFIX, 600)]);
        net.wait_for_ipv4();
        for _ in 0..20 {
            says(second, low, 1800, &[(PREFIX, 600), (OTHER_PREFIX, 600)]);
            says(first, high, 1800, &[(PREFIX, 600)]);
            says(second, low, 1800, &[(PREFIX, 0), (OTHER_PREFIX, 600)]);
            assert!(net.pings());
        }
        let log = daemon.log();
        assert_eq!(log.matches("IPv4 via").count(), 1, "{log}");
        // The last word counts, also of more advertisements than wait for a look at the network.
        for _ in 0..20 {
            says(second, low, 1800, &[(OTHER_PREFIX, 600)]);
            says(first, high, 1800, &[(PREFIX, 600)]);
        }
        says(first, high, 0, &[(PREFIX, 600)]);
        daemon.prints("IPv4 via eth0, NAT64 prefix 2001:db8:46::/96");
        net.wait_for_ipv4();
    });
}

/// RFC 7050 section 3.2: a NAT64 that does not answer gives way to the other one.
#[test]
fn a_nat64_that_is_silent_gives_way() {
    clat_case(|net| {
        let daemon = net.start_up("");
        net.advertise(&[(PREFIX, 600), (OTHER_PREFIX, 600)]);
        assert!(net.pings());
        net.plats[0].signal(Signal::SIGSTOP);
        net.wait_for_ipv4();
        daemon.prints("NAT64 prefix 2001:db8:64::/96 does not answer: packets leave");
        daemon.prints("IPv4 via eth0, NAT64 prefix 2001:db8:46::/96");
        net.plats[0].signal(Signal::SIGCONT);
    });
}

/// Without another NAT64 it is said, also where a router says that it has no route to it; and it is
/// over when packets come back.
#[test]
fn a_nat64_that_is_silent_is_said() {
    with_each_way(|net, config| {
        let daemon = net.start_up(config);
        net.router.ip("link set plat down");
        wait_for("the silence to be noticed", || {
            assert!(!net.pings());
            daemon.log().contains("NAT64 does not answer").then_some(())
        });
        let said = daemon.log();
        net.router.ip(&format!(
            "link set plat up
            route add {PREFIX}/96 dev plat
            route add 192.168.255.0/24 dev plat"
        ));
        net.wait_for_ipv4();
        wait_for("the answer to be noticed", || {
            let back = daemon.log()[said.len()..].contains("IPv4 via eth0");
            back.then_some(())
        });
        let log = daemon.log();
        assert_eq!(log.matches("NAT64 does not answer").count(), 1, "{log}");
        assert!(
            !log.contains("Using the IPv6 address of this host"),
            "{log}"
        );
    });
}

/// A connection goes on after the link was down; programs have IPv4 again after the network was
/// renumbered.
#[test]
fn link_flaps_and_the_network_is_renumbered() {
    with_each_way(|net, config| {
        let _daemon = net.start_up(config);
        let listener = listen(&net.server, SERVER);
        let connection = connect(&net.host, SERVER, &listener);
        exchange(&connection, 1000);
        net.host.ip("link set eth0 down\nlink set eth0 up");
        net.wait_for_link();
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
        exchange(&connection, 1000);

        let old = address_behind(net);
        net.router.ip("addr add 2001:db8:7::1/64 dev host nodad");
        let mut message = advertisement(1800, &[(PREFIX, 600)]);
        let other: Ipv6Addr = "2001:db8:7::".parse().unwrap();
        let mut deprecated = message.clone();
        deprecated[20..28].fill(0); // both lifetimes of the prefix
        net.advertise_with(&deprecated);
        net.host.ip("addr flush dev eth0 scope global");
        message[32..48].copy_from_slice(&other.octets());
        net.advertise_with(&message);
        wait_for("another source", || {
            let is_new = match config {
                "clat-v6-addr=shared\n" => {
                    let ruleset = net.host.run("nft list table inet xlatd_clat");
                    !ruleset.contains("2001:db8:6:")
                }
                _ => any_address_behind(net).is_some_and(|new| new != old),
            };
            is_new.then_some(())
        });
        net.wait_for_ipv4();
        exchange(&connect(&net.host, SERVER, &listener), 1000);
    });
}

/// RFC 7050 section 3: what the network said is forgotten after the link was down, also where that
/// was over before the CLAT could see it.
#[test]
fn a_link_that_was_down_unseen_is_searched_again() {
    clat_case(|net| {
        let daemon = net.start_up("clat-v6-addr=shared\n");
        daemon.signal(Signal::SIGSTOP);
        net.router.ip("link set host down\nlink set host up");
        net.wait_for_link();
        let routes = net.host.run("ip -6 route");
        assert!(routes.contains("default"), "it was to be unseen: {routes}");
        let said = daemon.log().len();
        daemon.signal(Signal::SIGCONT);
        wait_for("the end of the prefix", || {
            let log = daemon.log();
            log[said..].contains("Waiting for a NAT64").then_some(())
        });
        net.router.ip("addr add 2001:db8:6::1/64 dev host nodad");
        net.advertise(&[(OTHER_PREFIX, 600)]);
        net.wait_for_ipv4();
    });
}

/// Native IPv4 takes over and gives back. An open connection goes on through the CLAT, and no
/// packet with an address of 192.0.0.0/29 leaves by the uplink (RFC 7335).
#[test]
fn native_ipv4_comes_and_goes() {
    with_each_way(|net, config| {
        let daemon = net.start_up(&format!("{config}v4-conncheck-delay=1\n"));
        let at_router = Capture::start(&net.router);
        let listener = listen(&net.server, SERVER);
        let connection = connect(&net.host, SERVER, &listener);
        exchange(&connection, 1000);

        net.router.ip("addr add 203.0.113.1/24 dev host");
        net.host.ip("addr add 203.0.113.2/24 dev eth0
            route add default via 203.0.113.1");
        daemon.prints("Stepping aside: eth0 has native IPv4");
        wait_for("the native route alone", || {
            let routes = net.host.run("ip -4 route");
            (!routes.contains("dev clat")).then_some(())
        });
        exchange(&connection, 1000);
        exchange(&connect(&net.host, SERVER, &listener), 1000);
        net.host
            .ip("addr flush dev eth0 scope global to 203.0.113.0/24");
        net.wait_for_ipv4();
        exchange(&connection, 1000);
        exchange(&connect(&net.host, SERVER, &listener), 1000);
        assert_eq!(daemon.log().matches("Stepping aside").count(), 1);
        while let Some(packet) = at_router.next(Ipv4::parse) {
            let [source @ .., last] = packet.source.octets();
            assert!(source != [192, 0, 0] || last > 7, "{packet:?}");
        }
    });
}

/// With native IPv4 that stays, and no connection that goes on, nothing is left of the CLAT after
/// 120 s; it is back at once.
#[test]
fn nothing_is_left_beside_native_ipv4() {
    clat_case(|net| {
        let daemon = net.start_up("v4-conncheck-delay=0\n");
        let address = address_behind(net);
        net.router.ip("addr add 203.0.113.1/24 dev host");
        net.host.ip("addr add 203.0.113.2/24 dev eth0
            route add default via 203.0.113.1");
        daemon.prints("Stepping aside: eth0 has native IPv4");
        thread::sleep(Duration::from_secs(115));
        assert!(net.host.has("clat"));
        wait_for("the end of the device", || {
            (!net.host.has("clat")).then_some(())
        });
        let aside = net.state();
        for left in ["192.0.0.", "xlatd", "force_forwarding = 1"] {
            assert!(!aside.contains(left), "{left}: {aside}");
        }
        net.host
            .ip("addr flush dev eth0 scope global to 203.0.113.0/24");
        net.wait_for_ipv4();
        assert_eq!(address_behind(net), address);
    });
}

/// A VPN that takes all of IPv4, and whose own packets go through the CLAT, does not switch it off.
#[test]
fn a_tunnel_is_no_native_ipv4() {
    clat_case(|net| {
        let daemon = net.start_up("v4-conncheck-delay=0\n");
        net.host.ip("tuntap add dev vpn mode tun
            addr add 10.8.0.2/24 dev vpn
            link set vpn up
            route add default via 10.8.0.1 dev vpn
            route add 198.51.100.2 dev clat");
        net.wait_for_ipv4();
        assert!(!daemon.log().contains("Stepping aside"), "{}", daemon.log());
    });
}

/// `script-up` and `script-down`, with the settings in their environment.
#[test]
fn scripts_are_run() {
    clat_case(|net| {
        let directory = Directory::new();
        let said = directory.file("said");
        let mut daemon = net.start_up(&format!(
            "clat-dev=clat-x\nscript-up=echo up $clat_dev >>{said}\nscript-down=echo down $clat_v4_addr >>{said}\n",
            said = said.display()
        ));
        let read = || fs::read_to_string(&said).unwrap_or_default();
        wait_for("script-up", || (read() == "up clat-x\n").then_some(()));
        daemon.signal(Signal::SIGTERM);
        daemon.wait();
        assert_eq!(read(), "up clat-x\ndown 192.0.0.1\n");
    });
}

/// SIGUSR1 asks what became of the packets, and why some were dropped.
#[test]
fn it_says_what_became_of_the_packets() {
    clat_case(|net| {
        let daemon = net.start("");
        daemon.signal(Signal::SIGUSR1);
        daemon.prints("No packet has been translated yet");
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
        // Multicast goes nowhere.
        let socket = net.host.inside(|| UdpSocket::bind("192.0.0.1:0")).unwrap();
        net.host.ip("route add 224.0.0.0/4 dev clat");
        socket.send_to(b"all", "224.0.0.7:9").unwrap();
        wait_for("a line for the reason", || {
            daemon.signal(Signal::SIGUSR1);
            thread::sleep(Duration::from_millis(50));
            daemon
                .log()
                .contains("IPv4 to IPv6: 1 dropped: ")
                .then_some(())
        });
        assert!(net.pings(), "it goes on");
    });
}

/// More happens to the network than there is room for: what counts is how it is in the end.
#[test]
fn changes_that_were_missed_are_seen() {
    clat_case(|net| {
        let daemon = net.start_up("");
        daemon.signal(Signal::SIGSTOP);
        // Each is a message of about 100 octets, but takes more of the 208 KiB that the kernel has
        // for them by default.
        let mut routes = String::new();
        for number in 0..3000 {
            let (high, low) = (number / 256, number % 256);
            routes += &format!("route add 10.9.{high}.{low}/32 dev lo\n");
        }
        net.host.ip(&routes);
        net.host.ip("rule delete from 192.0.0.1");
        daemon.signal(Signal::SIGCONT);
        wait_for("the rule", || {
            net.host
                .run("ip rule")
                .contains("from 192.0.0.1")
                .then_some(())
        });
        net.wait_for_ipv4();
    });
}

/// `v4-defaultroute-replace`: programs use it even where there is native IPv4.
#[test]
fn native_ipv4_can_be_replaced() {
    clat_case(|net| {
        net.router.ip("addr add 203.0.113.1/24 dev host");
        net.host.ip("addr add 203.0.113.2/24 dev eth0
            route add default via 203.0.113.1 metric 100");
        let _daemon = net.start("v4-defaultroute-replace=yes\nv4-conncheck-delay=0\n");
        net.advertise(&[(PREFIX, 600)]);
        wait_for("the CLAT's route", || {
            let route = net.host.run(&format!("ip route get {SERVER}"));
            route.contains("dev clat").then_some(())
        });
        net.wait_for_ipv4();
    });
}

/// A container behind masquerade on the host has IPv4, with TCP of full segments and UDP with DF
/// that is told the MTU.
#[test]
fn a_container_behind_the_host_has_ipv4() {
    with_each_way(|net, config| {
        let container = net.container();
        net.host.run(
            "nft add table ip nat ; \
             add chain ip nat postrouting { type nat hook postrouting priority srcnat ; } ; \
             add rule ip nat postrouting oifname clat masquerade",
        );
        let _daemon = net.start_up(config);
        wait_for("the container to get out", || {
            let ping = format!("ping -n -c 1 -W 0.3 {SERVER}");
            container.output(&ping).status.success().then_some(())
        });
        let listener = listen(&net.server, SERVER);
        exchange(&connect(&container, SERVER, &listener), 1 << 20);
        let socket = udp_socket(&container, "10.1.0.2", 0, Fragmentation::Forbidden);
        socket.connect((SERVER, 9)).unwrap();
        wait_for("the MTU of the CLAT", || {
            let _ = socket.send(&pattern(1472));
            (getsockopt(&socket, Ipv4Mtu) == Ok(1472)).then_some(())
        });
    });
}

/// The comparison above would show what is left: each line that counts.
#[test]
fn the_filter_shows_what_is_left() {
    let line = "inet6 2001:db8::1/64 scope global valid_lft 3600sec preferred_lft 1800sec";
    let later = "inet6 2001:db8::1/64 scope global valid_lft 3599sec preferred_lft 1799sec";
    assert_eq!(filter(line), filter(later));
    for (line, other) in [
        (
            line,
            "inet6 2001:db8::2/64 scope global valid_lft 3600sec preferred_lft 1800sec",
        ),
        (
            "default dev a metric 5 expires 5sec",
            "default dev a metric 6 expires 5sec",
        ),
        ("32766: from all lookup main", ""),
        (
            "net.ipv6.conf.eth0.forwarding = 0",
            "net.ipv6.conf.eth0.forwarding = 1",
        ),
    ] {
        assert_ne!(filter(line), filter(other));
    }
}

/// RFC 4861 section 6.1.2, RFC 6052 section 2.2: advertisements that no router of the link has
/// sent, and prefixes that no NAT64 can have, are ignored.
#[test]
fn rogue_advertisements_are_ignored() {
    clat_case(|net| {
        let daemon = net.start("");
        net.advertise(&[]);
        daemon.prints("Waiting for a NAT64 prefix");
        // Multicast, link-local, loopback, and the prefix of the link itself.
        net.advertise(&[
            ("ff0e::", 600),
            ("fe80::", 600),
            ("::", 600),
            ("2001:db8:6::", 600),
        ]);
        for cut in [1, 9, 17] {
            let message = advertisement(1800, &[(PREFIX, 600)]);
            net.advertise_with(&message[..message.len() - cut]);
        }
        let mut zero = advertisement(1800, &[]);
        zero.extend([38, 0, 2, 88, 0, 0, 0, 0]);
        net.advertise_with(&zero);
        let message = advertisement(1800, &[(PREFIX, 600)]);
        net.advertise_by(&message, 64);
        net.advertise_from(Some("2001:db8:6::1"), &message, 255);
        let many: Vec<_> = (0..80).map(|number| format!("ff0e:{number:x}::")).collect();
        let many: Vec<_> = many.iter().map(|prefix| (prefix.as_str(), 600)).collect();
        net.advertise(&many);
        thread::sleep(Duration::from_millis(300));
        assert!(!daemon.log().contains("IPv4 via"), "{}", daemon.log());
        net.advertise(&[("ff0e::", 600), (PREFIX, 600)]);
        net.wait_for_ipv4();
        // Each is said once, and no more of those that nobody would read.
        let log = daemon.log();
        for said in [
            "Ignoring NAT64 prefix ff0e::/96 on eth0: not a valid one",
            "Ignoring NAT64 prefix 2001:db8:6::/96 on eth0: it overlaps with a network of this host",
            ": hop limit is not 255",
            "Ignoring Router Advertisement from 2001:db8:6::1: source is not link-local",
            ": truncated, or with an option of length 0",
        ] {
            assert_eq!(log.matches(said).count(), 1, "{said}: {log}");
        }
        assert!(log.matches("Ignoring NAT64 prefix").count() <= 16, "{log}");
    });
}

/// RFC 7915 sections 4 and 5: ping, traceroute that shows every hop, path MTU discovery with a
/// bottleneck before and behind the NAT64, and large datagrams in fragments.
#[test]
fn errors_and_fragments_cross() {
    with_each_way(|net, config| {
        let _daemon = net.start_up(config);
        let hops = net.host.run(&format!("traceroute -n -q 1 -w 2 {SERVER}"));
        let lines: Vec<_> = hops.lines().skip(1).collect();
        assert!(lines.len() >= 3 && !hops.contains('*'), "{hops}");
        assert!(lines.last().unwrap().contains(SERVER), "{hops}");

        let listener = listen(&net.server, SERVER);
        net.server.ip("link set router mtu 1400");
        net.router.ip("link set server mtu 1400");
        exchange(&connect(&net.host, SERVER, &listener), 1 << 18);
        net.router.ip("link set plat mtu 1300");
        exchange(&connect(&net.host, SERVER, &listener), 1 << 18);
        let sender = udp_socket(&net.host, "192.0.0.1", 4000, Fragmentation::Allowed);
        let receiver = udp_socket(&net.server, SERVER, 4000, Fragmentation::Allowed);
        sender.send_to(&pattern(3000), (SERVER, 4000)).unwrap();
        assert_eq!(
            uninterrupted(|| receiver.recv(&mut [0; 4000])).unwrap(),
            3000
        );
        // IPv6 of programs to the NAT64 prefix does not go through the CLAT.
        exchange(&connect(&net.host, PREFIX_SERVER, &listener), 1000);
    });
}

/// RFC 7600 section 4.8 and draft-ietf-v6ops-icmpext-xlat-v6only-source: a router of the provider
/// is the dummy address in IPv4, and what it is in IPv6 is said beside it, unless `icmp-node-id`
/// says no.
#[test]
fn traceroute_names_routers_of_the_provider() {
    const NAMED: &str = "192.0.0.8 <5/4:00020000,20010db8,00060000,00000000,00000001>";
    for (config, router) in [("", NAMED), ("icmp-node-id=no\n", "192.0.0.8")] {
        clat_case(|net| {
            let _daemon = net.start_up(config);
            let at_host = Capture::start(&net.host);
            let hops = extensions(&net.host, SERVER);
            assert_eq!(hops[..2], ["192.0.0.2", router]);
            assert_eq!(hops.last().unwrap(), SERVER);
            if config.is_empty() {
                let error = at_host.ipv4("an error", |packet| {
                    packet.source.octets() == [192, 0, 0, 8] && packet.payload[..2] == [11, 0]
                });
                names_node(&error, "2001:db8:6::1");
            }
        });
    }
}

pub(crate) fn host_address(net: &ClatNet) -> String {
    let addresses = net
        .host
        .run("ip -6 -oneline address show dev eth0 scope global");
    let (_, address) = addresses.split_once("inet6 ").unwrap();
    address.split_once('/').unwrap().0.to_owned()
}

/// The IPv6 address of the translator: the kernel has a route for it, to nowhere or to the device.
pub(crate) fn address_behind(net: &ClatNet) -> String {
    any_address_behind(net).expect("a route of the CLAT address")
}

/// The same, if there is one.
pub(crate) fn any_address_behind(net: &ClatNet) -> Option<String> {
    let direct = net
        .host
        .run("ip -6 route show table local type blackhole proto 100");
    let forwarded = net
        .host
        .run("ip -6 route show table all dev clat proto 100");
    let mut routes = direct.lines().chain(forwarded.lines());
    let route = routes.next()?.trim_start_matches("blackhole ");
    route.split_whitespace().next().map(str::to_owned)
}
