//! The CLAT address towards neighbours: the kernel does not know it, so it is answered for here.

use std::{
    io,
    net::Ipv6Addr,
    os::fd::{AsFd, BorrowedFd},
};

use log::debug;
use xlatd::clat::neighbour::{self, ToNeighbour};

use crate::sys::packet_socket::Solicitations;

/// The maximum number of messages read in a turn, so that a flood starves nothing else.
const MAX_MESSAGES: usize = 64;

/// An address on a link that neighbours can reach.
pub(crate) struct Neighbours {
    link: u32,
    address: Ipv6Addr,
    solicitations: Solicitations,
    /// The link-layer address that all neighbours were told, once they were.
    announced: Option<Option<[u8; 6]>>,
}

impl Neighbours {
    /// Begins to answer solicitations of an address on a link.
    pub(crate) fn new(link: u32, address: Ipv6Addr) -> io::Result<Self> {
        Ok(Self {
            link,
            address,
            solicitations: Solicitations::open(link, address)?,
            announced: None,
        })
    }

    /// The link and the address.
    pub(crate) fn place(&self) -> (u32, Ipv6Addr) {
        (self.link, self.address)
    }

    /// Answers neighbours. `mac` is the link-layer address of the link. Fails if the link is gone.
    pub(crate) fn answer(&mut self, mac: Option<[u8; 6]>) -> io::Result<()> {
        for _ in 0..MAX_MESSAGES {
            let (answer, from) = match self.solicitations.next() {
                Ok(Some((packet, from))) => (neighbour::answer(packet, self.address, mac), from),
                Ok(None) => return Ok(()),
                // That the link was down, which is told once.
                Err(error) if error.kind() == io::ErrorKind::NetworkDown => continue,
                Err(error) => return Err(error),
            };
            let Some(ToNeighbour { group, packet }) = answer else {
                continue;
            };
            let to = group.map_or(from, |group| self.solicitations.address(group));
            if let Err(error) = self.solicitations.send(&packet, &to) {
                debug!("cannot answer a Neighbour Solicitation: {error}");
            }
        }
        Ok(())
    }

    /// Tells all neighbours that the address is here now, unless they know: also when the link has
    /// another link-layer address, since nothing else that leaves says so.
    pub(crate) fn announce(&mut self, mac: Option<[u8; 6]>) {
        if self.announced == Some(mac) {
            return;
        }
        let ToNeighbour { group, packet } = neighbour::announce(self.address, mac);
        let to = self.solicitations.address(group.unwrap_or_default());
        match self.solicitations.send(&packet, &to) {
            Ok(()) => self.announced = Some(mac),
            Err(error) => debug!("cannot announce {}: {error}", self.address),
        }
    }
}

impl AsFd for Neighbours {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.solicitations.as_fd()
    }
}
