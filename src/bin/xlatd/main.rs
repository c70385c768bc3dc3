//! xlatd(8): runs the command of the command line, and prints the error that ends it.

mod cli;
mod daemon;
mod datapath;
mod error;
mod host;
mod sys;

use std::{env, process::ExitCode};

use log::error;

use crate::{
    cli::{
        clat, commands, say,
        tayga::{Name, TaygaArguments},
        translator,
    },
    error::Error,
    sys::log::Destination,
};

fn main() -> ExitCode {
    let name = Name::of(env::args_os().next().as_deref());
    let mut words = env::args_os().skip(1).peekable();
    if name == Name::Xlatd
        && let Some(status) = commands::run(env::args_os().skip(1))
    {
        return status;
    }
    let is_clat = match name {
        Name::Clatd => true,
        Name::Xlatd => words.next_if(|word| word == "clat").is_some(),
        Name::Tayga => false,
    };
    if is_clat {
        return match clat::run(name, words) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                error.report().lines().for_each(|line| say(name, line));
                ExitCode::FAILURE
            }
        };
    }
    let error = match TaygaArguments::parse(name, words) {
        Ok(arguments) => match translator::run(name, &arguments) {
            Ok(status) => return status,
            Err(error) => {
                // stderr may lead nowhere, so the error is logged as well.
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
