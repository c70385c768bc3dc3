//! What the plan of a CLAT depends on.

/// What is to be known of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether the kernel has `force_forwarding` for each device (Linux 6.17).
    pub forces_forwarding: bool,
    /// Whether the uplink forwarded before we came: then it is not for us to say what it forwards.
    pub is_router: bool,
    /// Whether nftables are there. Without them IPv4 works with an address of our own only.
    pub has_nft: bool,
    /// Whether ufw(8) is at work, and we may tell it something.
    pub has_ufw: bool,
}
