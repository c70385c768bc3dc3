//! Fragments in and out.

use std::net::UdpSocket;

use crate::{
    harness::{CLIENT, CLIENT4, CONFIG, Net, SERVER, SERVER6, case, uninterrupted, xlatd_case},
    packet::{DF, EXPERIMENT, FRAGMENT, FragmentHeader, Ipv4, Ipv6, MF, UDP, pattern, udp},
    socket::{Capture, Fragmentation, send4, send6, udp_socket},
};

/// RFC 7915 section 5.1.1 (X64-10): fragments are translated one by one, in whatever order they
/// come.
#[test]
fn fragments_from_client_in_any_order() {
    case(|net| {
        let _daemon = net.translate();
        let receiver = udp_socket(&net.server, SERVER, 4001, Fragmentation::Allowed);
        let data = pattern(4000);
        let datagram = udp(CLIENT, SERVER6, [4000, 4001], &data);
        for (identification, order) in (0x0001_0203..).zip(ORDERS) {
            for at in order {
                let (piece, more) = piece(&datagram, at);
                let header = FragmentHeader {
                    next_header: UDP,
                    offset: (at * PIECE) as u16,
                    more,
                    identification,
                };
                send6(
                    &net.client,
                    &Ipv6::new(CLIENT, SERVER6, FRAGMENT, header.before(piece)),
                );
            }
            arrives(&receiver, &data);
        }
    });
}

/// RFC 7915 section 4.1 (X46-16): fragments are translated one by one, in whatever order they come.
#[test]
fn fragments_from_server_in_any_order() {
    case(|net| {
        let _daemon = net.translate();
        let receiver = udp_socket(&net.client, CLIENT, 4001, Fragmentation::Allowed);
        let data = pattern(4000);
        let datagram = udp(SERVER, CLIENT4, [4000, 4001], &data);
        for (identification, order) in (0x0203..).zip(ORDERS) {
            for at in order {
                let (piece, more) = piece(&datagram, at);
                let mut packet = Ipv4::new(SERVER, CLIENT4, UDP, piece.to_vec());
                packet.identification = identification;
                packet.fragment = (at * PIECE / 8) as u16 | if more { MF } else { 0 };
                send4(&net.server, &packet);
            }
            arrives(&receiver, &data);
        }
    });
}

/// RFC 7915 section 4.1 (X46-16): the identification of a fragment is kept in the low half, the
/// upper half is 0.
#[test]
fn identification_of_a_fragment_from_server() {
    case(|net| {
        let _daemon = net.translate();
        let at_client = Capture::start(&net.client);
        let mut packet = Ipv4::new(SERVER, CLIENT4, EXPERIMENT, pattern(64));
        packet.identification = 0xabcd;
        packet.fragment = MF | 100;
        send4(&net.server, &packet);
        let packet = at_client.ipv6("a fragment", |packet| packet.next_header == FRAGMENT);
        let (header, payload) = packet.fragment().unwrap();
        let expected = FragmentHeader {
            next_header: EXPERIMENT,
            offset: 800,
            more: true,
            identification: 0xabcd,
        };
        assert_eq!(header, expected);
        assert_eq!(payload, pattern(64));
    });
}

/// RFC 7915 section 5.1.1 (X64-10): the identification of a fragment is the low half, DF is clear.
#[test]
fn identification_of_a_fragment_from_client() {
    case(|net| {
        let _daemon = net.translate();
        let at_server = Capture::start(&net.server);
        let header = FragmentHeader {
            next_header: EXPERIMENT,
            offset: 800,
            more: true,
            identification: 0x1234_abcd,
        };
        send6(
            &net.client,
            &Ipv6::new(CLIENT, SERVER6, FRAGMENT, header.before(&pattern(64))),
        );
        let packet = at_server.ipv4("a fragment", |packet| packet.protocol == EXPERIMENT);
        assert_eq!(packet.fragment, MF | 100);
        assert_eq!(packet.identification, 0xabcd);
        assert_eq!(packet.payload, pattern(64));
    });
}

/// RFC 7915 section 4.1 (X46-11): what may be fragmented leaves in packets of at most 1280 octets,
/// as nothing else is sure to reach every IPv6 host.
#[test]
fn packet_without_df_leaves_in_fragments_of_1280() {
    case(|net| {
        let _daemon = net.translate();
        leaves_in_fragments(net, 1280);
    });
}

/// `offlink-mtu` is what RFC 7915 section 4 (X46-12) asks to be configurable.
#[test]
fn packet_without_df_leaves_in_fragments_of_offlink_mtu() {
    xlatd_case(|net| {
        let _daemon = net.translate_with(&format!("{CONFIG}offlink-mtu 1400\n"));
        leaves_in_fragments(net, 1400);
    });
}

/// RFC 7915 section 4 (X46-14, RFC 8021): a packet that fits gets no Fragment header, whatever DF
/// says.
#[test]
fn packet_that_fits_has_no_fragment_header() {
    case(|net| {
        let _daemon = net.translate();
        let at_client = Capture::start(&net.client);
        for (fragment, len) in [(0, 1260), (DF, 1260), (DF, 1480)] {
            let mut packet = Ipv4::new(SERVER, CLIENT4, EXPERIMENT, pattern(len - 20));
            packet.fragment = fragment;
            send4(&net.server, &packet);
            let packet = at_client.ipv6("a packet", to_client);
            assert_eq!(packet.next_header, EXPERIMENT, "{len} octets");
            assert_eq!(packet.payload, pattern(len - 20));
        }
    });
}

/// RFC 7915 section 5.1 (X64-03): DF is clear up to 1260 octets, since no IPv6 host sends less than
/// 1280 because of a Packet Too Big; above it is set.
#[test]
fn df_is_set_above_1260_octets() {
    case(|net| {
        let _daemon = net.translate();
        let at_server = Capture::start(&net.server);
        for (len, fragment) in [(100, 0), (1260, 0), (1261, DF), (1280, DF), (1480, DF)] {
            send6(
                &net.client,
                &Ipv6::new(CLIENT, SERVER6, EXPERIMENT, pattern(len - 20)),
            );
            let packet = at_server.ipv4("a packet", |packet| packet.protocol == EXPERIMENT);
            assert_eq!(packet.payload.len(), len - 20);
            assert_eq!(packet.fragment, fragment, "{len} octets");
        }
    });
}

/// Octets in a fragment but the last.
const PIECE: usize = 1000;

const ORDERS: [[usize; 5]; 4] = [
    [0, 1, 2, 3, 4],
    [4, 3, 2, 1, 0],
    [1, 0, 4, 2, 3],
    [2, 4, 0, 3, 1],
];

fn piece(datagram: &[u8], at: usize) -> (&[u8], bool) {
    let end = datagram.len().min((at + 1) * PIECE);
    (&datagram[at * PIECE..end], end < datagram.len())
}

fn arrives(receiver: &UdpSocket, data: &[u8]) {
    let mut buffer = [0; 65536];
    let len = uninterrupted(|| receiver.recv(&mut buffer)).expect("the datagram, put together");
    assert!(buffer[..len] == *data, "the data has changed on its way");
}

fn to_client(packet: &Ipv6) -> bool {
    packet.source.to_string() == SERVER6
}

/// Sends a packet of 1500 octets with DF clear, and looks at what arrives.
fn leaves_in_fragments(net: &Net, mtu: usize) {
    let at_client = Capture::start(&net.client);
    let mut packet = Ipv4::new(SERVER, CLIENT4, EXPERIMENT, pattern(1480));
    packet.identification = 0xabcd;
    send4(&net.server, &packet);
    let mut arrived: Vec<u8> = Vec::new();
    loop {
        let packet = at_client.ipv6("a fragment", to_client);
        let len = packet.octets().len();
        assert!(len <= mtu, "{len} octets in a packet");
        let (header, payload) = packet.fragment().expect("a Fragment header");
        assert_eq!(header.next_header, EXPERIMENT);
        assert_eq!(usize::from(header.offset), arrived.len());
        assert_eq!(header.identification, 0xabcd);
        arrived.extend(payload);
        if !header.more {
            break;
        }
        assert!(len > mtu - 8, "{len} octets: more would have fitted");
    }
    assert_eq!(arrived, pattern(1480));
}
