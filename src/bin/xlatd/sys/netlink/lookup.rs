//! Where the kernel sends a packet: RTM_GETROUTE of rtnetlink(7) for one destination.

use std::{io, net::IpAddr};

use netlink_packet_route::{
    RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType},
};
use nix::libc;
use xlatd::{
    addr::{IpPrefix, Prefix4, Prefix6},
    doctor::{Leads, RouteUsed},
    link::LinkRef,
};

use super::{Netlink, family};

impl Netlink {
    /// Where packets to an address are sent: those of this host, or those that come in by a device,
    /// given with their source, and are forwarded.
    pub(crate) fn leads(
        &mut self,
        destination: IpAddr,
        input: Option<(u32, IpAddr)>,
    ) -> io::Result<Leads> {
        let mut request = to(destination);
        if let Some((index, source)) = input {
            request.header.source_prefix_length = bits(source);
            request.attributes.extend([
                RouteAttribute::Source(source.into()),
                RouteAttribute::Iif(index),
            ]);
        }
        let found = match self.route_used(request) {
            Ok(found) => found,
            Err(error) => return nowhere(error),
        };
        let device = found.attributes.iter().find_map(|one| match one {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        let link = match (found.header.kind, device) {
            (RouteType::Local, _) => return Ok(Leads::Here),
            (RouteType::Unicast, Some(index)) => self.link_by_index(index)?,
            _ => None,
        };
        let Some(link) = link else {
            return Ok(Leads::Nowhere("goes to no device"));
        };
        let route = match input {
            None => self.route_of(destination)?,
            Some(_) => None,
        };
        Ok(Leads::To {
            link: LinkRef::new(link.index, &link.name),
            route,
        })
    }

    /// The route that packets of this host to an address use, which older kernels do not say.
    fn route_of(&mut self, destination: IpAddr) -> io::Result<Option<RouteUsed>> {
        let mut request = to(destination);
        request.header.flags = RouteFlags::FibMatch;
        let Ok(found) = self.route_used(request) else {
            return Ok(None);
        };
        let length = found.header.destination_prefix_length;
        if found.header.flags.contains(RouteFlags::Cloned) || length == bits(destination) {
            return Ok(None);
        }
        let prefix = match destination {
            IpAddr::V4(address) => IpPrefix::V4(Prefix4::around(address, length).address(), length),
            IpAddr::V6(address) => IpPrefix::V6(Prefix6::around(address, length).address(), length),
        };
        let text = self.describe(&found, prefix)?;
        Ok(Some(RouteUsed {
            prefix,
            text,
            is_of_address: found.header.protocol == RouteProtocol::Kernel,
        }))
    }

    fn route_used(&mut self, request: RouteMessage) -> io::Result<RouteMessage> {
        let answers = self.request(RouteNetlinkMessage::GetRoute(request), 0)?;
        let found = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        });
        found.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// The request for the route to an address.
fn to(destination: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination);
    message.header.destination_prefix_length = bits(destination);
    let destination = RouteAddress::from(destination);
    let attribute = RouteAttribute::Destination(destination);
    message.attributes.push(attribute);
    message
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// What an error says about where packets go, in words behind their destination.
fn nowhere(error: io::Error) -> io::Result<Leads> {
    let words = match error.raw_os_error() {
        Some(libc::ENETUNREACH) => "has no route",
        Some(libc::EHOSTUNREACH) => "has a route of type unreachable",
        Some(libc::EACCES) => "has a route of type prohibit",
        Some(libc::EINVAL) => "has a route of type blackhole",
        // A device without IPv6, or one that came in the meantime.
        Some(libc::EAGAIN | libc::ENODEV | libc::EOPNOTSUPP) => "has no route",
        _ => return Err(error),
    };
    Ok(Leads::Nowhere(words))
}
