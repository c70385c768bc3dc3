//! One line of tayga.conf to one directive.
//!
//! Names and words are read in any case. Words stand apart by spaces, tabs and carriage returns; one that starts with
//! `#` begins a comment. tayga's limits on the length of a line and on its number of words are not kept.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use nom::{
    Finish, IResult, Parser,
    branch::alt,
    bytes::complete::{take_till, take_while},
    error::{ErrorKind, ParseError},
    multi::many_till,
};

use super::{
    IpPrefix, LineError, LogClasses, Problem,
    similar::similar,
    word::{
        Reader, absolute_path, anything, device, icmp_errors, ip_prefix, log_class, mtu,
        nat64_prefix, path, pool, prefix4, prefix6, queue_length, traffic_class, udp_checksum,
        unicast4, unicast6, up, workers, yes_or_no,
    },
};
use crate::{
    addr::{Eam, Nat64Prefix, Prefix4},
    translate::{IcmpErrors, TrafficClass, UdpChecksum},
};

/// The names of all directives: those of tayga, then those that tayga does not have.
pub const DIRECTIVES: [&str; TABLE.len()] = {
    let mut names = [""; TABLE.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = TABLE[index].name;
        index += 1;
    }
    names
};

/// Reads the line numbered `number`; `None` if it is blank or a comment.
pub(super) fn line(number: usize, text: &[u8]) -> Result<Option<Line<'_>>, Refused> {
    // The end of the line is then the column after its last word, whatever blanks and CR follow.
    let last = text.iter().rposition(|&octet| !is_separator(octet));
    let text = &text[..last.map_or(0, |last| last + 1)];
    match alt((end.map(|()| None), directive.map(Some)))
        .parse(text)
        .finish()
    {
        Ok((_, parsed)) => Ok(parsed.map(|(name, kind, directive)| Line {
            number,
            text,
            name,
            kind,
            directive,
        })),
        Err(wrong) => Err(Refused {
            error: Spot::new(number, text, wrong.at).error(wrong.problem),
            directive: wrong.directive,
        }),
    }
}

/// A line that is right in itself. `'a` is the text of the file.
pub(super) struct Line<'a> {
    number: usize,
    text: &'a [u8],
    /// The line from its first word on.
    name: &'a [u8],
    pub(super) kind: &'static Kind,
    pub(super) directive: Directive<'a>,
}

impl<'a> Line<'a> {
    /// Where the name of the directive is.
    pub(super) fn name(&self) -> Spot<'a> {
        self.spot(self.name)
    }

    /// Where the word is that `at` starts with.
    pub(super) fn spot(&self, at: &'a [u8]) -> Spot<'a> {
        Spot::new(self.number, self.text, at)
    }
}

/// A line that is wrong in itself.
pub(super) struct Refused {
    pub(super) error: LineError,
    /// The directive that it was meant to be, if that can be told.
    pub(super) directive: Option<&'static str>,
}

/// A word of the file.
#[derive(Clone, Copy)]
pub(super) struct Spot<'a> {
    /// From 1.
    pub(super) line: usize,
    /// From 1, in octets.
    column: usize,
    /// Empty at the end of the line.
    word: &'a [u8],
}

impl<'a> Spot<'a> {
    /// The first word of `at`, which is a suffix of `line`.
    fn new(number: usize, line: &[u8], at: &'a [u8]) -> Self {
        let word = at.split(|&octet| is_separator(octet)).next().unwrap_or(at);
        Self {
            line: number,
            column: line.len() - at.len() + 1,
            word,
        }
    }

    /// Something else is expected here; `expected` is as in [`Problem::Expected`].
    pub(super) fn refuse(&self, expected: impl Into<Cow<'static, str>>) -> LineError {
        self.error(WordProblem::Expected(expected.into()))
    }

    /// `what` is also in an earlier line.
    pub(super) fn repeats(&self, what: impl Into<Cow<'static, str>>, line: usize) -> LineError {
        self.place(Problem::Repeats {
            what: what.into(),
            line,
        })
    }

    fn error(&self, problem: WordProblem) -> LineError {
        let found = self.found();
        self.place(match problem {
            WordProblem::Expected(expected) => Problem::Expected { expected, found },
            WordProblem::UnknownDirective { similar } => {
                Problem::UnknownDirective { found, similar }
            }
        })
    }

    fn place(&self, problem: Problem) -> LineError {
        LineError {
            line: self.line,
            column: self.column,
            problem,
        }
    }

    /// The word for people: nothing in it can move the cursor of a terminal, or fill its screen.
    fn found(&self) -> String {
        const MAX_OCTETS: usize = 60;
        match self.word {
            [] => "end of line".to_owned(),
            [b'#', ..] => "a comment".to_owned(),
            word => {
                let shown = &word[..word.len().min(MAX_OCTETS)];
                let more = if shown.len() < word.len() { "..." } else { "" };
                format!(
                    "\"{}{more}\"",
                    String::from_utf8_lossy(shown).escape_debug()
                )
            }
        }
    }
}

/// The name of a directive, and what comes after it.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) again: Again,
    arguments: fn(&[u8]) -> Parsed<'_, Directive<'_>>,
}

/// What it means that a directive is there twice.
pub(super) enum Again {
    /// It is a mistake.
    Refused,
    /// The last one counts. tayga lets these pass.
    LastCounts,
    /// Both count.
    Adds,
}

/// A directive with its arguments.
pub(super) enum Directive<'a> {
    TunDevice(String),
    Ipv4Addr(Ipv4Addr),
    Ipv6Addr(At<'a, Ipv6Addr>),
    Prefix(Nat64Prefix),
    Map {
        eam: Eam,
        /// The line from the IPv4 prefix on.
        v4: &'a [u8],
        /// The line from the IPv6 prefix on.
        v6: &'a [u8],
    },
    MapFile(PathBuf),
    DynamicPool(Prefix4),
    DataDir(PathBuf),
    StrictFragHdr,
    WkpfStrict(bool),
    UdpCksumMode(UdpChecksum),
    Log(LogClasses),
    OfflinkMtu(u16),
    Workers,
    TunUp(bool),
    TunQueueLength(u32),
    KeepNetAdmin(bool),
    Offload(bool),
    Sandbox(bool),
    TunIp(IpPrefix),
    TunRoute(IpPrefix),
    IcmpErrors(IcmpErrors),
    IcmpSource(Ipv4Addr),
    Tos(TrafficClass),
    TrafficClass(TrafficClass),
    Hairpin(bool),
}

/// A word that was read, and where it is.
pub(super) struct At<'a, T> {
    /// The line from the word on.
    pub(super) at: &'a [u8],
    pub(super) value: T,
}

/// The one list of directives; the documents are compared with it.
const TABLE: &[Kind] = &[
    Kind {
        name: "tun-device",
        again: Again::Refused,
        arguments: |input| value(device).map(Directive::TunDevice).parse(input),
    },
    Kind {
        name: "ipv4-addr",
        again: Again::Refused,
        arguments: |input| value(unicast4).map(Directive::Ipv4Addr).parse(input),
    },
    Kind {
        name: "ipv6-addr",
        again: Again::Refused,
        arguments: |input| argument(unicast6).map(Directive::Ipv6Addr).parse(input),
    },
    Kind {
        name: "prefix",
        again: Again::Refused,
        arguments: |input| value(nat64_prefix).map(Directive::Prefix).parse(input),
    },
    Kind {
        name: "wkpf-strict",
        again: Again::LastCounts,
        arguments: |input| value(yes_or_no).map(Directive::WkpfStrict).parse(input),
    },
    Kind {
        name: "map",
        again: Again::Adds,
        arguments: map,
    },
    Kind {
        name: "map-file",
        again: Again::LastCounts,
        arguments: |input| value(path).map(Directive::MapFile).parse(input),
    },
    Kind {
        name: "dynamic-pool",
        again: Again::Refused,
        arguments: |input| value(pool).map(Directive::DynamicPool).parse(input),
    },
    Kind {
        name: "data-dir",
        again: Again::Refused,
        arguments: |input| value(absolute_path).map(Directive::DataDir).parse(input),
    },
    Kind {
        name: "strict-frag-hdr",
        again: Again::LastCounts,
        arguments: |input| {
            value(anything)
                .map(|()| Directive::StrictFragHdr)
                .parse(input)
        },
    },
    Kind {
        name: "udp-cksum-mode",
        again: Again::LastCounts,
        arguments: |input| {
            value(udp_checksum)
                .map(Directive::UdpCksumMode)
                .parse(input)
        },
    },
    Kind {
        name: "offlink-mtu",
        again: Again::Refused,
        arguments: |input| value(mtu).map(Directive::OfflinkMtu).parse(input),
    },
    Kind {
        name: "log",
        again: Again::Refused,
        arguments: |input| {
            many_till(value(log_class), end)
                .map(|(classes, ())| Directive::Log(union(classes)))
                .parse(input)
        },
    },
    Kind {
        name: "workers",
        again: Again::LastCounts,
        arguments: |input| value(workers).map(|()| Directive::Workers).parse(input),
    },
    Kind {
        name: "tun-up",
        again: Again::LastCounts,
        arguments: |input| value(up).map(Directive::TunUp).parse(input),
    },
    Kind {
        name: "tun-ip",
        again: Again::Adds,
        arguments: |input| value(ip_prefix).map(Directive::TunIp).parse(input),
    },
    Kind {
        name: "tun-route",
        again: Again::Adds,
        arguments: |input| value(ip_prefix).map(Directive::TunRoute).parse(input),
    },
    Kind {
        name: "tun-queue-length",
        again: Again::Refused,
        arguments: |input| {
            value(queue_length)
                .map(Directive::TunQueueLength)
                .parse(input)
        },
    },
    Kind {
        name: "icmp-errors",
        again: Again::Refused,
        arguments: |input| value(icmp_errors).map(Directive::IcmpErrors).parse(input),
    },
    Kind {
        name: "icmp-source",
        again: Again::Refused,
        arguments: |input| value(unicast4).map(Directive::IcmpSource).parse(input),
    },
    Kind {
        name: "tos",
        again: Again::Refused,
        arguments: |input| value(traffic_class).map(Directive::Tos).parse(input),
    },
    Kind {
        name: "traffic-class",
        again: Again::Refused,
        arguments: |input| {
            value(traffic_class)
                .map(Directive::TrafficClass)
                .parse(input)
        },
    },
    Kind {
        name: "keep-net-admin",
        again: Again::Refused,
        arguments: |input| value(yes_or_no).map(Directive::KeepNetAdmin).parse(input),
    },
    Kind {
        name: "offload",
        again: Again::Refused,
        arguments: |input| value(yes_or_no).map(Directive::Offload).parse(input),
    },
    Kind {
        name: "sandbox",
        again: Again::Refused,
        arguments: |input| value(yes_or_no).map(Directive::Sandbox).parse(input),
    },
    Kind {
        name: "hairpin",
        again: Again::Refused,
        arguments: |input| value(yes_or_no).map(Directive::Hairpin).parse(input),
    },
];

type Parsed<'a, T> = IResult<&'a [u8], T, Wrong<'a>>;

/// The first mistake of a line.
struct Wrong<'a> {
    /// The line from the wrong word on.
    at: &'a [u8],
    problem: WordProblem,
    /// The directive that the line was meant to be.
    directive: Option<&'static str>,
}

/// A [`Problem`] that a single line can have.
enum WordProblem {
    Expected(Cow<'static, str>),
    UnknownDirective { similar: Option<&'static str> },
}

impl<'a> ParseError<&'a [u8]> for Wrong<'a> {
    fn from_error_kind(at: &'a [u8], _: ErrorKind) -> Self {
        Self {
            at,
            problem: WordProblem::UnknownDirective { similar: None },
            directive: None,
        }
    }

    fn append(_: &'a [u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

fn wrong(at: &[u8], problem: WordProblem) -> nom::Err<Wrong<'_>> {
    nom::Err::Error(Wrong {
        at,
        problem,
        directive: None,
    })
}

fn expected(at: &[u8], what: impl Into<Cow<'static, str>>) -> nom::Err<Wrong<'_>> {
    wrong(at, WordProblem::Expected(what.into()))
}

/// A name, its arguments, and nothing more. The name is returned with the rest of the line.
fn directive(input: &[u8]) -> Parsed<'_, (&[u8], &'static Kind, Directive<'_>)> {
    let (at, _) = take_while(is_separator).parse(input)?;
    let (rest, name) = take_till(is_separator).parse(at)?;
    let Some(kind) = TABLE
        .iter()
        .find(|kind| kind.name.as_bytes().eq_ignore_ascii_case(name))
    else {
        let similar = similar(
            str::from_utf8(name).unwrap_or_default(),
            DIRECTIVES.into_iter(),
        );
        return Err(nom::Err::Error(Wrong {
            at,
            problem: WordProblem::UnknownDirective { similar },
            directive: similar,
        }));
    };
    let arguments = |input| {
        let (rest, directive) = (kind.arguments)(input)?;
        let (rest, ()) = end(rest)?;
        Ok((rest, (at, kind, directive)))
    };
    arguments(rest).map_err(|error: nom::Err<Wrong<'_>>| {
        error.map(|wrong| Wrong {
            directive: Some(kind.name),
            ..wrong
        })
    })
}

/// The end of the line, or a comment.
fn end(input: &[u8]) -> Parsed<'_, ()> {
    let (at, _) = take_while(is_separator).parse(input)?;
    match at {
        [] | [b'#', ..] => Ok((&[], ())),
        _ => Err(expected(at, "end of line")),
    }
}

fn is_separator(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

/// One word, and where it is.
fn argument<'a, T>(
    read: Reader<T>,
) -> impl Parser<&'a [u8], Output = At<'a, T>, Error = Wrong<'a>> {
    move |input| {
        let (at, _) = take_while(is_separator).parse(input)?;
        let (rest, word): (_, &[u8]) = take_till(is_separator).parse(at)?;
        let word = if word.starts_with(b"#") { &[] } else { word };
        match read(word) {
            Ok(value) => Ok((rest, At { at, value })),
            Err(what) => Err(expected(at, what)),
        }
    }
}

/// One word.
fn value<'a, T>(read: Reader<T>) -> impl Parser<&'a [u8], Output = T, Error = Wrong<'a>> {
    argument(read).map(|word| word.value)
}

/// The arguments of `map`.
fn map(input: &[u8]) -> Parsed<'_, Directive<'_>> {
    let (rest, (v4, v6)) = (argument(prefix4), argument(prefix6)).parse(input)?;
    let eam = Eam::new(v4.value, v6.value).map_err(|_| {
        let longest = 96 + v4.value.length();
        let v4 = v4.value;
        expected(
            v6.at,
            format!("an IPv6 prefix of /{longest} or shorter, with room for {v4}"),
        )
    })?;
    Ok((
        rest,
        Directive::Map {
            eam,
            v4: v4.at,
            v6: v6.at,
        },
    ))
}

fn union(classes: Vec<LogClasses>) -> LogClasses {
    classes
        .into_iter()
        .fold(LogClasses::default(), |a, b| LogClasses {
            drop: a.drop | b.drop,
            reject: a.reject | b.reject,
            icmp: a.icmp | b.icmp,
            own: a.own | b.own,
            dynamic: a.dynamic | b.dynamic,
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStrExt;

    use super::{super::word::LENGTH_V6, *};

    /// The directive of a line that must be right.
    fn parsed(text: &[u8]) -> Directive<'_> {
        match line(1, text) {
            Ok(Some(line)) => line.directive,
            Ok(None) => panic!("{}: blank", text.escape_ascii()),
            Err(refused) => panic!("{}: {}", text.escape_ascii(), refused.error),
        }
    }

    /// The message for a line that must be wrong.
    fn message(text: &[u8]) -> String {
        match line(7, text) {
            Ok(_) => panic!("{}: accepted", text.escape_ascii()),
            Err(refused) => refused.error.to_string(),
        }
    }

    #[test]
    fn blank_lines_and_comments_say_nothing() {
        for text in ["", " \t\r", "#", "  # map", "#map 192.0.2.1", "\r"] {
            assert!(matches!(line(1, text.as_bytes()), Ok(None)), "{text:?}");
        }
        assert!(
            matches!(line(1, b"# caf\xe9"), Ok(None)),
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
            let Directive::TunDevice(device) = parsed(text.as_bytes()) else {
                panic!("{text:?}");
            };
            assert_eq!(device, "nat64", "{text:?}");
        }
        // A # within a word is part of it.
        let Directive::TunDevice(device) = parsed(b"tun-device nat#64") else {
            panic!();
        };
        assert_eq!(device, "nat#64");
    }

    /// tayga stops at 10 words and 511 octets; nothing is gained by that.
    #[test]
    fn long_lines_are_lines() {
        let comment = format!("tun-up yes #{}", " word".repeat(1000));
        assert!(matches!(parsed(comment.as_bytes()), Directive::TunUp(true)));
        let log = format!("log {}", "drop ".repeat(1000));
        assert!(matches!(
            parsed(log.as_bytes()),
            Directive::Log(LogClasses {
                drop: true,
                reject: false,
                ..
            })
        ));
    }

    #[test]
    fn yes_and_no_have_four_words_each() {
        for word in ["yes", "true", "on", "1", "YES"] {
            assert_eq!(yes_or_no(word.as_bytes()), Ok(true), "{word}");
        }
        for word in ["no", "false", "off", "0", "No"] {
            assert_eq!(yes_or_no(word.as_bytes()), Ok(false), "{word}");
        }
        assert!(yes_or_no(b"up").is_err());
        assert_eq!(up(b"up"), Ok(true), "the example file of tayga has it");
        assert!(up(b"down").is_err());
    }

    /// tayga compares only the first letters.
    #[test]
    fn udp_cksum_mode_is_known_by_its_start() {
        for (word, mode) in [
            ("drop", UdpChecksum::Drop),
            ("dr", UdpChecksum::Drop),
            ("calc", UdpChecksum::Calculate),
            ("Calculate", UdpChecksum::Calculate),
            ("fwd", UdpChecksum::Forward),
            ("forward", UdpChecksum::Forward),
        ] {
            assert_eq!(udp_checksum(word.as_bytes()), Ok(mode), "{word}");
        }
        for word in ["d", "cal", "for", "fw", ""] {
            assert!(udp_checksum(word.as_bytes()).is_err(), "{word}");
        }
    }

    #[test]
    fn log_takes_any_number_of_classes() {
        let log = |text| match parsed(text) {
            Directive::Log(classes) => classes.to_string(),
            _ => panic!(),
        };
        assert_eq!(log(b"log"), "");
        assert_eq!(log(b"log # nothing"), "");
        assert_eq!(log(b"log SELF drop self"), "drop self");
        assert_eq!(
            log(b"log dyn self icmp reject drop"),
            "drop reject icmp self dyn"
        );
    }

    #[test]
    fn numbers_are_in_their_range() {
        assert_eq!(mtu(b"1280"), Ok(1280));
        assert_eq!(mtu(b"65535"), Ok(65535));
        for word in ["1279", "65536", "-1", "0x600", "1500b", ""] {
            assert!(mtu(word.as_bytes()).is_err(), "{word}");
        }
        assert!(workers(b"0").is_ok() && workers(b"64").is_ok() && workers(b"65").is_err());

        assert_eq!(icmp_errors(b"yes"), Ok(IcmpErrors::PerSecond(1000)));
        assert_eq!(icmp_errors(b"no"), Ok(IcmpErrors::Off));
        assert_eq!(icmp_errors(b"0"), Ok(IcmpErrors::Off));
        assert_eq!(
            icmp_errors(b"1"),
            Ok(IcmpErrors::PerSecond(1)),
            "a rate, not yes"
        );
        assert_eq!(
            icmp_errors(b"1000000"),
            Ok(IcmpErrors::PerSecond(1_000_000))
        );
        assert!(icmp_errors(b"1000001").is_err());

        assert_eq!(traffic_class(b"copy"), Ok(TrafficClass::Copy));
        assert_eq!(traffic_class(b"255"), Ok(TrafficClass::Fixed(255)));
        assert_eq!(traffic_class(b"0XfF"), Ok(TrafficClass::Fixed(255)));
        for word in ["256", "0x100", "0x", "-1", "b8", ""] {
            assert!(traffic_class(word.as_bytes()).is_err(), "{word}");
        }
    }

    #[test]
    fn addresses_of_no_host_are_refused() {
        for word in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "239.1.1.1",
            "255.255.255.255",
        ] {
            assert!(unicast4(word.as_bytes()).is_err(), "{word}");
        }
        for word in ["169.254.0.1", "240.0.0.1", "10.0.0.1"] {
            assert!(unicast4(word.as_bytes()).is_ok(), "{word}");
        }
        for word in [
            "::",
            "::1",
            "::ffff:192.0.2.1",
            "fe80::1",
            "febf::1",
            "ff02::1",
        ] {
            assert!(unicast6(word.as_bytes()).is_err(), "{word}");
        }
        for word in [
            "64:ff9b::1",
            "64:ff9b:1::1",
            "fd00::1",
            "2001:db8::192.0.2.1",
        ] {
            assert!(unicast6(word.as_bytes()).is_ok(), "{word}");
        }
    }

    /// A52-01, A52-07: the six lengths of RFC 6052 section 2.2; 64:ff9b:1::/48 is as good as any.
    #[test]
    fn prefix_has_one_of_six_lengths() {
        for length in 0..=128 {
            let word = format!("2000::/{length}");
            let taken = nat64_prefix(word.as_bytes()).is_ok();
            assert_eq!(taken, [32, 40, 48, 56, 64, 96].contains(&length), "{word}");
        }
        assert!(nat64_prefix(b"64:ff9b::/96").is_ok());
        assert!(nat64_prefix(b"64:ff9b:1::/48").is_ok());
        for word in ["::/96", "::ffff:0:0/96", "fe80::/64", "ff00::/32"] {
            assert!(nat64_prefix(word.as_bytes()).is_err(), "{word}");
        }
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

    /// A whole range of impossible addresses is a mistake; one that has others in it is not.
    #[test]
    fn map_may_only_enclose_impossible_addresses() {
        for word in [
            "0.0.0.0/0",
            "0.0.0.0/1",
            "0.0.0.0/7",
            "224.0.0.0/3",
            "240.0.0.0/4",
            "192.0.2.0/31",
        ] {
            assert!(prefix4(word.as_bytes()).is_ok(), "{word}");
        }
        for word in [
            "0.0.0.0/8",
            "0.0.0.0",
            "127.0.0.0/8",
            "127.0.0.1/32",
            "224.0.0.0/4",
            "255.255.255.255",
        ] {
            assert!(prefix4(word.as_bytes()).is_err(), "{word}");
        }
        for word in [
            "::/0",
            "fe00::/8",
            "fe80::/9",
            "2001:db8::/127",
            "64:ff9b::/127",
        ] {
            assert!(prefix6(word.as_bytes()).is_ok(), "{word}");
        }
        for word in ["::/128", "::1", "fe80::/10", "fe80::1", "ff00::/8"] {
            assert!(prefix6(word.as_bytes()).is_err(), "{word}");
        }
    }

    /// TAYGA-compatible files have `map` with host bits or a length over 32: tayga maps other addresses than they say.
    #[test]
    fn map_says_what_it_means() {
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

    /// EAM-01: the IPv6 suffix is at least as long as the IPv4 suffix (RFC 7757 section 3.2).
    #[test]
    fn map_leaves_room_for_the_ipv4_suffix() {
        for v4 in 0..=32_u8 {
            for v6 in 0..=128_u8 {
                let text = format!("map 0.0.0.0/{v4} ::/{v6}");
                // Only the lengths matter here: ::/8 and longer prefixes of it, and 0.0.0.0/8, are refused for another reason.
                let text = text.replace("0.0.0.0", if v4 < 8 { "0.0.0.0" } else { "1.0.0.0" });
                let text = text.replace("::/", if v6 < 8 { "::/" } else { "2000::/" });
                let taken = line(1, text.as_bytes()).is_ok();
                assert_eq!(taken, 128 - v6 >= 32 - v4, "{text}");
            }
        }
    }

    #[test]
    fn paths_are_octets() {
        let Directive::MapFile(path) = parsed(b"map-file maps-\xe9.conf") else {
            panic!();
        };
        assert_eq!(path.as_os_str().as_bytes(), b"maps-\xe9.conf");
        assert!(matches!(
            parsed(b"data-dir /var/lib"),
            Directive::DataDir(_)
        ));
        assert_eq!(
            message(b"data-dir lib"),
            "7:10: expected an absolute path, found \"lib\""
        );
    }

    /// What Linux refuses as the name of a device, and what would name another file.
    #[test]
    fn device_names_are_the_kernels() {
        for word in ["a", "fifteen-octets-", "nat64.1", "nat%d", "%d", "nat%dx"] {
            assert!(device(word.as_bytes()).is_ok(), "{word}");
        }
        for word in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "sixteen-octets--",
            "a\u{a0}b",
            "a\0",
            "nat%",
            "nat%%",
            "nat%s",
            "nat%5d",
            "n%d%d",
            "n%d%",
        ] {
            assert!(device(word.as_bytes()).is_err(), "{word}");
        }
        assert!(device(b"nat\xff").is_err());
    }

    /// A file from elsewhere cannot move the cursor of whoever reads the messages, nor fill the screen.
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
        for kind in TABLE.iter().filter(|kind| kind.name != "log") {
            let bare = message(kind.name.as_bytes());
            let column = kind.name.len() + 1;
            assert!(
                bare.starts_with(&format!("7:{column}: expected ")),
                "{bare}"
            );
            assert!(bare.ends_with(", found end of line"), "{bare}");
            let comment = message(format!("{} # none", kind.name).as_bytes());
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
            if let Err(refused) = line(1, &text) {
                prop_assert!((1..=text.len() + 1).contains(&refused.error.column));
            }
        }

        /// The same with lines that get further: names, followed by anything printable.
        #[test]
        fn any_arguments_are_read(
            name in proptest::sample::select(DIRECTIVES.as_slice()),
            arguments in "[ \t0-9a-f:./#xyesno-]{0,40}",
        ) {
            let text = format!("{name} {arguments}");
            if let Err(refused) = line(1, text.as_bytes()) {
                prop_assert!((name.len() + 1..=text.len() + 1).contains(&refused.error.column));
            }
        }
    }
}
