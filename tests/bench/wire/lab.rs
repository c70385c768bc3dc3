//! Three hosts: an IPv6-only client, the router that translates, an IPv4-only server.
//!
//! ```text
//!  client --- veth --- router --- veth --- server
//!  IPv6                 TUN                 IPv4, and IPv6 for the comparison
//! ```

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::harness::{Daemon, Netns, wait_for};

pub(crate) const CLIENT: &str = "2001:db8:6::10";
/// The client, as the server sees it.
pub(crate) const CLIENT4: &str = "203.0.113.10";
pub(crate) const SERVER: &str = "192.0.2.2";
/// The server, by the prefix.
pub(crate) const SERVER_BY_PREFIX: &str = "2001:db8:64::c000:202";
/// The server's own IPv6 address, to which nothing is translated.
pub(crate) const SERVER6: &str = "2001:db8:4::2";

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
    Tayga(PathBuf),
    Xlatd {
        offload: bool,
    },
}

impl Carrier {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Kernel => "kernel, no translation",
            Self::Tayga(_) => "tayga",
            Self::Xlatd { offload: true } => "xlatd",
            Self::Xlatd { offload: false } => "xlatd, offload no",
        }
    }

    /// How the client reaches the server.
    pub(crate) fn server(&self) -> &'static str {
        match self {
            Self::Kernel => SERVER6,
            _ => SERVER_BY_PREFIX,
        }
    }

    /// How the server reaches the client.
    pub(crate) fn client(&self) -> &'static str {
        match self {
            Self::Kernel => CLIENT,
            _ => CLIENT4,
        }
    }

    /// Where the server listens.
    pub(crate) fn listens(&self) -> &'static str {
        match self {
            Self::Kernel => SERVER6,
            _ => SERVER,
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
        let program: &Path = match carrier {
            Carrier::Kernel => {
                return Running {
                    daemon: None,
                    started_in: None,
                };
            }
            Carrier::Tayga(path) => path,
            Carrier::Xlatd { .. } => Path::new(env!("CARGO_BIN_EXE_xlatd")),
        };
        let mut config = format!("{CONFIG}{more}");
        if *carrier == (Carrier::Xlatd { offload: false }) {
            config += "offload no\n";
        }
        self.router.ip("tuntap add dev nat64 mode tun
            link set nat64 up
            route add 203.0.113.0/24 dev nat64
            route add 198.18.0.0/15 dev nat64
            route add 2001:db8:64::/96 dev nat64");
        let start = Instant::now();
        let daemon = Daemon::start_program(program, &self.router, &config);
        wait_for("the carrier", || {
            self.router.is_running("nat64").then_some(())
        });
        let started_in = Some(start.elapsed());
        Running {
            daemon: Some(daemon),
            started_in,
        }
    }

    /// Ends what runs, and takes its device away.
    pub(crate) fn stop(&self, running: Running) {
        if let Some(mut daemon) = running.daemon {
            daemon.signal(nix::sys::signal::Signal::SIGTERM);
            daemon.wait();
            self.router.ip("link delete nat64");
        }
    }
}
