//! One question to several name servers at once, without waiting (RFC 7050 section 3).

use std::{
    ffi::OsString,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt::BindToDevice};
use xlatd::{
    clat::answers::Answers,
    config::resolv_conf::{name_servers, server_at},
    wire::dns::{self, Answer},
};

/// The time that servers have to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Number of servers that are asked at most.
pub(crate) const MAX_SERVERS: usize = 3;

/// A question that has been asked.
pub(crate) struct Query {
    /// The link by which it was asked.
    pub(crate) link: u32,
    /// One for each server that has not answered yet, connected to it.
    sockets: Vec<UdpSocket>,
    answers: Answers,
    /// Servers of /etc/resolv.conf that cannot be asked, each with the reason.
    pub(crate) unusable: Vec<String>,
    pub(crate) deadline: Instant,
}

impl Query {
    /// Asks the servers, or those of /etc/resolv.conf if there are none. `index_of` gives the index
    /// of an interface by its name; `id` is that of the query.
    pub(crate) fn ask(
        link: u32,
        name: &str,
        servers: &[IpAddr],
        index_of: impl Fn(&str) -> Option<u32>,
        id: u16,
        now: Instant,
    ) -> Self {
        let (servers, unusable, device) = if servers.is_empty() {
            let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            let (servers, errors) = name_servers(&text, link, index_of);
            let unusable = errors.iter().map(ToString::to_string).collect();
            (servers, unusable, None)
        } else {
            let servers = servers.iter().map(|&server| server_at(server, link));
            (servers.collect(), Vec::new(), Some(name))
        };
        let servers = servers.into_iter().take(MAX_SERVERS);
        let sockets = servers.filter_map(|server| ask(server, device, id).ok());
        let sockets: Vec<_> = sockets.collect();
        Self {
            link,
            answers: Answers::new(id, sockets.len()),
            sockets,
            unusable,
            deadline: now + TIMEOUT,
        }
    }

    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd)
    }

    /// Reads what has come in. Returns the answer that counts, if there is one by now.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        self.sockets.retain(|socket| {
            let mut buffer = [0; 4096];
            loop {
                match socket.recv(&mut buffer) {
                    Ok(len) if self.answers.take(&buffer[..len]) => return false,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                    // No server listens at the port.
                    Err(_) => {
                        self.answers.unreachable();
                        return false;
                    }
                }
            }
        });
        self.answers.outcome().cloned()
    }

    /// Whether no answer will come any more.
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
    // A server on this host is reached by the loopback device only.
    let is_ours = UdpSocket::bind((server.ip(), 0)).is_ok();
    if let Some(device) = device.filter(|_| !is_ours) {
        // Without the privilege the routes decide.
        let _ = setsockopt(&socket, BindToDevice, &OsString::from(device));
    }
    socket.connect(server)?;
    socket.send(&dns::query(id))?;
    Ok(socket)
}
