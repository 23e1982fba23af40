//! Identities, node ids, key derivation, sealing, and the replay window. No protocol states.
//!
//! | file | what |
//! |---|---|
//! | [`identity`] | Ed25519 key pair: sign, verify |
//! | [`identity_file`] | one identity per hostname on disk, locked while in use |
//! | [`node_id`] | the node id that belongs to a key |
//! | [`pins`] | the keys that peers presented at first contact |
//! | [`suite`] | X25519, and how a shared secret becomes a key |
//! | [`aead`] | AES-256-GCM in place |
//! | [`replay`] | the window of 256 counters |
//! | [`cookie`] | what only we can have given out |
//!
//! Randomness and time are inputs, as everywhere below `net`. The only part of the outside world
//! that this layer touches is the file system, in `identity_file` and `pins`.

pub mod aead;
pub mod cookie;
pub mod identity;
pub mod identity_file;
pub mod node_id;
pub mod pins;
pub(crate) mod private_file;
pub mod replay;
pub mod suite;

pub use aead::{OpeningKey, SealingKey, key_pair};
pub use identity::{Identity, verify};
pub use identity_file::{IdentityError, StoredIdentity};
pub use pins::{KnownPeers, PinMismatch, PinsError};
pub use private_file::FileError;
pub use replay::{Rejected, ReplayWindow};
pub use suite::{Suite, WeakKey};
