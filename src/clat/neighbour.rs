//! The messages of neighbours that count: Router Advertisements that may be trusted, Neighbour
//! Solicitations, and answers to probes.

use std::{fmt, net::Ipv6Addr};

use crate::wire::ndp::{self, RouterAdvertisement};

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
    /// A Neighbour Solicitation for this target.
    Solicitation(Ipv6Addr),
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
            [ndp::NEIGHBOUR_SOLICITATION, ..] if is_of_link => {
                ndp::solicited_target(self.octets).map(Message::Solicitation)
            }
            octets => ndp::answers_probe(octets, identifier).then_some(Message::ProbeAnswer),
        })
    }
}

/// The Neighbour Advertisement that answers a solicitation from `source`, and its destination. One
/// from `::` detects duplicates, and all nodes get the answer (RFC 4861 section 7.2.4).
pub fn advertise(source: Ipv6Addr, target: Ipv6Addr, mac: Option<[u8; 6]>) -> (Ipv6Addr, Vec<u8>) {
    let is_solicited = !source.is_unspecified();
    let to = if is_solicited { source } else { ALL_NODES };
    (to, ndp::neighbour_advertisement(target, is_solicited, mac))
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
    }

    /// RFC 4861 section 7.1.1: neighbours are on the link. Routers farther away may answer probes.
    #[test]
    fn solicitations_and_answers_to_probes_are_told_apart() {
        let target = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5);
        let solicitation = [&[135, 0, 0, 0, 0, 0, 0, 0], &target.octets()[..]].concat();
        let valid = received(&solicitation);
        assert_eq!(valid.read(7), Ok(Some(Message::Solicitation(target))));
        let hop_limit = 254;
        assert_eq!(Received { hop_limit, ..valid }.read(7), Ok(None));
        assert_eq!(received(&solicitation[..23]).read(7), Ok(None));
        let answer = [129, 0, 0, 0, 0, 7, 0, 1];
        let answer = Received {
            hop_limit: 60,
            ..received(&answer)
        };
        assert_eq!(answer.read(7), Ok(Some(Message::ProbeAnswer)));
        assert_eq!(answer.read(8), Ok(None), "of another process");
        assert_eq!(received(&[]).read(7), Ok(None));
    }

    /// RFC 4861 section 7.2.4.
    #[test]
    fn neighbours_are_answered_where_they_listen() {
        let target = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5);
        const SOLICITED: u8 = 0x40;
        let (to, octets) = advertise(ROUTER, target, None);
        assert_eq!((to, octets[4] & SOLICITED), (ROUTER, SOLICITED));
        let (to, octets) = advertise(Ipv6Addr::UNSPECIFIED, target, None);
        assert_eq!((to, octets[4] & SOLICITED), (ALL_NODES, 0));
    }
}
