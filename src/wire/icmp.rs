//! ICMP (RFC 792) and ICMPv6 (RFC 4443) messages, and the extensions of their errors (RFC 4884).
//!
//! All messages that are translated begin with the same 8 octets. The last four hold an identifier
//! and a sequence number (echo), an MTU, or a pointer; Length is that of the quoted datagram:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     Type      |     Code      |          Checksum             |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |    Pointer    |    Length     |         Next-Hop MTU          | ICMPv4 errors
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |    Length     |                   unused                      | ICMPv6 types 1 and 3
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                        MTU or Pointer                         | ICMPv6 types 2 and 4
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! An extension structure ([`icmp_extension`]) may follow the quoted datagram.

use super::{
    Malformed,
    checksum::{self, Sum},
    icmp_extension,
    ipv4::Ipv4Packet,
    ipv6::Ipv6Packet,
    put_u16, u16_at,
};

/// Length of the header of all messages that are translated, in octets.
pub const HEADER_LEN: usize = 8;
/// Shortest quote of the datagram in an extended message, in octets (RFC 4884 section 4).
pub const MIN_EXTENDED_QUOTE: usize = 128;

const TYPE_AT: usize = 0;
const CODE_AT: usize = 1;
const CHECKSUM_AT: usize = 2;
const V4_POINTER_AT: usize = 4;
const V4_LENGTH_AT: usize = 5;
const V4_MTU_AT: usize = 6;
const V6_LENGTH_AT: usize = 4;
const V6_MTU_OR_POINTER_AT: usize = 4;

/// Fragmentation needed and DF set: a code of Destination Unreachable (RFC 792).
const V4_FRAGMENTATION_NEEDED: u8 = 4;
const V4_UNREACHABLE: u8 = 3;
const V4_TIME_EXCEEDED: u8 = 11;
const V4_PARAMETER_PROBLEM: u8 = 12;
const V6_UNREACHABLE: u8 = 1;
const V6_PACKET_TOO_BIG: u8 = 2;
const V6_TIME_EXCEEDED: u8 = 3;
const V6_PARAMETER_PROBLEM: u8 = 4;

/// ICMPv4 echo, type of the request.
pub const V4_ECHO_REQUEST: u8 = 8;
/// ICMPv4 echo, type of the reply.
pub const V4_ECHO_REPLY: u8 = 0;
/// ICMPv6 echo, type of the request.
pub const V6_ECHO_REQUEST: u8 = 128;
/// ICMPv6 echo, type of the reply.
pub const V6_ECHO_REPLY: u8 = 129;

/// An ICMPv4 message, as far as a translator tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmpv4 {
    /// Type 8.
    EchoRequest,
    /// Type 0.
    EchoReply,
    /// A message that quotes the packet it is about, and can be translated.
    Error(Icmpv4Error),
    /// Any other type.
    Other,
}

/// An ICMPv4 error message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmpv4Error {
    /// Type 3, but for code 4.
    Unreachable {
        /// RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1.
        code: u8,
    },
    /// Type 3 code 4: fragmentation needed and DF set.
    FragmentationNeeded {
        /// MTU of the next hop, in octets (RFC 1191 section 4); zero from routers that do not say.
        mtu: u16,
    },
    /// Type 11.
    TimeExceeded {
        /// 0: in transit, 1: in reassembly.
        code: u8,
    },
    /// Type 12.
    ParameterProblem {
        /// 0: see the pointer, 1: an option is missing, 2: bad length.
        code: u8,
        /// The octet of the quoted packet that is wrong.
        pointer: u8,
    },
}

/// An ICMPv6 message, as far as a translator tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmpv6 {
    /// Type 128.
    EchoRequest,
    /// Type 129.
    EchoReply,
    /// A message that quotes the packet it is about.
    Error(Icmpv6Error),
    /// Any other type.
    Other,
}

/// An ICMPv6 error message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmpv6Error {
    /// Type 1.
    Unreachable {
        /// RFC 4443 section 3.1.
        code: u8,
    },
    /// Type 2.
    PacketTooBig {
        /// MTU of the next hop, in octets.
        mtu: u32,
    },
    /// Type 3.
    TimeExceeded {
        /// 0: in transit, 1: in reassembly.
        code: u8,
    },
    /// Type 4.
    ParameterProblem {
        /// 0: erroneous header field, 1: unrecognized next header, 2: unrecognized option.
        code: u8,
        /// The octet of the quoted packet that is wrong.
        pointer: u32,
    },
}

impl Icmpv4 {
    /// Reads the header of a message.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let header: &[u8; HEADER_LEN] = message.first_chunk().ok_or(Malformed::Truncated)?;
        let code = header[CODE_AT];
        Ok(match header[TYPE_AT] {
            V4_ECHO_REQUEST => Self::EchoRequest,
            V4_ECHO_REPLY => Self::EchoReply,
            V4_UNREACHABLE if code == V4_FRAGMENTATION_NEEDED => {
                let mtu = [header[V4_MTU_AT], header[V4_MTU_AT + 1]];
                Self::Error(Icmpv4Error::FragmentationNeeded {
                    mtu: u16::from_be_bytes(mtu),
                })
            }
            V4_UNREACHABLE => Self::Error(Icmpv4Error::Unreachable { code }),
            V4_TIME_EXCEEDED => Self::Error(Icmpv4Error::TimeExceeded { code }),
            V4_PARAMETER_PROBLEM => Self::Error(Icmpv4Error::ParameterProblem {
                code,
                pointer: header[V4_POINTER_AT],
            }),
            _ => Self::Other,
        })
    }
}

impl Icmpv6 {
    /// Reads the header of a message.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let header: &[u8; HEADER_LEN] = message.first_chunk().ok_or(Malformed::Truncated)?;
        let [kind, code, _, _, mtu_or_pointer @ ..] = *header;
        let mtu_or_pointer = u32::from_be_bytes(mtu_or_pointer);
        Ok(match kind {
            V6_ECHO_REQUEST => Self::EchoRequest,
            V6_ECHO_REPLY => Self::EchoReply,
            V6_UNREACHABLE => Self::Error(Icmpv6Error::Unreachable { code }),
            V6_PACKET_TOO_BIG => Self::Error(Icmpv6Error::PacketTooBig {
                mtu: mtu_or_pointer,
            }),
            V6_TIME_EXCEEDED => Self::Error(Icmpv6Error::TimeExceeded { code }),
            V6_PARAMETER_PROBLEM => Self::Error(Icmpv6Error::ParameterProblem {
                code,
                pointer: mtu_or_pointer,
            }),
            _ => Self::Other,
        })
    }
}

impl Icmpv4Error {
    /// The header, its checksum zero. `quoted_len` is the length of the quoted datagram if an
    /// extension follows it, in octets, else 0.
    pub fn octets(self, quoted_len: usize) -> [u8; HEADER_LEN] {
        let mut octets = [0; HEADER_LEN];
        octets[V4_LENGTH_AT] = (quoted_len / Self::LENGTH_UNIT) as u8;
        (octets[TYPE_AT], octets[CODE_AT]) = match self {
            Self::Unreachable { code } => (V4_UNREACHABLE, code),
            Self::FragmentationNeeded { mtu } => {
                put_u16(&mut octets, V4_MTU_AT, mtu);
                (V4_UNREACHABLE, V4_FRAGMENTATION_NEEDED)
            }
            Self::TimeExceeded { code } => (V4_TIME_EXCEEDED, code),
            Self::ParameterProblem { code, pointer } => {
                octets[V4_POINTER_AT] = pointer;
                (V4_PARAMETER_PROBLEM, code)
            }
        };
        octets
    }

    /// Unit of the length attribute, in octets (RFC 4884 section 5.1).
    pub const LENGTH_UNIT: usize = 4;

    /// The quote that follows the header of this message: all its types are extensible (RFC 4884
    /// section 4).
    pub fn quote(message: &[u8]) -> Quote<'_> {
        let header_len = |datagram| Ok(Ipv4Packet::parse_quoted(datagram)?.header_len());
        Quote::split(message, V4_LENGTH_AT, Self::LENGTH_UNIT, header_len)
    }
}

impl Icmpv6Error {
    /// The header, its checksum zero. `quoted_len` is the length of the quoted datagram if an
    /// extension follows it, in octets, else 0; only extensible messages have one.
    pub fn octets(self, quoted_len: usize) -> [u8; HEADER_LEN] {
        let mut octets = [0; HEADER_LEN];
        (octets[TYPE_AT], octets[CODE_AT]) = match self {
            Self::Unreachable { code } => (V6_UNREACHABLE, code),
            Self::PacketTooBig { .. } => (V6_PACKET_TOO_BIG, 0),
            Self::TimeExceeded { code } => (V6_TIME_EXCEEDED, code),
            Self::ParameterProblem { code, .. } => (V6_PARAMETER_PROBLEM, code),
        };
        match self {
            Self::Unreachable { .. } | Self::TimeExceeded { .. } => {
                octets[V6_LENGTH_AT] = (quoted_len / Self::LENGTH_UNIT) as u8;
            }
            Self::PacketTooBig { mtu: number }
            | Self::ParameterProblem {
                pointer: number, ..
            } => {
                octets[V6_MTU_OR_POINTER_AT..].copy_from_slice(&number.to_be_bytes());
            }
        }
        octets
    }

    /// Unit of the length attribute, in octets (RFC 4884 section 5.2).
    pub const LENGTH_UNIT: usize = 8;

    /// Whether an extension may follow the quoted datagram (RFC 4884 section 4).
    pub fn is_extensible(self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimeExceeded { .. })
    }

    /// The quote that follows the header of this message.
    pub fn quote(self, message: &[u8]) -> Quote<'_> {
        if self.is_extensible() {
            let header_len = |datagram| {
                let upper = Ipv6Packet::parse_quoted(datagram)?.upper_layer()?;
                Ok(upper.offset)
            };
            Quote::split(message, V6_LENGTH_AT, Self::LENGTH_UNIT, header_len)
        } else {
            Quote {
                datagram: &message[HEADER_LEN..],
                extension: None,
            }
        }
    }
}

/// The quote in an error message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    /// Beginning of the packet that the error is about; padded with zeros where an extension
    /// follows.
    pub datagram: &'a [u8],
    /// The extension structure, with its header (RFC 4884 section 7).
    pub extension: Option<&'a [u8]>,
}

impl<'a> Quote<'a> {
    /// Splits what follows the header of `message`, which is at least a header long, by the length
    /// attribute in its octet `length_at`, which counts in `unit` octets.
    ///
    /// - Zero: all of it is the datagram. Messages of senders that do not know of extensions are
    ///   not guessed at (RFC 4884 section 5.5).
    /// - At least 128 octets, and room for a structure behind them: that is the extension,
    ///   whatever its version, and opaque (RFC 7915 sections 4.2 and 5.2).
    /// - Below 128 octets, against RFC 4884 section 4, as some routers send it: the structure is
    ///   either where the attribute says or, behind padding, at 128 octets, if there is proof of
    ///   one.
    /// - Past the end of the message, or too near for a structure: there is no extension, but a
    ///   structure of which there is proof behind 128 octets is not part of the datagram.
    ///
    /// Without proof, the datagram ends where the attribute says: what is behind may be an
    /// extension, whose octets must not pass as octets of the datagram. Only the IP header, of the
    /// length that `header_len` reads, and the 8 octets that every sender quotes behind it
    /// (RFC 792) are never cut off: the message would be lost for an attribute that is wrong.
    fn split(
        message: &'a [u8],
        length_at: usize,
        unit: usize,
        header_len: impl Fn(&'a [u8]) -> Result<usize, Malformed>,
    ) -> Self {
        let body = &message[HEADER_LEN..];
        let stated = usize::from(message[length_at]) * unit;
        if stated == 0 {
            return Self::without_extension(body, body.len());
        }
        if stated >= MIN_EXTENDED_QUOTE && stated + icmp_extension::HEADER_LEN <= body.len() {
            let (datagram, extension) = body.split_at(stated);
            return Self {
                datagram,
                extension: Some(extension),
            };
        }
        let found = [stated, MIN_EXTENDED_QUOTE].into_iter().find_map(|at| {
            let (datagram, rest) = body.split_at_checked(at)?;
            icmp_extension::is_proven(rest).then_some((datagram, rest))
        });
        let end = stated.max(header_len(body).unwrap_or(0) + 8);
        let Some((datagram, extension)) = found else {
            return Self::without_extension(body, end);
        };
        let is_padding = |rest: &[u8]| rest.iter().all(|&octet| octet == 0);
        Self {
            datagram: match datagram.split_at_checked(end) {
                // Padding that is known to be some is not translated, but made anew.
                Some((quoted, padding)) if is_padding(padding) => quoted,
                _ => datagram,
            },
            extension: (stated < MIN_EXTENDED_QUOTE).then_some(extension),
        }
    }

    /// At most the first `len` octets of `body` are the datagram, and there is no extension.
    fn without_extension(body: &'a [u8], len: usize) -> Self {
        Self {
            datagram: &body[..len.min(body.len())],
            extension: None,
        }
    }
}

/// Writes the checksum of a message. `pseudo` is the pseudo-header of an ICMPv6 message, else zero.
pub fn put_checksum(octets: &mut [u8], pseudo: Sum) {
    put_u16(octets, CHECKSUM_AT, 0);
    let checksum = (Sum::of(octets) + pseudo).checksum();
    put_u16(octets, CHECKSUM_AT, checksum);
}

/// Changes the type of a message, and replaces `removed` by `added` in the other octets that its
/// checksum covers. Of a message that is cut off before its checksum (in a quoted packet), only the
/// type changes.
pub fn replace_type(message: &mut [u8], kind: u8, removed: Sum, added: Sum) {
    let Some(first) = message.get_mut(TYPE_AT) else {
        return;
    };
    let removed = removed + Sum::word(u16::from(*first) << 8);
    let added = added + Sum::word(u16::from(kind) << 8);
    *first = kind;
    if let Some(old) = u16_at(message, CHECKSUM_AT) {
        let new = checksum::update(old, removed, added);
        put_u16(message, CHECKSUM_AT, new);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    #[test]
    fn written_errors_are_read_back() {
        for error in [
            Icmpv4Error::Unreachable { code: 13 },
            Icmpv4Error::FragmentationNeeded { mtu: 1480 },
            Icmpv4Error::TimeExceeded { code: 1 },
            Icmpv4Error::ParameterProblem {
                code: 0,
                pointer: 255,
            },
        ] {
            assert_eq!(
                Icmpv4::parse(&error.octets(128)).unwrap(),
                Icmpv4::Error(error)
            );
        }
        for error in [
            Icmpv6Error::Unreachable { code: 5 },
            Icmpv6Error::PacketTooBig { mtu: 0xfffe_fdfc },
            Icmpv6Error::TimeExceeded { code: 0 },
            Icmpv6Error::ParameterProblem {
                code: 0,
                pointer: 0xffff_fff0,
            },
        ] {
            assert_eq!(
                Icmpv6::parse(&error.octets(0)).unwrap(),
                Icmpv6::Error(error)
            );
        }
    }

    #[test]
    fn short_messages_are_refused() {
        for len in 0..8 {
            assert_eq!(Icmpv4::parse(&[0; 8][..len]), Err(Malformed::Truncated));
            assert_eq!(Icmpv6::parse(&[1; 8][..len]), Err(Malformed::Truncated));
        }
    }

    /// RFC 4884 sections 5.1 and 5.2.
    #[test]
    fn length_attributes_have_their_place_and_unit() {
        assert_eq!(
            Icmpv4Error::TimeExceeded { code: 0 }.octets(128),
            [11, 0, 0, 0, 0, 32, 0, 0]
        );
        assert_eq!(
            Icmpv6Error::TimeExceeded { code: 0 }.octets(128),
            [3, 0, 0, 0, 16, 0, 0, 0]
        );
    }

    fn extended(length: u8, extension: &[u8]) -> Vec<u8> {
        [
            [11, 0, 0, 0, 0, length, 0, 0].as_slice(),
            &[0x45; 128],
            extension,
        ]
        .concat()
    }

    #[test]
    fn extension_is_split_off_where_the_length_attribute_says() {
        let message = extended(32, &[0x20, 0, 0, 0, 0, 4, 1, 1]);
        let quote = Icmpv4Error::quote(&message);
        assert_eq!(
            (quote.datagram.len(), quote.extension.unwrap().len()),
            (128, 8)
        );
    }

    /// The same with a checksum.
    fn summed<const N: usize>(mut extension: [u8; N]) -> [u8; N] {
        icmp_extension::put_checksum(&mut extension);
        extension
    }

    /// RFC 4884 section 5.4: a length attribute of zero alone says that there is none.
    #[test]
    fn extension_of_any_version_is_opaque() {
        for version in 0..16 {
            let extension = [version << 4, 0xa5, 0xa5, 0xa5, 0xa5];
            let message = extended(32, &extension);
            let quote = Icmpv4Error::quote(&message);
            assert_eq!(quote.datagram.len(), 128, "version {version}");
            assert_eq!(quote.extension, Some(&extension[..]), "version {version}");
        }
    }

    /// Some routers send an extension behind a quoted datagram of less than 128 octets.
    #[test]
    fn extension_is_looked_for_where_the_length_attribute_is_too_small() {
        let extension = summed([0x20, 0, 0, 0, 0, 8, 1, 1, 0, 1, 2, 3]);
        for length in 1..32 {
            let at = usize::from(length) * 4;
            let direct = [
                &[11, 0, 0, 0, 0, length, 0, 0],
                &[0x45; 128][..at],
                &extension,
            ]
            .concat();
            let quote = Icmpv4Error::quote(&direct);
            assert_eq!(quote.extension, Some(&extension[..]), "length {length}");
            assert_eq!(quote.datagram.len(), at, "length {length}");

            let padded = extended(length, &extension);
            let quote = Icmpv4Error::quote(&padded);
            assert_eq!(quote.extension, Some(&extension[..]), "length {length}");
            assert_eq!(quote.datagram.len(), 128, "length {length}");
        }
        for length in 1..16 {
            let at = usize::from(length) * 8;
            for quoted in [at, 128] {
                let mut datagram = vec![0x60; quoted];
                datagram[6] = 17;
                let header = [3, 0, 0, 0, length, 0, 0, 0];
                let message = [&header[..], &datagram, &extension].concat();
                let quote = Icmpv6Error::TimeExceeded { code: 0 }.quote(&message);
                assert_eq!(quote.extension, Some(&extension[..]), "length {length}");
                assert_eq!(quote.datagram.len(), quoted, "length {length}");
            }
        }
    }

    /// RFC 4884 section 4: padding must not be taken for a checksum that is to be updated.
    #[test]
    fn padding_is_no_part_of_the_datagram_where_the_length_attribute_tells_it() {
        let extension = summed([0x20, 0, 0, 0, 0, 8, 1, 1, 0, 1, 2, 3]);
        for (length, octet, expected) in [(7, 0, 28), (17, 0, 68), (1, 0, 28), (7, 1, 128)] {
            let mut message = extended(length, &extension);
            message[8 + 28..8 + 128].fill(octet);
            let quote = Icmpv4Error::quote(&message);
            assert_eq!(quote.datagram.len(), expected, "{length}, {octet}");
            assert_eq!(quote.extension, Some(&extension[..]), "{length}, {octet}");
        }
    }

    /// A guess needs proof, and octets that may be an extension are not part of the datagram.
    #[test]
    fn without_proof_the_datagram_ends_where_the_length_attribute_says() {
        let right = summed([0x20, 0, 0, 0, 0, 8, 1, 1, 0, 1, 2, 3]);
        let (mut wrong, mut none, mut version) = (right, right, right);
        wrong[11] ^= 1;
        none[2..4].fill(0);
        version[0] = 0x10;
        let version = summed(version);
        for extension in [wrong, none, version] {
            for length in 1..32 {
                // An IP header and 8 octets are quoted by all.
                let expected = (usize::from(length) * 4).max(28);
                let message = extended(length, &extension);
                let quote = Icmpv4Error::quote(&message);
                assert_eq!(quote.extension, None, "length {length}");
                assert_eq!(quote.datagram.len(), expected, "length {length}");
            }
            for length in 1..16 {
                // A Fragment header counts as part of the IP header.
                for (next_header, shortest) in [(17, 48), (44, 56)] {
                    let mut datagram = [0x60; 128];
                    datagram[6] = next_header;
                    let header = [3, 0, 0, 0, length, 0, 0, 0];
                    let message = [&header[..], &datagram, &extension].concat();
                    let quote = Icmpv6Error::TimeExceeded { code: 0 }.quote(&message);
                    assert_eq!(quote.extension, None, "length {length}");
                    let expected = (usize::from(length) * 8).max(shortest);
                    assert_eq!(quote.datagram.len(), expected, "length {length}");
                }
            }
        }
    }

    /// RFC 4884 sections 4 and 5.5.
    #[test]
    fn length_attributes_that_leave_no_room_say_that_there_is_no_extension() {
        let whole = summed([0x20, 0, 0, 0, 0, 8, 1, 1, 0, 1, 2, 3]);
        for (length, extension, expected) in [
            (0, &whole[..], 140),    // no extension
            (32, &whole[..0], 128),  // nothing behind
            (32, &whole[..3], 128),  // no room for an extension header
            (33, &whole[..3], 131),  // past the end
            (255, &whole[..8], 136), // likewise
            (255, &whole[..], 128),  // likewise, but what is there is proven
        ] {
            let message = extended(length, extension);
            let quote = Icmpv4Error::quote(&message);
            assert_eq!(quote.extension, None, "{length}, {extension:?}");
            assert_eq!(quote.datagram.len(), expected, "{length}, {extension:?}");
        }
        let message = [
            [2, 0, 0, 0, 16, 0, 0, 0].as_slice(),
            &[0x60; 128],
            &[0x20, 0, 0, 0],
        ]
        .concat();
        assert_eq!(
            Icmpv6Error::PacketTooBig { mtu: 0x1000_0000 }
                .quote(&message)
                .extension,
            None,
            "not extensible"
        );
    }

    #[test]
    fn a_type_is_changed_with_its_checksum_if_that_is_there() {
        let mut message = [8, 0, 0, 0, 0x12, 0x34, 0, 1, 0xa5];
        put_checksum(&mut message, Sum::default());
        replace_type(&mut message, 128, Sum::default(), Sum::word(0x4321));
        assert_eq!(message[0], 128);
        assert!((Sum::of(&message) + Sum::word(0x4321)).verifies());
        let mut cut = [8, 0, 0xa5];
        replace_type(&mut cut, 128, Sum::default(), Sum::default());
        assert_eq!(cut, [128, 0, 0xa5]);
        replace_type(&mut [], 128, Sum::default(), Sum::default());
    }
}
