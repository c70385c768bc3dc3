//! The command line of `xlatd clat`, which is clatd's.

use std::{ffi::OsString, path::PathBuf};

use lexopt::{Arg, Parser, ValueExt};

/// What `xlatd clat --help` prints.
pub(crate) const HELP: &str = "\
Usage: xlatd clat [OPTION]... [KEY=VALUE]...
       clatd [OPTION]... [KEY=VALUE]...

Gives IPv4 to a host in an IPv6-only network with a NAT64 (464XLAT), until it is stopped.
Nothing has to be configured. Keys are those of /etc/clatd.conf; see xlatd-clat(8).

  -c, --config FILE  read FILE instead of /etc/clatd.conf
  -d, --debug        log debug messages and packets
  -q, --quiet        log warnings only
      --cleanup      undo what one that was killed has left, and exit
  -h, --help         print this and exit
  -V, --version      print the version and exit
";

/// What is read if no other file is named; it need not be there.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/clatd.conf";

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) command: Command,
    /// `None`: the default one, if it is there.
    pub(crate) config: Option<PathBuf>,
    /// Keys and values. The last one counts.
    pub(crate) keys: Vec<(String, String)>,
}

/// What xlatd is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Command {
    #[default]
    Run,
    CleanUp,
    Help,
    Version,
}

impl Arguments {
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
                Arg::Long("cleanup") => parsed.command = Command::CleanUp,
                Arg::Short('h') | Arg::Long("help") => {
                    parsed.command = Command::Help;
                    return Ok(parsed);
                }
                Arg::Short('V') | Arg::Long("version") => {
                    parsed.command = Command::Version;
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

    fn parse(arguments: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn options_and_keys_are_read() {
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
        assert_eq!(parse(&["--help"]).unwrap().command, Command::Help);
        assert_eq!(
            parse(&["word"]),
            Err("expected key=value, found \"word\"".to_owned())
        );
        assert!(parse(&["-x"]).is_err());
    }
}
