//! The host, as it was set up by the [`Ledger`]: does what that decides, and tells it the result.

mod apply;
pub(crate) mod firewall;
pub(crate) mod forwarding;
mod journal;
pub(crate) mod survey;

use std::{io, path::Path, time::Instant};

use log::{debug, info, warn};
use xlatd::{
    config::Level,
    link::LinkRef,
    plan::{Ledger, NextHopObject, Resource, Step, Undo, ledger},
};

pub(crate) use apply::restore;
pub(crate) use journal::journal_path;

use crate::{
    datapath::device::{Device, Offload, attach},
    error::{Error, system},
    host::journal::Journal,
    sys::{firewall::Firewall, netlink::Netlink},
};

/// The host, with what was set up on it.
pub(crate) struct Host {
    pub(crate) netlink: Netlink,
    pub(crate) firewall: Firewall,
    ledger: Ledger,
    /// The TUN device, until it is taken.
    pub(crate) device: Option<Device>,
    offload: Offload,
    /// The number of queues of the device.
    pub(crate) workers: u8,
    /// The undo journal. Without one, a crash leaves what was done.
    journal: Option<Journal>,
}

impl Host {
    /// A host of which no undo journal is kept.
    pub(crate) fn new(firewall: Firewall, offload: Offload) -> Result<Self, Error> {
        Ok(Self {
            netlink: Netlink::new().map_err(system("open a netlink socket"))?,
            firewall,
            ledger: Ledger::default(),
            device: None,
            offload,
            workers: 1,
            journal: None,
        })
    }

    /// A host with an undo journal. What a killed instance has left in it is undone first. Fails if
    /// another instance uses it.
    pub(crate) fn with_journal(
        path: &Path,
        firewall: Firewall,
        offload: Offload,
    ) -> Result<Self, Error> {
        let mut host = Self::new(firewall, offload)?;
        let result = match Journal::open(path) {
            Ok(None) => {
                let path = path.to_owned();
                return Err(Error::ClatRunning { path });
            }
            Ok(Some((journal, undos))) => host.take_over(journal, undos),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            let path = path.display();
            warn!("{path}: no undo journal, so a crash would leave changes behind: {error}");
        }
        Ok(host)
    }

    /// Undoes what a killed instance has left, and begins the journal again.
    fn take_over(&mut self, journal: Journal, mut undos: Vec<Undo>) -> io::Result<()> {
        if !undos.is_empty() {
            info!("Undoing what was left by a process that was killed");
        }
        let _others = journal.hold_off()?;
        self.journal = Some(journal);
        // What cannot be undone now is tried again in the end.
        undos.retain(|undo| !self.undo(undo));
        self.journal
            .iter_mut()
            .try_for_each(|journal| journal.restart(&undos))
    }

    /// Undoes what a killed instance has left, and nothing more.
    pub(crate) fn clean_up(
        directory: &Path,
        device: &str,
        firewall: Firewall,
    ) -> Result<(), Error> {
        let journal = journal_path(directory, device);
        Self::with_journal(&journal, firewall, Offload::None)?.undo_all();
        Ok(())
    }

    /// The index of the TUN device, while it is attached.
    pub(crate) fn index(&self) -> Option<u32> {
        self.ledger.device().map(|link| link.index)
    }

    /// The same for requests, where zero is no device.
    fn tun(&self) -> u32 {
        self.index().unwrap_or(0)
    }

    /// Attaches to the TUN device, and returns its name.
    pub(crate) fn attach(&mut self, name: &str) -> Result<String, Error> {
        let device = attach(&mut self.netlink, name, self.offload, self.workers)?;
        let name = device.link.name.clone();
        self.ledger.attached(LinkRef::new(device.link.index, &name));
        self.device = Some(device);
        Ok(name)
    }

    /// Undoes what is not in the plan, and applies what is. A step that fails is the last one.
    pub(crate) fn change(&mut self, plan: Vec<Resource>) -> Result<(), Error> {
        let _others = self.hold_off_others();
        self.carry_out(plan)?;
        // The steps may have changed it.
        match &mut self.device {
            Some(device) => device.refresh(&mut self.netlink),
            None => Ok(()),
        }
    }

    /// Carries out the steps of the ledger, until all is as in the plan or one of them fails.
    fn carry_out(&mut self, plan: Vec<Resource>) -> Result<(), Error> {
        self.ledger.want(plan);
        while let Some(step) = self.ledger.next_step() {
            match step {
                Step::Undo(undo) => {
                    let is_undone = self.undo(&undo);
                    self.ledger.undone(is_undone);
                }
                Step::Apply(Resource::Device { name }) => drop(self.attach(&name)?),
                Step::Apply(resource) => self.apply(resource)?,
            }
        }
        Ok(())
    }

    /// Applies a resource other than the TUN device, after the line of its undo is in the journal.
    fn apply(&mut self, resource: Resource) -> Result<(), Error> {
        let tun = self.tun();
        let undo = resource.undo(apply::before(&mut self.netlink, tun, &resource));
        if let Some(journal) = &mut self.journal
            && let Some(line) = self.ledger.journal_line(undo.as_ref())
            && let Err(error) = journal.add(&line)
        {
            warn!("cannot write to the undo journal: {error}");
        }
        let effect = apply::apply(&mut self.netlink, &self.firewall, tun, &resource)?;
        self.ledger.applied(resource, undo, effect);
        Ok(())
    }

    /// Applies again what other programs have removed. Returns when to look again at what could not
    /// be repaired yet.
    pub(crate) fn repair(&mut self, now: Instant) -> Option<Instant> {
        let tun = self.tun();
        for resource in self.ledger.resources().cloned().collect::<Vec<_>>() {
            // What cannot be seen is taken to be there.
            let is_there = apply::is_there(&mut self.netlink, tun, &resource).unwrap_or(true);
            if !self.ledger.found(&resource, is_there, now) {
                continue;
            }
            let result = apply::apply(&mut self.netlink, &self.firewall, tun, &resource);
            let failure = result.err().map(|error| error.report());
            if let Some((level, text)) = self.ledger.repaired(&resource, failure, now) {
                match level {
                    Level::Warning => warn!("{text}"),
                    Level::Info => info!("{text}"),
                }
            }
        }
        self.ledger.look_at()
    }

    /// What was applied, a resource a line, in this order.
    pub(crate) fn set_up(&self) -> Vec<String> {
        self.ledger.resources().map(ToString::to_string).collect()
    }

    /// The number of repairs so far.
    pub(crate) fn repairs(&self) -> u64 {
        self.ledger.repairs()
    }

    /// Undoes everything, last first.
    pub(crate) fn undo_all(&mut self) {
        let _others = self.hold_off_others();
        // Only what is applied can fail.
        let _ = self.carry_out(Vec::new());
        let Some(journal) = &self.journal else {
            return;
        };
        for undo in journal.handed_over() {
            let is_undone = self.undo(&undo);
            self.ledger.undone(is_undone);
        }
        if self.ledger.leaves_something() {
            warn!("What could not be undone is left to the next start, or to --cleanup");
        } else if let Some(journal) = self.journal.take()
            && let Err(error) = journal.remove()
        {
            debug!("cannot remove the undo journal: {error}");
        }
    }

    /// Returns the netlink socket and the TUN device of a host that is set up for good: the ledger
    /// is dropped, and nothing is undone at the end.
    pub(crate) fn finish(self) -> (Netlink, Device) {
        // Every plan begins with it.
        let device = self.device.expect("an attached TUN device");
        (self.netlink, device)
    }

    /// Whether the host is a router for another reason than a CLAT on it.
    pub(crate) fn is_router(&self, uplink: &LinkRef) -> bool {
        forwarding::read(&uplink.name).is_router(uplink, || {
            let journal = self.journal.as_ref()?;
            // Also of instances that were killed, and will undo it when they start again.
            let others = journal.others().into_iter().flat_map(|other| other.undos);
            let ours = self.ledger.undos().cloned();
            Some(ours.chain(journal.handed_over()).chain(others).collect())
        })
    }

    /// Whether a next hop can be there, or is.
    pub(crate) fn can_have_next_hop_object(&mut self, next_hop: &NextHopObject) -> bool {
        let tun = self.tun();
        self.netlink.can_have_next_hop_object(tun, next_hop)
    }

    fn hold_off_others(&self) -> impl Sized + use<> {
        self.journal.as_ref().map(Journal::hold_off)
    }

    /// Carries out an undo, or hands it over to another instance that needs the resource. Returns
    /// whether there is nothing left to undo.
    fn undo(&mut self, undo: &Undo) -> bool {
        let journal = self.journal.as_ref().filter(|_| undo.is_shared());
        let others = journal.map(Journal::others).unwrap_or_default();
        if let Some(heir) = ledger::heir(undo, &others)
            && journal::hand_over(undo, heir).is_ok()
        {
            debug!("{undo}: handed over to {}", heir.journal.display());
            return true;
        }
        let tun = self.tun();
        match apply::undo(&mut self.netlink, &self.firewall, tun, undo) {
            Ok(_) => true,
            // Already gone; and after a crash it may never have been there.
            Err(error) if error.is_not_found() => {
                debug!("{}", error.report());
                true
            }
            Err(error) => {
                warn!("{}", error.report());
                false
            }
        }
    }
}
