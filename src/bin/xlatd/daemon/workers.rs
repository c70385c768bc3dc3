//! The other workers of a translator, as the first one has them: it gives orders, takes their
//! packets and reports, and has all end when one of them does.

use std::{
    io::ErrorKind,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use log::warn;
use xlatd::{
    addr::{
        AddressMap,
        pool::{Followed, Pool},
    },
    report::{
        status::{self, Packets},
        trace::Filter,
        workers::{
            AddedTrace, Answer, Kind, Leases, Link, Order, Start, USE, read_body, read_uses,
            to_body,
        },
    },
    translate::DropReason,
};

use crate::{
    daemon::control::MAX_WAIT,
    datapath::{PacketPath, device::Device},
    error::{Error, system},
    sys::{
        fork::{Child, Forked, Parent, new_process},
        messages::{Messages, Received, file_of, read_file},
        netlink::LinkState,
        ready::ReadySet,
    },
};

/// The maximum number of messages of a worker in a turn.
const MAX_MESSAGES: usize = 256;
/// The time that workers have to start: they read the map-file.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The time that they have for their last report, and to end.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// The other workers.
pub(crate) struct Workers {
    workers: Vec<Worker>,
    ready: ReadySet,
    /// The number of the last report that was asked for.
    number: u64,
    /// When it was asked for, and whether with uses of leases, until all have answered.
    asked: Option<(Instant, bool)>,
    /// When the last report was asked for that all have answered.
    reported: Option<Instant>,
    /// Whether the others trace packets, and the number of the last trace.
    are_tracing: bool,
    trace: u64,
    /// Whether they may end.
    are_ending: bool,
    /// Whether uses of leases that were asked for have come.
    has_uses: bool,
}

/// Another worker.
struct Worker {
    process: Child,
    messages: Messages,
    /// Whether it is waited for that there is room for messages.
    awaits_room: bool,
    /// Packets that it has handed over, and whether it has been told that they are out.
    taken: u64,
    is_told: bool,
    is_ready: bool,
    is_alive: bool,
    /// Whether it has ended before it was told to.
    has_ended: bool,
    /// The number of its last report, and the packets in it.
    report: (u64, Packets),
    added_trace: AddedTrace,
}

/// What a new process is.
pub(crate) enum Role {
    /// The first worker, with the others.
    First(Option<Workers>),
    /// Another one, by its number: 2 is that after the first.
    Other(u32, Parent, Messages),
}

/// Starts all workers but the first, of `count` with that.
pub(crate) fn start(count: u8) -> Result<Role, Error> {
    if count < 2 {
        return Ok(Role::First(None));
    }
    let attempt = "start the workers";
    let mut workers = Vec::new();
    for number in 2..=u32::from(count) {
        let (ours, theirs) = Messages::pair().map_err(system(attempt))?;
        match new_process().map_err(system(attempt))? {
            Forked::Child(parent) => return Ok(Role::Other(number, parent, theirs)),
            Forked::Parent(process) => workers.push(Worker {
                process,
                messages: ours,
                awaits_room: false,
                taken: 0,
                is_told: true,
                is_ready: false,
                is_alive: true,
                has_ended: false,
                report: (0, Packets::default()),
                added_trace: AddedTrace::default(),
            }),
        }
    }
    let ready = ReadySet::new().map_err(system(attempt))?;
    for (at, worker) in workers.iter().enumerate() {
        ready.add(at, &worker.messages).map_err(system(attempt))?;
    }
    Ok(Role::First(Some(Workers {
        workers,
        ready,
        number: 0,
        asked: None,
        reported: None,
        are_tracing: false,
        trace: 0,
        are_ending: false,
        has_uses: false,
    })))
}

impl Workers {
    /// The number of workers, with the first.
    pub(crate) fn count(&self) -> u32 {
        self.workers.len() as u32 + 1
    }

    /// Has the others translate, and waits until they can. Each has a queue of the device, and the
    /// leases of the map.
    pub(crate) fn begin(
        &mut self,
        device: &Device,
        map: &AddressMap,
        map_file: Option<&[u8]>,
    ) -> Result<(), Error> {
        let attempt = "pass a queue to a worker";
        let mut rows = Vec::new();
        let leases = map.pool().into_iter().flat_map(Pool::leases_and_states);
        let leases = leases.map(|(lease, state)| Followed {
            lease,
            state: Some(state),
        });
        Leases::write_rows(leases, &mut rows);
        let files = [Some(&*rows), map_file].into_iter().flatten().map(file_of);
        let files: Vec<_> = files.collect::<Result<_, _>>().map_err(system(attempt))?;
        let order = to_body(&Order::Start(Start {
            link: link(&device.link),
            index: device.link.index,
            has_header: device.tun.has_header(),
            coalesces: device.coalesces,
            second: map.now(),
        }));
        for (at, queue) in device.others.iter().enumerate() {
            let all = [queue.as_fd()]
                .into_iter()
                .chain(files.iter().map(AsFd::as_fd));
            let all = all
                .map(|fd| fd.try_clone_to_owned())
                .collect::<Result<_, _>>();
            let all = all.map_err(system(attempt))?;
            self.post(at, Kind::Order, order.clone(), all)?;
        }
        self.wait_for_all(START_TIMEOUT, |worker| worker.is_ready)?;
        Ok(())
    }

    /// Waits for all, before packets or after them.
    fn wait_for_all(
        &mut self,
        timeout: Duration,
        is_done: impl Fn(&Worker) -> bool,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        let mut buffer = vec![0; xlatd::report::workers::MAX_LEN];
        for at in 0..self.workers.len() {
            while !is_done(&self.workers[at]) {
                let worker = &mut self.workers[at];
                worker.messages.flush();
                match worker.messages.receive(&mut buffer) {
                    Ok(Some(received)) => {
                        let body = &buffer[..received.len];
                        if Kind::of(received.kind) == Some(Kind::Answer) {
                            self.take_answer(at, body, received.files, None)?;
                        }
                    }
                    Ok(None) => return Err(self.ended(at)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        if !self.workers[at].messages.wait(deadline) {
                            let how = "does not answer".to_owned();
                            return Err(self.error(at, how));
                        }
                    }
                    Err(error) => return Err(self.error(at, format!("cannot be read: {error}"))),
                }
            }
        }
        Ok(())
    }

    /// The descriptor that is readable while a worker has said something.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// Reads what the others have said, and translates packets that they have handed over.
    pub(crate) fn turn(&mut self, path: &mut PacketPath, now: Instant) -> Result<(), Error> {
        let ready = self.ready.take().map_err(system("wait for workers"))?;
        for at in ready {
            self.workers[at].messages.flush();
            let mut has_packets = false;
            for _ in 0..MAX_MESSAGES {
                match self.workers[at].messages.receive(path.read_buffer()) {
                    Ok(Some(received)) => {
                        if Kind::of(received.kind) == Some(Kind::Packet) {
                            if !std::mem::replace(&mut has_packets, true) {
                                path.begin_handed_over(at, now);
                            }
                            self.workers[at].taken += 1;
                            path.handed_over(received.len, now);
                        } else {
                            self.take(at, received, path, now)?;
                        }
                    }
                    Ok(None) if self.are_ending => {
                        self.ready.remove(&self.workers[at].messages);
                        break;
                    }
                    Ok(None) => return Err(self.ended(at)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(self.error(at, format!("cannot be read: {error}"))),
                }
            }
            if has_packets {
                path.end_handed_over(now);
                self.workers[at].is_told = false;
            }
            if !self.are_ending {
                self.await_room(at)?;
            }
        }
        Ok(())
    }

    /// Takes a message that is no packet, and whose body is in the buffer of the path.
    fn take(
        &mut self,
        at: usize,
        received: Received,
        path: &mut PacketPath,
        now: Instant,
    ) -> Result<(), Error> {
        let body = path.read_buffer()[..received.len].to_vec();
        match Kind::of(received.kind) {
            Some(Kind::Answer) => self.take_answer(at, &body, received.files, Some((path, now))),
            Some(Kind::Trace) => {
                let added = &mut self.workers[at].added_trace;
                added.take(&body, |block| path.add_to_trace(block));
                Ok(())
            }
            _ => Err(self.error(at, "sends messages that are none".to_owned())),
        }
    }

    fn take_answer(
        &mut self,
        at: usize,
        body: &[u8],
        mut files: Vec<OwnedFd>,
        path: Option<(&mut PacketPath, Instant)>,
    ) -> Result<(), Error> {
        let answer = read_body(body).map_err(|error| self.error(at, error))?;
        let worker = &mut self.workers[at];
        worker.is_alive = true;
        let mut path = path;
        if let (Some(uses), Some((path, now))) = (files.pop(), &mut path) {
            let uses = read_file(uses, USE * path.max_leases());
            let uses = uses.map_err(system("read the uses of leases"))?;
            path.leases_were_used(read_uses(&uses), *now);
        }
        match answer {
            Answer::Ready => worker.is_ready = true,
            Answer::Alive => {}
            Answer::Report { number, packets } => {
                worker.report = (number, *packets);
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
            Answer::Failed(how) => return Err(self.error(at, how)),
        }
        Ok(())
    }

    /// Ends the question for reports, if all have answered.
    fn end_question(&mut self) {
        let mut workers = self.workers.iter();
        if workers.all(|worker| worker.report.0 == self.number) {
            let asked = self.asked.take();
            self.has_uses |= asked.is_some_and(|(_, uses)| uses);
            self.reported = asked.map(|(at, _)| at);
        }
    }

    /// Tells of leases that have changed, and that packets are out.
    pub(crate) fn tell(&mut self, changed: &[Followed]) -> Result<(), Error> {
        for at in 0..self.workers.len() {
            let worker = &mut self.workers[at];
            if changed.is_empty() && worker.is_told {
                continue;
            }
            worker.is_told = true;
            let done = worker.taken;
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
        self.workers.iter().any(|worker| !worker.is_told)
    }

    /// Asks for reports, unless that is done already. Returns whether `uses` are asked for.
    pub(crate) fn ask(&mut self, uses: bool, now: Instant) -> Result<bool, Error> {
        if let Some((_, asked_for_uses)) = self.asked {
            return Ok(asked_for_uses);
        }
        self.number += 1;
        self.asked = Some((now, uses));
        let number = self.number;
        self.order(&Order::Report { number, uses }, None)?;
        Ok(uses)
    }

    /// Whether uses of leases that were asked for have come since the last time.
    pub(crate) fn take_uses(&mut self) -> bool {
        std::mem::take(&mut self.has_uses)
    }

    /// Whether an answer is awaited.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether all reports were asked for after `since`; if not, asks for them. In the end reports
    /// are as they are.
    pub(crate) fn are_current(&mut self, since: Instant, now: Instant) -> Result<bool, Error> {
        if self.reported.is_some_and(|reported| reported >= since) || now >= since + MAX_WAIT {
            return Ok(true);
        }
        self.ask(false, now)?;
        Ok(false)
    }

    /// The last reports.
    pub(crate) fn packets(&self) -> impl Iterator<Item = &Packets> {
        self.workers.iter().map(|worker| &worker.report.1)
    }

    /// The other workers as data.
    pub(crate) fn describe(&self) -> impl Iterator<Item = status::Worker> {
        self.workers.iter().map(|worker| status::Worker {
            pid: worker.process.pid(),
            answers: self.asked.is_none() || worker.report.0 == self.number,
            packets: worker.report.1.clone(),
        })
    }

    /// Whether all have shown that they run since the last time; asks those for the next one.
    pub(crate) fn are_alive(&mut self) -> Result<bool, Error> {
        let mut are_alive = true;
        for at in 0..self.workers.len() {
            match std::mem::replace(&mut self.workers[at].is_alive, false) {
                true => self.post(at, Kind::Order, to_body(&Order::Alive), vec![])?,
                false => are_alive = false,
            }
        }
        Ok(are_alive)
    }

    /// Has all read a map-file, for [`switch`](Self::switch), or only tell the uses of leases. They
    /// [are ready](Self::are_ready) then.
    pub(crate) fn prepare(&mut self, map_file: Option<&[u8]>) -> Result<(), Error> {
        for worker in &mut self.workers {
            worker.is_ready = false;
        }
        self.order(&Order::Prepare, map_file)
    }

    /// Whether all have done what was to be prepared.
    pub(crate) fn are_ready(&self) -> bool {
        self.workers.iter().all(|worker| worker.is_ready)
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
        for worker in &mut self.workers {
            worker.added_trace.begin(self.trace);
        }
        let (number, filter) = (self.trace, filter.clone());
        self.order(&Order::Trace { number, filter }, None)
    }

    /// Ends the traces of all, if the client is gone.
    pub(crate) fn end_trace_if_left(&mut self, path: &PacketPath) -> Result<(), Error> {
        if self.are_tracing && !path.is_traced() {
            self.are_tracing = false;
            for worker in &mut self.workers {
                worker.added_trace.end();
            }
            self.order(&Order::EndTrace, None)?;
        }
        Ok(())
    }

    /// Ends all, and waits for their last reports. One that has ended before has none but the last.
    pub(crate) fn end(&mut self, path: &mut PacketPath) {
        self.are_ending = true;
        self.number += 1;
        self.asked = Some((Instant::now(), true));
        let number = self.number;
        for worker in self.workers.iter_mut().filter(|one| one.has_ended) {
            worker.report.0 = number;
            self.ready.remove(&worker.messages);
        }
        self.end_question();
        let mut result = self.order(&Order::End { number }, None);
        let deadline = Instant::now() + END_TIMEOUT;
        while result.is_ok() && self.is_asked() {
            if !self.ready.wait(deadline) {
                warn!("Not all workers have answered: the packets are those of their last reports");
                break;
            }
            result = self.turn(path, Instant::now());
        }
        if let Err(error) = result {
            warn!("{}", error.report());
        }
    }

    fn order(&mut self, order: &Order, file: Option<&[u8]>) -> Result<(), Error> {
        let attempt = "pass a file to workers";
        let file = file.map(file_of).transpose().map_err(system(attempt))?;
        for at in 0..self.workers.len() {
            if self.workers[at].has_ended {
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
        let posted = self.workers[at].messages.post(kind.octet(), body, files);
        posted.map_err(|_| self.error(at, "takes no messages".to_owned()))?;
        self.await_room(at)
    }

    /// Waits for room for messages, or no more.
    fn await_room(&mut self, at: usize) -> Result<(), Error> {
        let worker = &mut self.workers[at];
        let has_waiting = worker.messages.has_waiting();
        if has_waiting != worker.awaits_room {
            worker.awaits_room = has_waiting;
            let set = self.ready.set_writes(at, &worker.messages, has_waiting);
            set.map_err(system("wait for workers"))?;
        }
        Ok(())
    }

    /// The error that a worker has ended.
    fn ended(&mut self, at: usize) -> Error {
        let worker = &mut self.workers[at];
        worker.has_ended = true;
        let how = worker.process.wait(END_TIMEOUT);
        self.error(at, how.unwrap_or_else(|| "says no more".to_owned()))
    }

    fn error(&self, at: usize, how: String) -> Error {
        let pid = self.workers[at].process.pid();
        Error::Worker {
            number: at + 2,
            how: format!("(process {pid}) {how}"),
        }
    }
}

impl Drop for Workers {
    /// None outlives the first.
    fn drop(&mut self) {
        let deadline = Instant::now() + END_TIMEOUT;
        for worker in &self.workers {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = if self.are_ending {
                left
            } else {
                Duration::ZERO
            };
            if worker.process.wait(left).is_none() {
                worker.process.kill();
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
