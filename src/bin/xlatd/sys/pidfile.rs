//! The file that says which process this is.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process,
};

use nix::{
    fcntl::{OFlag, open},
    libc,
    sys::stat::Mode,
};

/// A file with the process id; it goes when this value does.
pub(crate) struct PidFile {
    path: PathBuf,
    file: File,
    directory: Option<OwnedFd>,
}

impl PidFile {
    /// Writes the file, over one that is there. Links of any kind are refused: they might lead to anything, by the hand of a
    /// user who may write to the directory and to nothing else.
    pub(crate) fn write(path: &Path) -> io::Result<Self> {
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(io::Error::other("expected a file with one name"));
        }
        file.set_len(0)?;
        file.write_all(format!("{}\n", process::id()).as_bytes())?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(path.parent().unwrap_or(path), flags, Mode::empty());
        let path = path.to_owned();
        Ok(Self {
            path,
            file,
            directory: directory.ok(),
        })
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(AsFd::as_fd)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Without privileges the file can still be emptied: it names nobody then. Nothing can be done about other failures.
        let _ = self.file.set_len(0);
        let _ = fs::remove_file(&self.path);
    }
}
