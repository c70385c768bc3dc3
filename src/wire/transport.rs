//! The fields that transport protocols share, by protocol number: ports and checksum.

use super::{
    checksum::{self, Sum},
    protocol, put_u16,
    tcp::{self, TcpSegment},
    u16_at, udp,
};

/// Shortest header of DCCP, without the extended sequence number, in octets (RFC 4340
/// section 5.1).
const DCCP_HEADER_LEN: usize = 12;

const SOURCE_PORT_AT: usize = 0;
const DESTINATION_PORT_AT: usize = 2;
/// Length of both ports together, in octets.
pub const PORTS_LEN: usize = 4;

/// Shortest header of a protocol that is known here, in octets; zero for others.
pub fn min_header_len(protocol: u8) -> usize {
    match protocol {
        protocol::TCP => tcp::HEADER_LEN,
        protocol::UDP | protocol::UDP_LITE => udp::HEADER_LEN,
        protocol::DCCP => DCCP_HEADER_LEN,
        _ => 0,
    }
}

/// Length of the header of a TCP segment or a UDP datagram, in octets, if all of it is there.
pub fn header_len(protocol: u8, transport: &[u8]) -> Option<usize> {
    match protocol {
        protocol::TCP => Some(TcpSegment::parse(transport).ok()?.header_len()),
        protocol::UDP => (transport.len() >= udp::HEADER_LEN).then_some(udp::HEADER_LEN),
        _ => None,
    }
}

/// Offset of the checksum in the header of a protocol, in octets; `None` for protocols that are
/// not known here. UDP-Lite (RFC 3828) and DCCP (RFC 4340) have theirs where UDP does.
pub fn checksum_at(protocol: u8) -> Option<usize> {
    match protocol {
        protocol::TCP => Some(tcp::CHECKSUM_AT),
        protocol::UDP | protocol::UDP_LITE | protocol::DCCP => Some(udp::CHECKSUM_AT),
        _ => None,
    }
}

/// Source and destination port, for protocols that begin with them.
pub fn ports(protocol: u8, transport: &[u8]) -> Option<(u16, u16)> {
    match protocol {
        protocol::TCP | protocol::UDP | protocol::DCCP | protocol::UDP_LITE | protocol::SCTP => {
            Some((
                u16_at(transport, SOURCE_PORT_AT)?,
                u16_at(transport, DESTINATION_PORT_AT)?,
            ))
        }
        _ => None,
    }
}

/// Whether this is UDP without a checksum (RFC 768).
pub fn is_udp_without_checksum(protocol: u8, transport: &[u8]) -> bool {
    protocol == protocol::UDP && udp::lacks_checksum(transport)
}

/// Replaces `removed` by `added` in the checksum of a packet whose pseudo-header changed (RFC 7915
/// sections 4.5 and 5.5).
///
/// A checksum that does not cover addresses (SCTP) or whose protocol is not known here stays as it
/// is, as does a field that was cut off (in a packet quoted by an ICMP error), and UDP without a
/// checksum stays without.
pub fn update_checksum(protocol: u8, transport: &mut [u8], removed: Sum, added: Sum) {
    let Some(at) = checksum_at(protocol) else {
        return;
    };
    if is_udp_without_checksum(protocol, transport) {
        return;
    }
    let Some(old) = u16_at(transport, at) else {
        return;
    };
    let new = checksum::update(old, removed, added);
    let new = if protocol == protocol::TCP {
        new
    } else {
        udp::sent(new)
    };
    put_u16(transport, at, new);
}

/// Replaces `removed` by `added` in a field that holds the sum of a pseudo-header, not its
/// complement: the kernel finishes the checksum, and zero is a sum like any other, also for UDP.
pub fn update_partial_checksum(field: &mut [u8; 2], removed: Sum, added: Sum) {
    let old = Sum::word(u16::from_be_bytes(*field));
    let new = old + Sum::word(!removed.fold()) + added;
    *field = new.fold().to_be_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_udp_checksum_that_becomes_zero_is_sent_as_ones() {
        let mut udp = [0, 7, 0, 7, 0, 8, 0x12, 0x34];
        // ~(~0x1234 + 0x1234) = 0
        update_checksum(protocol::UDP, &mut udp, Sum::default(), Sum::word(0x1234));
        assert_eq!(udp[6..], [0xff, 0xff]);
        let mut tcp = [0; 20];
        tcp[16..18].copy_from_slice(&[0x12, 0x34]);
        update_checksum(protocol::TCP, &mut tcp, Sum::default(), Sum::word(0x1234));
        assert_eq!(tcp[16..18], [0, 0]);
    }

    #[test]
    fn a_checksum_is_touched_only_where_it_is() {
        for (protocol, len) in [
            (protocol::UDP, 7),
            (protocol::TCP, 17),
            (protocol::SCTP, 20),
            (253, 20),
            (50, 20),
        ] {
            let mut octets = vec![0xa5; len];
            update_checksum(protocol, &mut octets, Sum::default(), Sum::word(1));
            assert_eq!(octets, vec![0xa5; len], "protocol {protocol}");
        }
        let mut none = [0, 7, 0, 7, 0, 8, 0, 0];
        update_checksum(protocol::UDP, &mut none, Sum::default(), Sum::word(1));
        assert_eq!(none, [0, 7, 0, 7, 0, 8, 0, 0]);
        for (protocol, at) in [
            (protocol::UDP, 6),
            (protocol::UDP_LITE, 6),
            (protocol::DCCP, 6),
            (protocol::TCP, 16),
        ] {
            let mut octets = [0xa5; 20];
            update_checksum(protocol, &mut octets, Sum::default(), Sum::word(1));
            assert_eq!(octets[at..at + 2], [0xa5, 0xa4], "protocol {protocol}");
        }
    }

    #[test]
    fn ports_are_read_where_there_are_any() {
        assert_eq!(ports(protocol::TCP, &[0x1f, 0x90, 0, 80]), Some((8080, 80)));
        assert_eq!(ports(protocol::TCP, &[0x1f, 0x90, 0]), None);
        assert_eq!(ports(50, &[0x1f, 0x90, 0, 80]), None);
    }

    /// RFC 9293, RFC 768, RFC 3828, and RFC 4340 section 5.1.
    #[test]
    fn headers_have_a_least_length() {
        let known = [6, 17, 136, 33, 1].map(min_header_len);
        assert_eq!(known, [20, 8, 8, 12, 0]);
    }
}
