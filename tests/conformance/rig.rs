//! A translator, and everything that must hold for whatever it does.

use std::time::{Duration, Instant};

use xlatd::{
    addr::{AddressMap, Eam, Nat64Prefix},
    translate::{DropReason, Outcome, Packet, Reply, Settings, Translator},
};

use super::{
    checker::{self, ICMP, ICMPV6, Ip, Verdict},
    packets::{Builder, CLIENT4, CLIENT6, OWN4, OWN6, PEER4, PEER6, PREFIX},
};

/// What came out; everything that is a packet has been verified.
#[derive(Debug)]
pub(crate) enum Seen {
    Forward(Ip),
    Fragments(Vec<Ip>),
    Echo(Ip),
    Error(DropReason, Ip),
    Drop(DropReason),
}

/// A translator with its settings and a clock that is set by hand.
pub(crate) struct Rig {
    settings: Settings,
    translator: Translator,
    packet: Packet,
    now: Instant,
    /// What transport checksums of forwarded packets are expected to be.
    expected: Verdict,
}

/// The settings of most rows: the defaults.
pub(crate) fn rig() -> Rig {
    rig_with(Settings::default(), default_map())
}

pub(crate) fn rig_of(settings: Settings) -> Rig {
    rig_with(settings, default_map())
}

pub(crate) fn rig_with(settings: Settings, map: AddressMap) -> Rig {
    rig_seeded(settings, map, 1)
}

pub(crate) fn rig_seeded(settings: Settings, map: AddressMap, seed: u64) -> Rig {
    let now = Instant::now();
    Rig {
        translator: Translator::new(settings.clone(), map, seed),
        settings,
        packet: Packet::new(),
        now,
        expected: Verdict::Right,
    }
}

/// A translator that only has its own addresses and these; `wkpf-strict` is on.
pub(crate) fn map(prefix: Option<&str>, eams: &[(&str, &str)]) -> AddressMap {
    map_with_strict(prefix, eams, true)
}

pub(crate) fn map_with_strict(
    prefix: Option<&str>,
    eams: &[(&str, &str)],
    wkpf_strict: bool,
) -> AddressMap {
    let prefix = prefix.map(|prefix| Nat64Prefix::new(prefix.parse().unwrap()).unwrap());
    let (own_v4, own_v6) = (OWN4.parse().unwrap(), OWN6.parse().unwrap());
    let mut map = AddressMap::new(own_v4, own_v6, prefix, wkpf_strict);
    for (v4, v6) in eams {
        map.insert(Eam::new(v4.parse().unwrap(), v6.parse().unwrap()).unwrap())
            .unwrap();
    }
    map
}

/// The hosts of `packets`.
pub(crate) fn default_map() -> AddressMap {
    map(Some(PREFIX), &[(CLIENT4, CLIENT6), (PEER4, PEER6)])
}

impl Rig {
    /// From here on, forwarded packets are expected to have such transport checksums.
    pub(crate) fn expecting(mut self, verdict: Verdict) -> Self {
        self.expected = verdict;
        self
    }

    pub(crate) fn advance(&mut self, time: Duration) {
        self.now += time;
    }

    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.settings.mtu = mtu;
        self.translator.set_mtu(mtu);
    }

    /// As if the next hop of IPv6 packets did not answer.
    pub(crate) fn set_unreachable(&mut self) {
        self.translator.set_unreachable(true);
    }

    /// As if the device had an MTU of 576: that counts as 1280.
    pub(crate) fn set_mtu_below_minimum(&mut self) {
        self.settings.mtu = 1280;
        self.translator.set_mtu(576);
    }

    /// Sends octets in, and checks only that well-formed packets come out.
    pub(crate) fn send_unverified(&mut self, octets: &[u8]) {
        self.packet.replace(octets);
        match self.translator.translate(&mut self.packet, self.now) {
            Outcome::Forward | Outcome::Reply(_) => {
                checker::parse(self.packet.bytes());
            }
            Outcome::Fragments(mut fragments) => {
                let mut fragment = Packet::new();
                while fragments.next(&mut fragment) {
                    checker::parse(fragment.bytes());
                }
            }
            Outcome::Drop(_) => {}
            Outcome::Segments(_) => panic!("segments of a packet that is none of several"),
            Outcome::HandOver => panic!("handed over, and nobody else lends"),
        }
    }

    /// Sends a packet in and verifies what comes out.
    pub(crate) fn send(&mut self, packet: &Builder) -> Seen {
        self.send_octets(&packet.build())
    }

    pub(crate) fn send_octets(&mut self, octets: &[u8]) -> Seen {
        self.packet.replace(octets);
        let (reply, fragments) = match self.translator.translate(&mut self.packet, self.now) {
            Outcome::Forward => (None, None),
            Outcome::Reply(reply) => (Some(reply), None),
            Outcome::Drop(reason) => {
                // What was dropped on its way back, by hairpinning, is an IPv4 packet by then.
                let version = |octets: &[u8]| octets.first().map(|first| first >> 4);
                if version(self.packet.bytes()) == version(octets) {
                    assert_eq!(self.packet.bytes(), octets, "what is dropped is as it was");
                }
                return Seen::Drop(reason);
            }
            Outcome::Fragments(mut fragments) => {
                let mut packets = Vec::new();
                let mut fragment = Packet::new();
                while fragments.next(&mut fragment) {
                    packets.push(fragment.bytes().to_vec());
                }
                assert!(!fragments.next(&mut fragment), "the end is the end");
                (None, Some(packets))
            }
            Outcome::Segments(_) => panic!("segments of a packet that is none of several"),
            Outcome::HandOver => panic!("handed over, and nobody else lends"),
        };
        if let Some(fragments) = fragments {
            return Seen::Fragments(self.verify_fragments(octets, &fragments));
        }
        let emitted = checker::parse(self.packet.bytes());
        match reply {
            None => {
                self.verify_forwarded(octets, &emitted);
                Seen::Forward(emitted)
            }
            Some(Reply::Echo) => {
                verify_echo(octets, &emitted);
                Seen::Echo(emitted)
            }
            Some(Reply::Error(reason)) => {
                verify_error(octets, &emitted);
                Seen::Error(reason, emitted)
            }
        }
    }

    fn verify_forwarded(&self, input: &[u8], emitted: &Ip) {
        assert!(
            emitted.len <= usize::from(self.settings.mtu),
            "{} octets, over the MTU",
            emitted.len
        );
        // Errors too (rows x64_03 and x64_04). An atomic fragment has an identification of its own.
        if emitted.version == 4 && !emitted.is_fragment() && !checker::has_fragment_header(input) {
            assert_eq!(
                emitted.df,
                emitted.len > 1260,
                "DF of {} octets",
                emitted.len
            );
            assert!(emitted.df || emitted.id != 0, "no identification");
        }
        if emitted.is_icmp_error() {
            assert_eq!(
                emitted.verdict(),
                Verdict::Right,
                "checksum of an ICMP error"
            );
            let limit = if emitted.version == 4 { 576 } else { 1280 };
            assert!(emitted.len <= limit, "ICMP error of {} octets", emitted.len);
            return;
        }
        if !emitted.is_fragment() {
            let verdict = emitted.verdict();
            assert!(
                verdict == Verdict::Unknown || verdict == self.expected,
                "transport checksum is {verdict:?}"
            );
        }
        verify_payload(input, emitted);
    }

    fn verify_fragments(&self, input: &[u8], octets: &[Vec<u8>]) -> Vec<Ip> {
        assert!(octets.len() > 1, "a single fragment");
        let fragments: Vec<Ip> = octets.iter().map(|octets| checker::parse(octets)).collect();
        for fragment in &fragments {
            assert!(
                fragment.len <= usize::from(self.settings.mtu),
                "a fragment of {} octets, over the MTU",
                fragment.len
            );
            assert!(fragment.is_fragment());
        }
        let whole = checker::reassemble(&fragments);
        if !whole.is_fragment() {
            let verdict = whole.verdict();
            assert!(
                verdict == Verdict::Unknown || verdict == self.expected,
                "transport checksum is {verdict:?}"
            );
        }
        verify_payload(input, &whole);
        fragments
    }
}

/// What the rows expect, with what was seen instead.
impl Seen {
    #[track_caller]
    pub(crate) fn forwarded(self) -> Ip {
        match self {
            Self::Forward(packet) => packet,
            other => panic!("expected one packet, found {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn fragments(self) -> Vec<Ip> {
        match self {
            Self::Fragments(packets) => packets,
            other => panic!("expected fragments, found {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn echo(self) -> Ip {
        match self {
            Self::Echo(packet) => packet,
            other => panic!("expected an echo reply, found {other:?}"),
        }
    }

    /// The translator's own ICMP error with its reason, type and code.
    #[track_caller]
    pub(crate) fn error(self, reason: DropReason, kind: u8, code: u8) -> Ip {
        match self {
            Self::Error(found, packet) => {
                let icmp = packet.icmp();
                assert_eq!(
                    (found, icmp.kind, icmp.code),
                    (reason, kind, code),
                    "reason, type and code of the error"
                );
                packet
            }
            other => panic!("expected ICMP error {kind}/{code}, found {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn dropped(self, reason: DropReason) {
        match self {
            Self::Drop(found) => assert_eq!(found, reason, "why it was dropped"),
            other => panic!("expected silence, found {other:?}"),
        }
    }

    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Drop(_))
    }
}

/// The payload is that of the input, but for the checksum field and the ICMP type.
fn verify_payload(input: &[u8], emitted: &Ip) {
    let (protocol, expected) = checker::upper_layer(input);
    let expected_protocol = match (input[0] >> 4, emitted.version, protocol) {
        (4, 6, ICMP) => ICMPV6,
        (6, 4, ICMPV6) => ICMP,
        (_, _, other) => other,
    };
    assert_eq!(emitted.protocol, expected_protocol, "protocol");
    let mask = |octets: &[u8]| -> Vec<u8> {
        let mut octets = octets.to_vec();
        if emitted.offset != 0 {
            return octets;
        }
        if let Some(at) = checker::checksum_at(protocol) {
            for octet in octets.iter_mut().skip(at).take(2) {
                *octet = 0;
            }
            if matches!(protocol, ICMP | ICMPV6) {
                octets[0] = 0;
            }
        }
        octets
    };
    assert_eq!(mask(&emitted.upper), mask(&expected), "payload");
}

/// Of the same family as the request, back to its sender, with its data.
fn verify_echo(input: &[u8], emitted: &Ip) {
    assert_eq!(input[0] >> 4, emitted.version, "family of an echo reply");
    assert_eq!(
        emitted.verdict(),
        Verdict::Right,
        "checksum of an echo reply"
    );
    let icmp = emitted.icmp();
    assert!(icmp.is(if emitted.version == 4 { 0 } else { 129 }, 0));
    let (_, upper) = checker::upper_layer(input);
    assert_eq!(emitted.upper[4..], upper[4..], "data of an echo reply");
    let (destination, source) = addresses(input);
    assert_eq!(emitted.addresses(), (source, destination));
    assert_eq!(emitted.hops, 64);
    assert!(!emitted.is_fragment() && !emitted.df);
}

/// Of the family of the packet that it is about, from the translator to its sender, quoting all
/// that may be quoted (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 (c)).
fn verify_error(input: &[u8], emitted: &Ip) {
    assert_eq!(input[0] >> 4, emitted.version, "family of an ICMP error");
    assert_eq!(
        emitted.verdict(),
        Verdict::Right,
        "checksum of an ICMP error"
    );
    assert!(emitted.is_icmp_error());
    let (own, room) = match emitted.version {
        4 => (OWN4, 576 - 28),
        _ => (OWN6, 1280 - 48),
    };
    let icmp = emitted.icmp();
    assert_eq!(
        icmp.body,
        input[..declared_len(input).min(room)],
        "the packet that an error quotes"
    );
    assert_eq!(emitted.addresses(), (own.to_owned(), addresses(input).0));
    assert_eq!(emitted.hops, 64);
    assert!(!emitted.is_fragment() && !emitted.df);
}

/// Length of a good packet without link padding, in octets.
fn declared_len(octets: &[u8]) -> usize {
    let number = |at: usize| usize::from(octets[at]) << 8 | usize::from(octets[at + 1]);
    match octets[0] >> 4 {
        4 => number(2),
        _ => 40 + number(4),
    }
}

/// Source and destination of a good packet, as text.
fn addresses(octets: &[u8]) -> (String, String) {
    use std::net::{Ipv4Addr, Ipv6Addr};
    let v4 = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&octets[at..at + 4]).unwrap());
    let v6 = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&octets[at..at + 16]).unwrap());
    match octets[0] >> 4 {
        4 => (v4(12).to_string(), v4(16).to_string()),
        _ => (v6(8).to_string(), v6(24).to_string()),
    }
}
