//! Next hops that several routes share (linux/nexthop.h): what the kernel learns of the path to a
//! destination, it keeps with the next hop.

use std::io;

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_CREATE, NLM_F_EXCL, NetlinkDeserializable,
    NetlinkHeader, NetlinkSerializable, NlasIterator,
};
use nix::libc;
use xlatd::plan::{Effect, NextHopObject};

use super::{CLAT_PROTOCOL, Netlink};

impl Netlink {
    /// Adds a next hop. `tun` is the index of the TUN device.
    pub(crate) fn add_next_hop_object(
        &mut self,
        tun: u32,
        next_hop: &NextHopObject,
    ) -> io::Result<Effect> {
        let message = Message::of(NEW, next_hop.id, Some(device(tun, next_hop)));
        match self.request(message, NLM_F_CREATE | NLM_F_EXCL) {
            Ok(_) => Ok(Effect::Changed),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Err(_) if self.has_next_hop_object(tun, next_hop)? => Ok(Effect::Unchanged),
            Err(_) => Err(io::Error::other(
                "another next hop of this number is there already (ip nexthop)",
            )),
        }
    }

    pub(crate) fn remove_next_hop_object(
        &mut self,
        next_hop: &NextHopObject,
    ) -> io::Result<Effect> {
        self.request(Message::of(DELETE, next_hop.id, None), 0)?;
        Ok(Effect::Changed)
    }

    pub(crate) fn has_next_hop_object(
        &mut self,
        tun: u32,
        next_hop: &NextHopObject,
    ) -> io::Result<bool> {
        let found = self.next_hop(next_hop.id)?;
        Ok(found.is_some_and(|found| found.is_ours(device(tun, next_hop))))
    }

    /// Whether a next hop can be added, or is there: not before Linux 5.3, nor if another program
    /// has one of this number.
    pub(crate) fn can_have_next_hop_object(&mut self, tun: u32, next_hop: &NextHopObject) -> bool {
        self.next_hop(next_hop.id)
            .is_ok_and(|found| found.is_none_or(|found| found.is_ours(device(tun, next_hop))))
    }

    fn next_hop(&mut self, id: u32) -> io::Result<Option<Message>> {
        match self.request(Message::of(GET, id, None), 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            found => Ok(found?.pop()),
        }
    }
}

fn device(tun: u32, next_hop: &NextHopObject) -> u32 {
    match next_hop.link.index {
        0 => tun,
        index => index,
    }
}

/// RTM_NEWNEXTHOP
const NEW: u16 = 104;
/// RTM_DELNEXTHOP
const DELETE: u16 = 105;
/// RTM_GETNEXTHOP
const GET: u16 = 106;
/// NHA_ID
const ID: u16 = 1;
/// NHA_OIF
const DEVICE: u16 = 5;

/// A message about one next hop.
///
/// ```text
///  0        1        2           3         4        8
///  | family | scope  | protocol  | zero    | flags  | attributes
/// ```
struct Message {
    kind: u16,
    /// Who has added it.
    protocol: u8,
    id: u32,
    device: Option<u32>,
}

impl Message {
    const HEADER_LEN: usize = 8;

    /// A request. Without a device, it says nothing but the number.
    fn of(kind: u16, id: u32, device: Option<u32>) -> Self {
        let protocol = device.map_or(0, |_| CLAT_PROTOCOL.into());
        Self {
            kind,
            protocol,
            id,
            device,
        }
    }

    /// Whether a CLAT has added it, for this device.
    fn is_ours(&self, device: u32) -> bool {
        self.protocol == u8::from(CLAT_PROTOCOL) && self.device == Some(device)
    }

    fn attributes(&self) -> Vec<DefaultNla> {
        let attribute = |kind, value: u32| DefaultNla::new(kind, value.to_ne_bytes().to_vec());
        let device = self.device.map(|device| attribute(DEVICE, device));
        [attribute(ID, self.id)].into_iter().chain(device).collect()
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        Self::HEADER_LEN + self.attributes().as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(Self::HEADER_LEN);
        header.fill(0);
        header[0] = self.device.map_or(libc::AF_UNSPEC, |_| libc::AF_INET) as u8;
        header[2] = self.protocol;
        self.attributes().as_slice().emit(attributes);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, octets: &[u8]) -> Result<Self, Self::Error> {
        let (start, attributes) = octets
            .split_at_checked(Self::HEADER_LEN)
            .ok_or_else(|| DecodeError::from("too short"))?;
        let mut found = Self::of(header.message_type, 0, None);
        found.protocol = start[2];
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            let value = attribute.value().first_chunk().copied();
            match (attribute.kind(), value.map(u32::from_ne_bytes)) {
                (ID, Some(id)) => found.id = id,
                (DEVICE, device) => found.device = device,
                _ => {}
            }
        }
        Ok(found)
    }
}
