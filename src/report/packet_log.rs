//! Log lines about packets, as the `log` directive asks.
//!
//! A packet is summarised before it is translated, since its buffer holds the translation
//! afterwards.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    config::LogClasses,
    pace::{Rate, TokenBucket},
    translate::{Direction, DropReason, Outcome, Reply},
    wire::{ipv4::Ipv4Packet, ipv6, ipv6::Ipv6Packet, protocol, transport},
};

/// Lines of a class: 50 at once, and then 10 a second.
const RATE: Rate = Rate::new(50, Duration::from_secs(5));
/// Time from the first suppressed line to the line with their count.
const COUNT_FOR: Duration = Duration::from_secs(1);

/// A class of packets that can be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Own,
    Drop,
    Reject,
    Icmp,
    Lease,
}

impl Class {
    /// All classes in tayga's order: a packet of several is logged as the first that is on.
    const ALL: [Self; 5] = [Self::Own, Self::Drop, Self::Reject, Self::Icmp, Self::Lease];
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "SELF",
            Self::Drop => "DROP",
            Self::Reject => "REJECT",
            Self::Icmp => "ICMP",
            Self::Lease => "DYN",
        })
    }
}

/// Makes lines about packets, for each class 50 at once and then 10 a second. The others are
/// suppressed and counted.
#[derive(Debug)]
pub struct PacketLog {
    classes: LogClasses,
    rate: Rate,
    quotas: [Quota; Class::ALL.len()],
    /// Lines suppressed so far, of all classes.
    suppressed: u64,
}

impl PacketLog {
    /// A log of these classes; `None` if none is on. `sharers` logs share the limits.
    pub fn new(classes: LogClasses, sharers: u32) -> Option<Self> {
        let LogClasses {
            drop,
            reject,
            icmp,
            own,
            dynamic,
        } = classes;
        (drop || reject || icmp || own || dynamic).then(|| Self {
            classes,
            rate: RATE.shared_by(sharers),
            quotas: Default::default(),
            suppressed: 0,
        })
    }

    /// The line about a packet, if it gets one. `summary` was made before the translation.
    pub fn line(
        &mut self,
        summary: &Summary,
        outcome: &Outcome<'_>,
        now: Instant,
    ) -> Option<String> {
        let class = Class::ALL
            .into_iter()
            .find(|&class| self.is_on(class) && belongs(class, summary, outcome))?;
        if !self.take(class, now) {
            return None;
        }
        Some(match outcome {
            Outcome::Drop(reason) | Outcome::Reply(Reply::Error(reason)) => {
                let rule = reason.rule(summary.direction);
                format!("{class}: {summary} {reason} ({rule})")
            }
            Outcome::Reply(Reply::Echo) => format!("{class}: {summary} echo request answered"),
            Outcome::Forward | Outcome::Fragments(_) | Outcome::Segments(_) | Outcome::HandOver => {
                match summary.icmp {
                    Some((kind, code)) => {
                        format!("{class}: {summary} type {kind} code {code} translated")
                    }
                    None => format!("{class}: {summary} translated"),
                }
            }
        })
    }

    /// The line about a lease, as `DYN: [assigned] [192.0.2.1]->[2001:db8::1]`, if it gets one.
    pub fn lease_line(
        &mut self,
        what: &str,
        address: Ipv4Addr,
        host: Ipv6Addr,
        now: Instant,
    ) -> Option<String> {
        let class = Class::Lease;
        (self.is_on(class) && self.take(class, now))
            .then(|| format!("{class}: [{what}] [{address}]->[{host}]"))
    }

    /// Takes a line of a class, or counts it as suppressed.
    fn take(&mut self, class: Class, now: Instant) -> bool {
        let taken = self.quotas[class as usize].take(self.rate, now);
        self.suppressed += u64::from(!taken);
        taken
    }

    /// The number of lines that were suppressed so far.
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// The time of the next line from [`left_out`](Self::left_out); `None` if no line has been
    /// suppressed.
    pub fn deadline(&self) -> Option<Instant> {
        self.quotas
            .iter()
            .filter_map(|quota| quota.count_until)
            .min()
    }

    /// A line with the count for each class with suppressed lines, once they were counted for a
    /// second. With `None`, at the end, for all of them.
    pub fn left_out(&mut self, now: Option<Instant>) -> Vec<String> {
        let mut lines = Vec::new();
        for class in Class::ALL {
            let quota = &mut self.quotas[class as usize];
            if let Some(until) = quota.count_until
                && now.is_none_or(|now| now >= until)
            {
                lines.push(format!("{class}: {} lines suppressed", quota.suppressed));
                quota.suppressed = 0;
                quota.count_until = None;
            }
        }
        lines
    }

    fn is_on(&self, class: Class) -> bool {
        match class {
            Class::Own => self.classes.own,
            Class::Drop => self.classes.drop,
            Class::Reject => self.classes.reject,
            Class::Icmp => self.classes.icmp,
            Class::Lease => self.classes.dynamic,
        }
    }
}

fn belongs(class: Class, summary: &Summary, outcome: &Outcome<'_>) -> bool {
    match (class, outcome) {
        (Class::Own, Outcome::Reply(Reply::Echo)) => true,
        (Class::Own, Outcome::Drop(reason) | Outcome::Reply(Reply::Error(reason))) => {
            matches!(reason, DropReason::OwnAddress | DropReason::EchoLimit)
        }
        (Class::Drop, Outcome::Drop(_)) => !summary.is_ipv6_multicast(),
        (Class::Reject, Outcome::Reply(Reply::Error(_))) => true,
        (Class::Icmp, Outcome::Forward | Outcome::Fragments(_)) => summary.is_icmp_error(),
        _ => false,
    }
}

/// A packet in a line: `[v4] [192.0.2.1]->[198.51.100.1] (29 bytes) (proto 17) (ports 1024->53)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Length as received, in octets.
    #[serde(rename = "octets")]
    len: usize,
    /// `None` if it is of neither family.
    #[serde(skip)]
    direction: Option<Direction>,
    /// `None` if the header is cut off.
    #[serde(flatten)]
    header: Option<Header>,
    /// Source and destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<(u16, u16)>,
    /// ICMP type and code.
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp: Option<(u8, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Header {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
}

impl Summary {
    /// Summarises any octets. Fields that cannot be read are left out.
    pub fn of(octets: &[u8]) -> Self {
        let mut summary = Self {
            len: octets.len(),
            direction: Direction::of(octets),
            header: None,
            ports: None,
            icmp: None,
        };
        if let Ok(packet) = Ipv4Packet::parse_quoted(octets) {
            summary.header = Some(Header {
                source: packet.source().into(),
                destination: packet.destination().into(),
                protocol: packet.protocol(),
            });
            if packet.fragment().offset == 0 {
                summary.read_transport(packet.protocol(), packet.payload());
            }
        } else if let Ok(packet) = Ipv6Packet::parse_quoted(octets) {
            let upper = packet.upper_layer();
            summary.header = Some(Header {
                source: packet.source().into(),
                destination: packet.destination().into(),
                protocol: match upper {
                    Ok(upper) => upper.protocol,
                    Err(_) => octets[ipv6::NEXT_HEADER_AT],
                },
            });
            if let Ok(upper) = upper
                && upper
                    .fragment
                    .is_none_or(|fragment| fragment.place.offset == 0)
            {
                summary.read_transport(upper.protocol, &octets[upper.offset..]);
            }
        }
        summary
    }

    /// Summarises a packet of `len` octets by its beginning.
    pub fn of_beginning(octets: &[u8], len: usize) -> Self {
        Self {
            len,
            ..Self::of(octets)
        }
    }

    /// Source and destination, unless the header is cut off.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        let header = self.header?;
        Some((header.source, header.destination))
    }

    /// ICMP type and code, if it is ICMP and they are there.
    pub fn icmp(&self) -> Option<(u8, u8)> {
        self.icmp
    }

    /// The number of its transport protocol, unless the header is cut off.
    pub fn protocol(&self) -> Option<u8> {
        Some(self.header?.protocol)
    }

    /// Source and destination port, if it has some.
    pub fn ports(&self) -> Option<(u16, u16)> {
        self.ports
    }

    fn read_transport(&mut self, protocol: u8, transport: &[u8]) {
        self.ports = transport::ports(protocol, transport);
        if matches!(protocol, protocol::ICMPV4 | protocol::ICMPV6)
            && let [kind, code, ..] = transport
        {
            self.icmp = Some((*kind, *code));
        }
    }

    /// The kernel sends multicast to every device (RFC 3810, RFC 4861); such drops mean nothing.
    fn is_ipv6_multicast(&self) -> bool {
        self.header.is_some_and(
            |header| matches!(header.destination, IpAddr::V6(address) if address.is_multicast()),
        )
    }

    fn is_icmp_error(&self) -> bool {
        let (Some(header), Some((kind, _))) = (self.header, self.icmp) else {
            return false;
        };
        match header.protocol {
            protocol::ICMPV4 => matches!(kind, 3 | 11 | 12), // RFC 792
            _ => kind < 128,                                 // RFC 4443 section 2.1
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(header) = self.header {
            let family = if header.source.is_ipv4() { "v4" } else { "v6" };
            write!(
                f,
                "[{family}] [{}]->[{}] ",
                header.source, header.destination
            )?;
        }
        write!(f, "({} bytes)", self.len)?;
        if let Some(header) = self.header {
            write!(f, " (proto {})", header.protocol)?;
        }
        if let Some((source, destination)) = self.ports {
            write!(f, " (ports {source}->{destination})")?;
        }
        Ok(())
    }
}

/// The lines that one class may still write.
#[derive(Clone, Copy, Debug, Default)]
struct Quota {
    bucket: TokenBucket<Instant>,
    suppressed: u64,
    /// When the suppressed lines are reported; set while there are any.
    count_until: Option<Instant>,
}

impl Quota {
    /// Takes a line, or counts it as suppressed.
    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let taken = self.bucket.take(rate, now).is_ok();
        if !taken {
            self.suppressed += 1;
            self.count_until.get_or_insert(now + COUNT_FOR);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    const ALL: LogClasses = LogClasses {
        drop: true,
        reject: true,
        icmp: true,
        own: true,
        dynamic: false,
    };
    const OFF: LogClasses = LogClasses {
        drop: false,
        reject: false,
        icmp: false,
        own: false,
        dynamic: false,
    };

    /// A packet from 192.0.2.1 to 198.51.100.7.
    fn v4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 20 + payload.len() as u8, 0, 0];
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7]);
        packet.extend(payload);
        packet
    }

    /// A packet from 2001:db8::1 to 64:ff9b::c633:6407.
    fn v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next_header, 64];
        for address in ["2001:db8::1", "64:ff9b::198.51.100.7"] {
            packet.extend(address.parse::<std::net::Ipv6Addr>().unwrap().octets());
        }
        packet.extend(payload);
        packet
    }

    fn line(classes: LogClasses, packet: &[u8], outcome: Outcome<'_>) -> Option<String> {
        PacketLog::new(classes, 1)?.line(&Summary::of(packet), &outcome, Instant::now())
    }

    const UDP: [u8; 9] = [0x04, 0, 0, 53, 0, 9, 0, 0, b'x'];

    /// RFC 7915 section 4.5: UDP that is dropped without a checksum is logged with addresses and
    /// ports.
    #[test]
    fn a_dropped_udp_packet_without_checksum_is_logged_with_addresses_and_ports() {
        let text = "DROP: [v4] [192.0.2.1]->[198.51.100.7] (29 bytes) (proto 17) (ports 1024->53)";
        for (fragment, reason, why) in [
            (
                0,
                DropReason::UdpChecksum,
                "UDP without checksum (udp-cksum-mode)",
            ),
            (
                0x2000,
                DropReason::UdpFragmentChecksum,
                "first fragment of UDP without checksum",
            ),
        ] {
            let packet = v4(17, fragment, &UDP);
            let expected = format!("{text} {why} (RFC 7915 section 4.5)");
            assert_eq!(line(ALL, &packet, Outcome::Drop(reason)), Some(expected));
        }
    }

    /// The format of tayga: `TYPE: [v4|v6] [SRC]->[DST] (N bytes) (proto P) TEXT`.
    #[test]
    fn lines_read_as_with_tayga() {
        let echo = Outcome::Reply(Reply::Echo);
        assert_eq!(
            line(ALL, &v4(1, 0, &[8, 0, 0, 0, 0, 0, 0, 0]), echo).as_deref(),
            Some(
                "SELF: [v4] [192.0.2.1]->[198.51.100.7] (28 bytes) (proto 1) echo request answered"
            )
        );
        let rejected = Outcome::Reply(Reply::Error(DropReason::NoDestination));
        assert_eq!(
            line(ALL, &v6(6, &[0, 1, 0, 2]), rejected).as_deref(),
            Some(
                "REJECT: [v6] [2001:db8::1]->[64:ff9b::c633:6407] (44 bytes) (proto 6) \
                 (ports 1->2) no mapping for the destination (RFC 7757 section 3.3.2)"
            )
        );
        assert_eq!(
            line(ALL, &v4(1, 0, &[3, 4, 0, 0, 0, 0, 0, 0]), Outcome::Forward).as_deref(),
            Some(
                "ICMP: [v4] [192.0.2.1]->[198.51.100.7] (28 bytes) (proto 1) \
                 type 3 code 4 translated"
            )
        );
        assert_eq!(
            line(ALL, &v6(58, &[2, 0, 0, 0, 0, 0, 5, 0]), Outcome::Forward).as_deref(),
            Some(
                "ICMP: [v6] [2001:db8::1]->[64:ff9b::c633:6407] (48 bytes) (proto 58) \
                 type 2 code 0 translated"
            )
        );
    }

    #[test]
    fn translated_packets_other_than_icmp_errors_are_not_logged() {
        for packet in [
            v4(17, 0, &UDP),
            v4(1, 0, &[8, 0]),
            v6(58, &[128, 0]),
            v6(17, &UDP),
        ] {
            assert_eq!(line(ALL, &packet, Outcome::Forward), None);
        }
    }

    /// As tayga: drops of ff00::/8 are not logged.
    #[test]
    fn the_kernels_own_multicast_is_not_logged() {
        let mut packet = v6(58, &[143, 0, 0, 0]);
        let dropped = || Outcome::Drop(DropReason::IllegalAddress);
        assert!(line(ALL, &packet, dropped()).is_some());
        packet[24..26].copy_from_slice(&[0xff, 0x02]);
        assert_eq!(line(ALL, &packet, dropped()), None);
    }

    #[test]
    fn unreadable_fields_are_left_out() {
        let dropped =
            |packet: &[u8]| line(ALL, packet, Outcome::Drop(DropReason::OwnAddress)).unwrap();
        assert!(dropped(&[]).starts_with("SELF: (0 bytes) only echo"));
        assert!(dropped(&[0x60; 39]).starts_with("SELF: (39 bytes) only echo"));
        // Ports are in no fragment but the first, and an extension header may be cut off.
        let no_ports = |packet: &[u8]| !dropped(packet).contains("ports");
        assert!(no_ports(&v4(17, 1, &UDP)));
        assert!(no_ports(&v4(17, 0, &UDP[..3])));
        let fragment = [&[17, 0, 0, 8, 0, 0, 0, 0][..], &UDP].concat();
        assert!(no_ports(&v6(44, &fragment)));
        assert!(no_ports(&v6(0, &[17])));
        assert!(!no_ports(&v6(
            60,
            &[&[17, 0, 1, 4, 0, 0, 0, 0][..], &UDP].concat()
        )));
    }

    /// As tayga: a packet of several classes is logged as the first that is on.
    #[test]
    fn the_first_class_that_is_on_counts() {
        let packet = v4(17, 0, &UDP);
        let word = |classes, outcome| {
            line(classes, &packet, outcome).map(|line| line.split(':').next().unwrap().to_owned())
        };
        let own = || Outcome::Drop(DropReason::OwnAddress);
        let no_own = LogClasses { own: false, ..ALL };
        assert_eq!(word(ALL, own()).as_deref(), Some("SELF"));
        assert_eq!(word(no_own, own()).as_deref(), Some("DROP"));
        let only = LogClasses {
            reject: true,
            ..OFF
        };
        assert_eq!(word(only, own()), None);
        assert_eq!(
            word(only, Outcome::Reply(Reply::Error(DropReason::OwnAddress))).as_deref(),
            Some("REJECT")
        );
        assert!(PacketLog::new(OFF, 1).is_none());
    }

    /// 50 lines at once, then 10 a second, for each class, and the count of the others.
    #[test]
    fn a_flood_of_packets_writes_few_lines() {
        let mut now = Instant::now();
        let mut log = PacketLog::new(ALL, 1).unwrap();
        let summary = Summary::of(&v4(17, 0, &UDP));
        let flood = |log: &mut PacketLog, now| {
            (0..1000)
                .filter_map(|_| log.line(&summary, &Outcome::Drop(DropReason::NoSource), now))
                .count()
        };
        assert_eq!(log.deadline(), None);
        assert_eq!(flood(&mut log, now), 50);
        // Another class has lines of its own.
        assert!(
            log.line(&summary, &Outcome::Reply(Reply::Echo), now)
                .is_some()
        );
        assert_eq!(log.deadline(), Some(now + Duration::from_secs(1)));
        assert_eq!(log.left_out(Some(now)), [""; 0]);

        now += Duration::from_millis(500);
        assert_eq!(flood(&mut log, now), 5);
        now += Duration::from_millis(500);
        assert_eq!(flood(&mut log, now), 5);
        assert_eq!(log.left_out(Some(now)), ["DROP: 2940 lines suppressed"]);
        assert_eq!(log.deadline(), None);

        now += Duration::from_secs(3600);
        assert_eq!(flood(&mut log, now), 50);
        assert_eq!(log.left_out(None), ["DROP: 950 lines suppressed"]);
        assert_eq!(log.left_out(None), [""; 0]);
    }
}
