//! Discovery: how to reach the NAT64 (RFC 8781, RFC 7050), and what else routers announce.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use super::{
    Action, Candidates, Ignored, Network, Origin, Resolution, Servers, Settings, Source,
    doubts::{Doubts, Standing},
    event::IgnoredPrefix,
    network::{Interface, network_of},
    prefix::{self, Router},
    search::{PATIENCE, Search},
};
use crate::{
    addr::Nat64Prefix,
    wire::{
        ipv6,
        ndp::{self, RouterAdvertisement},
    },
};

/// Shorter TTLs count as this one.
const MIN_TTL: Duration = Duration::from_secs(60);
/// Routers are solicited so long before all advertised prefixes expire.
const SOLICIT_BEFORE: Duration = Duration::from_secs(5);

/// Answers of routers and name servers, and the search for more.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    pub(super) candidates: Candidates,
    /// The prefixes that do not answer.
    pub(super) doubts: Doubts,
    /// Default routers, by link. One whose lifetime is over is dropped before the next event.
    routers: Vec<(u32, Router)>,
    dns_servers: Vec<DnsServer>,
    /// Links with prefixes by DNS, and whether name servers of the link itself gave them.
    answered: Vec<(u32, bool)>,
    /// Advertised MTUs, in octets, by link.
    mtus: Vec<(u32, u32)>,
    /// Networks in which hosts form addresses (RFC 4862), by link: the first 64 bits.
    networks: Vec<(u32, Ipv6Addr)>,
    /// The search on the uplink, if there is one.
    search: Option<Search>,
    /// Possible uplinks that are to be solicited once.
    new_links: Vec<u32>,
    /// Links that were searched in vain, before the search went on on another one.
    in_vain: Vec<u32>,
    /// Prefixes that were ignored, and said to be.
    ignored: Vec<Ignored>,
}

/// A name server that a router has advertised.
#[derive(Clone, Copy, Debug)]
struct DnsServer {
    link: u32,
    address: Ipv6Addr,
    until: Duration,
}

/// Whether routers are solicited: for a prefix, or for a network to form the CLAT address in.
fn wants_routers(settings: &Settings) -> bool {
    settings.prefix.is_none() || settings.source == Source::Auto
}

impl Discovery {
    /// The link of the uplink that is searched on.
    pub(super) fn uplink(&self) -> Option<u32> {
        self.search.as_ref().map(|search| search.link)
    }

    /// Begins to search on another uplink, if there is one.
    pub(super) fn search_on(&mut self, uplink: Option<u32>, now: Duration) {
        let before = self.uplink().filter(|link| self.is_in_vain(*link));
        self.in_vain.extend(before);
        self.in_vain.retain(|link| Some(*link) != uplink);
        self.search = uplink.map(|link| Search::new(link, now));
    }

    /// Takes notice of a possible uplink, which is to be searched anew.
    pub(super) fn begins(&mut self, link: u32) {
        if self.uplink() == Some(link) {
            self.search = None;
        }
        self.in_vain.retain(|one| *one != link);
        self.new_links.push(link);
    }

    /// Whether a link was searched, and has no prefix.
    pub(super) fn is_in_vain(&self, link: u32) -> bool {
        let search = self.search.as_ref().filter(|search| search.link == link);
        let is_in_vain = search.map_or(self.in_vain.contains(&link), Search::is_in_vain);
        is_in_vain && !self.has_prefix(link)
    }

    /// The prefixes that were found.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = Nat64Prefix> {
        self.candidates.prefixes().map(|(_, prefix)| prefix)
    }

    /// Whether a router has announced a prefix on a link.
    pub(super) fn is_announced_by(&self, link: u32, prefix: Nat64Prefix, router: Ipv6Addr) -> bool {
        self.candidates.is_announced_by(link, prefix, router)
    }

    /// The default routers that have announced themselves on a link, the best for a prefix first.
    pub(super) fn routers(&self, link: u32, prefix: Nat64Prefix) -> Vec<Ipv6Addr> {
        let here = self.routers.iter().filter(|(one, _)| *one == link);
        let mut here: Vec<_> = here.map(|(_, router)| router).collect();
        here.sort_by_key(|router| {
            let is_announced = self.is_announced_by(link, prefix, router.address);
            (!is_announced, -router.preference, router.address)
        });
        here.into_iter().map(|router| router.address).collect()
    }

    /// The next time at which a router of the uplink is no default router any more (RFC 4861
    /// section 6.3.4).
    fn router_end(&self) -> Option<Duration> {
        let link = self.uplink()?;
        let here = self.routers.iter().filter(|(one, _)| *one == link);
        here.map(|(_, router)| router.until).min()
    }

    /// Whether a prefix was found on a link.
    pub(super) fn has_prefix(&self, link: u32) -> bool {
        self.candidates.prefixes().any(|(one, _)| one == link)
    }

    /// Forgets what was learnt by links that are, or were, down since the network was as in
    /// `before`, and prefixes that are networks of ours now.
    pub(super) fn network_is(
        &mut self,
        network: &Network,
        before: &Network,
        actions: &mut Vec<Action>,
    ) {
        let has_stayed = |link| network.has_stayed(link, before);
        self.candidates.retain_links(has_stayed);
        self.doubts.retain_links(has_stayed);
        self.routers.retain(|(link, _)| has_stayed(*link));
        self.dns_servers.retain(|server| has_stayed(server.link));
        self.answered.retain(|(link, _)| has_stayed(*link));
        self.mtus.retain(|(link, _)| has_stayed(*link));
        self.networks.retain(|(link, _)| has_stayed(*link));
        self.in_vain.retain(|link| has_stayed(*link));
        let found: Vec<_> = self.candidates.prefixes().collect();
        for (link, prefix) in found {
            if network.overlaps(&prefix) {
                self.candidates.forget(link, prefix);
                self.answered.retain(|(one, _)| *one != link);
                let prefix = prefix.prefix();
                let own = IgnoredPrefix::Own(prefix.address(), prefix.length());
                self.ignore(network, link, own, actions);
            }
        }
    }

    /// Drops what is over. It makes room in lists, so it comes before an event.
    pub(super) fn drop_expired(&mut self, now: Duration) {
        self.candidates.drop_expired(now);
        self.routers.retain(|(_, router)| now < router.until);
        self.dns_servers.retain(|server| now < server.until);
    }

    /// Takes a Router Advertisement.
    pub(super) fn advertised(
        &mut self,
        network: &Network,
        link: u32,
        router: Ipv6Addr,
        advertisement: &RouterAdvertisement,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let had_prefixes = self.candidates.has_advertised(link);
        let mut prefixes = Vec::new();
        for pref64 in &advertisement.pref64 {
            let ignored = match prefix::nat64(pref64.prefix, pref64.length) {
                Some(prefix) if !network.overlaps(&prefix) => {
                    prefixes.push((prefix, pref64.lifetime));
                    continue;
                }
                Some(_) => IgnoredPrefix::Own(pref64.prefix, pref64.length),
                None => IgnoredPrefix::Invalid(pref64.prefix, pref64.length),
            };
            self.ignore(network, link, ignored, actions);
        }
        let router = Router {
            address: router,
            preference: advertisement.preference,
            until: now + advertisement.router_lifetime,
        };
        self.candidates.advertised(link, router, &prefixes, now);
        let is_it = |(one, its): &(u32, Router)| (*one, its.address) == (link, router.address);
        self.routers.retain(|one| !is_it(one));
        // Those that are there stay: no router can push out another one.
        let stays = !advertisement.router_lifetime.is_zero();
        if stays && self.routers.len() < ndp::MAX_OPTIONS {
            self.routers.push((link, router));
        }
        for &(address, lifetime) in &advertisement.dns_servers {
            self.dns_servers
                .retain(|one| (one.link, one.address) != (link, address));
            if !lifetime.is_zero() && self.dns_servers.len() < ndp::MAX_OPTIONS {
                self.dns_servers.push(DnsServer {
                    link,
                    address,
                    until: now + lifetime,
                });
            }
        }
        for prefix in &advertisement.prefixes {
            if prefix.autonomous && prefix.length == 64 {
                self.announced(network, (link, network_of(prefix.prefix)), prefix.valid);
            }
        }
        if let Some(mtu) = advertisement.mtu {
            self.mtus.retain(|(one, _)| *one != link);
            self.mtus.push((link, mtu));
        }
        let has_prefixes = self.candidates.has_advertised(link);
        if let Some(search) = self.search_of(link) {
            // RFC 4861 section 6.3.7: one that is no default router does not end the search.
            if stays {
                search.heard_router();
            }
            if had_prefixes && !has_prefixes {
                search.solicit_again(now);
            }
        }
    }

    /// Takes notice of a network in which hosts form addresses. The kernel counts the lifetimes of
    /// addresses there; a network that has ended is not for new ones.
    fn announced(&mut self, network: &Network, announced: (u32, Ipv6Addr), valid: Duration) {
        if valid.is_zero() {
            self.networks.retain(|one| *one != announced);
            return;
        }
        if self.networks.contains(&announced) {
            return;
        }
        if self.networks.len() >= ndp::MAX_OPTIONS {
            // The oldest goes, but those in which the host is stay: no router can push them out.
            let is_left = |(link, left): &(u32, Ipv6Addr)| {
                let there = network.interface(*link);
                let there = there.map_or(&[][..], |interface| &interface.addresses);
                !there.iter().any(|one| network_of(one.address) == *left)
            };
            let oldest = self.networks.iter().position(is_left).unwrap_or(0);
            self.networks.remove(oldest);
        }
        self.networks.push(announced);
    }

    #[cfg(test)]
    pub(super) fn networks(&self) -> &[(u32, Ipv6Addr)] {
        &self.networks
    }

    /// Whether a router has announced the network of an address for hosts to form addresses in.
    pub(super) fn is_announced(&self, link: u32, address: Ipv6Addr) -> bool {
        self.networks.contains(&(link, network_of(address)))
    }

    /// Takes the answer of a name server.
    pub(super) fn resolved(
        &mut self,
        network: &Network,
        link: u32,
        resolution: &Resolution,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Resolution {
            addresses,
            ttl,
            own,
        } = resolution;
        if !own && self.answered.contains(&(link, true)) {
            self.unresolved(link, now); // own servers may be known again by the next query
            return;
        }
        let mut prefixes = prefix::by_addresses(addresses);
        prefixes.retain(|prefix| !network.overlaps(prefix));
        if let (Some(&address), []) = (addresses.first(), &*prefixes) {
            self.ignore(
                network,
                link,
                IgnoredPrefix::NotSynthesized(address),
                actions,
            );
        }
        self.answered.retain(|(one, _)| *one != link);
        if !prefixes.is_empty() {
            self.answered.push((link, *own));
        }
        let ttl = (*ttl).max(MIN_TTL);
        self.candidates.resolved(link, &prefixes, ttl, now);
        if let Some(search) = self.search_of(link) {
            if prefixes.is_empty() {
                search.unresolved(now);
            } else {
                search.resolved(ttl, now);
            }
        }
    }

    /// Takes notice that no name server has helped.
    pub(super) fn unresolved(&mut self, link: u32, now: Duration) {
        if let Some(search) = self.search_of(link) {
            search.unresolved(now);
        }
    }

    fn search_of(&mut self, link: u32) -> Option<&mut Search> {
        self.search.as_mut().filter(|search| search.link == link)
    }

    /// Has it logged, once. More than a bounded number is not: an attacker may make them up.
    fn ignore(
        &mut self,
        network: &Network,
        link: u32,
        what: IgnoredPrefix,
        actions: &mut Vec<Action>,
    ) {
        let name = network.interface(link).map(|link| link.name.clone());
        let ignored = Ignored {
            interface: name.unwrap_or_default(),
            what,
        };
        if self.ignored.len() < ndp::MAX_OPTIONS && !self.ignored.contains(&ignored) {
            self.ignored.push(ignored.clone());
            actions.push(Action::Ignore(ignored));
        }
    }

    /// Asks routers and name servers once more: the network may be another one, in which what was
    /// found wanting may work.
    pub(super) fn search_again(&mut self, now: Duration) {
        self.candidates.take_anew();
        self.doubts.clear();
        // What serves meanwhile goes on: only routers are asked there.
        self.new_links.extend(&self.in_vain);
        if let Some(search) = &mut self.search {
            search.restart(now);
        }
    }

    /// Asks routers and name servers, where it is time to. `current` is the prefix that packets on
    /// the uplink take.
    pub(super) fn search(
        &mut self,
        settings: &Settings,
        current: Option<Nat64Prefix>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let wants_dns = self.wants_dns(settings, current, now);
        let new_links = std::mem::take(&mut self.new_links);
        let Some(search) = self.search.as_mut().filter(|_| wants_routers(settings)) else {
            return;
        };
        let link = search.link;
        let others = new_links.into_iter().filter(|other| *other != link);
        actions.extend(others.map(|link| Action::Solicit { link }));
        if self.candidates.expire_within(link, SOLICIT_BEFORE, now) {
            search.prefixes_expire(now);
        }
        if search.take_solicitation(now) {
            actions.push(Action::Solicit { link });
        }
        // Own name servers that are announced after others have answered are asked at once.
        let others = (link, false);
        if self.answered.contains(&others) && self.dns_servers.iter().any(|one| one.link == link) {
            self.answered.retain(|one| *one != others);
            search.query_at(now);
        }
        if wants_dns && search.take_query(now) {
            let servers = if settings.dns_servers.is_empty() {
                let advertised = self.dns_servers.iter().filter(|one| one.link == link);
                Servers::Network(advertised.map(|one| IpAddr::V6(one.address)).collect())
            } else {
                Servers::Configured(settings.dns_servers.clone())
            };
            actions.push(Action::Query { link, servers });
        }
    }

    /// Whether DNS is asked: only without a prefix in Router Advertisements (RFC 9872 section 3.1)
    /// that answers. One in use that does not is no such prefix, however long it lasts.
    fn wants_dns(&self, settings: &Settings, current: Option<Nat64Prefix>, now: Duration) -> bool {
        settings.prefix.is_none()
            && self.uplink().is_some_and(|link| {
                let best = self.candidates.best(link, current, &self.doubts, now);
                !matches!(best, Some((_, Origin::Advertisement, Standing::Good)))
            })
    }

    /// When there is something to do without an event; `current` as in [`search`](Self::search).
    pub(super) fn deadlines(
        &self,
        settings: &Settings,
        current: Option<Nat64Prefix>,
        now: Duration,
    ) -> impl Iterator<Item = Duration> {
        let expiry = self.candidates.deadline(now);
        let search = self.search.as_ref().filter(|_| wants_routers(settings));
        let before_expiry = search
            .filter(|search| !search.solicits_expiry())
            .and_then(|_| Some(expiry?.saturating_sub(SOLICIT_BEFORE)))
            .filter(|at| *at > now);
        let query = search.and_then(Search::next_query);
        let all = [
            expiry,
            before_expiry,
            self.doubts.deadline(now),
            self.router_end(),
            search.and_then(Search::next_solicitation),
            query.filter(|_| self.wants_dns(settings, current, now)),
        ];
        all.into_iter().flatten()
    }

    /// The end of the wait for a network for the CLAT address, if it is still to come.
    pub(super) fn patience(&self, now: Duration) -> Option<Duration> {
        self.search.as_ref()?.patience(now)
    }

    /// Waits for a network for the CLAT address once more: it may be back in a moment.
    pub(super) fn be_patient(&mut self, now: Duration) {
        if let Some(search) = &mut self.search {
            search.be_patient_until(now + PATIENCE);
        }
    }

    /// The prefix that counts on an uplink. `current` stays as long as none is better.
    pub(super) fn prefix(
        &self,
        settings: &Settings,
        uplink: &Interface,
        current: Option<Nat64Prefix>,
        now: Duration,
    ) -> Option<(Nat64Prefix, Origin)> {
        if let Some(prefix) = settings.prefix {
            return Some((prefix, Origin::Configured));
        }
        let link = uplink.index;
        let fallback = settings.fallback.map(|prefix| {
            let standing = self.doubts.standing(link, prefix, current, now);
            (prefix, Origin::Fallback, standing)
        });
        let found = self.candidates.best(link, current, &self.doubts, now);
        let best = found.into_iter().chain(fallback);
        best.min_by_key(|(_, _, standing)| *standing)
            .map(|(prefix, origin, _)| (prefix, origin))
    }

    /// The IPv6 MTU of an uplink, in octets.
    pub(super) fn mtu(&self, uplink: &Interface) -> u32 {
        const MIN_MTU: u32 = ipv6::MIN_MTU as u32;
        let advertised = self.mtus.iter().find(|(link, _)| *link == uplink.index);
        let advertised = advertised.map_or(u32::MAX, |(_, mtu)| *mtu);
        uplink
            .mtu
            .min(advertised.max(MIN_MTU))
            .clamp(MIN_MTU, 65535)
    }
}
