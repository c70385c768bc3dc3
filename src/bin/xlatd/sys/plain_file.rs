//! Reading files that others have named: a daemon that may have been taken over, or the command
//! line of any process.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
};

use nix::libc;

/// The maximum length of a file that is read, in octets. A map-file of a million lines has less.
const MAX_LEN: u64 = 1 << 26;

/// Reads a regular file. It neither waits for a FIFO nor opens a device, which may act on that, and
/// reads no more than the length that the file has: those of the kernel have none.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let found = open(path, libc::O_PATH)?;
    if !found.metadata()?.is_file() {
        return Err(io::Error::other("expected a regular file"));
    }
    // The very file that was looked at, whatever has its name now.
    let itself = format!("/proc/self/fd/{}", found.as_raw_fd());
    let file = open(Path::new(&itself), libc::O_NONBLOCK)?;
    let len = file.metadata()?.len();
    if len > MAX_LEN {
        let text = format!("expected a file of at most {MAX_LEN} octets");
        return Err(io::Error::other(text));
    }
    let mut octets = Vec::new();
    file.take(len).read_to_end(&mut octets)?;
    Ok(octets)
}

fn open(path: &Path, flags: libc::c_int) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::{env, fs, process};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let directory = env::temp_dir().join(format!("xlatd-plain-{}", process::id()));
        fs::create_dir(&directory).unwrap();
        let at = |name: &str| directory.join(name);
        fs::write(at("file"), "prefix 64:ff9b::/96\n").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        for name in ["file", "link"] {
            assert_eq!(read(&at(name)).unwrap(), b"prefix 64:ff9b::/96\n", "{name}");
        }
        // A FIFO without a writer, a file without an end, and one that is too long.
        mkfifo(&at("fifo"), Mode::S_IRUSR).unwrap();
        File::create(at("long"))
            .unwrap()
            .set_len(MAX_LEN + 1)
            .unwrap();
        for path in [&at("fifo"), Path::new("/dev/zero"), &at("long"), &directory] {
            let error = read(path).unwrap_err().to_string();
            assert!(error.starts_with("expected a"), "{path:?}: {error}");
        }
        let missing = read(&at("missing")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(&directory).unwrap();
    }
}
