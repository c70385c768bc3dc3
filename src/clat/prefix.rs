//! NAT64 prefixes: where they come from, how long they hold, and which one counts.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::addr::{Nat64Prefix, Prefix6};

/// The addresses of ipv4only.arpa (RFC 7050 section 8.2).
pub(super) const WELL_KNOWN: [Ipv4Addr; 2] =
    [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

/// Lengths of NAT64 prefixes, in bits (RFC 6052 section 2.2).
const LENGTHS: [u8; 6] = [96, 64, 56, 48, 40, 32];

/// A prefix whose lifetime ran out, and of which nobody said that it ends, is used for so long until it is given up: a router
/// that repeats itself too seldom is no reason to take the network away (RA81-10).
const HOLD_DOWN: Duration = Duration::from_secs(60);

/// So many prefixes of each origin are remembered; more than anybody needs.
const MOST: usize = 16;

/// Prefixes by the addresses of ipv4only.arpa (RFC 7050 section 3): in the order in which they were found. An address that
/// has a well-known one in several places counts only for the place in which another address has the other one.
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

/// Prefixes in which `address` is that of a well-known one.
fn places(address: Ipv6Addr) -> impl Iterator<Item = (Nat64Prefix, Ipv4Addr)> {
    LENGTHS.into_iter().filter_map(move |length| {
        let prefix = nat64(address, length)?;
        // "zeros at the locations where they are required" (RFC 7050 section 3): a DNS64 writes the
        // address.
        let v4 = prefix.extract(address)?;
        let is_written_so = length == 96 || address.octets()[8] == 0;
        (is_written_so && WELL_KNOWN.contains(&v4)).then_some((prefix, v4))
    })
}

/// The prefix of this length that an address is in, if it can be a NAT64's.
pub fn nat64(address: Ipv6Addr, length: u8) -> Option<Nat64Prefix> {
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    let prefix = Prefix6::new((address.to_bits() & mask).into(), length).ok()?;
    Nat64Prefix::new(prefix).ok()
}

/// Who said that a prefix is a NAT64's. The first is believed before all others (RFC 9872 section 3.1).
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

/// One that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    /// The device by which it was found.
    link: u32,
    origin: Origin,
    /// Of the router; higher is better.
    preference: i8,
    prefix: Nat64Prefix,
    /// When its lifetime is over.
    until: Duration,
}

/// What was found so far. Times are since the machine started.
#[derive(Debug, Default)]
pub struct Candidates(Vec<Candidate>);

impl Candidates {
    /// Takes a prefix from an advertisement; a lifetime of zero ends it (RFC 8781 section 4).
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

    /// Takes what a DNS64 said: these, and no others any more. None at all: there is no DNS64.
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

    /// For how many more of an origin there is room: who makes up one kind does not keep out the other.
    fn free(&self, origin: Origin) -> usize {
        let there = self.0.iter().filter(|one| one.origin == origin).count();
        MOST.saturating_sub(there)
    }

    /// What was found, and by which device.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = (u32, Nat64Prefix)> {
        self.0.iter().map(|one| (one.link, one.prefix))
    }

    /// Forgets a prefix.
    pub(super) fn drop(&mut self, link: u32, prefix: Nat64Prefix) {
        self.0
            .retain(|one| (one.link, one.prefix) != (link, prefix));
    }

    /// Forgets what was found by devices that are gone or down (RFC 7050 section 3: another network, another prefix).
    pub fn retain_links(&mut self, is_there: impl Fn(u32) -> bool) {
        self.0.retain(|one| is_there(one.link));
    }

    /// The one that counts for a device: of an advertisement before that of a DNS64, within its lifetime before one that is
    /// held, of the preferred router, the first that was found; `current` stays as long as it is as good as any.
    pub fn best(
        &self,
        link: u32,
        current: Option<Nat64Prefix>,
        now: Duration,
    ) -> Option<(Nat64Prefix, Origin)> {
        self.0
            .iter()
            .filter(|one| one.link == link && now < one.end())
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

    /// When something will have run out next: a lifetime, or the time for which a prefix is held then.
    pub fn deadline(&self, now: Duration) -> Option<Duration> {
        let ends = self.0.iter().flat_map(|one| [one.until, one.end()]);
        ends.filter(|end| *end > now).min()
    }

    /// Whether the lifetimes of all prefixes of a device's advertisements are over or will be, `soon` from now.
    pub fn expire_within(&self, link: u32, soon: Duration, now: Duration) -> bool {
        let mut advertised = self
            .0
            .iter()
            .filter(|one| one.link == link && one.origin == Origin::Advertisement)
            .peekable();
        advertised.peek().is_some() && advertised.all(|one| one.until <= now + soon)
    }

    /// Drops what has run out.
    pub fn drop_expired(&mut self, now: Duration) {
        self.0.retain(|one| now < one.end());
    }
}

impl Candidate {
    fn end(&self) -> Duration {
        match self.origin {
            Origin::Advertisement => self.until + HOLD_DOWN,
            // A server that does not answer the renewal is no proof that there is no DNS64 any more.
            _ => Duration::MAX,
        }
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

    /// D50-02: at each of the places of RFC 6052 section 2.2.
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

    /// D50-03: with both of a pair it is clear which one is meant; D50-05: all are kept, in order.
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

    /// D50-04, RA81-03
    #[test]
    fn what_no_nat64_can_have_is_not_found() {
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
        // D50-06: it stays until a server says otherwise.
        assert!(candidates.best(LINK, None, seconds(9_999)).is_some());
        candidates.resolved(LINK, &[], seconds(60), now);
        assert_eq!(candidates.best(LINK, None, now), None);
    }

    /// RA81-10: a lifetime that runs out is not the end at once; another prefix that holds is better.
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

    /// RA81-07: by preference, and among equals the one that is in use.
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
        assert!(candidates.0.len() <= MOST);
        candidates.resolved(LINK, &[one], seconds(60), now);
        assert!(candidates.0.iter().any(|one| one.origin == Origin::Dns));
        candidates.retain_links(|link| link != LINK);
        assert_eq!(candidates.best(LINK, None, now), None);
    }
}
