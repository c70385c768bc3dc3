//! Detaching from the terminal (daemon(7)), once the daemon is ready.

use std::{
    fs::File,
    io::{self, PipeWriter, Read, Write},
    os::fd::AsFd,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid},
};

/// The two processes after [`detach`].
pub(crate) enum Process {
    /// The process that was started. The daemon is ready, or ended with this exit status.
    Started(i32),
    /// The daemon.
    Daemon(Readiness),
}

/// The pipe to the process that was started, which waits until the daemon is ready.
pub(crate) struct Readiness {
    pipe: PipeWriter,
    /// /dev/null, which a chroot may not have.
    null: File,
}

/// The destination of stdout after detaching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdout {
    Inherited,
    Null,
}

/// Forks the daemon. The process that was started waits until the daemon is ready or has ended.
pub(crate) fn detach() -> io::Result<Process> {
    let (mut reader, pipe) = io::pipe()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    // SAFETY: this process has one thread, so the child inherits no lock held by another thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(pipe); // the read below ends only when the child alone holds the pipe
            if reader.read(&mut [0])? == 1 {
                return Ok(Process::Started(0));
            }
            match waitpid(child, None)? {
                WaitStatus::Exited(_, status) => Ok(Process::Started(status)),
                WaitStatus::Signaled(_, signal, _) => Err(io::Error::other(format!(
                    "the daemon was killed by {signal}"
                ))),
                status => Err(io::Error::other(format!("{status:?}"))),
            }
        }
        ForkResult::Child => {
            setsid()?;
            Ok(Process::Daemon(Readiness { pipe, null }))
        }
    }
}

impl Readiness {
    /// Fails if the process that was started has been ended: then no daemon is wanted either.
    pub(crate) fn check_awaited(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(self.pipe.as_fd(), PollFlags::empty())];
        match poll(&mut fds, PollTimeout::ZERO)? {
            0 => Ok(()),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Reports the daemon as ready, and leaves the terminal and the working directory.
    pub(crate) fn report_ready(mut self, stdout: Stdout) -> io::Result<()> {
        // The daemon goes on even if the process that was started has ended by now.
        let _ = self.pipe.write_all(&[1]);
        self.leave(stdout)
    }

    /// Leaves the terminal and the working directory, and does not tell.
    pub(crate) fn leave(self, stdout: Stdout) -> io::Result<()> {
        chdir("/")?;
        dup2_stdin(&self.null)?;
        if stdout == Stdout::Null {
            dup2_stdout(&self.null)?;
        }
        dup2_stderr(&self.null)?;
        Ok(())
    }
}
