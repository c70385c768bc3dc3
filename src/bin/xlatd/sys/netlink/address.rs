//! Addresses of network devices.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo},
};
use xlatd::{addr::IpPrefix, plan::Effect};

use super::{Netlink, family};

impl Netlink {
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

    /// Each device that has an address, as its index, with the address and its length.
    pub(crate) fn devices_with(&mut self, address: IpAddr) -> io::Result<Vec<(u32, IpPrefix)>> {
        let mut filter = AddressMessage::default();
        filter.header.family = family(address);
        let found = self.request(RouteNetlinkMessage::GetAddress(filter), NLM_F_DUMP)?;
        let found = found.into_iter().filter_map(|found| match found {
            RouteNetlinkMessage::NewAddress(found) => Some(found),
            _ => None,
        });
        let has_it = |message: &AddressMessage| {
            let attributes = &message.attributes;
            // That of the other end is not local.
            let local = attributes.iter().find_map(|one| match one {
                AddressAttribute::Local(local) => Some(*local),
                _ => None,
            });
            let only = attributes.iter().find_map(|one| match one {
                AddressAttribute::Address(only) => Some(*only),
                _ => None,
            });
            local.or(only) == Some(address)
        };
        let with_length = |message: AddressMessage| {
            let length = message.header.prefix_len;
            let prefix = match address {
                IpAddr::V4(address) => IpPrefix::V4(address, length),
                IpAddr::V6(address) => IpPrefix::V6(address, length),
            };
            (message.header.index, prefix)
        };
        Ok(found.filter(has_it).map(with_length).collect())
    }

    /// Whether a device has an address.
    pub(crate) fn has_address(&mut self, index: u32, address: IpPrefix) -> io::Result<bool> {
        let wanted = address_message(index, address);
        let mut filter = AddressMessage::default();
        filter.header.family = wanted.header.family;
        filter.header.index = index;
        let addresses = self.request(RouteNetlinkMessage::GetAddress(filter), NLM_F_DUMP)?;
        let ip = address.address();
        // IPv6 addresses without a peer have no local one.
        let is_it = |attribute: &AddressAttribute| match attribute {
            AddressAttribute::Local(found) | AddressAttribute::Address(found) => *found == ip,
            _ => false,
        };
        Ok(addresses.iter().any(|found| match found {
            RouteNetlinkMessage::NewAddress(found) => {
                found.header.index == index
                    && found.header.prefix_len == wanted.header.prefix_len
                    && found.attributes.iter().any(is_it)
            }
            _ => false,
        }))
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
