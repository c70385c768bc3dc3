//! Values that directives and keys have, and the words for them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    addr::{Eam, Prefix4, Prefix6},
    translate::UdpChecksum,
};

/// Whether the name of a device is a format, as `nat%d`: the device is a new one each time, for
/// which the kernel puts the first number that is free in the place of `%d`. No device has a % in
/// its name.
pub fn is_name_format(device: &str) -> bool {
    device.contains('%')
}

/// The packet classes of the `log` directive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogClasses {
    /// Packets that are dropped without an answer.
    pub drop: bool,
    /// Packets that are answered with an ICMP error.
    pub reject: bool,
    /// ICMP errors that are translated.
    pub icmp: bool,
    /// Packets to the translator's own addresses.
    pub own: bool,
    /// What happens to leases of the dynamic pool.
    pub dynamic: bool,
}

impl fmt::Display for LogClasses {
    /// The words of the directive, as `drop self`; nothing if no class is on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.drop, "drop"),
            (self.reject, "reject"),
            (self.icmp, "icmp"),
            (self.own, "self"),
            (self.dynamic, "dyn"),
        ];
        let mut space = "";
        for (_, word) in words.into_iter().filter(|(on, _)| *on) {
            write!(f, "{space}{word}")?;
            space = " ";
        }
        Ok(())
    }
}

/// An address with a prefix length, of either family; host bits may be set (`tun-ip`, `tun-route`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpPrefix {
    /// `192.0.2.1/24`; the length is 0 to 32 bits.
    V4(Ipv4Addr, u8),
    /// `2001:db8::1/64`; the length is 0 to 128 bits.
    V6(Ipv6Addr, u8),
}

impl IpPrefix {
    /// The address.
    pub const fn address(self) -> IpAddr {
        match self {
            Self::V4(address, _) => IpAddr::V4(address),
            Self::V6(address, _) => IpAddr::V6(address),
        }
    }

    /// The prefix length, in bits.
    pub const fn length(self) -> u8 {
        match self {
            Self::V4(_, length) | Self::V6(_, length) => length,
        }
    }

    /// The same without host bits. A length that is too long counts as the longest.
    pub fn network(self) -> Self {
        // A shift by all bits is not a shift to Rust; what it would leave is 0.
        match self {
            Self::V4(address, length) => {
                let host_bits = 32_u32.saturating_sub(length.into());
                let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
                Self::V4(Ipv4Addr::from_bits(address.to_bits() & mask), length)
            }
            Self::V6(address, length) => {
                let host_bits = 128_u32.saturating_sub(length.into());
                let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
                Self::V6(Ipv6Addr::from_bits(address.to_bits() & mask), length)
            }
        }
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.length())
    }
}

/// The arguments of `map`. A host is written without its length, which tayga 0.9.2 does not take.
pub(crate) fn map_words(eam: &Eam) -> [String; 2] {
    let (v4, v6) = (eam.v4(), eam.v6());
    [
        if v4 == Prefix4::host(v4.address()) {
            v4.address().to_string()
        } else {
            v4.to_string()
        },
        if v6 == Prefix6::host(v6.address()) {
            v6.address().to_string()
        } else {
            v6.to_string()
        },
    ]
}

/// The argument of `udp-cksum-mode`.
pub(crate) fn udp_checksum_word(mode: UdpChecksum) -> &'static str {
    match mode {
        UdpChecksum::Drop => "drop",
        UdpChecksum::Forward => "fwd",
        UdpChecksum::Calculate => "calc",
    }
}
