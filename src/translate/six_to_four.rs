//! IPv6 to IPv4: RFC 7915 section 5.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
    time::Instant,
};

use super::{
    DropReason, Fragments, Outcome, Packet, Settings, Translator,
    checksum::Checksum,
    four_to_six,
    fragment::Size,
    header::{self, PROHIBITED},
    icmp_types,
    offload::{Transport, Treatment},
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
        ipv6::{self, Ipv6Packet, UpperLayer},
        protocol,
    },
};

/// "No route to destination": answer to a packet whose destination has no mapping (RFC 4443
/// section 3.1).
const NO_ROUTE: Icmpv6Error = Icmpv6Error::Unreachable { code: 0 };
/// "Source address failed ingress/egress policy", a more informative subset of code 1 (RFC 4443
/// section 3.1).
const SOURCE_PROHIBITED: Icmpv6Error = Icmpv6Error::Unreachable { code: 5 };
const HOP_LIMIT_EXCEEDED: Icmpv6Error = Icmpv6Error::TimeExceeded { code: 0 };

/// Difference between the headers of IPv6 and IPv4, in octets.
const SHRINKAGE: usize = 20;

/// Translates the IPv6 packet that `packet` holds.
pub(super) fn translate<'p>(
    translator: &mut Translator,
    packet: &'p mut Packet,
    now: Instant,
) -> Outcome<'p> {
    let mut decision = decide_in_software(translator, packet);
    if let Err(refusal) = &mut decision
        && refusal.reason == DropReason::NoSource
        && let Ok(refused) = Ipv6Packet::parse(packet.bytes())
    {
        if translator.borrows_for(refused.source()) {
            return Outcome::HandOver;
        }
        match translator.lend(refused.source()) {
            Some(Ok(_)) => decision = decide_in_software(translator, packet),
            Some(Err(PoolFull)) => refusal.reason = DropReason::PoolFull,
            None => {}
        }
    }
    let next = match decision {
        Ok(Decision::NeedsSoftware) => return Outcome::segments(packet),
        Ok(Decision::AnswerEcho) => return reply::echo_v6(translator, packet, now).into(),
        Ok(Decision::Fragment { translation, mtu }) => {
            let header = translation.prepare(translator, packet);
            let fragments = Fragments::v4(packet, translation.header_len, header, mtu);
            return Outcome::Fragments(fragments);
        }
        Ok(Decision::Translate(translation)) => {
            let header = translation.prepare(translator, packet);
            packet.replace_front(translation.header_len, &header.octets());
            translation.next
        }
        Ok(Decision::TranslateError(error)) => match error.apply(translator, packet) {
            Ok(next) => next,
            Err(reason) => return Outcome::Drop(reason),
        },
        Err(refusal) => return reply::refuse_v6(translator, packet, refusal, now),
    };
    match next {
        Next::Send => Outcome::Forward,
        Next::Hairpin => four_to_six::hairpin(translator, packet),
    }
}

/// Where a packet goes that has been translated to IPv4.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// To the device.
    Send,
    /// Back to IPv6: its destination is an IPv6 host with an explicit mapping.
    Hairpin,
}

enum Decision {
    Translate(Translation),
    /// The translation is cut into fragments of at most `mtu` octets.
    Fragment {
        translation: Translation,
        mtu: usize,
    },
    TranslateError(ErrorTranslation),
    AnswerEcho,
    /// The offloaded work must be done in software first.
    NeedsSoftware,
}

/// An ICMPv6 error to translate.
struct ErrorTranslation {
    error: Icmpv6Error,
    /// Place of the ICMPv6 message in the packet, in octets.
    message: Range<usize>,
    outer: Ipv4Header,
    /// The source, which the translation is to name since its IP header does not.
    node: Option<Ipv6Addr>,
    /// Whether the packet has no Fragment header to take an identification from.
    identify: bool,
    next: Next,
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
    next: Next,
}

/// Decides on a packet. An offloaded checksum is completed first where the translation needs it.
fn decide_in_software(
    translator: &Translator,
    packet: &mut Packet,
) -> Result<Decision, Refusal<Icmpv6Error>> {
    let decision = decide(translator, packet);
    if let Ok(Decision::NeedsSoftware) = decision
        && packet.complete_checksum()
    {
        return decide(translator, packet);
    }
    decision
}

/// Decides what becomes of a packet, without changing it.
fn decide(translator: &Translator, packet: &Packet) -> Result<Decision, Refusal<Icmpv6Error>> {
    let Translator { settings, map, .. } = translator;
    let received = Received::read(packet)?;
    if received.treatment == Treatment::NeedsSoftware {
        return Ok(Decision::NeedsSoftware);
    }
    let Admission::Forward {
        next,
        source,
        destination,
    } = received.admit(settings, map)?
    else {
        return Ok(Decision::AnswerEcho);
    };
    let Received { ip, upper, .. } = &received;
    let header = match header::to_v4(settings, ip, upper, source, destination) {
        Some(header) => header,
        None if matches!(received.treatment, Treatment::Gso { .. }) => {
            return Ok(Decision::NeedsSoftware);
        }
        None => return Err(too_big_for_v4(settings.mtu.into())),
    };
    let len = ipv4::HEADER_LEN + received.upper_len(&header);
    let header = Ipv4Header {
        ttl: header.ttl - 1,
        dont_fragment: header::has_df(upper, len),
        ..header
    };
    let message = upper.offset..ipv6::HEADER_LEN + ip.payload().len();
    if let Some(error) = received.error() {
        if !(Sum::of(received.transport.octets) + received.pseudo_header()).verifies() {
            return Err(DropReason::IcmpChecksum.into());
        }
        return Ok(Decision::TranslateError(ErrorTranslation {
            error,
            message,
            outer: Ipv4Header {
                dont_fragment: false, // its translation has at most 576 octets
                ..header
            },
            node: received.node_to_name(settings, map, next),
            identify: upper.fragment.is_none(),
            next,
        }));
    }
    let translation = Translation {
        header_len: message.start,
        total_len: message.end,
        header,
        checksum: received.checksum(settings, source, destination)?,
        identify: upper.fragment.is_none() && !header.dont_fragment,
        next,
    };
    Ok(match received.size(settings, map, &header, next)? {
        Size::Fits => Decision::Translate(translation),
        Size::Cut { mtu } => Decision::Fragment { translation, mtu },
        Size::NeedsSoftware => Decision::NeedsSoftware,
    })
}

/// A packet as it was received.
struct Received<'a> {
    ip: Ipv6Packet<'a>,
    upper: UpperLayer,
    transport: Transport<'a>,
    icmp: Option<Icmpv6>,
    treatment: Treatment,
}

/// The answer to whether a packet may be passed on.
enum Admission {
    Forward {
        source: Ipv4Addr,
        destination: Ipv4Addr,
        next: Next,
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
        let ip = Ipv6Packet::parse(packet.bytes())?;
        let upper = ip.upper_layer()?;
        let place = upper.fragment.map(|fragment| fragment.place);
        let transport = Transport {
            protocol: upper.protocol,
            place: place.unwrap_or(FragmentPlace::WHOLE),
            at: upper.offset,
            octets: &ip.payload()[upper.offset - ipv6::HEADER_LEN..],
        };
        let icmp = match transport.protocol {
            protocol::ICMPV6 if !transport.place.is_whole() => {
                return Err(DropReason::FragmentedIcmp);
            }
            protocol::ICMPV6 => Some(Icmpv6::parse(transport.octets)?),
            _ => None,
        };
        let treatment = Treatment::of(&packet.offload(), &transport, ipv6::HEADER_LEN);
        Ok(Self {
            ip,
            upper,
            transport,
            icmp,
            treatment,
        })
    }

    /// The ICMPv6 error, if it is one.
    fn error(&self) -> Option<Icmpv6Error> {
        match self.icmp {
            Some(Icmpv6::Error(error)) => Some(error),
            _ => None,
        }
    }

    /// The source of an error, if its translation is to name it: the IPv4 source cannot. An error
    /// that is hairpinned arrives as ICMPv6, and quotes to the octet what its receiver has sent.
    fn node_to_name(&self, settings: &Settings, map: &AddressMap, next: Next) -> Option<Ipv6Addr> {
        let source = self.ip.source();
        let is_named = settings.icmp_node_id && next == Next::Send && map.to_v4(source).is_err();
        is_named.then_some(source)
    }

    /// Maps the addresses, and refuses what may not be passed on.
    #[inline(always)]
    fn admit(
        &self,
        settings: &Settings,
        map: &AddressMap,
    ) -> Result<Admission, Refusal<Icmpv6Error>> {
        let destination = map.to_v4(self.ip.destination());
        let source = map.to_v4(self.ip.source());
        // Silently, whatever else is wrong: an answer would go to a group, or to nobody. An error
        // from a link-local address of the prefix gets a source, as one from any router does.
        let is_silent = |unmapped| match unmapped {
            Unmapped::Illegal => true,
            Unmapped::LinkLocal => self.error().is_none(),
            Unmapped::NoMapping | Unmapped::WkpfStrict => false,
        };
        if matches!(destination, Err(Unmapped::Illegal | Unmapped::LinkLocal))
            || source.is_err_and(is_silent)
        {
            return Err(DropReason::IllegalAddress.into());
        }
        if let Some(at) = self.upper.segments_left_at {
            let answer = parameter_problem(0, at);
            return Err(Refusal::answered(DropReason::RoutingHeader, answer));
        }
        let is_own = matches!(destination, Ok(Mapped { via: Via::Own, .. }));
        if !self.transport.has_possible_len() {
            if !is_own {
                // Answered as that of any other fragment is (RFC 7915 section 5.4).
                header::refuse_header_after_fragment(&self.upper)?;
            }
            return Err(DropReason::FragmentLength.into());
        }
        if is_own {
            return self.admit_to_own_address();
        }
        header::refuse_untranslatable(&self.upper)?;
        if self.ip.hop_limit() <= 1 {
            return Err(Refusal::answered(DropReason::HopLimit, HOP_LIMIT_EXCEEDED));
        }
        let destination = destination.map_err(unmapped_destination)?;
        let source = self.source(settings, map, source)?;
        let next = if is_explicit_host_by_prefix(map, destination) {
            Next::Hairpin
        } else {
            Next::Send
        };
        if next == Next::Hairpin && !settings.hairpin {
            return Err(DropReason::Hairpin.into());
        }
        Ok(Admission::Forward {
            source,
            destination: destination.address,
            next,
        })
    }

    /// Only echo requests are answered at the translator's own address.
    fn admit_to_own_address(&self) -> Result<Admission, Refusal<Icmpv6Error>> {
        match self.icmp {
            Some(Icmpv6::EchoRequest) => Ok(Admission::AnswerEcho),
            Some(_) => Err(DropReason::OwnAddress.into()),
            None => {
                let unrecognized = parameter_problem(1, self.upper.next_header_at);
                Err(Refusal::answered(DropReason::OwnAddress, unrecognized))
            }
        }
    }

    /// The IPv4 source.
    #[inline(always)]
    fn source(
        &self,
        settings: &Settings,
        map: &AddressMap,
        source: Result<Mapped<Ipv4Addr>, Unmapped>,
    ) -> Result<Ipv4Addr, Refusal<Icmpv6Error>> {
        match source {
            // A host with an explicit mapping uses its own IPv6 address (RFC 6052 section 5.1).
            Ok(mapped) if is_explicit_host_by_prefix(map, mapped) => {
                Err(DropReason::SpoofedSource.into())
            }
            Ok(mapped) => Ok(mapped.address),
            // Routers on the path have no mapping, and their errors are needed (RFC 6791).
            Err(_) if self.error().is_some() => Ok(settings.icmp_source.unwrap_or(map.own_v4())),
            Err(unmapped) => Err(unmapped_source(unmapped)),
        }
    }

    /// Length of the longest packet behind its IPv4 header, in octets: of a super-packet, that of
    /// a segment.
    fn upper_len(&self, header: &Ipv4Header) -> usize {
        self.treatment
            .upper_len(usize::from(header.total_len) - ipv4::HEADER_LEN)
    }

    /// The pseudo-header of an ICMPv6 message.
    fn pseudo_header(&self) -> Sum {
        let (source, destination) = (self.ip.source(), self.ip.destination());
        let len = self.transport.octets.len();
        Sum::pseudo_v6(source, destination, protocol::ICMPV6, len)
    }

    /// Decides on the checksum of a packet that is no ICMPv6 error.
    #[inline(always)]
    fn checksum(
        &self,
        settings: &Settings,
        source: Ipv4Addr,
        destination: Ipv4Addr,
    ) -> Result<Checksum, DropReason> {
        if self.icmp.is_some() {
            let kind = icmp_types::echo_to_v4(self.transport.octets[0]);
            return Ok(Checksum::Echo {
                kind: kind.ok_or(DropReason::IcmpType)?,
                removed: self.pseudo_header(),
                added: Sum::default(),
            });
        }
        let removed = Sum::v6(self.ip.source()) + Sum::v6(self.ip.destination());
        let added = Sum::v4(source) + Sum::v4(destination);
        Checksum::of_transport(settings, &self.transport, self.treatment, removed, added)
    }

    /// Refuses a packet that is too big for the next hop and whose translation has DF
    /// ([`header::has_df`]), or says to what it is to be cut (RFC 7915 section 5).
    #[inline(always)]
    fn size(
        &self,
        settings: &Settings,
        map: &AddressMap,
        header: &Ipv4Header,
        next: Next,
    ) -> Result<Size, Refusal<Icmpv6Error>> {
        let mtu = usize::from(settings.mtu);
        let upper_len = self.upper_len(header);
        if next == Next::Hairpin {
            // The second pass cannot answer the sender. There the packet has the same size as
            // here, or less.
            if self.transport.at + upper_len > mtu {
                return Err(too_big(mtu));
            }
            // The peer is to know the source by the prefix, which `wkpf-strict` may forbid.
            map.embed(header.source).map_err(unmapped_source)?;
            return Ok(Size::Fits);
        }
        let len = ipv4::HEADER_LEN + upper_len;
        if header.dont_fragment && len > mtu {
            return Err(too_big_for_v4(mtu));
        }
        Ok(Size::of(len, mtu, self.treatment))
    }
}

/// Whether an address of the prefix stands for an IPv6 host that has an explicit mapping.
fn is_explicit_host_by_prefix(map: &AddressMap, mapped: Mapped<Ipv4Addr>) -> bool {
    mapped.via == Via::Prefix && map.host_v6(mapped.address).is_some()
}

/// A Parameter Problem about the octet at `pointer`.
fn parameter_problem(code: u8, pointer: usize) -> Icmpv6Error {
    Icmpv6Error::ParameterProblem {
        code,
        pointer: pointer as u32, // within a packet
    }
}

fn too_big(mtu: usize) -> Refusal<Icmpv6Error> {
    let answer = Icmpv6Error::PacketTooBig { mtu: mtu as u32 };
    Refusal::answered(DropReason::TooBig, answer)
}

/// The translation does not fit the MTU of the next IPv4 hop.
fn too_big_for_v4(mtu: usize) -> Refusal<Icmpv6Error> {
    too_big((mtu + SHRINKAGE).max(ipv6::MIN_MTU.into()))
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
    /// Cuts off link padding, changes the checksum, and returns the header that is due.
    fn prepare(&self, translator: &mut Translator, packet: &mut Packet) -> Ipv4Header {
        packet.truncate(self.total_len);
        self.checksum.apply(packet.tail_mut(self.header_len));
        let mut header = self.header;
        if self.identify {
            header.identification = translator.identification.next();
        }
        header
    }
}

impl ErrorTranslation {
    fn apply(self, translator: &mut Translator, packet: &mut Packet) -> Result<Next, DropReason> {
        let mut outer = self.outer;
        if self.identify {
            outer.identification = translator.identification.next();
        }
        let Translator { settings, map, .. } = translator;
        let message = &packet.bytes()[self.message];
        let message = quoted::six_to_four(settings, map, self.error, self.node, message, outer)?;
        packet.replace(message.bytes());
        Ok(self.next)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::{addr::Nat64Prefix, wire::ipv4::Ipv4Packet, wire::ipv6::Ipv6Header};

    /// RFC 7915 section 5.1: the translation of an error has at most 576 octets, however long the
    /// error was, so DF is clear and it has an identification.
    #[test]
    fn a_translated_error_is_identified_and_has_no_df() {
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
