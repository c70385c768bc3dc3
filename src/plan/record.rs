//! The undo journal, kept across a crash: as text, both ways.
//!
//! The first line says where it was written. Each other line is the undo of something that outlives
//! the TUN device; the undos are carried out last first. A version that comes after an upgrade
//! reads what an older one has written.

use std::fmt;

use super::{Family, Protocol, Route, Rule, Sysctl, Table, Target, Undo, conf_path};
use crate::{addr::IpPrefix, link::LinkRef};

/// Begins a line that another instance has handed over to the owner of the journal.
const HANDED_OVER: &str = "left ";

/// The boot and the network namespace that a journal is of. What was done in others is not there to
/// be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// /proc/sys/kernel/random/boot_id
    pub boot: String,
    /// The inode number of /proc/self/ns/net.
    pub namespace: u64,
}

impl fmt::Display for Place {
    /// The first line of a journal, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot {} namespace {}", self.boot, self.namespace)
    }
}

/// An undo as a line, without its end. `None` if it need not be recorded: it goes with the device.
pub fn line(undo: &Undo) -> Option<String> {
    Some(match undo {
        Undo::RestoreSysctl { set, before } => {
            let (path, index) = (set.path(), set.link.index);
            format!("sysctl {path} {before} {} {index}", set.value)
        }
        Undo::RemoveRoute(route) => {
            let (destination, table, metric) = (route.destination, route.table, route.metric);
            match &route.target {
                // They go with the TUN device.
                Target::Device(link) if link.index == 0 => return None,
                Target::NextHopObject(_) => return None,
                Target::Device(LinkRef { index, name }) => {
                    format!("route {destination} {name} {index} {table} {metric}")
                }
                Target::Router(router, LinkRef { index, name }) => {
                    format!("route {destination} {router} {name} {index} {table} {metric}")
                }
                Target::Local(LinkRef { index, name }) => {
                    format!("local {destination} {name} {index} {table} {metric}")
                }
                Target::Unreachable => format!("unreachable {destination} {table} {metric}"),
                Target::Blackhole => format!("blackhole {destination} {table} {metric}"),
            }
        }
        Undo::RemoveRule(rule) => {
            let (from, to, mark) = (rule.from, rule.to, rule.mark);
            let by = rule.by.iter().map(|device| format!(" {device}"));
            let by: String = by.collect();
            format!(
                "rule {from} {to} {mark} {} {}{by}",
                rule.table, rule.priority
            )
        }
        // All others are of the TUN device.
        Undo::RemoveAddress(LinkRef { index, name }, IpPrefix::V6(address, 128)) if *index != 0 => {
            format!("address {address} {name} {index}")
        }
        Undo::StopForwarding { routers } => {
            let words = routers.iter().map(|router| format!(" {router}"));
            format!("forwarding{}", words.collect::<String>())
        }
        Undo::DeleteUfwRule { from, to } => format!("ufw {from} {to}"),
        Undo::DeleteRuleset(name) => match name.family {
            Family::Inet => format!("ruleset {}", name.name),
            Family::Ip | Family::Ip6 => format!("ruleset {name}"),
        },
        Undo::SetDown(_)
        | Undo::RestoreQueueLength(..)
        | Undo::RemoveAddress(..)
        // Goes also with a persistent device, as soon as nobody is attached to that.
        | Undo::RemoveNextHopObject(_) => return None,
    })
}

/// An undo that another instance hands over to the owner of the journal, as a line.
pub fn handed_over_line(undo: &Undo) -> Option<String> {
    Some(format!("{HANDED_OVER}{}", line(undo)?))
}

/// The undos of a journal of this place, in the order in which they are to be carried out. A line
/// that was not written whole is left out. `None` if the journal is of another place.
pub fn undos(text: &str, place: &Place) -> Option<Vec<Undo>> {
    let mut undos: Vec<_> = lines(text, place)?.filter_map(undo).collect();
    undos.reverse();
    Some(undos)
}

/// Those of a journal of this place that other instances have handed over.
pub fn handed_over(text: &str, place: &Place) -> Option<Vec<Undo>> {
    let lines = lines(text, place)?.filter(|line| line.starts_with(HANDED_OVER));
    Some(lines.filter_map(undo).collect())
}

/// The lines after the first one, which says the place.
fn lines<'a>(text: &'a str, place: &Place) -> Option<impl Iterator<Item = &'a str>> {
    let mut lines = text.lines();
    (lines.next()? == place.to_string()).then_some(lines)
}

fn undo(line: &str) -> Option<Undo> {
    let line = line.strip_prefix(HANDED_OVER).unwrap_or(line);
    let words: Vec<_> = line.split(' ').collect();
    Some(match words[..] {
        ["sysctl", path, before, value, index] => Undo::RestoreSysctl {
            set: sysctl(path, value, index)?,
            before: before.to_owned(),
        },
        ["local", destination, device, index, table, metric] => {
            let target = Target::Local(link(device, index)?);
            route(destination, target, table, metric)?
        }
        ["route", destination, device, index, table, metric] => {
            let target = Target::Device(link(device, index)?);
            route(destination, target, table, metric)?
        }
        ["route", destination, router, device, index, table, metric] => {
            let target = Target::Router(router.parse().ok()?, link(device, index)?);
            route(destination, target, table, metric)?
        }
        ["unreachable", destination, table, metric] => {
            route(destination, Target::Unreachable, table, metric)?
        }
        ["blackhole", destination, table, metric] => {
            route(destination, Target::Blackhole, table, metric)?
        }
        ["address", address, device, index] => Undo::RemoveAddress(
            link(device, index)?,
            IpPrefix::V6(address.parse().ok()?, 128),
        ),
        ["rule", from, to, mark, table, priority, ref by @ ..] => Undo::RemoveRule(Rule {
            from: from.parse().ok()?,
            to: to.parse().ok()?,
            mark: mark.parse().ok()?,
            by: match by {
                [] => None,
                [device] => Some((*device).to_owned()),
                _ => return None,
            },
            table: table.parse().ok()?,
            priority: priority.parse().ok()?,
        }),
        ["forwarding", ref routers @ ..] => Undo::StopForwarding {
            routers: routers.iter().copied().map(str::to_owned).collect(),
        },
        ["ufw", from, to] => Undo::DeleteUfwRule {
            from: from.to_owned(),
            to: to.to_owned(),
        },
        ["ruleset", name] => ruleset(Family::Inet, name)?,
        ["ruleset", "ip", name] => ruleset(Family::Ip, name)?,
        ["ruleset", "ip6", name] => ruleset(Family::Ip6, name)?,
        _ => return None,
    })
}

/// A setting by its path, which leads to an IPv6 setting of a device and nowhere else.
fn sysctl(path: &str, value: &str, index: &str) -> Option<Sysctl> {
    let parts: Vec<_> = path.split('/').collect();
    let [_, _, _, device, name] = parts[..] else {
        return None;
    };
    let leads_away = |part| matches!(part, "" | "." | "..");
    if path != conf_path(device, name) || leads_away(device) || leads_away(name) {
        return None;
    }
    Some(Sysctl {
        link: LinkRef::new(index.parse().ok()?, device),
        name: name.to_owned(),
        value: value.to_owned(),
    })
}

/// Another device than the TUN device.
fn link(name: &str, index: &str) -> Option<LinkRef> {
    let index = index.parse().ok().filter(|index| *index != 0)?;
    Some(LinkRef::new(index, name))
}

/// A table of ours: its name becomes part of a script of nft(8).
fn ruleset(family: Family, name: &str) -> Option<Undo> {
    let is_of_name = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'_';
    let is_ours = name.starts_with("xlatd_") && name.bytes().all(is_of_name);
    is_ours.then(|| Undo::DeleteRuleset(Table::new(family, name)))
}

fn route(destination: &str, target: Target, table: &str, metric: &str) -> Option<Undo> {
    Some(Undo::RemoveRoute(Route {
        destination: destination.parse().ok()?,
        target,
        table: table.parse().ok()?,
        metric: metric.parse().ok()?,
        mtu: None,
        advmss: None,
        protocol: Protocol::Clat,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::{
        clat::{AddressTest, Forwarding, HostSetup, NextHop, Settings, Way},
        plan::{self, Before, Facts, Resource},
    };

    /// What every version writes, and reads. A line that changes here is one that is not undone
    /// after an upgrade.
    const LINES: [&str; 37] = [
        "ruleset ip6 xlatd_clat_test",
        "address 2001:db8::1 eth0 2",
        // By a packet socket.
        "sysctl net/ipv6/conf/clat/disable_ipv6 0 1 0",
        "ruleset ip xlatd_clat",
        "blackhole 2001:db8::1/128 255 0",
        "unreachable 0.0.0.0/0 49575 4294967295",
        "rule 192.0.0.1/32 0.0.0.0/0 0 49575 24999",
        "rule 0.0.0.0/0 0.0.0.0/0 49575 49575 24999",
        "sysctl net/ipv4/conf/clat/rp_filter 0 2 0",
        // By the kernel's forwarding.
        "sysctl net/ipv6/conf/clat/addr_gen_mode 0 1 0",
        "ruleset xlatd_clat",
        "sysctl net/ipv6/conf/clat/force_forwarding 0 1 0",
        "sysctl net/ipv6/conf/eth0/force_forwarding 0 1 2",
        "ufw clat eth0",
        "ufw eth0 clat",
        "route ::/0 fe80::1 eth0 2 49575 0",
        "rule ::/0 2001:db8::1/128 0 49575 24999",
        "rule ::/0 ::/0 0 49575 24999 clat",
        "unreachable 0.0.0.0/0 49575 4294967295",
        "rule 192.0.0.1/32 0.0.0.0/0 0 49575 24999",
        "rule 0.0.0.0/0 0.0.0.0/0 49575 49575 24999",
        "sysctl net/ipv4/conf/clat/rp_filter 0 2 0",
        // With the host's address, and without a router.
        "sysctl net/ipv6/conf/clat/addr_gen_mode 0 1 0",
        "ruleset xlatd_clat",
        "sysctl net/ipv6/conf/clat/force_forwarding 0 1 0",
        "sysctl net/ipv6/conf/eth0/force_forwarding 0 1 2",
        "ufw clat eth0",
        "ufw eth0 clat",
        "route ::/0 eth0 2 49575 0",
        "rule ::/0 fdc1:a700:464::c000:1/128 0 49575 24999",
        "rule ::/0 ::/0 0 49575 24999 clat",
        "unreachable 0.0.0.0/0 49575 4294967295",
        "rule 192.0.0.1/32 0.0.0.0/0 0 49575 24999",
        "rule 0.0.0.0/0 0.0.0.0/0 49575 49575 24999",
        "sysctl net/ipv4/conf/clat/rp_filter 0 2 0",
        "forwarding br0 lan",
        "forwarding",
    ];
    /// What only older versions write.
    const OLD_LINES: [&str; 2] = [
        "local 2001:db8::1/128 eth0 2 49575 0",
        "rule ::/0 2001:db8::1/128 49575 49575 24999",
    ];

    fn place() -> Place {
        Place {
            boot: "b".to_owned(),
            namespace: 7,
        }
    }

    /// The undos of all that a CLAT does by each way, and of what it does on an older kernel.
    fn clat_undos() -> Vec<Undo> {
        let forwarding = Forwarding {
            router: "fe80::1".parse().ok(),
            rule_priority: 24999,
        };
        let without_router = Forwarding {
            router: None,
            ..forwarding
        };
        let setup = |way| HostSetup {
            uplink: LinkRef::new(2, "eth0"),
            mtu: 1500,
            addresses: [[192, 0, 0, 1].into(), [192, 0, 0, 2].into()],
            prefix: crate::clat::prefix::nat64("64:ff9b::".parse().unwrap(), 96).unwrap(),
            source: "2001:db8::1".parse().unwrap(),
            way,
            on_link: true,
            default_route: true,
            rule_priority: 24999,
            link_local_default: None,
            links_v4: Vec::new(),
            others: Vec::new(),
        };
        let facts = Facts {
            forces_forwarding: true,
            is_router: false,
            has_nft: true,
            matches_sockets: true,
            has_next_hop_object: true,
            filters_strictly: true,
            has_ufw: true,
        };
        let direct = setup(Way::Direct(NextHop::Peer));
        let trial = AddressTest {
            uplink: direct.uplink.clone(),
            address: direct.source,
        };
        let [forwarded, shared] = [
            setup(Way::Forwarded(forwarding)),
            setup(Way::Shared(without_router)),
        ];
        let plans = [direct, forwarded, shared];
        let plans = plans.map(|setup| plan::clat(&Settings::default(), &setup, facts));
        let settings = Settings::default();
        let plan = [plan::trial(&settings, &trial, true), plans.concat()].concat();
        let undos = plan
            .iter()
            .filter_map(|resource| resource.undo(Before::Value("0".to_owned())));
        let routers = ["br0", "lan"].map(str::to_owned).into();
        undos
            .chain([routers, Vec::new()].map(|routers| Undo::StopForwarding { routers }))
            .collect()
    }

    #[test]
    fn what_a_clat_undoes_is_written_as_before() {
        let lines: Vec<_> = clat_undos().iter().filter_map(line).collect();
        assert_eq!(lines, LINES);
    }

    #[test]
    fn what_is_written_is_read_back_last_first() {
        let mut expected = clat_undos();
        expected.retain(|undo| line(undo).is_some());
        let text = format!("{}\n{}\n", place(), LINES.join("\n"));
        expected.reverse();
        assert_eq!(undos(&text, &place()).as_ref(), Some(&expected));
        assert_eq!(handed_over(&text, &place()), Some(vec![]));
        let line = handed_over_line(&expected[0]).unwrap();
        let text = format!("{text}{line}\n");
        assert_eq!(handed_over(&text, &place()).unwrap(), expected[..1]);
        assert_eq!(undos(&text, &place()).unwrap()[0], expected[0]);
    }

    #[test]
    fn what_older_versions_have_written_is_read() {
        for old in OLD_LINES {
            let read = undos(&format!("{}\n{old}\n", place()), &place()).unwrap();
            let again = read.first().and_then(line);
            assert_eq!(again.as_deref(), Some(old));
        }
    }

    /// Of a killed CLAT, the kernel has removed what goes with the TUN device; and what was put on
    /// a persistent one stays, as with tayga.
    #[test]
    fn what_goes_with_the_device_has_no_line() {
        let tun = || LinkRef::tun("clat");
        let address = IpPrefix::V6("2001:db8::1".parse().unwrap(), 128);
        let next_hop = plan::NextHopObject { id: 5, link: tun() };
        let route = |target| {
            Resource::Route(Route {
                destination: IpPrefix::V4([192, 0, 2, 0].into(), 24),
                target,
                table: 254,
                metric: 0,
                mtu: None,
                advmss: None,
                protocol: Protocol::Clat,
            })
        };
        for resource in [
            Resource::LinkUp(tun()),
            Resource::QueueLength(tun(), 500),
            Resource::Address(tun(), address),
            Resource::Address(tun(), IpPrefix::V4([192, 0, 0, 1].into(), 32)),
            route(Target::Device(tun())),
            route(Target::NextHopObject(next_hop.clone())),
            Resource::NextHopObject(next_hop),
        ] {
            let undo = resource.undo(Before::QueueLength(1)).unwrap();
            assert_eq!(line(&undo), None, "{undo}");
            assert_eq!(handed_over_line(&undo), None, "{undo}");
        }
        let uplink = LinkRef::new(2, "eth0");
        let prefix = IpPrefix::V6("2001:db8::".parse().unwrap(), 64);
        for (undo, expected) in [
            (
                Undo::RemoveAddress(uplink.clone(), address),
                Some("address 2001:db8::1 eth0 2"),
            ),
            (Undo::RemoveAddress(uplink, prefix), None),
        ] {
            assert_eq!(line(&undo).as_deref(), expected);
        }
    }

    /// The identifier of a boot, and the inode of the network namespace.
    #[test]
    fn the_first_line_is_the_place() {
        assert_eq!(place().to_string(), "boot b namespace 7");
    }

    #[test]
    fn a_journal_of_another_place_is_none() {
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
            "local 2001:db8::/32 eth0 0 5 0",
            "address x eth0 2",
            "address 2001:db8::1 eth0 0",
            "ruleset filter",
            "ruleset xlatd_clat;\tinclude\t\"/etc/shadow\"",
            "sysctl kernel/core_pattern x y 0",
            "sysctl net/../kernel/core_pattern x y 0",
            "sysctl net/ipv6/conf/../x x y 0",
            "sysctl net/ipv6/conf/eth0/../x x y 0",
            "sysctl net/ipv6/conf/eth0/.. x y 0",
            "sysctl net/ipv6/conf/./x x y 0",
            "sysctl net/ipv4/conf/eth0/forwarding x y 0",
            "sysctl net/ipv6/neigh/eth0/app_solicit x y 0",
            "sysctl a/b/c/kernel/core_pattern x y 0",
            "rule ::/0 ::/0 0 5 5 clat more",
            "ruleset arp xlatd_clat",
            "sysctl net/ipv6/conf//x x y 0",
            "sysctl net/ipv6/conf/eth0/force_forwarding 0 1",
            "unreachable 0.0.0.0/0 x 5",
            "whatever 1 2",
        ] {
            let text = format!("{}\n{line}\n", place());
            assert_eq!(undos(&text, &place()), Some(vec![]), "{line}");
        }
    }
}
