//! Any octets, through a translator with any settings: an answer that is right, to it and to what
//! became of it. Checksums of headers and ICMP messages, and lengths, are made right for some,
//! which would not get far otherwise.
#![no_main]
#![allow(
    dead_code,
    unused_imports,
    reason = "what is shared with the properties is more than is needed here"
)]

mod worlds;
use worlds::{cases, given, icmp_errors, judge, plain};

use given::{Answer, Node, World};
use libfuzzer_sys::fuzz_target;

const MEASURE: u8 = 1;
const SEAL: u8 = 2;
/// The packet goes from and to addresses that are mapped, whatever it says.
const ADDRESS: u8 = 4;

fuzz_target!(|data: &[u8]| {
    let Some((&[a, b, flags, pick], octets)) = data.split_first_chunk() else {
        return;
    };
    let world = worlds::pick(given::worlds(), u32::from_be_bytes([0, 0, a, b]));
    let mut octets = octets.to_vec();
    prepare(&world, &mut octets, flags, pick);
    let mut node = world.node(1);
    for packet in send(&world, &mut node, &octets) {
        for packet in send(&world, &mut node, &packet) {
            send(&world, &mut node, &packet);
        }
    }
});

/// What became of a packet; it is right.
fn send(world: &World, node: &mut Node, octets: &[u8]) -> Vec<Vec<u8>> {
    let answer = judge::send(world, node, octets).unwrap_or_else(|broken| panic!("{broken}"));
    match answer {
        Answer::Forward(packet) | Answer::Reply(_, packet) => vec![packet.0],
        Answer::Fragments(packets) => packets.into_iter().map(|packet| packet.0).collect(),
        Answer::Drop(..) => Vec::new(),
    }
}

fn prepare(world: &World, packet: &mut [u8], flags: u8, pick: u8) {
    let version = packet.first().map_or(0, |first| first >> 4);
    let header = match version {
        4 => 20,
        6 => 40,
        _ => return,
    };
    if packet.len() < header {
        return;
    }
    if flags & MEASURE != 0 {
        plain::measure(packet);
    }
    if flags & ADDRESS != 0 {
        let picks = || (given::mapped_picks(), given::mapped_picks());
        let (source, destination) = worlds::pick(picks(), pick.into());
        if version == 4 {
            packet[12..16].copy_from_slice(&source.v4(world).octets());
            packet[16..20].copy_from_slice(&destination.v4(world).octets());
        } else {
            packet[8..24].copy_from_slice(&source.v6(world).octets());
            packet[24..40].copy_from_slice(&destination.v6(world).octets());
        }
    }
    if flags & SEAL != 0 {
        plain::seal_whole(packet);
    }
}
