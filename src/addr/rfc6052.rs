//! IPv4 addresses in IPv6 prefixes (RFC 6052).
use super::Prefix6;
/// A prefix that IPv4 addresses are embedded in: /32, /40, /48, /56, /64 or /96 (RFC 6052 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat64Prefix(Prefix6);
/// Why a prefix cannot embed IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat64PrefixError {
    /// The length is none of 32, 40, 48, 56, 64, 96.
    Length,
    /// Multicast, link-local, ... (see `special`).
    NotUnicast,
}
impl Nat64Prefix {
    /// Checks the length.
    pub fn new(prefix: Prefix6) -> Result<Self, Nat64PrefixError> {
        Ok(Self(prefix))
    }
    /// The prefix.
    pub fn prefix(&self) -> Prefix6 {
        self.0
    }
}
