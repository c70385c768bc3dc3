//! The status of daemons as metrics, in the text formats of OpenMetrics and of Prometheus.

pub mod http;
mod table;

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, prometheus_text, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::{self, Registry},
};

use table::Samples;
pub use table::{Asked, Kind, METRICS, Metric, Unit};

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The older one of Prometheus, 0.0.4. The textfile collector of node_exporter reads no other.
    Prometheus,
}

impl Format {
    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// The metrics of daemons, each of which has a device of its own.
pub fn text(asked: Vec<Asked>, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Collected(asked)));
    let mut text = String::new();
    let encoded = match format {
        Format::OpenMetrics => text::encode(&mut text, &registry),
        Format::Prometheus => prometheus_text::encode(&mut text, &registry),
    };
    debug_assert!(encoded.is_ok(), "a String takes all that is written");
    text
}

/// The daemons that were asked.
#[derive(Debug)]
struct Collected(Vec<Asked>);

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        METRICS
            .iter()
            .try_for_each(|metric| encode(metric, &self.0, &mut encoder))
    }
}

/// The labels and the value of a sample.
type Sample = (Vec<(&'static str, String)>, u64);

fn samples(metric: &Metric, asked: &[Asked]) -> Vec<Sample> {
    let mut samples = Vec::new();
    if let Samples::Together(value) = metric.samples {
        samples.push((Vec::new(), value(asked)));
    }
    for one in asked {
        let mut put = |values: &[&str], value: u64| {
            let values = [&[&*one.device], values].concat();
            let values = values.into_iter().map(str::to_owned);
            samples.push((metric.labels().into_iter().zip(values).collect(), value));
        };
        match (&metric.samples, &one.status) {
            (Samples::Each(value), _) => put(&[], value(one)),
            (Samples::Answered(samples), Some(status)) => samples(status, &mut put),
            (Samples::Together(_), _) | (Samples::Answered(_), None) => {}
        }
    }
    samples
}

fn encode(metric: &Metric, asked: &[Asked], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let samples = samples(metric, asked);
    if samples.is_empty() {
        return Ok(());
    }
    let unit = match metric.unit {
        Unit::None => None,
        Unit::Bytes => Some(registry::Unit::Bytes),
        Unit::Seconds => Some(registry::Unit::Seconds),
    };
    let kind = match metric.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Info => MetricType::Info,
    };
    let mut encoder = encoder.encode_descriptor(metric.stem, metric.help, unit.as_ref(), kind)?;
    for (labels, value) in &samples {
        match metric.kind {
            Kind::Counter => {
                let none = None::<&Exemplar<NoLabelSet, f64>>;
                encoder.encode_family(labels)?.encode_counter(value, none)?;
            }
            Kind::Gauge if labels.is_empty() => encoder.encode_gauge(value)?,
            Kind::Gauge => encoder.encode_family(labels)?.encode_gauge(value)?,
            Kind::Info => encoder.encode_info(labels)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::{collections::BTreeSet, slice};

    use super::*;
    use crate::{
        clat::{KnownPrefix, NativeIpv4, Overview},
        report::status::{
            Clat, Device, Dropped, Firewall, Kind as DaemonKind, Maps, Packets, Pool, Process,
            ReadFile, Status, Traffic, Worker,
        },
        translate::DropReason,
    };

    fn file(path: &str) -> ReadFile {
        ReadFile {
            path: path.to_owned(),
            read_seconds: 11,
            fingerprint: "0".to_owned(),
            changed: Some(true),
        }
    }

    fn worker(base: u64) -> Worker {
        Worker {
            pid: 0,
            answers: true,
            packets: Packets {
                four_to_six: Traffic {
                    packets: base,
                    ..Traffic::default()
                },
                six_to_four: Traffic {
                    packets: base + 1,
                    ..Traffic::default()
                },
                ..Packets::default()
            },
        }
    }

    /// A translator of which every figure is another one.
    fn translator() -> Status {
        let traffic = |base: u64| Traffic {
            packets: base,
            octets: base + 1,
            super_packets: base + 2,
            joined: base + 3,
            fragmented: base + 4,
            fragments: base + 5,
            answered: base + 6,
            icmp_errors: base + 7,
            dropped: vec![Dropped {
                reason: "hop_limit".to_owned(),
                text: "TTL or hop limit expired".to_owned(),
                rule: "RFC 7915 section 4.1".to_owned(),
                count: base + 8,
                last: None,
            }],
        };
        Status {
            kind: DaemonKind::Translator,
            works: true,
            state: "translates".to_owned(),
            process: Process {
                version: "1.2.3".to_owned(),
                pid: 1,
                uptime_seconds: 10,
                privileges: String::new(),
                sandbox: String::new(),
            },
            configuration: Some(file("/etc/tayga.conf")),
            device: Some(Device {
                name: "nat64".to_owned(),
                up: true,
                mtu: 1500,
                offload: String::new(),
            }),
            ipv4_addr: None,
            ipv6_addr: None,
            prefix: Some("64:ff9b::/96".to_owned()),
            maps: Maps {
                count: 12,
                file: Some(file("/etc/maps")),
            },
            pool: Some(Pool {
                prefix: "192.168.255.0/24".to_owned(),
                size: 13,
                in_use: 14,
                dormant: 15,
                refused: 16,
            }),
            packets: Some(Packets {
                four_to_six: traffic(100),
                six_to_four: traffic(200),
                neither: 17,
                suppressed_messages: 18,
                suppressed_lines: 19,
                rejected: 20,
            }),
            workers: [100, 200].map(worker).into(),
            clat: None,
        }
    }

    fn clat() -> Status {
        let known = |prefix: &str| KnownPrefix {
            prefix: prefix.to_owned(),
            origin: "DNS64".to_owned(),
            router: None,
            lifetime_seconds: Some(31),
            is_silent: false,
        };
        let clat = Clat {
            overview: Overview {
                state_seconds: Some(30),
                uplink: Some("eth0".to_owned()),
                prefix: Some(known("2001:db8:64::/96")),
                other_prefixes: vec![known("64:ff9b::/96")],
                way: Some("direct".to_owned()),
                native: Some(NativeIpv4 {
                    interface: "wlan0".to_owned(),
                    seconds: 32,
                    aside: true,
                }),
                next_seconds: Some(33),
                ..Overview::default()
            },
            set_up: vec![String::new(); 34],
            repairs: 35,
            failure: None,
            firewalls: vec![Firewall {
                chain: String::new(),
                commands: String::new(),
            }],
        };
        Status {
            kind: DaemonKind::Clat,
            works: false,
            prefix: Some("2001:db8:64::/96".to_owned()),
            pool: None,
            maps: Maps::default(),
            configuration: None,
            packets: None,
            clat: Some(clat),
            ..translator()
        }
    }

    fn asked() -> Vec<Asked> {
        [
            ("nat64", Some(translator())),
            ("clat", Some(clat())),
            ("gone", None),
        ]
        .map(|(device, status)| Asked {
            device: device.to_owned(),
            status,
        })
        .to_vec()
    }

    /// The value of a sample, by its name and labels.
    fn value<'a>(text: &'a str, sample: &str) -> Option<&'a str> {
        let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        lines.find_map(|(found, value)| (found == sample).then_some(value))
    }

    #[test]
    fn every_figure_is_there() {
        let text = text(asked(), Format::OpenMetrics);
        for (sample, expected) in [
            ("xlatd_daemons", "2"),
            ("xlatd_up{device=\"nat64\"}", "1"),
            ("xlatd_up{device=\"gone\"}", "0"),
            ("xlatd_works{device=\"nat64\"}", "1"),
            ("xlatd_works{device=\"clat\"}", "0"),
            (
                "xlatd_daemon_info{device=\"nat64\",kind=\"translator\",version=\"1.2.3\"}",
                "1",
            ),
            ("xlatd_uptime_seconds{device=\"nat64\"}", "10"),
            ("xlatd_configuration_age_seconds{device=\"nat64\"}", "11"),
            ("xlatd_configuration_changed{device=\"nat64\"}", "1"),
            ("xlatd_device_up{device=\"nat64\"}", "1"),
            ("xlatd_device_mtu_bytes{device=\"nat64\"}", "1500"),
            (
                "xlatd_prefix_info{device=\"nat64\",prefix=\"64:ff9b::/96\",origin=\"prefix\"}",
                "1",
            ),
            ("xlatd_maps{device=\"nat64\"}", "12"),
            ("xlatd_map_file_age_seconds{device=\"nat64\"}", "11"),
            ("xlatd_map_file_changed{device=\"nat64\"}", "1"),
            ("xlatd_pool_addresses{device=\"nat64\"}", "13"),
            ("xlatd_pool_addresses_in_use{device=\"nat64\"}", "14"),
            ("xlatd_pool_addresses_dormant{device=\"nat64\"}", "15"),
            ("xlatd_pool_packets_refused_total{device=\"nat64\"}", "16"),
            (
                "xlatd_packets_of_neither_family_total{device=\"nat64\"}",
                "17",
            ),
            (
                "xlatd_icmp_messages_suppressed_total{device=\"nat64\"}",
                "18",
            ),
            ("xlatd_log_lines_suppressed_total{device=\"nat64\"}", "19"),
            ("xlatd_packets_rejected_total{device=\"nat64\"}", "20"),
            (
                "xlatd_packets_translated_total{device=\"clat\",direction=\"6to4\"}",
                "0",
            ),
            (
                "xlatd_prefix_info{device=\"clat\",prefix=\"2001:db8:64::/96\",origin=\"DNS64\"}",
                "1",
            ),
            ("xlatd_clat_state_seconds{device=\"clat\"}", "30"),
            ("xlatd_clat_prefix_lifetime_seconds{device=\"clat\"}", "31"),
            ("xlatd_clat_prefix_silent{device=\"clat\"}", "0"),
            ("xlatd_clat_other_prefixes{device=\"clat\"}", "1"),
            (
                "xlatd_clat_uplink_info{device=\"clat\",uplink=\"eth0\",way=\"direct\"}",
                "1",
            ),
            ("xlatd_clat_native_ipv4_seconds{device=\"clat\"}", "32"),
            ("xlatd_clat_aside{device=\"clat\"}", "1"),
            ("xlatd_clat_next_look_seconds{device=\"clat\"}", "33"),
            ("xlatd_clat_steps{device=\"clat\"}", "34"),
            ("xlatd_clat_repairs_total{device=\"clat\"}", "35"),
            ("xlatd_clat_failed{device=\"clat\"}", "0"),
            ("xlatd_clat_firewalls{device=\"clat\"}", "1"),
        ] {
            assert_eq!(value(&text, sample), Some(expected), "{sample}\n{text}");
        }
        for (direction, base) in [("4to6", 100), ("6to4", 200)] {
            for (offset, stem) in [
                (0, "packets_translated"),
                (1, "translated_bytes"),
                (2, "super_packets"),
                (3, "packets_joined"),
                (4, "packets_fragmented"),
                (5, "fragments"),
                (6, "packets_answered"),
                (7, "icmp_errors"),
            ] {
                let sample =
                    format!("xlatd_{stem}_total{{device=\"nat64\",direction=\"{direction}\"}}");
                let expected = (base + offset).to_string();
                assert_eq!(value(&text, &sample), Some(&*expected), "{sample}");
            }
        }
    }

    /// A rate needs a sample before the first event.
    #[test]
    fn reasons_that_have_not_occurred_are_zero() {
        let text = text(asked(), Format::OpenMetrics);
        let dropped = "xlatd_packets_dropped_total{device=\"nat64\"";
        let samples = text.lines().filter(|line| line.starts_with(dropped));
        assert_eq!(samples.count(), 2 * DropReason::ALL.len());
        for (labels, expected) in [
            ("direction=\"4to6\",reason=\"hop_limit\"", "108"),
            ("direction=\"6to4\",reason=\"hop_limit\"", "208"),
            ("direction=\"6to4\",reason=\"pool_full\"", "0"),
        ] {
            let sample = format!("{dropped},{labels}}}");
            assert_eq!(value(&text, &sample), Some(expected), "{sample}");
        }
    }

    /// A reason that only a newer daemon knows is counted, too.
    #[test]
    fn reasons_of_other_versions_are_kept() {
        let mut status = translator();
        let packets = status.packets.as_mut().unwrap();
        packets.four_to_six.dropped[0].reason = "moon_phase".to_owned();
        let asked = vec![Asked {
            device: "nat64".to_owned(),
            status: Some(status),
        }];
        let text = text(asked, Format::Prometheus);
        let labels = "device=\"nat64\",direction=\"4to6\",reason=\"moon_phase\"";
        let sample = format!("xlatd_packets_dropped_total{{{labels}}}");
        assert_eq!(value(&text, &sample), Some("108"));
    }

    /// OpenMetrics 1.0: HELP, TYPE and UNIT before the samples of each family, whose name has no
    /// suffix, and EOF at the end. Prometheus 0.0.4: the same samples, with the suffix in the
    /// name, and types that it knows.
    #[test]
    fn both_formats_have_the_same_samples() {
        let open = text(asked(), Format::OpenMetrics);
        let older = text(asked(), Format::Prometheus);
        let samples = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(samples(&open), samples(&older));
        for line in [
            "# TYPE xlatd_packets_translated counter\n",
            "# TYPE xlatd_translated_bytes counter\n# UNIT xlatd_translated_bytes bytes\n",
            "# TYPE xlatd_daemon info\n",
            "# HELP xlatd_daemons The number of translators and CLATs that answer.\n",
        ] {
            assert!(open.contains(line), "{line}");
        }
        assert!(open.ends_with("\n# EOF\n"));
        for line in [
            "# TYPE xlatd_packets_translated_total counter\n",
            "# TYPE xlatd_translated_bytes_total counter\n",
            "# TYPE xlatd_daemon_info gauge\n",
        ] {
            assert!(older.contains(line), "{line}");
        }
        assert!(!older.contains("# EOF") && !older.contains("# UNIT"));
    }

    /// Names have the characters, and families the uniqueness, that both formats ask for.
    #[test]
    fn names_are_valid_and_different() {
        let names: BTreeSet<_> = METRICS.iter().map(Metric::name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            let name = metric.name();
            let is_valid = |b: u8| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit();
            assert!(
                name.starts_with("xlatd_") && name.bytes().all(is_valid),
                "{name}"
            );
            assert!(metric.help.ends_with('.'), "{name}");
        }
    }

    /// A device may have any name of Linux, with quotes and backslashes.
    #[test]
    fn names_of_devices_are_escaped() {
        let one = Asked {
            device: "a\"b\\c".to_owned(),
            status: None,
        };
        let text = text(slice::from_ref(&one).to_vec(), Format::OpenMetrics);
        assert_eq!(value(&text, r#"xlatd_up{device="a\"b\\c"}"#), Some("0"));
    }

    /// Where nothing runs, that is said: an alert needs a sample.
    #[test]
    fn none_that_runs_is_a_sample() {
        let text = text(Vec::new(), Format::Prometheus);
        assert_eq!(value(&text, "xlatd_daemons"), Some("0"));
        assert_eq!(text.lines().count(), 3);
    }
}
