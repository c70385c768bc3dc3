//! The status of a CLAT, and the reasons for it, in words and as data.

use std::{fmt, net::Ipv6Addr};

use super::Origin;
use crate::addr::Nat64Prefix;

/// The status of a CLAT. The names are those of interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Something is missing that any NAT64 needs.
    Waiting(Missing),
    /// No NAT64 prefix is known yet.
    WaitingForPrefix(String),
    /// No network to form a CLAT address in is known yet.
    WaitingForNetwork(String),
    /// It is being tested whether a CLAT address can be used.
    CheckingAddress(Ipv6Addr, String),
    /// Programs have IPv4.
    Active {
        /// The NAT64 prefix.
        prefix: Nat64Prefix,
        /// Where it comes from.
        origin: Origin,
        /// Name of the uplink.
        uplink: String,
        /// Whether the kernel forwards the packets, so that firewalls and rules have a say.
        forwarded: bool,
    },
    /// Programs are led to a NAT64 that does not answer.
    Silent(Nat64Prefix, Origin, String),
    /// There is native IPv4.
    SteppingAside(String),
    /// Another CLAT serves the same uplink.
    AnotherClat(String),
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// An IPv6 route that may lead to a NAT64.
    Route,
    /// The interface that `plat-dev` names.
    PlatDev,
    /// A router on the uplink, to which there is no route.
    Router,
    /// An IPv6 address on the uplink that is not link-local.
    GlobalAddress,
    /// Two free addresses of 192.0.0.0/29.
    Ipv4Addresses,
}

impl Status {
    /// Whether the host is set up for IPv4 by this status, so that a failed set-up contradicts it.
    pub fn has_ipv4(&self) -> bool {
        matches!(
            self,
            Self::Active { .. } | Self::Silent(..) | Self::SteppingAside(_)
        )
    }
}

impl Status {
    /// Whether all is as it should be: programs have IPv4, by the CLAT or without it.
    pub fn is_well(&self) -> bool {
        matches!(
            self,
            Self::Active { .. } | Self::SteppingAside(_) | Self::AnotherClat(_)
        )
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting(missing) => write!(f, "Waiting for {missing}"),
            Self::WaitingForPrefix(uplink) => write!(
                f,
                "Waiting for a NAT64 prefix on {uplink}: \
                 no Router Advertisement with one (PREF64), and no answer from a DNS64"
            ),
            Self::WaitingForNetwork(uplink) => write!(
                f,
                "Waiting for a /64 on {uplink} to form the CLAT address in"
            ),
            Self::CheckingAddress(address, uplink) => {
                write!(f, "Checking whether {address} can be used on {uplink}")
            }
            Self::Active {
                prefix,
                origin,
                uplink,
                forwarded,
            } => write!(
                f,
                "IPv4 via {uplink}, NAT64 prefix {} ({origin}){}",
                prefix.prefix(),
                if *forwarded {
                    ", forwarded by the kernel"
                } else {
                    ""
                }
            ),
            Self::Silent(prefix, origin, uplink) => write!(
                f,
                "NAT64 does not answer: packets leave via {uplink}, and none comes back, \
                 NAT64 prefix {} ({origin})",
                prefix.prefix()
            ),
            Self::SteppingAside(interface) => {
                write!(f, "Stepping aside: {interface} has native IPv4")
            }
            Self::AnotherClat(interface) => write!(
                f,
                "Stepping aside: another CLAT has an address of 192.0.0.0/29 on {interface} \
                 (NetworkManager: ipv4.clat; systemd-networkd: CLAT=); \
                 v4-conncheck-enable=no goes on beside it"
            ),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Route => "an uplink: no IPv6 default route",
            Self::PlatDev => "an uplink: plat-dev is down, or does not exist",
            Self::Router => {
                "a router: no IPv6 route by plat-dev, and no router has announced itself there"
            }
            Self::GlobalAddress => {
                "an IPv6 address: the interface of the IPv6 default route has no global one"
            }
            Self::Ipv4Addresses => {
                "two free addresses of 192.0.0.0/29 (clat-v4-addr, tayga-v4-addr)"
            }
        })
    }
}

/// The reason why there is no CLAT address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoClatAddress {
    /// The host has the configured one itself.
    HostHas,
    /// There is no network to form one in.
    NoNetwork,
    /// There is no address to derive one from.
    NotDerivable,
    /// Other hosts have all that were tried.
    InUse,
    /// Duplicate address detection has not come to an end.
    NotDetected,
    /// The network drops packets from it.
    Filtered,
    /// Nothing has ever come back to it.
    Unanswered,
}

impl fmt::Display for NoClatAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostHas => "this host has clat-v6-addr itself, so that it is no CLAT's alone",
            Self::NoNetwork => "no router announces a /64 in which this host has an address",
            Self::NotDerivable => "no address of the host is made from a link-layer address",
            Self::InUse => "other hosts have the addresses that were tried",
            Self::NotDetected => "the kernel has not finished duplicate address detection",
            Self::Filtered => "the network drops packets from any other address",
            Self::Unanswered => "packets from any other address are not answered",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::clat::prefix::nat64;

    /// A set-up that fails contradicts only what says that there is one; what is well is what no
    /// administrator has to look at.
    #[test]
    fn the_status_tells_whether_there_is_ipv4_and_whether_all_is_well() {
        let prefix = nat64("64:ff9b::".parse().unwrap(), 96).unwrap();
        let name = || "eth0".to_owned();
        let active = Status::Active {
            prefix,
            origin: Origin::Dns,
            uplink: name(),
            forwarded: false,
        };
        assert_eq!(
            active.to_string(),
            "IPv4 via eth0, NAT64 prefix 64:ff9b::/96 (DNS64)"
        );
        let checking = Status::CheckingAddress(Ipv6Addr::LOCALHOST, name());
        for (status, has_ipv4, is_well) in [
            (active, true, true),
            (Status::Silent(prefix, Origin::Dns, name()), true, false),
            (Status::SteppingAside(name()), true, true),
            (Status::AnotherClat(name()), false, true),
            (Status::Waiting(Missing::Route), false, false),
            (Status::WaitingForPrefix(name()), false, false),
            (Status::WaitingForNetwork(name()), false, false),
            (checking, false, false),
        ] {
            assert_eq!(status.has_ipv4(), has_ipv4, "{status}");
            assert_eq!(status.is_well(), is_well, "{status}");
        }
    }
}
