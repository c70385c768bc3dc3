//! What another worker sends to the first one: it may have been taken over by whoever sends
//! packets. Packets that it hands over are those of the target `packets`.
#![no_main]

use std::net::Ipv6Addr;

use libfuzzer_sys::fuzz_target;
use xlatd::{
    addr::AddressMap,
    config::dynamic_map,
    report::{
        hints::{Hints, Settings},
        status::Packets,
        workers::{AddedTrace, Answer, Kind, Leases, Order, read_body, read_uses, to_body},
    },
    translate::DropReason,
};

/// The time of the leases, in seconds since 1970.
const NOW: u64 = 1_795_406_857;
/// The file of uses that goes along with an answer.
const USES: u8 = b'U';

fuzz_target!(|data: &[u8]| {
    let mut map = AddressMap::new([192, 0, 2, 1].into(), Ipv6Addr::LOCALHOST, None, true);
    map.set_pool("203.0.113.0/29".parse().unwrap());
    map.set_now(NOW);
    for host in 1..=4 {
        let _ = map.lend(Ipv6Addr::from_bits(0x2001_0db8 << 96 | host));
    }
    let mut total = Packets::default();
    let mut hints = Hints::new(Settings::TaygaConf);
    let mut trace = AddedTrace::default();
    trace.begin(0);
    // Each message has its kind and its length before it.
    let mut rest = data;
    while let Some((&[kind, high, low], after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let body;
        (body, rest) = after.split_at(len);
        match Kind::of(kind) {
            Some(Kind::Answer) => answer(body, &mut total, &mut hints),
            Some(Kind::Trace) => {
                let mut octets = 0;
                trace.take(body, |block| octets += block.len());
                assert!(octets <= data.len());
            }
            Some(Kind::Leases) => {
                if let Some(leases) = Leases::read(body) {
                    let again = Leases::body(leases.done, &leases.changed);
                    assert_eq!(again, body);
                }
            }
            Some(Kind::Order) => {
                if let Ok(order) = read_body::<Order>(body) {
                    assert_eq!(read_body(&to_body(&order)), Ok(order));
                }
            }
            _ if kind == USES => {
                let pool = map.pool().unwrap();
                read_uses(body).for_each(|(address, second)| pool.used(address, second, NOW));
                assert!(pool.leases().all(|lease| lease.last_use <= NOW));
            }
            _ => {}
        }
    }
    for days in 0..20 {
        map.set_now(NOW + days * 86_400);
        map.age_leases(100);
    }
    dynamic_map::text(&map, NOW);
});

/// An answer, and what is made of it.
fn answer(body: &[u8], total: &mut Packets, hints: &mut Hints) {
    match read_body(body) {
        Ok(Answer::Report { packets, .. }) => {
            total.add(&packets);
            total.lines();
        }
        Ok(Answer::Refused {
            reason,
            packet,
            len,
        }) => {
            if let Some(reason) = DropReason::ALL.iter().find(|one| one.key() == reason) {
                hints.about(*reason, (&packet, len));
            }
        }
        _ => {}
    }
}
