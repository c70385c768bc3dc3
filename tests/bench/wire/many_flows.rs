//! Small packets of many flows, faster than any translator takes them: what it can do at most.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    cpu,
    generator::Generator,
    harness::Daemon,
    lab::{CLIENT, Carrier, Lab, Running},
    maps::{Maps, shuffled},
    packet,
};

/// Payload of each packet, in octets.
const LEN: usize = 64;
/// The port of the server, whose packets are dropped once they have arrived (discard).
const PORT: u16 = 9;
/// Before the measurement, until all is under way.
const WARM_UP: Duration = Duration::from_millis(500);

/// Flows of [`from_many_flows`].
const FLOWS: u16 = 100;

/// What became of the packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossed {
    /// Thousands a second that were sent.
    pub(crate) sent: f64,
    /// Thousands a second that arrived.
    pub(crate) kpps: f64,
    /// Processor time of the process that carried them, in seconds per million that arrived.
    pub(crate) cpu: Option<f64>,
}

/// UDP from many ports of one host, one datagram of each after the other.
pub(crate) fn from_many_flows(
    lab: &Lab,
    carrier: &Carrier,
    running: &Running,
    duration: Duration,
) -> Crossed {
    let flows = (0..FLOWS).map(|flow| (CLIENT.to_owned(), 4000 + flow));
    crossing(lab, carrier, running, flows, duration)
}

/// UDP from many hosts, one datagram of each after the other.
pub(crate) fn from_many_hosts(
    lab: &Lab,
    carrier: &Carrier,
    running: &Running,
    maps: Maps,
    duration: Duration,
) -> Crossed {
    let hosts = shuffled().map(|host| (maps.host(host).1.to_string(), 4000));
    crossing(lab, carrier, running, hosts, duration)
}

fn crossing(
    lab: &Lab,
    carrier: &Carrier,
    running: &Running,
    sources: impl Iterator<Item = (String, u16)>,
    duration: Duration,
) -> Crossed {
    lab.drop_arriving(PORT);
    let to = carrier.server();
    let packets = sources.map(|(source, port)| {
        let udp = packet::udp(&source, to, [port, PORT], &[0x55; LEN]);
        packet::Ipv6::new(&source, to, packet::UDP, udp).octets()
    });
    let link = [(&lab.client, "router"), (&lab.router, "client")];
    let mut generator = Generator::new(link[0], link[1], packets);
    let pid = running.daemon.as_ref().map(Daemon::pid);
    let sent = AtomicU64::new(0);
    let now = || Reading {
        at: Instant::now(),
        sent: sent.load(Ordering::Relaxed) as f64,
        arrived: arrived(lab, carrier),
        cpu: pid.map(cpu::seconds),
    };
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            thread::sleep(WARM_UP);
            let before = now();
            thread::sleep(duration);
            now().since(&before)
        });
        while !watcher.is_finished() {
            sent.fetch_add(generator.send() as u64, Ordering::Relaxed);
        }
        watcher.join().unwrap()
    })
}

/// What was counted until a time.
struct Reading {
    at: Instant,
    sent: f64,
    arrived: f64,
    cpu: Option<f64>,
}

impl Reading {
    fn since(&self, before: &Self) -> Crossed {
        let milliseconds = (self.at - before.at).as_secs_f64() * 1e3;
        let arrived = self.arrived - before.arrived;
        let cpu = self.cpu.zip(before.cpu).map(|(now, before)| now - before);
        Crossed {
            sent: (self.sent - before.sent) / milliseconds,
            kpps: arrived / milliseconds,
            cpu: cpu.map(|seconds| seconds / (arrived / 1e6)),
        }
    }
}

/// Packets that arrived at the server so far. What was joined counts as so many packets as it was
/// made of: the payload is divided by that of a packet.
fn arrived(lab: &Lab, carrier: &Carrier) -> f64 {
    let ip = if carrier.server() == carrier.listens() {
        40
    } else {
        20
    };
    let text = lab
        .server
        .inside(|| fs::read_to_string("/proc/thread-self/net/dev"))
        .unwrap();
    let counters = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("router:"));
    let mut counters = counters
        .unwrap()
        .split_whitespace()
        .map(|word| word.parse().unwrap());
    let mut next = || -> f64 { counters.next().unwrap() };
    let (octets, frames) = (next(), next());
    (octets - frames * f64::from(14 + ip + 8)) / LEN as f64
}
