//! Instructions per packet with tables of different size, counted by valgrind(1): they do not
//! depend on what else the machine does (`cargo bench --bench instructions`).

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

#[path = "../maps.rs"]
mod maps;
#[path = "../rig.rs"]
mod rig;

use std::{env, process::Command, time::Instant};

use xlatd::translate::Packet;

use crate::{
    maps::{HOSTS, Maps, SIZES, shuffled},
    rig::Sample,
};

fn main() {
    // `cargo bench` adds `--bench`; what is run by valgrind gets a number of maps.
    if let Some(maps) = env::args().skip(1).find_map(|word| word.parse().ok()) {
        return run(Maps(maps));
    }
    println!("| maps | instructions per packet | to one map |");
    println!("|---|---|---|");
    let mut first = None;
    for size in SIZES {
        let count = count(size);
        let first = *first.get_or_insert(count);
        println!(
            "| {size} | {count:.1} | {:+.1} % |",
            (count / first - 1.0) * 100.0
        );
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

/// What is counted.
#[inline(never)]
fn translate_all(samples: &[Sample], translator: &mut xlatd::translate::Translator) {
    let now = Instant::now();
    let mut packet = Packet::new();
    for sample in samples {
        sample.translate(translator, &mut packet, now);
    }
}

/// Of a run with so many maps: instructions per packet.
fn count(maps: u32) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=*translate_all*"])
        .arg(env::current_exe().unwrap())
        .arg(maps.to_string())
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
