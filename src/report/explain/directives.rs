//! The directives and keys that map addresses, and where they are written.

use std::{net::IpAddr, path::Path};

use serde::Serialize;

use crate::{
    addr::{AddressMap, Prefix4, Via},
    config::{Config, Lines, map_words},
};

/// A directive or key, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Directive {
    /// As in a configuration: `map 192.0.2.1 2001:db8::1`, `plat-prefix=64:ff9b::/96`.
    pub text: String,
    /// Where it is written; `None`: not known.
    #[serde(flatten)]
    pub place: Option<Place>,
}

/// Where a directive or key is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "given", rename_all = "snake_case")]
pub enum Place {
    /// In a file.
    InFile {
        /// Its path.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// On the command line.
    OnCommandLine,
    /// By a daemon that runs.
    ByDaemon,
    /// Nowhere: it is the default.
    ByDefault,
}

/// The pool, and the leases that are known.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) prefix: Prefix4,
    pub(super) directive: Directive,
    /// Where the leases come from, in words.
    pub(super) leases: String,
}

/// What is written about the addresses of a translator.
#[derive(Clone, Debug, Default)]
pub struct Directives {
    /// The translator's own addresses: IPv4, IPv6.
    own: [Option<Directive>; 2],
    prefix: Option<Directive>,
    pool: Option<Pool>,
    /// The one explicit mapping of a CLAT.
    host: Option<Directive>,
    /// Files with `map` lines.
    files: Vec<(String, Lines)>,
}

impl Directives {
    /// Those of a tayga.conf: `path` and `text` are the file that `config` was read from.
    pub fn of_tayga(config: &Config, path: &Path, text: &[u8]) -> Self {
        let lines = Lines::of_tayga(text);
        let file = path.display().to_string();
        let directive = |name: &str, value: String| Directive {
            text: format!("{name} {value}"),
            place: lines.of(name).map(|line| in_file(&file, line)),
        };
        let own_v4 = directive("ipv4-addr", config.ipv4_addr.to_string());
        let own_v6 = match (lines.of("ipv6-addr"), config.prefix) {
            (None, Some(prefix)) => Directive {
                text: format!("ipv4-addr {} in prefix {prefix}", config.ipv4_addr),
                ..own_v4.clone()
            },
            _ => directive("ipv6-addr", config.ipv6_addr.to_string()),
        };
        let prefix = config.prefix;
        let pool = config.dynamic_pool.map(|prefix| Pool {
            prefix,
            directive: directive("dynamic-pool", prefix.to_string()),
            leases: "no leases are known".to_owned(),
        });
        Self {
            own: [Some(own_v4), Some(own_v6)],
            prefix: prefix.map(|prefix| directive("prefix", prefix.to_string())),
            pool,
            host: None,
            files: vec![(file, lines)],
        }
    }

    /// Adds the `map` lines of a map-file.
    pub fn add_map_file(&mut self, path: &Path, text: &[u8]) {
        let file = path.display().to_string();
        self.files.push((file, Lines::of_tayga(text)));
    }

    /// Says where the leases come from, in words.
    pub fn set_leases(&mut self, origin: String) {
        if let Some(pool) = &mut self.pool {
            pool.leases = origin;
        }
    }

    /// Those of a CLAT: its own address, the NAT64 prefix, and the address of programs.
    pub fn of_clat(own: Directive, prefix: Directive, host: Directive) -> Self {
        Self {
            own: [Some(own.clone()), Some(own)],
            prefix: Some(prefix),
            pool: None,
            host: Some(host),
            files: Vec::new(),
        }
    }

    pub(super) fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }

    /// The directive by which an address is mapped, and the kind of which is known.
    pub(super) fn of(&self, via: Via, address: IpAddr, map: &AddressMap) -> Option<Directive> {
        match via {
            Via::Own => {
                let [own_v4, own_v6] = &self.own;
                // In the prefix it is the IPv4 address that counts.
                let is_own_v6 = address == map.own_v6();
                if is_own_v6 {
                    own_v6.clone()
                } else {
                    own_v4.clone()
                }
            }
            Via::Prefix => self.prefix.clone(),
            Via::Lease => {
                let Pool { directive, .. } = self.pool.as_ref()?;
                Some(Directive {
                    text: format!("a lease of {}", directive.text),
                    ..directive.clone()
                })
            }
            Via::Explicit if self.host.is_some() => self.host.clone(),
            Via::Explicit => {
                let eam = map.explicit_of(address)?;
                let mut files = self.files.iter();
                let place = files.find_map(|(file, lines)| Some(in_file(file, lines.of_map(eam)?)));
                Some(Directive {
                    text: format!("map {}", map_words(&eam).join(" ")),
                    place,
                })
            }
        }
    }
}

fn in_file(file: &str, line: usize) -> Place {
    Place::InFile {
        file: file.to_owned(),
        line,
    }
}
