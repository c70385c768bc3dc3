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
    /// The process that started it.
    parent: Option<u32>,
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
            parent: fs::read_to_string(process.join("stat"))
                .ok()
                .and_then(|stat| parent(&stat)),
            program,
            words,
            directory: fs::read_link(process.join("cwd")).unwrap_or_default(),
            unit: unit.map(str::to_owned),
            devices: devices(&process).collect(),
        })
    }

    /// Whether one of these is the daemon that it is a copy of (fork(2)), and that speaks for it:
    /// a daemon that starts another program is there twice for a moment.
    fn is_copy(&self, found: &[Self]) -> bool {
        let is_original =
            |one: &Self| Some(one.pid) == self.parent && one.is_xlatd() && one.words == self.words;
        self.is_xlatd() && found.iter().any(is_original)
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
    (without_copies(found), saw_all)
}

fn without_copies(mut found: Vec<Process>) -> Vec<Process> {
    let copies = found.iter().filter(|one| one.is_copy(&found));
    let copies: Vec<_> = copies.map(|one| one.pid).collect();
    found.retain(|one| !copies.contains(&one.pid));
    found
}

/// The process that started one, by its line of proc_pid_stat(5): its name, in parentheses, may
/// have any characters.
fn parent(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
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

    fn process(pid: u32, parent: u32, command: &str) -> Process {
        Process {
            pid,
            parent: Some(parent),
            program: PathBuf::from("/usr/sbin/xlatd"),
            words: command.split(' ').map(OsString::from).collect(),
            directory: PathBuf::new(),
            unit: None,
            devices: vec!["clat".to_owned()],
        }
    }

    /// One that is about to run nft(8) is not a second daemon.
    #[test]
    fn a_copy_is_no_other_daemon() {
        let found = vec![
            process(9, 8, "xlatd clat"),
            process(8, 1, "xlatd clat"),
            process(10, 8, "xlatd -c other.conf"),
            process(11, 7, "xlatd clat"),
        ];
        let left: Vec<_> = without_copies(found).iter().map(|one| one.pid).collect();
        assert_eq!(left, [8, 10, 11]);
    }

    #[test]
    fn a_name_with_parentheses_hides_no_parent() {
        assert_eq!(parent("7 (xlatd) S 42 7 7 0 -1"), Some(42));
        assert_eq!(parent("7 (a) b) R 9 (c) S 43 7 7"), Some(43));
        assert_eq!(parent("7 (a) S 1 2) S 44 7 7"), Some(44));
        assert_eq!(parent("7 "), None);
    }

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
