//! Tables of nftables, as they are (linux/netfilter/nf_tables.h).

use std::{convert::Infallible, io, ops::ControlFlow};

use netlink_packet_core::{NLM_F_DUMP, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use netlink_sys::protocols::NETLINK_NETFILTER;
use xlatd::plan::{Table, firewall::Request};

use super::Netlink;

/// The number of rules in a table; zero, if there is no such table.
pub(crate) fn count_rules(table: &Table) -> io::Result<usize> {
    let rules = dump(&Request::Rules(table.clone(), None), usize::MAX)?;
    Ok(rules.len())
}

/// The answers of nftables to a request, which needs CAP_NET_ADMIN: the first ones, up to a limit.
/// To read the rest of a long chain takes the kernel the longer the more was read before.
pub(crate) fn dump(request: &Request, limit: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut answers = Vec::new();
    let message = Message {
        kind: request.message_type(),
        octets: request.octets(),
    };
    Netlink::of(NETLINK_NETFILTER)?.request_until(message, NLM_F_DUMP, |answer| {
        answers.push(answer.octets);
        if answers.len() < limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    Ok(answers)
}

/// A message without its header.
struct Message {
    kind: u16,
    octets: Vec<u8>,
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.octets.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..self.octets.len()].copy_from_slice(&self.octets);
    }
}

impl NetlinkDeserializable for Message {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, octets: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self {
            kind: header.message_type,
            octets: octets.to_vec(),
        })
    }
}
