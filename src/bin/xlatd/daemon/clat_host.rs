//! The host of a CLAT: its set-up, and the packet path while there is one.

use std::{
    io,
    net::Ipv6Addr,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use log::{debug, info, warn};
use xlatd::{
    addr::Nat64Prefix,
    clat::{AddressTest, Clat, HostSetup, Network, Settings, Traffic, Way},
    config::{LogClasses, clatd::ClatConfig},
    link::LinkRef,
    plan::{self, Facts, Resource, Step},
    report::hints::{self, Hints},
    translate::{Direction, Translator},
};

use crate::{
    daemon::neighbours::Neighbours,
    datapath::{EVERY_PACKET, PacketPath, device::Device, uplink},
    error::Error,
    host::{Host, forwarding},
    sys::{firewall::ufw, ndisc::Ndisc, privilege, random, sysctl},
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
    /// `None` while there is no CLAT address that can be used.
    neighbours: Option<Neighbours>,
    /// Whether nftables works, as far as known.
    has_nft: bool,
    /// Whether it can ask for sockets, as far as known.
    matches_sockets: bool,
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
            neighbours: None,
            has_nft: false,
            matches_sockets: false,
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

    /// The descriptor of messages of neighbours.
    pub(crate) fn neighbours(&self) -> Option<BorrowedFd<'_>> {
        self.neighbours.as_ref().map(AsFd::as_fd)
    }

    /// Answers neighbours that solicit the CLAT address.
    pub(crate) fn answer_neighbours(&mut self, clat: &Clat) {
        if let Some(neighbours) = &mut self.neighbours {
            let (link, _) = neighbours.place();
            let mac = clat.link(link).and_then(|link| link.mac);
            if let Err(error) = neighbours.answer(mac) {
                debug!("cannot read Neighbour Solicitations any more: {error}");
                self.neighbours = None;
            }
        }
    }

    /// Begins to answer neighbours that solicit this address on this link, and tells them of it; or
    /// ends it.
    fn answer_for(&mut self, place: Option<(u32, Ipv6Addr)>, clat: &Clat, ndisc: &mut Ndisc) {
        if self.neighbours.as_ref().map(Neighbours::place) != place {
            self.neighbours = None;
            let opened = place.map(|(link, address)| Neighbours::new(link, address));
            match ndisc.join_solicited_node(place).and(opened.transpose()) {
                Ok(neighbours) => self.neighbours = neighbours,
                Err(error) => warn!("cannot answer neighbours for the CLAT address: {error}"),
            }
        }
        if let Some(neighbours) = &mut self.neighbours {
            let (link, _) = neighbours.place();
            neighbours.announce(clat.link(link).and_then(|link| link.mac));
        }
    }

    /// What is set up, a resource a line.
    pub(crate) fn set_up(&self) -> Vec<String> {
        self.host.set_up()
    }

    /// The number of repairs so far.
    pub(crate) fn repairs(&self) -> u64 {
        self.host.repairs()
    }

    /// The packets translated so far.
    pub(crate) fn traffic(&self) -> Traffic {
        let traffic = |path: &PacketPath| Traffic {
            out: path.stats().translated(Direction::FourToSix),
            back: path.stats().answers(),
        };
        self.path.as_ref().map(traffic).unwrap_or_default()
    }

    /// The wanted set-up; `None` while no IPv4 is wanted.
    pub(crate) fn setup(&self) -> Option<&HostSetup> {
        self.setup.as_ref()
    }

    /// The devices between which the host forwards IPv6 packets of the CLAT: the TUN device, and
    /// the uplink. `None` while it does not: then firewalls have no say.
    pub(crate) fn forwards_between(&self, settings: &Settings) -> Option<[LinkRef; 2]> {
        let setup = self.setup.as_ref().filter(|setup| setup.way.is_forwarded());
        let uplink = setup?.uplink.clone();
        let device = LinkRef::new(self.host.index()?, &settings.device);
        Some([device, uplink])
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

    /// Reads the state of the network, without the CLAT's own device; of routes those that matter
    /// for these prefixes.
    pub(crate) fn network(&mut self, prefixes: &[Nat64Prefix]) -> io::Result<Network> {
        let own = self.host.index();
        self.host.netlink.network(own, prefixes)
    }

    /// Repairs the set-up; see [`Host::repair`].
    pub(crate) fn repair(&mut self, now: Instant) -> Option<Instant> {
        self.host.repair(now)
    }

    /// Whether the facts about the host have changed since it was set up: above all, whether it
    /// forwards.
    pub(crate) fn facts_changed(&mut self, config: &ClatConfig) -> bool {
        let before = self.facts;
        before.is_some() && before != self.facts(config)
    }

    /// Changes what is wanted of the host, and sets it up.
    pub(crate) fn apply(
        &mut self,
        request: HostRequest,
        config: &ClatConfig,
        clat: &Clat,
        ndisc: &mut Ndisc,
        now: Instant,
    ) -> Result<(), Error> {
        match request {
            HostRequest::TestAddress(trial) => self.trial = trial,
            HostRequest::SetUp(setup) => self.setup = setup,
            HostRequest::Repeat => {}
        }
        let result = self.try_to_apply(config, clat, ndisc, now);
        if let Err(Error::Step { step, .. }) = &result
            && matches!(step, Step::Apply(Resource::Ruleset { .. }))
            && std::mem::replace(&mut self.has_nft, false)
        {
            // nftables has stopped working: try without it.
            return self.try_to_apply(config, clat, ndisc, now);
        }
        result
    }

    /// Has the plan of the wanted test and set-up carried out, and makes the packet path once the
    /// device is attached.
    fn try_to_apply(
        &mut self,
        config: &ClatConfig,
        clat: &Clat,
        ndisc: &mut Ndisc,
        now: Instant,
    ) -> Result<(), Error> {
        let trial = self.trial.as_ref().map(|trial| {
            let is_used = |setup: &HostSetup| setup.source == trial.address;
            let was_used = self.has_nft && self.setup.as_ref().is_some_and(is_used);
            plan::trial(&config.clat, trial, was_used)
        });
        let mut wanted = trial.unwrap_or_default();
        let (Some(setup), Some(mut facts)) = (self.setup.clone(), self.facts(config)) else {
            return self.tear_down(wanted, clat, ndisc);
        };
        let setup = &setup;
        let settings = &config.clat;
        self.answer_for(setup.answers_for(), clat, ndisc);
        if setup.way.is_dedicated() && !self.has_nft {
            self.look_for_nft(settings, setup, facts, now);
            facts.has_nft = self.has_nft;
            facts.matches_sockets = self.matches_sockets;
        }
        wanted.extend(plan::clat(settings, setup, facts));
        // Before routes send packets to the translator.
        let uplink = match &setup.way {
            Way::Direct(next_hop) => Some(uplink::Place {
                link: setup.uplink.clone(),
                address: setup.source,
                next_hop: next_hop.clone(),
            }),
            Way::Forwarded(_) | Way::Shared(_) => None,
        };
        let mut opened = Ok(());
        if let Some(path) = &mut self.path {
            path.set_map(plan::clat_map(setup));
            path.set_mtu(plan::clat_translation(config, setup.mtu).mtu);
            opened = path.set_uplink(uplink.clone());
        }
        let changed = self.host.change(wanted);
        if let Some(device) = self.host.device.take() {
            // Whatever comes of it, the path keeps the device, which the host has as set up.
            let path = self.path.insert(packet_path(device, config, setup));
            opened = path.set_uplink(uplink);
        }
        let before = self.facts.replace(facts);
        if facts.is_router && !before.is_some_and(|before| before.is_router) {
            info!(
                "This host is a router: it goes on forwarding for others, and accepts no new \
                 connections by {}",
                settings.device
            );
        }
        changed.and(opened)
    }

    /// Has only these resources on the host while no IPv4 is wanted, and removes the device.
    fn tear_down(
        &mut self,
        wanted: Vec<Resource>,
        clat: &Clat,
        ndisc: &mut Ndisc,
    ) -> Result<(), Error> {
        self.facts = None;
        self.answer_for(None, clat, ndisc);
        if let Some(path) = &mut self.path {
            path.end(&[]);
        }
        let changed = self.host.change(wanted);
        self.path = None; // removes the device
        changed
    }

    /// The current facts about the host; `None` while no IPv4 is wanted.
    fn facts(&mut self, config: &ClatConfig) -> Option<Facts> {
        let setup = self.setup.as_ref()?;
        let uplink = &setup.uplink;
        let next_hop = plan::next_hop_object(&config.clat, setup);
        Some(Facts {
            filters_strictly: ["all", "default"]
                .iter()
                .any(|device| sysctl::is_on(&plan::conf_path(device, plan::RP_FILTER))),
            has_next_hop_object: self.host.can_have_next_hop_object(&next_hop),
            forces_forwarding: forwarding::is_by_device(),
            is_router: self.host.is_router(uplink),
            has_nft: self.has_nft,
            matches_sockets: self.matches_sockets,
            has_ufw: config.ufw.is_some() || ufw::is_enabled() && privilege::is_root(),
        })
    }

    /// Checks whether nftables works, for a set-up that can do without it. Warns once if it does
    /// not.
    fn look_for_nft(&mut self, settings: &Settings, setup: &HostSetup, facts: Facts, now: Instant) {
        let before = Instant::now();
        let name = plan::ruleset_name(settings, &setup.way);
        let check = |matches_sockets| {
            let facts = Facts {
                matches_sockets,
                ..facts
            };
            let ruleset = plan::ruleset(settings, setup, facts);
            self.host.firewall.nft.check(&name, &ruleset)
        };
        // Older ones do nearly all.
        let works = check(true).map(|()| true);
        let error = match works.or_else(|_| check(false).map(|()| false)) {
            Ok(matches_sockets) => {
                self.has_nft = true;
                self.matches_sockets = matches_sockets;
                return;
            }
            Err(error) => error,
        };
        // An administrator may install it later.
        self.nft_at = Some(now + RETRY.max(before.elapsed() * RETRY_FACTOR));
        if !std::mem::replace(&mut self.lacks_nft, true) {
            let forwards = match setup.way {
                Way::Direct(_) => "",
                Way::Forwarded(_) | Way::Shared(_) => ", and it forwards their packets",
            };
            warn!(
                "No nftables: unless another firewall prevents it, neighbours on {} can connect to \
                 IPv4 services of this host{forwards}: {error}",
                setup.uplink
            );
        }
    }

    /// Undoes everything, and removes the device.
    pub(crate) fn undo_all(&mut self) {
        self.host.undo_all();
        self.path = None;
    }
}

/// The packet path of a set-up, as yet without an uplink of its own.
fn packet_path(device: Device, config: &ClatConfig, setup: &HostSetup) -> PacketPath {
    let log = if config.debug {
        EVERY_PACKET
    } else {
        LogClasses::default()
    };
    let settings = plan::clat_translation(config, setup.mtu);
    let translator = Translator::new(settings, plan::clat_map(setup), random::seed());
    let hints = Hints::new(hints::Settings::Clat {
        device: config.clat.device.clone(),
    });
    PacketPath::new(log, hints, device, translator, None)
}
