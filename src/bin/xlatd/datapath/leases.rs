//! Keeps the leases of `dynamic-pool`: when they are aged, and when they are written.

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
        pool::{Aged, How, Lent, PoolFull},
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

/// Where leases are kept, and the lock of the directory, if it could be locked.
type Kept = (Option<Arc<KeptFile>>, Option<Lock>);

/// What happened to a lease, for the packet log.
pub(crate) struct Event {
    pub(crate) what: &'static str,
    pub(crate) address: Ipv4Addr,
    pub(crate) host: Ipv6Addr,
}

/// The file of the leases, and when to look after them.
pub(crate) struct Leases {
    /// `None` if they are not kept.
    file: Option<Arc<KeptFile>>,
    /// The lock of their directory: two instances would overwrite each other's leases.
    lock: Option<Lock>,
    /// The last write, which takes as long as a disk does, and no packet waits for it.
    writer: Option<JoinHandle<()>>,
    /// Whether it has failed.
    failed: Arc<AtomicBool>,
    pub(crate) upkeep: Upkeep,
    /// Packets of hosts that got no address.
    refused: Tally,
}

impl Leases {
    /// Where they are kept, if they are.
    pub(crate) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(|file| file.directory())
    }

    /// Takes over the leases of the file. `None` without `dynamic-pool`. Nothing that fails here is
    /// a reason not to start, except that another instance keeps leases in the same directory.
    pub(crate) fn start(config: &Config, map: &mut AddressMap) -> Result<Option<Self>, Error> {
        let Some(pool) = config.dynamic_pool else {
            return Ok(None);
        };
        info!("Dynamic pool: {pool}");
        let now = Instant::now();
        let second = system_second();
        map.set_now(second);
        let (file, lock) = match &config.data_dir {
            Some(directory) => take_over(directory, &config.tun_device, map)?,
            None => (None, None),
        };
        Ok(Some(Self {
            file,
            lock,
            writer: None,
            failed: Arc::default(),
            upkeep: Upkeep::new(now, second),
            refused: Tally::default(),
        }))
    }

    /// Lets somebody else write the leases, whom `identity` names.
    ///
    /// Whoever may write to a directory may do all in it: root's directory is given away only if there is nothing in it
    /// but `ours`, what xlatd has there.
    pub(crate) fn give(&self, identity: Identity, ours: &[Option<PathBuf>]) {
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
        let give = || {
            if uid.is_root() || !file.directory_owner()?.is_root() {
                return Ok(true);
            }
            let all_ours =
                !file.directory_is_shared()? && file.neighbours()?.iter().all(|name| is_ours(name));
            if all_ours {
                if let Some(lock) = &self.lock {
                    lock.give(uid, identity.gid)?;
                }
                file.give_directory(uid, identity.gid)?;
            }
            io::Result::Ok(all_ours)
        };
        let directory = directory.display();
        match give() {
            Ok(true) => {}
            Ok(false) => warn!(
                "{directory}: is not for xlatd alone, so it stays root's, and leases may not be kept: \
                 chown {uid} {directory}"
            ),
            Err(error) => warn!(
                "{directory}: cannot be made that of the user who is to write leases there: {error}"
            ),
        }
    }

    /// Tells the map the time. Every 45 seconds, ages its leases and writes them if any changed.
    pub(crate) fn look_after(&mut self, map: &mut AddressMap, now: Instant) -> Vec<Event> {
        if now >= self.upkeep.next_check() && self.failed.swap(false, Ordering::Relaxed) {
            self.upkeep.changed();
        }
        let checked = self.upkeep.tick(map, now, system_second);
        if let Some(step) = checked.clock_step {
            info!("The clock was set by {step} s: leases keep their age");
        }
        if checked.write {
            self.write(map);
        }
        let event = |aged| {
            let (what, address, host) = match aged {
                Aged::Dormant { host, address } => ("dormant", address, host),
                Aged::Freed { host, address } => ("freed", address, host),
            };
            Event {
                what,
                address,
                host,
            }
        };
        checked.aged.into_iter().map(event).collect()
    }

    /// A host has been lent an address, or there was none for it.
    pub(crate) fn lent(
        &mut self,
        host: Ipv6Addr,
        lent: Result<Lent, PoolFull>,
        now: Instant,
    ) -> Option<Event> {
        let Ok(lent) = lent else {
            if let Some(count) = self.refused.add(now) {
                warn!(
                    "dynamic-pool is full: packets of hosts without an address are refused ({count} so far)"
                );
            }
            return None;
        };
        self.upkeep.changed();
        let what = match lent.how {
            How::Assigned => "assigned",
            How::Reactivated => "reactivated",
            How::Reassigned { .. } => "reassigned",
        };
        let address = lent.address;
        Some(Event {
            what,
            address,
            host,
        })
    }

    /// Begins to write the leases as they are now. A file that cannot be written stays as it was, and the next check tries
    /// again.
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
            let _ = writer.join(); // it has said what went wrong
        }
    }
}

/// Locks the directory of the leases and takes them over. No file if they are not kept.
fn take_over(directory: &Path, device: &str, map: &mut AddressMap) -> Result<Kept, Error> {
    let path = directory.join("dynamic.map");
    let not_kept = |error| {
        // A file that cannot be read is not written over: it may hold leases.
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
    // Before the file is read: an instance that is about to end may still be writing it.
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

/// Locks the directory of the leases. `None` where that is not possible, which is reported.
///
/// The file of the leases is replaced by each write, and would be another one without the lock.
fn lock_directory(file: &KeptFile, device: &str) -> Result<Option<Lock>, Error> {
    let path = file.path().parent().unwrap_or(file.path());
    match try_to_lock(file.directory()) {
        Ok(Ok(lock)) => Ok(Some(lock)),
        Ok(Err(holder)) => Err(Error::DataDir {
            device: device.to_owned(),
            path: path.to_owned(),
            holder,
        }),
        // The directory may be read-only, or on a file system without locks.
        Err(error) => {
            warn!(
                "{}: cannot be locked, so nothing keeps another instance from writing leases \
                 there: {error}",
                path.join(lock::NAME).display()
            );
            Ok(None)
        }
    }
}

/// Locks a directory; otherwise, who has locked it, if that is known.
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

/// What is in the file; nothing if there is none.
fn read(file: &KeptFile) -> io::Result<Vec<u8>> {
    match file.read() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        result => result,
    }
}

/// Seconds since 1970, by the clock of the system.
fn system_second() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Makes the directory if it is not there, and says whether it did; the umask decides who may enter.
pub(crate) fn make_directory(path: &Path) -> io::Result<bool> {
    match DirBuilder::new().create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
