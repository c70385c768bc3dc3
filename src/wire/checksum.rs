//! The Internet checksum: sums (RFC 1071), incremental update (RFC 1624), and the pseudo-headers of
//! both families.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A one's complement sum of 16-bit words, carries not yet folded in (RFC 1071 section 2).
///
/// It holds 2^32 words of 32 bits without overflow, more than any packet has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of `octets`, an odd last octet padded with zero on its right.
    pub fn of(octets: &[u8]) -> Self {
        let mut words = octets.chunks_exact(4);
        // 2^16 = 1 modulo 2^16 - 1, so 32-bit words may be added and folded later (RFC 1071
        // section 2 (C)).
        let mut sum: u64 = words
            .by_ref()
            .map(|w| u64::from(u32::from_be_bytes([w[0], w[1], w[2], w[3]])))
            .sum();
        let mut last = [0; 4];
        let rest = words.remainder();
        last[..rest.len()].copy_from_slice(rest);
        sum += u64::from(u32::from_be_bytes(last));
        Self(sum)
    }

    /// The sum of one 16-bit word.
    pub fn word(word: u16) -> Self {
        Self(u64::from(word))
    }

    /// The sum of an IPv4 address.
    pub fn v4(address: Ipv4Addr) -> Self {
        Self(u64::from(address.to_bits()))
    }

    /// The sum of an IPv6 address.
    pub fn v6(address: Ipv6Addr) -> Self {
        let bits = address.to_bits();
        Self(
            [96, 64, 32, 0]
                .iter()
                .map(|shift| (bits >> shift) as u64 & 0xffff_ffff)
                .sum(),
        )
    }

    /// IPv4 pseudo-header of an upper layer packet of `len` octets (RFC 9293 section 3.1).
    pub fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: usize) -> Self {
        Self::v4(source) + Self::v4(destination) + Self(u64::from(protocol) + len as u64)
    }

    /// IPv6 pseudo-header of an upper layer packet of `len` octets (RFC 8200 section 8.1).
    pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, len: usize) -> Self {
        Self::v6(source) + Self::v6(destination) + Self(u64::from(protocol) + len as u64)
    }

    /// Folded to 16 bits.
    pub fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// The checksum field that belongs to this sum, which was taken with the field as zero.
    pub fn checksum(self) -> u16 {
        !self.fold()
    }

    /// Whether data whose checksum field was included in the sum is intact.
    pub fn verifies(self) -> bool {
        self.fold() == 0xffff
    }
}

impl std::ops::Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

/// The checksum field after `removed` was replaced by `added` in the octets that it covers:
/// equation 3 of RFC 1624, `HC' = ~(~HC + ~m + m')`. A wrong checksum stays wrong by the same
/// difference.
pub fn update(checksum: u16, removed: Sum, added: Sum) -> u16 {
    (Sum::word(!checksum) + Sum::word(!removed.fold()) + added).checksum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 section 2, word by word, folded at each step.
    fn plain(octets: &[u8]) -> u16 {
        octets.chunks(2).fold(0u16, |sum, pair| {
            let word = u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]);
            let (sum, carry) = sum.overflowing_add(word);
            sum + u16::from(carry)
        })
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8)
            .collect()
    }

    #[test]
    fn rfc_1071_section_3_example() {
        assert_eq!(
            Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).fold(),
            0xddf2
        );
    }

    #[test]
    fn equals_a_plain_sum_at_every_length() {
        let octets = noise(9001);
        for len in (0..300).chain([1499, 1500, 8999, 9000, 9001]) {
            assert_eq!(
                Sum::of(&octets[..len]).fold(),
                plain(&octets[..len]),
                "{len} octets"
            );
        }
    }

    #[test]
    fn largest_packet_of_ones_does_not_overflow() {
        let ones = vec![0xff; 65535];
        assert_eq!(Sum::of(&ones).fold(), plain(&ones));
    }

    #[test]
    fn rfc_1624_section_4_example() {
        // m = 0x5555 becomes m' = 0x3285; equation 2 gives 0xffff, equation 3 the right 0x0000.
        assert_eq!(update(0xdd2f, Sum::word(0x5555), Sum::word(0x3285)), 0x0000);
    }

    #[test]
    fn update_equals_summing_anew() {
        let mut octets = noise(64);
        for at in (0..64).step_by(2) {
            let before = Sum::of(&octets).checksum();
            let old = Sum::of(&octets[at..at + 2]);
            octets[at..at + 2].copy_from_slice(&[0xbe, 0xef]);
            let updated = update(before, old, Sum::word(0xbeef));
            assert!(
                (Sum::of(&octets) + Sum::word(updated)).verifies(),
                "word at {at}"
            );
        }
    }

    #[test]
    fn pseudo_headers_are_the_sums_of_their_octets() {
        let (a, b) = (Ipv4Addr::new(192, 0, 2, 33), Ipv4Addr::new(198, 51, 100, 7));
        let octets = [a.octets().as_slice(), &b.octets(), &[0, 17, 0x12, 0x34]].concat();
        assert_eq!(Sum::pseudo_v4(a, b, 17, 0x1234).fold(), plain(&octets));

        let a: Ipv6Addr = [0x2001, 0xdb8, 0xffff, 1, 2, 3, 4, 0xfffe].into();
        let b: Ipv6Addr = [0x64, 0xff9b, 0, 0, 0, 0, 0xc000, 0x221].into();
        let octets = [
            a.octets().as_slice(),
            &b.octets(),
            &[0, 0, 0x12, 0x34, 0, 0, 0, 58],
        ]
        .concat();
        assert_eq!(Sum::pseudo_v6(a, b, 58, 0x1234).fold(), plain(&octets));
    }
}
