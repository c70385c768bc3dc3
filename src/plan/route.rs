//! Routes, and the rules that say which packets use which routing table.

use std::{fmt, net::IpAddr};

use crate::{addr::IpPrefix, link::LinkRef};

/// The main routing table (ip-route(8)).
pub(super) const MAIN_TABLE: u32 = 254;
/// The routing table of the host's own addresses, which comes before all rules (ip-rule(8)).
pub(super) const LOCAL_TABLE: u32 = 255;

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Without host bits, which the kernel refuses (EINVAL).
    pub destination: IpPrefix,
    /// Where it leads.
    pub target: Target,
    /// The number of the routing table.
    pub table: u32,
    /// The lowest is preferred; zero is the kernel's default.
    pub metric: u32,
    /// The largest packet, in octets.
    pub mtu: Option<u32>,
    /// The largest TCP segment to announce, in octets.
    pub advmss: Option<u32>,
    /// Who has added it.
    pub protocol: Protocol,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A device. The kernel refuses a device that is down (ENETDOWN).
    Device(LinkRef),
    /// A router, by a device.
    Router(IpAddr, LinkRef),
    /// The device of a next hop, which other routes lead to as well.
    NextHopObject(NextHopObject),
    /// This host, as if the device had the address. No plan has it: undo journals of earlier
    /// versions do.
    Local(LinkRef),
    /// Nowhere: packets are refused.
    Unreachable,
    /// Nowhere: packets are dropped without a word.
    Blackhole,
}

/// A next hop that several routes share (ip-nexthop(8), Linux 5.3). The kernel keeps with it what
/// it learns of the path to a destination, such as its MTU: then a packet that one route leads
/// there is not larger than what another one has found to be too large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHopObject {
    /// Its number among all of the host; not zero.
    pub id: u32,
    /// Its device. It goes with it, also when that is set down, and takes its routes along.
    pub link: LinkRef,
}

/// The program or person that has added a route, which the kernel keeps with it (rtm_protocol of
/// rtnetlink(7)), and thereby how the route stands beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The administrator, by `tun-route`: goes before other routes of the same destination and
    /// metric, which stay.
    Static,
    /// A CLAT: another route of the same destination and metric is an error.
    Clat,
}

/// A routing rule: packets that match all of this use the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Source of the packets; `/0` is any.
    pub from: IpPrefix,
    /// Destination of the packets, of the same family; `/0` is any.
    pub to: IpPrefix,
    /// Mark of the packets; zero is any.
    pub mark: u32,
    /// Name of the device that they come in by; `None` is any.
    pub by: Option<String>,
    /// The number of the routing table.
    pub table: u32,
    /// The lowest comes first.
    pub priority: u32,
}

impl Route {
    /// Whether it is the other one with other sizes of packets. The kernel replaces such a route in
    /// one step, so there is no moment without it.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        let as_other = Self {
            mtu: other.mtu,
            advmss: other.advmss,
            ..self.clone()
        };
        self.protocol == Protocol::Clat && self.mtu.is_some() && as_other == *other
    }

    /// As ip-route(8) takes it.
    pub(super) fn arguments(&self) -> String {
        let destination = self.destination;
        let options = self.options();
        match &self.target {
            Target::Device(link) => format!("{destination} dev {link}{options}"),
            Target::Router(router, link) => {
                format!("{destination} via {router} dev {link}{options}")
            }
            Target::NextHopObject(NextHopObject { id, .. }) => {
                format!("{destination} nhid {id}{options}")
            }
            Target::Local(link) => format!("local {destination} dev {link}{options}"),
            Target::Unreachable => format!("unreachable {destination}{options}"),
            Target::Blackhole => format!("blackhole {destination}{options}"),
        }
    }

    /// What is not as by default.
    fn options(&self) -> String {
        let table = Some(self.table).filter(|table| *table != MAIN_TABLE);
        let metric = Some(self.metric).filter(|metric| *metric != 0);
        [
            ("table", table),
            ("metric", metric),
            ("mtu", self.mtu),
            ("advmss", self.advmss),
        ]
        .iter()
        .filter_map(|(name, value)| Some(format!(" {name} {}", (*value)?)))
        .collect()
    }
}

impl fmt::Display for Route {
    /// `64:ff9b::/96 to nat64`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to ", self.destination)?;
        match &self.target {
            Target::Device(link) | Target::NextHopObject(NextHopObject { link, .. }) => {
                write!(f, "{link}")?
            }
            Target::Router(router, link) => write!(f, "{router} on {link}")?,
            Target::Local(_) => f.write_str("this host")?,
            Target::Unreachable | Target::Blackhole => f.write_str("nowhere")?,
        }
        f.write_str(&self.options())
    }
}

impl fmt::Display for Rule {
    /// As ip-rule(8) has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from.length() {
            0 => write!(f, "from all")?,
            _ => write!(f, "from {}", self.from)?,
        }
        if self.to.length() != 0 {
            write!(f, " to {}", self.to)?;
        }
        if self.mark != 0 {
            write!(f, " fwmark {:#x}", self.mark)?;
        }
        if let Some(device) = &self.by {
            write!(f, " iif {device}")?;
        }
        write!(f, " lookup {} priority {}", self.table, self.priority)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    fn route(target: Target) -> Route {
        Route {
            destination: IpPrefix::V6("64:ff9b::".parse().unwrap(), 96),
            target,
            table: MAIN_TABLE,
            metric: 0,
            mtu: None,
            advmss: None,
            protocol: Protocol::Clat,
        }
    }

    /// For people, and as ip-route(8) takes it: without what is so by default.
    #[test]
    fn routes_are_named_as_the_administrator_does() {
        let eth0 = || LinkRef::new(2, "eth0");
        let tun = LinkRef::tun("clat");
        let next_hop = NextHopObject { id: 5, link: tun };
        let router = "fe80::1".parse().unwrap();
        for (target, text, arguments) in [
            (Target::Device(eth0()), "to eth0", "64:ff9b::/96 dev eth0"),
            (
                Target::Router(router, eth0()),
                "to fe80::1 on eth0",
                "64:ff9b::/96 via fe80::1 dev eth0",
            ),
            (
                Target::NextHopObject(next_hop),
                "to clat",
                "64:ff9b::/96 nhid 5",
            ),
            (
                Target::Local(eth0()),
                "to this host",
                "local 64:ff9b::/96 dev eth0",
            ),
            (
                Target::Unreachable,
                "to nowhere",
                "unreachable 64:ff9b::/96",
            ),
            (Target::Blackhole, "to nowhere", "blackhole 64:ff9b::/96"),
        ] {
            let plain = route(target);
            assert_eq!(plain.to_string(), format!("64:ff9b::/96 {text}"));
            assert_eq!(plain.arguments(), arguments);
            let with_options = Route {
                table: 7,
                metric: 1024,
                mtu: Some(1280),
                advmss: Some(1220),
                ..plain
            };
            let options = " table 7 metric 1024 mtu 1280 advmss 1220";
            assert_eq!(
                with_options.to_string(),
                format!("64:ff9b::/96 {text}{options}")
            );
            assert_eq!(with_options.arguments(), format!("{arguments}{options}"));
        }
    }

    /// A rule has what it asks for, and no more (ip-rule(8)).
    #[test]
    fn rules_are_named_as_the_administrator_does() {
        let any = IpPrefix::V4([0, 0, 0, 0].into(), 0);
        let host = IpPrefix::V4([192, 0, 0, 1].into(), 32);
        let all = Rule {
            from: any,
            to: any,
            mark: 0,
            by: None,
            table: 7,
            priority: 9,
        };
        let rule = |change: fn(&mut Rule, IpPrefix)| {
            let mut rule = all.clone();
            change(&mut rule, host);
            rule.to_string()
        };
        let end = "lookup 7 priority 9";
        assert_eq!(all.to_string(), format!("from all {end}"));
        let from = rule(|rule, host| rule.from = host);
        assert_eq!(from, format!("from 192.0.0.1/32 {end}"));
        let to = rule(|rule, host| rule.to = host);
        assert_eq!(to, format!("from all to 192.0.0.1/32 {end}"));
        let mark = rule(|rule, _| rule.mark = 0xc1a7);
        assert_eq!(mark, format!("from all fwmark 0xc1a7 {end}"));
        let by = rule(|rule, _| rule.by = Some("clat".to_owned()));
        assert_eq!(by, format!("from all iif clat {end}"));
    }

    /// The kernel replaces a route by one of a CLAT with other sizes of packets. Those of the
    /// administrator stand beside each other, and one without an MTU is another program's.
    #[test]
    fn a_route_replaces_one_with_other_sizes() {
        let sized = |mtu, protocol| Route {
            mtu,
            advmss: mtu.map(|mtu| mtu - 40),
            protocol,
            ..route(Target::Device(LinkRef::tun("clat")))
        };
        let first = sized(Some(1472), Protocol::Clat);
        let smaller = sized(Some(1372), Protocol::Clat);
        let elsewhere = Route {
            metric: 7,
            ..smaller.clone()
        };
        for (one, other, replaces) in [
            (&smaller, &first, true),
            (&first, &first, true),
            (&smaller, &sized(None, Protocol::Clat), true),
            (&sized(None, Protocol::Clat), &first, false),
            (&elsewhere, &first, false),
            (&sized(Some(1372), Protocol::Static), &first, false),
            (
                &sized(Some(1372), Protocol::Static),
                &sized(Some(1472), Protocol::Static),
                false,
            ),
        ] {
            assert_eq!(one.replaces(other), replaces, "{one:?} {other:?}");
        }
    }
}
