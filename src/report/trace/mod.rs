//! A trace: the packets of a translator as they come and as they go, each with what became of it,
//! as a pcapng file that is written while it is read.
//!
//! It is for a client of the control socket, and bounded: 10,000 packets that came and 50 Mbit in a
//! second, of which at most [`MAX_QUEUED`] octets wait for the client. What is more is left out,
//! and counted.

mod filter;
mod pcapng;
mod queue;
mod recorder;
#[cfg(test)]
mod tests;

pub use filter::{Family, Filter, Host, Protocol, WORDS};
pub use pcapng::{Block, Blocks, Captured, NotATrace};
pub use queue::{MAX_QUEUED, Queue};
pub use recorder::Recorder;
