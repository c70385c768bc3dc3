//! The processes that hold a TUN device or the lock of a file (flock(2)), found in /proc
//! (proc_pid_fdinfo(5)).

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::{
        fd::AsFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
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
                device: devices(&process).next(),
            })
        })
    }
}

/// A process of this network namespace.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// The file that it runs.
    pub(crate) program: PathBuf,
    /// Its command line, with the name that it was started by.
    pub(crate) words: Vec<OsString>,
    /// Its working directory.
    pub(crate) directory: PathBuf,
    /// The unit of systemd that it is the main process of.
    pub(crate) unit: Option<String>,
    /// The TUN devices that it is attached to.
    pub(crate) devices: Vec<String>,
}

impl Process {
    /// The process of this number; `None` where /proc does not show it.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let process = Path::new("/proc").join(pid.to_string());
        let program = fs::read_link(process.join("exe")).ok()?;
        let command = fs::read(process.join("cmdline")).ok()?;
        let words = command.split(|octet| *octet == 0);
        let mut words: Vec<_> = words
            .map(|word| OsStr::from_bytes(word).to_owned())
            .collect();
        words.pop(); // behind the last zero
        let groups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        let unit = unit(pid, &groups, &environment);
        Some(Self {
            pid,
            program,
            words,
            directory: fs::read_link(process.join("cwd")).unwrap_or_default(),
            unit: unit.map(str::to_owned),
            devices: devices(&process).collect(),
        })
    }

    /// Whether it runs this program, by whatever name, and of whatever version.
    pub(crate) fn is_xlatd(&self) -> bool {
        // A file that was replaced since has " (deleted)" behind its name.
        let name = self.program.file_name().and_then(OsStr::to_str);
        name.and_then(|name| name.split(' ').next()) == Some("xlatd")
    }
}

/// The processes of this network namespace that have TUN devices or are xlatd, and whether all
/// processes could be looked at.
pub(crate) fn processes() -> (Vec<Process>, bool) {
    let namespace = |process: &Path| fs::read_link(process.join("ns/net"));
    let ours = namespace(Path::new("/proc/self")).ok();
    let mut saw_all = true;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        match namespace(&entry.path()) {
            Ok(namespace) if Some(&namespace) == ours.as_ref() => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                saw_all = false;
                continue;
            }
            _ => continue,
        }
        let process = Process::of(pid);
        found.extend(process.filter(|one| !one.devices.is_empty() || one.is_xlatd()));
    }
    (found, saw_all)
}

/// The unit of a process, by its control groups and its environment (cgroups(7), systemd.exec(5)).
/// Others of the same unit are not for it alone: networking.service runs what interfaces(5) says.
fn unit<'a>(pid: u32, groups: &'a str, environment: &[u8]) -> Option<&'a str> {
    let main = format!("SYSTEMD_EXEC_PID={pid}");
    let is_main = environment
        .split(|octet| *octet == 0)
        .any(|variable| variable == main.as_bytes());
    let mut names = groups.lines().filter_map(|line| line.rsplit('/').next());
    names.find(|name| is_main && name.ends_with(".service"))
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

/// The TUN devices that the process of this /proc directory is attached to.
fn devices(process: &Path) -> impl Iterator<Item = String> {
    descriptors(process).filter_map(|(_, text)| {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What another unit has started is not to be stopped with that.
    #[test]
    fn only_a_main_process_has_a_unit() {
        let groups = "0::/system.slice/tayga.service\n";
        let environment = b"A=1\0SYSTEMD_EXEC_PID=12\0";
        assert_eq!(unit(12, groups, environment), Some("tayga.service"));
        assert_eq!(unit(1, groups, environment), None);
        assert_eq!(unit(12, groups, b""), None);
        assert_eq!(
            unit(12, "0::/user.slice/session-1.scope\n", environment),
            None
        );
    }
}
