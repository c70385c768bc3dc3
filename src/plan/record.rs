//! The record of what has to be undone, should a CLAT not come to it itself: as text, both ways.
//!
//! Recorded is what outlives the TUN device. Each line is an undo; they are carried out last first.

use std::fmt;

use super::{Route, Rule, Step, Target};
use crate::config::IpPrefix;

/// Begins a line that somebody else has added.
const HANDED_OVER: &str = "left ";

/// When and where a record was written. What was done in another boot, or another network namespace, is not there to undo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// /proc/sys/kernel/random/boot_id
    pub boot: String,
    /// The inode number of /proc/self/ns/net.
    pub namespace: u64,
}

impl fmt::Display for Place {
    /// The first line of a record, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot {} namespace {}", self.boot, self.namespace)
    }
}

/// An undo as a line, without its end. `None` if there is nothing to be recorded: it goes with the device.
pub fn line(undo: &Step) -> Option<String> {
    match undo {
        Step::SetSysctl {
            path,
            value,
            only_if: Some(only_if),
            index,
        } => Some(format!("sysctl {path} {value} {only_if} {index}")),
        Step::RemoveTableRoute(Route {
            destination,
            target,
            table,
            metric,
            ..
        }) => match target {
            Target::Device(_) => None,
            Target::Local(device, index) => Some(format!(
                "local {destination} {device} {index} {table} {metric}"
            )),
            Target::Unreachable => Some(format!("unreachable {destination} {table} {metric}")),
        },
        Step::RemoveRule(Rule {
            from,
            to,
            mark,
            table,
            priority,
        }) => Some(format!("rule {from} {to} {mark} {table} {priority}")),
        Step::ForgetAddress {
            device,
            index,
            address,
        } => Some(format!("address {address} {device} {index}")),
        Step::ForwardNoMore { routers } => {
            let words: Vec<_> = routers.iter().map(|router| format!(" {router}")).collect();
            Some(format!("forwarding{}", words.concat()))
        }
        Step::ForgetInUfw { from, to } => Some(format!("ufw {from} {to}")),
        Step::DeleteRuleset { name } => Some(format!("ruleset {name}")),
        _ => None,
    }
}

/// The undos of a record that was written at `place`, in the order in which they are to be carried out. A line that was not
/// written whole is left out. `None` if it is of another place: nothing is to be done.
pub fn undos(text: &str, place: &Place) -> Option<Vec<Step>> {
    let mut lines = text.lines();
    if lines.next()? != place.to_string() {
        return None;
    }
    let mut undos: Vec<_> = lines.filter_map(undo).collect();
    undos.reverse();
    Some(undos)
}

/// A line that was added by another instance, which has left it to the owner of the record to undo.
pub fn handed_over(line: &str) -> String {
    format!("{HANDED_OVER}{line}")
}

/// Undos of a record that others have left to its owner, if it was written at `place`.
pub fn undos_for_others(text: &str, place: &Place) -> Option<Vec<Step>> {
    let mut lines = text.lines();
    if lines.next()? != place.to_string() {
        return None;
    }
    let left = lines.filter(|line| line.starts_with(HANDED_OVER));
    Some(left.filter_map(undo).collect())
}

fn undo(line: &str) -> Option<Step> {
    let line = line.strip_prefix(HANDED_OVER).unwrap_or(line);
    let words: Vec<_> = line.split(' ').collect();
    Some(match words[..] {
        // Nothing of a record leads anywhere else.
        ["sysctl", path, value, only_if, index]
            if path.starts_with("net/") && !path.contains("..") =>
        {
            Step::SetSysctl {
                path: path.to_owned(),
                value: value.to_owned(),
                only_if: Some(only_if.to_owned()),
                index: index.parse().ok()?,
            }
        }
        ["local", destination, device, index, table, metric] => {
            let target = Target::Local(device.to_owned(), index.parse().ok()?);
            route(destination, target, table, metric)?
        }
        ["unreachable", destination, table, metric] => {
            route(destination, Target::Unreachable, table, metric)?
        }
        ["address", address, device, index] => Step::ForgetAddress {
            device: device.to_owned(),
            index: index.parse().ok()?,
            address: address.parse().ok()?,
        },
        ["rule", from, to, mark, table, priority] => Step::RemoveRule(Rule {
            from: prefix(from)?,
            to: prefix(to)?,
            mark: mark.parse().ok()?,
            table: table.parse().ok()?,
            priority: priority.parse().ok()?,
        }),
        ["forwarding", ref routers @ ..] => Step::ForwardNoMore {
            routers: routers.iter().copied().map(str::to_owned).collect(),
        },
        ["ufw", from, to] => Step::ForgetInUfw {
            from: from.to_owned(),
            to: to.to_owned(),
        },
        // It becomes part of a script of nft(8).
        ["ruleset", name] if name.starts_with("xlatd_") && name.bytes().all(is_of_name) => {
            Step::DeleteRuleset {
                name: name.to_owned(),
            }
        }
        _ => return None,
    })
}

fn is_of_name(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'_'
}

fn route(destination: &str, target: Target, table: &str, metric: &str) -> Option<Step> {
    Some(Step::RemoveTableRoute(Route {
        destination: prefix(destination)?,
        target,
        table: table.parse().ok()?,
        metric: metric.parse().ok()?,
        mtu: None,
        advmss: None,
    }))
}

fn prefix(text: &str) -> Option<IpPrefix> {
    let (address, length) = text.split_once('/')?;
    let length = length.parse().ok()?;
    match address.parse().ok()? {
        std::net::IpAddr::V4(address) if length <= 32 => Some(IpPrefix::V4(address, length)),
        std::net::IpAddr::V6(address) if length <= 128 => Some(IpPrefix::V6(address, length)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::{
        clat::{AddressTest, HostSetup, Settings},
        plan::{self, Facts},
    };

    fn place() -> Place {
        Place {
            boot: "b".to_owned(),
            namespace: 7,
        }
    }

    fn steps() -> Vec<Step> {
        let setup = HostSetup {
            uplink: ("eth0".to_owned(), 2),
            mtu: 1500,
            addresses: [[192, 0, 0, 1].into(), [192, 0, 0, 2].into()],
            prefix: crate::clat::prefix::nat64("64:ff9b::".parse().unwrap(), 96).unwrap(),
            source: "2001:db8::1".parse().unwrap(),
            dedicated: true,
            on_link: true,
            default_route: true,
            others: Vec::new(),
        };
        let facts = Facts {
            forces_forwarding: true,
            is_router: false,
            has_nft: true,
            has_ufw: true,
        };
        let trial = AddressTest {
            uplink: setup.uplink.clone(),
            address: setup.source,
        };
        let setup = plan::clat(&Settings::default(), &setup, facts);
        [plan::trial(&trial), setup].concat()
    }

    #[test]
    fn what_is_written_is_read_back_last_first() {
        let mut expected: Vec<_> = steps().iter().filter_map(Step::undo).collect();
        expected.push(Step::SetSysctl {
            path: "net/ipv6/conf/eth0/force_forwarding".to_owned(),
            value: "0".to_owned(),
            only_if: Some("1".to_owned()),
            index: 2,
        });
        for routers in [&[][..], &["br0".to_owned(), "lan".to_owned()]] {
            expected.push(Step::ForwardNoMore {
                routers: routers.to_vec(),
            });
        }
        expected.retain(|undo| line(undo).is_some());
        assert_eq!(expected.len(), 11, "{expected:?}");
        let lines: Vec<_> = expected.iter().filter_map(line).collect();
        let text = format!("{}\n{}\n", place(), lines.join("\n"));
        expected.reverse();
        assert_eq!(undos(&text, &place()).as_ref(), Some(&expected));
        assert_eq!(undos_for_others(&text, &place()), Some(vec![]));
        let text = format!("{text}{}\n", handed_over(&lines[0]));
        let left = undos_for_others(&text, &place()).unwrap();
        assert_eq!(line(&left[0]).as_ref(), Some(&lines[0]));
        assert_eq!(undos(&text, &place()).unwrap()[0], left[0]);
    }

    #[test]
    fn a_record_of_another_place_is_none() {
        let text = format!("{}\nruleset xlatd_clat\n", place());
        assert_eq!(undos(&text, &place()).unwrap().len(), 1);
        for other in [
            Place {
                boot: "c".to_owned(),
                ..place()
            },
            Place {
                namespace: 8,
                ..place()
            },
        ] {
            assert_eq!(undos(&text, &other), None);
        }
        assert_eq!(undos("", &place()), None);
    }

    #[test]
    fn damaged_lines_do_nothing() {
        for line in [
            "",
            "rule",
            "rule 192.0.0.1/32 5",
            "rule 192.0.0.1/33 0.0.0.0/0 0 5 5",
            "local 2001:db8::/32 eth0 x 5 0",
            "address x eth0 2",
            "ruleset filter",
            "ruleset xlatd_clat;\tinclude\t\"/etc/shadow\"",
            "sysctl kernel/core_pattern x y 0",
            "sysctl net/../kernel/core_pattern x y 0",
            "sysctl net/ipv6/conf/eth0/force_forwarding 0 1",
            "unreachable 0.0.0.0/0 x 5",
            "whatever 1 2",
        ] {
            let text = format!("{}\n{line}\n", place());
            assert_eq!(undos(&text, &place()), Some(vec![]), "{line}");
        }
    }
}
