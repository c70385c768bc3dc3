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

/// Native IPv4 is named from when it is there, and from when the CLAT steps aside for it.
#[test]
fn native_ipv4_is_shown() {
    let mut rig = Rig::started();
    rig.advertised(&[(WKP, 6000)]);
    assert_eq!(rig.clat.overview(rig.now).native, None);
    rig.link().default_v4 = true;
    rig.network_is();
    let native = |rig: &Rig| {
        let native = rig.clat.overview(rig.now).native.unwrap();
        (native.interface, native.seconds, native.aside)
    };
    rig.until(rig.now + seconds(9));
    assert_eq!(native(&rig), ("eth0".to_owned(), 9, false));
    rig.until(rig.now + seconds(6));
    assert_eq!(native(&rig), ("eth0".to_owned(), 5, true));
}

/// Why packets leave with the source that they have: while an address is tested, when it is there,
/// and when there is none.
#[test]
fn the_choice_of_the_source_is_explained() {
    let choice = |rig: &Rig| rig.clat.overview(rig.now).source_choice;
    let mut rig = Rig::of(Settings::default());
    assert_eq!(choice(&rig), "no address of its own has been tried yet");
    rig.network_is();
    rig.tell(announcement("2001:db8:6::"));
    let ours = rig.clat.choice.tested().unwrap();
    let expected = format!("testing that no other host has {ours}");
    assert_eq!(choice(&rig), expected);
    rig.is_unique(ours);
    let expected = format!("testing that the router forwards from {ours}");
    assert_eq!(choice(&rig), expected);
    rig.tell(Event::Answered { from: ours });
    let expected = format!("{ours} is for the CLAT alone (clat-v6-addr auto)");
    assert_eq!(choice(&rig), expected);
    assert_eq!(rig.clat.overview(rig.now).source, Some(ours));

    let mut rig = Rig::started();
    rig.advertised(&[(WKP, 600)]);
    let shared = "the address of this host (clat-v6-addr shared)";
    assert_eq!(choice(&rig), shared);

    let mut rig = Rig::of(Settings::default());
    rig.network_is();
    rig.advertised(&[(WKP, 600)]);
    rig.until(rig.now + seconds(2));
    assert_eq!(
        choice(&rig),
        "the address of this host: \
         no router announces a /64 in which this host has an address"
    );
}
