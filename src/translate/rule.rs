//! The rule by which a packet is dropped: a document, and the section that decides.

use std::fmt;

use serde::Serialize;

use super::{Direction, DropReason};
use crate::wire::Malformed;

/// A rule: where it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Rule {
    /// The document, as `RFC 7915`, or a manual page of xlatd, as `tayga.conf(5)`.
    pub document: &'static str,
    /// The number of its section, as `5.1`; of a manual page, the name of the section or directive.
    pub section: &'static str,
}

impl Rule {
    const fn new(document: &'static str, section: &'static str) -> Self {
        Self { document, section }
    }
}

impl fmt::Display for Rule {
    /// `RFC 7915 section 5.1`, `dynamic-pool in tayga.conf(5)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { document, section } = self;
        if section.starts_with(|first: char| first.is_ascii_digit()) {
            write!(f, "{document} section {section}")
        } else {
            write!(f, "{section} in {document}")
        }
    }
}

impl DropReason {
    /// The rule by which a packet of a direction is dropped; `None` for one of neither family.
    pub fn rule(self, direction: Option<Direction>) -> Rule {
        let (four_to_six, six_to_four) = self.rules();
        match direction {
            Some(Direction::SixToFour) => six_to_four,
            Some(Direction::FourToSix) | None => four_to_six,
        }
    }

    /// The rules of both directions: IPv4 to IPv6, and IPv6 to IPv4. A reason of one direction only
    /// has the same rule twice.
    fn rules(self) -> (Rule, Rule) {
        match self {
            Self::Malformed(malformed) => rules_of_format(malformed),
            Self::FragmentLength => (Rule::new("RFC 791", "3.2"), Rule::new("RFC 8200", "4.5")),
            // The checksum in the header must be updated.
            Self::TransportTruncated => rfc7915("4.5", "5.5"),
            // The checksum is calculated anew, which would make a wrong one right.
            Self::IcmpChecksum | Self::IcmpType => rfc7915("4.2", "5.2"),
            Self::IllegalAddress | Self::HopLimit | Self::Protocol => rfc7915("4.1", "5.1"),
            Self::NoDestination | Self::NoSource => (
                Rule::new("RFC 7757", "3.3.1"),
                Rule::new("RFC 7757", "3.3.2"),
            ),
            Self::PoolFull => both("tayga.conf(5)", "dynamic-pool"),
            Self::WkpfStrict => both("RFC 6052", "3.1"),
            Self::SpoofedSource => both("RFC 6052", "5.1"),
            Self::SourceRoute => both("RFC 7915", "4.1"),
            Self::RoutingHeader => both("RFC 7915", "5.1"),
            Self::HeaderAfterFragment => both("RFC 7915", "5.1.1"),
            Self::FragmentedIcmp => both("RFC 7915", "1.2"),
            Self::QuotedPacket => rfc7915("4.3", "5.3"),
            Self::UdpChecksum | Self::UdpFragmentChecksum => {
                (Rule::new("RFC 7915", "4.5"), Rule::new("RFC 8200", "8.1"))
            }
            Self::TooBig => rfc7915("4", "5"),
            // A protocol that the destination does not have.
            Self::OwnAddress => (Rule::new("RFC 1122", "3.2.2.1"), Rule::new("RFC 8200", "4")),
            Self::EchoLimit => both("xlatd(8)", "SECURITY"),
            Self::Hairpin => both("RFC 7757", "4"),
            Self::NextHop => both("RFC 4861", "7.2.2"),
        }
    }
}

/// The rules about formats of packets.
fn rules_of_format(malformed: Malformed) -> (Rule, Rule) {
    match malformed {
        Malformed::Truncated | Malformed::Length | Malformed::Version => {
            (Rule::new("RFC 1812", "5.2.2"), Rule::new("RFC 8200", "3"))
        }
        Malformed::HeaderChecksum => both("RFC 1812", "5.2.2"),
        Malformed::Options => both("RFC 791", "3.1"),
        Malformed::ExtensionHeaders => both("RFC 8200", "4"),
        // The header that the kernel puts before a packet.
        Malformed::Offload => both("VIRTIO 1.2", "5.1.6"),
    }
}

/// One rule for both directions.
const fn both(document: &'static str, section: &'static str) -> (Rule, Rule) {
    let rule = Rule::new(document, section);
    (rule, rule)
}

/// The sections of RFC 7915, in which section 5 mirrors section 4.
const fn rfc7915(four_to_six: &'static str, six_to_four: &'static str) -> (Rule, Rule) {
    (
        Rule::new("RFC 7915", four_to_six),
        Rule::new("RFC 7915", six_to_four),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_named_as_it_is_cited() {
        for (rule, cited) in [
            (Rule::new("RFC 7915", "5.1"), "RFC 7915 section 5.1"),
            (
                Rule::new("tayga.conf(5)", "dynamic-pool"),
                "dynamic-pool in tayga.conf(5)",
            ),
        ] {
            assert_eq!(rule.to_string(), cited);
        }
    }

    /// Section 4 of RFC 7915 is about IPv4 to IPv6, and section 5 about IPv6 to IPv4.
    #[test]
    fn a_section_of_rfc_7915_is_that_of_the_direction() {
        let mut mirrored = 0;
        for &reason in DropReason::ALL {
            let rules = [Direction::FourToSix, Direction::SixToFour]
                .map(|direction| reason.rule(Some(direction)));
            assert_eq!(reason.rule(None), rules[0], "{reason}");
            if rules[0] != rules[1] && rules.iter().all(|rule| rule.document == "RFC 7915") {
                let [four, six] = rules.map(|rule| rule.section);
                assert_eq!(six, four.replacen('4', "5", 1), "{reason}");
                assert!(four.starts_with('4'), "{reason}");
                mirrored += 1;
            }
        }
        assert_eq!(mirrored, 8);
    }
}
