//! What `xlatd explain` says before anything runs is what the daemon then does.

use std::{fs, path::Path, process::Output};

use serde_json::Value;

use crate::{
    clat::{self, clat_case},
    control::wait_for_socket,
    harness::{
        CLIENT, CLIENT4, CONFIG, Daemon, Directory, Net, Netns, SERVER, SERVER6, daemon, xlatd_case,
    },
};

/// Runs `xlatd explain`.
fn run(ns: &Netns, words: &str) -> Output {
    ns.output(&format!("{} explain {words}", daemon().display()))
}

/// The answers of `xlatd explain`.
fn explain(ns: &Netns, words: &str) -> Vec<Value> {
    let output = run(ns, &format!("--json {words}"));
    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {printed}{errors}");
    let answers = printed.lines().map(serde_json::from_str);
    answers.map(Result::unwrap).collect()
}

/// The one answer.
fn explain_one(ns: &Netns, words: &str) -> Value {
    let [answer] = <[Value; 1]>::try_from(explain(ns, words)).unwrap();
    answer
}

/// A ping passes if its round trip was said to be complete. If not, the daemon counts the packet as
/// dropped, for the reason that was said.
fn happens(net: &Net, config: &str, pings: &[(&Netns, &str, &str)]) {
    let directory = Directory::new();
    let path = directory.file("tayga.conf");
    fs::write(&path, config).unwrap();
    let words = |from, to| format!("-c {} {from} {to}", path.display());
    // Nothing runs yet.
    let said = pings
        .iter()
        .map(|(ns, from, to)| explain_one(ns, &words(from, to)));
    let said: Vec<_> = said.collect();
    let mut daemon = net.translate_with(config);
    let mut reasons = Vec::new();
    for ((ns, _, to), said) in pings.iter().zip(&said) {
        if said["is_complete"] == true {
            ns.run(&format!("ping -n -c 1 -W 15 {to}"));
            continue;
        }
        let ping = ns.output(&format!("ping -n -c 1 -W 1 {to}"));
        assert!(!ping.status.success(), "{said}");
        let why = &said["request"]["why"];
        assert!(why["reason"].is_string(), "{said}");
        let word = |name: &str| why[name].as_str().unwrap();
        reasons.push(format!(
            "({} section {})\n",
            word("document"),
            word("section")
        ));
    }
    daemon.stop();
    for reason in &reasons {
        let log = daemon.log();
        assert!(log.contains(reason), "{reason}: {log}");
    }
    net.xlat.ip("link delete nat64");
}

/// Round trips between addresses of the network: those that are complete pass, and the others are
/// dropped for the reason that was said.
#[test]
fn what_was_explained_happens() {
    xlatd_case(|net| {
        let own6 = "2001:db8:ffff::1";
        let loopback = "2001:db8:64::7f00:1";
        happens(
            net,
            CONFIG,
            &[
                (&net.client, CLIENT, SERVER6),
                (&net.client, CLIENT, own6),
                (&net.server, SERVER, CLIENT4),
                (&net.client, CLIENT, loopback),
            ],
        );
        let without_client = CONFIG.replace("map 203.0.113.10", "#");
        happens(net, &without_client, &[(&net.client, CLIENT, SERVER6)]);
        let hairpin = format!("{CONFIG}map 203.0.113.2 2001:db8:60::3\nhairpin no\n");
        happens(
            net,
            &hairpin,
            &[(&net.client, CLIENT, "2001:db8:64::cb00:7106")],
        );
    });
}

/// Each packet of a capture of the device is explained by the one that the daemon sent then.
#[test]
fn what_was_captured_is_explained() {
    xlatd_case(|net| {
        let _translator = net.translate();
        let directory = Directory::new();
        let (capture, config) = (directory.file("capture"), directory.file("tayga.conf"));
        fs::write(&config, CONFIG).unwrap();
        // A request, its translation, a reply, its translation.
        let command = format!(
            "tcpdump -Z root --immediate-mode -c 4 -i nat64 -w {} host {CLIENT} or host {CLIENT4}",
            capture.display()
        );
        let mut tcpdump = Daemon::start_command(&net.xlat, &command);
        tcpdump.prints("listening on nat64");
        net.client
            .run(&format!("ping -n -c 1 -W 15 -s 100 {SERVER6}"));
        assert!(tcpdump.wait().success());

        let words = format!("-c {} --read {}", config.display(), capture.display());
        let packets = explain(&net.xlat, &words);
        assert_eq!(packets.len(), 4, "{packets:?}");
        for pair in [&packets[..2], &packets[2..]] {
            assert_eq!(pair[0]["verdict"], "translated");
            assert_eq!(pair[0]["sent"][0], pair[1]["received"], "{packets:?}");
        }
        assert_eq!(packets[0]["received"]["source"], CLIENT);
        assert_eq!(packets[1]["received"]["destination"], SERVER);
        assert_eq!(packets[3]["received"]["destination"], CLIENT);

        // The same by standard input, for people.
        let script = directory.file("script");
        let (daemon, config, capture) = (daemon(), config.display(), capture.display());
        let line = format!("{} explain -c {config} -r - <{capture}\n", daemon.display());
        fs::write(&script, line).unwrap();
        let text = net.xlat.run(&format!("sh {}", script.display()));
        assert!(
            text.ends_with(
                "4 frames: 4 translated, 0 answered, 0 dropped, 0 without an IP packet\n"
            )
        );
    });
}

/// With `--live` a lease is known, as long as the daemon runs; without it, it is not.
#[test]
fn a_lease_is_explained_while_the_daemon_runs() {
    xlatd_case(|net| {
        let config = CONFIG.replace("map 203.0.113.10", "#") + "dynamic-pool 203.0.113.128/25\n";
        let directory = Directory::new();
        let path = directory.file("tayga.conf");
        fs::write(&path, &config).unwrap();
        let daemon = net.translate_with(&config);
        net.client.run(&format!("ping -n -c 1 -W 15 {SERVER6}"));

        let unknown = explain_one(&net.xlat, &format!("-c {} {CLIENT}", path.display()));
        assert_eq!(unknown["counterpart"], Value::Null);
        let note = unknown["note"].as_str().unwrap();
        assert!(
            note.contains("an address of dynamic-pool 203.0.113.128/25"),
            "{note}"
        );

        let socket = daemon.control_socket("nat64");
        wait_for_socket(&socket);
        let live = |words: &str| explain_one(&net.xlat, &live(&socket, words));
        let known = live(CLIENT);
        let leased = known["counterpart"]["address"].as_str().unwrap().to_owned();
        assert!(leased.starts_with("203.0.113."), "{known}");
        let by = known["counterpart"]["by"]["text"].as_str().unwrap();
        assert_eq!(by, "a lease of dynamic-pool 203.0.113.128/25");
        // It is the client that has it.
        assert_eq!(live(&leased)["counterpart"]["address"], CLIENT);
        assert_eq!(live(&format!("{SERVER} {leased}"))["is_complete"], true);
        net.server.run(&format!("ping -n -c 1 -W 15 {leased}"));
    });
}

fn live(socket: &Path, words: &str) -> String {
    format!("--live {} {words}", socket.display())
}

/// A CLAT that runs knows its prefix and its address; its configuration does not.
#[test]
fn a_clat_is_explained_while_it_runs() {
    clat_case(|net| {
        let nothing = run(&net.host, &format!("clat {}", clat::SERVER));
        assert!(!nothing.status.success());
        let error = String::from_utf8(nothing.stderr).unwrap();
        assert!(
            error.contains("the NAT64 prefix of a CLAT is known only while it runs"),
            "{error}"
        );

        let _daemon = net.start_up("");
        let socket = net.runtime.file("clat.sock");
        let words = live(&socket, &format!("192.0.0.1 {}", clat::SERVER));
        let trip = explain_one(&net.host, &words);
        assert_eq!(trip["is_complete"], true, "{trip}");
        assert_eq!(
            trip["request"]["sent"][0]["destination"],
            clat::PREFIX_SERVER
        );
        let source = trip["request"]["sent"][0]["source"].as_str().unwrap();
        assert!(source.starts_with("2001:db8:6:"), "{trip}");
        let prefix = trip["request"]["destination_by"][0]["text"]
            .as_str()
            .unwrap();
        assert!(prefix.starts_with("prefix 2001:db8:64::/96: "), "{trip}");
    });
}
