//! NAT64 prefixes: their origins, lifetimes, and the one that counts.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::addr::{Nat64Prefix, Prefix6};

/// The addresses of ipv4only.arpa (RFC 7050 section 8.2).
pub(super) const WELL_KNOWN: [Ipv4Addr; 2] =
    [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

/// Lengths of NAT64 prefixes, in bits (RFC 6052 section 2.2).
const LENGTHS: [u8; 6] = [96, 64, 56, 48, 40, 32];

/// The time for which an advertised prefix is still used when its lifetime has run out: a router
/// that repeats itself too seldom does not end IPv4. Only a lifetime of zero ends it at once.
const HOLD_DOWN: Duration = Duration::from_secs(60);

/// Number of prefixes of each origin that are kept.
const MAX_CANDIDATES: usize = 16;

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

/// A prefix that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    /// The link by which it was found.
    link: u32,
    origin: Origin,
    /// The preference of the router; higher is better.
    preference: i8,
    prefix: Nat64Prefix,
    /// The end of its lifetime.
    until: Duration,
}

/// The prefixes found so far.
#[derive(Debug, Default)]
pub struct Candidates(Vec<Candidate>);

impl Candidates {
    /// Takes a prefix of a Router Advertisement; a lifetime of zero ends it (RFC 8781 section 4).
    pub fn advertised(
        &mut self,
        link: u32,
        preference: i8,
        prefix: Nat64Prefix,
        lifetime: Duration,
        now: Duration,
    ) {
        let is_it = |one: &Candidate| {
            one.link == link && one.origin == Origin::Advertisement && one.prefix == prefix
        };
        if lifetime.is_zero() {
            self.0.retain(|one| !is_it(one));
            return;
        }
        let until = now + lifetime;
        if let Some(one) = self.0.iter_mut().find(|one| is_it(one)) {
            (one.until, one.preference) = (until, preference);
        } else if self.free(Origin::Advertisement) > 0 {
            self.0.push(Candidate {
                link,
                origin: Origin::Advertisement,
                preference,
                prefix,
                until,
            });
        }
    }

    /// Takes the answer of a DNS64: these prefixes, and no others by DNS any more.
    pub fn resolved(&mut self, link: u32, prefixes: &[Nat64Prefix], ttl: Duration, now: Duration) {
        self.0
            .retain(|one| one.link != link || one.origin != Origin::Dns);
        let free = self.free(Origin::Dns);
        self.0
            .extend(prefixes.iter().take(free).map(|&prefix| Candidate {
                link,
                origin: Origin::Dns,
                preference: 0,
                prefix,
                until: now + ttl,
            }));
    }

    /// Number of prefixes of an origin that may still be added: one does not crowd out another.
    fn free(&self, origin: Origin) -> usize {
        let there = self.0.iter().filter(|one| one.origin == origin).count();
        MAX_CANDIDATES.saturating_sub(there)
    }

    /// The prefixes, each with its link.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = (u32, Nat64Prefix)> {
        self.0.iter().map(|one| (one.link, one.prefix))
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

    /// The prefix that counts on a link. These rules decide, in order: within its lifetime,
    /// advertised, by the preferred router, `current`, found first.
    pub fn best(
        &self,
        link: u32,
        current: Option<Nat64Prefix>,
        now: Duration,
    ) -> Option<(Nat64Prefix, Origin)> {
        self.0
            .iter()
            .filter(|one| one.link == link && one.holds(now))
            .min_by_key(|one| {
                (
                    one.until <= now && one.origin == Origin::Advertisement,
                    one.origin,
                    -one.preference,
                    Some(one.prefix) != current,
                )
            })
            .map(|one| (one.prefix, one.origin))
    }

    /// The next end of a lifetime, or of the time for which a prefix is held.
    pub fn deadline(&self, now: Duration) -> Option<Duration> {
        let ends = self.0.iter().flat_map(|one| [Some(one.until), one.end()]);
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

    /// RFC 9872 section 3.1; RFC 8781 section 4.
    #[test]
    fn an_advertisement_is_believed_before_dns() {
        let mut candidates = Candidates::default();
        let (one, other) = (prefix("64:ff9b::/96"), prefix("2001:db8:64::/96"));
        let now = seconds(1000);
        candidates.resolved(LINK, &[one], seconds(60), now);
        assert_eq!(candidates.best(LINK, None, now), Some((one, Origin::Dns)));
        candidates.advertised(LINK, 0, other, seconds(600), now);
        let best = candidates.best(LINK, Some(one), now);
        assert_eq!(best, Some((other, Origin::Advertisement)));
        assert_eq!(candidates.best(LINK + 1, None, now), None);
        candidates.advertised(LINK, 0, other, Duration::ZERO, now);
        assert_eq!(candidates.best(LINK, None, now), Some((one, Origin::Dns)));
        // It stays until a server says otherwise.
        assert!(candidates.best(LINK, None, seconds(9_999)).is_some());
        candidates.resolved(LINK, &[], seconds(60), now);
        assert_eq!(candidates.best(LINK, None, now), None);
    }

    /// An expired prefix is used for a while, but one within its lifetime comes before it.
    #[test]
    fn an_expired_prefix_is_held_for_a_while() {
        let mut candidates = Candidates::default();
        let (one, other) = (prefix("64:ff9b::/96"), prefix("2001:db8:64::/96"));
        candidates.advertised(LINK, 0, one, seconds(16), seconds(100));
        assert_eq!(candidates.deadline(seconds(100)), Some(seconds(116)));
        assert!(candidates.expire_within(LINK, seconds(5), seconds(111)));
        assert!(!candidates.expire_within(LINK, seconds(5), seconds(110)));
        assert!(candidates.best(LINK, None, seconds(175)).is_some());
        assert_eq!(candidates.best(LINK, None, seconds(176)), None);
        candidates.advertised(LINK, -1, other, seconds(600), seconds(116));
        let best = candidates.best(LINK, Some(one), seconds(116));
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
        candidates.advertised(LINK, 0, one, seconds(600), now);
        candidates.advertised(LINK, 0, other, seconds(600), now);
        let best =
            |candidates: &Candidates, current| candidates.best(LINK, current, now).unwrap().0;
        assert_eq!(best(&candidates, None), one);
        assert_eq!(best(&candidates, Some(other)), other);
        candidates.advertised(LINK, 1, one, seconds(600), now);
        assert_eq!(best(&candidates, Some(other)), one);
        for number in 0..1000_u32 {
            let text = format!("2001:db8:{number:x}::/96");
            candidates.advertised(LINK, 0, prefix(&text), seconds(600), now);
        }
        assert!(candidates.0.len() <= MAX_CANDIDATES);
        candidates.resolved(LINK, &[one], seconds(60), now);
        assert!(candidates.0.iter().any(|one| one.origin == Origin::Dns));
        candidates.retain_links(|link| link != LINK);
        assert_eq!(candidates.best(LINK, None, now), None);
    }
}
