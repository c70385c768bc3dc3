//! Who an address speaks with when it is asked about alone.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use super::{
    fate::Fate,
    probe::{Echo, Ends},
};
use crate::{
    addr::AddressMap,
    translate::{Packet, Translator},
};

/// Hosts of the Internet: a documentation address, and one that `wkpf-strict` has nothing against,
/// a.root-servers.net.
const ANYONE: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 41, 0, 4)];
/// A host that nothing maps, and that may get an address of the pool.
const NEWCOMER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// A source and a destination that nothing is wrong with: packets between them pass. What becomes
/// of a packet between one of them and an address then is for that address to answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peers {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
}

impl Peers {
    /// Peers of an address: others, if there are. Where no packet passes at all, they are any.
    pub(super) fn of(mut translator: Translator, address: IpAddr, now: Instant) -> Self {
        let is_v6 = address.is_ipv6();
        let hosts = hosts(translator.map(), is_v6);
        let outside = outside(translator.map(), is_v6);
        // From the Internet to a host in IPv4, and the other way in IPv6: what translators are for.
        let hosts_first = [&hosts[..], &outside].concat();
        let hosts_last = [&outside[..], &hosts].concat();
        let [sources, destinations] = match is_v6 {
            true => [hosts_first, hosts_last],
            false => [hosts_last, hosts_first],
        };
        let is_other = |pair: &&Self| pair.source != address && pair.destination != address;
        let pairs = pairs(&sources, &destinations);
        let others = pairs.iter().filter(is_other);
        let found = passing(&mut translator, others, now)
            .or_else(|| passing(&mut translator, pairs.iter(), now));
        let [anyone, ..] = ANYONE;
        let any = if is_v6 {
            NEWCOMER.into()
        } else {
            anyone.into()
        };
        found.unwrap_or(Self {
            source: sources.first().copied().unwrap_or(any),
            destination: destinations.first().copied().unwrap_or(any),
        })
    }
}

fn pairs(sources: &[IpAddr], destinations: &[IpAddr]) -> Vec<Peers> {
    let mut pairs = Vec::new();
    for &source in sources {
        pairs.extend(destinations.iter().map(|&destination| Peers {
            source,
            destination,
        }));
    }
    pairs
}

/// The first pair between which a packet passes, better to the other family than back to its own.
fn passing<'a>(
    translator: &mut Translator,
    pairs: impl Iterator<Item = &'a Peers>,
    now: Instant,
) -> Option<Peers> {
    let mut buffer = Packet::new();
    let mut turns_back = None;
    for &pair in pairs {
        let request = Ends::new(pair.source, pair.destination)?.echo(Echo::Request);
        let fate = Fate::of(translator, &mut buffer, &request, now);
        if fate.is_hairpinned() {
            turns_back.get_or_insert(pair);
        } else if fate.translation().is_some() {
            return Some(pair);
        }
    }
    turns_back
}

/// Hosts that have an address of their own in both families, as a family addresses them.
fn hosts(map: &AddressMap, is_v6: bool) -> Vec<IpAddr> {
    // The same ones each time, in whatever order they are kept.
    let eam = map.explicit().min();
    let lease = map.leases().min_by_key(|lease| lease.address);
    let newcomer = is_v6.then_some(NEWCOMER.into());
    let of_eam = eam.map(|eam| match is_v6 {
        true => IpAddr::from(eam.v6().address()),
        false => eam.v4().address().into(),
    });
    let of_lease = lease.map(|lease| match is_v6 {
        true => IpAddr::from(lease.host),
        false => lease.address.into(),
    });
    [of_eam, of_lease, newcomer].into_iter().flatten().collect()
}

/// Hosts of the IPv4 Internet, as a family addresses them.
fn outside(map: &AddressMap, is_v6: bool) -> Vec<IpAddr> {
    let prefix = map.prefix();
    let address = |address| match is_v6 {
        true => Some(prefix?.embed(address).into()),
        false => Some(IpAddr::from(address)),
    };
    ANYONE.into_iter().filter_map(address).collect()
}
