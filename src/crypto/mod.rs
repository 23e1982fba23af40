//! Identities, node ids, key derivation, sealing, and the replay window. No protocol states.
//!
//! Randomness and time are inputs, as everywhere below `net`; the only outside thing that this
//! layer touches is the file system ([`identity_file`], [`pins`]).

pub mod identity;
pub mod node_id;

pub use identity::{Identity, verify};
