//! Firewalls of others that drop forwarded packets of a CLAT or a translator, and the commands that
//! help; whether one of them masquerades; and a table that does, for a container.
//!
//! Two packets are followed through each chain of the hook forward: the first one of a connection,
//! and its answer. Of both the devices, the family and the state of the connection are known, of
//! those of a translator also the address that leads to it, and nothing else. So a chain that
//! rejects by its last rule (firewalld) is found as well as one with policy drop (ufw, Docker), and
//! one that accepts packets of the TUN device before is not.

mod attributes;
mod expressions;
mod iptables;
mod masquerade;
mod nftables;
mod obstacle;
mod walk;

#[cfg(test)]
mod tests;

pub use iptables::{legacy_masquerades, legacy_obstacle};
pub use masquerade::{Masquerade, Message};
pub use nftables::{Request, masquerades, obstacles};
pub use obstacle::{Chain, Manager, Obstacle};
pub use walk::{IpVersion, Packet};
