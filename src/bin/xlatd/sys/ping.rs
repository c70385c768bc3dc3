//! An ICMP echo by way of a device (icmp(7)).

use std::{
    ffi::OsString,
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, connect, recv, send,
        setsockopt, socket, sockopt::BindToDevice,
    },
};
use xlatd::doctor::echo::Echo;

/// The time after which a request is sent again.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether an echo to an address, by way of a device, is answered in this time. It is sent again
/// each second: the first packet to a neighbour may be lost.
pub(crate) fn is_answered(
    device: &str,
    address: Ipv4Addr,
    echo: Echo,
    within: Duration,
) -> io::Result<bool> {
    let socket = open()?;
    setsockopt(&socket, BindToDevice, &OsString::from(device))?;
    let deadline = Instant::now() + within;
    match connect(
        socket.as_raw_fd(),
        &SockaddrIn::from(std::net::SocketAddrV4::new(address, 0)),
    ) {
        Ok(()) => {}
        Err(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    let mut next = Instant::now();
    loop {
        let now = Instant::now();
        if now >= deadline {
            return Ok(false);
        }
        if now >= next {
            // What the network says of the one before comes here, too.
            let _ = send(socket.as_raw_fd(), &echo.request(), MsgFlags::empty());
            next = now + AGAIN;
        }
        let wait = next.min(deadline).saturating_duration_since(now);
        let wait = wait.as_millis() + 1; // not before it
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
        match poll(
            &mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(0) | Err(Errno::EINTR) => continue,
            result => result?,
        };
        let mut buffer = [0; 256];
        if let Ok(len) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())
            && echo.is_answered_by(&buffer[..len])
        {
            return Ok(true);
        }
    }
}

/// One that every user may open, if the system lets them; else that of root.
fn open() -> io::Result<OwnedFd> {
    let open = |kind| {
        let flags = SockFlag::SOCK_CLOEXEC;
        socket(AddressFamily::Inet, kind, flags, SockProtocol::Icmp)
    };
    let opened = open(SockType::Raw).or_else(|_| open(SockType::Datagram));
    Ok(opened?)
}
