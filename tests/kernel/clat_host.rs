//! A CLAT and its host: what it sets up, what others do to it, and what it leaves behind.

use std::{fs, net::Ipv6Addr, os::unix::fs::symlink, path::PathBuf, thread, time::Duration};

use nix::{sys::signal::Signal, unistd::chown};

use crate::{
    clat::{
        ClatNet, FORWARD, NameServer, PREFIX, SERVER, address_behind, advertisement,
        any_address_behind, clat_case, filter, with_each_way,
    },
    harness::{self, Daemon, Directory, Netns, wait_for, write_script},
    privilege::AS_NOBODY,
};

/// A program that a test writes, by a line of sh(1).
pub(crate) struct Program {
    path: PathBuf,
    _directory: Directory,
}

impl Program {
    pub(crate) fn new(line: &str) -> Self {
        let directory = Directory::new();
        let path = directory.file("program");
        let program = Self {
            path,
            _directory: directory,
        };
        program.becomes(line);
        program
    }

    /// Another one, at once.
    pub(crate) fn becomes(&self, line: &str) {
        let new = self.path.with_extension("new");
        write_script(&new, line);
        fs::rename(&new, &self.path).unwrap();
    }

    pub(crate) fn path(&self) -> std::path::Display<'_> {
        self.path.display()
    }
}

/// What others delete comes back within 2 s: rule, routes, address, the table of nftables; and what
/// they set.
#[test]
fn what_others_delete_comes_back() {
    with_each_way(|net, config| {
        let daemon = net.start_up(config);
        let behind = address_behind(net);
        let route = match config {
            "" => format!("blackhole {behind} table local"),
            _ => format!("{behind} dev clat table 49575"),
        };
        let delete_route = format!("ip -6 route delete {route}");
        for (delete, is_there) in [
            ("ip rule delete from 192.0.0.1", "ip rule"),
            ("ip route delete default metric 2048", "ip route"),
            (
                "ip route delete default table 49575",
                "ip route show table 49575",
            ),
            (
                "ip route delete unreachable default table 49575",
                "ip route show table 49575",
            ),
            (&*delete_route, "ip -6 route show table all"),
            (
                "ip addr delete 192.0.0.1/32 dev clat",
                "ip -4 address show dev clat",
            ),
            ("ip link set clat mtu 1300", "ip link show dev clat"),
            ("nft flush ruleset", "nft --stateless list ruleset"),
        ] {
            // Rules of the same priority are in the order in which they were added.
            let state = || {
                let state = filter(&net.host.run(is_there));
                let mut lines: Vec<_> = state.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            let before = state();
            let repaired = || daemon.log().matches("Repaired after a change").count();
            let repaired_before = repaired();
            net.host.run(delete);
            wait_for(delete, || {
                (repaired() > repaired_before && state() == before).then_some(())
            });
        }
        net.wait_for_ipv4();
    });
}

/// The uplink goes, and another one comes under its name, as with a modem that is plugged in again.
#[test]
fn the_uplink_is_another_one_of_the_same_name() {
    with_each_way(|net, config| {
        let daemon = net.start_up(config);
        net.host.ip("link delete eth0");
        daemon.prints("Waiting for an uplink: no IPv6 default route");
        // Nothing is left that could wake it up all the time.
        let before = daemon.cpu_time();
        thread::sleep(Duration::from_secs(1));
        let used = daemon.cpu_time() - before;
        assert!(used < Duration::from_millis(200), "{used:?}");
        let path = net.host.path();
        net.router.ip(&format!(
            "link add host type veth peer name eth0 netns {path}
            link set host up
            addr add 2001:db8:6::1/64 dev host nodad"
        ));
        net.host.ip("link set eth0 up");
        net.wait_for_link();
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
    });
}

/// Somebody sets the TUN device down, and the kernel takes its routes away.
#[test]
fn the_device_is_set_down() {
    with_each_way(|net, config| {
        let _daemon = net.start_up(config);
        let before = net.state();
        net.host.ip("link set clat down");
        net.wait_for_ipv4();
        wait_for("all of it", || (net.state() == before).then_some(()));
    });
}

/// Before Linux 6.17 the kernel cannot forward by device, only as a whole: each device stays a
/// host's or a router's nevertheless, other uplinks keep what routers told them, and what comes
/// later is a host's.
#[test]
fn an_older_kernel_forwards_as_a_whole() {
    let body = |net: &ClatNet, config: &str| {
        net.host.ip("link add eth1 type veth peer name far
            link set far up
            link set eth1 up
            link add br0 type veth peer name port
            link set br0 up");
        net.host.sysctl("ipv6/conf/br0/forwarding", "1");
        // As if a router had said so.
        let of_a_router = |device| {
            net.host.ip(&format!(
                "route add ::/0 via fe80::1 dev {device} proto ra metric 2000 expires 600"
            ));
        };
        of_a_router("eth1");
        net.advertise(&[]);
        net.wait_for_ipv6();
        let before = net.state();
        let mut daemon = Daemon::start_clat_by(&OLD_KERNEL, &net.host, &net.runtime, config);
        daemon.prints("Waiting for a NAT64 prefix");
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
        let setting = |name: &str| net.host.run(&format!("cat /proc/sys/net/ipv6/conf/{name}"));
        assert_eq!(setting("all/forwarding"), "1\n");
        net.host.ip("link add later type veth peer name port2");
        for (device, forwards) in [("eth0", 0), ("eth1", 0), ("br0", 1), ("later", 0)] {
            assert_eq!(
                setting(&format!("{device}/forwarding")),
                format!("{forwards}\n")
            );
            assert_eq!(setting(&format!("{device}/accept_ra")), "1\n", "{device}");
        }
        net.host.ip("link delete later");
        assert_eq!(net.host.run("ip -6 route show default").lines().count(), 2);
        daemon.stop();
        assert_eq!(net.state(), before, "{}", daemon.log());

        // Somebody else makes a router of the host, as Docker does: it stays one.
        let mut daemon = Daemon::start_clat_by(&OLD_KERNEL, &net.host, &net.runtime, config);
        daemon.prints("Waiting for a NAT64 prefix");
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
        net.host.sysctl("ipv6/conf/eth1/forwarding", "1");
        daemon.stop();
        assert_eq!(setting("all/forwarding"), "1\n");
        assert_eq!(setting("eth0/forwarding"), "0\n");
        assert!(
            daemon.log().contains("another program has changed it"),
            "{}",
            daemon.log()
        );
    };
    for config in [FORWARD, "clat-v6-addr=shared\n"] {
        clat_case(|net| body(net, config));
    }
}

/// Two instances, of which one is killed, starts again, and ends first: what both need stays, until
/// the other one ends. On an older kernel, too.
#[test]
fn what_two_instances_need_stays_until_both_end() {
    for (launcher, way) in [(&[][..], ""), (&[], FORWARD), (&OLD_KERNEL, FORWARD)] {
        clat_case(|net| {
            net.advertise(&[]);
            net.wait_for_ipv6();
            let before = net.state();
            let start = |config| {
                let config = format!("{way}{config}");
                let daemon = Daemon::start_clat_by(launcher, &net.host, &net.runtime, &config);
                daemon.prints("Waiting for a NAT64 prefix");
                net.advertise(&[(PREFIX, 600)]);
                daemon.prints("IPv4 via eth0");
                daemon
            };
            let mut one = start("");
            let mut other = start("clat-dev=clat2\n");
            net.wait_for_ipv4_by("clat");
            net.wait_for_ipv4_by("clat2");
            one.signal(Signal::SIGKILL);
            one.wait();
            net.wait_for_ipv4_by("clat2");
            assert!(keeps_all_out(&net.host, "clat2"));
            one = start("");
            net.wait_for_ipv4_by("clat2");
            net.wait_for_ipv4_by("clat");
            for (daemon, left) in [(&mut one, Some("clat2")), (&mut other, None)] {
                daemon.stop();
                if let Some(left) = left {
                    net.wait_for_ipv4_by(left);
                    assert!(keeps_all_out(&net.host, left));
                }
            }
            assert_eq!(net.state(), before, "{}\n{}", one.log(), other.log());
        });
    }
}

/// Hides from a program that the kernel can forward by device.
pub(crate) const OLD_KERNEL: [&str; 5] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "set -e
    mount -t tmpfs none /mnt
    touch /mnt/forwarding
    mount --bind /proc/sys/net/ipv6/conf/all/forwarding /mnt/forwarding
    mount --rbind /mnt /proc/sys/net/ipv6/conf/all
    exec \"$0\" \"$@\"",
];

/// A host that becomes a router while the CLAT is at work forwards what others have it forward; new
/// connections by the CLAT stay out.
#[test]
fn the_host_becomes_a_router() {
    clat_case(|net| {
        let _daemon = net.start_up(FORWARD);
        let is_host = || keeps_all_out(&net.host, "clat");
        let is_router = || !is_host();
        assert!(is_host());
        net.host.sysctl("ipv6/conf/eth0/accept_ra", "2");
        net.host.sysctl("ipv6/conf/all/forwarding", "1");
        wait_for("a router's rules", || is_router().then_some(()));
        net.host.sysctl("ipv6/conf/all/forwarding", "0");
        wait_for("a host's rules", || is_host().then_some(()));
        net.wait_for_ipv4();
    });
    // By the setting of Linux 6.17, which nobody tells us of: it is seen with the next change, and
    // stays.
    clat_case(|net| {
        let mut daemon = net.start_up(FORWARD);
        net.host.sysctl("ipv6/conf/all/force_forwarding", "1");
        net.host.ip("link set lo down\nlink set lo up");
        daemon.prints("This host is a router");
        assert!(!keeps_all_out(&net.host, "clat"));
        daemon.stop();
        let path = "/proc/sys/net/ipv6/conf/eth0/force_forwarding";
        assert_eq!(net.host.run(&format!("cat {path}")), "1\n");
    });
}

/// Name servers that are the host's own: `dns64-servers`.
#[test]
fn a_name_server_of_the_host_is_asked() {
    clat_case(|net| {
        let _dns = NameServer::start(&net.host, &["2001:db8:64::192.0.0.170"]);
        let daemon = net.start("dns64-servers=::1\n");
        net.advertise(&[]);
        net.wait_for_ipv4();
        daemon.prints("(DNS64)");
    });
}

/// After kill -9 the next start undoes what was left, and so does --cleanup.
#[test]
fn a_crash_leaves_no_trace_in_the_end() {
    with_each_way(|net, config| {
        net.advertise(&[]);
        net.wait_for_ipv6();
        let before = net.state();
        let crash = || {
            let mut daemon = net.start(config);
            daemon.prints("Waiting for a NAT64 prefix");
            net.advertise(&[(PREFIX, 600)]);
            net.wait_for_ipv4();
            daemon.signal(Signal::SIGKILL);
            daemon.wait();
            assert_ne!(net.state(), before, "a crash leaves something");
        };
        crash();
        let mut daemon = net.start(config);
        daemon.prints("Undoing what was left");
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
        // While it lives, another one does not undo anything.
        let mut other = Daemon::start_clat(&net.host, &net.runtime, "");
        assert_eq!(other.wait().code(), Some(1));
        assert!(
            other.log().contains("is running with this device"),
            "{}",
            other.log()
        );
        net.wait_for_ipv4();
        daemon.stop();
        assert_eq!(net.state(), before);

        crash();
        let socket = net.runtime.file("clat.sock");
        assert!(socket.exists());
        cleanup(net);
        assert_eq!(net.state(), before);
        assert!(!socket.exists());
    });
}

/// NetworkManager and systemd-networkd handle Router Advertisements by themselves, and the kernel
/// does not: addresses and routes are theirs, and what it advertises is heard all the same.
#[test]
fn another_program_may_be_in_charge_of_the_link() {
    clat_case(|net| {
        net.host.sysctl("ipv6/conf/eth0/accept_ra", "0");
        let daemon = net.start("");
        let gateway = net.router.run("ip -6 address show dev host scope link");
        let gateway = gateway.split_once("inet6 ").unwrap().1;
        let gateway = gateway.split_once('/').unwrap().0;
        net.host.ip(&format!(
            "addr add 2001:db8:6::99/64 dev eth0 noprefixroute
            route add 2001:db8:6::/64 dev eth0 proto ra metric 100
            route add default via {gateway} dev eth0 proto ra metric 100"
        ));
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
        assert!(address_behind(net).starts_with("2001:db8:6:0:"));
        // systemd-networkd deletes what it does not know when it starts again.
        net.host.run("ip rule delete from 192.0.0.1");
        net.host.run("ip nexthop flush protocol 100");
        net.host
            .run("ip route delete unreachable default table 49575");
        wait_for("a repair", || {
            let rules = net.host.run("ip rule");
            let routes = net.host.run("ip route show table 49575");
            (rules.contains("from 192.0.0.1") && routes.contains("unreachable")).then_some(())
        });
        assert!(!daemon.log().contains("Stepping aside"));
    });
}

/// RFC 7335: with 192.0.0.1 on another device other addresses are used; two instances do not
/// collide; and the CLAT steps aside for another one on the uplink.
#[test]
fn other_clats_are_left_alone() {
    clat_case(|net| {
        net.host.ip("link add other type veth peer name other2
            link set other up
            addr add 192.0.0.1/32 dev other");
        let daemon = net.start_up("");
        let addresses = net.host.run("ip -4 address show dev clat");
        assert!(addresses.contains("192.0.0.3/32"), "{addresses}");
        let second = net.start("clat-dev=clat2\n");
        net.advertise(&[(PREFIX, 600)]);
        second.prints("IPv4 via eth0");
        // It does not take what the first one had the kernel forward for that of a router.
        assert!(keeps_all_out(&net.host, "clat2"));
        let ping = format!("ping -n -c 1 -W 5 -I clat2 {SERVER}");
        net.host.run(&ping);
        net.wait_for_ipv4();
        drop(second);
        net.host.ip("addr add 192.0.0.6/32 dev eth0");
        daemon.prints("Stepping aside: another CLAT has an address of 192.0.0.0/29 on eth0");
        net.host.ip("addr delete 192.0.0.6/32 dev eth0");
        net.wait_for_ipv4();
    });
    // A guest of a machine that has a CLAT may be told to have its own.
    clat_case(|net| {
        net.host.ip("addr add 192.0.0.1/29 dev eth0");
        let _daemon = net.start_up("v4-conncheck-enable=no\n");
        let addresses = net.host.run("ip -4 address show dev clat");
        assert!(addresses.contains("192.0.0.3/32"), "{addresses}");
    });
}

/// Whether new connections that come in by the uplink are dropped, wherever they go, as on a host
/// that is no router.
fn keeps_all_out(host: &Netns, device: &str) -> bool {
    let direct = host.output(&format!("nft list table ip xlatd_{device}"));
    if direct.status.success() {
        let rule = format!("iifname \"{device}\" ct state invalid,new,untracked drop");
        return String::from_utf8_lossy(&direct.stdout).contains(&rule);
    }
    let ruleset = host.run(&format!("nft list table inet xlatd_{device}"));
    let drops = |packets: &str| ruleset.contains(&format!("{packets} {UNASKED} drop"));
    let by_us = drops(&format!("oifname \"{device}\""));
    let uplink = drops(&format!("iif \"eth0\" oifname != \"{device}\""));
    let all = ruleset.contains("iifname != ");
    by_us && (uplink || all)
}

const UNASKED: &str = "meta nfproto ipv6 ct state invalid,new,untracked";

/// Two that start at once do not keep what the other needs: one of them chooses again. The first
/// that ends leaves to the other what it needs, too, which sets it back in the end.
#[test]
fn instances_begin_and_end_at_any_time() {
    clat_case(|net| {
        net.advertise(&[]);
        net.wait_for_ipv6();
        let before = net.state();
        let mut one = net.start(FORWARD);
        let mut other = net.start("clat-path=forward\nclat-dev=clat2\n");
        net.advertise(&[(PREFIX, 600)]);
        for daemon in [&one, &other] {
            daemon.prints("IPv4 via eth0");
        }
        net.wait_for_ipv4_by("clat");
        net.wait_for_ipv4_by("clat2");
        for device in ["clat", "clat2"] {
            assert!(keeps_all_out(&net.host, device));
        }
        // Nor the address of the other's translator, which is the first hop.
        let hops = net
            .host
            .run(&format!("traceroute -n -q 1 -w 2 -m 1 {SERVER}"));
        assert!(!hops.contains('*'), "{hops}");
        // The one that has set what both need ends first.
        let mut devices = ["clat2", "clat"];
        let has_set = "set net/ipv6/conf/eth0/force_forwarding to 1: done";
        if other.log().contains(has_set) {
            std::mem::swap(&mut one, &mut other);
            devices.reverse();
        }
        one.stop();
        net.wait_for_ipv4_by(devices[0]);
        // What changes lets it look again.
        net.host.ip("link set lo down\nlink set lo up");
        thread::sleep(Duration::from_millis(200));
        assert!(keeps_all_out(&net.host, devices[0]));
        other.stop();
        assert_eq!(net.state(), before, "{}\n{}", one.log(), other.log());
    });
}

/// As by the service: a user without privileges, but for two. It sets up all there is, and undoes
/// it.
#[test]
fn works_for_a_user_with_two_capabilities() {
    with_each_way(|net, config| {
        net.advertise(&[]);
        net.wait_for_ipv6();
        let before = net.state();
        let runtime = net.runtime.file("");
        chown(&runtime, Some(65534.into()), Some(65534.into())).unwrap();
        let capabilities = [
            "--clear-groups",
            "--no-new-privs",
            "--inh-caps=-all,+net_admin,+net_raw",
            "--ambient-caps=-all,+net_admin,+net_raw",
            "--bounding-set=-all,+net_admin,+net_raw",
        ];
        let launcher = [&AS_NOBODY[..], &capabilities].concat();
        let mut daemon = Daemon::start_clat_by(&launcher, &net.host, &net.runtime, config);
        daemon.prints("Waiting for a NAT64 prefix");
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
        daemon.stop();
        assert_eq!(net.state(), before, "{}", daemon.log());
    });
}

/// What cannot be set up is said once, with what the program said, and not that IPv4 works; it is
/// tried again, and undone in the end.
#[test]
fn a_setup_that_fails_is_said_and_undone() {
    clat_case(|net| {
        net.advertise(&[]);
        net.wait_for_ipv6();
        let before = net.state();
        let nft = Program::new("echo no rules today >&2; exit 3");
        let mut daemon = net.start(&format!("clat-v6-addr=shared\ncmd-nft={}\n", nft.path()));
        net.advertise(&[(PREFIX, 600)]);
        daemon.prints("cannot load the nftables table inet xlatd_clat");
        daemon.prints("no rules today");
        assert!(!daemon.log().contains("IPv4 via"), "{}", daemon.log());
        // How things are is said all the same.
        net.advertise(&[(PREFIX, 0)]);
        daemon.prints("Waiting for a NAT64 prefix");
        net.advertise(&[(PREFIX, 600)]);
        nft.becomes("exec nft \"$@\"");
        net.wait_for_ipv4();
        daemon.prints("IPv4 via");
        assert_eq!(daemon.log().matches("no rules today").count(), 1);
        daemon.stop();
        assert_eq!(net.state(), before, "{}", daemon.log());
    });
}

/// Without nftables there is IPv4 by an address of its own, for routers of which any kind asks; it
/// is said once what that means, and they are used once they are there.
#[test]
fn nftables_may_be_missing() {
    clat_case(|net| {
        net.advertise(&[]);
        net.wait_for_ipv6();
        let before = net.state();
        let nft = Program::new("exit 1");
        let mut daemon = net.start_up(&format!("cmd-nft={}\n", nft.path()));
        daemon.prints("IPv4 via eth0");
        daemon.prints("can connect to IPv4 services of this host: ");
        net.router.ip("neigh flush dev host");
        assert!(net.pings());
        nft.becomes("exec nft \"$@\"");
        wait_for("the table", || {
            let ruleset = net.host.run("nft list ruleset");
            ruleset.contains("table ip xlatd_clat").then_some(())
        });
        assert!(net.pings());
        assert_eq!(daemon.log().matches("No nftables").count(), 1);
        daemon.stop();
        assert_eq!(net.state(), before, "{}", daemon.log());
    });
}

/// ufw is told what to let pass, and in the end to forget it: by the program of `cmd-ufw`, which
/// plays it here.
#[test]
fn ufw_is_told() {
    clat_case(|net| {
        let ufw = Program::new("echo \"$@\" >>$0.said");
        let mut daemon = net.start_up(&format!("{FORWARD}cmd-ufw={}\n", ufw.path()));
        daemon.signal(Signal::SIGTERM);
        daemon.wait();
        assert_eq!(
            fs::read_to_string(format!("{}.said", ufw.path())).unwrap(),
            "route prepend allow in on clat out on eth0\n\
             route prepend allow in on eth0 out on clat\n\
             route delete allow in on eth0 out on clat\n\
             route delete allow in on clat out on eth0\n"
        );
    });
}

/// It has two capabilities for the network, and two for its record, which only root has to begin
/// with; and so has what it starts.
#[test]
fn no_more_privileges_than_are_needed() {
    clat_case(|net| {
        let daemon = net.start("");
        for set in ["CapPrm", "CapEff", "CapInh", "CapBnd"] {
            assert_eq!(daemon.status(set), "0000000000003003", "{set}"); // bits 12 and 13, 0 and 1
        }
        assert_eq!(daemon.status("NoNewPrivs"), "1");
        assert_eq!(daemon.status("Seccomp"), "2");
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
    });
}

/// Two that end at once: one of them sets back what both needed. On an older kernel, too.
#[test]
fn two_instances_end_at_once() {
    for (launcher, way) in [(&[][..], ""), (&[], FORWARD), (&OLD_KERNEL, FORWARD)] {
        clat_case(|net| {
            net.advertise(&[]);
            net.wait_for_ipv6();
            let before = net.state();
            for _ in 0..4 {
                let mut daemons = ["", "clat-dev=clat2\n"].map(|config| {
                    let config = format!("{way}{config}");
                    Daemon::start_clat_by(launcher, &net.host, &net.runtime, &config)
                });
                for daemon in &daemons {
                    daemon.prints("Waiting for");
                }
                net.advertise(&[(PREFIX, 600)]);
                for daemon in &daemons {
                    daemon.prints("IPv4 via eth0");
                }
                for daemon in &daemons {
                    daemon.signal(Signal::SIGTERM);
                }
                for daemon in &mut daemons {
                    assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
                }
                let [one, other] = &daemons;
                assert_eq!(net.state(), before, "{}\n{}", one.log(), other.log());
                net.advertise(&[(PREFIX, 0)]);
            }
        });
    }
}

/// What is handed over counts also if it is what had been recorded by who gets it.
#[test]
fn what_is_handed_back_is_undone() {
    clat_case(|net| {
        net.host.ip("link add eth1 type veth peer name far
            link set far up
            link set eth1 up
            addr add 2001:db8:7::1/64 dev eth1 nodad");
        net.advertise(&[]);
        net.wait_for_ipv6();
        let before = net.state();
        let config = "clat-v6-addr=shared\nplat-prefix=2001:db8:64::/96\n";
        let start = |more: &str| {
            let config = format!("{config}{more}");
            let daemon = Daemon::start_clat(&net.host, &net.runtime, &config);
            daemon.prints("IPv4 via eth0");
            daemon
        };
        let mut one = start("");
        let mut other = start("clat-dev=clat2\nplat-dev=eth0\n");
        let way = "default via 2001:db8:7::2 dev eth1 metric 1";
        net.host.ip(&format!("route add {way}"));
        one.prints("IPv4 via eth1");
        net.host.ip(&format!("route delete {way}"));
        wait_for("the way back", || {
            (one.log().matches("IPv4 via eth0").count() == 2).then_some(())
        });
        for daemon in [&mut other, &mut one] {
            daemon.stop();
        }
        assert_eq!(net.state(), before, "{}\n{}", one.log(), other.log());
    });
}

/// What cannot be undone is said, and for who comes next.
#[test]
fn what_cannot_be_undone_is_left_to_the_next() {
    clat_case(|net| {
        net.advertise(&[]);
        net.wait_for_ipv6();
        let before = net.state();
        let nft = Program::new("exec nft \"$@\"");
        let config = format!("cmd-nft={}\n", nft.path());
        let mut daemon = net.start_up(&config);
        nft.becomes("echo no rules today >&2; exit 1");
        daemon.stop();
        let said = "cannot delete the nftables table ip xlatd_clat";
        assert!(daemon.log().contains(said), "{}", daemon.log());
        // Nor can the next one, which is killed while it tries.
        nft.becomes("exec sleep 60");
        let mut daemon = Daemon::start_clat(&net.host, &net.runtime, &config);
        daemon.prints("Undoing what was left");
        thread::sleep(Duration::from_millis(300));
        daemon.signal(Signal::SIGKILL);
        daemon.wait();
        cleanup(net);
        assert_eq!(net.state(), before);
    });
}

/// nft breaks: IPv4 goes on by what is loaded, and with another address without it.
#[test]
fn nft_breaks_at_work() {
    clat_case(|net| {
        let nft = Program::new("exec nft \"$@\"");
        let daemon = net.start_up(&format!("{FORWARD}cmd-nft={}\n", nft.path()));
        let old = address_behind(net);
        nft.becomes("echo no rules today >&2; exit 1");
        net.router.ip("addr add 2001:db8:7::1/64 dev host nodad");
        let mut message = advertisement(1800, &[(PREFIX, 600)]);
        let mut deprecated = message.clone();
        deprecated[24..28].fill(0); // preferred lifetime
        net.advertise_with(&deprecated);
        let other: Ipv6Addr = "2001:db8:7::".parse().unwrap();
        message[32..48].copy_from_slice(&other.octets());
        net.advertise_with(&message);
        wait_for("another address", || {
            let new = any_address_behind(net).filter(|new| *new != old)?;
            new.contains("2001:db8:7:").then_some(())
        });
        net.wait_for_ipv4();
        assert_eq!(daemon.log().matches("No nftables").count(), 1);
    });
}

/// Where nothing can be recorded, what one that was killed has left is not taken for a router's;
/// nor is a record that has just gone a reason to believe it.
#[test]
fn records_may_be_missing() {
    clat_case(|net| {
        let record = net.runtime.file("clat.steps");
        fs::create_dir(&record).unwrap();
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            let mut daemon = net.start("");
            daemon.prints("no undo journal");
            net.advertise(&[(PREFIX, 600)]);
            net.wait_for_ipv4();
            assert!(keeps_all_out(&net.host, "clat"));
            daemon.signal(signal);
            daemon.wait();
        }
        fs::remove_dir(record).unwrap();
    });
    clat_case(|net| {
        let _one = net.start_up("");
        symlink("/nonexistent", net.runtime.file("gone.steps")).unwrap();
        let other = net.start("clat-dev=clat2\n");
        net.advertise(&[(PREFIX, 600)]);
        other.prints("IPv4 via eth0");
        assert!(keeps_all_out(&net.host, "clat2"));
    });
}

/// Carries out what a record says.
fn cleanup(net: &ClatNet) {
    let runtime = net.runtime.file("");
    net.host.run(&format!(
        "env RUNTIME_DIRECTORY={} {} clat --cleanup",
        runtime.display(),
        harness::daemon().display()
    ));
}

/// A rule of another program may have the first priority after that of the kernel's: ours then goes
/// with the kernel's, and is there.
#[test]
fn a_rule_with_the_kernels_first_is_not_taken_for_gone() {
    clat_case(|net| {
        net.host.ip("rule add priority 1 lookup main");
        let daemon = net.start_up("");
        net.host.ip("route delete default metric 2048");
        daemon.prints("Repaired after a change by another program: route 0.0.0.0/0");
        let repaired_rule = "Repaired after a change by another program: add rule";
        assert!(!daemon.log().contains(repaired_rule), "{}", daemon.log());
    });
}

/// An nft(8) or a kernel before 5.10 cannot ask for sockets: what protects the host is there all
/// the same.
#[test]
fn an_older_nft_protects_the_host_too() {
    clat_case(|net| {
        let nft = Program::new(
            "script=$(cat)
            case $script in *'socket wildcard'*) echo 'no socket' >&2; exit 1;; esac
            printf '%s' \"$script\" | nft \"$@\"",
        );
        let daemon = net.start_up(&format!("cmd-nft={}\n", nft.path()));
        let table = net.host.run("nft list table ip xlatd_clat");
        assert!(
            table.contains("ct state invalid,new,untracked drop"),
            "{table}"
        );
        assert!(!daemon.log().contains("No nftables"), "{}", daemon.log());
    });
}
