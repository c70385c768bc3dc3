//! The CLAT daemon: passes events of the network to [`Clat`], and carries out the actions that it
//! decides.

use std::{
    net::Ipv6Addr,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    process,
    time::{Duration, Instant},
};

use log::{debug, info, warn};
use nix::{
    libc,
    time::{ClockId, clock_gettime},
};
use xlatd::{
    addr::Nat64Prefix,
    clat::{
        Action, Clat, Event, Held, Rescan, Retry, Servers, Status,
        neighbour::{InvalidAdvertisement, Message},
    },
    config::clatd::ClatConfig,
    report::status::{self as report, Kind, Maps, Process},
};

use crate::{
    daemon::{
        clat_host::{ClatHost, HostRequest},
        file_as_read::FileAsRead,
        firewall_watch::FirewallWatch,
        service::{Guest, INPUTS, Service, Turn},
    },
    datapath::{PacketPath, device::Offload},
    error::{Error, system},
    host::{Host, journal_path},
    sys::{
        firewall::Firewall,
        machine_id,
        ndisc::Ndisc,
        netlink::LinkChanges,
        random,
        resolver::{LinkStates, Query},
        script::Script,
    },
};

/// The delay before the network is scanned again after a failure.
const SCAN_RETRY: Duration = Duration::from_secs(10);
/// The shortest suspension after which the machine may be in another network.
const MIN_SUSPENSION: Duration = Duration::from_secs(1);
/// The time limit of script-down.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of messages read in a turn, so that a flood starves nothing else.
const MAX_MESSAGES: usize = 64;

// Indices in the inputs.
const CHANGES: usize = 0;
const NDISC: usize = 1;
const NFTABLES: usize = 2;
const NEIGHBOURS: usize = 3;
const NAME_SERVERS: usize = 4;

/// The CLAT and its host, with the sources of events.
pub(crate) struct ClatDaemon {
    config: ClatConfig,
    /// `None`: there is none.
    configuration: Option<FileAsRead>,
    clat: Clat,
    /// The [deadline](Clat::deadline) of the CLAT in this turn, by the boot time clock.
    due: Option<Duration>,
    host: ClatHost,
    changes: LinkChanges,
    /// `None` where the kernel has no nftables.
    nftables: Option<LinkChanges>,
    ndisc: Ndisc,
    link_states: LinkStates,
    query: Option<Query>,
    /// Unusable name servers that were logged.
    unusable_servers: Vec<String>,
    rescan: Rescan,
    /// The advertisements that have come since the network changed, while that is still to be
    /// scanned: the scan may find that a link was down, and forgets what is of the network before.
    held: Held,
    /// The firewalls that packets of the CLAT pass.
    firewalls: FirewallWatch,
    /// The NAT64 prefixes that were known at the last scan of the network.
    scanned: Vec<Nat64Prefix>,
    /// Whether no packet socket can be opened, which the CLAT is still to be told.
    lacks_packet_sockets: bool,
    /// The error of the last scan of the network, if it failed.
    scan_error: Option<String>,
    /// The retry of a set-up of the host that failed.
    retry: Retry,
    /// The time that the machine has been suspended since boot.
    suspended: Duration,
    /// The identifier of probes.
    identifier: u16,
    /// Reasons for ignored Router Advertisements that were logged.
    ignored: Vec<InvalidAdvertisement>,
    /// The state that was decided last.
    state: Option<Status>,
    /// Whether IPv4 has had a default route: script-up was due then, and script-down is at the end.
    was_up: bool,
    /// `script-up`, which may still be running.
    script: Option<Script>,
}

/// Undoes what a crash left behind, and opens the sources of events. `directory` holds the undo
/// journal.
pub(crate) fn start(
    mut config: ClatConfig,
    configuration: Option<FileAsRead>,
    directory: &Path,
    link_states: LinkStates,
) -> Result<(Service, ClatDaemon), Error> {
    config.clat.secret = machine_id::read();
    let journal = journal_path(directory, &config.clat.device);
    let firewall = Firewall::new(&config.nft, config.ufw.as_deref());
    // A packet socket may have super-packets for the device also where the device has none.
    let offload = match config.offload {
        true => Offload::Both,
        false => Offload::ToKernel,
    };
    let host = Host::with_journal(&journal, firewall, offload)?;
    let host = ClatHost::new(host);
    let service = Service::new()?;
    let identifier = process::id() as u16;
    let daemon = ClatDaemon {
        clat: Clat::new(config.clat.clone()),
        due: None,
        host,
        config,
        configuration,
        // Before the first scan, so that no later change of the network is missed.
        changes: LinkChanges::of_the_network().map_err(system("watch the network by netlink"))?,
        nftables: LinkChanges::of_nftables().ok(),
        ndisc: Ndisc::new(identifier).map_err(system(
            "listen to Router Advertisements, which requires root or CAP_NET_RAW",
        ))?,
        link_states,
        query: None,
        unusable_servers: Vec::new(),
        rescan: Rescan::new(Instant::now()),
        held: Held::default(),
        firewalls: FirewallWatch::new(),
        scanned: Vec::new(),
        lacks_packet_sockets: false,
        scan_error: None,
        retry: Retry::default(),
        suspended: suspended(),
        identifier,
        ignored: Vec::new(),
        state: None,
        was_up: false,
        script: None,
    };
    Ok((service, daemon))
}

impl Guest for ClatDaemon {
    const REPORT: Option<i32> = Some(libc::SIGUSR1);

    /// Runs script-down, and undoes the set-up of the host.
    fn end(&mut self) {
        if let Some(path) = self.host.path_mut() {
            path.end(&[]);
        }
        if let Some(command) = self.config.script_down.as_ref().filter(|_| self.was_up) {
            match Script::start(command, &self.config.environment()) {
                Ok(mut script) => script.wait(SCRIPT_TIMEOUT),
                Err(error) => warn!("script-down: {error}"),
            }
        }
        self.host.undo_all();
    }

    fn path(&self) -> Option<&PacketPath> {
        self.host.path()
    }

    fn path_mut(&mut self) -> Option<&mut PacketPath> {
        self.host.path_mut()
    }

    fn inputs(&self) -> [Option<BorrowedFd<'_>>; INPUTS] {
        let mut inputs = [None; INPUTS];
        inputs[CHANGES] = Some(self.changes.as_fd());
        inputs[NDISC] = Some(self.ndisc.as_fd());
        inputs[NFTABLES] = self.nftables.as_ref().map(AsFd::as_fd);
        inputs[NEIGHBOURS] = self.host.neighbours();
        inputs[NAME_SERVERS] = self.query.as_ref().map(AsFd::as_fd);
        inputs
    }

    fn deadline(&mut self) -> Option<Instant> {
        let (now, since_start) = (Instant::now(), boottime());
        let is_news = self.clat.passed(self.host.traffic(), since_start);
        self.due = if is_news {
            Some(since_start)
        } else {
            self.clat.deadline()
        };
        let deadlines = [
            self.due
                .and_then(|due| now.checked_add(due.saturating_sub(since_start))),
            self.query.as_ref().map(Query::deadline),
            self.rescan.deadline(),
            self.firewalls.deadline(),
            self.retry.deadline(),
            self.lacks_packet_sockets.then_some(now),
            self.host.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn turn(&mut self, turn: &Turn<'_>) -> Result<(), Error> {
        if turn.is_ready(CHANGES) || turn.is_ready(NFTABLES) {
            self.read_changes(turn)?;
        }
        if turn.is_ready(NDISC) {
            self.read_ndisc(turn)?;
        }
        if turn.is_ready(NEIGHBOURS) {
            self.host.answer_neighbours(&self.clat);
        }
        self.read_dns_answer(turn);
        if self.rescan.is_due(turn.now) {
            self.scan_network(turn);
        }
        if self.firewalls.look(turn.now) {
            self.report_status(turn);
        }
        if std::mem::take(&mut self.lacks_packet_sockets) {
            self.handle(Event::NoPacketSockets, turn);
        }
        if self.retry.is_due(turn.now) {
            self.handle(Event::Failed, turn);
        }
        if self.host.is_due(turn.now) {
            self.apply(HostRequest::Repeat, turn);
        }
        let suspended = suspended();
        if suspended > self.suspended + MIN_SUSPENSION {
            self.suspended = suspended;
            self.handle(Event::Resumed, turn);
        }
        // Not in every turn: few packets change a decision.
        if self.due.is_some_and(|due| due <= boottime()) {
            self.handle(Event::Time, turn);
        }
        Ok(())
    }

    fn reload(&mut self, turn: &Turn<'_>) {
        info!("SIGHUP: starting discovery again; settings change only at a restart");
        self.handle(Event::Resumed, turn);
    }

    /// The state that was decided, or the failure to set it up, or what its packets do not pass.
    fn status(&self) -> String {
        let is_promise = self.state.as_ref().is_some_and(Status::has_ipv4);
        match (self.retry.failure(), &self.state) {
            (Some(failure), _) if is_promise => failure.to_owned(),
            (_, Some(state @ Status::Active { .. })) => match self.firewalls.complaint() {
                Some(complaint) => format!("{state}, but {complaint}"),
                None => state.to_string(),
            },
            (_, Some(state)) => state.to_string(),
            (_, None) => "Starting".to_owned(),
        }
    }

    fn describe(&self, process: Process, now: Instant) -> report::Status {
        let overview = self.clat.overview(boottime());
        let path = self.host.path();
        let failure = self.retry.failure().map(ToOwned::to_owned);
        let prefix = overview.prefix.as_ref().map(|known| known.prefix.clone());
        report::Status {
            kind: Kind::Clat,
            works: overview.is_well && failure.is_none(),
            state: self.status(),
            process,
            configuration: self.configuration.as_ref().map(|file| file.describe(now)),
            device: path.map(PacketPath::device),
            ipv4_addr: path.map(|path| path.map().own_v4()),
            ipv6_addr: path.map(|path| path.map().own_v6()),
            prefix,
            maps: Maps {
                count: path.map_or(0, |path| path.map().explicit_count() as u64),
                file: None,
            },
            pool: None,
            packets: path.map(|path| path.packets(now)),
            workers: Vec::new(),
            clat: Some(report::Clat {
                overview,
                set_up: self.host.set_up(),
                repairs: self.host.repairs(),
                failure,
                firewalls: self.firewalls.describe(),
            }),
        }
    }
}

impl ClatDaemon {
    /// Reads messages that the network or nftables changed, and schedules a scan. Their content
    /// does not count: the scan reads the state of a moment later.
    fn read_changes(&mut self, turn: &Turn<'_>) -> Result<(), Error> {
        for changes in [&mut self.changes].into_iter().chain(&mut self.nftables) {
            for _ in 0..MAX_MESSAGES {
                let change = changes.next();
                if change
                    .map_err(system("read changes of the network by netlink"))?
                    .is_none()
                {
                    break;
                }
            }
        }
        self.rescan.changed(turn.now);
        self.held.network_changed();
        Ok(())
    }

    /// Scans the network, and repairs the set-up of the host.
    fn scan_network(&mut self, turn: &Turn<'_>) {
        let before = Instant::now();
        self.scanned = self.clat.nat64_prefixes();
        let network = self.host.network(&self.scanned);
        let mut took = before.elapsed();
        match network {
            Ok(network) => {
                self.scan_error = None;
                self.handle(Event::Network(network), turn);
                for advertisement in self.held.take() {
                    self.handle(advertisement, turn);
                }
                let before = Instant::now();
                if let Some(at) = self.host.repair(turn.now) {
                    self.rescan.look_at(at);
                }
                took += before.elapsed();
            }
            Err(error) => {
                let error = error.to_string();
                if self.scan_error.as_ref() != Some(&error) {
                    warn!("cannot read the state of the network by netlink; trying again: {error}");
                }
                self.scan_error = Some(error);
                self.rescan.look_at(turn.now + SCAN_RETRY);
            }
        }
        self.rescan.took(took);
        self.firewalls.changed(turn.now);
        // An administrator may have turned forwarding on or off.
        if self.host.facts_changed(&self.config) && self.retry.deadline().is_none() {
            self.apply(HostRequest::Repeat, turn);
        }
    }

    /// Passes Router Advertisements and answers to probes to the CLAT.
    fn read_ndisc(&mut self, turn: &Turn<'_>) -> Result<(), Error> {
        for _ in 0..MAX_MESSAGES {
            let received = self.ndisc.next();
            let Some(received) =
                received.map_err(system("read messages of Neighbour Discovery"))?
            else {
                break;
            };
            let (link, source, destination) =
                (received.link, received.source, received.destination);
            let event = match received.read(self.identifier) {
                Err(why) => {
                    self.log_ignored(source, why);
                    continue;
                }
                Ok(None) => continue,
                Ok(Some(Message::Advertisement(advertisement))) => Event::Advertisement {
                    link,
                    router: source,
                    advertisement,
                },
                Ok(Some(Message::ProbeAnswer)) => Event::Answered { from: destination },
            };
            if let Some(event) = self.held.pass(event) {
                self.handle(event, turn);
            }
        }
        Ok(())
    }

    /// Logs why a Router Advertisement is ignored: once for each reason, whatever the source.
    fn log_ignored(&mut self, source: Ipv6Addr, why: InvalidAdvertisement) {
        if !self.ignored.contains(&why) {
            self.ignored.push(why);
            warn!("Ignoring Router Advertisement from {source}: {why}");
        }
    }

    /// Goes on with the query to name servers, and passes its outcome to the CLAT.
    fn read_dns_answer(&mut self, turn: &Turn<'_>) {
        let Some(query) = &mut self.query else {
            return;
        };
        if turn.is_ready(NAME_SERVERS) {
            query.go_on(turn.now);
        }
        if let Some(event) = query.outcome(turn.now) {
            self.query = None;
            self.handle(event, turn);
        }
    }

    /// Asks name servers by a link.
    fn ask_name_servers(&mut self, link: u32, servers: &Servers, turn: &Turn<'_>) {
        let Some(uplink) = self.clat.link(link) else {
            self.handle(Event::Unresolved { link }, turn);
            return;
        };
        let index_of = |name: &str| self.clat.link_named(name).map(|link| link.index);
        // A forged answer must guess it.
        let id = random::seed() as u16;
        let query = match Query::ask(uplink, servers, self.link_states, index_of, id, turn.now) {
            Ok(query) => query,
            Err(error) => {
                debug!("cannot ask name servers: {error}");
                self.handle(Event::Unresolved { link }, turn);
                return;
            }
        };
        if query.unusable != self.unusable_servers {
            self.unusable_servers.clone_from(&query.unusable);
            for server in &query.unusable {
                warn!("/etc/resolv.conf: a name server cannot be asked: {server}");
            }
        }
        self.query = Some(query);
    }

    /// Passes an event to the CLAT, and carries out the actions that it returns.
    fn handle(&mut self, event: Event, turn: &Turn<'_>) {
        let actions = self.clat.handle(event, self.host.traffic(), boottime());
        // Routes to a prefix that was not known were left out.
        if self.clat.nat64_prefixes() != self.scanned {
            self.rescan.changed(turn.now);
        }
        if let Err(error) = self.ndisc.receive_probe_answers(self.clat.probes()) {
            warn!("cannot receive answers of routers: {error}");
        }
        for action in actions {
            match action {
                Action::Solicit { link } => {
                    let mac = self.clat.link(link).and_then(|link| link.mac);
                    if let Err(error) = self.ndisc.solicit(link, mac) {
                        debug!("cannot send a Router Solicitation: {error}");
                    }
                }
                Action::Query { link, servers } => self.ask_name_servers(link, &servers, turn),
                Action::TestAddress(trial) => self.apply(HostRequest::TestAddress(trial), turn),
                Action::Probe { link, from, to } => {
                    if let Err(error) = self.ndisc.probe(link, from, to) {
                        debug!("cannot send a probe from {from} to {to}: {error}");
                    }
                }
                Action::Ignore(ignored) => warn!("{ignored}"),
                Action::GiveWay(prefix) => warn!(
                    "NAT64 prefix {} does not answer: packets leave, and none comes back; trying \
                     another one, and this one again later",
                    prefix.prefix()
                ),
                Action::UseHostAddress(reason) => {
                    info!("Using the IPv6 address of this host: {reason}");
                }
                Action::SetUp(setup) => self.apply(HostRequest::SetUp(Some(setup)), turn),
                Action::TearDown => self.apply(HostRequest::SetUp(None), turn),
                Action::Report(state) => {
                    self.state = Some(state);
                    self.report_status(turn);
                }
            }
        }
    }

    /// Reports the state. A failure was logged when it occurred.
    fn report_status(&self, turn: &Turn<'_>) {
        let status = self.status();
        turn.notify_status(&status);
        if self.retry.failure() != Some(&status) {
            info!("{status}");
        }
    }

    /// Sets up the host. A failure is logged once, and retried later.
    fn apply(&mut self, request: HostRequest, turn: &Turn<'_>) {
        match self
            .host
            .apply(request, &self.config, &self.clat, &mut self.ndisc, turn.now)
        {
            Ok(()) => {
                let devices = self.host.forwards_between(&self.config.clat);
                self.firewalls.set_devices(devices, turn.now);
                if self.retry.succeeded() {
                    self.report_status(turn);
                }
                self.after_set_up();
            }
            Err(error) if !self.lacks_packet_sockets && lacks_packet_sockets(&error) => {
                warn!(
                    "{}; the kernel is to forward",
                    error.report().replace('\n', " ")
                );
                self.lacks_packet_sockets = true;
            }
            Err(error) => {
                let report = error.report().replace('\n', " ");
                if self.retry.failed(&report, turn.now) {
                    warn!("{report}; trying again");
                    turn.notify_status(&report);
                }
            }
        }
    }

    /// Starts script-up, after the first set-up.
    fn after_set_up(&mut self) {
        let Some(setup) = self.host.setup() else {
            return;
        };
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

/// Whether no link can have a packet socket: the kernel has none, or none are let open.
fn lacks_packet_sockets(error: &Error) -> bool {
    let Error::PacketSocket { cause, .. } = error else {
        return false;
    };
    let lacks = [
        libc::EPERM,
        libc::EACCES,
        libc::EAFNOSUPPORT,
        libc::EPROTONOSUPPORT,
    ];
    cause
        .raw_os_error()
        .is_some_and(|errno| lacks.contains(&errno))
}

/// The time that the machine has been suspended since boot.
fn suspended() -> Duration {
    let awake = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    boottime().saturating_sub(awake)
}

/// The time since boot, including suspensions.
fn boottime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}
