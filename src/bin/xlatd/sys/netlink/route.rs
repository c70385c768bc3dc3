//! Routes to a TUN device in the main table, beside those of others.
//!
//! Where another route has the same destination and metric, ours takes its packets, as tayga's does, but the other one
//! stays: the kernel uses it again as soon as ours is gone, also when nobody is left who could put it back.

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType, RouteVia},
};
use xlatd::config::IpPrefix;

use super::{Done, Netlink, route_message};

/// Metric of an IPv6 route that has none of its own (IP6_RT_PRIO_USER of the kernel).
pub(crate) const METRIC_V6: u32 = 1024;

/// Where a route stands among others to the same destination. These are in ip-route(8)'s words.
pub(crate) enum Beside {
    /// It is used, and no other one had to give way.
    First,
    /// It is used instead of this one, which is the best of the others.
    Before(String),
    /// This one is used instead of it.
    Behind { other: String, metric: u32 },
}

impl Netlink {
    /// Routes `destination`, which has no host bits, to a device, in the main table, and says where
    /// that route stands.
    ///
    /// IPv4 routes of the same destination and metric stand in a row, and the kernel uses the
    /// first: ours goes before the others, also if it is there already. Among those of IPv6 the
    /// kernel divides packets, or uses the oldest: ours gets a metric that is better by the least.
    /// It does not go before a route that has a better metric than that.
    pub(crate) fn add_route(
        &mut self,
        index: u32,
        destination: IpPrefix,
    ) -> io::Result<(Done, Beside)> {
        let mut message = route_message(index, destination);
        let add = |message: &RouteMessage| RouteNetlinkMessage::NewRoute(message.clone());
        let mut done = self.tell(add(&message), NLM_F_CREATE | NLM_F_EXCL)?;
        if let (Done::Now, IpPrefix::V4(..)) = (done, destination) {
            return Ok((done, Beside::First)); // no metric is better than 0
        }
        let routes = self.routes_to(destination)?;
        let own = routes.iter().position(|route| is_through(route, index));
        let metric = match (own, destination) {
            (Some(0), _) => return Ok((done, Beside::First)),
            (Some(own), IpPrefix::V6(..)) => metric_of(&routes[own]),
            (None, IpPrefix::V6(..)) => {
                let metric = free_metric(&routes, destination).ok_or_else(no_metric)?;
                message.attributes.push(RouteAttribute::Priority(metric));
                self.request(add(&message), NLM_F_CREATE | NLM_F_EXCL)?;
                done = Done::Now;
                metric
            }
            (_, IpPrefix::V4(..)) => {
                if self.tell(add(&message), NLM_F_CREATE)? == Done::Before {
                    // The kernel moves no route.
                    let _ = self.remove_route(index, destination)?;
                    self.request(add(&message), NLM_F_CREATE)?;
                }
                done = Done::Now;
                0
            }
        };
        let Some(best) = routes.iter().find(|route| !is_through(route, index)) else {
            return Ok((done, Beside::First));
        };
        let other = self.describe(best, destination)?;
        let goes_before = matches!(destination, IpPrefix::V4(..)) || metric < metric_of(best);
        Ok(match goes_before {
            true => (done, Beside::Before(other)),
            false => (done, Beside::Behind { other, metric }),
        })
    }

    /// The metric of a route that goes before those of the same metric as one without: the worst
    /// that is free, and for IPv4 none but 0.
    pub(crate) fn free_metric(&mut self, destination: IpPrefix) -> io::Result<Option<u32>> {
        Ok(free_metric(&self.routes_to(destination)?, destination))
    }

    /// The routes of the main table with this destination, in the order in which the kernel prefers
    /// them.
    fn routes_to(&mut self, destination: IpPrefix) -> io::Result<Vec<RouteMessage>> {
        let wanted = route_message(0, destination);
        let mut filter = RouteMessage::default();
        filter.header.address_family = wanted.header.address_family;
        filter.header.table = RouteHeader::RT_TABLE_MAIN;
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
    fn describe(&mut self, route: &RouteMessage, destination: IpPrefix) -> io::Result<String> {
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

/// Whether a route of a dump, for packets of any source, has the destination and table of ours.
fn has_same_destination(route: &RouteMessage, ours: &RouteMessage) -> bool {
    let destination = |route: &RouteMessage| {
        let mut attributes = route.attributes.iter();
        let destination = attributes.find(|one| matches!(one, RouteAttribute::Destination(_)));
        (route.header.destination_prefix_length, destination.cloned())
    };
    route.header.table == ours.header.table
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
