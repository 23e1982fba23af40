//! Registry messages: JSON objects over TCP, one response for each request, in request order.
//!
//! ```text
//! length u32 | JSON object (UTF-8), at most 1 MiB
//! ```
//!
//! [`Request`] and [`Response`] are the typed messages, [`framing`] cuts them out of a byte
//! stream, and `Request::signed_text` names, in one place, the ASCII string that the sender's
//! identity key signs. Field names are those of release 1.18.0; what is ours is marked as an
//! extension, and a Go peer ignores it.

pub mod framing;
mod records;
mod request;
mod response;
mod sign;
pub(crate) mod values;

pub use records::{
    AgentInfo, BeaconInfo, Found, HandshakeReply, HandshakeRequest, NetworkInfo, NodeInfo,
    NodeSummary, Resolved,
};
pub use request::{Register, Request};
pub use response::{ErrorCode, Response};
pub use sign::capabilities_digest;
pub use values::{Base64, PublicKey, Signature};

#[cfg(test)]
mod tests;
