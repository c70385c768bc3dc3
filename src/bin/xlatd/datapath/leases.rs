//! The leases of `dynamic-pool`: ageing them, and keeping them in a file.

use std::{
    ffi::OsStr,
    fs::DirBuilder,
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use log::{info, warn};
use xlatd::{
    addr::{
        AddressMap,
        pool::{Aged, Followed, Lease, Lent, Origin, PoolFull},
        upkeep::Upkeep,
    },
    config::{Config, dynamic_map},
};

use crate::{
    datapath::tally::Tally,
    error::Error,
    sys::{
        holder::Holder,
        kept_file::KeptFile,
        lock::{self, Lock},
        privilege::Identity,
        record::locked,
    },
};

/// How often the lock of the directory is tried, every 10 ms: an instance that was told to stop may
/// still be writing its leases.
const LOCK_TRIES: u32 = 200;

/// The lease file if leases are kept, and the lock of its directory if it could be locked.
type Kept = (Option<Arc<KeptFile>>, Option<Lock>);

/// A change of a lease, for the packet log.
pub(crate) struct LeaseEvent {
    pub(crate) kind: &'static str,
    pub(crate) address: Ipv4Addr,
    pub(crate) host: Ipv6Addr,
}

/// The lease file, and the times to age and to write leases.
pub(crate) struct Leases {
    /// `None` if leases are not kept.
    file: Option<Arc<KeptFile>>,
    /// The lock of the directory: two instances would overwrite each other's leases.
    lock: Option<Lock>,
    /// The thread of the last write, so that packets do not wait for the disk.
    writer: Option<JoinHandle<()>>,
    /// Whether that write failed.
    failed: Arc<AtomicBool>,
    pub(crate) upkeep: Upkeep,
    /// Packets of hosts that got no address.
    refused: Tally,
    /// Other workers, if there are any.
    followers: Option<Followers>,
}

/// What workers that follow the leases are to know, and to tell before a check.
#[derive(Default)]
struct Followers {
    /// Leases that have changed.
    changed: Vec<Followed>,
    /// Whether they were asked for the uses of leases, for the check that is due.
    are_asked: bool,
    /// Whether they have told them.
    have_told: bool,
}

impl Leases {
    /// The directory of the lease file, if leases are kept.
    pub(crate) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(|file| file.directory())
    }

    /// Has other workers follow the leases from now on.
    pub(crate) fn start_following(&mut self) {
        self.followers = Some(Followers::default());
    }

    /// The leases that have changed since the last time, for those who follow.
    pub(crate) fn take_changed(&mut self) -> Vec<Followed> {
        let followers = self.followers.as_mut();
        followers
            .map(|followers| std::mem::take(&mut followers.changed))
            .unwrap_or_default()
    }

    /// Whether a check is due that waits for the uses of leases elsewhere.
    fn awaits_uses(&self, now: Instant) -> bool {
        let followers = self.followers.as_ref();
        followers.is_some_and(|one| !one.have_told) && now >= self.upkeep.next_check()
    }

    /// Whether the uses of leases elsewhere are to be asked for now.
    pub(crate) fn asks_for_uses(&mut self, now: Instant) -> bool {
        let awaits = self.awaits_uses(now);
        let followers = self.followers.as_mut().filter(|_| awaits);
        followers.is_some_and(|one| !std::mem::replace(&mut one.are_asked, true))
    }

    /// Has the next check made: all uses of leases elsewhere are known.
    pub(crate) fn uses_are_told(&mut self) {
        if let Some(followers) = &mut self.followers {
            followers.have_told = followers.are_asked;
        }
    }

    /// The time of the next check, unless it waits for something else.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let followers = self.followers.as_ref();
        let waits = followers.is_some_and(|one| one.are_asked && !one.have_told);
        (!waits).then(|| self.upkeep.next_check())
    }

    /// Packets of hosts that got no address.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.count
    }

    /// Loads the leases of the file. `None` without `dynamic-pool`. Fails only if another instance
    /// keeps leases in the same directory; other failures are logged, and leases are not kept.
    pub(crate) fn start(config: &Config, map: &mut AddressMap) -> Result<Option<Self>, Error> {
        let Some(pool) = config.dynamic_pool else {
            return Ok(None);
        };
        info!("Dynamic pool: {pool}");
        let now = Instant::now();
        let second = system_second();
        map.set_now(second);
        let (file, lock) = match &config.data_dir {
            Some(directory) => load(directory, &config.tun_device, map)?,
            None => (None, None),
        };
        Ok(Some(Self {
            file,
            lock,
            writer: None,
            failed: Arc::default(),
            upkeep: Upkeep::new(now, second),
            refused: Tally::default(),
            followers: None,
        }))
    }

    /// Makes `identity` the owner of the directory and its lock file, so that it can write leases.
    ///
    /// The owner of a directory may remove any file in it: root's directory changes hands only if
    /// all files in it are xlatd's, of which `ours` names those besides the leases.
    pub(crate) fn chown_directory(&self, identity: Identity, ours: &[Option<PathBuf>]) {
        let (Some(file), Some(uid)) = (&self.file, identity.uid) else {
            return;
        };
        let directory = file.path().parent().unwrap_or(file.path());
        let is_ours = |name: &OsStr| {
            let path = directory.join(name);
            name == "dynamic.map"
                || name == "dynamic.map~~"
                || name == lock::NAME
                || ours.iter().flatten().any(|own| *own == path)
        };
        let chown = || {
            if uid.is_root() || !file.directory_owner()?.is_root() {
                return Ok(true);
            }
            let all_ours = !file.directory_is_shared()?
                && file.directory_entries()?.iter().all(|name| is_ours(name));
            if all_ours {
                if let Some(lock) = &self.lock {
                    lock.give(uid, identity.gid)?;
                }
                file.chown_directory(uid, identity.gid)?;
            }
            io::Result::Ok(all_ours)
        };
        let directory = directory.display();
        match chown() {
            Ok(true) => {}
            Ok(false) => warn!(
                "{directory}: not changing its owner, since it is not for xlatd alone; leases may \
                 not be kept: chown {uid} {directory}"
            ),
            Err(error) => warn!("{directory}: cannot change its owner to user {uid}: {error}"),
        }
    }

    /// Tells the map the time. Every 45 seconds, ages its leases and writes them if any changed.
    pub(crate) fn look_after(&mut self, map: &mut AddressMap, now: Instant) -> Vec<LeaseEvent> {
        if self.awaits_uses(now) {
            self.upkeep.set_time(map, now);
            return Vec::new();
        }
        if now >= self.upkeep.next_check() && self.failed.swap(false, Ordering::Relaxed) {
            self.upkeep.changed();
        }
        let is_check = now >= self.upkeep.next_check();
        let checked = self.upkeep.tick(map, now, system_second);
        if let Some(followers) = &mut self.followers
            && is_check
        {
            (followers.are_asked, followers.have_told) = (false, false);
            let changed = checked.aged.iter().map(|&aged| match aged {
                Aged::Dormant { host, address } => follow(map, host, address),
                Aged::Freed { host, address } => ended(host, address),
            });
            followers.changed.extend(changed);
        }
        if let Some(step) = checked.clock_step {
            info!("The clock was set by {step} s: leases keep their age");
        }
        if checked.write {
            self.write(map);
        }
        let event = |aged| {
            let (kind, address, host) = match aged {
                Aged::Dormant { host, address } => ("dormant", address, host),
                Aged::Freed { host, address } => ("freed", address, host),
            };
            LeaseEvent {
                kind,
                address,
                host,
            }
        };
        checked.aged.into_iter().map(event).collect()
    }

    /// Records that the pool lent an address to a host, or had none for it.
    pub(crate) fn lent(
        &mut self,
        host: Ipv6Addr,
        lent: Result<Lent, PoolFull>,
        map: &AddressMap,
        now: Instant,
    ) -> Option<LeaseEvent> {
        let Ok(lent) = lent else {
            if let Some(count) = self.refused.add(now) {
                warn!(
                    "dynamic-pool is full: packets of hosts without an address are refused \
                     ({count} so far)"
                );
            }
            return None;
        };
        self.upkeep.changed();
        let kind = match lent.origin {
            Origin::Assigned => "assigned",
            Origin::Reactivated => "reactivated",
            Origin::Reassigned { .. } => "reassigned",
        };
        let address = lent.address;
        if let Some(followers) = &mut self.followers {
            followers.changed.push(follow(map, host, address));
        }
        Some(LeaseEvent {
            kind,
            address,
            host,
        })
    }

    /// Starts writing the current leases. If that fails the old file stays, and the next check
    /// tries again.
    pub(crate) fn write(&mut self, map: &AddressMap) {
        let Some(file) = self.file.clone() else {
            return;
        };
        if self
            .writer
            .as_ref()
            .is_some_and(|writer| !writer.is_finished())
        {
            self.upkeep.changed(); // the disk is slower than this: later
            return;
        }
        self.upkeep.written(Instant::now());
        let text = dynamic_map::text(map, system_second());
        let failed = self.failed.clone();
        let write = move || {
            if let Err(error) = file.replace(&text) {
                failed.store(true, Ordering::Relaxed);
                warn!(
                    "{}: cannot write the leases: {error}",
                    file.path().display()
                );
            }
        };
        match thread::Builder::new()
            .name("leases".to_owned())
            .spawn(write)
        {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => {
                self.upkeep.changed();
                warn!("cannot write the leases without holding up packets: {error}");
            }
        }
    }

    /// Writes the leases for the last time.
    pub(crate) fn end(&mut self, map: &AddressMap) {
        self.wait();
        self.write(map);
        self.wait();
    }

    fn wait(&mut self) {
        if let Some(writer) = self.writer.take() {
            let _ = writer.join(); // the thread has logged its failure
        }
    }
}

/// A lease as it is now.
fn follow(map: &AddressMap, host: Ipv6Addr, address: Ipv4Addr) -> Followed {
    let lease = map.pool().and_then(|pool| pool.lease_of(host.into()));
    match lease {
        Some((lease, state)) => Followed {
            lease,
            state: Some(state),
        },
        None => ended(host, address),
    }
}

/// A lease that has ended.
fn ended(host: Ipv6Addr, address: Ipv4Addr) -> Followed {
    let lease = Lease {
        address,
        host,
        last_use: 0,
    };
    Followed { lease, state: None }
}

/// Locks the directory and loads its leases. Returns no file if leases are not kept.
fn load(directory: &Path, device: &str, map: &mut AddressMap) -> Result<Kept, Error> {
    let path = directory.join("dynamic.map");
    let not_kept = |error| {
        // A file that cannot be read may hold leases, so it is not overwritten.
        warn!(
            "{}: cannot be read, so leases are not kept: {error}",
            path.display()
        );
        Ok((None, None))
    };
    let file = match KeptFile::to_replace(&path) {
        Ok(file) => file,
        Err(error) => return not_kept(error),
    };
    // Before the file is read: an instance that is stopping may still be writing it.
    let lock = lock_directory(&file, device)?;
    let text = match read(&file) {
        Ok(text) => text,
        Err(error) => return not_kept(error),
    };
    let loaded = dynamic_map::load(map, &text);
    for error in &loaded.errors {
        warn!("{}: the line is ignored", error.in_file(&path));
    }
    for notice in &loaded.notices {
        warn!("{}", notice.in_file(&path));
    }
    info!("Loaded {} leases from {}", loaded.leases, path.display());
    Ok((Some(Arc::new(file)), lock))
}

/// Locks the directory of the lease file. `None` if that is impossible, which is logged.
///
/// The lock is a file of its own, since each write replaces the lease file.
fn lock_directory(file: &KeptFile, device: &str) -> Result<Option<Lock>, Error> {
    let path = file.path().parent().unwrap_or(file.path());
    match try_to_lock(file.directory()) {
        Ok(Ok(lock)) => Ok(Some(lock)),
        Ok(Err(holder)) => Err(Error::DataDirInUse {
            device: device.to_owned(),
            path: path.to_owned(),
            holder,
        }),
        // The directory may be read-only, or on a file system without locks.
        Err(error) => {
            warn!(
                "{}: cannot be locked, so another instance may overwrite these leases: {error}",
                path.join(lock::NAME).display()
            );
            Ok(None)
        }
    }
}

/// Locks a directory. Otherwise returns the process that holds the lock, if it is known.
fn try_to_lock(directory: BorrowedFd<'_>) -> io::Result<Result<Lock, Option<Holder>>> {
    loop {
        let file = lock::open(directory)?;
        let same_file = file.try_clone()?;
        let Some(locked) = locked(file, LOCK_TRIES)? else {
            return Ok(Err(Holder::of(&same_file)));
        };
        if let Some(lock) = Lock::new(directory, locked)? {
            return Ok(Ok(lock));
        }
    }
}

/// Reads the lease file; empty if it does not exist.
fn read(file: &KeptFile) -> io::Result<Vec<u8>> {
    match file.read() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        result => result,
    }
}

/// Seconds since 1970, by the system clock.
fn system_second() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Creates the directory, with the permissions that the umask leaves. Returns `false` if it exists.
pub(crate) fn create_directory(path: &Path) -> io::Result<bool> {
    match DirBuilder::new().create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
