//! The IPv6 address that packets leave with: one for the CLAT alone (RFC 6877 section 6.3), which is checked before it is
//! used; or the host's.

use std::{
    hash::Hasher,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use siphasher::sip::SipHasher13;

use super::{Interface, Settings, Status};
use crate::{addr::Nat64Prefix, wire::checksum::Sum};

/// Duplicate address detection takes a second or two (RFC 4862 section 5.4); what takes longer has failed.
const DETECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// So often it is tried whether packets from the address pass, and so long an answer is waited for.
const PROBES: u32 = 3;
const PROBE_INTERVAL: Duration = Duration::from_millis(300);
/// So many addresses are tried, should others have them.
const ATTEMPTS: u32 = 3;

/// Why there is no address of our own.
pub(super) const NO_NETWORK: &str =
    "no router announces a /64 in which this host has made itself an address";
pub(super) const NOT_DERIVABLE: &str = "no address of the host is made of a link-layer address";
pub(super) const IN_USE: &str = "other hosts have the addresses that were tried";
const NOT_DETECTED: &str = "the kernel does not say whether another host has it";
const FILTERED: &str = "the network does not let packets from another address pass";

/// How far an address of our own is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Dedicated {
    /// Nothing has been tried.
    #[default]
    None,
    /// It is on the uplink, for the kernel to find out whether somebody else has it.
    Detecting { address: Ipv6Addr, since: Duration },
    /// It is tried whether packets from it pass: once those from the host's own are answered. If it were the first one, and
    /// the router did not answer its Neighbour Solicitations, the host could not find the router either.
    Probing {
        address: Ipv6Addr,
        host: Ipv6Addr,
        /// Whether the host's own was answered.
        host_answered: bool,
        /// How often it was tried, and when it is next.
        probes: u32,
        next: Duration,
    },
    /// It is ours.
    Ready(Ipv6Addr),
    /// There is none, for this reason.
    Refused(&'static str),
}

/// An address of our own, as it comes to be.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) state: Dedicated,
    /// How many addresses others had.
    attempts: u32,
}

impl Choice {
    /// The address, if there is one.
    pub(super) fn address(&self) -> Option<Ipv6Addr> {
        match self.state {
            Dedicated::Detecting { address, .. }
            | Dedicated::Probing { address, .. }
            | Dedicated::Ready(address) => Some(address),
            Dedicated::None | Dedicated::Refused(_) => None,
        }
    }

    /// The address that is to be on the uplink while it is checked.
    pub(super) fn on_trial(&self) -> Option<Ipv6Addr> {
        self.address()
            .filter(|_| !matches!(self.state, Dedicated::Ready(_)))
    }

    /// Whether there was nothing that an address could have been made of.
    pub(super) fn lacks_network(&self) -> bool {
        self.state == Dedicated::Refused(NO_NETWORK)
            || self.state == Dedicated::Refused(NOT_DERIVABLE)
    }

    /// Whether answers to probes are awaited.
    pub(super) fn probes(&self) -> bool {
        matches!(self.state, Dedicated::Probing { .. })
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match self.state {
            Dedicated::Detecting { since, .. } => Some(since + DETECTION_TIMEOUT),
            Dedicated::Probing { next, .. } => Some(next),
            _ => None,
        }
    }

    /// Goes on from what is known of the uplink, and of the host's own address there. `candidate` names an address, by the
    /// number of the attempt, or says why there is none; whether packets from it pass is only of interest if it `is_probed`.
    /// Returns the source of a probe that is to be sent.
    pub(super) fn go_on(
        &mut self,
        uplink: &Interface,
        host: Option<Ipv6Addr>,
        candidate: impl Fn(u32) -> Result<Ipv6Addr, &'static str>,
        is_probed: bool,
        now: Duration,
    ) -> Option<Ipv6Addr> {
        // Each turn comes nearer to an end: there are only so many attempts.
        loop {
            self.state = match &mut self.state {
                Dedicated::None => match candidate(self.attempts) {
                    Ok(address) => Dedicated::Detecting {
                        address,
                        since: now,
                    },
                    Err(reason) => Dedicated::Refused(reason),
                },
                Dedicated::Detecting { address, since } => {
                    let found = uplink.addresses.iter().find(|one| one.address == *address);
                    match (found, host) {
                        (Some(found), _) if found.duplicate => {
                            self.attempts += 1;
                            if self.attempts < ATTEMPTS {
                                Dedicated::None
                            } else {
                                Dedicated::Refused(IN_USE)
                            }
                        }
                        (Some(found), _) if !found.tentative && !is_probed => {
                            Dedicated::Ready(*address)
                        }
                        (Some(found), Some(host)) if !found.tentative => Dedicated::Probing {
                            address: *address,
                            host,
                            probes: 0,
                            next: now,
                            host_answered: false,
                        },
                        _ if now >= *since + DETECTION_TIMEOUT => Dedicated::Refused(NOT_DETECTED),
                        _ => return None,
                    }
                }
                Dedicated::Probing { next, .. } if now < *next => return None,
                Dedicated::Probing {
                    address,
                    host,
                    host_answered,
                    probes,
                    next,
                } if *probes < PROBES => {
                    *probes += 1;
                    *next = now + PROBE_INTERVAL;
                    return Some(if *host_answered { *address } else { *host });
                }
                // A router that answers nobody says nothing about the address.
                Dedicated::Probing {
                    host_answered: false,
                    address,
                    ..
                } => Dedicated::Ready(*address),
                Dedicated::Probing { .. } => Dedicated::Refused(FILTERED),
                Dedicated::Ready(_) | Dedicated::Refused(_) => return None,
            };
        }
    }

    /// A router has answered a probe from this address.
    pub(super) fn answered(&mut self, from: Ipv6Addr, now: Duration) {
        if let Dedicated::Probing {
            address,
            host,
            host_answered,
            probes,
            next,
        } = &mut self.state
        {
            if from == *host && !*host_answered {
                (*host_answered, *probes, *next) = (true, 0, now);
            }
            if from == *address {
                self.state = Dedicated::Ready(from);
            }
        }
    }

    /// What is said while it is not decided yet.
    pub(super) fn said(&self, uplink: &Interface) -> Status {
        Status::CheckingAddress(self.address(), uplink.name.clone())
    }
}

/// An address in a /64: the same each time for this machine and network (RFC 7217), and such that translation changes no
/// checksum (RFC 6052 section 4.1) with the prefix that it was chosen with.
pub(super) fn make_up(
    network: Ipv6Addr,
    settings: &Settings,
    mac: Option<[u8; 6]>,
    attempt: u32,
    prefix: Nat64Prefix,
) -> Ipv6Addr {
    // The device is another one for each instance on this machine.
    let Settings {
        secret,
        device,
        host_v4,
        ..
    } = settings;
    // The octets are those that std's `Hash` of Rust 1.95 gave for this tuple on 64-bit machines.
    let mut hasher = SipHasher13::new();
    for text in ["xlatd clat", secret, device] {
        hasher.write(text.as_bytes());
        hasher.write(&[0xff]); // the end: never an octet of UTF-8
    }
    hasher.write(&network.octets());
    hasher.write(&u64::from(mac.is_some()).to_le_bytes());
    if let Some(mac) = mac {
        hasher.write(&6_u64.to_le_bytes());
        hasher.write(&mac);
    }
    hasher.write(&attempt.to_le_bytes());
    // The lowest 16 bits are what makes it neutral.
    let address = network.to_bits() | u128::from(hasher.finish() & !0xffff);
    let octets = address.to_be_bytes();
    let there = Sum::of(&octets) + Sum::of(&prefix.embed(Ipv4Addr::UNSPECIFIED).octets());
    let rest = Sum::of(&host_v4.octets()) + Sum::word(!there.fold());
    (address | u128::from(rest.fold())).into()
}

/// The address that clatd makes of one that the kernel has made of a link-layer address (RFC 4291 appendix A).
pub(super) fn derive(address: Ipv6Addr) -> Option<Ipv6Addr> {
    let mut octets = address.octets();
    if octets[11..13] != [0xff, 0xfe] {
        return None;
    }
    octets[11..13].copy_from_slice(&[0xc1, 0xa7]);
    Some(octets.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::clat::{Address, prefix::nat64};

    const HOST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 6, 0, 0, 0, 0, 2);

    fn candidate(attempt: u32) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 6, 0, 0, 0, 1, attempt as u16)
    }

    /// How far detection is.
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
        choice.go_on(
            link,
            Some(HOST),
            |attempt| Ok(candidate(attempt)),
            true,
            now,
        )
    }

    /// CL-07: detection, then the check; then it is off the link, and ours.
    #[test]
    fn an_address_is_checked_and_taken() {
        let mut choice = Choice::default();
        let address = candidate(0);
        assert_eq!(go(&mut choice, &Interface::default(), 0), None);
        assert_eq!(choice.on_trial(), Some(address));
        assert_eq!(choice.deadline(), Some(Duration::from_secs(5)));
        let tentative = link(address, Detected::NotYet);
        assert_eq!(go(&mut choice, &tentative, 900), None);
        let there = link(address, Detected::Unique);
        assert_eq!(go(&mut choice, &there, 1000), Some(HOST));
        assert_eq!(go(&mut choice, &there, 1299), None);
        assert_eq!(choice.deadline(), Some(Duration::from_millis(1300)));
        assert_eq!(go(&mut choice, &there, 1300), Some(HOST));
        let now = Duration::from_millis(1400);
        choice.answered(candidate(7), now);
        choice.answered(HOST, now);
        assert_eq!(go(&mut choice, &there, 1400), Some(address));
        assert_eq!(choice.on_trial(), Some(address));
        choice.answered(address, now);
        assert_eq!(choice.state, Dedicated::Ready(address));
        assert_eq!((choice.on_trial(), choice.deadline()), (None, None));
        assert_eq!(go(&mut choice, &Interface::default(), 9000), None);
        assert_eq!(choice.address(), Some(address));
    }

    /// One that answers the host alone filters; one that answers nobody says nothing.
    #[test]
    fn a_network_that_filters_refuses_it() {
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
        assert_eq!(choice.state, Dedicated::Refused(FILTERED));
    }

    /// CL-07: on a conflict another one; not for ever.
    #[test]
    fn a_conflict_means_another_address() {
        let mut choice = Choice::default();
        go(&mut choice, &Interface::default(), 0);
        for attempt in 0..ATTEMPTS {
            assert_eq!(choice.on_trial(), Some(candidate(attempt)));
            go(
                &mut choice,
                &link(candidate(attempt), Detected::Duplicate),
                0,
            );
        }
        assert_eq!(choice.state, Dedicated::Refused(IN_USE));
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        let mut choice = Choice::default();
        let now = Duration::ZERO;
        choice.go_on(&Interface::default(), None, |_| Err(NO_NETWORK), true, now);
        assert_eq!(choice.state, Dedicated::Refused(NO_NETWORK));
        let mut choice = Choice::default();
        go(&mut choice, &Interface::default(), 0);
        go(&mut choice, &Interface::default(), 4999);
        assert!(choice.on_trial().is_some());
        go(&mut choice, &Interface::default(), 5000);
        assert_eq!(choice.state, Dedicated::Refused(NOT_DETECTED));
        // One that was asked for is not probed.
        let mut choice = Choice::default();
        let there = link(candidate(0), Detected::Unique);
        choice.go_on(&there, None, |_| Ok(candidate(0)), false, now);
        assert_eq!(choice.state, Dedicated::Ready(candidate(0)));
    }

    /// CL-06: stable, another one for another network, machine and attempt, and neutral.
    #[test]
    fn made_up_addresses_are_stable_and_neutral() {
        let prefix = nat64("64:ff9b::".parse().unwrap(), 96).unwrap();
        let network: Ipv6Addr = "2001:db8:6::".parse().unwrap();
        let settings = Settings::default();
        let other_secret = Settings {
            secret: "b".to_owned(),
            ..Settings::default()
        };
        let other_device = Settings {
            device: "clat2".to_owned(),
            ..Settings::default()
        };
        let mac = Some([2, 0, 0, 0, 0, 1]);
        let one = make_up(network, &settings, mac, 0, prefix);
        assert_eq!(one, make_up(network, &settings, mac, 0, prefix));
        assert_eq!(one.to_bits() >> 64, network.to_bits() >> 64);
        let other: Ipv6Addr = "2001:db8:7::".parse().unwrap();
        for different in [
            make_up(other, &settings, mac, 0, prefix),
            make_up(network, &other_secret, mac, 0, prefix),
            make_up(network, &other_device, mac, 0, prefix),
            make_up(network, &settings, None, 0, prefix),
            make_up(network, &settings, mac, 1, prefix),
        ] {
            assert_ne!(one.to_bits() as u64 >> 16, different.to_bits() as u64 >> 16);
        }
        let v4 = settings.host_v4;
        let far = Ipv4Addr::new(198, 51, 100, 7);
        let before = Sum::of(&v4.octets()) + Sum::of(&far.octets());
        let after = Sum::of(&one.octets()) + Sum::of(&prefix.embed(far).octets());
        assert_eq!(before.fold() % 0xffff, after.fold() % 0xffff);
    }

    /// Addresses chosen so far stay the same, with whatever toolchain and on whatever machine.
    #[test]
    fn made_up_addresses_are_pinned() {
        let prefix = nat64("64:ff9b::".parse().unwrap(), 96).unwrap();
        let network: Ipv6Addr = "2001:db8:6::".parse().unwrap();
        let settings = Settings {
            secret: "0123456789abcdef0123456789abcdef".to_owned(),
            ..Settings::default()
        };
        let mac = Some([2, 0, 0, 0, 0, 1]);
        for (mac, attempt, expected) in [
            (mac, 0, "2001:db8:6:0:4b09:d010:77e3:ff44"),
            (mac, 1, "2001:db8:6:0:ac8:49dc:e571:582c"),
            (None, 0, "2001:db8:6:0:fa60:76d0:d4f3:4c1d"),
        ] {
            let made_up = make_up(network, &settings, mac, attempt, prefix);
            assert_eq!(made_up.to_string(), expected);
        }
    }

    #[test]
    fn an_address_is_derived_as_by_clatd() {
        let made: Ipv6Addr = "2001:db8::5054:ff:fe12:3456".parse().unwrap();
        let derived = derive(made).unwrap();
        assert_eq!(derived.to_string(), "2001:db8::5054:c1:a712:3456");
        assert_eq!(derive(derived), None);
    }
}
