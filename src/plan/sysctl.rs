//! Settings of network devices (Documentation/networking/ip-sysctl.rst of Linux).

use super::Effect;
use crate::link::LinkRef;

/// The setting of a device by which packets that come in by it are forwarded (Linux 6.17).
pub const FORCE_FORWARDING: &str = "force_forwarding";

/// The IPv4 setting of a device by which packets are dropped to whose source it does not lead:
/// 1 is strict, 2 asks for any device that does. The greater one of the device's and that of `all`
/// counts (RFC 3704 section 2).
pub const RP_FILTER: &str = "rp_filter";

/// A setting of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// The device.
    pub link: LinkRef,
    /// The name of the setting.
    pub name: String,
    /// The value to be written.
    pub value: String,
}

impl Sysctl {
    /// Its path below /proc/sys, by the name that the device has in the plan.
    pub fn path(&self) -> String {
        conf_path(&self.link.name, &self.name)
    }

    /// Whether it keeps the kernel from sending packets of its own by the TUN device.
    pub fn silences_tun(&self) -> bool {
        self.link.index == 0 && matches!(&*self.name, "addr_gen_mode" | "disable_ipv6")
    }

    /// The effect of writing the value where another one is found.
    pub fn apply(&self, found: &str) -> Effect {
        match found == self.value {
            true => Effect::Unchanged,
            false => Effect::Changed,
        }
    }

    /// The effect of writing the value of before where another one is found. A value that neither
    /// of both is another program's; and so is forwarding by a device once all devices are to
    /// forward, which another program has asked for.
    pub fn restore(&self, before: &str, found: &str, all_forward: bool) -> Effect {
        let is_wanted = self.name == FORCE_FORWARDING && before == "0" && all_forward;
        match found {
            found if found == before => Effect::Unchanged,
            found if found != self.value || is_wanted => Effect::LeftAlone,
            _ => Effect::Changed,
        }
    }

    /// Whether both are one setting of one device.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.link.is_same(&other.link)
    }
}

/// The path below /proc/sys of a setting of a device, or of `all` devices: one of IPv6, unless only
/// IPv4 has it.
pub fn conf_path(device: &str, name: &str) -> String {
    let family = match name {
        RP_FILTER => "ipv4",
        _ => "ipv6",
    };
    format!("net/{family}/conf/{device}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysctl(link: LinkRef, value: &str) -> Sysctl {
        Sysctl {
            link,
            name: FORCE_FORWARDING.to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn a_setting_is_restored_only_as_it_was_set() {
        let set = sysctl(LinkRef::new(2, "eth0"), "1");
        for (before, found, all_forward, effect) in [
            ("0", "1", false, Effect::Changed),
            ("0", "0", false, Effect::Unchanged),
            ("0", "2", false, Effect::LeftAlone),
            ("1", "1", false, Effect::Unchanged),
            // Another program wants this device to forward with all others.
            ("0", "1", true, Effect::LeftAlone),
            ("0", "0", true, Effect::Unchanged),
        ] {
            let found_effect = set.restore(before, found, all_forward);
            assert_eq!(found_effect, effect, "{before} {found} {all_forward}");
        }
        let other = Sysctl {
            name: "addr_gen_mode".to_owned(),
            ..set.clone()
        };
        assert_eq!(other.restore("0", "1", true), Effect::Changed);
        assert_eq!(set.apply("1"), Effect::Unchanged);
        assert_eq!(set.apply("0"), Effect::Changed);
    }

    /// The kernel sends no packets of its own by the TUN device, without a link-local address or
    /// without IPv6. Other settings, and those of other devices, are needed for more than that.
    #[test]
    fn the_tun_device_is_silent_by_two_settings() {
        for (link, name, is_silenced) in [
            (LinkRef::tun("clat"), "addr_gen_mode", true),
            (LinkRef::tun("clat"), "disable_ipv6", true),
            (LinkRef::tun("clat"), FORCE_FORWARDING, false),
            (LinkRef::tun("clat"), RP_FILTER, false),
            (LinkRef::new(2, "eth0"), "disable_ipv6", false),
            (LinkRef::new(2, "eth0"), FORCE_FORWARDING, false),
        ] {
            let setting = Sysctl {
                name: name.to_owned(),
                ..sysctl(link, "1")
            };
            assert_eq!(setting.silences_tun(), is_silenced, "{}", setting.path());
        }
    }

    /// Documentation/networking/ip-sysctl.rst: reverse path filtering is of IPv4 only.
    #[test]
    fn a_setting_has_a_path() {
        assert_eq!(conf_path("eth0", RP_FILTER), "net/ipv4/conf/eth0/rp_filter");
        assert_eq!(
            conf_path("all", "forwarding"),
            "net/ipv6/conf/all/forwarding"
        );
    }

    /// A device may get another name, or its name another device.
    #[test]
    fn a_setting_is_known_by_the_index_of_its_device() {
        let setting = |link| sysctl(link, "1");
        let eth0 = setting(LinkRef::new(2, "eth0"));
        assert!(eth0.is_same(&setting(LinkRef::new(2, "lan0"))));
        assert!(!eth0.is_same(&setting(LinkRef::new(3, "eth0"))));
        let other_setting = Sysctl {
            name: "disable_ipv6".to_owned(),
            ..eth0.clone()
        };
        assert!(!eth0.is_same(&other_setting));
        let tun = setting(LinkRef::tun("clat"));
        assert!(tun.is_same(&setting(LinkRef::tun("clat"))));
        assert!(!tun.is_same(&setting(LinkRef::tun("clat2"))));
        assert!(!tun.is_same(&eth0));
    }
}
