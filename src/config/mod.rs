//! tayga.conf: text to settings, and back.
//!
//! [`Config::read`] goes through the text line by line. [`parse`] makes a directive of a line, or says which word of it
//! is wrong; [`check`] compares the directives with each other. Neither stops at a mistake: one run shows all of them.

mod check;
mod parse;

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use crate::{
    addr::{AddressMap, Eam, Nat64Prefix, Prefix4, Prefix6},
    translate::{IcmpErrors, Settings, TrafficClass, UdpChecksum},
};

pub use parse::DIRECTIVES;

/// A tayga.conf, read and checked.
///
/// [`Display`](fmt::Display) writes it as a tayga.conf: what must be there, and what differs from its default. Reading
/// that gives an equal `Config`, unless a path in it is not UTF-8.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `tun-device`: name of the TUN device, 1 to 15 octets.
    pub tun_device: String,
    /// `ipv4-addr`: the translator's own IPv4 address.
    pub ipv4_addr: Ipv4Addr,
    /// `ipv6-addr`: the translator's own IPv6 address; where it is not given, `ipv4-addr` in the prefix.
    pub ipv6_addr: Ipv6Addr,
    /// `prefix`: where the IPv4 addresses without a mapping of their own are.
    pub prefix: Option<Nat64Prefix>,
    /// `map`, in the order of the file; no prefix of either family is in it twice.
    pub maps: Vec<Eam>,
    /// `dynamic-pool`: IPv4 addresses to lend, /31 or shorter.
    pub dynamic_pool: Option<Prefix4>,
    /// `map-file`: more `map` lines; relative to `data_dir`.
    pub map_file: Option<PathBuf>,
    /// `data-dir`: where leases are kept; absolute.
    pub data_dir: Option<PathBuf>,
    /// `wkpf-strict`: private IPv4 addresses are not written with 64:ff9b::/96 (RFC 6052 section 3.1). On by default.
    pub wkpf_strict: bool,
    /// `log`: which packets are logged.
    pub log: LogClasses,
    /// `tun-up`: set the device up at start. Off by default.
    pub tun_up: bool,
    /// `tun-ip`: addresses for the device, none twice.
    pub tun_ip: Vec<IpPrefix>,
    /// `tun-route`: routes to the device, none twice; host bits are as in the file.
    pub tun_route: Vec<IpPrefix>,
    /// Everything the translator itself is told; its `mtu` is the device's and filled in by the daemon.
    pub translation: Settings,
}

impl Config {
    /// Reads the text of a tayga.conf.
    ///
    /// Octets that are not UTF-8 are as good as any other in comments and paths. All mistakes of the text are returned,
    /// in the order of the lines; those without a line come last.
    pub fn read(text: impl AsRef<[u8]>) -> Result<(Self, Vec<Notice>), Vec<LineError>> {
        let mut check = check::Check::default();
        for (index, text) in text.as_ref().split(|&octet| octet == b'\n').enumerate() {
            match parse::line(index + 1, text) {
                Ok(None) => {}
                Ok(Some(line)) => check.directive(line),
                Err(refused) => check.refused(refused),
            }
        }
        check.finish()
    }

    /// Who is whom by these settings: the own addresses, `map` and `prefix`.
    pub fn address_map(&self) -> AddressMap {
        let mut map = AddressMap::new(
            self.ipv4_addr,
            self.ipv6_addr,
            self.prefix,
            self.wkpf_strict,
        );
        for &eam in &self.maps {
            // Refused is only what is there already, and `read` lets no prefix in twice.
            let _ = map.insert(eam);
        }
        map
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Taken apart in full, so that a new field cannot be forgotten here.
        let Self {
            tun_device,
            ipv4_addr,
            ipv6_addr,
            prefix,
            maps,
            dynamic_pool,
            map_file,
            data_dir,
            wkpf_strict,
            log,
            tun_up,
            tun_ip,
            tun_route,
            translation,
        } = self;
        writeln!(f, "tun-device {tun_device}")?;
        writeln!(f, "ipv4-addr {ipv4_addr}")?;
        if default_ipv6_addr(*prefix, *ipv4_addr) != Some(*ipv6_addr) {
            writeln!(f, "ipv6-addr {ipv6_addr}")?;
        }
        if let Some(prefix) = prefix {
            writeln!(f, "prefix {}", prefix.prefix())?;
        }
        if !wkpf_strict {
            writeln!(f, "wkpf-strict no")?;
        }
        if let Some(pool) = dynamic_pool {
            writeln!(f, "dynamic-pool {pool}")?;
        }
        if let Some(path) = data_dir {
            writeln!(f, "data-dir {}", path.display())?;
        }
        if let Some(path) = map_file {
            writeln!(f, "map-file {}", path.display())?;
        }
        write_translation(translation, f)?;
        if *log != LogClasses::default() {
            writeln!(f, "log {log}")?;
        }
        if *tun_up {
            writeln!(f, "tun-up yes")?;
        }
        for address in tun_ip {
            writeln!(f, "tun-ip {address}")?;
        }
        for route in tun_route {
            writeln!(f, "tun-route {route}")?;
        }
        for eam in maps {
            writeln!(f, "map {}", map_words(eam).join(" "))?;
        }
        Ok(())
    }
}

/// The packet classes of the `log` directive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogClasses {
    /// Packets that are dropped without an answer.
    pub drop: bool,
    /// Packets that are answered with an ICMP error.
    pub reject: bool,
    /// ICMP errors that are translated.
    pub icmp: bool,
    /// Packets to the translator's own addresses.
    pub own: bool,
    /// What happens to leases of the dynamic pool.
    pub dynamic: bool,
}

impl fmt::Display for LogClasses {
    /// The words of the directive, as `drop self`; nothing if no class is on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.drop, "drop"),
            (self.reject, "reject"),
            (self.icmp, "icmp"),
            (self.own, "self"),
            (self.dynamic, "dyn"),
        ];
        let mut space = "";
        for (_, word) in words.into_iter().filter(|(on, _)| *on) {
            write!(f, "{space}{word}")?;
            space = " ";
        }
        Ok(())
    }
}

/// An address with a prefix length, of either family; host bits may be set (`tun-ip`, `tun-route`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpPrefix {
    /// `192.0.2.1/24`; the length is 0 to 32 bits.
    V4(Ipv4Addr, u8),
    /// `2001:db8::1/64`; the length is 0 to 128 bits.
    V6(Ipv6Addr, u8),
}

impl IpPrefix {
    /// The address.
    pub const fn address(self) -> IpAddr {
        match self {
            Self::V4(address, _) => IpAddr::V4(address),
            Self::V6(address, _) => IpAddr::V6(address),
        }
    }

    /// The prefix length, in bits.
    pub const fn length(self) -> u8 {
        match self {
            Self::V4(_, length) | Self::V6(_, length) => length,
        }
    }

    /// The same without host bits. A length that is too long counts as the longest.
    pub fn network(self) -> Self {
        // A shift by all bits is not a shift to Rust; what it would leave is 0.
        match self {
            Self::V4(address, length) => {
                let host_bits = 32_u32.saturating_sub(length.into());
                let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
                Self::V4(Ipv4Addr::from_bits(address.to_bits() & mask), length)
            }
            Self::V6(address, length) => {
                let host_bits = 128_u32.saturating_sub(length.into());
                let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
                Self::V6(Ipv6Addr::from_bits(address.to_bits() & mask), length)
            }
        }
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.length())
    }
}

/// Why a line of the configuration is refused.
///
/// As text it is `7:8: expected an IPv6 prefix, found "64:ff9b::/129"`: line, column, and the mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// From 1; 0 if the mistake is in no line, as with a directive that is not there.
    pub line: usize,
    /// Where in the line the wrong word starts: in octets from 1, as editors count in ASCII text. 0 if `line` is.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

impl LineError {
    /// As text after the name of the file: `tayga.conf:7:8: expected ...`.
    pub fn in_file(&self, path: &Path) -> impl fmt::Display {
        let separator = if self.line == 0 { ": " } else { ":" };
        fmt::from_fn(move |f| write!(f, "{}{separator}{self}", path.display()))
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line != 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for LineError {}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// One thing should be there, and another is.
    Expected {
        /// As it reads after "expected".
        expected: Cow<'static, str>,
        /// As it reads after "found": the word in quotes, made printable and cut to a sane length; or `end of line`,
        /// `a comment`, `none`.
        found: String,
    },
    /// The first word is the name of no directive.
    UnknownDirective {
        /// As in [`Problem::Expected`].
        found: String,
        /// The directive that is spelt almost like it.
        similar: Option<&'static str>,
    },
    /// It was said before.
    Repeats {
        /// What: the name of the directive, or which mapping.
        what: Cow<'static, str>,
        /// The line that had it first.
        line: usize,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expected { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::UnknownDirective { found, similar } => {
                write!(f, "expected a directive, found {found}")?;
                match similar {
                    Some(name) => write!(f, " (did you mean {name}?)"),
                    None => Ok(()),
                }
            }
            Self::Repeats { what, line } => write!(f, "{what} repeats line {line}"),
        }
    }
}

/// Something about a line that is accepted, but that whoever wrote it should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// From 1.
    pub line: usize,
    /// How much it matters.
    pub level: Level,
    /// What there is to know.
    pub text: Cow<'static, str>,
}

impl Notice {
    /// As text after the name of the file: `tayga.conf:7: strict-frag-hdr is ignored`.
    pub fn in_file(&self, path: &Path) -> impl fmt::Display {
        fmt::from_fn(move |f| write!(f, "{}:{self}", path.display()))
    }
}

impl fmt::Display for Notice {
    /// `7: strict-frag-hdr is ignored`, without the level.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.text)
    }
}

/// How much a [`Notice`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The line does not do what it seems to say, or is likely a mistake.
    Warning,
    /// Nothing is wrong.
    Info,
}

/// The translator's IPv6 address where `ipv6-addr` does not say: its IPv4 address in the prefix.
fn default_ipv6_addr(prefix: Option<Nat64Prefix>, ipv4_addr: Ipv4Addr) -> Option<Ipv6Addr> {
    prefix.map(|prefix| prefix.embed(ipv4_addr))
}

/// The arguments of `map`. A host is written without its length, which tayga 0.9.2 does not take.
pub(crate) fn map_words(eam: &Eam) -> [String; 2] {
    let (v4, v6) = (eam.v4(), eam.v6());
    [
        if v4 == Prefix4::host(v4.address()) {
            v4.address().to_string()
        } else {
            v4.to_string()
        },
        if v6 == Prefix6::host(v6.address()) {
            v6.address().to_string()
        } else {
            v6.to_string()
        },
    ]
}

/// The directives that make [`Settings`].
fn write_translation(settings: &Settings, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let default = Settings::default();
    let Settings {
        mtu: _, // the device's
        offlink_mtu,
        udp_checksum,
        traffic_class,
        tos,
        hairpin,
        icmp_source,
        icmp_errors,
    } = settings;
    if *offlink_mtu != default.offlink_mtu {
        writeln!(f, "offlink-mtu {offlink_mtu}")?;
    }
    if *udp_checksum != default.udp_checksum {
        writeln!(f, "udp-cksum-mode {}", udp_checksum_word(*udp_checksum))?;
    }
    if let TrafficClass::Fixed(octet) = traffic_class {
        writeln!(f, "traffic-class {octet:#04x}")?;
    }
    if let TrafficClass::Fixed(octet) = tos {
        writeln!(f, "tos {octet:#04x}")?;
    }
    if *hairpin != default.hairpin {
        writeln!(f, "hairpin no")?;
    }
    if let Some(address) = icmp_source {
        writeln!(f, "icmp-source {address}")?;
    }
    if *icmp_errors != default.icmp_errors {
        match icmp_errors {
            IcmpErrors::Off => writeln!(f, "icmp-errors no")?,
            IcmpErrors::PerSecond(rate) => writeln!(f, "icmp-errors {rate}")?,
        }
    }
    Ok(())
}

/// The argument of `udp-cksum-mode`.
pub(crate) fn udp_checksum_word(mode: UdpChecksum) -> &'static str {
    match mode {
        UdpChecksum::Drop => "drop",
        UdpChecksum::Forward => "fwd",
        UdpChecksum::Calculate => "calc",
    }
}
