//! Notifications to the service manager, and its settings in the environment.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::harness::{CONFIG, Daemon, Directory, Listener, Net, SERVER6, wait_for, xlatd_case};

/// The socket of a service manager.
struct Manager(Listener);

impl Manager {
    fn new() -> Self {
        Self(Listener::new())
    }

    fn start(&self, net: &Net, environment: &str, options: &str, config: &str) -> Daemon {
        net.xlat.ip("tuntap add dev nat64 mode tun");
        net.route_to_device();
        let socket = self.0.path();
        let exec = format!(
            "exec env NOTIFY_SOCKET={} {environment} \"$0\" \"$@\" {options}",
            socket.display()
        );
        Daemon::start_by(&["sh", "-c", &exec], &net.xlat, config)
    }

    /// The next assignments.
    fn next(&self) -> Vec<String> {
        self.0.next().lines().map(str::to_owned).collect()
    }
}

/// READY=1 once packets flow, RELOADING=1 and READY=1 around SIGHUP, STOPPING=1 at the end; in a
/// chroot, too.
#[test]
fn manager_is_notified_of_each_state() {
    xlatd_case(|net| {
        for options in ["", "-u nobody -r"] {
            let manager = Manager::new();
            let data = Directory::new();
            let config = format!("{CONFIG}data-dir {}\n", data.file("").display());
            let mut daemon = manager.start(net, "", options, &config);
            let ready = manager.next();
            net.client.run(&format!("ping -n -c 1 -W 15 {SERVER6}"));
            assert_eq!(
                ready,
                [
                    "READY=1",
                    "STATUS=Translating on nat64",
                    &format!("MAINPID={}", daemon.pid())
                ]
            );
            daemon.signal(Signal::SIGHUP);
            let reloading = manager.next();
            assert_eq!(reloading[0], "RELOADING=1");
            let second: u64 = reloading[1]
                .strip_prefix("MONOTONIC_USEC=")
                .unwrap()
                .parse()
                .unwrap();
            assert!(second > 0);
            assert_eq!(manager.next()[0], "READY=1");
            daemon.signal(Signal::SIGTERM);
            assert_eq!(manager.next()[0], "STOPPING=1");
            assert_eq!(daemon.wait().code(), Some(0));
            net.xlat.ip("link delete nat64");
        }
    });
}

/// STATUS tells of a map-file with mistakes, and of a device that is down.
#[test]
fn status_says_what_is_wrong() {
    xlatd_case(|net| {
        let manager = Manager::new();
        let maps = manager.0.directory.file("maps");
        fs::write(&maps, "").unwrap();
        let config = format!("{CONFIG}map-file {}\n", maps.display());
        let daemon = manager.start(net, "", "", &config);
        assert_eq!(manager.next()[0], "READY=1");
        fs::write(&maps, "nonsense\n").unwrap();
        daemon.signal(Signal::SIGHUP);
        assert_eq!(manager.next()[0], "RELOADING=1");
        let status = manager.next();
        assert_eq!(status[0], "READY=1");
        assert!(
            status[1].contains("the map-file has mistakes"),
            "{status:?}"
        );
        net.xlat.ip("link set nat64 down");
        assert_eq!(manager.next(), ["STATUS=Waiting for nat64 to be set up"]);
        net.xlat.ip("link set nat64 up");
        assert_eq!(manager.next(), ["STATUS=Translating on nat64"]);
    });
}

/// WATCHDOG=1 comes within the timeout, without packets too, unless WATCHDOG_PID names another
/// process.
#[test]
fn watchdog_is_notified_twice_in_its_timeout() {
    xlatd_case(|net| {
        let manager = Manager::new();
        let _daemon = manager.start(net, "WATCHDOG_USEC=400000", "", CONFIG);
        assert_eq!(manager.next()[0], "READY=1");
        let start = Instant::now();
        for _ in 0..5 {
            assert_eq!(manager.next(), ["WATCHDOG=1"]);
        }
        // The first comes at once.
        assert!(
            start.elapsed() >= Duration::from_millis(700),
            "{:?}",
            start.elapsed()
        );
        net.xlat.ip("link delete nat64");

        let other = Manager::new();
        let environment = "WATCHDOG_USEC=1000 WATCHDOG_PID=1";
        let mut daemon = other.start(net, environment, "", CONFIG);
        assert_eq!(other.next()[0], "READY=1");
        std::thread::sleep(Duration::from_millis(50));
        daemon.signal(Signal::SIGTERM);
        assert_eq!(other.next()[0], "STOPPING=1");
        daemon.wait();
    });
}

/// A missing socket is logged, and the daemon starts.
#[test]
fn missing_manager_is_no_error() {
    xlatd_case(|net| {
        let launcher = ["env", "NOTIFY_SOCKET=/nonexistent/socket"];
        net.xlat.ip("tuntap add dev nat64 mode tun");
        net.route_to_device();
        let daemon = Daemon::start_by(&launcher, &net.xlat, CONFIG);
        net.wait_for_daemon();
        net.client.run(&format!("ping -n -c 1 -w 15 {SERVER6}"));
        assert!(daemon.log().contains("NOTIFY_SOCKET"), "{}", daemon.log());
    });
}

/// STATE_DIRECTORY is the default of data-dir: its first path, if that is absolute.
#[test]
fn state_directory_is_the_data_dir() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let path = directory.file("");
        let config = "tun-device nat64\nipv4-addr 203.0.113.1\nipv6-addr 2001:db8:ffff::1\n\
                      prefix 2001:db8:64::/96\ndynamic-pool 203.0.113.0/24\n";
        net.xlat.ip("tuntap add dev nat64 mode tun");
        net.route_to_device();
        let start = |value: &str| {
            let environment = format!("STATE_DIRECTORY={value}");
            let daemon = Daemon::start_by(&["env", &environment], &net.xlat, config);
            daemon.prints("Running as");
            daemon
        };
        let mut daemon = start(&format!("{}:/nonexistent", path.display()));
        net.client.run(&format!("ping -n -c 1 -w 15 {SERVER6}"));
        daemon.signal(Signal::SIGHUP);
        wait_for("the lease", || {
            directory.file("dynamic.map").exists().then_some(())
        });
        daemon.signal(Signal::SIGTERM);
        daemon.wait();
        assert!(
            !daemon.log().contains("without data-dir"),
            "{}",
            daemon.log()
        );
        let daemon = start("relative");
        assert!(
            daemon.log().contains("without data-dir"),
            "{}",
            daemon.log()
        );
    });
}
