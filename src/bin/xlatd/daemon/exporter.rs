//! Metrics over HTTP: an answer for a connection.
//!
//! Clients that stall, flood or are many keep nobody from an answer, and take little memory: there
//! is a limit on them, and the oldest makes room for the next. Who has sent a request by then is
//! answered at once.

use std::{
    collections::HashMap,
    convert::Infallible,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use xlatd::report::metrics::{
    Format,
    http::{MAX_HEAD_LEN, Wanted, wanted},
};

use crate::{
    error::{Error, system},
    sys::notify::Notify,
};

/// The maximum number of clients.
const MAX_CLIENTS: usize = 256;
/// The time that a client has to send a request, and again to take its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time that a client has to close the connection after its answer. To close it before the
/// client has would discard what the client has not read yet.
const LINGER: Duration = Duration::from_secs(1);
/// The time until connections are accepted again after a failure, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// A server and its clients, the oldest first.
pub(crate) struct Exporter {
    listener: TcpListener,
    clients: Vec<Client>,
}

/// A connection.
struct Client {
    stream: TcpStream,
    phase: Phase,
    /// When it is closed if it is still in this phase.
    closes_at: Instant,
}

enum Phase {
    /// What has come of a request.
    Reads(Vec<u8>),
    /// An answer, and how much of it is sent.
    Writes(Rc<[u8]>, usize),
    /// All is sent.
    Closes,
}

impl Exporter {
    /// Listens on an address.
    pub(crate) fn listen(address: SocketAddr) -> Result<Self, Error> {
        let listener = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        Ok(Self {
            listener: listener.map_err(|cause| Error::Listen { address, cause })?,
            clients: Vec::new(),
        })
    }

    /// Serves for ever. `answer` makes the answer with metrics of now.
    pub(crate) fn run(
        &mut self,
        mut answer: impl FnMut(Format) -> Vec<u8>,
    ) -> Result<Infallible, Error> {
        let notify = Notify::from_environment().map_err(system("notify the service manager"))?;
        notify.send_reliably("READY=1\n");
        loop {
            self.wait()?;
            self.accept();
            self.turn(&mut answer);
        }
    }

    fn wait(&self) -> Result<(), Error> {
        let mut fds = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.clients.iter().map(|client| {
            let events = match client.phase {
                Phase::Writes(..) => PollFlags::POLLOUT,
                Phase::Reads(_) | Phase::Closes => PollFlags::POLLIN,
            };
            PollFd::new(client.stream.as_fd(), events)
        }));
        let deadline = self.clients.iter().map(|client| client.closes_at).min();
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            // Rounded up: not to wake up before it.
            let rest = deadline
                .saturating_duration_since(Instant::now())
                .as_millis()
                + 1;
            u16::try_from(rest).map_or(PollTimeout::MAX, PollTimeout::from)
        });
        match poll(&mut fds, timeout) {
            Err(errno) if errno != nix::errno::Errno::EINTR => Err(system("poll")(errno.into())),
            _ => Ok(()),
        }
    }

    /// Takes the connections that wait, not more than a full set of clients.
    fn accept(&mut self) {
        for _ in 0..MAX_CLIENTS {
            match self.listener.accept() {
                Ok((stream, _)) if stream.set_nonblocking(true).is_ok() => {
                    if self.clients.len() == MAX_CLIENTS {
                        self.clients.remove(0);
                    }
                    self.clients.push(Client {
                        stream,
                        phase: Phase::Reads(Vec::new()),
                        closes_at: Instant::now() + PATIENCE,
                    });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The client is gone already.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                _ => return thread::sleep(PAUSE),
            }
        }
    }

    /// Lets every client go on. Those that want the same now get the same.
    fn turn(&mut self, answer: &mut impl FnMut(Format) -> Vec<u8>) {
        let mut answers = HashMap::new();
        let mut metrics = |format| {
            let of_now = answers
                .entry(format)
                .or_insert_with(|| answer(format).into());
            Rc::clone(of_now)
        };
        self.clients.retain_mut(|client| {
            let stays = client.go_on(&mut metrics);
            let stays = stays.unwrap_or_else(|error| error.kind() == ErrorKind::WouldBlock);
            stays && Instant::now() < client.closes_at
        });
    }
}

impl Client {
    /// Reads and writes as far as it goes. Returns whether the client stays; to have to wait is an
    /// error of its own kind.
    fn go_on(&mut self, metrics: &mut impl FnMut(Format) -> Rc<[u8]>) -> io::Result<bool> {
        let mut buffer = [0; MAX_HEAD_LEN];
        loop {
            match &mut self.phase {
                Phase::Reads(request) => {
                    let room = MAX_HEAD_LEN - request.len();
                    let len = self.stream.read(&mut buffer[..room])?;
                    request.extend(&buffer[..len]);
                    let answer = match wanted(request) {
                        Wanted::Incomplete if len == 0 => return Ok(false),
                        Wanted::Incomplete => continue,
                        Wanted::Metrics(format) => metrics(format),
                        Wanted::Other(answer) => answer.into(),
                    };
                    self.enter(Phase::Writes(answer, 0), PATIENCE);
                }
                Phase::Writes(answer, sent) if *sent < answer.len() => {
                    *sent += self.stream.write(&answer[*sent..])?;
                }
                Phase::Writes(..) => {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.enter(Phase::Closes, LINGER);
                }
                // A turn reads a buffer: others have theirs.
                Phase::Closes => return Ok(self.stream.read(&mut buffer)? > 0),
            }
        }
    }

    fn enter(&mut self, phase: Phase, patience: Duration) {
        self.phase = phase;
        self.closes_at = Instant::now() + patience;
    }
}
