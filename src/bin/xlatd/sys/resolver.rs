//! One question to several name servers at once, without waiting (RFC 7050 section 3).

use std::{
    ffi::OsString,
    fs,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt::BindToDevice};
use xlatd::{
    config::resolv_conf::{name_servers, server_at},
    wire::dns::{self, Answer},
};

/// How long servers may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// So many are asked.
pub(crate) const MOST: usize = 3;

/// A question that has been asked.
pub(crate) struct Query {
    /// The device by which it was asked.
    pub(crate) link: u32,
    /// One for each server that could be asked.
    sockets: Vec<UdpSocket>,
    /// Servers of /etc/resolv.conf that cannot be asked, each with the reason.
    pub(crate) unusable: Vec<String>,
    id: u16,
    pub(crate) deadline: Instant,
}

impl Query {
    /// Asks the servers, or those of /etc/resolv.conf if there are none. No server may be reached: then the answer is that of
    /// the deadline. `index_of` gives the index of a device by its name.
    pub(crate) fn ask(
        link: u32,
        name: &str,
        servers: &[IpAddr],
        index_of: impl Fn(&str) -> Option<u32>,
        now: Instant,
    ) -> Self {
        let id = RandomState::new().hash_one(now) as u16; // RandomState has keys that nobody outside can guess
        let (servers, unusable, device) = if servers.is_empty() {
            let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            let (servers, errors) = name_servers(&text, link, index_of);
            let unusable = errors.iter().map(ToString::to_string).collect();
            (servers, unusable, None)
        } else {
            let servers = servers.iter().map(|&server| server_at(server, link));
            (servers.collect(), Vec::new(), Some(name))
        };
        let servers = servers.into_iter().take(MOST);
        let sockets = servers.filter_map(|server| ask(server, device, id).ok());
        Self {
            link,
            sockets: sockets.collect(),
            unusable,
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

fn ask(server: SocketAddr, device: Option<&str>, id: u16) -> io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    // One of this host is not reached by any other device.
    let is_ours = UdpSocket::bind((server.ip(), 0)).is_ok();
    if let Some(device) = device.filter(|_| !is_ours) {
        // Without the right to, the routes decide.
        let _ = setsockopt(&socket, BindToDevice, &OsString::from(device));
    }
    socket.connect(server)?;
    socket.send(&dns::query(id))?;
    Ok(socket)
}
