//! Frames of many flows by a packet socket, so that the sender is not the limit: no routing,
//! queueing discipline or socket of a flow is in their way.

use std::{
    io::IoSlice,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    ifaddrs::getifaddrs,
    libc, setsockopt_impl, sockopt_impl,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, bind, sendmmsg,
        setsockopt, socket,
    },
};

use crate::harness::Netns;

sockopt_impl!(
    /// `PACKET_QDISC_BYPASS`: frames go to the driver at once.
    QdiscBypass,
    SetOnly,
    libc::SOL_PACKET,
    libc::PACKET_QDISC_BYPASS,
    libc::c_int
);

/// So many frames are given to the kernel by one call.
const BATCH: usize = 50;
/// EtherType of IPv6.
const IPV6: [u8; 2] = [0x86, 0xdd];

/// A sender of frames of one length, one after the other, again and again.
pub(crate) struct Generator {
    socket: OwnedFd,
    /// All of them.
    frames: Vec<u8>,
    frame_len: usize,
    /// Where the next ones start, in octets.
    next: usize,
    headers: MultiHeaders<()>,
}

/// An end of a link: a device in a namespace.
pub(crate) type Port<'a> = (&'a Netns, &'a str);

impl Generator {
    /// Sends IPv6 packets, all of one length, from one end of a link to the other. Their number is
    /// a multiple of [`BATCH`], so that each is sent as often as any other.
    pub(crate) fn new(
        from: Port<'_>,
        to: Port<'_>,
        packets: impl Iterator<Item = Vec<u8>>,
    ) -> Self {
        let (source, destination) = (link_address(from), link_address(to));
        let mut frames = Vec::new();
        let mut frame_len = 0;
        for packet in packets {
            let before = frames.len();
            for part in [destination.addr().unwrap(), source.addr().unwrap()] {
                frames.extend(part);
            }
            frames.extend(IPV6);
            frames.extend(packet);
            frame_len = frames.len() - before;
        }
        assert_eq!(frames.len() % (BATCH * frame_len), 0);
        let socket = from.0.inside(|| {
            let flags = SockFlag::SOCK_CLOEXEC;
            // Without a protocol it receives nothing.
            socket(AddressFamily::Packet, SockType::Raw, flags, None).unwrap()
        });
        setsockopt(&socket, QdiscBypass, &1).unwrap();
        bind(socket.as_raw_fd(), &source).unwrap();
        Self {
            socket,
            frames,
            frame_len,
            next: 0,
            headers: MultiHeaders::preallocate(BATCH, None),
        }
    }

    /// Sends the next frames, and returns how many it sent.
    pub(crate) fn send(&mut self) -> usize {
        let frames = &self.frames[self.next..][..BATCH * self.frame_len];
        let batch: [_; BATCH] = std::array::from_fn(|at| {
            let frame = &frames[at * self.frame_len..][..self.frame_len];
            [IoSlice::new(frame)]
        });
        self.next = (self.next + frames.len()) % self.frames.len();
        let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::empty());
        let sent = sendmmsg(fd, &mut self.headers, &batch, [None; BATCH], [], flags);
        sent.map_or(0, Iterator::count) // a full queue is no reason to stop
    }
}

/// The link-layer address of a device, with its index.
fn link_address((ns, device): Port<'_>) -> LinkAddr {
    let mut addresses = ns.inside(getifaddrs).unwrap();
    let address = addresses.find_map(|interface| {
        let address = interface.address?;
        (interface.interface_name == device).then(|| address.as_link_addr().copied())?
    });
    address.unwrap_or_else(|| panic!("{device} has no link-layer address"))
}
