//! The daemons that run in this network namespace: those that answer by their control sockets, and
//! those that /proc shows.

use std::path::PathBuf;

use xlatd::{
    doctor::ChangedFile,
    report::status::{Kind, Status},
};

use super::{
    ask,
    clatd::ClatdArguments,
    container,
    tayga::{Name, TaygaArguments},
};
use crate::sys::holder::{Process, processes};

/// A daemon, by its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The translator of a configuration.
    Translator(PathBuf),
    /// The CLAT of a command line.
    Clat(ClatdArguments),
}

/// A daemon that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) target: Target,
    /// What it says of itself, if it can be asked.
    pub(super) status: Option<Status>,
    /// `None` if /proc does not show it.
    process: Option<Process>,
}

impl Running {
    /// Its TUN device, if it has one.
    pub(super) fn device(&self) -> Option<&str> {
        let of_process = self.process.as_ref().and_then(|one| one.devices.first());
        let of_status = self.status.as_ref().and_then(|one| one.device.as_ref());
        of_process
            .map(String::as_str)
            .or(of_status.map(|device| &*device.name))
    }

    /// The unit of systemd that it belongs to.
    pub(super) fn unit(&self) -> Option<String> {
        self.process.as_ref()?.unit.clone()
    }

    /// The files that have changed since it read them, each with the command that has it read them
    /// again.
    pub(super) fn changed_files(&self) -> Vec<ChangedFile> {
        let Some(status) = &self.status else {
            return Vec::new();
        };
        let (pid, unit) = (status.process.pid, self.unit());
        let files = [(&status.configuration, false), (&status.maps.file, true)];
        let changed = files.into_iter().filter_map(|(file, is_map_file)| {
            let file = file.as_ref().filter(|file| file.changed == Some(true))?;
            let command = match (&unit, is_map_file) {
                (Some(unit), true) => Some(format!("systemctl reload {unit}")),
                (Some(unit), false) => Some(format!("systemctl restart {unit}")),
                (None, true) => Some(format!("kill -HUP {pid}")),
                (None, false) => None,
            };
            Some(ChangedFile {
                path: file.path.clone(),
                pid,
                command,
            })
        });
        changed.collect()
    }
}

/// All daemons that can be seen.
pub(super) fn running() -> Vec<Running> {
    let (processes, _) = processes();
    let sockets = ask::sockets().unwrap_or_default();
    let mut statuses: Vec<_> = sockets
        .iter()
        .filter_map(|one| ask::status(one).ok())
        .collect();
    let own = std::process::id();
    let processes = processes
        .into_iter()
        .filter(|one| one.is_xlatd() && one.pid != own);
    let mut running: Vec<_> = processes
        .filter_map(|process| {
            let target = target_of(&process)?;
            let is_its = |status: &Status| status.process.pid == process.pid;
            let at = statuses.iter().position(is_its);
            Some(Running {
                target,
                status: at.map(|at| statuses.swap_remove(at)),
                process: Some(process),
            })
        })
        .collect();
    // Those that /proc shows are in another network namespace.
    statuses.retain(|status| Process::of(status.process.pid).is_none());
    running.extend(statuses.into_iter().filter_map(|status| {
        let path = status
            .configuration
            .as_ref()
            .map(|file| PathBuf::from(&file.path));
        let target = match status.kind {
            Kind::Translator => Target::Translator(path?),
            Kind::Clat => Target::Clat(ClatdArguments {
                config: path,
                ..ClatdArguments::default()
            }),
        };
        Some(Running {
            target,
            status: Some(status),
            process: None,
        })
    }));
    running
}

/// What a process does, by its command line.
fn target_of(process: &Process) -> Option<Target> {
    let mut words = process.words.iter().cloned().peekable();
    let name = Name::of(words.next().as_deref());
    let at = |path: PathBuf| process.directory.join(path);
    let is_clat = match name {
        Name::Clatd => true,
        Name::Xlatd => words.next_if(|word| word == "clat").is_some(),
        Name::Tayga => false,
    };
    if is_clat {
        let mut arguments = ClatdArguments::parse(words).ok()?;
        arguments.config = arguments.config.map(at);
        return Some(Target::Clat(arguments));
    }
    // Other commands have no device.
    let device = process.devices.first()?;
    if name == Name::Xlatd && words.peek().is_some_and(|word| word == "container") {
        return Some(Target::Translator(container::path(device)));
    }
    let arguments = TaygaArguments::parse(name, words).ok()?;
    Some(Target::Translator(at(arguments.config)))
}
