//! Files that are read, or replaced, again and again.

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

/// The longest file that is read, in octets: ten million leases take half of it.
const MAX_LEN: u64 = 1 << 30;

/// A file that is found by its directory, whatever becomes of the root and of the path to it (chroot(2)). It need not be
/// there; its directory must be.
pub(crate) struct KeptFile {
    /// For messages.
    path: PathBuf,
    directory: OwnedFd,
}

impl KeptFile {
    /// For a file that is only read: its directory need not be readable.
    pub(crate) fn to_read(path: &Path) -> io::Result<Self> {
        Self::open(path, OFlag::O_PATH)
    }

    /// For a file that may be replaced, too: its directory is written to the disk by a descriptor that can be read.
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

    /// Where it is.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    fn name(&self) -> io::Result<&OsStr> {
        self.path.file_name().ok_or(ErrorKind::IsADirectory.into())
    }

    /// What is in the file now.
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        let file = self.open_to_read()?;
        file.take(MAX_LEN).read_to_end(&mut text)?;
        Ok(text)
    }

    /// The file, opened. It must be a regular file of no more than a gibibyte; in a directory that is not root's, a symbolic
    /// link may have been put there by somebody who could not read what it leads to, and is refused.
    pub(crate) fn open_to_read(&self) -> io::Result<File> {
        // A FIFO does not hold up who opens it.
        let mut flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        if !self.directory_owner()?.is_root() {
            flags |= OFlag::O_NOFOLLOW;
        }
        let file = File::from(openat(&self.directory, self.name()?, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > MAX_LEN {
            return Err(io::Error::other("expected a regular file of 1 GiB at most"));
        }
        Ok(file)
    }

    /// Writes another file beside it, and has it take its place once it is on the disk. Whatever fails, and whenever the
    /// process or the machine stops, there is the old file or the new one.
    pub(crate) fn replace(&self, text: &str) -> io::Result<()> {
        let name = self.name()?;
        let mut new_name = name.to_owned();
        new_name.push("~~"); // tayga's name for it
        // One that was left half-written may be of another user; and a link that somebody put there leads elsewhere.
        // What stays there is met by O_EXCL.
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

    /// Whether others than its owner may write to the directory.
    pub(crate) fn directory_is_shared(&self) -> io::Result<bool> {
        Ok(fstat(&self.directory)?.st_mode & 0o022 != 0)
    }

    /// Whose the directory is.
    pub(crate) fn directory_owner(&self) -> io::Result<Uid> {
        Ok(Uid::from_raw(fstat(&self.directory)?.st_uid))
    }

    /// What else there is in the directory.
    pub(crate) fn neighbours(&self) -> io::Result<Vec<Box<OsStr>>> {
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

    /// Makes the directory, and nothing in it, somebody's.
    pub(crate) fn give_directory(&self, uid: Uid, gid: Option<Gid>) -> io::Result<()> {
        Ok(fchown(&self.directory, Some(uid), gid)?)
    }
}
