//! Files that are read or replaced repeatedly, through a descriptor of their directory (openat(2)).

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, ErrorKind, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    fcntl::{OFlag, open, openat, renameat},
    sys::stat::{Mode, fstat},
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, unlinkat},
};

/// The maximum length of a file that is read, in octets. Ten million leases take half of it.
const MAX_LEN: u64 = 1 << 30;

/// A file in a directory that stays open, so it is still found after chroot(2). The file need not
/// exist; its directory must.
pub(crate) struct KeptFile {
    /// For messages.
    path: PathBuf,
    directory: OwnedFd,
}

impl KeptFile {
    /// Opens the directory of a file that is only read. The directory need not be readable.
    pub(crate) fn to_read(path: &Path) -> io::Result<Self> {
        Self::open(path, OFlag::O_PATH)
    }

    /// Opens the directory of a file that may be replaced. The directory must be readable, since
    /// fsync(2) accepts no O_PATH descriptor.
    pub(crate) fn to_replace(path: &Path) -> io::Result<Self> {
        Self::open(path, OFlag::O_RDONLY)
    }

    fn open(path: &Path, access: OFlag) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(path);
        let flags = access | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self {
            path: path.to_owned(),
            directory: open(directory, flags, Mode::empty())?,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of the file.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    fn name(&self) -> io::Result<&OsStr> {
        self.path.file_name().ok_or(ErrorKind::IsADirectory.into())
    }

    /// Reads the whole file.
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        let file = self.open_to_read()?;
        file.take(MAX_LEN).read_to_end(&mut text)?;
        Ok(text)
    }

    /// Opens the file, which must be a regular file of at most [`MAX_LEN`] octets.
    ///
    /// In a directory that is not root's, a symbolic link is refused: its owner could have root
    /// read a file through it that the owner cannot read.
    pub(crate) fn open_to_read(&self) -> io::Result<File> {
        // O_NONBLOCK: open(2) would block on a FIFO.
        let mut flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        if !self.directory_owner()?.is_root() {
            flags |= OFlag::O_NOFOLLOW;
        }
        let file = File::from(openat(&self.directory, self.name()?, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > MAX_LEN {
            return Err(io::Error::other("expected a regular file of at most 1 GiB"));
        }
        Ok(file)
    }

    /// Writes a new file, and renames it over the old one once it is on the disk. A failure or a
    /// crash at any point leaves either the old file or the new one.
    pub(crate) fn replace(&self, text: &str) -> io::Result<()> {
        let name = self.name()?;
        let mut new_name = name.to_owned();
        new_name.push("~~"); // tayga's name for it
        // A leftover of a crash may belong to another user, and a link may lead anywhere. If it
        // cannot be removed, O_EXCL fails below.
        let _ = unlinkat(&self.directory, &*new_name, UnlinkatFlags::NoRemoveDir);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o644);
        let mut file = File::from(openat(&self.directory, &*new_name, flags, mode)?);
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        renameat(&self.directory, &*new_name, &self.directory, name)?;
        fsync(&self.directory)?;
        Ok(())
    }

    /// Whether users other than its owner may write to the directory.
    pub(crate) fn directory_is_shared(&self) -> io::Result<bool> {
        Ok(fstat(&self.directory)?.st_mode & 0o022 != 0)
    }

    /// The owner of the directory.
    pub(crate) fn directory_owner(&self) -> io::Result<Uid> {
        Ok(Uid::from_raw(fstat(&self.directory)?.st_uid))
    }

    /// The names of all files in the directory.
    pub(crate) fn directory_entries(&self) -> io::Result<Vec<Box<OsStr>>> {
        use std::os::unix::ffi::OsStrExt;
        let mut names = Vec::new();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        for entry in Dir::openat(&self.directory, ".", flags, Mode::empty())?.iter() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.into());
            }
        }
        Ok(names)
    }

    /// Changes the owner of the directory, but of no file in it.
    pub(crate) fn chown_directory(&self, uid: Uid, gid: Option<Gid>) -> io::Result<()> {
        Ok(fchown(&self.directory, Some(uid), gid)?)
    }
}
