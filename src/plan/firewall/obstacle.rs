//! A chain that drops packets of a CLAT, in words, and the commands that help.

use std::fmt;

use crate::plan::Table;

/// The place of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain {
    /// A chain of nftables, also one of ip6tables-nft.
    Nftables(Table, String),
    /// The chain FORWARD of ip6tables-legacy, which nftables do not show.
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
    /// ip6tables(8): the chain is one that it has made.
    Ip6tables,
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
        } else if has("ufw6-user-forward") {
            Self::Ufw
        } else if has("DOCKER-USER") {
            Self::Docker
        } else if table == "filter" && has("FORWARD") {
            Self::Ip6tables
        } else {
            Self::Unknown
        }
    }
}

/// A chain that drops forwarded packets of a CLAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The chain.
    pub chain: Chain,
    /// Who keeps it.
    pub manager: Manager,
    /// Whether it drops packets that leave.
    pub drops_leaving: bool,
    /// Whether it drops answers.
    pub drops_answers: bool,
}

impl Obstacle {
    /// The commands by which it lets packets pass between these devices. Those that are not needed
    /// are not among them.
    pub fn commands(&self, device: &str, uplink: &str) -> Vec<String> {
        let rules = |there: String, back: String| {
            let there = self.drops_leaving.then_some(there);
            there
                .into_iter()
                .chain(self.drops_answers.then_some(back))
                .collect()
        };
        let ip6tables = |chain| {
            let program = match self.chain {
                Chain::Nftables(..) => "ip6tables-nft",
                Chain::Legacy => "ip6tables-legacy",
            };
            rules(
                format!("{program} -I {chain} -i {device} -j ACCEPT"),
                format!(
                    "{program} -I {chain} -o {device} -m conntrack \
                     --ctstate ESTABLISHED,RELATED -j ACCEPT"
                ),
            )
        };
        match (self.manager, &self.chain) {
            // It accepts answers in any zone. Once for now, and once for its next start.
            (Manager::Firewalld, _) => ["", "--permanent "]
                .map(|when| {
                    format!("firewall-cmd {when}--zone=trusted --change-interface={device}")
                })
                .into(),
            (Manager::Ufw, _) => {
                let allow = |from, to| format!("ufw route prepend allow in on {from} out on {to}");
                rules(allow(device, uplink), allow(uplink, device))
            }
            (Manager::Docker, _) => ip6tables("DOCKER-USER"),
            (Manager::Ip6tables, _) | (Manager::Unknown, Chain::Legacy) => ip6tables("FORWARD"),
            (Manager::Unknown, Chain::Nftables(table, chain)) => rules(
                format!("nft insert rule {table} {chain} iifname {device} accept"),
                format!(
                    "nft insert rule {table} {chain} oifname {device} \
                     ct state established,related accept"
                ),
            ),
        }
    }
}

/// The chain, and that it drops packets.
impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} drops forwarded packets", self.chain)
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
        let [drops_leaving, drops_answers] = drops;
        let chain = chain.clone();
        Obstacle {
            chain,
            manager,
            drops_leaving,
            drops_answers,
        }
        .commands("clat", "eth0")
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
                "nft insert rule ip6 filter FORWARD iifname clat accept",
                "nft insert rule ip6 filter FORWARD oifname clat ct state established,related \
                 accept",
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
            commands(Manager::Ip6tables, &chain, [true, false]),
            ["ip6tables-nft -I FORWARD -i clat -j ACCEPT"]
        );
    }
}
