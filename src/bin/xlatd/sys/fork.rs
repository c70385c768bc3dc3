//! Processes of this program (fork(2)).

use std::{
    io, process, thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{SigHandler, Signal, kill, signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, getppid},
};

/// The signals by which a service manager or a terminal ends all processes at once, and those of
/// the daemon: that is for the first one to do.
const OF_THE_FIRST: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// The interval of looks whether a process has ended.
const INTERVAL: Duration = Duration::from_millis(1);

/// The two processes after [`new_process`].
pub(crate) enum Forked {
    /// The one that called.
    Parent(Child),
    /// The new one, which ignores signals that are for the first.
    Child(Parent),
}

/// A process that was started.
pub(crate) struct Child(Pid);

/// The process that has started this one.
#[derive(Clone, Copy)]
pub(crate) struct Parent(Pid);

/// Starts a process that goes on here, as the caller does. The caller must have one thread.
pub(crate) fn new_process() -> io::Result<Forked> {
    let parent = Parent(Pid::this());
    // SAFETY: this process has one thread, so the child inherits no lock held by another thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Forked::Parent(Child(child))),
        ForkResult::Child => {
            for number in OF_THE_FIRST {
                // SAFETY: to ignore a signal runs nothing in its place.
                unsafe { signal(number, SigHandler::SigIgn) }?;
            }
            Ok(Forked::Child(parent))
        }
    }
}

impl Parent {
    /// Has the kernel kill this process when the parent has ended, also if it hangs. To be called
    /// again after each change of user, which undoes it (PR_SET_PDEATHSIG(2const)).
    pub(crate) fn end_with(self) -> io::Result<()> {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != self.0 {
            process::exit(1); // it has ended before
        }
        Ok(())
    }
}

impl Child {
    pub(crate) fn pid(&self) -> u32 {
        self.0.as_raw().unsigned_abs()
    }

    /// Waits until it has ended, and says how; `None` if it has not in this time.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<String> {
        let deadline = Instant::now() + timeout;
        loop {
            match waitpid(self.0, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, status)) => {
                    return Some(format!("has ended with status {status}"));
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    return Some(format!("was ended by {signal}"));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Some(format!("has ended: {errno}")),
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(INTERVAL);
        }
    }

    /// Kills it, and waits until it has ended.
    pub(crate) fn kill(&self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    /// Started by other means than fork(2), for which a test has too many threads.
    #[expect(clippy::zombie_processes, reason = "each is waited for by its number")]
    fn child(program: &str, argument: &str) -> Child {
        let child = process::Command::new(program)
            .arg(argument)
            .spawn()
            .unwrap();
        Child(Pid::from_raw(child.id().cast_signed()))
    }

    #[test]
    fn it_is_said_how_a_process_has_ended() {
        let long = Duration::from_secs(10);
        let ended = child("false", "").wait(long).unwrap();
        assert_eq!(ended, "has ended with status 1");
        let sleeps = child("sleep", "100");
        assert_eq!(sleeps.wait(Duration::from_millis(5)), None);
        kill(sleeps.0, Signal::SIGTERM).unwrap();
        assert_eq!(sleeps.wait(long).unwrap(), "was ended by SIGTERM");
        let sleeps = child("sleep", "100");
        sleeps.kill();
        assert!(kill(sleeps.0, None).is_err());
    }
}
