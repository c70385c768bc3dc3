//! Discovery of the NAT64 prefix, and what keeps or ends it.

use super::*;

/// RFC 4861 section 6.3.7: solicitations at once, a second later, and 4 s later; then it waits for
/// an event. DNS is asked 300 ms after the first, with back-off, for ever.
#[test]
fn routers_are_solicited_and_name_servers_asked() {
    let mut rig = Rig::new(Settings::default());
    let start = rig.now;
    assert_eq!(rig.network_is()[0], Action::Solicit { link: UPLINK });
    let mut queries = Vec::new();
    let mut solicitations = Vec::new();
    while rig.now < start + seconds(1000) {
        let next = rig.clat.deadline().unwrap();
        for (at, action) in rig.until(next) {
            match action {
                Action::Solicit { .. } => solicitations.push((at - start).as_millis()),
                Action::Query { .. } => {
                    queries.push((at - start).as_millis());
                    rig.tell(Event::Unresolved { link: UPLINK });
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(solicitations, [1000, 5000]);
    assert_eq!(queries[..5], [300, 1300, 3300, 7300, 15300]);
    assert!(queries.len() > 15, "{queries:?}");
    assert!(queries.windows(2).all(|two| two[1] - two[0] <= 60_000));
}

/// A day of advertisements with a lifetime of 16 s, every 5 s, some of them lost: nothing changes.
#[test]
fn short_lifetimes_do_not_flap() {
    let mut rig = Rig::started();
    rig.advertised(&[(OTHER, 16)]);
    for round in 1..17_280_u64 {
        let done = rig.until(seconds(1000 + 5 * round));
        let all_solicit = done
            .iter()
            .all(|(_, action)| matches!(action, Action::Solicit { .. } | Action::Query { .. }));
        assert!(all_solicit, "{done:?}");
        if round % 7 < 4 {
            assert_eq!(rig.advertised(&[(OTHER, 16)]), []);
        }
    }
}

/// RFC 8781 section 4: a lifetime of zero ends it at once. A prefix that expires is solicited, and
/// held for a minute.
#[test]
fn a_prefix_ends() {
    let mut rig = Rig::started();
    rig.advertised(&[(OTHER, 600)]);
    let actions = rig.advertised(&[(OTHER, 0)]);
    assert!(!setups(&actions)[0].default_route);
    assert!(says(&actions)[0].starts_with("Waiting for a NAT64 prefix on eth0"));

    let actions = rig.advertised(&[(OTHER, 600)]);
    assert!(setups(&actions)[0].default_route);
    let done = rig.until(seconds(1000 + 600 + 59));
    let first = done.first().unwrap();
    assert_eq!(*first, (seconds(1595), Action::Solicit { link: UPLINK }));
    assert!(
        !done
            .iter()
            .any(|(_, action)| matches!(action, Action::SetUp(_)))
    );
    let done = rig.until(seconds(1000 + 600 + 60));
    let set = done
        .iter()
        .find(|(_, action)| matches!(action, Action::SetUp(_)));
    assert_eq!(set.unwrap().0, seconds(1660));
}

/// RFC 4191 section 2.2: routers of different preference, which announce and withdraw the same
/// prefixes in turns, do not flap anything: each speaks for itself.
#[test]
fn routers_that_differ_do_not_flap() {
    let mut rig = Rig::started();
    let long = seconds(1800);
    rig.advertised_by(1, 1, long, &[(WKP, 600)]);
    for _ in 0..100 {
        rig.now += Duration::from_millis(300);
        assert_eq!(
            rig.advertised_by(2, -1, long, &[(WKP, 600), (OTHER, 600)]),
            []
        );
        assert_eq!(rig.advertised_by(3, 0, long, &[(OTHER, 600)]), []);
        assert_eq!(rig.advertised_by(2, -1, long, &[(WKP, 0), (OTHER, 0)]), []);
        assert_eq!(rig.advertised_by(1, 1, long, &[(WKP, 600)]), []);
    }
    // The preferred one goes: the other one's is used at once, and until it is back.
    let actions = rig.advertised_by(1, 1, Duration::ZERO, &[(WKP, 600)]);
    assert!(says(&actions)[0].contains(OTHER), "{actions:?}");
    assert_eq!(rig.advertised_by(1, 1, Duration::ZERO, &[(WKP, 600)]), []);
    assert!(says(&rig.advertised_by(1, 1, long, &[(WKP, 600)]))[0].contains(WKP));
}

/// When the last prefix is withdrawn, routers and name servers are asked at once, but not as often
/// as a router can withdraw one (RFC 4861 section 10: RTR_SOLICITATION_INTERVAL).
#[test]
fn the_last_prefix_that_ends_is_asked_for() {
    let mut rig = Rig::started();
    rig.until(seconds(1001));
    rig.tell(Event::Unresolved { link: UPLINK });
    rig.advertised_by(1, 0, seconds(1800), &[(WKP, 600)]);
    rig.advertised_by(2, 0, seconds(1800), &[(WKP, 600)]);
    rig.until(seconds(1100));
    let asks = |actions: &[Action]| {
        let asks = |kind: fn(&Action) -> bool| actions.iter().any(kind);
        (
            asks(|one| matches!(one, Action::Solicit { .. })),
            asks(|one| matches!(one, Action::Query { .. })),
        )
    };
    let actions = rig.advertised_by(1, 0, seconds(1800), &[(WKP, 0)]);
    assert_eq!(actions, []);
    let actions = rig.advertised_by(2, 0, seconds(1800), &[(WKP, 0)]);
    assert_eq!(asks(&actions), (true, true));
    let mut solicitations = 0;
    for _ in 0..300 {
        rig.now += Duration::from_millis(100);
        rig.advertised(&[(WKP, 600)]);
        solicitations += usize::from(asks(&rig.advertised(&[(WKP, 0)])).0);
    }
    assert!((1..=7).contains(&solicitations), "{solicitations} in 30 s");
}

/// RFC 7050 section 3: renewed 10 s before the TTL is over. RFC 9872 section 3.1: a router's prefix
/// replaces it. A renewal without an answer changes nothing; one without addresses does.
#[test]
fn a_resolved_prefix_is_renewed() {
    let mut rig = Rig::started();
    rig.until(seconds(1001));
    let actions = rig.resolved(&["2001:db8:64::192.0.0.170"], 300);
    assert!(says(&actions)[0].contains("(DNS64)"));
    let is_query = |(_, action): &(_, Action)| matches!(action, Action::Query { .. });
    let done = rig.until(seconds(1001 + 290));
    let query = done.iter().find(|one| is_query(one)).unwrap();
    assert_eq!(query.0, seconds(1291));
    assert_eq!(rig.tell(Event::Unresolved { link: UPLINK }), []);
    assert!(rig.until(seconds(5000)).iter().any(is_query));
    // TTLs below 60 s count as 60.
    let mut rig = Rig::started();
    rig.until(seconds(1001));
    rig.resolved(&["2001:db8:64::192.0.0.170"], 1);
    let done = rig.until(seconds(1100));
    assert_eq!(
        done.iter().find(|one| is_query(one)).unwrap().0,
        seconds(1051)
    );
    let actions = rig.advertised(&[(WKP, 600)]);
    assert_eq!(
        setups(&actions)[0].prefix.prefix().to_string(),
        "64:ff9b::/96"
    );
    rig.advertised(&[(WKP, 0)]);
    let actions = rig.resolved(&[], 60);
    assert!(says(&actions)[0].starts_with("Waiting for a NAT64 prefix"));
}

/// The name servers of a VPN, which resolv.conf has for the time being, end nothing that those of
/// the network have said, nor replace it. What they said themselves they may end.
#[test]
fn only_own_name_servers_end_a_prefix_of_own_ones() {
    const OWN: &[&str] = &["2001:db8:64::192.0.0.170"];
    const VPNS: &[&str] = &["2001:db8:46::192.0.0.170"];
    let waits = |actions: Vec<Action>| says(&actions)[0].starts_with("Waiting for a NAT64 prefix");
    let mut rig = Rig::started();
    rig.until(seconds(1001));
    assert!(says(&rig.resolved_by(false, VPNS, 300))[0].contains("46::/96"));
    assert!(waits(rig.resolved_by(false, &[], 60)));
    assert!(says(&rig.resolved_by(false, VPNS, 300))[0].contains("46::/96"));
    assert!(says(&rig.resolved_by(true, OWN, 300))[0].contains("64::/96"));
    for answer in [VPNS, &[], VPNS] {
        assert_eq!(rig.resolved_by(false, answer, 300), []);
        rig.now += seconds(60);
        let actions = rig.tell(Event::Time);
        let asks = actions
            .iter()
            .any(|one| matches!(one, Action::Query { .. }));
        assert!(asks, "own ones may be back: {actions:?}");
    }
    assert!(waits(rig.resolved_by(true, &[], 60)));
    assert!(says(&rig.resolved_by(false, VPNS, 300))[0].contains("46::/96"));
    rig.resolved_by(true, OWN, 300);
    rig.link().running = false;
    rig.network_is();
    rig.link().running = true;
    rig.network_is();
    assert!(says(&rig.resolved_by(false, VPNS, 300))[0].contains("46::/96"));
}

/// Name servers that a router announces later than resolv.conf was asked are asked at once, and not
/// only when the lifetime of that answer is over.
#[test]
fn own_name_servers_that_come_late_are_asked() {
    let mut rig = Rig::started();
    rig.until(seconds(1001));
    rig.resolved_by(false, &["2001:db8:46::192.0.0.170"], 6000);
    let mut announced = || {
        rig.tell(Event::Advertisement {
            link: UPLINK,
            router: ROUTER,
            advertisement: RouterAdvertisement {
                dns_servers: vec![("2001:db8::53".parse().unwrap(), seconds(600))],
                ..RouterAdvertisement::default()
            },
        })
    };
    let own = Servers::Network(vec!["2001:db8::53".parse().unwrap()]);
    let query = Action::Query {
        link: UPLINK,
        servers: own,
    };
    assert_eq!(announced(), [query]);
    assert_eq!(announced(), [], "once");
    let actions = rig.resolved_by(true, &["2001:db8:64::192.0.0.170"], 600);
    assert!(says(&actions)[0].contains("64::/96"));
}

/// No deadline is beyond all time, also while a query is pending and the TTL is over: the daemon
/// adds it to its clock.
#[test]
fn a_renewal_without_an_answer_has_no_endless_deadline() {
    let mut rig = Rig::started();
    rig.until(seconds(1001));
    rig.resolved(&["2001:db8:64::192.0.0.170"], 60);
    let mut is_pending = false;
    for _ in 0..20 {
        let Some(deadline) = rig.clat.deadline() else {
            assert!(is_pending);
            rig.now += seconds(2);
            is_pending = false;
            rig.tell(Event::Unresolved { link: UPLINK });
            continue;
        };
        assert!(deadline < rig.now + seconds(3600), "{deadline:?}");
        rig.now = rig.now.max(deadline);
        let actions = rig.tell(Event::Time);
        is_pending |= actions
            .iter()
            .any(|one| matches!(one, Action::Query { .. }));
    }
    assert!(rig.now > seconds(1061), "{:?}", rig.now);
}

/// RFC 6052 section 2.2: what no NAT64 can have, and networks of this host, are ignored.
#[test]
fn impossible_prefixes_are_ignored() {
    let mut rig = Rig::started();
    for prefix in ["ff0e::", "fe80::", "::", "2001:db8:6::"] {
        let actions = rig.advertised(&[(prefix, 600)]);
        assert!(matches!(actions[..], [Action::Ignore(_)]), "{prefix}");
        assert_eq!(rig.advertised(&[(prefix, 600)]), [], "logged once");
    }
    let made_up = (0..100).map(|number| rig.advertised(&[(&format!("ff0e:{number:x}::"), 600)]));
    let logged = 4 + made_up.flatten().count();
    assert_eq!(logged, ndp::MAX_OPTIONS);
    assert_eq!(rig.advertised(&[("ff0f::", 600)]), [], "no more are logged");
    let actions = rig.resolved(&["2001:db8::1"], 60);
    assert_eq!(actions, [], "nor of a name server");
    let mut rig = Rig::started();
    let actions = rig.resolved(&["2001:db8::1"], 60);
    let Action::Ignore(ignored) = &actions[0] else {
        panic!("{actions:?}");
    };
    assert_eq!(
        ignored.to_string(),
        "Ignoring address 2001:db8::1 of ipv4only.arpa on eth0: no NAT64 prefix is in it"
    );
}

const SECOND: u32 = 3;

impl Rig {
    /// A CLAT with a second uplink, whose default route has this metric.
    fn with_second_uplink(metric: u32, settings: Settings) -> (Self, Vec<Action>) {
        let mut rig = Self::new(settings);
        let mut second = rig.network.interfaces[0].clone();
        (second.index, second.name) = (SECOND, "eth1".to_owned());
        second.addresses = vec![address("2001:db8:7::2")];
        second.routes_v6 = vec![default_route(metric)];
        rig.network.interfaces.push(second);
        let actions = rig.network_is();
        (rig, actions)
    }

    fn advertised_on_second(&mut self, lifetime: u64) -> Vec<Action> {
        let prefix = OTHER.parse().unwrap();
        self.tell(Event::Advertisement {
            link: SECOND,
            router: ROUTER,
            advertisement: RouterAdvertisement {
                router_lifetime: seconds(1800),
                pref64: vec![Pref64 {
                    prefix,
                    length: 96,
                    lifetime: seconds(lifetime),
                }],
                ..RouterAdvertisement::default()
            },
        })
    }
}

/// The uplink of the best route is searched first. If that was in vain, one that has a prefix is
/// used, until a better one has one; routers are solicited on each.
#[test]
fn an_uplink_that_has_a_prefix_is_used() {
    let (mut rig, actions) = Rig::with_second_uplink(2000, Settings::default());
    for link in [UPLINK, SECOND] {
        assert!(actions.contains(&Action::Solicit { link }), "{actions:?}");
    }
    assert_eq!(
        rig.advertised_on_second(600),
        [],
        "the first one is still searched"
    );
    rig.until(seconds(1001));
    let actions = rig.tell(Event::Unresolved { link: UPLINK });
    assert_eq!(setups(&actions)[0].uplink.index, SECOND);
    assert!(says(&actions)[0].starts_with("IPv4 via eth1"));
    // It stays, also when the machine was suspended.
    let done = rig.until(seconds(1100));
    assert!(
        done.iter().all(|(_, one)| !matches!(one, Action::SetUp(_))),
        "{done:?}"
    );
    let actions = rig.tell(Event::Resumed);
    assert!(actions.contains(&Action::Solicit { link: UPLINK }));
    assert!(setups(&actions).is_empty());
    let actions = rig.advertised(&[(WKP, 600)]);
    assert_eq!(setups(&actions)[0].uplink.index, UPLINK);
    let actions = rig.advertised(&[(WKP, 0)]);
    assert_eq!(
        setups(&actions)[0].uplink.index,
        UPLINK,
        "it is searched again"
    );
    rig.until(rig.now);
    let actions = rig.tell(Event::Unresolved { link: UPLINK });
    assert_eq!(setups(&actions)[0].uplink.index, SECOND);
    // The prefix ends: the better one is searched once more.
    let actions = rig.advertised_on_second(0);
    assert!(
        says(&actions)[0].ends_with("no answer from a DNS64"),
        "{actions:?}"
    );
    assert!(actions.contains(&Action::Solicit { link: UPLINK }));
}

/// An uplink that was searched in vain may be at another network when it comes back: it is searched
/// first, as at the start.
#[test]
fn an_uplink_that_comes_back_is_searched_first() {
    let (mut rig, _) = Rig::with_second_uplink(2000, Settings::default());
    rig.until(seconds(1001));
    rig.tell(Event::Unresolved { link: UPLINK });
    rig.link().running = false;
    rig.network_is();
    rig.advertised_on_second(600);
    rig.link().running = true;
    let actions = rig.network_is();
    assert!(says(&actions)[0].starts_with("Waiting for a NAT64 prefix on eth0"));
    rig.until(rig.now + seconds(1));
    let actions = rig.tell(Event::Unresolved { link: UPLINK });
    assert!(says(&actions)[0].starts_with("IPv4 via eth1"));
}

/// Among uplinks of the same metric the one in use stays; `plat-dev` and `plat-prefix` decide by
/// themselves.
#[test]
fn the_uplink_in_use_stays_among_equals() {
    let in_vain = |rig: &mut Rig| {
        rig.until(seconds(1001));
        rig.advertised_on_second(60_000);
        rig.tell(Event::Unresolved { link: UPLINK })
    };
    let (mut rig, _) = Rig::with_second_uplink(1024, Settings::default());
    assert_eq!(setups(&in_vain(&mut rig))[0].uplink.index, SECOND);
    assert_eq!(rig.advertised(&[(WKP, 60_000)]), []);
    assert_eq!(rig.network_is(), []);
    let (mut rig, _) = Rig::with_second_uplink(
        2000,
        Settings {
            uplink: Some("eth0".to_owned()),
            ..Settings::default()
        },
    );
    assert!(setups(&in_vain(&mut rig)).is_empty());
    let (_, actions) = Rig::with_second_uplink(
        2000,
        Settings {
            prefix: prefix::nat64(WKP.parse().unwrap(), 96),
            ..Settings::default()
        },
    );
    assert_eq!(setups(&actions)[0].uplink.index, UPLINK);
}

/// A prefix that was used before it became a network of this host.
#[test]
fn a_prefix_that_becomes_ours_is_dropped() {
    let mut rig = Rig::started();
    assert_eq!(setups(&rig.advertised(&[(OTHER, 600)])).len(), 1);
    rig.link().addresses.push(address("2001:db8:64::1"));
    let actions = rig.network_is();
    assert!(matches!(actions[0], Action::Ignore(_)), "{actions:?}");
    assert!(!setups(&actions)[0].default_route);
}

/// A network of this host is no NAT64 prefix, also by DNS.
#[test]
fn resolved_networks_of_ours_are_ignored() {
    let mut rig = Rig::started();
    let actions = rig.resolved(&["2001:db8:6::192.0.0.170"], 600);
    assert!(setups(&actions).is_empty(), "{actions:?}");
}

/// With a configured prefix and the host's address there is nothing to ask, so no deadline.
#[test]
fn nothing_to_ask_is_nothing_to_wake_up_for() {
    let mut rig = Rig::new(Settings {
        prefix: prefix::nat64(OTHER.parse().unwrap(), 96),
        ..Settings::default()
    });
    rig.network_is();
    assert_eq!(rig.clat.deadline(), None);
}

/// Routers and name servers are asked at once after the machine was suspended.
#[test]
fn a_machine_that_was_suspended_asks_again() {
    let mut rig = Rig::started();
    rig.until(seconds(1001));
    rig.resolved(&["2001:db8:64::192.0.0.170"], 6000);
    rig.until(seconds(1100));
    let actions = rig.tell(Event::Resumed);
    assert_eq!(actions[0], Action::Solicit { link: UPLINK });
    assert!(matches!(actions[1], Action::Query { .. }));
}

/// The networks in which the host is stay known, however many others routers announce.
#[test]
fn the_hosts_networks_are_known_among_many() {
    let mut rig = Rig::of(Settings::default());
    rig.network_is();
    rig.tell(announcement("2001:db8:6::"));
    for number in 0x100..0x200 {
        rig.tell(announcement(&format!("2001:db8:{number:x}::")));
    }
    let network = |text: &str| (UPLINK, text.parse::<Ipv6Addr>().unwrap());
    assert_eq!(rig.clat.discovery.networks().len(), ndp::MAX_OPTIONS);
    assert!(
        rig.clat
            .discovery
            .networks()
            .contains(&network("2001:db8:6::"))
    );
    assert!(
        rig.clat
            .discovery
            .networks()
            .contains(&network("2001:db8:1ff::"))
    );
    // One that has ended is not for new addresses.
    let mut ended = announcement("2001:db8:6::");
    if let Event::Advertisement { advertisement, .. } = &mut ended {
        advertisement.prefixes[0].valid = Duration::ZERO;
    }
    rig.tell(ended);
    assert!(
        !rig.clat
            .discovery
            .networks()
            .contains(&network("2001:db8:6::"))
    );
}

/// An uplink that was searched in vain and lost its routes for a while may be at another network
/// when it has some: it is searched first, as at the start.
#[test]
fn an_uplink_that_has_routes_again_is_searched_first() {
    let (mut rig, _) = Rig::with_second_uplink(2000, Settings::default());
    rig.advertised_on_second(60_000);
    rig.until(seconds(1001));
    let actions = rig.tell(Event::Unresolved { link: UPLINK });
    assert!(says(&actions)[0].starts_with("IPv4 via eth1"));
    let routes = std::mem::take(&mut rig.link().routes_v6);
    assert_eq!(rig.network_is(), []);
    rig.link().routes_v6 = routes;
    let actions = rig.network_is();
    assert!(actions.contains(&Action::Solicit { link: UPLINK }));
    assert!(says(&actions)[0].starts_with("Waiting for a NAT64 prefix on eth0"));
}

/// Of two prefixes with different lifetimes the first may end: routers are solicited before the
/// last one does.
#[test]
fn the_last_prefix_to_expire_is_solicited() {
    let mut rig = Rig::started();
    rig.advertised_by(1, 0, seconds(60_000), &[(WKP, 600)]);
    rig.advertised_by(2, 0, seconds(60_000), &[(OTHER, 300)]);
    let done = rig.until(seconds(1599));
    let asks = |(_, action): &&(Duration, Action)| matches!(action, Action::Solicit { .. });
    let times: Vec<_> = done.iter().filter(asks).map(|(at, _)| *at).collect();
    assert_eq!(times, [595, 596].map(|at| seconds(1000 + at)));
}

/// A prefix by DNS that is a network of ours now: what other name servers say counts again.
#[test]
fn own_name_servers_that_gave_a_network_of_ours_count_no_more() {
    let mut rig = Rig::started();
    rig.until(seconds(1001));
    rig.resolved_by(true, &["2001:db8:64::192.0.0.170"], 600);
    rig.link().addresses.push(address("2001:db8:64::1"));
    let actions = rig.network_is();
    assert!(matches!(actions[0], Action::Ignore(_)), "{actions:?}");
    let actions = rig.resolved_by(false, &["2001:db8:46::192.0.0.170"], 600);
    assert!(says(&actions)[0].contains("46::/96"), "{actions:?}");
}
