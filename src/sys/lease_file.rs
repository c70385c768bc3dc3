//! dynamic.map in its directory: whole at any moment, and still there after a power cut.

use std::{
    fs::{DirBuilder, File},
    io::{self, ErrorKind, Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open, openat, renameat},
    sys::stat::Mode,
    unistd::fsync,
};

const NAME: &str = "dynamic.map";
/// What is written before it takes the place of the file: tayga's name for it.
const NEW_NAME: &str = "dynamic.map~~";

/// Makes the directory if it is not there; the umask decides who may enter.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// The file, found by a descriptor of its directory.
pub(crate) struct LeaseFile {
    /// For messages.
    path: PathBuf,
    directory: OwnedFd,
}

impl LeaseFile {
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self {
            path: directory.join(NAME),
            directory: open(directory, flags, Mode::empty())?,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in the file; nothing if there is none.
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let mut text = Vec::new();
        match openat(&self.directory, NAME, flags, Mode::empty()).map_err(io::Error::from) {
            Ok(file) => File::from(file).read_to_end(&mut text)?,
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(text)
    }

    /// Writes another file beside it, and has it take its place once it is on the disk. Whatever fails, and whenever the
    /// process or the machine stops, there is the old file or the new one.
    pub(crate) fn write(&self, text: &str) -> io::Result<()> {
        let flags = OFlag::O_WRONLY
            | OFlag::O_CREAT
            | OFlag::O_TRUNC
            | OFlag::O_NOFOLLOW
            | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o644);
        let mut file = File::from(openat(&self.directory, NEW_NAME, flags, mode)?);
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        renameat(&self.directory, NEW_NAME, &self.directory, NAME)?;
        fsync(&self.directory)?;
        Ok(())
    }
}
