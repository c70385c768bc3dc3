//! Offloaded work of a packet, and the way in which the packet can be translated with it.

use crate::wire::{
    FragmentPlace, transport,
    virtio::{Offload, PartialChecksum, SegmentKind},
};

/// The transport layer of a packet, or of the fragment that it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transport<'a> {
    pub(crate) protocol: u8,
    /// Place of `octets` in the datagram.
    pub(crate) place: FragmentPlace,
    /// Start of `octets` in the packet, in octets.
    pub(crate) at: usize,
    /// All that follows the IP header with its options or extension headers.
    pub(crate) octets: &'a [u8],
}

impl Transport<'_> {
    /// Whether a fragment of this length can be part of a datagram.
    pub(crate) fn has_possible_len(&self) -> bool {
        self.place.admits(self.octets.len())
    }
}

/// The way in which a packet is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Nothing is offloaded.
    Plain,
    /// The checksum stays partial.
    PartialChecksum,
    /// A super-packet is translated as one, and the kernel cuts it. The longest segment has
    /// `upper_len` octets behind its IP header.
    Gso { upper_len: usize },
    /// The offloaded work must be done in software first.
    NeedsSoftware,
}

impl Treatment {
    /// The treatment of a packet. `ip_header_len` is the length of an IP header of its family
    /// without options or extension headers, in octets.
    pub(crate) fn of(offload: &Offload, transport: &Transport<'_>, ip_header_len: usize) -> Self {
        if offload.is_none() {
            return Self::Plain;
        }
        let Transport {
            protocol,
            place,
            at,
            octets,
        } = *transport;
        let expected = transport::checksum_at(protocol).map(|field| PartialChecksum {
            start: at,
            field: at + field,
        });
        if !place.is_whole() || offload.checksum != expected || expected.is_none() {
            return Self::NeedsSoftware;
        }
        let Some(SegmentKind {
            transport: kind,
            size,
        }) = offload.segments
        else {
            return Self::PartialChecksum;
        };
        match transport::header_len(protocol, octets) {
            Some(header_len) if at == ip_header_len && protocol == kind.protocol() => Self::Gso {
                upper_len: octets.len().min(header_len + usize::from(size)),
            },
            _ => Self::NeedsSoftware,
        }
    }

    /// Length of the longest packet behind its IP header, in octets: of a segment if this is a
    /// super-packet, else `len`.
    pub(crate) fn upper_len(self, len: usize) -> usize {
        match self {
            Self::Gso { upper_len } => upper_len,
            _ => len,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{protocol, tcp};

    /// What the kernel is to finish stays where it is expected: in a whole packet, at the place of
    /// its protocol.
    #[test]
    fn an_offloaded_checksum_is_left_only_where_it_is_expected() {
        const FRAGMENT: FragmentPlace = FragmentPlace {
            offset: 0,
            more: true,
        };
        let octets = [0; tcp::HEADER_LEN];
        let treatment = |protocol, place, start, field| {
            let transport = Transport {
                protocol,
                place,
                at: 20,
                octets: &octets,
            };
            let offload = Offload {
                checksum: Some(PartialChecksum { start, field }),
                segments: None,
            };
            Treatment::of(&offload, &transport, 20)
        };
        let (tcp, whole) = (protocol::TCP, FragmentPlace::WHOLE);
        assert_eq!(treatment(tcp, whole, 20, 36), Treatment::PartialChecksum);
        for (protocol, place, start, field) in [
            (tcp, FRAGMENT, 20, 36),
            (tcp, whole, 20, 26),
            (tcp, whole, 24, 40),
            (protocol::SCTP, whole, 20, 36),
        ] {
            let found = treatment(protocol, place, start, field);
            assert_eq!(
                found,
                Treatment::NeedsSoftware,
                "{protocol} {start} {field}"
            );
        }
    }
}
