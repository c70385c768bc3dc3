//! The CLAT of 464XLAT (RFC 6877): IPv4 on IPv6-only networks.
//!
//! [`Event`]s come in, [`Action`]s go out. Times are since the machine started, suspended time
//! included, so that a day of Router Advertisements is a unit test without a clock.
//!
//! An event goes through these files, each a subject of its own:
//!
//! | file | subject |
//! |---|---|
//! | `neighbour`, `answers` | which messages of routers and name servers count |
//! | `discovery`, `search`, `prefix` | the NAT64 prefix: what is learnt, when to ask, which counts |
//! | `watch`, `doubts` | whether a prefix answers, and when one that did not is tried again |
//! | `source`, `iid` | the CLAT address: its test, and how it is formed |
//! | `native` | stepping aside for native IPv4 |
//! | `conclusion` | what follows from all of it, as one table |
//! | `host`, `setup` | what was asked of the host, and whether it is in force |
//! | `next_hop` | where packets go on the uplink, and when they wait |
//! | `ipv6_route` | which routes may lead to a NAT64, and by which routers |
//! | `damping` | how often that may change |
//! | `rescan`, `held` | when the network is looked at, and what waits for it |
//! | `overview` | all that is known, as data |

pub mod answers;
mod conclusion;
mod damping;
mod discovery;
mod doubts;
mod event;
mod held;
mod host;
mod iid;
mod ipv6_route;
mod native;
pub mod neighbour;
mod network;
mod next_hop;
mod overview;
pub mod prefix;
mod rescan;
mod retry;
mod search;
mod settings;
mod setup;
mod source;
mod status;
#[cfg(test)]
mod tests;
mod watch;

use std::time::Duration;

use crate::{addr::Nat64Prefix, link::LinkRef};
use conclusion::{Conclusion, Situation};
use damping::{Change, Damping};
use discovery::Discovery;
pub use event::{Action, AddressTest, Event, Ignored, Resolution, Servers};
pub use held::Held;
use host::Host;
pub use ipv6_route::{Ipv6Route, may_lead};
use native::Native;
pub use network::{Address, FirstRules, Interface, LinkLayer, Network, is_clat_address};
pub use next_hop::{Neighbour, NextHop, Reachability, Routers, Sending};
pub use overview::{KnownPrefix, NativeIpv4, Overview};
pub use prefix::{Candidates, Origin};
pub use rescan::Rescan;
pub use retry::Retry;
pub use settings::{Path, Settings, Source};
pub use setup::{Forwarding, HostSetup, PRIVATE, Way, private};
use source::{Choice, Place};
pub use status::{Missing, NoClatAddress, Status};
pub use watch::Traffic;
use watch::{Finding, Watch, Watched};

/// The CLAT of a host.
#[derive(Debug)]
pub struct Clat {
    settings: Settings,
    network: Network,
    discovery: Discovery,
    choice: Choice,
    native: Native,
    host: Host,
    watch: Watch,
    /// The address that was asked to be on its interface last, to be tested.
    tested: Option<AddressTest>,
    /// The status that was reported last.
    status: Option<Status>,
    /// When it was reported.
    status_since: Option<Duration>,
    damping: Damping,
    /// The time of the last event.
    now: Duration,
}

impl Clat {
    /// A CLAT that knows nothing of the network yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            network: Network::default(),
            discovery: Discovery::default(),
            choice: Choice::default(),
            native: Native::default(),
            host: Host::default(),
            watch: Watch::default(),
            tested: None,
            status: None,
            status_since: None,
            damping: Damping::default(),
            now: Duration::ZERO,
        }
    }

    /// Takes notice of the packets so far, after any have passed. Returns whether they change
    /// anything: then an event is due, at least [`Event::Time`].
    pub fn passed(&mut self, traffic: Traffic, now: Duration) -> bool {
        self.watch.passed(traffic, now);
        self.watch.has_news()
    }

    /// Takes an event, and says what to do. `traffic` is the packets so far.
    pub fn handle(&mut self, event: Event, traffic: Traffic, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        self.now = now;
        self.damping.begin_turn();
        self.discovery.drop_expired(now);
        self.take(event, &mut actions);
        self.choose_uplink();
        self.watch.passed(traffic, now);
        self.judge(&mut actions);
        let current = self.current();
        self.discovery
            .search(&self.settings, current, now, &mut actions);
        self.choose_source(&mut actions);
        let translated = traffic.out + traffic.back;
        let translated = self.host.asked().map(|_| translated);
        self.native
            .go_on(self.settings.steps_aside_after, translated, now);
        let before = self.way();
        self.conclude(&mut actions);
        self.watch_way(before);
        actions
    }

    /// When there is something to do without an event. It may be over already.
    pub fn deadline(&self) -> Option<Duration> {
        let Self { discovery, now, .. } = self;
        let is_set_up = self.host.asked().is_some();
        let overlap_end = self.native.end().filter(|end| end > now && is_set_up);
        let all = [
            self.native.settled_at(self.settings.steps_aside_after),
            overlap_end,
            self.choice.deadline(),
            self.choice.patience(&self.settings, discovery, *now),
            self.damping.deadline(),
        ];
        let discovery = discovery.deadlines(&self.settings, self.current(), *now);
        all.into_iter().flatten().chain(discovery).min()
    }

    /// The interface with this index, if it is known.
    pub fn link(&self, index: u32) -> Option<&Interface> {
        self.network.interface(index)
    }

    /// The interface of this name, if it is known.
    pub fn link_named(&self, name: &str) -> Option<&Interface> {
        self.network.interfaces.iter().find(|one| one.name == name)
    }

    /// The NAT64 prefixes that are known, in order: routes to them matter.
    pub fn nat64_prefixes(&self) -> Vec<Nat64Prefix> {
        let Settings {
            prefix, fallback, ..
        } = self.settings;
        let found = self.discovery.prefixes();
        let known = [prefix, fallback, prefix::nat64(prefix::RFC6052, 96)];
        let mut all: Vec<_> = known.into_iter().flatten().chain(found).collect();
        let key = |one: &Nat64Prefix| (one.prefix().address(), one.prefix().length());
        all.sort_by_key(key);
        all.dedup();
        all
    }

    /// Whether answers to probes are awaited.
    pub fn probes(&self) -> bool {
        self.choice.probes()
    }

    fn take(&mut self, event: Event, actions: &mut Vec<Action>) {
        let now = self.now;
        match event {
            Event::Network(network) => self.network_is(network, actions),
            Event::Advertisement {
                link,
                router,
                advertisement,
            } => {
                self.discovery
                    .advertised(&self.network, link, router, &advertisement, now, actions)
            }
            Event::Resolved { link, resolution } => {
                self.discovery
                    .resolved(&self.network, link, &resolution, now, actions);
            }
            Event::Unresolved { link } => self.discovery.unresolved(link, now),
            Event::Answered { from } => self.choice.answered(from, now),
            Event::Resumed => {
                self.discovery.search_again(now);
                self.choice.try_again();
                self.watch.forget();
            }
            Event::NoPacketSockets => self.settings.path = Path::Forward,
            Event::Failed => {
                self.host.failed();
                self.tested = None;
            }
            Event::Time => {}
        }
    }

    /// Draws the consequences of what packets show. Another prefix is tried before another address:
    /// the prefix comes back after a pause, and an address of our own does not on this network.
    fn judge(&mut self, actions: &mut Vec<Action>) {
        let Some((way, finding)) = self.watch.take_news() else {
            return;
        };
        let Watched {
            link,
            prefix,
            source,
        } = way;
        let now = self.now;
        match finding {
            Finding::Answers => {
                if self.discovery.doubts.is_silent(link, prefix) {
                    self.choice.answers_again();
                }
                self.discovery.doubts.answers(link, prefix);
                self.choice.comes_back(source);
            }
            Finding::Silent => {
                self.discovery.doubts.silent(link, prefix, now);
                let uplink = self.network.interface(link);
                let best = uplink.and_then(|uplink| {
                    self.discovery
                        .prefix(&self.settings, uplink, Some(prefix), now)
                });
                if best.is_some_and(|(best, _)| best != prefix) {
                    actions.push(Action::GiveWay(prefix));
                } else if let Some(reason) = self.choice.is_silent(source, &self.settings) {
                    self.discovery.doubts.clear();
                    actions.push(Action::UseHostAddress(reason));
                }
            }
        }
    }

    /// The way of packets that programs are led to, while it is in force.
    fn way(&self) -> Option<Watched> {
        let setup = self.host.in_force()?;
        let is_used = setup.on_link && self.native.aside_for().is_none();
        is_used.then_some(Watched {
            link: setup.uplink.index,
            prefix: setup.prefix,
            source: setup.source,
        })
    }

    /// The prefix that packets on the uplink take. With a new way a trial begins; what is only in
    /// force has none, and would leave a query behind that was due before.
    fn current(&self) -> Option<Nat64Prefix> {
        let way = self.way()?;
        (Some(way.link) == self.discovery.uplink()).then_some(way.prefix)
    }

    /// Watches the way in force, in place of the one before.
    fn watch_way(&mut self, before: Option<Watched>) {
        let way = self.way();
        let doubts = &mut self.discovery.doubts;
        let [old, new] = [before, way].map(|way| way.map(|way| (way.link, way.prefix)));
        if let Some(new) = new.filter(|_| old != new) {
            doubts.begins(new, old, self.now);
        }
        let patience = new.map(|(link, prefix)| doubts.patience(link, prefix, self.now));
        self.watch.follow(way, patience.unwrap_or_default());
    }

    fn network_is(&mut self, network: Network, actions: &mut Vec<Action>) {
        let before = std::mem::replace(&mut self.network, network);
        self.discovery.network_is(&self.network, &before, actions);
        let name = self.settings.uplink.as_deref();
        let prefixes = self.nat64_prefixes();
        for uplink in self.network.uplinks(name, &prefixes, None) {
            // One that was named, and has routes now, may be at another network as well.
            let is_led = |one: &Interface| one.running && one.lead(&prefixes).is_some();
            let was_led = before.interface(uplink.index).is_some_and(is_led);
            let was_uplink = was_led || !is_led(uplink) && before.is_running(uplink.index);
            let has_stayed = self.network.has_stayed(uplink.index, &before);
            if !was_uplink || !has_stayed {
                self.discovery.begins(uplink.index);
            }
        }
        let counts = self.settings.steps_aside && !self.settings.replaces;
        let native = self.network.native().filter(|_| counts);
        self.native
            .is_on(native.map(|one| one.name.as_str()), self.now);
    }

    /// Searches on the best uplink: that of the best IPv6 route, unless it was searched in
    /// vain, and another one has a prefix.
    fn choose_uplink(&mut self) {
        let Settings { uplink, prefix, .. } = &self.settings;
        let current = self.discovery.uplink();
        let prefixes = self.nat64_prefixes();
        let uplinks = self.network.uplinks(uplink.as_deref(), &prefixes, current);
        let best = uplinks.first().map(|uplink| uplink.index);
        let is_in_vain = |link| prefix.is_none() && self.discovery.is_in_vain(link);
        let chosen = if best.is_some_and(is_in_vain) {
            let mut links = uplinks.iter().map(|uplink| uplink.index);
            links.find(|link| self.discovery.has_prefix(*link)).or(best)
        } else {
            best
        };
        if chosen != current {
            self.discovery.search_on(chosen, self.now);
            self.choice.start_over();
        }
    }

    /// The interface by which packets go to the NAT64.
    fn uplink(&self) -> Option<&Interface> {
        self.network.interface(self.discovery.uplink()?)
    }

    /// Goes on with the CLAT address, once it is known for which prefix.
    fn choose_source(&mut self, actions: &mut Vec<Action>) {
        let before = self.choice.unavailable();
        let uplink = self.uplink().cloned();
        let current = self.host.in_force().map(|setup| setup.prefix);
        let found = uplink.as_ref().and_then(|uplink| {
            let found = self
                .discovery
                .prefix(&self.settings, uplink, current, self.now);
            Some((uplink, found?.0))
        });
        if let Some((uplink, prefix)) = found {
            let place = Place {
                settings: &self.settings,
                uplink,
                prefix,
            };
            let probe = self
                .choice
                .go_on(&place, &mut self.discovery, &mut self.damping, self.now);
            actions.extend(probe.map(|from| Action::Probe {
                link: uplink.index,
                from,
                to: prefix.embed(prefix::WELL_KNOWN[0]),
            }));
        } else if self.choice.tested().is_some() {
            // A test that is not over begins anew.
            self.choice.reset();
        }
        let tested = self.choice.tested().zip(uplink);
        let tested = tested.map(|(address, uplink)| AddressTest {
            uplink: LinkRef::new(uplink.index, &uplink.name),
            address,
        });
        if tested != self.tested {
            self.tested.clone_from(&tested);
            actions.push(Action::TestAddress(tested));
        }
        let unavailable = self.choice.unavailable().filter(|_| before.is_none());
        actions.extend(unavailable.map(Action::UseHostAddress));
    }

    /// Comes to a conclusion, and asks for what is new in it, if damping allows.
    fn conclude(&mut self, actions: &mut Vec<Action>) {
        let situation = Situation {
            settings: &self.settings,
            network: &self.network,
            discovery: &self.discovery,
            choice: &self.choice,
            native: &self.native,
            host: &self.host,
            now: self.now,
        };
        let Conclusion { status, setup } = situation.conclude();
        let set_up_differs = self.host.differs(setup.as_ref());
        let status_differs = self.status.as_ref() != Some(&status);
        let change = match status {
            Status::Active { .. } => Change::Restore,
            _ => Change::Other,
        };
        if !(set_up_differs || status_differs) || !self.damping.allows(change, self.now) {
            return;
        }
        if set_up_differs {
            self.host.ask(setup.clone());
            actions.push(setup.map_or(Action::TearDown, Action::SetUp));
        }
        if status_differs {
            self.status = Some(status.clone());
            self.status_since = Some(self.now);
            actions.push(Action::Report(status));
        }
    }
}
