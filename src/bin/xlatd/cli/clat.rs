//! The command `xlatd clat`.

use std::{ffi::OsString, io, path::Path};

use caps::Capability;
use log::{info, warn};
use xlatd::config::{
    Level, Notice,
    clatd::{self, ClatConfig, KeyUse},
};

use super::{
    VERSION,
    clatd::{ClatdArguments, ClatdCommand, DEFAULT_CONFIG, HELP},
    print, runtime_directory,
    tayga::Name,
    translator::read_file,
    usage,
};
use crate::{
    daemon::{clat, control::Control, file_as_read::FileAsRead, service::Limits},
    error::{Error, system},
    host::Host,
    sys::{
        self,
        control_socket::remove_left_over,
        firewall::Firewall,
        log::Destination,
        privilege::{self, Identity},
        resolver::LinkStates,
        sandbox::Programs,
    },
};

/// Runs a CLAT, or the command that the arguments name.
pub(crate) fn run(name: Name, words: impl Iterator<Item = OsString>) -> Result<(), Error> {
    let usage = usage(name.clat_help());
    let arguments = ClatdArguments::parse(words).map_err(&usage)?;
    match arguments.command {
        ClatdCommand::Help => return print(HELP),
        ClatdCommand::Version => {
            return print(VERSION);
        }
        ClatdCommand::Run | ClatdCommand::CleanUp => {}
    }
    let Configured {
        config,
        file,
        lines,
    } = configure_clat(&arguments, read_file, usage)?;
    sys::log::start(Destination::Stdout, "xlatd", config.debug).map_err(system("log to stdout"))?;
    if config.quiet {
        log::set_max_level(log::LevelFilter::Warn);
    }
    for (level, line) in lines {
        match level {
            Level::Warning => warn!("{line}"),
            Level::Info => info!("{line}"),
        }
    }
    let directory = runtime_directory();
    let socket = config.control_socket.path(&directory, &config.clat.device);
    if arguments.command == ClatdCommand::CleanUp {
        // That of a CLAT that runs stays, and what is not a socket.
        let _ = socket.as_deref().map(remove_left_over);
        let firewall = Firewall::new(&config.nft, config.ufw.as_deref());
        return Host::clean_up(&directory, &config.clat.device, firewall);
    }
    info!("Starting xlatd {} as a CLAT", env!("CARGO_PKG_VERSION"));
    // Before privileges go, and the sandbox comes.
    let control = socket.and_then(|path| Control::open(&path, Identity::default()));
    let mut sandbox = "none (sandbox no)".to_owned();
    let link_states = LinkStates::new(); // while other processes can be looked at
    let uses_ufw = config.ufw.is_some() || sys::firewall::ufw::is_enabled();
    if config.script_up.is_none() && config.script_down.is_none() && !uses_ufw {
        // nft(8) needs the first. Root has the last two, for the undo journal in the directory of
        // the services' user.
        privilege::limit_capabilities(&[
            Capability::CAP_NET_ADMIN,
            Capability::CAP_NET_RAW,
            Capability::CAP_CHOWN,
            Capability::CAP_DAC_OVERRIDE,
        ])
        .map_err(system("give up privileges"))?;
        if config.sandbox {
            sandbox = match sys::sandbox::restrict_calls(Programs::Allowed) {
                Ok(()) => "system calls".to_owned(),
                Err(error) => {
                    warn!("No sandbox for system calls (seccomp): {error}");
                    format!("none: {error}")
                }
            };
        }
    } else if config.sandbox {
        sandbox = "none, for script-up, script-down or ufw".to_owned();
    }
    let (mut service, mut daemon) = clat::start(config, file, &directory, link_states)?;
    service.control = control;
    service.limits = Limits {
        privileges: privilege::in_words().unwrap_or_default(),
        sandbox,
    };
    service.run(&mut daemon)
}

/// A configuration as it was read.
pub(super) struct Configured {
    pub(super) config: ClatConfig,
    /// `None`: there is no file, and none is needed.
    pub(super) file: Option<FileAsRead>,
    /// The lines to log.
    lines: Vec<(Level, String)>,
}

/// The path and the text of the configuration, which `read` reads. No text: there is no file, and
/// none was asked for.
pub(super) fn configuration(
    arguments: &ClatdArguments,
    read: fn(&Path) -> Result<Vec<u8>, Error>,
) -> Result<(&Path, Option<Vec<u8>>), Error> {
    let path = arguments.config.as_deref();
    let path = path.unwrap_or(Path::new(DEFAULT_CONFIG));
    match read(path) {
        Ok(text) => Ok((path, Some(text))),
        Err(Error::Read { cause, .. })
            if cause.kind() == io::ErrorKind::NotFound && arguments.config.is_none() =>
        {
            Ok((path, None))
        }
        Err(error) => Err(error),
    }
}

/// Reads the configuration with `read`.
pub(super) fn configure_clat(
    arguments: &ClatdArguments,
    read: fn(&Path) -> Result<Vec<u8>, Error>,
    usage: impl Fn(lexopt::Error) -> Error,
) -> Result<Configured, Error> {
    let mut config = ClatConfig::default();
    let (path, text) = configuration(arguments, read)?;
    let file = text.as_ref().map(|text| FileAsRead::new(path, text));
    let text = text.unwrap_or_default();
    let notices = config.read(&text).map_err(|lines| Error::Config {
        path: path.to_owned(),
        lines,
    })?;
    let in_file = |notice: &Notice| (notice.level, notice.in_file(path).to_string());
    let mut lines: Vec<_> = notices.iter().map(in_file).collect();
    for (key, value) in &arguments.keys {
        match config.set(key, value) {
            Ok(KeyUse::Unknown) => return Err(usage(clatd::unknown(key).into())),
            Ok(used) => {
                let notice = used.notice(key, 0);
                lines.extend(notice.map(|notice| (notice.level, notice.to_string())));
            }
            Err(expected) => {
                let text = format!("{key}: expected {expected}, found {value:?}");
                return Err(usage(text.into()));
            }
        }
    }
    Ok(Configured {
        config,
        file,
        lines,
    })
}
