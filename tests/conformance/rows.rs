//! A row: one requirement, and the function that proves it.

use std::thread;

/// How strongly a requirement is worded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Must,
    Should,
    /// No keyword, but it does not work without.
    Derived,
}

/// One requirement.
pub(crate) struct Row {
    pub(crate) id: &'static str,
    level: Level,
    /// Where it is written.
    source: &'static str,
    proof: Proof,
}

enum Proof {
    /// Passes if the translator does what is required.
    Test(fn()),
    /// Why no packet can show it.
    Reason(&'static str),
}

impl Row {
    pub(crate) const fn test(
        id: &'static str,
        level: Level,
        source: &'static str,
        test: fn(),
    ) -> Self {
        Self {
            id,
            level,
            source,
            proof: Proof::Test(test),
        }
    }

    pub(crate) const fn because(
        id: &'static str,
        level: Level,
        source: &'static str,
        reason: &'static str,
    ) -> Self {
        Self {
            id,
            level,
            source,
            proof: Proof::Reason(reason),
        }
    }

    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self.proof {
            Proof::Reason(reason) => Some(reason),
            Proof::Test(_) => None,
        }
    }
}

/// Runs all rows, so that one failure does not hide the next, then fails with the ids of those that failed. Each runs
/// in a thread with its id for a name, which a panic prints.
pub(crate) fn run(rows: &[Row]) {
    let mut failed = Vec::new();
    for row in rows {
        let Proof::Test(test) = row.proof else {
            continue;
        };
        let thread = thread::Builder::new().name(row.id.to_owned()).spawn(test);
        if thread.unwrap().join().is_err() {
            failed.push(format!("{} ({:?}, {})", row.id, row.level, row.source));
        }
    }
    assert!(failed.is_empty(), "rows that fail: {}", failed.join("; "));
}
