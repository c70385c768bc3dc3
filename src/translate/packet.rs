//! The buffer that a packet is read into, translated in, and written from.

/// Room before a packet as it was read: for the headers that a translation (28 octets more), or an ICMP error about it
/// (48), puts before it. The rest keeps packets aligned to cache lines.
const HEADROOM: usize = 128;

/// The largest packet there is: an IPv6 header and 65535 octets of payload.
const MAX_LEN: usize = 40 + 65535;

/// One packet in one buffer, with headroom before it: headers change, the payload never moves.
#[derive(Debug)]
pub struct Packet {
    storage: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Packet {
    fn default() -> Self {
        Self::new()
    }
}

impl Packet {
    /// An empty packet, with room for the largest there is.
    pub fn new() -> Self {
        Self {
            storage: vec![0; HEADROOM + MAX_LEN].into_boxed_slice(),
            start: HEADROOM,
            end: HEADROOM,
        }
    }

    /// Where the next packet is to be read to. The packet is empty until [`received`](Self::received) says how long it is.
    pub fn space(&mut self) -> &mut [u8] {
        self.start = HEADROOM;
        self.end = HEADROOM;
        &mut self.storage[HEADROOM..]
    }

    /// Says how many octets were read into [`space`](Self::space); no more than its length count.
    pub fn received(&mut self, len: usize) {
        self.start = HEADROOM;
        self.end = HEADROOM + len.min(MAX_LEN);
    }

    /// The packet.
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// The packet from its octet `from` on.
    pub(super) fn tail_mut(&mut self, from: usize) -> &mut [u8] {
        &mut self.storage[self.start + from..self.end]
    }

    /// Forgets what lies behind the first `len` octets.
    pub(super) fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }

    /// Puts `header` in the place of the first `len` octets. The headroom is for this: it is larger than all headers
    /// that are ever put before a packet.
    pub(super) fn replace_front(&mut self, len: usize, header: &[u8]) {
        let payload = self.start + len;
        self.start = payload - header.len();
        self.storage[self.start..payload].copy_from_slice(header);
    }

    /// Puts another packet in the place of this one.
    pub(super) fn replace(&mut self, octets: &[u8]) {
        self.start = HEADROOM;
        self.end = HEADROOM + octets.len();
        self.storage[self.start..self.end].copy_from_slice(octets);
    }

    /// Writes `header` directly before octet `from`, over what is there, and returns it with the `len` octets after it.
    /// `from` may not be less than the length of the header, headroom included.
    pub(super) fn window(&mut self, from: usize, header: &[u8], len: usize) -> &[u8] {
        let payload = self.start + from;
        let start = payload - header.len();
        self.storage[start..payload].copy_from_slice(header);
        &self.storage[start..payload + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_change_and_the_payload_stays_where_it_is() {
        let mut packet = Packet::new();
        packet.space()[..8].copy_from_slice(b"hhhhload");
        packet.received(8);
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

    #[test]
    fn no_more_is_received_than_there_is_room_for() {
        let mut packet = Packet::new();
        let room = packet.space().len();
        packet.received(usize::MAX / 2);
        assert_eq!(packet.bytes().len(), room);
    }
}
