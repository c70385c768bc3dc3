//! The firewalls of others, read for [`xlatd::plan::firewall`].

use std::{io, time::Instant};

use log::debug;
use xlatd::plan::firewall::{
    Obstacle, Packet, Request, legacy_masquerades, legacy_obstacle, masquerades, obstacles,
};

use crate::sys::{firewall::legacy, netlink::nftables::dump};

/// What was found in firewalls, and in words which of them cannot be read.
pub(crate) struct Found<T> {
    pub(crate) found: T,
    pub(crate) unread: Vec<String>,
}

/// The chains that drop one of the packets of a connection.
pub(crate) fn find_obstacles(packets: &[Packet; 2]) -> Found<Vec<Obstacle>> {
    let before = Instant::now();
    let mut unread = Vec::new();
    let mut found = read_nftables(&mut unread, |dump| obstacles(packets, dump));
    let listing = read_legacy(&mut unread, packets, "filter");
    found.extend(listing.and_then(|listing| legacy_obstacle(&listing, packets)));
    debug!("Read the firewalls in {:?}", before.elapsed());
    Found { found, unread }
}

/// Whether a chain may give the first packet of a connection another source.
pub(crate) fn find_masquerade(packets: &[Packet; 2]) -> Found<bool> {
    let [first, _] = packets;
    let mut unread = Vec::new();
    let found = read_nftables(&mut unread, |dump| masquerades(first, dump));
    let found = found || {
        let listing = read_legacy(&mut unread, packets, "nat");
        listing.is_some_and(|listing| legacy_masquerades(&listing, first))
    };
    Found { found, unread }
}

/// Nothing is found where they cannot be read.
fn read_nftables<T: Default>(
    unread: &mut Vec<String>,
    look: impl FnOnce(&mut dyn FnMut(&Request, usize) -> Vec<Vec<u8>>) -> T,
) -> T {
    let mut failure: Option<io::Error> = None;
    let found = look(&mut |request, limit| {
        dump(request, limit).unwrap_or_else(|error| {
            failure = Some(error);
            Vec::new()
        })
    });
    let Some(error) = failure else {
        return found;
    };
    unread.push(format!("cannot read the chains of nftables: {error}"));
    T::default()
}

fn read_legacy(unread: &mut Vec<String>, packets: &[Packet; 2], table: &str) -> Option<String> {
    let [first, _] = packets;
    legacy::list(first.version(), table).unwrap_or_else(|error| {
        unread.push(format!("cannot read the rules of iptables-legacy: {error}"));
        None
    })
}
