//! Chains of nftables, as the kernel answers by netlink (linux/netfilter/nf_tables.h); those of
//! ip6tables-nft are among them.
//!
//! Only chains that forwarded packets come to are read, and no more than [`MAX_RULES`]: a
//! firewall may have 100,000s of rules, and packets wait meanwhile.

use std::{collections::HashMap, rc::Rc};

use super::{
    attributes::{attributes, find, name, number, push_name},
    expressions::{Found, Keys, Sets, action, carry_out},
    obstacle::{Chain, Manager, Obstacle},
    walk::{Action, Chains, IpVersion, Packet, Rule, Verdict, may_masquerade, verdict},
};
use crate::plan::{Family, Table};

/// The most chains that are looked for those of the hook forward in.
pub(super) const MAX_CHAINS: usize = 10_000;
/// The most rules that are read, with the messages about elements of sets. What is behind them is
/// not known. The kernel takes about 15 ms for them, and ten times as long for three times as many.
pub(super) const MAX_RULES: usize = 3_000;
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
    sets: HashMap<String, Set>,
}

impl<'a, F> View<'a, F> {
    fn of(reader: &'a mut Reader<F>, table: &Table) -> Self {
        Self {
            reader,
            table: table.clone(),
            rules: HashMap::new(),
            sets: HashMap::new(),
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
    fn set(&mut self, name: &str) -> &Set {
        let (reader, table) = (&mut self.reader, &self.table);
        self.sets.entry(name.to_owned()).or_insert_with(|| {
            let answers = reader.ask(&Request::Elements(table.clone(), name.to_owned()));
            // NFTA_SET_ELEM_LIST_ELEMENTS
            let lists = answers
                .iter()
                .filter_map(|octets| find(octets.get(HEADER_LEN..)?, 3));
            Set::read(lists.flat_map(attributes).map(|(_, element)| element))
        })
    }
}

impl<F: FnMut(&Request, usize) -> Vec<Vec<u8>>> Sets for View<'_, F> {
    fn keys(&mut self, set: &str) -> Option<Keys> {
        let set = self.set(set);
        match (set.elements.first(), &set.catch_all) {
            (Some(element), _) => Some(Keys::Len(element.key.len())),
            (None, Some(_)) if set.is_whole => Some(Keys::Any),
            _ => None,
        }
    }

    fn find(&mut self, set: &str, key: &[u8]) -> Found {
        let set = self.set(set);
        match (set.find(key), &set.catch_all) {
            (Some(element), _) => Found::Yes(element.action.clone()),
            (None, Some(element)) => Found::CatchAll(element.action.clone()),
            (None, None) => Found::No,
        }
    }
}

/// The elements of a set or a map.
struct Set {
    /// Those with a key, in order.
    elements: Vec<Element>,
    /// The one for all other keys, `*`.
    catch_all: Option<Element>,
    /// Whether all elements could be read.
    is_whole: bool,
}

impl Set {
    fn read<'a>(elements: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut is_whole = true;
        let (catch_all, mut elements): (Vec<_>, Vec<_>) = elements
            .map(Element::read)
            .inspect(|element| is_whole &= element.is_some())
            .flatten()
            .partition(|element| element.is_catch_all);
        // Where an interval ends and another one begins, the latter counts.
        elements.sort_by(|one, other| (&one.key, !one.is_end).cmp(&(&other.key, !other.is_end)));
        Self {
            elements,
            catch_all: catch_all.into_iter().next(),
            is_whole,
        }
    }

    /// The element that a key fits, but for the one for all others.
    fn find(&self, key: &[u8]) -> Option<&Element> {
        let elements = &self.elements;
        let has_intervals = elements.iter().any(|element| element.is_end);
        if has_intervals {
            let at_most = elements.partition_point(|element| *element.key <= *key);
            let last = elements[..at_most].last();
            last.filter(|last| !last.is_end)
        } else {
            elements.iter().find(|element| element.key == key)
        }
    }
}

/// An element of a set; of one with intervals, the start or the end of one.
struct Element {
    /// Empty, if it is for all keys that no other one has.
    key: Vec<u8>,
    is_end: bool,
    is_catch_all: bool,
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
        let flags = number(octets, 3).unwrap_or_default();
        let is_catch_all = flags & 2 != 0; // NFT_SET_ELEM_CATCHALL (Linux 5.13)
        let key = find(octets, 1).and_then(|key| find(key, 1));
        Some(Self {
            key: match is_catch_all {
                true => Vec::new(),
                false => key?.to_vec(),
            },
            is_end: flags & 1 != 0, // NFT_SET_ELEM_INTERVAL_END
            is_catch_all,
            action: find(octets, 2).and_then(action),
        })
    }
}
