//! A socket that hears of changes from the kernel (the multicast groups of netlink(7)).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr};
use nix::libc;

use super::{RECEIVE_BUFFER, borrowed, messages, send};

/// A nonblocking socket of some multicast groups.
pub(super) struct Notifications {
    socket: Socket,
    buffer: Box<[u8]>,
}

/// What was heard.
pub(super) enum Heard {
    /// What could be read of one datagram.
    Messages(Vec<RouteNetlinkMessage>),
    /// More was said than there was room for.
    Missed,
}

impl Notifications {
    /// Opens a socket for `groups`, each a bit.
    pub(super) fn open(protocol: isize, groups: u32) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind(&SocketAddr::new(0, groups))?;
        socket.set_non_blocking(true)?;
        Ok(Self {
            socket,
            buffer: vec![0; RECEIVE_BUFFER].into_boxed_slice(),
        })
    }

    /// What is heard next; `None` if there is nothing new.
    pub(super) fn next(&mut self) -> io::Result<Option<Heard>> {
        match self.socket.recv(&mut &mut *self.buffer, 0) {
            Ok(len) => Ok(Some(Heard::Messages(
                messages(&self.buffer[..len.min(self.buffer.len())])
                    .flatten()
                    .filter_map(|message| match message.payload {
                        NetlinkPayload::InnerMessage(message) => Some(message),
                        _ => None,
                    })
                    .collect(),
            ))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Some(Heard::Missed)),
            Err(error) => Err(error),
        }
    }

    /// Asks for something that is heard as a change of it is.
    pub(super) fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        send(&self.socket, message, flags, 0)
    }
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrowed(&self.socket)
    }
}
