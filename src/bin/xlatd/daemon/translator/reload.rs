//! SIGHUP: the map-file is read again.

use log::{info, warn};

use crate::daemon::{
    map_file::{self, Read, log_mappings},
    service::{Guest, Turn},
    translator::{Daemon, Reloading},
};

impl Daemon {
    /// Reads the map-file again. Also returns its text, if there is something new.
    pub(super) fn read_again(&self) -> (Reloading, Option<Vec<u8>>) {
        let mut status = self.status();
        let mut new = None;
        match &self.map_file {
            None => info!("SIGHUP: there is no map-file to read again"),
            Some((file, _)) => match map_file::read(&self.config, file) {
                Ok(read) => new = Some(read),
                Err(error) => {
                    for line in error.report().lines() {
                        warn!("{line}");
                    }
                    warn!("SIGHUP: the mappings are unchanged");
                    status += "; the map-file has mistakes, so the mappings are unchanged";
                }
            },
        }
        let (map, text) = match new {
            None => (None, None),
            Some(Read { map, as_read, text }) => (Some((map, as_read)), Some(text)),
        };
        (Reloading { map, status }, text)
    }

    /// Uses the mappings that were read.
    pub(super) fn finish_reload(&mut self, reloading: Reloading, turn: &Turn<'_>) {
        if let (Some((file, as_read)), Some((map, now_read))) = (&mut self.map_file, reloading.map)
        {
            *as_read = now_read;
            self.path.set_map(map);
            info!("SIGHUP: reloaded {}", file.path().display());
            log_mappings(self.path.map());
        }
        turn.notify_reloaded(&reloading.status);
    }
}
