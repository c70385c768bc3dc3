//! The translator daemon, configured by tayga.conf.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    time::Instant,
};

use caps::Capability;
use log::{debug, info, warn};
use xlatd::{
    addr::{AddressMap, Prefix4},
    config::Config,
    doctor::translator::warnings,
    plan::{self, Resource, firewall::Masquerade},
    report::{
        hints::{self, Hints},
        status::{Kind, Maps, Process, Status},
    },
    translate::Translator,
    wire::ipv6::MIN_MTU,
};

use crate::{
    daemon::{
        control::Control,
        file_as_read::FileAsRead,
        map_file::{self, log_mappings},
        service::{Guest, INPUTS, Limits, Service, Turn},
    },
    datapath::{
        EVERY_PACKET, PacketPath,
        device::{Device, Offload},
        leases::{Leases, create_directory},
    },
    error::{Error, system},
    host::{Host, restore, survey::Survey},
    sys::{
        detach::Readiness,
        firewall::Firewall,
        kept_file::KeptFile,
        netlink::{Change, LinkChanges, LinkState, Netlink, nftables},
        pidfile::PidFile,
        privilege::{self, Identity},
        random,
        sandbox::{self, Programs},
    },
};

/// The maximum number of link messages read in a turn, so that a flood starves nothing else.
const MAX_CHANGES: usize = 64;

/// The options of the command line.
pub(crate) struct Options {
    /// Whether every packet is logged.
    pub(crate) debug: bool,
    /// The path of the PID file.
    pub(crate) pidfile: Option<PathBuf>,
    /// The user and group to run as.
    pub(crate) identity: Identity,
    /// Whether to change the root directory to `data-dir`.
    pub(crate) chroot: bool,
    /// The configuration.
    pub(crate) configuration: FileAsRead,
    /// The directory of the control socket.
    pub(crate) runtime_directory: PathBuf,
    /// What only a container sets up.
    pub(crate) container: Container,
}

/// What is set up in the network namespace of a container, besides the device.
#[derive(Default)]
pub(crate) struct Container {
    /// Routes to others than the device.
    pub(crate) routes: Vec<Resource>,
    /// The pool that is masqueraded.
    pub(crate) masquerade: Option<Prefix4>,
}

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
    /// Whether the device was [unusable](is_usable) since its addresses and routes were last
    /// checked.
    was_unusable: bool,
}

/// Attaches to the device, sets it up so that packets can flow, and drops privileges. Undoes the
/// set-up if any of this fails.
pub(crate) fn start(
    mut config: Config,
    options: &Options,
    readiness: Option<&Readiness>,
) -> Result<(Service, Daemon), Error> {
    let directory = CreatedDirectory::new(&config);
    let map_file = map_file::open(&config)?;
    let (mut map, map_file) = match map_file {
        Some(file) => {
            let (map, as_read) = map_file::read(&config, &file)?;
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
            let pool = options.container.masquerade;
            masquerade = pool.and_then(|pool| masquerade_pool(pool, &config.tun_device));
            let socket = &config.control_socket;
            let socket = socket.path(&options.runtime_directory, &config.tun_device);
            service.control = socket.and_then(|path| Control::open(&path, options.identity));
            service.limits.privileges = drop_privileges(&config, options)?;
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
    let path = packet_path(&config, options, device, map, leases);
    let daemon = Daemon {
        config,
        configuration: options.configuration.clone(),
        pidfile,
        map_file,
        netlink,
        changes,
        _masquerade: masquerade,
        path,
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
    settings.mtu = translation_mtu(&device.link);
    let translator = Translator::new(settings, map, random::seed());
    let log = if options.debug {
        EVERY_PACKET
    } else {
        config.log
    };
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

// Index in the inputs.
const LINKS: usize = 0;

impl Guest for Daemon {
    const REPORT: Option<i32> = None; // SIGUSR1 ends it, as it ends tayga

    fn begin(&mut self, limits: &mut Limits, control: Option<BorrowedFd<'_>>) {
        limits.sandbox = self.enter_sandbox(control);
    }

    /// Writes the leases, and logs the packet counters. What was set up on the device stays.
    fn end(&mut self) {
        self.path.end();
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
        inputs
    }

    fn deadline(&mut self) -> Option<Instant> {
        None
    }

    fn turn(&mut self, turn: &Turn<'_>) -> Result<(), Error> {
        if turn.is_ready(LINKS) {
            self.follow_link(turn)?;
        }
        Ok(())
    }

    /// Writes the leases, and reads the map-file again. A file that cannot be read, or has a
    /// mistake, changes nothing.
    fn reload(&mut self, turn: &Turn<'_>) {
        turn.notify_reloading();
        self.path.write_leases(turn.now);
        let mut status = self.status();
        match &mut self.map_file {
            None => info!("SIGHUP: there is no map-file to read again"),
            Some((file, as_read)) => match map_file::read(&self.config, file) {
                Ok((map, now_read)) => {
                    *as_read = now_read;
                    self.path.set_map(map);
                    info!("SIGHUP: reloaded {}", file.path().display());
                    log_mappings(self.path.map());
                }
                Err(error) => {
                    for line in error.report().lines() {
                        warn!("{line}");
                    }
                    warn!("SIGHUP: the mappings are unchanged");
                    status += "; the map-file has mistakes, so the mappings are unchanged";
                }
            },
        }
        turn.notify_reloaded(&status);
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
            packets: Some(path.packets(now)),
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
            self.apply_link(link, turn);
        }
        Ok(())
    }

    /// Takes over the current state of the link, and restores addresses and routes that the kernel
    /// removed.
    fn apply_link(&mut self, link: LinkState, turn: &Turn<'_>) {
        let before = self.path.link().clone();
        let name = link.name.clone();
        let is_usable = is_usable(&link);
        self.path.set_link(link.clone());
        if name != before.name {
            info!("{} is now called {name}", before.name);
            self.config.tun_device.clone_from(&name);
        }
        if link.mtu != before.mtu {
            self.path.set_mtu(translation_mtu(&link));
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
        if is_usable && std::mem::take(&mut self.was_unusable) {
            let plan = plan::setup(&self.config);
            let permitted = self.config.keep_net_admin;
            restore(&mut self.netlink, link.index, &plan, permitted);
        }
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

/// Drops the privileges that the set-up needed, and returns the remaining ones in words. From here
/// on the translator uses open descriptors.
fn drop_privileges(config: &Config, options: &Options) -> Result<String, Error> {
    if options.chroot
        && let Some(directory) = &config.data_dir
    {
        privilege::enter_chroot(directory).map_err(system("chroot to the data-dir"))?;
    }
    let mut kept = Vec::new();
    if config.keep_net_admin {
        kept.push(Capability::CAP_NET_ADMIN);
    }
    if privilege::stays_root(options.identity) {
        // As with tayga, a daemon that stays root can read and write any file.
        kept.push(Capability::CAP_DAC_OVERRIDE);
    }
    let remaining =
        privilege::drop_to(options.identity, &kept).map_err(system("give up privileges"))?;
    info!("Running as {remaining}");
    Ok(remaining)
}

/// Whether a device keeps its addresses and routes. The kernel removes its routes and IPv6
/// addresses when it is down, and those of IPv6 when its MTU is less than IPv6 requires.
fn is_usable(link: &LinkState) -> bool {
    link.up && link.mtu >= MIN_MTU.into()
}

/// The MTU for translation, in octets. An administrator can set the MTU of a device below what IPv6
/// requires (RFC 8200 section 5) while it is in use; the kernel then stops IPv6 on it.
fn translation_mtu(link: &LinkState) -> u16 {
    u16::try_from(link.mtu).unwrap_or(u16::MAX).max(MIN_MTU)
}
