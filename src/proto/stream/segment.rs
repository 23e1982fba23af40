//! Segments as they enter and leave a stream, and the two dialects they are written in.

use crate::wire::options::StreamOptions;
use crate::wire::{Flags, Seq};

/// Bytes that one count of the window field stands for at a Go node, and in every SYN and SYN-ACK.
pub const GO_UNIT_BYTES: usize = 1152;
/// The largest payload that a Go node puts into a segment.
pub(super) const GO_LARGEST_SEGMENT: usize = 4096;
/// The window a Go node announces when idle; more is understood, but never used.
pub(super) const GO_WINDOW_SEGMENTS: u16 = 512;
/// Most unacknowledged segments toward a Go node: what it keeps behind a gap.
pub(super) const GO_FLIGHT_SEGMENTS: usize = 128;

/// How the peer talks; decided by the options in its SYN or SYN-ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Release 1.18.0: windows count segments, FIN ends both directions, and overlapping
    /// retransmissions are dropped.
    Go,
    /// One of our nodes, with the options it sent: windows count bytes, half close.
    Native(StreamOptions),
}

/// A received segment, or one to send with its payload elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// SYN, ACK, FIN, RST.
    pub flags: Flags,
    /// Number of the first payload byte.
    pub seq: Seq,
    /// Next byte the sender expects; meaningful with ACK.
    pub ack: Seq,
    /// Free room of the sender; meaningless with RST, and on a Go node's FIN.
    pub window: u16,
    /// Data, SACK blocks, or the options of SYN and SYN-ACK.
    pub payload: &'a [u8],
}

/// The header fields of a segment to send; the payload was appended to the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// SYN, ACK, FIN, RST.
    pub flags: Flags,
    /// Number of the first payload byte, or the next number if there is none.
    pub seq: Seq,
    /// Next byte we expect.
    pub ack: Seq,
    /// Our free room.
    pub window: u16,
}

impl Outgoing {
    /// The RST that answers a SYN to a port without listener, as Go nodes write it.
    #[must_use]
    pub const fn refusal() -> Self {
        Self { flags: Flags::RST, seq: Seq(0), ack: Seq(0), window: 0 }
    }
}
