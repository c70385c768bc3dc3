//! The service manager, which wants to know how its service is (sd_notify(3)).

use std::{
    env, io,
    os::{
        fd::AsFd,
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A socket that stays connected: from within a chroot there would be no way to it.
#[derive(Default)]
pub(crate) struct Notify {
    socket: Option<UnixDatagram>,
    /// How often the manager wants to hear of us, or else ends us.
    pub(crate) watchdog: Option<Duration>,
}

impl Notify {
    /// Connects to the manager, if the environment names one.
    pub(crate) fn from_environment() -> io::Result<Self> {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Some(socket),
            watchdog: watchdog(),
        })
    }

    /// The same, for what the manager waits for: a second is what it gets to make room.
    pub(crate) fn send_surely(&self, assignments: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(assignments.as_bytes())
            && error.kind() == io::ErrorKind::WouldBlock
        {
            let mut place = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            let _ = poll(&mut place, PollTimeout::from(1000_u16));
            self.send(assignments);
        }
    }

    /// Sends assignments, one a line. A manager that has no time misses some.
    pub(crate) fn send(&self, assignments: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(assignments.as_bytes());
        }
    }
}

/// WATCHDOG_USEC, where it is meant for this process.
fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let period = number("WATCHDOG_USEC").filter(|&period| period != 0)?;
    number("WATCHDOG_PID")
        .is_none_or(|pid| pid == process::id().into())
        .then(|| Duration::from_micros(period))
}
