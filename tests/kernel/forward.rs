//! Everything that hosts send each other crosses, in both directions.

use std::{
    env,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;

use crate::{
    harness::{
        CLIENT, CLIENT4, CONFIG, DEADLINE, Directory, Net, Netns, SERVER, SERVER6, case,
        uninterrupted, wait_for,
    },
    packet::{EXPERIMENT, Ipv4, Ipv6, pattern},
    socket::{Capture, Fragmentation, send4, send6, udp_socket},
};

/// RFC 7915 sections 4.2 and 5.2: Echo Request and Echo Reply.
#[test]
fn ping_from_client_to_server() {
    case(|net| {
        let _daemon = net.translate();
        for size in [0, 56, 1000, 1400] {
            net.client
                .run(&format!("ping -n -c 3 -i 0.01 -W 10 -s {size} {SERVER6}"));
        }
    });
}

/// RFC 7915 sections 4.2 and 5.2: Echo Request and Echo Reply.
#[test]
fn ping_from_server_to_client() {
    case(|net| {
        let _daemon = net.translate();
        for size in [0, 56, 1000, 1400] {
            net.server
                .run(&format!("ping -n -c 3 -i 0.01 -W 10 -s {size} {CLIENT4}"));
        }
    });
}

/// An IPv6 client opens a TCP connection, and a file crosses to the IPv4 server unchanged.
#[test]
fn file_from_client_to_server() {
    case(|net| file_crosses(&net.client, SERVER6, &net.server, SERVER, net));
}

/// An IPv4 host opens a TCP connection, and a file crosses to the IPv6 host unchanged.
#[test]
fn file_from_server_to_client() {
    case(|net| file_crosses(&net.server, CLIENT4, &net.client, CLIENT, net));
}

/// Every size crosses; what is larger than the MTU leaves the client in fragments.
#[test]
fn udp_of_every_size_from_client() {
    case(|net| every_size_from_client(net, Fragmentation::Allowed, 3000));
}

/// Every size crosses up to what the client's own link takes, in IPv6 packets of 1500 octets.
#[test]
fn udp_of_every_size_from_client_unfragmented() {
    case(|net| every_size_from_client(net, Fragmentation::Forbidden, 1500 - 40 - 8));
}

/// Every size crosses, DF clear (RFC 7915 section 4: the translator fragments).
#[test]
fn udp_of_every_size_from_server() {
    case(|net| every_size_from_server(net, Fragmentation::Allowed, 3000));
}

/// Every size crosses up to what fits into the IPv6 MTU; above, the server is told so (RFC 7915
/// section 4.1, DF set).
#[test]
fn udp_of_every_size_from_server_with_df() {
    case(|net| every_size_from_server(net, Fragmentation::Forbidden, 1500 - 40 - 8));
}

/// curl, as users have it, fetches a file from an IPv4-only web server.
#[test]
fn curl_fetches_over_http() {
    case(|net| {
        let _daemon = net.translate();
        let directory = Directory::new();
        let body = pattern(1 << 20);
        let listener = listen(&net.server, SERVER);
        let port = listener.local_addr().unwrap().port();
        let fetched = directory.file("fetched");
        thread::scope(|scope| {
            let server = scope.spawn(|| serve_http(&listener, &body));
            net.client.run(&format!(
                "curl --silent --show-error --fail --max-time 60 --noproxy * --output {} http://[{SERVER6}]:{port}/file",
                fetched.display()
            ));
            let peer = server.join().unwrap();
            assert_eq!(
                peer.ip().to_string(),
                CLIENT4,
                "the client as the server sees it"
            );
        });
        assert!(
            fs::read(fetched).unwrap() == body,
            "the file has changed on its way"
        );
    });
}

/// RFC 7915 sections 4.5 and 5.5 (G-07): protocols that the translator does not know pass, their
/// payload untouched.
#[test]
fn unknown_protocols_cross() {
    case(|net| {
        let _daemon = net.translate();
        let [at_client, at_server] = [&net.client, &net.server].map(Capture::start);
        // Use for experimentation; SCTP, whose checksum has no pseudo-header; ESP.
        for protocol in [EXPERIMENT, 132, 50] {
            let payload = pattern(700 + usize::from(protocol));
            send6(
                &net.client,
                &Ipv6::new(CLIENT, SERVER6, protocol, payload.clone()),
            );
            let packet = at_server.ipv4("an IPv4 packet", |packet| packet.protocol == protocol);
            assert_eq!(packet.source.to_string(), CLIENT4);
            assert_eq!(packet.destination.to_string(), SERVER);
            assert_eq!(packet.payload, payload);

            send4(
                &net.server,
                &Ipv4::new(SERVER, CLIENT4, protocol, payload.clone()),
            );
            let packet = at_client.ipv6("an IPv6 packet", |packet| {
                packet.next_header == protocol && packet.destination.to_string() == CLIENT
            });
            assert_eq!(packet.source.to_string(), SERVER6);
            assert_eq!(packet.payload, payload);
        }
    });
}

/// RFC 6052 section 2.3: nothing but the IPv4 address is taken out of an address, whatever bits 64
/// to 71 and those behind it are.
#[test]
fn other_bits_of_an_embedding_address_are_ignored() {
    case(|net| {
        let config = CONFIG.replace("2001:db8:64::/96", "2001:db8:64::/64");
        let _daemon = net.translate_with(&config);
        net.xlat.ip("route add 2001:db8:64::/64 dev nat64");
        let at_server = Capture::start(&net.server);
        for (first, bits) in [(2, "c0:2:200:1"), (1, "42c0:2:200:0")] {
            let destination = format!("2001:db8:64:0:{bits}");
            let payload = vec![first; 32];
            let packet = Ipv6::new(CLIENT, &destination, EXPERIMENT, payload.clone());
            send6(&net.client, &packet);
            let packet = at_server.ipv4(&destination, |packet| packet.payload == payload);
            assert_eq!(packet.destination.to_string(), SERVER);
        }
    });
}

/// RFC 7915 sections 4.1 and 5.1 (X46-02, X46-05, X64-02, X64-08): the octet of the traffic class
/// is copied, and the translator counts as one hop among the others: two of the kernel on its way
/// in and out, one at each gate.
#[test]
fn traffic_class_and_hop_limit_cross() {
    case(|net| {
        let _daemon = net.translate();
        let [at_client, at_server] = [&net.client, &net.server].map(Capture::start);
        let mut packet = Ipv6::new(CLIENT, SERVER6, EXPERIMENT, pattern(32));
        packet.traffic_class = 0xb9;
        send6(&net.client, &packet);
        let packet = at_server.ipv4("an IPv4 packet", |packet| packet.protocol == EXPERIMENT);
        assert_eq!((packet.tos, packet.ttl), (0xb9, 64 - 5));

        let mut packet = Ipv4::new(SERVER, CLIENT4, EXPERIMENT, pattern(32));
        packet.tos = 0xb9;
        send4(&net.server, &packet);
        let packet = at_client.ipv6("an IPv6 packet", |packet| {
            packet.next_header == EXPERIMENT && packet.destination.to_string() == CLIENT
        });
        assert_eq!((packet.traffic_class, packet.hop_limit), (0xb9, 64 - 5));
    });
}

/// A listening socket on a port of the kernel's choice.
pub(crate) fn listen(ns: &Netns, address: &str) -> TcpListener {
    let address = SocketAddr::new(address.parse().unwrap(), 0);
    ns.inside(|| TcpListener::bind(address)).unwrap()
}

/// A connection from the host, and the listener's end of it.
pub(crate) fn connect(ns: &Netns, address: &str, listener: &TcpListener) -> [TcpStream; 2] {
    let address = SocketAddr::new(
        address.parse().unwrap(),
        listener.local_addr().unwrap().port(),
    );
    let connected = ns
        .inside(|| TcpStream::connect_timeout(&address, DEADLINE))
        .unwrap();
    let (accepted, _) = listener.accept().unwrap();
    for stream in [&connected, &accepted] {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
    }
    [connected, accepted]
}

/// Data goes over the connection in both directions.
pub(crate) fn exchange(connection: &[TcpStream; 2], len: usize) {
    let data = pattern(len);
    let [one, other] = connection;
    for (mut sender, mut receiver) in [(one, other), (other, one)] {
        let mut arrived = vec![0; data.len()];
        thread::scope(|scope| {
            scope.spawn(|| sender.write_all(&data).unwrap());
            receiver.read_exact(&mut arrived).unwrap();
        });
        assert!(arrived == data, "the data has changed on its way");
    }
}

/// Sends a file of `FILE_MIB` MiB (64 where it is not set) over a TCP connection, and compares the
/// two ends by their SHA-256.
fn file_crosses(from: &Netns, to: &str, listening: &Netns, at: &str, net: &Net) {
    let mebibytes: u64 = env::var("FILE_MIB").map_or(64, |mib| mib.parse().unwrap());
    let _daemon = net.translate();
    let directory = Directory::new();
    let [sent, received] = ["sent", "received"].map(|name| directory.file(name));
    let random = io::Read::take(File::open("/dev/urandom").unwrap(), mebibytes << 20);
    io::copy(&mut { random }, &mut File::create(&sent).unwrap()).unwrap();

    let listener = listen(listening, at);
    let [mut sender, mut receiver] = connect(from, to, &listener);
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            io::copy(&mut File::open(&sent).unwrap(), &mut sender).unwrap();
            drop(sender);
        });
        io::copy(&mut receiver, &mut File::create(&received).unwrap()).unwrap();
    });
    let seconds = start.elapsed().as_secs_f64();
    let digest = sha256(&sent);
    assert_eq!(digest, sha256(&received));
    println!(
        "{mebibytes} MiB in {seconds:.1} s, {:.2} Gbit/s, SHA-256 at both ends {digest}",
        (mebibytes << 23) as f64 / seconds / 1e9
    );
}

fn sha256(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().unwrap();
    assert!(output.status.success(), "sha256sum {}", file.display());
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.split(' ').next().unwrap().to_owned()
}

/// Answers one GET, and says who asked.
fn serve_http(listener: &TcpListener, body: &[u8]) -> SocketAddr {
    let (mut stream, peer) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut lines = BufReader::new(&stream).lines();
    while lines.next().unwrap().unwrap() != "" {}
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    stream.write_all(body).unwrap();
    peer
}

fn every_size_from_client(net: &Net, fragmentation: Fragmentation, largest: usize) {
    let _daemon = net.translate();
    let receiver = udp_socket(&net.server, SERVER, 4000, Fragmentation::Allowed);
    let sender = udp_socket(&net.client, CLIENT, 4001, fragmentation);
    sender.connect((SERVER6, 4000)).unwrap();
    every_size(&sender, &receiver, largest);
}

fn every_size_from_server(net: &Net, fragmentation: Fragmentation, largest: usize) {
    let _daemon = net.translate();
    let receiver = udp_socket(&net.client, CLIENT, 4000, Fragmentation::Allowed);
    let sender = udp_socket(&net.server, SERVER, 4001, fragmentation);
    sender.connect((CLIENT4, 4000)).unwrap();
    every_size(&sender, &receiver, largest);
}

/// Sends 1 to 3000 octets. Up to `largest` they must arrive as they are, one after the other; above
/// that the sender must be refused with `EMSGSIZE`, and nothing may arrive.
fn every_size(sender: &UdpSocket, receiver: &UdpSocket, largest: usize) {
    let mut buffer = [0; 4096];
    for size in 1..=3000 {
        let data = pattern(size);
        if size > largest {
            wait_for("EMSGSIZE", || {
                let error = sender.send(&data).err()?;
                assert_eq!(
                    error.raw_os_error(),
                    Some(Errno::EMSGSIZE as i32),
                    "{size} octets: {error}"
                );
                Some(())
            });
            continue;
        }
        sender.send(&data).unwrap();
        let len = uninterrupted(|| receiver.recv(&mut buffer))
            .unwrap_or_else(|error| panic!("{size} octets: {error}"));
        assert!(
            buffer[..len] == data,
            "{size} octets: others arrived, {len} of them"
        );
    }
    receiver
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    assert!(
        uninterrupted(|| receiver.recv(&mut buffer)).is_err(),
        "more arrived than may"
    );
}
