//! The buffer into which a packet is read, in which it is translated, and from which it is written.

use crate::wire::{
    Malformed,
    checksum::Sum,
    ipv4::Ipv4Packet,
    ipv6::{self, Ipv6Packet},
    protocol, transport,
    virtio::{self, Offload, PartialChecksum, SegmentTransport},
};

/// Room before a packet as it was read, in octets: for the growth of its headers (28), or the
/// headers of an ICMP error about it (48), and for the `virtio_net_hdr` and a link-layer header.
/// The rest aligns packets to cache lines.
const HEADROOM: usize = 128;

/// Longest packet, in octets: an IPv6 header and 65535 octets of payload.
const MAX_LEN: usize = 40 + 65535;

/// One packet in one buffer, with headroom before it: headers change, the payload never moves.
#[derive(Debug)]
pub struct Packet {
    /// Grows to what was used: a buffer that only ever held small packets takes a page of memory.
    storage: Vec<u8>,
    start: usize,
    end: usize,
    offload: Offload,
}

impl Default for Packet {
    fn default() -> Self {
        Self::new()
    }
}

impl Packet {
    /// Longest packet, in octets: an IPv6 header and 65535 octets of payload.
    pub const MAX_LEN: usize = MAX_LEN;

    /// An empty packet, with room for the longest.
    pub fn new() -> Self {
        let mut storage = Vec::with_capacity(HEADROOM + MAX_LEN);
        storage.resize(HEADROOM, 0);
        Self {
            storage,
            start: HEADROOM,
            end: HEADROOM,
            offload: Offload::default(),
        }
    }

    /// The buffer for the next read: a `virtio_net_hdr`, then a packet. The packet is empty until
    /// [`received`](Self::received) sets its length.
    pub fn read_buffer(&mut self) -> &mut [u8] {
        self.read_buffer_for(0)
    }

    /// The same, for a packet behind a link-layer header of `link_len` octets, at most 32. What was
    /// read is to be [`received_by`](Self::received_by).
    pub fn read_buffer_for(&mut self, link_len: usize) -> &mut [u8] {
        self.start = HEADROOM;
        self.end = HEADROOM;
        self.make_room(HEADROOM + MAX_LEN);
        &mut self.storage[HEADROOM - link_len - virtio::HEADER_LEN..]
    }

    /// Sets the number of octets that were read into [`read_buffer`](Self::read_buffer), with the
    /// header; octets past its end do not count.
    ///
    /// Fails if the header is malformed; the packet then counts as one without offloaded work.
    pub fn received(&mut self, len: usize) -> Result<(), Malformed> {
        self.received_by(0, len)
    }

    /// The same, where a link-layer header of `link_len` octets is between the two.
    pub fn received_by(&mut self, link_len: usize, len: usize) -> Result<(), Malformed> {
        self.start = HEADROOM;
        let before = virtio::HEADER_LEN + link_len;
        let len = len.saturating_sub(before).min(MAX_LEN);
        self.end = HEADROOM + len;
        self.make_room(self.end);
        self.offload = Offload::default();
        let header = self.storage[HEADROOM - before..].first_chunk();
        let mut offload = Offload::read(header.unwrap_or(&[0; virtio::HEADER_LEN]), link_len, len)?;
        if let Some(segments) = offload.segments
            && offload.checksum.is_none()
        {
            offload.checksum = Some(self.make_checksum_partial(segments.transport)?);
        }
        self.offload = offload;
        Ok(())
    }

    /// Makes the checksum of a super-packet, which was verified, a partial one: the sum of the
    /// pseudo-header. A network card that joins segments (LRO) leaves that of one of them, and it
    /// is of no use for those that the packet is cut into.
    #[cold]
    fn make_checksum_partial(
        &mut self,
        transport: SegmentTransport,
    ) -> Result<PartialChecksum, Malformed> {
        let protocol = transport.protocol();
        let octets = self.bytes();
        let (found, start, pseudo) = if self.is_ipv6() {
            let packet = Ipv6Packet::parse(octets)?;
            let upper = packet.upper_layer()?;
            if upper.fragment.is_some() {
                return Err(Malformed::Offload);
            }
            let len = ipv6::HEADER_LEN + packet.payload().len() - upper.offset;
            let pseudo = Sum::pseudo_v6(packet.source(), packet.destination(), protocol, len);
            (upper.protocol, upper.offset, pseudo)
        } else {
            let packet = Ipv4Packet::parse(octets)?;
            let len = packet.payload().len();
            let pseudo = Sum::pseudo_v4(packet.source(), packet.destination(), protocol, len);
            (packet.protocol(), packet.header_len(), pseudo)
        };
        let at = transport::checksum_at(protocol).filter(|_| found == protocol);
        let field = start + at.ok_or(Malformed::Offload)?;
        let octets = self.tail_mut(0).get_mut(field..field + 2);
        let octets = octets.ok_or(Malformed::Truncated)?;
        octets.copy_from_slice(&pseudo.fold().to_be_bytes());
        Ok(PartialChecksum { start, field })
    }

    /// The octets to write: the packet with a `virtio_net_hdr` before it.
    pub fn with_header(&mut self) -> &[u8] {
        self.with_headers(&[])
    }

    /// The same, with a link-layer header, of at most 32 octets, between the two.
    pub fn with_headers(&mut self, link_header: &[u8]) -> &[u8] {
        let header = self.offload_header(link_header.len());
        // The headroom is for these, too.
        let link = self.start - link_header.len();
        let before = link - header.len();
        self.storage[before..link].copy_from_slice(&header);
        self.storage[link..self.start].copy_from_slice(link_header);
        &self.storage[before..self.end]
    }

    fn offload_header(&self, link_len: usize) -> [u8; virtio::HEADER_LEN] {
        if self.offload.is_none() {
            return [0; virtio::HEADER_LEN]; // nearly always, where packets are small
        }
        // Of a super-packet the kernel needs the offset of the payload that it cuts.
        let headers = self.headers_len();
        self.offload.octets(self.bytes()[0] >> 4, link_len, headers)
    }

    /// Length of the headers of a super-packet, in octets; 0 for any other packet.
    fn headers_len(&self) -> usize {
        let Offload { checksum, segments } = self.offload;
        segments.zip(checksum).map_or(0, |(segments, checksum)| {
            let transport = &self.bytes()[checksum.start..];
            let len = transport::header_len(segments.transport.protocol(), transport);
            checksum.start + len.unwrap_or(0)
        })
    }

    /// Replaces this packet by the concatenation of `parts`, without offloaded work.
    pub(super) fn put(&mut self, parts: &[&[u8]]) {
        self.start = HEADROOM;
        self.end = HEADROOM;
        self.offload = Offload::default();
        for part in parts {
            self.append(part);
        }
    }

    /// Replaces this packet by a copy of another one, with its offloaded work.
    pub(super) fn copy(&mut self, packet: &Self) {
        self.put(&[packet.bytes()]);
        self.offload = packet.offload;
    }

    /// Appends payload. There is room for the longest packet.
    pub(super) fn append(&mut self, payload: &[u8]) {
        let end = self.end + payload.len();
        self.make_room(end);
        self.storage[self.end..end].copy_from_slice(payload);
        self.end = end;
    }

    fn make_room(&mut self, end: usize) {
        if self.storage.len() < end {
            self.storage.resize(end, 0);
        }
    }

    /// Sets the work that is left to do.
    pub(super) fn set_offload(&mut self, offload: Offload) {
        self.offload = offload;
    }

    /// The work that is left to do.
    pub(super) fn offload(&self) -> Offload {
        self.offload
    }

    /// Whether this is a super-packet: several packets with one header.
    pub fn is_super(&self) -> bool {
        self.offload.segments.is_some()
    }

    /// Number of the segments of a super-packet, and the payload of each but the last, in octets.
    pub fn segments(&self) -> Option<(usize, u16)> {
        let size = self.offload.segments?.size;
        let payload = self.bytes().len().saturating_sub(self.headers_len());
        Some((payload.div_ceil(size.into()), size))
    }

    /// Forgets the offloaded work: this is another packet now.
    pub(super) fn forget_offload(&mut self) {
        self.offload = Offload::default();
    }

    /// Completes an offloaded checksum in software. `false` if work is left: a super-packet has one
    /// checksum for many packets, and must be cut first.
    pub(super) fn complete_checksum(&mut self) -> bool {
        if self.is_super() {
            return false;
        }
        if let Some(checksum) = self.offload.checksum.take() {
            self.finish(checksum);
        }
        true
    }

    /// Completes a partial checksum.
    pub(super) fn finish(&mut self, PartialChecksum { start, field }: PartialChecksum) {
        let octets = self.tail_mut(0);
        let mut checksum = Sum::of(&octets[start..]).checksum();
        // Zero is none for UDP (RFC 768), and all ones is as good as zero for the others, as for
        // the kernel.
        if checksum == 0 && Some(field - start) == transport::checksum_at(protocol::UDP) {
            checksum = 0xffff;
        }
        octets[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Whether it is an IPv6 packet, by its version.
    pub fn is_ipv6(&self) -> bool {
        self.bytes().first().is_some_and(|first| first >> 4 == 6)
    }

    /// The packet.
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// The packet from its octet `from` on.
    pub(super) fn tail_mut(&mut self, from: usize) -> &mut [u8] {
        &mut self.storage[self.start + from..self.end]
    }

    /// Cuts off all but the first `len` octets.
    pub(super) fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }

    /// Replaces the first `len` octets by `header`, which may be longer by the headroom.
    pub(super) fn replace_front(&mut self, len: usize, header: &[u8]) {
        let payload = self.start + len;
        let start = payload - header.len();
        if let Some(checksum) = &mut self.offload.checksum {
            // The transport header stays where it is, and the packet starts elsewhere.
            checksum.start = self.start + checksum.start - start;
            checksum.field = self.start + checksum.field - start;
        }
        self.start = start;
        self.storage[self.start..payload].copy_from_slice(header);
    }

    /// Replaces this packet by another one, of 65575 octets at most, without offloaded work.
    pub fn replace(&mut self, octets: &[u8]) {
        self.put(&[octets]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    #[test]
    fn headers_change_and_the_payload_does_not_move() {
        let mut packet = Packet::new();
        packet.replace(b"hhhhload");
        let payload = packet.bytes()[4..].as_ptr();
        packet.replace_front(4, b"HEADER");
        assert_eq!(packet.bytes(), b"HEADERload");
        assert_eq!(packet.bytes()[6..].as_ptr(), payload);
        packet.replace_front(6, b"");
        assert_eq!(packet.bytes(), b"load");
        packet.truncate(2);
        packet.truncate(3);
        assert_eq!(packet.bytes(), b"lo");
    }

    /// RFC 8200 section 3: the longest packet that is none of the jumbograms of RFC 2675.
    #[test]
    fn a_packet_is_not_longer_than_the_buffer() {
        let mut packet = Packet::new();
        let room = packet.read_buffer().len();
        packet.received(usize::MAX / 2).unwrap();
        assert_eq!(packet.bytes().len(), 65_575);
        assert_eq!(packet.with_header().len(), room);
        packet.received(0).unwrap();
        assert!(packet.bytes().is_empty());
    }

    /// A link-layer header is between the `virtio_net_hdr` and the packet, which both directions
    /// leave where they are.
    #[test]
    fn a_packet_is_read_and_written_behind_a_link_layer_header() {
        const LINK: &[u8; 14] = b"link layer hdr";
        let mut packet = Packet::new();
        let read = [&[0; virtio::HEADER_LEN][..], LINK, b"packet"].concat();
        packet.read_buffer_for(LINK.len())[..read.len()].copy_from_slice(&read);
        packet.received_by(LINK.len(), read.len()).unwrap();
        assert_eq!(packet.bytes(), b"packet");
        assert_eq!(packet.with_headers(LINK), read);
        assert_eq!(packet.bytes(), b"packet");
    }

    /// RFC 768: a checksum of zero is sent as all ones, since zero is none. Not of TCP.
    #[test]
    fn a_finished_checksum_of_zero_is_all_ones_for_udp() {
        for (field, expected) in [(4 + 6, [0xff, 0xff]), (4 + 16, [0, 0])] {
            let mut octets = [0; 24];
            octets[4..6].fill(0xff); // the sum of all
            let mut packet = Packet::new();
            packet.replace(&octets);
            packet.finish(PartialChecksum { start: 4, field });
            assert_eq!(packet.bytes()[field..field + 2], expected);
        }
    }
}
