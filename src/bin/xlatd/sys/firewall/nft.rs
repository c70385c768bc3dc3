//! Tables of nftables, changed by nft(8).

use std::io;

use xlatd::plan::Table;

use super::program::run;

/// The program nft.
#[derive(Debug)]
pub(crate) struct Nft {
    /// Its name or path.
    pub(crate) program: String,
}

impl Nft {
    /// Puts a table in the place of one of the same name.
    pub(crate) fn load(&self, name: &Table, text: &str) -> io::Result<()> {
        self.run(&["-f", "-"], &in_place(name, text)).map(drop)
    }

    /// Whether it could be put there: by this kernel, and with our privileges.
    pub(crate) fn check(&self, name: &Table, text: &str) -> io::Result<()> {
        self.run(&["--check", "-f", "-"], &in_place(name, text))
            .map(drop)
    }

    /// Takes a table away, if it is there.
    pub(crate) fn delete(&self, name: &Table) -> io::Result<()> {
        let script = format!("table {name}\ndelete table {name}\n");
        self.run(&["-f", "-"], &script).map(drop)
    }

    fn run(&self, arguments: &[&str], input: &str) -> io::Result<String> {
        run(&self.program, arguments, input)
    }
}

/// One transaction: there is no moment without the table.
fn in_place(name: &Table, text: &str) -> String {
    format!("table {name}\ndelete table {name}\ntable {name} {{\n{text}}}\n")
}
