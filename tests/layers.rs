//! The parts know those below them, and none above; and no files know each other: reads what the
//! source names.
//!
//! Tests and comments in the source may name what they like. A path counts wherever it stands, in a
//! `use` or not, and also in a macro. What a `mod.rs` hands on with `pub use` is where it is
//! written.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use syn::{
    Attribute, Item, Macro, Safety, UseTree, Visibility,
    visit::{self, Visit},
};

/// The layer of each part of the library. A part may name those of lower layers, and itself.
const LIBRARY: &[(&str, u8)] = &[
    ("addr", 0),
    ("link", 0),
    ("pace", 0),
    ("wire", 0),
    ("clat", 1),
    ("translate", 1),
    ("config", 2),
    ("plan", 3),
    ("report", 3),
    ("doctor", 4),
    ("lib", 5),
];

/// The layer of each part of the binary. All of them may name the library.
const BINARY: &[(&str, u8)] = &[
    ("sys", 4),
    ("error", 5),
    ("datapath", 6),
    ("host", 7),
    ("daemon", 8),
    ("cli", 9),
    ("main", 10),
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
    "caps",
    "env_logger",
    "landlock",
    "lexopt",
    "log",
    "netlink_packet_core",
    "netlink_packet_route",
    "netlink_sys",
    "nix",
    "seccompiler",
    "signal_hook",
    "tun",
    "xlatd",
];

/// Macros that write, or that end the process on purpose.
const MACROS_NOT_IN_LIBRARY: &[&str] = &["dbg", "eprint", "eprintln", "print", "println"];

#[test]
fn no_part_names_one_above_it() {
    let sources = Sources::read();
    let broken: Vec<_> = sources.arrows().filter_map(|arrow| wrong(&arrow)).collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn no_files_know_each_other() {
    let sources = Sources::read();
    assert_eq!(sources.circles(), Vec::<Vec<&str>>::new());
}

#[test]
fn the_library_does_no_io_and_reads_no_clock() {
    let mut broken = Vec::new();
    let sources = Sources::read();
    for (path, file) in &sources.0 {
        if is_binary(path) {
            continue;
        }
        for named in file.paths.iter().map(|named| named.join("::")) {
            let is = |name: &&&str| named == **name || named.starts_with(&format!("{name}::"));
            if NOT_IN_LIBRARY.iter().any(|name| is(&name)) {
                broken.push(format!("src/{path}: the library names {named}"));
            }
        }
        let calls = file.macros.iter();
        for name in calls.filter(|name| MACROS_NOT_IN_LIBRARY.contains(&name.as_str())) {
            broken.push(format!("src/{path}: the library calls {name}!"));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn unsafe_is_in_sys_alone() {
    let sources = Sources::read();
    for (path, file) in &sources.0 {
        assert!(
            !file.has_unsafe || path.starts_with("bin/xlatd/sys/"),
            "src/{path}: unsafe outside of src/bin/xlatd/sys"
        );
    }
    assert!(
        sources.0["lib.rs"].forbids_unsafe,
        "src/lib.rs: expected #![forbid(unsafe_code)]"
    );
}

/// Nothing of the rules above holds if the source is not read: they find what is there to be found.
#[test]
fn what_breaks_a_rule_is_found() {
    let files = [
        "lib.rs",
        "addr/mod.rs",
        "addr/eam.rs",
        "clat/mod.rs",
        "config/mod.rs",
        "plan/mod.rs",
        "report/stats.rs",
        "translate/mod.rs",
        "translate/limit.rs",
        "translate/reply.rs",
        "wire/mod.rs",
        "wire/icmp.rs",
        "wire/ipv4.rs",
        "bin/xlatd/main.rs",
        "bin/xlatd/daemon/clat.rs",
        "bin/xlatd/error.rs",
        "bin/xlatd/sys/mod.rs",
        "bin/xlatd/sys/netlink.rs",
        "bin/xlatd/sys/tun.rs",
    ];
    let with = |changed: &[(&str, &str)]| {
        let text = |path: &str| {
            let changed = changed.iter().find(|(name, _)| *name == path);
            changed.map_or("", |(_, text)| text)
        };
        let files = files.map(|path| (path.to_owned(), Source::new(text(path))));
        Sources(files.into())
    };
    let broken = |path: &str, text: &str| {
        let sources = with(&[(path, text)]);
        sources
            .arrows()
            .filter_map(|arrow| wrong(&arrow))
            .collect::<Vec<_>>()
    };
    for (path, text) in [
        ("wire/ipv4.rs", "use crate::translate::Packet;"),
        ("wire/ipv4.rs", "use crate::addr::Prefix4;"),
        (
            "wire/ipv4.rs",
            "use crate::{wire::icmp, addr::{self, Prefix4}};",
        ),
        ("wire/ipv4.rs", "fn f() -> crate::config::Config { todo() }"),
        ("wire/ipv4.rs", "fn f() { assert!(crate::plan::DONE); }"),
        ("wire/ipv4.rs", "use super::super::addr;"),
        ("wire/mod.rs", "use super::addr;"),
        ("wire/mod.rs", "pub use super::{addr::{Eam}, wire};"),
        ("translate/mod.rs", "use crate::clat;"),
        ("clat/mod.rs", "use crate::translate::Settings;"),
        ("config/mod.rs", "use crate::plan::Step;"),
        ("report/stats.rs", "use super::super::plan;"),
        ("bin/xlatd/sys/tun.rs", "use crate::sys::netlink;"),
        ("bin/xlatd/sys/tun.rs", "use super::netlink::Link;"),
        (
            "bin/xlatd/sys/tun.rs",
            "use crate::daemon::clat::ClatDaemon;",
        ),
        ("bin/xlatd/error.rs", "use crate::daemon;"),
        (
            "wire/ipv4.rs",
            "#[cfg(test)] mod tests { fn f() { { } } } use crate::addr;",
        ),
    ] {
        assert!(!broken(path, text).is_empty(), "{path}: {text}");
    }
    for (path, text) in [
        ("translate/reply.rs", "use crate::wire::{icmp, ipv4};"),
        (
            "translate/reply.rs",
            "use super::{Packet, limit::Kind}; fn f() { limit::f() }",
        ),
        ("report/stats.rs", "use crate::config::LogClasses;"),
        (
            "bin/xlatd/daemon/clat.rs",
            "use crate::{error::Error, sys::{netlink, tun}};",
        ),
        ("bin/xlatd/daemon/clat.rs", "use xlatd::{plan, config};"),
        ("bin/xlatd/sys/tun.rs", "use xlatd::config::IpPrefix;"),
        ("wire/ipv4.rs", "// use crate::addr;"),
        ("wire/ipv4.rs", "const A: &str = \"crate::addr\";"),
        (
            "wire/ipv4.rs",
            "#[cfg(test)]\nmod tests { use crate::addr; }",
        ),
        ("wire/ipv4.rs", "#[cfg(test)]\nuse crate::addr;"),
    ] {
        assert_eq!(broken(path, text), Vec::<String>::new(), "{path}: {text}");
    }

    let circle = with(&[
        ("wire/mod.rs", "pub use ipv4::Ipv4;"),
        ("wire/ipv4.rs", "use super::icmp::Icmp;"),
        ("wire/icmp.rs", "use crate::wire::Ipv4;"),
        ("translate/limit.rs", "use super::Packet;"),
    ]);
    assert_eq!(circle.circles(), [["wire/icmp.rs", "wire/ipv4.rs"]]);

    let text = "use std::{fs, net::{IpAddr, UdpSocket as Socket}}; fn f() { log::info!(\"\") }";
    let file = Source::new(text);
    let found: Vec<String> = file.paths.iter().map(|path| path.join("::")).collect();
    let expected = [
        "std::fs",
        "std::net::IpAddr",
        "std::net::UdpSocket",
        "log::info",
    ];
    assert_eq!(found, expected);
    assert_eq!(file.macros, ["info"]);
}

/// That a file names something of another one.
struct Arrow<'a> {
    from: &'a str,
    to: &'a str,
    /// As it is named.
    path: String,
}

/// What is wrong with an arrow, if anything.
fn wrong(arrow: &Arrow<'_>) -> Option<String> {
    let Arrow { from, to, path } = arrow;
    let says = |what: &str| Some(format!("src/{from}: names {path} of src/{to}, but {what}"));
    let (from_part, to_part) = (part(from), part(to));
    if from_part == to_part {
        let file = |path: &str| {
            path.split('/')
                .nth(3)
                .map(|name| name.trim_end_matches(".rs").to_owned())
        };
        let (from_file, to_file) = (file(from)?, file(to)?);
        let is_of_sys = from_part == "sys" && from_file != "mod" && to_file != "mod";
        return (is_of_sys && from_file != to_file)
            .then(|| says("files of sys do not know each other"))?;
    }
    let table = if is_binary(from) { BINARY } else { LIBRARY };
    let layer = |part: &str| {
        table
            .iter()
            .find(|(name, _)| *name == part)
            .map(|entry| entry.1)
    };
    match (layer(from_part), layer(to_part)) {
        (Some(from), Some(to)) if to < from => None,
        (Some(from), Some(to)) => says(&format!(
            "{from_part} is of layer {from} and {to_part} of layer {to}: expected a lower one"
        )),
        _ => says("tests/layers.rs has no layer for one of them"),
    }
}

fn is_binary(path: &str) -> bool {
    path.starts_with("bin/")
}

/// The part that a file belongs to.
fn part(path: &str) -> &str {
    let path = path.strip_prefix("bin/xlatd/").unwrap_or(path);
    &path[..path.find(['/', '.']).unwrap()]
}

/// Every source file, by its path below src.
struct Sources(BTreeMap<String, Source>);

impl Sources {
    fn read() -> Self {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let (mut files, mut directories) = (BTreeMap::new(), vec![src.clone()]);
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let name = path.strip_prefix(&src).unwrap().to_str().unwrap();
                    let text = fs::read_to_string(&path).unwrap();
                    files.insert(name.to_owned(), Source::new(&text));
                }
            }
        }
        // Of tests that have files of their own.
        files.retain(|path, _| !path.contains("/tests/"));
        Self(files)
    }

    /// What each file names of other files of its crate.
    fn arrows(&self) -> impl Iterator<Item = Arrow<'_>> {
        self.0.iter().flat_map(move |(from, file)| {
            // A mod.rs may hand on what is in files below it without knowing them.
            let below = from.strip_suffix("mod.rs");
            let handed_on = file.handed_on.iter().filter(move |(name, path)| {
                let to = self.file_of(from, path);
                let is_below =
                    to.is_some_and(|to| below.is_some_and(|below| to.starts_with(below)));
                !is_below || file.names.contains(*name)
            });
            let handed_on = handed_on.map(|(_, path)| path);
            file.paths.iter().chain(handed_on).filter_map(move |path| {
                let to = self.file_of(from, path)?;
                (to != from).then(|| Arrow {
                    from,
                    to,
                    path: path.join("::"),
                })
            })
        })
    }

    /// The file that has what a path names in a file, if that is of this crate.
    fn file_of(&self, from: &str, path: &[String]) -> Option<&str> {
        let root = if is_binary(from) { "bin/xlatd/" } else { "" };
        let below_root = from.strip_prefix(root)?.trim_end_matches(".rs");
        let is_root = matches!(below_root, "lib" | "main");
        let module = below_root
            .split('/')
            .filter(|name| *name != "mod" && !is_root);
        let module: Vec<_> = module.map(str::to_owned).collect();
        let absolute = match path.first()?.as_str() {
            "crate" => path[1..].to_vec(),
            "self" => [&module, &path[1..]].concat(),
            "super" => {
                let ups = path.iter().take_while(|name| *name == "super").count();
                [&module[..module.len().checked_sub(ups)?], &path[ups..]].concat()
            }
            _ => {
                let child = [&module[..], &path[..1]].concat();
                self.file_of_module(root, &child)?;
                [&module, path].concat()
            }
        };
        // The longest beginning of it that is a module, and then what that hands on.
        let len = (0..=absolute.len()).rev();
        let (len, file) = len
            .filter_map(|len| Some((len, self.file_of_module(root, &absolute[..len])?)))
            .next()?;
        let handed_on = absolute
            .get(len)
            .and_then(|name| self.0[file].handed_on.get(name));
        match handed_on {
            Some(path) => self.file_of(file, path),
            None => Some(file),
        }
    }

    fn file_of_module(&self, root: &str, module: &[String]) -> Option<&str> {
        let path = module.join("/");
        let names = match module {
            [] => [format!("{root}lib.rs"), format!("{root}main.rs")],
            _ => [format!("{root}{path}.rs"), format!("{root}{path}/mod.rs")],
        };
        let found = names.iter().find_map(|name| self.0.get_key_value(name));
        found.map(|(name, _)| name.as_str())
    }

    /// Sets of files of which each knows all others, by way of others or not.
    fn circles(&self) -> Vec<Vec<&str>> {
        let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for arrow in self.arrows() {
            known.entry(arrow.from).or_default().insert(arrow.to);
        }
        let reached_from = |from| {
            let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
            while let Some(file) = next.pop() {
                let new = known.get(file).into_iter().flatten();
                next.extend(new.copied().filter(|file| reached.insert(*file)));
            }
            reached
        };
        let reached: BTreeMap<_, _> = known
            .keys()
            .map(|file| (*file, reached_from(*file)))
            .collect();
        let knows = |from: &str, to: &str| reached.get(from).is_some_and(|all| all.contains(to));
        let mut circles = BTreeSet::new();
        for &file in reached.keys().filter(|file| knows(file, file)) {
            let all = reached.keys().copied();
            let circle = all.filter(|other| knows(file, other) && knows(other, file));
            circles.insert(circle.collect::<Vec<_>>());
        }
        circles.into_iter().collect()
    }
}

/// What there is in a source file, but for what is there in tests alone.
#[derive(Default)]
struct Source {
    /// Every path that is named, with `use` trees spread out.
    paths: Vec<Vec<String>>,
    /// What paths begin with, also those of a single name.
    names: BTreeSet<String>,
    /// The names of macros that are called.
    macros: Vec<String>,
    /// What is handed on with `pub use`, by its name here.
    handed_on: BTreeMap<String, Vec<String>>,
    has_unsafe: bool,
    forbids_unsafe: bool,
}

impl Source {
    fn new(text: &str) -> Self {
        let file = syn::parse_file(text).unwrap();
        let mut source = Self::default();
        source.visit_file(&file);
        let mut attributes = file.attrs.iter().map(as_words);
        source.forbids_unsafe = attributes.any(|words| words == "forbid (unsafe_code)");
        source
    }

    /// `names` is the path down to the tree.
    fn use_tree(&mut self, tree: &UseTree, mut names: Vec<String>, is_handed_on: bool) {
        let (last, name) = match tree {
            UseTree::Path(path) => {
                names.push(path.ident.to_string());
                return self.use_tree(&path.tree, names, is_handed_on);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, names.clone(), is_handed_on);
                }
                return;
            }
            UseTree::Name(last) => (last.ident.to_string(), last.ident.to_string()),
            UseTree::Rename(last) => (last.ident.to_string(), last.rename.to_string()),
            UseTree::Glob(_) => ("*".to_owned(), "*".to_owned()),
        };
        if last != "self" {
            names.push(last);
        }
        if is_handed_on {
            self.handed_on.insert(name, names);
        } else {
            self.paths.push(names);
        }
    }
}

/// Without its `#[...]`, words apart.
fn as_words(attribute: &Attribute) -> String {
    match &attribute.meta {
        syn::Meta::List(list) => {
            let name = list.path.get_ident().map(ToString::to_string);
            format!("{} ({})", name.unwrap_or_default(), list.tokens)
        }
        _ => String::new(),
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

impl<'a> Visit<'a> for Source {
    fn visit_item(&mut self, item: &'a Item) {
        if !attributes(item)
            .iter()
            .any(|one| as_words(one) == "cfg (test)")
        {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        let is_handed_on = !matches!(item.vis, Visibility::Inherited);
        self.use_tree(&item.tree, Vec::new(), is_handed_on);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names = path.segments.iter();
        let names: Vec<_> = names.map(|segment| segment.ident.to_string()).collect();
        self.names.insert(names[0].clone());
        // One name alone is a variable, or what an import has named.
        if names.len() > 1 {
            self.paths.push(names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'a Macro) {
        if let Some(name) = call.path.segments.last() {
            self.macros.push(name.ident.to_string());
        }
        // What is in it is read by the macro alone: names with `::` between them are paths.
        let tokens = call.tokens.to_string();
        let words = tokens.split(|c: char| !(c.is_alphanumeric() || "_: ".contains(c)));
        for words in words.filter(|words| words.contains("::")) {
            let words = words.replace(" :: ", "::");
            let paths = words.split_whitespace().filter(|word| word.contains("::"));
            self.paths
                .extend(paths.map(|path| path.split("::").map(str::to_owned).collect()));
        }
        visit::visit_macro(self, call);
    }

    fn visit_expr_unsafe(&mut self, block: &'a syn::ExprUnsafe) {
        self.has_unsafe = true;
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_signature(&mut self, signature: &'a syn::Signature) {
        self.has_unsafe |= matches!(signature.safety, Safety::Unsafe(_));
        visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        self.has_unsafe |= item.unsafety.is_some();
        visit::visit_item_impl(self, item);
    }
}
