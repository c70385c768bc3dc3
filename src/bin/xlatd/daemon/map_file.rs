//! The map-file: read at the start and at SIGHUP.

use std::path::PathBuf;

use log::{debug, info, warn};
use xlatd::{addr::AddressMap, config::Config};

use crate::{error::Error, sys::kept_file::KeptFile};

/// Opens the map-file, if the configuration has one.
pub(super) fn open(config: &Config) -> Result<Option<KeptFile>, Error> {
    let open =
        |path: PathBuf| KeptFile::to_read(&path).map_err(|cause| Error::Read { path, cause });
    config.map_file_path().map(open).transpose()
}

/// The address map of the configuration and its map-file. Notices about the file are logged.
pub(super) fn read(config: &Config, file: &KeptFile) -> Result<AddressMap, Error> {
    let path = file.path();
    let text = file.read().map_err(|cause| Error::Read {
        path: path.to_owned(),
        cause,
    })?;
    let (map, notices) = config.with_map_file(text).map_err(|lines| Error::Config {
        path: path.to_owned(),
        lines,
    })?;
    for notice in notices {
        warn!("{}", notice.in_file(path));
    }
    Ok(map)
}

/// Reads the map-file only to see whether it has mistakes.
pub(crate) fn check(config: &Config) -> Result<(), Error> {
    match open(config)? {
        Some(file) => read(config, &file).map(drop),
        None => Ok(()),
    }
}

/// Logs the explicit mappings in force: how many, and at debug level which.
pub(super) fn log_mappings(map: &AddressMap) {
    info!("Explicit mappings: {}", map.explicit().count());
    if log::log_enabled!(log::Level::Debug) {
        for eam in map.explicit() {
            debug!("{} is {}", eam.v4(), eam.v6());
        }
    }
}
