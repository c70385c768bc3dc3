//! Two gateways that announce the same prefixes, by the files of conf/failover.
//!
//! ```text
//!                            +--- gateway 1
//!  client ------- router ---lan
//!  IPv6 only       |         +--- gateway 2
//!                server
//!                IPv4 only
//! ```
//!
//! The router is BIRD, and spreads flows over both gateways. The lan is a bridge: the router does
//! not see that a gateway has lost its link.

use std::{
    env, fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    forward::listen,
    harness::{
        DEADLINE, Daemon, Directory, Netns, daemon, skip, uninterrupted, wait_for, without_offload,
        write_script,
    },
};

const SERVER: &str = "198.51.100.2";
const SERVER6: &str = "2001:db8:64::198.51.100.2";
/// Clients with a `map` in the example: of their own, and of a network.
const CLIENTS: [&str; 4] = [
    "2001:db8:6::10",
    "2001:db8:6::11",
    "2001:db8:6::c0:1",
    "2001:db8:6::c0:2",
];
const CONNECTIONS: usize = 8;

/// The interval of pings, 50 a second.
const INTERVAL: Duration = Duration::from_millis(20);
/// The pings that may be lost where a gateway stops without a word: those of a second.
const SECOND: usize = 50;

/// kill -9: the kernel removes the device, and the gateway withdraws at once.
#[test]
fn bird_withdraws_what_a_killed_translator_served() {
    with_bird(|net| killed(net, false));
}

/// The same, on a persistent device, which loses its carrier alone.
#[test]
fn bird_withdraws_what_had_a_persistent_device() {
    with_bird(|net| killed(net, true));
}

/// Stop and start lose no packet: the gateway translates until nothing comes any more.
#[test]
fn bird_moves_packets_before_a_stop() {
    with_bird(stopped);
}

/// A translator that does not answer has its prefixes withdrawn, and announced when it does.
#[test]
fn bird_withdraws_when_the_health_check_fails() {
    with_bird(hangs);
}

/// A gateway that loses its link says nothing: the router misses it by BFD.
#[test]
fn bird_misses_a_dead_gateway_by_bfd() {
    with_bird(dies);
}

#[test]
#[ignore = "with FRR, which scripts/failover unpacks"]
fn frr_withdraws_what_a_killed_translator_served() {
    with_frr(|net| killed(net, false));
}

#[test]
#[ignore = "with FRR, which scripts/failover unpacks"]
fn frr_moves_packets_before_a_stop() {
    with_frr(stopped);
}

#[test]
#[ignore = "with FRR, which scripts/failover unpacks"]
fn frr_withdraws_when_the_health_check_fails() {
    with_frr(hangs);
}

#[test]
#[ignore = "with FRR, which scripts/failover unpacks"]
fn frr_misses_a_dead_gateway_by_bfd() {
    with_frr(dies);
}

fn killed(net: &mut FailoverNet, persistent: bool) {
    if persistent {
        for gateway in &net.gateways {
            gateway.ns.ip("tuntap add dev nat64 mode tun");
        }
    }
    let victim = net.start();
    // The routing daemon sees it by itself.
    let announce = net.gateways[victim].announce.as_ref().unwrap();
    announce.signal(Signal::SIGSTOP);
    let lost = net.lost_while(12 * SECOND, |net| {
        net.gateways[victim].translator().signal(Signal::SIGKILL);
        net.wait_for_paths(1);
    });
    println!("kill -9 (device loss): {lost}");
    assert!(lost.pings <= at_most(SECOND), "{lost}");
}

fn stopped(net: &mut FailoverNet) {
    let victim = net.start();
    let lost = net.lost_while(14 * SECOND, |net| {
        net.gateways[victim].stop();
        net.gateways[victim].start();
        net.wait_for_paths(2);
    });
    println!("stop and start: {lost}");
    assert_eq!([lost.pings, lost.dense], [0, 0], "{lost}");
}

fn hangs(net: &mut FailoverNet) {
    let victim = net.start();
    let lost = net.lost_while(12 * SECOND, |net| {
        net.gateways[victim].translator().signal(Signal::SIGSTOP);
        net.wait_for_paths(1);
    });
    println!("a translator that hangs (health check): {lost}");
    // The check gives it 3 s, and comes a second after the last one.
    assert!(
        lost.pings > 0 && lost.pings <= at_most(6 * SECOND),
        "{lost}"
    );
    net.gateways[victim].translator().signal(Signal::SIGCONT);
    net.wait_for_paths(2);
}

fn dies(net: &mut FailoverNet) {
    let victim = net.start();
    let lost = net.lost_while(12 * SECOND, |net| {
        net.lan.ip(&format!("link set {} down", GATEWAYS[victim]));
        net.wait_for_paths(1);
    });
    println!("a gateway that dies (BFD): {lost}");
    assert!(lost.pings <= at_most(SECOND), "{lost}");
}

/// The pings that may be lost: so many on a quiet machine, as `FAILOVER_QUIET` says that this is. A
/// machine that is busy with other tests shows that the others arrive, not when.
fn at_most(pings: usize) -> usize {
    if env::var_os("FAILOVER_QUIET").is_some() {
        pings
    } else {
        10 * SECOND
    }
}

/// What one event has cost.
#[derive(Debug)]
struct Lost {
    /// The pings that were lost of those that lost most.
    pings: usize,
    /// The same of all.
    all: Vec<usize>,
    sent: usize,
    /// Those that a ping of up to 500 a second lost, from the client whose requests are moved.
    dense: usize,
    /// The longest time in which a connection had no answer.
    pause: Duration,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pause = self.pause.as_millis();
        write!(
            f,
            "lost {:?} of {} pings, 50 a second, and {} of up to 500 a second; {CONNECTIONS} TCP \
             connections went on, the longest pause was {pause} ms",
            self.all, self.sent, self.dense
        )
    }
}

/// Starts a routing daemon so that it acts in time on a machine that is busy with other tests: BFD
/// would miss gateways that are there, and a withdrawal come late.
const PROMPT: &str = "chrt --fifo 1";

/// The devices of the lan, and the last octet of the gateways' addresses.
const GATEWAYS: [&str; 2] = ["gateway1", "gateway2"];
const HOSTS: [&str; 2] = ["11", "12"];

#[derive(Debug)]
struct FailoverNet {
    client: Netns,
    router: Netns,
    lan: Netns,
    server: Netns,
    gateways: [Gateway; 2],
    _bird: (Daemon, Directory),
}

fn with_bird(body: impl FnOnce(&mut FailoverNet)) {
    let Some(bird) = program("BIRD", "/usr/sbin/bird") else {
        return;
    };
    if can_run() {
        body(&mut FailoverNet::new(&bird, &Routing::Bird(&bird)));
    }
}

/// `FRR` is the directory in which Debian's package is unpacked.
fn with_frr(body: impl FnOnce(&mut FailoverNet)) {
    let (Some(bird), Some(frr)) = (
        program("BIRD", "/usr/sbin/bird"),
        program("FRR", "/nowhere"),
    ) else {
        return;
    };
    if can_run() {
        body(&mut FailoverNet::new(&bird, &Routing::Frr(&frr)));
    }
}

fn can_run() -> bool {
    if daemon().file_name().is_some_and(|name| name == "tayga") {
        println!("this case is for xlatd alone");
        return false;
    }
    let made = Netns::new().and_then(|_| fs::File::open("/dev/net/tun"));
    if let Err(error) = &made {
        skip(&format!(
            "no network namespace with a TUN device can be made: {error}"
        ));
    }
    made.is_ok()
}

/// A program of others, by a variable of the environment.
fn program(variable: &str, default: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable).unwrap_or_else(|| default.into()));
    if !path.exists() {
        skip(&format!("{variable}: there is no {}", path.display()));
        return None;
    }
    Some(path)
}

/// A file of conf/failover.
fn example(name: &str) -> PathBuf {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/failover");
    conf.join(name)
}

impl FailoverNet {
    fn new(bird: &Path, routing: &Routing) -> Self {
        let all: [Netns; 6] = std::array::from_fn(|_| Netns::new().unwrap());
        for ns in &all {
            for (file, value) in [
                ("ipv6/conf/all/accept_dad", "0"),
                ("ipv6/conf/default/accept_dad", "0"),
                ("ipv4/conf/all/rp_filter", "0"),
                ("ipv4/conf/default/rp_filter", "0"),
                ("ipv4/ip_forward", "1"),
                ("ipv6/conf/all/forwarding", "1"),
                // As the example has it.
                ("ipv4/fib_multipath_hash_policy", "1"),
                ("ipv6/fib_multipath_hash_policy", "1"),
            ] {
                ns.sysctl(file, value);
            }
            ns.ip("link set lo up");
        }
        let [client, router, lan, server, first, second] = all;
        let peer = |device: &str, name: &str, ns: &Netns| {
            let path = ns.path();
            format!("link add {device} type veth peer name {name} netns {path}\n")
        };
        router.ip(&(peer("client", "eth0", &client)
            + &peer("server", "eth0", &server)
            + &peer("lan", "router", &lan)));
        lan.ip("link add bridge type bridge
            link set bridge up
            link set router master bridge up");
        for ((ns, device), host) in [&first, &second].into_iter().zip(GATEWAYS).zip(HOSTS) {
            lan.ip(&peer(device, "eth0", ns));
            lan.ip(&format!("link set {device} master bridge up"));
            ns.ip(&format!(
                "link set eth0 up
                addr add 2001:db8:60::{host}/64 dev eth0 nodad
                addr add 192.0.2.{host}/24 dev eth0
                route add ::/0 via 2001:db8:60::1
                route add default via 192.0.2.1"
            ));
        }
        client.ip("link set eth0 up
            route add ::/0 via 2001:db8:6::1 onlink dev eth0");
        for address in CLIENTS {
            client.ip(&format!("addr add {address}/64 dev eth0 nodad"));
        }
        router.ip("link set client up
            link set server up
            link set lan up
            addr add 2001:db8:6::1/64 dev client nodad
            addr add 198.51.100.1/24 dev server
            addr add 2001:db8:60::1/64 dev lan nodad
            addr add 192.0.2.1/24 dev lan");
        server.ip("link set eth0 up
            addr add 198.51.100.2/24 dev eth0
            route add default via 198.51.100.1");
        let config = fs::read_to_string(example("bird-router.conf")).unwrap();
        let directory = Directory::new();
        let daemon = start_bird(bird, &router, &directory, &config);
        let gateways = [(first, HOSTS[0]), (second, HOSTS[1])]
            .map(|(ns, host)| Gateway::new(ns, host, routing));
        Self {
            client,
            router,
            lan,
            server,
            gateways,
            _bird: (daemon, directory),
        }
    }

    /// Starts both gateways. Returns the one that has the requests of the first client.
    fn start(&mut self) -> usize {
        for gateway in &mut self.gateways {
            gateway.start();
        }
        self.wait_for_paths(2);
        let ping = format!("ping -n -q -c 20 -i 0.01 -W 10 -I {} {SERVER6}", CLIENTS[0]);
        let before = self.requests();
        self.client.run(&ping);
        let after = self.requests();
        usize::from(after[1] - before[1] > after[0] - before[0])
    }

    /// The packets from IPv6 to IPv4 that each gateway has translated.
    fn requests(&self) -> [u64; 2] {
        [&self.gateways[0], &self.gateways[1]].map(|gateway| {
            let bin = gateway.directory.file("bin/xlatd");
            let status = gateway
                .ns
                .run(&format!("{} status --json nat64", bin.display()));
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            status["packets"]["six_to_four"]["packets"]
                .as_u64()
                .unwrap()
        })
    }

    /// Waits until the router has so many next hops for each family.
    fn wait_for_paths(&self, count: usize) {
        wait_for(&format!("{count} paths"), || {
            let paths = |command| self.router.run(command).matches(" via ").count();
            (paths("ip -6 route show 2001:db8:64::/96") == count
                && paths("ip -4 route show 203.0.113.0/24") == count)
                .then_some(())
        });
    }

    /// Pings from each client and TCP connections, while something happens.
    fn lost_while(&mut self, sent: usize, event: impl FnOnce(&mut Self)) -> Lost {
        let listener = listen(&self.server, SERVER);
        let port = listener.local_addr().unwrap().port();
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                self.client
                    .inside(|| TcpStream::connect((SERVER6, port)))
                    .unwrap()
            })
            .collect();
        let end = AtomicBool::new(false);
        let (pings, dense, pause) = thread::scope(|scope| {
            scope.spawn(|| echo(&listener));
            let clients: Vec<_> = connections
                .into_iter()
                .map(|connection| {
                    let end = &end;
                    scope.spawn(move || longest_pause(connection, end))
                })
                .collect();
            let ended = SetOnDrop(&end);
            let pings = CLIENTS.map(|client| ping(&self.client, client, sent, INTERVAL));
            let dense = ping(&self.client, CLIENTS[0], 10 * sent, INTERVAL / 10);
            // Some are answered before it.
            thread::sleep(25 * INTERVAL);
            event(self);
            let pings = pings.map(Ping::lost);
            let dense = dense.lost();
            drop(ended);
            let pauses = clients.into_iter().map(|client| client.join().unwrap());
            (pings, dense, pauses.max().unwrap())
        });
        Lost {
            pings: *pings.iter().max().unwrap(),
            all: pings.to_vec(),
            sent,
            dense,
            pause,
        }
    }
}

/// Sets a flag, also where a test fails: nobody waits for threads that wait for it.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A ping(8) that runs. It ends once it has sent all, and has waited for the last answers.
#[derive(Debug)]
struct Ping(Option<Child>);

fn ping(ns: &Netns, source: &str, count: usize, interval: Duration) -> Ping {
    let mut ping = Command::new("setpriv");
    ping.args(["--pdeathsig", "KILL", "--", "ping", "-n", "-q", "-W", "2"]);
    ping.args(["-i", &interval.as_secs_f64().to_string()]);
    ping.args(["-c", &count.to_string(), "-I", source, SERVER6]);
    ping.stdin(Stdio::null()).stdout(Stdio::piped());
    Ping(Some(ns.inside(|| ping.spawn()).unwrap()))
}

impl Ping {
    /// The number of pings without an answer, at the end.
    fn lost(mut self) -> usize {
        let output = self.0.take().unwrap().wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let summary = text
            .lines()
            .find(|line| line.contains(" received"))
            .unwrap();
        let mut numbers = summary.split(", ").map(|part| {
            let number = part.split(' ').next().unwrap();
            number.parse::<usize>()
        });
        let [sent, received] = [(); 2].map(|()| numbers.next().unwrap().unwrap());
        sent - received
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Answers each octet of all connections, until they end.
fn echo(listener: &TcpListener) {
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            let (mut stream, _) = listener.accept().unwrap();
            scope.spawn(move || {
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                let mut octet = [0];
                while matches!(uninterrupted(|| stream.read(&mut octet)), Ok(1))
                    && stream.write_all(&octet).is_ok()
                {}
            });
        }
    });
}

/// Sends octets and waits for their echoes, until the end. Returns the longest time that one took.
fn longest_pause(mut connection: TcpStream, end: &AtomicBool) -> Duration {
    connection.set_nodelay(true).unwrap();
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut longest = Duration::ZERO;
    for octet in (0..=u8::MAX).cycle() {
        if end.load(Ordering::Relaxed) {
            break;
        }
        let sent = Instant::now();
        connection.write_all(&[octet]).unwrap();
        let mut answer = [!octet];
        connection.read_exact(&mut answer).expect("an echo");
        assert_eq!(answer, [octet]);
        longest = longest.max(sent.elapsed());
        thread::sleep(INTERVAL);
    }
    longest
}

/// The routing daemon of the gateways.
#[derive(Debug)]
enum Routing<'a> {
    Bird(&'a Path),
    /// The directory of its package.
    Frr(&'a Path),
}

/// A gateway: a routing daemon, and, once it is started, xlatd and xlatd-announce.
#[derive(Debug)]
struct Gateway {
    ns: Netns,
    /// Has bin/ with what xlatd-announce runs.
    directory: Directory,
    routing: &'static str,
    _routing: Daemon,
    translator: Option<Daemon>,
    announce: Option<Daemon>,
}

impl Gateway {
    fn new(ns: Netns, host: &str, routing: &Routing) -> Self {
        let directory = Directory::new();
        fs::create_dir(directory.file("bin")).unwrap();
        let here = directory.file("");
        write_script(
            &directory.file("bin/xlatd"),
            &format!(
                "export RUNTIME_DIRECTORY={}\nexec {} \"$@\"",
                here.display(),
                daemon().display()
            ),
        );
        let (name, running) = match routing {
            Routing::Bird(bird) => ("bird", gateway_with_bird(bird, &ns, &directory, host)),
            Routing::Frr(frr) => ("frr", gateway_with_frr(frr, &ns, &directory, host)),
        };
        Self {
            ns,
            directory,
            routing: name,
            _routing: running,
            translator: None,
            announce: None,
        }
    }

    /// Starts the translator, and what announces it, as systemd does.
    fn start(&mut self) {
        let bin = self.directory.file("bin");
        let mut config = fs::read_to_string(example("tayga.conf")).unwrap();
        if without_offload() {
            config += "offload no\n";
        }
        let path = self.directory.file("tayga.conf");
        fs::write(&path, config).unwrap();
        let (bin, path) = (bin.display(), path.display());
        let command = format!("{bin}/xlatd -n -c {path}");
        self.translator = Some(Daemon::start_command(&self.ns, &command));
        let command = format!(
            "env PATH={bin}:{} {} {} nat64",
            env::var("PATH").unwrap(),
            example("xlatd-announce").display(),
            self.routing
        );
        self.announce = Some(Daemon::start_command(&self.ns, &command));
    }

    fn translator(&self) -> &Daemon {
        self.translator.as_ref().unwrap()
    }

    /// Stops in the order that the unit asks for.
    fn stop(&mut self) {
        self.announce.take().unwrap().stop();
        self.translator.take().unwrap().stop();
    }
}

/// Starts BIRD in the directory.
fn start_bird(bird: &Path, ns: &Netns, directory: &Directory, config: &str) -> Daemon {
    let here = directory.file("");
    let (bird, here) = (bird.display(), here.display());
    fs::write(directory.file("bird.conf"), config).unwrap();
    let command =
        format!("{PROMPT} {bird} -f -c {here}bird.conf -s {here}bird.ctl -P {here}bird.pid");
    Daemon::start_command(ns, &command)
}

/// The configuration of the first gateway, as that of another one: its own address is there in
/// each family, and as its router id.
fn for_host(config: &str, host: &str) -> String {
    let config = config.replace("192.0.2.11", &format!("192.0.2.{host}"));
    config.replace("2001:db8:60::11", &format!("2001:db8:60::{host}"))
}

fn gateway_with_bird(bird: &Path, ns: &Netns, directory: &Directory, host: &str) -> Daemon {
    let birdc = bird.with_file_name("birdc");
    let socket = directory.file("bird.ctl");
    write_script(
        &directory.file("bin/birdc"),
        &format!("exec {} -s {} \"$@\"", birdc.display(), socket.display()),
    );
    let config = fs::read_to_string(example("bird.conf")).unwrap();
    start_bird(bird, ns, directory, &for_host(&config, host))
}

/// FRR's programs need the group of their package and its file of PAM: they see an /etc with both.
fn gateway_with_frr(frr: &Path, ns: &Netns, directory: &Directory, host: &str) -> Daemon {
    let config = fs::read_to_string(example("frr.conf")).unwrap();
    fs::write(directory.file("frr.conf"), for_host(&config, host)).unwrap();
    fs::write(
        directory.file("vtysh.conf"),
        "service integrated-vtysh-config\n",
    )
    .unwrap();
    let here = directory.file("");
    let here = here.display();
    let frr = frr.display();
    write_script(
        &directory.file("bin/vtysh"),
        &format!(
            "exec nsenter --mount=/proc/$(cat {here}inside)/ns/mnt env \
             LD_LIBRARY_PATH=$(echo {frr}/usr/lib/*/frr) \
             {frr}/usr/bin/vtysh --vty_socket {here} --config_dir {here} \"$@\""
        ),
    );
    write_script(
        &directory.file("start"),
        &format!(
            "set -e
            export LD_LIBRARY_PATH=$(echo {frr}/usr/lib/*/frr)
            mkdir -p {here}etc/pam.d
            cp {frr}/etc/pam.d/frr {here}etc/pam.d
            {{ cat /etc/group; echo frrvty:x:65533:root; }} >{here}etc/group
            mount -t overlay -o lowerdir={here}etc:/etc overlay /etc
            mount -t tmpfs tmpfs /var/tmp
            options='-u root -g root --vty_socket {here} -z {here}zserv --log stdout'
            {PROMPT} {frr}/usr/lib/frr/zebra $options -i {here}zebra.pid &
            until [ -S {here}zserv ]; do sleep 0.1; done
            {PROMPT} {frr}/usr/lib/frr/bgpd $options -i {here}bgpd.pid &
            {PROMPT} {frr}/usr/lib/frr/bfdd $options -i {here}bfdd.pid --bfdctl {here}bfdd.sock &
            until [ -S {here}bgpd.vty ] && [ -S {here}bfdd.vty ]; do sleep 0.1; done
            {frr}/usr/bin/vtysh --vty_socket {here} --config_dir {here} -b
            touch {here}ready
            wait"
        ),
    );
    let daemon = Daemon::start_command(
        ns,
        &format!("unshare --mount --pid --fork --kill-child=KILL {here}start"),
    );
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
    let inside = wait_for("FRR", || {
        let children = fs::read_to_string(&children).unwrap();
        children.split_whitespace().next().map(str::to_owned)
    });
    fs::write(directory.file("inside"), inside).unwrap();
    // systemd starts xlatd-announce after that, too.
    wait_for("FRR to read its configuration", || {
        directory.file("ready").exists().then_some(())
    });
    daemon
}
