//! The header before each packet of a TUN device with offload: checksum and segmentation that are
//! left to do (struct virtio_net_hdr, VIRTIO 1.2 section 5.1.6;
//! Documentation/networking/tuntap.rst).
//!
//! ```text
//!  0       1       2               4               6               8              10
//! +-------+-------+---------------+---------------+---------------+---------------+
//! | flags |  gso  |    hdr_len    |   gso_size    |  csum_start   |  csum_offset  |
//! +-------+-------+---------------+---------------+---------------+---------------+
//! ```
//!
//! Numbers are in the byte order of the machine. csum_start counts from the start of what follows
//! the header, which for a packet socket is a link-layer header (packet(7), PACKET_VNET_HDR);
//! csum_offset counts from csum_start.

use super::{Malformed, protocol};

/// Length of the header, in octets.
pub const HEADER_LEN: usize = 10;

const FLAGS_AT: usize = 0;
const GSO_TYPE_AT: usize = 1;
const HDR_LEN_AT: usize = 2;
const GSO_SIZE_AT: usize = 4;
const CSUM_START_AT: usize = 6;
const CSUM_OFFSET_AT: usize = 8;

const NEEDS_CHECKSUM: u8 = 1;
const CHECKSUM_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// The work that is left to do for a packet: none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The transport checksum has the sum of the pseudo-header only, and not its complement.
    pub checksum: Option<PartialChecksum>,
    /// The packet is several, with one header: a super-packet. It has a partial checksum, too,
    /// unless it was [read](Self::read) as one whose checksum had been verified.
    pub segments: Option<SegmentKind>,
}

/// Place of the transport header and of its checksum, in octets from the start of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Start of the transport header.
    pub start: usize,
    /// Start of the checksum.
    pub field: usize,
}

/// Kind and size of the segments of a super-packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentKind {
    /// TCP or UDP.
    pub transport: SegmentTransport,
    /// Payload of each segment but the last, in octets; not zero.
    pub size: u16,
}

/// Transport protocol of a super-packet.
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

    /// Reads the header of a packet of `len` octets, which stands behind a link-layer header of
    /// `link_len` octets. The checksum lies within the packet. A super-packet may have none that is
    /// partial only if it was verified: a network card has joined its segments (LRO).
    pub fn read(header: &[u8; HEADER_LEN], link_len: usize, len: usize) -> Result<Self, Malformed> {
        let number = |at| u16::from_ne_bytes([header[at], header[at + 1]]);
        let kind = header[GSO_TYPE_AT];
        let checksum = if header[FLAGS_AT] & NEEDS_CHECKSUM != 0 {
            let start = usize::from(number(CSUM_START_AT)).checked_sub(link_len);
            let start = start.ok_or(Malformed::Offload)?;
            let field = start + usize::from(number(CSUM_OFFSET_AT));
            if field + 2 > len {
                return Err(Malformed::Offload);
            }
            Some(PartialChecksum { start, field })
        } else {
            None
        };
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
        let size = number(GSO_SIZE_AT);
        let is_verified = header[FLAGS_AT] & CHECKSUM_VALID != 0;
        if size == 0 || checksum.is_none() && !is_verified {
            return Err(Malformed::Offload);
        }
        Ok(Self {
            checksum,
            segments: Some(SegmentKind { transport, size }),
        })
    }

    /// The header of a packet of IP `version` 4 or 6, behind a link-layer header of `link_len`
    /// octets. Of a super-packet, `headers_len` is the length of all IP and transport headers
    /// before the payload that is cut, in octets.
    pub fn octets(&self, version: u8, link_len: usize, headers_len: usize) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        if let Some(checksum) = self.checksum {
            put(&mut header, CSUM_START_AT, link_len + checksum.start);
            put(&mut header, CSUM_OFFSET_AT, checksum.field - checksum.start);
            header[FLAGS_AT] = NEEDS_CHECKSUM;
        }
        if let Some(segments) = self.segments {
            put(&mut header, HDR_LEN_AT, link_len + headers_len);
            put(&mut header, GSO_SIZE_AT, segments.size.into());
            header[GSO_TYPE_AT] = match segments.transport {
                SegmentTransport::Tcp { ecn } => {
                    let family = if version == 4 { GSO_TCP4 } else { GSO_TCP6 };
                    family | if ecn { GSO_ECN } else { 0 }
                }
                SegmentTransport::Udp => GSO_UDP,
            };
        }
        header
    }
}

fn put(header: &mut [u8; HEADER_LEN], at: usize, number: usize) {
    let number = (number as u16).to_ne_bytes(); // within a packet
    header[at..at + 2].copy_from_slice(&number);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    /// A header as a C program writes it: flags, type, and four words in the byte order of the
    /// machine.
    fn header(flags: u8, kind: u8, words: [u16; 4]) -> [u8; HEADER_LEN] {
        let mut header = [flags, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        for (index, word) in words.iter().enumerate() {
            header[2 + 2 * index..4 + 2 * index].copy_from_slice(&word.to_ne_bytes());
        }
        header
    }

    #[test]
    fn a_header_of_zeros_leaves_nothing_to_do() {
        let none = Offload::read(&[0; HEADER_LEN], 0, 0).unwrap();
        assert!(none.is_none());
        assert_eq!(none.octets(4, 0, 40), [0; HEADER_LEN]);
        // The kernel has verified the checksum: as good as complete.
        let verified = Offload::read(&header(2, 0, [0; 4]), 0, 40);
        assert!(verified.unwrap().is_none());
    }

    #[test]
    fn a_header_that_was_read_is_written_for_the_other_family() {
        for (kind, there, version) in [
            (1, 4, 6),
            (4, 1, 4),
            (0x81, 0x84, 6),
            (0x84, 0x81, 4),
            (5, 5, 4),
            (5, 5, 6),
        ] {
            let offload = Offload::read(&header(1, kind, [54, 1400, 20, 16]), 0, 3000).unwrap();
            let checksum = PartialChecksum {
                start: 20,
                field: 36,
            };
            assert_eq!(offload.checksum, Some(checksum));
            assert_eq!(offload.segments.unwrap().size, 1400);
            assert_eq!(
                offload.octets(version, 0, 60),
                header(1, there, [60, 1400, 20, 16])
            );
        }
        let checksum_only = Offload::read(&header(1, 0, [0, 0, 40, 6]), 0, 48).unwrap();
        assert_eq!(checksum_only.octets(6, 0, 48), header(1, 0, [0, 0, 40, 6]));
    }

    /// packet(7): offsets count from the link-layer header.
    #[test]
    fn a_link_layer_header_shifts_the_offsets() {
        let at_uplink = header(1, 4, [14 + 60, 1400, 14 + 40, 16]);
        let offload = Offload::read(&at_uplink, 14, 3000).unwrap();
        let checksum = PartialChecksum {
            start: 40,
            field: 56,
        };
        assert_eq!(offload.checksum, Some(checksum));
        assert_eq!(offload.octets(6, 14, 60), at_uplink);
        for (start, len) in [(13, 100), (54, 57)] {
            let header = header(1, 0, [0, 0, start, 16]);
            let read = Offload::read(&header, 14, len);
            assert_eq!(read, Err(Malformed::Offload), "{start} {len}");
        }
    }

    #[test]
    fn contradictory_headers_are_refused() {
        for (flags, kind, words, len) in [
            (1, 0, [0, 0, 40, 6], 47),          // past the end
            (1, 0, [0, 0, 65535, 65535], 2000), // far past it
            (1, 1, [54, 0, 20, 16], 2000),      // segments of nothing
            (0, 1, [54, 1400, 20, 16], 2000),   // segments without a partial checksum
            (1, 3, [54, 1400, 20, 16], 2000),   // fragments of UDP, which nobody asked for
            (1, 0x7f, [54, 1400, 20, 16], 2000),
        ] {
            let read = Offload::read(&header(flags, kind, words), 0, len);
            assert_eq!(
                read,
                Err(Malformed::Offload),
                "{flags} {kind} {words:?} {len}"
            );
        }
    }
}
