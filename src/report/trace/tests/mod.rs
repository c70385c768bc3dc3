//! What a trace shows, from a packet to what a client reads.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use super::{Blocks, Captured, Filter, MAX_QUEUED, Recorder};
use crate::{
    addr::{AddressMap, Nat64Prefix},
    translate::{Outcome, Packet, Settings, Translator},
    wire::{
        ipv4::{self, Ipv4Packet},
        virtio::HEADER_LEN,
    },
};

const TIME: Duration = Duration::from_secs(1_700_000_000);

struct Rig {
    translator: Translator,
    recorder: Recorder,
    blocks: Blocks,
    now: Instant,
}

impl Rig {
    /// The client 2001:db8:6::9 is 203.0.113.9; the MTU is 1280.
    fn new(filter: &str) -> Self {
        let prefix = Nat64Prefix::new("2001:db8:64::/96".parse().unwrap()).unwrap();
        let own = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let mut map = AddressMap::new(own.0, own.1, Some(prefix), true);
        let client = (
            "203.0.113.9".parse().unwrap(),
            "2001:db8:6::9".parse().unwrap(),
        );
        let client = crate::addr::Eam::new(client.0, client.1).unwrap();
        map.insert(client).unwrap();
        let settings = Settings {
            mtu: 1280,
            ..Settings::default()
        };
        let now = Instant::now();
        let filter = Filter::parse(filter.split_whitespace()).unwrap();
        let mut recorder = Recorder::new("nat64", filter, now);
        recorder.set_time(now, TIME);
        Self {
            translator: Translator::new(settings, map, 1),
            recorder,
            blocks: Blocks::default(),
            now,
        }
    }

    /// Passes a packet as the packet path does.
    fn pass(&mut self, packet: &mut Packet) {
        let (mut segment, mut fragment) = (Packet::new(), Packet::new());
        let Self {
            translator,
            recorder,
            now,
            ..
        } = self;
        recorder.came(packet);
        let outcome = translator.translate(packet, *now);
        if let Outcome::Segments(mut segments) = outcome {
            while segments.next(&mut segment) {
                recorder.segment(&segment);
                let outcome = translator.translate(&mut segment, *now);
                if !go_out(recorder, outcome, &mut fragment) {
                    recorder.went(&segment);
                }
            }
        } else if !go_out(recorder, outcome, &mut fragment) {
            recorder.went(packet);
        }
    }

    fn pass_all(&mut self, packets: &[&[u8]]) {
        let mut packet = Packet::new();
        for octets in packets {
            packet.replace(octets);
            self.pass(&mut packet);
        }
    }

    /// What a client reads now.
    fn read(&mut self) -> Vec<Captured> {
        let mut packets = Vec::new();
        while !self.recorder.queue().is_empty() {
            let queue = self.recorder.queue();
            self.blocks.push(queue.front());
            let len = queue.front().len();
            queue.taken(len);
        }
        while let Some(block) = self.blocks.next_block().unwrap() {
            packets.extend(block.packet);
        }
        packets
    }

    /// Interfaces and comments.
    fn lines(&mut self) -> Vec<String> {
        let line = |packet: Captured| format!("{}: {}", packet.interface, packet.comment);
        self.read().into_iter().map(line).collect()
    }
}

/// Returns whether the outcome is all that goes out, if anything does.
fn go_out(recorder: &mut Recorder, outcome: Outcome<'_>, fragment: &mut Packet) -> bool {
    if let Outcome::Forward = outcome {
        return false;
    }
    recorder.decided(&outcome);
    match outcome {
        Outcome::Fragments(mut fragments) => {
            while fragments.next(fragment) {
                recorder.went(fragment);
            }
            true
        }
        outcome => matches!(outcome, Outcome::Drop(_)),
    }
}

/// UDP from 192.0.2.7 to 203.0.113.9, with a checksum that nobody looks at.
fn udp(ttl: u8, port: u16, payload: usize) -> Vec<u8> {
    let len = 28 + payload;
    let mut packet = vec![0x45, 0];
    packet.extend((len as u16).to_be_bytes());
    packet.extend([0, 0, 0, 0, ttl, 17, 0, 0, 192, 0, 2, 7, 203, 0, 113, 9]);
    packet.extend(1024_u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend(((8 + payload) as u16).to_be_bytes());
    packet.extend([1, 1]);
    packet.resize(len, b'x');
    ipv4::put_len(&mut packet, 0);
    packet
}

/// UDP from a host that is not mapped.
fn from_nowhere() -> Vec<u8> {
    let udp = [4, 0, 0, 53, 0, 8, 1, 1];
    let mut packet = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
    for address in ["2001:db8:7::1", "2001:db8:64::c000:207"] {
        packet.extend(address.parse::<Ipv6Addr>().unwrap().octets());
    }
    packet.extend(udp);
    packet
}

#[test]
fn a_packet_is_shown_as_it_came_and_as_it_goes() {
    let mut rig = Rig::new("");
    let packet = udp(64, 53, 5);
    rig.pass_all(&[&packet, &packet]);
    let shown = rig.read();
    let comments: Vec<_> = shown.iter().map(|packet| &*packet.comment).collect();
    let expected = [
        "packet 1",
        "translation of packet 1",
        "packet 3",
        "translation of packet 3",
    ];
    assert_eq!(comments, expected);
    assert_eq!(shown[0].octets, packet);
    assert_eq!(
        (shown[1].octets[0] >> 4, shown[1].octets.len()),
        (6, packet.len() + 20)
    );
    assert_eq!(shown[0].interface, "nat64 in");
    assert_eq!(shown[1].interface, "nat64 out");
    assert!(shown.iter().all(|packet| packet.time == TIME));
}

/// Of what is dropped, the rule is named: RFC 7915 section 4.1 has the TTL, and RFC 7757 what
/// is not mapped.
#[test]
fn what_is_dropped_says_why() {
    let mut rig = Rig::new("");
    let mut martian = udp(64, 53, 1);
    martian[12] = 127;
    ipv4::put_len(&mut martian, 0);
    rig.pass_all(&[&udp(1, 53, 1), &from_nowhere(), &martian, &[0x10, 1, 2]]);
    let expected = [
        "nat64 in: packet 1; dropped: TTL or hop limit expired (RFC 7915 section 4.1)",
        "nat64 out: ICMP error about packet 1: TTL or hop limit expired (RFC 7915 section 4.1)",
        "nat64 in: packet 3; dropped: no mapping for the source (RFC 7757 section 3.3.2)",
        "nat64 out: ICMP error about packet 3: no mapping for the source (RFC 7757 section \
         3.3.2)",
        "nat64 in: packet 5; dropped: multicast, loopback, link-local or another address that \
         is not forwarded (RFC 7915 section 4.1)",
    ];
    let lines = rig.lines();
    assert_eq!(lines[..5], expected);
    assert!(
        lines[5].starts_with("nat64 in: packet 6; dropped: "),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 6);
}

#[test]
fn fragments_are_counted() {
    let mut rig = Rig::new("port 53");
    rig.pass_all(&[&udp(64, 53, 2000)]);
    let expected = [
        "nat64 in: packet 1",
        "nat64 out: fragment 1 of packet 1",
        // It has no ports, and belongs to what has.
        "nat64 out: fragment 2 of packet 1",
    ];
    assert_eq!(rig.lines(), expected);
}

/// A packet and what becomes of it belong together: one of them passes the filter.
#[test]
fn a_filter_shows_both_sides_or_none() {
    let (passes, expires) = (udp(64, 53, 1), udp(1, 54, 1));
    let mut echo = udp(64, 0, 0);
    echo[9] = 1;
    echo[16..20].copy_from_slice(&[192, 0, 2, 1]);
    echo[20..28].copy_from_slice(&[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    ipv4::put_len(&mut echo, 0);
    let all: [&[u8]; 4] = [&passes, &expires, &from_nowhere(), &echo];
    for (filter, expected) in [
        (
            "host 2001:db8:6::9",
            &["packet 1", "translation of packet 1"][..],
        ),
        ("host 2001:db8:6::/48 port 54", &[]),
        (
            "port 54",
            &["packet 1; dropped", "ICMP error about packet 1"],
        ),
        // The ICMP errors, and the echo.
        (
            "proto icmp",
            &[
                "packet 1; dropped",
                "ICMP error about packet 1",
                "packet 3; dropped",
                "ICMP error about packet 3",
                "packet 5",
                "echo reply to packet 5",
            ],
        ),
        (
            "family 6",
            &["packet 1; dropped", "ICMP error about packet 1"],
        ),
        (
            "family 4 port 54 dropped",
            &["packet 1; dropped", "ICMP error about packet 1"],
        ),
        (
            "port 53 dropped",
            &["packet 1; dropped", "ICMP error about packet 1"],
        ),
        ("proto tcp", &[]),
    ] {
        let mut rig = Rig::new(filter);
        rig.pass_all(&all);
        let shown = rig.read();
        let comments = shown.iter().map(|packet| &*packet.comment);
        let comments: Vec<_> = comments
            .map(|text| text.split(": ").next().unwrap())
            .collect();
        assert_eq!(comments, expected, "{filter}");
    }
}

/// A UDP super-packet, as the kernel passes it.
fn super_packet(size: u16, payload: usize) -> Packet {
    let octets = udp(64, 53, payload);
    let mut packet = Packet::new();
    let buffer = packet.read_buffer();
    // virtio_net_hdr: NEEDS_CSUM, GSO_UDP_L4, headers, gso_size, csum_start, csum_offset.
    buffer[..HEADER_LEN].fill(0);
    (buffer[0], buffer[1]) = (1, 5);
    buffer[2..4].copy_from_slice(&28_u16.to_le_bytes());
    buffer[4..6].copy_from_slice(&size.to_le_bytes());
    buffer[6..8].copy_from_slice(&20_u16.to_le_bytes());
    buffer[8..10].copy_from_slice(&6_u16.to_le_bytes());
    buffer[HEADER_LEN..HEADER_LEN + octets.len()].copy_from_slice(&octets);
    packet.received(HEADER_LEN + octets.len()).unwrap();
    packet
}

#[test]
fn super_packets_are_shown_whole() {
    let mut rig = Rig::new("");
    let mut packet = super_packet(300, 1000);
    assert!(Ipv4Packet::parse(packet.bytes()).is_ok());
    rig.pass(&mut packet);
    let expected = [
        "nat64 in: packet 1; super-packet of 4 segments of 300 octets",
        "nat64 out: translation of packet 1; super-packet of 4 segments of 300 octets",
    ];
    assert_eq!(rig.lines(), expected);
}

/// Segments that do not fit are cut in software, and each is fragmented: what goes out is said to
/// be of the packet that came.
#[test]
fn segments_belong_to_their_super_packet() {
    let mut rig = Rig::new("");
    rig.pass(&mut super_packet(1260, 2400));
    let expected = [
        "nat64 in: packet 1; super-packet of 2 segments of 1260 octets; cut into its segments",
        "nat64 out: fragment 1 of segment 1 of packet 1",
        "nat64 out: fragment 2 of segment 1 of packet 1",
        "nat64 out: translation of segment 2 of packet 1",
    ];
    assert_eq!(rig.lines(), expected);
}

/// A client that does not read gets no more than fits, and is told what is missing.
#[test]
fn what_does_not_fit_is_left_out_and_counted() {
    let mut rig = Rig::new("");
    let packet = udp(64, 53, 1200);
    for _ in 0..3000 {
        rig.pass_all(&[&packet]);
    }
    assert!(rig.recorder.queue().room() < MAX_QUEUED / 100);
    let shown = rig.read();
    let pairs = shown.len() / 2;
    assert!((370..430).contains(&pairs), "{pairs}");
    assert!(shown.len().is_multiple_of(2));
    rig.pass_all(&[&packet]);
    let number = shown.len() + 1;
    let left_out = 3000 - pairs;
    let expected = [
        format!("nat64 in: packet {number}; {left_out} packets were left out before this one"),
        format!("nat64 out: translation of packet {number}"),
    ];
    assert_eq!(rig.lines(), expected);
}

/// However fast a client reads: 10,000 packets and 50 Mbit a second, of those that are asked
/// for.
#[test]
fn a_flood_is_shown_in_part() {
    let small = udp(64, 53, 1);
    let big = udp(64, 53, 1200);
    for (filter, packet, asked_for) in [
        ("", &small, 10_000),
        ("", &big, 6_250_000 / (2 * 1228)),
        ("port 54", &small, 0),
    ] {
        let mut rig = Rig::new(filter);
        let mut shown = 0;
        for _ in 0..11_000 {
            rig.pass_all(&[packet]);
            shown += rig.read().len() / 2;
        }
        assert_eq!(shown, asked_for, "{filter}");
        let (now, time) = (
            rig.now + Duration::from_secs(1),
            TIME + Duration::from_secs(1),
        );
        rig.recorder.set_time(now, time);
        rig.pass_all(&[packet]);
        assert_eq!(
            rig.read().len(),
            if asked_for > 0 { 2 } else { 0 },
            "{filter}"
        );
    }
}
