//! Notifications of changes to the network (the multicast groups of rtnetlink(7)).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};

use super::{
    LinkState,
    notifications::{Heard, Notifications},
};

/// Multicast group of link changes, as a bit: RTMGRP_LINK.
const LINK_GROUP: u32 = 1;
/// Those of links, IPv4 and IPv6 addresses, routes and rules, forwarding, and next hops:
/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR and so on, RTNLGRP_IPV6_RULE, RTNLGRP_IPV4_NETCONF,
/// RTNLGRP_IPV6_NETCONF and RTNLGRP_NEXTHOP.
const NETWORK_GROUPS: u32 =
    LINK_GROUP | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18 | 3 << 23 | 1 << 31;
/// That of tables of nftables: NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.
const NFTABLES_GROUP: u32 = 1 << 6;

/// A socket that says when something changes of the multicast groups that it was opened for: links,
/// all of the network, or nftables.
pub(crate) struct LinkChanges(Notifications);

/// A change. Of one in another group than that of links, only the fact counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The state of those that changed. Links of other namespaces, and those that were removed, are
    /// not among them.
    To(Vec<LinkState>),
    /// More happened than there was room for: links have to be looked at.
    Missed,
}

impl LinkChanges {
    pub(crate) fn new() -> io::Result<Self> {
        Self::of(NETLINK_ROUTE, LINK_GROUP)
    }

    /// The same for addresses, routes and rules, of which it only says that something changed.
    pub(crate) fn of_the_network() -> io::Result<Self> {
        Self::of(NETLINK_ROUTE, NETWORK_GROUPS)
    }

    /// The same for tables of nftables. Needs CAP_NET_ADMIN, and a kernel that has them.
    pub(crate) fn of_nftables() -> io::Result<Self> {
        Self::of(NETLINK_NETFILTER, NFTABLES_GROUP)
    }

    fn of(protocol: isize, groups: u32) -> io::Result<Self> {
        Notifications::open(protocol, groups).map(Self)
    }

    /// The next change; `None` if there was none since.
    pub(crate) fn next(&mut self) -> io::Result<Option<Change>> {
        let heard = self.0.next()?;
        Ok(heard.map(|heard| match heard {
            // What cannot be read is about another kind of link.
            Heard::Messages(messages) => Change::To(
                messages
                    .iter()
                    .filter_map(|message| match message {
                        RouteNetlinkMessage::NewLink(link) => LinkState::read(link),
                        _ => None,
                    })
                    .collect(),
            ),
            Heard::Missed => Change::Missed,
        }))
    }
}

impl AsFd for LinkChanges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
