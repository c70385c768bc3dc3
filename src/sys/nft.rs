//! Tables of nftables, by nft(8).

use std::{
    io::{self, Write},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// What is run.
static PROGRAM: OnceLock<String> = OnceLock::new();

/// Has another program run than the nft of PATH. Only the first call counts.
pub(crate) fn use_program(program: &str) {
    let _ = PROGRAM.set(program.to_owned());
}

/// Puts a table of family inet in the place of one of the same name.
pub(crate) fn load(name: &str, text: &str) -> io::Result<()> {
    // One transaction: there is no moment without it.
    run(&format!(
        "table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n{text}}}\n"
    ))
}

/// Takes a table away, if it is there.
pub(crate) fn delete(name: &str) -> io::Result<()> {
    run(&format!("table inet {name}\ndelete table inet {name}\n"))
}

/// Every chain, with what it is for.
pub(crate) fn chains() -> io::Result<String> {
    let output = Command::new(program())
        .args(["list", "chains"])
        .stdin(Stdio::null())
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn program() -> &'static str {
    PROGRAM.get().map_or("nft", String::as_str)
}

fn run(script: &str) -> io::Result<()> {
    let program = program();
    let mut nft = Command::new(program)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = nft.stdin.take() {
        stdin.write_all(script.as_bytes())?;
    }
    let output = nft.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or_default();
    Err(io::Error::other(format!(
        "{program}: {}: {first}",
        output.status
    )))
}
