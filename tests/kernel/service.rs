//! The service around the daemon, as far as it can be had without systemd(1) as process 1: the
//! commands of the units and what they restrict, the init script, and how all of it is installed
//! and removed.

use std::{
    collections::BTreeSet,
    fs,
    net::Ipv4Addr,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    clat::{PREFIX, clat_case},
    harness::{Daemon, Directory, Net, daemon, send, tayga, uninterrupted, wait_for, xlatd_case},
    socket::Capture,
};

/// The server, by the prefix of Debian's tayga.conf.
const SERVER6: &str = "2001:db8:1:ffff::192.0.2.2";

/// A machine within the machine: its own /etc with Debian's configuration and the user xlatd, its
/// own /run, /var/spool, /var/db and /var/lib, and a /dev/net/tun for all, as udev makes it.
const MACHINE: &str = r#"
set -e
mkdir "$DIR/etc" "$DIR/dev"
mount -t tmpfs tmpfs "$DIR/etc"
cp -a /etc/passwd /etc/group /etc/nsswitch.conf /etc/alternatives "$DIR/etc"
mkdir "$DIR/etc/default" "$DIR/etc/tayga"
cp "$DEBIAN/etc/default/tayga" "$DIR/etc/default/tayga"
cp "$DEBIAN/etc/tayga.conf" "$DIR/etc/tayga.conf"
echo 'xlatd:x:64464:' >>"$DIR/etc/group"
echo 'xlatd:x:64464:64464::/nonexistent:/usr/sbin/nologin' >>"$DIR/etc/passwd"
mount --bind "$DIR/etc" /etc
mkdir -p /var/spool /var/lib
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /var/spool
mount -t tmpfs tmpfs /mnt
mknod -m 666 /mnt/tun c 10 200
mount --bind /mnt/tun /dev/net/tun
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal
ln -s "$DIR/journal" /run/systemd/journal/socket
"#;

/// What a unit says of the process of ExecStart=, by other means: User=, AmbientCapabilities=,
/// CapabilityBoundingSet=, NoNewPrivileges=, and ProtectSystem=strict with ReadWritePaths= and
/// StateDirectory=.
const CONFINED: &str = r#"
set -e
for path in $WRITABLE; do
    [ ! -d "$path" ] || mount --bind "$path" "$path"
done
for path in / /etc /var/lib /var/spool /run /mnt; do
    mount -o remount,bind,ro "$path"
done
exec setpriv --reuid=xlatd --regid=xlatd --clear-groups --no-new-privs \
    --inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin --bounding-set=-all,+net_admin "$@"
"#;

/// A machine with xlatd installed.
struct Machine {
    directory: Directory,
    prefix: PathBuf,
    manager: UnixDatagram,
    _journal: UnixDatagram,
}

impl Machine {
    /// `None` where Debian's package is not to be had.
    fn new(init: &str) -> Option<Self> {
        tayga()?;
        let directory = Directory::new();
        let prefix = directory.file("prefix");
        let manager = UnixDatagram::bind(directory.file("manager")).unwrap();
        manager
            .set_read_timeout(Some(Duration::from_secs(15)))
            .unwrap();
        let journal = UnixDatagram::bind(directory.file("journal")).unwrap();
        // As those of systemd, which check who writes.
        for socket in ["manager", "journal"] {
            let permissions = fs::Permissions::from_mode(0o666);
            fs::set_permissions(directory.file(socket), permissions).unwrap();
        }
        let machine = Self {
            directory,
            prefix,
            manager,
            _journal: journal,
        };
        machine.install(&["--init", init]);
        fs::write(machine.directory.file("machine"), MACHINE).unwrap();
        fs::write(machine.directory.file("confined"), CONFINED).unwrap();
        Some(machine)
    }

    /// scripts/install with the program under test, outside of /etc.
    fn install(&self, arguments: &[&str]) {
        let output = install(&self.directory, Path::new("/."), &self.prefix, arguments);
        assert!(output.status.success(), "{output:?}");
    }

    /// The values of a setting of a unit, prefixes and specifiers resolved.
    fn unit(&self, unit: &str, instance: &str, setting: &str) -> Vec<String> {
        let path = self.prefix.join("lib/systemd/system").join(unit);
        let text = fs::read_to_string(path).unwrap();
        let setting = format!("{setting}=");
        let lines = text.lines().filter_map(|line| line.strip_prefix(&setting));
        lines
            .map(|value| value.trim_start_matches('+').replace("%i", instance))
            .collect()
    }

    /// Runs the service of a unit as far as its settings go, after `prepare`. At the end it runs
    /// what comes after the service, and lists what is left.
    fn start(&self, net: &Net, unit: &str, instance: &str, prepare: &str) -> Daemon {
        let setting = |name| self.unit(unit, instance, name);
        let state = format!("/var/lib/{}", setting("StateDirectory")[0]);
        let writable = setting("ReadWritePaths")[0].replace('-', "") + " " + &state;
        assert_eq!(setting("User"), ["xlatd"]);
        assert_eq!(setting("ProtectSystem"), ["strict"]);
        assert_eq!(setting("AmbientCapabilities"), ["CAP_NET_ADMIN"]);
        let script = format!(
            ". $DIR/machine\n{prepare}\n\
             mkdir -p {state}; chown -R xlatd: {state}\n\
             . /etc/default/tayga\n{}\n\
             NOTIFY_SOCKET=$DIR/manager STATE_DIRECTORY={state} WRITABLE='{writable}' \
             unshare --mount sh $DIR/confined {} & pid=$!\n\
             set +e\necho $pid >$DIR/pid\nwait $pid\necho \"exit status $?\"\n{}\n\
             ip link show nat64 2>&1\nnft list ruleset\nip route show dev nat64 2>&1\n\
             find /var -name dynamic.map -exec stat -c '%U %n' {{}} + -exec cat {{}} +\necho the end\n",
            setting("ExecStartPre").join("\n"),
            setting("ExecStart")[0],
            setting("ExecStopPost").join("\n"),
        );
        self.launch(net, &script)
    }

    fn launch(&self, net: &Net, script: &str) -> Daemon {
        let path = self.directory.file("script");
        fs::write(&path, format!("set +e\n{script}")).unwrap();
        let tayga = tayga().unwrap();
        let debian = tayga.ancestors().nth(3).unwrap();
        let variables = [
            format!("DIR={}", self.directory.file("").display()),
            format!("DEBIAN={}", debian.display()),
            format!("PREFIX={}", self.prefix.display()),
        ];
        let mut launcher = vec!["env"];
        launcher.extend(variables.iter().map(String::as_str));
        let path = path.display().to_string();
        launcher.extend(["unshare", "--mount", "sh", &path]);
        Daemon::start_by(&launcher, &net.xlat, "")
    }

    /// Waits until the service manager has been told.
    fn is_ready(&self) {
        let mut buffer = [0; 1024];
        let len = uninterrupted(|| self.manager.recv(&mut buffer)).unwrap();
        assert!(buffer[..len].starts_with(b"READY=1"));
    }

    fn stop(&self, service: &Daemon) {
        let pid = fs::read_to_string(self.directory.file("pid")).unwrap();
        send(Signal::SIGTERM, &pid);
        service.prints("the end");
        let log = service.log();
        assert!(log.contains("exit status 0"), "{log}");
        assert!(log.contains("Device \"nat64\" does not exist"), "{log}");
        assert!(!log.contains("table ip"), "{log}");
    }
}

/// Runs scripts/install of the program under test.
fn install(directory: &Directory, destdir: &Path, prefix: &Path, arguments: &[&str]) -> Output {
    let mut install = installer(directory, destdir, prefix, arguments);
    install.env("BINARY", daemon()).output().unwrap()
}

/// scripts/install of whatever was built.
fn installer(directory: &Directory, destdir: &Path, prefix: &Path, arguments: &[&str]) -> Command {
    let mut install = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install"));
    install
        .args(arguments)
        .env("DESTDIR", destdir)
        .env("PREFIX", prefix)
        .current_dir(directory.file(""));
    install
}

fn ping(net: &Net) {
    net.client
        .run(&format!("ping -n -c 1 -i 0.1 -w 15 {SERVER6}"));
}

/// Debian's untouched tayga.conf and /etc/default/tayga: the service starts, packets cross with
/// NAT44, it stops, and nothing is left.
#[test]
fn debians_configuration_runs_as_a_service() {
    xlatd_case(|net| {
        let Some(machine) = Machine::new("systemd") else {
            return;
        };
        let service = machine.start(net, "tayga.service", "", "");
        machine.is_ready();
        let seen = Capture::start(&net.server);
        ping(net);
        // What the server saw came from the router, and not from the pool.
        seen.ipv4("the ping", |packet| {
            packet.source == Ipv4Addr::new(198, 51, 100, 1)
        });
        let rules = net.xlat.run("nft list table ip tayga_nat64");
        assert!(rules.contains("192.168.255.0/24"), "{rules}");
        machine.stop(&service);
        let log = service.log();
        assert!(log.contains("xlatd /var/spool/tayga/dynamic.map"), "{log}");
        assert!(log.contains("\t2001:db8:6::10\t"), "{log}");
    });
}

/// Leases are in root's directories, wherever these are in the field: they are taken over, and
/// written by the user.
#[test]
fn leases_in_the_field_are_taken_over() {
    xlatd_case(|net| {
        for (unit, instance, data_dir) in [
            ("tayga.service", "", "/var/spool/tayga"),
            ("tayga.service", "", "/var/db/tayga"),
            ("tayga.service", "", "/var/lib/tayga"),
            ("tayga@.service", "one", "/var/lib/tayga/one"),
            ("tayga@.service", "one", "/var/lib/tayga-one"),
            ("tayga@.service", "one", "/var/spool/tayga"),
        ] {
            let Some(machine) = Machine::new("systemd") else {
                return;
            };
            let prepare = format!(
                "mkdir -p {data_dir}\n\
                 printf '192.168.255.77\\t2001:db8:6::77\\t4000000000\\n' >{data_dir}/dynamic.map\n\
                 sed -i 's,^data-dir.*,data-dir {data_dir},' /etc/tayga.conf\n\
                 {{ cat /etc/tayga.conf; echo 'tun-up yes'; echo 'tun-route 192.168.255.0/24'\n\
                 echo 'tun-route 2001:db8:1:ffff::/96'; }} >/etc/tayga/one.conf\n"
            );
            // There is no /var/db on Debian: a directory of the machine's own, not of this one.
            let prepare = if data_dir.starts_with("/var/db") {
                format!(
                    "mount -t tmpfs tmpfs /var\nmkdir /var/spool /var/lib /var/db\nmount -t tmpfs tmpfs /var/spool\nmount -t tmpfs tmpfs /var/lib\n{prepare}"
                )
            } else {
                prepare
            };
            net.gate4
                .output("ip route add 192.168.255.0/24 via 198.51.100.1");
            net.server
                .output("ip route add 192.168.255.0/24 via 192.0.2.1");
            let service = machine.start(net, unit, instance, &prepare);
            machine.is_ready();
            ping(net);
            machine.stop(&service);
            let log = service.log();
            let owned = format!("xlatd {data_dir}/dynamic.map");
            assert!(log.contains(&owned), "{unit} {data_dir}: {log}");
            assert!(
                log.contains("192.168.255.77\t2001:db8:6::77\t"),
                "{data_dir}: {log}"
            );
            assert!(log.contains("\t2001:db8:6::10\t"), "{data_dir}: {log}");
        }
    });
}

/// The system calls of a set of systemd's, and of the sets within it.
fn calls_of(set: &str) -> BTreeSet<String> {
    let output = Command::new("systemd-analyze")
        .args(["syscall-filter", set])
        .output();
    let output = output.expect("systemd-analyze(1) of systemd");
    assert!(output.status.success(), "{set}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut calls = BTreeSet::new();
    for name in text.lines().map(str::trim).filter(|name| *name != set) {
        if name.starts_with('@') {
            calls.extend(calls_of(name));
        } else if !name.is_empty() && !name.starts_with('#') {
            calls.insert(name.to_owned());
        }
    }
    calls
}

/// The system calls that a unit lets through.
fn calls_let_through(machine: &Machine, unit: &str) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for filter in machine.unit(unit, "", "SystemCallFilter") {
        for word in filter.trim_start_matches('~').split(' ') {
            let calls = if word.starts_with('@') {
                calls_of(word)
            } else {
                [word.to_owned()].into()
            };
            if filter.starts_with('~') {
                allowed.retain(|call| !calls.contains(call));
            } else {
                allowed.extend(calls);
            }
        }
    }
    assert!(allowed.contains("read") && !allowed.contains("chroot"));
    allowed
}

/// What of a trace, from the start of the daemon on, the unit does not let through: system calls,
/// families of sockets.
fn refused(machine: &Machine, unit: &str, trace: &str) -> BTreeSet<String> {
    let allowed = calls_let_through(machine, unit);
    let families = machine.unit(unit, "", "RestrictAddressFamilies").join(" ");
    let (_, calls) = trace.split_once("/xlatd\", [").unwrap();
    let mut seen = BTreeSet::new();
    let mut refused = BTreeSet::new();
    for line in calls.lines().skip(1) {
        let line = line.trim_start_matches(|char: char| char.is_ascii_digit());
        let Some((name, rest)) = line.trim_start().split_once('(') else {
            continue;
        };
        if name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            seen.insert(name.to_owned());
            let family = rest.split(',').next().unwrap();
            if name == "socket" && !families.split(' ').any(|allowed| allowed == family) {
                refused.insert(family.to_owned());
            }
        }
    }
    assert!(
        seen.contains("capset") && seen.contains("seccomp"),
        "{seen:?}"
    );
    refused.extend(seen.difference(&allowed).cloned());
    refused
}

/// The units of a kind: each is held against what its daemon does.
const TRANSLATORS: [&str; 2] = ["tayga.service", "tayga@.service"];
const CLATS: [&str; 2] = ["xlatd-clat.service", "xlatd-clat@.service"];
/// Which makes no packets pass.
const OTHER: [&str; 1] = ["xlatd-metrics.service"];

#[test]
fn every_unit_is_of_a_kind() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/systemd");
    let mut units: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".service"))
        .collect();
    units.sort();
    assert_eq!(units, [&TRANSLATORS[..], &CLATS, &OTHER].concat());
}

/// What the units let through is what a translator does, from its start to its end.
#[test]
fn units_let_through_what_a_translator_does() {
    xlatd_case(|net| {
        let Some(machine) = Machine::new("systemd") else {
            return;
        };
        let trace = machine.directory.file("trace");
        let service = machine.launch(
            net,
            &format!(
                ". $DIR/machine\nset +e\nmkdir /var/spool/tayga\nchown xlatd: /var/spool/tayga\n\
                 echo 'map-file maps' >>/etc/tayga.conf\ntouch /var/spool/tayga/maps\n\
                 {{ echo tun-up yes; echo tun-ip 192.168.254.2/32; echo tun-route 192.168.255.0/24; echo tun-route 2001:db8:1:ffff::/96; }} >>/etc/tayga.conf\n\
                 NOTIFY_SOCKET=$DIR/manager strace -f -o {} setpriv --reuid=xlatd --regid=xlatd --clear-groups \
                 --no-new-privs --inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin \
                 --bounding-set=-all,+net_admin $PREFIX/sbin/xlatd -n --journal & pid=$!\n\
                 while [ ! -e $DIR/go ]; do sleep 0.05; done\n\
                 child=$(cat /proc/$pid/task/$pid/children)\n\
                 kill -HUP $child\nsleep 0.3\nip link set nat64 down\nip link set nat64 up\nsleep 0.3\n\
                 kill $child\nwait $pid\necho the end\n",
                trace.display()
            ),
        );
        machine.is_ready();
        ping(net);
        fs::write(machine.directory.file("go"), "").unwrap();
        service.prints("the end");
        let trace = fs::read_to_string(&trace).unwrap();
        for unit in TRANSLATORS {
            assert_eq!(refused(&machine, unit, &trace), BTreeSet::new(), "{unit}");
        }
    });
}

/// What the units let through is what a CLAT and nft(8) do, from its start to its end.
#[test]
fn units_let_through_what_a_clat_does() {
    clat_case(|net| {
        let Some(machine) = Machine::new("systemd") else {
            return;
        };
        let trace = machine.directory.file("trace");
        let trace_file = trace.display().to_string();
        let launcher = ["strace", "-f", "-o", &trace_file];
        let mut daemon = Daemon::start_clat_by(&launcher, &net.host, &net.runtime, "");
        daemon.prints("Waiting for");
        net.advertise(&[(PREFIX, 600)]);
        net.wait_for_ipv4();
        // strace(1) does not pass signals on.
        let children = format!("/proc/{pid}/task/{pid}/children", pid = daemon.pid());
        let child = fs::read_to_string(children).unwrap();
        send(Signal::SIGHUP, &child);
        daemon.prints("SIGHUP");
        send(Signal::SIGTERM, &child);
        daemon.wait();
        let trace = fs::read_to_string(&trace).unwrap();
        for unit in CLATS {
            assert_eq!(refused(&machine, unit, &trace), BTreeSet::new(), "{unit}");
        }
    });
}

/// tayga-link up that fails half-way leaves nothing, and says what it was about.
#[test]
fn setting_up_the_network_is_undone_if_it_fails() {
    xlatd_case(|net| {
        let Some(machine) = Machine::new("systemd") else {
            return;
        };
        net.xlat.sysctl("ipv6/conf/default/disable_ipv6", "1");
        let service = machine.launch(
            net,
            ". $DIR/machine\nset +e\n$PREFIX/lib/xlatd/tayga-link up\necho \"up: $?\"\n\
             ip link show nat64\nnft list ruleset\n\
             echo 0 >/proc/sys/net/ipv6/conf/default/disable_ipv6\n\
             $PREFIX/lib/xlatd/tayga-link up\n\
             $PREFIX/lib/xlatd/tayga-link up\necho \"twice: $?\"\nnft list ruleset | grep -c masquerade\n\
             $PREFIX/lib/xlatd/tayga-link down\n$PREFIX/lib/xlatd/tayga-link down\necho \"down: $?\"\n\
             ip link show nat64\nmkdir $DIR/no-nft\nfor f in awk ip id stat chown mkdir dirname printf tr rm sed; do\n\
             ln -s \"$(command -v $f)\" $DIR/no-nft/$f 2>/dev/null; done\n\
             PATH=$DIR/no-nft $PREFIX/lib/xlatd/tayga-link up\necho \"without nft: $?\"\n\
             ip link show nat64\necho the end\n",
        );
        service.prints("the end");
        let log = service.log();
        assert!(
            log.contains("tayga-link: cannot route 2001:db8:1:ffff::/96 to nat64"),
            "{log}"
        );
        for line in [
            "up: 1",
            "twice: 0\n1\n",
            "down: 0",
            "without nft: 1",
            "install nftables",
        ] {
            assert!(log.contains(line), "{line}: {log}");
        }
        assert_eq!(
            log.matches("Device \"nat64\" does not exist").count(),
            3,
            "{log}"
        );
    });
}

/// What was there before a set-up that fails is there after it; NAT44 goes also when it is not
/// wanted any more; and the administrator's settings may add to what is not set.
#[test]
fn setting_up_the_network_touches_nothing_else() {
    xlatd_case(|net| {
        let Some(machine) = Machine::new("systemd") else {
            return;
        };
        net.xlat.sysctl("ipv6/conf/default/disable_ipv6", "1");
        net.xlat.ip("tuntap add dev nat64 mode tun
            addr add 203.0.113.77/32 dev nat64");
        let service = machine.launch(
            net,
            ". $DIR/machine\nset +e\nlink=$PREFIX/lib/xlatd/tayga-link\n\
             $link up\necho \"up: $?\"\n\
             ip -o -4 address show dev nat64\nip route show dev nat64\nip link show dev nat64 up\necho before\n\
             ip link delete nat64\necho 0 >/proc/sys/net/ipv6/conf/default/disable_ipv6\n\
             echo 'DAEMON_OPTS=\"$DAEMON_OPTS --syslog\"' >>/etc/default/tayga\n\
             $link up\necho \"again: $?\"\n\
             echo CONFIGURE_NAT44=no >>/etc/default/tayga\n$link down\nnft list ruleset\necho the end\n",
        );
        service.prints("the end");
        let log = service.log();
        assert!(log.contains("up: 1"), "{log}");
        let left = between(&log, "up: 1\n", "before\n");
        assert!(
            left.lines().count() == 1 && left.contains("203.0.113.77/32"),
            "{log}"
        );
        assert!(log.contains("again: 0"), "{log}");
        assert!(!log.contains("table ip"), "{log}");
    });
}

/// What Debian's script has left where xlatd replaces a running tayga goes with the set-up: its
/// rule for NAT44, which has a comment since Debian 14, and no other.
#[test]
fn rules_of_debians_script_go() {
    xlatd_case(|net| {
        let Some(machine) = Machine::new("systemd") else {
            return;
        };
        let rule = "iptables -t nat -A POSTROUTING -s 192.168.255.0/24 -j MASQUERADE";
        let comment = "-m comment --comment";
        let service = machine.launch(
            net,
            &format!(
                ". $DIR/machine\nset +e\nlink=$PREFIX/lib/xlatd/tayga-link\n$link up\n\
                 {rule}\n{rule} {comment} tayga-NAT44\n{rule} {comment} other\n\
                 $link down\necho rules\niptables -t nat -S POSTROUTING\necho the end\n"
            ),
        );
        service.prints("the end");
        let log = service.log();
        let left = between(&log, "rules\n", "the end");
        assert_eq!(left.matches("MASQUERADE").count(), 1, "{log}");
        assert!(left.contains("other"), "{log}");
    });
}

/// Routes that are in the way stay behind ours, as with tun-route, and are used again in the end;
/// that one with a better metric is used instead is said. A device whose number the kernel chooses
/// cannot be set up by its name.
#[test]
fn setting_up_the_network_goes_before_other_routes() {
    xlatd_case(|net| {
        let Some(machine) = Machine::new("systemd") else {
            return;
        };
        net.xlat.ip("route add unreachable 192.168.255.0/24
            route add 2001:db8:1:ffff::/96 via 2001:db8:60::2
            route add 2001:db8:1:ffff::/96 via 2001:db8:60::2 metric 1023
            route add 2001:db8:1:ffff::/96 via 2001:db8:60::2 metric 1021");
        let routes = "{ ip -4 route; ip -6 route; }";
        let service = machine.launch(
            net,
            &format!(
                ". $DIR/machine\nset +e\nlink=$PREFIX/lib/xlatd/tayga-link\n{routes} >$DIR/before\n\
                 $link up\necho \"up: $?\"\n\
                 ip route get 192.168.255.9\n\
                 ip route delete 2001:db8:1:ffff::/96 metric 1021\n\
                 ip route get 2001:db8:1:ffff::9\n\
                 ip route add 2001:db8:1:ffff::/96 via 2001:db8:60::2 metric 1021\n\
                 $link up\necho \"twice: $?\"\n$link down\necho \"down: $?\"\n\
                 {routes} | diff $DIR/before - && echo as before\n\
                 sed -i 's/nat64/nat%d/' /etc/tayga.conf\n$link up\necho \"number: $?\"\n\
                 ip -o link show type tun\necho the end\n"
            ),
        );
        service.prints("the end");
        let log = service.log();
        let up = between(&log, "up: 0\n", "twice: 0\n");
        assert_eq!(up.matches(" dev nat64 ").count(), 2, "{log}");
        assert_eq!(
            log.matches("goes before another route, which").count(),
            2,
            "{log}"
        );
        // Each time it is set up.
        let not_used = "2001:db8:1:ffff::/96 to nat64 is not used, another route goes before it; \
                        delete that: 2001:db8:1:ffff::/96 via 2001:db8:60::2 dev gate6 metric 1021";
        assert_eq!(log.matches(not_used).count(), 2, "{log}");
        assert!(log.contains("down: 0\nas before\n"), "{log}");
        assert!(log.contains("give it a name in /etc/tayga.conf"), "{log}");
        assert!(log.contains("number: 1\nthe end"), "{log}");
    });
}

/// Only a directory that is root's alone, and for leases alone, is given to the user; a link that
/// the user could have put there leads to nothing of the system's.
#[test]
fn no_other_directory_is_given_away() {
    xlatd_case(|net| {
        let Some(machine) = Machine::new("systemd") else {
            return;
        };
        let service = machine.launch(
            net,
            ". $DIR/machine\nset +e\ncd /var/spool\n\
             mkdir empty leases full shared system user\n\
             touch leases/dynamic.map leases/dynamic.map~~ leases/dynamic.map.lock leases/maps full/dynamic.map full/.other\n\
             chmod 1777 shared\nchown xlatd: user\nln -s /var/spool/system user/link\n\
             for name in empty leases full shared user/link new/er; do\n\
             { sed '/^data-dir/d' /etc/tayga.conf; echo 'Data-Dir /etc'; echo map-file maps;\n\
             printf '\\tDATA-dir  /var/spool/%s/ #the last one\\r\\n' $name; } >$DIR/adopt.conf\n\
             $PREFIX/lib/xlatd/tayga-link adopt $DIR/adopt.conf\necho \"$name: $?\"\ndone\n\
             stat -c '%n is of %U' empty leases leases/dynamic.map leases/dynamic.map.lock full shared system new new/er\necho the end\n",
        );
        service.prints("the end");
        let log = service.log();
        for line in [
            "empty is of xlatd",
            "leases is of xlatd",
            "leases/dynamic.map is of root",
            "leases/dynamic.map.lock is of xlatd",
            "full is of root",
            "shared is of root",
            "system is of root",
            "new is of root",
            "new/er is of xlatd",
        ] {
            assert!(log.contains(&format!("\n{line}\n")), "{line}: {log}");
        }
        for name in ["full", "shared", "user/link"] {
            let advice = format!("chown xlatd /var/spool/{name}/\n{name}: 0\n");
            assert!(log.contains(&advice), "{advice}: {log}");
        }
    });
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap();
    rest.split_once(to).unwrap().0
}

/// The init script: start returns when packets flow, status and reload know the daemon, stop leaves
/// nothing.
#[test]
fn init_script_runs_debians_configuration() {
    xlatd_case(|net| {
        let Some(machine) = Machine::new("systemd") else {
            return;
        };
        // Not into this machine's /etc.
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/init.d/tayga"))
                .unwrap();
        let script = machine.directory.file("init");
        fs::write(
            &script,
            text.replace("@PREFIX@", &machine.prefix.display().to_string()),
        )
        .unwrap();
        let service = machine.launch(
            net,
            ". $DIR/machine\nset +e\ninit() { sh $DIR/init $1; echo \"$1: $?\"; }\n\
             echo 'DAEMON_OPTS=-d' >>/etc/default/tayga\ninit start\n\
             echo 'DAEMON_OPTS=\"--nodetach --syslog\"' >>/etc/default/tayga\n\
             init status\ninit start\ninit start\ninit status\ninit reload\n\
             setpriv --reuid=xlatd --clear-groups sh $DIR/init status\necho \"for others: $?\"\n\
             cp $PREFIX/sbin/xlatd $DIR/newer\nmv $DIR/newer $PREFIX/sbin/xlatd\ninit status\n\
             grep -E 'Uid|CapEff' /proc/$(cat /run/tayga.pid)/status\n\
             touch $DIR/started\nwhile [ ! -e $DIR/stop ]; do sleep 0.05; done\n\
             init restart\ninit stop\ninit stop\ninit status\nls /run/tayga.pid\n\
             ip link show nat64\nnft list ruleset\ncat /var/spool/tayga/dynamic.map\necho the end\n",
        );
        wait_for("the start", || {
            machine.directory.file("started").exists().then_some(())
        });
        net.client.run(&format!("ping -n -c 1 -W 15 {SERVER6}"));
        fs::write(machine.directory.file("stop"), "").unwrap();
        service.prints("the end");
        let log = service.log();
        let mut rest = log.as_str();
        for expected in [
            "keeps it in the foreground",
            "start: 1",
            "status: 3",
            "tayga is started.\nstart: 0",
            "running already.\nstart: 0",
            "status: 0",
            "reload: 0",
            "for others: 0",
            "status: 0",
            "Uid:\t64464\t64464\t64464\t64464",
            "CapEff:\t0000000000000000",
            "tayga is stopped.",
            "restart: 0",
            "tayga is stopped.",
            "stop: 0",
            "stop: 0",
            "status: 3",
            "Device \"nat64\" does not exist",
            "\t2001:db8:6::10\t",
        ] {
            let at = rest.find(expected);
            let at = at.unwrap_or_else(|| panic!("{expected:?} is missing: {log}"));
            rest = &rest[at + expected.len()..];
        }
        assert!(!log.contains("table ip"), "{log}");
    });
}

/// What is installed is removed, and a script of Debian's that was there comes back.
#[test]
fn what_is_installed_is_removed() {
    for (init, files) in [
        (
            "systemd",
            &[
                "lib/systemd/system/tayga.service",
                "lib/sysusers.d/xlatd.conf",
                "lib/tmpfiles.d/xlatd.conf",
            ][..],
        ),
        ("sysv", &[]),
        ("openrc", &[]),
        ("none", &[]),
    ] {
        let root = Directory::new();
        let script = root.file("etc/init.d/tayga");
        fs::create_dir_all(script.parent().unwrap()).unwrap();
        fs::write(&script, "Debian's\n").unwrap();
        let run = |arguments: &[&str]| install(&root, &root.file(""), Path::new("/usr"), arguments);
        for _ in 0..2 {
            let output = run(&["--init", init, "--names", "tayga"]);
            assert!(output.status.success(), "{output:?}");
        }
        let all = [
            &[
                "sbin/xlatd",
                "lib/xlatd/tayga-link",
                "share/man/man8/xlatd.8",
            ],
            files,
        ]
        .concat();
        for file in all {
            let path = root.file("usr").join(file);
            assert!(path.exists(), "{init}: {}", path.display());
            let text = fs::read(&path).unwrap();
            assert!(!text.windows(8).any(|eight| eight == b"@PREFIX@"), "{file}");
        }
        assert_eq!(
            fs::read_link(root.file("usr/sbin/tayga")).unwrap(),
            Path::new("xlatd")
        );
        let installed = fs::read_to_string(&script).unwrap();
        assert_eq!(
            installed.contains("xlatd"),
            matches!(init, "sysv" | "openrc")
        );
        let scripts = fs::read_dir(script.parent().unwrap()).unwrap();
        assert_eq!(scripts.count(), 1, "a second script would start, too");
        let output = run(&["uninstall"]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read_to_string(&script).unwrap(), "Debian's\n");
        assert_eq!(files_in(&root.file("")), [script]);
        assert_eq!(run(&["uninstall"]).status.code(), Some(1));
    }
}

/// A program that is not xlatd keeps its name, and nothing is installed then.
#[test]
fn another_program_is_not_replaced() {
    let root = Directory::new();
    let theirs = root.file("usr/sbin/tayga");
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    fs::write(&theirs, "Debian's\n").unwrap();
    let arguments = ["--init", "systemd", "--names", "tayga"];
    let output = install(&root, &root.file(""), Path::new("/usr"), &arguments);
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(
        printed.contains("sbin/tayga is another program"),
        "{printed}"
    );
    assert_eq!(files_in(&root.file("")), [theirs]);
}

/// The program is taken from where cargo has built it, which CARGO_TARGET_DIR may say.
#[test]
fn the_program_is_found_where_cargo_has_built_it() {
    let root = Directory::new();
    let built = root.file("elsewhere/release/xlatd");
    fs::create_dir_all(built.parent().unwrap()).unwrap();
    fs::write(&built, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&built, fs::Permissions::from_mode(0o755)).unwrap();
    let destdir = root.file("root");
    let mut install = installer(&root, &destdir, Path::new("/usr"), &["--init", "none"]);
    install.env_remove("BINARY");
    install.env("CARGO_TARGET_DIR", root.file("elsewhere"));
    let output = install.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let installed = fs::read_to_string(destdir.join("usr/sbin/xlatd")).unwrap();
    assert_eq!(installed, "#!/bin/sh\n");
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_in(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}
