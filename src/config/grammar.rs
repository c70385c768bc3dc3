//! The grammar of every text that is read: lines of words, and where each word is.
//!
//! Words stand apart by blanks: spaces, tabs and carriage returns. The remaining input of a nom
//! parser is always a part of the line, and so is the word that it refuses: that gives the column.

use std::borrow::Cow;

use nom::{
    Finish, IResult, Offset, Parser,
    branch::alt,
    bytes::complete::{tag, take_till, take_while},
    combinator::rest,
    error::{ErrorKind, ParseError},
    sequence::preceded,
};

use super::{LineError, Problem};

/// The thing that should be in the place of a word, as it reads after "expected".
pub(crate) type Expected = Cow<'static, str>;

/// Says what a word means, or what is expected in its place.
pub(crate) type Reader<T> = fn(&[u8]) -> Result<T, Expected>;

/// The outcome of a parser.
pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T, Wrong<'a>>;

/// The first mistake of a line.
#[derive(Debug)]
pub(crate) struct Wrong<'a> {
    /// The part of the line that is refused.
    found: &'a [u8],
    expected: Expected,
}

impl<'a> ParseError<&'a [u8]> for Wrong<'a> {
    fn from_error_kind(found: &'a [u8], _: ErrorKind) -> Self {
        let expected = "something else".into();
        Self { found, expected }
    }

    fn append(_: &'a [u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// A line of a text, without the blanks at its end.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    /// From 1.
    pub(crate) number: usize,
    pub(crate) text: &'a [u8],
}

/// Every line of a text, blank ones too.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let lines = text.split(|&octet| octet == b'\n').enumerate();
    lines.map(|(index, text)| Line::new(index + 1, text))
}

impl<'a> Line<'a> {
    /// The end of the line is the column after its last word; blanks after it do not count.
    pub(crate) fn new(number: usize, text: &'a [u8]) -> Self {
        let last = text.iter().rposition(|&octet| !is_blank(octet));
        let text = &text[..last.map_or(0, |last| last + 1)];
        Self { number, text }
    }

    /// Whether no word is in it.
    pub(crate) fn is_blank(&self) -> bool {
        self.text.is_empty()
    }

    /// Runs a parser on `input`, a part of this line.
    pub(crate) fn parse<T>(
        self,
        input: &'a [u8],
        mut parser: impl Parser<&'a [u8], Output = T, Error = Wrong<'a>>,
    ) -> Result<T, LineError> {
        let parsed = parser.parse(input).finish();
        let (_, value) = parsed.map_err(|wrong| self.word(wrong.found).refuse(wrong.expected))?;
        Ok(value)
    }

    /// A part of this line, as a word.
    pub(crate) fn word(self, text: &'a [u8]) -> Word<'a> {
        Word { line: self, text }
    }
}

/// A word of a text, and where it is.
#[derive(Clone, Copy)]
pub(crate) struct Word<'a> {
    pub(crate) line: Line<'a>,
    /// Empty at the end of the line.
    pub(crate) text: &'a [u8],
}

impl Word<'_> {
    /// Something else is expected here.
    pub(crate) fn refuse(self, expected: impl Into<Expected>) -> LineError {
        self.error(Problem::Expected {
            expected: expected.into(),
            found: self.found(),
        })
    }

    /// This is the name of no directive; it may have been meant to be `similar`.
    pub(crate) fn unknown_directive(self, similar: Option<&'static str>) -> LineError {
        let found = self.found();
        self.error(Problem::UnknownDirective { found, similar })
    }

    /// `what` is also in an earlier line.
    pub(crate) fn repeats(self, what: impl Into<Cow<'static, str>>, line: usize) -> LineError {
        let what = what.into();
        self.error(Problem::Repeats { what, line })
    }

    fn error(self, problem: Problem) -> LineError {
        LineError {
            line: self.line.number,
            column: self.line.text.offset(self.text) + 1,
            problem,
        }
    }

    /// The word as it reads after "found".
    fn found(self) -> String {
        match self.text {
            [] => "end of line".to_owned(),
            [b'#', ..] => "a comment".to_owned(),
            word => quoted(word),
        }
    }
}

/// A word in quotes: nothing in it can move the cursor of a terminal, or fill its screen.
pub(crate) fn quoted(word: &[u8]) -> String {
    const MAX_OCTETS: usize = 60;
    let shown = &word[..word.len().min(MAX_OCTETS)];
    let more = if shown.len() < word.len() { "..." } else { "" };
    let shown = String::from_utf8_lossy(shown);
    format!("\"{}{more}\"", shown.escape_debug())
}

/// One word; empty at the end of the line.
pub(crate) fn word(input: &[u8]) -> Parsed<'_, &[u8]> {
    preceded(take_while(is_blank), take_till(is_blank)).parse(input)
}

/// One word that `read` has a value for, and the word itself. A comment is read as the empty word,
/// which stands for a word that is not there.
pub(crate) fn located<'a, T>(
    read: impl Fn(&'a [u8]) -> Result<T, Expected>,
) -> impl Parser<&'a [u8], Output = (&'a [u8], T), Error = Wrong<'a>> {
    move |input| {
        let (rest, found) = word(input)?;
        let word = if found.starts_with(b"#") { &[] } else { found };
        match read(word) {
            Ok(value) => Ok((rest, (found, value))),
            Err(expected) => Err(wrong(found, expected)),
        }
    }
}

/// The value of one word.
pub(crate) fn value<'a, T>(
    read: impl Fn(&'a [u8]) -> Result<T, Expected>,
) -> impl Parser<&'a [u8], Output = T, Error = Wrong<'a>> {
    located(read).map(|(_, value)| value)
}

/// The end of the line.
pub(crate) fn end(input: &[u8]) -> Parsed<'_, ()> {
    match word(input)? {
        (rest, []) => Ok((rest, ())),
        (_, found) => Err(wrong(found, "end of line")),
    }
}

/// The end of the line, or a comment, which a `#` at the start of a word begins.
pub(crate) fn end_or_comment(input: &[u8]) -> Parsed<'_, ()> {
    let comment = (take_while(is_blank), tag("#"), rest).map(|_| ());
    alt((comment, end)).parse(input)
}

/// `key = value`: the key, and all that follows the sign, which may be several words or none.
pub(crate) fn key_and_value(input: &[u8]) -> Parsed<'_, (&[u8], &[u8])> {
    let (after_key, key) = take_till(|octet| octet == b'=').parse(input)?;
    let Some((_, after_sign)) = after_key.split_first() else {
        return Err(wrong(input, "key=value"));
    };
    let (value, _) = take_while(is_blank).parse(after_sign)?;
    Ok((&[], (Line::new(0, key).text, value)))
}

fn wrong(found: &[u8], expected: impl Into<Expected>) -> nom::Err<Wrong<'_>> {
    let expected = expected.into();
    nom::Err::Error(Wrong { found, expected })
}

fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}
