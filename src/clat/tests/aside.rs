//! Stepping aside for native IPv4, and the overlap.

use super::*;

impl Rig {
    /// Native IPv4 comes, and stays until the CLAT steps aside for it.
    fn steps_aside(&mut self) -> Vec<(Duration, Action)> {
        self.link().default_v4 = true;
        self.network_is();
        self.until(self.now + seconds(10))
    }
}

/// Open flows go on through the CLAT, also those of which packets only come back.
#[test]
fn packets_of_both_directions_keep_a_flow() {
    for (out, back) in [(1, 0), (0, 1), (1, 1)] {
        let mut rig = Rig::started();
        rig.advertised(&[(OTHER, 6000)]);
        rig.steps_aside();
        for _ in 0..10 {
            rig.traffic.out += out;
            rig.traffic.back += back;
            let done = rig.until(rig.now + seconds(60));
            assert!(done.is_empty(), "{out} {back}: {done:?}");
        }
    }
}

/// What packets of open flows show matters to nobody then: they are few, and programs use native
/// IPv4.
#[test]
fn the_nat64_is_not_judged_while_the_clat_steps_aside() {
    let mut rig = Rig::started();
    rig.advertised_by_two();
    rig.steps_aside();
    for _ in 0..100 {
        rig.traffic.out += 1;
        assert!(!rig.clat.passed(rig.traffic, rig.now));
        assert_eq!(rig.until(rig.now + seconds(1)), []);
    }
}

/// With nothing set up there is no overlap, so nothing to wake up for at its end.
#[test]
fn without_a_set_up_there_is_no_overlap() {
    let mut rig = Rig::new(Settings::default());
    rig.link().routes_v6.clear();
    rig.steps_aside();
    assert_eq!(rig.clat.native.aside_for(), Some("eth0"));
    assert_eq!(rig.clat.deadline(), None);
}

/// Changes are damped, also the end of the overlap: it is waited for, and not asked for all the
/// time.
#[test]
fn a_damped_end_of_the_overlap_is_waited_for() {
    let mut rig = Rig::started();
    rig.advertised(&[(WKP, 60_000)]);
    rig.steps_aside();
    rig.until(rig.now + QUIET - Duration::from_millis(1));
    for number in 0..40 {
        let (prefix, other) = if number % 2 == 0 {
            (OTHER, WKP)
        } else {
            (WKP, OTHER)
        };
        rig.advertised(&[(prefix, 60_000), (other, 0)]);
    }
    let end = rig.now + Duration::from_millis(1);
    assert_eq!(rig.until(end), []);
    let done = rig.until(end + seconds(5));
    let torn_down = done.iter().filter(|(_, one)| *one == Action::TearDown);
    assert_eq!(torn_down.count(), 1, "{done:?}");
}

/// `v4-defaultroute-replace`: the CLAT goes before native IPv4, and never steps aside for it.
#[test]
fn a_clat_that_replaces_native_ipv4_never_steps_aside() {
    let mut rig = Rig::new(Settings {
        replaces: true,
        ..Settings::default()
    });
    rig.network_is();
    rig.advertised(&[(OTHER, 6000)]);
    assert_eq!(rig.steps_aside(), []);
}

/// However often changes are damped: the last one that is left is for IPv4 that comes back.
#[test]
fn ipv4_comes_back_at_once() {
    let mut rig = Rig::started();
    for _ in 0..9 {
        assert_eq!(says(&rig.advertised(&[(WKP, 600)])).len(), 1);
        assert_eq!(says(&rig.advertised(&[(WKP, 0)])).len(), 1);
    }
    let actions = rig.advertised(&[(WKP, 600)]);
    assert!(says(&actions)[0].starts_with("IPv4 via eth0"));
    assert!(says(&rig.advertised(&[(WKP, 0)])).is_empty());
}
