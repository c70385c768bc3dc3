//! The parts know those below them, and none above: reads what the source names.
//!
//! Tests and comments in the source may name what they like. A path counts wherever it stands, in a `use` or not.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::{
    fs,
    iter::Peekable,
    path::{Path, PathBuf},
};

/// The layer of each part of the library. A part may name those of lower layers, and itself.
const LIBRARY: &[(&str, u8)] = &[
    ("wire", 0),
    ("addr", 0),
    ("translate", 1),
    ("clat", 1),
    ("config", 2),
    ("plan", 3),
    ("state", 4),
    ("hints", 4),
    ("stats", 3),
    ("packet_log", 3),
];

/// The layer of each part of the binary. All of them may name the library.
const BINARY: &[(&str, u8)] = &[
    ("sys", 4),
    ("spin", 4),
    ("tally", 4),
    ("watchdog", 4),
    ("error", 5),
    ("forwarding", 5),
    ("cli", 6),
    ("clat_cli", 6),
    ("device", 6),
    ("steps", 7),
    ("leases", 6),
    ("packet_path", 7),
    ("host", 8),
    ("clat_host", 9),
    ("daemon", 8),
    ("clat_daemon", 10),
    ("main", 11),
];

/// What the library does not touch: it decides, and the binary reads, writes and waits.
const NOT_IN_LIBRARY: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os::fd",
    "std::os::unix::fs",
    "std::os::unix::io",
    "std::os::unix::net",
    "std::process",
    "std::thread",
    "std::time::Instant::now",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime::now",
    // Of the binary alone.
    "env_logger",
    "lexopt",
    "log",
    "netlink_packet_core",
    "netlink_packet_route",
    "netlink_sys",
    "nix",
    "signal_hook",
    "tun",
    "xlatd",
];

/// Macros that write, or that end the process on purpose.
const MACROS_NOT_IN_LIBRARY: &[&str] = &["dbg", "eprint", "eprintln", "print", "println"];

#[test]
fn no_part_names_one_above_it() {
    let mut broken = Vec::new();
    for file in sources() {
        for path in paths(&file) {
            broken.extend(arrow(&file, &path));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn the_library_does_no_io_and_reads_no_clock() {
    let mut broken = Vec::new();
    for file in sources() {
        if !file.is_library() {
            continue;
        }
        for path in paths(&file) {
            let path = path.join("::");
            for name in NOT_IN_LIBRARY {
                if path == *name || path.starts_with(&format!("{name}::")) {
                    broken.push(format!("src/{}: the library names {path}", file.path));
                }
            }
        }
        for pair in file.tokens.windows(2) {
            if pair[1] == "!" && MACROS_NOT_IN_LIBRARY.contains(&pair[0].as_str()) {
                broken.push(format!("src/{}: the library calls {}!", file.path, pair[0]));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn unsafe_is_in_sys_alone() {
    let mut has_forbid = false;
    for file in sources() {
        if file.path == "lib.rs" {
            has_forbid = file
                .tokens
                .join(" ")
                .contains("# ! [ forbid ( unsafe_code ) ]");
        }
        let has_unsafe = file.tokens.iter().any(|token| token == "unsafe");
        assert!(
            !has_unsafe || file.path.starts_with("sys/"),
            "src/{}: unsafe outside of src/sys",
            file.path
        );
    }
    assert!(has_forbid, "src/lib.rs: expected #![forbid(unsafe_code)]");
}

/// Nothing of the rules above holds if the source is not read: they find what is there to be found.
#[test]
fn what_breaks_a_rule_is_found() {
    let names = |path: &str, text: &str| -> Vec<String> {
        let file = Source::new(path.to_owned(), text);
        paths(&file)
            .iter()
            .flat_map(|path| arrow(&file, path))
            .collect()
    };
    for (path, text) in [
        ("wire/ipv4.rs", "use crate::translate::Packet;"),
        ("wire/ipv4.rs", "use crate::addr::Prefix4;"),
        (
            "wire/ipv4.rs",
            "use crate::{wire::checksum, addr::{self, Prefix4}};",
        ),
        ("wire/ipv4.rs", "fn f() -> crate::config::Config { todo() }"),
        ("wire/ipv4.rs", "use super::super::addr;"),
        ("wire/mod.rs", "use super::addr;"),
        ("wire/mod.rs", "pub use super::{addr::{Eam}, wire};"),
        ("translate/mod.rs", "use crate::clat;"),
        ("clat/mod.rs", "use crate::translate::Settings;"),
        ("config/mod.rs", "use crate::plan::Step;"),
        ("stats.rs", "use super::plan;"),
        ("sys/tun.rs", "use crate::sys::netlink;"),
        ("sys/tun.rs", "use super::netlink::Link;"),
        ("sys/tun.rs", "use crate::daemon::Daemon;"),
        ("cli.rs", "use crate::daemon;"),
        ("novelty.rs", "use crate::addr;"),
        ("plan.rs", "use crate::novelty;"),
        (
            "wire/ipv4.rs",
            "fn f<'a>(c: char) -> bool { c == '\"' } use crate::addr; // \"",
        ),
        (
            "wire/ipv4.rs",
            "#[cfg(test)] mod tests { fn f() { { } } } use crate::addr;",
        ),
    ] {
        assert!(!names(path, text).is_empty(), "{path}: {text}");
    }
    for (path, text) in [
        ("translate/reply.rs", "use crate::wire::{icmp, ipv4};"),
        ("translate/reply.rs", "use super::{Packet, limit::Kind};"),
        ("packet_log.rs", "use crate::config::LogClasses;"),
        (
            "daemon.rs",
            "use crate::{error::Error, sys::{netlink, tun}};",
        ),
        ("daemon.rs", "use xlatd::{plan, config};"),
        ("sys/tun.rs", "use xlatd::config::IpPrefix; use super::*;"),
        (
            "wire/ipv4.rs",
            "// use crate::addr;\n/* crate::addr /* */ crate::addr */",
        ),
        (
            "wire/ipv4.rs",
            "const A: &str = \"crate::addr \\\" crate::addr\";",
        ),
        (
            "wire/ipv4.rs",
            "const A: &str = r#\"crate::addr \" crate::addr\"#;",
        ),
        (
            "wire/ipv4.rs",
            "#[cfg(test)]\nmod tests { use crate::addr; }",
        ),
        ("wire/ipv4.rs", "#[cfg(test)]\nuse crate::addr;"),
    ] {
        assert_eq!(names(path, text), Vec::<String>::new(), "{path}: {text}");
    }

    let file = Source::new(
        "plan.rs".to_owned(),
        "use std::{fs, net::{IpAddr, UdpSocket}};",
    );
    let found: Vec<String> = paths(&file).iter().map(|path| path.join("::")).collect();
    assert_eq!(
        found,
        ["std::fs", "std::net::IpAddr", "std::net::UdpSocket"]
    );
}

/// What is wrong with a path that a file names, if anything.
fn arrow(file: &Source, path: &[String]) -> Option<String> {
    let root = file.module();
    // From the root of the crate.
    let target: Vec<String> = match path.first()?.as_str() {
        "crate" => path[1..].to_vec(),
        "super" => {
            let ups = path.iter().take_while(|name| *name == "super").count();
            let above = root.len().checked_sub(ups)?;
            [&root[..above], &path[ups..]].concat()
        }
        _ => return None,
    };
    let to = target.first()?;
    if to == "*" {
        return None; // of the module above: its own part
    }
    let from = file.part();
    let is_lib = from == "lib";
    let layers = if file.is_library() { LIBRARY } else { BINARY };
    let layer = |part: &str| {
        layers
            .iter()
            .find(|(name, _)| *name == part)
            .map(|entry| entry.1)
    };
    let unknown = |part: &str| {
        let table = if file.is_library() {
            "LIBRARY"
        } else {
            "BINARY"
        };
        format!(
            "src/{}: {part} has no layer: expected it in {table} of tests/layers.rs, found there {:?}. Add it with the \
             number of its layer, which is higher than those of all parts it names",
            file.path,
            layers.iter().map(|(name, _)| name).collect::<Vec<_>>()
        )
    };
    let path = target.join("::");
    if from == *to {
        let is_module = |name: &str| name.starts_with(char::is_lowercase);
        let other = target
            .get(1)
            .filter(|name| is_module(name) && Some(*name) != root.get(1));
        return (from == "sys" && root.len() > 1 && other.is_some()).then(|| {
            format!(
                "src/{}: names {path}, but files of sys do not know each other",
                file.path
            )
        });
    }
    let Some(to_layer) = layer(to) else {
        return Some(unknown(to));
    };
    if is_lib {
        return None;
    }
    let Some(from_layer) = layer(from) else {
        return Some(unknown(from));
    };
    (to_layer >= from_layer).then(|| {
        format!(
            "src/{}: names {path}, but {from} is of layer {from_layer} and {to} of layer {to_layer}: expected a lower \
             one",
            file.path
        )
    })
}

/// A source file without comments, strings and tests.
struct Source {
    /// Below src.
    path: String,
    tokens: Vec<String>,
}

impl Source {
    fn new(path: String, text: &str) -> Self {
        Self {
            path,
            tokens: without_tests(tokens(text)),
        }
    }

    /// The part that the file belongs to.
    fn part(&self) -> &str {
        let end = self.path.find(['/', '.']).unwrap_or(self.path.len());
        &self.path[..end]
    }

    /// Files that are of neither table count as the library's, where the rules are stricter.
    fn is_library(&self) -> bool {
        BINARY.iter().all(|(name, _)| *name != self.part())
    }

    /// The path of the module that the file is; the roots of both crates have none.
    fn module(&self) -> Vec<String> {
        let names = self.path.trim_end_matches(".rs").split('/');
        let names = names.filter(|name| *name != "mod").map(str::to_owned);
        names
            .filter(|name| name != "lib" && name != "main")
            .collect()
    }
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<Source> {
    let (mut files, mut directories) = (Vec::new(), vec![src()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let name = path
                    .strip_prefix(src())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                files.push(Source::new(name, &text));
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.iter().any(|file| file.path == "lib.rs"), "no source");
    files
}

/// Words, `::`, and other characters one by one. A string or character is `""`.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            _ if first.is_whitespace() => first.len_utf8(),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment_len(rest),
            '"' => {
                tokens.push("\"\"".to_owned());
                string_len(rest)
            }
            '\'' => match character_len(rest) {
                Some(len) => {
                    tokens.push("\"\"".to_owned());
                    len
                }
                None => 1, // a lifetime
            },
            'r' | 'b' | 'c' if raw_string_len(rest).is_some() => {
                tokens.push("\"\"".to_owned());
                raw_string_len(rest).unwrap()
            }
            ':' if rest.starts_with("::") => {
                tokens.push("::".to_owned());
                2
            }
            _ => {
                let is_word = |c: char| c.is_alphanumeric() || c == '_';
                let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let len = if len == 0 { first.len_utf8() } else { len };
                tokens.push(rest[..len].to_owned());
                len
            }
        };
        rest = &rest[len..];
    }
    tokens
}

/// Comments may hold others.
fn comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, octet) in text.bytes().enumerate().skip(1) {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn character_len(text: &str) -> Option<usize> {
    let mut characters = text.char_indices().skip(1);
    match characters.next()?.1 {
        '\\' => {
            characters.next()?; // also where it is a quote
            characters.find(|(_, c)| *c == '\'').map(|(at, _)| at + 1)
        }
        _ => characters
            .next()
            .filter(|(_, c)| *c == '\'')
            .map(|(at, _)| at + 1),
    }
}

fn raw_string_len(text: &str) -> Option<usize> {
    let start = text.find('r').filter(|at| *at <= 1)? + 1;
    let hashes = text[start..]
        .bytes()
        .take_while(|octet| *octet == b'#')
        .count();
    let body = text[start + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(start + hashes + 1 + body.find(&end)? + end.len())
}

/// Leaves out each item that is there in tests alone.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut rest = tokens.as_slice();
    while let Some((first, tail)) = rest.split_first() {
        if rest.len() < MARK.len() || rest[..MARK.len()] != MARK {
            kept.push(first.clone());
            rest = tail;
            continue;
        }
        let mut depth = 0;
        let end = rest[MARK.len()..].iter().position(|token| {
            match token.as_str() {
                "{" | "[" | "(" => depth += 1,
                "}" | "]" | ")" => depth -= 1,
                _ => {}
            }
            depth == 0 && (token == "}" || token == ";")
        });
        // In `use a::{b};` both end at once, which leaves an empty statement.
        rest = &rest[MARK.len() + end.map_or(0, |end| end + 1)..];
    }
    kept
}

/// Every path that is named, with `use` trees spread out: as long as it is words and `::`.
fn paths(file: &Source) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut tokens = file.tokens.iter().peekable();
    while let Some(token) = tokens.next() {
        if is_name(token) && tokens.peek().is_some_and(|next| *next == "::") {
            path(&mut tokens, vec![token.clone()], &mut found);
        }
        // `use nix;`, `use log as name;`
        if token == "use"
            && let Some(name) = tokens.next_if(|name| is_name(name))
        {
            path(&mut tokens, vec![name.clone()], &mut found);
        }
    }
    found
}

/// The rest of the path that starts with `names`.
fn path<'a>(
    tokens: &mut Peekable<impl Iterator<Item = &'a String>>,
    mut names: Vec<String>,
    found: &mut Vec<Vec<String>>,
) {
    while tokens.next_if(|token| *token == "::").is_some() {
        if tokens.next_if(|token| *token == "{").is_some() {
            while let Some(token) = tokens.next_if(|token| *token != "}") {
                if token == "as" {
                    tokens.next();
                } else if token == "self" {
                    found.push(names.clone());
                } else if is_name(token) || token == "*" {
                    path(
                        tokens,
                        [&names[..], std::slice::from_ref(token)].concat(),
                        found,
                    );
                }
            }
            tokens.next();
            return;
        }
        match tokens.next_if(|token| is_name(token) || *token == "*") {
            Some(name) => names.push(name.clone()),
            None => break, // generic arguments
        }
    }
    found.push(names);
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}
