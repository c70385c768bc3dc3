//! Command lines: their arguments, the configurations that they name, and the daemons they start.

pub(crate) mod ask;
pub(crate) mod clat;
pub(crate) mod clatd;
pub(crate) mod commands;
mod doctor;
mod explain;
pub(crate) mod metrics;
mod running;
pub(crate) mod status;
pub(crate) mod tayga;
pub(crate) mod trace;
pub(crate) mod translator;

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
};

use crate::{cli::tayga::Name, error::Error};

/// Writes a line to stderr, if that is possible.
pub(crate) fn say(name: Name, line: &str) {
    let _ = writeln!(io::stderr(), "{}: {line}", name.as_str());
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
    match io::stdout().write_all(text.as_bytes()) {
        // The reader closed the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::Print),
    }
}
