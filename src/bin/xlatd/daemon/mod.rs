//! The daemons: the service, and its two guests, the translator and the CLAT.

pub(crate) mod clat;
mod clat_host;
pub(crate) mod control;
pub(crate) mod exporter;
pub(crate) mod file_as_read;
mod firewall_watch;
pub(crate) mod map_file;
mod neighbours;
pub(crate) mod options;
pub(crate) mod service;
pub(crate) mod translator;
mod watchdog;
mod worker;
mod workers;
