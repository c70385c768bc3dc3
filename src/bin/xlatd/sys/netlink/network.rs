//! What there is of the network, as a CLAT sees it.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
};

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RoutePreference, RouteType},
};
use xlatd::{
    addr::{Nat64Prefix, Prefix4, Prefix6},
    clat::{Address, Interface, Ipv6Route, LinkLayer, Network, is_clat_address, may_lead},
};

use super::{CLAT_PROTOCOL, METRIC_V6, Netlink};

/// The number of IPv6 routes that are kept for an interface.
const MAX_ROUTES: usize = 64;

impl Netlink {
    /// All devices that are up, with what is to be known of them; not `own`. Of IPv6 routes those
    /// that may lead to a NAT64, also to one of these prefixes.
    pub(crate) fn network(
        &mut self,
        own: Option<u32>,
        prefixes: &[Nat64Prefix],
    ) -> io::Result<Network> {
        let links = self.request(
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            NLM_F_DUMP,
        )?;
        let mut links: Vec<_> = links
            .iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewLink(link) => read_link(link),
                _ => None,
            })
            .filter(|link| Some(link.index) != own)
            .collect();

        let mut filter = AddressMessage::default();
        filter.header.family = AddressFamily::Inet6;
        for message in self.request(RouteNetlinkMessage::GetAddress(filter), NLM_F_DUMP)? {
            if let RouteNetlinkMessage::NewAddress(message) = message
                && let Some(link) = by_index(&mut links, message.header.index)
                && let Some(address) = read_address(&message)
            {
                link.addresses.push(address);
            }
        }
        let mut filter = AddressMessage::default();
        filter.header.family = AddressFamily::Inet;
        for message in self.request(RouteNetlinkMessage::GetAddress(filter), NLM_F_DUMP)? {
            if let RouteNetlinkMessage::NewAddress(message) = message
                && let Some(link) = by_index(&mut links, message.header.index)
            {
                let length = message.header.prefix_len;
                let addresses = message.attributes.iter();
                // That of the other end, if the link has two ends.
                let networks = addresses.clone().filter_map(|attribute| match attribute {
                    AddressAttribute::Address(IpAddr::V4(address)) if length <= 32 => {
                        Some(Prefix4::around(*address, length))
                    }
                    _ => None,
                });
                link.networks_v4.extend(networks);
                link.clat_addresses
                    .extend(addresses.filter_map(|attribute| match attribute {
                        AddressAttribute::Local(IpAddr::V4(address)) => {
                            is_clat_address(*address).then_some(*address)
                        }
                        _ => None,
                    }));
            }
        }
        for (family, table) in [
            (AddressFamily::Inet, RouteHeader::RT_TABLE_MAIN),
            (AddressFamily::Inet6, RouteHeader::RT_TABLE_UNSPEC),
        ] {
            let mut filter = RouteMessage::default();
            filter.header.address_family = family;
            filter.header.table = table;
            filter.header.kind = RouteType::Unicast;
            // There may be hundreds of thousands: none is kept that does not count.
            let request = RouteNetlinkMessage::GetRoute(filter);
            self.request_each(request, NLM_F_DUMP, |message| {
                if let RouteNetlinkMessage::NewRoute(route) = message {
                    take_route(&mut links, &route, prefixes);
                }
            })?;
        }
        Ok(Network {
            interfaces: links,
            first_rules: self.first_rules()?,
        })
    }
}

fn by_index(links: &mut [Interface], index: u32) -> Option<&mut Interface> {
    links.iter_mut().find(|link| link.index == index)
}

fn read_link(message: &LinkMessage) -> Option<Interface> {
    let flags = message.header.flags;
    if flags.contains(LinkFlags::Loopback) {
        return None;
    }
    let mut link = Interface {
        index: message.header.index,
        running: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        link_layer: link_layer(message.header.link_layer_type, flags),
        ..Interface::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::CarrierDownCount(count) => link.carrier_downs = *count,
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(octets) => link.mac = octets.as_slice().try_into().ok(),
            LinkAttribute::LinkInfo(infos) => {
                let kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
                link.kind = kind.unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

/// The link layer of a type of device (packet(7)).
fn link_layer(kind: LinkLayerType, flags: LinkFlags) -> LinkLayer {
    match kind {
        LinkLayerType::Ether if flags.contains(LinkFlags::Noarp) => {
            LinkLayer::EthernetWithoutNeighbours
        }
        LinkLayerType::Ether => LinkLayer::Ethernet,
        // Not PPP, before whose packets the kernel leaves room that a packet socket does not fill.
        LinkLayerType::None | LinkLayerType::Rawip => LinkLayer::Bare,
        _ => LinkLayer::Other,
    }
}

fn read_address(message: &AddressMessage) -> Option<Address> {
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::Address(IpAddr::V6(found)) => address = Some(*found),
            _ => {}
        }
    }
    let address = address?;
    (!address.is_unicast_link_local()).then_some(Address {
        address,
        length: message.header.prefix_len,
        deprecated: flags.contains(AddressFlags::Deprecated),
        temporary: flags.contains(AddressFlags::Secondary), // IFA_F_TEMPORARY is the same bit
        tentative: flags.contains(AddressFlags::Tentative)
            && !flags.contains(AddressFlags::Optimistic),
        duplicate: flags.contains(AddressFlags::Dadfailed),
    })
}

fn take_route(links: &mut [Interface], route: &RouteMessage, prefixes: &[Nat64Prefix]) {
    if route.header.kind != RouteType::Unicast || route.header.protocol == CLAT_PROTOCOL {
        return;
    }
    let mut table = u32::from(route.header.table);
    let mut metric = 0;
    let mut preference = 0;
    let mut destination = Ipv6Addr::UNSPECIFIED;
    // One next hop, or several.
    let mut hops = vec![hop(&route.attributes)];
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::Preference(RoutePreference::High) => preference = 1,
            RouteAttribute::Preference(RoutePreference::Low) => preference = -1,
            RouteAttribute::Destination(RouteAddress::Inet6(value)) => destination = *value,
            RouteAttribute::MultiPath(all) => hops.extend(all.iter().map(|one| Hop {
                link: Some(one.interface_index),
                ..hop(&one.attributes)
            })),
            _ => {}
        }
    }
    let length = route.header.destination_prefix_length;
    let is_main = table == u32::from(RouteHeader::RT_TABLE_MAIN);
    let is_v4 = route.header.address_family == AddressFamily::Inet;
    let destination = Prefix6::around(destination, length);
    let counts = match is_v4 {
        true => length == 0 && is_main,
        false => may_lead(destination, is_main, prefixes),
    };
    if !counts {
        return;
    }
    for Hop {
        link,
        has_gateway,
        gateway,
    } in hops
    {
        let Some(link) = link.and_then(|index| by_index(links, index)) else {
            continue;
        };
        if is_v4 {
            link.default_v4 |= has_gateway;
            if !has_gateway {
                let best = link.on_link_default_v4.get_or_insert(metric);
                *best = metric.min(*best);
            }
        } else if link.routes_v6.len() < MAX_ROUTES {
            link.routes_v6.push(Ipv6Route {
                destination,
                is_main,
                metric: if metric == 0 { METRIC_V6 } else { metric },
                preference,
                gateway,
            });
        }
    }
}

/// A next hop of a route.
struct Hop {
    link: Option<u32>,
    has_gateway: bool,
    /// The gateway, if it has an IPv6 address.
    gateway: Option<Ipv6Addr>,
}

fn hop(attributes: &[RouteAttribute]) -> Hop {
    let mut hop = Hop {
        link: None,
        has_gateway: false,
        gateway: None,
    };
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(index) => hop.link = Some(*index),
            RouteAttribute::Gateway(gateway) => {
                hop.has_gateway = true;
                if let RouteAddress::Inet6(gateway) = gateway {
                    hop.gateway = Some(*gateway);
                }
            }
            RouteAttribute::Via(_) => hop.has_gateway = true,
            _ => {}
        }
    }
    hop
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::InfoKind;

    use super::*;

    /// A device is of the kind that the kernel says, also where the crate has another name for it
    /// or none.
    #[test]
    fn the_kind_of_a_device_is_the_kernels() {
        let kind = |infos| {
            let mut message = LinkMessage::default();
            message.attributes.push(LinkAttribute::LinkInfo(infos));
            read_link(&message).map(|link| link.kind)
        };
        for (info, name) in [
            (InfoKind::IpIp, "ipip"),
            (InfoKind::Ip6Tnl, "ip6tnl"),
            (InfoKind::Vti6, "vti6"),
            (InfoKind::SitTun, "sit"),
            (InfoKind::GreTun6, "ip6gre"),
            (InfoKind::Other("ovpn".to_owned()), "ovpn"),
        ] {
            let found = kind(vec![LinkInfo::Kind(info)]);
            assert_eq!(found.as_deref(), Some(name));
        }
        assert_eq!(kind(vec![]).as_deref(), Some(""), "a physical device");
    }
}
