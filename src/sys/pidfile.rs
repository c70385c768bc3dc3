//! The file that says which process this is.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
};

/// A file with the process id; it goes when this value does.
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the file, over one that is there.
    pub(crate) fn write(path: &Path) -> io::Result<Self> {
        fs::write(path, format!("{}\n", process::id()))?;
        let path = path.to_owned();
        Ok(Self { path })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody may have been faster, and nothing can be done about another failure.
        let _ = fs::remove_file(&self.path);
    }
}
