//! Octets to values and back: packet formats, no policy.
//!
//! A view ([`Ipv4Packet`](ipv4::Ipv4Packet), [`TcpSegment`](tcp::TcpSegment)) checks every length
//! once, in its constructor, and splits the buffer there; its accessors cannot fail. A header to
//! send is a plain value with `octets()`, so no half-written header exists. Each file opens with
//! the diagram of its format; offsets have names that end in `_AT`.

pub mod checksum;
pub mod dns;
pub mod ethernet;
mod fragment;
pub mod icmp;
pub mod icmp_extension;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod tcp;
pub mod transport;
pub mod udp;
pub mod virtio;

use std::fmt;

pub use fragment::FragmentPlace;

/// Protocol numbers that have a meaning here (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// IPv6 Hop-by-Hop Options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMPV4: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// Routing header for IPv6.
    pub const ROUTING: u8 = 43;
    /// Fragment header for IPv6.
    pub const FRAGMENT: u8 = 44;
    /// Authentication Header.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// Destination Options for IPv6.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// Mobility header.
    pub const MOBILITY: u8 = 135;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
    /// Host Identity Protocol.
    pub const HIP: u8 = 139;
    /// Shim6.
    pub const SHIM6: u8 = 140;
}

/// Why octets are not the packet they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// Shorter than a header, or than a length field says.
    Truncated,
    /// The version field is not the one that belongs here.
    Version,
    /// A length field contradicts another one, or is less than the header.
    Length,
    /// The IPv4 header checksum is wrong.
    HeaderChecksum,
    /// An IPv4 option has an impossible length.
    Options,
    /// An IPv6 extension header has an impossible length, or there are too many.
    ExtensionHeaders,
    /// The offload header of the kernel does not match the packet.
    Offload,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "packet shorter than its headers say",
            Self::Version => "neither IPv4 nor IPv6",
            Self::Length => "contradictory header lengths",
            Self::HeaderChecksum => "wrong IPv4 header checksum",
            Self::Options => "malformed IPv4 options",
            Self::ExtensionHeaders => "malformed IPv6 extension headers",
            Self::Offload => "malformed offload header",
        })
    }
}

/// The big-endian 16-bit number at `at`, where there is one.
pub(crate) fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    let pair = octets.get(at..at + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

/// Writes a big-endian 16-bit number to `at`, where there must be one.
pub(crate) fn put_u16(octets: &mut [u8], at: usize, number: u16) {
    octets[at..at + 2].copy_from_slice(&number.to_be_bytes());
}

/// The big-endian 32-bit number at `at`, where there is one.
pub(crate) fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    octets
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_be_bytes)
}
