//! One direction of a network link, as a machine without I/O: give it packets and the time, and it
//! says which arrive, when, and in what state.
//!
//! Simulations drive it with virtual time. The program `linkem` of this crate drives it with the
//! real one, between two TUN devices in two network namespaces, where the kernel has no `netem`.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use linkem::{Link, LinkParams};
//!
//! let params: LinkParams = "rate=8mbit,delay=10ms,loss=1%,seed=7".parse()?;
//! let now = Instant::now();
//! let mut link = Link::new(now, params);
//! link.send(now, vec![0; 1000]);
//! // One millisecond to get 1000 bytes out at 1 MB/s, ten on the way.
//! assert_eq!(link.next_arrival(), Some(now + Duration::from_millis(11)));
//! # Ok::<(), linkem::SpecError>(())
//! ```
//!
//! # Life of a packet
//! 1. A link that is down or dead, and one with a smaller MTU, drops it.
//! 2. With a `rate`, it waits its turn behind those before it; if they fill the `queue`, it is
//!    dropped (the tail). It then takes its time to get onto the link, also if it is lost there.
//! 3. It is lost, or spoiled, or doubled; each copy takes `delay`, part of `jitter`, and now and
//!    then much longer (`reorder`).
//!
//! # Seeds
//! What happens to the Nth packet depends on the seed and on N, not on when it is sent or what it
//! contains (except for the queue, which is a matter of time). So a change in the sender's timing
//! meets the same losses, and two runs can be compared. The generator is this crate's own: a seed
//! means the same with every release of every library.

mod chance;
mod link;
mod params;
mod spec;

pub use link::{Counters, Link, Packet};
pub use params::{LinkParams, Loss};
pub use spec::SpecError;
