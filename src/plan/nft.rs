//! The nftables table of a CLAT, and what is read of the tables of others.

use super::Facts;
use crate::clat::{HostSetup, PRIVATE, Settings, Source};

/// Mark of Neighbour Solicitations for the CLAT address, which the kernel does not know as its own.
/// clatd uses the same mark.
pub(super) const MARK: u32 = 0xc1a7;
/// Packets that belong to no connection, also by their form.
const UNASKED: &str = "meta nfproto ipv6 ct state new,invalid,untracked";

/// The name of the table.
pub fn ruleset_name(settings: &Settings) -> String {
    let letter = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '_'
        }
    };
    let device: String = settings.device.chars().map(letter).collect();
    format!("xlatd_{device}")
}

/// The chains of the table: packets from the host leave with the address of the uplink, neighbours
/// that ask for the CLAT address are marked, and no connection is opened from outside.
pub fn ruleset(settings: &Settings, setup: &HostSetup, facts: Facts) -> String {
    // The index stays if the uplink gets another name.
    let uplink = setup.uplink.index;
    let device = &settings.device;
    let source = setup.source;
    let mut text = format!(
        "\tchain postrouting {{
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tiifname \"{device}\" oif {uplink} ip6 saddr {PRIVATE}/96 snat ip6 to {source}
\t}}
"
    );
    if setup.dedicated {
        text += &format!(
            "\tchain prerouting {{
\t\ttype filter hook prerouting priority mangle + 10; policy accept;
\t\tiif {uplink} ip6 daddr {source} icmpv6 type nd-neighbor-solicit meta mark set {MARK:#x}
\t}}
"
        );
    }
    text += "\tchain forward {
\t\ttype filter hook forward priority filter; policy accept;
";
    // An address that the administrator has given is one to be reached by.
    let is_open = setup.dedicated && matches!(settings.source, Source::Explicit(_));
    let by_us = format!("oifname \"{device}\"");
    if !is_open {
        text += &format!("\t\t{by_us} {UNASKED} drop\n");
    }
    // Where the host forwards because of the CLAT, it is to forward for the CLAT only.
    if !facts.is_router {
        let from = if facts.forces_forwarding {
            format!("iif {uplink}")
        } else {
            let others = setup.others.iter().map(|other| format!(", \"{other}\""));
            format!(
                "iifname != {{ \"{device}\"{} }}",
                others.collect::<String>()
            )
        };
        text += &format!("\t\t{from} oifname != \"{device}\" {UNASKED} drop\n");
    }
    text + "\t}\n"
}

/// The number of rules in the chains of a table.
pub fn rules(text: &str) -> usize {
    let rules = text.lines().map(str::trim);
    rules
        .filter(|line| !line.is_empty() && *line != "}" && !line.starts_with("type "))
        .filter(|line| !line.starts_with("chain "))
        .count()
}

/// The chains, of those that `nft list chains` prints, that drop forwarded packets unless a rule of
/// theirs accepts them: `inet filter forward`. Docker, ufw and firewalld have such.
pub fn dropping_chains(listing: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut table, mut chain) = ("", "");
    for line in listing.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["table", "inet" | "ip6", _, "{"] => {
                table = line.trim_start_matches("table ").trim_end_matches(" {");
            }
            // Tables of IPv4 alone, or of bridges, do not see IPv6 packets of a CLAT.
            ["table", ..] => table = "",
            ["chain", name, "{"] => chain = name,
            ["type", "filter", "hook", "forward", ..]
                if line.contains("policy drop") && !table.is_empty() =>
            {
                found.push(format!("{table} {chain}"));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_that_drop_are_found() {
        let listing = "\
table inet filter {
\tchain input {
\t\ttype filter hook input priority filter; policy drop;
\t}
\tchain forward {
\t\ttype filter hook forward priority filter; policy drop;
\t}
}
table ip filter {
\tchain FORWARD {
\t\ttype filter hook forward priority filter; policy drop;
\t}
}
table ip6 filter {
\tchain FORWARD {
\t\ttype filter hook forward priority filter; policy drop;
\t}
\tchain DOCKER {
\t}
}
table inet xlatd_clat {
\tchain forward {
\t\ttype filter hook forward priority filter; policy accept;
\t}
}
";
        assert_eq!(
            dropping_chains(listing),
            ["inet filter forward", "ip6 filter FORWARD"]
        );
        assert!(dropping_chains("").is_empty());
    }
}
