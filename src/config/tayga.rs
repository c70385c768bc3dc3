//! What a tayga.conf says, and the text that says it.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use super::values::{IpPrefix, LogClasses, map_words, udp_checksum_word};
use crate::{
    addr::{AddressMap, Eam, Nat64Prefix, Prefix4},
    translate::{IcmpErrors, Settings, TrafficClass},
};

/// A tayga.conf, read and checked.
///
/// [`Display`](fmt::Display) writes it as a tayga.conf: what must be there, and what differs from its default. Reading
/// that gives an equal `Config`, unless a path in it is not UTF-8.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `tun-device`: name of the TUN device, 1 to 15 octets; it may be a [format](super::is_name_format).
    pub tun_device: String,
    /// `ipv4-addr`: the translator's own IPv4 address.
    pub ipv4_addr: Ipv4Addr,
    /// `ipv6-addr`: the translator's own IPv6 address; where it is not given, `ipv4-addr` in the prefix.
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
    /// `wkpf-strict`: private IPv4 addresses are not written with 64:ff9b::/96 (RFC 6052 section 3.1). On by default.
    pub wkpf_strict: bool,
    /// `log`: which packets are logged.
    pub log: LogClasses,
    /// `tun-up`: set the device up at start. Off by default.
    pub tun_up: bool,
    /// `tun-ip`: addresses for the device, none twice.
    pub tun_ip: Vec<IpPrefix>,
    /// `tun-route`: routes to the device, none twice; host bits are as in the file.
    pub tun_route: Vec<IpPrefix>,
    /// `tun-queue-length`: packets that wait for the translator at most. `None`: as many as with the device now.
    pub tun_queue_length: Option<u32>,
    /// `keep-net-admin`: addresses and routes that are lost may be brought back later. Off by default.
    pub keep_net_admin: bool,
    /// `offload`: the kernel leaves checksums and segmentation to be done once, at the end. On by default.
    pub offload: bool,
    /// `sandbox`: once packets can flow, the kernel refuses what a translator does not need. On by default.
    pub sandbox: bool,
    /// Everything the translator itself is told; its `mtu` is the device's and filled in by the daemon.
    pub translation: Settings,
}

impl Config {
    /// Where the map-file is.
    pub fn map_file_path(&self) -> Option<PathBuf> {
        let path = self.map_file.as_ref()?;
        Some(self.path_from_data_dir(path))
    }

    /// A path that, where it is relative, starts at `data-dir`, or else at the root, as with tayga.
    pub fn path_from_data_dir(&self, path: &Path) -> PathBuf {
        let directory = self.data_dir.as_deref().unwrap_or(Path::new("/"));
        directory.join(path)
    }

    /// Who is whom by these settings: the own addresses, `map`, `dynamic-pool` and `prefix`.
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

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Taken apart in full, so that a new field cannot be forgotten here.
        let Self {
            tun_device,
            ipv4_addr,
            ipv6_addr,
            prefix,
            maps,
            dynamic_pool,
            map_file,
            data_dir,
            wkpf_strict,
            log,
            tun_up,
            tun_queue_length,
            keep_net_admin,
            offload,
            sandbox,
            tun_ip,
            tun_route,
            translation,
        } = self;
        writeln!(f, "tun-device {tun_device}")?;
        writeln!(f, "ipv4-addr {ipv4_addr}")?;
        if default_ipv6_addr(*prefix, *ipv4_addr) != Some(*ipv6_addr) {
            writeln!(f, "ipv6-addr {ipv6_addr}")?;
        }
        if let Some(prefix) = prefix {
            writeln!(f, "prefix {}", prefix.prefix())?;
        }
        if !wkpf_strict {
            writeln!(f, "wkpf-strict no")?;
        }
        if let Some(pool) = dynamic_pool {
            writeln!(f, "dynamic-pool {pool}")?;
        }
        if let Some(path) = data_dir {
            writeln!(f, "data-dir {}", path.display())?;
        }
        if let Some(path) = map_file {
            writeln!(f, "map-file {}", path.display())?;
        }
        write_translation(translation, f)?;
        if *log != LogClasses::default() {
            writeln!(f, "log {log}")?;
        }
        if *tun_up {
            writeln!(f, "tun-up yes")?;
        }
        if let Some(length) = tun_queue_length {
            writeln!(f, "tun-queue-length {length}")?;
        }
        if *keep_net_admin {
            writeln!(f, "keep-net-admin yes")?;
        }
        if !*offload {
            writeln!(f, "offload no")?;
        }
        if !*sandbox {
            writeln!(f, "sandbox no")?;
        }
        for address in tun_ip {
            writeln!(f, "tun-ip {address}")?;
        }
        for route in tun_route {
            writeln!(f, "tun-route {route}")?;
        }
        for eam in maps {
            writeln!(f, "map {}", map_words(eam).join(" "))?;
        }
        Ok(())
    }
}

/// The translator's IPv6 address where `ipv6-addr` does not say: its IPv4 address in the prefix.
pub(super) fn default_ipv6_addr(
    prefix: Option<Nat64Prefix>,
    ipv4_addr: Ipv4Addr,
) -> Option<Ipv6Addr> {
    prefix.map(|prefix| prefix.embed(ipv4_addr))
}

/// The directives that make [`Settings`].
fn write_translation(settings: &Settings, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let default = Settings::default();
    let Settings {
        mtu: _, // the device's
        offlink_mtu,
        udp_checksum,
        traffic_class,
        tos,
        hairpin,
        icmp_source,
        icmp_errors,
    } = settings;
    if *offlink_mtu != default.offlink_mtu {
        writeln!(f, "offlink-mtu {offlink_mtu}")?;
    }
    if *udp_checksum != default.udp_checksum {
        writeln!(f, "udp-cksum-mode {}", udp_checksum_word(*udp_checksum))?;
    }
    if let TrafficClass::Fixed(octet) = traffic_class {
        writeln!(f, "traffic-class {octet:#04x}")?;
    }
    if let TrafficClass::Fixed(octet) = tos {
        writeln!(f, "tos {octet:#04x}")?;
    }
    if *hairpin != default.hairpin {
        writeln!(f, "hairpin no")?;
    }
    if let Some(address) = icmp_source {
        writeln!(f, "icmp-source {address}")?;
    }
    if *icmp_errors != default.icmp_errors {
        match icmp_errors {
            IcmpErrors::Off => writeln!(f, "icmp-errors no")?,
            IcmpErrors::PerSecond(rate) => writeln!(f, "icmp-errors {rate}")?,
        }
    }
    Ok(())
}
