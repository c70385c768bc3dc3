//! Three hosts: an IPv6-only client, the router that translates, an IPv4-only server.
//!
//! ```text
//!  client --- veth --- router --- veth --- server
//!  IPv6                 TUN                 IPv4, and IPv6 for the comparison
//! ```

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    ceiling,
    harness::{Daemon, Netns, wait_for},
};

pub(crate) const CLIENT: &str = "2001:db8:6::10";
pub(crate) const SERVER: &str = "192.0.2.2";
/// The server, by the prefix.
pub(crate) const SERVER_BY_PREFIX: &str = "2001:db8:64::c000:202";
/// The server's own IPv6 address, to which nothing is translated.
pub(crate) const SERVER6: &str = "2001:db8:4::2";

const DEVICE: &str = "nat64";

const CONFIG: &str = "\
tun-device nat64
ipv4-addr 203.0.113.1
ipv6-addr 2001:db8:ffff::1
prefix 2001:db8:64::/96
map 203.0.113.10 2001:db8:6::10
";

/// What carries packets from one side to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// The kernel forwards IPv6: no translator can be faster.
    Kernel,
    /// IPv6 goes through a TUN device as it is: no translator that reads and writes one packet at a
    /// time can be faster; with headers, none that has offload.
    Tun {
        headers: bool,
    },
    /// Debian's.
    Tayga(PathBuf),
    /// A newer one, with one worker or with one for each processor. It chooses the kind of its
    /// device by their number.
    NewerTayga {
        program: PathBuf,
        workers: Workers,
    },
    /// An older xlatd.
    Older(PathBuf),
    Xlatd {
        offload: bool,
        workers: Workers,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workers {
    One,
    OneAProcessor,
}

impl Workers {
    fn number(self) -> usize {
        match self {
            Self::One => 1,
            Self::OneAProcessor => thread::available_parallelism().unwrap().get(),
        }
    }
}

impl Carrier {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Kernel => "kernel, no translation",
            Self::Tun { headers: false } => "TUN itself",
            Self::Tun { headers: true } => "TUN itself, with headers",
            Self::Tayga(_) => "tayga",
            Self::NewerTayga { workers, .. } => match workers {
                Workers::One => "newer tayga, 1 worker",
                Workers::OneAProcessor => "newer tayga, a worker a processor",
            },
            Self::Older(_) => "older xlatd",
            Self::Xlatd { offload: false, .. } => "xlatd, offload no",
            Self::Xlatd { workers, .. } => match workers {
                Workers::One => "xlatd",
                Workers::OneAProcessor => "xlatd, a worker a processor",
            },
        }
    }

    /// Whether it makes IPv4 of IPv6.
    pub(crate) fn translates(&self) -> bool {
        !matches!(self, Self::Kernel | Self::Tun { .. })
    }

    /// How the client reaches the server.
    pub(crate) fn server(&self) -> &'static str {
        if self.translates() {
            SERVER_BY_PREFIX
        } else {
            SERVER6
        }
    }

    /// Where the server listens.
    pub(crate) fn listens(&self) -> &'static str {
        if self.translates() { SERVER } else { SERVER6 }
    }

    /// What the carrier needs in its configuration, beside what all have.
    fn directives(&self) -> String {
        match self {
            Self::Xlatd { offload: false, .. } => "offload no\n".to_owned(),
            Self::Xlatd { workers, .. } | Self::NewerTayga { workers, .. } => {
                format!("workers {}\n", workers.number())
            }
            _ => String::new(),
        }
    }
}

pub(crate) struct Lab {
    pub(crate) client: Netns,
    pub(crate) router: Netns,
    pub(crate) server: Netns,
}

/// A carrier at work.
pub(crate) struct Running {
    pub(crate) daemon: Option<Daemon>,
    /// From the start of the process until packets can cross.
    pub(crate) started_in: Option<Duration>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let [client, router, server] =
            std::array::from_fn(|_| Netns::new().expect("a network namespace"));
        for ns in [&client, &router, &server] {
            ns.sysctl("ipv6/conf/all/accept_dad", "0");
            ns.sysctl("ipv6/conf/default/accept_dad", "0");
        }
        router.sysctl("ipv6/conf/all/forwarding", "1");
        router.sysctl("ipv4/ip_forward", "1");
        let peer = |name: &str, ns: &Netns| {
            format!(
                "link add {name} type veth peer name router netns {}\n",
                ns.path()
            )
        };
        router.ip(&(peer("client", &client) + &peer("server", &server)));
        client.ip("link set lo up
            link set router up
            addr add 2001:db8:6::10/64 dev router nodad
            route add ::/0 via 2001:db8:6::1");
        router.ip("link set lo up
            link set client up
            link set server up
            addr add 2001:db8:6::1/64 dev client nodad
            addr add 2001:db8:4::1/64 dev server nodad
            addr add 192.0.2.1/24 dev server");
        server.ip("link set lo up
            link set router up
            addr add 192.0.2.2/24 dev router
            addr add 2001:db8:4::2/64 dev router nodad
            route add default via 192.0.2.1
            route add ::/0 via 2001:db8:4::1");
        let lab = Self {
            client,
            router,
            server,
        };
        for (ns, device) in [
            (&lab.client, "router"),
            (&lab.router, "client"),
            (&lab.router, "server"),
            (&lab.server, "router"),
        ] {
            wait_for(device, || ns.is_running(device).then_some(()));
        }
        lab
    }

    /// Starts a carrier, with more lines of configuration.
    pub(crate) fn start(&self, carrier: &Carrier, more: &str) -> Running {
        let makes_device = matches!(carrier, Carrier::NewerTayga { .. });
        let program: &Path = match carrier {
            Carrier::Kernel => {
                return Running {
                    daemon: None,
                    started_in: None,
                };
            }
            Carrier::Tun { .. } => Path::new(""),
            Carrier::Tayga(program)
            | Carrier::NewerTayga { program, .. }
            | Carrier::Older(program) => program,
            Carrier::Xlatd { .. } => env!("CARGO_BIN_EXE_xlatd").as_ref(),
        };
        if !makes_device {
            let queues = match carrier {
                Carrier::Xlatd { workers, .. } if workers.number() > 1 => "multi_queue",
                _ => "",
            };
            self.router
                .ip(&format!("tuntap add dev {DEVICE} mode tun {queues}"));
            self.route_to_device(carrier);
        }
        let start = Instant::now();
        let daemon = if let Carrier::Tun { headers } = *carrier {
            Daemon::start_command(&self.router, &ceiling::command(DEVICE, headers))
        } else {
            let config = format!("{CONFIG}{more}{}", carrier.directives());
            Daemon::start_program(program, &self.router, &config)
        };
        if makes_device {
            wait_for(DEVICE, || self.router.has(DEVICE).then_some(()));
            self.route_to_device(carrier);
        }
        wait_for("the carrier", || {
            self.router.is_running(DEVICE).then_some(())
        });
        Running {
            daemon: Some(daemon),
            started_in: Some(start.elapsed()),
        }
    }

    fn route_to_device(&self, carrier: &Carrier) {
        self.router.ip(&format!("link set {DEVICE} up"));
        if carrier.translates() {
            self.router.ip(&format!(
                "route add 203.0.113.0/24 dev {DEVICE}
                route add 198.18.0.0/15 dev {DEVICE}
                route add 2001:db8:64::/96 dev {DEVICE}"
            ));
            return;
        }
        // What comes back from the device goes where it would have gone without.
        self.router
            .ip(&format!("route add ::/0 dev {DEVICE} table 1"));
        for device in ["client", "server"] {
            self.router
                .run(&format!("ip -6 rule add iif {device} lookup 1"));
        }
    }

    /// Ends what runs, and takes its device away.
    pub(crate) fn stop(&self, running: Running) {
        if let Some(mut daemon) = running.daemon {
            daemon.signal(nix::sys::signal::Signal::SIGTERM);
            daemon.wait();
            if self.router.has(DEVICE) {
                self.router.ip(&format!("link delete {DEVICE}"));
            }
        }
    }

    /// Has the server drop the datagrams to a port as soon as they have arrived: they cost next to
    /// nothing there, and nobody answers them.
    pub(crate) fn drop_arriving(&self, port: u16) {
        for command in [
            "nft add table netdev sink",
            "nft add chain netdev sink arriving \
             { type filter hook ingress device router priority 0 ; }",
            &format!("nft add rule netdev sink arriving udp dport {port} drop"),
        ] {
            self.server.run(command);
        }
    }
}
