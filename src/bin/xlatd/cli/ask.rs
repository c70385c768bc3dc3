//! Asking daemons that run, by their control sockets.

use std::{
    fs,
    io::{self, BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use xlatd::report::{
    control::{Answer, Request},
    status::{ReadFile, Status, fingerprint},
    trace::Filter,
};

use super::runtime_directory;
use crate::error::Error;

/// The time that a daemon has to answer. Others may be asking it, too.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The reason why a daemon gave no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// None runs.
    NotRunning,
    /// Asking it failed.
    Failed(io::Error),
}

/// The socket of a device; its path, if that was given in place of the device.
pub(crate) fn socket_of(device: &str) -> PathBuf {
    if device.contains('/') {
        return device.into();
    }
    runtime_directory().join(format!("{device}.sock"))
}

/// The sockets that are there, by name.
pub(crate) fn sockets() -> Result<Vec<PathBuf>, Error> {
    let directory = runtime_directory();
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => {
            return Err(Error::List {
                path: directory,
                cause,
            });
        }
        Ok(entries) => entries,
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut sockets: Vec<_> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "sock")
        })
        .collect();
    sockets.sort();
    Ok(sockets)
}

/// Asks a daemon, and returns its answer.
pub(crate) fn ask(socket: &Path, request: &Request) -> Result<Answer, NoAnswer> {
    ask_within(socket, request, TIMEOUT)
}

/// Asks a daemon, which has this time for each piece of its answer.
fn ask_within(socket: &Path, request: &Request, timeout: Duration) -> Result<Answer, NoAnswer> {
    ask_by(&mut connect(socket, timeout)?, request)
}

/// Asks a daemon for a trace, and returns what it is read from.
pub(crate) fn trace(socket: &Path, filter: Filter) -> Result<impl BufRead + use<>, NoAnswer> {
    let mut stream = connect(socket, TIMEOUT)?;
    let Answer::Trace {} = ask_by(&mut stream, &Request::Trace(filter))? else {
        return Err(NoAnswer::Failed(io::Error::other("expected a trace")));
    };
    // It may be long until a packet comes.
    let forever = stream.get_ref().set_read_timeout(None);
    forever.map_err(NoAnswer::Failed)?;
    Ok(stream)
}

fn ask_by(stream: &mut BufReader<UnixStream>, request: &Request) -> Result<Answer, NoAnswer> {
    let line = read_line(stream, request).map_err(NoAnswer::Failed)?;
    let invalid = |text| NoAnswer::Failed(io::Error::other(text));
    match Answer::read(&line).map_err(invalid)? {
        Answer::Error(text) => Err(invalid(text)),
        answer => Ok(answer),
    }
}

/// Asks a daemon how it is, and looks whether its files have changed.
pub(crate) fn status(socket: &Path) -> Result<Status, NoAnswer> {
    status_in(ask(socket, &Request::Status)?)
}

/// The same, for those who cannot wait long.
pub(crate) fn status_within(socket: &Path, timeout: Duration) -> Result<Status, NoAnswer> {
    status_in(ask_within(socket, &Request::Status, timeout)?)
}

fn status_in(answer: Answer) -> Result<Status, NoAnswer> {
    let Answer::Status(mut status) = answer else {
        return Err(NoAnswer::Failed(io::Error::other("expected a status")));
    };
    let files = [&mut status.configuration, &mut status.maps.file];
    for file in files.into_iter().flatten() {
        look_at(file);
    }
    Ok(*status)
}

fn look_at(file: &mut ReadFile) {
    file.changed = match fs::read(&file.path) {
        Ok(content) => Some(fingerprint(&content) != file.fingerprint),
        Err(error) if error.kind() == ErrorKind::NotFound => Some(true),
        Err(_) => None,
    };
}

fn connect(socket: &Path, timeout: Duration) -> Result<BufReader<UnixStream>, NoAnswer> {
    let connected = UnixStream::connect(socket).and_then(|stream| {
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(BufReader::new(stream))
    });
    connected.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => NoAnswer::NotRunning,
        _ => NoAnswer::Failed(error),
    })
}

/// Sends a request, and reads the line of its answer.
fn read_line(stream: &mut BufReader<UnixStream>, request: &Request) -> io::Result<Vec<u8>> {
    stream.get_mut().write_all(request.to_line().as_bytes())?;
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line)?;
    if !line.ends_with(b"\n") {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}
