//! iptables-legacy and ip6tables-legacy, whose rules nftables do not show, as `iptables-legacy -S`
//! prints them.

use std::{collections::HashMap, net::IpAddr};

use super::{
    obstacle::{Chain, Manager, Obstacle},
    walk::{Action, Chains, Fit, Packet, Rule, Verdict, may_masquerade, verdict},
};
use crate::addr::{IpPrefix, Prefix4, Prefix6};

/// The most lines that are read.
const MAX_LINES: usize = 20_000;

/// The obstacle in the table filter of the packets' version of IP, of which this is the listing,
/// for a [connection](Packet::connection).
pub fn legacy_obstacle(listing: &str, packets: &[Packet; 2]) -> Option<Obstacle> {
    let mut table = Listing::read(listing);
    let [drops_first, drops_answers] = packets.each_ref().map(|packet| {
        let verdict = verdict(&mut table, "FORWARD", packet);
        verdict.map_or(table.drops_by_policy, |verdict| verdict == Verdict::Drop)
    });
    let manager = Manager::of("filter", table.chains.iter().copied());
    let [first, _] = packets;
    (drops_first || drops_answers).then_some(Obstacle {
        chain: Chain::Legacy,
        manager,
        version: first.version,
        leaves: first.leaves,
        drops_first,
        drops_answers,
    })
}

/// Whether the table nat, of which this is the listing, may give a packet another source.
pub fn legacy_masquerades(listing: &str, packet: &Packet) -> bool {
    may_masquerade(&mut Listing::read(listing), "POSTROUTING", packet)
}

/// The lines of a listing, in words.
struct Listing<'a> {
    drops_by_policy: bool,
    /// The names of the chains.
    chains: Vec<&'a str>,
    /// By the names of chains, their rules.
    rules: HashMap<&'a str, Vec<Vec<&'a str>>>,
}

impl<'a> Listing<'a> {
    fn read(listing: &'a str) -> Self {
        let mut read = Self {
            drops_by_policy: false,
            chains: Vec::new(),
            rules: HashMap::new(),
        };
        for line in listing.lines().take(MAX_LINES) {
            let words = words(line);
            match words[..] {
                ["-P", chain, policy] => {
                    read.chains.push(chain);
                    read.drops_by_policy |= chain == "FORWARD" && policy == "DROP";
                }
                ["-N", chain] => read.chains.push(chain),
                ["-A", chain, ref rule @ ..] => {
                    read.rules.entry(chain).or_default().push(rule.to_vec());
                }
                _ => {}
            }
        }
        read
    }

    fn seen_by(packet: &Packet, words: &[&str]) -> Rule {
        let mut names_device = false;
        let mut is_known = true;
        let mut action = Action::Continue;
        let mut left = words.iter().copied();
        let mut is_negated = false;
        while let Some(option) = left.next() {
            let negated = std::mem::replace(&mut is_negated, option == "!");
            let applies = match option {
                "-i" | "-o" => {
                    let device = match option {
                        "-i" => &packet.input.name,
                        _ => &packet.output.name,
                    };
                    let applies = is_named(device, left.next().unwrap_or_default());
                    names_device |= applies && (option == "-i") == packet.leaves;
                    applies
                }
                "-s" | "-d" => {
                    let network = left.next().unwrap_or_default();
                    let address = packet.translated;
                    let address = address.filter(|_| (option == "-s") == packet.leaves);
                    let Some(applies) = address.and_then(|one| is_within(one, network)) else {
                        is_known = false;
                        continue;
                    };
                    names_device |= applies;
                    applies
                }
                "--ctstate" | "--state" => {
                    let state = if packet.is_first {
                        "NEW"
                    } else {
                        "ESTABLISHED"
                    };
                    let states = left.next().unwrap_or_default();
                    states.split(',').any(|one| one == state)
                }
                "-j" | "-g" => {
                    action = target(option, left.next().unwrap_or_default());
                    break; // what follows is about the target
                }
                "--comment" => {
                    left.next();
                    continue;
                }
                "-m" => {
                    let module = left.next().unwrap_or_default();
                    is_known &= ["conntrack", "state", "comment"].contains(&module);
                    continue;
                }
                _ => {
                    is_known &= !option.starts_with('-');
                    continue;
                }
            };
            if applies == negated {
                let fit = Fit::No;
                return Rule { fit, action };
            }
        }
        let fit = if is_known {
            Fit::Yes
        } else {
            Fit::Unknown { names_device }
        };
        Rule { fit, action }
    }
}

impl Chains for Listing<'_> {
    fn rule(&mut self, chain: &str, place: usize, packet: &Packet) -> Option<Rule> {
        let words = self.rules.get(chain)?.get(place)?;
        Some(Self::seen_by(packet, words))
    }
}

/// What follows `-j` or `-g`. Other targets than these, as LOG, are as chains without a rule.
fn target(option: &str, name: &str) -> Action {
    match name {
        "DROP" | "REJECT" => Action::Drop,
        "MASQUERADE" | "SNAT" | "NETMAP" => Action::Masquerade,
        // A program decides.
        "ACCEPT" | "QUEUE" | "NFQUEUE" => Action::Accept,
        "RETURN" => Action::Return,
        chain if option == "-g" => Action::Goto(chain.to_owned()),
        chain => Action::Jump(chain.to_owned()),
    }
}

/// Whether a name is that of a rule, which may end with `+` for any end.
fn is_named(device: &str, name: &str) -> bool {
    match name.strip_suffix('+') {
        Some(start) => device.starts_with(start),
        None => device == name,
    }
}

/// Whether an address is in a network, as `192.0.2.0/24`; `None` for a mask that is no length.
fn is_within(address: IpAddr, network: &str) -> Option<bool> {
    Some(match (address, network.parse().ok()?) {
        (IpAddr::V4(address), IpPrefix::V4(network, length)) => {
            Prefix4::around(network, length).contains(address)
        }
        (IpAddr::V6(address), IpPrefix::V6(network, length)) => {
            Prefix6::around(network, length).contains(address)
        }
        _ => false,
    })
}

/// The words of a line; those in quotes are one.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut left = line.trim_start();
    while !left.is_empty() {
        let (word, rest) = match left.strip_prefix('"') {
            Some(quoted) => quoted.split_at(end_of_quote(quoted)),
            None => left.split_at(left.find(' ').unwrap_or(left.len())),
        };
        words.push(word);
        left = rest.strip_prefix('"').unwrap_or(rest).trim_start();
    }
    words
}

/// The place of the quote that ends a word; one behind a backslash is part of it.
fn end_of_quote(text: &str) -> usize {
    let mut is_escaped = false;
    let ends = |letter: char| {
        let ends = letter == '"' && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        ends
    };
    text.find(ends).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::{super::walk::IpVersion, *};
    use crate::link::LinkRef;

    const DOCKER: &str = "-P INPUT ACCEPT
-P FORWARD DROP
-P OUTPUT ACCEPT
-N DOCKER
-N DOCKER-CT
-N DOCKER-FORWARD
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -i docker0 -j ACCEPT
";
    const UFW: &str = "-P FORWARD DROP
-N ufw6-before-forward
-N ufw6-user-forward
-A FORWARD -j ufw6-before-forward
-A ufw6-before-forward -m rt --rt-type 0 -j DROP
-A ufw6-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw6-before-forward -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT
-A ufw6-before-forward -j ufw6-user-forward
";
    const FIREWALLD: &str = "-P FORWARD ACCEPT
-N FORWARD_ZONES
-N FWD_public
-N FWD_trusted
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
-A FORWARD -i lo -j ACCEPT
-A FORWARD -j FORWARD_ZONES
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -j REJECT --reject-with icmp6-adm-prohibited
-A FORWARD_ZONES -g FWD_public
-A FWD_trusted -j ACCEPT
";
    const LIBVIRT: &str = "-P FORWARD ACCEPT
-N LIBVIRT_FWI
-N LIBVIRT_FWX
-A FORWARD -j LIBVIRT_FWX
-A FORWARD -j LIBVIRT_FWI
-A LIBVIRT_FWI -o virbr0 -j REJECT --reject-with icmp6-port-unreachable
-A LIBVIRT_FWX -i virbr0 -o virbr0 -j ACCEPT
";

    /// Who drops what: packets that leave, and answers.
    fn found(listing: &str) -> Option<(Manager, bool, bool)> {
        let packets = Packet::both_ways(&LinkRef::new(9, "clat"), &LinkRef::new(2, "eth0"));
        let obstacle = legacy_obstacle(listing, &packets)?;
        let drops = (obstacle.drops_first, obstacle.drops_answers);
        Some((obstacle.manager, drops.0, drops.1))
    }

    /// Whether they drop packets by a policy, or by their last rule.
    #[test]
    fn chains_that_drop_are_found() {
        assert_eq!(found(DOCKER), Some((Manager::Docker, true, true)));
        assert_eq!(found(UFW), Some((Manager::Ufw, true, false)));
        assert_eq!(found(FIREWALLD), Some((Manager::Firewalld, true, false)));
        assert_eq!(found(LIBVIRT), None);
        assert_eq!(found(""), None);
        let by_policy = Some((Manager::Iptables, true, true));
        assert_eq!(found("-P FORWARD DROP\n"), by_policy);
        // What another policy is.
        assert_eq!(found("-P INPUT DROP\n-P FORWARD ACCEPT\n"), None);
    }

    /// Rules that let packets pass, in the forms that they are given.
    #[test]
    fn rules_that_let_pass_count() {
        let listing = format!("{UFW}-A ufw6-user-forward -i clat -o eth0 -j ACCEPT\n");
        assert_eq!(found(&listing), None);
        let there = "-A DOCKER-USER -i cl+ -m comment --comment \"a \\\" -j DROP\" -j ACCEPT\n";
        let listing = format!("{DOCKER}{there}");
        assert_eq!(found(&listing), Some((Manager::Docker, false, true)));
        let back = "-A DOCKER-USER -o clat -m conntrack ! --ctstate NEW -j ACCEPT\n";
        assert_eq!(found(&format!("{DOCKER}{there}{back}")), None);
        let zone = "-I FORWARD_ZONES -i clat -g FWD_trusted\n";
        let listing = FIREWALLD.replace(
            "-A FORWARD_ZONES",
            &format!("{}-A FORWARD_ZONES", zone.replace("-I", "-A")),
        );
        assert_eq!(found(&listing), None);
    }

    /// A device is the TUN device's only on the side of the packet that has it.
    #[test]
    fn the_other_device_names_no_packets_of_the_clat() {
        for (rules, of_first, of_answer) in [
            ("-i clat -p tcp -j ACCEPT", true, false),
            ("-o clat -p tcp -j ACCEPT", false, true),
            ("-o eth0 -p tcp -j ACCEPT", false, false),
            ("-i eth0 -p tcp -j ACCEPT", false, false),
            ("-i clat -o eth0 -p tcp -j ACCEPT", true, false),
            ("! -o lo -p tcp -j ACCEPT", false, false),
            ("-i clatx+ -j ACCEPT", false, false),
            ("-i + -p tcp -j ACCEPT", true, false),
        ] {
            let listing = format!("-P FORWARD DROP\n-A FORWARD {rules}\n");
            let (_, first, answer) = found(&listing).unwrap_or((Manager::Unknown, false, false));
            assert_eq!((!first, !answer), (of_first, of_answer), "{rules}");
        }
    }

    /// Chains that are called come back, unless by `-g`: then the chain that calls ends as well.
    /// Targets of modules, as LOG, decide nothing.
    #[test]
    fn chains_that_are_called_come_back() {
        for (rule, drops) in [
            ("-j X", false),
            ("-g X", true),
            ("-j LOG --log-prefix \"-j DROP\"", false),
            ("-j RETURN", true),
            ("-i lo -g X", false),
        ] {
            let listing = format!("-P FORWARD DROP\n-N X\n-A FORWARD {rule}\n");
            let listing = format!("{listing}-A FORWARD -j ACCEPT\n-A X -i lo -j DROP\n");
            let found = found(&listing).map(|(_, first, answer)| (first, answer));
            assert_eq!(found, drops.then_some((true, true)), "{rule}");
        }
    }

    /// iptables(8), "comment", and the quotes of `iptables -S`: around what has a space, with a
    /// backslash before a quote and before a backslash.
    #[test]
    fn comments_decide_nothing() {
        for comment in [
            "clat",
            "-i",
            "!",
            "\"-i lo\"",
            "\"! -i lo\"",
            r#""a \" -i lo""#,
            r#""a \\""#,
            r#""a \\\" -i lo""#,
            r#""\"a\" -i lo""#,
        ] {
            let rule = format!("-i clat -m comment --comment {comment} -j ");
            for (policy, target, drops) in [("ACCEPT", "DROP", true), ("DROP", "ACCEPT", false)] {
                let listing = format!("-P FORWARD {policy}\n-A FORWARD {rule}{target}\n");
                let drops_leaving = found(&listing).is_some_and(|(_, leaving, _)| leaving);
                assert_eq!(drops_leaving, drops, "{listing}");
            }
        }
    }

    /// A rule for the address behind the TUN device is one for the device, and one for another
    /// address is none.
    #[test]
    fn the_address_that_is_known_decides() {
        let [device, other] = [LinkRef::new(9, "nat64"), LinkRef::new(2, "eth0")];
        let translated = "192.168.255.128".parse().ok();
        let packets = Packet::connection(IpVersion::V4, true, &device, &other, translated);
        for (rule, passes) in [
            ("-s 192.168.255.0/24 -j ACCEPT", true),
            ("-s 192.168.255.128 -j ACCEPT", true),
            // One that is not for the address is not for the device.
            ("! -s 10.0.0.0/8 -p tcp -j ACCEPT", false),
            ("-s 192.168.0.0/16 ! -s 192.168.255.0/24 -j ACCEPT", false),
            (
                "-s 192.168.255.0/24 -p tcp -m tcp --dport 80 -j ACCEPT",
                true,
            ),
            ("-s 192.168.254.0/24 -j ACCEPT", false),
            ("! -s 10.0.0.0/8 -j ACCEPT", true),
            ("-s 192.168.0.0/16 -j DROP", false),
            // These are of the other end, and of a mask that is no length.
            ("-d 192.168.255.0/24 -j ACCEPT", false),
            ("-s 192.0.255.0/255.0.255.0 -j ACCEPT", false),
        ] {
            let listing = format!("-P FORWARD DROP\n-A FORWARD {rule}\n");
            let obstacle = legacy_obstacle(&listing, &packets);
            let drops = obstacle.is_some_and(|obstacle| obstacle.drops_first);
            assert_eq!(drops, !passes, "{rule}");
        }
        let translated = "2001:db8::c1a7".parse().ok();
        for (leaves, rule, passes) in [
            (true, "-s 2001:db8::/64 -p tcp -j ACCEPT", true),
            (true, "-s 2001:db8:1::/64 -j ACCEPT", false),
            (true, "-d 2001:db8::/64 -j ACCEPT", false),
            (true, "-s 192.0.2.0/24 -j ACCEPT", false),
            (false, "-d 2001:db8::/64 -p tcp -j ACCEPT", true),
            (false, "-s 2001:db8::/64 -j ACCEPT", false),
        ] {
            let packets = Packet::connection(IpVersion::V6, leaves, &device, &other, translated);
            let listing = format!("-P FORWARD DROP\n-A FORWARD {rule}\n");
            let obstacle = legacy_obstacle(&listing, &packets);
            let drops = obstacle.is_some_and(|obstacle| obstacle.drops_first);
            assert_eq!(drops, !passes, "{rule}");
        }
        let masquerades = |rule: &str| {
            let listing = format!("-P POSTROUTING ACCEPT\n-A POSTROUTING {rule}\n");
            legacy_masquerades(&listing, &packets[0])
        };
        assert!(masquerades(
            "-s 192.168.255.0/24 -j NETMAP --to 198.51.100.0/24"
        ));
        assert!(!masquerades("-s 192.168.1.0/24 -o eth0 -j MASQUERADE"));
    }

    /// What is not known of a packet decides only where the rule is for the TUN device, and only
    /// for it.
    #[test]
    fn what_is_not_known_decides_nothing() {
        for (rule, passes) in [
            ("-s fdc1:a700:464::/96 -j ACCEPT", false),
            ("-i clat -d 64:ff9b::/96 -j ACCEPT", true),
            ("-i clat -p tcp -m tcp --dport 25 -j DROP", false),
            ("! -i eth0 -d 64:ff9b::/96 -j ACCEPT", false),
            ("! -i clat -j ACCEPT", false),
            ("-i clat -j LOG --log-prefix \"-j ACCEPT\"", false),
            ("-i clat -j RETURN", false),
            ("-i clat -o eth0 -j NFQUEUE --queue-num 0", true),
        ] {
            let listing = format!("-P FORWARD DROP\n-A FORWARD {rule}\n");
            let (_, drops_leaving, _) = found(&listing).unwrap_or((Manager::Unknown, false, true));
            assert_eq!(drops_leaving, !passes, "{rule}");
        }
        // Rules for some packets of any device, with a policy that accepts the others.
        for (rule, drops) in [
            ("-p tcp -j DROP", false),
            ("-m rt --rt-type 0 -j DROP", false),
            ("-m recent -j DROP", false),
            ("-i clat -p tcp -j DROP", false),
            ("-i clat -j DROP", true),
            ("-i clat -j REJECT --reject-with icmp6-adm-prohibited", true),
            ("! -i eth0 -j DROP", true),
            ("-m conntrack --ctstate INVALID,NEW -j DROP", true),
            ("-m state --state NEW -j DROP", true),
            ("-m state --state INVALID -j DROP", false),
        ] {
            let listing = format!("-P FORWARD ACCEPT\n-A FORWARD {rule}\n");
            let drops_leaving = found(&listing).is_some_and(|(_, leaving, _)| leaving);
            assert_eq!(drops_leaving, drops, "{rule}");
        }
        // A chain that drops some of them, and lets the others pass.
        let listing = "-P FORWARD ACCEPT\n-N X\n-A FORWARD -i clat -p tcp -j X\n-A X -j DROP\n";
        assert_eq!(found(listing), None);
    }
}
