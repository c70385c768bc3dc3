//! The source that packets leave with.

use super::*;
use crate::clat::{network::best, search::PATIENCE};

fn tested(actions: &[Action]) -> Option<Option<Ipv6Addr>> {
    actions.iter().find_map(|action| match action {
        Action::TestAddress(trial) => Some(trial.as_ref().map(|trial| trial.address)),
        _ => None,
    })
}

impl Rig {
    /// The tested address is on the uplink, and no other host has it.
    pub(super) fn is_unique(&mut self, ours: Ipv6Addr) -> Vec<Action> {
        let mut there = address(&ours.to_string());
        (there.deprecated, there.length) = (true, 128);
        self.link().addresses.push(there);
        self.network_is()
    }
}

/// RFC 6877 section 6.3: a CLAT address in the network that a router announces, which is tested on
/// the uplink first; then it is the source until its network ends.
#[test]
fn an_address_of_its_own_is_the_source() {
    let mut rig = Rig::of(Settings::default());
    rig.network_is();
    let actions = rig.tell(announcement("2001:db8:6::"));
    let ours = tested(&actions).unwrap().unwrap();
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
    let actions = rig.tell(Event::Answered { from: ours });
    assert_eq!(tested(&actions), Some(None), "off the uplink again");
    let setup = setups(&actions)[0].clone();
    assert!(
        setup.way.is_dedicated() && setup.source == ours && setup.default_route && setup.on_link
    );
    assert_eq!(setup.answers_for(), Some((UPLINK, ours)));
    rig.link().addresses.pop();
    assert_eq!(rig.network_is(), []);
    assert_eq!(rig.tell(announcement("2001:db8:6::")), []);
    let done = rig.until(rig.now + seconds(600));
    assert!(done.is_empty(), "{done:?}");

    // Renumbered: the host has an address in another network, and the old one is deprecated. The
    // old CLAT address serves until the new one is tested.
    rig.tell(announcement("2001:db8:7::"));
    rig.link().addresses.push(address("2001:db8:7::2"));
    assert_eq!(rig.network_is(), []);
    rig.link().addresses[0].deprecated = true;
    let actions = rig.network_is();
    let other = tested(&actions).unwrap().unwrap();
    assert_eq!(other.segments()[..4], [0x2001, 0xdb8, 7, 0]);
    assert!(setups(&actions).is_empty() && says(&actions).is_empty());
    assert_eq!(
        rig.clat.host.in_force().unwrap().answers_for(),
        Some((UPLINK, ours))
    );

    // The link flaps: the address is tested again, and is the same.
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
    assert_eq!(tested(&actions), Some(Some(other)));
    // That no other host has it is enough then: answers to probes may be lost.
    assert_eq!(setups(&rig.is_unique(other))[0].source, other);
}

/// The carrier is lost for a moment: what is in use serves on while it is tested again, as long as
/// the host is in its network. It is the same address, whatever the prefix was then.
#[test]
fn an_address_serves_on_while_it_is_tested_again() {
    let served = |network: &str| {
        let mut rig = Rig::of(Settings {
            prefix: prefix::nat64(WKP.parse().unwrap(), 96),
            ..Settings::default()
        });
        rig.network_is();
        let ours = tested(&rig.tell(announcement("2001:db8:6::")));
        let ours = ours.unwrap().unwrap();
        rig.is_unique(ours);
        rig.tell(Event::Answered { from: ours });
        rig.link().addresses = vec![address(network)];
        rig.link().carrier_downs += 1;
        (rig.network_is(), ours, rig)
    };
    let (actions, ours, mut rig) = served("2001:db8:6::7");
    assert!(setups(&actions).is_empty() && says(&actions).is_empty());
    let actions = rig.tell(announcement("2001:db8:6::"));
    assert_eq!(tested(&actions), Some(Some(ours)));
    assert!(setups(&actions).is_empty() && says(&actions).is_empty());

    let (actions, _, _) = served("2001:db8:7::7");
    assert!(!setups(&actions)[0].on_link);
    assert!(says(&actions)[0].starts_with("Waiting for a /64 on eth0"));
}

/// Without a router that announces a /64 in which the host has an address, the host's address is
/// used: after a while, and said once.
#[test]
fn without_a_network_for_it_the_hosts_address_is_the_source() {
    let shares = |actions: &[Action]| {
        let shares = actions
            .iter()
            .filter(|one| matches!(one, Action::UseHostAddress(_)));
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
    assert!(!setups(&actions)[0].way.is_dedicated());
    assert_eq!(shares(&actions), 1);
    assert_eq!(rig.network_is(), []);
    // RFC 4861 section 6.2.3: an advertisement without one may not be all that a router announces.
    let mut rig = Rig::of(Settings::default());
    rig.network_is();
    assert_eq!(shares(&rig.advertised(&[(OTHER, 600)])), 0);
    assert!(tested(&rig.tell(announcement("2001:db8:6::"))).is_some());
    let mut rig = Rig::of(Settings::default());
    rig.network_is();
    rig.advertised(&[(OTHER, 600)]);
    let done = rig.until(rig.now + PATIENCE);
    let (at, _) = done.last().unwrap();
    assert_eq!(*at, seconds(1000) + PATIENCE);
    let actions: Vec<_> = done.into_iter().map(|(_, action)| action).collect();
    assert_eq!(shares(&actions), 1);
    // The host has no address in what is announced.
    let mut rig = Rig::of(Settings::default());
    rig.network_is();
    assert_eq!(shares(&rig.tell(announcement("2001:db8:7::"))), 0);
    let done = rig.until(rig.now + seconds(10));
    let last = done
        .iter()
        .filter(|(_, one)| matches!(one, Action::UseHostAddress(_)));
    assert_eq!(
        last.map(|(at, _)| *at).collect::<Vec<_>>(),
        [seconds(1000) + PATIENCE]
    );
}

/// A router that is late: the host's address serves until the CLAT address is tested.
#[test]
fn a_network_that_comes_late_is_taken() {
    let mut rig = Rig::of(Settings {
        prefix: prefix::nat64(OTHER.parse().unwrap(), 96),
        ..Settings::default()
    });
    rig.network_is();
    rig.until(rig.now + seconds(30));
    let actions = rig.tell(announcement("2001:db8:6::"));
    let ours = tested(&actions).unwrap().unwrap();
    assert!(setups(&actions).is_empty() && says(&actions).is_empty());
    assert_eq!(setups(&rig.is_unique(ours)), [] as [&HostSetup; 0]);
    let actions = rig.tell(Event::Answered { from: ours });
    assert_eq!(setups(&actions)[0].source, ours);
    assert!(setups(&actions)[0].default_route);
}

/// The host loses its addresses for a moment: the CLAT address is the same again, and not given up.
#[test]
fn a_network_that_is_back_soon_has_the_same_address() {
    let mut rig = Rig::of(Settings::default());
    rig.network_is();
    let ours = tested(&rig.tell(announcement("2001:db8:6::")));
    let ours = ours.unwrap().unwrap();
    rig.is_unique(ours);
    rig.tell(Event::Answered { from: ours });
    rig.now += seconds(3600);
    let there = std::mem::take(&mut rig.link().addresses);
    let actions = rig.network_is();
    let is_given_up = |one: &Action| matches!(one, Action::UseHostAddress(_));
    assert!(!actions.iter().any(is_given_up), "{actions:?}");
    rig.now += seconds(1);
    rig.link().addresses = there[..1].to_vec();
    assert_eq!(tested(&rig.network_is()), Some(Some(ours)));
}

/// The same, after the network has changed its NAT64 prefix: open connections have the address that
/// was formed for the old one.
#[test]
fn an_address_outlives_the_prefix_that_it_was_formed_for() {
    let mut rig = Rig::of(Settings::default());
    rig.network_is();
    let ours = tested(&rig.tell(announcement("2001:db8:6::")));
    let ours = ours.unwrap().unwrap();
    rig.is_unique(ours);
    rig.tell(Event::Answered { from: ours });
    rig.link().addresses.pop();
    rig.network_is();
    let setup = setups(&rig.advertised(&[(OTHER, 0), ("64:ff9b::", 600)]))[0].clone();
    assert_eq!(
        (setup.prefix.to_string(), setup.source),
        ("64:ff9b::/96".to_owned(), ours)
    );
    let there = std::mem::take(&mut rig.link().addresses);
    rig.network_is();
    rig.now += seconds(1);
    rig.link().addresses = there;
    assert_eq!(tested(&rig.network_is()), Some(Some(ours)));
    // The link flaps.
    rig.link().running = false;
    rig.network_is();
    rig.link().running = true;
    rig.network_is();
    let mut event = announcement("2001:db8:6::");
    if let Event::Advertisement { advertisement, .. } = &mut event {
        advertisement.pref64[0].prefix = WKP.parse().unwrap();
    }
    assert_eq!(tested(&rig.tell(event)), Some(Some(ours)));
    // Another host has taken it meanwhile.
    let mut taken = address(&ours.to_string());
    taken.duplicate = true;
    rig.link().addresses.push(taken);
    let other = tested(&rig.network_is()).unwrap().unwrap();
    assert_ne!(other, ours);
}

/// RFC 6877 section 6.3: packets have to leave with some address of the uplink.
#[test]
fn a_host_without_an_address_waits_for_one() {
    for source in [Source::Auto, Source::Shared] {
        let mut rig = Rig::of(Settings {
            source,
            ..Settings::default()
        });
        rig.link().addresses.clear();
        rig.network_is();
        let actions = rig.advertised(&[(OTHER, 600)]);
        assert!(setups(&actions).is_empty());
        assert!(says(&actions)[0].starts_with("Waiting for an IPv6 address"));
    }
}

/// Detection of duplicates goes on beside that of the host's own address; probes wait for the
/// latter.
#[test]
fn a_tentative_address_of_the_host_is_enough_to_begin() {
    let mut rig = Rig::of(Settings::default());
    rig.link().addresses[0].tentative = true;
    rig.network_is();
    let actions = rig.tell(announcement("2001:db8:6::"));
    let ours = tested(&actions).unwrap().unwrap();
    assert!(says(&actions)[0].starts_with("Checking whether"));
    assert_eq!(rig.is_unique(ours), [], "not probed before the host can");
    rig.link().addresses[0].tentative = false;
    assert_eq!(rig.network_is().len(), 1);
    // The prefix goes during the test: nothing is left, and nothing spins.
    let actions = rig.advertised(&[(OTHER, 0)]);
    assert_eq!(tested(&actions), Some(None));
    rig.until(rig.now + seconds(600));
}

/// `clat-v6-addr`: an explicit or derived address is only tested for duplicates.
#[test]
fn an_explicit_or_derived_address_is_taken() {
    let explicit: Ipv6Addr = "2001:db8:99::1".parse().unwrap();
    let mut rig = Rig::of(Settings {
        source: Source::Explicit(explicit),
        ..Settings::default()
    });
    rig.network_is();
    let actions = rig.advertised(&[(OTHER, 600)]);
    assert_eq!(tested(&actions), Some(Some(explicit)));
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
    assert_eq!(tested(&actions), Some(Some(derived)));
    let mut there = address("2001:db8:6:0:5054:c1:a712:3456");
    there.duplicate = true;
    rig.link().addresses.push(there);
    let actions = rig.network_is();
    assert!(
        actions.contains(&Action::UseHostAddress(NoClatAddress::InUse)),
        "{actions:?}"
    );
    assert!(!setups(&actions)[0].way.is_dedicated());
}

/// Routers that announce one network after the other do not make us test addresses as often.
#[test]
fn tests_of_addresses_are_damped() {
    let mut rig = Rig::of(Settings::default());
    rig.network_is();
    rig.tell(announcement("2001:db8:6::"));
    let mut tests = 0;
    for _ in 0..1000 {
        rig.now += Duration::from_millis(10);
        rig.link().running = !rig.link().running;
        let mut actions = rig.network_is();
        actions.extend(rig.tell(announcement("2001:db8:6::")));
        tests += usize::from(tested(&actions).is_some_and(|one| one.is_some()));
    }
    assert!(tests <= 22, "{tests}");
    rig.link().running = true;
    rig.network_is();
    rig.tell(announcement("2001:db8:6::"));
    rig.until(rig.now + seconds(60));
    // In the end it was tested, and detection had no result.
    assert!(matches!(rig.clat.choice.state, Dedicated::Unavailable(_)));
}

/// RFC 6724 section 5, rules 3, 6, 7 and 8.
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
    assert_eq!(pick(&[near, global], OTHER).unwrap(), "2001:db8:64::5");
    assert_eq!(pick(&all, OTHER).unwrap(), "2001:db8:64::5");
    assert_eq!(pick(&all[..4], OTHER).unwrap(), "2001:db8:6::2");
    assert_eq!(pick(&all[..3], OTHER).unwrap(), "2001:db8:64::3");
    assert_eq!(pick(&all, "fd00:64::").unwrap(), "fd00::2");
    assert_eq!(pick(&[], OTHER), None);
}

/// An address that the host has itself is no CLAT's: the kernel would answer for it, too.
#[test]
fn an_explicit_address_of_the_host_is_not_taken() {
    let host = "2001:db8:6::2".parse().unwrap();
    let mut rig = Rig::of(Settings {
        source: Source::Explicit(host),
        ..Settings::default()
    });
    rig.network_is();
    let actions = rig.advertised(&[(OTHER, 600)]);
    let refused = Action::UseHostAddress(NoClatAddress::HostHas);
    assert!(actions.contains(&refused), "{actions:?}");
    assert!(!setups(&actions)[0].way.is_dedicated());
    // It is taken as soon as the host has another one in its place.
    rig.link().addresses = vec![address("2001:db8:6::3")];
    assert_eq!(tested(&rig.network_is()), Some(Some(host)));
}

/// Where no packet socket can be opened the kernel forwards, and the status says so.
#[test]
fn without_packet_sockets_the_kernel_forwards() {
    let ours = "2001:db8:6::99".parse().unwrap();
    let mut rig = Rig::of(Settings {
        source: Source::Explicit(ours),
        ..Settings::default()
    });
    rig.link().mac = Some([2, 0, 0, 0, 0, 1]);
    rig.link().routes_v6[0].gateway = "fe80::1".parse().ok();
    rig.network_is();
    rig.advertised(&[(OTHER, 600)]);
    let actions = rig.is_unique(ours);
    assert!(matches!(setups(&actions)[0].way, Way::Direct(_)));
    let actions = rig.tell(Event::NoPacketSockets);
    assert!(matches!(setups(&actions)[0].way, Way::Forwarded(_)));
    assert!(says(&actions)[0].ends_with("forwarded by the kernel"));
}
