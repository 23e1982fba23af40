//! pilot-agent: the network layer of multi-agent systems.
//!
//! Modules are layers, lowest first; each may use those before it, never those after it
//! (`tests/layers.rs` fails on an upward import):
//!
//! | module | what it does | may use |
//! |---|---|---|
//! | [`wire`] | codecs: bytes to typed values and back | nothing of ours |
//! | [`crypto`] | identity, key derivation, AEAD, replay window | `wire` |
//! | [`proto`] | sans-IO state machines: stream, tunnel, peer, endpoint, directory, beacon | `crypto` |
//! | [`net`] | UDP batch I/O, registry client, clock | `proto` |
//! | [`server`] | the rendezvous server: registry over TCP, beacon over UDP, its database | `net` |
//! | [`node`] | the node: driver task, streams, services, messages | `net`, `server` (embedded rendezvous) |
//! | `py` | PyO3 classes, feature `python` | `node`, `server` |
//!
//! `wire`, `crypto` and `proto` never touch a socket, a clock or a thread: time and datagrams
//! are inputs, so a simulator with a virtual clock drives the very code that ships.
//!
//! # Life of a packet
//! `node::Stream::write` puts bytes in a [`proto::stream::Stream`]; the driver asks
//! [`proto::endpoint::Endpoint`] for datagrams, which cuts a segment, seals it in the peer's
//! [`proto::tunnel::Tunnel`] and names the UDP address; [`net::udp`] sends a batch of them. The
//! other way round, the driver feeds each received datagram to the endpoint and then delivers
//! its events.
#![forbid(clippy::undocumented_unsafe_blocks)]

pub mod crypto;
pub mod net;
pub mod node;
pub mod proto;
#[cfg(feature = "python")]
mod py;
pub mod server;
pub mod wire;
