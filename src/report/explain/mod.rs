//! What a translator does with an address, a pair of addresses or a capture, and why.
//!
//! There is no second set of rules: packets are made, or read from the capture, and given to a
//! [`Translator`] with the same settings and address mapping as that of a daemon. What comes out is
//! the answer, and the [`AddressMap`] and the [`Directives`] say which line of the configuration it
//! comes from.

mod capture;
mod directives;
mod fate;
mod frame;
mod peers;
mod probe;
mod reading;
#[cfg(test)]
mod tests;
mod text;

use std::{net::IpAddr, time::Instant};

use serde::Serialize;

pub use capture::{Capture, Captured, NotRead};
pub use directives::{Directive, Directives, Place};
pub use fate::{Fate, Verdict, Why};
pub use reading::{Counts, Entry, Reading, Seen, addresses_in};

use crate::{
    addr::{AddressMap, Via},
    translate::{Packet, Settings, Translator},
};
use peers::Peers;
use probe::{Echo, Ends};

/// All that a translator goes by, and where it is written.
#[derive(Clone, Debug)]
pub struct Explainer {
    settings: Settings,
    map: AddressMap,
    directives: Directives,
}

/// An address, what it is in the other family, and what becomes of packets to and from both.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// The address.
    pub address: IpAddr,
    /// What it is in the other family; `None`: it is nothing there.
    pub counterpart: Option<Counterpart>,
    /// What the configuration alone does not decide.
    pub note: Option<String>,
    /// Packets to and from it, and to and from its counterpart.
    pub packets: Vec<Passage>,
}

/// An address in the other family.
#[derive(Clone, Debug, Serialize)]
pub struct Counterpart {
    /// The address.
    pub address: IpAddr,
    /// What makes it so.
    pub by: Option<Directive>,
    /// What it is when it is translated back, if that is not the address that was asked for.
    pub comes_back_as: Option<IpAddr>,
}

/// A packet to or from an address.
#[derive(Clone, Debug, Serialize)]
pub struct Passage {
    /// Whether the address is the source or the destination.
    pub role: Role,
    /// The address.
    pub address: IpAddr,
    /// What becomes of an echo request.
    #[serde(flatten)]
    pub fate: Fate,
}

/// The place of an address in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It is the destination.
    To,
    /// It is the source.
    From,
}

/// An echo request and the reply to it.
#[derive(Clone, Debug, Serialize)]
pub struct RoundTrip {
    /// The request.
    pub request: Leg,
    /// The reply, if there is a host that sends one.
    pub reply: Option<Leg>,
    /// Whether the reply comes to where the request came from, as if from where that went to.
    pub is_complete: bool,
}

/// A packet on its way through the translator.
#[derive(Clone, Debug, Serialize)]
pub struct Leg {
    /// What becomes of it.
    #[serde(flatten)]
    pub fate: Fate,
    /// What the source is translated by, in order: two if the packet comes back to its family.
    pub source_by: Vec<Directive>,
    /// What the destination is translated by.
    pub destination_by: Vec<Directive>,
}

/// An address has no counterpart in the family of the other one, so that no packet can be sent
/// between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCounterpart(pub IpAddr);

impl Explainer {
    /// A translator with these settings and this address mapping. `settings.mtu` is that of the
    /// device.
    pub fn new(settings: Settings, map: AddressMap, directives: Directives) -> Self {
        Self {
            settings,
            map,
            directives,
        }
    }

    /// A translator that has not seen a packet yet.
    pub fn translator(&self) -> Translator {
        /// What is unpredictable in a daemon is to be the same in each answer.
        const SEED: u64 = 0;
        Translator::new(self.settings.clone(), self.map.clone(), SEED)
    }

    /// What an address is, and what becomes of packets to and from it.
    pub fn address(&self, address: IpAddr, now: Instant) -> About {
        let counterpart = self.counterpart(address);
        let both = [
            Some(address),
            counterpart.as_ref().map(|there| there.address),
        ];
        let mut packets = Vec::new();
        for address in both.into_iter().flatten() {
            let peers = Peers::of(self.translator(), address, now);
            for (role, from, to) in [
                (Role::To, peers.source, address),
                (Role::From, address, peers.destination),
            ] {
                if let Some(ends) = Ends::new(from, to) {
                    packets.push(Passage {
                        role,
                        address,
                        fate: send(&mut self.translator(), ends.echo(Echo::Request), now),
                    });
                }
            }
        }
        let note = match &counterpart {
            None => self.note(address, packets.iter().any(|packet| packet.fate.lends)),
            Some(_) => None,
        };
        About {
            address,
            counterpart,
            note,
            packets,
        }
    }

    /// What becomes of an echo request, and of the reply to it. `to` may be of the other family
    /// than `from`: it is then addressed as hosts of the family of `from` do.
    pub fn pair(&self, from: IpAddr, to: IpAddr, now: Instant) -> Result<RoundTrip, NoCounterpart> {
        let there = self.in_family_of(from, to);
        let ends = there.and_then(|there| Ends::new(from, there));
        let ends = ends.ok_or(NoCounterpart(to))?;
        let mut translator = self.translator();
        let request = send(&mut translator, ends.echo(Echo::Request), now);
        let translated = request
            .translation()
            .and_then(|(from, to)| Ends::new(to, from));
        let reply = translated.map(|ends| send(&mut translator, ends.echo(Echo::Reply), now));
        let came = request.received.addresses();
        let went_back = reply.as_ref().and_then(Fate::translation);
        let is_complete = match request.verdict {
            Verdict::EchoAnswered => true,
            _ => went_back.is_some() && went_back == came.map(|(from, to)| (to, from)),
        };
        // With the leases that were made on the way.
        let map = translator.map();
        Ok(RoundTrip {
            request: self.leg(request, map),
            reply: reply.map(|reply| self.leg(reply, map)),
            is_complete,
        })
    }

    /// `to` as a host of the family of `from` addresses it.
    fn in_family_of(&self, from: IpAddr, to: IpAddr) -> Option<IpAddr> {
        match (from, to) {
            (IpAddr::V6(_), IpAddr::V4(to)) => match self.map.prefix() {
                // Also one with a mapping of its own, for which the packet turns back (RFC 7757
                // section 4). Whether it may be in the prefix is for the translator to say.
                Some(prefix) => Some(prefix.embed(to).into()),
                None => Some(self.map.to_v6(to).ok()?.address.into()),
            },
            (IpAddr::V4(_), IpAddr::V6(to)) => Some(self.map.to_v4(to).ok()?.address.into()),
            _ => Some(to),
        }
    }

    fn counterpart(&self, address: IpAddr) -> Option<Counterpart> {
        let map = &self.map;
        let (there, _) = translated(map, address)?;
        let back = translated(map, there).map(|(back, _)| back);
        Some(Counterpart {
            address: there,
            by: self.directive_of(map, address),
            comes_back_as: back.filter(|&back| back != address),
        })
    }

    /// The directive by which an address is translated.
    fn directive_of(&self, map: &AddressMap, address: IpAddr) -> Option<Directive> {
        let (_, via) = translated(map, address)?;
        self.directives.of(via, address, map)
    }

    fn leg(&self, fate: Fate, map: &AddressMap) -> Leg {
        let by = |address: IpAddr, then: fn(&Self, &AddressMap, IpAddr) -> Option<Directive>| {
            let mut by: Vec<_> = self.directive_of(map, address).into_iter().collect();
            if fate.is_hairpinned()
                && let Some((back, _)) = translated(map, address)
            {
                by.extend(then(self, map, back));
            }
            by
        };
        let (source_by, destination_by) = match fate.received.addresses() {
            // The source is known to its peer by the prefix (RFC 7757 section 4.2.2).
            Some((from, to)) => (
                by(from, |this, map, back| {
                    this.directives.of(Via::Prefix, back, map)
                }),
                by(to, Self::directive_of),
            ),
            None => (Vec::new(), Vec::new()),
        };
        Leg {
            fate,
            source_by,
            destination_by,
        }
    }

    /// What is to be said of an address that is nothing in the other family.
    fn note(&self, address: IpAddr, may_have_lease: bool) -> Option<String> {
        let pool = self.directives.pool()?;
        match address {
            IpAddr::V4(address) if pool.prefix.contains(address) => Some(format!(
                "it is in {}, and no host has it ({})",
                pool.directive, pool.leases
            )),
            IpAddr::V6(_) if may_have_lease => Some(format!(
                "when it sends, it gets an address of {}; which one is not known before ({})",
                pool.directive, pool.leases
            )),
            _ => None,
        }
    }
}

/// What an address is in the other family, and by what.
fn translated(map: &AddressMap, address: IpAddr) -> Option<(IpAddr, Via)> {
    match address {
        IpAddr::V4(address) => {
            let there = map.to_v6(address).ok()?;
            Some((there.address.into(), there.via))
        }
        IpAddr::V6(address) => {
            let there = map.to_v4(address).ok()?;
            Some((there.address.into(), there.via))
        }
    }
}

fn send(translator: &mut Translator, octets: Vec<u8>, now: Instant) -> Fate {
    Fate::of(translator, &mut Packet::new(), &octets, now)
}
