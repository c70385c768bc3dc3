//! The file that says which process this is.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process,
};

use nix::libc;

/// A file with the process id; it goes when this value does.
pub(crate) struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Writes the file, over one that is there. A symbolic link is refused: it might lead to anything, by the hand of a
    /// user who may write to the directory and to nothing else.
    pub(crate) fn write(path: &Path) -> io::Result<Self> {
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        file.write_all(format!("{}\n", process::id()).as_bytes())?;
        let path = path.to_owned();
        Ok(Self { path, file })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Without privileges the file can still be emptied: it names nobody then. Nothing can be done about other failures.
        let _ = self.file.set_len(0);
        let _ = fs::remove_file(&self.path);
    }
}
