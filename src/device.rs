//! Attaches to the TUN device, and sets it up.

use std::{io, time::Instant};

use log::{info, warn};
use xlatd::{
    config::{Config, IpPrefix, is_name_format},
    plan::{self, Step},
    translate::Packet,
    wire::ipv6::MIN_MTU,
};

use crate::{
    error::{Error, system},
    forwarding,
    sys::{
        firewall::{nft, ufw},
        netlink::{Done, Kind, Link, METRIC_V6, Netlink, nftables},
        sysctl,
        tun::Tun,
    },
    tally::Tally,
};

/// Makes the configured device persistent, creating it if it does not exist. (`--mktun`)
pub(crate) fn make_tun(config: &Config) -> Result<(), Error> {
    let mut netlink = Netlink::new().map_err(system("talk netlink to the kernel"))?;
    let device = &config.tun_device;
    let existed = find(&mut netlink, device)?.is_some();
    let attached = Device::attach(&mut netlink, device, false)?;
    attached
        .tun
        .set_persistent(true)
        .map_err(|cause| Error::Tun {
            device: device.clone(),
            call: "make persistent",
            cause,
        })?;
    let name = &attached.link.name;
    if existed {
        info!("Persistent tun device {name} is there already");
    } else {
        info!("Created persistent tun device {name}");
    }
    Ok(())
}

/// Removes the configured device, if it exists. (`--rmtun`)
pub(crate) fn remove_tun(config: &Config) -> Result<(), Error> {
    let mut netlink = Netlink::new().map_err(system("talk netlink to the kernel"))?;
    let device = &config.tun_device;
    if is_name_format(device) {
        warn!(
            "tun-device {device} is the name of no device: remove the one that --mktun has made by \
             its name (ip link delete dev NAME)"
        );
        return Ok(());
    }
    if find(&mut netlink, device)?.is_none() {
        info!("There is no tun device {device}");
        return Ok(());
    }
    let attached = Device::attach(&mut netlink, device, false)?;
    attached
        .tun
        .set_persistent(false)
        .map_err(|cause| Error::Tun {
            device: device.clone(),
            call: "remove",
            cause,
        })?;
    info!("Removed persistent tun device {device}");
    Ok(())
}

/// The TUN device, and what has become of it.
pub(crate) struct Device {
    pub(crate) tun: Tun,
    pub(crate) link: Link,
    /// Whether the kernel cuts super-packets of any kind for us.
    pub(crate) coalesces: bool,
    /// Packets that the kernel did not take.
    pub(crate) unwritten: Tally,
}

impl Device {
    /// Attaches to the device of this name, or of one that the kernel makes of it; see
    /// [`Tun::open`].
    fn attach(netlink: &mut Netlink, name: &str, offload: bool) -> Result<Self, Error> {
        let multi_queue =
            find(netlink, name)?.is_some_and(|link| link.kind == Kind::Tun { multi_queue: true });
        let tun = Tun::open(name, multi_queue, offload).map_err(|cause| Error::Attach {
            device: name.to_owned(),
            cause,
        })?;
        let name = tun
            .name()
            .map_err(system("ask for the name of the TUN device"))?;
        let link = find(netlink, &name)?.ok_or(Error::Gone { device: name })?;
        Ok(Self {
            tun,
            link,
            coalesces: false,
            unwritten: Tally::default(),
        })
    }

    /// Takes notice of what the device is now.
    fn look(&mut self, netlink: &mut Netlink) -> Result<(), Error> {
        let link = netlink.link_by_index(self.link.index);
        let link = link.map_err(system("look at the TUN device by netlink"))?;
        self.link = link.ok_or_else(|| Error::Gone {
            device: self.link.name.clone(),
        })?;
        Ok(())
    }

    /// Writes one packet. One that the kernel does not take is lost, as on any link.
    pub(crate) fn write(&mut self, packet: &mut Packet, now: Instant) {
        let Err(error) = self.tun.write(packet.with_header()) else {
            return;
        };
        if let Some(count) = self.unwritten.add(now) {
            warn!(
                "{}: cannot write a packet ({count} so far): {error}",
                self.link.name
            );
        }
    }
}

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
            device.look(&mut self.netlink)?;
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

/// Attaches to a device over which both families can be sent.
pub(crate) fn attach(netlink: &mut Netlink, name: &str, offload: bool) -> Result<Device, Error> {
    let mut device = Device::attach(netlink, name, offload)?;
    let Link { name, mtu, .. } = &device.link;
    if *mtu < MIN_MTU.into() {
        return Err(Error::Mtu {
            device: name.clone(),
            mtu: *mtu,
        });
    }
    info!("Using tun device {name} with MTU {mtu}");
    if offload {
        match device.tun.set_offload() {
            Some(offload) => {
                info!("Offload: {}", offload.name);
                device.coalesces = offload.udp;
            }
            None => info!("Offload: none, which this kernel does not have for TUN devices"),
        }
    }
    Ok(device)
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
        Step::AddRoute { destination, .. } => {
            netlink.add_route(index, *destination).map(|(done, other)| {
                if let Some(other) = other {
                    warn!("{step}: goes before the route {other}, which is used again without it");
                }
                done
            })
        }
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
                command(netlink, index, step)
            ),
            Err(error) => warn!("cannot see whether it is still so: {step}: {error}"),
        }
    }
}

/// The command by which an administrator takes a step now: ip(8) is told where a route goes if it
/// is not the only one.
fn command(netlink: &mut Netlink, index: u32, step: &Step) -> String {
    let Step::AddRoute {
        device,
        destination,
    } = step
    else {
        return step.command();
    };
    match (netlink.route_beside(index, *destination), destination) {
        (Ok(Some(_)), IpPrefix::V4(..)) => format!("ip route prepend {destination} dev {device}"),
        (Ok(Some(_)), IpPrefix::V6(..)) => {
            format!("{} metric {}", step.command(), METRIC_V6 - 1)
        }
        _ => step.command(),
    }
}

/// The TUN device of this name, if there is one. A device of another kind is an error.
fn find(netlink: &mut Netlink, name: &str) -> Result<Option<Link>, Error> {
    let link = netlink
        .link(name)
        .map_err(system("look for the TUN device by netlink"))?;
    let kind = match link.as_ref().map(|link| &link.kind) {
        None | Some(Kind::Tun { .. }) => return Ok(link),
        Some(Kind::Tap) => "a TAP device".to_owned(),
        Some(Kind::Other(Some(kind))) => format!("a device of type {kind}"),
        Some(Kind::Other(None)) => "another device".to_owned(),
    };
    Err(Error::NotTun {
        device: name.to_owned(),
        kind,
    })
}
