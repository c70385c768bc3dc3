//! The change of the checksum in the transport header, in both directions (RFC 7915 sections 4.5
//! and 5.5).

use super::{
    DropReason, Settings, UdpChecksum,
    offload::{Transport, Treatment},
};
use crate::wire::{
    checksum::Sum,
    icmp, protocol, transport,
    udp::{self, UdpDatagram},
};

/// A change of the checksum.
pub(super) enum Checksum {
    /// None: there is no checksum, or none is wanted.
    Leave,
    /// The addresses change.
    Update {
        protocol: u8,
        removed: Sum,
        added: Sum,
    },
    /// The addresses change, and the field holds the sum of the pseudo-header only.
    UpdatePartial {
        /// Offset of the field in the transport header, in octets.
        at: usize,
        removed: Sum,
        added: Sum,
    },
    /// The first `len` octets are a UDP packet without a checksum, which gets one.
    ComputeUdp { len: usize, pseudo: Sum },
    /// An echo message changes its type, and gets or loses a pseudo-header.
    Echo { kind: u8, removed: Sum, added: Sum },
}

impl Checksum {
    /// The change for any protocol but ICMP. `removed` and `added` are the sums of both addresses
    /// before and after the translation.
    ///
    /// A UDP packet without checksum, which IPv6 knows in tunnels only (RFC 6935), is treated alike
    /// in both directions.
    pub(super) fn of_transport(
        settings: &Settings,
        transport: &Transport<'_>,
        treatment: Treatment,
        removed: Sum,
        added: Sum,
    ) -> Result<Self, DropReason> {
        let Transport {
            protocol,
            place,
            octets,
            ..
        } = *transport;
        if place.offset != 0 {
            return Ok(Self::Leave);
        }
        if octets.len() < transport::min_header_len(protocol) {
            return Err(DropReason::TransportTruncated);
        }
        if treatment != Treatment::Plain
            && let Some(at) = transport::checksum_at(protocol)
        {
            return Ok(Self::UpdatePartial { at, removed, added });
        }
        if !transport::is_udp_without_checksum(protocol, octets) {
            return Ok(Self::Update {
                protocol,
                removed,
                added,
            });
        }
        match settings.udp_checksum {
            UdpChecksum::Forward => Ok(Self::Leave),
            _ if !place.is_whole() => Err(DropReason::UdpFragmentChecksum),
            UdpChecksum::Calculate => {
                let udp = UdpDatagram::parse(octets).map_err(|_| DropReason::TransportTruncated)?;
                let len = udp.total_len();
                let pseudo = added + Sum::word(protocol::UDP.into()) + Sum::word(len as u16);
                Ok(Self::ComputeUdp { len, pseudo })
            }
            UdpChecksum::Drop => Err(DropReason::UdpChecksum),
        }
    }

    /// Applies the change; `upper` is the packet from its transport header on.
    pub(super) fn apply(&self, upper: &mut [u8]) {
        match *self {
            Self::Leave => {}
            Self::Update {
                protocol,
                removed,
                added,
            } => {
                transport::update_checksum(protocol, upper, removed, added);
            }
            Self::UpdatePartial { at, removed, added } => {
                if let Some(field) = upper[at..].first_chunk_mut() {
                    transport::update_partial_checksum(field, removed, added);
                }
            }
            Self::ComputeUdp { len, pseudo } => {
                udp::put_checksum(&mut upper[..len], pseudo);
            }
            Self::Echo {
                kind,
                removed,
                added,
            } => icmp::replace_type(upper, kind, removed, added),
        }
    }
}
