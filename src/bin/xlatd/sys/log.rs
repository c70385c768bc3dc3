//! Log output, one line a message, unbuffered. A slow log reader never blocks the packet path.

use std::{
    io::{self, Write},
    os::{fd::AsFd, unix::net::UnixDatagram},
    process,
};

use env_logger::{Builder, Target};
use log::{Level, LevelFilter};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::write,
};

/// The socket of syslogd(8).
pub(crate) const SYSLOG: &str = "/dev/log";
/// The socket of systemd-journald(8), for its native protocol.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// The longest wait for the reader of stdout, in milliseconds. After one such wait there is no
/// other until it reads again.
const STDOUT_TIMEOUT: u8 = 100;
/// The maximum length of a line on stdout, in octets: PIPE_BUF, which a pipe that poll(2) reports
/// as writable takes without blocking (pipe(7)).
const MAX_LINE_LEN: usize = 4096;

/// The destination of log messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Stdout,
    Syslog,
    Journal,
}

/// Starts logging under a name, with debug messages if `debug` is set. RUST_LOG is ignored.
///
/// Fails if the journal cannot be reached. A syslogd may start later.
pub(crate) fn start(destination: Destination, name: &'static str, debug: bool) -> io::Result<()> {
    let socket = match destination {
        Destination::Stdout => None,
        Destination::Syslog => connect(SYSLOG).ok(),
        Destination::Journal => Some(connect(JOURNAL)?),
    };
    let output = Output {
        destination,
        name,
        socket,
        stalled: false,
        lost: 0,
    };
    Builder::new()
        .filter_level(if debug {
            LevelFilter::Debug
        } else {
            LevelFilter::Info
        })
        .target(Target::Pipe(Box::new(output)))
        .format(move |line, record| {
            let text = record.args().to_string();
            line.write_all(&message(destination, name, record.level(), &text))
        })
        .init();
    Ok(())
}

/// Whether syslogd can be reached.
pub(crate) fn has_syslog() -> bool {
    connect(SYSLOG).is_ok()
}

fn connect(path: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Formats a message for its destination.
///
/// Lines on stdout have no time and no name: a service manager that reads them adds both.
fn message(destination: Destination, name: &str, level: Level, text: &str) -> Vec<u8> {
    match destination {
        Destination::Stdout => {
            let mut line = match level {
                Level::Error => format!("error: {text}"),
                Level::Warn => format!("warning: {text}"),
                _ => text.to_owned(),
            }
            .into_bytes();
            line.truncate(MAX_LINE_LEN - 1);
            line.push(b'\n');
            line
        }
        Destination::Syslog => {
            const DAEMON: u8 = 3; // the facility (RFC 3164 section 4.1.1)
            let priority = DAEMON * 8 + severity(level);
            format!("<{priority}>{name}[{}]: {text}", process::id()).into_bytes()
        }
        Destination::Journal => {
            let priority = severity(level);
            let mut fields =
                format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER={name}\nMESSAGE\n").into_bytes();
            // A value that follows its length may contain any octets, newlines too.
            fields.extend((text.len() as u64).to_le_bytes());
            fields.extend(text.as_bytes());
            fields.push(b'\n');
            fields
        }
    }
}

/// The severity of a level (RFC 3164 section 4.1.1).
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

struct Output {
    destination: Destination,
    name: &'static str,
    /// The connection to syslogd or journald.
    socket: Option<UnixDatagram>,
    /// Whether the last wait for the reader of stdout timed out.
    stalled: bool,
    /// The number of messages lost since the last one that was delivered.
    lost: u64,
}

impl Output {
    fn deliver(&mut self, message: &[u8]) -> io::Result<()> {
        match self.destination {
            Destination::Stdout => self.print(message),
            Destination::Syslog => {
                if let Some(socket) = &self.socket {
                    match socket.send(message) {
                        // A restarted syslogd has a new socket: reconnect.
                        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {}
                        result => return result.map(drop),
                    }
                }
                self.socket.insert(connect(SYSLOG)?).send(message).map(drop)
            }
            Destination::Journal => match &self.socket {
                Some(socket) => socket.send(message).map(drop),
                None => Ok(()),
            },
        }
    }

    fn print(&mut self, line: &[u8]) -> io::Result<()> {
        let stdout = io::stdout();
        let timeout = if self.stalled { 0 } else { STDOUT_TIMEOUT };
        let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
        self.stalled = poll(&mut fds, PollTimeout::from(timeout))? == 0;
        if self.stalled {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        write(&stdout, line)?;
        Ok(())
    }
}

impl Write for Output {
    /// Writes one message. If it cannot be delivered it is counted as lost; the next message that
    /// can is preceded by the count.
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        if self.lost != 0 {
            let text = format!("{} messages before this one could not be logged", self.lost);
            let text = self::message(self.destination, self.name, Level::Warn, &text);
            if self.deliver(&text).is_ok() {
                self.lost = 0;
            }
        }
        if self.deliver(message).is_err() {
            self.lost += 1;
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
