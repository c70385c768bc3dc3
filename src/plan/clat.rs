//! What a CLAT does to its host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Facts, Route, Rule, Step, Target,
    nft::{MARK, ruleset, ruleset_name},
};
use crate::{
    addr::{AddressMap, Eam, Prefix4, Prefix6},
    clat::{AddressTest, HostSetup, Settings, private},
    config::IpPrefix,
    translate::{self, UdpChecksum},
};

/// Of the main table of routes (ip-route(8)).
const MAIN: u32 = 254;
/// Of the rule, before those of the main table.
const PRIORITY: u32 = 0x61a7;
/// The last of all routes.
const LAST_METRIC: u32 = u32::MAX;
/// Neighbours, and nobody who is farther away.
const LINK_LOCAL: IpPrefix = IpPrefix::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

/// What is to be so while an address is checked.
pub fn trial(trial: &AddressTest) -> Vec<Step> {
    let (device, index) = &trial.uplink;
    vec![Step::TryAddress {
        device: device.clone(),
        index: *index,
        address: trial.address,
    }]
}

/// Everything that is to be so, in the order in which it is to be done.
pub fn clat(settings: &Settings, setup: &HostSetup, facts: Facts) -> Vec<Step> {
    let device = || settings.device.clone();
    let (uplink, uplink_index) = &setup.uplink;
    let [host_v4, _] = setup.addresses;
    let host = |address: IpAddr| match address {
        IpAddr::V4(address) => IpPrefix::V4(address, 32),
        IpAddr::V6(address) => IpPrefix::V6(address, 128),
    };
    let sysctl = |path: String, index| Step::SetSysctl {
        path,
        value: "1".to_owned(),
        only_if: None,
        index,
    };
    // Another instance has its own.
    let instance = setup.instance(settings);
    let table = settings.table.saturating_add(instance);
    let metric = if settings.replaces {
        0
    } else {
        settings.metric.saturating_add(instance)
    };
    let mut steps = vec![
        Step::CreateDevice { device: device() },
        // No address of its own, so no packets of its own.
        sysctl(
            format!("net/ipv6/conf/{}/addr_gen_mode", settings.device),
            0,
        ),
        Step::SetMtu {
            device: device(),
            mtu: setup.mtu,
        },
        Step::SetUp { device: device() },
        Step::AddAddress {
            device: device(),
            address: host(host_v4.into()),
        },
    ];
    // Before anything is forwarded it is said what not.
    let has_nft = facts.has_nft || !setup.dedicated;
    if has_nft {
        steps.push(Step::LoadRuleset {
            name: ruleset_name(settings),
            text: ruleset(settings, setup, facts),
        });
    }
    if settings.forwarding {
        if facts.forces_forwarding {
            steps.push(sysctl(force_forwarding(&settings.device), 0));
            steps.push(sysctl(force_forwarding(uplink), *uplink_index));
        } else {
            steps.push(Step::ForwardAll);
        }
    }
    if facts.has_ufw {
        steps.extend(allow_in_ufw(&settings.device, uplink));
    }
    let path = |destination, table, metric| Route {
        destination,
        target: Target::Device(device()),
        table,
        metric,
        mtu: None,
        advmss: None,
    };
    let behind = host(host_v6(setup).into());
    steps.push(Step::AddTableRoute(path(behind, MAIN, 0)));
    if setup.dedicated && setup.on_link {
        // Neighbours ask us whether we are still there, and the kernel would forward their question.
        steps.push(Step::AddTableRoute(Route {
            target: Target::Local(uplink.clone(), *uplink_index),
            ..path(behind, table, 0)
        }));
        // Some ask from global addresses, which have to be marked to be known.
        let (from, mark) = if has_nft {
            (IpPrefix::V6(Ipv6Addr::UNSPECIFIED, 0), MARK)
        } else {
            (LINK_LOCAL, 0)
        };
        steps.push(Step::AddRule(Rule {
            from,
            to: behind,
            mark,
            table,
            priority: PRIORITY,
        }));
    }
    let mtu = setup.route_mtu(settings);
    let everywhere = IpPrefix::V4(Ipv4Addr::UNSPECIFIED, 0);
    let default = |table, metric| Route {
        mtu: Some(mtu),
        advmss: Some(settings.advmss.unwrap_or(mtu - 40)),
        ..path(everywhere, table, metric)
    };
    // Connections that we carry go on by us, and nothing with our addresses ever goes elsewhere (RFC 7335).
    steps.push(Step::AddTableRoute(default(table, 0)));
    steps.push(Step::AddTableRoute(Route {
        target: Target::Unreachable,
        ..path(everywhere, table, LAST_METRIC)
    }));
    steps.push(Step::AddRule(Rule {
        from: host(host_v4.into()),
        to: everywhere,
        mark: 0,
        table,
        priority: PRIORITY,
    }));
    if setup.default_route {
        steps.push(Step::AddTableRoute(default(MAIN, metric)));
    }
    steps
}

/// The setting by which packets that come in by a device are forwarded.
pub fn force_forwarding(device: &str) -> String {
    format!("net/ipv6/conf/{device}/force_forwarding")
}

/// What has ufw(8) let our packets pass, in both directions.
pub fn allow_in_ufw(device: &str, uplink: &str) -> [Step; 2] {
    [(device, uplink), (uplink, device)].map(|(from, to)| Step::AllowInUfw {
        from: from.to_owned(),
        to: to.to_owned(),
    })
}

/// The IPv6 address behind the device: our own on the uplink, or a private one that stands for the host's.
fn host_v6(setup: &HostSetup) -> Ipv6Addr {
    let [host_v4, _] = setup.addresses;
    if setup.dedicated {
        setup.source
    } else {
        private(host_v4)
    }
}

/// Who is whom: programs by their one address, and everybody else by the prefix.
pub fn clat_map(setup: &HostSetup) -> AddressMap {
    let [host_v4, own_v4] = setup.addresses;
    let own = private(own_v4);
    // RFC 1918 addresses behind a NAT64 are its own business (CL-17).
    let mut map = AddressMap::new(own_v4, own, Some(setup.prefix), false);
    let host = host_v6(setup);
    if let Ok(eam) = Eam::new(Prefix4::host(host_v4), Prefix6::host(host)) {
        // Nothing else is in the table.
        let _ = map.insert(eam);
    }
    map
}

/// How the translator of a CLAT treats packets.
pub fn clat_translation(setup: &HostSetup) -> translate::Settings {
    /// Who sends ICMP errors that no IPv4 host has sent: a router of the path, seen by traceroute (RFC 7600 section 4.8).
    const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
    translate::Settings {
        mtu: u16::try_from(setup.mtu).unwrap_or(u16::MAX),
        udp_checksum: UdpChecksum::Calculate,
        icmp_source: Some(DUMMY),
        ..translate::Settings::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::clat::prefix::nat64;

    const FACTS: Facts = Facts {
        forces_forwarding: true,
        is_router: false,
        has_nft: true,
        has_ufw: false,
    };

    fn setup() -> HostSetup {
        HostSetup {
            uplink: ("eth0".to_owned(), 2),
            mtu: 1500,
            addresses: [[192, 0, 0, 1].into(), [192, 0, 0, 2].into()],
            prefix: nat64("64:ff9b::".parse().unwrap(), 96).unwrap(),
            source: "2001:db8::1".parse().unwrap(),
            dedicated: false,
            on_link: true,
            default_route: true,
            others: Vec::new(),
        }
    }

    fn commands(settings: &Settings, setup: &HostSetup, facts: Facts) -> Vec<String> {
        clat(settings, setup, facts)
            .iter()
            .map(Step::command)
            .collect()
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

    /// Nothing is forwarded before it is said what not. Without nftables neighbours are known by their addresses, where
    /// packets need no translation of the source.
    #[test]
    fn without_nftables_there_is_an_address_of_its_own_only() {
        let dedicated = HostSetup {
            dedicated: true,
            ..setup()
        };
        let place = |commands: &[String], word: &str| {
            let mut commands = commands.iter();
            commands.position(|one| one.contains(word))
        };
        let all = commands(&Settings::default(), &dedicated, FACTS);
        assert!(place(&all, "nft") < place(&all, "force_forwarding"));
        assert!(place(&all, "fwmark").is_some());
        let without = Facts {
            has_nft: false,
            ..FACTS
        };
        let all = commands(&Settings::default(), &dedicated, without);
        assert_eq!(place(&all, "nft"), None);
        assert!(place(&all, "rule add from fe80::/10 to 2001:db8::1/128").is_some());
        let all = commands(&Settings::default(), &setup(), without);
        assert!(place(&all, "nft").is_some());
    }

    /// Instances that find the addresses of others have tables and metrics of their own, too.
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
        let first = commands(&settings, &setup(), FACTS);
        for command in commands(&settings2, &other, FACTS) {
            let uplinks = command.contains("eth0/force_forwarding");
            assert!(uplinks || !first.contains(&command), "{command}");
        }
        assert!(
            first
                .iter()
                .any(|one| one.contains("table 254 metric 2048"))
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
            "ip route add 0.0.0.0/0 dev clat table 254 mtu 1472 advmss 1432"
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
