//! Hours and days of a CLAT, by a made-up clock.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod announced;
mod aside;
mod discovery;
mod overview;
mod silence;
mod source;
mod uplink;

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    native::{MAX_OVERLAP, QUIET},
    source::Dedicated,
    *,
};
use crate::{
    addr::Prefix4,
    link::LinkRef,
    wire::ndp::{self, Pref64, PrefixInformation, RouterAdvertisement},
};

const UPLINK: u32 = 2;
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A CLAT, the time, the network, and the packets translated so far.
struct Rig {
    clat: Clat,
    now: Duration,
    network: Network,
    traffic: Traffic,
}

impl Rig {
    /// A CLAT that uses the host's address.
    fn new(settings: Settings) -> Self {
        Self::of(Settings {
            source: Source::Shared,
            ..settings
        })
    }

    fn of(settings: Settings) -> Self {
        let network = Network {
            interfaces: vec![Interface {
                index: UPLINK,
                name: "eth0".to_owned(),
                running: true,
                mtu: 1500,
                addresses: vec![address("2001:db8:6::2")],
                routes_v6: vec![default_route(1024)],
                ..Interface::default()
            }],
            ..Network::default()
        };
        Self {
            clat: Clat::new(settings),
            now: seconds(1000),
            network,
            traffic: Traffic::default(),
        }
    }

    fn started() -> Self {
        let mut rig = Self::new(Settings::default());
        rig.network_is();
        rig
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        self.clat.handle(event, self.traffic, self.now)
    }

    fn network_is(&mut self) -> Vec<Action> {
        let network = self.network.clone();
        self.tell(Event::Network(network))
    }

    fn link(&mut self) -> &mut Interface {
        &mut self.network.interfaces[0]
    }

    fn advertised(&mut self, pref64: &[(&str, u64)]) -> Vec<Action> {
        self.advertised_by(1, 0, seconds(60_000), pref64)
    }

    /// By two routers: the first one is preferred.
    fn advertised_by_two(&mut self) {
        self.advertised_by(1, 1, seconds(60_000), &[(WKP, 60_000)]);
        self.advertised_by(2, 0, seconds(60_000), &[(OTHER, 60_000)]);
    }

    /// By the router of this number, with its preference and lifetime.
    fn advertised_by(
        &mut self,
        router: u16,
        preference: i8,
        router_lifetime: Duration,
        pref64: &[(&str, u64)],
    ) -> Vec<Action> {
        let pref64 = pref64.iter().map(|(prefix, lifetime)| Pref64 {
            prefix: prefix.parse().unwrap(),
            length: 96,
            lifetime: seconds(*lifetime),
        });
        let advertisement = RouterAdvertisement {
            router_lifetime,
            preference,
            pref64: pref64.collect(),
            ..RouterAdvertisement::default()
        };
        self.tell(Event::Advertisement {
            link: UPLINK,
            router: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, router),
            advertisement,
        })
    }

    fn resolved(&mut self, addresses: &[&str], ttl: u64) -> Vec<Action> {
        self.resolved_by(true, addresses, ttl)
    }

    /// An answer of the uplink's own name servers, or of others.
    fn resolved_by(&mut self, own: bool, addresses: &[&str], ttl: u64) -> Vec<Action> {
        let resolution = Resolution {
            addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
            ttl: seconds(ttl),
            own,
        };
        self.tell(Event::Resolved {
            link: UPLINK,
            resolution,
        })
    }

    /// Goes from deadline to deadline up to a time. Returns the actions with their times.
    fn until(&mut self, end: Duration) -> Vec<(Duration, Action)> {
        let mut all = Vec::new();
        while let Some(deadline) = self.clat.deadline().filter(|at| *at <= end) {
            // A deadline that is over would be a loop that never waits.
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

fn default_route(metric: u32) -> Ipv6Route {
    Ipv6Route {
        destination: "::/0".parse().unwrap(),
        is_main: true,
        metric,
        preference: 0,
        gateway: None,
    }
}

fn setups(actions: &[Action]) -> Vec<&HostSetup> {
    let setups = actions.iter().filter_map(|action| match action {
        Action::SetUp(setup) => Some(setup),
        _ => None,
    });
    setups.collect()
}

fn says(actions: &[Action]) -> Vec<String> {
    let state = |action: &Action| match action {
        Action::Report(state) => Some(state.to_string()),
        _ => None,
    };
    actions.iter().filter_map(state).collect()
}

/// A Router Advertisement with a network to form addresses in, and a NAT64 prefix.
fn announcement(network: &str) -> Event {
    Event::Advertisement {
        link: UPLINK,
        router: ROUTER,
        advertisement: RouterAdvertisement {
            router_lifetime: seconds(60_000),
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

const WKP: &str = "64:ff9b::";
const OTHER: &str = "2001:db8:64::";

/// RFC 3927: a default route by a link of which the host has link-local addresses only leads
/// nowhere, and does not go before the CLAT. Native IPv4 does, as soon as it is there.
#[test]
fn a_link_local_default_route_is_worse() {
    let settings = Settings::default();
    let metric = |actions: &[Action]| setups(actions).last().unwrap().metric(&settings);
    let network = |text: &str| text.parse::<Prefix4>().unwrap();
    let mut rig = Rig::started();
    assert_eq!(metric(&rig.advertised(&[(WKP, 600)])), 2048);
    rig.link().networks_v4 = vec![network("169.254.0.0/16")];
    rig.link().on_link_default_v4 = Some(1003);
    assert!(metric(&rig.network_is()) < 1003);
    // It may be all there is, as with PPP.
    rig.link().networks_v4 = vec![network("169.254.0.0/16"), network("203.0.113.1/32")];
    assert_eq!(metric(&rig.network_is()), 2048);
    rig.link().networks_v4.pop();
    assert!(metric(&rig.network_is()) < 1003);
    rig.link().default_v4 = true;
    assert_eq!(metric(&rig.network_is()), 2048);
}

/// The networks of the host's links are told once each; those of CLATs, and of no other hosts, are
/// none.
#[test]
fn the_networks_of_links_are_set_up() {
    let network = |text: &str| text.parse::<Prefix4>().unwrap();
    let mut rig = Rig::started();
    let networks = [
        "10.5.0.0/24",
        "192.0.0.0/29",
        "10.4.0.1/32",
        "10.5.0.0/24",
        "10.4.0.0/24",
    ];
    rig.link().networks_v4 = networks.map(network).into();
    rig.network_is();
    let actions = rig.advertised(&[(WKP, 600)]);
    let expected = ["10.4.0.0/24", "10.5.0.0/24"].map(network);
    assert_eq!(setups(&actions)[0].links_v4, expected);
}

#[test]
fn an_advertised_prefix_makes_it_active() {
    let mut rig = Rig::started();
    let actions = rig.advertised(&[(WKP, 600)]);
    let expected = HostSetup {
        uplink: LinkRef::new(UPLINK, "eth0"),
        mtu: 1500,
        addresses: [[192, 0, 0, 1].into(), [192, 0, 0, 2].into()],
        prefix: prefix::nat64(WKP.parse().unwrap(), 96).unwrap(),
        source: "2001:db8:6::2".parse().unwrap(),
        way: Way::Shared(Forwarding {
            router: None,
            rule_priority: 24999,
        }),
        rule_priority: 24999,
        on_link: true,
        default_route: true,
        link_local_default: None,
        links_v4: Vec::new(),
        others: Vec::new(),
    };
    assert_eq!(setups(&actions), [&expected]);
    assert_eq!(
        says(&actions),
        [
            "IPv4 via eth0, NAT64 prefix 64:ff9b::/96 (Router Advertisement), \
          forwarded by the kernel"
        ]
    );
    assert_eq!(rig.advertised(&[(WKP, 600)]), [], "nothing new");
    assert_eq!(expected.route_mtu(&Settings::default()), 1472);
    // RFC 9872 section 3.1: DNS is not asked any more.
    let later = rig.until(seconds(1500));
    assert!(later.is_empty(), "{later:?}");
}

/// The start is never delayed; native IPv4 must have stayed for a while, and its end counts at
/// once.
#[test]
fn it_steps_aside_for_native_ipv4() {
    let mut rig = Rig::started();
    rig.link().default_v4 = true;
    rig.network_is();
    let actions = rig.advertised(&[(OTHER, 6000)]);
    assert!(setups(&actions)[0].default_route);
    assert_eq!(rig.clat.deadline(), Some(seconds(1010)));
    let done = rig.until(seconds(1010));
    assert!(matches!(&done[0].1, Action::SetUp(setup) if !setup.default_route));
    let aside = Action::Report(Status::SteppingAside("eth0".to_owned()));
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
    // Not if v4-conncheck-enable says so.
    let mut rig = Rig::new(Settings {
        steps_aside: false,
        ..Settings::default()
    });
    rig.link().default_v4 = true;
    rig.network_is();
    rig.advertised(&[(OTHER, 6000)]);
    assert_eq!(rig.until(rig.now + seconds(60)), []);
}

/// Open flows go on until no packet was translated for 120 s, or for 900 s at most; then all is
/// torn down. When native IPv4 goes, the CLAT is back at once.
#[test]
fn the_host_is_torn_down_when_no_flow_is_left() {
    let aside = |rig: &mut Rig| {
        rig.link().default_v4 = true;
        rig.network_is();
        rig.until(rig.now + seconds(10));
        rig.now
    };
    let rests = |done: &[(Duration, Action)]| {
        let rests = done.iter().filter(|(_, one)| *one == Action::TearDown);
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

    // A flow with a packet each minute.
    let start = aside(&mut rig);
    let mut done = Vec::new();
    for minute in 1..40 {
        rig.traffic.out = minute;
        done.extend(rig.until(start + seconds(60 * minute)));
    }
    assert_eq!(rests(&done), [start + MAX_OVERLAP]);
    assert!(setups(&rig.advertised(&[(WKP, 6000)])).is_empty());
    rig.link().default_v4 = false;
    assert!(setups(&rig.network_is())[0].default_route);

    // Also without an uplink.
    let start = aside(&mut rig);
    rig.link().routes_v6.clear();
    rig.network_is();
    assert_eq!(rests(&rig.until(start + seconds(5000))), [start + QUIET]);
}

/// A set-up that fails just when the overlap with native IPv4 ends, or while something is missing,
/// may have left parts: they are torn down with the rest.
#[test]
fn a_failed_set_up_is_torn_down_too() {
    let mut rig = Rig::started();
    rig.advertised(&[(OTHER, 6000)]);
    rig.link().default_v4 = true;
    rig.network_is();
    rig.until(rig.now + seconds(10));
    rig.now += QUIET;
    assert_eq!(rig.tell(Event::Failed), [Action::TearDown]);
    assert_eq!(rig.until(rig.now + seconds(5000)), [], "said once");

    // Without a prefix it is set up again, without its routes; what stands is not forgotten.
    let mut rig = Rig::started();
    rig.advertised(&[(OTHER, 6000)]);
    rig.advertised(&[(OTHER, 0)]);
    let actions = rig.tell(Event::Failed);
    assert!(matches!(&setups(&actions)[..], [setup] if !setup.default_route));
    rig.tell(Event::Failed);
    rig.link().default_v4 = true;
    rig.network_is();
    let done = rig.until(rig.now + seconds(10) + QUIET);
    assert!(done.contains(&(rig.now, Action::TearDown)), "{done:?}");
}

/// RFC 7050 section 3: the link goes, and what was learnt by it; it comes, and the network is asked
/// again. What was set up stays.
#[test]
fn the_link_flaps() {
    let mut rig = Rig::started();
    rig.advertised(&[(OTHER, 600)]);
    rig.link().running = false;
    let actions = rig.network_is();
    assert!(!setups(&actions)[0].default_route);
    assert_eq!(
        says(&actions),
        ["Waiting for an uplink: no IPv6 default route"]
    );
    rig.link().running = true;
    let actions = rig.network_is();
    assert_eq!(actions[0], Action::Solicit { link: UPLINK });
    assert!(says(&actions)[0].starts_with("Waiting for a NAT64 prefix"));
    assert!(setups(&rig.advertised(&[(WKP, 600)]))[0].default_route);
}

/// So it is when the link was down for so short a time that it is only seen to be up: by its count.
#[test]
fn the_link_flaps_unseen() {
    let mut rig = Rig::started();
    rig.advertised(&[(OTHER, 600)]);
    rig.until(rig.now + seconds(30));
    rig.link().carrier_downs += 1;
    let actions = rig.network_is();
    assert_eq!(actions[0], Action::Solicit { link: UPLINK });
    assert!(says(&actions)[0].starts_with("Waiting for a NAT64 prefix"));
    assert!(!setups(&actions)[0].default_route);
    assert!(setups(&rig.advertised(&[(WKP, 600)]))[0].default_route);
    // Another link does not count.
    rig.network.interfaces.push(Interface {
        index: 9,
        ..Interface::default()
    });
    assert_eq!(rig.network_is(), []);
    rig.network.interfaces[1].carrier_downs += 1;
    assert_eq!(rig.network_is(), []);
}

/// A router that contradicts itself all the time does not flap the routes and the log as often; in
/// the end its last word counts.
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
    let setup = rig.clat.host.in_force().unwrap();
    assert_eq!(setup.prefix.prefix().to_string(), "2001:db8:64::/96");
    // Later there is no hurry.
    rig.until(rig.now + seconds(60));
    assert_eq!(says(&rig.advertised(&[(OTHER, 0)])).len(), 1);
}

/// RFC 7335: the next free addresses; they stay; and where there are none it says so.
#[test]
fn ipv4_addresses_are_those_that_no_other_clat_has() {
    let other = |addresses: &[u8]| Interface {
        index: 9,
        name: "other".to_owned(),
        clat_addresses: addresses
            .iter()
            .map(|last| [192, 0, 0, *last].into())
            .collect(),
        ..Interface::default()
    };
    for (taken, expected) in [
        (&[][..], [1, 2]),
        (&[1], [3, 4]),
        (&[2], [3, 4]),
        (&[1, 4], [5, 6]),
    ] {
        let mut rig = Rig::new(Settings::default());
        rig.network.interfaces.push(other(taken));
        rig.network_is();
        let actions = rig.advertised(&[(OTHER, 600)]);
        let expected = expected.map(|last| Ipv4Addr::new(192, 0, 0, last));
        assert_eq!(setups(&actions)[0].addresses, expected);
        rig.network.interfaces[1] = other(&[]);
        assert_eq!(rig.network_is(), [], "once chosen they stay");
    }
    let mut rig = Rig::new(Settings::default());
    rig.network.interfaces.push(other(&[1, 4, 5]));
    rig.network_is();
    let actions = rig.advertised(&[(OTHER, 600)]);
    assert!(setups(&actions).is_empty());
    assert!(says(&actions)[0].contains("two free addresses of 192.0.0.0/29"));
}

#[test]
fn another_clat_is_left_to_it() {
    for name in ["eth0", "cl-eth0"] {
        let mut rig = Rig::started();
        if name == "eth0" {
            rig.link().clat_addresses = vec![[192, 0, 0, 1].into()];
        } else {
            rig.network.interfaces.push(Interface {
                index: 9,
                name: name.to_owned(),
                clat_addresses: vec![[192, 0, 0, 1].into()],
                ..Interface::default()
            });
        }
        rig.network_is();
        let actions = rig.advertised(&[(OTHER, 600)]);
        assert!(setups(&actions).is_empty());
        let said = format!("Stepping aside: another CLAT has an address of 192.0.0.0/29 on {name}");
        assert!(says(&actions)[0].starts_with(&said));
    }
    // A guest of a machine that has one may be told to have its own.
    let mut rig = Rig::new(Settings {
        steps_aside: false,
        ..Settings::default()
    });
    rig.link().clat_addresses = vec![[192, 0, 0, 1].into()];
    rig.network_is();
    let actions = rig.advertised(&[(OTHER, 600)]);
    let expected = [[192, 0, 0, 3], [192, 0, 0, 4]].map(Ipv4Addr::from);
    assert_eq!(setups(&actions)[0].addresses, expected);
}

/// RFC 7335: two instances that start at once choose the same addresses; the one that fails chooses
/// others.
#[test]
fn a_set_up_that_fails_chooses_other_addresses() {
    let mut rig = Rig::started();
    assert_eq!(
        setups(&rig.advertised(&[(OTHER, 600)]))[0].addresses[0],
        Ipv4Addr::new(192, 0, 0, 1)
    );
    rig.network.interfaces.push(Interface {
        index: 9,
        clat_addresses: vec![[192, 0, 0, 1].into()],
        ..Interface::default()
    });
    assert_eq!(rig.network_is(), []);
    let actions = rig.tell(Event::Failed);
    assert_eq!(
        setups(&actions)[0].addresses[0],
        Ipv4Addr::new(192, 0, 0, 3)
    );
    assert_eq!(setups(&actions)[0].instance(), 2);
}

/// A VPN with an IPv6 default route, which may run over the CLAT, is no uplink where there is
/// another one.
#[test]
fn a_tunnel_is_no_uplink() {
    let mut rig = Rig::started();
    rig.advertised(&[(OTHER, 600)]);
    rig.network.interfaces.push(Interface {
        index: 9,
        name: "tun0".to_owned(),
        running: true,
        kind: "tun".to_owned(),
        routes_v6: vec![default_route(50)],
        ..Interface::default()
    });
    assert_eq!(rig.network_is(), []);
}

/// A tunnel of any kind may run over the CLAT. Other devices, also virtual ones, lead to a network.
#[test]
fn only_tunnels_are_no_native_ipv4() {
    let steps_aside = |kind: &str| {
        let mut rig = Rig::started();
        rig.advertised(&[(OTHER, 6000)]);
        rig.network.interfaces.push(Interface {
            index: 9,
            name: "other0".to_owned(),
            running: true,
            kind: kind.to_owned(),
            default_v4: true,
            ..Interface::default()
        });
        rig.network_is();
        let done = rig.until(rig.now + seconds(60));
        let aside = Action::Report(Status::SteppingAside("other0".to_owned()));
        done.iter().any(|(_, action)| *action == aside)
    };
    for kind in [
        "tun",
        "wireguard",
        "ovpn",
        "ipip",
        "ip6tnl",
        "sit",
        "gre",
        "gretap",
        "erspan",
        "ip6gre",
        "ip6gretap",
        "ip6erspan",
        "vti",
        "vti6",
        "xfrm",
        "vxlan",
        "geneve",
        "bareudp",
        "gtp",
    ] {
        assert!(!steps_aside(kind), "{kind}");
    }
    for kind in [
        "", "veth", "vlan", "bridge", "bond", "team", "macvlan", "ipvlan", "ppp", "wwan", "rmnet",
        "macsec", "netkit", "dummy",
    ] {
        assert!(steps_aside(kind), "{kind}");
    }
}

/// The MTU of the link, or of its routers; at least the minimum of IPv6 (RFC 8200 section 5).
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
            router: ROUTER,
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
    assert!(says(&actions)[0].contains("(plat-prefix)"));
    assert_eq!(rig.advertised(&[(OTHER, 600)]), []);
    assert_eq!(rig.clat.deadline().filter(|at| *at < seconds(1500)), None);

    let mut rig = Rig::new(Settings {
        fallback: configured,
        ..Settings::default()
    });
    assert!(says(&rig.network_is())[0].contains("(plat-fallback-prefix)"));
    assert!(says(&rig.advertised(&[(OTHER, 600)]))[0].contains("(Router Advertisement)"));

    let mut rig = Rig::new(Settings {
        uplink: Some("eth1".to_owned()),
        ..Settings::default()
    });
    assert_eq!(
        says(&rig.network_is()),
        ["Waiting for an uplink: plat-dev is down, or does not exist"]
    );
}
