//! The events that a CLAT learns of, and the actions that it asks for.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use super::{HostSetup, Network, NoClatAddress, Status};
use crate::{addr::Nat64Prefix, link::LinkRef, wire::ndp::RouterAdvertisement};

/// Something that has happened. A `link` is the index of the interface to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The network has changed, and is so now.
    Network(Network),
    /// A router has sent an advertisement.
    Advertisement {
        /// The link that it came by.
        link: u32,
        /// The router, by its link-local address.
        router: Ipv6Addr,
        /// Its content.
        advertisement: RouterAdvertisement,
    },
    /// A name server has answered which IPv6 addresses ipv4only.arpa has.
    Resolved {
        /// The link by which it was asked.
        link: u32,
        /// What it has answered.
        resolution: Resolution,
    },
    /// No name server has given a usable answer.
    Unresolved {
        /// The link by which they were asked.
        link: u32,
    },
    /// A router has answered a probe.
    Answered {
        /// The source of the probe.
        from: Ipv6Addr,
    },
    /// The network may be another one: the machine was suspended, or an administrator says so.
    Resumed,
    /// No packet socket can be opened here, whatever the link: the kernel is to forward.
    NoPacketSockets,
    /// The last set-up failed. Another instance may have taken the IPv4 addresses first.
    Failed,
    /// A deadline may have been reached.
    Time,
}

/// The answer to which IPv6 addresses ipv4only.arpa has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The addresses: none without a DNS64.
    pub addresses: Vec<Ipv6Addr>,
    /// The time for which they may be kept.
    pub ttl: Duration,
    /// Whether the servers are the uplink's own. Others, such as those of a VPN in resolv.conf,
    /// change nothing about what own ones have said.
    pub own: bool,
}

/// Name servers to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// These, of `dns64-servers`.
    Configured(Vec<IpAddr>),
    /// Those of the network: these, of Router Advertisements (RFC 8106), and what the host knows
    /// besides.
    Network(Vec<IpAddr>),
}

/// Something to do. A `link` is the index of the interface to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a Router Solicitation.
    Solicit {
        /// The link to solicit.
        link: u32,
    },
    /// Ask name servers for the IPv6 addresses of ipv4only.arpa.
    Query {
        /// The link to ask by.
        link: u32,
        /// The servers to ask.
        servers: Servers,
    },
    /// Have this address, and no other one, on its interface, for the kernel to detect duplicates.
    TestAddress(Option<AddressTest>),
    /// Send a probe with hop limit 1: a Time Exceeded of the router shows that the source passes.
    Probe {
        /// The link to send it by.
        link: u32,
        /// Its source.
        from: Ipv6Addr,
        /// Its destination.
        to: Ipv6Addr,
    },
    /// Log a NAT64 prefix that was ignored. Each is logged once.
    Ignore(Ignored),
    /// Log that a prefix that does not answer gives way to another one.
    GiveWay(Nat64Prefix),
    /// Log why the host's own address is used.
    UseHostAddress(NoClatAddress),
    /// Set the host up so.
    SetUp(HostSetup),
    /// Undo all that was set up.
    TearDown,
    /// Report this status.
    Report(Status),
}

/// A NAT64 prefix, or an address that should have one in it, that was ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Name of the interface by which it was learnt.
    pub(super) interface: String,
    pub(super) what: IgnoredPrefix,
}

/// What was ignored; the variant is the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum IgnoredPrefix {
    /// No NAT64 can have it (RFC 6052 section 2.2).
    Invalid(Ipv6Addr, u8),
    /// It overlaps with a network of this host.
    Own(Ipv6Addr, u8),
    /// It is an address of ipv4only.arpa without 192.0.0.170 or 192.0.0.171 in it.
    NotSynthesized(Ipv6Addr),
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, what } = self;
        match what {
            IgnoredPrefix::Invalid(prefix, length) => write!(
                f,
                "Ignoring NAT64 prefix {prefix}/{length} on {interface}: not a valid one (RFC 6052)"
            ),
            IgnoredPrefix::Own(prefix, length) => write!(
                f,
                "Ignoring NAT64 prefix {prefix}/{length} on {interface}: \
                 it overlaps with a network of this host"
            ),
            IgnoredPrefix::NotSynthesized(address) => write!(
                f,
                "Ignoring address {address} of ipv4only.arpa on {interface}: \
                 no NAT64 prefix is in it"
            ),
        }
    }
}

/// An address that is on its interface only to be tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressTest {
    /// The uplink.
    pub uplink: LinkRef,
    /// The address, as a /128.
    pub address: Ipv6Addr,
}
