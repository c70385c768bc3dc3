//! One thing that is done to the system, and its undo.

use std::fmt;

use crate::config::{self, IpPrefix};
use std::net::Ipv6Addr;

/// One thing done to the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Attach to the TUN device; make it if there is none of this name.
    CreateDevice {
        /// Its name, or a [format](config::is_name_format) of it.
        device: String,
    },
    /// Set the link administratively up.
    SetUp {
        /// Its name.
        device: String,
    },
    /// Set the link administratively down.
    SetDown {
        /// Its name.
        device: String,
    },
    /// Let so many packets wait for the translator.
    SetQueueLength {
        /// Its name.
        device: String,
        /// In packets.
        length: u32,
    },
    /// Give the device an address; the prefix length also makes a route to its neighbours.
    AddAddress {
        /// Its name.
        device: String,
        /// Host bits are part of it.
        address: IpPrefix,
    },
    /// Take an address away.
    RemoveAddress {
        /// Its name.
        device: String,
        /// As it was added.
        address: IpPrefix,
    },
    /// Give another device an address that no program is to use, for the kernel to detect whether another host has it.
    TryAddress {
        /// Its name.
        device: String,
        /// Its index.
        index: u32,
        /// As a host, with no network.
        address: Ipv6Addr,
    },
    /// Take it away.
    ForgetAddress {
        /// Name of the device.
        device: String,
        /// Its index.
        index: u32,
        /// As it was given.
        address: Ipv6Addr,
    },
    /// Route a prefix to the device, before other routes of the same destination and metric, which
    /// stay. The kernel refuses it (ENETDOWN) while the device is down.
    AddRoute {
        /// Its name.
        device: String,
        /// Without host bits: the kernel refuses them (EINVAL).
        destination: IpPrefix,
    },
    /// Take a route away.
    RemoveRoute {
        /// Its name.
        device: String,
        /// As it was added.
        destination: IpPrefix,
    },
    /// Set the largest packet that the device takes.
    SetMtu {
        /// Its name.
        device: String,
        /// In octets.
        mtu: u32,
    },
    /// Add a route to a table.
    AddTableRoute(Route),
    /// Take it away.
    RemoveTableRoute(Route),
    /// Have a table of routes looked through for some packets.
    AddRule(Rule),
    /// Have it no more.
    RemoveRule(Rule),
    /// Write a setting of the kernel.
    SetSysctl {
        /// Below /proc/sys.
        path: String,
        /// To be written.
        value: String,
        /// Only where it is this; always if it is `None`.
        only_if: Option<String>,
        /// Of the device that it is a setting of, should that have another name by then; zero: it has not.
        index: u32,
    },
    /// Have the host forward IPv6 between all devices, where the kernel cannot tell them apart. What each device is to
    /// routers, a host or a router itself, stays.
    ForwardAll,
    /// Have it do so no more, unless a device has become a router that is none of these: then somebody else wants it.
    ForwardNoMore {
        /// Names of devices that were routers before.
        routers: Vec<String>,
    },
    /// Have ufw(8) let pass what is forwarded from one device to another.
    AllowInUfw {
        /// The device that it comes in by.
        from: String,
        /// The device that it leaves by.
        to: String,
    },
    /// Have it do so no more.
    ForgetInUfw {
        /// As it was allowed.
        from: String,
        /// As it was allowed.
        to: String,
    },
    /// Load a table of rules into nftables, in the place of one of the same name.
    LoadRuleset {
        /// Of the table, of family inet.
        name: String,
        /// What is in it.
        text: String,
    },
    /// Take the table away.
    DeleteRuleset {
        /// Of the table, of family inet.
        name: String,
    },
}

/// A route of a CLAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Without host bits.
    pub destination: IpPrefix,
    /// Where it leads.
    pub target: Target,
    /// Of the table.
    pub table: u32,
    /// The lowest wins; zero is none.
    pub metric: u32,
    /// The largest packet, in octets.
    pub mtu: Option<u32>,
    /// The largest TCP segment that others are told, in octets.
    pub advmss: Option<u32>,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the TUN device, of this name.
    Device(String),
    /// To ourselves, as if a device had the address: its name and its index.
    Local(String, u32),
    /// Nowhere: packets are refused.
    Unreachable,
}

/// A rule of routing: for packets with all of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Source of the packets; `/0` is any.
    pub from: IpPrefix,
    /// Destination of the packets, of the same family; `/0` is any.
    pub to: IpPrefix,
    /// Their mark; zero is any.
    pub mark: u32,
    /// To be looked through.
    pub table: u32,
    /// The lowest is the first.
    pub priority: u32,
}

impl Step {
    /// Whether it does without the undo of another one that was taken: it takes its place.
    pub fn replaces(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::LoadRuleset { name, .. }, Self::LoadRuleset { name: other, .. }) => {
                name == other
            }
            _ => self.sets_the_same(other),
        }
    }

    /// Whether both set the same of the kernel, to whatever value.
    pub fn sets_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::SetSysctl { path, index, .. },
                Self::SetSysctl {
                    path: other,
                    index: of,
                    ..
                },
            ) => {
                let name = |path: &str| path.rsplit('/').next().map(str::to_owned);
                match (*index, *of) {
                    (0, _) | (_, 0) => path == other,
                    (index, of) => index == of && name(path) == name(other),
                }
            }
            (Self::ForwardNoMore { .. }, Self::ForwardNoMore { .. }) => true,
            _ => false,
        }
    }

    /// What makes this step undone. `None` for [`CreateDevice`](Self::CreateDevice): a device that was made goes with its
    /// descriptor, and takes addresses and routes along; one that was there before stays. `None` also for
    /// what sets a value: only who takes the step sees the one before.
    pub fn undo(&self) -> Option<Self> {
        Some(match self.clone() {
            Self::CreateDevice { .. }
            | Self::SetQueueLength { .. }
            | Self::SetMtu { .. }
            | Self::SetSysctl { .. }
            | Self::ForwardAll => return None,
            Self::ForwardNoMore { .. } => Self::ForwardAll,
            Self::AddTableRoute(route) => Self::RemoveTableRoute(route),
            Self::RemoveTableRoute(route) => Self::AddTableRoute(route),
            Self::AddRule(rule) => Self::RemoveRule(rule),
            Self::RemoveRule(rule) => Self::AddRule(rule),
            Self::LoadRuleset { name, .. } => Self::DeleteRuleset { name },
            Self::DeleteRuleset { .. } | Self::ForgetInUfw { .. } => return None,
            Self::AllowInUfw { from, to } => Self::ForgetInUfw { from, to },
            Self::SetUp { device } => Self::SetDown { device },
            Self::SetDown { device } => Self::SetUp { device },
            Self::AddAddress { device, address } => Self::RemoveAddress { device, address },
            Self::RemoveAddress { device, address } => Self::AddAddress { device, address },
            Self::TryAddress {
                device,
                index,
                address,
            } => Self::ForgetAddress {
                device,
                index,
                address,
            },
            Self::ForgetAddress { .. } => return None,
            Self::AddRoute {
                device,
                destination,
            } => Self::RemoveRoute {
                device,
                destination,
            },
            Self::RemoveRoute {
                device,
                destination,
            } => Self::AddRoute {
                device,
                destination,
            },
        })
    }
}

impl Step {
    /// The command by which an administrator takes this step (ip(8)).
    pub fn command(&self) -> String {
        match self {
            Self::CreateDevice { device } => format!("ip tuntap add dev {device} mode tun"),
            Self::SetUp { device } => format!("ip link set dev {device} up"),
            Self::SetDown { device } => format!("ip link set dev {device} down"),
            Self::SetQueueLength { device, length } => {
                format!("ip link set dev {device} txqueuelen {length}")
            }
            Self::AddAddress { device, address } => {
                format!("ip address add {address} dev {device}")
            }
            Self::RemoveAddress { device, address } => {
                format!("ip address delete {address} dev {device}")
            }
            Self::TryAddress {
                device, address, ..
            } => format!("ip address add {address}/128 dev {device} preferred_lft 0 noprefixroute"),
            Self::ForgetAddress {
                device, address, ..
            } => format!("ip address delete {address}/128 dev {device}"),
            Self::AddRoute {
                device,
                destination,
            } => format!("ip route add {destination} dev {device}"),
            Self::RemoveRoute {
                device,
                destination,
            } => format!("ip route delete {destination} dev {device}"),
            Self::SetMtu { device, mtu } => format!("ip link set dev {device} mtu {mtu}"),
            Self::AddTableRoute(route) => format!("ip route add {route}"),
            Self::RemoveTableRoute(route) => format!("ip route delete {route}"),
            Self::AddRule(rule) => format!("ip rule add {rule}"),
            Self::RemoveRule(rule) => format!("ip rule delete {rule}"),
            Self::SetSysctl { path, value, .. } => format!("sysctl -w {path}={value}"),
            Self::ForwardAll => "sysctl -w net/ipv6/conf/all/forwarding=1".to_owned(),
            Self::ForwardNoMore { .. } => "sysctl -w net/ipv6/conf/all/forwarding=0".to_owned(),
            Self::AllowInUfw { from, to } => {
                format!("ufw route prepend allow in on {from} out on {to}")
            }
            Self::ForgetInUfw { from, to } => {
                format!("ufw route delete allow in on {from} out on {to}")
            }
            Self::LoadRuleset { name, .. } => format!("nft list table inet {name}"),
            Self::DeleteRuleset { name } => format!("nft delete table inet {name}"),
        }
    }
}

impl fmt::Display for Step {
    /// For people, in the imperative: `add address 192.0.2.1/24 to nat64`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateDevice { device } if config::is_name_format(device) => {
                write!(f, "create {device}, with a number from the kernel")
            }
            Self::CreateDevice { device } => write!(f, "attach to {device}, or create it"),
            Self::SetUp { device } => write!(f, "set {device} up"),
            Self::SetDown { device } => write!(f, "set {device} down"),
            Self::SetQueueLength { device, length } => {
                write!(f, "let {length} packets wait in {device}")
            }
            Self::AddAddress { device, address } => {
                write!(f, "add address {address} to {device}")
            }
            Self::RemoveAddress { device, address } => {
                write!(f, "remove address {address} from {device}")
            }
            Self::TryAddress {
                device, address, ..
            } => write!(f, "try whether {address} can be used on {device}"),
            Self::ForgetAddress {
                device, address, ..
            } => write!(f, "take {address} from {device} again"),
            Self::AddRoute {
                device,
                destination,
            } => write!(f, "route {destination} to {device}"),
            Self::RemoveRoute {
                device,
                destination,
            } => write!(f, "remove the route {destination} to {device}"),
            Self::SetMtu { device, mtu } => write!(f, "set the MTU of {device} to {mtu}"),
            Self::AddTableRoute(route) => write!(f, "add route {route}"),
            Self::RemoveTableRoute(route) => write!(f, "remove route {route}"),
            Self::AddRule(rule) => write!(f, "add rule {rule}"),
            Self::RemoveRule(rule) => write!(f, "remove rule {rule}"),
            Self::SetSysctl { path, value, .. } => write!(f, "set {path} to {value}"),
            Self::ForwardAll => f.write_str("have all devices forward IPv6"),
            Self::ForwardNoMore { .. } => f.write_str("have no device forward IPv6 any more"),
            Self::AllowInUfw { from, to } => {
                write!(f, "have ufw let packets pass from {from} to {to}")
            }
            Self::ForgetInUfw { from, to } => {
                write!(f, "have ufw forget packets from {from} to {to}")
            }
            Self::LoadRuleset { name, .. } => write!(f, "load the nftables table inet {name}"),
            Self::DeleteRuleset { name } => write!(f, "delete the nftables table inet {name}"),
        }
    }
}

impl fmt::Display for Route {
    /// As ip-route(8) has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let destination = self.destination;
        match &self.target {
            Target::Device(device) => write!(f, "{destination} dev {device}")?,
            Target::Local(device, _) => write!(f, "local {destination} dev {device}")?,
            Target::Unreachable => write!(f, "unreachable {destination}")?,
        }
        write!(f, " table {}", self.table)?;
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        if let Some(advmss) = self.advmss {
            write!(f, " advmss {advmss}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    /// As ip-rule(8) has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from.length() {
            0 => write!(f, "from all")?,
            _ => write!(f, "from {}", self.from)?,
        }
        if self.to.length() != 0 {
            write!(f, " to {}", self.to)?;
        }
        if self.mark != 0 {
            write!(f, " fwmark {:#x}", self.mark)?;
        }
        write!(f, " lookup {} priority {}", self.table, self.priority)
    }
}
