//! What became of packets, for people: counters, lines of the log, and hints.

pub mod hints;
pub mod packet_log;
pub mod stats;
