//! TCP segments (RFC 9293 section 3.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          Source Port          |       Destination Port        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                        Sequence Number                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                    Acknowledgment Number                      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | Data  |       |C|E|U|A|P|R|S|F|                               |
//! | Offset| Rsrvd |W|C|R|C|S|S|Y|I|            Window             |
//! |       |       |R|E|G|K|H|T|N|N|                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |           Checksum            |         Urgent Pointer        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                           [Options]                           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use super::Malformed;

/// Length of a header without options, in octets.
pub const HEADER_LEN: usize = 20;
/// Offset of the checksum, in octets.
pub const CHECKSUM_AT: usize = 16;

const SEQUENCE_AT: usize = 4;
const ACKNOWLEDGMENT_AT: usize = 8;
const DATA_OFFSET_AT: usize = 12;
const FLAGS_AT: usize = 13;
const WINDOW_AT: usize = 14;
const URGENT_POINTER_AT: usize = 18;

/// Flag: no more data from the sender.
pub const FIN: u8 = 0x01;
/// Flag: push.
pub const PSH: u8 = 0x08;
/// Flag: the acknowledgment number counts.
pub const ACK: u8 = 0x10;
/// Flag: congestion window reduced (RFC 3168 section 6.1.2).
pub const CWR: u8 = 0x80;

/// A received TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct TcpSegment<'a> {
    header: &'a [u8; HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> TcpSegment<'a> {
    /// Reads a segment; all octets behind its header are its payload.
    pub fn parse(octets: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = octets.split_first_chunk().ok_or(Malformed::Truncated)?;
        let header: &[u8; HEADER_LEN] = header;
        let header_len = usize::from(header[DATA_OFFSET_AT] >> 4) * 4; // in 32-bit words
        let options_len = header_len
            .checked_sub(HEADER_LEN)
            .ok_or(Malformed::Length)?;
        let (options, payload) = rest
            .split_at_checked(options_len)
            .ok_or(Malformed::Truncated)?;
        Ok(Self {
            header,
            options,
            payload,
        })
    }

    /// Length of the header with its options, in octets.
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// Sequence number of the first octet of payload.
    pub fn sequence(&self) -> u32 {
        u32::from_be_bytes([
            self.header[SEQUENCE_AT],
            self.header[SEQUENCE_AT + 1],
            self.header[SEQUENCE_AT + 2],
            self.header[SEQUENCE_AT + 3],
        ])
    }

    /// The eight flags.
    pub fn flags(&self) -> u8 {
        self.header[FLAGS_AT]
    }

    /// The data.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether `next` follows this segment in its flow, and its header says nothing new: it may
    /// differ in sequence number, PSH and checksum alone. Ports are not compared.
    pub fn is_continued_by(&self, next: &Self) -> bool {
        let same = |from: usize, to: usize| self.header[from..to] == next.header[from..to];
        next.sequence() == self.sequence().wrapping_add(self.payload.len() as u32)
            && same(ACKNOWLEDGMENT_AT, FLAGS_AT)
            && self.flags() | PSH == next.flags() | PSH
            && same(WINDOW_AT, CHECKSUM_AT)
            && same(URGENT_POINTER_AT, HEADER_LEN)
            && self.options == next.options
    }
}

/// Writes the sequence number and the flags of a segment, whose header is whole.
pub fn put_sequence_and_flags(segment: &mut [u8], sequence: u32, flags: u8) {
    segment[SEQUENCE_AT..SEQUENCE_AT + 4].copy_from_slice(&sequence.to_be_bytes());
    segment[FLAGS_AT] = flags;
}

/// Sets PSH in a segment, whose header is whole.
pub fn set_push(segment: &mut [u8]) {
    segment[FLAGS_AT] |= PSH;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    /// 80 to 4096 with a timestamp option, ACK and PSH, "abc" at sequence number 0xfffffffe.
    const SEGMENT: [u8; 35] = [
        0, 80, 0x10, 0, 0xff, 0xff, 0xff, 0xfe, 1, 2, 3, 4, 0x80, 0x18, 0x20, 0, 0xaa, 0xbb, 0, 0,
        1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, b'a', b'b', b'c',
    ];

    #[test]
    fn fields_are_read() {
        let segment = TcpSegment::parse(&SEGMENT).unwrap();
        assert_eq!(segment.header_len(), 32);
        assert_eq!(segment.sequence(), 0xffff_fffe);
        assert_eq!(segment.flags(), ACK | PSH);
        assert_eq!(segment.payload(), b"abc");
    }

    #[test]
    fn short_or_contradictory_headers_are_refused() {
        for len in 0..32 {
            let parsed = TcpSegment::parse(&SEGMENT[..len]);
            assert_eq!(parsed.unwrap_err(), Malformed::Truncated, "{len} octets");
        }
        for words in 0..5 {
            let mut segment = SEGMENT;
            segment[12] = words << 4;
            let parsed = TcpSegment::parse(&segment);
            assert_eq!(parsed.unwrap_err(), Malformed::Length, "{words} words");
        }
    }

    /// Every octet of the header counts but those of ports, sequence number and checksum, and PSH.
    #[test]
    fn a_segment_is_continued_by_the_next_with_the_same_header() {
        let mut next = SEGMENT;
        put_sequence_and_flags(&mut next, 1, ACK); // it wraps around
        let continued = |next: &[u8]| {
            let first = TcpSegment::parse(&SEGMENT).unwrap();
            first.is_continued_by(&TcpSegment::parse(next).unwrap())
        };
        assert!(continued(&next));
        for at in 4..32 {
            let mut other = next;
            other[at] ^= if at == DATA_OFFSET_AT { 0x01 } else { 0x40 };
            assert_eq!(continued(&other), matches!(at, 16 | 17), "octet {at}");
        }
    }

    #[test]
    fn push_is_set_beside_other_flags() {
        let mut segment = SEGMENT;
        put_sequence_and_flags(&mut segment, 7, ACK);
        set_push(&mut segment);
        assert_eq!(TcpSegment::parse(&segment).unwrap().flags(), ACK | PSH);
    }
}
