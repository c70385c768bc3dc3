//! The control socket in the file system, and the connections to it (unix(7)).

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, Permissions},
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown},
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat},
    sys::{
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, UnixAddr, connect, getsockopt, listen,
            socket, sockopt::PeerCredentials,
        },
        stat::{Mode, SFlag, fstat, fstatat, umask},
    },
    unistd::{Gid, Uid, UnlinkatFlags, fchownat, geteuid, unlinkat},
};

/// The number of connections that wait to be accepted.
const WAITING: i32 = 8;

/// A socket that clients connect to. Its file is removed when this is dropped.
pub(crate) struct ControlSocket {
    listener: UnixListener,
    /// The directory, which may be out of reach by its path later: after chroot(2).
    directory: OwnedFd,
    name: OsString,
    /// Device and inode of the file: another one of this name is not ours.
    file: (u64, u64),
}

impl ControlSocket {
    /// Makes the socket, with its directory if it is not there, for root and for this user and
    /// group; `None` is who runs the process. A socket that a crash has left is taken over.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::AddrInUse`] if another process listens, and if something else than a
    /// socket has the name.
    pub(crate) fn open(path: &Path, user: Option<Uid>, group: Option<Gid>) -> io::Result<Self> {
        let name = path.file_name().ok_or(ErrorKind::IsADirectory)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        let (uid, gid) = (user.map(Uid::as_raw), group.map(Gid::as_raw));
        // Whoever may read the directory may lock it, and with it the undo journals of CLATs.
        match DirBuilder::new().mode(0o711).create(directory) {
            Ok(()) => {
                // Whatever the umask is, the group of the socket must get there.
                fs::set_permissions(directory, Permissions::from_mode(0o711))?;
                // Its user removes the socket in the end.
                if uid.is_some() || gid.is_some() {
                    chown(directory, uid, gid)?;
                }
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        remove_left_over(path)?;
        let before = umask(Mode::from_bits_truncate(0o117));
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound?;
        // The library lets thousands wait, who may be gone when their turn comes.
        listen(&listener, Backlog::new(WAITING)?)?;
        listener.set_nonblocking(true)?;
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let directory = open(directory, flags | OFlag::O_DIRECTORY, Mode::empty())?;
        // The directory may be a user's, who may have put another file in its place.
        let file = openat(&directory, name, flags | OFlag::O_NOFOLLOW, Mode::empty())?;
        let stat = fstat(&file)?;
        // A hard link may be that of a socket elsewhere.
        if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFSOCK.bits() || stat.st_nlink != 1 {
            return Err(ErrorKind::AddrInUse.into());
        }
        let give = |user, group| fchownat(&file, "", user, group, AtFlags::AT_EMPTY_PATH);
        let owner = fstat(&directory)?;
        if user.is_some() || group.is_some() {
            // A service may not call this, and need not.
            give(user, group)?;
        } else if geteuid().is_root() && owner.st_uid != 0 {
            // What root leaves in a directory of the user of the services, their next start must be
            // able to take over.
            let (uid, gid) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
            let _ = give(Some(uid), Some(gid));
        }
        Ok(Self {
            listener,
            directory,
            name: name.to_owned(),
            file: (stat.st_dev, stat.st_ino),
        })
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Takes a connection that waits, and says whose it is. It does not block.
    pub(crate) fn accept(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        let credentials = getsockopt(&stream, PeerCredentials)?;
        let peer = Peer {
            is_root: credentials.uid() == 0,
            pid: credentials.pid(),
        };
        Ok((stream, peer))
    }
}

/// The process that connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Whether its effective user was root then.
    pub(crate) is_root: bool,
    pub(crate) pid: i32,
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if identity(&self.directory, &self.name).is_ok_and(|file| file == self.file) {
            // Without privileges it may be impossible; the next start takes it over.
            let _ = unlinkat(&self.directory, &*self.name, UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Connects to the socket at `path`. Neither this nor a later read or write waits for longer than
/// `timeout`, then it fails with [`ErrorKind::WouldBlock`]: who listens may hang.
pub(crate) fn connect_to(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let stream = UnixStream::from(socket(AddressFamily::Unix, SockType::Stream, flags, None)?);
    stream.set_read_timeout(Some(timeout))?;
    // That of connect(2), too: while the queue of the listener is full (unix(7)).
    stream.set_write_timeout(Some(timeout))?;
    connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(stream)
}

fn identity(directory: &OwnedFd, name: &OsString) -> io::Result<(u64, u64)> {
    let stat = fstatat(directory, &**name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Removes a socket to which nobody listens: one that a crash has left.
///
/// # Errors
///
/// Fails with [`ErrorKind::AddrInUse`] if a process listens, and if something else than a socket
/// has the name.
pub(crate) fn remove_left_over(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::other(
            "expected a socket, found something else: remove it",
        ));
    }
    // Where the queue of a process that hangs is full, this would wait for it.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let client = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(client.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path),
        Ok(()) | Err(Errno::EAGAIN) => Err(ErrorKind::AddrInUse.into()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::{
        env,
        os::unix::fs::{MetadataExt, PermissionsExt},
        process,
    };

    use super::*;

    /// One that a crash has left is taken over, one in use is not, and none is left behind.
    #[test]
    fn a_socket_that_is_left_over_is_taken_over() {
        let directory = env::temp_dir().join(format!("xlatd-control-{}", process::id()));
        let path = directory.join("nat64.sock");
        let socket = ControlSocket::open(&path, None, None).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&path)), (0o711, 0o660));
        let again = ControlSocket::open(&path, None, None).err().unwrap();
        assert_eq!(again.kind(), ErrorKind::AddrInUse);
        assert!(UnixStream::connect(&path).is_ok());

        // As after SIGKILL: the file is there, and nobody listens.
        drop(socket);
        drop(UnixListener::bind(&path).unwrap());
        let socket = ControlSocket::open(&path, None, None).unwrap();
        assert!(UnixStream::connect(&path).is_ok());

        // Another one of this name is not removed.
        fs::rename(&path, directory.join("kept")).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
        drop(other);
        fs::remove_file(&path).unwrap();

        fs::write(&path, "a file").unwrap();
        assert!(ControlSocket::open(&path, None, None).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"a file");
        fs::remove_dir_all(&directory).unwrap();
    }

    /// The next start may be that of the service, whose user is the owner of the directory.
    #[test]
    fn a_socket_of_root_is_its_directorys_owners() {
        if !geteuid().is_root() {
            return;
        }
        let directory = env::temp_dir().join(format!("xlatd-owned-{}", process::id()));
        fs::create_dir(&directory).unwrap();
        chown(&directory, Some(65533), Some(65534)).unwrap();
        let path = directory.join("nat64.sock");
        let socket = ControlSocket::open(&path, None, None).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (65533, 65534));
        drop(socket);
        let socket = ControlSocket::open(&path, Some(Uid::from_raw(1)), None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().uid(), 1);
        drop(socket);
        fs::remove_dir(&directory).unwrap();
    }

    /// Of a daemon that hangs, the queue fills up with those who asked it.
    #[test]
    fn to_connect_does_not_wait_for_ever() {
        let path = env::temp_dir().join(format!("xlatd-hangs-{}.sock", process::id()));
        let socket = ControlSocket::open(&path, None, None).unwrap();
        let timeout = Duration::from_millis(20);
        let mut waiting = Vec::new();
        let error = loop {
            match connect_to(&path, timeout) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(waiting.len() <= 1 + WAITING as usize);
        drop(socket);
        let error = connect_to(&path, timeout).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
