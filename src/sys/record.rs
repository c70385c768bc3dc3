//! The file that outlives us, if we do not come to clean up (flock(2)).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// A file that nobody else writes while we live.
pub(crate) struct Record {
    path: PathBuf,
    file: Flock<File>,
}

/// The record of somebody else.
pub(crate) struct Other {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// Whether its owner does.
    pub(crate) lives: bool,
}

impl Record {
    /// Opens the file, which is made with its directory if it is not there, and returns what is in it. `None` if somebody
    /// who lives has it.
    pub(crate) fn open(path: &Path) -> io::Result<Option<(Self, String)>> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        // Somebody may only be looking whether we live.
        let Some(mut file) = locked(file, 5)? else {
            return Ok(None);
        };
        let mut octets = Vec::new();
        file.read_to_end(&mut octets)?;
        let path = path.to_owned();
        let text = String::from_utf8_lossy(&octets).into_owned();
        Ok(Some((Self { path, file }, text)))
    }

    /// Empties the file.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// Adds a line.
    pub(crate) fn add(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes())
    }

    /// Whatever is in the file now.
    pub(crate) fn text(&self) -> io::Result<String> {
        fs::read_to_string(&self.path)
    }

    /// Holds off all other instances, until it is dropped, while undos are carried out or handed over. Not for ever: one that
    /// hangs keeps nobody from ending.
    pub(crate) fn hold_off(&self) -> io::Result<Option<Flock<File>>> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        locked(File::open(directory)?, 500)
    }

    /// Other records of the same directory. One that has just gone is none.
    pub(crate) fn others(&self) -> io::Result<Vec<Other>> {
        let mut others = Vec::new();
        let directory = self.path.parent().unwrap_or(Path::new("."));
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path == self.path || path.extension() != self.path.extension() {
                continue;
            }
            let (Ok(file), Ok(text)) = (File::open(&path), fs::read_to_string(&path)) else {
                continue;
            };
            others.push(Other {
                text,
                lives: Flock::lock(file, FlockArg::LockSharedNonblock).is_err(),
                path,
            });
        }
        Ok(others)
    }

    /// There is nothing left to record.
    pub(crate) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// Locks a file for us alone, within so many tries of 10 ms.
pub(crate) fn locked(mut file: File, tries: u32) -> io::Result<Option<Flock<File>>> {
    for _ in 0..tries {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => return Ok(Some(file)),
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, errno)) => return Err(errno.into()),
        };
        thread::sleep(Duration::from_millis(10));
    }
    Ok(None)
}

/// Adds a line to the record of another one.
pub(crate) fn hand_over(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())
}

/// What the kernel calls this boot.
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
}
