//! Neighbour Discovery, over a raw ICMPv6 socket (icmp6(4), RFC 3542).

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc, setsockopt_impl, sockopt_impl,
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol,
        SockType, SockaddrIn6, recvmsg, sendmsg, sendto, setsockopt, socket,
        sockopt::{Ipv6MulticastHops, Ipv6RecvHopLimit, Ipv6RecvPacketInfo, Ipv6Ttl},
    },
};
use xlatd::{clat::neighbour::Received, wire::ndp};

/// Of linux/icmpv6.h.
const ICMPV6_FILTER: libc::c_int = 1;

sockopt_impl!(
    /// `ICMP6_FILTER`: a bit for each type that is not wanted (RFC 3542 section 3.2).
    Icmpv6Filter,
    SetOnly,
    libc::IPPROTO_ICMPV6,
    ICMPV6_FILTER,
    [u32; 8]
);

sockopt_impl!(
    /// `IPV6_ADD_MEMBERSHIP` (ipv6(7)), with a device.
    AddMembership,
    SetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_ADD_MEMBERSHIP,
    libc::ipv6_mreq
);

sockopt_impl!(
    /// `IPV6_DROP_MEMBERSHIP` (ipv6(7)).
    DropMembership,
    SetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_DROP_MEMBERSHIP,
    libc::ipv6_mreq
);

/// All routers of a link (RFC 4291 section 2.7.1).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// The hop limit of messages to neighbours (RFC 4861 section 4).
const HOP_LIMIT: i32 = 255;

/// The socket.
pub(crate) struct Ndisc {
    socket: OwnedFd,
    buffer: Box<[u8]>,
    /// The interface and the address whose solicited-node group is joined.
    solicited_node: Option<(u32, Ipv6Addr)>,
    /// Identifier of probes, which tells their answers from those to others.
    identifier: u16,
    receives_probe_answers: bool,
}

impl Ndisc {
    /// Opens the socket, which takes CAP_NET_RAW. Probes bear `identifier`.
    pub(crate) fn new(identifier: u16) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Inet6,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::IcmpV6,
        )?;
        setsockopt(&socket, Ipv6RecvHopLimit, &true)?;
        setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
        setsockopt(&socket, Ipv6MulticastHops, &HOP_LIMIT)?;
        setsockopt(&socket, Ipv6Ttl, &HOP_LIMIT)?;
        let ndisc = Self {
            socket,
            buffer: vec![0; 1 << 16].into_boxed_slice(),
            solicited_node: None,
            identifier,
            receives_probe_answers: false,
        };
        ndisc.filter()?;
        Ok(ndisc)
    }

    /// Has the kernel drop messages that are not waited for.
    fn filter(&self) -> io::Result<()> {
        let mut unwanted = [u32::MAX; 8];
        let mut wants = |kind: u8| unwanted[usize::from(kind / 32)] &= !(1 << (kind % 32));
        wants(ndp::ROUTER_ADVERTISEMENT);
        if self.receives_probe_answers {
            wants(ndp::ECHO_REPLY);
            wants(ndp::TIME_EXCEEDED);
        }
        setsockopt(&self.socket, Icmpv6Filter, &unwanted)?;
        Ok(())
    }

    /// Begins to receive answers to probes, or ends it.
    pub(crate) fn receive_probe_answers(&mut self, awaits: bool) -> io::Result<()> {
        if std::mem::replace(&mut self.receives_probe_answers, awaits) == awaits {
            return Ok(());
        }
        self.filter()
    }

    /// Joins the group in which this address is solicited on this interface, and no other one: a
    /// switch may pass on what is for a group to its members only (RFC 4541 section 3).
    pub(crate) fn join_solicited_node(
        &mut self,
        address: Option<(u32, Ipv6Addr)>,
    ) -> io::Result<()> {
        let before = std::mem::replace(&mut self.solicited_node, address);
        if before == address {
            return Ok(());
        }
        let group = |(link, address): (u32, Ipv6Addr)| libc::ipv6_mreq {
            ipv6mr_multiaddr: libc::in6_addr {
                s6_addr: ndp::solicited_node(address).octets(),
            },
            ipv6mr_interface: link,
        };
        if let Some(before) = before {
            // The membership is gone with the interface.
            let _ = setsockopt(&self.socket, DropMembership, &group(before));
        }
        if let Some(address) = address {
            setsockopt(&self.socket, AddMembership, &group(address))?;
        }
        Ok(())
    }

    /// The next message; `None` if there is none.
    pub(crate) fn next(&mut self) -> io::Result<Option<Received<'_>>> {
        let mut control = nix::cmsg_space!(libc::in6_pktinfo, libc::c_int);
        loop {
            let mut buffer = [IoSliceMut::new(&mut self.buffer)];
            let received = recvmsg::<SockaddrIn6>(
                self.socket.as_raw_fd(),
                &mut buffer,
                Some(&mut control),
                MsgFlags::empty(),
            );
            let received = match received {
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                received => received?,
            };
            let (mut link, mut destination, mut hop_limit) = (0, Ipv6Addr::UNSPECIFIED, 0);
            for message in received.cmsgs()? {
                match message {
                    ControlMessageOwned::Ipv6PacketInfo(info) => {
                        link = info.ipi6_ifindex;
                        destination = info.ipi6_addr.s6_addr.into();
                    }
                    ControlMessageOwned::Ipv6HopLimit(limit) => {
                        hop_limit = u8::try_from(limit).unwrap_or(0);
                    }
                    _ => {}
                }
            }
            let Some(source) = received.address.map(|address| address.ip()) else {
                continue;
            };
            let len = received.bytes;
            return Ok(Some(Received {
                link,
                source,
                destination,
                hop_limit,
                octets: &self.buffer[..len],
            }));
        }
    }

    /// Solicits the routers of a link.
    pub(crate) fn solicit(&self, link: u32, mac: Option<[u8; 6]>) -> io::Result<()> {
        self.send(link, ALL_ROUTERS, &ndp::router_solicitation(mac))
    }

    /// Sends a probe, which the first router answers with Time Exceeded.
    pub(crate) fn probe(&self, link: u32, from: Ipv6Addr, to: Ipv6Addr) -> io::Result<()> {
        let source = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr {
                s6_addr: from.octets(),
            },
            ipi6_ifindex: link,
        };
        let control = [
            ControlMessage::Ipv6PacketInfo(&source),
            ControlMessage::Ipv6HopLimit(&1),
        ];
        let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
        let message = ndp::probe(self.identifier);
        let message = [IoSlice::new(&message)];
        let socket = self.socket.as_raw_fd();
        sendmsg(socket, &message, &control, MsgFlags::empty(), Some(&to))?;
        Ok(())
    }

    fn send(&self, link: u32, to: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, link));
        sendto(self.socket.as_raw_fd(), message, &to, MsgFlags::empty())?;
        Ok(())
    }
}

impl AsFd for Ndisc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
