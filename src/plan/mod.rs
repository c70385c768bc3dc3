//! What is to be done to the system, as data: ordered steps, each with its undo.
//!
//! `xlatd check` prints them, the daemon carries them out: what is shown is what happens.

mod clat;
mod describe;
mod facts;
mod nft;
pub mod record;
mod resource;
mod translator;

pub use clat::{allow_in_ufw, clat, clat_map, clat_translation, force_forwarding, trial};
pub use describe::describe;
pub use facts::Facts;
pub use nft::{dropping_chains, rules, ruleset, ruleset_name};
pub use resource::{Route, Rule, Step, Target};
pub use translator::setup;
