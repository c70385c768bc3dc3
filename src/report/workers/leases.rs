//! Leases, as the first worker tells them, and their uses, as the others do.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::pool::{Followed, Lease, LeaseState};

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

/// The length of a use of a lease, in octets: address, second since 1970.
pub const USE: usize = 4 + 8;

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
    use crate::report::workers::MAX_LEN;

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
    }
}
