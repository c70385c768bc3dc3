//! Log output. A slow log reader never blocks the packet path.

use std::{
    fs::{self, File},
    io::Read,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    time::Instant,
};

use nix::{sys::signal::Signal, unistd::pipe};

use crate::harness::{
    CONFIG, DEADLINE, Daemon, Directory, Listener, Net, SERVER6, daemon, wait_for, xlatd_case,
};

/// A script that starts the program in a mount namespace with the test's syslog and journal.
const PRIVATE: &str = r#"
set -e
mkdir "$DIR/dev" "$DIR/run"
mount -t tmpfs tmpfs "$DIR/dev"
mkdir "$DIR/dev/net"
touch "$DIR/dev/net/tun" "$DIR/dev/null"
mount --bind /dev/net/tun "$DIR/dev/net/tun"
mount --bind /dev/null "$DIR/dev/null"
ln -s "$DIR/socket" "$DIR/dev/log"
mount --rbind "$DIR/dev" /dev
mount -t tmpfs tmpfs "$DIR/run"
mkdir -p "$DIR/run/systemd/journal"
ln -s "$DIR/socket" "$DIR/run/systemd/journal/socket"
mount --bind "$DIR/run" /run
exec "$0" "$@" $OPTIONS
"#;

/// The receiver of messages.
struct Reader(Listener);

impl Reader {
    fn new() -> Self {
        Self(Listener::new())
    }

    fn start(&self, net: &Net, options: &str, config: &str) -> Daemon {
        net.xlat.ip("tuntap add dev nat64 mode tun");
        net.route_to_device();
        let environment = [
            format!("DIR={}", self.0.directory.file("").display()),
            format!("OPTIONS={options}"),
        ];
        let launcher = [
            "env",
            &environment[0],
            &environment[1],
            "unshare",
            "--mount",
            "sh",
            "-c",
            PRIVATE,
        ];
        Daemon::start_by(&launcher, &net.xlat, config)
    }

    fn next(&self) -> String {
        self.0.next()
    }
}

fn ping(net: &Net) {
    net.client.run(&format!("ping -n -c 1 -w 15 {SERVER6}"));
}

/// RFC 3164 section 4: <priority>, name and process id; facility 3 (daemon) with severities 6 and
/// 4. After a restart of syslogd, messages reach the new one.
#[test]
fn syslog_has_priority_name_and_process_id() {
    xlatd_case(|net| {
        let mut reader = Reader::new();
        let config = format!("{CONFIG}strict-frag-hdr yes\n");
        let daemon = reader.start(net, "--syslog", &config);
        let pid = daemon.pid();
        let warning = reader.next();
        assert!(
            warning.starts_with(&format!("<28>xlatd[{pid}]: ")),
            "{warning}"
        );
        assert!(warning.contains("strict-frag-hdr is ignored"), "{warning}");
        let info = reader.next();
        assert!(
            info.starts_with(&format!("<30>xlatd[{pid}]: Starting xlatd")),
            "{info}"
        );
        while !reader.next().contains("Explicit mappings") {} // the last before packets
        assert_eq!(daemon.log(), "");

        reader.0.start_again();
        daemon.signal(Signal::SIGHUP);
        while !reader.next().contains("SIGHUP") {}
    });
}

/// The journal's own protocol (systemd.io, "Native Journal Protocol"): PRIORITY, SYSLOG_IDENTIFIER,
/// MESSAGE.
#[test]
fn journal_has_its_fields() {
    xlatd_case(|net| {
        let reader = Reader::new();
        let _daemon = reader.start(net, "--journal", CONFIG);
        let message = reader.next();
        let start = "PRIORITY=6\nSYSLOG_IDENTIFIER=xlatd\nMESSAGE\n";
        let rest = message
            .strip_prefix(start)
            .unwrap_or_else(|| panic!("{message:?}"));
        let (len, text) = rest.split_at(8);
        assert!(
            text.starts_with("Starting xlatd") && text.ends_with('\n'),
            "{text:?}"
        );
        assert_eq!(
            u64::from_le_bytes(len.as_bytes().try_into().unwrap()),
            text.len() as u64 - 1
        );
    });
}

/// The error that ends the daemon is logged, since stderr may lead nowhere.
#[test]
fn the_last_error_is_logged() {
    xlatd_case(|net| {
        let reader = Reader::new();
        let mut daemon = reader.start(net, "--syslog", CONFIG);
        while !reader.next().contains("Running as") {}
        net.xlat.ip("link delete nat64");
        assert_eq!(daemon.wait().code(), Some(1));
        let pid = daemon.pid();
        wait_for("the error", || {
            reader
                .next()
                .starts_with(&format!(
                    "<27>xlatd[{pid}]: nat64: the TUN device has been removed"
                ))
                .then_some(())
        });
    });
}

/// Without a journal --journal is refused. Without a syslogd, messages in the foreground go to
/// stdout.
#[test]
fn journal_is_required_and_syslog_is_not() {
    xlatd_case(|net| {
        let start = |options| {
            let reader = Reader::new();
            fs::remove_file(reader.0.path()).unwrap();
            let daemon = reader.start(net, options, CONFIG);
            (reader, daemon)
        };
        let (_reader, mut daemon) = start("--journal");
        assert_eq!(daemon.wait().code(), Some(1));
        let log = daemon.log();
        assert!(
            log.contains("cannot log to the journal (use --syslog or --stdout)"),
            "{log}"
        );
        net.xlat.ip("link delete nat64");
        let (_reader, daemon) = start("--syslog");
        daemon.prints("Running as");
    });
}

/// A reader of stdout that stops reading does not stop packets, and lost messages are counted.
#[test]
fn stalled_reader_does_not_block_packets() {
    xlatd_case(|net| {
        net.xlat.ip("tuntap add dev nat64 mode tun");
        net.route_to_device();
        let directory = Directory::new();
        let path = directory.file("tayga.conf");
        fs::write(&path, CONFIG).unwrap();
        let (reader, writer): (OwnedFd, OwnedFd) = pipe().unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(daemon()).args(["-d", "-c"]).arg(path);
        command.stdin(Stdio::null()).stdout(writer);
        let mut child = net.xlat.inside(|| command.spawn()).unwrap();
        drop(command); // closes the writing end of the pipe here
        net.wait_for_daemon();
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        // Each SIGHUP causes a message; together they do not fit in the pipe.
        for _ in 0..3000 {
            nix::sys::signal::kill(pid, Signal::SIGHUP).unwrap();
            std::thread::sleep(std::time::Duration::from_micros(300));
        }
        // Waiting for the reader at each message would take too long.
        let start = Instant::now();
        for _ in 0..150 {
            nix::sys::signal::kill(pid, Signal::SIGHUP).unwrap();
            ping(net);
        }
        assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
        let mut reader = File::from(reader);
        let mut buffer = vec![0; 1 << 20];
        let len = reader.read(&mut buffer).unwrap();
        assert!(len > 60_000, "the pipe was not full: {len}");
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(
            rest.contains("messages before this one could not be logged"),
            "{rest}"
        );
        assert!(rest.contains("Exiting on signal 15"), "{rest}");
    });
}
