//! What is to become of a packet, and why.

use std::fmt;

use super::{Fragments, Packet, Segments};
use crate::wire::Malformed;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// An IPv4 packet came in.
    FourToSix,
    /// An IPv6 packet came in.
    SixToFour,
}

impl Direction {
    /// By the version of the packet that came in.
    pub fn of(octets: &[u8]) -> Option<Self> {
        match octets.first()? >> 4 {
            4 => Some(Self::FourToSix),
            6 => Some(Self::SixToFour),
            _ => None,
        }
    }
}

/// What to do with a packet that was read from the TUN device.
#[derive(Debug)]
#[must_use]
pub enum Outcome<'p> {
    /// The packet now holds its translation: write it.
    Forward,
    /// It does not fit: write these, in order.
    Fragments(Fragments<'p>),
    /// It is a super-packet that cannot be translated in one: translate these, one by one.
    Segments(Segments<'p>),
    /// The packet now holds an ICMP message to its sender: write it.
    Reply(Reply),
    /// Write nothing, and count why. The packet is as it was, but for one that was hairpinned.
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

/// What a reply to the sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An echo reply from one of the translator's own addresses.
    Echo,
    /// An ICMP error: the packet was not passed on, for this reason.
    Error(DropReason),
}

/// Why a packet was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// It is not the packet it claims to be.
    Malformed(Malformed),
    /// A fragment that cannot be part of a datagram: not a multiple of 8 octets before the end, or
    /// past what IPv4 can put together.
    FragmentLength,
    /// Shorter than the header of its transport protocol.
    TransportTruncated,
    /// An ICMP error with a wrong checksum.
    IcmpChecksum,
    /// Source or destination is an address that a router may not forward: loopback, multicast, ...
    /// (RFC 7915 sections 4.1 and 5.1), or an IPv4 link-local one through the prefix (RFC 3927
    /// section 7).
    IllegalAddress,
    /// Nothing maps the destination.
    NoDestination,
    /// Nothing maps the source.
    NoSource,
    /// Nothing maps the source, and no address of the pool is left for it.
    PoolFull,
    /// A private IPv4 address in 64:ff9b::/96, while `wkpf-strict` is on (RFC 6052 section 3.1).
    WkpfStrict,
    /// The source claims, through the prefix, to be a host that has an explicit mapping (RFC 6052 section 5.1).
    SpoofedSource,
    /// TTL or hop limit is used up.
    HopLimit,
    /// An IPv4 source route with hops left (RFC 7915 section 4.1).
    SourceRoute,
    /// An IPv6 Routing header with segments left (RFC 7915 section 5.1).
    RoutingHeader,
    /// A protocol number that means something else in the other family, or nothing: IPv6 extension headers, the other's
    /// ICMP, IGMP.
    Protocol,
    /// An extension header behind a Fragment header (RFC 7915 section 5.1.1).
    HeaderAfterFragment,
    /// A fragment of an ICMP message: its checksum covers what is not here (RFC 7915 section 1.2).
    FragmentedIcmp,
    /// An ICMP message that has no counterpart (RFC 7915 sections 4.2, 5.2).
    IcmpType,
    /// An ICMP error that quotes what cannot be translated (RFC 7915 sections 4.3, 5.3).
    QuotedPacket,
    /// UDP without a checksum, and `udp-cksum-mode` forbids to pass it (RFC 7915 section 4.5).
    UdpChecksum,
    /// A first fragment of UDP without a checksum, which can be calculated of a whole packet alone
    /// (RFC 7915 section 4.5).
    UdpFragmentChecksum,
    /// Too big for the next hop, and not to be fragmented.
    TooBig,
    /// Addressed to the translator itself, where only echo requests are answered.
    OwnAddress,
    /// An echo request to the translator itself, while too many replies were sent.
    EchoLimit,
    /// To a host with an explicit mapping by way of the prefix, while `hairpin` is off (RFC 7757 section 4).
    Hairpin,
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
    ];
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(malformed) => return malformed.fmt(f),
            Self::FragmentLength => "impossible fragment length",
            Self::TransportTruncated => "transport header cut short",
            Self::IcmpChecksum => "wrong ICMP checksum",
            Self::IllegalAddress => {
                "multicast, loopback, link-local or another address that is not forwarded"
            }
            Self::NoDestination => "no mapping for the destination",
            Self::NoSource => "no mapping for the source",
            Self::PoolFull => "no address left in dynamic-pool for the source",
            Self::WkpfStrict => "private address in 64:ff9b::/96 (wkpf-strict)",
            Self::SpoofedSource => "source pretends to be an explicitly mapped host",
            Self::HopLimit => "TTL or hop limit expired",
            Self::SourceRoute => "source route with hops left",
            Self::RoutingHeader => "routing header with segments left",
            Self::Protocol => "protocol number has another meaning in the other family",
            Self::HeaderAfterFragment => "extension header behind a fragment header",
            Self::FragmentedIcmp => "fragment of an ICMP message",
            Self::IcmpType => "ICMP type without counterpart",
            Self::QuotedPacket => "ICMP error quotes an untranslatable packet",
            Self::UdpChecksum => "UDP without checksum (udp-cksum-mode)",
            Self::UdpFragmentChecksum => "first fragment of UDP without checksum",
            Self::TooBig => "too big for the MTU",
            Self::OwnAddress => "nothing but echo at the translator's own address",
            Self::EchoLimit => "too many echo requests to the translator's own address",
            Self::Hairpin => "explicitly mapped host addressed through the prefix (hairpin no)",
        })
    }
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// A packet that is not passed on, and the ICMP error that its sender may get.
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
}
