//! ip6tables-legacy(8): tables of the kernel that nftables do not show.

use std::{fs, io};

use super::program::run;

/// The tables of this network namespace, a line each; only root may read it.
const TABLES: &str = "/proc/net/ip6_tables_names";
/// The modules of the kernel.
const MODULES: &str = "/proc/modules";

/// The rules of the table filter, as `ip6tables-legacy -S` prints them; `None`, if there is no such
/// table.
pub(crate) fn list() -> io::Result<Option<String>> {
    let is_there = match fs::read_to_string(TABLES) {
        Ok(tables) => tables.lines().any(|table| table == "filter"),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let modules = fs::read_to_string(MODULES).unwrap_or_default();
            let is_filter = |line: &str| line.starts_with("ip6table_filter ");
            modules.lines().any(is_filter)
        }
        Err(_) => false,
    };
    // Would make the table, if it was not there.
    is_there.then(rules).transpose()
}

/// Needs no lock to read, which only root could take, and others may hold for long.
fn rules() -> io::Result<String> {
    let arguments = ["XTABLES_LOCKFILE=/dev/null", "ip6tables-legacy", "-S"];
    run("env", &arguments, "")
}
