//! How often the translator speaks: rate limits of the ICMP messages that it originates
//! (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f)).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    time::Instant,
};

use super::IcmpErrors;

/// Echo replies a second at the translator's own addresses.
const ECHO_REPLIES: u32 = 1000;
/// One destination's share of a limit: a tenth.
const SHARE: u32 = 10;
/// Destinations are told apart by this many slots, so that no flood of them takes memory. Two that meet in a slot share
/// its limit; nobody can arrange that, since the hash is seeded.
const SLOTS: usize = 1024;
const NANOSECONDS: u64 = 1_000_000_000;

/// What is limited, each by itself: a flood of one kind takes nothing from the others, and Path MTU Discovery goes on
/// while somebody scans unmapped addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// ICMP errors, but for the next kind.
    Error,
    /// "Fragmentation needed" and "Packet Too Big".
    SizeError,
    /// Echo replies from the translator's own addresses.
    EchoReply,
}

/// The limits of all kinds.
#[derive(Debug)]
pub(super) struct Limits {
    epoch: Instant,
    seed: u64,
    errors: Option<Limit>,
    size_errors: Option<Limit>,
    echo_replies: Limit,
}

impl Limits {
    pub(super) fn new(errors: IcmpErrors, seed: u64, now: Instant) -> Self {
        let limit = || match errors {
            IcmpErrors::Off | IcmpErrors::PerSecond(0) => None,
            IcmpErrors::PerSecond(rate) => Some(Limit::new(rate)),
        };
        Self {
            epoch: now,
            seed,
            errors: limit(),
            size_errors: limit(),
            echo_replies: Limit::new(ECHO_REPLIES),
        }
    }

    /// Whether a message of this kind may be sent now; if so, it is counted.
    pub(super) fn allow(&mut self, kind: Kind, destination: IpAddr, now: Instant) -> bool {
        let limit = match kind {
            Kind::Error => self.errors.as_mut(),
            Kind::SizeError => self.size_errors.as_mut(),
            Kind::EchoReply => Some(&mut self.echo_replies),
        };
        let Some(limit) = limit else { return false };
        let mut hasher = DefaultHasher::new();
        (self.seed, destination).hash(&mut hasher);
        let slot = hasher.finish() as usize % SLOTS;
        limit.allow(
            slot,
            now.saturating_duration_since(self.epoch).as_nanos() as u64,
        )
    }
}

/// A rate in all, and a tenth of it for each destination, each with a burst of one second's worth.
#[derive(Debug)]
struct Limit {
    rate: u32,
    all: Bucket,
    destinations: Box<[Bucket]>,
}

impl Limit {
    fn new(rate: u32) -> Self {
        Self {
            rate,
            all: Bucket::default(),
            destinations: vec![Bucket::default(); SLOTS].into_boxed_slice(),
        }
    }

    fn allow(&mut self, slot: usize, now: u64) -> bool {
        let destination = self.destinations[slot].take((self.rate / SHARE).max(1), now);
        // What its destination may not have is not taken from the others.
        let Some(destination) = destination else {
            return false;
        };
        let Some(all) = self.all.take(self.rate, now) else {
            return false;
        };
        self.destinations[slot] = destination;
        self.all = all;
        true
    }
}

/// A token bucket in one number: when it will be full again, in nanoseconds since the epoch of [`Limits`]
/// (the generic cell rate algorithm, ITU-T I.371 annex A).
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: u64,
}

impl Bucket {
    /// The bucket with one token less, if there is one. `rate` is tokens a second, and how many it holds.
    fn take(self, rate: u32, now: u64) -> Option<Self> {
        let full_at = self.full_at.max(now) + NANOSECONDS / u64::from(rate);
        (full_at <= now + NANOSECONDS).then_some(Self { full_at })
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    fn destination(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    fn allowed(
        limits: &mut Limits,
        kind: Kind,
        destinations: std::ops::Range<u32>,
        now: Instant,
    ) -> usize {
        destinations
            .filter(|&n| limits.allow(kind, destination(n), now))
            .count()
    }

    /// SEC-05, G-06: the defaults, a burst of 1,000 and then 1,000 a second.
    #[test]
    fn a_thousand_at_once_then_a_thousand_a_second() {
        let now = Instant::now();
        let mut limits = Limits::new(IcmpErrors::PerSecond(1000), 1, now);
        assert_eq!(allowed(&mut limits, Kind::Error, 0..5000, now), 1000);
        let later = now + Duration::from_millis(250);
        assert_eq!(allowed(&mut limits, Kind::Error, 0..5000, later), 250);
        let rested = later + Duration::from_secs(3600);
        assert_eq!(
            allowed(&mut limits, Kind::Error, 0..5000, rested),
            1000,
            "no more than the burst"
        );
    }

    #[test]
    fn one_destination_has_a_tenth_and_takes_nothing_from_others() {
        let now = Instant::now();
        let mut limits = Limits::new(IcmpErrors::PerSecond(1000), 1, now);
        let one = (0..5000)
            .filter(|_| limits.allow(Kind::Error, destination(1), now))
            .count();
        assert_eq!(one, 100);
        assert_eq!(allowed(&mut limits, Kind::Error, 2..5000, now), 900);
        let later = now + Duration::from_millis(100);
        let one = (0..50)
            .filter(|_| limits.allow(Kind::Error, destination(1), later))
            .count();
        assert_eq!(one, 10);
    }

    #[test]
    fn kinds_do_not_take_from_each_other() {
        let now = Instant::now();
        let mut limits = Limits::new(IcmpErrors::PerSecond(1000), 1, now);
        for kind in [Kind::Error, Kind::SizeError, Kind::EchoReply] {
            assert_eq!(allowed(&mut limits, kind, 0..5000, now), 1000, "{kind:?}");
        }
    }

    /// G-06: sent, rate-limited or not sent.
    #[test]
    fn errors_can_be_switched_off_and_echo_goes_on() {
        let now = Instant::now();
        for off in [IcmpErrors::Off, IcmpErrors::PerSecond(0)] {
            let mut limits = Limits::new(off, 1, now);
            assert_eq!(allowed(&mut limits, Kind::Error, 0..10, now), 0);
            assert_eq!(allowed(&mut limits, Kind::SizeError, 0..10, now), 0);
            assert_eq!(allowed(&mut limits, Kind::EchoReply, 0..10, now), 10);
        }
        let mut limits = Limits::new(IcmpErrors::PerSecond(1), 1, now);
        assert_eq!(
            allowed(&mut limits, Kind::Error, 0..10, now),
            1,
            "a rate below ten still has a share"
        );
    }
}
