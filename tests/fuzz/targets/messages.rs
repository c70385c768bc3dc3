//! What comes from the network of a CLAT: messages of Neighbour Discovery and DNS, and a CLAT that
//! hears them in any order.
#![no_main]

use std::{net::Ipv6Addr, time::Duration};

use libfuzzer_sys::fuzz_target;
use xlatd::{
    clat::{
        Action, Address, Clat, Event, Interface, Ipv6Route, Network, Resolution, Settings, Source,
        Traffic, neighbour, prefix,
    },
    plan::{self, Before, Facts},
    wire::{
        dns::{self, Answer, Response},
        ndp::{self, RouterAdvertisement},
    },
};

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    match kind % 3 {
        0 => {
            let _ = (
                RouterAdvertisement::parse(data),
                ndp::solicited_target(data),
            );
            ndp::answers_probe(data, 7);
            neighbour::answer(data, Ipv6Addr::UNSPECIFIED, None);
            dns_response(data);
        }
        1 => life(data, Settings::default()),
        _ => life(data, settings(kind / 3)),
    }
});

/// A response, and the same one to each query that it leads to.
fn dns_response(data: &[u8]) {
    let mut query = dns::Query::new(0);
    for aliases in 0.. {
        assert!(aliases <= dns::MAX_ALIASES, "a loop");
        assert!(query.message().len() <= 271);
        match query.response(dns::in_stream(data).unwrap_or(data)) {
            Some(Response::Alias(next)) => query = next,
            Some(Response::Answer(Answer::Addresses(addresses, _))) => {
                assert!((1..=dns::MAX_ADDRESSES).contains(&addresses.len()));
                return;
            }
            _ => return,
        }
    }
}

/// Of the kinds that there are.
fn settings(kind: u8) -> Settings {
    let default = Settings::default();
    let known = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);
    match kind % 4 {
        0 => Settings {
            source: Source::Shared,
            ..default
        },
        1 => Settings {
            source: Source::Derived,
            fallback: prefix::nat64(known, 96),
            ..default
        },
        2 => Settings {
            source: Source::Explicit(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99)),
            steps_aside_after: Duration::ZERO,
            ..default
        },
        _ => Settings {
            prefix: prefix::nat64(known, 96),
            ..default
        },
    }
}

const FACTS: Facts = Facts {
    forces_forwarding: true,
    is_router: false,
    has_nft: true,
    matches_sockets: true,
    has_next_hop_object: true,
    filters_strictly: false,
    has_ufw: false,
};

/// Events, each of an octet for its kind and as many for its content as that says.
fn life(mut data: &[u8], settings: Settings) {
    let mut clat = Clat::new(settings.clone());
    let mut now = Duration::from_secs(1000);
    let mut network = Network {
        interfaces: vec![link(2), link(3)],
        ..Network::default()
    };
    let mut traffic = Traffic::default();
    clat.handle(Event::Network(network.clone()), traffic, now);
    while let Some((&[kind, len], rest)) = data.split_first_chunk() {
        let (content, rest) = rest.split_at(rest.len().min(len.into()));
        data = rest;
        let at = usize::from(kind >> 3 & 1);
        let event = match kind & 7 {
            0 => Event::Network(network.clone()),
            1 => {
                let link = &mut network.interfaces[at];
                for octet in content {
                    change(link, *octet);
                }
                Event::Network(network.clone())
            }
            2 => match RouterAdvertisement::parse(&[&[134, 0], content].concat()) {
                Some(advertisement) => Event::Advertisement {
                    link: network.interfaces[at].index,
                    router: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(kind >> 4 & 7)),
                    advertisement,
                },
                None => continue,
            },
            3 => Event::Resolved {
                link: network.interfaces[at].index,
                resolution: Resolution {
                    addresses: content
                        .as_chunks::<16>()
                        .0
                        .iter()
                        .map(|octets| Ipv6Addr::from(*octets))
                        .collect(),
                    ttl: Duration::from_secs(len.into()),
                    own: kind & 16 == 0,
                },
            },
            4 => Event::Unresolved {
                link: network.interfaces[at].index,
            },
            5 => Event::Answered {
                from: network.interfaces[at]
                    .addresses
                    .first()
                    .map_or(Ipv6Addr::UNSPECIFIED, |one| one.address),
            },
            6 if kind & 16 == 0 => Event::Resumed,
            6 => Event::Failed,
            _ => {
                traffic.out += u64::from(len);
                traffic.back += u64::from(kind >> 4 & 1);
                wait(
                    &mut clat,
                    (&mut now, traffic),
                    Duration::from_millis(u64::from(len) * u64::from(len) * 10),
                    &settings,
                    &mut network,
                );
                continue;
            }
        };
        done(clat.handle(event, traffic, now), &settings, &mut network);
    }
    wait(
        &mut clat,
        (&mut now, traffic),
        Duration::from_secs(3600),
        &settings,
        &mut network,
    );
}

/// From deadline to deadline; there are only so many.
fn wait(
    clat: &mut Clat,
    (now, traffic): (&mut Duration, Traffic),
    time: Duration,
    settings: &Settings,
    network: &mut Network,
) {
    let end = *now + time;
    let mut turns = 0;
    while let Some(deadline) = clat.deadline().filter(|at| *at <= end) {
        assert!(
            deadline >= *now,
            "a deadline that is over: {deadline:?} at {now:?}: {clat:?}"
        );
        let before = *now;
        *now = deadline;
        let actions = clat.handle(Event::Time, traffic, *now);
        let asked = actions.iter().find_map(|action| match action {
            Action::Query { link, .. } => Some(*link),
            _ => None,
        });
        done(actions, settings, network);
        // Somebody always says that it was in vain.
        if let Some(link) = asked {
            done(
                clat.handle(Event::Unresolved { link }, traffic, *now),
                settings,
                network,
            );
        }
        // What has been done is not to be done again at once.
        let next = clat.deadline();
        assert!(
            next.is_none_or(|at| at > *now),
            "{next:?} at {now:?}: {clat:?}"
        );
        turns += 1;
        assert!(turns < 3000, "it spins: {before:?} {now:?} {clat:?}");
    }
    *now = end;
}

/// What is to be done makes sense; an address that is tried is there from then on.
fn done(actions: Vec<Action>, settings: &Settings, network: &mut Network) {
    for action in actions {
        match action {
            Action::SetUp(setup) => {
                assert!((1280..=65535).contains(&setup.mtu));
                assert_ne!(setup.addresses[0], setup.addresses[1]);
                assert!(!setup.source.is_multicast() && !setup.source.is_unicast_link_local());
                for resource in plan::clat(settings, &setup, FACTS) {
                    let undo = resource.undo(Before::Value("0".to_owned()));
                    let Some(line) = undo.as_ref().and_then(plan::record::line) else {
                        continue;
                    };
                    assert!(!line.contains('\n'));
                }
                plan::clat_map(&setup);
            }
            Action::TestAddress(Some(test)) => {
                plan::trial(&settings, &test, true);
                let index = test.uplink.index;
                if let Some(link) = network.interfaces.iter_mut().find(|link| link.index == index)
                    && link.addresses.len() < 20
                {
                    link.addresses.push(address(test.address));
                }
            }
            Action::TestAddress(None) => {
                for link in &mut network.interfaces {
                    link.addresses.retain(|one| one.length != 128);
                }
            }
            Action::Report(status) => assert!(!status.to_string().is_empty()),
            Action::Ignore(ignored) => assert!(!ignored.to_string().is_empty()),
            _ => {}
        }
    }
}

fn link(index: u32) -> Interface {
    let mut octets = [0; 16];
    octets[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    octets[15] = index as u8;
    Interface {
        index,
        name: format!("eth{index}"),
        running: true,
        mtu: 1500,
        mac: Some([2, 0, 0, 0, 0, 1]),
        addresses: vec![address(octets.into())],
        routes_v6: (index == 2).then(|| route("::/0", 0)).into_iter().collect(),
        ..Interface::default()
    }
}

fn route(destination: &str, octet: u8) -> Ipv6Route {
    Ipv6Route {
        destination: destination.parse().unwrap(),
        is_main: octet & 0x80 == 0,
        metric: 1024 + u32::from(octet & 1),
        preference: 0,
        gateway: (octet & 0x40 == 0).then(|| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, octet.into())),
    }
}

fn address(address: Ipv6Addr) -> Address {
    Address {
        address,
        length: 64,
        deprecated: false,
        temporary: false,
        tentative: false,
        duplicate: false,
    }
}

fn change(link: &mut Interface, octet: u8) {
    let on = octet & 1 != 0;
    let last = link.addresses.last_mut();
    match octet >> 1 & 15 {
        0 => link.running = on,
        1 if on => link.routes_v6.clear(),
        1 => {
            let destinations = ["::/0", "2000::/3", "64:ff9b::/96", "2001:db8::/32"];
            let destination = destinations[usize::from(octet >> 5 & 3)];
            link.routes_v6.push(route(destination, octet));
            link.routes_v6.truncate(20);
        }
        2 => {
            link.default_v4 = on;
            link.on_link_default_v4 = (octet >> 5 & 1 != 0).then_some(octet.into());
        }
        3 => {
            link.kind = ["", "tun", "ip6tnl", "bridge"][usize::from(octet >> 5 & 3)].to_owned();
        }
        4 => link.mtu = if on { 100 } else { 9000 },
        5 => {
            link.clat_addresses = (1..=octet >> 5)
                .map(|last| [192, 0, 0, last].into())
                .collect()
        }
        6 => link.addresses.clear(),
        7 => {
            let mut octets = [
                0x20,
                1,
                0xd,
                0xb8,
                0,
                octet >> 5,
                0,
                0,
                0,
                0,
                0,
                0xff,
                0xfe,
                0,
                0,
                1,
            ];
            octets[14] = octet;
            link.addresses.push(address(octets.into()));
            link.addresses.truncate(20);
        }
        8 => last.into_iter().for_each(|one| one.deprecated = on),
        9 => last.into_iter().for_each(|one| one.tentative = on),
        10 => last.into_iter().for_each(|one| one.duplicate = on),
        11 => drop(link.addresses.pop()),
        _ => link.mac = on.then_some([octet; 6]),
    }
}
