//! Several workers: packets, leases and figures of all of them. See also `workers_life`.

use std::{
    collections::HashMap,
    fs,
    net::UdpSocket,
    ops::Range,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::sys::{
    signal::Signal,
    socket::{setsockopt, sockopt::RcvBufForce},
};
use serde_json::Value;

use crate::{
    control::{Stops, ask, connect, line, wait_for_socket},
    harness::{
        CLIENT4, CONFIG, DEADLINE, Daemon, Directory, Net, SERVER, SERVER6, daemon, uninterrupted,
        wait_for, xlatd_case,
    },
    packet::{DF, EXPERIMENT, ICMP, Ipv4, Ipv6, UDP, pattern, udp},
    socket::{Capture, flood6, send4},
};

pub(crate) const WORKERS: &str = "workers 3\n";
/// A pool, and no maps.
const POOL: &str = "tun-device nat64\nipv4-addr 203.0.113.1\nipv6-addr 2001:db8:ffff::1\n\
                    prefix 2001:db8:64::/96\ndynamic-pool 203.0.113.0/24\n";

pub(crate) fn translate(net: &Net, config: &str) -> Daemon {
    net.xlat.ip("tuntap add dev nat64 mode tun multi_queue");
    net.route_to_device();
    let daemon = Daemon::start(&net.xlat, config);
    daemon.prints("Running as");
    daemon
}

pub(crate) fn status(daemon: &Daemon) -> Value {
    ask(&daemon.control_socket("nat64"))
}

/// Datagrams of many flows between the client and the server: each has a socket of its own.
pub(crate) struct Flows {
    pub(crate) client: Vec<UdpSocket>,
    pub(crate) server: UdpSocket,
}

impl Flows {
    pub(crate) fn new(net: &Net, count: usize) -> Self {
        let server = net
            .server
            .inside(|| UdpSocket::bind("192.0.2.2:4000"))
            .unwrap();
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        let flow = |_| {
            let socket = net
                .client
                .inside(|| UdpSocket::bind("[2001:db8:6::10]:0"))
                .unwrap();
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            socket.connect((SERVER6, 4000)).unwrap();
            socket
        };
        Self {
            client: (0..count).map(flow).collect(),
            server,
        }
    }

    /// Sends a number by each flow, has the server answer each, and takes the answers. Each number
    /// must arrive, in order within its flow in both directions.
    pub(crate) fn exchange(&self, numbers: u32) {
        let mut last: HashMap<_, u32> = HashMap::new();
        let mut buffer = [0; 4];
        let mut next = HashMap::new();
        for round in 0..numbers {
            for socket in &self.client {
                socket.send(&round.to_be_bytes()).unwrap();
            }
            for _ in &self.client {
                let (_, from) = uninterrupted(|| self.server.recv_from(&mut buffer)).unwrap();
                let number = u32::from_be_bytes(buffer);
                if let Some(before) = last.insert(from.port(), number) {
                    assert_eq!(number, before + 1, "port {}", from.port());
                }
                self.server.send_to(&buffer, from).unwrap();
            }
            for (at, socket) in self.client.iter().enumerate() {
                uninterrupted(|| socket.recv(&mut buffer)).unwrap();
                let number = u32::from_be_bytes(buffer);
                assert_eq!(number, *next.get(&at).unwrap_or(&0), "flow {at}");
                next.insert(at, number + 1);
            }
        }
    }

    /// Sends numbers by each flow as fast as it gets.
    fn send(&self, numbers: Range<u32>) {
        setsockopt(&self.server, RcvBufForce, &(64 << 20)).unwrap();
        for number in numbers {
            for socket in &self.client {
                socket.send(&number.to_be_bytes()).unwrap();
            }
        }
    }

    /// Takes what was sent. Each number must arrive, in order within its flow: the queues of the
    /// kernel are long enough for all of them.
    fn arrive(&self, net: &Net, numbers: u32) {
        let mut next: HashMap<_, u32> = HashMap::new();
        let mut buffer = [0; 4];
        for arrived in 0..self.client.len() * numbers as usize {
            let (_, from) = uninterrupted(|| self.server.recv_from(&mut buffer))
                .unwrap_or_else(|error| panic!("after {arrived}: {error}\n{}", counters(net)));
            let number = u32::from_be_bytes(buffer);
            let expected = next.entry(from.port()).or_default();
            assert_eq!(number, *expected, "{from}\n{}", counters(net));
            *expected += 1;
        }
    }
}

/// Datagrams of 40 flows from the server to an address of the client's arrive.
fn datagrams_arrive(net: &Net, address: &str) {
    let client = net
        .client
        .inside(|| UdpSocket::bind("[2001:db8:6::10]:5000"))
        .unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    for number in 0..40 {
        let server = net
            .server
            .inside(|| UdpSocket::bind("192.0.2.2:0"))
            .unwrap();
        server.send_to(&[number], (address, 5000)).unwrap();
        let mut buffer = [0];
        uninterrupted(|| client.recv(&mut buffer)).unwrap();
        assert_eq!(buffer[0], number);
    }
}

/// What the kernel has lost: before the daemon (TX of the device), after it, or at the server.
fn counters(net: &Net) -> String {
    let device = net.xlat.run("ip -s -s link show dev nat64");
    let server = net.server.run("cat /proc/net/snmp");
    let server = server.lines().filter(|line| line.starts_with("Udp:"));
    server.fold(device, |lines, line| lines + line + "\n")
}

/// tayga.conf(5): there are so many processes, each translates, and figures are those of all and of
/// each. Answers come to the worker that has written their flow.
#[test]
fn each_worker_translates_and_the_status_has_the_sum() {
    xlatd_case(|net| {
        let mut daemon = translate(net, &format!("{CONFIG}{WORKERS}"));
        assert_eq!(daemon.workers().len(), 2);
        let flows = Flows::new(net, 100);
        flows.exchange(10);
        let status = status(&daemon);
        let workers = status["workers"].as_array().unwrap();
        assert_eq!(workers.len(), 3);
        assert_eq!(workers[0]["pid"], daemon.pid().as_raw());
        for direction in ["four_to_six", "six_to_four"] {
            let packets = |of: &Value| of["packets"][direction]["packets"].as_u64().unwrap();
            let each: Vec<_> = workers.iter().map(packets).collect();
            assert_eq!(each.iter().sum::<u64>(), packets(&status), "{status}");
            assert!(packets(&status) >= 1000, "{each:?}");
            // By chance one of 100 flows in three queues has none in fewer than 10^-17 cases.
            assert!(each.iter().all(|&one| one >= 10), "{each:?}");
        }
        for worker in workers {
            let of = |direction: &str| worker["packets"][direction]["packets"].as_u64().unwrap();
            // The first answer of a flow may come by another queue.
            let (out, back) = (of("six_to_four"), of("four_to_six"));
            assert!(out.abs_diff(back) <= 20, "{status}");
        }
        let pids = daemon.workers();
        daemon.stop();
        let log = daemon.log();
        for direction in ["IPv4 to IPv6: 1", "IPv6 to IPv4: 1"] {
            assert!(log.contains(direction), "{log}");
        }
        let total = log
            .lines()
            .filter(|line| line.contains("packets translated"))
            .count();
        assert_eq!(total, 2, "{log}");
        for pid in pids {
            assert!(!Path::new(&format!("/proc/{pid}")).exists());
        }
    });
}

/// A host without a lease gets the address that one process would lend it, whatever queue its
/// packets come by, and no packet overtakes another one of its flow meanwhile.
#[test]
fn leases_are_those_of_one_process_and_order_is_kept() {
    xlatd_case(|net| {
        let leases = |workers: &str| {
            let directory = Directory::new();
            let config = format!("{POOL}data-dir {}\n{workers}", directory.file("").display());
            let mut daemon = translate(net, &config);
            net.xlat.ip("link set nat64 txqueuelen 10000");
            let flows = Flows::new(net, 100);
            flows.send(0..50);
            flows.arrive(net, 50);
            drop(flows);
            // One after the other, since between queues no packet is the first.
            for host in 1..=40 {
                let source = format!("2001:db8:6::{host:x}:1");
                let packet = Ipv6::new(&source, SERVER6, EXPERIMENT, vec![0; 8]);
                flood6(&net.client, &packet, 1);
                wait_for("the lease", || {
                    let status = status(&daemon);
                    (status["pool"]["in_use"] == host + 1).then_some(())
                });
            }
            daemon.stop();
            net.xlat.ip("link delete nat64");
            let text = fs::read_to_string(directory.file("dynamic.map")).unwrap();
            let lines = text.lines().filter(|line| line.starts_with("203."));
            let lines = lines.map(|line| line.rsplit_once('\t').unwrap().0.to_owned());
            let mut lines: Vec<_> = lines.collect();
            lines.sort();
            lines
        };
        let one = leases("");
        assert_eq!(one.len(), 41);
        assert_eq!(leases(WORKERS), one);
    });
}

/// The first worker has many packets that were handed over, more than it takes in a turn, when it
/// tells of their lease: later ones wait until all of them are out.
#[test]
fn no_packet_overtakes_those_that_were_handed_over() {
    xlatd_case(|net| {
        let daemon = translate(net, &format!("{POOL}{WORKERS}"));
        net.xlat.ip("link set nat64 txqueuelen 10000");
        let flows = Flows::new(net, 100);
        daemon.signal(Signal::SIGSTOP);
        flows.send(0..20);
        thread::sleep(Duration::from_millis(50));
        daemon.signal(Signal::SIGCONT);
        flows.send(20..60);
        flows.arrive(net, 60);
        assert_eq!(status(&daemon)["packets"]["rejected"], 0);
    });
}

/// A worker knows the leases from its start on.
#[test]
fn leases_of_the_file_are_known_to_all_workers() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let last_use = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() - 60;
        let lease = format!("203.0.113.77\t2001:db8:6::10\t{last_use}\n");
        fs::write(directory.file("dynamic.map"), lease).unwrap();
        let config = format!("{POOL}data-dir {}\n{WORKERS}", directory.file("").display());
        let daemon = translate(net, &config);
        datagrams_arrive(net, "203.0.113.77");
        for worker in status(&daemon)["workers"].as_array().unwrap() {
            assert_ne!(worker["packets"]["four_to_six"]["packets"], 0, "{worker}");
        }
    });
}

/// A worker that has started translates, and hands packets over, while others still start: the
/// first one takes them as soon as it can.
#[test]
fn packets_are_handed_over_from_the_start_on() {
    xlatd_case(|net| {
        net.xlat.ip("tuntap add dev nat64 mode tun multi_queue");
        net.route_to_device();
        let directory = Directory::new();
        let maps = (0..20_000).map(|number| {
            format!(
                "map 10.0.{}.{} 2001:db8:7::{number:x}\n",
                number / 200,
                number % 200
            )
        });
        fs::write(directory.file("maps"), maps.collect::<String>()).unwrap();
        let maps = format!("map-file {}\n", directory.file("maps").display());
        let flows = Flows::new(net, 100);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    flows.send(0..1);
                }
            });
            let _stops = Stops(&stop);
            for _ in 0..3 {
                let mut daemon = Daemon::start(&net.xlat, &format!("{POOL}{maps}workers 8\n"));
                daemon.prints("Running as");
                wait_for("packets of each worker", || {
                    let status = status(&daemon);
                    let workers = status["workers"].as_array().unwrap();
                    let has = |one: &Value| one["packets"]["six_to_four"]["packets"] != 0;
                    workers.iter().all(has).then_some(())
                });
                daemon.stop();
            }
        });
    });
}

/// The first answer to the first packet of a host arrives, whatever queue it comes by; and so does
/// what an IPv4 host sends to a lease.
#[test]
fn a_lease_is_known_to_all_workers() {
    xlatd_case(|net| {
        let daemon = translate(net, &format!("{POOL}workers 4\n"));
        let flows = Flows::new(net, 50);
        flows.exchange(4);
        let mut stream = connect(&daemon.control_socket("nat64"));
        let request =
            "{\"version\":1,\"request\":\"mappings\",\"addresses\":[\"2001:db8:6::10\"]}\n";
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let answer: Value = serde_json::from_str(&line(&mut stream)).unwrap();
        let address = answer["mappings"]["leases"][0]["ipv4"]
            .as_str()
            .unwrap()
            .to_owned();
        datagrams_arrive(net, &address);
    });
}

/// A lease that is used by way of another worker is used: dynamic.map has when.
#[test]
fn leases_that_other_workers_use_are_used() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let config = format!("{POOL}data-dir {}\n{WORKERS}", directory.file("").display());
        let daemon = translate(net, &config);
        let flows = Flows::new(net, 40);
        flows.exchange(1);
        let last_use = || {
            let text = fs::read_to_string(directory.file("dynamic.map")).ok()?;
            let line = text.lines().find(|line| line.starts_with("203."))?;
            line.rsplit_once('\t')?.1.trim().parse::<u64>().ok()
        };
        daemon.signal(Signal::SIGHUP);
        let lent = wait_for("the lease", last_use);
        thread::sleep(Duration::from_secs(2));
        let of_the_first = || {
            let status = status(&daemon);
            let packets = &status["workers"][0]["packets"]["six_to_four"]["packets"];
            packets.as_u64().unwrap()
        };
        // One flow that another worker translates: the use of the lease is known to that one alone.
        let mut before = of_the_first();
        let of_another = flows.client.iter().find(|socket| {
            socket.send(&[0; 4]).unwrap();
            uninterrupted(|| flows.server.recv_from(&mut [0; 4])).unwrap();
            let after = of_the_first();
            std::mem::replace(&mut before, after) == after
        });
        of_another.unwrap();
        daemon.signal(Signal::SIGHUP);
        wait_for("its last use", || (last_use()? >= lent + 2).then_some(()));
    });
}

/// RFC 7915 section 4.1: the MTU is the device's in all workers, also after it has changed.
#[test]
fn all_workers_follow_the_mtu() {
    xlatd_case(|net| {
        let _daemon = translate(net, &format!("{CONFIG}{WORKERS}"));
        let at_server = Capture::start(&net.server);
        net.xlat.ip("link set nat64 mtu 1300");
        for port in 1..=40 {
            wait_for("an ICMP error that names the new MTU", || {
                let ports = [port, 9];
                // One octet more than IPv6 has room for.
                let datagram = udp(SERVER, CLIENT4, ports, &pattern(1281 - 28));
                let mut packet = Ipv4::new(SERVER, CLIENT4, UDP, datagram);
                packet.fragment = DF;
                send4(&net.server, &packet);
                // Where the MTU is not known yet, the packet passes, and nobody hears at the port.
                let error = at_server.ipv4("an ICMP error", |packet| {
                    packet.protocol == ICMP && packet.payload[0] == 3
                });
                (error.payload[1] == 4 && error.payload[6..8] == 1280_u16.to_be_bytes())
                    .then_some(())
            });
        }
    });
}

/// icmp-errors is the limit of all workers together, and so is that of lines in the packet log.
#[test]
fn limits_are_those_of_all_workers() {
    xlatd_case(|net| {
        let daemon = translate(
            net,
            &format!("{CONFIG}icmp-errors 20\nlog drop reject icmp\n{WORKERS}"),
        );
        let start = Instant::now();
        // Hop limit 1, of many hosts to many destinations: each is to be answered.
        for host in 0..500 {
            let source = format!("2001:db8:6::{:x}", 0x1000 + host);
            let destination = format!("2001:db8:64::c000:{:x}", 0x200 + host % 256);
            let mut packet = Ipv6::new(&source, &destination, EXPERIMENT, vec![0; 8]);
            packet.hop_limit = 3;
            flood6(&net.client, &packet, 1);
        }
        let status = wait_for("the packets to be refused", || {
            let status = status(&daemon);
            let suppressed = status["packets"]["suppressed_messages"].as_u64().unwrap();
            let sent = status["packets"]["six_to_four"]["icmp_errors"]
                .as_u64()
                .unwrap();
            (suppressed + sent >= 500).then_some(status)
        });
        let seconds = start.elapsed().as_secs_f64();
        let sent = status["packets"]["six_to_four"]["icmp_errors"]
            .as_u64()
            .unwrap();
        let most = 20.0 * (1.0 + seconds) + 3.0;
        assert!(sent > 3 && (sent as f64) <= most, "{sent} in {seconds} s");
        let lines = daemon.log().matches("DROP: [v6] [2001:db8:6::1").count();
        let most = 50.0 * (1.0 + seconds / 5.0) + 3.0;
        assert!(
            lines > 3 && (lines as f64) <= most,
            "{lines} in {seconds} s"
        );
    });
}

/// A device has one user at a time, also where the kernel would attach another one: each would take
/// some of the packets. It is refused, whatever its own number of workers, and disturbs nothing.
#[test]
fn device_of_several_queues_that_stays_busy_is_an_error() {
    xlatd_case(|net| {
        let _first = translate(net, &format!("{CONFIG}{WORKERS}"));
        for workers in [WORKERS, "workers 1\n"] {
            let mut second = Daemon::start(&net.xlat, &format!("{CONFIG}{workers}"));
            assert_eq!(second.wait().code(), Some(1));
            let log = second.log();
            let expected = "nat64: cannot attach to the TUN device, which another process is using";
            assert!(log.contains(expected), "{log}");
        }
        Flows::new(net, 30).exchange(3);
    });
}

/// A daemon that is started while another ends takes over from it.
#[test]
fn busy_device_of_several_queues_is_waited_for() {
    xlatd_case(|net| {
        let mut first = translate(net, &format!("{CONFIG}{WORKERS}"));
        let second = Daemon::start(&net.xlat, &format!("{CONFIG}{WORKERS}"));
        // It sleeps between attempts, and sleeps for nothing else.
        wait_for("the second daemon to have found the device busy", || {
            second.sleeps().then_some(())
        });
        first.stop();
        second.prints("Running as");
        Flows::new(net, 30).exchange(3);
    });
}

/// A hint is given once, whatever worker refuses such packets, and however long they are.
#[test]
fn a_hint_is_given_once_for_all_workers() {
    xlatd_case(|net| {
        net.xlat.ip("tuntap add dev nat64 mode tun multi_queue
            link set nat64 mtu 65535");
        net.route_to_device();
        let daemon = Daemon::start(&net.xlat, &format!("{CONFIG}{WORKERS}"));
        daemon.prints("Running as");
        // UDP without a checksum, which the default of udp-cksum-mode drops.
        for port in 0..40 {
            let mut datagram = vec![0; 60_000];
            datagram[..6].copy_from_slice(&[4, port, 0, 53, 0xea, 0x60]);
            send4(&net.xlat, &Ipv4::new("192.0.2.2", CLIENT4, 17, datagram));
        }
        let status = wait_for("the packets to be refused", || {
            let status = status(&daemon);
            let dropped = &status["packets"]["four_to_six"]["dropped"][0];
            (dropped["count"] == 40).then_some(status)
        });
        for worker in status["workers"].as_array().unwrap() {
            assert_ne!(worker["packets"]["four_to_six"]["dropped"][0]["count"], 0);
        }
        daemon.prints("Dropped UDP without a checksum");
        let log = daemon.log();
        assert_eq!(log.matches("Dropped UDP").count(), 1, "{log}");
        assert!(log.contains("(60020 bytes)"), "{log}");
    });
}

/// A trace has the packets of all workers, and says by which each went.
#[test]
fn a_trace_has_packets_of_all_workers() {
    xlatd_case(|net| {
        let running = translate(net, &format!("{CONFIG}{WORKERS}"));
        let socket = running.control_socket("nat64");
        wait_for_socket(&socket);
        let directory = Directory::new();
        let file = directory.file("trace");
        let command = format!(
            "timeout 4 {} trace -w {} {}",
            daemon().display(),
            file.display(),
            socket.display()
        );
        thread::scope(|scope| {
            let tracing = scope.spawn(|| net.xlat.output(&command));
            wait_for("the trace", || {
                fs::metadata(&file)
                    .is_ok_and(|of| of.len() > 0)
                    .then_some(())
            });
            Flows::new(net, 100).exchange(2);
            tracing.join().unwrap();
        });
        let octets = fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&octets);
        let count = |what: &str| text.matches(what).count();
        for worker in 1..=3 {
            let translated = count(&format!(" of worker {worker}"))
                - count(&format!(": packet of worker {worker}"));
            assert!(translated >= 20, "{worker}: {translated}");
        }
        assert!(
            count("translation of packet") >= 400,
            "{}",
            count("translation of packet")
        );
    });
}
