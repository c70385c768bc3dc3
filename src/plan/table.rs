//! Tables of nftables.

use std::fmt;

/// A table of nftables, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The packets that its chains see.
    pub family: Family,
    /// The name among tables of this family.
    pub name: String,
}

/// The family of a table of nftables: the packets that its chains see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

impl Table {
    pub(super) fn new(family: Family, name: &str) -> Self {
        let name = name.to_owned();
        Self { family, name }
    }
}

impl fmt::Display for Table {
    /// As nft(8) has it: `inet xlatd_clat`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        };
        write!(f, "{family} {}", self.name)
    }
}
