//! Command lines: their arguments, the configurations that they name, and the daemons they start.

pub(crate) mod clat;
pub(crate) mod clatd;
pub(crate) mod commands;
pub(crate) mod tayga;
pub(crate) mod translator;

use std::io::{self, Write};

use crate::{cli::tayga::Name, error::Error};

/// Writes a line to stderr, if that is possible.
pub(crate) fn say(name: Name, line: &str) {
    let _ = writeln!(io::stderr(), "{}: {line}", name.as_str());
}

fn print(text: &str) -> Result<(), Error> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader closed the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::Print),
    }
}
