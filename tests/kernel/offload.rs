//! Super-packets, and packets of which the kernel has left something to do: from outside nobody
//! sees that they are there. All of it holds without offload, too (`OFFLOAD=off`), but for the
//! number of packets on the TUN device.

use nix::sys::{signal::Signal, socket::getsockopt};

use crate::{
    forward::{connect, exchange, listen},
    harness::{
        CLIENT, CLIENT4, Net, Netns, SERVER, SERVER6, uninterrupted, wait_for, without_offload,
        xlatd_case,
    },
    packet::{Ipv4, Ipv6, TCP, pattern},
    socket::{Capture, Fragmentation, Ipv4Mtu, udp_socket},
};

/// gate6, by its mapped address in the prefix.
const GATE6_IN_PREFIX: &str = "2001:db8:64::cb00:7106";
/// The largest packet of every link here, in octets.
const MTU: usize = 1500;
/// So much is sent in each direction, in octets.
const DATA: usize = 4 << 20;

/// Flags of a TCP segment (RFC 9293 section 3.1).
const CWR: u8 = 0x80;
const ECE: u8 = 0x40;

/// The ends calculate and cut everything themselves, and gates join what they get (GRO), as network
/// cards and routers do: what comes to the translator from elsewhere, and what leaves it, is seen
/// as on a wire.
fn hosts_without_offload(net: &Net) {
    for (ns, device) in [(&net.client, "gate6"), (&net.server, "gate4")] {
        ns.run(&format!(
            "ethtool -K {device} tx off tso off gso off gro off"
        ));
    }
    for (ns, device) in [(&net.gate6, "client"), (&net.gate4, "server")] {
        ns.run(&format!(
            "ethtool -K {device} tx off tso off gso off gro on"
        ));
    }
}

/// Packets that the device has given to the daemon, and taken from it.
fn packets_of_device(ns: &Netns) -> [usize; 2] {
    let links = ns.run("ip -json -statistics link show nat64");
    let links: serde_json::Value = serde_json::from_str(&links).unwrap();
    ["tx", "rx"].map(|way| {
        let packets = &links[0]["stats64"][way]["packets"];
        packets.as_u64().unwrap_or_else(|| panic!("{links}")) as usize
    })
}

/// If offload is on, fewer packets went through the device than [`exchange`] made segments;
/// acknowledgements come to that.
fn assert_super_packets(net: &Net) {
    let segments = 2 * DATA / MTU;
    for packets in packets_of_device(&net.xlat) {
        assert_eq!(
            packets < segments,
            !without_offload(),
            "{packets} for {segments} segments"
        );
    }
}

/// What arrives at the two ends is as large as the links allow at most, and has right checksums.
struct Wire {
    at_client: Capture,
    at_server: Capture,
}

impl Wire {
    fn capture(net: &Net) -> Self {
        let [at_client, at_server] = [&net.client, &net.server].map(Capture::start);
        Self {
            at_client,
            at_server,
        }
    }

    /// Looks at what has arrived, calls `each` with the TCP segments, and returns how many have
    /// arrived at either end.
    fn verify(&self, mut each: impl FnMut(&[u8])) -> [usize; 2] {
        let [mut to_client, mut to_server] = [0; 2];
        while let Some(packet) = self.at_server.next(Ipv4::parse) {
            if packet.destination.to_string() == SERVER && packet.source.to_string() == CLIENT4 {
                assert!(20 + packet.payload.len() <= MTU, "{packet:?}");
                assert_eq!(packet.transport_sum(), 0xffff, "{packet:?}");
                to_server += 1;
                if packet.protocol == TCP {
                    each(&packet.payload);
                }
            }
        }
        while let Some(packet) = self.at_client.next(Ipv6::parse) {
            if packet.destination.to_string() == CLIENT && packet.source.to_string() == SERVER6 {
                assert!(40 + packet.payload.len() <= MTU, "{packet:?}");
                assert_eq!(packet.transport_sum(), 0xffff, "{packet:?}");
                to_client += 1;
                if packet.next_header == TCP {
                    each(&packet.payload);
                }
            }
        }
        [to_client, to_server]
    }
}

/// RFC 7915 sections 4.5 and 5.5, and no packet above the MTU: between hosts whose packets are
/// joined and cut on their way.
#[test]
fn hosts_elsewhere_see_whole_packets() {
    xlatd_case(|net| {
        hosts_without_offload(net);
        let _daemon = net.translate();
        let wire = Wire::capture(net);
        let listener = listen(&net.server, SERVER);
        exchange(&connect(&net.client, SERVER6, &listener), DATA);
        let [to_client, to_server] = wire.verify(|_| {});
        assert!(
            to_client > 100 && to_server > 100,
            "{to_client} {to_server}"
        );
        assert_super_packets(net);
    });
}

/// The same from a program beside the translator: its packets come with partial checksums, and are
/// super-packets at once.
#[test]
fn a_program_on_the_same_host_sends_super_packets() {
    xlatd_case(|net| {
        net.server
            .run("ethtool -K gate4 tx off tso off gso off gro off");
        let _daemon = net.translate();
        let listener = listen(&net.server, SERVER);
        exchange(&connect(&net.xlat, SERVER6, &listener), DATA);
        assert_super_packets(net);

        let sender = udp_socket(&net.xlat, "2001:db8:60::1", 4000, Fragmentation::Allowed);
        let receiver = udp_socket(&net.server, SERVER, 4000, Fragmentation::Allowed);
        let mut buffer = [0; 2000];
        for len in [0, 1, 77, 1400] {
            sender.send_to(&pattern(len), (SERVER6, 4000)).unwrap();
            assert_eq!(uninterrupted(|| receiver.recv(&mut buffer)).unwrap(), len);
            assert_eq!(buffer[..len], pattern(len));
        }
    });
}

/// EAM-06: a super-packet goes back to the family that it came from.
#[test]
fn super_packets_are_hairpinned() {
    xlatd_case(|net| {
        let _daemon = net.translate();
        let listener = listen(&net.gate6, "2001:db8:60::2");
        exchange(&connect(&net.client, GATE6_IN_PREFIX, &listener), DATA);
        assert_super_packets(net);
    });
}

/// RFC 3168 section 6.1.2: congestion is seen, said and answered, and CWR is on one segment of a
/// super-packet, not on all.
#[test]
fn congestion_is_notified_through_super_packets() {
    xlatd_case(|net| {
        hosts_without_offload(net);
        net.client.sysctl("ipv4/tcp_ecn", "1");
        net.server.sysctl("ipv4/tcp_ecn", "1");
        // Every 100th packet that may be marked has met congestion at a gate.
        net.gate6.run(
            "nft add table ip6 t ; \
             add chain ip6 t forward { type filter hook forward priority 0 ; } ; \
             add rule ip6 t forward ip6 ecn ect0 numgen inc mod 100 0 ip6 ecn set ce",
        );
        let _daemon = net.translate();
        let wire = Wire::capture(net);
        let listener = listen(&net.server, SERVER);
        exchange(&connect(&net.client, SERVER6, &listener), DATA);
        let [mut reduced, mut echoed, mut in_a_row] = [0; 3];
        let mut last = false;
        let segments = wire.verify(|segment| {
            const SYN: u8 = 2;
            let flags = segment[13];
            if flags & SYN == 0 {
                let is_reduced = flags & CWR != 0;
                reduced += usize::from(is_reduced);
                echoed += usize::from(flags & ECE != 0);
                in_a_row += usize::from(is_reduced && last);
                last = is_reduced;
            }
        });
        assert!(
            reduced > 0 && echoed > 0,
            "{reduced} {echoed} of {segments:?}"
        );
        assert_eq!(in_a_row, 0, "CWR on one segment after another");
    });
}

/// RFC 7915 section 4.1: what counts is the length of a segment. The sender of a super-packet whose
/// segments do not fit hears of it, with the length that fits (X46-13), and all arrives.
#[test]
fn segments_that_do_not_fit_are_made_smaller() {
    xlatd_case(|net| {
        let _daemon = net.translate();
        net.xlat.ip("link set nat64 mtu 1400");
        let listener = listen(&net.server, SERVER);
        let connection = connect(&net.client, SERVER6, &listener);
        exchange(&connection, DATA);
        assert_eq!(getsockopt(&connection[1], Ipv4Mtu), Ok(1380));
    });
}

/// Datagrams that are joined arrive one by one, in their order, as they were sent: also those of
/// several flows.
#[test]
fn joined_datagrams_arrive_as_they_were() {
    xlatd_case(|net| {
        hosts_without_offload(net);
        let daemon = net.translate();
        let wire = Wire::capture(net);
        let receiver = udp_socket(&net.server, SERVER, 4000, Fragmentation::Allowed);
        let senders = [5001, 5002, 5003]
            .map(|port| udp_socket(&net.client, CLIENT, port, Fragmentation::Allowed));
        senders[0].send_to(b"first", (SERVER6, 4000)).unwrap();
        uninterrupted(|| receiver.recv(&mut [0; 100])).unwrap();
        let [_, before] = packets_of_device(&net.xlat);

        // They wait at the device, and are read in one wakeup.
        daemon.signal(Signal::SIGSTOP);
        wait_for("the daemon to stop", || {
            daemon.status("State").starts_with('T').then_some(())
        });
        let datagram = |number: usize| {
            let mut data = pattern(200);
            data[..8].copy_from_slice(&number.to_be_bytes());
            data
        };
        for number in 0..90 {
            let sender = &senders[number % senders.len()];
            sender.send_to(&datagram(number), (SERVER6, 4000)).unwrap();
        }
        daemon.signal(Signal::SIGCONT);

        let mut next = [0, 1, 2];
        for _ in 0..90 {
            let mut buffer = [0; 1000];
            let (len, from) = uninterrupted(|| receiver.recv_from(&mut buffer)).unwrap();
            let next = &mut next[usize::from(from.port() - 5001)];
            assert_eq!(buffer[..len], datagram(*next));
            *next += senders.len();
        }
        wire.verify(|_| {});
        let [_, after] = packets_of_device(&net.xlat);
        let written = after - before;
        if !without_offload() {
            assert!(written < 30, "{written} writes for 90 datagrams of 3 flows");
        } else {
            assert_eq!(written, 90);
        }
    });
}
