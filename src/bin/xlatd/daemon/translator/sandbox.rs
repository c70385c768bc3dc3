//! The sandbox of the translator.

use std::os::fd::BorrowedFd;

use log::{info, warn};

use crate::{
    daemon::translator::Daemon,
    sys::{
        pidfile::PidFile,
        sandbox::{self, Programs},
    },
};

impl Daemon {
    /// Restricts system calls and files, as far as the kernel supports it. Returns in words what is
    /// restricted. `control` is the directory of the control socket.
    pub(super) fn enter_sandbox(&self, control: Option<BorrowedFd<'_>>) -> String {
        if !self.config.sandbox {
            return "none (sandbox no)".to_owned();
        }
        let leases = self.path.lease_directory();
        let pidfile = self.pidfile.as_ref().and_then(PidFile::directory);
        let removable: Vec<_> = pidfile.into_iter().chain(control).collect();
        let files = match sandbox::restrict_files(leases, &removable) {
            Ok(true) => " and files".to_owned(),
            Ok(false) => "; none for files: the kernel has no landlock".to_owned(),
            Err(error) => format!("; none for files: {error}"),
        };
        match sandbox::restrict_calls(Programs::Denied) {
            Ok(()) => {
                info!("Sandbox: system calls{files}");
                format!("system calls{files}")
            }
            Err(error) => {
                warn!("No sandbox for system calls (seccomp): {error}");
                format!("none for system calls: {error}")
            }
        }
    }
}
