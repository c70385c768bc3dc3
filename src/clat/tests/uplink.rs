//! Which interface is the uplink, and which router is the next hop there.

use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn router(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number)
}

fn route(destination: &str, is_main: bool, metric: u32, gateway: u16) -> Ipv6Route {
    Ipv6Route {
        destination: destination.parse().unwrap(),
        is_main,
        gateway: Some(router(gateway)),
        ..default_route(metric)
    }
}

fn interface(index: u32, kind: &str, routes: &[Ipv6Route]) -> Interface {
    Interface {
        index,
        name: format!("eth{index}"),
        running: true,
        kind: kind.to_owned(),
        routes_v6: routes.to_vec(),
        ..Interface::default()
    }
}

/// The uplink and the prefix are given.
fn by_eth0() -> Settings {
    Settings {
        uplink: Some("eth0".to_owned()),
        prefix: prefix::nat64(WKP.parse().unwrap(), 96),
        ..Settings::default()
    }
}

/// Default routes of the main table come first, then other routes there, then default routes of
/// other tables; of one metric, the router's preference counts (RFC 4191 section 2.1). Tunnels are
/// last, and count by name, or by the main table.
#[test]
fn uplinks_have_an_order() {
    let preferred = Ipv6Route {
        preference: 1,
        ..route("::/0", true, 100, 1)
    };
    let network = Network {
        interfaces: vec![
            interface(1, "", &[route("::/0", false, 1, 1)]),
            interface(2, "", &[route("2000::/3", true, 1, 1)]),
            interface(3, "", &[route("::/0", true, 1024, 1)]),
            interface(4, "", &[route("::/0", true, 100, 1)]),
            interface(5, "", &[route("64:ff9b::/96", true, 2, 1)]),
            interface(6, "", &[route("2001:db8:64::/96", true, 1, 1)]),
            interface(7, "wireguard", &[route("::/0", false, 1, 1)]),
            interface(8, "", &[]),
            interface(9, "", &[preferred]),
        ],
        ..Network::default()
    };
    let prefixes = [prefix::nat64(WKP.parse().unwrap(), 96).unwrap()];
    let found = |network: &Network, name: Option<&str>| {
        let uplinks = network.uplinks(name, &prefixes, None);
        uplinks.iter().map(|one| one.index).collect::<Vec<_>>()
    };
    assert_eq!(found(&network, None), [9, 4, 3, 2, 5, 1]);
    for (name, expected) in [("eth8", vec![8]), ("eth7", vec![7]), ("eth10", vec![])] {
        assert_eq!(found(&network, Some(name)), expected, "{name}");
    }
    let mut tunnel = interface(7, "tun", &[route("::/0", false, 1, 1)]);
    let alone = |tunnel: &Interface| Network {
        interfaces: vec![tunnel.clone()],
        ..Network::default()
    };
    assert_eq!(found(&alone(&tunnel), None), [0_u32; 0]);
    tunnel.routes_v6 = vec![route("::/0", true, 1, 1)];
    assert_eq!(found(&alone(&tunnel), None), [7]);
}

/// The way that the last set-up asked for has.
fn way(actions: &[Action]) -> &Way {
    &setups(actions).last().unwrap().way
}

fn forwarded_by(actions: &[Action]) -> Option<Ipv6Addr> {
    match way(actions) {
        Way::Shared(forwarding) => forwarding.router,
        other => panic!("{other:?}"),
    }
}

/// Without any route: the router of the prefix is the next hop, or else the best one.
#[test]
fn an_uplink_that_is_named_needs_no_route() {
    let mut rig = Rig::new(by_eth0());
    rig.link().routes_v6.clear();
    assert_eq!(
        says(&rig.network_is()),
        ["Waiting for a router: no IPv6 route by plat-dev, \
          and no router has announced itself there"]
    );
    let lifetime = seconds(1800);
    assert_eq!(
        forwarded_by(&rig.advertised_by(1, 0, lifetime, &[])),
        Some(router(1))
    );
    assert_eq!(
        forwarded_by(&rig.advertised_by(2, 1, lifetime, &[])),
        Some(router(2))
    );
    let announced = rig.advertised_by(3, -1, lifetime, &[(WKP, 1800)]);
    assert_eq!(forwarded_by(&announced), Some(router(3)));
    // A route goes before all of them.
    rig.link().routes_v6 = vec![route("::/0", false, 1, 4)];
    assert_eq!(forwarded_by(&rig.network_is()), Some(router(4)));
    // One that says goodbye is none any more.
    rig.link().routes_v6.clear();
    rig.network_is();
    let left = rig.advertised_by(3, -1, Duration::ZERO, &[(WKP, 0)]);
    assert_eq!(forwarded_by(&left), Some(router(2)));
}

/// Where there is one peer only, no router is needed.
#[test]
fn a_link_without_neighbours_needs_no_router() {
    let mut rig = Rig::of(Settings {
        source: Source::Explicit("2001:db8:6::9".parse().unwrap()),
        ..by_eth0()
    });
    rig.link().routes_v6.clear();
    rig.link().link_layer = LinkLayer::Bare;
    rig.network_is();
    let actions = rig.is_unique("2001:db8:6::9".parse().unwrap());
    assert_eq!(way(&actions), &Way::Direct(NextHop::Peer));
}

/// A prefix is found before routes to it are known: they are asked for then.
#[test]
fn routes_to_a_prefix_that_is_found_matter() {
    let mut rig = Rig::started();
    let other = prefix::nat64(OTHER.parse().unwrap(), 96).unwrap();
    assert!(!rig.clat.nat64_prefixes().contains(&other));
    let actions = rig.advertised(&[(OTHER, 1800)]);
    assert_eq!(forwarded_by(&actions), None);
    assert!(rig.clat.nat64_prefixes().contains(&other));
    rig.link()
        .routes_v6
        .push(route(&format!("{OTHER}/96"), true, 1, 7));
    assert_eq!(forwarded_by(&rig.network_is()), Some(router(7)));
}

/// The router in use stays the first among equals, unless another one has the prefix.
#[test]
fn routers_do_not_take_turns() {
    let mut rig = Rig::of(Settings {
        prefix: prefix::nat64(WKP.parse().unwrap(), 96),
        source: Source::Explicit("2001:db8:6::9".parse().unwrap()),
        ..Settings::default()
    });
    rig.link().mac = Some(MAC);
    let equal = |number| route("::/0", true, 1024, number);
    let list = |numbers: &[u16]| {
        Way::Direct(NextHop::Router {
            mac: MAC,
            routers: numbers.iter().map(|one| router(*one)).collect(),
        })
    };
    rig.link().routes_v6 = vec![equal(5)];
    rig.network_is();
    let actions = rig.is_unique("2001:db8:6::9".parse().unwrap());
    assert_eq!(way(&actions), &list(&[5]));
    rig.link().routes_v6.insert(0, equal(4));
    assert_eq!(way(&rig.network_is()), &list(&[5, 4]));
    rig.link().routes_v6.swap(0, 1);
    assert_eq!(rig.network_is(), []);
    rig.link().routes_v6.push(route("::/0", true, 1, 6));
    assert_eq!(way(&rig.network_is()), &list(&[6, 5, 4]));
}

/// The same where the kernel forwards.
#[test]
fn the_router_that_is_forwarded_to_stays() {
    let mut rig = Rig::started();
    let equal = |number| route("::/0", true, 1024, number);
    rig.link().routes_v6 = vec![equal(5)];
    rig.network_is();
    let actions = rig.advertised_by(9, 0, seconds(1800), &[(WKP, 1800)]);
    assert_eq!(forwarded_by(&actions), Some(router(5)));
    rig.link().routes_v6.push(equal(4));
    assert_eq!(rig.network_is(), []);
    let actions = rig.advertised_by(4, 0, seconds(1800), &[(WKP, 1800)]);
    assert_eq!(forwarded_by(&actions), Some(router(4)));
}

/// Without any route, the next hop is a router of the link for as long as it says that it is one
/// (RFC 4861 section 6.2.1), and other links have others.
#[test]
fn a_router_is_the_next_hop_for_its_lifetime() {
    let mut rig = Rig::new(by_eth0());
    rig.link().routes_v6.clear();
    rig.network.interfaces.push(interface(3, "", &[]));
    rig.network_is();
    rig.tell(Event::Advertisement {
        link: 3,
        router: router(3),
        advertisement: RouterAdvertisement {
            router_lifetime: seconds(1800),
            preference: 1,
            ..RouterAdvertisement::default()
        },
    });
    rig.advertised_by(2, -1, seconds(1800), &[]);
    let actions = rig.advertised_by(1, 0, seconds(100), &[]);
    assert_eq!(forwarded_by(&actions), Some(router(1)));
    rig.now += seconds(100) - Duration::from_nanos(1);
    assert_eq!(rig.network_is(), []);
    rig.now += Duration::from_nanos(1);
    assert_eq!(forwarded_by(&rig.network_is()), Some(router(2)));
}

/// RFC 4861 section 6.3.4: a default router whose lifetime is over is the next hop no more, at once
/// and without an event. Those of other links wake up nobody.
#[test]
fn the_end_of_a_next_hop_is_awaited() {
    let mut rig = Rig::new(by_eth0());
    rig.link().routes_v6.clear();
    rig.network_is();
    rig.tell(Event::Advertisement {
        link: 3,
        router: router(3),
        advertisement: RouterAdvertisement {
            router_lifetime: seconds(50),
            ..RouterAdvertisement::default()
        },
    });
    assert_eq!(rig.clat.deadline(), None);
    rig.advertised_by(1, 0, seconds(100), &[]);
    rig.advertised_by(2, -1, seconds(300), &[]);
    let end = rig.now + seconds(100);
    assert_eq!(rig.clat.deadline(), Some(end));
    rig.now = end - Duration::from_nanos(1);
    assert_eq!(rig.tell(Event::Time), []);
    assert_eq!(rig.clat.deadline(), Some(end));
    rig.now = end;
    assert_eq!(forwarded_by(&rig.tell(Event::Time)), Some(router(2)));

    let last = end + seconds(200);
    assert_eq!(rig.clat.deadline(), Some(last));
    rig.now = last;
    let said = says(&rig.tell(Event::Time));
    assert!(said[0].starts_with("Waiting for a router"), "{said:?}");
    assert_eq!(rig.clat.deadline(), None);
}

/// However many routers announce themselves, those that are there stay, and there is room again
/// when their time is over.
#[test]
fn no_router_pushes_out_another_next_hop() {
    let mut rig = Rig::new(by_eth0());
    rig.link().routes_v6.clear();
    rig.network_is();
    let actions = rig.advertised_by(1, 0, seconds(100), &[]);
    assert_eq!(forwarded_by(&actions), Some(router(1)));
    for number in 2..=ndp::MAX_OPTIONS as u16 {
        rig.advertised_by(number, -1, seconds(100), &[]);
    }
    assert_eq!(rig.advertised_by(1000, 1, seconds(1800), &[]), []);
    rig.now += seconds(100);
    let actions = rig.advertised_by(1000, 1, seconds(1800), &[]);
    assert_eq!(forwarded_by(&actions), Some(router(1000)));
}

/// One that is named may have been at no network while it had no routes: when it has some, it is
/// searched anew, and once.
#[test]
fn a_named_uplink_that_gets_routes_is_searched_anew() {
    let mut rig = Rig::new(Settings {
        uplink: Some("eth0".to_owned()),
        ..Settings::default()
    });
    let solicits = |actions: &[Action]| actions.contains(&Action::Solicit { link: UPLINK });
    rig.link().routes_v6.clear();
    assert!(solicits(&rig.network_is()));
    rig.advertised(&[(WKP, 1800)]);
    rig.until(rig.now + seconds(30));
    assert!(!solicits(&rig.network_is()));
    rig.link().routes_v6 = vec![default_route(1024)];
    assert!(solicits(&rig.network_is()));
    assert!(!solicits(&rig.network_is()));
}

/// Interfaces are known by index and by name.
#[test]
fn links_are_found() {
    let mut rig = Rig::started();
    rig.network.interfaces.push(interface(3, "", &[]));
    rig.network_is();
    let name = |link: Option<&Interface>| link.map(|one| one.name.clone());
    assert_eq!(name(rig.clat.link(UPLINK)).as_deref(), Some("eth0"));
    assert_eq!(name(rig.clat.link(3)).as_deref(), Some("eth3"));
    assert_eq!(name(rig.clat.link(4)), None);
    let index = |name: &str| rig.clat.link_named(name).map(|one| one.index);
    assert_eq!(
        ["eth0", "eth3", "eth4"].map(index),
        [Some(UPLINK), Some(3), None]
    );
}
