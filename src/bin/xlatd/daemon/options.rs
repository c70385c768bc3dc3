//! The options of a translator, as all its workers have them, and what they make of them.

use std::path::PathBuf;

use caps::Capability;
use xlatd::{
    addr::Prefix4,
    config::{Config, LogClasses},
    plan::Resource,
    wire::ipv6::MIN_MTU,
};

use crate::{
    daemon::file_as_read::FileAsRead,
    datapath::EVERY_PACKET,
    error::{Error, system},
    sys::privilege::{self, Identity},
};

/// The options of the command line.
pub(crate) struct Options {
    /// Whether every packet is logged.
    pub(crate) debug: bool,
    /// The path of the PID file.
    pub(crate) pidfile: Option<PathBuf>,
    /// The user and group to run as.
    pub(crate) identity: Identity,
    /// Whether to change the root directory to `data-dir`.
    pub(crate) chroot: bool,
    /// The configuration.
    pub(crate) configuration: FileAsRead,
    /// The directory of the control socket.
    pub(crate) runtime_directory: PathBuf,
    /// What only a container sets up.
    pub(crate) container: Container,
}

/// What is set up in the network namespace of a container, besides the device.
#[derive(Default)]
pub(crate) struct Container {
    /// Routes to others than the device.
    pub(crate) routes: Vec<Resource>,
    /// The pool that is masqueraded.
    pub(crate) masquerade: Option<Prefix4>,
}

/// The packets that are logged.
pub(crate) fn log_classes(config: &Config, options: &Options) -> LogClasses {
    if options.debug {
        EVERY_PACKET
    } else {
        config.log
    }
}

/// Drops the privileges that the set-up needed, and returns the remaining ones in words. From here
/// on the translator uses open descriptors.
pub(crate) fn drop_privileges(config: &Config, options: &Options) -> Result<String, Error> {
    if options.chroot
        && let Some(directory) = &config.data_dir
    {
        privilege::enter_chroot(directory).map_err(system("chroot to the data-dir"))?;
    }
    let mut kept = Vec::new();
    if config.keep_net_admin {
        kept.push(Capability::CAP_NET_ADMIN);
    }
    if privilege::stays_root(options.identity) {
        // As with tayga, a daemon that stays root can read and write any file.
        kept.push(Capability::CAP_DAC_OVERRIDE);
    }
    let remaining =
        privilege::drop_to(options.identity, &kept).map_err(system("give up privileges"))?;
    Ok(remaining)
}

/// The MTU for translation, in octets. An administrator can set the MTU of a device below what IPv6
/// requires (RFC 8200 section 5) while it is in use; the kernel then stops IPv6 on it.
pub(crate) fn translation_mtu(mtu: u32) -> u16 {
    u16::try_from(mtu).unwrap_or(u16::MAX).max(MIN_MTU)
}
