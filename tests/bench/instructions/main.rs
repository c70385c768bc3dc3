//! Instructions per packet with tables of different size, and with packets that are joined, counted
//! by valgrind(1): they do not depend on what else the machine does (`cargo bench --bench
//! instructions`).

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

#[path = "../maps.rs"]
mod maps;
#[path = "../rig.rs"]
mod rig;

use std::{env, process::Command, time::Instant};

use xlatd::translate::{Coalescer, Offered, Packet, Translator};

use crate::{
    maps::{HOSTS, Maps, SIZES, shuffled},
    rig::Sample,
};

/// Numbers of flows whose packets are offered to be joined, one of each after the other.
const FLOWS: [u32; 4] = [1, 100, 1_000, HOSTS];
/// So many packets are read before those that wait are written.
const TURN: usize = 256;

fn main() {
    // `cargo bench` adds `--bench`; what is run by valgrind gets what to do and a number.
    let words: Vec<_> = env::args().skip(1).collect();
    if let [what, number] = words.as_slice()
        && let Ok(number) = number.parse()
    {
        return if what == "maps" {
            run(Maps(number))
        } else {
            run_joining(number)
        };
    }
    println!("| maps | instructions per packet | to one map |");
    println!("|---|---|---|");
    let mut first = None;
    for size in SIZES {
        let count = count("maps", size);
        let first = *first.get_or_insert(count);
        println!(
            "| {size} | {count:.1} | {:+.1} % |",
            (count / first - 1.0) * 100.0
        );
    }
    println!("\n| flows | instructions per packet, joining |");
    println!("|---|---|");
    for flows in FLOWS {
        println!("| {flows} | {:.1} |", count("flows", flows));
    }
}

/// Translates a packet of each host, in both directions.
fn run(maps: Maps) {
    let mut translator = rig::translator(maps);
    let samples: Vec<_> = shuffled()
        .flat_map(|host| [4, 6].map(|version| Sample::new(maps, host, version, 92)))
        .collect();
    translate_all(&samples, &mut translator);
}

/// The same with so many hosts, and joins what can be joined.
fn run_joining(flows: u32) {
    let maps = Maps(1);
    let mut translator = rig::translator(maps);
    let hosts = shuffled().filter(|host| *host < flows);
    let samples: Vec<_> = hosts.map(|host| Sample::new(maps, host, 6, 112)).collect();
    let rounds = 2 * HOSTS / flows;
    join_all(&samples, rounds, &mut translator);
}

/// What is counted.
#[inline(never)]
fn translate_all(samples: &[Sample], translator: &mut Translator) {
    let now = Instant::now();
    let mut packet = Packet::new();
    for sample in samples {
        sample.translate(translator, &mut packet, now);
    }
}

/// What is counted.
#[inline(never)]
fn join_all(samples: &[Sample], rounds: u32, translator: &mut Translator) {
    let now = Instant::now();
    let mut packet = Packet::new();
    let mut coalescer = Coalescer::default();
    let mut in_turn = 0;
    for sample in (0..rounds).flat_map(|_| samples) {
        sample.translate(translator, &mut packet, now);
        while let Offered::First(waiting) = coalescer.offer(&packet) {
            waiting.with_header();
        }
        in_turn += 1;
        if in_turn == TURN {
            in_turn = 0;
            while let Some(waiting) = coalescer.take() {
                waiting.with_header();
            }
        }
    }
}

/// Of a run: instructions per packet.
fn count(what: &str, number: u32) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no"])
        .args(["translate_all", "join_all"].map(|name| format!("--toggle-collect=*{name}*")))
        .arg(env::current_exe().unwrap())
        .args([what, &number.to_string()])
        .output()
        .expect("valgrind(1)");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let collected = said.lines().find_map(|line| {
        let (_, count) = line.split_once("Collected : ")?;
        count.trim().parse::<f64>().ok()
    });
    collected.unwrap_or_else(|| panic!("{said}")) / f64::from(2 * HOSTS)
}
