//! Traffic of many hosts.

use std::{
    io::IoSlice,
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::AsRawFd,
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, SockaddrIn6, sendmmsg,
    socket,
};

use crate::{
    lab::{Lab, SERVER, SERVER_BY_PREFIX},
    load::{BURST, arriving, bind},
    maps::{Maps, shuffled},
    packet,
};

/// UDP with 64 octets from many hosts, one datagram of each after the other: thousands a second
/// that arrive.
pub(crate) fn from_many_hosts(lab: &Lab, maps: Maps, duration: Duration) -> f64 {
    const LEN: usize = 64;
    let receiver = bind(&lab.server, SERVER);
    let port = receiver.local_addr().unwrap().port();
    let server: Ipv6Addr = SERVER_BY_PREFIX.parse().unwrap();
    let packets: Vec<_> = shuffled()
        .map(|host| {
            let source = maps.host(host).1.to_string();
            let udp = packet::udp(&source, SERVER_BY_PREFIX, [4000, port], &[0x55; LEN]);
            packet::Ipv6::new(&source, SERVER_BY_PREFIX, packet::UDP, udp).octets()
        })
        .collect();
    let to = SockaddrIn6::from(SocketAddrV6::new(server, 0, 0, 0));
    let sender = lab.client.inside(|| {
        let (family, kind) = (AddressFamily::Inet6, SockType::Raw);
        socket(family, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap()
    });
    let mut headers = MultiHeaders::<SockaddrIn6>::preallocate(BURST, None);
    let mut bursts = packets.chunks_exact(BURST).cycle();
    let arrived = arriving(&receiver, LEN, duration, || {
        let burst = bursts.next().unwrap();
        let burst: [_; BURST] = std::array::from_fn(|at| [IoSlice::new(&burst[at])]);
        let (fd, flags) = (sender.as_raw_fd(), MsgFlags::empty());
        let _ = sendmmsg(fd, &mut headers, &burst, [Some(to); BURST], [], flags);
        BURST
    });
    arrived.kpps
}
