//! Messages about a configuration: mistakes, and notices about what is accepted.

use std::{borrow::Cow, fmt, path::Path};

/// Why a line of the configuration is refused.
///
/// As text it is `7:8: expected an IPv6 prefix, found "64:ff9b:/96"`: line, column, and the
/// mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// From 1; 0 if the mistake is in no line, as with a directive that is not there.
    pub line: usize,
    /// Start of the wrong word in the line: in octets from 1, as editors count in ASCII text. 0 if
    /// `line` is.
    pub column: usize,
    /// The mistake.
    pub problem: Problem,
}

impl LineError {
    /// As text after the name of the file: `tayga.conf:7:8: expected ...`.
    pub fn in_file(&self, path: &Path) -> impl fmt::Display {
        let separator = if self.line == 0 { ": " } else { ":" };
        fmt::from_fn(move |f| write!(f, "{}{separator}{self}", path.display()))
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line != 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for LineError {}

/// A mistake in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// One thing should be there, and another is.
    Expected {
        /// As it reads after "expected".
        expected: Cow<'static, str>,
        /// As it reads after "found": the word in quotes, made printable and cut to a sane length;
        /// or `end of line`, `a comment`, `none`.
        found: String,
    },
    /// The first word is the name of no directive.
    UnknownDirective {
        /// As in [`Problem::Expected`].
        found: String,
        /// The directive that is spelt almost like it.
        similar: Option<&'static str>,
    },
    /// It was said before.
    Repeats {
        /// The name of the directive, or the mapping.
        what: Cow<'static, str>,
        /// The line that had it first.
        line: usize,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expected { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::UnknownDirective { found, similar } => {
                write!(f, "expected a directive, found {found}")?;
                match similar {
                    Some(name) => write!(f, " (did you mean {name}?)"),
                    None => Ok(()),
                }
            }
            Self::Repeats { what, line } => write!(f, "{what} repeats line {line}"),
        }
    }
}

/// Something about a text that is accepted, but that its author should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// From 1; 0 if it is about the text as a whole.
    pub line: usize,
    /// Its importance.
    pub level: Level,
    /// As a sentence without its end.
    pub text: Cow<'static, str>,
}

impl Notice {
    /// A notice about a line that does not do what it seems to say.
    pub(crate) fn warning(line: usize, text: impl Into<Cow<'static, str>>) -> Self {
        let (level, text) = (Level::Warning, text.into());
        Self { line, level, text }
    }

    /// A notice about a line that nothing is wrong with.
    pub(crate) fn info(line: usize, text: impl Into<Cow<'static, str>>) -> Self {
        let (level, text) = (Level::Info, text.into());
        Self { line, level, text }
    }

    /// As text after the name of the file: `tayga.conf:7: strict-frag-hdr is ignored`.
    pub fn in_file(&self, path: &Path) -> impl fmt::Display {
        let separator = if self.line == 0 { ": " } else { ":" };
        fmt::from_fn(move |f| write!(f, "{}{separator}{self}", path.display()))
    }
}

impl fmt::Display for Notice {
    /// `7: strict-frag-hdr is ignored`, without the level.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line != 0 {
            write!(f, "{}: ", self.line)?;
        }
        f.write_str(&self.text)
    }
}

/// The importance of a [`Notice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The line does not do what it seems to say, or is likely a mistake.
    Warning,
    /// Nothing is wrong.
    Info,
}
