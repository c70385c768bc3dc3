//! ufw(8), whose rules are kept in files of its own: only it can change them.

use std::{fs, io, sync::OnceLock};

/// The file that has ENABLED=yes while ufw is at work; all users may read it.
const CONFIG: &str = "/etc/ufw/ufw.conf";

/// The program.
static PROGRAM: OnceLock<String> = OnceLock::new();

/// Has another program run than the ufw of PATH. Only the first call counts.
pub(crate) fn use_program(program: &str) {
    let _ = PROGRAM.set(program.to_owned());
}

/// Whether it is installed and at work, as its configuration says.
pub(crate) fn is_enabled() -> bool {
    let text = fs::read_to_string(CONFIG).unwrap_or_default();
    text.lines()
        .any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes"))
}

/// Lets pass what is forwarded from one device to another.
pub(crate) fn allow(from: &str, to: &str) -> io::Result<()> {
    tell(&[
        "route", "prepend", "allow", "in", "on", from, "out", "on", to,
    ])
}

/// Does so no more.
pub(crate) fn forget(from: &str, to: &str) -> io::Result<()> {
    tell(&[
        "route", "delete", "allow", "in", "on", from, "out", "on", to,
    ])
}

fn tell(arguments: &[&str]) -> io::Result<()> {
    let program = PROGRAM.get().map_or("ufw", String::as_str);
    super::run(program, arguments, "").map(drop)
}
