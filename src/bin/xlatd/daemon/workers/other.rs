//! Another worker: its process, and the messages from and to it.

use std::{io::ErrorKind, os::fd::OwnedFd, time::Duration};

use xlatd::report::{
    status::Packets,
    workers::{AddedTrace, Kind},
};

use crate::{
    error::{Error, system},
    sys::{
        fork::Child,
        messages::{Messages, Received},
        ready::ReadySet,
    },
};

/// The time that a worker has for its last report, and to end.
pub(super) const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Another worker.
pub(super) struct Other {
    /// Its index: that of the second worker is 0.
    at: usize,
    pub(super) process: Child,
    messages: Messages,
    /// Whether it is waited for that there is room for messages.
    awaits_room: bool,
    /// Packets that it has handed over, and whether it has been told that they are out.
    pub(super) taken: u64,
    pub(super) is_told: bool,
    pub(super) is_ready: bool,
    pub(super) is_alive: bool,
    /// Whether it has ended before it was told to.
    pub(super) has_ended: bool,
    /// The number of its last report, and the packets in it.
    pub(super) report: (u64, Packets),
    pub(super) added_trace: AddedTrace,
}

/// What there is to be received.
pub(super) enum Next {
    Message(Received),
    Nothing,
    /// It has ended.
    End,
}

impl Other {
    pub(super) fn new(at: usize, process: Child, messages: Messages) -> Self {
        Self {
            at,
            process,
            messages,
            awaits_room: false,
            taken: 0,
            is_told: true,
            is_ready: false,
            is_alive: true,
            has_ended: false,
            report: (0, Packets::default()),
            added_trace: AddedTrace::default(),
        }
    }

    /// Has its messages waited for.
    pub(super) fn join(&self, ready: &ReadySet) -> Result<(), Error> {
        let added = ready.add(self.at, &self.messages);
        added.map_err(system("wait for workers"))
    }

    /// Has them waited for no more.
    pub(super) fn leave(&self, ready: &ReadySet) {
        ready.remove(&self.messages);
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush(&mut self) {
        self.messages.flush();
    }

    /// Receives a message, its body into `buffer`.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<Next, Error> {
        match self.messages.receive(buffer) {
            Ok(Some(received)) => Ok(Next::Message(received)),
            Ok(None) => Ok(Next::End),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Next::Nothing),
            Err(error) => Err(self.error(format!("cannot be read: {error}"))),
        }
    }

    /// Sends a message, as soon as there is room.
    pub(super) fn post(
        &mut self,
        ready: &ReadySet,
        kind: Kind,
        body: Vec<u8>,
        files: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        let posted = self.messages.post(kind.octet(), body, files);
        posted.map_err(|_| self.error("takes no messages"))?;
        self.await_room(ready)
    }

    /// Waits for room for messages, or no more.
    pub(super) fn await_room(&mut self, ready: &ReadySet) -> Result<(), Error> {
        let has_waiting = self.messages.has_waiting();
        if has_waiting != self.awaits_room {
            self.awaits_room = has_waiting;
            let set = ready.set_writes(self.at, &self.messages, has_waiting);
            set.map_err(system("wait for workers"))?;
        }
        Ok(())
    }

    /// The error that it has ended.
    pub(super) fn ended(&mut self) -> Error {
        self.has_ended = true;
        let how = self.process.wait(END_TIMEOUT);
        self.error(how.unwrap_or_else(|| "says no more".to_owned()))
    }

    pub(super) fn error(&self, how: impl Into<String>) -> Error {
        Error::Worker {
            number: self.at + 2,
            how: format!("(process {}) {}", self.process.pid(), how.into()),
        }
    }
}
