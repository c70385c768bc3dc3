//! Rules that lead to a routing table. They bear a protocol number, by which they are known.

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use nix::libc;
use xlatd::{
    clat::FirstRules,
    plan::{Effect, Rule},
};

use super::{CLAT_PROTOCOL, Netlink, family};

impl Netlink {
    pub(crate) fn add_rule(&mut self, rule: &Rule) -> io::Result<Effect> {
        let message = RouteNetlinkMessage::NewRule(rule_message(rule));
        self.tell(message, NLM_F_CREATE | NLM_F_EXCL)
    }

    pub(crate) fn remove_rule(&mut self, rule: &Rule) -> io::Result<Effect> {
        self.tell(RouteNetlinkMessage::DelRule(rule_message(rule)), 0)
    }

    pub(crate) fn has_rule(&mut self, rule: &Rule) -> io::Result<bool> {
        let mut wanted = rule_message(rule);
        // The kernel does not say a priority of 0.
        let is_said = |one: &RuleAttribute| *one != RuleAttribute::Priority(0);
        wanted.attributes.retain(is_said);
        let mut filter = RuleMessage::default();
        filter.header.family = wanted.header.family;
        let rules = self.request(RouteNetlinkMessage::GetRule(filter), NLM_F_DUMP)?;
        Ok(rules.iter().any(|found| match found {
            RouteNetlinkMessage::NewRule(found) => wanted
                .attributes
                .iter()
                .all(|one| found.attributes.contains(one)),
            _ => false,
        }))
    }

    /// The priorities of the first rules of others.
    pub(super) fn first_rules(&mut self) -> io::Result<FirstRules> {
        Ok(FirstRules {
            v4: self.first_rule(AddressFamily::Inet)?,
            v6: self.first_rule(AddressFamily::Inet6)?,
        })
    }

    fn first_rule(&mut self, family: AddressFamily) -> io::Result<Option<u32>> {
        let mut filter = RuleMessage::default();
        filter.header.family = family;
        let rules = match self.request(RouteNetlinkMessage::GetRule(filter), NLM_F_DUMP) {
            // A kernel without IPv6, or without policy rules.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(None),
            rules => rules?,
        };
        let others = rules.iter().filter_map(|found| match found {
            RouteNetlinkMessage::NewRule(rule) => priority_of_other(rule),
            _ => None,
        });
        Ok(others.min())
    }
}

/// The priority of a rule that is neither a CLAT's nor the first of the kernel.
fn priority_of_other(rule: &RuleMessage) -> Option<u32> {
    const LOCAL: u8 = libc::RT_TABLE_LOCAL;
    let mut priority = 0; // the kernel says no other
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Priority(value) => priority = *value,
            RuleAttribute::Protocol(CLAT_PROTOCOL) => return None,
            _ => {}
        }
    }
    (priority != 0 || rule.header.table != LOCAL).then_some(priority)
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.from.address());
    message.header.action = RuleAction::ToTable;
    message.header.src_len = rule.from.length();
    message.header.dst_len = rule.to.length();
    if rule.from.length() != 0 {
        let from = rule.from.address();
        message.attributes.push(RuleAttribute::Source(from));
    }
    if rule.to.length() != 0 {
        let to = rule.to.address();
        message.attributes.push(RuleAttribute::Destination(to));
    }
    if rule.mark != 0 {
        message.attributes.push(RuleAttribute::FwMark(rule.mark));
    }
    if let Some(device) = &rule.by {
        message
            .attributes
            .push(RuleAttribute::Iifname(device.clone()));
    }
    message.attributes.extend([
        RuleAttribute::Table(rule.table),
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Protocol(CLAT_PROTOCOL),
    ]);
    message
}
