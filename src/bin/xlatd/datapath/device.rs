//! The TUN device that packets come from and go to.

use std::{io, time::Instant};

use log::{info, warn};
use nix::errno::Errno;
use xlatd::{
    config::{Config, is_name_format},
    translate::Packet,
    wire::ipv6::MIN_MTU,
};

use crate::{
    datapath::tally::Tally,
    error::{Error, system},
    sys::{
        netlink::{LinkKind, LinkState, Netlink},
        tun::{Header, Queues, Tun},
    },
};

/// Makes the configured device persistent, creating it if it does not exist. (`--mktun`)
pub(crate) fn make_tun(config: &Config) -> Result<(), Error> {
    let mut netlink = Netlink::new().map_err(system("open a netlink socket"))?;
    let device = &config.tun_device;
    let existed = find(&mut netlink, device)?.is_some();
    let attached = Device::attach(&mut netlink, device, Header::None, config.workers)?;
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
        info!("Persistent tun device {name} already exists");
    } else {
        info!("Created persistent tun device {name}");
    }
    Ok(())
}

/// Removes the configured device, if it exists. (`--rmtun`)
pub(crate) fn remove_tun(config: &Config) -> Result<(), Error> {
    let mut netlink = Netlink::new().map_err(system("open a netlink socket"))?;
    let device = &config.tun_device;
    if is_name_format(device) {
        warn!(
            "tun-device {device} is a format, not the name of a device: remove the device that \
             --mktun created by its name (ip link delete dev NAME)"
        );
        return Ok(());
    }
    if find(&mut netlink, device)?.is_none() {
        info!("No tun device {device}: nothing to remove");
        return Ok(());
    }
    let attached = Device::attach(&mut netlink, device, Header::None, 1)?;
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

/// An attached TUN device.
pub(crate) struct Device {
    pub(crate) tun: Tun,
    /// The queues of other workers.
    pub(crate) others: Vec<Tun>,
    /// The queue of another worker by which packets are written now, in place of the own one.
    pub(crate) writes_by: Option<usize>,
    pub(crate) link: LinkState,
    /// Whether the kernel segments super-packets of TCP and UDP, so packets may be joined to them.
    pub(crate) coalesces: bool,
    /// What the kernel leaves to be done, in words.
    pub(crate) offload: &'static str,
    /// Packets that the kernel rejected.
    pub(crate) rejected: Tally,
}

impl Device {
    /// Attaches to the device of this name, or of this format of a name; see [`Tun::open`]. Each
    /// worker gets a queue.
    fn attach(
        netlink: &mut Netlink,
        name: &str,
        header: Header,
        workers: u8,
    ) -> Result<Self, Error> {
        let queues = match find(netlink, name)?.map(|link| link.kind) {
            Some(LinkKind::MultiQueueTun { .. }) => Queues::Multi,
            Some(_) if workers > 1 => {
                let device = name.to_owned();
                return Err(Error::SingleQueue { device, workers });
            }
            None if workers > 1 => Queues::Multi,
            _ => Queues::Single,
        };
        let refused = |cause| Error::Attach {
            device: name.to_owned(),
            cause,
        };
        let is_busy = || Ok(netlink.link(name)?.is_some_and(|link| attached(&link) > 0));
        let tun = Tun::open(name, queues, header, is_busy).map_err(refused)?;
        let others = (1..workers).map(|_| tun.another_queue());
        let others = others.collect::<io::Result<_>>().map_err(refused)?;
        let name = tun
            .name()
            .map_err(system("read the name of the TUN device"))?;
        let link = find(netlink, &name)?.ok_or(Error::DeviceRemoved { device: name })?;
        // Another one that has started in the same moment.
        if attached(&link) > workers.into() {
            let cause = io::Error::from_raw_os_error(Errno::EBUSY as i32);
            let device = link.name;
            return Err(Error::Attach { device, cause });
        }
        Ok(Self {
            others,
            ..Self::of(tun, link, false)
        })
    }

    /// A device by one of its queues.
    pub(crate) fn of(tun: Tun, link: LinkState, coalesces: bool) -> Self {
        Self {
            tun,
            others: Vec::new(),
            writes_by: None,
            link,
            coalesces,
            offload: "none",
            rejected: Tally::default(),
        }
    }

    /// Fails if the MTU of the device is not enough for IPv6.
    pub(crate) fn check_mtu(&self) -> Result<(), Error> {
        let LinkState { name, mtu, .. } = &self.link;
        if *mtu < MIN_MTU.into() {
            return Err(Error::Mtu {
                device: name.clone(),
                mtu: *mtu,
            });
        }
        Ok(())
    }

    /// Reads the state of the link again.
    pub(crate) fn refresh(&mut self, netlink: &mut Netlink) -> Result<(), Error> {
        let link = netlink.link_by_index(self.link.index);
        let link = link.map_err(system("read the state of the TUN device by netlink"))?;
        self.link = link.ok_or_else(|| Error::DeviceRemoved {
            device: self.link.name.clone(),
        })?;
        Ok(())
    }

    /// Writes one packet. One that the kernel rejects is lost, as on any link.
    pub(crate) fn write(&mut self, packet: &mut Packet, now: Instant) {
        let queue = match self.writes_by {
            Some(other) => &mut self.others[other],
            None => &mut self.tun,
        };
        let Err(error) = queue.write(packet.with_header()) else {
            return;
        };
        if let Some(count) = self.rejected.add(now) {
            warn!(
                "{}: cannot write a packet ({count} so far): {error}",
                self.link.name
            );
        }
    }
}

/// What the kernel may leave to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offload {
    /// To both sides: segmentation and checksums.
    Both,
    /// To the kernel alone: packets that were received elsewhere may be left to it unfinished.
    ToKernel,
    /// Nothing.
    None,
}

/// Attaches to the device for translation, with a queue for each worker, and sets the offloads.
pub(crate) fn attach(
    netlink: &mut Netlink,
    name: &str,
    offload: Offload,
    workers: u8,
) -> Result<Device, Error> {
    let header = match offload {
        Offload::Both | Offload::ToKernel => Header::Virtio,
        Offload::None => Header::None,
    };
    let mut device = Device::attach(netlink, name, header, workers)?;
    let LinkState { name, mtu, .. } = &device.link;
    info!("Using tun device {name} with MTU {mtu}");
    if offload == Offload::Both {
        match device.tun.set_offload() {
            Some(level) => {
                info!("Offload: {}", level.name);
                device.coalesces = level.udp;
                device.offload = level.name;
            }
            None => info!("Offload: none, since this kernel has none for TUN devices"),
        }
    }
    Ok(device)
}

/// Number of queues that are attached to a device which may have several.
fn attached(link: &LinkState) -> u32 {
    match link.kind {
        LinkKind::MultiQueueTun { queues } => queues,
        _ => 0,
    }
}

/// Finds the TUN device of this name. A device of another kind is an error.
fn find(netlink: &mut Netlink, name: &str) -> Result<Option<LinkState>, Error> {
    let link = netlink
        .link(name)
        .map_err(system("find the TUN device by netlink"))?;
    let kind = match link.as_ref().map(|link| &link.kind) {
        None | Some(LinkKind::Tun | LinkKind::MultiQueueTun { .. }) => return Ok(link),
        Some(LinkKind::Tap) => "a TAP device".to_owned(),
        Some(LinkKind::Other(Some(kind))) => format!("a device of type {kind}"),
        Some(LinkKind::Other(None)) => "another device".to_owned(),
    };
    Err(Error::NotTun {
        device: name.to_owned(),
        kind,
    })
}
