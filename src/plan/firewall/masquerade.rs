//! A table of nftables that masquerades, as messages to the kernel
//! (linux/netfilter/nf_tables.h): for a file system that has no nft(8).

use std::net::Ipv4Addr;

use super::{
    attributes::{attribute, name_attribute, number_attribute},
    expressions::{NAME_LEN, NF_ACCEPT},
    nftables::{HEADER_LEN, HOOK_POSTROUTING, IPV4, SUBSYSTEM},
};
use crate::addr::Prefix4;

/// The name of the table.
const TABLE: &str = "xlatd_container";
/// The name of its only chain.
const CHAIN: &str = "postrouting";
/// NF_IP_PRI_NAT_SRC.
const PRIORITY: u32 = 100;
/// NFT_REG_1.
const REGISTER: u32 = 1;
/// NFT_TABLE_F_OWNER (Linux 5.12).
const OWNER: u32 = 2;
/// NLM_F_CREATE and NLM_F_APPEND of netlink(7).
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// Masquerading: packets from a pool leave with the address of the device that they leave by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// The addresses of the packets.
    pub pool: Prefix4,
    /// The TUN device: what goes to it keeps its address.
    pub device: String,
}

/// A message without the header of netlink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub kind: u16,
    /// Its flags, besides those that each request has.
    pub flags: u16,
    /// What is behind the header.
    pub octets: Vec<u8>,
}

impl Masquerade {
    /// One transaction, which puts the table in the place of one that was left:
    ///
    /// ```text
    /// table ip xlatd_container {
    ///     chain postrouting {
    ///         type nat hook postrouting priority srcnat; policy accept;
    ///         ip saddr 192.168.240.0/20 oifname != "nat64" masquerade
    ///     }
    /// }
    /// ```
    ///
    /// An owned table goes with the socket that sends this, and so with the process.
    pub fn messages(&self, is_owned: bool) -> Vec<Message> {
        let table = |flags: &[u8]| [name_attribute(1, TABLE), flags.to_vec()].concat();
        let flags = number_attribute(2, if is_owned { OWNER } else { 0 });
        vec![
            batch(16),                                 // NFNL_MSG_BATCH_BEGIN
            message(0, CREATE, &table(&[])),           // NFT_MSG_NEWTABLE: if there is none
            message(2, 0, &table(&[])),                // NFT_MSG_DELTABLE
            message(0, CREATE, &table(&flags)),        // NFT_MSG_NEWTABLE
            message(3, CREATE, &chain()),              // NFT_MSG_NEWCHAIN
            message(6, CREATE | APPEND, &self.rule()), // NFT_MSG_NEWRULE
            batch(17),                                 // NFNL_MSG_BATCH_END
        ]
    }

    /// NFTA_RULE_TABLE, NFTA_RULE_CHAIN and NFTA_RULE_EXPRESSIONS.
    fn rule(&self) -> Vec<u8> {
        let (network, length) = (self.pool.address(), self.pool.length());
        let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0));
        let mut device = self.device.as_bytes().to_vec();
        device.resize(NAME_LEN, 0);
        let expressions = [
            // NFT_PAYLOAD_NETWORK_HEADER: the source address (RFC 791 section 3.1).
            expression(
                "payload",
                &numbers(&[(1, REGISTER), (2, 1), (3, 12), (4, 4)]),
            ),
            expression(
                "bitwise",
                &[
                    numbers(&[(1, REGISTER), (2, REGISTER), (3, 4)]),
                    attribute(4, &data(&mask.octets())),
                    attribute(5, &data(&[0; 4])),
                ]
                .concat(),
            ),
            compare(0, &network.octets()), // NFT_CMP_EQ
            expression("meta", &numbers(&[(1, REGISTER), (2, 7)])), // NFT_META_OIFNAME
            compare(1, &device),           // NFT_CMP_NEQ
            expression("masq", &[]),
        ];
        [
            name_attribute(1, TABLE),
            name_attribute(2, CHAIN),
            attribute(4, &expressions.concat()),
        ]
        .concat()
    }
}

/// NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK, NFTA_CHAIN_POLICY and NFTA_CHAIN_TYPE.
fn chain() -> Vec<u8> {
    let hook = numbers(&[(1, HOOK_POSTROUTING), (2, PRIORITY)]);
    [
        name_attribute(1, TABLE),
        name_attribute(3, CHAIN),
        attribute(4, &hook),
        number_attribute(5, NF_ACCEPT as u32),
        name_attribute(7, "nat"),
    ]
    .concat()
}

/// NFTA_LIST_ELEM with NFTA_EXPR_NAME and NFTA_EXPR_DATA.
fn expression(name: &str, data: &[u8]) -> Vec<u8> {
    attribute(1, &[name_attribute(1, name), attribute(2, data)].concat())
}

/// NFTA_CMP_SREG, NFTA_CMP_OP and NFTA_CMP_DATA.
fn compare(operator: u32, value: &[u8]) -> Vec<u8> {
    let operands = numbers(&[(1, REGISTER), (2, operator)]);
    expression("cmp", &[operands, attribute(3, &data(value))].concat())
}

/// NFTA_DATA_VALUE.
fn data(value: &[u8]) -> Vec<u8> {
    attribute(1, value)
}

fn numbers(numbers: &[(u16, u32)]) -> Vec<u8> {
    let numbers = numbers.iter();
    numbers
        .flat_map(|&(kind, number)| number_attribute(kind, number))
        .collect()
}

fn message(kind: u16, flags: u16, attributes: &[u8]) -> Message {
    let header: [u8; HEADER_LEN] = [IPV4, 0, 0, 0];
    Message {
        kind: SUBSYSTEM | kind,
        flags,
        octets: [&header, attributes].concat(),
    }
}

/// The begin or the end of a transaction, which is of NFNL_SUBSYS_NFTABLES.
fn batch(kind: u16) -> Message {
    let [high, low] = (SUBSYSTEM >> 8).to_be_bytes();
    Message {
        kind,
        flags: 0,
        octets: vec![0, 0, high, low],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use std::net::IpAddr;

    use super::{
        super::{
            attributes::{find, name, number},
            expressions::{NoSets, carry_out},
            nftables::{Request, masquerades},
            walk::{Action, Fit, IpVersion, Packet},
        },
        *,
    };
    use crate::link::LinkRef;

    fn messages(pool: &str, is_owned: bool) -> Vec<Message> {
        let masquerade = Masquerade {
            pool: pool.parse().unwrap(),
            device: "nat64".to_owned(),
        };
        masquerade.messages(is_owned)
    }

    #[test]
    fn a_table_is_replaced_in_one_transaction() {
        let kinds = |is_owned| {
            let messages = messages("192.168.240.0/20", is_owned);
            let kinds = messages.iter().map(|message| (message.kind, message.flags));
            kinds.collect::<Vec<_>>()
        };
        let expected = [
            (0x10, 0),
            (0xa00, 0x400),
            (0xa02, 0),
            (0xa00, 0x400),
            (0xa03, 0x400),
            (0xa06, 0xc00),
            (0x11, 0),
        ];
        assert_eq!(kinds(true), expected);
        assert_eq!(kinds(false), expected);
        assert_eq!(messages("192.0.2.0/24", true)[0].octets, [0, 0, 0, 10]);
        for (is_owned, flags) in [(true, 2), (false, 0)] {
            let table = &messages("192.0.2.0/24", is_owned)[3].octets[HEADER_LEN..];
            assert_eq!(name(table, 1), Some("xlatd_container"));
            assert_eq!(number(table, 2), Some(flags));
        }
    }

    /// The chain is where the addresses of packets that leave are translated (nft(8), "CHAINS"),
    /// and what it does not translate goes on.
    #[test]
    fn the_chain_is_of_nat_for_what_leaves() {
        let chain = &messages("192.0.2.0/24", true)[4].octets;
        let (header, chain) = chain.split_at(HEADER_LEN);
        assert_eq!(header, [2, 0, 0, 0]); // NFPROTO_IPV4
        assert_eq!(name(chain, 1), Some("xlatd_container"));
        assert_eq!(name(chain, 3), Some("postrouting"));
        let hook = find(chain, 4).unwrap();
        assert_eq!((number(hook, 1), number(hook, 2)), (Some(4), Some(100)));
        assert_eq!(number(chain, 5), Some(1)); // NF_ACCEPT
        assert_eq!(name(chain, 7), Some("nat"));
    }

    /// A doctor that looks at the table finds that it masquerades.
    #[test]
    fn the_table_is_one_that_masquerades() {
        let messages = messages("192.0.2.0/24", true);
        let [device, other] = [LinkRef::new(9, "nat64"), LinkRef::new(2, "eth0")];
        for (source, expected) in [("192.0.2.7", true), ("198.51.100.7", false)] {
            let source = source.parse().ok();
            let [packet, _] = Packet::connection(IpVersion::V4, true, &device, &other, source);
            let found = masquerades(&packet, |request, _| match request {
                Request::Chains => vec![messages[4].octets.clone()],
                Request::Rules(..) => vec![messages[5].octets.clone()],
                Request::Elements(..) => vec![],
            });
            assert_eq!(found, expected, "{source:?}");
        }
    }

    /// By the reader of the rules of others: from any address of a /32 on.
    #[test]
    fn packets_to_others_get_an_address_and_those_to_the_device_keep_theirs() {
        let link = |name: &str| LinkRef::new(7, name);
        for (pool, output, fits) in [
            ("192.168.240.0/20", "eth0", true),
            ("192.168.255.255/32", "nat640", true),
            ("0.0.0.0/0", "eth0", true),
            ("192.168.240.0/20", "nat64", false),
            ("0.0.0.0/0", "nat64", false),
        ] {
            let rule = &messages(pool, true)[5].octets[HEADER_LEN..];
            assert_eq!(name(rule, 1), Some("xlatd_container"));
            assert_eq!(name(rule, 2), Some("postrouting"));
            let source = IpAddr::V4([192, 168, 255, 255].into());
            let (device, output) = (link("nat64"), link(output));
            let [packet, _] =
                Packet::connection(IpVersion::V4, true, &device, &output, Some(source));
            let found = carry_out(find(rule, 4).unwrap(), &packet, &mut NoSets);
            assert_eq!(matches!(found.fit, Fit::Yes), fits, "{pool} {output}");
            assert!(
                !fits || matches!(found.action, Action::Masquerade),
                "{pool} {output}"
            );
        }
    }
}
