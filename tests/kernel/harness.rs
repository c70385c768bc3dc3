//! Namespaces, the layout of the network, the daemon, and waiting.

use std::{
    any, env,
    ffi::OsStr,
    fs::{self, File, Permissions},
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::UnixDatagram,
        },
    },
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    ifaddrs::getifaddrs,
    net::if_::InterfaceFlags,
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::TAYGA_DIFFERS;

/// How long anything may take that is waited for. Generous: it is reached only by a test that
/// fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);

pub(crate) const CLIENT: &str = "2001:db8:6::10";
pub(crate) const SERVER: &str = "192.0.2.2";
/// The client, as IPv4 hosts see it (`map`).
pub(crate) const CLIENT4: &str = "203.0.113.10";
/// The server, as IPv6 hosts see it (`prefix`).
pub(crate) const SERVER6: &str = "2001:db8:64::c000:202";

/// The configuration of nearly every case: directives that TAYGA 0.9.2 knows, and no others.
pub(crate) const CONFIG: &str = "\
tun-device nat64
ipv4-addr 203.0.113.1
ipv6-addr 2001:db8:ffff::1
prefix 2001:db8:64::/96
map 203.0.113.10 2001:db8:6::10   # client
map 203.0.113.6 2001:db8:60::2    # gate6
map 203.0.113.60 2001:db8:60::1   # the router that translates
";

/// Runs one case with the network and the daemon. With `DAEMON` naming TAYGA, a case that is listed
/// in [`TAYGA_DIFFERS`] must fail.
pub(crate) fn case<F: FnOnce(&Net)>(body: F) {
    // The name of a closure is the path of the function it is written in.
    let name = any::type_name::<F>();
    let name = name.strip_prefix("kernel::").unwrap_or(name);
    let name = name.strip_suffix("::{{closure}}").unwrap_or(name);
    let difference = TAYGA_DIFFERS.iter().find(|(case, _)| *case == name);
    if let Err(error) = Netns::new().and_then(|_| File::open("/dev/net/tun")) {
        return skip(&format!(
            "no network namespace with a TUN device can be made: {error}"
        ));
    }
    match difference {
        Some((_, reason)) if is_tayga() => {
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| body(&Net::new())));
            assert!(
                outcome.is_err(),
                "{name} holds with TAYGA too, but is listed as a difference: {reason}"
            );
            println!("TAYGA differs, as expected: {reason}");
        }
        _ => body(&Net::new()),
    }
}

/// Runs one case that only xlatd can be asked: it needs directives, options or commands that TAYGA
/// 0.9.2 lacks.
pub(crate) fn xlatd_case<F: FnOnce(&Net)>(body: F) {
    if is_tayga() {
        println!("this case is for xlatd alone");
    } else {
        case(body);
    }
}

/// The program under test.
pub(crate) fn daemon() -> PathBuf {
    env::var_os("DAEMON").map_or_else(|| env!("CARGO_BIN_EXE_xlatd").into(), PathBuf::from)
}

/// TAYGA, to be had beside the program under test: at `TAYGA` of the environment, or where Debian's
/// package has it. Where there is none, the test is left out.
pub(crate) fn tayga() -> Option<PathBuf> {
    let path = env::var_os("TAYGA").unwrap_or_else(|| "/usr/sbin/tayga".into());
    let path = PathBuf::from(path);
    if !path.exists() {
        skip(&format!("there is no {}", path.display()));
        return None;
    }
    Some(path)
}

/// Whether the cases run without offload (`OFFLOAD=off`).
pub(crate) fn without_offload() -> bool {
    env::var_os("OFFLOAD").is_some_and(|value| value == "off")
}

/// The number of workers with which the cases run xlatd where they can (`WORKERS`).
fn workers() -> Option<u8> {
    let workers = env::var("WORKERS").ok()?.parse().unwrap();
    (workers > 1 && !is_tayga()).then_some(workers)
}

fn is_tayga() -> bool {
    daemon().file_name().is_some_and(|name| name == "tayga")
}

/// Says that a test is left out. Where `REQUIRE_NETNS=1`, none may be.
pub(crate) fn skip(reason: &str) {
    let required = env::var_os("REQUIRE_NETNS").is_some_and(|value| value == "1");
    assert!(!required, "REQUIRE_NETNS=1, but {reason}");
    // Not by a macro: those print to what the test harness keeps for itself, and this must be seen.
    let _ = writeln!(io::stderr(), "skipped: {reason}");
}

/// Waits until `condition` gives a value; panics with `what` after [`DEADLINE`].
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Calls again what a signal interrupted. A socket that waits with a timeout is interrupted even by
/// what no handler sees, as a machine that is frozen and thawed (signal(7)).
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A network namespace. It has no name: when the last descriptor and process is gone, so is it.
#[derive(Debug)]
pub(crate) struct Netns {
    file: File,
}

impl Netns {
    pub(crate) fn new() -> io::Result<Self> {
        // A thread of its own enters it and ends; this one stays where it is.
        thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let file = File::open("/proc/thread-self/ns/net")?;
            Ok(Self { file })
        })
        .join()
        .unwrap()
    }

    /// Runs `body` with the calling thread inside. Sockets and processes made there stay there.
    pub(crate) fn inside<T>(&self, body: impl FnOnce() -> T) -> T {
        struct Return(File);
        impl Drop for Return {
            fn drop(&mut self) {
                // A thread that stays in the wrong namespace would spoil whatever it does next.
                if setns(&self.0, CloneFlags::CLONE_NEWNET).is_err() {
                    process::abort();
                }
            }
        }
        let _return = Return(File::open("/proc/thread-self/ns/net").unwrap());
        setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
        body()
    }

    /// Runs a command, its words separated by blanks, and returns what it printed and how it ended.
    pub(crate) fn output(&self, command: &str) -> Output {
        let mut words = command.split_whitespace();
        let program = words.next().unwrap();
        // `timeout` ends a command that hangs; nothing here takes a minute.
        let mut timeout = Command::new("timeout");
        timeout.args(["--kill-after=1", "120", program]).args(words);
        timeout.stdin(Stdio::null());
        self.inside(|| timeout.output())
            .unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub(crate) fn run(&self, command: &str) -> String {
        let output = self.output(command);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{command}: {}\n{printed}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        printed
    }

    /// Runs lines of ip(8), all of which must succeed. A TUN device gets several queues where there
    /// are several workers, unless it is said to have `one_queue`: no kernel takes notice of that.
    pub(crate) fn ip(&self, lines: &str) {
        let lines = match workers() {
            Some(_) if !lines.contains("one_queue") && !lines.contains("multi_queue") => {
                &*lines.replace("dev nat64 mode tun", "dev nat64 mode tun multi_queue")
            }
            _ => lines,
        };
        let mut ip = Command::new("ip");
        ip.args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.inside(|| ip.spawn()).expect("ip(8) of iproute2");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(lines.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "ip: {}\n{lines}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Writes a file below /proc/sys/net; one that this kernel does not have is left out.
    pub(crate) fn sysctl(&self, file: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(file);
        match self.inside(|| fs::write(&path, value)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                panic!("{}: {error}", path.display())
            }
            _ => {}
        }
    }

    /// The files below a directory of /proc/sys/net that can be read, a line each, in order.
    pub(crate) fn sysctls(&self, directory: &str) -> String {
        fn collect(path: &Path, lines: &mut Vec<String>) {
            if path.is_dir() {
                for entry in fs::read_dir(path).unwrap() {
                    collect(&entry.unwrap().path(), lines);
                }
            } else if let Ok(value) = fs::read_to_string(path) {
                lines.push(format!("{} = {}\n", path.display(), value.trim_end()));
            }
        }
        let mut lines = Vec::new();
        self.inside(|| collect(&Path::new("/proc/sys/net").join(directory), &mut lines));
        lines.sort();
        lines.concat()
    }

    /// Whether the device is up and somebody is at its other end.
    pub(crate) fn is_running(&self, device: &str) -> bool {
        self.flags(device)
            .is_some_and(|flags| flags.contains(InterfaceFlags::IFF_RUNNING))
    }

    /// Whether there is such a device.
    pub(crate) fn has(&self, device: &str) -> bool {
        self.flags(device).is_some()
    }

    fn flags(&self, device: &str) -> Option<InterfaceFlags> {
        self.inside(getifaddrs)
            .unwrap()
            .find(|interface| interface.interface_name == device)
            .map(|interface| interface.flags)
    }

    /// Whether the TUN device has several queues, or is still to be made.
    fn may_have_queues(&self, device: &str) -> bool {
        let output = self.output(&format!("ip -details link show dev {device}"));
        !output.status.success()
            || String::from_utf8_lossy(&output.stdout).contains("multi_queue on")
    }

    /// A name that ip(8) takes for the namespace.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.file.as_raw_fd())
    }
}

/// The five namespaces, connected, with addresses and routes. A veth device is named after who is
/// at its other end.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) client: Netns,
    pub(crate) gate6: Netns,
    pub(crate) xlat: Netns,
    pub(crate) gate4: Netns,
    pub(crate) server: Netns,
}

impl Net {
    fn new() -> Self {
        let [client, gate6, xlat, gate4, server] =
            std::array::from_fn(|_| Netns::new().expect("a network namespace"));
        let net = Self {
            client,
            gate6,
            xlat,
            gate4,
            server,
        };
        let all = [&net.client, &net.gate6, &net.xlat, &net.gate4, &net.server];
        for ns in all {
            // Addresses are usable at once, and the kernel's own limits on ICMP do not hide what is
            // tested.
            ns.sysctl("ipv6/conf/all/accept_dad", "0");
            ns.sysctl("ipv6/conf/default/accept_dad", "0");
            ns.sysctl("ipv6/icmp/ratelimit", "0");
            ns.sysctl("ipv4/icmp_ratelimit", "0");
            ns.sysctl("ipv4/icmp_msgs_per_sec", "100000");
            ns.sysctl("ipv4/icmp_msgs_burst", "100000");
            ns.sysctl("ipv4/conf/all/rp_filter", "0");
            ns.sysctl("ipv4/conf/default/rp_filter", "0");
        }
        for router in [&net.gate6, &net.xlat] {
            router.sysctl("ipv6/conf/all/forwarding", "1");
        }
        for router in [&net.xlat, &net.gate4] {
            router.sysctl("ipv4/ip_forward", "1");
        }

        let peer = |device: &str, name: &str, ns: &Netns| {
            let path = ns.path();
            format!("link add {device} type veth peer name {name} netns {path}\n")
        };
        net.gate6.ip(&peer("client", "gate6", &net.client));
        net.xlat
            .ip(&(peer("gate6", "xlat", &net.gate6) + &peer("gate4", "xlat", &net.gate4)));
        net.server.ip(&peer("gate4", "server", &net.gate4));

        net.client.ip("link set lo up
            link set gate6 up
            addr add 2001:db8:6::10/64 dev gate6 nodad
            route add ::/0 via 2001:db8:6::1");
        net.gate6.ip("link set lo up
            link set client up
            link set xlat up
            addr add 2001:db8:6::1/64 dev client nodad
            addr add 2001:db8:60::2/64 dev xlat nodad
            route add ::/0 via 2001:db8:60::1");
        net.xlat.ip("link set lo up
            link set gate6 up
            link set gate4 up
            addr add 2001:db8:60::1/64 dev gate6 nodad
            addr add 198.51.100.1/24 dev gate4
            route add 2001:db8:6::/64 via 2001:db8:60::2
            route add 192.0.2.0/24 via 198.51.100.2");
        net.gate4.ip("link set lo up
            link set xlat up
            link set server up
            addr add 198.51.100.2/24 dev xlat
            addr add 192.0.2.1/24 dev server
            route add default via 198.51.100.1");
        net.server.ip("link set lo up
            link set gate4 up
            addr add 192.0.2.2/24 dev gate4
            route add default via 192.0.2.1");
        for (ns, device) in net.devices() {
            wait_for(device, || ns.is_running(device).then_some(()));
        }
        net
    }

    /// Every veth device.
    fn devices(&self) -> [(&Netns, &'static str); 8] {
        [
            (&self.client, "gate6"),
            (&self.gate6, "client"),
            (&self.gate6, "xlat"),
            (&self.xlat, "gate6"),
            (&self.xlat, "gate4"),
            (&self.gate4, "xlat"),
            (&self.gate4, "server"),
            (&self.server, "gate4"),
        ]
    }

    /// No device may leave checksums or segmentation to whoever comes next.
    pub(crate) fn calculate_in_software(&self) {
        for (ns, device) in self.devices() {
            ns.run(&format!(
                "ethtool -K {device} tx off tso off gso off gro off"
            ));
        }
    }

    /// Makes the TUN device, starts the daemon with [`CONFIG`] and waits until packets can cross.
    pub(crate) fn translate(&self) -> Daemon {
        self.translate_with(CONFIG)
    }

    /// Makes the TUN device, starts the daemon and waits until packets can cross.
    pub(crate) fn translate_with(&self, config: &str) -> Daemon {
        self.xlat.ip("tuntap add dev nat64 mode tun");
        self.route_to_device();
        let daemon = Daemon::start(&self.xlat, config);
        self.wait_for_daemon();
        daemon
    }

    /// Sets the TUN device up and routes to it what is to be translated.
    pub(crate) fn route_to_device(&self) {
        self.xlat.ip("link set nat64 up
            route add 203.0.113.0/24 dev nat64
            route add 2001:db8:64::/96 dev nat64
            route add 2001:db8:ffff::1/128 dev nat64");
    }

    /// Waits until the daemon has the TUN device open: it has a carrier then.
    pub(crate) fn wait_for_daemon(&self) {
        wait_for("the daemon to open its device", || {
            self.xlat.is_running("nat64").then_some(())
        });
    }
}

/// A directory that is removed with its content at the end.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// Every user may enter it: programs of tests run as several.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "xlatd-kernel-{}-{}",
            process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = parent_of_directories().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A path of `program` by which every user may execute it: a copy, where its own place is not
    /// open to all.
    pub(crate) fn program_for_all(&self, program: &Path) -> PathBuf {
        if is_open_to_all(program) {
            return program.to_owned();
        }
        let copy = self.file("bin").join(program.file_name().unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        write_program(File::open(program).unwrap(), &copy);
        copy
    }
}

/// Writes a shell script that can be executed.
pub(crate) fn write_script(path: &Path, text: &str) {
    let (reader, mut pipe) = io::pipe().unwrap();
    write!(pipe, "#!/bin/sh\n{text}\n").unwrap();
    drop(pipe);
    write_program(reader, path);
}

/// Writes an executable file, by a process of its own: if this one wrote it, a child that another
/// test forks meanwhile could hold it open, and then it cannot be executed (ETXTBSY).
fn write_program(content: impl Into<Stdio>, path: &Path) {
    let mut install = Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(path);
    let status = install.stdin(content).status();
    assert!(status.unwrap().success(), "install {}", path.display());
}

/// cargo's directory for this, or the system's, where other users cannot enter the former: a clone
/// may lie in a home directory of mode 0700.
fn parent_of_directories() -> PathBuf {
    let of_cargo = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(of_cargo).unwrap();
    if is_open_to_all(of_cargo) {
        of_cargo.to_owned()
    } else {
        env::temp_dir()
    }
}

/// Whether every user may enter each directory on the way to a path, and the path itself.
fn is_open_to_all(path: &Path) -> bool {
    path.ancestors()
        .all(|path| fs::metadata(path).is_ok_and(|found| found.mode() & 0o001 != 0))
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program to start: a launcher may start it as another user.
fn program_of(launcher: &[&str], program: &Path, directory: &Directory) -> PathBuf {
    if launcher.is_empty() {
        program.to_owned()
    } else {
        directory.program_for_all(program)
    }
}

/// A socket that a program writes to, in a directory of its own.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) directory: Directory,
    socket: UnixDatagram,
}

impl Listener {
    pub(crate) fn new() -> Self {
        let directory = Directory::new();
        let socket = Self::bind(&directory);
        Self { directory, socket }
    }

    /// Another socket at the same place, as of a program that was started again.
    pub(crate) fn start_again(&mut self) {
        fs::remove_file(self.path()).unwrap();
        self.socket = Self::bind(&self.directory);
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.file("socket")
    }

    /// The next message.
    pub(crate) fn next(&self) -> String {
        let mut buffer = [0; 8192];
        let len = uninterrupted(|| self.socket.recv(&mut buffer)).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    fn bind(directory: &Directory) -> UnixDatagram {
        let socket = UnixDatagram::bind(directory.file("socket")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    }
}

/// What the kernel says of a process: a line of /proc/PID/status, with single blanks.
pub(crate) fn status(pid: Pid, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.into_iter().find(|(found, _)| *found == name).unwrap();
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Sends a signal to a process, whose number may have blanks around it.
pub(crate) fn send(signal: Signal, pid: &str) {
    kill(Pid::from_raw(pid.trim().parse().unwrap()), signal).unwrap();
}

/// The program under test, running. It is killed on drop, and by the kernel should this process end
/// without.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    directory: Directory,
}

impl Daemon {
    /// Starts the program in the foreground. It has not necessarily opened its device when this
    /// returns.
    pub(crate) fn start(ns: &Netns, config: &str) -> Self {
        Self::start_by(&[], ns, config)
    }

    /// As [`start`](Self::start), by a command that takes the program and its arguments for its own
    /// and becomes it.
    pub(crate) fn start_by(launcher: &[&str], ns: &Netns, config: &str) -> Self {
        Self::launch(launcher, &daemon(), ns, config)
    }

    /// As [`start`](Self::start), with more options.
    pub(crate) fn start_with(options: &str, ns: &Netns, config: &str) -> Self {
        let exec = format!("exec \"$0\" \"$@\" {options}");
        Self::start_by(&["sh", "-c", &exec], ns, config)
    }

    /// As [`start`](Self::start), another program.
    pub(crate) fn start_program(program: &Path, ns: &Netns, config: &str) -> Self {
        Self::launch(&[], program, ns, config)
    }

    fn launch(launcher: &[&str], program: &Path, ns: &Netns, config: &str) -> Self {
        let directory = Directory::new();
        let path = directory.file("tayga.conf");
        let offload = if without_offload() && program == daemon() && !is_tayga() {
            "offload no\n"
        } else {
            ""
        };
        let mut config = format!("{config}{offload}");
        if let Some(workers) = workers()
            && program == daemon()
            && !config.contains("\nworkers ")
            && ns.may_have_queues("nat64")
        {
            config += &format!("workers {workers}\n");
        }
        fs::write(&path, config).unwrap();
        let program = program_of(launcher, program, &directory);
        let mut words: Vec<_> = launcher.iter().map(OsStr::new).collect();
        words.extend([
            program.as_os_str(),
            "-n".as_ref(),
            "-c".as_ref(),
            path.as_os_str(),
        ]);
        Self::spawn(&words, ns, directory)
    }

    /// As [`start_program`](Self::start_program), with arguments of its own, separated by blanks.
    pub(crate) fn start_command(ns: &Netns, command: &str) -> Self {
        let words: Vec<_> = command.split_whitespace().map(OsStr::new).collect();
        Self::spawn(&words, ns, Directory::new())
    }

    /// Starts a CLAT, with lines of a clatd.conf. `runtime` is where it writes down what it does.
    pub(crate) fn start_clat(ns: &Netns, runtime: &Directory, config: &str) -> Self {
        Self::start_clat_program(&daemon(), ns, runtime, config)
    }

    /// The same, by a command that takes the program and its arguments for its own and becomes it.
    pub(crate) fn start_clat_by(
        launcher: &[&str],
        ns: &Netns,
        runtime: &Directory,
        config: &str,
    ) -> Self {
        Self::launch_clat(launcher, &daemon(), ns, runtime, config)
    }

    /// As [`start_clat`](Self::start_clat), another program.
    pub(crate) fn start_clat_program(
        program: &Path,
        ns: &Netns,
        runtime: &Directory,
        config: &str,
    ) -> Self {
        Self::launch_clat(&[], program, ns, runtime, config)
    }

    fn launch_clat(
        launcher: &[&str],
        program: &Path,
        ns: &Netns,
        runtime: &Directory,
        config: &str,
    ) -> Self {
        let directory = Directory::new();
        let path = directory.file("clatd.conf");
        let offload = if without_offload() {
            "offload=no\n"
        } else {
            ""
        };
        fs::write(&path, format!("{config}{offload}")).unwrap();
        let program = program_of(launcher, program, &directory);
        let runtime = format!("RUNTIME_DIRECTORY={}", runtime.0.display());
        let mut words: Vec<_> = launcher.iter().map(OsStr::new).collect();
        words.extend(["env".as_ref(), runtime.as_ref(), program.as_os_str()]);
        words.extend(["clat".as_ref(), "-c".as_ref(), path.as_os_str()]);
        Self::spawn(&words, ns, directory)
    }

    fn spawn(words: &[&OsStr], ns: &Netns, directory: Directory) -> Self {
        let log = File::create(directory.file("log")).unwrap();
        let mut command = Command::new("setpriv");
        // setpriv(1) of util-linux: the kernel kills the program when this thread ends, however it
        // ends.
        command.args(["--pdeathsig", "KILL", "--"]);
        command.args(words);
        // For its control socket, which no two of them may share.
        command.env("RUNTIME_DIRECTORY", &directory.0);
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = ns
            .inside(|| command.spawn())
            .expect("setpriv(1) of util-linux");
        Self { child, directory }
    }

    /// The control socket of a translator of this device.
    pub(crate) fn control_socket(&self, device: &str) -> PathBuf {
        self.directory.file(&format!("{device}.sock"))
    }

    /// What it has printed so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.file("log")).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits until it has printed a text.
    pub(crate) fn prints(&self, text: &str) {
        wait_for(text, || self.log().contains(text).then_some(()));
    }

    /// A line of its /proc/PID/status, without the name.
    pub(crate) fn status(&self, name: &str) -> String {
        status(self.pid(), name)
    }

    /// The time of processors that it has used (proc_pid_stat(5)).
    pub(crate) fn cpu_time(&self) -> Duration {
        const TICKS_PER_SECOND: u64 = 100;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let mut fields = fields.split_whitespace().skip(11); // utime, stime
        let mut ticks = || fields.next().unwrap().parse::<u64>().unwrap();
        Duration::from_millis((ticks() + ticks()) * 1000 / TICKS_PER_SECOND)
    }

    /// Whether it is asleep for a time that it has chosen: not in poll(2) and not in read(2).
    pub(crate) fn sleeps(&self) -> bool {
        let path = format!("/proc/{}/wchan", self.child.id());
        fs::read_to_string(path).unwrap().contains("nanosleep")
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("the daemon to end", || self.child.try_wait().unwrap())
    }

    /// Asks it to end, which it does in order.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.wait().code(), Some(0), "{}", self.log());
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Its other workers: processes of the same program that it has started.
    pub(crate) fn workers(&self) -> Vec<String> {
        let pid = self.pid();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(path).unwrap_or_default();
        let program = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
        let own = program(&pid.to_string());
        let children = children.split_whitespace();
        let workers = children.filter(|child| own.is_some() && program(child) == own);
        workers.map(str::to_owned).collect()
    }
}

/// Whether a process has not ended. One that has may be left until its parent has heard of it.
pub(crate) fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z"))
}

impl Drop for Daemon {
    /// Kills it. Its workers end a moment later: then its device is gone, too.
    fn drop(&mut self) {
        let workers = self.workers();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let start = Instant::now();
        while workers.iter().any(|pid| runs(pid)) && start.elapsed() < Duration::from_secs(2) {
            thread::sleep(Duration::from_millis(1));
        }
        if thread::panicking() {
            println!("the daemon printed:\n{}", self.log());
        }
    }
}
