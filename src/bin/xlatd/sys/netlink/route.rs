//! Routes to a TUN device, to a router, or to nowhere, beside those of others.
//!
//! Where another route has the same destination and metric, that of a `tun-route` takes its
//! packets, as tayga's does, but the other one stays: the kernel uses it again as soon as ours is
//! gone, also after a crash.

use std::{io, net::IpAddr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
        RouteType, RouteVia,
    },
};
use nix::libc;
use xlatd::{
    addr::IpPrefix,
    plan::{Effect, Protocol, Route, Target},
};

use super::{CLAT_PROTOCOL, Netlink, family};

/// Metric of an IPv6 route that has none of its own (IP6_RT_PRIO_USER of the kernel).
pub(crate) const METRIC_V6: u32 = 1024;

/// The place of a route among others to the same destination, which are in ip-route(8)'s words.
pub(crate) enum Precedence {
    /// It is used, and no other one had to give way.
    First,
    /// It is used instead of this one, which is the best of the others.
    Before(String),
    /// This one is used instead of it.
    Behind { other: String, metric: u32 },
}

impl Netlink {
    /// Adds a route, and says where it stands. `tun` is the index of the TUN device.
    pub(crate) fn add_route(
        &mut self,
        tun: u32,
        route: &Route,
    ) -> io::Result<(Effect, Precedence)> {
        match route.protocol {
            Protocol::Static => self.add_route_before_others(tun, route),
            Protocol::Clat => Ok((self.add_only_route(tun, route)?, Precedence::First)),
        }
    }

    /// A route of ours that is there already may have other sizes of packets: it is replaced.
    fn add_only_route(&mut self, tun: u32, route: &Route) -> io::Result<Effect> {
        let message = RouteNetlinkMessage::NewRoute(route_message(tun, route));
        let effect = self.tell(message.clone(), NLM_F_CREATE | NLM_F_EXCL)?;
        if effect == Effect::Changed {
            return Ok(effect);
        }
        if !self.has_route(tun, route)? {
            return Err(io::Error::other(
                "another route to the same destination is there already (ip route show table all)",
            ));
        }
        if route.mtu.is_none() {
            return Ok(effect);
        }
        self.request(message, NLM_F_REPLACE)?;
        Ok(Effect::Changed)
    }

    /// IPv4 routes of the same destination and metric stand in a row, and the kernel uses the
    /// first: ours goes before the others, also if it is there already. Among those of IPv6 the
    /// kernel divides packets, or uses the oldest: ours gets a metric that is better by the least.
    /// It does not go before a route that has a better metric than that.
    fn add_route_before_others(
        &mut self,
        tun: u32,
        route: &Route,
    ) -> io::Result<(Effect, Precedence)> {
        let mut message = route_message(tun, route);
        let add = |message: &RouteMessage| RouteNetlinkMessage::NewRoute(message.clone());
        let mut effect = self.tell(add(&message), NLM_F_CREATE | NLM_F_EXCL)?;
        let is_v4 = matches!(route.destination, IpPrefix::V4(..));
        if effect == Effect::Changed && is_v4 {
            return Ok((effect, Precedence::First)); // no metric is better than 0
        }
        let routes = self.routes_beside(route)?;
        let device = match &route.target {
            Target::Router(_, link) => link.index,
            _ => tun,
        };
        let own = routes.iter().position(|route| is_through(route, device));
        let metric = match own {
            Some(0) => return Ok((effect, Precedence::First)),
            _ if is_v4 => {
                if self.tell(add(&message), NLM_F_CREATE)? == Effect::Unchanged {
                    // The kernel moves no route.
                    let _ = self.remove_route(tun, route)?;
                    self.request(add(&message), NLM_F_CREATE)?;
                }
                effect = Effect::Changed;
                0
            }
            Some(own) => metric_of(&routes[own]),
            None => {
                let metric = free_metric(&routes, route.destination).ok_or_else(no_metric)?;
                message.attributes.push(RouteAttribute::Priority(metric));
                self.request(add(&message), NLM_F_CREATE | NLM_F_EXCL)?;
                effect = Effect::Changed;
                metric
            }
        };
        let Some(best) = routes.iter().find(|route| !is_through(route, device)) else {
            return Ok((effect, Precedence::First));
        };
        let other = self.describe(best, route.destination)?;
        Ok(match is_v4 || metric < metric_of(best) {
            true => (effect, Precedence::Before(other)),
            false => (effect, Precedence::Behind { other, metric }),
        })
    }

    pub(crate) fn remove_route(&mut self, tun: u32, route: &Route) -> io::Result<Effect> {
        let mut message = route_message(tun, route);
        // A next hop takes its routes along: that it is gone is no mistake, as the kernel has it.
        let attributes = &mut message.attributes;
        attributes.retain(|one| !matches!(one, RouteAttribute::NhId(_)));
        self.tell(RouteNetlinkMessage::DelRoute(message), 0)
    }

    /// Whether there is such a route. That of a `tun-route` may be another program's, and of any
    /// metric.
    pub(crate) fn has_route(&mut self, tun: u32, route: &Route) -> io::Result<bool> {
        let wanted = route_message(tun, route);
        let mut filter = RouteMessage::default();
        filter.header.address_family = wanted.header.address_family;
        // There may be hundreds of thousands in other tables and by other devices.
        filter.attributes.push(RouteAttribute::Table(route.table));
        let device = wanted.attributes.iter();
        let device = device.filter(|one| matches!(one, RouteAttribute::Oif(_)));
        filter.attributes.extend(device.cloned());
        let routes = match self.request(RouteNetlinkMessage::GetRoute(filter), NLM_F_DUMP) {
            // There is no such table.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Vec::new(),
            routes => routes?,
        };
        Ok(routes.iter().any(|found| match found {
            RouteNetlinkMessage::NewRoute(found) => {
                let is_ours = match route.protocol {
                    Protocol::Static => true,
                    Protocol::Clat => found.header.protocol == CLAT_PROTOCOL,
                };
                is_ours
                    && found.header.destination_prefix_length
                        == wanted.header.destination_prefix_length
                    && wanted
                        .attributes
                        .iter()
                        // The kernel puts metrics together with some of its own.
                        .filter(|one| !matches!(one, RouteAttribute::Metrics(_)))
                        .all(|one| found.attributes.contains(one))
            }
            _ => false,
        }))
    }

    /// The metric of a route that goes before those of the same metric as one without: the worst
    /// that is free, and for IPv4 none but 0.
    pub(crate) fn free_metric(&mut self, route: &Route) -> io::Result<Option<u32>> {
        Ok(free_metric(&self.routes_beside(route)?, route.destination))
    }

    /// The routes with this destination in the same table, in the order in which the kernel prefers
    /// them.
    fn routes_beside(&mut self, route: &Route) -> io::Result<Vec<RouteMessage>> {
        let wanted = route_message(0, route);
        let mut filter = RouteMessage::default();
        filter.header.address_family = wanted.header.address_family;
        filter.attributes.push(RouteAttribute::Table(route.table));
        let mut routes = Vec::new();
        // A table may be large.
        self.request_each(
            RouteNetlinkMessage::GetRoute(filter),
            NLM_F_DUMP,
            |answer| match answer {
                RouteNetlinkMessage::NewRoute(route) if has_same_destination(&route, &wanted) => {
                    routes.push(route);
                }
                _ => {}
            },
        )?;
        routes.sort_by_key(metric_of); // the kernel's order stays among those of a metric
        Ok(routes)
    }

    /// As `unreachable 64:ff9b::/96`, or `0.0.0.0/0 via 192.0.2.1 dev eth0`.
    pub(super) fn describe(
        &mut self,
        route: &RouteMessage,
        destination: IpPrefix,
    ) -> io::Result<String> {
        let refusal = match route.header.kind {
            RouteType::BlackHole => Some("blackhole"),
            RouteType::Unreachable => Some("unreachable"),
            RouteType::Prohibit => Some("prohibit"),
            RouteType::Throw => Some("throw"),
            _ => None,
        };
        let metric = match metric_of(route) {
            0 | METRIC_V6 => String::new(),
            metric => format!(" metric {metric}"),
        };
        if let Some(refusal) = refusal {
            // IPv6 ones have a device, which says nothing.
            return Ok(format!("{refusal} {destination}{metric}"));
        }
        let mut text = destination.to_string();
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => {
                    text += &format!(" via {gateway}");
                }
                RouteAttribute::Gateway(RouteAddress::Inet6(gateway))
                | RouteAttribute::Via(RouteVia::Inet6(gateway)) => {
                    text += &format!(" via {gateway}");
                }
                RouteAttribute::MultiPath(hops) => {
                    text += &format!(" by {} next hops", hops.len());
                }
                _ => {}
            }
        }
        let device = route.attributes.iter().find_map(|one| match one {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        if let Some(index) = device
            && let Some(link) = self.link_by_index(index)?
        {
            text += &format!(" dev {}", link.name);
        }
        Ok(text + &metric)
    }
}

/// A route as a message. `tun` is the index of the TUN device.
fn route_message(tun: u32, route: &Route) -> RouteMessage {
    let ip = route.destination.address();
    let mut message = RouteMessage::default();
    message.header.address_family = family(ip);
    message.header.destination_prefix_length = route.destination.length();
    message.header.protocol = match route.protocol {
        Protocol::Static => RouteProtocol::Static,
        Protocol::Clat => CLAT_PROTOCOL,
    };
    let (kind, hop) = match &route.target {
        Target::Device(link) if link.index == 0 => {
            (RouteType::Unicast, Some(RouteAttribute::Oif(tun)))
        }
        Target::Device(link) | Target::Router(_, link) => {
            (RouteType::Unicast, Some(RouteAttribute::Oif(link.index)))
        }
        Target::NextHopObject(next_hop) => {
            (RouteType::Unicast, Some(RouteAttribute::NhId(next_hop.id)))
        }
        Target::Local(link) => (RouteType::Local, Some(RouteAttribute::Oif(link.index))),
        Target::Unreachable => (RouteType::Unreachable, None),
        Target::Blackhole => (RouteType::BlackHole, None),
    };
    message.header.kind = kind;
    message.header.scope = match (ip, &route.target) {
        (IpAddr::V4(_), Target::Device(_) | Target::NextHopObject(_) | Target::Local(_)) => {
            RouteScope::Link
        }
        _ => RouteScope::Universe, // IPv6 routes have no other
    };
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(route.table));
    if route.destination.length() != 0 {
        let ip = RouteAddress::from(ip);
        attributes.push(RouteAttribute::Destination(ip));
    }
    attributes.extend(hop);
    if let Target::Router(router, _) = route.target {
        attributes.push(RouteAttribute::Gateway(router.into()));
    }
    if route.metric != 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    let metrics = [
        route.mtu.map(RouteMetric::Mtu),
        route.advmss.map(RouteMetric::Advmss),
    ];
    let metrics: Vec<_> = metrics.into_iter().flatten().collect();
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

/// Whether a route of a dump, for packets of any source, has the destination and table of ours.
fn has_same_destination(route: &RouteMessage, ours: &RouteMessage) -> bool {
    let destination = |route: &RouteMessage| {
        let mut attributes = route.attributes.iter();
        let destination = attributes.find(|one| matches!(one, RouteAttribute::Destination(_)));
        (route.header.destination_prefix_length, destination.cloned())
    };
    let mut table = ours.attributes.iter();
    let table = table.find(|one| matches!(one, RouteAttribute::Table(_)));
    table.is_none_or(|table| route.attributes.contains(table))
        && route.header.tos == ours.header.tos
        && route.header.source_prefix_length == 0
        && destination(route) == destination(ours)
}

fn is_through(route: &RouteMessage, index: u32) -> bool {
    route.attributes.contains(&RouteAttribute::Oif(index))
}

/// The less, the better.
fn metric_of(route: &RouteMessage) -> u32 {
    let metric = route.attributes.iter().find_map(|one| match one {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    metric.unwrap_or(0)
}

fn free_metric(routes: &[RouteMessage], destination: IpPrefix) -> Option<u32> {
    let metrics = match destination {
        IpPrefix::V4(..) => 0..=0,
        IpPrefix::V6(..) => 1..=METRIC_V6,
    };
    metrics
        .rev()
        .find(|metric| routes.iter().all(|route| metric_of(route) != *metric))
}

fn no_metric() -> io::Error {
    io::Error::other(
        "other routes to the same destination have every metric that is as good (ip -6 route)",
    )
}
