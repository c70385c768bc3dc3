//! Owns everything, and waits.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    os::fd::AsFd,
    path::PathBuf,
    process,
    time::{Duration, Instant},
};

use caps::Capability;
use log::{debug, info, warn};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    time::{ClockId, clock_gettime},
};
use xlatd::{
    addr::AddressMap,
    config::Config,
    plan,
    report::hints::{self, Hints},
    translate::Translator,
    wire::ipv6::MIN_MTU,
};

use crate::{
    daemon::watchdog::Watchdog,
    datapath::leases::{Leases, make_directory},
    datapath::{EVERY_PACKET, PacketPath},
    error::{Error, system},
    host::steps::{Setup, restore},
    sys::{
        detach::Readiness,
        kept_file::KeptFile,
        netlink::{Change, Link, LinkChanges, Netlink},
        notify::Notify,
        pidfile::PidFile,
        privilege::{self, Identity},
        sandbox,
        signals::{Signal, Signals},
    },
};

// Places in the poll set.
const SIGNALS: usize = 0;
const LINKS: usize = 1;
const TUN: usize = 2;

/// So many messages about links a turn at most: a flood of them starves nothing else.
const CHANGES: usize = 64;

/// How the command line wants the daemon to be.
pub(crate) struct Options {
    /// Whether everything is logged.
    pub(crate) debug: bool,
    /// Where to write the process id.
    pub(crate) pidfile: Option<PathBuf>,
    /// Who to become.
    pub(crate) identity: Identity,
    /// Whether `data-dir` is to be the root of all paths.
    pub(crate) chroot: bool,
}

/// The translator, its device and all that belongs to them.
pub(crate) struct Daemon {
    config: Config,
    notify: Notify,
    watchdog: Option<Watchdog>,
    pidfile: Option<PidFile>,
    map_file: Option<KeptFile>,
    signals: Signals,
    netlink: Netlink,
    changes: LinkChanges,
    path: PacketPath,
    /// Whether the device was seen [unusable](is_usable) since its addresses and routes were last looked at.
    was_unusable: bool,
}

impl Daemon {
    /// Attaches to the device and sets it up, so that packets can flow, and gives up what is not needed any more. What was
    /// done is undone if something fails.
    pub(crate) fn start(
        mut config: Config,
        options: &Options,
        readiness: Option<&Readiness>,
    ) -> Result<Self, Error> {
        let notify = Notify::from_environment().unwrap_or_else(|error| {
            warn!("NOTIFY_SOCKET: cannot be reached, so nobody is told how xlatd is: {error}");
            Notify::default()
        });
        let directory = MadeDirectory::new(&config);
        let map_file = open_map_file(&config)?;
        let mut map = match &map_file {
            Some(file) => read_map_file(&config, file)?,
            None => config.address_map(),
        };
        let leases = Leases::start(&config, &mut map)?;
        // From here on a signal ends the daemon in order, and no change of the device is missed.
        let signals = Signals::new().map_err(system("catch signals"))?;
        let changes = LinkChanges::new().map_err(system("watch links by netlink"))?;
        let netlink = Netlink::new().map_err(system("talk netlink to the kernel"))?;
        let mut setup = Setup::new(netlink, config.offload);
        let pidfile = setup
            .attach(&config.tun_device)
            .and_then(|name| {
                config.tun_device = name; // with a number, where it is a format
                setup.run(&plan::setup(&config))
            })
            .and_then(|()| write_pidfile(options))
            .and_then(|pidfile| {
                if let Some(leases) = &leases {
                    leases.give(
                        options.identity,
                        &[config.map_file_path(), options.pidfile.clone()],
                    );
                }
                if let Some(readiness) = readiness {
                    let awaited = readiness.is_awaited();
                    awaited.map_err(system("go on: the process that was started is gone"))?;
                }
                give_up_privileges(&config, options)?;
                Ok(pidfile)
            })
            .inspect_err(|_| setup.undo())?;
        directory.stays();
        let (netlink, device) = setup.finish();
        if let Some(file) = &map_file
            && let Err(error) = file.open_to_read()
        {
            warn!(
                "{}: SIGHUP will not read it: {error}",
                file.path().display()
            );
        }

        let mut settings = config.translation.clone();
        settings.mtu = translation_mtu(&device.link);
        // RandomState has keys that nobody outside can guess.
        let seed = RandomState::new().hash_one(device.link.index);
        let translator = Translator::new(settings, map, seed, Instant::now());

        info!("The translator's IPv4 address: {}", config.ipv4_addr);
        info!("The translator's IPv6 address: {}", config.ipv6_addr);
        if let Some(prefix) = config.prefix {
            info!("NAT64 prefix: {}", prefix.prefix());
        }
        log_mappings(translator.map());
        let log = if options.debug {
            EVERY_PACKET
        } else {
            config.log
        };
        let path = PacketPath::new(
            log,
            Hints::new(hints::Settings::TaygaConf),
            device,
            translator,
            leases,
        );

        Ok(Self {
            config,
            watchdog: notify
                .watchdog
                .map(|period| Watchdog::new(period, Instant::now())),
            notify,
            pidfile,
            map_file,
            signals,
            netlink,
            changes,
            path,
            was_unusable: false,
        })
    }

    /// Translates until a signal asks to stop, and says what became of the packets.
    pub(crate) fn run(&mut self) -> Result<(), Error> {
        self.enter_sandbox();
        let status = self.status();
        let pid = process::id();
        self.notify
            .send_surely(&format!("READY=1\nSTATUS={status}\nMAINPID={pid}"));
        let result = self.turn_until_stopped();
        self.notify.send("STOPPING=1\nSTATUS=Stopping");
        self.path.end();
        result
    }

    /// Has the kernel refuse what is not needed any more, as far as it can.
    fn enter_sandbox(&self) {
        if !self.config.sandbox {
            return;
        }
        let leases = self.path.lease_directory();
        let pidfile = self.pidfile.as_ref().and_then(PidFile::directory);
        let files = match sandbox::confine_files(leases, pidfile) {
            Ok(true) => " and files".to_owned(),
            Ok(false) => "; the kernel has no landlock for files".to_owned(),
            Err(error) => format!("; none for files: {error}"),
        };
        match sandbox::confine_calls(false) {
            Ok(()) => info!("Sandbox: system calls{files}"),
            Err(error) => warn!("No sandbox for system calls (seccomp): {error}"),
        }
    }

    fn turn_until_stopped(&mut self) -> Result<(), Error> {
        loop {
            let ready = self.wait()?;
            let now = Instant::now(); // one reading of the clock for the whole turn
            self.path.look_after_leases(now);
            if let Some(watchdog) = &mut self.watchdog
                && watchdog.is_due(now)
            {
                self.notify.send("WATCHDOG=1");
            }
            if !ready[SIGNALS].is_empty() {
                let signals: Vec<_> = self.signals.take().collect();
                for signal in signals {
                    match signal {
                        Signal::Stop(number) => {
                            info!("Exiting on signal {number}");
                            return Ok(());
                        }
                        Signal::Reload => self.reload(),
                    }
                }
            }
            if !ready[LINKS].is_empty() {
                self.follow_link()?;
            }
            // Only a device that is no more has conditions other than input.
            if ready[TUN].intersects(PollFlags::POLLERR | PollFlags::POLLHUP) {
                return Err(self.path.gone());
            }
            if !ready[TUN].is_empty() {
                self.path.translate_batch(now)?;
            }
            self.path.log_left_out(now);
        }
    }

    /// Writes the leases, and reads the map-file again. A file that cannot be read, or has a mistake, leaves everything as it is.
    fn reload(&mut self) {
        self.notify.send(&format!("RELOADING=1\n{}", monotonic()));
        self.path.write_leases();
        let mut status = self.status();
        match &self.map_file {
            None => info!("SIGHUP: there is no map-file to read again"),
            Some(file) => match read_map_file(&self.config, file) {
                Ok(map) => {
                    self.path.translator.set_map(map);
                    info!("SIGHUP: {} has been read again", file.path().display());
                    log_mappings(self.path.translator.map());
                }
                Err(error) => {
                    for line in error.report().lines() {
                        warn!("{line}");
                    }
                    warn!("SIGHUP: the mappings stay as they were");
                    status += "; the map-file has mistakes, and the mappings stay as they were";
                }
            },
        }
        self.notify
            .send_surely(&format!("READY=1\nSTATUS={status}"));
    }

    /// What the daemon does, in a line.
    fn status(&self) -> String {
        let link = &self.path.device.link;
        if link.up {
            format!("Translating on {}", link.name)
        } else {
            format!("Waiting for somebody to set up {}", link.name)
        }
    }

    /// Waits for input, or for the earliest deadline. This is the only place that waits.
    fn wait(&self) -> Result<[PollFlags; 3], Error> {
        let mut places = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.changes.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.path.device.tun.as_fd(), PollFlags::POLLIN),
        ];
        let deadlines = [
            self.path.deadline(),
            self.watchdog.as_ref().map(Watchdog::deadline),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                // Rounded up: a turn before the deadline would be for nothing.
                let left = deadline.saturating_duration_since(Instant::now()) + MILLISECOND;
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut places, timeout) {
            // A signal is seen by its octet in the next turn.
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(system("poll")(errno.into())),
        }
        Ok(places.map(|place| place.revents().unwrap_or(PollFlags::empty())))
    }

    /// Looks at what happened to our link: its MTU is followed, and its name, and that it was down.
    fn follow_link(&mut self) -> Result<(), Error> {
        let attempt = "read about links by netlink";
        let index = self.path.device.link.index;
        let mut changed = false;
        for _ in 0..CHANGES {
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
                    self.was_unusable = true; // it may have been
                }
            }
        }
        // What was said is old; what counts is how it is. A link that is gone is seen where its packets are read.
        if changed && let Some(link) = self.netlink.link_by_index(index).map_err(system(attempt))? {
            self.link_is(link);
        }
        Ok(())
    }

    fn link_is(&mut self, link: Link) {
        if link.name != self.path.device.link.name {
            info!("{} is now called {}", self.path.device.link.name, link.name);
            self.config.tun_device.clone_from(&link.name);
        }
        if link.mtu != self.path.device.link.mtu {
            self.path.translator.set_mtu(translation_mtu(&link));
            if link.mtu < MIN_MTU.into() {
                warn!(
                    "{}: IPv6 needs an MTU of {MIN_MTU} octets or more, and this is {} now",
                    link.name, link.mtu
                );
            } else {
                info!("{} has an MTU of {} now", link.name, link.mtu);
            }
        }
        let changed = link.up != self.path.device.link.up;
        if changed {
            let state = if link.up { "up" } else { "down" };
            info!("{} is {state} now", link.name);
        }
        let index = link.index;
        let is_usable = is_usable(&link);
        self.path.device.link = link;
        if changed {
            self.notify.send(&format!("STATUS={}", self.status()));
        }
        if is_usable && std::mem::take(&mut self.was_unusable) {
            let steps = plan::setup(&self.config);
            let permitted = self.config.keep_net_admin;
            restore(&mut self.netlink, index, &steps, permitted);
        }
    }
}

/// `data-dir`, if it had to be made. It goes again if the daemon does not start.
struct MadeDirectory(Option<PathBuf>);

impl MadeDirectory {
    fn new(config: &Config) -> Self {
        let made = config.data_dir.clone().filter(|directory| {
            make_directory(directory).unwrap_or_else(|error| {
                warn!("{}: cannot make the data-dir: {error}", directory.display());
                false
            })
        });
        Self(made)
    }

    fn stays(mut self) {
        self.0 = None;
    }
}

impl Drop for MadeDirectory {
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

/// Nothing is needed any more but the descriptors that are open, and who can be neither root nor anybody else can do no harm.
fn give_up_privileges(config: &Config, options: &Options) -> Result<(), Error> {
    if options.chroot
        && let Some(directory) = &config.data_dir
    {
        privilege::enter(directory).map_err(system("chroot to the data-dir"))?;
    }
    let mut kept = Vec::new();
    if config.keep_net_admin {
        kept.push(Capability::CAP_NET_ADMIN);
    }
    if privilege::stays_root(options.identity) {
        // Root stays root, as with tayga, for files that only root can read and write.
        kept.push(Capability::CAP_DAC_OVERRIDE);
    }
    let is_now =
        privilege::give_up(options.identity, &kept).map_err(system("give up privileges"))?;
    info!("Running as {is_now}");
    Ok(())
}

/// Finds the map-file, if the configuration has one.
fn open_map_file(config: &Config) -> Result<Option<KeptFile>, Error> {
    let open =
        |path: PathBuf| KeptFile::to_read(&path).map_err(|cause| Error::Read { path, cause });
    config.map_file_path().map(open).transpose()
}

/// Who is whom by the configuration and its map-file. What there is to know about the file is logged.
fn read_map_file(config: &Config, file: &KeptFile) -> Result<AddressMap, Error> {
    let path = file.path();
    let text = file.read().map_err(|cause| Error::Read {
        path: path.to_owned(),
        cause,
    })?;
    let (map, notices) = config.with_map_file(text).map_err(|lines| Error::Config {
        path: path.to_owned(),
        lines,
    })?;
    for notice in notices {
        warn!("{}", notice.in_file(path));
    }
    Ok(map)
}

/// Who is whom by a configuration that is only looked at.
pub(crate) fn check_map_file(config: &Config) -> Result<(), Error> {
    match open_map_file(config)? {
        Some(file) => read_map_file(config, &file).map(drop),
        None => Ok(()),
    }
}

fn log_mappings(map: &AddressMap) {
    info!("Explicit mappings: {}", map.explicit().count());
    if log::log_enabled!(log::Level::Debug) {
        for eam in map.explicit() {
            debug!("{} is {}", eam.v4(), eam.v6());
        }
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);

/// Whether the kernel leaves a device its addresses and routes: it takes them from one that is down, and those of IPv6 from
/// one that is narrower than IPv6 allows.
fn is_usable(link: &Link) -> bool {
    link.up && link.mtu >= MIN_MTU.into()
}

/// The MTU that the translator is told, in octets. A device can be made narrower than IPv6 allows (RFC 8200 section 5) while
/// it is in use; IPv6 then stops by itself.
fn translation_mtu(link: &Link) -> u16 {
    u16::try_from(link.mtu).unwrap_or(u16::MAX).max(MIN_MTU)
}

/// When it was, for a service manager (sd_notify(3)).
fn monotonic() -> String {
    match clock_gettime(ClockId::CLOCK_MONOTONIC) {
        Ok(now) => format!("MONOTONIC_USEC={}", Duration::from(now).as_micros()),
        Err(_) => String::new(),
    }
}
