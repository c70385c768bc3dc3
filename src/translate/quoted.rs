//! The packet that an ICMP error quotes: short, untrusted, translated once (RFC 7915 sections 4.3
//! and 5.3).
//!
//! Routers quote as little as 8 octets behind the IP header, so no length or checksum in a quoted
//! packet can be relied on: octets that are there are translated, a checksum that is there is
//! updated, and the hop limit stays.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use super::{DropReason, Settings, hairpin::Pass, header, icmp_types};
use crate::{
    addr::AddressMap,
    wire::{
        checksum::Sum,
        icmp::{self, Icmpv4Error, Icmpv6Error, MIN_EXTENDED_QUOTE},
        icmp_extension::{self, NODE_LEN},
        ipv4::{self, Ipv4Header, Ipv4Packet},
        ipv6::{self, Ipv6Header, Ipv6Packet, UpperLayer},
        protocol, transport,
    },
};

/// Longest ICMPv4 error with its IP header, in octets: what every host can receive (RFC 1812
/// section 4.3.2.3).
pub(super) const MAX_ERROR_V4: usize = 576;
/// Longest ICMPv6 error with its IP header, in octets (RFC 4443 section 2.4 (c)).
pub(super) const MAX_ERROR_V6: usize = ipv6::MIN_MTU as usize;

/// A translated ICMP error: the whole packet.
///
/// It is made beside the packet that it is the translation of, since the quoted packet grows or
/// shrinks, and since an error that cannot be translated must be left as it is.
pub(super) struct Message {
    octets: [u8; MAX_ERROR_V6],
    len: usize,
    /// Length of its own IP header, in octets.
    outer_len: usize,
    /// Place of the payload of the quoted packet, in octets.
    upper: Range<usize>,
}

/// Translates an ICMPv4 error. `message` starts with the ICMP header; `outer` is the IP header of
/// the result, but for its payload length.
pub(super) fn four_to_six(
    settings: &Settings,
    map: &AddressMap,
    pass: Pass,
    error: Icmpv4Error,
    message: &[u8],
    outer: Ipv6Header,
) -> Result<Message, DropReason> {
    let quote = Icmpv4Error::quote(message);
    let inner = Ipv4Packet::parse_quoted(quote.datagram).map_err(|_| DropReason::QuotedPacket)?;
    let error =
        icmp_types::to_v6(error, inner.total_len(), settings.mtu).ok_or(DropReason::IcmpType)?;
    if header::is_untranslatable(inner.protocol()) {
        return Err(DropReason::QuotedPacket);
    }
    let source = map.to_v6(inner.source()).map(|mapped| mapped.address);
    let source = source.map_err(|_| DropReason::QuotedPacket)?;
    let destination = pass.quoted_destination(map, inner.destination());
    let destination = destination.map_err(|_| DropReason::QuotedPacket)?;
    let (header, fragment) = header::to_v6(settings, &inner, source, destination);

    let mut result = Message::new(ipv6::HEADER_LEN);
    result.push(&header.octets());
    if let Some(fragment) = fragment {
        result.push(&fragment.octets());
    }
    let space = Space {
        room: MAX_ERROR_V6 - ipv6::HEADER_LEN - icmp::HEADER_LEN,
        unit: Icmpv6Error::LENGTH_UNIT,
    };
    let extension = quote.extension.filter(|_| error.is_extensible());
    let extension = extension.map(Extension::received);
    let quoted_len = result.fill(space, inner.payload(), extension);
    upper_to_v6(result.upper(), &inner, source, destination)?;

    let len = result.len - ipv6::HEADER_LEN;
    let outer = Ipv6Header {
        payload_len: len as u16, // at most 1240
        ..outer
    };
    let pseudo = Sum::pseudo_v6(outer.source, outer.destination, protocol::ICMPV6, len);
    result.finish(&outer.octets(), error.octets(quoted_len), pseudo);
    Ok(result)
}

/// Translates what a quoted packet has behind its IPv4 header.
fn upper_to_v6(
    upper: &mut [u8],
    inner: &Ipv4Packet<'_>,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) -> Result<(), DropReason> {
    let is_first = inner.fragment().offset == 0;
    if inner.protocol() == protocol::ICMPV4 {
        let kind = upper.first().and_then(|&kind| icmp_types::echo_to_v6(kind));
        let kind = kind.filter(|_| is_first).ok_or(DropReason::QuotedPacket)?;
        let len = usize::from(inner.total_len()) - inner.header_len();
        let pseudo = Sum::pseudo_v6(source, destination, protocol::ICMPV6, len);
        icmp::replace_type(upper, kind, Sum::default(), pseudo);
    } else if is_first {
        let removed = Sum::v4(inner.source()) + Sum::v4(inner.destination());
        let added = Sum::v6(source) + Sum::v6(destination);
        transport::update_checksum(inner.protocol(), upper, removed, added);
    }
    Ok(())
}

/// Translates an ICMPv6 error. `message` starts with the ICMPv6 header; `outer` is the IP header
/// of the result, but for its total length; `node` is the source that the result is to name, since
/// its IP header does not.
pub(super) fn six_to_four(
    settings: &Settings,
    map: &AddressMap,
    error: Icmpv6Error,
    node: Option<Ipv6Addr>,
    message: &[u8],
    outer: Ipv4Header,
) -> Result<Message, DropReason> {
    let quote = error.quote(message);
    let inner = Ipv6Packet::parse_quoted(quote.datagram).map_err(|_| DropReason::QuotedPacket)?;
    let upper = inner.upper_layer().map_err(|_| DropReason::QuotedPacket)?;
    let error = icmp_types::to_v4(error, upper.fragment.is_some(), settings.mtu)
        .ok_or(DropReason::IcmpType)?;
    header::refuse_untranslatable(&upper).map_err(|_| DropReason::QuotedPacket)?;
    let mapped = |address: Ipv6Addr| -> Result<Ipv4Addr, DropReason> {
        let mapped = map.to_v4(address).map_err(|_| DropReason::QuotedPacket)?;
        Ok(mapped.address)
    };
    let (source, destination) = (mapped(inner.source())?, mapped(inner.destination())?);
    let header = header::to_v4(settings, &inner, &upper, source, destination)
        .ok_or(DropReason::QuotedPacket)?;

    let mut result = Message::new(ipv4::HEADER_LEN);
    result.push(&header.octets());
    let space = Space {
        room: MAX_ERROR_V4 - ipv4::HEADER_LEN - icmp::HEADER_LEN,
        unit: Icmpv4Error::LENGTH_UNIT,
    };
    let payload = &inner.payload()[upper.offset - ipv6::HEADER_LEN..];
    let extension = Extension::naming(node, quote.extension, &space);
    let quoted_len = result.fill(space, payload, extension);
    upper_to_v4(result.upper(), &inner, &upper, &header)?;

    let outer = Ipv4Header {
        total_len: result.len as u16, // at most 576
        ..outer
    };
    result.finish(&outer.octets(), error.octets(quoted_len), Sum::default());
    Ok(result)
}

/// Translates what a quoted packet, whose IPv4 header is to be `header`, has behind its IPv6
/// headers.
fn upper_to_v4(
    octets: &mut [u8],
    inner: &Ipv6Packet<'_>,
    upper: &UpperLayer,
    header: &Ipv4Header,
) -> Result<(), DropReason> {
    let is_first = header.fragment.offset == 0;
    let (source, destination) = (inner.source(), inner.destination());
    if upper.protocol == protocol::ICMPV6 {
        let kind = octets
            .first()
            .and_then(|&kind| icmp_types::echo_to_v4(kind));
        let kind = kind.filter(|_| is_first).ok_or(DropReason::QuotedPacket)?;
        let len = usize::from(header.total_len) - ipv4::HEADER_LEN;
        let pseudo = Sum::pseudo_v6(source, destination, protocol::ICMPV6, len);
        icmp::replace_type(octets, kind, pseudo, Sum::default());
    } else if is_first {
        let removed = Sum::v6(source) + Sum::v6(destination);
        let added = Sum::v4(header.source) + Sum::v4(header.destination);
        transport::update_checksum(upper.protocol, octets, removed, added);
    }
    Ok(())
}

/// The room for the quoted datagram and the extension in a message.
struct Space {
    /// For both together, in octets.
    room: usize,
    /// A quoted datagram that an extension follows is a multiple of this long, in octets.
    unit: usize,
}

/// The extension structure of a message.
struct Extension<'a> {
    /// As received, or without objects.
    octets: &'a [u8],
    /// The object that is appended.
    node: Option<[u8; NODE_LEN]>,
}

impl<'a> Extension<'a> {
    fn received(octets: &'a [u8]) -> Self {
        Self { octets, node: None }
    }

    /// The structure that names `node` beside what was received. It does not where there is no
    /// room for that beside 128 octets of the quoted datagram, where the origin has named itself,
    /// or where the structure is none to append to: that stays as it is.
    fn naming(node: Option<Ipv6Addr>, received: Option<&'a [u8]>, space: &Space) -> Option<Self> {
        let octets = received.unwrap_or(&icmp_extension::EMPTY);
        let fits = MIN_EXTENDED_QUOTE + octets.len() + NODE_LEN <= space.room;
        match node.filter(|_| fits && icmp_extension::takes_node(octets)) {
            Some(node) => Some(Self {
                octets,
                node: Some(icmp_extension::node(node)),
            }),
            None => received.map(Self::received),
        }
    }

    fn len(&self) -> usize {
        self.octets.len() + self.node.map_or(0, |node| node.len())
    }
}

impl Message {
    /// The whole packet.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.octets[..self.len]
    }

    /// A message with room for the IP header, of `outer_len` octets, and for the ICMP header;
    /// [`finish`](Self::finish) writes them.
    fn new(outer_len: usize) -> Self {
        Self {
            octets: [0; MAX_ERROR_V6],
            outer_len,
            upper: 0..0,
            len: outer_len + icmp::HEADER_LEN,
        }
    }

    fn push(&mut self, octets: &[u8]) {
        self.octets[self.len..self.len + octets.len()].copy_from_slice(octets);
        self.len += octets.len();
    }

    /// Appends the payload of the quoted packet, whose header is there already, and the extension.
    /// Returns the length of the quoted datagram with its padding if an extension follows it, in
    /// octets, else 0 (RFC 4884 section 4).
    ///
    /// Where both do not fit, the quoted datagram is shortened first, down to the 128 octets that
    /// must be there; then objects at the end of the extension are left out (RFC 7915 section 4.2).
    fn fill(&mut self, space: Space, payload: &[u8], extension: Option<Extension<'_>>) -> usize {
        let start = self.outer_len + icmp::HEADER_LEN;
        let header_len = self.len - start;
        if let Some(extension) = extension {
            let wanted = (header_len + payload.len()).max(MIN_EXTENDED_QUOTE);
            let possible = space
                .room
                .saturating_sub(extension.len())
                .max(MIN_EXTENDED_QUOTE);
            let quoted_len = wanted
                .next_multiple_of(space.unit)
                .min(possible / space.unit * space.unit);
            let Extension { octets, node } = extension;
            if let Some(len) = icmp_extension::fitting(octets, space.room - quoted_len) {
                self.push_upper(payload, quoted_len - header_len);
                self.len = start + quoted_len; // the padding is zero already
                self.push(&octets[..len]);
                if let Some(node) = node {
                    self.push(&node); // there is room for both
                }
                if len < octets.len() || node.is_some() {
                    let extension = start + quoted_len..self.len;
                    icmp_extension::put_checksum(&mut self.octets[extension]);
                }
                return quoted_len;
            }
        }
        self.push_upper(payload, space.room - header_len);
        0
    }

    fn push_upper(&mut self, payload: &[u8], room: usize) {
        let start = self.len;
        self.push(&payload[..payload.len().min(room)]);
        self.upper = start..self.len;
    }

    /// The quoted octets behind the IP header of the quoted packet.
    fn upper(&mut self) -> &mut [u8] {
        &mut self.octets[self.upper.clone()]
    }

    /// Writes the IP header and the ICMP header with its checksum; `pseudo` is the sum of the
    /// pseudo-header.
    fn finish(&mut self, outer: &[u8], header: [u8; icmp::HEADER_LEN], pseudo: Sum) {
        let (ip, message) = self.octets[..self.len].split_at_mut(self.outer_len);
        ip.copy_from_slice(outer);
        message[..icmp::HEADER_LEN].copy_from_slice(&header);
        icmp::put_checksum(message, pseudo);
    }
}
