//! The dynamic pool and its leases.

use std::{fmt::Write, fs, thread, time::Duration};

use nix::sys::signal::Signal;

use crate::harness::{Daemon, Directory, Net, SERVER6, daemon, tayga, wait_for, xlatd_case};

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

/// A host that nothing maps gets an address of the pool, by which it is reached, and gets it again after a restart.
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
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.wait().code(), Some(0));

        let daemon = Daemon::start(&net.xlat, &config(&directory));
        net.wait_for_daemon();
        // The server can begin: the lease is active.
        net.server
            .run(&format!("ping -n -c 1 -i 0.1 -w 15 {address}"));
        assert!(daemon.log().contains("Loaded 1 leases"), "{}", daemon.log());
    });
}

/// Leases that TAYGA has made are taken over from its dynamic.map, and an echo request to the address still arrives.
#[test]
fn leases_of_tayga_are_taken_over() {
    xlatd_case(|net| {
        let Some(tayga) = tayga() else { return };
        let directory = Directory::new();
        net.xlat.ip("tuntap add dev nat64 mode tun");
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
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.wait().code(), Some(0));
        assert_eq!(leases(&directory), before);
    });
}

/// A host gets the address from xlatd that TAYGA would give it.
#[test]
fn same_address_as_from_tayga() {
    xlatd_case(|net| {
        let Some(tayga) = tayga() else { return };
        net.xlat.ip("tuntap add dev nat64 mode tun");
        net.route_to_device();
        let mut given = Vec::new();
        for program in [tayga, daemon()] {
            let directory = Directory::new();
            let mut daemon = Daemon::start_program(&program, &net.xlat, &config(&directory));
            net.wait_for_daemon();
            ping(net);
            daemon.signal(Signal::SIGTERM);
            daemon.wait();
            given.push(leases(&directory));
        }
        assert_eq!(given[0], given[1]);
        assert_eq!(given[0].len(), 1);
    });
}

/// A directory that cannot be written is said, and nothing else happens; what is in the file stays there.
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
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.wait().code(), Some(0));
        let log = daemon.log();
        assert!(
            log.contains("dynamic.map:2: expected an IPv4 address"),
            "{log}"
        );
        assert!(log.contains("cannot write the leases"), "{log}");
        assert_eq!(leases(&directory), ["203.0.113.9\t2001:db8::9"]);
    });
}

/// Killed at any moment while it writes, the daemon leaves a whole file: the old one or the new one.
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
            // Sooner and later: before the new file is begun, while it is written, and when it has its place.
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

/// A time in the future: such leases are dormant from now on.
const NEVER_GIVEN_UP: u64 = 4_000_000_000;
