//! A CLAT beside VPNs that take the default routes of both address families: what they leave out
//! goes on by the CLAT, and so they work where their server has IPv4 only.
//!
//! The tunnel is always OpenVPN's, to the server over IPv4, which is the CLAT's; routes and rules
//! are those of the program that a case is about.

use std::fs;

use nix::sys::signal::Signal;

use crate::{
    clat::{ClatNet, PREFIX, PREFIX_SERVER, SERVER, clat_case, with_each_way},
    clat_flow::{Flow, Sockets},
    forward::{connect, exchange, listen},
    harness::{Daemon, Directory, Netns},
    packet::{Ipv6, UDP},
    socket::{Capture, Fragmentation, udp_socket},
};

/// The device of the tunnel, at both ends.
const DEVICE: &str = "vpn";
/// What has no other way than the tunnel, behind its far end.
const INSIDE: [&str; 2] = ["203.0.113.9", "2001:db8:9::9"];
/// The addresses of the near end, as those that are inside see them.
const NEAR_END: [&str; 2] = ["10.8.0.2", "fd08::1000"];

/// How a program makes a VPN of a tunnel.
struct Kind {
    /// The mark of packets that are to stay out of the tunnel: those of the VPN itself. If there is
    /// none, its server has a route of its own.
    mark: Option<u32>,
    /// Whether OpenVPN sets the routes.
    redirects: bool,
    /// The commands that set routes and rules, for each address family.
    commands: &'static [&'static str],
    /// As above, for IPv4 only.
    commands_v4: &'static [&'static str],
    /// The tables of nftables.
    ruleset: &'static str,
}

/// wg-quick(8), whose rules have the priority that the kernel chooses: before all that are there,
/// but for the first.
const WG_QUICK: Kind = Kind {
    mark: Some(51820),
    redirects: false,
    commands: &[
        "route add default dev vpn table 51820",
        "rule add not fwmark 51820 table 51820",
        "rule add table main suppress_prefixlength 0",
    ],
    commands_v4: &[],
    ruleset: "
        table inet wg-quick-vpn {
            chain preraw {
                type filter hook prerouting priority -300;
                iifname != vpn ip daddr 10.8.0.2 fib saddr type != local drop;
            };
            chain premangle {
                type filter hook prerouting priority -150;
                meta l4proto udp meta mark set ct mark;
            };
            chain postmangle {
                type filter hook postrouting priority -150;
                meta l4proto udp meta mark 51820 ct mark set mark;
            };
        }",
};

/// openvpn(8) itself: a route to the server, and two halves of all others; four parts for IPv6.
const OPENVPN: Kind = Kind {
    mark: None,
    redirects: true,
    commands: &[],
    commands_v4: &[],
    ruleset: "",
};

/// NetworkManager's VPN: better default routes, and one to the server.
const NETWORK_MANAGER: Kind = Kind {
    mark: None,
    redirects: false,
    commands: &["route add default dev vpn proto static metric 50"],
    commands_v4: &["route add 198.51.100.2/32 dev clat proto static metric 50"],
    ruleset: "",
};

/// Tailscale with an exit node.
const TAILSCALE: Kind = Kind {
    mark: Some(0x80000),
    redirects: false,
    commands: &[
        "route add default dev vpn table 52",
        "rule add pref 5210 fwmark 0x80000/0xff0000 table main",
        "rule add pref 5230 fwmark 0x80000/0xff0000 table default",
        "rule add pref 5250 fwmark 0x80000/0xff0000 unreachable",
        "rule add pref 5270 table 52",
    ],
    commands_v4: &[],
    ruleset: "",
};

impl Kind {
    /// Sets routes and rules.
    fn set(&self, host: &Netns) {
        for command in self.commands_v4 {
            host.run(&format!("ip {command}"));
        }
        for family in ["-4", "-6"] {
            for command in self.commands {
                host.run(&format!("ip {family} {command}"));
            }
        }
        if !self.ruleset.is_empty() {
            host.run(&format!("nft {}", self.ruleset));
        }
    }

    /// Removes what does not go with the device.
    fn unset(&self, host: &Netns) {
        for command in self.commands_v4 {
            host.run(&format!("ip {}", command.replace(" add ", " delete ")));
        }
        for family in ["-4", "-6"] {
            for command in self.commands.iter().filter(|one| one.starts_with("rule")) {
                let command = command.replace(" add ", " delete ");
                host.run(&format!("ip {family} {command}"));
            }
        }
        if !self.ruleset.is_empty() {
            host.run("nft delete table inet wg-quick-vpn");
        }
    }

    /// Programs whose packets are not for the tunnel.
    fn outside(&self) -> Sockets {
        self.mark.map_or(Sockets::Plain, Sockets::Marked)
    }
}

/// OpenVPN at both ends.
struct Vpn {
    client: Daemon,
    _server: Daemon,
    _files: Directory,
}

impl Vpn {
    /// Its tunnel is there, but no routes lead into it unless it is OpenVPN that sets them.
    fn start(net: &ClatNet, kind: &Kind) -> Self {
        let files = Directory::new();
        let fingerprints = ["server", "client"].map(|name| certificate(&files, name));
        let write = |name: &str, fingerprint: &str, lines: &str| {
            let path = |extension: &str| files.file(&format!("{name}.{extension}"));
            let config = format!(
                "{lines}\ndev {DEVICE}\ndev-type tun\nkey {}\ncert {}\npeer-fingerprint {fingerprint}\n",
                path("key").display(),
                path("crt").display(),
            );
            fs::write(path("conf"), config).unwrap();
            format!("openvpn --config {}", path("conf").display())
        };
        let redirect = if kind.redirects {
            "push \"redirect-gateway def1 ipv6\"\n"
        } else {
            ""
        };
        let server = format!(
            "server 10.8.0.0 255.255.255.0\nserver-ipv6 fd08::/64\ntopology subnet\ndh none\n\
             local {SERVER}\nport 51820\nproto udp4\n{redirect}"
        );
        let server = write("server", &fingerprints[1], &server);
        let mark = kind
            .mark
            .map_or(String::new(), |mark| format!("mark {mark}\n"));
        let client = format!("client\nnobind\nremote {SERVER} 51820 udp4\n{mark}");
        let client = write("client", &fingerprints[0], &client);

        for address in INSIDE {
            net.server.ip(&format!("addr replace {address} dev lo"));
        }
        let server = Daemon::start_command(&net.server, &server);
        let ready = "Initialization Sequence Completed";
        server.prints(ready);
        let client = Daemon::start_command(&net.host, &client);
        client.prints(ready);
        Self {
            client,
            _server: server,
            _files: files,
        }
    }

    /// It removes routes and device.
    fn stop(mut self) {
        self.client.signal(Signal::SIGTERM);
        self.client.wait();
    }
}

/// A key and a certificate, and its fingerprint.
fn certificate(files: &Directory, name: &str) -> String {
    let [key, certificate] = ["key", "crt"].map(|one| files.file(&format!("{name}.{one}")));
    let certificate = certificate.display();
    // In any namespace.
    let ns = Netns::new().unwrap();
    ns.run(&format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
         -subj /CN={name} -keyout {} -out {certificate}",
        key.display()
    ));
    let printed = ns.run(&format!(
        "openssl x509 -in {certificate} -noout -fingerprint -sha256"
    ));
    printed.split_once('=').unwrap().1.trim().to_owned()
}

/// Connections of both address families cross the tunnel, with this source.
fn inside_connects(net: &ClatNet) {
    for (address, near_end) in INSIDE.into_iter().zip(NEAR_END) {
        let listener = listen(&net.server, address);
        let connection = connect(&net.host, address, &listener);
        let from = connection[1].peer_addr().unwrap().ip().to_string();
        assert_eq!(from, near_end, "to {address}");
        exchange(&connection, 1 << 18);
    }
}

/// What programs send over IPv6 to the NAT64 prefix by themselves, as behind a DNS64, is for the
/// tunnel like all else.
fn ipv6_to_the_nat64_stays_inside(net: &ClatNet) {
    const PORT: u16 = 9999;
    let is_it = |packet: &Ipv6| {
        packet.destination.to_string() == PREFIX_SERVER
            && packet.next_header == UDP
            && packet.payload[2..4] == PORT.to_be_bytes()
    };
    let [at_router, at_server] = [&net.router, &net.server].map(Capture::start);
    let program = udp_socket(&net.host, "::", 0, Fragmentation::Allowed);
    program.send_to(b"question", (PREFIX_SERVER, PORT)).unwrap();
    at_server.ipv6("it to come by the tunnel", is_it);
    let outside = at_router.next(|octets| Ipv6::parse(octets).filter(is_it));
    assert!(outside.is_none(), "{outside:?}");
}

/// With a VPN of this kind, IPv4 goes on by the CLAT for all that is not for the tunnel: first of
/// all for the VPN itself, so that both address families work inside it. Nothing is left of the
/// CLAT in the end.
fn ipv4_goes_on_beside(kind: &Kind) {
    let body = |net: &ClatNet, config: &str| {
        net.advertise(&[]);
        net.wait_for_ipv6();
        let before = net.state();
        let mut daemon = net.start_up(config);
        let outside = Flow::open(net, kind.outside());
        let plain = Flow::open(net, Sockets::Plain);
        let goes_on = || {
            inside_connects(net);
            outside.goes_on();
            net.wait_for_ipv4_by("clat");
        };
        let vpn = Vpn::start(net, kind);
        kind.set(&net.host);
        goes_on();
        ipv6_to_the_nat64_stays_inside(net);
        // The route that leads to the VPN's server would go with the CLAT's device.
        if kind.mark.is_some() {
            for signal in [Signal::SIGTERM, Signal::SIGKILL] {
                daemon.signal(signal);
                daemon.wait();
                daemon = net.start(config);
                net.advertise(&[(PREFIX, 600)]);
                daemon.prints("IPv4 via eth0");
                goes_on();
                // What tests an own address does not get lost in the tunnel.
                let log = daemon.log();
                assert!(
                    !log.contains("Using the IPv6 address of this host"),
                    "{log}"
                );
            }
        }
        vpn.stop();
        kind.unset(&net.host);
        plain.goes_on();
        daemon.stop();
        assert_eq!(net.state(), before, "{}", daemon.log());
    };
    match kind.mark {
        Some(_) => with_each_way(body),
        // Where the kernel forwards, the device has the MTU of the uplink, and so has the route to
        // the server: what OpenVPN sends is too large for the NAT64, and it does not learn it.
        None => clat_case(|net| body(net, "")),
    }
}

#[test]
fn wg_quick() {
    ipv4_goes_on_beside(&WG_QUICK);
}

#[test]
fn openvpn() {
    ipv4_goes_on_beside(&OPENVPN);
}

#[test]
fn network_manager() {
    ipv4_goes_on_beside(&NETWORK_MANAGER);
}

#[test]
fn tailscale() {
    ipv4_goes_on_beside(&TAILSCALE);
}
