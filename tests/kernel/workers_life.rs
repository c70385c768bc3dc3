//! Several workers as processes: how they start, follow and end together.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    control::connect,
    harness::{
        CONFIG, Daemon, Directory, Listener, daemon, runs, send, uninterrupted, wait_for,
        xlatd_case,
    },
    workers::{Flows, WORKERS, status, translate},
};

/// SIGHUP has all workers use the new map-file.
#[test]
fn a_reload_reaches_all_workers() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let maps = directory.file("maps");
        fs::write(&maps, "").unwrap();
        let config = CONFIG.replace("map 203.0.113.10 2001:db8:6::10", "#");
        let daemon = translate(
            net,
            &format!("{config}map-file {}\n{WORKERS}", maps.display()),
        );
        for address in ["203.0.113.20", "203.0.113.21"] {
            fs::write(&maps, format!("map {address} 2001:db8:6::10\n")).unwrap();
            daemon.signal(Signal::SIGHUP);
            let reloaded = format!("SIGHUP: reloaded {}", maps.display());
            let times = if address.ends_with("20") { 1 } else { 2 };
            wait_for("the reload", || {
                (daemon.log().matches(&reloaded).count() == times).then_some(())
            });
            let flows = Flows::new(net, 60);
            flows.exchange(2);
            for socket in &flows.client {
                socket.send(&[0; 4]).unwrap();
                let (_, from) = uninterrupted(|| flows.server.recv_from(&mut [0; 4])).unwrap();
                assert_eq!(from.ip().to_string(), address);
            }
        }
    });
}

/// None uses the new map-file before all have read it, so a packet and its answer have the same.
#[test]
fn a_reload_waits_for_the_slowest_worker() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let maps = directory.file("maps");
        let write = |address: &str| {
            fs::write(&maps, format!("map {address} 2001:db8:6::10\n")).unwrap();
        };
        write("203.0.113.20");
        let config = CONFIG.replace("map 203.0.113.10 2001:db8:6::10", "#");
        let config = format!("{config}map-file {}\n{WORKERS}", maps.display());
        let daemon = translate(net, &config);
        let flows = Flows::new(net, 60);
        flows.exchange(1);
        let pids = daemon.workers();
        send(Signal::SIGSTOP, &pids[1]);
        write("203.0.113.21");
        daemon.signal(Signal::SIGHUP);
        // The others have time to be wrong.
        thread::sleep(Duration::from_millis(200));
        for socket in &flows.client {
            socket.send(&[0; 4]).unwrap();
        }
        for _ in 0..20 {
            let (_, from) = uninterrupted(|| flows.server.recv_from(&mut [0; 4])).unwrap();
            assert_eq!(from.ip().to_string(), "203.0.113.20");
        }
        assert!(!daemon.log().contains("SIGHUP: reloaded"));
        send(Signal::SIGCONT, &pids[1]);
        daemon.prints("SIGHUP: reloaded");
        wait_for("the new address", || {
            flows.client[0].send(&[0; 4]).unwrap();
            let (_, from) = uninterrupted(|| flows.server.recv_from(&mut [0; 4])).unwrap();
            (from.ip().to_string() == "203.0.113.21").then_some(())
        });
    });
}

/// A worker that ends has all end, with one line that says which and how, and status 1.
#[test]
fn a_worker_that_ends_ends_all() {
    xlatd_case(|net| {
        let mut daemon = translate(net, &format!("{CONFIG}{WORKERS}"));
        let pids = daemon.workers();
        let before = daemon.log();
        send(Signal::SIGKILL, &pids[1]);
        assert_eq!(daemon.wait().code(), Some(1));
        let log = daemon.log();
        let last = format!("worker 3 (process {}) was ended by SIGKILL", pids[1]);
        let lines: Vec<_> = log[before.len()..].lines().collect();
        assert_eq!(
            lines.iter().filter(|line| line.contains("worker")).count(),
            1,
            "{log}"
        );
        assert!(lines.iter().any(|line| line.contains(&last)), "{log}");
        for pid in pids {
            assert!(!Path::new(&format!("/proc/{pid}")).exists());
        }
    });
}

/// When the first worker is killed, none of the others is left, and the device is gone; also one
/// that hangs.
#[test]
fn none_outlives_the_first() {
    xlatd_case(|net| {
        let config = format!("{CONFIG}tun-up yes\n{WORKERS}");
        let mut daemon = Daemon::start(&net.xlat, &config);
        daemon.prints("Running as");
        let pids = daemon.workers();
        send(Signal::SIGSTOP, &pids[0]);
        // These are for the first alone.
        for signal in [
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGUSR1,
        ] {
            send(signal, &pids[1]);
        }
        thread::sleep(Duration::from_millis(100));
        assert!(net.xlat.has("nat64") && runs(&pids[1]));
        daemon.signal(Signal::SIGKILL);
        daemon.wait();
        for pid in pids {
            wait_for("the worker to end", || (!runs(&pid)).then_some(()));
        }
        wait_for("the device to go", || {
            (!net.xlat.has("nat64")).then_some(())
        });
    });
}

/// The watchdog of the service manager is not notified while a worker hangs.
#[test]
fn a_worker_that_hangs_is_found_by_the_watchdog() {
    xlatd_case(|net| {
        let manager = Listener::new();
        let exec = format!(
            "exec env NOTIFY_SOCKET={} WATCHDOG_USEC=200000 \"$0\" \"$@\"",
            manager.path().display()
        );
        net.xlat.ip("tuntap add dev nat64 mode tun multi_queue");
        net.route_to_device();
        let config = format!("{CONFIG}{WORKERS}");
        let daemon = Daemon::start_by(&["sh", "-c", &exec], &net.xlat, &config);
        assert!(manager.next().starts_with("READY=1"));
        for _ in 0..5 {
            assert_eq!(manager.next(), "WATCHDOG=1");
        }
        let pids = daemon.workers();
        send(Signal::SIGSTOP, &pids[0]);
        let counts = || {
            let socket = connect(&daemon.control_socket("nat64"));
            drop(socket);
            thread::sleep(Duration::from_millis(1000));
        };
        counts();
        send(Signal::SIGCONT, &pids[0]);
        // At most two came after the signal, and then none until it went on.
        let start = Instant::now();
        let mut notified = 0;
        while start.elapsed() < Duration::from_millis(50) {
            manager.next();
            notified += 1;
        }
        assert!(notified <= 4, "{notified}");
        // A client is answered also then.
        send(Signal::SIGSTOP, &pids[1]);
        let status = status(&daemon);
        assert_eq!(status["workers"][2]["answers"], false);
        send(Signal::SIGCONT, &pids[1]);
    });
}

/// A device with a single queue is refused, with the commands that make another one; `--mktun`
/// makes one with several.
#[test]
fn a_device_with_one_queue_is_refused() {
    xlatd_case(|net| {
        net.xlat.ip("tuntap add dev nat64 mode tun one_queue");
        let mut refused = Daemon::start(&net.xlat, &format!("{CONFIG}{WORKERS}"));
        assert_eq!(refused.wait().code(), Some(1));
        let log = refused.log();
        assert!(
            log.contains("ip tuntap add dev nat64 mode tun multi_queue"),
            "{log}"
        );
        net.xlat.ip("link delete nat64");
        let directory = Directory::new();
        let path = directory.file("tayga.conf");
        fs::write(&path, format!("{CONFIG}{WORKERS}")).unwrap();
        let command = |option: &str| {
            let program = daemon();
            net.xlat.run(&format!(
                "{} {option} -c {}",
                program.display(),
                path.display()
            ));
        };
        command("--mktun");
        net.route_to_device();
        let mut daemon = Daemon::start(&net.xlat, &format!("{CONFIG}{WORKERS}"));
        daemon.prints("Running as");
        Flows::new(net, 10).exchange(2);
        daemon.stop();
        command("--rmtun");
        assert!(!net.xlat.has("nat64"));
    });
}
