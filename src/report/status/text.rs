//! The status for people: a block of lines.

use std::fmt::{self, Write};

use super::{Clat, Dropped, Kind, Maps, Packets, Pool, ReadFile, Status, Traffic, Worker};
use crate::clat::{KnownPrefix, NativeIpv4};

/// The width of the first column, in characters.
const NAMES: usize = 16;

/// The status for people, in lines. Ends with a newline.
pub fn text(status: &Status) -> String {
    let mut text = String::new();
    let name = status
        .device
        .as_ref()
        .map_or("no device", |device| &device.name);
    let kind = match status.kind {
        Kind::Translator => "translator",
        Kind::Clat => "CLAT",
    };
    let process = &status.process;
    let uptime = duration(process.uptime_seconds);
    let _ = writeln!(text, "{name}: {kind}, running for {uptime}");
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:NAMES$}{value}");
    };
    row("State", state(status));
    row(
        "Process",
        format!("xlatd {}, process {}", process.version, process.pid),
    );
    row("Runs as", process.privileges.clone());
    row("Sandbox", process.sandbox.clone());
    let configuration = status.configuration.as_ref();
    row(
        "Configuration",
        configuration.map_or("none: all settings are defaults".to_owned(), |file| {
            format!("{}{}", file.path, changed(file, "restart to use it"))
        }),
    );
    if let Some(device) = &status.device {
        let up = if device.up { "up" } else { "down" };
        let (name, mtu, offload) = (&device.name, device.mtu, &device.offload);
        row(
            "Device",
            format!("{name}, {up}, MTU {mtu}, offload: {offload}"),
        );
    }
    let own = [
        status.ipv4_addr.map(|address| address.to_string()),
        status.ipv6_addr.map(|address| address.to_string()),
    ];
    let own: Vec<_> = own.into_iter().flatten().collect();
    if !own.is_empty() {
        row("Own addresses", own.join(", "));
    }
    match &status.clat {
        Some(clat) => clat_rows(clat, &mut row),
        None => {
            row(
                "Prefix",
                status.prefix.clone().unwrap_or_else(|| "none".to_owned()),
            );
            row("Maps", maps(&status.maps));
            row("Pool", status.pool.as_ref().map_or("none".to_owned(), pool));
        }
    }
    match &status.packets {
        Some(packets) => packet_rows(packets, &mut row),
        None => row("Packets", "none has been translated yet".to_owned()),
    }
    for (number, worker) in (1..).zip(&status.workers) {
        row(&format!("Worker {number}"), self::worker(worker));
    }
    text
}

fn state(status: &Status) -> String {
    let clat = status.clat.as_ref();
    let since = clat.and_then(|clat| clat.overview.state_seconds);
    match since {
        Some(since) => format!("{} (for {})", status.state, duration(since)),
        None => status.state.clone(),
    }
}

/// What is to be said of a file that has changed.
fn changed(file: &ReadFile, remedy: &str) -> String {
    match file.changed {
        Some(true) => format!(" (CHANGED since it was read: {remedy})"),
        Some(false) => String::new(),
        None => " (cannot be read here)".to_owned(),
    }
}

fn maps(maps: &Maps) -> String {
    let mut text = maps.count.to_string();
    if let Some(file) = &maps.file {
        let (path, age) = (&file.path, duration(file.read_seconds));
        let changed = changed(file, "SIGHUP reads it");
        let _ = write!(text, ", map-file {path} read {age} ago{changed}");
    }
    text
}

fn worker(worker: &Worker) -> String {
    let Packets {
        four_to_six,
        six_to_four,
        ..
    } = &worker.packets;
    let (pid, four, six) = (worker.pid, four_to_six.packets, six_to_four.packets);
    let silent = if worker.answers {
        ""
    } else {
        " (does not answer now)"
    };
    format!("process {pid}: {four} packets of IPv4 translated, {six} of IPv6{silent}")
}

fn pool(pool: &Pool) -> String {
    let Pool {
        prefix,
        size,
        in_use,
        dormant,
        refused,
    } = pool;
    format!(
        "{prefix}: {in_use} of {size} addresses in use, {dormant} dormant, {refused} packets \
         refused"
    )
}

fn clat_rows(clat: &Clat, row: &mut impl FnMut(&str, String)) {
    let overview = &clat.overview;
    if let Some(failure) = &clat.failure {
        row("Failure", failure.clone());
    }
    for firewall in &clat.firewalls {
        row(
            "Firewall",
            format!(
                "the {} drops packets: {}",
                firewall.chain, firewall.commands
            ),
        );
    }
    let prefix = overview.prefix.as_ref();
    row("Prefix", prefix.map_or("none".to_owned(), known_prefix));
    for other in &overview.other_prefixes {
        row("Other prefix", known_prefix(other));
    }
    row(
        "Uplink",
        overview.uplink.clone().unwrap_or_else(|| "none".to_owned()),
    );
    if let Some(address) = &overview.host_v4 {
        row("IPv4 address", address.clone());
    }
    if let (Some(source), Some(way)) = (overview.source, &overview.way) {
        row("IPv6 source", format!("{source}, {way}"));
    }
    row("Choice", overview.source_choice.clone());
    row(
        "Native IPv4",
        overview.native.as_ref().map_or("none".to_owned(), native),
    );
    if let Some(next) = overview.next_seconds {
        row("Next look", format!("in {}", duration(next)));
    }
    let set_up = clat.set_up.len();
    row(
        "Set up",
        format!("{set_up} steps, {} repairs", clat.repairs),
    );
    for resource in &clat.set_up {
        row("", resource.clone());
    }
}

fn known_prefix(known: &KnownPrefix) -> String {
    let mut text = format!("{} ({}", known.prefix, known.origin);
    if let Some(router) = known.router {
        let _ = write!(text, " of {router}");
    }
    text.push(')');
    if let Some(lifetime) = known.lifetime_seconds {
        let _ = write!(text, ", for another {}", duration(lifetime));
    }
    if known.is_silent {
        text.push_str(", does not answer");
    }
    text
}

fn native(native: &NativeIpv4) -> String {
    let NativeIpv4 {
        interface,
        seconds,
        aside,
    } = native;
    let seconds = duration(*seconds);
    match aside {
        true => format!("on {interface}: stepping aside for {seconds}"),
        false => format!("on {interface} for {seconds}"),
    }
}

fn packet_rows(packets: &Packets, row: &mut impl FnMut(&str, String)) {
    for (name, traffic) in [
        ("IPv4 to IPv6", &packets.four_to_six),
        ("IPv6 to IPv4", &packets.six_to_four),
    ] {
        row(name, totals(traffic));
        for dropped in &traffic.dropped {
            let Dropped {
                text, rule, count, ..
            } = dropped;
            row("", format!("{count} dropped: {text} ({rule})"));
            if let Some(last) = &dropped.last {
                let age = duration(last.age_seconds);
                row("", format!("  the last one {age} ago: {}", last.packet));
            }
        }
    }
    let suppressed = packets.suppressed_messages;
    let errors = packets.four_to_six.icmp_errors + packets.six_to_four.icmp_errors;
    row(
        "ICMP errors",
        format!("{errors} sent; {suppressed} messages over the rate limit"),
    );
    for (name, count, what) in [
        ("Log", packets.suppressed_lines, "lines suppressed"),
        ("Kernel", packets.rejected, "packets that it did not take"),
        ("Neither family", packets.neither, "packets dropped"),
    ] {
        if count != 0 {
            row(name, format!("{count} {what}"));
        }
    }
}

fn totals(traffic: &Traffic) -> String {
    let mut text = format!("{} packets, {} octets", traffic.packets, traffic.octets);
    for (count, what) in [
        (traffic.super_packets, "super-packets"),
        (traffic.joined, "joined"),
        (traffic.fragments, "fragments made"),
        (traffic.answered, "answered at the own address"),
    ] {
        if count != 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    text
}

/// What has changed since an older status of `seconds` before: rates of packets, for people. Ends
/// with a newline.
pub fn changes(before: &Status, now: &Status, seconds: f64) -> String {
    let mut text = String::new();
    let (Some(before), Some(now)) = (&before.packets, &now.packets) else {
        return text;
    };
    for (name, before, now) in [
        ("IPv4 to IPv6", &before.four_to_six, &now.four_to_six),
        ("IPv6 to IPv4", &before.six_to_four, &now.six_to_four),
    ] {
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        let dropped = |traffic: &Traffic| traffic.dropped.iter().map(|one| one.count).sum();
        let _ = writeln!(
            text,
            "  {name:NAMES$}{:.0} packets/s, {:.3} Mbit/s, {:.0} dropped/s",
            rate(before.packets, now.packets),
            rate(before.octets, now.octets) * 8.0 / 1e6,
            rate(dropped(before), dropped(now)),
        );
    }
    text
}

/// `5 s`, `2 min 5 s`, `3 h 2 min`, `4 d 3 h`
fn duration(seconds: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, _) => write!(f, "{minutes} min {} s", seconds % 60),
            (0, ..) => write!(f, "{hours} h {} min", minutes % 60),
            _ => write!(f, "{days} d {} h", hours % 24),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::status::{Device, LastPacket, Maps, Process};

    fn traffic(packets: u64, octets: u64) -> Traffic {
        Traffic {
            packets,
            octets,
            ..Traffic::default()
        }
    }

    fn translator() -> Status {
        let dropped = Dropped {
            reason: "no_source".to_owned(),
            text: "no mapping for the source".to_owned(),
            rule: "RFC 7757 section 3.3.2".to_owned(),
            count: 7,
            last: Some(LastPacket {
                packet: "[v6] [2001:db8::1]->[64:ff9b::1]".to_owned(),
                age_seconds: 65,
            }),
        };
        let file = |path: &str, changed| ReadFile {
            path: path.to_owned(),
            read_seconds: 3 * 3600,
            fingerprint: String::new(),
            changed: Some(changed),
        };
        Status {
            kind: Kind::Translator,
            works: true,
            state: "Translating on nat64".to_owned(),
            process: Process {
                version: "1.2.3".to_owned(),
                pid: 42,
                uptime_seconds: 4 * 86400,
                privileges: "user 1, group 1, with no capabilities".to_owned(),
                sandbox: "system calls and files".to_owned(),
            },
            configuration: Some(file("/etc/tayga.conf", true)),
            device: Some(Device {
                name: "nat64".to_owned(),
                up: true,
                mtu: 1500,
                offload: "none".to_owned(),
            }),
            ipv4_addr: Some([192, 0, 2, 1].into()),
            ipv6_addr: None,
            prefix: Some("64:ff9b::/96".to_owned()),
            maps: Maps {
                count: 2,
                file: Some(file("/etc/maps", false)),
            },
            pool: None,
            packets: Some(Packets {
                four_to_six: Traffic {
                    super_packets: 3,
                    ..traffic(1000, 125_000)
                },
                six_to_four: Traffic {
                    dropped: vec![dropped],
                    icmp_errors: 5,
                    ..traffic(0, 0)
                },
                suppressed_messages: 2,
                rejected: 1,
                ..Packets::default()
            }),
            workers: Vec::new(),
            clat: None,
        }
    }

    #[test]
    fn a_translator_is_shown_with_what_it_dropped() {
        let shown = text(&translator());
        assert_eq!(
            shown,
            "\
nat64: translator, running for 4 d 0 h
  State           Translating on nat64
  Process         xlatd 1.2.3, process 42
  Runs as         user 1, group 1, with no capabilities
  Sandbox         system calls and files
  Configuration   /etc/tayga.conf (CHANGED since it was read: restart to use it)
  Device          nat64, up, MTU 1500, offload: none
  Own addresses   192.0.2.1
  Prefix          64:ff9b::/96
  Maps            2, map-file /etc/maps read 3 h 0 min ago
  Pool            none
  IPv4 to IPv6    1000 packets, 125000 octets, 3 super-packets
  IPv6 to IPv4    0 packets, 0 octets
                  7 dropped: no mapping for the source (RFC 7757 section 3.3.2)
                    the last one 1 min 5 s ago: [v6] [2001:db8::1]->[64:ff9b::1]
  ICMP errors     5 sent; 2 messages over the rate limit
  Kernel          1 packets that it did not take
"
        );
    }

    /// The figures are those of all workers; each of them is shown besides.
    #[test]
    fn workers_are_shown_where_there_are_several() {
        let mut status = translator();
        let packets = status.packets.clone().unwrap_or_default();
        let worker = |pid, answers| Worker {
            pid,
            answers,
            packets: packets.clone(),
        };
        status.workers = vec![worker(42, true), worker(43, false)];
        let rows = "\
\x20 Worker 1        process 42: 1000 packets of IPv4 translated, 0 of IPv6
  Worker 2        process 43: 1000 packets of IPv4 translated, 0 of IPv6 (does not answer now)
";
        assert_eq!(text(&status), text(&translator()) + rows);
    }

    #[test]
    fn rates_are_what_came_in_between() {
        let (before, mut now) = (translator(), translator());
        let packets = now.packets.get_or_insert_default();
        packets.four_to_six = traffic(3000, 375_000);
        packets.six_to_four.dropped[0].count = 9;
        assert_eq!(
            changes(&before, &now, 2.0),
            "  IPv4 to IPv6    1000 packets/s, 1.000 Mbit/s, 0 dropped/s\n  \
             IPv6 to IPv4    0 packets/s, 0.000 Mbit/s, 1 dropped/s\n"
        );
    }
}
