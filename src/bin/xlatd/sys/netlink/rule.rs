//! Rules that lead to a routing table. They bear a protocol number, by which they are known.

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use xlatd::plan::{Effect, Rule};

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
        let wanted = rule_message(rule);
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
    message.attributes.extend([
        RuleAttribute::Table(rule.table),
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Protocol(CLAT_PROTOCOL),
    ]);
    message
}
