//! iptables-legacy(8) and ip6tables-legacy(8): tables of the kernel that nftables do not show.

use std::{fs, io};

use xlatd::plan::firewall::IpVersion;

use super::program::run;

/// The modules of the kernel.
const MODULES: &str = "/proc/modules";

/// The rules of a table, `filter` or `nat`, as `iptables-legacy -S` prints them; `None`, if there
/// is no such table.
pub(crate) fn list(version: IpVersion, table: &str) -> io::Result<Option<String>> {
    let (program, tables, prefix) = match version {
        IpVersion::V4 => ("iptables-legacy", "/proc/net/ip_tables_names", "iptable_"),
        IpVersion::V6 => (
            "ip6tables-legacy",
            "/proc/net/ip6_tables_names",
            "ip6table_",
        ),
    };
    // The tables of this network namespace, a line each; only root may read it.
    let is_there = match fs::read_to_string(tables) {
        Ok(tables) => tables.lines().any(|line| line == table),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let modules = fs::read_to_string(MODULES).unwrap_or_default();
            let module = format!("{prefix}{table} ");
            modules.lines().any(|line| line.starts_with(&module))
        }
        Err(_) => false,
    };
    // Would make the table, if it was not there.
    is_there.then(|| rules(program, table)).transpose()
}

/// Needs no lock to read, which only root could take, and others may hold for long.
fn rules(program: &str, table: &str) -> io::Result<String> {
    let arguments = ["XTABLES_LOCKFILE=/dev/null", program, "-t", table, "-S"];
    run("env", &arguments, "")
}
