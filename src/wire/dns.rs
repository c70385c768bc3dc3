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

/// Most aliases (CNAME) that are followed from [`NAME`]; a loop has more.
pub const MAX_ALIASES: usize = 8;

/// A query for the AAAA of [`NAME`], or of a name that it is an alias of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    id: u16,
    name: Name<'static>,
    /// Number of aliases that may still be followed.
    aliases_left: usize,
    /// The shortest lifetime of the aliases that led here, in seconds.
    ttl: u32,
}

/// What the response to a [`Query`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The answer.
    Answer(Answer),
    /// The name is an alias, and this query is for the addresses, which are not in the response.
    Alias(Query),
    /// The answer is too long for this transport (RFC 2181 section 9).
    Truncated,
}

/// The answer of a name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Addresses of the name, and the shortest of their lifetimes.
    Addresses(Vec<Ipv6Addr>, Duration),
    /// The name has none: there is no DNS64.
    None,
    /// The server failed or refused (SERVFAIL, REFUSED ...), or its answer is of no use.
    Failed,
}

impl Query {
    /// The query for [`NAME`] with this identifier.
    pub fn new(id: u16) -> Self {
        Self {
            id,
            name: Name::new_unchecked(NAME),
            aliases_left: MAX_ALIASES,
            ttl: u32::MAX,
        }
    }

    /// Its message, with recursion, and with CD=0: a DNS64 does not synthesise addresses for a
    /// resolver that validates by itself (RFC 7050 section 3).
    pub fn message(&self) -> Vec<u8> {
        let mut packet = Packet::new_query(self.id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(
            self.name.clone(),
            QTYPE::TYPE(TYPE::AAAA),
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        packet.build_bytes_vec().unwrap_or_default() // writing to memory does not fail
    }

    /// Reads the response to this query. `None` if it is none: another id, no response, another
    /// question, not DNS.
    pub fn response(&self, octets: &[u8]) -> Option<Response> {
        let question_only = without_records(octets);
        let packet = Packet::parse(&question_only).ok()?;
        let [question] = packet.questions.as_slice() else {
            return None;
        };
        let is_ours = packet.id() == self.id
            && packet.has_flags(PacketFlag::RESPONSE)
            && is_same(&question.qname, &self.name)
            && question.qtype == QTYPE::TYPE(TYPE::AAAA)
            && question.qclass == QCLASS::CLASS(CLASS::IN);
        if !is_ours {
            return None;
        }
        if packet.has_flags(PacketFlag::TRUNCATION) {
            return Some(Response::Truncated);
        }
        match packet.rcode() {
            RCODE::NoError => self.follow(&Packet::parse(octets).ok()?),
            RCODE::NameError => Some(Response::Answer(Answer::None)),
            _ => Some(Response::Answer(Answer::Failed)),
        }
    }

    /// Follows the aliases of the name to addresses, which are those of the last one (RFC 1034
    /// section 3.6.2).
    fn follow(&self, packet: &Packet<'_>) -> Option<Response> {
        let mut at = self.clone();
        while let Some((target, ttl)) = alias(packet, &at.name) {
            let Some(left) = at.aliases_left.checked_sub(1) else {
                return Some(Response::Answer(Answer::Failed));
            };
            at = Self {
                id: at.id,
                name: target.clone().into_owned(),
                aliases_left: left,
                ttl: at.ttl.min(ttl),
            };
        }
        let mut addresses = Vec::new();
        let mut shortest = at.ttl;
        for record in &packet.answers {
            if is_same(&record.name, &at.name)
                && record.class == CLASS::IN
                && let RData::AAAA(address) = &record.rdata
                && addresses.len() < MAX_ADDRESSES
            {
                addresses.push(Ipv6Addr::from(address.address));
                shortest = shortest.min(record.ttl);
            }
        }
        Some(if !addresses.is_empty() {
            let ttl = Duration::from_secs(shortest.into());
            Response::Answer(Answer::Addresses(addresses, ttl))
        } else if at == *self {
            Response::Answer(Answer::None)
        } else {
            Response::Alias(at)
        })
    }
}

/// The name that another one is an alias of, and the lifetime of that in seconds.
fn alias<'a>(packet: &'a Packet<'a>, name: &Name<'_>) -> Option<(&'a Name<'a>, u32)> {
    packet.answers.iter().find_map(|record| {
        let is_its = is_same(&record.name, name) && record.class == CLASS::IN;
        match &record.rdata {
            RData::CNAME(target) if is_its => Some((&target.0, record.ttl)),
            _ => None,
        }
    })
}

/// A message without the records behind its question, of which a truncated one may have parts.
fn without_records(octets: &[u8]) -> Vec<u8> {
    const COUNTS: std::ops::Range<usize> = 6..12; // of answers, authorities and additional records
    let mut octets = octets.to_vec();
    if let Some(counts) = octets.get_mut(COUNTS) {
        counts.fill(0);
    }
    octets
}

/// Whether two names are the same (RFC 4343).
fn is_same(one: &Name<'_>, other: &Name<'_>) -> bool {
    let mut labels = one.as_bytes().zip(other.as_bytes());
    one.get_labels().len() == other.get_labels().len()
        && labels.all(|(one, other)| one.eq_ignore_ascii_case(other))
}

/// A message as it is sent by TCP: behind its length, in 2 octets (RFC 1035 section 4.2.2).
pub fn for_stream(message: &[u8]) -> Vec<u8> {
    let len = u16::try_from(message.len()).unwrap_or(u16::MAX); // a query has 271 octets at most
    [&len.to_be_bytes(), message].concat()
}

/// The first message in octets that were received by TCP, once all of it is there.
pub fn in_stream(octets: &[u8]) -> Option<&[u8]> {
    let (len, message) = octets.split_first_chunk()?;
    message.get(..u16::from_be_bytes(*len).into())
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

    fn cname(name: &[u8], ttl: u32, target: &[u8]) -> Vec<u8> {
        record(name, 5, ttl, target)
    }

    const OK: u16 = 0x8180;
    const TRUNCATED: u16 = OK | 0x0200;

    fn read(octets: &[u8]) -> Option<Response> {
        Query::new(0x1234).response(octets)
    }

    fn answer(octets: &[u8]) -> Option<Answer> {
        read(octets).map(|response| match response {
            Response::Answer(answer) => answer,
            other => panic!("{other:?}"),
        })
    }

    fn addresses(of: &[&str], ttl: u64) -> Option<Answer> {
        let addresses = of.iter().map(|one| one.parse().unwrap()).collect();
        Some(Answer::Addresses(addresses, Duration::from_secs(ttl)))
    }

    /// RFC 7050 section 3: an absolute name, recursion desired, CD=0.
    #[test]
    fn the_query_is_that_of_rfc_7050() {
        let expected = [
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00",
            QUESTION,
        ]
        .concat();
        assert_eq!(Query::new(0x1234).message(), expected);
    }

    #[test]
    fn addresses_are_read_with_the_shortest_lifetime() {
        let octets = response(
            OK,
            QUESTION,
            &[aaaa("64:ff9b::c000:aa", 600), aaaa("64:ff9b::c000:ab", 300)],
        );
        let expected = addresses(&["64:ff9b::c000:aa", "64:ff9b::c000:ab"], 300);
        assert_eq!(answer(&octets), expected);
        let upper = QUESTION.to_ascii_uppercase();
        let octets = response(OK, &upper, &[aaaa("64:ff9b::c000:aa", 600)]);
        assert_eq!(answer(&octets), addresses(&["64:ff9b::c000:aa"], 600));
        let many = vec![aaaa("64:ff9b::c000:aa", 600); 1000];
        match answer(&response(OK, QUESTION, &many)) {
            Some(Answer::Addresses(addresses, _)) => assert_eq!(addresses.len(), MAX_ADDRESSES),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_dns64_differs_from_no_answer() {
        assert_eq!(answer(&response(OK, QUESTION, &[])), Some(Answer::None));
        for (rcode, expected) in [(3, Answer::None), (2, Answer::Failed), (5, Answer::Failed)] {
            let octets = response(OK | rcode, QUESTION, &[]);
            assert_eq!(answer(&octets), Some(expected));
        }
    }

    /// RFC 2181 section 9: what is in it does not count, and it may end anywhere behind the
    /// question.
    #[test]
    fn a_truncated_answer_is_none() {
        let octets = response(TRUNCATED, QUESTION, &[aaaa("64:ff9b::c000:aa", 600)]);
        let end_of_question = 12 + QUESTION.len();
        for len in end_of_question..=octets.len() {
            assert_eq!(read(&octets[..len]), Some(Response::Truncated), "{len}");
        }
        assert_eq!(read(&octets[..end_of_question - 1]), None);
    }

    #[test]
    fn a_message_that_does_not_match_the_query_is_ignored() {
        let octets = response(OK, QUESTION, &[aaaa("64:ff9b::c000:aa", 600)]);
        assert_eq!(Query::new(0x1235).response(&octets), None, "another id");
        assert_eq!(read(&octets[..octets.len() - 1]), None, "cut");
        let query = response(0x0100, QUESTION, &[]);
        assert_eq!(read(&query), None, "a question");
        for other in [
            &b"\x08ipv4only\x03com\x00\x00\x1c\x00\x01"[..],
            b"\x08ipv4only\x00\x00\x1c\x00\x01",
            b"\x08ipv4only\x04arpa\x00\x00\x01\x00\x01",
        ] {
            assert_eq!(read(&response(OK, other, &[])), None);
            assert_eq!(read(&response(TRUNCATED, other, &[])), None);
        }
    }

    /// RFC 1034 section 3.6.2: the addresses are those at the end of a chain of aliases, in
    /// whatever order the records stand. Others do not count.
    #[test]
    fn aliases_lead_to_addresses() {
        let address: Ipv6Addr = "64:ff9b::c000:aa".parse().unwrap();
        let other: Ipv6Addr = "2001:db8:bad::c000:aa".parse().unwrap();
        let octets = response(
            OK,
            QUESTION,
            &[
                record(b"\x01B\x00", 28, 600, &address.octets()),
                record(b"\x01c\x00", 28, 600, &other.octets()),
                cname(b"\x01a\x00", 200, b"\x01b\x00"),
                cname(&[0xc0, 12], 300, b"\x01A\x00"),
            ],
        );
        assert_eq!(answer(&octets), addresses(&["64:ff9b::c000:aa"], 200));
    }

    /// A server that does not follow them itself is asked for the rest of the chain. The lifetime
    /// is also the shortest then.
    #[test]
    fn the_rest_of_a_chain_is_another_query() {
        let chain = [cname(&[0xc0, 12], 300, b"\x01a\x00")];
        let Some(Response::Alias(next)) = read(&response(OK, QUESTION, &chain)) else {
            panic!("no alias");
        };
        let question = b"\x01a\x00\x00\x1c\x00\x01";
        assert!(next.message().ends_with(question));
        assert_eq!(next.response(&response(OK, QUESTION, &[])), None);
        let octets = response(OK, question, &[aaaa("64:ff9b::c000:aa", 600)]);
        let expected = addresses(&["64:ff9b::c000:aa"], 300).map(Response::Answer);
        assert_eq!(next.response(&octets), expected);
        let octets = response(OK, question, &[]);
        assert_eq!(next.response(&octets), Some(Response::Answer(Answer::None)));
    }

    /// Within a message, and from one to the next.
    #[test]
    fn a_loop_of_aliases_ends() {
        let own = cname(&[0xc0, 12], 300, &[0xc0, 12]);
        assert_eq!(
            answer(&response(OK, QUESTION, &[own])),
            Some(Answer::Failed)
        );
        let mut query = Query::new(0x1234);
        for left in (0..MAX_ALIASES).rev() {
            let names = [b"\x01a\x00", b"\x01b\x00"];
            let target: &[u8] = names[left % 2];
            let octets = response(
                OK,
                &query.message()[12..],
                &[cname(&[0xc0, 12], 300, target)],
            );
            match query.response(&octets) {
                Some(Response::Alias(next)) => query = next,
                other => panic!("{left}: {other:?}"),
            }
        }
        let octets = response(
            OK,
            &query.message()[12..],
            &[cname(&[0xc0, 12], 300, b"\x01b\x00")],
        );
        let failed = Some(Response::Answer(Answer::Failed));
        assert_eq!(query.response(&octets), failed);
    }

    /// RFC 1035 section 4.2.2: two octets of length, also of a message in pieces.
    #[test]
    fn messages_in_a_stream_have_their_length() {
        let message = Query::new(0x1234).message();
        let stream = for_stream(&message);
        assert_eq!(stream[..2], [0, 31]);
        for len in 0..stream.len() {
            assert_eq!(in_stream(&stream[..len]), None);
        }
        assert_eq!(in_stream(&[&*stream, b"more"].concat()), Some(&*message));
        assert_eq!(in_stream(&[0, 0]), Some(&[][..]));
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in vec(any::<u8>(), 0..200)) {
            let _ = (read(&octets), in_stream(&octets));
            let _ = read(&[&[0x12, 0x34, 0x81, 0x80], &*octets].concat());
        }

        /// Whatever is behind our question, and whatever is asked then.
        #[test]
        fn any_records_are_read_or_refused(counts in any::<[u8; 3]>(),
                                           octets in vec(any::<u8>(), 0..200)) {
            let mut message = response(OK, QUESTION, &[]);
            for (at, count) in counts.into_iter().enumerate() {
                message[7 + 2 * at] = count % 4;
            }
            message.extend(octets);
            if let Some(Response::Alias(query)) = read(&message) {
                prop_assert!(query.message().len() <= 271);
            }
        }
    }
}
