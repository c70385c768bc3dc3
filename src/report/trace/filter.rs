//! Which packets a trace shows.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

use crate::{
    addr::{Address, IpPrefix, Prefix, decimal},
    report::packet_log::Summary,
    translate::Direction,
    wire::protocol,
};

/// The words that begin a condition of a filter.
pub const WORDS: &[&str] = &["host", "family", "proto", "port", "dropped"];

/// A filter: the conditions that a packet is to meet, all of them.
///
/// A packet and its translation are shown if one of the two meets [`host`](Self::host),
/// [`protocol`](Self::protocol) and [`port`](Self::port).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Source or destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    /// The family as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// The transport protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Source or destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Only what is dropped, whether its sender is told or not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
}

/// What is expected in the place of a word.
type Expected = Cow<'static, str>;

impl Filter {
    /// Reads words, as `host 192.0.2.1 port 53`. The error says what is expected, and where.
    pub fn parse<'w>(words: impl IntoIterator<Item = &'w str>) -> Result<Self, String> {
        let mut filter = Self::default();
        let mut words = words.into_iter();
        while let Some(name) = words.next() {
            let before = match name {
                "host" => filter
                    .host
                    .replace(value(&mut words, name, Host::read)?)
                    .is_some(),
                "family" => {
                    let family = value(&mut words, name, Family::read)?;
                    filter.family.replace(family).is_some()
                }
                "proto" => {
                    let protocol = value(&mut words, name, Protocol::read)?;
                    filter.protocol.replace(protocol).is_some()
                }
                "port" => filter
                    .port
                    .replace(value(&mut words, name, port)?)
                    .is_some(),
                "dropped" => std::mem::replace(&mut filter.dropped, true),
                other => {
                    let names = "host, family, proto, port or dropped";
                    return Err(format!("expected {names}, found \"{other}\""));
                }
            };
            if before {
                return Err(format!("expected {name} once, found it twice"));
            }
        }
        Ok(filter)
    }

    /// Whether packets are shown that came as one of this direction.
    pub(super) fn takes(&self, direction: Option<Direction>) -> bool {
        match self.family {
            None => true,
            Some(Family::V4) => direction == Some(Direction::FourToSix),
            Some(Family::V6) => direction == Some(Direction::SixToFour),
        }
    }

    /// Whether a packet, as it came or as it goes, has this host, protocol and port.
    pub(super) fn matches(&self, packet: &Summary) -> bool {
        let is_host = |host: Host| {
            let addresses = packet.addresses();
            addresses.is_some_and(|(from, to)| host.contains(from) || host.contains(to))
        };
        let is_protocol = |known: Protocol| packet.protocol().is_some_and(|it| known.is(it));
        let is_port = |port| {
            packet
                .ports()
                .is_some_and(|(from, to)| from == port || to == port)
        };
        self.host.is_none_or(is_host)
            && self.protocol.is_none_or(is_protocol)
            && self.port.is_none_or(is_port)
    }
}

/// Reads the word after the name of a condition.
fn value<'w, T>(
    words: &mut impl Iterator<Item = &'w str>,
    name: &str,
    read: fn(&str) -> Result<T, Expected>,
) -> Result<T, String> {
    let word = words.next();
    read(word.unwrap_or_default()).map_err(|expected| match word {
        Some(word) => format!("expected {expected} after {name}, found \"{word}\""),
        None => format!("expected {expected} after {name}, found nothing"),
    })
}

fn port(word: &str) -> Result<u16, Expected> {
    decimal(word).ok_or("a port from 0 to 65535".into())
}

/// An address, or a prefix that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(IpPrefix);

impl Host {
    fn read(word: &str) -> Result<Self, Expected> {
        let expected = "an IPv4 or IPv6 address or prefix";
        let prefix: IpPrefix = word.parse().map_err(|_| expected)?;
        if prefix.network() != prefix {
            let network = prefix.network();
            return Err(format!("a prefix without host bits ({network})").into());
        }
        Ok(Self(prefix))
    }

    fn contains(self, address: IpAddr) -> bool {
        fn is_in<A: Address>(network: A, length: u8, address: A) -> bool {
            Prefix::around(network, length).contains(address)
        }
        match (self.0, address) {
            (IpPrefix::V4(network, length), IpAddr::V4(address)) => is_in(network, length, address),
            (IpPrefix::V6(network, length), IpAddr::V6(address)) => is_in(network, length, address),
            _ => false,
        }
    }
}

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::read(&text).map_err(|expected| format!("expected {expected}, found {text:?}"))
    }
}

impl From<Host> for String {
    fn from(Host(prefix): Host) -> Self {
        match (prefix.address(), prefix.length()) {
            (IpAddr::V4(address), Ipv4Addr::LENGTH) => address.to_string(),
            (IpAddr::V6(address), Ipv6Addr::LENGTH) => address.to_string(),
            _ => prefix.to_string(),
        }
    }
}

/// A family, by the number of its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    fn read(word: &str) -> Result<Self, Expected> {
        match word {
            "4" => Ok(Self::V4),
            "6" => Ok(Self::V6),
            _ => Err("4 or 6".into()),
        }
    }
}

impl TryFrom<u8> for Family {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            4 => Ok(Self::V4),
            6 => Ok(Self::V6),
            _ => Err(format!("expected family 4 or 6, found {number}")),
        }
    }
}

impl From<Family> for u8 {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => 4,
            Family::V6 => 6,
        }
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Protocol {
    /// ICMP of either family.
    Icmp,
    /// That of this number.
    Number(u8),
}

impl Protocol {
    fn read(word: &str) -> Result<Self, Expected> {
        Ok(match word {
            "icmp" => Self::Icmp,
            "tcp" => Self::Number(protocol::TCP),
            "udp" => Self::Number(protocol::UDP),
            _ => {
                let expected = "tcp, udp, icmp or the number of a protocol";
                Self::Number(decimal(word).ok_or(expected)?)
            }
        })
    }

    fn is(self, number: u8) -> bool {
        match self {
            Self::Icmp => matches!(number, protocol::ICMPV4 | protocol::ICMPV6),
            Self::Number(known) => number == known,
        }
    }
}

impl TryFrom<String> for Protocol {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::read(&text).map_err(|expected| format!("expected {expected}, found {text:?}"))
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Icmp => "icmp".to_owned(),
            Protocol::Number(protocol::TCP) => "tcp".to_owned(),
            Protocol::Number(protocol::UDP) => "udp".to_owned(),
            Protocol::Number(number) => number.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn filter(words: &str) -> Filter {
        Filter::parse(words.split(' ')).unwrap()
    }

    /// UDP from 192.0.2.1 port 1024 to 198.51.100.7 port 53.
    fn udp() -> Summary {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend([192, 0, 2, 1, 198, 51, 100, 7]);
        packet.extend([4, 0, 0, 53, 0, 8, 0, 0]);
        Summary::of(&packet)
    }

    #[test]
    fn every_condition_has_its_word() {
        let all = filter("host 192.0.2.0/24 family 4 proto udp port 53 dropped");
        let expected = Filter {
            host: Some(Host("192.0.2.0/24".parse().unwrap())),
            family: Some(Family::V4),
            protocol: Some(Protocol::Number(17)),
            port: Some(53),
            dropped: true,
        };
        assert_eq!(all, expected);
        assert_eq!(Filter::parse([]), Ok(Filter::default()));
    }

    #[test]
    fn a_mistake_is_said_with_what_is_expected() {
        for (words, expected) in [
            (
                "hosts",
                "expected host, family, proto, port or dropped, found \"hosts\"",
            ),
            (
                "host",
                "expected an IPv4 or IPv6 address or prefix after host, found nothing",
            ),
            (
                "host example.org",
                "expected an IPv4 or IPv6 address or prefix after host, found \"example.org\"",
            ),
            (
                "host 192.0.2.1/24",
                "expected a prefix without host bits (192.0.2.0/24) after host, \
                 found \"192.0.2.1/24\"",
            ),
            ("family 5", "expected 4 or 6 after family, found \"5\""),
            (
                "proto 256",
                "expected tcp, udp, icmp or the number of a protocol after proto, found \"256\"",
            ),
            (
                "port 65536",
                "expected a port from 0 to 65535 after port, found \"65536\"",
            ),
            (
                "port +1",
                "expected a port from 0 to 65535 after port, found \"+1\"",
            ),
            ("dropped dropped", "expected dropped once, found it twice"),
            ("port 1 port 2", "expected port once, found it twice"),
        ] {
            assert_eq!(
                Filter::parse(words.split(' ')),
                Err(expected.to_owned()),
                "{words}"
            );
        }
    }

    #[test]
    fn a_packet_meets_all_conditions_or_none_counts() {
        for (words, matches) in [
            ("host 192.0.2.1", true),
            ("host 198.51.100.0/24", true),
            ("host 192.0.2.2", false),
            ("host ::/0", false),
            ("host 0.0.0.0/0", true),
            ("proto udp", true),
            ("proto 17", true),
            ("proto icmp", false),
            ("port 53", true),
            ("port 1024", true),
            ("port 54", false),
            ("host 192.0.2.1 port 54", false),
            ("host 192.0.2.1 proto udp port 53", true),
        ] {
            assert_eq!(filter(words).matches(&udp()), matches, "{words}");
        }
        assert!(!filter("port 53").matches(&Summary::of(&[])));
        for (words, four, six, neither) in [
            ("dropped", true, true, true),
            ("family 4", true, false, false),
            ("family 6", false, true, false),
        ] {
            let takes = |direction| filter(words).takes(direction);
            let taken = [Some(Direction::FourToSix), Some(Direction::SixToFour), None];
            assert_eq!(taken.map(takes), [four, six, neither], "{words}");
        }
    }
}
