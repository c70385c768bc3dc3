//! The host, as a CLAT has set it up: what was done, what undoes it, and what others have undone.

use std::time::{Duration, Instant};

use log::{debug, info, warn};
use xlatd::plan::Step;

use crate::{
    device::{Device, attach, take, undo_of},
    error::{Error, system},
    sys::netlink::{Done, Netlink},
};

/// What others undo is done again, but not more often than this.
const REPAIR_INTERVAL: Duration = Duration::from_secs(10);

/// Steps that were taken.
pub(crate) struct Host {
    pub(crate) netlink: Netlink,
    taken: Vec<Taken>,
    /// Of the TUN device; zero: there is none.
    index: u32,
    /// It, until somebody takes it.
    pub(crate) device: Option<Device>,
}

struct Taken {
    step: Step,
    /// `None` if there is nothing to undo: it was so before, or goes with the device.
    undo: Option<Step>,
    repaired: Option<Instant>,
}

impl Host {
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self {
            netlink: Netlink::new().map_err(system("talk netlink to the kernel"))?,
            taken: Vec::new(),
            index: 0,
            device: None,
        })
    }

    /// The index of the TUN device.
    pub(crate) fn index(&self) -> Option<u32> {
        (self.index != 0).then_some(self.index)
    }

    /// Takes the steps that have not been taken, and undoes those that are not wanted any more, last first.
    pub(crate) fn change(&mut self, wanted: &[Step]) -> Result<(), Error> {
        for at in (0..self.taken.len()).rev() {
            if !wanted.contains(&self.taken[at].step) {
                let taken = self.taken.remove(at);
                self.undo(taken);
            }
        }
        for (at, step) in wanted.iter().enumerate() {
            if self.taken.get(at).is_some_and(|taken| taken.step == *step) {
                continue;
            }
            if let Step::CreateDevice { device: name } = step {
                let made = attach(&mut self.netlink, name, true)?;
                self.index = made.link.index;
                self.device = Some(made);
            }
            let undo = undo_of(step, None);
            let done = take(&mut self.netlink, self.index, step)?;
            let taken = Taken {
                step: step.clone(),
                undo: undo.filter(|_| done == Done::Now),
                repaired: None,
            };
            self.taken.insert(at.min(self.taken.len()), taken);
        }
        Ok(())
    }

    /// Does again what others have undone.
    pub(crate) fn repair(&mut self, now: Instant) {
        for taken in &mut self.taken {
            let step = &taken.step;
            let netlink = &mut self.netlink;
            let index = self.index;
            let is_there = match step {
                Step::AddAddress { address, .. } => netlink.has_address(index, *address),
                Step::AddTableRoute(route) => netlink.has_table_route(index, route),
                Step::AddRule(rule) => netlink.has_rule(rule),
                _ => Ok(true),
            };
            if !matches!(is_there, Ok(false)) {
                continue;
            }
            if taken
                .repaired
                .is_some_and(|before| now < before + REPAIR_INTERVAL)
            {
                debug!("Somebody undid it again: {step}");
                continue;
            }
            let again = taken.repaired.replace(now).is_some();
            match take(netlink, index, step) {
                Ok(_) if again => warn!(
                    "Somebody keeps undoing this, and it is done again: {step} (systemd-networkd: ManageForeignRoutes=no \
                     and ManageForeignRoutingPolicyRules=no in networkd.conf)"
                ),
                Ok(_) => info!("Somebody had undone it: {step}"),
                Err(error) => warn!("{}", error.report()),
            }
        }
    }

    /// Undoes everything, last first.
    pub(crate) fn undo_all(&mut self) {
        while let Some(taken) = self.taken.pop() {
            self.undo(taken);
        }
        self.index = 0;
    }

    fn undo(&mut self, taken: Taken) {
        let Some(undo) = taken.undo else {
            return;
        };
        if let Err(error) = take(&mut self.netlink, self.index, &undo) {
            // Who took it away before us has done us a favour.
            debug!("{}", error.report());
        }
    }
}
