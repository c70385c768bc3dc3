//! IPv4 to IPv6: RFC 7915 section 4.

use std::{net::Ipv6Addr, ops::Range, time::Instant};

use super::{
    DropReason, Fragments, Outcome, Packet, Settings, Translator,
    checksum::Checksum,
    fragment::Size,
    hairpin::Pass,
    header, icmp_types,
    offload::{Transport, Treatment},
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
    },
};

/// Answer to a packet whose destination has no mapping (RFC 1812 section 5.2.7.1).
const HOST_UNREACHABLE: Icmpv4Error = Icmpv4Error::Unreachable { code: 1 };
const PROTOCOL_UNREACHABLE: Icmpv4Error = Icmpv4Error::Unreachable { code: 2 };
const SOURCE_ROUTE_FAILED: Icmpv4Error = Icmpv4Error::Unreachable { code: 5 };
const HOST_PROHIBITED: Icmpv4Error = Icmpv4Error::Unreachable { code: 10 };
const COMMUNICATION_PROHIBITED: Icmpv4Error = Icmpv4Error::Unreachable { code: 13 };
const TTL_EXCEEDED: Icmpv4Error = Icmpv4Error::TimeExceeded { code: 0 };

/// Difference between the headers of IPv6 and IPv4, in octets.
const GROWTH: u16 = 20;

/// Translates the IPv4 packet that `packet` holds.
pub(super) fn translate<'p>(
    translator: &mut Translator,
    packet: &'p mut Packet,
    now: Instant,
) -> Outcome<'p> {
    let mut decision = decide(translator, packet, Pass::First);
    if let Ok(Decision::NeedsSoftware) = decision
        && packet.complete_checksum()
    {
        decision = decide(translator, packet, Pass::First);
    }
    match decision {
        Ok(Decision::NeedsSoftware) => Outcome::segments(packet),
        Ok(Decision::AnswerEcho) => reply::echo_v4(translator, packet, now).into(),
        // RFC 4861 section 7.2.2, as RFC 7915 section 5.2 has it in IPv4.
        Ok(_) if translator.is_unreachable => {
            let refusal = Refusal::answered(DropReason::NextHop, HOST_UNREACHABLE);
            reply::refuse_v4(translator, packet, refusal, now)
        }
        Ok(Decision::Translate(translation)) => translation.apply(packet),
        Ok(Decision::TranslateError(error)) => error.apply(translator, packet, Pass::First),
        // The lease may be on its way.
        Err(refusal)
            if refusal.reason == DropReason::NoDestination
                && Ipv4Packet::parse(packet.bytes())
                    .is_ok_and(|refused| translator.borrows(refused.destination())) =>
        {
            Outcome::HandOver
        }
        Err(refusal) => reply::refuse_v4(translator, packet, refusal, now),
    }
}

/// Translates a packet back to IPv6 that has just been translated to IPv4.
pub(super) fn hairpin<'p>(translator: &Translator, packet: &'p mut Packet) -> Outcome<'p> {
    match decide(translator, packet, Pass::Hairpin) {
        Ok(Decision::NeedsSoftware) => Outcome::Drop(Malformed::Offload.into()),
        Ok(Decision::AnswerEcho) => Outcome::Drop(DropReason::OwnAddress),
        Ok(Decision::Translate(translation)) => translation.apply(packet),
        Ok(Decision::TranslateError(error)) => error.apply(translator, packet, Pass::Hairpin),
        Err(refusal) => Outcome::Drop(refusal.reason),
    }
}

enum Decision {
    Translate(Translation),
    TranslateError(ErrorTranslation),
    AnswerEcho,
    /// The offloaded work must be done in software first.
    NeedsSoftware,
}

/// An ICMP error to translate.
struct ErrorTranslation {
    error: Icmpv4Error,
    /// Place of the ICMP message in the packet, in octets.
    message: Range<usize>,
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
    /// Size of the largest fragment, in octets, if the packet must be cut.
    cut_to: Option<usize>,
}

/// Decides what becomes of a packet, without changing it.
fn decide(
    translator: &Translator,
    packet: &Packet,
    pass: Pass,
) -> Result<Decision, Refusal<Icmpv4Error>> {
    let Translator { settings, map, .. } = translator;
    let received = Received::read(packet)?;
    if received.treatment == Treatment::NeedsSoftware {
        return Ok(Decision::NeedsSoftware);
    }
    let Admission::Forward {
        source,
        destination,
        hop_limit,
    } = received.admit(map, pass)?
    else {
        return Ok(Decision::AnswerEcho);
    };
    let (header, fragment) = header::to_v6(settings, &received.ip, source, destination);
    let header = Ipv6Header {
        hop_limit,
        ..header
    };
    let message = received.transport.at..usize::from(received.ip.total_len());
    if let Some(error) = received.error() {
        if !Sum::of(received.transport.octets).verifies() {
            return Err(DropReason::IcmpChecksum.into());
        }
        return Ok(Decision::TranslateError(ErrorTranslation {
            error,
            message,
            outer: header,
        }));
    }
    let checksum = received.checksum(settings, source, destination)?;
    let cut_to = match received.size(settings, &header)? {
        Size::Fits => None,
        Size::Cut { mtu } => Some(mtu),
        Size::NeedsSoftware => return Ok(Decision::NeedsSoftware),
    };
    Ok(Decision::Translate(Translation {
        header_len: message.start,
        total_len: message.end,
        header,
        fragment,
        checksum,
        identification: received.ip.identification(),
        cut_to,
    }))
}

/// A packet as it was received.
struct Received<'a> {
    ip: Ipv4Packet<'a>,
    transport: Transport<'a>,
    icmp: Option<Icmpv4>,
    treatment: Treatment,
}

/// The answer to whether a packet may be passed on.
enum Admission {
    Forward {
        source: Ipv6Addr,
        destination: Ipv6Addr,
        hop_limit: u8,
    },
    /// It is an echo request to the translator itself.
    AnswerEcho,
}

// Each part is called once for a packet: inlined, its values stay in registers, which costs 16
// instructions a packet less.
impl<'a> Received<'a> {
    /// Parses a packet.
    #[inline(always)]
    fn read(packet: &'a Packet) -> Result<Self, DropReason> {
        let ip = Ipv4Packet::parse(packet.bytes())?;
        ip.verify_checksum()?;
        let transport = Transport {
            protocol: ip.protocol(),
            place: ip.fragment(),
            at: ip.header_len(),
            octets: ip.payload(),
        };
        let icmp = match transport.protocol {
            protocol::ICMPV4 if !transport.place.is_whole() => {
                return Err(DropReason::FragmentedIcmp);
            }
            protocol::ICMPV4 => Some(Icmpv4::parse(transport.octets)?),
            _ => None,
        };
        let treatment = Treatment::of(&packet.offload(), &transport, ipv4::HEADER_LEN);
        Ok(Self {
            ip,
            transport,
            icmp,
            treatment,
        })
    }

    /// The ICMP error, if it is one.
    fn error(&self) -> Option<Icmpv4Error> {
        match self.icmp {
            Some(Icmpv4::Error(error)) => Some(error),
            _ => None,
        }
    }

    /// Maps the addresses, and refuses what may not be passed on.
    #[inline(always)]
    fn admit(&self, map: &AddressMap, pass: Pass) -> Result<Admission, Refusal<Icmpv4Error>> {
        let destination = map.to_v6(self.ip.destination());
        let source = pass.source(map, self.ip.source());
        // Whatever else is wrong.
        let is_silent = |unmapped| matches!(unmapped, Unmapped::Illegal | Unmapped::LinkLocal);
        if destination.is_err_and(is_silent)
            || (source.is_err_and(is_silent) && self.error().is_none())
        {
            return Err(self.illegal_address(map, source));
        }
        if self.ip.has_unexpired_source_route()? {
            let answer = SOURCE_ROUTE_FAILED;
            return Err(Refusal::answered(DropReason::SourceRoute, answer));
        }
        if !self.transport.has_possible_len() {
            return Err(DropReason::FragmentLength.into());
        }
        if let Ok(Mapped { via: Via::Own, .. }) = destination {
            return match self.icmp {
                Some(Icmpv4::EchoRequest) => Ok(Admission::AnswerEcho),
                Some(_) => Err(DropReason::OwnAddress.into()),
                None => Err(Refusal::answered(
                    DropReason::OwnAddress,
                    PROTOCOL_UNREACHABLE,
                )),
            };
        }
        if header::is_untranslatable(self.transport.protocol) {
            return Err(DropReason::Protocol.into());
        }
        let Some(hop_limit) = pass.hop_limit(self.ip.ttl()) else {
            return Err(Refusal::answered(DropReason::HopLimit, TTL_EXCEEDED));
        };
        let destination = destination.map_err(unmapped_destination)?.address;
        let source = match source {
            Ok(source) => source,
            // "The 'illegal' source address will be translated" in errors, for troubleshooting
            // (RFC 7915 section 4.1). Where even that is impossible, the error is still worth more
            // than its source.
            Err(_) if self.error().is_some() => map.error_source(self.ip.source()),
            Err(unmapped) => return Err(unmapped_source(unmapped)),
        };
        Ok(Admission::Forward {
            source,
            destination,
            hop_limit,
        })
    }

    /// Refuses a packet from or to an address that is not forwarded: silently, since an answer
    /// would go to a group or to nobody. At the edge it is a program that waits for one. Linux
    /// tells it at once that the host is unreachable, also by a UDP socket, which it does not for
    /// the code of an unreachable host (icmp_err_convert in net/ipv4/icmp.c).
    #[cold]
    fn illegal_address(
        &self,
        map: &AddressMap,
        source: Result<Ipv6Addr, Unmapped>,
    ) -> Refusal<Icmpv4Error> {
        let destination = self.ip.destination();
        let is_group = destination.is_multicast() || destination.is_broadcast();
        if map.is_at_edge() && source.is_ok() && !is_group {
            return Refusal::answered(DropReason::IllegalAddress, COMMUNICATION_PROHIBITED);
        }
        DropReason::IllegalAddress.into()
    }

    /// Decides on the checksum of a packet that is no ICMP error.
    #[inline(always)]
    fn checksum(
        &self,
        settings: &Settings,
        source: Ipv6Addr,
        destination: Ipv6Addr,
    ) -> Result<Checksum, DropReason> {
        let octets = self.transport.octets;
        if self.icmp.is_some() {
            let kind = icmp_types::echo_to_v6(octets[0]).ok_or(DropReason::IcmpType)?;
            return Ok(Checksum::Echo {
                kind,
                removed: Sum::default(),
                added: Sum::pseudo_v6(source, destination, protocol::ICMPV6, octets.len()),
            });
        }
        let removed = Sum::v4(self.ip.source()) + Sum::v4(self.ip.destination());
        let added = Sum::v6(source) + Sum::v6(destination);
        Checksum::of_transport(settings, &self.transport, self.treatment, removed, added)
    }

    /// Refuses a packet that is too big for the next hop, or says to what it is to be cut
    /// (RFC 7915 section 4).
    #[inline(always)]
    fn size(&self, settings: &Settings, header: &Ipv6Header) -> Result<Size, Refusal<Icmpv4Error>> {
        let len = ipv6::HEADER_LEN + self.treatment.upper_len(header.payload_len.into());
        if !self.ip.dont_fragment() {
            let mtu = settings.mtu.min(settings.offlink_mtu);
            return Ok(Size::of(len, mtu.into(), self.treatment));
        }
        if len <= settings.mtu.into() {
            return Ok(Size::Fits);
        }
        let growth = if self.transport.place.is_whole() {
            GROWTH
        } else {
            GROWTH + ipv6::FRAGMENT_LEN as u16
        };
        let mtu = settings.mtu - growth;
        let answer = Icmpv4Error::FragmentationNeeded { mtu };
        Err(Refusal::answered(DropReason::TooBig, answer))
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
        match quoted::four_to_six(settings, map, pass, self.error, message, self.outer) {
            Ok(message) => {
                packet.replace(message.bytes());
                Outcome::Forward
            }
            Err(reason) => Outcome::Drop(reason),
        }
    }
}
