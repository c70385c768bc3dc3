//! What routers announce beside NAT64 prefixes: name servers, and networks to form addresses in.

use super::*;

fn address_of(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

impl Rig {
    /// A router announces name servers, with their lifetimes in seconds.
    fn announces_servers(&mut self, link: u32, servers: &[(&str, u64)]) -> Vec<Action> {
        let servers = servers.iter();
        let servers = servers.map(|(address, lifetime)| (address_of(address), seconds(*lifetime)));
        self.tell(Event::Advertisement {
            link,
            router: ROUTER,
            advertisement: RouterAdvertisement {
                dns_servers: servers.collect(),
                ..RouterAdvertisement::default()
            },
        })
    }

    /// The name servers that are asked in the next 30 s, which do not help.
    fn asks(&mut self) -> Vec<String> {
        let done = self.until(self.now + seconds(30));
        let servers = done.into_iter().find_map(|(_, action)| match action {
            Action::Query {
                link: UPLINK,
                servers: Servers::Network(servers),
            } => Some(servers),
            _ => None,
        });
        self.tell(Event::Unresolved { link: UPLINK });
        let servers = servers.unwrap();
        servers.iter().map(ToString::to_string).collect()
    }
}

/// RFC 8106 section 5.1: the name servers of the link are asked for as long as they live; a
/// lifetime of zero ends one.
#[test]
fn announced_name_servers_are_asked() {
    let mut rig = Rig::started();
    let [one, other] = ["2001:db8::53", "2001:db8::54"];
    rig.announces_servers(UPLINK, &[(one, 600), (other, 100)]);
    rig.announces_servers(9, &[("2001:db8::55", 600)]);
    assert_eq!(rig.asks(), [one, other]);
    rig.announces_servers(UPLINK, &[(other, 170)]);
    assert_eq!(rig.asks(), [one, other]);
    rig.announces_servers(UPLINK, &[(one, 0)]);
    assert_eq!(rig.asks(), [other]);
    rig.now = seconds(1030 + 170);
    let query = Action::Query {
        link: UPLINK,
        servers: Servers::Network(Vec::new()),
    };
    assert_eq!(rig.tell(Event::Time), [query]);
}

/// RFC 8106 section 5.3.1: a bounded number is kept, of those that came first; there is room again
/// when they are over.
#[test]
fn no_announced_name_server_pushes_out_another() {
    let mut rig = Rig::started();
    let made_up: Vec<_> = (1..100).map(|last| format!("2001:db8::{last:x}")).collect();
    for server in &made_up {
        rig.announces_servers(UPLINK, &[(server, 100)]);
    }
    assert_eq!(rig.asks(), made_up[..ndp::MAX_OPTIONS]);
    rig.now = seconds(1100);
    rig.tell(Event::Unresolved { link: UPLINK });
    rig.announces_servers(UPLINK, &[("2001:db8:1::53", 600)]);
    assert_eq!(rig.asks(), ["2001:db8:1::53"]);
}

/// RFC 8106 section 5.1: a name server is one up to the end of its lifetime; then it makes room,
/// also if nothing else happens before the next advertisement.
#[test]
fn expired_name_servers_make_room_at_once() {
    let old: Vec<_> = (1..=ndp::MAX_OPTIONS)
        .map(|last| format!("2001:db8::{last:x}"))
        .collect();
    let new = "2001:db8:1::53".to_owned();
    let end = seconds(100);
    for (wait, expected) in [
        (end - Duration::from_nanos(1), old.clone()),
        (end, vec![new]),
    ] {
        let mut rig = Rig::started();
        for server in &old {
            rig.announces_servers(UPLINK, &[(server, 100)]);
        }
        rig.now += wait;
        let servers = expected.iter().map(|one| one.parse().unwrap()).collect();
        let query = Action::Query {
            link: UPLINK,
            servers: Servers::Network(servers),
        };
        let actions = rig.announces_servers(UPLINK, &[("2001:db8:1::53", 600)]);
        assert!(actions.contains(&query), "{actions:?}");
    }
}

/// RFC 4862 section 5.5.3: addresses are formed where the A flag says so, and where the interface
/// identifier of 64 bits fits.
#[test]
fn networks_to_form_addresses_in_are_autonomous_and_of_64_bits() {
    for (autonomous, length, expected) in [
        (true, 64, 1),
        (false, 64, 0),
        (true, 63, 0),
        (true, 65, 0),
        (false, 48, 0),
    ] {
        let mut rig = Rig::of(Settings::default());
        rig.network_is();
        let mut event = announcement("2001:db8:6::");
        if let Event::Advertisement { advertisement, .. } = &mut event {
            let prefix = &mut advertisement.prefixes[0];
            (prefix.autonomous, prefix.length) = (autonomous, length);
        }
        rig.tell(event);
        let count = rig.clat.discovery.networks().len();
        assert_eq!(count, expected, "{autonomous} {length}");
    }
}

/// The MTU that routers announce is that of their link (RFC 4861 section 4.6.4), and their last
/// word.
#[test]
fn an_announced_mtu_is_that_of_the_link() {
    let mut rig = Rig::started();
    for (link, mtu) in [(UPLINK, 1400), (9, 1300), (UPLINK, 1450)] {
        rig.tell(Event::Advertisement {
            link,
            router: ROUTER,
            advertisement: RouterAdvertisement {
                mtu: Some(mtu),
                ..RouterAdvertisement::default()
            },
        });
    }
    assert_eq!(setups(&rig.advertised(&[(OTHER, 600)]))[0].mtu, 1450);
}
