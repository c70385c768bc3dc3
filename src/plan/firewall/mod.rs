//! Firewalls of others that drop forwarded packets of a CLAT, and the commands that help.
//!
//! Two packets are followed through each chain of the hook forward: the first one of a connection,
//! and its answer. Of both the devices, the family and the state of the connection are known, and
//! nothing else. So a chain that rejects by its last rule (firewalld) is found as well as one with
//! policy drop (ufw, Docker), and one that accepts packets of the TUN device before is not.

mod attributes;
mod expressions;
mod ip6tables;
mod nftables;
mod obstacle;
mod walk;

pub use ip6tables::legacy_obstacle;
pub use nftables::{Request, obstacles};
pub use obstacle::{Chain, Manager, Obstacle};
pub use walk::Packet;
