//! The expressions that a rule of nftables is made of (linux/netfilter/nf_tables.h).
//!
//! Some load what is known of the packet into registers, others compare registers with constants
//! or look them up in sets. They are carried out here with what is known of a [`Packet`]; what is
//! not known leaves registers empty.

use std::{collections::HashMap, net::IpAddr};

use super::{
    attributes::{attributes, find, name, number},
    walk::{Action, Fit, IpVersion, Packet, Rule},
};

/// NFPROTO_IPV4 and NFPROTO_IPV6 of linux/netfilter.h.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// NF_DROP and NF_ACCEPT, and NF_QUEUE, upon which a program decides.
const NF_DROP: i32 = 0;
pub(super) const NF_ACCEPT: i32 = 1;
const NF_QUEUE: i32 = 3;
/// NFT_JUMP, NFT_GOTO and NFT_RETURN.
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;
/// Length of a name of a device in registers, in octets: IFNAMSIZ.
pub(super) const NAME_LEN: usize = 16;
/// States of a connection, as bits: NF_CT_STATE_BIT of IP_CT_ESTABLISHED and IP_CT_NEW.
const ESTABLISHED: u32 = 2;
const NEW: u32 = 8;

/// The sets of the table that a rule is in.
pub(super) trait Sets {
    /// What the keys of a set are; `None`, if it is empty or cannot be read.
    fn keys(&mut self, set: &str) -> Option<Keys>;
    /// Looks up a key.
    fn find(&mut self, set: &str, key: &[u8]) -> Found;
}

/// The keys of a set.
pub(super) enum Keys {
    /// All have this length, in octets.
    Len(usize),
    /// There is but the element for all keys, `*`.
    Any,
}

/// Whether a set has a key. With the action, if it is a verdict map.
pub(super) enum Found {
    No,
    Yes(Option<Action>),
    /// By the element for all keys that no other one has.
    CatchAll(Option<Action>),
}

/// A table that has no sets.
#[cfg(test)]
pub(super) struct NoSets;

#[cfg(test)]
impl Sets for NoSets {
    fn keys(&mut self, _: &str) -> Option<Keys> {
        None
    }

    fn find(&mut self, _: &str, _: &[u8]) -> Found {
        Found::No
    }
}

/// Carries out the expressions of a rule for a packet.
pub(super) fn carry_out(expressions: &[u8], packet: &Packet, sets: &mut impl Sets) -> Rule {
    Run {
        sets,
        packet,
        registers: HashMap::new(),
        is_known: true,
        names_device: false,
    }
    .rule(expressions)
}

/// The verdict in an attribute of data (NFTA_DATA_VERDICT).
pub(super) fn action(data: &[u8]) -> Option<Action> {
    let verdict = find(data, 2)?;
    let chain = || name(verdict, 2).map(str::to_owned); // NFTA_VERDICT_CHAIN
    Some(match number(verdict, 1)? as i32 {
        NF_DROP => Action::Drop,
        // The number of a queue is in the upper half.
        NF_ACCEPT => Action::Accept,
        code if code & 0xff == NF_QUEUE => Action::Accept,
        JUMP => Action::Jump(chain()?),
        GOTO => Action::Goto(chain()?),
        RETURN => Action::Return,
        _ => Action::Continue,
    })
}

/// The place of a register in units of 32 bits: NFT_REG_1 and so on have 128, and are the same as
/// four of NFT_REG32_00 and so on, which begin at 8.
fn place(register: u32) -> usize {
    let register = register as usize;
    if register < 8 {
        register * 4
    } else {
        register - 4
    }
}

/// What is known of a packet, in a register.
#[derive(Clone)]
struct Value {
    octets: Vec<u8>,
    /// Whether it says which TUN device, or which address behind it.
    is_device: bool,
}

/// A rule being carried out.
struct Run<'a, S> {
    sets: &'a mut S,
    packet: &'a Packet,
    /// By the places of registers, in units of 32 bits.
    registers: HashMap<usize, Value>,
    /// Whether all that was tested is known.
    is_known: bool,
    /// Whether it was tested that the packet is one of the TUN device.
    names_device: bool,
}

impl<S: Sets> Run<'_, S> {
    fn rule(mut self, expressions: &[u8]) -> Rule {
        let mut action = Action::Continue;
        for (_, expression) in attributes(expressions) {
            // NFTA_EXPR_NAME and NFTA_EXPR_DATA
            let kind = name(expression, 1).unwrap_or_default();
            let data = find(expression, 2).unwrap_or_default();
            match self.carry_out(kind, data) {
                Outcome::Next => {}
                Outcome::Unlike => {
                    let fit = Fit::No;
                    return Rule { fit, action };
                }
                Outcome::End(verdict) => {
                    action = verdict;
                    break;
                }
            }
        }
        let fit = if self.is_known {
            Fit::Yes
        } else {
            Fit::Unknown {
                names_device: self.names_device,
            }
        };
        Rule { fit, action }
    }

    /// Carries out an expression. The attributes are those of NFTA_META, NFTA_CT and so on.
    fn carry_out(&mut self, kind: &str, data: &[u8]) -> Outcome {
        match kind {
            "meta" | "ct" => {
                let value = match kind {
                    "meta" => number(data, 2).and_then(|key| self.meta(key)),
                    _ => self.ct(data),
                };
                self.load(number(data, 1), value);
                Outcome::Next
            }
            "cmp" => self.compare(data),
            "bitwise" => {
                let value = self.bitwise(data);
                self.load(number(data, 2), value);
                Outcome::Next
            }
            "lookup" => self.look_up(data),
            "immediate" => match find(data, 2).and_then(action) {
                Some(Action::Continue) => Outcome::Next,
                Some(action) => Outcome::End(action),
                None => {
                    self.load(number(data, 1), None);
                    Outcome::Next
                }
            },
            "reject" => Outcome::End(Action::Drop),
            "masq" => Outcome::End(Action::Masquerade),
            // Of NFT_NAT_SNAT.
            "nat" if number(data, 1) == Some(0) => Outcome::End(Action::Masquerade),
            "queue" => Outcome::End(Action::Accept), // a program decides
            "match" => self.match_of_iptables(data),
            "target" => match name(data, 1) {
                Some("REJECT") => Outcome::End(Action::Drop),
                Some("MASQUERADE" | "SNAT" | "NETMAP") => Outcome::End(Action::Masquerade),
                Some("NFQUEUE") => Outcome::End(Action::Accept),
                _ => Outcome::Next,
            },
            "counter" | "log" | "last" | "notrack" | "flow_offload" => Outcome::Next,
            // Of NFT_OBJECT_COUNTER, and not of a rate or a quota.
            "objref" if number(data, 1) == Some(1) => Outcome::Next,
            "payload" if let Some(value) = self.payload(data) => {
                self.load(number(data, 1), Some(value));
                Outcome::Next
            }
            // They load what is not known.
            "payload" | "exthdr" | "fib" | "rt" | "numgen" | "hash" | "socket" | "osf"
            | "tunnel" | "xfrm" | "byteorder" | "inner" => {
                self.registers.clear();
                Outcome::Next
            }
            // All others decide by what is not known, as the rate.
            _ => {
                self.is_known = false;
                Outcome::Next
            }
        }
    }

    /// Nothing is loaded where a packet is changed instead.
    fn load(&mut self, register: Option<u32>, value: Option<Value>) {
        match (register.map(place), value) {
            (Some(place), Some(value)) => {
                self.registers.insert(place, value);
            }
            (Some(place), None) => {
                self.registers.remove(&place);
            }
            (None, _) => {}
        }
    }

    /// By enum nft_meta_keys. Numbers are in host order.
    fn meta(&self, key: u32) -> Option<Value> {
        let (input, output) = (&self.packet.input, &self.packet.output);
        let name = |name: &str| {
            let mut octets = name.as_bytes().to_vec();
            octets.resize(NAME_LEN, 0);
            octets
        };
        let (ethertype, family) = match self.packet.version {
            IpVersion::V4 => (0x0800_u16, IPV4),
            IpVersion::V6 => (0x86dd, IPV6),
        };
        let octets = match key {
            1 => ethertype.to_be_bytes().to_vec(), // NFT_META_PROTOCOL, in network order
            4 => input.index.to_ne_bytes().to_vec(), // NFT_META_IIF
            5 => output.index.to_ne_bytes().to_vec(), // NFT_META_OIF
            6 => name(&input.name),                // NFT_META_IIFNAME
            7 => name(&output.name),               // NFT_META_OIFNAME
            15 => vec![family],                    // NFT_META_NFPROTO
            _ => return None,
        };
        let is_device = match key {
            4 | 6 => self.packet.leaves,
            5 | 7 => !self.packet.leaves,
            _ => false,
        };
        Some(Value { octets, is_device })
    }

    /// Octets of the header of IP, if they are of the address that is known (NFTA_PAYLOAD_BASE and
    /// so on): an address, or the start of one.
    fn payload(&self, data: &[u8]) -> Option<Value> {
        const NETWORK_HEADER: u32 = 1;
        let (address, source_at) = match self.packet.translated? {
            IpAddr::V4(address) => (address.octets().to_vec(), 12), // RFC 791 section 3.1
            IpAddr::V6(address) => (address.octets().to_vec(), 8),  // RFC 8200 section 3
        };
        let at = match self.packet.leaves {
            true => source_at,
            false => source_at + address.len(),
        };
        let is_address = number(data, 2)? == NETWORK_HEADER && number(data, 3)? as usize == at;
        let octets = address.get(..number(data, 4)? as usize)?.to_vec();
        (is_address && !octets.is_empty()).then_some(Value {
            octets,
            is_device: true,
        })
    }

    /// The state of the connection (NFT_CT_STATE).
    fn ct(&self, data: &[u8]) -> Option<Value> {
        (number(data, 2)? == 0).then(|| Value {
            octets: self.state().to_ne_bytes().to_vec(),
            is_device: false,
        })
    }

    fn state(&self) -> u32 {
        if self.packet.is_first {
            NEW
        } else {
            ESTABLISHED
        }
    }

    /// The value that an expression reads, from the register in its attribute `kind`.
    fn value(&self, data: &[u8], kind: u16) -> Option<&Value> {
        self.registers.get(&place(number(data, kind)?))
    }

    /// The value of a length that begins in a register, which may be the concatenation of several.
    fn concatenation(&self, register: u32, len: usize) -> Option<Value> {
        let mut all = Value {
            octets: Vec::new(),
            is_device: false,
        };
        while all.octets.len() < len {
            let value = self
                .registers
                .get(&(place(register) + all.octets.len() / 4))?;
            all.octets.extend(&value.octets);
            all.is_device |= value.is_device;
            if all.octets.len() != len {
                let padded = all.octets.len().next_multiple_of(4);
                all.octets.resize(padded, 0);
            }
        }
        (all.octets.len() == len).then_some(all)
    }

    /// NFT_CMP_EQ and NFT_CMP_NEQ; a constant that is shorter is the start of a name.
    fn compare(&mut self, data: &[u8]) -> Outcome {
        let constant = find(data, 3).and_then(|data| find(data, 1));
        let (Some(value), Some(constant), Some(operator @ 0..=1)) =
            (self.value(data, 1), constant, number(data, 2))
        else {
            return self.unknown();
        };
        let (is_equal, is_device) = (value.octets.starts_with(constant), value.is_device);
        self.test(is_equal, operator == 1, is_device)
    }

    /// The value with a mask, and then an exclusive or (NFT_BITWISE_BOOL, or NFT_BITWISE_MASK_XOR).
    fn bitwise(&self, data: &[u8]) -> Option<Value> {
        if number(data, 6).is_some_and(|operation| operation != 0) {
            return None;
        }
        let constant = |kind| find(data, kind).and_then(|data| find(data, 1));
        let (mask, xor) = (constant(4)?, constant(5)?);
        let mut value = self.value(data, 1)?.clone();
        for ((octet, mask), xor) in value.octets.iter_mut().zip(mask).zip(xor) {
            *octet = *octet & mask ^ xor;
        }
        Some(value)
    }

    fn look_up(&mut self, data: &[u8]) -> Outcome {
        let (Some(register), Some(set)) = (number(data, 2), name(data, 1)) else {
            return self.unknown();
        };
        // Sets of what is not known, as of addresses, may be long: they are not read.
        let keys = match self.registers.contains_key(&place(register)) {
            true => self.sets.keys(set),
            false => None,
        };
        let value = match keys {
            Some(Keys::Len(len)) => self.concatenation(register, len),
            Some(Keys::Any) => self.value(data, 2).cloned(),
            None => None,
        };
        let Some(value) = value else {
            return self.unknown();
        };
        let (is_found, is_device, action) = match self.sets.find(set, &value.octets) {
            Found::Yes(action) => (true, value.is_device, action),
            // It says nothing of the device.
            Found::CatchAll(action) => (true, false, action),
            Found::No => (false, false, None),
        };
        let is_negated = number(data, 5).is_some_and(|flags| flags & 1 != 0); // NFT_LOOKUP_F_INV
        let outcome = self.test(is_found, is_negated, is_device);
        match (outcome, number(data, 3), action) {
            (Outcome::Next, Some(0), Some(action)) => Outcome::End(action), // a verdict map
            (Outcome::Next, Some(register), _) => {
                self.load(Some(register), None);
                Outcome::Next
            }
            (outcome, ..) => outcome,
        }
    }

    /// A match of iptables: comments, and states of connections, by struct xt_conntrack_mtinfo3 of
    /// linux/netfilter/xt_conntrack.h.
    fn match_of_iptables(&mut self, data: &[u8]) -> Outcome {
        const FLAGS_AT: usize = 146;
        const STATE: u16 = 1;
        if name(data, 1) == Some("comment") {
            return Outcome::Next;
        }
        let is_conntrack = name(data, 1) == Some("conntrack");
        let fields = find(data, 3).and_then(|info| info.get(FLAGS_AT..FLAGS_AT + 6));
        let (Some(&[a, b, c, d, e, f]), true, Some(3)) = (fields, is_conntrack, number(data, 2))
        else {
            return self.unknown();
        };
        let [flags, inverted, states] = [[a, b], [c, d], [e, f]].map(u16::from_ne_bytes);
        if flags != STATE {
            return self.unknown();
        }
        let holds = u32::from(states) & self.state() != 0;
        self.test(holds, inverted & STATE != 0, false)
    }

    fn test(&mut self, holds: bool, is_negated: bool, is_device: bool) -> Outcome {
        if holds == is_negated {
            return Outcome::Unlike;
        }
        self.names_device |= holds && is_device;
        Outcome::Next
    }

    fn unknown(&mut self) -> Outcome {
        self.is_known = false;
        Outcome::Next
    }
}

/// What an expression does to the rest of its rule.
enum Outcome {
    Next,
    /// The rule does not apply.
    Unlike,
    End(Action),
}
