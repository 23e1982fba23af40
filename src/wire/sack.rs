//! Selective acknowledgement: the payload of a pure ACK that reports a gap.
//!
//! ```text
//! "SACK" | count u8 (1..=4) | count x ( left u32 | right u32 )      right is one past the end
//! ```
//! There is no other marker: data whose segment begins like this is taken for one, so a sender
//! cuts such a segment after its first byte ([`looks_like_sack`]).

use super::Seq;
use super::cursor::Reader;

/// Most blocks in one acknowledgement.
pub const MAX_BLOCKS: usize = 4;
const MAGIC: [u8; 4] = *b"SACK";
/// Bytes of the largest acknowledgement; [`looks_like_sack`] needs no more to decide.
pub const MAX_ENCODED_LEN: usize = MAGIC.len() + 1 + 8 * MAX_BLOCKS;

/// Received bytes beyond a gap: `left..right`, right exclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SackBlock {
    /// First byte of the block.
    pub left: Seq,
    /// One past its last byte.
    pub right: Seq,
}

/// Up to four blocks, on the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SackBlocks {
    blocks: [SackBlock; MAX_BLOCKS],
    len: usize,
}

impl SackBlocks {
    /// Adds a block; `false` if there are four already.
    pub fn push(&mut self, block: SackBlock) -> bool {
        let Some(slot) = self.blocks.get_mut(self.len) else { return false };
        *slot = block;
        self.len += 1;
        true
    }

    /// The blocks, in the order of the wire.
    #[must_use]
    pub fn as_slice(&self) -> &[SackBlock] {
        self.blocks.get(..self.len).unwrap_or_default()
    }

    /// Whether there is no block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Decodes the payload of an ACK; `None` means that it is user data. Extra bytes are ignored.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut r = Reader::new("sack", payload);
        if r.array().ok()? != MAGIC {
            return None;
        }
        let count = usize::from(r.u8().ok()?);
        if !(1..=MAX_BLOCKS).contains(&count) {
            return None;
        }
        let mut blocks = Self::default();
        for _ in 0..count {
            blocks.push(SackBlock { left: Seq(r.u32().ok()?), right: Seq(r.u32().ok()?) });
        }
        Some(blocks)
    }

    /// Appends the encoded blocks; appends nothing when there are none.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        out.extend_from_slice(&MAGIC);
        #[expect(clippy::cast_possible_truncation, reason = "at most 4")]
        out.push(self.len as u8);
        for block in self.as_slice() {
            out.extend_from_slice(&block.left.0.to_be_bytes());
            out.extend_from_slice(&block.right.0.to_be_bytes());
        }
    }
}

/// Whether a data segment with this payload would be taken for an acknowledgement.
#[must_use]
pub fn looks_like_sack(payload: &[u8]) -> bool {
    SackBlocks::parse(payload).is_some()
}
