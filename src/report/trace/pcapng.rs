//! The format of a trace: pcapng (draft-ietf-opsawg-pcapng), with an interface for each side.

use std::{borrow::Cow, fmt, time::Duration};

use pcap_parser::{
    EnhancedPacketBlock, InterfaceDescriptionBlock, Linktype, OptionCode, PcapNGOption,
    SectionHeaderBlock, ToVec, nom, parse_block_le, traits::PcapNGPacketBlock,
};

/// Packets begin with the header of IPv4 or IPv6 (LINKTYPE_RAW).
const RAW: Linktype = Linktype(101);
/// Times are in nanoseconds: this power of ten in a second.
const RESOLUTION: u8 = 9;
/// `epb_dropcount`: packets that are missing before this one.
const DROP_COUNT: OptionCode = OptionCode(4);

/// Where a packet was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// As it came.
    In,
    /// As it goes.
    Out,
}

impl Side {
    const ALL: [Self; 2] = [Self::In, Self::Out];

    fn name(self, device: &str) -> String {
        match self {
            Self::In => format!("{device} in"),
            Self::Out => format!("{device} out"),
        }
    }
}

/// The blocks before the first packet: the section header, and the interfaces of a device.
pub(super) fn beginning(device: &str) -> Vec<u8> {
    let program = concat!("xlatd ", env!("CARGO_PKG_VERSION"));
    let mut section = SectionHeaderBlock {
        block_type: 0,
        block_len1: 0,
        bom: 0,
        major_version: 1,
        minor_version: 0,
        section_len: -1, // not known yet
        options: vec![option(OptionCode::ShbUserAppl, program.as_bytes())],
        block_len2: 0,
    };
    let mut octets = written(&mut section);
    for side in Side::ALL {
        let name = side.name(device);
        let mut interface = InterfaceDescriptionBlock {
            block_type: 0,
            block_len1: 0,
            linktype: RAW,
            reserved: 0,
            snaplen: 0,
            options: vec![
                option(OptionCode::IfName, name.as_bytes()),
                option(OptionCode::IfTsresol, &[RESOLUTION]),
            ],
            block_len2: 0,
            if_tsresol: RESOLUTION,
            if_tsoffset: 0,
        };
        octets.extend(written(&mut interface));
    }
    octets
}

/// The block of a packet. `time` is since 1970, and `left_out` are missing before it.
pub(super) fn packet(
    side: Side,
    time: Duration,
    octets: &[u8],
    comment: &str,
    left_out: u64,
) -> Vec<u8> {
    let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let len = octets.len() as u32; // at most 65575
    let left_out_octets = left_out.to_le_bytes();
    let mut options = vec![option(OptionCode::Comment, comment.as_bytes())];
    if left_out > 0 {
        options.push(option(DROP_COUNT, &left_out_octets));
    }
    let mut block = EnhancedPacketBlock {
        block_type: 0,
        block_len1: 0,
        if_id: side as u32,
        ts_high: (time >> u32::BITS) as u32,
        ts_low: time as u32,
        caplen: len,
        origlen: len,
        data: octets,
        options,
        block_len2: 0,
    };
    written(&mut block)
}

fn option(code: OptionCode, value: &[u8]) -> PcapNGOption<'_> {
    PcapNGOption {
        code,
        len: value.len() as u16, // names and comments are short
        value: Cow::Borrowed(value),
    }
}

fn written(block: &mut impl ToVec) -> Vec<u8> {
    // Memory takes all that is written.
    block.to_vec().unwrap_or_default()
}

/// The stream of a trace, taken apart into blocks as it comes.
#[derive(Debug, Default)]
pub struct Blocks {
    /// What came after the last block.
    rest: Vec<u8>,
    interfaces: Vec<String>,
}

/// A block of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// All of it, as it is in a file.
    pub octets: Vec<u8>,
    /// The packet in it, if it has one.
    pub packet: Option<Captured>,
}

/// A packet of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The name of the interface.
    pub interface: String,
    /// The time since 1970.
    pub time: Duration,
    /// The packet.
    pub octets: Vec<u8>,
    /// What became of it, or what it was made of.
    pub comment: String,
}

/// What was read is no trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotATrace;

impl fmt::Display for NotATrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a block of a pcapng file, found something else")
    }
}

impl std::error::Error for NotATrace {}

impl Blocks {
    /// Adds what has come.
    pub fn push(&mut self, octets: &[u8]) {
        self.rest.extend(octets);
    }

    /// The next block that is complete.
    pub fn next_block(&mut self) -> Result<Option<Block>, NotATrace> {
        let (len, packet) = match parse_block_le(&self.rest) {
            Err(nom::Err::Incomplete(_)) => return Ok(None),
            Err(_) => return Err(NotATrace),
            Ok((after, block)) => {
                let packet = match block {
                    pcap_parser::Block::InterfaceDescription(interface) => {
                        let name = interface.if_name().and_then(Result::ok);
                        self.interfaces.push(name.unwrap_or_default().to_owned());
                        None
                    }
                    pcap_parser::Block::EnhancedPacket(packet) => {
                        Some(captured(&packet, &self.interfaces))
                    }
                    _ => None,
                };
                (self.rest.len() - after.len(), packet)
            }
        };
        if len == 0 {
            return Ok(None);
        }
        let octets = self.rest.drain(..len).collect();
        Ok(Some(Block { octets, packet }))
    }
}

fn captured(packet: &EnhancedPacketBlock<'_>, interfaces: &[String]) -> Captured {
    let interface = interfaces.get(packet.if_id as usize);
    let time = u64::from(packet.ts_high) << u32::BITS | u64::from(packet.ts_low);
    let options = packet.options.iter();
    let mut comments = options.filter(|option| option.code == OptionCode::Comment);
    let comment = comments.next().and_then(|comment| comment.as_str().ok());
    Captured {
        interface: interface.cloned().unwrap_or_default(),
        time: Duration::from_nanos(time),
        octets: packet.packet_data().to_vec(),
        comment: comment.unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    /// However it is cut on the way, the same blocks come out, and together they are the file.
    #[test]
    fn what_is_written_is_read_back() {
        let time = Duration::new(1_700_000_000, 123_456_789);
        let mut file = beginning("nat64");
        file.extend(packet(Side::In, time, b"\x45 odd", "packet 1", 0));
        file.extend(packet(Side::Out, time, b"", "translation of packet 1", 300));
        for size in [1, 7, file.len()] {
            let mut blocks = Blocks::default();
            let (mut copy, mut packets) = (Vec::new(), Vec::new());
            for part in file.chunks(size) {
                blocks.push(part);
                while let Some(block) = blocks.next_block().unwrap() {
                    copy.extend(block.octets);
                    packets.extend(block.packet);
                }
            }
            assert_eq!(copy, file);
            let expected = |interface: &str, octets: &[u8], comment: &str| Captured {
                interface: interface.to_owned(),
                time,
                octets: octets.to_owned(),
                comment: comment.to_owned(),
            };
            let came = expected("nat64 in", b"\x45 odd", "packet 1");
            let went = expected("nat64 out", b"", "translation of packet 1");
            assert_eq!(packets, [came, went]);
        }
    }

    #[test]
    fn something_else_is_refused() {
        let mut blocks = Blocks::default();
        // The block of a packet, with the lengths 32 and 36.
        blocks.push(&[&[6, 0, 0, 0, 32, 0, 0, 0][..], &[0; 20], &[36, 0, 0, 0]].concat());
        assert_eq!(blocks.next_block(), Err(NotATrace));
    }
}
