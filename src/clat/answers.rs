//! The answers of several name servers to one question (RFC 7050 section 3).

use crate::wire::dns::{self, Answer};

/// The answers so far. A server is asked by a socket that is connected to it, so that nothing from
/// another source comes in; id and question are compared here.
#[derive(Debug)]
pub struct Answers {
    id: u16,
    /// Number of servers that have not answered yet.
    awaited: usize,
    best: Answer,
}

impl Answers {
    /// No answers yet, of so many servers that were asked with `id`.
    pub fn new(id: u16, servers: usize) -> Self {
        let best = match servers {
            0 => Answer::Failed,
            _ => Answer::None, // unless one says or does otherwise
        };
        Self {
            id,
            awaited: servers,
            best,
        }
    }

    /// Takes a message from a server. Whether it is the answer: if not, one is still awaited.
    pub fn take(&mut self, message: &[u8]) -> bool {
        let Some(answer) = dns::answer(message, self.id) else {
            return false;
        };
        self.awaited = self.awaited.saturating_sub(1);
        self.put(answer);
        true
    }

    /// Takes notice that a server cannot be reached.
    pub fn unreachable(&mut self) {
        self.awaited = self.awaited.saturating_sub(1);
        self.put(Answer::Failed);
    }

    /// Addresses count before a failure, and a failure before none: that there is no DNS64 is so
    /// only if all servers say it. The first of a kind counts.
    fn put(&mut self, answer: Answer) {
        if rank(&answer) > rank(&self.best) {
            self.best = answer;
        }
    }

    /// The answer that counts: addresses at once, anything else when no server is awaited, since
    /// another one may know more.
    pub fn outcome(&self) -> Option<&Answer> {
        let is_final = self.awaited == 0 || matches!(self.best, Answer::Addresses(..));
        is_final.then_some(&self.best)
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

    /// The response with this RCODE, and with an address if wanted (RFC 1035 section 4.1).
    fn response(rcode: u8, addresses: u8) -> Vec<u8> {
        let mut message = dns::query(ID);
        message[2..4].copy_from_slice(&[0x81, 0x80 | rcode]);
        message[7] = addresses;
        for last in 0..addresses {
            message.extend([0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16]);
            message.extend([0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 0]);
            message.push(170 + last);
        }
        message
    }

    const SERVFAIL: u8 = 2;
    const NXDOMAIN: u8 = 3;

    #[test]
    fn addresses_count_at_once() {
        let mut answers = Answers::new(ID, 3);
        assert!(answers.take(&response(NXDOMAIN, 0)));
        assert_eq!(answers.outcome(), None, "another server may know more");
        assert!(answers.take(&response(0, 2)));
        let Some(Answer::Addresses(addresses, _)) = answers.outcome() else {
            panic!("{answers:?}");
        };
        assert_eq!(addresses.len(), 2);
        assert!(answers.take(&response(0, 1)));
        assert!(matches!(answers.outcome(), Some(Answer::Addresses(all, _)) if all.len() == 2));
    }

    /// A prefix in use is not withdrawn because the one server that knows it fails.
    #[test]
    fn none_counts_when_all_say_so() {
        const NODATA: u8 = 0;
        for (order, outcome) in [
            ([NXDOMAIN, NODATA], Answer::None),
            ([NXDOMAIN, SERVFAIL], Answer::Failed),
            ([SERVFAIL, NXDOMAIN], Answer::Failed),
        ] {
            let mut answers = Answers::new(ID, 2);
            assert!(answers.take(&response(order[0], 0)));
            assert_eq!(answers.outcome(), None);
            assert!(answers.take(&response(order[1], 0)));
            assert_eq!(answers.outcome(), Some(&outcome));
        }
        let mut answers = Answers::new(ID, 2);
        assert!(answers.take(&response(NXDOMAIN, 0)));
        answers.unreachable();
        assert_eq!(answers.outcome(), Some(&Answer::Failed));
        let mut answers = Answers::new(ID, 1);
        answers.unreachable();
        assert_eq!(answers.outcome(), Some(&Answer::Failed));
        assert_eq!(Answers::new(ID, 0).outcome(), Some(&Answer::Failed));
    }

    #[test]
    fn messages_that_are_no_answer_are_ignored() {
        let mut answers = Answers::new(ID, 1);
        let mut other_id = response(0, 1);
        other_id[0] += 1;
        assert!(!answers.take(&other_id));
        assert!(!answers.take(&dns::query(ID)), "a question");
        assert!(!answers.take(&[]));
        assert_eq!(answers.outcome(), None);
        let mut truncated = response(0, 1);
        truncated[2] |= 0x02;
        assert!(answers.take(&truncated));
        assert_eq!(answers.outcome(), Some(&Answer::Failed));
    }
}
