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
