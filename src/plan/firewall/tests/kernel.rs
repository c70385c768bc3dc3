//! A kernel with a ruleset, as it answers to requests.

use std::cell::RefCell;

use super::{
    super::nftables::{Request, obstacles},
    *,
};

/// The message about a chain of family inet, with a policy if it is in the hook forward.
pub(super) fn chain(name: &str, policy: Option<i32>) -> Vec<u8> {
    let base = policy.map(|policy| (HOOK_FORWARD, policy));
    chain_of(INET, "firewalld", name, base)
}

pub(super) fn chain_of(family: u8, table: &str, name: &str, base: Option<(u32, i32)>) -> Vec<u8> {
    let mut octets = vec![family, 0, 0, 0];
    octets.extend(name_attribute(1, table));
    octets.extend(name_attribute(3, name));
    if let Some((hook, policy)) = base {
        let priority = number_attribute(2, 0);
        let hook = [number_attribute(1, hook), priority].concat();
        octets.extend(attribute(4, &hook));
        octets.extend(number_attribute(5, policy as u32));
    }
    octets
}

/// The message about a rule.
pub(super) fn rule(expressions: &[Vec<u8>]) -> Vec<u8> {
    [vec![INET, 0, 0, 0], attribute(4, &expressions.concat())].concat()
}

/// An element of a set, or with data of a map.
pub(super) fn element(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut octets = attribute(1, &attribute(1, key));
    if !data.is_empty() {
        octets.extend(attribute(2, data));
    }
    attribute(1, &octets)
}

/// The end of an interval (NFT_SET_ELEM_INTERVAL_END).
pub(super) fn end(key: &[u8]) -> Vec<u8> {
    element_with_flags(1, key)
}

pub(super) fn element_with_flags(flags: u32, key: &[u8]) -> Vec<u8> {
    let flags = number_attribute(3, flags);
    attribute(1, &[attribute(1, &attribute(1, key)), flags].concat())
}

/// The element `*` (NFT_SET_ELEM_CATCHALL), which has no key.
pub(super) fn catch_all(data: &[u8]) -> Vec<u8> {
    let mut octets = number_attribute(3, 2);
    if !data.is_empty() {
        octets.extend(attribute(2, data));
    }
    attribute(1, &octets)
}

pub(super) fn elements(elements: &[Vec<u8>]) -> Vec<u8> {
    [vec![INET, 0, 0, 0], attribute(3, &elements.concat())].concat()
}

/// A kernel with a table `inet filter`, which has a chain `forward` in the hook, and others.
pub(super) struct Kernel {
    policy: i32,
    /// By their names, the rules of chains.
    pub(super) chains: Vec<(&'static str, Vec<Vec<u8>>)>,
    /// By their names, the elements of sets.
    pub(super) sets: Vec<(&'static str, Vec<Vec<u8>>)>,
    asked: RefCell<Vec<Request>>,
}

impl Kernel {
    pub(super) fn new(policy: i32, forward: Vec<Vec<u8>>) -> Self {
        Self {
            policy,
            chains: vec![("forward", forward)],
            sets: Vec::new(),
            asked: RefCell::default(),
        }
    }

    pub(super) fn chain(mut self, name: &'static str, rules: Vec<Vec<u8>>) -> Self {
        self.chains.push((name, rules));
        self
    }

    pub(super) fn set(mut self, name: &'static str, elements: Vec<Vec<u8>>) -> Self {
        self.sets.push((name, elements));
        self
    }

    fn answer(&self, request: &Request) -> Vec<Vec<u8>> {
        self.asked.borrow_mut().push(request.clone());
        let of_hook = (HOOK_FORWARD, self.policy);
        match request {
            Request::Chains => {
                let chains = self.chains.iter().map(|(name, _)| {
                    let base = (*name == "forward").then_some(of_hook);
                    chain_of(INET, "filter", name, base)
                });
                chains.collect()
            }
            Request::Rules(_, chain) => {
                let mut chains = self.chains.iter();
                let found = chains.find(|(name, _)| Some(*name) == chain.as_deref());
                found.map_or(Vec::new(), |(_, rules)| rules.clone())
            }
            Request::Elements(_, set) => {
                let mut sets = self.sets.iter();
                let found = sets.find(|(name, _)| name == set);
                found.map_or(Vec::new(), |(_, all)| vec![elements(all)])
            }
        }
    }

    /// Whether the first packet of a connection is dropped, and its answer.
    pub(super) fn drops(&self, packets: &[Packet; 2]) -> (bool, bool) {
        let found = obstacles(packets, |request, _| self.answer(request));
        let [obstacle] = &found[..] else {
            assert_eq!(found, []);
            return (false, false);
        };
        (obstacle.drops_first, obstacle.drops_answers)
    }

    /// The chains and sets that were asked for.
    pub(super) fn asked(&self) -> Vec<String> {
        let name = |request: &Request| match request {
            Request::Chains => None,
            Request::Rules(_, chain) => chain.clone(),
            Request::Elements(_, set) => Some(set.clone()),
        };
        self.asked.borrow().iter().filter_map(name).collect()
    }
}
