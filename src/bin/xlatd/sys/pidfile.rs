//! The PID file.

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

/// A file with the process id. It is removed when this value is dropped.
pub(crate) struct PidFile {
    path: PathBuf,
    file: File,
    directory: Option<OwnedFd>,
}

impl PidFile {
    /// Creates or overwrites the file. Symbolic and hard links are refused: a user who may write to
    /// this directory alone could have root overwrite any other file through them.
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
            return Err(io::Error::other("expected a regular file with one link"));
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

    /// The directory of the file, if it could be opened.
    pub(crate) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(AsFd::as_fd)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Without privileges the file may be impossible to remove; emptied, it names no process.
        // No other failure can be handled here.
        let _ = self.file.set_len(0);
        let _ = fs::remove_file(&self.path);
    }
}
