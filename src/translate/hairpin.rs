//! Intrinsic hairpinning (RFC 7757 section 4.2.2).
//!
//! A packet from IPv6 to an IPv4 address with an explicit mapping is translated to IPv4, and in a
//! second pass back to IPv6. Its peers know each other by the prefix, so that answers come back
//! this way.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::{AddressMap, Unmapped};

/// A pass of the translation from IPv4 to IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// The packet came from the device.
    First,
    /// The packet was an IPv6 packet before. Its hop has been counted, and all that its sender may
    /// have to be told has been checked.
    Hairpin,
}

impl Pass {
    /// The IPv6 source of a packet.
    pub(super) fn source(self, map: &AddressMap, source: Ipv4Addr) -> Result<Ipv6Addr, Unmapped> {
        match self {
            Self::First => map.source_to_v6(source),
            Self::Hairpin if source == map.own_v4() => Ok(map.own_v6()),
            Self::Hairpin => map.embed(source),
        }
    }

    /// The IPv6 destination of a packet that an ICMP error quotes. In the hairpin pass it is a host
    /// with an explicit mapping, as the source of any other packet is (RFC 7757 section 4).
    pub(super) fn quoted_destination(
        self,
        map: &AddressMap,
        destination: Ipv4Addr,
    ) -> Result<Ipv6Addr, Unmapped> {
        match self {
            Self::First => map.to_v6(destination).map(|mapped| mapped.address),
            Self::Hairpin => map.embed(destination),
        }
    }

    /// The hop limit of a packet that came with `ttl`; `None` if it is used up.
    pub(super) fn hop_limit(self, ttl: u8) -> Option<u8> {
        match self {
            Self::First if ttl <= 1 => None,
            Self::First => Some(ttl - 1),
            Self::Hairpin => Some(ttl),
        }
    }
}
