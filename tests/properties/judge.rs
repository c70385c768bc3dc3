//! What is demanded of every answer, whatever the packet was.

use std::net::IpAddr;

use proptest::{prop_assert, prop_assert_eq, prop_assert_ne, test_runner::TestCaseError};
use xlatd::{
    addr::Via,
    translate::{IcmpErrors, Reply, TrafficClass, UdpChecksum},
    wire::ipv6::MIN_MTU,
};

use crate::{
    given::{Answer, Node, Octets, World},
    icmp_errors,
    plain::{self, Checked, ICMP, ICMPV6, Ip, UDP},
};

/// Longest ICMP errors that are originated or made by translation: RFC 1812 section 4.3.2.3, RFC
/// 4443 section 2.4 (c).
pub(crate) fn max_error_len(v6: bool) -> usize {
    if v6 { MIN_MTU.into() } else { 576 }
}

/// Sends `octets` through `node`, which is of `world`, and checks the answer.
pub(crate) fn send(world: &World, node: &mut Node, octets: &[u8]) -> Checked<Answer> {
    let answer = node.send(octets);
    match &answer {
        Answer::Drop(_, after) => {
            // "The packet is as it was, but for one that was hairpinned."
            let hairpinned = plain::read(octets)
                .is_some_and(|given| world.hairpinned(given.destination).is_some());
            prop_assert!(
                hairpinned || after.0 == octets,
                "a dropped packet was changed"
            );
        }
        Answer::Reply(Reply::Error(_), reply) => check_error_reply(world, octets, &reply.0)?,
        Answer::Reply(Reply::Echo, reply) => check_echo_reply(world, octets, &reply.0)?,
        Answer::Forward(packet) => check_passed(world, octets, std::slice::from_ref(packet))?,
        Answer::Fragments(packets) => {
            prop_assert!(packets.len() > 1, "a packet in one piece");
            check_passed(world, octets, packets)?;
        }
    }
    Ok(answer)
}

fn check_passed(world: &World, octets: &[u8], packets: &[Octets]) -> Checked<()> {
    let settings = &world.settings;
    let given = plain::read(octets)
        .ok_or_else(|| TestCaseError::fail("what cannot be read was passed on"))?;
    prop_assert!(
        given.total_len() <= octets.len(),
        "a truncated packet was passed on"
    );
    prop_assert!(
        given.is_v6() || plain::residue(&[&octets[..given.header_len]]) == 0,
        "an IPv4 packet with a wrong header checksum was passed on"
    );
    let made: Vec<Ip> = packets
        .iter()
        .map(|packet| plain::read_made(&packet.0))
        .collect::<Checked<_>>()?;

    // X46-11, X46-13, X64-12: nothing over the MTU.
    let limit = if given.dont_fragment {
        settings.mtu
    } else {
        settings.mtu.min(settings.offlink_mtu)
    };
    for packet in packets {
        prop_assert!(packet.0.len() <= settings.mtu.into(), "over the MTU");
        prop_assert!(
            given.is_v6() || packet.0.len() <= limit.into(),
            "over offlink-mtu"
        );
    }
    let whole = plain::reassemble(&made)?;
    prop_assert_eq!((whole.offset, whole.more), (made[0].offset, given.more));
    prop_assert_eq!(whole.offset, given.offset, "X46-16, X64-10: offset");

    // X46-06, X64-09, EAM-04, EAM-08: addresses.
    let hairpinned = world.hairpinned(given.destination);
    let is_error = given.is_icmp_error();
    let destination = match hairpinned {
        Some(address) => {
            prop_assert!(settings.hairpin, "EAM-06: the switch is off");
            Some(address.into())
        }
        None => world.across(given.destination),
    };
    prop_assert_eq!(Some(whole.destination), destination, "destination");
    prop_assert!(
        !plain::is_illegal(whole.destination),
        "X46-07, X64-09, G-02"
    );
    prop_assert!(given.destination != world.own(given.is_v6()));
    let source = match hairpinned {
        Some(_) => world.by_prefix(given.source),
        None => world.across(given.source),
    };
    match source {
        Some(source) => prop_assert_eq!(whole.source, source, "source"),
        None => {
            prop_assert!(is_error, "X46-08, I91-01: only errors have sources made up");
            check_made_up_source(world, &given, whole.source, hairpinned.is_some())?;
        }
    }
    if let IpAddr::V6(source) = given.source
        && let Some((address, Via::Prefix)) = world.to_v4(source)
    {
        prop_assert_eq!(world.explicit_v6(address), None, "A52-09: spoofed source");
    }
    let families = (given.is_v6(), whole.is_v6());
    prop_assert_eq!(families.0 == families.1, hairpinned.is_some(), "family");

    // X46-02, X46-03, X64-02, X46-05, X64-08, X46-04, X64-06
    let to_v6 = |tos| match settings.traffic_class {
        TrafficClass::Copy => tos,
        TrafficClass::Fixed(octet) => octet,
    };
    let to_v4 = |tos| match settings.tos {
        TrafficClass::Copy => tos,
        TrafficClass::Fixed(octet) => octet,
    };
    let tos = match (given.is_v6(), hairpinned) {
        (false, _) => to_v6(given.tos),
        (true, None) => to_v4(given.tos),
        (true, Some(_)) => to_v6(to_v4(given.tos)),
    };
    prop_assert_eq!(whole.tos, tos, "TOS");
    prop_assert!(given.ttl > 1, "X46-05, X64-08: a used up hop limit");
    prop_assert_eq!(whole.ttl, given.ttl - 1, "hop limit");
    let protocol = match given.protocol {
        ICMP if !given.is_v6() => ICMPV6,
        ICMPV6 if given.is_v6() => ICMP,
        other => other,
    };
    let protocol = match (protocol, hairpinned) {
        (ICMP, Some(_)) => ICMPV6,
        (other, _) => other,
    };
    prop_assert_eq!(whole.protocol, protocol, "protocol");
    if given.is_v6() {
        prop_assert!(given.protocol != ICMP);
        let may_not_follow = [0, 43, 44, 51, 60, 135, 139, 140];
        prop_assert!(!given.fragment_header || !may_not_follow.contains(&given.protocol));
    } else {
        prop_assert!(![0, 43, 44, 58, 60].contains(&given.protocol), "X46-20");
    }

    if whole.is_v6() {
        // X46-14, X46-15: never an atomic fragment.
        for made in &made {
            prop_assert_eq!(
                made.fragment_header,
                made.is_fragment(),
                "RFC 8021: {:?}",
                made
            );
        }
        if packets.len() > 1 || given.is_fragment() {
            prop_assert_eq!(whole.id >> 16, 0, "X46-16");
            prop_assert!(given.is_v6() && !given.fragment_header || whole.id == given.id & 0xffff);
        }
    } else {
        // X64-03, X64-04, X64-10
        let len = whole.total_len();
        prop_assert_eq!(
            whole.dont_fragment,
            !given.fragment_header && len > 1260,
            "DF"
        );
        if given.fragment_header {
            prop_assert_eq!(whole.id, given.id & 0xffff);
        } else {
            prop_assert_eq!(whole.id == 0, whole.dont_fragment, "identification");
        }
    }

    if is_error {
        prop_assert_eq!(packets.len(), 1);
        icmp_errors::check(world, &given, &whole, hairpinned.is_some())
    } else {
        check_payload(world, &given, &whole)
    }
}

/// X46-08, I91-02: where the source of an error has no mapping.
fn check_made_up_source(
    world: &World,
    given: &Ip,
    source: IpAddr,
    hairpinned: bool,
) -> Checked<()> {
    let expected = match given.source {
        IpAddr::V4(address) => world.embed(address).map_or(world.own(true), IpAddr::from),
        IpAddr::V6(_) => {
            let address = world.settings.icmp_source.unwrap_or(world.own_v4);
            match address {
                address if !hairpinned => address.into(),
                address if address == world.own_v4 => world.own(true),
                address => world.embed(address).map_or(world.own(true), IpAddr::from),
            }
        }
    };
    prop_assert_eq!(source, expected, "source of an error");
    Ok(())
}

/// X46-35, X46-38, X64-24, G-07: the payload is as it was, but for its checksum, which is as right
/// or wrong as it was.
fn check_payload(world: &World, given: &Ip, whole: &Ip) -> Checked<()> {
    prop_assert_eq!(given.stated_len, whole.stated_len, "length of the payload");
    let at = plain::checksum_at(given.protocol).filter(|_| given.offset == 0);
    let Some(at) = at else {
        prop_assert!(given.payload == whole.payload, "payload");
        return Ok(());
    };
    let is_icmp = given.is_icmp();
    prop_assert!(
        !is_icmp || !given.is_fragment(),
        "G-08: fragmented ICMP was passed on"
    );
    let mask = |payload: &[u8]| {
        let mut payload = payload.to_vec();
        payload[at..at + 2].fill(0);
        if is_icmp {
            payload[0] = 0;
        }
        payload
    };
    prop_assert!(
        mask(&given.payload) == mask(&whole.payload),
        "payload behind the checksum"
    );
    if is_icmp {
        let kind = match (given.payload[0], given.is_v6() == whole.is_v6()) {
            (kind, true) => kind,
            (0, _) => 129,
            (8, _) => 128,
            (128, _) => 8,
            (129, _) => 0,
            (kind, _) => {
                let text = format!("X46-20, X64-15: type {kind} was passed on");
                return Err(TestCaseError::fail(text));
            }
        };
        prop_assert_eq!(whole.payload[0], kind, "X46-19, X64-14");
    }

    let (before, after) = (
        plain::u16_at(&given.payload, at),
        plain::u16_at(&whole.payload, at),
    );
    if given.protocol == UDP && before == 0 {
        // X46-36, X46-37, X64-25
        match world.settings.udp_checksum {
            UdpChecksum::Drop => return Err(TestCaseError::fail("X46-36: UDP without checksum")),
            UdpChecksum::Forward => prop_assert_eq!(after, 0),
            UdpChecksum::Calculate => {
                prop_assert!(!given.is_fragment());
                prop_assert_eq!(plain::transport_residue(whole), Some(0), "computed");
            }
        }
        return Ok(());
    }
    prop_assert!(
        after != 0 || given.protocol != UDP,
        "a UDP checksum of zero says that there is none"
    );
    if given.is_fragment() {
        // What the field and the addresses come to together stays the same.
        let sum = |ip: &Ip, checksum: u16| {
            (plain::addresses(ip.source, ip.destination) + u32::from(checksum)) % 0xffff
        };
        prop_assert_eq!(
            sum(given, before),
            sum(whole, after),
            "checksum of a first fragment"
        );
    } else {
        prop_assert_eq!(
            plain::transport_residue(given),
            plain::transport_residue(whole),
            "checksum"
        );
    }
    Ok(())
}

/// G-09, X46-34, X64-23, SEC-05: errors of our own.
fn check_error_reply(world: &World, octets: &[u8], reply: &[u8]) -> Checked<()> {
    prop_assert_ne!(world.settings.icmp_errors, IcmpErrors::Off, "G-06");
    let given = plain::read(octets)
        .ok_or_else(|| TestCaseError::fail("what cannot be read was answered"))?;
    let made = plain::read_made(reply)?;
    prop_assert_eq!(made.is_v6(), given.is_v6());
    prop_assert!(reply.len() <= max_error_len(made.is_v6()), "too long");
    prop_assert!(made.is_icmp_error() && !made.fragment_header);
    prop_assert_eq!(plain::transport_residue(&made), Some(0), "ICMP checksum");
    prop_assert_eq!(made.ttl, 64);
    prop_assert_eq!(made.source, world.own(made.is_v6()));
    prop_assert_eq!(made.destination, given.source);
    prop_assert!(
        made.is_v6() || (!made.dont_fragment && made.id != 0),
        "identification"
    );

    prop_assert!(
        !plain::is_illegal(given.source),
        "an answer to an address that is no host's"
    );
    prop_assert!(
        !plain::is_illegal(given.destination),
        "an answer about a packet to a group"
    );
    prop_assert_ne!(
        given.source,
        world.own(given.is_v6()),
        "an answer to ourselves"
    );
    prop_assert_eq!(given.offset, 0, "an answer about a fragment but the first");
    if let Some(kind) = icmp_type_behind_all_headers(&given) {
        let is_echo = if given.is_v6() {
            [128, 129].contains(&kind)
        } else {
            [8, 0].contains(&kind)
        };
        prop_assert!(is_echo, "an answer about ICMP of type {kind}");
    }

    let quoted = &made.payload[8..];
    let room = max_error_len(made.is_v6()) - made.header_len - 8;
    let expected = &octets[..given.total_len().min(room)];
    prop_assert!(quoted == expected, "an error quotes what it is about");
    let header = &made.payload[..8];
    if made.is_v6() && header[0] == 2 {
        let mtu =
            usize::from(plain::u16_at(header, 4)) << 16 | usize::from(plain::u16_at(header, 6));
        prop_assert!(
            mtu >= MIN_MTU.into() && mtu < given.total_len(),
            "X64-12: {mtu}"
        );
    }
    if !made.is_v6() && header[..2] == [3, 4] {
        // X46-13
        let growth = if given.is_fragment() { 28 } else { 20 };
        prop_assert!(given.dont_fragment);
        prop_assert_eq!(plain::u16_at(header, 6), world.settings.mtu - growth);
    }
    Ok(())
}

/// The type of the ICMP message that a packet is, also behind headers that are not translated.
fn icmp_type_behind_all_headers(given: &Ip) -> Option<u8> {
    let (mut protocol, mut rest) = (given.protocol, given.payload.as_slice());
    while given.is_v6() && [0, 43, 51, 60, 135, 139, 140].contains(&protocol) {
        let len = usize::from(*rest.get(1)?);
        let len = if protocol == 51 {
            (len + 2) * 4
        } else {
            (len + 1) * 8
        };
        protocol = rest[0];
        rest = rest.get(len..)?;
    }
    let icmp = if given.is_v6() { ICMPV6 } else { ICMP };
    rest.first().copied().filter(|_| protocol == icmp)
}

/// SEC-03: echo replies at the translator's own addresses.
fn check_echo_reply(world: &World, octets: &[u8], reply: &[u8]) -> Checked<()> {
    let given = plain::read(octets)
        .ok_or_else(|| TestCaseError::fail("what cannot be read was answered"))?;
    let made = plain::read_made(reply)?;
    prop_assert!(reply.len() <= octets.len(), "amplified");
    prop_assert!(given.is_icmp() && !given.is_fragment());
    prop_assert_eq!(
        (made.source, made.destination),
        (given.destination, given.source)
    );
    let own = [Some(world.own(true)), Some(world.own(false))];
    prop_assert!(
        own.contains(&world.across(given.destination)),
        "in another's place"
    );
    prop_assert!(!plain::is_illegal(given.source));
    prop_assert_eq!((made.ttl, made.tos), (64, given.tos));
    prop_assert!(made.is_v6() || (!made.dont_fragment && made.id != 0));
    let kinds = if given.is_v6() { (128, 129) } else { (8, 0) };
    prop_assert_eq!((given.payload[0], made.payload[0]), kinds);
    prop_assert_eq!(given.payload[1], made.payload[1]);
    prop_assert!(given.payload[4..] == made.payload[4..], "echoed data");
    prop_assert_eq!(
        plain::transport_residue(&given),
        plain::transport_residue(&made)
    );
    Ok(())
}
