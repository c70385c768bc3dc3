//! What the properties are given: settings, maps with a plain search of their own, addresses,
//! packets.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use proptest::{collection::vec, option, prelude::*, sample::select};
use xlatd::{
    addr::{AddressMap, Eam, Nat64Prefix, Prefix4, Prefix6, Via},
    translate::{
        DropReason, IcmpErrors, Outcome, Packet, Reply, Settings, TrafficClass, Translator,
        UdpChecksum,
    },
};

use crate::plain::{self, AUTHENTICATION, Checked, DCCP, ICMP, ICMPV6, Ip, TCP, UDP, UDP_LITE};

/// A translator and all it was told.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) own_v4: Ipv4Addr,
    pub(crate) own_v6: Ipv6Addr,
    pub(crate) prefix: Option<Prefix6>,
    pub(crate) wkpf_strict: bool,
    pub(crate) eams: Vec<Eam>,
}

pub(crate) const OWN_V4: Ipv4Addr = Ipv4Addr::new(192, 168, 255, 1);
pub(crate) const OWN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
const WELL_KNOWN: u128 = 0x0064_ff9b << 96;

impl World {
    fn new(
        settings: Settings,
        prefix: Option<Prefix6>,
        wkpf_strict: bool,
        mut eams: Vec<Eam>,
    ) -> Self {
        // One of two with the same prefix on either side is refused.
        let mut kept: Vec<Eam> = Vec::new();
        eams.retain(|eam| {
            let is_new = kept
                .iter()
                .all(|other| other.v4() != eam.v4() && other.v6() != eam.v6());
            if is_new {
                kept.push(*eam);
            }
            is_new
        });
        Self {
            settings,
            own_v4: OWN_V4,
            own_v6: OWN_V6,
            prefix,
            wkpf_strict,
            eams,
        }
    }

    pub(crate) fn map(&self) -> AddressMap {
        let prefix = self.prefix.map(|prefix| Nat64Prefix::new(prefix).unwrap());
        let mut map = AddressMap::new(self.own_v4, self.own_v6, prefix, self.wkpf_strict);
        for eam in &self.eams {
            map.insert(*eam).unwrap();
        }
        map
    }

    pub(crate) fn node(&self, seed: u64) -> Node {
        Node {
            translator: Translator::new(self.settings.clone(), self.map(), seed),
            packet: Packet::new(),
            now: Instant::now(),
        }
    }

    pub(crate) fn own(&self, v6: bool) -> IpAddr {
        if v6 {
            self.own_v6.into()
        } else {
            self.own_v4.into()
        }
    }

    /// RFC 7757 section 3.3.1, bit by bit.
    pub(crate) fn explicit_v6(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        let covers = |eam: &&Eam| {
            let same = (address.to_bits() ^ eam.v4().address().to_bits()).leading_zeros();
            same >= u32::from(eam.v4().length())
        };
        let eam = self
            .eams
            .iter()
            .filter(covers)
            .max_by_key(|eam| eam.v4().length())?;
        let mut bits = eam.v6().address().to_bits();
        for (i, from) in (eam.v4().length()..32).enumerate() {
            let to = usize::from(eam.v6().length()) + i;
            let bit = address.to_bits() >> (31 - from) & 1;
            bits |= u128::from(bit) << (127 - to);
        }
        Some(Ipv6Addr::from_bits(bits))
    }

    /// RFC 7757 section 3.3.2, bit by bit.
    fn explicit_v4(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let covers = |eam: &&Eam| {
            let same = (address.to_bits() ^ eam.v6().address().to_bits()).leading_zeros();
            same >= u32::from(eam.v6().length())
        };
        let eam = self
            .eams
            .iter()
            .filter(covers)
            .max_by_key(|eam| eam.v6().length())?;
        let mut bits = eam.v4().address().to_bits();
        for (i, to) in (eam.v4().length()..32).enumerate() {
            let from = usize::from(eam.v6().length()) + i;
            let bit = address.to_bits() >> (127 - from) & 1;
            bits |= (bit as u32) << (31 - to);
        }
        Some(Ipv4Addr::from_bits(bits))
    }

    /// Where the octets of an IPv4 address are in the prefix (RFC 6052 section 2.2).
    fn places(prefix: Prefix6) -> [usize; 4] {
        match prefix.length() {
            32 => [4, 5, 6, 7],
            40 => [5, 6, 7, 9],
            48 => [6, 7, 9, 10],
            56 => [7, 9, 10, 11],
            64 => [9, 10, 11, 12],
            _ => [12, 13, 14, 15],
        }
    }

    /// `address` in the prefix, if `wkpf-strict` lets it.
    pub(crate) fn embed(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        let prefix = self.prefix?;
        let is_global =
            !is_private(address) && !address.is_link_local() && !plain::is_illegal(address.into());
        if self.is_strict() && !is_global {
            return None;
        }
        let mut octets = prefix.address().octets();
        for (place, octet) in Self::places(prefix).into_iter().zip(address.octets()) {
            octets[place] = octet;
        }
        Some(octets.into())
    }

    fn extract(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let prefix = self.prefix.filter(|prefix| prefix.contains(address))?;
        let octets = address.octets();
        let embedded = Ipv4Addr::from(Self::places(prefix).map(|place| octets[place]));
        let is_refused = if embedded.is_link_local() {
            let has_host = embedded == self.own_v4 || self.explicit_v6(embedded).is_some();
            self.is_strict() || !has_host
        } else {
            self.is_strict() && is_private(embedded)
        };
        (!is_refused).then_some(embedded)
    }

    fn is_strict(&self) -> bool {
        self.wkpf_strict
            && self
                .prefix
                .is_some_and(|prefix| prefix.address().to_bits() == WELL_KNOWN)
    }

    pub(crate) fn to_v6(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        if address == self.own_v4 {
            return Some(self.own_v6);
        }
        let legal = Some(address).filter(|&address| !plain::is_illegal(address.into()))?;
        let by_prefix = || self.embed(legal).filter(|_| !legal.is_link_local());
        let mapped = self.explicit_v6(legal).or_else(by_prefix)?;
        (!plain::is_illegal(mapped.into())).then_some(mapped)
    }

    pub(crate) fn to_v4(&self, address: Ipv6Addr) -> Option<(Ipv4Addr, Via)> {
        if address == self.own_v6 {
            return Some((self.own_v4, Via::Own));
        }
        let legal = Some(address).filter(|&address| !plain::is_illegal(address.into()))?;
        let mapped = match self.explicit_v4(legal) {
            Some(address) => (address, Via::Explicit),
            None => match self.extract(legal)? {
                own if own == self.own_v4 => (own, Via::Own),
                address => (address, Via::Prefix),
            },
        };
        (!plain::is_illegal(mapped.0.into())).then_some(mapped)
    }

    /// The address in the other family.
    pub(crate) fn across(&self, address: IpAddr) -> Option<IpAddr> {
        match address {
            IpAddr::V4(address) => self.to_v6(address).map(IpAddr::from),
            IpAddr::V6(address) => self.to_v4(address).map(|(address, _)| address.into()),
        }
    }

    /// The host behind an address in the prefix, where that host has an explicit mapping (RFC 7757
    /// section 4).
    pub(crate) fn hairpinned(&self, destination: IpAddr) -> Option<Ipv6Addr> {
        let IpAddr::V6(destination) = destination else {
            return None;
        };
        match self.to_v4(destination)? {
            (address, Via::Prefix) => self.explicit_v6(address),
            _ => None,
        }
    }

    /// What the peer of a hairpinned packet knows the other one by.
    pub(crate) fn by_prefix(&self, address: IpAddr) -> Option<IpAddr> {
        let IpAddr::V6(address) = address else {
            return None;
        };
        let (address, _) = self.to_v4(address)?;
        if address == self.own_v4 {
            Some(self.own_v6.into())
        } else {
            self.embed(address).map(IpAddr::from)
        }
    }
}

/// `wkpf-strict`, as its documentation lists it.
fn is_private(address: Ipv4Addr) -> bool {
    [
        ("10.0.0.0", 8),
        ("100.64.0.0", 10),
        ("172.16.0.0", 12),
        ("192.0.2.0", 24),
        ("192.168.0.0", 16),
        ("198.18.0.0", 15),
        ("198.51.100.0", 24),
        ("203.0.113.0", 24),
    ]
    .iter()
    .any(|(network, length)| {
        let network: Ipv4Addr = network.parse().unwrap();
        (network.to_bits() ^ address.to_bits()) >> (32 - length) == 0
    })
}

/// A translator at work.
pub(crate) struct Node {
    translator: Translator,
    packet: Packet,
    now: Instant,
}

/// An outcome with its octets.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Forward(Octets),
    Fragments(Vec<Octets>),
    Reply(Reply, Octets),
    /// With what is in the buffer then.
    Drop(DropReason, Octets),
}

impl Node {
    pub(crate) fn send(&mut self, octets: &[u8]) -> Answer {
        self.packet.replace(octets);
        enum Kind {
            Forward,
            Reply(Reply),
            Drop(DropReason),
        }
        let kind = match self.translator.translate(&mut self.packet, self.now) {
            Outcome::Fragments(mut fragments) => {
                let mut all = Vec::new();
                let mut fragment = Packet::new();
                while fragments.next(&mut fragment) {
                    all.push(Octets(fragment.bytes().to_vec()));
                }
                return Answer::Fragments(all);
            }
            Outcome::Forward => Kind::Forward,
            Outcome::Reply(reply) => Kind::Reply(reply),
            Outcome::Drop(reason) => Kind::Drop(reason),
            Outcome::Segments(_) => panic!("segments of a packet that is none of several"),
            Outcome::HandOver => panic!("handed over, and nobody else lends"),
        };
        let octets = Octets(self.packet.bytes().to_vec());
        match kind {
            Kind::Forward => Answer::Forward(octets),
            Kind::Reply(reply) => Answer::Reply(reply, octets),
            Kind::Drop(reason) => Answer::Drop(reason, octets),
        }
    }
}

impl Answer {
    /// The packets of one that was passed on.
    pub(crate) fn passed(self) -> Checked<Vec<Octets>> {
        match self {
            Self::Forward(octets) => Ok(vec![octets]),
            Self::Fragments(all) => Ok(all),
            other => {
                let text = format!("expected a translation, found {other:?}");
                Err(TestCaseError::fail(text))
            }
        }
    }

    /// The packet that was passed on, put together if it was cut.
    pub(crate) fn put_together(self) -> Checked<Ip> {
        let packets = self.passed()?;
        let pieces = packets.iter().map(|packet| plain::read_made(&packet.0));
        plain::reassemble(&pieces.collect::<Checked<Vec<_>>>()?)
    }
}

/// Octets that print as they are pasted into a test: in hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Octets(pub(crate) Vec<u8>);

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets ", self.0.len())?;
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    let mtu = || {
        prop_oneof![
            2 => Just(1280),
            2 => Just(1500),
            1 => 1280..1600_u16,
            1 => 1280..=u16::MAX,
            1 => Just(u16::MAX),
        ]
    };
    let octet = || {
        prop_oneof![
            2 => Just(TrafficClass::Copy),
            1 => any::<u8>().prop_map(TrafficClass::Fixed)
        ]
    };
    let udp_checksum = select(vec![
        UdpChecksum::Drop,
        UdpChecksum::Forward,
        UdpChecksum::Calculate,
    ]);
    let icmp_source = option::of(Just(Ipv4Addr::new(192, 0, 0, 8)));
    let icmp_node_id = any::<bool>();
    let errors = prop_oneof![
        7 => Just(IcmpErrors::PerSecond(1_000_000)),
        1 => Just(IcmpErrors::Off),
    ];
    (
        (mtu(), mtu()),
        udp_checksum,
        (octet(), octet()),
        any::<bool>(),
        (icmp_source, icmp_node_id),
        errors,
    )
        .prop_map(
            |(
                (mtu, offlink_mtu),
                udp_checksum,
                (traffic_class, tos),
                hairpin,
                (icmp_source, icmp_node_id),
                icmp_errors,
            )| Settings {
                mtu,
                offlink_mtu,
                udp_checksum,
                traffic_class,
                tos,
                hairpin,
                icmp_source,
                icmp_node_id,
                icmp_errors,
                sharers: 1,
            },
        )
}

/// Any prefix that addresses can be embedded in.
pub(crate) fn nat64_prefix() -> impl Strategy<Value = Prefix6> {
    let length = select(vec![32_u8, 40, 48, 56, 64, 96]);
    prop_oneof![
        1 => Just(prefix6(WELL_KNOWN, 96)),
        4 => (any::<u128>(), length).prop_map(|(bits, length)| prefix6(global(bits), length)),
    ]
}

/// Settings and maps of all kinds, overlapping and useless ones too.
pub(crate) fn worlds() -> impl Strategy<Value = World> {
    let eam = (
        (0..6_usize, any::<u32>(), 0..=32_u8),
        (0..5_usize, any::<u128>(), 0..=128_u8),
    );
    let prefix = option::weighted(0.8, nat64_prefix());
    (settings(), prefix, any::<bool>(), vec(eam, 0..5)).prop_map(
        |(settings, prefix, strict, eams)| {
            let eams = eams.into_iter().map(|(v4, v6)| {
                let bases4 = [
                    0x0a00_0000,
                    0xc000_0200,
                    0x0a01_0000,
                    0x0808_0000,
                    0xa9fe_0000,
                ];
                let v4 = (
                    bases4.get(v4.0).map_or(v4.1, |base| base | v4.1 >> 22),
                    v4.2,
                );
                let in_prefix = prefix.map_or(0, |prefix| prefix.address().to_bits());
                let bases6 = [global(0), global(1 << 64), in_prefix, global(v6.1)];
                let base6 = bases6.get(v6.0).map_or(v6.1, |base| base | v6.1 >> 100);
                // The IPv6 side leaves as many bits as the IPv4 side.
                let length6 = v6.2.min(96 + v4.1);
                Eam::new(prefix4(v4.0, v4.1), prefix6(base6, length6)).unwrap()
            });
            World::new(settings, prefix, strict, eams.collect())
        },
    )
}

/// Settings and maps that give every address but illegal ones a counterpart, and that one the
/// address again.
pub(crate) fn sane_worlds() -> impl Strategy<Value = World> {
    let lengths = (1..=32_u8, 1..=32_u8, 0..=128_u8, 0..=128_u8);
    (settings(), nat64_prefix(), lengths).prop_map(|(settings, prefix, (a4, b4, a6, b6))| {
        // Neither side of the two overlaps the other's, or the prefix.
        let (a4, b4) = (a4.max(16), b4.max(24));
        let base = |number: u128| {
            let bits = (0x3fff_u128 << 112) | number << 96;
            if prefix.contains(Ipv6Addr::from_bits(bits)) {
                bits ^ 1 << 125
            } else {
                bits
            }
        };
        let eams = vec![
            Eam::new(
                prefix4(0x0a01_0000, a4),
                prefix6(base(1), a6.clamp(32, 96 + a4)),
            ),
            Eam::new(
                prefix4(0xc633_6400, b4),
                prefix6(base(2), b6.clamp(32, 96 + b4)),
            ),
        ];
        let eams = eams.into_iter().map(Result::unwrap).collect();
        World::new(settings, Some(prefix), false, eams)
    })
}

pub(crate) fn prefix4(bits: u32, length: u8) -> Prefix4 {
    let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
    Prefix4::new(Ipv4Addr::from_bits(bits & mask), length).unwrap()
}

pub(crate) fn prefix6(bits: u128, length: u8) -> Prefix6 {
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    Prefix6::new(Ipv6Addr::from_bits(bits & mask), length).unwrap()
}

/// An address in 2000::/3.
pub(crate) fn global(bits: u128) -> u128 {
    bits >> 3 | 1 << 125
}

/// Which address to take in a world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pick {
    kind: u8,
    low: u32,
    bits: u128,
}

/// Any address; the more telling ones more often.
pub(crate) fn picks() -> impl Strategy<Value = Pick> {
    (0..12_u8, any::<u32>(), any::<u128>()).prop_map(|(kind, low, bits)| Pick { kind, low, bits })
}

/// An address that a sane world maps explicitly.
pub(crate) fn explicit_picks() -> impl Strategy<Value = Pick> {
    (0..4_u8, any::<u32>(), any::<u128>()).prop_map(|(kind, low, bits)| Pick { kind, low, bits })
}

/// An address that a sane world maps.
pub(crate) fn mapped_picks() -> impl Strategy<Value = Pick> {
    (0..6_u8, any::<u32>(), any::<u128>()).prop_map(|(kind, low, bits)| Pick { kind, low, bits })
}

impl Pick {
    pub(crate) fn v4(self, world: &World) -> Ipv4Addr {
        let eam = |index: usize| {
            let eam = world.eams.get(index % world.eams.len().max(1))?;
            let host = self.low & u32::MAX.checked_shr(eam.v4().length().into()).unwrap_or(0);
            Some(Ipv4Addr::from_bits(eam.v4().address().to_bits() | host))
        };
        match self.kind {
            0..=1 => eam(0).unwrap_or(Ipv4Addr::new(8, 8, 8, 8)),
            2..=3 => eam(1).unwrap_or(Ipv4Addr::new(8, 8, 4, 4)),
            // Public, as far as any list here goes.
            4..=5 => Ipv4Addr::from_bits(0x5000_0000 | self.low >> 4),
            6 if self.low.is_multiple_of(4) => Ipv4Addr::from_bits(0xa9fe_0000 | self.low >> 16),
            6 => world.own_v4,
            7 => eam(2).unwrap_or(Ipv4Addr::new(10, 0, 0, 1)),
            8 => [
                Ipv4Addr::UNSPECIFIED,
                Ipv4Addr::LOCALHOST,
                Ipv4Addr::BROADCAST,
                Ipv4Addr::new(224, 0, 0, 1),
            ][self.low as usize % 4],
            9 => Ipv4Addr::from_bits(0x0a00_0000 | self.low >> 8),
            _ => Ipv4Addr::from_bits(self.low),
        }
    }

    /// What [`v4`](Self::v4) is mapped to, mostly.
    pub(crate) fn v6(self, world: &World) -> Ipv6Addr {
        let embedded = || world.embed(self.v4(world));
        match self.kind {
            8 => [
                Ipv6Addr::UNSPECIFIED,
                Ipv6Addr::LOCALHOST,
                Ipv6Addr::from_bits(0xff02 << 112 | 1),
                Ipv6Addr::from_bits(0xfe80 << 112 | 1),
            ][self.low as usize % 4],
            // Also hosts with an explicit mapping, by way of the prefix; also with a suffix.
            7 | 9 => match world.prefix.filter(|_| self.low & 1 == 1) {
                Some(prefix) => {
                    let suffix = self.bits.checked_shr(prefix.length().into()).unwrap_or(0);
                    Ipv6Addr::from_bits(prefix.address().to_bits() | suffix)
                }
                None => {
                    let pick = Pick {
                        kind: self.low as u8 % 4,
                        ..self
                    };
                    world.embed(pick.v4(world)).unwrap_or(world.own_v6)
                }
            },
            10 => Ipv6Addr::from_bits(global(self.bits)),
            11 => Ipv6Addr::from_bits(self.bits),
            _ => world
                .to_v6(self.v4(world))
                .or_else(embedded)
                .unwrap_or(Ipv6Addr::from_bits(global(self.bits))),
        }
    }

    pub(crate) fn of(self, world: &World, v6: bool) -> IpAddr {
        if v6 {
            self.v6(world).into()
        } else {
            self.v4(world).into()
        }
    }
}

/// All of a packet but its addresses and its family.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// [`ICMP`] is ICMPv6 in IPv6: an echo message.
    pub(crate) protocol: u8,
    pub(crate) len: usize,
    /// What the payload is made of.
    pub(crate) seed: u32,
    /// Exclusive-ored with the right checksum.
    pub(crate) wrong_by: u16,
    pub(crate) without_checksum: bool,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) id: u32,
    pub(crate) dont_fragment: bool,
    /// IPv4: no operation, so many times; IPv6: that is the flow label.
    pub(crate) options: u8,
    /// IPv6: the extension headers.
    pub(crate) extension_headers: Vec<u8>,
}

/// Packets that any translator passes on where it maps the addresses; `max` octets of payload at
/// most.
pub(crate) fn contents(max: usize) -> impl Strategy<Value = Content> {
    let protocol = select(vec![
        TCP,
        UDP,
        UDP,
        UDP_LITE,
        DCCP,
        ICMP,
        132,
        50,
        AUTHENTICATION,
        253,
    ]);
    let len = prop_oneof![
        4 => 0..200_usize,
        2 => 1200..1600_usize,
        1 => 0..9000_usize,
        1 => 0..=65535_usize,
    ];
    let wrong_by = prop_oneof![3 => Just(0), 1 => any::<u16>()];
    let headers = prop_oneof![
        2 => Just(Vec::new()),
        1 => vec(select(vec![0, 43, 60]), 0..=4),
    ];
    (
        (protocol, len, any::<u32>()),
        (wrong_by, prop::bool::weighted(0.1)),
        (any::<u8>(), 3..=255_u8),
        (any::<u32>(), any::<bool>()),
        (0..=40_u8, headers),
    )
        .prop_map(
            move |(
                (protocol, len, seed),
                (wrong_by, without_checksum),
                (tos, ttl),
                (id, dont_fragment),
                (options, extension_headers),
            )| Content {
                protocol,
                len: len.min(max),
                seed,
                wrong_by,
                without_checksum: without_checksum && protocol == UDP,
                tos,
                ttl,
                id,
                dont_fragment,
                options,
                extension_headers,
            },
        )
}

/// A place in a datagram: where it starts, in octets, and whether more follows.
pub(crate) type Place = Option<(usize, bool)>;

impl Content {
    /// That of a packet with which nothing is wrong.
    pub(crate) fn plain() -> Self {
        Self {
            protocol: TCP,
            len: 20,
            seed: 1,
            wrong_by: 0,
            without_checksum: false,
            tos: 0,
            ttl: 64,
            id: 1,
            dont_fragment: true,
            options: 0,
            extension_headers: Vec::new(),
        }
    }

    /// The payload of a whole packet, checksum and all.
    pub(crate) fn payload(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let min = match self.protocol {
            TCP => 20,
            DCCP => 12,
            UDP | UDP_LITE | ICMP => 8,
            _ => 0,
        };
        let headers = if source.is_ipv6() {
            8 * (self.extension_headers.len() + 1)
        } else {
            20 + usize::from(self.options / 4) * 4
        };
        let len = self.len.max(min).min(65535 - headers);
        let mut payload = noise(len, self.seed);
        let len = payload.len();
        match self.protocol {
            UDP => payload[4..6].copy_from_slice(&(len as u16).to_be_bytes()),
            UDP_LITE => {
                let covered = if self.seed & 1 == 1 {
                    0
                } else {
                    8 + self.seed as usize % (len - 7)
                };
                payload[4..6].copy_from_slice(&(covered as u16).to_be_bytes());
            }
            DCCP => payload[4] = (3 + self.seed as usize % 20).min(len / 4) as u8,
            ICMP if source.is_ipv6() => payload[0] = 128 | (self.seed & 1) as u8,
            ICMP => payload[0] = [0, 8][self.seed as usize & 1],
            _ => {}
        }
        let protocol = self.protocol_in(source.is_ipv6());
        plain::seal(source, destination, protocol, &mut payload);
        if let Some(at) = plain::checksum_at(protocol) {
            let checksum = match plain::u16_at(&payload, at) ^ self.wrong_by {
                _ if self.without_checksum => 0,
                0 => 0xffff,
                other => other,
            };
            payload[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        payload
    }

    pub(crate) fn protocol_in(&self, v6: bool) -> u8 {
        match self.protocol {
            ICMP if v6 => ICMPV6,
            other => other,
        }
    }

    /// The whole packet.
    pub(crate) fn packet(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        self.around(
            source,
            destination,
            None,
            &self.payload(source, destination),
        )
    }

    /// A packet around this payload; no more than fits is taken.
    pub(crate) fn around(
        &self,
        source: IpAddr,
        destination: IpAddr,
        place: Place,
        payload: &[u8],
    ) -> Vec<u8> {
        let protocol = self.protocol_in(source.is_ipv6());
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header_len = 20 + usize::from(self.options / 4) * 4;
                let payload = &payload[..payload.len().min(65535 - header_len)];
                let mut octets = vec![1; header_len]; // no operation
                octets[0] = 0x40 | (header_len / 4) as u8;
                octets[1] = self.tos;
                let total_len = (header_len + payload.len()) as u16;
                octets[2..4].copy_from_slice(&total_len.to_be_bytes());
                octets[4..6].copy_from_slice(&(self.id as u16).to_be_bytes());
                let (offset, more) = place.unwrap_or((0, false));
                let flags = (offset / 8) as u16
                    | if more { 0x2000 } else { 0 }
                    | if self.dont_fragment { 0x4000 } else { 0 };
                octets[6..8].copy_from_slice(&flags.to_be_bytes());
                octets[8] = self.ttl;
                octets[9] = protocol;
                octets[12..16].copy_from_slice(&source.octets());
                octets[16..20].copy_from_slice(&destination.octets());
                plain::seal_v4_header(&mut octets);
                octets.extend_from_slice(payload);
                octets
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut kinds = self.extension_headers.clone();
                let mut headers = Vec::new();
                kinds.extend(place.map(|_| 44));
                kinds.push(protocol);
                for pair in kinds.windows(2) {
                    // No segments left, options of padding, no reserved bits.
                    let mut header = [pair[1], 0, 1, 0, 0, 0, 0, 0];
                    if let (44, Some((offset, more))) = (pair[0], place) {
                        let field = offset as u16 | u16::from(more);
                        header[2..4].copy_from_slice(&field.to_be_bytes());
                        header[4..8].copy_from_slice(&self.id.to_be_bytes());
                    }
                    headers.extend_from_slice(&header);
                }
                let payload = &payload[..payload.len().min(65535 - headers.len())];
                let mut octets = vec![0; 40];
                octets[0] = 0x60 | self.tos >> 4;
                octets[1] = self.tos << 4 | self.options & 15;
                octets[2..4].copy_from_slice(&(self.seed as u16).to_be_bytes());
                let payload_len = (headers.len() + payload.len()) as u16;
                octets[4..6].copy_from_slice(&payload_len.to_be_bytes());
                octets[6] = kinds[0];
                octets[7] = self.ttl;
                octets[8..24].copy_from_slice(&source.octets());
                octets[24..40].copy_from_slice(&destination.octets());
                octets.extend_from_slice(&headers);
                octets.extend_from_slice(payload);
                octets
            }
            _ => panic!("one family"),
        }
    }
}

/// Octets that look like no other part of themselves.
pub(crate) fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 8) as u8
        })
        .collect()
}
