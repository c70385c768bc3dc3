//! The translator daemon, configured by tayga.conf.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    time::Instant,
};

use log::{debug, info, warn};
use xlatd::{
    addr::{AddressMap, Prefix4},
    config::Config,
    doctor::translator::warnings,
    plan::{self, firewall::Masquerade},
    report::{
        hints::{self, Hints},
        status::{self, Kind, Maps, Process, Status},
        trace::Filter,
    },
    translate::Translator,
    wire::ipv6::MIN_MTU,
};

use crate::{
    daemon::{
        control::Control,
        file_as_read::FileAsRead,
        map_file::{self, Read, log_mappings},
        options::{Options, drop_privileges, log_classes, translation_mtu},
        service::{Guest, INPUTS, Limits, Service, Turn},
        worker,
        workers::{self, Role, Workers},
    },
    datapath::{
        PacketPath,
        device::{Device, Offload},
        leases::{Leases, create_directory},
    },
    error::{Error, system},
    host::{Host, restore, survey::Survey},
    sys::{
        detach::{Readiness, Stdout},
        firewall::Firewall,
        kept_file::KeptFile,
        netlink::{Change, LinkChanges, LinkState, Netlink, nftables},
        pidfile::PidFile,
        random,
        sandbox::{self, Programs},
    },
};

/// The maximum number of link messages read in a turn, so that a flood starves nothing else.
const MAX_CHANGES: usize = 64;

/// The translator and its device, with their configuration and files.
pub(crate) struct Daemon {
    config: Config,
    configuration: FileAsRead,
    pidfile: Option<PidFile>,
    map_file: Option<(KeptFile, FileAsRead)>,
    netlink: Netlink,
    changes: LinkChanges,
    /// Its table of nftables goes with it.
    _masquerade: Option<Netlink>,
    path: PacketPath,
    /// The other workers.
    workers: Option<Workers>,
    /// What is used once all workers have read it.
    reloading: Option<Reloading>,
    /// Whether the map-file is to be read again after that.
    reload_again: bool,
    /// Whether the device was [unusable](is_usable) since its addresses and routes were last
    /// checked.
    was_unusable: bool,
}

/// Translates until a signal ends it, in as many processes as are configured. `readiness` is told
/// once packets can flow, and stdout goes where that says. Returns whether it has ended in order;
/// a worker that has not is reported by the first.
pub(crate) fn run(
    config: Config,
    options: &Options,
    readiness: Option<(Readiness, Stdout)>,
) -> Result<bool, Error> {
    let leave = "leave the terminal";
    match workers::start(config.workers)? {
        Role::First(workers) => {
            let awaited = readiness.as_ref().map(|(readiness, _)| readiness);
            let (mut service, mut daemon) = start(config, options, workers, awaited)?;
            if let Some((readiness, stdout)) = readiness {
                readiness.report_ready(stdout).map_err(system(leave))?;
            }
            service.run(&mut daemon)?;
            Ok(true)
        }
        Role::Other(number, parent, messages) => {
            if let Some((readiness, stdout)) = readiness {
                readiness.leave(stdout).map_err(system(leave))?;
            }
            Ok(worker::run(&config, options, number, parent, messages))
        }
    }
}

/// Attaches to the device, sets it up so that packets can flow, and drops privileges. Undoes the
/// set-up if any of this fails.
fn start(
    mut config: Config,
    options: &Options,
    mut workers: Option<Workers>,
    readiness: Option<&Readiness>,
) -> Result<(Service, Daemon), Error> {
    let directory = CreatedDirectory::new(&config);
    let map_file = map_file::open(&config)?;
    let mut map_text = None;
    let (mut map, map_file) = match map_file {
        Some(file) => {
            let Read { map, as_read, text } = map_file::read(&config, &file)?;
            map_text = workers.is_some().then_some(text);
            (map, Some((file, as_read)))
        }
        None => (config.address_map(), None),
    };
    let leases = Leases::start(&config, &mut map)?;
    let mut service = Service::new()?;
    // Before the device is set up, so that no later change of it is missed.
    let changes = LinkChanges::new().map_err(system("watch links by netlink"))?;
    let offload = match config.offload {
        true => Offload::Both,
        false => Offload::None,
    };
    let mut host = Host::new(Firewall::default(), offload)?;
    host.workers = config.workers;
    let mut masquerade = None;
    let pidfile = host
        .attach(&config.tun_device)
        .and_then(|name| {
            config.tun_device = name; // the kernel replaced a %d by a number
            host.device.iter().try_for_each(Device::check_mtu)?;
            let routes = options.container.routes.iter().cloned();
            host.change(plan::setup(&config).into_iter().chain(routes).collect())
        })
        .and_then(|()| write_pidfile(options))
        .and_then(|pidfile| {
            if let Some(leases) = &leases {
                leases.chown_directory(
                    options.identity,
                    &[config.map_file_path(), options.pidfile.clone()],
                );
            }
            if let Some(readiness) = readiness {
                let awaited = readiness.check_awaited();
                awaited.map_err(system("continue: the process that was started has ended"))?;
            }
            warn_of_host(&config, &map);
            if let (Some(workers), Some(device)) = (&mut workers, &host.device) {
                workers.begin(device, &map, map_text.as_deref())?;
            }
            let pool = options.container.masquerade;
            masquerade = pool.and_then(|pool| masquerade_pool(pool, &config.tun_device));
            let socket = &config.control_socket;
            let socket = socket.path(&options.runtime_directory, &config.tun_device);
            service.control = socket.and_then(|path| Control::open(&path, options.identity));
            service.limits.privileges = drop_privileges(&config, options)?;
            info!("Running as {}", service.limits.privileges);
            Ok(pidfile)
        })
        .inspect_err(|_| host.undo_all())?;
    directory.keep();
    let (netlink, device) = host.finish();
    if let Some((file, _)) = &map_file
        && let Err(error) = file.open_to_read()
    {
        let path = file.path().display();
        warn!("{path}: SIGHUP will not read it: {error}");
    }
    log_addresses(&config, &map);
    let mut path = packet_path(&config, options, device, map, leases);
    if let Some(workers) = &workers {
        path.start_lending(workers.count());
    }
    let daemon = Daemon {
        config,
        configuration: options.configuration.clone(),
        pidfile,
        map_file,
        netlink,
        changes,
        _masquerade: masquerade,
        path,
        workers,
        reloading: None,
        reload_again: false,
        was_unusable: false,
    };
    Ok((service, daemon))
}

/// Connects the device to the translator.
fn packet_path(
    config: &Config,
    options: &Options,
    device: Device,
    map: AddressMap,
    leases: Option<Leases>,
) -> PacketPath {
    let mut settings = config.translation.clone();
    settings.mtu = translation_mtu(device.link.mtu);
    settings.sharers = config.workers.into();
    let translator = Translator::new(settings, map, random::seed());
    let log = log_classes(config, options);
    let hints = Hints::new(hints::Settings::TaygaConf);
    PacketPath::new(log, hints, device, translator, leases)
}

/// Warns of what keeps packets from passing on this host, as far as it is not still to be set up.
fn warn_of_host(config: &Config, map: &AddressMap) {
    let facts = Survey::new()
        .and_then(|mut survey| survey.start_of_translator(config, map, &config.tun_device));
    match facts {
        Ok(facts) => warnings(&facts).iter().for_each(|line| warn!("{line}")),
        Err(error) => debug!("{}", error.report()),
    }
}

/// Masquerades a pool, as long as the socket that is returned is open.
fn masquerade_pool(pool: Prefix4, device: &str) -> Option<Netlink> {
    let device = device.to_owned();
    match nftables::masquerade(&Masquerade { pool, device }) {
        Ok(netlink) => {
            info!("masquerade {pool}: done");
            Some(netlink)
        }
        Err(error) => {
            warn!(
                "Cannot masquerade {pool}, so IPv4 hosts need a route to it: {error} \
                 (XLATD_MASQUERADE=no, if they have)"
            );
            None
        }
    }
}

fn log_addresses(config: &Config, map: &AddressMap) {
    info!("The translator's IPv4 address: {}", config.ipv4_addr);
    info!("The translator's IPv6 address: {}", config.ipv6_addr);
    if let Some(prefix) = config.prefix {
        info!("NAT64 prefix: {}", prefix.prefix());
    }
    log_mappings(map);
}

/// A reload that waits for the other workers.
struct Reloading {
    /// The mappings; `None`: they stay as they are.
    map: Option<(AddressMap, FileAsRead)>,
    /// The state afterwards.
    status: String,
}

// Indexes in the inputs.
const LINKS: usize = 0;
const WORKERS: usize = 1;

impl Guest for Daemon {
    const REPORT: Option<i32> = None; // SIGUSR1 ends it, as it ends tayga

    fn begin(&mut self, limits: &mut Limits, control: Option<BorrowedFd<'_>>) {
        limits.sandbox = self.enter_sandbox(control);
    }

    /// Writes the leases, and logs the packet counters. What was set up on the device stays.
    fn end(&mut self) {
        let others: Vec<_> = match &mut self.workers {
            None => Vec::new(),
            Some(workers) => {
                workers.end(&mut self.path);
                workers.packets().cloned().collect()
            }
        };
        self.path.end(&others);
    }

    fn path(&self) -> Option<&PacketPath> {
        Some(&self.path)
    }

    fn path_mut(&mut self) -> Option<&mut PacketPath> {
        Some(&mut self.path)
    }

    fn inputs(&self) -> [Option<BorrowedFd<'_>>; INPUTS] {
        let mut inputs = [None; INPUTS];
        inputs[LINKS] = Some(self.changes.as_fd());
        inputs[WORKERS] = self.workers.as_ref().map(Workers::as_fd);
        inputs
    }

    fn deadline(&mut self) -> Option<Instant> {
        None
    }

    fn turn(&mut self, turn: &Turn<'_>) -> Result<(), Error> {
        if turn.is_ready(LINKS) {
            self.follow_link(turn)?;
        }
        self.follow_workers(turn)
    }

    fn end_turn(&mut self, _turn: &Turn<'_>) -> Result<(), Error> {
        let Some(workers) = &mut self.workers else {
            return Ok(());
        };
        let changed = self.path.take_changed_leases();
        if !changed.is_empty() || workers.has_to_tell() {
            workers.tell(&changed)?;
        }
        workers.end_trace_if_left(&self.path)
    }

    fn is_alive(&mut self) -> Result<bool, Error> {
        self.workers.as_mut().map_or(Ok(true), Workers::are_alive)
    }

    fn is_current(&mut self, since: Instant, now: Instant) -> bool {
        let workers = self.workers.as_mut();
        // A worker that takes no orders has ended: the next turn finds out.
        workers.is_none_or(|workers| workers.are_current(since, now).unwrap_or(true))
    }

    fn trace(&mut self, filter: &Filter) {
        if let Some(workers) = &mut self.workers {
            let _ = workers.trace(filter);
        }
    }

    /// Writes the leases, and reads the map-file again. A file that cannot be read, or has a
    /// mistake, changes nothing.
    fn reload(&mut self, turn: &Turn<'_>) {
        if self.reloading.is_some() {
            self.reload_again = true;
            return;
        }
        turn.notify_reloading();
        let (reloading, text) = self.read_again();
        match &mut self.workers {
            None => self.finish_reload(reloading, turn),
            Some(workers) => {
                // Otherwise the next turn finds out.
                if workers.prepare(text.as_deref()).is_ok() {
                    self.reloading = Some(reloading);
                }
            }
        }
    }

    fn status(&self) -> String {
        let link = self.path.link();
        if link.up {
            format!("Translating on {}", link.name)
        } else {
            format!("Waiting for {} to be set up", link.name)
        }
    }

    fn describe(&self, process: Process, now: Instant) -> Status {
        let (path, map) = (&self.path, self.path.map());
        let file = self.map_file.as_ref();
        let mut packets = path.packets(now);
        let first = status::Worker {
            pid: process.pid,
            answers: true,
            packets: packets.clone(),
        };
        let workers = self.workers.as_ref().map_or_else(Vec::new, |others| {
            others.packets().for_each(|other| packets.add(other));
            [first].into_iter().chain(others.describe()).collect()
        });
        Status {
            kind: Kind::Translator,
            works: is_usable(path.link()),
            state: self.status(),
            process,
            configuration: Some(self.configuration.describe(now)),
            device: Some(path.device()),
            ipv4_addr: Some(map.own_v4()),
            ipv6_addr: Some(map.own_v6()),
            prefix: map.prefix().map(|prefix| prefix.prefix().to_string()),
            maps: Maps {
                count: map.explicit_count() as u64,
                file: file.map(|(_, as_read)| as_read.describe(now)),
            },
            pool: path.pool(),
            packets: Some(packets),
            workers,
            clat: None,
        }
    }
}

impl Daemon {
    /// Restricts system calls and files, as far as the kernel supports it. Returns in words what is
    /// restricted. `control` is the directory of the control socket.
    fn enter_sandbox(&self, control: Option<BorrowedFd<'_>>) -> String {
        if !self.config.sandbox {
            return "none (sandbox no)".to_owned();
        }
        let leases = self.path.lease_directory();
        let pidfile = self.pidfile.as_ref().and_then(PidFile::directory);
        let removable: Vec<_> = pidfile.into_iter().chain(control).collect();
        let files = match sandbox::restrict_files(leases, &removable) {
            Ok(true) => " and files".to_owned(),
            Ok(false) => "; none for files: the kernel has no landlock".to_owned(),
            Err(error) => format!("; none for files: {error}"),
        };
        match sandbox::restrict_calls(Programs::Denied) {
            Ok(()) => {
                info!("Sandbox: system calls{files}");
                format!("system calls{files}")
            }
            Err(error) => {
                warn!("No sandbox for system calls (seccomp): {error}");
                format!("none for system calls: {error}")
            }
        }
    }

    /// Reads the map-file again. Also returns its text, if there is something new.
    fn read_again(&self) -> (Reloading, Option<Vec<u8>>) {
        let mut status = self.status();
        let mut new = None;
        match &self.map_file {
            None => info!("SIGHUP: there is no map-file to read again"),
            Some((file, _)) => match map_file::read(&self.config, file) {
                Ok(read) => new = Some(read),
                Err(error) => {
                    for line in error.report().lines() {
                        warn!("{line}");
                    }
                    warn!("SIGHUP: the mappings are unchanged");
                    status += "; the map-file has mistakes, so the mappings are unchanged";
                }
            },
        }
        let (map, text) = match new {
            None => (None, None),
            Some(Read { map, as_read, text }) => (Some((map, as_read)), Some(text)),
        };
        (Reloading { map, status }, text)
    }

    /// Writes the leases, and uses the mappings that were read.
    fn finish_reload(&mut self, reloading: Reloading, turn: &Turn<'_>) {
        self.path.write_leases(turn.now);
        if let (Some((file, as_read)), Some((map, now_read))) = (&mut self.map_file, reloading.map)
        {
            *as_read = now_read;
            self.path.set_map(map);
            info!("SIGHUP: reloaded {}", file.path().display());
            log_mappings(self.path.map());
        }
        turn.notify_reloaded(&reloading.status);
    }

    /// Takes what other workers have said, and finishes what has waited for them.
    fn follow_workers(&mut self, turn: &Turn<'_>) -> Result<(), Error> {
        let Some(workers) = &mut self.workers else {
            return Ok(());
        };
        if turn.is_ready(WORKERS) {
            workers.turn(&mut self.path, turn.now)?;
        }
        if let Some(leases) = self.path.leases_mut() {
            if workers.take_uses() {
                leases.uses_are_told();
            }
            if leases.asks_for_uses(turn.now) && !workers.ask(true, turn.now)? {
                leases.ask_again();
            }
        }
        if workers.are_ready()
            && let Some(reloading) = self.reloading.take()
        {
            workers.switch()?;
            self.finish_reload(reloading, turn);
            if std::mem::take(&mut self.reload_again) {
                self.reload(turn);
            }
        }
        Ok(())
    }

    /// Handles changes of the device: its name, its MTU, and whether it was down.
    fn follow_link(&mut self, turn: &Turn<'_>) -> Result<(), Error> {
        let attempt = "read about links by netlink";
        let index = self.path.link().index;
        let mut changed = false;
        for _ in 0..MAX_CHANGES {
            match self.changes.next().map_err(system(attempt))? {
                None => break,
                Some(Change::To(links)) => {
                    for link in links.iter().filter(|link| link.index == index) {
                        changed = true;
                        self.was_unusable |= !is_usable(link);
                    }
                }
                Some(Change::Missed) => {
                    changed = true;
                    self.was_unusable = true; // the missed messages may have said so
                }
            }
        }
        // Messages may be outdated, so the current state is read. That the link was removed shows
        // when packets are read.
        if changed && let Some(link) = self.netlink.link_by_index(index).map_err(system(attempt))? {
            self.apply_link(link, turn)?;
        }
        Ok(())
    }

    /// Takes over the current state of the link, and restores addresses and routes that the kernel
    /// removed.
    fn apply_link(&mut self, link: LinkState, turn: &Turn<'_>) -> Result<(), Error> {
        let before = self.path.link().clone();
        let name = link.name.clone();
        let is_usable = is_usable(&link);
        self.path.set_link(link.clone());
        if name != before.name {
            info!("{} is now called {name}", before.name);
            self.config.tun_device.clone_from(&name);
        }
        if link.mtu != before.mtu {
            self.path.set_mtu(translation_mtu(link.mtu));
            if link.mtu < MIN_MTU.into() {
                warn!(
                    "{name}: IPv6 needs an MTU of at least {MIN_MTU} octets, and it is now {}",
                    link.mtu
                );
            } else {
                info!("{name} now has an MTU of {}", link.mtu);
            }
        }
        if link.up != before.up {
            let state = if link.up { "up" } else { "down" };
            info!("{name} is now {state}");
            turn.notify_status(&self.status());
        }
        if let Some(workers) = &mut self.workers {
            workers.set_link(&link)?;
        }
        if is_usable && std::mem::take(&mut self.was_unusable) {
            let plan = plan::setup(&self.config);
            let permitted = self.config.keep_net_admin;
            restore(&mut self.netlink, link.index, &plan, permitted);
        }
        Ok(())
    }
}

/// The `data-dir`, if it was created here. It is removed again if the daemon does not start.
struct CreatedDirectory(Option<PathBuf>);

impl CreatedDirectory {
    fn new(config: &Config) -> Self {
        let created = config.data_dir.clone().filter(|directory| {
            create_directory(directory).unwrap_or_else(|error| {
                warn!(
                    "{}: cannot create the data-dir: {error}",
                    directory.display()
                );
                false
            })
        });
        Self(created)
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CreatedDirectory {
    fn drop(&mut self) {
        if let Some(directory) = &self.0 {
            let _ = fs::remove_dir(directory);
        }
    }
}

fn write_pidfile(options: &Options) -> Result<Option<PidFile>, Error> {
    let write = |path: &PathBuf| {
        PidFile::write(path).map_err(|cause| Error::PidFile {
            path: path.clone(),
            cause,
        })
    };
    options.pidfile.as_ref().map(write).transpose()
}

/// Whether a device keeps its addresses and routes. The kernel removes its routes and IPv6
/// addresses when it is down, and those of IPv6 when its MTU is less than IPv6 requires.
fn is_usable(link: &LinkState) -> bool {
    link.up && link.mtu >= MIN_MTU.into()
}
