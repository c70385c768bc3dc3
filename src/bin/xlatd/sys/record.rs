//! The file of an undo journal, kept across a crash, and locked while its owner lives (flock(2)).

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{libc, unistd::geteuid};

/// The longest record that is read, in octets: an instance writes a hundredth of it.
const MAX_LEN: u64 = 1 << 20;

/// The file of this process, which has it locked.
pub(crate) struct Record {
    path: PathBuf,
    file: File,
}

/// The file of another process.
pub(crate) struct Other {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// Whether its owner lives.
    pub(crate) lives: bool,
}

impl Record {
    /// Opens the file, which is made with its directory if it is not there, and returns its text.
    /// `None` if another process that lives has it.
    pub(crate) fn open(path: &Path) -> io::Result<Option<(Self, String)>> {
        let directory = path.parent().unwrap_or(Path::new("."));
        // Whoever may read the directory or a record may lock it. Control sockets, which may be for
        // a group, are reached through it.
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(directory)?;
        loop {
            let file = open(
                path,
                OpenOptions::new()
                    .read(true)
                    .append(true)
                    .create(true)
                    .mode(0o600),
            )?;
            give_to_owner_of(directory, &file)?;
            // One that a version before this has left may be for all to read; who owns it can mend
            // that.
            let _ = file.set_permissions(Permissions::from_mode(0o600));
            // Another process may only be looking whether the owner lives.
            let Some(file) = locked(file, 5)? else {
                return Ok(None);
            };
            // Its owner may have removed it in the meantime.
            if file.metadata()?.nlink() == 0 {
                continue;
            }
            let text = read(&file)?;
            let path = path.to_owned();
            return Ok(Some((Self { path, file }, text)));
        }
    }

    /// Empties the file.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// Adds a line.
    pub(crate) fn add(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes())
    }

    /// The text that is in the file now.
    pub(crate) fn text(&self) -> io::Result<String> {
        read(&self.file)
    }

    /// Holds off all other instances, until it is dropped, while undos are carried out or handed
    /// over. It waits for 5 s at most: one that hangs keeps no other from ending.
    pub(crate) fn hold_off(&self) -> io::Result<Option<File>> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        locked(File::open(directory)?, 500)
    }

    /// Other records of the same directory. One that was just removed is left out.
    pub(crate) fn others(&self) -> io::Result<Vec<Other>> {
        let mut others = Vec::new();
        let directory = self.path.parent().unwrap_or(Path::new("."));
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path == self.path || path.extension() != self.path.extension() {
                continue;
            }
            let file = open(&path, OpenOptions::new().read(true));
            let Ok((text, file)) = file.and_then(|file| Ok((read(&file)?, file))) else {
                continue;
            };
            others.push(Other {
                text,
                lives: file.try_lock_shared().is_err(),
                path,
            });
        }
        Ok(others)
    }

    /// Removes the file: there is nothing left to undo.
    pub(crate) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// Opens a record. Its directory may belong to the user of the services, and root may be who opens
/// it: where that user has put something else in its place, this neither leads to a file of the
/// system nor waits for a FIFO.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let unexpected =
        |found| io::Error::other(format!("expected a regular file, found {found}: remove it"));
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = options.custom_flags(flags).open(path);
    let file = file.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => unexpected("a symbolic link"),
        _ => error,
    })?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(unexpected("another kind of file"));
    }
    if metadata.nlink() > 1 {
        return Err(unexpected("one with several names"));
    }
    Ok(file)
}

/// What root writes in a directory of the user of the services, their next start must be able to go
/// on with.
fn give_to_owner_of(directory: &Path, file: &File) -> io::Result<()> {
    let (owner, metadata) = (fs::metadata(directory)?, file.metadata()?);
    if geteuid().is_root() && metadata.uid() == 0 && owner.uid() != 0 {
        fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// All of a record. What is no UTF-8 is no line of one.
fn read(mut file: &File) -> io::Result<String> {
    let mut octets = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(MAX_LEN).read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

/// Locks a file for this process alone, within so many tries of 10 ms. Dropping the file unlocks
/// it.
pub(crate) fn locked(file: File, tries: u32) -> io::Result<Option<File>> {
    for _ in 0..tries {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(None)
}

/// Adds a line to the record of another process.
pub(crate) fn hand_over(path: &Path, line: &str) -> io::Result<()> {
    let mut file = open(path, OpenOptions::new().append(true))?;
    file.write_all(format!("{line}\n").as_bytes())
}

/// The identifier of this boot.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// The number of our network namespace.
pub(crate) fn namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/net")?.ino())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    /// Whoever may read a directory, or a record in it, may lock it (flock(2)), and keep a CLAT
    /// from starting.
    #[test]
    fn others_can_read_neither_the_directory_nor_a_record() {
        let directory = std::env::temp_dir().join(format!("xlatd-mode-{}", std::process::id()));
        let record = directory.join("clat.steps");
        drop(Record::open(&record).unwrap().unwrap());
        fs::set_permissions(&record, Permissions::from_mode(0o644)).unwrap();
        drop(Record::open(&record).unwrap().unwrap());
        let mode = |path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(directory.clone()), 0o711);
        assert_eq!(mode(record), 0o600);
        fs::remove_dir_all(directory).unwrap();
    }

    /// What is handed over would be lost if it came when its new owner had already looked.
    #[test]
    fn one_holds_off_the_others() {
        let directory = std::env::temp_dir().join(format!("xlatd-record-{}", std::process::id()));
        let [one, other] = ["one", "other"].map(|name| {
            let path = directory.join(format!("{name}.steps"));
            Record::open(&path).unwrap().unwrap().0
        });
        let held = one.hold_off().unwrap();
        assert!(held.is_some());
        let directory_file = || File::open(&directory).unwrap();
        assert!(locked(directory_file(), 2).unwrap().is_none());
        drop(held);
        assert!(other.hold_off().unwrap().is_some());
        // Each is seen to live, until it does not any more.
        let lives = |record: &Record| record.others().unwrap()[0].lives;
        assert!(lives(&one));
        drop(other);
        assert!(!lives(&one));
        fs::remove_dir_all(directory).unwrap();
    }

    /// What the user of the services puts there must not have root write, empty or read another
    /// file, or wait.
    #[test]
    fn only_a_regular_file_is_a_record() {
        let directory = std::env::temp_dir().join(format!("xlatd-others-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let victim = directory.join("victim");
        fs::write(&victim, "theirs").unwrap();
        let [link, hard, fifo, dangling] = ["link", "hard", "fifo", "dangling"]
            .map(|name| directory.join(format!("{name}.steps")));
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        std::os::unix::fs::symlink(directory.join("new"), &dangling).unwrap();
        fs::hard_link(&victim, &hard).unwrap();
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (path, found) in [
            (&link, "a symbolic link"),
            (&dangling, "a symbolic link"),
            (&hard, "several names"),
            (&fifo, "another kind"),
        ] {
            let error = Record::open(path).err().unwrap().to_string();
            assert!(error.contains(found), "{error}");
            assert!(hand_over(path, "line").is_err());
        }
        let (record, text) = Record::open(&directory.join("own.steps")).unwrap().unwrap();
        assert_eq!(text, "");
        assert!(record.others().unwrap().is_empty());
        assert!(!directory.join("new").exists());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs");
        fs::remove_dir_all(directory).unwrap();
    }

    /// Root's record in a directory of the user of the services is that user's.
    #[test]
    fn a_record_is_its_directorys_owners() {
        if !geteuid().is_root() {
            return;
        }
        let directory = std::env::temp_dir().join(format!("xlatd-owner-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        std::os::unix::fs::chown(&directory, Some(64464), Some(64465)).unwrap();
        let path = directory.join("clat.steps");
        let (mut record, _) = Record::open(&path).unwrap().unwrap();
        record.add("a line").unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (64464, 64465));
        // What is read is the same file, whatever has been put in its place.
        fs::rename(&path, directory.join("moved")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert_eq!(record.text().unwrap(), "a line\n");
        fs::remove_dir_all(directory).unwrap();
    }
}
