//! The place of a fragment in its datagram, which both families state in the same way.

/// Longest payload of a reassembled datagram, in octets: what the 16-bit total length of IPv4
/// leaves beside a header (RFC 791 section 3.1).
const MAX_PAYLOAD: usize = 65535 - 20;

/// A fragment's place in its datagram (RFC 791 section 3.1, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentPlace {
    /// Offset of its payload in the datagram, in octets; a multiple of 8.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
}

impl FragmentPlace {
    /// A whole datagram: offset zero, and no more fragments.
    pub const WHOLE: Self = Self {
        offset: 0,
        more: false,
    };

    /// Whether this is all of the datagram.
    pub fn is_whole(self) -> bool {
        self == Self::WHOLE
    }

    /// Whether a fragment with a payload of `len` octets is possible here: all but the last are
    /// multiples of 8 octets long, and no reassembled datagram is longer than the 65535 octets,
    /// with its header, that IPv4 can state.
    pub fn admits(self, len: usize) -> bool {
        self.is_whole()
            || (!self.more || len.is_multiple_of(8))
                && usize::from(self.offset) + len <= MAX_PAYLOAD
    }
}
