//! A CLAT and its uplink: one of several, of another MTU, and with next hops that change, fall
//! silent or have another link-layer address.

use std::{
    io::ErrorKind,
    net::{Ipv6Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::{
    clat::{
        ClatNet, PREFIX, SERVER, advertisement, clat_case, forward, masquerade, namespace, nat64,
        send_to_all_nodes, wait_for_link_local, with_each_way,
    },
    clat_flow::{Flow, ROUTER, Sockets},
    harness::{DEADLINE, Daemon, Netns, uninterrupted, wait_for},
    socket::{Fragmentation, udp_socket},
};

/// The other router, as the server sees it.
const OTHER_ROUTER: &str = "203.0.113.1";
/// The network on its link, if that is another one.
const OTHER_NETWORK: &str = "2001:db8:7::";

/// Another router with a NAT64 of the same prefix, and a way to the server of its own.
struct Router {
    ns: Netns,
    _plat: Daemon,
}

impl Router {
    /// `link` makes its device `host`.
    fn new(net: &ClatNet, link: impl FnOnce(&Netns)) -> Self {
        let ns = namespace();
        forward(&ns);
        let path = net.server.path();
        ns.ip(&format!(
            "link add server type veth peer name other netns {path}
            link set lo up
            link set server up
            addr add {OTHER_ROUTER}/24 dev server
            route add {SERVER}/32 via 203.0.113.2"
        ));
        net.server.ip("link set other up
            addr add 203.0.113.2/24 dev other");
        link(&ns);
        ns.ip("link set host up");
        wait_for_link_local(&ns, "host");
        let plat = nat64(&ns, "plat", PREFIX, 253);
        masquerade(&ns);
        Self { ns, _plat: plat }
    }

    /// On the link of the first one.
    fn on_the_link(net: &ClatNet) -> Self {
        Self::new(net, |ns| {
            let path = ns.path();
            net.router.ip(&format!(
                "link add host2 link host type macvlan mode bridge
                link set host2 netns {path}"
            ));
            ns.ip("link set host2 name host
                addr add 2001:db8:6::2/64 dev host nodad");
        })
    }

    /// On another link, by which the host has an uplink eth1, worse than its first one.
    fn on_another_link(net: &ClatNet) -> Self {
        let router = Self::new(net, |ns| {
            let path = net.host.path();
            ns.ip(&format!(
                "link add host type veth peer name eth1 netns {path}
                addr add 2001:db8:7::1/64 dev host nodad"
            ));
            net.host.sysctl("ipv6/conf/eth1/ra_defrtr_metric", "2000");
            net.host.ip("link set eth1 up");
        });
        wait_for_link_local(&net.host, "eth1");
        router
    }

    /// Sends a Router Advertisement of [`OTHER_NETWORK`] with the NAT64 prefix.
    fn advertise(&self) {
        let mut message = advertisement(1800, &[(PREFIX, 600)]);
        let network: Ipv6Addr = OTHER_NETWORK.parse().unwrap();
        message[32..48].copy_from_slice(&network.octets());
        send_to_all_nodes(&self.ns, None, &message, 255);
    }

    fn link_local(&self) -> String {
        let addresses = self.ns.run("ip -6 -oneline addr show dev host scope link");
        let (_, address) = addresses.split_once("inet6 ").unwrap();
        address.split_once('/').unwrap().0.to_owned()
    }
}

/// Until the host has a default route and a usable address by each.
fn wait_for_two_uplinks(net: &ClatNet) {
    wait_for("two uplinks", || {
        let routes = net.host.run("ip -6 route show default");
        let addresses = net.host.run("ip -6 address show scope global");
        (routes.lines().count() == 2 && !addresses.contains("tentative")).then_some(())
    });
}

/// Advertises as a router that answers solicitations, until the CLAT has seen that the link was
/// down: it forgets what it was told before.
fn advertise_until_it_lasts(net: &ClatNet) {
    for _ in 0..20 {
        net.advertise(&[(PREFIX, 600)]);
        thread::sleep(Duration::from_millis(50));
    }
}

/// The lines in order: an uplink that was down has its routes behind others.
fn sorted(state: &str) -> Vec<&str> {
    let mut lines: Vec<_> = state.lines().collect();
    lines.sort_unstable();
    lines
}

/// Until the server has what programs send from this address. By datagrams: a handshake does not
/// survive another router in the middle.
fn wait_for_router(net: &ClatNet, address: &str) {
    let [here, there] = [(&net.host, "0.0.0.0"), (&net.server, SERVER)]
        .map(|(ns, address)| udp_socket(ns, address, 0, Fragmentation::Allowed));
    let timeout = Duration::from_millis(300);
    there.set_read_timeout(Some(timeout)).unwrap();
    wait_for(address, || {
        here.send_to(b"from where?", there.local_addr().unwrap())
            .ok()?;
        let (_, from) = uninterrupted(|| there.recv_from(&mut [0; 20])).ok()?;
        (from.ip().to_string() == address).then_some(())
    });
}

/// `plat-dev` names an uplink whose default route is the worse one.
#[test]
fn plat_dev_may_have_the_worse_default_route() {
    with_each_way(|net, config| {
        let other = Router::on_another_link(net);
        net.advertise(&[(PREFIX, 600)]);
        other.advertise();
        wait_for_two_uplinks(net);
        let before = net.state();
        let mut daemon = net.start(&format!("{config}plat-dev=eth1\n"));
        net.advertise(&[(PREFIX, 600)]);
        other.advertise();
        net.wait_for_ipv4();
        daemon.prints("IPv4 via eth1");
        Flow::open(net, Sockets::Plain).goes_on_from(OTHER_ROUTER);
        daemon.stop();
        assert_eq!(net.state(), before, "{}", daemon.log());
    });
}

/// One instance an uplink, with the same NAT64 prefix on both: each by its own.
#[test]
fn each_instance_has_its_uplink() {
    with_each_way(|net, config| {
        let other = Router::on_another_link(net);
        net.advertise(&[]);
        other.advertise();
        wait_for_two_uplinks(net);
        let before = net.state();
        let mut daemons = ["plat-dev=eth0\n", "clat-dev=clat2\nplat-dev=eth1\n"]
            .map(|one| net.start(&format!("{config}{one}")));
        net.advertise(&[(PREFIX, 600)]);
        other.advertise();
        for (daemon, uplink) in daemons.iter().zip(["eth0", "eth1"]) {
            daemon.prints(&format!("IPv4 via {uplink}"));
        }
        let flows = ["clat", "clat2"].map(|device| Flow::open(net, Sockets::By(device)));
        flows[0].goes_on();
        flows[1].goes_on_from(OTHER_ROUTER);
        // Each goes on without the other.
        net.host.ip("link set eth0 down");
        flows[1].goes_on_from(OTHER_ROUTER);
        net.host.ip("link set eth0 up");
        net.wait_for_link();
        advertise_until_it_lasts(net);
        flows[0].goes_on();
        daemons[1].stop();
        flows[0].goes_on();
        daemons[0].stop();
        other.advertise();
        assert_eq!(sorted(&net.state()), sorted(&before));
    });
}

/// All that programs send crosses with an MTU of 1500, with a smaller one, and with one that
/// changes.
#[test]
fn everything_crosses_with_any_mtu() {
    with_each_way(|net, config| {
        let _daemon = net.start_up(config);
        let flow = Flow::open(net, Sockets::Plain);
        flow.goes_on();
        for mtu in [1400, 1280, 1500] {
            net.router.ip(&format!("link set host mtu {mtu}"));
            net.host.ip(&format!("link set eth0 mtu {mtu}"));
            net.wait_for_link();
            net.advertise(&[(PREFIX, 600)]);
            flow.goes_on();
        }
    });
}

/// At every moment there is a route: one with another MTU replaces the one before.
#[test]
fn another_mtu_leaves_no_moment_without_a_route() {
    clat_case(|net| {
        let _daemon = net.start_up("");
        let monitor = Daemon::start_command(&net.host, "ip -4 monitor route");
        wait_for("the monitor to listen", || {
            net.host.ip("route add 198.51.100.99 dev eth0
                route del 198.51.100.99 dev eth0");
            monitor.log().contains("198.51.100.99").then_some(())
        });
        for mtu in [1400, 1280, 1500] {
            net.router.ip(&format!("link set host mtu {mtu}"));
            net.host.ip(&format!("link set eth0 mtu {mtu}"));
            monitor.prints(&format!("metric 2048 mtu {}", mtu - 28));
        }
        let routes = net.host.run("ip -4 route show default");
        assert_eq!(routes.matches("dev clat").count(), 1, "{routes}");
        let changes = monitor.log();
        assert!(!changes.contains("Deleted default"), "{changes}");
    });
}

/// The same without offload at either end of the link: what leaves is whole packets.
#[test]
fn everything_crosses_without_offload_of_the_uplink() {
    with_each_way(|net, config| {
        for (ns, device) in [(&net.host, "eth0"), (&net.router, "host")] {
            ns.run(&format!(
                "ethtool -K {device} tx off tso off gso off gro off"
            ));
        }
        let _daemon = net.start_up(config);
        Flow::open(net, Sockets::Plain).goes_on();
    });
}

/// IPv4 goes on after the link was down, and by a connection that was open before.
#[test]
fn the_link_goes_down_and_comes_back() {
    with_each_way(|net, config| {
        let _daemon = net.start_up(config);
        let flow = Flow::open(net, Sockets::Plain);
        for (ns, device) in [(&net.host, "eth0"), (&net.router, "host")] {
            // The carrier goes with the other end's.
            ns.ip(&format!("link set {device} down"));
            wait_for("the end of the carrier", || {
                (!net.host.is_running("eth0")).then_some(())
            });
            ns.ip(&format!("link set {device} up"));
            net.router
                .ip("addr replace 2001:db8:6::1/64 dev host nodad");
            net.router
                .ip(&format!("route replace {PREFIX}/96 dev plat"));
            net.wait_for_link();
            advertise_until_it_lasts(net);
            flow.goes_on();
        }
    });
}

/// RFC 4861 section 7.2.6: the router has another link-layer address, says so or not, and is found
/// again.
#[test]
fn the_router_has_another_link_layer_address() {
    with_each_way(|net, config| {
        // The kernel finds out within seconds, instead of half a minute.
        for (name, value) in [
            ("base_reachable_time_ms", "1000"),
            ("delay_first_probe_time", "1"),
            ("retrans_time_ms", "200"),
        ] {
            net.host.sysctl(&format!("ipv6/neigh/eth0/{name}"), value);
        }
        let _daemon = net.start_up(config);
        let flow = Flow::open(net, Sockets::Plain);
        for (says_so, address) in [("1", "02:00:00:00:00:01"), ("0", "02:00:00:00:00:02")] {
            net.router.sysctl("ipv6/conf/host/ndisc_notify", says_so);
            net.router
                .ip(&format!("link set dev host address {address}"));
            flow.goes_on();
        }
    });
}

/// RFC 4861 section 7.2.6: the host has another link-layer address, of which the router learns at
/// once.
#[test]
fn the_host_has_another_link_layer_address() {
    clat_case(|net| {
        let _daemon = net.start_up("");
        let flow = Flow::open(net, Sockets::Plain);
        net.host.ip("link set dev eth0 address 02:00:00:00:00:03");
        flow.goes_on();
    });
}

/// RFC 4861 section 7.2.2: programs are told within seconds that a next hop does not answer, and
/// once it does, IPv4 goes on.
#[test]
fn a_silent_next_hop_is_unreachable() {
    with_each_way(|net, config| {
        let _daemon = net.start_up(config);
        let flow = Flow::open(net, Sockets::Plain);
        net.router.run(
            "nft add table ip6 silent ; \
             add chain ip6 silent in { type filter hook prerouting priority raw ; } ; \
             add rule ip6 silent in icmpv6 type nd-neighbor-solicit drop",
        );
        // The host knows no more where the router is than after a night of sleep.
        net.host.ip("neigh flush dev eth0 nud all");
        let start = Instant::now();
        let to = SocketAddr::new(SERVER.parse().unwrap(), 9);
        let connected = net
            .host
            .inside(|| TcpStream::connect_timeout(&to, DEADLINE));
        let error = connected.unwrap_err();
        println!("{error} after {:.3} s", start.elapsed().as_secs_f64());
        assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
        net.router.run("nft delete table ip6 silent");
        flow.goes_on();
    });
}

/// The default route leads to another router of the link, then back: what begins goes by it, and
/// what came by the first goes on there.
#[test]
fn the_default_route_moves_to_another_router() {
    with_each_way(|net, config| {
        let other = Router::on_the_link(net);
        let _daemon = net.start_up(config);
        let flow = Flow::open(net, Sockets::Plain);
        let way = format!("default via {} dev eth0 metric 1", other.link_local());
        net.host.ip(&format!("route add {way}"));
        wait_for_router(net, OTHER_ROUTER);
        flow.new_ones_come_from(OTHER_ROUTER);
        net.host.ip(&format!("route delete {way}"));
        wait_for_router(net, ROUTER);
        flow.goes_on();
    });
}

/// The first router of the link says goodbye, and another one takes its place (RFC 4861 section
/// 6.2.5).
#[test]
fn the_router_says_goodbye() {
    clat_case(|net| {
        let other = Router::on_the_link(net);
        let _daemon = net.start_up("");
        net.advertise_with(&advertisement(0, &[(PREFIX, 600)]));
        let message = advertisement(1800, &[(PREFIX, 600)]);
        send_to_all_nodes(&other.ns, None, &message, 255);
        net.wait_for_ipv4();
        wait_for_router(net, OTHER_ROUTER);
        Flow::open(net, Sockets::Plain).goes_on_from(OTHER_ROUTER);
    });
}
