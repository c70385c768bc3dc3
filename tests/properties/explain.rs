//! What `xlatd explain` says is what the translator does.

use std::{net::IpAddr, time::Instant};

use proptest::{collection::vec, prelude::*};
use xlatd::{
    report::explain::{
        Capture, Directives, Explainer, Fate, Leg, Reading, Role, RoundTrip, Seen, Verdict,
    },
    translate::{DropReason, Reply},
};

use crate::{
    cases,
    given::{Answer, Content, Octets, World, contents, picks, settings, worlds},
    plain::{self, Checked},
};

fn explainer(world: &World) -> Explainer {
    Explainer::new(world.settings.clone(), world.map(), Directives::default())
}

/// A packet that nothing is wrong with but perhaps its addresses.
fn plain_packet(source: IpAddr, destination: IpAddr) -> Vec<u8> {
    Content::plain().packet(source, destination)
}

fn ends(octets: &Octets) -> (IpAddr, IpAddr) {
    let packet = plain::read(&octets.0).unwrap();
    (packet.source, packet.destination)
}

/// The same was done with two packets, of which the first is an echo request that was explained.
fn agree(explained: &Fate, answer: &Answer) -> Checked<()> {
    let reason = explained.why.map(|why| why.reason);
    match answer {
        Answer::Forward(octets) => {
            prop_assert_eq!(explained.translation(), Some(ends(octets)));
        }
        Answer::Fragments(all) => {
            prop_assert_eq!(explained.translation(), Some(ends(&all[0])));
        }
        // Echo requests are answered there, and no other packets.
        Answer::Reply(Reply::Error(DropReason::OwnAddress), _)
        | Answer::Drop(DropReason::OwnAddress, _)
            if explained.verdict == Verdict::EchoAnswered => {}
        Answer::Reply(Reply::Echo, _) => {
            prop_assert_eq!(explained.verdict, Verdict::EchoAnswered);
        }
        Answer::Reply(Reply::Error(found), _) | Answer::Drop(found, _) => {
            prop_assert_eq!(reason, Some(*found));
            prop_assert_eq!(explained.translation(), None);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    /// A pair is explained by what becomes of any packet between the two, and of one that answers.
    #[test]
    fn a_pair_is_explained_as_it_is_translated(
        world in worlds(),
        (from, to) in (picks(), picks()),
        v6 in any::<bool>(),
    ) {
        let (from, to) = (from.of(&world, v6), to.of(&world, v6));
        let trip = explainer(&world).pair(from, to, Instant::now()).unwrap();
        let RoundTrip { request, reply, is_complete } = trip;
        let answer = world.node(1).send(&plain_packet(from, to));
        agree(&request.fate, &answer)?;
        let translation = request.fate.translation();
        prop_assert_eq!(reply.is_some(), translation.is_some());
        if let (Some(Leg { fate, .. }), Some((from4, to4))) = (reply, translation) {
            let answer = world.node(1).send(&plain_packet(to4, from4));
            agree(&fate, &answer)?;
            prop_assert_eq!(is_complete, fate.translation() == Some((to, from)));
        }
    }

    /// What is said of packets to and from one address is what becomes of them; and a peer that
    /// passes itself shows no fault of its own.
    #[test]
    fn an_address_is_explained_as_it_is_translated(
        world in worlds(),
        address in picks(),
        v6 in any::<bool>(),
    ) {
        let address = address.of(&world, v6);
        let about = explainer(&world).address(address, Instant::now());
        let there = about.counterpart.as_ref().map(|there| there.address);
        prop_assert_eq!(there, world.across(address));
        prop_assert_eq!(about.packets.len(), if there.is_some() { 4 } else { 2 });
        for packet in about.packets {
            let (from, to) = packet.fate.received.addresses().unwrap();
            let asked = if packet.role == Role::To { to } else { from };
            prop_assert_eq!(asked, packet.address);
            agree(&packet.fate, &world.node(1).send(&plain_packet(from, to)))?;
        }
    }

    /// Each packet of a capture is explained as a translator does that reads them one by one.
    #[test]
    fn a_capture_is_explained_as_it_is_translated(
        world in worlds(),
        settings in settings(),
        packets in vec((contents(3000), picks(), picks(), any::<bool>()), 1..6),
    ) {
        let world = World { settings, ..world };
        let packets: Vec<_> = packets.iter().map(|(content, from, to, v6)| {
            content.packet(from.of(&world, *v6), to.of(&world, *v6))
        }).collect();
        let file = pcap(&packets);
        let mut reading = Reading::new(explainer(&world).translator());
        let mut node = world.node(0);
        let now = Instant::now();
        let mut frames = Capture::new(&file).unwrap();
        for packet in &packets {
            let entry = reading.next(&frames.next().unwrap().unwrap(), now);
            let Seen::Packet { fate, not_captured: 0 } = entry.seen else {
                return Err(TestCaseError::fail(format!("{entry:?}")));
            };
            agree(&fate, &node.send(packet))?;
        }
        prop_assert!(frames.next().is_none());
        prop_assert_eq!(reading.counts().frames, packets.len() as u64);
    }
}

/// A pcap file of IP packets, all captured at once.
fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let header = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 101_u32];
    let mut file = header.map(u32::to_le_bytes).concat();
    for packet in packets {
        let len = packet.len() as u32;
        file.extend([0, 0, len, len].map(u32::to_le_bytes).concat());
        file.extend(packet);
    }
    file
}
