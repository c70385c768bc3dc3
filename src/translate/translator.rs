//! The state of a translator. The two directions are the rules by which it translates.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Settings, fragment::Identification, icmp_limit::IcmpLimits};
use crate::{
    addr::{
        AddressMap,
        pool::{Lent, PoolFull},
    },
    wire::ipv6,
};

/// Translates packets between IPv4 and IPv6.
///
/// Reads no clock and does no I/O: the same packets, times, settings and seed give the same
/// outcomes.
#[derive(Debug)]
pub struct Translator {
    pub(super) settings: Settings,
    pub(super) map: AddressMap,
    pub(super) limits: IcmpLimits,
    pub(super) identification: Identification,
    /// Whether the next hop of IPv6 packets does not answer.
    pub(super) is_unreachable: bool,
    /// Whether another translator lends the addresses of the pool.
    pub(super) is_borrower: bool,
    /// Lease that the last packet asked for, and whether it got one.
    pub(super) lent: Option<(Ipv6Addr, Result<Lent, PoolFull>)>,
}

impl Translator {
    /// `seed` makes unpredictable which identifications are drawn and which destinations share a
    /// rate limit. An MTU below 1280 octets, which IPv6 does not allow, counts as 1280.
    pub fn new(mut settings: Settings, map: AddressMap, seed: u64) -> Self {
        settings.mtu = settings.mtu.max(ipv6::MIN_MTU);
        settings.offlink_mtu = settings.offlink_mtu.max(ipv6::MIN_MTU);
        let limits = IcmpLimits::new(settings.icmp_errors, settings.sharers, seed);
        // Not the seed itself: what one of the two gives away must not help with the other.
        let identification = Identification::new(!seed);
        Self {
            settings,
            map,
            limits,
            identification,
            is_unreachable: false,
            is_borrower: false,
            lent: None,
        }
    }

    /// The number of ICMP messages of its own that were not sent, for a rate limit (`icmp-errors`).
    pub fn suppressed_messages(&self) -> u64 {
        self.limits.suppressed()
    }

    /// The number of translators that share the limits of messages.
    pub fn sharers(&self) -> u32 {
        self.settings.sharers
    }

    /// Sets the MTU of the device, in octets. One below 1280, which IPv6 does not allow, counts as
    /// 1280.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.settings.mtu = mtu.max(ipv6::MIN_MTU);
    }

    /// Sets whether the next hop of IPv6 packets does not answer: packets to it are refused then.
    pub fn set_unreachable(&mut self, is_unreachable: bool) {
        self.is_unreachable = is_unreachable;
    }

    /// Leaves the pool to another translator, which decides about packets that this one has no
    /// lease for: see [`Outcome::HandOver`](super::Outcome::HandOver). The leases of the other one
    /// are to be [followed](AddressMap::follow_lease).
    pub fn set_borrower(&mut self) {
        self.is_borrower = true;
    }

    /// Whether another translator decides about a packet from an IPv6 host without a lease.
    pub(super) fn borrows_for(&self, host: Ipv6Addr) -> bool {
        self.is_borrower && self.map.may_borrow(host)
    }

    /// Whether another translator decides about a packet to an IPv4 address without a lease.
    pub(super) fn borrows(&self, address: Ipv4Addr) -> bool {
        self.is_borrower
            && self
                .map
                .pool()
                .is_some_and(|pool| pool.prefix().contains(address))
    }

    /// Lends an address of the pool to an IPv6 host, if there is a pool, and keeps the result for
    /// [`take_lent`](Self::take_lent).
    pub(super) fn lend(&mut self, host: Ipv6Addr) -> Option<Result<Lent, PoolFull>> {
        let lent = self.map.lend(host)?;
        self.lent = Some((host, lent));
        Some(lent)
    }

    /// Takes the host that got an address of the pool by the last packet, or was refused one.
    pub fn take_lent(&mut self) -> Option<(Ipv6Addr, Result<Lent, PoolFull>)> {
        self.lent.take()
    }

    /// Replaces the address mapping. Leases stay, but for those that the new mapping has no room
    /// for.
    pub fn set_map(&mut self, map: AddressMap) {
        let old = std::mem::replace(&mut self.map, map);
        self.map.take_leases_of(&old);
    }

    /// The address mapping, to lend addresses and to set its time.
    pub fn map_mut(&mut self) -> &mut AddressMap {
        &mut self.map
    }

    /// The address mapping.
    pub fn map(&self) -> &AddressMap {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::time::Instant;

    use super::*;
    use crate::{
        addr::{
            Eam, Edge, Nat64Prefix, Prefix4, Prefix6,
            pool::{Followed, LeaseState},
        },
        translate::{Outcome, Packet},
        wire::checksum::Sum,
    };

    /// UDP without payload of an IPv6 host to 192.0.2.1 in the prefix, with hop limit 64.
    fn from_host(host: Ipv6Addr) -> Vec<u8> {
        let to: Ipv6Addr = "2001:db8:64::c000:201".parse().unwrap();
        let head = [0x60, 0, 0, 0, 0, 8, 17, 64];
        let udp = [0, 7, 0, 7, 0, 8, 0xff, 0xff];
        [&head[..], &host.octets(), &to.octets(), &udp].concat()
    }

    /// The same of 192.0.2.1 to an IPv4 address.
    fn to_address(address: Ipv4Addr) -> Vec<u8> {
        let mut head = vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1];
        head.extend(address.octets());
        let sum = Sum::of(&head).checksum();
        head[10..12].copy_from_slice(&sum.to_be_bytes());
        [&head[..], &[0, 7, 0, 7, 0, 8, 0xff, 0xff]].concat()
    }

    /// A translator that borrows gives away what concerns a lease that it does not have, as it
    /// came, and nothing else; with the lease it translates.
    #[test]
    fn who_borrows_hands_over_what_it_has_no_lease_for() {
        let prefix = Nat64Prefix::new("2001:db8:64::/96".parse().unwrap()).unwrap();
        let own = "2001:db8::46".parse().unwrap();
        let mut map = AddressMap::new([203, 0, 113, 1].into(), own, Some(prefix), false);
        map.set_pool("203.0.113.0/24".parse().unwrap());
        let host: Ipv6Addr = "2001:db8:6::10".parse().unwrap();
        let mut first = Translator::new(Settings::default(), map.clone(), 1);
        let mut other = Translator::new(Settings::default(), map, 2);
        other.set_borrower();
        let mut packet = Packet::new();
        let now = Instant::now();
        let mut translate = |translator: &mut Translator, octets: &[u8]| {
            packet.replace(octets);
            let outcome = translator.translate(&mut packet, now);
            let (is_over, forwards) = match outcome {
                Outcome::HandOver => (true, false),
                Outcome::Forward => (false, true),
                _ => (false, false),
            };
            assert!(!is_over || packet.bytes() == octets, "it is as it came");
            (is_over, forwards)
        };
        assert_eq!(translate(&mut other, &from_host(host)), (true, false));
        assert_eq!(other.take_lent(), None);
        let elsewhere = to_address([203, 0, 113, 77].into());
        assert_eq!(translate(&mut other, &elsewhere), (true, false));
        // Neither is of the pool.
        for own in [to_address([203, 0, 113, 1].into()), from_host(own)] {
            assert!(!translate(&mut other, &own).0);
        }

        assert_eq!(translate(&mut first, &from_host(host)), (false, true));
        assert_eq!(translate(&mut first, &elsewhere), (false, false));
        let (lease, state) = first.map().pool().unwrap().lease_of(host.into()).unwrap();
        assert_eq!(state, LeaseState::Active);
        let state = Some(state);
        other.map_mut().follow_lease(Followed { lease, state });
        assert_eq!(translate(&mut other, &from_host(host)), (false, true));
        assert_eq!(
            translate(&mut other, &to_address(lease.address)),
            (false, true)
        );
    }

    /// RFC 6877: the programs of a CLAT are told that an address cannot be reached, and groups are
    /// not answered (RFC 1122 section 3.2.2). More messages than the limit are counted only.
    #[test]
    fn programs_at_the_edge_are_told_of_illegal_addresses() {
        let prefix = Nat64Prefix::new("2001:db8:64::/96".parse().unwrap()).unwrap();
        let own = "2001:db8::46".parse().unwrap();
        let mut map = AddressMap::new([203, 0, 113, 1].into(), own, Some(prefix), false);
        let host: Ipv4Addr = [192, 0, 2, 1].into();
        let host_v6: Ipv6Addr = "2001:db8::9".parse().unwrap();
        let eam = Eam::new(Prefix4::host(host), Prefix6::host(host_v6)).unwrap();
        map.insert(eam).unwrap();
        map.set_edge(Edge {
            network: Prefix4::around([192, 0, 0, 0].into(), 29),
            errors_from: host_v6,
        });
        let settings = Settings {
            sharers: 3,
            ..Settings::default()
        };
        let mut translator = Translator::new(settings, map, 1);
        assert_eq!(translator.sharers(), 3);
        let now = Instant::now();
        let is_told = |translator: &mut Translator, to: [u8; 4]| {
            let mut packet = Packet::new();
            packet.replace(&to_address(to.into()));
            matches!(translator.translate(&mut packet, now), Outcome::Reply(_))
        };
        for (to, expected) in [
            ([127, 0, 0, 1], true),
            ([0, 0, 0, 1], true),
            ([224, 0, 0, 1], false),
            ([255, 255, 255, 255], false),
        ] {
            assert_eq!(is_told(&mut translator, to), expected, "{to:?}");
        }
        assert_eq!(translator.suppressed_messages(), 0);
        let all = 5000;
        let told = (0..all).filter(|_| is_told(&mut translator, [127, 0, 0, 1]));
        let told = told.count() as u64;
        assert_eq!(translator.suppressed_messages(), all - told);
        assert!(told < all);
    }

    fn map(pool: &str) -> AddressMap {
        let own = "2001:db8:1::1".parse().unwrap();
        let mut map = AddressMap::new([192, 0, 2, 1].into(), own, None, false);
        map.set_pool(pool.parse().unwrap());
        map
    }

    /// A reload leaves hosts their addresses, where these are still in the pool.
    #[test]
    fn leases_outlive_a_reload() {
        let host = "2001:db8:2::1".parse().unwrap();
        let mut translator = Translator::new(Settings::default(), map("198.51.100.0/24"), 1);
        translator.lend(host).unwrap().unwrap();
        let leases = |translator: &Translator| translator.map().leases().collect::<Vec<_>>();
        let before = leases(&translator);
        assert_eq!((before.len(), before[0].host), (1, host));
        translator.set_map(map("198.51.100.0/24"));
        assert_eq!(leases(&translator), before);
        translator.set_map(map("203.0.113.0/24"));
        assert_eq!(leases(&translator), []);
    }
}
