//! Floods of packets that cost something: they have to be answered, dropped, logged, or leased.
//!
//! With `--nocapture` the figures are shown: `DAEMON=target/release/xlatd` makes them those of a
//! user.

use std::{
    net::{SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto,
    setsockopt, socket, sockopt::RcvBuf,
};

use crate::{
    harness::{CLIENT, CONFIG, Daemon, Net, SERVER, SERVER6, uninterrupted, xlatd_case},
    packet::{Ipv4, Ipv6, UDP, icmpv6, pattern, udp},
    socket::{Fragmentation, udp_socket},
};

/// One packet after the other, of a kind.
pub(crate) type Flood = fn(u32) -> Vec<u8>;

pub(crate) const TTL: Flood = |_| {
    let mut packet = Ipv6::new(CLIENT, SERVER6, UDP, udp(CLIENT, SERVER6, [9, 9], b"flood"));
    packet.hop_limit = 1;
    packet.octets()
};
const UNMAPPED: Flood = |_| {
    let from = "2001:db8:6::99";
    Ipv6::new(from, SERVER6, UDP, udp(from, SERVER6, [9, 9], b"flood")).octets()
};
const TOO_BIG: Flood = |_| {
    let body = pattern(1472);
    let mut packet = Ipv4::new(
        SERVER,
        "203.0.113.10",
        UDP,
        udp(SERVER, "203.0.113.10", [9, 9], &body),
    );
    packet.fragment = crate::packet::DF;
    packet.octets()
};
const SPOOFED: Flood = |_| {
    // The client, by way of the prefix.
    let from = "2001:db8:64::cb00:710a";
    Ipv6::new(from, SERVER6, UDP, udp(from, SERVER6, [9, 9], b"flood")).octets()
};
const ECHO: Flood = |_| {
    let own = "2001:db8:ffff::1";
    let body = icmpv6(CLIENT, own, 128, 0, [0, 1, 0, 1], &[0; 56]);
    Ipv6::new(CLIENT, own, 58, body).octets()
};
const NEW_HOST: Flood = |number| {
    let from = format!("2001:db8:6::1:{:x}:{:x}", number >> 16, number & 0xffff);
    Ipv6::new(&from, SERVER6, UDP, udp(&from, SERVER6, [9, 9], b"flood")).octets()
};

/// Name, the packets, lines of the configuration, and how many answers there are at most: 100 at
/// once, and 100 a second, to one destination, and ten times as many to all; 4 s are generous.
const FLOODS: [(&str, Flood, &str, u64); 7] = [
    ("TTL expired", TTL, "", 500),
    ("not mapped", UNMAPPED, "", 500),
    ("too big", TOO_BIG, "", 500),
    ("echo request to the translator", ECHO, "", 500),
    ("spoofed, dropped", SPOOFED, "", 0),
    (
        "spoofed, dropped, logged",
        SPOOFED,
        "log drop reject icmp self dyn\n",
        0,
    ),
    (
        "new hosts for a pool",
        NEW_HOST,
        "dynamic-pool 203.0.113.128/25\nlog dyn\n",
        5000,
    ),
];

/// Packets go straight to the device of the translator, from raw sockets of its namespace.
pub(crate) struct Injector {
    v4: OwnedFd,
    v6: OwnedFd,
}

impl Injector {
    pub(crate) fn new(net: &Net) -> Self {
        let [v4, v6] = [AddressFamily::Inet, AddressFamily::Inet6].map(|family| {
            net.xlat.inside(|| {
                let flags = SockFlag::SOCK_CLOEXEC;
                socket(family, SockType::Raw, flags, SockProtocol::Raw).unwrap()
            })
        });
        Self { v4, v6 }
    }

    fn send(&self, octets: &[u8]) {
        // What does not fit into a queue is lost, as on a wire.
        let _ = if octets[0] >> 4 == 4 {
            let to = <[u8; 4]>::try_from(&octets[16..20]).unwrap();
            let to = SockaddrIn::from(SocketAddrV4::new(to.into(), 0));
            sendto(self.v4.as_raw_fd(), octets, &to, MsgFlags::empty())
        } else {
            let to = <[u8; 16]>::try_from(&octets[24..40]).unwrap();
            let to = SockaddrIn6::from(SocketAddrV6::new(to.into(), 0, 0, 0));
            sendto(self.v6.as_raw_fd(), octets, &to, MsgFlags::empty())
        };
    }

    /// At so many a second, or as fast as can be, until it is told to stop. Returns how many there
    /// were.
    pub(crate) fn flood(&self, flood: Flood, rate: Option<u32>, stop: &AtomicBool) -> u32 {
        let packets: Vec<_> = (0..5000).map(flood).collect();
        let start = Instant::now();
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            let due = rate.map_or(count + 100, |rate| {
                (start.elapsed().as_secs_f64() * f64::from(rate)) as u32
            });
            while count < due {
                self.send(&packets[count as usize % packets.len()]);
                count += 1;
            }
            if rate.is_some() {
                thread::sleep(Duration::from_micros(500));
            }
        }
        count
    }
}

/// A flow from the client to the server at a rate: how many of its datagrams were sent and arrived.
pub(crate) fn good_flow(net: &Net, rate: Option<u32>, duration: Duration) -> (u32, u32) {
    let receiver = udp_socket(&net.server, SERVER, 5000, Fragmentation::Allowed);
    setsockopt(&receiver, RcvBuf, &(8 << 20)).unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let sender = net
        .client
        .inside(|| UdpSocket::bind((CLIENT, 5001)))
        .unwrap();
    sender.connect((SERVER6, 5000)).unwrap();
    let counter = thread::spawn(move || {
        let mut count = 0;
        let mut buffer = [0; 100];
        let mut silence = 0;
        while silence < 3 {
            match uninterrupted(|| receiver.recv(&mut buffer)) {
                Ok(_) => (count, silence) = (count + 1, 0),
                Err(_) => silence += 1,
            }
        }
        count
    });
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < duration {
        let due = rate.map_or(sent + 50, |rate| {
            (start.elapsed().as_secs_f64() * f64::from(rate)) as u32
        });
        while sent < due {
            let _ = sender.send(&[0; 64]);
            sent += 1;
        }
        if rate.is_some() {
            thread::sleep(Duration::from_micros(500));
        }
    }
    (sent, counter.join().unwrap())
}

/// The daemon, and a service of the server that hears what gets through: nobody has to be told that
/// there is none.
fn start(net: &Net, more: &str) -> (Daemon, UdpSocket) {
    let service = udp_socket(&net.server, "0.0.0.0", 9, Fragmentation::Allowed);
    // Nobody looks for hosts that are made up: the kernel has a thousand places for neighbours, in
    // all namespaces together.
    net.gate6.ip("route add blackhole 2001:db8:6::1:0:0/96");
    let daemon = net.translate_with(&format!("{CONFIG}{more}"));
    daemon.prints("Running as");
    net.client.run(&format!("ping -n -c 1 -W 15 {SERVER6}"));
    (daemon, service)
}

fn memory(daemon: &Daemon) -> u64 {
    let memory = daemon.status("RssAnon");
    memory.trim_end_matches(" kB").parse().unwrap()
}

/// A number in a line of what it says at the end.
fn number_before(log: &str, what: &str) -> u64 {
    let lines = log.lines().filter_map(|line| line.split_once(what));
    let numbers = lines.filter_map(|(before, _)| {
        let digits = before
            .trim_end()
            .rsplit(|letter: char| !letter.is_ascii_digit());
        digits.into_iter().next()?.parse::<u64>().ok()
    });
    numbers.sum()
}

/// At full rate memory and log do not grow, answers stay within their limits, and SIGTERM is obeyed
/// within a second.
#[test]
fn at_full_rate_nothing_grows() {
    for (name, flood, config, most) in FLOODS {
        xlatd_case(|net| {
            let (mut daemon, _service) = start(net, config);
            let injector = Injector::new(net);
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                let flooding = scope.spawn(|| injector.flood(flood, None, &stop));
                // It has grown to what it needs.
                thread::sleep(Duration::from_millis(700));
                let (before, logged) = (memory(&daemon), daemon.log().len());
                let start = Instant::now();
                thread::sleep(Duration::from_secs(2));
                let (after, log) = (memory(&daemon), daemon.log());
                let asked = Instant::now();
                daemon.stop();
                let ended = asked.elapsed();
                stop.store(true, Ordering::Relaxed);
                let sent = flooding.join().unwrap();
                let end = daemon.log();
                let answers = number_before(&end, " of them with an ICMP error")
                    + number_before(&end, " packets answered at the own address");
                println!(
                    "{name}: {sent} packets, memory {before} KiB and then {after} KiB, {} lines of log in {:.1} s, {answers} answers, ended after {:.0} ms",
                    log[logged..].lines().count(),
                    start.elapsed().as_secs_f64(),
                    ended.as_secs_f64() * 1000.0,
                );
                assert!(
                    after <= before + 256,
                    "{name}: {before} KiB, then {after} KiB"
                );
                // 10 lines a second a class, in which there may be five.
                assert!(log[logged..].lines().count() <= 200, "{name}: {log}");
                assert!(ended < Duration::from_secs(1), "{name}: {ended:?}");
                assert_eq!(answers > 0, most > 0, "{name}: {answers} answers");
                assert!(answers <= most, "{name}: {answers} answers");
            });
        });
    }
}

/// Beside a flood at half of what it can take, a good flow of a quarter of it goes on.
#[test]
fn a_good_flow_goes_on_beside_a_flood() {
    for (name, flood, config, _) in FLOODS {
        xlatd_case(|net| {
            let _running = start(net, config);
            let duration = Duration::from_millis(1000);
            // What passes when as many come as can; sender and receiver take their part of the
            // machine, too.
            let (_, arrived) = good_flow(net, None, duration);
            let capacity = (f64::from(arrived) / duration.as_secs_f64()) as u32;
            let injector = Injector::new(net);
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                let flooding = scope.spawn(|| injector.flood(flood, Some(capacity / 2), &stop));
                thread::sleep(Duration::from_millis(200));
                let (sent, arrived) = good_flow(net, Some(capacity / 4), 2 * duration);
                stop.store(true, Ordering::Relaxed);
                flooding.join().unwrap();
                let lost = 100.0 * f64::from(sent.saturating_sub(arrived)) / f64::from(sent);
                println!(
                    "{name}: of {capacity} a second, beside a half of that, a quarter loses {lost:.2} %"
                );
                // One is what is promised; the machine that runs all tests at once has other things
                // to do.
                assert!(lost <= 50.0, "{name}: {lost} %");
            });
        });
    }
}
