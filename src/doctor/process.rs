//! Whether a translator runs, by itself and alone; and its device.

use super::{
    facts::{ChangedFile, DataDirUse, Disabled, Facts, Link, Process},
    finding::Finding,
};
use crate::{
    plan::shell::{conf, word},
    wire::ipv6::MIN_MTU,
};

impl Process {
    /// What ends it.
    fn stop(&self) -> String {
        match &self.unit {
            Some(unit) => format!("systemctl stop {}", word(unit)),
            None => format!("kill {}", self.pid),
        }
    }

    fn words(&self) -> String {
        format!("{} (process {})", self.program, self.pid)
    }
}

/// Another instance, or another program, with the same `data-dir`: a second instance does not
/// start.
pub(super) fn data_dir(facts: &Facts) -> Vec<Finding> {
    let Some(DataDirUse {
        path,
        process,
        device,
    }) = &facts.data_dir
    else {
        return Vec::new();
    };
    let who = match process {
        Some(process) => process.words(),
        None => "another process".to_owned(),
    };
    let of = device.as_ref().map(|device| format!(" for {device}"));
    let problem = format!(
        "leases are kept in {path} by {who}{}: two instances cannot share a data-dir, and the one \
         of {} does not start. Set another data-dir in one of the two configurations, or stop that \
         process.",
        of.unwrap_or_default(),
        facts.device
    );
    // The translator of another device is to go on.
    let stop = process.iter().filter(|_| device.is_none());
    let stop: Vec<_> = stop.map(Process::stop).collect();
    let start = (!stop.is_empty()).then(|| facts.start.clone());
    let commands = stop.into_iter().chain(start).collect();
    vec![Finding::new("data-dir", problem, commands)]
}

/// tayga, or anything else, reads what is for the translator.
pub(super) fn other_program(facts: &Facts) -> Vec<Finding> {
    let others = facts.holders.iter().filter(|process| !process.is_xlatd);
    let mut others: Vec<_> = others.collect();
    let is_alone = others.len() == facts.holders.len();
    if !is_alone || others.is_empty() {
        // Of several xlatd, the first one is taken for the right one.
        others.extend(facts.holders.iter().filter(|one| one.is_xlatd).skip(1));
    }
    if others.is_empty() {
        return Vec::new();
    }
    let device = &facts.device;
    let words: Vec<_> = others.iter().map(|process| process.words()).collect();
    let words = words.join(" and ");
    let (problem, start) = match is_alone {
        true => (
            format!("{device} is used by {words}, and not by xlatd, which cannot start with it"),
            Some(facts.start.clone()),
        ),
        false => (
            format!(
                "{words} has attached to {device}, too: the kernel divides packets between the \
                 processes"
            ),
            None,
        ),
    };
    let stop = others.iter().map(|process| process.stop());
    let commands = stop.chain(start).collect();
    vec![Finding::new("other-program", problem, commands)]
}

/// Nobody reads the packets.
pub(super) fn not_running(facts: &Facts) -> Vec<Finding> {
    let device = &facts.device;
    let problem = match &facts.link {
        Some(Link {
            is_in_use: true, ..
        }) => return Vec::new(),
        Some(_) => format!(
            "no translator runs: no process has attached to {device}, and packets that are routed \
             there are lost"
        ),
        None => format!("no translator runs: there is no device {device}, which it makes"),
    };
    vec![Finding::new(
        "not-running",
        problem,
        vec![facts.start.clone()],
    )]
}

/// What is said below is about the files as they are now.
pub(super) fn changed(facts: &Facts) -> Vec<Finding> {
    let finding = |file: &ChangedFile| {
        let problem = format!(
            "{} has changed since the translator read it, which does as it was",
            file.path
        );
        let again = || vec![format!("kill {}", file.pid), facts.start.clone()];
        let commands = file.command.clone().map(|command| vec![command]);
        Finding::new("file-changed", problem, commands.unwrap_or_else(again))
    };
    facts.changed.iter().map(finding).collect()
}

/// The kernel sends no packets to a device that is down, and has no routes there.
pub(super) fn device_down(facts: &Facts) -> Vec<Finding> {
    let device = &facts.device;
    let is_down = facts.link.as_ref().is_some_and(|link| !link.up);
    let finding = || {
        Finding::new(
            "device-down",
            format!("{device} is down (tun-up yes sets it up when the translator starts)"),
            vec![format!("ip link set dev {} up", word(device))],
        )
    };
    is_down.then(finding).into_iter().collect()
}

/// RFC 8200 section 5.
pub(super) fn mtu(facts: &Facts) -> Vec<Finding> {
    let Some(mtu) = facts.link.as_ref().map(|link| link.mtu) else {
        return Vec::new();
    };
    if mtu >= MIN_MTU.into() {
        return Vec::new();
    }
    let device = &facts.device;
    let problem = format!(
        "{device} has an MTU of {mtu}: IPv6 needs at least {MIN_MTU} octets, and the kernel has \
         ended it there"
    );
    let commands = vec![format!("ip link set dev {} mtu 1500", word(device))];
    vec![Finding::new("mtu", problem, commands)]
}

/// IPv6 that is disabled takes addresses and routes with it.
pub(super) fn ipv6_disabled(facts: &Facts) -> Vec<Finding> {
    disabled("ipv6-disabled", facts.disabled, &facts.device)
}

/// The same for a device.
pub(super) fn disabled(key: &'static str, disabled: Disabled, device: &str) -> Vec<Finding> {
    if disabled.in_kernel {
        let problem = "this kernel has no IPv6: it was started with ipv6.disable=1, or built \
                       without";
        return vec![Finding::new(key, problem.to_owned(), Vec::new())];
    }
    let by = [
        (disabled.all, "all"),
        (disabled.default, "default"),
        (disabled.device, device),
    ];
    let by = by.into_iter().filter(|(is_disabled, _)| *is_disabled);
    let settings: Vec<_> = by
        .map(|(_, name)| conf("ipv6", name, "disable_ipv6"))
        .collect();
    if settings.is_empty() {
        return Vec::new();
    }
    let problem = format!("IPv6 is disabled by {}", settings.join(", "));
    let commands = settings.iter();
    let commands = commands.map(|one| format!("sysctl -w {one}=0")).collect();
    vec![Finding::new(key, problem, commands)]
}
