//! Why xlatd could not start, or had to stop.

use std::{error, fmt, io, path::PathBuf};

use nix::errno::Errno;
use xlatd::{
    config::{IpPrefix, LineError},
    plan::Step,
};

use crate::sys::holder::Holder;

/// Each variant says what was being attempted and on what; the cause is reached through [`source`](error::Error::source).
/// `main` prints them; the daemon logs those that it survives.
#[derive(Debug)]
pub(crate) enum Error {
    /// The command line makes no sense. `help` is the command that says how it is called.
    Usage {
        help: &'static str,
        error: lexopt::Error,
    },
    /// The configuration or its map-file could not be read.
    Read { path: PathBuf, cause: io::Error },
    /// The configuration or its map-file was refused, for each of these reasons.
    Config {
        path: PathBuf,
        lines: Vec<LineError>,
    },
    /// There is no such user or group.
    Nobody { kind: &'static str, name: String },
    /// It is not known which group the user of `--user` is to have.
    NoGroup,
    /// Only root can become somebody else.
    NotRoot,
    /// `--chroot` needs something else.
    Chroot(&'static str),
    /// The process id could not be written.
    PidFile { path: PathBuf, cause: io::Error },
    /// What was to be printed could not be.
    Print(io::Error),
    /// The kernel refused something that every daemon needs.
    System {
        attempt: &'static str,
        cause: io::Error,
    },
    /// There is a device of this name, and it is of another kind.
    NotTun { device: String, kind: String },
    /// The kernel did not let us have the device.
    Attach { device: String, cause: io::Error },
    /// IPv6 does not work over links this narrow (RFC 8200 section 5).
    Mtu { device: String, mtu: u32 },
    /// A step of the set-up failed. What was done before it is undone.
    Step { step: Step, cause: io::Error },
    /// A call on the device failed.
    Tun {
        device: String,
        call: &'static str,
        cause: io::Error,
    },
    /// The device was deleted.
    Gone { device: String },
    /// Another translator keeps its leases where this one is to.
    DataDir {
        device: String,
        path: PathBuf,
        holder: Option<Holder>,
    },
    /// Another CLAT has the device.
    AtWork { path: PathBuf },
}

impl Error {
    /// The error and its causes: one line, or one for each mistake of a configuration.
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
            Self::Config { path, lines } => {
                let mut separator = "";
                for line in lines {
                    write!(f, "{separator}{}", line.in_file(path))?;
                    separator = "\n";
                }
                Ok(())
            }
            Self::Nobody { kind, name } => write!(f, "{name}: there is no such {kind}"),
            Self::NoGroup => f.write_str("--user with the number of an unknown user needs --group"),
            Self::NotRoot => f.write_str(
                "--user and --group take root: to be started by somebody else is to be them already"
            ),
            Self::Chroot(needs) => write!(f, "--chroot needs {needs}"),
            Self::PidFile { path, .. } => {
                write!(f, "{}: cannot write the process id", path.display())
            }
            Self::Print(_) => f.write_str("cannot write to stdout"),
            Self::System { attempt, .. } => write!(f, "cannot {attempt}"),
            Self::NotTun { device, kind } => write!(
                f,
                "{device}: expected a TUN device, found {kind}: name another tun-device, or remove this one"
            ),
            Self::Attach { device, cause } => {
                write!(f, "{device}: cannot attach to the TUN device")?;
                f.write_str(match errno(cause) {
                    Some(Errno::EBUSY) => ", which another process is using",
                    Some(Errno::EPERM | Errno::EACCES) => ", which takes root or CAP_NET_ADMIN",
                    Some(Errno::ENOENT) => ", since there is no /dev/net/tun (modprobe tun)",
                    _ => "",
                })
            }
            Self::Mtu { device, mtu } => write!(
                f,
                "{device}: expected an MTU of 1280 octets or more, which IPv6 needs, found {mtu}: \
                 ip link set dev {device} mtu 1500"
            ),
            Self::Step { step, cause } => {
                write!(f, "cannot {step}")?;
                f.write_str(match (step, errno(cause)) {
                    (_, Some(Errno::EPERM)) => ", which takes root or CAP_NET_ADMIN",
                    (Step::AddRoute { .. }, Some(Errno::ENETDOWN)) => {
                        ", which is down (tun-up yes sets it up)"
                    }
                    (step, Some(Errno::EACCES)) if is_ipv6(step) => {
                        ", since IPv6 is disabled (sysctl net.ipv6.conf.all.disable_ipv6)"
                    }
                    _ => "",
                })
            }
            Self::Tun { device, call, .. } => write!(f, "{device}: cannot {call} the TUN device"),
            Self::Gone { device } => write!(f, "{device}: the TUN device has been removed"),
            Self::DataDir {
                device,
                path,
                holder,
            } => {
                let path = path.display();
                write!(f, "{device}: cannot keep leases in {path}, where ")?;
                match holder {
                    Some(Holder {
                        pid,
                        device: Some(other),
                    }) => write!(f, "the translator of {other} (process {pid}) keeps its own"),
                    Some(Holder { pid, .. }) => write!(f, "process {pid} keeps its own"),
                    None => f.write_str("another process keeps its own"),
                }?;
                f.write_str(": name another data-dir, or stop the other one")
            }
            Self::AtWork { path } => write!(
                f,
                "{}: another xlatd clat is at work with this device: stop it, or name another clat-dev",
                path.display()
            ),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Read { cause, .. }
            | Self::PidFile { cause, .. }
            | Self::Print(cause)
            | Self::System { cause, .. }
            | Self::Attach { cause, .. }
            | Self::Step { cause, .. }
            | Self::Tun { cause, .. } => Some(cause),
            Self::Usage { .. }
            | Self::Config { .. }
            | Self::Nobody { .. }
            | Self::NoGroup
            | Self::NotRoot
            | Self::Chroot(_)
            | Self::NotTun { .. }
            | Self::Mtu { .. }
            | Self::Gone { .. }
            | Self::DataDir { .. }
            | Self::AtWork { .. } => None,
        }
    }
}

impl Error {
    /// Whether it is that there is nothing, or no device any more, to take a step on.
    pub(crate) fn says_there_is_none(&self) -> bool {
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

/// Whether a step needs IPv6 on the device.
fn is_ipv6(step: &Step) -> bool {
    matches!(
        step,
        Step::AddAddress {
            address: IpPrefix::V6(..),
            ..
        } | Step::AddRoute {
            destination: IpPrefix::V6(..),
            ..
        }
    )
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

/// What the kernel did not do for us, as an error.
pub(crate) fn system(attempt: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::System { attempt, cause }
}
