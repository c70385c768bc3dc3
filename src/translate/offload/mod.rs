//! Packets with offloaded work: translation with the work left to do, the work itself in software
//! where it must be done first, and receive offload.

mod coalesce;
mod patience;
mod segments;
mod treatment;

pub use coalesce::{Coalescer, Offered};
pub use segments::Segments;
pub(super) use treatment::{Transport, Treatment};
