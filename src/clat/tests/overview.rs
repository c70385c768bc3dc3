//! What a CLAT says of itself.

use super::*;

/// The prefix in use with what is left of its lifetime, the others, and one that does not answer.
#[test]
fn prefixes_are_shown_with_what_is_left_of_them() {
    let mut rig = Rig::started();
    rig.advertised_by(1, 1, seconds(1800), &[(WKP, 600)]);
    rig.advertised_by(2, 0, seconds(1800), &[(OTHER, 300)]);
    rig.until(rig.now + seconds(100));
    let overview = rig.clat.overview(rig.now);
    let prefix = overview.prefix.unwrap();
    assert_eq!(prefix.prefix, "64:ff9b::/96");
    assert_eq!(prefix.origin, "Router Advertisement");
    assert_eq!(prefix.lifetime_seconds, Some(500));
    assert!(prefix.router.is_some() && !prefix.is_silent);
    let [other] = &overview.other_prefixes[..] else {
        panic!("{:?}", overview.other_prefixes);
    };
    assert_eq!(other.prefix, format!("{OTHER}/96"));
    assert_eq!(other.lifetime_seconds, Some(200));
    assert_eq!(overview.uplink.as_deref(), Some("eth0"));
    assert_eq!(overview.host_v4.as_deref(), Some("192.0.0.1"));
    assert_eq!(overview.way.as_deref(), Some("shared"));
    assert!(overview.is_well);
    assert_eq!(overview.state_seconds, Some(100));
}

/// Without a prefix it is not well, and says since when.
#[test]
fn what_is_missing_is_not_well() {
    let mut rig = Rig::started();
    rig.until(rig.now + seconds(30));
    let overview = rig.clat.overview(rig.now);
    assert!(!overview.is_well);
    assert_eq!(overview.prefix, None);
    assert_eq!(overview.state_seconds, Some(30));
    assert_eq!(overview.source, None);
}
