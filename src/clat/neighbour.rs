//! The messages of neighbours that count: Router Advertisements that may be trusted, Neighbour
//! Solicitations, and answers to probes.

use std::{fmt, net::Ipv6Addr};

use crate::wire::{
    checksum::Sum,
    ethernet, icmp,
    ipv6::{self, Ipv6Header, Ipv6Packet},
    ndp::{self, RouterAdvertisement},
    protocol,
};

/// The hop limit of a message that no router has forwarded (RFC 4861 section 6.1.2).
const HOP_LIMIT: u8 = 255;
/// All nodes of a link (RFC 4291 section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// An ICMPv6 message as it was received. Its checksum has been verified (RFC 3542 section 3.1).
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The link that it came by: the index of the interface.
    pub link: u32,
    /// Its source.
    pub source: Ipv6Addr,
    /// Its destination.
    pub destination: Ipv6Addr,
    /// Its hop limit.
    pub hop_limit: u8,
    /// The message from its type on.
    pub octets: &'a [u8],
}

/// A message that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A Router Advertisement.
    Advertisement(RouterAdvertisement),
    /// An answer to a probe, to the source of the probe.
    ProbeAnswer,
}

/// The reason why a Router Advertisement is ignored (RFC 4861 section 6.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidAdvertisement {
    /// It may come from another link.
    HopLimit,
    /// It is not known to come from a router of the link.
    Source,
    /// Its code is not 0, it is too short, or it has an option that is cut or of length 0.
    Format,
}

impl fmt::Display for InvalidAdvertisement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HopLimit => "hop limit is not 255",
            Self::Source => "source is not link-local",
            Self::Format => "truncated, or with an option of length 0",
        })
    }
}

impl Received<'_> {
    /// Reads the message. `None` if it does not concern a CLAT whose probes have `identifier`.
    pub fn read(&self, identifier: u16) -> Result<Option<Message>, InvalidAdvertisement> {
        let is_of_link = self.hop_limit == HOP_LIMIT;
        Ok(match self.octets {
            [ndp::ROUTER_ADVERTISEMENT, ..] if !is_of_link => {
                return Err(InvalidAdvertisement::HopLimit);
            }
            [ndp::ROUTER_ADVERTISEMENT, ..] if !self.source.is_unicast_link_local() => {
                return Err(InvalidAdvertisement::Source);
            }
            [ndp::ROUTER_ADVERTISEMENT, ..] => {
                let read = RouterAdvertisement::parse(self.octets);
                Some(Message::Advertisement(
                    read.ok_or(InvalidAdvertisement::Format)?,
                ))
            }
            octets => ndp::answers_probe(octets, identifier).then_some(Message::ProbeAnswer),
        })
    }
}

/// An IPv6 packet for neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToNeighbour {
    /// The link-layer address of a group; `None`: that from which the solicitation came.
    pub group: Option<[u8; 6]>,
    /// The packet.
    pub packet: Vec<u8>,
}

/// The answer to an IPv6 packet, if that is a valid Neighbour Solicitation (RFC 4861 section 7.1.1)
/// of `ours`. It comes from that address, as the kernel's do. One from `::` detects duplicates, and
/// all nodes get the answer (RFC 4861 section 7.2.4). `mac` is the link-layer address, if the link
/// has any.
pub fn answer(packet: &[u8], ours: Ipv6Addr, mac: Option<[u8; 6]>) -> Option<ToNeighbour> {
    let ip = Ipv6Packet::parse(packet).ok()?;
    let (source, message) = (ip.source(), ip.payload());
    let pseudo = Sum::pseudo_v6(source, ip.destination(), protocol::ICMPV6, message.len());
    let is_valid = packet[ipv6::NEXT_HEADER_AT] == protocol::ICMPV6
        && ip.hop_limit() == HOP_LIMIT
        && (pseudo + Sum::of(message)).verifies()
        && ndp::solicited_target(message) == Some(ours);
    if !is_valid || source.is_multicast() {
        return None;
    }
    if source.is_unspecified() {
        let is_to_group = ip.destination() == ndp::solicited_node(ours);
        return is_to_group.then(|| advertise(ours, ALL_NODES, false, mac));
    }
    Some(advertise(ours, source, true, mac))
}

/// An unsolicited Neighbour Advertisement, which tells all nodes who has an address now (RFC 4861
/// section 7.2.6).
pub fn announce(ours: Ipv6Addr, mac: Option<[u8; 6]>) -> ToNeighbour {
    advertise(ours, ALL_NODES, false, mac)
}

fn advertise(
    ours: Ipv6Addr,
    destination: Ipv6Addr,
    solicited: bool,
    mac: Option<[u8; 6]>,
) -> ToNeighbour {
    let mut message = ndp::neighbour_advertisement(ours, solicited, mac);
    let pseudo = Sum::pseudo_v6(ours, destination, protocol::ICMPV6, message.len());
    icmp::put_checksum(&mut message, pseudo);
    let header = Ipv6Header {
        traffic_class: 0,
        payload_len: message.len() as u16, // 24 or 32
        next_header: protocol::ICMPV6,
        hop_limit: HOP_LIMIT,
        source: ours,
        destination,
    };
    ToNeighbour {
        group: destination
            .is_multicast()
            .then(|| ethernet::multicast(destination)),
        packet: [&header.octets()[..], &message].concat(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];

    fn received(octets: &[u8]) -> Received<'_> {
        Received {
            link: 2,
            source: ROUTER,
            destination: ALL_NODES,
            hop_limit: 255,
            octets,
        }
    }

    /// RFC 4861 section 6.1.2: hop limit, source, code and lengths.
    #[test]
    fn only_advertisements_of_routers_of_the_link_are_trusted() {
        let valid = received(&ADVERTISEMENT);
        assert!(matches!(valid.read(7), Ok(Some(Message::Advertisement(_)))));
        for hop_limit in [0, 1, 64, 254] {
            let forwarded = Received { hop_limit, ..valid };
            assert_eq!(forwarded.read(7), Err(InvalidAdvertisement::HopLimit));
        }
        for source in ["2001:db8::1", "::", "fec0::1", "ff02::1", "::1"] {
            let source = source.parse().unwrap();
            let other = Received { source, ..valid };
            assert_eq!(other.read(7), Err(InvalidAdvertisement::Source), "{source}");
        }
        let mut code = ADVERTISEMENT;
        code[1] = 1;
        let no_length = [&ADVERTISEMENT[..], &[5, 0, 0, 0, 0, 0, 5, 220]].concat();
        let cut = [&ADVERTISEMENT[..], &[5, 2, 0, 0, 0, 0, 5, 220]].concat();
        for octets in [&code[..], &ADVERTISEMENT[..15], &no_length, &cut] {
            let read = received(octets).read(7);
            assert_eq!(read, Err(InvalidAdvertisement::Format), "{octets:?}");
        }
        let hop_limit = InvalidAdvertisement::HopLimit;
        assert_eq!(hop_limit.to_string(), "hop limit is not 255");
    }

    /// Routers farther away may answer probes.
    #[test]
    fn answers_to_probes_are_told_from_those_to_others() {
        let answer = [129, 0, 0, 0, 0, 7, 0, 1];
        let answer = Received {
            hop_limit: 60,
            ..received(&answer)
        };
        assert_eq!(answer.read(7), Ok(Some(Message::ProbeAnswer)));
        assert_eq!(answer.read(8), Ok(None), "of another process");
        assert_eq!(received(&[]).read(7), Ok(None));
    }

    const OURS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5);
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

    /// A Neighbour Solicitation of `target`.
    fn solicitation(source: Ipv6Addr, destination: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
        let mut message = [&[135, 0, 0, 0, 0, 0, 0, 0], &target.octets()[..]].concat();
        let pseudo = Sum::pseudo_v6(source, destination, protocol::ICMPV6, message.len());
        icmp::put_checksum(&mut message, pseudo);
        let header = Ipv6Header {
            traffic_class: 0,
            payload_len: 24,
            next_header: protocol::ICMPV6,
            hop_limit: 255,
            source,
            destination,
        };
        [&header.octets()[..], &message].concat()
    }

    /// RFC 4861 section 7.2.4: by unicast, from the address itself.
    #[test]
    fn neighbours_are_answered_where_they_listen() {
        const SOLICITED: u8 = 0x40;
        let group = ndp::solicited_node(OURS);
        for destination in [OURS, group] {
            let sent = answer(&solicitation(ROUTER, destination, OURS), OURS, Some(MAC)).unwrap();
            let ip = Ipv6Packet::parse(&sent.packet).unwrap();
            assert_eq!((ip.source(), ip.destination()), (OURS, ROUTER));
            assert_eq!((sent.group, ip.hop_limit()), (None, 255));
            let message = ip.payload();
            assert_eq!(message[..2], [136, 0]);
            assert_eq!(message[4] & SOLICITED, SOLICITED);
            assert_eq!(message[24..], [2, 1, 2, 0, 0, 0, 0, 5]);
            let pseudo = Sum::pseudo_v6(OURS, ROUTER, protocol::ICMPV6, message.len());
            assert!((pseudo + Sum::of(message)).verifies());
        }
        let detection = solicitation(Ipv6Addr::UNSPECIFIED, group, OURS);
        let sent = answer(&detection, OURS, Some(MAC)).unwrap();
        assert_eq!(sent, announce(OURS, Some(MAC)));
        assert_eq!(sent.group, Some([0x33, 0x33, 0, 0, 0, 1]));
        let ip = Ipv6Packet::parse(&sent.packet).unwrap();
        assert_eq!(ip.destination(), ALL_NODES);
        assert_eq!(ip.payload()[4] & SOLICITED, 0);
    }

    /// RFC 4861 section 7.1.1.
    #[test]
    fn other_solicitations_are_not_answered() {
        let valid = solicitation(ROUTER, OURS, OURS);
        assert!(answer(&valid, OURS, Some(MAC)).is_some());
        assert_eq!(
            answer(&valid, ROUTER, Some(MAC)),
            None,
            "of another address"
        );
        let unspecified = Ipv6Addr::UNSPECIFIED;
        let to_unicast = solicitation(unspecified, OURS, OURS);
        assert_eq!(answer(&to_unicast, OURS, None), None);
        let from_group = solicitation(ALL_NODES, OURS, OURS);
        assert_eq!(answer(&from_group, OURS, None), None);
        // Hop limit, checksum, code, type, next header; and cut off.
        for at in [7, 42, 41, 40, 6] {
            let mut invalid = valid.clone();
            invalid[at] ^= 1;
            assert_eq!(answer(&invalid, OURS, Some(MAC)), None, "octet {at}");
        }
        for len in 0..valid.len() {
            assert_eq!(answer(&valid[..len], OURS, Some(MAC)), None, "{len}");
        }
    }
}
