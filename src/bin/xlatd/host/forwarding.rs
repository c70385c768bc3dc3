//! Forwarding of IPv6: reads and writes what [`xlatd::plan::forwarding`] decides about.

use std::io;

use xlatd::plan::{
    Effect, FORCE_FORWARDING, conf_path,
    forwarding::{self, Device, Forwarding, Write},
};

use crate::sys::sysctl;

/// A setting by its path, and a value of it.
type Setting = (&'static str, &'static str);

const DISABLE_IPV6: &str = "net/ipv6/conf/all/disable_ipv6";
const IPV4_FORWARDING: &str = "net/ipv4/conf/all/forwarding";
const IPV6_FORWARDING: &str = "net/ipv6/conf/all/forwarding";

/// Whether the kernel can forward by device (Linux 6.17).
pub(crate) fn is_by_device() -> bool {
    sysctl::exists(&conf_path("all", FORCE_FORWARDING))
}

/// Whether packets are forwarded whatever device they come in by.
pub(super) fn is_forced() -> bool {
    is_set("all", FORCE_FORWARDING)
}

/// What forwards.
pub(super) fn read(uplink: &str) -> Forwarding {
    Forwarding {
        uplink: is_set(uplink, "forwarding"),
        by_uplink: is_set(uplink, FORCE_FORWARDING),
        all: is_on().unwrap_or(false),
        by_all: is_forced(),
    }
}

/// Whether the host forwards between all devices.
pub(super) fn is_on() -> io::Result<bool> {
    Ok(sysctl::read(&conf_path("all", "forwarding"))? == "1")
}

/// Devices that are routers.
pub(super) fn routers() -> io::Result<Vec<String>> {
    let mut devices = devices()?;
    devices.retain(|device| is_set(device, "forwarding"));
    Ok(devices)
}

/// Has the host forward, or not.
pub(super) fn switch(on: bool) -> io::Result<Effect> {
    if is_on()? == on {
        return Ok(Effect::Unchanged);
    }
    let devices = devices()?.into_iter().map(|name| {
        let value = |setting| sysctl::read(&conf_path(&name, setting)).ok();
        Device {
            accept_ra: value("accept_ra"),
            forwarding: value("forwarding"),
            name,
        }
    });
    let mut result = Ok(());
    for write in forwarding::switch(on, &devices.collect::<Vec<_>>()) {
        match write.is_of_all() {
            true => result = sysctl::write(&write.path, &write.value),
            false => write_to_device(&write),
        }
    }
    result.map(|()| Effect::Changed)
}

/// Has a network namespace forward IPv4 and IPv6, also by devices that are still to come. Tells
/// which settings would have to be changed and could not be.
pub(crate) fn forward_all() -> Result<(), Vec<(Setting, io::Error)>> {
    // Docker disables IPv6 on devices that are not its own.
    let ipv6_is_off = sysctl::is_on("net/ipv6/conf/default/disable_ipv6");
    let mut failed = Vec::new();
    let mut note = |path, value, result: io::Result<()>| {
        failed.extend(result.err().map(|error| ((path, value), error)));
    };
    if ipv6_is_off {
        note(DISABLE_IPV6, "0", sysctl::write(DISABLE_IPV6, "0"));
    }
    if !sysctl::is_on(IPV4_FORWARDING) {
        note(IPV4_FORWARDING, "1", sysctl::write(IPV4_FORWARDING, "1"));
    }
    note(IPV6_FORWARDING, "1", switch(true).map(drop));
    match failed.is_empty() {
        true => Ok(()),
        false => Err(failed),
    }
}

/// Has the host not forward, unless another program wants it to.
pub(super) fn stop(routers_before: &[String]) -> io::Result<Effect> {
    if forwarding::is_wanted_by_others(&routers()?, routers_before) {
        return Ok(Effect::LeftAlone);
    }
    switch(false)
}

/// All devices, and `default` for those that come later.
fn devices() -> io::Result<Vec<String>> {
    let mut devices = sysctl::names("net/ipv6/conf")?;
    devices.retain(|device| device != "all");
    Ok(devices)
}

/// The device may have been removed since.
fn write_to_device(write: &Write) {
    if sysctl::read(&write.path).is_ok_and(|found| found != write.value) {
        let _ = sysctl::write(&write.path, &write.value);
    }
}

fn is_set(device: &str, setting: &str) -> bool {
    sysctl::is_on(&conf_path(device, setting))
}
