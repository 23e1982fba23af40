//! Identity, node ids, key derivation, AEAD and replay protection. Primitives only: what happens
//! when is decided in [`proto::tunnel`](crate::proto::tunnel).

pub mod identity;
pub mod node_id;

pub use identity::{Identity, verify};
