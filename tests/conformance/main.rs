//! What the RFCs ask of the translator, row by row: a packet in, settings, the expected outcome.
//!
//! No kernel, and only the public API of the library. Packets are built (`packets`) and read (`checker`) with code of the
//! tests' own, so that a mistake in the library's idea of a format shows. `rig` checks everything that is emitted in full,
//! whatever the row is about: versions, lengths, every checksum, payloads, flow labels.
//!
//! It prints how many ids are proven, and why the others are not.
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

use std::io::{self, Write};

use rows::Row;

/// Every id that must have its row: section, first and last number.
const IDS: &[(&str, std::ops::RangeInclusive<u32>)] = &[
    ("G", 1..=9),
    ("X46", 1..=38),
    ("X64", 1..=27),
    ("S6", 1..=4),
    ("A52", 1..=10),
    ("EAM", 1..=12),
    ("I91", 1..=7),
    ("E84", 1..=8),
    ("SEC", 1..=5),
];

const FILES: &[&[Row]] = &[
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
fn every_id_has_one_row() {
    let mut ids: Vec<String> = IDS
        .iter()
        .flat_map(|(section, numbers)| {
            numbers
                .clone()
                .map(move |number| format!("{section}-{number:02}"))
        })
        .collect();
    let rows = || FILES.iter().flat_map(|rows| rows.iter());
    let mut found: Vec<String> = rows().map(|row| row.id.to_owned()).collect();
    ids.sort();
    found.sort();
    assert_eq!(found, ids, "every id has exactly one row");

    let reasoned: Vec<_> = rows()
        .filter_map(|row| Some((row.id, row.reason()?)))
        .collect();
    // Not by println!, which is shown for failed tests only.
    let mut out = io::stdout().lock();
    for (id, reason) in &reasoned {
        writeln!(out, "{id}: not proven here: {reason}").unwrap();
    }
    let proven = found.len() - reasoned.len();
    writeln!(
        out,
        "conformance: {proven} ids proven, {} with a reason",
        reasoned.len()
    )
    .unwrap();
}

#[test]
fn rfc7915_general() {
    rows::run(rfc7915_general::ROWS);
}

#[test]
fn rfc7915_four_to_six() {
    rows::run(rfc7915_four_to_six::ROWS);
}

#[test]
fn rfc7915_six_to_four() {
    rows::run(rfc7915_six_to_four::ROWS);
}

#[test]
fn rfc6052() {
    rows::run(rfc6052::ROWS);
}

#[test]
fn rfc7757() {
    rows::run(rfc7757::ROWS);
}

#[test]
fn rfc6791() {
    rows::run(rfc6791::ROWS);
}

#[test]
fn rfc4884() {
    rows::run(rfc4884::ROWS);
}

#[test]
fn robustness() {
    rows::run(robustness::ROWS);
}

#[test]
fn traps() {
    rows::run(traps::ROWS);
}
