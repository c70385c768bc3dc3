//! The daemon in the background.

use std::{fs, path::Path, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{CONFIG, Directory, Net, SERVER6, daemon, status, wait_for, xlatd_case};

const ROUTES: &str = "\
tun-up yes
tun-route 203.0.113.0/24
tun-route 2001:db8:64::/96
";

/// A daemon in the background, ended with the test.
struct Background(Pid);

impl Background {
    fn of(pidfile: &Path) -> Self {
        let pid = fs::read_to_string(pidfile).unwrap();
        Self(Pid::from_raw(pid.trim().parse().unwrap()))
    }

    /// Read once, since the daemon may end between two readings.
    fn is_there(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/status", self.0))
            .is_ok_and(|status| !status.contains("\nState:\tZ"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = kill(self.0, Signal::SIGKILL);
        }
    }
}

/// The command line, with a configuration in the directory.
fn command(directory: &Directory, config: &str, options: &str) -> String {
    let path = directory.file("tayga.conf");
    fs::write(&path, config).unwrap();
    format!(
        "{} -c {} -p {} {options}",
        daemon().display(),
        path.display(),
        directory.file("pid").display()
    )
}

fn crosses_at_once(net: &Net) {
    net.client.run(&format!("ping -n -c 1 -W 15 {SERVER6}"));
}

/// With exit status 0 the very next packet crosses. The daemon has no terminal, and its own
/// session.
#[test]
fn exit_status_0_means_that_packets_flow() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let command = command(&directory, &format!("{CONFIG}{ROUTES}"), "-u nobody");
        let output = net.xlat.output(&command);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let daemon = Background::of(&directory.file("pid"));
        crosses_at_once(net);
        for descriptor in 0..3 {
            let path = format!("/proc/{}/fd/{descriptor}", daemon.0);
            assert_eq!(fs::read_link(path).unwrap(), Path::new("/dev/null"));
        }
        assert_eq!(status(daemon.0, "NSsid"), daemon.0.to_string());
        let cwd = fs::read_link(format!("/proc/{}/cwd", daemon.0)).unwrap();
        assert_eq!(cwd, Path::new("/"));
        kill(daemon.0, Signal::SIGTERM).unwrap();
        wait_for("the daemon to end", || (!daemon.is_there()).then_some(()));
        assert!(!net.xlat.has("nat64"));
    });
}

/// In a chroot without /dev the daemon detaches, too.
#[test]
fn daemon_in_a_chroot_detaches() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let data_dir = directory.file("data");
        fs::create_dir(&data_dir).unwrap();
        let config = format!("{CONFIG}{ROUTES}data-dir {}\n", data_dir.display());
        let command = command(&directory, &config, "-u nobody -r");
        let output = net.xlat.output(&command);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let daemon = Background::of(&directory.file("pid"));
        crosses_at_once(net);
        let root = fs::read_link(format!("/proc/{}/root", daemon.0)).unwrap();
        assert_eq!(
            root.canonicalize().unwrap(),
            data_dir.canonicalize().unwrap()
        );
    });
}

/// If packets cannot flow, the exit status is 1, the error is on stderr, and nothing is left
/// behind.
#[test]
fn exit_status_1_comes_with_the_error() {
    xlatd_case(|net| {
        let directory = Directory::new();
        // Without tun-up no route to the device is possible.
        let config = format!("{CONFIG}tun-route 2001:db8:64::/96\n");
        let output = net.xlat.output(&command(&directory, &config, "--syslog"));
        assert_eq!(output.status.code(), Some(1));
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(
            message.contains("cannot route 2001:db8:64::/96 to nat64, which is down"),
            "{message}"
        );
        assert!(!directory.file("pid").exists());
        assert!(!net.xlat.has("nat64"));
    });
}

/// If the last step fails, here the pidfile, the set-up of an existing device is undone.
#[test]
fn what_was_set_up_is_undone() {
    xlatd_case(|net| {
        let directory = Directory::new();
        net.xlat.ip("tuntap add dev nat64 mode tun");
        fs::create_dir(directory.file("pid")).unwrap();
        let data_dir = directory.file("data");
        let config = format!("{CONFIG}{ROUTES}data-dir {}\n", data_dir.display());
        let output = net.xlat.output(&command(&directory, &config, ""));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains("cannot write the process id"), "{message}");
        let routes = net.xlat.run("ip route show dev nat64");
        assert_eq!(routes, "");
        let link = net.xlat.run("ip link show dev nat64");
        assert!(link.contains("state DOWN"), "{link}");
        assert!(!data_dir.exists());
    });
}

/// With --stdout, messages go to stdout in the background, too.
#[test]
fn stdout_option_keeps_stdout() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let log = directory.file("log");
        let command = command(&directory, &format!("{CONFIG}{ROUTES}"), "--stdout");
        let shell = directory.file("start");
        fs::write(&shell, format!("exec {command} >{}\n", log.display())).unwrap();
        net.xlat.run(&format!("sh {}", shell.display()));
        let daemon = Background::of(&directory.file("pid"));
        std::thread::sleep(Duration::from_millis(1));
        kill(daemon.0, Signal::SIGTERM).unwrap();
        wait_for("the last message", || {
            let log = fs::read_to_string(&log).unwrap();
            log.contains("Exiting on signal 15").then_some(())
        });
    });
}
