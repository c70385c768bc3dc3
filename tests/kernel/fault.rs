//! Faults around a translator: devices, descriptors, memory, signals, system calls.
//!
//! Other faults are elsewhere: a device that is removed, goes down or gets another MTU in `device`,
//! disks that are full, slow or read-only in `pool`, log readers that stall in `log`, netlink and
//! resolvers of a CLAT in `clat`, floods in `flood`.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    clat::{ClatNet, PREFIX, clat_case},
    harness::{CONFIG, Daemon, Directory, Net, SERVER6, wait_for, xlatd_case},
};

fn start_by(net: &Net, launcher: &[&str], config: &str) -> Daemon {
    net.xlat.ip("tuntap add dev nat64 mode tun");
    net.route_to_device();
    let daemon = Daemon::start_by(launcher, &net.xlat, config);
    net.wait_for_daemon();
    daemon.prints("Sandbox");
    daemon
}

fn pings(net: &Net) -> bool {
    let ping = format!("ping -n -c 1 -W 0.5 {SERVER6}");
    net.client.output(&ping).status.success()
}

fn goes_on(net: &Net) {
    wait_for("packets to cross", || pings(net).then_some(()));
}

/// A renamed device stays in use.
#[test]
fn a_device_may_be_renamed() {
    xlatd_case(|net| {
        let mut daemon = start_by(net, &[], CONFIG);
        goes_on(net);
        net.xlat.ip("link set nat64 down
            link set nat64 name other
            link set other up
            route add 203.0.113.0/24 dev other
            route add 2001:db8:64::/96 dev other");
        goes_on(net);
        daemon.stop();
    });
}

/// The kernel drops messages about the device if there are too many: the last state counts.
#[test]
fn changes_of_the_device_may_be_missed() {
    xlatd_case(|net| {
        let daemon = start_by(net, &[], CONFIG);
        goes_on(net);
        daemon.signal(Signal::SIGSTOP);
        // Each causes a message; the socket has room for a few hundred.
        let changes: String = (0..2000)
            .map(|number| format!("link set nat64 mtu {}\n", 1400 + number % 2))
            .collect();
        net.xlat.ip(&changes);
        net.xlat.ip("link set nat64 mtu 1300");
        daemon.signal(Signal::SIGCONT);
        daemon.prints("1300");
        goes_on(net);
    });
}

/// While the daemon is stopped (SIGSTOP) its queue fills up. It continues afterwards.
#[test]
fn it_may_be_stopped_for_a_while() {
    xlatd_case(|net| {
        let daemon = start_by(net, &[], CONFIG);
        goes_on(net);
        daemon.signal(Signal::SIGSTOP);
        let flood = format!("ping -n -q -c 2000 -i 0.0005 -W 0.1 {SERVER6}");
        net.client.output(&flood);
        assert!(!pings(net));
        daemon.signal(Signal::SIGCONT);
        goes_on(net);
    });
}

/// In a storm of signals packets still cross, and SIGTERM is obeyed at once.
#[test]
fn signals_may_come_in_a_storm() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let maps = directory.file("maps");
        fs::write(&maps, "map 203.0.113.77 2001:db8:6::77\n").unwrap();
        let config = format!("{CONFIG}map-file {}\n", maps.display());
        let mut daemon = start_by(net, &[], &config);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(1) {
            daemon.signal(Signal::SIGHUP);
        }
        goes_on(net);
        for _ in 0..1000 {
            daemon.signal(Signal::SIGHUP);
        }
        let asked = Instant::now();
        daemon.stop();
        assert!(asked.elapsed() < Duration::from_secs(1));
    });
}

/// Without free descriptors packets cross, and a warning says that leases cannot be written.
#[test]
fn descriptors_may_run_out() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let config = format!(
            "{CONFIG}dynamic-pool 203.0.113.128/25\ndata-dir {}\n",
            directory.file("").display()
        );
        let mut daemon = start_by(net, &[], &config);
        net.xlat
            .run(&format!("prlimit --pid {} --nofile=4:1024", daemon.pid()));
        net.client.ip("addr add 2001:db8:6::99/64 dev gate6 nodad");
        let ping = format!("ping -n -c 1 -W 1 -I 2001:db8:6::99 {SERVER6}");
        wait_for("a lease", || {
            net.client.output(&ping).status.success().then_some(())
        });
        goes_on(net);
        daemon.stop();
        let log = daemon.log();
        assert!(log.contains("cannot write the leases"), "{log}");
    });
}

/// Without free memory packets cross, and leases are written by a thread or not at all.
#[test]
fn memory_may_run_out() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let config = format!(
            "{CONFIG}dynamic-pool 203.0.113.128/25\ndata-dir {}\n",
            directory.file("").display()
        );
        let daemon = start_by(net, &[], &config);
        goes_on(net);
        let size = daemon.status("VmSize");
        let size: u64 = size.trim_end_matches(" kB").parse().unwrap();
        net.xlat.run(&format!(
            "prlimit --pid {} --as={}",
            daemon.pid(),
            size * 1024
        ));
        net.client.ip("addr add 2001:db8:6::99/64 dev gate6 nodad");
        let ping = format!("ping -n -c 1 -W 1 -I 2001:db8:6::99 {SERVER6}");
        wait_for("a lease", || {
            net.client.output(&ping).status.success().then_some(())
        });
        goes_on(net);
    });
}

/// A packet that the kernel rejects is lost, counted and logged, and the next one is sent.
#[test]
fn writes_may_fail() {
    for error in ["EIO", "ENOBUFS", "ENOSPC", "EINVAL"] {
        xlatd_case(|net| {
            let inject = format!("inject=write,writev:error={error}:when=3+3");
            let launcher = injecting(&inject);
            let mut daemon = start_by(net, &launcher, CONFIG);
            goes_on(net);
            for _ in 0..10 {
                pings(net);
            }
            goes_on(net);
            daemon.prints("cannot write a packet");
            daemon.signal(Signal::SIGTERM);
            daemon.wait();
            let log = daemon.log();
            assert!(log.contains("Packets rejected by the kernel: "), "{log}");
            assert!(log.matches("cannot write a packet").count() <= 5, "{log}");
        });
    }
}

/// If the device cannot be read, the daemon logs one error and ends; it does not spin.
#[test]
fn reads_that_fail_end_the_daemon() {
    for error in ["EIO", "ENOBUFS", "ENOSPC", "EINVAL"] {
        xlatd_case(|net| {
            let inject = format!("inject=read:error={error}:when=20+");
            let mut daemon = start_by(net, &injecting(&inject), CONFIG);
            wait_for("a read that fails", || {
                pings(net);
                daemon.log().contains("cannot read from").then_some(())
            });
            assert_eq!(daemon.wait().code(), Some(1), "{}", daemon.log());
            let log = daemon.log();
            assert_eq!(log.matches("cannot read from").count(), 1, "{log}");
        });
    }
}

/// The launcher that injects faults by strace(1), into calls on the TUN device alone.
fn injecting(inject: &str) -> [&str; 10] {
    [
        "strace",
        "-D",
        "--quiet=all",
        "-o",
        "/dev/null",
        "-P",
        "/dev/net/tun",
        "-e",
        inject,
        "--",
    ]
}

/// A CLAT whose first attempt to open a packet socket on the uplink fails with an error.
fn without_packet_socket(net: &ClatNet, error: &str) -> Daemon {
    // The first call is that of the control socket, the next three are of netlink, and the fifth is
    // for solicitations.
    let inject = format!("inject=bind:error={error}:when=6");
    let launcher = [
        "strace",
        "-D",
        "--quiet=all",
        "-o",
        "/dev/null",
        "-e",
        &inject,
        "--",
    ];
    let daemon = Daemon::start_clat_by(&launcher, &net.host, &net.runtime, "");
    daemon.prints("Waiting for");
    net.advertise(&[(PREFIX, 600)]);
    daemon.prints("cannot open a packet socket");
    daemon
}

/// A packet socket on the uplink that cannot be opened, as for a link that has just vanished, is
/// opened later, and IPv4 works.
#[test]
fn the_packet_socket_may_be_opened_later() {
    clat_case(|net: &ClatNet| {
        let daemon = without_packet_socket(net, "ENODEV");
        net.wait_for_ipv4();
        assert!(!daemon.log().contains("forwarded by the kernel"));
    });
}

/// Where none can be opened at all, the kernel forwards.
#[test]
fn packet_sockets_may_be_forbidden() {
    clat_case(|net: &ClatNet| {
        let daemon = without_packet_socket(net, "EPERM");
        daemon.prints("forwarded by the kernel");
        net.wait_for_ipv4();
    });
}

/// From a damaged undo journal, the lines that can be read are undone, and IPv4 works.
#[test]
fn a_record_may_be_damaged() {
    clat_case(|net: &ClatNet| {
        let record = net.runtime.file("clat.steps");
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let namespace = net.host.inside(|| {
            let link = fs::read_link("/proc/thread-self/ns/net").unwrap();
            link.display().to_string()
        });
        let number = namespace.trim_start_matches("net:[").trim_end_matches(']');
        let first = format!("boot {} namespace {number}\n", boot.trim());
        net.host
            .ip("rule add from 192.0.0.1 lookup 4711 priority 7 protocol 100");
        let mut text = first.into_bytes();
        text.extend(b"rule 192.0.0.1/32 0.0.0.0/0 0 4711 7\nrule\n\xff\xfe\x00\nsysctl ../kernel/x 1 2\nruleset fil");
        fs::write(&record, text).unwrap();
        let daemon = net.start("");
        daemon.prints("Undoing what was left");
        wait_for("the rule to be removed", || {
            (!net.host.run("ip rule").contains("4711")).then_some(())
        });
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
    });
}
