//! Attributes of netlink messages (linux/netlink.h):
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+---+---------------------------+
//! | length, with this header      |N|O| type                      |   in host order
//! +-------------------------------+---+---------------------------+
//! | value, filled up to a multiple of 4 octets ...                |
//! +---------------------------------------------------------------+
//! ```
//!
//! Numbers in the attributes of nftables are in network order.

/// Length of the header of an attribute, in octets.
const HEADER_LEN: usize = 4;
/// The bits of the type: without those for nested attributes (N) and network order (O).
const TYPE_MASK: u16 = 0x3fff;

/// The attributes, each with its type, up to one that is malformed.
pub(super) fn attributes(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = octets.split_first_chunk::<HEADER_LEN>()?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let value = octets.get(HEADER_LEN..len)?;
        octets = octets.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a type.
pub(super) fn find(octets: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(octets)
        .find(|(found, _)| *found == kind)
        .map(|(_, value)| value)
}

/// A number of 32 bits.
pub(super) fn number(octets: &[u8], kind: u16) -> Option<u32> {
    let value = find(octets, kind)?.first_chunk()?;
    Some(u32::from_be_bytes(*value))
}

/// A name, which ends with a zero octet. It is not empty.
pub(super) fn name(octets: &[u8], kind: u16) -> Option<&str> {
    let value = find(octets, kind)?.split(|octet| *octet == 0).next()?;
    str::from_utf8(value).ok().filter(|name| !name.is_empty())
}

/// Appends an attribute with a name.
pub(super) fn push_name(octets: &mut Vec<u8>, kind: u16, name: &str) {
    octets.extend(name_attribute(kind, name));
}

/// An attribute with a name.
pub(super) fn name_attribute(kind: u16, name: &str) -> Vec<u8> {
    attribute(kind, &[name.as_bytes(), &[0]].concat())
}

/// An attribute with a number of 32 bits.
pub(super) fn number_attribute(kind: u16, number: u32) -> Vec<u8> {
    attribute(kind, &number.to_be_bytes())
}

/// An attribute with a value, which may be attributes.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = HEADER_LEN + value.len();
    let mut octets = Vec::with_capacity(len.next_multiple_of(4));
    octets.extend((len as u16).to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(len.next_multiple_of(4), 0);
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel marks attributes that have others in them (NLA_F_NESTED), which is no part of the
    /// type; and numbers are of 32 bits at least.
    #[test]
    fn marks_are_no_part_of_a_type() {
        let nested = attribute(0x8000 | 4, &number_attribute(1, 2));
        let octets = [
            nested,
            attribute(0x4000 | 5, &[0, 0, 1]),
            number_attribute(6, 7),
        ]
        .concat();
        assert_eq!(find(&octets, 4).and_then(|hook| number(hook, 1)), Some(2));
        assert_eq!(find(&octets, 5), Some(&[0, 0, 1][..]));
        assert_eq!(number(&octets, 5), None);
        assert_eq!(number(&octets, 6), Some(7));
        assert_eq!(find(&octets, 0x8000 | 4), None);
    }

    /// A name ends with a zero octet, and is text that is not empty.
    #[test]
    fn a_name_is_text() {
        for (value, expected) in [
            (&b"clat\0"[..], Some("clat")),
            (b"clat\0\0\0x", Some("clat")),
            (b"clat", Some("clat")),
            (b"\0clat", None),
            (b"", None),
            (b"\xffclat\0", None),
        ] {
            assert_eq!(name(&attribute(1, value), 1), expected, "{value:?}");
        }
    }

    /// What is written can be read, and no truncation of it makes something else of it.
    #[test]
    fn attributes_are_read_up_to_one_that_is_malformed() {
        let mut octets = Vec::new();
        push_name(&mut octets, 1, "filter");
        push_name(&mut octets, 2, "abc");
        assert_eq!(octets.len(), 12 + 8);
        assert_eq!(name(&octets, 1), Some("filter"));
        assert_eq!(name(&octets, 2), Some("abc"));
        assert_eq!(name(&octets, 3), None);
        for len in 0..octets.len() {
            let whole = attributes(&octets[..len]).count();
            assert_eq!(whole, usize::from(len >= 11), "{len} octets");
        }
        // A length of less than the header does not go on for ever.
        assert_eq!(attributes(&[0; 64]).count(), 0);
    }
}
