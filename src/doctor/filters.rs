//! What packets pass on their way: NAT44 and firewalls.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    facts::{Facts, Leads, Looked},
    finding::Finding,
    samples::{Of, Sample},
};
use crate::{
    addr::Prefix4,
    plan::{
        firewall::{IpVersion, Obstacle},
        shell::word,
    },
};

/// Addresses for shared use (RFC 6598).
const SHARED: (Ipv4Addr, u8) = (Ipv4Addr::new(100, 64, 0, 0), 10);

/// Private addresses of IPv6 hosts need NAT44 on their way to the internet.
pub(super) fn masquerade(facts: &Facts) -> Vec<Finding> {
    let outside = facts.leads(|sample| sample.of == Of::Outside);
    let Some(Leads::To { link, .. }) = outside.map(|looked| &looked.leads) else {
        return Vec::new();
    };
    if facts.masquerades != Some(false) || link.name == facts.device {
        return Vec::new();
    }
    let private = private_sources(facts);
    if private.is_empty() {
        return Vec::new();
    }
    let words = private.iter();
    let words = words.map(|one| format!("{} ({})", one.network, one.directive));
    let words = words.collect::<Vec<_>>().join(", ");
    let networks = private.iter().map(|one| one.network.to_string());
    let networks = networks.collect::<Vec<_>>().join(", ");
    let device = &facts.device;
    let problem = format!(
        "no rule was found that masquerades {words} on the way to the IPv4 internet \
         by {link}: such addresses are private, and answers come back only if a router there knows \
         a route to them"
    );
    let table = "add table ip xlatd_nat";
    let commands = [
        table.to_owned(),
        "add chain ip xlatd_nat postrouting { type nat hook postrouting priority srcnat; }"
            .to_owned(),
        format!(
            "add rule ip xlatd_nat postrouting ip saddr {{ {networks} }} oifname != \"{device}\" \
             masquerade"
        ),
    ]
    .map(|command| format!("nft {}", word(&command)));
    vec![Finding::new("masquerade", problem, commands.into())]
}

/// Private addresses that packets have once they are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrivateSource {
    /// All of them.
    pub network: Prefix4,
    /// The directive that has them.
    pub directive: &'static str,
    /// One of them.
    pub address: IpAddr,
}

/// Those of the translator, each once.
pub fn private_sources(facts: &Facts) -> Vec<PrivateSource> {
    let mut private: Vec<PrivateSource> = Vec::new();
    for looked in &facts.routes {
        let Sample { of, address } = looked.sample;
        let (network, directive) = match of {
            // Also where its route is still missing.
            Of::Pool(pool) => (pool, "dynamic-pool"),
            Of::Map(eam) if address.is_ipv4() && facts.leads_here(looked) => (eam.v4(), "map"),
            _ => continue,
        };
        let has_it = |one: &PrivateSource| {
            let is_longer = one.network.length() <= network.length();
            is_longer && one.network.contains(network.address())
        };
        if is_private(network) && !private.iter().any(has_it) {
            private.push(PrivateSource {
                network,
                directive,
                address,
            });
        }
    }
    private
}

/// RFC 1918 section 3, and RFC 6598.
fn is_private(network: Prefix4) -> bool {
    let address = network.address();
    let (shared, length) = SHARED;
    address.is_private() || Prefix4::around(shared, length).contains(address)
}

/// Firewalls of others: connections that IPv6 hosts open.
pub(super) fn firewalls(facts: &Facts) -> Vec<Finding> {
    let (of_v6_hosts, of_v4_hosts) = by_opener(facts);
    // With maps alone, a firewall may be there to let pass the one or the other.
    if facts.pool.is_none() && of_v4_hosts.is_empty() {
        return Vec::new();
    }
    let finding = |(obstacle, other): &(Obstacle, String)| {
        let problem = problem(obstacle, &facts.device, other);
        Finding::new("firewall", problem, obstacle.commands(&facts.device, other))
    };
    of_v6_hosts.into_iter().map(finding).collect()
}

/// Connections that IPv4 hosts open to IPv6 hosts with a map: a firewall may be there to drop them,
/// or else these are the commands.
pub(super) fn firewalls_for_v4_hosts(facts: &Facts) -> Vec<Finding> {
    let has_map = |looked: &Looked| matches!(looked.sample.of, Of::Map(_));
    if !facts.routes.iter().any(has_map) {
        return Vec::new();
    }
    let (_, of_v4_hosts) = by_opener(facts);
    let note = |(obstacle, other): &(Obstacle, String)| {
        let problem = problem(obstacle, &facts.device, other);
        let problem = format!("{problem}, if an IPv4 host opens the connection. To allow that:");
        Finding::new("firewall", problem, obstacle.commands(&facts.device, other))
    };
    of_v4_hosts.into_iter().map(note).collect()
}

type OnDevice = (Obstacle, String);

/// The obstacles for connections that IPv6 hosts open, and for those that IPv4 hosts open.
fn by_opener(facts: &Facts) -> (Vec<&OnDevice>, Vec<&OnDevice>) {
    // Connections of IPv6 hosts come in by IPv6, and leave by IPv4.
    let is_of_v6_hosts = |one: &Obstacle| one.leaves == (one.version == IpVersion::V4);
    facts
        .obstacles
        .iter()
        .partition(|(obstacle, _)| is_of_v6_hosts(obstacle))
}

/// The chain, and the connections that it drops.
pub(super) fn problem(obstacle: &Obstacle, device: &str, other: &str) -> String {
    let (from, to) = match obstacle.leaves {
        true => (device, other),
        false => (other, device),
    };
    let version = match obstacle.version {
        IpVersion::V4 => "IPv4",
        IpVersion::V6 => "IPv6",
    };
    format!("{obstacle} of {version} between {from} and {to}")
}

/// What drops packets by all of several devices: of the first one, unless one is free. With the
/// obstacles goes the device.
pub fn of_all_ways(
    ways: impl IntoIterator<Item = (String, Vec<Obstacle>)>,
) -> Vec<(Obstacle, String)> {
    let mut of_first = None;
    for (name, obstacles) in ways {
        if obstacles.is_empty() {
            return Vec::new();
        }
        of_first.get_or_insert((name, obstacles));
    }
    let (name, obstacles) = of_first.unwrap_or_default();
    let with_name = |obstacle| (obstacle, name.clone());
    obstacles.into_iter().map(with_name).collect()
}
