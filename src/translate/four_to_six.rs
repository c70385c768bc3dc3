//! IPv4 to IPv6: RFC 7915 section 4.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use super::{
    DropReason, Fragments, Outcome, Packet, Settings, Translator,
    checksum::Checksum,
    header, icmp_types,
    offload::{Treatment, treatment},
    outcome::Refusal,
    quoted, reply,
};
use crate::{
    addr::{AddressMap, Mapped, Unmapped, Via},
    wire::{
        FragmentPlace, Malformed,
        checksum::Sum,
        icmp::{Icmpv4, Icmpv4Error},
        ipv4::{self, Ipv4Packet},
        ipv6::{self, FragmentHeader, Ipv6Header},
        protocol,
        virtio::Offload,
    },
};

/// What "lookup failed" is answered with; RFC 1812 section 5.2.7.1.
const HOST_UNREACHABLE: Icmpv4Error = Icmpv4Error::Unreachable { code: 1 };
const PROTOCOL_UNREACHABLE: Icmpv4Error = Icmpv4Error::Unreachable { code: 2 };
const SOURCE_ROUTE_FAILED: Icmpv4Error = Icmpv4Error::Unreachable { code: 5 };
const HOST_PROHIBITED: Icmpv4Error = Icmpv4Error::Unreachable { code: 10 };
const COMMUNICATION_PROHIBITED: Icmpv4Error = Icmpv4Error::Unreachable { code: 13 };
const TTL_EXCEEDED: Icmpv4Error = Icmpv4Error::TimeExceeded { code: 0 };

/// How much longer the header gets, in octets.
const GROWTH: u16 = 20;

/// Translates the IPv4 packet that `packet` holds.
pub(super) fn translate<'p>(
    translator: &mut Translator,
    packet: &'p mut Packet,
    now: Instant,
) -> Outcome<'p> {
    let decide = |packet: &Packet| {
        let Translator { settings, map, .. } = &*translator;
        decide(
            settings,
            map,
            packet.bytes(),
            &packet.offload(),
            Pass::First,
        )
    };
    let mut decision = decide(packet);
    if let Ok(Decision::WorkFirst) = decision
        && packet.complete_checksum()
    {
        decision = decide(packet);
    }
    match decision {
        Ok(Decision::WorkFirst) => Outcome::segments(packet),
        Ok(Decision::Translate(translation)) => translation.apply(packet),
        Ok(Decision::TranslateError(error)) => error.apply(translator, packet, Pass::First),
        Ok(Decision::AnswerEcho) => reply::echo_v4(translator, packet, now),
        Err(refusal) => reply::refuse_v4(translator, packet, refusal, now),
    }
}

/// Sends a packet back to IPv6 that has just been translated to IPv4, because its destination is an IPv6 host with an
/// explicit mapping: intrinsic hairpinning (RFC 7757 section 4.2.2). Its hop has been counted, and everything that the
/// sender might have to be told has been checked before.
pub(super) fn hairpin<'p>(translator: &Translator, packet: &'p mut Packet) -> Outcome<'p> {
    match decide(
        &translator.settings,
        &translator.map,
        packet.bytes(),
        &packet.offload(),
        Pass::Hairpin,
    ) {
        Ok(Decision::WorkFirst) => Outcome::Drop(Malformed::Offload.into()),
        Ok(Decision::Translate(translation)) => translation.apply(packet),
        Ok(Decision::TranslateError(error)) => error.apply(translator, packet, Pass::Hairpin),
        Ok(Decision::AnswerEcho) => Outcome::Drop(DropReason::OwnAddress),
        Err(refusal) => Outcome::Drop(refusal.reason),
    }
}

/// Where the packet comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// From the device.
    First,
    /// From the other direction.
    Hairpin,
}

enum Decision {
    Translate(Translation),
    TranslateError(ErrorTranslation),
    AnswerEcho,
    /// What the kernel has left to do must be done first.
    WorkFirst,
}

/// An ICMP error to translate.
struct ErrorTranslation {
    error: Icmpv4Error,
    /// Where the ICMP message is in the packet, in octets.
    message: std::ops::Range<usize>,
    outer: Ipv6Header,
}

/// Any other packet to translate.
struct Translation {
    /// Length of the IPv4 header, which is replaced, in octets.
    header_len: usize,
    /// Length of the IPv4 packet, in octets.
    total_len: usize,
    header: Ipv6Header,
    fragment: Option<FragmentHeader>,
    checksum: Checksum,
    /// Identification of the fragments, if the packet must be cut.
    identification: u16,
    /// Size of the largest packet to send, in octets, if this one is larger.
    cut_to: Option<usize>,
}

fn decide(
    settings: &Settings,
    map: &AddressMap,
    octets: &[u8],
    offload: &Offload,
    pass: Pass,
) -> Result<Decision, Refusal<Icmpv4Error>> {
    let packet = Ipv4Packet::parse(octets)?;
    packet.verify_checksum()?;
    let (place, payload) = (packet.fragment(), packet.payload());
    let icmp = match packet.protocol() {
        protocol::ICMPV4 if !place.is_whole() => return Err(DropReason::FragmentedIcmp.into()),
        protocol::ICMPV4 => Some(Icmpv4::parse(payload)?),
        _ => None,
    };
    let transport_at = packet.header_len();
    let treatment = treatment(
        offload,
        packet.protocol(),
        place,
        transport_at,
        transport_at == ipv4::HEADER_LEN,
        payload,
    );
    if treatment == Treatment::WorkFirst {
        return Ok(Decision::WorkFirst);
    }
    let error = match icmp {
        Some(Icmpv4::Error(error)) => Some(error),
        _ => None,
    };

    let destination = map.to_v6(packet.destination());
    let source = match pass {
        Pass::First => map.to_v6(packet.source()).map(|mapped| mapped.address),
        Pass::Hairpin => hairpinned_source(map, packet.source()),
    };
    // Silently, whatever else is wrong with it: an answer would go to a group, or to nobody.
    let is_silent = |unmapped| matches!(unmapped, Unmapped::Illegal | Unmapped::LinkLocal);
    if destination.is_err_and(is_silent) || (source.is_err_and(is_silent) && error.is_none()) {
        return Err(DropReason::IllegalAddress.into());
    }
    if packet.has_unexpired_source_route()? {
        return Err(Refusal::answered(
            DropReason::SourceRoute,
            SOURCE_ROUTE_FAILED,
        ));
    }
    if !place.admits(payload.len()) {
        return Err(DropReason::FragmentLength.into());
    }
    if let Ok(Mapped { via: Via::Own, .. }) = destination {
        return match icmp {
            Some(Icmpv4::EchoRequest) => Ok(Decision::AnswerEcho),
            Some(_) => Err(DropReason::OwnAddress.into()),
            None => Err(Refusal::answered(
                DropReason::OwnAddress,
                PROTOCOL_UNREACHABLE,
            )),
        };
    }
    if header::is_untranslatable(packet.protocol()) {
        return Err(DropReason::Protocol.into());
    }
    let hop_limit = match pass {
        Pass::First if packet.ttl() <= 1 => {
            return Err(Refusal::answered(DropReason::HopLimit, TTL_EXCEEDED));
        }
        Pass::First => packet.ttl() - 1,
        Pass::Hairpin => packet.ttl(),
    };
    let destination = destination.map_err(unmapped_destination)?.address;
    let source = match (source, error) {
        (Ok(source), _) => source,
        // "The 'illegal' source address will be translated" in errors (RFC 7915 section 4.1), for troubleshooting;
        // where even that is not possible, the error is still worth more than its source.
        (Err(_), Some(_)) => map.embed(packet.source()).unwrap_or(map.own_v6()),
        (Err(unmapped), None) => return Err(unmapped_source(unmapped)),
    };

    let (header, fragment) = header::to_v6(settings, &packet, source, destination);
    let header = Ipv6Header {
        hop_limit,
        ..header
    };
    let message = packet.header_len()..usize::from(packet.total_len());
    if let Some(error) = error {
        if !Sum::of(payload).verifies() {
            return Err(DropReason::IcmpChecksum.into());
        }
        return Ok(Decision::TranslateError(ErrorTranslation {
            error,
            message,
            outer: header,
        }));
    }

    let checksum = if icmp.is_some() {
        let kind = icmp_types::echo_to_v6(payload[0]).ok_or(DropReason::IcmpType)?;
        let added = Sum::pseudo_v6(source, destination, protocol::ICMPV6, payload.len());
        Checksum::Echo {
            kind,
            removed: Sum::default(),
            added,
        }
    } else {
        let removed = Sum::v4(packet.source()) + Sum::v4(packet.destination());
        let added = Sum::v6(source) + Sum::v6(destination);
        let protocol = packet.protocol();
        Checksum::of_transport(
            settings, place, treatment, protocol, payload, removed, added,
        )?
    };
    // What counts of a super-packet is the size of its segments.
    let size = ipv6::HEADER_LEN
        + match treatment {
            Treatment::Whole { upper_len } => upper_len,
            _ => usize::from(header.payload_len),
        };
    let limit = if packet.dont_fragment() {
        if size > usize::from(settings.mtu) {
            let growth = GROWTH
                + if fragment.is_some() {
                    ipv6::FRAGMENT_LEN as u16
                } else {
                    0
                };
            let mtu = settings.mtu - growth;
            let answer = Icmpv4Error::FragmentationNeeded { mtu };
            return Err(Refusal::answered(DropReason::TooBig, answer));
        }
        settings.mtu
    } else {
        settings.mtu.min(settings.offlink_mtu)
    };
    let too_long = size > limit.into();
    if too_long && treatment != Treatment::Plain {
        return Ok(Decision::WorkFirst);
    }
    Ok(Decision::Translate(Translation {
        header_len: message.start,
        total_len: message.end,
        header,
        fragment,
        checksum,
        identification: packet.identification(),
        cut_to: too_long.then_some(limit.into()),
    }))
}

/// Peers of a hairpinned packet know each other by the prefix, so that what they answer comes back this way.
fn hairpinned_source(map: &AddressMap, source: Ipv4Addr) -> Result<Ipv6Addr, Unmapped> {
    if source == map.own_v4() {
        Ok(map.own_v6())
    } else {
        map.embed(source)
    }
}

fn unmapped_destination(unmapped: Unmapped) -> Refusal<Icmpv4Error> {
    match unmapped {
        Unmapped::WkpfStrict => Refusal::answered(DropReason::WkpfStrict, COMMUNICATION_PROHIBITED),
        Unmapped::NoMapping => Refusal::answered(DropReason::NoDestination, HOST_UNREACHABLE),
        Unmapped::Illegal | Unmapped::LinkLocal => DropReason::IllegalAddress.into(),
    }
}

fn unmapped_source(unmapped: Unmapped) -> Refusal<Icmpv4Error> {
    match unmapped {
        Unmapped::WkpfStrict => Refusal::answered(DropReason::WkpfStrict, HOST_PROHIBITED),
        Unmapped::NoMapping => Refusal::answered(DropReason::NoSource, HOST_PROHIBITED),
        Unmapped::Illegal | Unmapped::LinkLocal => DropReason::IllegalAddress.into(),
    }
}

impl Translation {
    fn apply(self, packet: &mut Packet) -> Outcome<'_> {
        packet.truncate(self.total_len);
        self.checksum.apply(packet.tail_mut(self.header_len));
        if let Some(mtu) = self.cut_to {
            let fragment = self.fragment.unwrap_or(FragmentHeader {
                next_header: self.header.next_header,
                place: FragmentPlace::WHOLE,
                identification: self.identification.into(),
            });
            let header = Ipv6Header {
                next_header: protocol::FRAGMENT,
                ..self.header
            };
            let fragments = Fragments::v6(packet, self.header_len, header, fragment, mtu);
            return Outcome::Fragments(fragments);
        }
        match self.fragment {
            Some(fragment) => {
                packet.replace_front(self.header_len, &fragment.octets());
                packet.replace_front(0, &self.header.octets());
            }
            None => packet.replace_front(self.header_len, &self.header.octets()),
        }
        Outcome::Forward
    }
}

impl ErrorTranslation {
    fn apply<'p>(self, translator: &Translator, packet: &'p mut Packet, pass: Pass) -> Outcome<'p> {
        let Translator { settings, map, .. } = translator;
        let message = &packet.bytes()[self.message];
        let hairpin = pass == Pass::Hairpin;
        match quoted::four_to_six(settings, map, hairpin, self.error, message, self.outer) {
            Ok(message) => {
                packet.replace(message.bytes());
                Outcome::Forward
            }
            Err(reason) => Outcome::Drop(reason),
        }
    }
}
