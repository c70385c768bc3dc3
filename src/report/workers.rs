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
//! | `T` | others | blocks of a trace |
//! | `A` | others | an [`Answer`], as JSON |
//! | `L` | first | [`Leases`] |
//! | `O` | first | an [`Order`], as JSON |

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{status::Packets, trace::Filter};
use crate::addr::pool::{Followed, Lease, LeaseState};

/// The maximum length of a body, in octets: that of the longest packet with its header, and more.
pub const MAX_LEN: usize = 1 << 16;

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A packet.
    Packet,
    /// Blocks of a trace.
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
    Trace(Filter),
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
        /// The beginning of the packet.
        packet: Vec<u8>,
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

/// Changes of leases.
///
/// They also say how many packets of the worker, of those that it has handed over, went out before:
/// while there are more, it reads no others, since these would overtake them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// The number of packets.
    pub done: u64,
    /// The leases that have changed.
    pub changed: Vec<Followed>,
}

impl Leases {
    /// The maximum number of leases in a message.
    pub const MAX: usize = 1000;
    /// The length of a lease: address, host, last use, state.
    const ROW: usize = 4 + 16 + 8 + 1;

    /// The body of a message about some leases.
    pub fn body(done: u64, changed: &[Followed]) -> Vec<u8> {
        let mut body = done.to_be_bytes().to_vec();
        Self::write_rows(changed.iter().copied(), &mut body);
        body
    }

    /// Reads a body. `None`: it is none.
    pub fn read(body: &[u8]) -> Option<Self> {
        let (done, rows) = body.split_first_chunk()?;
        Some(Self {
            done: u64::from_be_bytes(*done),
            changed: Self::read_rows(rows)?,
        })
    }

    /// Adds the rows of leases.
    pub fn write_rows(leases: impl Iterator<Item = Followed>, rows: &mut Vec<u8>) {
        for Followed { lease, state } in leases {
            rows.extend(lease.address.octets());
            rows.extend(lease.host.octets());
            rows.extend(lease.last_use.to_be_bytes());
            rows.push(match state {
                None => b'-',
                Some(LeaseState::Active) => b'a',
                Some(LeaseState::Dormant) => b'd',
            });
        }
    }

    /// Reads rows. `None`: they are none.
    pub fn read_rows(rows: &[u8]) -> Option<Vec<Followed>> {
        let (rows, rest) = rows.as_chunks::<{ Self::ROW }>();
        let read = |row: &[u8; Self::ROW]| {
            let (address, row) = row.split_first_chunk::<4>()?;
            let (host, row) = row.split_first_chunk::<16>()?;
            let (last_use, row) = row.split_first_chunk()?;
            let state = match row {
                b"-" => None,
                b"a" => Some(LeaseState::Active),
                b"d" => Some(LeaseState::Dormant),
                _ => return None,
            };
            let lease = Lease {
                address: Ipv4Addr::from(*address),
                host: Ipv6Addr::from(*host),
                last_use: u64::from_be_bytes(*last_use),
            };
            Some(Followed { lease, state })
        };
        rest.is_empty().then_some(())?;
        rows.iter().map(read).collect()
    }
}

/// The length of a use of a lease: address, second since 1970.
const USE: usize = 4 + 8;

/// The rows of uses of leases.
pub fn write_uses(uses: impl Iterator<Item = (Ipv4Addr, u64)>) -> Vec<u8> {
    let mut rows = Vec::new();
    for (address, second) in uses {
        rows.extend(address.octets());
        rows.extend(second.to_be_bytes());
    }
    rows
}

/// Reads the rows of uses. What is none is left out.
pub fn read_uses(rows: &[u8]) -> impl Iterator<Item = (Ipv4Addr, u64)> {
    rows.as_chunks::<USE>().0.iter().filter_map(|row| {
        let (address, second) = row.split_first_chunk::<4>()?;
        Some((
            Ipv4Addr::from(*address),
            u64::from_be_bytes(second.try_into().ok()?),
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn followed(number: u8, state: Option<LeaseState>) -> Followed {
        let lease = Lease {
            address: Ipv4Addr::new(192, 0, 2, number),
            host: Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number)),
            last_use: 1_795_406_857 + u64::from(number),
        };
        Followed { lease, state }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let changed = vec![
            followed(1, Some(LeaseState::Active)),
            followed(2, Some(LeaseState::Dormant)),
            followed(3, None),
        ];
        let body = Leases::body(7, &changed);
        assert_eq!(Leases::read(&body), Some(Leases { done: 7, changed }));
        let empty = Leases::body(u64::MAX, &[]);
        assert_eq!(Leases::read(&empty).unwrap().done, u64::MAX);
        assert!(Leases::body(0, &[followed(1, None); Leases::MAX]).len() <= MAX_LEN);

        let uses = [(Ipv4Addr::new(192, 0, 2, 1), 3), (Ipv4Addr::BROADCAST, 9)];
        let rows = write_uses(uses.into_iter());
        assert!(read_uses(&rows).eq(uses));

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
            Order::Trace(Filter::default()),
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
    fn what_is_cut_off_is_refused() {
        let body = Leases::body(7, &[followed(1, Some(LeaseState::Active))]);
        for len in 0..body.len() {
            assert_eq!(
                Leases::read(&body[..len]),
                None.or((len == 8).then(|| Leases {
                    done: 7,
                    changed: Vec::new(),
                }))
            );
        }
        let mut other = body.clone();
        *other.last_mut().unwrap() = b'x';
        assert_eq!(Leases::read(&other), None);
        assert_eq!(read_uses(&[1; 11]).count(), 0);
        assert!(read_body::<Order>(b"{}").is_err());
        assert!(read_body::<Answer>(b"\xff").is_err());
    }
}
