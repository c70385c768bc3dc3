//! Discovery of the NAT64 prefix by DNS (RFC 7050): name servers of all kinds, and which are asked.

use std::{
    env, fs,
    io::{self, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::{self, Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    clat::{ClatNet, advertisement, clat_case},
    harness::{Daemon, Directory, Netns, skip, uninterrupted, wait_for},
};

const VIA_OWN: &str = "IPv4 via eth0, NAT64 prefix 2001:db8:64::/96 (DNS64)";
const VIA_OTHER: &str = "IPv4 via eth0, NAT64 prefix 2001:db8:46::/96 (DNS64)";
/// How long a thread waits for something before it looks whether it is to end.
const PAUSE: Duration = Duration::from_millis(50);

/// What a name server does with a query that comes by UDP: the datagrams that it sends back.
type ByUdp = fn(query: &[u8]) -> Vec<Vec<u8>>;
/// What it does with a connection, of which the query has been read.
type ByTcp = fn(query: &[u8], stream: &mut TcpStream, done: &AtomicBool) -> io::Result<()>;

/// A name server at an address.
struct Server {
    done: Arc<AtomicBool>,
    /// Number of queries that it has answered, or done something else with.
    asked: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    fn start(ns: &Netns, address: &str, by_udp: ByUdp, by_tcp: ByTcp) -> Self {
        let address = SocketAddr::new(address.parse::<IpAddr>().unwrap(), 53);
        // A program that another test is just starting may still have the port of one before.
        let (udp, tcp) = wait_for("port 53", || {
            ns.inside(|| {
                Some((
                    UdpSocket::bind(address).ok()?,
                    TcpListener::bind(address).ok()?,
                ))
            })
        });
        udp.set_read_timeout(Some(PAUSE)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicUsize::new(0));
        let (stop, count) = (Arc::clone(&done), Arc::clone(&asked));
        let datagrams = thread::spawn(move || {
            let mut buffer = [0; 512];
            while !stop.load(Ordering::Relaxed) {
                let Ok((len, from)) = uninterrupted(|| udp.recv_from(&mut buffer)) else {
                    continue;
                };
                for answer in by_udp(&buffer[..len]) {
                    let _ = udp.send_to(&answer, from);
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let stop = Arc::clone(&done);
        let connections = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match tcp.accept() {
                    Ok((mut stream, _)) => {
                        let _ = serve(&mut stream, by_tcp, &stop);
                    }
                    Err(_) => thread::sleep(PAUSE / 10),
                }
            }
        });
        Self {
            done,
            asked,
            threads: vec![datagrams, connections],
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Until it has been asked so many times more.
    fn wait_for_queries(&self, count: usize) {
        let before = self.asked();
        wait_for("queries", || (self.asked() >= before + count).then_some(()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Reads the query, behind its length (RFC 1035 section 4.2.2).
fn serve(stream: &mut TcpStream, by_tcp: ByTcp, done: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut query = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut query)?;
    by_tcp(&query, stream, done)
}

/// A record behind the question: of which name, of which type, and with which data.
struct Record<'a>(&'a [u8], u8, &'a [u8]);

const AAAA: u8 = 28;
const CNAME: u8 = 5;
/// The name of the question, by a pointer to it.
const ASKED: &[u8] = &[0xc0, 12];
const ALIAS: &[u8] = b"\x05nat64\x07example\x00";

/// The answer with these flags, and records behind the question (RFC 1035 section 4.1).
fn answer(query: &[u8], flags: u16, records: &[Record<'_>]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2..4].copy_from_slice(&flags.to_be_bytes());
    answer[7] = records.len() as u8;
    for Record(name, kind, data) in records {
        answer.extend(*name);
        answer.extend([0, *kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
        answer.extend(*data);
    }
    answer
}

const OK: u16 = 0x8180;
const TRUNCATED: u16 = OK | 0x0200;

/// By TCP only: what is asked by UDP is said to be too long.
fn truncated(query: &[u8]) -> Vec<Vec<u8>> {
    vec![answer(query, TRUNCATED, &[])]
}

fn no_dns64(query: &[u8]) -> Vec<Vec<u8>> {
    vec![answer(query, OK, &[])]
}

fn dns64(query: &[u8]) -> Vec<Vec<u8>> {
    let address: Ipv6Addr = "2001:db8:64::192.0.0.170".parse().unwrap();
    vec![answer(query, OK, &[Record(ASKED, AAAA, &address.octets())])]
}

/// With the prefix of the other NAT64.
fn other_dns64(query: &[u8]) -> Vec<Vec<u8>> {
    let address: Ipv6Addr = "2001:db8:46::192.0.0.170".parse().unwrap();
    vec![answer(query, OK, &[Record(ASKED, AAAA, &address.octets())])]
}

fn no_tcp(_: &[u8], _: &mut TcpStream, _: &AtomicBool) -> io::Result<()> {
    Ok(())
}

fn behind_length(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// An advertisement of a name server (RFC 8106), for so many seconds.
fn name_server(address: &str, lifetime: u32) -> Vec<u8> {
    let mut message = advertisement(1800, &[]);
    message.extend([25, 3, 0, 0]);
    message.extend(lifetime.to_be_bytes());
    message.extend(address.parse::<Ipv6Addr>().unwrap().octets());
    message
}

/// Starts a CLAT with a directory /mnt of its own, in which a script of sh(1) may do what it likes.
fn start_after(net: &ClatNet, script: &str, config: &str) -> Daemon {
    let script = format!("set -e\nmount -t tmpfs none /mnt\n{script}\nexec \"$@\"");
    let launcher = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    let daemon = Daemon::start_clat_by(&launcher, &net.host, &net.runtime, config);
    daemon.prints("Waiting for");
    daemon
}

/// With a resolv.conf(5) that names this server.
fn resolv_conf(server: &str) -> String {
    format!(
        "echo nameserver {server} >/mnt/resolv.conf
        mount --bind /mnt/resolv.conf /etc/resolv.conf"
    )
}

/// RFC 7766 section 5: a truncated answer is asked for by TCP, in which it may come in pieces. RFC
/// 1034 section 3.6.2: an alias whose addresses are not in the answer is asked for.
#[test]
fn truncated_answers_and_aliases_are_asked_for() {
    fn by_tcp(query: &[u8], stream: &mut TcpStream, _: &AtomicBool) -> io::Result<()> {
        let is_alias = query[12..].starts_with(ALIAS);
        let message = if is_alias {
            dns64(query).remove(0)
        } else {
            answer(query, OK, &[Record(ASKED, CNAME, ALIAS)])
        };
        for octet in behind_length(&message) {
            stream.write_all(&[octet])?;
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
    clat_case(|net| {
        let _dns = Server::start(&net.router, "2001:db8:6::1", truncated, by_tcp);
        let daemon = net.start("");
        net.advertise_with(&name_server("2001:db8:6::1", 600));
        daemon.prints(VIA_OWN);
        net.wait_for_ipv4();
    });
}

/// The last server of a list counts like the first one, whatever the others do.
#[test]
fn every_server_of_a_list_is_asked() {
    fn garbage(query: &[u8]) -> Vec<Vec<u8>> {
        let mut other_id = dns64(query).remove(0);
        other_id[0] ^= 1;
        vec![Vec::new(), vec![0xff; 1000], query.to_vec(), other_id]
    }
    fn silent(_: &[u8]) -> Vec<Vec<u8>> {
        Vec::new()
    }
    fn alias_of_itself(query: &[u8]) -> Vec<Vec<u8>> {
        vec![answer(query, OK, &[Record(ASKED, CNAME, ASKED)])]
    }
    fn one_more_alias(query: &[u8]) -> Vec<Vec<u8>> {
        let mut name = query[12..query.len() - 4].to_vec();
        name[1] = name[1].wrapping_add(1);
        vec![answer(query, OK, &[Record(ASKED, CNAME, &name)])]
    }
    /// Octets of a message of 65,535 octets, as long as somebody reads them.
    fn trickle(_: &[u8], stream: &mut TcpStream, done: &AtomicBool) -> io::Result<()> {
        stream.write_all(&[0xff, 0xff])?;
        while !done.load(Ordering::Relaxed) {
            stream.write_all(&[0])?;
            thread::sleep(PAUSE);
        }
        Ok(())
    }
    fn flood(_: &[u8], stream: &mut TcpStream, done: &AtomicBool) -> io::Result<()> {
        while !done.load(Ordering::Relaxed) {
            stream.write_all(&[0xff; 4096])?;
        }
        Ok(())
    }
    const KINDS: &[(ByUdp, ByTcp)] = &[
        (no_dns64, no_tcp),
        (garbage, no_tcp),
        (silent, no_tcp),
        (alias_of_itself, no_tcp),
        (one_more_alias, no_tcp),
        (truncated, no_tcp),
        (truncated, trickle),
        (truncated, flood),
    ];
    clat_case(|net| {
        let address = |at| format!("2001:db8:6::53:{at}");
        let start = |at, (by_udp, by_tcp)| {
            let address = address(at);
            net.router
                .ip(&format!("addr add {address}/64 dev host nodad"));
            Server::start(&net.router, &address, by_udp, by_tcp)
        };
        let servers = KINDS.iter().enumerate().map(|(at, kind)| start(at, *kind));
        let servers: Vec<_> = servers.collect();
        let last = servers.len();
        let list: Vec<_> = (0..=last).map(address).collect();
        let daemon = net.start(&format!("dns64-servers={}\n", list.join(",")));
        net.advertise(&[]);
        daemon.prints("Waiting for a NAT64 prefix");
        // In vain so far, but it does not end there.
        wait_for("queries of all", || {
            servers.iter().all(|one| one.asked() >= 2).then_some(())
        });
        assert!(!daemon.log().contains("DNS64)"), "{}", daemon.log());
        let _dns = start(last, (dns64, no_tcp));
        daemon.prints(VIA_OWN);
        net.wait_for_ipv4();
    });
}

/// A VPN that is on has its own name server in resolv.conf(5), which knows no DNS64, or another
/// one: a prefix that the network's own server gave stays, and IPv4 goes on.
#[test]
fn resolver_of_a_vpn_ends_nothing() {
    clat_case(|net| {
        net.router.ip("addr add 2001:db8:6::2/64 dev host nodad
            addr add 2001:db8:6::3/64 dev host nodad");
        let _own = Server::start(&net.router, "2001:db8:6::2", dns64, no_tcp);
        for of_vpn in [no_dns64 as ByUdp, other_dns64] {
            let vpn = Server::start(&net.router, "2001:db8:6::3", of_vpn, no_tcp);
            let daemon = start_after(net, &resolv_conf("2001:db8:6::3"), "");
            net.advertise_with(&name_server("2001:db8:6::2", 600));
            daemon.prints(VIA_OWN);
            // The routers do not name it any more.
            net.advertise_with(&name_server("2001:db8:6::2", 0));
            let before = daemon.log();
            wait_for("a query", || {
                daemon.signal(Signal::SIGHUP); // the first ones may come before the advertisement
                thread::sleep(PAUSE);
                (vpn.asked() > 0).then_some(())
            });
            vpn.wait_for_queries(2); // the second one begins when the first one is over
            net.wait_for_ipv4();
            let log = daemon.log();
            let after = log.strip_prefix(&before).unwrap();
            assert!(!after.contains("Waiting for"), "{log}");
            assert!(!after.contains("IPv4 via"), "{log}");
        }
    });
}

/// systemd writes down which servers a link has: they are the network's own, before those of
/// resolv.conf(5). In another network namespace than systemd's the files are about other links.
#[test]
fn servers_of_the_link_are_asked() {
    let systemds = "$$".to_owned();
    let other = process::id().to_string();
    for (state, line) in [
        ("netif/links", "DNS=fe80::53%eth9 2001:db8:6::2#dns.example"),
        ("resolve/netif", "SERVERS=[2001:db8:6::2]:53%eth0"),
    ] {
        for (namespace, expected) in [(&systemds, VIA_OTHER), (&other, VIA_OWN)] {
            clat_case(|net| {
                net.router.ip("addr add 2001:db8:6::2/64 dev host nodad
                    addr add 2001:db8:6::3/64 dev host nodad");
                let _of_link = Server::start(&net.router, "2001:db8:6::2", other_dns64, no_tcp);
                let _other = Server::start(&net.router, "2001:db8:6::3", dns64, no_tcp);
                let script = format!(
                    "mount -t sysfs none /sys
                    mkdir -p /mnt/systemd/{state}
                    echo '{line}' >/mnt/systemd/{state}/$(cat /sys/class/net/eth0/ifindex)
                    {}
                    mount --bind /mnt /run
                    mount --bind /proc/{namespace}/ns /proc/1/ns",
                    resolv_conf("2001:db8:6::3")
                );
                let daemon = start_after(net, &script, "");
                net.advertise(&[]);
                daemon.prints(expected);
                net.wait_for_ipv4();
            });
        }
    }
}

/// Queries leave by the uplink, also where the routes of a VPN lead everything elsewhere: a rule
/// with a table (wg-quick), and routes that are more specific than the default one (OpenVPN).
#[test]
fn queries_leave_by_the_uplink() {
    fn by_tcp(query: &[u8], stream: &mut TcpStream, _: &AtomicBool) -> io::Result<()> {
        stream.write_all(&behind_length(&dns64(query)[0]))
    }
    clat_case(|net| {
        net.router.ip("addr add 2001:db8:53::53/128 dev lo nodad");
        net.host.ip("link add vpn type veth peer name other
            link set vpn up
            link set other up
            addr add fd00::2/64 dev vpn nodad
            route add 2000::/3 dev vpn
            route add default dev vpn table 51820
            rule add not fwmark 51820 lookup 51820 pref 30000");
        let _dns = Server::start(&net.router, "2001:db8:53::53", truncated, by_tcp);
        let daemon = net.start("");
        net.advertise_with(&name_server("2001:db8:53::53", 600));
        daemon.prints(VIA_OWN);
        drop(daemon);
    });
}

/// A DNS64 as it is used: BIND, with aliases that make the answer too long for UDP.
#[test]
fn bind_is_asked() {
    let Some(named) = named() else { return };
    clat_case(|net| {
        let _named = Named::start(&named, &net.router);
        let daemon = net.start("");
        net.advertise_with(&name_server("2001:db8:6::1", 600));
        daemon.prints(VIA_OWN);
        net.wait_for_ipv4();
    });
}

/// BIND's program.
fn named() -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os("NAMED").unwrap_or_else(|| "/usr/sbin/named".into()));
    if !path.exists() {
        skip(&format!("there is no {}", path.display()));
        return None;
    }
    Some(path)
}

/// BIND on the router, with a root zone of its own.
struct Named(Child, Directory);

impl Named {
    fn start(program: &PathBuf, router: &Netns) -> Self {
        let directory = Directory::new();
        let at = directory.file("").display().to_string();
        let config = format!(
            "options {{
                directory \"{at}\"; managed-keys-directory \"{at}\"; pid-file none;
                session-keyfile none; listen-on {{ none; }}; listen-on-v6 {{ 2001:db8:6::1; }};
                allow-query {{ any; }}; recursion yes; forwarders {{}};
                empty-zones-enable no; ipv4only-enable no; dnssec-validation no;
                dns64 2001:db8:64::/96 {{ clients {{ any; }}; }};
            }};
            controls {{}};
            zone \".\" {{ type primary; file \"{at}zone\"; }};\n"
        );
        fs::write(directory.file("named.conf"), config).unwrap();
        let long = |letter: &str| vec![letter.repeat(63); 3].join(".");
        let [a, b, c] = ["a", "b", "c"].map(long);
        let zone = format!(
            "$TTL 60\n@ SOA a. a. 1 60 60 60 60\n@ NS a.\na AAAA 2001:db8:6::1\n\
             ipv4only.arpa. CNAME {a}.\n{a}. CNAME {b}.\n{b}. CNAME {c}.\n\
             {c}. A 192.0.0.170\n{c}. A 192.0.0.171\n"
        );
        fs::write(directory.file("zone"), zone).unwrap();
        let log = fs::File::create(directory.file("log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command.args(["-g", "-n", "1", "-c"]);
        command.arg(directory.file("named.conf"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = router.inside(|| command.spawn()).unwrap();
        let named = Self(child, directory);
        wait_for("BIND", || named.log().contains("running\n").then_some(()));
        named
    }

    fn log(&self) -> String {
        fs::read_to_string(self.1.file("log")).unwrap()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        if thread::panicking() {
            println!("BIND printed:\n{}", self.log());
        }
    }
}
