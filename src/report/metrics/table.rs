//! Every metric, a row each: its name, kind, unit and labels, and what its samples are.

use super::super::status::{Clat, Kind as DaemonKind, Packets, ReadFile, Status, Traffic};
use crate::translate::{Direction, DropReason};

/// A daemon that was asked how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The name of its device, by which it was asked: the label `device`.
    pub device: String,
    /// Its answer; `None`: there was none.
    pub status: Option<Status>,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only increases, until the daemon is started again.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Always 1: its labels say something.
    Info,
}

/// The unit of a metric: it ends its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things, or 0 and 1 for no and yes.
    None,
    /// Octets.
    Bytes,
    /// Seconds.
    Seconds,
}

/// A metric: what samples of all daemons have in common.
#[derive(Debug)]
pub struct Metric {
    /// Its name, without unit and suffix.
    pub(super) stem: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// Its labels after `device`.
    pub(super) labels: &'static [&'static str],
    /// What it is, in a sentence.
    pub help: &'static str,
    pub(super) samples: Samples,
}

/// Takes a sample: the values of labels after `device`, and the value of the metric.
pub(super) type Put<'a> = &'a mut dyn FnMut(&[&str], u64);

/// Where samples come from.
#[derive(Debug)]
pub(super) enum Samples {
    /// One of all daemons together, which has no labels.
    Together(fn(&[Asked]) -> u64),
    /// One of each daemon that was asked.
    Each(fn(&Asked) -> u64),
    /// Any number of each daemon that has answered.
    Answered(fn(&Status, Put<'_>)),
}

impl Metric {
    /// The name of its samples.
    pub fn name(&self) -> String {
        let unit = match self.unit {
            Unit::None => "",
            Unit::Bytes => "_bytes",
            Unit::Seconds => "_seconds",
        };
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
            Kind::Info => "_info",
        };
        format!("{}{unit}{suffix}", self.stem)
    }

    /// The names of its labels.
    pub fn labels(&self) -> Vec<&'static str> {
        match self.samples {
            Samples::Together(_) => Vec::new(),
            _ => [&["device"], self.labels].concat(),
        }
    }
}

const fn row(
    stem: &'static str,
    kind: Kind,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
    samples: Samples,
) -> Metric {
    Metric {
        stem,
        kind,
        unit,
        labels,
        help,
        samples,
    }
}

/// A gauge of each daemon that has answered, where there is one.
const fn gauge(
    stem: &'static str,
    unit: Unit,
    help: &'static str,
    samples: fn(&Status, Put<'_>),
) -> Metric {
    row(
        stem,
        Kind::Gauge,
        unit,
        &[],
        help,
        Samples::Answered(samples),
    )
}

/// A counter of each daemon that has answered.
const fn counter(
    stem: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&Status, Put<'_>),
) -> Metric {
    row(
        stem,
        Kind::Counter,
        Unit::None,
        labels,
        help,
        Samples::Answered(samples),
    )
}

/// A piece of information about each daemon that has answered.
const fn info(
    stem: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&Status, Put<'_>),
) -> Metric {
    row(
        stem,
        Kind::Info,
        Unit::None,
        labels,
        help,
        Samples::Answered(samples),
    )
}

const DIRECTION: &[&str] = &["direction"];

/// Every metric, in the order in which they are printed.
pub const METRICS: &[Metric] = &[
    row(
        "xlatd_daemons",
        Kind::Gauge,
        Unit::None,
        &[],
        "The number of translators and CLATs that answer.",
        Samples::Together(|asked| asked.iter().filter(|one| one.status.is_some()).count() as u64),
    ),
    row(
        "xlatd_up",
        Kind::Gauge,
        Unit::None,
        &[],
        "Whether the daemon answers; 0 also where a crash has left its socket.",
        Samples::Each(|one| one.status.is_some().into()),
    ),
    gauge(
        "xlatd_works",
        Unit::None,
        "Whether the device is up and, for a CLAT, programs have IPv4.",
        |status, put| put(&[], status.works.into()),
    ),
    info(
        "xlatd_daemon",
        &["kind", "version"],
        "The daemon: a translator or a clat, and its version.",
        |status, put| {
            let kind = match status.kind {
                DaemonKind::Translator => "translator",
                DaemonKind::Clat => "clat",
            };
            put(&[kind, &status.process.version], 1);
        },
    ),
    gauge(
        "xlatd_uptime",
        Unit::Seconds,
        "The time since the daemon was started.",
        |status, put| put(&[], status.process.uptime_seconds),
    ),
    gauge(
        "xlatd_configuration_age",
        Unit::Seconds,
        "The time since the configuration was read.",
        |status, put| age(status.configuration.as_ref(), put),
    ),
    gauge(
        "xlatd_configuration_changed",
        Unit::None,
        "Whether the configuration file has changed since it was read.",
        |status, put| changed(status.configuration.as_ref(), put),
    ),
    gauge(
        "xlatd_device_up",
        Unit::None,
        "Whether the TUN device is up.",
        |status, put| maybe(status.device.as_ref().map(|device| device.up.into()), put),
    ),
    gauge(
        "xlatd_device_mtu",
        Unit::Bytes,
        "The MTU of the TUN device.",
        |status, put| maybe(status.device.as_ref().map(|device| device.mtu.into()), put),
    ),
    info(
        "xlatd_prefix",
        &["prefix", "origin"],
        "The NAT64 prefix in use, and where it comes from.",
        |status, put| {
            let known = clat(status).and_then(|clat| clat.overview.prefix.as_ref());
            match (known, &status.prefix) {
                (Some(known), _) => put(&[&known.prefix, &known.origin], 1),
                (None, Some(prefix)) if status.clat.is_none() => put(&[prefix, "prefix"], 1),
                _ => {}
            }
        },
    ),
    gauge(
        "xlatd_maps",
        Unit::None,
        "The number of explicit mappings, with those of the map-file.",
        |status, put| put(&[], status.maps.count),
    ),
    gauge(
        "xlatd_map_file_age",
        Unit::Seconds,
        "The time since the map-file was read.",
        |status, put| age(status.maps.file.as_ref(), put),
    ),
    gauge(
        "xlatd_map_file_changed",
        Unit::None,
        "Whether the map-file has changed since it was read.",
        |status, put| changed(status.maps.file.as_ref(), put),
    ),
    gauge(
        "xlatd_pool_addresses",
        Unit::None,
        "The number of addresses that the dynamic-pool can lend.",
        |status, put| maybe(status.pool.as_ref().map(|pool| pool.size), put),
    ),
    gauge(
        "xlatd_pool_addresses_in_use",
        Unit::None,
        "The number of addresses of the pool that are in use.",
        |status, put| maybe(status.pool.as_ref().map(|pool| pool.in_use), put),
    ),
    gauge(
        "xlatd_pool_addresses_dormant",
        Unit::None,
        "The number of addresses of the pool that are kept for a host that is silent.",
        |status, put| maybe(status.pool.as_ref().map(|pool| pool.dormant), put),
    ),
    counter(
        "xlatd_pool_packets_refused",
        &[],
        "Packets of hosts that got no address of the pool.",
        |status, put| maybe(status.pool.as_ref().map(|pool| pool.refused), put),
    ),
    counter(
        "xlatd_packets_translated",
        DIRECTION,
        "Packets that were translated; a super-packet is one.",
        |status, put| directions(status, |traffic| traffic.packets, put),
    ),
    row(
        "xlatd_translated",
        Kind::Counter,
        Unit::Bytes,
        DIRECTION,
        "Octets of the packets that were translated, as they came in.",
        Samples::Answered(|status, put| directions(status, |traffic| traffic.octets, put)),
    ),
    counter(
        "xlatd_super_packets",
        DIRECTION,
        "Super-packets among those that were translated.",
        |status, put| directions(status, |traffic| traffic.super_packets, put),
    ),
    counter(
        "xlatd_packets_joined",
        DIRECTION,
        "Packets that were joined to one before.",
        |status, put| directions(status, |traffic| traffic.joined, put),
    ),
    counter(
        "xlatd_packets_fragmented",
        DIRECTION,
        "Packets that were fragmented.",
        |status, put| directions(status, |traffic| traffic.fragmented, put),
    ),
    counter(
        "xlatd_fragments",
        DIRECTION,
        "Fragments that were made of packets.",
        |status, put| directions(status, |traffic| traffic.fragments, put),
    ),
    counter(
        "xlatd_packets_answered",
        DIRECTION,
        "Packets to the translator itself that it answered.",
        |status, put| directions(status, |traffic| traffic.answered, put),
    ),
    counter(
        "xlatd_icmp_errors",
        DIRECTION,
        "ICMP errors that were sent to senders of packets of this direction.",
        |status, put| directions(status, |traffic| traffic.icmp_errors, put),
    ),
    counter(
        "xlatd_packets_dropped",
        &["direction", "reason"],
        "Packets that were dropped, by reason.",
        dropped,
    ),
    counter(
        "xlatd_packets_of_neither_family",
        &[],
        "Packets of neither family, which were dropped.",
        |status, put| packets(status, |packets| packets.neither, put),
    ),
    counter(
        "xlatd_icmp_messages_suppressed",
        &[],
        "ICMP messages that were not sent, for a limit.",
        |status, put| packets(status, |packets| packets.suppressed_messages, put),
    ),
    counter(
        "xlatd_log_lines_suppressed",
        &[],
        "Lines of the packet log that were not written, for a limit.",
        |status, put| packets(status, |packets| packets.suppressed_lines, put),
    ),
    counter(
        "xlatd_packets_rejected",
        &[],
        "Packets that the kernel did not take.",
        |status, put| packets(status, |packets| packets.rejected, put),
    ),
    gauge(
        "xlatd_workers",
        Unit::None,
        "The number of processes that translate.",
        |status, put| put(&[], status.workers.len().max(1) as u64),
    ),
    counter(
        "xlatd_worker_packets_translated",
        &["worker", "direction"],
        "Packets that one of several workers has translated.",
        |status, put| {
            for (number, worker) in (1..).zip(&status.workers) {
                let number = i32::to_string(&number);
                let packets = &worker.packets;
                put(
                    &[&number, Direction::FourToSix.key()],
                    packets.four_to_six.packets,
                );
                put(
                    &[&number, Direction::SixToFour.key()],
                    packets.six_to_four.packets,
                );
            }
        },
    ),
    gauge(
        "xlatd_clat_state",
        Unit::Seconds,
        "The time since the state of the CLAT is this one.",
        |status, put| {
            maybe(
                clat(status).and_then(|clat| clat.overview.state_seconds),
                put,
            )
        },
    ),
    gauge(
        "xlatd_clat_prefix_lifetime",
        Unit::Seconds,
        "The rest of the lifetime of the NAT64 prefix, if it ends.",
        |status, put| {
            let known = clat(status).and_then(|clat| clat.overview.prefix.as_ref());
            maybe(known.and_then(|known| known.lifetime_seconds), put);
        },
    ),
    gauge(
        "xlatd_clat_prefix_silent",
        Unit::None,
        "Whether the NAT64 of the prefix does not answer.",
        |status, put| {
            let known = clat(status).and_then(|clat| clat.overview.prefix.as_ref());
            maybe(known.map(|known| known.is_silent.into()), put);
        },
    ),
    gauge(
        "xlatd_clat_other_prefixes",
        Unit::None,
        "The number of other NAT64 prefixes that are known for the uplink.",
        |status, put| {
            of_clat(
                status,
                |clat| clat.overview.other_prefixes.len() as u64,
                put,
            )
        },
    ),
    info(
        "xlatd_clat_uplink",
        &["uplink", "way"],
        "The uplink of the CLAT, and how packets get there.",
        |status, put| {
            let overview = clat(status).map(|clat| &clat.overview);
            let Some((overview, uplink)) =
                overview.and_then(|overview| Some((overview, overview.uplink.as_ref()?)))
            else {
                return;
            };
            put(&[uplink, overview.way.as_deref().unwrap_or("none")], 1);
        },
    ),
    gauge(
        "xlatd_clat_native_ipv4",
        Unit::Seconds,
        "The time since there is native IPv4, or since the CLAT steps aside for it.",
        |status, put| {
            let native = clat(status).and_then(|clat| clat.overview.native.as_ref());
            maybe(native.map(|native| native.seconds), put);
        },
    ),
    gauge(
        "xlatd_clat_aside",
        Unit::None,
        "Whether the CLAT steps aside for native IPv4.",
        |status, put| {
            let is_aside = |clat: &Clat| {
                let native = clat.overview.native.as_ref();
                native.is_some_and(|native| native.aside).into()
            };
            of_clat(status, is_aside, put);
        },
    ),
    gauge(
        "xlatd_clat_next_look",
        Unit::Seconds,
        "The time until the CLAT does something without an event.",
        |status, put| {
            maybe(
                clat(status).and_then(|clat| clat.overview.next_seconds),
                put,
            )
        },
    ),
    gauge(
        "xlatd_clat_steps",
        Unit::None,
        "The number of steps by which the host is set up.",
        |status, put| of_clat(status, |clat| clat.set_up.len() as u64, put),
    ),
    counter(
        "xlatd_clat_repairs",
        &[],
        "Repairs of the set-up of the host.",
        |status, put| of_clat(status, |clat| clat.repairs, put),
    ),
    gauge(
        "xlatd_clat_failed",
        Unit::None,
        "Whether the host could not be set up.",
        |status, put| of_clat(status, |clat| clat.failure.is_some().into(), put),
    ),
    gauge(
        "xlatd_clat_firewalls",
        Unit::None,
        "The number of firewall chains that drop packets of the CLAT.",
        |status, put| of_clat(status, |clat| clat.firewalls.len() as u64, put),
    ),
];

fn maybe(value: Option<u64>, put: Put<'_>) {
    if let Some(value) = value {
        put(&[], value);
    }
}

fn age(file: Option<&ReadFile>, put: Put<'_>) {
    maybe(file.map(|file| file.read_seconds), put);
}

fn changed(file: Option<&ReadFile>, put: Put<'_>) {
    maybe(file.and_then(|file| file.changed).map(u64::from), put);
}

fn clat(status: &Status) -> Option<&Clat> {
    status.clat.as_ref()
}

fn of_clat(status: &Status, value: impl Fn(&Clat) -> u64, put: Put<'_>) {
    maybe(clat(status).map(value), put);
}

/// A CLAT that has not translated any packet has counters, too: they start at 0.
fn packets(status: &Status, value: impl Fn(&Packets) -> u64, put: Put<'_>) {
    put(&[], status.packets.as_ref().map_or(0, value));
}

fn each_direction(status: &Status, mut take: impl FnMut(Direction, &Traffic)) {
    let none = Packets::default();
    let packets = status.packets.as_ref().unwrap_or(&none);
    take(Direction::FourToSix, &packets.four_to_six);
    take(Direction::SixToFour, &packets.six_to_four);
}

fn directions(status: &Status, value: impl Fn(&Traffic) -> u64, put: Put<'_>) {
    each_direction(status, |direction, traffic| {
        put(&[direction.key()], value(traffic));
    });
}

/// Also reasons that have not occurred: a rate needs a sample before the first event.
fn dropped(status: &Status, put: Put<'_>) {
    each_direction(status, |direction, traffic| {
        let found = |key| traffic.dropped.iter().find(|one| one.reason == key);
        for reason in DropReason::ALL {
            let count = found(reason.key()).map_or(0, |one| one.count);
            put(&[direction.key(), reason.key()], count);
        }
        // Of a daemon of another version.
        let is_known = |key: &str| DropReason::ALL.iter().any(|reason| reason.key() == key);
        for other in traffic.dropped.iter().filter(|one| !is_known(&one.reason)) {
            put(&[direction.key(), &other.reason], other.count);
        }
    });
}
