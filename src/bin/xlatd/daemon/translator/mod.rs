//! The translator daemon, configured by tayga.conf.

mod link;
mod reload;
mod sandbox;
mod start;

pub(crate) use start::run;

use std::{os::fd::AsFd, os::fd::BorrowedFd, time::Instant};

use xlatd::{
    addr::AddressMap,
    config::Config,
    report::{
        status::{self, Kind, Maps, Process, Status},
        trace::Filter,
    },
};

use crate::{
    daemon::{
        file_as_read::FileAsRead,
        service::{Guest, INPUTS, Limits, Turn},
        workers::Workers,
    },
    datapath::PacketPath,
    error::Error,
    sys::{
        kept_file::KeptFile,
        netlink::{LinkChanges, Netlink},
        pidfile::PidFile,
    },
};

/// The translator and its device, with their configuration and files.
pub(crate) struct Daemon {
    config: Config,
    configuration: FileAsRead,
    pidfile: Option<PidFile>,
    map_file: Option<(KeptFile, FileAsRead)>,
    netlink: Netlink,
    changes: LinkChanges,
    /// Its table of nftables goes with it.
    _masquerade: Option<Netlink>,
    path: PacketPath,
    /// The other workers.
    workers: Option<Workers>,
    /// What is used once all workers have read it.
    reloading: Option<Reloading>,
    /// Whether the map-file is to be read again after that.
    reload_again: bool,
    /// Whether the device was [unusable](is_usable) since its addresses and routes were last
    /// checked.
    was_unusable: bool,
}

/// A reload that waits for the other workers.
struct Reloading {
    /// The mappings; `None`: they stay as they are.
    map: Option<(AddressMap, FileAsRead)>,
    /// The state afterwards.
    status: String,
}

// Indexes in the inputs.
const LINKS: usize = 0;
const WORKERS: usize = 1;

impl Guest for Daemon {
    const REPORT: Option<i32> = None; // SIGUSR1 ends it, as it ends tayga

    fn begin(&mut self, limits: &mut Limits, control: Option<BorrowedFd<'_>>) {
        limits.sandbox = self.enter_sandbox(control);
    }

    /// Writes the leases, and logs the packet counters. What was set up on the device stays.
    fn end(&mut self) {
        let others: Vec<_> = match &mut self.workers {
            None => Vec::new(),
            Some(workers) => {
                workers.end(&mut self.path);
                workers.packets().cloned().collect()
            }
        };
        self.path.end(&others);
    }

    fn path(&self) -> Option<&PacketPath> {
        Some(&self.path)
    }

    fn path_mut(&mut self) -> Option<&mut PacketPath> {
        Some(&mut self.path)
    }

    fn inputs(&self) -> [Option<BorrowedFd<'_>>; INPUTS] {
        let mut inputs = [None; INPUTS];
        inputs[LINKS] = Some(self.changes.as_fd());
        inputs[WORKERS] = self.workers.as_ref().map(Workers::as_fd);
        inputs
    }

    fn deadline(&mut self) -> Option<Instant> {
        None
    }

    fn turn(&mut self, turn: &Turn<'_>) -> Result<(), Error> {
        if turn.is_ready(LINKS) {
            self.follow_link(turn)?;
        }
        self.follow_workers(turn)
    }

    fn end_turn(&mut self, _turn: &Turn<'_>) -> Result<(), Error> {
        let Some(workers) = &mut self.workers else {
            return Ok(());
        };
        let changed = self.path.take_changed_leases();
        if !changed.is_empty() || workers.has_to_tell() {
            workers.tell(&changed)?;
        }
        workers.end_trace_if_left(&self.path)
    }

    fn is_alive(&mut self) -> Result<bool, Error> {
        self.workers.as_mut().map_or(Ok(true), Workers::are_alive)
    }

    fn is_current(&mut self, since: Instant, now: Instant) -> bool {
        let workers = self.workers.as_mut();
        // A worker that takes no orders has ended: the next turn finds out.
        workers.is_none_or(|workers| workers.are_current(since, now).unwrap_or(true))
    }

    fn trace(&mut self, filter: &Filter) {
        if let Some(workers) = &mut self.workers {
            let _ = workers.trace(filter);
        }
    }

    /// Writes the leases, and reads the map-file again. A file that cannot be read, or has a
    /// mistake, changes nothing.
    fn reload(&mut self, turn: &Turn<'_>) {
        if self.reloading.is_some() {
            self.reload_again = true;
            return;
        }
        turn.notify_reloading();
        if self.workers.is_none() {
            self.path.write_leases(turn.now);
            let (reloading, _) = self.read_again();
            return self.finish_reload(reloading, turn);
        }
        let (reloading, text) = self.read_again();
        if let Some(workers) = &mut self.workers
            && workers.prepare(text.as_deref()).is_ok()
        {
            self.reloading = Some(reloading);
        } // otherwise the next turn finds out
    }

    fn status(&self) -> String {
        let link = self.path.link();
        if link.up {
            format!("Translating on {}", link.name)
        } else {
            format!("Waiting for {} to be set up", link.name)
        }
    }

    fn describe(&self, process: Process, now: Instant) -> Status {
        let (path, map) = (&self.path, self.path.map());
        let file = self.map_file.as_ref();
        let mut packets = path.packets(now);
        let first = status::Worker {
            pid: process.pid,
            answers: true,
            packets: packets.clone(),
        };
        let workers = self.workers.as_ref().map_or_else(Vec::new, |others| {
            others.packets().for_each(|other| packets.add(other));
            [first].into_iter().chain(others.describe()).collect()
        });
        Status {
            kind: Kind::Translator,
            works: self.is_usable(),
            state: self.status(),
            process,
            configuration: Some(self.configuration.describe(now)),
            device: Some(path.device()),
            ipv4_addr: Some(map.own_v4()),
            ipv6_addr: Some(map.own_v6()),
            prefix: map.prefix().map(|prefix| prefix.prefix().to_string()),
            maps: Maps {
                count: map.explicit_count() as u64,
                file: file.map(|(_, as_read)| as_read.describe(now)),
            },
            pool: path.pool(),
            packets: Some(packets),
            workers,
            clat: None,
        }
    }
}

impl Daemon {
    /// Takes what other workers have said, and finishes what has waited for them.
    fn follow_workers(&mut self, turn: &Turn<'_>) -> Result<(), Error> {
        let Some(workers) = &mut self.workers else {
            return Ok(());
        };
        if turn.is_ready(WORKERS) {
            workers.turn(Some(&mut self.path), turn.now)?;
        }
        if let Some(leases) = self.path.leases_mut() {
            if workers.take_uses() {
                leases.uses_are_told();
            }
            if leases.asks_for_uses(turn.now) {
                workers.ask(true, turn.now)?;
            }
        }
        if workers.are_ready()
            && let Some(reloading) = self.reloading.take()
        {
            workers.switch()?;
            // With the uses that the others have told.
            self.path.write_leases(turn.now);
            self.finish_reload(reloading, turn);
            if std::mem::take(&mut self.reload_again) {
                self.reload(turn);
            }
        }
        Ok(())
    }
}
