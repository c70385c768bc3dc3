//! The CLAT of 464XLAT (RFC 6877): IPv4 for a host in a network that has none but by a NAT64.
//!
//! What happens comes in as [`Event`]s, what is to be done goes out as [`Action`]s. Times are since the machine started,
//! suspended time included, so that a day of Router Advertisements is a unit test without a clock.

mod network;
pub mod prefix;
mod settings;
mod source;
mod state;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::{
    addr::Nat64Prefix,
    wire::ndp::{self, RouterAdvertisement},
};
pub use network::{Address, Link, Network, is_clat_address};
use network::{CONTINUITY, best};
pub use prefix::{Candidates, Origin};
pub use settings::Settings;
pub use source::Source;
use source::{Choice, Dedicated};
pub use state::State;

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
/// So many conclusions may follow each other at once, and then one in so long: routers that contradict each other, or somebody
/// who wants it so, make neither the routes nor the log flap faster.
const CONCLUSIONS: u32 = 20;
const CONCLUSION_INTERVAL: Duration = Duration::from_secs(5);
/// So long it is waited for a router to say in which network an address can be made up, and for the host to have one there:
/// long enough for an answer to the second solicitation.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Why a prefix is not believed.
const OURS: &str = "is a network of this host";
/// The IPv4 packet that becomes an IPv6 packet is 20 octets shorter, and 8 more are left for a Fragment Header.
const OVERHEAD: u32 = 28;

/// The network of the translator's private addresses behind the device: unique local (RFC 4193), and not a network's that
/// anybody would route to.
pub const PRIVATE: Ipv6Addr = Ipv6Addr::new(0xfdc1, 0xa700, 0x464, 0, 0, 0, 0, 0);

/// The private IPv6 address that stands for an IPv4 address of ours.
pub fn private(address: Ipv4Addr) -> Ipv6Addr {
    (PRIVATE.to_bits() | u128::from(address.to_bits())).into()
}

/// Something that has happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The network is so now.
    Network(Network),
    /// A router of a link has said something.
    Advertisement {
        /// Of the device.
        link: u32,
        /// What it says.
        advertisement: RouterAdvertisement,
    },
    /// A name server has said which addresses ipv4only.arpa has: none, if there is no DNS64.
    Resolved {
        /// The device by which it was asked.
        link: u32,
        /// Those that there are.
        addresses: Vec<Ipv6Addr>,
        /// How long they may be kept.
        ttl: Duration,
    },
    /// No name server has given an answer that helps.
    Unresolved {
        /// The device by which they were asked.
        link: u32,
    },
    /// A router has answered a probe.
    Answered {
        /// Our address that it was sent from.
        from: Ipv6Addr,
    },
    /// The machine was suspended: the network may be another one.
    Resumed,
    /// What was asked for could not be set up: another instance may have come first.
    Failed,
    /// A deadline may have been reached.
    Time,
}

/// Something that is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the routers of a link for advertisements.
    Solicit {
        /// Of the device.
        link: u32,
    },
    /// Ask name servers, by a link, for the addresses of ipv4only.arpa.
    Query {
        /// Of the device.
        link: u32,
        /// Those to ask; if there are none, those of the system.
        servers: Vec<IpAddr>,
    },
    /// Have this address on its device, and no other one, to see whether another host has it.
    Try(Option<Trial>),
    /// Send a probe to see whether packets from an address pass: it is to reach the first router, and no more.
    Probe {
        /// Of the device.
        link: u32,
        /// Its source.
        from: Ipv6Addr,
        /// Its destination.
        to: Ipv6Addr,
    },
    /// Say what was not believed, and why. Each is said once.
    Refuse(Refusal),
    /// Say why the host's own address is used.
    Share(&'static str),
    /// Make it so.
    Set(Setup),
    /// Say what has become of it.
    Say(State),
}

/// A NAT64 prefix that somebody has told, and that is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Name of the device.
    link: String,
    /// What was told: a prefix by a router, an address of ipv4only.arpa by a name server.
    told: String,
    why: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { link, told, why } = self;
        write!(f, "Not taken for a NAT64: {told}, as told on {link}, {why}")
    }
}

/// An address that is on its device only to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Name and index of the device.
    pub uplink: (String, u32),
    /// As a host, with no network.
    pub address: Ipv6Addr,
}

/// How the host is to be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Name and index of the uplink.
    pub uplink: (String, u32),
    /// MTU of the TUN device, in octets: that of the uplink.
    pub mtu: u32,
    /// The IPv4 address of programs, and the translator's own.
    pub addresses: [Ipv4Addr; 2],
    /// Of the PLAT.
    pub prefix: Nat64Prefix,
    /// Our address on the uplink, by which the PLAT knows us.
    pub source: Ipv6Addr,
    /// Whether it is for the CLAT alone, and not the host's.
    pub dedicated: bool,
    /// Whether we are to be found on the uplink by it.
    pub on_link: bool,
    /// Whether programs are to use it.
    pub default_route: bool,
}

impl Setup {
    /// Which of the instances on this machine it is: the first has the addresses as configured.
    pub fn instance(&self, settings: &Settings) -> u32 {
        let [host_v4, _] = self.addresses;
        host_v4.to_bits().wrapping_sub(settings.host_v4.to_bits()) & 7
    }

    /// MTU of the IPv4 route, in octets (CL-13).
    pub fn route_mtu(&self, settings: &Settings) -> u32 {
        settings.mtu.unwrap_or(self.mtu - OVERHEAD)
    }
}

/// The CLAT of a host.
#[derive(Debug)]
pub struct Clat {
    settings: Settings,
    network: Network,
    candidates: Candidates,
    dns_servers: Vec<DnsServer>,
    /// MTUs that routers have advertised, in octets, by link.
    mtus: Vec<(u32, u32)>,
    /// Networks of a link in which hosts make up addresses (RFC 4862): the first 64 bits.
    networks: Vec<(u32, Ipv6Addr)>,
    /// What is done about the uplink.
    search: Search,
    /// What becomes of an address of our own there.
    choice: Choice,
    /// What was asked for last, while it is checked.
    trial: Option<Trial>,
    /// Since when there is native IPv4.
    native_since: Option<Duration>,
    /// What was asked for last.
    setup: Option<Setup>,
    state: Option<State>,
    damping: Damping,
    /// What was refused, and what of it has not been said yet.
    refused: Vec<Refusal>,
    refusals: Vec<Refusal>,
    /// Whether there is another conclusion that has to wait.
    waits: bool,
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
    /// Until when an address of our own is not refused for want of a network.
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
}

/// How often something may be concluded.
#[derive(Debug)]
struct Damping {
    /// So many conclusions may follow at once.
    left: u32,
    /// Since when.
    since: Duration,
}

impl Default for Damping {
    fn default() -> Self {
        Self {
            left: CONCLUSIONS,
            since: Duration::ZERO,
        }
    }
}

impl Damping {
    /// Takes one of the conclusions that may follow now, if there is one.
    fn allows(&mut self, now: Duration) -> bool {
        let elapsed = now.saturating_sub(self.since).as_secs() / CONCLUSION_INTERVAL.as_secs();
        if elapsed > 0 {
            let earned = u32::try_from(elapsed).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(CONCLUSIONS);
            self.since = now;
        }
        let allows = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allows
    }
}

impl Clat {
    /// One that knows nothing of the network yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            network: Network::default(),
            candidates: Candidates::default(),
            dns_servers: Vec::new(),
            mtus: Vec::new(),
            networks: Vec::new(),
            search: Search::default(),
            choice: Choice::default(),
            trial: None,
            native_since: None,
            setup: None,
            state: None,
            damping: Damping::default(),
            refused: Vec::new(),
            refusals: Vec::new(),
            waits: false,
        }
    }

    /// Takes notice of what has happened, and says what to do.
    pub fn handle(&mut self, event: Event, now: Duration) -> Vec<Action> {
        match event {
            Event::Network(network) => self.network_is(network, now),
            Event::Advertisement {
                link,
                advertisement,
            } => self.advertised(link, &advertisement, now),
            Event::Resolved {
                link,
                addresses,
                ttl,
            } => self.resolved(link, &addresses, ttl, now),
            Event::Unresolved { link } => {
                if link == self.search.link {
                    self.back_off(now);
                }
            }
            Event::Answered { from } => self.choice.answered(from, now),
            Event::Resumed => self.search_again(now),
            Event::Failed => {
                self.setup = None;
                self.trial = None;
            }
            Event::Time => {}
        }
        self.candidates.drop_expired(now);
        self.dns_servers.retain(|server| now < server.until);
        let refusals = self.refusals.drain(..);
        let mut actions: Vec<_> = refusals.map(Action::Refuse).collect();
        self.waits = false;
        self.search(now, &mut actions);
        self.choose_source(now, &mut actions);
        self.decide(now, &mut actions);
        actions
    }

    /// When there is something to do without an event.
    pub fn deadline(&self, now: Duration) -> Option<Duration> {
        let native = self
            .native_since
            .map(|since| since + self.settings.steps_aside_after)
            .filter(|at| *at > now);
        let expiry = self.candidates.deadline(now);
        let solicit = expiry
            .filter(|_| !self.search.expiry_solicited)
            .map(|at| at.saturating_sub(SOLICIT_BEFORE));
        let query = self.search.query.filter(|_| self.wants_dns(now));
        let all = [
            native,
            expiry,
            solicit.filter(|at| *at > now && self.wants_routers()),
            self.search.solicit.filter(|_| self.wants_routers()),
            query,
            self.choice.deadline(),
            self.is_patient(now).then_some(self.search.patience),
            self.waits
                .then_some(self.damping.since + CONCLUSION_INTERVAL),
        ];
        all.into_iter().flatten().min()
    }

    /// What is known of a device.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.network.links.iter().find(|link| link.index == index)
    }

    fn network_is(&mut self, network: Network, now: Duration) {
        let is_running = |link: u32| {
            let mut links = network.links.iter();
            links.any(|one| one.index == link && one.running)
        };
        self.candidates.retain_links(is_running);
        self.dns_servers.retain(|server| is_running(server.link));
        self.mtus.retain(|(link, _)| is_running(*link));
        self.networks.retain(|(link, _)| is_running(*link));
        self.network = network;
        self.drop_ours();
        let link = self.uplink().map_or(0, |link| link.index);
        if link != self.search.link {
            self.choice = Choice::default();
            self.search = if link == 0 {
                Search::default()
            } else {
                Search::start(link, now)
            };
        }
        self.native_since = match (self.native(), self.native_since) {
            (None, _) => None,
            (Some(_), since) => since.or(Some(now)),
        };
    }

    fn advertised(&mut self, link: u32, advertisement: &RouterAdvertisement, now: Duration) {
        let mut impossible = Vec::new();
        for pref64 in &advertisement.pref64 {
            let why = match prefix::nat64(pref64.prefix, pref64.length) {
                Some(prefix) if !self.is_ours(&prefix) => {
                    let preference = advertisement.preference;
                    self.candidates
                        .advertised(link, preference, prefix, pref64.lifetime, now);
                    continue;
                }
                Some(_) => OURS,
                None => "can be no NAT64's",
            };
            impossible.push((format!("{}/{}", pref64.prefix, pref64.length), why));
        }
        for (told, why) in impossible {
            self.refuse(link, told, why);
        }
        for &(address, lifetime) in &advertisement.dns_servers {
            self.dns_servers
                .retain(|one| (one.link, one.address) != (link, address));
            if !lifetime.is_zero() && self.dns_servers.len() < ndp::MOST {
                self.dns_servers.push(DnsServer {
                    link,
                    address,
                    until: now + lifetime,
                });
            }
        }
        for network in &advertisement.prefixes {
            if network.autonomous && network.length == 64 {
                self.announced((link, network_of(network.prefix)), network.valid);
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
    fn announced(&mut self, network: (u32, Ipv6Addr), valid: Duration) {
        if valid.is_zero() {
            self.networks.retain(|one| *one != network);
            return;
        }
        if self.networks.contains(&network) {
            return;
        }
        if self.networks.len() >= ndp::MOST {
            // The oldest goes, before those in which the host is: not even a router that makes them up takes these away.
            let is_left = |(link, network): &(u32, Ipv6Addr)| {
                let there = self.link(*link).map_or(&[][..], |link| &link.addresses);
                !there.iter().any(|one| network_of(one.address) == *network)
            };
            let oldest = self.networks.iter().position(is_left).unwrap_or(0);
            self.networks.remove(oldest);
        }
        self.networks.push(network);
    }

    /// Believes no more what has become a network of ours.
    fn drop_ours(&mut self) {
        let found: Vec<_> = self.candidates.prefixes().collect();
        for (link, prefix) in found {
            if self.is_ours(&prefix) {
                self.candidates.drop(link, prefix);
                self.refuse(link, prefix.prefix().to_string(), OURS);
            }
        }
    }

    /// Our own networks are nobody's NAT64.
    fn is_ours(&self, prefix: &Nat64Prefix) -> bool {
        let prefix = prefix.prefix();
        let mut addresses = self.network.links.iter().flat_map(|link| &link.addresses);
        addresses.any(|own| {
            let shortest = u32::from(own.length.min(prefix.length()));
            let differs = own.address.to_bits() ^ prefix.address().to_bits();
            differs.leading_zeros() >= shortest
        })
    }

    /// Whether routers are to say something: the prefix, or in which network an address of our own can be.
    fn wants_routers(&self) -> bool {
        self.settings.prefix.is_none() || self.settings.source == Source::Auto
    }

    fn resolved(&mut self, link: u32, addresses: &[Ipv6Addr], ttl: Duration, now: Duration) {
        let mut prefixes = prefix::by_addresses(addresses);
        prefixes.retain(|prefix| !self.is_ours(prefix));
        if let (Some(address), []) = (addresses.first(), &*prefixes) {
            let why = "has no NAT64's prefix in it";
            self.refuse(link, format!("the address {address} of ipv4only.arpa"), why);
        }
        let ttl = ttl.max(SHORTEST_TTL);
        self.candidates.resolved(link, &prefixes, ttl, now);
        if link != self.search.link {
        } else if prefixes.is_empty() {
            self.back_off(now);
        } else {
            self.search.query = Some(now + ttl - RENEW_BEFORE);
            self.search.backoff = QUERY_BACKOFF[0];
        }
    }

    /// Has it said, once. Who makes up more than anybody would read is not listened to.
    fn refuse(&mut self, link: u32, told: String, why: &'static str) {
        let name = self.link(link).map(|link| link.name.clone());
        let refusal = Refusal {
            link: name.unwrap_or_default(),
            told,
            why,
        };
        if self.refused.len() < ndp::MOST && !self.refused.contains(&refusal) {
            self.refused.push(refusal.clone());
            self.refusals.push(refusal);
        }
    }

    fn search_again(&mut self, now: Duration) {
        if self.search.link != 0 {
            self.search.solicit = Some(now);
            self.search.solicitations = SOLICITATIONS;
            self.search.query = Some(now);
        }
    }

    fn back_off(&mut self, now: Duration) {
        self.search.query = Some(now + self.search.backoff);
        self.search.backoff = (self.search.backoff * 2).min(QUERY_BACKOFF[1]);
    }

    /// Whether it is for DNS to say what the prefix is (P72-02).
    fn wants_dns(&self, now: Duration) -> bool {
        self.settings.prefix.is_none()
            && self.search.link != 0
            && !matches!(
                self.candidates.best(self.search.link, None, now),
                Some((_, Origin::Advertisement))
            )
    }

    fn search(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let link = self.search.link;
        if link == 0 || !self.wants_routers() {
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
        if self.wants_dns(now) && self.search.query.is_some_and(|at| at <= now) {
            let servers = if self.settings.dns_servers.is_empty() {
                let ours = self.dns_servers.iter().filter(|one| one.link == link);
                ours.map(|one| one.address.into()).collect()
            } else {
                self.settings.dns_servers.clone()
            };
            actions.push(Action::Query { link, servers });
            // Who asks says when it was in vain.
            self.search.query = None;
        }
    }

    /// Comes to a conclusion from all that is known, and says so if it is another than before.
    fn decide(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let (state, setup) = self.conclusion(now);
        let is_new = self.state.as_ref() != Some(&state)
            || setup.is_some() && setup.as_ref() != self.setup.as_ref();
        if is_new && !self.damping.allows(now) {
            self.waits = true;
            return;
        }
        if let Some(setup) = setup
            && self.setup.as_ref() != Some(&setup)
        {
            self.setup = Some(setup.clone());
            actions.push(Action::Set(setup));
        }
        if self.state.as_ref() != Some(&state) {
            self.state = Some(state.clone());
            actions.push(Action::Say(state));
        }
    }

    fn conclusion(&self, now: Duration) -> (State, Option<Setup>) {
        // What has been set up stays while something is missing: connections go on when it is back.
        let without_route = || {
            let setup = self.setup.clone();
            setup.map(|setup| Setup {
                on_link: false,
                default_route: false,
                ..setup
            })
        };
        let Some(uplink) = self.uplink() else {
            let missing = match &self.settings.uplink {
                Some(_) => "plat-dev has no IPv6 default route",
                None => "there is no IPv6 default route",
            };
            return (State::WaitingForLink(missing), without_route());
        };
        let Some((prefix, origin)) = self.prefix(uplink.index, now) else {
            return (
                State::WaitingForPrefix(uplink.name.clone()),
                without_route(),
            );
        };
        let (source, dedicated) = match (&self.choice.state, self.host_address(uplink, prefix)) {
            (Dedicated::Ready(address), _) => (*address, true),
            (_, None) if self.choice.address().is_none() => {
                let missing = "the device of the IPv6 default route has no global IPv6 address";
                return (State::WaitingForLink(missing), without_route());
            }
            (Dedicated::Refused(_), Some(host)) => (host, false),
            (_, Some(host)) if self.settings.source == Source::Shared => (host, false),
            // What works goes on while something better is checked.
            (_, Some(host)) if self.shares(uplink, host) => (host, false),
            _ => return (self.choice.said(uplink), without_route()),
        };
        if let Some(other) = self.another_clat(uplink) {
            let state = State::AnotherClat(other.name.clone());
            return (state, without_route());
        }
        let Some(addresses) = self.addresses() else {
            let missing =
                "no two addresses of 192.0.0.0/29 are left for it (clat-v4-addr, tayga-v4-addr)";
            return (State::WaitingForLink(missing), without_route());
        };
        let native = self.native().filter(|_| {
            let stood = |since| now >= since + self.settings.steps_aside_after;
            self.native_since.is_some_and(stood)
        });
        let setup = Setup {
            uplink: (uplink.name.clone(), uplink.index),
            mtu: self.mtu(uplink),
            addresses,
            prefix,
            source,
            dedicated,
            on_link: true,
            default_route: self.settings.default_route && native.is_none(),
        };
        let state = match native {
            Some(link) => State::SteppingAside(link.name.clone()),
            None => State::Active(prefix, origin, uplink.name.clone()),
        };
        (state, Some(setup))
    }

    /// Whether packets leave with this address of the host.
    fn shares(&self, uplink: &Link, host: Ipv6Addr) -> bool {
        let setup = self.setup.as_ref().filter(|setup| setup.on_link);
        setup.is_some_and(|setup| {
            (setup.uplink.1, setup.source, setup.dedicated) == (uplink.index, host, false)
        })
    }

    /// Whether it may still turn out that there is a network for an address of our own.
    fn is_patient(&self, now: Duration) -> bool {
        self.settings.source == Source::Auto
            && self.search.link != 0
            && self.choice.state == Dedicated::None
            && now < self.search.patience
    }

    /// Goes on with an address of our own, once it is known what it is for.
    fn choose_source(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let is_refused = |choice: &Choice| matches!(choice.state, Dedicated::Refused(_));
        let was_refused = is_refused(&self.choice);
        let uplink = self.uplink().cloned().unwrap_or_default();
        match self.prefix(uplink.index, now) {
            Some((prefix, _)) if uplink.index != 0 => {
                self.check_source(&uplink, prefix, now, actions);
            }
            // What has not been decided yet is begun again.
            _ if self.choice.on_trial().is_some() => self.choice = Choice::default(),
            _ => {}
        }
        let trial = self.choice.on_trial().map(|address| Trial {
            uplink: (uplink.name, uplink.index),
            address,
        });
        if trial != self.trial {
            self.trial.clone_from(&trial);
            actions.push(Action::Try(trial));
        }
        if let Dedicated::Refused(reason) = self.choice.state
            && !was_refused
        {
            actions.push(Action::Share(reason));
        }
    }

    fn check_source(
        &mut self,
        uplink: &Link,
        prefix: Nat64Prefix,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let is_announced = |one: &&Address| {
            let network = (uplink.index, network_of(one.address));
            self.networks.contains(&network) && !one.duplicate
        };
        let ours = self.choice.address();
        let others = || {
            uplink
                .addresses
                .iter()
                .filter(|one| Some(one.address) != ours)
        };
        let settings = &self.settings;
        let model = match settings.source {
            Source::Shared => return,
            Source::Auto => best(others().filter(is_announced), prefix),
            Source::Derived => best(
                others().filter(|one| source::derive(one.address).is_some()),
                prefix,
            ),
            Source::Explicit(_) => None,
        };
        // The host has left the network of our address, or is about to, and has another one.
        if let Some(ours) = ours
            && !matches!(settings.source, Source::Explicit(_))
        {
            let mut there = others().filter(|one| network_of(one.address) == network_of(ours));
            let is_better = model.is_some_and(|one| !one.deprecated);
            if !there.any(|one| !one.deprecated || !is_better) {
                self.choice = Choice::default();
                // Its network may be back in a moment.
                self.search.patience = now + PATIENCE;
            }
        }
        let candidate = |attempt| match settings.source {
            Source::Explicit(address) if attempt == 0 => Ok(address),
            Source::Derived if attempt == 0 => model
                .and_then(|model| source::derive(model.address))
                .ok_or(source::NOT_DERIVABLE),
            Source::Auto => model
                .map(|model| {
                    let network = network_of(model.address);
                    source::make_up(network, settings, uplink.mac, attempt, prefix)
                })
                .ok_or(source::NO_NETWORK),
            _ => Err(source::IN_USE),
        };
        // What there was not may have come since.
        if self.choice.lacks_network() && candidate(0).is_ok() {
            self.choice = Choice::default();
        }
        if self.choice.state == Dedicated::None {
            if candidate(0).is_err() && self.is_patient(now) {
                return;
            }
            if !self.damping.allows(now) {
                self.waits = true;
                return;
            }
        }
        let host = self.host_address(uplink, prefix);
        let is_probed = settings.source == Source::Auto;
        let probe = self.choice.go_on(uplink, host, candidate, is_probed, now);
        actions.extend(probe.map(|from| Action::Probe {
            link: uplink.index,
            from,
            to: prefix.embed(prefix::WELL_KNOWN[0]),
        }));
    }

    /// Whether answers to probes are awaited.
    pub fn probes(&self) -> bool {
        self.choice.probes()
    }

    /// Whether we are to answer for this address on a device.
    pub fn answers_for(&self, link: u32, address: Ipv6Addr) -> bool {
        let setup = self.setup.as_ref();
        setup.is_some_and(|setup| {
            setup.on_link && setup.dedicated && setup.uplink.1 == link && setup.source == address
        })
    }

    /// The host's own address that is best; ours, while it is checked, is none.
    fn host_address(&self, uplink: &Link, prefix: Nat64Prefix) -> Option<Ipv6Addr> {
        let ours = self.choice.address();
        let addresses = uplink.addresses.iter();
        let usable = addresses.filter(|one| one.is_usable() && Some(one.address) != ours);
        best(usable, prefix).map(|one| one.address)
    }

    /// The prefix that counts for an uplink.
    fn prefix(&self, link: u32, now: Duration) -> Option<(Nat64Prefix, Origin)> {
        if let Some(prefix) = self.settings.prefix {
            return Some((prefix, Origin::Configured));
        }
        let current = self.setup.as_ref().map(|setup| setup.prefix);
        let fallback = self.settings.fallback;
        self.candidates
            .best(link, current, now)
            .or(fallback.map(|prefix| (prefix, Origin::Fallback)))
    }

    /// By which packets go to the NAT64.
    fn uplink(&self) -> Option<&Link> {
        let links = self.network.links.iter().filter(|link| link.running);
        match &self.settings.uplink {
            Some(name) => links
                .filter(|link| link.default_v6.is_some())
                .find(|link| link.name == *name),
            None => links
                .filter_map(|link| Some((link.default_v6?, link)))
                // A tunnel may be one that needs us.
                .min_by_key(|(metric, link)| (link.is_tunnel, *metric, link.index))
                .map(|(_, link)| link),
        }
    }

    /// A device with native IPv4. One that a tunnel leads to is none: it may be one that needs us.
    fn native(&self) -> Option<&Link> {
        self.network
            .links
            .iter()
            .filter(|_| self.settings.steps_aside && !self.settings.replaces)
            .find(|link| link.running && link.default_v4 && !link.is_tunnel)
    }

    /// A device with another CLAT for the same uplink: NetworkManager's has its address there, systemd-networkd's on a
    /// device that it names after it.
    fn another_clat(&self, uplink: &Link) -> Option<&Link> {
        let name = format!("cl-{}", uplink.name);
        let mut links = self.network.links.iter();
        links.find(|link| {
            (link.index == uplink.index || link.name == name) && !link.clat_addresses.is_empty()
        })
    }

    /// The IPv4 addresses of programs and of the translator: as configured, or the next two of 192.0.0.0/29 of which nobody
    /// else has one (CL-11): the translator's is on no device, but belongs to the other one. Once chosen they stay.
    fn addresses(&self) -> Option<[Ipv4Addr; 2]> {
        if let Some(setup) = &self.setup {
            return Some(setup.addresses);
        }
        let links = self.network.links.iter();
        let taken: Vec<_> = links.flat_map(|link| &link.clat_addresses).collect();
        let configured = [self.settings.host_v4, self.settings.own_v4];
        let all = [configured].into_iter().chain(CONTINUITY);
        let mut free = all.filter(|pair| !pair.iter().any(|one| taken.contains(&one)));
        free.next()
    }

    /// MTU of IPv6 on the uplink, in octets.
    fn mtu(&self, uplink: &Link) -> u32 {
        const MIN_MTU: u32 = crate::wire::ipv6::MIN_MTU as u32;
        let advertised = self.mtus.iter().find(|(link, _)| *link == uplink.index);
        let advertised = advertised.map_or(u32::MAX, |(_, mtu)| *mtu);
        uplink
            .mtu
            .min(advertised.max(MIN_MTU))
            .clamp(MIN_MTU, 65535)
    }
}

/// The first 64 bits.
fn network_of(address: Ipv6Addr) -> Ipv6Addr {
    (address.to_bits() >> 64 << 64).into()
}
