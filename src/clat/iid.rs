//! Interface identifiers: the CLAT addresses that can be formed in a network.

use std::{
    hash::Hasher,
    net::{Ipv4Addr, Ipv6Addr},
};

use siphasher::sip::SipHasher13;

use super::Settings;
use crate::{addr::Nat64Prefix, wire::checksum::Sum};

/// A stable address in a /64 (RFC 7217): the same each time for this machine, interface, network
/// and attempt. With `prefix` it is checksum-neutral (RFC 6052 section 4.1).
pub(super) fn stable(
    network: Ipv6Addr,
    settings: &Settings,
    mac: Option<[u8; 6]>,
    attempt: u32,
    prefix: Nat64Prefix,
) -> Ipv6Addr {
    // `device` is another one for each instance on this machine.
    let Settings {
        secret,
        device,
        host_v4,
        ..
    } = settings;
    // The octets are those that std's `Hash` of Rust 1.95 gave for this tuple on 64-bit machines.
    let mut hasher = SipHasher13::new();
    for text in ["xlatd clat", secret, device] {
        hasher.write(text.as_bytes());
        hasher.write(&[0xff]); // the end: never an octet of UTF-8
    }
    hasher.write(&network.octets());
    hasher.write(&u64::from(mac.is_some()).to_le_bytes());
    if let Some(mac) = mac {
        hasher.write(&6_u64.to_le_bytes());
        hasher.write(&mac);
    }
    hasher.write(&attempt.to_le_bytes());
    // The lowest 16 bits make it neutral.
    let address = network.to_bits() | u128::from(hasher.finish() & !0xffff);
    let octets = address.to_be_bytes();
    let there = Sum::of(&octets) + Sum::of(&prefix.embed(Ipv4Addr::UNSPECIFIED).octets());
    let rest = Sum::of(&host_v4.octets()) + Sum::word(!there.fold());
    (address | u128::from(rest.fold())).into()
}

/// The address that clatd derives from one with a modified EUI-64 (RFC 4291 appendix A).
pub(super) fn derived(address: Ipv6Addr) -> Option<Ipv6Addr> {
    let mut octets = address.octets();
    if octets[11..13] != [0xff, 0xfe] {
        return None;
    }
    octets[11..13].copy_from_slice(&[0xc1, 0xa7]);
    Some(octets.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::clat::prefix::nat64;

    /// RFC 7217 section 5: another one for another network, machine, device, interface and attempt.
    #[test]
    fn stable_addresses_are_stable_and_neutral() {
        let prefix = nat64("64:ff9b::".parse().unwrap(), 96).unwrap();
        let network: Ipv6Addr = "2001:db8:6::".parse().unwrap();
        let settings = Settings::default();
        let other_secret = Settings {
            secret: "b".to_owned(),
            ..Settings::default()
        };
        let other_device = Settings {
            device: "clat2".to_owned(),
            ..Settings::default()
        };
        let mac = Some([2, 0, 0, 0, 0, 1]);
        let one = stable(network, &settings, mac, 0, prefix);
        assert_eq!(one, stable(network, &settings, mac, 0, prefix));
        assert_eq!(one.to_bits() >> 64, network.to_bits() >> 64);
        let other: Ipv6Addr = "2001:db8:7::".parse().unwrap();
        for different in [
            stable(other, &settings, mac, 0, prefix),
            stable(network, &other_secret, mac, 0, prefix),
            stable(network, &other_device, mac, 0, prefix),
            stable(network, &settings, None, 0, prefix),
            stable(network, &settings, mac, 1, prefix),
        ] {
            assert_ne!(one.to_bits() as u64 >> 16, different.to_bits() as u64 >> 16);
        }
        let v4 = settings.host_v4;
        let far = Ipv4Addr::new(198, 51, 100, 7);
        let before = Sum::of(&v4.octets()) + Sum::of(&far.octets());
        let after = Sum::of(&one.octets()) + Sum::of(&prefix.embed(far).octets());
        assert_eq!(before.fold() % 0xffff, after.fold() % 0xffff);
    }

    /// Addresses chosen so far stay the same, with whatever toolchain and on whatever machine.
    #[test]
    fn stable_addresses_are_pinned() {
        let prefix = nat64("64:ff9b::".parse().unwrap(), 96).unwrap();
        let network: Ipv6Addr = "2001:db8:6::".parse().unwrap();
        let settings = Settings {
            secret: "0123456789abcdef0123456789abcdef".to_owned(),
            ..Settings::default()
        };
        let mac = Some([2, 0, 0, 0, 0, 1]);
        for (mac, attempt, expected) in [
            (mac, 0, "2001:db8:6:0:4b09:d010:77e3:ff44"),
            (mac, 1, "2001:db8:6:0:ac8:49dc:e571:582c"),
            (None, 0, "2001:db8:6:0:fa60:76d0:d4f3:4c1d"),
        ] {
            let address = stable(network, &settings, mac, attempt, prefix);
            assert_eq!(address.to_string(), expected);
        }
    }

    #[test]
    fn an_address_is_derived_as_by_clatd() {
        let made: Ipv6Addr = "2001:db8::5054:ff:fe12:3456".parse().unwrap();
        let address = derived(made).unwrap();
        assert_eq!(address.to_string(), "2001:db8::5054:c1:a712:3456");
        assert_eq!(derived(address), None);
    }
}
