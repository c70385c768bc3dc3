//! Tables of nftables, as they are (linux/netfilter/nf_tables.h).

use std::{convert::Infallible, io, ops::ControlFlow};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::libc;
use xlatd::plan::{
    Table,
    firewall::{Masquerade, Message, Request},
};

use super::{Netlink, octets};

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
        flags: 0,
        octets: request.octets(),
    };
    Netlink::of(NETLINK_NETFILTER)?.request_until(
        Wrapped(message),
        NLM_F_DUMP,
        |Wrapped(answer)| {
            answers.push(answer.octets);
            if answers.len() < limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        },
    )?;
    Ok(answers)
}

/// Masquerades by a table of its own. With the socket that is returned the table goes; before Linux
/// 5.12 it stays, until there is another one.
pub(crate) fn masquerade(masquerade: &Masquerade) -> io::Result<Netlink> {
    let transact = |is_owned| -> io::Result<Netlink> {
        let mut netlink = Netlink::of(NETLINK_NETFILTER)?;
        netlink.transact(masquerade.messages(is_owned))?;
        Ok(netlink)
    };
    match transact(true) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => transact(false),
        result => result,
    }
}

impl Netlink {
    /// Sends messages that the kernel carries out all or none. It answers to the last one that
    /// changes something, and to one that it refuses.
    fn transact(&mut self, messages: Vec<Message>) -> io::Result<()> {
        let last = messages.len().saturating_sub(2);
        let mut batch = Vec::new();
        let first = self.sequence.wrapping_add(1);
        for (at, message) in messages.into_iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let acknowledged = if at == last { NLM_F_ACK } else { 0 };
            let flags = message.flags | acknowledged;
            batch.extend(octets(Wrapped(message), flags, self.sequence));
        }
        self.socket.send(&batch, 0)?;
        self.answers::<Wrapped>(first..=self.sequence, |_| ControlFlow::Continue(()))
    }
}

/// A message as one of netlink.
struct Wrapped(Message);

impl NetlinkSerializable for Wrapped {
    fn message_type(&self) -> u16 {
        self.0.kind
    }

    fn buffer_len(&self) -> usize {
        self.0.octets.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..self.0.octets.len()].copy_from_slice(&self.0.octets);
    }
}

impl NetlinkDeserializable for Wrapped {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, octets: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(Message {
            kind: header.message_type,
            flags: header.flags,
            octets: octets.to_vec(),
        }))
    }
}
