//! Privileges of the daemon once packets flow: none beyond its open descriptors.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
};

use nix::sys::signal::Signal;

use crate::harness::{CONFIG, Daemon, Directory, Net, SERVER, SERVER6, wait_for, xlatd_case};

/// nobody and nogroup of Debian, and another group.
const NOBODY: &str = "65534";
const DAEMON_GROUP: &str = "1";

const POOL: &str = "\
tun-device nat64
ipv4-addr 203.0.113.1
ipv6-addr 2001:db8:ffff::1
prefix 2001:db8:64::/96
dynamic-pool 203.0.113.0/24
";

/// Capability sets (capabilities(7)) as in /proc.
const NONE: &str = "0000000000000000";
const DAC_OVERRIDE: &str = "0000000000000002";
const NET_ADMIN: &str = "0000000000001000";

fn ping(net: &Net) {
    net.client
        .run(&format!("ping -n -c 1 -i 0.1 -w 15 {SERVER6}"));
}

/// Pings repeatedly until one is answered: a device that is not ready yet drops packets.
fn wait_for_ping(net: &Net) {
    wait_for("packets to cross", || {
        let ping = net.client.output(&format!("ping -n -c 1 -W 1 {SERVER6}"));
        ping.status.success().then_some(())
    });
}

fn start(net: &Net, options: &str, config: &str) -> Daemon {
    if !net.xlat.has("nat64") {
        net.xlat.ip("tuntap add dev nat64 mode tun");
    }
    net.route_to_device();
    let daemon = Daemon::start_with(options, &net.xlat, config);
    net.wait_for_daemon();
    daemon.prints("Running as");
    daemon
}

/// Asserts user, group, no supplementary groups, all capability sets, and no_new_privs.
fn has(daemon: &Daemon, uid: &str, gid: &str, capabilities: &str) {
    let four = |id: &str| [id; 4].join(" ");
    assert_eq!(daemon.status("Uid"), four(uid));
    assert_eq!(daemon.status("Gid"), four(gid));
    for set in ["CapPrm", "CapEff"] {
        assert_eq!(daemon.status(set), capabilities, "{set}");
    }
    for set in ["CapInh", "CapBnd", "CapAmb"] {
        assert_eq!(daemon.status(set), NONE, "{set}");
    }
    assert_eq!(daemon.status("NoNewPrivs"), "1");
}

/// `-u` without `-g` takes the user's group. Supplementary groups and capabilities are dropped, and
/// packets still flow.
#[test]
fn user_has_no_groups_and_no_capabilities() {
    xlatd_case(|net| {
        net.xlat.ip("tuntap add dev nat64 mode tun");
        net.route_to_device();
        let in_groups = [
            "setpriv",
            "--groups",
            "4,24",
            "sh",
            "-c",
            "exec \"$0\" \"$@\" -u nobody",
        ];
        let daemon = Daemon::start_by(&in_groups, &net.xlat, CONFIG);
        net.wait_for_daemon();
        daemon.prints("Running as");
        has(&daemon, NOBODY, NOBODY, NONE);
        assert_eq!(daemon.status("Groups"), "");
        assert!(
            daemon
                .log()
                .contains("Running as user 65534, group 65534, with no capabilities")
        );
        ping(net);
    });
}

/// `-g` sets another group. Numbers are accepted in place of names.
#[test]
fn group_and_numeric_ids_are_accepted() {
    xlatd_case(|net| {
        let daemon = start(net, "-u 65534 --group daemon", CONFIG);
        has(&daemon, NOBODY, DAEMON_GROUP, NONE);
        assert_eq!(daemon.status("Groups"), "");
        ping(net);
    });
}

/// Without `-u`, root keeps the capability to read and write files, and no other.
#[test]
fn root_keeps_only_access_to_files() {
    xlatd_case(|net| {
        let daemon = start(net, "", CONFIG);
        has(&daemon, "0", "0", DAC_OVERRIDE);
        ping(net);
    });
}

/// `keep-net-admin yes` keeps CAP_NET_ADMIN, with `-u` too.
#[test]
fn keep_net_admin_keeps_the_capability() {
    xlatd_case(|net| {
        let config = format!("{CONFIG}keep-net-admin yes\n");
        let daemon = start(net, "-u nobody", &config);
        has(&daemon, NOBODY, NOBODY, NET_ADMIN);
        assert!(daemon.log().contains("with CAP_NET_ADMIN"));
    });
}

/// A data-dir of root with leases in it changes its owner: the daemon writes it as the new user,
/// and the leases are kept.
#[test]
fn leases_are_written_by_the_user() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let file = directory.file("dynamic.map");
        fs::write(&file, "203.0.113.77\t2001:db8:6::77\t4000000000\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(directory.file("dynamic.map~~"), "left by root").unwrap();
        let config = format!("{POOL}data-dir {}\n", directory.file("").display());
        let mut daemon = start(net, "-u nobody", &config);
        ping(net);
        daemon.stop();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("\t2001:db8:6::10\t"), "{text}");
        assert!(
            text.contains("203.0.113.77\t2001:db8:6::77\t"),
            "{text}{}",
            daemon.log()
        );
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (65534, 65534));
    });
}

/// A directory with other files in it stays root's, and the log says what to do.
#[test]
fn directory_with_other_files_keeps_its_owner() {
    xlatd_case(|net| {
        let directory = Directory::new();
        fs::write(directory.file("passwd"), "").unwrap();
        let path = directory.file("");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!("{POOL}data-dir {}\n", path.display());
        let mut daemon = start(net, "-u nobody", &config);
        assert_eq!(fs::metadata(&path).unwrap().uid(), 0);
        ping(net);
        daemon.stop();
        let log = daemon.log();
        assert!(log.contains("chown 65534 "), "{log}");
        assert!(log.contains("cannot write the leases"), "{log}");
    });
}

/// In a chroot a map-file outside of it is reloaded, and leases are written.
#[test]
fn chroot_still_reads_maps_and_writes_leases() {
    xlatd_case(|net| {
        let (directory, elsewhere) = (Directory::new(), Directory::new());
        let maps = elsewhere.file("maps.conf");
        fs::write(&maps, "").unwrap();
        let path = directory.file("");
        let config = format!(
            "{POOL}data-dir {}\nmap-file {}\n",
            path.display(),
            maps.display()
        );
        let mut daemon = start(net, "-u nobody --chroot -p pid", &config);
        let root = fs::read_link(format!("/proc/{}/root", daemon.pid())).unwrap();
        assert_eq!(root.canonicalize().unwrap(), path.canonicalize().unwrap());
        let cwd = fs::read_link(format!("/proc/{}/cwd", daemon.pid())).unwrap();
        assert_eq!(cwd, root);
        has(&daemon, NOBODY, NOBODY, NONE);
        ping(net);

        // Editors replace a file rather than write it.
        let new = elsewhere.file("new");
        fs::write(&new, "map 203.0.113.99 2001:db8:6::10\n").unwrap();
        fs::rename(&new, &maps).unwrap();
        daemon.signal(Signal::SIGHUP);
        wait_for("the new map", || {
            let ping = net.server.output("ping -n -c 1 -W 1 203.0.113.99");
            ping.status.success().then_some(())
        });
        // A thread writes it.
        wait_for("the lease in its file", || {
            let text = fs::read_to_string(directory.file("dynamic.map")).ok()?;
            text.contains("\t2001:db8:6::10\t").then_some(())
        });
        daemon.stop();
        assert!(!daemon.log().contains("cannot"), "{}", daemon.log());
    });
}

/// A pidfile that the user may not remove is emptied at the end. Links and FIFOs are refused at the
/// start.
#[test]
fn pidfile_is_emptied_at_the_end() {
    xlatd_case(|net| {
        let directory = Directory::new();
        fs::set_permissions(directory.file(""), fs::Permissions::from_mode(0o755)).unwrap();
        let path = directory.file("pid");
        let options = format!("-u nobody -p {}", path.display());
        let mut daemon = start(net, &options, CONFIG);
        let pid = daemon.pid().to_string();
        assert_eq!(fs::read_to_string(&path).unwrap().trim(), pid);
        daemon.stop();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");

        fs::remove_file(&path).unwrap();
        fs::write(directory.file("precious"), "content").unwrap();
        symlink("precious", &path).unwrap();
        let refused = || {
            let mut daemon = Daemon::start_with(&options, &net.xlat, CONFIG);
            assert_eq!(daemon.wait().code(), Some(1), "{}", daemon.log());
            let precious = fs::read_to_string(directory.file("precious")).unwrap();
            assert_eq!(precious, "content");
            fs::remove_file(&path).unwrap();
        };
        refused();
        // So are hard links and FIFOs, on which open(2) would block.
        fs::hard_link(directory.file("precious"), &path).unwrap();
        refused();
        net.xlat.run(&format!("mkfifo {}", path.display()));
        refused();
    });
}

/// A link in another user's directory may lead to a file that only root can read: it is not
/// followed, and the file is not quoted.
#[test]
fn links_in_the_directory_of_another_user_are_not_followed() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let (secret, data_dir) = (directory.file("secret"), directory.file("data"));
        fs::write(&secret, "hash-of-a-password\n").unwrap();
        fs::create_dir(&data_dir).unwrap();
        symlink(&secret, data_dir.join("maps")).unwrap();
        let config = format!("{CONFIG}data-dir {}\nmap-file maps\n", data_dir.display());
        for (owner, quotes) in [(0, true), (65534, false)] {
            chown(&data_dir, Some(owner), Some(owner)).unwrap();
            let mut daemon = Daemon::start_with("-u nobody", &net.xlat, &config);
            assert_eq!(daemon.wait().code(), Some(1));
            let log = daemon.log();
            assert_eq!(log.contains("hash-of-a-password"), quotes, "{log}");
        }
        fs::remove_file(data_dir.join("maps")).unwrap();
        symlink("/dev/zero", data_dir.join("maps")).unwrap();
        chown(&data_dir, Some(0), Some(0)).unwrap();
        let mut daemon = Daemon::start_with("", &net.xlat, &config);
        assert_eq!(daemon.wait().code(), Some(1));
        assert!(
            daemon.log().contains("expected a regular file"),
            "{}",
            daemon.log()
        );
    });
}

/// Impossible identities are refused with exit status 1, and nothing is left behind.
#[test]
fn impossible_identities_are_refused() {
    xlatd_case(|net| {
        let data_dir = format!("{CONFIG}data-dir /nonexistent/xlatd\n");
        for (options, config, message) in [
            ("-u no-such-user", CONFIG, "no-such-user: no such user"),
            ("-g no-such-group", CONFIG, "no-such-group: no such group"),
            ("-u 4294967295 -g 0", CONFIG, "no such user"),
            ("-u 4242424", CONFIG, "an unknown user needs --group"),
            ("-r -u nobody", CONFIG, "--chroot needs data-dir"),
            ("-r", &data_dir, "--chroot needs --user"),
            ("-r -u root", &data_dir, "--chroot needs --user"),
            ("-r -u nobody", &data_dir, "cannot chroot to the data-dir"),
        ] {
            let mut daemon = Daemon::start_with(options, &net.xlat, config);
            assert_eq!(daemon.wait().code(), Some(1), "{options}");
            assert!(
                daemon.log().contains(message),
                "{options}: {}",
                daemon.log()
            );
            assert!(!net.xlat.has("nat64"));
        }
        // Groups that cannot be dropped are an error.
        let exec = with_net_admin(&["--groups=4", "sh", "-c", "exec \"$0\" \"$@\" -u nobody"]);
        let mut daemon = Daemon::start_by(&exec, &net.xlat, CONFIG);
        assert_eq!(daemon.wait().code(), Some(1), "{}", daemon.log());
        assert!(
            daemon.log().contains("cannot give up privileges"),
            "{}",
            daemon.log()
        );

        let launcher = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ];
        let exec = [&launcher[..], &["sh", "-c", "exec \"$0\" \"$@\" -u daemon"]].concat();
        let mut daemon = Daemon::start_by(&exec, &net.xlat, CONFIG);
        assert_eq!(daemon.wait().code(), Some(1));
        assert!(
            daemon.log().contains("--user and --group require root"),
            "{}",
            daemon.log()
        );
    });
}

/// As in a service with `User=` and `AmbientCapabilities=`: the set-up needs no root, and the
/// capability is dropped afterwards.
#[test]
fn one_capability_is_enough_to_start_and_is_dropped() {
    xlatd_case(|net| {
        let directory = Directory::new();
        chown(directory.file(""), Some(65534), Some(65534)).unwrap();
        let config = format!(
            "{POOL}data-dir {}\ntun-up yes\ntun-route 203.0.113.0/24\ntun-route 2001:db8:64::/96\n",
            directory.file("").display()
        );
        let launcher = with_net_admin(&[
            "--clear-groups",
            "--bounding-set=-all,+net_admin",
            "--no-new-privs",
        ]);
        let mut daemon = Daemon::start_by(&launcher, &net.xlat, &config);
        daemon.prints("Running as user 65534");
        for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(daemon.status(set), NONE, "{set}");
        }
        wait_for_ping(net);
        daemon.stop();
        let text = fs::read_to_string(directory.file("dynamic.map")).unwrap();
        assert!(text.contains("\t2001:db8:6::10\t"), "{text}");
    });
}

/// The launcher of a program as nobody with CAP_NET_ADMIN, where all users may open /dev/net/tun.
/// `more` are further options of setpriv(1).
fn with_net_admin<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let capability = [
        "--inh-caps=-all,+net_admin",
        "--ambient-caps=-all,+net_admin",
    ];
    [&AS_NOBODY[..], &capability, more].concat()
}

/// The launcher of a program as nobody by setpriv(1), where all users may open /dev/net/tun.
/// Options for capabilities follow it.
pub(crate) const AS_NOBODY: [&str; 8] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    OPEN_TO_ALL,
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
];

/// Permissions of udev: all users may open /dev/net/tun, and need the capability to attach.
const OPEN_TO_ALL: &str = r#"
set -e
mount -t tmpfs tmpfs /mnt
mknod -m 666 /mnt/tun c 10 200
mount --bind /mnt/tun /dev/net/tun
exec "$0" "$@"
"#;

const ROUTES: &str = "\
tun-up yes
tun-ip 203.0.113.2/32
tun-ip 2001:db8:ffff::2/128
tun-route 203.0.113.0/24
tun-route 2001:db8:64::/96
";

/// When the device goes down and up, the log names each address and route that the kernel removed,
/// with the command that restores it.
#[test]
fn lost_routes_are_named_with_their_commands() {
    xlatd_case(|net| {
        let daemon = Daemon::start_with("-u nobody", &net.xlat, &format!("{CONFIG}{ROUTES}"));
        daemon.prints("Running as");
        ping(net);
        net.xlat.ip("link set nat64 down");
        daemon.prints("nat64 is now down");
        net.xlat.ip("link set nat64 up");
        daemon.prints("nat64 is now up");
        let mut commands = Vec::new();
        for what in [
            "address add 2001:db8:ffff::2/128",
            "route add 203.0.113.0/24",
            "route add 2001:db8:64::/96",
        ] {
            let command = format!("ip {what} dev nat64");
            daemon.prints(&command);
            commands.push(command);
        }
        // IPv4 addresses stay on a device that is down.
        assert!(
            !daemon.log().contains("address add 203"),
            "{}",
            daemon.log()
        );
        for command in commands {
            net.xlat.run(&command);
        }
        ping(net);
        net.xlat.run("ip -4 address show dev nat64 to 203.0.113.2");
    });
}

/// The kernel also removes IPv6 from a device whose MTU is below 1280 octets: it is restored with
/// the MTU.
#[test]
fn routes_lost_to_a_low_mtu_are_restored() {
    xlatd_case(|net| {
        let config = format!("{CONFIG}{ROUTES}keep-net-admin yes\n");
        let daemon = Daemon::start_with("-u nobody", &net.xlat, &config);
        daemon.prints("Running as");
        ping(net);
        net.xlat.ip("link set nat64 mtu 1000");
        daemon.prints("IPv6 needs an MTU");
        net.xlat.ip("link set nat64 mtu 1500");
        wait_for_ping(net);
    });
}

/// The commands have the current name of a renamed device.
#[test]
fn commands_have_the_current_name_of_the_device() {
    xlatd_case(|net| {
        let daemon = Daemon::start_with("-u nobody", &net.xlat, &format!("{CONFIG}{ROUTES}"));
        daemon.prints("Running as");
        net.xlat
            .ip("link set nat64 down\nlink set nat64 name other\nlink set other up");
        daemon.prints("nat64 is now called other");
        daemon.prints("ip route add 203.0.113.0/24 dev other");
    });
}

/// With CAP_NET_ADMIN kept, they are restored, each time.
#[test]
fn lost_routes_are_restored_with_net_admin() {
    xlatd_case(|net| {
        let config = format!("{CONFIG}{ROUTES}keep-net-admin yes\n");
        let daemon = Daemon::start_with("-u nobody", &net.xlat, &config);
        daemon.prints("Running as");
        for _ in 0..3 {
            ping(net);
            net.xlat.ip("link set nat64 down\nlink set nat64 up");
            wait_for_ping(net);
            wait_for("the address", || {
                let shown = net.xlat.run("ip -6 address show dev nat64");
                shown.contains("2001:db8:ffff::2/128").then_some(())
            });
        }
        assert!(!daemon.log().contains("ip route add"), "{}", daemon.log());
        net.server
            .run(&format!("ping -n -c 1 -w 15 -I {SERVER} 203.0.113.10"));
    });
}

/// The sandbox is on unless configured off (seccomp(2), landlock(7)), and leases are written in it.
#[test]
fn the_sandbox_is_entered() {
    for (setting, mode) in [("", "2"), ("sandbox no\n", "0")] {
        xlatd_case(|net| {
            let daemon = start(net, "", &format!("{POOL}{setting}"));
            ping(net);
            assert_eq!(daemon.status("Seccomp"), mode);
            let said = daemon.log().contains("Sandbox: system calls");
            assert_eq!(said, mode == "2", "{}", daemon.log());
        });
    }
}
