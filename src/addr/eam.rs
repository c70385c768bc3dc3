//! Explicit address mappings, by longest match (RFC 7757).
use super::{Prefix4, Prefix6};
/// One explicit address mapping: a prefix of each family (RFC 7757 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eam {
    v4: Prefix4,
    v6: Prefix6,
}
/// Why two prefixes cannot be mapped to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EamError {
    /// The IPv6 prefix leaves fewer bits for the host than the IPv4 prefix (RFC 7757 section 3.2).
    SuffixTooShort,
}
impl Eam {
    /// The pair, if every IPv4 address of it has an IPv6 address.
    pub fn new(v4: Prefix4, v6: Prefix6) -> Result<Self, EamError> {
        Ok(Self { v4, v6 })
    }
    /// The IPv4 prefix.
    pub fn v4(&self) -> Prefix4 {
        self.v4
    }
    /// The IPv6 prefix.
    pub fn v6(&self) -> Prefix6 {
        self.v6
    }
}
