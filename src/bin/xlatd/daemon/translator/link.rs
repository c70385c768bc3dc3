//! Changes of the device.

use log::{info, warn};
use xlatd::{plan, wire::ipv6::MIN_MTU};

use crate::{
    daemon::{
        options::translation_mtu,
        service::{Guest, Turn},
        translator::Daemon,
    },
    error::{Error, system},
    host::restore,
    sys::netlink::{Change, LinkState},
};

/// The maximum number of link messages read in a turn, so that a flood starves nothing else.
const MAX_CHANGES: usize = 64;

impl Daemon {
    /// Whether the device has its addresses and routes.
    pub(super) fn is_usable(&self) -> bool {
        is_usable(self.path.link())
    }

    /// Handles changes of the device: its name, its MTU, and whether it was down.
    pub(super) fn follow_link(&mut self, turn: &Turn<'_>) -> Result<(), Error> {
        let attempt = "read about links by netlink";
        let index = self.path.link().index;
        let mut changed = false;
        for _ in 0..MAX_CHANGES {
            match self.changes.next().map_err(system(attempt))? {
                None => break,
                Some(Change::To(links)) => {
                    for link in links.iter().filter(|link| link.index == index) {
                        changed = true;
                        self.was_unusable |= !is_usable(link);
                    }
                }
                Some(Change::Missed) => {
                    changed = true;
                    self.was_unusable = true; // the missed messages may have said so
                }
            }
        }
        // Messages may be outdated, so the current state is read. That the link was removed shows
        // when packets are read.
        if changed && let Some(link) = self.netlink.link_by_index(index).map_err(system(attempt))? {
            self.apply_link(link, turn)?;
        }
        Ok(())
    }

    /// Takes over the current state of the link, and restores addresses and routes that the kernel
    /// removed.
    fn apply_link(&mut self, link: LinkState, turn: &Turn<'_>) -> Result<(), Error> {
        let before = self.path.link().clone();
        let name = link.name.clone();
        let is_usable = is_usable(&link);
        self.path.set_link(link.clone());
        if name != before.name {
            info!("{} is now called {name}", before.name);
            self.config.tun_device.clone_from(&name);
        }
        if link.mtu != before.mtu {
            self.path.set_mtu(translation_mtu(link.mtu));
            if link.mtu < MIN_MTU.into() {
                warn!(
                    "{name}: IPv6 needs an MTU of at least {MIN_MTU} octets, and it is now {}",
                    link.mtu
                );
            } else {
                info!("{name} now has an MTU of {}", link.mtu);
            }
        }
        if link.up != before.up {
            let state = if link.up { "up" } else { "down" };
            info!("{name} is now {state}");
            turn.notify_status(&self.status());
        }
        if let Some(workers) = &mut self.workers {
            workers.set_link(&link)?;
        }
        if is_usable && std::mem::take(&mut self.was_unusable) {
            let plan = plan::setup(&self.config);
            let permitted = self.config.keep_net_admin;
            restore(&mut self.netlink, link.index, &plan, permitted);
        }
        Ok(())
    }
}

/// Whether a device keeps its addresses and routes. The kernel removes its routes and IPv6
/// addresses when it is down, and those of IPv6 when its MTU is less than IPv6 requires.
fn is_usable(link: &LinkState) -> bool {
    link.up && link.mtu >= MIN_MTU.into()
}
