//! The README, manual pages, samples and help agree with the program and with each other.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its files fails"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use xlatd::{
    addr::{
        Prefix4,
        special::{self, Treatment},
    },
    config::{
        self, Config, Level,
        clatd::{self, ClatConfig},
        container,
    },
    doctor,
    report::metrics,
    translate::{Direction, DropReason},
    wire::icmp_extension,
};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

/// The lines of a sample. Those that are commented out have no blank after their `#`, unlike prose.
fn directives(sample: &str) -> impl Iterator<Item = &str> {
    sample
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("# ") && *line != "#")
        .map(|line| line.trim_start_matches('#'))
}

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    names.into_iter().collect()
}

#[test]
fn every_sample_starts_a_translator() {
    let mut samples = 0;
    let entries = fs::read_dir(path("conf")).unwrap();
    let entries = entries.map(|entry| entry.unwrap().path());
    for path in entries.chain([path("conf/failover/tayga.conf")]) {
        let is_tayga = path.file_name().is_some_and(|name| name != "clatd.conf");
        if is_tayga
            && path
                .extension()
                .is_some_and(|extension| extension == "conf")
        {
            let text = fs::read(&path).unwrap();
            let (_, notices) = Config::read(text)
                .unwrap_or_else(|errors| panic!("{}: {errors:?}", path.display()));
            assert_eq!(notices, [], "{}", path.display());
            samples += 1;
        }
    }
    assert!(samples >= 3);
}

/// The routing daemons of the example announce exactly what its translator has routed to it.
#[test]
fn the_example_of_failover_announces_what_is_translated() {
    let translator = text("conf/failover/tayga.conf");
    let routes = translator
        .lines()
        .filter_map(|line| line.strip_prefix("tun-route "));
    let routes: BTreeSet<_> = routes
        .map(|route| match route.contains('/') {
            true => route.to_owned(),
            false => format!("{route}/128"),
        })
        .collect();
    assert_eq!(routes.len(), 3);
    let found = |name: &str, before: &str, after: &str| -> BTreeSet<String> {
        let text = text(name);
        let lines = text.lines().filter_map(|line| line.split_once(before));
        let prefixes = lines.map(|(_, rest)| rest.strip_suffix(after).unwrap().to_owned());
        prefixes.collect()
    };
    assert_eq!(
        found("conf/failover/bird.conf", " route ", " via \"nat64\";"),
        routes
    );
    assert_eq!(
        found("conf/failover/frr.conf", " translated permit ", ""),
        routes
    );
    let router = text("conf/failover/bird-router.conf");
    assert!(routes.iter().all(|route| router.contains(route)));
}

/// The translator of the README starts, and a mistake is reported in the words quoted there.
#[test]
fn the_readme_shows_what_the_program_does() {
    let readme = text("README.md");
    let sample = readme.split("```text\ntun-device").nth(1).unwrap();
    let sample = format!("tun-device{}", sample.split("```").next().unwrap());
    assert_eq!(Config::read(sample).unwrap().1, []);

    let quoted = readme
        .lines()
        .find(|line| line.contains(": expected"))
        .unwrap();
    let (line, problem) = quoted
        .trim()
        .trim_matches(['`', '.'])
        .split_once(":5: ")
        .unwrap();
    let word = problem.split('"').nth(1).unwrap();
    let blank = "\n".repeat(line.parse::<usize>().unwrap() - 1);
    let errors = Config::read(format!("{blank}map {word} 2001:db8::/96\n")).unwrap_err();
    assert_eq!(format!("{line}:5: {problem}"), errors[0].to_string());
}

#[test]
fn the_sample_has_every_directive() {
    let sample = text("conf/tayga.conf");
    let found = names(directives(&sample).map(|line| line.split(' ').next().unwrap()));
    assert_eq!(found, names(config::directives()));
}

#[test]
fn the_sample_is_right_with_its_comment_signs_removed() {
    let sample = text("conf/tayga.conf");
    let all: String = directives(&sample)
        .map(|line| format!("{line}\n"))
        .collect();
    let (config, notices) = Config::read(&all).unwrap();
    assert_eq!(config.maps.len(), 2);
    let warned = notices
        .iter()
        .filter(|notice| notice.level == Level::Warning);
    let lines: Vec<_> = all.lines().collect();
    assert_eq!(
        names(warned.map(|notice| lines[notice.line - 1].split(' ').next().unwrap())),
        names(["strict-frag-hdr"])
    );
}

/// The package installs what Debian's tayga does, in other words.
#[test]
fn the_configuration_of_the_package_is_that_of_debian() {
    let (config, notices) = Config::read(text("conf/packaging/debian/tayga.conf")).unwrap();
    let (debian, _) = Config::read(
        "tun-device nat64\n\
         ipv4-addr 192.168.255.1\n\
         prefix 2001:db8:1:ffff::/96\n\
         dynamic-pool 192.168.255.0/24\n\
         data-dir /var/spool/tayga\n",
    )
    .unwrap();
    assert_eq!(config, debian);
    assert!(notices.is_empty(), "{notices:?}");
}

/// Each line of the sample that is not required is at its default.
#[test]
fn the_sample_shows_the_defaults() {
    let (sample, _) = Config::read(text("conf/tayga.conf")).unwrap();
    let (shortest, _) = Config::read(
        "tun-device nat64\n\
         ipv4-addr 192.168.255.1\n\
         prefix 2001:db8:1:ffff::/96\n",
    )
    .unwrap();
    assert_eq!(sample, shortest);
}

#[test]
fn the_manual_page_has_every_directive() {
    let page = text("man/tayga.conf.5");
    let items = page.lines().filter_map(|line| line.strip_prefix(".It Ic "));
    let found = names(items.map(|item| item.split(' ').next().unwrap()));
    assert_eq!(found, names(config::directives()));
}

/// `wkpf-strict` lists the private ranges of the code.
#[test]
fn the_manual_page_has_every_private_range() {
    let page = text("man/tayga.conf.5");
    let (_, item) = page.split_once(".It Ic wkpf-strict").unwrap();
    let (item, _) = item.split_once(".It Ic map").unwrap();
    let found = item.split_whitespace().filter_map(|word| {
        let prefix = word.trim_end_matches([',', '.']).parse::<Prefix4>();
        prefix.ok().map(|prefix| prefix.to_string())
    });
    let ranges = special::ranges_v4(Treatment::Private).map(|prefix| prefix.to_string());
    assert_eq!(BTreeSet::from_iter(found), BTreeSet::from_iter(ranges));
}

/// The words by which traceroute(8) tells who an ICMP error is from are those of the object.
#[test]
fn the_manual_page_shows_the_node_identification() {
    let address = "2001:db8::1".parse().unwrap();
    let node = icmp_extension::node(address);
    let [_, _, class, kind, family @ .., _, _, _, _] = *node.first_chunk::<12>().unwrap();
    let family = u32::from_be_bytes(family);
    let page = text("man/tayga.conf.5");
    let (_, item) = items(&page)
        .find(|(name, _)| *name == "icmp-node-id")
        .unwrap();
    assert!(
        item.contains(&format!(" {class}/{kind}:{family:08x}.")),
        "{item}"
    );
}

/// Each directive of the manual page has a default, or is required.
#[test]
fn the_manual_page_has_every_default() {
    let page = text("man/tayga.conf.5");
    for (name, item) in items(&page) {
        assert!(
            [
                "The default is",
                "There is no default",
                "This directive is required"
            ]
            .iter()
            .any(|words| item.contains(words)),
            "{name}"
        );
    }
}

/// A directive at its documented default changes nothing.
#[test]
fn the_defaults_of_the_manual_page_are_those_of_the_program() {
    const SHORTEST: &str =
        "tun-device nat64\nipv4-addr 192.168.255.1\nprefix 2001:db8:1:ffff::/96\n";
    let page = text("man/tayga.conf.5");
    let (shortest, _) = Config::read(SHORTEST).unwrap();
    let mut said = BTreeSet::new();
    for (name, item) in items(&page) {
        let Some(value) = default(item) else {
            continue;
        };
        match value {
            ".Ic" => continue, // the value of another directive
            "none" => assert!(shortest.log.to_string().is_empty()),
            value => {
                let (config, _) = Config::read(format!("{SHORTEST}{name} {value}\n")).unwrap();
                assert_eq!(config, shortest, "{name} {value}");
            }
        }
        said.insert(name);
    }
    assert!(said.len() >= 9, "{said:?}");
}

/// Each directive has an example under its own name.
#[test]
fn the_manual_page_has_an_example_of_every_directive() {
    let page = text("man/tayga.conf.5");
    for (name, item) in items(&page) {
        let has_example = item.lines().any(|line| {
            let words = line.strip_prefix(".Dl ").unwrap_or_default();
            words.split(' ').next() == Some(name)
        });
        assert!(has_example, "{name}");
    }
}

#[test]
fn the_manual_pages_have_their_sections() {
    for (page, sections) in [
        (
            "man/tayga.conf.5",
            &["STANDARDS", "CAVEATS", "EXAMPLES"][..],
        ),
        (
            "man/xlatd.8",
            &[
                "SIGNALS",
                "ENVIRONMENT",
                "EXIT STATUS",
                "SECURITY",
                "STANDARDS",
                "CAVEATS",
            ],
        ),
        (
            "man/xlatd-metrics.8",
            &[
                "METRICS",
                "ENVIRONMENT",
                "EXIT STATUS",
                "EXAMPLES",
                "STANDARDS",
            ],
        ),
        ("man/xlatd-failover.7", &["STATE", "FILES", "CAVEATS"]),
        (
            "man/xlatd-container.8",
            &["ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES", "CAVEATS"],
        ),
        (
            "man/xlatd-clat.8",
            &[
                "CONFIGURATION",
                "SIGNALS",
                "ENVIRONMENT",
                "EXIT STATUS",
                "SECURITY",
                "STANDARDS",
                "CAVEATS",
            ],
        ),
    ] {
        let page = text(page);
        for section in sections {
            assert!(page.contains(&format!("\n.Sh {section}\n")), "{section}");
        }
    }
}

/// xlatd(8) has each reason for which packets are dropped: its key, text and rules.
#[test]
fn the_manual_page_has_every_reason_for_a_drop() {
    let page = text("man/xlatd.8");
    let (_, section) = page.split_once("\n.Sh DROPPED PACKETS\n").unwrap();
    let (section, _) = section.split_once("\n.El\n").unwrap();
    let (_, list) = section.split_once("\n.It Cm ").unwrap();
    let found: Vec<_> = list.split("\n.It Cm ").collect();
    let expected: Vec<_> = DropReason::ALL
        .iter()
        .map(|reason| {
            let rule = |direction| reason.rule(Some(direction));
            let [four, six] = [Direction::FourToSix, Direction::SixToFour].map(rule);
            let rules = match four == six {
                true => format!("{four}."),
                false => format!("{four}; IPv6 to IPv4: {six}."),
            };
            format!("{}\n{reason}:\n{rules}", reason.key())
        })
        .collect();
    assert_eq!(found, expected);
}

/// xlatd-container(8) has each variable.
#[test]
fn the_manual_page_has_every_variable_of_a_container() {
    let page = text("man/xlatd-container.8");
    let items = page.lines().filter_map(|line| line.strip_prefix(".It Ev "));
    let found = items.filter(|name| *name != "RUNTIME_DIRECTORY");
    assert_eq!(names(found), names(container::variables()));
}

/// The image runs the command, and asks for its status.
#[test]
fn the_image_runs_commands_of_the_program() {
    let image = text("conf/packaging/container/Containerfile");
    for line in [
        "ENTRYPOINT [\"/usr/sbin/xlatd\"]",
        "CMD [\"container\"]",
        &format!("VOLUME {}", container::DATA_DIR),
    ] {
        assert!(image.contains(&format!("\n{line}\n")), "{line}");
    }
    assert!(image.contains(" CMD [\"/usr/sbin/xlatd\", \"status\"]\n"));
}

/// xlatd-metrics(8) has each metric, in order: its name, what it is, its kind and labels.
#[test]
fn the_manual_page_has_every_metric() {
    let page = text("man/xlatd-metrics.8");
    let (_, section) = page.split_once("\n.Sh METRICS\n").unwrap();
    let (section, _) = section.split_once("\n.El\n").unwrap();
    let found = section.split("\n.It Ic ").skip(1);
    let found: Vec<_> = found.map(|item| item.replace('\n', " ")).collect();
    let expected = metrics::METRICS.iter().map(|metric| {
        let (name, help, kind) = (metric.name(), metric.help, metric.kind);
        match metric.labels().join(", ") {
            labels if labels.is_empty() => format!("{name} {help} {kind:?}."),
            labels => format!("{name} {help} {kind:?}: {labels}."),
        }
    });
    assert_eq!(found, expected.collect::<Vec<_>>());
}

/// The directives or keys of a manual page, with their descriptions.
fn items(page: &str) -> impl Iterator<Item = (&str, &str)> {
    page.split("\n.It Ic ").skip(1).map(|item| {
        let sections = ["\n.Ss", "\n.Sh"].map(|section| item.find(section));
        let end = sections.into_iter().flatten().min();
        let item = &item[..end.unwrap_or(item.len())];
        (item.split([' ', '\n', '=']).next().unwrap(), item)
    })
}

/// The first word of the documented default.
fn default(item: &str) -> Option<&str> {
    let words: Vec<_> = item.split_whitespace().collect();
    let at = words
        .windows(3)
        .position(|three| three == ["The", "default", "is"])?;
    let word = words[at + 3..].iter().find(|word| **word != ".Cm")?;
    Some(word.trim_end_matches(['.', ',']))
}

/// The examples of the manual page are valid.
#[test]
fn the_examples_of_the_manual_page_are_right() {
    let page = text("man/tayga.conf.5");
    let lines: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix(".Dl "))
        .collect();
    assert!(lines.len() >= config::directives().count());
    for line in lines {
        // A single line lacks others (line 0), but has no mistake itself.
        if let Err(errors) = Config::read(line) {
            assert!(
                errors.iter().all(|error| error.line == 0),
                "{line}: {errors:?}"
            );
        }
    }
    let files: Vec<_> = page.split(".Bd -literal").skip(1).collect();
    assert_eq!(files.len(), 2);
    for file in files {
        let file = file
            .split_once('\n')
            .unwrap()
            .1
            .split(".Ed")
            .next()
            .unwrap();
        assert_eq!(Config::read(file).unwrap().1, [], "{file}");
    }
}

#[test]
fn the_sample_of_clatd_has_every_key() {
    let sample = text("conf/clatd.conf");
    let found = directives(&sample).map(|line| line.split('=').next().unwrap());
    assert_eq!(names(found), names(clatd::keys()));
}

/// The sample of clatd.conf changes nothing, and each line that is commented out is valid.
#[test]
fn the_sample_of_clatd_has_the_defaults() {
    let sample = text("conf/clatd.conf");
    let mut config = ClatConfig::default();
    assert_eq!(config.read(sample.as_bytes()), Ok(vec![]));
    assert_eq!(config, ClatConfig::default());
    for line in sample.lines().filter_map(|line| line.strip_prefix('#')) {
        if !line.starts_with(' ') && line.contains('=') {
            let mut config = ClatConfig::default();
            assert_eq!(config.read(line.as_bytes()), Ok(vec![]), "{line}");
            assert_ne!(config, ClatConfig::default(), "{line}");
        }
    }
}

#[test]
fn the_manual_page_has_every_key_of_clatd() {
    let page = text("man/xlatd-clat.8");
    let found: Vec<_> = items(&page)
        .map(|(name, item)| {
            let words = ["The default is", "There is no default", "without effect"];
            assert!(words.iter().any(|words| item.contains(words)), "{name}");
            name
        })
        .collect();
    assert_eq!(names(found), names(clatd::keys()));
    for key in clatd::ignored_keys() {
        assert!(page.contains(&format!("\n.Ic {key}")), "{key}");
    }
}

/// A key at its documented default changes nothing.
#[test]
fn the_defaults_of_clatd_in_the_manual_page_are_those_of_the_program() {
    let page = text("man/xlatd-clat.8");
    let mut checked = 0;
    for (name, item) in items(&page) {
        let Some(value) = default(item).filter(|word| *word != "the") else {
            continue; // prose
        };
        let mut config = ClatConfig::default();
        let line = format!("{name}={value}");
        assert_eq!(config.read(line.as_bytes()), Ok(vec![]), "{line}");
        assert_eq!(config, ClatConfig::default(), "{line}");
        checked += 1;
    }
    assert!(checked >= 16, "{checked}");
}

/// `--help` and the manual page have the same options, and the help fits on a terminal.
#[test]
fn the_help_and_the_manual_page_have_the_same_options() {
    for (arguments, page) in [
        (&["--help"][..], "man/xlatd.8"),
        (&["clat", "--help"], "man/xlatd-clat.8"),
        (&["container", "--help"], "man/xlatd-container.8"),
        (&["status", "--help"], "man/xlatd-status.8"),
        (&["explain", "--help"], "man/xlatd-explain.8"),
        (&["doctor", "--help"], "man/xlatd-doctor.8"),
        (&["metrics", "--help"], "man/xlatd-metrics.8"),
        (&["trace", "--help"], "man/xlatd-trace.8"),
    ] {
        let mut xlatd = Command::new(env!("CARGO_BIN_EXE_xlatd"));
        let help = xlatd.args(arguments).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
        let shown = help.lines().map(str::trim_start);
        let shown = shown.filter(|line| line.starts_with('-'));
        let shown = shown.flat_map(str::split_whitespace);
        let shown = shown.filter(|word| word.starts_with('-'));
        let shown = names(shown.map(|word| word.trim_end_matches([',', ';'])));

        let page = text(page);
        let items = page.lines().filter_map(|line| line.strip_prefix(".It Fl "));
        let items = items.flat_map(|item| item.split(" , Fl ").map(option));
        assert_eq!(
            shown
                .into_iter()
                .map(str::to_owned)
                .collect::<BTreeSet<_>>(),
            items.collect()
        );
    }
}

/// The manual page of the doctor explains every finding, in the order in which they come; notes are
/// the last.
#[test]
fn the_manual_page_of_the_doctor_has_every_finding() {
    let page = text("man/xlatd-doctor.8");
    let (_, section) = page.split_once(".Sh FINDINGS").unwrap();
    let (section, _) = section.split_once(".Sh EXIT").unwrap();
    let found: Vec<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix(".It Cm "))
        .collect();
    let of_translator = doctor::translator::CHECKS.iter().map(|check| check.key);
    let of_clat = doctor::clat::CHECKS.iter().map(|check| check.key);
    let keys: Vec<_> = of_translator
        .chain(of_clat)
        .chain([doctor::clat::GUESTS, doctor::clat::NATIVE_IPV4])
        .collect();
    assert_eq!(found, keys);
}

/// The option of an item: `Fl config Ar file`, after the first `Fl`, is `--config`.
fn option(item: &str) -> String {
    let words = item.split(' ').take_while(|word| *word != "Ar");
    let words: String = words.map(|word| word.replace("Fl", "-")).collect();
    format!("-{words}")
}

/// Prose, comments and scripts have at most 100 columns, as rustfmt has it for code. Tables may be
/// wider.
#[test]
fn lines_have_at_most_100_columns() {
    const DIRECTORIES: [&str; 5] = ["conf", "scripts", "src", "tests", ".ci"];
    let mut directories = DIRECTORIES.map(path).to_vec();
    let mut files = vec![path("README.md"), path("CHANGELOG.md")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            // Octets found by the fuzzer, and what cargo builds there.
            let is_text = !path.ends_with("corpus") && !path.ends_with("target");
            match path.is_dir() {
                true if is_text => directories.push(path),
                false => files.push(path),
                true => {}
            }
        }
    }
    assert!(files.len() > 200, "{files:?}");
    for file in files {
        let is = |extension| file.extension().is_some_and(|found| found == extension);
        // Octets, or lines that a program prints.
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        let is_table = file.ends_with("tests/vm/matrix");
        if is("lock") || is("svg") || is("expected") || is_table {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            let is_table = line.trim_start_matches("//! ").starts_with('|');
            let may_be_wider = is("rs") && !is_comment || (is("rs") || is("md")) && is_table;
            assert!(
                may_be_wider || line.chars().count() <= 100,
                "{}:{}",
                file.display(),
                index + 1
            );
        }
    }
}
