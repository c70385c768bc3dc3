//! The other workers of a translator, as the first one has them: it gives orders, takes their
//! packets and reports, and has all end when one of them does.

mod other;
mod reports;
mod start;

pub(crate) use start::{Role, start};

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use log::warn;
use xlatd::{
    addr::pool::Followed,
    report::{
        status::{self, Packets},
        trace::Filter,
        workers::{Answer, Kind, Leases, Link, MAX_LEN, Order, USE, read_body, read_uses, to_body},
    },
    translate::DropReason,
};

use crate::{
    daemon::workers::{
        other::{END_TIMEOUT, Next, Other},
        reports::Reports,
    },
    datapath::PacketPath,
    error::{Error, system},
    sys::{
        messages::{MAX_IN_TURN, Received, file_of, read_file},
        netlink::LinkState,
        ready::ReadySet,
    },
};

/// The other workers.
pub(crate) struct Workers {
    others: Vec<Other>,
    ready: ReadySet,
    reports: Reports,
    /// Whether the others trace packets, and the number of the last trace.
    are_tracing: bool,
    trace: u64,
    /// Whether they may end.
    are_ending: bool,
}

impl Workers {
    fn new(others: Vec<Other>) -> Result<Self, Error> {
        let ready = ReadySet::new().map_err(system("wait for workers"))?;
        others.iter().try_for_each(|other| other.join(&ready))?;
        Ok(Self {
            others,
            ready,
            reports: Reports::default(),
            are_tracing: false,
            trace: 0,
            are_ending: false,
        })
    }

    /// The number of workers, with the first.
    pub(crate) fn count(&self) -> u32 {
        self.others.len() as u32 + 1
    }

    /// The descriptor that is readable while a worker has said something.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// Reads what the others have said, and translates packets that they have handed over. Without
    /// a path, a worker that is ready is not read: what it says from then on is for the path.
    pub(crate) fn turn(
        &mut self,
        mut path: Option<&mut PacketPath>,
        now: Instant,
    ) -> Result<(), Error> {
        let ready = self.ready.take().map_err(system("wait for workers"))?;
        for at in ready {
            self.others[at].flush();
            self.take_messages(at, path.as_deref_mut(), now)?;
            if !self.are_ending {
                self.others[at].await_room(&self.ready)?;
            }
        }
        if self.reports.are_uses_due() {
            self.ask(true, now)?;
        }
        Ok(())
    }

    /// Takes the messages of a worker.
    fn take_messages(
        &mut self,
        at: usize,
        mut path: Option<&mut PacketPath>,
        now: Instant,
    ) -> Result<(), Error> {
        let mut own_buffer = vec![0; path.as_ref().map_or(MAX_LEN, |_| 0)];
        let mut has_packets = false;
        for _ in 0..MAX_IN_TURN {
            if path.is_none() && self.others[at].is_ready {
                self.others[at].leave(&self.ready);
                break;
            }
            let buffer = match &mut path {
                Some(path) => path.read_buffer(),
                None => &mut own_buffer,
            };
            let Received { kind, len, files } = match self.others[at].receive(buffer)? {
                Next::Message(received) => received,
                Next::Nothing => break,
                Next::End if self.are_ending => {
                    self.others[at].has_ended = true;
                    self.others[at].leave(&self.ready);
                    self.end_question();
                    break;
                }
                Next::End => return Err(self.others[at].ended()),
            };
            let kind = Kind::of(kind);
            // The buffer of the path is that of the next packet.
            let body = match kind {
                Some(Kind::Packet) => Vec::new(),
                _ => buffer[..len].to_vec(),
            };
            match (kind, &mut path) {
                (Some(Kind::Packet), Some(path)) => {
                    if !std::mem::replace(&mut has_packets, true) {
                        path.begin_handed_over(at, now);
                    }
                    self.others[at].taken += 1;
                    path.handed_over(len, now);
                }
                (Some(Kind::Trace), Some(path)) => {
                    let added = &mut self.others[at].added_trace;
                    added.take(&body, |block| path.add_to_trace(block));
                }
                (Some(Kind::Answer), path) => {
                    let path = path.as_deref_mut().map(|path| (path, now));
                    self.take_answer(at, &body, files, path)?;
                }
                _ => return Err(self.others[at].error("sends messages that are none")),
            }
        }
        if let Some(path) = path
            && has_packets
        {
            path.end_handed_over(now);
            self.others[at].is_told = false;
        }
        Ok(())
    }

    fn take_answer(
        &mut self,
        at: usize,
        body: &[u8],
        mut files: Vec<OwnedFd>,
        path: Option<(&mut PacketPath, Instant)>,
    ) -> Result<(), Error> {
        let answer = read_body(body).map_err(|error| self.others[at].error(error))?;
        let other = &mut self.others[at];
        other.is_alive = true;
        let mut path = path;
        if let (Some(uses), Some((path, now))) = (files.pop(), &mut path) {
            let uses = read_file(uses, USE * path.max_leases());
            let uses = uses.map_err(system("read the uses of leases"))?;
            path.leases_were_used(read_uses(&uses), *now);
        }
        match answer {
            Answer::Ready => other.is_ready = true,
            Answer::Alive => {}
            Answer::Report { number, packets } => {
                other.report = (number, *packets);
                self.end_question();
            }
            Answer::Refused {
                reason,
                packet,
                len,
            } => {
                let reason = DropReason::ALL.iter().find(|one| one.key() == reason);
                if let (Some(&reason), Some((path, _))) = (reason, path) {
                    path.hint(reason, (&packet, len));
                }
            }
            Answer::Failed(how) => return Err(self.others[at].error(how)),
        }
        Ok(())
    }

    /// Tells of leases that have changed, and that packets are out.
    pub(crate) fn tell(&mut self, changed: &[Followed]) -> Result<(), Error> {
        for at in 0..self.others.len() {
            let other = &mut self.others[at];
            if changed.is_empty() && other.is_told {
                continue;
            }
            other.is_told = true;
            let done = other.taken;
            let mut parts = changed.chunks(Leases::MAX);
            self.post(
                at,
                Kind::Leases,
                Leases::body(done, parts.next().unwrap_or(&[])),
                vec![],
            )?;
            for part in parts {
                self.post(at, Kind::Leases, Leases::body(done, part), vec![])?;
            }
        }
        Ok(())
    }

    /// Whether some have packets to be [told](Self::tell) of.
    pub(crate) fn has_to_tell(&self) -> bool {
        self.others.iter().any(|other| !other.is_told)
    }

    /// Asks for reports, unless that is done already. While they come without uses of leases, these
    /// are asked for afterwards.
    pub(crate) fn ask(&mut self, uses: bool, now: Instant) -> Result<(), Error> {
        if self.reports.are_asked(uses) {
            return Ok(());
        }
        let number = self.reports.begin(uses, now);
        self.order(&Order::Report { number, uses }, None)
    }

    /// Ends the question for reports, if all have answered.
    fn end_question(&mut self) {
        let others = self.others.iter().filter(|other| !other.has_ended);
        self.reports
            .end_if_answered(others.map(|other| other.report.0));
    }

    /// Whether uses of leases that were asked for have come since the last time.
    pub(crate) fn take_uses(&mut self) -> bool {
        self.reports.take_uses()
    }

    /// Whether all reports were asked for after `since`; if not, asks for them. In the end reports
    /// are as they are.
    pub(crate) fn are_current(&mut self, since: Instant, now: Instant) -> Result<bool, Error> {
        let are_current = self.reports.are_current(since, now);
        if !are_current {
            self.ask(false, now)?;
        }
        Ok(are_current)
    }

    /// The last reports.
    pub(crate) fn packets(&self) -> impl Iterator<Item = &Packets> {
        self.others.iter().map(|other| &other.report.1)
    }

    /// The other workers as data.
    pub(crate) fn describe(&self) -> impl Iterator<Item = status::Worker> {
        self.others.iter().map(|other| status::Worker {
            pid: other.process.pid(),
            answers: self.reports.has_answered(other.report.0),
            packets: other.report.1.clone(),
        })
    }

    /// Whether all have shown that they run since the last time; asks those for the next one.
    pub(crate) fn are_alive(&mut self) -> Result<bool, Error> {
        let mut are_alive = true;
        for at in 0..self.others.len() {
            match std::mem::replace(&mut self.others[at].is_alive, false) {
                true => self.post(at, Kind::Order, to_body(&Order::Alive), vec![])?,
                false => are_alive = false,
            }
        }
        Ok(are_alive)
    }

    /// Has all read a map-file, for [`switch`](Self::switch), or only tell the uses of leases. They
    /// [are ready](Self::are_ready) then.
    pub(crate) fn prepare(&mut self, map_file: Option<&[u8]>) -> Result<(), Error> {
        for other in &mut self.others {
            other.is_ready = false;
        }
        self.order(&Order::Prepare, map_file)
    }

    /// Whether all have done what was to be prepared.
    pub(crate) fn are_ready(&self) -> bool {
        self.others.iter().all(|other| other.is_ready)
    }

    /// Has all use the map-file that they have read.
    pub(crate) fn switch(&mut self) -> Result<(), Error> {
        self.order(&Order::Switch, None)
    }

    /// Tells of the link as it is now.
    pub(crate) fn set_link(&mut self, state: &LinkState) -> Result<(), Error> {
        self.order(&Order::Link(link(state)), None)
    }

    /// Has all trace packets.
    pub(crate) fn trace(&mut self, filter: &Filter) -> Result<(), Error> {
        self.are_tracing = true;
        self.trace += 1;
        for other in &mut self.others {
            other.added_trace.begin(self.trace);
        }
        let (number, filter) = (self.trace, filter.clone());
        self.order(&Order::Trace { number, filter }, None)
    }

    /// Ends the traces of all, if the client is gone.
    pub(crate) fn end_trace_if_left(&mut self, path: &PacketPath) -> Result<(), Error> {
        if self.are_tracing && !path.is_traced() {
            self.are_tracing = false;
            for other in &mut self.others {
                other.added_trace.end();
            }
            self.order(&Order::EndTrace, None)?;
        }
        Ok(())
    }

    /// Ends all, and waits for their last reports. One that has ended before has none but the last.
    pub(crate) fn end(&mut self, path: &mut PacketPath) {
        self.are_ending = true;
        let number = self.reports.begin(true, Instant::now());
        for other in self.others.iter().filter(|one| one.has_ended) {
            other.leave(&self.ready);
        }
        self.end_question();
        let mut result = self.order(&Order::End { number }, None);
        let deadline = Instant::now() + END_TIMEOUT;
        while result.is_ok() && self.reports.asked().is_some() {
            if !self.ready.wait(deadline) {
                warn!("Not all workers have answered: the packets are those of their last reports");
                break;
            }
            result = self.turn(Some(path), Instant::now());
        }
        if let Err(error) = result {
            warn!("{}", error.report());
        }
    }

    fn order(&mut self, order: &Order, file: Option<&[u8]>) -> Result<(), Error> {
        let attempt = "pass a file to workers";
        let file = file.map(file_of).transpose().map_err(system(attempt))?;
        for at in 0..self.others.len() {
            if self.others[at].has_ended {
                continue;
            }
            let file = file.as_ref().map(OwnedFd::try_clone).transpose();
            let files = file.map_err(system(attempt))?.into_iter().collect();
            self.post(at, Kind::Order, to_body(order), files)?;
        }
        Ok(())
    }

    fn post(
        &mut self,
        at: usize,
        kind: Kind,
        body: Vec<u8>,
        files: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        self.others[at].post(&self.ready, kind, body, files)
    }
}

impl Drop for Workers {
    /// None outlives the first.
    fn drop(&mut self) {
        let deadline = Instant::now() + END_TIMEOUT;
        for other in &self.others {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = if self.are_ending {
                left
            } else {
                Duration::ZERO
            };
            if other.process.wait(left).is_none() {
                other.process.kill();
            }
        }
    }
}

/// What is told of a link.
fn link(state: &LinkState) -> Link {
    Link {
        name: state.name.clone(),
        mtu: state.mtu,
        up: state.up,
    }
}
