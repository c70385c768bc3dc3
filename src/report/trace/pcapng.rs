//! The format of a trace: pcapng (draft-ietf-opsawg-pcapng), with an interface for each side.

use std::{fmt, time::Duration};

use pcap_file::{
    DataLink, Endianness,
    pcapng::{
        PcapNgBlock, PcapNgWriter,
        blocks::{
            enhanced_packet::{self, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
            section_header::{SectionHeaderBlock, SectionHeaderOption},
        },
    },
};
use pcap_parser::{
    EnhancedPacketBlock, OptionCode, nom, parse_block_le, traits::PcapNGPacketBlock,
};

/// Times are in nanoseconds: this power of ten in a second.
const RESOLUTION: u8 = 9;

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

/// Writes blocks.
pub(super) struct Writer {
    /// `None`: never, since memory takes all that is written.
    writer: Option<PcapNgWriter<Vec<u8>>>,
}

impl Writer {
    /// Begins with the blocks before the first packet: the section header, and the interfaces of a
    /// device.
    pub(super) fn new(device: &str) -> Self {
        let program = concat!("xlatd ", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            endianness: Endianness::Little,
            options: vec![SectionHeaderOption::UserApplication(program.into())],
            ..SectionHeaderBlock::default() // its length is not known yet
        };
        let writer = PcapNgWriter::with_section_header(Vec::new(), section).ok();
        let mut writer = Self { writer };
        for side in Side::ALL {
            writer.add(InterfaceDescriptionBlock {
                linktype: DataLink::RAW, // packets begin with the header of IPv4 or IPv6
                snaplen: 0,
                options: vec![
                    InterfaceDescriptionOption::IfName(side.name(device).into()),
                    InterfaceDescriptionOption::IfTsResol(RESOLUTION),
                ],
            });
        }
        writer
    }

    /// Adds the block of a packet. `time` is since 1970, and `left_out` are missing before it.
    pub(super) fn packet(
        &mut self,
        side: Side,
        time: Duration,
        octets: &[u8],
        comment: &str,
        left_out: u64,
    ) {
        let mut options = vec![EnhancedPacketOption::Comment(comment.into())];
        if left_out > 0 {
            options.push(EnhancedPacketOption::DropCount(left_out));
        }
        self.add(enhanced_packet::EnhancedPacketBlock {
            interface_id: side as u32,
            timestamp: time,
            original_len: octets.len() as u32, // at most 65575
            data: octets.into(),
            options,
        });
    }

    fn add<'a>(&mut self, block: impl PcapNgBlock<'a>) {
        if let Some(writer) = &mut self.writer {
            let _ = writer.write_pcapng_block(block);
        }
    }

    /// Takes what was written since the last time.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let written = self.writer.as_mut().map(PcapNgWriter::get_mut);
        written.map(std::mem::take).unwrap_or_default()
    }
}

/// The longest block that is waited for, in octets: no packet makes one of half of that. Whoever
/// sends a stream may not mean it well.
const MAX_BLOCK_LEN: usize = 1 << 18;
/// The length of an empty block: kind, length, and length again.
const MIN_BLOCK_LEN: u32 = 12;
/// The maximum number of interfaces. A trace has two.
const MAX_INTERFACES: usize = 16;

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
        // The parser subtracts this from the length of some blocks before it looks.
        let len = self.rest.get(4..8).and_then(|len| len.first_chunk());
        if len.is_some_and(|len| u32::from_le_bytes(*len) < MIN_BLOCK_LEN) {
            return Err(NotATrace);
        }
        let (len, packet) = match parse_block_le(&self.rest) {
            Err(nom::Err::Incomplete(_)) if self.rest.len() <= MAX_BLOCK_LEN => return Ok(None),
            Err(_) => return Err(NotATrace),
            Ok((after, block)) => {
                let packet = match block {
                    pcap_parser::Block::InterfaceDescription(_)
                        if self.interfaces.len() == MAX_INTERFACES =>
                    {
                        return Err(NotATrace);
                    }
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
        let mut writer = Writer::new("nat64");
        writer.packet(Side::In, time, b"\x45 odd", "packet 1", 0);
        writer.packet(Side::Out, time, b"", "translation of packet 1", 300);
        let file = writer.take();
        assert!(!file.is_empty() && writer.take().is_empty());
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

    /// A daemon that has been taken over fills nobody's memory.
    #[test]
    fn a_stream_without_end_is_refused() {
        let (kind, len) = (6_u32.to_le_bytes(), 0x7fff_fffc_u32.to_le_bytes());
        let mut blocks = Blocks::default();
        blocks.push(&[kind, len].concat());
        let mut octets = 0;
        while blocks.next_block() == Ok(None) {
            blocks.push(&[0; 4096]);
            octets += 4096;
        }
        assert!((MAX_BLOCK_LEN..MAX_BLOCK_LEN + 8192).contains(&octets));

        let interface: Vec<u8> = [1_u32, 20, 101, 0, 20]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let mut blocks = Blocks::default();
        let mut interfaces = 0;
        blocks.push(&interface);
        while let Ok(Some(_)) = blocks.next_block() {
            blocks.push(&interface);
            interfaces += 1;
        }
        assert_eq!(interfaces, MAX_INTERFACES);
    }
}
