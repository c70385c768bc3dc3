//! ICMP errors: what traceroute, refused ports and path MTU discovery live on.

use std::{io, net::UdpSocket, thread};

use nix::sys::socket::getsockopt;

use crate::{
    forward::{connect, listen},
    harness::{
        CLIENT, CLIENT4, CONFIG, Netns, SERVER, SERVER6, case, uninterrupted, wait_for, xlatd_case,
    },
    packet::{
        DESTINATION_OPTIONS, DF, FRAGMENT, FragmentHeader, ICMP, ICMPV6, Ipv4, Ipv6, TCP, UDP,
        icmp, icmpv6, pattern, udp,
    },
    socket::{Capture, Fragmentation, Ipv4Mtu, Ipv6Mtu, send4, send6, udp_socket},
    tshark,
};

/// Every router on the way shows up, those beyond the translator by their IPv4 addresses in the
/// prefix (RFC 7915 sections 4.2 and 4.3), the translator by `ipv6-addr`.
#[test]
fn traceroute_from_client() {
    case(|net| {
        let _daemon = net.translate();
        let hops = [
            "2001:db8:6::1",
            "2001:db8:60::1",
            "2001:db8:ffff::1",
            "2001:db8:64::c633:6401",
            "2001:db8:64::c633:6402",
            SERVER6,
        ];
        assert_eq!(traceroute(&net.client, "-U", SERVER6), hops, "UDP");
        assert_eq!(traceroute(&net.client, "-I", SERVER6), hops, "ICMP");
        assert_eq!(traceroute(&net.client, "-T", SERVER6), hops, "TCP");
    });
}

/// Every router on the way shows up, those beyond the translator by their mapped IPv4 addresses
/// (RFC 7915 sections 5.2 and 5.3), the translator by `ipv4-addr`.
#[test]
fn traceroute_from_server() {
    case(|net| {
        let _daemon = net.translate();
        let hops = [
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "203.0.113.60",
            "203.0.113.6",
            CLIENT4,
        ];
        assert_eq!(traceroute(&net.server, "-U", CLIENT4), hops, "UDP");
        assert_eq!(traceroute(&net.server, "-I", CLIENT4), hops, "ICMP");
        assert_eq!(traceroute(&net.server, "-T", CLIENT4), hops, "TCP");
    });
}

/// A router that has no IPv4 address is shown as the translator's own, not left out (RFC 6791,
/// I91-01, I91-02).
#[test]
fn traceroute_over_routers_without_mapping() {
    case(|net| {
        let _daemon = net.translate_with(&without_routers());
        assert_eq!(
            traceroute(&net.server, "-U", CLIENT4),
            [
                "192.0.2.1",
                "198.51.100.1",
                "203.0.113.1",
                "203.0.113.1",
                "203.0.113.1",
                CLIENT4
            ]
        );
    });
}

/// traceroute on the IPv4 side can tell which router it was all the same, and so can anybody who
/// sees the packets (draft-ietf-v6ops-icmpext-xlat-v6only-source, I91-05, I91-06).
#[test]
fn traceroute_names_routers_without_mapping() {
    xlatd_case(|net| {
        let _daemon = net.translate_with(&(without_routers() + "icmp-source 192.0.0.8\n"));
        let at_server = Capture::start(&net.server);
        assert_eq!(
            extensions(&net.server, CLIENT4),
            [
                "192.0.2.1",
                "198.51.100.1",
                "203.0.113.1",
                "192.0.0.8 <5/4:00020000,20010db8,00600000,00000000,00000001>",
                "192.0.0.8 <5/4:00020000,20010db8,00600000,00000000,00000002>",
                CLIENT4,
            ]
        );
        for router in ["2001:db8:60::1", "2001:db8:60::2"] {
            let error = at_server.ipv4("an error", |packet| {
                packet.source.octets() == [192, 0, 0, 8] && packet.payload[..2] == [11, 0]
            });
            names_node(&error, router);
        }
        // RFC 4884 section 4.1: the MTU is where it always is, and the kernel takes it from there.
        net.gate6.ip("link set client mtu 1400");
        let socket = udp_socket(&net.server, SERVER, 0, Fragmentation::Forbidden);
        socket.connect((CLIENT4, 9)).unwrap();
        wait_for("a path MTU of 1380", || {
            let _ = socket.send(&[0; 1440]);
            (getsockopt(&socket, Ipv4Mtu) == Ok(1380)).then_some(())
        });
        let error = at_server.ipv4("an error", |packet| packet.payload[..2] == [3, 4]);
        names_node(&error, "2001:db8:60::2");
        assert_eq!(error.payload[6..8], 1380u16.to_be_bytes());
    });
}

/// The configuration without IPv4 addresses of routers.
fn without_routers() -> String {
    let is_kept = |line: &&str| !line.contains("2001:db8:60::");
    CONFIG
        .lines()
        .filter(is_kept)
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// As tshark sees it, an ICMP error has right checksums and, behind 128 octets or more of the
/// packet that it quotes, one object: Node Identification (5) with an IP address (4). tshark of
/// Debian 12 does not know what is in it, but does know the same sub-object in Interface
/// Information (2).
pub(crate) fn names_node(error: &Ipv4, address: &str) {
    const FIELDS: [&str; 7] = [
        "icmp.checksum.status",
        "icmp.ext.checksum.status",
        "icmp.ext.class",
        "icmp.ext.ctype",
        "icmp.ext.length",
        "icmp.int_info.afi",
        "icmp.int_info.ipv6",
    ];
    let object = error.payload.len() - 24;
    let quoted_len = usize::from(error.payload[5]) * 4;
    assert!(quoted_len >= 128 && 8 + quoted_len + 4 == object);
    assert!(20 + error.payload.len() <= 576);
    assert_eq!(
        tshark::fields(error, &FIELDS)[..5],
        ["1", "1", "5", "4", "24"]
    );

    let mut known = error.clone();
    // The checksum is behind the same number of octets, so that of the message stays right.
    known.payload[object + 2] -= 3;
    let checksum = &mut known.payload[object - 2..object];
    let word = u16::from_be_bytes([checksum[0], checksum[1]]);
    let (word, carry) = word.overflowing_add(0x0300);
    checksum.copy_from_slice(&(word + u16::from(carry)).to_be_bytes());
    assert_eq!(
        tshark::fields(&known, &FIELDS),
        ["1", "1", "2", "4", "24", "2", address]
    );
}

/// RFC 7915 section 4.2 (X46-21): 3/3 becomes 1/4, quoting what the client sent, so that its socket
/// hears of it.
#[test]
fn closed_port_refuses_the_client() {
    case(|net| {
        let _daemon = net.translate();
        let socket = udp_socket(&net.client, CLIENT, 0, Fragmentation::Allowed);
        socket.connect((SERVER6, 9)).unwrap();
        is_refused(&socket);
    });
}

/// RFC 7915 section 5.2 (X64-16): 1/4 becomes 3/3, quoting what the server sent, so that its socket
/// hears of it.
#[test]
fn closed_port_refuses_the_server() {
    case(|net| {
        let _daemon = net.translate();
        let socket = udp_socket(&net.server, SERVER, 0, Fragmentation::Allowed);
        socket.connect((CLIENT4, 9)).unwrap();
        is_refused(&socket);
    });
}

/// RFC 7915 section 4.2 (X46-23): a narrow IPv4 link makes the client send smaller packets, 20
/// octets above its MTU.
#[test]
fn path_mtu_beyond_the_translator_reaches_the_client() {
    case(|net| {
        let _daemon = net.translate();
        net.gate4.ip("link set server mtu 1300");
        let socket = udp_socket(&net.client, CLIENT, 0, Fragmentation::Forbidden);
        socket.connect((SERVER6, 9)).unwrap();
        wait_for("a path MTU of 1320", || {
            let _ = socket.send(&[0; 1400]);
            (getsockopt(&socket, Ipv6Mtu) == Ok(1320)).then_some(())
        });
        tcp_crosses(&net.client, SERVER6, &net.server, SERVER);
    });
}

/// RFC 7915 section 5.2 (X64-17): a narrow IPv6 link makes the server send smaller packets, 20
/// octets below its MTU.
#[test]
fn path_mtu_beyond_the_translator_reaches_the_server() {
    case(|net| {
        let _daemon = net.translate();
        net.gate6.ip("link set client mtu 1400");
        let socket = udp_socket(&net.server, SERVER, 0, Fragmentation::Forbidden);
        socket.connect((CLIENT4, 9)).unwrap();
        wait_for("a path MTU of 1380", || {
            let _ = socket.send(&[0; 1440]);
            (getsockopt(&socket, Ipv4Mtu) == Ok(1380)).then_some(())
        });
        tcp_crosses(&net.server, CLIENT4, &net.client, CLIENT);
    });
}

/// RFC 7915 sections 4.2 and 5.1 (X46-23, X64-03): IPv6 knows no path MTU below 1280, so the client
/// stops there, and what it sends may be fragmented by IPv4 routers.
#[test]
fn path_mtu_below_1280_is_bridged_by_fragments() {
    case(|net| {
        let _daemon = net.translate();
        net.gate4.ip("link set server mtu 700");
        tcp_crosses(&net.client, SERVER6, &net.server, SERVER);
    });
}

/// RFC 7915 section 4.3 (X46-33) and RFC 792: routers need quote no more than 8 octets of TCP; path
/// MTU discovery depends on such a message.
#[test]
fn frag_needed_quoting_8_octets_of_tcp_reaches_the_client() {
    case(|net| {
        let _daemon = net.translate();
        let at_client = Capture::start(&net.client);
        let mut quoted = Ipv4::new(CLIENT4, SERVER, TCP, pattern(1460));
        quoted.fragment = DF;
        let message = icmp(3, 4, [0, 0, 5, 20], &quoted.octets()[..28]); // an MTU of 1300
        send4(
            &net.gate4,
            &Ipv4::new("198.51.100.2", CLIENT4, ICMP, message),
        );

        let packet = at_client.ipv6("Packet Too Big", |packet| {
            packet.payload.first() == Some(&2)
        });
        assert_eq!(packet.source.to_string(), "2001:db8:64::c633:6402");
        assert_eq!(packet.transport_sum(), 0xffff);
        assert_eq!(packet.payload[4..8], 1320u32.to_be_bytes());
        let inner = &packet.payload[8..];
        assert_eq!(
            inner[8..24],
            CLIENT.parse::<std::net::Ipv6Addr>().unwrap().octets()
        );
        assert_eq!(
            inner[24..40],
            SERVER6.parse::<std::net::Ipv6Addr>().unwrap().octets()
        );
        assert_eq!(inner[40..], pattern(1460)[..8], "ports and sequence number");
    });
}

/// RFC 7915 section 5.3: the mirror image; RFC 4443 asks routers to quote more, but nothing needs
/// it.
#[test]
fn packet_too_big_quoting_8_octets_of_tcp_reaches_the_server() {
    case(|net| {
        let _daemon = net.translate();
        let at_server = Capture::start(&net.server);
        let quoted = Ipv6::new(SERVER6, CLIENT, TCP, pattern(1440));
        let message = icmpv6(
            "2001:db8:60::2",
            SERVER6,
            2,
            0,
            [0, 0, 5, 120],
            &quoted.octets()[..48],
        ); // 1400
        send6(
            &net.gate6,
            &Ipv6::new("2001:db8:60::2", SERVER6, ICMPV6, message),
        );

        let packet = at_server.ipv4("fragmentation needed", |packet| {
            packet.payload.starts_with(&[3, 4])
        });
        assert_eq!(packet.source.to_string(), "203.0.113.6");
        assert_eq!(packet.transport_sum(), 0xffff);
        assert_eq!(packet.payload[6..8], 1380u16.to_be_bytes());
        let inner = &packet.payload[8..];
        assert_eq!(inner[12..16], [192, 0, 2, 2]);
        assert_eq!(inner[16..20], [203, 0, 113, 10]);
        assert_eq!(inner[20..], pattern(1440)[..8], "ports and sequence number");
    });
}

/// RFC 7915 section 5.3 (X64-22): only an ICMP error may not be quoted by an ICMP error; an Echo
/// Reply may.
#[test]
fn error_about_an_echo_reply_reaches_the_server() {
    case(|net| {
        let _daemon = net.translate();
        let at_server = Capture::start(&net.server);
        let reply = icmpv6(SERVER6, CLIENT, 129, 0, [0, 7, 0, 1], &pattern(32));
        let quoted = Ipv6::new(SERVER6, CLIENT, ICMPV6, reply);
        let message = icmpv6("2001:db8:60::2", SERVER6, 3, 0, [0; 4], &quoted.octets());
        send6(
            &net.gate6,
            &Ipv6::new("2001:db8:60::2", SERVER6, ICMPV6, message),
        );

        let packet = at_server.ipv4("Time Exceeded", |packet| {
            packet.payload.starts_with(&[11, 0])
        });
        assert_eq!(packet.source.to_string(), "203.0.113.6");
        assert_eq!(packet.payload[28], 0, "the quoted message is an Echo Reply");
    });
}

/// RFC 7915 section 4.1 (X46-10): a packet with a source route that has not expired is discarded,
/// and the sender told "source route failed".
#[test]
fn source_route_is_refused() {
    case(|net| {
        let _daemon = net.translate();
        let at_server = Capture::start(&net.server);
        let mut packet = Ipv4::new(
            SERVER,
            CLIENT4,
            UDP,
            udp(SERVER, CLIENT4, [4000, 4001], b"routed"),
        );
        // Loose source route, its pointer at the only address.
        packet.options = vec![131, 7, 4, 203, 0, 113, 6, 0];
        // The kernel forwards no source routes by default: the packet starts at the last router.
        send4(&net.xlat, &packet);
        let packet = at_server.ipv4("an ICMP error", |packet| packet.protocol == ICMP);
        assert_eq!(packet.payload[..2], [3, 5]);
        assert_eq!(packet.source.to_string(), "203.0.113.1");
    });
}

/// RFC 7915 section 5.1.1 (X64-11, X64-23): an extension header behind the Fragment header has no
/// place in IPv4.
#[test]
fn extension_header_behind_the_fragment_header_is_refused() {
    case(|net| {
        let _daemon = net.translate();
        let at_client = Capture::start(&net.client);
        // Destination Options that hold nothing but padding.
        let mut behind = vec![UDP, 0, 1, 4, 0, 0, 0, 0];
        behind.extend(udp(CLIENT, SERVER6, [4000, 4001], &pattern(64)));
        let header = FragmentHeader {
            next_header: DESTINATION_OPTIONS,
            offset: 0,
            more: true,
            identification: 7,
        };
        send6(
            &net.client,
            &Ipv6::new(CLIENT, SERVER6, FRAGMENT, header.before(&behind)),
        );
        let packet = at_client.ipv6("an ICMPv6 error", |packet| {
            packet.next_header == ICMPV6 && packet.payload[0] < 128
        });
        assert_eq!(packet.payload[..2], [1, 1]);
    });
}

/// RFC 1812 section 4.3.2.7 (G-09): no ICMP error is sent about a fragment other than the first.
#[test]
fn no_error_about_a_later_fragment() {
    case(|net| {
        let _daemon = net.translate();
        let at_server = Capture::start(&net.server);
        let data = udp(SERVER, CLIENT4, [4000, 4001], &pattern(64));
        let mut expires = Ipv4::new(SERVER, CLIENT4, UDP, data);
        expires.ttl = 3; // at the translator
        let later = Ipv4 {
            fragment: 185,
            identification: 11,
            ..expires.clone()
        };
        send4(&net.server, &later);
        send4(
            &net.server,
            &Ipv4 {
                identification: 12,
                ..expires
            },
        );
        let packet = at_server.ipv4("Time Exceeded", |packet| packet.protocol == ICMP);
        assert_eq!(packet.payload[..2], [11, 0]);
        assert_eq!(packet.payload[12..14], [0, 12], "the one that is quoted");
    });
}

/// The addresses that traceroute(8) prints, hop by hop; `*` where there was no answer.
///
/// It runs again if there was none from the end of the path. By TCP and ICMP it has one raw socket;
/// where the kernel reports an error just while traceroute takes the one before, the socket is in
/// error ever after, and what else arrives is never read. Without a translator that came in 17 of
/// 5,600 runs over routers that answer on another processor; traceroute is busy all the while.
fn traceroute(ns: &Netns, method: &str, to: &str) -> Vec<String> {
    let run = || -> Vec<String> {
        let output = ns.run(&format!("traceroute -n -q 1 -N 1 -w 10 -m 8 {method} {to}"));
        let hops = output.lines().skip(1);
        hops.map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
            .collect()
    };
    let hops = run();
    match hops.last() {
        Some(last) if last == "*" => run(),
        _ => hops,
    }
}

/// The addresses that traceroute(8) prints, hop by hop, with the extensions that it has seen.
pub(crate) fn extensions(ns: &Netns, to: &str) -> Vec<String> {
    let output = ns.run(&format!("traceroute -e -n -q 1 -N 1 -w 10 -m 8 {to}"));
    let hops = output.lines().skip(1).map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let address = words.next().unwrap();
        match words.next() {
            Some(extension) if extension.starts_with('<') => format!("{address} {extension}"),
            _ => address.to_owned(),
        }
    });
    hops.collect()
}

/// An empty port answers what is sent there with an ICMP error, which the kernel hands to the
/// socket.
fn is_refused(socket: &UdpSocket) {
    socket.send(b"anybody there?").unwrap();
    let error = uninterrupted(|| socket.recv(&mut [0; 16])).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
}

/// 1 MiB over a TCP connection.
fn tcp_crosses(from: &Netns, to: &str, listening: &Netns, at: &str) {
    let listener = listen(listening, at);
    let [mut sender, mut receiver] = connect(from, to, &listener);
    let data = pattern(1 << 20);
    let mut arrived = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            io::copy(&mut data.as_slice(), &mut sender).unwrap();
            drop(sender);
        });
        io::copy(&mut receiver, &mut arrived).unwrap();
    });
    assert!(arrived == data, "the data has changed on its way");
}
