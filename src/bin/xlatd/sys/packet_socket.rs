//! Packet sockets (packet(7)): the IPv6 packets of one link that are for one address, by which the
//! kernel's routes, rules and firewalls have no say.

use std::{
    io,
    net::Ipv6Addr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    libc::{
        self, BPF_ABS, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SKF_AD_OFF,
        SKF_AD_PKTTYPE, SKF_NET_OFF, sock_filter,
    },
    setsockopt_impl, sockopt_impl,
    sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket},
    unistd::{read, write},
};
use xlatd::wire::{
    ethernet,
    ipv6::{DESTINATION_AT, HEADER_LEN, NEXT_HEADER_AT},
    ndp, protocol,
};

sockopt_impl!(
    /// `PACKET_VNET_HDR` (packet(7)): a virtio_net_hdr before each packet.
    VirtioHeader,
    SetOnly,
    libc::SOL_PACKET,
    libc::PACKET_VNET_HDR,
    libc::c_int
);

sockopt_impl!(
    /// `PACKET_IGNORE_OUTGOING` (packet(7)).
    IgnoreOutgoing,
    SetOnly,
    libc::SOL_PACKET,
    libc::PACKET_IGNORE_OUTGOING,
    libc::c_int
);

sockopt_impl!(
    /// `SO_ATTACH_FILTER` (socket(7)).
    AttachFilter,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_ATTACH_FILTER,
    libc::sock_fprog
);

sockopt_impl!(
    /// `SO_RCVBUFFORCE` (socket(7)), in octets.
    ReceiveBuffer,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_RCVBUFFORCE,
    libc::c_int
);

sockopt_impl!(
    /// `SO_SNDBUFFORCE` (socket(7)), in octets.
    SendBuffer,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_SNDBUFFORCE,
    libc::c_int
);

/// Memory for packets that wait in a socket, in octets: a hundred super-packets. What waits to be
/// sent is for the queueing discipline of the link to drop, which knows better.
const BUFFER: libc::c_int = 8 << 20;

/// The packets of a link that are for one address, whole: with a virtio_net_hdr and the link-layer
/// header before them.
#[derive(Debug)]
pub(crate) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens a socket for IPv6 packets to `address` that come in by a link, but not for Neighbour
    /// Discovery. Takes CAP_NET_RAW.
    pub(crate) fn open(link: u32, address: Ipv6Addr) -> io::Result<Self> {
        let socket = unbound(SockType::Raw)?;
        setsockopt(&socket, VirtioHeader, &1)?;
        // Without CAP_NET_ADMIN the limits of net.core hold.
        let _ = setsockopt(&socket, ReceiveBuffer, &BUFFER);
        let _ = setsockopt(&socket, SendBuffer, &BUFFER);
        attach(&socket, &traffic_filter(address))?;
        bind(&socket, link)?;
        Ok(Self(socket))
    }

    /// Reads one packet with its headers. Fails with `WouldBlock` if there is none; after other
    /// failures the next packet can be read.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(read(&self.0, buffer)?)
    }

    /// Writes one packet with its headers.
    pub(crate) fn write(&self, packet: &[u8]) -> io::Result<usize> {
        Ok(write(&self.0, packet)?)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Neighbour Solicitations of one address on a link, unicast ones included, which the kernel would
/// not answer.
#[derive(Debug)]
pub(crate) struct Solicitations {
    socket: OwnedFd,
    link: u32,
    /// Octets of a packet; a solicitation is shorter.
    buffer: [u8; 512],
}

impl Solicitations {
    /// Opens a socket for solicitations of `address` on a link. Takes CAP_NET_RAW.
    pub(crate) fn open(link: u32, address: Ipv6Addr) -> io::Result<Self> {
        let socket = unbound(SockType::Datagram)?;
        attach(&socket, &solicitation_filter(address))?;
        bind(&socket, link)?;
        Ok(Self {
            socket,
            link,
            buffer: [0; 512],
        })
    }

    /// The next packet, from its IPv6 header on, and the link-layer address that it came from;
    /// `None` if there is none.
    pub(crate) fn next(&mut self) -> io::Result<Option<(&[u8], LinkLayerAddress)>> {
        let mut from = link_address(self.link);
        let mut from_len = size_of_val(&from) as libc::socklen_t;
        // SAFETY: the kernel writes at most as many octets as `buffer` has, and at most `from_len`
        // octets of `from`, which is what that begins as; all outlive the call.
        let received = unsafe {
            libc::recvfrom(
                self.socket.as_raw_fd(),
                self.buffer.as_mut_ptr().cast(),
                self.buffer.len(),
                0,
                (&raw mut from).cast(),
                &raw mut from_len,
            )
        };
        match usize::try_from(received) {
            Ok(len) => Ok(Some((&self.buffer[..len], LinkLayerAddress(from)))),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Sends an IPv6 packet to a link-layer address.
    pub(crate) fn send(&self, packet: &[u8], to: &LinkLayerAddress) -> io::Result<()> {
        let LinkLayerAddress(to) = to;
        // SAFETY: the kernel reads `packet.len()` octets of `packet`, and an address of the given
        // length; both outlive the call.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const *to).cast(),
                size_of_val(to) as libc::socklen_t,
            )
        };
        match sent {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// A link-layer address as of Ethernet, on this link.
    pub(crate) fn address(&self, mac: [u8; 6]) -> LinkLayerAddress {
        let mut address = link_address(self.link);
        address.sll_halen = 6;
        address.sll_addr[..6].copy_from_slice(&mac);
        LinkLayerAddress(address)
    }
}

impl AsFd for Solicitations {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A link-layer address on a link, of whatever kind.
#[derive(Clone, Copy)]
pub(crate) struct LinkLayerAddress(libc::sockaddr_ll);

/// A socket that receives nothing until it is bound.
fn unbound(kind: SockType) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, kind, flags, None)?;
    setsockopt(&socket, IgnoreOutgoing, &1)?;
    Ok(socket)
}

fn attach(socket: &OwnedFd, filter: &[sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.len() as libc::c_ushort,
        filter: filter.as_ptr().cast_mut(), // the kernel only reads it
    };
    Ok(setsockopt(socket, AttachFilter, &program)?)
}

fn bind(socket: &OwnedFd, link: u32) -> io::Result<()> {
    let address = link_address(link);
    // SAFETY: the address outlives the call, and its length is given.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// IPv6 on a link.
fn link_address(link: u32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: ethernet::IPV6.to_be(),
        sll_ifindex: link as libc::c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

/// The filter for packets to `address` that are for this host by their link-layer address, without
/// Neighbour Discovery.
fn traffic_filter(address: Ipv6Addr) -> Vec<sock_filter> {
    let mut filter = Filter::default();
    filter.load_kind();
    filter.unless_equal_drop(u32::from(libc::PACKET_HOST));
    filter.unless_address_drop(DESTINATION_AT, address);
    filter.load_octet(NEXT_HEADER_AT);
    filter.unless_equal_accept(protocol::ICMPV6.into());
    filter.load_octet(HEADER_LEN);
    // 133 to 137: Router Solicitation to Redirect.
    for kind in ndp::ROUTER_SOLICITATION..=ndp::REDIRECT {
        filter.if_equal_drop(kind.into());
    }
    filter.finish()
}

/// The filter for Neighbour Solicitations of `address`. What else makes them valid is not looked at
/// here.
fn solicitation_filter(address: Ipv6Addr) -> Vec<sock_filter> {
    let mut filter = Filter::default();
    filter.load_kind();
    filter.if_equal_drop(u32::from(libc::PACKET_OTHERHOST));
    filter.load_octet(NEXT_HEADER_AT);
    filter.unless_equal_drop(protocol::ICMPV6.into());
    filter.load_octet(HEADER_LEN);
    filter.unless_equal_drop(ndp::NEIGHBOUR_SOLICITATION.into());
    filter.unless_address_drop(HEADER_LEN + ndp::TARGET_AT, address);
    filter.finish()
}

/// A classic BPF program (Documentation/networking/filter.rst) that accepts what reaches its end.
#[derive(Default)]
struct Filter(Vec<sock_filter>);

impl Filter {
    /// Whom the packet is for by its link-layer address: PACKET_HOST and others.
    fn load_kind(&mut self) {
        let at = (SKF_AD_OFF + SKF_AD_PKTTYPE) as u32;
        self.put(BPF_LD | BPF_B | BPF_ABS, at, [0, 0]);
    }

    /// An octet by its offset from the start of the IPv6 header.
    fn load_octet(&mut self, at: usize) {
        let at = SKF_NET_OFF as u32 + at as u32;
        self.put(BPF_LD | BPF_B | BPF_ABS, at, [0, 0]);
    }

    fn unless_equal_drop(&mut self, value: u32) {
        self.put(BPF_JMP | BPF_JEQ | BPF_K, value, [1, 0]);
        self.verdict(DROP);
    }

    fn if_equal_drop(&mut self, value: u32) {
        self.put(BPF_JMP | BPF_JEQ | BPF_K, value, [0, 1]);
        self.verdict(DROP);
    }

    fn unless_equal_accept(&mut self, value: u32) {
        self.put(BPF_JMP | BPF_JEQ | BPF_K, value, [1, 0]);
        self.verdict(ACCEPT);
    }

    fn unless_address_drop(&mut self, at: usize, address: Ipv6Addr) {
        let octets = address.octets();
        let (words, _) = octets.as_chunks::<4>();
        for (index, word) in words.iter().enumerate() {
            let at = SKF_NET_OFF as u32 + (at + 4 * index) as u32;
            self.put(BPF_LD | BPF_W | BPF_ABS, at, [0, 0]);
            self.unless_equal_drop(u32::from_be_bytes(*word));
        }
    }

    fn finish(mut self) -> Vec<sock_filter> {
        self.verdict(ACCEPT);
        self.0
    }

    fn verdict(&mut self, octets: u32) {
        self.put(BPF_RET | BPF_K, octets, [0, 0]);
    }

    fn put(&mut self, code: u32, k: u32, [jt, jf]: [u8; 2]) {
        let code = code as libc::c_ushort;
        self.0.push(sock_filter { code, jt, jf, k });
    }
}

/// The number of octets to pass on.
const ACCEPT: u32 = u32::MAX;
const DROP: u32 = 0;
