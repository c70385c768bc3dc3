//! Chains of nftables, as the kernel answers by netlink (linux/netfilter/nf_tables.h); those of
//! ip6tables-nft are among them.
//!
//! Only chains that forwarded packets come to are read, and no more than [`MAX_RULES`]: a
//! firewall may have 100,000s of rules, and packets wait meanwhile.

use std::{collections::HashMap, rc::Rc};

use super::{
    attributes::{attributes, find, name, number, push_name},
    expressions::{Found, Sets, action, carry_out},
    obstacle::{Chain, Manager, Obstacle},
    walk::{Action, Chains, IpVersion, Packet, Rule, Verdict, may_masquerade, verdict},
};
use crate::plan::{Family, Table};

/// The most chains that are looked for those of the hook forward in.
const MAX_CHAINS: usize = 10_000;
/// The most rules that are read, with the messages about elements of sets. What is behind them is
/// not known. The kernel takes about 15 ms for them, and ten times as long for three times as many.
const MAX_RULES: usize = 3_000;
/// The table by which firewalld drops new connections while it loads its rules: no one needs to
/// change that.
const OF_RELOAD: &str = "firewalld_policy_drop";
/// NFNL_SUBSYS_NFTABLES, in the upper half of the type of a message.
pub(super) const SUBSYSTEM: u16 = 10 << 8;
/// Length of struct nfgenmsg, in octets: family, version, and a number that is not used here.
pub(super) const HEADER_LEN: usize = 4;

/// NFPROTO_INET and others of linux/netfilter.h.
const INET: u8 = 1;
pub(super) const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// NF_INET_FORWARD and NF_INET_POST_ROUTING.
const HOOK_FORWARD: u32 = 2;
pub(super) const HOOK_POSTROUTING: u32 = 4;

/// A request to dump something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// All chains of all tables.
    Chains,
    /// The rules of a chain, or of all chains of the table.
    Rules(Table, Option<String>),
    /// The elements of a set.
    Elements(Table, String),
}

impl Request {
    /// The type of the message.
    pub fn message_type(&self) -> u16 {
        SUBSYSTEM
            | match self {
                Self::Chains => 4,        // NFT_MSG_GETCHAIN
                Self::Rules(..) => 7,     // NFT_MSG_GETRULE
                Self::Elements(..) => 13, // NFT_MSG_GETSETELEM
            }
    }

    /// The message behind the header of netlink.
    pub fn octets(&self) -> Vec<u8> {
        let (table, object) = match self {
            Self::Chains => return vec![0; HEADER_LEN], // of any family
            Self::Rules(table, chain) => (table, chain.as_ref()),
            Self::Elements(table, set) => (table, Some(set)),
        };
        let family = match table.family {
            Family::Inet => INET,
            Family::Ip => IPV4,
            Family::Ip6 => IPV6,
        };
        let mut octets = vec![family, 0, 0, 0];
        // Tables come first in requests for rules (NFTA_RULE_TABLE) and for elements.
        push_name(&mut octets, 1, &table.name);
        if let Some(object) = object {
            push_name(&mut octets, 2, object);
        }
        octets
    }
}

/// The chains that drop packets of a [connection](Packet::connection).
///
/// `dump` sends a request, and returns the answers, of each what is behind the header of netlink:
/// at most as many as are asked for.
pub fn obstacles(
    packets: &[Packet; 2],
    dump: impl FnMut(&Request, usize) -> Vec<Vec<u8>>,
) -> Vec<Obstacle> {
    let mut reader = Reader {
        dump,
        left: MAX_RULES,
    };
    let [first, _] = packets;
    let chains = reader.chains(first.version);
    let of_the_hook = chains
        .iter()
        .filter(|chain| chain.hook == Some(HOOK_FORWARD) && chain.table.name != OF_RELOAD);
    of_the_hook
        .filter_map(|base| {
            let mut view = View::of(&mut reader, &base.table);
            let [drops_first, drops_answers] = packets.each_ref().map(|packet| {
                verdict(&mut view, &base.name, packet).unwrap_or(base.policy) == Verdict::Drop
            });
            let names = chains
                .iter()
                .filter(|chain| chain.table == base.table)
                .map(|chain| &*chain.name);
            (drops_first || drops_answers).then(|| Obstacle {
                chain: Chain::Nftables(base.table.clone(), base.name.clone()),
                manager: Manager::of(&base.table.name, names),
                version: first.version,
                leaves: first.leaves,
                drops_first,
                drops_answers,
            })
        })
        .collect()
}

/// Whether a chain may give a packet, the first of a connection, the source of the device that it
/// leaves by, or another one. `dump` as in [`obstacles`].
pub fn masquerades(packet: &Packet, dump: impl FnMut(&Request, usize) -> Vec<Vec<u8>>) -> bool {
    let mut reader = Reader {
        dump,
        left: MAX_RULES,
    };
    let chains = reader.chains(packet.version);
    let mut of_the_hook = chains
        .iter()
        .filter(|chain| chain.hook == Some(HOOK_POSTROUTING));
    of_the_hook.any(|base| {
        let mut view = View::of(&mut reader, &base.table);
        may_masquerade(&mut view, &base.name, packet)
    })
}

/// A chain in the list of all.
struct Listed {
    table: Table,
    name: String,
    /// `None`: other chains call it.
    hook: Option<u32>,
    policy: Verdict,
}

impl Listed {
    /// `None`: packets of this version do not come to it.
    fn read(octets: &[u8], version: IpVersion) -> Option<Self> {
        let (header, octets) = octets.split_first_chunk::<HEADER_LEN>()?;
        let family = match (header[0], version) {
            (INET, _) => Family::Inet,
            (IPV4, IpVersion::V4) => Family::Ip,
            (IPV6, IpVersion::V6) => Family::Ip6,
            _ => return None,
        };
        // NFTA_CHAIN_HOOK with NFTA_HOOK_HOOKNUM
        let hook = find(octets, 4).and_then(|hook| number(hook, 1));
        let policy = match number(octets, 5) {
            Some(0) => Verdict::Drop, // NFTA_CHAIN_POLICY
            _ => Verdict::Accept,
        };
        Some(Self {
            table: Table {
                family,
                name: name(octets, 1)?.to_owned(),
            },
            name: name(octets, 3)?.to_owned(),
            hook,
            policy,
        })
    }
}

/// Asks the kernel.
struct Reader<F> {
    dump: F,
    /// The number of rules that may still be read.
    left: usize,
}

impl<F: FnMut(&Request, usize) -> Vec<Vec<u8>>> Reader<F> {
    fn chains(&mut self, version: IpVersion) -> Vec<Listed> {
        let chains = (self.dump)(&Request::Chains, MAX_CHAINS);
        let chains = chains.iter();
        let read = |octets: &Vec<u8>| Listed::read(octets, version);
        chains.filter_map(read).collect()
    }

    fn ask(&mut self, request: &Request) -> Vec<Vec<u8>> {
        if self.left == 0 {
            return Vec::new();
        }
        let answers = (self.dump)(request, self.left);
        self.left = self.left.saturating_sub(answers.len());
        answers
    }
}

/// A table, of which chains and sets are read once they are needed.
struct View<'a, F> {
    reader: &'a mut Reader<F>,
    table: Table,
    /// By the names of chains, messages with a rule each.
    rules: HashMap<String, Rc<[Vec<u8>]>>,
    /// By the names of sets.
    elements: HashMap<String, Vec<Element>>,
}

impl<'a, F> View<'a, F> {
    fn of(reader: &'a mut Reader<F>, table: &Table) -> Self {
        Self {
            reader,
            table: table.clone(),
            rules: HashMap::new(),
            elements: HashMap::new(),
        }
    }
}

impl<F: FnMut(&Request, usize) -> Vec<Vec<u8>>> Chains for View<'_, F> {
    fn rule(&mut self, chain: &str, place: usize, packet: &Packet) -> Option<Rule> {
        if !self.rules.contains_key(chain) {
            let request = Request::Rules(self.table.clone(), Some(chain.to_owned()));
            let rules = self.reader.ask(&request).into();
            self.rules.insert(chain.to_owned(), rules);
        }
        let rules = Rc::clone(self.rules.get(chain)?);
        let octets = rules.get(place)?.get(HEADER_LEN..).unwrap_or_default();
        let expressions = find(octets, 4).unwrap_or_default(); // NFTA_RULE_EXPRESSIONS
        Some(carry_out(expressions, packet, self))
    }
}

impl<F: FnMut(&Request, usize) -> Vec<Vec<u8>>> View<'_, F> {
    fn elements(&mut self, set: &str) -> &[Element] {
        let (reader, table) = (&mut self.reader, &self.table);
        self.elements.entry(set.to_owned()).or_insert_with(|| {
            let answers = reader.ask(&Request::Elements(table.clone(), set.to_owned()));
            // NFTA_SET_ELEM_LIST_ELEMENTS
            let lists = answers
                .iter()
                .filter_map(|octets| find(octets.get(HEADER_LEN..)?, 3));
            let mut elements: Vec<_> = lists
                .flat_map(attributes)
                .filter_map(|(_, element)| Element::read(element))
                .collect();
            // Where an interval ends and another one begins, the latter counts.
            elements
                .sort_by(|one, other| (&one.key, !one.is_end).cmp(&(&other.key, !other.is_end)));
            elements
        })
    }
}

impl<F: FnMut(&Request, usize) -> Vec<Vec<u8>>> Sets for View<'_, F> {
    fn key_len(&mut self, set: &str) -> Option<usize> {
        self.elements(set).first().map(|element| element.key.len())
    }

    fn find(&mut self, set: &str, key: &[u8]) -> Found {
        match look_up(self.elements(set), key) {
            Some(element) => Found::Yes(element.action.clone()),
            None => Found::No,
        }
    }
}

/// An element of a set; of one with intervals, the start or the end of one.
struct Element {
    key: Vec<u8>,
    is_end: bool,
    /// Of a verdict map.
    action: Option<Action>,
}

impl Element {
    /// By the attributes NFTA_SET_ELEM_KEY and so on. Intervals of concatenations have an end of
    /// their own (NFTA_SET_ELEM_KEY_END), and are not read.
    fn read(octets: &[u8]) -> Option<Self> {
        if find(octets, 10).is_some() {
            return None;
        }
        Some(Self {
            key: find(octets, 1).and_then(|key| find(key, 1))?.to_vec(),
            // NFT_SET_ELEM_INTERVAL_END
            is_end: number(octets, 3).is_some_and(|flags| flags & 1 != 0),
            action: find(octets, 2).and_then(action),
        })
    }
}

/// The element of a set that a key fits. The elements are in order.
fn look_up<'a>(elements: &'a [Element], key: &[u8]) -> Option<&'a Element> {
    let has_intervals = elements.iter().any(|element| element.is_end);
    if has_intervals {
        let at_most = elements.partition_point(|element| *element.key <= *key);
        let last = elements[..at_most].last()?;
        (!last.is_end).then_some(last)
    } else {
        elements.iter().find(|element| element.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::expressions::{GOTO, JUMP, NAME_LEN, NF_ACCEPT},
        *,
    };
    use crate::link::LinkRef;

    fn attribute(kind: u16, value: impl AsRef<[u8]>) -> Vec<u8> {
        let value = value.as_ref();
        let mut octets = (value.len() as u16 + 4).to_ne_bytes().to_vec();
        octets.extend(kind.to_ne_bytes());
        octets.extend(value);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    }

    fn be(number: u32) -> [u8; 4] {
        number.to_be_bytes()
    }

    fn text(text: &str) -> Vec<u8> {
        [text.as_bytes(), &[0]].concat()
    }

    /// The message about a chain of family inet, with a policy if it is in the hook forward.
    fn chain(name: &str, policy: Option<u32>) -> Vec<u8> {
        chain_of("firewalld", name, policy)
    }

    fn chain_of(table: &str, name: &str, policy: Option<u32>) -> Vec<u8> {
        let mut octets = vec![INET, 0, 0, 0];
        octets.extend(attribute(1, text(table)));
        octets.extend(attribute(3, text(name)));
        if let Some(policy) = policy {
            octets.extend(attribute(4, attribute(1, be(HOOK_FORWARD))));
            octets.extend(attribute(5, be(policy)));
        }
        octets
    }

    /// The message about a rule.
    fn rule(expressions: &[Vec<u8>]) -> Vec<u8> {
        [vec![INET, 0, 0, 0], attribute(4, expressions.concat())].concat()
    }

    fn expression(name: &str, data: &[(u16, &[u8])]) -> Vec<u8> {
        let data: Vec<_> = data
            .iter()
            .flat_map(|(kind, value)| attribute(*kind, value))
            .collect();
        let octets = [attribute(1, text(name)), attribute(2, data)].concat();
        attribute(1, octets)
    }

    fn load_input_name() -> Vec<u8> {
        expression("meta", &[(2, &be(6)), (1, &be(1))])
    }

    fn load_state() -> Vec<u8> {
        expression("ct", &[(2, &be(0)), (1, &be(1))])
    }

    fn is_equal(octets: &[u8]) -> Vec<u8> {
        let constant = attribute(1, octets);
        expression("cmp", &[(1, &be(1)), (2, &be(0)), (3, &constant)])
    }

    fn data_of_verdict(code: i32, chain: &str) -> Vec<u8> {
        let mut verdict = attribute(1, code.to_be_bytes());
        if !chain.is_empty() {
            verdict.extend(attribute(2, text(chain)));
        }
        attribute(2, verdict)
    }

    fn verdict_is(code: i32, chain: &str) -> Vec<u8> {
        let data = data_of_verdict(code, chain);
        expression("immediate", &[(1, &be(0)), (2, &data)])
    }

    /// An element of a set, or with data of a map.
    fn element(key: &[u8], data: &[u8]) -> Vec<u8> {
        let mut octets = attribute(1, attribute(1, key));
        if !data.is_empty() {
            octets.extend(attribute(2, data));
        }
        attribute(1, octets)
    }

    fn elements(elements: &[Vec<u8>]) -> Vec<u8> {
        [vec![INET, 0, 0, 0], attribute(3, elements.concat())].concat()
    }

    /// The answers of a kernel with the chains of firewalld in the zone public, and with the TUN
    /// device in the zone trusted.
    fn firewalld(request: &Request, has_device: bool) -> Vec<Vec<u8>> {
        let mut name = text("clat");
        name.resize(NAME_LEN, 0);
        match request {
            Request::Chains => vec![
                chain("filter_FORWARD", Some(1)),
                chain("filter_FORWARD_ZONES", None),
                chain("filter_FWD_public", None),
                chain("filter_FWD_trusted", None),
            ],
            Request::Elements(_, set) if set == "__set0" => vec![elements(&[
                element(&2_u32.to_ne_bytes(), &[]),
                element(&4_u32.to_ne_bytes(), &[]),
            ])],
            Request::Elements(..) if has_device => {
                vec![elements(&[element(
                    &name,
                    &data_of_verdict(GOTO, "filter_FWD_trusted"),
                )])]
            }
            Request::Elements(..) => Vec::new(),
            Request::Rules(_, chain) => match chain.as_deref().unwrap_or_default() {
                "filter_FORWARD" => vec![
                    rule(&[
                        load_state(),
                        expression("lookup", &[(1, &text("__set0")), (2, &be(1))]),
                        verdict_is(NF_ACCEPT, ""),
                    ]),
                    rule(&[
                        load_input_name(),
                        is_equal(b"lo\0"),
                        verdict_is(NF_ACCEPT, ""),
                    ]),
                    rule(&[
                        expression("payload", &[(1, &be(1))]),
                        is_equal(&[0; 12]),
                        expression("reject", &[]),
                    ]),
                    rule(&[verdict_is(JUMP, "filter_FORWARD_ZONES")]),
                    rule(&[expression("reject", &[])]),
                ],
                "filter_FORWARD_ZONES" => vec![
                    rule(&[
                        load_input_name(),
                        expression("lookup", &[(1, &text("__map0")), (2, &be(1)), (3, &be(0))]),
                    ]),
                    rule(&[verdict_is(GOTO, "filter_FWD_public")]),
                ],
                "filter_FWD_trusted" => vec![rule(&[verdict_is(NF_ACCEPT, "")])],
                _ => Vec::new(),
            },
        }
    }

    fn packets() -> [Packet; 2] {
        Packet::both_ways(&LinkRef::new(9, "clat"), &LinkRef::new(2, "eth0"))
    }

    /// A chain with the policy accept that rejects by its last rule what no chain before accepts.
    #[test]
    fn firewalld_is_found_until_it_has_the_device() {
        let found = obstacles(&packets(), |request, _| firewalld(request, false));
        let table = Table::new(Family::Inet, "firewalld");
        let expected = Obstacle {
            chain: Chain::Nftables(table, "filter_FORWARD".to_owned()),
            manager: Manager::Firewalld,
            version: IpVersion::V6,
            leaves: true,
            drops_first: true,
            drops_answers: false,
        };
        assert_eq!(found, [expected]);
        let chain = "the nftables chain inet firewalld filter_FORWARD drops forwarded packets";
        assert_eq!(found[0].to_string(), chain);
        let found = obstacles(&packets(), |request, _| firewalld(request, true));
        assert_eq!(found, []);
    }

    /// It drops new connections by the policy of a chain of its own, for the time of a reload.
    #[test]
    fn firewalld_that_loads_its_rules_is_no_obstacle() {
        let with = |table| {
            let drops = chain_of(table, "filter_forward", Some(0));
            obstacles(&packets(), |request, _| match request {
                Request::Chains => vec![drops.clone()],
                _ => Vec::new(),
            })
        };
        assert_eq!(with("firewalld_policy_drop"), []);
        assert_eq!(with("firewalld_policy").len(), 1);
    }

    /// Whatever the kernel answers, reading it ends.
    #[test]
    fn no_answer_breaks_the_reader() {
        let all = |request: &Request| firewalld(request, true);
        let longest = all(&Request::Chains).concat().len().max(600);
        for at in 0..longest {
            obstacles(&packets(), |request, _| {
                let mut answers = all(request);
                for answer in &mut answers {
                    answer.truncate(at);
                }
                answers
            });
            obstacles(&packets(), |request, _| {
                let mut answers = all(request);
                for answer in &mut answers {
                    if let Some(octet) = answer.get_mut(at) {
                        *octet ^= 0xff;
                    }
                }
                answers
            });
        }
    }

    /// No more is asked for than the limit, whatever there is; where the rules behind it are not
    /// known, the policy decides.
    #[test]
    fn long_chains_are_read_in_part() {
        let mut read = 0;
        let found = obstacles(&packets(), |request, limit| {
            let answers = match request {
                Request::Chains => return vec![chain("a", Some(0)), chain("b", Some(1))],
                _ => vec![rule(&[expression("limit", &[])]); limit],
            };
            read += answers.len();
            answers
        });
        assert_eq!(read, MAX_RULES);
        assert_eq!(found.len(), 1);
        assert!(found[0].drops_first && found[0].drops_answers);
    }

    /// Intervals of names, as `veth*` and single ones beside it, in the order of nftables.
    #[test]
    fn intervals_have_an_end() {
        let element = |name: &[u8], is_end| Element {
            key: name.to_vec(),
            is_end,
            action: None,
        };
        let elements = [
            element(b"\0\0\0\0", true),
            element(b"clat", false),
            element(b"clau", true),
            element(b"veth", false),
            element(b"veti", true),
        ];
        for (name, is_in) in [
            (b"clat", true),
            (b"clau", false),
            (b"aaaa", false),
            (b"veth", true),
            (b"wwww", false),
        ] {
            assert_eq!(look_up(&elements, name).is_some(), is_in, "{name:?}");
        }
    }
}
