//! One word to one value.
//!
//! A reader says what a word means, or what is expected in its place. Every reader refuses the
//! empty word, which stands for a word that is not there.

use std::{
    ffi::OsStr,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    str::FromStr,
};

use super::{ControlSocket, LogClasses, grammar::Expected};
use crate::{
    addr::{
        Address, IpPrefix, Nat64Prefix, Nat64PrefixError, Prefix4, Prefix6, PrefixError, decimal,
        parse_prefix, special,
    },
    translate::{IcmpErrors, Settings, TrafficClass, UdpChecksum},
};

const ILLEGAL_V4: &str = "outside 0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/4 and 255.255.255.255";
const ILLEGAL_V6: &str = "outside ::/8 (but for 64:ff9b::/32), fe80::/10 and ff00::/8";

const LENGTH_V4: &str = "an IPv4 prefix length from 0 to 32";
pub(super) const LENGTH_V6: &str = "an IPv6 prefix length from 0 to 128";

pub(super) fn anything(word: &[u8]) -> Result<(), Expected> {
    if word.is_empty() {
        return Err("a value".into());
    }
    Ok(())
}

/// Whether Linux takes `name` for a device (`dev_valid_name`).
pub(super) fn is_device_name(name: &str) -> bool {
    const MAX_OCTETS: usize = 15; // IFNAMSIZ less the NUL
    let allowed = |char: char| !matches!(char, '/' | ':' | '\0') && !char.is_whitespace();
    (1..=MAX_OCTETS).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.chars().all(allowed)
}

/// The name of a device, or a [format](super::is_name_format) of one (`dev_alloc_name`).
pub(super) fn device(word: &[u8]) -> Result<String, Expected> {
    let name = text(word);
    if !is_device_name(name) {
        return Err("a device name of 1 to 15 octets without / and :".into());
    }
    if name.replacen("%d", "", 1).contains('%') {
        return Err(
            "a device name with no % but one %d, for which the kernel puts a number".into(),
        );
    }
    Ok(name.to_owned())
}

pub(super) fn unicast4(word: &[u8]) -> Result<Ipv4Addr, Expected> {
    let address = from_text(word).ok_or("an IPv4 address")?;
    if special::is_illegal_v4(address) {
        return Err(format!("an IPv4 address {ILLEGAL_V4}").into());
    }
    Ok(address)
}

pub(super) fn unicast6(word: &[u8]) -> Result<Ipv6Addr, Expected> {
    let address = from_text(word).ok_or("an IPv6 address")?;
    if special::is_illegal_v6(address) {
        return Err(format!("an IPv6 address {ILLEGAL_V6}").into());
    }
    Ok(address)
}

pub(super) fn nat64_prefix(word: &[u8]) -> Result<Nat64Prefix, Expected> {
    const LENGTHS: &str = "an IPv6 prefix of length 32, 40, 48, 56, 64 or 96";
    let (address, length) = prefix_word::<Ipv6Addr>(word, "an IPv6 prefix", LENGTHS)?;
    // Of an address with host bits, too, a length is refused before they are.
    match Nat64Prefix::new(Prefix6::around(address, length)) {
        Err(Nat64PrefixError::Length) => Err(LENGTHS.into()),
        _ if Prefix6::new(address, length).is_err() => {
            Err(without_host_bits(IpPrefix::V6(address, length)))
        }
        Err(Nat64PrefixError::NotUnicast) => Err(format!("an IPv6 prefix {ILLEGAL_V6}").into()),
        Ok(prefix) => Ok(prefix),
    }
}

pub(super) fn prefix4(word: &[u8]) -> Result<Prefix4, Expected> {
    let (address, length) = prefix_word(word, "an IPv4 address or prefix", LENGTH_V4)?;
    let prefix = Prefix4::new(address, length)
        .map_err(|_| without_host_bits(IpPrefix::V4(address, length)))?;
    // Every illegal range is within one /4, so one of these has both ends of such a prefix.
    let ends = [address, prefix.last()];
    if length >= 4 && ends.into_iter().all(special::is_illegal_v4) {
        return Err(format!("an IPv4 prefix {ILLEGAL_V4}").into());
    }
    Ok(prefix)
}

pub(super) fn prefix6(word: &[u8]) -> Result<Prefix6, Expected> {
    let (address, length) = prefix_word(word, "an IPv6 address or prefix", LENGTH_V6)?;
    let prefix = Prefix6::new(address, length)
        .map_err(|_| without_host_bits(IpPrefix::V6(address, length)))?;
    // As in `prefix4`, with /8.
    let ends = [address, prefix.last()];
    if length >= 8 && ends.into_iter().all(special::is_illegal_v6) {
        return Err(format!("an IPv6 prefix {ILLEGAL_V6}").into());
    }
    Ok(prefix)
}

pub(super) fn pool(word: &[u8]) -> Result<Prefix4, Expected> {
    const POOL: &str = "an IPv4 prefix of length 0 to 31";
    match parse_prefix::<Ipv4Addr>(text(word)) {
        Ok((_, ..=31)) | Err(PrefixError::Spelling { length: ..=31 }) => prefix4(word),
        _ => Err(POOL.into()),
    }
}

pub(super) fn ip_prefix(word: &[u8]) -> Result<IpPrefix, Expected> {
    let is_v6 = word.contains(&b':');
    let length = if is_v6 { LENGTH_V6 } else { LENGTH_V4 };
    let prefix = text(word).parse();
    prefix.map_err(|error| refused(word, error, "an IPv4 or IPv6 address or prefix", length))
}

fn prefix_word<A: Address>(
    word: &[u8],
    address: &'static str,
    length: &'static str,
) -> Result<(A, u8), Expected> {
    parse_prefix(text(word)).map_err(|error| refused(word, error, address, length))
}

/// The text that is expected in the place of a prefix: `address` or `length`, whichever is wrong.
fn refused(
    word: &[u8],
    error: PrefixError,
    address: &'static str,
    length: &'static str,
) -> Expected {
    match error {
        PrefixError::Spelling { length } => {
            let (address, _) = text(word).split_once('/').unwrap_or_default();
            let right = format!("{address}/{length}");
            format!("a prefix length without a sign or leading zeros ({right})").into()
        }
        PrefixError::NotAnAddress => address.into(),
        PrefixError::Length | PrefixError::HostBits => length.into(),
    }
}

fn without_host_bits(prefix: IpPrefix) -> Expected {
    let network = prefix.network();
    format!("a prefix without host bits ({network})").into()
}

pub(super) fn path(word: &[u8]) -> Result<PathBuf, Expected> {
    if word.is_empty() || word.contains(&0) {
        return Err("a path".into());
    }
    Ok(PathBuf::from(OsStr::from_bytes(word)))
}

pub(super) fn absolute_path(word: &[u8]) -> Result<PathBuf, Expected> {
    path(word)
        .ok()
        .filter(|path| path.is_absolute())
        .ok_or("an absolute path".into())
}

/// The path of the control socket; a switch is taken, too.
pub(super) fn control_socket(word: &[u8]) -> Result<ControlSocket, Expected> {
    match (yes_or_no(word), absolute_path(word)) {
        (Ok(true), _) => Ok(ControlSocket::OfDevice),
        (Ok(false), _) => Ok(ControlSocket::No),
        (_, Ok(path)) => Ok(ControlSocket::At(path)),
        _ => Err("yes, no or an absolute path".into()),
    }
}

/// The words for yes and no, of tayga and of clatd.
pub(super) fn yes_or_no(word: &[u8]) -> Result<bool, Expected> {
    match word.to_ascii_lowercase().as_slice() {
        b"yes" | b"true" | b"on" | b"1" => Ok(true),
        b"no" | b"false" | b"off" | b"0" => Ok(false),
        _ => Err("yes or no".into()),
    }
}

/// The example file of tayga has `tun-up up`.
pub(super) fn up(word: &[u8]) -> Result<bool, Expected> {
    if word.eq_ignore_ascii_case(b"up") {
        return Ok(true);
    }
    yes_or_no(word)
}

/// As tayga, by the start of the word.
pub(super) fn udp_checksum(word: &[u8]) -> Result<UdpChecksum, Expected> {
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

pub(super) fn log_class(word: &[u8]) -> Result<LogClasses, Expected> {
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

pub(super) fn mtu(word: &[u8]) -> Result<u16, Expected> {
    required(word, 1280..=65535, "a number from 1280 to 65535")
}

pub(super) fn queue_length(word: &[u8]) -> Result<u32, Expected> {
    required(word, 1..=100_000, "a number of packets from 1 to 100000")
}

/// None besides the one that there always is are one.
pub(super) fn workers(word: &[u8]) -> Result<u8, Expected> {
    required(word, 0_u8..=64, "a number from 0 to 64").map(|workers| workers.max(1))
}

/// `1` is a rate here, and not tayga's `yes`.
pub(super) fn icmp_errors(word: &[u8]) -> Result<IcmpErrors, Expected> {
    if let Some(rate) = number(word, 1..=1_000_000) {
        return Ok(IcmpErrors::PerSecond(rate));
    }
    match yes_or_no(word) {
        Ok(true) => Ok(Settings::default().icmp_errors),
        Ok(false) => Ok(IcmpErrors::Off),
        Err(_) => Err("yes, no or a number from 1 to 1000000".into()),
    }
}

pub(super) fn traffic_class(word: &[u8]) -> Result<TrafficClass, Expected> {
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

/// A number, or what is expected: where only its spelling is wrong, the right one.
fn required<N: FromStr + PartialOrd + fmt::Display>(
    word: &[u8],
    range: RangeInclusive<N>,
    otherwise: &'static str,
) -> Result<N, Expected> {
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

/// Any value that can be read from text.
pub(super) fn parsed<T: FromStr>(word: &[u8], expected: &'static str) -> Result<T, Expected> {
    from_text(word).ok_or(expected.into())
}

fn from_text<T: FromStr>(word: &[u8]) -> Option<T> {
    text(word).parse().ok()
}

/// The word as text. One that is not UTF-8 is no address, number or name: it reads as the empty
/// one.
pub(super) fn text(word: &[u8]) -> &str {
    str::from_utf8(word).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// tayga.conf(5): a switch or a path.
    #[test]
    fn the_control_socket_has_a_path_or_a_switch() {
        assert_eq!(control_socket(b"yes"), Ok(ControlSocket::OfDevice));
        assert_eq!(control_socket(b"no"), Ok(ControlSocket::No));
        let path = PathBuf::from("/run/x.sock");
        assert_eq!(control_socket(b"/run/x.sock"), Ok(ControlSocket::At(path)));
        assert!(control_socket(b"x.sock").is_err());
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
    fn numbers_are_in_their_range() {
        assert_eq!(mtu(b"1280"), Ok(1280));
        assert_eq!(mtu(b"65535"), Ok(65535));
        for word in ["1279", "65536", "-1", "0x600", "1500b", ""] {
            assert!(mtu(word.as_bytes()).is_err(), "{word}");
        }
        assert_eq!((workers(b"0"), workers(b"64")), (Ok(1), Ok(64)));
        assert!(workers(b"65").is_err());

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

    /// The six lengths of RFC 6052 section 2.2; 64:ff9b:1::/48 (RFC 8215) is as good as any.
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

    /// Linux refuses these names, and some of them would be the path of another file.
    #[test]
    fn a_device_has_a_name_that_linux_takes() {
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
}
