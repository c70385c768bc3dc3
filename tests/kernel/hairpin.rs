//! IPv6 hosts that have explicit mappings reach each other by their IPv4 addresses (RFC 7757
//! section 4).

use std::{io, net::SocketAddr};

use crate::{
    harness::{CLIENT, case, uninterrupted},
    socket::{Fragmentation, udp_socket},
};

/// The client and gate6, by their mapped addresses in the prefix.
const CLIENT_IN_PREFIX: &str = "2001:db8:64::cb00:710a";
const GATE6_IN_PREFIX: &str = "2001:db8:64::cb00:7106";

/// EAM-06, EAM-07: each sees the other in the prefix, so that the answer comes back through the
/// translator.
#[test]
fn mapped_hosts_reach_each_other() {
    case(|net| {
        let _daemon = net.translate();
        let client = udp_socket(&net.client, CLIENT, 4000, Fragmentation::Allowed);
        let gate6 = udp_socket(&net.gate6, "2001:db8:60::2", 4000, Fragmentation::Allowed);
        let mut buffer = [0; 16];

        client
            .send_to(b"question", (GATE6_IN_PREFIX, 4000))
            .unwrap();
        let (len, from) = uninterrupted(|| gate6.recv_from(&mut buffer)).unwrap();
        assert_eq!(&buffer[..len], b"question");
        assert_eq!(
            from,
            SocketAddr::new(CLIENT_IN_PREFIX.parse().unwrap(), 4000)
        );

        gate6.send_to(b"answer", from).unwrap();
        let (len, from) = uninterrupted(|| client.recv_from(&mut buffer)).unwrap();
        assert_eq!(&buffer[..len], b"answer");
        assert_eq!(
            from,
            SocketAddr::new(GATE6_IN_PREFIX.parse().unwrap(), 4000)
        );
    });
}

/// EAM-09: what an ICMP error quotes is mapped the same way, so that the sender's socket hears of
/// it.
#[test]
fn closed_port_refuses_a_mapped_host() {
    case(|net| {
        let _daemon = net.translate();
        let client = udp_socket(&net.client, CLIENT, 0, Fragmentation::Allowed);
        client.connect((GATE6_IN_PREFIX, 9)).unwrap();
        client.send(b"anybody there?").unwrap();
        let error = uninterrupted(|| client.recv(&mut [0; 16])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    });
}
