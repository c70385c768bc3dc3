//! One entry of the kernel's table of neighbours: what it says, and what becomes of it.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsFd, BorrowedFd},
};

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
};
use netlink_sys::protocols::NETLINK_ROUTE;
use xlatd::clat::Neighbour;

use super::notifications::{Heard, Notifications};

/// Multicast group of neighbours, as a bit: RTMGRP_NEIGH.
const NEIGHBOUR_GROUP: u32 = 4;

/// A socket that tells what the kernel knows of one neighbour, now and whenever it changes.
pub(crate) struct NeighbourWatch {
    notifications: Notifications,
    link: u32,
    neighbour: Ipv6Addr,
}

impl NeighbourWatch {
    /// Opens the socket, and asks for the neighbour with this address on a link.
    pub(crate) fn open(link: u32, neighbour: Ipv6Addr) -> io::Result<Self> {
        let watch = Self {
            notifications: Notifications::open(NETLINK_ROUTE, NEIGHBOUR_GROUP)?,
            link,
            neighbour,
        };
        watch.ask()?;
        Ok(watch)
    }

    /// Tells of another neighbour on the link from now on, if it is another one. Returns whether it
    /// is.
    pub(crate) fn turn_to(&mut self, neighbour: Ipv6Addr) -> io::Result<bool> {
        let is_other = std::mem::replace(&mut self.neighbour, neighbour) != neighbour;
        if is_other {
            self.ask()?;
        }
        Ok(is_other)
    }

    /// Has the kernel resolve the neighbour, or confirm its address, as before a packet to it.
    /// Takes CAP_NET_ADMIN.
    pub(crate) fn use_it(&self) -> io::Result<()> {
        let mut message = self.message();
        message.header.flags = NeighbourFlags::Use;
        let request = RouteNetlinkMessage::NewNeighbour(message);
        self.notifications.ask(request, NLM_F_CREATE)
    }

    /// What the kernel says, the oldest first; `None` if there is nothing new.
    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<Neighbour>>> {
        Ok(match self.notifications.next()? {
            Some(Heard::Messages(messages)) => Some(
                messages
                    .iter()
                    .filter_map(|message| self.read(message))
                    .collect(),
            ),
            Some(Heard::Missed) => {
                self.ask()?;
                Some(Vec::new())
            }
            None => None,
        })
    }

    fn read(&self, message: &RouteNetlinkMessage) -> Option<Neighbour> {
        match message {
            RouteNetlinkMessage::NewNeighbour(message) if self.is_it(message) => {
                Some(read_neighbour(message))
            }
            RouteNetlinkMessage::DelNeighbour(message) if self.is_it(message) => {
                Some(Neighbour::Absent)
            }
            _ => None,
        }
    }

    fn is_it(&self, message: &NeighbourMessage) -> bool {
        let address = NeighbourAttribute::Destination(NeighbourAddress::Inet6(self.neighbour));
        message.header.ifindex == self.link && message.attributes.contains(&address)
    }

    /// Asks what the kernel knows now.
    fn ask(&self) -> io::Result<()> {
        let request = RouteNetlinkMessage::GetNeighbour(self.message());
        self.notifications.ask(request, 0)
    }

    fn message(&self) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet6;
        message.header.ifindex = self.link;
        let address = IpAddr::V6(self.neighbour).into();
        message
            .attributes
            .push(NeighbourAttribute::Destination(address));
        message
    }
}

impl AsFd for NeighbourWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifications.as_fd()
    }
}

fn read_neighbour(message: &NeighbourMessage) -> Neighbour {
    let mac = message.attributes.iter().find_map(|one| match one {
        NeighbourAttribute::LinkLayerAddress(octets) => octets.as_slice().try_into().ok(),
        _ => None,
    });
    match (message.header.state, mac) {
        (NeighbourState::Failed, _) => Neighbour::Failed,
        (NeighbourState::Stale, Some(mac)) => Neighbour::Stale(mac),
        (NeighbourState::Incomplete, _) => Neighbour::Incomplete,
        (NeighbourState::None, _) | (_, None) => Neighbour::Absent,
        // Delay and Probe: it is being confirmed.
        (_, Some(mac)) => Neighbour::Confirmed(mac),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// RFC 4861 section 7.3.2, and the kernel's Permanent and NoARP.
    #[test]
    fn the_states_of_the_kernel_are_read() {
        for (state, with_mac, without) in [
            (
                NeighbourState::Incomplete,
                Neighbour::Incomplete,
                Neighbour::Incomplete,
            ),
            (
                NeighbourState::Reachable,
                Neighbour::Confirmed(MAC),
                Neighbour::Absent,
            ),
            (
                NeighbourState::Stale,
                Neighbour::Stale(MAC),
                Neighbour::Absent,
            ),
            (
                NeighbourState::Delay,
                Neighbour::Confirmed(MAC),
                Neighbour::Absent,
            ),
            (
                NeighbourState::Probe,
                Neighbour::Confirmed(MAC),
                Neighbour::Absent,
            ),
            (
                NeighbourState::Permanent,
                Neighbour::Confirmed(MAC),
                Neighbour::Absent,
            ),
            (NeighbourState::Failed, Neighbour::Failed, Neighbour::Failed),
            (NeighbourState::None, Neighbour::Absent, Neighbour::Absent),
        ] {
            let mut message = NeighbourMessage::default();
            message.header.state = state;
            assert_eq!(read_neighbour(&message), without, "{state:?}");
            let mac = NeighbourAttribute::LinkLayerAddress(MAC.to_vec());
            message.attributes.push(mac);
            assert_eq!(read_neighbour(&message), with_mac, "{state:?}");
        }
    }
}
