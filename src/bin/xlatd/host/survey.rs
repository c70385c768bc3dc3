//! The facts about a host that [`xlatd::doctor`] judges.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd,
    path::Path,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use xlatd::{
    addr::{AddressMap, Nat64Prefix, Prefix4},
    clat::{Event, Interface, Servers, prefix},
    config::{Config, clatd::ClatConfig},
    doctor::{
        DataDirUse, Disabled, Facts, Input, Leads, Link, Looked, Of, OwnAddress, Process, Sample,
        Way, clat, crossings, echo::Echo, of_all_ways, private_sources, samples,
    },
    link::LinkRef,
    plan::{
        FORCE_FORWARDING, RP_FILTER, conf_path,
        firewall::{IpVersion, Obstacle, Packet},
    },
};

use crate::{
    error::{Error, system},
    host::firewall::{Found, find_masquerade, find_obstacles},
    sys::{
        holder::{self, Holder, processes},
        lock,
        netlink::{LinkState, Netlink},
        ping, random,
        resolver::{LinkStates, Query},
        sysctl,
    },
};

/// The most devices that packets are looked for by.
const MAX_WAYS: usize = 32;
/// The time that the NAT64 has to answer an echo.
const ECHO_TIMEOUT: Duration = Duration::from_secs(3);

/// A look at the host.
pub(crate) struct Survey {
    netlink: Netlink,
    /// What could not be looked at, with the reason.
    pub(crate) unseen: Vec<String>,
}

impl Survey {
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self {
            netlink: Netlink::new().map_err(system("open a netlink socket"))?,
            unseen: Vec::new(),
        })
    }

    /// The facts about the translator of a configuration, with its device. `map` has the maps of
    /// its map-file, too.
    pub(crate) fn translator(
        &mut self,
        config: &Config,
        map: &AddressMap,
        device: &str,
    ) -> Result<Facts, Error> {
        let mut facts = self.routing(config, map, device)?;
        let (holders, saw_all) = processes();
        let has_device = |one: &&holder::Process| one.devices.iter().any(|name| name == device);
        facts.holders = holders.iter().filter(has_device).map(process).collect();
        let data_dir = config.dynamic_pool.and(config.data_dir.as_deref());
        facts.data_dir = data_dir.and_then(|path| data_dir_use(path, &facts.holders));
        let is_in_use = facts.link.as_ref().is_some_and(|link| link.is_in_use);
        let may_be_hidden = if is_in_use {
            facts.holders.is_empty()
        } else {
            data_dir.is_some() && facts.data_dir.is_none()
        };
        if !saw_all && may_be_hidden {
            let blind = "which programs use the device and the data-dir: not all processes can be \
                         seen";
            self.unseen.push(blind.to_owned());
        }
        self.look_at_firewalls(&mut facts, device);
        if config.prefix.is_some() {
            facts.dns64 = ask_dns64();
        }
        Ok(facts)
    }

    /// The same, but for what the kernel and its firewalls do with packets alone.
    pub(crate) fn start_of_translator(
        &mut self,
        config: &Config,
        map: &AddressMap,
        device: &str,
    ) -> Result<Facts, Error> {
        let mut facts = self.routing(config, map, device)?;
        self.look_at_firewalls(&mut facts, device);
        Ok(facts)
    }

    /// The same, but for firewalls.
    pub(crate) fn routing(
        &mut self,
        config: &Config,
        map: &AddressMap,
        device: &str,
    ) -> Result<Facts, Error> {
        let attempt = "look at the network by netlink";
        let link = self.netlink.link(device).map_err(system(attempt))?;
        let index = link.as_ref().map(|link| link.index);
        let network = self.netlink.network(index, &[]);
        let interfaces = network.map_err(system(attempt))?.interfaces;
        let interfaces = interfaces.into_iter().filter(|one| one.running);
        let mut interfaces: Vec<_> = interfaces.collect();
        // Those that matter first: hosts of containers have many.
        interfaces.sort_by_key(|one| {
            let is_default = has_default_v4(one) || metric_of_default_v6(one).is_some();
            let has_address = !one.networks_v4.is_empty() || !one.addresses.is_empty();
            (!is_default, !has_address)
        });
        interfaces.truncate(MAX_WAYS);
        let mut facts = Facts {
            device: device.to_owned(),
            prefix: config.prefix,
            pool: config.dynamic_pool,
            input: link.as_ref().map(|link| input(link.index, device)),
            link: link.as_ref().map(of_link),
            disabled: disabled(device),
            forwards_v4: sysctl::may_be_on("net/ipv4/ip_forward"),
            forwards_v6: sysctl::may_be_on(&conf_path("all", "forwarding")),
            ways: interfaces.iter().map(way).collect(),
            ..Facts::default()
        };
        for sample in samples(config, map) {
            let looked = self.look_up(sample, index, &interfaces);
            facts.routes.push(looked.map_err(system(attempt))?);
        }
        if let Some(index) = index {
            facts.refused = crossings(&facts).into_iter().find(|(source, destination)| {
                let input = Some((index, IpAddr::V4(*source)));
                let leads = self.netlink.leads(IpAddr::V4(*destination), input);
                leads.is_ok_and(|leads| matches!(leads, Leads::Nowhere(_)))
            });
        }
        for own in [IpAddr::V4(config.ipv4_addr), IpAddr::V6(config.ipv6_addr)] {
            let found = self.netlink.devices_with(own).map_err(system(attempt))?;
            for (index, address) in found {
                let link = self.netlink.link_by_index(index).map_err(system(attempt))?;
                facts.own.extend(link.map(|link| OwnAddress {
                    address,
                    device: link.name,
                }));
            }
        }
        Ok(facts)
    }

    /// Where packets to a sample address go. `tun` is the index of the translator's device.
    fn look_up(
        &mut self,
        sample: Sample,
        tun: Option<u32>,
        interfaces: &[Interface],
    ) -> std::io::Result<Looked> {
        let leads = self.netlink.leads(sample.address, None)?;
        let is_there = |leads: &Leads| match leads {
            Leads::To { link, .. } => Some(link.index) == tun,
            _ => false,
        };
        let mut by = None;
        if tun.is_some() && !is_there(&leads) && leads != Leads::Here {
            for interface in interfaces {
                for source in neighbours(interface, sample.version()) {
                    let input = Some((interface.index, source));
                    // One that the kernel refuses to look at goes nowhere.
                    let leads = self.netlink.leads(sample.address, input);
                    if leads.is_ok_and(|leads| is_there(&leads)) {
                        by.get_or_insert_with(|| interface.name.clone());
                    }
                }
            }
        }
        Ok(Looked { sample, leads, by })
    }

    /// Firewalls that drop packets, and whether one masquerades.
    fn look_at_firewalls(&mut self, facts: &mut Facts, device: &str) {
        let Some(tun) = facts.input.as_ref().map(|input| input.link.clone()) else {
            return;
        };
        let mut unread = Vec::new();
        let mut routes = facts.routes.iter();
        let outside = routes.find(|looked| looked.sample.of == Of::Outside);
        if let Some(Leads::To { link, .. }) = outside.map(|looked| &looked.leads)
            && link.name != device
        {
            let found = private_sources(facts).into_iter().map(|source| {
                let source = Some(source.address);
                let packets = Packet::connection(IpVersion::V4, true, &tun, link, source);
                let Found {
                    found,
                    unread: of_it,
                } = find_masquerade(&packets);
                let is_seen = of_it.is_empty() || found;
                unread.extend(of_it);
                is_seen.then_some(found)
            });
            facts.masquerades = found
                .collect::<Option<Vec<_>>>()
                .map(|all| !all.contains(&false));
        }
        for version in [IpVersion::V6, IpVersion::V4] {
            let translated = facts.translated(version);
            for leaves in [true, false] {
                let ways = facts.filtered_ways(version).into_iter();
                let found = ways.map(|way| {
                    let other = &way.input.link;
                    let packets = Packet::connection(version, leaves, &tun, other, translated);
                    let found = find_obstacles(&packets);
                    unread.extend(found.unread);
                    (other.name.clone(), found.found)
                });
                let found = of_all_ways(found);
                facts.obstacles.extend(found);
            }
        }
        self.unseen_firewalls(unread);
    }

    fn unseen_firewalls(&mut self, mut unread: Vec<String>) {
        unread.dedup();
        let unread = unread.into_iter().next();
        self.unseen
            .extend(unread.map(|reason| format!("the firewalls: {reason}")));
    }

    /// The facts about the CLAT of a configuration. `ping` is the address to send an echo to by it.
    pub(crate) fn clat(
        &mut self,
        config: &ClatConfig,
        ping: Ipv4Addr,
    ) -> Result<clat::Facts, Error> {
        let attempt = "look at the network by netlink";
        let device = &config.clat.device;
        let link = self.netlink.link(device).map_err(system(attempt))?;
        let index = link.as_ref().map(|link| link.index);
        let network = self.netlink.network(index, &[]);
        let interfaces = network.map_err(system(attempt))?.interfaces;
        let configured = config.clat.uplink.as_deref();
        let uplink = uplink(&interfaces, configured);
        let has_route = uplink.is_some_and(|one| metric_of_default_v6(one).is_some());
        let native = interfaces.iter().find(|one| has_default_v4(one));
        let mut facts = clat::Facts {
            device: device.clone(),
            is_running: link.as_ref().is_some_and(|link| link.carrier),
            has_device: link.is_some(),
            disabled: disabled(uplink.map_or("default", |one| &one.name)),
            uplink: uplink.map(|one| one.name.clone()),
            has_route,
            native: native.map(|one| one.name.clone()),
            ..clat::Facts::default()
        };
        let (Some(link), Some(uplink)) = (link, uplink) else {
            return Ok(facts);
        };
        // The device has no IPv6 where a packet socket is the way out.
        let is_forwarded = !sysctl::is_on(&conf_path(device, "disable_ipv6"));
        if is_forwarded {
            let [tun, uplink] = [(link.index, device), (uplink.index, &uplink.name)]
                .map(|(index, name)| LinkRef::new(index, name));
            let Found { found, unread } = find_obstacles(&Packet::both_ways(&tun, &uplink));
            facts.obstacles = found;
            self.unseen_firewalls(unread);
        }
        facts.guests = guests(&LinkRef::new(link.index, device), uplink, &interfaces);
        if link.carrier {
            facts.echo = self.try_echo(device, ping).map(|answered| (ping, answered));
        }
        Ok(facts)
    }

    fn try_echo(&mut self, device: &str, address: Ipv4Addr) -> Option<bool> {
        let echo = Echo::new(random::seed());
        match ping::is_answered(device, address, echo, ECHO_TIMEOUT) {
            Ok(answered) => Some(answered),
            Err(error) => {
                let unseen = format!("whether the NAT64 answers: cannot send an echo: {error}");
                self.unseen.push(unseen);
                None
            }
        }
    }
}

/// What drops packets of those behind this host, as far as it can be seen: on devices with an IPv4
/// network, if the kernel forwards what comes in by them.
fn guests(tun: &LinkRef, uplink: &Interface, interfaces: &[Interface]) -> Vec<(Obstacle, String)> {
    let behind = interfaces.iter().filter(|one| {
        let has_network = one.networks_v4.iter().any(|network| network.length() < 31);
        let is_way_out = one.index == uplink.index || has_default_v4(one) || one.is_tunnel();
        one.running && has_network && !is_way_out && input(one.index, &one.name).forwards_v4
    });
    let found = behind.take(MAX_WAYS).flat_map(|one| {
        let guest = LinkRef::new(one.index, &one.name);
        let packets = Packet::connection(IpVersion::V4, false, tun, &guest, None);
        let obstacles = find_obstacles(&packets).found.into_iter();
        obstacles.map(|obstacle| (obstacle, one.name.clone()))
    });
    found.collect()
}

/// A process, as it is named to people.
fn process(process: &holder::Process) -> Process {
    let name = process.program.file_name().unwrap_or_default();
    Process {
        pid: process.pid,
        program: name.to_string_lossy().into_owned(),
        unit: process.unit.clone(),
        is_xlatd: process.is_xlatd(),
    }
}

/// The process that keeps leases in a directory, if it is not one of these.
fn data_dir_use(path: &Path, ours: &[Process]) -> Option<DataDirUse> {
    let file = File::open(path.join(lock::NAME)).ok()?;
    let Holder { pid, device } = Holder::of(file)?;
    (!ours.iter().any(|one| one.pid == pid)).then(|| DataDirUse {
        path: path.display().to_string(),
        process: holder::Process::of(pid).as_ref().map(process),
        device,
    })
}

fn of_link(link: &LinkState) -> Link {
    Link {
        mtu: link.mtu,
        up: link.up,
        is_in_use: link.carrier,
    }
}

fn disabled(device: &str) -> Disabled {
    let is_disabled = |name| sysctl::is_on(&conf_path(name, "disable_ipv6"));
    Disabled {
        in_kernel: !fs::exists("/proc/sys/net/ipv6").unwrap_or(true),
        all: is_disabled("all"),
        default: is_disabled("default"),
        device: is_disabled(device),
    }
}

fn input(index: u32, name: &str) -> Input {
    let filter = |name| {
        let value = sysctl::read(&conf_path(name, RP_FILTER));
        value.ok().and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    Input {
        link: LinkRef::new(index, name),
        forwards_v4: sysctl::may_be_on(&format!("net/ipv4/conf/{name}/forwarding")),
        forces_v6: sysctl::is_on(&conf_path(name, FORCE_FORWARDING)),
        rp_filter: filter("all").max(filter(name)),
    }
}

fn way(interface: &Interface) -> Way {
    let name = &interface.name;
    let default_v6 = metric_of_default_v6(interface).is_some();
    Way {
        input: input(interface.index, name),
        has_v4: !interface.networks_v4.is_empty(),
        has_v6: !interface.addresses.is_empty(),
        default_v4: has_default_v4(interface),
        default_v6,
        loses_default_v6: default_v6 && sysctl::is_on(&conf_path(name, "accept_ra")),
    }
}

/// The device of the IPv6 default route, or one that is configured, whatever its routes are.
fn uplink<'a>(interfaces: &'a [Interface], configured: Option<&str>) -> Option<&'a Interface> {
    let is_allowed = |one: &&Interface| configured.is_none_or(|name| one.name == name);
    let allowed = interfaces.iter().filter(is_allowed);
    let by_metric = allowed.filter_map(|one| Some((metric_of_default_v6(one)?, one)));
    let best = by_metric.min_by_key(|(metric, _)| *metric);
    let named = || interfaces.iter().find(|one| Some(&*one.name) == configured);
    best.map(|(_, one)| one).or_else(named)
}

/// The least, `None` without such a route.
fn metric_of_default_v6(interface: &Interface) -> Option<u32> {
    let routes = interface.routes_v6.iter();
    let default = routes.filter(|route| route.destination.length() == 0 && route.is_main);
    default.map(|route| route.metric).min()
}

fn has_default_v4(interface: &Interface) -> bool {
    interface.default_v4 || interface.on_link_default_v4.is_some()
}

/// Addresses that hosts on the link of a device may have. One of them may be this host's.
fn neighbours(interface: &Interface, version: IpVersion) -> Vec<IpAddr> {
    match version {
        IpVersion::V4 => {
            let networks = interface.networks_v4.iter().take(1);
            let hosts = networks.flat_map(|network: &Prefix4| {
                let first = network.address().to_bits();
                [1, 2].map(|host| Ipv4Addr::from_bits(first.saturating_add(host)).into())
            });
            hosts.collect()
        }
        IpVersion::V6 => {
            let addresses = interface.addresses.iter().take(1);
            let other = |bits: u128| Ipv6Addr::from_bits(bits ^ 1).into();
            addresses.map(|one| other(one.address.to_bits())).collect()
        }
    }
}

/// The prefixes of the DNS64 of resolv.conf(5) (RFC 7050); `None`: nobody has answered.
fn ask_dns64() -> Option<Vec<Nat64Prefix>> {
    let servers = Servers::Configured(Vec::new());
    let index_of = |name: &str| nix::net::if_::if_nametoindex(name).ok();
    let id = random::seed() as u16;
    let states = LinkStates::new();
    let anywhere = Interface::default();
    let mut query = Query::ask(&anywhere, &servers, states, index_of, id, Instant::now()).ok()?;
    loop {
        let now = Instant::now();
        query.go_on(now);
        match query.outcome(now) {
            Some(Event::Resolved { resolution, .. }) => {
                return Some(prefix::by_addresses(&resolution.addresses));
            }
            Some(_) => return None,
            None => {}
        }
        let left = query.deadline().saturating_duration_since(now);
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::ZERO);
        let _ = poll(
            &mut [PollFd::new(query.as_fd(), PollFlags::POLLIN)],
            timeout,
        );
    }
}
