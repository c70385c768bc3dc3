//! xlatd(8): arguments to a configuration to a daemon, and the exit status.

mod cli;
mod daemon;
mod datapath;
mod error;
mod host;
mod sys;

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use caps::Capability;
use log::{error, info, warn};
use xlatd::{
    config::{
        Config, Level, Notice,
        clatd::{self, ClatConfig, Taken},
    },
    plan,
};

use crate::{
    cli::tayga::{self, Arguments, Command, Name},
    daemon::clat::ClatDaemon,
    daemon::translator::{Daemon, Options},
    error::{Error, system},
    host::Host,
    sys::{
        detach::{Process, detach},
        log::Destination,
        privilege::{self, Identity},
    },
};

fn main() -> ExitCode {
    let name = Name::of(env::args_os().next().as_deref());
    let mut words = env::args_os().skip(1).peekable();
    let is_clat = match name {
        Name::Clatd => true,
        Name::Xlatd => words.next_if(|word| word == "clat").is_some(),
        Name::Tayga => false,
    };
    if is_clat {
        return match run_clat(name, words) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                error.report().lines().for_each(|line| say(name, line));
                ExitCode::FAILURE
            }
        };
    }
    let error = match Arguments::parse(name, words) {
        Ok(arguments) => match run(name, &arguments) {
            Ok(status) => return status,
            Err(error) => {
                // Nobody may be there to see stderr.
                if arguments.destination != Destination::Stdout {
                    error.report().lines().for_each(|line| error!("{line}"));
                }
                error
            }
        },
        Err(error) => Error::Usage {
            help: name.help(),
            error,
        },
    };
    for line in error.report().lines() {
        say(name, line);
    }
    ExitCode::FAILURE
}

/// Says something on stderr, where that can be written to.
fn say(name: Name, line: &str) {
    let _ = writeln!(io::stderr(), "{}: {line}", name.as_str());
}

fn run(name: Name, arguments: &Arguments) -> Result<ExitCode, Error> {
    match arguments.command {
        Command::Help if name == Name::Tayga => {
            let _ = io::stderr().write_all(tayga::HELP.as_bytes());
            return Ok(ExitCode::FAILURE); // as tayga
        }
        Command::Help => print(tayga::HELP)?,
        Command::Version => print(concat!("xlatd ", env!("CARGO_PKG_VERSION"), "\n"))?,
        Command::Check => {
            let (config, notices) = read_config(&arguments.config)?;
            start_log(name, arguments)?; // for what is to be known about the map-file
            daemon::translator::check_map_file(&config)?;
            print(&plan::describe(&config, &notices))?;
        }
        Command::MakeTun => {
            start_log(name, arguments)?;
            datapath::device::make_tun(&configure(arguments)?)?;
        }
        Command::RemoveTun => {
            start_log(name, arguments)?;
            datapath::device::remove_tun(&configure(arguments)?)?;
        }
        Command::Run => {
            start_log(name, arguments)?;
            let config = configure(arguments)?;
            return start(arguments, config);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `xlatd clat`
fn run_clat(name: Name, words: impl Iterator<Item = OsString>) -> Result<(), Error> {
    let usage = |error| Error::Usage {
        help: name.clat_help(),
        error,
    };
    let arguments = cli::clatd::Arguments::parse(words).map_err(usage)?;
    match arguments.command {
        cli::clatd::Command::Help => return print(cli::clatd::HELP),
        cli::clatd::Command::Version => {
            return print(concat!("xlatd ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        cli::clatd::Command::Run | cli::clatd::Command::CleanUp => {}
    }
    let (config, lines) = configure_clat(&arguments, usage)?;
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
    sys::firewall::nft::use_program(&config.nft);
    if let Some(program) = &config.ufw {
        sys::firewall::ufw::use_program(program);
    }
    let directory = runtime_directory();
    if arguments.command == cli::clatd::Command::CleanUp {
        return Host::clean_up(&directory, &config.clat.device);
    }
    info!("Starting xlatd {} as a CLAT", env!("CARGO_PKG_VERSION"));
    let uses_ufw = config.ufw.is_some() || sys::firewall::ufw::is_enabled();
    if config.script_up.is_none() && config.script_down.is_none() && !uses_ufw {
        // nft(8) needs the first. Root, who has the last two, also writes the record in a directory
        // of the services' user.
        privilege::confine(&[
            Capability::CAP_NET_ADMIN,
            Capability::CAP_NET_RAW,
            Capability::CAP_CHOWN,
            Capability::CAP_DAC_OVERRIDE,
        ])
        .map_err(system("give up privileges"))?;
        if config.sandbox
            && let Err(error) = sys::sandbox::confine_calls(true)
        {
            warn!("No sandbox for system calls (seccomp): {error}");
        }
    }
    ClatDaemon::start(config, &directory)?.run()
}

/// The configuration of a CLAT, and what there is to know about it.
fn configure_clat(
    arguments: &cli::clatd::Arguments,
    usage: impl Fn(lexopt::Error) -> Error,
) -> Result<(ClatConfig, Vec<(Level, String)>), Error> {
    let mut config = ClatConfig::default();
    let path = arguments.config.as_deref();
    let path = path.unwrap_or(Path::new(cli::clatd::DEFAULT_CONFIG));
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && arguments.config.is_none() => {
            Vec::new()
        }
        Err(cause) => {
            return Err(Error::Read {
                path: path.to_owned(),
                cause,
            });
        }
    };
    let notices = config.read(&text).map_err(|lines| Error::Config {
        path: path.to_owned(),
        lines,
    })?;
    let mut lines: Vec<_> = notices
        .iter()
        .map(|notice| (notice.level, notice.in_file(path).to_string()))
        .collect();
    for (key, value) in &arguments.keys {
        match config.set(key, value) {
            Ok(Taken::Used) => {}
            Ok(Taken::Ignored) => lines.push((Level::Info, Taken::Ignored.text(key))),
            Ok(Taken::Unknown) => return Err(usage(clatd::unknown(key).into())),
            Err(expected) => {
                let text = format!("{key}: expected {expected}, found {value:?}");
                return Err(usage(text.into()));
            }
        }
    }
    Ok((config, lines))
}

/// Runs the daemon, in the foreground or not.
fn start(arguments: &Arguments, config: Config) -> Result<ExitCode, Error> {
    let options = Options {
        debug: arguments.debug,
        pidfile: arguments
            .pidfile
            .as_deref()
            .map(|path| config.path_from_data_dir(path)),
        identity: identity(arguments)?,
        chroot: arguments.chroot,
    };
    if arguments.chroot && config.data_dir.is_none() {
        return Err(Error::Chroot("data-dir in the configuration"));
    }
    if arguments.chroot && options.identity.uid.is_none_or(|uid| uid.is_root()) {
        return Err(Error::Chroot(
            "--user with somebody other than root, who can leave it",
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
    let mut daemon = Daemon::start(config, &options, readiness.as_ref())?;
    if let Some(readiness) = readiness {
        // In the background nobody logs there who was not asked to.
        let told = readiness.tell(arguments.destination == Destination::Stdout);
        told.map_err(system("leave the terminal"))?;
    }
    daemon.run()?;
    Ok(ExitCode::SUCCESS)
}

/// Where messages go from now on.
fn start_log(name: Name, arguments: &Arguments) -> Result<(), Error> {
    let mut destination = arguments.destination;
    if destination == Destination::Syslog && !sys::log::has_syslog() {
        if arguments.foreground {
            destination = Destination::Stdout; // somebody may be there to see them
        } else {
            let path = sys::log::SYSLOG;
            say(
                name,
                &format!(
                    "there is no syslog at {path}: messages are lost until there is one (or use --journal, --stdout)"
                ),
            );
        }
    }
    sys::log::start(destination, name.as_str(), arguments.debug)
        .map_err(system("log to the journal (use --syslog or --stdout)"))
}

/// Who the command line says to become.
fn identity(arguments: &Arguments) -> Result<Identity, Error> {
    let mut identity = Identity::default();
    let nobody = |kind, name: &String| Error::Nobody {
        kind,
        name: name.clone(),
    };
    if let Some(name) = &arguments.user {
        let user = privilege::user(name).map_err(system("look for the user of --user"))?;
        let (uid, gid) = user.ok_or_else(|| nobody("user", name))?;
        identity.uid = Some(uid);
        identity.gid = gid;
    }
    if let Some(name) = &arguments.group {
        let group = privilege::group(name).map_err(system("look for the group of --group"))?;
        identity.gid = Some(group.ok_or_else(|| nobody("group", name))?);
    }
    match identity {
        // The number of a user that the system does not know has no group of its own, and root's is not for it.
        Identity {
            uid: Some(_),
            gid: None,
        } => Err(Error::NoGroup),
        _ if !privilege::can_become(identity) => Err(Error::NotRoot),
        identity => Ok(identity),
    }
}

/// Reads the configuration and logs what there is to know about it.
fn configure(arguments: &Arguments) -> Result<Config, Error> {
    for ignored in &arguments.ignored {
        warn!("The argument {ignored:?} is ignored");
    }
    let (config, notices) = read_config(&arguments.config)?;
    for notice in notices {
        let line = notice.in_file(&arguments.config);
        match notice.level {
            Level::Warning => warn!("{line}"),
            Level::Info => info!("{line}"),
        }
    }
    Ok(config)
}

fn read_config(path: &Path) -> Result<(Config, Vec<Notice>), Error> {
    let text = fs::read(path).map_err(|cause| Error::Read {
        path: path.to_owned(),
        cause,
    })?;
    Config::read_in(text, state_directory()).map_err(|lines| Error::Config {
        path: path.to_owned(),
        lines,
    })
}

/// The directory that systemd has for the service, or the first of several (systemd.exec(5), StateDirectory=).
fn state_directory() -> Option<PathBuf> {
    let directories = env::var_os("STATE_DIRECTORY")?;
    let path = env::split_paths(&directories).next()?;
    path.is_absolute().then_some(path)
}

/// Where a CLAT writes down what it has to undo: what systemd has for the service (systemd.exec(5), RuntimeDirectory=).
fn runtime_directory() -> PathBuf {
    let given = env::var_os("RUNTIME_DIRECTORY")
        .and_then(|directories| env::split_paths(&directories).next())
        .filter(|path| path.is_absolute());
    given.unwrap_or_else(|| "/run/xlatd".into())
}

fn print(text: &str) -> Result<(), Error> {
    match io::stdout().write_all(text.as_bytes()) {
        // Who reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::Print),
    }
}
