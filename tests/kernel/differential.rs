//! The same packets into xlatd and into TAYGA, and every difference between what comes out
//! explained.
//!
//! `DIFFERENTIAL` sets how many packets there are, 100,000 without it; they are the same each time.

use std::{
    collections::BTreeMap,
    env,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
            recv, sendto, setsockopt, socket,
            sockopt::{RcvBuf, ReceiveTimeout},
        },
        time::{TimeVal, TimeValLike},
    },
};

use crate::{
    harness::{Daemon, Netns, daemon, tayga, without_offload, xlatd_case},
    packet::{
        DESTINATION_OPTIONS, DF, EXPERIMENT, FRAGMENT, FragmentHeader, ICMP, ICMPV6, Ipv4, Ipv6,
        MF, TCP, UDP, pattern, sum, transport_sum,
    },
};

/// Hosts with maps: 10.0.0.N is 2001:db8:aaaa::N. There are few of them, and of those far away,
/// since all namespaces share the kernel's table of IPv6 neighbours, which has 1024 places.
const HOSTS: u8 = 40;
/// A prefix of 96 bits, and a server in it.
pub(crate) const PREFIX: (&str, &str) = ("2001:db8:64::", "198.51.100.250");
const OWN_V4: Ipv4Addr = Ipv4Addr::new(192, 168, 255, 1);
const OWN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// Numbers that look like chance, and are the same each time (xorshift64*).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// A translator with its device, in a namespace of its own.
pub(crate) struct Node {
    /// The server that each packet is followed by one to.
    probe: Ipv6Addr,
    v4: OwnedFd,
    v6: OwnedFd,
    capture: OwnedFd,
    sent: u64,
    _daemon: Daemon,
    _ns: Netns,
}

impl Node {
    /// The program under test, by which one packet in is one packet out.
    pub(crate) fn xlatd(prefix: (&str, &str), more: &str) -> Self {
        // Where the harness has not said so already.
        let offload = if without_offload() {
            ""
        } else {
            "offload no\n"
        };
        Self::start(&daemon(), prefix, &format!("{more}{offload}"))
    }

    /// `server` is an address in `prefix`, which has a length of 96.
    pub(crate) fn start(program: &Path, (prefix, server): (&str, &str), more: &str) -> Self {
        let ns = Netns::new().unwrap();
        // A packet and its probe are two flows, which two workers would take in any order.
        ns.ip("link set lo up
            tuntap add dev nat64 mode tun one_queue");
        ns.sysctl("ipv6/conf/nat64/addr_gen_mode", "1");
        let mut config = format!(
            "tun-device nat64\nipv4-addr {OWN_V4}\nipv6-addr {OWN_V6}\nprefix {prefix}/96\n{more}"
        );
        for host in 1..=HOSTS {
            config += &format!("map 10.0.0.{host} 2001:db8:aaaa::{host:x}\n");
        }
        let daemon = Daemon::start_program(program, &ns, &config);
        ns.ip("link set nat64 up
            route add default dev nat64
            route add ::/0 dev nat64");
        crate::harness::wait_for("the device", || ns.is_running("nat64").then_some(()));
        let [v4, v6] = [AddressFamily::Inet, AddressFamily::Inet6]
            .map(|family| ns.inside(|| open(family, SockType::Raw, SockProtocol::Raw)));
        let capture = ns.inside(|| {
            open(
                AddressFamily::Packet,
                SockType::Datagram,
                SockProtocol::EthAll,
            )
        });
        setsockopt(&capture, RcvBuf, &(4 << 20)).unwrap();
        setsockopt(&capture, ReceiveTimeout, &TimeVal::seconds(10)).unwrap();
        Self {
            probe: format!("{prefix}{server}").parse().unwrap(),
            v4,
            v6,
            capture,
            sent: 0,
            _daemon: daemon,
            _ns: ns,
        }
    }

    fn send(&self, octets: &[u8]) {
        let sent = if octets[0] >> 4 == 4 {
            let to: [u8; 4] = octets[16..20].try_into().unwrap();
            let to = SockaddrIn::from(SocketAddrV4::new(to.into(), 0));
            sendto(self.v4.as_raw_fd(), octets, &to, MsgFlags::empty())
        } else {
            let to: [u8; 16] = octets[24..40].try_into().unwrap();
            let to = SockaddrIn6::from(SocketAddrV6::new(to.into(), 0, 0, 0));
            sendto(self.v6.as_raw_fd(), octets, &to, MsgFlags::empty())
        };
        sent.unwrap_or_else(|error| panic!("{octets:02x?}: {error}"));
    }

    /// What comes out for a packet: all that does before what comes out for the next one, which
    /// always gets through.
    pub(crate) fn translate(&mut self, octets: &[u8]) -> Vec<Vec<u8>> {
        self.sent += 1;
        let mut next = Ipv6::new(
            "2001:db8:aaaa::1",
            &self.probe.to_string(),
            EXPERIMENT,
            vec![],
        );
        next.payload = self.sent.to_be_bytes().to_vec();
        self.send(octets);
        self.send(&next.octets());
        let mut all = Vec::new();
        let mut buffer = vec![0; 65536];
        loop {
            let len = match recv(self.capture.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(len) => len,
                // With a timeout it is not restarted (signal(7)).
                Err(Errno::EINTR) => continue,
                Err(error) => panic!("nothing after {octets:02x?}: {error}"),
            };
            let packet = &buffer[..len];
            if let Some(packet) = Ipv4::parse(packet)
                && packet.protocol == EXPERIMENT
                && packet.payload == next.payload
            {
                return all;
            }
            if packet != octets && packet != next.octets() {
                all.push(packet.to_vec());
            }
        }
    }
}

fn open(family: AddressFamily, kind: SockType, protocol: SockProtocol) -> OwnedFd {
    socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol).unwrap()
}

/// A packet that is well-formed, with everything in it that a network has seen.
fn packet(chance: &mut Chance) -> Vec<u8> {
    let v6 = chance.below(2) == 0;
    let packet = Shape::any(chance, v6, true);
    packet.octets
}

struct Shape {
    octets: Vec<u8>,
}

impl Shape {
    fn any(chance: &mut Chance, v6: bool, may_be_error: bool) -> Self {
        let mapped = |chance: &mut Chance| 1 + chance.below(HOSTS.into()) as u8;
        let far =
            |chance: &mut Chance| Ipv4Addr::new(198, 51, 100, 1 + chance.below(HOSTS.into()) as u8);
        let prefix = |address: Ipv4Addr| -> Ipv6Addr {
            (0x2001_0db8_0064_u128 << 80 | u128::from(address.to_bits())).into()
        };
        let host6 =
            |host: u8| -> Ipv6Addr { (0x2001_0db8_aaaa_u128 << 80 | u128::from(host)).into() };
        let host4 = |host: u8| Ipv4Addr::new(10, 0, 0, host);
        let own = chance.below(30) == 0;
        let stranger = chance.below(40) == 0;
        let hairpin = chance.below(40) == 0;
        let ttl = match chance.below(20) {
            0 => 1,
            1 => 2,
            _ => chance.one_of(&[3, 64, 128, 255]),
        };
        let tos = chance.one_of(&[0_u8, 0, 0, 0x10, 0xb8, 0x03]);
        let len = match chance.below(10) {
            0 => 0,
            1 => chance.below(8) as usize,
            2 => 1200 + chance.below(if v6 { 200 } else { 255 }) as usize,
            _ => chance.below(600) as usize,
        };
        let body = pattern(len);
        let protocol = chance.one_of(&[UDP, UDP, TCP, TCP, ICMP, ICMP, EXPERIMENT]);
        let (source6, destination6, source4, destination4) = if v6 {
            let source = if stranger {
                "2001:db8:9::9".parse().unwrap()
            } else {
                host6(mapped(chance))
            };
            let destination = match (own, hairpin) {
                (true, _) => OWN_V6,
                (_, true) => prefix(host4(mapped(chance))),
                _ => prefix(far(chance)),
            };
            (
                source,
                destination,
                Ipv4Addr::UNSPECIFIED,
                Ipv4Addr::UNSPECIFIED,
            )
        } else {
            let destination = match (own, stranger) {
                (true, _) => OWN_V4,
                (_, true) => Ipv4Addr::new(10, 0, 0, 254),
                _ => host4(mapped(chance)),
            };
            (
                Ipv6Addr::UNSPECIFIED,
                Ipv6Addr::UNSPECIFIED,
                far(chance),
                destination,
            )
        };
        let payload = if protocol == ICMP && may_be_error && chance.below(2) == 0 {
            // Of a packet the other way round.
            let mut quoted = Self::any(chance, v6, false).octets;
            if v6 {
                quoted[8..24].copy_from_slice(&destination6.octets());
                quoted[24..40].copy_from_slice(&source6.octets());
            } else {
                quoted[12..16].copy_from_slice(&destination4.octets());
                quoted[16..20].copy_from_slice(&source4.octets());
                quoted[10..12].fill(0);
                let header = usize::from(quoted[0] & 15) * 4;
                let checksum = !sum(&quoted[..header]);
                quoted[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            quoted.truncate(chance.one_of(&[60, 128, 548, 1232]));
            let (kind, code) = if v6 {
                chance.one_of(&[
                    (1, 0),
                    (1, 1),
                    (1, 4),
                    (2, 0),
                    (3, 0),
                    (3, 1),
                    (4, 0),
                    (4, 1),
                ])
            } else {
                chance.one_of(&[
                    (3, 0),
                    (3, 1),
                    (3, 2),
                    (3, 3),
                    (3, 4),
                    (3, 13),
                    (11, 0),
                    (11, 1),
                    (12, 0),
                ])
            };
            let rest = match (v6, kind, code) {
                (true, 2, _) => chance.one_of(&[[0, 0, 5, 0xdc], [0, 0, 5, 0]]),
                (false, 3, 4) => chance.one_of(&[[0, 0, 5, 0x78], [0, 0, 2, 0x40], [0; 4]]),
                (true, 4, _) => [0, 0, 0, chance.one_of(&[0, 4, 6, 7, 8, 24])],
                (false, 12, _) => [chance.one_of(&[0, 1, 2, 8, 9, 12, 16]), 0, 0, 0],
                _ => [0; 4],
            };
            [&[kind, code, 0, 0], &rest[..], &quoted].concat()
        } else {
            match protocol {
                UDP => {
                    let len = (body.len() + 8) as u16;
                    [&[0x30, 0x39, 0, 53], &len.to_be_bytes()[..], &[0, 0], &body].concat()
                }
                TCP => [
                    &[
                        0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0,
                    ],
                    &*body,
                ]
                .concat(),
                ICMP => {
                    let kind = match (v6, chance.below(2)) {
                        (true, 0) => 128,
                        (true, _) => 129,
                        (false, 0) => 8,
                        (false, _) => 0,
                    };
                    [&[kind, 0, 0, 0, 0x12, 0x34, 0, 1], &*body].concat()
                }
                _ => body,
            }
        };
        let mut payload = payload;
        let number = if v6 && protocol == ICMP {
            ICMPV6
        } else {
            protocol
        };
        let at = match protocol {
            UDP => Some(6),
            TCP => Some(16),
            ICMP => Some(2),
            _ => None,
        };
        if let Some(at) = at {
            let checksum = !if v6 {
                transport_sum(source6.into(), destination6.into(), number, &payload)
            } else if protocol == ICMP {
                sum(&payload)
            } else {
                transport_sum(source4.into(), destination4.into(), number, &payload)
            };
            let checksum = if checksum == 0 && protocol == UDP {
                0xffff
            } else {
                checksum
            };
            payload[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
            if protocol == UDP && !v6 && chance.below(20) == 0 {
                payload[6..8].fill(0);
            }
        }
        let fragmented = chance.below(12) == 0;
        let octets = if v6 {
            let mut packet = Ipv6 {
                source: source6,
                destination: destination6,
                traffic_class: tos,
                hop_limit: ttl,
                next_header: number,
                payload,
            };
            if fragmented {
                let offset = chance.one_of(&[0, 0, 8, 1232]);
                packet.payload.truncate(packet.payload.len() / 8 * 8);
                let header = FragmentHeader {
                    next_header: number,
                    offset,
                    more: chance.below(2) == 0,
                    identification: chance.one_of(&[7, 0x1234_5678]),
                };
                packet.payload = header.before(&packet.payload);
                packet.next_header = FRAGMENT;
            } else if chance.below(30) == 0 {
                packet.payload = [&[number, 0, 1, 4, 0, 0, 0, 0], &*packet.payload].concat();
                packet.next_header = DESTINATION_OPTIONS;
            }
            packet.octets()
        } else {
            let fragment = if fragmented {
                let offset = chance.one_of(&[0, 0, 1, 154]);
                offset | if chance.below(2) == 0 { MF } else { 0 }
            } else {
                chance.one_of(&[0, DF, DF])
            };
            if fragment & MF != 0 {
                payload.truncate(payload.len() / 8 * 8);
            }
            let options = if chance.below(40) == 0 {
                vec![1, 1, 1, 0]
            } else {
                vec![]
            };
            Ipv4 {
                source: source4,
                destination: destination4,
                tos,
                identification: 1 + chance.below(65535) as u16,
                fragment,
                ttl,
                protocol: number,
                options,
                payload,
            }
            .octets()
        };
        Self { octets }
    }
}

/// Each packet goes through both. What differs is explained by a rule that xlatd keeps and TAYGA
/// 0.9.2 does not.
#[test]
fn every_difference_has_its_reason() {
    xlatd_case(|_| {
        let Some(tayga) = tayga() else {
            return;
        };
        let count = env::var("DIFFERENTIAL").map_or(100_000, |count| count.parse().unwrap());
        let mut ours = Node::xlatd(PREFIX, "icmp-errors 1000000\n");
        let mut theirs = Node::start(&tayga, PREFIX, "");
        let mut chance = Chance(0x0123_4567_89ab_cdef);
        let mut classes: BTreeMap<&str, u32> = BTreeMap::new();
        let mut unexplained = Vec::new();
        for _ in 0..count {
            let octets = packet(&mut chance);
            let (a, b) = (ours.translate(&octets), theirs.translate(&octets));
            match explain(&octets, &a, &b) {
                Some(class) => *classes.entry(class).or_default() += 1,
                None => unexplained.push((octets, a, b)),
            }
        }
        for (class, count) in &classes {
            println!("{count:8} {class}");
        }
        for (octets, a, b) in unexplained.iter().take(5) {
            println!("in     {octets:02x?}\nxlatd  {a:02x?}\ntayga  {b:02x?}\n");
        }
        assert!(
            unexplained.is_empty(),
            "{} differences without a reason",
            unexplained.len()
        );
    });
}

/// Why they differ, if it is known: an RFC that xlatd keeps, or what tayga.conf(5) has under
/// CAVEATS.
fn explain(sent: &[u8], ours: &[Vec<u8>], theirs: &[Vec<u8>]) -> Option<&'static str> {
    if ours == theirs {
        return Some("the same");
    }
    let given = Read::of(sent);
    match (ours, theirs) {
        // Ours alone.
        ([one], []) if given.is_error() && Read::of(one).is_error() => Some(
            "an ICMP error that quotes little, a fragment or an echo, or points anywhere, is translated",
        ),
        ([_], []) if given.is_atomic_fragment() && given.protocol == ICMPV6 => {
            Some("ICMP in a fragment that is the whole is ICMP (RFC 6946 section 4)")
        }
        ([one], []) if given.v4 && given.at > 20 && !Read::of(one).v4 && one.len() > 1480 => Some(
            "IPv4 options, which are not translated, do not count for the size (RFC 7915 section 4.1)",
        ),
        ([_], []) if given.is_fragment() && given.at == sent.len() => {
            Some("a fragment that is empty is one all the same")
        }
        ([one], []) if Read::of(one).is_reply() && !given.is_error() => {
            Some("the end of an echo reply is told as that of a request (RFC 1812 section 4.3.2.7)")
        }
        // Theirs alone.
        ([], [one])
            if Read::of(one).is_reply()
                && !given.v4
                && given.octets[36..39] == [10, 0, 0]
                && given.at + 20 > sent.len() =>
        {
            Some("a TCP header that is cut goes nowhere, also between hosts with maps (RFC 5722)")
        }
        ([], [one]) if Read::of(one).is_reply() && given.is_udp_without_checksum() => {
            Some("UDP without a checksum goes nowhere (udp-cksum-mode drop), whatever its size")
        }
        ([], [one]) if Read::of(one).is_reply() && given.offset() != 0 => {
            Some("no error about a fragment but the first (RFC 1812 section 4.3.2.7)")
        }
        ([], [one]) if Read::of(one).is_reply() && given.is_error() => {
            Some("no error about an error (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e.1))")
        }
        // Hosts that reach each other, also by fragments.
        (_, [] | [_])
            if theirs.iter().all(|other| Read::of(other).is_reply())
                && !ours.is_empty()
                && ours.iter().all(|one| Read::of(one).hairpinned(&given)) =>
        {
            Some("hosts with maps reach each other by their IPv4 addresses (RFC 7757 section 4)")
        }
        ([one], [other])
            if given.v4 && !Read::of(one).v4 && Read::of(other).is_too_big() && given.at > 20 =>
        {
            Some(
                "IPv4 options, which are not translated, do not count for the size (RFC 7915 section 4.1)",
            )
        }
        ([one], [other])
            if one.get(40..42) == Some(&[1, 5])
                && other.get(40..42) == Some(&[1, 0])
                && Read::of(one).is_reply()
                && Read::of(other).is_reply() =>
        {
            Some("a source that is not mapped is one that failed a policy (RFC 7915 section 5.1)")
        }
        _ if ours.len() != theirs.len() => None,
        _ => {
            let pairs = || ours.iter().zip(theirs);
            if pairs()
                .all(|(one, other)| Read::of(one).hairpinned(&given) && Read::of(other).is_reply())
            {
                return Some(
                    "hosts with maps reach each other by their IPv4 addresses (RFC 7757 section 4)",
                );
            }
            if pairs().all(|(one, other)| given.pointer_at_next_header(one, other)) {
                return Some(
                    "the pointer is at the next header that is not known (RFC 4443 section 3.4)",
                );
            }
            if given.v4
                && given.is_error()
                && given.quotes_fragment()
                && pairs().all(|(one, other)| one.len() == (other.len() + 8).min(1280))
            {
                return Some(
                    "a quoted fragment is one after translation, too (RFC 7915 section 4.5)",
                );
            }
            let alike = |kept: fn(&mut [u8])| {
                pairs().all(|(one, other)| {
                    let [one, other] = [one, other].map(|packet| {
                        let mut packet = packet.clone();
                        kept(&mut packet);
                        packet
                    });
                    one == other
                })
            };
            let is_zero_checksum = |(one, other): (&Vec<u8>, &Vec<u8>)| {
                let differs = (0..one.len()).filter(|&at| one.get(at) != other.get(at));
                let differs: Vec<_> = differs.map(|at| (one[at], other.get(at))).collect();
                differs == [(0xff, Some(&0)); 2]
            };
            if pairs().all(is_zero_checksum) {
                Some("a UDP checksum that comes out as zero is sent as 0xffff (RFC 768)")
            } else if alike(without_identification) {
                Some("identifications are made up")
            } else if !given.v4 && alike(without_flags) {
                Some("DF is 0 up to 1260 octets (RFC 7915 section 5.1), also in what is quoted")
            } else if given.quotes_fragment_header() && alike(without_size) {
                Some(
                    "a size is 8 octets less for who sent a Fragment header (RFC 7915 section 5.2)",
                )
            } else {
                None
            }
        }
    }
}

/// A packet, as far as it is to be known here.
pub(crate) struct Read<'p> {
    octets: &'p [u8],
    v4: bool,
    /// Of what is behind the headers, and where it is.
    protocol: u8,
    at: usize,
}

impl<'p> Read<'p> {
    pub(crate) fn of(octets: &'p [u8]) -> Self {
        let v4 = octets[0] >> 4 == 4;
        let (mut protocol, mut at) = if v4 {
            (octets[9], usize::from(octets[0] & 15) * 4)
        } else {
            (octets[6], 40)
        };
        while !v4 && [FRAGMENT, DESTINATION_OPTIONS].contains(&protocol) && at + 8 <= octets.len() {
            protocol = octets[at];
            at += 8;
        }
        Self {
            octets,
            v4,
            protocol,
            at,
        }
    }

    /// In units of 8 octets.
    fn offset(&self) -> u16 {
        let word = |at: usize| u16::from_be_bytes([self.octets[at], self.octets[at + 1]]);
        match self.octets[6] {
            _ if self.v4 => word(6) & 0x1fff,
            FRAGMENT => word(42) >> 3,
            _ => 0,
        }
    }

    fn is_fragment(&self) -> bool {
        self.offset() != 0 || self.v4 && self.octets[6] & 0x20 != 0
    }

    fn is_atomic_fragment(&self) -> bool {
        !self.v4 && self.octets[6] == FRAGMENT && self.octets[42..44] == [0, 0]
    }

    pub(crate) fn is_error(&self) -> bool {
        let kind = self.octets.get(self.at);
        self.offset() == 0
            && kind.is_some_and(|kind| match self.protocol {
                ICMP if self.v4 => [3, 11, 12].contains(kind),
                ICMPV6 => *kind < 128,
                _ => false,
            })
    }

    /// Whether it is an error of the translator's own.
    pub(crate) fn is_reply(&self) -> bool {
        let own = if self.v4 {
            self.octets[12..16] == OWN_V4.octets()
        } else {
            self.octets[8..24] == OWN_V6.octets()
        };
        own && self.is_error()
    }

    /// Whether it is `given`, back in the family that it came from.
    fn hairpinned(&self, given: &Read) -> bool {
        !self.v4
            && !given.v4
            && self.octets[24..38] == given.octets[8..22]
            && self.octets[8..20] == given.octets[24..36]
    }

    fn pointer_at_next_header(&self, ours: &[u8], theirs: &[u8]) -> bool {
        let pointer =
            |packet: &[u8]| u32::from_be_bytes([packet[44], packet[45], packet[46], packet[47]]);
        let (one, other) = (Read::of(ours), Read::of(theirs));
        one.is_reply()
            && other.is_reply()
            && !self.v4
            && ours[40..42] == [4, 1]
            && theirs[40..42] == [4, 1]
            && pointer(ours) == (self.at - 8) as u32
            && pointer(theirs) == 6
    }

    fn is_too_big(&self) -> bool {
        self.is_reply() && self.v4 && self.octets[self.at..self.at + 2] == [3, 4]
    }

    fn is_udp_without_checksum(&self) -> bool {
        self.v4
            && self.protocol == UDP
            && self.octets.get(self.at + 6..self.at + 8) == Some(&[0, 0])
    }

    fn quotes_fragment_header(&self) -> bool {
        !self.v4 && self.is_error() && self.octets.get(self.at + 8 + 6) == Some(&FRAGMENT)
    }

    fn quotes_fragment(&self) -> bool {
        let quoted = &self.octets[self.at + 8..];
        quoted.len() >= 20 && Read::of(quoted).offset() != 0 || quoted[6] & 0x20 != 0
    }
}

/// The same, and the size that a packet was too big for.
fn without_size(packet: &mut [u8]) {
    without_flags(packet);
    let at = Read::of(packet).at;
    packet[at + 2..at + 4].fill(0);
    packet[at + 6..at + 8].fill(0);
}

/// IPv4 identifications, and the checksums that have them in.
fn without_identification(packet: &mut [u8]) {
    if packet[0] >> 4 == 4 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
}

/// The same, and flags, also of what is quoted.
fn without_flags(packet: &mut [u8]) {
    without_identification(packet);
    let read = Read::of(packet);
    if read.v4 {
        let at = read.at;
        let quoted = read
            .is_error()
            .then_some(at + 8)
            .filter(|at| at + 20 <= packet.len());
        packet[6] &= !0x40;
        if let Some(at) = quoted {
            packet[at + 4..at + 6].fill(0);
            packet[at + 6] &= !0x40;
            packet[at + 10..at + 12].fill(0);
        }
    }
}
