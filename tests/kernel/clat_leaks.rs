//! What leaves a host by its CLAT, and what does not; and what programs are told about that.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, TcpStream},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        signal::Signal,
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn,
            connect as connect_to, sendto, setsockopt, socket, sockopt::BindToDevice,
        },
    },
};

use crate::{
    clat::{ClatNet, FORWARD, PREFIX_SERVER, SERVER, address_behind, host_address, with_each_way},
    forward::{connect, exchange, listen},
    harness::{Netns, uninterrupted, wait_for},
    packet::{ICMP, ICMPV6, Ipv4, Ipv6, TCP, UDP, pattern, udp},
    socket::{Capture, Fragmentation, Ipv4MtuDiscover, send4, send6, udp_socket},
};

/// RFC 1191 section 3: what is learned of the path counts for every socket, whether it has a source
/// of its own or not: nobody sends what is too large for ever.
#[test]
fn every_socket_learns_the_path_mtu() {
    /// What a datagram may hold on a path of 1300 octets of IPv6.
    const FITS: usize = 1300 - 40 - 8;
    for kind in [Kind::Connected, Kind::Unconnected, Kind::Raw] {
        with_each_way(|net, config| {
            let _daemon = net.start_up(config);
            net.router.ip("link set plat mtu 1300");
            let at_server = udp_socket(&net.server, SERVER, 9, Fragmentation::Allowed);
            let send = kind.sender(net);
            wait_for("the path MTU", || {
                // The first ones may be told of those before; the last is not sent at all.
                let results = [(); 4].map(|()| send(FITS + 1));
                (results == [Err(Errno::EMSGSIZE); 4]).then_some(())
            });
            wait_for("what fits", || send(FITS).is_ok().then_some(()));
            assert_eq!(
                uninterrupted(|| at_server.recv(&mut [0; 2000])).unwrap(),
                FITS,
                "{kind:?}"
            );
        });
    }
}

/// A socket that sends UDP with DF to the server.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Connected,
    Unconnected,
    Raw,
}

impl Kind {
    /// Sends a datagram with so many octets.
    fn sender(self, net: &ClatNet) -> Box<dyn Fn(usize) -> Result<(), Errno>> {
        let to = SocketAddrV4::new(SERVER.parse().unwrap(), 9);
        let flags = MsgFlags::empty();
        if let Self::Raw = self {
            let socket = net.host.inside(|| {
                let (flags, protocol) = (SockFlag::SOCK_CLOEXEC, SockProtocol::Udp);
                socket(AddressFamily::Inet, SockType::Raw, flags, protocol)
            });
            let socket = socket.unwrap();
            setsockopt(&socket, Ipv4MtuDiscover, &libc::IP_PMTUDISC_DO).unwrap();
            return Box::new(move |len| {
                let header = [9, 9, len as u16 + 8, 0].map(u16::to_be_bytes);
                let datagram = [header.as_flattened(), &pattern(len)].concat();
                let to = SockaddrIn::from(to);
                sendto(socket.as_raw_fd(), &datagram, &to, flags).map(drop)
            });
        }
        let socket = udp_socket(&net.host, "0.0.0.0", 0, Fragmentation::Forbidden);
        if let Self::Connected = self {
            socket.connect(to).unwrap();
        }
        Box::new(move |len| {
            let sent = match self {
                Self::Connected => socket.send(&pattern(len)),
                _ => socket.send_to(&pattern(len), to),
            };
            let error = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap());
            sent.map(drop).map_err(error)
        })
    }
}

/// What others do to the next hop is repaired, and one of another program that has its number is
/// left alone: then routes do without.
#[test]
fn the_next_hop_comes_back() {
    with_each_way(|net, config| {
        let daemon = net.start_up(config);
        let routes = || net.host.run("ip -4 route show table all dev clat");
        let before = routes();
        assert_eq!(before.matches("nhid 49575").count(), 2, "{before}");
        net.host.ip("nexthop delete id 49575");
        wait_for("next hop and routes", || (routes() == before).then_some(()));
        net.wait_for_ipv4();
        drop(daemon);
        net.host.ip("nexthop add id 49575 blackhole");
        let _daemon = net.start_up(config);
        assert!(!routes().contains("nhid"), "{}", routes());
        let next_hops = net.host.run("ip nexthop");
        assert_eq!(next_hops.trim(), "id 49575 blackhole");
    });
}

/// RFC 7335 section 6: packets with an address of 192.0.0.0/29 do not leave the host, not even from
/// sockets that are bound to the uplink, or when rules of others give them that address. Programs
/// are told at once.
#[test]
fn nothing_leaves_by_the_uplink_with_our_address() {
    with_each_way(|net, config| {
        let _daemon = net.start_up(config);
        let at_router = Capture::start(&net.router);

        let ping = net
            .host
            .output(&format!("ping -n -c 1 -W 1 -I eth0 {SERVER}"));
        assert!(!ping.status.success());
        let bound = udp_socket(&net.host, "0.0.0.0", 0, Fragmentation::Allowed);
        setsockopt(&bound, BindToDevice, &"eth0".into()).unwrap();
        let sent = bound.send_to(b"out", (SERVER, 9));
        let error = sent.map_err(|error| error.kind());
        assert_eq!(error, Err(io::ErrorKind::PermissionDenied), "at once");
        let stream = net.host.inside(|| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(AddressFamily::Inet, SockType::Stream, flags, None)
        });
        let stream = stream.unwrap();
        setsockopt(&stream, BindToDevice, &"eth0".into()).unwrap();
        let to = SockaddrIn::from(SocketAddrV4::new(SERVER.parse().unwrap(), 9));
        let _ = connect_to(stream.as_raw_fd(), &to);
        let container = Container::new(net);
        net.host
            .run("nft add rule ip nat out ip saddr 10.1.0.2 snat to 192.0.0.1");
        net.host.ip("route add 203.0.113.0/24 dev eth0");
        container.0.output("ping -n -c 1 -W 0.3 203.0.113.1");

        net.wait_for_ipv4();
        let ours: Ipv4Addr = "192.0.0.1".parse().unwrap();
        let leaked = at_router.next(|octets| {
            let is_ip = Ipv4::parse(octets).is_some_and(|packet| packet.source == ours);
            // Who has it asks so for others (RFC 826): the sender's address follows its hardware's.
            let asks = octets.starts_with(&[0, 1, 8, 0, 6, 4]) && octets[14..18] == ours.octets();
            (is_ip || asks).then(|| octets.to_vec())
        });
        assert_eq!(leaked, None);
    });
}

/// RFC 4193 section 4.3: nothing leaves by the uplink with a private address of the translator,
/// also if it belongs to no connection, so that the kernel does not translate it.
#[test]
fn nothing_leaves_with_a_private_address() {
    with_each_way(|net, config| {
        let _daemon = net.start_up(config);
        let at_router = Capture::start(&net.router);
        let at_host = Capture::start(&net.host);
        // A reset of what was never open (invalid), and one that is not tracked.
        let reset = [
            9, 9, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 4, 0, 0, 0, 0, 0, 0,
        ];
        for untracked in [false, true] {
            if untracked {
                net.host.run(
                    "nft add table inet raw ; \
                     add chain inet raw in { type filter hook prerouting priority raw ; } ; \
                     add rule inet raw in iifname clat notrack",
                );
            }
            let packet = Ipv4::new("192.0.0.1", SERVER, TCP, reset.to_vec());
            send4(&net.host, &packet);
            at_host.ipv6("the translation", |packet| {
                packet.next_header == TCP && packet.payload[13] == 4
            });
        }
        net.host.run("nft delete table inet raw");
        net.wait_for_ipv4();
        let private = |packet: &Ipv6| packet.source.segments()[..3] == [0xfdc1, 0xa700, 0x464];
        let leaked = at_router.next(|octets| Ipv6::parse(octets).filter(private));
        assert!(leaked.is_none(), "{leaked:?}");
    });
}

/// RFC 4443 section 2.2 (a): an ICMPv6 error of the translator comes from the address that the
/// packet was sent to, and not from a private one.
#[test]
fn errors_of_the_translator_come_from_the_clat_address() {
    with_each_way(|net, config| {
        let _daemon = net.start_up(config);
        let ours = match config {
            "" | FORWARD => address_behind(net),
            _ => host_address(net),
        };
        let at_router = Capture::start(&net.router);
        let socket = udp_socket(&net.host, "192.0.0.1", 4000, Fragmentation::Allowed);
        socket.send_to(b"question", (SERVER, 9)).unwrap();
        let is_to = |packet: &Ipv6, to: &str| packet.destination == to.parse::<Ipv6Addr>().unwrap();
        at_router.ipv6("the question", |packet| is_to(packet, PREFIX_SERVER));
        let answer = udp(PREFIX_SERVER, &ours, [9, 4000], b"answer");
        let answer = Ipv6 {
            // One goes to the kernel's forwarding.
            hop_limit: if config.is_empty() { 1 } else { 2 },
            ..Ipv6::new(PREFIX_SERVER, &ours, UDP, answer)
        };
        send6(&net.router, &answer);
        let error = at_router.ipv6("an ICMPv6 error", |packet| {
            packet.next_header == ICMPV6 && packet.payload[0] == 3 && is_to(packet, PREFIX_SERVER)
        });
        assert_eq!(error.source.to_string(), ours);
    });
}

/// Connections of containers that are open when native IPv4 comes go on by the CLAT, as the host's
/// own do; new ones are native. So it is where the kernel is strict about the ways of packets.
#[test]
fn connections_of_containers_outlast_native_ipv4() {
    for rp_filter in ["0", "1"] {
        with_each_way(|net, config| {
            for device in ["all", "default", "eth0"] {
                net.host
                    .sysctl(&format!("ipv4/conf/{device}/rp_filter"), rp_filter);
            }
            let container = Container::new(net);
            net.host
                .run("nft add rule ip nat out oifname { clat, eth0 } masquerade");
            let daemon = net.start_up(&format!("{config}v4-conncheck-delay=1\n"));
            let listener = listen(&net.server, SERVER);
            let connection = connect(&container.0, SERVER, &listener);
            exchange(&connection, 1000);
            net.router.ip("addr add 203.0.113.1/24 dev host");
            net.host.ip("addr add 203.0.113.2/24 dev eth0
            route add default via 203.0.113.1");
            exchange(&connection, 1000);
            daemon.prints("Stepping aside: eth0 has native IPv4");
            wait_for("the native route alone", || {
                let routes = net.host.run("ip -4 route");
                (!routes.contains("clat")).then_some(())
            });
            exchange(&connection, 1000);
            let at_router = Capture::start(&net.router);
            exchange(&connect(&container.0, SERVER, &listener), 1000);
            at_router.ipv4("native packets", |packet| {
                packet.source == Ipv4Addr::new(203, 0, 113, 2)
            });
        });
    }
}

/// RFC 6877: a CLAT is for the address of its host. A network behind it that is not translated to
/// that leaves in no form; it is told, and so is the administrator, once, with the command.
#[test]
fn a_network_behind_the_host_needs_masquerading() {
    with_each_way(|net, config| {
        let container = Container::new(net);
        let daemon = net.start_up(config);
        let at_router = Capture::start(&net.router);
        let at_container = Capture::start(&container.0);
        let ping = || {
            let ping = format!("ping -n -c 1 -W 0.3 {SERVER}");
            container.0.output(&ping).status.success()
        };
        assert!(!ping() && !ping());
        at_container.ipv4("an ICMP error", |packet| {
            packet.payload.starts_with(&[3, 10]) && packet.protocol == ICMP
        });
        daemon.prints("nft add rule ip lan out oifname clat masquerade");
        assert_eq!(daemon.log().matches("masquerade").count(), 1);
        daemon.signal(Signal::SIGUSR1);
        daemon.prints("IPv4 to IPv6: 2 dropped: no mapping for the source");
        net.wait_for_ipv4();
        let behind = |packet: &Ipv6| packet.source.octets()[12..] == [10, 1, 0, 2];
        let left = at_router.next(|octets| Ipv6::parse(octets).filter(behind));
        assert!(left.is_none(), "{left:?}");
        net.host
            .run("nft add rule ip nat out oifname clat masquerade");
        wait_for("the container to get out", || ping().then_some(()));
    });
}

/// draft-ietf-v6ops-claton: what no NAT64 can serve is not sent to it, and programs do not wait for
/// an answer, whatever address they send from.
#[test]
fn what_no_nat64_can_serve_is_unreachable_at_once() {
    with_each_way(|net, config| {
        let _daemon = net.start_up(config);
        let at_router = Capture::start(&net.router);
        for to in ["169.254.9.9", "192.0.0.3", "192.0.0.6"] {
            for from in ["0.0.0.0", "192.0.0.1"] {
                let socket = udp_socket(&net.host, from, 0, Fragmentation::Allowed);
                socket.connect((to, 9)).unwrap();
                wait_for(&format!("an error from {from} to {to}"), || {
                    let error = socket.send(b"out").map_err(|error| error.kind());
                    (error == Err(io::ErrorKind::HostUnreachable)).then_some(())
                });
            }
            let start = Instant::now();
            let connected = net.host.inside(|| TcpStream::connect((to, 9)));
            let error = connected.unwrap_err().kind();
            assert_eq!(error, io::ErrorKind::HostUnreachable, "{to}");
            assert!(start.elapsed() < Duration::from_secs(5), "{to}");
        }
        // Nobody may be told of a group's packets (RFC 1122 section 3.2.2).
        let socket = udp_socket(&net.host, "192.0.0.1", 0, Fragmentation::Allowed);
        for _ in 0..3 {
            socket.send_to(b"all", "224.0.0.7:9").unwrap();
        }
        net.wait_for_ipv4();
        // Its own address is the first hop.
        net.host.run("ping -n -c 1 -W 5 192.0.0.2");
        let embeds = |packet: &Ipv6| {
            packet.destination.segments()[..6] == [0x2001, 0xdb8, 0x64, 0, 0, 0]
                && packet.destination.octets()[12..] != [198, 51, 100, 2]
        };
        let left = at_router.next(|octets| Ipv6::parse(octets).filter(embeds));
        assert!(left.is_none(), "{left:?}");
    });
}

/// draft-ietf-v6ops-claton: nor are addresses of the host's own links, which sockets of our address
/// cannot reach, and others as ever.
#[test]
fn addresses_of_own_links_are_unreachable_at_once() {
    with_each_way(|net, config| {
        let _container = Container::new(net);
        let _daemon = net.start_up(config);
        let bound = || {
            let socket = udp_socket(&net.host, "192.0.0.1", 0, Fragmentation::Allowed);
            let sent = socket.send_to(b"out", ("10.1.0.2", 9));
            sent.map_err(|error| error.kind())
        };
        assert_eq!(bound(), Err(io::ErrorKind::HostUnreachable));
        net.host.run("ping -n -c 1 -W 5 10.1.0.2");
        net.host.run("ping -n -c 1 -W 5 -I 192.0.0.1 10.1.0.1");
        net.host.ip("link delete box");
        wait_for("no route", || bound().is_ok().then_some(()));
    });
}

/// A default route that link-local addresses came with (RFC 3927), which leads nowhere, does not go
/// before the CLAT; native IPv4 does, from the start.
#[test]
fn a_link_local_default_route_is_not_used() {
    with_each_way(|net, config| {
        let daemon = net.start_up(&format!("{config}v4-conncheck-delay=600\n"));
        net.host.ip("addr add 169.254.7.7/16 dev eth0 scope link
            route add default dev eth0 scope link metric 1003");
        let is_used = |device: &str| {
            let route = net.host.run(&format!("ip route get {SERVER}"));
            route.contains(&format!("dev {device}"))
        };
        wait_for("the CLAT's route", || is_used("clat").then_some(()));
        net.wait_for_ipv4();
        net.router.ip("addr add 203.0.113.1/24 dev host");
        net.host
            .ip("route delete default dev eth0 scope link metric 1003
            addr add 203.0.113.2/24 dev eth0
            route add default via 203.0.113.1 metric 1024");
        wait_for("the native route", || is_used("eth0").then_some(()));
        net.wait_for_ipv4();
        assert!(!daemon.log().contains("Stepping aside"), "{}", daemon.log());
    });
}

/// The container behind the host, and an nftables chain `ip nat out` for it.
struct Container(Netns);

impl Container {
    fn new(net: &ClatNet) -> Self {
        let container = net.container();
        net.host.run(
            "nft add table ip nat ; \
             add chain ip nat out { type nat hook postrouting priority srcnat ; }",
        );
        Self(container)
    }
}
