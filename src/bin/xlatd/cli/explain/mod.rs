//! The command `xlatd explain`.

mod arguments;
mod live;
mod subject;

use std::{
    ffi::OsString,
    fmt,
    io::{self, BufWriter, ErrorKind, Read, Write},
    path::Path,
    process::ExitCode,
    time::Instant,
};

use serde::Serialize;
use xlatd::report::explain::{Capture, Explainer, Reading};

use super::{print, usage};
use crate::{cli::translator::read_file, error::Error};
use arguments::{Arguments, USAGE};

/// Runs the command.
pub(crate) fn run(words: Vec<OsString>) -> Result<ExitCode, Error> {
    let Some(arguments) = Arguments::parse(words).map_err(usage(USAGE))? else {
        return Ok(ExitCode::SUCCESS);
    };
    let capture = arguments.read.as_deref().map(read_capture).transpose()?;
    let explainer = match &arguments.live {
        Some(device) => live::explainer(device, &arguments, capture.as_deref())?,
        None if arguments.clat => subject::clat(&arguments)?,
        None => subject::tayga(&arguments)?,
    };
    let answered = match (&arguments.read, &capture, &arguments.addresses[..]) {
        (Some(path), Some(octets), _) => explain_capture(&arguments, &explainer, path, octets),
        (_, _, [from, to]) => {
            let answer = explainer.pair(*from, *to, Instant::now());
            print_answer(&arguments, &answer.map_err(Error::NoCounterpart)?)
        }
        (_, _, addresses) => addresses.iter().try_for_each(|&address| {
            print_answer(&arguments, &explainer.address(address, Instant::now()))
        }),
    };
    answered.map(|()| ExitCode::SUCCESS)
}

/// Reads a capture whole. It is in memory once, however long it is.
fn read_capture(path: &Path) -> Result<Vec<u8>, Error> {
    if path != Path::new("-") {
        return read_file(path);
    }
    let mut octets = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut octets);
    read.map_err(|cause| Error::Read {
        path: "standard input".into(),
        cause,
    })?;
    Ok(octets)
}

fn explain_capture(
    arguments: &Arguments,
    explainer: &Explainer,
    path: &Path,
    octets: &[u8],
) -> Result<(), Error> {
    let not_read = |cause| Error::Capture {
        path: path.to_owned(),
        cause,
    };
    let mut reading = Reading::new(explainer.translator());
    let mut out = BufWriter::new(io::stdout().lock());
    let start = Instant::now();
    for frame in Capture::new(octets).map_err(not_read)? {
        let entry = match frame {
            Ok(frame) => reading.next(&frame, start),
            Err(error) => {
                let _ = out.flush();
                return Err(not_read(error));
            }
        };
        let written = out.write_all(text_of(arguments, &entry).as_bytes());
        if is_closed(written)? {
            return Ok(());
        }
    }
    if !arguments.json {
        is_closed(writeln!(out, "{}", reading.counts()))?;
    }
    is_closed(out.flush()).map(drop)
}

/// Whether nobody reads any more.
fn is_closed(written: io::Result<()>) -> Result<bool, Error> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(true),
        written => written.map(|()| false).map_err(Error::Print),
    }
}

fn print_answer(
    arguments: &Arguments,
    answer: &(impl fmt::Display + Serialize),
) -> Result<(), Error> {
    print(&text_of(arguments, answer))
}

fn text_of(arguments: &Arguments, answer: &(impl fmt::Display + Serialize)) -> String {
    match arguments.json {
        // All keys are names, so this cannot fail.
        true => serde_json::to_string(answer).unwrap_or_default() + "\n",
        false => answer.to_string(),
    }
}
