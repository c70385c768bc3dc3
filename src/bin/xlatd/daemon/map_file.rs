//! The map-file, which is read at the start and at SIGHUP.

use std::path::PathBuf;

use log::{debug, info, warn};
use xlatd::{addr::AddressMap, config::Config};

use crate::{daemon::file_as_read::FileAsRead, error::Error, sys::kept_file::KeptFile};

/// Opens the map-file, if the configuration has one.
pub(super) fn open(config: &Config) -> Result<Option<KeptFile>, Error> {
    let open =
        |path: PathBuf| KeptFile::to_read(&path).map_err(|cause| Error::Read { path, cause });
    config.map_file_path().map(open).transpose()
}

/// What was read of a map-file.
pub(super) struct Read {
    /// The address map of the configuration with it.
    pub(super) map: AddressMap,
    pub(super) as_read: FileAsRead,
    pub(super) text: Vec<u8>,
}

/// Reads the map-file. Logs notices about the file.
pub(super) fn read(config: &Config, file: &KeptFile) -> Result<Read, Error> {
    let path = file.path();
    let text = file.read().map_err(|cause| Error::Read {
        path: path.to_owned(),
        cause,
    })?;
    let as_read = FileAsRead::new(path, &text);
    let (map, notices) = config.with_map_file(&text).map_err(|lines| Error::Config {
        path: path.to_owned(),
        lines,
    })?;
    for notice in notices {
        warn!("{}", notice.in_file(path));
    }
    Ok(Read { map, as_read, text })
}

/// The address map of the configuration, with the maps of the map-file if there is one.
pub(crate) fn address_map(config: &Config) -> Result<AddressMap, Error> {
    match open(config)? {
        Some(file) => Ok(read(config, &file)?.map),
        None => Ok(config.address_map()),
    }
}

/// Logs the number of explicit mappings, and at debug level each of them.
pub(super) fn log_mappings(map: &AddressMap) {
    info!("Explicit mappings: {}", map.explicit().count());
    if log::log_enabled!(log::Level::Debug) {
        for eam in map.explicit() {
            debug!("{} is {}", eam.v4(), eam.v6());
        }
    }
}
