//! Sockets and clocks under the state machines.

pub mod clock;
pub mod frame_queue;
pub mod interfaces;
pub mod jitter;
pub mod link_watch;
pub mod registry_client;
pub mod tls;
pub mod udp;
pub mod watch;
pub mod websocket;
