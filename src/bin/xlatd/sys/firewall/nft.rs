//! Tables of nftables, changed by nft(8).

use std::io;

use super::program::run;

/// The program nft.
#[derive(Debug)]
pub(crate) struct Nft {
    /// Its name or path.
    pub(crate) program: String,
}

impl Nft {
    /// Puts a table of family inet in the place of one of the same name.
    pub(crate) fn load(&self, name: &str, text: &str) -> io::Result<()> {
        self.run(&["-f", "-"], &in_place(name, text)).map(drop)
    }

    /// Whether it could be put there: by this kernel, and with our privileges.
    pub(crate) fn check(&self, name: &str, text: &str) -> io::Result<()> {
        self.run(&["--check", "-f", "-"], &in_place(name, text))
            .map(drop)
    }

    /// Takes a table away, if it is there.
    pub(crate) fn delete(&self, name: &str) -> io::Result<()> {
        let script = format!("table inet {name}\ndelete table inet {name}\n");
        self.run(&["-f", "-"], &script).map(drop)
    }

    /// Every chain, with what it is for.
    pub(crate) fn chains(&self) -> io::Result<String> {
        self.run(&["list", "chains"], "")
    }

    fn run(&self, arguments: &[&str], input: &str) -> io::Result<String> {
        run(&self.program, arguments, input)
    }
}

/// One transaction: there is no moment without the table.
fn in_place(name: &str, text: &str) -> String {
    format!("table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n{text}}}\n")
}
