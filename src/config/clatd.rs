//! clatd.conf: lines of `key=value`, and the same words on the command line.

use std::{net::Ipv6Addr, time::Duration};

use super::{
    ControlSocket, LineError, Notice,
    grammar::{self, Expected, Line, key_and_value, quoted},
    similar::similar,
    word::{self, yes_or_no},
};
use crate::{
    addr::{Nat64Prefix, decimal},
    clat::{self, Path, Source},
};

/// The settings of a clatd.conf and a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClatConfig {
    /// The settings of the CLAT itself.
    pub clat: clat::Settings,
    /// `quiet`: only warnings are logged.
    pub quiet: bool,
    /// `debug`: everything is, and packets.
    pub debug: bool,
    /// `offload`: the kernel leaves checksums and segmentation to be done once, at the end.
    pub offload: bool,
    /// `sandbox`: the kernel refuses what a CLAT and nft do not need.
    pub sandbox: bool,
    /// `control-socket`: by which `xlatd status` and others ask how the CLAT is.
    pub control_socket: ControlSocket,
    /// `icmp-node-id`: ICMP errors of routers without an IPv4 address name them in an extension.
    pub icmp_node_id: bool,
    /// `cmd-nft`: the program.
    pub nft: String,
    /// `cmd-ufw`: the program; `None`: ufw, if it is at work.
    pub ufw: Option<String>,
    /// `script-up`: run by /bin/sh once programs have IPv4.
    pub script_up: Option<String>,
    /// `script-down`: run at the end.
    pub script_down: Option<String>,
}

impl Default for ClatConfig {
    fn default() -> Self {
        Self {
            clat: clat::Settings::default(),
            quiet: false,
            debug: false,
            offload: true,
            sandbox: true,
            control_socket: ControlSocket::default(),
            icmp_node_id: true,
            nft: "nft".to_owned(),
            ufw: None,
            script_up: None,
            script_down: None,
        }
    }
}

/// A key, and what it does.
struct Key {
    name: &'static str,
    set: fn(&mut ClatConfig, &[u8]) -> Result<(), Expected>,
}

const DEVICE: &str = "the name of a device, of 1 to 15 octets without / : \" and %";
const ADDRESS_V4: &str = "an IPv4 address";
const PREFIX: &str =
    "a NAT64 prefix, as 64:ff9b::/96: an IPv6 prefix of length 32, 40, 48, 56, 64 or 96";

/// The one list of keys; the documents are compared with it.
const TABLE: &[Key] = &[
    Key {
        name: "quiet",
        set: |config, value| to(&mut config.quiet, yes_or_no(value)),
    },
    Key {
        name: "debug",
        // clatd counts: -d -d says more.
        set: |config, value| match decimal::<u8>(word::text(value)) {
            Some(level) => to(&mut config.debug, Ok(level > 0)),
            None => to(&mut config.debug, yes_or_no(value)),
        },
    },
    Key {
        name: "script-up",
        set: |config, value| to(&mut config.script_up, Ok(optional(value))),
    },
    Key {
        name: "script-down",
        set: |config, value| to(&mut config.script_down, Ok(optional(value))),
    },
    Key {
        name: "clat-dev",
        set: |config, value| to(&mut config.clat.device, device(value)),
    },
    Key {
        name: "clat-v4-addr",
        set: |config, value| to(&mut config.clat.host_v4, word::parsed(value, ADDRESS_V4)),
    },
    Key {
        name: "tayga-v4-addr",
        set: |config, value| to(&mut config.clat.own_v4, word::parsed(value, ADDRESS_V4)),
    },
    Key {
        name: "clat-v6-addr",
        set: |config, value| to(&mut config.clat.source, source(value)),
    },
    Key {
        name: "clat-path",
        set: |config, value| to(&mut config.clat.path, path(value)),
    },
    Key {
        name: "ctmark",
        set: |_, value| number(value).map(|_| ()),
    },
    Key {
        name: "dns64-servers",
        set: |config, value| {
            let words = value.split(|octet| matches!(octet, b',' | b' '));
            let words = words.filter(|word| !word.is_empty());
            let servers = words.map(|word| word::parsed(word, "IP addresses, separated by commas"));
            to(&mut config.clat.dns_servers, servers.collect())
        },
    },
    Key {
        name: "plat-prefix",
        set: |config, value| to(&mut config.clat.prefix, prefix(value)),
    },
    Key {
        name: "plat-fallback-prefix",
        set: |config, value| to(&mut config.clat.fallback, prefix(value)),
    },
    Key {
        name: "plat-dev",
        set: |config, value| match value {
            [] => to(&mut config.clat.uplink, Ok(None)),
            name => to(&mut config.clat.uplink, device(name).map(Some)),
        },
    },
    Key {
        name: "forwarding-enable",
        set: |config, value| to(&mut config.clat.forwarding, yes_or_no(value)),
    },
    Key {
        name: "route-table",
        set: |config, value| to(&mut config.clat.table, number(value)),
    },
    Key {
        name: "v4-conncheck-enable",
        set: |config, value| to(&mut config.clat.steps_aside, yes_or_no(value)),
    },
    Key {
        name: "v4-conncheck-delay",
        set: |config, value| {
            let delay = number(value).map(|seconds| Duration::from_secs(seconds.into()));
            to(&mut config.clat.steps_aside_after, delay)
        },
    },
    Key {
        name: "v4-defaultroute-enable",
        set: |config, value| to(&mut config.clat.default_route, yes_or_no(value)),
    },
    Key {
        name: "v4-defaultroute-replace",
        set: |config, value| to(&mut config.clat.replaces, yes_or_no(value)),
    },
    Key {
        name: "v4-defaultroute-metric",
        set: |config, value| to(&mut config.clat.metric, number(value)),
    },
    Key {
        name: "v4-defaultroute-mtu",
        set: |config, value| to(&mut config.clat.mtu, octets(value)),
    },
    Key {
        name: "v4-defaultroute-advmss",
        set: |config, value| to(&mut config.clat.advmss, octets(value)),
    },
    Key {
        name: "offload",
        set: |config, value| to(&mut config.offload, yes_or_no(value)),
    },
    Key {
        name: "sandbox",
        set: |config, value| to(&mut config.sandbox, yes_or_no(value)),
    },
    Key {
        name: "control-socket",
        set: |config, value| to(&mut config.control_socket, word::control_socket(value)),
    },
    Key {
        name: "icmp-node-id",
        set: |config, value| to(&mut config.icmp_node_id, yes_or_no(value)),
    },
    Key {
        name: "cmd-ufw",
        set: |config, value| to(&mut config.ufw, Ok(optional(value))),
    },
    Key {
        name: "cmd-nft",
        set: |config, value| to(&mut config.nft, optional(value).ok_or("a program".into())),
    },
];

/// Keys of clatd that are taken, and change nothing here.
const IGNORED: &[&str] = &[
    "proxynd-enable",
    "cmd-ip",
    "cmd-networkctl",
    "cmd-tayga",
    "tayga-conffile",
];

/// Every key of clatd.conf that does something, in no order that matters.
pub fn keys() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|key| key.name)
}

/// Every key of clatd that is taken and does nothing.
pub fn ignored_keys() -> impl Iterator<Item = &'static str> {
    IGNORED.iter().copied()
}

/// A key and its value.
type KeyAndValue<'a> = (&'a [u8], &'a [u8]);

/// The key and the value of a line; `None` if it is blank or a comment.
pub(super) fn key_and_value_of(line: Line<'_>) -> Result<Option<KeyAndValue<'_>>, LineError> {
    let text = line.text.trim_ascii_start();
    let comments: [&[u8]; 3] = [b";", b"#", b"//"];
    if text.is_empty() || comments.iter().any(|mark| text.starts_with(mark)) {
        return Ok(None);
    }
    line.parse(text, key_and_value).map(Some)
}

impl ClatConfig {
    /// Takes the lines of a clatd.conf. Comments start with `;`, `#` or `//`. All mistakes are
    /// reported; a key that is unknown is none, but worth a notice, as with clatd.
    pub fn read(&mut self, text: &[u8]) -> Result<Vec<Notice>, Vec<LineError>> {
        let (mut notices, mut errors) = (Vec::new(), Vec::new());
        for line in grammar::lines(text) {
            match self.read_line(line) {
                Ok(notice) => notices.extend(notice),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            Ok(notices)
        } else {
            Err(errors)
        }
    }

    fn read_line(&mut self, line: Line<'_>) -> Result<Option<Notice>, LineError> {
        let Some((key, value)) = key_and_value_of(line)? else {
            return Ok(None);
        };
        let name = String::from_utf8_lossy(key);
        let use_of_key = self.set_octets(&name, value);
        let use_of_key = use_of_key.map_err(|expected| line.word(value).refuse(expected))?;
        Ok(use_of_key.notice(&name, line.number))
    }

    /// The settings, as a script finds them in its environment: keys with `_` for `-`.
    pub fn environment(&self) -> Vec<(String, String)> {
        let clat = &self.clat;
        let number = |octets: Option<u32>| octets.map(|octets| octets.to_string());
        let prefix = |prefix: Option<Nat64Prefix>| prefix.map(|one| one.prefix().to_string());
        [
            ("clat_dev", Some(clat.device.clone())),
            ("clat_v4_addr", Some(clat.host_v4.to_string())),
            ("tayga_v4_addr", Some(clat.own_v4.to_string())),
            ("plat_prefix", prefix(clat.prefix)),
            ("plat_fallback_prefix", prefix(clat.fallback)),
            ("plat_dev", clat.uplink.clone()),
            ("route_table", Some(clat.table.to_string())),
            ("v4_defaultroute_metric", Some(clat.metric.to_string())),
            ("v4_defaultroute_mtu", number(clat.mtu)),
            ("v4_defaultroute_advmss", number(clat.advmss)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }

    /// Sets one key. Fails with what is expected in the place of its value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<KeyUse, Expected> {
        self.set_octets(key, value.as_bytes())
    }

    fn set_octets(&mut self, key: &str, value: &[u8]) -> Result<KeyUse, Expected> {
        if let Some(known) = TABLE.iter().find(|known| known.name == key) {
            (known.set)(self, value)?;
            return Ok(KeyUse::Set);
        }
        Ok(if IGNORED.contains(&key) {
            KeyUse::Ignored
        } else {
            KeyUse::Unknown
        })
    }
}

/// The use that is made of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// It is set.
    Set,
    /// It is one of clatd's that nothing here depends on.
    Ignored,
    /// No such key is known.
    Unknown,
}

impl KeyUse {
    /// The notice about a key where an unknown one is no mistake. `line` is zero where it is in
    /// none.
    pub fn notice(self, key: &str, line: usize) -> Option<Notice> {
        match self {
            Self::Set => None,
            Self::Ignored => {
                let text = format!("{key} is not needed, and changes nothing");
                Some(Notice::info(line, text))
            }
            Self::Unknown => {
                let text = format!("{}: it changes nothing", unknown(key));
                Some(Notice::warning(line, text))
            }
        }
    }
}

/// The message about an unknown key, with the one that it may have been meant to be.
pub fn unknown(key: &str) -> String {
    let hint =
        similar(key, keys().chain(ignored_keys())).map(|known| format!(" (did you mean {known}?)"));
    let key = quoted(key.as_bytes());
    format!("there is no key {key}{}", hint.unwrap_or_default())
}

fn to<T>(place: &mut T, value: Result<T, Expected>) -> Result<(), Expected> {
    *place = value?;
    Ok(())
}

/// The value as it is; `None` for an empty one.
fn optional(value: &[u8]) -> Option<String> {
    (!value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned())
}

fn path(value: &[u8]) -> Result<Path, Expected> {
    match value {
        b"direct" => Ok(Path::Direct),
        b"forward" => Ok(Path::Forward),
        _ => Err("direct or forward".into()),
    }
}

/// Decimal or hexadecimal, as 0xc1a7.
fn number(value: &[u8]) -> Result<u32, Expected> {
    let value = word::text(value);
    match value.strip_prefix("0x") {
        Some(digits) if digits.starts_with('+') => None,
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => decimal(value),
    }
    .ok_or("a number without a sign or leading zeros, as 10 or 0xa".into())
}

/// `None` for nothing: what the uplink has.
fn octets(value: &[u8]) -> Result<Option<u32>, Expected> {
    if value.is_empty() {
        return Ok(None);
    }
    match decimal(word::text(value)) {
        Some(octets @ 68..=65535) => Ok(Some(octets)),
        _ => Err("a number of octets from 68 to 65535, without a sign or leading zeros".into()),
    }
}

fn source(value: &[u8]) -> Result<Source, Expected> {
    const EXPECTED: &str = "auto, shared, derived or an IPv6 address that no host has";
    match value {
        b"auto" => Ok(Source::Auto),
        b"shared" => Ok(Source::Shared),
        b"derived" => Ok(Source::Derived),
        _ => match word::parsed::<Ipv6Addr>(value, EXPECTED)? {
            address
                if address.is_multicast()
                    || address.is_unspecified()
                    || address.is_loopback()
                    || address.is_unicast_link_local()
                    || address.to_ipv4_mapped().is_some() =>
            {
                Err(EXPECTED.into())
            }
            address => Ok(Source::Explicit(address)),
        },
    }
}

fn prefix(value: &[u8]) -> Result<Option<Nat64Prefix>, Expected> {
    if value.is_empty() {
        return Ok(None);
    }
    let prefix = word::parsed(value, PREFIX)?;
    let prefix = Nat64Prefix::new(prefix).map_err(|_| PREFIX)?;
    Ok(Some(prefix))
}

/// The name of a device; of none that the kernel chooses the number of, and without the quotation
/// marks that end a name in a ruleset.
fn device(value: &[u8]) -> Result<String, Expected> {
    let name = word::text(value);
    let valid = word::is_device_name(name) && !name.contains(['"', '%']);
    valid.then(|| name.to_owned()).ok_or(DEVICE.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    fn read(text: &str) -> ClatConfig {
        let mut config = ClatConfig::default();
        assert_eq!(config.read(text.as_bytes()), Ok(vec![]), "{text}");
        config
    }

    fn complaints(text: &str) -> Vec<String> {
        let mut config = ClatConfig::default();
        match config.read(text.as_bytes()) {
            Ok(notices) => notices.iter().map(ToString::to_string).collect(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn nothing_is_the_default() {
        for text in ["", "\n\n", "# quiet=1\n; x\n  // y\n"] {
            assert_eq!(read(text), ClatConfig::default());
        }
    }

    #[test]
    fn keys_are_set_in_every_spelling() {
        let config = read(
            "quiet = yes\ndebug=2\nclat-dev=c0\nclat-v4-addr=192.0.0.3\ntayga-v4-addr=192.0.0.4\n\
             dns64-servers=2001:db8::53, 192.0.2.53\nplat-prefix=64:ff9b::/96\nplat-dev=eth0\n\
             route-table=0x10\nv4-conncheck-delay=20\nv4-defaultroute-mtu=1260\n\
             v4-defaultroute-enable=off\nforwarding-enable=false\nclat-v6-addr=shared\n",
        );
        assert!(config.quiet && config.debug);
        assert!(!read("debug=1\ndebug=0\n").debug);
        let clat = config.clat;
        assert_eq!(clat.device, "c0");
        assert_eq!(clat.dns_servers.len(), 2);
        assert_eq!(clat.prefix.unwrap().prefix().to_string(), "64:ff9b::/96");
        assert_eq!(clat.uplink.as_deref(), Some("eth0"));
        assert_eq!(clat.table, 16);
        assert_eq!(clat.steps_aside_after, Duration::from_secs(20));
        assert_eq!(clat.mtu, Some(1260));
        assert!(!clat.default_route && !clat.forwarding);
    }

    /// clatd.conf(5): the words of `clat-v6-addr` and `clat-path`, and what no host can have.
    #[test]
    fn sources_and_paths_have_their_words() {
        let source = |word: &str| read(&format!("clat-v6-addr={word}\n")).clat.source;
        assert_eq!(source("auto"), Source::Auto);
        assert_eq!(source("shared"), Source::Shared);
        assert_eq!(source("derived"), Source::Derived);
        let address = "2001:db8::c1a7".parse().unwrap();
        assert_eq!(source("2001:db8::c1a7"), Source::Explicit(address));
        for word in [
            "ff02::1",
            "::",
            "::1",
            "fe80::1",
            "::ffff:192.0.2.1",
            "other",
        ] {
            assert_eq!(
                complaints(&format!("clat-v6-addr={word}\n")).len(),
                1,
                "{word}"
            );
        }
        assert_eq!(read("clat-path=direct\n").clat.path, Path::Direct);
        assert_eq!(read("clat-path=forward\n").clat.path, Path::Forward);
        assert_eq!(complaints("clat-path=other\n").len(), 1);
    }

    /// A script finds what is set in its environment, and nothing else.
    #[test]
    fn scripts_have_settings_in_their_environment() {
        let config = read("clat-dev=c0\nplat-prefix=64:ff9b::/96\nv4-defaultroute-mtu=1260\n");
        let environment = config.environment();
        let value = |name: &str| {
            let found = environment.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("clat_dev"), Some("c0"));
        assert_eq!(value("plat_prefix"), Some("64:ff9b::/96"));
        assert_eq!(value("plat_fallback_prefix"), None);
        assert_eq!(value("plat_dev"), None);
        assert_eq!(value("v4_defaultroute_mtu"), Some("1260"));
        let table = config.clat.table.to_string();
        assert_eq!(value("route_table"), Some(table.as_str()));
    }

    #[test]
    fn programs_may_be_left_out() {
        let config = read("script-up=/bin/up\nscript-down=\ncmd-ufw=\ncmd-nft=/sbin/nft\n");
        assert_eq!(config.script_up.as_deref(), Some("/bin/up"));
        assert_eq!((config.script_down, config.ufw), (None, None));
        assert_eq!(config.nft, "/sbin/nft");
        assert_eq!(complaints("cmd-nft=\n").len(), 1);
    }

    #[test]
    fn every_mistake_is_reported() {
        assert_eq!(
            complaints(
                "quiet\n  clat-v4-addr = x\nplat-prefix=2001:db8::/95\nclat-dev=a/b\n\
                 clat-dev=clat%d\n"
            ),
            [
                "1:1: expected key=value, found \"quiet\"",
                "2:18: expected an IPv4 address, found \"x\"",
                &*format!("3:13: expected {PREFIX}, found \"2001:db8::/95\""),
                &*format!("4:10: expected {DEVICE}, found \"a/b\""),
                &*format!("5:10: expected {DEVICE}, found \"clat%d\""),
            ]
        );
    }

    /// clatd hands numbers on to ip(8), for which 010 is 8.
    #[test]
    fn numbers_have_no_sign_and_no_leading_zeros() {
        for line in [
            "plat-prefix=64:ff9b::/096",
            "plat-fallback-prefix=64:ff9b::/+96",
            "route-table=010",
            "route-table=0x+10",
            "ctmark=+1",
            "v4-conncheck-delay=010",
            "v4-defaultroute-metric=+2048",
            "v4-defaultroute-mtu=01260",
            "v4-defaultroute-advmss=+1220",
            "debug=+1",
        ] {
            let complaints = complaints(line);
            let at = line.find('=').unwrap() + 2;
            assert_eq!(complaints.len(), 1, "{line}");
            assert!(
                complaints[0].starts_with(&format!("1:{at}: expected ")),
                "{complaints:?}"
            );
        }
    }

    #[test]
    fn unknown_keys_are_no_mistake() {
        assert_eq!(
            complaints("cmd-ip=/sbin/ip\nclat-dve=x\nwhatever=1\n"),
            [
                "1: cmd-ip is not needed, and changes nothing",
                "2: there is no key \"clat-dve\" (did you mean clat-dev?): it changes nothing",
                "3: there is no key \"whatever\": it changes nothing",
            ]
        );
    }
}
