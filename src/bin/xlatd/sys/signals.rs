//! Signals, as input like any other.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

use nix::sys::signal::{SigSet, Signal as NixSignal};
use signal_hook::{
    consts::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2},
    iterator::{backend::SignalDelivery, exfiltrator::SignalOnly},
};

/// The signals that ask to stop. Whoever starts xlatd may have ignored them, which is inherited: they are taken back.
const STOP: [i32; 5] = [SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2];

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The end; with the number of the signal.
    Stop(i32),
    /// SIGHUP.
    Reload,
}

/// Signals that have come in; readable when there are some.
pub(crate) struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
}

impl Signals {
    /// From now on signals are caught.
    pub(crate) fn new() -> io::Result<Self> {
        // Whoever starts xlatd may have blocked them, which is inherited like ignoring them.
        let mut blocked = SigSet::empty();
        for &signal in STOP.iter().chain(&[SIGHUP]) {
            blocked.add(NixSignal::try_from(signal)?);
        }
        blocked.thread_unblock()?;
        let (read, write) = UnixStream::pair()?;
        let signals = STOP.iter().chain(&[SIGHUP]);
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, signals)?;
        Ok(Self { delivery })
    }

    /// What has come in since the last call; each signal at most once.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Signal> {
        self.delivery.pending().map(|signal| match signal {
            SIGHUP => Signal::Reload,
            signal => Signal::Stop(signal),
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use signal_hook::low_level::raise;

    use super::*;

    #[test]
    fn each_signal_is_taken_once_and_says_what_it_asks_for() {
        let mut signals = Signals::new().unwrap();
        assert_eq!(signals.take().next(), None);
        for signal in [SIGHUP, SIGHUP, SIGUSR1] {
            raise(signal).unwrap();
        }
        let mut taken: Vec<_> = signals.take().collect();
        taken.sort_by_key(|signal| *signal != Signal::Reload);
        assert_eq!(taken, [Signal::Reload, Signal::Stop(SIGUSR1)]);
        assert_eq!(signals.take().next(), None);
    }
}
