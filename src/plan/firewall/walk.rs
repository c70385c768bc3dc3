//! The way of a packet through chains, whatever they are read from.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use crate::link::LinkRef;

/// The deepest that chains may call each other: NFT_JUMP_STACK_SIZE of net/netfilter/nf_tables.h.
const MAX_DEPTH: usize = 16;

/// The version of IP of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A packet that is forwarded from or to the TUN device.
#[derive(Clone, Debug)]
pub struct Packet {
    pub(super) version: IpVersion,
    /// The device that it comes in by.
    pub(super) input: LinkRef,
    /// The device that it leaves by.
    pub(super) output: LinkRef,
    /// Whether it is the first one of a connection; otherwise it is an answer.
    pub(super) is_first: bool,
    /// Whether it comes from the TUN device; otherwise it goes there.
    pub(super) leaves: bool,
    /// The address that leads to the TUN device, if it is known: the source of a packet that comes
    /// from there, or else the destination.
    pub(super) translated: Option<IpAddr>,
}

impl Packet {
    /// The version of IP.
    pub fn version(&self) -> IpVersion {
        self.version
    }

    /// The first IPv6 packet of a connection that leaves a CLAT, and its answer.
    pub fn both_ways(device: &LinkRef, uplink: &LinkRef) -> [Self; 2] {
        Self::connection(IpVersion::V6, true, device, uplink, None)
    }

    /// The first packet of a connection, and its answer. It leaves the TUN device, or else comes
    /// from the other one. `translated` is the address of its end that is behind the TUN device.
    pub fn connection(
        version: IpVersion,
        leaves: bool,
        device: &LinkRef,
        other: &LinkRef,
        translated: Option<IpAddr>,
    ) -> [Self; 2] {
        [true, false].map(|is_first| {
            let leaves = leaves == is_first;
            let (input, output) = if leaves {
                (device, other)
            } else {
                (other, device)
            };
            Self {
                version,
                input: input.clone(),
                output: output.clone(),
                is_first,
                leaves,
                translated,
            }
        })
    }
}

/// Whether a rule applies to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    No,
    /// It depends on what is not known of the packet.
    Unknown {
        /// Whether the rule is for packets of the TUN device, or of the address behind it.
        names_device: bool,
    },
}

/// What a rule does with a packet that it applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Accept,
    Drop,
    /// Its source becomes another one: that of the device that it leaves by, or a given one.
    Masquerade,
    Jump(String),
    Goto(String),
    Return,
    /// Something that decides nothing, as counting.
    Continue,
}

/// A rule, as seen by one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) fit: Fit,
    pub(super) action: Action,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
}

/// The chains of a table.
pub(super) trait Chains {
    /// A rule of a chain, by its place; `None` behind the last one.
    fn rule(&mut self, chain: &str, place: usize, packet: &Packet) -> Option<Rule>;
}

/// The verdict of a chain; `None`: the packet comes to its end, where a policy decides.
pub(super) fn verdict(chains: &mut impl Chains, chain: &str, packet: &Packet) -> Option<Verdict> {
    Walk {
        chains,
        packet,
        seen: HashMap::new(),
    }
    .verdict(chain, 0)
}

struct Walk<'a, C> {
    chains: &'a mut C,
    packet: &'a Packet,
    /// Chains that were looked at. One that is called from many places is read once.
    seen: HashMap<String, Option<Verdict>>,
}

impl<C: Chains> Walk<'_, C> {
    fn verdict(&mut self, chain: &str, depth: usize) -> Option<Verdict> {
        if depth > MAX_DEPTH {
            return None;
        }
        if let Some(verdict) = self.seen.get(chain) {
            return *verdict;
        }
        let verdict = self.verdict_of_rules(chain, depth);
        self.seen.insert(chain.to_owned(), verdict);
        verdict
    }

    fn verdict_of_rules(&mut self, chain: &str, depth: usize) -> Option<Verdict> {
        let mut places = 0..;
        while let Some(rule) = self.chains.rule(chain, places.next()?, self.packet) {
            let is_sure = match rule.fit {
                Fit::Yes => true,
                // Who lets packets of the device pass knows which ones they are.
                Fit::Unknown { names_device: true } => false,
                Fit::No | Fit::Unknown { .. } => continue,
            };
            let verdict = match &rule.action {
                Action::Accept => Some(Verdict::Accept),
                Action::Drop => Some(Verdict::Drop),
                Action::Jump(to) | Action::Goto(to) => self.verdict(to, depth + 1),
                Action::Masquerade | Action::Return | Action::Continue => None,
            };
            if verdict.is_some_and(|verdict| is_sure || verdict == Verdict::Accept) {
                return verdict;
            }
            if is_sure && matches!(rule.action, Action::Goto(_) | Action::Return) {
                return None;
            }
        }
        None
    }
}

/// Whether a rule of a chain, or of one that it calls, may give a packet another source: one that
/// applies to it, or that depends on what is not known of it.
pub(super) fn may_masquerade(chains: &mut impl Chains, chain: &str, packet: &Packet) -> bool {
    let (mut seen, mut left) = (HashSet::new(), vec![chain.to_owned()]);
    while let Some(chain) = left.pop() {
        if !seen.insert(chain.clone()) {
            continue;
        }
        let mut places = 0..;
        while let Some(rule) = places
            .next()
            .and_then(|place| chains.rule(&chain, place, packet))
        {
            match (rule.fit, rule.action) {
                (Fit::No, _) => {}
                (_, Action::Masquerade) => return true,
                (_, Action::Jump(to) | Action::Goto(to)) => left.push(to),
                (Fit::Yes, Action::Accept | Action::Drop | Action::Return) => break,
                _ => {}
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chains of which each calls the next one from two places.
    struct Doubling {
        asked: usize,
    }

    impl Chains for Doubling {
        fn rule(&mut self, chain: &str, place: usize, _: &Packet) -> Option<Rule> {
            self.asked += 1;
            let next = format!("{}", chain.parse::<u32>().unwrap_or_default() + 1);
            (place < 2).then_some(Rule {
                fit: Fit::Yes,
                action: Action::Jump(next),
            })
        }
    }

    /// One chain with one rule.
    struct Single(Rule);

    impl Chains for Single {
        fn rule(&mut self, _: &str, place: usize, _: &Packet) -> Option<Rule> {
            (place == 0).then(|| self.0.clone())
        }
    }

    /// A rule does to packets what it says only if it applies to them.
    #[test]
    fn a_rule_that_does_not_apply_does_nothing() {
        let [packet, _] = Packet::both_ways(&LinkRef::new(1, "clat"), &LinkRef::new(2, "eth0"));
        let some = Fit::Unknown {
            names_device: false,
        };
        for (fit, drops, may_change) in [
            (Fit::Yes, true, true),
            (Fit::No, false, false),
            (some, false, true),
        ] {
            let single = |action| Single(Rule { fit, action });
            let dropped = verdict(&mut single(Action::Drop), "", &packet);
            assert_eq!(dropped, drops.then_some(Verdict::Drop), "{fit:?}");
            let masquerades = may_masquerade(&mut single(Action::Masquerade), "", &packet);
            assert_eq!(masquerades, may_change, "{fit:?}");
        }
    }

    /// What chains cost is not what they can be made to cost: each is read once, and chains without
    /// end do not hang it.
    #[test]
    fn each_chain_is_read_once() {
        let [packet, _] = Packet::both_ways(&LinkRef::new(1, "clat"), &LinkRef::new(2, "eth0"));
        let mut chains = Doubling { asked: 0 };
        assert_eq!(verdict(&mut chains, "0", &packet), None);
        assert_eq!(chains.asked, (MAX_DEPTH + 1) * 3);
    }
}
