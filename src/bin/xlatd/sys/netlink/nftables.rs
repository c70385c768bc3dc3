//! Tables of nftables, as they are (linux/netfilter/nf_tables.h).

use std::{convert::Infallible, io};

use netlink_packet_core::{NLM_F_DUMP, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::Netlink;

/// The number of rules in a table of family inet; zero, if there is no such table.
pub(crate) fn count_rules(table: &str) -> io::Result<usize> {
    let rules =
        Netlink::of(NETLINK_NETFILTER)?.request(AskForRules(table.to_owned()), NLM_F_DUMP)?;
    Ok(rules.len())
}

/// A request for the rules of a table by its name; what is answered is not read.
struct AskForRules(String);

impl AskForRules {
    /// NFNL_SUBSYS_NFTABLES and NFT_MSG_GETRULE.
    const TYPE: u16 = 10 << 8 | 7;
    /// Family (NFPROTO_INET), version, resource (linux/netfilter/nfnetlink.h).
    const HEADER: [u8; 4] = [1, 0, 0, 0];
    /// NFTA_RULE_TABLE
    const NAME: u16 = 1;
}

impl NetlinkSerializable for AskForRules {
    fn message_type(&self) -> u16 {
        Self::TYPE
    }

    fn buffer_len(&self) -> usize {
        Self::HEADER.len() + (4 + self.0.len() + 1).next_multiple_of(4)
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let name = self.0.as_bytes();
        let len = 4 + name.len() + 1; // with its end
        buffer.fill(0);
        buffer[..4].copy_from_slice(&Self::HEADER);
        buffer[4..6].copy_from_slice(&(len as u16).to_ne_bytes());
        buffer[6..8].copy_from_slice(&Self::NAME.to_ne_bytes());
        buffer[8..8 + name.len()].copy_from_slice(name);
    }
}

impl NetlinkDeserializable for AskForRules {
    type Error = Infallible;

    fn deserialize(_: &NetlinkHeader, _: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(String::new()))
    }
}
