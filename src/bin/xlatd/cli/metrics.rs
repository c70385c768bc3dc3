//! The command `xlatd metrics`.

use std::{
    ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode, thread, time::Duration,
};

use lexopt::{Arg, Parser, ValueExt};
use xlatd::report::metrics::{Asked, Format, http, text};

use super::{
    ask::{self, NoAnswer},
    print, prints, say,
    status::no_answer,
    tayga::Name,
    usage,
};
use crate::{daemon::exporter::Exporter, error::Error};

/// The text of `xlatd metrics --help`.
pub(crate) const HELP: &str = "\
Usage: xlatd metrics [OPTION]... [DEVICE]...

Prints metrics of the translators and CLATs of DEVICEs, or else of all that run,
for the textfile collector of node_exporter. DEVICE is the name of a TUN device,
or the path of a control socket. See xlatd-metrics(8).

      --listen ADDRESS:PORT
                     serve them over HTTP at /metrics instead, and ask anew at
                     each scrape
      --openmetrics  print the OpenMetrics format, not that of Prometheus
  -h, --help         print this help and exit
  -V, --version      print the version and exit

Exit status: 0 also if none runs, 1 if that cannot be known.
";

/// The maximum number of daemons that are asked at the same time.
const MAX_AT_ONCE: usize = 32;

/// The time that a daemon has to answer: a scrape has 10 s in all.
const TIMEOUT: Duration = Duration::from_secs(4);

/// A parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    devices: Vec<String>,
    listen: Option<SocketAddr>,
    open_metrics: bool,
}

/// Runs the command.
pub(crate) fn run(words: Vec<OsString>) -> Result<ExitCode, Error> {
    let Some(arguments) = parse(words).map_err(usage("xlatd metrics --help"))? else {
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(address) = arguments.listen {
        serve(&arguments.devices, address)?;
    }
    let (asked, complaints) = ask_all(&ask::sockets_of(&arguments.devices)?);
    complaints.iter().for_each(|line| say(Name::Xlatd, line));
    let format = match arguments.open_metrics {
        true => Format::OpenMetrics,
        false => Format::Prometheus,
    };
    print(&text(asked, format))?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the arguments; `None`: what they asked for is printed.
fn parse(words: Vec<OsString>) -> Result<Option<Arguments>, lexopt::Error> {
    let mut arguments = Arguments::default();
    let mut parser = Parser::from_args(words);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("listen") => arguments.listen = Some(parser.value()?.parse_with(address)?),
            Arg::Long("openmetrics") => arguments.open_metrics = true,
            argument if prints(&argument, HELP) => return Ok(None),
            Arg::Value(device) => {
                let device = device.string()?;
                let name = |device: &String| ask::device_of(&ask::socket_of(device));
                if arguments
                    .devices
                    .iter()
                    .any(|other| name(other) == name(&device))
                {
                    return Err(format!("{} is given twice", name(&device)).into());
                }
                arguments.devices.push(device);
            }
            other => return Err(other.unexpected()),
        }
    }
    if arguments.listen.is_some() && arguments.open_metrics {
        return Err("with --listen, a scrape says whether it takes --openmetrics".into());
    }
    Ok(Some(arguments))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let invalid = |_| format!("expected an address and a port, as [::1]:10464, found \"{text}\"");
    text.parse().map_err(invalid)
}

/// Asks all at once, so that one that hangs takes no time of the others. Returns what there is to
/// complain about, too.
fn ask_all(sockets: &[PathBuf]) -> (Vec<Asked>, Vec<String>) {
    let mut answers = Vec::new();
    // More at once than there ever are, and fewer than a service may start.
    for some in sockets.chunks(MAX_AT_ONCE) {
        thread::scope(|scope| {
            let asks = some.iter().map(|socket| {
                let ask = move || ask::status_within(socket, TIMEOUT);
                thread::Builder::new().spawn_scoped(scope, ask)
            });
            let asks: Vec<_> = asks.collect();
            answers.extend(asks.into_iter().map(|ask| match ask.map(|ask| ask.join()) {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(NoAnswer::NotRunning), // never: a panic ends the process
                Err(error) => Err(NoAnswer::Failed(error)),
            }));
        });
    }
    let mut complaints = Vec::new();
    let asked = sockets.iter().zip(answers).map(|(socket, answer)| Asked {
        device: ask::device_of(socket),
        status: match answer {
            Ok(status) => Some(status),
            Err(NoAnswer::NotRunning) => None,
            Err(failed) => {
                complaints.push(no_answer(socket, &failed));
                None
            }
        },
    });
    (asked.collect(), complaints)
}

/// Serves until the process is ended. Complains when there is something else to complain about.
fn serve(devices: &[String], address: SocketAddr) -> Result<(), Error> {
    ask::sockets_of(devices)?; // otherwise no scrape would ever succeed
    let mut complained = Vec::new();
    let answer = |format| match ask::sockets_of(devices) {
        Ok(sockets) => {
            let (asked, complaints) = ask_all(&sockets);
            if complained != complaints {
                complaints.iter().for_each(|line| say(Name::Xlatd, line));
                complained = complaints;
            }
            http::metrics(&text(asked, format), format)
        }
        Err(error) => http::unavailable(&error.report()),
    };
    match Exporter::listen(address)?.run(answer)? {}
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
        let arguments = |devices: &[&str], listen: Option<&str>, open_metrics| Arguments {
            devices: devices.iter().map(ToString::to_string).collect(),
            listen: listen.map(|address| address.parse().unwrap()),
            open_metrics,
        };
        for (words, expected) in [
            (&[][..], arguments(&[], None, false)),
            (
                &["--openmetrics", "nat64"],
                arguments(&["nat64"], None, true),
            ),
            (
                &["a", "/run/b.sock"],
                arguments(&["a", "/run/b.sock"], None, false),
            ),
            (
                &["--listen", "[::1]:10464"],
                arguments(&[], Some("[::1]:10464"), false),
            ),
            (
                &["--listen=127.0.0.1:0"],
                arguments(&[], Some("127.0.0.1:0"), false),
            ),
        ] {
            assert_eq!(parsed(words), Ok(Some(expected)), "{words:?}");
        }
        for (words, complaint) in [
            (&["a", "/tmp/a.sock"][..], "a is given twice"),
            (
                &["--listen", "localhost"],
                "as [::1]:10464, found \"localhost\"",
            ),
            (&["--listen", "[::1]:1", "--openmetrics"], "a scrape says"),
            (&["-x"], "invalid option '-x'"),
        ] {
            let error = parsed(words).unwrap_err();
            assert!(error.contains(complaint), "{words:?}: {error}");
        }
    }
}
