//! The host of a CLAT: its set-up, and the packet path while there is one.

use std::{
    io,
    time::{Duration, Instant},
};

use log::{debug, info, warn};
use xlatd::{
    clat::{AddressTest, HostSetup, Network, Settings},
    config::{LogClasses, clatd::ClatConfig},
    plan::{self, Facts, Resource, Step},
    report::hints::{self, Hints},
    translate::Translator,
};

use crate::{
    datapath::{EVERY_PACKET, PacketPath},
    error::Error,
    host::{Host, forwarding},
    sys::{firewall::ufw, ndisc::Ndisc, privilege, random},
};

/// The shortest time between two checks for nftables.
const RETRY: Duration = Duration::from_secs(10);
/// The time between two checks for nftables, as a multiple of the duration of a check.
const RETRY_FACTOR: u32 = 20;

/// A change of what is wanted of the host.
pub(crate) enum HostRequest {
    /// Test this address, or none.
    TestAddress(Option<AddressTest>),
    /// Set up IPv4, or tear it down.
    SetUp(Option<HostSetup>),
    /// No change: set up again what was wanted before.
    Repeat,
}

/// The host of a CLAT.
pub(crate) struct ClatHost {
    host: Host,
    /// The wanted test of an address.
    trial: Option<AddressTest>,
    /// The wanted set-up.
    setup: Option<HostSetup>,
    /// The facts about the host that the set-up is based on.
    facts: Option<Facts>,
    /// `None` while nothing is set up.
    path: Option<PacketPath>,
    /// Whether nftables works, as far as known.
    has_nft: bool,
    /// Whether missing nftables was logged.
    lacks_nft: bool,
    /// The time of the next check for nftables.
    nft_at: Option<Instant>,
}

impl ClatHost {
    pub(crate) fn new(host: Host) -> Self {
        Self {
            host,
            trial: None,
            setup: None,
            facts: None,
            path: None,
            has_nft: false,
            lacks_nft: false,
            nft_at: None,
        }
    }

    /// The packet path, while IPv4 is set up.
    pub(crate) fn path(&self) -> Option<&PacketPath> {
        self.path.as_ref()
    }

    /// The packet path, mutably.
    pub(crate) fn path_mut(&mut self) -> Option<&mut PacketPath> {
        self.path.as_mut()
    }

    /// The wanted set-up; `None` while no IPv4 is wanted.
    pub(crate) fn setup(&self) -> Option<&HostSetup> {
        self.setup.as_ref()
    }

    /// The time to check for nftables again, and to [`apply`](Self::apply) the set-up again with
    /// it.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.nft_at
    }

    /// Whether the [deadline](Self::deadline) has passed; if so, it is cleared.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        self.nft_at.take_if(|at| *at <= now).is_some()
    }

    /// Reads the state of the network, without the CLAT's own device.
    pub(crate) fn network(&mut self) -> io::Result<Network> {
        self.host.netlink.network(self.host.index())
    }

    /// Repairs the set-up; see [`Host::repair`].
    pub(crate) fn repair(&mut self, now: Instant) -> Option<Instant> {
        self.host.repair(now)
    }

    /// Whether the facts about the host have changed since it was set up: above all, whether it
    /// forwards.
    pub(crate) fn facts_changed(&self, config: &ClatConfig) -> bool {
        self.facts.is_some() && self.facts != self.facts(config)
    }

    /// Changes what is wanted of the host, and sets it up.
    pub(crate) fn apply(
        &mut self,
        request: HostRequest,
        config: &ClatConfig,
        ndisc: &mut Ndisc,
        now: Instant,
    ) -> Result<(), Error> {
        match request {
            HostRequest::TestAddress(trial) => self.trial = trial,
            HostRequest::SetUp(setup) => self.setup = setup,
            HostRequest::Repeat => {}
        }
        let result = self.try_to_apply(config, ndisc, now);
        if let Err(Error::Step { step, .. }) = &result
            && matches!(step, Step::Apply(Resource::Ruleset { .. }))
            && std::mem::replace(&mut self.has_nft, false)
        {
            // nftables has stopped working: try without it.
            return self.try_to_apply(config, ndisc, now);
        }
        result
    }

    /// Has the plan of the wanted test and set-up carried out, and makes the packet path once the
    /// device is attached.
    fn try_to_apply(
        &mut self,
        config: &ClatConfig,
        ndisc: &mut Ndisc,
        now: Instant,
    ) -> Result<(), Error> {
        let mut wanted = self.trial.as_ref().map(plan::trial).unwrap_or_default();
        let (Some(setup), Some(mut facts)) = (self.setup.clone(), self.facts(config)) else {
            return self.tear_down(wanted, ndisc);
        };
        let setup = &setup;
        let settings = &config.clat;
        let uplink = &setup.uplink;
        let target = (setup.dedicated && setup.on_link).then_some((uplink.index, setup.source));
        if let Err(error) = ndisc.receive_solicitations_for(target) {
            warn!(
                "cannot receive Neighbour Solicitations for the CLAT address on {uplink}: {error}"
            );
        }
        if setup.dedicated && !self.has_nft {
            self.look_for_nft(settings, setup, facts, now);
            facts.has_nft = self.has_nft;
        }
        wanted.extend(plan::clat(settings, setup, facts));
        // Before routes send packets to the translator.
        if let Some(path) = &mut self.path {
            path.set_map(plan::clat_map(setup));
            path.set_mtu(plan::clat_translation(setup).mtu);
        }
        let changed = self.host.change(wanted);
        if let Some(device) = self.host.device.take() {
            let log = if config.debug {
                EVERY_PACKET
            } else {
                LogClasses::default()
            };
            let map = plan::clat_map(setup);
            let seed = random::seed();
            let translator = Translator::new(plan::clat_translation(setup), map, seed);
            let hints = Hints::new(hints::Settings::Clat);
            self.path = Some(PacketPath::new(log, hints, device, translator, None));
        }
        let before = self.facts.replace(facts);
        if facts.is_router && !before.is_some_and(|before| before.is_router) {
            info!(
                "This host is a router: it goes on forwarding for others, and accepts no new \
                 connections by {}",
                settings.device
            );
        }
        changed
    }

    /// Has only these resources on the host while no IPv4 is wanted, and removes the device.
    fn tear_down(&mut self, wanted: Vec<Resource>, ndisc: &mut Ndisc) -> Result<(), Error> {
        self.facts = None;
        if let Err(error) = ndisc.receive_solicitations_for(None) {
            debug!("cannot stop listening to neighbours: {error}");
        }
        if let Some(path) = &mut self.path {
            path.end();
        }
        let changed = self.host.change(wanted);
        self.path = None; // removes the device
        changed
    }

    /// The current facts about the host; `None` while no IPv4 is wanted.
    fn facts(&self, config: &ClatConfig) -> Option<Facts> {
        let uplink = &self.setup.as_ref()?.uplink;
        Some(Facts {
            forces_forwarding: forwarding::is_by_device(),
            is_router: self.host.is_router(uplink),
            has_nft: self.has_nft,
            has_ufw: config.ufw.is_some() || ufw::is_enabled() && privilege::is_root(),
        })
    }

    /// Checks whether nftables works, for a set-up that can do without it. Warns once if it does
    /// not.
    fn look_for_nft(&mut self, settings: &Settings, setup: &HostSetup, facts: Facts, now: Instant) {
        let before = Instant::now();
        let ruleset = plan::ruleset(settings, setup, facts);
        let Err(error) = self
            .host
            .firewall
            .nft
            .check(&plan::ruleset_name(settings), &ruleset)
        else {
            self.has_nft = true;
            return;
        };
        // An administrator may install it later.
        self.nft_at = Some(now + RETRY.max(before.elapsed() * RETRY_FACTOR));
        if !std::mem::replace(&mut self.lacks_nft, true) {
            warn!(
                "No nftables: unless another firewall prevents it, neighbours on {} can connect to \
                 IPv4 services of this host, and it forwards their packets: {error}",
                setup.uplink
            );
        }
    }

    /// Undoes everything, and removes the device.
    pub(crate) fn undo_all(&mut self) {
        self.host.undo_all();
        self.path = None;
    }

    /// Warns of ufw and of nftables chains that drop forwarded packets, with the commands that
    /// help: nothing else would show it.
    pub(crate) fn warn_of_firewalls(&self, settings: &Settings) {
        let device = &settings.device;
        if let Some(setup) = &self.setup
            && ufw::is_enabled()
            && !privilege::is_root()
        {
            let [there, back] =
                plan::ufw_rules(device, &setup.uplink.name).map(|rule| rule.command());
            warn!(
                "ufw drops forwarded packets, and only root can have it accept those of the CLAT: \
                 {there}; {back}"
            );
        }
        let chains = self.host.firewall.nft.chains();
        for chain in plan::dropping_chains(&chains.unwrap_or_default()) {
            warn!(
                "The nftables chain {chain} drops forwarded packets. If IPv4 does not pass: \
                 nft insert rule {chain} iifname {device} accept; \
                 nft insert rule {chain} oifname {device} ct state established,related accept"
            );
        }
    }
}
