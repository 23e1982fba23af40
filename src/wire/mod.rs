//! Codecs: bytes to typed values and back. No state, no I/O, no clock.
//!
//! Everything is big-endian. Decoders take `&[u8]`, never panic, never allocate more than their
//! input justifies, borrow where they can, and return [`WireError`]. [`cursor`] is the one place
//! that does bounds checks. The layouts come from the protocol notes of the Pilot Protocol
//! (release 1.18.0); each type draws its own.

pub mod addr;
pub mod beacon;
pub mod compat;
pub mod cursor;
pub mod frames;
pub mod handshake;
pub mod options;
pub mod packet;
pub mod ports;
pub mod punch;
pub mod registry;
pub mod registry_binary;
pub mod sack;
pub mod seq;
pub mod stun;
pub mod tunnel;

pub use addr::{Addr, NodeId, SocketAddr};
pub use beacon::BeaconMessage;
pub use packet::{Flags, Header, Packet, Protocol};
pub use sack::{SackBlock, SackBlocks};
pub use seq::Seq;
pub use tunnel::TunnelFrame;

/// Why bytes could not be decoded, or a value could not be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The input ended before the layout did.
    #[error("truncated {what}: need {need} bytes, have {have}")]
    Truncated {
        /// The layout that was being decoded.
        what: &'static str,
        /// Bytes the layout needs.
        need: usize,
        /// Bytes there were.
        have: usize,
    },
    /// A length field, or a value to encode, exceeds its limit.
    #[error("{what} too long: {len} bytes, limit {limit}")]
    TooLong {
        /// The field.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// The checksum does not match the content.
    #[error("bad checksum")]
    Checksum,
    /// A field has a value that the layout does not allow.
    #[error("invalid {what}")]
    Invalid {
        /// The field.
        what: &'static str,
    },
}

impl WireError {
    /// [`Self::TooLong`] if `len` exceeds `limit`.
    pub(crate) fn check_len(what: &'static str, len: usize, limit: usize) -> Result<(), Self> {
        if len > limit {
            return Err(Self::TooLong { what, len, limit });
        }
        Ok(())
    }
}
