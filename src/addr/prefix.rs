//! Prefixes of both families.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An IPv4 prefix without host bits.
///
/// As text it is `192.0.2.0/24` ([RFC 4632 section 3.1](https://www.rfc-editor.org/rfc/rfc4632#section-3.1)); an
/// address alone reads as the prefix of this one host. Prefixes sort by address, a shorter one before those in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix4 {
    address: Ipv4Addr,
    length: u8,
}

impl Prefix4 {
    /// `address/length`; an error if `length` is over 32, or a bit of `address` after it is set.
    pub fn new(address: Ipv4Addr, length: u8) -> Result<Self, PrefixError> {
        if length > 32 {
            return Err(PrefixError::Length { max: 32 });
        }
        let prefix = Self::from_network(network4(address, length), length);
        if prefix.address != address {
            return Err(PrefixError::HostBits {
                address: address.into(),
                network: prefix.address.into(),
                length,
            });
        }
        Ok(prefix)
    }

    /// The prefix of one address, a /32.
    pub const fn host(address: Ipv4Addr) -> Self {
        Self {
            address,
            length: 32,
        }
    }

    /// The prefix whose first `length` bits are the number `network`, as [`network4`] gives it.
    pub(super) fn from_network(network: u32, length: u8) -> Self {
        let bits = network.checked_shl(u32::from(32 - length)).unwrap_or(0);
        Self {
            address: Ipv4Addr::from_bits(bits),
            length,
        }
    }

    /// The first address.
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// In bits, 0 to 32.
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// The last address.
    pub fn last(&self) -> Ipv4Addr {
        let host_bits = u32::MAX.checked_shr(self.length.into()).unwrap_or(0);
        Ipv4Addr::from_bits(self.address.to_bits() | host_bits)
    }

    /// Whether `address` begins with this prefix.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        network4(address, self.length) == network4(self.address, self.length)
    }
}

impl fmt::Display for Prefix4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix4 {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = split(text, 32)?;
        let address = address.parse().map_err(|_| PrefixError::NotIpv4)?;
        Self::new(address, length?)
    }
}

/// An IPv6 prefix without host bits.
///
/// As text it is `2001:db8::/32` ([RFC 4291 section 2.3](https://www.rfc-editor.org/rfc/rfc4291#section-2.3)); an
/// address alone reads as the prefix of this one host. Prefixes sort by address, a shorter one before those in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix6 {
    address: Ipv6Addr,
    length: u8,
}

impl Prefix6 {
    /// `address/length`; an error if `length` is over 128, or a bit of `address` after it is set.
    pub fn new(address: Ipv6Addr, length: u8) -> Result<Self, PrefixError> {
        if length > 128 {
            return Err(PrefixError::Length { max: 128 });
        }
        let prefix = Self::from_network(network6(address, length), length);
        if prefix.address != address {
            return Err(PrefixError::HostBits {
                address: address.into(),
                network: prefix.address.into(),
                length,
            });
        }
        Ok(prefix)
    }

    /// The prefix of one address, a /128.
    pub const fn host(address: Ipv6Addr) -> Self {
        Self {
            address,
            length: 128,
        }
    }

    /// The prefix whose first `length` bits are the number `network`, as [`network6`] gives it.
    pub(super) fn from_network(network: u128, length: u8) -> Self {
        let bits = network.checked_shl(u32::from(128 - length)).unwrap_or(0);
        Self {
            address: Ipv6Addr::from_bits(bits),
            length,
        }
    }

    /// The first address.
    pub const fn address(&self) -> Ipv6Addr {
        self.address
    }

    /// In bits, 0 to 128.
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// The last address.
    pub fn last(&self) -> Ipv6Addr {
        let host_bits = u128::MAX.checked_shr(self.length.into()).unwrap_or(0);
        Ipv6Addr::from_bits(self.address.to_bits() | host_bits)
    }

    /// Whether `address` begins with this prefix.
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        network6(address, self.length) == network6(self.address, self.length)
    }
}

impl fmt::Display for Prefix6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix6 {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = split(text, 128)?;
        let address = address.parse().map_err(|_| PrefixError::NotIpv6)?;
        Self::new(address, length?)
    }
}

/// Why a text, or an address and a length, is not a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// What should be an IPv4 address is none.
    NotIpv4,
    /// What should be an IPv6 address is none.
    NotIpv6,
    /// The length is not a decimal number from 0 to `max`.
    Length {
        /// In bits, 32 or 128.
        max: u8,
    },
    /// Bits after the prefix length are set.
    HostBits {
        /// As given.
        address: IpAddr,
        /// `address` without the host bits.
        network: IpAddr,
        /// In bits, as given.
        length: u8,
    },
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotIpv4 => f.write_str("not an IPv4 address"),
            Self::NotIpv6 => f.write_str("not an IPv6 address"),
            Self::Length { max } => {
                write!(f, "the prefix length is not a number from 0 to {max}")
            }
            Self::HostBits {
                address,
                network,
                length,
            } => write!(
                f,
                "host bits are set: {address}/{length} would be {network}/{length}"
            ),
        }
    }
}

impl std::error::Error for PrefixError {}

/// The first `length` bits of `address`, as a number; `length` is 0 to 32.
pub(super) fn network4(address: Ipv4Addr, length: u8) -> u32 {
    // A shift by all 32 bits (length 0) is not a shift to Rust; what it would leave is 0.
    address
        .to_bits()
        .checked_shr(u32::from(32 - length))
        .unwrap_or(0)
}

/// The first `length` bits of `address`, as a number; `length` is 0 to 128.
pub(super) fn network6(address: Ipv6Addr, length: u8) -> u128 {
    address
        .to_bits()
        .checked_shr(u32::from(128 - length))
        .unwrap_or(0)
}

/// `address/length`, or `address` with the length `max`. A wrong length is returned apart from the address, so that
/// the caller can complain of the address first.
fn split(text: &str, max: u8) -> Result<(&str, Result<u8, PrefixError>), PrefixError> {
    Ok(match text.split_once('/') {
        None => (text, Ok(max)),
        Some((address, length)) => (address, parse_length(length, max)),
    })
}

fn parse_length(text: &str, max: u8) -> Result<u8, PrefixError> {
    decimal(text)
        .filter(|length| *length <= max)
        .ok_or(PrefixError::Length { max })
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
        /// SEC-04
        #[test]
        fn sec_04_every_length_masks_right_v4(a: u32, flip in 0..33_u32) {
            let a = Ipv4Addr::from_bits(a);
            // Differs in one bit, or with 32 in none.
            let b = Ipv4Addr::from_bits(a.to_bits() ^ 1_u32.checked_shl(flip).unwrap_or(0));
            for length in 0..=32 {
                let network = (0..u32::from(length))
                    .fold(0, |sum, bit| sum | (a.to_bits() & (1 << (31 - bit))));
                let prefix = Prefix4::new(Ipv4Addr::from_bits(network), length).unwrap();
                prop_assert!(prefix.contains(a));
                prop_assert_eq!(prefix.contains(b), first_bits_equal(&a.octets(), &b.octets(), length));
                // It takes the address itself exactly if no host bit is set.
                prop_assert_eq!(Prefix4::new(a, length).is_ok(), network == a.to_bits());
                prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
            }
        }

        /// SEC-04
        #[test]
        fn sec_04_every_length_masks_right_v6(a: u128, flip in 0..129_u32) {
            let a = Ipv6Addr::from_bits(a);
            let b = Ipv6Addr::from_bits(a.to_bits() ^ 1_u128.checked_shl(flip).unwrap_or(0));
            for length in 0..=128 {
                let network = (0..u32::from(length))
                    .fold(0, |sum, bit| sum | (a.to_bits() & (1 << (127 - bit))));
                let prefix = Prefix6::new(Ipv6Addr::from_bits(network), length).unwrap();
                prop_assert!(prefix.contains(a));
                prop_assert_eq!(prefix.contains(b), first_bits_equal(&a.octets(), &b.octets(), length));
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

    /// SEC-04: the lengths at which a mask shifts by nothing, and by all.
    #[test]
    fn sec_04_first_and_last_length() {
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
        let not4 = "not an IPv4 address";
        let not6 = "not an IPv6 address";
        let to32 = "the prefix length is not a number from 0 to 32";
        let to128 = "the prefix length is not a number from 0 to 128";
        for (text, want) in [
            ("", not4),
            ("/", not4),
            ("/24", not4),
            ("192.0.2/24", not4),
            ("192.0.2.256/24", not4),
            ("192.0.2.010/32", not4),
            (" 192.0.2.1", not4),
            ("::/33", not4),
            ("192.0.2.0/", to32),
            ("192.0.2.0/+8", to32),
            ("192.0.2.0/-1", to32),
            ("192.0.2.0/024", to32),
            ("192.0.2.0/00", to32),
            ("192.0.2.0/33", to32),
            ("192.0.2.0/280", to32),
            ("192.0.2.0/24/24", to32),
            ("192.0.2.0/ 24", to32),
            ("192.0.2.0/٢٤", to32),
            ("192.0.2.0/255.255.255.0", to32),
            (
                "10.0.0.1/8",
                "host bits are set: 10.0.0.1/8 would be 10.0.0.0/8",
            ),
            (
                "0.0.0.1/0",
                "host bits are set: 0.0.0.1/0 would be 0.0.0.0/0",
            ),
        ] {
            let error = text.parse::<Prefix4>().unwrap_err();
            assert_eq!(error.to_string(), want, "{text:?}");
        }
        for (text, want) in [
            ("", not6),
            ("/", not6),
            ("192.0.2.0/24", not6),
            ("2001:db8::%eth0/64", not6),
            ("[2001:db8::]/64", not6),
            ("2001:db8::/", to128),
            ("2001:db8::/+64", to128),
            ("2001:db8::/064", to128),
            ("2001:db8::/129", to128),
            ("2001:db8::/256", to128),
            (
                "2001:db8::1/127",
                "host bits are set: 2001:db8::1/127 would be 2001:db8::/127",
            ),
        ] {
            let error = text.parse::<Prefix6>().unwrap_err();
            assert_eq!(error.to_string(), want, "{text:?}");
        }
    }

    #[test]
    fn new_checks_the_length_too() {
        assert_eq!(
            Prefix4::new(Ipv4Addr::UNSPECIFIED, 33),
            Err(PrefixError::Length { max: 32 })
        );
        assert_eq!(
            Prefix6::new(Ipv6Addr::UNSPECIFIED, 255),
            Err(PrefixError::Length { max: 128 })
        );
    }
}
