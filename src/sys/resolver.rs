//! One question to several name servers at once, without waiting (RFC 7050 section 3).

use std::{
    ffi::OsString,
    fs,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt::BindToDevice};
use xlatd::wire::dns::{self, Answer};

/// How long servers may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// So many are asked.
pub(crate) const MOST: usize = 3;
const PORT: u16 = 53;

/// A question that has been asked.
pub(crate) struct Query {
    /// The device by which it was asked.
    pub(crate) link: u32,
    /// One for each server that could be asked.
    sockets: Vec<UdpSocket>,
    id: u16,
    pub(crate) deadline: Instant,
}

impl Query {
    /// Asks the servers, or those of /etc/resolv.conf if there are none. No server may be reached: then the answer is that of
    /// the deadline.
    pub(crate) fn ask(link: u32, name: &str, servers: &[IpAddr], now: Instant) -> Self {
        let id = RandomState::new().hash_one(now) as u16; // RandomState has keys that nobody outside can guess
        let system;
        let (servers, device) = if servers.is_empty() {
            system = system_servers();
            (&*system, None)
        } else {
            (servers, Some(name))
        };
        let servers = servers.iter().take(MOST);
        let sockets = servers.filter_map(|&server| ask(server, link, device, id).ok());
        Self {
            link,
            sockets: sockets.collect(),
            id,
            deadline: now + TIMEOUT,
        }
    }

    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd)
    }

    /// The best answer that there is by now: addresses, or that there are none. A server that fails is not asked again.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        let id = self.id;
        let mut best = None;
        self.sockets.retain(|socket| {
            let mut buffer = [0; 4096];
            loop {
                match socket.recv(&mut buffer) {
                    Ok(len) => match dns::answer(&buffer[..len], id) {
                        None => {} // somebody else's
                        Some(Answer::Failed) => return false,
                        Some(answer) => {
                            if !matches!(best, Some(Answer::Addresses(..))) {
                                best = Some(answer);
                            }
                            return false;
                        }
                    },
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // A closed port is as good as no server.
                    Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
                }
            }
        });
        // Another server may know more than one that has nothing.
        best.filter(|answer| *answer != Answer::None || self.sockets.is_empty())
    }

    /// Whether nobody will answer any more.
    pub(crate) fn is_in_vain(&self, now: Instant) -> bool {
        self.sockets.is_empty() || now >= self.deadline
    }
}

fn ask(server: IpAddr, link: u32, device: Option<&str>, id: u16) -> io::Result<UdpSocket> {
    let any: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    // One of this host is not reached by any other device.
    let is_ours = UdpSocket::bind((server, 0)).is_ok();
    if let Some(device) = device.filter(|_| !is_ours) {
        // Without the right to, the routes decide.
        let _ = setsockopt(&socket, BindToDevice, &OsString::from(device));
    }
    let to = match server {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            SocketAddrV6::new(address, PORT, 0, link).into()
        }
        server => SocketAddr::new(server, PORT),
    };
    socket.connect(to)?;
    socket.send(&dns::query(id))?;
    Ok(socket)
}

/// Those of resolv.conf(5).
fn system_servers() -> Vec<IpAddr> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|address| address.trim().parse().ok())
        .collect()
}
