//! Tables of maps, all of which cover the same addresses or more.

use std::net::{Ipv4Addr, Ipv6Addr};

/// So many hosts send, whatever the number of maps.
pub(crate) const HOSTS: u32 = 100_000;

/// Numbers of maps that are compared.
pub(crate) const SIZES: [u32; 4] = [1, 1_000, 10_000, HOSTS];

/// IPv4 addresses from 10.0.0.0 on, and IPv6 addresses from 2001:db8:10:: on, in `maps` blocks of
/// one size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maps(pub(crate) u32);

impl Maps {
    /// Addresses in each block: a power of two.
    fn block(self) -> u32 {
        HOSTS.div_ceil(self.0).next_power_of_two()
    }

    /// One of [`HOSTS`] hosts. They are spread over all maps.
    pub(crate) fn host(self, number: u32) -> (Ipv4Addr, Ipv6Addr) {
        let each = HOSTS / self.0;
        at(number / each * self.block() + number % each)
    }

    /// As lines of a configuration.
    pub(crate) fn lines(self) -> String {
        let bits = self.block().trailing_zeros();
        (0..self.0)
            .map(|number| {
                let (v4, v6) = at(number * self.block());
                format!("map {v4}/{} {v6}/{}\n", 32 - bits, 128 - bits)
            })
            .collect()
    }
}

fn at(offset: u32) -> (Ipv4Addr, Ipv6Addr) {
    let v4 = Ipv4Addr::new(10, 0, 0, 0).to_bits() + offset;
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0, 0).to_bits() + u128::from(offset);
    (v4.into(), v6.into())
}

/// All of [`HOSTS`] numbers, in an order that no cache can foresee.
pub(crate) fn shuffled() -> impl Iterator<Item = u32> + Clone {
    const STEP: u64 = 61_803; // prime, and no divisor of HOSTS
    (0..u64::from(HOSTS)).map(|number| (number * STEP % u64::from(HOSTS)) as u32)
}
