//! The lines of a tayga.conf taken together: what they add up to, and what is wrong between them.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    path::PathBuf,
};

use super::{Config, LineError, Notice, Problem, grammar::Word, overlap};
use crate::addr::{
    Eam, IpPrefix, Prefix4, Prefix6,
    special::{self, Treatment},
};

/// A configuration that is being read. `'a` is the text of the file.
pub(super) struct Draft<'a> {
    /// The settings so far; a placeholder for what must be given and was not yet.
    pub(super) config: Config,
    errors: Vec<LineError>,
    notices: Vec<Notice>,
    /// The first line of each directive, be it right or wrong: one that is wrong is not also
    /// missing.
    first: HashMap<&'static str, usize>,
    /// Directives whose name was misspelt, as far as can be guessed: they are not also missing.
    meant: HashSet<&'static str>,
    ipv6_addr: Option<(Word<'a>, Ipv6Addr)>,
    /// The first mapping of each prefix.
    maps4: HashMap<Prefix4, Word<'a>>,
    maps6: HashMap<Prefix6, Word<'a>>,
    /// The first line of each `tun-ip` and `tun-route`.
    on_device: HashMap<(&'static str, IpPrefix), usize>,
}

/// The meaning of a second line with the same directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeated {
    /// It is a mistake.
    Refused,
    /// The last one counts. tayga lets these pass.
    LastCounts,
    /// Both count.
    Adds,
}

/// A `map` line that is right in itself.
pub(super) struct MapLine<'a> {
    pub(super) eam: Eam,
    pub(super) v4_at: Word<'a>,
    pub(super) v6_at: Word<'a>,
}

impl<'a> Draft<'a> {
    /// `data_dir` is used where the file does not have the directive.
    pub(super) fn new(data_dir: Option<PathBuf>) -> Self {
        Self {
            config: Config {
                data_dir,
                ..Config::blank()
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

    /// Takes a line with the directive `name`, which is at `at`. `read` reads its arguments.
    pub(super) fn take(
        &mut self,
        name: &'static str,
        repeated: Repeated,
        at: Word<'a>,
        read: impl FnOnce(&mut Self) -> Result<(), LineError>,
    ) {
        let first = *self.first.entry(name).or_insert(at.line.number);
        let is_first = first == at.line.number;
        let result = match repeated {
            // The first one stays, for the checks at the end.
            Repeated::Refused if !is_first => {
                read(&mut Self::new(None)).and_then(|()| Err(at.repeats(name, first)))
            }
            Repeated::LastCounts if !is_first => {
                self.warn(
                    &at,
                    format!("{name} is also in line {first}: the last one counts"),
                );
                read(self)
            }
            _ => read(self),
        };
        self.errors.extend(result.err());
    }

    /// Takes a line that has no directive.
    pub(super) fn refuse(&mut self, error: LineError) {
        if let Problem::UnknownDirective { similar, .. } = error.problem {
            self.meant.extend(similar);
        }
        self.errors.push(error);
    }

    pub(super) fn ipv6_addr(&mut self, at: Word<'a>, address: Ipv6Addr) {
        self.config.ipv6_addr = address;
        self.ipv6_addr = Some((at, address));
    }

    pub(super) fn map(&mut self, map: MapLine<'a>) {
        let MapLine { eam, v4_at, v6_at } = map;
        let repeats4 = first_use(&mut self.maps4, eam.v4(), v4_at);
        let repeats6 = first_use(&mut self.maps6, eam.v6(), v6_at);
        self.config.maps.push(eam);
        self.errors.extend(repeats4.into_iter().chain(repeats6));
    }

    pub(super) fn tun_ip(&mut self, at: &Word<'a>, address: IpPrefix) {
        if self.is_new_on_device("tun-ip", at, address, address) {
            self.config.tun_ip.push(address);
        }
    }

    pub(super) fn tun_route(&mut self, at: &Word<'a>, route: IpPrefix) {
        // The kernel has a route once, however its host bits were written.
        if self.is_new_on_device("tun-route", at, route, route.network()) {
            self.config.tun_route.push(route);
        }
    }

    /// Warns of an argument that an earlier line has, in other words or not.
    fn is_new_on_device(
        &mut self,
        name: &'static str,
        at: &Word<'a>,
        argument: IpPrefix,
        meaning: IpPrefix,
    ) -> bool {
        let line = at.line.number;
        let first = *self.on_device.entry((name, meaning)).or_insert(line);
        if first != line {
            self.warn(at, format!("{name} {argument} is also in line {first}"));
        }
        first == line
    }

    pub(super) fn warn(&mut self, at: &Word<'_>, text: impl Into<Cow<'static, str>>) {
        self.notices.push(Notice::warning(at.line.number, text));
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
        } else if let Some((at, address)) = self.ipv6_addr {
            self.check_ipv6_addr(at, address);
        } else if !self.given("ipv6-addr") {
            self.derive_ipv6_addr();
        }
        self.check_own_maps();
        self.check_device();
        if self.config.dynamic_pool.is_some() && self.config.data_dir.is_none() {
            self.notices.push(Notice::warning(
                self.line_of("dynamic-pool"),
                "dynamic-pool without data-dir: leases are not kept over a restart",
            ));
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
    fn check_ipv6_addr(&mut self, at: Word<'a>, address: Ipv6Addr) {
        if let Some(prefix) = self.config.prefix
            && prefix.prefix().contains(address)
        {
            let line = self.line_of("prefix");
            self.errors.push(at.refuse(format!(
                "an address outside the prefix {prefix} of line {line}"
            )));
        } else if self.config.wkpf_strict && is_well_known(address) {
            self.errors
                .push(at.refuse("an address outside 64:ff9b::/96, or wkpf-strict no"));
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
                self.notices.push(Notice::warning(
                    self.line_of("ipv4-addr"),
                    format!(
                        "{address} is private and should not be in 64:ff9b::/96: give an ipv6-addr"
                    ),
                ));
            } else {
                self.missing(format!(
                    "an ipv6-addr directive, as wkpf-strict keeps {address} out of 64:ff9b::/96"
                ));
            }
        }
        self.config.ipv6_addr = prefix.embed(address);
    }

    /// The own addresses are mapped to each other, and to nothing else; those of the pool are lent.
    fn check_own_maps(&mut self) {
        let Config {
            ipv4_addr,
            ipv6_addr,
            dynamic_pool,
            ..
        } = self.config;
        if let Some(at) = dynamic_pool.and_then(|pool| self.maps4.get(&pool)) {
            self.errors.push(at.refuse(format!(
                "another prefix than dynamic-pool of line {}",
                self.line_of("dynamic-pool")
            )));
        }
        if let Some(at) = self.maps4.get(&Prefix4::host(ipv4_addr)) {
            self.errors.push(at.refuse(format!(
                "another address than ipv4-addr of line {}",
                self.line_of("ipv4-addr")
            )));
        }
        if let Some(at) = self.maps6.get(&Prefix6::host(ipv6_addr)) {
            self.errors.push(match self.first.get("ipv6-addr") {
                Some(line) => at.refuse(format!("another address than ipv6-addr of line {line}")),
                None => at.refuse(format!(
                    "another address than the translator's own, {ipv4_addr} in the prefix"
                )),
            });
        }
    }

    /// Maps that overlap the prefix, or each other.
    fn check_overlaps(&mut self) {
        let config = &self.config;
        let line_of = |eam: &Eam| self.maps4.get(&eam.v4()).map(|at| at.line.number);
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

    /// Checks `tun-` lines against what the kernel does with them.
    fn check_device(&mut self) {
        let own: [IpAddr; 2] = [self.config.ipv4_addr.into(), self.config.ipv6_addr.into()];
        for ((name, address), &line) in &self.on_device {
            if *name == "tun-ip" && own.contains(&address.address()) {
                self.notices.push(Notice::warning(
                    line,
                    format!(
                        "tun-ip {address} is the translator's own address: the kernel will take \
                         its packets"
                    ),
                ));
            }
        }
        if let Some(&line) = self.first.get("tun-route")
            && !self.config.tun_up
        {
            self.notices.push(Notice::info(
                line,
                "tun-route needs the device to be up: say tun-up yes, or set it up before the \
                 start",
            ));
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
}

/// Notes that `prefix` is mapped at `at`; an error if it was before.
fn first_use<'a, P: fmt::Display + Eq + Hash>(
    uses: &mut HashMap<P, Word<'a>>,
    prefix: P,
    at: Word<'a>,
) -> Option<LineError> {
    match uses.entry(prefix) {
        Entry::Vacant(entry) => {
            entry.insert(at);
            None
        }
        Entry::Occupied(entry) => {
            let what = format!("map of {}", entry.key());
            Some(at.repeats(what, entry.get().line.number))
        }
    }
}

/// Whether `address` is in 64:ff9b::/96 (RFC 6052 section 2.1).
fn is_well_known(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0x64, 0xff9b, 0, 0, 0, 0, ..])
}
