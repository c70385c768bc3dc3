//! The administrator's commands, run by sh(1).

use std::{
    io,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A running command. Dropping this value does not end it, but reaps it if it has ended.
pub(crate) struct Script(Child);

impl Script {
    pub(crate) fn start(command: &str, environment: &[(String, String)]) -> io::Result<Self> {
        Command::new("/bin/sh")
            .args(["-c", command])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .spawn()
            .map(Self)
    }

    /// Waits until the command ends, or `timeout` has passed.
    pub(crate) fn wait(&mut self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while let Ok(None) = self.0.try_wait()
            && Instant::now() < deadline
        {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.0.try_wait();
    }
}
