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
    let long = seconds(60_000);
    rig.advertised_by(1, 1, long, &[(WKP, 60_000)]);
    rig.advertised_by(2, 0, long, &[(OTHER, 60_000)]);
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
    let back = "IPv4 via eth0, NAT64 prefix 64:ff9b::/96 (Router Advertisement)";
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
    rig.advertised_by(1, 1, seconds(60_000), &[(WKP, 60_000)]);
    rig.advertised_by(2, 0, seconds(60_000), &[(OTHER, 60_000)]);
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
    assert!(says(&actions)[0].ends_with("(DNS64)"));
}

/// SIGHUP: what did not answer is tried at once.
#[test]
fn a_new_search_forgets_doubts() {
    let mut rig = Rig::started();
    rig.advertised_by(1, 1, seconds(60_000), &[(WKP, 60_000)]);
    rig.advertised_by(2, 0, seconds(60_000), &[(OTHER, 60_000)]);
    rig.is_unanswered(seconds(10));
    let actions = rig.tell(Event::Resumed);
    assert!(says(&actions)[0].contains(WKP), "{actions:?}");
}
