//! Which name servers are asked for a NAT64 prefix: those of the uplink before those of the host.

use std::net::{IpAddr, SocketAddr};

use super::{
    LineError,
    resolv_conf::{DNS_PORT, name_server, name_servers, server_at},
};
use crate::clat::Servers;

/// Most servers that are asked at once. An uplink has 2 or 3, and routers announce 16 at most.
const MAX_SERVERS: usize = 32;

/// What is known of the uplink, and what the host has written down about name servers.
pub struct Sources<'a> {
    /// Index of the uplink.
    pub link: u32,
    /// Whether packets of IPv4 leave by the uplink without a CLAT.
    pub has_ipv4: bool,
    /// State of the link: of systemd-networkd (/run/systemd/netif/links/INDEX), and of
    /// systemd-resolved for a link that others manage (/run/systemd/resolve/netif/INDEX).
    pub states: [&'a str; 2],
    /// /etc/resolv.conf.
    pub resolv_conf: &'a str,
}

/// The servers to ask.
#[derive(Debug, PartialEq, Eq)]
pub struct NameServers {
    /// Addresses and ports.
    pub addresses: Vec<SocketAddr>,
    /// Whether they are the uplink's own: to be asked by it, and to be believed that there is no
    /// DNS64. Others, those of resolv.conf, may be anywhere, and of a VPN.
    pub own: bool,
    /// Servers of resolv.conf that cannot be asked, each with the reason.
    pub unusable: Vec<LineError>,
}

impl NameServers {
    /// The configured ones, or else all of the uplink's own, or else those of resolv.conf.
    /// `index_of` gives the index of a device by its name.
    pub fn choose(
        servers: &Servers,
        sources: &Sources<'_>,
        index_of: impl Fn(&str) -> Option<u32>,
    ) -> Self {
        let Sources { link, .. } = *sources;
        let mut addresses = Vec::new();
        let mut add = |address| {
            if !addresses.contains(&address) && addresses.len() < MAX_SERVERS {
                addresses.push(address);
            }
        };
        let (Servers::Configured(named) | Servers::Network(named)) = servers;
        named.iter().for_each(|&one| add(server_at(one, link)));
        if matches!(servers, Servers::Network(_)) {
            let states = sources.states.iter();
            let of_link = states.flat_map(|state| of_state(state, link, &index_of));
            // By IPv6 alone a server of IPv4 would not answer, which counts as a failure.
            let usable = of_link.filter(|one| sources.has_ipv4 || one.is_ipv6());
            usable.for_each(&mut add);
        }
        let own = !addresses.is_empty();
        let mut unusable = Vec::new();
        if !own {
            (addresses, unusable) = name_servers(sources.resolv_conf, link, index_of);
            addresses.truncate(MAX_SERVERS);
        }
        Self {
            addresses,
            own,
            unusable,
        }
    }
}

/// The name servers in a state file of systemd: words of `DNS=` or `SERVERS=`. Words that are none
/// are left out: a program has written them.
fn of_state(text: &str, link: u32, index_of: impl Fn(&str) -> Option<u32>) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let lists = lines.filter(|(key, _)| ["DNS", "SERVERS"].contains(key));
    let words = lists.flat_map(|(_, list)| list.split_ascii_whitespace());
    let servers = words.filter_map(|word| server(word, link, &index_of));
    servers.collect()
}

/// A name server as systemd writes it: `ADDRESS`, `IPV4:PORT` or `[IPV6]:PORT`, and behind that
/// `%ZONE` and `#NAME`, which is for DNS over TLS (systemd.network(5), `DNS=`).
fn server(word: &str, link: u32, index_of: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let word = word.split('#').next()?;
    let (address, zone) = match word.find('%') {
        Some(at) => word.split_at(at),
        None => (word, ""),
    };
    let (address, port) = match address.parse::<SocketAddr>() {
        Ok(with_port) => (with_port.ip(), with_port.port()),
        Err(_) => (address.parse::<IpAddr>().ok()?, DNS_PORT),
    };
    let word = format!("{address}{zone}");
    let mut server = name_server(word.as_bytes(), link, index_of).ok()?;
    server.set_port(port);
    Some(server)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use proptest::prelude::*;

    use super::*;

    const LINK: u32 = 2;

    fn index_of(name: &str) -> Option<u32> {
        (name == "eth1").then_some(3)
    }

    fn of(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|one| one.parse().unwrap()).collect()
    }

    fn network(advertised: &[&str]) -> Servers {
        Servers::Network(advertised.iter().map(|one| one.parse().unwrap()).collect())
    }

    /// As systemd-networkd 252 writes it.
    const NETWORKD: &str = "# This is private data. Do not parse.\n\
        ADMIN_STATE=configured\nOPER_STATE=routable\n\
        NETWORK_FILE=/etc/systemd/network/uplink.network\n\
        DNS=2001:db8::53 192.0.2.53 fe80::1%2\nNTP=2001:db8::123\nDOMAINS=example.net\n";
    /// As systemd-resolved 252 writes it.
    const RESOLVED: &str = "# This is private data. Do not parse.\nLLMNR=yes\nMDNS=no\n\
        SERVERS=2001:db8::54 2001:db8::53\nDOMAINS=~.\n";

    const RESOLV_CONF: &str = "nameserver 10.8.0.1\nnameserver dns.example\n";

    fn choose(servers: &Servers, states: [&str; 2], has_ipv4: bool) -> NameServers {
        let sources = Sources {
            link: LINK,
            has_ipv4,
            states,
            resolv_conf: RESOLV_CONF,
        };
        NameServers::choose(servers, &sources, index_of)
    }

    /// Those of routers first, then those of the link; each once.
    #[test]
    fn all_of_the_uplinks_own_are_asked() {
        let advertised = network(&["fe80::1", "2001:db8::1"]);
        let chosen = choose(&advertised, [NETWORKD, RESOLVED], false);
        let expected = [
            "[fe80::1%2]:53",
            "[2001:db8::1]:53",
            "[2001:db8::53]:53",
            "[2001:db8::54]:53",
        ];
        let expected = NameServers {
            addresses: of(&expected),
            own: true,
            unusable: Vec::new(),
        };
        assert_eq!(chosen, expected);
        let chosen = choose(&network(&[]), ["", RESOLVED], false);
        let expected = of(&["[2001:db8::54]:53", "[2001:db8::53]:53"]);
        assert_eq!((chosen.addresses, chosen.own), (expected, true));
    }

    /// A server that only IPv4 reaches is asked where there is IPv4.
    #[test]
    fn servers_of_ipv4_need_ipv4() {
        let has = |has_ipv4| {
            let chosen = choose(&network(&[]), [NETWORKD, ""], has_ipv4);
            chosen.addresses.iter().any(SocketAddr::is_ipv4)
        };
        assert!(has(true));
        assert!(!has(false));
        let only = choose(&network(&[]), ["DNS=192.0.2.53\n", ""], false);
        assert!(!only.own, "{only:?}");
    }

    #[test]
    fn resolv_conf_is_the_last_resort() {
        let chosen = choose(&network(&[]), ["", "DOMAINS=~.\n"], true);
        assert_eq!(chosen.addresses, of(&["10.8.0.1:53"]));
        assert!(!chosen.own);
        assert_eq!(chosen.unusable.len(), 1);
    }

    #[test]
    fn configured_servers_are_the_only_ones() {
        let configured = Servers::Configured(vec!["192.0.2.1".parse().unwrap()]);
        let chosen = choose(&configured, [NETWORKD, RESOLVED], false);
        assert_eq!(chosen.addresses, of(&["192.0.2.1:53"]));
        assert!(chosen.own);
    }

    #[test]
    fn a_list_has_an_end() {
        let many: Vec<_> = (0..100_u32).map(|at| IpAddr::V4(at.into())).collect();
        let chosen = choose(&Servers::Configured(many), ["", ""], false);
        assert_eq!(chosen.addresses.len(), MAX_SERVERS);
    }

    /// systemd.network(5): "111.222.333.444:9953%ifname#example.com" and
    /// "[1111:2222::3333]:9953%ifname#example.com".
    #[test]
    fn servers_are_read_as_systemd_writes_them() {
        for (word, expected) in [
            ("192.0.2.1", Some("192.0.2.1:53")),
            ("192.0.2.1:9953%eth1#dns.example", Some("192.0.2.1:9953")),
            ("2001:db8::1#dns.example", Some("[2001:db8::1]:53")),
            (
                "[2001:db8::1]:9953%eth1#dns.example",
                Some("[2001:db8::1]:9953"),
            ),
            ("fe80::1", Some("[fe80::1%2]:53")),
            ("fe80::1%eth1", Some("[fe80::1%3]:53")),
            ("[fe80::1]:9953%4", Some("[fe80::1%4]:9953")),
            ("fe80::1%eth9", None),
            ("dns.example", None),
            ("2001:db8::1:", None),
            ("%", None),
            ("#", None),
        ] {
            let expected = expected.map(|one| one.parse().unwrap());
            assert_eq!(server(word, LINK, index_of), expected, "{word}");
        }
        let other_keys = "NTP=192.0.2.1\nOLD_DNS=192.0.2.2\nDNS\nDNS=\n";
        assert_eq!(of_state(other_keys, LINK, index_of), []);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(DNS=)?[0-9a-f:.%#\\[\\] \n]{0,60}") {
            of_state(&text, LINK, index_of);
        }
    }
}
