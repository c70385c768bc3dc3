//! The address map: which rule maps an address, and to what.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    eam::{Disagreement, Eam, EamTable},
    pool::{Aged, Followed, Lease, LeaseState, Lent, NotRestored, Pool, PoolFull},
    prefix::Prefix4,
    rfc6052::Nat64Prefix,
    special::{self, Treatment},
};

/// The rule that mapped an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// It is the translator's own address (`ipv4-addr`, `ipv6-addr`).
    Own,
    /// An explicit address mapping (RFC 7757): `map`.
    Explicit,
    /// A lease of `dynamic-pool`.
    Lease,
    /// The translation prefix (RFC 6052): `prefix`.
    Prefix,
}

/// A mapped address, and the rule that mapped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped<A> {
    /// The address in the other family.
    pub address: A,
    /// The rule that gave it.
    pub via: Via,
}

/// The reason that an address has no counterpart in the other family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmapped {
    /// No explicit mapping and no prefix covers it.
    NoMapping,
    /// Never an address of a host on a wire: "this network", loopback, multicast, broadcast,
    /// link-local IPv6, ... (RFC 7915 sections 4.1 and 5.1; [`special`]). Also: its counterpart
    /// would be such an address.
    Illegal,
    /// An IPv4 link-local address is not written with a prefix (RFC 3927 sections 2.7 and 7).
    LinkLocal,
    /// A private address may not be written with 64:ff9b::/96 while `wkpf-strict` is on (RFC 6052
    /// section 3.1).
    WkpfStrict,
}

/// The address mapping of a translator: everything that decides which address is whose.
///
/// Precedence: the translator's own addresses, explicit mappings and the pool by longest match, the
/// prefix ([RFC 7757 section 3.3](https://www.rfc-editor.org/rfc/rfc7757#section-3.3)). A search
/// takes the same time with any number of mappings.
#[derive(Clone, Debug)]
pub struct AddressMap {
    own_v4: Ipv4Addr,
    own_v6: Ipv6Addr,
    explicit: EamTable,
    prefix: Option<Nat64Prefix>,
    wkpf_strict: bool,
    pool: Option<Pool>,
    edge: Option<Edge>,
    /// For the leases: seconds since 1970.
    now: u64,
}

/// The IPv4 side of a translator at the edge of a network that has explicit mappings only: a CLAT
/// (RFC 6877).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Addresses that nobody on the IPv6 side has: those without a mapping are nobody's.
    pub network: Prefix4,
    /// The IPv6 source of ICMP errors that come from this side, where their own has no mapping.
    pub errors_from: Ipv6Addr,
}

impl AddressMap {
    /// Only the translator's own addresses and the prefix. `wkpf_strict` concerns 64:ff9b::/96
    /// alone.
    pub fn new(
        own_v4: Ipv4Addr,
        own_v6: Ipv6Addr,
        prefix: Option<Nat64Prefix>,
        wkpf_strict: bool,
    ) -> Self {
        Self {
            own_v4,
            own_v6,
            explicit: EamTable::default(),
            prefix,
            wkpf_strict,
            pool: None,
            edge: None,
            now: 0,
        }
    }

    /// Maps no IPv4 source by the prefix, which leads to the other side: answers would not come
    /// back.
    pub fn set_edge(&mut self, edge: Edge) {
        self.edge = Some(edge);
    }

    /// Lends addresses of `pool` to IPv6 hosts, but none that is mapped: to be called after all
    /// explicit mappings are in.
    pub fn set_pool(&mut self, pool: Prefix4) {
        let mut pool = Pool::new(pool);
        pool.reserve(Prefix4::host(self.own_v4));
        special::ranges_v4(Treatment::Illegal).for_each(|prefix| pool.reserve(prefix));
        for eam in self.explicit.iter() {
            // A mapping that encloses the pool leaves the pool its addresses, by longest match.
            if eam.v4().length() >= pool.prefix().length() {
                pool.reserve(eam.v4());
            }
        }
        self.pool = Some(pool);
    }

    /// Sets the time for the leases, in seconds since 1970.
    pub fn set_now(&mut self, now: u64) {
        self.now = now;
    }

    /// The time that was [set](Self::set_now).
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Lends an IPv4 address to an IPv6 host that nothing maps; `None` if it can have none, or
    /// there is no pool.
    pub fn lend(&mut self, host: Ipv6Addr) -> Option<Result<Lent, PoolFull>> {
        if self.pool.is_none() || !self.may_have_lease(host) {
            return None;
        }
        Some(self.pool.as_mut()?.lend(host, self.now))
    }

    /// Takes over a lease from before; see [`Pool::restore`].
    pub fn restore_lease(&mut self, lease: Lease, state: LeaseState) -> Result<(), NotRestored> {
        if special::is_illegal_v4(lease.address) {
            return Err(NotRestored::Reserved);
        }
        if !self.may_have_lease(lease.host) {
            return Err(NotRestored::Host);
        }
        let pool = self.pool.as_mut().ok_or(NotRestored::Outside)?;
        pool.restore(lease, state)
    }

    /// Takes over the time and the leases of another map, but for those that have no room here.
    pub fn take_leases_of(&mut self, old: &Self) {
        self.now = old.now;
        let leases = old.pool.iter().flat_map(Pool::leases_and_states);
        for (lease, state) in leases {
            // Refused: the address or the host has a mapping now.
            let _ = self.restore_lease(lease, state);
        }
    }

    /// Whether another map, that lends the same pool, may lend an address to an IPv6 host that
    /// nothing maps here.
    pub fn may_borrow(&self, host: Ipv6Addr) -> bool {
        self.pool.is_some() && self.may_have_lease(host)
    }

    /// See [`Pool::follow`].
    pub fn follow_lease(&mut self, followed: Followed) {
        if let Some(pool) = &mut self.pool {
            pool.follow(followed);
        }
    }

    /// See [`Pool::age`].
    pub fn age_leases(&mut self, most: usize) -> Vec<Aged> {
        let pool = self.pool.as_mut();
        pool.map_or_else(Vec::new, |pool| pool.age(self.now, most))
    }

    /// See [`Pool::leases`].
    pub fn leases(&self) -> impl Iterator<Item = Lease> {
        self.pool.iter().flat_map(Pool::leases)
    }

    fn may_have_lease(&self, host: Ipv6Addr) -> bool {
        host != self.own_v6
            && !special::is_illegal_v6(host)
            && self.explicit.to_v4(host).is_none()
            && !self
                .prefix
                .is_some_and(|prefix| prefix.prefix().contains(host))
    }

    /// Adds an explicit mapping; the mapping that has the same prefix on either side is returned if
    /// there is one, and nothing changes.
    pub fn insert(&mut self, eam: Eam) -> Result<(), Eam> {
        self.explicit.insert(eam)
    }

    /// The IPv6 address of an IPv4 host.
    pub fn to_v6(&self, address: Ipv4Addr) -> Result<Mapped<Ipv6Addr>, Unmapped> {
        if address == self.own_v4 {
            return Ok(Mapped {
                address: self.own_v6,
                via: Via::Own,
            });
        }
        let treatment = special::treatment_v4(address);
        if treatment == Treatment::Illegal {
            return Err(Unmapped::Illegal);
        }
        if let Some(address) = self.explicit_v6(address) {
            if special::is_illegal_v6(address) {
                return Err(Unmapped::Illegal);
            }
            return Ok(Mapped {
                address,
                via: Via::Explicit,
            });
        }
        if let Some(pool) = &self.pool {
            if let Some(address) = pool.to_v6(address, self.now) {
                return Ok(Mapped {
                    address,
                    via: Via::Lease,
                });
            }
            // In the prefix, a packet to it would come back here, and loop until it expires.
            if pool.prefix().contains(address) {
                return Err(Unmapped::NoMapping);
            }
        }
        if treatment == Treatment::LinkLocal && self.prefix.is_some() {
            return Err(Unmapped::LinkLocal);
        }
        if self.edge.is_some_and(|edge| edge.network.contains(address)) {
            return Err(Unmapped::Illegal);
        }
        Ok(Mapped {
            address: self.embed(address)?,
            via: Via::Prefix,
        })
    }

    /// The IPv6 address of an IPv4 host that has sent a packet.
    pub fn source_to_v6(&self, address: Ipv4Addr) -> Result<Ipv6Addr, Unmapped> {
        let Mapped { address, via } = self.to_v6(address)?;
        match self.edge {
            Some(_) if via == Via::Prefix => Err(Unmapped::NoMapping),
            _ => Ok(address),
        }
    }

    /// The IPv4 address of an IPv6 host.
    ///
    /// An address below the prefix is taken for what it embeds, also if that has an explicit
    /// mapping: whether the host may be addressed so is the translator's question (hairpinning and
    /// spoofed sources, RFC 7757 section 4).
    pub fn to_v4(&self, address: Ipv6Addr) -> Result<Mapped<Ipv4Addr>, Unmapped> {
        if address == self.own_v6 {
            return Ok(Mapped {
                address: self.own_v4,
                via: Via::Own,
            });
        }
        if special::is_illegal_v6(address) {
            return Err(Unmapped::Illegal);
        }
        if let Some(address) = self.explicit.to_v4(address) {
            if special::is_illegal_v4(address) {
                return Err(Unmapped::Illegal);
            }
            return Ok(Mapped {
                address,
                via: Via::Explicit,
            });
        }
        let embedded = self
            .prefix
            .as_ref()
            .and_then(|prefix| prefix.extract(address));
        if embedded.is_none()
            && let Some(pool) = &self.pool
            && let Some(address) = pool.to_v4(address, self.now)
        {
            return Ok(Mapped {
                address,
                via: Via::Lease,
            });
        }
        let address = embedded.ok_or(Unmapped::NoMapping)?;
        let via = if address == self.own_v4 {
            Via::Own
        } else {
            Via::Prefix
        };
        match special::treatment_v4(address) {
            Treatment::Illegal => Err(Unmapped::Illegal),
            Treatment::Private if self.is_strict() => Err(Unmapped::WkpfStrict),
            // What has a host is not forwarded: it is answered, or goes back to IPv6 (hairpinning).
            Treatment::LinkLocal if self.is_strict() || !self.has_host(address) => {
                Err(Unmapped::LinkLocal)
            }
            _ => Ok(Mapped { address, via }),
        }
    }

    /// `address` in the prefix, also where it has an explicit mapping (hairpinning, RFC 7757
    /// section 4).
    ///
    /// Illegal and link-local addresses are embedded as well: sources of ICMP errors may be such
    /// (RFC 7915 section 4.1). Only the well-known prefix with `wkpf-strict` takes neither them nor
    /// private ones, since none of them is global (RFC 6052 section 3.1).
    pub fn embed(&self, address: Ipv4Addr) -> Result<Ipv6Addr, Unmapped> {
        let prefix = self.prefix.as_ref().ok_or(Unmapped::NoMapping)?;
        if self.is_strict() && special::treatment_v4(address) != Treatment::Passes {
            return Err(Unmapped::WkpfStrict);
        }
        Ok(prefix.embed(address))
    }

    /// The IPv6 source of an ICMP error from an IPv4 address without a mapping.
    pub fn error_source(&self, address: Ipv4Addr) -> Ipv6Addr {
        match self.edge {
            Some(edge) => edge.errors_from,
            None => self.embed(address).unwrap_or(self.own_v6),
        }
    }

    /// The IPv6 source of ICMP errors of the translator itself.
    pub fn own_error_source(&self) -> Ipv6Addr {
        self.edge.map_or(self.own_v6, |edge| edge.errors_from)
    }

    /// Whether the IPv4 side is at the [edge](Edge): senders there are told of every address that
    /// they cannot reach.
    pub fn is_at_edge(&self) -> bool {
        self.edge.is_some()
    }

    /// The IPv6 host that `address` belongs to by an explicit mapping or a lease.
    pub fn host_v6(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        let lease = || self.pool.as_ref()?.to_v6(address, self.now);
        self.explicit_v6(address).or_else(lease)
    }

    /// The IPv6 address of `address` by an explicit mapping.
    fn explicit_v6(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        self.explicit.to_v6_from(self.shortest(address), address)
    }

    /// The least length of an IPv4 prefix by which `address` is mapped: a shorter one encloses the
    /// pool, and the address is the pool's, by longest match.
    fn shortest(&self, address: Ipv4Addr) -> u8 {
        let pool = self.pool.as_ref().map(Pool::prefix);
        let pool = pool.filter(|pool| pool.contains(address));
        pool.map_or(0, |pool| pool.length())
    }

    /// Whether `address` is the translator's own, or has an explicit mapping or a lease.
    fn has_host(&self, address: Ipv4Addr) -> bool {
        address == self.own_v4 || self.host_v6(address).is_some()
    }

    /// Every explicit mapping, in no particular order.
    pub fn explicit(&self) -> impl Iterator<Item = Eam> {
        self.explicit.iter()
    }

    /// The number of explicit mappings.
    pub fn explicit_count(&self) -> usize {
        self.explicit.len()
    }

    /// The explicit mapping by which an address is translated.
    pub fn explicit_of(&self, address: IpAddr) -> Option<Eam> {
        let eam = self.explicit.of(address)?;
        let shortest = match address {
            IpAddr::V4(address) => self.shortest(address),
            IpAddr::V6(_) => 0,
        };
        (eam.v4().length() >= shortest).then_some(eam)
    }

    /// The pool.
    pub fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }

    /// Whether `inner`, an explicit mapping, lies within another so that an address does not come
    /// back to itself: legal (RFC 7757 section 5), but usually a mistake.
    pub fn disagreement(&self, inner: Eam) -> Option<Disagreement> {
        self.explicit.disagreement(inner)
    }

    /// The translator's own IPv4 address.
    pub const fn own_v4(&self) -> Ipv4Addr {
        self.own_v4
    }

    /// The translator's own IPv6 address.
    pub const fn own_v6(&self) -> Ipv6Addr {
        self.own_v6
    }

    /// The prefix that IPv4 addresses are embedded in.
    pub const fn prefix(&self) -> Option<Nat64Prefix> {
        self.prefix
    }

    /// Whether the prefix embeds global addresses only (RFC 6052 section 3.1).
    fn is_strict(&self) -> bool {
        self.wkpf_strict && self.prefix.is_some_and(|prefix| prefix.is_well_known())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use proptest::prelude::*;

    use super::*;
    use crate::addr::Prefix6;

    const OWN_V4: &str = "192.168.255.1";
    const OWN_V6: &str = "2001:db8:1::1";

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn map(prefix: Option<&str>, wkpf_strict: bool, eams: &[(&str, &str)]) -> AddressMap {
        let prefix = prefix.map(|prefix| Nat64Prefix::new(prefix.parse().unwrap()).unwrap());
        let mut map = AddressMap::new(v4(OWN_V4), v6(OWN_V6), prefix, wkpf_strict);
        for (v4, v6) in eams {
            let eam = Eam::new(v4.parse().unwrap(), v6.parse().unwrap()).unwrap();
            map.insert(eam).unwrap();
        }
        map
    }

    const PREFIX: Option<&str> = Some("2001:db8:64::/96");
    const WELL_KNOWN: Option<&str> = Some("64:ff9b::/96");

    #[test]
    fn mappings_are_counted() {
        let eams = [
            ("192.0.2.1", "2001:db8::1"),
            ("198.51.100.0/24", "2001:db8:1::/120"),
        ];
        assert_eq!(map(None, false, &[]).explicit_count(), 0);
        assert_eq!(map(None, false, &eams).explicit_count(), 2);
    }

    fn to_v6(map: &AddressMap, host: &str, address: &str, via: Via) {
        let address = v6(address);
        assert_eq!(map.to_v6(v4(host)), Ok(Mapped { address, via }), "{host}");
    }

    fn to_v4(map: &AddressMap, host: &str, address: &str, via: Via) {
        let address = v4(address);
        assert_eq!(map.to_v4(v6(host)), Ok(Mapped { address, via }), "{host}");
    }

    /// RFC 6877: a CLAT translates its own host, and nobody else behind it by the prefix, which
    /// leads to the other side. Nobody there has an address of RFC 7335.
    #[test]
    fn the_edge_has_explicit_sources_only() {
        let prefix: Prefix6 = "2001:db8:64::/96".parse().unwrap();
        let prefix = Nat64Prefix::new(prefix).unwrap();
        let [host, own, other]: [Ipv4Addr; 3] =
            ["192.0.0.1", "192.0.0.2", "192.0.0.3"].map(|one| one.parse().unwrap());
        let host_v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let mut map = AddressMap::new(own, "2001:db8::2".parse().unwrap(), Some(prefix), false);
        let eam = Eam::new(Prefix4::host(host), Prefix6::host(host_v6)).unwrap();
        map.insert(eam).unwrap();
        let far: Ipv4Addr = "10.1.0.2".parse().unwrap();
        assert_eq!(map.source_to_v6(far), Ok(prefix.embed(far)));
        assert_eq!(map.error_source(far), prefix.embed(far));
        assert!(!map.is_at_edge());
        map.set_edge(Edge {
            network: Prefix4::around(host, 29),
            errors_from: host_v6,
        });
        assert!(map.is_at_edge());
        assert_eq!(map.source_to_v6(host), Ok(host_v6));
        assert_eq!(map.source_to_v6(far), Err(Unmapped::NoMapping));
        assert_eq!(map.error_source(far), host_v6);
        assert_eq!(map.own_error_source(), host_v6);
        assert_eq!(map.to_v6(far).unwrap().address, prefix.embed(far));
        assert_eq!(map.to_v6(other), Err(Unmapped::Illegal));
        assert_eq!(map.to_v6(own).unwrap().via, Via::Own);
    }

    /// Of a mapping and the pool the longer prefix has an address; the mapping, if it is the same
    /// prefix.
    #[test]
    fn the_pool_is_found_by_longest_match() {
        let eams = [
            ("203.0.0.0/16", "2001:db8:a::/112"),
            ("203.0.113.0/28", "2001:db8:b::/124"),
            ("198.51.100.0/24", "2001:db8:c::/120"),
        ];
        let mut pooled = map(PREFIX, true, &eams);
        pooled.set_pool("203.0.113.0/24".parse().unwrap());
        let host = v6("2001:db8:d::1");
        let lease = pooled.lend(host).unwrap().unwrap().address;
        to_v6(&pooled, &lease.to_string(), "2001:db8:d::1", Via::Lease);
        assert_eq!(pooled.host_v6(lease), Some(host));
        assert_eq!(pooled.explicit_of(lease.into()), None);
        let free = Ipv4Addr::from_bits(lease.to_bits() ^ 1);
        assert_eq!(pooled.to_v6(free), Err(Unmapped::NoMapping));
        to_v6(&pooled, "203.0.113.7", "2001:db8:b::7", Via::Explicit);
        to_v6(&pooled, "203.0.112.7", "2001:db8:a::7007", Via::Explicit);
        let [outer, inner, _] = eams.map(|(v4, _)| Some(v4.parse::<Prefix4>().unwrap()));
        for (address, expected) in [("203.0.112.7", outer), ("203.0.113.7", inner)] {
            let found = pooled.explicit_of(address.parse().unwrap());
            assert_eq!(found.map(|eam| eam.v4()), expected);
        }
        // By the IPv6 prefix it is mapped all the same, as by tayga.
        to_v4(&pooled, "2001:db8:a::7140", "203.0.113.64", Via::Explicit);

        let mut same = map(PREFIX, true, &eams);
        same.set_pool("198.51.100.0/24".parse().unwrap());
        to_v6(&same, "198.51.100.7", "2001:db8:c::7", Via::Explicit);
        assert!(same.lend(host).unwrap().is_err());
    }

    /// A map with the same pool may lend to the same hosts: those that nothing else maps.
    #[test]
    fn who_has_a_mapping_borrows_none() {
        let [mapped, other] = ["2001:db8:2::7", "2001:db8:2::8"].map(v6);
        let mut map = map(PREFIX, true, &[("198.51.100.7", "2001:db8:2::7")]);
        assert!(!map.may_borrow(other), "there is no pool");
        map.set_pool("203.0.113.0/24".parse().unwrap());
        assert!(map.may_borrow(other));
        for host in [mapped, v6(OWN_V6), Ipv6Addr::LOCALHOST] {
            assert!(!map.may_borrow(host), "{host}");
        }
    }

    /// RFC 7757 section 3.3: own addresses, explicit mappings, the prefix.
    #[test]
    fn order_of_precedence() {
        // The mappings also cover the translator's own addresses, the second lies below the prefix.
        let map = map(
            PREFIX,
            true,
            &[
                ("192.168.255.0/24", "2001:db8:1::/120"),
                ("198.51.100.0/24", "2001:db8:64::c633:6400/120"),
                ("198.51.100.7", "2001:db8:2::7"),
            ],
        );
        to_v6(&map, OWN_V4, OWN_V6, Via::Own);
        to_v4(&map, OWN_V6, OWN_V4, Via::Own);
        to_v6(&map, "192.168.255.2", "2001:db8:1::2", Via::Explicit);
        to_v4(&map, "2001:db8:1::2", "192.168.255.2", Via::Explicit);
        to_v6(&map, "198.51.100.7", "2001:db8:2::7", Via::Explicit);
        to_v4(
            &map,
            "2001:db8:64::c633:6408",
            "198.51.100.8",
            Via::Explicit,
        );
        to_v6(&map, "203.0.113.9", "2001:db8:64::cb00:7109", Via::Prefix);
        to_v4(&map, "2001:db8:64::cb00:7109", "203.0.113.9", Via::Prefix);
        assert_eq!(map.to_v4(v6("2001:db8:3::1")), Err(Unmapped::NoMapping));
    }

    /// RFC 7757 section 3.3: without a prefix, only explicit mappings are left.
    #[test]
    fn nothing_to_fall_back_to() {
        let map = map(None, true, &[("192.0.2.1", "2001:db8:2::1")]);
        to_v6(&map, "192.0.2.1", "2001:db8:2::1", Via::Explicit);
        assert_eq!(map.to_v6(v4("192.0.2.2")), Err(Unmapped::NoMapping));
        assert_eq!(map.to_v4(v6("64:ff9b::808:808")), Err(Unmapped::NoMapping));
        assert_eq!(map.embed(v4("192.0.2.1")), Err(Unmapped::NoMapping));
    }

    /// An address in the prefix may be the translator's, or that of a host with an explicit mapping
    /// (hairpinning).
    #[test]
    fn own_and_mapped_addresses_are_in_the_prefix_too() {
        let map = map(PREFIX, true, &[("192.0.2.1", "2001:db8:2::1")]);
        to_v4(&map, "2001:db8:64::c0a8:ff01", OWN_V4, Via::Own);
        to_v4(&map, "2001:db8:64::c000:201", "192.0.2.1", Via::Prefix);
        assert_eq!(map.host_v6(v4("192.0.2.1")), Some(v6("2001:db8:2::1")));
        assert_eq!(map.host_v6(v4("192.0.2.2")), None);
        assert_eq!(map.host_v6(v4(OWN_V4)), None);
        assert_eq!(map.embed(v4("192.0.2.1")), Ok(v6("2001:db8:64::c000:201")));
    }

    /// RFC 7915 sections 4.1 and 5.1: neither an address nor what it maps to is illegal.
    #[test]
    fn illegal_on_either_side() {
        let map = map(
            PREFIX,
            true,
            &[
                ("0.0.0.0/0", "2001:db8:ffff::/96"),
                ("192.0.2.0/24", "fe80::/120"),
                ("198.51.100.0/24", "ff0e::/120"),
            ],
        );
        for host in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "192.0.2.1",
            "198.51.100.1",
        ] {
            assert_eq!(map.to_v6(v4(host)), Err(Unmapped::Illegal), "{host}");
        }
        for host in [
            "::",
            "::1",
            "::ffff:203.0.113.1",
            "fe80::1",
            "ff02::1",
            "ff0e::1",
            "2001:db8:64::7f00:1",
            "2001:db8:64::e000:1",
            "2001:db8:64::ffff:ffff",
            "2001:db8:64::",
            "2001:db8:ffff::7f00:1",
        ] {
            assert_eq!(map.to_v4(v6(host)), Err(Unmapped::Illegal), "{host}");
        }
        to_v6(&map, "169.254.0.1", "2001:db8:ffff::a9fe:1", Via::Explicit);
        to_v4(&map, "2001:db8:64::f000:1", "240.0.0.1", Via::Prefix);
    }

    /// The prefix does not reach link-local addresses (RFC 3927 section 7), but for
    /// those that are the translator's own or have a host; mappings and leases do.
    #[test]
    fn link_local() {
        let eams = [("169.254.0.0/24", "2001:db8:a::/120")];
        for (prefix, wkpf_strict, embedded) in [
            (PREFIX, true, "2001:db8:64::"),
            (WELL_KNOWN, false, "64:ff9b::"),
            (WELL_KNOWN, true, "64:ff9b::"),
        ] {
            let is_strict = prefix == WELL_KNOWN && wkpf_strict;
            let mut map = map(prefix, wkpf_strict, &eams);
            map.set_pool("169.254.1.0/24".parse().unwrap());
            let host = v6("2001:db8:b::1");
            let lease = map.lend(host).unwrap().unwrap().address.to_string();

            for address in ["169.254.2.0", "169.254.169.254", "169.254.255.255"] {
                assert_eq!(map.to_v6(v4(address)), Err(Unmapped::LinkLocal));
                let embedded = v6(&format!("{embedded}{address}"));
                assert_eq!(map.to_v4(embedded), Err(Unmapped::LinkLocal));
                // Sources of ICMP errors.
                let error = if is_strict {
                    Err(Unmapped::WkpfStrict)
                } else {
                    Ok(embedded)
                };
                assert_eq!(map.embed(v4(address)), error);
            }
            to_v6(&map, "169.254.0.7", "2001:db8:a::7", Via::Explicit);
            to_v4(&map, "2001:db8:a::7", "169.254.0.7", Via::Explicit);
            to_v6(&map, &lease, "2001:db8:b::1", Via::Lease);
            to_v4(&map, "2001:db8:b::1", &lease, Via::Lease);
            // Through the prefix they are only for hairpinning.
            for host in ["169.254.0.7", &lease] {
                let embedded = format!("{embedded}{host}");
                if is_strict {
                    assert_eq!(map.to_v4(v6(&embedded)), Err(Unmapped::LinkLocal));
                } else {
                    to_v4(&map, &embedded, host, Via::Prefix);
                }
            }
        }
        assert_eq!(
            map(None, true, &[]).to_v6(v4("169.254.0.1")),
            Err(Unmapped::NoMapping)
        );
        // The translator's own address is itself.
        let prefix = Nat64Prefix::new("2001:db8:64::/96".parse().unwrap()).unwrap();
        let map = AddressMap::new(v4("169.254.0.1"), v6(OWN_V6), Some(prefix), true);
        to_v6(&map, "169.254.0.1", OWN_V6, Via::Own);
        to_v4(&map, OWN_V6, "169.254.0.1", Via::Own);
        to_v4(&map, "2001:db8:64::a9fe:1", "169.254.0.1", Via::Own);
        assert_eq!(
            map.to_v4(v6("2001:db8:64::a9fe:2")),
            Err(Unmapped::LinkLocal)
        );
    }

    /// RFC 7915 section 4.1: sources of ICMP errors are embedded without exception.
    #[test]
    fn embed_takes_illegal_sources() {
        let map = map(PREFIX, true, &[]);
        for (host, address) in [
            ("0.0.0.0", "2001:db8:64::"),
            ("127.0.0.1", "2001:db8:64::7f00:1"),
            ("224.0.0.1", "2001:db8:64::e000:1"),
        ] {
            assert_eq!(map.embed(v4(host)), Ok(v6(address)));
        }
    }

    /// RFC 6052 section 3.1: `wkpf-strict` keeps private addresses out of 64:ff9b::/96.
    #[test]
    fn wkpf_strict() {
        let eams = [("10.0.0.1", "2001:db8:2::1")];
        let strict = map(WELL_KNOWN, true, &eams);
        for (host4, host6) in [
            ("10.0.0.2", "64:ff9b::a00:2"),
            ("100.64.0.1", "64:ff9b::6440:1"),
            ("203.0.113.1", "64:ff9b::cb00:7101"),
        ] {
            assert_eq!(
                strict.to_v6(v4(host4)),
                Err(Unmapped::WkpfStrict),
                "{host4}"
            );
            assert_eq!(
                strict.to_v4(v6(host6)),
                Err(Unmapped::WkpfStrict),
                "{host6}"
            );
            assert_eq!(
                strict.embed(v4(host4)),
                Err(Unmapped::WkpfStrict),
                "{host4}"
            );

            let lax = map(WELL_KNOWN, false, &eams);
            to_v6(&lax, host4, host6, Via::Prefix);
            to_v4(&lax, host6, host4, Via::Prefix);
            assert_eq!(lax.embed(v4(host4)), Ok(v6(host6)));
        }
        // Illegal addresses are not global either.
        assert_eq!(strict.embed(v4("127.0.0.1")), Err(Unmapped::WkpfStrict));
        // Global addresses, and private ones with an explicit mapping, have nothing to do with it.
        to_v6(&strict, "8.8.8.8", "64:ff9b::808:808", Via::Prefix);
        to_v4(&strict, "64:ff9b::808:808", "8.8.8.8", Via::Prefix);
        to_v6(&strict, "10.0.0.1", "2001:db8:2::1", Via::Explicit);
        to_v4(&strict, "2001:db8:2::1", "10.0.0.1", Via::Explicit);
    }

    /// Other prefixes take private addresses, 64:ff9b:1::/48 (RFC 8215) included.
    #[test]
    fn wkpf_strict_is_about_one_prefix() {
        to_v6(
            &map(Some("64:ff9b:1::/96"), true, &[]),
            "10.0.0.1",
            "64:ff9b:1::a00:1",
            Via::Prefix,
        );
        to_v4(
            &map(Some("64:ff9b:1::/48"), true, &[]),
            "64:ff9b:1:a00:0:100::",
            "10.0.0.1",
            Via::Prefix,
        );
    }

    /// RFC 6052 section 2.2: the reserved octet and the suffix are ignored in what is read.
    #[test]
    fn reserved_octet_and_suffix() {
        let mut map = map(Some("2001:db8:64::/64"), true, &[]);
        map.set_pool("192.0.2.0/24".parse().unwrap());
        to_v4(
            &map,
            "2001:db8:64:0:cb:71:900::",
            "203.0.113.9",
            Via::Prefix,
        );
        to_v4(
            &map,
            "2001:db8:64:0:cb:71:9ab:cdef",
            "203.0.113.9",
            Via::Prefix,
        );
        // Whatever the reserved octet is, it is the same host: the translator itself as well, and
        // nobody with a lease.
        to_v4(
            &map,
            "2001:db8:64:0:ffcb:71:900::",
            "203.0.113.9",
            Via::Prefix,
        );
        to_v4(&map, "2001:db8:64:0:1c0:a8ff:100::", OWN_V4, Via::Own);
        assert_eq!(map.lend(v6("2001:db8:64:0:ffcb:71:900::")), None);
    }

    #[test]
    fn settings_can_be_read_back() {
        let map = map(WELL_KNOWN, true, &[("192.0.2.1", "2001:db8:2::1")]);
        assert_eq!((map.own_v4(), map.own_v6()), (v4(OWN_V4), v6(OWN_V6)));
        assert!(map.wkpf_strict && map.prefix().unwrap().is_well_known());
        let explicit: Vec<String> = map.explicit().map(|eam| eam.to_string()).collect();
        assert_eq!(explicit, ["192.0.2.1/32 2001:db8:2::1/128"]);
    }

    proptest! {
        /// There and back gives the host, by the same rule, unless the way there has no answer.
        #[test]
        fn there_and_back(host: u32, near in 0..4_u32) {
            let map = map(PREFIX, true, &[
                ("10.0.0.0/8", "2001:db8:a::/96"),
                ("172.16.0.0/12", "2001:db8:b::/48"),
                ("192.0.2.0/28", "2001:db8:c::/124"),
            ]);
            let near = [0x0a00_0000, 0xac10_0000, 0xc000_0200, 0xc0a8_ff01][near as usize];
            for host in [host, near | host >> 16, near | host >> 28, near] {
                let host = Ipv4Addr::from_bits(host);
                match map.to_v6(host) {
                    Ok(Mapped { address, via }) => {
                        prop_assert_eq!(map.to_v4(address), Ok(Mapped { address: host, via }));
                    }
                    Err(why) => {
                        let expected = match special::treatment_v4(host) {
                            Treatment::Illegal => Some(Unmapped::Illegal),
                            Treatment::LinkLocal => Some(Unmapped::LinkLocal),
                            Treatment::Private | Treatment::Passes => None,
                        };
                        prop_assert_eq!(Some(why), expected);
                    }
                }
            }
        }
    }
}
