//! How a daemon is, as data: what it answers by its control socket, and what `xlatd status --json`
//! prints. Times are in seconds, sizes in octets.

mod packets;
mod text;

use std::{
    hash::Hasher,
    net::{Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

pub use text::{changes, text};

use crate::{addr::AddressMap, clat::Overview};

/// The kind of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A translator, configured by tayga.conf.
    Translator,
    /// A CLAT.
    Clat,
}

/// How a daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What it is.
    pub kind: Kind,
    /// Whether it does what it is for: the device is up, and programs of a CLAT have IPv4.
    pub works: bool,
    /// Its state in one line.
    pub state: String,
    /// The program that runs.
    pub process: Process,
    /// The file that it was configured by; `None`: there is none.
    pub configuration: Option<ReadFile>,
    /// The TUN device; `None`: a CLAT has none now.
    pub device: Option<Device>,
    /// The translator's own IPv4 address.
    pub ipv4_addr: Option<Ipv4Addr>,
    /// The translator's own IPv6 address.
    pub ipv6_addr: Option<Ipv6Addr>,
    /// The NAT64 prefix, as `64:ff9b::/96`.
    pub prefix: Option<String>,
    /// The explicit mappings.
    pub maps: Maps,
    /// The pool of `dynamic-pool`.
    pub pool: Option<Pool>,
    /// The packets so far, of all workers; `None`: a CLAT has not translated any.
    pub packets: Option<Packets>,
    /// The workers, the first one first; none if there is only that.
    #[serde(default)]
    pub workers: Vec<Worker>,
    /// What only a CLAT has.
    pub clat: Option<Clat>,
}

/// A process that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The version of xlatd.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// The time since it was started.
    pub uptime_seconds: u64,
    /// User, group and capabilities, in words.
    pub privileges: String,
    /// The sandbox, in words.
    pub sandbox: String,
}

/// A worker: a process with a queue of the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// The process id.
    pub pid: u32,
    /// Whether it has answered in time; otherwise its packets are those of its last answer.
    pub answers: bool,
    /// Its packets so far.
    pub packets: Packets,
}

/// A file as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadFile {
    /// Its path.
    pub path: String,
    /// The time since it was read.
    pub read_seconds: u64,
    /// Its [`fingerprint`], by which it is seen whether it has changed.
    pub fingerprint: String,
    /// Whether it has changed since; `None`: not known. The daemon itself does not look.
    pub changed: Option<bool>,
}

/// The TUN device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// Its MTU.
    pub mtu: u32,
    /// What the kernel leaves to be done, in words.
    pub offload: String,
}

/// The explicit mappings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maps {
    /// Their number, with those of the map-file.
    pub count: u64,
    /// The map-file.
    pub file: Option<ReadFile>,
}

/// A dynamic pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The pool, as `192.168.255.0/24`.
    pub prefix: String,
    /// The number of addresses that can be lent.
    pub size: u64,
    /// The number of those that are in use.
    pub in_use: u64,
    /// The number of those that are kept for a host that is silent.
    pub dormant: u64,
    /// Packets of hosts that got no address.
    pub refused: u64,
}

/// The packets so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packets {
    /// From IPv4 to IPv6.
    pub four_to_six: Traffic,
    /// From IPv6 to IPv4.
    pub six_to_four: Traffic,
    /// Packets of neither family. All were dropped.
    pub neither: u64,
    /// ICMP messages of its own that were not sent, for a limit.
    pub suppressed_messages: u64,
    /// Lines of the packet log that were not written, for a limit.
    pub suppressed_lines: u64,
    /// Packets that the kernel did not take.
    pub rejected: u64,
}

/// The packets of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets that were translated. A super-packet is one.
    pub packets: u64,
    /// Their octets, as they came in.
    pub octets: u64,
    /// Super-packets among them.
    pub super_packets: u64,
    /// Packets that were joined to one before.
    pub joined: u64,
    /// Packets among them that were fragmented.
    pub fragmented: u64,
    /// The fragments that were made of them.
    pub fragments: u64,
    /// Packets to the translator itself that it answered.
    pub answered: u64,
    /// ICMP errors that were sent to senders of packets of this direction.
    pub icmp_errors: u64,
    /// What was dropped: reasons that have not occurred are left out.
    pub dropped: Vec<Dropped>,
}

/// The packets that were dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// A word for the reason; those of all versions are the same.
    pub reason: String,
    /// The reason in words.
    pub text: String,
    /// The rule that decides, as `RFC 7915 section 5.1`.
    pub rule: String,
    /// The number of packets.
    pub count: u64,
    /// The last of them.
    pub last: Option<LastPacket>,
}

/// A packet that was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastPacket {
    /// Addresses, length, protocol and ports, as in the packet log.
    pub packet: String,
    /// The time since it came.
    pub age_seconds: u64,
}

/// What only a CLAT has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clat {
    /// What it knows.
    #[serde(flatten)]
    pub overview: Overview,
    /// The set-up of the host, a resource a line.
    pub set_up: Vec<String>,
    /// Repairs of the set-up so far.
    pub repairs: u64,
    /// Why the host could not be set up, if it could not.
    pub failure: Option<String>,
    /// Firewalls that drop packets of the CLAT, with the commands that help.
    pub firewalls: Vec<Firewall>,
}

/// A chain that drops packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// The chain, in words.
    pub chain: String,
    /// The commands that let the packets pass.
    pub commands: String,
}

/// A fingerprint of the octets of a file: another one for another text, and no secret.
pub fn fingerprint(octets: &[u8]) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(octets);
    format!("{:016x}", hasher.finish())
}

impl Pool {
    /// The pool of a map, if it has one; `refused`: packets of hosts that got no address.
    pub fn of(map: &AddressMap, refused: u64) -> Option<Self> {
        let pool = map.pool()?;
        let (in_use, dormant) = pool.counts();
        Some(Self {
            prefix: pool.prefix().to_string(),
            size: pool.size(),
            in_use: in_use as u64,
            dormant: dormant as u64,
            refused,
        })
    }
}
