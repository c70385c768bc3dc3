//! Rules that hold for every packet, proved on packets and maps that nobody thought of.
//!
//! What the translator says is checked by a reader and a checksum of this crate's own ([`plain`]),
//! written to be obvious and not to be fast. `PROPTEST_CASES` sets how many cases each property
//! gets.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod any_octets;
mod checksums;
mod explain;
mod fragments;
mod given;
mod icmp_errors;
mod judge;
mod plain;
mod there_and_back;

use proptest::test_runner::Config;

/// As many cases as `PROPTEST_CASES` says, 2048 without it; failures are printed, not kept in
/// files.
fn cases() -> Config {
    let mut config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 2048;
    }
    config
}
