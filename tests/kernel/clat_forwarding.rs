//! A CLAT with an IPv6 address of its own beside firewalls that forward nothing, and on a host that
//! is a router: its packets are not forwarded, so none of that is in its way.
//!
//! Rulesets have the form in which the programs load them, cut down to what decides.

use nix::sys::signal::Signal;

use crate::{
    clat::{ClatNet, PREFIX, PREFIX_SERVER, clat_case, with_each_way},
    clat_flow::{Flow, Sockets},
    socket::Capture,
};

/// What nftables.conf(5) of many a host says.
const NFTABLES: &[&str] = &["nft
    flush ruleset;
    table inet filter {
        chain input {
            type filter hook input priority filter; policy drop;
            ct state established,related accept;
            iif lo accept;
            meta l4proto { icmp, ipv6-icmp } accept;
        };
        chain forward {
            type filter hook forward priority filter; policy drop;
        };
    }"];

/// The same, of IPv6 only, and in front of all others.
const NFTABLES_IP6: &[&str] = &["nft
    table ip6 guard {
        chain forward {
            type filter hook forward priority -300; policy drop;
            ct state established,related accept;
        };
    }"];

/// By the older interface of the kernel, which nft(8) does not show.
const IP6TABLES_LEGACY: &[&str] = &["ip6tables-legacy -P FORWARD DROP"];

/// ufw(8), after `ufw enable`.
const UFW: &[&str] = &[
    "nft
    table ip filter {
        chain ufw-before-input {
            iifname lo accept;
            ct state related,established accept;
            ct state invalid drop;
            icmp type { destination-unreachable, time-exceeded, parameter-problem, echo-request }
                accept;
        };
        chain INPUT {
            type filter hook input priority filter; policy drop;
            jump ufw-before-input;
        };
        chain FORWARD {
            type filter hook forward priority filter; policy drop;
            ct state related,established accept;
        };
    }",
    "nft
    table ip6 filter {
        chain ufw6-before-input {
            iifname lo accept;
            rt type 0 drop;
            ct state related,established accept;
            icmpv6 type echo-reply accept;
            ct state invalid drop;
            icmpv6 type { destination-unreachable, packet-too-big, time-exceeded,
                parameter-problem, echo-request } accept;
            icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit,
                nd-neighbor-advert } ip6 hoplimit 255 accept;
        };
        chain ufw6-before-forward {
            rt type 0 drop;
            ct state related,established accept;
            icmpv6 type { destination-unreachable, packet-too-big, time-exceeded,
                parameter-problem, echo-request, echo-reply } accept;
        };
        chain INPUT {
            type filter hook input priority filter; policy drop;
            jump ufw6-before-input;
        };
        chain FORWARD {
            type filter hook forward priority filter; policy drop;
            jump ufw6-before-forward;
        };
    }",
];

/// Docker 28, with a network that has IPv6.
const DOCKER: &[&str] = &[
    "nft
    table ip filter {
        chain DOCKER-USER { };
        chain DOCKER-FORWARD { iifname docker0 accept; };
        chain FORWARD {
            type filter hook forward priority filter; policy drop;
            jump DOCKER-USER;
            jump DOCKER-FORWARD;
        };
    }",
    "nft
    table ip6 filter {
        chain DOCKER-USER { };
        chain DOCKER-FORWARD { iifname docker0 accept; };
        chain FORWARD {
            type filter hook forward priority filter; policy drop;
            jump DOCKER-USER;
            jump DOCKER-FORWARD;
        };
    }",
    "sysctl -qw net.ipv6.conf.eth0.accept_ra=2",
    "sysctl -qw net.ipv6.conf.all.forwarding=1",
];

/// firewalld, zone public, with `IPv6_rpfilter=strict`.
const FIREWALLD: &[&str] = &["nft
    table inet firewalld {
        chain filter_PREROUTING {
            type filter hook prerouting priority filter + 10;
            icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept;
            meta nfproto ipv6 fib saddr . mark . iif oif missing drop;
        };
        chain filter_IN_public {
            tcp dport 22 accept;
            ip6 daddr fe80::/64 udp dport 546 accept;
            meta l4proto { icmp, ipv6-icmp } accept;
        };
        chain filter_INPUT {
            type filter hook input priority filter + 10;
            ct state { established, related } accept;
            ct status dnat accept;
            iifname lo accept;
            ct state invalid drop;
            goto filter_IN_public;
            reject with icmpx admin-prohibited;
        };
        chain filter_FORWARD {
            type filter hook forward priority filter + 10;
            ct state { established, related } accept;
            ct status dnat accept;
            iifname lo accept;
            ct state invalid drop;
            reject with icmpx admin-prohibited;
        };
    }"];

/// A host that drops what it did not expect: invalid for conntrack, or from where it would not
/// send.
const STRICT: &[&str] = &[
    "sysctl -qw net.ipv4.conf.all.rp_filter=1",
    "nft
    table ip6 rpfilter {
        chain prerouting {
            type filter hook prerouting priority raw;
            icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept;
            fib saddr . mark . iif oif missing drop;
        };
    }",
    "nft
    table inet strict {
        chain prerouting {
            type filter hook prerouting priority mangle;
            icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept;
            ct state invalid drop;
        };
        chain input {
            type filter hook input priority filter; policy drop;
            ct state established,related accept;
            iif lo accept;
            meta l4proto ipv6-icmp ip6 hoplimit 255 accept;
        };
        chain forward {
            type filter hook forward priority filter; policy drop;
            ct state established,related accept;
            ct state invalid drop;
        };
        chain output {
            type filter hook output priority filter;
            meta l4proto != ipv6-icmp ct state invalid drop;
        };
    }",
];

/// IPv4 goes on when the firewall comes, and begins where it is there, also after kill -9; and what
/// is left in the end is the firewall alone.
fn ipv4_goes_on_beside(firewall: &[&str]) {
    let load = |net: &ClatNet| {
        for command in firewall {
            net.host.run(command);
        }
    };
    clat_case(|net| {
        let mut daemon = net.start_up("");
        let flow = Flow::open(net, Sockets::Plain);
        load(net);
        flow.goes_on();
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            daemon.signal(signal);
            daemon.wait();
            daemon = net.start("");
            net.advertise(&[(PREFIX, 600)]);
            flow.goes_on();
        }
    });
    clat_case(|net| {
        net.advertise(&[]);
        net.wait_for_ipv6();
        load(net);
        let before = net.state();
        let mut daemon = net.start_up("");
        Flow::open(net, Sockets::Plain).goes_on();
        // The router has to find the CLAT's address again.
        net.router.ip("neigh flush dev host");
        Flow::open(net, Sockets::Plain).goes_on();
        daemon.stop();
        assert_eq!(net.state(), before, "{}", daemon.log());
    });
}

#[test]
fn nftables() {
    ipv4_goes_on_beside(NFTABLES);
}

#[test]
fn nftables_ip6() {
    ipv4_goes_on_beside(NFTABLES_IP6);
}

#[test]
fn ip6tables_legacy() {
    ipv4_goes_on_beside(IP6TABLES_LEGACY);
}

#[test]
fn ufw() {
    ipv4_goes_on_beside(UFW);
}

#[test]
fn docker() {
    ipv4_goes_on_beside(DOCKER);
}

#[test]
fn firewalld() {
    ipv4_goes_on_beside(FIREWALLD);
}

#[test]
fn a_strict_host() {
    ipv4_goes_on_beside(STRICT);
}

/// On a host that forwards everything, too, what comes to the CLAT address is for the CLAT alone:
/// it is neither sent back to the router nor answered with an ICMPv6 error.
#[test]
fn a_router_does_not_forward_what_is_the_clats() {
    with_each_way(|net, config| {
        net.host.sysctl("ipv6/conf/eth0/accept_ra", "2");
        net.host.sysctl("ipv6/conf/all/forwarding", "1");
        net.host.sysctl("ipv4/ip_forward", "1");
        net.advertise(&[]);
        net.wait_for_ipv6();
        let before = net.state();
        let mut daemon = net.start_up(config);
        let at_router = Capture::start(&net.router);
        net.wait_for_ipv4();
        let echo = at_router.ipv6("a packet of the CLAT", |packet| {
            packet.destination.to_string() == PREFIX_SERVER
        });
        let address = echo.source;
        // A late answer to a socket that is closed may be refused.
        net.router.run(&format!(
            "nft table ip6 watch {{
                chain prerouting {{
                    type filter hook prerouting priority raw;
                    iifname host ip6 daddr {address} counter;
                    icmpv6 type destination-unreachable icmpv6 code port-unreachable accept;
                    iifname host ip6 saddr != fe80::/10 icmpv6 type {{ destination-unreachable,
                        packet-too-big, time-exceeded, parameter-problem }} counter;
                }};
            }}"
        ));
        Flow::open(net, Sockets::Plain).goes_on();
        // Nor where the router has to find it again.
        net.router.ip("neigh flush dev host");
        Flow::open(net, Sockets::Plain).goes_on();
        let counters = net.router.run("nft list table ip6 watch");
        let seen = counters.matches("counter packets").count();
        let none = counters.matches("counter packets 0 bytes 0").count();
        assert_eq!((seen, none), (2, 2), "{counters}");
        daemon.stop();
        assert_eq!(net.state(), before, "{}", daemon.log());
    });
}
