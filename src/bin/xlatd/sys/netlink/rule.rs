//! Routes in tables of our own, and the rules that lead to them. They bear a protocol number that says whose they are.

use std::{io, net::IpAddr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
    route::{
        RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
        RouteType,
    },
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use nix::libc;
use xlatd::plan::{Route, Rule, Target};

use super::{Done, Netlink, family};

/// Who has made a route or rule (rtm_protocol of rtnetlink(7)): a number that nobody else has in /etc/iproute2/rt_protos.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(0x64);

impl Netlink {
    pub(crate) fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<Done> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.tell(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// `index` is that of the TUN device, should the route lead to it.
    pub(crate) fn add_table_route(&mut self, index: u32, route: &Route) -> io::Result<Done> {
        let message = RouteNetlinkMessage::NewRoute(route_message(index, route));
        let done = self.tell(message, NLM_F_CREATE | NLM_F_EXCL)?;
        if done == Done::Before && !self.has_table_route(index, route)? {
            return Err(io::Error::other(
                "another route to the same destination is there already (ip route show table all)",
            ));
        }
        Ok(done)
    }

    pub(crate) fn remove_table_route(&mut self, index: u32, route: &Route) -> io::Result<Done> {
        self.tell(
            RouteNetlinkMessage::DelRoute(route_message(index, route)),
            0,
        )
    }

    pub(crate) fn has_table_route(&mut self, index: u32, route: &Route) -> io::Result<bool> {
        let wanted = route_message(index, route);
        let mut filter = RouteMessage::default();
        filter.header.address_family = wanted.header.address_family;
        // Others may have hundreds of thousands, in other tables and by other devices.
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
                let header = (
                    &found.header.protocol,
                    found.header.destination_prefix_length,
                );
                header == (&PROTOCOL, wanted.header.destination_prefix_length)
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

    pub(crate) fn add_rule(&mut self, rule: &Rule) -> io::Result<Done> {
        let message = RouteNetlinkMessage::NewRule(rule_message(rule));
        self.tell(message, NLM_F_CREATE | NLM_F_EXCL)
    }

    pub(crate) fn remove_rule(&mut self, rule: &Rule) -> io::Result<Done> {
        self.tell(RouteNetlinkMessage::DelRule(rule_message(rule)), 0)
    }

    pub(crate) fn has_rule(&mut self, rule: &Rule) -> io::Result<bool> {
        let wanted = rule_message(rule);
        let mut filter = RuleMessage::default();
        filter.header.family = wanted.header.family;
        let rules = self.request(RouteNetlinkMessage::GetRule(filter), NLM_F_DUMP)?;
        Ok(rules.iter().any(|found| match found {
            RouteNetlinkMessage::NewRule(found) => wanted
                .attributes
                .iter()
                .all(|one| found.attributes.contains(one)),
            _ => false,
        }))
    }
}

fn route_message(index: u32, route: &Route) -> RouteMessage {
    let ip = route.destination.address();
    let mut message = RouteMessage::default();
    message.header.address_family = family(ip);
    message.header.destination_prefix_length = route.destination.length();
    message.header.protocol = PROTOCOL;
    let (kind, device) = match &route.target {
        Target::Device(_) => (RouteType::Unicast, Some(index)),
        Target::Local(_, index) => (RouteType::Local, Some(*index)),
        Target::Unreachable => (RouteType::Unreachable, None),
    };
    message.header.kind = kind;
    message.header.scope = match (ip, device) {
        (IpAddr::V4(_), Some(_)) => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(route.table));
    if route.destination.length() != 0 {
        let ip = RouteAddress::from(ip);
        attributes.push(RouteAttribute::Destination(ip));
    }
    attributes.extend(device.map(RouteAttribute::Oif));
    if route.metric != 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    let metrics: Vec<_> = [
        route.mtu.map(RouteMetric::Mtu),
        route.advmss.map(RouteMetric::Advmss),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.from.address());
    message.header.action = RuleAction::ToTable;
    message.header.src_len = rule.from.length();
    message.header.dst_len = rule.to.length();
    if rule.from.length() != 0 {
        let from = rule.from.address();
        message.attributes.push(RuleAttribute::Source(from));
    }
    if rule.to.length() != 0 {
        let to = rule.to.address();
        message.attributes.push(RuleAttribute::Destination(to));
    }
    if rule.mark != 0 {
        message.attributes.push(RuleAttribute::FwMark(rule.mark));
    }
    message.attributes.extend([
        RuleAttribute::Table(rule.table),
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Protocol(PROTOCOL),
    ]);
    message
}
