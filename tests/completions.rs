//! The completions of bash, zsh and fish have what the program has. A real bash is asked.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its files fails"
)]

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    process::{self, Command},
};

use xlatd::config::clatd;

type Words = BTreeSet<String>;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

fn words<T: ToString>(words: impl IntoIterator<Item = T>) -> Words {
    words.into_iter().map(|word| word.to_string()).collect()
}

/// The commands of xlatd: those that run something, and the table of those that look.
fn commands() -> Words {
    let table = text("src/bin/xlatd/cli/commands.rs");
    let (_, table) = table.split_once("const COMMANDS: ").unwrap();
    let (table, _) = table.split_once("];").unwrap();
    let names = table.split("(\"").skip(1);
    let names = names.map(|row| row.split('"').next().unwrap());
    let commands = words(names.chain(["check", "clat"]));
    assert!(commands.len() >= 4, "{commands:?}");
    commands
}

/// The options of a command by its `--help`; those without a command by the name `xlatd`.
fn options(command: &str) -> Words {
    if command == "check" {
        let help = help(&["--help"]);
        assert!(help.contains("xlatd check [-c FILE]\n"), "{help}");
        return words(["-c", "--config", "-h", "--help", "-V", "--version"]);
    }
    let help = match command {
        "xlatd" => help(&["--help"]),
        _ => help(&[command, "--help"]),
    };
    let lines = help.lines().map(str::trim_start);
    let lines = lines.filter(|line| line.starts_with('-'));
    let found = lines.flat_map(|line| {
        let both = line
            .split_whitespace()
            .take_while(|word| word.starts_with('-'));
        both.map(|word| word.trim_end_matches(','))
    });
    let options = words(found);
    assert!(options.contains("--help"), "{command}: {options:?}");
    options
}

fn help(arguments: &[&str]) -> String {
    let mut xlatd = Command::new(env!("CARGO_BIN_EXE_xlatd"));
    let output = xlatd.args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// `xlatd --help` has every command.
#[test]
fn the_help_has_every_command() {
    let help = help(&["--help"]);
    for command in commands() {
        assert!(
            help.contains(&format!("  xlatd {command} ")),
            "{command}: {help}"
        );
    }
}

/// The words that a real bash offers for the last of `line`, which bash takes apart at "=", too.
fn bash(line: &[&str], runtime: &Path) -> Words {
    const ASK: &str = "\
        source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1))
        _xlatd \"$1\" \"${@: -1}\" \"${@: -2:1}\" && printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", ASK, "bash"]);
    bash.arg(path("conf/completions/xlatd.bash")).args(line);
    bash.env("RUNTIME_DIRECTORY", runtime);
    let output = bash.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.is_empty(),
        "{line:?}: {said}"
    );
    let offered = String::from_utf8(output.stdout).unwrap();
    words(offered.lines().filter(|line| !line.is_empty()))
}

fn nowhere() -> &'static Path {
    Path::new("/nonexistent")
}

#[test]
fn bash_offers_every_command_and_option() {
    assert_eq!(bash(&["xlatd", ""], nowhere()), commands());
    assert_eq!(bash(&["xlatd", "-"], nowhere()), options("xlatd"));
    for command in commands() {
        let offered = bash(&["xlatd", &command, "-"], nowhere());
        assert_eq!(offered, options(&command), "{command}");
    }
    // By their names, without commands.
    assert_eq!(bash(&["tayga", "-"], nowhere()), options("xlatd"));
    assert_eq!(bash(&["/usr/sbin/tayga", "c"], nowhere()), words([""; 0]));
    assert_eq!(bash(&["clatd", "-"], nowhere()), options("clat"));
}

#[test]
fn bash_offers_keys_and_values() {
    let keys = words(clatd::keys().map(|key| format!("{key}=")));
    assert_eq!(bash(&["xlatd", "clat", ""], nowhere()), keys);
    assert_eq!(bash(&["clatd", "-d", ""], nowhere()), keys);
    for (line, expected) in [
        (&["xlatd", "sta"][..], &["status"][..]),
        (&["xlatd", "clat", "clat-path", "="], &["direct", "forward"]),
        (&["xlatd", "clat", "clat-path", "=", "d"], &["direct"]),
        (&["clatd", "clat-v6-addr", "=", "s"], &["shared"]),
        (&["clatd", "plat-dev", "=", "l"], &["lo"]),
        (&["xlatd", "clat", "sandbox", "="], &["no", "yes"]),
        (&["xlatd", "clat", "clat-dev", "="], &[]),
        // After a value there is another key.
        (
            &["xlatd", "clat", "quiet", "=", "yes", "clat-p"],
            &["clat-path="],
        ),
        (&["xlatd", "-c", "/etc/passw"], &["/etc/passwd"]),
        (&["xlatd", "--config", "=", "/etc/passw"], &["/etc/passwd"]),
        (&["xlatd", "check", "-c", "/etc/passw"], &["/etc/passwd"]),
        (
            &["xlatd", "clat", "cmd-nft", "=", "/etc/passw"],
            &["/etc/passwd"],
        ),
        (&["xlatd", "-u", "roo"], &["root"]),
        (&["xlatd", "--group", "roo"], &["root"]),
        (&["xlatd", "-u", "root", "--mk"], &["--mktun"]),
        (&["xlatd", "metrics", "--listen", ""], &[]),
        (&["xlatd", "trace", "nat64", "pro"], &["proto"]),
        (&["xlatd", "trace", "proto", ""], &["icmp", "tcp", "udp"]),
        (&["xlatd", "trace", "dropped", "host", ""], &[]),
        (&["xlatd", "trace", "-w", "/etc/passw"], &["/etc/passwd"]),
        (&["xlatd", "trace", "-c", ""], &[]),
        // Only the first word is a command.
        (&["xlatd", "-d", "sta"], &[]),
    ] {
        let mut offered = bash(line, nowhere());
        offered.retain(|word| !word.starts_with("/etc/passwd-")); // its copy, and the like
        if line.contains(&"l") {
            assert!(offered.contains("lo"), "{line:?}: {offered:?}");
        } else {
            assert_eq!(offered, words(expected), "{line:?}");
        }
    }
}

/// The devices that run, by their control sockets; and tayga and clatd only where they are xlatd.
#[test]
fn bash_offers_what_runs() {
    let directory = env::temp_dir().join(format!("xlatd-completions-{}", process::id()));
    fs::create_dir(&directory).unwrap();
    let _sockets = ["nat64.sock", "clat-eth0.sock", "other"]
        .map(|name| UnixListener::bind(directory.join(name)).unwrap());
    fs::write(directory.join("file.sock"), "").unwrap();
    for command in ["status", "metrics"] {
        let offered = bash(&["xlatd", command, ""], &directory);
        assert_eq!(offered, words(["nat64", "clat-eth0"]), "{command}");
        let offered = bash(&["xlatd", command, "n"], &directory);
        assert_eq!(offered, words(["nat64"]), "{command}");
    }
    let live = bash(&["xlatd", "explain", "--live", "c"], &directory);
    assert_eq!(live, words(["clat-eth0"]));

    symlink(env!("CARGO_BIN_EXE_xlatd"), directory.join("tayga")).unwrap();
    symlink("/bin/true", directory.join("clatd")).unwrap();
    let (file, search) = (
        path("conf/completions/xlatd.bash"),
        env::var("PATH").unwrap(),
    );
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", "source \"$1\"; complete -p", "bash"])
        .arg(file);
    bash.env("PATH", format!("{}:{search}", directory.display()));
    let output = bash.output().unwrap();
    let registered = String::from_utf8(output.stdout).unwrap();
    let lines = words(registered.lines());
    assert_eq!(
        lines,
        words(["complete -F _xlatd tayga", "complete -F _xlatd xlatd"])
    );
    fs::remove_dir_all(&directory).unwrap();
}

/// Linux takes `$(...)` for the name of a device, and who the daemon runs as may name its sockets:
/// names are quoted, and nothing in them is run.
#[test]
fn bash_runs_nothing_that_is_in_a_name() {
    let directory = env::temp_dir().join(format!("xlatd-names-{}", process::id()));
    fs::create_dir(&directory).unwrap();
    let _sockets = ["$(echo>&2 run).sock", "a b.sock", "*.sock"]
        .map(|name| UnixListener::bind(directory.join(name)).unwrap());
    let quoted = ["\\$\\(echo\\>\\&2\\ run\\)", "a\\ b", "\\*"];
    for line in [
        &["xlatd", "status", ""][..],
        &["xlatd", "explain", "--live", ""],
    ] {
        assert_eq!(bash(line, &directory), words(quoted), "{line:?}");
    }
    let doctor = bash(&["xlatd", "doctor", "a"], &directory);
    assert_eq!(doctor, words(["a\\ b"]));
    fs::remove_dir_all(&directory).unwrap();
}

/// `-x` and `--long` in a text.
fn options_in(text: &str) -> Words {
    let tokens = text.split(|c: char| c != '-' && !c.is_ascii_alphanumeric());
    let is_option = |token: &&str| match token.strip_prefix("--") {
        Some(name) => !name.is_empty(),
        None => token.starts_with('-') && token.len() == 2,
    };
    words(tokens.filter(is_option))
}

#[test]
fn zsh_has_every_command_option_and_key() {
    let text = text("conf/completions/_xlatd");
    let between = |from: &str, to: &str| {
        let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("{from}"));
        rest.split_once(to).unwrap().0
    };
    let first = |line: &str, end: char| {
        let line = line.trim_start().strip_prefix(['\'', '"'])?;
        Some(line.split(end).next()?.to_owned())
    };
    let names = between("local -a names=(", "\n    )").lines();
    assert_eq!(words(names.filter_map(|line| first(line, ':'))), commands());
    let keys = between("_xlatd_keys() {", "\n}").lines();
    let keys = words(keys.filter_map(|line| first(line, '[')));
    assert_eq!(keys, words(clatd::keys()));
    let common = options_in(between("local -a common=(", "\n    )"));
    for command in commands().into_iter().chain(["xlatd".to_owned()]) {
        let arm = between(&format!("\n        {command})\n"), ";;");
        let arm = arm.replace("_arguments -s", "");
        let found = &options_in(&arm) | &common;
        assert_eq!(found, options(&command), "{command}");
    }
}

#[test]
fn fish_has_every_command_option_and_key() {
    let text = text("conf/completions/xlatd.fish").replace("\\\n", " ");
    let lines = || text.lines().map(str::trim_start);
    // The word after `flag` of the lines with `part`.
    let after = |part: &str, flag: &str| -> Words {
        let lines = lines().filter(|line| line.contains(part));
        let found = lines.filter_map(|line| line.split_once(flag)?.1.split(' ').next());
        words(found)
    };
    assert_eq!(after("-n __xlatd_starts ", " -a "), commands());
    let (_, listed) = text.split_once("contains -- \"$words[2]\" ").unwrap();
    assert_eq!(words(listed.lines().next().unwrap().split(' ')), commands());
    let common = words(["-h", "--help", "-V", "--version"]);
    for command in commands().into_iter().chain(["xlatd".to_owned()]) {
        let part = format!("-n '__xlatd_runs {command}' ");
        let short = after(&part, " -s ")
            .into_iter()
            .map(|name| format!("-{name}"));
        let long = after(&part, " -l ")
            .into_iter()
            .map(|name| format!("--{name}"));
        let found = &words(short.chain(long)) | &common;
        assert_eq!(found, options(&command), "{command}");
    }
    let lists = lines().filter_map(|line| line.strip_prefix("for key in "));
    let lists = lists.flat_map(str::split_whitespace).map(str::to_owned);
    let ones = after("-n '__xlatd_runs clat' ", " -a '").into_iter();
    let ones = ones.map(|word| word.split('=').next().unwrap().to_owned());
    assert_eq!(words(lists.chain(ones)), words(clatd::keys()));
}
