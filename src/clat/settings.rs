//! The settings of a CLAT: clatd's keys.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::addr::Nat64Prefix;

/// The kind of source that packets leave with (`clat-v6-addr`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// A CLAT address in a network that a router announces, or else the host's address.
    #[default]
    Auto,
    /// The host's address.
    Shared,
    /// The host's address with a modified EUI-64, with c1:a7 for its ff:fe, as clatd derives it.
    Derived,
    /// This address. New connections from outside are let in.
    Explicit(Ipv6Addr),
}

impl fmt::Display for Source {
    /// As `clat-v6-addr` says it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Shared => f.write_str("shared"),
            Self::Derived => f.write_str("derived"),
            Self::Explicit(address) => address.fmt(f),
        }
    }
}

/// The way that packets take between the translator and the uplink, if there is a choice
/// (`clat-path`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Path {
    /// A packet socket on the uplink.
    #[default]
    Direct,
    /// Forwarding by the kernel.
    Forward,
}

/// The settings of a CLAT. Without a note the default is clatd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `clat-dev`: the TUN device.
    pub device: String,
    /// `clat-v4-addr`: the IPv4 address of programs on this host.
    pub host_v4: Ipv4Addr,
    /// `tayga-v4-addr`: the translator's own IPv4 address.
    pub own_v4: Ipv4Addr,
    /// `clat-v6-addr`: the source that packets leave with.
    pub source: Source,
    /// `clat-path`: the way between the translator and the uplink.
    pub path: Path,
    /// A secret of this machine, which makes its CLAT addresses unpredictable (RFC 7217).
    pub secret: String,
    /// `plat-prefix`: the NAT64 prefix, which is then not discovered.
    pub prefix: Option<Nat64Prefix>,
    /// `plat-fallback-prefix`: the NAT64 prefix to use if none is discovered.
    pub fallback: Option<Nat64Prefix>,
    /// `plat-dev`: the uplink; otherwise the interface of the best route that leads to the NAT64.
    pub uplink: Option<String>,
    /// `dns64-servers`: name servers to ask in place of the network's own.
    pub dns_servers: Vec<IpAddr>,
    /// `v4-defaultroute-enable`: whether programs get a default route.
    pub default_route: bool,
    /// `v4-defaultroute-replace`: whether that route wins over native IPv4.
    pub replaces: bool,
    /// `v4-defaultroute-metric`: the metric of that route.
    pub metric: u32,
    /// `v4-defaultroute-mtu`, in octets; otherwise the uplink's less 28.
    pub mtu: Option<u32>,
    /// `v4-defaultroute-advmss`, in octets; otherwise the MTU less 40.
    pub advmss: Option<u32>,
    /// `v4-conncheck-enable`: whether to step aside for native IPv4.
    pub steps_aside: bool,
    /// `v4-conncheck-delay`: the time for which native IPv4 must have stayed.
    pub steps_aside_after: Duration,
    /// `forwarding-enable`: whether to turn on IPv6 forwarding where it is needed.
    pub forwarding: bool,
    /// `route-table`: the table of our routes; instances after the first use the next ones.
    pub table: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            device: "clat".to_owned(),
            host_v4: Ipv4Addr::new(192, 0, 0, 1), // RFC 7335
            own_v4: Ipv4Addr::new(192, 0, 0, 2),
            source: Source::Auto,
            path: Path::Direct,
            secret: String::new(),
            prefix: None,
            fallback: None,
            uplink: None,
            dns_servers: Vec::new(),
            default_route: true,
            replaces: false,
            metric: 2048,
            mtu: None,
            advmss: None,
            steps_aside: true,
            steps_aside_after: Duration::from_secs(10),
            forwarding: true,
            table: 0xc1a7,
        }
    }
}
