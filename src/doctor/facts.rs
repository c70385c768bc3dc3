//! The facts about a host that a translator is examined by.

use std::net::{IpAddr, Ipv4Addr};

use super::samples::Sample;
use crate::{
    addr::{IpPrefix, Nat64Prefix, Prefix4},
    link::LinkRef,
    plan::firewall::{IpVersion, Obstacle},
};

/// What there is of a host, as the translator of one configuration is concerned.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The name of the TUN device.
    pub device: String,
    /// The command that starts the translator.
    pub start: String,
    /// `prefix`.
    pub prefix: Option<Nat64Prefix>,
    /// `dynamic-pool`.
    pub pool: Option<Prefix4>,
    /// The device, if it is there.
    pub link: Option<Link>,
    /// The processes that have attached to it, as far as they can be seen.
    pub holders: Vec<Process>,
    /// The process that keeps leases in the `data-dir`, if it is none of those.
    pub data_dir: Option<DataDirUse>,
    /// The files that have changed since the translator read them.
    pub changed: Vec<ChangedFile>,
    /// Where IPv6 is disabled.
    pub disabled: Disabled,
    /// What the kernel does with packets of the translator.
    pub input: Option<Input>,
    /// Whether the kernel forwards IPv4 (`net.ipv4.ip_forward`).
    pub forwards_v4: bool,
    /// Whether the kernel forwards IPv6 (`net.ipv6.conf.all.forwarding`).
    pub forwards_v6: bool,
    /// The other devices that are up.
    pub ways: Vec<Way>,
    /// Where packets to sample addresses go.
    pub routes: Vec<Looked>,
    /// The source and destination of the first of the [crossings](super::crossings) that the kernel
    /// refuses as they come in by the TUN device.
    pub refused: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Devices that have an own address of the translator.
    pub own: Vec<OwnAddress>,
    /// Whether something may masquerade what leaves the translator for the IPv4 internet, from each
    /// of its [private addresses](super::private_sources); `None`: this cannot be seen, or there is
    /// no way there.
    pub masquerades: Option<bool>,
    /// The chains that drop packets of connections of either version and direction, whatever other
    /// device they come from, or go to, with [one of these](super::of_all_ways).
    pub obstacles: Vec<(Obstacle, String)>,
    /// The prefixes of the DNS64 of resolv.conf(5); `None`: it was not asked, or gave no answer.
    pub dns64: Option<Vec<Nat64Prefix>>,
}

impl Facts {
    /// Where packets to a sample address go.
    pub(super) fn leads(&self, is_it: impl Fn(&Sample) -> bool) -> Option<&Looked> {
        self.routes.iter().find(|looked| is_it(&looked.sample))
    }

    /// Whether packets go to the translator.
    pub(super) fn leads_here(&self, looked: &Looked) -> bool {
        let is_here = matches!(&looked.leads, Leads::To { link, .. } if link.name == self.device);
        is_here || looked.by.is_some()
    }

    /// An address of this version that leads to the translator.
    pub fn translated(&self, version: IpVersion) -> Option<IpAddr> {
        let of_version = |looked: &&Looked| looked.sample.version() == version;
        let mut looked = self.routes.iter().filter(of_version);
        let leads_here = looked.find(|looked| self.leads_here(looked));
        leads_here.map(|looked| looked.sample.address)
    }

    /// The devices by which packets of a version come and go: those of default routes, or else all
    /// that have an address.
    pub(super) fn main_ways(&self, version: IpVersion) -> Vec<&Way> {
        let by_default = self.ways.iter().filter(|way| way.is_default(version));
        let by_default: Vec<_> = by_default.collect();
        match by_default.is_empty() {
            true => self.ways.iter().filter(|way| way.has(version)).collect(),
            false => by_default,
        }
    }

    /// The devices between which and the translator firewalls are to let packets of a version pass:
    /// one of these. IPv6 hosts of a pool go to the IPv4 internet. They themselves may be behind
    /// any device, but before those of default routes.
    pub fn filtered_ways(&self, version: IpVersion) -> Vec<&Way> {
        if version == IpVersion::V4 && self.pool.is_some() {
            return self.main_ways(version);
        }
        let ways = self.ways.iter().filter(|way| way.has(version));
        let mut ways: Vec<_> = ways.collect();
        ways.sort_by_key(|way| way.is_default(version));
        ways
    }
}

/// The TUN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// In octets.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
    /// Whether a process has attached to it.
    pub is_in_use: bool,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The name of its program.
    pub program: String,
    /// The unit of systemd that it belongs to.
    pub unit: Option<String>,
    /// Whether it is xlatd, by whatever name it was started.
    pub is_xlatd: bool,
}

/// A process that has locked the `data-dir` of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDirUse {
    /// The directory.
    pub path: String,
    /// The process, if it can be seen.
    pub process: Option<Process>,
    /// The TUN device of the process.
    pub device: Option<String>,
}

/// A file that has changed since a daemon read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedFile {
    /// Its path.
    pub path: String,
    /// The process that read it.
    pub pid: u32,
    /// What has it read again; `None`: the process is to be ended and started again.
    pub command: Option<String>,
}

/// Where IPv6 is disabled (`disable_ipv6`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disabled {
    /// In the kernel, which has no IPv6.
    pub in_kernel: bool,
    /// By the setting of all devices.
    pub all: bool,
    /// By the setting of devices to come.
    pub default: bool,
    /// By that of the TUN device.
    pub device: bool,
}

/// What the kernel does with packets that come in by a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The device.
    pub link: LinkRef,
    /// Whether IPv4 is forwarded (`net.ipv4.conf.DEVICE.forwarding`).
    pub forwards_v4: bool,
    /// Whether IPv6 is forwarded though the host does not (`force_forwarding`, Linux 6.17).
    pub forces_v6: bool,
    /// `net.ipv4.conf.DEVICE.rp_filter`, or that of `all` if it is greater.
    pub rp_filter: u8,
}

/// A device other than the TUN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// What the kernel does with what comes in by it.
    pub input: Input,
    /// Whether it has an IPv4 address.
    pub has_v4: bool,
    /// Whether it has an IPv6 address that is not link-local.
    pub has_v6: bool,
    /// Whether an IPv4 default route leads there.
    pub default_v4: bool,
    /// Whether an IPv6 default route leads there.
    pub default_v6: bool,
    /// Whether it loses the default routes of Router Advertisements once IPv6 is forwarded
    /// (`accept_ra` is 1).
    pub loses_default_v6: bool,
}

impl Way {
    /// Whether it has an address of this version.
    pub fn has(&self, version: IpVersion) -> bool {
        match version {
            IpVersion::V4 => self.has_v4,
            IpVersion::V6 => self.has_v6,
        }
    }

    fn is_default(&self, version: IpVersion) -> bool {
        match version {
            IpVersion::V4 => self.default_v4,
            IpVersion::V6 => self.default_v6,
        }
    }
}

/// Where the packets to a sample address go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// The address, and what it stands for.
    pub sample: Sample,
    /// Where packets of this host to it go.
    pub leads: Leads,
    /// If that is not the translator: a device by which packets have come in that go there.
    pub by: Option<String>,
}

/// Where packets go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    /// To a device.
    To {
        /// The device.
        link: LinkRef,
        /// The route, if the kernel says it.
        route: Option<RouteUsed>,
    },
    /// To this host itself.
    Here,
    /// Nowhere, for this reason: words behind the address.
    Nowhere(&'static str),
}

/// The route that packets use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteUsed {
    /// Its destination.
    pub prefix: IpPrefix,
    /// As ip-route(8) takes it.
    pub text: String,
    /// Whether the kernel made it for the network of an address of the device.
    pub is_of_address: bool,
}

/// A device with an own address of the translator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    /// The address, with the length that the device has it with.
    pub address: IpPrefix,
    /// The device.
    pub device: String,
}

impl OwnAddress {
    pub(super) fn ip(&self) -> IpAddr {
        self.address.address()
    }
}
