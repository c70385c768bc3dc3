//! Rate limits of the ICMP messages that the translator originates
//! (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f)).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    time::Instant,
};

use super::IcmpErrors;
use crate::pace::{Rate, TokenBucket};

/// Echo replies a second from the translator's own addresses.
const ECHO_REPLIES: u32 = 1000;
/// The share of one destination in a limit: a tenth.
const SHARE: u32 = 10;
/// Buckets for destinations, so that a flood of destinations takes no memory. Two destinations
/// with one bucket share its limit; no sender can arrange that, since the hash is seeded.
const BUCKETS: usize = 1024;

/// An ICMP message that the translator originates.
///
/// Each kind has its own limit: a flood of one takes nothing from the others, and Path MTU
/// Discovery goes on while somebody scans unmapped addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Originated {
    /// An ICMP error other than [`SizeError`](Self::SizeError).
    Error,
    /// "Fragmentation needed" or "Packet Too Big".
    SizeError,
    /// An echo reply from one of the translator's own addresses.
    EchoReply,
}

/// The limits of all messages that the translator originates.
#[derive(Debug)]
pub(super) struct IcmpLimits {
    seed: u64,
    errors: Option<Allowance>,
    size_errors: Option<Allowance>,
    echo_replies: Allowance,
    /// Messages that were not sent for a limit.
    suppressed: u64,
}

impl IcmpLimits {
    /// `sharers` translators share the limits.
    pub(super) fn new(errors: IcmpErrors, sharers: u32, seed: u64) -> Self {
        let allowance = || match errors {
            IcmpErrors::Off | IcmpErrors::PerSecond(0) => None,
            IcmpErrors::PerSecond(rate) => Some(Allowance::new(rate, sharers)),
        };
        Self {
            seed,
            errors: allowance(),
            size_errors: allowance(),
            echo_replies: Allowance::new(ECHO_REPLIES, sharers),
            suppressed: 0,
        }
    }

    /// The number of messages that were not sent for a limit.
    pub(super) fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Takes a message from what may be sent to `destination` now. `false` if nothing is left.
    pub(super) fn take(&mut self, message: Originated, destination: IpAddr, now: Instant) -> bool {
        let allowance = match message {
            Originated::Error => self.errors.as_mut(),
            Originated::SizeError => self.size_errors.as_mut(),
            Originated::EchoReply => Some(&mut self.echo_replies),
        };
        let Some(allowance) = allowance else {
            return false;
        };
        let mut hasher = DefaultHasher::new();
        (self.seed, destination).hash(&mut hasher);
        let taken = allowance.take(hasher.finish() as usize % BUCKETS, now);
        self.suppressed += u64::from(!taken);
        taken
    }
}

/// A rate in all, and a tenth of it for each destination, each with a burst of one second's worth.
#[derive(Debug)]
struct Allowance {
    rate: Rate,
    all: TokenBucket<Instant>,
    share: Rate,
    destinations: Box<[TokenBucket<Instant>]>,
}

impl Allowance {
    /// `rate` is in messages a second, of all sharers.
    fn new(rate: u32, sharers: u32) -> Self {
        Self {
            rate: Rate::per_second(rate).shared_by(sharers),
            all: TokenBucket::default(),
            share: Rate::per_second((rate / SHARE).max(1)).shared_by(sharers),
            destinations: vec![TokenBucket::default(); BUCKETS].into_boxed_slice(),
        }
    }

    fn take(&mut self, bucket: usize, now: Instant) -> bool {
        // A message is taken from both or from neither: what one destination may not have is left
        // for the others.
        let (mut all, mut destination) = (self.all, self.destinations[bucket]);
        let taken = destination
            .take(self.share, now)
            .and_then(|()| all.take(self.rate, now));
        if taken.is_ok() {
            self.all = all;
            self.destinations[bucket] = destination;
        }
        taken.is_ok()
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
        limits: &mut IcmpLimits,
        message: Originated,
        destinations: std::ops::Range<u32>,
        now: Instant,
    ) -> usize {
        destinations
            .filter(|&n| limits.take(message, destination(n), now))
            .count()
    }

    /// The status tells how many errors were not sent.
    #[test]
    fn messages_that_are_not_sent_are_counted() {
        let now = Instant::now();
        let mut limits = IcmpLimits::new(IcmpErrors::PerSecond(1000), 1, 1);
        allowed(&mut limits, Originated::Error, 0..5000, now);
        assert_eq!(limits.suppressed(), 4000);
    }

    /// The default: a burst of 1,000 and then 1,000 a second (RFC 4443 section 2.4 (f)).
    #[test]
    fn a_burst_of_the_rate_then_the_rate() {
        let now = Instant::now();
        let mut limits = IcmpLimits::new(IcmpErrors::PerSecond(1000), 1, 1);
        assert_eq!(allowed(&mut limits, Originated::Error, 0..5000, now), 1000);
        let later = now + Duration::from_millis(250);
        assert_eq!(allowed(&mut limits, Originated::Error, 0..5000, later), 250);
        let rested = later + Duration::from_secs(3600);
        assert_eq!(
            allowed(&mut limits, Originated::Error, 0..5000, rested),
            1000,
            "no more than the burst"
        );
    }

    #[test]
    fn one_destination_gets_a_tenth() {
        let now = Instant::now();
        let mut limits = IcmpLimits::new(IcmpErrors::PerSecond(1000), 1, 1);
        let one = (0..5000)
            .filter(|_| limits.take(Originated::Error, destination(1), now))
            .count();
        assert_eq!(one, 100);
        assert_eq!(allowed(&mut limits, Originated::Error, 2..5000, now), 900);
        let later = now + Duration::from_millis(100);
        let one = (0..50)
            .filter(|_| limits.take(Originated::Error, destination(1), later))
            .count();
        assert_eq!(one, 10);
    }

    /// tayga.conf(5), workers: the limit is that of all workers together.
    #[test]
    fn sharers_have_a_share() {
        let now = Instant::now();
        let mut limits = IcmpLimits::new(IcmpErrors::PerSecond(1000), 4, 1);
        assert_eq!(allowed(&mut limits, Originated::Error, 0..5000, now), 250);
        let later = now + Duration::from_secs(1);
        assert_eq!(allowed(&mut limits, Originated::Error, 0..5000, later), 250);
        let one = (0..50)
            .filter(|_| limits.take(Originated::SizeError, destination(1), now))
            .count();
        assert_eq!(one, 25);
    }

    #[test]
    fn messages_of_one_kind_take_nothing_from_another() {
        let now = Instant::now();
        let mut limits = IcmpLimits::new(IcmpErrors::PerSecond(1000), 1, 1);
        for message in [
            Originated::Error,
            Originated::SizeError,
            Originated::EchoReply,
        ] {
            assert_eq!(
                allowed(&mut limits, message, 0..5000, now),
                1000,
                "{message:?}"
            );
        }
    }

    /// RFC 7915 sections 4.4 and 5.4 leave it to the configuration.
    #[test]
    fn errors_off_leaves_echo_on() {
        let now = Instant::now();
        for off in [IcmpErrors::Off, IcmpErrors::PerSecond(0)] {
            let mut limits = IcmpLimits::new(off, 1, 1);
            assert_eq!(allowed(&mut limits, Originated::Error, 0..10, now), 0);
            assert_eq!(allowed(&mut limits, Originated::SizeError, 0..10, now), 0);
            assert_eq!(allowed(&mut limits, Originated::EchoReply, 0..10, now), 10);
        }
        let mut limits = IcmpLimits::new(IcmpErrors::PerSecond(1), 1, 1);
        assert_eq!(
            allowed(&mut limits, Originated::Error, 0..10, now),
            1,
            "a rate below ten still has a share"
        );
    }
}
