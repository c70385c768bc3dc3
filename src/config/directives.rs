//! The directives of tayga.conf: one row each, with its name, how it is read and how it is shown.
//!
//! Names are read in any case. tayga's limits on the length of a line and on its number of words
//! are not kept.

use std::fmt;

use nom::{Parser, multi::many_till};

use super::{
    Config, LineError, LogClasses,
    draft::{Draft, MapLine, Repeated},
    grammar::{self, Line, Word, Wrong, end_or_comment, located, word},
    similar::similar,
    values::{Value, class, map_words, one, optional, several, switch, udp_checksum_word},
    word::{
        absolute_path, anything, control_socket, device, icmp_errors, ip_prefix, log_class, mtu,
        nat64_prefix, path, pool, prefix4, prefix6, queue_length, traffic_class, udp_checksum,
        unicast4, unicast6, up, workers, yes_or_no,
    },
};
use crate::{addr::Eam, translate::IcmpErrors};

/// A directive.
pub(super) struct Directive {
    pub(super) name: &'static str,
    /// The meaning of a second line with it.
    repeated: Repeated,
    /// Reads the arguments, and changes the draft if all of them are right.
    read: for<'a> fn(&mut Draft<'a>, &DirectiveLine<'a>) -> Result<(), LineError>,
    /// Its value, given or default; `None` where the directive changes nothing.
    value: Option<fn(&Config) -> Value>,
}

/// The directives in the order in which they are shown. The documents are compared with this table.
const TABLE: &[Directive] = &[
    Directive {
        name: "tun-device",
        repeated: Repeated::Refused,
        read: |draft, line| set(&mut draft.config.tun_device, line.one(device)),
        value: Some(|config| one(&config.tun_device)),
    },
    Directive {
        name: "tun-up",
        repeated: Repeated::LastCounts,
        read: |draft, line| set(&mut draft.config.tun_up, line.one(up)),
        value: Some(|config| switch(config.tun_up)),
    },
    Directive {
        name: "tun-ip",
        repeated: Repeated::Adds,
        read: |draft, line| {
            let address = line.one(ip_prefix)?;
            draft.tun_ip(&line.name, address);
            Ok(())
        },
        value: Some(|config| several(config.tun_ip.iter(), "address")),
    },
    Directive {
        name: "tun-route",
        repeated: Repeated::Adds,
        read: |draft, line| {
            let route = line.one(ip_prefix)?;
            draft.tun_route(&line.name, route);
            Ok(())
        },
        value: Some(|config| several(config.tun_route.iter(), "route")),
    },
    Directive {
        name: "tun-queue-length",
        repeated: Repeated::Refused,
        read: |draft, line| {
            let length = line.one(queue_length).map(Some);
            set(&mut draft.config.tun_queue_length, length)
        },
        value: Some(|config| optional(config.tun_queue_length, "as it is").unit("packets")),
    },
    Directive {
        name: "keep-net-admin",
        repeated: Repeated::Refused,
        read: |draft, line| set(&mut draft.config.keep_net_admin, line.one(yes_or_no)),
        value: Some(|config| switch(config.keep_net_admin)),
    },
    Directive {
        name: "offload",
        repeated: Repeated::Refused,
        read: |draft, line| set(&mut draft.config.offload, line.one(yes_or_no)),
        value: Some(|config| switch(config.offload)),
    },
    Directive {
        name: "sandbox",
        repeated: Repeated::Refused,
        read: |draft, line| set(&mut draft.config.sandbox, line.one(yes_or_no)),
        value: Some(|config| switch(config.sandbox)),
    },
    Directive {
        name: "control-socket",
        repeated: Repeated::Refused,
        read: |draft, line| set(&mut draft.config.control_socket, line.one(control_socket)),
        value: Some(|config| {
            let default = format!("/run/xlatd/{}.sock", config.tun_device);
            optional(config.control_socket.word(), default)
        }),
    },
    Directive {
        name: "ipv4-addr",
        repeated: Repeated::Refused,
        read: |draft, line| {
            let address = line.one(unicast4)?;
            draft.config.ipv4_addr = address;
            if address.is_link_local() {
                draft.warn(
                    &line.name,
                    "hosts and routers may refuse packets from a link-local ipv4-addr \
                     (169.254.0.0/16)",
                );
            }
            Ok(())
        },
        value: Some(|config| one(config.ipv4_addr)),
    },
    Directive {
        name: "ipv6-addr",
        repeated: Repeated::Refused,
        read: |draft, line| {
            let (word, address) = line.all(located(unicast6))?;
            draft.ipv6_addr(line.word(word), address);
            Ok(())
        },
        value: Some(|config| {
            let is_given = config.default_ipv6_addr() != Some(config.ipv6_addr);
            optional(is_given.then_some(config.ipv6_addr), config.ipv6_addr)
        }),
    },
    Directive {
        name: "prefix",
        repeated: Repeated::Refused,
        read: |draft, line| {
            let prefix = line.one(nat64_prefix)?;
            draft.config.prefix = Some(prefix);
            if prefix.has_reserved_bits() {
                draft.warn(
                    &line.name,
                    "bits 64 to 71 of the prefix should be zero (RFC 6052 section 2.2)",
                );
            }
            Ok(())
        },
        value: Some(|config| optional(config.prefix, "none")),
    },
    Directive {
        name: "wkpf-strict",
        repeated: Repeated::LastCounts,
        read: |draft, line| set(&mut draft.config.wkpf_strict, line.one(yes_or_no)),
        value: Some(|config| switch(config.wkpf_strict)),
    },
    Directive {
        name: "map",
        repeated: Repeated::Adds,
        read: |draft, line| {
            let map = map(line)?;
            draft.map(map);
            Ok(())
        },
        value: Some(|config| {
            let maps = config.maps.iter();
            let value = several(maps.map(|eam| map_words(eam).join(" ")), "map");
            match config.maps.len() {
                1 => value.shown_as("1 map"),
                _ => value,
            }
        }),
    },
    Directive {
        name: "map-file",
        repeated: Repeated::LastCounts,
        read: |draft, line| set(&mut draft.config.map_file, line.one(path).map(Some)),
        value: Some(|config| {
            let path = config.map_file.as_ref();
            optional(path.map(|path| path.display()), "none")
        }),
    },
    Directive {
        name: "dynamic-pool",
        repeated: Repeated::Refused,
        read: |draft, line| set(&mut draft.config.dynamic_pool, line.one(pool).map(Some)),
        value: Some(|config| optional(config.dynamic_pool, "none")),
    },
    Directive {
        name: "data-dir",
        repeated: Repeated::Refused,
        read: |draft, line| {
            set(
                &mut draft.config.data_dir,
                line.one(absolute_path).map(Some),
            )
        },
        value: Some(|config| {
            let path = config.data_dir.as_ref();
            optional(path.map(|path| path.display()), "none")
        }),
    },
    Directive {
        name: "offlink-mtu",
        repeated: Repeated::Refused,
        read: |draft, line| set(&mut draft.config.translation.offlink_mtu, line.one(mtu)),
        value: Some(|config| one(config.translation.offlink_mtu).unit("octets")),
    },
    Directive {
        name: "udp-cksum-mode",
        repeated: Repeated::LastCounts,
        read: |draft, line| {
            let mode = line.one(udp_checksum);
            set(&mut draft.config.translation.udp_checksum, mode)
        },
        value: Some(|config| one(udp_checksum_word(config.translation.udp_checksum))),
    },
    Directive {
        name: "traffic-class",
        repeated: Repeated::Refused,
        read: |draft, line| {
            let class = line.one(traffic_class);
            set(&mut draft.config.translation.traffic_class, class)
        },
        value: Some(|config| class(config.translation.traffic_class)),
    },
    Directive {
        name: "tos",
        repeated: Repeated::Refused,
        read: |draft, line| set(&mut draft.config.translation.tos, line.one(traffic_class)),
        value: Some(|config| class(config.translation.tos)),
    },
    Directive {
        name: "hairpin",
        repeated: Repeated::Refused,
        read: |draft, line| set(&mut draft.config.translation.hairpin, line.one(yes_or_no)),
        value: Some(|config| switch(config.translation.hairpin)),
    },
    Directive {
        name: "icmp-errors",
        repeated: Repeated::Refused,
        read: |draft, line| {
            let limit = line.one(icmp_errors);
            set(&mut draft.config.translation.icmp_errors, limit)
        },
        value: Some(|config| match config.translation.icmp_errors {
            IcmpErrors::Off => one("no"),
            IcmpErrors::PerSecond(rate) => one(rate).unit("a second"),
        }),
    },
    Directive {
        name: "icmp-source",
        repeated: Repeated::Refused,
        read: |draft, line| {
            let address = line.one(unicast4).map(Some);
            set(&mut draft.config.translation.icmp_source, address)
        },
        value: Some(|config| optional(config.translation.icmp_source, config.ipv4_addr)),
    },
    Directive {
        name: "icmp-node-id",
        repeated: Repeated::Refused,
        read: |draft, line| {
            let names = line.one(yes_or_no);
            set(&mut draft.config.translation.icmp_node_id, names)
        },
        value: Some(|config| switch(config.translation.icmp_node_id)),
    },
    Directive {
        name: "log",
        repeated: Repeated::Refused,
        read: |draft, line| {
            let classes = many_till(grammar::value(log_class), end_or_comment);
            let log = classes.map(|(classes, ())| LogClasses::union(&classes));
            set(&mut draft.config.log, line.all(log))
        },
        value: Some(|config| {
            let is_on = config.log != LogClasses::default();
            optional(is_on.then_some(config.log), "none")
        }),
    },
    Directive {
        name: "strict-frag-hdr",
        repeated: Repeated::LastCounts,
        read: |draft, line| {
            line.one(anything)?;
            draft.warn(&line.name, "strict-frag-hdr is ignored");
            Ok(())
        },
        value: None,
    },
    Directive {
        name: "workers",
        repeated: Repeated::LastCounts,
        read: |draft, line| set(&mut draft.config.workers, line.one(workers)),
        value: Some(|config| one(config.workers)),
    },
];

/// The names of all directives.
pub fn directives() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|directive| directive.name)
}

/// Takes a line of tayga.conf.
pub(super) fn take<'a>(draft: &mut Draft<'a>, line: Line<'a>) {
    let Some(line) = DirectiveLine::new(line) else {
        return;
    };
    match line.directive() {
        Ok(directive) => {
            let Directive {
                name,
                repeated,
                read,
                ..
            } = directive;
            draft.take(name, *repeated, line.name, |draft| read(draft, &line));
        }
        Err(error) => draft.refuse(error),
    }
}

/// A line that is neither blank nor a comment.
pub(super) struct DirectiveLine<'a> {
    pub(super) name: Word<'a>,
    arguments: &'a [u8],
}

impl<'a> DirectiveLine<'a> {
    /// `None` if the line is blank or a comment.
    pub(super) fn new(line: Line<'a>) -> Option<Self> {
        let (arguments, name) = word(line.text).ok()?;
        (!name.is_empty() && !name.starts_with(b"#")).then(|| Self {
            name: line.word(name),
            arguments,
        })
    }

    /// The directive of this name, in any case.
    pub(super) fn directive(&self) -> Result<&'static Directive, LineError> {
        let name = self.name.text;
        let is_it = |known: &&Directive| known.name.as_bytes().eq_ignore_ascii_case(name);
        TABLE.iter().find(is_it).ok_or_else(|| {
            let name = str::from_utf8(name).unwrap_or_default();
            self.name.unknown_directive(similar(name, directives()))
        })
    }

    /// The value of the only argument.
    fn one<T>(&self, read: grammar::Reader<T>) -> Result<T, LineError> {
        self.all(grammar::value(read))
    }

    /// The value of all arguments.
    fn all<T>(
        &self,
        parser: impl Parser<&'a [u8], Output = T, Error = Wrong<'a>>,
    ) -> Result<T, LineError> {
        let parser = (parser, end_or_comment).map(|(value, ())| value);
        self.name.line.parse(self.arguments, parser)
    }

    fn word(&self, text: &'a [u8]) -> Word<'a> {
        self.name.line.word(text)
    }
}

/// The arguments of `map`.
pub(super) fn map<'a>(line: &DirectiveLine<'a>) -> Result<MapLine<'a>, LineError> {
    let ((word4, v4), (word6, v6)) = line.all((located(prefix4), located(prefix6)))?;
    let (v4_at, v6_at) = (line.word(word4), line.word(word6));
    let eam = Eam::new(v4, v6).map_err(|_| {
        let longest = 96 + v4.length();
        v6_at.refuse(format!(
            "an IPv6 prefix of /{longest} or shorter, with room for {v4}"
        ))
    })?;
    Ok(MapLine { eam, v4_at, v6_at })
}

fn set<T>(place: &mut T, value: Result<T, LineError>) -> Result<(), LineError> {
    *place = value?;
    Ok(())
}

impl Config {
    /// Every directive that changes something and its value, given or default, for people.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, String)> {
        let values = TABLE.iter().filter_map(|row| Some((row.name, row.value?)));
        values.map(|(name, value)| (name, value(self).shown))
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = Self::blank();
        let values = TABLE.iter().filter_map(|row| Some((row.name, row.value?)));
        for (name, value) in values {
            let lines = value(self).lines;
            if lines != value(&default).lines {
                for arguments in lines {
                    writeln!(f, "{name} {arguments}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    use super::{super::word::LENGTH_V6, *};
    use crate::translate::TrafficClass;

    /// The settings of a text that is one line; `None` if it is blank or a comment.
    fn read(number: usize, text: &[u8]) -> Result<Option<Config>, LineError> {
        let Some(line) = DirectiveLine::new(Line::new(number, text)) else {
            return Ok(None);
        };
        let mut draft = Draft::new(None);
        (line.directive()?.read)(&mut draft, &line)?;
        Ok(Some(draft.config))
    }

    /// The settings of a line that must be right.
    fn parsed(text: &[u8]) -> Config {
        match read(1, text) {
            Ok(Some(config)) => config,
            Ok(None) => panic!("{}: blank", text.escape_ascii()),
            Err(error) => panic!("{}: {error}", text.escape_ascii()),
        }
    }

    /// The message for a line that must be wrong.
    fn message(text: &[u8]) -> String {
        match read(7, text) {
            Ok(_) => panic!("{}: accepted", text.escape_ascii()),
            Err(error) => error.to_string(),
        }
    }

    /// `xlatd status` and the log have no room for each map.
    #[test]
    fn of_maps_the_number_is_shown() {
        let shown = |maps: &str| {
            let start = "tun-device n\nipv4-addr 192.0.2.1\nprefix 2001:db8:64::/96\n";
            let (config, _) = Config::read(format!("{start}{maps}")).unwrap();
            let shown = config.settings().find(|(name, _)| *name == "map");
            shown.unwrap().1
        };
        let [one, other] = ["map 192.0.2.8 2001:db8::8\n", "map 192.0.2.9 2001:db8::9\n"];
        assert_eq!(shown(one), "1 map");
        assert_eq!(shown(&format!("{one}{other}")), "2 maps");
    }

    #[test]
    fn blank_lines_and_comments_are_skipped() {
        for text in ["", " \t\r", "#", "  # map", "#map 192.0.2.1", "\r"] {
            assert!(matches!(read(1, text.as_bytes()), Ok(None)), "{text:?}");
        }
        assert!(
            matches!(read(1, b"# caf\xe9"), Ok(None)),
            "Latin-1 in a comment"
        );
    }

    /// TAYGA's manual: names in any case, blanks, tabs and CR between words, comments at any word.
    #[test]
    fn names_and_blanks_are_read_as_by_tayga() {
        for text in [
            "tun-device nat64",
            "TUN-Device nat64",
            "\t tun-device\t\tnat64 \r",
            "tun-device nat64 # the device",
            "tun-device nat64 #",
            "tun-device nat64 \t#caf\u{e9}",
        ] {
            let device = parsed(text.as_bytes()).tun_device;
            assert_eq!(device, "nat64", "{text:?}");
        }
        // A # within a word is part of it.
        assert_eq!(parsed(b"tun-device nat#64").tun_device, "nat#64");
    }

    /// tayga stops at 10 words and 511 octets; nothing is gained by that.
    #[test]
    fn a_line_may_be_of_any_length() {
        let comment = format!("tun-up yes #{}", " word".repeat(1000));
        assert!(parsed(comment.as_bytes()).tun_up);
        let log = format!("log {}", "drop ".repeat(1000));
        assert_eq!(parsed(log.as_bytes()).log.to_string(), "drop");
    }

    #[test]
    fn log_takes_any_number_of_classes() {
        let log = |text| parsed(text).log.to_string();
        assert_eq!(log(b"log"), "");
        assert_eq!(log(b"log # nothing"), "");
        assert_eq!(log(b"log SELF drop self"), "drop self");
        assert_eq!(
            log(b"log dyn self icmp reject drop"),
            "drop reject icmp self dyn"
        );
    }

    /// tayga reads numbers by strtol, which lets a sign and leading zeros pass; others take the
    /// latter for octal.
    #[test]
    fn numbers_have_no_sign_and_no_leading_zeros() {
        let length = "a prefix length without a sign or leading zeros";
        let number = "a number without a sign or leading zeros";
        for (directive, word, expected) in [
            (
                "prefix",
                "64:ff9b::/096",
                format!("{length} (64:ff9b::/96)"),
            ),
            (
                "prefix",
                "64:ff9b::/+96",
                format!("{length} (64:ff9b::/96)"),
            ),
            (
                "dynamic-pool",
                "10.0.0.0/024",
                format!("{length} (10.0.0.0/24)"),
            ),
            (
                "dynamic-pool",
                "10.0.0.0/+24",
                format!("{length} (10.0.0.0/24)"),
            ),
            ("map", "10.0.0.0/024", format!("{length} (10.0.0.0/24)")),
            ("map", "10.0.0.0/+24", format!("{length} (10.0.0.0/24)")),
            (
                "map 10.0.0.0/24",
                "fd00::/0120",
                format!("{length} (fd00::/120)"),
            ),
            (
                "map 10.0.0.0/24",
                "fd00::/+120",
                format!("{length} (fd00::/120)"),
            ),
            ("tun-ip", "10.0.0.1/024", format!("{length} (10.0.0.1/24)")),
            ("tun-ip", "fd00::1/+64", format!("{length} (fd00::1/64)")),
            (
                "tun-route",
                "10.0.0.0/+24",
                format!("{length} (10.0.0.0/24)"),
            ),
            ("tun-route", "fd00::/064", format!("{length} (fd00::/64)")),
            ("tun-route", "::/00", format!("{length} (::/0)")),
            ("offlink-mtu", "01500", format!("{number} (1500)")),
            ("offlink-mtu", "+1500", format!("{number} (1500)")),
            ("workers", "00", format!("{number} (0)")),
            ("tun-queue-length", "+500", format!("{number} (500)")),
            (
                "icmp-errors",
                "0200",
                "yes, no or a number from 1 to 1000000".to_owned(),
            ),
            (
                "tos",
                "010",
                "copy or a number from 0 to 255 (0xff)".to_owned(),
            ),
            (
                "traffic-class",
                "0x+f",
                "copy or a number from 0 to 255 (0xff)".to_owned(),
            ),
            // Where the number is not in its range either, the range counts more.
            ("tun-route", "fd00::/0129", LENGTH_V6.to_owned()),
            (
                "offlink-mtu",
                "01000",
                "a number from 1280 to 65535".to_owned(),
            ),
        ] {
            let column = directive.len() + 2;
            assert_eq!(
                message(format!("{directive} {word}").as_bytes()),
                format!("7:{column}: expected {expected}, found \"{word}\"")
            );
        }
        // Hexadecimal digits have a width, and a zero is one.
        assert_eq!(traffic_class(b"0x0f"), Ok(TrafficClass::Fixed(15)));
        assert_eq!(traffic_class(b"0"), Ok(TrafficClass::Fixed(0)));
    }

    /// tayga takes host bits and a length over 32, and then maps other addresses than the line
    /// says.
    #[test]
    fn map_has_no_host_bits() {
        assert_eq!(
            message(b"map 10.0.0.0/33 2001:db8::/129"),
            "7:5: expected an IPv4 prefix length from 0 to 32, found \"10.0.0.0/33\""
        );
        assert_eq!(
            message(b"map 10.0.0.1/24 2001:db8::/120"),
            "7:5: expected a prefix without host bits (10.0.0.0/24), found \"10.0.0.1/24\""
        );
        assert_eq!(
            message(b"map 10.0.0.0/24 2001:db8::1/120"),
            "7:17: expected a prefix without host bits (2001:db8::/120), found \"2001:db8::1/120\""
        );
    }

    /// The IPv6 suffix is at least as long as the IPv4 suffix (RFC 7757 section 3.2).
    #[test]
    fn map_leaves_room_for_the_ipv4_suffix() {
        for v4 in 0..=32_u8 {
            for v6 in 0..=128_u8 {
                let text = format!("map 0.0.0.0/{v4} ::/{v6}");
                // Only the lengths matter here: ::/8 and 0.0.0.0/8 are refused for another reason.
                let text = text.replace("0.0.0.0", if v4 < 8 { "0.0.0.0" } else { "1.0.0.0" });
                let text = text.replace("::/", if v6 < 8 { "::/" } else { "2000::/" });
                let taken = read(1, text.as_bytes()).is_ok();
                assert_eq!(taken, 128 - v6 >= 32 - v4, "{text}");
            }
        }
    }

    #[test]
    fn paths_are_octets() {
        let path = parsed(b"map-file maps-\xe9.conf").map_file.unwrap();
        assert_eq!(path.as_os_str().as_bytes(), b"maps-\xe9.conf");
        assert!(parsed(b"data-dir /var/lib").data_dir.is_some());
        assert_eq!(
            message(b"data-dir lib"),
            "7:10: expected an absolute path, found \"lib\""
        );
    }

    /// A word of the file can neither move the cursor of a terminal nor fill its screen.
    #[test]
    fn a_found_word_is_printable_and_short() {
        assert_eq!(
            message(b"\x1b[2Jmap"),
            r#"7:1: expected a directive, found "\u{1b}[2Jmap""#
        );
        let long = vec![b'x'; 1_000_000];
        assert!(message(&long).len() < 120);
    }

    /// Every directive wants its arguments, and no more of them.
    #[test]
    fn arguments_are_counted() {
        for name in directives().filter(|name| *name != "log") {
            let bare = message(name.as_bytes());
            let column = name.len() + 1;
            assert!(
                bare.starts_with(&format!("7:{column}: expected ")),
                "{bare}"
            );
            assert!(bare.ends_with(", found end of line"), "{bare}");
            let comment = message(format!("{} # none", name).as_bytes());
            assert!(comment.ends_with(", found a comment"), "{comment}");
        }
        assert_eq!(
            message(b"tun-up yes  no"),
            "7:13: expected end of line, found \"no\""
        );
    }

    proptest! {
        /// Any octets: no panic, and an error is within its line.
        #[test]
        fn any_octets_are_read(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Err(error) = read(1, &text) {
                prop_assert!((1..=text.len() + 1).contains(&error.column));
            }
        }

        /// The same with lines that get further: names, followed by anything printable.
        #[test]
        fn any_arguments_are_read(
            name in proptest::sample::select(directives().collect::<Vec<_>>()),
            arguments in "[ \t0-9a-f:./#xyesno-]{0,40}",
        ) {
            let text = format!("{name} {arguments}");
            if let Err(error) = read(1, text.as_bytes()) {
                prop_assert!((name.len() + 1..=text.len() + 1).contains(&error.column));
            }
        }
    }
}
