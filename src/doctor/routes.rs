//! Where packets go that the translator is to get, and whose its own addresses are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    facts::{Facts, Leads, Looked, OwnAddress, RouteUsed},
    finding::Finding,
    samples::{OUTSIDE, Of},
};
use crate::{
    addr::{Eam, IpPrefix, Nat64Prefix, Prefix4, Prefix6},
    plan::{
        RP_FILTER,
        shell::{conf, word},
    },
};

/// `rp_filter` asks for nothing, for a route to the source by the same device, or for any route.
const OFF: u8 = 0;
const STRICT: u8 = 1;
const LOOSE: u8 = 2;

/// The routes to the translator.
pub(super) fn routes(facts: &Facts) -> Vec<Finding> {
    if facts.link.is_none() {
        return Vec::new(); // it comes with the device
    }
    let prefix = facts.prefix.and_then(|prefix| of_prefix(facts, prefix));
    let pool = facts.pool.and_then(|pool| of_pool(facts, pool));
    let mut maps = of_maps(facts);
    let mut findings: Vec<_> = prefix.into_iter().chain(pool).collect();
    findings.append(&mut maps);
    findings
}

/// Packets to the prefix come to a gateway. The translator of a host or a network that is the
/// client of a NAT64 has the prefix elsewhere, and gets what goes to the IPv4 internet, or some of
/// that.
fn of_prefix(facts: &Facts, prefix: Nat64Prefix) -> Option<Finding> {
    let looked = facts.leads(|sample| sample.of == Of::Prefix(prefix))?;
    let outside = facts.leads(|sample| sample.of == Of::Outside)?;
    let is_for_this_host = facts.routes.iter().any(|one| match one.sample.of {
        Of::Map(eam) => one.leads == Leads::Here && is_behind(facts, eam),
        _ => false,
    });
    let is_client =
        facts.leads_here(outside) || is_for_this_host && matches!(outside.leads, Leads::To { .. });
    if facts.leads_here(looked) || is_client {
        return None;
    }
    let prefix = prefix.prefix();
    Some(missing(
        facts,
        &format!("prefix {prefix}"),
        v6(prefix),
        looked,
    ))
}

fn of_pool(facts: &Facts, pool: Prefix4) -> Option<Finding> {
    let looked = facts.leads(|sample| sample.of == Of::Pool(pool))?;
    let finding = || missing(facts, &format!("dynamic-pool {pool}"), v4(pool), looked);
    (!facts.leads_here(looked)).then(finding)
}

/// One side of a map is the host, and the other one leads to the translator.
fn of_maps(facts: &Facts) -> Vec<Finding> {
    let maps = facts
        .routes
        .iter()
        .filter_map(|looked| match looked.sample {
            sample if sample.address.is_ipv6() => None,
            sample => match sample.of {
                Of::Map(eam) => Some((eam, looked)),
                _ => None,
            },
        });
    let mut findings: Vec<_> = maps
        .filter_map(|(eam, side4)| {
            let side6 = side6(facts, eam)?;
            match [side4, side6].map(|side| facts.leads_here(side)) {
                [true, false] | [false, true] => None,
                [true, true] => loops(facts, eam, side6),
                [false, false] if side4.leads == Leads::Here => {
                    Some(missing(facts, &side(eam), v6(eam.v6()), side6))
                }
                [false, false] => Some(missing(facts, &side(eam), v4(eam.v4()), side4)),
            }
        })
        .collect();
    // What is wrong with one is often wrong with all.
    if findings.len() > 1 {
        let commands = findings
            .iter()
            .flat_map(|one| one.commands.clone())
            .collect();
        let problem = format!(
            "{} (and {} other maps of those that were looked at)",
            findings[0].problem,
            findings.len() - 1
        );
        findings = vec![Finding::new("route", problem, commands)];
    }
    findings
}

fn side(eam: Eam) -> String {
    format!("map {eam}")
}

/// An address of the prefix goes to the translator whatever the map says: nothing can be wrong.
fn loops(facts: &Facts, eam: Eam, side6: &Looked) -> Option<Finding> {
    let IpAddr::V6(address) = side6.sample.address else {
        return None;
    };
    let in_prefix = |prefix: Nat64Prefix| prefix.prefix().contains(address);
    if facts.prefix.is_some_and(in_prefix) {
        return None;
    }
    let device = &facts.device;
    let problem = format!(
        "both sides of the map {eam} lead to {device}, so that packets come back until their hop \
         limit ends them: the side that the host has must lead to the host"
    );
    let routes = format!("ip -6 route get {address}");
    Some(Finding::new("route", problem, vec![routes]))
}

/// A finding about a destination that must lead to the translator, and does not.
fn missing(facts: &Facts, what: &str, wanted: IpPrefix, looked: &Looked) -> Finding {
    let device = &facts.device;
    let address = looked.sample.address;
    let mut commands = Vec::new();
    let leads = match &looked.leads {
        Leads::Nowhere(words) => format!("{address} {words}"),
        Leads::Here => format!("{address} is an address of this host"),
        Leads::To { link, route } => {
            let by = match route {
                // Without its route, this host would not reach that network.
                Some(RouteUsed {
                    prefix,
                    is_of_address,
                    text,
                }) if prefix.length() > wanted.length()
                    || prefix.length() == wanted.length() && *is_of_address =>
                {
                    let problem = format!(
                        "{what} has addresses of {}, which is another network by {link} (route \
                         {text}): hosts there may have them. Set other ones in the configuration.",
                        prefix.network()
                    );
                    return Finding::new("route", problem, Vec::new());
                }
                Some(RouteUsed { prefix, text, .. }) => {
                    // As good as the new one, it could go before it.
                    if prefix.length() == wanted.length() {
                        commands.push(format!("ip {}route delete {text}", option(wanted)));
                    }
                    format!(" (route {text})")
                }
                None => String::new(),
            };
            format!("{address} goes to {link}{by}")
        }
    };
    let destination = wanted.network();
    commands.push(format!(
        "ip {}route replace {destination} dev {}",
        option(wanted),
        word(device)
    ));
    let problem = format!("{what} does not lead to {device}: {leads}");
    Finding::new("route", problem, commands)
}

/// The option of ip(8) for IPv6 destinations.
fn option(prefix: IpPrefix) -> &'static str {
    match prefix {
        IpPrefix::V4(..) => "",
        IpPrefix::V6(..) => "-6 ",
    }
}

fn v4(prefix: Prefix4) -> IpPrefix {
    IpPrefix::V4(prefix.address(), prefix.length())
}

fn v6(prefix: Prefix6) -> IpPrefix {
    let address: Ipv6Addr = prefix.address();
    IpPrefix::V6(address, prefix.length())
}

/// The translator's own addresses are its own alone: otherwise the kernel answers in its place.
pub(super) fn own_addresses(facts: &Facts) -> Vec<Finding> {
    let own = &facts.own;
    if own.is_empty() {
        return Vec::new();
    }
    let words = own.iter();
    let words = words.map(|one| format!("{} is also an address of {}", one.ip(), one.device));
    let words: Vec<_> = words.collect();
    // This host may be reached by an address of another device.
    let is_spare = |one: &&OwnAddress| [&facts.device, "lo"].contains(&&*one.device);
    let is_mended = own.iter().all(|one| is_spare(&one));
    let problem = format!(
        "the translator's own address {}: the kernel answers what is for the translator; {}",
        words.join(", and "),
        match is_mended {
            true => "give the device another address, or none",
            false => "set another one in the configuration",
        }
    );
    let delete = |one: &OwnAddress| {
        format!(
            "ip address delete {} dev {}",
            one.address,
            word(&one.device)
        )
    };
    let mut commands: Vec<_> = own.iter().filter(is_spare).map(delete).collect();
    // The kernel removes the IPv4 routes of a device with its last IPv4 address.
    let is_v4_of_device = |one: &OwnAddress| one.ip().is_ipv4() && one.device == facts.device;
    if own.iter().any(is_v4_of_device) {
        let routes = facts
            .routes
            .iter()
            .filter_map(|looked| match &looked.leads {
                Leads::To { route, .. } if facts.leads_here(looked) => route.as_ref(),
                _ => None,
            });
        let routes = routes.filter(|route| matches!(route.prefix, IpPrefix::V4(..)));
        commands.extend(routes.map(|route| format!("ip route replace {}", route.text)));
        commands.dedup();
    }
    vec![Finding::new("own-address", problem, commands)]
}

/// The packets of the translator, as sources and destinations, that the kernel must not refuse as
/// they come in: those of IPv6 hosts for the IPv4 internet, or answers for this host.
pub fn crossings(facts: &Facts) -> Vec<(Ipv4Addr, Ipv4Addr)> {
    let outside = facts.leads(|sample| sample.of == Of::Outside);
    let has_way = outside.is_some_and(|looked| matches!(looked.leads, Leads::To { .. }));
    let crossing = |looked: &Looked| {
        let IpAddr::V4(address) = looked.sample.address else {
            return None;
        };
        match looked.sample.of {
            Of::Outside | Of::Prefix(_) => None,
            Of::Map(eam) if looked.leads == Leads::Here => {
                is_behind(facts, eam).then_some((OUTSIDE, address))
            }
            _ => (has_way && facts.leads_here(looked)).then_some((address, OUTSIDE)),
        }
    };
    facts.routes.iter().filter_map(crossing).collect()
}

/// Whether the IPv6 side of a map leads to the translator.
fn is_behind(facts: &Facts, eam: Eam) -> bool {
    side6(facts, eam).is_some_and(|looked| facts.leads_here(looked))
}

fn side6(facts: &Facts, eam: Eam) -> Option<&Looked> {
    facts.leads(|sample| sample.of == Of::Map(eam) && sample.address.is_ipv6())
}

/// What the translator sends comes in by its device, with sources to which the kernel may have no
/// way back there (RFC 3704).
pub(super) fn rp_filter(facts: &Facts) -> Vec<Finding> {
    let input = facts.input.as_ref().filter(|input| input.rp_filter > 0);
    let (Some(input), Some((source, destination))) = (input, facts.refused) else {
        return Vec::new();
    };
    // Then it is for another reason.
    if source != OUTSIDE && !input.forwards_v4 {
        return Vec::new();
    }
    let device = &facts.device;
    let problem = format!(
        "reverse path filtering (rp_filter) drops what the translator sends from {source} to \
         {destination}: packets the other way do not go to {device}"
    );
    let of_source = facts.leads(|sample| sample.address == IpAddr::V4(source));
    let has_way = of_source.is_some_and(|looked| !matches!(looked.leads, Leads::Nowhere(_)));
    let set = |name: &str, value| format!("sysctl -w {}={value}", conf("ipv4", name, RP_FILTER));
    let commands = match input.rp_filter == STRICT && has_way {
        true => vec![set(device, LOOSE)],
        false => vec![set("all", OFF), set(device, OFF)],
    };
    vec![Finding::new("rp-filter", problem, commands)]
}
