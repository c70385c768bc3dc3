//! What the core costs without a device: translation, lookups, and the reading of maps (`cargo
//! bench --bench core`).

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

#[path = "../maps.rs"]
mod maps;
#[path = "../rig.rs"]
mod rig;

use std::{hint::black_box, time::Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use xlatd::{config::Config, translate::Packet};

use crate::{
    maps::{HOSTS, Maps, SIZES, shuffled},
    rig::Sample,
};

/// One host, one packet after the other.
fn translate(criterion: &mut Criterion) {
    let now = Instant::now();
    for (name, version) in [("4 to 6", 4), ("6 to 4", 6)] {
        let mut group = criterion.benchmark_group(format!("translate {name}"));
        for len in [64, 576, 1500, 60_000] {
            // What is too large for 1280 octets of IPv6 has DF, and fits 1500.
            let len = if version == 4 && len == 1500 {
                1480
            } else {
                len
            };
            let mut translator = rig::translator(Maps(1));
            let sample = Sample::new(Maps(1), 0, version, len);
            let mut packet = Packet::new();
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
                bencher.iter(|| sample.translate(&mut translator, &mut packet, now));
            });
        }
        group.finish();
    }
}

/// Every host is another one, and all maps are in use.
fn look_up(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("look up");
    for size in SIZES {
        let maps = Maps(size);
        let translator = rig::translator(maps);
        let map = translator.map();
        let hosts: Vec<_> = shuffled().map(|number| maps.host(number)).collect();
        let mut next = hosts.iter().cycle();
        group.bench_function(BenchmarkId::new("IPv4 address", size), |bencher| {
            bencher.iter(|| map.to_v6(black_box(next.next().unwrap().0)).unwrap());
        });
        group.bench_function(BenchmarkId::new("IPv6 address", size), |bencher| {
            bencher.iter(|| map.to_v4(black_box(next.next().unwrap().1)).unwrap());
        });
    }
    group.finish();
}

fn parse(criterion: &mut Criterion) {
    let text = rig::config(Maps(HOSTS));
    let mut group = criterion.benchmark_group("read a configuration");
    group.sample_size(10);
    group.bench_function("100000 maps", |bencher| {
        bencher.iter(|| Config::read(black_box(&text)).unwrap());
    });
    group.finish();
}

criterion_group!(benches, translate, look_up, parse);
criterion_main!(benches);
