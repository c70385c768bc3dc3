//! The next hop of packets that leave by a packet socket: who it is, and its link-layer address,
//! which the kernel resolves for us (RFC 4861 section 7.2). There may be several routers.
//!
//! While the address is resolved no packet is read, so that none is lost: they wait where they come
//! from. If the router does not answer, they are refused for a moment, and the next one has it
//! resolved again, as the kernel does for its own.

use std::{
    net::Ipv6Addr,
    time::{Duration, Instant},
};

/// The kernel gives up after three solicitations, a second apart (RFC 4861 section 10), and says
/// so. This is for a kernel that says nothing.
const MAX_RESOLUTION: Duration = Duration::from_secs(5);
/// The time for which packets are refused after a router did not answer.
const REFUSAL: Duration = Duration::from_secs(1);

/// Where packets are sent to on an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// To a router. The kernel knows its link-layer address, or resolves it.
    Router {
        /// The uplink's own link-layer address.
        mac: [u8; 6],
        /// The routers to choose from, the best first; at least one.
        routers: Vec<Ipv6Addr>,
    },
    /// With the uplink's own link-layer address in both places, as the kernel does where
    /// neighbours are not resolved.
    Unresolved([u8; 6]),
    /// To whoever is at the other end: there are no link-layer addresses.
    Peer,
}

/// What the kernel's table of neighbours has about the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Nothing.
    Absent,
    /// It is being solicited, and has no link-layer address yet.
    Incomplete,
    /// It has not answered.
    Failed,
    /// It has this link-layer address, which was confirmed not long ago or is being confirmed.
    Confirmed([u8; 6]),
    /// It had this link-layer address, which is to be confirmed when it is used.
    Stale([u8; 6]),
}

/// The resolution of a next hop that is a router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reachability {
    /// The kernel has not been asked.
    #[default]
    Unknown,
    /// The kernel resolves it until then at the latest.
    Resolving(Instant),
    /// It has this link-layer address.
    Known {
        /// The link-layer address.
        mac: [u8; 6],
        /// Whether the kernel is to confirm it when it is used next.
        is_stale: bool,
    },
    /// It does not answer. Packets are refused until then.
    Failed(Instant),
}

/// What is to be done about packets that wait to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Send them.
    Send,
    /// Refuse them: the next hop does not answer.
    Refuse,
    /// Leave them where they are.
    Wait,
    /// The same, and have the kernel resolve the next hop.
    Resolve,
}

impl Reachability {
    /// Takes what the kernel says of the next hop.
    pub fn heard(&mut self, neighbour: Neighbour, now: Instant) {
        *self = match (neighbour, *self) {
            (Neighbour::Confirmed(mac), _) => Self::Known {
                mac,
                is_stale: false,
            },
            (Neighbour::Stale(mac), _) => Self::Known {
                mac,
                is_stale: true,
            },
            // Nothing was sent to it: it may have been asked long ago.
            (Neighbour::Failed, Self::Unknown) => Self::Unknown,
            (Neighbour::Failed, _) => Self::Failed(now + REFUSAL),
            // It was asked for, and is about to be there.
            (Neighbour::Absent | Neighbour::Incomplete, unchanged @ Self::Resolving(_)) => {
                unchanged
            }
            // Also one that has failed because it is being deleted.
            (Neighbour::Absent, _) => Self::Unknown,
            (Neighbour::Incomplete, Self::Known { .. }) => Self::Resolving(now + MAX_RESOLUTION),
            (Neighbour::Incomplete, unchanged) => unchanged,
        };
    }

    /// What to do about packets that wait, if there are any.
    pub fn sending(&mut self, has_packets: bool, now: Instant) -> Sending {
        self.expire(now);
        match *self {
            Self::Known { .. } => Sending::Send,
            Self::Resolving(_) => Sending::Wait,
            Self::Failed(end) if now < end => Sending::Refuse,
            Self::Unknown | Self::Failed(_) if has_packets => {
                *self = Self::Resolving(now + MAX_RESOLUTION);
                Sending::Resolve
            }
            Self::Unknown | Self::Failed(_) => Sending::Wait,
        }
    }

    /// Gives up what has been resolved for too long.
    fn expire(&mut self, now: Instant) {
        if let Self::Resolving(end) = *self
            && now >= end
        {
            *self = Self::Failed(now + REFUSAL);
        }
    }

    /// Takes notice that packets were sent. Whether the kernel is to confirm the address: once.
    pub fn used(&mut self) -> bool {
        match self {
            Self::Known { is_stale, .. } => std::mem::take(is_stale),
            _ => false,
        }
    }

    /// The link-layer address, if it is known.
    pub fn mac(&self) -> Option<[u8; 6]> {
        match self {
            Self::Known { mac, .. } => Some(*mac),
            _ => None,
        }
    }

    /// When packets that wait are to be refused, whatever the kernel says.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Resolving(end) => Some(*end),
            _ => None,
        }
    }
}

/// The routers that packets may be sent to, one of which is in use as long as it answers (RFC 4861
/// section 6.3.6). Then it is the turn of the next one; packets are refused once none answers.
#[derive(Clone, Debug)]
pub struct Routers {
    all: Vec<Ipv6Addr>,
    in_use: usize,
    /// How many have not answered, one after the other, before the one in use.
    failed: usize,
    reachability: Reachability,
}

impl Routers {
    /// Begins with the first; `all` is not empty.
    pub fn new(all: Vec<Ipv6Addr>) -> Self {
        Self {
            all,
            in_use: 0,
            failed: 0,
            reachability: Reachability::default(),
        }
    }

    /// The router that packets are sent to.
    pub fn in_use(&self) -> Ipv6Addr {
        self.all[self.in_use]
    }

    /// Takes another list. The router in use stays, unless another one has become the best.
    pub fn replace(&mut self, all: Vec<Ipv6Addr>) {
        let is_best = all.first() == self.all.first() || all.first() == Some(&self.in_use());
        let place = all.iter().position(|one| *one == self.in_use());
        match place.filter(|_| is_best) {
            Some(in_use) => {
                self.all = all;
                self.in_use = in_use;
                self.failed = 0;
            }
            None => *self = Self::new(all),
        }
    }

    /// Takes what the kernel says of the router in use.
    pub fn heard(&mut self, neighbour: Neighbour, now: Instant) {
        self.reachability.heard(neighbour, now);
        self.go_on();
    }

    /// Gives up a router that is silent. To be called before [`sending`](Self::sending).
    pub fn expire(&mut self, now: Instant) {
        self.reachability.expire(now);
        self.go_on();
    }

    /// Turns to the next router if the one in use has failed, and not all have.
    fn go_on(&mut self) {
        match self.reachability {
            Reachability::Known { .. } => self.failed = 0,
            Reachability::Failed(_) if self.failed + 1 < self.all.len() => {
                self.failed += 1;
                self.in_use = (self.in_use + 1) % self.all.len();
                self.reachability = Reachability::default();
            }
            _ => {}
        }
    }

    /// What to do about packets that wait, if there are any.
    pub fn sending(&mut self, has_packets: bool, now: Instant) -> Sending {
        let had_failed = matches!(self.reachability, Reachability::Failed(_));
        let sending = self.reachability.sending(has_packets, now);
        if had_failed && sending == Sending::Resolve {
            self.failed = 0; // another round
        }
        sending
    }

    /// Takes notice that packets were sent. Whether the kernel is to confirm the address: once.
    pub fn used(&mut self) -> bool {
        self.reachability.used()
    }

    /// The link-layer address of the router in use, if it is known.
    pub fn mac(&self) -> Option<[u8; 6]> {
        self.reachability.mac()
    }

    /// When the router in use is given up, whatever the kernel says.
    pub fn deadline(&self) -> Option<Instant> {
        self.reachability.deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(number: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number)
    }

    /// RFC 4861 section 6.3.6: a router that does not answer gives way to the next, which stays;
    /// packets are refused once none answers, and then each is tried again.
    #[test]
    fn a_router_that_fails_gives_way_to_the_next() {
        let now = Instant::now();
        let mut routers = Routers::new(vec![router(1), router(2)]);
        routers.heard(Neighbour::Failed, now);
        assert_eq!(routers.in_use(), router(1), "nobody has asked it");
        routers.heard(Neighbour::Confirmed(MAC), now);
        assert_eq!(routers.sending(true, now), Sending::Send);
        routers.heard(Neighbour::Failed, now);
        assert_eq!(routers.in_use(), router(2));
        assert_eq!(routers.mac(), None);
        routers.heard(Neighbour::Failed, now); // what the kernel has of it from long ago
        assert_eq!(routers.sending(true, now), Sending::Resolve);
        routers.heard(Neighbour::Confirmed(MAC), now);
        assert_eq!(routers.in_use(), router(2));
        assert_eq!(routers.sending(true, now), Sending::Send);

        routers.heard(Neighbour::Failed, now);
        assert_eq!(routers.in_use(), router(1));
        assert_eq!(routers.sending(true, now), Sending::Resolve);
        let end = now + MAX_RESOLUTION; // the kernel says nothing
        routers.expire(end);
        assert_eq!(routers.in_use(), router(1), "none is left");
        assert_eq!(routers.sending(true, end), Sending::Refuse);
        routers.expire(end + REFUSAL / 2);
        assert_eq!(routers.sending(true, end + REFUSAL / 2), Sending::Refuse);
        let end = end + REFUSAL;
        assert_eq!(routers.sending(true, end), Sending::Resolve);
        routers.heard(Neighbour::Failed, end);
        assert_eq!(routers.in_use(), router(2), "another round");
        assert_eq!(routers.sending(true, end), Sending::Resolve);
    }

    /// Where the kernel says nothing, the next router is tried while packets wait, and none of them
    /// is refused.
    #[test]
    fn a_router_that_is_silent_for_too_long_gives_way() {
        let now = Instant::now();
        let mut routers = Routers::new(vec![router(1), router(2)]);
        assert_eq!(routers.sending(true, now), Sending::Resolve);
        let end = now + MAX_RESOLUTION;
        assert_eq!(routers.deadline(), Some(end));
        routers.expire(end - NANOSECOND);
        assert_eq!(routers.in_use(), router(1));
        routers.expire(end);
        assert_eq!(routers.in_use(), router(2));
        assert_eq!(routers.sending(true, end), Sending::Resolve);
        routers.heard(Neighbour::Stale(MAC), end);
        assert_eq!(routers.sending(true, end), Sending::Send);
        assert_eq!([(); 2].map(|()| routers.used()), [true, false]);
        assert_eq!((routers.mac(), routers.deadline()), (Some(MAC), None));
    }

    /// It does not change its mind without a reason.
    #[test]
    fn another_list_leaves_the_router_in_use_where_it_can() {
        let now = Instant::now();
        let mut routers = Routers::new(vec![router(1), router(2)]);
        routers.heard(Neighbour::Confirmed(MAC), now);
        routers.heard(Neighbour::Failed, now);
        routers.heard(Neighbour::Confirmed(MAC), now);
        for (list, expected) in [
            (vec![1, 3, 2], 2), // the first is the one that has failed
            (vec![2, 1], 2),    // it is the best now
            (vec![4, 2], 4),    // a better one
            (vec![5, 4], 5),    // the one in use is not the best
            (vec![6], 6),       // and now not there
        ] {
            routers.replace(list.iter().map(|one| router(*one)).collect());
            assert_eq!(routers.in_use(), router(expected), "{list:?}");
            let is_known = routers.mac().is_some();
            assert_eq!(is_known, expected == 2, "{list:?}");
        }
    }

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const NANOSECOND: Duration = Duration::from_nanos(1);

    /// RFC 4861 section 7.2.2: packets wait while the address is resolved.
    #[test]
    fn packets_wait_for_the_address() {
        let now = Instant::now();
        let mut resolution = Reachability::default();
        assert_eq!(resolution.sending(false, now), Sending::Wait);
        assert_eq!(resolution.deadline(), None);
        assert_eq!(resolution.sending(true, now), Sending::Resolve);
        assert_eq!(resolution.sending(true, now), Sending::Wait);
        resolution.heard(Neighbour::Incomplete, now);
        assert_eq!(resolution.sending(true, now), Sending::Wait);
        assert_eq!(resolution.deadline(), Some(now + MAX_RESOLUTION));
        resolution.heard(Neighbour::Confirmed(MAC), now);
        assert_eq!(resolution.sending(true, now), Sending::Send);
        assert_eq!((resolution.mac(), resolution.deadline()), (Some(MAC), None));
        assert!(!resolution.used());
    }

    /// RFC 4861 section 7.3.3: it is confirmed while it is in use, and only then.
    #[test]
    fn an_old_address_is_used_and_confirmed_once() {
        let now = Instant::now();
        let mut resolution = Reachability::default();
        resolution.heard(Neighbour::Stale(MAC), now);
        assert_eq!(resolution.sending(true, now), Sending::Send);
        assert_eq!([(); 3].map(|()| resolution.used()), [true, false, false]);
        resolution.heard(Neighbour::Stale(MAC), now);
        assert!(resolution.used());
    }

    /// RFC 4861 section 7.2.2: the sender of each is told; and it is tried again.
    #[test]
    fn packets_to_a_router_that_does_not_answer_are_refused() {
        let now = Instant::now();
        for silent_kernel in [false, true] {
            let mut resolution = Reachability::default();
            assert_eq!(resolution.sending(true, now), Sending::Resolve);
            let end = now + MAX_RESOLUTION;
            if !silent_kernel {
                assert_eq!(resolution.sending(true, end - NANOSECOND), Sending::Wait);
                resolution.heard(Neighbour::Failed, end);
            }
            assert_eq!(resolution.sending(true, end), Sending::Refuse);
            let end = end + REFUSAL;
            assert_eq!(resolution.sending(true, end - NANOSECOND), Sending::Refuse);
            assert_eq!(resolution.sending(false, end), Sending::Wait);
            assert_eq!(resolution.sending(true, end), Sending::Resolve);
        }
    }

    #[test]
    fn what_the_kernel_has_removed_is_resolved_again() {
        let now = Instant::now();
        let mut resolution = Reachability::default();
        resolution.heard(Neighbour::Confirmed(MAC), now);
        // Linux marks it as failed before it removes it.
        resolution.heard(Neighbour::Failed, now);
        resolution.heard(Neighbour::Absent, now);
        assert_eq!(resolution.mac(), None);
        assert_eq!(resolution.sending(true, now), Sending::Resolve);
        resolution.heard(Neighbour::Absent, now);
        assert_eq!(
            resolution.sending(true, now),
            Sending::Wait,
            "asked already"
        );
        resolution.heard(Neighbour::Confirmed(MAC), now);
        resolution.heard(Neighbour::Incomplete, now);
        assert_eq!(resolution.sending(true, now), Sending::Wait);
    }
}
