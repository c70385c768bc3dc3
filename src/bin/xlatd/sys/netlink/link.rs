//! Network devices: their state, and changes to it.

use std::io;

use netlink_packet_core::Nla;
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, LinkAttribute, LinkFlags,
        LinkInfo, LinkMessage,
    },
};
use nix::libc;
use xlatd::plan::Effect;

use super::Netlink;

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
    /// Whether it has a carrier: for a TUN device, whether a process has attached to it.
    pub(crate) carrier: bool,
    /// Length of the transmit queue, in packets.
    pub(crate) queue_length: u32,
    pub(crate) kind: LinkKind,
}

/// The kind of a network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkKind {
    /// A TUN device with a single queue.
    Tun,
    /// A TUN device that was made with IFF_MULTI_QUEUE, and has so many queues attached.
    MultiQueueTun { queues: u32 },
    /// The Ethernet sibling of a TUN device.
    Tap,
    /// Another kind, by its name in the kernel; physical devices have none.
    Other(Option<String>),
}

impl Netlink {
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

    /// Has the kernel give a device no link-local address (`ip link set addrgenmode none`).
    pub(crate) fn without_link_local(&mut self, index: u32) -> io::Result<Effect> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let of_ipv6 = vec![AfSpecUnspec::Inet6(vec![mode])];
        message
            .attributes
            .push(LinkAttribute::AfSpecUnspec(of_ipv6));
        self.tell(RouteNetlinkMessage::SetLink(message), 0)
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
}

impl LinkState {
    /// `None` if something is missing that the kernel always sends.
    pub(super) fn read(message: &LinkMessage) -> Option<Self> {
        let mut name = None;
        let mut mtu = None;
        let mut queue_length = None;
        let mut carrier = false;
        let mut info: &[LinkInfo] = &[];
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(value) => name = Some(value.clone()),
                LinkAttribute::Mtu(value) => mtu = Some(*value),
                LinkAttribute::TxQueueLen(value) => queue_length = Some(*value),
                LinkAttribute::Carrier(value) => carrier = *value == 1,
                LinkAttribute::LinkInfo(value) => info = value,
                _ => {}
            }
        }
        Some(Self {
            index: message.header.index,
            name: name?,
            mtu: mtu?,
            up: message.header.flags.contains(LinkFlags::Up),
            carrier,
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
        const IFLA_TUN_NUM_QUEUES: u16 = 8;
        const IFF_TAP: u8 = 2;

        let mut kind = None;
        let mut tap = false;
        let mut multi_queue = false;
        let mut queues = 0;
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
                            IFLA_TUN_NUM_QUEUES => {
                                queues = value.try_into().map_or(0, u32::from_ne_bytes);
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        match kind {
            Some(InfoKind::Tun) if tap => Self::Tap,
            Some(InfoKind::Tun) if multi_queue => Self::MultiQueueTun { queues },
            Some(InfoKind::Tun) => Self::Tun,
            kind => Self::Other(kind.map(ToString::to_string)),
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::DefaultNla;
    use netlink_packet_route::link::InfoTun;

    use super::*;

    #[test]
    fn a_link_is_read() {
        let mut link = LinkMessage::default();
        link.header.index = 7;
        link.attributes.extend([
            LinkAttribute::IfName("abc".to_owned()),
            LinkAttribute::Mtu(1500),
            LinkAttribute::TxQueueLen(1000),
            LinkAttribute::Carrier(1),
        ]);
        let expected = LinkState {
            up: false,
            carrier: true,
            index: 7,
            name: "abc".to_owned(),
            mtu: 1500,
            queue_length: 1000,
            kind: LinkKind::Other(None),
        };
        assert_eq!(LinkState::read(&link), Some(expected));
        assert_eq!(LinkState::read(&LinkMessage::default()), None);
    }

    /// linux/if_link.h: attribute 3 is IFF_TUN (1) or IFF_TAP (2), attribute 7 whether there may
    /// be several queues, and attribute 8 their number.
    #[test]
    fn the_kinds_of_tun_devices_are_told_apart() {
        let kind = |kind, attributes: &[(u16, &[u8])]| {
            let attributes = attributes
                .iter()
                .map(|&(kind, value)| InfoTun::Other(DefaultNla::new(kind, value.to_vec())));
            LinkKind::read(&[
                LinkInfo::Kind(kind),
                LinkInfo::Data(InfoData::Tun(attributes.collect())),
            ])
        };
        let three = 3_u32.to_ne_bytes();
        let single = LinkKind::Tun;
        assert_eq!(kind(InfoKind::Tun, &[(3, &[1]), (7, &[0])]), single);
        let multi = LinkKind::MultiQueueTun { queues: 3 };
        let attributes: [(u16, &[u8]); 3] = [(8, &three), (7, &[1]), (3, &[1])];
        assert_eq!(kind(InfoKind::Tun, &attributes), multi);
        assert_eq!(kind(InfoKind::Tun, &[(3, &[2]), (7, &[1])]), LinkKind::Tap);
        assert_eq!(kind(InfoKind::Tun, &[]), single);
        assert_eq!(
            kind(InfoKind::Veth, &[]),
            LinkKind::Other(Some("veth".to_owned()))
        );
    }
}
