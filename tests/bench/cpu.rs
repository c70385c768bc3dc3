//! What a process costs.

use nix::unistd::Pid;

/// The time that a process and its workers have had of the processors so far, in seconds.
pub(crate) fn seconds(pid: Pid) -> f64 {
    let workers = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let workers = workers.split_whitespace().map(seconds_of_one);
    seconds_of_one(&pid.to_string()) + workers.sum::<f64>()
}

fn seconds_of_one(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the name, which may hold anything: utime and stime are fields 14 and 15, in ticks of
    // 10 ms.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<_> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields[at - 3].parse::<f64>().unwrap();
    (ticks(14) + ticks(15)) / 100.0
}

/// Its resident memory, as a line of /proc/PID/status says it, in MiB.
pub(crate) fn mebibytes(resident: &str) -> f64 {
    let kibibytes: f64 = resident.strip_suffix(" kB").unwrap().parse().unwrap();
    kibibytes / 1024.0
}
