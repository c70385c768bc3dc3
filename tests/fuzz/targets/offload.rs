//! Packets with work that the kernel has left to do: whatever a header says, nothing panics and
//! what goes out is whole; and a super-packet is translated as its segments are, one by one.
#![no_main]
#![allow(
    dead_code,
    unused_imports,
    reason = "what is shared with the properties is more than is needed here"
)]

mod worlds;
use worlds::{cases, given, icmp_errors, judge, plain};

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use libfuzzer_sys::fuzz_target;
use xlatd::{
    addr::{AddressMap, Eam, Nat64Prefix},
    translate::{Outcome, Packet, Settings, Translator},
    wire::virtio::HEADER_LEN,
};

fuzz_target!(|data: &[u8]| {
    let Some((shape, octets)) = data.split_first_chunk::<8>() else {
        return;
    };
    let Some(packet) = whole(shape, octets) else {
        // Any header.
        if data.len() >= HEADER_LEN {
            all_through([data]);
        }
        return;
    };
    let at_once = all_through([&packet]);
    let one_by_one = all_through(
        cut(&packet)
            .iter()
            .map(|segment| [&[0; HEADER_LEN][..], segment].concat()),
    );
    if at_once.is_empty() && one_by_one.is_empty() {
        return;
    }
    let at_once: Vec<_> = at_once.iter().flat_map(|packet| cut(packet)).collect();
    let one_by_one: Vec<_> = one_by_one.iter().flat_map(|packet| cut(packet)).collect();
    for packet in at_once.iter().chain(&one_by_one) {
        let ip = plain::read_made(packet).expect("a packet that can be read");
        assert!(
            ip.is_fragment() || plain::transport_residue(&ip).is_none_or(|residue| residue == 0)
        );
    }
    // One error for all of them is enough.
    if at_once.len() == 1 && plain::read(&at_once[0]).is_some_and(|ip| ip.is_icmp_error()) {
        let first = one_by_one.first().expect("an answer to the first");
        assert!(plain::read(first).is_some_and(|ip| ip.is_icmp_error()));
        return;
    }
    let comparable =
        |packets: Vec<Vec<u8>>| packets.into_iter().map(comparable).collect::<Vec<_>>();
    assert_eq!(comparable(at_once), comparable(one_by_one));
});

/// What one input leaves to the next: to make a translator, and to clear buffers for the longest
/// packets, takes longer than most inputs.
struct Room {
    translator: Translator,
    /// The packet that is sent, a segment that is sent through again, and so on.
    packets: [Packet; 3],
    /// A fragment or a segment of one of them.
    piece: Packet,
    now: Instant,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::new(Room {
        translator: translator(),
        packets: [Packet::new(), Packet::new(), Packet::new()],
        piece: Packet::new(),
        now: Instant::now(),
    });
}

fn translator() -> Translator {
    let prefix = Nat64Prefix::new("2001:db8:64::/96".parse().unwrap()).unwrap();
    let own_v6 = "2001:db8::46".parse().unwrap();
    let mut map = AddressMap::new([192, 0, 2, 46].into(), own_v6, Some(prefix), false);
    let host = Eam::new("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
    map.insert(host.unwrap()).unwrap();
    Translator::new(Settings::default(), map, 1)
}

/// What becomes of packets with their headers, each again with its header.
fn all_through<P: AsRef<[u8]>>(packets: impl IntoIterator<Item = P>) -> Vec<Vec<u8>> {
    ROOM.with_borrow_mut(|room| {
        room.now += Duration::from_secs(2); // all limits of messages are as at the start
        let packets = packets.into_iter();
        packets
            .flat_map(|packet| room.through(packet.as_ref(), 0))
            .collect()
    })
}

impl Room {
    /// What becomes of a packet with its header; segments are sent through again.
    fn through(&mut self, octets: &[u8], depth: usize) -> Vec<Vec<u8>> {
        let packet = self
            .packets
            .get_mut(depth)
            .expect("work that is done some time");
        let space = packet.read_buffer();
        let len = octets.len().min(space.len());
        space[..len].copy_from_slice(&octets[..len]);
        if packet.received(len).is_err() {
            return Vec::new();
        }
        let mut pieces = Vec::new();
        match self.translator.translate(packet, self.now) {
            Outcome::Forward | Outcome::Reply(_) => vec![packet.with_header().to_vec()],
            Outcome::Drop(_) | Outcome::HandOver => Vec::new(),
            Outcome::Fragments(mut fragments) => {
                while fragments.next(&mut self.piece) {
                    pieces.push(self.piece.with_header().to_vec());
                }
                pieces
            }
            Outcome::Segments(mut segments) => {
                while segments.next(&mut self.piece) {
                    pieces.push(self.piece.with_header().to_vec());
                }
                pieces
                    .iter()
                    .flat_map(|piece| self.through(piece, depth + 1))
                    .collect()
            }
        }
    }
}

/// A super-packet from one mapped host to another, with its header, of TCP or UDP: the transport
/// header is of the input, too, and so is what it has for payload. `None` if it would have nothing
/// to be cut.
fn whole(shape: &[u8; 8], octets: &[u8]) -> Option<Vec<u8>> {
    let [
        kind,
        size_high,
        size_low,
        tos,
        ttl,
        flags,
        length_high,
        length_low,
    ] = *shape;
    if kind & 0x80 != 0 {
        return None;
    }
    let (v6, udp) = (kind & 1 != 0, kind & 2 != 0);
    let size = u16::from_be_bytes([size_high, size_low]) % 2000 + 1;
    let header_len = if udp { 8 } else { 20 };
    if octets.len() < header_len {
        return None;
    }
    let mut transport = octets.to_vec();
    // As long as it is wanted to be: the input over and over. Long ones take long, and do little
    // that short ones do not: one in four is enough.
    let max = if kind & 0x18 == 0x18 { 40_000 } else { 3_000 };
    let length = usize::from(u16::from_be_bytes([length_high, length_low])) % max;
    while transport.len() < length.max(header_len + 1) {
        let more = transport
            .len()
            .min(length.max(header_len + 1) - transport.len());
        transport.extend_from_within(..more);
    }
    let segments = (transport.len() - header_len).div_ceil(size.into());
    if segments > 200 {
        return None;
    }
    let field = if udp {
        let len = transport.len() as u16;
        transport[4..6].copy_from_slice(&len.to_be_bytes());
        6
    } else {
        transport[12] = 5 << 4;
        16
    };
    let protocol: u8 = if udp { 17 } else { 6 };
    let mut packet = if v6 {
        let mut header = vec![0x60, 0, 0, 0, 0, 0, protocol, ttl.max(2)];
        header[0] |= tos >> 4;
        header[1] |= tos << 4;
        header[4..6].copy_from_slice(&(transport.len() as u16).to_be_bytes());
        header.extend(
            "2001:db8::1"
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .octets(),
        );
        header.extend(
            "2001:db8:64::198.51.100.7"
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .octets(),
        );
        header
    } else {
        let mut header = vec![
            0x45,
            tos,
            0,
            0,
            0,
            7,
            flags & 0x40,
            0,
            ttl.max(2),
            protocol,
            0,
            0,
        ];
        header[2..4].copy_from_slice(&(20 + transport.len() as u16).to_be_bytes());
        header.extend([198, 51, 100, 7, 192, 0, 2, 1]);
        plain::seal_v4_header(&mut header);
        header
    };
    let start = packet.len();
    // What is there already is the sum of the pseudo-header.
    let (source, destination) = addresses(&packet);
    let sum = fold(u32::from(!seed(
        source,
        destination,
        protocol,
        transport.len(),
    )));
    transport[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    packet.extend(&transport);
    let ecn = if kind & 4 != 0 && !udp { 0x80 } else { 0 };
    let gso = match (udp, v6) {
        (true, _) => 5,
        (false, false) => 1 | ecn,
        (false, true) => 4 | ecn,
    };
    let mut header = vec![1, gso];
    for word in [start + header_len, size.into(), start, field] {
        header.extend((word as u16).to_ne_bytes());
    }
    Some([header, packet].concat())
}

fn addresses(packet: &[u8]) -> (std::net::IpAddr, std::net::IpAddr) {
    let ip = plain::read(packet).expect("a header");
    (ip.source, ip.destination)
}

/// The checksum of a pseudo-header alone (RFC 9293 section 3.1, RFC 8200 section 8.1).
fn seed(source: std::net::IpAddr, destination: std::net::IpAddr, protocol: u8, len: usize) -> u16 {
    !fold(plain::addresses(source, destination) + u32::from(protocol) + len as u32)
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The packets that a kernel would send for one with its header, with whole checksums, in the
/// plainest way.
fn cut(with_header: &[u8]) -> Vec<Vec<u8>> {
    let (header, packet) = with_header.split_at(HEADER_LEN);
    let word = |at: usize| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
    if header[0] & 1 == 0 {
        assert_eq!(header[1], 0, "segments without a checksum");
        return vec![packet.to_vec()];
    }
    let (start, field) = (word(6), word(6) + word(8));
    let v6 = packet[0] >> 4 == 6;
    let protocol = if field - start == 6 { 17 } else { 6 };
    let headers = start
        + if protocol == 17 {
            8
        } else {
            usize::from(packet[start + 12] >> 4) * 4
        };
    let payload = &packet[headers..];
    let size = if header[1] == 0 {
        payload.len().max(1)
    } else {
        word(4)
    };
    let pieces: Vec<_> = match payload {
        [] => vec![payload],
        payload => payload.chunks(size).collect(),
    };
    let (source, destination) = addresses(packet);
    let count = pieces.len();
    let mut all = Vec::new();
    for (index, piece) in pieces.into_iter().enumerate() {
        let mut one = [&packet[..headers], piece].concat();
        let len = one.len();
        if v6 {
            one[4..6].copy_from_slice(&(len as u16 - 40).to_be_bytes());
        } else {
            one[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            let id = u16::from_be_bytes([one[4], one[5]]).wrapping_add(index as u16);
            one[4..6].copy_from_slice(&id.to_be_bytes());
            plain::seal_v4_header(&mut one[..start]);
        }
        let transport = &mut one[start..];
        if protocol == 17 {
            let len = transport.len() as u16;
            transport[4..6].copy_from_slice(&len.to_be_bytes());
        } else {
            let sequence =
                u32::from_be_bytes([transport[4], transport[5], transport[6], transport[7]]);
            let sequence = sequence.wrapping_add((index * size) as u32);
            transport[4..8].copy_from_slice(&sequence.to_be_bytes());
            if index + 1 < count {
                transport[13] &= !0x09;
            }
            if index > 0 && header[1] & 0x80 != 0 {
                transport[13] &= !0x80;
            }
        }
        plain::seal(source, destination, protocol, transport);
        all.push(one);
    }
    all
}

/// Without what is another each time, or may be: IPv4 identifications that are made up, and with
/// them header checksums; and whether a short packet may be fragmented (RFC 7915 section 5.1), as
/// the last segment has the flags of the others.
fn comparable(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        if packet.len() <= 1260 {
            packet[6] &= !0x40;
        }
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    } else if packet[6] == 44 {
        packet[44..48].fill(0);
    }
    // Of the two zeros of ones' complement either is right in TCP.
    let transport = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let is_tcp = packet[if transport == 20 { 9 } else { 6 }] == 6;
    if let Some(checksum) = packet
        .get_mut(transport + 16..transport + 18)
        .filter(|_| is_tcp)
        && *checksum == [0xff, 0xff]
    {
        checksum.fill(0);
    }
    packet
}
