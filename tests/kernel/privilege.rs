//! What the daemon may still do once packets flow: nothing but what it has open.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
};

use nix::sys::signal::Signal;

use crate::harness::{CONFIG, Daemon, Directory, Net, SERVER, SERVER6, wait_for, xlatd_case};

/// nobody and nogroup of every Debian, and a group that is not nobody's.
const NOBODY: &str = "65534";
const DAEMON_GROUP: &str = "1";

const POOL: &str = "\
tun-device nat64
ipv4-addr 203.0.113.1
ipv6-addr 2001:db8:ffff::1
prefix 2001:db8:64::/96
dynamic-pool 203.0.113.0/24
";

/// Bits of capabilities(7), as /proc shows them.
const NONE: &str = "0000000000000000";
const DAC_OVERRIDE: &str = "0000000000000002";
const NET_ADMIN: &str = "0000000000001000";

fn ping(net: &Net) {
    net.client
        .run(&format!("ping -n -c 1 -i 0.1 -w 15 {SERVER6}"));
}

/// Waits until packets cross, by one ping after the other: a device that is not ready yet loses them.
fn crosses_in_the_end(net: &Net) {
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

/// User, group, supplementary groups and all sets of capabilities, and no way back by a set-user-ID program.
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

/// `-u` without `-g` takes the user's group; supplementary groups and capabilities go; and packets still flow.
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

/// `-g` names another group; numbers do as well as names.
#[test]
fn group_counts_and_numbers_do() {
    xlatd_case(|net| {
        let daemon = start(net, "-u 65534 --group daemon", CONFIG);
        has(&daemon, NOBODY, DAEMON_GROUP, NONE);
        assert_eq!(daemon.status("Groups"), "");
        ping(net);
    });
}

/// Root without `-u` keeps what reads and writes files, and nothing else.
#[test]
fn root_keeps_only_its_files() {
    xlatd_case(|net| {
        let daemon = start(net, "", CONFIG);
        has(&daemon, "0", "0", DAC_OVERRIDE);
        ping(net);
    });
}

/// `keep-net-admin yes` keeps that one, also for a user.
#[test]
fn net_admin_is_kept_if_asked_for() {
    xlatd_case(|net| {
        let config = format!("{CONFIG}keep-net-admin yes\n");
        let daemon = start(net, "-u nobody", &config);
        has(&daemon, NOBODY, NOBODY, NET_ADMIN);
        assert!(daemon.log().contains("with CAP_NET_ADMIN"));
    });
}

/// A data-dir that is root's, with leases in it, is written once the daemon is somebody else; the leases are kept.
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

/// A directory in which others have files stays root's; what to do is said.
#[test]
fn directory_of_others_is_not_given_away() {
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

/// From within a chroot the map-file is read again, though it is outside, and leases are written.
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

        // Another file takes its place, as editors do it.
        let new = elsewhere.file("new");
        fs::write(&new, "map 203.0.113.99 2001:db8:6::10\n").unwrap();
        fs::rename(&new, &maps).unwrap();
        daemon.signal(Signal::SIGHUP);
        wait_for("the new map", || {
            let ping = net.server.output("ping -n -c 1 -W 1 203.0.113.99");
            ping.status.success().then_some(())
        });
        // It is written beside the packets.
        wait_for("the lease in its file", || {
            let text = fs::read_to_string(directory.file("dynamic.map")).ok()?;
            text.contains("\t2001:db8:6::10\t").then_some(())
        });
        daemon.stop();
        assert!(!daemon.log().contains("cannot"), "{}", daemon.log());
    });
}

/// The pidfile of a user who may not remove it names nobody at the end; a symbolic link is not followed at the start.
#[test]
fn pidfile_names_nobody_at_the_end() {
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
        // Nor are another name of a file, and a FIFO, which would hold up who opens it.
        fs::hard_link(directory.file("precious"), &path).unwrap();
        refused();
        net.xlat.run(&format!("mkfifo {}", path.display()));
        refused();
    });
}

/// What is in a directory of somebody else's may lead to what only root can read: it is not followed, and not quoted.
#[test]
fn links_in_a_directory_of_others_are_not_followed() {
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

/// What cannot be is refused with exit status 1, and nothing is left behind.
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
        // Groups that cannot be given up are not kept in silence.
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

/// As in a service with `User=` and `AmbientCapabilities=`: set up without root, and the capability goes afterwards.
#[test]
fn capability_is_enough_to_start_and_goes() {
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
        crosses_in_the_end(net);
        daemon.stop();
        let text = fs::read_to_string(directory.file("dynamic.map")).unwrap();
        assert!(text.contains("\t2001:db8:6::10\t"), "{text}");
    });
}

/// Starts a program as nobody with CAP_NET_ADMIN, where anybody may open /dev/net/tun; with more for setpriv(1).
fn with_net_admin<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let capability = [
        "--inh-caps=-all,+net_admin",
        "--ambient-caps=-all,+net_admin",
    ];
    [&AS_NOBODY[..], &capability, more].concat()
}

/// Has setpriv(1) start a program as nobody, where anybody may open /dev/net/tun; its options for capabilities come after it.
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

/// As udev makes it: anybody may open /dev/net/tun, and needs the capability to attach to a device.
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

/// The device going down and up is survived; what the kernel took away is named with the commands that bring it back, and
/// they do.
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
        // The kernel keeps IPv4 addresses.
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

/// The kernel takes IPv6 from a device that is narrower than IPv6 allows, too: it is brought back with the MTU.
#[test]
fn routes_lost_to_a_low_mtu_are_brought_back() {
    xlatd_case(|net| {
        let config = format!("{CONFIG}{ROUTES}keep-net-admin yes\n");
        let daemon = Daemon::start_with("-u nobody", &net.xlat, &config);
        daemon.prints("Running as");
        ping(net);
        net.xlat.ip("link set nat64 mtu 1000");
        daemon.prints("IPv6 needs an MTU");
        net.xlat.ip("link set nat64 mtu 1500");
        crosses_in_the_end(net);
    });
}

/// A device that was renamed is named as it is called now.
#[test]
fn commands_name_the_device_as_it_is_called_now() {
    xlatd_case(|net| {
        let daemon = Daemon::start_with("-u nobody", &net.xlat, &format!("{CONFIG}{ROUTES}"));
        daemon.prints("Running as");
        net.xlat
            .ip("link set nat64 down\nlink set nat64 name other\nlink set other up");
        daemon.prints("nat64 is now called other");
        daemon.prints("ip route add 203.0.113.0/24 dev other");
    });
}

/// With CAP_NET_ADMIN kept they are brought back, every time.
#[test]
fn lost_routes_are_brought_back_with_net_admin() {
    xlatd_case(|net| {
        let config = format!("{CONFIG}{ROUTES}keep-net-admin yes\n");
        let daemon = Daemon::start_with("-u nobody", &net.xlat, &config);
        daemon.prints("Running as");
        for _ in 0..3 {
            ping(net);
            net.xlat.ip("link set nat64 down\nlink set nat64 up");
            crosses_in_the_end(net);
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

/// The kernel refuses what is not needed (seccomp(2)), unless it is told not to; leases are written all the same.
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
