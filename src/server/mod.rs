//! The rendezvous server: registry over TCP, beacon over UDP or WebSocket, its database.

mod cluster;
mod compat;
mod connection;
mod greeting;
mod listen;
mod relay_runs;
mod rendezvous;
mod state;
mod store;
mod stun;
mod tls;
mod writer;

pub use rendezvous::{Rendezvous, RendezvousConfig, RendezvousStats, ServerError};
pub use store::{Store, StoreError};
pub use tls::{CertificateError, CertificateFiles};
