//! The daemons: each owns everything, and waits.

pub(crate) mod clat;
mod clat_host;
pub(crate) mod translator;
mod watchdog;
