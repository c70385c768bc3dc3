//! The TUN device and the daemon's life with it.

use std::{fs, path::Path};

use nix::sys::signal::Signal;

use crate::{
    harness::{
        CLIENT4, CONFIG, Daemon, Directory, Net, Netns, SERVER6, case, daemon, tayga, wait_for,
        xlatd_case,
    },
    packet::{DF, EXPERIMENT, ICMP, Ipv4, pattern},
    socket::{Capture, send4},
};

/// A device as `ip tuntap` makes it.
#[test]
fn attaches_to_a_device_of_ip() {
    case(|net| {
        net.xlat.ip("tuntap add dev nat64 mode tun");
        attaches(net);
    });
}

/// The kernel refuses to attach to a device with several queues as if it had one.
#[test]
fn attaches_to_a_multi_queue_device_of_ip() {
    case(|net| {
        net.xlat.ip("tuntap add dev nat64 mode tun multi_queue");
        attaches(net);
    });
}

/// A device that TAYGA has made.
#[test]
fn attaches_to_a_device_of_tayga() {
    case(|net| {
        let Some(tayga) = tayga() else { return };
        mktun(net, &tayga, "--mktun");
        attaches(net);
    });
}

/// `--mktun` makes a device that stays, `--rmtun` removes it.
#[test]
fn makes_and_removes_a_persistent_device() {
    case(|net| {
        mktun(net, &daemon(), "--mktun");
        assert!(net.xlat.has("nat64"));
        attaches(net);
        assert!(net.xlat.has("nat64"), "it stays when nobody is attached");
        mktun(net, &daemon(), "--rmtun");
        assert!(!net.xlat.has("nat64"));
    });
}

/// dev_alloc_name of Linux: `%d` in a name stands for the first number that is free, so each device
/// is a new one.
#[test]
fn makes_devices_with_a_number_of_the_kernel() {
    case(|net| {
        let config = CONFIG.replace("nat64", "nat%d");
        mktun_with(net, &daemon(), "--mktun", &config);
        mktun_with(net, &daemon(), "--mktun", &config);
        assert!(net.xlat.has("nat0") && net.xlat.has("nat1"));
        // There is nothing to remove by this name, and that is no error.
        mktun_with(net, &daemon(), "--rmtun", &config);
        assert!(net.xlat.has("nat0") && net.xlat.has("nat1") && !net.xlat.has("nat2"));
    });
}

/// The daemon uses such a device by the name that it has got, also in what it says. tayga looks for
/// `nat%d`, and stops.
#[test]
fn the_number_of_its_device_is_the_kernels() {
    xlatd_case(|net| {
        let config = CONFIG.replace("nat64", "nat%d");
        let made = mktun_with(net, &daemon(), "--mktun", &config);
        assert_eq!(made, "Created persistent tun device nat0\n");
        let routes = "tun-up yes\ntun-route 203.0.113.0/24\ntun-route 2001:db8:64::/96\n";
        let daemon = Daemon::start(&net.xlat, &format!("{config}{routes}"));
        wait_for("the device", || net.xlat.is_running("nat1").then_some(()));
        daemon.prints("route 2001:db8:64::/96 to nat1: done");
        crosses(net);
        assert!(!daemon.log().contains('%'), "{}", daemon.log());
        drop(daemon);
        assert!(net.xlat.has("nat0") && !net.xlat.has("nat1"));
    });
}

/// A device that does not exist comes with the daemon and goes with it.
#[test]
fn makes_a_device_for_itself() {
    case(|net| {
        let daemon = Daemon::start(&net.xlat, CONFIG);
        wait_for("the device", || net.xlat.has("nat64").then_some(()));
        net.route_to_device();
        net.wait_for_daemon();
        crosses(net);
        drop(daemon);
        assert!(!net.xlat.has("nat64"));
    });
}

/// The directives `tun-up`, `tun-ip` and `tun-route` make the device ready; nothing else needs to
/// be done.
#[test]
fn sets_the_device_up() {
    xlatd_case(|net| {
        let _daemon = Daemon::start(&net.xlat, &format!("{CONFIG}{SET_UP}"));
        net.wait_for_daemon();
        wait_for("the last route", || {
            net.xlat
                .run("ip -6 route")
                .contains("2001:db8:64::/96 dev nat64")
                .then_some(())
        });
        let addresses = net.xlat.run("ip -o address show dev nat64");
        assert!(addresses.contains(" 203.0.113.2/24 "), "{addresses}");
        crosses(net);
    });
}

/// What stands where a `tun-route` goes: the route, as ip(8) adds and shows it. tayga HEAD takes
/// the place of each of them, and starts. The 0.9.2 has no `tun-route`.
const BESIDE: [(&str, &str); 12] = [
    ("default via 198.51.100.2", "0.0.0.0/0"),
    ("unreachable default", "0.0.0.0/0"),
    ("blackhole default", "0.0.0.0/0"),
    (
        "default nexthop via 198.51.100.2 nexthop via 198.51.100.3",
        "0.0.0.0/0",
    ),
    ("203.0.113.0/24 via 198.51.100.2", "203.0.113.0/24"),
    ("prohibit 203.0.113.0/24", "203.0.113.0/24"),
    ("2001:db8:64::/96 via 2001:db8:60::2", "2001:db8:64::/96"),
    ("2001:db8:64::/96 dev gate6", "2001:db8:64::/96"),
    ("unreachable 2001:db8:64::/96", "2001:db8:64::/96"),
    ("blackhole 2001:db8:64::/96", "2001:db8:64::/96"),
    ("default via 2001:db8:60::2", "::/0"),
    ("unreachable ::/0", "::/0"),
];

/// Where a packet to an address of the destination goes.
fn device_to(ns: &Netns, destination: &str) -> String {
    let address = match destination {
        "0.0.0.0/0" => "9.9.9.9",
        "198.51.100.0/24" => "198.51.100.77",
        "203.0.113.0/24" => "203.0.113.9",
        "::/0" => "2001:db8:9::9",
        "2001:db8:64::/96" => "2001:db8:64::9",
        _ => panic!("{destination}"),
    };
    let output = ns.output(&format!("ip route get {address}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let device = printed.split_once(" dev ").map_or("", |(_, after)| after);
    device
        .split_whitespace()
        .next()
        .unwrap_or("none")
        .to_owned()
}

/// A `tun-route` takes the packets of a route that is there already. That stays, and is used again
/// when the device goes: nobody has to be left who could bring it back.
#[test]
fn a_route_goes_before_another_one() {
    xlatd_case(|net| {
        for (other, destination) in BESIDE {
            net.xlat.ip(&format!("route add {other}"));
            let (before, was) = (state(&net.xlat), device_to(&net.xlat, destination));
            let config = format!("{CONFIG}tun-up yes\ntun-route {destination}\n");
            let mut daemon = Daemon::start(&net.xlat, &config);
            daemon.prints(&format!("route {destination} to nat64: done"));
            assert_eq!(device_to(&net.xlat, destination), "nat64", "{other}");
            let warning = format!("warning: route {destination} to nat64: goes before the route ");
            assert!(daemon.log().contains(&warning), "{other}: {}", daemon.log());
            daemon.prints("Running as");
            daemon.signal(Signal::SIGTERM);
            assert_eq!(daemon.wait().code(), Some(0), "{other}");
            assert_eq!(device_to(&net.xlat, destination), was, "{other}");
            assert_eq!(state(&net.xlat), before, "{other}");
            // Killed, it leaves no more behind.
            let daemon = Daemon::start(&net.xlat, &config);
            daemon.prints(&format!("route {destination} to nat64: done"));
            drop(daemon);
            assert_eq!(state(&net.xlat), before, "{other}");
            let delete = other.replace("unreachable ", "").replace("blackhole ", "");
            let delete = delete.replace("prohibit ", "");
            net.xlat.ip(&format!("route delete {delete}"));
        }
    });
}

/// The route of an address of another device is one like others, and works again when the address
/// comes back.
#[test]
fn a_route_goes_before_a_connected_network() {
    xlatd_case(|net| {
        let before = state(&net.xlat);
        let config = format!("{CONFIG}tun-up yes\ntun-route 198.51.100.0/24\n");
        let daemon = Daemon::start(&net.xlat, &config);
        daemon.prints("goes before the route 198.51.100.0/24 dev gate4, which");
        daemon.prints("route 198.51.100.0/24 to nat64: done");
        assert_eq!(device_to(&net.xlat, "198.51.100.0/24"), "nat64");
        drop(daemon);
        assert_eq!(device_to(&net.xlat, "198.51.100.0/24"), "gate4");
        assert_eq!(state(&net.xlat), before);
    });
}

/// The network of the device's own address, and a route to it through it, are what `tun-route` asks
/// for.
#[test]
fn a_route_to_the_same_device_is_left_alone() {
    xlatd_case(|net| {
        net.xlat.ip("tuntap add dev nat64 mode tun
            link set nat64 up
            addr add 203.0.113.2/24 dev nat64
            route add 2001:db8:64::/96 dev nat64");
        let daemon = Daemon::start(
            &net.xlat,
            &format!("{CONFIG}tun-route 203.0.113.0/24\ntun-route 2001:db8:64::/96\n"),
        );
        for destination in ["203.0.113.0/24", "2001:db8:64::/96"] {
            daemon.prints(&format!("route {destination} to nat64: already done"));
            let family = if destination.contains(':') {
                "-6"
            } else {
                "-4"
            };
            let routes = net
                .xlat
                .run(&format!("ip {family} route show {destination}"));
            assert_eq!(routes.lines().count(), 1, "{routes}");
        }
    });
}

/// A device that stays keeps its routes, as with tayga, and the others stay behind them; they are
/// used again when it is removed.
#[test]
fn a_route_of_a_persistent_device_stays_before_another_one() {
    xlatd_case(|net| {
        net.xlat.ip("route add default via 198.51.100.2
            route add unreachable 2001:db8:64::/96");
        let before = state(&net.xlat);
        net.xlat.ip("tuntap add dev nat64 mode tun");
        let config =
            format!("{CONFIG}tun-up yes\ntun-route 0.0.0.0/0\ntun-route 2001:db8:64::/96\n");
        for already in [false, true] {
            let mut daemon = Daemon::start(&net.xlat, &config);
            daemon.prints("Running as");
            // A second start finds its routes, and adds none.
            let log = daemon.log();
            assert_eq!(
                log.matches("goes before the route").count(),
                if already { 0 } else { 2 },
                "{log}"
            );
            assert_eq!(
                log.matches("already done").count(),
                if already { 3 } else { 0 },
                "{log}"
            );
            daemon.signal(Signal::SIGTERM);
            assert_eq!(daemon.wait().code(), Some(0));
            assert_eq!(device_to(&net.xlat, "0.0.0.0/0"), "nat64");
            assert_eq!(device_to(&net.xlat, "2001:db8:64::/96"), "nat64");
        }
        net.xlat.ip("link delete nat64");
        assert_eq!(state(&net.xlat), before);
    });
}

/// An IPv6 route of a better metric, as that of a connected network, is still the one that is used:
/// the warning says so, and what it says to do helps.
#[test]
fn a_route_that_is_not_used_is_warned_of() {
    xlatd_case(|net| {
        let destination = "2001:db8:64::/96";
        let config = format!("{CONFIG}tun-up yes\ntun-route {destination}\n");
        for (at_1024, other) in [
            (false, "addr {} 2001:db8:64::1/96 dev gate6 nodad"),
            (true, "addr {} 2001:db8:64::1/96 dev gate6 nodad"),
            (false, "route {} 2001:db8:64::/96 dev gate6 metric 256"),
        ] {
            if at_1024 {
                net.xlat.ip(&format!("route add unreachable {destination}"));
            }
            net.xlat.ip(&other.replace("{}", "add"));
            let mut daemon = Daemon::start(&net.xlat, &config);
            daemon.prints("Running as");
            let ours = if at_1024 { 1023 } else { 1024 };
            let expected = format!(
                "warning: route {destination} to nat64: is not used, since the route {destination} \
                 dev gate6 metric 256 goes before it: delete that one, or give it a metric above \
                 {ours}\n"
            );
            let log = daemon.log();
            assert!(log.contains(&expected), "{log}");
            assert!(!log.contains("which is used again"), "{log}");
            assert_eq!(device_to(&net.xlat, destination), "gate6");
            net.xlat.ip(&other.replace("{}", "delete"));
            assert_eq!(device_to(&net.xlat, destination), "nat64");
            daemon.stop();
            net.xlat
                .output(&format!("ip -6 route flush exact {destination}"));
        }
    });
}

/// Three translators of one prefix: the last to start is used, and each says which other one it
/// takes the packets from, or leaves them to.
#[test]
fn a_route_goes_before_the_best_of_others() {
    xlatd_case(|net| {
        let destination = "2001:db8:64::/96";
        let start = |device: &str| {
            let config = CONFIG.replace("nat64", device);
            let config = format!("{config}tun-up yes\ntun-route {destination}\n");
            let daemon = Daemon::start(&net.xlat, &config);
            daemon.prints("Running as");
            daemon
        };
        let before = |daemon: &Daemon, other: &str| {
            daemon.prints(&format!(
                "goes before the route {destination} dev {other}, which is used again"
            ));
        };
        let _first = start("nata");
        let mut second = start("natb");
        before(&second, "nata");
        let third = start("natc");
        before(&third, "natb metric 1023");
        assert_eq!(device_to(&net.xlat, destination), "natc");
        second.stop();
        let second = start("natb");
        second.prints(&format!(
            "is not used, since the route {destination} dev natc metric 1022 goes before it: \
             delete that one, or give it a metric above 1023"
        ));
        assert_eq!(device_to(&net.xlat, destination), "natc");
    });
}

/// A device that stays keeps its routes; another one may have been put before them since. The next
/// start goes before that; it leaves a route that somebody else has added to the device.
#[test]
fn a_route_of_a_persistent_device_goes_to_the_front_again() {
    xlatd_case(|net| {
        net.xlat.ip("tuntap add dev nat64 mode tun
            link set nat64 up
            route add 203.0.113.0/24 via 198.51.100.2
            route prepend 203.0.113.0/24 dev nat64 metric 0
            route add 0.0.0.0/0 dev nat64 metric 100");
        let config = format!("{CONFIG}tun-route 203.0.113.0/24\ntun-route 0.0.0.0/0\n");
        // The first start adds a route of its own, later ones move it.
        for others in ["198.51.100.3", "198.51.100.4", "198.51.100.5"] {
            net.xlat.ip(&format!(
                "route prepend 203.0.113.0/24 via {others}
                route prepend default via {others}"
            ));
            let mut daemon = Daemon::start(&net.xlat, &config);
            for destination in ["203.0.113.0/24", "0.0.0.0/0"] {
                daemon.prints(&format!(
                    "route {destination} to nat64: goes before the route {destination} via \
                     {others} dev gate4, which is used again without it"
                ));
                daemon.prints(&format!("route {destination} to nat64: done"));
                assert_eq!(device_to(&net.xlat, destination), "nat64");
            }
            daemon.prints("Running as");
            daemon.stop();
            // One that was added by hand, one of ours.
            let routes = net.xlat.run("ip route show 203.0.113.0/24 dev nat64");
            assert_eq!(routes.lines().count(), 2, "{routes}");
        }
    });
}

/// A start that fails after such a route: what is there is what was, also on a device that stays.
#[test]
fn a_route_before_another_one_is_undone() {
    xlatd_case(|net| {
        net.xlat.ip("route add default via 198.51.100.2
            route add 2001:db8:64::/96 via 2001:db8:60::2
            tuntap add dev nat64 mode tun");
        let before = state(&net.xlat);
        let config =
            format!("{CONFIG}tun-up yes\ntun-route 0.0.0.0/0\ntun-route 2001:db8:64::/96\n");
        // The process id is written last, and there is no such directory.
        let mut daemon = Daemon::start_with("--pidfile /nowhere/pid", &net.xlat, &config);
        assert_eq!(daemon.wait().code(), Some(1));
        let log = daemon.log();
        assert_eq!(log.matches("goes before the route").count(), 2, "{log}");
        assert_eq!(state(&net.xlat), before, "{log}");
    });
}

/// The kernel takes the routes of a device that is set down: they go before the others again, or
/// the command that has them do so is named, and works.
#[test]
fn a_route_comes_back_before_another_one() {
    xlatd_case(|net| {
        net.xlat.ip("route add unreachable 203.0.113.0/24
            route add unreachable 2001:db8:64::/96
            route add unreachable 2001:db8:64::/96 metric 1023");
        for kept in [true, false] {
            let keep = if kept { "yes" } else { "no" };
            let daemon = Daemon::start(
                &net.xlat,
                &format!(
                    "{CONFIG}tun-up yes\ntun-route 203.0.113.0/24\ntun-route 2001:db8:64::/96\n\
                     keep-net-admin {keep}\n"
                ),
            );
            daemon.prints("Running as");
            net.xlat.ip("link set nat64 down\nlink set nat64 up");
            if !kept {
                let commands = [
                    "ip route prepend 203.0.113.0/24 dev nat64",
                    "ip route add 2001:db8:64::/96 dev nat64 metric 1022",
                ];
                for command in commands {
                    daemon.prints(&format!("{command} (with"));
                    net.xlat.run(command);
                }
            }
            for destination in ["203.0.113.0/24", "2001:db8:64::/96"] {
                wait_for(destination, || {
                    (device_to(&net.xlat, destination) == "nat64").then_some(())
                });
            }
        }
    });
}

/// `tun-queue-length`; and where a later step fails, the device that stays has the queue that it
/// had.
#[test]
fn sets_the_length_of_the_queue() {
    xlatd_case(|net| {
        net.xlat
            .ip("tuntap add dev nat64 mode tun\nlink set nat64 txqueuelen 77");
        let length = || {
            let link = net.xlat.run("ip link show nat64");
            let (_, after) = link.split_once(" qlen ").unwrap();
            after.split_whitespace().next().unwrap().to_owned()
        };
        let config = format!("{CONFIG}tun-queue-length 1234\n");
        let daemon = Daemon::start(&net.xlat, &config);
        net.route_to_device();
        net.wait_for_daemon();
        assert_eq!(length(), "1234");
        drop(daemon);

        net.xlat
            .ip("link set nat64 down\nlink set nat64 txqueuelen 77");
        let config = format!("{config}tun-route 198.18.0.0/15\n"); // which a device that is down cannot get
        let mut daemon = Daemon::start(&net.xlat, &config);
        assert_eq!(daemon.wait().code(), Some(1));
        let log = daemon.log();
        assert!(
            log.contains("set the queue length of nat64 to 1234: done"),
            "{log}"
        );
        assert_eq!(length(), "77", "{log}");
    });
}

/// What was done before a step that fails is undone: here the first address, and "up", on a device
/// that stays.
#[test]
fn setup_that_fails_leaves_nothing_behind() {
    xlatd_case(|net| {
        net.xlat.sysctl("ipv6/conf/default/disable_ipv6", "1");
        net.xlat.ip("tuntap add dev nat64 mode tun");
        let before = state(&net.xlat);
        let config =
            format!("{CONFIG}tun-up yes\ntun-ip 203.0.113.2/24\ntun-ip 2001:db8:64::1/96\n");
        let mut daemon = Daemon::start(&net.xlat, &config);
        assert_eq!(daemon.wait().code(), Some(1));
        let log = daemon.log();
        assert!(
            log.contains("2001:db8:64::1/96") && log.contains("nat64"),
            "{log}"
        );
        assert_eq!(state(&net.xlat), before, "{log}");
    });
}

/// A device that is deleted ends the daemon, with one line that says so.
#[test]
fn device_that_vanishes_ends_the_daemon() {
    case(|net| {
        let mut daemon = net.translate();
        crosses(net);
        net.xlat.ip("link delete nat64");
        assert_eq!(daemon.wait().code(), Some(1));
        let log = daemon.log();
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| line.starts_with("xlatd: "))
            .collect();
        assert!(lines.len() == 1 && lines[0].contains("nat64"), "{log}");
    });
}

/// A device that is set down and up again goes on working.
#[test]
fn device_may_go_down_and_up() {
    case(|net| {
        let _daemon = net.translate();
        crosses(net);
        net.xlat.ip("link set nat64 down");
        net.route_to_device();
        net.wait_for_daemon();
        crosses(net);
    });
}

/// RFC 7915 section 4.1 (X46-13): the MTU that packets are measured by is the device's, also after
/// it has changed.
#[test]
fn mtu_of_the_device_is_followed() {
    case(|net| {
        let _daemon = net.translate();
        let at_server = Capture::start(&net.server);
        crosses(net);
        for mtu in [1400u16, 1300, 1500] {
            net.xlat.ip(&format!("link set nat64 mtu {mtu}"));
            wait_for("an ICMP error that names the new MTU", || {
                // One octet more than IPv6 has room for, and less than what the kernel itself would
                // refuse.
                let mut packet = Ipv4::new(
                    "192.0.2.2",
                    CLIENT4,
                    EXPERIMENT,
                    pattern(usize::from(mtu) - 39),
                );
                packet.fragment = DF;
                send4(&net.server, &packet);
                // Where the new MTU is not known yet, the packet passes, and the client has no use
                // for the protocol: 3/2.
                let error = at_server.ipv4("an ICMP error", |packet| {
                    packet.protocol == ICMP && packet.payload[0] == 3
                });
                let [high, low] = (mtu - 20).to_be_bytes();
                (error.payload[1] == 4 && error.payload[6..8] == [high, low]).then_some(())
            });
        }
    });
}

/// A device with one queue has one user at a time: a daemon that is started while another ends
/// takes over from it.
#[test]
fn busy_device_is_waited_for() {
    xlatd_case(|net| {
        let mut first = translates_by_one_queue(net);
        let second = Daemon::start(&net.xlat, CONFIG);
        // It sleeps between attempts, and sleeps for nothing else.
        wait_for("the second daemon to have found the device busy", || {
            second.sleeps().then_some(())
        });
        first.stop();
        net.wait_for_daemon();
        crosses(net);
    });
}

/// A device that stays busy is an error that says so.
#[test]
fn device_that_stays_busy_is_an_error() {
    xlatd_case(|net| {
        let _first = translates_by_one_queue(net);
        let mut second = Daemon::start(&net.xlat, CONFIG);
        assert_eq!(second.wait().code(), Some(1));
        let log = second.log();
        assert!(log.contains("nat64") && log.contains("busy"), "{log}");
        crosses(net);
    });
}

/// INT, TERM and QUIT end the daemon in order.
#[test]
fn signals_end_the_daemon() {
    case(|net| ends_by_signals(net, &[]));
}

/// ... also where its parent has them ignored, as clatd has.
#[test]
fn ignored_signals_end_the_daemon() {
    case(|net| {
        let ignoring = ["sh", "-c", "trap '' INT TERM QUIT; exec \"$0\" \"$@\""];
        ends_by_signals(net, &ignoring);
    });
}

/// `--pidfile` names the process while packets can flow, and leaves nothing behind.
#[test]
fn pidfile_is_there_while_the_daemon_is() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let path = directory.file("pid");
        let config = format!("{CONFIG}data-dir {}\n", directory.file("").display());
        let launcher = ["sh", "-c", "exec \"$0\" \"$@\" --pidfile pid"];
        let mut daemon = Daemon::start_by(&launcher, &net.xlat, &config);
        let pid = wait_for("the pidfile", || {
            fs::read_to_string(&path)
                .ok()
                .filter(|pid| pid.ends_with('\n'))
        });
        assert_eq!(pid.trim(), daemon.pid().to_string());
        daemon.stop();
        assert!(!path.exists());
    });
}

/// A configuration with mistakes ends in exit status 1 and a message for each, before anything is
/// done to the system.
#[test]
fn broken_configurations_leave_nothing_behind() {
    xlatd_case(|net| {
        let before = state(&net.xlat);
        let mut files = 0;
        for entry in fs::read_dir("tests/broken").unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "conf") {
                continue;
            }
            files += 1;
            let path = path.to_str().unwrap();
            let output = net
                .xlat
                .output(&format!("{} -n -c {path}", daemon().display()));
            let printed =
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert_eq!(output.status.code(), Some(1), "{path}: {printed}");
            let expected = fs::read_to_string(Path::new(path).with_extension("expected")).unwrap();
            let prefix = format!("xlatd: {path}:");
            let messages = printed
                .lines()
                .filter_map(|line| line.strip_prefix(&prefix));
            let messages: Vec<&str> = messages.map(str::trim_start).collect();
            assert_eq!(messages, expected.lines().collect::<Vec<_>>(), "{path}");
            assert_eq!(state(&net.xlat), before, "{path}");
        }
        assert!(files >= 20, "{files} broken configurations");
    });
}

/// `check` says what a configuration means: without privilege, and without a trace in the system.
#[test]
fn check_needs_no_privilege() {
    xlatd_case(|net| {
        let before = state(&net.xlat);
        let directory = Directory::new();
        let program = directory.program_for_all(&daemon());
        let unprivileged = format!(
            "setpriv --bounding-set=-all --inh-caps=-all {}",
            program.display()
        );
        let output = net
            .xlat
            .output(&format!("{unprivileged} -n -c conf/tayga.conf"));
        assert_eq!(output.status.code(), Some(1), "to translate does need it");
        let printed = net
            .xlat
            .run(&format!("{unprivileged} check -c conf/tayga.conf"));
        assert!(printed.contains("attach to nat64"), "{printed}");
        let output = net
            .xlat
            .output(&format!("{unprivileged} check -c tests/broken/many.conf"));
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(state(&net.xlat), before);
    });
}

const SET_UP: &str = "\
tun-up yes
tun-ip 203.0.113.2/24
tun-route 2001:db8:ffff::1/128
tun-route 2001:db8:64::/96
";

/// Starts the daemon by a launcher, and ends it by each of the signals.
fn ends_by_signals(net: &Net, launcher: &[&str]) {
    net.xlat.ip("tuntap add dev nat64 mode tun");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT] {
        let mut daemon = Daemon::start_by(launcher, &net.xlat, CONFIG);
        net.route_to_device();
        net.wait_for_daemon();
        crosses(net);
        daemon.signal(signal);
        assert_eq!(daemon.wait().code(), Some(0), "{signal}: {}", daemon.log());
        net.xlat.ip("link set nat64 down");
    }
}

/// Starts the daemon on a device that no other one can attach to.
fn translates_by_one_queue(net: &Net) -> Daemon {
    net.xlat.ip("tuntap add dev nat64 mode tun one_queue");
    net.route_to_device();
    let daemon = Daemon::start(&net.xlat, CONFIG);
    net.wait_for_daemon();
    daemon
}

/// Starts the daemon on the device that is there, and sees whether packets cross.
fn attaches(net: &Net) {
    net.route_to_device();
    let _daemon = Daemon::start(&net.xlat, CONFIG);
    net.wait_for_daemon();
    crosses(net);
}

/// Packets cross from either side, and back. The first ones may be lost while the device changes
/// hands.
fn crosses(net: &Net) {
    net.client
        .run(&format!("ping -n -c 1 -i 0.1 -w 15 {SERVER6}"));
    net.server
        .run(&format!("ping -n -c 1 -i 0.1 -w 15 {CLIENT4}"));
}

fn mktun(net: &Net, program: &Path, option: &str) {
    mktun_with(net, program, option, CONFIG);
}

/// Returns what it printed.
fn mktun_with(net: &Net, program: &Path, option: &str, config: &str) -> String {
    let directory = Directory::new();
    let path = directory.file("tayga.conf");
    fs::write(&path, config).unwrap();
    net.xlat.run(&format!(
        "{} -c {} {option}",
        program.display(),
        path.display()
    ))
}

/// Everything that a configuration can change: devices, addresses, routes.
fn state(ns: &Netns) -> String {
    [
        "-br link",
        "-o address",
        "-o -4 route show table all",
        "-o -6 route show table all",
    ]
    .map(|what| ns.run(&format!("ip {what}")))
    .concat()
}
