//! `xlatd doctor`: everything that it can find is broken here, alone, and is what it names first;
//! and the commands that it gives mend it.

use std::{
    env,
    ffi::OsString,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::clat::NameServer;
use crate::harness::{
    CONFIG, Daemon, Directory, Net, Netns, SERVER6, daemon, tayga, wait_for, xlatd_case,
};

/// What the doctor said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    /// Of one translator or CLAT.
    pub(crate) data: Value,
    /// The same for people.
    pub(crate) text: String,
}

impl Said {
    pub(crate) fn keys(&self) -> Vec<&str> {
        let findings = self.data["findings"].as_array().unwrap();
        findings
            .iter()
            .map(|one| one["key"].as_str().unwrap())
            .collect()
    }

    pub(crate) fn problem(&self) -> &str {
        self.data["findings"][0]["problem"].as_str().unwrap()
    }

    /// All commands, in the order of the findings.
    pub(crate) fn commands(&self) -> Vec<&str> {
        let findings = self.data["findings"].as_array().unwrap();
        let commands = findings
            .iter()
            .flat_map(|one| one["commands"].as_array().unwrap());
        commands.map(|one| one.as_str().unwrap()).collect()
    }
}

/// Asks the doctor, in a namespace. `runtime` is where the daemons have their sockets. With
/// `prepare`, lines of sh(1) that are run before, with mounts of its own.
pub(crate) fn ask(ns: &Netns, runtime: &Directory, prepare: &str, arguments: &str) -> Said {
    let run = |option: &str| {
        let script = format!(
            "mount -t tmpfs none /mnt || exit 99\n{prepare}\nexec \"$0\" doctor {option} {arguments}"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "timeout", "60", "sh", "-c", &script]);
        command
            .arg(daemon())
            .env("RUNTIME_DIRECTORY", path_of(runtime));
        let output = ns.inside(|| command.stdin(Stdio::null()).output()).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text + &errors)
    };
    // What it looks at may change between the two.
    let (status, json, text) = wait_for("the same twice", || {
        let ((status, json), (again, text)) = (run("--json"), run(""));
        (status == again).then_some((status, json, text))
    });
    let mut data: Value = serde_json::from_str(&json).unwrap_or_else(|_| panic!("{json}"));
    assert_eq!(data.as_array().unwrap().len(), 1, "{json}");
    Said {
        status,
        data: data[0].take(),
        text,
    }
}

fn path_of(directory: &Directory) -> PathBuf {
    directory.file("x").parent().unwrap().to_owned()
}

/// A translator that works, and its doctor.
pub(crate) struct Patient<'a> {
    pub(crate) net: &'a Net,
    runtime: Directory,
    config: String,
    daemon: Option<Daemon>,
}

impl<'a> Patient<'a> {
    fn new(net: &'a Net, more: &str) -> Self {
        Self::set_up(net, more, |net| {
            net.route_to_device();
            net.xlat.ip("route add 192.168.255.0/24 dev nat64");
        })
    }

    /// `route` sets the device up, and routes to it.
    pub(crate) fn set_up(net: &'a Net, more: &str, route: impl FnOnce(&Net)) -> Self {
        let runtime = Directory::new();
        // TAYGA opens one queue, and here is one worker.
        net.xlat.ip("tuntap add dev nat64 mode tun one_queue");
        route(net);
        let config = format!("{CONFIG}dynamic-pool 192.168.255.0/24\n{more}");
        let path = runtime.file("tayga.conf");
        fs::write(&path, config).unwrap();
        let path = path.display().to_string();
        let command = format!(
            "env RUNTIME_DIRECTORY={} {} -n -c {path}",
            path_of(&runtime).display(),
            daemon().display()
        );
        let daemon = Daemon::start_command(&net.xlat, &command);
        daemon.prints("Running as");
        net.wait_for_daemon();
        Self {
            net,
            runtime,
            config: path,
            daemon: Some(daemon),
        }
    }

    fn ask(&self) -> Said {
        self.ask_with("")
    }

    fn ask_with(&self, prepare: &str) -> Said {
        ask(
            &self.net.xlat,
            &self.runtime,
            prepare,
            &format!("-c {}", self.config),
        )
    }

    /// Nothing is found.
    pub(crate) fn is_well(&self) {
        let said = self.ask();
        assert_eq!(said.keys(), [""; 0], "{}", said.text);
        assert_eq!(said.status, 0, "{}", said.text);
        assert!(
            said.text.contains("Nothing found. Looked at: "),
            "{}",
            said.text
        );
    }

    /// This is what is found first.
    pub(crate) fn has(&self, key: &str) -> Said {
        let said = self.ask();
        assert_eq!(said.keys().first(), Some(&key), "{}", said.text);
        assert_eq!(said.status, 1, "{}", said.text);
        assert!(said.text.contains(&format!("\n\n{key}: ")), "{}", said.text);
        println!("{}", said.text);
        said
    }

    /// Breaks something, by lines of sh(1): this is what is found first, and the commands mend it.
    pub(crate) fn breaks_and_mends(&self, key: &str, breaks: &str) -> Said {
        sh(&self.net.xlat, breaks);
        let said = self.has(key);
        sh(&self.net.xlat, &said.commands().join("\n"));
        self.is_well();
        said
    }
}

/// Runs lines of sh(1), all of which must succeed.
pub(crate) fn sh(ns: &Netns, lines: &str) {
    let mut path: OsString = daemon().parent().unwrap().into();
    path.push(":");
    path.push(env::var_os("PATH").unwrap());
    let mut command = Command::new("sh");
    command
        .args(["-e", "-c", lines])
        .env("PATH", path)
        .stdin(Stdio::null());
    let output = ns.inside(|| command.output()).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{lines}: {errors}");
}

/// A patient, and what is done with it.
pub(crate) fn patient_case(body: impl FnOnce(Patient<'_>)) {
    xlatd_case(|net| body(Patient::new(net, "")));
}

#[test]
fn a_translator_that_works_is_well() {
    patient_case(|patient| {
        crosses(patient.net);
        patient.is_well();
        // By its device, or all that run, it is found by its control socket or in /proc.
        for arguments in ["", "nat64"] {
            let said = ask(&patient.net.xlat, &patient.runtime, "", arguments);
            assert_eq!(said.status, 0, "{}", said.text);
            assert_eq!(said.data["config"], patient.config.as_str());
            assert_eq!(said.data["device"], "nat64");
        }
    });
}

pub(crate) fn crosses(net: &Net) {
    let ping = format!("ping -n -c 1 -W 1 {SERVER6}");
    wait_for("an echo", || {
        net.client.output(&ping).status.success().then_some(())
    });
}

#[test]
fn a_translator_that_does_not_run_is_found() {
    patient_case(|mut patient| {
        patient.daemon = None;
        let start = format!("xlatd -c {}", patient.config);
        let said = patient.has("not-running");
        assert_eq!(said.keys(), ["not-running"]);
        let ways = [vec![start.as_str()], vec!["systemctl start tayga"]];
        assert!(ways.contains(&said.commands()), "{:?}", said.commands());
        patient.net.xlat.ip("link delete dev nat64");
        let said = patient.has("not-running");
        assert!(
            said.problem().contains("there is no device nat64"),
            "{}",
            said.text
        );
    });
}

/// The kernel gives the packets to whoever has attached.
#[test]
fn tayga_on_the_device_is_found() {
    patient_case(|mut patient| {
        let Some(tayga) = tayga() else { return };
        patient.daemon = None;
        let other = Daemon::start_program(&tayga, &patient.net.xlat, CONFIG);
        patient.net.wait_for_daemon();
        let said = patient.has("other-program");
        let name = tayga.file_name().unwrap().to_str().unwrap();
        let words = format!("nat64 is used by {name} (process {})", other.pid());
        assert!(said.problem().contains(&words), "{}", said.text);
        assert_eq!(said.commands()[0], format!("kill {}", other.pid()));
        drop(other);
        patient.has("not-running");
    });
}

/// A second instance is refused, so it is not there: that is why.
#[test]
fn a_data_dir_of_two_instances_is_found() {
    xlatd_case(|net| {
        let leases = Directory::new();
        let more = format!("data-dir {}\n", path_of(&leases).display());
        let patient = Patient::new(net, &more);
        patient.is_well();
        let config = fs::read_to_string(&patient.config).unwrap();
        let second = patient.runtime.file("second.conf");
        fs::write(&second, config.replace("nat64", "nat65")).unwrap();
        let said = ask(
            &net.xlat,
            &patient.runtime,
            "",
            &format!("-c {}", second.display()),
        );
        assert_eq!(said.keys().first(), Some(&"data-dir"), "{}", said.text);
        let pid = patient.daemon.as_ref().unwrap().pid();
        assert!(
            said.problem()
                .contains(&format!("(process {pid}) for nat64")),
            "{}",
            said.text
        );
        assert_eq!(said.status, 1);
    });
}

#[test]
fn a_file_that_has_changed_since_is_found() {
    xlatd_case(|net| {
        let maps = Directory::new();
        let map_file = maps.file("maps");
        fs::write(&map_file, "map 203.0.113.77 2001:db8:6::77\n").unwrap();
        let patient = Patient::new(net, &format!("map-file {}\n", map_file.display()));
        patient.is_well();
        let more = "map 203.0.113.77 2001:db8:6::77\nmap 203.0.113.78 2001:db8:6::78\n";
        fs::write(&map_file, more).unwrap();
        let said = patient.has("file-changed");
        assert!(
            said.problem().starts_with(&map_file.display().to_string()),
            "{}",
            said.text
        );
        let pid = patient.daemon.as_ref().unwrap().pid();
        assert_eq!(said.commands(), [format!("kill -HUP {pid}")]);
        sh(&net.xlat, said.commands()[0]);
        wait_for("a reload", || patient.ask().keys().is_empty().then_some(()));
        let config = fs::read_to_string(&patient.config).unwrap();
        fs::write(&patient.config, config + "# another line\n").unwrap();
        let said = patient.has("file-changed");
        assert!(said.problem().starts_with(&patient.config), "{}", said.text);
    });
}

/// What follows from it, as the routes that are gone, comes behind it: all commands mend it.
#[test]
fn the_device_is_looked_at() {
    patient_case(|patient| {
        patient.breaks_and_mends("device-down", "ip link set dev nat64 down");
        patient.breaks_and_mends("mtu", "ip link set dev nat64 mtu 1279");
        crosses(patient.net);
    });
}

#[test]
fn ipv6_that_is_disabled_is_found() {
    patient_case(|patient| {
        patient.breaks_and_mends(
            "ipv6-disabled",
            "sysctl -w net.ipv6.conf.nat64.disable_ipv6=1",
        );
        patient.breaks_and_mends(
            "ipv6-disabled",
            "sysctl -w net.ipv6.conf.default.disable_ipv6=1",
        );
        sh(
            &patient.net.xlat,
            "sysctl -w net.ipv6.conf.all.disable_ipv6=1",
        );
        let said = patient.has("ipv6-disabled");
        assert!(
            said.problem().contains("net.ipv6.conf.all.disable_ipv6"),
            "{}",
            said.text
        );
    });
}

/// IPv4 is forwarded by the device that it comes in by. IPv6 is by all or none, whatever
/// `forwarding` of a device is (Documentation/networking/ip-sysctl.rst of Linux).
#[test]
fn forwarding_that_is_off_is_found() {
    patient_case(|patient| {
        let ipv4 = "forwarding-ipv4";
        patient.breaks_and_mends(ipv4, "sysctl -w net.ipv4.ip_forward=0");
        for device in ["nat64", "gate4"] {
            let off = format!("sysctl -w net.ipv4.conf.{device}.forwarding=0");
            let said = patient.breaks_and_mends(ipv4, &off);
            let on = format!("sysctl -w net.ipv4.conf.{device}.forwarding=1");
            assert_eq!(said.commands(), [on]);
        }
        patient.breaks_and_mends(
            "forwarding-ipv6",
            "sysctl -w net.ipv6.conf.all.forwarding=0",
        );
        sh(
            &patient.net.xlat,
            "sysctl -w net.ipv6.conf.nat64.forwarding=0 net.ipv6.conf.gate6.forwarding=0",
        );
        crosses(patient.net);
        patient.is_well();
    });
}

/// A default route of Router Advertisements would be lost with forwarding on.
#[test]
fn forwarding_keeps_the_default_route() {
    patient_case(|patient| {
        let xlat = &patient.net.xlat;
        xlat.ip("route add default via 2001:db8:60::2 dev gate6");
        sh(
            xlat,
            "sysctl -w net.ipv6.conf.all.forwarding=0 net.ipv6.conf.gate6.accept_ra=1",
        );
        let said = patient.has("forwarding-ipv6");
        assert_eq!(
            said.commands(),
            [
                "sysctl -w net.ipv6.conf.gate6.accept_ra=2",
                "sysctl -w net.ipv6.conf.all.forwarding=1",
            ]
        );
    });
}

#[test]
fn routes_that_are_missing_or_lead_elsewhere_are_found() {
    patient_case(|patient| {
        for (breaks, words) in [
            (
                "ip -6 route delete 2001:db8:64::/96 dev nat64",
                "has no route",
            ),
            (
                "ip -6 route replace 2001:db8:64::/96 via 2001:db8:60::2 dev gate6 metric 1",
                "goes to gate6",
            ),
            (
                "ip -6 route add unreachable 2001:db8:64::/96 metric 1",
                "unreachable",
            ),
            ("ip route delete 192.168.255.0/24 dev nat64", "has no route"),
            (
                "ip route add 192.168.255.128/25 via 198.51.100.2",
                "another network by gate4",
            ),
            (
                "ip route add 203.0.113.10/32 via 198.51.100.2",
                "goes to gate4",
            ),
            ("ip route delete 203.0.113.0/24 dev nat64", "other maps"),
        ] {
            sh(&patient.net.xlat, breaks);
            let said = patient.has("route");
            assert!(said.problem().contains(words), "{}", said.text);
            // The kernel does not say which one is unreachable, and another network has its
            // reasons.
            if ["unreachable", "another network by gate4"].contains(&words) {
                sh(&patient.net.xlat, &breaks.replace(" add ", " delete "));
            } else {
                sh(&patient.net.xlat, &said.commands().join("\n"));
            }
            patient.is_well();
        }
        // The host of a map is behind the translator itself.
        patient
            .net
            .xlat
            .ip("route add 2001:db8:6::10/128 dev nat64");
        let said = patient.has("route");
        assert!(
            said.problem().contains("both sides of the map"),
            "{}",
            said.text
        );
        crosses_again(&patient, "ip -6 route delete 2001:db8:6::10/128 dev nat64");
    });
}

fn crosses_again(patient: &Patient<'_>, mends: &str) {
    sh(&patient.net.xlat, mends);
    crosses(patient.net);
    patient.is_well();
}

/// Only packets that come in by the device of their answers are routed to the translator: the
/// kernel knows that way back.
#[test]
fn routes_for_one_device_alone_are_routes() {
    xlatd_case(|net| {
        let patient = Patient::set_up(net, "", |net| {
            net.xlat.ip("link set nat64 up
                route add 2001:db8:64::/96 dev nat64
                route add 203.0.113.0/24 dev nat64 table 100
                route add 192.168.255.0/24 dev nat64 table 100
                rule add iif gate4 table 100");
        });
        net.xlat.sysctl("ipv4/conf/nat64/rp_filter", "1");
        crosses(net);
        patient.is_well();
    });
}

/// The translator of a host that is a client of a NAT64, and uses it for marked packets alone: the
/// routes back from the translator are for unmarked packets.
#[test]
fn a_reverse_path_filter_is_found() {
    xlatd_case(|net| {
        // The client is the server 198.51.100.99, by the prefix.
        net.client
            .ip("addr add 2001:db8:6::c633:6463/64 dev gate6 nodad");
        net.xlat.ip("tuntap add dev nat64 mode tun
            link set nat64 up
            addr add 192.0.0.1/32 dev nat64
            route add default dev nat64 table 100
            rule add fwmark 1 table 100
            route add default via 198.51.100.2
            route add 2001:db8:ffff::c1/128 dev nat64");
        let runtime = Directory::new();
        let config = "tun-device nat64\nipv4-addr 192.0.0.2\nipv6-addr 2001:db8:ffff::c2\n\
                      prefix 2001:db8:6::/96\nmap 192.0.0.1 2001:db8:ffff::c1\n\
                      control-socket no\n";
        let path = runtime.file("tayga.conf");
        fs::write(&path, config).unwrap();
        let _daemon = Daemon::start(&net.xlat, config);
        net.wait_for_daemon();
        let passes = || {
            let ping = "ping -n -c 1 -W 1 -m 1 -I 192.0.0.1 198.51.100.99";
            net.xlat.output(ping).status.success()
        };
        let ask = || ask(&net.xlat, &runtime, "", &format!("-c {}", path.display()));
        wait_for("an echo", || passes().then_some(()));
        assert_eq!(ask().keys(), [""; 0], "{}", ask().text);
        net.xlat.sysctl("ipv4/conf/nat64/rp_filter", "1");
        assert!(!passes());
        let said = ask();
        assert_eq!(said.keys(), ["rp-filter"], "{}", said.text);
        sh(&net.xlat, &said.commands().join("\n"));
        assert!(passes());
        assert_eq!(ask().keys(), [""; 0], "{}", ask().text);
    });
}

/// tayga's classical mistake: the kernel answers in the place of the translator.
#[test]
fn an_own_address_on_this_host_is_found() {
    patient_case(|patient| {
        patient.breaks_and_mends("own-address", "ip address add 203.0.113.1/32 dev nat64");
        let said =
            patient.breaks_and_mends("own-address", "ip address add 2001:db8:ffff::1/128 dev lo");
        assert_eq!(
            said.commands(),
            ["ip address delete 2001:db8:ffff::1/128 dev lo"]
        );
    });
}

/// Packets of the translator's own host need no forwarding.
#[test]
fn a_translator_for_its_own_host_needs_no_forwarding() {
    xlatd_case(|net| {
        let config = "tun-device nat64\nipv4-addr 192.0.0.2\nipv6-addr 2001:db8:60::c2\n\
                      prefix 2001:db8:64::/96\nmap 192.0.0.1 2001:db8:60::c1\n";
        net.xlat.ip("tuntap add dev nat64 mode tun
            link set nat64 up
            addr add 192.0.0.1/32 dev nat64
            route add default dev nat64
            route add 2001:db8:60::c1/128 dev nat64");
        net.xlat.sysctl("ipv4/ip_forward", "0");
        let runtime = Directory::new();
        let path = runtime.file("tayga.conf");
        fs::write(&path, config).unwrap();
        let daemon = Daemon::start(&net.xlat, &format!("{config}control-socket no\n"));
        net.wait_for_daemon();
        daemon.prints("Running as");
        assert!(
            !daemon.log().contains("does not forward"),
            "{}",
            daemon.log()
        );
        let said = ask(&net.xlat, &runtime, "", &format!("-c {}", path.display()));
        assert_eq!(said.keys(), [""; 0], "{}", said.text);
    });
}

/// What can be known at the start is warned about there, once; nothing where all is well.
#[test]
fn the_start_warns_of_what_it_can_know() {
    patient_case(|mut patient| {
        let log = |patient: &Patient<'_>| patient.daemon.as_ref().unwrap().log();
        assert!(!log(&patient).contains("forward IPv"), "{}", log(&patient));
        patient.daemon = None;
        sh(
            &patient.net.xlat,
            "sysctl -w net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
            ip address add 203.0.113.1/32 dev nat64",
        );
        let daemon = Daemon::start(&patient.net.xlat, CONFIG);
        daemon.prints("Running as");
        for words in [
            "This host does not forward IPv4",
            "sysctl -w net.ipv4.ip_forward=1",
            "This host does not forward IPv6",
            "203.0.113.1 is also an address of nat64",
        ] {
            assert_eq!(
                daemon.log().matches(words).count(),
                1,
                "{words}: {}",
                daemon.log()
            );
        }
    });
}

/// Who cannot look says so, and does not say that all is well.
#[test]
fn what_cannot_be_looked_at_is_said() {
    patient_case(|patient| {
        let program = patient.runtime.program_for_all(&daemon());
        let command = format!(
            "setpriv --reuid 65534 --regid 65534 --clear-groups {} doctor -c {}",
            program.display(),
            patient.config
        );
        let output = patient.net.xlat.output(&command);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("Not looked at: the firewalls: "), "{text}");
        assert!(
            text.contains("Not looked at: which programs use the device"),
            "{text}"
        );
        let missing = format!("{} doctor -c /nowhere.conf", daemon().display());
        let output = patient.net.xlat.output(&missing);
        assert_eq!(output.status.code(), Some(2));
        let unknown = format!("{} doctor nat99", daemon().display());
        let output = patient.net.xlat.output(&unknown);
        assert_eq!(output.status.code(), Some(2));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(
            errors.contains("nat99: nothing runs on such a device"),
            "{errors}"
        );
    });
}

/// RFC 7050: hosts learn the prefix by the DNS64 that they ask. Where there is none, or no name
/// server answers, this host need not know it.
#[test]
fn the_prefix_of_the_dns64_is_compared() {
    patient_case(|patient| {
        let resolv_conf = "echo nameserver 2001:db8:60::2 >/mnt/resolv.conf
            mount --bind /mnt/resolv.conf /etc/resolv.conf";
        let ask_with = |addresses: &[&str]| {
            let _server = NameServer::start(&patient.net.gate6, addresses);
            patient.ask_with(resolv_conf)
        };
        let said = ask_with(&["2001:db8:64::192.0.0.170"]);
        assert_eq!((said.status, said.keys()), (0, vec![]), "{}", said.text);
        assert_eq!(
            said.data["notes"].as_array().unwrap().len(),
            0,
            "{}",
            said.text
        );
        let said = ask_with(&["64:ff9b::192.0.0.170", "64:ff9b::192.0.0.171"]);
        assert_eq!(
            (said.status, said.keys()),
            (1, vec!["dns64"]),
            "{}",
            said.text
        );
        assert!(said.problem().contains("64:ff9b::/96"), "{}", said.text);
        let said = ask_with(&[]);
        assert_eq!((said.status, said.keys()), (0, vec![]), "{}", said.text);
        assert_eq!(said.data["notes"][0]["key"], "dns64", "{}", said.text);
        let said = patient.ask_with(resolv_conf);
        assert_eq!((said.status, said.keys()), (0, vec![]), "{}", said.text);
        assert_eq!(
            said.data["notes"].as_array().unwrap().len(),
            0,
            "{}",
            said.text
        );
    });
}
