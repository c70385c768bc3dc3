//! Leaving the terminal, once there is something to leave it for.

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

/// Which of two processes this is.
pub(crate) enum Process {
    /// The one that was started. The other one is ready, or has ended with this exit status.
    Started(i32),
    /// The one that goes on.
    Daemon(Readiness),
}

/// Somebody is waiting for a process to be ready.
pub(crate) struct Readiness {
    pipe: PipeWriter,
    /// /dev/null, which a chroot may not have.
    null: File,
}

/// Goes on as another process. The one that was started waits until that is ready, or has ended.
pub(crate) fn detach() -> io::Result<Process> {
    let (mut reader, pipe) = io::pipe()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    // SAFETY: there is one thread, so that no lock is held in the child that nobody would ever release.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(pipe); // or there would be no end to wait for
            if reader.read(&mut [0])? == 1 {
                return Ok(Process::Started(0));
            }
            match waitpid(child, None)? {
                WaitStatus::Exited(_, status) => Ok(Process::Started(status)),
                WaitStatus::Signaled(_, signal, _) => {
                    Err(io::Error::other(format!("it was ended by {signal}")))
                }
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
    /// An error if nobody waits any more: whoever ended the process that was started wants no daemon either.
    pub(crate) fn is_awaited(&self) -> io::Result<()> {
        let mut place = [PollFd::new(self.pipe.as_fd(), PollFlags::empty())];
        match poll(&mut place, PollTimeout::ZERO)? {
            0 => Ok(()),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Says so, and lets go of the terminal and of the working directory.
    pub(crate) fn tell(mut self, keep_stdout: bool) -> io::Result<()> {
        chdir("/")?;
        // Who has gone in the meantime is not missed.
        let _ = self.pipe.write_all(&[1]);
        dup2_stdin(&self.null)?;
        if !keep_stdout {
            dup2_stdout(&self.null)?;
        }
        dup2_stderr(&self.null)?;
        Ok(())
    }
}
