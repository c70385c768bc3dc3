//! Kernel settings below /proc/sys (sysctl(8)).

use std::{fs, io, path::PathBuf};

use nix::{
    errno::Errno,
    libc,
    net::if_::if_indextoname,
    unistd::{AccessFlags, access},
};

/// The path of a device's setting, such as `net/ipv6/conf/eth0/forwarding`, with the current name
/// of the device. Fails if the device does not exist any more.
pub(crate) fn path_by_index(path: &str, index: u32) -> io::Result<String> {
    let name = if_indextoname(libc::c_uint::from(index))?;
    let mut parts: Vec<_> = path.split('/').collect();
    let name = name.to_string_lossy();
    if let [.., device, _] = &mut parts[..] {
        *device = &name;
    }
    Ok(parts.join("/"))
}

/// Whether the setting exists.
pub(crate) fn exists(path: &str) -> bool {
    full(path).exists()
}

/// Whether the setting exists and is 1.
pub(crate) fn is_on(path: &str) -> bool {
    read(path).is_ok_and(|value| value == "1")
}

/// Whether the setting is 1, or cannot be known, as without /proc/sys.
pub(crate) fn may_be_on(path: &str) -> bool {
    is_on(path) || !exists("net")
}

pub(crate) fn read(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(full(path))?.trim().to_owned())
}

pub(crate) fn write(path: &str, value: &str) -> io::Result<()> {
    fs::write(full(path), value)
}

/// Whether no setting can be changed, as in a container.
pub(crate) fn is_read_only(path: &str) -> bool {
    access(&full(path), AccessFlags::W_OK) == Err(Errno::EROFS)
}

/// The names of the entries in a directory of settings.
pub(crate) fn names(path: &str) -> io::Result<Vec<String>> {
    fs::read_dir(full(path))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn full(path: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(path)
}
