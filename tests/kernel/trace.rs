//! A trace: what tshark(1) reads of it, who may have one, and what it costs others.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    clat::{self, PREFIX, PREFIX_SERVER, clat_case},
    control::{ask, connect, line, start, wait_for_socket},
    flood::good_flow,
    harness::{
        CLIENT, CLIENT4, CONFIG, Daemon, Directory, Netns, SERVER, SERVER6, daemon, wait_for,
        xlatd_case,
    },
    socket::{Fragmentation, udp_socket},
};

/// `xlatd trace`, which writes a file.
struct Trace {
    child: Child,
    directory: Directory,
}

/// A packet, as tshark reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    /// From 1.
    number: usize,
    interface: String,
    comment: String,
    source: String,
    destination: String,
    /// What follows IP, as `icmpv6`.
    protocol: String,
}

impl Trace {
    /// Starts it, and waits until it hears of packets.
    fn start(ns: &Netns, socket: &Path, more: &str) -> Self {
        let directory = Directory::new();
        let file = directory.file("trace.pcapng");
        let mut command = Command::new(daemon());
        command.arg("trace").arg(socket);
        command.args(more.split_whitespace()).arg("-w").arg(&file);
        command.stderr(File::create(directory.file("errors")).unwrap());
        let mut child = ns.inside(|| command.spawn()).unwrap();
        wait_for("the head of the trace", || {
            let ended = child.try_wait().unwrap();
            let errors = || fs::read_to_string(directory.file("errors")).unwrap();
            assert!(ended.is_none(), "{}", errors());
            fs::metadata(&file)
                .is_ok_and(|file| file.len() > 0)
                .then_some(())
        });
        Self { child, directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.file("trace.pcapng")
    }

    /// The packets so far.
    fn frames(&self) -> Vec<Frame> {
        frames(&self.file())
    }

    /// Waits for so many packets at least.
    fn wait_for_frames(&self, count: usize) -> Vec<Frame> {
        wait_for("packets in the trace", || {
            Some(self.frames()).filter(|frames| frames.len() >= count)
        })
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The packets of a file. It is whole: tshark has nothing to complain of.
fn frames(file: &Path) -> Vec<Frame> {
    const FIELDS: [&str; 7] = [
        "frame.number",
        "frame.interface_name",
        "frame.comment",
        "ip.src",
        "ip.dst",
        "ipv6.src",
        "ipv6.dst",
    ];
    let mut tshark = Command::new("tshark");
    tshark
        .arg("-n")
        .arg("-r")
        .arg(file)
        .args(["-T", "fields", "-E", "occurrence=f"]);
    for field in FIELDS.into_iter().chain(["frame.protocols"]) {
        tshark.args(["-e", field]);
    }
    let output = tshark.output().expect("tshark(1)");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let frames = text.lines().map(|line| {
        let fields: Vec<_> = line.split('\t').map(str::to_owned).collect();
        let [
            number,
            interface,
            comment,
            from4,
            to4,
            from6,
            to6,
            protocols,
        ] = &fields[..]
        else {
            panic!("{line}");
        };
        let protocols: Vec<_> = protocols.split(':').collect();
        let ip = protocols
            .iter()
            .position(|name| name.starts_with("ip"))
            .unwrap_or(0);
        let upper = protocols[ip + 1..]
            .iter()
            .find(|name| !name.starts_with("ipv6."));
        Frame {
            number: number.parse().unwrap(),
            interface: interface.clone(),
            comment: comment.clone(),
            source: format!("{from4}{from6}"),
            destination: format!("{to4}{to6}"),
            protocol: (*upper.unwrap_or(&"")).to_owned(),
        }
    });
    frames.collect()
}

/// Side, source, destination and comment.
fn shown(frames: &[Frame]) -> Vec<[&str; 4]> {
    frames
        .iter()
        .map(|frame| {
            [
                &*frame.interface,
                &*frame.source,
                &*frame.destination,
                &*frame.comment,
            ]
        })
        .collect()
}

/// xlatd-trace(8): each packet as it came and as it went, in both directions, on an interface each;
/// the comments tie them together by the numbers that tshark gives them. The counters count the
/// same packets.
#[test]
fn a_ping_is_seen_on_both_sides() {
    xlatd_case(|net| {
        let (socket, _daemon) = start(net, "");
        let before = ask(&socket);
        let mut trace = Trace::start(&net.xlat, &socket, "proto icmp host 192.0.2.2");
        net.client.run(&format!("ping -n -c 1 -W 15 {SERVER6}"));
        let frames = trace.wait_for_frames(4);
        let expected = [
            ["nat64 in", CLIENT, SERVER6, "packet 1"],
            ["nat64 out", CLIENT4, SERVER, "translation of packet 1"],
            ["nat64 in", SERVER, CLIENT4, "packet 3"],
            ["nat64 out", SERVER6, CLIENT, "translation of packet 3"],
        ];
        assert_eq!(shown(&frames), expected);
        let numbers: Vec<_> = frames.iter().map(|frame| frame.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        let protocols: Vec<_> = frames.iter().map(|frame| &*frame.protocol).collect();
        assert_eq!(protocols, ["icmpv6", "icmp", "icmp", "icmpv6"]);
        let after = ask(&socket);
        for direction in ["four_to_six", "six_to_four"] {
            let packets = |status: &Value| {
                let packets = &status["packets"][direction]["packets"];
                packets.as_u64().unwrap()
            };
            assert_eq!(packets(&after), packets(&before) + 1, "{direction}");
        }
        // A signal leaves a file that is whole. Not that of Ctrl-C: a test in the background has it
        // ignored.
        kill(
            Pid::from_raw(trace.child.id().cast_signed()),
            Signal::SIGTERM,
        )
        .unwrap();
        trace.child.wait().unwrap();
        assert_eq!(trace.frames(), frames);
    });
}

/// RFC 7915 section 4.1: what does not fit is fragmented, and each fragment says what it is of.
#[test]
fn fragments_are_tied_to_their_packet() {
    xlatd_case(|net| {
        let (socket, _daemon) = start(net, "");
        let trace = Trace::start(&net.xlat, &socket, "family 4");
        let sender = udp_socket(&net.server, SERVER, 5000, Fragmentation::Allowed);
        sender.send_to(&[0; 1472], (CLIENT4, 5000)).unwrap();
        let frames = trace.wait_for_frames(3);
        let expected = [
            ["nat64 in", SERVER, CLIENT4, "packet 1"],
            ["nat64 out", SERVER6, CLIENT, "fragment 1 of packet 1"],
            ["nat64 out", SERVER6, CLIENT, "fragment 2 of packet 1"],
        ];
        assert_eq!(shown(&frames[..3]), expected);
    });
}

/// What is dropped is seen as it came, with the reason and its rule (RFC 7915 section 5.1), and so
/// is the ICMP error about it; what passes is not seen with `dropped`.
#[test]
fn what_is_dropped_is_seen_with_its_rule() {
    xlatd_case(|net| {
        let (socket, _daemon) = start(net, "");
        let trace = Trace::start(&net.xlat, &socket, &format!("dropped host {SERVER6}"));
        net.client.run(&format!("ping -n -c 1 -W 15 {SERVER6}"));
        net.client
            .output(&format!("ping -n -c 1 -W 1 -t 3 {SERVER6}"));
        let frames = trace.wait_for_frames(2);
        let why = "TTL or hop limit expired (RFC 7915 section 5.1)";
        let expected = [
            format!("packet 1; dropped: {why}"),
            format!("ICMP error about packet 1: {why}"),
        ];
        let comments: Vec<_> = frames.iter().map(|frame| frame.comment.clone()).collect();
        assert_eq!(comments, expected);
        assert_eq!(
            (&*frames[0].interface, &*frames[0].source),
            ("nat64 in", CLIENT)
        );
        assert_eq!(
            (&*frames[1].interface, &*frames[1].destination),
            ("nat64 out", CLIENT)
        );
    });
}

/// Without a file each packet is a line, and `-c` ends it.
#[test]
fn packets_are_shown_as_lines() {
    xlatd_case(|net| {
        let (socket, _daemon) = start(net, "");
        let directory = Directory::new();
        let file = directory.file("lines");
        let mut command = Command::new(daemon());
        // The only one that runs there.
        command.env("RUNTIME_DIRECTORY", socket.parent().unwrap());
        command.args(["trace", "-c", "2", "host", SERVER]);
        command.stdout(File::create(&file).unwrap());
        let mut child = command.spawn().unwrap();
        // It is not known when it begins.
        let status = wait_for("the end of the trace", || {
            net.client.output(&format!("ping -n -c 1 -W 0.2 {SERVER6}"));
            child.try_wait().unwrap()
        });
        assert_eq!(status.code(), Some(0));
        let text = fs::read_to_string(file).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let [came, went] = lines[..] else {
            panic!("{text}");
        };
        assert!(came.starts_with("0.000000 nat64 in: [v"), "{came}");
        assert!(came.ends_with(": packet 1"), "{came}");
        assert!(went.starts_with("0.000000 nat64 out: [v"), "{went}");
        assert!(went.ends_with(": translation of packet 1"), "{went}");
    });
}

/// Only root may trace, though others may ask; a daemon without privilege lets root.
#[test]
fn only_root_may_trace() {
    xlatd_case(|net| {
        net.xlat.ip("tuntap add dev nat64 mode tun");
        net.route_to_device();
        let daemon = Daemon::start_with("--user 65534 --group 65533", &net.xlat, CONFIG);
        net.wait_for_daemon();
        let socket = daemon.control_socket("nat64");
        wait_for_socket(&socket);
        let directory = Directory::new();
        let program = directory.program_for_all(&crate::harness::daemon());
        for (who, complaint) in [
            (
                "--reuid 65534 --regid 65533 --clear-groups",
                "only root may trace",
            ),
            (
                "--reuid 65532 --regid 65532 --groups 65533",
                "only root may trace",
            ),
            (
                "--reuid 65532 --regid 65532 --clear-groups",
                "only root may trace",
            ),
        ] {
            let (program, socket) = (program.display(), socket.display());
            let refused = net
                .xlat
                .output(&format!("setpriv {who} {program} trace {socket}"));
            assert_eq!(refused.status.code(), Some(1), "{who}");
            let said = String::from_utf8(refused.stderr).unwrap();
            assert!(said.contains(complaint), "{who}: {said}");
        }
        let trace = Trace::start(&net.xlat, &socket, "");
        net.client.run(&format!("ping -n -c 1 -W 15 {SERVER6}"));
        trace.wait_for_frames(4);
    });
}

/// A client that does not read: a good flow beside it loses nothing, and the memory is bounded. It
/// is closed after 10 s; until then there is no other trace.
#[test]
fn a_client_that_does_not_read_stalls_nothing() {
    xlatd_case(|net| {
        let (socket, daemon) = start(net, "");
        let resident = || {
            let memory = daemon.status("RssAnon");
            memory.trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        good_flow(net, Some(2000), Duration::from_millis(500));
        let before = resident();
        let mut stalled = connect(&socket);
        stalled
            .write_all(b"{\"version\":1,\"request\":\"trace\"}\n")
            .unwrap();
        assert_eq!(line(&mut stalled), "{\"version\":1,\"trace\":{}}\n");
        let (sent, arrived) = good_flow(net, Some(2000), Duration::from_secs(3));
        assert_eq!(sent, arrived, "{}", daemon.log());
        assert!(sent >= 5000, "{sent}");
        let grown = resident().saturating_sub(before);
        assert!(grown <= 2048, "{grown} KiB more");

        let asks = || {
            let command = format!(
                "{} trace {}",
                crate::harness::daemon().display(),
                socket.display()
            );
            String::from_utf8(net.xlat.output(&format!("timeout 0.5 {command}")).stderr).unwrap()
        };
        let refused = asks();
        let pid = std::process::id();
        assert!(
            refused.contains(&format!("process {pid} traces already")),
            "{refused}"
        );
        wait_for("the end of the trace", || {
            (!asks().contains("traces already")).then_some(())
        });
        // It got what it had room for, and nothing more comes.
        let mut rest = Vec::new();
        stalled.read_to_end(&mut rest).unwrap();
        assert_eq!(rest[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        wait_for("the memory of the trace to be free", || {
            (resident().saturating_sub(before) <= 512).then_some(())
        });
    });
}

/// A CLAT with a packet socket on its uplink: both sides are seen, whichever way packets take.
#[test]
fn a_clat_is_traced() {
    clat_case(|net| {
        let _daemon = net.start("");
        let socket = net.runtime.file("clat.sock");
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
        let source = ask(&socket)["clat"]["source"].as_str().unwrap().to_owned();
        let trace = Trace::start(
            &net.host,
            &socket,
            &format!("host {} proto icmp", clat::SERVER),
        );
        wait_for("a ping", || net.pings().then_some(()));
        let frames = trace.wait_for_frames(4);
        let expected = [
            ["clat in", "192.0.0.1", clat::SERVER, "packet 1"],
            [
                "clat out",
                &source,
                PREFIX_SERVER,
                "translation of packet 1",
            ],
            ["clat in", PREFIX_SERVER, &source, "packet 3"],
            [
                "clat out",
                clat::SERVER,
                "192.0.0.1",
                "translation of packet 3",
            ],
        ];
        assert_eq!(shown(&frames[..4]), expected);
    });
}

/// Packets that are joined are seen before, and super-packets whole: of a TCP stream, all octets
/// are seen on both sides.
#[test]
fn a_stream_is_seen_whole_on_both_sides() {
    xlatd_case(|net| {
        let (socket, _daemon) = start(net, "");
        let trace = Trace::start(&net.xlat, &socket, "proto tcp port 5000");
        let listener = net
            .server
            .inside(|| std::net::TcpListener::bind((SERVER, 5000)))
            .unwrap();
        let mut sender = net
            .client
            .inside(|| std::net::TcpStream::connect((SERVER6, 5000)))
            .unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        sender.write_all(&[b'x'; 100_000]).unwrap();
        drop(sender);
        let mut received = Vec::new();
        receiver.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), 100_000);
        let payload = |interface: &str| {
            let filter = format!("frame.interface_name == \"{interface}\" && tcp.dstport == 5000");
            let mut tshark = Command::new("tshark");
            tshark
                .arg("-n")
                .arg("-r")
                .arg(trace.file())
                .args(["-Y", &filter]);
            tshark.args(["-T", "fields", "-e", "tcp.seq", "-e", "tcp.len"]);
            let output = tshark.stderr(Stdio::inherit()).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            // What was sent again counts once.
            let segments: BTreeMap<u32, usize> = text
                .lines()
                .map(|line| {
                    let (sequence, len) = line.split_once('\t').unwrap();
                    (sequence.parse().unwrap(), len.parse().unwrap())
                })
                .collect();
            segments.values().sum::<usize>()
        };
        for interface in ["nat64 in", "nat64 out"] {
            wait_for("all octets in the trace", || {
                (payload(interface) >= 100_000).then_some(())
            });
        }
    });
}
