//! Where messages go: a line each, written at once. Nobody who is slow to take them holds up packets.

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

/// Where syslogd(8) listens.
pub(crate) const SYSLOG: &str = "/dev/log";
/// Where systemd-journald(8) does, with its native protocol.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// A reader of stdout that takes no line for so long, in milliseconds, is not waited for any more.
const STALLED: u8 = 100;
/// As much goes into a pipe that is not full without waiting: PIPE_BUF, in octets.
const LINE_LEN: usize = 4096;

/// Where messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Stdout,
    Syslog,
    Journal,
}

/// Starts logging under a name; `debug` shows debug messages too. The environment has no say (RUST_LOG).
///
/// Nothing is wrong with a syslogd that is not there yet. The journal must be there.
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

/// Whether there is a syslogd.
pub(crate) fn has_syslog() -> bool {
    connect(SYSLOG).is_ok()
}

fn connect(path: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A message as its destination takes it.
///
/// Lines on stdout have no time and no name: whoever reads stdout of a service adds both.
fn message(destination: Destination, name: &str, level: Level, text: &str) -> Vec<u8> {
    match destination {
        Destination::Stdout => {
            let mut line = match level {
                Level::Error => format!("error: {text}"),
                Level::Warn => format!("warning: {text}"),
                _ => text.to_owned(),
            }
            .into_bytes();
            line.truncate(LINE_LEN - 1);
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
            // With its length in front, a value may hold anything.
            fields.extend((text.len() as u64).to_le_bytes());
            fields.extend(text.as_bytes());
            fields.push(b'\n');
            fields
        }
    }
}

/// RFC 3164 section 4.1.1.
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
    /// To syslogd or journald, if there is one.
    socket: Option<UnixDatagram>,
    /// Whether the reader of stdout has let us wait in vain.
    stalled: bool,
    /// Messages that nobody took since the last that somebody did.
    lost: u64,
}

impl Output {
    fn put(&mut self, message: &[u8]) -> io::Result<()> {
        match self.destination {
            Destination::Stdout => self.print(message),
            Destination::Syslog => {
                if let Some(socket) = &self.socket {
                    match socket.send(message) {
                        // A syslogd that was started again has another socket.
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
        let patience = if self.stalled { 0 } else { STALLED };
        let mut place = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
        self.stalled = poll(&mut place, PollTimeout::from(patience))? == 0;
        if self.stalled {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        write(&stdout, line)?;
        Ok(())
    }
}

impl Write for Output {
    /// Takes one message. One that cannot be passed on is counted, and it is said when one can.
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        if self.lost != 0 {
            let text = format!("{} messages before this one could not be logged", self.lost);
            let text = self::message(self.destination, self.name, Level::Warn, &text);
            if self.put(&text).is_ok() {
                self.lost = 0;
            }
        }
        if self.put(message).is_err() {
            self.lost += 1;
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
