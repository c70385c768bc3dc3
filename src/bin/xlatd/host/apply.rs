//! Carries out the steps of a plan, and looks whether they still hold.

use std::io;

use log::{info, warn};
use xlatd::{
    config::IpPrefix,
    plan::{self, Step},
};

use crate::{
    datapath::device::{Device, attach},
    error::Error,
    host::forwarding,
    sys::{
        firewall::{nft, ufw},
        netlink::{Beside, Done, Link, METRIC_V6, Netlink, nftables},
        sysctl,
    },
};

/// Carries out steps.
pub(crate) struct Setup {
    netlink: Netlink,
    /// Whether the kernel may leave work to the translator.
    offload: bool,
    device: Option<Device>,
    /// What makes it undone, in the order in which it was done.
    undo: Vec<Step>,
}

impl Setup {
    pub(crate) fn new(netlink: Netlink, offload: bool) -> Self {
        Self {
            netlink,
            offload,
            device: None,
            undo: Vec::new(),
        }
    }

    /// Attaches to the device, and returns its name.
    pub(crate) fn attach(&mut self, device: &str) -> Result<String, Error> {
        let device = attach(&mut self.netlink, device, self.offload)?;
        let name = device.link.name.clone();
        self.device = Some(device);
        Ok(name)
    }

    /// Takes all steps, of which the first, to attach to the device, is taken already. If one
    /// fails, the others are not taken.
    pub(crate) fn run(&mut self, steps: &[Step]) -> Result<(), Error> {
        for step in steps {
            let undo = undo_of(step, self.device.as_ref().map(|device| &device.link));
            if self.step(step)? == Done::Now {
                self.undo.extend(undo);
            }
        }
        // Some have changed it.
        if let Some(device) = &mut self.device {
            device.refresh(&mut self.netlink)?;
        }
        Ok(())
    }

    /// Undoes what was done, last first.
    pub(crate) fn undo(&mut self) {
        for step in std::mem::take(&mut self.undo).iter().rev() {
            if let Err(error) = self.step(step) {
                warn!("{}", error.report());
            }
        }
    }

    /// What the steps have made ready.
    pub(crate) fn finish(self) -> (Netlink, Device) {
        // Nothing is set up before that.
        let device = self.device.expect("attached to a device");
        (self.netlink, device)
    }

    fn step(&mut self, step: &Step) -> Result<Done, Error> {
        if let Step::CreateDevice { .. } = step {
            return Ok(Done::Before);
        }
        // All steps are about the device that the first one attached to; others might get its name, but not its index.
        let index = self.device.as_ref().map_or(0, |device| device.link.index);
        take(&mut self.netlink, index, step)
    }
}

/// What will make a step undone that has not been taken yet: where it sets a value, that of before.
pub(crate) fn undo_of(step: &Step, link: Option<&Link>) -> Option<Step> {
    match (step, link) {
        (Step::SetQueueLength { device, .. }, Some(link)) => Some(Step::SetQueueLength {
            device: device.clone(),
            length: link.queue_length,
        }),
        (
            Step::SetSysctl {
                path, value, index, ..
            },
            _,
        ) => Some(Step::SetSysctl {
            path: path.clone(),
            value: sysctl::read(&path_now(path, *index).ok()?).ok()?,
            only_if: Some(value.clone()),
            index: *index,
        }),
        (Step::ForwardAll, _) if forwarding::is_on().unwrap_or(true) => None,
        (Step::ForwardAll, _) => Some(Step::ForwardNoMore {
            routers: forwarding::routers().ok()?,
        }),
        _ => step.undo(),
    }
}

/// Takes one step on a device that is attached to, and says so.
pub(crate) fn take(netlink: &mut Netlink, index: u32, step: &Step) -> Result<Done, Error> {
    let result = match step {
        Step::CreateDevice { .. } => Ok(Done::Before),
        Step::SetUp { .. } => netlink.set_up(index),
        Step::SetQueueLength { length, .. } => netlink.set_queue_length(index, *length),
        Step::SetDown { .. } => netlink.set_down(index),
        Step::AddAddress { address, .. } => netlink.add_address(index, *address),
        Step::RemoveAddress { address, .. } => netlink.remove_address(index, *address),
        Step::TryAddress { index, address, .. } => netlink.try_address(*index, *address),
        Step::ForgetAddress { index, address, .. } => {
            netlink.remove_address(*index, IpPrefix::V6(*address, 128))
        }
        Step::AddRoute { destination, .. } => netlink.add_route(index, *destination).map(
            |(done, beside)| {
                match beside {
                    Beside::First => {}
                    Beside::Before(other) => warn!(
                        "{step}: goes before the route {other}, which is used again without it"
                    ),
                    Beside::Behind { other, metric } => warn!(
                        "{step}: is not used, since the route {other} goes before it: delete that \
                         one, or give it a metric above {metric}"
                    ),
                }
                done
            },
        ),
        Step::RemoveRoute { destination, .. } => netlink.remove_route(index, *destination),
        Step::SetMtu { mtu, .. } => netlink.set_mtu(index, *mtu),
        Step::AddTableRoute(route) => netlink.add_table_route(index, route),
        Step::RemoveTableRoute(route) => netlink.remove_table_route(index, route),
        Step::AddRule(rule) => netlink.add_rule(rule),
        Step::RemoveRule(rule) => netlink.remove_rule(rule),
        Step::SetSysctl {
            path,
            value,
            only_if,
            index,
        } => path_now(path, *index).and_then(|path| set_sysctl(&path, value, only_if.as_deref())),
        Step::ForwardAll => forwarding::switch(true),
        Step::ForwardNoMore { routers } => forwarding::switch_off_unless(routers),
        Step::AllowInUfw { from, to } => ufw::allow(from, to).map(|()| Done::Now),
        Step::ForgetInUfw { from, to } => ufw::forget(from, to).map(|()| Done::Now),
        Step::LoadRuleset { name, text } => nft::load(name, text).map(|()| Done::Now),
        Step::DeleteRuleset { name } => nft::delete(name).map(|()| Done::Now),
    };
    match &result {
        Ok(Done::Now) => info!("{step}: done"),
        Ok(Done::Before) => info!("{step}: so it was before"),
        Ok(Done::Left) => info!("{step}: not done, since somebody else has changed it"),
        Err(_) => {}
    }
    result.map_err(|cause| Error::Step {
        step: step.clone(),
        cause,
    })
}

/// The path of a setting, by the name that its device has now.
fn path_now(path: &str, index: u32) -> io::Result<String> {
    match index {
        0 => Ok(path.to_owned()),
        index => sysctl::path_by_index(path, index),
    }
}

fn set_sysctl(path: &str, value: &str, only_if: Option<&str>) -> io::Result<Done> {
    let before = sysctl::read(path)?;
    if before == value {
        return Ok(Done::Before);
    }
    // Who has had all devices forward wants this one to go on.
    let is_wanted = || only_if.is_some() && value == "0" && forwarding::is_forced_for_all(path);
    if only_if.is_some_and(|expected| expected != before) || is_wanted() {
        return Ok(Done::Left);
    }
    sysctl::write(path, value)?;
    Ok(Done::Now)
}

/// Whether what a step did is still so, as far as others can undo it.
pub(crate) fn is_there(netlink: &mut Netlink, index: u32, step: &Step) -> io::Result<bool> {
    match step {
        Step::AddAddress { address, .. } => netlink.has_address(index, *address),
        Step::AddRoute { destination, .. } => netlink.has_route(index, *destination),
        Step::AddTableRoute(route) => netlink.has_table_route(index, route),
        Step::AddRule(rule) => netlink.has_rule(rule),
        Step::SetUp { .. } => Ok(netlink.link_by_index(index)?.is_none_or(|link| link.up)),
        // A device that came back under its name has other settings.
        Step::SetSysctl {
            path,
            value,
            only_if: None,
            index,
        } => {
            let found = path_now(path, *index).and_then(|path| sysctl::read(&path));
            Ok(found.map_or(true, |found| found == *value))
        }
        Step::SetMtu { mtu, .. } => Ok(netlink
            .link_by_index(index)?
            .is_none_or(|link| link.mtu == *mtu)),
        Step::LoadRuleset { name, text } => Ok(nftables::count_rules(name)? == plan::rules(text)),
        Step::TryAddress { index, address, .. } => {
            netlink.has_address(*index, IpPrefix::V6(*address, 128))
        }
        Step::ForwardAll => forwarding::is_on(),
        _ => Ok(true),
    }
}

/// Sees to the addresses and routes that the kernel took from a device that was down: brings them back, or, without the
/// right to, says how.
pub(crate) fn restore(netlink: &mut Netlink, index: u32, steps: &[Step], permitted: bool) {
    for step in steps {
        match is_there(netlink, index, step) {
            Ok(true) => {}
            Ok(false) if permitted => {
                if let Err(error) = take(netlink, index, step) {
                    warn!("{}", error.report());
                }
            }
            Ok(false) => warn!(
                "What was set up at the start is gone, since the device was down: {} \
                 (with \"keep-net-admin yes\" it is brought back)",
                command(netlink, step)
            ),
            Err(error) => warn!("cannot see whether it is still so: {step}: {error}"),
        }
    }
}

/// The command by which an administrator takes a step now: ip(8) is told where a route goes if it
/// is not the only one.
fn command(netlink: &mut Netlink, step: &Step) -> String {
    let Step::AddRoute {
        device,
        destination,
    } = step
    else {
        return step.command();
    };
    match (netlink.free_metric(*destination), destination) {
        (Ok(None), IpPrefix::V4(..)) => format!("ip route prepend {destination} dev {device}"),
        (Ok(Some(metric)), IpPrefix::V6(..)) if metric != METRIC_V6 => {
            format!("{} metric {metric}", step.command())
        }
        _ => step.command(),
    }
}
