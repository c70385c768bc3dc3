//! tayga.conf: text to settings, and back.
//!
//! [`Config::read`] goes through the text line by line. `parse` makes a directive of a line, or says which word of it is
//! wrong; `check` compares the directives with each other. Neither stops at a mistake: one run shows all of them.

mod check;
pub mod clatd;
mod map_file;
mod overlap;
mod parse;
pub mod resolv_conf;
mod similar;
mod word;

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

/// Whether the name of a device is a format, as `nat%d`: the device is a new one each time, for
/// which the kernel puts the first number that is free in the place of `%d`. No device has a % in
/// its name.
pub fn is_name_format(device: &str) -> bool {
    device.contains('%')
}

/// A tayga.conf, read and checked.
///
/// [`Display`](fmt::Display) writes it as a tayga.conf: what must be there, and what differs from its default. Reading
/// that gives an equal `Config`, unless a path in it is not UTF-8.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `tun-device`: name of the TUN device, 1 to 15 octets; it may be a [format](is_name_format).
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
    /// `map-file`: more `map` lines, read by [`with_map_file`](Self::with_map_file); see
    /// [`map_file_path`](Self::map_file_path).
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
    /// `tun-queue-length`: packets that wait for the translator at most. `None`: as many as with the device now.
    pub tun_queue_length: Option<u32>,
    /// `keep-net-admin`: addresses and routes that are lost may be brought back later. Off by default.
    pub keep_net_admin: bool,
    /// `offload`: the kernel leaves checksums and segmentation to be done once, at the end. On by default.
    pub offload: bool,
    /// `sandbox`: once packets can flow, the kernel refuses what a translator does not need. On by default.
    pub sandbox: bool,
    /// Everything the translator itself is told; its `mtu` is the device's and filled in by the daemon.
    pub translation: Settings,
}

impl Config {
    /// Reads the text of a tayga.conf.
    ///
    /// Octets that are not UTF-8 are as good as any other in comments and paths. All mistakes of the text are returned,
    /// in the order of the lines; those without a line come last.
    pub fn read(text: impl AsRef<[u8]>) -> Result<(Self, Vec<Notice>), Vec<LineError>> {
        Self::read_in(text, None)
    }

    /// The same, where a service manager has a directory that is as good as `data-dir` if the text names none.
    pub fn read_in(
        text: impl AsRef<[u8]>,
        state_directory: Option<PathBuf>,
    ) -> Result<(Self, Vec<Notice>), Vec<LineError>> {
        let mut check = check::Check::new(state_directory);
        for (index, text) in text.as_ref().split(|&octet| octet == b'\n').enumerate() {
            match parse::line(index + 1, text) {
                Ok(None) => {}
                Ok(Some(line)) => check.directive(line),
                Err(refused) => check.refused(refused),
            }
        }
        check.finish()
    }

    /// Where the map-file is.
    pub fn map_file_path(&self) -> Option<PathBuf> {
        let path = self.map_file.as_ref()?;
        Some(self.path_from_data_dir(path))
    }

    /// A path that, where it is relative, starts at `data-dir`, or else at the root, as with tayga.
    pub fn path_from_data_dir(&self, path: &Path) -> PathBuf {
        let directory = self.data_dir.as_deref().unwrap_or(Path::new("/"));
        directory.join(path)
    }

    /// Who is whom by these settings: the own addresses, `map`, `dynamic-pool` and `prefix`.
    pub fn address_map(&self) -> AddressMap {
        let mut map = self.fixed_address_map();
        if let Some(pool) = self.dynamic_pool {
            map.set_pool(pool);
        }
        map
    }

    /// The same without the pool, which is only lent what is left.
    fn fixed_address_map(&self) -> AddressMap {
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
            tun_queue_length,
            keep_net_admin,
            offload,
            sandbox,
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
        if let Some(length) = tun_queue_length {
            writeln!(f, "tun-queue-length {length}")?;
        }
        if *keep_net_admin {
            writeln!(f, "keep-net-admin yes")?;
        }
        if !*offload {
            writeln!(f, "offload no")?;
        }
        if !*sandbox {
            writeln!(f, "sandbox no")?;
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
/// As text it is `7:8: expected an IPv6 prefix, found "64:ff9b:/96"`: line, column, and the mistake.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails to read fails")]

    use super::*;

    const SHORTEST: &str = "tun-device nat64\n\
                            ipv4-addr 192.168.255.1\n\
                            prefix 2001:db8:1:ffff::/96\n";

    /// Every directive, each at another value than its default.
    const EVERYTHING: &str = "tun-device nat64\n\
                              ipv4-addr 192.168.255.1\n\
                              ipv6-addr 2001:db8:1::2\n\
                              prefix 64:ff9b::/96\n\
                              wkpf-strict no\n\
                              dynamic-pool 192.168.255.0/24\n\
                              data-dir /var/spool/tayga\n\
                              map-file maps.conf\n\
                              offlink-mtu 1480\n\
                              udp-cksum-mode calc\n\
                              traffic-class 0x00\n\
                              tos 0xb8\n\
                              hairpin no\n\
                              icmp-source 192.0.0.8\n\
                              icmp-errors 200\n\
                              log drop reject icmp self dyn\n\
                              tun-up yes\n\
                              tun-queue-length 2000\n\
                              keep-net-admin yes\n\
                              offload no\n\
                              sandbox no\n\
                              tun-ip 192.168.255.2/24\n\
                              tun-ip 2001:db8:1::3/128\n\
                              tun-route 192.0.2.1/24\n\
                              tun-route ::/0\n\
                              map 192.0.2.1 2001:db8::1\n\
                              map 192.0.2.0/24 2001:db8:5::/64\n";

    fn read(text: &str) -> (Config, Vec<Notice>) {
        Config::read(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in [SHORTEST, EVERYTHING] {
            let (config, _) = read(text);
            assert_eq!(config.to_string(), text);
            assert_eq!(read(&config.to_string()).0, config);
        }
        for change in [
            "udp-cksum-mode fwd",
            "icmp-errors no",
            "icmp-errors 1",
            "tos 255",
            "log self",
        ] {
            let (config, _) = read(&format!("{SHORTEST}{change}\n"));
            assert_ne!(config, read(SHORTEST).0, "{change}");
            assert_eq!(read(&config.to_string()).0, config, "{change}");
        }
    }

    #[test]
    fn defaults_are_taygas() {
        let (config, notices) = read(SHORTEST);
        assert_eq!(notices, []);
        let Config {
            wkpf_strict,
            tun_up,
            tun_queue_length,
            keep_net_admin,
            offload,
            sandbox,
            log,
            translation,
            ..
        } = config;
        assert!(wkpf_strict && !tun_up && !keep_net_admin && offload && sandbox);
        assert_eq!(tun_queue_length, None);
        assert_eq!(log, LogClasses::default());
        assert_eq!(translation.offlink_mtu, 1280);
        assert_eq!(translation.udp_checksum, UdpChecksum::Drop);
    }

    #[test]
    fn without_ipv6_addr_it_is_ipv4_addr_in_the_prefix() {
        let own = |text| read(text).0.ipv6_addr.to_string();
        assert_eq!(own(SHORTEST), "2001:db8:1:ffff::c0a8:ff01");
        assert_eq!(
            own("tun-device n\nipv4-addr 192.0.2.33\nprefix 2001:db8:122::/48"),
            "2001:db8:122:c000:2:2100::"
        );
    }

    /// What clatd writes for tayga: no `ipv6-addr`, also with the well-known prefix.
    #[test]
    fn clatd_is_understood() {
        let (config, notices) = read(
            "tun-device clat\nprefix 64:ff9b::/96\nipv4-addr 192.0.0.2\nmap 192.0.0.1 2001:db8::c1a7\n",
        );
        assert_eq!(notices, []);
        assert_eq!(
            config.ipv6_addr,
            "64:ff9b::192.0.0.2".parse::<Ipv6Addr>().unwrap()
        );
        let map = config.address_map();
        let v6 = map.to_v6(Ipv4Addr::new(192, 0, 0, 1)).unwrap();
        assert_eq!(v6.address, "2001:db8::c1a7".parse::<Ipv6Addr>().unwrap());
        assert_eq!(map.own_v6(), config.ipv6_addr);
    }

    /// Files that tayga 0.9.2 starts with, by trial.
    #[test]
    fn what_starts_tayga_starts() {
        for text in [
            "tun-device 0123456789abcde\nipv4-addr 192.168.255.1\nprefix 2001:db8::/96",
            "tun-device a%d\nipv4-addr 192.168.255.1\nprefix 2001:db8:1:ff00:ff00::/96",
            "tun-device n\nipv4-addr 100.64.0.1\nprefix 64:ff9b::/96",
            "tun-device n\nipv4-addr 192.88.99.1\nprefix 64:ff9b::/96",
            "tun-device n\nipv4-addr 192.0.2.1\nprefix 64:ff9b::/96\nipv6-addr 2001:db8::1",
            "tun-device n\nipv4-addr 192.168.255.1\nprefix fd00::/96 # c",
            "tun-device n\nipv4-addr 192.168.255.1\nprefix 2001:db8::/32\nipv6-addr 2001:db9::1",
            "tun-device n\nipv4-addr 192.168.255.1\nprefix 2001:db8:1:ffff::/96\n\
             dynamic-pool 192.168.255.0/24\nmap 192.168.255.7 2001:db8::1",
            "tun-device n\nipv4-addr 192.168.255.1\nprefix 2001:db8:1:ffff::/96\nmap 192.168.255.0 2001:db8::1",
        ] {
            read(text);
        }
    }

    /// EAM-05, and what tayga refuses: prefixes within each other on both sides, longer IPv6 suffixes.
    #[test]
    fn maps_may_overlap() {
        let (config, notices) = read(&format!(
            "{SHORTEST}map 192.0.2.0/24 2001:db8:5::/64\n\
             map 192.0.2.1 2001:db8:5::1\n\
             map 0.0.0.0/0 2001:db8:6::/96\n\
             map 192.168.0.0/16 2001:db8:1:ffff::/112\n"
        ));
        let lines: Vec<_> = notices.iter().map(|notice| notice.line).collect();
        assert_eq!(
            lines,
            [4, 7],
            "two are in the prefix or disagree: warned of, and taken"
        );
        let map = config.address_map();
        let to_v6 = |octets: [u8; 4]| map.to_v6(octets.into()).unwrap().address.to_string();
        assert_eq!(to_v6([192, 0, 2, 1]), "2001:db8:5::1");
        assert_eq!(to_v6([192, 0, 2, 2]), "2001:db8:5:0:200::");
        assert_eq!(to_v6([9, 9, 9, 9]), "2001:db8:6::909:909");
        // An own address is its own, whatever encloses it.
        assert_eq!(to_v6([192, 168, 255, 1]), "2001:db8:1:ffff::c0a8:ff01");
    }

    fn notices(more: &str) -> Vec<String> {
        let (_, notices) = read(&format!("{SHORTEST}{more}"));
        notices
            .iter()
            .map(|notice| format!("{:?} {notice}", notice.level))
            .collect()
    }

    #[test]
    fn notices_name_their_lines() {
        for (line, notice) in [
            (
                "dynamic-pool 192.168.255.0/24",
                "Warning 4: dynamic-pool without data-dir: leases are not kept over a restart",
            ),
            (
                "strict-frag-hdr on",
                "Warning 4: strict-frag-hdr is ignored",
            ),
            (
                "workers 4",
                "Info 4: workers changes nothing in a single-threaded program",
            ),
            (
                "hairpin yes\ntun-up yes\ntun-up no",
                "Warning 6: tun-up is also in line 5: the last one counts",
            ),
            (
                "tun-up yes\ntun-route 192.0.2.1/24\ntun-route 192.0.2.2/24",
                "Warning 6: tun-route 192.0.2.2/24 is also in line 5",
            ),
            (
                "tun-ip 192.168.255.1/24",
                "Warning 4: tun-ip 192.168.255.1/24 is the translator's own address: the kernel will take its packets",
            ),
            (
                "tun-route 192.0.2.0/24",
                "Info 4: tun-route needs the device to be up: say tun-up yes, or set it up before the start",
            ),
        ] {
            assert_eq!(notices(line), [notice], "{line}");
        }
    }

    #[test]
    fn doubtful_addresses_are_taken_with_a_warning() {
        let (config, notices) =
            read("tun-device n\nipv4-addr 169.254.0.1\nprefix 2001:db8:0:0:100::/96");
        assert_eq!(config.ipv4_addr, Ipv4Addr::new(169, 254, 0, 1));
        let lines: Vec<_> = notices
            .iter()
            .map(|notice| (notice.line, notice.level))
            .collect();
        // A52-02: bits 64 to 71 of a /96.
        assert_eq!(lines, [(2, Level::Warning), (3, Level::Warning)]);

        let (config, notices) = read("tun-device n\nipv4-addr 100.64.0.1\nprefix 64:ff9b::/96");
        assert_eq!(config.ipv6_addr.to_string(), "64:ff9b::6440:1");
        assert_eq!(notices.len(), 1);
    }

    #[test]
    fn the_last_one_counts_of_what_may_be_repeated() {
        let (config, _) = read(&format!("{SHORTEST}wkpf-strict yes\nwkpf-strict no\n"));
        assert!(!config.wkpf_strict);
    }

    /// wkpf-strict counts wherever in the file it is.
    #[test]
    fn order_does_not_matter() {
        read(
            "wkpf-strict yes\nprefix 64:ff9b::/96\nwkpf-strict no\nipv4-addr 10.0.0.1\ntun-device n\n",
        );
        read(
            "ipv6-addr 64:ff9b::1\nmap 192.0.2.1 2001:db8::1\nwkpf-strict no\nipv4-addr 10.0.0.1\ntun-device n\n",
        );
    }

    #[test]
    fn host_bits_are_cut_at_every_length() {
        for length in 0..=32_u8 {
            let ones = IpPrefix::V4(Ipv4Addr::BROADCAST, length).network();
            let IpPrefix::V4(address, _) = ones else {
                panic!()
            };
            assert_eq!(address.to_bits().leading_ones(), length.into());
            assert_eq!(address.to_bits().count_ones(), length.into());
        }
        for length in 0..=128_u8 {
            let ones = IpPrefix::V6(Ipv6Addr::from_bits(u128::MAX), length).network();
            let IpPrefix::V6(address, _) = ones else {
                panic!()
            };
            assert_eq!(address.to_bits().leading_ones(), length.into());
            assert_eq!(address.to_bits().count_ones(), length.into());
        }
    }

    /// RFC 7757 lets maps overlap the prefix and each other; both are usually mistakes.
    #[test]
    fn maps_that_overlap_are_told_once() {
        let start = "tun-device n\nipv4-addr 192.168.255.1\nipv6-addr 2001:db8:1:ffff::1\n\
                     prefix 2001:db8:64::/96\n";
        for (maps, expected) in [
            (
                "map 192.168.2.0/30 2001:db8:1::/126\nmap 192.168.2.1 2001:db8:1::1\n",
                &[][..],
            ),
            (
                "map 192.168.2.1 2001:db8:1::3\nmap 192.168.2.0/30 2001:db8:1::/126\n",
                &[
                    "5: map 192.168.2.1 2001:db8:1::3 overlaps map 192.168.2.0/30 \
                   2001:db8:1::/126 of line 6, and the two directions disagree: 2001:db8:1::1 is \
                   translated to 192.168.2.1, but 192.168.2.1 to 2001:db8:1::3",
                ],
            ),
            (
                "map 192.0.2.4/30 2001:db8:64::c000:208/126\nmap 192.0.2.1 2001:db8:64::1\n\
                 map 192.0.2.2 2001:db8:64::2\n",
                &[
                    "5: map 192.0.2.4/30 2001:db8:64::c000:208/126 is in prefix 2001:db8:64::/96 \
                   of line 4: the map wins, and IPv6 packets to what the prefix embeds there, \
                   192.0.2.8 to 192.0.2.11, go to 192.0.2.4/30 instead (and 2 more maps like it)",
                ],
            ),
            (
                "map 192.0.2.4/30 2001:db8:64::c000:204/126\n",
                &[
                    "5: map 192.0.2.4/30 2001:db8:64::c000:204/126 is in prefix 2001:db8:64::/96 \
                   of line 4, and says what the prefix says",
                ],
            ),
            (
                "map 10.0.0.0/8 2001:db8:64::/48\n",
                &[
                    "5: map 10.0.0.0/8 2001:db8:64::/48 encloses prefix 2001:db8:64::/96 of line \
                   4: the map wins, and no IPv6 packet reaches an IPv4 address through the prefix",
                ],
            ),
        ] {
            let (_, notices) = read(&format!("{start}{maps}"));
            assert!(notices.iter().all(|notice| notice.level == Level::Warning));
            let notices: Vec<_> = notices.iter().map(ToString::to_string).collect();
            assert_eq!(notices, expected, "{maps}");
        }
    }

    /// tayga takes 26 s for these. The bound is wide for a slow machine, and would not hold for anything quadratic.
    #[test]
    fn a_hundred_thousand_maps_load() {
        use std::fmt::Write;
        let mut text = SHORTEST.to_owned();
        for host in 0..100_000_u32 {
            let v4 = Ipv4Addr::from_bits(0x0a00_0000 + host);
            writeln!(
                text,
                "map {v4} 2001:db8::{:x}:{:x}",
                host >> 16,
                host & 0xffff
            )
            .unwrap();
        }
        let start = std::time::Instant::now();
        let (config, _) = read(&text);
        let map = config.address_map();
        assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
        assert_eq!(config.maps.len(), 100_000);
        let last = map
            .to_v6(Ipv4Addr::from_bits(0x0a00_0000 + 99_999))
            .unwrap();
        assert_eq!(last.address.to_string(), "2001:db8::1:869f");
    }

    /// A guess at what a misspelt name was meant to be is good for not calling that missing, and for nothing else.
    #[test]
    fn a_misspelt_directive_is_one_mistake() {
        let errors = |text| {
            let errors = Config::read(text).unwrap_err();
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            errors("tun-devcie n\nipv4-addr 192.0.2.1\nprefix 2001:db8::/96"),
            ["1:1: expected a directive, found \"tun-devcie\" (did you mean tun-device?)"]
        );
        assert_eq!(
            errors("ipv5-addr ::1\ntun-device n\nipv4-addr 192.0.2.1\nprefix 2001:db8::/96"),
            ["1:1: expected a directive, found \"ipv5-addr\" (did you mean ipv4-addr?)"]
        );
    }

    /// One run shows all mistakes; what is missing comes last.
    #[test]
    fn mistakes_are_in_the_order_of_the_lines() {
        let errors = Config::read("tun-up maybe\nipv4-addr 1\nmap 1.1.1.1 2001:db8::1\nmap 1.1.1.1 x\nmap 1.1.1.1 2001:db8::2\n\u{7f}").unwrap_err();
        let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, [1, 2, 4, 5, 6, 0, 0]);
    }
}
