//! The mappings of a running daemon that are about some addresses, as data: what it takes to
//! explain its answers elsewhere, also where it has 100,000 of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::addr::{AddressMap, Eam, pool::LeaseState};

/// The mappings about some addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mappings {
    /// Explicit mappings, of the configuration and the map-file.
    pub explicit: Vec<Explicit>,
    /// Leases of the pool.
    pub leases: Vec<Lease>,
}

/// An explicit mapping (RFC 7757).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explicit {
    /// Its IPv4 prefix, as `192.0.2.0/24`.
    pub ipv4: String,
    /// Its IPv6 prefix, as `2001:db8::/64`.
    pub ipv6: String,
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address that is lent.
    pub ipv4: Ipv4Addr,
    /// The host that it is lent to.
    pub ipv6: Ipv6Addr,
    /// The second of the last use, since 1970.
    pub last_use: u64,
    /// Whether the host is silent for so long that the address may be lent to another.
    pub dormant: bool,
}

impl Mappings {
    /// The mappings of these addresses, and of those that they stand for by the prefix. To be asked
    /// is no use of a lease.
    pub fn about(addresses: &[IpAddr], map: &AddressMap) -> Self {
        let mut found = Self::default();
        for &address in addresses {
            let embedded = match address {
                IpAddr::V6(address) => map.prefix().and_then(|prefix| prefix.extract(address)),
                IpAddr::V4(_) => None,
            };
            for address in [Some(address), embedded.map(IpAddr::V4)]
                .into_iter()
                .flatten()
            {
                found.add(address, map);
            }
        }
        found
    }

    fn add(&mut self, address: IpAddr, map: &AddressMap) {
        let explicit = map.explicit_of(address).map(Explicit::from);
        if let Some(one) = explicit.filter(|one| !self.explicit.contains(one)) {
            self.explicit.push(one);
        }
        let lease = map.pool().and_then(|pool| pool.lease_of(address));
        let lease = lease.map(|(lease, state)| Lease {
            ipv4: lease.address,
            ipv6: lease.host,
            last_use: lease.last_use,
            dormant: state == LeaseState::Dormant,
        });
        if let Some(one) = lease.filter(|one| !self.leases.contains(one)) {
            self.leases.push(one);
        }
    }
}

impl From<Eam> for Explicit {
    fn from(eam: Eam) -> Self {
        Self {
            ipv4: eam.v4().to_string(),
            ipv6: eam.v6().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;
    use crate::config::Config;

    /// The longest mapping of either side, the lease, and what stands behind an address in the
    /// prefix; nothing about other addresses, and no lease is used by it.
    #[test]
    fn only_what_is_about_the_addresses_is_found() {
        let (config, _) = Config::read(
            "tun-device nat64\nipv4-addr 192.168.255.1\nprefix 2001:db8:1:ffff::/96\n\
             map 192.0.2.0/24 2001:db8:5::/120\nmap 192.0.2.7 2001:db8::7\n\
             map 203.0.113.1 2001:db8::1\ndynamic-pool 192.168.255.0/24\n",
        )
        .unwrap();
        let mut map = config.address_map();
        map.set_now(1000);
        let host: Ipv6Addr = "2001:db8:9::1".parse().unwrap();
        let lent = map.lend(host).unwrap().unwrap().address;
        map.set_now(2000);
        let about = |address: &str| Mappings::about(&[address.parse().unwrap()], &map);
        let explicit = |address| -> Vec<_> {
            let found = about(address).explicit;
            found.into_iter().map(|one| one.ipv4).collect()
        };
        assert_eq!(explicit("192.0.2.7"), ["192.0.2.7/32"]);
        assert_eq!(explicit("192.0.2.8"), ["192.0.2.0/24"]);
        assert_eq!(explicit("2001:db8:5::8"), ["192.0.2.0/24"]);
        assert_eq!(explicit("2001:db8:1:ffff::192.0.2.8"), ["192.0.2.0/24"]);
        assert_eq!(explicit("198.51.100.1"), [""; 0]);
        for address in [lent.to_string(), host.to_string()] {
            let leases = about(&address).leases;
            let [lease] = &leases[..] else {
                panic!("{leases:?}");
            };
            assert_eq!((lease.ipv4, lease.ipv6, lease.last_use), (lent, host, 1000));
        }
    }
}
