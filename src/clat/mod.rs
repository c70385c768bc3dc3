//! The CLAT of 464XLAT (RFC 6877): IPv4 for a host in a network that has none but by a NAT64.
//!
//! What happens comes in as [`Event`]s, what is to be done goes out as [`Action`]s. Times are since the machine started,
//! suspended time included, so that a day of Router Advertisements is a unit test without a clock.

pub mod prefix;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::{
    addr::Nat64Prefix,
    wire::ndp::{self, RouterAdvertisement},
};
pub use prefix::{Candidates, Origin};

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
const CONCLUSIONS: u32 = 10;
const CONCLUSION_INTERVAL: Duration = Duration::from_secs(5);
/// The IPv4 packet that becomes an IPv6 packet is 20 octets shorter, and 8 more are left for a Fragment Header.
const OVERHEAD: u32 = 28;

/// The network of the translator's private addresses behind the device: unique local (RFC 4193), and not a network's that
/// anybody would route to.
pub const PRIVATE: Ipv6Addr = Ipv6Addr::new(0xfdc1, 0xa700, 0x464, 0, 0, 0, 0, 0);

/// The private IPv6 address that stands for an IPv4 address of ours.
pub fn private(address: Ipv4Addr) -> Ipv6Addr {
    (PRIVATE.to_bits() | u128::from(address.to_bits())).into()
}

/// What the administrator wants. The defaults are those of clatd, where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `clat-dev`: the TUN device.
    pub device: String,
    /// `clat-v4-addr`: the address of programs on this host.
    pub host_v4: Ipv4Addr,
    /// `tayga-v4-addr`: the translator's own.
    pub own_v4: Ipv4Addr,
    /// `plat-prefix`: not discovered then.
    pub prefix: Option<Nat64Prefix>,
    /// `plat-fallback-prefix`: if none is discovered.
    pub fallback: Option<Nat64Prefix>,
    /// `plat-dev`: the uplink; otherwise the device of the IPv6 default route.
    pub uplink: Option<String>,
    /// `dns64-servers`: asked instead of the network's own.
    pub dns_servers: Vec<IpAddr>,
    /// `v4-defaultroute-enable`
    pub default_route: bool,
    /// `v4-defaultroute-metric`
    pub metric: u32,
    /// `v4-defaultroute-mtu`, in octets; otherwise that of the uplink, less 28.
    pub mtu: Option<u32>,
    /// `v4-defaultroute-advmss`, in octets; otherwise the MTU less 40.
    pub advmss: Option<u32>,
    /// `v4-conncheck-enable`: whether to step aside where there is native IPv4.
    pub steps_aside: bool,
    /// `v4-conncheck-delay`: how long there must have been.
    pub steps_aside_after: Duration,
    /// `forwarding-enable`
    pub forwarding: bool,
    /// `route-table`
    pub table: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            device: "clat".to_owned(),
            host_v4: Ipv4Addr::new(192, 0, 0, 1), // RFC 7335
            own_v4: Ipv4Addr::new(192, 0, 0, 2),
            prefix: None,
            fallback: None,
            uplink: None,
            dns_servers: Vec::new(),
            default_route: true,
            metric: 2048,
            mtu: None,
            advmss: None,
            steps_aside: true,
            steps_aside_after: Duration::from_secs(10),
            forwarding: true,
            table: 0xc1a7,
        }
    }
}

/// What there is of the network, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Every device but our own.
    pub links: Vec<Link>,
}

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Does not change while it exists.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether packets can be sent.
    pub running: bool,
    /// In octets.
    pub mtu: u32,
    /// Its link-layer address, if it has one as Ethernet has.
    pub mac: Option<[u8; 6]>,
    /// Whether it leads to something that is reached through another device: a TUN, TAP, WireGuard device, a tunnel.
    pub is_tunnel: bool,
    /// Addresses that can be used: neither tentative nor failed.
    pub addresses: Vec<Address>,
    /// Metric of its best IPv6 default route.
    pub default_v6: Option<u32>,
    /// Whether it has an IPv4 default route with a gateway.
    pub default_v4: bool,
    /// IPv4 addresses that are for CLATs ([`is_clat_address`]).
    pub clat_addresses: Vec<Ipv4Addr>,
}

/// Whether it is of 192.0.0.0/29, the IPv4 Service Continuity Prefix (RFC 7335).
pub fn is_clat_address(address: Ipv4Addr) -> bool {
    CONTINUITY.contains(&address)
}

/// Every address of 192.0.0.0/29 that a host can have.
const CONTINUITY: [Ipv4Addr; 6] = [
    Ipv4Addr::new(192, 0, 0, 1),
    Ipv4Addr::new(192, 0, 0, 2),
    Ipv4Addr::new(192, 0, 0, 3),
    Ipv4Addr::new(192, 0, 0, 4),
    Ipv4Addr::new(192, 0, 0, 5),
    Ipv4Addr::new(192, 0, 0, 6),
];

/// An IPv6 address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Not link-local.
    pub address: Ipv6Addr,
    /// Of its prefix, in bits.
    pub length: u8,
    /// Whether it is not for new connections any more.
    pub deprecated: bool,
    /// Whether it is one of those that change every day (RFC 8981).
    pub temporary: bool,
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
    /// Make it so.
    Set(Setup),
    /// Say what has become of it.
    Say(State),
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
    /// Whether programs are to use it.
    pub default_route: bool,
}

impl Setup {
    /// MTU of the IPv4 route, in octets (CL-13).
    pub fn route_mtu(&self, settings: &Settings) -> u32 {
        settings.mtu.unwrap_or(self.mtu - OVERHEAD)
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no way out yet.
    WaitingForLink(&'static str),
    /// Nobody has said yet how the NAT64 is reached.
    WaitingForPrefix(String),
    /// Programs have IPv4.
    Active(Nat64Prefix, Origin, String),
    /// There is native IPv4.
    SteppingAside(String),
    /// Somebody else does it.
    AnotherClat(String),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitingForLink(missing) => write!(f, "Waiting for a network: {missing}"),
            Self::WaitingForPrefix(uplink) => write!(
                f,
                "Waiting for a NAT64 prefix on {uplink}: no Router Advertisement has one (PREF64), and no DNS64 has answered"
            ),
            Self::Active(prefix, origin, uplink) => {
                let origin = match origin {
                    Origin::Configured => "plat-prefix",
                    Origin::Advertisement => "Router Advertisement",
                    Origin::Dns => "DNS64",
                    Origin::Fallback => "plat-fallback-prefix",
                };
                write!(
                    f,
                    "IPv4 goes by {uplink} and {} ({origin})",
                    prefix.prefix()
                )
            }
            Self::SteppingAside(link) => write!(f, "Stepping aside: {link} has native IPv4"),
            Self::AnotherClat(link) => write!(
                f,
                "Stepping aside: another CLAT is at work on {link}, which has an address of 192.0.0.0/29 \
                 (NetworkManager: ipv4.clat; systemd-networkd: CLAT=)"
            ),
        }
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
    /// What is done about the uplink.
    search: Search,
    /// Since when there is native IPv4.
    native_since: Option<Duration>,
    /// What was asked for last.
    setup: Option<Setup>,
    state: Option<State>,
    /// Conclusions that may follow at once, and since when.
    conclusions: (u32, Duration),
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
            expiry_solicited: false,
        }
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
            search: Search::default(),
            native_since: None,
            setup: None,
            state: None,
            conclusions: (CONCLUSIONS, Duration::ZERO),
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
            Event::Time => {}
        }
        self.candidates.drop_expired(now);
        self.dns_servers.retain(|server| now < server.until);
        let mut actions = Vec::new();
        self.search(now, &mut actions);
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
            solicit.filter(|at| *at > now),
            self.search.solicit,
            query,
            self.waits
                .then_some(self.conclusions.1 + CONCLUSION_INTERVAL),
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
        self.network = network;
        let link = self.uplink().map_or(0, |link| link.index);
        if link != self.search.link {
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
        // Our own networks are nobody's NAT64.
        let is_ours = |prefix: &Nat64Prefix| {
            let prefix = prefix.prefix();
            let mut addresses = self.network.links.iter().flat_map(|link| &link.addresses);
            addresses.any(|own| {
                let shortest = u32::from(own.length.min(prefix.length()));
                let differs = own.address.to_bits() ^ prefix.address().to_bits();
                differs.leading_zeros() >= shortest
            })
        };
        for pref64 in &advertisement.pref64 {
            if let Some(prefix) = prefix::nat64(pref64.prefix, pref64.length)
                && !is_ours(&prefix)
            {
                let preference = advertisement.preference;
                self.candidates
                    .advertised(link, preference, prefix, pref64.lifetime, now);
            }
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
        if let Some(mtu) = advertisement.mtu {
            self.mtus.retain(|(one, _)| *one != link);
            self.mtus.push((link, mtu));
        }
        if link == self.search.link {
            self.search.solicit = None; // it was heard
            self.search.expiry_solicited = false;
        }
    }

    fn resolved(&mut self, link: u32, addresses: &[Ipv6Addr], ttl: Duration, now: Duration) {
        let prefixes = prefix::by_addresses(addresses);
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
        if link == 0 || self.settings.prefix.is_some() {
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
        self.waits = is_new && !self.may_conclude(now);
        if self.waits {
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

    /// Takes one of the conclusions that may follow now.
    fn may_conclude(&mut self, now: Duration) -> bool {
        let (left, since) = &mut self.conclusions;
        let elapsed = now.saturating_sub(*since).as_secs() / CONCLUSION_INTERVAL.as_secs();
        if elapsed > 0 {
            let earned = u32::try_from(elapsed).unwrap_or(u32::MAX);
            *left = left.saturating_add(earned).min(CONCLUSIONS);
            *since = now;
        }
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }

    fn conclusion(&self, now: Duration) -> (State, Option<Setup>) {
        // What has been set up stays while something is missing: connections go on when it is back.
        let without_route = || {
            let setup = self.setup.clone();
            setup.map(|setup| Setup {
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
        let Some(source) = source(uplink, prefix) else {
            let missing = "the device of the IPv6 default route has no global IPv6 address";
            return (State::WaitingForLink(missing), without_route());
        };
        if let Some(other) = self.another_clat(uplink) {
            let state = State::AnotherClat(other.name.clone());
            return (state, without_route());
        }
        let Some(addresses) = self.addresses() else {
            let missing = "every address of 192.0.0.0/29 is in use (clat-v4-addr, tayga-v4-addr)";
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
            default_route: self.settings.default_route && native.is_none(),
        };
        let state = match native {
            Some(link) => State::SteppingAside(link.name.clone()),
            None => State::Active(prefix, origin, uplink.name.clone()),
        };
        (state, Some(setup))
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
                .min_by_key(|(metric, link)| (*metric, link.index))
                .map(|(_, link)| link),
        }
    }

    /// A device with native IPv4. One that a tunnel leads to is none: it may be one that needs us.
    fn native(&self) -> Option<&Link> {
        self.network
            .links
            .iter()
            .filter(|_| self.settings.steps_aside)
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

    /// The IPv4 addresses of programs and of the translator: as configured, or the next of 192.0.0.0/29 that nobody else has
    /// (CL-11). Once chosen they stay.
    fn addresses(&self) -> Option<[Ipv4Addr; 2]> {
        if let Some(setup) = &self.setup {
            return Some(setup.addresses);
        }
        let links = &self.network.links;
        let is_free = |one: &Ipv4Addr| !links.iter().any(|link| link.clat_addresses.contains(one));
        let Settings {
            host_v4, own_v4, ..
        } = self.settings;
        let mut all = [host_v4, own_v4].into_iter().chain(CONTINUITY);
        let host = all.find(is_free)?;
        let mut all = [own_v4].into_iter().chain(CONTINUITY);
        let own = all.find(|one| is_free(one) && *one != host)?;
        Some([host, own])
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

/// The host's own address on the uplink that is best for the NAT64 (RFC 6724 section 5): of the same kind (unique local or
/// not), not deprecated, one that stays, with the longest common prefix.
fn source(uplink: &Link, prefix: Nat64Prefix) -> Option<Ipv6Addr> {
    let to = prefix.prefix().address();
    let is_local = |address: Ipv6Addr| address.octets()[0] & 0xfe == 0xfc;
    uplink
        .addresses
        .iter()
        .max_by_key(|one| {
            (
                is_local(one.address) == is_local(to),
                !one.deprecated,
                !one.temporary,
                (one.address.to_bits() ^ to.to_bits()).leading_zeros(),
            )
        })
        .map(|one| one.address)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::wire::ndp::Pref64;

    const UPLINK: u32 = 2;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A CLAT, and the time.
    struct Rig {
        clat: Clat,
        now: Duration,
        network: Network,
    }

    impl Rig {
        fn new(settings: Settings) -> Self {
            let network = Network {
                links: vec![Link {
                    index: UPLINK,
                    name: "eth0".to_owned(),
                    running: true,
                    mtu: 1500,
                    addresses: vec![address("2001:db8:6::2")],
                    default_v6: Some(1024),
                    ..Link::default()
                }],
            };
            Self {
                clat: Clat::new(settings),
                now: seconds(1000),
                network,
            }
        }

        fn started() -> Self {
            let mut rig = Self::new(Settings::default());
            rig.network_is();
            rig
        }

        fn tell(&mut self, event: Event) -> Vec<Action> {
            self.clat.handle(event, self.now)
        }

        fn network_is(&mut self) -> Vec<Action> {
            let network = self.network.clone();
            self.tell(Event::Network(network))
        }

        fn link(&mut self) -> &mut Link {
            &mut self.network.links[0]
        }

        fn advertised(&mut self, pref64: &[(&str, u64)]) -> Vec<Action> {
            let pref64 = pref64.iter().map(|(prefix, lifetime)| Pref64 {
                prefix: prefix.parse().unwrap(),
                length: 96,
                lifetime: seconds(*lifetime),
            });
            let advertisement = RouterAdvertisement {
                pref64: pref64.collect(),
                ..RouterAdvertisement::default()
            };
            self.tell(Event::Advertisement {
                link: UPLINK,
                advertisement,
            })
        }

        fn resolved(&mut self, addresses: &[&str], ttl: u64) -> Vec<Action> {
            let addresses = addresses.iter().map(|one| one.parse().unwrap()).collect();
            self.tell(Event::Resolved {
                link: UPLINK,
                addresses,
                ttl: seconds(ttl),
            })
        }

        /// Goes from deadline to deadline up to a time, and returns what was done when.
        fn until(&mut self, end: Duration) -> Vec<(Duration, Action)> {
            let mut all = Vec::new();
            while let Some(deadline) = self.clat.deadline(self.now).filter(|at| *at <= end) {
                // A deadline that has passed would be a loop that never waits.
                assert!(deadline >= self.now, "{deadline:?} at {:?}", self.now);
                self.now = deadline;
                let actions = self.tell(Event::Time);
                all.extend(actions.into_iter().map(|action| (deadline, action)));
                assert!(all.len() < 10_000, "it spins");
            }
            self.now = end;
            all
        }
    }

    fn address(text: &str) -> Address {
        Address {
            address: text.parse().unwrap(),
            length: 64,
            deprecated: false,
            temporary: false,
        }
    }

    fn setups(actions: &[Action]) -> Vec<&Setup> {
        let setups = actions.iter().filter_map(|action| match action {
            Action::Set(setup) => Some(setup),
            _ => None,
        });
        setups.collect()
    }

    fn says(actions: &[Action]) -> Vec<String> {
        let state = |action: &Action| match action {
            Action::Say(state) => Some(state.to_string()),
            _ => None,
        };
        actions.iter().filter_map(state).collect()
    }

    const WKP: &str = "64:ff9b::";
    const OTHER: &str = "2001:db8:64::";

    /// RA81-09, RFC 4861 section 6.3.7: at once, a second later, and then every 4 s; then it waits for an event. DNS is asked
    /// 300 ms after the first, with back-off, and never given up (D50-07).
    #[test]
    fn routers_are_solicited_and_name_servers_asked() {
        let mut rig = Rig::new(Settings::default());
        let start = rig.now;
        assert_eq!(rig.network_is()[0], Action::Solicit { link: UPLINK });
        let mut queries = Vec::new();
        let mut solicitations = Vec::new();
        while rig.now < start + seconds(1000) {
            let next = rig.clat.deadline(rig.now).unwrap();
            for (at, action) in rig.until(next) {
                match action {
                    Action::Solicit { .. } => solicitations.push((at - start).as_millis()),
                    Action::Query { .. } => {
                        queries.push((at - start).as_millis());
                        rig.tell(Event::Unresolved { link: UPLINK });
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(solicitations, [1000, 5000]);
        assert_eq!(queries[..5], [300, 1300, 3300, 7300, 15300]);
        assert!(queries.len() > 15, "{queries:?}");
        assert!(queries.windows(2).all(|two| two[1] - two[0] <= 60_000));
    }

    #[test]
    fn an_advertised_prefix_makes_it_active() {
        let mut rig = Rig::started();
        let actions = rig.advertised(&[(WKP, 600)]);
        let expected = Setup {
            uplink: ("eth0".to_owned(), UPLINK),
            mtu: 1500,
            addresses: [[192, 0, 0, 1].into(), [192, 0, 0, 2].into()],
            prefix: prefix::nat64(WKP.parse().unwrap(), 96).unwrap(),
            source: "2001:db8:6::2".parse().unwrap(),
            default_route: true,
        };
        assert_eq!(setups(&actions), [&expected]);
        assert_eq!(
            says(&actions),
            ["IPv4 goes by eth0 and 64:ff9b::/96 (Router Advertisement)"]
        );
        assert_eq!(rig.advertised(&[(WKP, 600)]), [], "nothing new");
        assert_eq!(expected.route_mtu(&Settings::default()), 1472);
        // P72-02: DNS is not asked any more.
        let later = rig.until(seconds(1500));
        assert!(later.is_empty(), "{later:?}");
    }

    /// A day of advertisements of 16 s, every 5 s, some of them lost: nothing changes (RA81-10).
    #[test]
    fn short_lifetimes_do_not_flap() {
        let mut rig = Rig::started();
        rig.advertised(&[(OTHER, 16)]);
        for round in 1..17_280_u64 {
            let done = rig.until(seconds(1000 + 5 * round));
            let all_solicit = done
                .iter()
                .all(|(_, action)| matches!(action, Action::Solicit { .. } | Action::Query { .. }));
            assert!(all_solicit, "{done:?}");
            if round % 7 < 4 {
                assert_eq!(rig.advertised(&[(OTHER, 16)]), []);
            }
        }
    }

    /// RFC 8781 section 4: zero is the end at once; what runs out is solicited, and held for a minute.
    #[test]
    fn a_prefix_ends() {
        let mut rig = Rig::started();
        rig.advertised(&[(OTHER, 600)]);
        let actions = rig.advertised(&[(OTHER, 0)]);
        assert!(!setups(&actions)[0].default_route);
        assert!(says(&actions)[0].starts_with("Waiting for a NAT64 prefix on eth0"));

        let actions = rig.advertised(&[(OTHER, 600)]);
        assert!(setups(&actions)[0].default_route);
        let done = rig.until(seconds(1000 + 600 + 59));
        let first = done.first().unwrap();
        assert_eq!(*first, (seconds(1595), Action::Solicit { link: UPLINK }));
        assert!(
            !done
                .iter()
                .any(|(_, action)| matches!(action, Action::Set(_)))
        );
        let done = rig.until(seconds(1000 + 600 + 60));
        let set = done
            .iter()
            .find(|(_, action)| matches!(action, Action::Set(_)));
        assert_eq!(set.unwrap().0, seconds(1660));
    }

    /// D50-06: 10 s before the TTL is over; P72-03: what a router says replaces it; D50-07: a renewal without an answer
    /// changes nothing, and one that says "none" does.
    #[test]
    fn a_resolved_prefix_is_renewed() {
        let mut rig = Rig::started();
        rig.until(seconds(1001));
        let actions = rig.resolved(&["2001:db8:64::192.0.0.170"], 300);
        assert!(says(&actions)[0].ends_with("(DNS64)"));
        let is_query = |(_, action): &(_, Action)| matches!(action, Action::Query { .. });
        let done = rig.until(seconds(1001 + 290));
        let query = done.iter().find(|one| is_query(one)).unwrap();
        assert_eq!(query.0, seconds(1291));
        assert_eq!(rig.tell(Event::Unresolved { link: UPLINK }), []);
        assert!(rig.until(seconds(5000)).iter().any(is_query));
        // TTLs below 60 s count as 60.
        let mut rig = Rig::started();
        rig.until(seconds(1001));
        rig.resolved(&["2001:db8:64::192.0.0.170"], 1);
        let done = rig.until(seconds(1100));
        assert_eq!(
            done.iter().find(|one| is_query(one)).unwrap().0,
            seconds(1051)
        );
        let actions = rig.advertised(&[(WKP, 600)]);
        assert_eq!(
            setups(&actions)[0].prefix.prefix().to_string(),
            "64:ff9b::/96"
        );
        rig.advertised(&[(WKP, 0)]);
        let actions = rig.resolved(&[], 60);
        assert!(says(&actions)[0].starts_with("Waiting for a NAT64 prefix"));
    }

    /// CL-01, CL-02: the start is never delayed; native IPv4 must have stood for a while, and its end counts at once.
    #[test]
    fn it_steps_aside_for_native_ipv4() {
        let mut rig = Rig::started();
        rig.link().default_v4 = true;
        rig.network_is();
        let actions = rig.advertised(&[(OTHER, 6000)]);
        assert!(setups(&actions)[0].default_route);
        assert_eq!(rig.clat.deadline(rig.now), Some(seconds(1010)));
        let done = rig.until(seconds(1010));
        assert!(matches!(&done[0].1, Action::Set(setup) if !setup.default_route));
        let aside = Action::Say(State::SteppingAside("eth0".to_owned()));
        assert_eq!(done[1].1, aside);
        rig.link().default_v4 = false;
        let actions = rig.network_is();
        assert!(setups(&actions)[0].default_route);
        // It comes and goes within the time: nothing changes.
        for _ in 0..5 {
            rig.link().default_v4 = true;
            assert_eq!(rig.network_is(), []);
            assert_eq!(rig.until(rig.now + seconds(9)), []);
            rig.link().default_v4 = false;
            assert_eq!(rig.network_is(), []);
        }
        // A tunnel is none.
        rig.link().default_v4 = true;
        rig.link().is_tunnel = true;
        assert_eq!(rig.network_is(), []);
        assert_eq!(rig.until(rig.now + seconds(60)), []);
        // Nor is anything, if so configured.
        let mut rig = Rig::new(Settings {
            steps_aside: false,
            ..Settings::default()
        });
        rig.link().default_v4 = true;
        rig.network_is();
        rig.advertised(&[(OTHER, 6000)]);
        assert_eq!(rig.until(rig.now + seconds(60)), []);
    }

    /// CL-21: the link goes, and what was learnt by it (D50-08); it comes, and is asked again. What was set up stays.
    #[test]
    fn the_link_flaps() {
        let mut rig = Rig::started();
        rig.advertised(&[(OTHER, 600)]);
        rig.link().running = false;
        let actions = rig.network_is();
        assert!(!setups(&actions)[0].default_route);
        assert_eq!(
            says(&actions),
            ["Waiting for a network: there is no IPv6 default route"]
        );
        rig.link().running = true;
        let actions = rig.network_is();
        assert_eq!(actions[0], Action::Solicit { link: UPLINK });
        assert!(says(&actions)[0].starts_with("Waiting for a NAT64 prefix"));
        assert!(setups(&rig.advertised(&[(WKP, 600)]))[0].default_route);
    }

    /// A router that contradicts itself all the time changes neither routes nor log all the time; in the end it is as it says.
    #[test]
    fn contradictions_are_damped() {
        let mut rig = Rig::started();
        let start = rig.now;
        let mut changes = 0;
        for number in 0..1000_u64 {
            rig.now = start + Duration::from_millis(10 * number);
            let prefix = if number % 2 == 0 { WKP } else { OTHER };
            let other = if number % 2 == 0 { OTHER } else { WKP };
            changes += says(&rig.advertised(&[(prefix, 600), (other, 0)])).len();
        }
        assert!((9..=12).contains(&changes), "{changes}");
        rig.until(rig.now + seconds(6));
        let setup = rig.clat.setup.as_ref().unwrap();
        assert_eq!(setup.prefix.prefix().to_string(), "2001:db8:64::/96");
        // Later there is no hurry.
        rig.until(rig.now + seconds(60));
        assert_eq!(says(&rig.advertised(&[(OTHER, 0)])).len(), 1);
    }

    /// CL-11: the next free addresses; they stay; and where there are none it says so.
    #[test]
    fn addresses_are_those_that_nobody_has() {
        let other = |addresses: &[u8]| Link {
            index: 9,
            name: "other".to_owned(),
            clat_addresses: addresses
                .iter()
                .map(|last| [192, 0, 0, *last].into())
                .collect(),
            ..Link::default()
        };
        for (taken, expected) in [
            (&[][..], [1, 2]),
            (&[1], [2, 3]),
            (&[2], [1, 3]),
            (&[1, 2, 3], [4, 5]),
        ] {
            let mut rig = Rig::new(Settings::default());
            rig.network.links.push(other(taken));
            rig.network_is();
            let actions = rig.advertised(&[(OTHER, 600)]);
            let expected = expected.map(|last| Ipv4Addr::new(192, 0, 0, last));
            assert_eq!(setups(&actions)[0].addresses, expected);
            rig.network.links[1] = other(&[]);
            assert_eq!(rig.network_is(), [], "once chosen they stay");
        }
        let mut rig = Rig::new(Settings::default());
        rig.network.links.push(other(&[1, 2, 3, 4, 5]));
        rig.network_is();
        let actions = rig.advertised(&[(OTHER, 600)]);
        assert!(setups(&actions).is_empty());
        assert!(says(&actions)[0].contains("every address of 192.0.0.0/29 is in use"));
    }

    #[test]
    fn another_clat_is_left_to_it() {
        for name in ["eth0", "cl-eth0"] {
            let mut rig = Rig::started();
            if name == "eth0" {
                rig.link().clat_addresses = vec![[192, 0, 0, 1].into()];
            } else {
                rig.network.links.push(Link {
                    index: 9,
                    name: name.to_owned(),
                    clat_addresses: vec![[192, 0, 0, 1].into()],
                    ..Link::default()
                });
            }
            rig.network_is();
            let actions = rig.advertised(&[(OTHER, 600)]);
            assert!(setups(&actions).is_empty());
            let said = format!("Stepping aside: another CLAT is at work on {name}");
            assert!(says(&actions)[0].starts_with(&said));
        }
    }

    /// CL-05, RFC 6724 rules 3, 6, 7 and 8.
    #[test]
    fn the_best_address_is_the_source() {
        let pick = |addresses: &[Address], prefix: &str| {
            let link = Link {
                addresses: addresses.to_vec(),
                ..Link::default()
            };
            let prefix = prefix::nat64(prefix.parse().unwrap(), 96).unwrap();
            super::source(&link, prefix).map(|address| address.to_string())
        };
        let global = address("2001:db8:6::2");
        let local = address("fd00::2");
        let temporary = Address {
            temporary: true,
            ..address("2001:db8:64::3")
        };
        let old = Address {
            deprecated: true,
            ..address("2001:db8:64::4")
        };
        let near = address("2001:db8:64::5");
        let all = [local, temporary, old, global, near];
        assert_eq!(pick(&all, OTHER).unwrap(), "2001:db8:64::5");
        assert_eq!(pick(&all[..4], OTHER).unwrap(), "2001:db8:6::2");
        assert_eq!(pick(&all[..3], OTHER).unwrap(), "2001:db8:64::3");
        assert_eq!(pick(&all, "fd00:64::").unwrap(), "fd00::2");
        assert_eq!(pick(&[], OTHER), None);
    }

    /// CL-13: of the link, of its routers, at least what IPv6 needs.
    #[test]
    fn the_mtu_is_that_of_the_uplink() {
        let mut rig = Rig::started();
        rig.link().mtu = 9000;
        rig.network_is();
        let actions = rig.advertised(&[(OTHER, 600)]);
        assert_eq!(setups(&actions)[0].mtu, 9000);
        for (said, expected) in [(1492, 1492), (100, 1280), (65536, 9000)] {
            let advertisement = RouterAdvertisement {
                mtu: Some(said),
                ..RouterAdvertisement::default()
            };
            let actions = rig.tell(Event::Advertisement {
                link: UPLINK,
                advertisement,
            });
            assert_eq!(setups(&actions)[0].mtu, expected);
        }
    }

    /// `plat-prefix`, `plat-fallback-prefix`, `plat-dev`, `v4-defaultroute-enable`.
    #[test]
    fn settings_count() {
        let configured = prefix::nat64(WKP.parse().unwrap(), 96);
        let mut rig = Rig::new(Settings {
            prefix: configured,
            default_route: false,
            ..Settings::default()
        });
        let actions = rig.network_is();
        assert!(!setups(&actions)[0].default_route);
        assert!(says(&actions)[0].ends_with("(plat-prefix)"));
        assert_eq!(rig.advertised(&[(OTHER, 600)]), []);
        assert_eq!(
            rig.clat.deadline(rig.now).filter(|at| *at < seconds(1500)),
            None
        );

        let mut rig = Rig::new(Settings {
            fallback: configured,
            ..Settings::default()
        });
        assert!(says(&rig.network_is())[0].ends_with("(plat-fallback-prefix)"));
        assert!(says(&rig.advertised(&[(OTHER, 600)]))[0].ends_with("(Router Advertisement)"));

        let mut rig = Rig::new(Settings {
            uplink: Some("eth1".to_owned()),
            ..Settings::default()
        });
        assert_eq!(
            says(&rig.network_is()),
            ["Waiting for a network: plat-dev has no IPv6 default route"]
        );
    }

    /// RA81-03: what no NAT64 can have, and our own networks, are nobody's NAT64.
    #[test]
    fn impossible_prefixes_are_not_taken() {
        let mut rig = Rig::started();
        for prefix in ["ff0e::", "fe80::", "::", "2001:db8:6::"] {
            assert_eq!(rig.advertised(&[(prefix, 600)]), [], "{prefix}");
        }
    }
}
