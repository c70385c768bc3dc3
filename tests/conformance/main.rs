//! The requirements of the RFCs, row by row: a packet in, settings, the expected outcome.
//!
//! No kernel, and only the public API of the library. Packets are built (`packets`) and read
//! (`checker`) with code of the tests' own, so that a mistake in the library's idea of a format
//! shows. `rig` checks everything that is emitted in full, whatever the row is about: versions,
//! lengths, every checksum, payloads, flow labels.
//!
//! Each row is a test: `cargo test --test conformance x46_23`. Rows that no packet can prove are
//! ignored tests, with the reason.
#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, which names its row"
)]

mod checker;
mod packets;
mod rig;
mod rows;

mod rfc4884;
mod rfc6052;
mod rfc6791;
mod rfc7757;
mod rfc7915_four_to_six;
mod rfc7915_general;
mod rfc7915_six_to_four;
mod robustness;
mod special;
mod traps;

use std::ops::RangeInclusive;

/// Every row that there must be: section, first and last number.
const SECTIONS: &[(&str, RangeInclusive<u32>)] = &[
    ("g", 1..=9),    // RFC 7915, both directions
    ("x46", 1..=38), // RFC 7915 section 4
    ("x64", 1..=27), // RFC 7915 section 5
    ("s6", 1..=4),   // RFC 7915 section 6
    ("a52", 1..=10), // RFC 6052
    ("eam", 1..=12), // RFC 7757
    ("i91", 1..=7),  // RFC 6791
    ("e84", 1..=8),  // RFC 4884
    ("sec", 1..=5),  // robustness
];

const FILES: &[&[&str]] = &[
    rfc7915_general::ROWS,
    rfc7915_four_to_six::ROWS,
    rfc7915_six_to_four::ROWS,
    rfc6052::ROWS,
    rfc7757::ROWS,
    rfc6791::ROWS,
    rfc4884::ROWS,
    robustness::ROWS,
];

#[test]
fn every_requirement_has_one_row() {
    let numbered = |(section, numbers): &(&str, RangeInclusive<u32>)| {
        let section = section.to_string();
        let numbers = numbers.clone();
        numbers.map(move |number| format!("{section}_{number:02}"))
    };
    let mut expected: Vec<String> = SECTIONS.iter().flat_map(numbered).collect();
    let mut found = FILES.concat();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    assert_eq!((found.len(), traps::ROWS.len()), (120, 14));
}
