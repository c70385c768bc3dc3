//! The TUN device (Documentation/networking/tuntap.rst).

use std::{
    ffi::c_char,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd},
    thread,
    time::{Duration, Instant},
};

use nix::libc;
use tun::AbstractDevice;
use xlatd::wire::virtio;

mod ioctl {
    #![allow(missing_docs, reason = "named as in linux/if_tun.h")]
    use nix::libc::c_int;

    nix::ioctl_write_ptr!(tunsetiff, b'T', 202, c_int);
    nix::ioctl_write_int!(tunsetpersist, b'T', 203);
    nix::ioctl_write_int!(tunsetoffload, b'T', 208);
}

/// A device with one queue has one user at a time, and its last one may take tens of milliseconds to be gone after its
/// process is: that long an attempt is repeated, and this often.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
const BUSY_INTERVAL: Duration = Duration::from_millis(20);

// What the kernel may leave to us, as TUNSETOFFLOAD has it (linux/if_tun.h).
const CHECKSUM: u64 = 0x01;
const TSO4: u64 = 0x02;
const TSO6: u64 = 0x04;
const TSO_ECN: u64 = 0x08;
const USO4: u64 = 0x20; // since Linux 6.2
const USO6: u64 = 0x40;

/// What the kernel leaves to us, and takes from us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offload {
    flags: u64,
    /// For messages.
    pub(crate) name: &'static str,
    /// Whether UDP datagrams may come and go as super-packets, as TCP segments do.
    pub(crate) udp: bool,
}

/// The best first.
const OFFLOADS: [Offload; 4] = [
    Offload {
        flags: CHECKSUM | TSO4 | TSO6 | TSO_ECN | USO4 | USO6,
        name: "checksums, TCP and UDP segmentation",
        udp: true,
    },
    Offload {
        flags: CHECKSUM | TSO4 | TSO6 | TSO_ECN,
        name: "checksums and TCP segmentation",
        udp: false,
    },
    Offload {
        flags: CHECKSUM | TSO4 | TSO6,
        name: "checksums and TCP segmentation without ECN",
        udp: false,
    },
    Offload {
        flags: CHECKSUM,
        name: "checksums",
        udp: false,
    },
];

/// An attached TUN device: each read and each write is one IP packet.
pub(crate) struct Tun {
    device: tun::Device,
    /// Whether a virtio_net_hdr is before each packet.
    has_header: bool,
}

impl Tun {
    /// Attaches to the device of this name, which comes into being if it does not exist; it then goes with this value.
    /// `multi_queue` says how an existing one was made: the kernel refuses to attach to it otherwise.
    ///
    /// With `offload`, what the kernel has left to do with a packet stands before it; [`set_offload`](Self::set_offload) says
    /// what it may leave.
    ///
    /// Waits for up to two seconds while somebody else is attached.
    pub(crate) fn open(name: &str, multi_queue: bool, offload: bool) -> io::Result<Self> {
        let deadline = Instant::now() + BUSY_TIMEOUT;
        let device = loop {
            let attempt = if multi_queue {
                open_multi_queue(name, offload)
            } else {
                open_single_queue(name, offload)
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
        // A device that stays keeps the offloads that its last user asked for: packets without checksums, and some that are
        // larger than the MTU.
        // SAFETY: the descriptor is open as long as `device`, and the argument is a number.
        unsafe { ioctl::tunsetoffload(device.as_raw_fd(), 0) }?;
        Ok(Self {
            device,
            has_header: offload,
        })
    }

    /// The name that the device has got: the kernel chooses the number where a name has `%d`.
    pub(crate) fn name(&self) -> io::Result<String> {
        Ok(self.device.tun_name()?)
    }

    /// Takes as much work off the kernel as it gives away, and says what that is.
    pub(crate) fn set_offload(&self) -> Option<Offload> {
        OFFLOADS.into_iter().find(|offload| {
            // SAFETY: the descriptor is open as long as `self`, and the argument is a number.
            unsafe { ioctl::tunsetoffload(self.device.as_raw_fd(), offload.flags) }.is_ok()
        })
    }

    /// Whether the device stays when nobody is attached to it.
    pub(crate) fn set_persistent(&self, persistent: bool) -> io::Result<()> {
        // SAFETY: the descriptor is open as long as `self`, and the argument is a number.
        unsafe { ioctl::tunsetpersist(self.device.as_raw_fd(), persistent.into()) }?;
        Ok(())
    }

    /// Reads one packet with its header, which says nothing where the device has none; what does not fit is lost.
    /// `WouldBlock` if there is none.
    pub(crate) fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if self.has_header {
            return self.device.read(space);
        }
        let (header, space) = space.split_at_mut(virtio::HEADER_LEN);
        header.fill(0);
        Ok(header.len() + self.device.read(space)?)
    }

    /// Writes one packet with its header, of which the kernel is to do what the header says. A device without one is given
    /// no packets of which something is left to do.
    pub(crate) fn write(&mut self, packet: &[u8]) -> io::Result<usize> {
        let skipped = if self.has_header {
            0
        } else {
            virtio::HEADER_LEN
        };
        self.device.write(&packet[skipped..])
    }
}

impl Drop for Tun {
    /// A device that stays is used by somebody who may not know what to do with half-finished packets.
    fn drop(&mut self) {
        // SAFETY: the descriptor is open as long as `self`, and the argument is a number.
        let _ = unsafe { ioctl::tunsetoffload(self.device.as_raw_fd(), 0) };
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the device is open as long as `self`, and so as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.device.as_raw_fd()) }
    }
}

fn open_single_queue(name: &str, offload: bool) -> io::Result<tun::Device> {
    let mut configuration = tun::Configuration::default();
    configuration.tun_name(name);
    configuration.platform_config(|platform| {
        platform.vnet_hdr(offload);
        platform.ensure_root_privileges(false); // it would set addresses, of which there are none here
    });
    Ok(tun::create(&configuration)?)
}

/// The crate cannot attach to such a device, but takes a descriptor that is attached.
fn open_multi_queue(name: &str, offload: bool) -> io::Result<tun::Device> {
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    let header = if offload { libc::IFF_VNET_HDR } else { 0 };
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            // The flags of TUNSETIFF have 16 bits, and these are among the lower 15.
            ifru_flags: (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE | header) as i16,
        },
    };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    // SAFETY: TUNSETIFF reads an ifreq and writes the device's name back into it; `request` is one, and lives longer.
    unsafe { ioctl::tunsetiff(file.as_raw_fd(), (&raw mut request).cast_const().cast()) }?;

    let mut configuration = tun::Configuration::default();
    configuration.tun_name(name);
    configuration.raw_fd(file.into_raw_fd());
    configuration.close_fd_on_drop(true);
    Ok(tun::create(&configuration)?)
}
