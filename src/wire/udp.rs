//! UDP datagrams (RFC 768).
//!
//! ```text
//!  0      7 8     15 16    23 24    31
//! +--------+--------+--------+--------+
//! |     Source      |   Destination   |
//! |      Port       |      Port       |
//! +--------+--------+--------+--------+
//! |     Length      |    Checksum     |
//! +--------+--------+--------+--------+
//! |          data octets ...
//! +---------------- ...
//! ```

use super::{Malformed, checksum::Sum, put_u16, u16_at};

/// Length of a header, in octets.
pub const HEADER_LEN: usize = 8;
/// Offset of the checksum, in octets.
pub const CHECKSUM_AT: usize = 6;

const LENGTH_AT: usize = 4;

/// A received UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct UdpDatagram<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> UdpDatagram<'a> {
    /// Reads a datagram; octets after its length are padding and ignored.
    pub fn parse(octets: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = octets.split_first_chunk().ok_or(Malformed::Truncated)?;
        let len = usize::from(u16_at(header, LENGTH_AT).unwrap_or(0)); // it is there
        let payload_len = len.checked_sub(HEADER_LEN).ok_or(Malformed::Length)?;
        let payload = rest.get(..payload_len).ok_or(Malformed::Truncated)?;
        Ok(Self { header, payload })
    }

    /// Length of the datagram with its header, in octets.
    pub fn total_len(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }

    /// Whether the sender calculated a checksum: the field is not zero.
    pub fn has_checksum(&self) -> bool {
        self.header[CHECKSUM_AT..] != [0, 0]
    }

    /// The data.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Whether a datagram, which may be cut off (in a packet quoted by an ICMP error), has a checksum
/// field that says that there is no checksum.
pub fn lacks_checksum(octets: &[u8]) -> bool {
    u16_at(octets, CHECKSUM_AT) == Some(0)
}

/// Writes the length of a datagram, whose header is whole: all of `datagram`.
pub fn put_len(datagram: &mut [u8]) {
    put_u16(datagram, LENGTH_AT, datagram.len() as u16); // within a packet
}

/// Calculates the checksum of a datagram that has none; `pseudo` is the sum of its pseudo-header.
pub fn put_checksum(datagram: &mut [u8], pseudo: Sum) {
    let sum = Sum::of(datagram) + pseudo; // the field is zero
    put_u16(datagram, CHECKSUM_AT, sent(sum.checksum()));
}

/// "If the computed checksum is zero, it is transmitted as all ones" (RFC 768): zero would say that
/// there is none.
pub fn sent(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    const DATAGRAM: [u8; 11] = [0, 7, 0, 9, 0, 11, 0, 0, b'a', b'b', b'c'];

    #[test]
    fn a_computed_checksum_verifies() {
        let pseudo = Sum::word(0x8765);
        let mut datagram = DATAGRAM;
        assert!(lacks_checksum(&datagram));
        put_checksum(&mut datagram, pseudo);
        assert!((Sum::of(&datagram) + pseudo).verifies());
        assert!(!lacks_checksum(&datagram));
        assert!(UdpDatagram::parse(&datagram).unwrap().has_checksum());
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_ones() {
        let mut datagram = DATAGRAM;
        let pseudo = Sum::word(Sum::of(&datagram).checksum());
        put_checksum(&mut datagram, pseudo);
        assert_eq!(datagram[CHECKSUM_AT..][..2], [0xff, 0xff]);
    }

    #[test]
    fn the_length_is_at_least_a_header_and_no_more_than_there_is() {
        for (len, expected) in [
            (7, Err(Malformed::Length)),
            (8, Ok(8)),
            (11, Ok(11)),
            (12, Err(Malformed::Truncated)),
            (255, Err(Malformed::Truncated)),
        ] {
            let mut datagram = DATAGRAM;
            datagram[5] = len;
            let parsed = UdpDatagram::parse(&datagram);
            assert_eq!(parsed.map(|datagram| datagram.total_len()), expected);
        }
        for len in 0..DATAGRAM.len() {
            let parsed = UdpDatagram::parse(&DATAGRAM[..len]);
            assert_eq!(parsed.unwrap_err(), Malformed::Truncated, "{len} octets");
        }
        let datagram = UdpDatagram::parse(&DATAGRAM).unwrap();
        assert_eq!(datagram.payload(), b"abc");
        assert!(!datagram.has_checksum());
    }

    #[test]
    fn a_written_length_is_read_back() {
        let mut datagram = DATAGRAM;
        put_len(&mut datagram[..9]);
        assert_eq!(UdpDatagram::parse(&datagram).unwrap().payload(), b"a");
    }
}
