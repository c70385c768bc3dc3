//! The command line of `xlatd clat`, that of clatd.

use std::{ffi::OsString, path::PathBuf};

use lexopt::{Arg, Parser, ValueExt};

/// The text of `xlatd clat --help`.
pub(crate) const HELP: &str = "\
Usage: xlatd clat [OPTION]... [KEY=VALUE]...
       clatd [OPTION]... [KEY=VALUE]...

IPv4 on IPv6-only networks (464XLAT CLAT). Runs until a signal ends it, and
needs no configuration. Keys are those of /etc/clatd.conf; see xlatd-clat(8).

  -c, --config FILE  read FILE instead of /etc/clatd.conf
  -d, --debug        log debug messages and packets
  -q, --quiet        log warnings only
      --cleanup      undo the set-up of a CLAT that was killed, and exit
  -h, --help         print this help and exit
  -V, --version      print the version and exit
";

/// The default configuration, which is optional.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/clatd.conf";

/// A parsed command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClatdArguments {
    pub(crate) command: ClatdCommand,
    /// `None`: the default configuration, if it exists.
    pub(crate) config: Option<PathBuf>,
    /// Keys and values; of several with the same key the last one counts.
    pub(crate) keys: Vec<(String, String)>,
}

/// A command of `xlatd clat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ClatdCommand {
    #[default]
    Run,
    CleanUp,
    Help,
    Version,
}

impl ClatdArguments {
    /// Reads the arguments after `clat`, or after the name `clatd`.
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item: Into<OsString>>,
    ) -> Result<Self, lexopt::Error> {
        let mut parsed = Self::default();
        let mut set = |key: &str, value: &str| parsed.keys.push((key.to_owned(), value.to_owned()));
        let mut parser = Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Short('c') | Arg::Long("config") => {
                    parsed.config = Some(parser.value()?.parse()?);
                }
                Arg::Short('d') | Arg::Long("debug") => set("debug", "1"),
                Arg::Short('q') | Arg::Long("quiet") => set("quiet", "1"),
                Arg::Long("cleanup") => parsed.command = ClatdCommand::CleanUp,
                Arg::Short('h') | Arg::Long("help") => {
                    parsed.command = ClatdCommand::Help;
                    return Ok(parsed);
                }
                Arg::Short('V') | Arg::Long("version") => {
                    parsed.command = ClatdCommand::Version;
                    return Ok(parsed);
                }
                Arg::Value(word) => {
                    let word: String = word.parse()?;
                    let (key, value) = word
                        .split_once('=')
                        .ok_or_else(|| format!("expected key=value, found {word:?}"))?;
                    set(key, value);
                }
                other => return Err(other.unexpected()),
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn parse(arguments: &[&str]) -> Result<ClatdArguments, String> {
        ClatdArguments::parse(arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn parses_options_and_keys() {
        let all = parse(&["-q", "-dd", "-c", "file", "clat-dev=x", "plat-dev="]).unwrap();
        assert_eq!(all.config, Some("file".into()));
        let keys: Vec<_> = all.keys.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(
            keys,
            [
                ("quiet", "1"),
                ("debug", "1"),
                ("debug", "1"),
                ("clat-dev", "x"),
                ("plat-dev", ""),
            ]
        );
        assert_eq!(parse(&["--help"]).unwrap().command, ClatdCommand::Help);
        assert_eq!(
            parse(&["word"]),
            Err("expected key=value, found \"word\"".to_owned())
        );
        assert!(parse(&["-x"]).is_err());
    }
}
