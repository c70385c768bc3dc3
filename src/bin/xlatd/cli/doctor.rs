//! The command `xlatd doctor`.

use std::{
    ffi::OsString,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use lexopt::{Arg, Parser, ValueExt};
use xlatd::{
    config::Config,
    doctor::{Diagnosis, OUTSIDE, clat, translator},
    plan::shell::word,
};

use super::{
    VERSION,
    clat::{Configured, configure_clat},
    clatd::{ClatdArguments, DEFAULT_CONFIG},
    print,
    running::{Running, Target, running},
    say,
    tayga::Name,
    translator::{parse_config, read_plain_file},
    usage,
};
use crate::{daemon::map_file, error::Error, host::survey::Survey};

/// The text of `xlatd doctor --help`.
const HELP: &str = "\
Usage: xlatd doctor [OPTION]... [DEVICE | clat]

Looks at this host, and says what keeps packets from passing: the most important
first, each with the commands that mend it. Changes nothing. Without arguments
about all that run, or else about /etc/tayga.conf and /etc/clatd.conf.

  -c, --config FILE  about the tayga.conf FILE, or with clat the clatd.conf FILE
      --json         print data
      --ping ADDRESS the IPv4 address that is tried by a CLAT; default 1.1.1.1
  -h, --help         print this help and exit
  -V, --version      print the version and exit

The exit status is 0 if nothing was found, 1 if something was, and 2 if not all
could be looked at; see xlatd-doctor(8).
";

const TAYGA_CONF: &str = "/etc/tayga.conf";
/// The directory of the configurations of tayga@.service.
const TAYGA_CONFS: &str = "/etc/tayga";
/// There where systemd is at work (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// The exit status if nothing was found, but not all could be looked at.
const BLIND: u8 = 2;

/// A parsed command line.
#[derive(Debug)]
struct Arguments {
    config: Option<PathBuf>,
    json: bool,
    ping: Ipv4Addr,
    /// `clat`, or a device.
    word: Option<String>,
    /// What is to be printed instead.
    prints: Option<&'static str>,
}

/// The command that explains the arguments.
const USAGE: &str = "xlatd doctor --help";

impl Arguments {
    fn parse(words: Vec<OsString>) -> Result<Self, lexopt::Error> {
        let mut parsed = Self {
            config: None,
            json: false,
            ping: OUTSIDE,
            word: None,
            prints: None,
        };
        let mut parser = Parser::from_args(words);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Short('c') | Arg::Long("config") => {
                    parsed.config = Some(parser.value()?.parse()?);
                }
                Arg::Long("json") => parsed.json = true,
                Arg::Long("ping") => parsed.ping = parser.value()?.parse()?,
                Arg::Short('h') | Arg::Long("help") => parsed.prints = Some(HELP),
                Arg::Short('V') | Arg::Long("version") => {
                    parsed.prints = Some(VERSION);
                }
                Arg::Value(word) if parsed.word.is_none() => parsed.word = Some(word.parse()?),
                other => return Err(other.unexpected()),
            }
        }
        match (&parsed.word, &parsed.config) {
            (Some(word), Some(_)) if word != "clat" => {
                Err(format!("expected {word} or --config, and not both").into())
            }
            _ => Ok(parsed),
        }
    }
}

/// Examines what the words name. Fails only where the words are wrong.
pub(super) fn run(words: Vec<OsString>) -> Result<ExitCode, Error> {
    let arguments = Arguments::parse(words).map_err(usage(USAGE))?;
    if let Some(text) = arguments.prints {
        print(text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let running = running();
    let mut diagnoses = Vec::new();
    let mut status = 0;
    for target in targets(&arguments, &running) {
        match examine(&target, &running, arguments.ping) {
            Ok(diagnosis) => {
                status = match (status, diagnosis.status()) {
                    (1, _) | (_, 1) => 1,
                    (before, now) => before.max(now),
                };
                diagnoses.push(diagnosis);
            }
            Err(error) => {
                let report = error.report();
                report.lines().for_each(|line| say(Name::Xlatd, line));
                status = if status == 1 { 1 } else { BLIND };
            }
        }
    }
    if diagnoses.is_empty() && status == 0 {
        let word = arguments.word.unwrap_or_default();
        say(
            Name::Xlatd,
            &format!(
                "{word}: nothing runs on such a device, and no configuration in /etc has it: see \
             xlatd doctor --help"
            ),
        );
        status = BLIND;
    }
    print(&text(&diagnoses, arguments.json))?;
    Ok(status.into())
}

fn text(diagnoses: &[Diagnosis], json: bool) -> String {
    if json {
        // Of strings alone, which are always written.
        return serde_json::to_string_pretty(diagnoses).unwrap_or_default() + "\n";
    }
    let texts: Vec<_> = diagnoses.iter().map(ToString::to_string).collect();
    texts.join("\n")
}

/// What the arguments name, among what runs or is configured.
fn targets(arguments: &Arguments, running: &[Running]) -> Vec<Target> {
    let clat = |config| {
        Target::Clat(ClatdArguments {
            config,
            ..ClatdArguments::default()
        })
    };
    match (arguments.word.as_deref(), &arguments.config) {
        (None, Some(path)) => vec![Target::Translator(path.clone())],
        (Some("clat"), Some(path)) => vec![clat(Some(path.clone()))],
        (Some("clat"), None) => {
            let targets = running.iter().map(|one| one.target.clone());
            let mut clats: Vec<_> = targets
                .filter(|one| matches!(one, Target::Clat(_)))
                .collect();
            if clats.is_empty() {
                clats.push(clat(None));
            }
            clats
        }
        (Some(device), _) => {
            let runs = running.iter().find(|one| match one.device() {
                Some(name) => name == device,
                None => is_about(&one.target, device),
            });
            let runs = runs.map(|one| one.target.clone());
            let mut configured = configured().into_iter();
            let target = runs.or_else(|| configured.find(|target| is_about(target, device)));
            target.into_iter().collect()
        }
        (None, None) if running.is_empty() => default_targets(),
        (None, None) => running.iter().map(|one| one.target.clone()).collect(),
    }
}

/// Whether a configuration has this device. One that cannot be read has none.
fn is_about(target: &Target, device: &str) -> bool {
    match target {
        Target::Translator(path) => {
            read_config(path).is_ok_and(|config| config.tun_device == device)
        }
        Target::Clat(arguments) => configure_clat(arguments, read_plain_file, usage(USAGE))
            .is_ok_and(|read| read.config.clat.device == device),
    }
}

/// The configuration of a translator. Its path may be from the command line of any process.
fn read_config(path: &Path) -> Result<Config, Error> {
    Ok(parse_config(path, &read_plain_file(path)?)?.0)
}

/// The configurations of services, of those that are there.
fn configured() -> Vec<Target> {
    let others = fs::read_dir(TAYGA_CONFS).into_iter().flatten().flatten();
    let mut paths: Vec<_> = others
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        })
        .collect();
    paths.sort();
    paths.insert(0, TAYGA_CONF.into());
    let there = paths.into_iter().filter(|path| path.exists());
    let there = there.map(Target::Translator);
    there
        .chain([Target::Clat(ClatdArguments::default())])
        .collect()
}

/// Where nothing runs: what would be started.
fn default_targets() -> Vec<Target> {
    let is_gateway = Path::new(TAYGA_CONF).exists();
    let is_client = !is_gateway || Path::new(DEFAULT_CONFIG).exists();
    let gateway = is_gateway.then(|| Target::Translator(TAYGA_CONF.into()));
    let client = is_client.then(|| Target::Clat(ClatdArguments::default()));
    gateway.into_iter().chain(client).collect()
}

fn examine(target: &Target, running: &[Running], ping: Ipv4Addr) -> Result<Diagnosis, Error> {
    let mut survey = Survey::new()?;
    let runs = running.iter().find(|one| one.target == *target);
    let mut diagnosis = match target {
        Target::Translator(path) => {
            let config = read_config(path)?;
            let map = map_file::address_map(&config)?;
            let of_process = runs.and_then(Running::device);
            let device = of_process.unwrap_or(&config.tun_device);
            let mut facts = survey.translator(&config, &map, device)?;
            facts.start = start_of_translator(path);
            facts.changed = runs.map(Running::changed_files).unwrap_or_default();
            let mut diagnosis = translator::examine(&facts);
            diagnosis.config = Some(path.display().to_string());
            diagnosis
        }
        Target::Clat(arguments) => {
            let Configured { config, file, .. } =
                configure_clat(arguments, read_plain_file, usage(USAGE))?;
            let mut facts = survey.clat(&config, ping)?;
            facts.start = start_of_clat(arguments);
            facts.unit = runs.and_then(Running::unit);
            facts.is_running |= runs.is_some();
            facts.status = runs.and_then(|one| one.status.clone());
            let mut diagnosis = clat::examine(&facts);
            let path = arguments
                .config
                .as_deref()
                .unwrap_or(Path::new(DEFAULT_CONFIG));
            diagnosis.config = file.map(|_| path.display().to_string());
            diagnosis
        }
    };
    diagnosis.unseen = survey.unseen;
    Ok(diagnosis)
}

fn start_of_translator(path: &Path) -> String {
    let by_hand = || format!("xlatd -c {}", word(&path.display().to_string()));
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    match path.parent() {
        _ if !Path::new(SYSTEMD).exists() => by_hand(),
        _ if path == Path::new(TAYGA_CONF) => "systemctl start tayga".to_owned(),
        Some(parent) if parent == Path::new(TAYGA_CONFS) => {
            format!("systemctl start {}", word(&format!("tayga@{name}")))
        }
        _ => by_hand(),
    }
}

fn start_of_clat(arguments: &ClatdArguments) -> String {
    match &arguments.config {
        Some(path) => format!("xlatd clat -c {}", word(&path.display().to_string())),
        None if Path::new(SYSTEMD).exists() => "systemctl start xlatd-clat".to_owned(),
        None => "xlatd clat".to_owned(),
    }
}
