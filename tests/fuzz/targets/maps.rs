//! The address map, against a search through all of it.
#![no_main]
#![allow(
    dead_code,
    unused_imports,
    reason = "what is shared with the properties is more than is needed here"
)]

mod worlds;
use worlds::{cases, given, icmp_errors, judge, plain};

use std::net::{Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use xlatd::addr::{AddressMap, Eam, Prefix4, Prefix6};

/// An entry: lengths and addresses of few values, so that prefixes lie in each other.
const ENTRY_LEN: usize = 6;

fuzz_target!(|data: &[u8]| {
    let Some((&[count, a, b], data)) = data.split_first_chunk() else {
        return;
    };
    let entries = data.chunks_exact(ENTRY_LEN).take(usize::from(count) % 40);
    let mut eams: Vec<Eam> = Vec::new();
    let mut map = AddressMap::new([192, 168, 0, 1].into(), Ipv6Addr::LOCALHOST, None, false);
    let entries_len = entries.len() * ENTRY_LEN;
    for entry in entries {
        let [l4, l6, x, y, z, w] = entry.try_into().expect("as many");
        let (v4, v6) = (address4(x, y), address6(z, w));
        let v4_length = l4 % 33;
        // The suffix of the one has to be there in the other.
        let v6_length = (96 + v4_length).saturating_sub(l6 % 60);
        let mask4 = u32::MAX.checked_shl(32 - u32::from(v4_length)).unwrap_or(0);
        let mask6 = u128::MAX
            .checked_shl(128 - u32::from(v6_length))
            .unwrap_or(0);
        let Ok(v4) = Prefix4::new((v4.to_bits() & mask4).into(), v4_length) else {
            continue;
        };
        let Ok(v6) = Prefix6::new((v6.to_bits() & mask6).into(), v6_length) else {
            continue;
        };
        let Ok(eam) = Eam::new(v4, v6) else {
            continue;
        };
        let is_new = eams
            .iter()
            .all(|other| other.v4() != v4 && other.v6() != v6);
        assert_eq!(map.insert(eam).is_ok(), is_new, "{eam}");
        if is_new {
            eams.push(eam);
        }
    }
    for pair in [a, b]
        .iter()
        .chain(&data[entries_len..])
        .collect::<Vec<_>>()
        .windows(2)
    {
        let (x, y) = (*pair[0], *pair[1]);
        check4(&map, &eams, address4(x, y));
        check6(&map, &eams, address6(x, y));
    }
    for eam in &eams {
        let one = eam.v4().address();
        check4(&map, &eams, one);
        if let Ok(there) = map.to_v6(one) {
            check6(&map, &eams, there.address);
        }
    }
});

fn address4(x: u8, y: u8) -> Ipv4Addr {
    [x & 0x8f, 0, y, x & 3].into()
}

fn address6(x: u8, y: u8) -> Ipv6Addr {
    let mut octets = [0; 16];
    (octets[0], octets[1]) = (0x20, 0x01);
    (octets[5], octets[11], octets[12], octets[15]) = (x & 3, y & 0x81, x & 0x8f, y);
    octets.into()
}

fn check4(map: &AddressMap, eams: &[Eam], address: Ipv4Addr) {
    if address == Ipv4Addr::new(192, 168, 0, 1) {
        return;
    }
    let covers = |eam: &&Eam| {
        let same = (address.to_bits() ^ eam.v4().address().to_bits()).leading_zeros();
        same >= u32::from(eam.v4().length())
    };
    let eam = eams
        .iter()
        .filter(covers)
        .max_by_key(|eam| eam.v4().length());
    let expected = eam.map(|eam| {
        let suffix = 32 - u32::from(eam.v4().length());
        let bits = u128::from(address.to_bits() & !u32::MAX.checked_shl(suffix).unwrap_or(0));
        let shift = 128 - u32::from(eam.v6().length()) - suffix;
        Ipv6Addr::from(eam.v6().address().to_bits() | bits << shift)
    });
    if let Ok(found) = map.to_v6(address) {
        assert_eq!(Some(found.address), expected, "{address}");
    }
}

fn check6(map: &AddressMap, eams: &[Eam], address: Ipv6Addr) {
    let covers = |eam: &&Eam| {
        let same = (address.to_bits() ^ eam.v6().address().to_bits()).leading_zeros();
        same >= u32::from(eam.v6().length())
    };
    let eam = eams
        .iter()
        .filter(covers)
        .max_by_key(|eam| eam.v6().length());
    let expected = eam.map(|eam| {
        let suffix = 32 - u32::from(eam.v4().length());
        let shift = 128 - u32::from(eam.v6().length()) - suffix;
        let bits = (address.to_bits() >> shift) as u32 & !u32::MAX.checked_shl(suffix).unwrap_or(0);
        Ipv4Addr::from(eam.v4().address().to_bits() | bits)
    });
    if let Ok(found) = map.to_v4(address) {
        assert_eq!(Some(found.address), expected, "{address}");
    }
}
