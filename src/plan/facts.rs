//! The facts about the host that the plan of a CLAT depends on.

/// The facts about a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether the kernel has `force_forwarding` for each device (Linux 6.17).
    pub forces_forwarding: bool,
    /// Whether the host is a router without a CLAT: then others decide what it forwards.
    pub is_router: bool,
    /// Whether nftables can be used. Without them IPv4 works by an address of its own only.
    pub has_nft: bool,
    /// Whether nftables can ask for the socket of a packet, as modules of Linux 5.10 can.
    pub matches_sockets: bool,
    /// Whether routes can share the [next hop](super::next_hop_object) of this CLAT.
    pub has_next_hop_object: bool,
    /// Whether new devices drop packets to whose source they do not lead ([RP_FILTER] is 1).
    ///
    /// [RP_FILTER]: super::RP_FILTER
    pub filters_strictly: bool,
    /// Whether ufw(8) is enabled, and can be told something.
    pub has_ufw: bool,
}
