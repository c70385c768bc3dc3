//! Command lines: their arguments, the configurations that they name, and the daemons they start.

pub(crate) mod ask;
pub(crate) mod clat;
pub(crate) mod clatd;
pub(crate) mod commands;
mod container;
mod doctor;
mod explain;
pub(crate) mod metrics;
mod running;
pub(crate) mod status;
pub(crate) mod tayga;
pub(crate) mod trace;
pub(crate) mod translator;

use std::{
    borrow::Cow,
    env,
    io::{self, Write},
    path::PathBuf,
};

use lexopt::Arg;

use crate::{cli::tayga::Name, error::Error};

/// Writes a line to stderr, if that is possible.
pub(crate) fn say(name: Name, line: &str) {
    let _ = writeln!(io::stderr(), "{}: {}", name.as_str(), printable(line));
}

/// What `--version` prints.
const VERSION: &str = concat!("xlatd ", env!("CARGO_PKG_VERSION"), "\n");

/// Prints the help or the version, if an argument asks for one. Returns whether it does.
fn prints(argument: &Arg<'_>, help: &str) -> bool {
    let text = match argument {
        Arg::Short('h') | Arg::Long("help") => help,
        Arg::Short('V') | Arg::Long("version") => VERSION,
        _ => return false,
    };
    let _ = print(text);
    true
}

/// Makes an [`Error::Usage`] of the cause, for `map_err`. `help` is the command that explains it.
fn usage(help: &'static str) -> impl Fn(lexopt::Error) -> Error {
    move |error| Error::Usage { help, error }
}

/// The directory of undo journals and control sockets: that of the service (systemd.exec(5),
/// RuntimeDirectory=).
fn runtime_directory() -> PathBuf {
    let given = env::var_os("RUNTIME_DIRECTORY")
        .and_then(|directories| env::split_paths(&directories).next())
        .filter(|path| path.is_absolute());
    given.unwrap_or_else(|| "/run/xlatd".into())
}

fn print(text: &str) -> Result<(), Error> {
    match io::stdout().write_all(printable(text).as_bytes()) {
        // The reader closed the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::Print),
    }
}

/// A text without the characters by which it could command the terminal of whoever reads it
/// (ECMA-48): a daemon that has been taken over has a part in it, and so has whoever runs a program
/// by this name.
fn printable(text: &str) -> Cow<'_, str> {
    let commands = |char: char| char.is_control() && !matches!(char, '\n' | '\t');
    match text.contains(commands) {
        true => text.replace(commands, "\u{fffd}").into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_commands_the_terminal() {
        let lines = "nat64: é\n\tup\n";
        assert!(matches!(printable(lines), Cow::Borrowed(text) if text == lines));
        // ESC [, the same as one character, BEL, BS and DEL.
        let hostile = "\x1b[2J\u{9b}2J\x07\x08\x7f\r";
        assert_eq!(
            printable(hostile),
            "\u{fffd}[2J\u{fffd}2J".to_owned() + &"\u{fffd}".repeat(4)
        );
    }
}
