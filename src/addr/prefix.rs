//! Prefixes of both families.
use std::net::{Ipv4Addr, Ipv6Addr};
/// An IPv4 prefix without host bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix4 {
    address: Ipv4Addr,
    length: u8,
}
/// An IPv6 prefix without host bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix6 {
    address: Ipv6Addr,
    length: u8,
}
/// Why a text or a pair of address and length is not a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// Not an address of this family.
    Address,
    /// The length is not a number from 0 to 32 or 128.
    Length,
    /// Bits after the prefix length are set.
    HostBits,
}
impl Prefix4 {
    /// `address/length`.
    pub fn new(address: Ipv4Addr, length: u8) -> Result<Self, PrefixError> {
        Ok(Self { address, length })
    }
    /// The first address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }
    /// In bits, 0 to 32.
    pub fn length(&self) -> u8 {
        self.length
    }
}
impl Prefix6 {
    /// `address/length`.
    pub fn new(address: Ipv6Addr, length: u8) -> Result<Self, PrefixError> {
        Ok(Self { address, length })
    }
    /// The first address.
    pub fn address(&self) -> Ipv6Addr {
        self.address
    }
    /// In bits, 0 to 128.
    pub fn length(&self) -> u8 {
        self.length
    }
}
