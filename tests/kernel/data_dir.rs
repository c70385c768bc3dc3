//! A data-dir keeps the leases of one instance.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::Signal,
};

use crate::harness::{Daemon, Directory, Net, SERVER6, wait_for, xlatd_case};

/// The instance that is there first. Its device is of [`Net::translate_with`].
fn first(data_dir: &Path) -> String {
    format!(
        "tun-device nat64\nipv4-addr 203.0.113.1\nipv6-addr 2001:db8:ffff::1\n\
         prefix 2001:db8:64::/96\ndynamic-pool 203.0.113.0/24\ndata-dir {}\n",
        data_dir.display()
    )
}

/// Another one, which sets its device up by itself.
fn second(data_dir: &Path) -> String {
    format!(
        "tun-device nat65\nipv4-addr 198.18.0.1\nipv6-addr 2001:db8:fffe::1\n\
         prefix 2001:db8:65::/96\ndynamic-pool 198.18.0.0/24\ndata-dir {}\n\
         tun-up yes\ntun-route 198.18.0.0/24\n",
        data_dir.display()
    )
}

fn ping(net: &Net) {
    net.client
        .run(&format!("ping -n -c 1 -i 0.1 -w 15 {SERVER6}"));
}

/// What is in the directory, with the octets of each file.
fn content(directory: &Path) -> BTreeSet<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Starts the first instance, with a lease in its file.
fn start_first(net: &Net, options: &str, data_dir: &Path) -> Daemon {
    net.xlat.ip("tuntap add dev nat64 mode tun");
    net.route_to_device();
    let daemon = Daemon::start_with(options, &net.xlat, &first(data_dir));
    net.wait_for_daemon();
    daemon.prints("Running as");
    ping(net);
    daemon.signal(Signal::SIGHUP);
    writes_leases(data_dir);
    daemon
}

/// Waits until the lease of the first instance is written.
fn writes_leases(data_dir: &Path) {
    wait_for("the lease", || {
        let text = fs::read_to_string(data_dir.join("dynamic.map")).ok()?;
        (text.contains("2001:db8:6::10\t") && !data_dir.join("dynamic.map~~").exists())
            .then_some(())
    });
}

/// The second instance, as any user and by any name of the directory, is refused with the names of
/// both, and changes nothing. The first one goes on.
fn refuses_the_second(options: &str) {
    xlatd_case(|net| {
        let directory = Directory::new();
        let data_dir = directory.file("data");
        fs::create_dir(&data_dir).unwrap();
        let link = directory.file("link");
        symlink(&data_dir, &link).unwrap();
        let daemon = start_first(net, options, &data_dir);
        let before = content(&data_dir);

        let all = [
            ("", &data_dir),
            ("", &link),
            ("-u nobody", &data_dir),
            ("-u nobody -r", &link),
        ]
        .map(|(options, path)| Daemon::start_with(options, &net.xlat, &second(path)));
        for mut refused in all {
            assert_eq!(refused.wait().code(), Some(1));
            let log = refused.log();
            let why = format!(
                "where the translator of nat64 (process {}) keeps its own",
                daemon.pid()
            );
            assert!(
                log.contains("nat65: cannot keep leases in ") && log.contains(&why),
                "{log}"
            );
            assert!(!log.contains("Using tun device"), "{log}");
        }
        assert!(!net.xlat.has("nat65"));
        assert_eq!(content(&data_dir), before);

        fs::remove_file(data_dir.join("dynamic.map")).unwrap();
        ping(net);
        daemon.signal(Signal::SIGHUP);
        writes_leases(&data_dir);
        // The first one is killed: nothing of it is in the way.
        drop(daemon);
        let next = Daemon::start(&net.xlat, &second(&data_dir));
        next.prints("Running as");
    });
}

#[test]
fn second_instance_is_refused_with_both_names() {
    refuses_the_second("");
}

#[test]
fn second_instance_is_refused_when_the_first_is_of_another_user() {
    refuses_the_second("-u nobody");
}

#[test]
fn second_instance_is_refused_when_the_first_is_in_a_chroot() {
    refuses_the_second("-u nobody -r");
}

/// So are services: they run as a user without privileges, who sees no processes of others and no
/// /proc/locks (ProtectProc=, ProcSubset=).
#[test]
fn services_are_refused_with_both_names() {
    const SERVICE: &str = "mount -t proc -o hidepid=invisible,subset=pid proc /proc && \
        mount -t tmpfs tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200 && \
        exec setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set -all,+net_admin \
        --inh-caps -all,+net_admin --ambient-caps -all,+net_admin --no-new-privs \"$0\" \"$@\"";
    xlatd_case(|net| {
        let directory = Directory::new();
        let data_dir = directory.file("");
        fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&data_dir, Some(65534), Some(65534)).unwrap();
        let service = ["unshare", "--mount", "sh", "-c", SERVICE];
        let first = Daemon::start_by(&service, &net.xlat, &first(&data_dir));
        first.prints("Running as user 65534, group 65534, with no capabilities");
        let mut refused = Daemon::start_by(&service, &net.xlat, &second(&data_dir));
        assert_eq!(refused.wait().code(), Some(1));
        let log = refused.log();
        let why = format!("the translator of nat64 (process {})", first.pid());
        assert!(
            log.contains("nat65: cannot keep leases in ") && log.contains(&why),
            "{log}"
        );
    });
}

/// An instance that comes to its end is waited for; another program with the lock is named, too.
#[test]
fn lock_is_waited_for() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let data_dir = directory.file("");
        let lock = || {
            let file = File::open(&data_dir).unwrap();
            Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap()
        };
        let held = lock();
        let daemon = Daemon::start(&net.xlat, &second(&data_dir));
        wait_for("the daemon to wait", || daemon.sleeps().then_some(()));
        drop(held);
        daemon.prints("Running as");
        drop(daemon);

        let _held = lock();
        let mut daemon = Daemon::start(&net.xlat, &second(&data_dir));
        assert_eq!(daemon.wait().code(), Some(1));
        let holder = format!("process {}", std::process::id());
        assert!(daemon.log().contains(&holder), "{}", daemon.log());
    });
}

/// Whoever may read a directory can lock it: the lock of a user who may not write there is ignored.
#[test]
fn lock_of_a_user_who_cannot_write_does_not_count() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let data_dir = directory.file("");
        fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o755)).unwrap();
        let flock = format!(
            "exec setpriv --reuid 65534 --regid 65534 --clear-groups flock {} \
             sh -c 'echo locked; exec sleep 100'",
            data_dir.display()
        );
        let locked = Daemon::start_by(&["sh", "-c", &flock], &net.xlat, "");
        locked.prints("locked");
        let daemon = Daemon::start(&net.xlat, &second(&data_dir));
        daemon.prints("of user 65534, who may not write there");
        daemon.prints("Running as");
    });
}

/// A file system without such locks is no reason not to start.
#[test]
fn directory_that_cannot_be_locked_is_reported() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let trace = directory.file("trace").display().to_string();
        let launcher = [
            "strace",
            "-f",
            "-o",
            &trace,
            "-e",
            "trace=flock",
            "-e",
            "inject=flock:error=ENOLCK",
            // strace(1) that is killed leaves what it traces.
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
        ];
        let data_dir = directory.file("");
        let daemon = Daemon::start_by(&launcher, &net.xlat, &second(&data_dir));
        daemon.prints("cannot be locked, so nothing keeps another instance from");
        daemon.prints("Running as");
    });
}

/// Without a pool there are no leases: a data-dir is then no more than where the map-file is.
#[test]
fn data_dir_is_shared_where_there_are_no_leases() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let data_dir = directory.file("");
        let _daemon = net.translate_with(&first(&data_dir));
        let config = second(&data_dir).replace("dynamic-pool 198.18.0.0/24\n", "");
        let other = Daemon::start(&net.xlat, &config);
        other.prints("Running as");
    });
}
