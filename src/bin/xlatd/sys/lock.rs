//! The lock file of a directory (flock(2)).
//!
//! It is this file that is locked, and not the directory: whoever may read a directory may lock it.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat},
    unistd::{Gid, Uid, UnlinkatFlags, fchown, geteuid, unlinkat},
};

/// The name of the file.
pub(crate) const NAME: &str = "dynamic.map.lock";

/// The lock of a directory. It lasts through chroot(2) and another user, until this is dropped or
/// the process ends.
pub(crate) struct Lock {
    directory: OwnedFd,
    file: File,
}

impl Lock {
    /// The lock of `directory`, by its [lock file](open), which has been locked. `None` if the file
    /// is not in the directory any more: whoever had locked it before has removed it.
    pub(crate) fn new(directory: BorrowedFd<'_>, file: File) -> io::Result<Option<Self>> {
        let identity = |stat: FileStat| (stat.st_dev, stat.st_ino);
        let named = match stat(directory) {
            Err(Errno::ENOENT) => return Ok(None),
            result => result?,
        };
        if identity(named) != identity(fstat(&file)?) {
            return Ok(None);
        }
        let directory = directory.try_clone_to_owned()?;
        Ok(Some(Self { directory, file }))
    }

    /// Makes the file somebody's: the new owner of the directory must be able to lock it.
    pub(crate) fn give(&self, uid: Uid, gid: Option<Gid>) -> io::Result<()> {
        Ok(fchown(&self.file, Some(uid), gid)?)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before it is unlocked. Where it cannot be removed, the next one to lock it uses it.
        let _ = unlinkat(&self.directory, NAME, UnlinkatFlags::NoRemoveDir);
    }
}

/// Opens the lock file of a directory, which is made if it is not there. Nobody can open it, and so
/// lock it, but its owner, who is that of the directory, and root.
///
/// # Errors
///
/// The directory may belong to a user without privileges, and root may be who opens the file: what
/// is no regular file with one name is refused.
pub(crate) fn open(directory: BorrowedFd<'_>) -> io::Result<File> {
    let unexpected =
        |found| io::Error::other(format!("expected a regular file, found {found}: remove it"));
    // Opened for writing: NFS locks no other files.
    let flags = OFlag::O_RDWR | OFlag::O_CREAT;
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(directory, NAME, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(file) => file,
        Err(Errno::ELOOP) => return Err(unexpected("a symbolic link")),
        Err(Errno::EISDIR) => return Err(unexpected("a directory")),
        Err(Errno::EACCES) if let Ok(found) = stat(directory) => {
            return Err(io::Error::other(format!(
                "belongs to user {}: remove it if no instance of that user is running",
                found.st_uid
            )));
        }
        Err(errno) => return Err(errno.into()),
    };
    let (found, owner) = (fstat(&file)?, fstat(directory)?);
    if found.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(unexpected("another kind of file"));
    }
    if found.st_nlink > 1 {
        return Err(unexpected("one with several names"));
    }
    // Root's is empty, as all of them are: nothing else is given away.
    if geteuid().is_root() && found.st_uid == 0 && found.st_size == 0 && owner.st_uid != 0 {
        let (uid, gid) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
        fchown(&file, Some(uid), Some(gid))?;
    }
    Ok(file.into())
}

/// The file that has the name of the lock file.
fn stat(directory: BorrowedFd<'_>) -> nix::Result<FileStat> {
    fstatat(directory.as_fd(), NAME, AtFlags::AT_SYMLINK_NOFOLLOW)
}
