//! The links on both sides of the translator: the device, and the uplink of a CLAT.

use std::{io, time::Instant};

use xlatd::{translate::Packet, wire::Malformed};

use crate::datapath::{device::Device, trace::Trace, uplink::Uplink};

/// Where packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Device,
    Uplink,
}

/// The links on both sides of the translator.
pub(super) struct Links {
    pub(super) device: Device,
    /// The link of IPv6 packets; `None`: they come and go by the device, too.
    pub(super) uplink: Option<Uplink>,
    /// Packets that were written, in this turn.
    pub(super) written: usize,
    /// Packets that the kernel rejected on uplinks before this one.
    pub(super) rejected_before: u64,
    /// The trace of what passes.
    pub(super) trace: Trace,
}

/// A set of sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sides {
    pub(super) device: bool,
    pub(super) uplink: bool,
}

impl Sides {
    /// One of them: `preferred`, if it is one.
    pub(super) fn first(self, preferred: Side) -> Option<Side> {
        match (self.device, self.uplink) {
            (true, true) => Some(preferred),
            (true, false) => Some(Side::Device),
            (false, true) => Some(Side::Uplink),
            (false, false) => None,
        }
    }

    pub(super) fn remove(&mut self, side: Side) {
        match side {
            Side::Device => self.device = false,
            Side::Uplink => self.uplink = false,
        }
    }
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Device => Self::Uplink,
            Self::Uplink => Self::Device,
        }
    }
}

impl Links {
    /// Reads one packet from a side. Fails with `WouldBlock` if there is none.
    pub(super) fn read(
        &mut self,
        side: Side,
        packet: &mut Packet,
    ) -> io::Result<Result<(), Malformed>> {
        match (side, &mut self.uplink) {
            (Side::Uplink, Some(uplink)) => uplink.read(packet),
            _ => {
                let len = self.device.tun.read(packet.read_buffer())?;
                Ok(packet.received(len))
            }
        }
    }

    /// Writes one packet to the side of its family, and shows it to the trace.
    pub(super) fn send(&mut self, packet: &mut Packet, now: Instant) {
        self.trace.went(packet);
        self.write(packet, now);
    }

    /// Writes one packet to the side of its family.
    pub(super) fn write(&mut self, packet: &mut Packet, now: Instant) {
        self.written += 1;
        match &mut self.uplink {
            Some(uplink) if packet.is_ipv6() => uplink.write(packet, now),
            _ => self.device.write(packet, now),
        }
    }
}
