//! Builds the packets that go in. Good ones, unless a row says otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checker::{
    DCCP, FRAGMENT, ICMP, ICMPV6, TCP, UDP, UDP_LITE, checksum_at, pseudo_header, sum,
};

/// An IPv6 host that has an explicit mapping: the client, `CLIENT4` to the IPv4 world.
pub(crate) const CLIENT6: &str = "2001:db8:2::10";
pub(crate) const CLIENT4: &str = "198.51.100.10";
/// Another one.
pub(crate) const PEER6: &str = "2001:db8:2::20";
pub(crate) const PEER4: &str = "198.51.100.20";
/// An IPv4 host: the server, `SERVER6` to the IPv6 world, by the prefix.
pub(crate) const SERVER4: &str = "203.0.113.9";
pub(crate) const SERVER6: &str = "2001:db8:64::cb00:7109";
/// Routers on either side; that of IPv6 has no mapping.
pub(crate) const ROUTER4: &str = "203.0.113.1";
pub(crate) const ROUTER4_AS_6: &str = "2001:db8:64::cb00:7101";
pub(crate) const ROUTER6: &str = "2001:db8:9::1";
/// The translator itself.
pub(crate) const OWN4: &str = "192.168.255.1";
pub(crate) const OWN6: &str = "2001:db8:1::1";
/// Within the prefix of `SERVER6` and others.
pub(crate) const PREFIX: &str = "2001:db8:64::/96";

/// A packet to build: by default IPv4 from the server to the client, or IPv6 from the client to the
/// server, with hop limit 64.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    version: u8,
    class: u8,
    hops: u8,
    id: u32,
    df: bool,
    more: bool,
    /// In octets.
    offset: usize,
    source: IpAddr,
    destination: IpAddr,
    options: Vec<u8>,
    /// Number and octets of each; the first octet, the next header, is filled in.
    extensions: Vec<(u8, Vec<u8>)>,
    flow_label: u32,
    protocol: u8,
    upper: Vec<u8>,
    /// What becomes of the checksum in the upper layer.
    checksum: Option<u16>,
    computed: bool,
}

pub(crate) fn v4() -> Builder {
    Builder {
        version: 4,
        class: 0,
        hops: 64,
        id: 0x1c46,
        df: false,
        more: false,
        offset: 0,
        source: SERVER4.parse().unwrap(),
        destination: CLIENT4.parse().unwrap(),
        options: Vec::new(),
        extensions: Vec::new(),
        flow_label: 0,
        protocol: 253,
        upper: Vec::new(),
        checksum: None,
        computed: false,
    }
}

pub(crate) fn v6() -> Builder {
    Builder {
        version: 6,
        flow_label: 0xabcde,
        source: CLIENT6.parse().unwrap(),
        destination: SERVER6.parse().unwrap(),
        ..v4()
    }
}

/// An address as it is written by all who follow RFC 5952.
pub(crate) fn canonical(address: &str) -> String {
    address.parse::<IpAddr>().unwrap().to_string()
}

/// `len` octets that differ from their neighbours.
pub(crate) fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 256 + 1) as u8).collect()
}

impl Builder {
    pub(crate) fn from(mut self, source: &str) -> Self {
        self.source = source.parse().unwrap();
        self
    }

    pub(crate) fn to(mut self, destination: &str) -> Self {
        self.destination = destination.parse().unwrap();
        self
    }

    /// TOS or Traffic Class.
    pub(crate) fn class(mut self, class: u8) -> Self {
        self.class = class;
        self
    }

    /// TTL or hop limit.
    pub(crate) fn hops(mut self, hops: u8) -> Self {
        self.hops = hops;
        self
    }

    pub(crate) fn df(mut self) -> Self {
        self.df = true;
        self
    }

    /// Identification of an IPv4 packet.
    pub(crate) fn id(mut self, id: u16) -> Self {
        self.id = id.into();
        self
    }

    /// A fragment; `offset` is in octets. IPv6 packets get a Fragment header as the last one.
    pub(crate) fn fragment(mut self, offset: usize, more: bool, id: u32) -> Self {
        assert!(offset.is_multiple_of(8));
        (self.offset, self.more, self.id) = (offset, more, id);
        if self.version == 6 {
            let field = (offset as u16 | u16::from(more)).to_be_bytes();
            let header = [&[0, 0], &field[..], &id.to_be_bytes()].concat();
            self.extensions.push((FRAGMENT, header));
        }
        self
    }

    /// IPv4 options, padded with "end of options".
    pub(crate) fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self.options.resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// An IPv6 extension header; its first octet is filled in.
    pub(crate) fn extension(mut self, number: u8, octets: &[u8]) -> Self {
        self.extensions.push((number, octets.to_vec()));
        self
    }

    /// A Hop-by-Hop (0) or Destination Options (60) header of 8 octets.
    pub(crate) fn options_header(self, number: u8) -> Self {
        self.extension(number, &[0, 0, 1, 4, 0, 0, 0, 0])
    }

    /// A Routing header with one address.
    pub(crate) fn routing(self, segments_left: u8) -> Self {
        let mut octets = [0; 24];
        octets[1] = 2;
        octets[3] = segments_left;
        self.extension(43, &octets)
    }

    pub(crate) fn udp(self, data: &[u8]) -> Self {
        let len = ((8 + data.len()) as u16).to_be_bytes();
        let header = [&[0x9c, 0x40, 0x00, 0x35][..], &len, &[0, 0]].concat();
        self.computed(UDP, [header, data.to_vec()].concat())
    }

    pub(crate) fn udp_lite(self, data: &[u8]) -> Self {
        let header = [0x9c, 0x40, 0x00, 0x35, 0, 0, 0, 0]; // coverage 0: all of it
        self.computed(UDP_LITE, [&header, data].concat())
    }

    pub(crate) fn dccp(self, data: &[u8]) -> Self {
        let header = [0x9c, 0x40, 0x00, 0x35, 3, 0, 0, 0, 0, 0, 0, 1];
        self.computed(DCCP, [&header, data].concat())
    }

    pub(crate) fn tcp(self, data: &[u8]) -> Self {
        let header = [
            0x9c, 0x40, 0x00, 0x50, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x18, 0x20, 0x00, 0, 0, 0, 0,
        ];
        self.computed(TCP, [&header, data].concat())
    }

    /// An ICMP message of the packet's family; `rest` are the four octets after the checksum.
    pub(crate) fn icmp(self, kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Self {
        let protocol = if self.version == 4 { ICMP } else { ICMPV6 };
        self.computed(protocol, [&[kind, code, 0, 0][..], &rest, body].concat())
    }

    pub(crate) fn echo_request(self, data: &[u8]) -> Self {
        let kind = if self.version == 4 { 8 } else { 128 };
        self.icmp(kind, 0, [0x12, 0x34, 0, 7], data)
    }

    pub(crate) fn echo_reply(self, data: &[u8]) -> Self {
        let kind = if self.version == 4 { 0 } else { 129 };
        self.icmp(kind, 0, [0x12, 0x34, 0, 7], data)
    }

    /// Any protocol, any octets.
    pub(crate) fn raw(mut self, protocol: u8, upper: &[u8]) -> Self {
        (self.protocol, self.upper) = (protocol, upper.to_vec());
        self.computed = false;
        self
    }

    /// This checksum, right or wrong.
    pub(crate) fn checksum(mut self, checksum: u16) -> Self {
        self.checksum = Some(checksum);
        self
    }

    fn computed(mut self, protocol: u8, upper: Vec<u8>) -> Self {
        (self.protocol, self.upper) = (protocol, upper);
        self.computed = true;
        self
    }

    /// The upper layer with its checksum.
    pub(crate) fn upper(&self) -> Vec<u8> {
        let mut upper = self.upper.clone();
        let Some(at) = checksum_at(self.protocol).filter(|_| self.computed) else {
            return upper;
        };
        let checksum = self.checksum.unwrap_or_else(|| {
            let mut covered = match self.protocol {
                ICMP => Vec::new(),
                protocol => pseudo_header(self.source, self.destination, protocol, upper.len()),
            };
            covered.extend(&upper);
            match !sum(&covered) {
                0 if self.protocol == UDP => 0xffff,
                checksum => checksum,
            }
        });
        upper[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        upper
    }

    /// The octets of the packet.
    pub(crate) fn build(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) if self.version == 4 => {
                self.build_v4(source, destination)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) if self.version == 6 => {
                self.build_v6(source, destination)
            }
            _ => panic!("an address of the other family"),
        }
    }

    /// The packet as two fragments; the second starts at octet `at` of the upper layer.
    pub(crate) fn cut(&self, at: usize, id: u32) -> [Self; 2] {
        let upper = self.upper();
        let part = |octets: &[u8], offset, more| {
            self.clone()
                .fragment(offset, more, id)
                .raw(self.protocol, octets)
        };
        [part(&upper[..at], 0, true), part(&upper[at..], at, false)]
    }

    fn build_v4(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let upper = self.upper();
        let header_len = 20 + self.options.len();
        let total_len = (header_len + upper.len()) as u16;
        let flags = (self.offset / 8) as u16
            | if self.df { 0x4000 } else { 0 }
            | if self.more { 0x2000 } else { 0 };
        let mut octets = vec![0x40 | (header_len / 4) as u8, self.class];
        octets.extend(total_len.to_be_bytes());
        octets.extend((self.id as u16).to_be_bytes());
        octets.extend(flags.to_be_bytes());
        octets.extend([self.hops, self.protocol, 0, 0]);
        octets.extend(source.octets());
        octets.extend(destination.octets());
        octets.extend(&self.options);
        octets.extend(upper);
        fix_header_checksum(&mut octets);
        octets
    }

    fn build_v6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let mut behind = self.upper();
        let mut next = self.protocol;
        for (number, extension) in self.extensions.iter().rev() {
            let mut extension = extension.clone();
            extension[0] = next;
            next = *number;
            extension.extend(behind);
            behind = extension;
        }
        let first = 0x6000_0000 | u32::from(self.class) << 20 | self.flow_label;
        let mut octets = first.to_be_bytes().to_vec();
        octets.extend((behind.len() as u16).to_be_bytes());
        octets.extend([next, self.hops]);
        octets.extend(source.octets());
        octets.extend(destination.octets());
        octets.extend(behind);
        octets
    }
}

/// Makes the header checksum of an IPv4 packet right, if it has its whole header.
pub(crate) fn fix_header_checksum(octets: &mut [u8]) {
    let header_len = usize::from(octets[0] & 0x0f) * 4;
    if (20..=octets.len()).contains(&header_len) {
        octets[10..12].fill(0);
        let checksum = !sum(&octets[..header_len]);
        octets[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Makes the checksum of the ICMP message in a packet without options or extension headers right.
pub(crate) fn fix_icmp_checksum(octets: &mut [u8]) {
    let (at, mut covered) = if octets[0] >> 4 == 4 {
        (20, Vec::new())
    } else {
        let address = |at: usize| -> [u8; 16] { octets[at..at + 16].try_into().unwrap() };
        let (source, destination) = (Ipv6Addr::from(address(8)), Ipv6Addr::from(address(24)));
        let len = octets.len() - 40;
        (
            40,
            pseudo_header(source.into(), destination.into(), ICMPV6, len),
        )
    };
    octets[at + 2..at + 4].fill(0);
    covered.extend(&octets[at..]);
    let checksum = !sum(&covered);
    octets[at + 2..at + 4].copy_from_slice(&checksum.to_be_bytes());
}
