//! Reports on packets for people: counters, log lines, and hints.

pub mod hints;
pub mod packet_log;
pub mod stats;
