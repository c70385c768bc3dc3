//! Sockets that std does not have: raw ones, all that arrives on a host, and path MTU discovery.

use std::{
    fmt::Debug,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    getsockopt_impl, libc, setsockopt_impl, sockopt_impl,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recv,
        sendto, setsockopt, socket, sockopt::RcvBuf,
    },
};

use crate::{
    harness::{DEADLINE, Netns, wait_for},
    packet::{Ipv4, Ipv6},
};

sockopt_impl!(
    /// `IP_MTU_DISCOVER`
    Ipv4MtuDiscover,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int
);
sockopt_impl!(
    /// `IPV6_MTU_DISCOVER`
    Ipv6MtuDiscover,
    SetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU_DISCOVER,
    libc::c_int
);
sockopt_impl!(
    /// `IP_MTU`, in octets
    Ipv4Mtu,
    GetOnly,
    libc::IPPROTO_IP,
    libc::IP_MTU,
    libc::c_int
);
sockopt_impl!(
    /// `IPV6_MTU`, in octets
    Ipv6Mtu,
    GetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU,
    libc::c_int
);

/// Who may fragment what a socket sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fragmentation {
    /// Everybody: DF is clear, and IPv6 packets leave in fragments where they are too large.
    Allowed,
    /// Nobody: DF is set, and what is too large is refused with `EMSGSIZE`.
    Forbidden,
}

/// A UDP socket on the host, bound to the port (0: any).
pub(crate) fn udp_socket(
    ns: &Netns,
    address: &str,
    port: u16,
    fragmentation: Fragmentation,
) -> UdpSocket {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    let socket = ns.inside(|| UdpSocket::bind(address)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    // The constants are the same for both families.
    let mode = match fragmentation {
        Fragmentation::Allowed => libc::IP_PMTUDISC_DONT,
        Fragmentation::Forbidden => libc::IP_PMTUDISC_DO,
    };
    match address {
        SocketAddr::V4(_) => setsockopt(&socket, Ipv4MtuDiscover, &mode),
        SocketAddr::V6(_) => setsockopt(&socket, Ipv6MtuDiscover, &mode),
    }
    .unwrap();
    socket
}

/// Sends one IPv4 packet as it is, except that the kernel fills in length and header checksum.
pub(crate) fn send4(ns: &Netns, packet: &Ipv4) {
    let to = SockaddrIn::from(SocketAddrV4::new(packet.destination, 0));
    let socket = ns.inside(|| raw(AddressFamily::Inet, SockType::Raw, SockProtocol::Raw));
    let sent = sendto(socket.as_raw_fd(), &packet.octets(), &to, MsgFlags::empty());
    sent.unwrap_or_else(|error| panic!("{packet:?}: {error}"));
}

/// Sends one IPv6 packet as it is.
pub(crate) fn send6(ns: &Netns, packet: &Ipv6) {
    let to = SockaddrIn6::from(SocketAddrV6::new(packet.destination, 0, 0, 0));
    let socket = ns.inside(|| raw(AddressFamily::Inet6, SockType::Raw, SockProtocol::Raw));
    let sent = sendto(socket.as_raw_fd(), &packet.octets(), &to, MsgFlags::empty());
    sent.unwrap_or_else(|error| panic!("{packet:?}: {error}"));
}

/// Sends the same IPv6 packet from many hosts: their addresses follow that of the packet.
pub(crate) fn flood6(ns: &Netns, packet: &Ipv6, hosts: u32) {
    let to = SockaddrIn6::from(SocketAddrV6::new(packet.destination, 0, 0, 0));
    let socket = ns.inside(|| raw(AddressFamily::Inet6, SockType::Raw, SockProtocol::Raw));
    let mut octets = packet.octets();
    for host in 0..hosts {
        let source = packet.source.to_bits() + u128::from(host);
        octets[8..24].copy_from_slice(&source.to_be_bytes());
        let sent = sendto(socket.as_raw_fd(), &octets, &to, MsgFlags::empty());
        sent.unwrap_or_else(|error| panic!("{packet:?}: {error}"));
    }
}

/// Every packet that arrives on or leaves a host, from now on.
#[derive(Debug)]
pub(crate) struct Capture(OwnedFd);

impl Capture {
    pub(crate) fn start(ns: &Netns) -> Self {
        // A datagram packet socket leaves out the link's header; not bound, it hears every device.
        let socket = ns.inside(|| {
            raw(
                AddressFamily::Packet,
                SockType::Datagram,
                SockProtocol::EthAll,
            )
        });
        setsockopt(&socket, RcvBuf, &(4 << 20)).unwrap();
        Self(socket)
    }

    /// The next IPv4 packet that `select` picks; all that come before it are skipped.
    pub(crate) fn ipv4(&self, what: &str, select: impl Fn(&Ipv4) -> bool) -> Ipv4 {
        wait_for(what, || {
            self.next(|octets| Ipv4::parse(octets).filter(&select))
        })
    }

    /// The next IPv6 packet that `select` picks; all that come before it are skipped.
    pub(crate) fn ipv6(&self, what: &str, select: impl Fn(&Ipv6) -> bool) -> Ipv6 {
        wait_for(what, || {
            self.next(|octets| Ipv6::parse(octets).filter(&select))
        })
    }

    /// The next packet that `parse` takes, if one is here.
    pub(crate) fn next<P>(&self, parse: impl Fn(&[u8]) -> Option<P>) -> Option<P> {
        let mut buffer = vec![0; 65536];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => {
                    if let Some(packet) = parse(&buffer[..len]) {
                        return Some(packet);
                    }
                }
                Err(Errno::EAGAIN) => return None,
                Err(error) => panic!("packet socket: {error}"),
            }
        }
    }
}

fn raw(family: AddressFamily, kind: SockType, protocol: SockProtocol) -> OwnedFd {
    socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol).unwrap()
}
