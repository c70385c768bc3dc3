//! The command `xlatd status`.

use std::{
    ffi::OsString,
    io::{self, ErrorKind, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use lexopt::{Arg, Parser, ValueExt};
use xlatd::report::status::{Status, changes, text};

use super::{
    ask::{self, NoAnswer},
    print, printable, prints, say,
    tayga::Name,
    usage,
};
use crate::error::Error;

/// The text of `xlatd status --help`.
pub(crate) const HELP: &str = "\
Usage: xlatd status [OPTION]... [DEVICE]

Says how the translator or CLAT of DEVICE is, or else all that run. DEVICE is
the name of a TUN device, or the path of a control socket. See xlatd-status(8).

      --json         print the same as JSON: an object, or a list without DEVICE
      --watch        print it again each second, with rates
  -h, --help         print this help and exit
  -V, --version      print the version and exit

Exit status: 0 it works, 1 it runs and cannot translate, 2 it does not run.
";

/// What `--watch` puts before each status on a terminal: the cursor goes home, and what is below it
/// is cleared (ECMA-48).
const HOME_AND_CLEAR: &str = "\x1b[H\x1b[J";

/// The exit status where nothing runs, or where it could not be asked.
const NOT_ASKED: u8 = 2;

const INTERVAL: Duration = Duration::from_secs(1);

/// A parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    device: Option<String>,
    json: bool,
    watch: bool,
}

/// Runs the command. Its exit status is that of the daemon that is worst.
pub(crate) fn run(words: Vec<OsString>) -> Result<ExitCode, Error> {
    let Some(arguments) = parse(words).map_err(usage("xlatd status --help"))? else {
        return Ok(ExitCode::SUCCESS);
    };
    if !arguments.watch {
        return show(&arguments);
    }
    let mut before = Vec::new();
    loop {
        let now = Instant::now();
        let screen = watch(&arguments, &mut before)?;
        let clear = if io::stdout().is_terminal() {
            HOME_AND_CLEAR
        } else {
            ""
        };
        let screen = clear.to_owned() + &printable(&screen);
        match io::stdout().write_all(screen.as_bytes()) {
            // The reader closed the pipe.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            result => result.map_err(Error::Print)?,
        }
        thread::sleep(INTERVAL.saturating_sub(now.elapsed()));
    }
}

/// Reads the arguments; `None`: what they asked for is printed.
fn parse(words: Vec<OsString>) -> Result<Option<Arguments>, lexopt::Error> {
    let mut arguments = Arguments::default();
    let mut parser = Parser::from_args(words);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("json") => arguments.json = true,
            Arg::Long("watch") => arguments.watch = true,
            argument if prints(&argument, HELP) => return Ok(None),
            Arg::Value(device) if arguments.device.is_none() => {
                arguments.device = Some(device.parse()?);
            }
            other => return Err(other.unexpected()),
        }
    }
    if arguments.json && arguments.watch {
        return Err("only one of --json and --watch can be given".into());
    }
    Ok(Some(arguments))
}

/// Prints the status of all that are asked.
fn show(arguments: &Arguments) -> Result<ExitCode, Error> {
    let mut found = Vec::new();
    let mut worst = None;
    let sockets = match ask::sockets_of(arguments.device.as_slice()) {
        Ok(sockets) => sockets,
        Err(error) => {
            say(Name::Xlatd, &error.report());
            return Ok(NOT_ASKED.into());
        }
    };
    for socket in sockets {
        let exit = match ask::status(&socket) {
            Ok(status) => {
                let exit = u8::from(!status.works);
                found.push(status);
                exit
            }
            // A crash has left it.
            Err(NoAnswer::NotRunning) if arguments.device.is_none() => continue,
            Err(no_answer) => {
                say_no_answer(&socket, &no_answer);
                NOT_ASKED
            }
        };
        worst = worst.max(Some(exit));
    }
    if arguments.json {
        print(&json(arguments, &found))?;
    } else {
        let texts: Vec<_> = found.iter().map(text).collect();
        print(&texts.join("\n"))?;
    }
    if worst.is_none() {
        say(Name::Xlatd, "no translator and no CLAT runs");
    }
    Ok(worst.unwrap_or(NOT_ASKED).into())
}

fn json(arguments: &Arguments, found: &[Status]) -> String {
    let json = match (&arguments.device, found) {
        (Some(_), []) => return String::new(),
        (Some(_), [status, ..]) => serde_json::to_string_pretty(status),
        (None, all) => serde_json::to_string_pretty(all),
    };
    // All keys are names, so this cannot fail.
    json.unwrap_or_default() + "\n"
}

/// The status of all that are asked, and the rates since the last time.
fn watch(
    arguments: &Arguments,
    before: &mut Vec<(PathBuf, Status, Instant)>,
) -> Result<String, Error> {
    let mut screen = String::new();
    let mut found = Vec::new();
    for socket in ask::sockets_of(arguments.device.as_slice())? {
        let now = Instant::now();
        match ask::status(&socket) {
            Ok(status) => {
                screen += &text(&status);
                let last = before.iter().find(|(path, ..)| *path == socket);
                if let Some((_, last, at)) = last {
                    let seconds = now.saturating_duration_since(*at).as_secs_f64();
                    screen += "  Rates\n";
                    screen += &changes(last, &status, seconds);
                }
                found.push((socket, status, now));
            }
            Err(NoAnswer::NotRunning) => {
                screen += &format!("{}: not running\n", socket.display());
            }
            Err(NoAnswer::Failed(error)) => {
                screen += &format!("{}: {error}\n", socket.display());
            }
        }
        screen += "\n";
    }
    *before = found;
    Ok(screen)
}

/// Says why a daemon gave no answer, and what to do.
pub(crate) fn say_no_answer(socket: &Path, reason: &NoAnswer) {
    say(Name::Xlatd, &no_answer(socket, reason));
}

/// Why a daemon gave no answer, and what to do.
pub(crate) fn no_answer(socket: &Path, reason: &NoAnswer) -> String {
    let socket = socket.display();
    match reason {
        NoAnswer::NotRunning => format!("{socket}: nothing runs there"),
        NoAnswer::Failed(error) if error.kind() == ErrorKind::PermissionDenied => {
            format!("{socket}: only root and the group of the socket may ask")
        }
        NoAnswer::Failed(error) => format!("{socket}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn parses_options() {
        let parsed = |words: &[&str]| {
            let words = words.iter().map(Into::into).collect();
            parse(words).map_err(|error| error.to_string())
        };
        let arguments = |device: Option<&str>, json, watch| Arguments {
            device: device.map(ToOwned::to_owned),
            json,
            watch,
        };
        for (words, expected) in [
            (&[][..], arguments(None, false, false)),
            (&["nat64"], arguments(Some("nat64"), false, false)),
            (&["--json", "clat"], arguments(Some("clat"), true, false)),
            (&["--watch"], arguments(None, false, true)),
        ] {
            assert_eq!(parsed(words), Ok(Some(expected)), "{words:?}");
        }
        for words in [&["a", "b"][..], &["-x"], &["--json", "--watch"]] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }
}
