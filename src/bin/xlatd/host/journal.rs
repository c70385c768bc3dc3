//! The undo journals of this CLAT and of others on this host.

use std::{
    io,
    path::{Path, PathBuf},
};

use xlatd::plan::{
    Undo,
    ledger::Instance,
    record::{self, Place},
};

use crate::sys::record::{self as file, Record};

/// The undo journal of this CLAT.
pub(super) struct Journal {
    record: Record,
    place: Place,
}

impl Journal {
    /// Opens the journal, and returns the undos that are in it, in the order in which they are to
    /// be carried out. `None` if another process that lives has it.
    pub(super) fn open(path: &Path) -> io::Result<Option<(Self, Vec<Undo>)>> {
        let Some((record, text)) = Record::open(path)? else {
            return Ok(None);
        };
        let place = Place {
            boot: file::boot_id()?,
            namespace: file::namespace()?,
        };
        let undos = record::undos(&text, &place).unwrap_or_default();
        Ok(Some((Self { record, place }, undos)))
    }

    /// Begins the journal again, with what is still to be undone in the end.
    pub(super) fn restart(&mut self, left: &[Undo]) -> io::Result<()> {
        self.record.clear()?;
        self.record.add(&self.place.to_string())?;
        let mut lines = left.iter().filter_map(record::handed_over_line);
        lines.try_for_each(|line| self.record.add(&line))
    }

    pub(super) fn add(&mut self, line: &str) -> io::Result<()> {
        self.record.add(line)
    }

    /// Holds off other instances until it is dropped.
    pub(super) fn hold_off(&self) -> io::Result<impl Sized + use<>> {
        self.record.hold_off()
    }

    /// Other instances here.
    pub(super) fn others(&self) -> Vec<Instance> {
        let others = self.record.others().unwrap_or_default().into_iter();
        let others = others.filter_map(|other| {
            Some(Instance {
                undos: record::undos(&other.text, &self.place)?,
                journal: other.path,
                lives: other.lives,
            })
        });
        others.collect()
    }

    /// What instances that ended before have handed over.
    pub(super) fn handed_over(&self) -> Vec<Undo> {
        let text = self.record.text().unwrap_or_default();
        record::handed_over(&text, &self.place).unwrap_or_default()
    }

    /// Removes the journal: there is nothing left to undo.
    pub(super) fn remove(self) -> io::Result<()> {
        self.record.remove()
    }
}

/// Hands an undo over to another instance.
pub(super) fn hand_over(undo: &Undo, to: &Instance) -> io::Result<()> {
    match record::handed_over_line(undo) {
        Some(line) => file::hand_over(&to.journal, &line),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// The path of the journal of a CLAT, by its device.
pub(crate) fn journal_path(directory: &Path, device: &str) -> PathBuf {
    directory.join(format!("{device}.steps"))
}
