//! Settings of a translator.

use std::net::Ipv4Addr;

/// The choices that RFC 7915 leaves to the administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// MTU of the TUN device, in octets, 1280 to 65535: that of the next hop in both families.
    pub mtu: u16,
    /// Largest IPv6 packet to be made of an IPv4 packet that may be fragmented (DF clear), in
    /// octets, 1280 to 65535 (`offlink-mtu`; "lowest-ipv6-mtu" of RFC 7915 section 4).
    pub offlink_mtu: u16,
    /// Treatment of UDP packets without a checksum (`udp-cksum-mode`).
    pub udp_checksum: UdpChecksum,
    /// Traffic Class of IPv6 packets made of IPv4 packets (`traffic-class`).
    pub traffic_class: TrafficClass,
    /// TOS of IPv4 packets made of IPv6 packets (`tos`).
    pub tos: TrafficClass,
    /// Whether IPv6 hosts with an explicit mapping reach each other through the prefix (`hairpin`;
    /// RFC 7757 section 4).
    pub hairpin: bool,
    /// IPv4 source of translated ICMPv6 errors whose own source has no mapping (`icmp-source`; RFC
    /// 6791). `None`: the translator's own address.
    pub icmp_source: Option<Ipv4Addr>,
    /// Whether translated ICMPv6 errors whose own source has no mapping name it in an extension
    /// (`icmp-node-id`; draft-ietf-v6ops-icmpext-xlat-v6only-source).
    pub icmp_node_id: bool,
    /// ICMP errors that the translator itself may send (`icmp-errors`).
    pub icmp_errors: IcmpErrors,
    /// The number of translators that share the limits of ICMP messages (`workers`).
    pub sharers: u32,
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
            icmp_node_id: true,
            icmp_errors: IcmpErrors::PerSecond(1000),
            sharers: 1,
        }
    }
}

/// Treatment of a UDP packet whose checksum field is zero (RFC 7915 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpChecksum {
    /// Drop it.
    Drop,
    /// Forward it without a checksum.
    Forward,
    /// Calculate the checksum, and drop first fragments: their checksum covers octets of other
    /// fragments.
    Calculate,
}

/// Source of the Traffic Class or TOS octet of a translated packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficClass {
    /// The packet.
    Copy,
    /// The configuration.
    Fixed(u8),
}

impl TrafficClass {
    /// The octet of the translation of a packet that came with `received`.
    pub(super) fn of(self, received: u8) -> u8 {
        match self {
            Self::Copy => received,
            Self::Fixed(octet) => octet,
        }
    }
}

/// Rate limit of the ICMP errors that the translator sends (RFC 7915 sections 4.4 and 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpErrors {
    /// No errors are sent.
    Off,
    /// Errors a second in all, with a burst of as many; a tenth of them to one destination.
    PerSecond(u32),
}
