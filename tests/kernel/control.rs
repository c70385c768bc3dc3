//! The control socket: what a daemon says of itself while it runs, and what its clients cost.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Output,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    clat::{OTHER_PREFIX, PREFIX, clat_case},
    flood::{Injector, TTL, good_flow},
    harness::{
        CLIENT, CONFIG, Daemon, Directory, Net, SERVER6, daemon, uninterrupted, wait_for,
        xlatd_case,
    },
};

/// Runs `xlatd status` on the socket of a daemon.
fn status(net: &Net, socket: &Path, more: &str) -> Output {
    let command = format!("{} status {more} {}", daemon().display(), socket.display());
    net.xlat.output(&command)
}

/// What a daemon says of itself.
pub(crate) fn ask(socket: &Path) -> Value {
    let mut stream = connect(socket);
    stream.write_all(STATUS).unwrap();
    let answer: Value = serde_json::from_str(&line(&mut stream)).unwrap();
    assert_eq!(answer["version"], 1);
    answer["status"].clone()
}

const STATUS: &[u8] = b"{\"version\":1,\"request\":\"status\"}\n";

/// Waits until it takes connections, and makes one. Its file is there before it listens: who asks
/// too soon hears that nobody runs (unix(7)).
pub(crate) fn wait_for_socket(socket: &Path) -> UnixStream {
    wait_for("the control socket", || UnixStream::connect(socket).ok())
}

pub(crate) fn connect(socket: &Path) -> UnixStream {
    let stream = wait_for_socket(socket);
    stream
        .set_read_timeout(Some(Duration::from_secs(15)))
        .unwrap();
    stream
}

/// A line that the daemon answers; empty if it has closed the connection.
pub(crate) fn line(stream: &mut UnixStream) -> String {
    let (mut line, mut octet) = (Vec::new(), [0]);
    while !line.ends_with(b"\n") {
        match uninterrupted(|| stream.read(&mut octet)) {
            Ok(0) => break,
            Ok(_) => line.extend(octet),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
    String::from_utf8(line).unwrap()
}

/// A translator, and its control socket.
pub(crate) fn start(net: &Net, lines: &str) -> (PathBuf, Daemon) {
    let daemon = net.translate_with(&format!("{CONFIG}{lines}"));
    let socket = daemon.control_socket("nat64");
    wait_for_socket(&socket);
    (socket, daemon)
}

/// xlatd-status(8): each direction with its packets, each reason with its rule and the last packet,
/// while it runs.
#[test]
fn a_translator_says_how_it_is_while_it_runs() {
    xlatd_case(|net| {
        let (socket, daemon) = start(net, "");
        net.client
            .run(&format!("ping -c 3 -i 0.01 -s 100 {SERVER6}"));
        net.client.output(&format!("ping -c 1 -W 1 -t 3 {SERVER6}"));
        let status = ask(&socket);
        assert_eq!(status["kind"], "translator");
        assert_eq!(status["works"], true);
        assert_eq!(status["process"]["pid"], daemon.pid().as_raw());
        assert_eq!(status["device"]["name"], "nat64");
        assert_eq!(status["ipv4_addr"], "203.0.113.1");
        assert_eq!(status["prefix"], "2001:db8:64::/96");
        assert_eq!(status["maps"]["count"], 3);
        for direction in ["four_to_six", "six_to_four"] {
            let traffic = &status["packets"][direction];
            assert!(traffic["packets"].as_u64().unwrap() >= 3, "{traffic}");
            assert!(traffic["octets"].as_u64().unwrap() >= 3 * 128, "{traffic}");
        }
        let dropped = status["packets"]["six_to_four"]["dropped"]
            .as_array()
            .unwrap();
        let drop = dropped
            .iter()
            .find(|one| one["reason"] == "hop_limit")
            .unwrap();
        assert_eq!(drop["rule"], "RFC 7915 section 5.1");
        let last = drop["last"]["packet"].as_str().unwrap();
        let expected = format!("[v6] [{CLIENT}]->[2001:db8:64::c000:202] (104 bytes) (proto 58)");
        assert_eq!(last, expected);
        assert_eq!(status["packets"]["six_to_four"]["icmp_errors"], 1);
        // For people, the same.
        let text = self::status(net, &socket, "");
        let shown = String::from_utf8(text.stdout).unwrap();
        for words in [
            "nat64: translator",
            "Translating on nat64",
            "RFC 7915 section 5.1",
        ] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        assert_eq!(text.status.code(), Some(0));
    });
}

/// xlatd-status(8): the exit status is 1 while the device is down, and 2 after the end, which
/// leaves no socket.
#[test]
fn the_exit_status_says_whether_it_works() {
    xlatd_case(|net| {
        let (socket, mut daemon) = start(net, "");
        let code = |more| status(net, &socket, more).status.code();
        assert_eq!(code(""), Some(0));
        net.xlat.ip("link set nat64 down");
        wait_for("the exit status 1", || {
            (code("--json") == Some(1)).then_some(())
        });
        net.xlat.ip("link set nat64 up");
        wait_for("the exit status 0", || (code("") == Some(0)).then_some(()));
        daemon.stop();
        assert_eq!(code(""), Some(2));
        assert!(!socket.exists());
    });
}

/// SIGHUP: the number of maps and the age of the map-file are those of the reload, and what has
/// changed on disk is said until then.
#[test]
fn a_reload_shows() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let maps = directory.file("maps");
        fs::write(&maps, "map 203.0.113.20 2001:db8:6::20\n").unwrap();
        let (socket, daemon) = start(net, &format!("map-file {}\n", maps.display()));
        // On a busy machine the daemon may take longer than who asks waits.
        let shown = || {
            wait_for("an answer", || {
                let answer = status(net, &socket, "").stdout;
                (!answer.is_empty()).then(|| String::from_utf8(answer).unwrap())
            })
        };
        assert!(
            shown().contains("Maps            4, map-file"),
            "{}",
            shown()
        );
        assert!(!shown().contains("CHANGED"), "{}", shown());
        fs::write(
            &maps,
            "map 203.0.113.20 2001:db8:6::20\nmap 203.0.113.21 2001:db8:6::21\n",
        )
        .unwrap();
        assert!(shown().contains("CHANGED"), "{}", shown());
        daemon.signal(Signal::SIGHUP);
        wait_for("the new map", || {
            shown()
                .contains("Maps            5, map-file")
                .then_some(())
        });
        assert!(!shown().contains("CHANGED"), "{}", shown());
    });
}

/// A crash leaves its socket, which the next start takes over; one in use is not taken.
#[test]
fn a_socket_in_use_is_not_taken_over() {
    xlatd_case(|net| {
        let (socket, mut daemon) = start(net, "");
        let config = format!("{CONFIG}control-socket {}\n", socket.display());
        let second = Daemon::start(&net.gate4, &config);
        second.prints("no control socket");
        assert_eq!(ask(&socket)["process"]["pid"], daemon.pid().as_raw());
        drop(second);
        assert_eq!(ask(&socket)["process"]["pid"], daemon.pid().as_raw());
        daemon.signal(Signal::SIGKILL);
        daemon.wait();
        assert!(socket.exists());
        let third = Daemon::start(&net.xlat, &config);
        net.wait_for_daemon();
        assert_eq!(ask(&socket)["process"]["pid"], third.pid().as_raw());
    });
}

/// Only root, the user of the daemon and its group may ask.
#[test]
fn others_may_not_ask() {
    xlatd_case(|net| {
        let (socket, _daemon) = start(net, "");
        let mode = fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let directory = Directory::new();
        let program = directory.program_for_all(&daemon());
        let asks = |groups: &str| {
            let (program, socket) = (program.display(), socket.display());
            let setpriv = format!("setpriv --reuid 65534 --regid 65534 {groups}");
            net.xlat
                .output(&format!("{setpriv} {program} status {socket}"))
        };
        let refused = asks("--clear-groups");
        assert_eq!(refused.status.code(), Some(2));
        let complaint = String::from_utf8(refused.stderr).unwrap();
        assert!(complaint.contains("only root and the group"), "{complaint}");
        assert_eq!(asks("--groups 0").status.code(), Some(0));
        // Who may not list the sockets has not asked any.
        let closed = directory.file("run");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).unwrap();
        let (program, closed) = (program.display(), closed.display());
        let setpriv = "setpriv --reuid 65534 --regid 65534 --clear-groups";
        let environment = format!("env RUNTIME_DIRECTORY={closed}");
        let refused = net
            .xlat
            .output(&format!("{environment} {setpriv} {program} status"));
        assert_eq!(refused.status.code(), Some(2));
    });
}

/// What a client may do, one after the other: each is answered or closed, and the next is served.
#[test]
fn what_is_wrong_is_answered() {
    xlatd_case(|net| {
        let (socket, _daemon) = start(net, "");
        for (request, complaint) in [
            (&b"nonsense\n"[..], "expected a document"),
            (
                b"{\"version\":9,\"request\":\"status\"}\n",
                "expected version 1, found 9",
            ),
            (b"{\"version\":1,\"request\":\"reboot\"}\n", "reboot"),
            (&[b'x'; 5000], "at most 4096 octets"),
        ] {
            let mut stream = connect(&socket);
            stream.write_all(request).unwrap();
            let answer: Value = serde_json::from_str(&line(&mut stream)).unwrap();
            let error = answer["error"].as_str().unwrap();
            assert!(error.contains(complaint), "{error}");
        }
        // Two in one connection; whoever does not wait for an answer gets that one, and is closed.
        let mut stream = connect(&socket);
        for _ in 0..2 {
            stream.write_all(STATUS).unwrap();
            assert!(line(&mut stream).contains("\"works\":true"));
        }
        stream.write_all(&STATUS.repeat(3)).unwrap();
        assert!(line(&mut stream).contains("\"works\":true"));
        assert_eq!(line(&mut stream), "");
    });
}

/// Clients that stall, flood and lie: a good flow beside them loses nothing, the daemon sleeps
/// between, its memory stays, and whoever asks is answered once their 10 s are over.
#[test]
fn clients_cost_packets_nothing() {
    xlatd_case(|net| {
        let (socket, daemon) = start(net, "");
        let memory = || daemon.status("RssAnon");
        let before = memory();
        let stop = AtomicBool::new(false);
        let (sent, arrived) = thread::scope(|scope| {
            let _stops = Stops(&stop);
            // Stalls: half a request each, and nothing more.
            let stalled: Vec<_> = (0..4)
                .map(|_| {
                    let mut stream = connect(&socket);
                    stream.write_all(b"{\"version\"").unwrap();
                    stream
                })
                .collect();
            // Floods: new connections, requests without end, an octet at a time, no answer taken.
            for kind in 0..4 {
                let (socket, stop) = (&socket, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        flood(socket, kind, stop);
                    }
                });
            }
            let cpu = daemon.cpu_time();
            let result = good_flow(net, Some(2000), Duration::from_secs(3));
            let cpu = daemon.cpu_time() - cpu;
            assert!(cpu < Duration::from_millis(2500), "{cpu:?} of 3 s");
            drop(stalled);
            result
        });
        assert_eq!(sent, arrived, "{}", daemon.log());
        assert!(sent >= 5000, "{sent}");
        assert_eq!(ask(&socket)["works"], true);
        let kib = |text: &str| text.split(' ').next().unwrap().parse::<u64>().unwrap();
        let (before, after) = (kib(&before), kib(&memory()));
        assert!(
            after <= before + 1024,
            "{before} KiB before, {after} KiB after"
        );
    });
}

/// A flood of packets keeps nobody from an answer, and the answers count it.
#[test]
fn a_flood_of_packets_is_seen_while_it_lasts() {
    xlatd_case(|net| {
        let (socket, _daemon) = start(net, "");
        let injector = Injector::new(net);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let _stops = Stops(&stop);
            scope.spawn(|| injector.flood(TTL, None, &stop));
            let expired = || {
                let status = ask(&socket);
                let dropped = status["packets"]["six_to_four"]["dropped"].as_array();
                let expired = dropped?.iter().find(|one| one["reason"] == "hop_limit")?;
                expired["count"].as_u64()
            };
            let mut before = wait_for("the first of the flood", expired);
            for _ in 0..10 {
                let now = wait_for("more of the flood", || {
                    expired().filter(|now| *now > before)
                });
                before = now;
            }
        });
    });
}

/// xlatd-status(8): eight clients that say nothing are closed, and one that has waited is answered.
#[test]
fn silent_clients_make_room() {
    xlatd_case(|net| {
        let (socket, _daemon) = start(net, "");
        let mut silent: Vec<_> = (0..8).map(|_| connect(&socket)).collect();
        assert_eq!(ask(&socket)["works"], true);
        for stream in &mut silent {
            assert_eq!(line(stream), "");
        }
    });
}

/// Stops the floods of a scope when it ends, and also where it panics: it waits for its threads.
pub(crate) struct Stops<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One hostile client, until it is closed.
fn flood(socket: &Path, kind: u32, stop: &AtomicBool) {
    let Ok(mut stream) = UnixStream::connect(socket) else {
        return;
    };
    stream
        .set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    while kind > 0 && !stop.load(Ordering::Relaxed) {
        let sent = match kind {
            1 => stream.write(&STATUS.repeat(50)),
            2 => stream.write(b"{"),
            _ => stream.write(STATUS),
        };
        match sent {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}

/// xlatd-status(8): a CLAT says what it waits for, with exit status 1, and then what it found, what
/// it chose and what is set up.
#[test]
fn a_clat_says_what_it_knows() {
    clat_case(|net| {
        let _daemon = net.start("");
        let socket = net.runtime.file("clat.sock");
        let command = format!("{} status {}", daemon().display(), socket.display());
        let waiting = net.host.output(&command);
        assert_eq!(waiting.status.code(), Some(1));
        let shown = String::from_utf8(waiting.stdout).unwrap();
        assert!(shown.contains("Waiting for"), "{shown}");
        net.advertise(&[(PREFIX, 600), (OTHER_PREFIX, 600)]);
        net.wait_for_ipv4();
        let status = ask(&socket);
        assert_eq!(status["kind"], "clat");
        assert_eq!(status["works"], true);
        assert_eq!(status["prefix"], "2001:db8:64::/96");
        assert_eq!(status["device"]["name"], "clat");
        let clat = &status["clat"];
        assert_eq!(clat["uplink"], "eth0");
        assert_eq!(clat["host_v4"], "192.0.0.1");
        assert_eq!(clat["way"], "direct");
        assert_eq!(clat["prefix"]["origin"], "Router Advertisement");
        let lifetime = clat["prefix"]["lifetime_seconds"].as_u64().unwrap();
        assert!((500..=600).contains(&lifetime), "{lifetime}");
        assert_eq!(clat["other_prefixes"][0]["prefix"], "2001:db8:46::/96");
        let source = clat["source"].as_str().unwrap();
        let choice = clat["source_choice"].as_str().unwrap();
        assert!(
            choice.contains(source) && choice.contains("alone"),
            "{choice}"
        );
        let set_up = clat["set_up"].as_array().unwrap();
        let has = |words: &str| {
            set_up
                .iter()
                .any(|one| one.as_str().unwrap().contains(words))
        };
        assert!(has("clat up") && has("0.0.0.0/0"), "{set_up:?}");
        let shown = String::from_utf8(net.host.output(&command).stdout).unwrap();
        assert!(
            shown.contains("Other prefix    2001:db8:46::/96"),
            "{shown}"
        );
    });
}
