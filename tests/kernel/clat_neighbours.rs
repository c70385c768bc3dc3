//! What neighbours can do through the host of a CLAT: nothing.

use std::{
    fs,
    net::{SocketAddrV6, UdpSocket},
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, bind, sendto, socket,
};

use crate::{
    clat::{
        ClatNet, FORWARD, PREFIX, PREFIX_SERVER, address_behind, clat_case, host_address,
        with_each_way,
    },
    clat_host::OLD_KERNEL,
    harness::{Daemon, Netns, uninterrupted, wait_for},
    packet::{Ipv4, Ipv6},
    socket::{Capture, Fragmentation, udp_socket},
};

/// A neighbour can neither open a connection to a service of the host through the CLAT, nor use the
/// host as a router.
#[test]
fn neighbours_do_not_come_in() {
    with_each_way(|net, config| {
        let _daemon = net.start_up(config);
        let host = host_address(net);
        let at_server = Capture::start(&net.server);
        let at_host = net.host.inside(|| UdpSocket::bind("0.0.0.0:4000")).unwrap();
        at_host
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        // The private address behind the device, and a way through the host to somewhere else.
        net.router.ip(&format!(
            "route add fdc1:a700:464::/96 via {host}
            route add 2001:db8:99::/64 via {host}"
        ));
        net.host.ip("route add 2001:db8:99::/64 via 2001:db8:6::1");
        let neighbour = udp_socket(&net.router, "2001:db8:6::1", 4001, Fragmentation::Allowed);
        for to in [
            "fdc1:a700:464::192.0.0.1",
            "2001:db8:99::1",
            &address_behind(net),
        ] {
            neighbour.send_to(b"let me in", (to, 4000)).unwrap();
        }
        assert!(
            uninterrupted(|| at_host.recv(&mut [0; 100])).is_err(),
            "somebody came in"
        );
        let forwarded = at_server.next(|octets| {
            Ipv6::parse(octets).filter(|packet| packet.destination.segments()[2] == 0x99)
        });
        assert!(forwarded.is_none(), "{forwarded:?}");
    });
}

/// Packets that belong to no connection do not come in either: answers that nobody has asked for,
/// and TCP that begins nothing.
#[test]
fn what_nobody_has_asked_for_does_not_come_in() {
    with_each_way(|net, config| {
        let _daemon = net.start_up(config);
        let to = if config != "clat-v6-addr=shared\n" {
            address_behind(net)
        } else {
            net.router.ip(&format!(
                "route add fdc1:a700:464::/96 via {}",
                host_address(net)
            ));
            "fdc1:a700:464::192.0.0.1".to_owned()
        };
        net.router
            .ip(&format!("addr add {PREFIX_SERVER}/128 dev lo nodad"));
        let received = || {
            let all = net
                .host
                .inside(|| fs::read_to_string("/proc/thread-self/net/snmp"));
            let of = |name: &str| {
                let all = all.as_ref().unwrap();
                let mut lines = all.lines().filter(|line| line.starts_with(name));
                let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
                let at = |field| names.split(' ').position(|one| one == field);
                let at = at("InSegs").or(at("InMsgs")).unwrap();
                values.split(' ').nth(at).unwrap().to_owned()
            };
            [of("Tcp: "), of("Icmp: ")]
        };
        let before = received();
        let send = |protocol, message: &[u8]| {
            let socket = net.router.inside(|| {
                socket(
                    AddressFamily::Inet6,
                    SockType::Raw,
                    SockFlag::SOCK_CLOEXEC,
                    protocol,
                )
            });
            let socket = socket.unwrap();
            let address =
                |text: &str| SockaddrIn6::from(SocketAddrV6::new(text.parse().unwrap(), 0, 0, 0));
            bind(socket.as_raw_fd(), &address(PREFIX_SERVER)).unwrap();
            sendto(
                socket.as_raw_fd(),
                message,
                &address(&to),
                MsgFlags::empty(),
            )
            .unwrap();
        };
        for kind in [128, 129] {
            send(SockProtocol::IcmpV6, &[kind, 0, 0, 0, 0, 7, 0, 1]);
        }
        for flags in [0, 1, 2, 3, 4, 16] {
            let mut segment = [
                0x9c, 0x40, 0, 22, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 4, 0, 0, 0, 0, 0,
            ];
            let checksum = !crate::packet::transport_sum(
                PREFIX_SERVER.parse().unwrap(),
                to.parse().unwrap(),
                crate::packet::TCP,
                &segment,
            );
            segment[16..18].copy_from_slice(&checksum.to_be_bytes());
            send(SockProtocol::Tcp, &segment);
        }
        thread::sleep(Duration::from_millis(300));
        assert_eq!(received(), before);
    });
}

/// A network behind the host, to which nobody is to be forwarded: it is not a router.
struct Lan(Netns);

impl Lan {
    fn new(net: &ClatNet) -> Self {
        let lan = Netns::new().unwrap();
        let path = lan.path();
        net.host.ip(&format!(
            "link add eth1 type veth peer name eth0 netns {path}
            link set eth1 up
            addr add 2001:db8:7::1/64 dev eth1 nodad"
        ));
        lan.ip("link set eth0 up
            addr add 2001:db8:7::2/64 dev eth0 nodad
            route add default via 2001:db8:7::1");
        net.advertise(&[]);
        net.wait_for_ipv6();
        let host = host_address(net);
        net.router
            .ip(&format!("route add 2001:db8:7::/64 via {host}"));
        Self(lan)
    }

    /// Whether something from the uplink comes in.
    fn is_reached(&self, net: &ClatNet) -> bool {
        let questions = || {
            let counters = self
                .0
                .inside(|| fs::read_to_string("/proc/thread-self/net/snmp6"));
            let counters = counters.unwrap();
            let line = counters
                .lines()
                .find(|line| line.starts_with("Icmp6InEchos"));
            line.unwrap().to_owned()
        };
        let before = questions();
        net.router.output("ping -n -c 1 -W 0.3 2001:db8:7::2");
        questions() != before
    }
}

/// Whatever happens to the table or to the name of the uplink.
#[test]
fn neighbours_do_not_get_through() {
    let body = |net: &ClatNet, config: &str| {
        let lan = Lan::new(net);
        assert!(!lan.is_reached(net));
        let mut daemon = net.start_up(config);
        assert!(!lan.is_reached(net));
        // A firewall that is loaded twice.
        for _ in 0..2 {
            net.host.run("nft flush ruleset");
            let start = Instant::now();
            wait_for("the table", || {
                let ruleset = net.host.run("nft list ruleset");
                ruleset.contains("xlatd_clat").then_some(())
            });
            let elapsed = start.elapsed();
            assert!(elapsed < Duration::from_secs(9), "{elapsed:?}");
            assert!(!lan.is_reached(net));
        }
        // So is a table of which only the rules are gone.
        let chain = match config {
            FORWARD => "inet xlatd_clat forward",
            _ => "ip xlatd_clat prerouting",
        };
        net.host.run(&format!("nft flush chain {chain}"));
        wait_for("the rules", || {
            let ruleset = net.host.run("nft list ruleset");
            ruleset.contains("ct state").then_some(())
        });
        assert!(!lan.is_reached(net));

        net.host.ip("link set eth0 name lan0");
        net.advertise(&[(PREFIX, 600)]);
        daemon.prints("IPv4 via lan0");
        assert!(!lan.is_reached(net));
        net.wait_for_ipv4();
        daemon.stop();
        assert!(!lan.is_reached(net));
    };
    for config in ["", FORWARD] {
        clat_case(|net| body(net, config));
    }
}

/// Before Linux 6.17 other devices would forward, too: neither does who is behind them get through,
/// nor at us.
#[test]
fn an_older_kernel_forwards_for_nobody_else() {
    clat_case(|net| {
        let lan = Lan::new(net);
        let daemon = Daemon::start_clat_by(&OLD_KERNEL, &net.host, &net.runtime, FORWARD);
        daemon.prints("Waiting for a NAT64 prefix");
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
        assert!(!lan.is_reached(net));
        let at_router = Capture::start(&net.router);
        let at_host = Capture::start(&net.host);
        lan.0.output("ping -n -c 1 -W 0.3 2001:db8:6::1");
        let ours = address_behind(net);
        lan.0.ip(&format!(
            "link set lo up\naddr add {PREFIX_SERVER}/128 dev lo nodad"
        ));
        let ping = format!("ping -n -c 1 -W 0.3 -I {PREFIX_SERVER} {ours}");
        lan.0.output(&ping);
        let through = at_router
            .next(|octets| Ipv6::parse(octets).filter(|packet| packet.source.segments()[2] == 7));
        assert!(through.is_none(), "{through:?}");
        let came = at_host.next(|octets| {
            Ipv4::parse(octets).filter(|packet| packet.destination.octets()[..3] == [192, 0, 0])
        });
        assert!(came.is_none(), "{came:?}");
    });
}
