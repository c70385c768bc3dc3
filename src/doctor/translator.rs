//! The checks of a translator.

use super::{
    facts::Facts,
    filters::{firewalls, firewalls_for_v4_hosts, masquerade},
    finding::{Check, Diagnosis, Finding},
    forwarding, process,
    routes::{own_addresses, routes, rp_filter},
};

/// The checks, in the order of their findings.
pub const CHECKS: &[Check<Facts>] = &[
    Check {
        key: "data-dir",
        subject: "whether another instance has the data-dir",
        find: process::data_dir,
    },
    Check {
        key: "other-program",
        subject: "other programs on the device",
        find: process::other_program,
    },
    Check {
        key: "not-running",
        subject: "whether the translator runs",
        find: process::not_running,
    },
    Check {
        key: "file-changed",
        subject: "whether files have changed since it read them",
        find: process::changed,
    },
    Check {
        key: "device-down",
        subject: "the state of the device",
        find: process::device_down,
    },
    Check {
        key: "mtu",
        subject: "its MTU",
        find: process::mtu,
    },
    Check {
        key: "ipv6-disabled",
        subject: "whether IPv6 is disabled",
        find: process::ipv6_disabled,
    },
    Check {
        key: forwarding::V4,
        subject: "forwarding of IPv4",
        find: forwarding::v4,
    },
    Check {
        key: forwarding::V6,
        subject: "forwarding of IPv6",
        find: forwarding::v6,
    },
    Check {
        key: "route",
        subject: "routes to the prefix, the pool and the maps",
        find: routes,
    },
    Check {
        key: "own-address",
        subject: "whether this host has the translator's own addresses",
        find: own_addresses,
    },
    Check {
        key: "rp-filter",
        subject: "reverse path filters",
        find: rp_filter,
    },
    Check {
        key: "masquerade",
        subject: "masquerading of private addresses",
        find: masquerade,
    },
    Check {
        key: "firewall",
        subject: "firewalls",
        find: firewalls,
    },
    Check {
        key: "dns64",
        subject: "the prefix of DNS64",
        find: other_dns64,
    },
];

/// All that is found about a translator.
pub fn examine(facts: &Facts) -> Diagnosis {
    Diagnosis {
        device: facts.device.clone(),
        notes: notes(facts),
        ..Diagnosis::of(facts, CHECKS)
    }
}

fn notes(facts: &Facts) -> Vec<Finding> {
    let firewalls = firewalls_for_v4_hosts(facts);
    firewalls.into_iter().chain(no_dns64(facts)).collect()
}

/// What a translator warns of at its start, once, a line each: of what may still be set up later,
/// in words that say so.
pub fn warnings(facts: &Facts) -> Vec<String> {
    let later = [forwarding::v4(facts), forwarding::v6(facts)].concat();
    let later = later.into_iter();
    let later = later.map(|finding| line(&finding, "If that is not set later"));
    let own = own_addresses(facts).into_iter();
    let own = own.map(|finding| line(&finding, "To mend it"));
    let firewalls = firewalls(facts).into_iter();
    let firewalls = firewalls.map(|finding| line(&finding, "If they do not pass"));
    later.chain(own).chain(firewalls).collect()
}

/// A finding as a sentence, with the commands behind it.
fn line(finding: &Finding, before_commands: &str) -> String {
    let mut letters = finding.problem.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let sentence: String = first.into_iter().chain(letters).collect();
    match &finding.commands[..] {
        [] => sentence,
        commands => format!("{sentence}. {before_commands}: {}", commands.join("; ")),
    }
}

/// Hosts learn another prefix than that of the translator (RFC 7050).
fn other_dns64(facts: &Facts) -> Vec<Finding> {
    let (Some(prefix), Some(found)) = (facts.prefix, &facts.dns64) else {
        return Vec::new();
    };
    if found.is_empty() || found.contains(&prefix) {
        return Vec::new();
    }
    let found: Vec<_> = found.iter().map(|one| one.prefix().to_string()).collect();
    let problem = format!(
        "the DNS64 of /etc/resolv.conf gives the prefix {}, and this translator has {}: hosts that \
         ask it send their packets elsewhere. Set the prefix of one of the two.",
        found.join(", "),
        prefix.prefix()
    );
    vec![Finding::new("dns64", problem, Vec::new())]
}

/// That this host has no DNS64 is no problem: others may.
fn no_dns64(facts: &Facts) -> Option<Finding> {
    let (Some(prefix), Some([])) = (facts.prefix, facts.dns64.as_deref()) else {
        return None;
    };
    let problem = format!(
        "the name server of /etc/resolv.conf is no DNS64. Hosts learn of {} by the DNS64 that they \
         ask, or by Router Advertisements (PREF64).",
        prefix.prefix()
    );
    Some(Finding::new("dns64", problem, Vec::new()))
}
