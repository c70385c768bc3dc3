//! One packet in, one decision out (RFC 7915).
//!
//! The two directions mirror each other: `four_to_six` is section 4 of the RFC, `six_to_four`
//! section 5. Each decides first and changes the packet only then, so that a packet that is dropped
//! or refused is still the one that came in; only an offloaded checksum may be completed before. A
//! decision has three steps: `read` parses the packet, `admit` maps its addresses and refuses what
//! may not be passed on, and `size` compares it with the MTU.

mod checksum;
mod four_to_six;
mod fragment;
mod hairpin;
mod header;
mod icmp_limit;
mod icmp_types;
mod offload;
mod outcome;
mod packet;
mod quoted;
mod reply;
mod rule;
mod settings;
mod six_to_four;
mod translator;

use std::time::Instant;

pub use fragment::Fragments;
pub use offload::{Coalescer, Offered, Segments};
pub use outcome::{Direction, DropReason, Outcome, Reply};
pub use packet::Packet;
pub use rule::Rule;
pub use settings::{IcmpErrors, Settings, TrafficClass, UdpChecksum};
pub use translator::Translator;

use crate::wire::Malformed;

impl Translator {
    /// Translates one IP packet of either family in place (RFC 7915 sections 4 and 5).
    ///
    /// `now` is for the rate limits, and may be as old as the turn of the loop that calls it.
    pub fn translate<'p>(&mut self, packet: &'p mut Packet, now: Instant) -> Outcome<'p> {
        match Direction::of(packet.bytes()) {
            Some(Direction::FourToSix) => four_to_six::translate(self, packet, now),
            Some(Direction::SixToFour) => six_to_four::translate(self, packet, now),
            None => Outcome::Drop(DropReason::Malformed(Malformed::Version)),
        }
    }
}
