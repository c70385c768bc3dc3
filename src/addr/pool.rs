//! The dynamic pool: IPv4 addresses lent to IPv6 hosts, as tayga lends them.
//!
//! A lease is active for 124 minutes after its last use. Then it is dormant: packets to the address
//! reach no host, but the host gets the same address again when it comes back. After 14 days, or
//! when all other addresses are taken, a dormant lease is freed, the least recently used first.
//!
//! Times are seconds since 1970, as in the file of the leases; the time is an argument.

use std::{
    cell::Cell,
    collections::{BTreeSet, HashMap},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{free_addresses::FreeAddresses, prefix::Prefix4};

/// A lease is active until this long after its last use, in seconds: 124 minutes, tayga's figure.
pub const ACTIVE_FOR: u64 = 7440;
/// A lease is kept until this long after its last use, in seconds: 14 days, tayga's figure.
pub const KEPT_FOR: u64 = 14 * 24 * 60 * 60;

/// Leases of one IPv4 prefix.
///
/// A search costs the same with any number of leases. To lend or to give up an address costs a few
/// steps in trees, also in a pool of four million.
#[derive(Clone, Debug)]
pub struct Pool {
    prefix: Prefix4,
    /// The number of addresses that can be lent.
    size: u64,
    free: FreeAddresses,
    // Hashed with keys that cannot be guessed: the addresses come from the wire.
    leases: HashMap<u32, Entry>,
    addresses: HashMap<Ipv6Addr, u32>,
    /// Active leases by the time of their use when that was last looked at: it may have been used
    /// since.
    active: BTreeSet<(u64, u32)>,
    /// Dormant leases by their last use.
    dormant: BTreeSet<(u64, u32)>,
}

/// A lease, as it is kept over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address that is lent.
    pub address: Ipv4Addr,
    /// The host that it is lent to.
    pub host: Ipv6Addr,
    /// The second of the last use, since 1970.
    pub last_use: u64,
}

/// Whether a host can be reached by its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Packets to the address are for the host.
    Active,
    /// The address is kept for the host until it sends again.
    Dormant,
}

impl LeaseState {
    /// The state of a lease by the time since its last use.
    pub const fn by_age(last_use: u64, now: u64) -> Self {
        if last_use + ACTIVE_FOR <= now {
            Self::Dormant
        } else {
            Self::Active
        }
    }
}

/// A lease as another pool has it now, for one that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The lease.
    pub lease: Lease,
    /// Its state; `None`: it has ended.
    pub state: Option<LeaseState>,
}

/// A lease in the pool, by its address.
#[derive(Clone, Debug)]
struct Entry {
    host: Ipv6Addr,
    last_use: Cell<u64>,
    /// The time under which it is in `active` or `dormant`.
    listed: u64,
    state: LeaseState,
}

/// A lease that has just been made, or made active again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lent {
    /// The address.
    pub address: Ipv4Addr,
    /// The origin of the lease.
    pub origin: Origin,
}

/// The origin of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The address was free.
    Assigned,
    /// The host had it before.
    Reactivated,
    /// Another host, which has not been heard for longer than any other, had it before.
    Reassigned {
        /// The host that lost it.
        from: Ipv6Addr,
    },
}

/// The reason that a lease is not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRestored {
    /// Its address is not in the pool.
    Outside,
    /// Its address or its host has a lease already.
    Duplicate,
    /// Its address has an explicit mapping, or is the translator's or the network address.
    Reserved,
    /// Its host is none that can have a lease: it has a mapping, or is in the prefix, or no host
    /// has such an address.
    Host,
}

impl fmt::Display for NotRestored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outside => "the IPv4 address is not in dynamic-pool",
            Self::Duplicate => "one of the addresses has a lease already",
            Self::Reserved => "the IPv4 address is not lent to anybody",
            Self::Host => "no lease is for this IPv6 address",
        })
    }
}

/// Every address of the pool is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolFull;

/// The change of a lease with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aged {
    /// It is dormant now.
    Dormant {
        /// The host of the lease.
        host: Ipv6Addr,
        /// The address that is kept for the host.
        address: Ipv4Addr,
    },
    /// It has ended.
    Freed {
        /// The host of the lease that ended.
        host: Ipv6Addr,
        /// The address that is free again.
        address: Ipv4Addr,
    },
}

impl Pool {
    /// Every address of `prefix` but the first, which tayga does not lend either.
    pub fn new(prefix: Prefix4) -> Self {
        let mut pool = Self {
            prefix,
            size: 0,
            free: FreeAddresses::new(first(prefix), last(prefix)),
            leases: HashMap::new(),
            addresses: HashMap::new(),
            active: BTreeSet::new(),
            dormant: BTreeSet::new(),
        };
        pool.free.take(first(prefix), first(prefix));
        pool.size = pool.free.count();
        pool
    }

    /// Keeps addresses out of the pool, of which none is lent yet.
    pub fn reserve(&mut self, prefix: Prefix4) {
        debug_assert!(self.leases.is_empty(), "addresses may be lent already");
        self.free.take(first(prefix), last(prefix));
        self.size = self.free.count();
    }

    /// The number of addresses that can be lent, whether they are or not.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The lease that an address of either family has, and its state. This is no use of it.
    pub fn lease_of(&self, address: IpAddr) -> Option<(Lease, LeaseState)> {
        let address = match address {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(host) => *self.addresses.get(&host)?,
        };
        let entry = self.leases.get(&address)?;
        let lease = Lease {
            address: Ipv4Addr::from_bits(address),
            host: entry.host,
            last_use: entry.last_use.get(),
        };
        Some((lease, entry.state))
    }

    /// The prefix of the pool.
    pub const fn prefix(&self) -> Prefix4 {
        self.prefix
    }

    /// The number of active leases, and that of dormant ones.
    pub fn counts(&self) -> (usize, usize) {
        (self.active.len(), self.dormant.len())
    }

    /// The host that uses `address`. This is a use of the lease.
    pub fn to_v6(&self, address: Ipv4Addr, now: u64) -> Option<Ipv6Addr> {
        // Most addresses are of the internet: they cost no search.
        if !self.prefix.contains(address) {
            return None;
        }
        let lease = self.leases.get(&address.to_bits())?;
        lease.used(now)
    }

    /// The address that `host` uses. This is a use of the lease.
    pub fn to_v4(&self, host: Ipv6Addr, now: u64) -> Option<Ipv4Addr> {
        let &address = self.addresses.get(&host)?;
        self.leases.get(&address)?.used(now)?;
        Some(Ipv4Addr::from_bits(address))
    }

    /// Lends an address to `host`, which uses none: the one it had, one that is free, or the one
    /// whose host has not been heard for longest.
    ///
    /// Which free address is tayga's choice, so that a host gets the same from either: the first
    /// one upwards from a sum over the host's address, and then from the start of the pool.
    pub fn lend(&mut self, host: Ipv6Addr, now: u64) -> Result<Lent, PoolFull> {
        if let Some(&address) = self.addresses.get(&host) {
            self.set(address, LeaseState::Active, now);
            return Ok(lent(address, Origin::Reactivated));
        }
        if let Some(address) = self.free.next(preferred(self.prefix, host)) {
            self.free.take(address, address);
            self.insert(address, host, LeaseState::Active, now);
            return Ok(lent(address, Origin::Assigned));
        }
        let &(_, address) = self.dormant.first().ok_or(PoolFull)?;
        let from = self.remove(address).ok_or(PoolFull)?;
        self.insert(address, host, LeaseState::Active, now);
        Ok(lent(address, Origin::Reassigned { from }))
    }

    /// Takes over a lease from before.
    pub fn restore(&mut self, lease: Lease, state: LeaseState) -> Result<(), NotRestored> {
        let address = lease.address.to_bits();
        if !self.prefix.contains(lease.address) {
            return Err(NotRestored::Outside);
        }
        if self.addresses.contains_key(&lease.host) || self.leases.contains_key(&address) {
            return Err(NotRestored::Duplicate);
        }
        if self.free.next(address) != Some(address) {
            return Err(NotRestored::Reserved);
        }
        self.free.take(address, address);
        self.insert(address, lease.host, state, lease.last_use);
        Ok(())
    }

    /// Takes over a lease from a pool that lends the same addresses: this one lends none itself.
    /// Whatever the address and the host had here is over.
    pub fn follow(&mut self, followed: Followed) {
        let Followed { lease, state } = followed;
        self.give_up(lease.address.to_bits());
        if let Some(&address) = self.addresses.get(&lease.host) {
            self.give_up(address);
        }
        if let Some(state) = state {
            // Refused: it has a mapping here, which it soon has there, too.
            let _ = self.restore(lease, state);
        }
    }

    /// The leases that were used in this second, since 1970, or later, and when.
    pub fn used_since(&self, second: u64) -> impl Iterator<Item = (Ipv4Addr, u64)> {
        let used = move |(&address, entry): (&u32, &Entry)| {
            let last_use = entry.last_use.get();
            (last_use >= second).then(|| (Ipv4Addr::from_bits(address), last_use))
        };
        self.leases.iter().filter_map(used)
    }

    /// Notes that a lease was used elsewhere. No use is later than `now`.
    pub fn used(&self, address: Ipv4Addr, second: u64, now: u64) {
        if let Some(entry) = self.leases.get(&address.to_bits()) {
            entry
                .last_use
                .set(entry.last_use.get().max(second.min(now)));
        }
    }

    /// Looks at no more than `most` leases that may be due, and returns the changes: none if no
    /// lease is due.
    pub fn age(&mut self, now: u64, most: usize) -> Vec<Aged> {
        let mut aged = Vec::new();
        for _ in 0..most {
            if let Some(&(listed, address)) = self.dormant.first()
                && listed + KEPT_FOR <= now
            {
                if let Some(host) = self.give_up(address) {
                    let address = Ipv4Addr::from_bits(address);
                    aged.push(Aged::Freed { host, address });
                }
            } else if let Some(&(listed, address)) = self.active.first()
                && listed + ACTIVE_FOR <= now
                && let Some(lease) = self.leases.get(&address)
            {
                let (host, last_use) = (lease.host, lease.last_use.get());
                let state = LeaseState::by_age(last_use, now);
                self.set(address, state, last_use);
                if state == LeaseState::Dormant {
                    let address = Ipv4Addr::from_bits(address);
                    aged.push(Aged::Dormant { host, address });
                }
            } else {
                break;
            }
        }
        aged
    }

    /// Every lease, the active ones first, as tayga writes them.
    pub fn leases(&self) -> impl Iterator<Item = Lease> {
        self.leases_and_states().map(|(lease, _)| lease)
    }

    /// The same with their states.
    pub fn leases_and_states(&self) -> impl Iterator<Item = (Lease, LeaseState)> {
        let addresses = self.active.iter().chain(&self.dormant);
        addresses.filter_map(|&(_, address)| {
            let entry = self.leases.get(&address)?;
            let lease = Lease {
                address: Ipv4Addr::from_bits(address),
                host: entry.host,
                last_use: entry.last_use.get(),
            };
            Some((lease, entry.state))
        })
    }

    fn insert(&mut self, address: u32, host: Ipv6Addr, state: LeaseState, now: u64) {
        self.addresses.insert(host, address);
        let entry = Entry {
            host,
            last_use: Cell::new(now),
            listed: now,
            state,
        };
        self.leases.insert(address, entry);
        self.list(state).insert((now, address));
    }

    /// Ends a lease without freeing its address. The host is returned.
    fn remove(&mut self, address: u32) -> Option<Ipv6Addr> {
        let lease = self.leases.remove(&address)?;
        self.list(lease.state).remove(&(lease.listed, address));
        self.addresses.remove(&lease.host);
        Some(lease.host)
    }

    /// Ends a lease; its address is free.
    fn give_up(&mut self, address: u32) -> Option<Ipv6Addr> {
        let host = self.remove(address)?;
        self.free.give_back(address);
        Some(host)
    }

    fn set(&mut self, address: u32, state: LeaseState, last_use: u64) {
        if let Some(host) = self.remove(address) {
            self.insert(address, host, state, last_use);
        }
    }

    fn list(&mut self, state: LeaseState) -> &mut BTreeSet<(u64, u32)> {
        match state {
            LeaseState::Active => &mut self.active,
            LeaseState::Dormant => &mut self.dormant,
        }
    }
}

impl Entry {
    /// The host, if it uses the lease.
    fn used(&self, now: u64) -> Option<Ipv6Addr> {
        if self.state == LeaseState::Dormant {
            return None;
        }
        self.last_use.set(self.last_use.get().max(now));
        Some(self.host)
    }
}

fn lent(address: u32, origin: Origin) -> Lent {
    let address = Ipv4Addr::from_bits(address);
    Lent { address, origin }
}

/// The address at which tayga starts to look for a free one.
///
/// The host part is the sum of the four 32-bit words of the host's address, with wrap-around, each
/// in the byte order of this machine, as tayga reads them. After each addition, what is above the
/// bits that the pool has for hosts is folded onto them with end-around carry.
fn preferred(prefix: Prefix4, host: Ipv6Addr) -> u32 {
    let bits = 32 - u32::from(prefix.length());
    let mask = last(prefix) - first(prefix);
    let octets = host.octets();
    let (words, _) = octets.as_chunks::<4>();
    let mut sum = 0_u32;
    for &word in words {
        sum = sum.wrapping_add(u32::from_ne_bytes(word));
        // A pool has two addresses or more, so there is at least one bit, and this ends.
        while sum & !mask != 0 {
            sum = (sum & mask) + (sum >> bits);
        }
    }
    first(prefix) | sum
}

fn first(prefix: Prefix4) -> u32 {
    prefix.address().to_bits()
}

fn last(prefix: Prefix4) -> u32 {
    prefix.last().to_bits()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use proptest::{collection::vec, prelude::*};

    use super::*;

    const NOW: u64 = 1_795_406_857;

    fn pool(prefix: &str) -> Pool {
        Pool::new(prefix.parse().unwrap())
    }

    fn host(number: u32) -> Ipv6Addr {
        Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(number))
    }

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    /// A machine without a clock that runs on begins in 1970, and lends at once.
    #[test]
    fn leases_age_from_the_beginning_of_time() {
        let mut pool = pool("203.0.113.0/24");
        pool.lend(host(1), 0).unwrap();
        assert_eq!(pool.age(0, 10), []);
        assert_eq!(pool.age(ACTIVE_FOR - 1, 10), []);
        assert_eq!(pool.age(ACTIVE_FOR, 10).len(), 1);
    }

    /// By trial with tayga 0.9.2 on a little-endian machine; sums in other byte orders are others.
    #[cfg(target_endian = "little")]
    #[test]
    fn a_host_gets_the_address_that_tayga_gives_it() {
        for (prefix, host, address) in [
            ("169.254.0.0/24", "2001:db8::69", "169.254.0.80"),
            ("10.0.0.0/16", "2001:db8:1::2", "10.0.188.45"),
            ("192.168.240.0/20", "2001:db8:1::2", "192.168.243.170"),
            // The last sum wraps around in 32 bits: 0xe6 and not 0xe7.
            (
                "192.168.255.0/24",
                "2001:db8:1::ffff:ffff",
                "192.168.255.230",
            ),
        ] {
            let lent = pool(prefix).lend(host.parse().unwrap(), NOW).unwrap();
            assert_eq!(lent.address, v4(address), "{host} in {prefix}");
            assert_eq!(lent.origin, Origin::Assigned);
        }
    }

    /// Words wrap around in 32 bits, and are folded before the next is added. In any byte order.
    #[test]
    fn sums_wrap_around_and_are_folded_in_between() {
        for (prefix, words, address) in [
            // Zero: the pool's network address.
            ("10.0.0.0/8", [0x00ff_ffff, 0xff00_0001, 0, 0], "10.0.0.0"),
            // 0xff and 0xffff_ff02 make 1, not 0x1_0000_0001, which would be folded to 2.
            ("10.0.1.0/24", [u32::MAX, 0xffff_ff02, 0, 2], "10.0.1.3"),
            // Nothing is above 32 bits.
            ("0.0.0.0/0", [u32::MAX, 0, 3, 0], "0.0.0.2"),
            ("10.0.0.0/31", [0, 0, 0, 5], "10.0.0.1"),
        ] {
            let octets: Vec<_> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
            let host = <[u8; 16]>::try_from(octets).unwrap().into();
            let preferred = preferred(prefix.parse().unwrap(), host);
            assert_eq!(Ipv4Addr::from_bits(preferred), v4(address), "{prefix}");
        }
    }

    /// Upwards from the preferred address, then from the first; never the network address.
    #[test]
    fn collisions_probe_upward_and_around() {
        let mut pool = pool("192.0.2.0/30");
        let mut seen = Vec::new();
        // Hosts that all prefer the same: their words add up to the same.
        for shift in 0..3 {
            let host = Ipv6Addr::from_bits(3 << (32 * shift));
            seen.push(pool.lend(host, NOW).unwrap().address);
        }
        assert_eq!(seen, [v4("192.0.2.3"), v4("192.0.2.1"), v4("192.0.2.2")]);
        assert_eq!(pool.lend(host(9), NOW), Err(PoolFull));
    }

    #[test]
    fn a_lease_is_active_for_124_minutes_after_its_last_use() {
        let mut pool = pool("192.0.2.0/24");
        let address = pool.lend(host(1), NOW).unwrap().address;
        assert_eq!(pool.age(NOW + ACTIVE_FOR - 1, 9), []);
        assert_eq!(pool.to_v6(address, NOW + 100), Some(host(1)));
        // It was used meanwhile.
        assert_eq!(pool.age(NOW + ACTIVE_FOR + 99, 9), []);
        assert_eq!(pool.to_v4(host(1), NOW + 200), Some(address));
        let now = NOW + 200 + ACTIVE_FOR;
        assert_eq!(pool.age(now - 1, 9), []);
        let dormant = Aged::Dormant {
            host: host(1),
            address,
        };
        assert_eq!(pool.age(now, 9), [dormant]);
        assert_eq!(pool.to_v6(address, now), None);
        assert_eq!(pool.to_v4(host(1), now), None);
        // The same address when it comes back.
        let lent = pool.lend(host(1), now).unwrap();
        assert_eq!((lent.address, lent.origin), (address, Origin::Reactivated));
    }

    /// Seconds, as in tayga.
    #[test]
    fn a_dormant_lease_is_kept_for_14_days() {
        let end = NOW + 1_209_600;
        let mut pool = pool("192.0.2.0/24");
        let address = pool.lend(host(1), NOW).unwrap().address;
        assert_eq!(pool.age(NOW + 7440, 9).len(), 1);
        assert_eq!(pool.age(end - 1, 9), []);
        assert_eq!(pool.counts(), (0, 1));
        let freed = Aged::Freed {
            host: host(1),
            address,
        };
        assert_eq!(pool.age(end, 9), [freed]);
        assert_eq!(pool.counts(), (0, 0));
        assert_eq!(pool.lend(host(1), end).unwrap().origin, Origin::Assigned);
    }

    #[test]
    fn a_full_pool_takes_from_the_host_unheard_for_longest() {
        let mut pool = pool("192.0.2.0/30");
        for number in 1..=3 {
            pool.lend(host(number), NOW + u64::from(number)).unwrap();
        }
        let now = NOW + 2 + ACTIVE_FOR;
        assert_eq!(pool.age(now, 9).len(), 2);
        let lent = pool.lend(host(4), now).unwrap();
        assert_eq!(lent.origin, Origin::Reassigned { from: host(1) });
        assert_eq!(pool.to_v6(lent.address, now), Some(host(4)));
        assert_eq!(pool.to_v4(host(1), now), None);
        pool.lend(host(5), now).unwrap();
        // Host 3 is active still.
        assert_eq!(pool.lend(host(1), now), Err(PoolFull));
    }

    #[test]
    fn reserved_addresses_are_not_lent() {
        let mut pool = pool("192.0.2.0/29");
        for reserved in ["192.0.2.2/32", "192.0.2.4/31", "198.51.100.0/24"] {
            pool.reserve(reserved.parse().unwrap());
        }
        let mut lent: Vec<_> = (0..9)
            .map_while(|number| pool.lend(host(number), NOW).ok())
            .map(|lent| lent.address)
            .collect();
        lent.sort();
        assert_eq!(
            lent,
            ["192.0.2.1", "192.0.2.3", "192.0.2.6", "192.0.2.7"].map(v4)
        );

        let mut pool = self::pool("192.0.2.0/29");
        pool.reserve("0.0.0.0/0".parse().unwrap());
        assert_eq!(pool.lend(host(1), NOW), Err(PoolFull));
        assert_eq!(pool.counts(), (0, 0));
    }

    /// Ageing is done in portions: a pool whose leases are all due at once does not hold up
    /// packets.
    #[test]
    fn ageing_is_done_in_portions() {
        let mut pool = pool("10.0.0.0/16");
        for number in 0..1000 {
            pool.lend(host(number), NOW).unwrap();
        }
        let now = NOW + ACTIVE_FOR;
        let portions: Vec<_> = (0..4).map(|_| pool.age(now, 300).len()).collect();
        assert_eq!(portions, [300, 300, 300, 100]);
    }

    /// A /14 full of leases, or what `POOL_LENGTH` says. The bound is wide for a slow machine, and
    /// would not hold for anything that grows with the pool.
    #[test]
    fn a_full_pool_is_as_fast_as_an_empty_one() {
        use std::{env, hint::black_box, time::Instant};
        let length = env::var("POOL_LENGTH").map_or(14, |length| length.parse::<u8>().unwrap());
        let hosts = (1_u32 << (32 - length)) - 1;
        let mut pool = pool(&format!("10.0.0.0/{length}"));
        let start = Instant::now();
        let step = |what: &str, pool: &mut Pool, each: &dyn Fn(&mut Pool, u32) -> bool| {
            let start = Instant::now();
            for number in 0..hosts {
                // No neighbours: each is a place of its own in memory.
                assert!(black_box(each(
                    pool,
                    number.wrapping_mul(0x9e37_79b1) % hosts
                )));
            }
            println!(
                "{what}: {} ns",
                start.elapsed().as_nanos() / u128::from(hosts)
            );
        };
        for number in 0..hosts {
            pool.lend(host(number), NOW).unwrap();
        }
        step("a host without an address", &mut pool, &|pool, number| {
            pool.lend(host(hosts + number), NOW) == Err(PoolFull)
        });
        step("a host with one", &mut pool, &|pool, number| {
            pool.to_v4(host(number), NOW).is_some()
        });
        step("the host of an address", &mut pool, &|pool, number| {
            pool.to_v6(Ipv4Addr::from_bits(0x0a00_0001 + number), NOW)
                .is_some()
        });
        let later = NOW + ACTIVE_FOR;
        step("becomes dormant", &mut pool, &|pool, _| {
            pool.age(later, 1).len() == 1
        });
        assert!(start.elapsed().as_secs() < 120, "{:?}", start.elapsed());
    }

    /// A million hosts want the addresses of a /16: those that came first keep theirs, and nothing
    /// grows for the others.
    #[test]
    fn a_million_hosts_take_no_more_than_there_is() {
        let mut pool = pool("10.0.0.0/16");
        let addresses = (1 << 16) - 1;
        let refused = (0..1_000_000)
            .filter(|&number| pool.lend(host(number), NOW) == Err(PoolFull))
            .count();
        assert_eq!(refused, 1_000_000 - addresses);
        assert_eq!(pool.counts(), (addresses, 0));
        assert_eq!(
            (pool.leases.len(), pool.addresses.len()),
            (addresses, addresses)
        );
        assert_eq!(pool.free.count(), 0);
        assert!((0..addresses as u32).all(|number| pool.to_v4(host(number), NOW).is_some()));
    }

    /// A pool that follows another one has its leases after each change, whatever it had.
    #[test]
    fn a_pool_follows_another() {
        let (mut owner, mut follower) = (pool("192.0.2.0/30"), pool("192.0.2.0/30"));
        let leases = |pool: &Pool| {
            let mut leases: Vec<_> = pool.leases_and_states().collect();
            leases.sort_by_key(|(lease, _)| lease.address);
            leases
        };
        let mut follow = |owner: &Pool, host: Ipv6Addr| {
            let (lease, state) = owner.lease_of(host.into()).unwrap();
            let state = Some(state);
            follower.follow(Followed { lease, state });
            assert_eq!(leases(owner), leases(&follower));
        };
        for number in 1..=3 {
            owner.lend(host(number), NOW + u64::from(number)).unwrap();
            follow(&owner, host(number));
            follow(&owner, host(number));
        }
        let later = NOW + 1 + ACTIVE_FOR;
        assert_eq!(owner.age(later, 9).len(), 1);
        follow(&owner, host(1));
        // Host 4 gets the address of host 1.
        let lent = owner.lend(host(4), later).unwrap();
        assert_eq!(lent.origin, Origin::Reassigned { from: host(1) });
        follow(&owner, host(4));
        assert_eq!(follower.to_v4(host(1), later), None);

        // Of uses the latest counts, wherever it was.
        follower.to_v4(host(4), later + 7).unwrap();
        let used: Vec<_> = follower.used_since(later + 7).collect();
        assert_eq!(used, [(lent.address, later + 7)]);
        owner.used(lent.address, later + 7, later + 8);
        owner.used(lent.address, later + 5, later + 8);
        let (lease, state) = owner.lease_of(host(4).into()).unwrap();
        assert_eq!(lease.last_use, later + 7);
        owner.used(lent.address, u64::MAX, later + 8);
        let (now, _) = owner.lease_of(host(4).into()).unwrap();
        assert_eq!(now.last_use, later + 8);

        follower.follow(Followed { lease, state: None });
        assert_eq!(follower.to_v4(host(4), later), None);
        assert_eq!(follower.counts(), (2, 0));
        assert_eq!(state, LeaseState::Active);
    }

    proptest! {
        /// The parts of a pool agree with each other, and no address is lost or lent twice.
        #[test]
        fn no_address_is_lost_or_lent_twice(
            steps in vec((0_u8..4, 0_u32..12, 0_u64..9000), 1..200),
        ) {
            let mut pool = pool("192.0.2.0/29");
            let mut now = NOW;
            pool.reserve("192.0.2.7/32".parse().unwrap());
            let reserved = 2; // and the network address
            for (step, number, seconds) in steps {
                match step {
                    0 | 1 if pool.to_v4(host(number), now).is_none() => {
                        let _ = pool.lend(host(number), now);
                    }
                    2 => {
                        now += seconds * 20;
                        pool.age(now, 3);
                    }
                    _ => {}
                }
                let free = pool.free.count() as usize;
                prop_assert_eq!(free + pool.leases.len() + reserved, 8);
                prop_assert_eq!(pool.size() as usize + reserved, 8);
                prop_assert_eq!(pool.leases.len(), pool.addresses.len());
                prop_assert_eq!(pool.leases.len(), pool.active.len() + pool.dormant.len());
                prop_assert_eq!(pool.leases().count(), pool.leases.len());
                for (&address, lease) in &pool.leases {
                    prop_assert_eq!(pool.addresses[&lease.host], address);
                    prop_assert_eq!(pool.free.next(address) == Some(address), false);
                }
            }
        }
    }
}
