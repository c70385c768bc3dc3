//! Bugs that translators have had: trusted lengths, answered floods, shifts by a whole word.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use xlatd::translate::{DropReason, IcmpErrors, Settings};

use super::{
    packets::{
        CLIENT4, CLIENT6, OWN4, OWN6, ROUTER4, SERVER4, SERVER6, fix_header_checksum,
        fix_icmp_checksum, payload, v4, v6,
    },
    rig::{Rig, Seen, default_map, map, rig, rig_of, rig_with},
    rows::rows,
};

rows! {
    sec_01 Derived "RFC 7915 4, 5" => every_length_is_checked,
    sec_02 Derived "RFC 7915" unproven
        "texts of interfaces and addresses have no fixed buffers that could overflow; names are \
         checked where the configuration is read",
    sec_03 Derived "RFC 4443 2.4 (f)" => no_amplification,
    sec_04 Derived "RFC 7757 3.3" => every_prefix_length,
    sec_05 Derived "RFC 1812 4.3.2.8" => errors_are_limited,
}

/// One good packet of every kind.
pub(crate) fn kinds() -> Vec<Vec<u8>> {
    let inner4 = v4().from(CLIENT4).to(SERVER4);
    let inner6 = v6().from(SERVER6).to(CLIENT6);
    let mut extended4 = inner4.clone().udp(&payload(100)).build();
    extended4.extend(super::rfc4884::extension(&[8, 16]));
    let mut extended6 = inner6.clone().udp(&payload(80)).build();
    extended6.extend(super::rfc4884::extension(&[8, 16]));
    let [first4, last4] = v4().udp(&payload(64)).cut(32, 7);
    let [first6, last6] = v6().udp(&payload(64)).cut(32, 7);
    let hairpinned = v6().from("2001:db8:64::c633:6414").to(CLIENT6);
    [
        v4().udp(&payload(16)),
        v4().tcp(&payload(16)),
        v4().dccp(&payload(16)),
        v4().udp_lite(&payload(16)),
        v4().echo_request(&payload(16)),
        v4().to(OWN4).echo_request(&payload(16)),
        v4().options(&[148, 4, 0, 0, 131, 7, 8, 1, 2, 3, 4])
            .udp(&payload(16)),
        first4,
        last4,
        v4().from(ROUTER4)
            .icmp(3, 1, [0; 4], &inner4.clone().tcp(b"load").build()),
        v4().from(ROUTER4)
            .icmp(3, 4, [0; 4], &inner4.clone().echo_reply(b"load").build()),
        v4().from(ROUTER4).icmp(11, 0, [0, 32, 0, 0], &extended4),
        v4().from(ROUTER4)
            .icmp(12, 0, [0; 4], &inner4.options(&[1; 8]).udp(b"load").build()),
        v6().udp(&payload(16)),
        v6().tcp(&payload(16)),
        v6().dccp(&payload(16)),
        v6().udp_lite(&payload(16)),
        v6().echo_request(&payload(16)),
        v6().to(OWN6).echo_request(&payload(16)),
        v6().to("2001:db8:64::c633:6414").udp(&payload(16)),
        v6().options_header(0).routing(0).udp(&payload(16)),
        first6,
        last6,
        v6().icmp(1, 1, [0; 4], &inner6.clone().tcp(b"load").build()),
        v6().icmp(
            2,
            0,
            [0, 0, 5, 0],
            &inner6.clone().options_header(60).udp(b"load").build(),
        ),
        v6().icmp(3, 0, [16, 0, 0, 0], &extended6),
        v6().icmp(
            4,
            0,
            [0, 0, 0, 7],
            &inner6.fragment(0, true, 7).raw(17, &[0; 8]).build(),
        ),
        v6().to("2001:db8:64::c633:6414")
            .icmp(1, 1, [0; 4], &hairpinned.udp(b"load").build()),
    ]
    .iter()
    .map(super::packets::Builder::build)
    .collect()
}

/// Makes the lengths in the IP header, and checksums over them, those of the octets that are there.
fn believe(octets: &mut [u8]) {
    let len = octets.len();
    if octets[0] >> 4 == 4 && len >= 20 {
        octets[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        if octets[9] == 1 && octets[0] == 0x45 && len >= 24 {
            fix_icmp_checksum(octets);
        }
        fix_header_checksum(octets);
    } else if octets[0] >> 4 == 6 && len >= 40 {
        octets[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        if octets[6] == 58 && len >= 44 {
            fix_icmp_checksum(octets);
        }
    }
}

/// A panic fails this row, and so does anything that comes out and is not a good packet (`rig`).
fn every_length_is_checked() {
    let mut rig = rig();
    for octets in kinds() {
        assert!(!rig.send_octets(&octets).is_silent(), "a good packet");
        for len in 0..octets.len() {
            // Less than the header says ...
            let seen = rig.send_octets(&octets[..len]);
            assert!(matches!(seen, Seen::Drop(DropReason::Malformed(_))));
            // ... and a header that says just so much.
            if len > 0 {
                let mut cut = octets[..len].to_vec();
                believe(&mut cut);
                rig.send_unverified(&cut);
            }
        }
        rig.advance(Duration::from_secs(1));
    }
}

fn no_amplification() {
    // Echo replies: a tenth of the limit to one host, and the limit to all.
    let replies = |from: &dyn Fn(u32) -> String, own: &str| {
        let mut rig = rig();
        let packet = |n| if own == OWN4 { v4() } else { v6() }.from(&from(n)).to(own);
        let seen = (0..3000)
            .filter(|&n| match rig.send(&packet(n).echo_request(b"x")) {
                Seen::Echo(_) => true,
                Seen::Drop(DropReason::EchoLimit) => false,
                other => panic!("{other:?}"),
            })
            .count();
        rig.advance(Duration::from_millis(100));
        rig.send(&packet(0).echo_request(b"x")).echo();
        seen
    };
    assert_eq!(replies(&|_| SERVER4.to_owned(), OWN4), 100);
    assert_eq!(replies(&|_| CLIENT6.to_owned(), OWN6), 100);
    assert_eq!(
        replies(&|n| Ipv4Addr::from(0x0b00_0000 + n).to_string(), OWN4),
        1000
    );
    assert_eq!(replies(&|n| format!("2001:db8:7::{n:x}"), OWN6), 1000);

    // Nothing is answered by much more than it is: its octets, and the headers around them.
    let mut rig = rig();
    for len in (0..1400).step_by(7) {
        let data = payload(len);
        for packet in [v4().hops(1).udp(&data), v6().hops(1).udp(&data)] {
            let octets = packet.build();
            if let Seen::Error(_, error) = rig.send_octets(&octets) {
                assert!(error.len <= octets.len() + 48);
            }
        }
        for packet in [
            v4().to(OWN4).echo_request(&data),
            v6().to(OWN6).echo_request(&data),
        ] {
            let octets = packet.build();
            if let Seen::Echo(reply) = rig.send_octets(&octets) {
                assert_eq!(reply.len, octets.len());
            }
        }
        rig.advance(Duration::from_millis(100));
    }
    // One packet in is never more than one out, unless it is cut; and replies call for none.
    let reply = v4().to(OWN4).echo_reply(b"x");
    assert!(rig.send(&reply).is_silent());
    assert!(rig.send(&v6().to(OWN6).echo_reply(b"x")).is_silent());
}

fn every_prefix_length() {
    let host4 = 0xc633_649d_u32; // 198.51.100.157
    let host6 = 0x2a01_0db8_1234_5678_9abc_def0_0fed_cba9_u128;
    let mask4 = |length: u32| u32::MAX.checked_shl(32 - length).unwrap_or(0);
    let mask6 = |length: u32| u128::MAX.checked_shl(128 - length).unwrap_or(0);
    for length4 in 0..=32u32 {
        // The shortest and the longest suffixes, and some between.
        for length6 in (0..=96 + length4)
            .filter(|length| length.is_multiple_of(5) || length % 8 == 7 || *length >= 90)
        {
            let network4 = Ipv4Addr::from(host4 & mask4(length4));
            let network6 = Ipv6Addr::from(host6 & mask6(length6));
            // Bit by bit: the suffix of one follows the prefix of the other.
            let mut expected6 = host6 & mask6(length6);
            for bit in length4..32 {
                if host4 >> (31 - bit) & 1 == 1 {
                    expected6 |= 1 << (127 - (length6 + bit - length4));
                }
            }
            let expected6 = Ipv6Addr::from(expected6);
            if expected6.segments()[0] < 0x100 || expected6.segments()[0] >= 0xfe80 {
                continue;
            }
            let map = map(
                Some(super::packets::PREFIX),
                &[
                    (
                        &format!("{network4}/{length4}"),
                        &format!("{network6}/{length6}"),
                    ),
                    ("198.18.0.1/32", "2001:db8:77::1/128"),
                ],
            );
            let mut rig = rig_with(Settings::default(), map);
            let host = Ipv4Addr::from(host4).to_string();
            let packet = rig.send(&v4().from("198.18.0.1").to(&host).udp(b"x"));
            let packet = packet.forwarded();
            let expected = expected6.to_string();
            assert_eq!(
                packet.addresses(),
                ("2001:db8:77::1".to_owned(), expected.clone()),
                "/{length4} to /{length6}"
            );
            let back = v6().from("2001:db8:77::1").to(&expected).udp(b"x");
            let packet = rig.send(&back).forwarded();
            assert_eq!(packet.addresses(), ("198.18.0.1".into(), host));
            // A neighbour that differs in the last bit of the prefix is not covered.
            if length4 > 0 {
                let neighbour = Ipv4Addr::from(host4 ^ 1 << (32 - length4));
                if ![0, 127].contains(&neighbour.octets()[0]) && neighbour.octets()[0] < 224 {
                    let packet = v4().from("198.18.0.1").to(&neighbour.to_string());
                    let packet = rig.send(&packet.udp(b"x")).forwarded();
                    assert!(packet.destination.to_string().starts_with("2001:db8:64::"));
                }
            }
        }
    }
}

/// How many errors one second of a flood calls for.
fn errors(rig: &mut Rig, count: u32, packet: impl Fn(u32) -> super::packets::Builder) -> usize {
    (0..count)
        .filter(|&n| match rig.send(&packet(n)) {
            Seen::Error(..) => true,
            Seen::Drop(_) => false,
            other => panic!("{other:?}"),
        })
        .count()
}

fn errors_are_limited() {
    let mut rig = rig_with(Settings::default(), default_map());
    let source = |n: u32| Ipv4Addr::from(0x0b00_0000 + n).to_string();
    let expired = |n| v4().from(&source(n)).hops(1).udp(b"x");
    let expired6 = |n: u32| v6().from(&format!("2001:db8:7::{n:x}")).hops(1).udp(b"x");
    let too_big = |n| v4().from(&source(n)).df().udp(&payload(1480));
    // Both families share what there is; size errors have a share of their own.
    assert_eq!(errors(&mut rig, 3000, expired), 1000);
    assert_eq!(errors(&mut rig, 100, expired6), 0);
    assert_eq!(errors(&mut rig, 3000, too_big), 1000);
    // So have echo replies.
    rig.send(&v4().to(OWN4).echo_request(b"x")).echo();
    for _ in 0..5 {
        rig.advance(Duration::from_millis(500));
        assert_eq!(errors(&mut rig, 3000, expired6), 500);
    }
    rig.advance(Duration::from_secs(3600));
    assert_eq!(
        errors(&mut rig, 3000, expired),
        1000,
        "no more than the burst"
    );
    // One host has a tenth.
    rig.advance(Duration::from_secs(1));
    assert_eq!(errors(&mut rig, 3000, |_| expired(1)), 100);
    assert_eq!(errors(&mut rig, 3000, |_| too_big(1)), 100);
    assert_eq!(errors(&mut rig, 3000, |n| expired(n + 2)), 900);
    let mut rig = rig_of(Settings {
        icmp_errors: IcmpErrors::PerSecond(20),
        ..Settings::default()
    });
    assert_eq!(errors(&mut rig, 100, expired), 20);
    assert_eq!(errors(&mut rig, 100, |_| too_big(1)), 2);
}
