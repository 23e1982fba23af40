//! Sockets and clocks under the state machines.

pub mod clock;
pub mod compat_client;
pub mod dial;
pub mod frame_queue;
pub mod interfaces;
pub mod jitter;
pub mod link_watch;
pub mod port_map;
pub mod registry_client;
pub mod tls;
pub mod udp;
pub mod watch;
pub mod websocket;
