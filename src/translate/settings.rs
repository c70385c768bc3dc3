//! What the administrator decides.

use std::net::Ipv4Addr;

/// How the translator treats what RFC 7915 leaves to the administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// MTU of the TUN device, in octets, 1280 to 65535: the next hop's MTU in both families.
    pub mtu: u16,
    /// Largest IPv6 packet to be made of an IPv4 packet that may be fragmented (DF clear), in octets, 1280 to 65535
    /// (`offlink-mtu`; "lowest-ipv6-mtu" of RFC 7915 section 4).
    pub offlink_mtu: u16,
    /// What becomes of a UDP packet without a checksum (`udp-cksum-mode`).
    pub udp_checksum: UdpChecksum,
    /// Traffic Class of IPv6 packets made of IPv4 packets (`traffic-class`).
    pub traffic_class: TrafficClass,
    /// TOS of IPv4 packets made of IPv6 packets (`tos`).
    pub tos: TrafficClass,
    /// Whether IPv6 hosts with an explicit mapping reach each other through the prefix (`hairpin`; RFC 7757 section 4).
    pub hairpin: bool,
    /// IPv4 source of translated ICMPv6 errors whose own source has no mapping (`icmp-source`; RFC 6791).
    /// `None`: the translator's own address.
    pub icmp_source: Option<Ipv4Addr>,
    /// ICMP errors that the translator itself may send (`icmp-errors`).
    pub icmp_errors: IcmpErrors,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mtu: 1500,
            offlink_mtu: 1280,
            udp_checksum: UdpChecksum::Drop,
            traffic_class: TrafficClass::Copy,
            tos: TrafficClass::Copy,
            hairpin: true,
            icmp_source: None,
            icmp_errors: IcmpErrors::PerSecond(1000),
        }
    }
}

/// What becomes of a UDP packet whose checksum field is zero (RFC 7915 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpChecksum {
    /// It is dropped.
    Drop,
    /// It is forwarded, still without a checksum.
    Forward,
    /// It gets a checksum; a first fragment, whose checksum would cover what is not here, is dropped.
    Calculate,
}

/// Where the Traffic Class or TOS octet of a translated packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficClass {
    /// From the packet.
    Copy,
    /// From the configuration.
    Fixed(u8),
}

impl TrafficClass {
    /// What the translation of a packet with `received` gets.
    pub(super) fn of(self, received: u8) -> u8 {
        match self {
            Self::Copy => received,
            Self::Fixed(octet) => octet,
        }
    }
}

/// How many ICMP errors the translator may send (RFC 7915 sections 4.4 and 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpErrors {
    /// None.
    Off,
    /// So many a second in all, with a burst of as many; a tenth of it to one destination.
    PerSecond(u32),
}
