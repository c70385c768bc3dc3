//! Applies resources, undoes them, and looks what is there.

use std::io;

use log::{info, warn};
use xlatd::{
    addr::IpPrefix,
    link::LinkRef,
    plan::{self, Before, Effect, FORCE_FORWARDING, Resource, Step, Sysctl, Undo},
};

use crate::{
    error::Error,
    host::forwarding,
    sys::{
        firewall::Firewall,
        netlink::{METRIC_V6, Netlink, Precedence, nftables},
        sysctl,
    },
};

/// Applies a resource, and logs what that did. `tun` is the index of the TUN device, which is
/// attached already.
pub(super) fn apply(
    netlink: &mut Netlink,
    firewall: &Firewall,
    tun: u32,
    resource: &Resource,
) -> Result<Effect, Error> {
    let index = |link: &LinkRef| index(link, tun);
    let result = match resource {
        Resource::Device { .. } => Ok(Effect::Unchanged),
        Resource::LinkUp(link) => netlink.set_up(index(link)),
        Resource::QueueLength(link, packets) => netlink.set_queue_length(index(link), *packets),
        Resource::Mtu(link, octets) => netlink.set_mtu(index(link), *octets),
        Resource::Address(link, address) => netlink.add_address(index(link), *address),
        Resource::TestAddress(link, address) => netlink.add_test_address(index(link), *address),
        Resource::NextHopObject(next_hop) => netlink.add_next_hop_object(tun, next_hop),
        Resource::Route(route) => netlink.add_route(tun, route).map(|(effect, precedence)| {
            warn_of(resource, precedence);
            effect
        }),
        Resource::Rule(rule) => netlink.add_rule(rule),
        Resource::Sysctl(sysctl) => {
            match write_sysctl(sysctl, &sysctl.value, |found| sysctl.apply(found)) {
                Err(error) if is_read_only(&error) => in_container(netlink, tun, sysctl, error),
                result => result,
            }
        }
        Resource::Forwarding => forwarding::switch(true),
        Resource::UfwRule { from, to } => firewall.ufw.allow(from, to).map(|()| Effect::Changed),
        Resource::Ruleset { name, text } => firewall.nft.load(name, text).map(|()| Effect::Changed),
    };
    report(Step::Apply(resource.clone()), result)
}

/// Takes a resource back, and logs what that did.
pub(super) fn undo(
    netlink: &mut Netlink,
    firewall: &Firewall,
    tun: u32,
    undo: &Undo,
) -> Result<Effect, Error> {
    let index = |link: &LinkRef| index(link, tun);
    let result = match undo {
        Undo::SetDown(link) => netlink.set_down(index(link)),
        Undo::RestoreQueueLength(link, packets) => netlink.set_queue_length(index(link), *packets),
        Undo::RemoveAddress(link, address) => netlink.remove_address(index(link), *address),
        Undo::RemoveNextHopObject(next_hop) => netlink.remove_next_hop_object(next_hop),
        Undo::RemoveRoute(route) => netlink.remove_route(tun, route),
        Undo::RemoveRule(rule) => netlink.remove_rule(rule),
        Undo::RestoreSysctl { set, before } => {
            let restore = |found: &_| set.restore(before, found, forwarding::is_forced());
            match write_sysctl(set, before, restore) {
                // It goes with the device.
                Err(error) if is_read_only(&error) && set.silences_tun() => Ok(Effect::Unchanged),
                result => result,
            }
        }
        Undo::StopForwarding { routers } => forwarding::stop(routers),
        Undo::DeleteUfwRule { from, to } => firewall.ufw.forget(from, to).map(|()| Effect::Changed),
        Undo::DeleteRuleset(name) => firewall.nft.delete(name).map(|()| Effect::Changed),
    };
    report(Step::Undo(undo.clone()), result)
}

/// What is there before a resource is applied.
pub(super) fn before(netlink: &mut Netlink, tun: u32, resource: &Resource) -> Before {
    match resource {
        Resource::QueueLength(link, _) => match netlink.link_by_index(index(link, tun)) {
            Ok(Some(link)) => Before::QueueLength(link.queue_length),
            _ => Before::Unknown,
        },
        Resource::Sysctl(sysctl) => read_sysctl(sysctl).map_or(Before::Unknown, Before::Value),
        Resource::Forwarding => match (forwarding::is_on(), forwarding::routers()) {
            (Ok(false), Ok(routers)) => Before::NotForwarding(routers),
            _ => Before::Unknown,
        },
        _ => Before::Unknown,
    }
}

/// Whether a resource is there, as far as other programs can remove it.
pub(super) fn is_there(netlink: &mut Netlink, tun: u32, resource: &Resource) -> io::Result<bool> {
    let index = |link: &LinkRef| index(link, tun);
    match resource {
        Resource::LinkUp(link) => Ok(netlink
            .link_by_index(index(link))?
            .is_none_or(|link| link.up)),
        Resource::Mtu(link, octets) => Ok(netlink
            .link_by_index(index(link))?
            .is_none_or(|link| link.mtu == *octets)),
        Resource::Address(link, address) => netlink.has_address(index(link), *address),
        Resource::TestAddress(link, address) => {
            netlink.has_address(index(link), IpPrefix::V6(*address, 128))
        }
        Resource::NextHopObject(next_hop) => netlink.has_next_hop_object(tun, next_hop),
        Resource::Route(route) => netlink.has_route(tun, route),
        Resource::Rule(rule) => netlink.has_rule(rule),
        // A device that came back under its name has other settings.
        Resource::Sysctl(sysctl) => {
            let is_set = read_sysctl(sysctl).map_or(true, |found| found == sysctl.value);
            Ok(is_set || sysctl::is_read_only(&sysctl.path()))
        }
        Resource::Forwarding => forwarding::is_on(),
        Resource::Ruleset { name, text } => Ok(nftables::count_rules(name)? == plan::rules(text)),
        Resource::Device { .. } | Resource::QueueLength(..) | Resource::UfwRule { .. } => Ok(true),
    }
}

/// Sees to the addresses and routes that the kernel took from a device that was down: brings them
/// back, or, without the right to, logs the command that does.
pub(crate) fn restore(netlink: &mut Netlink, tun: u32, plan: &[Resource], permitted: bool) {
    for resource in plan {
        match is_there(netlink, tun, resource) {
            Ok(true) => {}
            Ok(false) if permitted => {
                if let Err(error) = apply(netlink, &Firewall::default(), tun, resource) {
                    warn!("{}", error.report());
                }
            }
            Ok(false) => warn!(
                "What was set up at the start is gone, since the device was down: {} \
                 (with \"keep-net-admin yes\" it is brought back)",
                command(netlink, resource)
            ),
            Err(error) => warn!("cannot see whether it is still there: {resource}: {error}"),
        }
    }
}

/// The command by which an administrator applies a resource now: ip(8) is told where a route goes
/// if it is not the only one.
fn command(netlink: &mut Netlink, resource: &Resource) -> String {
    let command = resource.command();
    let Resource::Route(route) = resource else {
        return command;
    };
    match (netlink.free_metric(route), route.destination) {
        (Ok(None), IpPrefix::V4(..)) => command.replacen("add", "prepend", 1),
        (Ok(Some(metric)), IpPrefix::V6(..)) if metric != METRIC_V6 => {
            format!("{command} metric {metric}")
        }
        _ => command,
    }
}

/// The index of a device, which for the TUN device is not in the plan.
fn index(link: &LinkRef, tun: u32) -> u32 {
    match link.index {
        0 => tun,
        index => index,
    }
}

fn read_sysctl(sysctl: &Sysctl) -> io::Result<String> {
    sysctl::read(&sysctl_path(sysctl)?)
}

/// Writes a value if that has an effect on the one that is found.
fn write_sysctl(
    sysctl: &Sysctl,
    value: &str,
    effect: impl Fn(&str) -> Effect,
) -> io::Result<Effect> {
    let path = sysctl_path(sysctl)?;
    let effect = effect(&sysctl::read(&path)?);
    if effect == Effect::Changed {
        sysctl::write(&path, value)?;
    }
    Ok(effect)
}

/// The path of a setting, by the name that its device has now.
fn sysctl_path(sysctl: &Sysctl) -> io::Result<String> {
    match sysctl.link.index {
        0 => Ok(sysctl.path()),
        index => sysctl::path_by_index(&sysctl.path(), index),
    }
}

/// Does without a setting that is read-only, as in a container, if that is possible.
fn in_container(
    netlink: &mut Netlink,
    tun: u32,
    sysctl: &Sysctl,
    error: io::Error,
) -> io::Result<Effect> {
    if sysctl.silences_tun() {
        // The kernel sends little by a device without an address.
        netlink.without_link_local(tun)
    } else if sysctl.name == FORCE_FORWARDING && forwarding::is_on()? {
        Ok(Effect::Unchanged)
    } else {
        Err(error)
    }
}

fn is_read_only(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

fn warn_of(resource: &Resource, precedence: Precedence) {
    match precedence {
        Precedence::First => {}
        Precedence::Before(other) => {
            warn!("{resource}: goes before the route {other}, which is used again without it");
        }
        Precedence::Behind { other, metric } => warn!(
            "{resource}: is not used, since the route {other} goes before it: delete that one, or \
             give it a metric above {metric}"
        ),
    }
}

fn report(step: Step, result: io::Result<Effect>) -> Result<Effect, Error> {
    match &result {
        Ok(Effect::Changed) => info!("{step}: done"),
        Ok(Effect::Unchanged) => info!("{step}: already done"),
        Ok(Effect::LeftAlone) => info!("{step}: left alone, another program has changed it"),
        Err(_) => {}
    }
    result.map_err(|cause| Error::Step { step, cause })
}
