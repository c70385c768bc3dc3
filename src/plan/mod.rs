//! The plans for the system: resources that are to be there, each with its undo, and the ledger of
//! what was done.
//!
//! `xlatd check` prints the plan of a translator, the daemon carries it out: what is shown is what
//! happens.

mod clat;
mod describe;
mod effect;
mod facts;
pub mod firewall;
pub mod forwarding;
pub mod ledger;

mod nft;
pub mod record;
mod resource;
mod route;
pub mod shell;
mod sysctl;
mod table;
mod translator;

pub use clat::{clat, clat_map, clat_map_of, clat_translation, next_hop_object, trial, ufw_rules};
pub use describe::describe;
pub use effect::{Before, Effect};
pub use facts::Facts;
pub use ledger::{Ledger, Step};
pub use nft::{rules, ruleset, ruleset_name};
pub use resource::{Resource, Undo};
pub use route::{NextHopObject, Protocol, Route, Rule, Target};
pub use sysctl::{FORCE_FORWARDING, RP_FILTER, Sysctl, conf_path};
pub use table::{Family, Table};
pub use translator::{route_by, setup};
