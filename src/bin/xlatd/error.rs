//! The errors that end xlatd, at the start or later.

use std::{
    error, fmt, io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use nix::errno::Errno;
use xlatd::{
    config::{LineError, container::VariableError},
    plan::{Protocol, Resource, Step},
    report::explain::{NoCounterpart, NotRead},
};

use crate::sys::holder::Holder;

/// A failure to start or to continue.
///
/// Each variant names the attempt and its object; [`source`](error::Error::source) returns the
/// cause. `main` prints errors, and a daemon logs those after which it continues.
#[derive(Debug)]
pub(crate) enum Error {
    /// The command line is invalid. `help` is the command that explains it.
    Usage {
        help: &'static str,
        error: lexopt::Error,
    },
    /// The configuration or its map-file could not be read.
    Read { path: PathBuf, cause: io::Error },
    /// The address of `--listen` could not be listened on.
    Listen {
        address: SocketAddr,
        cause: io::Error,
    },
    /// The directory could not be listed.
    List { path: PathBuf, cause: io::Error },
    /// The configuration or its map-file has these mistakes.
    Config {
        path: PathBuf,
        lines: Vec<LineError>,
    },
    /// The environment has these mistakes.
    Variables(Vec<VariableError>),
    /// The network namespace does not forward, and these settings cannot get these values.
    Forwarding(Vec<((&'static str, &'static str), io::Error)>),
    /// No route leads to the router of TAYGA_GW4.
    NoRoute(Ipv4Addr),
    /// The user or group (`kind`) does not exist.
    NoSuchUser { kind: &'static str, name: String },
    /// The group for the user of `--user` is unknown.
    NoGroup,
    /// The process may not change to the user or group.
    NotRoot,
    /// `--chroot` needs something that is missing.
    Chroot(&'static str),
    /// The process id could not be written.
    PidFile { path: PathBuf, cause: io::Error },
    /// stdout could not be written to.
    Print(io::Error),
    /// The file of a trace could not be written.
    Write { path: PathBuf, cause: io::Error },
    /// stdout is a terminal, which cannot show a trace.
    Terminal,
    /// A system call that every daemon needs failed.
    System {
        attempt: &'static str,
        cause: io::Error,
    },
    /// The device of this name is not a TUN device.
    NotTun { device: String, kind: String },
    /// The kernel refused to attach to the TUN device.
    Attach { device: String, cause: io::Error },
    /// No packet socket could be opened on the uplink.
    PacketSocket { link: String, cause: io::Error },
    /// The TUN device has one queue, and there are several workers.
    SingleQueue { device: String, workers: u8 },
    /// A worker has ended, or cannot go on.
    Worker { number: usize, how: String },
    /// The MTU of the TUN device is less than IPv6 requires (RFC 8200 section 5).
    Mtu { device: String, mtu: u32 },
    /// A step of the set-up failed. Those before it are undone.
    Step { step: Step, cause: io::Error },
    /// A system call on the TUN device failed.
    Tun {
        device: String,
        call: &'static str,
        cause: io::Error,
    },
    /// The TUN device was removed.
    DeviceRemoved { device: String },
    /// Another process holds the lock of the `data-dir`.
    DataDirInUse {
        device: String,
        path: PathBuf,
        holder: Option<Holder>,
    },
    /// Another CLAT with this device holds the lock of the undo journal.
    ClatRunning { path: PathBuf },
    /// No packet can be sent to an address that is to be explained.
    NoCounterpart(NoCounterpart),
    /// A CLAT finds this out while it runs, unless the key says it.
    KnownWhileRunning {
        what: &'static str,
        key: &'static str,
    },
    /// The CLAT of the device has nothing to translate by.
    NotTranslating { device: String, state: String },
    /// The daemon with this control socket gave no answer.
    NoAnswer { socket: PathBuf, cause: io::Error },
    /// A capture could not be read, or no further.
    Capture { path: PathBuf, cause: NotRead },
}

impl Error {
    /// The error and its causes, in one line; the mistakes of a configuration in one line each.
    pub(crate) fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage { help, error } => write!(f, "{error}: see {help}"),
            Self::Read { path, .. } => write!(f, "{}: cannot be read", path.display()),
            Self::Listen { address, .. } => write!(f, "cannot listen on {address}"),
            Self::List { path, .. } => write!(
                f,
                "{}: cannot be listed, so name the device, or be root",
                path.display()
            ),
            Self::Config { path, lines } => {
                let mut separator = "";
                for line in lines {
                    write!(f, "{separator}{}", line.in_file(path))?;
                    separator = "\n";
                }
                Ok(())
            }
            Self::Variables(errors) => {
                let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Self::Forwarding(settings) => {
                let mut flags = String::new();
                for ((path, value), cause) in settings {
                    let name = path.replace('/', ".");
                    writeln!(f, "cannot set {name} to {value}: {cause}")?;
                    flags += &format!(" --sysctl {name}={value}");
                }
                write!(f, "start the container with{flags}")
            }
            Self::NoRoute(router) => {
                write!(
                    f,
                    "TAYGA_GW4: expected a router, found {router}, which has no route"
                )
            }
            Self::NoSuchUser { kind, name } => write!(f, "{name}: no such {kind}"),
            Self::NoGroup => f.write_str("--user with the number of an unknown user needs --group"),
            Self::NotRoot => f.write_str("--user and --group require root"),
            Self::Chroot(needs) => write!(f, "--chroot needs {needs}"),
            Self::PidFile { path, .. } => {
                write!(f, "{}: cannot write the process id", path.display())
            }
            Self::Print(_) => f.write_str("cannot write to stdout"),
            Self::Write { path, .. } => write!(f, "{}: cannot be written", path.display()),
            Self::Terminal => f.write_str(
                "stdout: expected a file or a pipe, found a terminal: leave out \"-w -\" to read \
                 the packets here",
            ),
            Self::System { attempt, .. } => write!(f, "cannot {attempt}"),
            Self::NotTun { device, kind } => write!(
                f,
                "{device}: expected a TUN device, found {kind}: set another tun-device, or remove \
                 this one"
            ),
            Self::PacketSocket { link, .. } => write!(f, "{link}: cannot open a packet socket"),
            Self::Attach { device, cause } => {
                write!(f, "{device}: cannot attach to the TUN device")?;
                f.write_str(match errno(cause) {
                    Some(Errno::EBUSY) => {
                        ", which another process is using: stop that one, or choose another device"
                    }
                    Some(Errno::EPERM | Errno::EACCES) => {
                        ", which requires root or CAP_NET_ADMIN (in a container: --cap-add \
                         NET_ADMIN)"
                    }
                    Some(Errno::ENOENT) => {
                        ", since there is no /dev/net/tun (modprobe tun; in a container: --device \
                         /dev/net/tun)"
                    }
                    _ => "",
                })
            }
            Self::SingleQueue { device, workers } => write!(
                f,
                "{device}: expected a device with several queues, which workers {workers} needs, \
                 found one with a single queue: ip link delete dev {device}; ip tuntap add dev \
                 {device} mode tun multi_queue"
            ),
            Self::Worker { number, how } => write!(f, "worker {number} {how}"),
            Self::Mtu { device, mtu } => write!(
                f,
                "{device}: expected an MTU of at least 1280 octets, which IPv6 requires, found \
                 {mtu}: ip link set dev {device} mtu 1500"
            ),
            Self::Step { step, cause } => {
                write!(f, "cannot {step}")?;
                let resource = match step {
                    Step::Apply(resource) => Some(resource),
                    Step::Undo(_) => None,
                };
                f.write_str(match (resource, errno(cause)) {
                    (_, Some(Errno::EPERM)) => ", which requires root or CAP_NET_ADMIN",
                    (Some(Resource::Sysctl(_) | Resource::Forwarding), Some(Errno::EROFS)) => {
                        " (in a container: by its option --sysctl)"
                    }
                    (Some(Resource::Route(route)), Some(Errno::ENETDOWN))
                        if route.protocol == Protocol::Static =>
                    {
                        ", which is down (\"tun-up yes\" sets it up)"
                    }
                    (Some(resource), Some(Errno::EACCES)) if resource.needs_ipv6() => {
                        ", since IPv6 is disabled (sysctl net.ipv6.conf.all.disable_ipv6)"
                    }
                    _ => "",
                })
            }
            Self::Tun { device, call, .. } => write!(f, "{device}: cannot {call} the TUN device"),
            Self::DeviceRemoved { device } => {
                write!(f, "{device}: the TUN device has been removed")
            }
            Self::DataDirInUse {
                device,
                path,
                holder,
            } => {
                let path = path.display();
                write!(
                    f,
                    "{device}: cannot keep leases in {path}, which is used by "
                )?;
                match holder {
                    Some(Holder {
                        pid,
                        device: Some(other),
                    }) => write!(f, "the translator of {other} (process {pid})"),
                    Some(Holder { pid, .. }) => write!(f, "process {pid}"),
                    None => f.write_str("another process"),
                }?;
                f.write_str(": set another data-dir, or stop that process")
            }
            Self::ClatRunning { path } => write!(
                f,
                "{}: another xlatd clat is running with this device: stop it, or set another \
                 clat-dev",
                path.display()
            ),
            Self::NoCounterpart(error) => error.fmt(f),
            Self::KnownWhileRunning { what, key } => write!(
                f,
                "{what} of a CLAT is known only while it runs: give {key}, or ask the one that \
                 runs with --live DEVICE"
            ),
            Self::NotTranslating { device, state } => {
                write!(f, "{device}: nothing is translated now: {state}")
            }
            Self::NoAnswer { socket, .. } => write!(f, "{}: no answer", socket.display()),
            Self::Capture { path, cause } => write!(f, "{}: {cause}", path.display()),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Read { cause, .. }
            | Self::List { cause, .. }
            | Self::Listen { cause, .. }
            | Self::PidFile { cause, .. }
            | Self::Print(cause)
            | Self::Write { cause, .. }
            | Self::System { cause, .. }
            | Self::Attach { cause, .. }
            | Self::PacketSocket { cause, .. }
            | Self::Step { cause, .. }
            | Self::Tun { cause, .. }
            | Self::NoAnswer { cause, .. } => Some(cause),
            Self::Usage { .. }
            | Self::Config { .. }
            | Self::Variables(_)
            | Self::Forwarding(_)
            | Self::NoRoute(_)
            | Self::NoSuchUser { .. }
            | Self::NoGroup
            | Self::NotRoot
            | Self::Terminal
            | Self::Chroot(_)
            | Self::NotTun { .. }
            | Self::SingleQueue { .. }
            | Self::Worker { .. }
            | Self::Mtu { .. }
            | Self::DeviceRemoved { .. }
            | Self::DataDirInUse { .. }
            | Self::ClatRunning { .. }
            | Self::NoCounterpart(_)
            | Self::KnownWhileRunning { .. }
            | Self::NotTranslating { .. }
            | Self::Capture { .. } => None,
        }
    }
}

impl Error {
    /// Whether a step failed because its object, or the device of it, does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        let Self::Step { cause, .. } = self else {
            return false;
        };
        matches!(
            errno(cause),
            Some(
                Errno::ENOENT | Errno::ESRCH | Errno::ENODEV | Errno::ENXIO | Errno::EADDRNOTAVAIL
            )
        )
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

/// Makes an [`Error::System`] of the cause, for `map_err`.
pub(crate) fn system(attempt: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::System { attempt, cause }
}
