//! Identity, key derivation, sealing and replay protection.

pub mod node_id;
