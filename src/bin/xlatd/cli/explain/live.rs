//! What is explained where a daemon runs: its configuration, with the mappings and leases that it
//! has now.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use xlatd::{
    addr::{
        AddressMap, Eam, Nat64Prefix,
        pool::{Lease, LeaseState},
    },
    clat::private,
    config::{Config, clatd::ClatConfig},
    report::{
        control::{Answer, MAX_ADDRESSES, Request},
        explain::{Capture, Directive, Directives, Explainer, Place, addresses_in},
        mappings::{Explicit, Mappings},
        status::{self, Status},
    },
};

use super::{
    arguments::Arguments,
    subject::{Clat, MTU, Read, device_mtu, read_tayga, system_second},
};
use crate::{
    cli::{
        ask::{self, NoAnswer},
        say,
        tayga::Name,
        translator::read_plain_file,
    },
    error::Error,
    sys::plain_file,
};

/// The daemon with this device, or with this control socket. Of its mappings and leases, those that
/// concern the addresses of the arguments or of the capture.
pub(super) fn explainer(
    device: &str,
    arguments: &Arguments,
    capture: Option<&[u8]>,
) -> Result<Explainer, Error> {
    let socket = ask::socket_of(device);
    let status = ask::status(&socket).map_err(|error| no_answer(&socket, error))?;
    match &status.clat {
        Some(clat) => running_clat(device, arguments, &status, clat),
        None => {
            let mut addresses: BTreeSet<_> = arguments.addresses.iter().copied().collect();
            if let Some(frames) = capture.and_then(|octets| Capture::new(octets).ok()) {
                addresses.extend(addresses_in(frames));
            }
            running_translator(socket, arguments, &status, addresses)
        }
    }
}

fn no_answer(socket: &Path, error: NoAnswer) -> Error {
    Error::NoAnswer {
        socket: socket.to_owned(),
        cause: match error {
            NoAnswer::NotRunning => io::Error::other("nothing runs there"),
            NoAnswer::Failed(cause) => cause,
        },
    }
}

fn running_translator(
    socket: PathBuf,
    arguments: &Arguments,
    status: &Status,
    mut addresses: BTreeSet<IpAddr>,
) -> Result<Explainer, Error> {
    let path = status.configuration.as_ref().map(|file| &file.path);
    let path = path.ok_or_else(|| no_answer(&socket, failed("it has no configuration")))?;
    let read = read_tayga(Path::new(path), read_plain_file)?;
    let files = [&status.configuration, &status.maps.file];
    let changed = files
        .into_iter()
        .flatten()
        .filter(|file| file.changed != Some(false));
    let changed: Vec<_> = changed.map(|file| file.path.as_str()).collect();
    for file in &changed {
        let text = "it may have changed since it was read; lines and settings are those of now";
        say(Name::Xlatd, &format!("{file}: {text}"));
    }
    let mut mappings = mappings(&socket, &addresses)?;
    let Read {
        config,
        map: on_disk,
        mut directives,
    } = read;
    let base = if changed.is_empty() {
        on_disk
    } else {
        running_map(&config, status)
    };
    // What the addresses stand for may have mappings of its own.
    let map = with_mappings(base.clone(), &config, &mappings);
    addresses.extend(
        addresses
            .clone()
            .into_iter()
            .filter_map(|address| counterpart(&map, address)),
    );
    mappings = self::mappings(&socket, &addresses)?;
    let map = with_mappings(base, &config, &mappings);
    directives.set_leases("by the leases of now".to_owned());
    let mut settings = config.translation;
    let mtu = status
        .device
        .as_ref()
        .and_then(|device| device.mtu.try_into().ok());
    settings.mtu = arguments.mtu.or(mtu).unwrap_or(MTU);
    Ok(Explainer::new(settings, map, directives))
}

fn failed(text: &str) -> NoAnswer {
    NoAnswer::Failed(io::Error::other(text))
}

/// The mapping that runs, as far as the status has it: no explicit mappings.
fn running_map(config: &Config, status: &Status) -> AddressMap {
    let prefix = status.prefix.as_deref().and_then(nat64_prefix);
    AddressMap::new(
        status.ipv4_addr.unwrap_or(config.ipv4_addr),
        status.ipv6_addr.unwrap_or(config.ipv6_addr),
        prefix,
        config.wkpf_strict,
    )
}

fn nat64_prefix(text: &str) -> Option<Nat64Prefix> {
    Nat64Prefix::new(text.parse().ok()?).ok()
}

/// Adds the mappings that a daemon has.
fn with_mappings(mut map: AddressMap, config: &Config, mappings: &Mappings) -> AddressMap {
    for Explicit { ipv4, ipv6 } in &mappings.explicit {
        if let (Ok(v4), Ok(v6)) = (ipv4.parse(), ipv6.parse())
            && let Ok(eam) = Eam::new(v4, v6)
        {
            let _ = map.insert(eam); // refused if it is there already
        }
    }
    if let Some(pool) = config.dynamic_pool {
        map.set_pool(pool);
    }
    map.set_now(system_second());
    for lease in &mappings.leases {
        let state = match lease.dormant {
            true => LeaseState::Dormant,
            false => LeaseState::Active,
        };
        let lease = Lease {
            address: lease.ipv4,
            host: lease.ipv6,
            last_use: lease.last_use,
        };
        let _ = map.restore_lease(lease, state); // refused if a mapping has taken its place
    }
    map
}

fn counterpart(map: &AddressMap, address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => Some(map.to_v6(address).ok()?.address.into()),
        IpAddr::V6(address) => Some(map.to_v4(address).ok()?.address.into()),
    }
}

/// Asks for the mappings that are about the addresses.
fn mappings(socket: &Path, addresses: &BTreeSet<IpAddr>) -> Result<Mappings, Error> {
    let addresses: Vec<_> = addresses.iter().copied().collect();
    let mut all = Mappings::default();
    for some in addresses.chunks(MAX_ADDRESSES) {
        let request = Request::Mappings {
            addresses: some.to_vec(),
        };
        match ask::ask(socket, &request) {
            Ok(Answer::Mappings(more)) => {
                all.explicit.extend(more.explicit);
                all.leases.extend(more.leases);
            }
            Ok(_) => return Err(no_answer(socket, failed("expected mappings"))),
            Err(error) => return Err(no_answer(socket, error)),
        }
    }
    Ok(all)
}

/// The configuration of a CLAT, as far as it can be read: what decides is known without it.
fn clat_config(status: &Status) -> ClatConfig {
    let mut config = ClatConfig::default();
    let text = status
        .configuration
        .as_ref()
        .map(|file| plain_file::read(file.path.as_ref()));
    if let Some(Ok(text)) = text {
        let _ = config.read(&text);
    }
    config
}

fn running_clat(
    device: &str,
    arguments: &Arguments,
    status: &Status,
    clat: &status::Clat,
) -> Result<Explainer, Error> {
    let overview = &clat.overview;
    let address = |address: &Option<String>| address.as_ref()?.parse::<Ipv4Addr>().ok();
    let known = overview.prefix.as_ref().and_then(|known| {
        let prefix = nat64_prefix(&known.prefix)?;
        let addresses = [address(&overview.host_v4)?, address(&overview.own_v4)?];
        Some((prefix, &known.origin, addresses, overview.source?))
    });
    let (prefix, origin, addresses, source) = known.ok_or_else(|| Error::NotTranslating {
        device: device.to_owned(),
        state: status.state.clone(),
    })?;
    let [host_v4, own_v4] = addresses;
    let is_shared = overview.way.as_deref() == Some("shared");
    let host = if is_shared { private(host_v4) } else { source };
    let given = |text: String| Directive {
        text,
        place: Some(Place::ByDaemon),
    };
    let directives = Directives::of_clat(
        given(format!("own address {own_v4}")),
        given(format!("prefix {prefix}: {origin}")),
        given(match is_shared {
            true => format!("{host_v4} is {host}, which the kernel translates to {source}"),
            false => format!("{host_v4} is {source}: {}", overview.source_choice),
        }),
    );
    let uplink = overview.uplink.as_deref();
    let mtu = arguments.mtu.or_else(|| device_mtu(uplink?)).unwrap_or(MTU);
    let clat = Clat {
        addresses,
        prefix,
        host,
        mtu: mtu.into(),
    };
    Ok(clat.explainer(&clat_config(status), directives))
}
