//! Sockets and clocks under the state machines.

pub mod registry_client;
