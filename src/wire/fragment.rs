//! The place of a fragment in its datagram, which both families say in the same way.

/// The longest payload of a datagram that is put together, in octets: what the 16-bit total length
/// of IPv4 leaves beside a header (RFC 791 section 3.1).
const MAX_PAYLOAD: usize = 65535 - 20;

/// A fragment's place in its datagram (RFC 791 section 3.1, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentPlace {
    /// Where its payload starts in the datagram, in octets; a multiple of 8.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
}

impl FragmentPlace {
    /// Neither offset nor more: a whole datagram.
    pub const WHOLE: Self = Self {
        offset: 0,
        more: false,
    };

    /// Whether this is all of the datagram.
    pub fn is_whole(self) -> bool {
        self == Self::WHOLE
    }

    /// Whether a payload of `len` octets may stand here: all but the last fragment are multiples of 8 octets, and no
    /// datagram that is put together is longer than IPv4 can say, 65535 octets with its header.
    pub fn admits(self, len: usize) -> bool {
        self.is_whole()
            || (!self.more || len.is_multiple_of(8))
                && usize::from(self.offset) + len <= MAX_PAYLOAD
    }
}
