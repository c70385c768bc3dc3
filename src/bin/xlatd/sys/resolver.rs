//! One question to several name servers at once, without waiting (RFC 7050 section 3).

use std::{
    ffi::OsString,
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    time::Instant,
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
        socket::{
            AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket,
            sockopt::BindToDevice,
        },
    },
};
use xlatd::{
    clat::{
        Event, Interface, Servers,
        answers::{Answers, Inquiry, Reading, Transport},
    },
    config::name_servers::{NameServers, Sources},
    wire::dns::Answer,
};

/// Number of datagrams that are read from a server in a turn.
const MAX_DATAGRAMS: usize = 16;

/// What systemd writes about links, below /run/systemd.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkStates {
    /// Whether its links are ours: in another network namespace than systemd's, an index is that of
    /// another link.
    are_ours: bool,
}

impl LinkStates {
    /// Looks whether its network namespace is ours, for which this process must not have given up
    /// privileges yet. One that may not look is a service of systemd.
    pub(crate) fn new() -> Self {
        let namespace = |process| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let of_systemd = namespace("1");
        Self {
            are_ours: of_systemd.is_none() || of_systemd == namespace("self"),
        }
    }

    /// The state of a link in a directory; empty if there is none.
    fn read(self, directory: &str, link: u32) -> String {
        if !self.are_ours {
            return String::new();
        }
        fs::read_to_string(format!("/run/systemd/{directory}/{link}")).unwrap_or_default()
    }
}

/// A question that has been asked.
pub(crate) struct Query {
    /// It is readable when one of the servers has answered, or a connection to it is there: one
    /// input for all of them.
    epoll: Epoll,
    /// Those that have not answered yet.
    asked: Vec<Asked>,
    answers: Answers,
    /// Servers of /etc/resolv.conf that cannot be asked, each with the reason.
    pub(crate) unusable: Vec<String>,
}

/// A server that has been asked.
struct Asked {
    server: SocketAddr,
    /// The device that the query leaves by, unless the routes decide.
    device: Option<OsString>,
    inquiry: Inquiry,
    socket: Socket,
}

/// A socket that is connected to a server, or is about to be.
enum Socket {
    Udp(UdpSocket),
    Tcp {
        stream: TcpStream,
        /// What is not sent yet.
        left: Vec<u8>,
        received: Vec<u8>,
    },
}

impl Query {
    /// Asks name servers by an uplink. `index_of` gives the index of an interface by its name; `id`
    /// is that of the query.
    pub(crate) fn ask(
        uplink: &Interface,
        servers: &Servers,
        link_states: LinkStates,
        index_of: impl Fn(&str) -> Option<u32>,
        id: u16,
        now: Instant,
    ) -> io::Result<Self> {
        let link = uplink.index;
        let states =
            ["netif/links", "resolve/netif"].map(|directory| link_states.read(directory, link));
        let sources = Sources {
            link,
            has_ipv4: uplink.default_v4,
            states: states.each_ref().map(String::as_str),
            resolv_conf: &fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        };
        let servers = NameServers::choose(servers, &sources, index_of);
        let device = servers.own.then(|| OsString::from(&uplink.name));
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let asked = servers.addresses.into_iter().filter_map(|server| {
            // A server on this host is reached by the loopback device only.
            let is_ours = UdpSocket::bind((server.ip(), 0)).is_ok();
            let device = device.clone().filter(|_| !is_ours);
            let inquiry = Inquiry::new(id);
            let socket = Socket::ask(server, device.as_ref(), &inquiry, &epoll).ok()?;
            Some(Asked {
                server,
                device,
                inquiry,
                socket,
            })
        });
        let asked: Vec<_> = asked.collect();
        Ok(Self {
            answers: Answers::new(link, servers.own, asked.len(), now),
            epoll,
            asked,
            unusable: servers.unusable.iter().map(ToString::to_string).collect(),
        })
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.answers.deadline()
    }

    /// Sends and reads what can be without waiting.
    pub(crate) fn go_on(&mut self, now: Instant) {
        let Self {
            epoll,
            asked,
            answers,
            ..
        } = self;
        asked.retain_mut(|one| {
            let reading = one.go_on(epoll).unwrap_or_else(|_| failure());
            match reading {
                Reading::Awaited => return true,
                Reading::AskAgain => {
                    if one.ask_again(epoll).is_ok() {
                        answers.asks_again(now);
                        return true;
                    }
                    answers.put(Answer::Failed);
                }
                Reading::Answered(answer) => answers.put(answer),
            }
            false
        });
    }

    /// The outcome, if there is one by now.
    pub(crate) fn outcome(&self, now: Instant) -> Option<Event> {
        self.answers.outcome(now)
    }
}

impl AsFd for Query {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

/// No server listens at the port, or it has closed the connection.
fn failure() -> Reading {
    Reading::Answered(Answer::Failed)
}

impl Asked {
    fn go_on(&mut self, epoll: &Epoll) -> io::Result<Reading> {
        let mut buffer = [0; 4096];
        match &mut self.socket {
            Socket::Udp(socket) => {
                for _ in 0..MAX_DATAGRAMS {
                    let Some(len) = unless_waiting(|| socket.recv(&mut buffer))? else {
                        break;
                    };
                    match self.inquiry.read(&buffer[..len]) {
                        Reading::Awaited => {}
                        reading => return Ok(reading),
                    }
                }
            }
            Socket::Tcp {
                stream,
                left,
                received,
            } => {
                if !left.is_empty() {
                    let Some(len) = unless_waiting(|| stream.write(left))? else {
                        return Ok(Reading::Awaited);
                    };
                    left.drain(..len);
                    if left.is_empty() {
                        let mut reads = EpollEvent::new(EpollFlags::EPOLLIN, 0);
                        epoll.modify(&*stream, &mut reads)?;
                    }
                }
                // The length of a message, which has 2 octets, limits what is read.
                while let Some(len) = unless_waiting(|| stream.read(&mut buffer))? {
                    received.extend(&buffer[..len]);
                    match self.inquiry.read(received) {
                        Reading::Awaited if len > 0 => {}
                        Reading::Awaited => return Ok(failure()),
                        reading => return Ok(reading),
                    }
                }
            }
        }
        Ok(Reading::Awaited)
    }

    /// Asks once more, by another socket: a forged answer must guess the port again.
    fn ask_again(&mut self, epoll: &Epoll) -> io::Result<()> {
        self.socket = Socket::ask(self.server, self.device.as_ref(), &self.inquiry, epoll)?;
        Ok(())
    }
}

impl Socket {
    fn ask(
        server: SocketAddr,
        device: Option<&OsString>,
        inquiry: &Inquiry,
        epoll: &Epoll,
    ) -> io::Result<Self> {
        let octets = inquiry.octets();
        match inquiry.transport() {
            Transport::Udp => {
                let any: IpAddr = match server {
                    SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let socket = UdpSocket::bind((any, 0))?;
                socket.set_nonblocking(true)?;
                bind_to(&socket, device);
                socket.connect(server)?;
                socket.send(&octets)?;
                epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
                Ok(Self::Udp(socket))
            }
            Transport::Tcp => {
                let stream = begin_to_connect(server, device)?;
                epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLOUT, 0))?;
                Ok(Self::Tcp {
                    stream,
                    left: octets,
                    received: Vec::new(),
                })
            }
        }
    }
}

/// A TCP socket that connects to a server. It is writable once it is connected.
fn begin_to_connect(server: SocketAddr, device: Option<&OsString>) -> io::Result<TcpStream> {
    let family = match server {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let stream = TcpStream::from(socket(family, SockType::Stream, flags, None)?);
    bind_to(&stream, device);
    match connect(stream.as_raw_fd(), &SockaddrStorage::from(server)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(stream),
        Err(errno) => Err(errno.into()),
    }
}

/// Has the packets of a socket leave by a device, whatever the routes are.
fn bind_to(socket: &impl AsFd, device: Option<&OsString>) {
    if let Some(device) = device {
        // Without the privilege the routes decide.
        let _ = setsockopt(socket, BindToDevice, device);
    }
}

/// The result of a call on a socket; `None` if it would have to wait.
fn unless_waiting<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<Option<T>> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            result => return result.map(Some),
        }
    }
}
