//! Links, addresses and routes, over rtnetlink (rtnetlink(7)); and what there is in nftables.

mod network;
pub(crate) mod nftables;
mod route;
mod rule;

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, Nla,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo},
    link::{InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    route::RouteProtocol,
};
use netlink_sys::{
    Socket, SocketAddr,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
};
use nix::{
    libc,
    sys::{
        socket::{setsockopt, sockopt::ReceiveTimeout},
        time::TimeVal,
    },
};
use xlatd::{config::IpPrefix, plan::Effect};

pub(crate) use route::{METRIC_V6, Precedence};

/// The kernel puts no more than this into one datagram of a dump, in octets; single answers are far smaller.
const RECEIVE_BUFFER: usize = 32768;
/// Multicast group of link changes, as a bit: RTMGRP_LINK.
const LINK_GROUP: u32 = 1;
/// Of links, IPv4 and IPv6 addresses, routes and rules, and of what forwards: RTMGRP_LINK, RTMGRP_IPV4_IFADDR and so on,
/// RTNLGRP_IPV6_RULE and RTNLGRP_IPV6_NETCONF.
const NETWORK_GROUPS: u32 = LINK_GROUP | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18 | 1 << 24;
/// Of tables of nftables: NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.
const NFTABLES_GROUP: u32 = 1 << 6;
/// Protocol number of the routes and rules of a CLAT (rtm_protocol of rtnetlink(7)): none that
/// /etc/iproute2/rt_protos has.
const CLAT_PROTOCOL: RouteProtocol = RouteProtocol::Other(0x64);
/// Of a message, in octets (netlink(7)).
const HEADER_LEN: usize = 16;
/// The kernel answers at once. This is for the case that it does not.
const TIMEOUT: TimeVal = TimeVal::new(5, 0);

/// The state of a network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkState {
    /// Does not change while the device exists.
    pub(crate) index: u32,
    pub(crate) name: String,
    /// In octets.
    pub(crate) mtu: u32,
    /// Administratively; whether there is a carrier is another matter.
    pub(crate) up: bool,
    /// Length of the transmit queue, in packets.
    pub(crate) queue_length: u32,
    pub(crate) kind: LinkKind,
}

/// The kind of a network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkKind {
    /// A TUN device, made with IFF_MULTI_QUEUE or without.
    Tun { multi_queue: bool },
    /// The Ethernet sibling of a TUN device.
    Tap,
    /// Another kind, by its name in the kernel; physical devices have none.
    Other(Option<String>),
}

/// A socket for requests: each is answered before the next is sent.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl Netlink {
    pub(crate) fn new() -> io::Result<Self> {
        let netlink = Self::of(NETLINK_ROUTE)?;
        // Lets the kernel leave out of a dump what was not asked for. Kernels before 4.20 cannot: their dumps are longer.
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

    /// The device of this name, if there is one.
    pub(crate) fn link(&mut self, name: &str) -> io::Result<Option<LinkState>> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        self.get_link(message)
    }

    /// The device of this index, if it still exists.
    pub(crate) fn link_by_index(&mut self, index: u32) -> io::Result<Option<LinkState>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.get_link(message)
    }

    /// Sets a device up.
    pub(crate) fn set_up(&mut self, index: u32) -> io::Result<Effect> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if let Some(RouteNetlinkMessage::NewLink(link)) = self
            .request(RouteNetlinkMessage::GetLink(message.clone()), 0)?
            .first()
            && link.header.flags.contains(LinkFlags::Up)
        {
            return Ok(Effect::Unchanged);
        }
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.tell(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Sets a device down.
    pub(crate) fn set_down(&mut self, index: u32) -> io::Result<Effect> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = LinkFlags::Up;
        self.tell(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Sets the length of a device's transmit queue, in packets.
    pub(crate) fn set_queue_length(&mut self, index: u32, length: u32) -> io::Result<Effect> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::TxQueueLen(length));
        self.tell(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Sets the MTU of a device, in octets.
    pub(crate) fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<Effect> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.tell(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Gives a device an address.
    pub(crate) fn add_address(&mut self, index: u32, address: IpPrefix) -> io::Result<Effect> {
        let message = RouteNetlinkMessage::NewAddress(address_message(index, address));
        self.tell(message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Gives a device an address that no program will use, with no route to its network.
    pub(crate) fn add_test_address(&mut self, index: u32, address: Ipv6Addr) -> io::Result<Effect> {
        let mut message = address_message(index, IpPrefix::V6(address, 128));
        let mut lifetimes = CacheInfo::default();
        (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (0, u32::MAX);
        message.attributes.extend([
            AddressAttribute::CacheInfo(lifetimes),
            AddressAttribute::Flags(AddressFlags::Noprefixroute),
        ]);
        let message = RouteNetlinkMessage::NewAddress(message);
        self.tell(message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Takes an address from a device.
    pub(crate) fn remove_address(&mut self, index: u32, address: IpPrefix) -> io::Result<Effect> {
        let message = RouteNetlinkMessage::DelAddress(address_message(index, address));
        self.tell(message, 0)
    }

    /// Whether a device has an address.
    pub(crate) fn has_address(&mut self, index: u32, address: IpPrefix) -> io::Result<bool> {
        let wanted = address_message(index, address);
        let mut filter = AddressMessage::default();
        filter.header.family = wanted.header.family;
        filter.header.index = index;
        let addresses = self.request(RouteNetlinkMessage::GetAddress(filter), NLM_F_DUMP)?;
        let ip = address.address();
        Ok(addresses.iter().any(|found| match found {
            RouteNetlinkMessage::NewAddress(found) => {
                found.header.index == index
                    && found.header.prefix_len == wanted.header.prefix_len
                    // IPv6 addresses without a peer have no local one.
                    && found.attributes.iter().any(|attribute| matches!(
                        attribute,
                        AddressAttribute::Local(found) | AddressAttribute::Address(found) if *found == ip
                    ))
            }
            _ => false,
        }))
    }

    fn get_link(&mut self, message: LinkMessage) -> io::Result<Option<LinkState>> {
        match self.request(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(answers) => answers
                .iter()
                .find_map(|answer| match answer {
                    RouteNetlinkMessage::NewLink(link) => LinkState::read(link),
                    _ => None,
                })
                .map(Some)
                .ok_or_else(|| io::ErrorKind::InvalidData.into()),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
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
        self.sequence = self.sequence.wrapping_add(1);
        let payload = NetlinkPayload::InnerMessage(message);
        let mut request = NetlinkMessage::new(NetlinkHeader::default(), payload);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut octets = vec![0; request.buffer_len()];
        request.serialize(&mut octets);
        self.socket.send(&octets, 0)?;

        loop {
            let len = self.socket.recv(&mut &mut *self.buffer, 0)?;
            for answer in messages(&self.buffer[..len.min(self.buffer.len())]) {
                // What cannot be read is about something that is not ours.
                let Ok(answer) = answer else {
                    continue;
                };
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => each(message),
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

/// Says when links change.
pub(crate) struct LinkChanges {
    socket: Socket,
    buffer: Box<[u8]>,
}

/// What happened to links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// These changed: what they are now. Links of other namespaces, and those that went, are not among them.
    To(Vec<LinkState>),
    /// More than there was room for: links have to be looked at.
    Missed,
}

impl LinkChanges {
    pub(crate) fn new() -> io::Result<Self> {
        Self::of(NETLINK_ROUTE, LINK_GROUP)
    }

    /// The same for addresses, routes and rules. What is said is only that something changed.
    pub(crate) fn of_the_network() -> io::Result<Self> {
        Self::of(NETLINK_ROUTE, NETWORK_GROUPS)
    }

    /// The same for tables of nftables. Needs CAP_NET_ADMIN, and a kernel that has them.
    pub(crate) fn of_nftables() -> io::Result<Self> {
        Self::of(NETLINK_NETFILTER, NFTABLES_GROUP)
    }

    fn of(protocol: isize, groups: u32) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind(&SocketAddr::new(0, groups))?;
        socket.set_non_blocking(true)?;
        Ok(Self {
            socket,
            buffer: vec![0; RECEIVE_BUFFER].into_boxed_slice(),
        })
    }

    /// The next change; `None` if there was none since.
    pub(crate) fn next(&mut self) -> io::Result<Option<Change>> {
        match self.socket.recv(&mut &mut *self.buffer, 0) {
            // What cannot be read is about a kind of link that is not ours.
            Ok(len) => Ok(Some(Change::To(
                messages(&self.buffer[..len.min(self.buffer.len())])
                    .flatten()
                    .filter_map(|message| match message.payload {
                        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                            LinkState::read(&link)
                        }
                        _ => None,
                    })
                    .collect(),
            ))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Some(Change::Missed)),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrowed(&self.socket)
    }
}

impl AsFd for LinkChanges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrowed(&self.socket)
    }
}

fn borrowed(socket: &Socket) -> BorrowedFd<'_> {
    // SAFETY: the socket is open as long as it lives, and so as the borrow.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

impl LinkState {
    /// `None` if something is missing that the kernel always sends.
    fn read(message: &LinkMessage) -> Option<Self> {
        let mut name = None;
        let mut mtu = None;
        let mut queue_length = None;
        let mut info: &[LinkInfo] = &[];
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(value) => name = Some(value.clone()),
                LinkAttribute::Mtu(value) => mtu = Some(*value),
                LinkAttribute::TxQueueLen(value) => queue_length = Some(*value),
                LinkAttribute::LinkInfo(value) => info = value,
                _ => {}
            }
        }
        Some(Self {
            index: message.header.index,
            name: name?,
            mtu: mtu?,
            up: message.header.flags.contains(LinkFlags::Up),
            queue_length: queue_length?,
            kind: LinkKind::read(info),
        })
    }
}

impl LinkKind {
    fn read(info: &[LinkInfo]) -> Self {
        // linux/if_link.h and linux/if_tun.h
        const IFLA_TUN_TYPE: u16 = 3;
        const IFLA_TUN_MULTI_QUEUE: u16 = 7;
        const IFF_TAP: u8 = 2;

        let mut kind = None;
        let mut tap = false;
        let mut multi_queue = false;
        for info in info {
            match info {
                LinkInfo::Kind(value) => kind = Some(value),
                LinkInfo::Data(InfoData::Tun(attributes)) => {
                    for attribute in attributes {
                        let mut value = vec![0; attribute.value_len()];
                        attribute.emit_value(&mut value);
                        match attribute.kind() {
                            IFLA_TUN_TYPE => tap = value == [IFF_TAP],
                            IFLA_TUN_MULTI_QUEUE => multi_queue = value == [1],
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        match kind {
            Some(InfoKind::Tun) if tap => Self::Tap,
            Some(InfoKind::Tun) => Self::Tun { multi_queue },
            kind => Self::Other(kind.map(ToString::to_string)),
        }
    }
}

fn address_message(index: u32, address: IpPrefix) -> AddressMessage {
    let ip = address.address();
    let mut message = AddressMessage::default();
    message.header.family = family(ip);
    message.header.prefix_len = address.length();
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(ip));
    message.attributes.push(AddressAttribute::Address(ip));
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The messages of one datagram. One that cannot be read does not hide those behind it, if its length can.
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

    use netlink_packet_core::DefaultNla;
    use netlink_packet_route::link::InfoTun;

    use super::*;

    fn octets(index: u32) -> Vec<u8> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes
            .push(LinkAttribute::IfName("abc".to_owned()));
        link.attributes.push(LinkAttribute::Mtu(1500));
        link.attributes.push(LinkAttribute::TxQueueLen(1000));
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

    /// A kernel that says something new about a device does not keep us from the end of what it says.
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

    #[test]
    fn a_link_is_read() {
        let message = messages(&octets(7)).next().unwrap().unwrap();
        let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = message.payload
        else {
            panic!("another message");
        };
        let expected = LinkState {
            up: false,
            index: 7,
            name: "abc".to_owned(),
            mtu: 1500,
            queue_length: 1000,
            kind: LinkKind::Other(None),
        };
        assert_eq!(LinkState::read(&link), Some(expected));
        assert_eq!(LinkState::read(&LinkMessage::default()), None);
    }

    /// linux/if_link.h: attribute 3 is IFF_TUN (1) or IFF_TAP (2), attribute 7 says whether there are several queues.
    #[test]
    fn the_kinds_of_tun_devices_are_told_apart() {
        let kind = |kind, attributes: &[(u16, u8)]| {
            let attributes = attributes
                .iter()
                .map(|&(kind, value)| InfoTun::Other(DefaultNla::new(kind, vec![value])));
            LinkKind::read(&[
                LinkInfo::Kind(kind),
                LinkInfo::Data(InfoData::Tun(attributes.collect())),
            ])
        };
        let single = LinkKind::Tun { multi_queue: false };
        assert_eq!(kind(InfoKind::Tun, &[(3, 1), (7, 0)]), single);
        let multi = LinkKind::Tun { multi_queue: true };
        assert_eq!(kind(InfoKind::Tun, &[(7, 1), (3, 1)]), multi);
        assert_eq!(kind(InfoKind::Tun, &[(3, 2), (7, 1)]), LinkKind::Tap);
        assert_eq!(kind(InfoKind::Tun, &[]), single);
        assert_eq!(
            kind(InfoKind::Veth, &[]),
            LinkKind::Other(Some("veth".to_owned()))
        );
    }
}
