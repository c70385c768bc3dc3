//! What a CLAT has set up on its host, and the packets that it translates there.

use std::{
    io,
    time::{Duration, Instant},
};

use log::{debug, info, warn};
use xlatd::{
    clat::{AddressTest, HostSetup, Network, Settings},
    config::{LogClasses, clatd::ClatConfig},
    plan::{self, Facts, Step},
    report::hints::{self, Hints},
    translate::Translator,
};

use crate::{
    datapath::{EVERY_PACKET, PacketPath},
    error::Error,
    host::Host,
    host::forwarding,
    sys::{
        firewall::{nft, ufw},
        ndisc::Ndisc,
        privilege, random, sysctl,
    },
};

/// nft is looked for again after so long, and after so many times the time that it took to look.
const RETRY: Duration = Duration::from_secs(10);
const RETRY_FACTOR: u32 = 20;

/// A change of how the host is to be.
pub(crate) enum Wish {
    /// An address is to be tested, or no more.
    Trial(Option<AddressTest>),
    /// There is to be IPv4 by us, or no more.
    Setup(Option<HostSetup>),
    /// All is to be as it was wished before.
    Same,
}

/// The host of a CLAT.
pub(crate) struct ClatHost {
    host: Host,
    /// The address that is to be tested.
    trial: Option<AddressTest>,
    /// How the host is to be.
    setup: Option<HostSetup>,
    /// What was known of the host when it was set up so.
    facts: Option<Facts>,
    /// `None` until there is something to translate.
    path: Option<PacketPath>,
    /// Whether nftables have been seen to work, or been missed, and when to see whether they do by now.
    has_nft: bool,
    lacks_nft: bool,
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

    /// Device and translator, while there is something to translate.
    pub(crate) fn path(&self) -> Option<&PacketPath> {
        self.path.as_ref()
    }

    /// The same, to be changed.
    pub(crate) fn path_mut(&mut self) -> Option<&mut PacketPath> {
        self.path.as_mut()
    }

    /// How the host is to be; `None` while there is to be no IPv4 by us.
    pub(crate) fn setup(&self) -> Option<&HostSetup> {
        self.setup.as_ref()
    }

    /// The time to see whether there are nftables by now, and to [`set`](Self::set) the host up again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.nft_at
    }

    /// Whether it is that time; if so, it is taken for granted.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        self.nft_at.take_if(|at| *at <= now).is_some()
    }

    /// What there is of the network, but for our own device.
    pub(crate) fn network(&mut self) -> io::Result<Network> {
        self.host.netlink.network(self.host.index())
    }

    /// Does again what others have undone; see [`Host::repair`].
    pub(crate) fn repair(&mut self, now: Instant) -> Option<Instant> {
        self.host.repair(now)
    }

    /// Whether the host is another one than when it was set up: somebody has made a router of it, or a host of the router.
    pub(crate) fn facts_changed(&self, config: &ClatConfig) -> bool {
        self.facts.is_some() && self.facts != self.facts(config)
    }

    /// Changes how the host is to be, and sets it up so.
    pub(crate) fn set(
        &mut self,
        wish: Wish,
        config: &ClatConfig,
        ndisc: &mut Ndisc,
        now: Instant,
    ) -> Result<(), Error> {
        match wish {
            Wish::Trial(trial) => self.trial = trial,
            Wish::Setup(setup) => self.setup = setup,
            Wish::Same => {}
        }
        let result = self.try_to_set(config, ndisc, now);
        if let Err(Error::Step { step, .. }) = &result
            && matches!(step, Step::LoadRuleset { .. })
            && std::mem::replace(&mut self.has_nft, false)
        {
            // nft has worked so far. Perhaps it can be done without.
            return self.try_to_set(config, ndisc, now);
        }
        result
    }

    fn try_to_set(
        &mut self,
        config: &ClatConfig,
        ndisc: &mut Ndisc,
        now: Instant,
    ) -> Result<(), Error> {
        let mut steps = self.trial.as_ref().map(plan::trial).unwrap_or_default();
        let (Some(setup), Some(mut facts)) = (self.setup.clone(), self.facts(config)) else {
            return self.rest(&steps, ndisc);
        };
        let setup = &setup;
        let settings = &config.clat;
        let (uplink, link) = &setup.uplink;
        let ours = (setup.dedicated && setup.on_link).then_some((*link, setup.source));
        if let Err(error) = ndisc.hear_for(ours) {
            warn!("cannot hear neighbours that ask for our address on {uplink}: {error}");
        }
        if setup.dedicated && !self.has_nft {
            self.look_for_nft(settings, setup, facts, now);
            facts.has_nft = self.has_nft;
        }
        steps.extend(plan::clat(settings, setup, facts));
        // The translator knows what comes before the routes lead to it.
        if let Some(path) = &mut self.path {
            path.set_map(plan::clat_map(setup));
            path.set_mtu(plan::clat_translation(setup).mtu);
        }
        let changed = self.host.change(&steps);
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
                "This host is a router: what others have it forward passes, and nothing new comes in by {}",
                settings.device
            );
        }
        changed
    }

    /// Sets nothing up but this, and lets the device go.
    fn rest(&mut self, steps: &[Step], ndisc: &mut Ndisc) -> Result<(), Error> {
        self.facts = None;
        if let Err(error) = ndisc.hear_for(None) {
            debug!("cannot hear neighbours no more: {error}");
        }
        if let Some(path) = &mut self.path {
            path.end();
        }
        let changed = self.host.change(steps);
        self.path = None; // and with it the device
        changed
    }

    /// What is to be known of the host; `None` while nothing is to be set up.
    fn facts(&self, config: &ClatConfig) -> Option<Facts> {
        let (uplink, index) = &self.setup.as_ref()?.uplink;
        let path = plan::force_forwarding(uplink);
        let forces = sysctl::is_on(&path);
        // As undos, they say what was set by a CLAT, this one or another, as far as that is known.
        let by_device = Step::SetSysctl {
            path: path.clone(),
            value: String::new(),
            only_if: None,
            index: *index,
        };
        let as_a_whole = Step::ForwardNoMore {
            routers: Vec::new(),
        };
        Some(Facts {
            forces_forwarding: sysctl::exists(&plan::force_forwarding("all")),
            is_router: forwarding::is_router(uplink)
                || forwarding::is_forced_for_all(&path)
                || self.host.has_record()
                    && (forces && !self.host.has_set(&by_device)
                        || forwarding::is_on().unwrap_or(false) && !self.host.has_set(&as_a_whole)),
            has_nft: self.has_nft,
            has_ufw: config.ufw.is_some() || ufw::is_enabled() && privilege::is_root(),
        })
    }

    /// Sees whether nftables work, where it is possible to do without them; if not, says once what that means.
    fn look_for_nft(&mut self, settings: &Settings, setup: &HostSetup, facts: Facts, now: Instant) {
        let before = Instant::now();
        let ruleset = plan::ruleset(settings, setup, facts);
        let Err(error) = nft::check(&plan::ruleset_name(settings), &ruleset) else {
            self.has_nft = true;
            return;
        };
        // Somebody may install it in the meantime.
        self.nft_at = Some(now + RETRY.max(before.elapsed() * RETRY_FACTOR));
        if !std::mem::replace(&mut self.lacks_nft, true) {
            warn!(
                "No nftables, without which neighbours on {} can open connections to IPv4 services of this host, and \
                 have it forward their packets, unless another firewall forbids it: {error}",
                setup.uplink.0
            );
        }
    }

    /// Undoes everything, and lets the device go.
    pub(crate) fn undo_all(&mut self) {
        self.host.undo_all();
        self.path = None;
    }

    /// Says which other chains of nftables drop our packets, and what helps: it would not be seen otherwise.
    pub(crate) fn warn_of_firewalls(&self, settings: &Settings) {
        let device = &settings.device;
        if let Some(setup) = &self.setup
            && ufw::is_enabled()
            && !privilege::is_root()
        {
            let [there, back] =
                plan::allow_in_ufw(device, &setup.uplink.0).map(|step| step.command());
            warn!(
                "ufw drops what is forwarded, and only root can have it let our packets pass: {there}; {back}"
            );
        }
        for chain in plan::dropping_chains(&nft::chains().unwrap_or_default()) {
            warn!(
                "The chain {chain} of nftables drops what is forwarded. If IPv4 does not pass: nft insert rule {chain} \
                 iifname {device} accept; nft insert rule {chain} oifname {device} ct state established,related accept"
            );
        }
    }
}
