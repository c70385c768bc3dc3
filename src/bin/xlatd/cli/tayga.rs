//! The command line of xlatd: the options of tayga, parsed like getopt_long(3).

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use lexopt::{Arg, Parser, ValueExt};

use crate::sys::log::Destination;

/// The text of `--help`.
pub(crate) const HELP: &str = "\
Usage: xlatd [OPTION]...
       xlatd check [-c FILE]
       xlatd clat [OPTION]... [KEY=VALUE]...
       xlatd container [OPTION]... [nat64 | clat]
       xlatd status [OPTION]... [DEVICE]
       xlatd explain [OPTION]... ADDRESS [ADDRESS]
       xlatd doctor [OPTION]... [DEVICE | clat]
       xlatd metrics [OPTION]... [DEVICE]...
       xlatd trace [OPTION]... [DEVICE] [FILTER]

xlatd is a stateless NAT64/SIIT translator, configured by tayga.conf.
xlatd check prints what a tayga.conf means, and changes nothing.
xlatd clat is a 464XLAT CLAT; see 'xlatd clat --help'.
xlatd container reads the environment instead; see 'xlatd container --help'.
xlatd status says how those are that run; see 'xlatd status --help'.
xlatd explain says what becomes of packets, and why; see 'xlatd explain --help'.
xlatd doctor says what keeps packets from passing; see 'xlatd doctor --help'.
xlatd metrics prints their figures for Prometheus; see 'xlatd metrics --help'.
xlatd trace shows packets as they come and as they go; see 'xlatd trace --help'.

  -c, --config FILE  read FILE instead of /etc/tayga.conf
  -d, --debug        stay in the foreground, log debug messages and packets
  -n, --nodetach     stay in the foreground
  -u, --user USER    become USER once packets can flow
  -g, --group GROUP  become a member of GROUP only; default: USER's group
  -r, --chroot       change the root directory to data-dir; needs --user
  -p, --pidfile FILE write the process id to FILE, and remove FILE at the end
      --syslog       log to syslog; default in the background
      --stdout       log to stdout; default with -d and -n
      --journal      log to the journal of systemd
      --mktun        create the TUN device, persistent, and exit
      --rmtun        remove the TUN device and exit
  -h, --help         print this help and exit
  -V, --version      print the version and exit
";

/// The default configuration.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/tayga.conf";

/// The name under which the program was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Xlatd,
    /// xlatd does as tayga, also where the two differ on purpose.
    Tayga,
    /// The same as `xlatd clat`.
    Clatd,
}

impl Name {
    /// The name in the first argument of execve(2).
    pub(crate) fn of(program: Option<&OsStr>) -> Self {
        match program.map(Path::new).and_then(Path::file_name) {
            Some(name) if name == "tayga" => Self::Tayga,
            Some(name) if name == "clatd" => Self::Clatd,
            _ => Self::Xlatd,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Xlatd => "xlatd",
            Self::Tayga => "tayga",
            Self::Clatd => "clatd",
        }
    }

    /// The command that prints the usage.
    pub(crate) fn help(self) -> &'static str {
        match self {
            Self::Xlatd => "xlatd --help",
            Self::Tayga => "tayga --help",
            Self::Clatd => "clatd --help",
        }
    }

    /// The command that prints the usage of a CLAT.
    pub(crate) fn clat_help(self) -> &'static str {
        match self {
            Self::Xlatd => "xlatd clat --help",
            _ => self.help(),
        }
    }
}

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TaygaArguments {
    pub(crate) command: TaygaCommand,
    /// The tayga.conf.
    pub(crate) config: PathBuf,
    pub(crate) debug: bool,
    /// Whether to stay in the foreground.
    pub(crate) foreground: bool,
    /// The destination of log messages.
    pub(crate) destination: Destination,
    /// The user to become, a name or a number.
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
    /// Whether to change the root directory to `data-dir`.
    pub(crate) chroot: bool,
    /// The file for the process id; a relative path starts at `data-dir`.
    pub(crate) pidfile: Option<PathBuf>,
    /// Ignored arguments, without empty ones: clatd passes one.
    pub(crate) ignored: Vec<OsString>,
}

/// A command of xlatd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaygaCommand {
    /// Translates.
    Run,
    /// Prints what the configuration means.
    Check,
    /// Creates the device.
    MakeTun,
    /// Removes the device.
    RemoveTun,
    Help,
    Version,
}

/// The effect of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Config,
    Debug,
    Foreground,
    User,
    Group,
    Chroot,
    PidFile,
    Destination(Destination),
    Command(TaygaCommand),
}

/// Long name, short name, effect.
const OPTIONS: [(&str, Option<char>, Effect); 14] = [
    ("config", Some('c'), Effect::Config),
    ("debug", Some('d'), Effect::Debug),
    ("nodetach", Some('n'), Effect::Foreground),
    ("user", Some('u'), Effect::User),
    ("group", Some('g'), Effect::Group),
    ("chroot", Some('r'), Effect::Chroot),
    ("pidfile", Some('p'), Effect::PidFile),
    ("syslog", None, Effect::Destination(Destination::Syslog)),
    ("stdout", None, Effect::Destination(Destination::Stdout)),
    ("journal", None, Effect::Destination(Destination::Journal)),
    ("mktun", None, Effect::Command(TaygaCommand::MakeTun)),
    ("rmtun", None, Effect::Command(TaygaCommand::RemoveTun)),
    ("help", Some('h'), Effect::Command(TaygaCommand::Help)),
    ("version", Some('V'), Effect::Command(TaygaCommand::Version)),
];

impl TaygaArguments {
    /// Parses the arguments after the name of the program. `--help` and `--version` end parsing.
    pub(crate) fn parse(
        name: Name,
        arguments: impl IntoIterator<Item: Into<OsString>>,
    ) -> Result<Self, lexopt::Error> {
        let mut parsed = Self {
            command: TaygaCommand::Run,
            config: DEFAULT_CONFIG.into(),
            debug: false,
            foreground: false,
            destination: Destination::Stdout,
            user: None,
            group: None,
            chroot: false,
            pidfile: None,
            ignored: Vec::new(),
        };
        let mut destination = None;
        let mut first = name == Name::Xlatd; // tayga has no commands
        let mut parser = Parser::from_args(arguments);
        parser.set_short_equals(false); // getopt's `-c=x` is the file `=x`
        while let Some(argument) = parser.next()? {
            let effect = match argument {
                Arg::Short(short) => by_short_name(short)?,
                Arg::Long(long) => by_long_name(long)?,
                Arg::Value(value) => {
                    if first && value == "check" {
                        parsed.set_command(TaygaCommand::Check)?;
                    } else if !value.is_empty() {
                        parsed.ignored.push(value);
                    }
                    first = false;
                    continue;
                }
            };
            match effect {
                Effect::Config => parsed.config = parser.value()?.parse()?,
                Effect::Debug => {
                    parsed.debug = true;
                    parsed.foreground = true;
                }
                Effect::Foreground => parsed.foreground = true,
                Effect::User => parsed.user = Some(parser.value()?.parse()?),
                Effect::Group => parsed.group = Some(parser.value()?.parse()?),
                Effect::Chroot => parsed.chroot = true,
                Effect::PidFile => parsed.pidfile = Some(parser.value()?.parse()?),
                Effect::Destination(asked_for) => destination = Some(asked_for),
                Effect::Command(command @ (TaygaCommand::Help | TaygaCommand::Version)) => {
                    parsed.command = command;
                    return Ok(parsed);
                }
                Effect::Command(command) => parsed.set_command(command)?,
            }
        }
        let becomes = parsed.user.is_some() || parsed.group.is_some() || parsed.chroot;
        if becomes && parsed.command != TaygaCommand::Run {
            return Err("--user, --group and --chroot are for a daemon only".into());
        }
        // Unlike xlatd, tayga logs to syslog with --nodetach.
        let on_terminal = parsed.debug || parsed.foreground && name == Name::Xlatd;
        parsed.destination = destination.unwrap_or(match parsed.command {
            TaygaCommand::Run if !on_terminal => Destination::Syslog,
            _ => Destination::Stdout,
        });
        Ok(parsed)
    }

    fn set_command(&mut self, command: TaygaCommand) -> Result<(), lexopt::Error> {
        if !matches!(self.command, TaygaCommand::Run) && self.command != command {
            return Err("only one of --mktun, --rmtun and check can be done at a time".into());
        }
        self.command = command;
        Ok(())
    }
}

fn by_short_name(name: char) -> Result<Effect, lexopt::Error> {
    OPTIONS
        .iter()
        .find(|(_, short, _)| *short == Some(name))
        .map(|&(_, _, effect)| effect)
        .ok_or_else(|| Arg::Short(name).unexpected())
}

/// The option of this name, or the only one that it abbreviates.
fn by_long_name(name: &str) -> Result<Effect, lexopt::Error> {
    let matching: Vec<_> = match OPTIONS.iter().find(|(long, _, _)| *long == name) {
        Some(option) => vec![option],
        None => OPTIONS
            .iter()
            .filter(|(long, _, _)| long.starts_with(name))
            .collect(),
    };
    match *matching {
        [&(_, _, effect)] => Ok(effect),
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

    fn parse(arguments: &[&str]) -> Result<TaygaArguments, String> {
        parse_as(Name::Xlatd, arguments)
    }

    fn parse_as(name: Name, arguments: &[&str]) -> Result<TaygaArguments, String> {
        TaygaArguments::parse(name, arguments).map_err(|error| error.to_string())
    }

    fn defaults() -> TaygaArguments {
        TaygaArguments {
            command: TaygaCommand::Run,
            config: "/etc/tayga.conf".into(),
            debug: false,
            foreground: false,
            destination: Destination::Syslog,
            user: None,
            group: None,
            chroot: false,
            pidfile: None,
            ignored: vec![],
        }
    }

    #[test]
    fn parses_options_like_getopt_long() {
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
            let expected = TaygaArguments {
                config: "file".into(),
                ..defaults()
            };
            assert_eq!(parse(config), Ok(expected), "{config:?}");
        }
        assert_eq!(parse(&["-c=x"]).unwrap().config.to_str(), Some("=x"));
        let bundled = TaygaArguments {
            config: "file".into(),
            debug: true,
            foreground: true,
            chroot: true,
            destination: Destination::Stdout,
            ..defaults()
        };
        assert_eq!(parse(&["-rdncfile"]), Ok(bundled));
        for pidfile in [
            &["-rpfile"][..],
            &["--ch", "-p", "file"],
            &["--chroot", "--pid=file"],
        ] {
            let expected = TaygaArguments {
                chroot: true,
                pidfile: Some("file".into()),
                ..defaults()
            };
            assert_eq!(parse(pidfile), Ok(expected), "{pidfile:?}");
        }
        for user in [
            &["-utayga", "-gnogroup"][..],
            &["--us", "tayga", "--g=nogroup"],
            &["-u", "x", "--user", "tayga", "-g", "nogroup"],
        ] {
            let expected = TaygaArguments {
                user: Some("tayga".into()),
                group: Some("nogroup".into()),
                ..defaults()
            };
            assert_eq!(parse(user), Ok(expected), "{user:?}");
        }
    }

    /// tayga logs to syslog without -d; xlatd logs to stdout with -n, too.
    #[test]
    fn chooses_the_log_destination() {
        use Destination::{Journal, Stdout, Syslog};
        for (arguments, xlatd, tayga) in [
            (&[][..], Syslog, Syslog),
            (&["-n"], Stdout, Syslog),
            (&["-d"], Stdout, Stdout),
            (&["-n", "--syslog"], Syslog, Syslog),
            (&["-d", "--sy"], Syslog, Syslog),
            (&["--stdout"], Stdout, Stdout),
            (&["--syslog", "--journal"], Journal, Journal),
            (&["-n", "--j", "--std"], Stdout, Stdout),
            (&["--mktun"], Stdout, Stdout),
            (&["--syslog", "--rmtun"], Syslog, Syslog),
        ] {
            for (name, expected) in [(Name::Xlatd, xlatd), (Name::Tayga, tayga)] {
                let parsed = parse_as(name, arguments).unwrap();
                assert_eq!(parsed.destination, expected, "{name:?} {arguments:?}");
            }
        }
        // --stdout does not imply the foreground; -d does.
        assert!(!parse(&["--stdout"]).unwrap().foreground);
        assert!(parse(&["-d"]).unwrap().foreground);
    }

    #[test]
    fn takes_the_name_from_the_end_of_the_path() {
        for (program, name) in [
            ("tayga", Name::Tayga),
            ("/usr/sbin/tayga", Name::Tayga),
            ("./tayga", Name::Tayga),
            ("xlatd", Name::Xlatd),
            ("/opt/tayga/xlatd", Name::Xlatd),
            ("tayga2", Name::Xlatd),
            ("", Name::Xlatd),
        ] {
            assert_eq!(Name::of(Some(program.as_ref())), name, "{program}");
        }
        assert_eq!(Name::of(None), Name::Xlatd);
    }

    /// clatd runs `--config F --mktun ""`, `--config F --nodetach ""` and `--config F --rmtun`.
    #[test]
    fn parses_the_command_lines_of_clatd() {
        use Destination::{Stdout, Syslog};
        for (last, command, foreground, destination) in [
            (&["--mktun", ""][..], TaygaCommand::MakeTun, false, Stdout),
            (&["--nodetach", ""], TaygaCommand::Run, true, Syslog),
            (&["--rmtun"], TaygaCommand::RemoveTun, false, Stdout),
        ] {
            let expected = TaygaArguments {
                command,
                config: "F".into(),
                foreground,
                destination,
                ..defaults()
            };
            let arguments = [&["--config", "F"], last].concat();
            assert_eq!(parse_as(Name::Tayga, &arguments), Ok(expected));
        }
    }

    #[test]
    fn only_the_first_positional_argument_is_a_command() {
        let command = |arguments: &[&str]| parse(arguments).unwrap().command;
        assert_eq!(command(&["check"]), TaygaCommand::Check);
        assert_eq!(command(&["-d", "check", "x"]), TaygaCommand::Check);
        assert_eq!(command(&["--", "check"]), TaygaCommand::Check);
        let ignored = parse(&["", "check", "-d", "", "--", "-x"]).unwrap();
        assert_eq!(ignored.command, TaygaCommand::Run);
        assert_eq!(ignored.ignored, ["check", "-x"]);
        assert!(ignored.debug);
        let tayga = parse_as(Name::Tayga, &["check", ""]).unwrap();
        assert_eq!(tayga.command, TaygaCommand::Run);
        assert_eq!(tayga.ignored, ["check"]);
    }

    #[test]
    fn help_and_version_end_parsing() {
        assert_eq!(
            parse(&["-dh", "--bad"]).unwrap().command,
            TaygaCommand::Help
        );
        assert_eq!(
            parse(&["--vers", "--bad"]).unwrap().command,
            TaygaCommand::Version
        );
    }

    #[test]
    fn reports_mistakes() {
        let daemon = "--user, --group and --chroot are for a daemon only";
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
            (&["--s"], "--s is ambiguous: --syslog or --stdout?"),
            (&["--mktun", "--rmtun"], one),
            (&["check", "--mktun"], one),
            (&["--c=x"], "--c is ambiguous: --config or --chroot?"),
            (&["--mktun", "-u", "nobody"], daemon),
            (&["-r", "--rmtun"], daemon),
            (&["-gdaemon", "check"], daemon),
            (
                &["--chr=x"],
                "unexpected argument for option '--chr': \"x\"",
            ),
            (&["-p"], "missing argument for option '-p'"),
        ] {
            assert_eq!(parse(arguments), Err(message.to_owned()), "{arguments:?}");
        }
    }

    /// tests/documents.rs compares the help with the manual page.
    #[test]
    fn the_help_has_every_option() {
        for (long, short, _) in OPTIONS {
            let names = match short {
                Some(short) => format!("  -{short}, --{long} "),
                None => format!("      --{long} "),
            };
            assert!(HELP.contains(&names), "--{long} in --help");
        }
    }
}
