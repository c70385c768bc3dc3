//! The deciding half of xlatd: a stateless IPv4/IPv6 translator (SIIT, RFC 7915) that reads tayga.conf.
//!
//! This library does no I/O, reads no clock and contains no `unsafe`: octets and text come in, decisions go out.
//! The binary beside it (`main.rs`, `cli.rs`, `daemon.rs`, `sys/`) reads, writes and waits, and decides nothing.
#![forbid(unsafe_code)]

pub mod addr;
pub mod config;
pub mod plan;
pub mod stats;
pub mod translate;
pub mod wire;
