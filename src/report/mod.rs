//! Reports for people and for programs: what became of packets, and how a daemon is.

pub mod control;
pub mod explain;
pub mod hints;
pub mod mappings;
pub mod metrics;
pub mod packet_log;
pub mod stats;
pub mod status;
pub mod trace;
pub mod workers;
