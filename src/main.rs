//! xlatd(8): arguments to a configuration to a daemon, and the exit status.

mod cli;
mod daemon;
mod error;
mod sys;

use std::{
    env, fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use log::{info, warn};
use xlatd::{
    config::{Config, Level, Notice},
    plan,
};

use crate::{
    cli::{Arguments, Command},
    daemon::Daemon,
    error::Error,
    sys::pidfile::PidFile,
};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.report().lines() {
                eprintln!("xlatd: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let arguments = Arguments::parse(env::args_os().skip(1)).map_err(Error::Usage)?;
    match arguments.command {
        Command::Help => print(cli::HELP),
        Command::Version => print(concat!("xlatd ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Check => {
            let (config, notices) = read_config(&arguments.config)?;
            sys::log::start(arguments.debug); // for what is to be known about the map-file
            daemon::check_map_file(&config)?;
            print(&plan::describe(&config, &notices))
        }
        Command::MakeTun => {
            sys::log::start(arguments.debug);
            daemon::make_tun(&configure(&arguments)?)
        }
        Command::RemoveTun => {
            sys::log::start(arguments.debug);
            daemon::remove_tun(&configure(&arguments)?)
        }
        Command::Run => {
            sys::log::start(arguments.debug);
            let config = configure(&arguments)?;
            info!("Starting xlatd {}", env!("CARGO_PKG_VERSION"));
            if !arguments.foreground && !arguments.debug {
                info!("Staying in the foreground: this version does not detach (-n says so too)");
            }
            let pidfile = arguments
                .pidfile
                .map(|path| config.path_from_data_dir(&path));
            let mut daemon = Daemon::start(config, arguments.debug)?;
            let _pidfile = pidfile
                .map(|path| PidFile::write(&path).map_err(|cause| Error::PidFile { path, cause }))
                .transpose()?;
            daemon.run()
        }
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
    Config::read(text).map_err(|lines| Error::Config {
        path: path.to_owned(),
        lines,
    })
}

fn print(text: &str) -> Result<(), Error> {
    match io::stdout().write_all(text.as_bytes()) {
        // Who reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::Print),
    }
}
