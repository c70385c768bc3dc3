//! Who is whom: IPv4 addresses to IPv6 addresses and back. No packets.

mod eam;
mod prefix;
mod rfc6052;
pub mod special;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use eam::{Eam, EamError};
pub use prefix::{Prefix4, Prefix6, PrefixError};
pub use rfc6052::{Nat64Prefix, Nat64PrefixError, ReservedOctet};

/// Which rule mapped an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// It is the translator's own address (`ipv4-addr`, `ipv6-addr`).
    Own,
    /// An explicit address mapping (RFC 7757): `map`, and later `map-file` and the dynamic pool.
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
    /// (RFC 7915 sections 4.1 and 5.1). For IPv6 also: what the prefix embeds is such an IPv4 address.
    Illegal,
    /// A private address may not be written with 64:ff9b::/96 while `wkpf-strict` is on (RFC 6052 section 3.1).
    WkpfStrict,
    /// Bits 64 to 71 of an address below the prefix are not zero (RFC 6052 section 2.2).
    ReservedOctet,
}

/// Everything that decides which address is whose.
///
/// Precedence: the translator's own addresses, explicit mappings by longest match, the prefix (RFC 7757 section 3.3).
#[derive(Clone, Debug)]
pub struct AddressMap {}

impl AddressMap {
    /// Only the translator's own addresses and the prefix.
    pub fn new(
        _own_v4: Ipv4Addr,
        _own_v6: Ipv6Addr,
        _prefix: Option<Nat64Prefix>,
        _wkpf_strict: bool,
    ) -> Self {
        Self {}
    }
    /// Adds an explicit mapping; the mapping that has the same prefix on either side is returned if there is one,
    /// and nothing changes.
    pub fn insert(&mut self, _eam: Eam) -> Result<(), Eam> {
        Ok(())
    }
    /// The IPv6 address of an IPv4 host.
    pub fn to_v6(&self, _address: Ipv4Addr) -> Result<Mapped<Ipv6Addr>, Unmapped> {
        Err(Unmapped::NoMapping)
    }
    /// The IPv4 address of an IPv6 host.
    pub fn to_v4(&self, _address: Ipv6Addr) -> Result<Mapped<Ipv4Addr>, Unmapped> {
        Err(Unmapped::NoMapping)
    }
    /// `address` in the prefix, whatever explicit mapping it has (hairpinning, RFC 7757 section 4).
    /// Illegal addresses are embedded as well: sources of ICMP errors may be such (RFC 7915 section 4.1).
    pub fn embed(&self, _address: Ipv4Addr) -> Result<Ipv6Addr, Unmapped> {
        Err(Unmapped::NoMapping)
    }
    /// The explicit mapping of `address`, whatever else it is.
    pub fn explicit_v6(&self, _address: Ipv4Addr) -> Option<Ipv6Addr> {
        None
    }
    /// The translator's own IPv4 address.
    pub fn own_v4(&self) -> Ipv4Addr {
        Ipv4Addr::UNSPECIFIED
    }
    /// The translator's own IPv6 address.
    pub fn own_v6(&self) -> Ipv6Addr {
        Ipv6Addr::UNSPECIFIED
    }
}
