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

impl Netlink {
    /// Routes `destination`, which has no host bits, to a device, in the main table. Also returns the other route that
    /// is not used for the time being, if there is one, in the words of ip-route(8).
    ///
    /// IPv4 routes of the same destination and metric stand in a row, and the kernel uses the first: ours goes before the
    /// others. Among those of IPv6 the kernel divides packets, or uses the oldest: ours gets a metric that is better by
    /// the least.
    pub(crate) fn add_route(
        &mut self,
        index: u32,
        destination: IpPrefix,
    ) -> io::Result<(Done, Option<String>)> {
        let mut message = route_message(index, destination);
        let add = |message: &RouteMessage| RouteNetlinkMessage::NewRoute(message.clone());
        let done = self.tell(add(&message), NLM_F_CREATE | NLM_F_EXCL)?;
        if done != Done::Before || self.has_route(index, destination)? {
            return Ok((done, None));
        }
        let other = self.route_beside(index, destination)?;
        if let IpPrefix::V4(..) = destination {
            return Ok((self.tell(add(&message), NLM_F_CREATE)?, other));
        }
        for metric in (1..METRIC_V6).rev() {
            message.attributes.push(RouteAttribute::Priority(metric));
            if self.tell(add(&message), NLM_F_CREATE | NLM_F_EXCL)? != Done::Before {
                return Ok((Done::Now, other));
            }
            message.attributes.pop();
        }
        Err(io::Error::other(
            "other routes to the same destination have every metric that is as good (ip -6 route)",
        ))
    }

    /// Another route of the same destination and metric as one that is added to a device, in the words of ip-route(8).
    pub(crate) fn route_beside(
        &mut self,
        index: u32,
        destination: IpPrefix,
    ) -> io::Result<Option<String>> {
        let ours = route_message(index, destination);
        let metric = match destination {
            IpPrefix::V4(..) => 0,
            IpPrefix::V6(..) => METRIC_V6,
        };
        let mut filter = RouteMessage::default();
        filter.header.address_family = ours.header.address_family;
        filter.header.table = RouteHeader::RT_TABLE_MAIN;
        let routes = self.request(RouteNetlinkMessage::GetRoute(filter), NLM_F_DUMP)?;
        let other = routes.iter().find_map(|route| match route {
            RouteNetlinkMessage::NewRoute(route)
                if is_beside(route, &ours, metric)
                    && !route.attributes.contains(&RouteAttribute::Oif(index)) =>
            {
                Some(route)
            }
            _ => None,
        });
        other
            .map(|route| self.describe(route, destination))
            .transpose()
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
        if let Some(refusal) = refusal {
            return Ok(format!("{refusal} {destination}")); // IPv6 ones have a device, which says nothing
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
        Ok(text)
    }
}

/// Whether a route of a dump has the destination of ours, and this metric.
fn is_beside(route: &RouteMessage, ours: &RouteMessage, metric: u32) -> bool {
    let destination = |route: &RouteMessage| {
        let mut attributes = route.attributes.iter();
        let destination = attributes.find(|one| matches!(one, RouteAttribute::Destination(_)));
        (route.header.destination_prefix_length, destination.cloned())
    };
    let has = route.attributes.iter().find_map(|one| match one {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    route.header.table == ours.header.table
        && route.header.tos == ours.header.tos
        && destination(route) == destination(ours)
        && has.unwrap_or(0) == metric
}
