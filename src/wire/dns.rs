//! The DNS query of RFC 7050 (section 3) and its answer. `simple-dns` knows the format (RFC 1035
//! section 4).

use std::{net::Ipv6Addr, time::Duration};

use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, rdata::RData,
};

/// The name whose only IPv6 addresses are those that a DNS64 synthesises (RFC 7050 section 8.2).
pub const NAME: &str = "ipv4only.arpa";

/// Most addresses that are taken from an answer.
pub const MAX_ADDRESSES: usize = 16;

/// The answer of a name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Addresses of the name, and the shortest of their lifetimes.
    Addresses(Vec<Ipv6Addr>, Duration),
    /// The name has none: there is no DNS64.
    None,
    /// The server failed or refused (SERVFAIL, REFUSED ...), or its answer was truncated.
    Failed,
}

/// The query for AAAA of [`NAME`], with recursion, and with CD=0: a DNS64 does not synthesise
/// addresses for a resolver that validates by itself (RFC 7050 section 3).
pub fn query(id: u16) -> Vec<u8> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new_unchecked(NAME),
        QTYPE::TYPE(TYPE::AAAA),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet.build_bytes_vec().unwrap_or_default() // always the same, and short
}

/// Reads the answer to the query with this `id`. `None` if it is none: another id, no response,
/// another question, not DNS.
pub fn answer(octets: &[u8], id: u16) -> Option<Answer> {
    let packet = Packet::parse(octets).ok()?;
    let [question] = packet.questions.as_slice() else {
        return None;
    };
    let is_ours = packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && is_name(&question.qname)
        && question.qtype == QTYPE::TYPE(TYPE::AAAA)
        && question.qclass == QCLASS::CLASS(CLASS::IN);
    if !is_ours {
        return None;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Some(Answer::Failed);
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Some(Answer::None),
        _ => return Some(Answer::Failed),
    }
    let mut addresses = Vec::new();
    let mut shortest = u32::MAX;
    for record in &packet.answers {
        // Aliases are not followed: synthesised addresses belong to the name itself.
        if is_name(&record.name)
            && record.class == CLASS::IN
            && let RData::AAAA(address) = &record.rdata
            && addresses.len() < MAX_ADDRESSES
        {
            addresses.push(Ipv6Addr::from(address.address));
            shortest = shortest.min(record.ttl);
        }
    }
    Some(if addresses.is_empty() {
        Answer::None
    } else {
        Answer::Addresses(addresses, Duration::from_secs(shortest.into()))
    })
}

fn is_name(name: &Name) -> bool {
    name.to_string().eq_ignore_ascii_case(NAME)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// The question as it is on the wire (RFC 1035 section 4.1).
    const QUESTION: &[u8] = b"\x08ipv4only\x04arpa\x00\x00\x1c\x00\x01";

    fn response(flags: u16, question: &[u8], answers: &[Vec<u8>]) -> Vec<u8> {
        let counts = [1, answers.len() as u16, 0, 0];
        let mut octets = vec![0x12, 0x34];
        octets.extend(flags.to_be_bytes());
        octets.extend(counts.map(u16::to_be_bytes).as_flattened());
        octets.extend(question);
        octets.extend(answers.concat());
        octets
    }

    fn record(name: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
        let len = data.len() as u16;
        [
            name,
            &kind.to_be_bytes(),
            &[0, 1],
            &ttl.to_be_bytes(),
            &len.to_be_bytes(),
            data,
        ]
        .concat()
    }

    fn aaaa(address: &str, ttl: u32) -> Vec<u8> {
        let address: Ipv6Addr = address.parse().unwrap();
        record(&[0xc0, 12], 28, ttl, &address.octets())
    }

    const OK: u16 = 0x8180;

    /// RFC 7050 section 3: an absolute name, recursion desired, CD=0.
    #[test]
    fn the_query_is_that_of_rfc_7050() {
        let expected = [
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00",
            QUESTION,
        ]
        .concat();
        assert_eq!(query(0x1234), expected);
    }

    #[test]
    fn addresses_are_read_with_the_shortest_lifetime() {
        let octets = response(
            OK,
            QUESTION,
            &[aaaa("64:ff9b::c000:aa", 600), aaaa("64:ff9b::c000:ab", 300)],
        );
        let addresses = ["64:ff9b::c000:aa", "64:ff9b::c000:ab"].map(|one| one.parse().unwrap());
        let expected = Answer::Addresses(addresses.into(), Duration::from_secs(300));
        assert_eq!(answer(&octets, 0x1234), Some(expected));
        let upper = QUESTION.to_ascii_uppercase();
        let octets = response(OK, &upper, &[aaaa("64:ff9b::c000:aa", 600)]);
        assert!(matches!(
            answer(&octets, 0x1234),
            Some(Answer::Addresses(..))
        ));
    }

    #[test]
    fn no_dns64_differs_from_no_answer() {
        assert_eq!(
            answer(&response(OK, QUESTION, &[]), 0x1234),
            Some(Answer::None)
        );
        for (rcode, expected) in [(3, Answer::None), (2, Answer::Failed), (5, Answer::Failed)] {
            let octets = response(OK | rcode, QUESTION, &[]);
            assert_eq!(answer(&octets, 0x1234), Some(expected));
        }
        let cut = response(OK | 0x0200, QUESTION, &[]);
        assert_eq!(answer(&cut, 0x1234), Some(Answer::Failed));
    }

    #[test]
    fn a_message_that_does_not_match_the_query_is_ignored() {
        let octets = response(OK, QUESTION, &[aaaa("64:ff9b::c000:aa", 600)]);
        assert_eq!(answer(&octets, 0x1235), None, "another id");
        assert_eq!(answer(&octets[..octets.len() - 1], 0x1234), None, "cut");
        let query = response(0x0100, QUESTION, &[]);
        assert_eq!(answer(&query, 0x1234), None, "a question");
        let other = b"\x08ipv4only\x03com\x00\x00\x1c\x00\x01";
        assert_eq!(answer(&response(OK, other, &[]), 0x1234), None);
        let other = b"\x08ipv4only\x04arpa\x00\x00\x01\x00\x01";
        assert_eq!(answer(&response(OK, other, &[]), 0x1234), None);
    }

    /// A chain of aliases leads to the addresses of another name.
    #[test]
    fn addresses_of_other_names_are_left_out() {
        let target = b"\x04evil\x00";
        let address: Ipv6Addr = "2001:db8:bad::c000:aa".parse().unwrap();
        let octets = response(
            OK,
            QUESTION,
            &[
                record(&[0xc0, 12], 5, 600, target),
                record(target, 28, 600, &address.octets()),
            ],
        );
        assert_eq!(answer(&octets, 0x1234), Some(Answer::None));
        let many = vec![aaaa("64:ff9b::c000:aa", 600); 1000];
        match answer(&response(OK, QUESTION, &many), 0x1234) {
            Some(Answer::Addresses(addresses, _)) => assert_eq!(addresses.len(), MAX_ADDRESSES),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in vec(any::<u8>(), 0..200)) {
            let _ = answer(&octets, 0x1234);
            let _ = answer(&[&[0x12, 0x34, 0x81, 0x80], &*octets].concat(), 0x1234);
        }
    }
}
