//! The conclusion that a CLAT comes to from all that it knows. The first row that holds counts:
//!
//! | | condition | status | host |
//! |---|---|---|---|
//! | 1 | native IPv4 has stayed, and its overlap is over | stepping aside | torn down |
//! | 2 | no uplink | waiting | kept, without routes |
//! | 3 | no NAT64 prefix | waiting for a prefix | kept, without routes |
//! | 4 | no IPv6 address to leave with | waiting | kept, without routes |
//! | 5 | CLAT address not ready, and no other source works | checking it | kept, without routes |
//! | 6 | another CLAT on the uplink, `v4-conncheck-enable` | another CLAT | kept, without routes |
//! | 7 | no free IPv4 addresses | waiting | kept, without routes |
//! | 8 | no route by the uplink, and no router on it | waiting | kept, without routes |
//! | 9 | native IPv4 has stayed | stepping aside | set up, without the default route |
//! | 10 | packets leave, and none comes back | NAT64 does not answer | set up |
//! | 11 | otherwise | active | set up |
//!
//! *Kept, without routes*: what was set up stays, so that open flows go on when what is missing is
//! back, but programs are not led to it; where nothing was set up, nothing is.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::{
    Forwarding, HostSetup, Interface, Missing, Network, NextHop, Path, Settings, Source, Status,
    Way,
    discovery::Discovery,
    host::Host,
    ipv6_route,
    native::Native,
    network::network_of,
    source::{Choice, Dedicated},
};
use crate::{addr::Nat64Prefix, link::LinkRef};

/// Priority of routing rules where others leave room: long before that of the main table.
const PRIORITY: u32 = 0x61a7;

/// The priority of a rule before those of others, the first of which has `first`. A fixed one would
/// not do: the kernel puts a rule that is added without a priority before the first one, as that of
/// wg-quick(8). Nor would 0: then all that are added later have 0 as well, and stand in the wrong
/// order.
fn before(first: Option<u32>) -> u32 {
    first.map_or(PRIORITY, |first| first.saturating_sub(1).min(PRIORITY))
}

/// All that a conclusion comes from.
pub(super) struct Situation<'a> {
    pub(super) settings: &'a Settings,
    pub(super) network: &'a Network,
    pub(super) discovery: &'a Discovery,
    pub(super) choice: &'a Choice,
    pub(super) native: &'a Native,
    pub(super) host: &'a Host,
    pub(super) now: Duration,
}

/// The status, and the set-up of the host; `None` where nothing of it is to stand.
pub(super) struct Conclusion {
    pub(super) status: Status,
    pub(super) setup: Option<HostSetup>,
}

/// A source of packets on the uplink.
struct Leaving {
    address: Ipv6Addr,
    /// Whether it is the CLAT's alone, and not the host's.
    dedicated: bool,
}

impl Situation<'_> {
    /// Goes through the table.
    pub(super) fn conclude(&self) -> Conclusion {
        if let Some(interface) = self.native.aside_for()
            && self.native.end().is_some_and(|end| self.now >= end)
        {
            let status = Status::SteppingAside(interface.to_owned()); // 1
            return Conclusion {
                status,
                setup: None,
            };
        }
        match self.set_up() {
            Ok((status, setup)) => Conclusion {
                status,
                setup: Some(setup),
            },
            Err(status) => Conclusion {
                status,
                setup: self.without_routes(),
            },
        }
    }

    /// Rows 2 to 11: the set-up with its status, or the status that says what is missing.
    fn set_up(&self) -> Result<(Status, HostSetup), Status> {
        let Self {
            settings,
            network,
            discovery,
            ..
        } = *self;
        let uplink = discovery.uplink().and_then(|link| network.interface(link));
        let uplink = uplink.ok_or({
            Status::Waiting(match settings.uplink {
                Some(_) => Missing::PlatDev,
                None => Missing::Route,
            }) // 2
        })?;
        let name = &uplink.name;
        let current = self.host.in_force().map(|setup| setup.prefix);
        let found = discovery.prefix(settings, uplink, current, self.now);
        let (prefix, origin) = found.ok_or_else(|| Status::WaitingForPrefix(name.clone()))?; // 3
        let Leaving { address, dedicated } = self.source(uplink, prefix)?; // 4, 5
        let another = network.another_clat(uplink);
        if let Some(other) = another.filter(|_| settings.steps_aside) {
            return Err(Status::AnotherClat(other.name.clone())); // 6
        }
        let addresses = self.ipv4_addresses();
        let addresses = addresses.ok_or(Status::Waiting(Missing::Ipv4Addresses))?; // 7
        let routers = self.routers(uplink, prefix);
        let routers = routers.ok_or(Status::Waiting(Missing::Router))?; // 8
        let way = self.way(uplink, &routers, dedicated);
        let native = self.native.aside_for();
        let status = match native {
            Some(interface) => Status::SteppingAside(interface.to_owned()), // 9
            None if current == Some(prefix) && discovery.doubts.is_silent(uplink.index, prefix) => {
                Status::Silent(prefix, origin, name.clone()) // 10
            }
            None => Status::Active {
                prefix,
                origin,
                uplink: name.clone(),
                forwarded: way.is_forwarded(),
            }, // 11
        };
        let setup = HostSetup {
            uplink: LinkRef::new(uplink.index, name),
            mtu: discovery.mtu(uplink),
            addresses,
            prefix,
            source: address,
            way,
            on_link: true,
            default_route: settings.default_route && native.is_none(),
            rule_priority: before(network.first_rules.v4),
            // Native IPv4 goes before the CLAT, by its metric, also until that steps aside.
            link_local_default: match network.native() {
                Some(_) => None,
                None => network.link_local_default(),
            },
            links_v4: network.links_v4(),
            others: network.other_clats(),
        };
        Ok((status, setup))
    }

    /// The routers by which packets get to a prefix, the best first: those of routes, or else those
    /// that have announced themselves. None are needed where there is one peer only.
    fn routers(&self, uplink: &Interface, prefix: Nat64Prefix) -> Option<Vec<Ipv6Addr>> {
        let link = uplink.index;
        let in_force = self.host.in_force().map(|setup| &setup.way);
        let first = match in_force {
            Some(Way::Direct(NextHop::Router { routers, .. })) => routers.first().copied(),
            Some(Way::Forwarded(forwarding) | Way::Shared(forwarding)) => forwarding.router,
            _ => None,
        };
        ipv6_route::routers(&uplink.routes_v6, prefix, |router| {
            let is_announced = self.discovery.is_announced_by(link, prefix, router);
            (!is_announced, Some(router) != first)
        })
        .or_else(|| {
            let routers = self.discovery.routers(link, prefix);
            (!routers.is_empty() || !uplink.needs_router()).then_some(routers)
        })
    }

    /// The way of packets. The host's address needs the kernel's NAT, which is for what it
    /// forwards.
    fn way(&self, uplink: &Interface, routers: &[Ipv6Addr], dedicated: bool) -> Way {
        let forwarding = Forwarding {
            router: routers.first().copied(),
            rule_priority: before(self.network.first_rules.v6),
        };
        match (dedicated, self.settings.path, uplink.next_hop(routers)) {
            (true, Path::Direct, Some(next_hop)) => Way::Direct(next_hop),
            (true, ..) => Way::Forwarded(forwarding),
            (false, ..) => Way::Shared(forwarding),
        }
    }

    /// The set-up that was asked for, without its routes.
    fn without_routes(&self) -> Option<HostSetup> {
        let asked = self.host.asked().cloned();
        asked.map(|setup| HostSetup {
            on_link: false,
            default_route: false,
            ..setup
        })
    }

    /// The source to leave with, by what became of the CLAT address.
    fn source(&self, uplink: &Interface, prefix: Nat64Prefix) -> Result<Leaving, Status> {
        let ours = self.choice.address();
        let hosts = |address| Leaving {
            address,
            dedicated: false,
        };
        match (&self.choice.state, uplink.best_source(prefix, ours)) {
            (Dedicated::Ready(address), _) => Ok(Leaving {
                address: *address,
                dedicated: true,
            }),
            (_, None) if ours.is_none() => Err(Status::Waiting(Missing::GlobalAddress)),
            (Dedicated::Unavailable(_), Some(host)) => Ok(hosts(host)),
            (_, Some(host)) if self.settings.source == Source::Shared => Ok(hosts(host)),
            // The source that works goes on while another one is tested.
            _ => self.working_source(uplink).ok_or_else(|| {
                let name = uplink.name.clone();
                match ours {
                    Some(address) => Status::CheckingAddress(address, name),
                    None => Status::WaitingForNetwork(name),
                }
            }),
        }
    }

    /// The source in force, as long as the host is in its network, or has it if it is the host's.
    fn working_source(&self, uplink: &Interface) -> Option<Leaving> {
        let setup = self.host.in_force()?;
        let address = setup.source;
        let dedicated = setup.way.is_dedicated();
        let mut hosts = uplink.addresses_but(self.choice.address());
        let is_there = hosts.any(|one| {
            one.is_usable()
                && if dedicated {
                    network_of(one.address) == network_of(address)
                } else {
                    one.address == address
                }
        });
        (setup.on_link && setup.uplink.index == uplink.index && is_there)
            .then_some(Leaving { address, dedicated })
    }

    /// The IPv4 addresses of programs and of the translator. They stay once they are in force.
    fn ipv4_addresses(&self) -> Option<[Ipv4Addr; 2]> {
        let Settings {
            host_v4, own_v4, ..
        } = *self.settings;
        match self.host.in_force() {
            Some(setup) => Some(setup.addresses),
            None => self.network.free_addresses([host_v4, own_v4]),
        }
    }
}
