//! The CLAT: waits for what happens to the network, has [`Clat`] decide, and does it.

use std::{
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
    clat::{Action, Clat, Event, State},
    config::clatd::ClatConfig,
    wire::{dns::Answer, ndp::RouterAdvertisement},
};

use crate::{
    daemon::clat_host::ClatHost,
    daemon::watchdog::Watchdog,
    datapath::PacketPath,
    error::{Error, system},
    host::{Host, record_path},
    sys::{
        machine_id,
        ndisc::{Message, Ndisc},
        netlink::LinkChanges,
        notify::Notify,
        resolver::{self, Query},
        script::Script,
        signals::{Signal, Signals},
    },
};

/// The signal that asks what became of the packets. It does not end a CLAT, as it ends a tayga.
const REPORT: i32 = libc::SIGUSR1;
/// Changes of the network come in crowds: it is looked at once for those of so long.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// What fails is tried again after so long: soon the first time, since another instance may just have been faster.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(10);
/// Of all time, no more than one part of so many is spent on looking, whoever changes the network how often; but it is looked
/// at after so long.
const PARTS: u32 = 10;
const LONGEST_DEBOUNCE: Duration = Duration::from_secs(1);
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
const NFTABLES: usize = 4;
const NAME_SERVERS: usize = 5;
const PLACES: usize = NAME_SERVERS + resolver::MOST;

/// The CLAT, its device and all that belongs to them.
pub(crate) struct ClatDaemon {
    config: ClatConfig,
    clat: Clat,
    host: ClatHost,
    notify: Notify,
    watchdog: Option<Watchdog>,
    signals: Signals,
    changes: LinkChanges,
    /// `None` where the kernel has no nftables.
    nftables: Option<LinkChanges>,
    ndisc: Ndisc,
    query: Option<Query>,
    /// Name servers of which it was said that they cannot be asked.
    unusable_servers: Vec<String>,
    /// When to look at the network again, and how long changes of it are waited for.
    look_at: Option<Instant>,
    debounce: Duration,
    /// When to set up again what could not be, and why it could not.
    retry_at: Option<Instant>,
    failure: Option<String>,
    /// Why the network could not be looked at.
    blindness: Option<String>,
    /// How long the machine has been suspended so far.
    suspended: Duration,
    /// Why Router Advertisements were not believed.
    refused: Vec<&'static str>,
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
            host: ClatHost::new(Host::new(&record, config.offload)?),
            config,
            watchdog: notify
                .watchdog
                .map(|period| Watchdog::new(period, Instant::now())),
            notify,
            // From here on a signal ends it in order, and no change of the network is missed.
            signals: Signals::new().map_err(system("catch signals"))?,
            changes: LinkChanges::of_the_network()
                .map_err(system("watch the network by netlink"))?,
            nftables: LinkChanges::of_nftables().ok(),
            ndisc: Ndisc::new(process::id() as u16).map_err(system(
                "listen to Router Advertisements, which takes root or CAP_NET_RAW",
            ))?,
            query: None,
            unusable_servers: Vec::new(),
            look_at: Some(Instant::now()),
            debounce: DEBOUNCE,
            retry_at: None,
            failure: None,
            blindness: None,
            suspended: suspended(),
            refused: Vec::new(),
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
        if let Some(path) = &mut self.host.path {
            path.end();
        }
        if let Some(command) = self.config.script_down.as_ref().filter(|_| self.was_up) {
            match Script::start(command, &self.config.environment()) {
                Ok(mut script) => script.wait(SCRIPT_TIMEOUT),
                Err(error) => warn!("script-down: {error}"),
            }
        }
        self.host.undo_all();
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
                        Signal::Reload => {
                            info!(
                                "SIGHUP: asking the network again; settings stay until a restart"
                            );
                            self.tell(Event::Resumed, now);
                        }
                    }
                }
            }
            if !ready[CHANGES].is_empty() || !ready[NFTABLES].is_empty() {
                self.hear_of_changes(now)?;
            }
            if !ready[NDISC].is_empty() {
                self.hear_neighbours()?;
            }
            self.hear_name_servers(now)?;
            if self.look_at.is_some_and(|at| at <= now) {
                self.look_at = None;
                self.look(now);
            }
            if self.retry_at.is_some_and(|at| at <= now) {
                self.retry_at = None;
                self.tell(Event::Failed, now);
            }
            if self.host.nft_at.is_some_and(|at| at <= now) {
                self.host.nft_at = None;
                self.set(now);
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
            if let Some(path) = &mut self.host.path {
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
        if let Some(path) = &self.host.path {
            fds[TUN] = path.device.tun.as_fd();
        }
        if let Some(nftables) = &self.nftables {
            fds[NFTABLES] = nftables.as_fd();
        }
        let servers = self.query.iter().flat_map(Query::fds);
        for (place, server) in fds[NAME_SERVERS..].iter_mut().zip(servers) {
            *place = server;
        }
        let mut places = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let now = Instant::now();
        let deadlines = [
            self.host.path.as_ref().and_then(PacketPath::deadline),
            self.watchdog.as_ref().map(Watchdog::deadline),
            self.query.as_ref().map(|query| query.deadline),
            self.look_at,
            self.retry_at,
            self.host.nft_at,
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
        for changes in [&mut self.changes].into_iter().chain(&mut self.nftables) {
            for _ in 0..MESSAGES {
                let change = changes.next();
                if change
                    .map_err(system("read about the network by netlink"))?
                    .is_none()
                {
                    break;
                }
            }
        }
        let soon = now + self.debounce;
        self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
        Ok(())
    }

    /// Looks at the network, and at what has become of what was set up.
    fn look(&mut self, now: Instant) {
        let before = Instant::now();
        let network = self.host.network();
        let mut took = before.elapsed();
        match network {
            Ok(network) => {
                self.blindness = None;
                self.tell(Event::Network(network), now);
                let before = Instant::now();
                self.look_at = self.host.repair(now);
                took += before.elapsed();
            }
            Err(error) => {
                let error = error.to_string();
                if self.blindness.as_ref() != Some(&error) {
                    warn!("cannot look at the network by netlink, and tries again: {error}");
                }
                self.blindness = Some(error);
                self.look_at = Some(now + RETRY);
            }
        }
        self.debounce = (took * PARTS).clamp(DEBOUNCE, LONGEST_DEBOUNCE);
        // Somebody may have made a router of the host, or a host of the router.
        if self.host.facts_changed(&self.config) && self.retry_at.is_none() {
            self.set(now);
        }
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
        let translated = self.host.path.as_ref().map_or(0, PacketPath::translated);
        self.clat.translated(translated);
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
                    let index_of = |name: &str| self.clat.link_named(name).map(|link| link.index);
                    let query = Query::ask(link, &name, &servers, index_of, now);
                    if query.unusable != self.unusable_servers {
                        self.unusable_servers.clone_from(&query.unusable);
                        for server in &query.unusable {
                            warn!("/etc/resolv.conf: a name server cannot be asked: {server}");
                        }
                    }
                    self.query = Some(query);
                }
                Action::Try(trial) => {
                    self.host.trial = trial;
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
                    self.host.setup = Some(setup);
                    self.set(now);
                }
                Action::Rest => {
                    self.host.setup = None;
                    self.set(now);
                }
                Action::Say(state) => {
                    self.state = Some(state);
                    self.say();
                }
            }
        }
    }

    /// Says how things are, and what became of the packets so far.
    fn report(&self) {
        info!("{}", self.status());
        match &self.host.path {
            Some(path) => path.report(),
            None => info!("No packet has been translated yet"),
        }
    }

    /// Says how things are.
    fn say(&self) {
        let status = self.status();
        self.notify.send(&format!("STATUS={status}"));
        // A failure has been said.
        if self.failure.as_ref() != Some(&status) {
            info!("{status}");
        }
    }

    /// How things are; not that all is well while it is not.
    fn status(&self) -> String {
        let is_promise = matches!(
            self.state,
            Some(State::Active(..) | State::SteppingAside(_))
        );
        match (&self.failure, &self.state) {
            (Some(failure), _) if is_promise => failure.clone(),
            (_, Some(state)) => state.to_string(),
            (_, None) => "Starting".to_owned(),
        }
    }

    /// Sets the host up. What fails is tried again later, and said once.
    fn set(&mut self, now: Instant) {
        match self.host.set(&self.config, &mut self.ndisc, now) {
            Ok(()) => {
                self.retry_at = None;
                if self.failure.take().is_some() {
                    self.say();
                }
                self.has_set_up();
            }
            Err(error) => {
                let retry = if self.failure.is_none() {
                    FIRST_RETRY
                } else {
                    RETRY
                };
                let again = now + retry;
                self.retry_at = Some(self.retry_at.map_or(again, |at| at.min(again)));
                let report = error.report().replace('\n', " ");
                if self.failure.replace(report.clone()).as_ref() != Some(&report) {
                    warn!("{report}; trying again");
                    self.notify.send(&format!("STATUS={report}"));
                }
            }
        }
    }

    /// Has done so: for the first time there is more to do.
    fn has_set_up(&mut self) {
        let Some(setup) = &self.host.setup else {
            return;
        };
        if !self.was_up {
            self.host.warn_of_firewalls(&self.config.clat);
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
