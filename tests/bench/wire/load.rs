//! Traffic, and how much of it arrives.

use std::{
    io::IoSlice,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc, setsockopt_impl, sockopt_impl,
    sys::socket::{
        AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, SockaddrIn6,
        sendmmsg, setsockopt, socket,
    },
};

use crate::{
    harness::{Netns, wait_for},
    lab::{Carrier, Lab, SERVER, SERVER_BY_PREFIX},
    maps::{Maps, shuffled},
    packet,
};

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
const BURST: usize = 40;
const PORT: u16 = 5201;

/// Which way the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the server: IPv6 to IPv4.
    Up,
    Down,
}

/// TCP by iperf3: Gbit/s that arrive.
pub(crate) fn tcp(lab: &Lab, carrier: &Carrier, way: Way, flows: u32, duration: Duration) -> f64 {
    let seconds = duration.as_secs_f64();
    let reverse = if way == Way::Down { "-R" } else { "" };
    thread::scope(|scope| {
        let listens = carrier.listens();
        scope.spawn(move || {
            lab.server.output(&format!(
                "iperf3 --server --one-off --bind {listens} --port {PORT}"
            ));
        });
        wait_for("iperf3 to listen", || {
            let listening = lab.server.run("ss -Hltn");
            listening.contains(&format!(":{PORT}")).then_some(())
        });
        let server = carrier.server();
        let report = lab.client.run(&format!(
            "iperf3 --client {server} --port {PORT} --time {seconds:.0} --parallel {flows} --json {reverse}"
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

/// UDP from the client to the server: thousands of datagrams a second that arrive.
pub(crate) fn udp(lab: &Lab, carrier: &Carrier, what: Datagrams, duration: Duration) -> f64 {
    let receiver = bind(&lab.server, carrier.listens());
    let server: IpAddr = carrier.server().parse().unwrap();
    let to = SocketAddr::new(server, receiver.local_addr().unwrap().port());
    let senders: Vec<_> = (0..what.flows)
        .map(|_| {
            let sender = bind(&lab.client, "::");
            sender.connect(to).unwrap();
            if what.at_once > 1 {
                setsockopt(&sender, UdpSegment, &(what.len as i32)).unwrap();
            }
            sender
        })
        .collect();
    let data = vec![0x55; what.len * what.at_once];
    let burst = [[IoSlice::new(&data)]; BURST];
    let mut headers = MultiHeaders::<()>::preallocate(BURST, None);
    let mut sender = senders.iter().cycle();
    arriving(&receiver, what.len, duration, || {
        let sender = sender.next().unwrap();
        // A full queue is no reason to stop. Mixed flows are mixed one by one.
        if what.flows > 1 || what.at_once > 1 {
            let _ = sender.send(&data);
        } else {
            let (fd, flags) = (sender.as_raw_fd(), MsgFlags::empty());
            let _ = sendmmsg(fd, &mut headers, &burst, [None; BURST], [], flags);
        }
    })
}

/// UDP with 64 octets from many hosts, one datagram of each after the other: thousands a second
/// that arrive.
pub(crate) fn from_many_hosts(lab: &Lab, maps: Maps, duration: Duration) -> f64 {
    const LEN: usize = 64;
    let receiver = bind(&lab.server, SERVER);
    let port = receiver.local_addr().unwrap().port();
    let server: Ipv6Addr = SERVER_BY_PREFIX.parse().unwrap();
    let packets: Vec<_> = shuffled()
        .map(|host| {
            let source = maps.host(host).1.to_string();
            let udp = packet::udp(&source, SERVER_BY_PREFIX, [4000, port], &[0x55; LEN]);
            packet::Ipv6::new(&source, SERVER_BY_PREFIX, packet::UDP, udp).octets()
        })
        .collect();
    let to = SockaddrIn6::from(SocketAddrV6::new(server, 0, 0, 0));
    let sender = lab.client.inside(|| {
        let (family, kind) = (AddressFamily::Inet6, SockType::Raw);
        socket(family, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap()
    });
    let mut headers = MultiHeaders::<SockaddrIn6>::preallocate(BURST, None);
    let mut bursts = packets.chunks_exact(BURST).cycle();
    arriving(&receiver, LEN, duration, || {
        let burst = bursts.next().unwrap();
        let burst: [_; BURST] = std::array::from_fn(|at| [IoSlice::new(&burst[at])]);
        let (fd, flags) = (sender.as_raw_fd(), MsgFlags::empty());
        let _ = sendmmsg(fd, &mut headers, &burst, [Some(to); BURST], [], flags);
    })
}

/// Sends again and again, and says how many thousands of datagrams of `len` octets a second arrive.
fn arriving(receiver: &UdpSocket, len: usize, duration: Duration, mut send: impl FnMut()) -> f64 {
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
    thread::scope(|scope| {
        let received = scope.spawn(move || {
            receive(Instant::now() + Duration::from_millis(300)); // until it is under way
            let start = Instant::now();
            let octets = receive(start + duration);
            octets as f64 / start.elapsed().as_secs_f64()
        });
        while !received.is_finished() {
            send();
        }
        received.join().unwrap() / len as f64 / 1000.0
    })
}

/// Request and response over UDP, one after the other: median and 99th percentile, in microseconds.
pub(crate) fn round_trips(lab: &Lab, carrier: &Carrier, count: usize) -> (f64, f64) {
    let server = bind(&lab.server, carrier.listens());
    server
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let client = bind(&lab.client, "::");
    client
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let address: IpAddr = carrier.server().parse().unwrap();
    client
        .connect(SocketAddr::new(
            address,
            server.local_addr().unwrap().port(),
        ))
        .unwrap();
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

fn bind(ns: &Netns, address: &str) -> UdpSocket {
    let address: IpAddr = address.parse().unwrap();
    let socket = ns.inside(|| UdpSocket::bind((address, 0))).unwrap();
    let size: libc::c_int = 4 << 20;
    let _ = setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &(size as usize));
    socket
}
