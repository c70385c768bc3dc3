//! Tries many mutants with one build: a program with all of them in it, of which a variable of the
//! environment chooses one, and which says which tests reach it.
//!
//!   mutants-together instrument LIST TREE LEFT_OUT   puts the mutants of LIST, but for those whose
//!                                                    numbers LEFT_OUT has, into src/ of TREE
//!   mutants-together blame LIST TREE LEFT_OUT        reads the messages of cargo from stdin, and
//!                                                    adds those that do not compile to LEFT_OUT
//!   mutants-together alone LIST LEFT_OUT             prints the names of those that were left out,
//!                                                    and might compile without the others
//!   mutants-together try LIST LEFT_OUT RESULTS PROGRAM...    tries them with the tests in PROGRAM
//!
//! LEFT_OUT has lines of a number and a reason: the code of an error, or `no-place`. LIST is what
//! `cargo mutants --list --json` prints. TREE/src.orig has the files as they were.

mod list;
mod source;
mod trial;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    fs,
    io::{self, BufRead},
    ops::Range,
    path::Path,
    process::ExitCode,
};

use list::Mutant;
use serde_json::Value;

type Done<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["instrument", list, tree, left_out] => instrument(list, tree, left_out),
        ["blame", list, tree, left_out] => blame(list, tree, left_out),
        ["alone", list, left_out] => alone(list, left_out),
        ["try", list, left_out, results, ref programs @ ..] => read(list, left_out)
            .and_then(|mutants| trial::all(&mutants, Path::new(results), programs)),
        _ => Err("see the head of tests/mutants/src/main.rs".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mutants-together: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The mutants that are left out, and the reasons.
fn left_out(path: &str) -> BTreeMap<usize, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| {
        let (number, reason) = line.split_once(' ')?;
        Some((number.parse().ok()?, reason.to_owned()))
    });
    pairs.collect()
}

/// Adds to those that are left out.
fn leave_out(path: &str, more: &BTreeMap<usize, String>) -> Done {
    let mut all = left_out(path);
    all.extend(more.clone());
    let lines = all
        .iter()
        .map(|(number, reason)| format!("{number} {reason}\n"));
    Ok(fs::write(path, lines.collect::<String>())?)
}

/// The mutants of a list, without those that are left out.
fn read(list: &str, left: &str) -> Done<Vec<Mutant>> {
    let left_out = left_out(left);
    let mut mutants = list::read(&fs::read_to_string(list)?)?;
    mutants.retain(|mutant| !left_out.contains_key(&mutant.number));
    Ok(mutants)
}

/// Errors in the text of a mutant itself: it has no such type, trait or method, alone as well.
const OWN_ERRORS: &[&str] = &[
    "E0277", "E0308", "E0369", "E0433", "E0600", "E0605", "E0614",
];

fn alone(list: &str, left: &str) -> Done {
    let reasons = left_out(left);
    for mutant in list::read(&fs::read_to_string(list)?)? {
        let Some(reason) = reasons.get(&mutant.number) else {
            continue;
        };
        if mutant.returns_impl || !OWN_ERRORS.contains(&reason.as_str()) {
            println!("{}", mutant.name);
        }
    }
    Ok(())
}

/// Every file of a list with its mutants in it.
fn files(list: &str, tree: &str, left_out: &str) -> Done<BTreeMap<String, source::Instrumented>> {
    let mutants = read(list, left_out)?;
    let mut by_file = BTreeMap::<_, Vec<&Mutant>>::new();
    for mutant in &mutants {
        by_file.entry(mutant.file.clone()).or_default().push(mutant);
    }
    let made = by_file.into_iter().map(|(file, mutants)| {
        let original = file.replacen("src/", "src.orig/", 1);
        let text = fs::read_to_string(Path::new(tree).join(original))?;
        let made = source::instrument(&text, &mutants).ok_or("no Rust")?;
        Ok((file, made))
    });
    made.collect()
}

fn instrument(list: &str, tree: &str, left: &str) -> Done {
    let mut placed = BTreeSet::new();
    for (file, made) in files(list, tree, left)? {
        fs::write(Path::new(tree).join(file), &made.text)?;
        placed.extend(made.placed);
    }
    let root = fs::read_to_string(Path::new(tree).join("src.orig/lib.rs"))?;
    let switch = include_str!("switch.rs").replace("MUTANT_COUNT", &MAX.to_string());
    fs::write(Path::new(tree).join("src/lib.rs"), root + &switch)?;
    let numbers = read(list, left)?.into_iter().map(|mutant| mutant.number);
    let rest = numbers.filter(|number| !placed.contains(number));
    leave_out(
        left,
        &rest.map(|number| (number, "no-place".to_owned())).collect(),
    )?;
    println!("{} mutants", placed.len());
    Ok(())
}

/// Largest number of a mutant.
const MAX: usize = 20_000;

fn blame(list: &str, tree: &str, left: &str) -> Done {
    let files = files(list, tree, left)?;
    let mut blamed = BTreeMap::new();
    let mut not_found = Vec::new();
    for line in io::stdin().lock().lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else {
            continue;
        };
        let message = &message["message"];
        if message["level"] != "error" {
            continue;
        }
        let spans = message["spans"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let found = blamed_by(spans, &files);
        if found.is_empty() && !spans.is_empty() {
            not_found.push(message["rendered"].as_str().unwrap_or_default().to_owned());
        }
        let code = message["code"]["code"].as_str().unwrap_or("no-code");
        blamed.extend(found.into_iter().map(|number| (number, code.to_owned())));
    }
    println!("{} do not compile", blamed.len());
    if blamed.is_empty() {
        return Err(format!("errors of no mutant:\n{}", not_found.concat()).into());
    }
    leave_out(left, &blamed)
}

/// The mutants in the smallest places that an error names: the primary one first.
fn blamed_by(spans: &[Value], files: &BTreeMap<String, source::Instrumented>) -> Vec<usize> {
    let mut spans: Vec<_> = spans.iter().collect();
    spans.sort_by_key(|span| span["is_primary"] != true);
    for span in spans {
        let Some(made) = span["file_name"].as_str().and_then(|name| files.get(name)) else {
            continue;
        };
        let octet = |key: &str| span[key].as_u64().map_or(0, |at| at as usize);
        let at = octet("byte_start")..octet("byte_end");
        let around = |place: &Range<usize>| place.start <= at.start && at.end <= place.end;
        let places = made.places.iter().filter(|(place, _)| around(place));
        let Some(smallest) = places.clone().map(|(place, _)| place.len()).min() else {
            continue;
        };
        let smallest = places.filter(|(place, _)| place.len() == smallest);
        return smallest.map(|(_, number)| *number).collect();
    }
    Vec::new()
}
