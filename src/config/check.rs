//! Directives to a [`Config`], or to everything that is wrong with them.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use super::{
    Config, IpPrefix, Level, LineError, LogClasses, Notice, Problem, overlap,
    parse::{Again, Directive, Line, Refused, Spot},
};
use crate::{
    addr::{
        Eam, Prefix4, Prefix6,
        special::{self, Treatment},
    },
    translate::Settings,
};

/// Collects the directives of a file, and compares them with each other. `'a` is the text of the file.
pub(super) struct Check<'a> {
    /// What was read so far; what must be given and was not yet is a placeholder.
    config: Config,
    errors: Vec<LineError>,
    notices: Vec<Notice>,
    /// In which line each directive is first, be it right or wrong: one that is wrong is not also missing.
    first: HashMap<&'static str, usize>,
    /// Directives whose name was misspelt, as far as can be guessed: they are not also missing.
    meant: HashSet<&'static str>,
    ipv6_addr: Option<(Spot<'a>, Ipv6Addr)>,
    /// Where each prefix is mapped first.
    maps4: HashMap<Prefix4, Spot<'a>>,
    maps6: HashMap<Prefix6, Spot<'a>>,
    /// The line in which each `tun-ip` and `tun-route` is first.
    on_device: HashMap<(&'static str, IpPrefix), usize>,
}

impl<'a> Check<'a> {
    /// `data_dir` is it where the file does not say.
    pub(super) fn new(data_dir: Option<PathBuf>) -> Self {
        Self {
            config: Config {
                tun_device: String::new(),
                ipv4_addr: Ipv4Addr::UNSPECIFIED,
                ipv6_addr: Ipv6Addr::UNSPECIFIED,
                prefix: None,
                maps: Vec::new(),
                dynamic_pool: None,
                map_file: None,
                data_dir,
                wkpf_strict: true,
                log: LogClasses::default(),
                tun_up: false,
                tun_queue_length: None,
                keep_net_admin: false,
                offload: true,
                sandbox: true,
                tun_ip: Vec::new(),
                tun_route: Vec::new(),
                translation: Settings::default(),
            },
            errors: Vec::new(),
            notices: Vec::new(),
            first: HashMap::new(),
            meant: HashSet::new(),
            ipv6_addr: None,
            maps4: HashMap::new(),
            maps6: HashMap::new(),
            on_device: HashMap::new(),
        }
    }

    /// Takes a line that is right in itself.
    pub(super) fn directive(&mut self, line: Line<'a>) {
        let name = line.kind.name;
        let first = *self.first.entry(name).or_insert(line.name().line);
        let repeated = first != line.name().line;
        match line.kind.again {
            Again::Refused if repeated => {
                self.errors.push(line.name().repeats(name, first));
                return;
            }
            Again::LastCounts if repeated => self.warn(
                &line,
                format!("{name} is also in line {first}: the last one counts"),
            ),
            _ => {}
        }
        let config = &mut self.config;
        match &line.directive {
            Directive::TunDevice(device) => config.tun_device.clone_from(device),
            Directive::Ipv4Addr(address) => {
                config.ipv4_addr = *address;
                if address.is_link_local() {
                    self.warn(
                        &line,
                        "hosts and routers may refuse packets from a link-local ipv4-addr (169.254.0.0/16)",
                    );
                }
            }
            Directive::Ipv6Addr(address) => {
                config.ipv6_addr = address.value;
                self.ipv6_addr = Some((line.spot(address.at), address.value));
            }
            Directive::Prefix(prefix) => {
                config.prefix = Some(*prefix);
                if prefix.has_reserved_bits() {
                    self.warn(
                        &line,
                        "bits 64 to 71 of the prefix should be zero (RFC 6052 section 2.2)",
                    );
                }
            }
            Directive::Map { eam, v4, v6 } => {
                let (v4, v6) = (line.spot(v4), line.spot(v6));
                let repeats4 = first_use(&mut self.maps4, eam.v4(), v4);
                let repeats6 = first_use(&mut self.maps6, eam.v6(), v6);
                config.maps.push(*eam);
                self.errors.extend(repeats4.into_iter().chain(repeats6));
            }
            Directive::MapFile(path) => config.map_file = Some(path.clone()),
            Directive::DynamicPool(pool) => config.dynamic_pool = Some(*pool),
            Directive::DataDir(path) => config.data_dir = Some(path.clone()),
            Directive::StrictFragHdr => self.warn(&line, "strict-frag-hdr is ignored"),
            Directive::WkpfStrict(on) => config.wkpf_strict = *on,
            Directive::UdpCksumMode(mode) => config.translation.udp_checksum = *mode,
            Directive::Log(classes) => config.log = *classes,
            Directive::OfflinkMtu(mtu) => config.translation.offlink_mtu = *mtu,
            Directive::Workers => self.notice(
                &line,
                Level::Info,
                "workers changes nothing in a single-threaded program",
            ),
            Directive::TunUp(on) => config.tun_up = *on,
            Directive::TunQueueLength(length) => config.tun_queue_length = Some(*length),
            Directive::KeepNetAdmin(on) => config.keep_net_admin = *on,
            Directive::Offload(on) => config.offload = *on,
            Directive::Sandbox(on) => config.sandbox = *on,
            Directive::TunIp(address) => {
                if let Some(first) = self.on_device(&line, *address) {
                    self.warn(&line, format!("tun-ip {address} is also in line {first}"));
                } else {
                    self.config.tun_ip.push(*address);
                }
            }
            Directive::TunRoute(route) => {
                // The kernel has a route once, however its host bits were written.
                if let Some(first) = self.on_device(&line, route.network()) {
                    self.warn(&line, format!("tun-route {route} is also in line {first}"));
                } else {
                    self.config.tun_route.push(*route);
                }
            }
            Directive::IcmpErrors(limit) => config.translation.icmp_errors = *limit,
            Directive::IcmpSource(address) => config.translation.icmp_source = Some(*address),
            Directive::Tos(tos) => config.translation.tos = *tos,
            Directive::TrafficClass(class) => config.translation.traffic_class = *class,
            Directive::Hairpin(on) => config.translation.hairpin = *on,
        }
    }

    /// Takes a line that is wrong in itself.
    pub(super) fn refused(&mut self, line: Refused) {
        match (line.directive, &line.error.problem) {
            (Some(name), Problem::UnknownDirective { .. }) => {
                self.meant.insert(name);
            }
            (Some(name), _) => {
                self.first.entry(name).or_insert(line.error.line);
            }
            (None, _) => {}
        }
        self.errors.push(line.error);
    }

    /// The settings, once the whole file was taken, or all mistakes.
    pub(super) fn finish(mut self) -> Result<(Config, Vec<Notice>), Vec<LineError>> {
        for (name, what) in [
            ("tun-device", "a tun-device directive"),
            ("ipv4-addr", "an ipv4-addr directive"),
        ] {
            if !self.given(name) {
                self.missing(what);
            }
        }
        let translates = ["prefix", "map", "map-file", "dynamic-pool"];
        if !translates.iter().any(|name| self.given(name)) {
            self.missing("a prefix or map directive");
        } else if let Some((spot, address)) = self.ipv6_addr {
            self.check_ipv6_addr(spot, address);
        } else if !self.given("ipv6-addr") {
            self.derive_ipv6_addr();
        }
        self.check_own_maps();
        self.check_device();
        if self.config.dynamic_pool.is_some() && self.config.data_dir.is_none() {
            self.notices.push(Notice {
                line: self.line_of("dynamic-pool"),
                level: Level::Warning,
                text: "dynamic-pool without data-dir: leases are not kept over a restart".into(),
            });
        }

        if self.errors.is_empty() {
            self.check_overlaps();
            self.notices.sort_by_key(|notice| notice.line);
            return Ok((self.config, self.notices));
        }
        self.errors
            .sort_by_key(|error| (error.line == 0, error.line, error.column));
        Err(self.errors)
    }

    /// The own IPv6 address is no IPv4 host's: packets to it are for the translator.
    fn check_ipv6_addr(&mut self, spot: Spot<'a>, address: Ipv6Addr) {
        if let Some(prefix) = self.config.prefix
            && prefix.prefix().contains(address)
        {
            let line = self.line_of("prefix");
            self.errors.push(spot.refuse(format!(
                "an address outside the prefix {prefix} of line {line}"
            )));
        } else if self.config.wkpf_strict && is_well_known(address) {
            self.errors
                .push(spot.refuse("an address outside 64:ff9b::/96, or wkpf-strict no"));
        }
    }

    /// Without `ipv6-addr` the own IPv6 address is `ipv4-addr` in the prefix.
    fn derive_ipv6_addr(&mut self) {
        let address = self.config.ipv4_addr;
        let Some(prefix) = self.config.prefix else {
            if !self.given("prefix") {
                self.missing("an ipv6-addr directive, as there is no prefix");
            }
            return;
        };
        if prefix.is_well_known()
            && self.config.wkpf_strict
            && special::treatment_v4(address) == Treatment::Private
        {
            // tayga 0.9.2 does not know 100.64.0.0/10 for private and starts: so do we.
            if let [100, ..] = address.octets() {
                self.notices.push(Notice {
                    line: self.line_of("ipv4-addr"),
                    level: Level::Warning,
                    text: format!(
                        "{address} is private and should not be in 64:ff9b::/96: give an ipv6-addr"
                    )
                    .into(),
                });
            } else {
                self.missing(format!(
                    "an ipv6-addr directive, as wkpf-strict keeps {address} out of 64:ff9b::/96"
                ));
            }
        }
        self.config.ipv6_addr = prefix.embed(address);
    }

    /// The own addresses are mapped to each other, and to nothing else.
    fn check_own_maps(&mut self) {
        let Config {
            ipv4_addr,
            ipv6_addr,
            ..
        } = self.config;
        if let Some(spot) = self.maps4.get(&Prefix4::host(ipv4_addr)) {
            self.errors.push(spot.refuse(format!(
                "another address than ipv4-addr of line {}",
                self.line_of("ipv4-addr")
            )));
        }
        if let Some(spot) = self.maps6.get(&Prefix6::host(ipv6_addr)) {
            self.errors.push(match self.first.get("ipv6-addr") {
                Some(line) => spot.refuse(format!("another address than ipv6-addr of line {line}")),
                None => spot.refuse(format!(
                    "another address than the translator's own, {ipv4_addr} in the prefix"
                )),
            });
        }
    }

    /// Maps that overlap the prefix, or each other.
    fn check_overlaps(&mut self) {
        let config = &self.config;
        let line_of = |eam: &Eam| self.maps4.get(&eam.v4()).map(|spot| spot.line);
        let maps = config.maps.iter().copied();
        if let Some(prefix) = &config.prefix {
            let line = self.first.get("prefix").copied();
            let maps = maps.clone().filter_map(|eam| Some((line_of(&eam)?, eam)));
            self.notices
                .extend(overlap::with_prefix(prefix, config.wkpf_strict, line, maps));
        }
        if overlap::may_nest(&config.maps) {
            let map = config.fixed_address_map();
            self.notices
                .extend(overlap::with_each_other(&map, maps, line_of));
        }
    }

    /// What the kernel would make of the `tun-` lines.
    fn check_device(&mut self) {
        let own: [IpAddr; 2] = [self.config.ipv4_addr.into(), self.config.ipv6_addr.into()];
        for ((name, address), &line) in &self.on_device {
            if *name == "tun-ip" && own.contains(&address.address()) {
                self.notices.push(Notice {
                    line,
                    level: Level::Warning,
                    text: format!(
                        "tun-ip {address} is the translator's own address: the kernel will take its packets"
                    )
                    .into(),
                });
            }
        }
        if let Some(&line) = self.first.get("tun-route")
            && !self.config.tun_up
        {
            self.notices.push(Notice {
                line,
                level: Level::Info,
                text: "tun-route needs the device to be up: say tun-up yes, or set it up before the start".into(),
            });
        }
    }

    /// Whether `name` is in the file, be it right, wrong or misspelt.
    fn given(&self, name: &str) -> bool {
        self.first.contains_key(name) || self.meant.contains(name)
    }

    /// The first line of `name`.
    fn line_of(&self, name: &str) -> usize {
        self.first.get(name).copied().unwrap_or_default()
    }

    /// The line that had `tun-ip` or `tun-route` with this argument before.
    fn on_device(&mut self, line: &Line<'_>, argument: IpPrefix) -> Option<usize> {
        match self.on_device.entry((line.kind.name, argument)) {
            Entry::Vacant(entry) => {
                entry.insert(line.name().line);
                None
            }
            Entry::Occupied(entry) => Some(*entry.get()),
        }
    }

    /// A directive that must be there is not.
    fn missing(&mut self, what: impl Into<Cow<'static, str>>) {
        self.errors.push(LineError {
            line: 0,
            column: 0,
            problem: Problem::Expected {
                expected: what.into(),
                found: "none".to_owned(),
            },
        });
    }

    fn warn(&mut self, line: &Line<'_>, text: impl Into<Cow<'static, str>>) {
        self.notice(line, Level::Warning, text);
    }

    fn notice(&mut self, line: &Line<'_>, level: Level, text: impl Into<Cow<'static, str>>) {
        self.notices.push(Notice {
            line: line.name().line,
            level,
            text: text.into(),
        });
    }
}

/// Notes that `prefix` is mapped at `spot`; an error if it was before.
fn first_use<'a, P: fmt::Display + Eq + Hash>(
    uses: &mut HashMap<P, Spot<'a>>,
    prefix: P,
    spot: Spot<'a>,
) -> Option<LineError> {
    match uses.entry(prefix) {
        Entry::Vacant(entry) => {
            entry.insert(spot);
            None
        }
        Entry::Occupied(entry) => {
            let what = format!("map of {}", entry.key());
            Some(spot.repeats(what, entry.get().line))
        }
    }
}

/// Whether `address` is in 64:ff9b::/96 (RFC 6052 section 2.1).
fn is_well_known(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0x64, 0xff9b, 0, 0, 0, 0, ..])
}
