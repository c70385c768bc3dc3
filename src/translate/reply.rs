//! ICMP messages that the translator originates: echo replies from its own addresses, and errors
//! about packets that it refuses, where an error is allowed (RFC 1812 section 4.3.2, RFC 4443
//! section 2.4).

use std::{net::IpAddr, time::Instant};

use super::{
    DropReason, Outcome, Packet, Reply, Translator,
    icmp_limit::Originated,
    outcome::Refusal,
    quoted::{MAX_ERROR_V4, MAX_ERROR_V6},
};
use crate::wire::{
    FragmentPlace, Malformed,
    checksum::Sum,
    icmp::{self, Icmpv4, Icmpv4Error, Icmpv6, Icmpv6Error},
    ipv4::{self, Ipv4Header, Ipv4Packet},
    ipv6::{self, Ipv6Header, Ipv6Packet},
    protocol,
};

/// Hop limit and TTL of all messages (RFC 1700).
const HOP_LIMIT: u8 = 64;

/// Answers an ICMPv4 echo request, from the address that it came to (RFC 1122 section 3.2.2.6).
pub(super) fn echo_v4(
    translator: &mut Translator,
    packet: &mut Packet,
    now: Instant,
) -> Result<Reply, DropReason> {
    let request = Ipv4Packet::parse(packet.bytes())?;
    let header_len = request.header_len();
    let len = request.payload().len();
    let header = Ipv4Header {
        tos: request.tos(),
        total_len: (ipv4::HEADER_LEN + len) as u16, // at most that of the request
        identification: translator.identification.next(),
        dont_fragment: false,
        fragment: FragmentPlace::WHOLE,
        ttl: HOP_LIMIT,
        protocol: protocol::ICMPV4,
        source: request.destination(),
        destination: request.source(),
    };
    take_echo(translator, header.destination.into(), now)?;
    packet.truncate(header_len + len);
    let message = packet.tail_mut(header_len);
    icmp::replace_type(message, icmp::V4_ECHO_REPLY, Sum::default(), Sum::default());
    packet.replace_front(header_len, &header.octets());
    Ok(Reply::Echo)
}

/// Answers an ICMPv6 echo request, from the address that it came to (RFC 4443 section 4.2).
pub(super) fn echo_v6(
    translator: &mut Translator,
    packet: &mut Packet,
    now: Instant,
) -> Result<Reply, DropReason> {
    let request = Ipv6Packet::parse(packet.bytes())?;
    let header_len = request.upper_layer()?.offset;
    let header = Ipv6Header {
        traffic_class: request.traffic_class(),
        payload_len: request.payload_len() - (header_len - ipv6::HEADER_LEN) as u16,
        next_header: protocol::ICMPV6,
        hop_limit: HOP_LIMIT,
        source: request.destination(),
        destination: request.source(),
    };
    take_echo(translator, header.destination.into(), now)?;
    packet.truncate(header_len + usize::from(header.payload_len));
    // The pseudo-header has the same sum: source and destination are swapped.
    let message = packet.tail_mut(header_len);
    icmp::replace_type(message, icmp::V6_ECHO_REPLY, Sum::default(), Sum::default());
    packet.replace_front(header_len, &header.octets());
    Ok(Reply::Echo)
}

/// Takes an echo reply from what may be sent to `destination` now.
fn take_echo(
    translator: &mut Translator,
    destination: IpAddr,
    now: Instant,
) -> Result<(), DropReason> {
    let allowed = translator
        .limits
        .take(Originated::EchoReply, destination, now);
    allowed.then_some(()).ok_or(DropReason::EchoLimit)
}

/// Drops an IPv4 packet, with an ICMP error to its sender if one is allowed.
pub(super) fn refuse_v4<'p>(
    translator: &mut Translator,
    packet: &'p mut Packet,
    refusal: Refusal<Icmpv4Error>,
    now: Instant,
) -> Outcome<'p> {
    let dropped = Outcome::Drop(refusal.reason);
    let Some(error) = refusal.answer else {
        return dropped;
    };
    let Ok(refused) = Ipv4Packet::parse(packet.bytes()) else {
        return dropped;
    };
    let (source, destination) = (translator.map.own_v4(), refused.source());
    if !is_answerable_v4(&refused) || source == destination {
        return dropped;
    }
    let message = match error {
        Icmpv4Error::FragmentationNeeded { .. } => Originated::SizeError,
        _ => Originated::Error,
    };
    if !translator.limits.take(message, destination.into(), now) {
        return dropped;
    }
    let quoted = usize::from(refused.total_len());
    packet.truncate(quoted.min(MAX_ERROR_V4 - ipv4::HEADER_LEN - icmp::HEADER_LEN));
    packet.forget_offload();
    packet.replace_front(0, &error.octets(0));
    let message = packet.tail_mut(0);
    icmp::put_checksum(message, Sum::default());
    let header = Ipv4Header {
        tos: 0,
        total_len: (ipv4::HEADER_LEN + message.len()) as u16, // at most 576
        identification: translator.identification.next(),
        dont_fragment: false,
        fragment: FragmentPlace::WHOLE,
        ttl: HOP_LIMIT,
        protocol: protocol::ICMPV4,
        source,
        destination,
    };
    packet.replace_front(0, &header.octets());
    Outcome::Reply(Reply::Error(refusal.reason))
}

/// Drops an IPv6 packet, with an ICMPv6 error to its sender if one is allowed.
pub(super) fn refuse_v6<'p>(
    translator: &mut Translator,
    packet: &'p mut Packet,
    refusal: Refusal<Icmpv6Error>,
    now: Instant,
) -> Outcome<'p> {
    let dropped = Outcome::Drop(refusal.reason);
    let Some(error) = refusal.answer else {
        return dropped;
    };
    let Ok(refused) = Ipv6Packet::parse(packet.bytes()) else {
        return dropped;
    };
    let (source, destination) = (translator.map.own_error_source(), refused.source());
    if is_answerable_v6(&refused) != Ok(true) || source == destination {
        return dropped;
    }
    let message = match error {
        Icmpv6Error::PacketTooBig { .. } => Originated::SizeError,
        _ => Originated::Error,
    };
    if !translator
        .limits
        .take(message, IpAddr::V6(destination), now)
    {
        return dropped;
    }
    let quoted = ipv6::HEADER_LEN + refused.payload().len();
    packet.truncate(quoted.min(MAX_ERROR_V6 - ipv6::HEADER_LEN - icmp::HEADER_LEN));
    packet.forget_offload();
    packet.replace_front(0, &error.octets(0));
    let message = packet.tail_mut(0);
    let pseudo = Sum::pseudo_v6(source, destination, protocol::ICMPV6, message.len());
    icmp::put_checksum(message, pseudo);
    let header = Ipv6Header {
        traffic_class: 0,
        payload_len: message.len() as u16, // at most 1240
        next_header: protocol::ICMPV6,
        hop_limit: HOP_LIMIT,
        source,
        destination,
    };
    packet.replace_front(0, &header.octets());
    Outcome::Reply(Reply::Error(refusal.reason))
}

/// Whether an error may be sent about a packet: not about a fragment other than the first, nor
/// about ICMP other than echo, and so never about an error (RFC 1812 section 4.3.2.7). Packets
/// whose source or destination is no host have been dropped before.
fn is_answerable_v4(packet: &Ipv4Packet<'_>) -> bool {
    let icmp = Icmpv4::parse(packet.payload());
    packet.fragment().offset == 0
        && (packet.protocol() != protocol::ICMPV4
            || matches!(icmp, Ok(Icmpv4::EchoRequest | Icmpv4::EchoReply)))
}

/// Whether an error may be sent about a packet (RFC 4443 section 2.4 (e)). An ICMPv6 message counts
/// also behind headers that are not translated.
fn is_answerable_v6(packet: &Ipv6Packet<'_>) -> Result<bool, Malformed> {
    let upper = packet.upper_layer()?;
    let offset = upper.fragment.map_or(0, |fragment| fragment.place.offset);
    let rest = &packet.payload()[upper.offset - ipv6::HEADER_LEN..];
    let is_answerable = match ipv6::behind_extension_headers(upper.protocol, rest) {
        Some((protocol::ICMPV6, message)) => matches!(
            Icmpv6::parse(message),
            Ok(Icmpv6::EchoRequest | Icmpv6::EchoReply)
        ),
        _ => true,
    };
    Ok(offset == 0 && is_answerable)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    /// RFC 4443 section 2.4 (e.1): a header behind a Fragment header is not translated, but an
    /// ICMPv6 error behind it is one.
    #[test]
    fn an_error_behind_headers_that_are_not_translated_is_not_answered() {
        for (kind, answerable) in [(1, false), (128, true), (129, true), (133, false)] {
            let fragment = [60, 0, 0, 0, 0, 0, 0, 1]; // atomic
            let options = [58, 0, 1, 4, 0, 0, 0, 0];
            let message = [kind, 0, 0, 0, 0, 0, 0, 0];
            let header = Ipv6Header {
                traffic_class: 0,
                payload_len: 24,
                next_header: protocol::FRAGMENT,
                hop_limit: 64,
                source: "2001:db8::1".parse().unwrap(),
                destination: "2001:db8::2".parse().unwrap(),
            };
            let octets = [&header.octets()[..], &fragment, &options, &message].concat();
            let packet = Ipv6Packet::parse(&octets).unwrap();
            assert_eq!(is_answerable_v6(&packet), Ok(answerable), "type {kind}");
        }
    }

    /// The same behind more headers than are translated.
    #[test]
    fn an_error_behind_many_headers_is_not_answered() {
        for (kind, answerable) in [(1, false), (128, true)] {
            let fragment = [protocol::HOP_BY_HOP, 0, 0, 0, 0, 0, 0, 1]; // atomic
            let options = [protocol::HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0].repeat(20);
            let last = [58, 0, 1, 4, 0, 0, 0, 0];
            let message = [kind, 0, 0, 0, 0, 0, 0, 0];
            let header = Ipv6Header {
                traffic_class: 0,
                payload_len: 184,
                next_header: protocol::FRAGMENT,
                hop_limit: 64,
                source: "2001:db8::1".parse().unwrap(),
                destination: "2001:db8::2".parse().unwrap(),
            };
            let header = header.octets();
            let octets = [&header[..], &fragment, &options, &last, &message].concat();
            let packet = Ipv6Packet::parse(&octets).unwrap();
            assert_eq!(is_answerable_v6(&packet), Ok(answerable), "type {kind}");
        }
    }
}
