//! How fast packets cross, over real devices: xlatd beside Debian's tayga and the kernel's own
//! forwarding.
//!
//! Rounds are interleaved: in each, every carrier is measured once, so that what else the machine
//! does meets all of them. `ROUNDS` (7) and `SECONDS_EACH` (2, for each figure) are taken from the
//! environment. It prints a table of medians and of ratios to tayga, pair by pair, and writes
//! `target/bench/wire.json` and `wire.svg`.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]
#![allow(dead_code, reason = "the harness is that of the kernel tests")]

#[path = "../cpu.rs"]
mod cpu;
#[path = "../../kernel/harness.rs"]
mod harness;
mod lab;
#[path = "../load.rs"]
mod load;
mod many_hosts;
#[path = "../maps.rs"]
mod maps;
#[path = "../../kernel/packet.rs"]
mod packet;
#[path = "../report.rs"]
mod report;

use std::{env, path::PathBuf, time::Duration};

use crate::{
    lab::{Carrier, Lab},
    load::{Datagrams, Ends, Way, round_trips, tcp, udp},
    many_hosts::from_many_hosts,
    maps::{Maps, SIZES},
    report::{Better, Report},
};

/// No case differs: this is for the harness.
const TAYGA_DIFFERS: &[(&str, &str)] = &[];

const RATIOS: &[[&str; 2]] = &[["xlatd", "tayga"], ["xlatd", "kernel, no translation"]];

const CHARTED: [&str; 4] = [
    "TCP, one flow, 6 to 4, Gbit/s",
    "TCP, one flow, 4 to 6, Gbit/s",
    "UDP 64 octets, kpps",
    "UDP super-packets of 1200 octets, kpps",
];

fn main() {
    let number = |name: &str, default: u64| {
        env::var(name).map_or(default, |value| value.parse().expect(name))
    };
    let rounds = number("ROUNDS", 7);
    let duration = Duration::from_secs(number("SECONDS_EACH", 2));
    let tayga = PathBuf::from(env::var_os("TAYGA").expect("TAYGA names Debian's tayga"));
    let carriers = [
        Carrier::Kernel,
        Carrier::Tayga(tayga),
        Carrier::Xlatd { offload: true },
        Carrier::Xlatd { offload: false },
    ];
    let mut report = Report::new(carriers.iter().map(Carrier::name).collect(), RATIOS);
    for round in 0..rounds {
        println!("round {} of {rounds}", round + 1);
        for carrier in &carriers {
            measure(carrier, duration, &mut report);
            measure_maps(carrier, duration, &mut report);
        }
    }
    report.print();
    report.write("wire", &CHARTED);
}

fn measure(carrier: &Carrier, duration: Duration, report: &mut Report) {
    let lab = Lab::new();
    let running = lab.start(carrier, "");
    let ends = Ends {
        client: &lab.client,
        server: &lab.server,
        to: carrier.server(),
        listens: carrier.listens(),
    };
    // `ONLY` picks figures by a part of their names.
    let only = env::var("ONLY").unwrap_or_default();
    let wanted = |metric: &str| metric.contains(&only);
    let mut add = |metric, better, value| report.add(carrier.name(), metric, better, value);

    let spent = || {
        running
            .daemon
            .as_ref()
            .map(|daemon| cpu::seconds(daemon.pid()))
    };
    let before = spent();
    let mut gigabytes = 0.0;
    for (metric, way, flows) in [
        ("TCP, one flow, 6 to 4, Gbit/s", Way::Up, 1),
        ("TCP, one flow, 4 to 6, Gbit/s", Way::Down, 1),
        ("TCP, four flows, 6 to 4, Gbit/s", Way::Up, 4),
        ("TCP, four flows, 4 to 6, Gbit/s", Way::Down, 4),
    ] {
        if !wanted(metric) {
            continue;
        }
        let rate = tcp(ends, way, flows, duration);
        gigabytes += rate / 8.0 * duration.as_secs_f64();
        add(metric, Better::More, rate);
    }
    if gigabytes > 0.0
        && let (Some(before), Some(after)) = (before, spent())
    {
        let seconds = after - before;
        add(
            "CPU of the translator, s/GB",
            Better::Less,
            seconds / gigabytes,
        );
    }

    let plain = |len, flows| Datagrams {
        len,
        at_once: 1,
        flows,
    };
    for (metric, what) in [
        ("UDP 64 octets, kpps", plain(64, 1)),
        ("UDP 64 octets, 100 flows, kpps", plain(64, 100)),
        ("UDP 1200 octets, kpps", plain(1200, 1)),
        (
            "UDP super-packets of 1200 octets, kpps",
            Datagrams {
                len: 1200,
                at_once: 50,
                flows: 1,
            },
        ),
    ] {
        if wanted(metric) {
            add(metric, Better::More, udp(ends, what, duration).kpps);
        }
    }
    // No checksum offload on the way in: what comes has complete checksums.
    let metric = "UDP 64 octets, complete checksums, kpps";
    if wanted(metric) {
        lab.client.run("ethtool -K router tx off");
        let arrived = udp(ends, plain(64, 1), duration);
        add(metric, Better::More, arrived.kpps);
        lab.client.run("ethtool -K router tx on");
    }

    if wanted("request and response") {
        let (median, late) = round_trips(ends, 3000);
        add("request and response, median, us", Better::Less, median);
        add("request and response, 99 %, us", Better::Less, late);
    }

    if let (Some(daemon), Some(started_in)) = (&running.daemon, running.started_in) {
        let memory = cpu::mebibytes(&daemon.status("VmRSS"));
        add("resident memory, MiB", Better::Less, memory);
        add("start, ms", Better::Less, started_in.as_secs_f64() * 1e3);
    }
    lab.stop(running);
}

/// With tables of maps in use by many hosts.
fn measure_maps(carrier: &Carrier, duration: Duration, report: &mut Report) {
    const METRICS: [[&str; 2]; SIZES.len()] = [
        ["1 map, 100,000 hosts, kpps", "start with 1 map, ms"],
        [
            "1,000 maps, 100,000 hosts, kpps",
            "start with 1,000 maps, ms",
        ],
        [
            "10,000 maps, 100,000 hosts, kpps",
            "start with 10,000 maps, ms",
        ],
        [
            "100,000 maps, 100,000 hosts, kpps",
            "start with 100,000 maps, ms",
        ],
    ];
    let only = env::var("ONLY").unwrap_or_default();
    for (size, metrics) in SIZES.into_iter().zip(METRICS) {
        let wanted = metrics.iter().any(|metric| metric.contains(&only));
        // tayga looks through its maps one by one: with more of them it would take the round for
        // itself.
        let in_vain = matches!(carrier, Carrier::Tayga(_)) && size > 1_000;
        if !wanted || in_vain || *carrier == Carrier::Kernel {
            continue;
        }
        let maps = Maps(size);
        let lab = Lab::new();
        lab.router.ip("route add blackhole 10.0.0.0/8");
        let running = lab.start(carrier, &maps.lines());
        let rate = from_many_hosts(&lab, maps, duration);
        report.add(carrier.name(), metrics[0], Better::More, rate);
        let started_in = running.started_in.unwrap().as_secs_f64() * 1e3;
        report.add(carrier.name(), metrics[1], Better::Less, started_in);
        lab.stop(running);
    }
}
