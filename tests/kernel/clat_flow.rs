//! What a program does over IPv4 by a CLAT, of which all must go on: a connection that is open, a
//! new one, datagrams with and without fragments, and ping.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use nix::sys::{
    socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket,
        sockopt::{BindToDevice, Mark, SendTimeout},
    },
    time::TimeVal,
};

use crate::{
    clat::{ClatNet, SERVER},
    forward::{exchange, listen},
    harness::{DEADLINE, Netns, uninterrupted, wait_for},
    packet::pattern,
    socket::{Fragmentation, udp_socket},
};

/// The router, as the server sees it: who comes by the NAT64 has its address.
pub(crate) const ROUTER: &str = "198.51.100.1";
/// So much is sent in each direction of a connection, in octets: enough for super-packets.
const DATA: usize = 1 << 18;

/// What a program asks of the kernel for its sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sockets {
    /// Nothing.
    Plain,
    /// A mark on each packet (`SO_MARK`), as VPNs have it for their own.
    Marked(u32),
    /// That they use this device (`SO_BINDTODEVICE`).
    By(&'static str),
}

impl Sockets {
    fn prepare(self, socket: &impl AsFd) {
        match self {
            Self::Plain => {}
            Self::Marked(mark) => setsockopt(socket, Mark, &mark).unwrap(),
            Self::By(device) => setsockopt(socket, BindToDevice, &device.into()).unwrap(),
        }
    }

    fn ping_option(self) -> String {
        match self {
            Self::Plain => String::new(),
            Self::Marked(mark) => format!("-m {mark}"),
            Self::By(device) => format!("-I {device}"),
        }
    }
}

/// A program on the host, which has a connection to the server open.
#[derive(Debug)]
pub(crate) struct Flow<'a> {
    net: &'a ClatNet,
    sockets: Sockets,
    listener: TcpListener,
    open: [TcpStream; 2],
}

impl<'a> Flow<'a> {
    pub(crate) fn open(net: &'a ClatNet, sockets: Sockets) -> Self {
        let listener = listen(&net.server, SERVER);
        let open = connect_from(&net.host, sockets, &listener);
        let flow = Self {
            net,
            sockets,
            listener,
            open,
        };
        flow.open_one_goes_on();
        flow
    }

    /// All of it works, and comes to the server from this address.
    pub(crate) fn goes_on_from(&self, address: &str) {
        self.new_ones_come_from(address);
        self.open_one_goes_on();
    }

    /// All of it works by the router.
    pub(crate) fn goes_on(&self) {
        self.goes_on_from(ROUTER);
    }

    pub(crate) fn open_one_goes_on(&self) {
        exchange(&self.open, DATA);
    }

    /// What begins now works, and comes to the server from this address.
    pub(crate) fn new_ones_come_from(&self, address: &str) {
        self.pings();
        let address: Ipv4Addr = address.parse().unwrap();
        let connection = connect_from(&self.net.host, self.sockets, &self.listener);
        let from = connection[1].peer_addr().unwrap();
        assert_eq!(from.ip(), address, "{:?}", self.sockets);
        exchange(&connection, DATA);
        for size in [100, 3000] {
            let from = self.datagrams(size);
            assert_eq!(from.ip(), address, "{:?}", self.sockets);
        }
    }

    fn pings(&self) {
        let option = self.sockets.ping_option();
        let ping = format!("ping -n -c 1 -W 0.3 {option} {SERVER}");
        wait_for(&ping, || {
            let output = self.net.host.output(&ping);
            output.status.success().then_some(())
        });
    }

    /// A datagram of this size in each direction, and whom the server had it from.
    fn datagrams(&self, size: usize) -> SocketAddr {
        let data = pattern(size);
        let [here, there] = [(&self.net.host, "0.0.0.0"), (&self.net.server, SERVER)]
            .map(|(ns, address)| udp_socket(ns, address, 0, Fragmentation::Allowed));
        self.sockets.prepare(&here);
        for socket in [&here, &there] {
            let timeout = Duration::from_millis(300);
            socket.set_read_timeout(Some(timeout)).unwrap();
        }
        let mut buffer = vec![0; size + 1];
        wait_for("datagrams in both directions", || {
            here.send_to(&data, there.local_addr().unwrap()).ok()?;
            let (len, from) = uninterrupted(|| there.recv_from(&mut buffer)).ok()?;
            assert!(buffer[..len] == data, "it has changed on its way");
            there.send_to(&data, from).unwrap();
            let len = uninterrupted(|| here.recv(&mut buffer)).ok()?;
            assert!(buffer[..len] == data, "it has changed on its way back");
            Some(from)
        })
    }
}

/// A connection from the host to the listener, and the listener's end of it.
fn connect_from(ns: &Netns, sockets: Sockets, listener: &TcpListener) -> [TcpStream; 2] {
    let SocketAddr::V4(to) = listener.local_addr().unwrap() else {
        panic!("{listener:?}");
    };
    let socket = new_socket(ns);
    sockets.prepare(&socket);
    // It is the limit of connect(2), too (socket(7)).
    let deadline = TimeVal::new(DEADLINE.as_secs().cast_signed(), 0);
    setsockopt(&socket, SendTimeout, &deadline).unwrap();
    let connected = connect(socket.as_raw_fd(), &SockaddrIn::from(to));
    connected.unwrap_or_else(|error| panic!("{to} by {sockets:?}: {error}"));
    let connected = TcpStream::from(socket);
    // A handshake of which the last packet is lost does not hang here.
    listener.set_nonblocking(true).unwrap();
    let (accepted, _) = wait_for("the connection to be accepted", || listener.accept().ok());
    accepted.set_nonblocking(false).unwrap();
    for stream in [&connected, &accepted] {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
    }
    [connected, accepted]
}

fn new_socket(ns: &Netns) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    ns.inside(|| socket(AddressFamily::Inet, SockType::Stream, flags, None))
        .unwrap()
}
