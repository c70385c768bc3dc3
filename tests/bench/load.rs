//! Traffic, and how much of it arrives.

use std::{
    io::IoSlice,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc, setsockopt_impl, sockopt_impl,
    sys::socket::{MsgFlags, MultiHeaders, sendmmsg, setsockopt},
};

use crate::harness::{Netns, wait_for};

sockopt_impl!(
    /// `UDP_SEGMENT`: what is sent at once becomes packets of so many octets.
    UdpSegment,
    SetOnly,
    libc::SOL_UDP,
    libc::UDP_SEGMENT,
    libc::c_int
);
sockopt_impl!(
    /// `UDP_GRO`: packets of a flow are received at once.
    UdpGro,
    SetOnly,
    libc::SOL_UDP,
    libc::UDP_GRO,
    libc::c_int
);

/// So many datagrams of one flow are given to the kernel by one call, as by any program that is
/// made to be fast.
pub(crate) const BURST: usize = 40;
const PORT: u16 = 5201;

/// Both ends of the traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends<'a> {
    pub(crate) client: &'a Netns,
    pub(crate) server: &'a Netns,
    /// The address at which the client reaches the server.
    pub(crate) to: &'a str,
    /// The address at which the server listens.
    pub(crate) listens: &'a str,
}

/// Which way the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the server.
    Up,
    Down,
}

/// TCP by iperf3: Gbit/s that arrive.
pub(crate) fn tcp(ends: Ends<'_>, way: Way, flows: u32, duration: Duration) -> f64 {
    let Ends {
        client,
        server,
        to,
        listens,
    } = ends;
    let seconds = duration.as_secs_f64();
    let reverse = if way == Way::Down { "-R" } else { "" };
    thread::scope(|scope| {
        scope.spawn(move || {
            server.output(&format!(
                "iperf3 --server --one-off --bind {listens} --port {PORT}"
            ));
        });
        wait_for("iperf3 to listen", || {
            let listening = server.run("ss -Hltn");
            listening.contains(&format!(":{PORT}")).then_some(())
        });
        let report = client.run(&format!(
            "iperf3 --client {to} --port {PORT} --time {seconds:.0} --parallel {flows} --json {reverse}"
        ));
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let rate = &report["end"]["sum_received"]["bits_per_second"];
        rate.as_f64().unwrap_or_else(|| panic!("{report}")) / 1e9
    })
}

/// What a UDP sender sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagrams {
    /// Payload of each, in octets.
    pub(crate) len: usize,
    /// So many are given to the kernel at once.
    pub(crate) at_once: usize,
    pub(crate) flows: usize,
}

/// UDP datagrams that went to a receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    /// Thousands a second that arrived.
    pub(crate) kpps: f64,
    /// The share of those sent that did not, in percent.
    pub(crate) lost: f64,
}

/// UDP from the client to the server.
pub(crate) fn udp(ends: Ends<'_>, what: Datagrams, duration: Duration) -> Arrived {
    let receiver = bind(ends.server, ends.listens);
    let to = SocketAddr::new(address(ends.to), receiver.local_addr().unwrap().port());
    let senders: Vec<_> = (0..what.flows)
        .map(|_| {
            let sender = bind_any(ends.client, to);
            sender.connect(to).unwrap();
            if what.at_once > 1 {
                setsockopt(&sender, UdpSegment, &(what.len as i32)).unwrap();
            }
            sender
        })
        .collect();
    arriving_from(&senders, &receiver, what, duration)
}

/// UDP from the server, which answers what the client sent.
pub(crate) fn udp_down(ends: Ends<'_>, what: Datagrams, duration: Duration) -> Arrived {
    let server = bind(ends.server, ends.listens);
    let to = SocketAddr::new(address(ends.to), server.local_addr().unwrap().port());
    let receiver = bind_any(ends.client, to);
    receiver.connect(to).unwrap();
    server
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    // Queues may still be full of what was measured before.
    let client = wait_for("the client's first datagram", || {
        receiver.send(&[0]).unwrap();
        server.recv_from(&mut [0]).ok().map(|(_, client)| client)
    });
    server.connect(client).unwrap();
    arriving_from(&[server], &receiver, what, duration)
}

fn arriving_from(
    senders: &[UdpSocket],
    receiver: &UdpSocket,
    what: Datagrams,
    duration: Duration,
) -> Arrived {
    let data = vec![0x55; what.len * what.at_once];
    let burst = [[IoSlice::new(&data)]; BURST];
    let mut headers = MultiHeaders::<()>::preallocate(BURST, None);
    let mut sender = senders.iter().cycle();
    arriving(receiver, what.len, duration, || {
        let sender = sender.next().unwrap();
        // A full queue is no reason to stop. Mixed flows are mixed one by one.
        if what.flows > 1 || what.at_once > 1 {
            let _ = sender.send(&data);
            what.at_once
        } else {
            let (fd, flags) = (sender.as_raw_fd(), MsgFlags::empty());
            let _ = sendmmsg(fd, &mut headers, &burst, [None; BURST], [], flags);
            BURST
        }
    })
}

/// Sends again and again, and says how many datagrams of `len` octets arrive. `send` returns how
/// many it sent.
pub(crate) fn arriving(
    receiver: &UdpSocket,
    len: usize,
    duration: Duration,
    mut send: impl FnMut() -> usize,
) -> Arrived {
    setsockopt(receiver, UdpGro, &1).unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let receive = |until: Instant| {
        let mut buffer = vec![0; 1 << 16];
        let mut octets = 0;
        while Instant::now() < until {
            octets += receiver.recv(&mut buffer).unwrap_or(0);
        }
        octets
    };
    let sent = AtomicU64::new(0);
    thread::scope(|scope| {
        let sent = &sent;
        let received = scope.spawn(move || {
            receive(Instant::now() + Duration::from_millis(300)); // until it is under way
            let start = Instant::now();
            let before = sent.load(Ordering::Relaxed);
            let octets = receive(start + duration);
            let seconds = start.elapsed().as_secs_f64();
            let sent = (sent.load(Ordering::Relaxed) - before) as f64;
            let arrived = octets as f64 / len as f64;
            Arrived {
                kpps: arrived / seconds / 1000.0,
                lost: ((1.0 - arrived / sent) * 100.0).max(0.0),
            }
        });
        while !received.is_finished() {
            sent.fetch_add(send() as u64, Ordering::Relaxed);
        }
        received.join().unwrap()
    })
}

/// Request and response over UDP, one after the other: median and 99th percentile, in microseconds.
pub(crate) fn round_trips(ends: Ends<'_>, count: usize) -> (f64, f64) {
    let server = bind(ends.server, ends.listens);
    let to = SocketAddr::new(address(ends.to), server.local_addr().unwrap().port());
    let client = bind_any(ends.client, to);
    for socket in [&server, &client] {
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
    }
    client.connect(to).unwrap();
    let done = AtomicBool::new(false);
    let mut times = thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 64];
            while !done.load(Ordering::Relaxed) {
                if let Ok((len, from)) = server.recv_from(&mut buffer) {
                    let _ = server.send_to(&buffer[..len], from);
                }
            }
        });
        let mut buffer = [0; 64];
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            client.send(&buffer).unwrap();
            if client.recv(&mut buffer).is_ok() {
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        done.store(true, Ordering::Relaxed);
        times
    });
    times.sort_by(f64::total_cmp);
    assert!(
        times.len() > count * 9 / 10,
        "only {} of {count}",
        times.len()
    );
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A socket that can reach an address.
fn bind_any(ns: &Netns, to: SocketAddr) -> UdpSocket {
    match to {
        SocketAddr::V4(_) => bind(ns, &Ipv4Addr::UNSPECIFIED.to_string()),
        SocketAddr::V6(_) => bind(ns, &Ipv6Addr::UNSPECIFIED.to_string()),
    }
}

pub(crate) fn bind(ns: &Netns, at: &str) -> UdpSocket {
    let socket = ns.inside(|| UdpSocket::bind((address(at), 0))).unwrap();
    let size: libc::c_int = 4 << 20;
    let _ = setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &(size as usize));
    socket
}
