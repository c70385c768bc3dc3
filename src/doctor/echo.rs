//! An ICMP echo (RFC 792), by which a path is tried.

use crate::wire::{
    checksum::Sum,
    icmp::{HEADER_LEN, V4_ECHO_REPLY, V4_ECHO_REQUEST},
};

/// An echo, known by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo(u64);

impl Echo {
    /// With a number that nobody can guess.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// The request: its identifier is a part of the number, and its data all of it.
    pub fn request(self) -> Vec<u8> {
        let mut octets = vec![V4_ECHO_REQUEST, 0, 0, 0];
        octets.extend((self.0 as u16).to_be_bytes());
        octets.extend([0, 1]);
        octets.extend(self.0.to_be_bytes());
        let checksum = Sum::of(&octets).checksum();
        octets[2..4].copy_from_slice(&checksum.to_be_bytes());
        octets
    }

    /// Whether these octets, with an IPv4 header before them or without, are the reply.
    pub fn is_answered_by(self, octets: &[u8]) -> bool {
        let message = match octets.first() {
            // Version and length of the header (RFC 791 section 3.1); a reply is of type 0.
            Some(first) if first >> 4 == 4 => octets.get(usize::from(first & 0xf) * 4..),
            _ => Some(octets),
        };
        let message = message.unwrap_or_default();
        message.first() == Some(&V4_ECHO_REPLY)
            && message.get(HEADER_LEN..) == Some(&self.0.to_be_bytes()[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 792: the reply has the data of the request.
    #[test]
    fn only_its_reply_answers_an_echo() {
        let echo = Echo::new(0x0123_4567_89ab_cdef);
        let mut octets = echo.request();
        assert!(Sum::of(&octets).verifies());
        assert!(!echo.is_answered_by(&octets), "the request itself");
        octets[0] = V4_ECHO_REPLY;
        assert!(echo.is_answered_by(&octets));
        assert!(!Echo::new(1).is_answered_by(&octets));
        let mut header = vec![0; 24];
        header[0] = 0x46;
        assert!(echo.is_answered_by(&[header, octets].concat()));
        assert!(!echo.is_answered_by(&[]));
    }
}
