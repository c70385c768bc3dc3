//! All that a CLAT knows of itself, as data.

use std::{net::Ipv6Addr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Clat, HostSetup, Origin, Way, native::Native, source::Dedicated};
use crate::addr::Nat64Prefix;

/// How a CLAT is, and why. Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// The time since the state is this one.
    pub state_seconds: Option<u64>,
    /// Whether programs have IPv4, or there is no need of a CLAT.
    pub is_well: bool,
    /// The uplink, if there is one.
    pub uplink: Option<String>,
    /// The NAT64 prefix in use.
    pub prefix: Option<KnownPrefix>,
    /// The other prefixes that are known for the uplink.
    pub other_prefixes: Vec<KnownPrefix>,
    /// The IPv4 address of programs.
    pub host_v4: Option<String>,
    /// The translator's own IPv4 address.
    pub own_v4: Option<String>,
    /// The IPv6 source that packets leave with on the uplink.
    pub source: Option<Ipv6Addr>,
    /// How the source was chosen.
    pub source_choice: String,
    /// How packets get to the uplink: `direct`, `forwarded` or `shared`.
    pub way: Option<String>,
    /// The interface that has native IPv4, and since when.
    pub native: Option<NativeIpv4>,
    /// The time until something is done without an event.
    pub next_seconds: Option<u64>,
}

/// A NAT64 prefix that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPrefix {
    /// The prefix, as `64:ff9b::/96`.
    pub prefix: String,
    /// Where it comes from.
    pub origin: String,
    /// The router that has announced it.
    pub router: Option<Ipv6Addr>,
    /// The rest of its lifetime; `None`: it does not end.
    pub lifetime_seconds: Option<u64>,
    /// Whether it does not answer.
    pub is_silent: bool,
}

/// An interface with native IPv4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeIpv4 {
    /// The name of the interface.
    pub interface: String,
    /// The time since it is there, or since the CLAT steps aside for it.
    pub seconds: u64,
    /// Whether the CLAT steps aside for it.
    pub aside: bool,
}

impl Clat {
    /// How it is at this time.
    pub fn overview(&self, now: Duration) -> Overview {
        let uplink = self.uplink();
        let setup = self.host.asked();
        let known = uplink.map(|uplink| self.known_prefixes(uplink.index, now));
        let used = setup.map(|setup| setup.prefix);
        let used = used.or_else(|| {
            let found = self.discovery.prefix(&self.settings, uplink?, None, now)?;
            Some(found.0)
        });
        let is_used = |one: &(Nat64Prefix, KnownPrefix)| Some(one.0) == used;
        let (used, others): (Vec<_>, Vec<_>) =
            known.unwrap_or_default().into_iter().partition(is_used);
        let addresses = setup.map(|setup| setup.addresses);
        Overview {
            state_seconds: self.status_since.map(|since| seconds(since, now)),
            is_well: self.status.as_ref().is_some_and(super::Status::is_well),
            uplink: uplink.map(|uplink| uplink.name.clone()),
            prefix: used.into_iter().next().map(|(_, one)| one),
            other_prefixes: others.into_iter().map(|(_, one)| one).collect(),
            host_v4: addresses.map(|[host, _]| host.to_string()),
            own_v4: addresses.map(|[_, own]| own.to_string()),
            source: setup.map(|setup| setup.source),
            source_choice: self.source_choice(setup),
            way: setup.map(|setup| way(&setup.way).to_owned()),
            native: self.native_ipv4(now),
            next_seconds: self.deadline().map(|at| at.saturating_sub(now).as_secs()),
        }
    }

    /// The prefixes that may be used on a link, the best origin first.
    fn known_prefixes(&self, link: u32, now: Duration) -> Vec<(Nat64Prefix, KnownPrefix)> {
        let known = |prefix: Nat64Prefix, origin: Origin, router, until: Option<Duration>| {
            let is_silent = self.discovery.doubts.is_silent(link, prefix);
            let known = KnownPrefix {
                prefix: prefix.prefix().to_string(),
                origin: origin.to_string(),
                router,
                lifetime_seconds: until.map(|until| until.saturating_sub(now).as_secs()),
                is_silent,
            };
            (prefix, known)
        };
        let (configured, fallback) = (self.settings.prefix, self.settings.fallback);
        let configured = configured.map(|one| known(one, Origin::Configured, None, None));
        let found = self.discovery.candidates.on(link);
        let found =
            found.map(|(prefix, origin, router, until)| known(prefix, origin, router, Some(until)));
        let fallback = fallback.map(|one| known(one, Origin::Fallback, None, None));
        configured
            .into_iter()
            .chain(found)
            .chain(fallback)
            .collect()
    }

    /// How the source was chosen, in words.
    fn source_choice(&self, setup: Option<&HostSetup>) -> String {
        let in_use = match self.choice.state {
            Dedicated::Untried => "no address of its own has been tried yet".to_owned(),
            Dedicated::Detecting { address, .. } => {
                format!("testing that no other host has {address}")
            }
            Dedicated::ProbingHost { address, .. } | Dedicated::Probing { address, .. } => {
                format!("testing that the router forwards from {address}")
            }
            Dedicated::Ready(address) => {
                format!(
                    "{address} is for the CLAT alone (clat-v6-addr {})",
                    self.settings.source
                )
            }
            Dedicated::Unavailable(reason) => format!("the address of this host: {reason}"),
        };
        match setup {
            Some(setup) if !setup.way.is_dedicated() && self.choice.unavailable().is_none() => {
                format!(
                    "the address of this host (clat-v6-addr {})",
                    self.settings.source
                )
            }
            _ => in_use,
        }
    }

    fn native_ipv4(&self, now: Duration) -> Option<NativeIpv4> {
        let (interface, since, aside) = match &self.native {
            Native::Absent => return None,
            Native::Settling { interface, since } => (interface, since, false),
            Native::Aside {
                interface, since, ..
            } => (interface, since, true),
        };
        Some(NativeIpv4 {
            interface: interface.clone(),
            seconds: seconds(*since, now),
            aside,
        })
    }
}

fn seconds(since: Duration, now: Duration) -> u64 {
    now.saturating_sub(since).as_secs()
}

fn way(way: &Way) -> &'static str {
    match way {
        Way::Direct(_) => "direct",
        Way::Forwarded(_) => "forwarded",
        Way::Shared(_) => "shared",
    }
}
