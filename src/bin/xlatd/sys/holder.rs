//! The process that holds the lock of a file (flock(2)), found in /proc (proc_pid_fdinfo(5)).

use std::{
    ffi::OsString,
    fs,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
};

use nix::sys::stat::{FileStat, fstat};

/// A process that holds the lock of a file.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    /// The TUN device that the process is attached to.
    pub(crate) device: Option<String>,
}

impl Holder {
    /// The process that holds the lock of `file`. `None` where /proc does not show it: the process
    /// is in another PID namespace, or belongs to another user.
    pub(crate) fn of(file: impl AsFd) -> Option<Self> {
        let file = fstat(file).ok()?;
        fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let process = entry.path();
            holds_lock(&process, &file).then(|| Self {
                pid,
                device: device(&process),
            })
        })
    }
}

/// Whether the process of this /proc directory holds the lock of a file.
fn holds_lock(process: &Path, file: &FileStat) -> bool {
    // "lock: 1: FLOCK ADVISORY WRITE 1234 fe:00:10035201 0 EOF". The device number may differ from
    // that of stat(2), so only the inode is compared here.
    let inode = format!(":{}", file.st_ino);
    descriptors(process).any(|(number, text)| {
        let mut locks = text.lines().filter(|line| line.starts_with("lock:"));
        locks.any(|line| line.contains("FLOCK") && line.contains(&inode))
            && fs::metadata(process.join("fd").join(number))
                .is_ok_and(|found| (found.dev(), found.ino()) == (file.st_dev, file.st_ino))
    })
}

/// The TUN device that the process of this /proc directory is attached to.
fn device(process: &Path) -> Option<String> {
    descriptors(process).find_map(|(_, text)| {
        let name = text.lines().find_map(|line| line.strip_prefix("iff:"))?;
        Some(name.trim().to_owned())
    })
}

/// The descriptors of a process: the number of each, and its fdinfo.
fn descriptors(process: &Path) -> impl Iterator<Item = (OsString, String)> {
    let entries = fs::read_dir(process.join("fdinfo"));
    entries.into_iter().flatten().flatten().filter_map(|entry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        Some((entry.file_name(), text))
    })
}
