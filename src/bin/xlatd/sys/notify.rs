//! Notifications to the service manager (sd_notify(3)).

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

/// The connection to the service manager, opened before chroot(2) hides its socket.
#[derive(Default)]
pub(crate) struct Notify {
    socket: Option<UnixDatagram>,
    /// The watchdog timeout: the manager ends a service that does not notify it within this time.
    pub(crate) watchdog_timeout: Option<Duration>,
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
            watchdog_timeout: watchdog_timeout(),
        })
    }

    /// Sends assignments, one a line. They are lost if the queue of the socket is full.
    pub(crate) fn send(&self, assignments: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(assignments.as_bytes());
        }
    }

    /// Sends assignments that the manager waits for: if the queue of the socket is full, waits up
    /// to a second for room.
    pub(crate) fn send_reliably(&self, assignments: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(assignments.as_bytes())
            && error.kind() == io::ErrorKind::WouldBlock
        {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            let _ = poll(&mut fds, PollTimeout::from(1000_u16));
            self.send(assignments);
        }
    }
}

/// The watchdog timeout of WATCHDOG_USEC, if WATCHDOG_PID names this process or is not set.
fn watchdog_timeout() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let timeout = number("WATCHDOG_USEC").filter(|&timeout| timeout != 0)?;
    number("WATCHDOG_PID")
        .is_none_or(|pid| pid == u64::from(process::id()))
        .then(|| Duration::from_micros(timeout))
}
