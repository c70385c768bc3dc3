//! What keeps packets from passing on this host, most important first, each with the commands that
//! mend it: `xlatd doctor`.
//!
//! [`Facts`] of the host come in, and a [`Diagnosis`] goes out. Each check is a row of
//! [`translator::CHECKS`] or [`clat::CHECKS`], and those are in an order: what causes something
//! comes before what follows from it, so that the first finding is the one to begin with.
//!
//! Commands are of those programs that every host with such a problem has: ip(8), sysctl(8) and
//! those of its firewall.

pub mod clat;
pub mod echo;
mod facts;
mod filters;
mod finding;
mod forwarding;
mod process;
mod routes;
mod samples;
#[cfg(test)]
mod tests;
pub mod translator;

pub use facts::{
    ChangedFile, DataDirUse, Disabled, Facts, Input, Leads, Link, Looked, OwnAddress, Process,
    RouteUsed, Way,
};
pub use filters::{of_all_ways, private_sources};
pub use finding::{Check, Diagnosis, Finding};
pub use routes::crossings;
pub use samples::{OUTSIDE, Of, Sample, samples};
