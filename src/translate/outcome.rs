//! The outcome of a translation, and the reasons why packets are dropped.

use std::fmt;

use super::{Fragments, Packet, Segments};
use crate::wire::Malformed;

/// The direction of a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// IPv4 to IPv6.
    FourToSix,
    /// IPv6 to IPv4.
    SixToFour,
}

impl Direction {
    /// The direction of a received packet, by its version.
    pub fn of(octets: &[u8]) -> Option<Self> {
        match octets.first()? >> 4 {
            4 => Some(Self::FourToSix),
            6 => Some(Self::SixToFour),
            _ => None,
        }
    }

    /// A word for programs, as in labels of metrics.
    pub fn key(self) -> &'static str {
        match self {
            Self::FourToSix => "4to6",
            Self::SixToFour => "6to4",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FourToSix => "IPv4 to IPv6",
            Self::SixToFour => "IPv6 to IPv4",
        })
    }
}

/// The action for a packet that was read from the TUN device.
#[derive(Debug)]
#[must_use]
pub enum Outcome<'p> {
    /// The packet now holds its translation: write it.
    Forward,
    /// The translation does not fit: write these fragments, in order.
    Fragments(Fragments<'p>),
    /// A super-packet cannot be translated as one: translate these segments, one by one.
    Segments(Segments<'p>),
    /// The packet now holds an ICMP message to its sender: write it.
    Reply(Reply),
    /// It is about an address of the pool that has no lease here: give it to the translator that
    /// lends them, as it is. Only of one that [borrows](super::Translator::set_borrower).
    HandOver,
    /// Write nothing, and count the reason. The packet is unchanged, unless it was hairpinned or
    /// its offloaded checksum was completed.
    Drop(DropReason),
}

impl<'p> Outcome<'p> {
    /// The segments of a super-packet.
    pub(super) fn segments(packet: &'p Packet) -> Self {
        match Segments::of(packet) {
            Some(segments) => Self::Segments(segments),
            None => Self::Drop(DropReason::Malformed(Malformed::Offload)),
        }
    }
}

impl From<Result<Reply, DropReason>> for Outcome<'_> {
    fn from(result: Result<Reply, DropReason>) -> Self {
        match result {
            Ok(reply) => Self::Reply(reply),
            Err(reason) => Self::Drop(reason),
        }
    }
}

/// The kind of a reply to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An echo reply from one of the translator's own addresses.
    Echo,
    /// An ICMP error: the packet was dropped, for this reason.
    Error(DropReason),
}

/// The reason why a packet was dropped. [`rule`](Self::rule) says where it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The packet is malformed.
    Malformed(Malformed),
    /// A fragment that cannot be part of a datagram: its length is no multiple of 8 octets though
    /// more follow, or it ends past 65535 octets.
    FragmentLength,
    /// Shorter than the header of its transport protocol.
    TransportTruncated,
    /// An ICMP error with a wrong checksum.
    IcmpChecksum,
    /// Source or destination is an address that routers do not forward: loopback, multicast, ...
    /// (RFC 7915 sections 4.1 and 5.1), or an IPv4 link-local one in the prefix (RFC 3927
    /// section 7).
    IllegalAddress,
    /// The destination has no mapping.
    NoDestination,
    /// The source has no mapping.
    NoSource,
    /// The source has no mapping, and the pool has no address left for it.
    PoolFull,
    /// A private IPv4 address in 64:ff9b::/96, while `wkpf-strict` is on (RFC 6052 section 3.1).
    WkpfStrict,
    /// The source is an address in the prefix that stands for a host with an explicit mapping,
    /// which uses another one (RFC 6052 section 5.1).
    SpoofedSource,
    /// TTL or hop limit expired.
    HopLimit,
    /// An unexpired IPv4 source route (RFC 7915 section 4.1).
    SourceRoute,
    /// An IPv6 Routing header with segments left (RFC 7915 section 5.1).
    RoutingHeader,
    /// A protocol number that has another meaning in the other family, or none: IPv6 extension
    /// headers, the ICMP of the other family, IGMP.
    Protocol,
    /// An extension header behind a Fragment header (RFC 7915 section 5.1.1).
    HeaderAfterFragment,
    /// A fragment of an ICMP message: its checksum covers octets of other fragments (RFC 7915
    /// section 1.2).
    FragmentedIcmp,
    /// An ICMP message that has no translation (RFC 7915 sections 4.2 and 5.2).
    IcmpType,
    /// An ICMP error that quotes an untranslatable packet (RFC 7915 sections 4.3 and 5.3).
    QuotedPacket,
    /// UDP without a checksum, which `udp-cksum-mode` drops (RFC 7915 section 4.5).
    UdpChecksum,
    /// A first fragment of UDP without a checksum: only that of a whole packet can be calculated
    /// (RFC 7915 section 4.5).
    UdpFragmentChecksum,
    /// Too big for the next hop, and fragmentation is not allowed.
    TooBig,
    /// Addressed to the translator itself, where only echo requests are answered.
    OwnAddress,
    /// An echo request to the translator itself, over the rate limit.
    EchoLimit,
    /// Addressed, by the prefix, to a host with an explicit mapping, while `hairpin` is off (RFC
    /// 7757 section 4).
    Hairpin,
    /// The next hop does not answer Neighbour Solicitations (RFC 4861 section 7.2.2).
    NextHop,
}

impl DropReason {
    /// Every reason, in the order in which counters are printed.
    pub const ALL: &[Self] = &[
        Self::Malformed(Malformed::Truncated),
        Self::Malformed(Malformed::Version),
        Self::Malformed(Malformed::Length),
        Self::Malformed(Malformed::HeaderChecksum),
        Self::Malformed(Malformed::Options),
        Self::Malformed(Malformed::ExtensionHeaders),
        Self::Malformed(Malformed::Offload),
        Self::FragmentLength,
        Self::TransportTruncated,
        Self::IcmpChecksum,
        Self::IllegalAddress,
        Self::NoDestination,
        Self::NoSource,
        Self::PoolFull,
        Self::WkpfStrict,
        Self::SpoofedSource,
        Self::HopLimit,
        Self::SourceRoute,
        Self::RoutingHeader,
        Self::Protocol,
        Self::HeaderAfterFragment,
        Self::FragmentedIcmp,
        Self::IcmpType,
        Self::QuotedPacket,
        Self::UdpChecksum,
        Self::UdpFragmentChecksum,
        Self::TooBig,
        Self::OwnAddress,
        Self::EchoLimit,
        Self::Hairpin,
        Self::NextHop,
    ];

    /// A word for programs, as in labels of metrics. It stays the same when the text is reworded.
    pub fn key(self) -> &'static str {
        match self {
            Self::Malformed(Malformed::Truncated) => "truncated",
            Self::Malformed(Malformed::Version) => "version",
            Self::Malformed(Malformed::Length) => "header_length",
            Self::Malformed(Malformed::HeaderChecksum) => "header_checksum",
            Self::Malformed(Malformed::Options) => "options",
            Self::Malformed(Malformed::ExtensionHeaders) => "extension_headers",
            Self::Malformed(Malformed::Offload) => "offload",
            Self::FragmentLength => "fragment_length",
            Self::TransportTruncated => "transport_truncated",
            Self::IcmpChecksum => "icmp_checksum",
            Self::IllegalAddress => "illegal_address",
            Self::NoDestination => "no_destination",
            Self::NoSource => "no_source",
            Self::PoolFull => "pool_full",
            Self::WkpfStrict => "wkpf_strict",
            Self::SpoofedSource => "spoofed_source",
            Self::HopLimit => "hop_limit",
            Self::SourceRoute => "source_route",
            Self::RoutingHeader => "routing_header",
            Self::Protocol => "protocol",
            Self::HeaderAfterFragment => "header_after_fragment",
            Self::FragmentedIcmp => "fragmented_icmp",
            Self::IcmpType => "icmp_type",
            Self::QuotedPacket => "quoted_packet",
            Self::UdpChecksum => "udp_checksum",
            Self::UdpFragmentChecksum => "udp_fragment_checksum",
            Self::TooBig => "too_big",
            Self::OwnAddress => "own_address",
            Self::EchoLimit => "echo_limit",
            Self::Hairpin => "hairpin",
            Self::NextHop => "next_hop",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(malformed) => return malformed.fmt(f),
            Self::FragmentLength => "invalid fragment length",
            Self::TransportTruncated => "truncated transport header",
            Self::IcmpChecksum => "wrong ICMP checksum",
            Self::IllegalAddress => {
                "multicast, loopback, link-local or another address that is not forwarded"
            }
            Self::NoDestination => "no mapping for the destination",
            Self::NoSource => "no mapping for the source",
            Self::PoolFull => "no address left in dynamic-pool for the source",
            Self::WkpfStrict => "private address in 64:ff9b::/96 (wkpf-strict)",
            Self::SpoofedSource => "spoofed source: its host has an explicit mapping",
            Self::HopLimit => "TTL or hop limit expired",
            Self::SourceRoute => "unexpired source route",
            Self::RoutingHeader => "Routing header with segments left",
            Self::Protocol => "protocol that cannot be translated",
            Self::HeaderAfterFragment => "extension header after a Fragment header",
            Self::FragmentedIcmp => "fragment of an ICMP message",
            Self::IcmpType => "ICMP type that cannot be translated",
            Self::QuotedPacket => "ICMP error quotes an untranslatable packet",
            Self::UdpChecksum => "UDP without checksum (udp-cksum-mode)",
            Self::UdpFragmentChecksum => "first fragment of UDP without checksum",
            Self::TooBig => "packet bigger than the MTU",
            Self::OwnAddress => "only echo requests are answered at the translator's own address",
            Self::EchoLimit => "echo requests to the translator's own address over the rate limit",
            Self::Hairpin => "explicitly mapped host addressed by the prefix (hairpin no)",
            Self::NextHop => "next hop does not answer",
        })
    }
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// A refused packet: the reason, and the ICMP error that its sender may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal<E> {
    pub(super) reason: DropReason,
    pub(super) answer: Option<E>,
}

impl<E> Refusal<E> {
    pub(super) fn answered(reason: DropReason, answer: E) -> Self {
        Self {
            reason,
            answer: Some(answer),
        }
    }
}

impl<E, R: Into<DropReason>> From<R> for Refusal<E> {
    fn from(reason: R) -> Self {
        Self {
            reason: reason.into(),
            answer: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_text_of_its_own() {
        let mut texts: Vec<_> = DropReason::ALL.iter().map(ToString::to_string).collect();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), DropReason::ALL.len());
    }

    #[test]
    fn every_reason_has_a_key_of_its_own() {
        let mut keys: Vec<_> = DropReason::ALL.iter().map(|reason| reason.key()).collect();
        let is_snake_case = |key: &&str| key.bytes().all(|b| b == b'_' || b.is_ascii_lowercase());
        assert!(keys.iter().all(is_snake_case), "{keys:?}");
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), DropReason::ALL.len());
    }
}
