//! What was found, for people and as data.

use std::fmt::{self, Write};

use serde::Serialize;

/// The columns of a terminal that text is written for.
const COLUMNS: usize = 78;

/// Something that keeps packets from passing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The key of the check: a word that does not change.
    pub key: &'static str,
    /// What is wrong, and what follows from it, in words.
    pub problem: String,
    /// What mends it, in this order; empty where no command does.
    pub commands: Vec<String>,
}

impl Finding {
    /// A finding of the check with this key.
    pub fn new(key: &'static str, problem: String, commands: Vec<String>) -> Self {
        Self {
            key,
            problem,
            commands,
        }
    }
}

/// A check: what is looked at, and what is found in the facts.
#[derive(Clone, Copy, Debug)]
pub struct Check<F> {
    /// What its findings are known by.
    pub key: &'static str,
    /// What it looks at, in words.
    pub subject: &'static str,
    /// The findings.
    pub find: fn(&F) -> Vec<Finding>,
}

/// All that was found about one translator or CLAT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Its TUN device.
    pub device: String,
    /// The path of its configuration; `None`: it has none.
    pub config: Option<String>,
    /// The most important comes first.
    pub findings: Vec<Finding>,
    /// What is no problem of this host, and good to know.
    pub notes: Vec<Finding>,
    /// What was looked at.
    pub checked: Vec<&'static str>,
    /// What could not be looked at, with the reason.
    pub unseen: Vec<String>,
}

impl Diagnosis {
    /// Makes all the checks.
    pub fn of<F>(facts: &F, checks: &[Check<F>]) -> Self {
        Self {
            findings: checks
                .iter()
                .flat_map(|check| (check.find)(facts))
                .collect(),
            checked: checks.iter().map(|check| check.subject).collect(),
            ..Self::default()
        }
    }

    /// The exit status that says it: 1 if something was found, 2 if nothing was, but not all could
    /// be looked at, and else 0.
    pub fn status(&self) -> u8 {
        match (&self.findings[..], &self.unseen[..]) {
            ([], []) => 0,
            ([], _) => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for Diagnosis {
    /// A paragraph for each finding, with the commands below it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.device)?;
        match &self.config {
            Some(config) => writeln!(f, ", configured by {config}")?,
            None => writeln!(f, ", without a configuration")?,
        }
        for Finding {
            key,
            problem,
            commands,
        } in &self.findings
        {
            f.write_char('\n')?;
            paragraph(f, &format!("{key}: {problem}"))?;
            write_commands(f, commands)?;
        }
        if self.findings.is_empty() {
            f.write_char('\n')?;
            let checked = self.checked.join(", ");
            paragraph(f, &format!("Nothing found. Looked at: {checked}."))?;
        }
        for Finding {
            problem, commands, ..
        } in &self.notes
        {
            f.write_char('\n')?;
            paragraph(f, &format!("Note: {problem}"))?;
            write_commands(f, commands)?;
        }
        for unseen in &self.unseen {
            f.write_char('\n')?;
            paragraph(f, &format!("Not looked at: {unseen}"))?;
        }
        Ok(())
    }
}

/// Writes a line for each command, as it is to be entered.
fn write_commands(f: &mut fmt::Formatter<'_>, commands: &[String]) -> fmt::Result {
    commands
        .iter()
        .try_for_each(|command| writeln!(f, "    {command}"))
}

/// Writes words in lines.
fn paragraph(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut column = 0;
    for word in text.split(' ') {
        let len = word.chars().count();
        if column > 0 && column + 1 + len > COLUMNS {
            f.write_char('\n')?;
            column = 0;
        } else if column > 0 {
            f.write_char(' ')?;
            column += 1;
        }
        f.write_str(word)?;
        column += len;
    }
    f.write_char('\n')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    struct Number(u8);

    const CHECKS: &[Check<Number>] = &[
        Check {
            key: "odd",
            subject: "whether it is even",
            find: |facts| {
                let finding = Finding::new("odd", "it is odd".to_owned(), vec!["add 1".to_owned()]);
                (facts.0 % 2 == 1).then_some(finding).into_iter().collect()
            },
        },
        Check {
            key: "large",
            subject: "its size",
            find: |facts| {
                let finding = Finding::new("large", "it is large".to_owned(), Vec::new());
                (facts.0 > 9).then_some(finding).into_iter().collect()
            },
        },
    ];

    fn diagnosis(number: u8) -> Diagnosis {
        let mut diagnosis = Diagnosis::of(&Number(number), CHECKS);
        diagnosis.device = "nat64".to_owned();
        diagnosis.config = Some("/etc/tayga.conf".to_owned());
        diagnosis
    }

    /// In the order of the checks, with what to type as it is to be typed.
    #[test]
    fn findings_are_in_the_order_of_the_checks() {
        let text = "nat64, configured by /etc/tayga.conf\n\nodd: it is odd\n    add 1\n\n\
                    large: it is large\n";
        assert_eq!(diagnosis(11).to_string(), text);
        let json = serde_json::to_value(diagnosis(11)).unwrap();
        assert_eq!(json["findings"][0]["key"], "odd");
        assert_eq!(json["findings"][0]["commands"][0], "add 1");
    }

    #[test]
    fn nothing_found_says_what_was_looked_at() {
        let text = "nat64, configured by /etc/tayga.conf\n\nNothing found. Looked at: whether it is \
                    even, its size.\n";
        assert_eq!(diagnosis(2).to_string(), text);
    }

    /// Monitoring must not take what was not looked at for good.
    #[test]
    fn the_status_is_0_only_if_all_is_well() {
        assert_eq!(diagnosis(2).status(), 0);
        assert_eq!(diagnosis(3).status(), 1);
        let mut blind = diagnosis(2);
        blind.unseen.push("the firewalls".to_owned());
        assert_eq!(blind.status(), 2);
        let mut both = diagnosis(3);
        both.unseen.push("the firewalls".to_owned());
        assert_eq!(both.status(), 1);
    }

    #[test]
    fn lines_fit_on_a_terminal() {
        let mut long = diagnosis(3);
        long.findings[0].problem = "word ".repeat(40).trim_end().to_owned();
        let text = long.to_string();
        assert!(text.lines().all(|line| line.len() <= COLUMNS), "{text}");
        assert_eq!(text.matches("word").count(), 40);
    }
}
