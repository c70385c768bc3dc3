//! The dynamic pool and its leases.

use std::{
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    harness::{Daemon, Directory, Net, SERVER6, send, tayga, wait_for, xlatd_case},
    packet::{EXPERIMENT, Ipv6},
    socket::flood6,
};

/// As Debian's tayga.conf: own addresses, a prefix and a pool, and no maps.
fn config(directory: &Directory) -> String {
    let directory = directory.file("");
    format!(
        "tun-device nat64\nipv4-addr 203.0.113.1\nipv6-addr 2001:db8:ffff::1\nprefix 2001:db8:64::/96\n\
         dynamic-pool 203.0.113.0/24\ndata-dir {}\n",
        directory.display()
    )
}

/// Leases of a dynamic.map, without their times.
fn leases(directory: &Directory) -> Vec<String> {
    let text = fs::read_to_string(directory.file("dynamic.map")).unwrap_or_default();
    let lines = text
        .lines()
        .filter(|line| line.starts_with(|char: char| char.is_ascii_digit()));
    lines
        .map(|line| line.rsplit_once('\t').unwrap().0.to_owned())
        .collect()
}

fn ping(net: &Net) {
    net.client
        .run(&format!("ping -n -c 1 -i 0.1 -w 15 {SERVER6}"));
}

/// A host that nothing maps gets an address of the pool, by which it is reached, and gets it again
/// after a restart.
#[test]
fn lease_outlives_the_daemon() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let mut daemon = net.translate_with(&config(&directory));
        ping(net);
        assert_eq!(
            leases(&directory),
            [""; 0],
            "a change is written within 45 s, not at once"
        );
        daemon.signal(Signal::SIGHUP);
        let first = wait_for("the lease to be written at SIGHUP", || {
            leases(&directory).first().cloned()
        });
        let (address, host) = first.split_once('\t').unwrap();
        assert_eq!(host, "2001:db8:6::10");
        net.server.run(&format!("ping -n -c 1 -w 15 {address}"));
        // What nobody has been lent answers at once (3/1), and does not go round.
        let other = net.server.output("ping -n -c 1 -w 15 203.0.113.250");
        let printed = String::from_utf8_lossy(&other.stdout).into_owned();
        assert!(
            printed.contains("Destination Host Unreachable"),
            "{printed}"
        );
        daemon.stop();

        let daemon = Daemon::start(&net.xlat, &config(&directory));
        net.wait_for_daemon();
        // The server can begin: the lease is active.
        net.server
            .run(&format!("ping -n -c 1 -i 0.1 -w 15 {address}"));
        assert!(daemon.log().contains("Loaded 1 leases"), "{}", daemon.log());
    });
}

/// Leases that TAYGA has made are taken over from its dynamic.map, and an echo request to the
/// address still arrives.
#[test]
fn leases_of_tayga_are_taken_over() {
    xlatd_case(|net| {
        let Some(tayga) = tayga() else { return };
        let directory = Directory::new();
        net.xlat.ip("tuntap add dev nat64 mode tun one_queue");
        net.route_to_device();
        let mut theirs = Daemon::start_program(&tayga, &net.xlat, &config(&directory));
        net.wait_for_daemon();
        ping(net);
        theirs.signal(Signal::SIGTERM);
        theirs.wait();
        let before = leases(&directory);
        assert_eq!(before.len(), 1);

        let mut daemon = Daemon::start(&net.xlat, &config(&directory));
        net.wait_for_daemon();
        let address = before[0].split_once('\t').unwrap().0;
        net.server
            .run(&format!("ping -n -c 1 -i 0.1 -w 15 {address}"));
        daemon.stop();
        assert_eq!(leases(&directory), before);
    });
}

/// A directory that cannot be written is said, and nothing else happens; what is in the file stays
/// there.
#[test]
fn lease_file_that_cannot_be_written_is_reported() {
    xlatd_case(|net| {
        let directory = Directory::new();
        fs::write(
            directory.file("dynamic.map"),
            "203.0.113.9\t2001:db8::9\t1\nnonsense\n",
        )
        .unwrap();
        // Nobody can make a file where there is a directory, not even root.
        fs::create_dir(directory.file("dynamic.map~~")).unwrap();
        let mut daemon = net.translate_with(&config(&directory));
        ping(net);
        daemon.stop();
        let log = daemon.log();
        assert!(
            log.contains("dynamic.map:2:1: expected an IPv4 address"),
            "{log}"
        );
        assert!(log.contains("cannot write the leases"), "{log}");
        assert_eq!(leases(&directory), ["203.0.113.9\t2001:db8::9"]);
    });
}

/// Killed at any moment while it writes, the daemon leaves a whole file: the old one or the new
/// one.
#[test]
fn lease_file_is_whole_after_kill_9() {
    const LEASES: u32 = 2000;
    const KILLS: u64 = 200;
    xlatd_case(|net| {
        let directory = Directory::new();
        let mut text = String::new();
        for host in 1..=LEASES {
            let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + host);
            let second = NEVER_GIVEN_UP;
            writeln!(text, "{address}\t2001:db8:5::{host:x}\t{second}").unwrap();
        }
        fs::write(directory.file("dynamic.map"), text).unwrap();
        let mut before = leases(&directory);
        before.sort();
        let config = config(&directory).replace("203.0.113.0/24", "10.0.0.0/16");
        net.xlat.ip("tuntap add dev nat64 mode tun");
        net.route_to_device();
        let mut interrupted = 0;
        for kill in 0..KILLS {
            let mut daemon = Daemon::start(&net.xlat, &config);
            wait_for("the leases to be loaded", || {
                daemon.log().contains("Explicit mappings").then_some(())
            });
            daemon.signal(Signal::SIGHUP);
            // Sooner and later: before the new file is begun, while it is written, and when it has
            // its place.
            thread::sleep(Duration::from_micros(kill * 25));
            daemon.signal(Signal::SIGKILL);
            daemon.wait();
            if fs::remove_file(directory.file("dynamic.map~~")).is_ok() {
                interrupted += 1;
            }
            let mut after = leases(&directory);
            after.sort();
            assert!(after == before, "{} leases after {kill} kills", after.len());
        }
        println!("{interrupted} of {KILLS} kills found it writing");
    });
}

/// Hosts without an address that send to the server; with `SOURCES`, so many.
fn sources() -> u32 {
    env::var("SOURCES").map_or(100_000, |sources| sources.parse().unwrap())
}

/// More hosts than addresses: memory has a bound, who has an address is served as before, and who
/// has none is counted and logged once in the interval.
#[test]
fn flood_of_hosts_is_refused_and_said_once() {
    xlatd_case(|net| {
        let directory = Directory::new();
        // A /16 for a million hosts.
        let length = if sources() < 1_000_000 { 20 } else { 16 };
        let config = config(&directory).replace("203.0.113.0/24", &format!("10.0.0.0/{length}"));
        let mut daemon = net.translate_with(&config);
        net.server.ip("route add 10.0.0.0/8 via 192.0.2.1");
        net.gate4.ip("route add 10.0.0.0/8 via 198.51.100.1");
        net.xlat.ip("route add 10.0.0.0/8 dev nat64");
        ping(net);
        let before = memory(&daemon);
        let quick = round_trip(net);
        let packet = Ipv6::new("2001:db8:bad::", SERVER6, EXPERIMENT, vec![0; 8]);
        let start = Instant::now();
        flood6(&net.xlat, &packet, sources());
        let duration = start.elapsed();
        ping(net);
        let slow = round_trip(net);
        let more = memory(&daemon) - before;
        println!(
            "{} hosts in {duration:?}; {more} kB more for {} leases; round trip {quick} ms before, {slow} ms after",
            sources(),
            (1 << (32 - length)) - 1
        );
        // Two maps and two sets of so many leases, and no more for those who got none.
        assert!(more < 1000 + (1 << (32 - length)) * 512 / 1024, "{more} kB");
        daemon.stop();
        let log = daemon.log();
        assert_eq!(log.matches("dynamic-pool is full").count(), 1, "{log}");
        let refused = "dropped: no address left in dynamic-pool for the source";
        assert!(log.contains(refused), "{log}");
        assert_eq!(leases(&directory).len(), (1 << (32 - length)) - 1);
    });
}

/// Resident memory, in kB, without the text of the program, which comes as it is run.
fn memory(daemon: &Daemon) -> i64 {
    daemon
        .status("RssAnon")
        .strip_suffix(" kB")
        .unwrap()
        .parse()
        .unwrap()
}

/// The mean of twenty, in ms.
fn round_trip(net: &Net) -> f64 {
    let printed = net
        .client
        .run(&format!("ping -n -c 20 -i 0.01 -w 15 {SERVER6}"));
    let (_, times) = printed.split_once("min/avg/max/mdev = ").unwrap();
    times.split('/').nth(1).unwrap().parse().unwrap()
}

/// A file system with a data-dir, in a mount namespace of the daemon.
struct FileSystem {
    directory: Directory,
}

impl FileSystem {
    fn new() -> Self {
        let directory = Directory::new();
        fs::create_dir(directory.file("data")).unwrap();
        Self { directory }
    }

    fn config(&self) -> String {
        let path = self.directory.file("data");
        config(&self.directory).replace(
            &format!("data-dir {}", self.directory.file("").display()),
            &format!("data-dir {}", path.display()),
        )
    }

    /// Starts the daemon after some commands, in the data-dir.
    fn start(&self, net: &Net, commands: &str) -> Daemon {
        net.xlat.ip("tuntap add dev nat64 mode tun");
        net.route_to_device();
        let path = self.directory.file("data");
        let script = format!(
            "set -e; mount -t tmpfs -o size=64k tmpfs {0}; cd {0}; {commands}; cd /; exec \"$0\" \"$@\"",
            path.display()
        );
        let launcher = ["unshare", "--mount", "sh", "-c", &script];
        let daemon = Daemon::start_by(&launcher, &net.xlat, &self.config());
        net.wait_for_daemon();
        daemon.prints("Running as");
        daemon
    }

    /// A file of the data-dir, as the daemon sees it.
    fn file(&self, daemon: &Daemon, name: &str) -> PathBuf {
        let path = self.directory.file("data").join(name);
        Path::new(&format!("/proc/{}/root", daemon.pid())).join(path.strip_prefix("/").unwrap())
    }
}

const OLD_LEASE: &str = "printf '203.0.113.9\\t2001:db8::9\\t4000000000\\n' >dynamic.map";

/// A full disk is reported; the file stays what it was, packets flow, and leases are written once
/// there is room.
#[test]
fn full_disk_loses_no_lease() {
    xlatd_case(|net| {
        let disk = FileSystem::new();
        let fill = format!("{OLD_LEASE}; cat /dev/zero >filler 2>/dev/null || :");
        let daemon = disk.start(net, &fill);
        let before = fs::read_to_string(disk.file(&daemon, "dynamic.map")).unwrap();
        ping(net);
        daemon.signal(Signal::SIGHUP);
        daemon.prints("cannot write the leases: No space left on device");
        let after = fs::read_to_string(disk.file(&daemon, "dynamic.map")).unwrap();
        assert_eq!(after, before);
        ping(net);
        fs::remove_file(disk.file(&daemon, "filler")).unwrap();
        daemon.signal(Signal::SIGHUP);
        wait_for("both leases", || {
            let text = fs::read_to_string(disk.file(&daemon, "dynamic.map")).unwrap();
            (text.contains("2001:db8::9\t") && text.contains("2001:db8:6::10\t")).then_some(())
        });
    });
}

/// So is a directory that may only be read, whose leases are taken over all the same.
#[test]
fn read_only_directory_is_reported() {
    xlatd_case(|net| {
        let disk = FileSystem::new();
        let directory = disk.directory.file("data");
        let commands = format!("{OLD_LEASE}; mount -o remount,ro {}", directory.display());
        let daemon = disk.start(net, &commands);
        daemon.prints("dynamic.map.lock: cannot be locked");
        daemon.prints("Loaded 1 leases");
        ping(net);
        daemon.signal(Signal::SIGHUP);
        daemon.prints("cannot write the leases: Read-only file system");
        ping(net);
    });
}

/// Hosts with a lease reach each other by their IPv4 addresses, as those with a map do (RFC 7757
/// section 4).
#[test]
fn hosts_with_leases_reach_each_other() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let daemon = net.translate_with(&config(&directory));
        net.client.ip("addr add 2001:db8:6::20/64 dev gate6 nodad");
        ping(net);
        daemon.signal(Signal::SIGHUP);
        let lease = wait_for("the lease", || leases(&directory).first().cloned());
        let (address, _) = lease.split_once('\t').unwrap();
        let address: std::net::Ipv4Addr = address.parse().unwrap();
        let mapped = std::net::Ipv6Addr::from_bits(
            "2001:db8:64::"
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .to_bits()
                | u128::from(address.to_bits()),
        );
        net.client.run(&format!(
            "ping -n -c 1 -i 0.1 -w 15 -I 2001:db8:6::20 {mapped}"
        ));
    });
}

/// The daemon under strace(1), which writes its calls to the file `trace` of the directory.
struct Traced {
    /// strace(1) itself, which keeps signals to itself.
    _strace: Daemon,
    child: String,
}

impl Traced {
    fn start(net: &Net, directory: &Directory, options: &[&str]) -> Self {
        let trace = directory.file("trace").display().to_string();
        let launcher = [
            &["strace", "-f", "-y", "-o", &trace],
            options,
            // strace(1) that is killed leaves what it traces.
            &["setpriv", "--pdeathsig", "KILL", "--"],
        ];
        net.xlat.ip("tuntap add dev nat64 mode tun");
        net.route_to_device();
        let strace = Daemon::start_by(&launcher.concat(), &net.xlat, &config(directory));
        strace.prints("Running as");
        let pid = strace.pid();
        let child = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        Self {
            _strace: strace,
            child,
        }
    }

    fn signal(&self, signal: Signal) {
        send(signal, &self.child);
    }
}

/// The new file is on the disk before it takes the place of the old one, and so is the change of
/// the directory: what the kernel was told, in this order (fsync(2)).
#[test]
fn leases_are_on_the_disk_before_the_old_file_goes() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let options = ["-e", "trace=fsync,fdatasync,renameat,renameat2"];
        let daemon = Traced::start(net, &directory, &options);
        daemon.signal(Signal::SIGTERM);
        wait_for("three calls", || {
            let calls = fs::read_to_string(directory.file("trace")).unwrap_or_default();
            let calls: Vec<_> = calls.lines().collect();
            let place = |what: &str| calls.iter().position(|line| line.contains(what));
            let file = place("dynamic.map~~>) = 0")?;
            let renamed = place("\"dynamic.map\")")?;
            let directory = calls.iter().rposition(|line| line.contains("sync("))?;
            (file < renamed && renamed < directory).then_some(())
        });
    });
}

/// No packet waits for a disk that takes its time.
#[test]
fn slow_disk_holds_up_no_packets() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let slow = "inject=fsync:delay_enter=3000000"; // in microseconds
        let daemon = Traced::start(net, &directory, &["-e", "trace=fsync", "-e", slow]);
        ping(net);
        daemon.signal(Signal::SIGHUP);
        wait_for("the new file", || {
            directory.file("dynamic.map~~").exists().then_some(())
        });
        net.client
            .run(&format!("ping -n -c 3 -i 0.1 -W 1 {SERVER6}"));
        assert!(
            !directory.file("dynamic.map").exists(),
            "the disk was not slow"
        );
        daemon.signal(Signal::SIGKILL);
    });
}

/// A time in the future: such leases are dormant from now on.
const NEVER_GIVEN_UP: u64 = 4_000_000_000;
