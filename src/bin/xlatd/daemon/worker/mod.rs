//! A worker that is not the first: it translates packets of its queue, does what the first one
//! orders, and ends with it.

mod start;

use std::{
    array,
    io::{self, ErrorKind, Write},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use xlatd::{
    addr::AddressMap,
    config::Config,
    report::{
        trace::Filter,
        workers::{
            self, Answer, Kind, Leases, Link, Order, part_of_trace, read_body, to_body, write_uses,
        },
    },
};

use crate::{
    daemon::{
        options::{Options, translation_mtu},
        worker::start::{read_map, start},
    },
    datapath::{FDS, Hinted, PacketPath, Traced},
    error::{Error, system},
    sys::{
        fork::Parent,
        messages::{MAX_IN_TURN, Messages, file_of, read_file},
        netlink::LinkState,
    },
};

/// The maximum length of a part of a trace, in octets.
const TRACE_PART: usize = 1 << 14;
/// The time for the last messages to be read.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// A worker.
struct Worker<'a> {
    config: &'a Config,
    messages: Messages,
    path: PacketPath,
    /// A map that is not used yet.
    prepared: Option<AddressMap>,
    /// A trace, and its number.
    trace: Option<(u64, Traced)>,
    /// Whether the device has been removed, which the first one reports.
    is_removed: bool,
    buffer: Vec<u8>,
}

/// What a worker goes on with.
enum Next {
    Turn,
    End,
}

/// Translates until the first worker ends, or until this one fails, which the first one reports.
/// Returns whether it has ended as ordered.
pub(crate) fn run(
    config: &Config,
    options: &Options,
    number: u32,
    parent: Parent,
    mut messages: Messages,
) -> bool {
    let failed = |messages: &mut Messages, error: &Error| {
        let answer = to_body(&Answer::Failed(error.report()));
        let _ = messages.post(Kind::Answer.octet(), answer, Vec::new());
    };
    let path = match start(config, options, number, parent, &mut messages) {
        Ok(Some(path)) => path,
        Ok(None) => return false,
        Err(error) => {
            failed(&mut messages, &error);
            return false;
        }
    };
    let mut worker = Worker {
        config,
        messages,
        path,
        prepared: None,
        trace: None,
        is_removed: false,
        buffer: vec![0; workers::MAX_LEN],
    };
    let result = worker
        .answer(&Answer::Ready, None)
        .and_then(|()| worker.run());
    if let Err(error) = &result {
        failed(&mut worker.messages, error);
    }
    let deadline = Instant::now() + END_TIMEOUT;
    while worker.messages.has_waiting() && worker.messages.wait(deadline) {
        worker.messages.flush();
    }
    result.is_ok()
}

impl Worker<'_> {
    fn run(&mut self) -> Result<(), Error> {
        loop {
            let (messages, device) = self.wait()?;
            let now = Instant::now();
            if !messages.is_empty() {
                self.messages.flush();
                if let Next::End = self.take_messages(now)? {
                    return Ok(());
                }
            }
            match self.path.turn(device, now) {
                Err(Error::DeviceRemoved { .. }) => self.is_removed = true,
                result => result?,
            }
            for Hinted {
                reason,
                packet,
                len,
            } in self.path.take_hinted()
            {
                let reason = reason.key().to_owned();
                let refused = Answer::Refused {
                    reason,
                    packet,
                    len,
                };
                self.answer(&refused, None)?;
            }
            self.pass_trace_on();
        }
    }

    /// Waits for messages, packets, or the earliest deadline.
    fn wait(&self) -> Result<(PollFlags, [PollFlags; FDS]), Error> {
        let timeout = self.path.deadline().map_or(PollTimeout::NONE, |deadline| {
            // Rounded up, since a turn before the deadline would find nothing due.
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let trace_waits = self.trace.as_ref().is_some_and(|(_, trace)| trace.waits());
        let mut events = PollFlags::POLLIN;
        events.set(
            PollFlags::POLLOUT,
            self.messages.has_waiting() || trace_waits,
        );
        let [device, ..] = self.path.fds();
        let device = device.filter(|_| !self.is_removed);
        let messages = self.messages.as_fd();
        let queue = device.unwrap_or(messages);
        let mut fds = [
            PollFd::new(messages, events),
            PollFd::new(queue, PollFlags::POLLIN),
        ];
        let count = 1 + usize::from(device.is_some());
        match poll(&mut fds[..count], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(system("poll")(errno.into())),
        }
        let [messages, packets] = fds
            .each_ref()
            .map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        let mut found: [_; FDS] = array::from_fn(|_| PollFlags::empty());
        if count == 2 {
            found[0] = packets;
        }
        Ok((messages, found))
    }

    /// Does what the first worker has ordered.
    fn take_messages(&mut self, now: Instant) -> Result<Next, Error> {
        let attempt = "read what the first worker orders";
        for _ in 0..MAX_IN_TURN {
            let received = match self.messages.receive(&mut self.buffer) {
                Ok(Some(received)) => received,
                Ok(None) => return Ok(Next::End),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(system(attempt)(error)),
            };
            let body = &self.buffer[..received.len];
            let invalid = || system(attempt)(ErrorKind::InvalidData.into());
            match Kind::of(received.kind) {
                Some(Kind::Leases) => {
                    let leases = Leases::read(body).ok_or_else(invalid)?;
                    self.path.follow(&leases);
                }
                Some(Kind::Order) => {
                    let order = read_body(body).map_err(|_| invalid())?;
                    if let Next::End = self.obey(order, received.files, now)? {
                        return Ok(Next::End);
                    }
                }
                _ => return Err(invalid()),
            }
        }
        Ok(Next::Turn)
    }

    fn obey(&mut self, order: Order, mut files: Vec<OwnedFd>, now: Instant) -> Result<Next, Error> {
        match order {
            Order::Start(_) => {}
            Order::Prepare => {
                let attempt = "read the map-file of the first worker";
                let text = files.pop().map(|file| read_file(file, usize::MAX));
                let text = text.transpose().map_err(system(attempt))?;
                let map = text.map(|text| read_map(self.config, &text)).transpose();
                self.prepared = map.map_err(system(attempt))?;
                let uses = self.uses()?;
                self.answer(&Answer::Ready, Some(uses))?;
            }
            Order::Switch => {
                if let Some(map) = self.prepared.take() {
                    self.path.set_map(map);
                }
            }
            Order::Report { number, uses } => self.report(number, uses, now)?,
            Order::Alive => self.answer(&Answer::Alive, None)?,
            Order::Link(link) => self.set_link(link),
            Order::Trace { number, filter } => self.start_trace(number, filter, now),
            Order::EndTrace => self.trace = None,
            Order::End { number } => {
                self.path.end_log();
                self.report(number, true, now)?;
                return Ok(Next::End);
            }
        }
        Ok(Next::Turn)
    }

    fn set_link(&mut self, Link { name, mtu, up }: Link) {
        let before = self.path.link().clone();
        if mtu != before.mtu {
            self.path.set_mtu(translation_mtu(mtu));
        }
        self.path.set_link(LinkState {
            name,
            mtu,
            up,
            ..before
        });
    }

    fn start_trace(&mut self, number: u64, filter: Filter, now: Instant) {
        self.trace = None; // of a client that is gone
        let trace = self.path.trace(filter, 0, now).ok();
        self.trace = trace.map(|trace| (number, trace));
    }

    /// Passes on what was traced, as far as there is room.
    fn pass_trace_on(&mut self) {
        if let Some((number, trace)) = &mut self.trace {
            let parts = || TraceParts(*number, &self.messages);
            while trace.waits() && trace.write_to(parts()).is_ok() {}
        }
    }

    fn report(&mut self, number: u64, uses: bool, now: Instant) -> Result<(), Error> {
        let packets = Box::new(self.path.packets(now));
        let uses = if uses { Some(self.uses()?) } else { None };
        self.answer(&Answer::Report { number, packets }, uses)
    }

    /// The uses of leases since the last time, in a file.
    fn uses(&mut self) -> Result<OwnedFd, Error> {
        let uses = write_uses(self.path.uses().into_iter());
        file_of(&uses).map_err(system("pass the uses of leases on"))
    }

    fn answer(&mut self, answer: &Answer, file: Option<OwnedFd>) -> Result<(), Error> {
        let files = file.into_iter().collect();
        let posted = self
            .messages
            .post(Kind::Answer.octet(), to_body(answer), files);
        posted.map_err(system("answer the first worker"))
    }
}

/// Parts of the trace of a number, as messages to the first worker.
struct TraceParts<'a>(u64, &'a Messages);

impl Write for TraceParts<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let part = &octets[..octets.len().min(TRACE_PART)];
        let body = part_of_trace(self.0, part);
        self.1.send(Kind::Trace.octet(), &body)?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
