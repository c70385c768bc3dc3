//! Neighbour Discovery, over a raw ICMPv6 socket (icmp6(4), RFC 3542).

use std::{
    io::{self, IoSliceMut},
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc, setsockopt_impl, sockopt_impl,
    sys::socket::{
        AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType,
        SockaddrIn6, recvmsg, sendto, setsockopt, socket,
        sockopt::{Ipv6MulticastHops, Ipv6RecvHopLimit, Ipv6RecvPacketInfo},
    },
};
use xlatd::wire::ndp;

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

/// All routers of a link (RFC 4291 section 2.7.1).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// What comes from farther away has less (RFC 4861 section 6.1.2).
const HOP_LIMIT: i32 = 255;

/// The socket.
pub(crate) struct Ndisc {
    socket: OwnedFd,
    buffer: Box<[u8]>,
}

/// A message of a neighbour.
pub(crate) struct Message<'b> {
    /// The device that it came by.
    pub(crate) link: u32,
    pub(crate) source: Ipv6Addr,
    /// From its type on.
    pub(crate) octets: &'b [u8],
}

impl Ndisc {
    /// Needs CAP_NET_RAW.
    pub(crate) fn new() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Inet6,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::IcmpV6,
        )?;
        let mut unwanted = [u32::MAX; 8];
        let kind = ndp::ROUTER_ADVERTISEMENT;
        unwanted[usize::from(kind / 32)] &= !(1 << (kind % 32));
        setsockopt(&socket, Icmpv6Filter, &unwanted)?;
        setsockopt(&socket, Ipv6RecvHopLimit, &true)?;
        setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
        setsockopt(&socket, Ipv6MulticastHops, &HOP_LIMIT)?;
        Ok(Self {
            socket,
            buffer: vec![0; 1 << 16].into_boxed_slice(),
        })
    }

    /// The next message of a neighbour; `None` if there is none. Others are left out.
    pub(crate) fn next(&mut self) -> io::Result<Option<Message<'_>>> {
        let mut control = nix::cmsg_space!(libc::in6_pktinfo, libc::c_int);
        let (len, link, source) = loop {
            let mut space = [IoSliceMut::new(&mut self.buffer)];
            let received = recvmsg::<SockaddrIn6>(
                self.socket.as_raw_fd(),
                &mut space,
                Some(&mut control),
                MsgFlags::empty(),
            );
            let received = match received {
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                received => received?,
            };
            let (mut link, mut hop_limit) = (0_u32, 0);
            for message in received.cmsgs()? {
                match message {
                    ControlMessageOwned::Ipv6PacketInfo(info) => link = info.ipi6_ifindex,
                    ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = limit,
                    _ => {}
                }
            }
            let source = received.address.map(|address| address.ip());
            if let Some(source) = source
                && hop_limit == HOP_LIMIT
                && source.is_unicast_link_local()
            {
                break (received.bytes, link, source);
            }
        };
        Ok(Some(Message {
            link,
            source,
            octets: &self.buffer[..len],
        }))
    }

    /// Asks the routers of a link to advertise.
    pub(crate) fn solicit(&self, link: u32, mac: Option<[u8; 6]>) -> io::Result<()> {
        let to = SockaddrIn6::from(SocketAddrV6::new(ALL_ROUTERS, 0, 0, link));
        let message = ndp::router_solicitation(mac);
        sendto(self.socket.as_raw_fd(), &message, &to, MsgFlags::empty())?;
        Ok(())
    }
}

impl AsFd for Ndisc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
