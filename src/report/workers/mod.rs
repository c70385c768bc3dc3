//! What the workers of a translator (`workers`) tell each other. They are processes, each with a
//! queue of the device: the first one lends the addresses of the pool, answers clients, and gives
//! orders to the others.
//!
//! A message is one datagram: an octet for its [`Kind`], and a body of at most [`MAX_LEN`] octets.
//! What is longer is in a file in memory, which goes along with a message.
//!
//! | kind | from | body |
//! |---|---|---|
//! | `P` | others | a packet that is handed over, behind its `virtio_net_hdr` |
//! | `T` | others | a [part of a trace](part_of_trace) |
//! | `A` | others | an [`Answer`], as JSON |
//! | `L` | first | [`Leases`] |
//! | `O` | first | an [`Order`], as JSON |

mod leases;
mod trace;

pub use leases::{Leases, USE, read_uses, write_uses};
pub use trace::{AddedTrace, part_of_trace};

use serde::{Deserialize, Serialize};

use super::{status::Packets, trace::Filter};

/// The maximum length of a body, in octets: that of the longest packet with its header, and more.
pub const MAX_LEN: usize = 1 << 16;

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A packet.
    Packet,
    /// A part of a trace.
    Trace,
    /// An [`Answer`].
    Answer,
    /// [`Leases`].
    Leases,
    /// An [`Order`].
    Order,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Packet,
        Self::Trace,
        Self::Answer,
        Self::Leases,
        Self::Order,
    ];

    /// The octet of this kind.
    pub const fn octet(self) -> u8 {
        match self {
            Self::Packet => b'P',
            Self::Trace => b'T',
            Self::Answer => b'A',
            Self::Leases => b'L',
            Self::Order => b'O',
        }
    }

    /// The kind of this octet.
    pub fn of(octet: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.octet() == octet)
    }
}

/// What the first worker has another one do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// To start. The queue goes along, then the [leases](Leases::write_rows), and the map-file if
    /// there is one.
    Start(Start),
    /// To read the map-file that goes along, but not to use it yet.
    Prepare,
    /// To use it.
    Switch,
    /// To say what became of packets. With `uses`, the times at which leases were used since the
    /// last time go along with the answer.
    Report {
        /// For the answer.
        number: u64,
        /// Whether the uses go along.
        uses: bool,
    },
    /// To show that it runs.
    Alive,
    /// The device is another now.
    Link(Link),
    /// To trace packets.
    Trace {
        /// For the [parts](part_of_trace).
        number: u64,
        /// Which packets.
        filter: Filter,
    },
    /// To trace no more.
    EndTrace,
    /// To send a last report with uses, and to end.
    End {
        /// For the report.
        number: u64,
    },
}

/// What a worker starts with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The device.
    pub link: Link,
    /// Its index.
    pub index: u32,
    /// Whether packets have a `virtio_net_hdr`.
    pub has_header: bool,
    /// Whether packets are joined.
    pub coalesces: bool,
    /// The time of the leases, in seconds since 1970.
    pub second: u64,
}

/// The device, as far as it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its MTU, in octets.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
}

/// What another worker has to say to the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It has started, or is prepared to switch; uses of leases go along with the latter.
    Ready,
    /// It runs.
    Alive,
    /// What became of packets.
    Report {
        /// That of the order.
        number: u64,
        /// The packets so far.
        packets: Box<Packets>,
    },
    /// A packet was refused, for which there may be a hint.
    Refused {
        /// The key of the reason.
        reason: String,
        /// The beginning of the packet, of at most [`Refused::MAX_LEN`] octets.
        ///
        /// [`Refused::MAX_LEN`]: super::stats::Refused::MAX_LEN
        packet: Vec<u8>,
        /// The length of the packet, in octets.
        len: usize,
    },
    /// It cannot go on, for this reason.
    Failed(String),
}

/// The body of an order or an answer.
pub fn to_body(content: &impl Serialize) -> Vec<u8> {
    // All that is written has names for keys, so this cannot fail.
    serde_json::to_vec(content).unwrap_or_default()
}

/// Reads the body of an order or an answer; the error says what is wrong with it.
pub fn read_body<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.octet()), Some(kind));
        }
        assert_eq!(Kind::of(0), None);
        let orders = [
            Order::Start(Start {
                link: Link {
                    name: "nat64".to_owned(),
                    mtu: 1500,
                    up: true,
                },
                index: 7,
                has_header: true,
                coalesces: false,
                second: 1,
            }),
            Order::Report {
                number: 1,
                uses: true,
            },
            Order::Trace {
                number: 2,
                filter: Filter::default(),
            },
            Order::Switch,
        ];
        for order in orders {
            assert_eq!(read_body::<Order>(&to_body(&order)), Ok(order));
        }
        let answer = Answer::Report {
            number: 1,
            packets: Box::default(),
        };
        assert_eq!(read_body::<Answer>(&to_body(&answer)), Ok(answer));
    }

    /// Another worker may have been taken over by whoever sends packets.
    #[test]
    fn what_is_no_message_is_refused() {
        assert!(read_body::<Order>(b"{}").is_err());
        assert!(read_body::<Answer>(b"\xff").is_err());
    }
}
