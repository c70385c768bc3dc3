//! The environment of a container: the variables of the images of tayga, as a tayga.conf.
//!
//! The image of a NAT64 and that of a CLAT have the same variables with other defaults. Each
//! variable becomes a line, so that what is said of a line is said of its variable.

use std::{collections::HashMap, fmt, net::Ipv4Addr};

use super::{Config, Level, LineError, Notice, Problem, grammar::quoted};
use crate::addr::{IpPrefix, Prefix4, Prefix6};

/// The data-dir of a NAT64 in a container.
pub const DATA_DIR: &str = "/var/lib/xlatd";

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// IPv6-only hosts reach IPv4 hosts, with addresses of a pool.
    Nat64,
    /// IPv4 programs and hosts reach IPv4 hosts behind a NAT64, by one mapping.
    Clat,
}

impl Role {
    /// The role by its name.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "nat64" => Some(Self::Nat64),
            "clat" => Some(Self::Clat),
            _ => None,
        }
    }

    /// Its name, which is also that of the TUN device.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nat64 => "nat64",
            Self::Clat => "clat",
        }
    }
}

/// A variable, and its value where it is not set.
struct Variable {
    name: &'static str,
    nat64: Use,
    clat: Use,
}

/// What a variable is to one of the roles.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It has this value unless it is set.
    Preset(&'static str),
    /// It may be set.
    Optional,
    /// It must be set.
    Required,
    /// It means nothing.
    Ignored,
}

use Use::{Ignored, Optional, Preset, Required};

const LOG: &str = "drop reject icmp self dyn";

/// All variables. The manual page is compared with this table.
const VARIABLES: &[Variable] = &[
    variable(
        "TAYGA_PREF64",
        Preset("64:ff9b::/96"),
        Preset("64:ff9b::/96"),
    ),
    variable("TAYGA_POOL4", Preset("192.168.240.0/20"), Ignored),
    variable("TAYGA_ADDR4", Preset("192.168.240.1"), Preset("192.0.0.2")),
    variable("TAYGA_ADDR", Ignored, Optional),
    variable("TAYGA_ADDR6", Optional, Required),
    variable("TAYGA_MAP4", Ignored, Required),
    variable("TAYGA_MAP6", Ignored, Required),
    variable("TAYGA_GW4", Ignored, Optional),
    variable("TAYGA_WKPF_STRICT", Preset("no"), Preset("no")),
    variable("TAYGA_MTU", Optional, Preset("65535")),
    variable("TAYGA_LOG", Preset(LOG), Preset(LOG)),
    variable("XLATD_MASQUERADE", Preset("yes"), Ignored),
];

const fn variable(name: &'static str, nat64: Use, clat: Use) -> Variable {
    Variable { name, nat64, clat }
}

/// The names of all variables.
pub fn variables() -> impl Iterator<Item = &'static str> {
    VARIABLES.iter().map(|variable| variable.name)
}

/// The configuration of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// What it is for.
    pub role: Role,
    /// Its tayga.conf, for those who look.
    pub text: String,
    /// The same as it was read.
    pub config: Config,
    /// The pool whose packets leave with the container's own address.
    pub masquerade: Option<Prefix4>,
    /// The router that leads to the IPv4 hosts of the mapping.
    pub gateway: Option<(Prefix4, Ipv4Addr)>,
    /// What is to be logged.
    pub notices: Vec<(Level, String)>,
}

/// A variable with a value that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableError {
    /// The name of the variable.
    pub name: &'static str,
    /// The mistake.
    pub problem: String,
}

impl fmt::Display for VariableError {
    /// `TAYGA_POOL4: expected an IPv4 prefix, found "10.0.0.0/33"`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.problem)
    }
}

impl Container {
    /// Reads the variables of an environment. Without a role, `TAYGA_MAP4` and `TAYGA_MAP6` are
    /// those of a CLAT. All mistakes are returned.
    pub fn read(
        role: Option<Role>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<VariableError>> {
        let environment = environment.into_iter();
        // Tools set a variable that has no value to nothing.
        let given = environment.map(|(name, value)| (name, value.trim().to_owned()));
        let given: HashMap<_, _> = given.filter(|(_, value)| !value.is_empty()).collect();
        let has_map = ["TAYGA_MAP4", "TAYGA_MAP6"]
            .iter()
            .any(|name| given.contains_key(*name));
        let role = role.unwrap_or(if has_map { Role::Clat } else { Role::Nat64 });
        let mut draft = Draft {
            role,
            given,
            text: String::new(),
            names: Vec::new(),
            errors: Vec::new(),
            notices: Vec::new(),
        };
        draft.check_names();
        draft.line("", format!("tun-device {}", role.name()));
        draft.line("", "tun-up yes");
        draft.directive("ipv4-addr", draft.address4());
        draft.directive("prefix", "TAYGA_PREF64");
        draft.directive("wkpf-strict", "TAYGA_WKPF_STRICT");
        draft.directive("offlink-mtu", "TAYGA_MTU");
        draft.directive("log", "TAYGA_LOG");
        match role {
            Role::Nat64 => draft.nat64(),
            Role::Clat => draft.clat(),
        }
        draft.finish()
    }

    /// Gives the TUN device the IPv4 address of the mapping, for programs beside this one.
    pub fn add_own_address(&mut self, address: Ipv4Addr) {
        self.text += &format!("tun-ip {address}\n");
        self.config.tun_ip.push(IpPrefix::V4(address, 32));
    }

    /// The only IPv4 address of the mapping, where no router leads to it: it may be one of programs
    /// beside this one.
    pub fn only_address(&self) -> Option<Ipv4Addr> {
        let map = self.config.maps.first()?.v4();
        (map.length() == 32 && self.gateway.is_none()).then_some(map.address())
    }
}

/// A configuration in the making.
struct Draft {
    role: Role,
    given: HashMap<String, String>,
    text: String,
    /// The variable of each line; empty, if it has none.
    names: Vec<&'static str>,
    errors: Vec<VariableError>,
    notices: Vec<(Level, String)>,
}

impl Draft {
    /// The value of a variable, given or default.
    fn value(&self, name: &str) -> Option<String> {
        let variable = VARIABLES.iter().find(|variable| variable.name == name)?;
        let default = match self.use_of(variable) {
            Ignored => return None,
            Preset(value) => Some(value.to_owned()),
            Optional | Required => None,
        };
        let given = self.given.get(name).cloned();
        given.or(default)
    }

    fn use_of(&self, variable: &Variable) -> Use {
        match self.role {
            Role::Nat64 => variable.nat64,
            Role::Clat => variable.clat,
        }
    }

    /// Checks which variables there are, and that each is one line.
    fn check_names(&mut self) {
        let role = self.role.name();
        for variable in VARIABLES {
            let name = variable.name;
            match (self.use_of(variable), self.given.get(name)) {
                (Required, None) => {
                    let problem = format!("expected a value, which a {role} needs, found none");
                    self.errors.push(VariableError { name, problem });
                }
                (Ignored, Some(_)) => self
                    .notices
                    .push((Level::Info, format!("{name} means nothing to a {role}"))),
                (_, Some(value))
                    if value.contains(|char: char| char == '#' || char.is_control()) =>
                {
                    let found = quoted(value.as_bytes());
                    let problem = format!("expected words in one line, found {found}");
                    self.errors.push(VariableError { name, problem });
                    self.given.remove(name);
                }
                _ => {}
            }
        }
        // Kubernetes has such names for each service.
        let is_services = |name: &str| name.contains("_PORT") || name.contains("_SERVICE");
        let mut unknown: Vec<_> = self
            .given
            .keys()
            .filter(|name| name.starts_with("TAYGA_") && !is_services(name))
            .filter(|name| variables().all(|known| known != *name))
            .map(|name| (Level::Warning, format!("{name} is no variable of xlatd")))
            .collect();
        unknown.sort_by(|(_, one), (_, other)| one.cmp(other));
        self.notices.extend(unknown);
    }

    fn line(&mut self, name: &'static str, line: impl AsRef<str>) {
        self.text += line.as_ref();
        self.text.push('\n');
        self.names.push(name);
    }

    /// A directive with the value of a variable, if it has one.
    fn directive(&mut self, directive: &str, name: &'static str) {
        if let Some(value) = self.value(name) {
            self.line(name, format!("{directive} {value}"));
        }
    }

    /// The variable of the own IPv4 address: the image of tayga's CLAT reads another one.
    fn address4(&self) -> &'static str {
        let is_given = |name: &str| self.given.contains_key(name);
        match self.role == Role::Clat && is_given("TAYGA_ADDR") && !is_given("TAYGA_ADDR4") {
            true => "TAYGA_ADDR",
            false => "TAYGA_ADDR4",
        }
    }

    fn nat64(&mut self) {
        self.directive("dynamic-pool", "TAYGA_POOL4");
        self.line("", format!("data-dir {DATA_DIR}"));
        // tayga takes that from the prefix, whatever the variable says.
        let prefix = self
            .value("TAYGA_PREF64")
            .and_then(|prefix| prefix.parse::<Prefix6>().ok());
        let address = self
            .value("TAYGA_ADDR6")
            .and_then(|address| address.parse().ok());
        match (prefix, address) {
            (Some(prefix), Some(address)) if prefix.contains(address) => self.notices.push((
                Level::Info,
                "TAYGA_ADDR6 is in TAYGA_PREF64, and not used".to_owned(),
            )),
            _ => {
                self.directive("ipv6-addr", "TAYGA_ADDR6");
                self.directive("tun-route", "TAYGA_ADDR6");
            }
        }
        self.directive("tun-route", "TAYGA_PREF64");
        self.directive("tun-route", "TAYGA_POOL4");
        let pool = self
            .value("TAYGA_POOL4")
            .and_then(|pool| pool.parse::<Prefix4>().ok());
        let address = self
            .value("TAYGA_ADDR4")
            .and_then(|address| address.parse().ok());
        if let (Some(pool), Some(address)) = (pool, address)
            && !pool.contains(address)
        {
            self.directive("tun-route", "TAYGA_ADDR4");
        }
    }

    fn clat(&mut self) {
        self.directive("ipv6-addr", "TAYGA_ADDR6");
        if let (Some(v4), Some(v6)) = (self.value("TAYGA_MAP4"), self.value("TAYGA_MAP6")) {
            self.line("TAYGA_MAP4", format!("map {v4} {v6}"));
        }
        self.directive("tun-route", "TAYGA_ADDR6");
        self.directive("tun-route", "TAYGA_MAP6");
        self.line("", "tun-route 0.0.0.0/0");
    }

    fn finish(mut self) -> Result<Container, Vec<VariableError>> {
        let masquerades = match self.value("XLATD_MASQUERADE").as_deref() {
            Some("yes") => true,
            Some("no") | None => false,
            Some(other) => {
                self.refuse("XLATD_MASQUERADE", "yes or no", other);
                false
            }
        };
        let router = self.value("TAYGA_GW4");
        let gateway = router.as_ref().and_then(|router| router.parse().ok());
        if let (Some(router), None) = (&router, gateway) {
            self.refuse("TAYGA_GW4", "an IPv4 address", router);
        }
        let result = Config::read(&self.text);
        let found = result.as_ref().err().into_iter().flatten();
        for error in found
            .filter_map(|error| self.of_variable(error))
            .collect::<Vec<_>>()
        {
            // The same value may be in several lines.
            if self.errors.iter().all(|other| other.name != error.name) {
                self.errors.push(error);
            }
        }
        let Ok((config, notices)) = result.map_err(drop) else {
            return Err(self.errors);
        };
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        for notice in notices {
            let line = self.notice(&notice);
            self.notices.push((notice.level, line));
        }
        let map = config.maps.first().map(|map| map.v4());
        Ok(Container {
            role: self.role,
            text: self.text,
            masquerade: config.dynamic_pool.filter(|_| masquerades),
            gateway: map.zip(gateway),
            config,
            notices: self.notices,
        })
    }

    fn refuse(&mut self, name: &'static str, expected: &str, found: &str) {
        let found = quoted(found.as_bytes());
        let problem = format!("expected {expected}, found {found}");
        self.errors.push(VariableError { name, problem });
    }

    /// The variable of a line, from 1. Of a line with two, the column tells which.
    fn name(&self, line: usize, column: usize) -> Option<&'static str> {
        let name = *self.names.get(line.checked_sub(1)?)?;
        let second = self.text.lines().nth(line - 1)?.rfind(' ')?;
        Some(match name {
            "" => return None,
            "TAYGA_MAP4" if column > second => "TAYGA_MAP6",
            name => name,
        })
    }

    /// A mistake in a line, or in none, as one of a variable. `None`, if a variable has another
    /// mistake that leads to this one.
    fn of_variable(&self, error: &LineError) -> Option<VariableError> {
        let Some(name) = self.name(error.line, error.column) else {
            // There is a line for all that must be there, but for this one.
            return self.errors.is_empty().then(|| VariableError {
                name: "TAYGA_ADDR6",
                problem: "expected an IPv6 address outside of TAYGA_PREF64, which \
                          TAYGA_WKPF_STRICT asks for, found none"
                    .to_owned(),
            });
        };
        let problem = match &error.problem {
            Problem::Repeats { what, line } => {
                format!(
                    "{what} repeats {}",
                    self.name(*line, 0).unwrap_or("another one")
                )
            }
            problem => {
                let lines = (1..=self.names.len()).rev();
                lines.fold(problem.to_string(), |text, line| {
                    let other = self.name(line, 0).unwrap_or("another one");
                    text.replace(&format!(" of line {line}"), &format!(" of {other}"))
                })
            }
        };
        Some(VariableError { name, problem })
    }

    fn notice(&self, notice: &Notice) -> String {
        match self.name(notice.line, 0) {
            Some(name) => format!("{name}: {}", notice.text),
            None => notice.text.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    fn read(
        role: Option<Role>,
        environment: &[(&str, &str)],
    ) -> Result<Container, Vec<VariableError>> {
        let environment = environment.iter();
        Container::read(
            role,
            environment.map(|(name, value)| (name.to_string(), value.to_string())),
        )
    }

    fn errors(role: Option<Role>, environment: &[(&str, &str)]) -> Vec<String> {
        let errors = read(role, environment).unwrap_err();
        errors.iter().map(ToString::to_string).collect()
    }

    const CLAT: &[(&str, &str)] = &[
        ("TAYGA_ADDR6", "2001:db8:c::2"),
        ("TAYGA_MAP4", "192.0.0.1"),
        ("TAYGA_MAP6", "2001:db8:c::1"),
    ];

    fn clat(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        [CLAT, more].concat()
    }

    #[test]
    fn roles_have_names() {
        assert_eq!(Role::of("nat64"), Some(Role::Nat64));
        assert_eq!(Role::of("clat"), Some(Role::Clat));
        assert_eq!(Role::of("tayga"), None);
    }

    /// The address is one of the device, and the text that is shown says so.
    #[test]
    fn programs_beside_it_have_the_address_of_the_mapping() {
        let mut container = read(Some(Role::Clat), CLAT).unwrap();
        let address = container.only_address().unwrap();
        container.add_own_address(address);
        assert!(container.text.ends_with("tun-ip 192.0.0.1\n"));
        assert_eq!(
            container.config.tun_ip.last(),
            Some(&IpPrefix::V4(address, 32))
        );
    }

    #[test]
    fn without_variables_it_is_the_nat64_of_tayga() {
        let container = read(None, &[("PATH", "/bin"), ("TAYGA_POOL4", "")]).unwrap();
        assert_eq!(
            container.text,
            "tun-device nat64\n\
             tun-up yes\n\
             ipv4-addr 192.168.240.1\n\
             prefix 64:ff9b::/96\n\
             wkpf-strict no\n\
             log drop reject icmp self dyn\n\
             dynamic-pool 192.168.240.0/20\n\
             data-dir /var/lib/xlatd\n\
             tun-route 64:ff9b::/96\n\
             tun-route 192.168.240.0/20\n"
        );
        assert_eq!(container.role, Role::Nat64);
        assert_eq!(container.masquerade, container.config.dynamic_pool);
        assert_eq!(container.gateway, None);
        assert_eq!(container.notices, []);
        assert_eq!(container.only_address(), None);
    }

    #[test]
    fn a_map_makes_a_clat() {
        let container = read(None, &clat(&[("TAYGA_GW4", " 10.0.0.1\n")])).unwrap();
        assert_eq!(
            container.text,
            "tun-device clat\n\
             tun-up yes\n\
             ipv4-addr 192.0.0.2\n\
             prefix 64:ff9b::/96\n\
             wkpf-strict no\n\
             offlink-mtu 65535\n\
             log drop reject icmp self dyn\n\
             ipv6-addr 2001:db8:c::2\n\
             map 192.0.0.1 2001:db8:c::1\n\
             tun-route 2001:db8:c::2\n\
             tun-route 2001:db8:c::1\n\
             tun-route 0.0.0.0/0\n"
        );
        let map = Prefix4::host([192, 0, 0, 1].into());
        assert_eq!(container.gateway, Some((map, [10, 0, 0, 1].into())));
        assert_eq!(container.masquerade, None);
        assert_eq!(container.only_address(), None, "it is behind the router");
        let mut container = read(None, CLAT).unwrap();
        let address = container.only_address().unwrap();
        container.add_own_address(address);
        assert_eq!(Config::read(&container.text).unwrap().0, container.config);
        let network = [
            ("TAYGA_MAP4", "10.0.0.0/24"),
            ("TAYGA_MAP6", "2001:db8:c::100/120"),
        ];
        assert_eq!(read(None, &clat(&network)).unwrap().only_address(), None);
    }

    #[test]
    fn each_variable_is_used() {
        let container = read(
            None,
            &[
                ("TAYGA_POOL4", "10.1.0.0/16"),
                ("TAYGA_PREF64", "2001:db8:64::/96"),
                ("TAYGA_ADDR4", "10.2.0.1"),
                ("TAYGA_ADDR6", "2001:db8:1::1"),
                ("TAYGA_WKPF_STRICT", "yes"),
                ("TAYGA_MTU", "1400"),
                ("TAYGA_LOG", "drop"),
                ("XLATD_MASQUERADE", "no"),
            ],
        )
        .unwrap();
        let lines: Vec<_> = container.text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "ipv4-addr 10.2.0.1",
                "prefix 2001:db8:64::/96",
                "wkpf-strict yes",
                "offlink-mtu 1400",
                "log drop",
                "dynamic-pool 10.1.0.0/16",
                "data-dir /var/lib/xlatd",
                "ipv6-addr 2001:db8:1::1",
                "tun-route 2001:db8:1::1",
                "tun-route 2001:db8:64::/96",
                "tun-route 10.1.0.0/16",
                "tun-route 10.2.0.1",
            ]
        );
        assert_eq!(container.masquerade, None);
        for (variables, own) in [
            (&[("TAYGA_ADDR", "192.0.0.3")][..], [192, 0, 0, 3]),
            (&[("TAYGA_ADDR4", "192.0.0.4")], [192, 0, 0, 4]),
            (
                &[("TAYGA_ADDR", "192.0.0.3"), ("TAYGA_ADDR4", "192.0.0.4")],
                [192, 0, 0, 4],
            ),
        ] {
            let config = read(None, &clat(variables)).unwrap().config;
            assert_eq!(config.ipv4_addr.octets(), own);
        }
    }

    /// What tayga's image ignores does not keep ours from starting.
    #[test]
    fn what_means_nothing_is_said() {
        let variables = [
            ("TAYGA_ADDR6", "64:ff9b::1"),
            ("TAYGA_GW4", "10.0.0.1"),
            ("TAYGA_POOL", "10.0.0.0/8"),
            ("TAYGA_PORT_53_UDP", "udp://10.0.0.1:53"),
        ];
        let container = read(None, &variables).unwrap();
        let notices: Vec<_> = container.notices.iter().map(|(_, text)| &**text).collect();
        assert_eq!(
            notices,
            [
                "TAYGA_GW4 means nothing to a nat64",
                "TAYGA_POOL is no variable of xlatd",
                "TAYGA_ADDR6 is in TAYGA_PREF64, and not used"
            ]
        );
        let strict = [("TAYGA_WKPF_STRICT", "yes"), ("TAYGA_ADDR4", "100.64.0.1")];
        let container = read(None, &strict).unwrap();
        let (level, text) = &container.notices[0];
        assert_eq!(*level, Level::Warning);
        assert!(
            text.starts_with("TAYGA_ADDR4: 100.64.0.1 is private"),
            "{text}"
        );
    }

    #[test]
    fn mistakes_name_the_variable() {
        for (role, environment, expected) in [
            (
                None,
                &[
                    ("TAYGA_POOL4", "10.0.0.0/33"),
                    ("XLATD_MASQUERADE", "maybe"),
                ][..],
                &[
                    "XLATD_MASQUERADE: expected yes or no, found \"maybe\"",
                    "TAYGA_POOL4: expected an IPv4 prefix of length 0 to 31, found \"10.0.0.0/33\"",
                ][..],
            ),
            (
                None,
                &[
                    ("TAYGA_PREF64", "64:ff9b::/97"),
                    ("TAYGA_LOG", "drop\nmap-file /etc/shadow"),
                ],
                &[
                    "TAYGA_LOG: expected words in one line, found \"drop\\nmap-file /etc/shadow\"",
                    "TAYGA_PREF64: expected an IPv6 prefix of length 32, 40, 48, 56, 64 or 96, found \
                     \"64:ff9b::/97\"",
                ],
            ),
            (
                Some(Role::Clat),
                &[("TAYGA_MAP4", "192.0.0.1")],
                &[
                    "TAYGA_ADDR6: expected a value, which a clat needs, found none",
                    "TAYGA_MAP6: expected a value, which a clat needs, found none",
                ],
            ),
            (
                None,
                &[("TAYGA_WKPF_STRICT", "yes")],
                &[
                    "TAYGA_ADDR6: expected an IPv6 address outside of TAYGA_PREF64, which \
                   TAYGA_WKPF_STRICT asks for, found none",
                ],
            ),
            (
                None,
                &[
                    ("TAYGA_MAP4", "x"),
                    ("TAYGA_MAP6", "2001:db8::1"),
                    ("TAYGA_ADDR6", "2001:db8::2"),
                ],
                &["TAYGA_MAP4: expected an IPv4 address or prefix, found \"x\""],
            ),
            (
                None,
                &[
                    ("TAYGA_MAP4", "192.0.0.1"),
                    ("TAYGA_MAP6", "y"),
                    ("TAYGA_ADDR6", "2001:db8::2"),
                ],
                &["TAYGA_MAP6: expected an IPv6 address or prefix, found \"y\""],
            ),
            (
                None,
                &[
                    ("TAYGA_MAP4", "192.0.0.2"),
                    ("TAYGA_MAP6", "2001:db8::1"),
                    ("TAYGA_ADDR6", "2001:db8::2"),
                ],
                &["TAYGA_MAP4: expected another address than ipv4-addr of TAYGA_ADDR4, found "],
            ),
            (
                Some(Role::Clat),
                &clat(&[("TAYGA_GW4", "fe80::1"), ("TAYGA_MTU", "1000")]),
                &[
                    "TAYGA_GW4: expected an IPv4 address, found \"fe80::1\"",
                    "TAYGA_MTU: expected ",
                ],
            ),
        ] {
            let found = errors(role, environment);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.starts_with(expected), "{found}");
            }
        }
    }
}
