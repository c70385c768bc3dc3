//! A reader of packets and a checksum, both plain: what the library says about itself is not asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::{prop_assert, prop_assert_eq, test_runner::TestCaseError};

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const DCCP: u8 = 33;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const UDP_LITE: u8 = 136;

/// A result, or how it breaks a rule.
pub(crate) type Checked<T> = Result<T, TestCaseError>;

/// A packet, as far as it could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ip {
    pub(crate) tos: u8,
    pub(crate) flow_label: u32,
    pub(crate) ttl: u8,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Of IPv4, or of the Fragment header.
    pub(crate) id: u32,
    pub(crate) dont_fragment: bool,
    /// Whether an IPv6 packet has a Fragment header.
    pub(crate) fragment_header: bool,
    pub(crate) offset: usize,
    pub(crate) more: bool,
    /// Of what follows all headers that are skipped: 0, 43, 60 and the Fragment header in IPv6.
    pub(crate) protocol: u8,
    /// Length of all headers before the payload.
    pub(crate) header_len: usize,
    /// Length of the payload as the header says; there may be less of it in a quoted packet.
    pub(crate) stated_len: usize,
    pub(crate) payload: Vec<u8>,
}

impl Ip {
    pub(crate) fn is_v6(&self) -> bool {
        self.source.is_ipv6()
    }

    pub(crate) fn is_fragment(&self) -> bool {
        self.offset != 0 || self.more
    }

    /// Length of the whole packet as the headers say.
    pub(crate) fn total_len(&self) -> usize {
        self.header_len + self.stated_len
    }

    pub(crate) fn is_icmp(&self) -> bool {
        self.protocol == if self.is_v6() { ICMPV6 } else { ICMP }
    }

    /// Whether it is an ICMP error of the types that are translated. Fragments of ICMP have no
    /// type.
    pub(crate) fn is_icmp_error(&self) -> bool {
        self.is_icmp()
            && !self.is_fragment()
            && self.payload.first().is_some_and(|kind| {
                if self.is_v6() {
                    (1..=4).contains(kind)
                } else {
                    [3, 11, 12].contains(kind)
                }
            })
    }
}

/// Reads a packet, or as much of one as an ICMP error quotes. `None` where the headers are not all
/// there.
pub(crate) fn read(octets: &[u8]) -> Option<Ip> {
    match octets.first()? >> 4 {
        4 => read_v4(octets),
        6 => read_v6(octets),
        _ => None,
    }
}

fn read_v4(octets: &[u8]) -> Option<Ip> {
    let header_len = usize::from(octets[0] & 15) * 4;
    let header = octets.get(..header_len)?;
    if header_len < 20 {
        return None;
    }
    let total_len = usize::from(u16_at(header, 2));
    let stated_len = total_len.checked_sub(header_len)?;
    let flags = u16_at(header, 6);
    let payload = &octets[header_len..];
    Some(Ip {
        tos: header[1],
        flow_label: 0,
        ttl: header[8],
        source: Ipv4Addr::from(<[u8; 4]>::try_from(&header[12..16]).ok()?).into(),
        destination: Ipv4Addr::from(<[u8; 4]>::try_from(&header[16..20]).ok()?).into(),
        id: u16_at(header, 4).into(),
        dont_fragment: flags & 0x4000 != 0,
        fragment_header: false,
        offset: usize::from(flags & 0x1fff) * 8,
        more: flags & 0x2000 != 0,
        protocol: header[9],
        header_len,
        stated_len,
        payload: payload[..payload.len().min(stated_len)].to_vec(),
    })
}

fn read_v6(octets: &[u8]) -> Option<Ip> {
    let header = octets.get(..40)?;
    let payload_len = usize::from(u16_at(header, 4));
    let octets = &octets[..octets.len().min(40 + payload_len)];
    let mut ip = Ip {
        tos: (u16_at(header, 0) >> 4) as u8,
        flow_label: u32::from(header[1] & 15) << 16 | u32::from(u16_at(header, 2)),
        ttl: header[7],
        source: Ipv6Addr::from(<[u8; 16]>::try_from(&header[8..24]).ok()?).into(),
        destination: Ipv6Addr::from(<[u8; 16]>::try_from(&header[24..40]).ok()?).into(),
        id: 0,
        dont_fragment: true,
        fragment_header: false,
        offset: 0,
        more: false,
        protocol: header[6],
        header_len: 40,
        stated_len: 0,
        payload: Vec::new(),
    };
    while !ip.fragment_header && [0, 43, 44, 60].contains(&ip.protocol) {
        let rest = octets.get(ip.header_len..)?;
        let len = match ip.protocol {
            44 => {
                let place = u16_at(rest.get(..8)?, 2);
                ip.fragment_header = true;
                ip.offset = usize::from(place & 0xfff8);
                ip.more = place & 1 != 0;
                ip.id = u32::from(u16_at(rest, 4)) << 16 | u32::from(u16_at(rest, 6));
                8
            }
            _ => (usize::from(*rest.get(1)?) + 1) * 8,
        };
        rest.get(..len)?;
        ip.protocol = rest[0];
        ip.header_len += len;
    }
    ip.stated_len = (40 + payload_len).checked_sub(ip.header_len)?;
    ip.payload = octets[ip.header_len..].to_vec();
    Some(ip)
}

/// Reads a packet that the translator made, which has to be right in every bit.
pub(crate) fn read_made(octets: &[u8]) -> Checked<Ip> {
    let ip =
        read(octets).ok_or_else(|| TestCaseError::fail("what the translator makes is a packet"))?;
    prop_assert_eq!(ip.total_len(), octets.len(), "length fields: {:?}", ip);
    if ip.more {
        prop_assert_eq!(ip.stated_len % 8, 0, "length of a fragment: {:?}", ip);
    }
    read_quoted_made(octets)?;
    Ok(ip)
}

/// Reads what the translator quotes: of the header everything has to be right, only the payload may
/// be cut off.
pub(crate) fn read_quoted_made(octets: &[u8]) -> Checked<Ip> {
    let ip = read(octets)
        .ok_or_else(|| TestCaseError::fail("what the translator quotes has its headers"))?;
    if ip.is_v6() {
        let headers = if ip.fragment_header { 48 } else { 40 };
        prop_assert_eq!(ip.header_len, headers, "extension headers: {:?}", ip);
        prop_assert_eq!(ip.flow_label, 0);
        if ip.fragment_header {
            prop_assert_eq!(
                (octets[41], octets[43] & 6),
                (0, 0),
                "reserved bits of the Fragment header"
            );
        }
    } else {
        prop_assert_eq!(ip.header_len, 20, "IPv4 options: {:?}", ip);
        prop_assert_eq!(residue(&[&octets[..20]]), 0, "IPv4 header checksum");
        prop_assert_eq!(octets[6] & 0x80, 0, "reserved flag");
    }
    Ok(ip)
}

/// What the 16-bit words of `parts` come to, modulo 2^16 - 1: zero if they include a right checksum
/// (RFC 1071). Every part but the last has an even length.
pub(crate) fn residue(parts: &[&[u8]]) -> u32 {
    // 2^16 is 1 modulo 2^16 - 1: words of 64 bits come to the same. Fuzzing sums many octets, and
    // counts every turn of a loop.
    let block_sum = |block: &[u8; 64]| {
        let words = block.as_chunks().0.iter();
        let words = words.map(|word| u64::from_be_bytes(*word));
        words
            .map(|word| (word >> 32) + (word & 0xffff_ffff))
            .sum::<u64>()
    };
    let part_sum = |part: &&[u8]| {
        let (blocks, rest) = part.as_chunks();
        let mut last = [0; 64];
        last[..rest.len()].copy_from_slice(rest);
        blocks.iter().map(block_sum).sum::<u64>() + block_sum(&last)
    };
    let sum: u64 = parts.iter().map(part_sum).sum();
    (sum % 0xffff) as u32
}

/// The sum of the addresses.
pub(crate) fn addresses(source: IpAddr, destination: IpAddr) -> u32 {
    let one = |address| match address {
        IpAddr::V4(address) => residue(&[&address.octets()]),
        IpAddr::V6(address) => residue(&[&address.octets()]),
    };
    (one(source) + one(destination)) % 0xffff
}

/// Where a protocol has its checksum.
pub(crate) fn checksum_at(protocol: u8) -> Option<usize> {
    match protocol {
        ICMP | ICMPV6 => Some(2),
        TCP => Some(16),
        UDP | UDP_LITE | DCCP => Some(6),
        _ => None,
    }
}

/// How many octets of a whole payload its checksum covers, and the length in its pseudo-header.
fn coverage(protocol: u8, payload: &[u8]) -> (usize, usize) {
    let all = payload.len();
    match protocol {
        // RFC 768: "Length is the length in octets of this user datagram".
        UDP => {
            let len = usize::from(u16_at(payload, 4));
            let len = if (8..=all).contains(&len) { len } else { all };
            (len, len)
        }
        // RFC 3828 section 3.1; the pseudo-header has the length of all.
        UDP_LITE => {
            let covered = usize::from(u16_at(payload, 4));
            let covered = if (8..=all).contains(&covered) {
                covered
            } else {
                all
            };
            (covered, all)
        }
        // RFC 4340 section 9.2: the header, and so many words less one of the rest. No header is
        // shorter than 12.
        DCCP => match usize::from(payload[5] & 15) {
            0 => (all, all),
            words => (
                (usize::from(payload[4]).max(3) * 4 + (words - 1) * 4).min(all),
                all,
            ),
        },
        _ => (all, all),
    }
}

/// What the checksum of a whole packet comes to with its pseudo-header: zero if it is right. `None`
/// if it has none.
pub(crate) fn transport_residue(ip: &Ip) -> Option<u32> {
    payload_residue(ip.source, ip.destination, ip.protocol, &ip.payload)
}

fn payload_residue(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    payload: &[u8],
) -> Option<u32> {
    let at = checksum_at(protocol)?;
    payload.get(..at + 2).filter(|_| payload.len() >= 8)?;
    if protocol == UDP && u16_at(payload, at) == 0 {
        return None;
    }
    let (covered, len) = coverage(protocol, payload);
    let octets = residue(&[&payload[..covered]]);
    let has_pseudo_header = match protocol {
        ICMP if source.is_ipv6() => return None,
        ICMPV6 if source.is_ipv4() => return None,
        ICMP => false,
        _ => true,
    };
    let pseudo = if has_pseudo_header {
        addresses(source, destination) + u32::from(protocol) + (len as u32 % 0xffff)
    } else {
        0
    };
    Some((octets + pseudo) % 0xffff)
}

/// Puts the right checksum into a whole payload.
pub(crate) fn seal(source: IpAddr, destination: IpAddr, protocol: u8, payload: &mut [u8]) {
    let Some(at) = checksum_at(protocol) else {
        return;
    };
    if payload.len() < at + 2 || payload.len() < 8 {
        return;
    }
    payload[at..at + 2].copy_from_slice(&[0, 1]); // not zero, which UDP reads as none
    let Some(with_one) = payload_residue(source, destination, protocol, payload) else {
        return;
    };
    // Never 0: the residue is less than 2^16 - 1.
    let checksum = 0xffff - (with_one + 0xffff - 1) % 0xffff;
    payload[at..at + 2].copy_from_slice(&(checksum as u16).to_be_bytes());
}

/// Puts the right checksum into an IPv4 header.
pub(crate) fn seal_v4_header(packet: &mut [u8]) {
    let len = usize::from(packet[0] & 15) * 4;
    if len < 20 || packet.len() < len {
        return;
    }
    packet[10..12].fill(0);
    let sum = residue(&[&packet[..len]]) as u16;
    packet[10..12].copy_from_slice(&(!sum).to_be_bytes());
}

/// The length fields are made right.
pub(crate) fn measure(packet: &mut [u8]) {
    let len = packet.len().min(65535) as u16;
    match packet[0] >> 4 {
        4 if len >= 20 => packet[2..4].copy_from_slice(&len.to_be_bytes()),
        6 if len >= 40 => packet[4..6].copy_from_slice(&(len - 40).to_be_bytes()),
        _ => {}
    }
}

/// Header and ICMP checksums of a whole packet are made right.
pub(crate) fn seal_whole(packet: &mut [u8]) {
    if packet[0] >> 4 == 4 && packet.len() >= 20 {
        seal_v4_header(packet);
    }
    let Some(ip) = read(packet) else {
        return;
    };
    if ip.is_icmp() && ip.payload.len() == ip.stated_len {
        let mut message = ip.payload.clone();
        seal(ip.source, ip.destination, ip.protocol, &mut message);
        packet[ip.header_len..ip.total_len()].copy_from_slice(&message);
    }
}

pub(crate) fn u16_at(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

/// Addresses that are no host's, as the documentation of the library lists them: whatever the
/// translator sends is neither from nor to them.
pub(crate) fn is_illegal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let first = address.octets()[0];
            first == 0
                || first == 127
                || (224..240).contains(&first)
                || address == Ipv4Addr::BROADCAST
        }
        IpAddr::V6(address) => {
            let octets = address.octets();
            octets[0] == 0xff
                || (octets[0] == 0xfe && octets[1] & 0xc0 == 0x80)
                || (octets[0] == 0 && octets[..4] != [0, 0x64, 0xff, 0x9b])
        }
    }
}

/// The pieces of one datagram, put together: they have to lie end to end, in order, and agree in
/// everything else.
pub(crate) fn reassemble(pieces: &[Ip]) -> Checked<Ip> {
    let mut whole = pieces[0].clone();
    for piece in &pieces[1..] {
        prop_assert!(whole.more, "a fragment after the last: {piece:?}");
        prop_assert_eq!(piece.offset, whole.offset + whole.payload.len(), "offset");
        whole.payload.extend_from_slice(&piece.payload);
        whole.more = piece.more;
        whole.stated_len += piece.stated_len;
        let rest = Ip {
            offset: whole.offset,
            stated_len: whole.stated_len,
            payload: whole.payload.clone(),
            ..piece.clone()
        };
        prop_assert_eq!(&rest, &whole, "fragments of one datagram");
    }
    Ok(whole)
}

#[test]
fn the_plain_sum_is_that_of_rfc_1071_section_3() {
    assert_eq!(residue(&[&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]]), 0xddf2);
    assert_eq!(residue(&[&[0xff, 0xff]]), 0);
    let octets: Vec<u8> = (0..200_u8).map(|n| n.wrapping_mul(37)).collect();
    for len in 0..octets.len() {
        let (even, rest) = octets[..len].split_at(len / 4 * 2);
        let pairs = octets[..len].chunks(2);
        let words =
            pairs.map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        assert_eq!(residue(&[even, rest]), words.sum::<u32>() % 0xffff, "{len}");
    }
}
