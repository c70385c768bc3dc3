//! The daemons: the frame that waits, and its two guests.

pub(crate) mod clat;
mod clat_host;
pub(crate) mod map_file;
pub(crate) mod service;
pub(crate) mod translator;
mod watchdog;
