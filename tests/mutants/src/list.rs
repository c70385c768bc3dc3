//! The list of mutants, as cargo-mutants prints it.

use std::error::Error;

use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Genre {
    Function,
    Binary,
    Unary,
    Arm,
    Guard,
    Field,
}

#[derive(Debug)]
pub(crate) struct Mutant {
    /// From 1.
    pub(crate) number: usize,
    pub(crate) file: String,
    pub(crate) genre: Genre,
    /// Line and column, from 1.
    pub(crate) place: (usize, usize),
    pub(crate) replacement: String,
    pub(crate) name: String,
    /// Whether it is a function whose result is only known by what it can do: there may be but one
    /// type of it.
    pub(crate) returns_impl: bool,
}

/// Reads what `cargo mutants --list --json` prints.
pub(crate) fn read(text: &str) -> Result<Vec<Mutant>, Box<dyn Error>> {
    let list: Vec<Value> = serde_json::from_str(text)?;
    let mutants = list
        .iter()
        .enumerate()
        .map(|(index, one)| mutant(index + 1, one));
    mutants
        .collect::<Option<_>>()
        .ok_or_else(|| "a list of another version".into())
}

fn mutant(number: usize, one: &Value) -> Option<Mutant> {
    let text = |key: &str| one[key].as_str().map(str::to_owned);
    let genre = match one["genre"].as_str()? {
        "FnValue" => Genre::Function,
        "BinaryOperator" => Genre::Binary,
        "UnaryOperator" => Genre::Unary,
        "MatchArm" => Genre::Arm,
        "MatchArmGuard" => Genre::Guard,
        "StructField" => Genre::Field,
        _ => return None,
    };
    let start = &one["span"]["start"];
    let place = |key: &str| usize::try_from(start[key].as_u64()?).ok();
    Some(Mutant {
        number,
        file: text("file")?,
        genre,
        place: (place("line")?, place("column")?),
        replacement: text("replacement")?,
        name: text("name")?,
        returns_impl: one["function"]["return_type"]
            .as_str()
            .is_some_and(|it| it.contains("impl ")),
    })
}
