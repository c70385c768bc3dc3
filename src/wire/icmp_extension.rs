//! The extension structure of ICMP errors, which follows the quoted datagram (RFC 4884 section 7):
//! a header and objects, each with a header of its own.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Version|      (Reserved)       |           Checksum            | header
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |             Length            |   Class-Num   |   C-Type      | object
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! The Node Identification object (draft-ietf-intarea-extended-icmp-nodeid) says by its C-Type
//! which sub-objects it has. That of an IP address is as in RFC 5837 section 4.2:
//!
//! ```text
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   Address Family Identifier   |          (Reserved)           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                          Address ...                          |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use std::net::Ipv6Addr;

use super::{checksum::Sum, put_u16, u16_at};

/// Length of the header of a structure, in octets.
pub const HEADER_LEN: usize = 4;
const VERSION_AT: usize = 0;
const CHECKSUM_AT: usize = 2;
const VERSION: u8 = 2;

const OBJECT_HEADER_LEN: usize = 4;
const OBJECT_LENGTH_AT: usize = 0;
const OBJECT_CLASS_AT: usize = 2;
const OBJECT_TYPE_AT: usize = 3;

/// Node Identification (IANA "ICMP Extension Object Classes").
const NODE_IDENTIFICATION: u8 = 5;
/// Bit 5 of the C-Type: there is an IP address sub-object.
const HAS_ADDRESS: u8 = 0x04;
const FAMILY_AT: usize = OBJECT_HEADER_LEN;
const ADDRESS_AT: usize = OBJECT_HEADER_LEN + 4;
/// IPv6 (IANA "Address Family Numbers").
const FAMILY_V6: u16 = 2;

/// Length of a Node Identification object with an IPv6 address, in octets.
pub const NODE_LEN: usize = ADDRESS_AT + 16;

/// A structure without objects, its checksum zero.
pub const EMPTY: [u8; HEADER_LEN] = [VERSION << 4, 0, 0, 0];

/// The Node Identification object of the node that has this address.
pub fn node(address: Ipv6Addr) -> [u8; NODE_LEN] {
    let mut octets = [0; NODE_LEN];
    put_u16(&mut octets, OBJECT_LENGTH_AT, NODE_LEN as u16);
    octets[OBJECT_CLASS_AT] = NODE_IDENTIFICATION;
    octets[OBJECT_TYPE_AT] = HAS_ADDRESS;
    put_u16(&mut octets, FAMILY_AT, FAMILY_V6);
    octets[ADDRESS_AT..].copy_from_slice(&address.octets());
    octets
}

/// Whether a Node Identification object may be appended to a structure: it is whole, its version is
/// known, its checksum is right or absent (zero), and no such object is there yet.
pub fn takes_node(extension: &[u8]) -> bool {
    let is_sound = version(extension) == Some(VERSION)
        && (u16_at(extension, CHECKSUM_AT) == Some(0) || Sum::of(extension).verifies());
    let mut at = HEADER_LEN;
    while let Some(end) = object_end(extension, at) {
        if extension[at + OBJECT_CLASS_AT] == NODE_IDENTIFICATION {
            return false;
        }
        at = end;
    }
    is_sound && at == extension.len()
}

/// Whether `octets` prove to be an extension structure: version 2, and a checksum that is right. A
/// checksum of zero, which says that there is none (RFC 4884 section 7), proves nothing.
pub(super) fn is_proven(octets: &[u8]) -> bool {
    version(octets) == Some(VERSION)
        && u16_at(octets, CHECKSUM_AT).is_some_and(|checksum| checksum != 0)
        && Sum::of(octets).verifies()
}

/// Version of an extension structure, which is known here if it is 2; `None` if there is no header.
fn version(extension: &[u8]) -> Option<u8> {
    let header: &[u8; HEADER_LEN] = extension.first_chunk()?;
    Some(header[VERSION_AT] >> 4)
}

/// The end of the object at `at`, in octets; `None` if no whole object is there.
fn object_end(extension: &[u8], at: usize) -> Option<usize> {
    let len = usize::from(u16_at(extension, at + OBJECT_LENGTH_AT)?);
    (len >= OBJECT_HEADER_LEN && at + len <= extension.len()).then_some(at + len)
}

/// Length of an extension structure that fits in `room` octets without an object cut in two.
/// `None` if no object does, or if the structure would have to be cut and is of another version
/// than 2: where its objects and its checksum are is not known.
pub fn fitting(extension: &[u8], room: usize) -> Option<usize> {
    if extension.len() <= room {
        return Some(extension.len());
    }
    if version(extension) != Some(VERSION) {
        return None;
    }
    let mut end = HEADER_LEN;
    while let Some(next) = object_end(extension, end).filter(|&next| next <= room) {
        end = next;
    }
    (end > HEADER_LEN).then_some(end)
}

/// Writes the checksum of a structure.
pub fn put_checksum(extension: &mut [u8]) {
    put_u16(extension, CHECKSUM_AT, 0);
    let checksum = Sum::of(extension).checksum();
    put_u16(extension, CHECKSUM_AT, checksum);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    /// RFC 7915 section 4.2: objects that do not fit are left out whole.
    #[test]
    fn extensions_are_cut_between_objects() {
        let extension = [0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4, 0, 4, 9, 9];
        assert_eq!(fitting(&extension, 16), Some(16));
        assert_eq!(fitting(&extension, 15), Some(12));
        assert_eq!(fitting(&extension, 12), Some(12));
        assert_eq!(fitting(&extension, 11), None);
        assert_eq!(
            fitting(&[0x20, 0, 0, 0, 0, 0, 1, 1], 7),
            None,
            "an object of no length"
        );
        let mut opaque = extension;
        for version in (0..16).filter(|&version| version != 2) {
            opaque[0] = version << 4;
            assert_eq!(fitting(&opaque, 16), Some(16));
            assert_eq!(fitting(&opaque, 15), None, "version {version}");
        }
        let mut cut = extension[..12].to_vec();
        put_checksum(&mut cut);
        assert!(Sum::of(&cut).verifies());
    }

    /// draft-ietf-intarea-extended-icmp-nodeid section 3, RFC 5837 section 4.2.
    #[test]
    fn a_node_is_identified_by_its_address() {
        let object = node("2001:db8::1:2".parse().unwrap());
        assert_eq!(
            object,
            [
                0, 24, 5, 4, // header
                0, 2, 0, 0, // IPv6
                0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2
            ]
        );
        assert_eq!(object_end(&[&EMPTY[..], &object].concat(), 4), Some(28));
    }

    /// RFC 4884 section 7: what is not understood stays as it is; and a node says once who it is.
    #[test]
    fn an_object_is_appended_to_sound_structures_without_one() {
        let sound = {
            let mut octets = [0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4, 0, 4, 9, 9];
            put_checksum(&mut octets);
            octets
        };
        assert!(takes_node(&sound));
        assert!(takes_node(&EMPTY));
        for (at, octet) in [
            (0, 0x10), // another version
            (3, sound[3] ^ 1),
            (11, sound[11] ^ 1),
        ] {
            let mut wrong = sound;
            wrong[at] = octet;
            assert!(!takes_node(&wrong), "octet {at}");
        }
        let with = |at: usize, octet| {
            let mut octets = sound;
            octets[at] = octet;
            octets[2..4].fill(0); // no checksum
            octets
        };
        assert!(takes_node(&with(4, 0)), "no checksum");
        assert!(!takes_node(&with(6, 5)), "the first object is one");
        assert!(!takes_node(&with(14, 5)), "the second object is one");
        assert!(!takes_node(&with(13, 3)), "an object of 3 octets");
        assert!(!takes_node(&with(13, 5)), "past the end");
        assert!(!takes_node(&with(0, 0x20)[..15]), "cut off");
        assert!(!takes_node(&sound[..3]), "no header");
    }
}
