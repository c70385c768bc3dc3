//! The host, as a CLAT has set it up: what was done, what undoes it, and what others have undone.

pub(crate) mod apply;
pub(crate) mod forwarding;

use std::{
    collections::{HashSet, VecDeque},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use log::{debug, info, warn};
use xlatd::plan::{self, Step, record::Place};

use crate::{
    datapath::device::{Device, attach},
    error::{Error, system},
    host::apply::{is_there, take, undo_of},
    sys::{
        netlink::{Done, Netlink},
        record::{self, Other, Record},
    },
};

/// What others undo is done again: so often at once, since a firewall may be loaded twice, and then no more than so often in
/// this time.
const REPAIRS: usize = 3;
const REPAIR_INTERVAL: Duration = Duration::from_secs(10);

/// What to tell an administrator about routes and rules that vanish.
const NETWORKD: &str = " (systemd-networkd: ManageForeignRoutes=no and ManageForeignRoutingPolicyRules=no in networkd.conf)";

/// Steps that were taken.
pub(crate) struct Host {
    pub(crate) netlink: Netlink,
    taken: Vec<Taken>,
    /// Of the TUN device; zero: there is none.
    index: u32,
    /// It, until somebody takes it.
    pub(crate) device: Option<Device>,
    /// Whether the kernel may leave work to the translator.
    offload: bool,
    /// What will be left if we do not come to undo it, and where we are.
    record: Option<(Record, Place)>,
    recorded: HashSet<String>,
    /// Whether something could not be undone, which is then for who comes next.
    leaves_something: bool,
}

struct Taken {
    step: Step,
    /// `None` if there is nothing to undo: it was so before, or goes with the device.
    undo: Option<Step>,
    /// When it was done again lately, and why it could not be.
    repaired: VecDeque<Instant>,
    failed: Option<String>,
}

impl Taken {
    fn new(step: Step, undo: Option<Step>) -> Self {
        Self {
            step,
            undo,
            repaired: VecDeque::new(),
            failed: None,
        }
    }
}

impl Host {
    /// Undoes first what one that did not come to it has left, by the record at `path`. Fails if another one is at work.
    pub(crate) fn new(path: &Path, offload: bool) -> Result<Self, Error> {
        let mut host = Self {
            netlink: Netlink::new().map_err(system("open a netlink socket"))?,
            taken: Vec::new(),
            index: 0,
            device: None,
            offload,
            record: None,
            recorded: HashSet::new(),
            leaves_something: false,
        };
        match Record::open(path) {
            Ok(None) => {
                return Err(Error::ClatRunning {
                    path: path.to_owned(),
                });
            }
            Ok(Some((record, text))) => {
                if let Err(error) = host.take_over(record, &text) {
                    no_record(path, &error);
                }
            }
            Err(error) => no_record(path, &error),
        }
        Ok(host)
    }

    /// Undoes what a record says, and begins another.
    fn take_over(&mut self, record: Record, text: &str) -> io::Result<()> {
        let place = place()?;
        let undos = plan::record::undos(text, &place).unwrap_or_default();
        if !undos.is_empty() {
            info!("Undoing what was left by one that was killed");
        }
        let _others = record.hold_off()?;
        self.record = Some((record, place));
        // What cannot be undone now is tried again in the end.
        let mut left = undos;
        left.retain(|undo| !self.undo(undo));
        if let Some((record, place)) = &mut self.record {
            record.clear()?;
            record.add(&place.to_string())?;
            for line in left.iter().filter_map(plan::record::line) {
                record.add(&plan::record::handed_over(&line))?;
            }
        }
        Ok(())
    }

    /// Undoes what one that was killed has left, and nothing more.
    pub(crate) fn clean_up(directory: &Path, device: &str) -> Result<(), Error> {
        Self::new(&record_path(directory, device), false)?.undo_all();
        Ok(())
    }

    /// The index of the TUN device.
    pub(crate) fn index(&self) -> Option<u32> {
        (self.index != 0).then_some(self.index)
    }

    /// Takes the steps that have not been taken, and undoes those that are not wanted any more, last first.
    pub(crate) fn change(&mut self, wanted: &[Step]) -> Result<(), Error> {
        let _others = self.hold_off_others();
        for at in (0..self.taken.len()).rev() {
            let step = &self.taken[at].step;
            if !wanted.iter().any(|one| one == step || one.replaces(step)) {
                let taken = self.taken.remove(at);
                self.undo_taken(&taken);
                if let Step::CreateDevice { .. } = taken.step {
                    self.index = 0;
                }
            }
        }
        for (at, step) in wanted.iter().enumerate() {
            if self.taken.get(at).is_some_and(|taken| taken.step == *step) {
                continue;
            }
            if let Step::CreateDevice { device: name } = step {
                let made = attach(&mut self.netlink, name, self.offload)?;
                self.index = made.link.index;
                self.device = Some(made);
            }
            let undo = undo_of(step, None);
            self.record(undo.as_ref());
            let done = take(&mut self.netlink, self.index, step)?;
            let replaced = self
                .taken
                .iter_mut()
                .find(|taken| step.replaces(&taken.step));
            if let Some(replaced) = replaced {
                replaced.step = step.clone();
                continue;
            }
            let taken = Taken::new(step.clone(), undo.filter(|_| done == Done::Now));
            self.taken.insert(at.min(self.taken.len()), taken);
        }
        Ok(())
    }

    /// Does again what others have undone. Returns when to look again at what was undone too soon after that.
    pub(crate) fn repair(&mut self, now: Instant) -> Option<Instant> {
        let mut next = None;
        for taken in &mut self.taken {
            let step = &taken.step;
            let netlink = &mut self.netlink;
            let index = self.index;
            if !matches!(is_there(netlink, index, step), Ok(false)) {
                continue;
            }
            let mut look_at = |at| next = Some(next.map_or(at, |next: Instant| next.min(at)));
            let again_at = match taken.repaired.front() {
                Some(first) if taken.repaired.len() >= REPAIRS => Some(*first + REPAIR_INTERVAL),
                _ => None,
            };
            if let Some(again_at) = again_at.filter(|at| *at > now) {
                look_at(again_at);
                continue;
            }
            // What was long ago does not count.
            taken
                .repaired
                .retain(|before| now < *before + REPAIR_INTERVAL);
            taken.repaired.push_back(now);
            let again = taken.repaired.len() >= REPAIRS;
            let result = take(netlink, index, step);
            let failed = result.as_ref().err().map(Error::report);
            let failed_before = std::mem::replace(&mut taken.failed, failed);
            match result {
                Ok(_) if again => {
                    let is_networkds = matches!(step, Step::AddTableRoute(_) | Step::AddRule(_));
                    let hint = if is_networkds { NETWORKD } else { "" };
                    warn!("Somebody keeps undoing this, and it is done again: {step}{hint}");
                }
                Ok(_) => info!("Somebody had undone it: {step}"),
                Err(_) => {
                    look_at(now + REPAIR_INTERVAL);
                    if let Some(failed) = taken.failed.as_ref()
                        && failed_before.as_ref() != Some(failed)
                    {
                        warn!("Somebody has undone it, and it is tried again each 10 s: {failed}");
                    }
                }
            }
        }
        next
    }

    /// Undoes everything, last first.
    pub(crate) fn undo_all(&mut self) {
        let _others = self.hold_off_others();
        while let Some(taken) = self.taken.pop() {
            self.undo_taken(&taken);
        }
        for undo in self.handed_over() {
            self.leaves_something |= !self.undo(&undo);
        }
        self.index = 0;
        if self.leaves_something {
            warn!("What could not be undone is left to the next start, or to --cleanup");
        } else if let Some((record, _)) = self.record.take()
            && let Err(error) = record.remove()
        {
            debug!("cannot remove the record of steps: {error}");
        }
    }

    fn hold_off_others(&self) -> impl Sized + use<> {
        self.record.as_ref().map(|(record, _)| record.hold_off())
    }

    /// Leaves it to another instance that lives to set back what it needs, too. Whether there is one.
    fn leaves_to_other(&self, undo: &Step) -> bool {
        if !matches!(undo, Step::SetSysctl { .. } | Step::ForwardNoMore { .. }) {
            return false;
        }
        // Each CLAT needs a host that forwards as a whole.
        let is_for_all = matches!(undo, Step::ForwardNoMore { .. });
        let needs = |undos: &[Step]| undos.iter().any(|one| one.sets_the_same(undo));
        let mut others = self.others().into_iter();
        let other = others.find(|(other, undos)| other.lives && (is_for_all || needs(undos)));
        let (Some((other, _)), Some(line)) = (other, plan::record::line(undo)) else {
            return false;
        };
        let left = record::hand_over(&other.path, &plan::record::handed_over(&line));
        debug!("{undo}: left to {}", other.path.display());
        left.is_ok()
    }

    /// Records of other instances here, and what they will undo.
    fn others(&self) -> Vec<(Other, Vec<Step>)> {
        let Some((record, place)) = &self.record else {
            return Vec::new();
        };
        let others = record.others().unwrap_or_default().into_iter();
        others
            .filter_map(|other| {
                let undos = plan::record::undos(&other.text, place)?;
                Some((other, undos))
            })
            .collect()
    }

    /// Whether it is known who has set what.
    pub(crate) fn has_record(&self) -> bool {
        self.record.is_some()
    }

    /// Whether it is by us, or by another instance, that there is something for this undo to set back.
    pub(crate) fn has_set(&self, undo: &Step) -> bool {
        let ours = self.taken.iter().filter_map(|taken| taken.undo.clone());
        // Also by one that was killed, and will be undone when it starts again.
        let others = self.others().into_iter().flat_map(|(_, undos)| undos);
        let mut all = ours.chain(self.handed_over()).chain(others);
        all.any(|one| one.sets_the_same(undo) && changes(&one))
    }

    /// What instances that ended before us have left to us.
    fn handed_over(&self) -> Vec<Step> {
        let Some((record, place)) = &self.record else {
            return Vec::new();
        };
        let text = record.text().unwrap_or_default();
        plan::record::undos_for_others(&text, place).unwrap_or_default()
    }

    /// Writes down what will undo a step, before it is taken.
    fn record(&mut self, undo: Option<&Step>) {
        if let Some((record, _)) = &mut self.record
            && let Some(line) = undo.and_then(plan::record::line)
            && self.recorded.insert(line.clone())
            && let Err(error) = record.add(&line)
        {
            warn!("cannot write down what is to be undone after a crash: {error}");
        }
    }

    fn undo_taken(&mut self, taken: &Taken) {
        if let Some(undo) = &taken.undo {
            self.leaves_something |= !self.undo(undo);
        }
    }

    /// Whether there is nothing left to undo.
    fn undo(&mut self, undo: &Step) -> bool {
        if self.leaves_to_other(undo) {
            return true;
        }
        match take(&mut self.netlink, self.index, undo) {
            Ok(_) => true,
            // Who took it away before us has done us a favour; and after a crash it may never have come to be.
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

/// Whether an undo sets anything back: not if it was so before.
fn changes(undo: &Step) -> bool {
    !matches!(undo, Step::SetSysctl { value, only_if, .. } if only_if.as_ref() == Some(value))
}

/// Here and now.
fn place() -> io::Result<Place> {
    Ok(Place {
        boot: record::boot_id()?,
        namespace: record::namespace()?,
    })
}

/// Where the record of a device is.
pub(crate) fn record_path(directory: &Path, device: &str) -> PathBuf {
    directory.join(format!("{device}.steps"))
}

fn no_record(path: &Path, error: &io::Error) {
    warn!(
        "{}: what is to be undone after a crash is not written down: {error}",
        path.display()
    );
}
