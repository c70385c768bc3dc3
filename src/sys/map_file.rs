//! The map-file, which is read again and again.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open, openat},
    sys::stat::Mode,
};

/// A file that is found by its directory, whatever becomes of the root and of the path to it (chroot(2)). Whoever replaces
/// the file by renaming another to it is understood.
pub(crate) struct MapFile {
    /// For messages.
    path: PathBuf,
    directory: OwnedFd,
}

impl MapFile {
    /// The file need not be there yet; its directory must be.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(path);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self {
            path: path.to_owned(),
            directory: open(directory, flags, Mode::empty())?,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in the file now.
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let name = self.path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        // A FIFO does not hold up who opens it.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.directory, name, flags, Mode::empty())?);
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(text)
    }
}
