//! Forwarding of IPv6 by the host (Documentation/networking/ip-sysctl.rst of Linux): whether the
//! host is a router, and how it begins and ends to forward.
//!
//! Before Linux 6.17 the host forwards between all devices or none. To switch that on also makes
//! each device a router's, which forgets its default routes and ignores Router Advertisements; to
//! switch it off makes each device a host's, also if it was a router's before. So each device is
//! set back to what it was.

use super::{FORCE_FORWARDING, Sysctl, Undo, conf_path};
use crate::link::LinkRef;

/// What forwards, as the settings of the kernel say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// Whether the uplink is a router's: its `forwarding`.
    pub uplink: bool,
    /// Whether packets that come in by the uplink are forwarded: its `force_forwarding`.
    pub by_uplink: bool,
    /// Whether the host forwards between all devices: `forwarding` of `all`.
    pub all: bool,
    /// Whether packets are forwarded whatever they come in by: `force_forwarding` of `all`.
    pub by_all: bool,
}

impl Forwarding {
    /// Whether the host is a router for another reason than a CLAT on it.
    ///
    /// `undos` gives what is known of CLATs: what this one, and others that live or were killed,
    /// have to undo; `None` if nothing of that can be known: the host is then taken for none.
    pub fn is_router(self, uplink: &LinkRef, undos: impl FnOnce() -> Option<Vec<Undo>>) -> bool {
        if self.uplink || self.by_all {
            return true;
        }
        if !self.by_uplink && !self.all {
            return false;
        }
        let Some(undos) = undos() else {
            return false;
        };
        let is_by_clat = |wanted: Undo| {
            let mut undos = undos.iter();
            undos.any(|undo| undo.shares(&wanted) && undo.changes())
        };
        let by_uplink = Undo::RestoreSysctl {
            set: force_forwarding(uplink.clone()),
            before: String::new(),
        };
        let all = Undo::StopForwarding {
            routers: Vec::new(),
        };
        self.by_uplink && !is_by_clat(by_uplink) || self.all && !is_by_clat(all)
    }
}

/// The setting that has packets forwarded which come in by a device.
pub(super) fn force_forwarding(link: LinkRef) -> Sysctl {
    Sysctl {
        link,
        name: FORCE_FORWARDING.to_owned(),
        value: "1".to_owned(),
    }
}

/// The settings of a device that change when the host begins or ends to forward. `None` if it has
/// no such setting any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name; `default` stands for those to come.
    pub name: String,
    /// Whether it listens to Router Advertisements.
    pub accept_ra: Option<String>,
    /// Whether it is a router's.
    pub forwarding: Option<String>,
}

/// A value to be written to a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The path of the setting below /proc/sys.
    pub path: String,
    /// The value.
    pub value: String,
}

impl Write {
    fn new(device: &str, name: &str, value: &str) -> Self {
        Self {
            path: conf_path(device, name),
            value: value.to_owned(),
        }
    }

    /// Whether it is the one that has the host forward or not.
    pub fn is_of_all(&self) -> bool {
        self.path == conf_path("all", "forwarding")
    }
}

/// The writes that have the host forward, or not, while each device stays a host's or a router's.
pub fn switch(on: bool, devices: &[Device]) -> Vec<Write> {
    let mut writes = Vec::new();
    // A router that accepts advertisements all the same (2) keeps its default routes.
    let accept_ra = devices.iter().filter_map(|device| {
        let value = device.accept_ra.as_deref().filter(|value| *value == "1")?;
        Some((&device.name, value))
    });
    writes.extend(
        accept_ra
            .clone()
            .map(|(name, _)| Write::new(name, "accept_ra", "2")),
    );
    writes.push(Write::new("all", "forwarding", if on { "1" } else { "0" }));
    writes.extend(devices.iter().filter_map(|device| {
        let before = device.forwarding.as_deref()?;
        Some(Write::new(&device.name, "forwarding", before))
    }));
    writes.extend(accept_ra.map(|(name, before)| Write::new(name, "accept_ra", before)));
    writes
}

/// Whether another program wants the host to forward: a device is a router's now that was none
/// before.
pub fn is_wanted_by_others(routers: &[String], before: &[String]) -> bool {
    routers.iter().any(|device| !before.contains(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uplink() -> LinkRef {
        LinkRef::new(2, "eth0")
    }

    fn by_uplink(link: LinkRef, before: &str) -> Undo {
        Undo::RestoreSysctl {
            set: force_forwarding(link),
            before: before.to_owned(),
        }
    }

    fn all() -> Undo {
        Undo::StopForwarding {
            routers: vec!["br0".to_owned()],
        }
    }

    #[test]
    fn a_router_is_told_from_a_host_with_a_clat() {
        let none = Forwarding::default();
        let uplink_only = Forwarding {
            uplink: true,
            ..none
        };
        let by_uplink_only = Forwarding {
            by_uplink: true,
            ..none
        };
        let all_only = Forwarding { all: true, ..none };
        let by_all_only = Forwarding {
            by_all: true,
            ..none
        };
        let both = Forwarding {
            all: true,
            ..by_uplink_only
        };
        let ours = by_uplink(uplink(), "0");
        for (forwarding, undos, is_router) in [
            (none, vec![], false),
            (uplink_only, vec![ours.clone(), all()], true),
            (by_all_only, vec![ours.clone(), all()], true),
            (by_uplink_only, vec![], true),
            (by_uplink_only, vec![ours.clone()], false),
            // The device has got another name since.
            (
                by_uplink_only,
                vec![by_uplink(LinkRef::new(2, "lan0"), "0")],
                false,
            ),
            (
                by_uplink_only,
                vec![by_uplink(LinkRef::new(3, "eth0"), "0")],
                true,
            ),
            // It was so before the CLAT came.
            (by_uplink_only, vec![by_uplink(uplink(), "1")], true),
            (all_only, vec![ours.clone()], true),
            (all_only, vec![all()], false),
            (both, vec![all()], true),
            (both, vec![ours, all()], false),
        ] {
            let found = forwarding.is_router(&uplink(), || Some(undos.clone()));
            assert_eq!(found, is_router, "{forwarding:?} {undos:?}");
        }
        // Without a journal, what a killed CLAT has left looks the same.
        assert!(!both.is_router(&uplink(), || None));
        assert!(uplink_only.is_router(&uplink(), || None));
    }

    #[test]
    fn devices_stay_what_they_are() {
        let device = |name: &str, accept_ra: &str, forwarding: &str| Device {
            name: name.to_owned(),
            accept_ra: Some(accept_ra.to_owned()),
            forwarding: Some(forwarding.to_owned()),
        };
        let gone = Device {
            name: "gone".to_owned(),
            accept_ra: None,
            forwarding: None,
        };
        let devices = [device("eth0", "1", "0"), device("br0", "0", "1"), gone];
        for (on, value) in [(true, "1"), (false, "0")] {
            let writes = switch(on, &devices);
            let expected = [
                Write::new("eth0", "accept_ra", "2"),
                Write::new("all", "forwarding", value),
                Write::new("eth0", "forwarding", "0"),
                Write::new("br0", "forwarding", "1"),
                Write::new("eth0", "accept_ra", "1"),
            ];
            assert_eq!(writes, expected);
            assert_eq!(writes.iter().filter(|write| write.is_of_all()).count(), 1);
        }
    }

    #[test]
    fn a_new_router_wants_the_host_to_forward() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (now, before, is_wanted) in [
            (&[][..], &[][..], false),
            (&["br0"], &["br0"], false),
            (&[], &["br0"], false),
            (&["br0"], &[], true),
            (&["br0", "eth1"], &["br0"], true),
        ] {
            assert_eq!(is_wanted_by_others(&names(now), &names(before)), is_wanted);
        }
    }
}
