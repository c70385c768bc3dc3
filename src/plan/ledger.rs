//! The ledger of what is to be there on the host, what was done for it, and what undoes it.
//!
//! It decides what to do next; the host does it and tells the result. Resources are applied in the
//! order of the plan, and undone last first. The translator's plan never changes; a CLAT's changes
//! with the network, and what other programs remove of it is repaired.

use std::{
    collections::HashSet,
    fmt,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{Effect, Resource, Undo, record};
use crate::{
    config::Level,
    link::LinkRef,
    pace::{Rate, TokenBucket},
};

/// The time between repairs of a resource that another program keeps undoing, and between attempts
/// that fail.
const REPAIR_INTERVAL: Duration = Duration::from_secs(10);
/// Three repairs may follow at once, since a firewall may be loaded twice; then one in each
/// interval.
const REPAIRS: Rate = Rate::new(3, REPAIR_INTERVAL.saturating_mul(3));

/// What to tell an administrator about routes and rules that vanish.
const NETWORKD: &str = " (systemd-networkd: ManageForeignRoutes=no, \
                        ManageForeignRoutingPolicyRules=no and ManageForeignNextHops=no in \
                        networkd.conf)";

/// One thing to be done to the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Have the resource there.
    Apply(Resource),
    /// Take a resource back.
    Undo(Undo),
}

impl fmt::Display for Step {
    /// For people, in the imperative.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply(resource) => resource.fmt(f),
            Self::Undo(undo) => undo.fmt(f),
        }
    }
}

/// The ledger of one host.
#[derive(Debug, Default)]
pub struct Ledger {
    /// In the order in which it is applied.
    wanted: Vec<Resource>,
    /// What was applied, in the same order.
    entries: Vec<Entry>,
    /// The TUN device, while it is attached.
    device: Option<LinkRef>,
    /// Lines of the undo journal.
    journal: HashSet<String>,
    /// Whether something could not be undone.
    leaves_something: bool,
    /// Repairs so far.
    repairs: u64,
}

/// A resource that was applied.
#[derive(Debug)]
struct Entry {
    resource: Resource,
    /// `None` if there is nothing to undo: it was there before, or goes with the device.
    undo: Option<Undo>,
    /// The repairs that it may still have.
    repairs: TokenBucket<Instant>,
    /// Why the last repair failed, if it did.
    failure: Option<String>,
    /// When to look at it again.
    look_at: Option<Instant>,
}

impl Ledger {
    /// Sets the plan: what is to be there.
    pub fn want(&mut self, plan: Vec<Resource>) {
        self.wanted = plan;
    }

    /// The next step: an undo of what is not in the plan any more, last first; else the first
    /// resource that was not applied. `None` if all is as in the plan.
    ///
    /// Each step is followed by [`undone`](Self::undone), [`applied`](Self::applied) or
    /// [`attached`](Self::attached); a resource whose step failed stays the next.
    pub fn next_step(&mut self) -> Option<Step> {
        let is_wanted = |entry: &Entry| {
            let resource = &entry.resource;
            let mut wanted = self.wanted.iter();
            wanted.any(|wanted| wanted.is_met_by(resource) || wanted.replaces(resource))
        };
        while let Some(at) = self.entries.iter().rposition(|entry| !is_wanted(entry)) {
            let entry = self.entries.remove(at);
            if let Resource::Device { .. } = entry.resource {
                self.device = None;
            }
            if let Some(undo) = entry.undo {
                return Some(Step::Undo(undo));
            }
        }
        let mut wanted = self.wanted.iter();
        let missing = wanted.find(|wanted| self.place(wanted).is_none());
        missing.cloned().map(Step::Apply)
    }

    /// The line to write to the undo journal before a resource with this undo is applied. `None` if
    /// there is none, or it is written already.
    pub fn journal_line(&mut self, undo: Option<&Undo>) -> Option<String> {
        let line = record::line(undo?)?;
        self.journal.insert(line.clone()).then_some(line)
    }

    /// Notes that a resource was applied, and what undoes it.
    pub fn applied(&mut self, resource: Resource, undo: Option<Undo>, effect: Effect) {
        let mut entries = self.entries.iter_mut();
        if let Some(replaced) = entries.find(|entry| resource.replaces(&entry.resource)) {
            // A setting is restored to what it was before the first one; of a route, the last one
            // is removed.
            if let Resource::Route(_) = resource {
                replaced.undo = replaced.undo.take().and(undo);
            }
            replaced.resource = resource;
            return;
        }
        let wanted = self.wanted.iter();
        let before = wanted.take_while(|wanted| !wanted.is_met_by(&resource));
        let at = before.filter_map(|wanted| self.place(wanted)).max();
        let entry = Entry {
            resource,
            undo: undo.filter(|_| effect == Effect::Changed),
            repairs: TokenBucket::default(),
            failure: None,
            look_at: None,
        };
        self.entries.insert(at.map_or(0, |at| at + 1), entry);
    }

    /// Notes that the TUN device is attached.
    pub fn attached(&mut self, device: LinkRef) {
        let name = device.name.clone();
        self.applied(Resource::Device { name }, None, Effect::Unchanged);
        self.device = Some(device);
    }

    /// Notes whether an undo has left nothing.
    pub fn undone(&mut self, completely: bool) {
        self.leaves_something |= !completely;
    }

    /// The TUN device, while it is attached.
    pub fn device(&self) -> Option<&LinkRef> {
        self.device.as_ref()
    }

    /// What was applied, in this order.
    pub fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.entries.iter().map(|entry| &entry.resource)
    }

    /// The number of repairs so far.
    pub fn repairs(&self) -> u64 {
        self.repairs
    }

    /// What there is to undo.
    pub fn undos(&self) -> impl Iterator<Item = &Undo> {
        self.entries.iter().filter_map(|entry| entry.undo.as_ref())
    }

    /// Whether something could not be undone, which is then for the next one that starts.
    pub fn leaves_something(&self) -> bool {
        self.leaves_something
    }

    /// Notes whether a resource is still there. Returns whether it is to be repaired now: not if it
    /// was repaired too often of late.
    pub fn found(&mut self, resource: &Resource, is_there: bool, now: Instant) -> bool {
        let Some(entry) = self.entry(resource) else {
            return false;
        };
        entry.look_at = None;
        if is_there {
            return false;
        }
        if let Err(next) = entry.repairs.take(REPAIRS, now) {
            entry.look_at = next;
            return false;
        }
        true
    }

    /// Notes how a repair ended, and returns what is to be logged about it. A failure is logged
    /// once for each reason.
    pub fn repaired(
        &mut self,
        resource: &Resource,
        failure: Option<String>,
        now: Instant,
    ) -> Option<(Level, String)> {
        let at = self
            .entries
            .iter()
            .position(|entry| entry.resource == *resource)?;
        let entry = &mut self.entries[at];
        let failure_before = std::mem::replace(&mut entry.failure, failure);
        self.repairs += u64::from(entry.failure.is_none());
        match &entry.failure {
            Some(failure) => {
                entry.look_at = Some(now + REPAIR_INTERVAL);
                let is_new = failure_before.as_ref() != Some(failure);
                let text = format!("Cannot repair this, retrying every 10 s: {failure}");
                is_new.then_some((Level::Warning, text))
            }
            None if entry.repairs.is_empty(REPAIRS, now) => {
                let is_networkds = matches!(
                    resource,
                    Resource::NextHopObject(_) | Resource::Route(_) | Resource::Rule(_)
                );
                let hint = if is_networkds { NETWORKD } else { "" };
                let text = "Repaired again, another program keeps undoing it";
                Some((Level::Warning, format!("{text}: {resource}{hint}")))
            }
            None => {
                let text = format!("Repaired after a change by another program: {resource}");
                Some((Level::Info, text))
            }
        }
    }

    /// When to look again at what could not be repaired yet.
    pub fn look_at(&self) -> Option<Instant> {
        self.entries.iter().filter_map(|entry| entry.look_at).min()
    }

    /// The place among the entries of what meets a want.
    fn place(&self, wanted: &Resource) -> Option<usize> {
        self.resources()
            .position(|applied| wanted.is_met_by(applied))
    }

    fn entry(&mut self, resource: &Resource) -> Option<&mut Entry> {
        let mut entries = self.entries.iter_mut();
        entries.find(|entry| entry.resource == *resource)
    }
}

/// Another CLAT on this host, by its undo journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The path of its journal.
    pub journal: PathBuf,
    /// Whether it lives.
    pub lives: bool,
    /// What it has to undo.
    pub undos: Vec<Undo>,
}

/// The instance that an undo is to be handed over to, as it needs what would be taken away: one
/// that lives and has it in its journal, also if it found it there. That the whole host forwards is
/// needed by each.
pub fn heir<'a>(undo: &Undo, others: &'a [Instance]) -> Option<&'a Instance> {
    let needs = |other: &Instance| match undo {
        Undo::StopForwarding { .. } => true,
        _ => other.undos.iter().any(|one| one.shares(undo)),
    };
    let mut others = others.iter();
    others.find(|other| other.lives && needs(other))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;
    use crate::{
        addr::IpPrefix,
        plan::{Before, Family, Protocol, Route, Sysctl, Table, Target},
    };

    fn device() -> Resource {
        Resource::Device {
            name: "clat".to_owned(),
        }
    }

    fn up() -> Resource {
        Resource::LinkUp(LinkRef::tun("clat"))
    }

    fn address(host: u8) -> Resource {
        let address = IpPrefix::V4([192, 0, 0, host].into(), 32);
        Resource::Address(LinkRef::tun("clat"), address)
    }

    fn ruleset(text: &str) -> Resource {
        Resource::Ruleset {
            name: Table::new(Family::Inet, "xlatd_clat"),
            text: text.to_owned(),
        }
    }

    fn setting(link: LinkRef) -> Sysctl {
        Sysctl {
            link,
            name: "force_forwarding".to_owned(),
            value: "1".to_owned(),
        }
    }

    /// A system on which all goes well, but for one step; and what happens to it.
    #[derive(Default)]
    struct System {
        ledger: Ledger,
        /// What is there before.
        there: Vec<Resource>,
        /// The step that fails.
        fails: Option<String>,
        log: Vec<String>,
    }

    impl System {
        /// Carries a plan out, as far as it goes, and returns what was done.
        fn change(&mut self, plan: &[Resource]) -> Vec<String> {
            self.ledger.want(plan.to_vec());
            while let Some(step) = self.ledger.next_step() {
                assert!(self.log.len() < 100, "no end: {:?}", self.log);
                let fails = self.fails.as_ref() == Some(&step.to_string());
                self.log.push(step.to_string());
                match step {
                    Step::Undo(_) => self.ledger.undone(!fails),
                    Step::Apply(_) if fails => break,
                    Step::Apply(Resource::Device { name }) => {
                        self.ledger.attached(LinkRef::new(7, &name));
                    }
                    Step::Apply(resource) => {
                        let undo = resource.undo(Before::Value("0".to_owned()));
                        let line = self.ledger.journal_line(undo.as_ref());
                        let log = self.log.len() - 1;
                        self.log
                            .splice(log..log, line.map(|line| format!("journal: {line}")));
                        let effect = match self.there.contains(&resource) {
                            true => Effect::Unchanged,
                            false => Effect::Changed,
                        };
                        self.ledger.applied(resource, undo, effect);
                    }
                }
            }
            std::mem::take(&mut self.log)
        }
    }

    #[test]
    fn a_plan_is_applied_in_order_and_undone_last_first() {
        let mut system = System::default();
        let plan = [device(), up(), address(1)];
        assert_eq!(
            system.change(&plan),
            [
                "attach to clat, or create it",
                "set clat up",
                "add address 192.0.0.1/32 to clat"
            ]
        );
        assert_eq!(system.ledger.device(), Some(&LinkRef::new(7, "clat")));
        assert!(system.change(&plan).is_empty(), "it is there already");
        let undos: Vec<_> = system.ledger.undos().map(ToString::to_string).collect();
        assert_eq!(
            undos,
            ["set clat down", "remove address 192.0.0.1/32 from clat"]
        );
        assert_eq!(
            system.change(&[]),
            ["remove address 192.0.0.1/32 from clat", "set clat down"]
        );
        assert_eq!(system.ledger.device(), None);
        assert!(!system.ledger.leaves_something());
        assert!(system.change(&[]).is_empty(), "nothing is undone twice");
    }

    /// dev_alloc_name of Linux: the device has another name than the plan says.
    #[test]
    fn a_device_is_attached_once_whatever_its_name() {
        let mut ledger = Ledger::default();
        let numbered = Resource::Device {
            name: "nat%d".to_owned(),
        };
        ledger.want(vec![numbered.clone()]);
        assert_eq!(ledger.next_step(), Some(Step::Apply(numbered)));
        ledger.attached(LinkRef::new(7, "nat0"));
        assert_eq!(ledger.next_step(), None);
        ledger.want(vec![device()]);
        assert_eq!(ledger.next_step(), None);
        ledger.want(vec![]);
        assert_eq!(ledger.next_step(), None);
        assert_eq!(ledger.device(), None);
    }

    #[test]
    fn what_was_there_before_stays() {
        let mut system = System {
            there: vec![up()],
            ..System::default()
        };
        system.change(&[device(), up(), address(1)]);
        let undone = system.change(&[]);
        assert_eq!(undone, ["remove address 192.0.0.1/32 from clat"]);
    }

    /// Another MTU leaves no moment without a route, and the last one is removed in the end.
    #[test]
    fn a_route_is_replaced_by_one_with_another_mtu() {
        let route = |mtu| {
            Resource::Route(Route {
                destination: IpPrefix::V4([0, 0, 0, 0].into(), 0),
                target: Target::Device(LinkRef::tun("clat")),
                table: 254,
                metric: 2048,
                mtu: Some(mtu),
                advmss: None,
                protocol: Protocol::Clat,
            })
        };
        let mut system = System::default();
        system.change(&[device(), route(1472)]);
        let plan = [device(), route(1372)];
        let changes = system.change(&plan);
        assert_eq!(changes, ["route 0.0.0.0/0 to clat metric 2048 mtu 1372"]);
        assert!(system.ledger.resources().eq(&plan));
        assert_eq!(
            system.change(&[device()]),
            ["remove the route 0.0.0.0/0 to clat metric 2048 mtu 1372"]
        );
    }

    #[test]
    fn only_the_difference_between_two_plans_is_done() {
        let mut system = System::default();
        system.change(&[device(), up(), address(1), address(2)]);
        let plan = [device(), up(), address(3), address(2)];
        assert_eq!(
            system.change(&plan),
            [
                "remove address 192.0.0.1/32 from clat",
                "add address 192.0.0.3/32 to clat"
            ]
        );
        assert!(system.ledger.resources().eq(&plan), "in the plan's order");
    }

    #[test]
    fn a_failed_step_is_the_next_one_and_what_was_done_before_is_undone() {
        let mut system = System {
            fails: Some("add address 192.0.0.1/32 to clat".to_owned()),
            ..System::default()
        };
        let plan = [device(), up(), address(1), address(2)];
        assert_eq!(system.change(&plan).len(), 3);
        let again = system.change(&plan);
        assert_eq!(again, ["add address 192.0.0.1/32 to clat"]);
        assert_eq!(system.change(&[]), ["set clat down"]);
        system.fails = None;
        assert_eq!(system.change(&plan).len(), 4);
    }

    #[test]
    fn what_cannot_be_undone_stops_nothing() {
        let mut system = System::default();
        system.change(&[device(), up(), address(1)]);
        system.fails = Some("remove address 192.0.0.1/32 from clat".to_owned());
        assert_eq!(system.change(&[]).len(), 2);
        assert!(system.ledger.leaves_something());
    }

    /// There is no moment without the table.
    #[test]
    fn a_ruleset_is_replaced() {
        let mut system = System::default();
        let load = "load the nftables table inet xlatd_clat";
        let delete = "delete the nftables table inet xlatd_clat";
        let journal = "journal: ruleset xlatd_clat";
        assert_eq!(system.change(&[ruleset("one"), up()])[..2], [journal, load]);
        assert_eq!(system.change(&[ruleset("two"), up()]), [load]);
        assert!(system.ledger.resources().eq(&[ruleset("two"), up()]));
        assert_eq!(system.change(&[up()]), [delete]);
    }

    /// The journal has what a crash would leave, before it is there, and once.
    #[test]
    fn the_journal_is_written_first() {
        let mut system = System::default();
        let plan = [Resource::Sysctl(setting(LinkRef::new(2, "eth0")))];
        let set = "set net/ipv6/conf/eth0/force_forwarding to 1";
        let journal = "journal: sysctl net/ipv6/conf/eth0/force_forwarding 0 1 2";
        assert_eq!(system.change(&plan), [journal, set]);
        system.change(&[]);
        assert_eq!(system.change(&plan), [set]);
    }

    /// The kernel keeps the settings of a device that is renamed.
    #[test]
    fn a_setting_stays_with_a_renamed_device() {
        let mut system = System::default();
        let plan = |name| [Resource::Sysctl(setting(LinkRef::new(2, name)))];
        system.change(&plan("eth0"));
        let done = system.change(&plan("lan0"));
        assert!(!done.iter().any(|line| line.ends_with("to 0")), "{done:?}");
        let undone = system.change(&[]);
        assert_eq!(undone, ["set net/ipv6/conf/eth0/force_forwarding to 0"]);
    }

    #[test]
    fn repairs_are_limited() {
        let mut system = System::default();
        system.change(&[up(), address(1)]);
        let ledger = &mut system.ledger;
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        for (after, is_repaired) in [(0, true), (1, true), (2, true), (3, false), (9, false)] {
            let now = start + after * second;
            assert_eq!(ledger.found(&up(), false, now), is_repaired, "{after} s");
            if is_repaired {
                let (level, text) = ledger.repaired(&up(), None, now).unwrap();
                let keeps = after == 2;
                assert_eq!(level == Level::Warning, keeps, "{text}");
                assert_eq!(text.contains("keeps undoing"), keeps, "{text}");
            }
            assert_eq!(ledger.look_at().is_some(), !is_repaired);
        }
        assert_eq!(ledger.look_at(), Some(start + REPAIR_INTERVAL));
        // Each resource counts by itself.
        assert!(ledger.found(&address(1), false, start + 9 * second));
        // Then one in each interval.
        assert!(ledger.found(&up(), false, start + 10 * second));
        assert!(!ledger.found(&up(), false, start + 10 * second));
        assert_eq!(ledger.look_at(), Some(start + 20 * second));
        assert!(!ledger.found(&up(), true, start + 10 * second));
        assert_eq!(ledger.look_at(), None, "it is there");
        assert!(!ledger.found(&address(9), false, start), "it is not ours");
    }

    /// `xlatd status` and the metrics have the number of repairs that were successful.
    #[test]
    fn repairs_are_counted() {
        let mut system = System::default();
        system.change(&[up(), address(1)]);
        let ledger = &mut system.ledger;
        let now = Instant::now();
        assert_eq!(ledger.repairs(), 0);
        for (resource, failure, repairs) in [
            (up(), None, 1),
            (address(1), None, 2),
            (up(), Some("no"), 2),
            (up(), None, 3),
            (address(9), None, 3),
        ] {
            ledger.repaired(&resource, failure.map(str::to_owned), now);
            assert_eq!(ledger.repairs(), repairs, "{resource} {failure:?}");
        }
    }

    /// What a repair has to do again is the resource that it is about.
    #[test]
    fn a_failure_is_that_of_its_resource() {
        let mut system = System::default();
        system.change(&[up(), address(1)]);
        let ledger = &mut system.ledger;
        let now = Instant::now();
        ledger.repaired(&address(1), Some("no".to_owned()), now);
        assert_eq!(ledger.look_at(), Some(now + REPAIR_INTERVAL));
        assert!(!ledger.found(&up(), true, now));
        assert_eq!(ledger.look_at(), Some(now + REPAIR_INTERVAL));
        assert!(!ledger.found(&address(1), true, now));
        assert_eq!(ledger.look_at(), None);
    }

    #[test]
    fn a_repair_that_fails_is_tried_again_and_logged_once() {
        let mut system = System::default();
        system.change(&[up()]);
        let ledger = &mut system.ledger;
        let mut now = Instant::now();
        for (failure, logged) in [
            (Some("no"), Some(Level::Warning)),
            (Some("no"), None),
            (Some("never"), Some(Level::Warning)),
            (None, Some(Level::Info)),
            (Some("never"), Some(Level::Warning)),
        ] {
            assert!(ledger.found(&up(), false, now));
            let log = ledger.repaired(&up(), failure.map(str::to_owned), now);
            assert_eq!(log.map(|(level, _)| level), logged);
            let again = failure.map(|_| now + REPAIR_INTERVAL);
            assert_eq!(ledger.look_at(), again);
            now += REPAIR_INTERVAL;
        }
    }

    #[test]
    fn networkd_is_named_where_it_may_be_the_one() {
        let rule = Resource::Rule(crate::plan::Rule {
            from: IpPrefix::V4([192, 0, 0, 1].into(), 32),
            to: IpPrefix::V4([0, 0, 0, 0].into(), 0),
            mark: 0,
            by: None,
            table: 5,
            priority: 7,
        });
        let mut system = System::default();
        system.change(&[rule.clone(), up()]);
        for (resource, is_named) in [(rule, true), (up(), false)] {
            let now = Instant::now();
            let repairs = (0..3).map(|_| {
                assert!(system.ledger.found(&resource, false, now));
                system.ledger.repaired(&resource, None, now)
            });
            let (_, text) = repairs.last().unwrap().unwrap();
            assert_eq!(text.contains("networkd.conf"), is_named, "{text}");
        }
    }

    #[test]
    fn what_another_instance_needs_is_handed_over() {
        let restore = |link, before: &str| Undo::RestoreSysctl {
            set: setting(link),
            before: before.to_owned(),
        };
        let eth0 = || LinkRef::new(2, "eth0");
        let other = |lives, undo| Instance {
            journal: "/run/xlatd/clat2.steps".into(),
            lives,
            undos: vec![undo],
        };
        let all = || Undo::StopForwarding { routers: vec![] };
        let nft = || Undo::DeleteRuleset(Table::new(Family::Inet, "xlatd_clat"));
        for (undo, other, is_handed_over) in [
            (
                restore(eth0(), "0"),
                other(true, restore(eth0(), "1")),
                true,
            ),
            (
                restore(eth0(), "0"),
                other(false, restore(eth0(), "1")),
                false,
            ),
            (
                restore(eth0(), "0"),
                other(true, restore(LinkRef::new(3, "eth1"), "0")),
                false,
            ),
            (restore(eth0(), "0"), other(true, all()), false),
            // Each needs a host that forwards, also one that found it so.
            (all(), other(true, nft()), true),
            (all(), other(false, all()), false),
            (nft(), other(true, nft()), false),
        ] {
            let others = [other];
            let heir = heir(&undo, &others);
            assert_eq!(heir.is_some(), is_handed_over, "{undo}: {others:?}");
        }
    }
}
