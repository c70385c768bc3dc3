//! The uplink of a CLAT, where IPv6 packets come from and go to without the kernel's IPv6.

use std::{
    io::{self, ErrorKind},
    net::Ipv6Addr,
    os::fd::{AsFd, BorrowedFd},
    time::Instant,
};

use log::{debug, warn};
use nix::errno::Errno;
use xlatd::{
    clat::{NextHop, Routers, Sending},
    link::LinkRef,
    translate::Packet,
    wire::{Malformed, ethernet},
};

use crate::{
    datapath::tally::Tally,
    error::{Error, system},
    sys::{netlink::NeighbourWatch, packet_socket::PacketSocket},
};

/// The maximum number of messages read in a turn, so that a flood starves nothing else.
const MAX_MESSAGES: usize = 64;

/// What an [`Uplink`] is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) link: LinkRef,
    /// The address that packets are for.
    pub(crate) address: Ipv6Addr,
    pub(crate) next_hop: NextHop,
}

/// A packet socket on the uplink, and the next hop of what it sends.
pub(crate) struct Uplink {
    place: Place,
    socket: PacketSocket,
    /// The link-layer header of packets to the next hop, once that is known.
    header: Option<[u8; ethernet::HEADER_LEN]>,
    /// Its length, in octets: zero where the link has none.
    header_len: usize,
    /// The routers, one of which is to be resolved and watched, if packets go to one.
    router: Option<(NeighbourWatch, Routers)>,
    /// Whether a packet was written in this turn.
    is_used: bool,
    /// Whether the link is gone for good.
    is_gone: bool,
    /// Packets that the kernel rejected.
    pub(crate) rejected: Tally,
}

impl Uplink {
    pub(crate) fn open(place: Place) -> Result<Self, Error> {
        let link = place.link.index;
        let socket = PacketSocket::open(link, place.address).map_err(|cause| {
            let link = place.link.name.clone();
            Error::PacketSocket { link, cause }
        })?;
        let (router, header, header_len) = match &place.next_hop {
            NextHop::Router { routers, .. } => {
                let routers = Routers::new(routers.clone());
                let watch = NeighbourWatch::open(link, routers.in_use())
                    .map_err(system("watch the router of the uplink by netlink"))?;
                (Some((watch, routers)), None, ethernet::HEADER_LEN)
            }
            &NextHop::Unresolved(mac) => {
                let header = ethernet::header(mac, mac);
                (None, Some(header), ethernet::HEADER_LEN)
            }
            NextHop::Peer => (None, Some([0; ethernet::HEADER_LEN]), 0),
        };
        let mut uplink = Self {
            place,
            socket,
            header,
            header_len,
            router,
            is_used: false,
            is_gone: false,
            rejected: Tally::default(),
        };
        // The kernel answers at once.
        uplink.read_neighbours(Instant::now());
        Ok(uplink)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Becomes that of another place, if nothing but the routers is another one there: no packet is
    /// lost then. Returns whether it has.
    pub(crate) fn follow(&mut self, place: &Place, now: Instant) -> bool {
        let is_here =
            !self.is_gone && self.place.link == place.link && self.place.address == place.address;
        if let Some((_, routers)) = &mut self.router
            && let NextHop::Router { mac: own, .. } = &self.place.next_hop
            && let NextHop::Router { mac, routers: all } = &place.next_hop
            && is_here
            && mac == own
        {
            routers.replace(all.clone());
            self.place = place.clone();
            self.turn_to_router(now);
            return true;
        }
        false
    }

    /// Reads one packet. Fails with `WouldBlock` if there is none, and with `Interrupted` if the
    /// next one is to be read.
    pub(crate) fn read(&mut self, packet: &mut Packet) -> io::Result<Result<(), Malformed>> {
        let buffer = packet.read_buffer_for(self.header_len);
        let error = match self.socket.read(buffer) {
            Ok(len) => return Ok(packet.received_by(self.header_len, len)),
            Err(error) => error,
        };
        Err(match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EAGAIN) => error,
            Some(Errno::ENODEV | Errno::ENXIO) => {
                self.is_gone = true;
                ErrorKind::WouldBlock.into()
            }
            // The link was down, which is told once; or what was received has no virtio_net_hdr.
            _ => ErrorKind::Interrupted.into(),
        })
    }

    /// Writes one packet. One that the kernel rejects is lost, as on any link.
    pub(crate) fn write(&mut self, packet: &mut Packet, now: Instant) {
        let Some(header) = &self.header else {
            return; // an answer of ours, while the router is resolved
        };
        self.is_used = true;
        let octets = packet.with_headers(&header[..self.header_len]);
        if let Err(error) = self.socket.write(octets)
            && let Some(count) = self.rejected.add(now)
        {
            let link = &self.place.link;
            warn!("{link}: cannot write a packet ({count} so far): {error}");
        }
    }

    /// What to do about packets that wait to be sent, if there are any.
    pub(crate) fn sending(&mut self, has_packets: bool, now: Instant) -> Sending {
        if let Some((_, routers)) = &mut self.router {
            routers.expire(now);
            self.turn_to_router(now);
        }
        let Some((watch, routers)) = &mut self.router else {
            return Sending::Send;
        };
        let sending = routers.sending(has_packets, now);
        if sending == Sending::Resolve
            && let Err(error) = watch.use_it()
        {
            debug!("cannot have the router of the uplink resolved: {error}");
        }
        sending
    }

    /// Ends a turn: has the kernel confirm the address of the router, if it is old and was used.
    pub(crate) fn end_turn(&mut self) {
        if std::mem::take(&mut self.is_used)
            && let Some((watch, routers)) = &mut self.router
            && routers.used()
            && let Err(error) = watch.use_it()
        {
            debug!("cannot have the router of the uplink confirmed: {error}");
        }
    }

    /// When packets that wait are to be refused.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.router.as_ref()?.1.deadline()
    }

    /// The descriptors of packets, and of news of the router.
    pub(crate) fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        let router = self.router.as_ref();
        [
            (!self.is_gone).then(|| self.socket.as_fd()),
            router.map(|(watch, _)| watch.as_fd()),
        ]
    }

    /// Whether packets wait until the router is resolved.
    pub(crate) fn holds_packets(&self) -> bool {
        self.deadline().is_some()
    }

    /// Reads news of the router in use, and turns to another one if that fails.
    pub(crate) fn read_neighbours(&mut self, now: Instant) {
        self.hear_router(now);
        self.turn_to_router(now);
    }

    fn hear_router(&mut self, now: Instant) {
        let Some((watch, routers)) = &mut self.router else {
            return;
        };
        let router = routers.in_use();
        for _ in 0..MAX_MESSAGES {
            if routers.in_use() != router {
                break; // what else there is to read is not about that one
            }
            match watch.next() {
                Ok(Some(heard)) => {
                    for neighbour in heard {
                        if routers.in_use() == router {
                            routers.heard(neighbour, now);
                        }
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    debug!("cannot read news of the router of the uplink: {error}");
                    break;
                }
            }
        }
        if let NextHop::Router { mac, .. } = self.place.next_hop {
            self.header = routers.mac().map(|to| ethernet::header(to, mac));
        }
    }

    /// Watches the router in use, if it is another one than before.
    fn turn_to_router(&mut self, now: Instant) {
        let Some((watch, routers)) = &mut self.router else {
            return;
        };
        let router = routers.in_use();
        match watch.turn_to(router) {
            Ok(false) => {}
            Ok(true) => {
                debug!("{}: packets go to {router}", self.place.link);
                self.hear_router(now); // the kernel answers at once
            }
            Err(error) => debug!("cannot watch {router}: {error}"),
        }
    }
}
