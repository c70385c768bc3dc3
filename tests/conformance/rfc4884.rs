//! RFC 4884: extensions of ICMP errors, and the length attribute that says where they start.

use xlatd::translate::DropReason;

use super::{
    checker::{self, Icmp},
    packets::{CLIENT4, CLIENT6, ROUTER4, SERVER4, SERVER6, fix_icmp_checksum, payload, v4, v6},
    rig::{Rig, rig},
    rows::rows,
};

rows! {
    e84_01 Must "RFC 4884 5.1, 5.2" => where_and_in_what_units,
    e84_02 Must "RFC 4884 4" => padding,
    e84_03 Derived "RFC 7915 4.2, 5.2" => length_follows_the_datagram,
    e84_04 Derived "RFC 4884 5.5" => no_length_no_extension,
    e84_05 Derived "RFC 4884 4, 5.4, 7" => length_attributes_and_structures,
    e84_06 Derived "RFC 4884 4" => types_that_can_be_extended,
    e84_07 Derived "RFC 4884 7" => extension_checksum,
    e84_08 Should "RFC 7915 4.2" => never_too_long,
}

/// An extension structure with an object of each of these lengths, in octets with its header
/// (section 7).
pub(crate) fn extension(lengths: &[usize]) -> Vec<u8> {
    let mut octets = vec![0x20, 0, 0, 0];
    for (class, &len) in lengths.iter().enumerate() {
        octets.extend((len as u16).to_be_bytes());
        octets.extend([class as u8 + 1, 1]);
        octets.extend(payload(len - 4));
    }
    let checksum = !checker::sum(&octets);
    octets[2..4].copy_from_slice(&checksum.to_be_bytes());
    octets
}

/// An ICMPv4 error that quotes `len` octets of a packet of the client, padded to `padded`, and the
/// extension.
fn error4(kind: u8, code: u8, len: usize, padded: usize, extension: &[u8]) -> Vec<u8> {
    let mut quoted = v4()
        .from(CLIENT4)
        .to(SERVER4)
        .udp(&payload(len - 28))
        .build();
    quoted.resize(padded, 0);
    let rest = [0, (padded / 4) as u8, 0, 0];
    let body = [&quoted, extension].concat();
    v4().from(ROUTER4).icmp(kind, code, rest, &body).build()
}

/// Likewise of a packet of the server, in an ICMPv6 error of the client.
fn error6(kind: u8, code: u8, len: usize, padded: usize, extension: &[u8]) -> Vec<u8> {
    let mut quoted = v6()
        .from(SERVER6)
        .to(CLIENT6)
        .udp(&payload(len - 48))
        .build();
    quoted.resize(padded, 0);
    let rest = [(padded / 8) as u8, 0, 0, 0];
    let body = [&quoted, extension].concat();
    v6().icmp(kind, code, rest, &body).build()
}

fn icmp(rig: &mut Rig, octets: &[u8]) -> Icmp {
    rig.send_octets(octets).forwarded().icmp()
}

fn where_and_in_what_units() {
    let mut rig = rig();
    let extension = extension(&[8]);
    for (kind, code) in [(3, 0), (3, 1), (3, 3), (3, 13), (11, 0), (11, 1)] {
        let translated = icmp(&mut rig, &error4(kind, code, 128, 128, &extension));
        assert_eq!(translated.rest, [19, 0, 0, 0], "64-bit words in octet 4");
        assert_eq!(translated.body[19 * 8..], extension);
    }
    for (kind, code) in [(1, 0), (1, 1), (1, 4), (3, 0), (3, 1)] {
        let translated = icmp(&mut rig, &error6(kind, code, 200, 200, &extension));
        assert_eq!(translated.rest, [0, 45, 0, 0], "32-bit words in octet 5");
        assert_eq!(translated.body[45 * 4..], extension);
    }
}

fn padding() {
    let mut rig = rig();
    let extension = extension(&[8]);
    for len in 28..200usize {
        let padded = len.next_multiple_of(4).max(128);
        let translated = icmp(&mut rig, &error4(11, 0, len, padded, &extension));
        let expected = (len + 20).next_multiple_of(8).max(128);
        assert_eq!(usize::from(translated.rest[0]) * 8, expected);
        assert!(
            translated.body[len + 20..expected]
                .iter()
                .all(|&octet| octet == 0)
        );
        assert_eq!(translated.body[expected..], extension, "{len} octets");
        assert_eq!(translated.quoted().len, len + 20);
    }
    for len in 48..220usize {
        let padded = len.next_multiple_of(8).max(128);
        let translated = icmp(&mut rig, &error6(3, 0, len, padded, &extension));
        let expected = (len - 20).next_multiple_of(4).max(128);
        assert_eq!(usize::from(translated.rest[1]) * 4, expected);
        assert!(
            translated.body[len - 20..expected]
                .iter()
                .all(|&octet| octet == 0)
        );
        assert_eq!(translated.body[expected..], extension, "{len} octets");
        assert_eq!(translated.quoted().len, len - 20);
    }
}

fn length_follows_the_datagram() {
    let mut rig = rig();
    let extension = extension(&[8, 8]);
    // A fragment: 28 octets more, or less.
    let fragment = v4().from(CLIENT4).to(SERVER4).fragment(0, true, 7);
    let fragment = fragment.raw(17, &payload(160)).build(); // 180 octets
    let body = [&fragment[..], &extension].concat();
    let error = v4().from(ROUTER4).icmp(11, 1, [0, 45, 0, 0], &body);
    let translated = rig.send(&error).forwarded().icmp();
    assert_eq!(translated.rest, [26, 0, 0, 0]);
    assert_eq!(translated.body[208..], extension);
    assert!(translated.quoted().fragment_header);

    let fragment = v6().from(SERVER6).to(CLIENT6).fragment(0, true, 7);
    let fragment = fragment.raw(17, &payload(160)).build(); // 208 octets
    let body = [&fragment[..], &extension].concat();
    let error = v6().icmp(3, 1, [26, 0, 0, 0], &body);
    let translated = rig.send(&error).forwarded().icmp();
    assert_eq!(translated.rest, [0, 45, 0, 0]);
    assert_eq!(translated.body[180..], extension);

    // Options and extension headers that go.
    let options = v4().from(CLIENT4).to(SERVER4).options(&[1; 40]);
    let options = options.udp(&payload(132)).build(); // 200 octets
    let body = [&options[..], &extension].concat();
    let error = v4().from(ROUTER4).icmp(11, 0, [0, 50, 0, 0], &body);
    let translated = rig.send(&error).forwarded().icmp();
    assert_eq!(translated.rest, [23, 0, 0, 0]); // 180 and 4 of padding
    assert_eq!(translated.body[184..], extension);
}

fn no_length_no_extension() {
    let mut rig = rig();
    // As old routers send it: 128 octets, then an extension, and no word of it.
    let extension = extension(&[8]);
    let mut quoted = v4().from(CLIENT4).to(SERVER4).udp(&payload(400)).build();
    quoted.truncate(128);
    let body = [&quoted[..], &extension].concat();
    let error = v4().from(ROUTER4).icmp(11, 0, [0; 4], &body);
    let translated = rig.send(&error).forwarded().icmp();
    assert_eq!(translated.rest, [0; 4]);
    assert_eq!(translated.body[148..], extension, "plain payload");

    let mut quoted = v6().from(SERVER6).to(CLIENT6).udp(&payload(400)).build();
    quoted.truncate(128);
    let body = [&quoted[..], &extension].concat();
    let translated = rig.send(&v6().icmp(3, 0, [0; 4], &body)).forwarded().icmp();
    assert_eq!(translated.rest, [0; 4]);
    assert_eq!(translated.body[108..], extension, "plain payload");
}

fn length_attributes_and_structures() {
    opaque_structures();
    small_length_attributes();
    structures_without_proof();
    malformed_extensions();
}

/// Of any version, and of every checksum, where the length attribute fits.
fn opaque_structures() {
    let mut rig = rig();
    for version in 0..16 {
        let mut structure = extension(&[8, 16]);
        structure[0] = version << 4 | 5;
        for (len, padded) in [(100, 128), (128, 128), (200, 200)] {
            let translated = icmp(&mut rig, &error4(11, 0, len, padded, &structure));
            let expected = (len + 20).next_multiple_of(8).max(128);
            assert_eq!(usize::from(translated.rest[0]) * 8, expected);
            assert_eq!(translated.body[expected..], structure, "version {version}");
            assert_eq!(translated.quoted().len, len + 20);

            let translated = icmp(&mut rig, &error6(3, 0, len, padded, &structure));
            let expected = (len - 20).next_multiple_of(4).max(128);
            assert_eq!(usize::from(translated.rest[1]) * 4, expected);
            assert_eq!(translated.body[expected..], structure, "version {version}");
            assert_eq!(translated.quoted().len, len - 20);
        }
    }
    // One that is too long is not cut, since nobody knows where: all of it goes.
    let mut structure = extension(&[200, 200, 200]);
    structure[0] = 0x30;
    let translated = icmp(&mut rig, &error6(3, 0, 400, 400, &structure));
    assert_eq!(translated.rest, [0; 4]);
    assert_eq!(translated.body.len(), 380);
}

/// As routers of the field send it: the length attribute is that of a quoted datagram shorter than
/// 128 octets, and the structure is directly behind that, or behind 128 octets.
fn small_length_attributes() {
    let mut rig = rig();
    let structure = extension(&[8, 12]);
    for length in 7..32u8 {
        let len = usize::from(length) * 4;
        let mut quoted = v4().from(CLIENT4).to(SERVER4).udp(&payload(400)).build();
        for padded in [len, 128] {
            quoted.truncate(len);
            quoted.resize(padded, 0);
            let body = [&quoted[..], &structure].concat();
            for (kind, code) in [(3, 1), (3, 3), (11, 0)] {
                let error = v4()
                    .from(ROUTER4)
                    .icmp(kind, code, [0, length, 0, 0], &body);
                let translated = rig.send(&error).forwarded().icmp();
                let expected = (len + 20).next_multiple_of(8).max(128);
                assert_eq!(usize::from(translated.rest[0]) * 8, expected);
                assert_eq!(translated.body[expected..], structure, "length {length}");
                let quoted = translated.quoted();
                assert_eq!(quoted.upper[8..len - 20], payload(400)[..len - 28]);
                let padding = &translated.body[len + 20..expected];
                assert!(padding.iter().all(|&octet| octet == 0));
            }
            // These have no length attribute in IPv6, and so no extension.
            for (kind, code) in [(3, 2), (3, 4), (12, 0)] {
                let error = v4()
                    .from(ROUTER4)
                    .icmp(kind, code, [0, length, 0, 0], &body);
                let translated = rig.send(&error).forwarded().icmp();
                assert_eq!(translated.body.len(), len + 20, "{kind}/{code}");
            }
        }
    }
    // Padding is not taken for the checksum of TCP.
    let mut quoted = v4().from(CLIENT4).to(SERVER4).tcp(b"x").build();
    quoted.truncate(28);
    quoted.resize(128, 0);
    let body = [&quoted[..], &structure].concat();
    let error = v4().from(ROUTER4).icmp(11, 0, [0, 7, 0, 0], &body);
    let translated = rig.send(&error).forwarded().icmp();
    assert_eq!(translated.body[48..128], [0; 80]);
    for length in 6..16u8 {
        let len = usize::from(length) * 8;
        let mut quoted = v6().from(SERVER6).to(CLIENT6).udp(&payload(400)).build();
        for padded in [len, 128] {
            quoted.truncate(len);
            quoted.resize(padded, 0);
            let body = [&quoted[..], &structure].concat();
            for (kind, code) in [(1, 0), (1, 4), (3, 0)] {
                let error = v6().icmp(kind, code, [length, 0, 0, 0], &body);
                let translated = rig.send(&error).forwarded().icmp();
                assert_eq!(translated.rest, [0, 32, 0, 0], "128 octets");
                assert_eq!(translated.body[128..], structure, "length {length}");
                let quoted = translated.quoted();
                assert_eq!(quoted.upper[8..len - 40], payload(400)[..len - 48]);
                let padding = &translated.body[len - 20..128];
                assert!(padding.iter().all(|&octet| octet == 0));
            }
        }
    }
}

/// A guess needs proof, and without it what may be an extension is no part of the quoted datagram.
fn structures_without_proof() {
    let mut rig = rig();
    let good = extension(&[8, 12]);
    let (mut wrong, mut absent, mut version) = (good.clone(), good.clone(), good.clone());
    wrong[3] ^= 1;
    absent[2..4].fill(0);
    version[0] = 0x10;
    version[2] += 0x10;
    assert_eq!(checker::sum(&version), 0xffff);
    for structure in [wrong, absent, version] {
        for length in 1..32u8 {
            let len = (usize::from(length) * 4).max(28); // an IP header and 8 octets
            let mut octets = error4(11, 0, 128, 128, &structure);
            octets[25] = length;
            fix_icmp_checksum(&mut octets);
            let translated = icmp(&mut rig, &octets);
            assert_eq!(translated.rest, [0; 4], "length attribute {length}");
            assert_eq!(translated.body.len(), len + 20, "length attribute {length}");
            assert_eq!(translated.quoted().len, 148);
        }
        for length in 1..16u8 {
            let len = (usize::from(length) * 8).max(48);
            let mut octets = error6(3, 0, 128, 128, &structure);
            octets[44] = length;
            fix_icmp_checksum(&mut octets);
            let translated = icmp(&mut rig, &octets);
            assert_eq!(translated.rest, [0; 4], "length attribute {length}");
            assert_eq!(translated.body.len(), len - 20, "length attribute {length}");
            assert_eq!(translated.quoted().len, 108);
        }
    }
}

fn malformed_extensions() {
    let mut rig = rig();
    // Nothing but its header, so that no other value of the length attribute leaves room for one.
    let structure = extension(&[]);
    let good4 = error4(11, 0, 128, 128, &structure);
    let good6 = error6(3, 0, 128, 128, &structure);
    // Every value of the length attribute but zero: too small, right, past the end. The structure
    // passes as such, or not at all.
    for length in 1..=255u8 {
        for (good, at, right, grown) in [(&good4, 25, 32, 148), (&good6, 44, 16, 108)] {
            let mut octets = good.clone();
            octets[at] = length;
            fix_icmp_checksum(&mut octets);
            let translated = icmp(&mut rig, &octets);
            let found = translated.rest[0].max(translated.rest[1]);
            assert_eq!(found != 0, length <= right, "length attribute {length}");
            if length > right {
                assert_eq!(translated.body.len(), grown, "length attribute {length}");
            }
        }
    }
    // No room for the header of a structure.
    for len in 1..4 {
        let translated = icmp(&mut rig, &error4(11, 0, 128, 128, &structure[..len]));
        assert_eq!((translated.rest, translated.body.len()), ([0; 4], 148));
        let translated = icmp(&mut rig, &error6(3, 0, 128, 128, &structure[..len]));
        assert_eq!((translated.rest, translated.body.len()), ([0; 4], 108));
    }
    // Every length that an object can claim, where objects are counted because all cannot be sent.
    for claimed in (0..600).chain([0x7fff, 0xffff]) {
        let mut structure = extension(&[100, 600, 600]);
        structure[104..106].copy_from_slice(&(claimed as u16).to_be_bytes());
        icmp(&mut rig, &error4(11, 0, 128, 128, &structure));
        icmp(&mut rig, &error6(3, 0, 128, 128, &structure));
    }
    // One that just fits is not looked into.
    let mut structure = extension(&[416]);
    structure[4..6].copy_from_slice(&[0xff; 2]);
    let translated = icmp(&mut rig, &error6(3, 0, 128, 128, &structure));
    assert_eq!(translated.body[128..], structure);
    // An extension that is a header and nothing more.
    let translated = icmp(&mut rig, &error4(11, 0, 128, 128, &structure[..4]));
    assert_eq!(translated.rest, [19, 0, 0, 0]);
}

fn types_that_can_be_extended() {
    let mut rig = rig();
    let extension = extension(&[8]);
    for (kind, code) in [(3, 2), (3, 4), (12, 0)] {
        let translated = icmp(&mut rig, &error4(kind, code, 100, 128, &extension));
        // Octet 4 is where an extended ICMPv6 message has its length.
        assert_eq!(translated.rest[0], 0, "{kind}/{code}");
        assert_eq!(translated.body.len(), 120, "neither padding nor extension");
        assert_eq!(translated.quoted().upper.len(), 80);
    }
    // ICMPv6 messages that cannot be extended: what looks like a length is MTU or pointer.
    let translated = icmp(&mut rig, &error6(4, 1, 128, 128, &extension));
    assert!(translated.is(3, 2));
    assert_eq!(translated.rest, [0; 4]);
    let translated = icmp(&mut rig, &error6(2, 0, 128, 128, &extension));
    assert!(translated.is(3, 4));
    assert_eq!(translated.rest[..2], [0, 0]);
    assert_eq!(translated.mtu_v4(), 1480);
    // 0x10000000 is no pointer that means anything.
    rig.send_octets(&error6(4, 0, 128, 128, &extension))
        .dropped(DropReason::IcmpType);
}

fn extension_checksum() {
    let mut rig = rig();
    // Left alone if the extension is: right, wrong or absent.
    for checksum in [None, Some([0, 0]), Some([0x12, 0x34])] {
        let mut extension = extension(&[8, 16]);
        if let Some(checksum) = checksum {
            extension[2..4].copy_from_slice(&checksum);
        }
        let translated = icmp(&mut rig, &error4(11, 0, 128, 128, &extension));
        assert_eq!(translated.body[152..], extension);
        let translated = icmp(&mut rig, &error6(3, 0, 128, 128, &extension));
        assert_eq!(translated.body[128..], extension);
    }
    // Recomputed if objects are left out, and only whole ones are.
    for (lengths, kept) in [
        (&[200, 200, 200][..], 400),
        (&[404, 404][..], 404),
        (&[416, 8, 8][..], 416),
        (&[12, 404, 404][..], 416),
        (&[4, 4, 4, 600][..], 12),
    ] {
        let whole = extension(lengths);
        let translated = icmp(&mut rig, &error6(3, 0, 128, 128, &whole));
        assert_eq!(translated.rest, [0, 32, 0, 0]);
        let cut = &translated.body[128..];
        assert_eq!(cut.len(), 4 + kept, "{lengths:?}");
        assert_eq!(cut[4..], whole[4..4 + kept]);
        assert_eq!(checker::sum(cut), 0xffff);
    }
    // None fits: no extension at all.
    let translated = icmp(&mut rig, &error6(3, 0, 400, 400, &extension(&[600, 8])));
    assert_eq!(translated.rest, [0; 4]);
    assert_eq!(translated.body.len(), 380);
}

fn never_too_long() {
    let mut rig = rig();
    // The datagram is shortened first, to no less than 128 octets; `rig` verifies the limits.
    for extension_len in [4, 8, 100, 200, 416, 500, 1000, 1100] {
        for len in [128, 136, 200, 400, 520, 1000] {
            let structure = extension(&[extension_len]);
            let translated = icmp(&mut rig, &error4(11, 0, len, len, &structure));
            let wanted = (len + 20).next_multiple_of(8);
            let room = 1232 - structure.len();
            if room >= 128 {
                let quoted = wanted.min(room / 8 * 8);
                assert_eq!(usize::from(translated.rest[0]) * 8, quoted);
                assert_eq!(
                    translated.body[quoted..],
                    structure,
                    "{len}, {extension_len}"
                );
            }
            let translated = icmp(&mut rig, &error6(3, 0, len, len, &structure));
            let wanted = (len - 20).max(128).next_multiple_of(4);
            let room = 548usize.saturating_sub(structure.len());
            if room >= 128 {
                let quoted = wanted.min(room / 4 * 4);
                assert_eq!(usize::from(translated.rest[1]) * 4, quoted);
                assert_eq!(
                    translated.body[quoted..],
                    structure,
                    "{len}, {extension_len}"
                );
            } else {
                assert_eq!(translated.rest, [0; 4]);
                assert_eq!(translated.body.len(), (len - 20).min(548));
            }
        }
    }
}
