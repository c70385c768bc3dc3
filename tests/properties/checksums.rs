//! Checksums of every protocol that has one, in packets that are passed on (RFC 7915 sections 4.5,
//! 5.5).
//!
//! That they are as right or as wrong as they were is checked in `judge`; here is what has to be
//! passed on.

use proptest::prelude::*;
use xlatd::translate::{DropReason, Reply, UdpChecksum};

use crate::{
    cases,
    given::{Answer, World, contents, mapped_picks, sane_worlds},
    judge,
    plain::{self, Ip, UDP},
};

proptest! {
    #![proptest_config(cases())]

    /// X46-35, X46-38, X64-24, G-07: every whole packet between hosts that have a mapping is passed
    /// on, unless it is too big and may not be fragmented, or is UDP without a checksum while that
    /// is not wanted.
    #[test]
    fn whole_packets(
        world in sane_worlds(),
        content in contents(65535),
        v6: bool,
        (source, destination) in (mapped_picks(), mapped_picks()),
    ) {
        let (source, destination) = (source.of(&world, v6), destination.of(&world, v6));
        let packet = content.packet(source, destination);
        let given = plain::read(&packet).unwrap();
        let answer = judge::send(&world, &mut world.node(1), &packet)?;
        if content.without_checksum && world.settings.udp_checksum == UdpChecksum::Drop {
            prop_assert!(is_drop(&answer, DropReason::UdpChecksum), "{answer:?}");
        } else if is_too_big(&world, &given) {
            prop_assert!(is_too_big_answer(&answer), "{answer:?}");
        } else {
            let whole = answer.put_together()?;
            let expected = match plain::checksum_at(given.protocol) {
                None => None,
                Some(_) if content.without_checksum => {
                    (world.settings.udp_checksum == UdpChecksum::Calculate).then_some(0)
                }
                Some(_) => plain::transport_residue(&given),
            };
            prop_assert_eq!(plain::transport_residue(&whole), expected);
            if content.wrong_by == 0 && !content.without_checksum {
                prop_assert!(expected.is_none_or(|residue| residue == 0));
            }
        }
    }

    /// RFC 768, X46-35: whatever the sum comes to, the field of UDP is never zero. Every sum
    /// occurs.
    #[test]
    fn udp_checksums_of_every_value(
        world in sane_worlds(),
        content in contents(0),
        v6: bool,
        (source, destination) in (mapped_picks(), mapped_picks()),
    ) {
        let (source, destination) = (source.of(&world, v6), destination.of(&world, v6));
        let [there, back] = [(source, destination), (destination, source)]
            .map(|(source, destination)| {
                let across = |address| world.across(address).unwrap();
                plain::addresses(across(source), across(destination))
            });
        prop_assert_eq!(there, back);
        // The word that makes the sum of the translation zero.
        let content = crate::given::Content {
            protocol: UDP, len: 10, wrong_by: 0, without_checksum: false, ..content
        };
        let mut payload = content.payload(source, destination);
        payload[8..].fill(0);
        let len = plain::residue(&[&payload[..6]]) + 10 + 17;
        let word = 0xffff - (there + len) % 0xffff;
        payload[8..].copy_from_slice(&(word as u16).to_be_bytes());
        plain::seal(source, destination, UDP, &mut payload);
        let packet = content.around(source, destination, None, &payload);
        let made = judge::send(&world, &mut world.node(1), &packet)?.put_together()?;
        prop_assert_eq!(plain::u16_at(&made.payload, 6), 0xffff);
    }
}

fn is_drop(answer: &Answer, reason: DropReason) -> bool {
    matches!(answer, Answer::Drop(why, _) if *why == reason)
}

/// Whether a whole packet must not be cut, and does not fit.
pub(crate) fn is_too_big(world: &World, given: &Ip) -> bool {
    let mtu = usize::from(world.settings.mtu);
    if given.is_v6() {
        let len = 20 + given.stated_len;
        // What IPv4 cannot say is too big also in a fragment.
        len > 65535 || (!given.fragment_header && len > 1260 && len > mtu)
    } else {
        let fragment_header = if given.is_fragment() { 8 } else { 0 };
        given.dont_fragment && 40 + fragment_header + given.stated_len > mtu
    }
}

/// The error for the sender, or silence where there are none.
pub(crate) fn is_too_big_answer(answer: &Answer) -> bool {
    is_drop(answer, DropReason::TooBig)
        || matches!(answer, Answer::Reply(Reply::Error(DropReason::TooBig), _))
}
