//! Where messages go: a line each to stdout, written at once.

use std::io::Write;

use env_logger::{Builder, Target};
use log::{Level, LevelFilter};

/// Starts logging; `debug` shows debug messages too.
///
/// Lines have no time and no name: whoever reads stdout of a service adds both. The environment has no say (RUST_LOG).
pub(crate) fn start(debug: bool) {
    Builder::new()
        .filter_level(if debug {
            LevelFilter::Debug
        } else {
            LevelFilter::Info
        })
        .target(Target::Stdout)
        .format(|line, record| match record.level() {
            Level::Error => writeln!(line, "error: {}", record.args()),
            Level::Warn => writeln!(line, "warning: {}", record.args()),
            _ => writeln!(line, "{}", record.args()),
        })
        .init();
}
