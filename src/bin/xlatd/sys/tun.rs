//! The TUN device (Documentation/networking/tuntap.rst).

use std::{
    ffi::c_char,
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::stat::{Mode, SFlag, makedev, mknod},
    unistd,
};
use tun::AbstractDevice;
use xlatd::wire::virtio;

mod ioctl {
    #![allow(missing_docs, reason = "named as in linux/if_tun.h")]
    use nix::libc::c_int;

    nix::ioctl_write_ptr!(tunsetiff, b'T', 202, c_int);
    nix::ioctl_write_int!(tunsetpersist, b'T', 203);
    nix::ioctl_write_int!(tunsetoffload, b'T', 208);
}

/// The time to retry attaching to a busy device. A device serves one process at a time, and the
/// kernel detaches one that has ended up to tens of milliseconds later.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// The interval of these retries.
const BUSY_INTERVAL: Duration = Duration::from_millis(20);

// Flags of TUNSETOFFLOAD (linux/if_tun.h).
const CHECKSUM: u64 = 0x01;
const TSO4: u64 = 0x02;
const TSO6: u64 = 0x04;
const TSO_ECN: u64 = 0x08;
const USO4: u64 = 0x20; // since Linux 6.2
const USO6: u64 = 0x40;

/// Where the kernel makes and attaches TUN devices.
const NODE: &str = "/dev/net/tun";

/// Makes the node of the driver if it is not there, as in a container that is started without it
/// but may have it.
pub(crate) fn make_node() -> io::Result<()> {
    if fs::exists(NODE)? {
        return Ok(());
    }
    fs::create_dir_all("/dev/net")?;
    let everyone = Mode::from_bits_truncate(0o666);
    mknod(NODE, SFlag::S_IFCHR, everyone, makedev(10, 200))?; // misc, TUN_MINOR
    Ok(())
}

/// The queues of a TUN device. The kernel refuses to attach with flags of the other kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queues {
    Single,
    Multi,
}

/// The header before each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    None,
    /// A virtio_net_hdr, which says what is left to do for the packet, such as its checksum.
    Virtio,
}

/// The set of offloads that a kernel grants: work that it may leave to the reader of the device,
/// and that a writer may leave to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OffloadLevel {
    flags: u64,
    /// The name in messages.
    pub(crate) name: &'static str,
    /// Whether super-packets of UDP datagrams are read and written, too.
    pub(crate) udp: bool,
}

/// The levels of offload, the highest first.
const OFFLOAD_LEVELS: [OffloadLevel; 4] = [
    OffloadLevel {
        flags: CHECKSUM | TSO4 | TSO6 | TSO_ECN | USO4 | USO6,
        name: "checksums, TCP and UDP segmentation",
        udp: true,
    },
    OffloadLevel {
        flags: CHECKSUM | TSO4 | TSO6 | TSO_ECN,
        name: "checksums and TCP segmentation",
        udp: false,
    },
    OffloadLevel {
        flags: CHECKSUM | TSO4 | TSO6,
        name: "checksums and TCP segmentation without ECN",
        udp: false,
    },
    OffloadLevel {
        flags: CHECKSUM,
        name: "checksums",
        udp: false,
    },
];

/// A queue of an attached TUN device: each read and each write is one IP packet.
pub(crate) struct Tun {
    device: tun::Device,
    header: Header,
    /// Whether it is the first queue, whose end is that of the device for this program.
    is_first: bool,
}

impl Tun {
    /// Attaches to the device of this name. A device that does not exist is created, and removed
    /// when this value is dropped.
    ///
    /// Waits up to [`BUSY_TIMEOUT`] while another process is attached. The kernel refuses a second
    /// one at a single queue only; `is_busy` tells of several queues.
    pub(crate) fn open(
        name: &str,
        queues: Queues,
        header: Header,
        mut is_busy: impl FnMut() -> io::Result<bool>,
    ) -> io::Result<Self> {
        let deadline = Instant::now() + BUSY_TIMEOUT;
        let device = loop {
            // Before it attaches: that would take packets, header and offloads from who is there.
            let attempt = match queues {
                Queues::Single => open_single_queue(name, header),
                Queues::Multi if is_busy()? => Err(io::Error::from_raw_os_error(libc::EBUSY)),
                Queues::Multi => open_multi_queue(name, header),
            };
            match attempt {
                Err(error)
                    if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
                {
                    thread::sleep(BUSY_INTERVAL);
                }
                attempt => break attempt?,
            }
        };
        device.set_nonblock()?;
        // A persistent device keeps the offloads of the process that was attached before: packets
        // without checksums, some of them larger than the MTU.
        // SAFETY: the descriptor is open as long as `device`, and the argument is a number.
        unsafe { ioctl::tunsetoffload(device.as_raw_fd(), 0) }?;
        Ok(Self {
            device,
            header,
            is_first: true,
        })
    }

    /// Attaches to the device once more, which must be one of [`Queues::Multi`]. The kernel has
    /// packets of one flow in one queue: that by which packets of it were written last, or else the
    /// one that their hash has them in.
    pub(crate) fn another_queue(&self) -> io::Result<Self> {
        let device = open_multi_queue(&self.name()?, self.header)?;
        device.set_nonblock()?;
        Ok(Self {
            device,
            header: self.header,
            is_first: false,
        })
    }

    /// A queue that another process has attached.
    pub(crate) fn of_queue(queue: OwnedFd, name: &str, header: Header) -> io::Result<Self> {
        Ok(Self {
            device: device_of(queue, name)?,
            header,
            is_first: false,
        })
    }

    /// Whether packets have a virtio_net_hdr.
    pub(crate) fn has_header(&self) -> bool {
        self.header == Header::Virtio
    }

    /// The name of the device, with the number that the kernel chose for `%d`.
    pub(crate) fn name(&self) -> io::Result<String> {
        Ok(self.device.tun_name()?)
    }

    /// Sets the highest level of offload that the kernel grants. The device must have a
    /// [`Header::Virtio`].
    pub(crate) fn set_offload(&self) -> Option<OffloadLevel> {
        OFFLOAD_LEVELS.into_iter().find(|level| {
            // SAFETY: the descriptor is open as long as `self`, and the argument is a number.
            unsafe { ioctl::tunsetoffload(self.device.as_raw_fd(), level.flags) }.is_ok()
        })
    }

    /// Sets whether the device stays while no process is attached to it.
    pub(crate) fn set_persistent(&self, persistent: bool) -> io::Result<()> {
        // SAFETY: the descriptor is open as long as `self`, and the argument is a number.
        unsafe { ioctl::tunsetpersist(self.device.as_raw_fd(), persistent.into()) }?;
        Ok(())
    }

    /// Reads one packet with its virtio_net_hdr, which is all zeros where the device has none.
    /// Octets that do not fit in `buffer` are lost. Fails with `WouldBlock` if there is no packet.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.header {
            Header::Virtio => Ok(unistd::read(&*self, buffer)?),
            Header::None => {
                let (header, packet) = buffer.split_at_mut(virtio::HEADER_LEN);
                header.fill(0);
                Ok(header.len() + unistd::read(&*self, packet)?)
            }
        }
    }

    /// Writes one packet with its virtio_net_hdr. For a device that has none it is left out, and
    /// must be all zeros: the packet must be complete.
    pub(crate) fn write(&mut self, packet: &[u8]) -> io::Result<usize> {
        match self.header {
            Header::Virtio => Ok(unistd::write(&*self, packet)?),
            Header::None => Ok(unistd::write(&*self, &packet[virtio::HEADER_LEN..])?),
        }
    }
}

impl Drop for Tun {
    /// Resets the offloads of a persistent device: the next process that attaches to it may not
    /// know how to complete packets.
    fn drop(&mut self) {
        if !self.is_first {
            return;
        }
        // SAFETY: the descriptor is open as long as `self`, and the argument is a number.
        let _ = unsafe { ioctl::tunsetoffload(self.device.as_raw_fd(), 0) };
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the device is open as long as `self`, which outlives the borrow.
        unsafe { BorrowedFd::borrow_raw(self.device.as_raw_fd()) }
    }
}

fn open_single_queue(name: &str, header: Header) -> io::Result<tun::Device> {
    let mut configuration = tun::Configuration::default();
    configuration.tun_name(name);
    configuration.platform_config(|platform| {
        platform.vnet_hdr(header == Header::Virtio);
        platform.ensure_root_privileges(false); // with it, the crate would configure addresses
    });
    Ok(tun::create(&configuration)?)
}

/// Attaches without the `tun` crate, which cannot attach to a multi-queue device by its name, but
/// accepts the attached descriptor.
fn open_multi_queue(name: &str, header: Header) -> io::Result<tun::Device> {
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    let header = match header {
        Header::Virtio => libc::IFF_VNET_HDR,
        Header::None => 0,
    };
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            // TUNSETIFF has 16 bits for flags, and these are in the lower 15.
            ifru_flags: (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE | header) as i16,
        },
    };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    // SAFETY: TUNSETIFF reads an ifreq and writes the device's name back into it; `request` is an
    // ifreq and outlives the call.
    unsafe { ioctl::tunsetiff(file.as_raw_fd(), (&raw mut request).cast_const().cast()) }?;
    // The kernel has replaced a %d by a number.
    let name = request.ifr_name.iter().take_while(|&&octet| octet != 0);
    let name: Vec<_> = name.map(|&octet| octet as u8).collect();
    device_of(file.into(), &String::from_utf8_lossy(&name))
}

/// The device of an attached descriptor.
fn device_of(queue: OwnedFd, name: &str) -> io::Result<tun::Device> {
    let mut configuration = tun::Configuration::default();
    configuration.tun_name(name);
    configuration.raw_fd(queue.into_raw_fd());
    configuration.close_fd_on_drop(true);
    Ok(tun::create(&configuration)?)
}
