//! The translator, and the commands of tayga.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use log::{info, warn};
use xlatd::{
    config::{Config, Level, Notice},
    plan,
};

use super::{
    VERSION, print, runtime_directory, say,
    tayga::{HELP, Name, TaygaArguments, TaygaCommand},
};
use crate::{
    daemon::{
        file_as_read::FileAsRead,
        map_file,
        options::{Container, Options},
        translator,
    },
    datapath::device,
    error::{Error, system},
    sys::{
        self,
        detach::{Process, Stdout, detach},
        log::Destination,
        plain_file,
        privilege::{self, Identity},
    },
};

/// Runs the command of the arguments, and returns the exit status of the process.
pub(crate) fn run(name: Name, arguments: &TaygaArguments) -> Result<ExitCode, Error> {
    match arguments.command {
        TaygaCommand::Help if name == Name::Tayga => {
            let _ = io::stderr().write_all(HELP.as_bytes());
            return Ok(ExitCode::FAILURE); // as tayga
        }
        TaygaCommand::Help => print(HELP)?,
        TaygaCommand::Version => print(VERSION)?,
        TaygaCommand::Check => {
            let (config, notices, _) = read_config(&arguments.config)?;
            start_log(name, arguments)?; // for warnings about the map-file
            map_file::address_map(&config)?;
            print(&plan::describe(&config, &notices))?;
        }
        TaygaCommand::MakeTun => {
            start_log(name, arguments)?;
            device::make_tun(&configure(arguments)?.0)?;
        }
        TaygaCommand::RemoveTun => {
            start_log(name, arguments)?;
            device::remove_tun(&configure(arguments)?.0)?;
        }
        TaygaCommand::Run => {
            start_log(name, arguments)?;
            let (config, configuration) = configure(arguments)?;
            return start(arguments, config, configuration);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the daemon in the foreground or in the background.
fn start(
    arguments: &TaygaArguments,
    config: Config,
    configuration: FileAsRead,
) -> Result<ExitCode, Error> {
    let options = Options {
        debug: arguments.debug,
        pidfile: arguments
            .pidfile
            .as_deref()
            .map(|path| config.path_from_data_dir(path)),
        identity: identity(arguments)?,
        chroot: arguments.chroot,
        configuration,
        runtime_directory: runtime_directory(),
        container: Container::default(),
    };
    if arguments.chroot && config.data_dir.is_none() {
        return Err(Error::Chroot("data-dir in the configuration"));
    }
    if arguments.chroot && options.identity.uid.is_none_or(|uid| uid.is_root()) {
        return Err(Error::Chroot(
            "--user with a user other than root, which can leave it",
        ));
    }
    let readiness = if arguments.foreground {
        None
    } else {
        match detach().map_err(system("go on in the background"))? {
            Process::Started(0) => return Ok(ExitCode::SUCCESS),
            Process::Started(_) => return Ok(ExitCode::FAILURE),
            Process::Daemon(readiness) => Some(readiness),
        }
    };
    info!("Starting xlatd {}", env!("CARGO_PKG_VERSION"));
    let stdout = match arguments.destination {
        Destination::Stdout => Stdout::Inherited,
        _ => Stdout::Null,
    };
    let readiness = readiness.map(|readiness| (readiness, stdout));
    Ok(match translator::run(config, &options, readiness)? {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Starts logging to the destination of the arguments.
fn start_log(name: Name, arguments: &TaygaArguments) -> Result<(), Error> {
    let mut destination = arguments.destination;
    if destination == Destination::Syslog && !sys::log::has_syslog() {
        if arguments.foreground {
            destination = Destination::Stdout; // maybe a terminal
        } else {
            let path = sys::log::SYSLOG;
            say(
                name,
                &format!(
                    "there is no syslog at {path}: messages are lost until there is one \
                     (or use --journal, --stdout)"
                ),
            );
        }
    }
    sys::log::start(destination, name.as_str(), arguments.debug)
        .map_err(system("log to the journal (use --syslog or --stdout)"))
}

/// The user and group to become.
fn identity(arguments: &TaygaArguments) -> Result<Identity, Error> {
    let mut identity = Identity::default();
    let no_such_user = |kind, name: &String| Error::NoSuchUser {
        kind,
        name: name.clone(),
    };
    if let Some(name) = &arguments.user {
        let user = privilege::user(name).map_err(system("look for the user of --user"))?;
        let (uid, gid) = user.ok_or_else(|| no_such_user("user", name))?;
        identity.uid = Some(uid);
        identity.gid = gid;
    }
    if let Some(name) = &arguments.group {
        let group = privilege::group(name).map_err(system("look for the group of --group"))?;
        identity.gid = Some(group.ok_or_else(|| no_such_user("group", name))?);
    }
    match identity {
        // An unknown number has no group of its own, and must not keep that of root.
        Identity {
            uid: Some(_),
            gid: None,
        } => Err(Error::NoGroup),
        _ if !privilege::can_become(identity) => Err(Error::NotRoot),
        identity => Ok(identity),
    }
}

/// Reads the configuration, and logs its notices.
fn configure(arguments: &TaygaArguments) -> Result<(Config, FileAsRead), Error> {
    for ignored in &arguments.ignored {
        warn!("The argument {ignored:?} is ignored");
    }
    let (config, notices, as_read) = read_config(&arguments.config)?;
    for notice in notices {
        let line = notice.in_file(&arguments.config);
        match notice.level {
            Level::Warning => warn!("{line}"),
            Level::Info => info!("{line}"),
        }
    }
    Ok((config, as_read))
}

fn read_config(path: &Path) -> Result<(Config, Vec<Notice>, FileAsRead), Error> {
    let text = read_file(path)?;
    let as_read = FileAsRead::new(path, &text);
    let (config, notices) = parse_config(path, &text)?;
    Ok((config, notices, as_read))
}

/// Reads a file that must be there.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|cause| Error::Read {
        path: path.to_owned(),
        cause,
    })
}

/// Reads a file that another process has named.
pub(super) fn read_plain_file(path: &Path) -> Result<Vec<u8>, Error> {
    plain_file::read(path).map_err(|cause| Error::Read {
        path: path.to_owned(),
        cause,
    })
}

/// The configuration of the text of a file.
pub(super) fn parse_config(path: &Path, text: &[u8]) -> Result<(Config, Vec<Notice>), Error> {
    Config::read_in(text, state_directory()).map_err(|lines| Error::Config {
        path: path.to_owned(),
        lines,
    })
}

/// The first directory of the service's state (systemd.exec(5), StateDirectory=).
fn state_directory() -> Option<PathBuf> {
    let directories = env::var_os("STATE_DIRECTORY")?;
    let path = env::split_paths(&directories).next()?;
    path.is_absolute().then_some(path)
}
