//! Placeholder; see the layer table in lib.rs.
