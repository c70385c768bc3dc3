//! The service that runs either daemon: signals, service manager, watchdog, and the only place that
//! waits.

use std::{
    array,
    os::fd::{AsFd, BorrowedFd},
    process,
    time::{Duration, Instant},
};

use log::{debug, info, warn};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    time::{ClockId, clock_gettime},
};
use xlatd::report::{
    control::{Answer, Request},
    mappings::Mappings,
    status::{Process, Status},
    trace::Filter,
};

use crate::{
    daemon::{
        control::{self, Control, Reply},
        watchdog::Watchdog,
    },
    datapath::{self, FDS, PacketPath},
    error::{Error, system},
    sys::{
        control_socket::Peer,
        notify::Notify,
        program_text,
        signals::{Signal, Signals},
    },
};

/// The maximum number of inputs of a [`Guest`], without its device.
pub(crate) const INPUTS: usize = 5;

/// A daemon that a [`Service`] runs.
pub(crate) trait Guest {
    /// The signal that asks for a report, and so does not stop this daemon.
    const REPORT: Option<i32>;

    /// Prepares for the first turn, before the service manager is notified. `control` is the
    /// directory of the control socket.
    fn begin(&mut self, _limits: &mut Limits, _control: Option<BorrowedFd<'_>>) {}

    /// Cleans up after the last turn.
    fn end(&mut self);

    /// The packet path, while there is a device.
    fn path(&self) -> Option<&PacketPath>;

    /// The packet path, mutably.
    fn path_mut(&mut self) -> Option<&mut PacketPath>;

    /// The inputs to wait for, each at its own index.
    fn inputs(&self) -> [Option<BorrowedFd<'_>>; INPUTS];

    /// The time of the next [`turn`](Self::turn) if there is no input before.
    fn deadline(&mut self) -> Option<Instant>;

    /// Handles input and deadlines, before packets are translated.
    fn turn(&mut self, turn: &Turn<'_>) -> Result<(), Error>;

    /// Does what is left to do after packets were translated.
    fn end_turn(&mut self, _turn: &Turn<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Whether all of it has shown that it runs since the last time.
    fn is_alive(&mut self) -> Result<bool, Error> {
        Ok(true)
    }

    /// Whether it can [describe](Self::describe) how it is after `since`. If not, it is to be asked
    /// again in each turn.
    fn is_current(&mut self, _since: Instant, _now: Instant) -> bool {
        true
    }

    /// Begins to trace packets elsewhere, too.
    fn trace(&mut self, _filter: &Filter) {}

    /// Handles SIGHUP.
    fn reload(&mut self, turn: &Turn<'_>);

    /// The state, in one line.
    fn status(&self) -> String;

    /// How it is, in full. `process` is what it runs in.
    fn describe(&self, process: Process, now: Instant) -> Status;
}

/// What a process may still do, in words.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// User, group and capabilities.
    pub(crate) privileges: String,
    /// The sandbox.
    pub(crate) sandbox: String,
}

/// One turn of the loop.
pub(crate) struct Turn<'a> {
    /// The time of the turn: the clock is read once in a turn.
    pub(crate) now: Instant,
    ready: [bool; INPUTS],
    notify: &'a Notify,
}

impl Turn<'_> {
    /// Whether there is input at this index of [`Guest::inputs`].
    pub(crate) fn is_ready(&self, input: usize) -> bool {
        self.ready[input]
    }

    /// Notifies the service manager of the state.
    pub(crate) fn notify_status(&self, status: &str) {
        self.notify.send(&format!("STATUS={status}"));
    }

    /// Notifies the service manager that a reload starts (sd_notify(3)).
    pub(crate) fn notify_reloading(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        let microseconds = now.as_micros();
        self.notify
            .send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// Notifies the service manager that a reload is complete, and of the state.
    pub(crate) fn notify_reloaded(&self, status: &str) {
        self.notify
            .send_reliably(&format!("READY=1\nSTATUS={status}"));
    }
}

/// The signals, the service manager and the watchdog of a daemon.
pub(crate) struct Service {
    started: Instant,
    /// What the process may still do, for those who ask.
    pub(crate) limits: Limits,
    /// `None`: nobody can ask.
    pub(crate) control: Option<Control>,
    notify: Notify,
    watchdog: Option<Watchdog>,
    signals: Signals,
}

impl Service {
    /// Catches signals from now on, so that one ends the daemon in order.
    pub(crate) fn new() -> Result<Self, Error> {
        let signals = Signals::new().map_err(system("catch signals"))?;
        let notify = Notify::from_environment().unwrap_or_else(|error| {
            warn!("cannot reach the service manager at NOTIFY_SOCKET: {error}");
            Notify::default()
        });
        let timeout = notify.watchdog_timeout;
        Ok(Self {
            started: Instant::now(),
            limits: Limits::default(),
            control: None,
            watchdog: timeout.map(|timeout| Watchdog::new(timeout, Instant::now())),
            notify,
            signals,
        })
    }

    /// Runs a guest until a signal asks to stop, or until it fails.
    pub(crate) fn run(&mut self, guest: &mut impl Guest) -> Result<(), Error> {
        let control = self.control.as_ref().map(Control::directory);
        guest.begin(&mut self.limits, control);
        let (status, pid) = (guest.status(), process::id());
        self.notify
            .send_reliably(&format!("READY=1\nSTATUS={status}\nMAINPID={pid}"));
        if let Err(error) = program_text::let_go() {
            debug!("cannot let go of the program's text: {error}");
        }
        let result = self.turn_until_stopped(guest);
        self.notify.send("STOPPING=1\nSTATUS=Stopping");
        guest.end();
        result
    }

    fn turn_until_stopped<G: Guest>(&mut self, guest: &mut G) -> Result<(), Error> {
        loop {
            let ready = self.wait(guest)?;
            let turn = Turn {
                now: Instant::now(),
                ready: ready.inputs,
                notify: &self.notify,
            };
            if let Some(watchdog) = &mut self.watchdog
                && watchdog.is_due(turn.now)
                && guest.is_alive()?
            {
                self.notify.send("WATCHDOG=1");
            }
            if ready.signals {
                for signal in self.signals.take() {
                    match signal {
                        Signal::Stop(number) if G::REPORT == Some(number) => report(guest),
                        Signal::Stop(number) => {
                            info!("Exiting on signal {number}");
                            return Ok(());
                        }
                        Signal::Reload => guest.reload(&turn),
                    }
                }
            }
            guest.turn(&turn)?;
            if let Some(control) = &mut self.control {
                let process = || Process {
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    pid: process::id(),
                    uptime_seconds: turn.now.saturating_duration_since(self.started).as_secs(),
                    privileges: self.limits.privileges.clone(),
                    sandbox: self.limits.sandbox.clone(),
                };
                control.turn(ready.control, turn.now, |request, peer, since| {
                    let is_current = guest.is_current(since, turn.now);
                    is_current.then(|| answer(request, peer, guest, process, turn.now))
                });
            }
            if let Some(path) = guest.path_mut() {
                path.turn(ready.path, turn.now)?;
            }
            guest.end_turn(&turn)?;
        }
    }

    /// Waits for input or the earliest deadline. This is the only place that waits.
    fn wait(&self, guest: &mut impl Guest) -> Result<Ready, Error> {
        let deadline = guest.deadline();
        let path = guest.path();
        let deadlines = [
            deadline,
            path.and_then(PacketPath::deadline),
            self.control.as_ref().and_then(Control::deadline),
            self.watchdog.as_ref().map(Watchdog::deadline),
        ];
        let timeout = match deadlines.into_iter().flatten().min() {
            None => PollTimeout::NONE,
            Some(deadline) => {
                // Rounded up, since a turn before the deadline would find nothing due.
                let left = deadline.saturating_duration_since(Instant::now()) + MILLISECOND;
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        let path = path.map(PacketPath::fds).unwrap_or_default();
        let inputs = guest.inputs();
        let control = self.control.as_ref().map(Control::fds).unwrap_or_default();
        // Only those that there are: poll(2) takes no more than the process may have open.
        let wait_for = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let signals = self.signals.as_fd();
        let mut poll_fds: [_; 1 + FDS + INPUTS + control::FDS] =
            array::from_fn(|_| wait_for(signals));
        let mut count = 1;
        let in_order = path.into_iter().chain(inputs).flatten().map(wait_for);
        let clients = control.iter().flatten();
        for fd in in_order.chain(clients.map(|&(fd, events)| PollFd::new(fd, events))) {
            poll_fds[count] = fd;
            count += 1;
        }
        match poll(&mut poll_fds[..count], timeout) {
            // After EINTR the next poll finds the signal as input.
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(system("poll")(errno.into())),
        }
        let mut events = poll_fds.iter().map(|fd| fd.revents().unwrap_or(NO_EVENTS));
        let signals = events.next();
        let mut events_of = |is_there: bool| match is_there {
            true => events.next().unwrap_or(NO_EVENTS),
            false => NO_EVENTS,
        };
        Ok(Ready {
            signals: signals.is_some_and(|events| !events.is_empty()),
            path: path.map(|fd| events_of(fd.is_some())),
            inputs: inputs.map(|input| !events_of(input.is_some()).is_empty()),
            control: control.map(|client| events_of(client.is_some())),
        })
    }
}

/// The result of poll(2).
struct Ready {
    signals: bool,
    path: [PollFlags; FDS],
    inputs: [bool; INPUTS],
    control: [PollFlags; control::FDS],
}

/// The answer to a request.
fn answer(
    request: &Request,
    peer: Peer,
    guest: &mut impl Guest,
    process: impl FnOnce() -> Process,
    now: Instant,
) -> Reply {
    match request {
        Request::Status => Answer::Status(Box::new(guest.describe(process(), now))).into(),
        Request::Mappings { addresses } => {
            let map = guest.path().map(PacketPath::map);
            let about = map.map(|map| Mappings::about(addresses, map));
            Answer::Mappings(about.unwrap_or_default()).into()
        }
        Request::Trace(filter) => trace(filter, peer, guest, now),
    }
}

/// The answer to a request for a trace. What packets carry is for root alone.
fn trace(filter: &Filter, peer: Peer, guest: &mut impl Guest, now: Instant) -> Reply {
    if !peer.is_root {
        return Answer::Error("only root may trace".to_owned()).into();
    }
    let Some(path) = guest.path_mut() else {
        let text = format!("there is no device to trace: {}", guest.status());
        return Answer::Error(text).into();
    };
    match path.trace(filter.clone(), peer.pid, now) {
        Ok(trace) => {
            guest.trace(filter);
            Reply {
                answer: Answer::Trace {},
                trace: Some(trace),
            }
        }
        Err(pid) => {
            let text = format!("process {pid} traces already, and there is one trace at a time");
            Answer::Error(text).into()
        }
    }
}

/// Logs the state and the packet counters.
fn report(guest: &impl Guest) {
    info!("{}", guest.status());
    match guest.path() {
        Some(path) => datapath::report(&path.packets(Instant::now())),
        None => info!("No packet has been translated yet"),
    }
}

const NO_EVENTS: PollFlags = PollFlags::empty();
const MILLISECOND: Duration = Duration::from_millis(1);
