//! What is to be done to the system, as data: ordered steps, each with its undo.
//!
//! `xlatd check` prints them, the daemon carries them out: what is shown is what happens.

mod clat;
pub mod record;

pub use clat::{
    Facts, allow_in_ufw, clat, clat_map, clat_translation, dropping_chains, force_forwarding,
    rules, ruleset, ruleset_name, trial,
};

use std::{
    fmt::{self, Write},
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use crate::{
    addr::Via,
    config::{self, Config, IpPrefix, Level, Notice},
    translate::{IcmpErrors, TrafficClass},
};

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

/// What is done to the system at the start, in this order.
///
/// The device is up before it gets routes, because the kernel has none by a device that is down. It is only set up where
/// `tun-up` says so: `tun-route` alone relies on a device that was set up before, as with tayga.
pub fn setup(config: &Config) -> Vec<Step> {
    let device = || config.tun_device.clone();
    let mut steps = vec![Step::CreateDevice { device: device() }];
    if let Some(length) = config.tun_queue_length {
        steps.push(Step::SetQueueLength {
            device: device(),
            length,
        });
    }
    if config.tun_up {
        steps.push(Step::SetUp { device: device() });
    }
    steps.extend(config.tun_ip.iter().map(|&address| Step::AddAddress {
        device: device(),
        address,
    }));
    steps.extend(config.tun_route.iter().map(|route| Step::AddRoute {
        device: device(),
        destination: route.network(),
    }));
    steps
}

/// A configuration as it was understood, for people: the settings, whose address is whose, and the steps that would be
/// taken. Ends with a newline.
pub fn describe(config: &Config, notices: &[Notice]) -> String {
    let mut text = String::new();
    section(&mut text, "Settings", &settings(config));
    section(&mut text, "Addresses", &addresses(config));
    let steps: Vec<_> = setup(config)
        .iter()
        .enumerate()
        .map(|(index, step)| [format!("{}.", index + 1), step.to_string()])
        .collect();
    section(&mut text, "Steps at the start", &steps);
    let notices: Vec<_> = notices
        .iter()
        .map(|notice| {
            let level = match notice.level {
                Level::Warning => "warning",
                Level::Info => "info",
            };
            let line = format!("line {}", notice.line);
            [line, level.to_owned(), notice.text.to_string()]
        })
        .collect();
    if !notices.is_empty() {
        section(&mut text, "Notices", &notices);
    }
    text
}

/// Every directive and its value, given or default.
fn settings(config: &Config) -> Vec<[String; 2]> {
    let translation = &config.translation;
    let yes_or_no = |on: bool| if on { "yes" } else { "no" }.to_owned();
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let path = |path: Option<&Path>| or_none(path.map(|path| path.display().to_string()));
    let class = |class| match class {
        TrafficClass::Copy => "copy".to_owned(),
        TrafficClass::Fixed(octet) => format!("{octet:#04x}"),
    };
    let list = |prefixes: &[IpPrefix], what| match prefixes {
        [] => "none".to_owned(),
        [one] => one.to_string(),
        many => counted(many.len(), what),
    };
    let log = config.log.to_string();
    [
        ("tun-device", config.tun_device.clone()),
        ("tun-up", yes_or_no(config.tun_up)),
        ("tun-ip", list(&config.tun_ip, "address")),
        ("tun-route", list(&config.tun_route, "route")),
        (
            "tun-queue-length",
            match config.tun_queue_length {
                Some(length) => format!("{length} packets"),
                None => "as it is".to_owned(),
            },
        ),
        ("keep-net-admin", yes_or_no(config.keep_net_admin)),
        ("offload", yes_or_no(config.offload)),
        ("sandbox", yes_or_no(config.sandbox)),
        ("ipv4-addr", config.ipv4_addr.to_string()),
        ("ipv6-addr", config.ipv6_addr.to_string()),
        ("prefix", or_none(config.prefix.map(|p| p.to_string()))),
        ("wkpf-strict", yes_or_no(config.wkpf_strict)),
        (
            "map",
            or_none((!config.maps.is_empty()).then(|| counted(config.maps.len(), "map"))),
        ),
        ("map-file", path(config.map_file.as_deref())),
        (
            "dynamic-pool",
            or_none(config.dynamic_pool.map(|pool| pool.to_string())),
        ),
        ("data-dir", path(config.data_dir.as_deref())),
        ("offlink-mtu", format!("{} octets", translation.offlink_mtu)),
        (
            "udp-cksum-mode",
            config::udp_checksum_word(translation.udp_checksum).to_owned(),
        ),
        ("traffic-class", class(translation.traffic_class)),
        ("tos", class(translation.tos)),
        ("hairpin", yes_or_no(translation.hairpin)),
        (
            "icmp-errors",
            match translation.icmp_errors {
                IcmpErrors::Off => "no".to_owned(),
                IcmpErrors::PerSecond(rate) => format!("{rate} a second"),
            },
        ),
        (
            "icmp-source",
            translation
                .icmp_source
                .unwrap_or(config.ipv4_addr)
                .to_string(),
        ),
        ("log", or_none((!log.is_empty()).then_some(log))),
    ]
    .map(|(name, value)| [name.to_owned(), value])
    .into()
}

/// Whose address is whose, in the order of precedence: IPv4, IPv6, and why.
fn addresses(config: &Config) -> Vec<[String; 3]> {
    /// More maps than this are only counted.
    const MAX_MAPS: usize = 20;
    let map = config.address_map();
    let row = |v4: &dyn fmt::Display, v6: &dyn fmt::Display, why: &str| {
        [v4.to_string(), v6.to_string(), why.to_owned()]
    };
    let mut rows = vec![row(&config.ipv4_addr, &config.ipv6_addr, "xlatd itself")];
    let shown = config.maps.iter().take(MAX_MAPS);
    rows.extend(shown.map(|eam| {
        let [v4, v6] = config::map_words(eam);
        [v4, v6, "map".to_owned()]
    }));
    if let Some(more @ 1..) = config.maps.len().checked_sub(MAX_MAPS) {
        rows.push(row(
            &"...",
            &"...",
            &format!("and {}", counted(more, "more map")),
        ));
    }
    if let Some(pool) = config.dynamic_pool {
        rows.push(row(&pool, &"any other host", "dynamic-pool"));
    }
    if let Some(prefix) = config.prefix {
        rows.push(row(&"all others", &prefix, "prefix"));
        // A documentation address, and one that wkpf-strict has nothing against: a.root-servers.net.
        let examples = [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 41, 0, 4)];
        for v4 in examples {
            if let Ok(mapped) = map.to_v6(v4)
                && mapped.via == Via::Prefix
            {
                rows.push(row(&v4, &mapped.address, "prefix, for example"));
                break;
            }
        }
        if prefix.is_well_known() && config.wkpf_strict {
            rows.push(row(&"private ones", &"none", "wkpf-strict"));
        }
    }
    rows
}

/// `1 map`, `2 maps`, `2 addresses`
fn counted(count: usize, what: &str) -> String {
    let plural = match count {
        1 => "",
        _ if what.ends_with('s') => "es",
        _ => "s",
    };
    format!("{count} {what}{plural}")
}

/// A heading, and rows in aligned columns.
fn section<const N: usize>(text: &mut String, heading: &str, rows: &[[String; N]]) {
    /// As long as the longest prefix. The last column, which may be of any length, is not padded.
    const MAX_WIDTH: usize = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128".len();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(|column| match column + 1 {
        last if last == N => 0,
        _ => width(column).min(MAX_WIDTH),
    });
    let blank_line = if text.is_empty() { "" } else { "\n" };
    // Writing to a String does not fail.
    let _ = writeln!(text, "{blank_line}{heading}:");
    for row in rows {
        for (word, width) in row.iter().zip(widths) {
            let _ = write!(text, "  {word:width$}");
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails to read fails")]

    use super::*;

    fn config(text: &str) -> (Config, Vec<Notice>) {
        let text = format!("tun-device nat64\nipv4-addr 192.0.2.254\n{text}");
        Config::read(text).unwrap()
    }

    fn steps(text: &str) -> Vec<String> {
        let (config, _) = config(text);
        setup(&config).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_is_asked_for_is_done() {
        assert_eq!(
            steps("prefix 2001:db8::/96"),
            ["attach to nat64, or create it"]
        );
    }

    /// dev_alloc_name of Linux: the device has another name than the configuration says.
    #[test]
    fn the_number_of_a_device_is_the_kernels() {
        let (mut config, _) = config("prefix 2001:db8::/96\ntun-up yes");
        config.tun_device = "nat%d".to_owned();
        let steps = setup(&config)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        assert_eq!(steps[0], "create nat%d, with a number from the kernel");
    }

    /// The kernel refuses routes by a device that is down, and routes with host bits.
    #[test]
    fn the_device_is_up_before_its_routes() {
        assert_eq!(
            steps(
                "prefix 2001:db8::/96\n\
                 tun-route 192.0.2.7/24\n\
                 tun-route 2001:db8::1/32\n\
                 tun-ip 192.0.2.1/24\n\
                 tun-ip 2001:db8:1::1\n\
                 tun-up yes\n"
            ),
            [
                "attach to nat64, or create it",
                "set nat64 up",
                "add address 192.0.2.1/24 to nat64",
                "add address 2001:db8:1::1/128 to nat64",
                "route 192.0.2.0/24 to nat64",
                "route 2001:db8::/32 to nat64",
            ]
        );
    }

    #[test]
    fn tun_route_does_not_set_the_device_up() {
        assert_eq!(
            steps("prefix 2001:db8::/96\ntun-route 192.0.2.0/24"),
            [
                "attach to nat64, or create it",
                "route 192.0.2.0/24 to nat64"
            ]
        );
    }

    #[test]
    fn an_undo_is_undone_by_its_step() {
        let (config, _) =
            config("prefix 2001:db8::/96\ntun-up yes\ntun-ip 192.0.2.1\ntun-route ::/0");
        let steps = setup(&config);
        let undos: Vec<_> = steps.iter().filter_map(Step::undo).collect();
        assert_eq!(
            undos.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "set nat64 down",
                "remove address 192.0.2.1/32 from nat64",
                "remove the route ::/0 to nat64",
            ]
        );
        let again: Vec<_> = undos.iter().filter_map(Step::undo).collect();
        assert_eq!(again, steps[1..], "a device goes with its descriptor");
    }

    #[test]
    fn a_description_shows_all_there_is() {
        let (config, notices) = config(
            "prefix 64:ff9b::/96\n\
             ipv6-addr 2001:db8:46::1\n\
             map 192.0.2.1 2001:db8:aaaa::80\n\
             map 192.0.2.16/28 2001:db8:cccc::/124\n\
             tun-up yes\n\
             tun-route 192.0.2.0/24\n\
             tun-route 64:ff9b::/96\n\
             strict-frag-hdr on\n",
        );
        assert_eq!(
            describe(&config, &notices),
            "\
Settings:
  tun-device        nat64
  tun-up            yes
  tun-ip            none
  tun-route         2 routes
  tun-queue-length  as it is
  keep-net-admin    no
  offload           yes
  sandbox           yes
  ipv4-addr         192.0.2.254
  ipv6-addr         2001:db8:46::1
  prefix            64:ff9b::/96
  wkpf-strict       yes
  map               2 maps
  map-file          none
  dynamic-pool      none
  data-dir          none
  offlink-mtu       1280 octets
  udp-cksum-mode    drop
  traffic-class     copy
  tos               copy
  hairpin           yes
  icmp-errors       1000 a second
  icmp-source       192.0.2.254
  log               none

Addresses:
  192.0.2.254    2001:db8:46::1       xlatd itself
  192.0.2.1      2001:db8:aaaa::80    map
  192.0.2.16/28  2001:db8:cccc::/124  map
  all others     64:ff9b::/96         prefix
  198.41.0.4     64:ff9b::c629:4      prefix, for example
  private ones   none                 wkpf-strict

Steps at the start:
  1.  attach to nat64, or create it
  2.  set nat64 up
  3.  route 192.0.2.0/24 to nat64
  4.  route 64:ff9b::/96 to nat64

Notices:
  line 10  warning  strict-frag-hdr is ignored
"
        );
    }

    /// A directive that is added is not forgotten here; the two that change nothing are not settings.
    #[test]
    fn every_directive_has_a_setting() {
        let (config, _) = config("prefix 2001:db8::/96");
        let mut names: Vec<_> = settings(&config)
            .into_iter()
            .map(|[name, _]| name)
            .collect();
        names.extend(["workers", "strict-frag-hdr"].map(str::to_owned));
        names.sort();
        let mut directives = config::DIRECTIVES.map(str::to_owned);
        directives.sort();
        assert_eq!(names, directives);
    }

    #[test]
    fn a_description_of_many_maps_is_short() {
        let maps: String = (0..1000)
            .map(|host| {
                format!(
                    "map 10.0.{}.{} 2001:db8::{host:x}\n",
                    host / 256,
                    host % 256
                )
            })
            .collect();
        let (config, notices) = config(&format!("ipv6-addr 2001:db8:1::1\n{maps}"));
        let text = describe(&config, &notices);
        assert!(text.lines().count() < 60, "{text}");
        assert!(text.contains("and 980 more maps"), "{text}");
    }

    /// A width of over 65535 is not one that Rust can pad to.
    #[test]
    fn a_value_may_be_of_any_length() {
        let path = "x".repeat(100_000);
        let (config, notices) = config(&format!("prefix 2001:db8::/96\nmap-file {path}\n"));
        assert!(describe(&config, &notices).contains(&path));
    }
}
