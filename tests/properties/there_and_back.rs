//! There by one translator and back by its mirror: the packet again, but for what routers change
//! and what the other family cannot say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::{prelude::*, sample::select};
use xlatd::{
    addr::Eam,
    translate::{DropReason, Reply, Settings, TrafficClass, UdpChecksum},
};

use crate::{
    cases,
    checksums::{is_too_big, is_too_big_answer},
    given::{
        Answer, Content, OWN_V4, OWN_V6, Octets, World, contents, explicit_picks, global,
        mapped_picks, prefix4, prefix6, sane_worlds,
    },
    judge,
    plain::{self, AUTHENTICATION, Checked, ICMP, Ip},
};

/// Both translators copy what can be copied.
fn copying(world: World) -> World {
    let settings = Settings {
        tos: TrafficClass::Copy,
        traffic_class: TrafficClass::Copy,
        udp_checksum: UdpChecksum::Forward,
        ..world.settings
    };
    World { settings, ..world }
}

/// What comes back, put together; `None` if it is too big on either way, or ICMP or AH that was
/// fragmented on the way there, which cannot come back.
fn there_and_back(world: &World, packet: &[u8]) -> Checked<Option<Ip>> {
    let given = plain::read(packet).unwrap();
    let there = judge::send(world, &mut world.node(1), packet)?;
    if is_too_big(world, &given) {
        prop_assert!(is_too_big_answer(&there), "{there:?}");
        return Ok(None);
    }
    let mut mirror = world.node(2);
    let mut back = Vec::new();
    for Octets(octets) in there.passed()? {
        let sent = plain::read_made(&octets)?;
        let answer = judge::send(world, &mut mirror, &octets)?;
        if is_too_big(world, &sent) {
            prop_assert!(is_too_big_answer(&answer), "{answer:?}");
            return Ok(None);
        }
        if sent.is_fragment() && (sent.is_icmp() || sent.is_v6() && sent.protocol == AUTHENTICATION)
        {
            // G-08, X64-11
            prop_assert!(!matches!(answer, Answer::Forward(_) | Answer::Fragments(_)));
            return Ok(None);
        }
        for packet in answer.passed()? {
            back.push(plain::read_made(&packet.0)?);
        }
    }
    plain::reassemble(&back).map(Some)
}

/// The payload with a checksum of all ones as zero, which is the same number.
fn payload(ip: &Ip) -> Vec<u8> {
    let mut payload = ip.payload.clone();
    if let Some(at) = plain::checksum_at(ip.protocol).filter(|_| ip.offset == 0)
        && plain::u16_at(&payload, at) == 0xffff
    {
        payload[at..at + 2].fill(0);
    }
    payload
}

fn check(given: &Ip, back: &Ip) -> Checked<()> {
    prop_assert_eq!(
        (back.source, back.destination),
        (given.source, given.destination)
    );
    prop_assert_eq!((back.tos, back.protocol), (given.tos, given.protocol));
    prop_assert_eq!(back.ttl, given.ttl - 2);
    prop_assert_eq!((back.offset, back.more), (given.offset, given.more));
    prop_assert!(payload(back) == payload(given), "payload");
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    /// X46-01 to X46-16 and X64-01 to X64-12, one against the other.
    #[test]
    fn from_ipv4(
        world in sane_worlds(),
        content in contents(20_000),
        place in place(),
        (source, destination) in (mapped_picks(), mapped_picks()),
    ) {
        let world = copying(world);
        let (source, destination) = (source.v4(&world).into(), destination.v4(&world).into());
        let packet = piece(&content, source, destination, place);
        let given = plain::read(&packet).unwrap();
        if let Some(back) = there_and_back(&world, &packet)? {
            check(&given, &back)?;
            let was_cut = given.is_fragment() || {
                let limit = world.settings.mtu.min(world.settings.offlink_mtu);
                !given.dont_fragment && 40 + given.stated_len > limit.into()
            };
            if was_cut {
                prop_assert_eq!((back.id, back.dont_fragment), (given.id, false));
            } else {
                prop_assert_eq!(back.dont_fragment, back.total_len() > 1260);
            }
        }
    }

    /// The same from the other side: flow label and extension headers are gone, of an
    /// identification the low half is left.
    #[test]
    fn from_ipv6(
        world in sane_worlds(),
        content in contents(20_000),
        place in place(),
        (source, destination) in (mapped_picks(), mapped_picks()),
    ) {
        let world = copying(world);
        let (source, destination) = (source.v6(&world).into(), destination.v6(&world).into());
        let place = place.filter(|_| content.protocol != AUTHENTICATION); // X64-11
        let packet = piece(&content, source, destination, place);
        let given = plain::read(&packet).unwrap();
        if let Some(back) = there_and_back(&world, &packet)? {
            check(&given, &back)?;
            prop_assert_eq!(back.flow_label, 0);
            if given.is_fragment() {
                prop_assert_eq!(back.id, given.id & 0xffff);
            }
        }
    }

    /// EAM-06, EAM-08: hosts with explicit mappings know each other by the prefix; what one sends
    /// to the other comes from where the other can answer to, a hop is counted once, and the answer
    /// comes from whom was asked.
    #[test]
    fn by_hairpin(
        world in sane_worlds(),
        content in contents(1200),
        (source, destination) in (explicit_picks(), explicit_picks()),
    ) {
        let mut world = copying(world);
        world.settings.hairpin = true;
        let (peer, host) = (destination.v4(&world), source.v6(&world));
        let packet = content.packet(host.into(), world.embed(peer).unwrap().into());
        let mut node = world.node(1);
        let given = plain::read(&packet).unwrap();
        let there = judge::send(&world, &mut node, &packet)?.put_together()?;
        prop_assert_eq!(there.destination, IpAddr::from(destination.v6(&world)));
        prop_assert_eq!((there.ttl, there.tos), (given.ttl - 1, given.tos));

        let answer = content.packet(there.destination, there.source);
        let back = judge::send(&world, &mut node, &answer)?.put_together()?;
        prop_assert_eq!((back.source, back.destination), (given.destination, given.source));

        world.settings.hairpin = false;
        let refused = judge::send(&world, &mut world.node(1), &packet)?;
        prop_assert!(matches!(refused, Answer::Drop(DropReason::Hairpin, _)), "{refused:?}");
    }

    /// X46-09, X46-10: options are gone; a source route with hops left is refused.
    #[test]
    fn with_source_routes(
        world in sane_worlds(),
        content in contents(100),
        (kind, hops, pointer) in (select(vec![131, 137]), 0..9_usize, 0..50_u8),
        before in 0..2_usize,
        (source, destination) in (mapped_picks(), mapped_picks()),
    ) {
        let world = copying(world);
        let (source, destination) = (source.v4(&world).into(), destination.v4(&world).into());
        let content = Content { options: 40, ..content };
        let mut packet = content.packet(source, destination);
        let len = 3 + 4 * hops;
        let at = 20 + before; // no operation comes before it, and after it
        packet[at..at + len].fill(0xa5);
        packet[at..at + 3].copy_from_slice(&[kind, len as u8, pointer]);
        plain::seal_v4_header(&mut packet);
        let answer = judge::send(&world, &mut world.node(1), &packet)?;
        let is_refused = matches!(
            answer,
            Answer::Reply(Reply::Error(DropReason::SourceRoute), _)
                | Answer::Drop(DropReason::SourceRoute, _)
        );
        prop_assert_eq!(is_refused, usize::from(pointer) <= len, "{:?}", answer);
        if !is_refused {
            check(&plain::read(&packet).unwrap(), &there_and_back(&world, &packet)?.unwrap())?;
        }
    }

    /// A52-01 to A52-04: hosts in a prefix of each length, with addresses of every kind between
    /// them.
    #[test]
    fn by_prefixes_of_every_length(
        world in sane_worlds(),
        bits: u128,
        length in select(vec![32_u8, 40, 48, 56, 64, 96]),
        content in contents(100),
        (source, destination) in (mapped_picks(), mapped_picks()),
    ) {
        let prefix = Some(prefix6(global(bits), length));
        let world = World { prefix, eams: Vec::new(), ..copying(world) };
        let (source, destination) = (source.v4(&world).into(), destination.v4(&world).into());
        let packet = content.packet(source, destination);
        let back = there_and_back(&world, &packet)?.unwrap();
        check(&plain::read(&packet).unwrap(), &back)?;
    }
}

/// SEC-04, EAM-01 to EAM-03: a mapping of every IPv4 prefix length with every IPv6 prefix length
/// that leaves it enough bits, for the first host, the last, and some between.
#[test]
fn by_explicit_mappings_of_every_length() -> Checked<()> {
    let settings = Settings::default();
    let peer = Eam::new(prefix4(0xcb00_7107, 32), prefix6(global(u128::MAX), 128)).unwrap();
    let content = Content::plain();
    let (mut passed, mut state) = (0, 0x1234_5678_9abc_def0_u64);
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for length4 in 0..=32_u8 {
        for length6 in 0..=96 + length4 {
            let network = prefix4(0x1000_0000 | random() as u32 >> 4, length4);
            let bits = u128::from(random()) << 64 | u128::from(random());
            let eam = Eam::new(network, prefix6(global(bits), length6)).unwrap();
            let world = World {
                settings: settings.clone(),
                own_v4: OWN_V4,
                own_v6: OWN_V6,
                prefix: None,
                wkpf_strict: false,
                eams: vec![eam, peer],
            };
            let mut node = world.node(1);
            let hosts = u32::MAX.checked_shr(length4.into()).unwrap_or(0);
            for host in [0, hosts, random() as u32 & hosts, random() as u32 & hosts] {
                let host = Ipv4Addr::from_bits(network.address().to_bits() | host);
                let (source, destination) = (IpAddr::from(host), peer.v4().address().into());
                let packet = content.packet(source, destination);
                let there = judge::send(&world, &mut node, &packet)?;
                let illegal = |address: Option<Ipv6Addr>| {
                    address.is_none_or(|address| plain::is_illegal(address.into()))
                };
                if plain::is_illegal(source) || illegal(world.explicit_v6(host)) {
                    assert!(
                        matches!(there, Answer::Drop(DropReason::IllegalAddress, _)),
                        "{eam} {host}"
                    );
                    continue;
                }
                let there = there.passed()?;
                let back = judge::send(&world, &mut node, &there[0].0)?.put_together()?;
                check(&plain::read(&packet).unwrap(), &back)?;
                passed += 1;
            }
        }
    }
    assert!(passed > 10_000, "{passed} came back");
    Ok(())
}

/// Whole mostly, or a fragment.
fn place() -> impl Strategy<Value = Option<(usize, bool)>> {
    prop_oneof![
        2 => Just(None),
        1 => (0..4000_usize, any::<bool>())
            .prop_map(|(offset, more)| Some((offset & !7, more || offset < 8))),
    ]
}

/// A packet at this place; ICMP is always whole, all but a last fragment are multiples of 8 octets
/// long.
fn piece(
    content: &Content,
    source: IpAddr,
    destination: IpAddr,
    place: Option<(usize, bool)>,
) -> Vec<u8> {
    let mut payload = content.payload(source, destination);
    let place = place.filter(|_| content.protocol != ICMP && payload.len() >= 24);
    if place.is_some_and(|(_, more)| more) {
        payload.truncate(payload.len() & !7);
    }
    content.around(source, destination, place, &payload)
}
