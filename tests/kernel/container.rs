//! `xlatd container`: what it sets up in its network namespace, and that it goes.

use std::fs;

use nix::sys::signal::Signal;

use crate::harness::{Daemon, Directory, Net, SERVER6, daemon, wait_for, xlatd_case};

/// Runs it with these variables, where what is below /var/lib is its own. `before` are commands
/// that come first.
fn start(net: &Net, directory: &Directory, before: &str, variables: &str) -> Daemon {
    let script = directory.file("start");
    let program = daemon();
    let program = program.display();
    let text = format!(
        "set -e\nmount -t tmpfs tmpfs /var/lib\n{before}\n\
         exec env TAYGA_PREF64=2001:db8:64::/96 {variables} {program} container\n"
    );
    fs::write(&script, text).unwrap();
    let command = format!("unshare --mount sh {}", script.display());
    Daemon::start_command(&net.xlat, &command)
}

fn rules(net: &Net) -> String {
    net.xlat.run("nft list ruleset")
}

/// IPv4 hosts need no route to the pool. Nothing stays, also if it is killed.
#[test]
fn the_pool_is_masqueraded_by_a_table_that_goes_with_the_process() {
    xlatd_case(|net| {
        // No way to 192.168.240.0/20.
        net.gate4.ip("route del default");
        let directory = Directory::new();
        let daemon = start(net, &directory, "", "TAYGA_LOG=drop");
        net.wait_for_daemon();
        let ping = format!("ping -n -c 1 -w 15 {SERVER6}");
        net.client.run(&ping);
        let rule = "ip saddr 192.168.240.0/20 oifname != \"nat64\" masquerade";
        let chain = "type nat hook postrouting priority srcnat; policy accept;";
        let rules_now = rules(net);
        assert!(
            rules_now.contains(rule) && rules_now.contains(chain),
            "{rules_now}"
        );
        assert_eq!(rules_now.matches(" masquerade").count(), 1, "{rules_now}");
        daemon.signal(Signal::SIGKILL);
        wait_for("the table to go", || rules(net).is_empty().then_some(()));
        drop(daemon);

        let mut daemon = start(net, &directory, "", "XLATD_MASQUERADE=no");
        net.wait_for_daemon();
        let output = net
            .client
            .output(&format!("ping -n -c 2 -i 0.2 -w 2 {SERVER6}"));
        assert!(!output.status.success(), "{output:?}");
        assert_eq!(rules(net), "");
        daemon.stop();
    });
}

/// In a container /proc/sys is read-only: what lacks is said as options of the engine.
#[test]
fn settings_that_cannot_be_changed_are_options_of_the_engine() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let read_only = "mount --bind /proc/sys /proc/sys\nmount -o remount,bind,ro /proc/sys";
        net.xlat.sysctl("ipv4/ip_forward", "0");
        net.xlat.sysctl("ipv6/conf/all/forwarding", "0");
        let mut daemon = start(net, &directory, read_only, "");
        assert_eq!(daemon.wait().code(), Some(1));
        daemon.prints("cannot set net.ipv6.conf.all.forwarding to 1: Read-only file system");
        daemon.prints(
            "start the container with --sysctl net.ipv4.conf.all.forwarding=1 \
             --sysctl net.ipv6.conf.all.forwarding=1\n",
        );
        net.xlat.sysctl("ipv4/ip_forward", "1");
        net.xlat.sysctl("ipv6/conf/all/forwarding", "1");
        let mut daemon = start(net, &directory, read_only, "");
        net.wait_for_daemon();
        daemon.stop();
    });
}
