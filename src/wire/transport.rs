//! The few fields of transport protocols that a translator touches.

use super::{
    checksum::{self, Sum},
    protocol, u16_at,
};

/// Length of a TCP header without options, in octets (RFC 9293 section 3.1).
const TCP_HEADER_LEN: usize = 20;
/// Length of a UDP or UDP-Lite header, in octets (RFC 768).
const UDP_HEADER_LEN: usize = 8;
/// Where UDP, UDP-Lite and DCCP have their checksum.
const UDP_CHECKSUM_AT: usize = 6;
/// Where TCP has its checksum.
const TCP_CHECKSUM_AT: usize = 16;

/// Shortest header of a protocol that is known here, in octets; zero for others.
pub fn min_header_len(protocol: u8) -> usize {
    match protocol {
        protocol::TCP => TCP_HEADER_LEN,
        protocol::UDP | protocol::UDP_LITE => UDP_HEADER_LEN,
        protocol::DCCP => 12, // without the extended sequence number (RFC 4340 section 5.1)
        _ => 0,
    }
}

/// Whether a UDP packet comes without a checksum (RFC 768): its field is there, and zero.
pub fn is_udp_without_checksum(protocol: u8, transport: &[u8]) -> bool {
    protocol == protocol::UDP && u16_at(transport, UDP_CHECKSUM_AT) == Some(0)
}

/// Source and destination port, for protocols that begin with them.
pub fn ports(protocol: u8, transport: &[u8]) -> Option<(u16, u16)> {
    const SCTP: u8 = 132;
    match protocol {
        protocol::TCP | protocol::UDP | protocol::DCCP | protocol::UDP_LITE | SCTP => {
            Some((u16_at(transport, 0)?, u16_at(transport, 2)?))
        }
        _ => None,
    }
}

/// Replaces `removed` by `added` in the checksum of a packet whose pseudo-header changed (RFC 7915 sections 4.5, 5.5).
/// Protocols whose checksum does not cover addresses (SCTP), or that are not known here, are left alone, as is a
/// field that was cut off (in a packet quoted by an ICMP error), and a UDP packet without a checksum.
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
    put_checksum(
        protocol,
        transport,
        at,
        checksum::update(old, removed, added),
    );
}

/// Where a protocol has its checksum, in octets from the start of its header; `None` for those that are not known here.
pub fn checksum_at(protocol: u8) -> Option<usize> {
    match protocol {
        protocol::TCP => Some(TCP_CHECKSUM_AT),
        protocol::UDP | protocol::UDP_LITE | protocol::DCCP => Some(UDP_CHECKSUM_AT),
        _ => None,
    }
}

/// Length of the header of a TCP segment by its own word, or of a UDP datagram, in octets, if there is so much.
pub fn header_len(protocol: u8, transport: &[u8]) -> Option<usize> {
    let len = match protocol {
        protocol::TCP => usize::from(transport.get(12)? >> 4) * 4,
        protocol::UDP => UDP_HEADER_LEN,
        _ => return None,
    };
    (min_header_len(protocol)..=transport.len())
        .contains(&len)
        .then_some(len)
}

/// Replaces `removed` by `added` in a field that holds the sum of a pseudo-header, not its complement: the checksum is
/// finished by the kernel, and what looks like none (UDP) is one.
pub fn update_partial_checksum(field: &mut [u8; 2], removed: Sum, added: Sum) {
    let old = Sum::word(u16::from_be_bytes(*field));
    let new = old + Sum::word(!removed.fold()) + added;
    *field = new.fold().to_be_bytes();
}

/// The length of a UDP packet by its own header, in octets, if there is so much.
pub fn udp_len(transport: &[u8]) -> Option<usize> {
    let len = usize::from(u16_at(transport, 4)?);
    (UDP_HEADER_LEN..=transport.len())
        .contains(&len)
        .then_some(len)
}

/// Gives a UDP packet that has none a checksum; `pseudo` is its pseudo-header.
pub fn put_udp_checksum(udp: &mut [u8], pseudo: Sum) {
    let sum = Sum::of(udp) + pseudo; // the field is zero
    put_checksum(protocol::UDP, udp, UDP_CHECKSUM_AT, sum.checksum());
}

/// "If the computed checksum is zero, it is transmitted as all ones" (RFC 768): zero would say that there is none.
fn put_checksum(protocol: u8, transport: &mut [u8], at: usize, checksum: u16) {
    let checksum = if checksum == 0 && protocol != protocol::TCP {
        0xffff
    } else {
        checksum
    };
    transport[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
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
            (132, 20),
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
    fn a_computed_udp_checksum_verifies() {
        let pseudo = Sum::word(0x8765);
        let mut udp = [0, 7, 0, 9, 0, 11, 0, 0, b'a', b'b', b'c'];
        assert_eq!(udp_len(&udp), Some(11));
        put_udp_checksum(&mut udp, pseudo);
        assert!((Sum::of(&udp) + pseudo).verifies());
    }

    #[test]
    fn a_udp_length_is_believed_only_if_it_can_be() {
        let mut udp = [0, 7, 0, 9, 0, 0, 0, 0, b'a', b'b', b'c'];
        for (len, expected) in [
            (7, None),
            (8, Some(8)),
            (11, Some(11)),
            (12, None),
            (255, None),
        ] {
            udp[5] = len;
            assert_eq!(udp_len(&udp), expected);
        }
        assert_eq!(udp_len(&udp[..5]), None);
    }

    #[test]
    fn ports_are_read_where_there_are_any() {
        assert_eq!(ports(protocol::TCP, &[0x1f, 0x90, 0, 80]), Some((8080, 80)));
        assert_eq!(ports(protocol::TCP, &[0x1f, 0x90, 0]), None);
        assert_eq!(ports(50, &[0x1f, 0x90, 0, 80]), None);
    }
}
