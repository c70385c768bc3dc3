//! Owns everything, and waits.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
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
    config::{Config, LogClasses},
    packet_log::{PacketLog, Summary},
    plan,
    stats::Stats,
    translate::{Direction, DropReason, Outcome, Packet, Reply, Translator},
    wire::ipv6::MIN_MTU,
};

use crate::{
    device::{Device, Setup, restore},
    error::{Error, system},
    leases::{Event, Leases, make_directory},
    sys::{
        kept_file::KeptFile,
        netlink::{Change, Link, LinkChanges, Netlink},
        notify::Notify,
        pidfile::PidFile,
        privilege::{self, Identity},
        signals::{Signal, Signals},
    },
    watchdog::Watchdog,
};

// Places in the poll set.
const SIGNALS: usize = 0;
const LINKS: usize = 1;
const TUN: usize = 2;

/// So many packets a turn at most: a flood starves neither signals nor timers.
const BATCH: usize = 256;
/// And so many messages about links.
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
    _pidfile: Option<PidFile>,
    map_file: Option<KeptFile>,
    leases: Option<Leases>,
    signals: Signals,
    netlink: Netlink,
    changes: LinkChanges,
    device: Device,
    translator: Translator,
    packet: Packet,
    packet_log: Option<PacketLog>,
    stats: Stats,
    /// Whether the device was seen down since its addresses and routes were last looked at.
    was_down: bool,
    /// Whether somebody has been told how to get rid of `wkpf-strict`.
    wkpf_strict_explained: bool,
}

impl Daemon {
    /// Attaches to the device and sets it up, so that packets can flow, and gives up what is not needed any more. What was
    /// done is undone if something fails.
    pub(crate) fn start(config: Config, options: &Options) -> Result<Self, Error> {
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
        let leases = Leases::start(&config, &mut map);
        // From here on a signal ends the daemon in order, and no change of the device is missed.
        let signals = Signals::new().map_err(system("catch signals"))?;
        let changes = LinkChanges::new().map_err(system("watch links by netlink"))?;
        let netlink = Netlink::new().map_err(system("talk netlink to the kernel"))?;
        let mut setup = Setup::new(netlink);
        let pidfile = setup
            .run(&plan::setup(&config))
            .and_then(|()| write_pidfile(options))
            .and_then(|pidfile| {
                if let Some(leases) = &leases {
                    leases.give(
                        options.identity,
                        &[config.map_file.as_deref(), options.pidfile.as_deref()],
                    );
                }
                give_up_privileges(&config, options)?;
                Ok(pidfile)
            })
            .inspect_err(|_| setup.undo())?;
        directory.stays();
        let (netlink, device) = setup.finish();
        if let Some(file) = &map_file
            && let Err(error) = file.read()
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
        notify.send(&format!(
            "READY=1\nSTATUS=Translating on {}\nMAINPID={}",
            device.link.name,
            process::id()
        ));

        Ok(Self {
            packet_log: PacketLog::new(if options.debug {
                EVERY_PACKET
            } else {
                config.log
            }),
            config,
            watchdog: notify
                .watchdog
                .map(|period| Watchdog::new(period, Instant::now())),
            notify,
            _pidfile: pidfile,
            map_file,
            leases,
            signals,
            netlink,
            changes,
            device,
            translator,
            packet: Packet::new(),
            stats: Stats::default(),
            was_down: false,
            wkpf_strict_explained: false,
        })
    }

    /// Translates until a signal asks to stop, and says what became of the packets.
    pub(crate) fn run(&mut self) -> Result<(), Error> {
        let result = self.turn_until_stopped();
        self.notify.send("STOPPING=1\nSTATUS=Stopping");
        if let Some(log) = &mut self.packet_log {
            log_lines(log.left_out(None));
        }
        if let Some(leases) = &mut self.leases {
            leases.write(self.translator.map());
        }
        log_lines(self.stats.lines());
        let unwritten = self.device.unwritten.count;
        if unwritten != 0 {
            info!("The kernel did not take: {unwritten}");
        }
        result
    }

    fn turn_until_stopped(&mut self) -> Result<(), Error> {
        loop {
            let ready = self.wait()?;
            let now = Instant::now(); // one reading of the clock for the whole turn
            self.look_after_leases(now);
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
                return Err(self.gone());
            }
            if !ready[TUN].is_empty() {
                self.translate_batch(now)?;
            }
            if let Some(log) = &mut self.packet_log
                && log.deadline().is_some_and(|deadline| deadline <= now)
            {
                log_lines(log.left_out(Some(now)));
            }
        }
    }

    /// Writes the leases, and reads the map-file again. A file that cannot be read, or has a mistake, leaves everything as it is.
    fn reload(&mut self) {
        self.notify.send(&format!("RELOADING=1\n{}", monotonic()));
        if let Some(leases) = &mut self.leases {
            leases.write(self.translator.map());
        }
        let mut status = format!("Translating on {}", self.device.link.name);
        match &self.map_file {
            None => info!("SIGHUP: there is no map-file to read again"),
            Some(file) => match read_map_file(&self.config, file) {
                Ok(map) => {
                    self.translator.set_map(map);
                    info!("SIGHUP: {} has been read again", file.path().display());
                    log_mappings(self.translator.map());
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
        self.notify.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// Waits for input, or for the earliest deadline. This is the only place that waits.
    fn wait(&self) -> Result<[PollFlags; 3], Error> {
        let mut places = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.changes.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.device.tun.as_fd(), PollFlags::POLLIN),
        ];
        let deadlines = [
            self.packet_log.as_ref().and_then(PacketLog::deadline),
            self.leases.as_ref().map(|leases| leases.next_check),
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

    /// Translates what has come in, but no more than [`BATCH`] packets. No packet costs more than a read and a write:
    /// no allocation, no lock, no clock.
    fn translate_batch(&mut self, now: Instant) -> Result<(), Error> {
        for _ in 0..BATCH {
            match self.device.tun.read(self.packet.space()) {
                Ok(len) => self.packet.received(len),
                Err(error) => {
                    return match error.kind() {
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
                        _ => Err(self.read_failed(error)),
                    };
                }
            }
            self.translate(now);
        }
        Ok(())
    }

    /// Translates the packet that was read, and writes what comes of it.
    fn translate(&mut self, now: Instant) {
        let direction = Direction::of(self.packet.bytes());
        let summary = self
            .packet_log
            .is_some()
            .then(|| Summary::of(self.packet.bytes()));
        let outcome = self.translator.translate(&mut self.packet, now);
        self.stats.count(direction, &outcome);
        if let (Some(log), Some(summary)) = (&mut self.packet_log, &summary)
            && let Some(line) = log.line(summary, &outcome, now)
        {
            info!("{line}");
        }
        match outcome {
            Outcome::Forward | Outcome::Reply(Reply::Echo) => {
                self.device.write(self.packet.bytes(), now);
            }
            Outcome::Fragments(mut fragments) => {
                while let Some(fragment) = fragments.next() {
                    self.device.write(fragment, now);
                }
            }
            Outcome::Reply(Reply::Error(reason)) => {
                self.device.write(self.packet.bytes(), now);
                self.explain(reason);
            }
            Outcome::Drop(reason) => self.explain(reason),
        }
        if let Some((host, lent)) = self.translator.take_lent()
            && let Some(leases) = &mut self.leases
            && let Some(event) = leases.lent(host, lent, now)
        {
            log_lease(&mut self.packet_log, &event, now);
        }
    }

    fn look_after_leases(&mut self, now: Instant) {
        if let Some(leases) = &mut self.leases {
            for event in leases.look_after(self.translator.map_mut(), now) {
                log_lease(&mut self.packet_log, &event, now);
            }
        }
    }

    /// Says once what to do about a refusal that surprises people.
    fn explain(&mut self, reason: DropReason) {
        if reason == DropReason::WkpfStrict && !self.wkpf_strict_explained {
            self.wkpf_strict_explained = true;
            warn!(
                "A packet was refused because 64:ff9b::/96 is not for private IPv4 addresses \
                 (RFC 6052 section 3.1); with \"wkpf-strict no\" in the configuration they pass"
            );
        }
    }

    /// Looks at what happened to our link: its MTU is followed, and its name, and that it was down.
    fn follow_link(&mut self) -> Result<(), Error> {
        let attempt = "read about links by netlink";
        let index = self.device.link.index;
        let mut changed = false;
        for _ in 0..CHANGES {
            match self.changes.next().map_err(system(attempt))? {
                None => break,
                Some(Change::To(links)) => {
                    for link in links.iter().filter(|link| link.index == index) {
                        changed = true;
                        self.was_down |= !link.up;
                    }
                }
                Some(Change::Missed) => {
                    changed = true;
                    self.was_down = true; // it may have been
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
        if link.name != self.device.link.name {
            info!("{} is now called {}", self.device.link.name, link.name);
            self.config.tun_device.clone_from(&link.name);
        }
        if link.mtu != self.device.link.mtu {
            self.translator.set_mtu(translation_mtu(&link));
            if link.mtu < MIN_MTU.into() {
                warn!(
                    "{}: IPv6 needs an MTU of {MIN_MTU} octets or more, and this is {} now",
                    link.name, link.mtu
                );
            } else {
                info!("{} has an MTU of {} now", link.name, link.mtu);
            }
        }
        if link.up != self.device.link.up {
            let (state, status) = match link.up {
                true => ("up", "Translating on"),
                false => ("down", "Waiting for somebody to set up"),
            };
            info!("{} is {state} now", link.name);
            self.notify.send(&format!("STATUS={status} {}", link.name));
        }
        if link.up && std::mem::take(&mut self.was_down) {
            let steps = plan::setup(&self.config);
            let permitted = self.config.keep_net_admin;
            restore(&mut self.netlink, link.index, &steps, permitted);
        }
        self.device.link = link;
    }

    fn read_failed(&self, cause: io::Error) -> Error {
        match cause.raw_os_error().map(Errno::from_raw) {
            // What the kernel says of a descriptor whose device is gone, or is going.
            Some(Errno::EBADFD | Errno::EFAULT) => self.gone(),
            _ => Error::Tun {
                device: self.device.link.name.clone(),
                call: "read from",
                cause,
            },
        }
    }

    fn gone(&self) -> Error {
        Error::Gone {
            device: self.device.link.name.clone(),
        }
    }
}

/// `data-dir`, if it had to be made. It goes again if the daemon does not start.
struct MadeDirectory<'a>(Option<&'a Path>);

impl<'a> MadeDirectory<'a> {
    fn new(config: &'a Config) -> Self {
        let made = config.data_dir.as_deref().filter(|directory| {
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

impl Drop for MadeDirectory<'_> {
    fn drop(&mut self) {
        if let Some(directory) = self.0 {
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
    if options.identity.uid.is_none_or(|uid| uid.is_root()) {
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

/// What `-d` logs.
const EVERY_PACKET: LogClasses = LogClasses {
    drop: true,
    reject: true,
    icmp: true,
    own: true,
    dynamic: true,
};

const MILLISECOND: Duration = Duration::from_millis(1);

/// The MTU that the translator is told, in octets. A device can be made narrower than IPv6 allows (RFC 8200 section 5) while
/// it is in use; IPv6 then stops by itself.
fn translation_mtu(link: &Link) -> u16 {
    u16::try_from(link.mtu).unwrap_or(u16::MAX).max(MIN_MTU)
}

fn log_lines(lines: Vec<String>) {
    for line in lines {
        info!("{line}");
    }
}

fn log_lease(log: &mut Option<PacketLog>, event: &Event, now: Instant) {
    if let Some(log) = log
        && let Some(line) = log.lease_line(event.what, event.address, event.host, now)
    {
        info!("{line}");
    }
}

/// When it was, for a service manager (sd_notify(3)).
fn monotonic() -> String {
    match clock_gettime(ClockId::CLOCK_MONOTONIC) {
        Ok(now) => format!("MONOTONIC_USEC={}", Duration::from(now).as_micros()),
        Err(_) => String::new(),
    }
}
