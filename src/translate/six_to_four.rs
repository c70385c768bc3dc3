//! IPv6 to IPv4: RFC 7915 section 5.

use std::time::Instant;

use super::{
    DropReason, Fragments, Outcome, Packet, Settings, Translator,
    checksum::Checksum,
    four_to_six,
    header::{self, PROHIBITED},
    icmp_types,
    offload::{Treatment, treatment},
    outcome::Refusal,
    quoted, reply,
};
use crate::{
    addr::{AddressMap, Mapped, Unmapped, Via, pool::PoolFull},
    wire::{
        FragmentPlace,
        checksum::Sum,
        icmp::{Icmpv6, Icmpv6Error},
        ipv4::{self, Ipv4Header},
        ipv6::{self, Ipv6Packet},
        protocol,
        virtio::Offload,
    },
};

/// "No route to destination" is what a missing mapping is (RFC 4443 section 3.1).
const NO_ROUTE: Icmpv6Error = Icmpv6Error::Unreachable { code: 0 };
/// "Source address failed ingress/egress policy", a more informative subset of code 1 (RFC 4443 section 3.1).
const SOURCE_PROHIBITED: Icmpv6Error = Icmpv6Error::Unreachable { code: 5 };
const HOP_LIMIT_EXCEEDED: Icmpv6Error = Icmpv6Error::TimeExceeded { code: 0 };

/// How much shorter the header gets, in octets.
const SHRINKAGE: u32 = 20;

/// Translates the IPv6 packet that `packet` holds.
pub(super) fn translate<'p>(
    translator: &mut Translator,
    packet: &'p mut Packet,
    now: Instant,
) -> Outcome<'p> {
    let decide = |translator: &Translator, packet: &mut Packet| {
        let Translator { settings, map, .. } = translator;
        let decision = decide(settings, map, packet.bytes(), &packet.offload());
        if let Ok(Decision::WorkFirst) = decision
            && packet.complete_checksum()
        {
            return decide(settings, map, packet.bytes(), &packet.offload());
        }
        decision
    };
    let mut decision = decide(translator, packet);
    if let Err(refusal) = &mut decision
        && refusal.reason == DropReason::NoSource
        && let Ok(refused) = Ipv6Packet::parse(packet.bytes())
        && let Some(lent) = translator.map.lend(refused.source())
    {
        translator.lent = Some((refused.source(), lent));
        match lent {
            Ok(_) => decision = decide(translator, packet),
            Err(PoolFull) => refusal.reason = DropReason::PoolFull,
        }
    }
    match decision {
        Ok(Decision::WorkFirst) => Outcome::segments(packet),
        Ok(Decision::Translate(translation)) => translation.apply(translator, packet),
        Ok(Decision::TranslateError(error)) => error.apply(translator, packet),
        Ok(Decision::AnswerEcho) => reply::echo_v6(translator, packet, now),
        Err(refusal) => reply::refuse_v6(translator, packet, refusal, now),
    }
}

enum Decision {
    Translate(Translation),
    TranslateError(ErrorTranslation),
    AnswerEcho,
    /// What the kernel has left to do must be done first.
    WorkFirst,
}

/// An ICMPv6 error to translate.
struct ErrorTranslation {
    error: Icmpv6Error,
    /// Where the ICMPv6 message is in the packet, in octets.
    message: std::ops::Range<usize>,
    outer: Ipv4Header,
    /// Whether the packet has no Fragment header to take an identification from.
    identify: bool,
    hairpin: bool,
}

/// Any other packet to translate.
struct Translation {
    /// Length of the IPv6 header with extension headers, which is replaced, in octets.
    header_len: usize,
    /// Length of the IPv6 packet, in octets.
    total_len: usize,
    header: Ipv4Header,
    checksum: Checksum,
    /// Whether the packet is not a fragment, may be fragmented, and so needs an identification.
    identify: bool,
    /// Size of the largest packet to send, in octets, if this one is larger.
    cut_to: Option<usize>,
    hairpin: bool,
}

fn decide(
    settings: &Settings,
    map: &AddressMap,
    octets: &[u8],
    offload: &Offload,
) -> Result<Decision, Refusal<Icmpv6Error>> {
    let packet = Ipv6Packet::parse(octets)?;
    let upper = packet.upper_layer()?;
    let place = upper
        .fragment
        .map_or(FragmentPlace::WHOLE, |fragment| fragment.place);
    let payload = &packet.payload()[upper.offset - ipv6::HEADER_LEN..];
    let icmp = match upper.protocol {
        protocol::ICMPV6 if !place.is_whole() => return Err(DropReason::FragmentedIcmp.into()),
        protocol::ICMPV6 => Some(Icmpv6::parse(payload)?),
        _ => None,
    };
    let error = match icmp {
        Some(Icmpv6::Error(error)) => Some(error),
        _ => None,
    };

    let transport_at = upper.offset;
    let bare = transport_at == ipv6::HEADER_LEN;
    let treatment = treatment(offload, upper.protocol, place, transport_at, bare, payload);
    if treatment == Treatment::WorkFirst {
        return Ok(Decision::WorkFirst);
    }

    let destination = map.to_v4(packet.destination());
    let source = map.to_v4(packet.source());
    // Silently, whatever else is wrong with it: an answer would go to a group, or to nobody.
    // An error from a link-local address of the prefix gets a source, as one from any router does.
    let is_silent = |unmapped| match unmapped {
        Unmapped::Illegal => true,
        Unmapped::LinkLocal => error.is_none(),
        Unmapped::NoMapping | Unmapped::WkpfStrict => false,
    };
    if matches!(destination, Err(Unmapped::Illegal | Unmapped::LinkLocal))
        || source.is_err_and(is_silent)
    {
        return Err(DropReason::IllegalAddress.into());
    }
    if let Some(at) = upper.segments_left_at {
        let answer = Icmpv6Error::ParameterProblem {
            code: 0,
            pointer: at as u32,
        };
        return Err(Refusal::answered(DropReason::RoutingHeader, answer));
    }
    let is_own = matches!(destination, Ok(Mapped { via: Via::Own, .. }));
    if !place.admits(payload.len()) {
        if !is_own {
            header::refuse_header_after_fragment(&upper)?; // told as of any other (RFC 7915 section 5.4)
        }
        return Err(DropReason::FragmentLength.into());
    }
    if is_own {
        let unrecognized = Icmpv6Error::ParameterProblem {
            code: 1,
            pointer: upper.named_at as u32,
        };
        return match icmp {
            Some(Icmpv6::EchoRequest) => Ok(Decision::AnswerEcho),
            Some(_) => Err(DropReason::OwnAddress.into()),
            None => Err(Refusal::answered(DropReason::OwnAddress, unrecognized)),
        };
    }
    header::refuse_untranslatable(&upper)?;
    if packet.hop_limit() <= 1 {
        return Err(Refusal::answered(DropReason::HopLimit, HOP_LIMIT_EXCEEDED));
    }
    let destination = destination.map_err(unmapped_destination)?;
    let source = match (source, error) {
        // Who has an explicit mapping uses its own IPv6 address (RFC 6052 section 5.1).
        (
            Ok(Mapped {
                address,
                via: Via::Prefix,
            }),
            _,
        ) if map.host_v6(address).is_some() => {
            return Err(DropReason::SpoofedSource.into());
        }
        (Ok(source), _) => source.address,
        // Routers on the path have no mapping, and what they say is needed (RFC 6791).
        (Err(_), Some(_)) => settings.icmp_source.unwrap_or(map.own_v4()),
        (Err(unmapped), None) => return Err(unmapped_source(unmapped)),
    };
    let hairpin = destination.via == Via::Prefix && map.host_v6(destination.address).is_some();
    let destination = destination.address;
    if hairpin && !settings.hairpin {
        return Err(DropReason::Hairpin.into());
    }

    let mtu = usize::from(settings.mtu);
    let too_big = |mtu: usize| {
        let answer = Icmpv6Error::PacketTooBig { mtu: mtu as u32 };
        Refusal::answered(DropReason::TooBig, answer)
    };
    let too_big_for_v4 = || too_big((mtu + SHRINKAGE as usize).max(usize::from(ipv6::MIN_MTU)));
    let header = header::to_v4(settings, &packet, &upper, source, destination);
    let header = match (header, treatment) {
        (Some(header), _) => header,
        (None, Treatment::Whole { .. }) => return Ok(Decision::WorkFirst),
        (None, _) => return Err(too_big_for_v4()),
    };
    // What counts of a super-packet is the size of its segments.
    let upper_len = match treatment {
        Treatment::Whole { upper_len } => upper_len,
        _ => usize::from(header.total_len) - ipv4::HEADER_LEN,
    };
    let size = ipv4::HEADER_LEN + upper_len;
    let header = Ipv4Header {
        ttl: header.ttl - 1,
        dont_fragment: header::has_df(&upper, size),
        ..header
    };
    let message = upper.offset..ipv6::HEADER_LEN + packet.payload().len();
    let pseudo = Sum::pseudo_v6(
        packet.source(),
        packet.destination(),
        protocol::ICMPV6,
        payload.len(),
    );
    if let Some(error) = error {
        if !(Sum::of(payload) + pseudo).verifies() {
            return Err(DropReason::IcmpChecksum.into());
        }
        return Ok(Decision::TranslateError(ErrorTranslation {
            error,
            message,
            outer: Ipv4Header {
                dont_fragment: false, // what comes of it has at most 576 octets
                ..header
            },
            identify: upper.fragment.is_none(),
            hairpin,
        }));
    }

    let checksum = if icmp.is_some() {
        let kind = icmp_types::echo_to_v4(payload[0]).ok_or(DropReason::IcmpType)?;
        Checksum::Echo {
            kind,
            removed: pseudo,
            added: Sum::default(),
        }
    } else {
        let removed = Sum::v6(packet.source()) + Sum::v6(packet.destination());
        let added = Sum::v4(source) + Sum::v4(destination);
        let protocol = upper.protocol;
        Checksum::of_transport(
            settings, place, treatment, protocol, payload, removed, added,
        )?
    };
    let limit = if hairpin {
        // Sizes are for the second pass, which can tell nobody: the packet has the same size there as here, or less.
        if message.start + upper_len > mtu {
            return Err(too_big(mtu));
        }
        // Its peer is to know it by the prefix, which `wkpf-strict` may forbid.
        map.embed(source).map_err(unmapped_source)?;
        usize::MAX
    } else if header.dont_fragment && size > mtu {
        return Err(too_big_for_v4());
    } else {
        mtu
    };
    let too_long = size > limit;
    if too_long && treatment != Treatment::Plain {
        return Ok(Decision::WorkFirst);
    }
    Ok(Decision::Translate(Translation {
        header_len: message.start,
        total_len: message.end,
        header,
        checksum,
        identify: upper.fragment.is_none() && !header.dont_fragment,
        cut_to: too_long.then_some(limit),
        hairpin,
    }))
}

fn unmapped_destination(unmapped: Unmapped) -> Refusal<Icmpv6Error> {
    match unmapped {
        Unmapped::WkpfStrict => Refusal::answered(DropReason::WkpfStrict, PROHIBITED),
        Unmapped::NoMapping => Refusal::answered(DropReason::NoDestination, NO_ROUTE),
        Unmapped::Illegal | Unmapped::LinkLocal => DropReason::IllegalAddress.into(),
    }
}

fn unmapped_source(unmapped: Unmapped) -> Refusal<Icmpv6Error> {
    match unmapped {
        Unmapped::WkpfStrict => Refusal::answered(DropReason::WkpfStrict, SOURCE_PROHIBITED),
        Unmapped::NoMapping => Refusal::answered(DropReason::NoSource, SOURCE_PROHIBITED),
        Unmapped::Illegal | Unmapped::LinkLocal => DropReason::IllegalAddress.into(),
    }
}

impl Translation {
    fn apply<'p>(self, translator: &mut Translator, packet: &'p mut Packet) -> Outcome<'p> {
        packet.truncate(self.total_len);
        self.checksum.apply(packet.tail_mut(self.header_len));
        let mut header = self.header;
        if self.identify {
            header.identification = translator.identification.next();
        }
        if let Some(mtu) = self.cut_to {
            let fragments = Fragments::v4(packet, self.header_len, header, mtu);
            return Outcome::Fragments(fragments);
        }
        packet.replace_front(self.header_len, &header.octets());
        if self.hairpin {
            return four_to_six::hairpin(translator, packet);
        }
        Outcome::Forward
    }
}

impl ErrorTranslation {
    fn apply<'p>(self, translator: &mut Translator, packet: &'p mut Packet) -> Outcome<'p> {
        let mut outer = self.outer;
        if self.identify {
            outer.identification = translator.identification.next();
        }
        let Translator { settings, map, .. } = translator;
        let message = &packet.bytes()[self.message];
        match quoted::six_to_four(settings, map, self.error, message, outer) {
            Ok(message) => packet.replace(message.bytes()),
            Err(reason) => return Outcome::Drop(reason),
        }
        if self.hairpin {
            return four_to_six::hairpin(translator, packet);
        }
        Outcome::Forward
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::{addr::Nat64Prefix, wire::ipv4::Ipv4Packet, wire::ipv6::Ipv6Header};

    /// X64-03, X64-04: an error that was long is short after translation; it may be fragmented, so it is identified.
    #[test]
    fn errors_have_an_identification_and_may_be_fragmented() {
        let prefix = Nat64Prefix::new("2001:db8:64::/96".parse().unwrap()).unwrap();
        let map = AddressMap::new(
            [192, 0, 2, 1].into(),
            "2001:db8::1".parse().unwrap(),
            Some(prefix),
            true,
        );
        let [near, far] = [2, 3].map(|host| prefix.embed([192, 0, 2, host].into()));
        let header = |next_header, payload_len: usize| Ipv6Header {
            traffic_class: 0,
            payload_len: payload_len as u16,
            next_header,
            hop_limit: 64,
            source: far,
            destination: near,
        };
        for len in [8, 1300] {
            let quoted = Ipv6Header {
                source: near,
                destination: far,
                ..header(protocol::UDP, len)
            };
            let mut message = [&[1, 4, 0, 0, 0, 0, 0, 0][..], &quoted.octets()].concat();
            message.resize(message.len() + len, 0xa5);
            let pseudo = Sum::pseudo_v6(far, near, protocol::ICMPV6, message.len());
            crate::wire::icmp::put_checksum(&mut message, pseudo);
            let header = header(protocol::ICMPV6, message.len()).octets();
            let octets = [&header[..], &message].concat();

            let now = Instant::now();
            let mut translator = Translator::new(Settings::default(), map.clone(), 1);
            let mut packet = Packet::new();
            packet.replace(&octets);
            assert!(matches!(
                translator.translate(&mut packet, now),
                Outcome::Forward
            ));
            let error = Ipv4Packet::parse(packet.bytes()).unwrap();
            assert!(!error.dont_fragment(), "{len} octets quoted");
            assert_ne!(error.identification(), 0, "{len} octets quoted");
        }
    }
}
