//! Packets to ask a translator with: small, and with nothing wrong but perhaps their addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::{
    FragmentPlace,
    checksum::Sum,
    icmp,
    ipv4::{self, Ipv4Header},
    ipv6::Ipv6Header,
    protocol,
};

/// The source and the destination of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// A message of ping(8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Echo {
    Request,
    Reply,
}

/// TTL and hop limit.
const HOP_LIMIT: u8 = 64;
/// An ICMP header with identifier and sequence number, and some data.
const MESSAGE_LEN: usize = 16;

impl Ends {
    /// `None` if they are of different families.
    pub(super) fn new(from: IpAddr, to: IpAddr) -> Option<Self> {
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Some(Self::V4(from, to)),
            (IpAddr::V6(from), IpAddr::V6(to)) => Some(Self::V6(from, to)),
            _ => None,
        }
    }

    /// An echo message between them.
    pub(super) fn echo(self, echo: Echo) -> Vec<u8> {
        let mut message = [0; MESSAGE_LEN];
        match self {
            Self::V4(source, destination) => {
                message[0] = match echo {
                    Echo::Request => icmp::V4_ECHO_REQUEST,
                    Echo::Reply => icmp::V4_ECHO_REPLY,
                };
                icmp::put_checksum(&mut message, Sum::default());
                let header = Ipv4Header {
                    tos: 0,
                    total_len: (ipv4::HEADER_LEN + MESSAGE_LEN) as u16,
                    identification: 0,
                    dont_fragment: true,
                    fragment: FragmentPlace::WHOLE,
                    ttl: HOP_LIMIT,
                    protocol: protocol::ICMPV4,
                    source,
                    destination,
                };
                [&header.octets()[..], &message].concat()
            }
            Self::V6(source, destination) => {
                message[0] = match echo {
                    Echo::Request => icmp::V6_ECHO_REQUEST,
                    Echo::Reply => icmp::V6_ECHO_REPLY,
                };
                let pseudo = Sum::pseudo_v6(source, destination, protocol::ICMPV6, MESSAGE_LEN);
                icmp::put_checksum(&mut message, pseudo);
                let header = Ipv6Header {
                    traffic_class: 0,
                    payload_len: MESSAGE_LEN as u16,
                    next_header: protocol::ICMPV6,
                    hop_limit: HOP_LIMIT,
                    source,
                    destination,
                };
                [&header.octets()[..], &message].concat()
            }
        }
    }
}
