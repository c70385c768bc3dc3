//! How fast IPv4 programs of a host with a CLAT are: by the paths of `xlatd clat`, by an older one,
//! by tayga as clatd sets it up; and programs that use IPv6 themselves.
//!
//! Rounds are interleaved, as those of `wire`, and every second one is in the opposite order. The
//! environment has `ROUNDS` (7), `SECONDS_EACH` (2, for each figure), `ONLY` (a part of the names
//! of figures), `TAYGA` (Debian's tayga) and `OLD_XLATD` (optional: an older xlatd). It prints a
//! table of medians, and writes `target/bench/clat.json`.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]
#![allow(dead_code, reason = "the harness is that of the kernel tests")]

#[path = "../cpu.rs"]
mod cpu;
#[path = "../../kernel/harness.rs"]
mod harness;
mod lab;
#[path = "../load.rs"]
mod load;
#[path = "../report.rs"]
mod report;

use std::{env, path::PathBuf, thread, time::Duration};

use crate::{
    lab::{Carrier, Lab},
    load::{Arrived, Datagrams, Way, round_trips, tcp, udp, udp_down},
    report::{Better, Report},
};

/// No case differs: this is for the harness.
const TAYGA_DIFFERS: &[(&str, &str)] = &[];

const RATIOS: &[[&str; 2]] = &[
    ["direct", "forward"],
    ["direct", "older"],
    ["direct", "clatd"],
];

/// How long a CLAT is watched that has nothing to do.
const IDLE: Duration = Duration::from_secs(2);

fn main() {
    let number = |name: &str, default: u64| {
        env::var(name).map_or(default, |value| value.parse().expect(name))
    };
    let rounds = number("ROUNDS", 7);
    let duration = Duration::from_secs(number("SECONDS_EACH", 2));
    let program = |name| env::var_os(name).map(PathBuf::from);
    let tayga = program("TAYGA").expect("TAYGA names Debian's tayga");
    let mut carriers = vec![
        Carrier::Kernel,
        Carrier::Direct,
        Carrier::Forward,
        Carrier::Shared,
    ];
    carriers.extend(program("OLD_XLATD").map(Carrier::Older));
    carriers.push(Carrier::Tayga(tayga));
    let mut report = Report::new(carriers.iter().map(Carrier::name).collect(), RATIOS);
    for round in 0..rounds {
        println!("round {} of {rounds}", round + 1);
        for carrier in &carriers {
            measure(carrier, duration, &mut report);
        }
        carriers.reverse(); // none always follows the same other one
    }
    report.print();
    report.write("clat", &[]);
}

fn measure(carrier: &Carrier, duration: Duration, report: &mut Report) {
    let lab = Lab::new();
    let running = lab.start(carrier);
    let ends = lab.ends(carrier);
    let only = env::var("ONLY").unwrap_or_default();
    let wanted = |metric: &str| metric.contains(&only);
    let mut add = |metric, better, value| report.add(carrier.name(), metric, better, value);
    let spent = || {
        running
            .daemon
            .as_ref()
            .map(|daemon| cpu::seconds(daemon.pid()))
    };

    for (metric, cost, way, flows) in [
        ("TCP up, Gbit/s", "TCP up, CPU s/GB", Way::Up, 1),
        ("TCP down, Gbit/s", "TCP down, CPU s/GB", Way::Down, 1),
        (
            "TCP, four flows up, Gbit/s",
            "TCP, four flows up, CPU s/GB",
            Way::Up,
            4,
        ),
        (
            "TCP, four flows down, Gbit/s",
            "TCP, four flows down, CPU s/GB",
            Way::Down,
            4,
        ),
    ] {
        if !wanted(metric) {
            continue;
        }
        let before = spent();
        let rate = tcp(ends, way, flows, duration);
        add(metric, Better::More, rate);
        if let (Some(before), Some(after)) = (before, spent()) {
            let gigabytes = rate / 8.0 * duration.as_secs_f64();
            add(cost, Better::Less, (after - before) / gigabytes);
        }
    }

    let what = Datagrams {
        len: 1200,
        at_once: 1,
        flows: 1,
    };
    for (metric, loss, way) in [
        (
            "UDP 1200 octets up, kpps",
            "UDP 1200 octets up, lost %",
            Way::Up,
        ),
        (
            "UDP 1200 octets down, kpps",
            "UDP 1200 octets down, lost %",
            Way::Down,
        ),
    ] {
        if wanted(metric) {
            let Arrived { kpps, lost } = match way {
                Way::Up => udp(ends, what, duration),
                Way::Down => udp_down(ends, what, duration),
            };
            add(metric, Better::More, kpps);
            add(loss, Better::Less, lost);
        }
    }

    if wanted("request and response") {
        let (median, late) = round_trips(ends, 3000);
        add("request and response, median, us", Better::Less, median);
        add("request and response, 99 %, us", Better::Less, late);
    }

    if let Some(daemon) = &running.daemon {
        let memory = cpu::mebibytes(&daemon.status("VmRSS"));
        add("resident memory, MiB", Better::Less, memory);
        add(
            "start to first answer, ms",
            Better::Less,
            running.started_in.as_secs_f64() * 1e3,
        );
        if wanted("idle") {
            let before = cpu::seconds(daemon.pid());
            thread::sleep(IDLE);
            let used = cpu::seconds(daemon.pid()) - before;
            add(
                "CPU while idle, ms/s",
                Better::Less,
                used * 1e3 / IDLE.as_secs_f64(),
            );
        }
    }
    lab.stop(running);
}
