//! Settings of the kernel, below /proc/sys (sysctl(8)).

use std::{fs, io, path::PathBuf};

/// Whether there is such a setting.
pub(crate) fn exists(path: &str) -> bool {
    full(path).exists()
}

pub(crate) fn read(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(full(path))?.trim().to_owned())
}

pub(crate) fn write(path: &str, value: &str) -> io::Result<()> {
    fs::write(full(path), value)
}

/// The settings, or groups of settings, in a group.
pub(crate) fn names(path: &str) -> io::Result<Vec<String>> {
    fs::read_dir(full(path))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn full(path: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(path)
}
