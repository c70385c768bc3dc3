//! The command `xlatd trace`.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, BufRead, ErrorKind, IsTerminal, Write},
    num::NonZero,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use lexopt::{Arg, Parser, ValueExt};
use xlatd::report::{
    packet_log::Summary,
    trace::{Block, Blocks, Captured, Filter, WORDS},
};

use super::{
    ask::{self, NoAnswer},
    printable, prints, say,
    status::say_no_answer,
    tayga::Name,
    usage,
};
use crate::error::{Error, system};

/// The text of `xlatd trace --help`.
pub(crate) const HELP: &str = "\
Usage: xlatd trace [OPTION]... [DEVICE] [FILTER]

Shows the packets of the translator or CLAT of DEVICE as they come and as they
go, and why it drops some. DEVICE is the name of a TUN device, or the path of a
control socket, and may be left out where one runs. See xlatd-trace(8).

FILTER, of which a packet or its translation meets all:
  host ADDRESS[/LEN]   source or destination
  proto tcp|udp|icmp|N
  port N               source or destination
  family 4|6           the family as it came
  dropped              only what is dropped

  -w, --write FILE   write a pcapng file, and print nothing; \"-\" is stdout:
                     xlatd trace -w - | wireshark -k -i -
  -c, --count N      end after N packets in the file
  -h, --help         print this help and exit
  -V, --version      print the version and exit

Only root may trace.
";

/// A parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    device: Option<String>,
    filter: Filter,
    write: Option<PathBuf>,
    count: Option<NonZero<u64>>,
}

/// Runs the command, until the daemon ends the trace.
pub(crate) fn run(words: Vec<OsString>) -> Result<ExitCode, Error> {
    let Some(arguments) = parse(words).map_err(usage("xlatd trace --help"))? else {
        return Ok(ExitCode::SUCCESS);
    };
    let Some(socket) = socket(&arguments)? else {
        return Ok(ExitCode::FAILURE);
    };
    let mut stream = match ask::trace(&socket, arguments.filter) {
        Ok(stream) => stream,
        Err(no_answer) => {
            say_why_not(&socket, &no_answer);
            return Ok(ExitCode::FAILURE);
        }
    };
    let output = Output::open(arguments.write.as_deref())?;
    copy(&mut stream, output, arguments.count)
}

/// Reads the arguments; `None`: what they asked for is printed.
fn parse(words: Vec<OsString>) -> Result<Option<Arguments>, lexopt::Error> {
    let mut arguments = Arguments::default();
    let mut filter: Vec<String> = Vec::new();
    let mut parser = Parser::from_args(words);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('w') | Arg::Long("write") => {
                arguments.write = Some(parser.value()?.into());
            }
            Arg::Short('c') | Arg::Long("count") => {
                arguments.count = Some(parser.value()?.parse()?)
            }
            argument if prints(&argument, HELP) => return Ok(None),
            Arg::Value(word) => filter.push(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    if filter
        .first()
        .is_some_and(|word| !WORDS.contains(&word.as_str()))
    {
        arguments.device = Some(filter.remove(0));
    }
    arguments.filter = Filter::parse(filter.iter().map(String::as_str))?;
    Ok(Some(arguments))
}

/// The socket of the device, or of the only one that runs. `None`: it is said which there are.
fn socket(arguments: &Arguments) -> Result<Option<PathBuf>, Error> {
    if let Some(device) = &arguments.device {
        return Ok(Some(ask::socket_of(device)));
    }
    let mut sockets = ask::sockets()?;
    // A crash may have left some.
    sockets.retain(|socket| !matches!(ask::status(socket), Err(NoAnswer::NotRunning)));
    if sockets.len() > 1 {
        let names = sockets.iter().map(|socket| ask::device_of(socket));
        let names: Vec<_> = names.collect();
        say(
            Name::Xlatd,
            &format!("expected DEVICE: {} run", names.join(", ")),
        );
        return Ok(None);
    }
    let only = sockets.pop();
    if only.is_none() {
        say(Name::Xlatd, "no translator and no CLAT runs");
    }
    Ok(only)
}

fn say_why_not(socket: &Path, no_answer: &NoAnswer) {
    match no_answer {
        NoAnswer::Failed(error) if error.kind() == ErrorKind::PermissionDenied => {
            say(
                Name::Xlatd,
                &format!("{}: only root may trace", socket.display()),
            );
        }
        other => say_no_answer(socket, other),
    }
}

/// Where a trace goes.
enum Output {
    /// A pcapng file, or a pipe.
    File(Box<dyn Write>, PathBuf),
    /// A line a packet on stdout, with the time since the first one.
    Lines { first: Option<Duration> },
}

impl Output {
    fn open(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else {
            return Ok(Self::Lines { first: None });
        };
        if path != "-" {
            let mut options = OpenOptions::new();
            // What packets carry is for who traces: one that is there keeps its mode.
            let options = options.write(true).create(true).truncate(true).mode(0o600);
            let file = options.open(path).map_err(|cause| Error::Write {
                path: path.to_owned(),
                cause,
            });
            return Ok(Self::File(Box::new(file?), path.to_owned()));
        }
        // Unlike that of std, this one does not wait for the end of a line.
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Err(Error::Terminal);
        }
        let stdout = stdout.as_fd().try_clone_to_owned();
        let stdout = File::from(stdout.map_err(system("write to stdout"))?);
        Ok(Self::File(Box::new(stdout), path.to_owned()))
    }

    /// Puts a block there. Returns whether it can take more: the reader of a pipe may be gone.
    fn put(&mut self, block: &Block) -> Result<bool, Error> {
        let result = match self {
            Self::File(file, _) => file.write_all(&block.octets),
            Self::Lines { first } => match &block.packet {
                None => Ok(()),
                Some(packet) => {
                    let first = *first.get_or_insert(packet.time);
                    io::stdout().write_all(printable(&line(packet, first)).as_bytes())
                }
            },
        };
        match (result, self) {
            (Ok(()), _) => Ok(true),
            (Err(error), _) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            (Err(cause), Self::Lines { .. }) => Err(Error::Print(cause)),
            (Err(cause), Self::File(_, path)) => Err(Error::Write {
                path: path.clone(),
                cause,
            }),
        }
    }
}

/// A packet in a line, as the log has it, with what became of it.
fn line(packet: &Captured, first: Duration) -> String {
    let seconds = packet.time.saturating_sub(first).as_secs_f64();
    let Captured {
        interface, comment, ..
    } = packet;
    let summary = Summary::of(&packet.octets);
    format!("{seconds:.6} {interface}: {summary}: {comment}\n")
}

/// Copies the stream, block by block: a file is right whenever this is ended.
fn copy(
    stream: &mut impl BufRead,
    mut output: Output,
    count: Option<NonZero<u64>>,
) -> Result<ExitCode, Error> {
    let mut blocks = Blocks::default();
    let mut left = count.map(NonZero::get);
    loop {
        let octets = match stream.fill_buf() {
            Ok([]) => {
                say(
                    Name::Xlatd,
                    "the trace has ended: the translator has stopped, its device is gone, or \
                     nobody took the packets for 10 s",
                );
                return Ok(ExitCode::FAILURE);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            octets => octets.map_err(system("read the trace"))?,
        };
        let len = octets.len();
        blocks.push(octets);
        stream.consume(len);
        let invalid = |error| system("read the trace")(io::Error::other(error));
        while let Some(block) = blocks.next_block().map_err(invalid)? {
            if !output.put(&block)? {
                return Ok(ExitCode::SUCCESS);
            }
            if let Some(left) = &mut left
                && block.packet.is_some()
            {
                *left -= 1;
                if *left == 0 {
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::{env, fs, os::unix::fs::PermissionsExt, process};

    use super::*;

    /// xlatd-trace(8), SECURITY: a file that is made is its owner's alone.
    #[test]
    fn a_new_file_is_not_for_others() {
        let path = env::temp_dir().join(format!("xlatd-trace-{}", process::id()));
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        drop(Output::open(Some(&path)).unwrap());
        assert_eq!(mode(), 0o600);
        // Whoever made it before knows for whom it is.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        drop(Output::open(Some(&path)).unwrap());
        assert_eq!(mode(), 0o640);
        fs::remove_file(&path).unwrap();
    }

    fn parsed(line: &str) -> Result<Arguments, String> {
        let words = line.split_whitespace().map(Into::into).collect();
        let parsed = parse(words).map_err(|error| error.to_string())?;
        Ok(parsed.unwrap())
    }

    /// The device comes before the filter, and both may be left out; options stand anywhere.
    #[test]
    fn parses_device_filter_and_options() {
        let filter = |words: &str| Filter::parse(words.split_whitespace()).unwrap();
        for (line, device, words, write, count) in [
            ("", None, "", None, None),
            ("nat64", Some("nat64"), "", None, None),
            ("dropped", None, "dropped", None, None),
            (
                "nat64 host 192.0.2.1 port 53 proto udp dropped -w file.pcapng",
                Some("nat64"),
                "dropped proto udp port 53 host 192.0.2.1",
                Some("file.pcapng"),
                None,
            ),
            (
                "-c 5 -w - port 53",
                None,
                "port 53",
                Some("-"),
                NonZero::new(5),
            ),
            ("-w- /run/x.sock", Some("/run/x.sock"), "", Some("-"), None),
        ] {
            let expected = Arguments {
                device: device.map(ToOwned::to_owned),
                filter: filter(words),
                write: write.map(PathBuf::from),
                count,
            };
            assert_eq!(parsed(line), Ok(expected), "{line}");
        }
        for line in ["a b", "port", "-c 0", "-c x", "-x", "-w"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
