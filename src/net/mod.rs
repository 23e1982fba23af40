//! Sockets and clocks under the state machines.

pub mod clock;
pub mod registry_client;
pub mod udp;
pub mod watch;
