//! The settings of a tayga.conf.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use super::{ControlSocket, LogClasses};
use crate::{
    addr::{AddressMap, Eam, IpPrefix, Nat64Prefix, Prefix4},
    translate::Settings,
};

/// A tayga.conf, read and checked.
///
/// [`Display`](std::fmt::Display) writes it as a tayga.conf: what must be there, and what differs
/// from its default. Reading that gives an equal `Config`, unless a path in it is not UTF-8.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `tun-device`: name of the TUN device, 1 to 15 octets; it may be a
    /// [format](super::is_name_format).
    pub tun_device: String,
    /// `ipv4-addr`: the translator's own IPv4 address.
    pub ipv4_addr: Ipv4Addr,
    /// `ipv6-addr`: the translator's own IPv6 address; where it is not given, `ipv4-addr` in the
    /// prefix.
    pub ipv6_addr: Ipv6Addr,
    /// `prefix`: where the IPv4 addresses without a mapping of their own are.
    pub prefix: Option<Nat64Prefix>,
    /// `map`, in the order of the file; no prefix of either family is in it twice.
    pub maps: Vec<Eam>,
    /// `dynamic-pool`: IPv4 addresses to lend, /31 or shorter.
    pub dynamic_pool: Option<Prefix4>,
    /// `map-file`: more `map` lines, read by [`with_map_file`](Self::with_map_file); see
    /// [`map_file_path`](Self::map_file_path).
    pub map_file: Option<PathBuf>,
    /// `data-dir`: where leases are kept; absolute.
    pub data_dir: Option<PathBuf>,
    /// `wkpf-strict`: private IPv4 addresses are not written with 64:ff9b::/96 (RFC 6052 section
    /// 3.1). On by default.
    pub wkpf_strict: bool,
    /// `log`: which packets are logged.
    pub log: LogClasses,
    /// `tun-up`: set the device up at start. Off by default.
    pub tun_up: bool,
    /// `tun-ip`: addresses for the device, none twice.
    pub tun_ip: Vec<IpPrefix>,
    /// `tun-route`: routes to the device, none twice; host bits are as in the file.
    pub tun_route: Vec<IpPrefix>,
    /// `tun-queue-length`: packets that wait for the translator at most. `None`: as many as with
    /// the device now.
    pub tun_queue_length: Option<u32>,
    /// `keep-net-admin`: addresses and routes that are lost may be brought back later. Off by
    /// default.
    pub keep_net_admin: bool,
    /// `offload`: the kernel leaves checksums and segmentation to be done once, at the end. On by
    /// default.
    pub offload: bool,
    /// `sandbox`: once packets can flow, the kernel refuses what a translator does not need. On by
    /// default.
    pub sandbox: bool,
    /// `control-socket`: by which `xlatd status` and others ask how the daemon is.
    pub control_socket: ControlSocket,
    /// `workers`: the number of processes, 1 to 64, each with a queue of the device. 1 by default.
    pub workers: u8,
    /// Everything the translator itself is told; its `mtu` is the device's and filled in by the
    /// daemon.
    pub translation: Settings,
}

impl Config {
    /// Every default; a placeholder for what has none.
    pub(super) fn blank() -> Self {
        Self {
            tun_device: String::new(),
            ipv4_addr: Ipv4Addr::UNSPECIFIED,
            ipv6_addr: Ipv6Addr::UNSPECIFIED,
            prefix: None,
            maps: Vec::new(),
            dynamic_pool: None,
            map_file: None,
            data_dir: None,
            wkpf_strict: true,
            log: LogClasses::default(),
            tun_up: false,
            tun_queue_length: None,
            keep_net_admin: false,
            offload: true,
            sandbox: true,
            control_socket: ControlSocket::default(),
            tun_ip: Vec::new(),
            tun_route: Vec::new(),
            workers: 1,
            translation: Settings::default(),
        }
    }

    /// The own IPv6 address where `ipv6-addr` is not given: `ipv4-addr` in the prefix.
    pub(super) fn default_ipv6_addr(&self) -> Option<Ipv6Addr> {
        self.prefix.map(|prefix| prefix.embed(self.ipv4_addr))
    }

    /// The path of the map-file.
    pub fn map_file_path(&self) -> Option<PathBuf> {
        let path = self.map_file.as_ref()?;
        Some(self.path_from_data_dir(path))
    }

    /// A path that, where it is relative, starts at `data-dir`, or else at the root, as with tayga.
    pub fn path_from_data_dir(&self, path: &Path) -> PathBuf {
        let directory = self.data_dir.as_deref().unwrap_or(Path::new("/"));
        directory.join(path)
    }

    /// The address mapping by these settings: own addresses, `map`, `dynamic-pool` and `prefix`.
    pub fn address_map(&self) -> AddressMap {
        let mut map = self.fixed_address_map();
        if let Some(pool) = self.dynamic_pool {
            map.set_pool(pool);
        }
        map
    }

    /// The same without the pool, which is only lent what is left.
    pub(super) fn fixed_address_map(&self) -> AddressMap {
        let mut map = AddressMap::new(
            self.ipv4_addr,
            self.ipv6_addr,
            self.prefix,
            self.wkpf_strict,
        );
        for &eam in &self.maps {
            // Refused is only what is there already, and `read` lets no prefix in twice.
            let _ = map.insert(eam);
        }
        map
    }
}
