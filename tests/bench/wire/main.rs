//! How fast packets cross, over real devices: xlatd beside Debian's tayga, the kernel's own
//! forwarding, and a TUN device whose packets nobody translates.
//!
//! Rounds are interleaved: in each, every carrier is measured once, so that what else the machine
//! does meets all of them. The environment has `ROUNDS` (7), `SECONDS_EACH` (2, for each figure),
//! `ONLY` (a part of the names of figures), `TAYGA` (Debian's tayga), `NEWER_TAYGA` (optional: one
//! that knows `workers`) and `OLD_XLATD` (optional: an older xlatd). It prints a table of medians
//! and of ratios, pair by pair, and writes `target/bench/wire.json` and `wire.svg`.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]
#![allow(dead_code, reason = "the harness is that of the kernel tests")]

mod ceiling;
#[path = "../cpu.rs"]
mod cpu;
#[path = "../generator.rs"]
mod generator;
#[path = "../../kernel/harness.rs"]
mod harness;
mod lab;
#[path = "../load.rs"]
mod load;
mod many_flows;
#[path = "../maps.rs"]
mod maps;
#[path = "../../kernel/packet.rs"]
mod packet;
#[path = "../report.rs"]
mod report;

use std::{env, path::PathBuf, thread, time::Duration};

use crate::{
    lab::{Carrier, Lab, Running, Workers},
    load::{Datagrams, Ends, Way, round_trips, tcp, udp},
    many_flows::{Crossed, from_many_flows, from_many_hosts},
    maps::{Maps, SIZES},
    report::{Better, Report},
};

/// No case differs: this is for the harness.
const TAYGA_DIFFERS: &[(&str, &str)] = &[];

const RATIOS: &[[&str; 2]] = &[
    ["xlatd", "tayga"],
    ["xlatd", "TUN itself"],
    ["xlatd", "TUN itself, with headers"],
    ["xlatd", "older xlatd"],
    ["xlatd", "kernel, no translation"],
];

const CHARTED: [&str; 4] = [
    "TCP, one flow, 6 to 4, Gbit/s",
    "TCP, one flow, 4 to 6, Gbit/s",
    "UDP 64 octets, kpps",
    "UDP super-packets of 1200 octets, kpps",
];

/// Names of figures.
struct ManyFlows {
    sent: &'static str,
    kpps: &'static str,
    cpu: &'static str,
    start: &'static str,
}

macro_rules! many_flows {
    ($case:literal) => {
        ManyFlows {
            sent: concat!($case, ", sent, kpps"),
            kpps: concat!($case, ", kpps"),
            cpu: concat!($case, ", CPU s per million"),
            start: concat!($case, ", start, ms"),
        }
    };
}

const HUNDRED_FLOWS: ManyFlows = many_flows!("100 flows of 64 octets");

const MAPS: [ManyFlows; SIZES.len()] = [
    many_flows!("100,000 hosts, 1 map"),
    many_flows!("100,000 hosts, 1,000 maps"),
    many_flows!("100,000 hosts, 10,000 maps"),
    many_flows!("100,000 hosts, 100,000 maps"),
];

fn main() {
    if let Some((device, headers)) = ceiling::wanted() {
        ceiling::run(&device, headers);
    }
    let number = |name: &str, default: u64| {
        env::var(name).map_or(default, |value| value.parse().expect(name))
    };
    let rounds = number("ROUNDS", 7);
    let duration = Duration::from_secs(number("SECONDS_EACH", 2));
    let only = env::var("ONLY").unwrap_or_default();
    let carriers = carriers();
    let mut report = Report::new(carriers.iter().map(Carrier::name).collect(), RATIOS);
    for round in 0..rounds {
        println!("round {} of {rounds}", round + 1);
        for carrier in &carriers {
            let mut figures = Figures {
                carrier,
                duration,
                only: &only,
                report: &mut report,
            };
            figures.measure();
            figures.measure_maps();
        }
    }
    report.print();
    report.write("wire", &CHARTED);
}

fn carriers() -> Vec<Carrier> {
    let program = |name| env::var_os(name).map(PathBuf::from);
    let tayga = program("TAYGA").expect("TAYGA names Debian's tayga");
    let processors = thread::available_parallelism().unwrap().get();
    let mut carriers = vec![Carrier::Kernel];
    carriers.extend([false, true].map(|headers| Carrier::Tun { headers }));
    carriers.push(Carrier::Tayga(tayga));
    if let Some(program) = program("NEWER_TAYGA") {
        let one = [Workers::One].into_iter();
        let all = one.chain((processors > 1).then_some(Workers::OneAProcessor));
        carriers.extend(all.map(|workers| Carrier::NewerTayga {
            program: program.clone(),
            workers,
        }));
    } else {
        println!("No newer tayga is at hand (TAYGA_HEAD)");
    }
    carriers.extend(program("OLD_XLATD").map(Carrier::Older));
    let workers = Workers::One;
    carriers.extend([true, false].map(|offload| Carrier::Xlatd { offload, workers }));
    if processors > 1 {
        carriers.push(Carrier::Xlatd {
            offload: true,
            workers: Workers::OneAProcessor,
        });
    }
    carriers
}

/// The figures of one carrier in one round.
struct Figures<'a> {
    carrier: &'a Carrier,
    duration: Duration,
    /// A part of the names of those that are wanted.
    only: &'a str,
    report: &'a mut Report,
}

impl Figures<'_> {
    fn wanted(&self, metric: &str) -> bool {
        metric.contains(self.only)
    }

    fn add(&mut self, metric: &'static str, better: Better, value: f64) {
        self.report.add(self.carrier.name(), metric, better, value);
    }

    fn measure(&mut self) {
        let lab = Lab::new();
        let running = lab.start(self.carrier, "");
        let ends = Ends {
            client: &lab.client,
            server: &lab.server,
            to: self.carrier.server(),
            listens: self.carrier.listens(),
        };
        self.measure_tcp(ends, &running);
        self.measure_udp(ends);
        if self.wanted("request and response") {
            let (median, late) = round_trips(ends, 3000);
            self.add("request and response, median, us", Better::Less, median);
            self.add("request and response, 99 %, us", Better::Less, late);
        }
        if [HUNDRED_FLOWS.sent, HUNDRED_FLOWS.kpps, HUNDRED_FLOWS.cpu]
            .iter()
            .any(|metric| self.wanted(metric))
        {
            let crossed = from_many_flows(&lab, self.carrier, &running, self.duration);
            self.add_many_flows(&HUNDRED_FLOWS, crossed);
        }
        if let (Some(daemon), Some(started_in)) = (&running.daemon, running.started_in) {
            let memory = cpu::mebibytes(&daemon.status("VmRSS"));
            self.add("resident memory, MiB", Better::Less, memory);
            self.add("start, ms", Better::Less, started_in.as_secs_f64() * 1e3);
        }
        lab.stop(running);
    }

    fn measure_tcp(&mut self, ends: Ends<'_>, running: &Running) {
        let daemon = running.daemon.as_ref();
        let spent = || daemon.map(|daemon| cpu::seconds(daemon.pid()));
        let before = spent();
        let mut gigabytes = 0.0;
        for (metric, way, flows) in [
            ("TCP, one flow, 6 to 4, Gbit/s", Way::Up, 1),
            ("TCP, one flow, 4 to 6, Gbit/s", Way::Down, 1),
            ("TCP, four flows, 6 to 4, Gbit/s", Way::Up, 4),
            ("TCP, four flows, 4 to 6, Gbit/s", Way::Down, 4),
        ] {
            if !self.wanted(metric) {
                continue;
            }
            let rate = tcp(ends, way, flows, self.duration);
            gigabytes += rate / 8.0 * self.duration.as_secs_f64();
            self.add(metric, Better::More, rate);
        }
        if gigabytes > 0.0
            && let (Some(before), Some(after)) = (before, spent())
        {
            let seconds = after - before;
            self.add(
                "CPU of the translator, s/GB",
                Better::Less,
                seconds / gigabytes,
            );
        }
    }

    fn measure_udp(&mut self, ends: Ends<'_>) {
        let plain = |len| Datagrams {
            len,
            at_once: 1,
            flows: 1,
        };
        for (metric, what) in [
            ("UDP 64 octets, kpps", plain(64)),
            ("UDP 1200 octets, kpps", plain(1200)),
            (
                "UDP super-packets of 1200 octets, kpps",
                Datagrams {
                    len: 1200,
                    at_once: 50,
                    flows: 1,
                },
            ),
        ] {
            if self.wanted(metric) {
                let arrived = udp(ends, what, self.duration);
                self.add(metric, Better::More, arrived.kpps);
            }
        }
        // No checksum offload on the way in: what comes has complete checksums.
        let metric = "UDP 64 octets, complete checksums, kpps";
        if self.wanted(metric) {
            ends.client.run("ethtool -K router tx off");
            let arrived = udp(ends, plain(64), self.duration);
            self.add(metric, Better::More, arrived.kpps);
            ends.client.run("ethtool -K router tx on");
        }
    }

    /// With tables of maps in use by many hosts.
    fn measure_maps(&mut self) {
        for (size, names) in SIZES.into_iter().zip(MAPS) {
            let wanted = [names.sent, names.kpps, names.cpu, names.start];
            let wanted = wanted.iter().any(|metric| self.wanted(metric));
            // tayga looks through its maps one by one: with more of them it would take the round
            // for itself. Who translates nothing has none.
            let most = match self.carrier {
                Carrier::Kernel | Carrier::Tun { .. } => 1,
                Carrier::Tayga(_) | Carrier::NewerTayga { .. } => 1_000,
                Carrier::Older(_) | Carrier::Xlatd { .. } => u32::MAX,
            };
            if !wanted || size > most {
                continue;
            }
            let maps = Maps(size);
            let lab = Lab::new();
            lab.router.ip("route add blackhole 10.0.0.0/8");
            let running = lab.start(self.carrier, &maps.lines());
            let crossed = from_many_hosts(&lab, self.carrier, &running, maps, self.duration);
            self.add_many_flows(&names, crossed);
            if let Some(started_in) = running.started_in {
                self.add(names.start, Better::Less, started_in.as_secs_f64() * 1e3);
            }
            lab.stop(running);
        }
    }

    fn add_many_flows(&mut self, names: &ManyFlows, crossed: Crossed) {
        self.add(names.sent, Better::More, crossed.sent);
        self.add(names.kpps, Better::More, crossed.kpps);
        if let Some(cpu) = crossed.cpu {
            self.add(names.cpu, Better::Less, cpu);
        }
    }
}
