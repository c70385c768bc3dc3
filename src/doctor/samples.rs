//! Sample addresses: one for each kind of what a configuration translates, to look where packets to
//! it go.

use std::net::{IpAddr, Ipv4Addr};

use crate::{
    addr::{AddressMap, Eam, Nat64Prefix, Prefix4},
    config::Config,
    plan::firewall::IpVersion,
};

/// An address of the IPv4 internet.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);

/// The most maps of a kind, of hosts or of networks, that are looked at: there may be 100,000s.
const MAX_MAPS: usize = 8;

/// An address of a kind that is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The kind.
    pub of: Of,
    /// The address.
    pub address: IpAddr,
}

/// A kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// [`OUTSIDE`] itself.
    Outside,
    /// [`OUTSIDE`] in `prefix`.
    Prefix(Nat64Prefix),
    /// `dynamic-pool`.
    Pool(Prefix4),
    /// A side of a `map`.
    Map(Eam),
}

impl Sample {
    fn new(of: Of, address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        Self { of, address }
    }

    /// The version of IP of the address.
    pub fn version(&self) -> IpVersion {
        match self.address {
            IpAddr::V4(_) => IpVersion::V4,
            IpAddr::V6(_) => IpVersion::V6,
        }
    }
}

/// The samples of a configuration. `map` has the maps of its map-file, too.
pub fn samples(config: &Config, map: &AddressMap) -> Vec<Sample> {
    let mut samples = vec![Sample::new(Of::Outside, OUTSIDE)];
    let prefix = config.prefix;
    samples.extend(prefix.map(|prefix| Sample::new(Of::Prefix(prefix), prefix.embed(OUTSIDE))));
    samples.extend(config.dynamic_pool.map(|pool| {
        let address = within(pool, config.ipv4_addr);
        Sample::new(Of::Pool(pool), address)
    }));
    let mut maps: Vec<_> = map.explicit().collect();
    maps.sort_by_key(|eam| (eam.v4().address(), eam.v4().length()));
    let (hosts, networks): (Vec<_>, Vec<_>) =
        maps.into_iter().partition(|eam| eam.v4().length() == 32);
    let some = |maps: Vec<Eam>| maps.into_iter().take(MAX_MAPS);
    for eam in some(hosts).chain(some(networks)) {
        let v4 = within(eam.v4(), config.ipv4_addr);
        let of = Of::Map(eam);
        samples.extend([Sample::new(of, v4), Sample::new(of, eam.v6_of(v4))]);
    }
    samples
}

/// An address in the middle of a prefix: those at its ends may be broadcast addresses, or of hosts.
fn within(prefix: Prefix4, own: Ipv4Addr) -> Ipv4Addr {
    if prefix.length() < 8 && prefix.contains(OUTSIDE) {
        return OUTSIDE;
    }
    let [first, last] = [prefix.address(), prefix.last()].map(Ipv4Addr::to_bits);
    let middle = first + (last - first).div_ceil(2);
    match Ipv4Addr::from_bits(middle) {
        middle if middle != own => middle,
        _ => Ipv4Addr::from_bits(middle - 1),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails to read fails")]

    use super::*;

    fn of(text: &str) -> Vec<String> {
        let text = format!("tun-device n\nipv4-addr 192.168.255.128\n{text}");
        let (config, _) = Config::read(text).unwrap();
        let found = samples(&config, &config.address_map());
        found.iter().map(|one| one.address.to_string()).collect()
    }

    /// One of each kind, and none that is the translator's own.
    #[test]
    fn every_kind_has_a_sample() {
        assert_eq!(
            of("prefix 2001:db8:64::/96\ndynamic-pool 192.168.255.0/24\n\
                map 203.0.113.7 2001:db8::7\nmap 198.51.100.0/24 2001:db8:5::/120\n"),
            [
                "1.1.1.1",
                "2001:db8:64::101:101",
                "192.168.255.127", // the middle is the translator's
                "203.0.113.7",
                "2001:db8::7",
                "198.51.100.128",
                "2001:db8:5::80",
            ]
        );
        assert_eq!(
            of("ipv6-addr 2001:db8::1\nmap 0.0.0.0/0 2001:db8:64::/96"),
            ["1.1.1.1", "1.1.1.1", "2001:db8:64::101:101"]
        );
    }

    /// However many there are.
    #[test]
    fn samples_are_few() {
        let maps: String = (0..1000)
            .map(|number| {
                format!(
                    "map 10.0.{}.{} 2001:db8::{number:x}\n",
                    number / 256,
                    number % 256
                )
            })
            .collect();
        let found = of(&format!("prefix 2001:db8:64::/96\n{maps}"));
        assert_eq!(found.len(), 2 + 2 * MAX_MAPS);
    }
}
