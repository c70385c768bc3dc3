//! The command line: tayga's options, taken as getopt_long(3) takes them.

use std::{ffi::OsString, path::PathBuf};

use lexopt::{Arg, Parser, ValueExt};

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Usage: xlatd [OPTION]...
       xlatd check [-c FILE]

Translates between IPv4 and IPv6 as tayga.conf says.
check prints what a tayga.conf means and does nothing.

  -c, --config FILE  read FILE instead of /etc/tayga.conf
  -d, --debug        stay in the foreground, log debug messages and packets
  -n, --nodetach     stay in the foreground
  -p, --pidfile FILE write the process id to FILE, and remove it at the end
      --stdout       log to stdout, as always
      --mktun        make the TUN device, persistent, and exit
      --rmtun        remove the TUN device and exit
  -h, --help         print this and exit
  -V, --version      print the version and exit
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) command: Command,
    /// The tayga.conf.
    pub(crate) config: PathBuf,
    pub(crate) debug: bool,
    /// Whether it was said that xlatd should stay in the foreground.
    pub(crate) foreground: bool,
    /// Where to write the process id; relative to `data-dir`.
    pub(crate) pidfile: Option<PathBuf>,
    /// Arguments that mean nothing. Empty ones are not among them: clatd passes one.
    pub(crate) ignored: Vec<OsString>,
}

/// What xlatd is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Translate.
    Run,
    /// Print what the configuration means.
    Check,
    /// Make the device.
    MakeTun,
    /// Remove the device.
    RemoveTun,
    Help,
    Version,
}

/// What an option does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Config,
    Debug,
    Foreground,
    PidFile,
    /// What is so anyway.
    Nothing,
    Command(Command),
    /// An option of tayga that is not there yet. To ignore it would be worse than to refuse it: the process would have
    /// privileges, or log to places, that it was told not to.
    Missing,
}

/// Long name, short name, effect.
const OPTIONS: [(&str, Option<char>, Effect); 14] = [
    ("config", Some('c'), Effect::Config),
    ("debug", Some('d'), Effect::Debug),
    ("nodetach", Some('n'), Effect::Foreground),
    ("stdout", None, Effect::Nothing),
    ("mktun", None, Effect::Command(Command::MakeTun)),
    ("rmtun", None, Effect::Command(Command::RemoveTun)),
    ("help", Some('h'), Effect::Command(Command::Help)),
    ("version", Some('V'), Effect::Command(Command::Version)),
    ("user", Some('u'), Effect::Missing),
    ("group", Some('g'), Effect::Missing),
    ("chroot", Some('r'), Effect::Missing),
    ("pidfile", Some('p'), Effect::PidFile),
    ("syslog", None, Effect::Missing),
    ("journal", None, Effect::Missing),
];

impl Arguments {
    /// Reads the arguments after the name of the program. `--help` and `--version` count as soon as they are read.
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item: Into<OsString>>,
    ) -> Result<Self, lexopt::Error> {
        let mut parsed = Self {
            command: Command::Run,
            config: "/etc/tayga.conf".into(),
            debug: false,
            foreground: false,
            pidfile: None,
            ignored: Vec::new(),
        };
        let mut first = true;
        let mut parser = Parser::from_args(arguments);
        parser.set_short_equals(false); // getopt's `-c=x` is the file `=x`
        while let Some(argument) = parser.next()? {
            let (option, effect) = match argument {
                Arg::Short(short) => by_short_name(short)?,
                Arg::Long(long) => by_long_name(long)?,
                Arg::Value(value) => {
                    if first && value == "check" {
                        parsed.set_command(Command::Check)?;
                    } else if !value.is_empty() {
                        parsed.ignored.push(value);
                    }
                    first = false;
                    continue;
                }
            };
            match effect {
                Effect::Config => parsed.config = parser.value()?.parse()?,
                Effect::Debug => parsed.debug = true,
                Effect::Foreground => parsed.foreground = true,
                Effect::PidFile => parsed.pidfile = Some(parser.value()?.parse()?),
                Effect::Nothing => {}
                Effect::Command(command @ (Command::Help | Command::Version)) => {
                    parsed.command = command;
                    return Ok(parsed);
                }
                Effect::Command(command) => parsed.set_command(command)?,
                Effect::Missing => {
                    return Err(format!(
                        "{option} is an option of tayga that this version of xlatd does not have"
                    )
                    .into());
                }
            }
        }
        Ok(parsed)
    }

    fn set_command(&mut self, command: Command) -> Result<(), lexopt::Error> {
        if !matches!(self.command, Command::Run) && self.command != command {
            return Err("only one of --mktun, --rmtun and check can be done at a time".into());
        }
        self.command = command;
        Ok(())
    }
}

fn by_short_name(name: char) -> Result<(String, Effect), lexopt::Error> {
    OPTIONS
        .iter()
        .find(|(_, short, _)| *short == Some(name))
        .map(|&(_, _, effect)| (format!("-{name}"), effect))
        .ok_or_else(|| Arg::Short(name).unexpected())
}

/// The option of this name, or the only one whose name starts so.
fn by_long_name(name: &str) -> Result<(String, Effect), lexopt::Error> {
    let matching: Vec<_> = match OPTIONS.iter().find(|(long, _, _)| *long == name) {
        Some(option) => vec![option],
        None => OPTIONS
            .iter()
            .filter(|(long, _, _)| long.starts_with(name))
            .collect(),
    };
    match *matching {
        [&(long, _, effect)] => Ok((format!("--{long}"), effect)),
        [] => Err(Arg::Long(name).unexpected()),
        _ => {
            let names: Vec<_> = matching.iter().map(|(long, _, _)| *long).collect();
            let names = names.join(" or --");
            Err(format!("--{name} is ambiguous: --{names}?").into())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    const MAN_PAGE: &str = include_str!("../man/xlatd.8");

    fn parse(arguments: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(arguments).map_err(|error| error.to_string())
    }

    fn defaults() -> Arguments {
        Arguments {
            command: Command::Run,
            config: "/etc/tayga.conf".into(),
            debug: false,
            foreground: false,
            pidfile: None,
            ignored: vec![],
        }
    }

    #[test]
    fn options_are_read_as_getopt_long_reads_them() {
        assert_eq!(parse(&[]), Ok(defaults()));
        for config in [
            &["-cfile"][..],
            &["-c", "file"],
            &["--config", "file"],
            &["--config=file"],
            &["--conf=file"],
            &["--co", "file"],
            &["-c", "other", "-cfile"],
        ] {
            let expected = Arguments {
                config: "file".into(),
                ..defaults()
            };
            assert_eq!(parse(config), Ok(expected), "{config:?}");
        }
        assert_eq!(parse(&["-c=x"]).unwrap().config.to_str(), Some("=x"));
        let bundled = Arguments {
            config: "file".into(),
            debug: true,
            foreground: true,
            ..defaults()
        };
        assert_eq!(parse(&["-dncfile"]), Ok(bundled));
        assert_eq!(parse(&["--stdout", "--std"]), Ok(defaults()));
        for pidfile in [
            &["-npfile"][..],
            &["-n", "-p", "file"],
            &["--nod", "--pid=file"],
        ] {
            let expected = Arguments {
                foreground: true,
                pidfile: Some("file".into()),
                ..defaults()
            };
            assert_eq!(parse(pidfile), Ok(expected), "{pidfile:?}");
        }
    }

    /// clatd runs `--config F --mktun ""`, `--config F --nodetach ""` and `--config F --rmtun`.
    #[test]
    fn the_command_lines_of_clatd() {
        for (last, command, foreground) in [
            (&["--mktun", ""][..], Command::MakeTun, false),
            (&["--nodetach", ""], Command::Run, true),
            (&["--rmtun"], Command::RemoveTun, false),
        ] {
            let expected = Arguments {
                command,
                config: "F".into(),
                foreground,
                ..defaults()
            };
            assert_eq!(parse(&[&["--config", "F"], last].concat()), Ok(expected));
        }
    }

    #[test]
    fn only_the_first_positional_argument_is_a_command() {
        let command = |arguments: &[&str]| parse(arguments).unwrap().command;
        assert_eq!(command(&["check"]), Command::Check);
        assert_eq!(command(&["-d", "check", "x"]), Command::Check);
        assert_eq!(command(&["--", "check"]), Command::Check);
        let ignored = parse(&["", "check", "-d", "", "--", "-x"]).unwrap();
        assert_eq!(ignored.command, Command::Run);
        assert_eq!(ignored.ignored, ["check", "-x"]);
        assert!(ignored.debug);
    }

    #[test]
    fn help_and_version_count_at_once() {
        assert_eq!(parse(&["-dh", "--bad"]).unwrap().command, Command::Help);
        assert_eq!(
            parse(&["--vers", "--bad"]).unwrap().command,
            Command::Version
        );
    }

    #[test]
    fn mistakes() {
        let missing = "is an option of tayga that this version of xlatd does not have";
        let one = "only one of --mktun, --rmtun and check can be done at a time";
        for (arguments, message) in [
            (&["-x"][..], "invalid option '-x'"),
            (&["--bad"], "invalid option '--bad'"),
            (&["--configs=x"], "invalid option '--configs'"),
            (&["-c"], "missing argument for option '-c'"),
            (&["--config"], "missing argument for option '--config'"),
            (
                &["--debug=1"],
                "unexpected argument for option '--debug': \"1\"",
            ),
            (&["--s"], "--s is ambiguous: --stdout or --syslog?"),
            (&["--mktun", "--rmtun"], one),
            (&["check", "--mktun"], one),
            (&["-u", "nobody"], &format!("-u {missing}")),
            (&["--chr=x"], &format!("--chroot {missing}")),
            (&["-p"], "missing argument for option '-p'"),
        ] {
            assert_eq!(parse(arguments), Err(message.to_owned()), "{arguments:?}");
        }
    }

    #[test]
    fn every_option_is_in_the_help_and_in_the_man_page() {
        for (long, short, effect) in OPTIONS {
            let names = match short {
                Some(short) => format!("  -{short}, --{long} "),
                None => format!("      --{long} "),
            };
            let has_item = MAN_PAGE.lines().any(|line| {
                line.starts_with(".It Fl ")
                    && line.split(',').any(|name| {
                        let name = name.trim_start_matches(".It").trim();
                        name == format!("Fl Fl {long}") || name == format!("Fl Fl {long} Ar file")
                    })
                    && short.is_none_or(|short| line.starts_with(&format!(".It Fl {short} ")))
            });
            let exists = effect != Effect::Missing;
            assert_eq!(HELP.contains(&names), exists, "--{long} in --help");
            assert_eq!(has_item, exists, "--{long} in xlatd.8");
            // What is refused is among the caveats.
            assert!(MAN_PAGE.contains(&format!("Fl Fl {long}")), "--{long}");
        }
    }
}
