//! The programs that change what the kernel filters, and what nftables says of it.

pub(crate) mod nft;
pub(crate) mod ufw;

use std::{
    io::{self, Read, Write},
    os::fd::AsFd,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// No program may keep us from all else for longer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a program with an input, and returns what it says. If it fails, what it says on stderr is the error.
fn run(program: &str, arguments: &[&str], input: &str) -> io::Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who does not read it says why on stderr.
        let _ = stdin.write_all(input.as_bytes());
    }
    let result = read_to_the_end(&mut child, Instant::now() + TIMEOUT);
    if result.is_err() {
        let _ = child.kill();
    }
    let status = child.wait()?;
    let [said, complaint] =
        result.map_err(|error| io::Error::other(format!("{program}: {error}")))?;
    if status.success() {
        return Ok(said);
    }
    let first = complaint.lines().next().unwrap_or_default();
    Err(io::Error::other(format!("{program}: {status}: {first}")))
}

/// What a program says, on stdout and on stderr, until it ends.
fn read_to_the_end(child: &mut Child, deadline: Instant) -> io::Result<[String; 2]> {
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let mut said = [Vec::new(), Vec::new()];
    let mut buffer = [0; 4096];
    let late = || io::Error::other(format!("did not end within {} s", TIMEOUT.as_secs()));
    while out.is_some() || err.is_some() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        let fds = [out.as_ref().map(AsFd::as_fd), err.as_ref().map(AsFd::as_fd)];
        let mut fds: Vec<_> = fds
            .into_iter()
            .flatten()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        poll(
            &mut fds,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        )?;
        let mut ready: Vec<_> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        drop(fds);
        if out.is_some() && ready.remove(0) && read(&mut out, &mut buffer, &mut said[0])? == 0 {
            out = None;
        }
        if err.is_some()
            && ready.pop() == Some(true)
            && read(&mut err, &mut buffer, &mut said[1])? == 0
        {
            err = None;
        }
    }
    // It may have closed both, and not have ended.
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            return Err(late());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(said.map(|octets| String::from_utf8_lossy(&octets).into_owned()))
}

fn read(from: &mut Option<impl Read>, buffer: &mut [u8], to: &mut Vec<u8>) -> io::Result<usize> {
    let Some(from) = from else {
        return Ok(0);
    };
    let len = from.read(buffer)?;
    to.extend(&buffer[..len]);
    Ok(len)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    /// What it says counts, and not that it did not read on.
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
            let error = run("sh", &["-c", script], "").unwrap_err();
            assert!(
                error.to_string().contains("did not end within 5 s"),
                "{error}"
            );
            assert!(start.elapsed() < Duration::from_secs(15));
        }
    }
}
