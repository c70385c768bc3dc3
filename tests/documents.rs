//! The documents say what the program does: the sample files are read, and code, manual page and sample know the same
//! directives.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its files fails"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use xlatd::{
    addr::{
        Prefix4,
        special::{self, Treatment},
    },
    config::{
        Config, DIRECTIVES, Level,
        clatd::{self, ClatConfig},
    },
};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

/// The lines of a sample; those that are commented out have no blank after their `#`, in contrast to prose.
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
    for entry in fs::read_dir(path("conf")).unwrap() {
        let path = entry.unwrap().path();
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
    assert!(samples >= 2);
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
    assert_eq!(found, names(DIRECTIVES));
}

#[test]
fn the_sample_is_right_with_its_comment_signs_removed() {
    let sample = text("conf/tayga.conf");
    let all: String = directives(&sample)
        .map(|line| format!("{line}\n"))
        .collect();
    let (config, notices) = Config::read(&all).unwrap();
    assert_eq!(config.maps.len(), 2);
    // Those that say that a directive does not do what it seems to.
    let warned = notices
        .iter()
        .filter(|notice| notice.level == Level::Warning);
    let lines: Vec<_> = all.lines().collect();
    assert_eq!(
        names(warned.map(|notice| lines[notice.line - 1].split(' ').next().unwrap())),
        names(["strict-frag-hdr"])
    );
}

/// The sample promises its readers that what is not required is at its default.
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
    assert_eq!(found, names(DIRECTIVES));
}

/// The ranges that `wkpf-strict` is about, as the code has them, and no others.
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

/// Each directive of the manual page ends with its default, or says that it is needed.
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

/// What it says of a default is so: who writes it into a configuration changes nothing.
#[test]
fn the_defaults_of_the_manual_page_are_those_of_the_program() {
    const SHORTEST: &str =
        "tun-device nat64\nipv4-addr 192.168.255.1\nprefix 2001:db8:1:ffff::/96\n";
    let page = text("man/tayga.conf.5");
    let (shortest, _) = Config::read(SHORTEST).unwrap();
    let mut said = BTreeSet::new();
    for (name, item) in items(&page) {
        let words: Vec<_> = item.split_whitespace().collect();
        let Some(at) = words
            .windows(3)
            .position(|three| three == ["The", "default", "is"])
        else {
            continue;
        };
        let value = match words[at + 3..] {
            [".Cm", word, ..] | [word, ..] => word.trim_end_matches(['.', ',']),
            [] => panic!("{name}: the default is missing"),
        };
        match value {
            // By another directive: of the manual page only the name can be held against the program.
            ".Ic" => continue,
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

/// Every directive is shown as it is written, under its own name.
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

/// Both pages say which standards they follow and where they do not; the program's says how safe it is.
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
    ] {
        let page = text(page);
        for section in sections {
            assert!(page.contains(&format!("\n.Sh {section}\n")), "{section}");
        }
    }
}

/// The directives of the manual page, with all that it says of each.
fn items(page: &str) -> impl Iterator<Item = (&str, &str)> {
    page.split("\n.It Ic ").skip(1).map(|item| {
        let item = item.split("\n.El").next().unwrap();
        (item.split([' ', '\n']).next().unwrap(), item)
    })
}

/// What the manual page shows can be copied.
#[test]
fn the_examples_of_the_manual_page_are_right() {
    let page = text("man/tayga.conf.5");
    let lines: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix(".Dl "))
        .collect();
    assert!(lines.len() >= DIRECTIVES.len());
    for line in lines {
        // Alone in a file it lacks others, but nothing is wrong with the line itself.
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
            let says = ["The default is", "There is no default", "Taken"];
            assert!(
                says.iter().any(|words| item.contains(words)) || name == "clat-v6-addr",
                "{name}"
            );
            name
        })
        .collect();
    let keys: Vec<_> = clatd::keys().collect();
    assert_eq!(names(found), names(keys));
    for key in clatd::ignored_keys() {
        assert!(page.contains(&format!("\n.Ic {key}")), "{key}");
    }
}
