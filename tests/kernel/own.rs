//! The translator's own addresses answer.

use crate::harness::{CONFIG, case};

/// `ipv4-addr` answers echo requests of IPv4 hosts.
#[test]
fn ipv4_addr_answers_ping() {
    case(|net| {
        let _daemon = net.translate();
        net.server.run("ping -n -c 3 -i 0.01 -W 10 203.0.113.1");
    });
}

/// `ipv6-addr` answers echo requests of IPv6 hosts.
#[test]
fn ipv6_addr_answers_ping() {
    case(|net| {
        let _daemon = net.translate();
        net.client
            .run("ping -n -c 3 -i 0.01 -W 10 2001:db8:ffff::1");
    });
}

/// Where there is no `ipv6-addr`, the translator's is `ipv4-addr` in the prefix.
#[test]
fn ipv6_addr_is_ipv4_addr_in_the_prefix() {
    case(|net| {
        let config = CONFIG.replace("ipv6-addr 2001:db8:ffff::1\n", "");
        let _daemon = net.translate_with(&config);
        net.client
            .run("ping -n -c 3 -i 0.01 -W 10 2001:db8:64::cb00:7101");
    });
}
