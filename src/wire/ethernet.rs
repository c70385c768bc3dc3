//! Ethernet headers (RFC 2464).
//!
//! ```text
//!  0                           6                           12      14
//! +---------------------------+---------------------------+-------+
//! |        destination        |          source           | type  |
//! +---------------------------+---------------------------+-------+
//! ```

use std::net::Ipv6Addr;

/// Length of a header, in octets.
pub const HEADER_LEN: usize = 14;
/// The type of IPv6 packets.
pub const IPV6: u16 = 0x86dd;

/// The header of an IPv6 packet.
pub fn header(destination: [u8; 6], source: [u8; 6]) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..6].copy_from_slice(&destination);
    header[6..12].copy_from_slice(&source);
    header[12..].copy_from_slice(&IPV6.to_be_bytes());
    header
}

/// The link-layer address of a multicast group (RFC 2464 section 7).
pub fn multicast(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_destination_source_and_type() {
        let expected = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x86, 0xdd];
        assert_eq!(header([1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]), expected);
    }

    #[test]
    fn groups_have_the_address_of_rfc_2464() {
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        assert_eq!(multicast(all_nodes), [0x33, 0x33, 0, 0, 0, 1]);
    }
}
