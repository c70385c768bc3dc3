//! Address mapping: IPv4 addresses to IPv6 addresses and back. No packets.
//!
//! [`AddressMap`] decides. Under it lie two ways to map an address: embedded in a prefix
//! ([`Nat64Prefix`], RFC 6052) and by a table of pairs of prefixes ([`Eam`], RFC 7757). Leases of
//! tayga's dynamic pool are kept in [`pool`]; [`upkeep`] decides when they are aged and written.

mod address_map;
mod eam;
mod free_addresses;
mod longest_match;
pub mod pool;
mod prefix;
mod rfc6052;
pub mod special;
pub mod upkeep;

pub use address_map::{AddressMap, Edge, Mapped, Unmapped, Via};
pub use eam::{Disagreement, Eam, SuffixTooShort};
pub use prefix::{Address, IpPrefix, Prefix, Prefix4, Prefix6, PrefixError};
pub(crate) use prefix::{decimal, parse as parse_prefix};
pub use rfc6052::{Nat64Prefix, Nat64PrefixError};
