//! Hours of a CLAT, without a clock.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use super::*;
use crate::wire::ndp::Pref64;

const UPLINK: u32 = 2;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A CLAT, and the time.
struct Rig {
    clat: Clat,
    now: Duration,
    network: Network,
}

impl Rig {
    fn new(settings: Settings) -> Self {
        let network = Network {
            links: vec![Link {
                index: UPLINK,
                name: "eth0".to_owned(),
                running: true,
                mtu: 1500,
                addresses: vec![address("2001:db8:6::2")],
                default_v6: Some(1024),
                ..Link::default()
            }],
        };
        Self {
            clat: Clat::new(settings),
            now: seconds(1000),
            network,
        }
    }

    fn started() -> Self {
        let mut rig = Self::new(Settings::default());
        rig.network_is();
        rig
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        self.clat.handle(event, self.now)
    }

    fn network_is(&mut self) -> Vec<Action> {
        let network = self.network.clone();
        self.tell(Event::Network(network))
    }

    fn link(&mut self) -> &mut Link {
        &mut self.network.links[0]
    }

    fn advertised(&mut self, pref64: &[(&str, u64)]) -> Vec<Action> {
        let pref64 = pref64.iter().map(|(prefix, lifetime)| Pref64 {
            prefix: prefix.parse().unwrap(),
            length: 96,
            lifetime: seconds(*lifetime),
        });
        let advertisement = RouterAdvertisement {
            pref64: pref64.collect(),
            ..RouterAdvertisement::default()
        };
        self.tell(Event::Advertisement {
            link: UPLINK,
            advertisement,
        })
    }

    fn resolved(&mut self, addresses: &[&str], ttl: u64) -> Vec<Action> {
        let addresses = addresses.iter().map(|one| one.parse().unwrap()).collect();
        self.tell(Event::Resolved {
            link: UPLINK,
            addresses,
            ttl: seconds(ttl),
        })
    }

    /// Goes from deadline to deadline up to a time, and returns what was done when.
    fn until(&mut self, end: Duration) -> Vec<(Duration, Action)> {
        let mut all = Vec::new();
        while let Some(deadline) = self.clat.deadline(self.now).filter(|at| *at <= end) {
            // A deadline that has passed would be a loop that never waits.
            assert!(deadline >= self.now, "{deadline:?} at {:?}", self.now);
            self.now = deadline;
            let actions = self.tell(Event::Time);
            all.extend(actions.into_iter().map(|action| (deadline, action)));
            assert!(all.len() < 10_000, "it spins");
        }
        self.now = end;
        all
    }
}

fn address(text: &str) -> Address {
    Address {
        address: text.parse().unwrap(),
        length: 64,
        deprecated: false,
        temporary: false,
    }
}

fn setups(actions: &[Action]) -> Vec<&Setup> {
    let setups = actions.iter().filter_map(|action| match action {
        Action::Set(setup) => Some(setup),
        _ => None,
    });
    setups.collect()
}

fn says(actions: &[Action]) -> Vec<String> {
    let state = |action: &Action| match action {
        Action::Say(state) => Some(state.to_string()),
        _ => None,
    };
    actions.iter().filter_map(state).collect()
}

const WKP: &str = "64:ff9b::";
const OTHER: &str = "2001:db8:64::";

/// RA81-09, RFC 4861 section 6.3.7: at once, a second later, and then every 4 s; then it waits for an event. DNS is asked
/// 300 ms after the first, with back-off, and never given up (D50-07).
#[test]
fn routers_are_solicited_and_name_servers_asked() {
    let mut rig = Rig::new(Settings::default());
    let start = rig.now;
    assert_eq!(rig.network_is()[0], Action::Solicit { link: UPLINK });
    let mut queries = Vec::new();
    let mut solicitations = Vec::new();
    while rig.now < start + seconds(1000) {
        let next = rig.clat.deadline(rig.now).unwrap();
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

#[test]
fn an_advertised_prefix_makes_it_active() {
    let mut rig = Rig::started();
    let actions = rig.advertised(&[(WKP, 600)]);
    let expected = Setup {
        uplink: ("eth0".to_owned(), UPLINK),
        mtu: 1500,
        addresses: [[192, 0, 0, 1].into(), [192, 0, 0, 2].into()],
        prefix: prefix::nat64(WKP.parse().unwrap(), 96).unwrap(),
        source: "2001:db8:6::2".parse().unwrap(),
        default_route: true,
    };
    assert_eq!(setups(&actions), [&expected]);
    assert_eq!(
        says(&actions),
        ["IPv4 goes by eth0 and 64:ff9b::/96 (Router Advertisement)"]
    );
    assert_eq!(rig.advertised(&[(WKP, 600)]), [], "nothing new");
    assert_eq!(expected.route_mtu(&Settings::default()), 1472);
    // P72-02: DNS is not asked any more.
    let later = rig.until(seconds(1500));
    assert!(later.is_empty(), "{later:?}");
}

/// A day of advertisements of 16 s, every 5 s, some of them lost: nothing changes (RA81-10).
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

/// RFC 8781 section 4: zero is the end at once; what runs out is solicited, and held for a minute.
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
            .any(|(_, action)| matches!(action, Action::Set(_)))
    );
    let done = rig.until(seconds(1000 + 600 + 60));
    let set = done
        .iter()
        .find(|(_, action)| matches!(action, Action::Set(_)));
    assert_eq!(set.unwrap().0, seconds(1660));
}

/// D50-06: 10 s before the TTL is over; P72-03: what a router says replaces it; D50-07: a renewal without an answer
/// changes nothing, and one that says "none" does.
#[test]
fn a_resolved_prefix_is_renewed() {
    let mut rig = Rig::started();
    rig.until(seconds(1001));
    let actions = rig.resolved(&["2001:db8:64::192.0.0.170"], 300);
    assert!(says(&actions)[0].ends_with("(DNS64)"));
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

/// CL-01, CL-02: the start is never delayed; native IPv4 must have stood for a while, and its end counts at once.
#[test]
fn it_steps_aside_for_native_ipv4() {
    let mut rig = Rig::started();
    rig.link().default_v4 = true;
    rig.network_is();
    let actions = rig.advertised(&[(OTHER, 6000)]);
    assert!(setups(&actions)[0].default_route);
    assert_eq!(rig.clat.deadline(rig.now), Some(seconds(1010)));
    let done = rig.until(seconds(1010));
    assert!(matches!(&done[0].1, Action::Set(setup) if !setup.default_route));
    let aside = Action::Say(State::SteppingAside("eth0".to_owned()));
    assert_eq!(done[1].1, aside);
    rig.link().default_v4 = false;
    let actions = rig.network_is();
    assert!(setups(&actions)[0].default_route);
    // It comes and goes within the time: nothing changes.
    for _ in 0..5 {
        rig.link().default_v4 = true;
        assert_eq!(rig.network_is(), []);
        assert_eq!(rig.until(rig.now + seconds(9)), []);
        rig.link().default_v4 = false;
        assert_eq!(rig.network_is(), []);
    }
    // A tunnel is none.
    rig.link().default_v4 = true;
    rig.link().is_tunnel = true;
    assert_eq!(rig.network_is(), []);
    assert_eq!(rig.until(rig.now + seconds(60)), []);
    // Nor is anything, if so configured.
    let mut rig = Rig::new(Settings {
        steps_aside: false,
        ..Settings::default()
    });
    rig.link().default_v4 = true;
    rig.network_is();
    rig.advertised(&[(OTHER, 6000)]);
    assert_eq!(rig.until(rig.now + seconds(60)), []);
}

/// CL-21: the link goes, and what was learnt by it (D50-08); it comes, and is asked again. What was set up stays.
#[test]
fn the_link_flaps() {
    let mut rig = Rig::started();
    rig.advertised(&[(OTHER, 600)]);
    rig.link().running = false;
    let actions = rig.network_is();
    assert!(!setups(&actions)[0].default_route);
    assert_eq!(
        says(&actions),
        ["Waiting for a network: there is no IPv6 default route"]
    );
    rig.link().running = true;
    let actions = rig.network_is();
    assert_eq!(actions[0], Action::Solicit { link: UPLINK });
    assert!(says(&actions)[0].starts_with("Waiting for a NAT64 prefix"));
    assert!(setups(&rig.advertised(&[(WKP, 600)]))[0].default_route);
}

/// A router that contradicts itself all the time changes neither routes nor log all the time; in the end it is as it says.
#[test]
fn contradictions_are_damped() {
    let mut rig = Rig::started();
    let start = rig.now;
    let mut changes = 0;
    for number in 0..1000_u64 {
        rig.now = start + Duration::from_millis(10 * number);
        let prefix = if number % 2 == 0 { WKP } else { OTHER };
        let other = if number % 2 == 0 { OTHER } else { WKP };
        changes += says(&rig.advertised(&[(prefix, 600), (other, 0)])).len();
    }
    assert!((9..=12).contains(&changes), "{changes}");
    rig.until(rig.now + seconds(6));
    let setup = rig.clat.setup.as_ref().unwrap();
    assert_eq!(setup.prefix.prefix().to_string(), "2001:db8:64::/96");
    // Later there is no hurry.
    rig.until(rig.now + seconds(60));
    assert_eq!(says(&rig.advertised(&[(OTHER, 0)])).len(), 1);
}

/// CL-11: the next free addresses; they stay; and where there are none it says so.
#[test]
fn addresses_are_those_that_nobody_has() {
    let other = |addresses: &[u8]| Link {
        index: 9,
        name: "other".to_owned(),
        clat_addresses: addresses
            .iter()
            .map(|last| [192, 0, 0, *last].into())
            .collect(),
        ..Link::default()
    };
    for (taken, expected) in [
        (&[][..], [1, 2]),
        (&[1], [2, 3]),
        (&[2], [1, 3]),
        (&[1, 2, 3], [4, 5]),
    ] {
        let mut rig = Rig::new(Settings::default());
        rig.network.links.push(other(taken));
        rig.network_is();
        let actions = rig.advertised(&[(OTHER, 600)]);
        let expected = expected.map(|last| Ipv4Addr::new(192, 0, 0, last));
        assert_eq!(setups(&actions)[0].addresses, expected);
        rig.network.links[1] = other(&[]);
        assert_eq!(rig.network_is(), [], "once chosen they stay");
    }
    let mut rig = Rig::new(Settings::default());
    rig.network.links.push(other(&[1, 2, 3, 4, 5]));
    rig.network_is();
    let actions = rig.advertised(&[(OTHER, 600)]);
    assert!(setups(&actions).is_empty());
    assert!(says(&actions)[0].contains("every address of 192.0.0.0/29 is in use"));
}

#[test]
fn another_clat_is_left_to_it() {
    for name in ["eth0", "cl-eth0"] {
        let mut rig = Rig::started();
        if name == "eth0" {
            rig.link().clat_addresses = vec![[192, 0, 0, 1].into()];
        } else {
            rig.network.links.push(Link {
                index: 9,
                name: name.to_owned(),
                clat_addresses: vec![[192, 0, 0, 1].into()],
                ..Link::default()
            });
        }
        rig.network_is();
        let actions = rig.advertised(&[(OTHER, 600)]);
        assert!(setups(&actions).is_empty());
        let said = format!("Stepping aside: another CLAT is at work on {name}");
        assert!(says(&actions)[0].starts_with(&said));
    }
}

/// CL-05, RFC 6724 rules 3, 6, 7 and 8.
#[test]
fn the_best_address_is_the_source() {
    let pick = |addresses: &[Address], prefix: &str| {
        let link = Link {
            addresses: addresses.to_vec(),
            ..Link::default()
        };
        let prefix = prefix::nat64(prefix.parse().unwrap(), 96).unwrap();
        source(&link, prefix).map(|address| address.to_string())
    };
    let global = address("2001:db8:6::2");
    let local = address("fd00::2");
    let temporary = Address {
        temporary: true,
        ..address("2001:db8:64::3")
    };
    let old = Address {
        deprecated: true,
        ..address("2001:db8:64::4")
    };
    let near = address("2001:db8:64::5");
    let all = [local, temporary, old, global, near];
    assert_eq!(pick(&all, OTHER).unwrap(), "2001:db8:64::5");
    assert_eq!(pick(&all[..4], OTHER).unwrap(), "2001:db8:6::2");
    assert_eq!(pick(&all[..3], OTHER).unwrap(), "2001:db8:64::3");
    assert_eq!(pick(&all, "fd00:64::").unwrap(), "fd00::2");
    assert_eq!(pick(&[], OTHER), None);
}

/// CL-13: of the link, of its routers, at least what IPv6 needs.
#[test]
fn the_mtu_is_that_of_the_uplink() {
    let mut rig = Rig::started();
    rig.link().mtu = 9000;
    rig.network_is();
    let actions = rig.advertised(&[(OTHER, 600)]);
    assert_eq!(setups(&actions)[0].mtu, 9000);
    for (said, expected) in [(1492, 1492), (100, 1280), (65536, 9000)] {
        let advertisement = RouterAdvertisement {
            mtu: Some(said),
            ..RouterAdvertisement::default()
        };
        let actions = rig.tell(Event::Advertisement {
            link: UPLINK,
            advertisement,
        });
        assert_eq!(setups(&actions)[0].mtu, expected);
    }
}

/// `plat-prefix`, `plat-fallback-prefix`, `plat-dev`, `v4-defaultroute-enable`.
#[test]
fn settings_count() {
    let configured = prefix::nat64(WKP.parse().unwrap(), 96);
    let mut rig = Rig::new(Settings {
        prefix: configured,
        default_route: false,
        ..Settings::default()
    });
    let actions = rig.network_is();
    assert!(!setups(&actions)[0].default_route);
    assert!(says(&actions)[0].ends_with("(plat-prefix)"));
    assert_eq!(rig.advertised(&[(OTHER, 600)]), []);
    assert_eq!(
        rig.clat.deadline(rig.now).filter(|at| *at < seconds(1500)),
        None
    );

    let mut rig = Rig::new(Settings {
        fallback: configured,
        ..Settings::default()
    });
    assert!(says(&rig.network_is())[0].ends_with("(plat-fallback-prefix)"));
    assert!(says(&rig.advertised(&[(OTHER, 600)]))[0].ends_with("(Router Advertisement)"));

    let mut rig = Rig::new(Settings {
        uplink: Some("eth1".to_owned()),
        ..Settings::default()
    });
    assert_eq!(
        says(&rig.network_is()),
        ["Waiting for a network: plat-dev has no IPv6 default route"]
    );
}

/// RA81-03: what no NAT64 can have, and our own networks, are nobody's NAT64.
#[test]
fn impossible_prefixes_are_not_taken() {
    let mut rig = Rig::started();
    for prefix in ["ff0e::", "fe80::", "::", "2001:db8:6::"] {
        assert_eq!(rig.advertised(&[(prefix, 600)]), [], "{prefix}");
    }
}
