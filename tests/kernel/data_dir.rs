//! A data-dir keeps the leases of one instance.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::Signal,
};

use crate::harness::{Daemon, Directory, Net, SERVER6, wait_for, xlatd_case};

/// The lock file, which an instance has locked while it runs.
const LOCK: &str = "dynamic.map.lock";
const NOBODY: u32 = 65534;

/// The configuration of the first instance, with the device of [`Net::translate_with`].
fn first(data_dir: &Path) -> String {
    format!(
        "tun-device nat64\nipv4-addr 203.0.113.1\nipv6-addr 2001:db8:ffff::1\n\
         prefix 2001:db8:64::/96\ndynamic-pool 203.0.113.0/24\ndata-dir {}\n",
        data_dir.display()
    )
}

/// The configuration of another instance, which sets up its own device.
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

/// The files in the directory, with their content.
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

/// The second instance, as any user and by any path of the directory, is refused, and changes
/// nothing. The error names both instances. The first one continues.
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
                "which is used by the translator of nat64 (process {}): set another data-dir",
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
        // After the first one is killed, the next starts.
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

/// The launcher of a program as in a service: as a user without privileges, that sees neither the
/// processes of other users nor /proc/locks (ProtectProc=, ProcSubset=).
const SERVICE: &str = "mount -t proc -o hidepid=invisible,subset=pid proc /proc && \
    mount -t tmpfs tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200 && \
    exec setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set -all,+net_admin \
    --inh-caps -all,+net_admin --ambient-caps -all,+net_admin --no-new-privs \"$0\" \"$@\"";

fn start_service(net: &Net, config: &str) -> Daemon {
    Daemon::start_by(
        &["unshare", "--mount", "sh", "-c", SERVICE],
        &net.xlat,
        config,
    )
}

/// A data-dir as in the packages, which all users may read.
fn readable(directory: &Directory, owner: u32) -> PathBuf {
    let data_dir = directory.file("data");
    fs::create_dir(&data_dir).unwrap();
    fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o755)).unwrap();
    chown(&data_dir, Some(owner), Some(owner)).unwrap();
    data_dir
}

/// A second service is refused with the names of both, too.
#[test]
fn services_are_refused_with_both_names() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let data_dir = readable(&directory, NOBODY);
        let first = start_service(net, &first(&data_dir));
        first.prints("Running as user 65534, group 65534, with no capabilities");
        let mut refused = start_service(net, &second(&data_dir));
        assert_eq!(refused.wait().code(), Some(1));
        let log = refused.log();
        let why = format!("the translator of nat64 (process {})", first.pid());
        assert!(
            log.contains("nat65: cannot keep leases in ") && log.contains(&why),
            "{log}"
        );
    });
}

/// It sees no setting below /proc/sys, and so it does not say that one is off.
#[test]
fn a_service_warns_of_nothing_that_it_cannot_see() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let service = start_service(net, &first(&readable(&directory, NOBODY)));
        service.prints("Running as user 65534, group 65534, with no capabilities");
        let log = service.log();
        assert!(!log.contains("does not forward"), "{log}");
    });
}

/// A start waits for an instance that is stopping. Another program that holds the lock is named,
/// too.
#[test]
fn a_start_waits_for_the_lock() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let data_dir = directory.file("");
        let lock = || {
            let file = File::create(data_dir.join(LOCK)).unwrap();
            Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap()
        };
        let held = lock();
        let daemon = Daemon::start(&net.xlat, &second(&data_dir));
        wait_for("the daemon to wait", || daemon.sleeps().then_some(()));
        // As an instance that stops, it removes the file: the new one is locked then.
        fs::remove_file(data_dir.join(LOCK)).unwrap();
        drop(held);
        daemon.prints("Running as");
        let mut refused = Daemon::start(&net.xlat, &first(&data_dir));
        assert_eq!(refused.wait().code(), Some(1));
        drop(daemon);

        let _held = lock();
        let mut daemon = Daemon::start(&net.xlat, &second(&data_dir));
        assert_eq!(daemon.wait().code(), Some(1));
        let holder = format!("process {}", std::process::id());
        assert!(daemon.log().contains(&holder), "{}", daemon.log());
    });
}

/// A user who may read a directory can lock it (flock(2)). One who may not write there cannot
/// prevent the start of an instance, by a lock of any file, whether or not an instance is running.
#[test]
fn other_users_cannot_lock_the_data_dir() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let data_dir = readable(&directory, NOBODY);
        let flock = |path: &Path| {
            let flock = format!(
                "exec setpriv --reuid 1 --regid 1 --clear-groups \
                 sh -c 'exec 9<{}; flock --nonblock 9 && echo locked && exec sleep 100'",
                path.display()
            );
            Daemon::start_by(&["sh", "-c", &flock], &net.xlat, "")
        };
        let starts = || {
            let service = start_service(net, &second(&data_dir));
            service.prints("Running as");
            assert!(!service.log().contains("cannot be locked"));
            flock(&data_dir.join(LOCK)).prints("Permission denied");
            service
        };
        let locked = flock(&data_dir);
        locked.prints("locked");
        // Killed, the instance leaves its lock file.
        drop(starts());
        flock(&data_dir.join(LOCK)).prints("Permission denied");
        starts();
    });
}

/// A file of another kind in place of the lock file is neither followed, nor changed, nor given to
/// the owner of the directory by root.
#[test]
fn only_a_regular_file_is_locked() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let data_dir = readable(&directory, NOBODY);
        let (victim, lock) = (directory.file("victim"), data_dir.join(LOCK));
        fs::write(&victim, "").unwrap();
        let plants: [(&str, &dyn Fn()); 5] = [
            ("a symbolic link", &|| symlink(&victim, &lock).unwrap()),
            ("a symbolic link", &|| {
                symlink(directory.file("new"), &lock).unwrap();
            }),
            ("one with several names", &|| {
                fs::hard_link(&victim, &lock).unwrap();
            }),
            ("another kind of file", &|| {
                net.xlat.run(&format!("mkfifo {}", lock.display()));
            }),
            ("a directory", &|| fs::create_dir(&lock).unwrap()),
        ];
        for (found, plant) in plants {
            plant();
            let mut daemon = Daemon::start_with("-u nobody", &net.xlat, &second(&data_dir));
            daemon.prints("Running as");
            daemon.prints(&format!("{LOCK}: cannot be locked"));
            daemon.prints(&format!(
                "expected a regular file, found {found}: remove it"
            ));
            daemon.stop();
            if fs::remove_file(&lock).is_err() {
                fs::remove_dir(&lock).unwrap();
            }
            assert_eq!(fs::metadata(&victim).unwrap().uid(), 0);
            assert!(!directory.file("new").exists());
        }
        // A file of root's that has only the name of a lock file.
        fs::write(&lock, "theirs").unwrap();
        let daemon = Daemon::start_with("-u nobody", &net.xlat, &second(&data_dir));
        daemon.prints("Running as");
        assert_eq!(fs::metadata(&lock).unwrap().uid(), 0);
        assert_eq!(fs::read_to_string(&lock).unwrap(), "theirs");
    });
}

/// The owner of the directory owns the lock file, so that the next instance, a service or root, can
/// lock it.
#[test]
fn lock_file_is_its_directorys_owners() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let data_dir = readable(&directory, 0);
        let lock = data_dir.join(LOCK);
        let is_of = |owner| {
            let metadata = fs::metadata(&lock).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (owner, owner));
            assert_eq!(metadata.mode() & 0o7777, 0o600);
        };
        // Killed instances leave it.
        let starts = |options: &str, owner| {
            let daemon = Daemon::start_with(options, &net.xlat, &second(&data_dir));
            daemon.prints("Running as");
            is_of(owner);
            assert!(
                !daemon.log().contains("cannot be locked"),
                "{}",
                daemon.log()
            );
        };
        starts("", 0);
        // The directory changes its owner to this user.
        starts("-u nobody", NOBODY);
        starts("", NOBODY);
        let service = || start_service(net, &second(&data_dir));
        let is_locked = |service: &Daemon| {
            service.prints("Running as");
            assert!(
                !service.log().contains("cannot be locked"),
                "{}",
                service.log()
            );
        };
        is_locked(&service());
        fs::remove_file(&lock).unwrap();
        // Root creates it in the directory of the user.
        starts("", NOBODY);
        is_locked(&service());

        // An administrator has changed the owner of the directory, but not of the file.
        chown(&lock, Some(0), Some(0)).unwrap();
        let warned = service();
        warned.prints("Running as");
        warned.prints("belongs to user 0: remove it if no instance of that user is running");
        drop(warned);
        starts("-u nobody", NOBODY);
    });
}

/// An instance that stops removes its lock file, in a chroot, too. One that does not start leaves
/// no file.
#[test]
fn lock_file_is_removed_at_the_end() {
    xlatd_case(|net| {
        let directory = Directory::new();
        let data_dir = readable(&directory, 0);
        for options in ["", "-u nobody -r"] {
            let mut daemon = Daemon::start_with(options, &net.xlat, &second(&data_dir));
            daemon.prints("Running as");
            assert!(data_dir.join(LOCK).exists());
            daemon.stop();
            let names: Vec<_> = content(&data_dir).into_iter().map(|file| file.0).collect();
            assert_eq!(names, ["dynamic.map"], "{options}");
        }
        let new = directory.file("new");
        let config = second(&new).replace("tun-device nat65", "tun-device lo");
        let mut daemon = Daemon::start(&net.xlat, &config);
        assert_eq!(daemon.wait().code(), Some(1));
        assert!(!new.exists(), "{}", daemon.log());
    });
}

/// On a file system without locks an instance starts, with a warning.
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
            // A killed strace(1) does not end the program that it traces.
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
        ];
        let data_dir = directory.file("");
        let daemon = Daemon::start_by(&launcher, &net.xlat, &second(&data_dir));
        daemon.prints(
            "dynamic.map.lock: cannot be locked, so another instance may overwrite these leases: \
             No locks available",
        );
        daemon.prints("Running as");
    });
}

/// Without a pool there are no leases, and the data-dir is only the directory of the map-file.
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
