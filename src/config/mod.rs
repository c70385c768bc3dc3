//! tayga.conf: text to settings, and back.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use crate::{
    addr::{Eam, Nat64Prefix, Prefix4, Prefix6},
    translate::Settings,
};

/// A tayga.conf, read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `tun-device`: name of the TUN device.
    pub tun_device: String,
    /// `ipv4-addr`: the translator's own IPv4 address.
    pub ipv4_addr: Ipv4Addr,
    /// `ipv6-addr`: the translator's own IPv6 address; where it is not given, `ipv4-addr` in the prefix.
    pub ipv6_addr: Ipv6Addr,
    /// `prefix`.
    pub prefix: Option<Nat64Prefix>,
    /// `map`, in the order of the file.
    pub maps: Vec<Eam>,
    /// `dynamic-pool`.
    pub dynamic_pool: Option<Prefix4>,
    /// `map-file`.
    pub map_file: Option<PathBuf>,
    /// `data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `wkpf-strict`.
    pub wkpf_strict: bool,
    /// `log`: which packets are logged.
    pub log: LogClasses,
    /// `tun-up`: set the device up at start.
    pub tun_up: bool,
    /// `tun-ip`: addresses for the device.
    pub tun_ip: Vec<IpPrefix>,
    /// `tun-route`: routes to the device.
    pub tun_route: Vec<IpPrefix>,
    /// Everything the translator itself is told; its `mtu` is the device's and filled in by the daemon.
    pub translation: Settings,
}

/// The packet classes of the `log` directive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogClasses {
    /// Packets that are dropped without an answer.
    pub drop: bool,
    /// Packets that are answered with an ICMP error.
    pub reject: bool,
    /// ICMP errors that are translated.
    pub icmp: bool,
    /// Packets to the translator's own addresses.
    pub own: bool,
    /// What happens to leases of the dynamic pool.
    pub dynamic: bool,
}

/// An address with a prefix length, of either family; host bits may be set (`tun-ip`, `tun-route`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpPrefix {
    /// `192.0.2.1/24`
    V4(Ipv4Addr, u8),
    /// `2001:db8::1/64`
    V6(Ipv6Addr, u8),
}
impl IpPrefix {
    #[allow(dead_code)]
    fn _x(_: Prefix6) {}
}
