//! ufw(8), whose rules are kept in files of its own: only it can change them.

use std::{fs, io};

use super::program::run;

/// The file that has ENABLED=yes while ufw is at work; all users may read it.
const CONFIG: &str = "/etc/ufw/ufw.conf";

/// Whether it is installed and at work, as its configuration says.
pub(crate) fn is_enabled() -> bool {
    let text = fs::read_to_string(CONFIG).unwrap_or_default();
    text.lines()
        .any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes"))
}

/// The program ufw.
#[derive(Debug)]
pub(crate) struct Ufw {
    /// Its name or path.
    pub(crate) program: String,
}

impl Ufw {
    /// Adds a rule that lets pass what is forwarded from one device to another.
    pub(crate) fn allow(&self, from: &str, to: &str) -> io::Result<()> {
        self.change("prepend", from, to)
    }

    /// Deletes this rule.
    pub(crate) fn forget(&self, from: &str, to: &str) -> io::Result<()> {
        self.change("delete", from, to)
    }

    fn change(&self, how: &str, from: &str, to: &str) -> io::Result<()> {
        let arguments = ["route", how, "allow", "in", "on", from, "out", "on", to];
        run(&self.program, &arguments, "").map(drop)
    }
}
