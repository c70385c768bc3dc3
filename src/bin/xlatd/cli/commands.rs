//! The commands of xlatd that no other program has: those that look at a daemon or a configuration,
//! and that of a container.

use std::{ffi::OsString, process::ExitCode};

use super::{container, doctor, explain, metrics, say, status, tayga::Name, trace};
use crate::error::Error;

/// A command: its name, and what it does with the words after it. It returns the exit status of the
/// process.
type Command = (&'static str, fn(Vec<OsString>) -> Result<ExitCode, Error>);

const COMMANDS: &[Command] = &[
    ("container", container::run),
    ("doctor", doctor::run),
    ("explain", explain::run),
    ("metrics", metrics::run),
    ("status", status::run),
    ("trace", trace::run),
];

/// Runs the command that is the first word, if it is one, with the words after it.
pub(crate) fn run(words: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut words = words.into_iter();
    let first = words.next()?;
    let (_, command) = COMMANDS.iter().find(|(name, _)| first == *name)?;
    let result = command(words.collect());
    Some(result.unwrap_or_else(|error| {
        let report = error.report();
        report.lines().for_each(|line| say(Name::Xlatd, line));
        ExitCode::FAILURE
    }))
}
