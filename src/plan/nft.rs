//! The nftables table of a CLAT.

use super::{Facts, Family, Table};
use crate::clat::{AddressTest, HostSetup, PRIVATE, Settings, Source, Way};

/// Mark of IPv4 packets of open connections, which have our address once they leave. Each instance
/// has its own: the number of its routing table.
pub(super) fn mark(settings: &Settings, setup: &HostSetup) -> u32 {
    setup.table(settings)
}

/// Packets that belong to no connection, also by their form.
const UNASKED: &str = "ct state new,invalid,untracked";

/// The name of the table of a CLAT. It sees IPv6 packets only where the kernel forwards them: no
/// others are to be tracked.
pub fn ruleset_name(settings: &Settings, way: &Way) -> Table {
    let family = match way {
        Way::Direct(_) => Family::Ip,
        Way::Forwarded(_) | Way::Shared(_) => Family::Inet,
    };
    Table::new(family, &own_name(settings))
}

/// The name of the table that is there while an address is tested.
pub(super) fn test_ruleset_name(settings: &Settings) -> Table {
    Table::new(Family::Ip6, &format!("{}_test", own_name(settings)))
}

fn own_name(settings: &Settings) -> String {
    // No two devices have the same: what is no letter or digit becomes its number.
    let letter = |octet: u8| match octet {
        letter if letter.is_ascii_alphanumeric() => char::from(letter).to_string(),
        other => format!("_{other:02x}"),
    };
    let device: String = settings.device.bytes().map(letter).collect();
    format!("xlatd_{device}")
}

/// The chains of the table that is there while an address is tested: the host gets nothing for it
/// but messages about it, by their protocol alone.
pub(super) fn test_ruleset(trial: &AddressTest) -> String {
    format!(
        "\tchain prerouting {{
\t\ttype filter hook prerouting priority raw; policy accept;
\t\tip6 daddr {} meta l4proto != ipv6-icmp drop
\t}}
",
        trial.address
    )
}

/// The chains of the table: no connection is opened from outside, and where the kernel forwards,
/// packets of private addresses leave with the address of the uplink.
pub fn ruleset(settings: &Settings, setup: &HostSetup, facts: Facts) -> String {
    // An address that the administrator has given is one to be reached by.
    let is_dedicated = setup.way.is_dedicated();
    let is_open = is_dedicated && matches!(settings.source, Source::Explicit(_));
    match setup.way {
        Way::Direct(_) => direct_ruleset(settings, setup, facts, is_open),
        Way::Forwarded(_) | Way::Shared(_) => forwarding_ruleset(settings, setup, facts, is_open),
    }
}

fn direct_ruleset(settings: &Settings, setup: &HostSetup, facts: Facts, is_open: bool) -> String {
    let device = &settings.device;
    // Connections that were open before this table are in a state that the kernel takes for
    // invalid, for ever if they were busy. Those of a socket are not dropped; TCP knows better.
    let of_sockets = if facts.matches_sockets {
        format!(
            "\t\tiifname \"{device}\" ct state invalid meta l4proto tcp socket wildcard 0 accept\n"
        )
    } else {
        String::new()
    };
    let unasked = format!(
        "\tchain prerouting {{
\t\ttype filter hook prerouting priority filter; policy accept;
{of_sockets}\t\tiifname \"{device}\" {UNASKED} drop
\t}}
"
    );
    let unasked = if is_open { String::new() } else { unasked };
    unasked + &no_leaks(settings, setup) + &open_connections(settings, setup)
}

fn forwarding_ruleset(
    settings: &Settings,
    setup: &HostSetup,
    facts: Facts,
    is_open: bool,
) -> String {
    // The index stays if the uplink gets another name.
    let uplink = setup.uplink.index;
    let device = &settings.device;
    let source = setup.source;
    let mut text = format!(
        "\tchain postrouting {{
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tiifname \"{device}\" oif {uplink} ip6 saddr {PRIVATE}/96 snat ip6 to {source}
\t}}
\tchain forward {{
\t\ttype filter hook forward priority filter; policy accept;
"
    );
    if !is_open {
        text += &format!("\t\toifname \"{device}\" meta nfproto ipv6 {UNASKED} drop\n");
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
        let to = format!("oifname != \"{device}\"");
        text += &format!("\t\t{from} {to} meta nfproto ipv6 {UNASKED} drop\n");
    }
    text + "\t}\n"
        + &no_leaks(settings, setup)
        + &no_private(settings)
        + &open_connections(settings, setup)
}

/// Packets with the IPv4 address of programs leave by the device or not at all (RFC 7335): not
/// those of sockets that are bound to another device, nor of networks whose packets another rule
/// gives that address. Other addresses of 192.0.0.0/29 are not ours (DS-Lite, other CLATs).
fn no_leaks(settings: &Settings, setup: &HostSetup) -> String {
    let device = &settings.device;
    let [host_v4, _] = setup.addresses;
    format!(
        "\tchain no_leaks {{
\t\ttype filter hook postrouting priority srcnat + 10; policy accept;
\t\toifname != {{ \"{device}\", \"lo\" }} ip saddr {host_v4} drop
\t}}
"
    )
}

/// The kernel gives the address of the uplink to no packet without connection, so that it would
/// leave with a private one.
fn no_private(settings: &Settings) -> String {
    let device = &settings.device;
    format!(
        "\tchain no_private {{
\t\ttype filter hook postrouting priority srcnat + 10; policy accept;
\t\tiifname \"{device}\" oifname != \"{device}\" ip6 saddr {PRIVATE}/96 drop
\t}}
"
    )
}

/// Connections of others that have been given our address stay with the CLAT, wherever new ones are
/// led to.
fn open_connections(settings: &Settings, setup: &HostSetup) -> String {
    let [host_v4, _] = setup.addresses;
    let mark = mark(settings, setup);
    format!(
        "\tchain open_connections {{
\t\ttype filter hook prerouting priority mangle + 10; policy accept;
\t\tct direction original ct reply ip daddr {host_v4} meta mark set {mark:#x}
\t}}
"
    )
}

/// The number of rules in the chains of a table.
pub fn rules(text: &str) -> usize {
    let rules = text.lines().map(str::trim);
    rules
        .filter(|line| !line.is_empty() && *line != "}" && !line.starts_with("type "))
        .filter(|line| !line.starts_with("chain "))
        .count()
}
