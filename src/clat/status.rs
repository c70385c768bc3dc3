//! How far a CLAT is, in words.

use std::{fmt, net::Ipv6Addr};

use super::Origin;
use crate::addr::Nat64Prefix;

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// There is no way out yet.
    WaitingForLink(&'static str),
    /// Nobody has said yet how the NAT64 is reached.
    WaitingForPrefix(String),
    /// It is found out whether an address of our own can be used; which one, and on which device.
    CheckingAddress(Option<Ipv6Addr>, String),
    /// Programs have IPv4.
    Active(Nat64Prefix, Origin, String),
    /// There is native IPv4.
    SteppingAside(String),
    /// Somebody else does it.
    AnotherClat(String),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitingForLink(missing) => write!(f, "Waiting for a network: {missing}"),
            Self::WaitingForPrefix(uplink) => write!(
                f,
                "Waiting for a NAT64 prefix on {uplink}: no Router Advertisement has one (PREF64), and no DNS64 has answered"
            ),
            Self::CheckingAddress(None, uplink) => {
                write!(f, "Looking for a network of {uplink} to have an address in")
            }
            Self::CheckingAddress(Some(address), uplink) => {
                write!(f, "Checking whether {address} can be used on {uplink}")
            }
            Self::Active(prefix, origin, uplink) => {
                let origin = match origin {
                    Origin::Configured => "plat-prefix",
                    Origin::Advertisement => "Router Advertisement",
                    Origin::Dns => "DNS64",
                    Origin::Fallback => "plat-fallback-prefix",
                };
                write!(
                    f,
                    "IPv4 goes by {uplink} and {} ({origin})",
                    prefix.prefix()
                )
            }
            Self::SteppingAside(link) => write!(f, "Stepping aside: {link} has native IPv4"),
            Self::AnotherClat(link) => write!(
                f,
                "Stepping aside: another CLAT is at work on {link}, which has an address of 192.0.0.0/29 \
                 (NetworkManager: ipv4.clat; systemd-networkd: CLAT=)"
            ),
        }
    }
}
