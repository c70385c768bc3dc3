//! IPv6 routes that may lead to a NAT64: which of them count, and which is better.

use std::{cmp::Reverse, net::Ipv6Addr};

use crate::addr::{Nat64Prefix, Prefix6};

/// All global unicast addresses (RFC 4291 section 2.4): a route there leads to the Internet.
const GLOBAL: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0);
const GLOBAL_LENGTH: u8 = 3;

/// An IPv6 route by an interface. One with several next hops is as many routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Route {
    /// The addresses that it is for.
    pub destination: Prefix6,
    /// Whether it is in the main table.
    pub is_main: bool,
    /// Its metric: the lowest counts.
    pub metric: u32,
    /// The preference of its router, from -1 to 1: the highest counts (RFC 4191 section 2.1), among
    /// routes of one metric, as for the kernel.
    pub preference: i8,
    /// Its router, if it has one.
    pub gateway: Option<Ipv6Addr>,
}

/// The reason why an interface may be the uplink, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lead {
    /// A default route in the main table.
    Default,
    /// Another route in the main table, to a NAT64 prefix or to all global addresses.
    Part,
    /// A default route in another table.
    OtherTable,
    /// It was named.
    Name,
}

/// Whether a route to `destination` may lead to one of these NAT64 prefixes, or to one that is not
/// known yet. Of tables but the main one only default routes count.
pub fn may_lead(destination: Prefix6, is_main: bool, prefixes: &[Nat64Prefix]) -> bool {
    destination.length() == 0
        || is_main
            && (covers(destination, GLOBAL, GLOBAL_LENGTH)
                || prefixes.iter().any(|prefix| leads_to(destination, *prefix)))
}

fn leads_to(destination: Prefix6, prefix: Nat64Prefix) -> bool {
    let prefix = prefix.prefix();
    covers(destination, prefix.address(), prefix.length())
}

fn covers(destination: Prefix6, address: Ipv6Addr, length: u8) -> bool {
    destination.length() <= length && destination.contains(address)
}

impl Ipv6Route {
    /// Why its interface may be the uplink, where these prefixes are known.
    pub(super) fn lead(&self, prefixes: &[Nat64Prefix]) -> Option<Lead> {
        let lead = match (self.destination.length(), self.is_main) {
            (0, true) => Lead::Default,
            (_, true) => Lead::Part,
            (_, false) => Lead::OtherTable,
        };
        may_lead(self.destination, self.is_main, prefixes).then_some(lead)
    }

    /// How good a way to a prefix it is, the least best: routes of the main table first, those that
    /// lead there before those that lead to the Internet, and the most specific one.
    fn distance(&self, prefix: Nat64Prefix) -> impl Ord {
        let leads_there = leads_to(self.destination, prefix);
        (
            !self.is_main,
            !leads_there,
            Reverse(self.destination.length()),
        )
    }
}

/// The routers of the best routes to a prefix, the best first. Among equals, those with the least
/// `rank` are best. `None` if there is no route; none, if it leads to a link without a router.
pub(super) fn routers<R: Ord>(
    routes: &[Ipv6Route],
    prefix: Nat64Prefix,
    rank: impl Fn(Ipv6Addr) -> R,
) -> Option<Vec<Ipv6Addr>> {
    let counts = |one: &&Ipv6Route| one.lead(&[prefix]).is_some();
    let counting = || routes.iter().filter(counts);
    let best = counting().min_by_key(|one| one.distance(prefix))?;
    let key = |one: &&Ipv6Route| {
        let among_equals = one.gateway.map(|router| (rank(router), router));
        (one.metric, Reverse(one.preference), among_equals)
    };
    let mut best: Vec<_> = counting()
        .filter(|one| (one.is_main, one.destination) == (best.is_main, best.destination))
        .collect();
    best.sort_by_key(key);
    let mut routers = Vec::new();
    // The kernel asks neighbours for what a route without a router leads to.
    for router in best.into_iter().map_while(|one| one.gateway) {
        if !routers.contains(&router) {
            routers.push(router);
        }
    }
    Some(routers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    fn prefix(text: &str) -> Nat64Prefix {
        Nat64Prefix::new(text.parse().unwrap()).unwrap()
    }

    fn router(number: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number)
    }

    fn route(destination: &str, is_main: bool, metric: u32, gateway: u16) -> Ipv6Route {
        Ipv6Route {
            destination: destination.parse().unwrap(),
            is_main,
            metric,
            preference: 0,
            gateway: (gateway != 0).then(|| router(gateway)),
        }
    }

    #[test]
    fn routes_to_the_internet_and_to_known_prefixes_count() {
        let known = [prefix("64:ff9b::/96")];
        for (destination, in_main, elsewhere) in [
            ("::/0", Some(Lead::Default), Some(Lead::OtherTable)),
            ("2000::/3", Some(Lead::Part), None),
            ("::/1", Some(Lead::Part), None),
            ("64:ff9b::/96", Some(Lead::Part), None),
            ("64:ff9b::/32", Some(Lead::Part), None),
            ("64:ff9b::/97", None, None),
            ("2001:db8:64::/96", None, None),
            ("2000::/4", None, None),
        ] {
            for (is_main, expected) in [(true, in_main), (false, elsewhere)] {
                let route = route(destination, is_main, 1, 1);
                assert_eq!(route.lead(&known), expected, "{destination} {is_main}");
            }
        }
    }

    /// The most specific route to the prefix, then the metric, then RFC 4191's preference.
    #[test]
    fn the_routers_of_the_most_specific_route_are_the_next_hops() {
        let preferred = Ipv6Route {
            preference: 1,
            ..route("::/0", true, 1024, 5)
        };
        let all = [
            route("64:ff9b::/96", true, 1024, 1),
            route("64:ff9b::/32", true, 1, 2),
            route("::/0", true, 1024, 4),
            route("::/0", true, 100, 3),
            preferred,
            route("::/0", false, 1, 6),
            route("2000::/3", true, 1, 7),
        ];
        let to = |routes: &[Ipv6Route], to: &str| routers(routes, prefix(to), |_| ());
        let list = |numbers: &[u16]| Some(numbers.iter().map(|one| router(*one)).collect());
        assert_eq!(to(&all, "64:ff9b::/96"), list(&[1]));
        assert_eq!(to(&all[1..], "64:ff9b::/96"), list(&[2]));
        assert_eq!(to(&all[2..], "64:ff9b::/96"), list(&[3, 5, 4]));
        assert_eq!(to(&all, "2001:db8:64::/96"), list(&[7]));
        assert_eq!(to(&all[5..6], "64:ff9b::/96"), list(&[6]));
        assert_eq!(to(&all[5..], "64:ff9b::/96"), list(&[7]), "main first");
        assert_eq!(to(&[], "64:ff9b::/96"), None);
        assert_eq!(to(&[route("::/0", true, 1, 0)], "64:ff9b::/96"), list(&[]));
        // Among equals, by rank.
        let equal = [1, 2, 3].map(|number| route("::/0", true, 1024, number));
        let in_use = |one| one != router(2);
        let found = routers(&equal, prefix("64:ff9b::/96"), in_use);
        assert_eq!(found, list(&[2, 1, 3]));
    }
}
