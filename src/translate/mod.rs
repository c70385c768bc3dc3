//! One packet in, one decision out (RFC 7915).

use std::{fmt, net::Ipv4Addr, time::Instant};

use crate::addr::AddressMap;

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

/// How many ICMP errors the translator may send (RFC 7915 sections 4.4 and 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpErrors {
    /// None.
    Off,
    /// So many a second in all, with a burst of as many; a tenth of it to one destination.
    PerSecond(u32),
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// An IPv4 packet came in.
    FourToSix,
    /// An IPv6 packet came in.
    SixToFour,
}

/// Why a packet was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// Shorter than its headers say.
    Truncated,
}

impl DropReason {
    /// Every reason, in the order in which the counters are printed.
    pub const ALL: &[Self] = &[Self::Truncated];
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("shorter than its headers say")
    }
}

/// What a reply to the sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An echo reply from one of the translator's own addresses.
    Echo,
    /// An ICMP error: the packet was not passed on, for this reason.
    Error(DropReason),
}

/// What to do with a packet that was read from the TUN device.
#[derive(Debug)]
#[must_use]
pub enum Outcome<'p> {
    /// The packet now holds its translation: write it.
    Forward,
    /// It does not fit: write these, in order.
    Fragments(Fragments<'p>),
    /// The packet now holds an ICMP message to its sender: write it.
    Reply(Reply),
    /// Write nothing, and count why.
    Drop(DropReason),
}

/// One packet in one buffer, with headroom before it.
#[derive(Debug)]
pub struct Packet {
    storage: Vec<u8>,
    start: usize,
    end: usize,
}

impl Packet {
    /// A buffer for the largest packet there is.
    pub fn new() -> Self {
        Self {
            storage: vec![0; 66000],
            start: 256,
            end: 256,
        }
    }
    /// Where the next packet is to be read to; it is empty until [`received`](Self::received).
    pub fn space(&mut self) -> &mut [u8] {
        self.start = 256;
        self.end = 256;
        &mut self.storage[256..]
    }
    /// Says how many octets were read into [`space`](Self::space).
    pub fn received(&mut self, len: usize) {
        self.end = self.start + len;
    }
    /// The packet.
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }
}

/// The packets that one packet was cut into.
#[derive(Debug)]
pub struct Fragments<'p> {
    _packet: &'p mut Packet,
}

impl Fragments<'_> {
    /// The next packet to write, valid until the next call: its header lies where the previous one's payload was.
    #[allow(clippy::should_implement_trait, reason = "it lends")]
    pub fn next(&mut self) -> Option<&[u8]> {
        None
    }
}

/// Translates packets between IPv4 and IPv6.
#[derive(Debug)]
pub struct Translator {
    settings: Settings,
    map: AddressMap,
}

impl Translator {
    /// `seed` makes identifications and the limits' hash unpredictable; `now` starts the limits' clocks.
    pub fn new(settings: Settings, map: AddressMap, _seed: u64, _now: Instant) -> Self {
        Self { settings, map }
    }

    /// The device's MTU changed, in octets.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.settings.mtu = mtu;
    }

    /// Who is whom.
    pub fn map(&self) -> &AddressMap {
        &self.map
    }

    /// Translates one IP packet of either family in place (RFC 7915 sections 4 and 5).
    pub fn translate<'p>(&mut self, _packet: &'p mut Packet, _now: Instant) -> Outcome<'p> {
        Outcome::Drop(DropReason::Truncated)
    }
}
