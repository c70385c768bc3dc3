//! Trying mutants: each with the tests that reach it, the shortest first.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{Done, list::Mutant};

/// A test in a program.
struct Test<'a> {
    program: &'a str,
    name: String,
    took: Duration,
}

/// What became of a mutant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Caught,
    TimedOut,
    Missed,
    /// No test reaches it.
    NotReached,
}

impl Fate {
    /// The name of its file.
    fn name(self) -> &'static str {
        match self {
            Self::Caught => "caught",
            Self::TimedOut => "timeout",
            Self::Missed => "missed",
            Self::NotReached => "not-reached",
        }
    }
}

/// Longest time for tests that took `usual` without a mutant.
fn patience(usual: Duration) -> Duration {
    Duration::from_secs(5) + usual * 10
}

/// Tries all of them, and writes a file a fate, as cargo-mutants does.
pub(crate) fn all(mutants: &[Mutant], results: &Path, programs: &[&str]) -> Done {
    fs::create_dir_all(results)?;
    let mut tests = Vec::new();
    let mut reaching = BTreeMap::<usize, Vec<usize>>::new();
    for program in programs {
        for name in names(program)? {
            let (took, reached) = reach(program, &name, results)?;
            for number in reached {
                reaching.entry(number).or_default().push(tests.len());
            }
            tests.push(Test {
                program,
                name,
                took,
            });
        }
    }
    println!("{} tests", tests.len());
    let next = AtomicUsize::new(0);
    let fates = Mutex::new(BTreeMap::<&str, String>::new());
    let work = || -> Done {
        while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut those: Vec<&Test> = reaching
                .get(&mutant.number)
                .map_or(vec![], |list| list.iter().map(|at| &tests[*at]).collect());
            those.sort_by_key(|test| test.took);
            let kind = fate(mutant.number, &those)?.name();
            let mut fates = fates.lock().expect("no thread panics");
            *fates.entry(kind).or_default() += &format!("{}\n", mutant.name);
            fs::write(results.join(kind).with_extension("txt"), &fates[kind])?;
        }
        Ok(())
    };
    // One on each processor: tests of one mutant know nothing of those of another.
    let failed = thread::scope(|scope| {
        let count = thread::available_parallelism().map_or(1, Into::into);
        let threads: Vec<_> = (0..count)
            .map(|_| scope.spawn(|| work().err().map(|error| error.to_string())))
            .collect();
        let ends = threads.into_iter().map(|one| one.join().expect("no panic"));
        ends.collect::<Vec<_>>().into_iter().flatten().next()
    });
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// The names of the tests in a program.
fn names(program: &str) -> Done<Vec<String>> {
    let output = Command::new(program)
        .args(["--list", "--format", "terse"])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

/// Runs a test without a mutant: the time that it takes, and the mutants that it reaches.
fn reach(program: &str, name: &str, results: &Path) -> Done<(Duration, Vec<usize>)> {
    let log = results.join("reached");
    let _ = fs::remove_file(&log);
    let start = Instant::now();
    let status = Command::new(program)
        .args(["--exact", name, "--quiet"])
        .env("MUTANTS_REACHED", &log)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("{name} fails without a mutant").into());
    }
    let numbers = fs::read_to_string(&log).unwrap_or_default();
    Ok((
        start.elapsed(),
        numbers.lines().flat_map(str::parse).collect(),
    ))
}

fn fate(number: usize, tests: &[&Test]) -> Done<Fate> {
    if tests.is_empty() {
        return Ok(Fate::NotReached);
    }
    let mut rest = tests;
    let mut count = 4;
    while !rest.is_empty() {
        let (some, others) = rest.split_at(count.min(rest.len()));
        let mut programs: Vec<&str> = some.iter().map(|test| test.program).collect();
        programs.sort();
        programs.dedup();
        for program in programs {
            let these: Vec<_> = some.iter().filter(|test| test.program == program).collect();
            match outcome(number, program, &these)? {
                Fate::Missed => {}
                fate => return Ok(fate),
            }
        }
        (rest, count) = (others, count * 4);
    }
    Ok(Fate::Missed)
}

fn outcome(number: usize, program: &str, tests: &[&&Test]) -> Done<Fate> {
    let mut child = Command::new(program)
        .args(["--exact", "--quiet"])
        .args(tests.iter().map(|test| &test.name))
        .env("MUTANT", number.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + patience(tests.iter().map(|test| test.took).sum());
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() {
                Fate::Missed
            } else {
                Fate::Caught
            });
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(Fate::TimedOut);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
