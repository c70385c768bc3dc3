//! `xlatd doctor` about a CLAT: everything that it can find is broken here, alone, and is what it
//! names first.

use serde_json::Value;

use crate::{
    clat::{ClatNet, PREFIX, SERVER, clat_case},
    doctor::{Said, ask, sh},
    harness::wait_for,
};

fn doctor(net: &ClatNet) -> Said {
    ask(
        &net.host,
        &net.runtime,
        "",
        &format!("clat --ping {SERVER}"),
    )
}

/// Waits until this is what is found first: the CLAT takes notice of some things later.
fn wait_for_key(net: &ClatNet, key: &str) -> Said {
    let said = wait_for(key, || {
        let said = doctor(net);
        println!("{}", said.text);
        (said.keys().first() == Some(&key)).then_some(said)
    });
    assert_eq!(said.status, 1);
    said
}

fn is_well(net: &ClatNet) {
    let said = wait_for("all to be well", || {
        let said = doctor(net);
        println!("{}", said.text);
        said.keys().is_empty().then_some(said)
    });
    assert_eq!(said.status, 0, "{}", said.text);
}

/// It is found by its control socket, in /proc, and by its device.
#[test]
fn a_clat_that_works_is_well() {
    for config in ["", "control-socket=no\n", "clat-v6-addr=shared\n"] {
        clat_case(|net| {
            let _daemon = net.start_up(config);
            is_well(net);
            for arguments in ["", "clat"] {
                let arguments = format!("{arguments} --ping {SERVER}");
                let said = ask(&net.host, &net.runtime, "", &arguments);
                assert_eq!(said.status, 0, "{}", said.text);
                assert_eq!(said.data["device"], "clat");
            }
        });
    }
}

#[test]
fn a_clat_that_does_not_run_is_found() {
    clat_case(|net| {
        let daemon = net.start_up("");
        drop(daemon);
        wait_for_key(net, "not-running");
    });
}

#[test]
fn a_missing_default_route_is_found() {
    clat_case(|net| {
        let _daemon = net.start("");
        wait_for_key(net, "no-ipv6-route");
        net.advertise(&[(PREFIX, 600)]);
        is_well(net);
    });
}

#[test]
fn a_missing_prefix_is_found() {
    for config in ["", "control-socket=no\n"] {
        clat_case(|net| {
            let _daemon = net.start(config);
            net.advertise(&[]);
            net.wait_for_ipv6();
            let said = wait_for_key(net, "no-prefix");
            assert_eq!(said.keys(), ["no-prefix"], "{}", said.text);
            net.advertise(&[(PREFIX, 600)]);
            is_well(net);
        });
    }
}

/// The name of its device is that of another device.
#[test]
fn a_set_up_that_fails_is_found() {
    clat_case(|net| {
        net.host.ip("tuntap add dev clat mode tap");
        let _daemon = net.start("");
        net.advertise(&[(PREFIX, 600)]);
        let said = wait_for_key(net, "set-up-failed");
        assert!(
            said.problem().contains("expected a TUN device"),
            "{}",
            said.text
        );
    });
}

/// Others have all addresses that it may have.
#[test]
fn what_it_waits_for_is_said() {
    clat_case(|net| {
        net.host.ip("link add others type veth peer name ends
            link set others up");
        for last in 0..8 {
            net.host
                .ip(&format!("addr add 192.0.0.{last}/32 dev others"));
        }
        let _daemon = net.start("v4-conncheck-enable=no\n");
        net.advertise(&[(PREFIX, 600)]);
        wait_for("the last of its reasons", || {
            let said = doctor(net);
            let is_it = said.keys() == ["waiting"] && said.problem().contains("192.0.0.0/29");
            is_it.then_some(())
        });
    });
}

#[test]
fn ipv6_that_is_disabled_is_found() {
    clat_case(|net| {
        let _daemon = net.start_up("");
        net.host.sysctl("ipv6/conf/all/disable_ipv6", "1");
        wait_for_key(net, "ipv6-disabled");
    });
}

/// With the commands, packets pass again.
#[test]
fn a_firewall_is_found() {
    clat_case(|net| {
        let _daemon = net.start_up("clat-v6-addr=shared\n");
        sh(
            &net.host,
            "nft add table inet f
            nft add chain inet f forward '{ type filter hook forward priority 0; policy drop; }'",
        );
        let said = wait_for_key(net, "firewall");
        sh(&net.host, &said.commands()[..2].join("\n"));
        is_well(net);
    });
}

/// A firewall that keeps a container from the CLAT, and masquerading that it lacks, are notes: they
/// may be meant. With the commands it has IPv4.
#[test]
fn a_container_without_ipv4_is_noted() {
    clat_case(|net| {
        let container = net.container();
        let _daemon = net.start_up("");
        is_well(net);
        assert_eq!(notes(&doctor(net)), [] as [Note; 0]);
        sh(
            &net.host,
            "nft add table inet f
            nft add chain inet f forward '{ type filter hook forward priority 0; policy drop; }'",
        );
        let gets_out = || {
            let ping = format!("ping -n -c 1 -W 0.3 {SERVER}");
            container.output(&ping).status.success()
        };
        for problem in [
            "inet f forward drops",
            "are to be translated to that of clat",
        ] {
            let commands = wait_for(problem, || {
                assert!(!gets_out());
                let said = doctor(net);
                println!("{}", said.text);
                assert_eq!(said.status, 0, "{}", said.text);
                let mut notes = notes(&said).into_iter();
                Some(notes.find(|note| note.problem.contains(problem))?.commands)
            });
            sh(&net.host, &commands.join("\n"));
        }
        wait_for("the container to get out", || gets_out().then_some(()));
    });
}

#[derive(Debug, PartialEq)]
struct Note {
    problem: String,
    commands: Vec<String>,
}

/// Those about what is behind the host.
fn notes(said: &Said) -> Vec<Note> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let notes = said.data["notes"].as_array().unwrap().iter();
    let notes = notes.filter(|note| note["key"] == "guests");
    notes
        .map(|note| Note {
            problem: text(&note["problem"]),
            commands: note["commands"]
                .as_array()
                .unwrap()
                .iter()
                .map(text)
                .collect(),
        })
        .collect()
}

/// The echo is the proof: the CLAT itself knows it only once packets were sent.
#[test]
fn a_nat64_that_does_not_answer_is_found() {
    for config in ["", "control-socket=no\n"] {
        clat_case(|net| {
            let _daemon = net.start_up(config);
            sh(
                &net.router,
                "nft add table ip6 f
                nft add chain ip6 f forward '{ type filter hook forward priority 0; }'
                nft add rule ip6 f forward ip6 daddr 2001:db8:64::/96 drop",
            );
            let said = wait_for_key(net, "nat64-silent");
            assert!(said.problem().contains(SERVER), "{}", said.text);
            sh(&net.router, "nft delete table ip6 f");
            is_well(net);
        });
    }
}

/// That the host has native IPv4 is no problem, but to be known.
#[test]
fn stepping_aside_is_no_problem() {
    clat_case(|net| {
        let _daemon = net.start("v4-conncheck-delay=0\n");
        net.host.ip("addr add 198.18.0.2/24 dev eth0
            route add default via 198.18.0.1");
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv6();
        let said = wait_for("a note", || {
            let said = doctor(net);
            println!("{}", said.text);
            let has_note = said.data["notes"][0]["key"] == "native-ipv4";
            (has_note && said.keys().is_empty()).then_some(said)
        });
        assert_eq!(said.status, 0, "{}", said.text);
    });
}
