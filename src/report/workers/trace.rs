//! What other workers add to a trace: each a stream of blocks, in parts.

use crate::report::trace::Blocks;

/// The body of a part of the trace of this number: a piece of its stream.
pub fn part_of_trace(number: u64, octets: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes(), octets].concat()
}

/// What a worker adds to the trace that is taken.
#[derive(Debug, Default)]
pub struct AddedTrace {
    number: u64,
    /// `None`: none is taken, or what the worker adds is none.
    blocks: Option<Blocks>,
}

impl AddedTrace {
    /// Begins the trace of this number.
    pub fn begin(&mut self, number: u64) {
        self.number = number;
        self.blocks = Some(Blocks::default());
    }

    /// Ends it.
    pub fn end(&mut self) {
        self.blocks = None;
    }

    /// Takes a part, and has `add` the blocks that are complete with it. Parts of a trace that has
    /// ended may still come, and do not count.
    pub fn take(&mut self, body: &[u8], mut add: impl FnMut(&[u8])) {
        let Some((number, octets)) = body.split_first_chunk() else {
            return;
        };
        let Some(blocks) = &mut self.blocks else {
            return;
        };
        if u64::from_be_bytes(*number) != self.number {
            return;
        }
        blocks.push(octets);
        loop {
            match blocks.next_block() {
                Ok(Some(block)) => add(&block.octets),
                Ok(None) => return,
                Err(_) => return self.end(), // what comes is not kept
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    /// A block of a pcapng file: type, length, body, length.
    fn block(body: &[u8; 8]) -> Vec<u8> {
        let len = 20_u32.to_le_bytes();
        [&0x4242_4242_u32.to_le_bytes()[..], &len, body, &len].concat()
    }

    /// A client leaves in the middle of a block, and the next one begins while its rest is on the
    /// way.
    #[test]
    fn parts_of_a_trace_that_has_ended_do_not_count() {
        let (old, new) = (block(b"old text"), block(b"new text"));
        let mut added = AddedTrace::default();
        let mut got = Vec::new();
        let mut take = |added: &mut AddedTrace, number, octets: &[u8]| {
            added.take(&part_of_trace(number, octets), |block| {
                got.push(block.to_vec());
            });
        };
        take(&mut added, 1, &old);
        added.begin(1);
        take(&mut added, 1, &old);
        take(&mut added, 1, &old[..7]);
        added.end();
        added.begin(2);
        take(&mut added, 1, &old[7..]);
        take(&mut added, 2, &new[..3]);
        take(&mut added, 2, &new[3..]);
        added.take(b"short", |_| panic!());
        added.end();
        take(&mut added, 2, &new);
        assert_eq!(got, [old, new]);
    }

    /// Another worker may have been taken over by whoever sends packets: what it sends is not kept
    /// without end.
    #[test]
    fn what_is_no_trace_is_not_kept() {
        let mut added = AddedTrace::default();
        added.begin(1);
        // A block without end.
        let head = [
            &0x4242_4242_u32.to_le_bytes()[..],
            &(1_u32 << 30).to_le_bytes(),
        ]
        .concat();
        added.take(&part_of_trace(1, &head), |_| panic!());
        let mut parts = 0;
        while added.blocks.is_some() {
            added.take(&part_of_trace(1, &[0; 1 << 14]), |_| panic!());
            parts += 1;
        }
        assert!(parts < 30, "{parts}");
        // Blocks that end before they begin.
        for kind in [1_u32, 6, 0x8000_0001] {
            for len in 0..12_u32 {
                added.begin(3);
                let block = [
                    kind.to_le_bytes(),
                    len.to_le_bytes(),
                    [0; 4],
                    len.to_le_bytes(),
                ];
                added.take(&part_of_trace(3, &block.concat()), |_| panic!());
                assert!(added.blocks.is_none(), "{kind} {len}");
            }
        }
    }
}
