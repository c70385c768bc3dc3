//! IP prefixes of both families, and their only parser.

use std::{
    fmt,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An address of one family, as a row of bits.
pub trait Address: Copy + Ord + Hash + fmt::Debug + fmt::Display + FromStr {
    /// The length of an address, in bits.
    const LENGTH: u8;
    /// An unsigned number of as many bits.
    type Number: Copy + Eq;

    /// The first `length` bits, as a number; `length` is at most [`LENGTH`](Self::LENGTH).
    fn first_bits(self, length: u8) -> Self::Number;
    /// The address that begins with the `length` bits of a number; all other bits are zero.
    fn from_first_bits(number: Self::Number, length: u8) -> Self;
    /// This address with every bit after the first `length` set.
    fn with_host_bits(self, length: u8) -> Self;
}

macro_rules! address {
    ($address:ty, $number:ty) => {
        // A shift by all bits is not a shift to Rust; what it would leave is 0.
        impl Address for $address {
            const LENGTH: u8 = <$number>::BITS as u8;
            type Number = $number;

            fn first_bits(self, length: u8) -> $number {
                let host_bits = u32::from(Self::LENGTH - length);
                self.to_bits().checked_shr(host_bits).unwrap_or(0)
            }

            fn from_first_bits(number: $number, length: u8) -> Self {
                let host_bits = u32::from(Self::LENGTH - length);
                Self::from_bits(number.checked_shl(host_bits).unwrap_or(0))
            }

            fn with_host_bits(self, length: u8) -> Self {
                let host_bits = <$number>::MAX.checked_shr(length.into()).unwrap_or(0);
                Self::from_bits(self.to_bits() | host_bits)
            }
        }
    };
}

address!(Ipv4Addr, u32);
address!(Ipv6Addr, u128);

/// A prefix without host bits.
///
/// As text it is `192.0.2.0/24` ([RFC 4632 section 3.1]) or `2001:db8::/32` ([RFC 4291 section
/// 2.3]); an address alone reads as the prefix of this one host. Prefixes sort by address, a
/// shorter one before those in it.
///
/// [RFC 4632 section 3.1]: https://www.rfc-editor.org/rfc/rfc4632#section-3.1
/// [RFC 4291 section 2.3]: https://www.rfc-editor.org/rfc/rfc4291#section-2.3
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix<A> {
    address: A,
    length: u8,
}

/// An IPv4 prefix without host bits.
pub type Prefix4 = Prefix<Ipv4Addr>;
/// An IPv6 prefix without host bits.
pub type Prefix6 = Prefix<Ipv6Addr>;

impl<A: Address> Prefix<A> {
    /// `address/length`; an error if `length` is too long, or a bit of `address` after it is set.
    pub fn new(address: A, length: u8) -> Result<Self, PrefixError> {
        if length > A::LENGTH {
            return Err(PrefixError::Length);
        }
        let prefix = Self::around(address, length);
        if prefix.address != address {
            return Err(PrefixError::HostBits);
        }
        Ok(prefix)
    }

    /// The prefix of this length that `address` is in. A length that is too long counts as the
    /// longest.
    pub fn around(address: A, length: u8) -> Self {
        let length = length.min(A::LENGTH);
        Self::from_first_bits(address.first_bits(length), length)
    }

    /// The prefix of one address: a /32 or a /128.
    pub const fn host(address: A) -> Self {
        let length = A::LENGTH;
        Self { address, length }
    }

    /// The prefix whose `length` bits are this number.
    pub(super) fn from_first_bits(number: A::Number, length: u8) -> Self {
        let address = A::from_first_bits(number, length);
        Self { address, length }
    }

    /// The first address.
    pub const fn address(&self) -> A {
        self.address
    }

    /// In bits.
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// The last address.
    pub fn last(&self) -> A {
        self.address.with_host_bits(self.length)
    }

    /// Whether `address` begins with this prefix.
    pub fn contains(&self, address: A) -> bool {
        address.first_bits(self.length) == self.address.first_bits(self.length)
    }
}

impl<A: fmt::Display> fmt::Display for Prefix<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl<A: Address> FromStr for Prefix<A> {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = parse(text)?;
        Self::new(address, length)
    }
}

/// An address with a prefix length, of either family; host bits may be set (`tun-ip`, `tun-route`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpPrefix {
    /// `192.0.2.1/24`; the length is 0 to 32 bits.
    V4(Ipv4Addr, u8),
    /// `2001:db8::1/64`; the length is 0 to 128 bits.
    V6(Ipv6Addr, u8),
}

impl IpPrefix {
    /// The address.
    pub const fn address(self) -> IpAddr {
        match self {
            Self::V4(address, _) => IpAddr::V4(address),
            Self::V6(address, _) => IpAddr::V6(address),
        }
    }

    /// The prefix length, in bits.
    pub const fn length(self) -> u8 {
        match self {
            Self::V4(_, length) | Self::V6(_, length) => length,
        }
    }

    /// The same without host bits. A length that is too long counts as the longest.
    pub fn network(self) -> Self {
        match self {
            Self::V4(address, length) => Self::V4(Prefix::around(address, length).address, length),
            Self::V6(address, length) => Self::V6(Prefix::around(address, length).address, length),
        }
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.length())
    }
}

impl FromStr for IpPrefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        match parse(text) {
            Err(PrefixError::NotAnAddress) => parse(text).map(|(v6, length)| Self::V6(v6, length)),
            v4 => v4.map(|(v4, length)| Self::V4(v4, length)),
        }
    }
}

/// Why a text, or an address and a length, is not a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// The text is no address of this family.
    NotAnAddress,
    /// The length is not a number, or too long for the family.
    Length,
    /// The length is a number with a sign or leading zeros.
    Spelling {
        /// The number, in bits.
        length: u8,
    },
    /// Bits after the prefix length are set.
    HostBits,
}

/// Reads `address/length`, or an address alone, whose length is the longest. Host bits may be set.
pub(crate) fn parse<A: Address>(text: &str) -> Result<(A, u8), PrefixError> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address = address.parse().map_err(|_| PrefixError::NotAnAddress)?;
    let Some(text) = length else {
        return Ok((address, A::LENGTH));
    };
    match (text.parse(), decimal(text)) {
        (Ok(length), _) if length > A::LENGTH => Err(PrefixError::Length),
        (_, Some(length)) => Ok((address, length)),
        (Ok(length), None) => Err(PrefixError::Spelling { length }),
        (Err(_), None) => Err(PrefixError::Length),
    }
}

/// A decimal number without a sign or leading zeros. Stricter than [`FromStr`]: `+8` and `08` are
/// more likely mistakes than numbers, and programs that read numbers as C does take 010 for 8.
pub(crate) fn decimal<N: FromStr>(text: &str) -> Option<N> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let padded = text.len() > 1 && text.starts_with('0');
    text.parse().ok().filter(|_| digits && !padded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use proptest::prelude::*;

    use super::*;

    /// A plain mask, bit by bit.
    fn first_bits_equal(a: &[u8], b: &[u8], length: u8) -> bool {
        (0..usize::from(length)).all(|bit| {
            let mask = 0x80 >> (bit % 8);
            a[bit / 8] & mask == b[bit / 8] & mask
        })
    }

    proptest! {
        #[test]
        fn every_length_masks_right_v4(a: u32, flip in 0..33_u32) {
            let a = Ipv4Addr::from_bits(a);
            // Differs in one bit, or with 32 in none.
            let b = Ipv4Addr::from_bits(a.to_bits() ^ 1_u32.checked_shl(flip).unwrap_or(0));
            for length in 0..=32 {
                let network = (0..u32::from(length))
                    .fold(0, |sum, bit| sum | (a.to_bits() & (1 << (31 - bit))));
                let prefix = Prefix4::new(Ipv4Addr::from_bits(network), length).unwrap();
                prop_assert!(prefix.contains(a));
                let same = first_bits_equal(&a.octets(), &b.octets(), length);
                prop_assert_eq!(prefix.contains(b), same);
                // It takes the address itself exactly if no host bit is set.
                prop_assert_eq!(Prefix4::new(a, length).is_ok(), network == a.to_bits());
                prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
            }
        }

        #[test]
        fn every_length_masks_right_v6(a: u128, flip in 0..129_u32) {
            let a = Ipv6Addr::from_bits(a);
            let b = Ipv6Addr::from_bits(a.to_bits() ^ 1_u128.checked_shl(flip).unwrap_or(0));
            for length in 0..=128 {
                let network = (0..u32::from(length))
                    .fold(0, |sum, bit| sum | (a.to_bits() & (1 << (127 - bit))));
                let prefix = Prefix6::new(Ipv6Addr::from_bits(network), length).unwrap();
                prop_assert!(prefix.contains(a));
                let same = first_bits_equal(&a.octets(), &b.octets(), length);
                prop_assert_eq!(prefix.contains(b), same);
                prop_assert_eq!(Prefix6::new(a, length).is_ok(), network == a.to_bits());
                prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text: String, length in "[0-9/+ -]{0,5}") {
            for text in [text, format!("0.0.0.0/{length}"), format!("::/{length}")] {
                // What is read is written as it was, but for other spellings of an IPv6 address.
                if let Ok(prefix) = text.parse::<Prefix4>() {
                    prop_assert!(prefix.to_string().starts_with(&text));
                }
                if let Ok(prefix) = text.parse::<Prefix6>() {
                    let length = format!("/{}", prefix.length());
                    prop_assert!(text.ends_with(&length) || !text.contains('/'));
                }
            }
        }
    }

    /// The lengths at which a mask shifts by nothing, and by all.
    #[test]
    fn first_and_last_length() {
        let everyone: Prefix4 = "0.0.0.0/0".parse().unwrap();
        assert!(everyone.contains(Ipv4Addr::BROADCAST) && everyone.contains(Ipv4Addr::UNSPECIFIED));
        let one: Prefix4 = "192.0.2.1/32".parse().unwrap();
        assert!(one.contains(one.address()) && !one.contains(Ipv4Addr::new(192, 0, 2, 0)));
        assert_eq!(one, Prefix4::host(one.address()));

        let everyone: Prefix6 = "::/0".parse().unwrap();
        assert!(everyone.contains(Ipv6Addr::from_bits(u128::MAX)));
        let one: Prefix6 = "2001:db8::1/128".parse().unwrap();
        assert!(one.contains(one.address()) && !one.contains("2001:db8::".parse().unwrap()));
        assert_eq!(one, Prefix6::host(one.address()));
    }

    #[test]
    fn an_address_alone_is_a_host() {
        assert_eq!(
            "192.0.2.1".parse(),
            Ok(Prefix4::host([192, 0, 2, 1].into()))
        );
        assert_eq!("::1".parse(), Ok(Prefix6::host(Ipv6Addr::LOCALHOST)));
        assert_eq!(
            Prefix4::host([192, 0, 2, 1].into()).to_string(),
            "192.0.2.1/32"
        );
        assert_eq!(Prefix6::host(Ipv6Addr::LOCALHOST).to_string(), "::1/128");
    }

    #[test]
    fn bad_texts_are_refused_with_the_reason() {
        use PrefixError::{HostBits, Length, NotAnAddress, Spelling};
        for (text, error) in [
            ("", NotAnAddress),
            ("/", NotAnAddress),
            ("/24", NotAnAddress),
            ("192.0.2/24", NotAnAddress),
            ("192.0.2.256/24", NotAnAddress),
            ("192.0.2.010/32", NotAnAddress),
            (" 192.0.2.1", NotAnAddress),
            ("::/33", NotAnAddress),
            ("192.0.2.0/", Length),
            ("192.0.2.0/-1", Length),
            ("192.0.2.0/33", Length),
            ("192.0.2.0/033", Length),
            ("192.0.2.0/280", Length),
            ("192.0.2.0/24/24", Length),
            ("192.0.2.0/ 24", Length),
            ("192.0.2.0/٢٤", Length),
            ("192.0.2.0/255.255.255.0", Length),
            ("192.0.2.0/+8", Spelling { length: 8 }),
            ("192.0.2.0/024", Spelling { length: 24 }),
            ("192.0.2.0/00", Spelling { length: 0 }),
            ("10.0.0.1/8", HostBits),
            ("0.0.0.1/0", HostBits),
        ] {
            assert_eq!(text.parse::<Prefix4>(), Err(error), "{text:?}");
        }
        for (text, error) in [
            ("", NotAnAddress),
            ("/", NotAnAddress),
            ("192.0.2.0/24", NotAnAddress),
            ("2001:db8::%eth0/64", NotAnAddress),
            ("[2001:db8::]/64", NotAnAddress),
            ("2001:db8::/", Length),
            ("2001:db8::/129", Length),
            ("2001:db8::/256", Length),
            ("2001:db8::/+64", Spelling { length: 64 }),
            ("2001:db8::/064", Spelling { length: 64 }),
            ("2001:db8::1/127", HostBits),
        ] {
            assert_eq!(text.parse::<Prefix6>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn new_checks_the_length_too() {
        let v4 = Prefix4::new(Ipv4Addr::UNSPECIFIED, 33);
        assert_eq!(v4, Err(PrefixError::Length));
        let v6 = Prefix6::new(Ipv6Addr::UNSPECIFIED, 255);
        assert_eq!(v6, Err(PrefixError::Length));
    }

    #[test]
    fn host_bits_are_cut_at_every_length() {
        for length in 0..=128_u8 {
            let v4 = Prefix4::around(Ipv4Addr::BROADCAST, length);
            let v6 = Prefix6::around(Ipv6Addr::from_bits(u128::MAX), length);
            let v4_bits = v4.address().to_bits();
            let v6_bits = v6.address().to_bits();
            assert_eq!(v4.length(), length.min(32));
            assert_eq!(v4_bits.leading_ones(), u32::from(v4.length()));
            assert_eq!(v4_bits.count_ones(), u32::from(v4.length()));
            assert_eq!(v6_bits.leading_ones(), u32::from(length));
            assert_eq!(v6_bits.count_ones(), u32::from(length));
        }
    }

    /// Addresses of a device keep their host bits; routes lose them.
    #[test]
    fn a_prefix_of_either_family_may_have_host_bits() {
        for (text, network) in [
            ("192.0.2.1/24", "192.0.2.0/24"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("2001:db8::1/64", "2001:db8::/64"),
            ("::1", "::1/128"),
        ] {
            let prefix: IpPrefix = text.parse().unwrap();
            assert!(prefix.to_string().starts_with(text));
            assert_eq!(prefix.network().to_string(), network);
        }
        for (text, error) in [
            ("nat64", PrefixError::NotAnAddress),
            ("192.0.2.1/33", PrefixError::Length),
            ("::1/064", PrefixError::Spelling { length: 64 }),
        ] {
            assert_eq!(text.parse::<IpPrefix>(), Err(error), "{text}");
        }
    }
}
