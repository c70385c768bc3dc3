//! Any octets in: no panic, and an answer that is right.

use proptest::{collection::vec, prelude::*};

use crate::{
    cases,
    given::{Answer, Content, Node, Place, World, contents, picks, worlds},
    judge,
    plain::{self, Checked, ICMP},
};

/// Sends `octets`, and whatever becomes of them once more.
fn send_twice(world: &World, node: &mut Node, octets: &[u8]) -> Checked<()> {
    let made = match judge::send(world, node, octets)? {
        Answer::Forward(packet) | Answer::Reply(_, packet) => vec![packet],
        Answer::Fragments(packets) => packets,
        Answer::Drop(..) => return Ok(()),
    };
    for packet in made {
        judge::send(world, node, &packet.0)?;
    }
    Ok(())
}

/// One thing that goes wrong with a packet.
#[derive(Clone, Debug)]
enum Mutation {
    Flip {
        at: usize,
        with: u8,
    },
    /// Of the headers, where most of the decisions are made.
    FlipHeader {
        at: usize,
        with: u8,
    },
    Truncate(usize),
    Extend(Vec<u8>),
    /// The length fields are made right again.
    Measure,
    /// Header and ICMP checksums are made right again.
    Seal,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        2 => (any::<usize>(), any::<u8>()).prop_map(|(at, with)| Mutation::Flip { at, with }),
        4 => (0..72_usize, any::<u8>()).prop_map(|(at, with)| Mutation::FlipHeader { at, with }),
        1 => any::<usize>().prop_map(Mutation::Truncate),
        1 => vec(any::<u8>(), 0..50).prop_map(Mutation::Extend),
        1 => Just(Mutation::Measure),
        4 => Just(Mutation::Seal),
    ]
}

/// A hop limit that is, or is nearly, used up.
fn hops() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![3 => Just(None), 1 => (0..3_u8).prop_map(Some)]
}

fn places() -> impl Strategy<Value = Place> {
    let offset = prop_oneof![
        2 => Just(0),
        1 => Just(8),
        1 => (0..8192_usize).prop_map(|units| units * 8),
    ];
    prop_oneof![1 => Just(None), 1 => (offset, any::<bool>()).prop_map(Some)]
}

impl Mutation {
    fn apply(&self, packet: &mut Vec<u8>) {
        match self {
            _ if packet.is_empty() => {}
            Self::Flip { at, with } | Self::FlipHeader { at, with } => {
                let len = packet.len();
                packet[at % len] ^= with;
            }
            Self::Truncate(len) => packet.truncate(len % packet.len()),
            Self::Extend(octets) => packet.extend_from_slice(octets),
            Self::Measure => plain::measure(packet),
            Self::Seal => plain::seal_whole(packet),
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn octets_of_any_kind(world in worlds(), mut octets in vec(any::<u8>(), 0..200), version: u8) {
        let mut node = world.node(1);
        send_twice(&world, &mut node, &octets)?;
        if let Some(first) = octets.first_mut() {
            *first = *first & 15 | if version & 1 == 0 { 0x40 } else { 0x60 };
            send_twice(&world, &mut node, &octets)?;
        }
    }

    /// A header that is right, and anything behind it.
    #[test]
    fn anything_behind_a_header(
        world in worlds(),
        v6: bool,
        content in contents(0),
        protocol: u8,
        (hops, place) in (hops(), places()),
        mut body in vec(any::<u8>(), 0..300),
        short: bool,
        sealed: bool,
        (source, destination) in (picks(), picks()),
    ) {
        let mut node = world.node(1);
        let (source, destination) = (source.of(&world, v6), destination.of(&world, v6));
        let ttl = hops.unwrap_or(content.ttl);
        // The length of an extension header, which is around that of all there is.
        if let (true, Some(length)) = (short, body.get_mut(1)) {
            *length %= 40;
        }
        for protocol in [protocol, content.protocol, 6, 17, 1, 58, 44, 0, 43, 51, 60] {
            for place in [None, place] {
                let content = Content { protocol, ttl, ..content.clone() };
                let mut packet = content.around(source, destination, place, &body);
                if sealed {
                    plain::seal_whole(&mut packet);
                }
                send_twice(&world, &mut node, &packet)?;
            }
        }
    }

    /// G-09: behind headers that are not translated there may be an error as well.
    #[test]
    fn errors_behind_headers_that_are_not_translated(
        world in worlds(),
        content in contents(0),
        headers in vec(prop::sample::select(vec![0_u8, 43, 51, 60, 135]), 0..3),
        atomic: bool,
        kind in 0..=136_u8,
        (source, destination) in (picks(), picks()),
    ) {
        let mut body = Vec::new();
        for pair in headers.iter().chain([&58]).collect::<Vec<_>>().windows(2) {
            let len = if *pair[0] == 51 { 2 } else { 1 };
            body.extend_from_slice(&[*pair[1], len, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        body.extend_from_slice(&[kind; 60]);
        let protocol = headers.first().copied().unwrap_or(ICMP);
        let content = Content { protocol, ..content };
        let (source, destination) = (source.v6(&world).into(), destination.v6(&world).into());
        let place = atomic.then_some((0, false));
        let packet = content.around(source, destination, place, &body);
        send_twice(&world, &mut world.node(1), &packet)?;
    }

    /// Packets of every kind, with something wrong.
    #[test]
    fn packets_gone_wrong(
        world in worlds(),
        v6: bool,
        content in contents(3000),
        quoted in contents(1000),
        kind in 0..12_u8,
        (hops, place) in (hops(), places()),
        mutations in vec(mutation(), 0..6),
        (source, destination, third) in (picks(), picks(), picks()),
    ) {
        let [source, destination, third] =
            [source, destination, third].map(|pick| pick.of(&world, v6));
        let content = Content { ttl: hops.unwrap_or(content.ttl), ..content };
        let mut packet = if kind < 4 {
            // An ICMP error.
            let types = if v6 { [1, 2, 3, 4] } else { [3, 11, 12, 3] };
            let mut message = vec![types[usize::from(kind)], kind, 0, 0, 0, 0, 5, 0xc0];
            message.extend_from_slice(&quoted.packet(destination, third));
            let content = Content { protocol: ICMP, ..content };
            plain::seal(source, destination, content.protocol_in(v6), &mut message);
            content.around(source, destination, None, &message)
        } else {
            let payload = content.payload(source, destination);
            content.around(source, destination, place, &payload)
        };
        for mutation in &mutations {
            mutation.apply(&mut packet);
        }
        send_twice(&world, &mut world.node(1), &packet)?;
    }
}
