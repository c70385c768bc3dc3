//! Captures of both formats: whatever they have, they are read to their end.
#![no_main]

use std::{net::Ipv6Addr, time::Instant};

use libfuzzer_sys::fuzz_target;
use xlatd::{
    addr::AddressMap,
    report::explain::{Capture, Directives, Explainer, Reading},
    translate::Settings,
};

fuzz_target!(|octets: &[u8]| {
    let map = AddressMap::new([10, 0, 0, 1].into(), Ipv6Addr::LOCALHOST, None, true);
    let explainer = Explainer::new(Settings::default(), map, Directives::default());
    let mut reading = Reading::new(explainer.translator());
    let Ok(frames) = Capture::new(octets) else {
        return;
    };
    let (mut read, now) = (0, Instant::now());
    for frame in frames.flatten() {
        assert!(!reading.next(&frame, now).to_string().is_empty());
        read += 1;
    }
    assert_eq!(reading.counts().frames, read);
});
