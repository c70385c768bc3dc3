//! A translator, and packets for it.

use std::{net::Ipv4Addr, time::Instant};

use xlatd::{
    config::Config,
    translate::{Outcome, Packet, Settings, Translator},
    wire::{checksum::Sum, protocol, virtio},
};

use crate::maps::Maps;

/// A translator with the table and a prefix.
pub(crate) fn translator(maps: Maps) -> Translator {
    let config = Config::read(config(maps)).map(|(config, _)| config);
    let config = config.unwrap_or_else(|errors| panic!("{errors:?}"));
    Translator::new(Settings::default(), config.address_map(), 1)
}

/// The configuration of it.
pub(crate) fn config(maps: Maps) -> String {
    format!(
        "tun-device nat64\nipv4-addr 203.0.113.1\nipv6-addr 2001:db8:ffff::1\n\
         prefix 2001:db8:64::/96\n{}",
        maps.lines()
    )
}

/// A UDP packet as it is read from the device: its headers are put back before each translation,
/// and its payload stays.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// What stands before the payload, `virtio_net_hdr` and all.
    head: Vec<u8>,
    /// With the `virtio_net_hdr`.
    len: usize,
    header_len: usize,
}

impl Sample {
    /// From a host to a server, or back, in an IP packet of so many octets. One of more than 1500
    /// octets is a super-packet with segments of 1200.
    pub(crate) fn new(maps: Maps, host: u32, version: u8, len: usize) -> Self {
        let (v4, v6) = maps.host(host);
        let server = Ipv4Addr::new(192, 0, 2, 2);
        let header_len = if version == 4 { 20 } else { 40 };
        let udp_len = len - header_len;
        let (mut ip, pseudo) = if version == 4 {
            let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol::UDP, 0, 0];
            ip[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            ip.extend([server.octets(), v4.octets()].as_flattened());
            let checksum = Sum::of(&ip).checksum();
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            (ip, Sum::pseudo_v4(server, v4, protocol::UDP, udp_len))
        } else {
            let server = "2001:db8:64::192.0.2.2".parse().unwrap();
            let [high, low] = (udp_len as u16).to_be_bytes();
            let mut ip = vec![0x60, 0, 0, 0, high, low, protocol::UDP, 64];
            ip.extend(v6.octets());
            ip.extend(std::net::Ipv6Addr::octets(&server));
            (ip, Sum::pseudo_v6(v6, server, protocol::UDP, udp_len))
        };
        let mut udp = vec![0x10, 0, 0x20, 0, 0, 0, 0, 0];
        udp[4..6].copy_from_slice(&(udp_len as u16).to_be_bytes());
        let mut header = vec![0; virtio::HEADER_LEN];
        let checksum = if len > 1500 {
            let words =
                [header_len + 8, 1200, header_len, 6].map(|word| (word as u16).to_ne_bytes());
            header[..2].copy_from_slice(&[1, 5]); // a partial checksum, and segments of UDP
            header[2..].copy_from_slice(words.as_flattened());
            pseudo.fold()
        } else {
            match (Sum::of(&udp) + pseudo).checksum() {
                0 => 0xffff, // zero is none (RFC 768)
                sum => sum,  // the payload is zeros
            }
        };
        udp[6..8].copy_from_slice(&checksum.to_be_bytes());
        header.append(&mut ip);
        header.append(&mut udp);
        Self {
            head: header,
            len: virtio::HEADER_LEN + len,
            header_len,
        }
    }

    /// Puts it into the buffer, and translates it.
    pub(crate) fn translate(&self, translator: &mut Translator, packet: &mut Packet, now: Instant) {
        packet.read_buffer()[..self.head.len()].copy_from_slice(&self.head);
        packet.received(self.len).unwrap();
        let outcome = translator.translate(packet, now);
        assert!(matches!(outcome, Outcome::Forward), "{outcome:?}");
        // It is of the other family now.
        assert_ne!(packet.bytes()[0] >> 4 == 4, self.header_len == 20);
    }
}
