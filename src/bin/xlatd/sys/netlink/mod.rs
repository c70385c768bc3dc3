//! Links, addresses, neighbours, routes and rules by rtnetlink(7); and the tables of nftables.

mod address;
mod changes;
mod link;
mod lookup;
mod neighbours;
mod network;
mod next_hop;
pub(crate) mod nftables;
mod notifications;
mod route;
mod rule;

use std::{
    io,
    net::IpAddr,
    ops::{ControlFlow, RangeInclusive},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage, route::RouteProtocol};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::{
    socket::{setsockopt, sockopt::ReceiveTimeout},
    time::TimeVal,
};
use xlatd::plan::Effect;

pub(crate) use changes::{Change, LinkChanges};
pub(crate) use link::{LinkKind, LinkState};
pub(crate) use neighbours::NeighbourWatch;
pub(crate) use route::{METRIC_V6, Precedence};

/// The longest datagram of a dump, in octets; single answers are far shorter.
const RECEIVE_BUFFER: usize = 32768;
/// Protocol number of the routes and rules of a CLAT (rtm_protocol of rtnetlink(7)): none that
/// /etc/iproute2/rt_protos has.
const CLAT_PROTOCOL: RouteProtocol = RouteProtocol::Other(0x64);
/// Length of the header of a message, in octets (netlink(7)).
const HEADER_LEN: usize = 16;
/// The longest wait for an answer, which the kernel gives at once.
const TIMEOUT: TimeVal = TimeVal::new(5, 0);

/// A socket for requests: each is answered before the next is sent.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl Netlink {
    pub(crate) fn new() -> io::Result<Self> {
        let netlink = Self::of(NETLINK_ROUTE)?;
        // Has the kernel leave out of a dump what was not asked for. Before Linux 4.20 it cannot.
        let _ = netlink.socket.set_netlink_get_strict_chk(true);
        Ok(netlink)
    }

    fn of(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let netlink = Self {
            socket,
            sequence: 0,
            buffer: vec![0; RECEIVE_BUFFER].into_boxed_slice(),
        };
        setsockopt(&netlink, ReceiveTimeout, &TIMEOUT)?;
        Ok(netlink)
    }

    /// A request that has nothing to answer.
    fn tell(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Effect> {
        match self.request(message, flags) {
            Ok(_) => Ok(Effect::Changed),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Effect::Unchanged),
            Err(error) => Err(error),
        }
    }

    /// Sends a request and waits for the kernel to acknowledge it. Returns what it answered.
    fn request<M: NetlinkSerializable + NetlinkDeserializable>(
        &mut self,
        message: M,
        flags: u16,
    ) -> io::Result<Vec<M>> {
        let mut answers = Vec::new();
        self.request_each(message, flags, |answer| answers.push(answer))?;
        Ok(answers)
    }

    /// The same, with each answer as it comes.
    fn request_each<M: NetlinkSerializable + NetlinkDeserializable>(
        &mut self,
        message: M,
        flags: u16,
        mut each: impl FnMut(M),
    ) -> io::Result<()> {
        self.request_until(message, flags, |answer| {
            each(answer);
            ControlFlow::Continue(())
        })
    }

    /// The same, until there is an answer to break off at. The socket is of no use after that: the
    /// kernel has more to say on it.
    fn request_until<M: NetlinkSerializable + NetlinkDeserializable>(
        &mut self,
        message: M,
        flags: u16,
        each: impl FnMut(M) -> ControlFlow<()>,
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        send(&self.socket, message, NLM_F_ACK | flags, self.sequence)?;
        self.answers(self.sequence..=self.sequence, each)
    }

    /// Reads the answers to requests with these numbers, until the kernel acknowledges or refuses
    /// one of them.
    fn answers<M: NetlinkDeserializable>(
        &mut self,
        requests: RangeInclusive<u32>,
        mut each: impl FnMut(M) -> ControlFlow<()>,
    ) -> io::Result<()> {
        loop {
            let len = self.socket.recv(&mut &mut *self.buffer, 0)?;
            for answer in messages(&self.buffer[..len.min(self.buffer.len())]) {
                // What cannot be read is about something that is not ours.
                let Ok(answer) = answer else {
                    continue;
                };
                if !requests.contains(&answer.header.sequence_number) {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => match each(message) {
                        ControlFlow::Continue(()) => {}
                        ControlFlow::Break(()) => return Ok(()),
                    },
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(()),
                    _ => {}
                }
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrowed(&self.socket)
    }
}

/// Sends a request, to which the kernel answers with the same sequence number.
fn send<M: NetlinkSerializable>(
    socket: &Socket,
    message: M,
    flags: u16,
    sequence: u32,
) -> io::Result<()> {
    socket.send(&octets(message, flags, sequence), 0)?;
    Ok(())
}

/// A request as octets. They fill a multiple of 4, as do all messages of nftables.
fn octets<M: NetlinkSerializable>(message: M, flags: u16, sequence: u32) -> Vec<u8> {
    let payload = NetlinkPayload::InnerMessage(message);
    let mut request = NetlinkMessage::new(NetlinkHeader::default(), payload);
    request.header.flags = NLM_F_REQUEST | flags;
    request.header.sequence_number = sequence;
    request.finalize();
    let mut octets = vec![0; request.buffer_len()];
    request.serialize(&mut octets);
    octets
}

fn borrowed(socket: &Socket) -> BorrowedFd<'_> {
    // SAFETY: the socket is open as long as it lives, and so as the borrow.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The messages of one datagram. One that cannot be read does not hide those behind it, if its
/// length can be read.
fn messages<M: NetlinkDeserializable>(
    mut octets: &[u8],
) -> impl Iterator<Item = io::Result<NetlinkMessage<M>>> {
    std::iter::from_fn(move || {
        if octets.is_empty() {
            return None;
        }
        let message = NetlinkMessage::deserialize(octets);
        // Messages begin with their length, and at multiples of 4 octets (netlink(7)).
        let len = octets.first_chunk().copied().map_or(0, u32::from_ne_bytes) as usize;
        octets = match len {
            HEADER_LEN.. => octets.get(len.next_multiple_of(4)..).unwrap_or_default(),
            _ => &[],
        };
        Some(message.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string())))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use netlink_packet_route::link::{LinkAttribute, LinkMessage};

    use super::*;

    fn octets(index: u32) -> Vec<u8> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes
            .push(LinkAttribute::IfName("abc".to_owned()));
        let mut message = NetlinkMessage::new(
            NetlinkHeader::default(),
            NetlinkPayload::from(RouteNetlinkMessage::NewLink(link)),
        );
        message.finalize();
        let mut octets = vec![0; message.buffer_len()];
        message.serialize(&mut octets);
        octets
    }

    /// Whatever comes in, reading it ends, and what is before a broken message counts.
    #[test]
    fn messages_are_read_up_to_one_that_is_broken() {
        let whole = [octets(7), octets(8)].concat();
        let first = octets(7).len();
        for len in 0..=whole.len() {
            let read: Vec<_> = messages::<RouteNetlinkMessage>(&whole[..len]).collect();
            let good = read.iter().filter(|message| message.is_ok()).count();
            assert_eq!(good, len / first, "{len} octets");
            assert_eq!(read.len(), len.div_ceil(first), "{len} octets");
        }
        assert_eq!(messages::<RouteNetlinkMessage>(&[0; 64]).count(), 1);
    }

    /// A newer kernel may say something about a device that cannot be read.
    #[test]
    fn messages_behind_one_that_cannot_be_read_are() {
        let mut unreadable = octets(7);
        unreadable.truncate(HEADER_LEN + 4);
        let len = unreadable.len() as u32;
        unreadable[..4].copy_from_slice(&len.to_ne_bytes());
        let whole = [unreadable, octets(8)].concat();
        let read: Vec<_> = messages::<RouteNetlinkMessage>(&whole).collect();
        assert_eq!(read.len(), 2);
        assert!(read[0].is_err() && read[1].is_ok());
    }
}
