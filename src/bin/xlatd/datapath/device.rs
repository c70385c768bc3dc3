//! The TUN device that packets come from and go to.

use std::time::Instant;

use log::{info, warn};
use xlatd::{
    config::{Config, is_name_format},
    translate::Packet,
    wire::ipv6::MIN_MTU,
};

use crate::{
    datapath::tally::Tally,
    error::{Error, system},
    sys::{
        netlink::{Kind, Link, Netlink},
        tun::Tun,
    },
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
    pub(crate) fn look(&mut self, netlink: &mut Netlink) -> Result<(), Error> {
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
