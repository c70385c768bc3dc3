//! Tables of nftables, as they are (linux/netfilter/nf_tables.h).

use std::{convert::Infallible, io};

use netlink_packet_core::{NLM_F_DUMP, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use netlink_sys::protocols::NETLINK_NETFILTER;
use xlatd::plan::{Family, TableName};

use super::Netlink;

/// The number of rules in a table; zero, if there is no such table.
pub(crate) fn count_rules(table: &TableName) -> io::Result<usize> {
    let rules = Netlink::of(NETLINK_NETFILTER)?.request(AskForRules(table.clone()), NLM_F_DUMP)?;
    Ok(rules.len())
}

/// A request for the rules of a table; what is answered is not read.
struct AskForRules(TableName);

impl AskForRules {
    /// NFNL_SUBSYS_NFTABLES and NFT_MSG_GETRULE.
    const TYPE: u16 = 10 << 8 | 7;
    /// Family, version, resource (linux/netfilter/nfnetlink.h).
    const HEADER_LEN: usize = 4;
    /// NFTA_RULE_TABLE
    const NAME: u16 = 1;
}

impl NetlinkSerializable for AskForRules {
    fn message_type(&self) -> u16 {
        Self::TYPE
    }

    fn buffer_len(&self) -> usize {
        Self::HEADER_LEN + (4 + self.0.name.len() + 1).next_multiple_of(4)
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let name = self.0.name.as_bytes();
        let len = 4 + name.len() + 1; // with its end
        buffer.fill(0);
        buffer[0] = match self.0.family {
            Family::Inet => 1, // NFPROTO_INET
            Family::Ip => 2,   // NFPROTO_IPV4
        };
        buffer[4..6].copy_from_slice(&(len as u16).to_ne_bytes());
        buffer[6..8].copy_from_slice(&Self::NAME.to_ne_bytes());
        buffer[8..8 + name.len()].copy_from_slice(name);
    }
}

impl NetlinkDeserializable for AskForRules {
    type Error = Infallible;

    fn deserialize(_: &NetlinkHeader, _: &[u8]) -> Result<Self, Self::Error> {
        let name = String::new();
        let family = Family::Inet;
        Ok(Self(TableName { family, name }))
    }
}
