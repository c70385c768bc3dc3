//! Watches the firewalls of others for chains that drop packets of the CLAT: nothing else would
//! show it.

use std::time::Instant;

use log::{debug, warn};
use xlatd::{
    clat::Rescan,
    link::LinkRef,
    plan::firewall::{Obstacle, Packet},
    report::status,
};

use crate::host::firewall::{Found, find_obstacles};

/// The chains that drop packets of the CLAT, as of the last look.
pub(crate) struct FirewallWatch {
    rescan: Rescan,
    /// Each with the commands that help.
    found: Vec<(Obstacle, String)>,
    /// The devices that packets are forwarded between: the TUN device, and the uplink.
    devices: Option<[LinkRef; 2]>,
}

impl FirewallWatch {
    pub(crate) fn new() -> Self {
        Self {
            rescan: Rescan::of_firewalls(),
            found: Vec::new(),
            devices: None,
        }
    }

    /// The time of the next look.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.rescan.deadline()
    }

    /// Sets between which devices packets are forwarded: the TUN device, and the uplink. `None`: no
    /// firewall is concerned.
    pub(crate) fn set_devices(&mut self, devices: Option<[LinkRef; 2]>, now: Instant) {
        if devices != self.devices {
            self.devices = devices;
            self.rescan.look_at(now);
        }
    }

    /// Takes notice that firewalls may have changed.
    pub(crate) fn changed(&mut self, now: Instant) {
        if self.devices.is_some() {
            self.rescan.changed(now);
        }
    }

    /// Looks at the firewalls if it is time to, and warns of those that have not been there before,
    /// with the commands that help. Returns whether there are others than before.
    pub(crate) fn look(&mut self, now: Instant) -> bool {
        if !self.rescan.is_due(now) {
            return false;
        }
        let Some([device, uplink]) = &self.devices else {
            return false;
        };
        let before = Instant::now();
        let Found { found, unread } = find_obstacles(&Packet::both_ways(device, uplink));
        unread.iter().for_each(|error| debug!("{error}"));
        self.rescan.took(before.elapsed());
        let with_commands = |obstacle: Obstacle| {
            let commands = obstacle.commands(&device.name, &uplink.name).join("; ");
            (obstacle, commands)
        };
        let found: Vec<_> = found.into_iter().map(with_commands).collect();
        for one in found.iter().filter(|one| !self.found.contains(one)) {
            let (Obstacle { chain, .. }, commands) = one;
            warn!("The {chain} drops forwarded packets. If IPv4 does not pass: {commands}");
        }
        let is_other = found != self.found;
        self.found = found;
        is_other
    }

    /// The chains that drop packets, as data.
    pub(crate) fn describe(&self) -> Vec<status::Firewall> {
        let found = self.found.iter().filter(|_| self.devices.is_some());
        found
            .map(|(obstacle, commands)| status::Firewall {
                chain: obstacle.chain.to_string(),
                commands: commands.clone(),
            })
            .collect()
    }

    /// The chains that drop packets, in words; `None`, if there is none.
    pub(crate) fn complaint(&self) -> Option<String> {
        self.devices.as_ref()?;
        let chains = self.found.iter().map(|(obstacle, _)| obstacle.to_string());
        let chains: Vec<_> = chains.collect();
        (!chains.is_empty()).then(|| chains.join(", and "))
    }
}
