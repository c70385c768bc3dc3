//! A chain that drops packets from or to the TUN device, in words, and the commands that help.

use std::fmt;

use super::walk::IpVersion;
use crate::plan::{Table, shell::word};

/// The place of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain {
    /// A chain of nftables, also one of ip6tables-nft.
    Nftables(Table, String),
    /// The chain FORWARD of iptables-legacy or ip6tables-legacy, which nftables do not show.
    Legacy,
}

/// The program that keeps the rules, and would undo changes of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// firewalld(1).
    Firewalld,
    /// ufw(8).
    Ufw,
    /// Docker, which leaves the chain DOCKER-USER to the administrator.
    Docker,
    /// iptables(8) or ip6tables(8): the chain is one that it has made.
    Iptables,
    /// None of these.
    Unknown,
}

impl Manager {
    /// The manager of a table that has these chains.
    pub(super) fn of<'a>(table: &str, chains: impl Iterator<Item = &'a str> + Clone) -> Self {
        let has = |name| chains.clone().any(|chain| chain == name);
        // FORWARD_ZONES, FORWARD_POLICIES: firewalld with its backend of ip6tables.
        if table == "firewalld" || has("FORWARD_ZONES") || has("FORWARD_POLICIES") {
            Self::Firewalld
        } else if has("ufw6-user-forward") || has("ufw-user-forward") {
            Self::Ufw
        } else if has("DOCKER-USER") {
            Self::Docker
        } else if table == "filter" && has("FORWARD") {
            Self::Iptables
        } else {
            Self::Unknown
        }
    }
}

/// A chain that drops packets of connections which are forwarded from or to the TUN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The chain.
    pub chain: Chain,
    /// Who keeps it.
    pub manager: Manager,
    /// The version of IP of the packets.
    pub version: IpVersion,
    /// Whether the connections leave the TUN device; otherwise they go there.
    pub leaves: bool,
    /// Whether it drops the first packet of a connection.
    pub drops_first: bool,
    /// Whether it drops answers.
    pub drops_answers: bool,
}

impl Obstacle {
    /// The commands by which it lets packets pass between these devices. Those that are not needed
    /// are not among them.
    pub fn commands(&self, device: &str, uplink: &str) -> Vec<String> {
        let (there, back) = match self.leaves {
            true => ("-i", "-o"),
            false => ("-o", "-i"),
        };
        let name = device;
        let [device, uplink] = [device, uplink].map(word);
        let iptables = |chain| {
            let name = match self.version {
                IpVersion::V4 => "iptables",
                IpVersion::V6 => "ip6tables",
            };
            let kind = match self.chain {
                Chain::Nftables(..) => "nft",
                Chain::Legacy => "legacy",
            };
            self.rules(
                format!("{name}-{kind} -I {chain} {there} {device} -j ACCEPT"),
                format!(
                    "{name}-{kind} -I {chain} {back} {device} -m conntrack \
                     --ctstate ESTABLISHED,RELATED -j ACCEPT"
                ),
            )
        };
        match (self.manager, &self.chain) {
            (Manager::Firewalld, _) => self.commands_of_firewalld(name, &device, &uplink),
            (Manager::Ufw, _) => {
                let allow = |from: &str, to: &str| {
                    format!("ufw route prepend allow in on {from} out on {to}")
                };
                let (from, to) = match self.leaves {
                    true => (&device, &uplink),
                    false => (&uplink, &device),
                };
                self.rules(allow(from, to), allow(to, from))
            }
            (Manager::Docker, _) => iptables("DOCKER-USER"),
            (Manager::Iptables, _) | (Manager::Unknown, Chain::Legacy) => iptables("FORWARD"),
            (Manager::Unknown, Chain::Nftables(table, chain)) => {
                let [there, back] = [there, back].map(|option| match option {
                    "-i" => "iifname",
                    _ => "oifname",
                });
                let insert = |rule| {
                    let command = format!("insert rule {table} {chain} {rule} accept");
                    format!("nft {}", word(&command))
                };
                // A name may be a word of nft.
                self.rules(
                    insert(format!("{there} \"{name}\"")),
                    insert(format!("{back} \"{name}\" ct state established,related")),
                )
            }
        }
    }

    /// The rules that are needed, of one for the first packets and one for answers.
    fn rules(&self, first: String, answers: String) -> Vec<String> {
        let first = self.drops_first.then_some(first);
        let answers = self.drops_answers.then_some(answers);
        first.into_iter().chain(answers).collect()
    }

    /// It accepts answers in any zone, and what comes from the zone trusted. What is to go there is
    /// for a policy to accept.
    fn commands_of_firewalld(&self, name: &str, device: &str, uplink: &str) -> Vec<String> {
        if self.leaves {
            // Once for now, and once for its next start.
            let change =
                |when| format!("firewall-cmd {when}--zone=trusted --change-interface={device}");
            return ["", "--permanent "].map(change).into();
        }
        let policy = word(&format!("{name}-in")).into_owned();
        let zone_of_device = format!("firewall-cmd --get-zone-of-interface={uplink}");
        let default_zone = "firewall-cmd --get-default-zone";
        let zone = format!("$({zone_of_device} || {default_zone})");
        // A device that is only by default in a zone is in none for a policy.
        let join = format!(
            "{zone_of_device} || firewall-cmd --permanent --zone=$({default_zone}) \
             --change-interface={uplink}"
        );
        let changes = [
            format!("--zone=trusted --change-interface={device}"),
            format!("--new-policy={policy}"),
            format!("--policy={policy} --set-target=ACCEPT"),
            format!("--policy={policy} --add-ingress-zone={zone}"),
            format!("--policy={policy} --add-egress-zone=trusted"),
        ]
        .map(|change| format!("firewall-cmd --permanent {change}"));
        let reload = "firewall-cmd --reload".to_owned();
        [join].into_iter().chain(changes).chain([reload]).collect()
    }
}

/// The chain, and that it drops packets.
impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.chain, self.version) {
            (Chain::Legacy, IpVersion::V4) => f.write_str("the iptables-legacy chain FORWARD"),
            (chain, _) => write!(f, "the {chain}"),
        }?;
        f.write_str(" drops forwarded packets")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nftables(table, chain) => write!(f, "nftables chain {table} {chain}"),
            Self::Legacy => f.write_str("ip6tables-legacy chain FORWARD"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Family;

    fn commands(manager: Manager, chain: &Chain, drops: [bool; 2]) -> Vec<String> {
        obstacle(manager, chain, drops).commands("clat", "eth0")
    }

    /// Of connections of IPv6 that leave.
    fn obstacle(manager: Manager, chain: &Chain, drops: [bool; 2]) -> Obstacle {
        let [drops_first, drops_answers] = drops;
        Obstacle {
            chain: chain.clone(),
            manager,
            version: IpVersion::V6,
            leaves: true,
            drops_first,
            drops_answers,
        }
    }

    /// Each manager has its own, which it keeps; what already passes has none.
    #[test]
    fn commands_are_those_of_the_manager() {
        let table = Table::new(Family::Ip6, "filter");
        let chain = Chain::Nftables(table, "FORWARD".to_owned());
        let both = [true, true];
        assert_eq!(
            commands(Manager::Unknown, &chain, both),
            [
                "nft 'insert rule ip6 filter FORWARD iifname \"clat\" accept'",
                "nft 'insert rule ip6 filter FORWARD oifname \"clat\" ct state established,related \
                 accept'",
            ]
        );
        assert_eq!(
            commands(Manager::Firewalld, &chain, [true, false]),
            [
                "firewall-cmd --zone=trusted --change-interface=clat",
                "firewall-cmd --permanent --zone=trusted --change-interface=clat",
            ]
        );
        assert_eq!(
            commands(Manager::Ufw, &chain, [true, false]),
            ["ufw route prepend allow in on clat out on eth0"]
        );
        assert_eq!(
            commands(Manager::Docker, &Chain::Legacy, [false, true]),
            ["ip6tables-legacy -I DOCKER-USER -o clat -m conntrack \
                 --ctstate ESTABLISHED,RELATED -j ACCEPT"]
        );
        assert_eq!(
            commands(Manager::Iptables, &chain, [true, false]),
            ["ip6tables-nft -I FORWARD -i clat -j ACCEPT"]
        );
    }

    /// Programs are known by the chains that they make.
    #[test]
    fn the_manager_is_known_by_its_chains() {
        for (table, chains, manager) in [
            ("firewalld", &["filter_FORWARD"][..], Manager::Firewalld),
            ("filter", &["FORWARD", "FORWARD_ZONES"], Manager::Firewalld),
            (
                "filter",
                &["FORWARD", "FORWARD_POLICIES"],
                Manager::Firewalld,
            ),
            ("filter", &["FORWARD", "ufw6-user-forward"], Manager::Ufw),
            ("filter", &["FORWARD", "ufw-user-forward"], Manager::Ufw),
            ("filter", &["FORWARD", "DOCKER-USER"], Manager::Docker),
            ("filter", &["FORWARD"], Manager::Iptables),
            ("filter", &["forward"], Manager::Unknown),
            ("filter", &[], Manager::Unknown),
            ("mangle", &["FORWARD"], Manager::Unknown),
        ] {
            let found = Manager::of(table, chains.iter().copied());
            assert_eq!(found, manager, "{table} {chains:?}");
        }
    }

    /// The name of the program tells the two chains FORWARD of iptables apart.
    #[test]
    fn chains_of_iptables_have_its_name() {
        for (version, name) in [
            (IpVersion::V4, "iptables-legacy"),
            (IpVersion::V6, "ip6tables-legacy"),
        ] {
            let obstacle = Obstacle {
                version,
                ..obstacle(Manager::Iptables, &Chain::Legacy, [true, false])
            };
            let text = format!("the {name} chain FORWARD drops forwarded packets");
            assert_eq!(obstacle.to_string(), text);
            let command = format!("{name} -I FORWARD -i clat -j ACCEPT");
            assert_eq!(obstacle.commands("clat", "eth0"), [command]);
        }
    }

    /// Connections to the TUN device, as those of the clients of a gateway: the rules are about the
    /// other device of each packet, and of the program for the packets.
    #[test]
    fn commands_are_those_of_the_direction() {
        let table = Table::new(Family::Ip, "filter");
        let chain = Chain::Nftables(table, "FORWARD".to_owned());
        let entering = |manager, version| {
            let obstacle = Obstacle {
                version,
                leaves: false,
                ..obstacle(manager, &chain, [true, true])
            };
            obstacle.commands("nat64", "eth0")
        };
        assert_eq!(
            entering(Manager::Unknown, IpVersion::V4),
            [
                "nft 'insert rule ip filter FORWARD oifname \"nat64\" accept'",
                "nft 'insert rule ip filter FORWARD iifname \"nat64\" ct state established,related \
                 accept'",
            ]
        );
        assert_eq!(
            entering(Manager::Iptables, IpVersion::V4),
            [
                "iptables-nft -I FORWARD -o nat64 -j ACCEPT",
                "iptables-nft -I FORWARD -i nat64 -m conntrack --ctstate ESTABLISHED,RELATED \
                 -j ACCEPT",
            ]
        );
        assert_eq!(
            entering(Manager::Ufw, IpVersion::V6),
            [
                "ufw route prepend allow in on eth0 out on nat64",
                "ufw route prepend allow in on nat64 out on eth0",
            ]
        );
        assert_eq!(
            entering(Manager::Firewalld, IpVersion::V6)[2],
            "firewall-cmd --permanent --new-policy=nat64-in"
        );
    }
}
