//! What a CLAT hears, and what it wants done.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use super::{HostSetup, Network, Status};
use crate::wire::ndp::RouterAdvertisement;

/// Something that has happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The network is so now.
    Network(Network),
    /// A router of a link has said something.
    Advertisement {
        /// Of the device.
        link: u32,
        /// What it says.
        advertisement: RouterAdvertisement,
    },
    /// A name server has said which addresses ipv4only.arpa has: none, if there is no DNS64.
    Resolved {
        /// The device by which it was asked.
        link: u32,
        /// Those that there are.
        addresses: Vec<Ipv6Addr>,
        /// How long they may be kept.
        ttl: Duration,
    },
    /// No name server has given an answer that helps.
    Unresolved {
        /// The device by which they were asked.
        link: u32,
    },
    /// A router has answered a probe.
    Answered {
        /// Our address that it was sent from.
        from: Ipv6Addr,
    },
    /// The machine was suspended, or an administrator says so: the network may be another one.
    Resumed,
    /// What was asked for could not be set up: another instance may have come first.
    Failed,
    /// A deadline may have been reached.
    Time,
}

/// Something that is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the routers of a link for advertisements.
    Solicit {
        /// Of the device.
        link: u32,
    },
    /// Ask name servers, by a link, for the addresses of ipv4only.arpa.
    Query {
        /// Of the device.
        link: u32,
        /// Those to ask; if there are none, those of the system.
        servers: Vec<IpAddr>,
    },
    /// Have this address on its device, and no other one, to see whether another host has it.
    TestAddress(Option<AddressTest>),
    /// Send a probe to see whether packets from an address pass: it is to reach the first router, and no more.
    Probe {
        /// Of the device.
        link: u32,
        /// Its source.
        from: Ipv6Addr,
        /// Its destination.
        to: Ipv6Addr,
    },
    /// Say what was not believed, and why. Each is said once.
    Ignore(Ignored),
    /// Say why the host's own address is used.
    UseHostAddress(&'static str),
    /// Make it so.
    SetUp(HostSetup),
    /// Set nothing up, and undo what is.
    TearDown,
    /// Say what has become of it.
    Report(Status),
}

/// A NAT64 prefix that somebody has told, and that is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Name of the device.
    pub(super) link: String,
    /// What was told: a prefix by a router, an address of ipv4only.arpa by a name server.
    pub(super) told: String,
    pub(super) why: &'static str,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { link, told, why } = self;
        write!(f, "Not taken for a NAT64: {told}, as told on {link}, {why}")
    }
}

/// An address that is on its device only to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressTest {
    /// Name and index of the device.
    pub uplink: (String, u32),
    /// As a host, with no network.
    pub address: Ipv6Addr,
}
