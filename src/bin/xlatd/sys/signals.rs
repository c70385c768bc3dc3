//! Signals, as input for poll(2).

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

/// Signals that stop the daemon. A parent process may have them ignored, which is inherited:
/// catching them undoes that.
const STOP: [i32; 5] = [SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2];

/// The request that a signal makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Stop the daemon; with the number of the signal.
    Stop(i32),
    /// Reload files (SIGHUP).
    Reload,
}

/// A queue of caught signals. Its descriptor is readable while there are any.
pub(crate) struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
}

impl Signals {
    /// Catches signals from now on.
    pub(crate) fn new() -> io::Result<Self> {
        // A parent process may have them blocked, which is inherited, too.
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

    /// Returns the signals caught since the last call, each at most once.
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
    fn each_signal_is_taken_once_as_its_request() {
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
