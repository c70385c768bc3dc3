#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::{path::Path, time::Instant};

use super::*;
use crate::config::Config;

const CONFIG: &str = "tun-device nat64\n\
                      ipv4-addr 192.168.255.1\n\
                      ipv6-addr 2001:db8:ffff::1\n\
                      prefix 64:ff9b::/96\n\
                      map 8.8.8.10 2001:db8:6::10\n\
                      map 8.8.8.64/26 2001:db8:7::/64\n";

fn explainer(more: &str) -> Explainer {
    let text = format!("{CONFIG}{more}");
    let (config, _) = Config::read(&text).unwrap();
    let directives = Directives::of_tayga(&config, Path::new("a.conf"), text.as_bytes());
    let map = config.address_map();
    Explainer::new(config.translation, map, directives)
}

fn address(more: &str, address: &str) -> String {
    let about = explainer(more).address(address.parse().unwrap(), Instant::now());
    about.to_string()
}

fn pair(more: &str, from: &str, to: &str) -> String {
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
    match explainer(more).pair(from, to, Instant::now()) {
        Ok(answer) => answer.to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_address_has_its_counterpart_its_directive_and_its_packets() {
    assert_eq!(
        address("", "8.8.8.10"),
        "8.8.8.10 is 2001:db8:6::10 in IPv6\n  \
         by map 8.8.8.10 2001:db8:6::10 (a.conf:5)\n  \
         to 8.8.8.10, as from 198.41.0.4:\n    \
         becomes 64:ff9b::c629:4 -> 2001:db8:6::10\n  \
         from 8.8.8.10, as to 198.41.0.4:\n    \
         becomes 2001:db8:6::10 -> 64:ff9b::c629:4\n  \
         to 2001:db8:6::10, as from 64:ff9b::c629:4:\n    \
         becomes 198.41.0.4 -> 8.8.8.10\n  \
         from 2001:db8:6::10, as to 64:ff9b::c629:4:\n    \
         becomes 8.8.8.10 -> 198.41.0.4\n"
    );
    let by = |text: &str| address("", text).lines().nth(1).unwrap().trim().to_owned();
    assert_eq!(by("192.168.255.1"), "by ipv4-addr 192.168.255.1 (a.conf:2)");
    assert_eq!(
        by("2001:db8:ffff::1"),
        "by ipv6-addr 2001:db8:ffff::1 (a.conf:3)"
    );
    assert_eq!(by("198.41.0.9"), "by prefix 64:ff9b::/96 (a.conf:4)");
    assert_eq!(by("64:ff9b::c629:9"), "by prefix 64:ff9b::/96 (a.conf:4)");
    assert_eq!(
        by("8.8.8.65"),
        "by map 8.8.8.64/26 2001:db8:7::/64 (a.conf:6)"
    );
}

/// RFC 7757 section 3.3.2: surplus bits of an IPv6 address are ignored, and lost.
#[test]
fn an_address_that_does_not_come_back_is_said_to() {
    let text = address("", "2001:db8:7::1");
    let line = "  but 8.8.8.64 is 2001:db8:7::, and not 2001:db8:7::1\n";
    assert!(text.contains(line), "{text}");
    assert!(!address("", "2001:db8:7::").contains("but"));
}

#[test]
fn what_does_not_pass_has_its_rule() {
    for (asked, line) in [
        (
            "10.0.0.1",
            "is dropped: private address in 64:ff9b::/96 (wkpf-strict) (RFC 6052 section 3.1); \
             its sender is told",
        ),
        (
            "127.0.0.1",
            "is dropped: multicast, loopback, link-local or another address that is not forwarded \
             (RFC 7915 section 4.1)",
        ),
        (
            "2001:db8:9::9",
            "is dropped: no mapping for the source (RFC 7757 section 3.3.2); its sender is told",
        ),
        (
            "64:ff9b::8.8.8.10",
            "is dropped: spoofed source: its host has an explicit mapping (RFC 6052 section 5.1)",
        ),
        ("192.168.255.1", "is answered by the translator itself"),
    ] {
        let text = address("", asked);
        assert!(text.lines().any(|found| found.trim() == line), "{text}");
    }
}

#[test]
fn a_round_trip_has_both_headers_and_a_directive_for_each_address() {
    assert_eq!(
        pair("", "2001:db8:6::10", "198.41.0.4"),
        "request: 2001:db8:6::10 -> 64:ff9b::c629:4\n  \
         becomes 8.8.8.10 -> 198.41.0.4\n  \
         source: map 8.8.8.10 2001:db8:6::10 (a.conf:5)\n  \
         destination: prefix 64:ff9b::/96 (a.conf:4)\n\
         reply: 198.41.0.4 -> 8.8.8.10\n  \
         becomes 64:ff9b::c629:4 -> 2001:db8:6::10\n  \
         source: prefix 64:ff9b::/96 (a.conf:4)\n  \
         destination: map 8.8.8.10 2001:db8:6::10 (a.conf:5)\n\
         The reply comes back to the request.\n"
    );
    let surplus = pair("", "2001:db8:7::1", "198.41.0.4");
    let line = "The reply does not belong to the request: expected 64:ff9b::c629:4 -> \
                2001:db8:7::1.\n";
    assert!(surplus.ends_with(line), "{surplus}");
    assert_eq!(
        pair("", "198.41.0.4", "2001:db8:9::9"),
        "2001:db8:9::9 has no address in IPv4 that a packet could be sent to"
    );
}

/// RFC 7757 section 4.2.2: a packet that turns back is translated twice.
#[test]
fn a_hairpin_has_two_directives_for_each_address() {
    let text = pair("", "2001:db8:6::10", "8.8.8.65");
    for lines in [
        "becomes 64:ff9b::808:80a -> 2001:db8:7:0:400::\n",
        "  source: map 8.8.8.10 2001:db8:6::10 (a.conf:5)\n  source: then prefix 64:ff9b::/96 ",
        "  destination: prefix 64:ff9b::/96 (a.conf:4)\n  destination: then map 8.8.8.64/26 ",
        "The reply comes back to the request.\n",
    ] {
        assert!(text.contains(lines), "{text}");
    }
    let refused = pair("hairpin no\n", "2001:db8:6::10", "8.8.8.65");
    let why = "explicitly mapped host addressed by the prefix (hairpin no) (RFC 7757 section 4)";
    assert!(refused.contains(why), "{refused}");
}

/// Which address of the pool a host gets is known when it has it, and not before.
#[test]
fn a_lease_is_known_or_not() {
    let pool = "dynamic-pool 192.168.255.0/24\n";
    let text = address(pool, "2001:db8:9::9");
    let note = "when it sends, it gets an address of dynamic-pool 192.168.255.0/24 (a.conf:7)";
    assert!(text.contains(note), "{text}");
    assert!(
        text.contains(", with any free address of dynamic-pool as its source"),
        "{text}"
    );
    let text = address(pool, "192.168.255.7");
    let note = "it is in dynamic-pool 192.168.255.0/24 (a.conf:7), and no host has it";
    assert!(text.contains(note), "{text}");
    assert!(!address(pool, "ff02::1").contains("dynamic-pool"));

    let mut explainer = explainer(pool);
    let host = "2001:db8:9::9".parse().unwrap();
    let lent = explainer.map.lend(host).unwrap().unwrap().address;
    let about = explainer.address(host.into(), Instant::now()).to_string();
    let lines = format!(
        "{host} is {lent} in IPv4\n  by a lease of dynamic-pool 192.168.255.0/24 (a.conf:7)\n"
    );
    assert!(about.starts_with(&lines), "{about}");
    let trip = explainer.pair(host.into(), [198, 41, 0, 4].into(), Instant::now());
    let trip = trip.unwrap();
    assert!(trip.is_complete && !trip.request.fate.lends);
}

/// Programs read the same: keys, addresses and places.
#[test]
fn an_answer_is_data() {
    let about = explainer("").address("10.0.0.1".parse().unwrap(), Instant::now());
    let data = serde_json::to_value(&about).unwrap();
    assert_eq!(data["counterpart"], serde_json::Value::Null);
    assert_eq!(data["packets"][0]["role"], "to");
    assert_eq!(data["packets"][0]["verdict"], "rejected");
    assert_eq!(data["packets"][0]["why"]["reason"], "wkpf_strict");
    assert_eq!(data["packets"][0]["why"]["document"], "RFC 6052");
    assert_eq!(data["packets"][0]["why"]["section"], "3.1");
    let about = explainer("").address("8.8.8.10".parse().unwrap(), Instant::now());
    let data = serde_json::to_value(&about).unwrap();
    assert_eq!(data["counterpart"]["address"], "2001:db8:6::10");
    assert_eq!(data["counterpart"]["by"]["file"], "a.conf");
    assert_eq!(data["counterpart"]["by"]["line"], 5);
    assert_eq!(
        data["packets"][0]["sent"][0]["destination"],
        "2001:db8:6::10"
    );
    assert_eq!(
        data["packets"][0]["sent"][0]["icmp"],
        serde_json::json!([128, 0])
    );
}
