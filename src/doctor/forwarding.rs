//! Whether the kernel forwards what the translator writes, and what is for it
//! (Documentation/networking/ip-sysctl.rst of Linux).
//!
//! IPv4 is forwarded by the device that it comes in by: `net.ipv4.ip_forward` only sets all of
//! them. IPv6 is forwarded by all devices or none: `net.ipv6.conf.DEVICE.forwarding` says whether a
//! device is a router's, and not whether its packets are forwarded. Since Linux 6.17
//! `force_forwarding` of a device has them forwarded all the same.

use super::{
    facts::{Facts, Input, Leads},
    finding::Finding,
    samples::Of,
};
use crate::plan::{firewall::IpVersion, shell::conf};

pub(super) const V4: &str = "forwarding-ipv4";
pub(super) const V6: &str = "forwarding-ipv6";

/// IPv4 in either direction.
pub(super) fn v4(facts: &Facts) -> Vec<Finding> {
    if is_for_this_host(facts, IpVersion::V4) {
        return Vec::new();
    }
    let off = |input: &&Input| !input.forwards_v4;
    let ways = facts.main_ways(IpVersion::V4);
    let ways: Vec<_> = ways.into_iter().map(|way| &way.input).collect();
    let mut inputs: Vec<_> = facts.input.iter().filter(off).collect();
    // One way that forwards may be the only one that is to.
    if ways.iter().all(off) {
        inputs.extend(ways);
    }
    let names: Vec<_> = inputs.iter().map(|input| &*input.link.name).collect();
    let (problem, commands) = match (facts.forwards_v4, &names[..]) {
        (true, []) => return Vec::new(),
        (false, []) if facts.input.is_some() => return Vec::new(),
        (false, _) => (
            "this host does not forward IPv4: packets between the translator and IPv4 hosts are \
             dropped"
                .to_owned(),
            vec!["sysctl -w net.ipv4.ip_forward=1".to_owned()],
        ),
        (true, names) => (
            format!(
                "IPv4 that comes in by {} is not forwarded, though the host forwards IPv4",
                names.join(" and by ")
            ),
            names
                .iter()
                .map(|name| format!("sysctl -w {}=1", conf("ipv4", name, "forwarding")))
                .collect(),
        ),
    };
    vec![Finding::new(V4, problem, commands)]
}

/// IPv6 in either direction.
pub(super) fn v6(facts: &Facts) -> Vec<Finding> {
    let ways = facts.main_ways(IpVersion::V6);
    let mut inputs = facts.input.iter().chain(ways.iter().map(|way| &way.input));
    let is_forced = facts.input.is_some() && inputs.all(|input| input.forces_v6);
    if facts.forwards_v6 || is_forced || is_for_this_host(facts, IpVersion::V6) {
        return Vec::new();
    }
    let problem = "this host does not forward IPv6: packets between the translator and IPv6 hosts \
                   are dropped";
    let losing = ways.iter().filter(|way| way.loses_default_v6);
    let mut commands: Vec<_> = losing
        .map(|way| {
            format!(
                "sysctl -w {}=2",
                conf("ipv6", &way.input.link.name, "accept_ra")
            )
        })
        .collect();
    let problem = match commands.is_empty() {
        true => problem.to_owned(),
        false => {
            format!("{problem} (accept_ra=2 keeps the default route of Router Advertisements)")
        }
    };
    commands.push("sysctl -w net.ipv6.conf.all.forwarding=1".to_owned());
    vec![Finding::new(V6, problem, commands)]
}

/// Whether all that is translated has an address of this host in this version of IP: nothing needs
/// to be forwarded then.
fn is_for_this_host(facts: &Facts, version: IpVersion) -> bool {
    let mut maps = facts.routes.iter().filter(|looked| {
        matches!(looked.sample.of, Of::Map(_)) && looked.sample.version() == version
    });
    let is_here = maps.next().is_some_and(|one| one.leads == Leads::Here);
    facts.pool.is_none() && is_here && maps.all(|one| one.leads == Leads::Here)
}
