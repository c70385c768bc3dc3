//! Leaving the terminal, once there is something to leave it for.

use std::{
    fs::File,
    io::{self, PipeWriter, Read, Write},
};

use nix::{
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
}

/// Goes on as another process. The one that was started waits until that is ready, or has ended.
pub(crate) fn detach() -> io::Result<Process> {
    let (mut reader, pipe) = io::pipe()?;
    // SAFETY: there is one thread, so that no lock is held in the child that nobody would ever release.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(pipe); // or there would be no end to wait for
            if reader.read(&mut [0])? == 1 {
                return Ok(Process::Started(0));
            }
            match waitpid(child, None)? {
                WaitStatus::Exited(_, status) => Ok(Process::Started(status)),
                status => Err(io::Error::other(format!("{status:?}"))),
            }
        }
        ForkResult::Child => {
            setsid()?;
            Ok(Process::Daemon(Readiness { pipe }))
        }
    }
}

impl Readiness {
    /// Says so, and lets go of the terminal and of the working directory. An error if nobody waits any more.
    pub(crate) fn tell(mut self, keep_stdout: bool) -> io::Result<()> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        chdir("/")?;
        self.pipe.write_all(&[1])?;
        dup2_stdin(&null)?;
        if !keep_stdout {
            dup2_stdout(&null)?;
        }
        dup2_stderr(&null)?;
        Ok(())
    }
}
