//! Firewalls of others that drop the IPv6 packets that a CLAT has forwarded. Their rules have the
//! form in which the programs that they are named after make them.

use std::{
    env,
    fs::{self, File},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    clat::{ClatNet, PREFIX, SERVER, clat_case},
    doctor::sh,
    forward::listen,
    harness::{Daemon, Directory, Listener, Netns, skip, wait_for},
};

/// The kernel forwards packets of a shared address.
const CONFIG: &str = "clat-v6-addr=shared\ndebug=1\n";

/// By policy, by the last rule, by a chain that is called, and by verdict maps.
const DROPPING: &[(&str, &str)] = &[
    (
        "inet filter forward",
        "add table inet filter
        add chain inet filter forward { type filter hook forward priority 0 ; policy drop ; }
        add rule inet filter forward ct state established,related accept",
    ),
    (
        "ip6 filter forward",
        "add table ip6 filter
        add chain ip6 filter forward { type filter hook forward priority 10 ; }
        add rule ip6 filter forward iif lo accept
        add rule ip6 filter forward counter log reject",
    ),
    (
        "inet a b",
        "add table inet a
        add chain inet a last
        add rule inet a last reject with icmpx admin-prohibited
        add chain inet a b { type filter hook forward priority -5 ; }
        add rule inet a b ct state { established, related } accept
        add rule inet a b ip6 daddr { ::/96, 2002::/24 } reject with icmpv6 addr-unreachable
        add rule inet a b iifname != lo goto last",
    ),
    (
        "inet a c",
        "add table inet a
        add chain inet a other
        add rule inet a other drop
        add chain inet a c { type filter hook forward priority 0 ; }
        add rule inet a c ct state vmap { established : accept, related : accept, invalid : drop }
        add rule inet a c iifname vmap { lo : accept, clat : jump other }",
    ),
    (
        "inet a rest",
        "add table inet a
        add chain inet a rest { type filter hook forward priority 0 ; }
        add rule inet a rest ct state established,related accept
        add rule inet a rest iifname vmap { lo : accept, * : drop }",
    ),
    (
        "inet a answers",
        "add table inet a
        add chain inet a answers { type filter hook forward priority 0 ; policy drop ; }
        add rule inet a answers iifname { clat, lo, veth* } accept
        add rule inet a answers ct state new,related accept",
    ),
];

/// Not for packets of the CLAT, or not before one that accepts them.
const ACCEPTING: &[&str] = &[
    "add table ip filter
    add chain ip filter forward { type filter hook forward priority 0 ; policy drop ; }",
    "add table inet a
    add chain inet a b { type filter hook input priority 0 ; policy drop ; }
    add rule inet a b iifname eth0 accept
    add rule inet a b iifname { lo, clat } accept",
    "add table inet a
    add chain inet a b { type filter hook forward priority 0 ; policy drop ; }
    add rule inet a b ct state established,related accept
    add rule inet a b iifname cl* oif eth0 accept",
    "add table inet a
    add chain inet a out
    add rule inet a out ip6 daddr 2001:db8:64::/96 accept
    add chain inet a b { type filter hook forward priority 0 ; }
    add rule inet a b ct state vmap { established : accept, related : accept, invalid : drop }
    add rule inet a b iifname vmap { lo : accept, clat : jump out }
    add rule inet a b iifname clat ip6 daddr 2001:db8:64::/96 accept
    add rule inet a b drop",
    "add table inet a
    add chain inet a b { type filter hook forward priority 0 ; policy drop ; }
    add rule inet a b iif . oifname { clat . eth0 } accept
    add rule inet a b ct state . iifname { established . eth0 } accept",
    "add table inet a
    add chain inet a b { type filter hook forward priority 0 ; policy drop ; }
    add rule inet a b ct state established,related accept
    add rule inet a b iifname vmap { eth0 : drop, * : accept }",
    "add table inet a
    add limit inet a many { rate over 1000/second ; }
    add counter inet a seen
    add chain inet a b { type filter hook forward priority 0 ; }
    add rule inet a b counter name seen limit name many drop
    add rule inet a b iifname { lo, virbr* } drop
    add rule inet a b oifname virbr0 reject
    add rule inet a b meta nfproto ipv4 drop
    add rule inet a b ip6 saddr 2001:db8:1::/48 drop
    add rule inet a b ct state invalid drop
    add rule inet a b meta l4proto udp limit rate over 1000/second drop",
];

/// Loads lines of nft(8) at once.
fn nft(net: &ClatNet, lines: &str) {
    let script = net.runtime.file("nft");
    fs::write(&script, lines.replace(" ;", ";")).unwrap();
    net.host.run(&format!("nft -f {}", script.display()));
}

/// Loads lines of ip6tables(8) at once.
fn ip6tables(net: &ClatNet, program: &str, lines: &str) {
    let script = net.runtime.file("ip6tables");
    fs::write(&script, format!("*filter\n{lines}\nCOMMIT\n")).unwrap();
    let script = script.display();
    net.host
        .run(&format!("{program}-restore --noflush {script}"));
}

/// Whether a connection can be opened. Firewalls let ping pass that stop all else.
fn passes(net: &ClatNet) -> bool {
    let listener = listen(&net.server, SERVER);
    let address = listener.local_addr().unwrap();
    let timeout = Duration::from_millis(700);
    let connected = net
        .host
        .inside(|| TcpStream::connect_timeout(&address, timeout));
    connected.is_ok()
}

/// The number of times that the firewalls were looked at.
fn looks(daemon: &Daemon) -> usize {
    daemon.log().matches("Read the firewalls in").count()
}

/// Changes the firewalls, and waits until they were looked at.
fn change_and_look(daemon: &Daemon, change: impl FnOnce()) {
    let before = looks(daemon);
    change();
    wait_for("a look", || (looks(daemon) > before).then_some(()));
}

/// The last thing that was said of how it is.
fn state(daemon: &Daemon) -> String {
    let log = daemon.log();
    let mut lines = log.lines().rev();
    let state = lines.find(|line| line.contains("IPv4 via eth0"));
    state.unwrap_or_default().to_owned()
}

/// The commands that help against this chain, as the log has them, once the state has it.
fn remedy(daemon: &Daemon, chain: &str) -> Vec<String> {
    let complaint = format!(", but the {chain} drops forwarded packets");
    wait_for(&complaint, || {
        state(daemon).ends_with(&complaint).then_some(())
    });
    let log = daemon.log();
    let warning = format!("The {chain} drops forwarded packets. If IPv4 does not pass: ");
    let (_, commands) = log.rsplit_once(&warning).unwrap();
    let commands = commands.lines().next().unwrap();
    commands.split("; ").map(str::to_owned).collect()
}

/// Waits until the state has no chain in it.
fn wait_for_no_complaint(daemon: &Daemon) {
    wait_for("no complaint", || {
        (!state(daemon).contains(", but ")).then_some(())
    });
}

/// The chain is named in the log and in the state, packets do not pass; they do after the commands,
/// and then the state says no more of it.
fn is_named_until_helped(net: &ClatNet, daemon: &Daemon, chain: &str) {
    let commands = remedy(daemon, chain);
    assert!(!passes(net), "{chain}");
    sh(&net.host, &commands.join("\n"));
    assert!(passes(net), "{chain}: {commands:?}");
    if chain.contains("legacy") {
        something_changes(net);
    }
    wait_for_no_complaint(daemon);
}

/// Of ip6tables-legacy the kernel says nothing, so it is looked at when something else changes.
fn something_changes(net: &ClatNet) {
    net.host.ip("link set lo down\nlink set lo up");
}

/// A chain that drops packets of a CLAT that is at work is named, whatever it drops them by, with
/// the commands that help; and they do. It is named again when it comes again.
#[test]
fn chains_that_come_later_are_named() {
    clat_case(|net| {
        let daemon = net.start_up(CONFIG);
        for (chain, rules) in DROPPING.iter().chain(&DROPPING[..1]) {
            nft(net, rules);
            is_named_until_helped(net, &daemon, &format!("nftables chain {chain}"));
            let mut words = chain.split(' ');
            let (family, table) = (words.next().unwrap(), words.next().unwrap());
            net.host.run(&format!("nft delete table {family} {table}"));
        }
        let warnings = daemon.log().matches("drops forwarded packets. If").count();
        assert_eq!(warnings, DROPPING.len() + 1, "{}", daemon.log());
    });
}

/// A command that is not needed is not printed: only answers are dropped here.
#[test]
fn only_what_is_missing_is_asked_for() {
    clat_case(|net| {
        let (_, rules) = DROPPING.last().unwrap();
        nft(net, rules);
        let daemon = net.start(CONFIG);
        net.advertise(&[(PREFIX, 600)]);
        let commands = remedy(&daemon, "nftables chain inet a answers");
        let expected = "nft 'insert rule inet a answers oifname \"clat\" \
                        ct state established,related accept'";
        assert_eq!(commands, [expected]);
    });
}

/// Chains that packets of the CLAT pass are not named.
#[test]
fn chains_that_let_pass_are_not_named() {
    clat_case(|net| {
        let daemon = net.start_up(CONFIG);
        for rules in ACCEPTING {
            change_and_look(&daemon, || nft(net, rules));
            assert!(passes(net), "{rules}");
            let log = daemon.log();
            assert!(!log.contains("drops forwarded"), "{rules}\n{log}");
            let table = if rules.contains("table ip ") {
                "ip filter"
            } else {
                "inet a"
            };
            net.host.run(&format!("nft delete table {table}"));
        }
    });
}

/// The state that a service manager shows has it, too.
#[test]
fn the_service_manager_knows_of_it() {
    clat_case(|net| {
        let manager = Listener::new();
        let socket = format!("NOTIFY_SOCKET={}", manager.path().display());
        let launcher = ["env", &socket];
        let _daemon = Daemon::start_clat_by(&launcher, &net.host, &net.runtime, CONFIG);
        nft(net, DROPPING[0].1);
        wait_for("the state", || {
            net.advertise(&[(PREFIX, 600)]);
            let said = manager.next();
            let complaint = ", but the nftables chain inet filter forward drops forwarded packets";
            said.contains(complaint).then_some(())
        });
    });
}

/// Rules of ip6tables, by nftables: those of ufw, of Docker with an IPv6 network, of libvirt, and
/// of nobody.
#[test]
fn chains_of_ip6tables_are_named() {
    clat_case(|net| {
        let daemon = net.start_up(CONFIG);
        let chain = "nftables chain ip6 filter FORWARD";
        for rules in [DOCKER, "-P FORWARD DROP", "-A FORWARD -j REJECT"] {
            ip6tables(net, "ip6tables-nft", rules);
            is_named_until_helped(net, &daemon, chain);
            net.host.run("nft delete table ip6 filter");
        }
        ip6tables(net, "ip6tables-nft", UFW);
        let commands = remedy(&daemon, chain);
        assert_eq!(commands, ["ufw route prepend allow in on clat out on eth0"]);
        assert!(!passes(net));
        // As ufw does it.
        let allow = "-A ufw6-user-forward -i clat -o eth0 -j ACCEPT";
        ip6tables(net, "ip6tables-nft", allow);
        wait_for_no_complaint(&daemon);
        assert!(passes(net));
        net.host.run("nft delete table ip6 filter");

        let before = daemon.log().matches("drops forwarded").count();
        change_and_look(&daemon, || ip6tables(net, "ip6tables-nft", LIBVIRT));
        assert_eq!(daemon.log().matches("drops forwarded").count(), before);
        assert!(passes(net));
    });
}

/// Rules of ip6tables-legacy are found by what else changes: the kernel tells nobody of them.
#[test]
fn chains_of_ip6tables_legacy_are_named() {
    clat_case(|net| {
        let daemon = net.start_up(CONFIG);
        for rules in [DOCKER, "-P FORWARD DROP", "-A FORWARD -j REJECT"] {
            ip6tables(net, "ip6tables-legacy", rules);
            something_changes(net);
            is_named_until_helped(net, &daemon, "ip6tables-legacy chain FORWARD");
            ip6tables(net, "ip6tables-legacy", "-P FORWARD ACCEPT\n-F\n-X");
        }
    });
}

/// Of a chain with 10,000 rules the beginning is read, so that packets do not wait for long: what
/// it drops by its policy is named, until a rule at its beginning accepts it.
#[test]
fn a_long_chain_is_read_in_part() {
    const RULES: usize = 10_000;
    clat_case(|net| {
        let daemon = net.start_up(CONFIG);
        let script = net.runtime.file("rules");
        let rules = "add rule inet a b ip6 saddr 2001:db8:1::1 drop\n".repeat(RULES);
        let table = "add table inet a\n\
                     add chain inet a b { type filter hook forward priority 0; policy drop; }\n";
        fs::write(&script, format!("{table}{rules}")).unwrap();
        net.host.run(&format!("nft -f {}", script.display()));
        let commands = remedy(&daemon, "nftables chain inet a b");
        sh(&net.host, &commands.join("\n"));
        wait_for_no_complaint(&daemon);
        assert!(passes(net));
        let log = daemon.log();
        let mut lines = log.lines().rev();
        let look = lines.find(|line| line.contains("Read the firewalls"));
        println!("{}", look.unwrap());
    });
}

const DOCKER: &str = "-P FORWARD DROP
-N DOCKER
-N DOCKER-BRIDGE
-N DOCKER-CT
-N DOCKER-FORWARD
-N DOCKER-ISOLATION-STAGE-1
-N DOCKER-ISOLATION-STAGE-2
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP";

const UFW: &str = "-P FORWARD DROP
-N ufw6-before-forward
-N ufw6-before-logging-forward
-N ufw6-reject-forward
-N ufw6-user-forward
-A FORWARD -j ufw6-before-logging-forward
-A FORWARD -j ufw6-before-forward
-A FORWARD -j ufw6-reject-forward
-A ufw6-before-forward -m rt --rt-type 0 -j DROP
-A ufw6-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw6-before-forward -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT
-A ufw6-before-forward -j ufw6-user-forward";

const LIBVIRT: &str = "-N LIBVIRT_FWI
-N LIBVIRT_FWO
-N LIBVIRT_FWX
-A FORWARD -j LIBVIRT_FWX
-A FORWARD -j LIBVIRT_FWI
-A FORWARD -j LIBVIRT_FWO
-A LIBVIRT_FWI -o virbr0 -j REJECT --reject-with icmp6-port-unreachable
-A LIBVIRT_FWO -i virbr0 -j REJECT --reject-with icmp6-port-unreachable
-A LIBVIRT_FWX -i virbr0 -o virbr0 -j ACCEPT";

/// firewalld, as `scripts/lib` unpacks it, with a D-Bus of its own.
pub(crate) struct Firewalld {
    root: PathBuf,
    directory: Directory,
    running: Vec<Child>,
}

impl Firewalld {
    /// `None` where there is none.
    pub(crate) fn start(ns: &Netns) -> Option<Self> {
        let Some(root) = env::var_os("FIREWALLD") else {
            skip("there is no firewalld: FIREWALLD is not set");
            return None;
        };
        let mut this = Self {
            root: root.into(),
            directory: Directory::new(),
            running: Vec::new(),
        };
        let config = this.directory.file("dbus.conf");
        let bus = "<busconfig><type>system</type><listen>ADDRESS</listen><auth>EXTERNAL</auth>\
                   <policy context=\"default\"><allow own=\"*\"/><allow send_destination=\"*\"/>\
                   <allow receive_sender=\"*\"/></policy></busconfig>";
        fs::write(&config, bus.replace("ADDRESS", &this.address())).unwrap();
        let config = config.display();
        this.spawn(ns, &format!("dbus-daemon --nofork --config-file={config}"));
        wait_for("D-Bus", || {
            this.directory.file("bus").exists().then_some(())
        });
        let (root, own) = (this.root.display(), this.directory.file("etc"));
        fs::create_dir(&own).unwrap();
        let own = own.display();
        let firewalld = format!(
            "{root}/usr/sbin/firewalld --nofork --nopid --log-file {own}/firewalld.log \
             --default-config {root}/usr/lib/firewalld --system-config {own}"
        );
        this.spawn(ns, &firewalld);
        wait_for("firewalld", || {
            let state = ns.output(&this.command("firewall-cmd --state"));
            state.status.success().then_some(())
        });
        Some(this)
    }

    fn address(&self) -> String {
        format!("unix:path={}", self.directory.file("bus").display())
    }

    /// A command, in the environment of firewalld; a program of its own is found there.
    pub(crate) fn command(&self, command: &str) -> String {
        let (root, address) = (self.root.display(), self.address());
        let command = command.replace("firewall-cmd", &format!("{root}/usr/bin/firewall-cmd"));
        format!(
            "env PYTHONPATH={root}/usr/lib/python3/dist-packages PYTHONDONTWRITEBYTECODE=1 \
             DBUS_SYSTEM_BUS_ADDRESS={address} {command}"
        )
    }

    fn spawn(&mut self, ns: &Netns, command: &str) {
        let mut program = Command::new("setpriv");
        program.args(["--pdeathsig", "KILL", "--"]);
        program.args(self.command(command).split_whitespace());
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.file("log"))
            .unwrap();
        program.stdin(Stdio::null());
        program.stdout(log.try_clone().unwrap()).stderr(log);
        self.running.push(ns.inside(|| program.spawn()).unwrap());
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        for child in self.running.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            let log = fs::read_to_string(self.directory.file("log"));
            println!("firewalld wrote:\n{}", log.unwrap_or_default());
        }
    }
}

/// The real one, which rejects by the last rule of its chain, and starts while IPv4 works: what is
/// said to help does so, also after it has loaded its permanent settings again.
#[test]
fn firewalld_lets_pass_what_it_is_told_to() {
    clat_case(|net| {
        let daemon = net.start_up(CONFIG);
        let Some(firewalld) = Firewalld::start(&net.host) else {
            return;
        };
        let commands = remedy(&daemon, "nftables chain inet firewalld filter_FORWARD");
        assert!(!passes(net));
        for command in commands {
            net.host.run(&firewalld.command(&command));
        }
        wait_for_no_complaint(&daemon);
        assert!(passes(net));
        change_and_look(&daemon, || {
            net.host.run(&firewalld.command("firewall-cmd --reload"));
        });
        assert!(passes(net));
        assert!(!state(&daemon).contains(", but "), "{}", daemon.log());
    });
}
