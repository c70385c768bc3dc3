//! The CLAT: waits for what happens to the network, has [`Clat`] decide, and does it.

use std::{
    hash::{BuildHasher, RandomState},
    net::Ipv6Addr,
    os::fd::AsFd,
    path::Path,
    process,
    time::{Duration, Instant},
};

use log::{debug, info, warn};
use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    time::{ClockId, clock_gettime},
};
use xlatd::{
    clat::{Action, Clat, Event, Setup, State, Trial},
    config::{LogClasses, clatd::ClatConfig},
    plan::{self, Facts},
    translate::Translator,
    wire::{dns::Answer, ndp::RouterAdvertisement},
};

use crate::{
    error::{Error, system},
    host::{Host, record_path},
    packet_path::{EVERY_PACKET, PacketPath},
    sys::{
        machine_id,
        ndisc::{Message, Ndisc},
        netlink::LinkChanges,
        nft,
        notify::Notify,
        privilege,
        resolver::{self, Query},
        script::Script,
        signals::{Signal, Signals},
        sysctl, ufw,
    },
    watchdog::Watchdog,
};

/// The signal that asks what became of the packets. It does not end a CLAT, as it ends a tayga.
const REPORT: i32 = libc::SIGUSR1;
/// Changes of the network come in crowds: it is looked at once for those of so long.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// A step that fails is taken again after so long.
const RETRY: Duration = Duration::from_secs(10);
/// A machine that was suspended for so long may be in another network.
const SUSPENSION: Duration = Duration::from_secs(1);
/// script-down may take so long.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(5);
/// So many messages a turn at most: a flood of them starves nothing else.
const MESSAGES: usize = 64;

// Places in the poll set; name servers come after them.
const SIGNALS: usize = 0;
const CHANGES: usize = 1;
const NDISC: usize = 2;
const TUN: usize = 3;
const NAME_SERVERS: usize = 4;
const PLACES: usize = NAME_SERVERS + resolver::MOST;

/// The CLAT, its device and all that belongs to them.
pub(crate) struct ClatDaemon {
    config: ClatConfig,
    clat: Clat,
    host: Host,
    notify: Notify,
    watchdog: Option<Watchdog>,
    signals: Signals,
    changes: LinkChanges,
    ndisc: Ndisc,
    query: Option<Query>,
    /// `None` until there is something to translate.
    path: Option<PacketPath>,
    /// When to look at the network again.
    look_at: Option<Instant>,
    /// The address that is to be checked, and how the host is to be.
    trial: Option<Trial>,
    setup: Option<Setup>,
    /// When to set up again what could not be.
    retry_at: Option<Instant>,
    /// How long the machine has been suspended so far.
    suspended: Duration,
    /// Why Router Advertisements were not believed.
    refused: Vec<&'static str>,
    /// Whether the uplink forwarded before we came.
    is_router: Option<bool>,
    /// How it was decided to be.
    state: Option<State>,
    /// Whether programs have had IPv4 by us.
    was_up: bool,
    /// `script-up`, which may still be running.
    script: Option<Script>,
}

impl ClatDaemon {
    /// `directory` is where it is written down what is to be undone after a crash.
    pub(crate) fn start(mut config: ClatConfig, directory: &Path) -> Result<Self, Error> {
        config.clat.secret = machine_id::read();
        let record = record_path(directory, &config.clat.device);
        let notify = Notify::from_environment().unwrap_or_else(|error| {
            warn!("NOTIFY_SOCKET: cannot be reached, so nobody is told how xlatd is: {error}");
            Notify::default()
        });
        Ok(Self {
            clat: Clat::new(config.clat.clone()),
            host: Host::new(&record, config.offload)?,
            config,
            watchdog: notify
                .watchdog
                .map(|period| Watchdog::new(period, Instant::now())),
            notify,
            // From here on a signal ends it in order, and no change of the network is missed.
            signals: Signals::new().map_err(system("catch signals"))?,
            changes: LinkChanges::of_the_network()
                .map_err(system("watch the network by netlink"))?,
            ndisc: Ndisc::new(process::id() as u16).map_err(system(
                "listen to Router Advertisements, which takes root or CAP_NET_RAW",
            ))?,
            query: None,
            path: None,
            look_at: Some(Instant::now()),
            trial: None,
            setup: None,
            retry_at: None,
            suspended: suspended(),
            refused: Vec::new(),
            is_router: None,
            state: None,
            was_up: false,
            script: None,
        })
    }

    /// Runs until a signal asks to stop, and leaves no trace.
    pub(crate) fn run(&mut self) -> Result<(), Error> {
        let pid = process::id();
        self.notify
            .send_surely(&format!("READY=1\nSTATUS=Starting\nMAINPID={pid}"));
        let result = self.turn_until_stopped();
        self.notify.send("STOPPING=1\nSTATUS=Stopping");
        if let Some(path) = &mut self.path {
            path.end();
        }
        if let Some(command) = self.config.script_down.as_ref().filter(|_| self.was_up) {
            match Script::start(command, &self.config.environment()) {
                Ok(mut script) => script.wait(SCRIPT_TIMEOUT),
                Err(error) => warn!("script-down: {error}"),
            }
        }
        self.host.undo_all();
        self.path = None; // and with it the device
        result
    }

    fn turn_until_stopped(&mut self) -> Result<(), Error> {
        loop {
            let due = self.clat.deadline(boottime());
            let ready = self.wait(due)?;
            let now = Instant::now(); // one reading of the clock for the whole turn
            if let Some(watchdog) = &mut self.watchdog
                && watchdog.is_due(now)
            {
                self.notify.send("WATCHDOG=1");
            }
            if !ready[SIGNALS].is_empty() {
                for signal in self.signals.take().collect::<Vec<_>>() {
                    match signal {
                        Signal::Stop(REPORT) => self.report(),
                        Signal::Stop(number) => {
                            info!("Exiting on signal {number}");
                            return Ok(());
                        }
                        Signal::Reload => info!("SIGHUP: there is nothing to read again"),
                    }
                }
            }
            if !ready[CHANGES].is_empty() {
                self.hear_of_changes(now)?;
            }
            if !ready[NDISC].is_empty() {
                self.hear_neighbours()?;
            }
            self.hear_name_servers(now)?;
            if self.look_at.is_some_and(|at| at <= now) {
                self.look_at = None;
                self.look(now)?;
            }
            if self.retry_at.is_some_and(|at| at <= now) {
                self.retry_at = Some(now + RETRY);
                self.tell(Event::Failed, now);
            }
            let suspended = suspended();
            if suspended > self.suspended + SUSPENSION {
                self.suspended = suspended;
                self.tell(Event::Resumed, now);
            }
            // Nothing is decided because of packets.
            if due.is_some_and(|due| due <= boottime()) {
                self.tell(Event::Time, now);
            }
            if let Some(path) = &mut self.path {
                let flags = ready[TUN];
                if flags.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) {
                    return Err(path.gone());
                }
                if !flags.is_empty() {
                    path.translate_batch(now)?;
                }
                path.log_left_out(now);
            }
        }
    }

    /// Waits for input, or for the earliest deadline, of which `due` is that of the CLAT. This is the only place that waits.
    fn wait(&self, due: Option<Duration>) -> Result<[PollFlags; PLACES], Error> {
        // Something has to be at the place of what is not there.
        let mut fds = [self.signals.as_fd(); PLACES];
        fds[CHANGES] = self.changes.as_fd();
        fds[NDISC] = self.ndisc.as_fd();
        if let Some(path) = &self.path {
            fds[TUN] = path.device.tun.as_fd();
        }
        let servers = self.query.iter().flat_map(Query::fds);
        for (place, server) in fds[NAME_SERVERS..].iter_mut().zip(servers) {
            *place = server;
        }
        let mut places = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let now = Instant::now();
        let deadlines = [
            self.path.as_ref().and_then(PacketPath::deadline),
            self.watchdog.as_ref().map(Watchdog::deadline),
            self.query.as_ref().map(|query| query.deadline),
            self.look_at,
            self.retry_at,
        ];
        let left = deadlines.into_iter().flatten().min();
        let left = left.map(|deadline| deadline.saturating_duration_since(now));
        let clat = due.map(|due| due.saturating_sub(boottime()));
        let timeout = match left.into_iter().chain(clat).min() {
            None => PollTimeout::NONE,
            // Rounded up: a turn before the deadline would be for nothing.
            Some(left) => {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut places, timeout) {
            // A signal is seen by its octet in the next turn.
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(system("poll")(errno.into())),
        }
        Ok(places.map(|place| place.revents().unwrap_or(PollFlags::empty())))
    }

    /// What is said is only that something changed; what counts is how it is, a moment later.
    fn hear_of_changes(&mut self, now: Instant) -> Result<(), Error> {
        for _ in 0..MESSAGES {
            let change = self.changes.next();
            if change
                .map_err(system("read about the network by netlink"))?
                .is_none()
            {
                break;
            }
        }
        let soon = now + DEBOUNCE;
        self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
        Ok(())
    }

    /// Looks at the network, and at what has become of what was set up.
    fn look(&mut self, now: Instant) -> Result<(), Error> {
        let network = self.host.netlink.network(self.host.index());
        let network = network.map_err(system("look at the network by netlink"))?;
        self.tell(Event::Network(network), now);
        self.look_at = self.host.repair(now);
        Ok(())
    }

    fn hear_neighbours(&mut self) -> Result<(), Error> {
        for _ in 0..MESSAGES {
            let message = self.ndisc.next();
            let event = match message.map_err(system("read messages of Neighbour Discovery"))? {
                None => break,
                Some(Message::Stray(source, why)) => {
                    self.refuse(source, why);
                    continue;
                }
                Some(Message::Advertisement(link, source, octets)) => {
                    let Some(advertisement) = RouterAdvertisement::parse(octets) else {
                        self.refuse(source, "it is cut, or has an option of no length");
                        continue;
                    };
                    Event::Advertisement {
                        link,
                        advertisement,
                    }
                }
                Some(Message::Solicitation(link, source, target)) => {
                    if self.clat.answers_for(link, target) {
                        let mac = self.clat.link(link).and_then(|link| link.mac);
                        if let Err(error) = self.ndisc.answer(link, source, target, mac) {
                            debug!("cannot answer {source}, who asks for {target}: {error}");
                        }
                    }
                    continue;
                }
                Some(Message::Answer(from)) => Event::Answered { from },
            };
            self.tell(event, Instant::now());
        }
        Ok(())
    }

    /// Says why the Router Advertisement of somebody is not believed: once for each reason, whoever sends them.
    fn refuse(&mut self, source: Ipv6Addr, why: &'static str) {
        if !self.refused.contains(&why) {
            self.refused.push(why);
            warn!("A Router Advertisement of {source} is not believed: {why}");
        }
    }

    fn hear_name_servers(&mut self, now: Instant) -> Result<(), Error> {
        let Some(query) = &mut self.query else {
            return Ok(());
        };
        let link = query.link;
        let event = match query.answer() {
            Some(Answer::Addresses(addresses, ttl)) => Event::Resolved {
                link,
                addresses,
                ttl,
            },
            Some(Answer::None) => Event::Resolved {
                link,
                addresses: Vec::new(),
                ttl: Duration::ZERO,
            },
            Some(Answer::Failed) => Event::Unresolved { link },
            None if query.is_in_vain(now) => Event::Unresolved { link },
            None => return Ok(()),
        };
        self.query = None;
        self.tell(event, now);
        Ok(())
    }

    /// Tells what has happened, and does what is to be done about it.
    fn tell(&mut self, event: Event, now: Instant) {
        let actions = self.clat.handle(event, boottime());
        if let Err(error) = self.ndisc.await_answers(self.clat.probes()) {
            warn!("cannot hear answers of routers: {error}");
        }
        for action in actions {
            match action {
                Action::Solicit { link } => {
                    let mac = self.clat.link(link).and_then(|link| link.mac);
                    if let Err(error) = self.ndisc.solicit(link, mac) {
                        debug!("cannot send a Router Solicitation: {error}");
                    }
                }
                Action::Query { link, servers } => {
                    let name = self.clat.link(link).map(|link| link.name.clone());
                    let name = name.unwrap_or_default();
                    self.query = Some(Query::ask(link, &name, &servers, now));
                }
                Action::Try(trial) => {
                    self.trial = trial;
                    self.set(now);
                }
                Action::Probe { link, from, to } => {
                    if let Err(error) = self.ndisc.probe(link, from, to) {
                        debug!("cannot send a probe from {from} to {to}: {error}");
                    }
                }
                Action::Refuse(refusal) => warn!("{refusal}"),
                Action::Share(reason) => {
                    info!("Packets leave with the IPv6 address of this host: {reason}");
                }
                Action::Set(setup) => {
                    self.setup = Some(setup);
                    self.set(now);
                }
                Action::Say(state) => {
                    self.state = Some(state);
                    if self.retry_at.is_none() {
                        self.say();
                    }
                }
            }
        }
    }

    /// Says how things are, and what became of the packets so far.
    fn report(&self) {
        self.say();
        match &self.path {
            Some(path) => path.report(),
            None => info!("No packet has been translated yet"),
        }
    }

    /// Says how things are.
    fn say(&self) {
        if let Some(state) = &self.state {
            info!("{state}");
            self.notify.send(&format!("STATUS={state}"));
        }
    }

    /// Says which other chains of nftables drop our packets, and what helps: it would not be seen otherwise.
    fn warn_of_firewalls(&self) {
        let device = &self.config.clat.device;
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

    /// Sets the host up. What fails is tried again later.
    fn set(&mut self, now: Instant) {
        match self.try_to_set(now) {
            Ok(()) => {
                if self.retry_at.take().is_some() {
                    self.say();
                }
            }
            Err(error) => {
                let report = error.report();
                warn!("{report}; trying again in {} s", RETRY.as_secs());
                self.notify
                    .send(&format!("STATUS={}", report.replace('\n', " ")));
                self.retry_at = Some(now + RETRY);
            }
        }
    }

    fn try_to_set(&mut self, now: Instant) -> Result<(), Error> {
        let settings = &self.config.clat;
        let mut steps = self.trial.as_ref().map(plan::trial).unwrap_or_default();
        let Some(setup) = &self.setup else {
            return self.host.change(&steps);
        };
        let (uplink, link) = &setup.uplink;
        let ours = (setup.dedicated && setup.on_link).then_some((*link, setup.source));
        if let Err(error) = self.ndisc.hear_for(ours) {
            warn!("cannot hear neighbours that ask for our address on {uplink}: {error}");
        }
        let is_router = *self.is_router.get_or_insert_with(|| {
            ["forwarding", "force_forwarding"].iter().any(|name| {
                sysctl::read(&format!("net/ipv6/conf/{uplink}/{name}"))
                    .is_ok_and(|value| value == "1")
            })
        });
        let facts = Facts {
            forces_forwarding: sysctl::exists("net/ipv6/conf/all/force_forwarding"),
            is_router,
            has_ufw: self.config.ufw.is_some() || ufw::is_enabled() && privilege::is_root(),
        };
        steps.extend(plan::clat(settings, setup, facts));
        // The translator knows what comes before the routes lead to it.
        if let Some(path) = &mut self.path {
            path.translator.set_map(plan::clat_map(setup));
            path.translator.set_mtu(plan::clat_translation(setup).mtu);
        }
        let changed = self.host.change(&steps);
        if let Some(device) = self.host.device.take() {
            let log = if self.config.debug {
                EVERY_PACKET
            } else {
                LogClasses::default()
            };
            // RandomState has keys that nobody outside can guess.
            let seed = RandomState::new().hash_one(device.link.index);
            let map = plan::clat_map(setup);
            let translator = Translator::new(plan::clat_translation(setup), map, seed, now);
            self.path = Some(PacketPath::new(log, device, translator, None));
        }
        changed?;
        if !self.was_up {
            self.warn_of_firewalls();
        }
        if setup.default_route
            && !std::mem::replace(&mut self.was_up, true)
            && let Some(command) = &self.config.script_up
        {
            match Script::start(command, &self.config.environment()) {
                Ok(script) => self.script = Some(script),
                Err(error) => warn!("script-up: {error}"),
            }
        }
        Ok(())
    }
}

/// How long the machine has been suspended since it started.
fn suspended() -> Duration {
    let awake = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    boottime().saturating_sub(awake)
}

/// Since the machine started, suspended time included.
fn boottime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}
