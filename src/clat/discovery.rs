//! What the network says: how the NAT64 is reached (RFC 8781, RFC 7050), and what else its routers announce.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use super::{
    Action, Candidates, Network, Origin, Settings, Source,
    event::Ignored,
    network::{Interface, network_of},
    prefix,
};
use crate::{
    addr::Nat64Prefix,
    wire::{
        ipv6,
        ndp::{self, RouterAdvertisement},
    },
};

/// How long after a Router Solicitation DNS is asked, if nobody has advertised a prefix by then: an advertisement that says
/// more is on its way (RFC 9872 section 3.1).
const QUERY_DELAY: Duration = Duration::from_millis(300);
/// An answer is renewed so long before its TTL is over (RFC 7050 section 3).
const RENEW_BEFORE: Duration = Duration::from_secs(10);
/// TTLs below this are taken for it.
const SHORTEST_TTL: Duration = Duration::from_secs(60);
/// From one query without an answer to the next, doubled each time.
const QUERY_BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// From one Router Solicitation without an answer to the next (RFC 4861 section 6.3.7).
const SOLICIT_INTERVAL: Duration = Duration::from_secs(4);
/// So many are sent (RFC 4861 section 10, MAX_RTR_SOLICITATIONS); the second one sooner than the others.
const SOLICITATIONS: u32 = 3;
/// So long before all advertised prefixes run out they are solicited once more.
const SOLICIT_BEFORE: Duration = Duration::from_secs(5);
/// So long it is waited for a router to say in which network an address can be made up, and for the host to have one there:
/// long enough for an answer to the second solicitation.
pub(super) const PATIENCE: Duration = Duration::from_millis(1500);
/// Why a prefix is not believed.
const OURS: &str = "is a network of this host";

/// What routers and name servers have said, and when to ask again.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    candidates: Candidates,
    dns_servers: Vec<DnsServer>,
    /// MTUs that routers have advertised, in octets, by link.
    mtus: Vec<(u32, u32)>,
    /// Networks of a link in which hosts make up addresses (RFC 4862): the first 64 bits.
    networks: Vec<(u32, Ipv6Addr)>,
    /// What is done about the uplink.
    search: Search,
    /// What was refused, and what of it has not been said yet.
    refused: Vec<Ignored>,
    refusals: Vec<Ignored>,
}

/// A name server that a router has advertised.
#[derive(Clone, Copy, Debug)]
struct DnsServer {
    link: u32,
    address: Ipv6Addr,
    until: Duration,
}

/// The search for a prefix on one uplink.
#[derive(Debug, Default)]
struct Search {
    /// The uplink; zero is none.
    link: u32,
    /// When to solicit next, and how many solicitations are left.
    solicit: Option<Duration>,
    solicitations: u32,
    /// When to ask DNS next.
    query: Option<Duration>,
    /// How long to wait after the next query that is not answered.
    backoff: Duration,
    /// Until when it is waited for a network for an address of our own.
    patience: Duration,
    /// Whether the expiry of what was advertised has been answered by a solicitation.
    expiry_solicited: bool,
}

impl Search {
    fn start(link: u32, now: Duration) -> Self {
        Self {
            link,
            solicit: Some(now),
            solicitations: SOLICITATIONS,
            query: Some(now + QUERY_DELAY),
            backoff: QUERY_BACKOFF[0],
            patience: now + PATIENCE,
            expiry_solicited: false,
        }
    }

    fn back_off(&mut self, now: Duration) {
        self.query = Some(now + self.backoff);
        self.backoff = (self.backoff * 2).min(QUERY_BACKOFF[1]);
    }
}

/// Whether routers are to say something: the prefix, or in which network an address of our own can be.
fn wants_routers(settings: &Settings) -> bool {
    settings.prefix.is_none() || settings.source == Source::Auto
}

impl Discovery {
    /// Takes notice of a network that is another one now, and begins to search where the uplink is another one. Whether it
    /// is.
    pub(super) fn network_is(&mut self, network: &Network, uplink: u32, now: Duration) -> bool {
        let is_running = |link| network.is_running(link);
        self.candidates.retain_links(is_running);
        self.dns_servers.retain(|server| is_running(server.link));
        self.mtus.retain(|(link, _)| is_running(*link));
        self.networks.retain(|(link, _)| is_running(*link));
        self.drop_ours(network);
        let is_another = uplink != self.search.link;
        if is_another {
            self.search = if uplink == 0 {
                Search::default()
            } else {
                Search::start(uplink, now)
            };
        }
        is_another
    }

    /// Takes what a router says.
    pub(super) fn advertised(
        &mut self,
        network: &Network,
        link: u32,
        advertisement: &RouterAdvertisement,
        now: Duration,
    ) {
        for pref64 in &advertisement.pref64 {
            let why = match prefix::nat64(pref64.prefix, pref64.length) {
                Some(prefix) if !network.has(&prefix) => {
                    let preference = advertisement.preference;
                    self.candidates
                        .advertised(link, preference, prefix, pref64.lifetime, now);
                    continue;
                }
                Some(_) => OURS,
                None => "can be no NAT64's",
            };
            let told = format!("{}/{}", pref64.prefix, pref64.length);
            self.refuse(network, link, told, why);
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
        if link == self.search.link {
            self.search.solicit = None; // it was heard
            if !self.networks.iter().any(|(one, _)| *one == link) {
                self.search.patience = now;
            }
            self.search.expiry_solicited = false;
        }
    }

    /// Takes notice of a network in which hosts make up addresses. How long it is one is for the kernel to count, whose
    /// addresses there count; but what has ended is not for new ones.
    fn announced(&mut self, network: &Network, announced: (u32, Ipv6Addr), valid: Duration) {
        if valid.is_zero() {
            self.networks.retain(|one| *one != announced);
            return;
        }
        if self.networks.contains(&announced) {
            return;
        }
        if self.networks.len() >= ndp::MAX_OPTIONS {
            // The oldest goes, before those in which the host is: not even a router that makes them up takes these away.
            let is_left = |(link, left): &(u32, Ipv6Addr)| {
                let there = network.link(*link).map_or(&[][..], |link| &link.addresses);
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

    /// Whether a router has said that hosts make up addresses in the network of this one.
    pub(super) fn is_announced(&self, link: u32, address: Ipv6Addr) -> bool {
        self.networks.contains(&(link, network_of(address)))
    }

    /// Takes what a name server says: the addresses of ipv4only.arpa, for so long.
    pub(super) fn resolved(
        &mut self,
        network: &Network,
        link: u32,
        addresses: &[Ipv6Addr],
        ttl: Duration,
        now: Duration,
    ) {
        let mut prefixes = prefix::by_addresses(addresses);
        prefixes.retain(|prefix| !network.has(prefix));
        if let (Some(address), []) = (addresses.first(), &*prefixes) {
            let told = format!("the address {address} of ipv4only.arpa");
            self.refuse(network, link, told, "has no NAT64's prefix in it");
        }
        let ttl = ttl.max(SHORTEST_TTL);
        self.candidates.resolved(link, &prefixes, ttl, now);
        if link != self.search.link {
        } else if prefixes.is_empty() {
            self.search.back_off(now);
        } else {
            self.search.query = Some(now + ttl - RENEW_BEFORE);
            self.search.backoff = QUERY_BACKOFF[0];
        }
    }

    /// No name server has helped.
    pub(super) fn unresolved(&mut self, link: u32, now: Duration) {
        if link == self.search.link {
            self.search.back_off(now);
        }
    }

    /// Believes no more what has become a network of ours.
    fn drop_ours(&mut self, network: &Network) {
        let found: Vec<_> = self.candidates.prefixes().collect();
        for (link, prefix) in found {
            if network.has(&prefix) {
                self.candidates.drop(link, prefix);
                self.refuse(network, link, prefix.prefix().to_string(), OURS);
            }
        }
    }

    /// Has it said, once. Who makes up more than anybody would read is not listened to.
    fn refuse(&mut self, network: &Network, link: u32, told: String, why: &'static str) {
        let name = network.link(link).map(|link| link.name.clone());
        let refusal = Ignored {
            link: name.unwrap_or_default(),
            told,
            why,
        };
        if self.refused.len() < ndp::MAX_OPTIONS && !self.refused.contains(&refusal) {
            self.refused.push(refusal.clone());
            self.refusals.push(refusal);
        }
    }

    /// What is to be said of what was not believed.
    pub(super) fn refusals(&mut self) -> impl Iterator<Item = Ignored> {
        self.refusals.drain(..)
    }

    /// Asks all of it again: the network may be another one.
    pub(super) fn search_again(&mut self, now: Duration) {
        if self.search.link != 0 {
            self.search.solicit = Some(now);
            self.search.solicitations = SOLICITATIONS;
            self.search.query = Some(now);
        }
    }

    /// Asks who is to be asked now.
    pub(super) fn search(&mut self, settings: &Settings, now: Duration, actions: &mut Vec<Action>) {
        self.candidates.drop_expired(now);
        self.dns_servers.retain(|server| now < server.until);
        let link = self.search.link;
        if link == 0 || !wants_routers(settings) {
            return;
        }
        if !self.search.expiry_solicited && self.candidates.expire_within(link, SOLICIT_BEFORE, now)
        {
            self.search.expiry_solicited = true;
            self.search.solicit = Some(now);
            self.search.solicitations = SOLICITATIONS;
        }
        if self.search.solicit.is_some_and(|at| at <= now) {
            actions.push(Action::Solicit { link });
            self.search.solicitations -= 1;
            let next = if self.search.solicitations == SOLICITATIONS - 1 {
                Duration::from_secs(1)
            } else {
                SOLICIT_INTERVAL
            };
            self.search.solicit = (self.search.solicitations > 0).then_some(now + next);
        }
        if self.wants_dns(settings, now) && self.search.query.is_some_and(|at| at <= now) {
            let servers = if settings.dns_servers.is_empty() {
                let ours = self.dns_servers.iter().filter(|one| one.link == link);
                ours.map(|one| IpAddr::V6(one.address)).collect()
            } else {
                settings.dns_servers.clone()
            };
            actions.push(Action::Query { link, servers });
            // Who asks says when it was in vain.
            self.search.query = None;
        }
    }

    /// Whether it is for DNS to say what the prefix is (P72-02).
    fn wants_dns(&self, settings: &Settings, now: Duration) -> bool {
        settings.prefix.is_none()
            && self.search.link != 0
            && !matches!(
                self.candidates.best(self.search.link, None, now),
                Some((_, Origin::Advertisement))
            )
    }

    /// When there is something to do without an event.
    pub(super) fn deadlines(
        &self,
        settings: &Settings,
        now: Duration,
    ) -> impl Iterator<Item = Duration> {
        let wants_routers = wants_routers(settings);
        let expiry = self.candidates.deadline(now);
        let solicit = expiry
            .filter(|_| !self.search.expiry_solicited)
            .map(|at| at.saturating_sub(SOLICIT_BEFORE));
        let all = [
            expiry,
            solicit.filter(|at| *at > now && wants_routers),
            self.search.solicit.filter(|_| wants_routers),
            self.search.query.filter(|_| self.wants_dns(settings, now)),
        ];
        all.into_iter().flatten()
    }

    /// Until when a network for an address of our own may still be announced, if it may.
    pub(super) fn patience(&self, now: Duration) -> Option<Duration> {
        let until = self.search.patience;
        (self.search.link != 0 && now < until).then_some(until)
    }

    /// A network may be back in a moment.
    pub(super) fn be_patient(&mut self, now: Duration) {
        self.search.patience = now + PATIENCE;
    }

    /// The prefix that counts for an uplink; `current` stays as long as it is as good as any.
    pub(super) fn prefix(
        &self,
        settings: &Settings,
        link: u32,
        current: Option<Nat64Prefix>,
        now: Duration,
    ) -> Option<(Nat64Prefix, Origin)> {
        if let Some(prefix) = settings.prefix {
            return Some((prefix, Origin::Configured));
        }
        let fallback = settings.fallback.map(|prefix| (prefix, Origin::Fallback));
        self.candidates.best(link, current, now).or(fallback)
    }

    /// MTU of IPv6 on the uplink, in octets.
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
