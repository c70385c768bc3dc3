//! The command `xlatd container`: a translator that the environment configures.

use std::{
    env,
    ffi::OsString,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use lexopt::{Arg, Parser};
use log::{debug, info, warn};
use xlatd::{
    addr::{IpPrefix, Prefix4},
    config::{
        Level,
        container::{Container, Role},
    },
    doctor::Leads,
    plan::{self, Resource},
};

use super::{prints, runtime_directory, usage};
use crate::{
    daemon::{
        file_as_read::FileAsRead,
        options::{self, Options},
        translator,
    },
    error::{Error, system},
    host,
    sys::{self, log::Destination, netlink::Netlink, privilege::Identity, tun},
};

/// The text of `xlatd container --help`.
const HELP: &str = "\
Usage: xlatd container [OPTION]... [nat64 | clat]

Translates as the variables of the environment say, which are those of tayga's
images, and sets up its network namespace: forwarding, routes, masquerading.
Without a word it is a clat if TAYGA_MAP4 or TAYGA_MAP6 is set, or else a nat64.
See xlatd-container(8).

  -d, --debug        log debug messages and packets
      --forwarding   only have the network namespace forward, and exit
  -h, --help         print this help and exit
  -V, --version      print the version and exit

  nat64                                   clat
  TAYGA_PREF64       64:ff9b::/96         TAYGA_PREF64       64:ff9b::/96
  TAYGA_POOL4        192.168.240.0/20     TAYGA_MAP4         required
  TAYGA_ADDR4        192.168.240.1        TAYGA_MAP6         required
  TAYGA_ADDR6        in the prefix        TAYGA_ADDR4        192.0.0.2
  TAYGA_WKPF_STRICT  no                   TAYGA_ADDR6        required
  TAYGA_MTU          1280                 TAYGA_GW4          none
  TAYGA_LOG          all classes          TAYGA_WKPF_STRICT  no
  XLATD_MASQUERADE   yes                  TAYGA_MTU          65535
                                          TAYGA_LOG          all classes
";

/// A parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    role: Option<Role>,
    debug: bool,
    /// Whether all that is to be done is forwarding.
    forwarding: bool,
}

/// Runs the command, until a signal ends it.
pub(super) fn run(words: Vec<OsString>) -> Result<ExitCode, Error> {
    let Some(arguments) = parse(words).map_err(usage("xlatd container --help"))? else {
        return Ok(ExitCode::SUCCESS);
    };
    sys::log::start(Destination::Stdout, "xlatd", arguments.debug)
        .map_err(system("log to stdout"))?;
    if arguments.forwarding {
        host::forwarding::forward_all().map_err(Error::Forwarding)?;
        return Ok(ExitCode::SUCCESS);
    }
    info!("Starting xlatd {}", env!("CARGO_PKG_VERSION"));
    let environment = env::vars_os().filter_map(|(name, value)| {
        let value = value.to_string_lossy().into_owned();
        Some((name.into_string().ok()?, value))
    });
    let mut container = Container::read(arguments.role, environment).map_err(Error::Variables)?;
    for (level, line) in &container.notices {
        match level {
            Level::Warning => warn!("{line}"),
            Level::Info => info!("{line}"),
        }
    }
    if let Err(error) = tun::make_node() {
        debug!("cannot make /dev/net/tun: {error}"); // which attaching says better
    }
    host::forwarding::forward_all().map_err(Error::Forwarding)?;
    let mut netlink = Netlink::new().map_err(system("open a netlink socket"))?;
    if let Some(address) = container.only_address()
        && is_unknown(&mut netlink, address)?
    {
        container.add_own_address(address);
    }
    let gateway = container.gateway;
    let route = gateway.map(|(map, router)| route(&mut netlink, map, router));
    let options = Options {
        debug: arguments.debug,
        pidfile: None,
        identity: Identity::default(),
        chroot: false,
        configuration: write(&container),
        runtime_directory: runtime_directory(),
        container: options::Container {
            routes: route.transpose()?.into_iter().collect(),
            masquerade: container.masquerade,
        },
    };
    translator::run(container.config, &options, None)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the arguments; `None`: what they asked for is printed.
fn parse(words: Vec<OsString>) -> Result<Option<Arguments>, lexopt::Error> {
    let mut arguments = Arguments::default();
    let mut parser = Parser::from_args(words);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('d') | Arg::Long("debug") => arguments.debug = true,
            Arg::Long("forwarding") => arguments.forwarding = true,
            argument if prints(&argument, HELP) => return Ok(None),
            Arg::Value(word) if arguments.role.is_none() => {
                let role = word.to_str().and_then(Role::of);
                let refused = || format!("expected nat64 or clat, found {word:?}");
                arguments.role = Some(role.ok_or_else(refused)?);
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(arguments))
}

/// Whether an address is of no host that there is a route to, besides the default route.
fn is_unknown(netlink: &mut Netlink, address: Ipv4Addr) -> Result<bool, Error> {
    let leads = netlink.leads(address.into(), None);
    Ok(match leads.map_err(system("ask for a route by netlink"))? {
        Leads::Here => false,
        Leads::Nowhere(_) => true,
        Leads::To { route, .. } => route.is_some_and(|route| route.prefix.length() == 0),
    })
}

/// The route to the hosts of a mapping by their router.
fn route(netlink: &mut Netlink, map: Prefix4, router: Ipv4Addr) -> Result<Resource, Error> {
    let leads = netlink.leads(router.into(), None);
    let Leads::To { link, .. } = leads.map_err(system("ask for a route by netlink"))? else {
        return Err(Error::NoRoute(router));
    };
    let destination = IpPrefix::V4(map.address(), map.length());
    Ok(plan::route_by(router.into(), link, destination))
}

/// The path of the tayga.conf of a container, for those who look.
pub(super) fn path(device: &str) -> PathBuf {
    runtime_directory().join(format!("{device}.conf"))
}

/// Writes the tayga.conf, if there is a place for it.
fn write(container: &Container) -> FileAsRead {
    let path = path(&container.config.tun_device);
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&path, &container.text));
    if let Err(error) = written {
        let directory = path.parent().unwrap_or(Path::new("/")).display();
        warn!(
            "{directory}: cannot be written to, so there is no status and no health check: {error} \
             (in a container with a read-only root: --tmpfs /run)"
        );
    }
    FileAsRead::new(&path, container.text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Arguments>, String> {
        let words = words.iter().map(OsString::from);
        parse(words.collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn one_word_is_the_role() {
        let arguments = |role, debug| {
            Ok(Some(Arguments {
                role,
                debug,
                forwarding: false,
            }))
        };
        assert_eq!(parsed(&[]), arguments(None, false));
        assert_eq!(parsed(&["clat"]), arguments(Some(Role::Clat), false));
        assert_eq!(parsed(&["-d", "nat64"]), arguments(Some(Role::Nat64), true));
        let refused = "expected nat64 or clat, found \"nat46\"".to_owned();
        assert_eq!(parsed(&["nat46"]), Err(refused));
        assert!(parsed(&["clat", "nat64"]).is_err());
    }

    #[test]
    fn the_help_has_every_variable() {
        for name in xlatd::config::container::variables() {
            let is_in = HELP.split_whitespace().any(|word| word == name);
            assert!(is_in || name == "TAYGA_ADDR", "{name}");
        }
    }
}
