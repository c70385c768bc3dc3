//! `tests/broken/*.conf` are refused, each with exactly the messages in the `.expected` file beside
//! it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its files fails"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use xlatd::config::Config;

/// The files of `tests/broken` with this extension, in order.
fn files(extension: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

#[test]
fn every_mistake_has_its_message() {
    let files = files("conf");
    assert!(files.len() >= 20, "{} broken configurations", files.len());
    for path in files {
        let expected = fs::read_to_string(path.with_extension("expected")).unwrap();
        let messages: String = match Config::read(fs::read(&path).unwrap()) {
            Ok(_) => panic!("{} is accepted", path.display()),
            Err(errors) => errors.iter().map(|error| format!("{error}\n")).collect(),
        };
        assert_eq!(messages, expected, "{}", path.display());
    }
}

#[test]
fn no_messages_without_a_configuration() {
    for path in files("expected") {
        assert!(path.with_extension("conf").exists(), "{}", path.display());
    }
}

#[test]
fn an_error_is_shown_behind_the_name_of_its_file() {
    let shown = |text: &str| {
        let errors = Config::read(text).unwrap_err();
        let path = Path::new("/etc/tayga.conf");
        errors
            .iter()
            .map(|error| error.in_file(path).to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        shown("ipv4-addr 192.0.2.1\nprefix 64:ff9b::/95"),
        [
            "/etc/tayga.conf:2:8: expected an IPv6 prefix of length 32, 40, 48, 56, 64 or 96, found \"64:ff9b::/95\"",
            // A directive that is not there has no line.
            "/etc/tayga.conf: expected a tun-device directive, found none",
        ]
    );
}
