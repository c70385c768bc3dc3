//! In the place of tayga: by its name, for clatd, and in the middle of a connection.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::PathBuf,
};

use nix::sys::signal::Signal;

use crate::harness::{
    DEADLINE, Daemon, Directory, Net, SERVER, SERVER6, daemon, send, tayga, wait_for, xlatd_case,
};

/// The program by the name `tayga`.
fn as_tayga(directory: &Directory) -> PathBuf {
    let path = directory.file("tayga");
    symlink(daemon(), &path).unwrap();
    path
}

/// tayga's `--help` is an error, and goes where errors go.
#[test]
fn help_is_an_error_for_tayga() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let name = as_tayga(&directory).display().to_string();
        let help = net.xlat.output(&format!("{name} --help"));
        assert_eq!(help.status.code(), Some(1));
        assert_eq!(help.stdout, b"");
        assert!(String::from_utf8_lossy(&help.stderr).contains("--mktun"));
        let wrong = net.xlat.output(&format!("{name} --nonsense"));
        assert_eq!(wrong.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&wrong.stderr).starts_with("tayga: "));
        let xlatd = net.xlat.output(&format!("{} --help", daemon().display()));
        assert_eq!(xlatd.status.code(), Some(0));
        assert_eq!(xlatd.stdout, help.stderr);
    });
}

/// What tayga 0.9.2 refuses, in the words of tayga.conf(5) under CAVEATS, is taken.
#[test]
fn what_tayga_refuses_is_taken() {
    const TOO_LARGE: &str = "IPv4 and IPv6 subnet must be of the same size";
    const RESERVED: &str = "Cannot use reserved address 169.254.0.";
    const OVERLAPS: &str = "overlaps with earlier definition";
    const LINK_LOCAL: &str = "addresses in 169.254.0.0/16 for map , dynamic-pool and ipv4-addr";
    let manual = include_str!("../../man/tayga.conf.5").replace("\n.Ic ", "\n");
    let (_, caveats) = manual.split_once(".Sh CAVEATS").unwrap();
    let caveats = caveats.replace('\n', " ");
    xlatd_case(|net| {
        let Some(tayga) = tayga() else { return };
        let directory = Directory::new();
        let path = directory.file("tayga.conf");
        let command = format!("{} -d -c {}", tayga.display(), path.display());
        for (words, changed, message) in [
            (
                "leaves more bits than the IPv4 prefix",
                "map 203.0.113.0/24 2001:db8::/64",
                TOO_LARGE,
            ),
            (
                "with IPv6 prefixes within each other",
                "map 203.0.113.0/24 2001:db8::/120\nmap 198.51.100.7 2001:db8::7",
                OVERLAPS,
            ),
            (
                "a map within prefix ,",
                "prefix 2001:db8:64::/96\nmap 203.0.113.7 2001:db8:64::7",
                OVERLAPS,
            ),
            (LINK_LOCAL, "map 169.254.0.1 2001:db8::1", RESERVED),
            (LINK_LOCAL, "map 169.254.0.0/24 2001:db8::/120", RESERVED),
            (LINK_LOCAL, "dynamic-pool 169.254.0.0/24", RESERVED),
            (LINK_LOCAL, "ipv4-addr 169.254.0.1", RESERVED),
            (
                "%d in the name of tun-device",
                "tun-device nat%d",
                "Unable to query MTU, aborting: No such device",
            ),
        ] {
            let mut config = format!("{changed}\n");
            for line in [
                "tun-device nat64",
                "ipv4-addr 192.0.2.254",
                "ipv6-addr 2001:db8:1::1",
                "prefix 2001:db8:64::/96",
            ] {
                let (name, _) = line.split_once(' ').unwrap();
                if !changed.contains(name) {
                    config += &format!("{line}\n");
                }
            }
            fs::write(&path, &config).unwrap();
            let theirs = net.xlat.output(&command);
            assert_eq!(theirs.status.code(), Some(1), "{config}");
            let log = String::from_utf8_lossy(&theirs.stdout);
            assert!(log.contains(message), "{config}{log}");
            let mut ours = Daemon::start(&net.xlat, &config);
            ours.prints("Running as");
            ours.stop();
            assert!(caveats.contains(words), "{words}");
        }
    });
}

/// A mistake on the command line names the help of the command that was called, and a misspelt key
/// the nearest one.
#[test]
fn mistakes_name_the_help_of_their_command() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let tayga = as_tayga(&directory).display().to_string();
        let clatd = directory.file("clatd");
        symlink(daemon(), &clatd).unwrap();
        let clatd = clatd.display().to_string();
        let xlatd = daemon().display().to_string();
        let no_key = "there is no key \"cmd-nf\" (did you mean cmd-nft?)";
        let no_option = "invalid option '--nonsense'";
        for (command, message) in [
            (
                format!("{xlatd} clat cmd-nf=x"),
                format!("xlatd: {no_key}: see xlatd clat --help"),
            ),
            (
                format!("{clatd} cmd-nf=x"),
                format!("clatd: {no_key}: see clatd --help"),
            ),
            (
                format!("{xlatd} clat --nonsense"),
                format!("xlatd: {no_option}: see xlatd clat --help"),
            ),
            (
                format!("{clatd} --nonsense"),
                format!("clatd: {no_option}: see clatd --help"),
            ),
            (
                format!("{xlatd} --nonsense"),
                format!("xlatd: {no_option}: see xlatd --help"),
            ),
            (
                format!("{xlatd} check --nonsense"),
                format!("xlatd: {no_option}: see xlatd --help"),
            ),
            (
                format!("{tayga} --nonsense"),
                format!("tayga: {no_option}: see tayga --help"),
            ),
            (
                format!("{xlatd} clat clat-v4-addr=x"),
                "xlatd: clat-v4-addr: expected an IPv4 address, found \"x\": see xlatd clat --help"
                    .to_owned(),
            ),
        ] {
            let output = net.xlat.output(&command);
            assert_eq!(output.status.code(), Some(1), "{command}");
            let printed = String::from_utf8_lossy(&output.stderr);
            assert_eq!(printed.trim_end(), message, "{command}");
        }
    });
}

/// What clatd 2.x runs, in its order and by its name: a temporary file with four lines, `--mktun`
/// and `--nodetach` with an empty argument, signals that were ignored, `--rmtun`. IPv4 works in
/// between.
#[test]
fn clatd_makes_its_host_a_clat() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let program = as_tayga(&directory);
        let conf = directory.file("clatd.tmp");
        // The client is the host; the other translator is its PLAT.
        let plat = Daemon::start(
            &net.xlat,
            "tun-device nat64\nipv4-addr 203.0.113.1\nipv6-addr 2001:db8:ffff::1\n\
             prefix 2001:db8:64::/96\nmap 203.0.113.46 2001:db8:6::46\n\
             tun-up yes\ntun-route 2001:db8:64::/96\ntun-route 203.0.113.0/24\n",
        );
        plat.prints("Running as");
        fs::write(
            &conf,
            "tun-device clat\nprefix 2001:db8:64::/96\nipv4-addr 192.0.0.2\nmap 192.0.0.1 2001:db8:6::46\n",
        )
        .unwrap();
        let script = directory.file("clatd");
        fs::write(
            &script,
            r#"
            set -e
            "$1" --config "$2" --mktun ""
            ip link set up dev clat
            ip -4 address add 192.0.0.1 dev clat
            ip -6 route add 2001:db8:6::46 dev clat
            ip -4 route add default dev clat mtu 1260
            trap '' INT TERM
            "$1" --config "$2" --nodetach "" &
            daemon=$!
            echo $daemon >"$3"
            trap - INT TERM
            wait $daemon
            "$1" --config "$2" --rmtun
            echo removed
            "#,
        )
        .unwrap();
        net.client.sysctl("ipv6/conf/all/forwarding", "1");
        net.client.sysctl("ipv4/conf/all/forwarding", "1");
        net.client.sysctl("ipv6/conf/all/proxy_ndp", "1");
        net.client.ip("neigh add proxy 2001:db8:6::46 dev gate6");
        let pid = directory.file("pid");
        let paths = [&program, &conf, &pid].map(|path| path.display().to_string());
        let launch = format!("sh {} {}", script.display(), paths.join(" "));
        let output = std::thread::scope(|scope| {
            let clatd = scope.spawn(|| net.client.output(&launch));
            wait_for("the daemon", || net.client.is_running("clat").then_some(()));
            let ping = net
                .client
                .output(&format!("ping -n -c 1 -i 0.2 -w 15 {SERVER}"));
            let pid = fs::read_to_string(&pid).unwrap();
            send(Signal::SIGTERM, &pid);
            let output = clatd.join().unwrap();
            assert!(ping.status.success(), "{ping:?} {output:?} {}", plat.log());
            output
        });
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("removed"));
        assert!(!net.client.has("clat"));
    });
}

fn exchange(client: &mut TcpStream, server: &mut TcpStream, text: &[u8]) {
    let mut buffer = vec![0; text.len()];
    client.write_all(text).unwrap();
    server.read_exact(&mut buffer).unwrap();
    assert_eq!(buffer, text);
    server.write_all(text).unwrap();
    client.read_exact(&mut buffer).unwrap();
    assert_eq!(buffer, text);
}

/// tayga is stopped and xlatd started with the same configuration and data-dir: a connection by a
/// leased address goes on.
#[test]
fn open_connection_outlives_the_change_from_tayga() {
    xlatd_case(|net: &Net| {
        let Some(tayga) = tayga() else { return };
        let directory = Directory::new();
        let config = format!(
            "tun-device nat64\nipv4-addr 203.0.113.1\nipv6-addr 2001:db8:ffff::1\nprefix 2001:db8:64::/96\n\
             dynamic-pool 203.0.113.0/24\ndata-dir {}\n",
            directory.file("").display()
        );
        net.xlat.ip("tuntap add dev nat64 mode tun one_queue");
        net.route_to_device();
        let mut before = Daemon::start_program(&tayga, &net.xlat, &config);
        net.wait_for_daemon();
        let listener = net
            .server
            .inside(|| TcpListener::bind((SERVER, 80)))
            .unwrap();
        let mut client = net
            .client
            .inside(|| TcpStream::connect((SERVER6, 80)))
            .unwrap();
        let (mut server, peer) = listener.accept().unwrap();
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
        }
        assert!(peer.to_string().starts_with("203.0.113."), "{peer}");
        exchange(&mut client, &mut server, b"by tayga");
        before.signal(Signal::SIGTERM);
        before.wait();

        let after = Daemon::start(&net.xlat, &config);
        net.wait_for_daemon();
        exchange(&mut client, &mut server, b"by xlatd");
        exchange(&mut server, &mut client, b"and the other way round");
        assert!(after.log().contains("Loaded 1 leases"), "{}", after.log());
    });
}
