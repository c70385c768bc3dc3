//! A NAT64 that does not answer, and an address that nothing comes back to.

use super::*;

const PAUSE: Duration = Duration::from_secs(60);

impl Rig {
    /// Two packets leave, and so many come back.
    fn passes(&mut self, back: u64) -> Vec<Action> {
        self.traffic.out += 2;
        self.traffic.back += back;
        if self.clat.passed(self.traffic, self.now) {
            self.tell(Event::Time)
        } else {
            Vec::new()
        }
    }

    /// Packets leave at once, and each second for `duration`; none comes back. Returns the actions
    /// with the times since the start.
    fn is_unanswered(&mut self, duration: Duration) -> Vec<(Duration, Action)> {
        let start = self.now;
        let mut all = Vec::new();
        loop {
            let actions = self.passes(0);
            all.extend(actions.into_iter().map(|one| (self.now - start, one)));
            if self.now == start + duration {
                return all;
            }
            let done = self.until(self.now + seconds(1));
            all.extend(done.into_iter().map(|(at, one)| (at - start, one)));
        }
    }
}

fn setup_prefixes(done: &[(Duration, Action)]) -> Vec<(u64, String)> {
    let setups = done.iter().filter_map(|(at, action)| match action {
        Action::SetUp(setup) => Some((at.as_secs(), setup.prefix.prefix().address().to_string())),
        _ => None,
    });
    setups.collect()
}

fn words(done: &[(Duration, Action)]) -> Vec<String> {
    let words = done.iter().filter_map(|(_, action)| match action {
        Action::Report(status) => Some(status.to_string()),
        _ => None,
    });
    words.collect()
}

/// RFC 7050 section 3.2: a prefix by which nothing comes back for 10 s gives way to another one,
/// and is tried again after pauses that grow.
#[test]
fn a_prefix_that_does_not_answer_gives_way() {
    let mut rig = Rig::started();
    rig.advertised_by_two();
    assert_eq!(setup_prefixes(&rig.is_unanswered(seconds(9))), []);
    let done = rig.is_unanswered(seconds(1));
    assert_eq!(setup_prefixes(&done), [(1, OTHER.to_owned())]);
    let wkp = prefix::nat64(WKP.parse().unwrap(), 96).unwrap();
    assert!(done.contains(&(seconds(1), Action::GiveWay(wkp))));
    // The other one answers.
    assert_eq!(rig.passes(1), []);
    let done = rig.until(rig.now + PAUSE);
    let tries: Vec<_> = done
        .iter()
        .filter(|(_, one)| matches!(one, Action::SetUp(_)))
        .collect();
    assert!(matches!(&tries[..], [(at, Action::SetUp(setup))]
        if *at == rig.now && setup.prefix == wkp));
    // It still does not, and pauses twice as long.
    let done = rig.is_unanswered(seconds(10));
    assert_eq!(setup_prefixes(&done), [(10, OTHER.to_owned())]);
    rig.passes(1);
    let done = rig.until(rig.now + 2 * PAUSE - seconds(1));
    assert_eq!(setup_prefixes(&done), []);
    let done = rig.until(rig.now + seconds(1));
    assert_eq!(setup_prefixes(&done).len(), 1);
    // Now it does.
    assert_eq!(rig.passes(1), []);
    assert_eq!(setup_prefixes(&rig.until(rig.now + seconds(10_000))), []);
}

/// A prefix whose pause is over is tried also where nothing was in force: it has its 10 seconds.
#[test]
fn a_prefix_is_tried_after_a_gap() {
    let mut rig = Rig::started();
    rig.advertised_by_two();
    let done = rig.is_unanswered(seconds(10));
    assert_eq!(setup_prefixes(&done), [(10, OTHER.to_owned())]);
    rig.passes(1);
    rig.until(rig.now + PAUSE - seconds(5));
    let routes = std::mem::take(&mut rig.link().routes_v6);
    rig.network_is();
    rig.until(rig.now + PAUSE);
    rig.link().routes_v6 = routes;
    let done = rig.network_is();
    let setup = done.iter().find_map(|action| match action {
        Action::SetUp(setup) => Some((setup.on_link, setup.prefix.prefix().address().to_string())),
        _ => None,
    });
    assert_eq!(setup, Some((true, WKP.to_owned())), "{done:?}");
    assert_eq!(setup_prefixes(&rig.is_unanswered(seconds(9))), []);
    let done = rig.is_unanswered(seconds(1));
    assert_eq!(setup_prefixes(&done), [(1, OTHER.to_owned())]);
}

/// RFC 9872 section 3.1: name servers are asked where no router announces a prefix that answers, as
/// long as that lasts; and in the very turn in which it is time to: no deadline is over after one.
#[test]
fn name_servers_are_asked_while_a_prefix_in_use_is_silent() {
    let mut rig = Rig::started();
    rig.advertised(&[(WKP, 60_000)]);
    let mut asked = Vec::new();
    for second in 0..1200 {
        let mut done = rig.is_unanswered(seconds(1));
        done.retain(|(_, one)| matches!(one, Action::Query { .. }));
        for _ in done {
            asked.push(second);
            rig.tell(Event::Unresolved { link: UPLINK });
        }
        let deadline = rig.clat.deadline();
        assert!(deadline.is_none_or(|at| at > rig.now), "{deadline:?}");
    }
    let in_the_last_ten_minutes = asked.iter().filter(|second| **second >= 600);
    assert_eq!(in_the_last_ten_minutes.count(), 10, "{asked:?}");
    let done = rig.resolved(&["2001:db8:64::c000:aa"], 3600);
    let done: Vec<_> = done.into_iter().map(|one| (rig.now, one)).collect();
    assert_eq!(setup_prefixes(&done)[0].1, OTHER);
}

/// Among equals the one that answers stays.
#[test]
fn a_prefix_that_has_given_way_to_its_equal_stays_behind() {
    let mut rig = Rig::started();
    rig.advertised_by(1, 0, seconds(60_000), &[(WKP, 60_000)]);
    rig.advertised_by(2, 0, seconds(60_000), &[(OTHER, 60_000)]);
    let done = rig.is_unanswered(seconds(10));
    assert_eq!(setup_prefixes(&done), [(10, OTHER.to_owned())]);
    rig.passes(1);
    assert_eq!(setup_prefixes(&rig.until(rig.now + seconds(40_000))), []);
}

/// Without another one it is said, once; and what ends it, an answer or another prefix, at once.
#[test]
fn a_nat64_that_does_not_answer_is_said_once() {
    let mut rig = Rig::started();
    rig.advertised(&[(WKP, 60_000)]);
    let done = rig.is_unanswered(seconds(40));
    let silent = "NAT64 does not answer: packets leave via eth0, and none comes back, \
                  NAT64 prefix 64:ff9b::/96 (Router Advertisement)";
    assert_eq!(words(&done), [silent]);
    assert_eq!(setup_prefixes(&done), []);
    let back = "IPv4 via eth0, NAT64 prefix 64:ff9b::/96 (Router Advertisement), \
                forwarded by the kernel";
    assert_eq!(says(&rig.passes(1)), [back]);
    // A false alarm is followed by more patience.
    let done = rig.is_unanswered(seconds(20));
    assert_eq!(words(&done), [silent]);
    assert!(
        done.iter()
            .any(|(at, one)| *at == seconds(20) && matches!(one, Action::Report(_)))
    );
    let actions = rig.advertised_by(2, -1, seconds(60_000), &[(OTHER, 600)]);
    assert!(says(&actions)[0].contains(OTHER));
}

/// Where none answers, they are tried in turns with pauses that grow; and idle, there is nothing to
/// do.
#[test]
fn nothing_flaps_where_no_prefix_answers() {
    let mut rig = Rig::started();
    rig.advertised_by_two();
    let done = rig.is_unanswered(seconds(3600));
    let changes = setup_prefixes(&done);
    let times: Vec<_> = changes.iter().map(|(at, _)| *at).collect();
    assert_eq!(times[0], 10);
    assert!((6..=14).contains(&times.len()), "{times:?}");
    let done = rig.until(rig.now + seconds(40_000));
    assert!(setup_prefixes(&done).len() <= 2, "{done:?}");
}

/// `plat-fallback-prefix`, and a DNS64, which is asked only then (RFC 9872 section 3.1), are other
/// candidates.
#[test]
fn a_fallback_or_dns64_takes_over() {
    let mut rig = Rig::new(Settings {
        fallback: prefix::nat64(OTHER.parse().unwrap(), 96),
        ..Settings::default()
    });
    rig.network_is();
    rig.advertised(&[(WKP, 60_000)]);
    let done = rig.is_unanswered(seconds(10));
    assert_eq!(setup_prefixes(&done), [(10, OTHER.to_owned())]);

    let mut rig = Rig::started();
    rig.advertised(&[(WKP, 60_000)]);
    let done = rig.is_unanswered(seconds(10));
    let query = |one: &Action| matches!(one, Action::Query { .. });
    assert!(
        done.iter()
            .any(|(at, one)| *at == seconds(10) && query(one))
    );
    let actions = rig.resolved(&["2001:db8:64::192.0.0.170"], 600);
    assert!(says(&actions)[0].contains("(DNS64)"));
}

/// SIGHUP: what did not answer is tried at once.
#[test]
fn a_new_search_forgets_doubts() {
    let mut rig = Rig::started();
    rig.advertised_by_two();
    rig.is_unanswered(seconds(10));
    let actions = rig.tell(Event::Resumed);
    assert!(says(&actions)[0].contains(WKP), "{actions:?}");
}

impl Rig {
    /// A CLAT that has an address of its own, which passed its test.
    fn with_address() -> Self {
        let mut rig = Self::of(Settings::default());
        rig.network_is();
        let actions = rig.tell(announcement("2001:db8:6::"));
        rig.takes_address(&actions);
        rig
    }

    /// The address that these actions test passes.
    fn takes_address(&mut self, actions: &[Action]) {
        let tested = actions.iter().find_map(|one| match one {
            Action::TestAddress(Some(test)) => Some(test.address),
            _ => None,
        });
        let ours = tested.unwrap();
        let mut there = address(&ours.to_string());
        (there.deprecated, there.length) = (true, 128);
        self.link().addresses.push(there);
        self.network_is();
        let actions = self.tell(Event::Answered { from: ours });
        assert!(setups(&actions)[0].way.is_dedicated());
        self.link().addresses.pop();
        self.network_is();
    }
}

fn uses_host_address(done: &[(Duration, Action)]) -> Vec<u64> {
    let reason = Action::UseHostAddress(NoClatAddress::Unanswered);
    let uses = done.iter().filter(|(_, one)| *one == reason);
    uses.map(|(at, _)| at.as_secs()).collect()
}

/// An address of our own that is filtered behind the first router: the host's takes its place, said
/// once, and for good; SIGHUP tests it again.
#[test]
fn an_address_that_nothing_comes_back_to_is_given_up() {
    let mut rig = Rig::with_address();
    let done = rig.is_unanswered(seconds(10));
    assert_eq!(uses_host_address(&done), [10]);
    let shares =
        |(_, one): &(_, Action)| matches!(one, Action::SetUp(setup) if !setup.way.is_dedicated());
    assert!(done.iter().any(shares));
    assert_eq!(words(&done), [""; 0], "IPv4 is not said to be down");
    assert_eq!(rig.passes(1), []);
    let done = rig.is_unanswered(seconds(30));
    assert_eq!(uses_host_address(&done), [0; 0]);
    let actions = rig.tell(Event::Resumed);
    rig.takes_address(&actions);
}

/// Another prefix is tried first: one that answers shows that the address is not to blame. Once
/// packets have come back to the address, it never is.
#[test]
fn the_prefix_is_doubted_before_the_address() {
    let mut rig = Rig::with_address();
    rig.advertised_by(2, -1, seconds(60_000), &[(WKP, 60_000)]);
    let done = rig.is_unanswered(seconds(10));
    assert_eq!(setup_prefixes(&done), [(10, WKP.to_owned())]);
    assert_eq!(uses_host_address(&done), [0; 0]);
    rig.passes(1);
    let done = rig.is_unanswered(seconds(200));
    assert!(!words(&done).is_empty());
    assert_eq!(uses_host_address(&done), [0; 0]);

    // Neither is answered: it may be the address, with the first of them again.
    let mut rig = Rig::with_address();
    rig.advertised_by(2, -1, seconds(60_000), &[(WKP, 60_000)]);
    let done = rig.is_unanswered(seconds(21));
    assert_eq!(uses_host_address(&done), [21]);
    assert_eq!(setup_prefixes(&done).last().unwrap().1, OTHER);
}

/// If nothing comes back to the host's address either, the address was not the reason: once the
/// NAT64 answers, it is tested again, and serves.
#[test]
fn an_address_that_was_not_to_blame_comes_back() {
    let mut rig = Rig::with_address();
    rig.is_unanswered(seconds(10));
    let done = rig.is_unanswered(seconds(10));
    assert!(
        words(&done)[0].starts_with("NAT64 does not answer"),
        "{done:?}"
    );
    let actions = rig.passes(1);
    assert!(says(&actions)[0].starts_with("IPv4 via"), "{actions:?}");
    rig.takes_address(&actions);
    rig.passes(1);
    let done = rig.is_unanswered(seconds(10));
    assert_eq!(uses_host_address(&done), [0; 0]);
}

/// Packets are no events, and wake nobody, but for what they show anew.
#[test]
fn packets_are_news_only_for_what_they_show() {
    let mut rig = Rig::started();
    rig.advertised(&[(WKP, 60_000)]);
    let mut passes = |second: u64, traffic: (u64, u64)| {
        let (out, back) = traffic;
        let now = rig.now + seconds(second);
        let has_news = rig.clat.passed(Traffic { out, back }, now);
        if has_news {
            rig.clat.handle(Event::Time, Traffic { out, back }, now);
        }
        has_news
    };
    for second in 0..10 {
        assert!(!passes(second, (2 * second + 1, 0)));
    }
    assert!(passes(10, (30, 0)));
    assert!(!passes(11, (31, 0)));
    assert!(passes(12, (31, 1)));
    assert!(!passes(13, (31, 2)));
}

/// SIGHUP: what was found counts no more, and silence is said again if it goes on.
#[test]
fn a_new_search_judges_anew() {
    let mut rig = Rig::started();
    rig.advertised(&[(WKP, 60_000)]);
    rig.is_unanswered(seconds(10));
    let actions = rig.tell(Event::Resumed);
    assert!(says(&actions)[0].starts_with("IPv4 via eth0"));
    assert_eq!(words(&rig.is_unanswered(seconds(9))), [""; 0]);
    let done = rig.is_unanswered(seconds(1));
    assert!(words(&done)[0].starts_with("NAT64 does not answer"));
}
