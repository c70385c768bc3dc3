//! The source that packets leave with: the CLAT address, which is tested before it is used, or an
//! address of the host (RFC 6877 section 6.3).

use std::{net::Ipv6Addr, time::Duration};

use super::{
    Address, Interface, NoClatAddress, Settings, Source,
    damping::{Change, Damping},
    discovery::Discovery,
    iid,
    network::{best, network_of},
};
use crate::addr::Nat64Prefix;

/// The time that duplicate address detection may take: a second or two (RFC 4862 section 5.4), and
/// more where routers announce a longer retransmission timer, or the machine is busy. Without a
/// result, connections by this address end.
const DETECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of probes from an address, and the time for which an answer to each is waited for.
const PROBES: u32 = 3;
const PROBE_INTERVAL: Duration = Duration::from_millis(300);
/// Number of addresses that are tried if other hosts have them.
const ATTEMPTS: u32 = 3;

/// The states of a CLAT address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Dedicated {
    /// None has been tried.
    #[default]
    Untried,
    /// It is on the uplink, for the kernel to detect duplicates.
    Detecting { address: Ipv6Addr, since: Duration },
    /// Probes go out from the host's own address first: if the router did not answer them, it would
    /// prove nothing that it does not answer ours. If ours went first, and the router did not get
    /// answers to its Neighbour Solicitations for it, the host could not reach the router either.
    ProbingHost {
        address: Ipv6Addr,
        host: Ipv6Addr,
        probes: Probes,
    },
    /// The router answers the host: probes go out from the CLAT address.
    Probing { address: Ipv6Addr, probes: Probes },
    /// It is ours.
    Ready(Ipv6Addr),
    /// There is none.
    Unavailable(NoClatAddress),
}

/// The probes from one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probes {
    sent: u32,
    next: Duration,
}

/// The turn of a series of probes.
enum Turn {
    Wait,
    Send,
    Over,
}

impl Probes {
    fn from(now: Duration) -> Self {
        Self { sent: 0, next: now }
    }

    fn turn(&mut self, now: Duration) -> Turn {
        if now < self.next {
            return Turn::Wait;
        }
        if self.sent == PROBES {
            return Turn::Over;
        }
        self.sent += 1;
        self.next = now + PROBE_INTERVAL;
        Turn::Send
    }
}

/// The test that a CLAT address has to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    /// No other host has it.
    Unique,
    /// Also, the network forwards packets from it.
    UniqueAndForwarded,
}

/// The uplink that a CLAT address is for.
pub(super) struct Place<'a> {
    pub(super) settings: &'a Settings,
    pub(super) uplink: &'a Interface,
    pub(super) prefix: Nat64Prefix,
}

/// The CLAT address, as it comes to be.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) state: Dedicated,
    /// Number of addresses that other hosts had.
    attempts: u32,
    /// Whether packets have come back to the address.
    is_answered: bool,
    /// The address that was used when the link went down.
    used: Option<Ipv6Addr>,
    /// The address that was ours last, and the link-layer address that the uplink had.
    last: Option<(Option<[u8; 6]>, Ipv6Addr)>,
}

impl Choice {
    /// Begins anew, since the link was down. It is tested again that no other host has the address
    /// that was used (RFC 4862 section 5.4), and not that it is forwarded: answers to probes may be
    /// lost while a link comes up, and open connections with it.
    pub(super) fn start_over(&mut self) {
        let used = match self.state {
            Dedicated::Ready(address) => Some(address),
            _ => self.used,
        };
        *self = Self {
            used,
            last: self.last,
            ..Self::default()
        };
    }

    /// Forgets everything but the address that was ours last.
    pub(super) fn reset(&mut self) {
        *self = Self {
            last: self.last,
            ..Self::default()
        };
    }

    /// The CLAT address, also while it is tested.
    pub(super) fn address(&self) -> Option<Ipv6Addr> {
        match self.state {
            Dedicated::Detecting { address, .. }
            | Dedicated::ProbingHost { address, .. }
            | Dedicated::Probing { address, .. }
            | Dedicated::Ready(address) => Some(address),
            Dedicated::Untried | Dedicated::Unavailable(_) => None,
        }
    }

    /// The address that is on the uplink to be tested.
    pub(super) fn tested(&self) -> Option<Ipv6Addr> {
        self.address()
            .filter(|_| !matches!(self.state, Dedicated::Ready(_)))
    }

    /// The reason why there is none.
    pub(super) fn unavailable(&self) -> Option<NoClatAddress> {
        match self.state {
            Dedicated::Unavailable(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether answers to probes are awaited.
    pub(super) fn probes(&self) -> bool {
        matches!(
            self.state,
            Dedicated::ProbingHost { .. } | Dedicated::Probing { .. }
        )
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match self.state {
            Dedicated::Detecting { since, .. } => Some(since + DETECTION_TIMEOUT),
            Dedicated::ProbingHost { probes, .. } | Dedicated::Probing { probes, .. } => {
                Some(probes.next)
            }
            Dedicated::Untried | Dedicated::Ready(_) | Dedicated::Unavailable(_) => None,
        }
    }

    /// The end of the wait for a network to form an address in, if there is one to come.
    pub(super) fn patience(
        &self,
        settings: &Settings,
        discovery: &Discovery,
        now: Duration,
    ) -> Option<Duration> {
        let waits = settings.source == Source::Auto && self.state == Dedicated::Untried;
        discovery.patience(now).filter(|_| waits)
    }

    /// Goes on with the CLAT address for an uplink. Returns the source of a probe to send.
    pub(super) fn go_on(
        &mut self,
        place: &Place<'_>,
        discovery: &mut Discovery,
        damping: &mut Damping,
        now: Duration,
    ) -> Option<Ipv6Addr> {
        let source = place.settings.source;
        if source == Source::Shared {
            return None;
        }
        let model = place.model(self.address(), discovery).copied();
        if self.has_left_network(place, model) {
            self.reset();
            discovery.be_patient(now);
        }
        let last = self.last;
        let candidate = |attempt| place.candidate(model, attempt, last);
        let lacks_network = matches!(
            self.state,
            Dedicated::Unavailable(
                NoClatAddress::NoNetwork | NoClatAddress::NotDerivable | NoClatAddress::HostHas
            )
        );
        if lacks_network && candidate(0).is_ok() {
            self.reset();
        }
        if self.state == Dedicated::Untried {
            let waits = self.patience(place.settings, discovery, now).is_some();
            if waits && candidate(0).is_err() || !damping.allows(Change::Other, now) {
                return None;
            }
        }
        let host = place.uplink.best_source(place.prefix, self.address());
        let test = match source {
            Source::Auto => Test::UniqueAndForwarded,
            Source::Shared | Source::Derived | Source::Explicit(_) => Test::Unique,
        };
        let probe = self.test(place.uplink, host, candidate, test, now);
        if let Dedicated::Ready(address) = self.state {
            self.last = Some((place.uplink.mac, address));
        }
        probe
    }

    /// Whether the host has left the network of the CLAT address, or is about to and has an address
    /// in another one.
    fn has_left_network(&self, place: &Place<'_>, model: Option<Address>) -> bool {
        let Some(ours) = self.address() else {
            return false;
        };
        let is_better = model.is_some_and(|one| !one.deprecated);
        let mut there = place
            .uplink
            .addresses_but(Some(ours))
            .filter(|one| network_of(one.address) == network_of(ours));
        !matches!(place.settings.source, Source::Explicit(_))
            && !there.any(|one| !one.deprecated || !is_better)
    }

    /// Goes on with the test. `candidate` gives an address by the number of the attempt; `host` is
    /// the best address of the host. Returns the source of a probe to send.
    fn test(
        &mut self,
        uplink: &Interface,
        host: Option<Ipv6Addr>,
        candidate: impl Fn(u32) -> Result<Ipv6Addr, NoClatAddress>,
        test: Test,
        now: Duration,
    ) -> Option<Ipv6Addr> {
        // Each turn comes nearer to an end: the number of attempts is limited.
        loop {
            self.state = match &mut self.state {
                Dedicated::Untried => match candidate(self.attempts) {
                    Ok(address) => Dedicated::Detecting {
                        address,
                        since: now,
                    },
                    Err(reason) => Dedicated::Unavailable(reason),
                },
                Dedicated::Detecting { address, since } => {
                    let found = uplink.addresses.iter().find(|one| one.address == *address);
                    match (found, test, host) {
                        (Some(found), _, _) if found.duplicate => {
                            self.attempts += 1;
                            if self.attempts < ATTEMPTS {
                                Dedicated::Untried
                            } else {
                                Dedicated::Unavailable(NoClatAddress::InUse)
                            }
                        }
                        (Some(found), ..)
                            if !found.tentative
                                && (test == Test::Unique || self.used == Some(*address)) =>
                        {
                            Dedicated::Ready(*address)
                        }
                        (Some(found), _, Some(host)) if !found.tentative => {
                            Dedicated::ProbingHost {
                                address: *address,
                                host,
                                probes: Probes::from(now),
                            }
                        }
                        _ if now >= *since + DETECTION_TIMEOUT => {
                            Dedicated::Unavailable(NoClatAddress::NotDetected)
                        }
                        _ => return None,
                    }
                }
                Dedicated::ProbingHost {
                    address,
                    host,
                    probes,
                } => match probes.turn(now) {
                    Turn::Wait => return None,
                    Turn::Send => return Some(*host),
                    // A router that answers nobody proves nothing.
                    Turn::Over => Dedicated::Ready(*address),
                },
                Dedicated::Probing { address, probes } => match probes.turn(now) {
                    Turn::Wait => return None,
                    Turn::Send => return Some(*address),
                    Turn::Over => Dedicated::Unavailable(NoClatAddress::Filtered),
                },
                Dedicated::Ready(_) | Dedicated::Unavailable(_) => return None,
            };
        }
    }

    /// Takes notice that packets come back to this source.
    pub(super) fn comes_back(&mut self, to: Ipv6Addr) {
        self.is_answered |= self.state == Dedicated::Ready(to);
    }

    /// Takes notice that no packet comes back to this source, by no prefix. A network may drop what
    /// comes from an address that it has not given out, behind the router that answered the test.
    /// Returns why the host's own address is tried in its place, if it is.
    pub(super) fn is_silent(&mut self, to: Ipv6Addr, settings: &Settings) -> Option<NoClatAddress> {
        let may_be_filtered = settings.source == Source::Auto && !self.is_answered;
        let reason = NoClatAddress::Unanswered;
        (may_be_filtered && self.state == Dedicated::Ready(to)).then(|| {
            self.state = Dedicated::Unavailable(reason);
            reason
        })
    }

    /// Takes notice that packets come back to the host's address, as they did not before: that the
    /// CLAT address was not answered may have had the same cause, so it is tried again.
    pub(super) fn answers_again(&mut self) {
        if self.unavailable() == Some(NoClatAddress::Unanswered) {
            self.reset();
        }
    }

    /// Forgets that the network was against the address: it may be another one now.
    pub(super) fn try_again(&mut self) {
        self.is_answered = false;
        self.used = None;
        if matches!(
            self.unavailable(),
            Some(NoClatAddress::Filtered | NoClatAddress::Unanswered)
        ) {
            self.reset();
        }
    }

    /// Takes the answer of a router to a probe from this address.
    pub(super) fn answered(&mut self, from: Ipv6Addr, now: Duration) {
        self.state = match self.state {
            Dedicated::ProbingHost { address, .. } | Dedicated::Probing { address, .. }
                if from == address =>
            {
                Dedicated::Ready(address)
            }
            Dedicated::ProbingHost { address, host, .. } if from == host => Dedicated::Probing {
                address,
                probes: Probes::from(now),
            },
            unchanged => unchanged,
        };
    }
}

impl Place<'_> {
    /// The host's address that the CLAT address is formed after: in the same network.
    fn model(&self, ours: Option<Ipv6Addr>, discovery: &Discovery) -> Option<&Address> {
        let hosts = self.uplink.addresses_but(ours);
        match self.settings.source {
            Source::Auto => {
                let announced = hosts.filter(|one| {
                    discovery.is_announced(self.uplink.index, one.address) && !one.duplicate
                });
                best(announced, self.prefix)
            }
            Source::Derived => {
                let derivable = hosts.filter(|one| iid::derived(one.address).is_some());
                best(derivable, self.prefix)
            }
            Source::Shared | Source::Explicit(_) => None,
        }
    }

    /// The CLAT address to try, by the number of the attempt. Only those formed by ourselves have
    /// others after them. The first is the one that was ours last in the same network: open
    /// connections have it, although the prefix that it is neutral for may be gone.
    fn candidate(
        &self,
        model: Option<Address>,
        attempt: u32,
        last: Option<(Option<[u8; 6]>, Ipv6Addr)>,
    ) -> Result<Ipv6Addr, NoClatAddress> {
        let settings = self.settings;
        match settings.source {
            Source::Explicit(address) if attempt == 0 => {
                // One that is there for our test is deprecated from the start.
                let mut hosts = self.uplink.addresses.iter();
                match hosts.any(|one| one.address == address && !one.deprecated) {
                    true => Err(NoClatAddress::HostHas),
                    false => Ok(address),
                }
            }
            Source::Derived if attempt == 0 => {
                let derived = model.and_then(|model| iid::derived(model.address));
                derived.ok_or(NoClatAddress::NotDerivable)
            }
            Source::Auto => {
                let network = network_of(model.ok_or(NoClatAddress::NoNetwork)?.address);
                let mac = self.uplink.mac;
                let last = last.filter(|(its_mac, address)| {
                    attempt == 0 && *its_mac == mac && network_of(*address) == network
                });
                if let Some((_, address)) = last {
                    return Ok(address);
                }
                Ok(iid::stable(network, settings, mac, attempt, self.prefix))
            }
            Source::Derived | Source::Explicit(_) | Source::Shared => Err(NoClatAddress::InUse),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    const HOST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 6, 0, 0, 0, 0, 2);

    fn candidate(attempt: u32) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 6, 0, 0, 0, 1, attempt as u16)
    }

    /// The result of duplicate address detection.
    #[derive(Clone, Copy)]
    enum Detected {
        NotYet,
        Unique,
        Duplicate,
    }

    fn link(address: Ipv6Addr, detected: Detected) -> Interface {
        Interface {
            addresses: vec![Address {
                address,
                length: 128,
                deprecated: true,
                temporary: false,
                tentative: matches!(detected, Detected::NotYet),
                duplicate: matches!(detected, Detected::Duplicate),
            }],
            ..Interface::default()
        }
    }

    fn go(choice: &mut Choice, link: &Interface, now: u64) -> Option<Ipv6Addr> {
        let now = Duration::from_millis(now);
        choice.test(
            link,
            Some(HOST),
            |attempt| Ok(candidate(attempt)),
            Test::UniqueAndForwarded,
            now,
        )
    }

    /// Duplicate address detection, then probes; then it is off the interface, and ours.
    #[test]
    fn an_address_is_tested_and_taken() {
        let mut choice = Choice::default();
        let address = candidate(0);
        assert_eq!(go(&mut choice, &Interface::default(), 0), None);
        assert_eq!(choice.tested(), Some(address));
        assert_eq!(choice.deadline(), Some(Duration::from_secs(10)));
        let tentative = link(address, Detected::NotYet);
        assert_eq!(go(&mut choice, &tentative, 900), None);
        let there = link(address, Detected::Unique);
        assert_eq!(go(&mut choice, &there, 1000), Some(HOST));
        assert_eq!(go(&mut choice, &there, 1299), None);
        assert_eq!(choice.deadline(), Some(Duration::from_millis(1300)));
        assert_eq!(go(&mut choice, &there, 1300), Some(HOST));
        let now = Duration::from_millis(1400);
        choice.answered(candidate(7), now);
        assert!(matches!(choice.state, Dedicated::ProbingHost { .. }));
        choice.answered(HOST, now);
        assert_eq!(go(&mut choice, &there, 1400), Some(address));
        assert_eq!(choice.tested(), Some(address));
        choice.answered(address, now);
        assert_eq!(choice.state, Dedicated::Ready(address));
        assert_eq!((choice.tested(), choice.deadline()), (None, None));
        assert_eq!(go(&mut choice, &Interface::default(), 9000), None);
        assert_eq!(choice.address(), Some(address));
    }

    /// A router that answers the host alone filters; one that answers nobody proves nothing.
    #[test]
    fn a_network_that_filters_ends_the_test() {
        let mut choice = Choice::default();
        go(&mut choice, &Interface::default(), 0);
        let there = link(candidate(0), Detected::Unique);
        for now in [1000, 1300, 1600] {
            assert_eq!(go(&mut choice, &there, now), Some(HOST));
        }
        assert_eq!(go(&mut choice, &there, 1900), None);
        assert_eq!(choice.state, Dedicated::Ready(candidate(0)));

        let mut choice = Choice::default();
        go(&mut choice, &Interface::default(), 0);
        assert_eq!(go(&mut choice, &there, 1000), Some(HOST));
        choice.answered(HOST, Duration::from_millis(1001));
        for now in [1001, 1301, 1601] {
            assert_eq!(go(&mut choice, &there, now), Some(candidate(0)));
            choice.answered(HOST, Duration::from_millis(now));
        }
        assert_eq!(go(&mut choice, &there, 1901), None);
        assert_eq!(
            choice.state,
            Dedicated::Unavailable(NoClatAddress::Filtered)
        );
    }

    /// RFC 7217 section 6: after a conflict another one; not for ever.
    #[test]
    fn a_conflict_means_another_address() {
        let mut choice = Choice::default();
        go(&mut choice, &Interface::default(), 0);
        for attempt in 0..ATTEMPTS {
            assert_eq!(choice.tested(), Some(candidate(attempt)));
            go(
                &mut choice,
                &link(candidate(attempt), Detected::Duplicate),
                0,
            );
        }
        assert_eq!(choice.state, Dedicated::Unavailable(NoClatAddress::InUse));
    }

    #[test]
    fn an_address_that_cannot_be_had_is_unavailable() {
        let mut choice = Choice::default();
        let now = Duration::ZERO;
        choice.test(
            &Interface::default(),
            None,
            |_| Err(NoClatAddress::NoNetwork),
            Test::UniqueAndForwarded,
            now,
        );
        assert_eq!(
            choice.state,
            Dedicated::Unavailable(NoClatAddress::NoNetwork)
        );
        let mut choice = Choice::default();
        go(&mut choice, &Interface::default(), 0);
        go(&mut choice, &Interface::default(), 9_999);
        assert!(choice.tested().is_some());
        go(&mut choice, &Interface::default(), 10_000);
        assert_eq!(
            choice.state,
            Dedicated::Unavailable(NoClatAddress::NotDetected)
        );
        // One that an administrator names is not probed.
        let mut choice = Choice::default();
        let there = link(candidate(0), Detected::Unique);
        choice.test(&there, None, |_| Ok(candidate(0)), Test::Unique, now);
        assert_eq!(choice.state, Dedicated::Ready(candidate(0)));
    }
}
