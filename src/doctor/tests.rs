//! What follows from facts: a gateway that works, and each of its facts changed.

#![allow(clippy::unwrap_used, reason = "a test that fails to read fails")]

use super::{translator::examine, *};
use crate::{
    addr::{IpPrefix, Prefix6},
    config::Config,
    link::LinkRef,
    plan::{
        Family, Table,
        firewall::{Chain, IpVersion, Manager, Obstacle},
    },
};

fn input(index: u32, name: &str) -> Input {
    Input {
        link: LinkRef::new(index, name),
        forwards_v4: true,
        forces_v6: false,
        rp_filter: 0,
    }
}

/// A gateway with one device for both families, and a default route of each.
fn gateway() -> Facts {
    let text = "tun-device nat64\nipv4-addr 192.168.255.1\nipv6-addr 2001:db8:1::1\n\
                prefix 2001:db8:64::/96\ndynamic-pool 192.168.255.0/24\n\
                map 203.0.113.7 2001:db8:7::7\n";
    let (config, _) = Config::read(text).unwrap();
    let to = |link: LinkRef| Leads::To { link, route: None };
    let looked = |sample: Sample| {
        let is_here = match sample.of {
            Of::Prefix(_) | Of::Pool(_) => true,
            Of::Map(_) => sample.address.is_ipv4(),
            Of::Outside => false,
        };
        let link = match is_here {
            true => LinkRef::new(9, "nat64"),
            false => LinkRef::new(2, "eth0"),
        };
        Looked {
            sample,
            leads: to(link),
            by: None,
        }
    };
    Facts {
        device: "nat64".to_owned(),
        start: "xlatd".to_owned(),
        prefix: config.prefix,
        pool: config.dynamic_pool,
        link: Some(Link {
            mtu: 1500,
            up: true,
            is_in_use: true,
        }),
        input: Some(input(9, "nat64")),
        forwards_v4: true,
        forwards_v6: true,
        ways: vec![Way {
            input: input(2, "eth0"),
            has_v4: true,
            has_v6: true,
            default_v4: true,
            default_v6: true,
            loses_default_v6: false,
        }],
        routes: samples(&config, &config.address_map())
            .into_iter()
            .map(looked)
            .collect(),
        masquerades: Some(true),
        ..Facts::default()
    }
}

fn keys(change: impl FnOnce(&mut Facts)) -> Vec<&'static str> {
    let mut facts = gateway();
    change(&mut facts);
    examine(&facts)
        .findings
        .iter()
        .map(|finding| finding.key)
        .collect()
}

#[test]
fn a_gateway_that_works_has_no_finding() {
    assert_eq!(keys(|_| {}), [""; 0]);
    // Nothing can be said where nothing could be seen.
    assert_eq!(keys(|facts| facts.masquerades = None), [""; 0]);
}

/// What is the cause comes before what follows from it.
#[test]
fn causes_come_first() {
    let found = keys(|facts| {
        facts.link = Some(Link {
            mtu: 1000,
            up: false,
            is_in_use: false,
        });
        facts.disabled.device = true;
        facts.forwards_v6 = false;
        for looked in &mut facts.routes {
            looked.leads = Leads::Nowhere("has no route");
        }
    });
    assert_eq!(
        found,
        [
            "not-running",
            "device-down",
            "mtu",
            "ipv6-disabled",
            "forwarding-ipv6",
            "route",
            "route",
            "route"
        ]
    );
    // It comes with its routes.
    assert_eq!(keys(|facts| facts.link = None), ["not-running"]);
}

/// The device of another program is not free for xlatd, whose process is not another program.
#[test]
fn the_processes_of_a_device_are_told_apart() {
    let process = |pid, program: &str| Process {
        pid,
        program: program.to_owned(),
        unit: None,
        is_xlatd: program == "xlatd",
    };
    for (holders, words) in [
        (vec![process(1, "xlatd")], None),
        (
            vec![process(2, "tayga")],
            Some("nat64 is used by tayga (process 2)"),
        ),
        (
            vec![process(1, "xlatd"), process(2, "tayga")],
            Some("tayga (process 2) has attached to nat64, too"),
        ),
        (
            vec![process(1, "xlatd"), process(3, "xlatd")],
            Some("xlatd (process 3) has attached to nat64, too"),
        ),
    ] {
        let facts = Facts {
            holders,
            ..gateway()
        };
        let findings = examine(&facts).findings;
        let problem = findings.first().map(|finding| &*finding.problem);
        assert_eq!(problem.is_some(), words.is_some(), "{problem:?}");
        assert!(
            problem
                .unwrap_or_default()
                .starts_with(words.unwrap_or_default()),
            "{problem:?}"
        );
    }
    let mut tayga = process(2, "tayga");
    tayga.unit = Some("tayga.service".to_owned());
    let facts = Facts {
        holders: vec![tayga],
        ..gateway()
    };
    let commands = &examine(&facts).findings[0].commands;
    assert_eq!(commands[..], ["systemctl stop tayga.service", "xlatd"]);
}

/// IPv4 is forwarded by device, and IPv6 by `force_forwarding` of both devices at least.
#[test]
fn forwarding_is_by_device() {
    let v4 = ["forwarding-ipv4"];
    let v6 = ["forwarding-ipv6"];
    let tun = |facts: &mut Facts, on| facts.input.as_mut().unwrap().forwards_v4 = on;
    assert_eq!(keys(|facts| tun(facts, false)), v4);
    assert_eq!(keys(|facts| facts.ways[0].input.forwards_v4 = false), v4);
    // The setting of all says nothing once that of each device is another one.
    assert_eq!(keys(|facts| facts.forwards_v4 = false), [""; 0]);
    assert_eq!(keys(|facts| facts.forwards_v6 = false), v6);
    let forced = |facts: &mut Facts| {
        facts.forwards_v6 = false;
        facts.input.as_mut().unwrap().forces_v6 = true;
    };
    assert_eq!(keys(forced), v6);
    assert_eq!(
        keys(|facts| {
            forced(facts);
            facts.ways[0].input.forces_v6 = true;
        }),
        [""; 0]
    );
}

/// A route that goes before the wanted one is to be deleted, and one that does not stays.
#[test]
fn a_route_is_mended_by_what_is_in_its_way() {
    let commands = |length: u8, is_of_address: bool| {
        let mut facts = gateway();
        let prefix: Prefix6 = Prefix6::around("2001:db8:64::".parse().unwrap(), length);
        let route = RouteUsed {
            prefix: IpPrefix::V6(prefix.address(), length),
            text: format!("{prefix} dev eth0"),
            is_of_address,
        };
        let looked = facts.routes.iter_mut();
        let looked = looked.filter(|one| matches!(one.sample.of, Of::Prefix(_)));
        for one in looked {
            one.leads = Leads::To {
                link: LinkRef::new(2, "eth0"),
                route: Some(route.clone()),
            };
        }
        examine(&facts).findings[0].commands.clone()
    };
    let replace = "ip -6 route replace 2001:db8:64::/96 dev nat64";
    assert_eq!(commands(32, false), [replace]);
    assert_eq!(commands(32, true), [replace]);
    assert_eq!(
        commands(96, false),
        ["ip -6 route delete 2001:db8:64::/96 dev eth0", replace]
    );
    for (length, is_of_address) in [(96, true), (112, false), (112, true)] {
        let cuts_off = "this host would be cut off from that network";
        assert_eq!(commands(length, is_of_address), [""; 0], "{cuts_off}");
    }
}

/// An own address of the translator may be the one that this host is reached by; and another
/// translator works.
#[test]
fn no_command_cuts_this_host_off() {
    let mut facts = gateway();
    let own = |device: &str| OwnAddress {
        address: "192.168.255.1/24".parse().unwrap(),
        device: device.to_owned(),
    };
    facts.own = vec![own("eth0"), own("nat64")];
    let findings = examine(&facts).findings;
    let delete = "ip address delete 192.168.255.1/24 dev nat64";
    assert_eq!(findings[0].commands, [delete]);
    let translator = Process {
        pid: 1,
        program: "xlatd".to_owned(),
        unit: None,
        is_xlatd: true,
    };
    let commands = |device: Option<&str>| {
        let mut facts = gateway();
        facts.data_dir = Some(DataDirUse {
            path: "/var/lib/xlatd".to_owned(),
            process: Some(translator.clone()),
            device: device.map(str::to_owned),
        });
        examine(&facts).findings[0].commands.clone()
    };
    assert_eq!(commands(Some("nat65")), [""; 0]);
    assert_eq!(commands(None), ["kill 1", "xlatd"]);
}

/// Commands do as typed, whatever the name of the device is.
#[test]
fn devices_are_quoted_in_commands() {
    let commands = |name: &str| {
        let mut facts = gateway();
        facts.device = name.to_owned();
        facts.link.as_mut().unwrap().up = false;
        facts.input = Some(Input {
            forwards_v4: false,
            ..input(9, name)
        });
        facts.masquerades = Some(false);
        facts.disabled.device = true;
        let findings = examine(&facts).findings;
        let commands = findings.into_iter().flat_map(|one| one.commands);
        commands.collect::<Vec<_>>()
    };
    for wanted in [
        "ip link set dev 'a.$(b)' up",
        "sysctl -w 'net.ipv6.conf.a/$(b).disable_ipv6'=0",
        "sysctl -w 'net.ipv4.conf.a/$(b).forwarding'=1",
        "ip route replace 192.168.255.0/24 dev 'a.$(b)'",
    ] {
        let commands = commands("a.$(b)");
        assert!(commands.iter().any(|one| one == wanted), "{commands:?}");
    }
}

/// RFC 1918 and RFC 6598; and only towards another device.
#[test]
fn private_addresses_are_masqueraded() {
    let unrouted = |facts: &mut Facts| {
        facts.masquerades = Some(false);
        let pool = |one: &&mut Looked| matches!(one.sample.of, Of::Pool(_));
        for one in facts.routes.iter_mut().filter(pool) {
            one.leads = Leads::Nowhere("has no route");
        }
    };
    assert_eq!(keys(unrouted), ["route", "masquerade"], "in one run");
    assert_eq!(
        keys(|facts| facts.masquerades = Some(false)),
        ["masquerade"]
    );
    let found = keys(|facts| {
        facts.masquerades = Some(false);
        facts.pool = None;
        facts
            .routes
            .retain(|looked| !matches!(looked.sample.of, Of::Pool(_)));
    });
    assert_eq!(found, [""; 0], "the map is of a public address");
    // All of them, each once.
    let text = "tun-device nat64\nipv4-addr 192.168.255.1\nipv6-addr 2001:db8:1::1\n\
                dynamic-pool 192.168.255.0/24\nprefix 2001:db8:64::/96\n\
                map 10.0.0.7 2001:db8:7::7\nmap 192.168.255.9 2001:db8:7::9\n";
    let (config, _) = Config::read(text).unwrap();
    let mut facts = gateway();
    facts.masquerades = Some(false);
    let samples = samples(&config, &config.address_map()).into_iter();
    facts.routes.extend(samples.map(|sample| Looked {
        sample,
        leads: Leads::Nowhere("has no route"),
        by: (sample.of != Of::Outside).then(|| "eth0".to_owned()),
    }));
    let findings = examine(&facts).findings;
    let masquerade = findings.iter().find(|one| one.key == "masquerade").unwrap();
    let rule = "ip saddr { 192.168.255.0/24, 10.0.0.7/32 } oifname";
    assert!(masquerade.commands[2].contains(rule), "{masquerade:?}");
}

/// A chain that drops the first packet of connections to the device, or from it, and of eth0.
fn obstacle(version: IpVersion, leaves: bool) -> (Obstacle, String) {
    let table = Table {
        family: Family::Inet,
        name: "f".to_owned(),
    };
    let obstacle = Obstacle {
        chain: Chain::Nftables(table, "forward".to_owned()),
        manager: Manager::Unknown,
        version,
        leaves,
        drops_first: true,
        drops_answers: false,
    };
    (obstacle, "eth0".to_owned())
}

/// Those of the IPv6 hosts of a pool count; of maps it is enough that one direction passes.
#[test]
fn firewalls_count_by_direction() {
    let (of_v6_hosts, of_v4_hosts) = (
        obstacle(IpVersion::V6, false),
        obstacle(IpVersion::V4, false),
    );
    let with = |obstacles: &[&(Obstacle, String)], has_pool: bool| {
        keys(|facts| {
            facts.obstacles = obstacles.iter().map(|one| (*one).clone()).collect();
            facts.pool = facts.pool.filter(|_| has_pool);
        })
    };
    assert_eq!(with(&[&of_v6_hosts], true), ["firewall"]);
    assert_eq!(with(&[&of_v4_hosts], true), [""; 0]);
    assert_eq!(with(&[&of_v6_hosts], false), [""; 0]);
    assert_eq!(with(&[&of_v4_hosts], false), [""; 0]);
    assert_eq!(with(&[&of_v6_hosts, &of_v4_hosts], false), ["firewall"]);
    let [first, second] = [of_v6_hosts.0, of_v4_hosts.0];
    let ways = |second: Vec<Obstacle>| {
        of_all_ways([
            ("eth0".to_owned(), vec![first.clone()]),
            ("eth1".to_owned(), second),
        ])
    };
    assert_eq!(ways(Vec::new()), [], "one is free");
    assert_eq!(ways(vec![second]), [(first.clone(), "eth0".to_owned())]);
}

/// That IPv4 hosts cannot open connections may be meant: it is noted, with the commands, where an
/// explicit mapping says by which address.
#[test]
fn firewalls_before_maps_are_noted() {
    let of_v4_hosts = [
        obstacle(IpVersion::V4, false),
        obstacle(IpVersion::V6, true),
    ];
    let mut facts = gateway();
    facts.obstacles = of_v4_hosts.into();
    let diagnosis = examine(&facts);
    assert_eq!(diagnosis.status(), 0);
    let commands = diagnosis.notes.iter().map(|note| &note.commands[..]);
    assert_eq!(
        commands.collect::<Vec<_>>(),
        [
            ["nft 'insert rule inet f forward oifname \"nat64\" accept'"],
            ["nft 'insert rule inet f forward iifname \"nat64\" accept'"],
        ]
    );
    let text = diagnosis.to_string();
    let note = "To allow that:\n    nft 'insert rule inet f forward oifname \"nat64\" accept'\n";
    assert!(text.contains(note), "{text}");
    facts
        .routes
        .retain(|looked| !matches!(looked.sample.of, Of::Map(_)));
    assert_eq!(examine(&facts).notes, []);
}

/// A VPN that may be reached does not hide that the internet may not. Where there is no pool, the
/// IPv4 hosts may be behind it.
#[test]
fn firewalls_are_on_the_way_to_the_internet() {
    let names = |version, has_pool: bool| {
        let mut facts = gateway();
        facts.pool = facts.pool.filter(|_| has_pool);
        let vpn = Way {
            input: input(3, "wg0"),
            default_v4: false,
            default_v6: false,
            ..facts.ways[0].clone()
        };
        facts.ways.push(vpn);
        let ways = facts.filtered_ways(version).into_iter();
        let names = ways.map(|way| way.input.link.name.to_string());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(IpVersion::V4, true), ["eth0"]);
    assert_eq!(names(IpVersion::V4, false), ["wg0", "eth0"]);
    assert_eq!(names(IpVersion::V6, true), ["wg0", "eth0"]);
}

/// Only what may be mended later is said to be.
#[test]
fn the_start_warns_in_sentences() {
    let mut facts = gateway();
    assert_eq!(translator::warnings(&facts), [""; 0]);
    facts.forwards_v6 = false;
    facts.own = vec![OwnAddress {
        address: "192.168.255.1/24".parse().unwrap(),
        device: "eth0".to_owned(),
    }];
    facts.obstacles = vec![obstacle(IpVersion::V6, false)];
    assert_eq!(
        translator::warnings(&facts),
        [
            "This host does not forward IPv6: packets between the translator and IPv6 hosts are \
             dropped. If that is not set later: sysctl -w net.ipv6.conf.all.forwarding=1",
            "The translator's own address 192.168.255.1 is also an address of eth0: the kernel \
             answers what is for the translator; set another one in the configuration",
            "The nftables chain inet f forward drops forwarded packets of IPv6 between eth0 and \
             nat64. If they do not pass: \
             nft 'insert rule inet f forward oifname \"nat64\" accept'",
        ]
    );
}
