//! What the administrator wants.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::addr::Nat64Prefix;

/// Whose address it is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// One of our own, made up in a network that a router announces for it, if the network lets it pass.
    #[default]
    Auto,
    /// The host's.
    Shared,
    /// The host's, where it is made of a link-layer address: with c1:a7 for its ff:fe, as clatd does it.
    Derived,
    /// This one. New connections from outside are let in.
    Explicit(Ipv6Addr),
}

/// What the administrator wants. The defaults are those of clatd, where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `clat-dev`: the TUN device.
    pub device: String,
    /// `clat-v4-addr`: the address of programs on this host.
    pub host_v4: Ipv4Addr,
    /// `tayga-v4-addr`: the translator's own.
    pub own_v4: Ipv4Addr,
    /// `clat-v6-addr`: whose IPv6 address packets leave with.
    pub source: Source,
    /// Of this machine: nobody else can tell the address that is made up with it.
    pub secret: String,
    /// `plat-prefix`: not discovered then.
    pub prefix: Option<Nat64Prefix>,
    /// `plat-fallback-prefix`: if none is discovered.
    pub fallback: Option<Nat64Prefix>,
    /// `plat-dev`: the uplink; otherwise the device of the IPv6 default route.
    pub uplink: Option<String>,
    /// `dns64-servers`: asked instead of the network's own.
    pub dns_servers: Vec<IpAddr>,
    /// `v4-defaultroute-enable`
    pub default_route: bool,
    /// `v4-defaultroute-replace`: whether programs are to use it even where there is native IPv4.
    pub replaces: bool,
    /// `v4-defaultroute-metric`
    pub metric: u32,
    /// `v4-defaultroute-mtu`, in octets; otherwise that of the uplink, less 28.
    pub mtu: Option<u32>,
    /// `v4-defaultroute-advmss`, in octets; otherwise the MTU less 40.
    pub advmss: Option<u32>,
    /// `v4-conncheck-enable`: whether to step aside where there is native IPv4.
    pub steps_aside: bool,
    /// `v4-conncheck-delay`: how long there must have been.
    pub steps_aside_after: Duration,
    /// `forwarding-enable`
    pub forwarding: bool,
    /// `route-table`
    pub table: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            device: "clat".to_owned(),
            host_v4: Ipv4Addr::new(192, 0, 0, 1), // RFC 7335
            own_v4: Ipv4Addr::new(192, 0, 0, 2),
            source: Source::Auto,
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
