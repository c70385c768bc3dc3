//! The plan of a CLAT: the changes to its host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Facts, NextHopObject, Protocol, RP_FILTER, Resource, Route, Rule, Sysctl, Target,
    forwarding::force_forwarding,
    nft::{mark, ruleset, ruleset_name, test_ruleset, test_ruleset_name},
    route::{LOCAL_TABLE, MAIN_TABLE},
};
use crate::{
    addr::{AddressMap, Eam, Edge, IpPrefix, Nat64Prefix, Prefix4, Prefix6},
    clat::{AddressTest, Forwarding, HostSetup, Settings, Way, private},
    config::clatd::ClatConfig,
    link::LinkRef,
    translate::{self, UdpChecksum},
};

/// Metric of the last of all routes.
const LAST_METRIC: u32 = u32::MAX;
/// The first address of 192.0.0.0/29, of which no address is behind a NAT64 (RFC 7335).
const CONTINUITY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 0);
/// All IPv4 addresses.
const ANY_V4: IpPrefix = IpPrefix::V4(Ipv4Addr::UNSPECIFIED, 0);
/// All IPv6 addresses.
const ANY_V6: IpPrefix = IpPrefix::V6(Ipv6Addr::UNSPECIFIED, 0);

/// What is to be there while an address is tested. Connections that have used it before are kept
/// from the host, which would reset them, by a table of nftables.
pub fn trial(settings: &Settings, trial: &AddressTest, was_used: bool) -> Vec<Resource> {
    let guard = was_used.then(|| Resource::Ruleset {
        name: test_ruleset_name(settings),
        text: test_ruleset(trial),
    });
    let address = Resource::TestAddress(trial.uplink.clone(), trial.address);
    guard.into_iter().chain([address]).collect()
}

/// What is to be there while a CLAT translates, in the order in which it is applied.
pub fn clat(settings: &Settings, setup: &HostSetup, facts: Facts) -> Vec<Resource> {
    let has_nft = facts.has_nft || !setup.way.is_dedicated();
    let mut plan = device(settings, setup);
    // What is not to come in, or to be forwarded, is dropped before anything does.
    plan.extend(has_nft.then(|| Resource::Ruleset {
        name: ruleset_name(settings, &setup.way),
        text: ruleset(settings, setup, facts),
    }));
    match setup.way {
        Way::Direct(_) => plan.push(not_by_the_kernel(settings, setup)),
        Way::Forwarded(ways) | Way::Shared(ways) => {
            plan.extend(forwarding(settings, setup, facts));
            plan.extend(forwarding_ways(settings, setup, ways));
        }
    }
    plan.extend(ways_there(settings, setup, facts));
    plan
}

/// The TUN device, with the IPv4 address of programs.
fn device(settings: &Settings, setup: &HostSetup) -> Vec<Resource> {
    let name = settings.device.clone();
    let link = || LinkRef::tun(&settings.device);
    let [host_v4, _] = setup.addresses;
    // No packets of the kernel's own: no link-local address, or no IPv6 where none goes through.
    // Then also routes of others by the device, as to the server of a VPN, have the right MTU.
    let (setting, mtu) = match setup.way {
        Way::Direct(_) => ("disable_ipv6", setup.route_mtu(settings)),
        Way::Forwarded(_) | Way::Shared(_) => ("addr_gen_mode", setup.mtu),
    };
    vec![
        Resource::Device { name },
        Resource::Sysctl(Sysctl {
            link: link(),
            name: setting.to_owned(),
            value: "1".to_owned(),
        }),
        Resource::Mtu(link(), mtu),
        Resource::LinkUp(link()),
        Resource::Address(link(), host(host_v4)),
    ]
}

/// Forwarding between the TUN device and the uplink.
fn forwarding(settings: &Settings, setup: &HostSetup, facts: Facts) -> Vec<Resource> {
    let mut plan = Vec::new();
    if settings.forwarding && facts.forces_forwarding {
        let links = [LinkRef::tun(&settings.device), setup.uplink.clone()];
        plan.extend(links.map(|link| Resource::Sysctl(force_forwarding(link))));
    } else if settings.forwarding {
        plan.push(Resource::Forwarding);
    }
    if facts.has_ufw {
        plan.extend(ufw_rules(&settings.device, &setup.uplink.name));
    }
    plan
}

/// The ways of IPv6 packets that the kernel forwards, in a table of their own: to the uplink, and
/// back to the translator. A VPN that takes all that is not its own does not get them.
fn forwarding_ways(settings: &Settings, setup: &HostSetup, ways: Forwarding) -> Vec<Resource> {
    let Forwarding {
        router,
        rule_priority: priority,
    } = ways;
    let table = setup.table(settings);
    let uplink = setup.uplink.clone();
    let to_uplink = Route {
        target: match router {
            Some(router) => Target::Router(router.into(), uplink),
            None => Target::Device(uplink),
        },
        ..route(settings, ANY_V6, table)
    };
    let behind = host(host_v6(setup));
    let rule = Rule {
        from: ANY_V6,
        to: behind,
        mark: 0,
        by: None,
        table,
        priority,
    };
    let from_device = Rule {
        to: ANY_V6,
        by: Some(settings.device.clone()),
        ..rule.clone()
    };
    let mut plan = vec![Resource::Route(route(settings, behind, table))];
    plan.extend(setup.on_link.then_some(Resource::Route(to_uplink)));
    plan.extend([Resource::Rule(rule), Resource::Rule(from_device)]);
    plan
}

/// What keeps the kernel, if it forwards, from doing so with packets to the CLAT address, which a
/// packet socket receives.
fn not_by_the_kernel(settings: &Settings, setup: &HostSetup) -> Resource {
    Resource::Route(Route {
        target: Target::Blackhole,
        ..route(settings, host(setup.source), LOCAL_TABLE)
    })
}

/// The way of IPv4 packets to the translator.
fn ways_there(settings: &Settings, setup: &HostSetup, facts: Facts) -> Vec<Resource> {
    let [host_v4, _] = setup.addresses;
    let table = setup.table(settings);
    let mtu = setup.route_mtu(settings);
    // Lookups without a source use the default route of the main table, those of what the kernel
    // learns from ICMP errors have a source: both routes have one next hop.
    let next_hop = facts
        .has_next_hop_object
        .then(|| next_hop_object(settings, setup));
    let target = match &next_hop {
        Some(next_hop) => Target::NextHopObject(next_hop.clone()),
        None => Target::Device(LinkRef::tun(&settings.device)),
    };
    let default = Route {
        target,
        mtu: Some(mtu),
        advmss: Some(settings.advmss.unwrap_or(mtu - 40)),
        ..route(settings, ANY_V4, table)
    };
    let unreachable = Route {
        target: Target::Unreachable,
        metric: LAST_METRIC,
        ..route(settings, ANY_V4, table)
    };
    let of_our_address = Rule {
        from: host(host_v4),
        to: ANY_V4,
        mark: 0,
        by: None,
        table,
        priority: setup.rule_priority,
    };
    // The host routes the packets of others before they have our address.
    let of_open_connections = Rule {
        from: ANY_V4,
        mark: mark(settings, setup),
        ..of_our_address.clone()
    };
    // What comes back for them has the address of a container when the kernel asks how that would
    // answer: by native IPv4, and not by the device.
    let not_strict = facts.filters_strictly.then(|| {
        Resource::Sysctl(Sysctl {
            link: LinkRef::tun(&settings.device),
            name: RP_FILTER.to_owned(),
            value: "2".to_owned(),
        })
    });
    let of_all = Route {
        table: MAIN_TABLE,
        metric: setup.metric(settings),
        ..default.clone()
    };
    // Connections by the CLAT stay with it, and nothing with its address leaves by another way
    // (RFC 7335).
    let mut plan: Vec<_> = next_hop.map(Resource::NextHopObject).into_iter().collect();
    plan.extend([
        Resource::Route(default),
        Resource::Route(unreachable),
        Resource::Rule(of_our_address),
        Resource::Rule(of_open_connections),
    ]);
    plan.extend(not_strict);
    // The host may be asked from a link by our address: answers are not the NAT64's.
    let own_links = setup.links_v4.iter().map(|network| Route {
        target: Target::Unreachable,
        ..route(
            settings,
            IpPrefix::V4(network.address(), network.length()),
            table,
        )
    });
    plan.extend(own_links.map(Resource::Route));
    plan.extend(setup.default_route.then_some(Resource::Route(of_all)));
    plan
}

/// The next hop of the IPv4 default routes, by the number of the routing table.
pub fn next_hop_object(settings: &Settings, setup: &HostSetup) -> NextHopObject {
    NextHopObject {
        id: setup.table(settings),
        link: LinkRef::tun(&settings.device),
    }
}

/// A route to the TUN device.
fn route(settings: &Settings, destination: IpPrefix, table: u32) -> Route {
    Route {
        destination,
        target: Target::Device(LinkRef::tun(&settings.device)),
        table,
        metric: 0,
        mtu: None,
        advmss: None,
        protocol: Protocol::Clat,
    }
}

fn host(address: impl Into<IpAddr>) -> IpPrefix {
    match address.into() {
        IpAddr::V4(address) => IpPrefix::V4(address, 32),
        IpAddr::V6(address) => IpPrefix::V6(address, 128),
    }
}

/// The rules of ufw(8) that let packets pass, in both directions.
pub fn ufw_rules(device: &str, uplink: &str) -> [Resource; 2] {
    [(device, uplink), (uplink, device)].map(|(from, to)| Resource::UfwRule {
        from: from.to_owned(),
        to: to.to_owned(),
    })
}

/// The IPv6 address behind the device: the CLAT address on the uplink, or a private one that stands
/// for an address of the host.
fn host_v6(setup: &HostSetup) -> Ipv6Addr {
    let [host_v4, _] = setup.addresses;
    if setup.way.is_dedicated() {
        setup.source
    } else {
        private(host_v4)
    }
}

/// The address mapping: programs by their one address, all others by the prefix.
pub fn clat_map(setup: &HostSetup) -> AddressMap {
    clat_map_of(setup.addresses, setup.prefix, host_v6(setup))
}

/// The address mapping by the IPv4 addresses of programs and of the translator itself, the NAT64
/// prefix, and the IPv6 address behind the device.
pub fn clat_map_of(
    [host_v4, own_v4]: [Ipv4Addr; 2],
    prefix: Nat64Prefix,
    host: Ipv6Addr,
) -> AddressMap {
    let own = private(own_v4);
    // Private IPv4 addresses behind a NAT64 are its own business: RFC 6052 section 3.1 is not held.
    let mut map = AddressMap::new(own_v4, own, Some(prefix), false);
    map.set_edge(Edge {
        network: Prefix4::around(CONTINUITY, 29),
        errors_from: host,
    });
    if let Ok(eam) = Eam::new(Prefix4::host(host_v4), Prefix6::host(host)) {
        // Nothing else is in the table, so there is no conflict.
        let _ = map.insert(eam);
    }
    map
}

/// The settings of the translator of a CLAT. `mtu` is that of the uplink, in octets.
pub fn clat_translation(config: &ClatConfig, mtu: u32) -> translate::Settings {
    /// The source of ICMP errors from routers that have no IPv4 address, as traceroute shows it
    /// (RFC 7600 section 4.8).
    const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
    translate::Settings {
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        udp_checksum: UdpChecksum::Calculate,
        icmp_source: Some(DUMMY),
        icmp_node_id: config.icmp_node_id,
        ..translate::Settings::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::{
        clat::{AddressTest, NextHop, Source, prefix::nat64},
        plan::nft,
    };

    const FACTS: Facts = Facts {
        forces_forwarding: true,
        is_router: false,
        has_nft: true,
        matches_sockets: true,
        has_next_hop_object: true,
        filters_strictly: false,
        has_ufw: false,
    };

    const FORWARDING: Forwarding = Forwarding {
        router: None,
        rule_priority: 24999,
    };

    fn setup() -> HostSetup {
        HostSetup {
            uplink: LinkRef::new(2, "eth0"),
            mtu: 1500,
            addresses: [[192, 0, 0, 1].into(), [192, 0, 0, 2].into()],
            prefix: nat64("64:ff9b::".parse().unwrap(), 96).unwrap(),
            source: "2001:db8::1".parse().unwrap(),
            way: Way::Shared(FORWARDING),
            rule_priority: 24999,
            on_link: true,
            default_route: true,
            link_local_default: None,
            links_v4: Vec::new(),
            others: Vec::new(),
        }
    }

    fn commands(settings: &Settings, setup: &HostSetup, facts: Facts) -> Vec<String> {
        clat(settings, setup, facts)
            .iter()
            .map(Resource::command)
            .collect()
    }

    /// The rules where the kernel forwards: none of them is missing where it is needed, and none is
    /// there where it would be in the way.
    #[test]
    fn the_ruleset_is_that_of_the_host() {
        let settings = Settings::default();
        let rules = |setup: &HostSetup, facts| nft::ruleset(&settings, setup, facts);
        let host = rules(&setup(), FACTS);
        for rule in [
            "iifname \"clat\" oif 2 ip6 saddr",
            "snat ip6 to 2001:db8::1",
            "iif 2 oifname != \"clat\" meta nfproto ipv6",
            "oifname != { \"clat\", \"lo\" } ip saddr 192.0.0.1 drop",
            "iifname \"clat\" oifname != \"clat\" ip6 saddr",
            "ct direction original ct reply ip daddr 192.0.0.1 meta mark set",
        ] {
            assert!(host.contains(rule), "{rule}: {host}");
        }
        assert_eq!(nft::rules(&host), 6, "{host}");
        let unasked = "oifname \"clat\" meta nfproto ipv6";
        assert!(host.contains(unasked), "{host}");
        let router = Facts {
            is_router: true,
            ..FACTS
        };
        assert!(!rules(&setup(), router).contains("iif 2 oifname"));
        let older = Facts {
            forces_forwarding: false,
            ..FACTS
        };
        let others = HostSetup {
            others: vec!["clat2".to_owned()],
            ..setup()
        };
        let rule = "iifname != { \"clat\", \"clat2\" } oifname != \"clat\" meta nfproto ipv6";
        assert!(rules(&others, older).contains(rule));
    }

    /// The host gets nothing for an address that is tested but messages about it.
    #[test]
    fn a_tested_address_gets_messages_about_it_only() {
        let test = AddressTest {
            uplink: LinkRef::new(2, "eth0"),
            address: "2001:db8::c1a7".parse().unwrap(),
        };
        let text = nft::test_ruleset(&test);
        assert!(text.contains("ip6 daddr 2001:db8::c1a7 meta l4proto != ipv6-icmp drop"));
        assert_eq!(nft::rules(&text), 1);
    }

    /// Before Linux 6.17 forwarding is the whole host's.
    #[test]
    fn an_older_kernel_forwards_as_a_whole() {
        let facts = Facts {
            forces_forwarding: false,
            ..FACTS
        };
        let commands = commands(&Settings::default(), &setup(), facts);
        let sysctls = commands.iter().filter(|one| one.starts_with("sysctl"));
        assert_eq!(
            sysctls.collect::<Vec<_>>(),
            [
                "sysctl -w net/ipv6/conf/clat/addr_gen_mode=1",
                "sysctl -w net/ipv6/conf/all/forwarding=1",
            ]
        );
    }

    /// What is not to be forwarded is dropped before anything is forwarded. Without nftables the
    /// source of packets cannot be translated.
    #[test]
    fn without_nftables_there_is_an_address_of_its_own_only() {
        let dedicated = HostSetup {
            way: Way::Forwarded(FORWARDING),
            ..setup()
        };
        let place = |commands: &[String], word: &str| {
            let mut commands = commands.iter();
            commands.position(|one| one.contains(word))
        };
        let all = commands(&Settings::default(), &dedicated, FACTS);
        assert!(place(&all, "nft") < place(&all, "force_forwarding"));
        let without = Facts {
            has_nft: false,
            ..FACTS
        };
        let all = commands(&Settings::default(), &dedicated, without);
        assert_eq!(place(&all, "nft"), None);
        assert!(place(&all, "force_forwarding").is_some());
        let all = commands(&Settings::default(), &setup(), without);
        assert!(place(&all, "nft").is_some());
    }

    /// By a packet socket nothing of IPv6 is set up but a route that keeps the kernel out: no
    /// forwarding, no rule, and no table that sees IPv6 packets.
    #[test]
    fn a_packet_socket_needs_nothing_of_the_hosts_ipv6() {
        let router = "fe80::1".parse().unwrap();
        let mac = [2, 0, 0, 0, 0, 1];
        let routers = vec![router];
        for next_hop in [NextHop::Peer, NextHop::Router { mac, routers }] {
            let direct = HostSetup {
                way: Way::Direct(next_hop),
                ..setup()
            };
            let has_ufw = true;
            let facts = Facts { has_ufw, ..FACTS };
            let settings = Settings::default();
            assert_eq!(
                commands(&settings, &direct, facts),
                [
                    "ip tuntap add dev clat mode tun",
                    "sysctl -w net/ipv6/conf/clat/disable_ipv6=1",
                    "ip link set dev clat mtu 1472",
                    "ip link set dev clat up",
                    "ip address add 192.0.0.1/32 dev clat",
                    "nft list table ip xlatd_clat",
                    "ip route add blackhole 2001:db8::1/128 table 255",
                    "ip nexthop add id 49575 dev clat",
                    "ip route add 0.0.0.0/0 nhid 49575 table 49575 mtu 1472 advmss 1432",
                    "ip route add unreachable 0.0.0.0/0 table 49575 metric 4294967295",
                    "ip rule add from 192.0.0.1/32 lookup 49575 priority 24999",
                    "ip rule add from all fwmark 0xc1a7 lookup 49575 priority 24999",
                    "ip route add 0.0.0.0/0 nhid 49575 metric 2048 mtu 1472 advmss 1432",
                ]
            );
            let open = Settings {
                source: Source::Explicit(direct.source),
                ..settings.clone()
            };
            let keeps_out = |settings| ruleset(settings, &direct, facts).contains("ct state new");
            assert!(keeps_out(&settings) && !keeps_out(&open));
        }
    }

    /// RFC 7600 section 4.8: routers on the path are the dummy address, and named unless
    /// `icmp-node-id` says no.
    #[test]
    fn routers_without_an_ipv4_address_are_named() {
        for icmp_node_id in [true, false] {
            let config = ClatConfig {
                icmp_node_id,
                ..ClatConfig::default()
            };
            let settings = clat_translation(&config, setup().mtu);
            assert_eq!(settings.icmp_source, Some([192, 0, 0, 8].into()));
            assert_eq!(settings.icmp_node_id, icmp_node_id);
            assert_eq!(settings.mtu, 1500);
            // RFC 7915 section 4.5, since receivers drop UDP without one (RFC 8200 section 8.1).
            assert_eq!(settings.udp_checksum, UdpChecksum::Calculate);
        }
        // More than an IPv6 packet without jumbograms can have.
        let settings = clat_translation(&ClatConfig::default(), 100_000);
        assert_eq!(settings.mtu, 65535);
        assert!(ClatConfig::default().icmp_node_id);
    }

    /// `forwarding no`: the administrator sees to it, whatever the kernel can do.
    #[test]
    fn forwarding_is_switched_on_where_it_is_asked_for() {
        for (forwarding, forces_forwarding, expected) in [
            (true, true, "force_forwarding"),
            (true, false, "all/forwarding"),
            (false, true, ""),
            (false, false, ""),
        ] {
            let settings = Settings {
                forwarding,
                ..Settings::default()
            };
            let facts = Facts {
                forces_forwarding,
                ..FACTS
            };
            let commands = commands(&settings, &setup(), facts);
            for name in ["force_forwarding", "all/forwarding"] {
                let is_there = commands.iter().any(|one| one.contains(name));
                assert_eq!(is_there, name == expected, "{commands:?}");
            }
        }
    }

    /// A host may be asked from a network on its links by the address of programs: answers do not
    /// go to the NAT64, where addresses of that network are others'.
    #[test]
    fn networks_of_the_host_are_not_behind_the_nat64() {
        let links_v4 = vec![Prefix4::around([192, 168, 1, 0].into(), 24)];
        let setup = HostSetup {
            links_v4,
            ..setup()
        };
        let commands = commands(&Settings::default(), &setup, FACTS);
        let expected = "ip route add unreachable 192.168.1.0/24 table 49575";
        assert!(commands.iter().any(|one| one == expected), "{commands:?}");
    }

    /// RFC 3704 section 2.4: answers to containers come in where strict filtering would drop them.
    #[test]
    fn strict_filtering_is_loosened_where_it_is_in_force() {
        for filters_strictly in [true, false] {
            let facts = Facts {
                filters_strictly,
                ..FACTS
            };
            let commands = commands(&Settings::default(), &setup(), facts);
            let expected = "sysctl -w net/ipv4/conf/clat/rp_filter=2";
            let is_there = commands.iter().any(|one| one == expected);
            assert_eq!(is_there, filters_strictly, "{commands:?}");
        }
    }

    /// Each instance has an address, a table and a metric of its own.
    #[test]
    fn instances_do_not_collide() {
        let settings = Settings::default();
        let other = HostSetup {
            addresses: [[192, 0, 0, 3].into(), [192, 0, 0, 4].into()],
            ..setup()
        };
        let settings2 = Settings {
            device: "clat2".to_owned(),
            ..settings.clone()
        };
        // Also where the second one's addresses are configured.
        let configured = Settings {
            host_v4: [192, 0, 0, 3].into(),
            own_v4: [192, 0, 0, 4].into(),
            ..settings2.clone()
        };
        let first = commands(&settings, &setup(), FACTS);
        for settings in [settings2, configured] {
            for command in commands(&settings, &other, FACTS) {
                let uplinks = command.contains("eth0/force_forwarding");
                assert!(uplinks || !first.contains(&command), "{command}");
            }
        }
        let table_of = |device: &str| {
            let device = device.to_owned();
            let settings = Settings {
                device,
                ..Settings::default()
            };
            ruleset_name(&settings, &setup().way).name
        };
        assert_eq!(table_of("clat"), "xlatd_clat");
        assert_eq!(table_of("clat-1"), "xlatd_clat_2d1");
        assert_eq!(table_of("clat_1"), "xlatd_clat_5f1");
        let chosen = Settings {
            table: 100,
            ..Settings::default()
        };
        assert_eq!(setup().table(&chosen), 100);
        assert_eq!(other.table(&chosen), 102);
        assert!(
            first
                .iter()
                .any(|one| one.contains("nhid 49575 metric 2048"))
        );
    }

    /// `v4-defaultroute-replace`: better than every other.
    #[test]
    fn a_route_that_replaces_has_no_metric() {
        let settings = Settings {
            replaces: true,
            ..Settings::default()
        };
        let commands = commands(&settings, &setup(), FACTS);
        let last = commands.last().unwrap();
        assert_eq!(
            last,
            "ip route add 0.0.0.0/0 nhid 49575 mtu 1472 advmss 1432"
        );
    }

    #[test]
    fn ufw_is_told_of_both_directions() {
        let facts = Facts {
            has_ufw: true,
            ..FACTS
        };
        let commands = commands(&Settings::default(), &setup(), facts);
        for expected in [
            "ufw route prepend allow in on clat out on eth0",
            "ufw route prepend allow in on eth0 out on clat",
        ] {
            assert!(commands.iter().any(|one| one == expected), "{commands:?}");
        }
    }
}
