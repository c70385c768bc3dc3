//! One line of tayga.conf to one directive.
//!
//! Names and words are read in any case. Words stand apart by spaces, tabs and carriage returns; one that starts with
//! `#` begins a comment. tayga's limits on the length of a line and on its number of words are not kept.

use std::{
    borrow::Cow,
    ffi::OsStr,
    net::{Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    str::FromStr,
};

use nom::{
    Finish, IResult, Parser,
    branch::alt,
    bytes::complete::{take_till, take_while},
    error::{ErrorKind, ParseError},
    multi::many_till,
};

use super::{IpPrefix, LineError, LogClasses, Problem};
use crate::{
    addr::{Eam, Nat64Prefix, Nat64PrefixError, Prefix4, Prefix6, special},
    translate::{IcmpErrors, Settings, TrafficClass, UdpChecksum},
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
        let similar = similar(name);
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

/// The directive that is spelt almost like `name`.
fn similar(name: &[u8]) -> Option<&'static str> {
    let name = str::from_utf8(name).ok()?.to_ascii_lowercase();
    TABLE
        .iter()
        .map(|kind| kind.name)
        // The distance is at least the difference in length: this keeps long words cheap.
        .filter(|known| known.len().abs_diff(name.len()) <= 2)
        .map(|known| (strsim::osa_distance(known, &name), known))
        .filter(|(distance, known)| *distance <= if known.len() > 4 { 2 } else { 1 })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Says what a word means, or what was expected in its place. Every reader refuses the empty word: it stands for a word
/// that is not there, so that each says in one place what it expects.
type Reader<T> = fn(&[u8]) -> Result<T, Cow<'static, str>>;

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

fn anything(word: &[u8]) -> Result<(), Cow<'static, str>> {
    if word.is_empty() {
        return Err("a value".into());
    }
    Ok(())
}

/// A name that Linux takes for a device (`dev_valid_name`), and tayga.
fn device(word: &[u8]) -> Result<String, Cow<'static, str>> {
    const MAX_OCTETS: usize = 15; // IFNAMSIZ less the NUL
    let text = text(word);
    let allowed = |char: char| !matches!(char, '/' | ':' | '\0') && !char.is_whitespace();
    let valid = (1..=MAX_OCTETS).contains(&text.len())
        && !matches!(text, "." | "..")
        && text.chars().all(allowed);
    if !valid {
        return Err("a device name of 1 to 15 octets without / and :".into());
    }
    Ok(text.to_owned())
}

fn unicast4(word: &[u8]) -> Result<Ipv4Addr, Cow<'static, str>> {
    let address = from_text(word).ok_or("an IPv4 address")?;
    if special::is_illegal_v4(address) {
        return Err(format!("an IPv4 address {ILLEGAL_V4}").into());
    }
    Ok(address)
}

fn unicast6(word: &[u8]) -> Result<Ipv6Addr, Cow<'static, str>> {
    let address = from_text(word).ok_or("an IPv6 address")?;
    if special::is_illegal_v6(address) {
        return Err(format!("an IPv6 address {ILLEGAL_V6}").into());
    }
    Ok(address)
}

fn nat64_prefix(word: &[u8]) -> Result<Nat64Prefix, Cow<'static, str>> {
    const LENGTHS: &str = "an IPv6 prefix of length 32, 40, 48, 56, 64 or 96";
    let (address, length) = with_length::<Ipv6Addr>(word, 128).ok_or("an IPv6 prefix")?;
    let length = length.ok_or(LENGTHS)?;
    let host_bits_set = || host_bits(IpPrefix::V6(address, length));
    // The prefix of an address with host bits: its length is to be complained of before them.
    let Ok(prefix) = Prefix6::new(address, length) else {
        return match length {
            32 | 40 | 48 | 56 | 64 | 96 => Err(host_bits_set()),
            _ => Err(LENGTHS.into()),
        };
    };
    Nat64Prefix::new(prefix).map_err(|error| match error {
        Nat64PrefixError::Length { .. } => LENGTHS.into(),
        Nat64PrefixError::NotUnicast { .. } => format!("an IPv6 prefix {ILLEGAL_V6}").into(),
    })
}

fn prefix4(word: &[u8]) -> Result<Prefix4, Cow<'static, str>> {
    let (address, length) = with_length::<Ipv4Addr>(word, 32).ok_or("an IPv4 address or prefix")?;
    let length = length.ok_or("an IPv4 prefix length from 0 to 32")?;
    let whole = IpPrefix::V4(address, length);
    let prefix = Prefix4::new(address, length).map_err(|_| host_bits(whole))?;
    let last =
        Ipv4Addr::from_bits(address.to_bits() | u32::MAX.checked_shr(length.into()).unwrap_or(0));
    // Every illegal range is within one /4, so one of these has both ends of such a prefix.
    if length >= 4 && special::is_illegal_v4(address) && special::is_illegal_v4(last) {
        return Err(format!("an IPv4 prefix {ILLEGAL_V4}").into());
    }
    Ok(prefix)
}

fn prefix6(word: &[u8]) -> Result<Prefix6, Cow<'static, str>> {
    let (address, length) =
        with_length::<Ipv6Addr>(word, 128).ok_or("an IPv6 address or prefix")?;
    let length = length.ok_or("an IPv6 prefix length from 0 to 128")?;
    let whole = IpPrefix::V6(address, length);
    let prefix = Prefix6::new(address, length).map_err(|_| host_bits(whole))?;
    let last =
        Ipv6Addr::from_bits(address.to_bits() | u128::MAX.checked_shr(length.into()).unwrap_or(0));
    // As in `prefix4`, with /8.
    if length >= 8 && special::is_illegal_v6(address) && special::is_illegal_v6(last) {
        return Err(format!("an IPv6 prefix {ILLEGAL_V6}").into());
    }
    Ok(prefix)
}

fn pool(word: &[u8]) -> Result<Prefix4, Cow<'static, str>> {
    const POOL: &str = "an IPv4 prefix of length 0 to 31";
    let (address, length) = with_length::<Ipv4Addr>(word, 32).ok_or(POOL)?;
    let length = length.filter(|length| *length <= 31).ok_or(POOL)?;
    Prefix4::new(address, length).map_err(|_| host_bits(IpPrefix::V4(address, length)))?;
    prefix4(word)
}

fn ip_prefix(word: &[u8]) -> Result<IpPrefix, Cow<'static, str>> {
    if let Some((address, length)) = with_length(word, 32) {
        let length = length.ok_or("an IPv4 prefix length from 0 to 32")?;
        return Ok(IpPrefix::V4(address, length));
    }
    let (address, length) = with_length(word, 128).ok_or("an IPv4 or IPv6 address or prefix")?;
    let length = length.ok_or("an IPv6 prefix length from 0 to 128")?;
    Ok(IpPrefix::V6(address, length))
}

fn path(word: &[u8]) -> Result<PathBuf, Cow<'static, str>> {
    if word.is_empty() || word.contains(&0) {
        return Err("a path".into());
    }
    Ok(PathBuf::from(OsStr::from_bytes(word)))
}

fn absolute_path(word: &[u8]) -> Result<PathBuf, Cow<'static, str>> {
    path(word)
        .ok()
        .filter(|path| path.is_absolute())
        .ok_or("an absolute path".into())
}

fn yes_or_no(word: &[u8]) -> Result<bool, Cow<'static, str>> {
    match word.to_ascii_lowercase().as_slice() {
        b"yes" | b"true" | b"on" | b"1" => Ok(true),
        b"no" | b"false" | b"off" | b"0" => Ok(false),
        _ => Err("yes or no".into()),
    }
}

/// The example file of tayga has `tun-up up`.
fn up(word: &[u8]) -> Result<bool, Cow<'static, str>> {
    if word.eq_ignore_ascii_case(b"up") {
        return Ok(true);
    }
    yes_or_no(word)
}

/// As tayga, by the start of the word.
fn udp_checksum(word: &[u8]) -> Result<UdpChecksum, Cow<'static, str>> {
    let word = word.to_ascii_lowercase();
    let starts = |start: &str| word.starts_with(start.as_bytes());
    if starts("dr") {
        Ok(UdpChecksum::Drop)
    } else if starts("calc") {
        Ok(UdpChecksum::Calculate)
    } else if starts("forw") || starts("fwd") {
        Ok(UdpChecksum::Forward)
    } else {
        Err("drop, calc or fwd".into())
    }
}

fn log_class(word: &[u8]) -> Result<LogClasses, Cow<'static, str>> {
    let mut class = LogClasses::default();
    let on = match word.to_ascii_lowercase().as_slice() {
        b"drop" => &mut class.drop,
        b"reject" => &mut class.reject,
        b"icmp" => &mut class.icmp,
        b"self" => &mut class.own,
        b"dyn" => &mut class.dynamic,
        _ => return Err("drop, reject, icmp, self or dyn".into()),
    };
    *on = true;
    Ok(class)
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

fn mtu(word: &[u8]) -> Result<u16, Cow<'static, str>> {
    number(word, 1280..=65535).ok_or("a number from 1280 to 65535".into())
}

fn workers(word: &[u8]) -> Result<(), Cow<'static, str>> {
    number(word, 0_u8..=64)
        .map(|_| ())
        .ok_or("a number from 0 to 64".into())
}

/// `1` is a rate here, and not tayga's `yes`.
fn icmp_errors(word: &[u8]) -> Result<IcmpErrors, Cow<'static, str>> {
    if let Some(rate) = number(word, 1..=1_000_000) {
        return Ok(IcmpErrors::PerSecond(rate));
    }
    match yes_or_no(word) {
        Ok(true) => Ok(Settings::default().icmp_errors),
        Ok(false) => Ok(IcmpErrors::Off),
        Err(_) => Err("yes, no or a number from 1 to 1000000".into()),
    }
}

fn traffic_class(word: &[u8]) -> Result<TrafficClass, Cow<'static, str>> {
    if word.eq_ignore_ascii_case(b"copy") {
        return Ok(TrafficClass::Copy);
    }
    let octet = match text(word).to_ascii_lowercase().strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => number(word, 0..=255),
    };
    octet
        .map(TrafficClass::Fixed)
        .ok_or("copy or a number from 0 to 255 (0xff)".into())
}

const ILLEGAL_V4: &str = "outside 0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/4 and 255.255.255.255/32";
const ILLEGAL_V6: &str = "outside ::/8 (but for 64:ff9b::/32), fe80::/10 and ff00::/8";

fn host_bits(prefix: IpPrefix) -> Cow<'static, str> {
    let network = prefix.network();
    format!("a prefix without host bits ({network})").into()
}

/// `address/length`, or `address` with the length `max`. `None` if there is no address; the length is `None` if it is not
/// a number up to `max`.
fn with_length<A: FromStr>(word: &[u8], max: u8) -> Option<(A, Option<u8>)> {
    match text(word).split_once('/') {
        None => Some((from_text(word)?, Some(max))),
        Some((address, length)) => {
            Some((address.parse().ok()?, number(length.as_bytes(), 0..=max)))
        }
    }
}

/// A decimal number. Leading zeros pass, and a plus sign: tayga takes them.
fn number<N: FromStr + PartialOrd>(word: &[u8], range: RangeInclusive<N>) -> Option<N> {
    from_text(word).filter(|number| range.contains(number))
}

fn from_text<T: FromStr>(word: &[u8]) -> Option<T> {
    text(word).parse().ok()
}

/// What is not UTF-8 is no address, number or name: it reads as nothing.
fn text(word: &[u8]) -> &str {
    str::from_utf8(word).unwrap_or_default()
}
