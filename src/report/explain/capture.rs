//! The frames of a capture: pcap, and pcapng (draft-ietf-opsawg-pcapng).

use std::{fmt, time::Duration};

use pcap_parser::{
    Block, PcapError, PcapHeader, parse_block_be, parse_block_le, parse_pcap_frame,
    parse_pcap_frame_be, parse_pcap_header, parse_sectionheaderblock,
};

/// The bits of the link type of a pcap file; others say what is behind the packets.
const LINK_TYPE: i32 = 0xffff;
/// Nanoseconds in a second.
const NANOSECONDS: u128 = 1_000_000_000;

/// A frame of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured<'a> {
    /// The link type, as <https://www.tcpdump.org/linktypes.html> has it.
    pub link: i32,
    /// When it was captured, since some time that is the same for all frames of an interface.
    pub time: Duration,
    /// Length of the frame on the wire, in octets.
    pub len: usize,
    /// What was kept of it.
    pub octets: &'a [u8],
}

/// Why a capture cannot be read, or no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRead {
    /// It is neither a pcap nor a pcapng file.
    Unknown,
    /// It ends within a frame.
    CutOff,
    /// It is damaged.
    Damaged,
}

impl fmt::Display for NotRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "expected a pcap or pcapng file, found something else",
            Self::CutOff => "the capture ends within a frame",
            Self::Damaged => "the capture is damaged",
        })
    }
}

impl std::error::Error for NotRead {}

impl From<pcap_parser::nom::Err<PcapError<&[u8]>>> for NotRead {
    fn from(error: pcap_parser::nom::Err<PcapError<&[u8]>>) -> Self {
        match error {
            pcap_parser::nom::Err::Incomplete(_) => Self::CutOff,
            _ => Self::Damaged,
        }
    }
}

/// The frames of a capture, in order. After an error there are no more.
#[derive(Debug)]
pub struct Capture<'a> {
    rest: &'a [u8],
    format: Format,
}

#[derive(Debug)]
enum Format {
    Pcap(PcapHeader),
    PcapNg {
        is_big_endian: bool,
        /// Of the section.
        interfaces: Vec<Interface>,
    },
}

/// An interface of a pcapng file.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: i32,
    /// Octets that are kept of a frame; 0: all.
    snaplen: u32,
    /// Units of time in a second.
    resolution: u128,
}

impl<'a> Capture<'a> {
    /// A capture, with all of its octets.
    pub fn new(octets: &'a [u8]) -> Result<Self, NotRead> {
        if let Ok((rest, header)) = parse_pcap_header(octets) {
            let format = Format::Pcap(header);
            return Ok(Self { rest, format });
        }
        // It is read again, as any section is.
        parse_sectionheaderblock(octets).map_err(|_| NotRead::Unknown)?;
        Ok(Self {
            rest: octets,
            format: Format::PcapNg {
                is_big_endian: false,
                interfaces: Vec::new(),
            },
        })
    }

    /// The next block: a frame, or something else.
    fn block(&mut self) -> Result<Option<Captured<'a>>, NotRead> {
        match &mut self.format {
            Format::Pcap(header) => {
                let frame = match header.is_bigendian() {
                    true => parse_pcap_frame_be(self.rest)?,
                    false => parse_pcap_frame(self.rest)?,
                };
                let (rest, frame) = frame;
                self.rest = rest;
                let nanoseconds = match header.is_nanosecond_precision() {
                    true => frame.ts_usec,
                    false => frame.ts_usec.saturating_mul(1000),
                };
                let seconds = Duration::from_secs(frame.ts_sec.into());
                Ok(Some(Captured {
                    link: header.network.0 & LINK_TYPE,
                    time: seconds + Duration::from_nanos(nanoseconds.into()),
                    len: frame.origlen as usize,
                    octets: frame.data,
                }))
            }
            Format::PcapNg {
                is_big_endian,
                interfaces,
            } => {
                let (rest, block) = match is_big_endian {
                    true => parse_block_be(self.rest)?,
                    false => parse_block_le(self.rest)?,
                };
                // A block that is not known has at least its type and length.
                if rest.len() == self.rest.len() {
                    return Err(NotRead::Damaged);
                }
                self.rest = rest;
                if let Block::SectionHeader(section) = &block {
                    *is_big_endian = section.big_endian();
                }
                Ok(frame_of(block, interfaces))
            }
        }
    }
}

impl<'a> Iterator for Capture<'a> {
    type Item = Result<Captured<'a>, NotRead>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match self.block() {
                Ok(Some(frame)) => return Some(Ok(frame)),
                Ok(None) => {}
                Err(error) => {
                    self.rest = &[];
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// The frame of a block of a pcapng file. Other blocks may change what is known of the interfaces.
fn frame_of<'a>(block: Block<'a>, interfaces: &mut Vec<Interface>) -> Option<Captured<'a>> {
    match block {
        Block::SectionHeader(_) => {
            interfaces.clear();
            None
        }
        Block::InterfaceDescription(interface) => {
            interfaces.push(Interface {
                link: interface.linktype.0,
                snaplen: interface.snaplen,
                resolution: resolution(interface.if_tsresol),
            });
            None
        }
        Block::EnhancedPacket(frame) => {
            let interface = interfaces.get(frame.if_id as usize)?;
            let units = u128::from(frame.ts_high) << 32 | u128::from(frame.ts_low);
            let nanoseconds = units * NANOSECONDS / interface.resolution;
            Some(Captured {
                link: interface.link,
                time: Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)),
                len: frame.origlen as usize,
                octets: frame.data.get(..frame.caplen as usize)?,
            })
        }
        Block::SimplePacket(frame) => {
            let interface = interfaces.first()?;
            let kept = match interface.snaplen {
                0 => frame.origlen,
                snaplen => frame.origlen.min(snaplen),
            };
            Some(Captured {
                link: interface.link,
                time: Duration::ZERO, // it has none
                len: frame.origlen as usize,
                octets: frame.data.get(..kept as usize)?,
            })
        }
        _ => None,
    }
}

/// Units of time in a second, by the option `if_tsresol`: a negative power of 10, or of 2.
fn resolution(option: u8) -> u128 {
    let power = u32::from(option & 0x7f);
    let units = match option & 0x80 {
        0 => 10_u128.checked_pow(power),
        _ => 1_u128.checked_shl(power),
    };
    units.filter(|&units| units != 0).unwrap_or(u128::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Writes numbers in an order of octets.
    #[derive(Clone, Copy)]
    struct Order {
        is_big_endian: bool,
    }

    impl Order {
        fn u16(self, number: u16) -> [u8; 2] {
            match self.is_big_endian {
                true => number.to_be_bytes(),
                false => number.to_le_bytes(),
            }
        }

        fn u32(self, number: u32) -> [u8; 4] {
            match self.is_big_endian {
                true => number.to_be_bytes(),
                false => number.to_le_bytes(),
            }
        }

        fn words(self, numbers: &[u32]) -> Vec<u8> {
            numbers
                .iter()
                .flat_map(|&number| self.u32(number))
                .collect()
        }

        /// A pcap file with a frame of `len` octets.
        fn pcap(self, magic: u32, fraction: u32, len: u32, frame: &[u8]) -> Vec<u8> {
            let mut file = self.u32(magic).to_vec();
            file.extend([self.u16(2), self.u16(4)].concat());
            file.extend(self.words(&[0, 0, 65535, 101]));
            file.extend(self.words(&[7, fraction, frame.len() as u32, len]));
            file.extend(frame);
            file
        }

        fn block(self, kind: u32, content: &[u8]) -> Vec<u8> {
            let len = self.u32(content.len() as u32 + 12);
            [&self.u32(kind)[..], &len, content, &len].concat()
        }

        /// A pcapng file with two interfaces, of Ethernet and of IP, and a frame of each kind.
        fn pcapng(self) -> Vec<u8> {
            let section = [
                &self.u32(0x1a2b_3c4d)[..],
                &self.u16(1),
                &self.u16(0),
                &[0xff; 8],
            ];
            let interface = |link: u16, options: &[u8]| {
                let words = [&self.u16(link)[..], &self.u16(0), &self.u32(0), options];
                self.block(1, &words.concat())
            };
            // if_tsresol: nanoseconds.
            let nanoseconds = [&self.u16(9)[..], &self.u16(1), &[9, 0, 0, 0], &[0; 4]].concat();
            let ticks = 7_000_000_001_u64;
            let (high, low) = ((ticks >> 32) as u32, ticks as u32);
            let enhanced = [&self.words(&[1, high, low, 3, 9])[..], &[1, 2, 3, 0]].concat();
            let simple = [&self.u32(2)[..], &[4, 5, 0, 0]].concat();
            [
                self.block(0x0a0d_0d0a, &section.concat()),
                interface(1, &[]),
                interface(101, &nanoseconds),
                self.block(6, &enhanced),
                self.block(0x0000_0bad, &[0; 8]), // not known: left out
                self.block(3, &simple),
            ]
            .concat()
        }
    }

    fn frames(file: &[u8]) -> Vec<Result<Captured<'_>, NotRead>> {
        Capture::new(file).unwrap().collect()
    }

    const ORDERS: [Order; 2] = [
        Order {
            is_big_endian: false,
        },
        Order {
            is_big_endian: true,
        },
    ];

    /// pcap, in both orders of octets, of microseconds and of nanoseconds.
    #[test]
    fn frames_of_pcap_are_read() {
        for order in ORDERS {
            for (magic, nanoseconds) in [(0xa1b2_c3d4, 5000), (0xa1b2_3c4d, 5)] {
                let file = order.pcap(magic, 5, 9, &[1, 2, 3]);
                let expected = Captured {
                    link: 101,
                    time: Duration::new(7, nanoseconds),
                    len: 9,
                    octets: &[1, 2, 3],
                };
                assert_eq!(frames(&file), [Ok(expected)]);
                let cut_off = &file[..file.len() - 1];
                assert_eq!(frames(cut_off), [Err(NotRead::CutOff)]);
            }
        }
    }

    /// pcapng, in both orders of octets: each frame has the link type and the clock of its
    /// interface, also in a second section.
    #[test]
    fn frames_of_pcapng_are_read() {
        for [first, second] in [ORDERS, [ORDERS[1], ORDERS[0]]] {
            let file = [first.pcapng(), second.pcapng()].concat();
            let enhanced = Captured {
                link: 101,
                time: Duration::new(7, 1),
                len: 9,
                octets: &[1, 2, 3],
            };
            let simple = Captured {
                link: 1,
                time: Duration::ZERO,
                len: 2,
                octets: &[4, 5],
            };
            let expected = [enhanced, simple, enhanced, simple].map(Ok);
            assert_eq!(frames(&file), expected);
        }
    }

    #[test]
    fn other_files_are_refused() {
        for file in [
            &b""[..],
            b"map 192.0.2.1 2001:db8::1\n",
            &[0; 100],
            &[0xd4, 0xc3, 0xb2],
        ] {
            assert_eq!(Capture::new(file).unwrap_err(), NotRead::Unknown);
        }
    }

    proptest! {
        /// Whatever a file has in it, it is read to an end.
        #[test]
        fn any_octets_are_read_or_refused(
            (is_ng, is_big_endian) in any::<(bool, bool)>(),
            changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            more in vec(any::<u8>(), 0..64),
        ) {
            let order = Order { is_big_endian };
            let mut file = match is_ng {
                true => order.pcapng(),
                false => order.pcap(0xa1b2_c3d4, 5, 9, &[1, 2, 3]),
            };
            file.extend(more);
            for (at, octet) in changes {
                let at = at.index(file.len());
                file[at] = octet;
            }
            if let Ok(capture) = Capture::new(&file) {
                let frames: Vec<_> = capture.collect();
                let octets = frames.iter().flatten().map(|frame| frame.octets.len());
                prop_assert!(octets.sum::<usize>() <= file.len());
                prop_assert!(frames.iter().filter(|frame| frame.is_err()).count() <= 1);
            }
        }
    }
}
