//! The programs that change what the kernel filters, and what nftables says of it.

pub(crate) mod nft;
pub(crate) mod ufw;

use std::{
    io::{self, Write},
    process::{Command, Output, Stdio},
};

/// Runs a program with an input. What it says on stderr is the error, if it fails.
fn run(program: &str, arguments: &[&str], input: &str) -> io::Result<Output> {
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
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or_default();
    Err(io::Error::other(format!(
        "{program}: {}: {first}",
        output.status
    )))
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
        assert!(run("sh", &["-c", "cat >/dev/null"], &input).is_ok());
        let error = run("no-such-program", &[], "").unwrap_err();
        assert!(error.to_string().starts_with("no-such-program: "));
    }
}
