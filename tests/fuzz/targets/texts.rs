//! Every text that is read: it is understood or refused with reasons, and what is understood is the
//! same when it is written and read again.
#![no_main]

use std::{collections::HashSet, net::Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use xlatd::{
    addr::AddressMap,
    config::{Config, clatd::ClatConfig, dynamic_map},
    plan,
    plan::record::{self, Place},
};

fuzz_target!(|data: &[u8]| {
    let Some((&kind, text)) = data.split_first() else {
        return;
    };
    match kind % 5 {
        0 => tayga_conf(text),
        1 => map_file(text),
        2 => dynamic(text),
        3 => record(text),
        _ => clatd_conf(text),
    }
});

fn tayga_conf(text: &[u8]) {
    match Config::read(text) {
        Ok((config, notices)) => {
            plan::describe(&config, &notices);
            plan::setup(&config);
            config.address_map();
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}

fn map_file(text: &[u8]) {
    let base = "tun-device nat64\nipv4-addr 192.0.2.254\nprefix 2001:db8:64::/96\nmap 192.0.2.7 2001:db8::7\ndynamic-pool 10.0.0.0/24\n";
    let (config, _) = Config::read(base).expect("a configuration");
    match config.with_map_file(text) {
        Ok((map, _)) => {
            // No prefix is there twice.
            let (mut v4, mut v6) = (HashSet::new(), HashSet::new());
            for eam in map.explicit() {
                assert!(v4.insert(eam.v4()) && v6.insert(eam.v6()));
            }
        }
        Err(errors) => assert!(!errors.is_empty()),
    }
}

fn dynamic(text: &[u8]) {
    const NOW: u64 = 1_800_000_000;
    let map = || {
        let mut map = AddressMap::new([10, 0, 0, 1].into(), Ipv6Addr::LOCALHOST, None, true);
        map.set_pool("10.0.0.0/24".parse().expect("a pool"));
        map.set_now(NOW);
        map
    };
    let mut first = map();
    let taken = dynamic_map::load(&mut first, text).leases;
    assert!(taken <= 256);
    let leases = |map: &AddressMap| {
        let mut leases: Vec<_> = map.leases().map(|lease| (lease.address, lease.host)).collect();
        leases.sort();
        leases
    };
    assert_eq!(leases(&first).len(), taken);
    let written = dynamic_map::text(&first, NOW);
    let mut second = map();
    let again = dynamic_map::load(&mut second, written.as_bytes());
    assert_eq!((again.leases, again.notices), (taken, vec![]), "{written}");
    assert_eq!(leases(&first), leases(&second));
}

fn record(text: &[u8]) {
    let place = Place {
        boot: "b".to_owned(),
        namespace: 1,
    };
    let text = format!("{place}\n{}", String::from_utf8_lossy(text));
    let undos = record::undos(&text, &place).expect("a record of here");
    let lines: Vec<_> = undos.iter().rev().filter_map(record::line).collect();
    assert_eq!(lines.len(), undos.len(), "{text}");
    let again = format!("{place}\n{}\n", lines.join("\n"));
    assert_eq!(record::undos(&again, &place), Some(undos));
}

fn clatd_conf(text: &[u8]) {
    let mut config = ClatConfig::default();
    if let Err(errors) = config.read(text) {
        assert!(!errors.is_empty());
    }
    config.environment();
}
