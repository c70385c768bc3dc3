//! Runs a program that changes what the kernel filters.

use std::{
    io::{self, PipeReader, Read, Write},
    os::fd::AsFd,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// The longest that a program may take. ufw(8) runs many others, which takes seconds on a slow
/// machine, and one that is killed on its way would be again. The watchdog of the units waits for a
/// minute.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Runs a program with an input, and returns its output. If it fails, the first line of that is the
/// error.
pub(super) fn run(program: &str, arguments: &[&str], input: &str) -> io::Result<String> {
    run_within(TIMEOUT, program, arguments, input)
}

fn run_within(
    timeout: Duration,
    program: &str,
    arguments: &[&str],
    input: &str,
) -> io::Result<String> {
    let (reader, writer) = io::pipe()?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who does not read it says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let result = read_to_the_end(reader, &mut child, timeout);
    if result.is_err() {
        let _ = child.kill();
    }
    let status = child.wait()?;
    let said = result.map_err(|error| io::Error::other(format!("{program}: {error}")))?;
    if status.success() {
        return Ok(said);
    }
    let first = said.lines().next().unwrap_or_default();
    Err(io::Error::other(format!("{program}: {status}: {first}")))
}

/// The output of a program until it ends.
fn read_to_the_end(
    mut reader: PipeReader,
    child: &mut Child,
    timeout: Duration,
) -> io::Result<String> {
    let deadline = Instant::now() + timeout;
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        let is_late = || io::Error::other(format!("did not end within {} s", timeout.as_secs()));
        PollTimeout::try_from(left)
            .ok()
            .filter(|_| !left.is_zero())
            .ok_or_else(is_late)
    };
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match poll(
            &mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)],
            left()?,
        ) {
            Ok(0) | Err(Errno::EINTR) => continue,
            result => result?,
        };
        match reader.read(&mut buffer)? {
            0 => break,
            len => said.extend(&buffer[..len]),
        }
    }
    // It may have nothing more to say, and not have ended.
    while child.try_wait()?.is_none() {
        left()?;
        thread::sleep(Duration::from_millis(1));
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    /// Its output is the error, and not that it did not read its input.
    #[test]
    fn a_program_that_does_not_read_says_why() {
        let input = "x".repeat(1 << 20); // more than a pipe holds
        let script = "exec 0<&-; echo why >&2; exit 3";
        let error = run("sh", &["-c", script], &input).unwrap_err();
        assert_eq!(error.to_string(), "sh: exit status: 3: why");
        assert_eq!(run("sh", &["-c", "cat"], "what\n").unwrap(), "what\n");
        let error = run("no-such-program", &[], "").unwrap_err();
        assert!(error.to_string().starts_with("no-such-program: "));
    }

    /// Neither one that says nothing, nor one that has closed all that it could say something on.
    #[test]
    fn a_program_that_hangs_is_killed() {
        for script in ["exec sleep 60", "exec sleep 60 >&- 2>&-"] {
            let start = Instant::now();
            let timeout = Duration::from_secs(1);
            let error = run_within(timeout, "sh", &["-c", script], "").unwrap_err();
            assert!(
                error.to_string().contains("did not end within 1 s"),
                "{error}"
            );
            assert!(start.elapsed() < Duration::from_secs(15));
        }
    }
}
