//! Translation of IP headers, in both directions, and the protocols that no header can name. Quoted
//! packets get the same headers as forwarded ones.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{DropReason, Settings, outcome::Refusal};
use crate::wire::{
    FragmentPlace,
    icmp::Icmpv6Error,
    ipv4::{self, Ipv4Header, Ipv4Packet},
    ipv6::{self, FragmentHeader, Ipv6Header, Ipv6Packet, UpperLayer},
    protocol,
};

/// Communication with the destination is administratively prohibited (RFC 4443 section 3.1).
pub(super) const PROHIBITED: Icmpv6Error = Icmpv6Error::Unreachable { code: 1 };

/// Longest IPv4 packet without DF, in octets: the IPv6 packet that it is the translation of fits
/// everywhere, so its sender cannot be asked to send smaller ones (RFC 7915 sections 5 and 5.1).
const MAX_FRAGMENTABLE: usize = 1260;

/// Whether a protocol number means something else in IPv6, where extension headers and ICMPv6 have
/// theirs, or has no meaning there: IGMP is between neighbours, and "SHOULD also be silently
/// dropped" (RFC 7915 section 4.2).
pub(super) fn is_untranslatable(protocol: u8) -> bool {
    matches!(
        protocol,
        protocol::HOP_BY_HOP
            | protocol::IGMP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::ICMPV6
            | protocol::DESTINATION_OPTIONS
    )
}

/// The headers that take the place of the header of `packet`, with its hop limit as it is (RFC 7915
/// section 4.1). There is a Fragment header only if the packet is a fragment: no atomic fragments
/// (RFC 8021).
pub(super) fn to_v6(
    settings: &Settings,
    packet: &Ipv4Packet<'_>,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) -> (Ipv6Header, Option<FragmentHeader>) {
    let next_header = match packet.protocol() {
        protocol::ICMPV4 => protocol::ICMPV6,
        other => other,
    };
    let place = packet.fragment();
    let identification = packet.identification().into();
    let fragment = (!place.is_whole()).then_some(FragmentHeader {
        next_header,
        place,
        identification,
    });
    let fragment_len = if fragment.is_some() {
        ipv6::FRAGMENT_LEN
    } else {
        0
    };
    let upper_len = usize::from(packet.total_len()) - packet.header_len();
    let header = Ipv6Header {
        traffic_class: settings.traffic_class.of(packet.tos()),
        payload_len: (upper_len + fragment_len) as u16, // never over 65523
        next_header: if fragment.is_some() {
            protocol::FRAGMENT
        } else {
            next_header
        },
        hop_limit: packet.ttl(),
        source,
        destination,
    };
    (header, fragment)
}

/// Refuses what has no meaning in IPv4: ICMP of the wrong family, and extension headers behind a
/// Fragment header, which the translation cannot skip in all fragments (RFC 7915 section 5.1.1).
pub(super) fn refuse_untranslatable(upper: &UpperLayer) -> Result<(), Refusal<Icmpv6Error>> {
    if upper.protocol == protocol::ICMPV4 {
        return Err(DropReason::Protocol.into());
    }
    refuse_header_after_fragment(upper)
}

pub(super) fn refuse_header_after_fragment(upper: &UpperLayer) -> Result<(), Refusal<Icmpv6Error>> {
    if upper.fragment.is_some() && ipv6::is_extension_header(upper.protocol) {
        return Err(Refusal::answered(
            DropReason::HeaderAfterFragment,
            PROHIBITED,
        ));
    }
    Ok(())
}

/// The header that takes the place of the headers of `packet`, with its hop limit as it is, and
/// without an identification if the packet is not a fragment (RFC 7915 sections 5.1 and 5.1.1).
/// `None` if IPv4 cannot say how long it is, or if the payload length is less than that of the
/// extension headers.
pub(super) fn to_v4(
    settings: &Settings,
    packet: &Ipv6Packet<'_>,
    upper: &UpperLayer,
    source: Ipv4Addr,
    destination: Ipv4Addr,
) -> Option<Ipv4Header> {
    let skipped = upper.offset - ipv6::HEADER_LEN;
    let upper_len = usize::from(packet.payload_len()).checked_sub(skipped)?;
    let total_len = ipv4::HEADER_LEN + upper_len;
    Some(Ipv4Header {
        tos: settings.tos.of(packet.traffic_class()),
        total_len: total_len.try_into().ok()?,
        identification: upper
            .fragment
            .map_or(0, |fragment| fragment.identification as u16),
        dont_fragment: has_df(upper, total_len),
        fragment: upper
            .fragment
            .map_or(FragmentPlace::WHOLE, |fragment| fragment.place),
        ttl: packet.hop_limit(),
        protocol: match upper.protocol {
            protocol::ICMPV6 => protocol::ICMPV4,
            other => other,
        },
        source,
        destination,
    })
}

/// Whether an IPv4 packet of `total_len` octets gets DF (RFC 7915 section 5.1).
pub(super) fn has_df(upper: &UpperLayer, total_len: usize) -> bool {
    upper.fragment.is_none() && total_len > MAX_FRAGMENTABLE
}
