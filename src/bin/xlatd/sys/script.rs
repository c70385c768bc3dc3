//! Commands of the administrator, by sh(1).

use std::{
    io,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A command that was started. It goes on when this is gone, but is not left a zombie.
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

    /// Waits until it ends, but not longer than that.
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
