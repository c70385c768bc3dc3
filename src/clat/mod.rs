//! The CLAT of 464XLAT (RFC 6877): IPv4 for a host in a network that has none but by a NAT64.
//!
//! What happens comes in as [`Event`]s, what is to be done goes out as [`Action`]s. Times are since the machine started,
//! suspended time included, so that a day of Router Advertisements is a unit test without a clock.

mod damping;
mod discovery;
mod event;
mod host;
mod network;
pub mod prefix;
mod rescan;
mod retry;
mod settings;
mod setup;
mod source;
mod status;
#[cfg(test)]
mod tests;

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::addr::Nat64Prefix;
use damping::Damping;
use discovery::Discovery;
pub use event::{Action, AddressTest, Event, Ignored};
use host::Host;
pub use network::{Address, Interface, Network, is_clat_address};
use network::{best, network_of};
pub use prefix::{Candidates, Origin};
pub use rescan::Rescan;
pub use retry::Retry;
pub use settings::{Settings, Source};
pub use setup::{HostSetup, PRIVATE, private};
use source::{Choice, Dedicated};
pub use status::Status;

/// Open connections that say nothing for so long are over, once there is native IPv4; and so much later all are.
const QUIET: Duration = Duration::from_secs(120);
const LONGEST_ASIDE: Duration = Duration::from_secs(900);

/// The CLAT of a host.
#[derive(Debug)]
pub struct Clat {
    settings: Settings,
    network: Network,
    discovery: Discovery,
    /// What becomes of an address of our own on the uplink.
    choice: Choice,
    /// What was asked for last, while it is checked.
    trial: Option<AddressTest>,
    /// Since when there is native IPv4.
    native_since: Option<Duration>,
    /// While we step aside for it.
    aside: Option<Aside>,
    /// How many packets have been translated.
    packets: u64,
    host: Host,
    state: Option<Status>,
    damping: Damping,
    /// Whether there is another conclusion that has to wait.
    waits: bool,
}

/// Connections that were open when native IPv4 came, and go on by us.
#[derive(Clone, Copy, Debug)]
struct Aside {
    since: Duration,
    /// How many packets had been translated when it was looked at last, and since when it is so many.
    packets: u64,
    quiet_since: Duration,
}

impl Aside {
    fn new(packets: u64, now: Duration) -> Self {
        Self {
            since: now,
            packets,
            quiet_since: now,
        }
    }

    /// So many packets have been translated by now.
    fn look(self, packets: u64, now: Duration) -> Self {
        let quiet_since = if packets == self.packets {
            self.quiet_since
        } else {
            now
        };
        Self {
            packets,
            quiet_since,
            ..self
        }
    }

    /// When there are none any more, or none that are waited for.
    fn end(self) -> Duration {
        (self.quiet_since + QUIET).min(self.since + LONGEST_ASIDE)
    }
}

impl Clat {
    /// One that knows nothing of the network yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            network: Network::default(),
            discovery: Discovery::default(),
            choice: Choice::default(),
            trial: None,
            native_since: None,
            aside: None,
            packets: 0,
            host: Host::default(),
            state: None,
            damping: Damping::default(),
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
            } => self
                .discovery
                .advertised(&self.network, link, &advertisement, now),
            Event::Resolved {
                link,
                addresses,
                ttl,
            } => self
                .discovery
                .resolved(&self.network, link, &addresses, ttl, now),
            Event::Unresolved { link } => self.discovery.unresolved(link, now),
            Event::Answered { from } => self.choice.answered(from, now),
            Event::Resumed => self.discovery.search_again(now),
            Event::Failed => {
                self.host.failed();
                self.trial = None;
            }
            Event::Time => {}
        }
        let mut actions: Vec<_> = self.discovery.refusals().map(Action::Ignore).collect();
        self.waits = false;
        self.discovery.search(&self.settings, now, &mut actions);
        self.choose_source(now, &mut actions);
        self.step_aside(now);
        self.decide(now, &mut actions);
        actions
    }

    /// When there is something to do without an event.
    pub fn deadline(&self, now: Duration) -> Option<Duration> {
        let native = self
            .native_since
            .map(|since| since + self.settings.steps_aside_after)
            .filter(|at| *at > now);
        let patience = self.discovery.patience(now);
        let aside = self.aside.filter(|_| self.host.asked().is_some());
        let all = [
            native,
            aside.map(Aside::end).filter(|at| *at > now),
            self.choice.deadline(),
            patience.filter(|_| self.is_patient(now)),
            self.waits.then(|| self.damping.deadline()),
        ];
        let discovery = self.discovery.deadlines(&self.settings, now);
        all.into_iter().flatten().chain(discovery).min()
    }

    /// Takes notice of how many packets have been translated by now. To be said before each event.
    pub fn translated(&mut self, packets: u64) {
        self.packets = packets;
    }

    /// What is known of a device.
    pub fn link(&self, index: u32) -> Option<&Interface> {
        self.network.link(index)
    }

    /// The device of this name, if it is known.
    pub fn link_named(&self, name: &str) -> Option<&Interface> {
        self.network
            .interfaces
            .iter()
            .find(|link| link.name == name)
    }

    fn network_is(&mut self, network: Network, now: Duration) {
        self.network = network;
        let link = self.uplink().map_or(0, |link| link.index);
        if self.discovery.network_is(&self.network, link, now) {
            self.choice = Choice::default();
        }
        self.native_since = match (self.native(), self.native_since) {
            (None, _) => None,
            (Some(_), since) => since.or(Some(now)),
        };
    }

    /// By which packets go to the NAT64.
    fn uplink(&self) -> Option<&Interface> {
        self.network.uplink(self.settings.uplink.as_deref())
    }

    /// A device with native IPv4, if we step aside for it.
    fn native(&self) -> Option<&Interface> {
        let native = self.network.native();
        native.filter(|_| self.settings.steps_aside && !self.settings.replaces)
    }

    /// One that has stood for long enough.
    fn standing_native(&self, now: Duration) -> Option<&Interface> {
        let stands = |since| now >= since + self.settings.steps_aside_after;
        self.native()
            .filter(|_| self.native_since.is_some_and(stands))
    }

    /// Looks whether open connections go on by us, beside native IPv4.
    fn step_aside(&mut self, now: Duration) {
        let packets = self.packets;
        self.aside = self.standing_native(now).map(|_| match self.aside {
            None => Aside::new(packets, now),
            Some(aside) if self.host.asked().is_some() => aside.look(packets, now),
            Some(aside) => aside,
        });
    }

    /// Comes to a conclusion from all that is known, and says so if it is another than before.
    fn decide(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let (state, wanted) = self.conclusion(now);
        let action = match wanted {
            Some(setup) if self.host.in_force() != Some(&setup) => Some(Action::SetUp(setup)),
            None if self.host.asked().is_some() => Some(Action::TearDown),
            _ => None,
        };
        let is_said = self.state.as_ref() == Some(&state);
        let is_way_back = matches!(state, Status::Active(..));
        if (action.is_some() || !is_said) && !self.damping.allows(is_way_back, now) {
            self.waits = true;
            return;
        }
        match &action {
            Some(Action::SetUp(setup)) => self.host = Host::SetUp(setup.clone()),
            Some(_) => self.host = Host::Clear,
            None => {}
        }
        actions.extend(action);
        if !is_said {
            self.state = Some(state.clone());
            actions.push(Action::Report(state));
        }
    }

    /// How it is, and how the host is to be set up, if it is.
    fn conclusion(&self, now: Duration) -> (Status, Option<HostSetup>) {
        // What has been set up stays while something is missing: connections go on when it is back.
        let without_route = || {
            let asked = self.host.asked().cloned();
            asked.map(|setup| HostSetup {
                on_link: false,
                default_route: false,
                ..setup
            })
        };
        if let Some(link) = self.standing_native(now)
            && self.aside.is_some_and(|aside| now >= aside.end())
        {
            return (Status::SteppingAside(link.name.clone()), None);
        }
        let Some(uplink) = self.uplink() else {
            let missing = match &self.settings.uplink {
                Some(_) => "plat-dev has no IPv6 default route",
                None => "there is no IPv6 default route",
            };
            return (Status::WaitingForLink(missing), without_route());
        };
        let Some((prefix, origin)) = self.prefix(uplink.index, now) else {
            return (
                Status::WaitingForPrefix(uplink.name.clone()),
                without_route(),
            );
        };
        let host = self.host_address(uplink, prefix);
        let (source, dedicated) = match (&self.choice.state, host) {
            (Dedicated::Ready(address), _) => (*address, true),
            (_, None) if self.choice.address().is_none() => {
                let missing = "the device of the IPv6 default route has no global IPv6 address";
                return (Status::WaitingForLink(missing), without_route());
            }
            (Dedicated::Refused(_), Some(host)) => (host, false),
            (_, Some(host)) if self.settings.source == Source::Shared => (host, false),
            // What works goes on while another one is checked.
            _ => match self.working_source(uplink) {
                Some(working) => working,
                None => return (self.choice.said(uplink), without_route()),
            },
        };
        if let Some(other) = self.network.another_clat(uplink) {
            let state = Status::AnotherClat(other.name.clone());
            return (state, without_route());
        }
        let Some(addresses) = self.addresses() else {
            let missing =
                "no two addresses of 192.0.0.0/29 are left for it (clat-v4-addr, tayga-v4-addr)";
            return (Status::WaitingForLink(missing), without_route());
        };
        let native = self.standing_native(now);
        let setup = HostSetup {
            uplink: (uplink.name.clone(), uplink.index),
            mtu: self.discovery.mtu(uplink),
            addresses,
            prefix,
            source,
            dedicated,
            on_link: true,
            default_route: self.settings.default_route && native.is_none(),
            others: self.network.other_clats(),
        };
        let state = match native {
            Some(link) => Status::SteppingAside(link.name.clone()),
            None => Status::Active(prefix, origin, uplink.name.clone()),
        };
        (state, Some(setup))
    }

    /// The source that packets leave with, and whether it is our own, as long as the host is in its network.
    fn working_source(&self, uplink: &Interface) -> Option<(Ipv6Addr, bool)> {
        let setup = self.host.in_force()?;
        let HostSetup {
            source, dedicated, ..
        } = *setup;
        let ours = self.choice.address();
        let mut hosts = uplink
            .addresses
            .iter()
            .filter(|one| Some(one.address) != ours);
        let is_there = hosts.any(|one| {
            one.is_usable()
                && if dedicated {
                    network_of(one.address) == network_of(source)
                } else {
                    one.address == source
                }
        });
        (setup.on_link && setup.uplink.1 == uplink.index && is_there).then_some((source, dedicated))
    }

    /// Whether it may still turn out that there is a network for an address of our own.
    fn is_patient(&self, now: Duration) -> bool {
        self.settings.source == Source::Auto
            && self.choice.state == Dedicated::None
            && self.discovery.patience(now).is_some()
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
        let trial = self.choice.on_trial().map(|address| AddressTest {
            uplink: (uplink.name, uplink.index),
            address,
        });
        if trial != self.trial {
            self.trial.clone_from(&trial);
            actions.push(Action::TestAddress(trial));
        }
        if let Dedicated::Refused(reason) = self.choice.state
            && !was_refused
        {
            actions.push(Action::UseHostAddress(reason));
        }
    }

    fn check_source(
        &mut self,
        uplink: &Interface,
        prefix: Nat64Prefix,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let is_announced = |one: &&Address| {
            self.discovery.is_announced(uplink.index, one.address) && !one.duplicate
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
                self.discovery.be_patient(now);
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
            if !self.damping.allows(false, now) {
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
        let setup = self.host.in_force();
        setup.is_some_and(|setup| {
            setup.on_link && setup.dedicated && setup.uplink.1 == link && setup.source == address
        })
    }

    /// The host's own address that is best; ours, while it is checked, is none.
    fn host_address(&self, uplink: &Interface, prefix: Nat64Prefix) -> Option<Ipv6Addr> {
        let ours = self.choice.address();
        let addresses = uplink.addresses.iter();
        let usable = addresses.filter(|one| one.is_usable() && Some(one.address) != ours);
        best(usable, prefix).map(|one| one.address)
    }

    /// The prefix that counts for an uplink.
    fn prefix(&self, link: u32, now: Duration) -> Option<(Nat64Prefix, Origin)> {
        let current = self.host.in_force().map(|setup| setup.prefix);
        self.discovery.prefix(&self.settings, link, current, now)
    }

    /// The IPv4 addresses of programs and of the translator. Once chosen they stay.
    fn addresses(&self) -> Option<[Ipv4Addr; 2]> {
        let Settings {
            host_v4, own_v4, ..
        } = self.settings;
        match self.host.in_force() {
            Some(setup) => Some(setup.addresses),
            None => self.network.free_addresses([host_v4, own_v4]),
        }
    }
}
