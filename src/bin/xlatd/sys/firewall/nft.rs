//! Tables of nftables, changed by nft(8).

use std::{io, sync::OnceLock};

use super::run;

/// The program.
static PROGRAM: OnceLock<String> = OnceLock::new();

/// Has another program run than the nft of PATH. Only the first call counts.
pub(crate) fn use_program(program: &str) {
    let _ = PROGRAM.set(program.to_owned());
}

/// Puts a table of family inet in the place of one of the same name.
pub(crate) fn load(name: &str, text: &str) -> io::Result<()> {
    run(program(), &["-f", "-"], &in_place(name, text)).map(drop)
}

/// Whether it could be put there: by this kernel, and with our privileges.
pub(crate) fn check(name: &str, text: &str) -> io::Result<()> {
    run(program(), &["--check", "-f", "-"], &in_place(name, text)).map(drop)
}

/// One transaction: there is no moment without the table.
fn in_place(name: &str, text: &str) -> String {
    format!("table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n{text}}}\n")
}

/// Takes a table away, if it is there.
pub(crate) fn delete(name: &str) -> io::Result<()> {
    let script = format!("table inet {name}\ndelete table inet {name}\n");
    run(program(), &["-f", "-"], &script).map(drop)
}

/// Every chain, with what it is for.
pub(crate) fn chains() -> io::Result<String> {
    run(program(), &["list", "chains"], "")
}

fn program() -> &'static str {
    PROGRAM.get().map_or("nft", String::as_str)
}
