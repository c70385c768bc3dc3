//! A file as it was read: who asks later can see whether it has changed since.

use std::{
    path::{Path, PathBuf, absolute},
    time::Instant,
};

use xlatd::report::status::{ReadFile, fingerprint};

/// A file as it was read.
#[derive(Clone, Debug)]
pub(crate) struct FileAsRead {
    path: PathBuf,
    fingerprint: String,
    at: Instant,
}

impl FileAsRead {
    /// A file that has been read now, with this content.
    pub(crate) fn new(path: &Path, content: &[u8]) -> Self {
        Self {
            // Who asks may be in another directory.
            path: absolute(path).unwrap_or_else(|_| path.to_owned()),
            fingerprint: fingerprint(content),
            at: Instant::now(),
        }
    }

    /// The same as data.
    pub(crate) fn describe(&self, now: Instant) -> ReadFile {
        ReadFile {
            path: self.path.display().to_string(),
            read_seconds: now.saturating_duration_since(self.at).as_secs(),
            fingerprint: self.fingerprint.clone(),
            changed: None,
        }
    }
}
