//! Checksums, on the wire as the receiver sees them.

use std::{
    io::{Read, Write},
    thread,
};

use nix::sys::signal::Signal;

use crate::{
    forward::{connect, listen},
    harness::{CLIENT, CLIENT4, CONFIG, Net, SERVER, SERVER6, case, uninterrupted, xlatd_case},
    packet::{
        FRAGMENT, ICMP, ICMPV6, Ipv4, Ipv6, MF, TCP, UDP, pattern, udp, udp_without_checksum,
    },
    socket::{Capture, Fragmentation, send4, send6, udp_socket},
};

/// RFC 7915 sections 4.5 and 5.5 (X46-35, X64-24): every packet of a TCP connection, of UDP and of
/// ping has a right checksum, which is in the packet itself since no device calculates any.
#[test]
fn checksums_are_right() {
    case(|net| {
        net.calculate_in_software();
        let _daemon = net.translate();
        let [at_client, at_server] = [&net.client, &net.server].map(Capture::start);

        let listener = listen(&net.server, SERVER);
        let [client, server] = connect(&net.client, SERVER6, &listener);
        let data = pattern(200_000);
        for (mut sender, mut receiver) in [(&client, &server), (&server, &client)] {
            let mut arrived = vec![0; data.len()];
            thread::scope(|scope| {
                scope.spawn(|| sender.write_all(&data).unwrap());
                receiver.read_exact(&mut arrived).unwrap();
            });
            assert!(arrived == data, "the data has changed on its way");
        }
        let client = udp_socket(&net.client, CLIENT, 4000, Fragmentation::Allowed);
        let server = udp_socket(&net.server, SERVER, 4000, Fragmentation::Allowed);
        for len in [0, 1, 2, 3, 500, 1001] {
            client.send_to(&pattern(len), (SERVER6, 4000)).unwrap();
            uninterrupted(|| server.recv(&mut [0; 2000])).unwrap();
            server.send_to(&pattern(len), (CLIENT4, 4000)).unwrap();
            uninterrupted(|| client.recv(&mut [0; 2000])).unwrap();
        }
        net.client
            .run(&format!("ping -n -c 3 -i 0.01 -W 10 -s 101 {SERVER6}"));
        net.server
            .run(&format!("ping -n -c 3 -i 0.01 -W 10 -s 101 {CLIENT4}"));

        let mut seen = [0; 256];
        while let Some(packet) = at_server.next(Ipv4::parse) {
            if packet.destination.to_string() == SERVER && packet.source.to_string() == CLIENT4 {
                assert_eq!(packet.transport_sum(), 0xffff, "{packet:?}");
                seen[usize::from(packet.protocol)] += 1;
            }
        }
        while let Some(packet) = at_client.next(Ipv6::parse) {
            if packet.destination.to_string() == CLIENT && packet.source.to_string() == SERVER6 {
                assert_ne!(packet.next_header, FRAGMENT);
                assert_eq!(packet.transport_sum(), 0xffff, "{packet:?}");
                seen[usize::from(packet.next_header)] += 1;
            }
        }
        let [tcp, udp, icmp, icmpv6] =
            [TCP, UDP, ICMP, ICMPV6].map(|protocol| seen[usize::from(protocol)]);
        assert!(
            tcp > 100 && udp == 12 && icmp == 6 && icmpv6 == 6,
            "{tcp} {udp} {icmp} {icmpv6}"
        );
    });
}

/// RFC 7915 section 4.5 (X46-38): a wrong checksum is updated, not repaired, so that the receiver
/// drops the packet.
#[test]
fn wrong_checksum_stays_wrong() {
    case(|net| {
        let _daemon = net.translate();
        let [at_client, at_server] = [&net.client, &net.server].map(Capture::start);
        for protocol in [UDP, TCP] {
            let field = if protocol == UDP { 6..8 } else { 16..18 };
            let mut segment = pattern(100);
            if protocol == UDP {
                segment = udp(CLIENT, SERVER6, PORTS, &segment);
            } else {
                segment[12] = 5 << 4; // a header of 20 octets
            }
            segment[field].copy_from_slice(&[0x12, 0x34]);

            let sent = Ipv6::new(CLIENT, SERVER6, protocol, segment.clone());
            assert_ne!(sent.transport_sum(), 0xffff);
            send6(&net.client, &sent);
            let packet = at_server.ipv4("the packet", |packet| packet.protocol == protocol);
            assert_eq!(packet.transport_sum(), sent.transport_sum());

            let sent = Ipv4::new(SERVER, CLIENT4, protocol, segment);
            assert_ne!(sent.transport_sum(), 0xffff);
            send4(&net.server, &sent);
            let packet = at_client.ipv6("the packet", |packet| {
                packet.next_header == protocol && packet.source.to_string() == SERVER6
            });
            assert_eq!(packet.transport_sum(), sent.transport_sum());
        }
    });
}

/// RFC 768, RFC 8200 section 8.1 (X46-35): a checksum that is calculated to be 0 is sent as 0xffff,
/// since 0 says that there is none, which IPv6 hosts refuse.
#[test]
fn checksum_that_becomes_zero_is_sent_as_ffff() {
    case(|net| {
        let _daemon = net.translate();
        let [at_client, at_server] = [&net.client, &net.server].map(Capture::start);

        let arriving = Ipv6::new(SERVER6, CLIENT, UDP, udp_without_checksum(PORTS, &[0; 2]));
        let data = (!arriving.transport_sum()).to_be_bytes();
        send4(
            &net.server,
            &Ipv4::new(SERVER, CLIENT4, UDP, udp(SERVER, CLIENT4, PORTS, &data)),
        );
        let packet = at_client.ipv6("the packet", |packet| {
            packet.next_header == UDP && packet.source.to_string() == SERVER6
        });
        assert_eq!(packet.payload[6..], [0xff, 0xff, data[0], data[1]]);

        let arriving = Ipv4::new(CLIENT4, SERVER, UDP, udp_without_checksum(PORTS, &[0; 2]));
        let data = (!arriving.transport_sum()).to_be_bytes();
        send6(
            &net.client,
            &Ipv6::new(CLIENT, SERVER6, UDP, udp(CLIENT, SERVER6, PORTS, &data)),
        );
        let packet = at_server.ipv4("the packet", |packet| {
            packet.protocol == UDP && packet.source.to_string() == CLIENT4
        });
        assert_eq!(packet.payload[6..], [0xff, 0xff, data[0], data[1]]);
    });
}

/// RFC 7915 section 4.5 (X46-36, X64-25): without a checksum, and without leave to do otherwise, a
/// packet is dropped.
#[test]
fn udp_without_checksum_is_dropped() {
    case(|net| {
        let _daemon = net.translate();
        assert_eq!(first_udp_at_client(net).payload[8..], *b"with");
        assert_eq!(first_udp_at_server(net).payload[8..], *b"with");
    });
}

/// `udp-cksum-mode forward`: it crosses as it is.
#[test]
fn udp_without_checksum_is_forwarded() {
    xlatd_case(|net| {
        let _daemon = net.translate_with(&format!("{CONFIG}udp-cksum-mode forward\n"));
        let without = udp_without_checksum(PORTS, b"without");
        assert_eq!(first_udp_at_client(net).payload, without);
        assert_eq!(first_udp_at_server(net).payload, without);
    });
}

/// `udp-cksum-mode calc`: it crosses with a checksum (RFC 7915 section 4.5).
#[test]
fn udp_without_checksum_gets_one() {
    xlatd_case(|net| {
        let _daemon = net.translate_with(&format!("{CONFIG}udp-cksum-mode calc\n"));
        assert_eq!(
            first_udp_at_client(net).payload,
            udp(SERVER6, CLIENT, PORTS, b"without")
        );
        assert_eq!(
            first_udp_at_server(net).payload,
            udp(CLIENT4, SERVER, PORTS, b"without")
        );
    });
}

/// RFC 7915 section 4.5 (X46-36, X46-37) asks for addresses and ports of what is dropped: a warning
/// has them, with what to do, and a flood has one. `calc` is no help for a fragment.
#[test]
fn udp_without_checksum_has_one_hint() {
    for (mode, is_fragment, help) in [
        ("drop", false, "\"udp-cksum-mode calc\""),
        ("drop", true, "\"udp-cksum-mode fwd\""),
        ("calc", true, "\"udp-cksum-mode fwd\""),
    ] {
        for from_v4 in [true, false] {
            xlatd_case(|net| {
                let mut daemon = net.translate_with(&format!("{CONFIG}udp-cksum-mode {mode}\n"));
                send_without_checksum(net, from_v4, is_fragment, 20);
                daemon.signal(Signal::SIGTERM);
                daemon.wait();
                let log = daemon.log();
                let hints: Vec<_> = log
                    .lines()
                    .filter(|line| line.contains("without a checksum (RFC"))
                    .collect();
                let [hint] = hints[..] else {
                    panic!("expected one hint, found {}: {log}", hints.len())
                };
                let way = if from_v4 {
                    format!("[v4] [{SERVER}]->[{CLIENT4}]")
                } else {
                    format!("[v6] [{CLIENT}]->[{SERVER6}]")
                };
                assert!(hint.contains(&way), "{hint}");
                assert!(hint.contains("(ports 4000->4001)"), "{hint}");
                assert!(hint.contains(help), "{hint}");
                assert_eq!(hint.matches("udp-cksum-mode").count(), 1, "{hint}");
                assert!(log.contains(": 20 dropped: "), "{log}");
            });
        }
    }
}

/// Sends `count` datagrams without a checksum, or first fragments of some, and waits until all of
/// them have been dropped: what is sent last has arrived.
fn send_without_checksum(net: &Net, from_v4: bool, is_fragment: bool, count: usize) {
    let datagram = udp_without_checksum(PORTS, &[0; 8]);
    if from_v4 {
        let at_client = Capture::start(&net.client);
        let mut packet = Ipv4::new(SERVER, CLIENT4, UDP, datagram);
        packet.fragment = if is_fragment { MF } else { 0 };
        for _ in 0..count {
            send4(&net.server, &packet);
        }
        let last = udp(SERVER, CLIENT4, OTHER_PORTS, b"with");
        send4(&net.server, &Ipv4::new(SERVER, CLIENT4, UDP, last));
        at_client.ipv6("the last datagram", |packet| {
            packet.next_header == UDP && packet.source.to_string() == SERVER6
        });
    } else {
        let at_server = Capture::start(&net.server);
        let packet = if is_fragment {
            let header = [UDP, 0, 0, 1, 0, 0, 0, 7];
            Ipv6::new(CLIENT, SERVER6, FRAGMENT, [&header, &datagram[..]].concat())
        } else {
            Ipv6::new(CLIENT, SERVER6, UDP, datagram)
        };
        for _ in 0..count {
            send6(&net.client, &packet);
        }
        let last = udp(CLIENT, SERVER6, OTHER_PORTS, b"with");
        send6(&net.client, &Ipv6::new(CLIENT, SERVER6, UDP, last));
        at_server.ipv4("the last datagram", |packet| {
            packet.protocol == UDP && packet.source.to_string() == CLIENT4
        });
    }
}

const PORTS: [u16; 2] = [4000, 4001];
/// Of another flow: packets of one may arrive as one.
const OTHER_PORTS: [u16; 2] = [4002, 4001];

/// The server sends a datagram without checksum and one with; returns the first that arrives.
fn first_udp_at_client(net: &Net) -> Ipv6 {
    let at_client = Capture::start(&net.client);
    let [without, with] = [
        udp_without_checksum(PORTS, b"without"),
        udp(SERVER, CLIENT4, OTHER_PORTS, b"with"),
    ];
    send4(&net.server, &Ipv4::new(SERVER, CLIENT4, UDP, without));
    send4(&net.server, &Ipv4::new(SERVER, CLIENT4, UDP, with));
    at_client.ipv6("a datagram", |packet| {
        packet.next_header == UDP && packet.source.to_string() == SERVER6
    })
}

/// The client sends a datagram without checksum and one with; returns the first that arrives.
fn first_udp_at_server(net: &Net) -> Ipv4 {
    let at_server = Capture::start(&net.server);
    let [without, with] = [
        udp_without_checksum(PORTS, b"without"),
        udp(CLIENT, SERVER6, OTHER_PORTS, b"with"),
    ];
    send6(&net.client, &Ipv6::new(CLIENT, SERVER6, UDP, without));
    send6(&net.client, &Ipv6::new(CLIENT, SERVER6, UDP, with));
    at_server.ipv4("a datagram", |packet| {
        packet.protocol == UDP && packet.source.to_string() == CLIENT4
    })
}
