//! NAT64 prefixes: their origins, lifetimes, and the one that counts.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::doubts::{Doubts, Standing};
use crate::addr::{Nat64Prefix, Prefix6};

/// The addresses of ipv4only.arpa (RFC 7050 section 8.2).
pub(super) const WELL_KNOWN: [Ipv4Addr; 2] =
    [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

/// The well-known NAT64 prefix (RFC 6052 section 2.1), of 96 bits.
pub(super) const RFC6052: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

/// Lengths of NAT64 prefixes, in bits (RFC 6052 section 2.2).
const LENGTHS: [u8; 6] = [96, 64, 56, 48, 40, 32];

/// The time for which an advertised prefix is still used when its lifetime has run out: a router
/// that repeats itself too seldom does not end IPv4. Only a lifetime of zero ends it at once.
const HOLD_DOWN: Duration = Duration::from_secs(60);

/// Number of prefixes of each origin that are kept for a link, and of one router. Those that are
/// there stay: no router can push out what another one has announced.
const MAX_CANDIDATES: usize = 16;
const MAX_OF_ROUTER: usize = 4;

/// A router that announces prefixes, but not one that it announced before, has dropped that one
/// when it has done so in so many advertisements in a row. Many routers withdraw nothing, and some
/// announce one prefix in each advertisement.
const MISSED: u8 = 3;

/// The NAT64 prefixes in addresses of ipv4only.arpa (RFC 7050 section 3), in order. An address with
/// a well-known one in several places counts only for the place in which another address has the
/// other well-known one.
pub fn by_addresses(addresses: &[Ipv6Addr]) -> Vec<Nat64Prefix> {
    let mut found = Vec::new();
    for &address in addresses {
        let mut places: Vec<_> = places(address).collect();
        if places.len() > 1 {
            places.retain(|(prefix, v4)| {
                let other = if *v4 == WELL_KNOWN[0] { 1 } else { 0 };
                addresses.contains(&prefix.embed(WELL_KNOWN[other]))
            });
        }
        if let [(prefix, _)] = places[..]
            && !found.contains(&prefix)
        {
            found.push(prefix);
        }
    }
    found
}

/// The prefixes by which `address` stands for a well-known one, with that one.
fn places(address: Ipv6Addr) -> impl Iterator<Item = (Nat64Prefix, Ipv4Addr)> {
    LENGTHS.into_iter().filter_map(move |length| {
        let prefix = nat64(address, length)?;
        let v4 = prefix.extract(address)?;
        // "zeros at the locations where they are required" (RFC 7050 section 3): bits 64 to 71.
        let has_zeros = length == 96 || address.octets()[8] == 0;
        (has_zeros && WELL_KNOWN.contains(&v4)).then_some((prefix, v4))
    })
}

/// The prefix of this length that an address is in, if a NAT64 can have it.
pub fn nat64(address: Ipv6Addr, length: u8) -> Option<Nat64Prefix> {
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    let prefix = Prefix6::new((address.to_bits() & mask).into(), length).ok()?;
    Nat64Prefix::new(prefix).ok()
}

/// The origin of a NAT64 prefix. The first one that has a prefix counts (RFC 9872 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `plat-prefix`.
    Configured,
    /// A Router Advertisement (RFC 8781).
    Advertisement,
    /// A DNS64 (RFC 7050).
    Dns,
    /// `plat-fallback-prefix`.
    Fallback,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configured => "plat-prefix",
            Self::Advertisement => "Router Advertisement",
            Self::Dns => "DNS64",
            Self::Fallback => "plat-fallback-prefix",
        })
    }
}

/// A router, by its last advertisement (RFC 4861 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    /// Its link-local address.
    pub address: Ipv6Addr,
    /// Its preference; higher is better (RFC 4191 section 2.2).
    pub preference: i8,
    /// The time up to which it is a default router.
    pub until: Duration,
}

/// A prefix that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    /// The link by which it was found.
    link: u32,
    origin: Origin,
    /// The router that has announced it, if one has.
    router: Option<Router>,
    prefix: Nat64Prefix,
    /// The end of its lifetime.
    until: Duration,
    /// Number of the last advertisements of the router that had prefixes, but not this one.
    missed: u8,
}

/// The prefixes found so far.
#[derive(Clone, Debug, Default)]
pub struct Candidates(Vec<Candidate>);

impl Candidates {
    /// Takes the prefixes of a Router Advertisement, with their lifetimes. A lifetime of zero ends
    /// what this router has announced, and nothing of another (RFC 8781 section 4).
    ///
    /// A router that is no default router any more is about to go: what it has announced ends where
    /// the link has a prefix of one that stays, and comes behind those that are still to come.
    pub fn advertised(
        &mut self,
        link: u32,
        router: Router,
        prefixes: &[(Nat64Prefix, Duration)],
        now: Duration,
    ) {
        let is_its = |one: &Candidate| one.link == link && one.is_of(router.address);
        let stays = |one: &Candidate| one.link == link && !is_its(one) && one.is_announced(now);
        if router.until <= now && self.0.iter().any(stays) {
            self.0.retain(|one| !is_its(one));
            return;
        }
        let has_any = prefixes.iter().any(|(_, lifetime)| !lifetime.is_zero());
        for one in self.0.iter_mut().filter(|one| is_its(one)) {
            one.router = Some(router);
            one.missed = one.missed.saturating_add(u8::from(has_any));
        }
        for &(prefix, lifetime) in prefixes {
            let is_it = |one: &Candidate| is_its(one) && one.prefix == prefix;
            if lifetime.is_zero() {
                self.0.retain(|one| !is_it(one));
                continue;
            }
            let until = now + lifetime;
            if let Some(one) = self.0.iter_mut().find(|one| is_it(one)) {
                (one.until, one.missed) = (until, 0);
            } else if self.make_room(link, router.address, now) {
                self.0.push(Candidate {
                    link,
                    origin: Origin::Advertisement,
                    router: Some(router),
                    prefix,
                    until,
                    missed: 0,
                });
            }
        }
    }

    /// Takes the answer of a DNS64: these prefixes, and no others by DNS any more.
    pub fn resolved(&mut self, link: u32, prefixes: &[Nat64Prefix], ttl: Duration, now: Duration) {
        self.0
            .retain(|one| one.link != link || one.origin != Origin::Dns);
        let free = self.free(link, Origin::Dns);
        self.0
            .extend(prefixes.iter().take(free).map(|&prefix| Candidate {
                link,
                origin: Origin::Dns,
                router: None,
                prefix,
                until: now + ttl,
                missed: 0,
            }));
    }

    /// Whether there is room for one more prefix of a router. One whose lifetime is over is held
    /// only as long as no other one needs its place.
    fn make_room(&mut self, link: u32, router: Ipv6Addr, now: Duration) -> bool {
        let is_its = |one: &Candidate| one.link == link && one.is_of(router);
        let is_full = self.0.iter().filter(|one| is_its(one)).count() >= MAX_OF_ROUTER;
        if !is_full && self.free(link, Origin::Advertisement) > 0 {
            return true;
        }
        let is_over = |one: &Candidate| {
            let counts = one.link == link && one.origin == Origin::Advertisement;
            counts && one.until <= now && (is_its(one) || !is_full)
        };
        let expired = (0..self.0.len()).filter(|at| is_over(&self.0[*at]));
        let longest = expired.min_by_key(|at| self.0[*at].until);
        longest.map(|at| self.0.remove(at)).is_some()
    }

    /// Number of prefixes of an origin that may still be added: one does not crowd out another.
    fn free(&self, link: u32, origin: Origin) -> usize {
        let is_it = |one: &&Candidate| one.link == link && one.origin == origin;
        MAX_CANDIDATES.saturating_sub(self.0.iter().filter(is_it).count())
    }

    /// Whether a router has announced a prefix on a link, which has not ended yet.
    pub(super) fn has_advertised(&self, link: u32) -> bool {
        let mut all = self.0.iter();
        all.any(|one| one.link == link && one.origin == Origin::Advertisement)
    }

    /// The prefixes, each with its link.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = (u32, Nat64Prefix)> {
        self.0.iter().map(|one| (one.link, one.prefix))
    }

    /// The prefixes of a link, each with its origin, the router that has announced it, and the end
    /// of its lifetime.
    pub(super) fn on(
        &self,
        link: u32,
    ) -> impl Iterator<Item = (Nat64Prefix, Origin, Option<Ipv6Addr>, Duration)> {
        let here = self.0.iter().filter(move |one| one.link == link);
        here.map(|one| {
            let router = one.router.map(|router| router.address);
            (one.prefix, one.origin, router, one.until)
        })
    }

    /// Whether a router has announced a prefix on a link, which has not ended yet.
    pub(super) fn is_announced_by(&self, link: u32, prefix: Nat64Prefix, router: Ipv6Addr) -> bool {
        let mut all = self.0.iter();
        all.any(|one| (one.link, one.prefix) == (link, prefix) && one.is_of(router))
    }

    /// Forgets a prefix.
    pub(super) fn forget(&mut self, link: u32, prefix: Nat64Prefix) {
        self.0
            .retain(|one| (one.link, one.prefix) != (link, prefix));
    }

    /// Forgets what was found by links that are gone or down: RFC 7050 section 3 wants it anew.
    pub fn retain_links(&mut self, is_there: impl Fn(u32) -> bool) {
        self.0.retain(|one| is_there(one.link));
    }

    /// The prefix that counts on a link, with its standing. These rules decide, in order: its
    /// standing, within its lifetime and not dropped by its router, advertised, by a router that
    /// stays, by the preferred router, `current`, found first.
    pub(super) fn best(
        &self,
        link: u32,
        current: Option<Nat64Prefix>,
        doubts: &Doubts,
        now: Duration,
    ) -> Option<(Nat64Prefix, Origin, Standing)> {
        let standing = |one: &Candidate| doubts.standing(link, one.prefix, current, now);
        self.0
            .iter()
            .filter(|one| one.link == link && one.holds(now))
            .min_by_key(|one| {
                (
                    standing(one),
                    one.is_last_choice(now),
                    one.origin,
                    one.router.is_some_and(|router| router.until <= now),
                    one.router.map(|router| -router.preference),
                    Some(one.prefix) != current,
                )
            })
            .map(|one| (one.prefix, one.origin, standing(one)))
    }

    /// The next end of a lifetime, of a prefix or of its router, or of the time for which a prefix
    /// is held.
    pub fn deadline(&self, now: Duration) -> Option<Duration> {
        let ends = self.0.iter().flat_map(|one| {
            let router = one.router.map(|router| router.until);
            [Some(one.until), one.end(), router]
        });
        ends.flatten().filter(|end| *end > now).min()
    }

    /// Whether all prefixes that were advertised on a link expire within `soon`, or have expired.
    pub fn expire_within(&self, link: u32, soon: Duration, now: Duration) -> bool {
        let mut advertised = self
            .0
            .iter()
            .filter(|one| one.link == link && one.origin == Origin::Advertisement)
            .peekable();
        advertised.peek().is_some() && advertised.all(|one| one.until <= now + soon)
    }

    /// Forgets which prefixes their routers seem to have dropped.
    pub fn take_anew(&mut self) {
        for one in &mut self.0 {
            one.missed = 0;
        }
    }

    /// Drops prefixes that are over.
    pub fn drop_expired(&mut self, now: Duration) {
        self.0.retain(|one| one.holds(now));
    }
}

impl Candidate {
    /// The time at which it is given up, if ever.
    fn end(&self) -> Option<Duration> {
        match self.origin {
            Origin::Advertisement => Some(self.until + HOLD_DOWN),
            // A renewal without an answer does not prove that the DNS64 is gone.
            _ => None,
        }
    }

    /// Whether the router with this address has announced it.
    fn is_of(&self, address: Ipv6Addr) -> bool {
        self.router.is_some_and(|router| router.address == address)
    }

    /// Whether a router that stays announces it.
    fn is_announced(&self, now: Duration) -> bool {
        self.router.is_some_and(|router| now < router.until) && !self.is_last_choice(now)
    }

    /// Whether its router has let it expire, or dropped it.
    fn is_last_choice(&self, now: Duration) -> bool {
        self.origin == Origin::Advertisement && (self.until <= now || self.missed >= MISSED)
    }

    /// Whether it is not given up yet.
    fn holds(&self, now: Duration) -> bool {
        self.end().is_none_or(|end| now < end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    const LINK: u32 = 2;

    fn prefix(text: &str) -> Nat64Prefix {
        Nat64Prefix::new(text.parse().unwrap()).unwrap()
    }

    fn found(addresses: &[&str]) -> Vec<String> {
        let addresses: Vec<_> = addresses.iter().map(|one| one.parse().unwrap()).collect();
        let found = by_addresses(&addresses);
        found.iter().map(|one| one.prefix().to_string()).collect()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// RFC 7050 section 3: at each of the places of RFC 6052 section 2.2.
    #[test]
    fn prefixes_of_every_length_are_found() {
        for text in [
            "64:ff9b::/96",
            "2001:db8:64:0:64:64::/96",
            "2001:db8:1:2::/64",
            "2001:db8:1:200::/56",
            "2001:db8:1::/48",
            "2001:db8:100::/40",
            "2001:db8::/32",
        ] {
            for v4 in WELL_KNOWN {
                let address = prefix(text).embed(v4).to_string();
                assert_eq!(found(&[&address]), [text], "{address}");
            }
        }
        assert_eq!(found(&["2001:db8::1"]), [""; 0]);
        assert_eq!(found(&[]), [""; 0]);
    }

    /// RFC 7050 section 3: the pair tells the place; all prefixes are kept, in order.
    #[test]
    fn an_ambiguous_address_needs_its_pair() {
        // 192.0.0.170 behind 96 bits, and behind 32.
        let ambiguous = "2001:db8:c000:aa:0:0:c000:aa";
        assert_eq!(found(&[ambiguous]), [""; 0]);
        let other = "2001:db8:c000:aa:0:0:c000:ab";
        assert_eq!(found(&[ambiguous, other]), ["2001:db8:c000:aa::/96"]);
        assert_eq!(
            found(&[
                "2001:db8:64::c000:aa",
                "64:ff9b::c000:aa",
                "64:ff9b::c000:ab"
            ]),
            ["2001:db8:64::/96", "64:ff9b::/96"]
        );
    }

    /// RFC 7050 section 3, RFC 6052 section 2.2.
    #[test]
    fn prefixes_that_no_nat64_can_have_are_not_found() {
        // Bits 64 to 71 (RFC 7050 section 3).
        for (written, not_written) in [
            ("2001:db8:c000:aa::", "2001:db8:c000:aa:100::"),
            ("2001:db8:1c0:0:aa::", "2001:db8:1c0:0:80aa::"),
            ("2001:db8:1:c000:0:aa00::", "2001:db8:1:c000:100:aa00::"),
            ("2001:db8:1:2c0:0:aa::", "2001:db8:1:2c0:ff00:aa::"),
            ("2001:db8:1:2:c0:0:aa00:0", "2001:db8:1:2:1c0:0:aa00:0"),
        ] {
            assert_eq!(found(&[written]).len(), 1, "{written}");
            assert_eq!(found(&[not_written]), [""; 0], "{not_written}");
        }
        assert_eq!(
            found(&["fe80::c000:aa", "ff02::c000:aa", "::c000:aa"]),
            [""; 0]
        );
    }

    /// The number of a router, its preference, and whether it stays.
    fn router(number: u16, preference: i8, stays: bool) -> Router {
        Router {
            address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number),
            preference,
            until: if stays { seconds(1 << 20) } else { seconds(0) },
        }
    }

    /// Best on a link, where all answer.
    fn best_of(
        candidates: &Candidates,
        link: u32,
        current: Option<Nat64Prefix>,
        now: Duration,
    ) -> Option<(Nat64Prefix, Origin)> {
        let best = candidates.best(link, current, &Doubts::default(), now);
        best.map(|(prefix, origin, _)| (prefix, origin))
    }

    /// Best on the link, with nothing in use.
    fn best(candidates: &Candidates, now: u64) -> Option<String> {
        let best = best_of(candidates, LINK, None, seconds(now));
        best.map(|(prefix, _)| prefix.prefix().to_string())
    }
    /// RFC 9872 section 3.1; RFC 8781 section 4.
    #[test]
    fn an_advertisement_is_believed_before_dns() {
        let mut candidates = Candidates::default();
        let (one, other) = (prefix("64:ff9b::/96"), prefix("2001:db8:64::/96"));
        let now = seconds(1000);
        candidates.resolved(LINK, &[one], seconds(60), now);
        assert_eq!(
            best_of(&candidates, LINK, None, now),
            Some((one, Origin::Dns))
        );
        candidates.advertised(LINK, router(1, 0, true), &[(other, seconds(600))], now);
        let best = best_of(&candidates, LINK, Some(one), now);
        assert_eq!(best, Some((other, Origin::Advertisement)));
        assert_eq!(best_of(&candidates, LINK + 1, None, now), None);
        candidates.advertised(LINK, router(1, 0, true), &[(other, Duration::ZERO)], now);
        assert_eq!(
            best_of(&candidates, LINK, None, now),
            Some((one, Origin::Dns))
        );
        // It stays until a server says otherwise.
        assert!(best_of(&candidates, LINK, None, seconds(9_999)).is_some());
        candidates.resolved(LINK, &[], seconds(60), now);
        assert_eq!(best_of(&candidates, LINK, None, now), None);
    }

    /// An expired prefix is used for a while, but one within its lifetime comes before it.
    #[test]
    fn an_expired_prefix_is_held_for_a_while() {
        let mut candidates = Candidates::default();
        let (one, other) = (prefix("64:ff9b::/96"), prefix("2001:db8:64::/96"));
        candidates.advertised(
            LINK,
            router(1, 0, true),
            &[(one, seconds(16))],
            seconds(100),
        );
        assert_eq!(candidates.deadline(seconds(100)), Some(seconds(116)));
        assert!(candidates.expire_within(LINK, seconds(5), seconds(111)));
        assert!(!candidates.expire_within(LINK, seconds(5), seconds(110)));
        assert!(best_of(&candidates, LINK, None, seconds(175)).is_some());
        assert_eq!(best_of(&candidates, LINK, None, seconds(176)), None);
        candidates.advertised(
            LINK,
            router(2, -1, true),
            &[(other, seconds(600))],
            seconds(116),
        );
        let best = best_of(&candidates, LINK, Some(one), seconds(116));
        assert_eq!(best, Some((other, Origin::Advertisement)));
        candidates.drop_expired(seconds(176));
        assert_eq!(candidates.0.len(), 1);
    }

    /// By preference of the router, and among equals the one that is in use.
    #[test]
    fn of_several_the_one_in_use_stays() {
        let mut candidates = Candidates::default();
        let (one, other) = (prefix("64:ff9b::/96"), prefix("2001:db8:64::/96"));
        let now = seconds(0);
        candidates.advertised(LINK, router(1, 0, true), &[(one, seconds(600))], now);
        candidates.advertised(LINK, router(2, 0, true), &[(other, seconds(600))], now);
        let best =
            |candidates: &Candidates, current| best_of(candidates, LINK, current, now).unwrap().0;
        assert_eq!(best(&candidates, None), one);
        assert_eq!(best(&candidates, Some(other)), other);
        candidates.advertised(LINK, router(1, 1, true), &[(one, seconds(600))], now);
        assert_eq!(best(&candidates, Some(other)), one);
        for number in 0..1000_u32 {
            let text = format!("2001:db8:{number:x}::/96");
            let router = router(number as u16, 0, true);
            candidates.advertised(LINK, router, &[(prefix(&text), seconds(600))], now);
        }
        assert!(candidates.0.len() <= MAX_CANDIDATES);
        candidates.resolved(LINK, &[one], seconds(60), now);
        assert!(candidates.0.iter().any(|one| one.origin == Origin::Dns));
        candidates.retain_links(|link| link != LINK);
        assert_eq!(best_of(&candidates, LINK, None, now), None);
    }

    /// RFC 8781 section 4: a prefix whose lifetime is over is held, but not in the place of one
    /// that has just been announced: of the same router, or of another one.
    #[test]
    fn expired_prefixes_make_room() {
        let announce = |candidates: &mut Candidates, number: u16, router_number, end, now| {
            let prefix = prefix(&format!("2001:db8:{number:x}::/96"));
            let lifetime = seconds(end) - now;
            candidates.advertised(
                LINK,
                router(router_number, 0, true),
                &[(prefix, lifetime)],
                now,
            );
            candidates.0.iter().any(|one| one.prefix == prefix)
        };
        let per_router = MAX_OF_ROUTER as u16;
        let routers = MAX_CANDIDATES as u16 / per_router;
        let mut candidates = Candidates::default();
        for number in 0..MAX_CANDIDATES as u16 {
            let end = if number == 1 { 100 } else { 110 };
            let by = 1 + number / per_router;
            assert!(announce(&mut candidates, number, by, end, seconds(0)));
        }
        let nearly = seconds(100) - Duration::from_nanos(1);
        assert!(!announce(&mut candidates, 0x100, 1, 600, nearly));
        assert!(
            !announce(&mut candidates, 0x100, 2, 600, seconds(100)),
            "not its own"
        );
        assert!(announce(&mut candidates, 0x100, 1, 600, seconds(100)));
        assert!(!announce(&mut candidates, 0x101, 1, 600, seconds(100)));
        assert!(!announce(
            &mut candidates,
            0x101,
            routers + 1,
            600,
            nearly + seconds(10)
        ));
        assert!(announce(
            &mut candidates,
            0x101,
            routers + 1,
            600,
            seconds(110)
        ));
        assert_eq!(candidates.0.len(), MAX_CANDIDATES);
    }

    /// Nor in the place of what is not counted with it: prefixes of other links, and of DNS.
    #[test]
    fn other_prefixes_do_not_make_room() {
        let mut candidates = Candidates::default();
        let (early, now) = (seconds(10), seconds(100));
        let [own, other] = [prefix("64:ff9b::/96"), prefix("2001:db8:64::/96")];
        candidates.resolved(LINK, &[own], seconds(60), early);
        let announced = [(other, seconds(60))];
        candidates.advertised(LINK + 1, router(1, 0, true), &announced, early);
        for number in 0..=MAX_CANDIDATES as u16 {
            let prefix = prefix(&format!("2001:db8:{number:x}::/96"));
            let announced = [(prefix, seconds(600))];
            candidates.advertised(LINK, router(number, 0, true), &announced, now);
        }
        assert_eq!(candidates.free(LINK, Origin::Advertisement), 0);
        let left: Vec<_> = candidates.0[..2].iter().map(|one| one.prefix).collect();
        assert_eq!(left, [own, other]);
    }

    /// RFC 4861 section 5.1: one router ends, and is preferred, for itself alone.
    #[test]
    fn a_prefix_is_that_of_its_router() {
        let mut candidates = Candidates::default();
        let (one, other) = (prefix("64:ff9b::/96"), prefix("2001:db8:64::/96"));
        let (now, lifetime) = (seconds(10), seconds(600));
        let [high, low] = [router(1, 1, true), router(2, -1, true)];
        candidates.advertised(LINK, high, &[(one, lifetime)], now);
        candidates.advertised(LINK, low, &[(one, lifetime), (other, lifetime)], now);
        assert_eq!(best(&candidates, 10).unwrap(), "64:ff9b::/96");
        candidates.advertised(LINK, low, &[(one, Duration::ZERO)], now);
        assert_eq!(best(&candidates, 10).unwrap(), "64:ff9b::/96");
        candidates.advertised(LINK, high, &[(one, Duration::ZERO)], now);
        assert_eq!(best(&candidates, 10).unwrap(), "2001:db8:64::/96");
        // The last word of a router is about all of its prefixes.
        candidates.advertised(LINK, high, &[(one, lifetime)], now);
        candidates.advertised(LINK, router(1, -1, true), &[], now);
        let stays = best_of(&candidates, LINK, Some(other), now);
        assert_eq!(stays, Some((other, Origin::Advertisement)));
        assert!(candidates.has_advertised(LINK) && !candidates.has_advertised(LINK + 1));
    }

    /// A router that says goodbye leaves its prefix to that of another one; alone, it is served on
    /// until another one is there, and so is one whose lifetime as a default router is over.
    #[test]
    fn a_router_that_goes_comes_behind_those_that_stay() {
        let (one, other) = (prefix("64:ff9b::/96"), prefix("2001:db8:64::/96"));
        let (now, lifetime) = (seconds(10), seconds(600));
        let [goes, stays] = [router(1, 1, false), router(2, -1, true)];
        let mut candidates = Candidates::default();
        candidates.advertised(LINK, goes, &[(one, lifetime)], now);
        assert_eq!(best(&candidates, 10).unwrap(), "64:ff9b::/96");
        candidates.advertised(LINK, stays, &[(other, lifetime)], now);
        assert_eq!(best(&candidates, 10).unwrap(), "2001:db8:64::/96");
        candidates.advertised(LINK, stays, &[(other, Duration::ZERO)], now);
        assert_eq!(best(&candidates, 10).unwrap(), "64:ff9b::/96");
        candidates.advertised(LINK, stays, &[(other, lifetime)], now);
        candidates.advertised(LINK, goes, &[(one, lifetime)], now);
        candidates.advertised(LINK, stays, &[(other, Duration::ZERO)], now);
        assert_eq!(best(&candidates, 10), None, "it has ended");

        let until = seconds(40);
        let silent = Router {
            until,
            ..router(1, 1, true)
        };
        candidates.advertised(LINK, silent, &[(one, lifetime)], now);
        candidates.advertised(LINK, stays, &[(other, lifetime)], now);
        assert_eq!(candidates.deadline(now), Some(until));
        assert_eq!(best(&candidates, 39).unwrap(), "64:ff9b::/96");
        assert_eq!(best(&candidates, 40).unwrap(), "2001:db8:64::/96");
    }

    /// The last router of a link that says goodbye, or all that have, are served on: those on other
    /// links, those whose own time is over, and those that have dropped their prefixes do not stay.
    #[test]
    fn the_prefix_of_the_last_router_is_served_on() {
        let (one, other) = (prefix("64:ff9b::/96"), prefix("2001:db8:64::/96"));
        let (now, lifetime) = (seconds(10), seconds(600));
        let until = |seconds: u64| Router {
            until: self::seconds(seconds),
            ..router(2, 0, true)
        };
        let [stays, goes] = [true, false].map(|stays| router(1, 0, stays));
        let mut candidates = Candidates::default();
        candidates.advertised(LINK, stays, &[(one, lifetime)], now);
        candidates.advertised(LINK + 1, until(600), &[(other, lifetime)], now);
        candidates.advertised(LINK, goes, &[(one, lifetime)], now);
        assert_eq!(best(&candidates, 10).unwrap(), "64:ff9b::/96");

        for (end, is_served) in [(19, true), (20, true), (21, false)] {
            let mut candidates = candidates.clone();
            candidates.advertised(LINK, until(end), &[(other, lifetime)], now);
            candidates.advertised(LINK, goes, &[(one, lifetime)], seconds(20));
            let is_one = |(_, prefix)| prefix == one;
            assert_eq!(candidates.prefixes().any(is_one), is_served, "{end}");
        }
        candidates.advertised(LINK, until(600), &[(other, seconds(5))], now);
        candidates.advertised(LINK, goes, &[(one, lifetime)], seconds(20));
        assert_eq!(best(&candidates, 20).unwrap(), "64:ff9b::/96");
    }

    /// RFC 7050 section 3: an answer replaces that of the same link only. It is used until the next
    /// one, also when its TTL is over, and then before a prefix that its router has let expire.
    #[test]
    fn an_answer_replaces_the_one_before() {
        let (one, other) = (prefix("64:ff9b::/96"), prefix("2001:db8:64::/96"));
        let now = seconds(1000);
        let mut candidates = Candidates::default();
        candidates.advertised(LINK, router(1, 0, true), &[(one, seconds(100))], now);
        candidates.resolved(LINK + 1, &[one], seconds(60), now);
        candidates.resolved(LINK, &[one, other], seconds(60), now);
        candidates.resolved(LINK, &[other], seconds(60), now);
        let on_link: Vec<_> = candidates.on(LINK).collect();
        let router = Some(router(1, 0, true).address);
        let expected = [
            (one, Origin::Advertisement, router, seconds(1100)),
            (other, Origin::Dns, None, seconds(1060)),
        ];
        assert_eq!(on_link, expected);
        assert_eq!(candidates.on(LINK + 1).count(), 1);
        assert_eq!(best(&candidates, 1099).unwrap(), "64:ff9b::/96");
        assert_eq!(best(&candidates, 1100).unwrap(), "2001:db8:64::/96");
    }

    /// Routers are solicited when the last prefix that they have announced on the link is about to
    /// expire.
    #[test]
    fn all_advertised_prefixes_of_a_link_are_to_expire() {
        let (one, other) = (prefix("64:ff9b::/96"), prefix("2001:db8:64::/96"));
        let (now, soon) = (seconds(10), seconds(5));
        let mut candidates = Candidates::default();
        candidates.advertised(LINK, router(1, 0, true), &[(one, seconds(100))], now);
        candidates.advertised(LINK + 1, router(1, 0, true), &[(one, seconds(600))], now);
        candidates.resolved(LINK, &[other], seconds(600), now);
        assert!(candidates.expire_within(LINK, soon, seconds(105)));
        candidates.advertised(LINK, router(1, 0, true), &[(other, seconds(200))], now);
        assert!(!candidates.expire_within(LINK, soon, seconds(105)));
        assert!(!candidates.expire_within(LINK + 2, soon, seconds(105)));
    }

    /// A router with another prefix, which withdraws nothing, has dropped the one before; not one
    /// that announces two in turns, or that has nothing to say about prefixes.
    #[test]
    fn a_prefix_that_its_router_drops_is_the_last_choice() {
        let (one, other) = (prefix("64:ff9b::/96"), prefix("2001:db8:64::/96"));
        let (now, lifetime) = (seconds(10), seconds(600));
        let router = router(1, 0, true);
        let mut candidates = Candidates::default();
        candidates.advertised(LINK, router, &[(one, lifetime)], now);
        let in_use = |candidates: &Candidates| best_of(candidates, LINK, Some(one), now).unwrap().0;
        for _ in 0..10 {
            candidates.advertised(LINK, router, &[(other, lifetime)], now);
            candidates.advertised(LINK, router, &[(one, lifetime)], now);
            candidates.advertised(LINK, router, &[], now);
        }
        for _ in 0..2 {
            candidates.advertised(LINK, router, &[(other, lifetime)], now);
        }
        assert_eq!(in_use(&candidates), one);
        candidates.advertised(LINK, router, &[(other, lifetime)], now);
        assert_eq!(in_use(&candidates), other);
        candidates.take_anew();
        assert_eq!(in_use(&candidates), one);
    }

    /// However many prefixes one router makes up, and however many links have routers, what another
    /// one has announced stays, and there is room for it.
    #[test]
    fn no_router_pushes_out_another() {
        let (one, now) = (prefix("64:ff9b::/96"), seconds(10));
        let mut candidates = Candidates::default();
        candidates.advertised(LINK, router(1, 0, true), &[(one, seconds(600))], now);
        for number in 0..1000_u32 {
            let made_up = prefix(&format!("2001:db8:{number:x}::/96"));
            let made_up = [(made_up, seconds(60_000))];
            candidates.advertised(LINK, router(2, 0, true), &made_up, now);
            let other = router(number as u16, 0, true);
            candidates.advertised(LINK + 1, other, &made_up, now);
        }
        assert_eq!(best(&candidates, 10).unwrap(), "64:ff9b::/96");
        assert_eq!(candidates.0.len(), 1 + MAX_OF_ROUTER + MAX_CANDIDATES);
        candidates.advertised(LINK, router(3, 1, true), &[(one, seconds(600))], now);
        assert_eq!(candidates.0.len(), 2 + MAX_OF_ROUTER + MAX_CANDIDATES);
    }
}
