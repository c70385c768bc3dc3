//! One word of tayga.conf to one value.

use std::{
    borrow::Cow,
    ffi::OsStr,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    str::FromStr,
};

use super::{IpPrefix, LogClasses};
use crate::{
    addr::{Nat64Prefix, Nat64PrefixError, Prefix4, Prefix6, decimal, special},
    translate::{IcmpErrors, Settings, TrafficClass, UdpChecksum},
};

/// Says what a word means, or what was expected in its place. Every reader refuses the empty word: it stands for a word
/// that is not there, so that each says in one place what it expects.
pub(super) type Reader<T> = fn(&[u8]) -> Result<T, Cow<'static, str>>;

pub(super) fn anything(word: &[u8]) -> Result<(), Cow<'static, str>> {
    if word.is_empty() {
        return Err("a value".into());
    }
    Ok(())
}

/// A name that Linux takes for a device (`dev_valid_name`, `dev_alloc_name`), and tayga; see
/// [`is_name_format`].
///
/// [`is_name_format`]: super::is_name_format
pub(super) fn device(word: &[u8]) -> Result<String, Cow<'static, str>> {
    const MAX_OCTETS: usize = 15; // IFNAMSIZ less the NUL
    let text = text(word);
    let allowed = |char: char| !matches!(char, '/' | ':' | '\0') && !char.is_whitespace();
    let valid = (1..=MAX_OCTETS).contains(&text.len())
        && !matches!(text, "." | "..")
        && text.chars().all(allowed);
    if !valid {
        return Err("a device name of 1 to 15 octets without / and :".into());
    }
    if text.replacen("%d", "", 1).contains('%') {
        return Err(
            "a device name with no % but one %d, for which the kernel puts a number".into(),
        );
    }
    Ok(text.to_owned())
}

pub(super) fn unicast4(word: &[u8]) -> Result<Ipv4Addr, Cow<'static, str>> {
    let address = from_text(word).ok_or("an IPv4 address")?;
    if special::is_illegal_v4(address) {
        return Err(format!("an IPv4 address {ILLEGAL_V4}").into());
    }
    Ok(address)
}

pub(super) fn unicast6(word: &[u8]) -> Result<Ipv6Addr, Cow<'static, str>> {
    let address = from_text(word).ok_or("an IPv6 address")?;
    if special::is_illegal_v6(address) {
        return Err(format!("an IPv6 address {ILLEGAL_V6}").into());
    }
    Ok(address)
}

pub(super) fn nat64_prefix(word: &[u8]) -> Result<Nat64Prefix, Cow<'static, str>> {
    const LENGTHS: &str = "an IPv6 prefix of length 32, 40, 48, 56, 64 or 96";
    let (address, length) = with_length::<Ipv6Addr>(word, 128).ok_or("an IPv6 prefix")?;
    let length = length.ok_or_else(|| length_expected(word, 128, LENGTHS))?;
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

pub(super) fn prefix4(word: &[u8]) -> Result<Prefix4, Cow<'static, str>> {
    let (address, length) = with_length::<Ipv4Addr>(word, 32).ok_or("an IPv4 address or prefix")?;
    let length = length.ok_or_else(|| length_expected(word, 32, LENGTH_V4))?;
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

pub(super) fn prefix6(word: &[u8]) -> Result<Prefix6, Cow<'static, str>> {
    let (address, length) =
        with_length::<Ipv6Addr>(word, 128).ok_or("an IPv6 address or prefix")?;
    let length = length.ok_or_else(|| length_expected(word, 128, LENGTH_V6))?;
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

pub(super) fn pool(word: &[u8]) -> Result<Prefix4, Cow<'static, str>> {
    const POOL: &str = "an IPv4 prefix of length 0 to 31";
    let (address, length) = with_length::<Ipv4Addr>(word, 32).ok_or(POOL)?;
    let length = length.ok_or_else(|| length_expected(word, 31, POOL))?;
    if length > 31 {
        return Err(POOL.into());
    }
    Prefix4::new(address, length).map_err(|_| host_bits(IpPrefix::V4(address, length)))?;
    prefix4(word)
}

pub(super) fn ip_prefix(word: &[u8]) -> Result<IpPrefix, Cow<'static, str>> {
    if let Some((address, length)) = with_length(word, 32) {
        let length = length.ok_or_else(|| length_expected(word, 32, LENGTH_V4))?;
        return Ok(IpPrefix::V4(address, length));
    }
    let (address, length) = with_length(word, 128).ok_or("an IPv4 or IPv6 address or prefix")?;
    let length = length.ok_or_else(|| length_expected(word, 128, LENGTH_V6))?;
    Ok(IpPrefix::V6(address, length))
}

pub(super) fn path(word: &[u8]) -> Result<PathBuf, Cow<'static, str>> {
    if word.is_empty() || word.contains(&0) {
        return Err("a path".into());
    }
    Ok(PathBuf::from(OsStr::from_bytes(word)))
}

pub(super) fn absolute_path(word: &[u8]) -> Result<PathBuf, Cow<'static, str>> {
    path(word)
        .ok()
        .filter(|path| path.is_absolute())
        .ok_or("an absolute path".into())
}

pub(super) fn yes_or_no(word: &[u8]) -> Result<bool, Cow<'static, str>> {
    match word.to_ascii_lowercase().as_slice() {
        b"yes" | b"true" | b"on" | b"1" => Ok(true),
        b"no" | b"false" | b"off" | b"0" => Ok(false),
        _ => Err("yes or no".into()),
    }
}

/// The example file of tayga has `tun-up up`.
pub(super) fn up(word: &[u8]) -> Result<bool, Cow<'static, str>> {
    if word.eq_ignore_ascii_case(b"up") {
        return Ok(true);
    }
    yes_or_no(word)
}

/// As tayga, by the start of the word.
pub(super) fn udp_checksum(word: &[u8]) -> Result<UdpChecksum, Cow<'static, str>> {
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

pub(super) fn log_class(word: &[u8]) -> Result<LogClasses, Cow<'static, str>> {
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

pub(super) fn mtu(word: &[u8]) -> Result<u16, Cow<'static, str>> {
    required(word, 1280..=65535, "a number from 1280 to 65535")
}

pub(super) fn queue_length(word: &[u8]) -> Result<u32, Cow<'static, str>> {
    required(word, 1..=100_000, "a number of packets from 1 to 100000")
}

pub(super) fn workers(word: &[u8]) -> Result<(), Cow<'static, str>> {
    required(word, 0_u8..=64, "a number from 0 to 64").map(|_| ())
}

/// `1` is a rate here, and not tayga's `yes`.
pub(super) fn icmp_errors(word: &[u8]) -> Result<IcmpErrors, Cow<'static, str>> {
    if let Some(rate) = number(word, 1..=1_000_000) {
        return Ok(IcmpErrors::PerSecond(rate));
    }
    match yes_or_no(word) {
        Ok(true) => Ok(Settings::default().icmp_errors),
        Ok(false) => Ok(IcmpErrors::Off),
        Err(_) => Err("yes, no or a number from 1 to 1000000".into()),
    }
}

pub(super) fn traffic_class(word: &[u8]) -> Result<TrafficClass, Cow<'static, str>> {
    if word.eq_ignore_ascii_case(b"copy") {
        return Ok(TrafficClass::Copy);
    }
    let octet = match text(word).to_ascii_lowercase().strip_prefix("0x") {
        Some(digits) if digits.starts_with('+') => None,
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => number(word, 0..=255),
    };
    octet
        .map(TrafficClass::Fixed)
        .ok_or("copy or a number from 0 to 255 (0xff)".into())
}

const ILLEGAL_V4: &str = "outside 0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/4 and 255.255.255.255";
const ILLEGAL_V6: &str = "outside ::/8 (but for 64:ff9b::/32), fe80::/10 and ff00::/8";

const LENGTH_V4: &str = "an IPv4 prefix length from 0 to 32";
pub(super) const LENGTH_V6: &str = "an IPv6 prefix length from 0 to 128";

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

/// What is expected in the place of a prefix whose length is refused: where only its spelling is
/// wrong, the right one.
fn length_expected(word: &[u8], max: u8, otherwise: &'static str) -> Cow<'static, str> {
    let spelt = text(word)
        .split_once('/')
        .and_then(|(address, length)| Some((address, length.parse::<u8>().ok()?)));
    match spelt {
        Some((address, length)) if length <= max => {
            format!("a prefix length without a sign or leading zeros ({address}/{length})").into()
        }
        _ => otherwise.into(),
    }
}

/// A number, or what is expected: where only its spelling is wrong, the right one.
fn required<N: FromStr + PartialOrd + fmt::Display>(
    word: &[u8],
    range: RangeInclusive<N>,
    otherwise: &'static str,
) -> Result<N, Cow<'static, str>> {
    let number = from_text(word).filter(|number| range.contains(number));
    match number {
        None => Err(otherwise.into()),
        Some(number) if decimal::<N>(text(word)).is_some() => Ok(number),
        Some(number) => Err(format!("a number without a sign or leading zeros ({number})").into()),
    }
}

/// A decimal number, without a sign or leading zeros. tayga takes both.
fn number<N: FromStr + PartialOrd>(word: &[u8], range: RangeInclusive<N>) -> Option<N> {
    decimal(text(word)).filter(|number| range.contains(number))
}

fn from_text<T: FromStr>(word: &[u8]) -> Option<T> {
    text(word).parse().ok()
}

/// What is not UTF-8 is no address, number or name: it reads as nothing.
fn text(word: &[u8]) -> &str {
    str::from_utf8(word).unwrap_or_default()
}
