//! The checks of a CLAT.

use std::net::Ipv4Addr;

use super::{
    facts::Disabled,
    filters,
    finding::{Check, Diagnosis, Finding},
    process,
};
use crate::{
    plan::{
        firewall::Obstacle,
        shell::{conf, word},
    },
    report::{hints, status},
    translate::DropReason,
};

/// What there is of a host, as a CLAT is concerned.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The name of the TUN device.
    pub device: String,
    /// The command that starts the CLAT.
    pub start: String,
    /// Whether it runs.
    pub is_running: bool,
    /// The unit of systemd that it belongs to.
    pub unit: Option<String>,
    /// What it says of itself, if it can be asked.
    pub status: Option<status::Status>,
    /// Whether the TUN device is there.
    pub has_device: bool,
    /// Where IPv6 is disabled; `device` is that of the uplink.
    pub disabled: Disabled,
    /// The uplink: the device of the IPv6 default route, or the configured one.
    pub uplink: Option<String>,
    /// Whether an IPv6 default route leads there.
    pub has_route: bool,
    /// The device of an IPv4 default route that is not the CLAT's.
    pub native: Option<String>,
    /// The chains that drop what the host forwards for the CLAT.
    pub obstacles: Vec<Obstacle>,
    /// The chains that drop packets of connections that others open by way of this host and the
    /// CLAT, each with the device that they come in by.
    pub guests: Vec<(Obstacle, String)>,
    /// The address that an ICMP echo was sent to by way of the CLAT, and whether it was answered;
    /// `None`: none was sent.
    pub echo: Option<(Ipv4Addr, bool)>,
}

impl Facts {
    fn uplink(&self) -> &str {
        self.uplink.as_deref().unwrap_or("default")
    }

    fn clat(&self) -> Option<&status::Clat> {
        self.status.as_ref()?.clat.as_ref()
    }

    /// Whether the CLAT runs, and programs have no IPv4 by it, though they are to.
    fn is_stuck(&self) -> bool {
        let works = match &self.status {
            Some(status) => status.works,
            None => self.has_device || self.native.is_some(),
        };
        self.is_running && !works
    }

    /// What tells more.
    fn journal(&self) -> Vec<String> {
        let show = |unit: &String| format!("journalctl -u {} -n 50", word(unit));
        self.unit.iter().map(show).collect()
    }
}

/// The checks, in the order of their findings.
pub const CHECKS: &[Check<Facts>] = &[
    Check {
        key: "ipv6-disabled",
        subject: "whether IPv6 is disabled",
        find: |facts| process::disabled("ipv6-disabled", facts.disabled, facts.uplink()),
    },
    Check {
        key: "not-running",
        subject: "whether the CLAT runs",
        find: not_running,
    },
    Check {
        key: "no-ipv6-route",
        subject: "the IPv6 default route",
        find: no_route,
    },
    Check {
        key: "set-up-failed",
        subject: "the set-up of this host by the CLAT",
        find: set_up_failed,
    },
    Check {
        key: "no-prefix",
        subject: "the NAT64 prefix",
        find: no_prefix,
    },
    Check {
        key: "waiting",
        subject: "what the CLAT waits for",
        find: waiting,
    },
    Check {
        key: "firewall",
        subject: "firewalls",
        find: firewalls,
    },
    Check {
        key: "nat64-silent",
        subject: "whether the NAT64 answers",
        find: silent,
    },
];

/// The key of the note that the CLAT steps aside.
pub const NATIVE_IPV4: &str = "native-ipv4";

/// The key of the notes about those behind this host that have no IPv4 by the CLAT.
pub const GUESTS: &str = "guests";

/// The seconds for which a packet that was dropped says how it is now.
const RECENT: u64 = 60;

/// All that is found about a CLAT.
pub fn examine(facts: &Facts) -> Diagnosis {
    let known = facts.clat().and_then(|clat| clat.overview.native.as_ref());
    let is_aside = known.map_or(!facts.has_device, |native| native.aside);
    let note = facts.native.as_ref().filter(|_| is_aside).map(|native| {
        let problem = format!("{native} has native IPv4, for which the CLAT steps aside.");
        Finding::new(NATIVE_IPV4, problem, Vec::new())
    });
    Diagnosis {
        device: facts.device.clone(),
        notes: note.into_iter().chain(guests(facts)).collect(),
        ..Diagnosis::of(facts, CHECKS)
    }
}

fn one(key: &'static str, problem: String, commands: Vec<String>) -> Vec<Finding> {
    vec![Finding::new(key, problem, commands)]
}

fn not_running(facts: &Facts) -> Vec<Finding> {
    if facts.is_running {
        return Vec::new();
    }
    let problem = format!("no CLAT runs with the device {}", facts.device);
    one("not-running", problem, vec![facts.start.clone()])
}

fn no_route(facts: &Facts) -> Vec<Finding> {
    // Where the NAT64 can be reached without one, the CLAT knows it.
    let works = facts.status.as_ref().is_some_and(|status| status.works);
    if facts.has_route || works {
        return Vec::new();
    }
    let problem = "there is no IPv6 default route, by which the NAT64 would be reached: routers \
                   announce one, unless this host does not accept it";
    let uplink = facts.uplink();
    let [accepts, forwards] = ["accept_ra", "forwarding"].map(|name| conf("ipv6", uplink, name));
    let show = format!("sysctl {accepts} {forwards}");
    let commands = vec!["ip -6 route show default".to_owned(), show];
    one("no-ipv6-route", problem.to_owned(), commands)
}

fn set_up_failed(facts: &Facts) -> Vec<Finding> {
    let failure = facts.clat().and_then(|clat| clat.failure.as_ref());
    let finding = |failure: &String| {
        let problem = format!("the CLAT could not set up this host: {failure}");
        Finding::new("set-up-failed", problem, facts.journal())
    };
    failure.map(finding).into_iter().collect()
}

/// The device is there once a prefix is known.
fn no_prefix(facts: &Facts) -> Vec<Finding> {
    let has_prefix = match facts.clat() {
        Some(clat) => clat.overview.prefix.is_some(),
        None => facts.has_device,
    };
    if has_prefix || !facts.has_route || !facts.is_stuck() {
        return Vec::new();
    }
    let uplink = facts.uplink();
    let problem = format!(
        "the CLAT knows no NAT64 prefix on {uplink}: no Router Advertisement has one (PREF64), and \
         no name server is a DNS64. If the prefix is known otherwise, plat-prefix says it."
    );
    one("no-prefix", problem, facts.journal())
}

fn waiting(facts: &Facts) -> Vec<Finding> {
    let (Some(status), Some(clat)) = (&facts.status, facts.clat()) else {
        return Vec::new();
    };
    let Some(prefix) = &clat.overview.prefix else {
        return Vec::new();
    };
    if !facts.is_stuck() || clat.failure.is_some() || prefix.is_silent {
        return Vec::new();
    }
    let problem = format!("programs have no IPv4: {}", status.state);
    one("waiting", problem, facts.journal())
}

fn firewalls(facts: &Facts) -> Vec<Finding> {
    if !facts.obstacles.is_empty() {
        let obstacles = facts.obstacles.iter();
        let findings = obstacles.map(|obstacle| {
            let commands = obstacle.commands(&facts.device, facts.uplink());
            Finding::new("firewall", obstacle.to_string(), commands)
        });
        return findings.collect();
    }
    // What this process may not see.
    let known = facts.clat().map(|clat| &clat.firewalls[..]);
    let findings = known.unwrap_or_default().iter().map(|firewall| {
        let problem = format!("the {} drops forwarded packets", firewall.chain);
        let commands = firewall.commands.split("; ").map(str::to_owned).collect();
        Finding::new("firewall", problem, commands)
    });
    findings.collect()
}

/// Firewalls, which may be there to keep them from it, and masquerading, which they need.
fn guests(facts: &Facts) -> Vec<Finding> {
    let device = &facts.device;
    let firewalls = facts.guests.iter().map(|(obstacle, other)| {
        let problem = filters::problem(obstacle, device, other);
        let problem =
            format!("{problem}: what is behind {other} has no IPv4 by the CLAT. To allow it:");
        Finding::new(GUESTS, problem, obstacle.commands(device, other))
    });
    let packets = facts.status.as_ref().and_then(|one| one.packets.as_ref());
    let dropped = packets.map_or(&[][..], |packets| &packets.four_to_six.dropped);
    let of_others = dropped
        .iter()
        .find(|one| one.reason == DropReason::NoSource.key());
    let last = of_others.and_then(|one| one.last.as_ref());
    let last = last.filter(|last| last.age_seconds <= RECENT);
    let unmasked = last.map(|last| {
        let problem = format!(
            "the CLAT dropped a packet of a network behind this host {} s ago: {}. The addresses \
             of such a network are to be translated to that of {device}:",
            last.age_seconds, last.packet
        );
        Finding::new(GUESTS, problem, hints::masquerade(device).into())
    });
    firewalls.chain(unmasked).collect()
}

fn silent(facts: &Facts) -> Vec<Finding> {
    let device = &facts.device;
    let (problem, address) = match (facts.clat(), facts.echo) {
        (_, Some((_, true))) => return Vec::new(),
        (_, Some((address, false))) => (
            format!(
                "an ICMP echo to {address} by {device} was not answered: the NAT64 does not \
                 answer, something on the way there drops packets, or {address} does not answer \
                 (--ping takes another address)"
            ),
            address,
        ),
        (Some(clat), None) => match &clat.overview.prefix {
            Some(prefix) if prefix.is_silent => (
                format!("the NAT64 of {} does not answer", prefix.prefix),
                super::OUTSIDE,
            ),
            _ => return Vec::new(),
        },
        (None, None) => return Vec::new(),
    };
    let command = format!("ping -c 3 -I {} {address}", word(device));
    one("nat64-silent", problem, vec![command])
}
