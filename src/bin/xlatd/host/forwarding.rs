//! Forwarding of IPv6 by the whole host, as it is before Linux 6.17 (Documentation/networking/ip-sysctl.rst of Linux).
//!
//! To have the host forward also makes every device a router's, which forgets its default routes and does not listen to
//! routers any more; and to have it stop makes every device a host's, also where it was a router before. What is wanted here
//! is the one without the other: each device stays what it is.

use std::io;

use crate::sys::{netlink::Done, sysctl};

/// Settings of devices.
const DEVICES: &str = "net/ipv6/conf";
/// The setting by which packets that come in by a device are forwarded.
const FORCE: &str = "force_forwarding";

/// Has the host forward, or do so no more.
pub(crate) fn switch(on: bool) -> io::Result<Done> {
    let value = if on { "1" } else { "0" };
    let all = setting("all", "forwarding");
    if sysctl::read(&all)? == value {
        return Ok(Done::Before);
    }
    let devices = devices()?;
    // A router that accepts advertisements all the same (2) keeps its default routes.
    let accept_ra = of_all(&devices, "accept_ra", |value| value == "1");
    let forwarding = of_all(&devices, "forwarding", |_| true);
    for (path, _) in &accept_ra {
        write(path, "2");
    }
    let result = sysctl::write(&all, value);
    for (path, before) in forwarding.iter().chain(&accept_ra) {
        write(path, before);
    }
    result.map(|()| Done::Now)
}

/// Has the host forward no more, unless a device is a router now that is none of these.
pub(crate) fn switch_off_unless(routers: &[String]) -> io::Result<Done> {
    if self::routers()?.iter().any(|one| !routers.contains(one)) {
        return Ok(Done::Left);
    }
    switch(false)
}

/// Whether all devices have been told to forward what comes in by them, where this is one of the settings that say so (Linux
/// 6.17). It is not us who did.
pub(crate) fn is_forced_for_all(path: &str) -> bool {
    path.ends_with(FORCE) && sysctl::is_on(&setting("all", FORCE))
}

/// Whether the host forwards.
pub(crate) fn is_on() -> io::Result<bool> {
    Ok(sysctl::read(&setting("all", "forwarding"))? == "1")
}

/// Devices that are a router's.
pub(crate) fn routers() -> io::Result<Vec<String>> {
    let mut devices = devices()?;
    devices.retain(|device| is_router(device));
    Ok(devices)
}

/// Whether a device is a router's.
pub(crate) fn is_router(device: &str) -> bool {
    sysctl::is_on(&setting(device, "forwarding"))
}

/// Every device, and what those are that come later.
fn devices() -> io::Result<Vec<String>> {
    let mut devices = sysctl::names(DEVICES)?;
    devices.retain(|device| device != "all");
    Ok(devices)
}

/// The settings of this name that have such a value: their paths, and what they are.
fn of_all(
    devices: &[String],
    name: &str,
    is_wanted: impl Fn(&str) -> bool,
) -> Vec<(String, String)> {
    let paths = devices.iter().map(|device| setting(device, name));
    let values = paths.filter_map(|path| Some((sysctl::read(&path).ok()?, path)));
    let wanted = values.filter(|(value, _)| is_wanted(value));
    wanted.map(|(value, path)| (path, value)).collect()
}

/// A device may have gone since.
fn write(path: &str, value: &str) {
    if sysctl::read(path).is_ok_and(|found| found != value) {
        let _ = sysctl::write(path, value);
    }
}

fn setting(device: &str, name: &str) -> String {
    format!("{DEVICES}/{device}/{name}")
}
