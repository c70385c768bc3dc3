//! Answers as text, for people.

use std::fmt;

use super::{
    About, Counterpart, Counts, Directive, Entry, Fate, Leg, NoCounterpart, Passage, Place, Role,
    RoundTrip, Seen, Verdict, Why,
};
use crate::report::packet_log::Summary;

impl fmt::Display for Directive {
    /// `map 192.0.2.1 2001:db8::1 (/etc/tayga.conf:5)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.place {
            Some(place) => write!(f, " ({place})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InFile { file, line } => write!(f, "{file}:{line}"),
            Self::OnCommandLine => f.write_str("command line"),
            Self::ByDaemon => f.write_str("now"),
            Self::ByDefault => f.write_str("default"),
        }
    }
}

impl fmt::Display for Why {
    /// `no mapping for the source (RFC 7757 section 3.3.2)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.rule)
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            counterpart,
            note,
            packets,
        } = self;
        let other = if address.is_ipv4() { "IPv6" } else { "IPv4" };
        match counterpart {
            Some(Counterpart {
                address: there,
                by,
                comes_back_as,
            }) => {
                writeln!(f, "{address} is {there} in {other}")?;
                if let Some(by) = by {
                    writeln!(f, "  by {by}")?;
                }
                if let Some(back) = comes_back_as {
                    writeln!(f, "  but {there} is {back}, and not {address}")?;
                }
            }
            None => writeln!(f, "{address} has no address in {other}")?,
        }
        if let Some(note) = note {
            writeln!(f, "  {note}")?;
        }
        packets
            .iter()
            .try_for_each(|packet| write!(f, "  {packet}"))
    }
}

impl fmt::Display for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        let peers = self.fate.received.addresses();
        match (self.role, peers) {
            (Role::To, Some((from, _))) => writeln!(f, "to {address}, as from {from}:")?,
            (Role::From, Some((_, to))) => writeln!(f, "from {address}, as to {to}:")?,
            (_, None) => writeln!(f, "{address}:")?,
        }
        writeln!(f, "    {}", Brief(&self.fate))
    }
}

/// The addresses of a packet.
struct Ends<'a>(&'a Summary);

impl fmt::Display for Ends<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.addresses() {
            Some((from, to)) => write!(f, "{from} -> {to}"),
            None => f.write_str("?"),
        }
    }
}

/// What becomes of a packet, in a few words.
struct Brief<'a>(&'a Fate);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fate {
            verdict,
            why,
            sent,
            lends,
            ..
        } = self.0;
        match (verdict, sent.first()) {
            (Verdict::Translated | Verdict::Fragmented, Some(sent)) => {
                write!(f, "becomes {}", Ends(sent))?;
            }
            (Verdict::EchoAnswered, _) => f.write_str("is answered by the translator itself")?,
            _ => f.write_str("is dropped")?,
        }
        if *lends {
            f.write_str(", with any free address of dynamic-pool as its source")?;
        }
        if let Some(why) = why {
            write!(f, ": {why}")?;
        }
        if *verdict == Verdict::Rejected {
            f.write_str("; its sender is told")?;
        }
        Ok(())
    }
}

impl fmt::Display for RoundTrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request: {}", self.request)?;
        if let Some(reply) = &self.reply {
            write!(f, "reply: {reply}")?;
        }
        let request = self.request.fate.received.addresses();
        match (self.is_complete, &self.reply, request) {
            (true, Some(_), _) => writeln!(f, "The reply comes back to the request."),
            (false, Some(reply), Some((from, to))) if reply.fate.translation().is_some() => {
                writeln!(
                    f,
                    "The reply does not belong to the request: expected {to} -> {from}."
                )
            }
            (false, Some(_), _) => writeln!(f, "The reply does not come back."),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", Ends(&self.fate.received))?;
        writeln!(f, "  {}", Brief(&self.fate))?;
        for (what, by) in [
            ("source", &self.source_by),
            ("destination", &self.destination_by),
        ] {
            for (index, directive) in by.iter().enumerate() {
                let then = if index == 0 { "" } else { "then " };
                writeln!(f, "  {what}: {then}{directive}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for NoCounterpart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let other = if self.0.is_ipv4() { "IPv6" } else { "IPv4" };
        write!(
            f,
            "{} has no address in {other} that a packet could be sent to",
            self.0
        )
    }
}

impl std::error::Error for NoCounterpart {}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.number)?;
        let (missing, fate) = match &self.seen {
            Seen::Packet { not_captured, fate } => (not_captured, fate),
            Seen::Other { not_read } => return writeln!(f, "{not_read}"),
        };
        write!(f, "{}", Line(&fate.received))?;
        if *missing != 0 {
            write!(f, " ({missing} bytes not captured)")?;
        }
        writeln!(f)?;
        if let Some(why) = &fate.why {
            writeln!(f, "  dropped: {why}")?;
        }
        let what = match fate.verdict {
            Verdict::Translated => "becomes",
            Verdict::Fragmented => "fragment",
            Verdict::EchoAnswered | Verdict::Rejected | Verdict::Dropped => "answer",
        };
        for packet in &fate.sent {
            writeln!(f, "  {what}: {}", Line(packet))?;
        }
        Ok(())
    }
}

/// A packet as in the log, and what kind of ICMP it is.
struct Line<'a>(&'a Summary);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        match self.0.icmp() {
            Some((kind, code)) => write!(f, " (type {kind} code {code})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Counts {
    /// `7 frames: 4 translated, 1 answered, 1 dropped, 1 without an IP packet`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            frames,
            translated,
            answered,
            dropped,
        } = *self;
        let others = frames - translated - answered - dropped;
        write!(f, "{frames} frames: {translated} translated, ")?;
        write!(
            f,
            "{answered} answered, {dropped} dropped, {others} without an IP packet"
        )
    }
}
