//! The answers of several name servers to one question (RFC 7050 section 3).

use std::time::{Duration, Instant};

use super::event::{Event, Resolution};
use crate::wire::dns::{self, Answer, Query, Response};

/// The time that a server has to answer. One that leads to another query gets it once more.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The time after which no answer is awaited any more, however slowly servers go on.
const LIMIT: Duration = Duration::from_secs(6);

/// The transport of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// At first.
    Udp,
    /// Once an answer was truncated (RFC 7766 section 5).
    Tcp,
}

/// What is asked of one server.
#[derive(Clone, Debug)]
pub struct Inquiry {
    query: Query,
    transport: Transport,
}

/// What follows from the octets that a server has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The answer is still awaited.
    Awaited,
    /// The server is to be asked what the inquiry is now, by a new socket.
    AskAgain,
    /// The server has answered.
    Answered(Answer),
}

impl Inquiry {
    /// The first query, with this identifier.
    pub fn new(id: u16) -> Self {
        Self {
            query: Query::new(id),
            transport: Transport::Udp,
        }
    }

    /// How the server is to be asked.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The octets to send.
    pub fn octets(&self) -> Vec<u8> {
        let message = self.query.message();
        match self.transport {
            Transport::Udp => message,
            Transport::Tcp => dns::for_stream(&message),
        }
    }

    /// Reads a datagram, or all that has come by a connection. The socket is connected to the
    /// server, so that nothing from another source comes in; id and question are compared here.
    pub fn read(&mut self, octets: &[u8]) -> Reading {
        let response = match self.transport {
            // Another datagram may be the answer.
            Transport::Udp => match self.query.response(octets) {
                None => return Reading::Awaited,
                Some(response) => response,
            },
            Transport::Tcp => match dns::in_stream(octets) {
                None => return Reading::Awaited,
                Some(message) => match self.query.response(message) {
                    None | Some(Response::Truncated) => Response::Answer(Answer::Failed),
                    Some(response) => response,
                },
            },
        };
        match response {
            Response::Answer(answer) => return Reading::Answered(answer),
            Response::Truncated => self.transport = Transport::Tcp,
            Response::Alias(query) => self.query = query,
        }
        Reading::AskAgain
    }
}

/// The answers so far.
#[derive(Debug)]
pub struct Answers {
    link: u32,
    own: bool,
    /// Number of servers that have not answered yet.
    awaited: usize,
    best: Answer,
    deadline: Instant,
    limit: Instant,
}

impl Answers {
    /// No answers yet, of so many servers that are asked by a link; `own` as in [`Resolution`].
    pub fn new(link: u32, own: bool, servers: usize, now: Instant) -> Self {
        let best = match servers {
            0 => Answer::Failed,
            _ => Answer::None, // unless one says or does otherwise
        };
        Self {
            link,
            own,
            awaited: servers,
            best,
            deadline: now + TIMEOUT,
            limit: now + LIMIT,
        }
    }

    /// Takes the answer of a server, or that it failed if it cannot be reached.
    ///
    /// Addresses count before a failure, and a failure before none: that there is no DNS64 is so
    /// only if all servers say it. The first of a kind counts.
    pub fn put(&mut self, answer: Answer) {
        self.awaited = self.awaited.saturating_sub(1);
        if rank(&answer) > rank(&self.best) {
            self.best = answer;
        }
    }

    /// Takes notice that a server is asked again.
    pub fn asks_again(&mut self, now: Instant) {
        self.deadline = (now + TIMEOUT).min(self.limit);
    }

    /// The time at which servers that have not answered have failed.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The event to which the answers amount: addresses at once, anything else when no server is
    /// awaited, since another one may know more.
    pub fn outcome(&self, now: Instant) -> Option<Event> {
        let Self { link, own, .. } = *self;
        let (addresses, ttl) = match &self.best {
            Answer::Addresses(addresses, ttl) => (addresses.clone(), *ttl),
            _ if self.awaited > 0 && now < self.deadline => return None,
            Answer::None if self.awaited == 0 => (Vec::new(), Duration::ZERO),
            Answer::None | Answer::Failed => return Some(Event::Unresolved { link }),
        };
        let resolution = Resolution {
            addresses,
            ttl,
            own,
        };
        Some(Event::Resolved { link, resolution })
    }
}

fn rank(answer: &Answer) -> u8 {
    match answer {
        Answer::None => 0,
        Answer::Failed => 1,
        Answer::Addresses(..) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u16 = 0x1234;
    const LINK: u32 = 2;

    /// The response with this RCODE, and with addresses if wanted (RFC 1035 section 4.1).
    fn response(rcode: u8, addresses: u8) -> Vec<u8> {
        let mut message = Query::new(ID).message();
        message[2..4].copy_from_slice(&[0x81, 0x80 | rcode]);
        message[7] = addresses;
        for last in 0..addresses {
            message.extend([0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16]);
            message.extend([0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 0]);
            message.push(170 + last);
        }
        message
    }

    fn truncated() -> Vec<u8> {
        let mut message = response(NODATA, 0);
        message[2] |= 0x02;
        message
    }

    const NODATA: u8 = 0;
    const SERVFAIL: u8 = 2;
    const NXDOMAIN: u8 = 3;

    fn answer(message: &[u8]) -> Answer {
        match Inquiry::new(ID).read(message) {
            Reading::Answered(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    /// The number of addresses in the outcome; `None` if there is no answer.
    fn addresses(event: Option<Event>) -> Option<usize> {
        match event {
            Some(Event::Resolved { resolution, .. }) => Some(resolution.addresses.len()),
            Some(Event::Unresolved { .. }) => None,
            other => panic!("{other:?}"),
        }
    }

    fn is_open(answers: &Answers, now: Instant) -> bool {
        answers.outcome(now).is_none()
    }

    #[test]
    fn addresses_count_at_once() {
        let now = Instant::now();
        let mut answers = Answers::new(LINK, true, 3, now);
        answers.put(answer(&response(NXDOMAIN, 0)));
        assert!(is_open(&answers, now), "another server may know more");
        answers.put(answer(&response(0, 2)));
        assert_eq!(addresses(answers.outcome(now)), Some(2));
        answers.put(answer(&response(0, 1)));
        assert_eq!(addresses(answers.outcome(now)), Some(2));
    }

    /// A prefix in use is not withdrawn because the one server that knows it fails.
    #[test]
    fn none_counts_when_all_say_so() {
        let now = Instant::now();
        for (order, outcome) in [
            ([NXDOMAIN, NODATA], Some(0)),
            ([NXDOMAIN, SERVFAIL], None),
            ([SERVFAIL, NXDOMAIN], None),
        ] {
            let mut answers = Answers::new(LINK, true, 2, now);
            answers.put(answer(&response(order[0], 0)));
            assert!(is_open(&answers, now));
            answers.put(answer(&response(order[1], 0)));
            assert_eq!(addresses(answers.outcome(now)), outcome);
        }
        let mut answers = Answers::new(LINK, true, 2, now);
        answers.put(answer(&response(NXDOMAIN, 0)));
        assert!(is_open(&answers, now + TIMEOUT - Duration::from_millis(1)));
        let late = answers.outcome(now + TIMEOUT);
        assert_eq!(addresses(late), None, "one has not answered");
        let none = Answers::new(LINK, true, 0, now);
        assert_eq!(addresses(none.outcome(now)), None);
    }

    #[test]
    fn messages_that_are_no_answer_are_ignored() {
        let mut other_id = response(0, 1);
        other_id[0] += 1;
        for message in [other_id, Query::new(ID).message(), Vec::new()] {
            assert_eq!(Inquiry::new(ID).read(&message), Reading::Awaited);
        }
    }

    /// RFC 7766 section 5. By TCP nothing else can come than the answer: anything else ends it.
    #[test]
    fn a_truncated_answer_is_asked_for_by_tcp() {
        let mut inquiry = Inquiry::new(ID);
        assert_eq!(inquiry.octets(), Query::new(ID).message());
        assert_eq!(inquiry.read(&truncated()), Reading::AskAgain);
        assert_eq!(inquiry.transport(), Transport::Tcp);
        let message = Query::new(ID).message();
        assert_eq!(inquiry.octets(), dns::for_stream(&message));
        let stream = dns::for_stream(&response(0, 1));
        assert_eq!(inquiry.read(&stream[..stream.len() - 1]), Reading::Awaited);
        assert!(matches!(
            inquiry.read(&stream),
            Reading::Answered(Answer::Addresses(..))
        ));
        for garbage in [truncated(), message, b"GET / HTTP/1.1".into(), Vec::new()] {
            let stream = dns::for_stream(&garbage);
            assert_eq!(inquiry.read(&stream), Reading::Answered(Answer::Failed));
        }
    }

    /// RFC 1034 section 3.6.2: the same server is asked for the name that it leads to.
    #[test]
    fn an_alias_is_asked_for() {
        let mut inquiry = Inquiry::new(ID);
        let mut message = response(NODATA, 0);
        message[7] = 1;
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 3, 1, b'a', 0]);
        assert_eq!(inquiry.read(&message), Reading::AskAgain);
        assert_eq!(inquiry.transport(), Transport::Udp);
        assert!(inquiry.octets().ends_with(&[1, b'a', 0, 0, 28, 0, 1]));
    }

    /// Servers that lead on and on delay nothing for ever.
    #[test]
    fn asking_again_takes_a_limited_time() {
        let start = Instant::now();
        let mut answers = Answers::new(LINK, true, 1, start);
        answers.asks_again(start + Duration::from_secs(1));
        assert!(is_open(&answers, start + TIMEOUT), "it has time anew");
        for second in 2..100 {
            answers.asks_again(start + Duration::from_secs(second));
        }
        assert_eq!(answers.deadline(), start + LIMIT);
        assert_eq!(addresses(answers.outcome(start + LIMIT)), None);
    }
}
