//! Streams over paths that change under them, and for a long time.
//!
//! A failing schedule names its seed.

mod endurance;
mod shrinking;
mod wire;
