//! Who is whom: IPv4 addresses to IPv6 addresses and back. No packets.
//!
//! [`AddressMap`] decides. Under it lie two ways to map an address: embedded in a prefix ([`Nat64Prefix`], RFC 6052) and by
//! a table of pairs of prefixes ([`Eam`], RFC 7757). A map does not change under the translator: whoever has news
//! makes a new one and hands it over.

mod eam;
mod prefix;
mod rfc6052;
pub mod special;

use std::net::{Ipv4Addr, Ipv6Addr};

use eam::EamTable;
pub use eam::{Eam, EamError};
pub use prefix::{Prefix4, Prefix6, PrefixError};
pub use rfc6052::{Nat64Prefix, Nat64PrefixError, ReservedOctet};

/// Which rule mapped an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// It is the translator's own address (`ipv4-addr`, `ipv6-addr`).
    Own,
    /// An explicit address mapping (RFC 7757): `map`.
    Explicit,
    /// The translation prefix (RFC 6052): `prefix`.
    Prefix,
}

/// A mapped address, and the rule that mapped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped<A> {
    /// The address in the other family.
    pub address: A,
    /// The rule that gave it.
    pub via: Via,
}

/// Why an address has no counterpart in the other family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmapped {
    /// No explicit mapping and no prefix covers it.
    NoMapping,
    /// Never an address of a host on a wire: "this network", loopback, multicast, broadcast, link-local IPv6, ...
    /// (RFC 7915 sections 4.1 and 5.1; [`special`]). Also: its counterpart would be such an address.
    Illegal,
    /// A private address may not be written with 64:ff9b::/96 while `wkpf-strict` is on (RFC 6052 section 3.1).
    WkpfStrict,
    /// Bits 64 to 71 of an address below the prefix are not zero (RFC 6052 section 2.2).
    ReservedOctet,
}

/// Everything that decides which address is whose.
///
/// Precedence: the translator's own addresses, explicit mappings by longest match, the prefix
/// ([RFC 7757 section 3.3](https://www.rfc-editor.org/rfc/rfc7757#section-3.3)). A search takes the same time with any
/// number of mappings.
#[derive(Clone, Debug)]
pub struct AddressMap {
    own_v4: Ipv4Addr,
    own_v6: Ipv6Addr,
    explicit: EamTable,
    prefix: Option<Nat64Prefix>,
    wkpf_strict: bool,
}

impl AddressMap {
    /// Only the translator's own addresses and the prefix. `wkpf_strict` concerns 64:ff9b::/96 alone.
    pub fn new(
        own_v4: Ipv4Addr,
        own_v6: Ipv6Addr,
        prefix: Option<Nat64Prefix>,
        wkpf_strict: bool,
    ) -> Self {
        Self {
            own_v4,
            own_v6,
            explicit: EamTable::default(),
            prefix,
            wkpf_strict,
        }
    }

    /// Adds an explicit mapping; the mapping that has the same prefix on either side is returned if there is one,
    /// and nothing changes.
    pub fn insert(&mut self, eam: Eam) -> Result<(), Eam> {
        self.explicit.insert(eam)
    }

    /// The IPv6 address of an IPv4 host.
    pub fn to_v6(&self, address: Ipv4Addr) -> Result<Mapped<Ipv6Addr>, Unmapped> {
        if address == self.own_v4 {
            return Ok(Mapped {
                address: self.own_v6,
                via: Via::Own,
            });
        }
        if special::is_illegal_v4(address) {
            return Err(Unmapped::Illegal);
        }
        if let Some(address) = self.explicit.to_v6(address) {
            if special::is_illegal_v6(address) {
                return Err(Unmapped::Illegal);
            }
            return Ok(Mapped {
                address,
                via: Via::Explicit,
            });
        }
        Ok(Mapped {
            address: self.embed(address)?,
            via: Via::Prefix,
        })
    }

    /// The IPv4 address of an IPv6 host.
    ///
    /// An address below the prefix is taken for what it embeds, also if that has an explicit mapping: whether the host may be
    /// addressed so is the translator's question (hairpinning and spoofed sources, RFC 7757 section 4).
    pub fn to_v4(&self, address: Ipv6Addr) -> Result<Mapped<Ipv4Addr>, Unmapped> {
        if address == self.own_v6 {
            return Ok(Mapped {
                address: self.own_v4,
                via: Via::Own,
            });
        }
        if special::is_illegal_v6(address) {
            return Err(Unmapped::Illegal);
        }
        if let Some(address) = self.explicit.to_v4(address) {
            if special::is_illegal_v4(address) {
                return Err(Unmapped::Illegal);
            }
            return Ok(Mapped {
                address,
                via: Via::Explicit,
            });
        }
        let address = self
            .prefix
            .and_then(|prefix| prefix.extract(address))
            .ok_or(Unmapped::NoMapping)?
            .map_err(|ReservedOctet| Unmapped::ReservedOctet)?;
        if special::is_illegal_v4(address) {
            return Err(Unmapped::Illegal);
        }
        if self.is_strict() && special::is_private_for_wkpf(address) {
            return Err(Unmapped::WkpfStrict);
        }
        let via = if address == self.own_v4 {
            Via::Own
        } else {
            Via::Prefix
        };
        Ok(Mapped { address, via })
    }

    /// `address` in the prefix, whatever explicit mapping it has (hairpinning, RFC 7757 section 4).
    ///
    /// Illegal addresses are embedded as well: sources of ICMP errors may be such (RFC 7915 section 4.1). Only the well-known
    /// prefix with `wkpf-strict` takes neither them nor private ones, since none of them is global (RFC 6052 section 3.1).
    pub fn embed(&self, address: Ipv4Addr) -> Result<Ipv6Addr, Unmapped> {
        let prefix = self.prefix.ok_or(Unmapped::NoMapping)?;
        let is_global =
            || !special::is_private_for_wkpf(address) && !special::is_illegal_v4(address);
        if self.is_strict() && !is_global() {
            return Err(Unmapped::WkpfStrict);
        }
        Ok(prefix.embed(address))
    }

    /// The explicit mapping of `address`, whatever else it is.
    pub fn explicit_v6(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        self.explicit.to_v6(address)
    }

    /// Every explicit mapping, in no particular order.
    pub fn explicit(&self) -> impl Iterator<Item = Eam> {
        self.explicit.iter()
    }

    /// The translator's own IPv4 address.
    pub const fn own_v4(&self) -> Ipv4Addr {
        self.own_v4
    }

    /// The translator's own IPv6 address.
    pub const fn own_v6(&self) -> Ipv6Addr {
        self.own_v6
    }

    /// The prefix that IPv4 addresses are embedded in.
    pub const fn prefix(&self) -> Option<Nat64Prefix> {
        self.prefix
    }

    /// Whether private addresses are kept out of 64:ff9b::/96.
    pub const fn wkpf_strict(&self) -> bool {
        self.wkpf_strict
    }

    /// Whether the prefix embeds global addresses only (RFC 6052 section 3.1).
    fn is_strict(&self) -> bool {
        self.wkpf_strict && self.prefix.is_some_and(|prefix| prefix.is_well_known())
    }
}
