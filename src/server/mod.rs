//! The rendezvous server: registry over TCP, beacon over UDP, its database.

mod connection;
mod listen;
mod relay_runs;
mod rendezvous;
mod state;
mod store;
mod writer;

pub use rendezvous::{Rendezvous, RendezvousConfig, RendezvousStats, ServerError};
pub use store::{Store, StoreError};
