//! Two hosts: one with a CLAT, and one beyond its link that has the server's address by the prefix,
//! so that no NAT64 is the limit.
//!
//! ```text
//!  host -------- veth -------- server
//!  IPv6; CLAT                  router, and PREFIX::198.51.100.1
//! ```

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    harness::{Daemon, Directory, Netns, wait_for},
    load::Ends,
};

/// The server, as programs of the host know it.
const SERVER: &str = "198.51.100.1";
/// The server, by the prefix.
const SERVER6: &str = "2001:db8:64::c633:6401";

/// An explicit address: no time goes by for its trial.
const CONFIG: &str = "plat-prefix=2001:db8:64::/96\n";
const ADDRESS: &str = "clat-v6-addr=2001:db8:6::c1a7\n";

/// As clatd 2 writes it.
const TAYGA_CONF: &str = "\
tun-device clat
prefix 2001:db8:64::/96
ipv4-addr 192.0.0.2
ipv6-addr 2001:db8:6::c1a8
map 192.0.0.1 2001:db8:6::c1a7
";

/// What carries IPv4 packets of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// Nothing: programs use IPv6.
    Kernel,
    Direct,
    Forward,
    Shared,
    /// An older xlatd.
    Older(PathBuf),
    /// tayga, set up as clatd does.
    Tayga(PathBuf),
}

impl Carrier {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Kernel => "kernel, IPv6",
            Self::Direct => "direct",
            Self::Forward => "forward",
            Self::Shared => "shared",
            Self::Older(_) => "older",
            Self::Tayga(_) => "clatd",
        }
    }

    fn config(&self) -> String {
        let line = match self {
            Self::Shared => "clat-v6-addr=shared\n",
            Self::Forward => &format!("{ADDRESS}clat-path=forward\n"),
            _ => ADDRESS,
        };
        format!("{CONFIG}{line}")
    }
}

pub(crate) struct Lab {
    host: Netns,
    server: Netns,
    runtime: Directory,
}

/// A carrier at work.
pub(crate) struct Running {
    pub(crate) daemon: Option<Daemon>,
    /// From the start of the process until a packet has come back.
    pub(crate) started_in: Duration,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let [host, server] = std::array::from_fn(|_| Netns::new().expect("a network namespace"));
        for ns in [&host, &server] {
            ns.sysctl("ipv6/conf/all/accept_dad", "0");
            ns.sysctl("ipv6/conf/default/accept_dad", "0");
        }
        server.sysctl("ipv6/conf/all/forwarding", "1");
        host.ip(&format!(
            "link add eth0 type veth peer name host netns {}
            link set lo up
            link set eth0 up
            addr add 2001:db8:6::10/64 dev eth0 nodad
            route add ::/0 via 2001:db8:6::1",
            server.path()
        ));
        server.ip(&format!(
            "link set lo up
            link set host up
            addr add 2001:db8:6::1/64 dev host nodad
            addr add {SERVER6}/128 dev lo nodad"
        ));
        for (ns, device) in [(&host, "eth0"), (&server, "host")] {
            wait_for(device, || ns.is_running(device).then_some(()));
        }
        Self {
            host,
            server,
            runtime: Directory::new(),
        }
    }

    pub(crate) fn ends(&self, carrier: &Carrier) -> Ends<'_> {
        Ends {
            client: &self.host,
            server: &self.server,
            to: match carrier {
                Carrier::Kernel => SERVER6,
                _ => SERVER,
            },
            listens: SERVER6,
        }
    }

    /// Starts a carrier, and waits until packets cross.
    pub(crate) fn start(&self, carrier: &Carrier) -> Running {
        let start = Instant::now();
        let clat = |program| {
            Daemon::start_clat_program(program, &self.host, &self.runtime, &carrier.config())
        };
        let daemon = match carrier {
            Carrier::Kernel => None,
            Carrier::Tayga(program) => Some(self.start_tayga(program)),
            Carrier::Older(program) => Some(clat(program)),
            Carrier::Direct | Carrier::Forward | Carrier::Shared => {
                Some(clat(Path::new(env!("CARGO_BIN_EXE_xlatd"))))
            }
        };
        let ping = format!("ping -n -c 1 -W 0.2 {}", self.ends(carrier).to);
        wait_for("packets to cross", || {
            self.host.output(&ping).status.success().then_some(())
        });
        Running {
            daemon,
            started_in: start.elapsed(),
        }
    }

    /// Does what clatd does with Debian's tayga: the host forwards, and answers for the address.
    fn start_tayga(&self, program: &Path) -> Daemon {
        self.host.sysctl("ipv6/conf/all/forwarding", "1");
        self.host.sysctl("ipv6/conf/eth0/proxy_ndp", "1");
        self.host.ip("tuntap add dev clat mode tun
            link set clat up
            addr add 192.0.0.1/32 dev clat
            route add 2001:db8:6::c1a7 dev clat
            neighbour add proxy 2001:db8:6::c1a7 dev eth0
            route add default dev clat metric 2048 mtu 1480");
        Daemon::start_program(program, &self.host, TAYGA_CONF)
    }

    /// Ends what runs; what it set up goes with the namespaces.
    pub(crate) fn stop(self, running: Running) {
        if let Some(mut daemon) = running.daemon {
            daemon.signal(Signal::SIGTERM);
            daemon.wait();
        }
    }
}
