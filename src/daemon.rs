//! Owns everything, and waits.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    os::fd::AsFd,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use log::{debug, info, warn};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use xlatd::{
    addr::{
        AddressMap, dynamic_map,
        pool::{Aged, How},
    },
    config::{Config, LogClasses},
    packet_log::{PacketLog, Summary},
    plan::{self, Step},
    stats::Stats,
    translate::{Direction, DropReason, Outcome, Packet, Reply, Translator},
    wire::ipv6::MIN_MTU,
};

use crate::{
    error::Error,
    sys::{
        lease_file::{LeaseFile, make_directory},
        map_file::MapFile,
        netlink::{Change, Done, Kind, Link, LinkChanges, Netlink},
        signals::{Signal, Signals},
        tun::Tun,
    },
};

// Places in the poll set.
const SIGNALS: usize = 0;
const LINKS: usize = 1;
const TUN: usize = 2;

/// So many packets a turn at most: a flood starves neither signals nor timers.
const BATCH: usize = 256;
/// And so many messages about links.
const CHANGES: usize = 64;

/// How often leases are aged, and written if they changed: tayga's figure.
const LEASE_INTERVAL: Duration = Duration::from_secs(45);
/// How often they are written though none changed, for the times of their use: tayga's figure, 3.5 days.
const LEASE_TIMES_INTERVAL: Duration = Duration::from_secs(302_400);
/// So many leases are aged at once, to hold up no packets.
const MOST_AGED: usize = 10_000;

/// How often it is said that packets could not be written, or that the pool is full.
const TALLY_INTERVAL: Duration = Duration::from_secs(60);

/// The translator, its device and all that belongs to them.
pub(crate) struct Daemon {
    config: Config,
    map_file: Option<MapFile>,
    leases: Option<Leases>,
    signals: Signals,
    netlink: Netlink,
    changes: LinkChanges,
    device: Device,
    translator: Translator,
    packet: Packet,
    packet_log: Option<PacketLog>,
    stats: Stats,
    /// Whether somebody has been told how to get rid of `wkpf-strict`.
    wkpf_strict_explained: bool,
}

impl Daemon {
    /// Attaches to the device and sets it up. What was done is undone if something fails.
    pub(crate) fn start(config: Config, debug: bool) -> Result<Self, Error> {
        if let Some(directory) = &config.data_dir
            && let Err(error) = make_directory(directory)
        {
            warn!("{}: cannot make the data-dir: {error}", directory.display());
        }
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
        let mut setup = Setup {
            netlink,
            device: None,
        };
        setup.run(&plan::setup(&config))?;
        let Setup { netlink, device } = setup;
        // To attach is the first step of every plan.
        let device = device.expect("a plan attaches to its device");

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

        Ok(Self {
            packet_log: PacketLog::new(if debug { EVERY_PACKET } else { config.log }),
            config,
            map_file,
            leases,
            signals,
            netlink,
            changes,
            device,
            translator,
            packet: Packet::new(),
            stats: Stats::default(),
            wkpf_strict_explained: false,
        })
    }

    /// Translates until a signal asks to stop, and says what became of the packets.
    pub(crate) fn run(&mut self) -> Result<(), Error> {
        let result = self.turn_until_stopped();
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
        if let Some(leases) = &mut self.leases {
            leases.write(self.translator.map());
        }
        let Some(file) = &self.map_file else {
            info!("SIGHUP: there is no map-file to read again");
            return;
        };
        match read_map_file(&self.config, file) {
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
            }
        }
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
        {
            match lent {
                Ok(lent) => {
                    leases.changed = true;
                    let what = match lent.how {
                        How::Assigned => "assigned",
                        How::Reactivated => "reactivated",
                        How::Reassigned { .. } => "reassigned",
                    };
                    if let Some(log) = &mut self.packet_log
                        && let Some(line) = log.lease_line(what, lent.address, host, now)
                    {
                        info!("{line}");
                    }
                }
                Err(_) => leases.refused(now),
            }
        }
    }

    /// Tells the pool the time, and every 45 seconds has it give up what nobody uses and writes what changed.
    fn look_after_leases(&mut self, now: Instant) {
        let Some(leases) = &mut self.leases else {
            return;
        };
        let map = self.translator.map_mut();
        map.set_now(leases.second(now));
        if now < leases.next_check {
            return;
        }
        let aged = map.age_leases(MOST_AGED);
        for aged in &aged {
            let (what, address, host) = match *aged {
                Aged::Dormant { host, address } => ("dormant", address, host),
                Aged::Freed { host, address } => ("freed", address, host),
            };
            if let Some(log) = &mut self.packet_log
                && let Some(line) = log.lease_line(what, address, host, now)
            {
                info!("{line}");
            }
        }
        leases.changed |= !aged.is_empty();
        if leases.changed || now >= leases.write_at {
            leases.write(self.translator.map());
        }
        leases.next_check = now + LEASE_INTERVAL;
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

    /// Looks at what happened to our link: its MTU is followed, and its name.
    fn follow_link(&mut self) -> Result<(), Error> {
        let attempt = "read about links by netlink";
        for _ in 0..CHANGES {
            let Some(change) = self.changes.next().map_err(system(attempt))? else {
                break;
            };
            let links = match change {
                Change::To(links) => links,
                Change::Missed => {
                    let link = self.netlink.link_by_index(self.device.link.index);
                    link.map_err(system(attempt))?.into_iter().collect()
                }
            };
            for link in links {
                self.link_is(link);
            }
        }
        Ok(())
    }

    fn link_is(&mut self, link: Link) {
        if link.index != self.device.link.index {
            return;
        }
        if link.name != self.device.link.name {
            info!("{} is now called {}", self.device.link.name, link.name);
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

/// Makes the configured device persistent, creating it if it does not exist. (`--mktun`)
pub(crate) fn make_tun(config: &Config) -> Result<(), Error> {
    let mut netlink = Netlink::new().map_err(system("talk netlink to the kernel"))?;
    let device = &config.tun_device;
    let existed = find(&mut netlink, device)?.is_some();
    let attached = Device::attach(&mut netlink, device)?;
    attached
        .tun
        .set_persistent(true)
        .map_err(|cause| Error::Tun {
            device: device.clone(),
            call: "make persistent",
            cause,
        })?;
    if existed {
        info!("Persistent tun device {device} is there already");
    } else {
        info!("Created persistent tun device {device}");
    }
    Ok(())
}

/// Removes the configured device, if it exists. (`--rmtun`)
pub(crate) fn remove_tun(config: &Config) -> Result<(), Error> {
    let mut netlink = Netlink::new().map_err(system("talk netlink to the kernel"))?;
    let device = &config.tun_device;
    if find(&mut netlink, device)?.is_none() {
        info!("There is no tun device {device}");
        return Ok(());
    }
    let attached = Device::attach(&mut netlink, device)?;
    attached
        .tun
        .set_persistent(false)
        .map_err(|cause| Error::Tun {
            device: device.clone(),
            call: "remove",
            cause,
        })?;
    info!("Removed persistent tun device {device}");
    Ok(())
}

/// The file of the leases, and when to look after them.
struct Leases {
    /// `None` if they are not kept.
    file: Option<LeaseFile>,
    /// When this started: the clock that the leases go by is set once, so that they do not jump with the system's.
    start: (Instant, u64),
    /// Whether there is something that the file does not have.
    changed: bool,
    next_check: Instant,
    /// When the file is written though no lease came or went, for the times in it.
    write_at: Instant,
    /// Packets of hosts that got no address.
    refused: Tally,
}

impl Leases {
    /// Takes over the leases of the file. `None` without `dynamic-pool`. Nothing that fails here is a reason not to start.
    fn start(config: &Config, map: &mut AddressMap) -> Option<Self> {
        let pool = config.dynamic_pool?;
        info!("Dynamic pool: {pool}");
        let now = Instant::now();
        let second = SystemTime::now().duration_since(UNIX_EPOCH);
        let second = second.map_or(0, |since| since.as_secs());
        map.set_now(second);
        let file = config.data_dir.as_deref().and_then(|directory| {
            let read = LeaseFile::new(directory).and_then(|file| Ok((file.read()?, file)));
            match read {
                Ok((text, file)) => {
                    let (taken, left_out) = dynamic_map::load(map, &text);
                    let path = file.path().display();
                    for line in left_out {
                        warn!("{path}:{line}");
                    }
                    info!("Loaded {taken} leases from {path}");
                    Some(file)
                }
                // A file that cannot be read is not written over: it may hold leases.
                Err(error) => {
                    warn!(
                        "{}: cannot read dynamic.map, so leases are not kept: {error}",
                        directory.display()
                    );
                    None
                }
            }
        });
        Some(Self {
            file,
            start: (now, second),
            changed: false,
            next_check: now + LEASE_INTERVAL,
            write_at: now + LEASE_TIMES_INTERVAL,
            refused: Tally::default(),
        })
    }

    /// Seconds since 1970, by the clock that was set at the start.
    fn second(&self, now: Instant) -> u64 {
        self.start.1 + now.duration_since(self.start.0).as_secs()
    }

    /// A file that cannot be written stays as it was, and the next check tries again.
    fn write(&mut self, map: &AddressMap) {
        let Some(file) = &self.file else {
            return;
        };
        match file.write(&dynamic_map::text(map)) {
            Ok(()) => {
                self.changed = false;
                self.write_at = Instant::now() + LEASE_TIMES_INTERVAL;
            }
            Err(error) => {
                self.changed = true;
                warn!(
                    "{}: cannot write the leases: {error}",
                    file.path().display()
                );
            }
        }
    }

    fn refused(&mut self, now: Instant) {
        if let Some(count) = self.refused.add(now) {
            warn!(
                "dynamic-pool is full: packets of hosts without an address are refused ({count} so far)"
            );
        }
    }
}

/// Finds the map-file, if the configuration has one.
fn open_map_file(config: &Config) -> Result<Option<MapFile>, Error> {
    let open = |path: PathBuf| MapFile::new(&path).map_err(|cause| Error::Read { path, cause });
    config.map_file_path().map(open).transpose()
}

/// Who is whom by the configuration and its map-file. What there is to know about the file is logged.
fn read_map_file(config: &Config, file: &MapFile) -> Result<AddressMap, Error> {
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

/// Counts what a flood could bring about, so that it is said now and then.
#[derive(Default)]
struct Tally {
    count: u64,
    silent_until: Option<Instant>,
}

impl Tally {
    /// Counts one more, and returns how many there were if that may be said now.
    fn add(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.silent_until.is_some_and(|until| now < until) {
            return None;
        }
        self.silent_until = Some(now + TALLY_INTERVAL);
        Some(self.count)
    }
}

/// The TUN device, and what has become of it.
struct Device {
    tun: Tun,
    link: Link,
    /// Packets that the kernel did not take.
    unwritten: Tally,
}

impl Device {
    /// Attaches to the device of this name; see [`Tun::open`].
    fn attach(netlink: &mut Netlink, name: &str) -> Result<Self, Error> {
        let multi_queue =
            find(netlink, name)?.is_some_and(|link| link.kind == Kind::Tun { multi_queue: true });
        let tun = Tun::open(name, multi_queue).map_err(|cause| Error::Attach {
            device: name.to_owned(),
            cause,
        })?;
        let link = find(netlink, name)?.ok_or_else(|| Error::Gone {
            device: name.to_owned(),
        })?;
        Ok(Self {
            tun,
            link,
            unwritten: Tally::default(),
        })
    }

    /// Writes one packet. One that the kernel does not take is lost, as on any link.
    fn write(&mut self, packet: &[u8], now: Instant) {
        let Err(error) = self.tun.write(packet) else {
            return;
        };
        if let Some(count) = self.unwritten.add(now) {
            warn!(
                "{}: cannot write a packet ({count} so far): {error}",
                self.link.name
            );
        }
    }
}

/// Carries out steps.
struct Setup {
    netlink: Netlink,
    device: Option<Device>,
}

impl Setup {
    /// Takes all steps, or none: if one fails, those before it are undone, last first.
    fn run(&mut self, steps: &[Step]) -> Result<(), Error> {
        let mut undo = Vec::new();
        for step in steps {
            match self.step(step) {
                Ok(Done::Now) => undo.extend(step.undo()),
                Ok(Done::Before) => {}
                Err(error) => {
                    for step in undo.iter().rev() {
                        if let Err(error) = self.step(step) {
                            warn!("{error}");
                        }
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<Done, Error> {
        if let Step::CreateDevice { device } = step {
            self.device = Some(self.attach(device)?);
            return Ok(Done::Now);
        }
        // All steps are about the device that the first one attached to; others might get its name, but not its index.
        let index = self.device.as_ref().map_or(0, |device| device.link.index);
        let netlink = &mut self.netlink;
        let result = match step {
            Step::CreateDevice { .. } => Ok(Done::Before),
            Step::SetUp { .. } => netlink.set_up(index),
            Step::SetDown { .. } => netlink.set_down(index),
            Step::AddAddress { address, .. } => netlink.add_address(index, *address),
            Step::RemoveAddress { address, .. } => netlink.remove_address(index, *address),
            Step::AddRoute { destination, .. } => netlink.add_route(index, *destination),
            Step::RemoveRoute { destination, .. } => netlink.remove_route(index, *destination),
        };
        match &result {
            Ok(Done::Now) => info!("{step}: done"),
            Ok(Done::Before) => info!("{step}: so it was before"),
            Err(_) => {}
        }
        result.map_err(|cause| Error::Step {
            step: step.clone(),
            cause,
        })
    }

    /// Attaches to a device over which both families can be sent.
    fn attach(&mut self, name: &str) -> Result<Device, Error> {
        let device = Device::attach(&mut self.netlink, name)?;
        let Link { name, mtu, .. } = &device.link;
        if *mtu < MIN_MTU.into() {
            return Err(Error::Mtu {
                device: name.clone(),
                mtu: *mtu,
            });
        }
        info!("Using tun device {name} with MTU {mtu}");
        Ok(device)
    }
}

/// The TUN device of this name, if there is one. A device of another kind is an error.
fn find(netlink: &mut Netlink, name: &str) -> Result<Option<Link>, Error> {
    let link = netlink
        .link(name)
        .map_err(system("look for the TUN device by netlink"))?;
    let kind = match link.as_ref().map(|link| &link.kind) {
        None | Some(Kind::Tun { .. }) => return Ok(link),
        Some(Kind::Tap) => "a TAP device".to_owned(),
        Some(Kind::Other(Some(kind))) => format!("a device of type {kind}"),
        Some(Kind::Other(None)) => "another device".to_owned(),
    };
    Err(Error::NotTun {
        device: name.to_owned(),
        kind,
    })
}

/// The MTU that the translator is told, in octets. A device can be made narrower than IPv6 allows (RFC 8200 section 5) while
/// it is in use; IPv6 then stops by itself.
fn translation_mtu(link: &Link) -> u16 {
    u16::try_from(link.mtu).unwrap_or(u16::MAX).max(MIN_MTU)
}

fn system(attempt: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::System { attempt, cause }
}

fn log_lines(lines: Vec<String>) {
    for line in lines {
        info!("{line}");
    }
}
