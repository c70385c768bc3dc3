//! Hours of a CLAT, without a clock.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use super::discovery::PATIENCE;
use super::*;
use crate::wire::ndp::{self, Pref64, PrefixInformation, RouterAdvertisement};

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
    /// One that uses the host's address.
    fn new(settings: Settings) -> Self {
        Self::of(Settings {
            source: Source::Shared,
            ..settings
        })
    }

    fn of(settings: Settings) -> Self {
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
        tentative: false,
        duplicate: false,
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
        dedicated: false,
        on_link: true,
        default_route: true,
        others: Vec::new(),
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

/// CL-02: connections that were open go on until they say nothing for 120 s, or for 900 s at most; then nothing is left of
/// it. When native IPv4 goes, it is back at once.
#[test]
fn it_rests_when_no_connection_is_left() {
    let aside = |rig: &mut Rig| {
        rig.link().default_v4 = true;
        rig.network_is();
        rig.until(rig.now + seconds(10));
        rig.now
    };
    let rests = |done: &[(Duration, Action)]| {
        let rests = done.iter().filter(|(_, one)| *one == Action::Rest);
        rests.map(|(at, _)| *at).collect::<Vec<_>>()
    };
    let mut rig = Rig::started();
    rig.advertised(&[(OTHER, 6000)]);
    let start = aside(&mut rig);
    let done = rig.until(start + seconds(5000));
    assert_eq!(rests(&done), [start + QUIET]);
    rig.link().default_v4 = false;
    let actions = rig.network_is();
    assert!(setups(&actions)[0].default_route);

    // A connection that says something each minute.
    let start = aside(&mut rig);
    let mut done = Vec::new();
    for minute in 1..40 {
        rig.clat.translated(minute);
        done.extend(rig.until(start + seconds(60 * minute)));
    }
    assert_eq!(rests(&done), [start + LONGEST_ASIDE]);
    assert!(setups(&rig.advertised(&[(WKP, 6000)])).is_empty());
    rig.link().default_v4 = false;
    assert!(setups(&rig.network_is())[0].default_route);

    // Nothing else is to be known of the network for it.
    let start = aside(&mut rig);
    rig.link().default_v6 = None;
    rig.network_is();
    assert_eq!(rests(&rig.until(start + seconds(5000))), [start + QUIET]);
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
    assert!((19..=22).contains(&changes), "{changes}");
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
        (&[1], [3, 4]),
        (&[2], [3, 4]),
        (&[1, 4], [5, 6]),
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
    rig.network.links.push(other(&[1, 4, 5]));
    rig.network_is();
    let actions = rig.advertised(&[(OTHER, 600)]);
    assert!(setups(&actions).is_empty());
    assert!(says(&actions)[0].contains("no two addresses of 192.0.0.0/29 are left"));
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

/// A Router Advertisement with a network, and a NAT64.
fn announcement(network: &str) -> Event {
    Event::Advertisement {
        link: UPLINK,
        advertisement: RouterAdvertisement {
            prefixes: vec![PrefixInformation {
                prefix: network.parse().unwrap(),
                length: 64,
                autonomous: true,
                valid: seconds(7200),
                preferred: seconds(3600),
            }],
            pref64: vec![Pref64 {
                prefix: OTHER.parse().unwrap(),
                length: 96,
                lifetime: seconds(60_000),
            }],
            ..RouterAdvertisement::default()
        },
    }
}

fn trial(actions: &[Action]) -> Option<Option<Ipv6Addr>> {
    actions.iter().find_map(|action| match action {
        Action::Try(trial) => Some(trial.as_ref().map(|trial| trial.address)),
        _ => None,
    })
}

impl Rig {
    /// The address that is tried is on the uplink, and no other host has it.
    fn is_unique(&mut self, ours: Ipv6Addr) -> Vec<Action> {
        let mut there = address(&ours.to_string());
        (there.deprecated, there.length) = (true, 128);
        self.link().addresses.push(there);
        self.network_is()
    }
}

/// CL-03, CL-07: an address in the network that a router announces, which is first on the link to be checked; then it is
/// the source, and nothing but the end of its network changes that.
#[test]
fn an_address_of_its_own_is_the_source() {
    let mut rig = Rig::of(Settings::default());
    rig.network_is();
    let actions = rig.tell(announcement("2001:db8:6::"));
    let ours = trial(&actions).unwrap().unwrap();
    assert_eq!(ours.segments()[..4], [0x2001, 0xdb8, 6, 0]);
    assert_eq!(
        says(&actions),
        [format!("Checking whether {ours} can be used on eth0")]
    );
    assert!(!rig.clat.probes());
    let actions = rig.is_unique(ours);
    let probe = |from: Ipv6Addr| Action::Probe {
        link: UPLINK,
        from,
        to: "2001:db8:64::192.0.0.170".parse().unwrap(),
    };
    let host = "2001:db8:6::2".parse().unwrap();
    assert_eq!(actions, [probe(host)]);
    assert!(rig.clat.probes());
    assert_eq!(rig.tell(Event::Answered { from: host }), [probe(ours)]);
    assert!(!rig.clat.answers_for(UPLINK, ours));
    let actions = rig.tell(Event::Answered { from: ours });
    assert_eq!(trial(&actions), Some(None), "off the link again");
    let setup = setups(&actions)[0].clone();
    assert!(setup.dedicated && setup.source == ours && setup.default_route && setup.on_link);
    assert!(rig.clat.answers_for(UPLINK, ours));
    assert!(!rig.clat.answers_for(UPLINK, host));
    assert!(!rig.clat.answers_for(9, ours));
    rig.link().addresses.pop();
    assert_eq!(rig.network_is(), []);
    assert_eq!(rig.tell(announcement("2001:db8:6::")), []);
    let done = rig.until(rig.now + seconds(600));
    assert!(done.is_empty(), "{done:?}");

    // Renumbered: the host has an address in another network, and the old one is not for new connections any more. What
    // there was serves until the new one is checked.
    rig.tell(announcement("2001:db8:7::"));
    rig.link().addresses.push(address("2001:db8:7::2"));
    assert_eq!(rig.network_is(), []);
    rig.link().addresses[0].deprecated = true;
    let actions = rig.network_is();
    let other = trial(&actions).unwrap().unwrap();
    assert_eq!(other.segments()[..4], [0x2001, 0xdb8, 7, 0]);
    assert!(setups(&actions).is_empty() && says(&actions).is_empty());
    assert!(rig.clat.answers_for(UPLINK, ours));

    // The link flaps: it is checked again, and is the same.
    rig.is_unique(other);
    let actions = rig.tell(Event::Answered { from: other });
    assert_eq!(setups(&actions)[0].source, other);
    assert!(setups(&actions)[0].default_route);
    rig.link().running = false;
    assert!(!setups(&rig.network_is())[0].on_link);
    rig.link().addresses.pop();
    rig.link().running = true;
    rig.network_is();
    let actions = rig.tell(announcement("2001:db8:7::"));
    assert_eq!(trial(&actions), Some(Some(other)));
}

/// CL-10: without a router that announces a /64 in which the host has an address, its own address is used: after a while,
/// and said once.
#[test]
fn without_a_network_for_it_the_hosts_address_is_the_source() {
    let shares = |actions: &[Action]| {
        let shares = actions.iter().filter(|one| matches!(one, Action::Share(_)));
        shares.count()
    };
    let configured = Settings {
        prefix: prefix::nat64(OTHER.parse().unwrap(), 96),
        ..Settings::default()
    };
    // No router at all.
    let mut rig = Rig::of(configured.clone());
    assert!(setups(&rig.network_is()).is_empty());
    let done = rig.until(rig.now + PATIENCE);
    let (at, _) = done.last().unwrap();
    assert_eq!(*at, seconds(1000) + PATIENCE);
    let actions: Vec<_> = done.into_iter().map(|(_, action)| action).collect();
    assert!(!setups(&actions)[0].dedicated);
    assert_eq!(shares(&actions), 1);
    assert_eq!(rig.network_is(), []);
    // A router that announces none is not waited for.
    let mut rig = Rig::of(Settings::default());
    rig.network_is();
    assert_eq!(shares(&rig.advertised(&[(OTHER, 600)])), 1);
    // The host has no address in what is announced.
    let mut rig = Rig::of(Settings::default());
    rig.network_is();
    assert_eq!(shares(&rig.tell(announcement("2001:db8:7::"))), 0);
    let done = rig.until(rig.now + seconds(10));
    let last = done
        .iter()
        .filter(|(_, one)| matches!(one, Action::Share(_)));
    assert_eq!(
        last.map(|(at, _)| *at).collect::<Vec<_>>(),
        [seconds(1000) + PATIENCE]
    );
}

/// A router that is late, or of which nobody had heard: the host's address serves until our own is checked.
#[test]
fn a_network_that_comes_late_is_taken() {
    let mut rig = Rig::of(Settings {
        prefix: prefix::nat64(OTHER.parse().unwrap(), 96),
        ..Settings::default()
    });
    rig.network_is();
    rig.until(rig.now + seconds(30));
    let actions = rig.tell(announcement("2001:db8:6::"));
    let ours = trial(&actions).unwrap().unwrap();
    assert!(setups(&actions).is_empty() && says(&actions).is_empty());
    assert_eq!(setups(&rig.is_unique(ours)), [] as [&Setup; 0]);
    let actions = rig.tell(Event::Answered { from: ours });
    assert_eq!(setups(&actions)[0].source, ours);
    assert!(setups(&actions)[0].default_route);
}

/// The host loses its addresses for a moment: ours is the same again, and not given up for the host's.
#[test]
fn a_network_that_is_back_soon_has_the_same_address() {
    let mut rig = Rig::of(Settings::default());
    rig.network_is();
    let ours = trial(&rig.tell(announcement("2001:db8:6::")));
    let ours = ours.unwrap().unwrap();
    rig.is_unique(ours);
    rig.tell(Event::Answered { from: ours });
    rig.now += seconds(3600);
    let there = std::mem::take(&mut rig.link().addresses);
    rig.network_is();
    rig.now += seconds(1);
    rig.link().addresses = there[..1].to_vec();
    assert_eq!(trial(&rig.network_is()), Some(Some(ours)));
}

/// However often a network is renumbered, and whoever makes up networks: those in which the host is are known.
#[test]
fn the_hosts_networks_are_known_among_many() {
    let mut rig = Rig::of(Settings::default());
    rig.network_is();
    rig.tell(announcement("2001:db8:6::"));
    for number in 0x100..0x200 {
        rig.tell(announcement(&format!("2001:db8:{number:x}::")));
    }
    let network = |text: &str| (UPLINK, text.parse::<Ipv6Addr>().unwrap());
    assert_eq!(rig.clat.discovery.networks().len(), ndp::MOST);
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
    // One that has ended is none for a new address.
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

/// CL-07: who has no address at all yet is waited for, and detection goes on beside that of the host's own.
#[test]
fn a_tentative_address_of_the_host_is_enough_to_begin() {
    let mut rig = Rig::of(Settings::default());
    rig.link().addresses[0].tentative = true;
    rig.network_is();
    let actions = rig.tell(announcement("2001:db8:6::"));
    let ours = trial(&actions).unwrap().unwrap();
    assert_eq!(rig.is_unique(ours), [], "not probed before the host can");
    rig.link().addresses[0].tentative = false;
    assert_eq!(rig.network_is().len(), 1);
    // The prefix goes while it is tried: nothing is left, and nothing spins.
    let actions = rig.advertised(&[(OTHER, 0)]);
    assert_eq!(trial(&actions), Some(None));
    rig.until(rig.now + seconds(600));
}

/// `clat-v6-addr`: an address that is named, or derived, is detected, but not probed.
#[test]
fn a_named_address_is_taken() {
    let explicit: Ipv6Addr = "2001:db8:99::1".parse().unwrap();
    let mut rig = Rig::of(Settings {
        source: Source::Explicit(explicit),
        ..Settings::default()
    });
    rig.network_is();
    let actions = rig.advertised(&[(OTHER, 600)]);
    assert_eq!(trial(&actions), Some(Some(explicit)));
    assert_eq!(setups(&rig.is_unique(explicit))[0].source, explicit);

    let mut rig = Rig::of(Settings {
        source: Source::Derived,
        ..Settings::default()
    });
    rig.link()
        .addresses
        .push(address("2001:db8:6::5054:ff:fe12:3456"));
    rig.network_is();
    let actions = rig.advertised(&[(OTHER, 600)]);
    let derived = "2001:db8:6:0:5054:c1:a712:3456".parse().unwrap();
    assert_eq!(trial(&actions), Some(Some(derived)));
    let mut there = address("2001:db8:6:0:5054:c1:a712:3456");
    there.duplicate = true;
    rig.link().addresses.push(there);
    let actions = rig.network_is();
    assert!(
        actions.contains(&Action::Share(source::IN_USE)),
        "{actions:?}"
    );
    assert!(!setups(&actions)[0].dedicated);
}

/// Routers that announce one network after the other do not have us try one address after the other.
#[test]
fn trials_are_damped() {
    let mut rig = Rig::of(Settings::default());
    rig.network_is();
    rig.tell(announcement("2001:db8:6::"));
    let mut trials = 0;
    for _ in 0..1000 {
        rig.now += Duration::from_millis(10);
        rig.link().running = !rig.link().running;
        let mut actions = rig.network_is();
        actions.extend(rig.tell(announcement("2001:db8:6::")));
        trials += usize::from(trial(&actions).is_some_and(|one| one.is_some()));
    }
    assert!(trials <= 22, "{trials}");
    rig.link().running = true;
    rig.network_is();
    rig.tell(announcement("2001:db8:6::"));
    rig.until(rig.now + seconds(60));
    // In the end it was tried, and nobody said how it is.
    assert!(matches!(rig.clat.choice.state, Dedicated::Refused(_)));
}

/// CL-11: two instances that start at once choose the same addresses; the one that fails chooses others.
#[test]
fn who_fails_chooses_again() {
    let mut rig = Rig::started();
    assert_eq!(
        setups(&rig.advertised(&[(OTHER, 600)]))[0].addresses[0],
        Ipv4Addr::new(192, 0, 0, 1)
    );
    rig.network.links.push(Link {
        index: 9,
        clat_addresses: vec![[192, 0, 0, 1].into()],
        ..Link::default()
    });
    assert_eq!(rig.network_is(), []);
    let actions = rig.tell(Event::Failed);
    assert_eq!(
        setups(&actions)[0].addresses[0],
        Ipv4Addr::new(192, 0, 0, 3)
    );
    assert_eq!(setups(&actions)[0].instance(&Settings::default()), 2);
}

/// With a configured prefix and the host's address nobody is to be asked: there is nothing to wake up for.
#[test]
fn nothing_to_ask_is_nothing_to_wake_up_for() {
    let mut rig = Rig::new(Settings {
        prefix: prefix::nat64(OTHER.parse().unwrap(), 96),
        ..Settings::default()
    });
    rig.network_is();
    assert_eq!(rig.clat.deadline(rig.now), None);
}

/// A VPN with an IPv6 default route, which may run over the CLAT, is no uplink where there is another one.
#[test]
fn a_tunnel_is_no_uplink() {
    let mut rig = Rig::started();
    rig.advertised(&[(OTHER, 600)]);
    rig.network.links.push(Link {
        index: 9,
        name: "tun0".to_owned(),
        running: true,
        is_tunnel: true,
        default_v6: Some(50),
        ..Link::default()
    });
    assert_eq!(rig.network_is(), []);
}

/// RA81-03: what was believed before it was known to be ours.
#[test]
fn a_prefix_that_becomes_ours_is_dropped() {
    let mut rig = Rig::started();
    assert_eq!(setups(&rig.advertised(&[(OTHER, 600)])).len(), 1);
    rig.link().addresses.push(address("2001:db8:64::1"));
    let actions = rig.network_is();
    assert!(matches!(actions[0], Action::Refuse(_)), "{actions:?}");
    assert!(!setups(&actions)[0].default_route);
}

/// RA81-03, for DNS, too: the host's own network is nobody's NAT64.
#[test]
fn resolved_networks_of_ours_are_not_taken() {
    let mut rig = Rig::started();
    let actions = rig.resolved(&["2001:db8:6::192.0.0.170"], 600);
    assert!(setups(&actions).is_empty(), "{actions:?}");
}

/// After the machine was suspended, routers and name servers are asked at once.
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

/// CL-05, RFC 6724 rules 3, 6, 7 and 8.
#[test]
fn the_best_address_is_the_source() {
    let pick = |addresses: &[Address], prefix: &str| {
        let prefix = prefix::nat64(prefix.parse().unwrap(), 96).unwrap();
        best(addresses.iter(), prefix).map(|one| one.address.to_string())
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
        let actions = rig.advertised(&[(prefix, 600)]);
        assert!(matches!(actions[..], [Action::Refuse(_)]), "{prefix}");
        assert_eq!(rig.advertised(&[(prefix, 600)]), [], "said once");
    }
    for number in 0..100 {
        rig.advertised(&[(&format!("ff0e:{number:x}::"), 600)]);
    }
    assert_eq!(rig.advertised(&[("ff0f::", 600)]), [], "who makes up more");
    let actions = rig.resolved(&["2001:db8::1"], 60);
    assert_eq!(actions, [], "nor by a name server");
    let mut rig = Rig::started();
    let actions = rig.resolved(&["2001:db8::1"], 60);
    let Action::Refuse(refusal) = &actions[0] else {
        panic!("{actions:?}");
    };
    let said = "Not taken for a NAT64: the address 2001:db8::1 of ipv4only.arpa, as told on eth0, has no NAT64's prefix in it";
    assert_eq!(refusal.to_string(), said);
}
