//! The search for a NAT64 prefix on one uplink: when routers are solicited and name servers asked.
//!
//! Router Solicitations go out at once, and again before all advertised prefixes expire. DNS is
//! asked a moment later, with back-off, unless a router has advertised a prefix by then.

use std::time::Duration;

/// Number of Router Solicitations (RFC 4861 section 10, MAX_RTR_SOLICITATIONS), and the intervals
/// between them (RFC 4861 section 6.3.7); the first one is shorter.
const SOLICITATIONS: u32 = 3;
const FIRST_SOLICIT_INTERVAL: Duration = Duration::from_secs(1);
const SOLICIT_INTERVAL: Duration = Duration::from_secs(4);
/// The delay of the first query: an advertisement that says more may be on its way (RFC 9872
/// section 3.1).
const QUERY_DELAY: Duration = Duration::from_millis(300);
/// The intervals between queries without an answer: from the first to the last, doubled each time.
const QUERY_BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// An answer is renewed so long before its TTL is over (RFC 7050 section 3).
const RENEW_BEFORE: Duration = Duration::from_secs(10);
/// The time for which a router may still announce a network for the CLAT address, and the host form
/// an address there: long enough for an answer to the second solicitation.
pub(super) const PATIENCE: Duration = Duration::from_millis(1500);

/// The search on one uplink.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) link: u32,
    routers: Routers,
    /// When the last Router Solicitation was sent.
    solicited: Option<Duration>,
    dns: Dns,
    /// The interval after the next query that is not answered.
    backoff: Duration,
    /// The end of [`PATIENCE`].
    patience: Duration,
}

/// The phases of soliciting routers.
#[derive(Clone, Copy, Debug)]
enum Routers {
    /// Router Solicitations are sent.
    Soliciting { next: Duration, left: u32, why: Why },
    /// All of them were sent, and no router was heard: an advertisement is waited for.
    Silent(Why),
    /// A router was heard.
    Heard,
}

/// The reason to solicit routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The uplink may be at another network.
    Start,
    /// The advertised prefixes are about to expire. They are solicited for once.
    Expiry,
}

/// The phases of asking name servers.
#[derive(Clone, Copy, Debug)]
enum Dns {
    /// They are to be asked at this time.
    Due(Duration),
    /// They have been asked: an answer, or that there is none, is waited for.
    Asked,
}

impl Search {
    /// Begins on an uplink.
    pub(super) fn new(link: u32, now: Duration) -> Self {
        Self {
            link,
            routers: Routers::solicit(Why::Start, now),
            solicited: None,
            dns: Dns::Due(now + QUERY_DELAY),
            backoff: QUERY_BACKOFF[0],
            patience: now + PATIENCE,
        }
    }

    /// Asks routers and name servers once more: the network may be another one.
    pub(super) fn restart(&mut self, now: Duration) {
        self.routers = Routers::solicit(self.routers.why(), now);
        self.dns = Dns::Due(now);
    }

    /// Asks routers once more, since they have withdrawn all prefixes. Not more often than RFC 4861
    /// section 10 has it, however often they do.
    pub(super) fn solicit_again(&mut self, now: Duration) {
        let soonest = self.solicited.map_or(now, |last| last + SOLICIT_INTERVAL);
        self.routers = Routers::solicit(Why::Start, now.max(soonest));
    }

    /// Takes notice of an advertisement of a default router.
    pub(super) fn heard_router(&mut self) {
        self.routers = Routers::Heard;
    }

    /// Takes notice that all advertised prefixes are about to expire.
    pub(super) fn prefixes_expire(&mut self, now: Duration) {
        if !self.solicits_expiry() {
            self.routers = Routers::solicit(Why::Expiry, now);
        }
    }

    /// Whether routers have been solicited because prefixes are about to expire.
    pub(super) fn solicits_expiry(&self) -> bool {
        self.routers.why() == Why::Expiry
    }

    /// Takes notice of an answer that is good for `ttl`.
    pub(super) fn resolved(&mut self, ttl: Duration, now: Duration) {
        self.dns = Dns::Due(now + ttl - RENEW_BEFORE);
        self.backoff = QUERY_BACKOFF[0];
    }

    /// Whether the name servers that were asked did not help.
    pub(super) fn is_in_vain(&self) -> bool {
        self.backoff > QUERY_BACKOFF[0]
    }

    /// Takes notice that no answer helps.
    pub(super) fn unresolved(&mut self, now: Duration) {
        self.dns = Dns::Due(now + self.backoff);
        self.backoff = (self.backoff * 2).min(QUERY_BACKOFF[1]);
    }

    /// Asks name servers at this time.
    pub(super) fn query_at(&mut self, at: Duration) {
        self.dns = Dns::Due(at);
    }

    /// Whether a Router Solicitation is to be sent now; it counts as sent.
    pub(super) fn take_solicitation(&mut self, now: Duration) -> bool {
        let Routers::Soliciting { next, left, why } = self.routers else {
            return false;
        };
        if now < next {
            return false;
        }
        self.solicited = Some(now);
        let interval = if left == SOLICITATIONS {
            FIRST_SOLICIT_INTERVAL
        } else {
            SOLICIT_INTERVAL
        };
        self.routers = if left > 1 {
            Routers::Soliciting {
                next: now + interval,
                left: left - 1,
                why,
            }
        } else {
            Routers::Silent(why)
        };
        true
    }

    /// Whether name servers are to be asked now; they count as asked.
    pub(super) fn take_query(&mut self, now: Duration) -> bool {
        let is_due = self.next_query().is_some_and(|at| at <= now);
        if is_due {
            self.dns = Dns::Asked;
        }
        is_due
    }

    /// When the next Router Solicitation is due.
    pub(super) fn next_solicitation(&self) -> Option<Duration> {
        match self.routers {
            Routers::Soliciting { next, .. } => Some(next),
            Routers::Silent(_) | Routers::Heard => None,
        }
    }

    /// When the next query is due.
    pub(super) fn next_query(&self) -> Option<Duration> {
        match self.dns {
            Dns::Due(at) => Some(at),
            Dns::Asked => None,
        }
    }

    /// The end of the wait for a network for the CLAT address, if it is still to come.
    pub(super) fn patience(&self, now: Duration) -> Option<Duration> {
        (now < self.patience).then_some(self.patience)
    }

    /// Waits for a network for the CLAT address until then.
    pub(super) fn be_patient_until(&mut self, end: Duration) {
        self.patience = end;
    }
}

impl Routers {
    fn solicit(why: Why, now: Duration) -> Self {
        Self::Soliciting {
            next: now,
            left: SOLICITATIONS,
            why,
        }
    }

    fn why(self) -> Why {
        match self {
            Self::Soliciting { why, .. } | Self::Silent(why) => why,
            Self::Heard => Why::Start,
        }
    }
}
