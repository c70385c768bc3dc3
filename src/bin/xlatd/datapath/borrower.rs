//! The side of a worker that has the first one lend the addresses of the pool: packets without a
//! lease are handed over to it, and its leases are followed.
//!
//! No packet overtakes those of its flow that were handed over before: once a lease has come, and
//! so later packets are translated here, none is read until the first worker says that all those
//! before are out. That takes as long as it needs for them, and is rare.

use std::time::Instant;

use log::warn;
use xlatd::{
    addr::AddressMap,
    report::workers::{Kind, Leases},
    translate::Packet,
};

use crate::{datapath::tally::Tally, sys::messages::Messages};

/// What a worker knows of the pool that another one lends.
pub(crate) struct Borrower {
    messages: Messages,
    /// Packets that were handed over.
    sent: u64,
    /// Those of them that are out.
    done: u64,
    /// As many are to be out before others are read.
    awaited: u64,
    /// Packets for which the first worker had no room.
    lost: Tally,
    /// When the time of the leases was this second since 1970.
    clock: (Instant, u64),
    /// The second before which all uses of leases have been told.
    told_until: u64,
}

impl Borrower {
    /// `messages` go to the first worker; `second` is the time of the leases now.
    pub(crate) fn new(messages: Messages, second: u64, now: Instant) -> Self {
        Self {
            messages,
            sent: 0,
            done: 0,
            awaited: 0,
            lost: Tally::default(),
            clock: (now, second),
            told_until: 0,
        }
    }

    /// Passes the time to the leases.
    pub(super) fn set_time(&self, map: &mut AddressMap, now: Instant) {
        let (start, second) = self.clock;
        map.set_now(second + now.saturating_duration_since(start).as_secs());
    }

    /// Hands a packet over. It is lost if the first worker does not keep up, as with any queue.
    pub(super) fn hand_over(&mut self, packet: &mut Packet, now: Instant) {
        let Err(error) = self
            .messages
            .send(Kind::Packet.octet(), packet.with_header())
        else {
            self.sent += 1;
            return;
        };
        if let Some(count) = self.lost.add(now) {
            warn!("Packets of hosts without an address come too fast ({count} lost): {error}");
        }
    }

    /// Packets that were lost on the way.
    pub(super) fn lost(&self) -> u64 {
        self.lost.count
    }

    /// Whether packets are to wait for those that were handed over.
    pub(super) fn is_waiting(&self) -> bool {
        self.done < self.awaited
    }

    /// Takes over leases as they are now.
    pub(super) fn follow(&mut self, leases: &Leases, map: &mut AddressMap) {
        for &followed in &leases.changed {
            map.follow_lease(followed);
        }
        self.done = leases.done;
        if !leases.changed.is_empty() {
            self.awaited = self.sent;
        }
    }

    /// The uses of leases since the last time.
    pub(super) fn uses(
        &mut self,
        map: &AddressMap,
    ) -> impl Iterator<Item = (std::net::Ipv4Addr, u64)> {
        let since = std::mem::replace(&mut self.told_until, map.now());
        map.pool()
            .into_iter()
            .flat_map(move |pool| pool.used_since(since))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::net::Ipv4Addr;

    use xlatd::addr::pool::{Followed, Lease, LeaseState};

    use super::*;

    /// Packets wait from the lease until those handed over before are out, and no longer.
    #[test]
    fn packets_wait_for_those_that_were_handed_over() {
        let (ours, _theirs) = Messages::pair().unwrap();
        let own = "2001:db8::46".parse().unwrap();
        let mut map = AddressMap::new([192, 0, 2, 46].into(), own, None, true);
        map.set_pool("203.0.113.0/24".parse().unwrap());
        let now = Instant::now();
        let mut borrower = Borrower::new(ours, 1_795_406_857, now);
        borrower.set_time(&mut map, now);
        let mut packet = Packet::new();
        packet.replace(&[0x60; 40]);
        let lease = Lease {
            address: Ipv4Addr::new(203, 0, 113, 7),
            host: "2001:db8::1".parse().unwrap(),
            last_use: map.now(),
        };
        let state = Some(LeaseState::Active);
        let changed = vec![Followed { lease, state }];
        for _ in 0..3 {
            borrower.hand_over(&mut packet, now);
        }
        assert!(!borrower.is_waiting(), "there is no lease yet");
        borrower.follow(&Leases { done: 2, changed }, &mut map);
        assert!(borrower.is_waiting(), "one is not out yet");
        assert_eq!(map.to_v4(lease.host).unwrap().address, lease.address);
        // A packet of another host.
        borrower.hand_over(&mut packet, now);
        let done = |done| Leases {
            done,
            ..Leases::default()
        };
        borrower.follow(&done(3), &mut map);
        assert!(!borrower.is_waiting(), "that is none of those before");
        borrower.follow(&done(4), &mut map);
        assert!(!borrower.is_waiting());
    }
}
