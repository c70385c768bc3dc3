//! What is explained where nothing runs: a configuration, and the files that it names.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use xlatd::{
    addr::{AddressMap, Nat64Prefix},
    clat::Source,
    config::{Config, Lines, clatd::ClatConfig, dynamic_map},
    plan,
    report::explain::{Directive, Directives, Explainer, Place},
};

use super::arguments::{Arguments, USAGE};
use crate::{
    cli::{
        clat::{configuration, configure_clat},
        tayga::DEFAULT_CONFIG,
        translator::{parse_config, read_file},
        usage,
    },
    error::Error,
};

/// The MTU of a device that is not there.
pub(super) const MTU: u16 = 1500;

/// A translator as it would start with a tayga.conf.
pub(super) fn tayga(arguments: &Arguments) -> Result<Explainer, Error> {
    let path = arguments.config.as_deref();
    let path = path.unwrap_or(Path::new(DEFAULT_CONFIG));
    let Read {
        config,
        mut map,
        mut directives,
    } = read_tayga(path, read_file)?;
    if config.dynamic_pool.is_some() {
        directives.set_leases(load_leases(&config, &mut map));
    }
    let mut settings = config.translation;
    let mtu = arguments.mtu.or_else(|| device_mtu(&config.tun_device));
    settings.mtu = mtu.unwrap_or(MTU);
    Ok(Explainer::new(settings, map, directives))
}

/// A tayga.conf and its map-file.
pub(super) struct Read {
    pub(super) config: Config,
    pub(super) map: AddressMap,
    pub(super) directives: Directives,
}

/// Reads a tayga.conf, and its map-file, with `read_file`.
pub(super) fn read_tayga(
    path: &Path,
    read_file: fn(&Path) -> Result<Vec<u8>, Error>,
) -> Result<Read, Error> {
    let text = read_file(path)?;
    let (config, _) = parse_config(path, &text)?;
    let mut directives = Directives::of_tayga(&config, path, &text);
    let map = match config.map_file_path() {
        Some(path) => {
            let text = read_file(&path)?;
            directives.add_map_file(&path, &text);
            let read = config.with_map_file(text);
            read.map_err(|lines| Error::Config { path, lines })?.0
        }
        None => config.address_map(),
    };
    Ok(Read {
        config,
        map,
        directives,
    })
}

/// Loads the leases that are kept, and says in words which these are.
fn load_leases(config: &Config, map: &mut AddressMap) -> String {
    map.set_now(system_second());
    let Some(directory) = &config.data_dir else {
        return "no leases are known, since there is no data-dir".to_owned();
    };
    let path = directory.join("dynamic.map");
    let name = path.display();
    match fs::read(&path) {
        Ok(text) => {
            dynamic_map::load(map, &text);
            format!("by the leases in {name}")
        }
        Err(error) if error.kind() == ErrorKind::NotFound => format!("there is no {name}"),
        Err(error) => format!("no leases are known: {name}: {error}"),
    }
}

/// Seconds since 1970, by the system clock.
pub(super) fn system_second() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The MTU of a device, if it is there, in octets.
pub(super) fn device_mtu(name: &str) -> Option<u16> {
    let path = PathBuf::from("/sys/class/net").join(name).join("mtu");
    let mtu: u32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    Some(u16::try_from(mtu).unwrap_or(u16::MAX))
}

/// A CLAT whose prefix and address are configured.
pub(super) fn clat(arguments: &Arguments) -> Result<Explainer, Error> {
    let clatd = arguments.of_clat();
    let config = configure_clat(&clatd, read_file, usage(USAGE))?.config;
    let (path, text) = configuration(&clatd, read_file)?;
    let settings = &config.clat;
    let lines = Lines::of_clatd(&text.unwrap_or_default());
    let place = |key: &str| {
        if clatd.keys.iter().any(|(given, _)| given == key) {
            return Place::OnCommandLine;
        }
        match lines.of(key) {
            Some(line) => Place::InFile {
                file: path.display().to_string(),
                line,
            },
            None => Place::ByDefault,
        }
    };
    let directive = |key: &str, value: String| Directive {
        text: format!("{key}={value}"),
        place: Some(place(key)),
    };
    let (prefix, key) = match (settings.prefix, settings.fallback) {
        (Some(prefix), _) => (prefix, "plat-prefix"),
        (None, Some(prefix)) => (prefix, "plat-fallback-prefix"),
        (None, None) => {
            return Err(Error::KnownWhileRunning {
                what: "the NAT64 prefix",
                key: "plat-prefix=PREFIX",
            });
        }
    };
    let Source::Explicit(address) = settings.source else {
        return Err(Error::KnownWhileRunning {
            what: "the IPv6 address",
            key: "clat-v6-addr=ADDRESS",
        });
    };
    let host = directive("clat-v6-addr", address.to_string());
    let clat = Clat {
        addresses: [settings.host_v4, settings.own_v4],
        prefix,
        host: address,
        mtu: arguments.mtu.unwrap_or(MTU).into(),
    };
    Ok(clat.explainer(
        &config,
        Directives::of_clat(
            directive("tayga-v4-addr", settings.own_v4.to_string()),
            directive(key, prefix.to_string()),
            Directive {
                text: format!("clat-v4-addr={} {}", settings.host_v4, host.text),
                ..host
            },
        ),
    ))
}

/// What a CLAT translates by.
pub(super) struct Clat {
    /// The IPv4 address of programs, and the translator's own.
    pub(super) addresses: [Ipv4Addr; 2],
    pub(super) prefix: Nat64Prefix,
    /// The IPv6 address behind the device.
    pub(super) host: Ipv6Addr,
    /// That of the uplink, in octets.
    pub(super) mtu: u32,
}

impl Clat {
    pub(super) fn explainer(self, config: &ClatConfig, directives: Directives) -> Explainer {
        let map = plan::clat_map_of(self.addresses, self.prefix, self.host);
        Explainer::new(plan::clat_translation(config, self.mtu), map, directives)
    }
}
