//! The command line of `xlatd explain`.

use std::{ffi::OsString, net::IpAddr, path::PathBuf};

use lexopt::{Arg, Parser, ValueExt};

use crate::cli::{clatd::ClatdArguments, prints};

/// The text of `xlatd explain --help`.
const HELP: &str = "\
Usage: xlatd explain [OPTION]... ADDRESS [ADDRESS]
       xlatd explain [OPTION]... --read FILE
       xlatd explain clat [OPTION]... [KEY=VALUE]... ADDRESS [ADDRESS]

Says what an address is in the other family, by which line of tayga.conf, and
what becomes of packets to and from it, or between two addresses, or in a
capture. With clat, that of a CLAT. See xlatd-explain(8).

  -c, --config FILE  read FILE instead of /etc/tayga.conf or /etc/clatd.conf
      --live DEVICE  by the mappings and leases of what runs on DEVICE
  -r, --read FILE    the packets of a pcap or pcapng file, or of stdin ('-')
      --mtu OCTETS   the MTU; default: that of the device, or else 1500
      --json         print the same as JSON, a document a line
  -h, --help         print this help and exit
  -V, --version      print the version and exit
";

/// A parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    /// Whether it is about a CLAT.
    pub(super) clat: bool,
    pub(super) config: Option<PathBuf>,
    /// Keys and values of a CLAT.
    pub(super) keys: Vec<(String, String)>,
    pub(super) live: Option<String>,
    pub(super) mtu: Option<u16>,
    pub(super) json: bool,
    pub(super) addresses: Vec<IpAddr>,
    /// The capture.
    pub(super) read: Option<PathBuf>,
}

/// The command that explains the arguments.
pub(super) const USAGE: &str = "xlatd explain --help";

impl Arguments {
    /// Reads the arguments; `None`: what they asked for is printed.
    pub(super) fn parse(words: Vec<OsString>) -> Result<Option<Self>, lexopt::Error> {
        let mut parsed = Self::default();
        let mut parser = Parser::from_args(words);
        let mut is_first = true;
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Short('c') | Arg::Long("config") => {
                    parsed.config = Some(parser.value()?.parse()?);
                }
                Arg::Long("live") => parsed.live = Some(parser.value()?.parse()?),
                Arg::Short('r') | Arg::Long("read") => {
                    parsed.read = Some(parser.value()?.parse()?);
                }
                Arg::Long("mtu") => {
                    let at_least = |mtu: &u16| *mtu >= 1280;
                    let mtu = parser.value()?.parse().ok().filter(at_least);
                    parsed.mtu = Some(mtu.ok_or("--mtu: expected a number from 1280 to 65535")?);
                }
                Arg::Long("json") => parsed.json = true,
                argument if prints(&argument, HELP) => return Ok(None),
                Arg::Value(word) if is_first && word == "clat" => {
                    parsed.clat = true;
                    is_first = false;
                }
                Arg::Value(word) => {
                    parsed.take_word(&word.parse::<String>()?)?;
                    is_first = false;
                }
                other => return Err(other.unexpected()),
            }
        }
        parsed.check()?;
        Ok(Some(parsed))
    }

    fn take_word(&mut self, word: &str) -> Result<(), lexopt::Error> {
        if self.clat
            && let Some((key, value)) = word.split_once('=')
        {
            self.keys.push((key.to_owned(), value.to_owned()));
            return Ok(());
        }
        let wrong = |_| format!("expected an IPv4 or IPv6 address, found {word:?}");
        self.addresses.push(word.parse().map_err(wrong)?);
        Ok(())
    }

    fn check(&self) -> Result<(), lexopt::Error> {
        match (&self.read, self.addresses.len()) {
            (None, 0) => Err("expected an address, or --read".into()),
            (None, 3..) => Err("expected one address or two".into()),
            (Some(_), 1..) => Err("expected addresses or --read, found both".into()),
            _ if self.live.is_some() && (self.config.is_some() || self.clat) => {
                Err("--live knows its configuration: leave out clat and --config".into())
            }
            _ => Ok(()),
        }
    }

    /// The same as the arguments of the CLAT itself.
    pub(super) fn of_clat(&self) -> ClatdArguments {
        ClatdArguments {
            config: self.config.clone(),
            keys: self.keys.clone(),
            ..ClatdArguments::default()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        let words = words.iter().map(Into::into).collect();
        let parsed = Arguments::parse(words).map_err(|error| error.to_string());
        parsed.map(Option::unwrap)
    }

    #[test]
    fn parses_options_addresses_and_keys() {
        let parsed = parse(&["-c", "f", "--json", "192.0.2.1", "2001:db8::1"]).unwrap();
        let addresses = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap());
        let expected = Arguments {
            config: Some("f".into()),
            json: true,
            addresses: addresses.to_vec(),
            ..Arguments::default()
        };
        assert_eq!(parsed, expected);
        let parsed = parse(&[
            "clat",
            "plat-prefix=64:ff9b::/96",
            "--mtu=1400",
            "192.0.0.1",
        ]);
        let parsed = parsed.unwrap();
        assert!(parsed.clat);
        assert_eq!(
            parsed.keys,
            [("plat-prefix".to_owned(), "64:ff9b::/96".to_owned())]
        );
        assert_eq!(parsed.mtu, Some(1400));
        let parsed = parse(&["-r", "-", "--live", "nat64"]).unwrap();
        assert_eq!(
            (parsed.read, parsed.live),
            (Some("-".into()), Some("nat64".to_owned()))
        );
    }

    #[test]
    fn mistakes_are_refused() {
        for (words, complaint) in [
            (&[][..], "expected an address, or --read"),
            (&["a"], "expected an IPv4 or IPv6 address, found \"a\""),
            (&["::1", "::2", "::3"], "expected one address or two"),
            (
                &["::1", "--read", "x"],
                "expected addresses or --read, found both",
            ),
            (
                &["--mtu", "1279", "::1"],
                "--mtu: expected a number from 1280 to 65535",
            ),
            (
                &["a=b", "::1"],
                "expected an IPv4 or IPv6 address, found \"a=b\"",
            ),
            (
                &["-c", "f", "--live", "nat64", "::1"],
                "--live knows its configuration",
            ),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.contains(complaint), "{words:?}: {error}");
        }
    }
}
