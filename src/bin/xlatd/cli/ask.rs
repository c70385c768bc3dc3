//! Asking daemons that run, by their control sockets.

use std::{
    fs,
    io::{self, BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use xlatd::report::{
    control::{Answer, Request},
    status::{ReadFile, Status, fingerprint},
    trace::Filter,
};

use super::runtime_directory;
use crate::{
    error::Error,
    sys::{control_socket::connect_to, plain_file},
};

/// The time that a daemon has to answer. Others may be asking it, too.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The maximum length of an answer, in octets. None has a tenth of it.
const MAX_ANSWER_LEN: usize = 1 << 22;

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

/// The device that a socket is named after.
pub(crate) fn device_of(socket: &Path) -> String {
    let stem = socket.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// The sockets of these devices, or of all that are there.
pub(crate) fn sockets_of(devices: &[String]) -> Result<Vec<PathBuf>, Error> {
    match devices {
        [] => sockets(),
        _ => Ok(devices.iter().map(|device| socket_of(device)).collect()),
    }
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

/// Asks a daemon, which has this time for its answer.
fn ask_within(socket: &Path, request: &Request, timeout: Duration) -> Result<Answer, NoAnswer> {
    ask_by(&mut connect(socket, timeout)?, request, timeout)
}

/// Asks a daemon for a trace, and returns what it is read from.
pub(crate) fn trace(socket: &Path, filter: Filter) -> Result<impl BufRead + use<>, NoAnswer> {
    let mut stream = connect(socket, TIMEOUT)?;
    let request = Request::Trace(filter);
    let Answer::Trace {} = ask_by(&mut stream, &request, TIMEOUT)? else {
        return Err(NoAnswer::Failed(io::Error::other("expected a trace")));
    };
    // It may be long until a packet comes.
    let forever = stream.get_ref().set_read_timeout(None);
    forever.map_err(NoAnswer::Failed)?;
    Ok(stream)
}

fn ask_by(
    stream: &mut BufReader<UnixStream>,
    request: &Request,
    timeout: Duration,
) -> Result<Answer, NoAnswer> {
    let line = read_line(stream, request, timeout).map_err(NoAnswer::Failed)?;
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
    file.changed = match plain_file::read(file.path.as_ref()) {
        Ok(content) => Some(fingerprint(&content) != file.fingerprint),
        Err(error) if error.kind() == ErrorKind::NotFound => Some(true),
        Err(_) => None,
    };
}

fn connect(socket: &Path, timeout: Duration) -> Result<BufReader<UnixStream>, NoAnswer> {
    let connected = connect_to(socket, timeout).map(BufReader::new);
    connected.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => NoAnswer::NotRunning,
        ErrorKind::WouldBlock => NoAnswer::Failed(late(timeout)),
        _ => NoAnswer::Failed(error),
    })
}

/// Sends a request, and reads the line of its answer. Who answers may never come to an end.
fn read_line(
    stream: &mut BufReader<UnixStream>,
    request: &Request,
    timeout: Duration,
) -> io::Result<Vec<u8>> {
    let by = Instant::now() + timeout;
    stream.get_mut().write_all(request.to_line().as_bytes())?;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let left = by.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late(timeout));
        }
        stream.get_ref().set_read_timeout(Some(left))?;
        let more = match stream.fill_buf() {
            Ok([]) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(more) => more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(late(timeout)),
            // By a signal, as when it is stopped and goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = more.iter().position(|&octet| octet == b'\n');
        let len = end.map_or(more.len(), |end| end + 1);
        line.extend(&more[..len]);
        stream.consume(len);
        if line.len() > MAX_ANSWER_LEN {
            let text = format!("expected an answer of at most {MAX_ANSWER_LEN} octets");
            return Err(io::Error::other(text));
        }
    }
    Ok(line)
}

fn late(timeout: Duration) -> io::Error {
    let text = format!("no answer within {timeout:?}: is it stopped?");
    io::Error::new(ErrorKind::TimedOut, text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::thread;

    use super::*;

    /// A daemon that has been taken over may answer without end: root's memory is not for it.
    #[test]
    fn an_answer_without_end_is_not_read_to_its_end() {
        let (client, mut daemon) = UnixStream::pair().unwrap();
        let sender = thread::spawn(move || {
            let mut sent = 0;
            while let Ok(len) = daemon.write(&[b'x'; 65536]) {
                sent += len;
            }
            sent
        });
        let mut client = BufReader::new(client);
        let error = read_line(&mut client, &Request::Status, TIMEOUT).unwrap_err();
        assert!(error.to_string().contains("at most"), "{error}");
        drop(client);
        assert!(sender.join().unwrap() < 2 * MAX_ANSWER_LEN);
    }

    /// Nor is one that comes an octet at a time: each is in time, and the answer is not.
    #[test]
    fn an_answer_has_a_time_in_all() {
        let (client, mut daemon) = UnixStream::pair().unwrap();
        let sender = thread::spawn(move || {
            while daemon.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        let mut client = BufReader::new(client);
        let timeout = Duration::from_millis(50);
        let error = read_line(&mut client, &Request::Status, timeout).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(client);
        sender.join().unwrap();
    }
}
