//! Sockets and clocks under the state machines.

pub mod clock;
pub mod frame_queue;
pub mod registry_client;
pub mod tls;
pub mod udp;
pub mod watch;
pub mod websocket;
