//! The map-file, at the start and at SIGHUP.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use nix::sys::signal::Signal;

use crate::harness::{CONFIG, DEADLINE, Daemon, Directory, Net, SERVER6, wait_for, xlatd_case};

/// The addresses of the client for IPv4 hosts, by [`CONFIG`] and by the map-files of these tests.
const BY_CONFIG: &str = "203.0.113.10";
const BY_FILE: &str = "203.0.113.20";
/// Another address of the client.
const CLIENT_B: &str = "2001:db8:6::20";

/// A map-file is in force from the start, and its new content once SIGHUP is handled.
#[test]
fn map_file_is_read_at_the_start_and_at_sighup() {
    xlatd_case(|net| {
        let maps = Maps::new("");
        let daemon = maps.translate(net);
        assert!(!reaches(net, BY_FILE), "there is no such map yet");
        maps.write(&format!("map {BY_FILE} {CLIENT_B}\n"));
        assert!(!reaches(net, BY_FILE), "nobody has asked to read it");
        let start = Instant::now();
        daemon.signal(Signal::SIGHUP);
        wait_for("the new map", || reaches(net, BY_FILE).then_some(()));
        println!("a map-file is in force {:?} after SIGHUP", start.elapsed());
        maps.write("");
        daemon.signal(Signal::SIGHUP);
        wait_for("the map to go", || (!reaches(net, BY_FILE)).then_some(()));
    });
}

/// A file with mistakes is refused as a whole: each mistake is logged, and the mappings in force
/// stay.
#[test]
fn map_file_with_a_mistake_changes_nothing() {
    xlatd_case(|net| {
        let maps = Maps::new(&format!("map {BY_FILE} {CLIENT_B}\n"));
        let daemon = maps.translate(net);
        assert!(reaches(net, BY_FILE));
        maps.write("map 203.0.113.21 2001:db8:6::21\nmap 10.0.0.0/33 ::1\nprefix 64:ff9b::/96\n");
        daemon.signal(Signal::SIGHUP);
        let path = maps.path().display().to_string();
        wait_for("the mistakes in the log", || {
            let log = daemon.log();
            (log.contains(&format!("{path}:2:5: expected"))
                && log.contains(&format!("{path}:3:1: expected map, found \"prefix\""))
                && log.contains("the mappings are unchanged"))
            .then_some(())
        });
        assert!(reaches(net, BY_FILE), "{}", daemon.log());
        assert!(
            !reaches(net, "203.0.113.21"),
            "a line of a file that is refused"
        );

        fs::remove_file(maps.path()).unwrap();
        daemon.signal(Signal::SIGHUP);
        wait_for("the missing file in the log", || {
            daemon
                .log()
                .contains(&format!("{path}: cannot be read"))
                .then_some(())
        });
        assert!(reaches(net, BY_FILE), "{}", daemon.log());
    });
}

/// At the start, a map-file that is missing or has a mistake is an error, and nothing is set up.
#[test]
fn map_file_with_a_mistake_prevents_the_start() {
    xlatd_case(|net| {
        let maps = Maps::new("map 10.0.0.0/33 ::1\nmap 10/8 ::1\n");
        let path = maps.path().display().to_string();
        let mut daemon = Daemon::start(&net.xlat, &maps.config());
        assert_eq!(daemon.wait().code(), Some(1));
        let log = daemon.log();
        for line in [1, 2] {
            assert!(log.contains(&format!("xlatd: {path}:{line}:5: ")), "{log}");
        }
        fs::remove_file(maps.path()).unwrap();
        let mut daemon = Daemon::start(&net.xlat, &maps.config());
        assert_eq!(daemon.wait().code(), Some(1));
        let log = daemon.log();
        assert!(
            log.contains(&format!("xlatd: {path}: cannot be read")),
            "{log}"
        );
        assert!(!net.xlat.has("nat64"));
    });
}

/// 100,000 lines take effect at once, too, and unchanged mappings translate meanwhile.
#[test]
fn hundred_thousand_maps_are_reloaded_at_once() {
    xlatd_case(|net| {
        let maps = Maps::new("");
        let daemon = maps.translate(net);
        let mut text = String::new();
        for host in 0..100_000_u32 {
            let v4 = std::net::Ipv4Addr::from_bits(0x0a00_0000 + host);
            writeln!(
                text,
                "map {v4} 2001:db8:a::{:x}:{:x}",
                host >> 16,
                host & 0xffff
            )
            .unwrap();
        }
        writeln!(text, "map {BY_FILE} {CLIENT_B}").unwrap();
        maps.write(&text);
        let start = Instant::now();
        daemon.signal(Signal::SIGHUP);
        wait_for("the last of 100,000 maps", || {
            reaches(net, BY_FILE).then_some(())
        });
        println!(
            "100,000 maps are in force {:?} after SIGHUP",
            start.elapsed()
        );
        assert!(start.elapsed() < DEADLINE);
        assert!(reaches(net, BY_CONFIG));
        assert!(
            daemon.log().contains("Explicit mappings: 100004"),
            "{}",
            daemon.log()
        );
        net.client
            .run(&format!("ping -n -c 1 -i 0.1 -w 15 {SERVER6}"));
    });
}

/// A data-dir with a map-file in it.
struct Maps(Directory);

impl Maps {
    fn new(text: &str) -> Self {
        let maps = Self(Directory::new());
        maps.write(text);
        maps
    }

    fn path(&self) -> PathBuf {
        self.0.file("maps.conf")
    }

    /// Replaces the file, as editors do.
    fn write(&self, text: &str) {
        let new = self.0.file("maps.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    fn config(&self) -> String {
        let path = self.path();
        let directory = path.parent().unwrap_or(Path::new("/")).display();
        format!("{CONFIG}data-dir {directory}\nmap-file maps.conf\n")
    }

    fn translate(&self, net: &Net) -> Daemon {
        net.client
            .ip(&format!("address add {CLIENT_B}/64 dev gate6 nodad"));
        net.translate_with(&self.config())
    }
}

/// Whether this address answers an echo request of the server. The translator rejects an unmapped
/// one at once.
fn reaches(net: &Net, address: &str) -> bool {
    let output = net.server.output(&format!("ping -n -c 1 -W 2 {address}"));
    output.status.success()
}
