//! A trace of the packets: what the packet path records, a client of the control socket takes.

use std::{
    cell::RefCell,
    io::{self, Write},
    rc::Rc,
    time::{Instant, SystemTime},
};

use xlatd::{
    report::trace::{Filter, Recorder},
    translate::{Outcome, Packet},
};

/// The end of the packet path: a trace, while a client takes one. Without one, a packet costs two
/// comparisons.
#[derive(Default)]
pub(super) struct Trace {
    taken: Option<Taken>,
    /// The number of this worker, and that of all; zeros count as ones.
    worker: (u32, u32),
}

struct Taken {
    recorder: Rc<RefCell<Recorder>>,
    /// The process of the client.
    pid: i32,
}

/// The end of the client. The trace ends when it is dropped.
pub(crate) struct Traced(Rc<RefCell<Recorder>>);

impl Trace {
    /// Has what is traced from now on say that it is of this worker, of so many.
    pub(super) fn set_worker(&mut self, worker: u32, workers: u32) {
        self.worker = (worker, workers);
    }

    /// Whether a client takes a trace.
    pub(super) fn is_taken(&self) -> bool {
        let taken = self.taken.as_ref();
        taken.is_some_and(|taken| Rc::strong_count(&taken.recorder) > 1)
    }

    /// Adds a block of another worker, if it fits.
    pub(super) fn add(&self, block: &[u8]) {
        if let Some(taken) = &self.taken {
            taken.recorder.borrow_mut().queue().push(block);
        }
    }

    /// Starts a trace of a device, for a process. Fails with the process that takes one already.
    pub(super) fn start(
        &mut self,
        device: &str,
        filter: Filter,
        pid: i32,
        now: Instant,
    ) -> Result<Traced, i32> {
        self.end_if_left();
        if let Some(taken) = &self.taken {
            return Err(taken.pid);
        }
        let (worker, workers) = self.worker;
        let worker = (worker.max(1), workers.max(1));
        let recorder = Recorder::of_worker(worker, device, filter, now);
        let recorder = Rc::new(RefCell::new(recorder));
        let traced = Traced(Rc::clone(&recorder));
        self.taken = Some(Taken { recorder, pid });
        Ok(traced)
    }

    /// Begins a turn, whose packets have the same time, or ends the trace if the client is gone.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        self.end_if_left();
        if let Some(taken) = &self.taken {
            let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            taken.recorder.borrow_mut().set_time(now, since_1970);
        }
    }

    fn end_if_left(&mut self) {
        self.taken
            .take_if(|taken| Rc::strong_count(&taken.recorder) == 1);
    }

    /// See [`Recorder::came`].
    pub(super) fn came(&self, packet: &Packet) {
        if self.taken.is_some() {
            self.record(|recorder| recorder.came(packet));
        }
    }

    /// See [`Recorder::segment`].
    pub(super) fn segment(&self, segment: &Packet) {
        if self.taken.is_some() {
            self.record(|recorder| recorder.segment(segment));
        }
    }

    /// See [`Recorder::decided`].
    pub(super) fn decided(&self, outcome: &Outcome<'_>) {
        if self.taken.is_some() {
            self.record(|recorder| recorder.decided(outcome));
        }
    }

    /// See [`Recorder::went`].
    pub(super) fn went(&self, packet: &Packet) {
        if self.taken.is_some() {
            self.record(|recorder| recorder.went(packet));
        }
    }

    #[cold]
    #[inline(never)]
    fn record(&self, what: impl FnOnce(&mut Recorder)) {
        if let Some(taken) = &self.taken {
            what(&mut taken.recorder.borrow_mut());
        }
    }
}

impl Traced {
    /// Whether there is something to write.
    pub(crate) fn waits(&self) -> bool {
        !self.0.borrow_mut().queue().is_empty()
    }

    /// Whether nothing more comes: the packet path is gone.
    pub(crate) fn is_over(&self) -> bool {
        Rc::strong_count(&self.0) == 1 && !self.waits()
    }

    /// Writes what `writer` takes at once.
    pub(crate) fn write_to(&mut self, mut writer: impl Write) -> io::Result<()> {
        let mut recorder = self.0.borrow_mut();
        let queue = recorder.queue();
        let len = writer.write(queue.front())?;
        queue.taken(len);
        Ok(())
    }
}
