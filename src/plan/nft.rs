//! The table of a CLAT in nftables.

use super::Facts;
use crate::clat::{HostSetup, PRIVATE, Settings, Source};

/// Of Neighbour Solicitations for our address, which the kernel would not take for ours: as clatd's, where it has one.
pub(super) const MARK: u32 = 0xc1a7;
/// Packets that no connection of ours has to do with, for nftables; also those that its tracking makes nothing of.
const UNASKED: &str = "meta nfproto ipv6 ct state new,invalid,untracked";

/// The name of our table in nftables.
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

/// Our table in nftables: what is not translated to the address on the uplink leaves with it, neighbours are answered, and
/// nobody comes in by us.
pub fn ruleset(settings: &Settings, setup: &HostSetup, facts: Facts) -> String {
    // By its index, so that it stays known by another name.
    let (_, uplink) = setup.uplink;
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
    // An address that was given to us is one by which to be found.
    let is_open = setup.dedicated && matches!(settings.source, Source::Explicit(_));
    let by_us = format!("oifname \"{device}\"");
    if !is_open {
        text += &format!("\t\t{by_us} {UNASKED} drop\n");
    }
    // Where the host forwards because of us, it is to forward for us only.
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

/// How many rules there are in a table of nftables, as text.
pub fn rules(text: &str) -> usize {
    let rules = text.lines().map(str::trim);
    rules
        .filter(|line| !line.is_empty() && *line != "}" && !line.starts_with("type "))
        .filter(|line| !line.starts_with("chain "))
        .count()
}

/// The chains, as `nft list chains` prints them, that drop what is forwarded unless a rule of theirs says otherwise: `inet
/// filter forward`. Docker, ufw and firewalld have such.
pub fn dropping_chains(listing: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut table, mut chain) = ("", "");
    for line in listing.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["table", "inet" | "ip6", _, "{"] => {
                table = line.trim_start_matches("table ").trim_end_matches(" {");
            }
            // What is of IPv4 alone, or of bridges, does not meet our packets.
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
