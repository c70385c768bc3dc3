//! The control socket of a daemon: clients ask, and are answered, between the packets.
//!
//! Clients cost packets nothing that counts: there are few, each has few turns in a second, a
//! request has a limit, no write waits, and who is idle is closed: also the client of a trace, if
//! it does not take what there is.

use std::{
    array,
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant},
};

use log::{debug, warn};
use nix::poll::PollFlags;
use xlatd::{
    pace::{Rate, TokenBucket},
    report::control::{Answer, MAX_REQUEST_LEN, Request},
};

use crate::{
    datapath::Traced,
    sys::{
        control_socket::{ControlSocket, Peer},
        privilege::Identity,
    },
};

/// The maximum number of clients. Others wait until one of them is done.
const MAX_CLIENTS: usize = 8;
/// The time that a client has to send a request, and to take some of its answer or trace.
const IDLE: Duration = Duration::from_secs(10);
/// The time after which a request is answered with what there is.
pub(crate) const MAX_WAIT: Duration = Duration::from_millis(500);
/// New clients; those that are gone again while they wait count, too.
const CLIENTS: Rate = Rate::per_second(100);
/// Turns in which one of them sends something.
const TURNS: Rate = Rate::per_second(10);

/// Number of [descriptors](Control::fds).
pub(crate) const FDS: usize = 1 + MAX_CLIENTS;

/// The events that are waited for on each descriptor.
pub(crate) type Waits<'a> = [Option<(BorrowedFd<'a>, PollFlags)>; FDS];

/// The control socket and its clients.
pub(crate) struct Control {
    socket: ControlSocket,
    clients: Vec<Client>,
    pace: Pace,
}

/// A limit on turns, and the time of the next one while there is none left.
#[derive(Default)]
struct Pace {
    bucket: TokenBucket<Instant>,
    next: Option<Instant>,
}

impl Pace {
    /// Begins a turn, for which it may be time.
    fn begin_turn(&mut self, now: Instant) {
        self.next.take_if(|next| *next <= now);
    }

    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.next = self.bucket.take(rate, now).err().flatten();
        self.next.is_none()
    }
}

/// What a request is answered with.
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    /// What follows the answer.
    pub(crate) trace: Option<Traced>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        let trace = None;
        Self { answer, trace }
    }
}

/// A connection.
struct Client {
    stream: UnixStream,
    peer: Peer,
    /// What has come of a request.
    request: Vec<u8>,
    /// A request that cannot be answered yet, and when it came.
    unanswered: Option<(Request, Instant)>,
    /// What is still to be sent of an answer.
    answer: Vec<u8>,
    sent: usize,
    /// What is sent after the answer, until either side ends it.
    trace: Option<Traced>,
    pace: Pace,
    /// When it is closed, if it does nothing.
    closes_at: Instant,
    /// Whether it is closed when all is sent.
    ends: bool,
}

impl Control {
    /// Listens, if possible: a daemon does what it is for also without it. The socket is for root
    /// and for `identity`.
    pub(crate) fn open(path: &Path, identity: Identity) -> Option<Self> {
        match ControlSocket::open(path, identity.uid, identity.gid) {
            Ok(socket) => Some(Self {
                socket,
                clients: Vec::with_capacity(MAX_CLIENTS),
                pace: Pace::default(),
            }),
            Err(error) => {
                let reason = match error.kind() {
                    ErrorKind::AddrInUse => "another process listens there".to_owned(),
                    _ => error.to_string(),
                };
                warn!(
                    "{}: no control socket, so \"xlatd status\" cannot ask: {reason}",
                    path.display()
                );
                None
            }
        }
    }

    /// The directory of the socket, which is removed from it in the end.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.socket.directory()
    }

    /// The descriptors to wait for: the socket, and the clients.
    pub(crate) fn fds(&self) -> Waits<'_> {
        let accepts = self.clients.len() < MAX_CLIENTS && self.pace.next.is_none();
        let socket = accepts.then(|| (self.socket.as_fd(), PollFlags::POLLIN));
        array::from_fn(|at| match at.checked_sub(1) {
            None => socket,
            Some(client) => self.clients.get(client)?.wait(),
        })
    }

    /// The time of the next [`turn`](Self::turn) if nothing comes before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let clients = self.clients.iter();
        let clients = clients.flat_map(|client| {
            let unanswered = client.unanswered.as_ref();
            let waits_until = unanswered.map(|(_, since)| *since + MAX_WAIT);
            [Some(client.closes_at), client.pace.next, waits_until]
        });
        clients.chain([self.pace.next]).flatten().min()
    }

    /// Reads requests, and answers them with `answer`, which is told when a request came. If it has
    /// no answer yet, it is asked again in each turn. `ready` is by [descriptor](Self::fds).
    pub(crate) fn turn(
        &mut self,
        ready: [PollFlags; FDS],
        now: Instant,
        mut answer: impl FnMut(&Request, Peer, Instant) -> Option<Reply>,
    ) {
        self.pace.begin_turn(now);
        let [accepts, clients @ ..] = ready;
        let mut clients = clients.iter();
        self.clients.retain_mut(|client| {
            let ready = clients.next().copied().unwrap_or(PollFlags::empty());
            client.turn(ready, now, &mut answer)
        });
        if !accepts.is_empty() && self.pace.take(CLIENTS, now) {
            match self.socket.accept() {
                Ok((stream, peer)) => self.clients.push(Client::new(stream, peer, now)),
                Err(error) => debug!("cannot accept a client of the control socket: {error}"),
            }
        }
    }
}

impl Client {
    fn new(stream: UnixStream, peer: Peer, now: Instant) -> Self {
        Self {
            stream,
            peer,
            request: Vec::new(),
            unanswered: None,
            answer: Vec::new(),
            sent: 0,
            trace: None,
            pace: Pace::default(),
            closes_at: now + IDLE,
            ends: false,
        }
    }

    fn has_to_write(&self) -> bool {
        self.sent < self.answer.len()
    }

    fn wait(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let events = match (self.has_to_write(), &self.trace, self.pace.next) {
            (true, ..) => PollFlags::POLLOUT,
            (false, Some(trace), _) if trace.waits() => PollFlags::POLLIN | PollFlags::POLLOUT,
            // Who waits for an answer has only to be there.
            (false, ..) if self.unanswered.is_some() => PollFlags::empty(),
            (false, Some(_), _) | (false, None, None) => PollFlags::POLLIN,
            (false, None, Some(_)) => return None,
        };
        Some((self.stream.as_fd(), events))
    }

    /// Writes, or reads and answers. Returns whether the client stays.
    fn turn(
        &mut self,
        ready: PollFlags,
        now: Instant,
        mut answer: impl FnMut(&Request, Peer, Instant) -> Option<Reply>,
    ) -> bool {
        self.pace.begin_turn(now);
        if let Some((request, since)) = &self.unanswered {
            if ready.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
                return false;
            }
            let Some(reply) = answer(request, self.peer, *since) else {
                return now < self.closes_at;
            };
            self.unanswered = None;
            return self.answer(reply, now).is_ok_and(|stays| stays);
        }
        let result = match (!ready.is_empty(), self.has_to_write()) {
            (true, true) => self.write(),
            (_, false) if self.trace.is_some() => self.go_on_tracing(ready, now),
            (true, false) if self.pace.take(TURNS, now) => self.read(now, answer),
            _ => Ok(true),
        };
        let stays = result.unwrap_or_else(|error| error.kind() == ErrorKind::WouldBlock);
        stays && now < self.closes_at
    }

    /// Reads what there is of a request, and begins to answer one that is complete.
    fn read(
        &mut self,
        now: Instant,
        mut answer: impl FnMut(&Request, Peer, Instant) -> Option<Reply>,
    ) -> io::Result<bool> {
        let mut buffer = [0; MAX_REQUEST_LEN];
        let room = MAX_REQUEST_LEN - self.request.len();
        let len = self.stream.read(&mut buffer[..room])?;
        self.request.extend(&buffer[..len]);
        let reply = match self.request.iter().position(|&octet| octet == b'\n') {
            Some(end) => {
                let request = Request::read(&self.request[..end]);
                self.request.drain(..=end);
                // One at a time: who does not wait for an answer is closed after it.
                self.ends |= !self.request.is_empty();
                match request {
                    Err(error) => Answer::Error(error).into(),
                    Ok(request) => match answer(&request, self.peer, now) {
                        Some(reply) => reply,
                        None => {
                            self.unanswered = Some((request, now));
                            return Ok(true);
                        }
                    },
                }
            }
            None if self.request.len() == MAX_REQUEST_LEN => {
                self.ends = true;
                let text = format!("expected a request of at most {MAX_REQUEST_LEN} octets");
                Answer::Error(text).into()
            }
            None => return Ok(len > 0),
        };
        self.answer(reply, now)
    }

    /// Begins to answer.
    fn answer(&mut self, reply: Reply, now: Instant) -> io::Result<bool> {
        (self.answer, self.sent) = (reply.answer.to_line().into_bytes(), 0);
        self.trace = reply.trace;
        self.closes_at = now + IDLE;
        match self.write() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            result => result,
        }
    }

    /// Writes what the client takes of the answer.
    fn write(&mut self) -> io::Result<bool> {
        let len = self.stream.write(&self.answer[self.sent..])?;
        self.sent += len;
        if self.has_to_write() {
            return Ok(true);
        }
        (self.answer, self.sent) = (Vec::new(), 0);
        Ok(!self.ends)
    }

    /// Writes what the client takes of the trace. Returns whether it goes on: it ends with the
    /// device, and when the client closes the connection or says more.
    fn go_on_tracing(&mut self, ready: PollFlags, now: Instant) -> io::Result<bool> {
        let Some(trace) = &mut self.trace else {
            return Ok(true);
        };
        if ready.intersects(!PollFlags::POLLOUT) {
            return Ok(false);
        }
        if !trace.waits() {
            self.closes_at = now + IDLE; // it has taken all
        } else if ready.contains(PollFlags::POLLOUT) {
            trace.write_to(&self.stream)?;
            self.closes_at = now + IDLE;
        }
        Ok(!trace.is_over())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    /// xlatd-status(8): a client has 10 seconds to send a request, and 10 from then on to take the
    /// answer.
    #[test]
    fn a_client_that_is_idle_is_closed_in_time() {
        const TICK: Duration = Duration::from_nanos(1);
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let peer = Peer {
            pid: 1,
            is_root: true,
        };
        let mut now = Instant::now();
        let mut client = Client::new(ours, peer, now);
        let answer = |_: &Request, _, _| Some(Answer::Error("no".to_owned()).into());
        let nothing = PollFlags::empty();
        // Half a request is none.
        theirs.write_all(b"{").unwrap();
        assert!(client.turn(PollFlags::POLLIN, now + IDLE / 2, answer));
        assert!(client.turn(nothing, now + IDLE - TICK, answer));

        theirs.write_all(b"\n").unwrap();
        now += IDLE - TICK;
        assert!(client.turn(PollFlags::POLLIN, now, answer));
        assert!(client.turn(nothing, now + IDLE - TICK, answer));
        assert!(!client.turn(nothing, now + IDLE, answer));
    }

    /// A request waits for its answer without a look at the client, which may go meanwhile.
    #[test]
    fn an_answer_may_take_some_turns() {
        let start = || {
            let (mut theirs, ours) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let peer = Peer {
                pid: 1,
                is_root: true,
            };
            theirs
                .write_all(Request::Status.to_line().as_bytes())
                .unwrap();
            (theirs, Client::new(ours, peer, Instant::now()))
        };
        let now = Instant::now();
        let not_yet = |_: &Request, _, since| {
            assert_eq!(since, now);
            None
        };
        let nothing = PollFlags::empty();
        let (mut theirs, mut client) = start();
        assert!(client.turn(PollFlags::POLLIN, now, not_yet));
        assert!(client.turn(nothing, now + MAX_WAIT / 2, not_yet));
        assert_eq!(client.wait().unwrap().1, nothing);
        let answer = |_: &Request, _, _| Some(Answer::Error("no".to_owned()).into());
        assert!(client.turn(nothing, now + MAX_WAIT, answer));
        let mut line = [0; 64];
        let len = theirs.read(&mut line).unwrap();
        assert!(line[..len].ends_with(b"\"no\"}\n"));
        assert_eq!(client.wait().unwrap().1, PollFlags::POLLIN);

        let (_theirs, mut client) = start();
        assert!(client.turn(PollFlags::POLLIN, now, not_yet));
        assert!(!client.turn(PollFlags::POLLHUP, now, not_yet));
    }
}
