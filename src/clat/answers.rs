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
        Self {
            id,
            awaited: servers,
            best: Answer::Failed,
        }
    }

    /// Takes a message from a server. Whether it is the answer: if not, one is still awaited.
    pub fn take(&mut self, message: &[u8]) -> bool {
        let Some(answer) = dns::answer(message, self.id) else {
            return false;
        };
        self.awaited = self.awaited.saturating_sub(1);
        // Addresses before none of them, and none before no answer; the first of a kind counts.
        if rank(&answer) > rank(&self.best) {
            self.best = answer;
        }
        true
    }

    /// Takes notice that a server cannot be reached.
    pub fn unreachable(&mut self) {
        self.awaited = self.awaited.saturating_sub(1);
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
        Answer::Failed => 0,
        Answer::None => 1,
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

    /// In whatever order, and at whatever times, they come.
    #[test]
    fn none_counts_when_all_have_answered() {
        for order in [[NXDOMAIN, SERVFAIL], [SERVFAIL, NXDOMAIN]] {
            let mut answers = Answers::new(ID, 3);
            answers.unreachable();
            assert!(answers.take(&response(order[0], 0)));
            assert_eq!(answers.outcome(), None);
            assert!(answers.take(&response(order[1], 0)));
            assert_eq!(answers.outcome(), Some(&Answer::None));
        }
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
