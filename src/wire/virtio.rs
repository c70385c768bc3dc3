//! What the kernel passes with a packet about work that is left to do: checksum and segmentation
//! (struct virtio_net_hdr, VIRTIO 1.2 section 5.1.6; Documentation/networking/tuntap.rst).

use super::{Malformed, protocol};

/// Length of the header before each packet, in octets.
pub const HEADER_LEN: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What is left to do for a packet. Nothing, by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The transport checksum has the sum of the pseudo-header only, and not its complement.
    pub checksum: Option<PartialChecksum>,
    /// The packet is several, with one header: a super-packet. It has a partial checksum, too.
    pub segments: Option<SegmentKind>,
}

/// Where the transport header is, and its checksum, in octets from the start of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Start of the transport header.
    pub start: usize,
    /// The field of the checksum.
    pub field: usize,
}

/// How a super-packet is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentKind {
    /// TCP or UDP.
    pub transport: SegmentTransport,
    /// Payload of each segment but the last, in octets; not zero.
    pub size: u16,
}

/// What a super-packet is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentTransport {
    /// TCP segments; with `ecn`, the first has CWR set and the others have not.
    Tcp {
        /// Whether CWR is set (RFC 3168 section 6.1.2).
        ecn: bool,
    },
    /// UDP datagrams.
    Udp,
}

impl SegmentTransport {
    /// Its protocol number.
    pub fn protocol(self) -> u8 {
        match self {
            Self::Tcp { .. } => protocol::TCP,
            Self::Udp => protocol::UDP,
        }
    }
}

impl Offload {
    /// Whether nothing is left to do.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the header of a packet of `len` octets. What it says lies within the packet.
    pub fn read(header: &[u8; HEADER_LEN], len: usize) -> Result<Self, Malformed> {
        // In the byte order of the machine.
        let word = |at| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
        let (flags, kind) = (header[0], header[1]);
        let checksum = (flags & NEEDS_CHECKSUM != 0).then(|| PartialChecksum {
            start: word(6),
            field: word(6) + word(8),
        });
        if checksum.is_some_and(|checksum| checksum.field + 2 > len) {
            return Err(Malformed::Offload);
        }
        let ecn = kind & GSO_ECN != 0;
        let transport = match kind & !GSO_ECN {
            GSO_NONE => {
                return Ok(Self {
                    checksum,
                    segments: None,
                });
            }
            GSO_TCP4 | GSO_TCP6 => SegmentTransport::Tcp { ecn },
            GSO_UDP => SegmentTransport::Udp,
            _ => return Err(Malformed::Offload),
        };
        let size = word(4) as u16;
        if size == 0 || checksum.is_none() {
            return Err(Malformed::Offload);
        }
        Ok(Self {
            checksum,
            segments: Some(SegmentKind { transport, size }),
        })
    }

    /// The header of a packet of IP `version` 4 or 6, whose headers, up to the payload that is cut, have `headers` octets.
    pub fn octets(&self, version: u8, headers: usize) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        let mut put = |at: usize, value: usize| {
            header[at..at + 2].copy_from_slice(&(value as u16).to_ne_bytes()); // within a packet
        };
        if let Some(checksum) = self.checksum {
            put(6, checksum.start);
            put(8, checksum.field - checksum.start);
        }
        let mut kind = GSO_NONE;
        if let Some(segments) = self.segments {
            put(2, headers);
            put(4, segments.size.into());
            kind = match (segments.transport, version) {
                (SegmentTransport::Tcp { ecn }, version) => {
                    let family = if version == 4 { GSO_TCP4 } else { GSO_TCP6 };
                    family | if ecn { GSO_ECN } else { 0 }
                }
                (SegmentTransport::Udp, _) => GSO_UDP,
            };
        }
        header[0] = if self.checksum.is_some() {
            NEEDS_CHECKSUM
        } else {
            0
        };
        header[1] = kind;
        header
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    /// As a program in C would have it: flags, kind, and four words in the byte order of the machine.
    fn header(flags: u8, kind: u8, words: [u16; 4]) -> [u8; HEADER_LEN] {
        let mut header = [flags, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        for (index, word) in words.iter().enumerate() {
            header[2 + 2 * index..4 + 2 * index].copy_from_slice(&word.to_ne_bytes());
        }
        header
    }

    #[test]
    fn nothing_is_left_to_do_by_a_header_of_zeros() {
        let none = Offload::read(&[0; HEADER_LEN], 0).unwrap();
        assert!(none.is_none());
        assert_eq!(none.octets(4, 40), [0; HEADER_LEN]);
        // The kernel has verified the checksum: as good as complete.
        assert!(Offload::read(&header(2, 0, [0; 4]), 40).unwrap().is_none());
    }

    #[test]
    fn what_is_read_is_written_for_the_other_family() {
        for (kind, there, version) in [
            (1, 4, 6),
            (4, 1, 4),
            (0x81, 0x84, 6),
            (0x84, 0x81, 4),
            (5, 5, 4),
            (5, 5, 6),
        ] {
            let offload = Offload::read(&header(1, kind, [54, 1400, 20, 16]), 3000).unwrap();
            let checksum = PartialChecksum {
                start: 20,
                field: 36,
            };
            assert_eq!(offload.checksum, Some(checksum));
            assert_eq!(offload.segments.unwrap().size, 1400);
            assert_eq!(
                offload.octets(version, 60),
                header(1, there, [60, 1400, 20, 16])
            );
        }
        let checksum_only = Offload::read(&header(1, 0, [0, 0, 40, 6]), 48).unwrap();
        assert_eq!(checksum_only.octets(6, 48), header(1, 0, [0, 0, 40, 6]));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (flags, kind, words, len) in [
            (1, 0, [0, 0, 40, 6], 47),          // past the end
            (1, 0, [0, 0, 65535, 65535], 2000), // far past it
            (1, 1, [54, 0, 20, 16], 2000),      // segments of nothing
            (0, 1, [54, 1400, 20, 16], 2000),   // segments without a partial checksum
            (1, 3, [54, 1400, 20, 16], 2000),   // fragments of UDP, which nobody asked for
            (1, 0x7f, [54, 1400, 20, 16], 2000),
        ] {
            let read = Offload::read(&header(flags, kind, words), len);
            assert_eq!(
                read,
                Err(Malformed::Offload),
                "{flags} {kind} {words:?} {len}"
            );
        }
    }
}
