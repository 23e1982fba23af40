//! What can go wrong, in words that say what was tried and what to do.

use std::time::Duration;

/// Error of a node's verb. Each variant becomes one Python exception.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No such hostname or node at the registry.
    #[error(
        "{peer} is not known to the rendezvous at {rendezvous}; is it running, and started with the same rendezvous?"
    )]
    PeerNotFound {
        /// Who was looked for.
        peer: String,
        /// Where.
        rendezvous: String,
    },
    /// The peer is known but does not answer, or stopped answering.
    #[error("{peer} is unreachable: {reason}")]
    PeerUnreachable {
        /// Who.
        peer: String,
        /// What was tried and what happened.
        reason: String,
    },
    /// Nobody listens on that port of the peer.
    #[error("{peer} refused the connection: nothing listens on its port {port}")]
    Refused {
        /// Who.
        peer: String,
        /// The port.
        port: u16,
    },
    /// No answer in time.
    #[error("{what} of {peer} got no answer within {after:?}")]
    Timeout {
        /// Who.
        peer: String,
        /// What was awaited, e.g. "request".
        what: &'static str,
        /// The limit that was set.
        after: Duration,
    },
    /// The peer is private and has not approved this node.
    #[error(
        "{peer} is private and does not trust {this}; ask its owner to approve {this}, or to start it with public=True"
    )]
    TrustRequired {
        /// Who.
        peer: String,
        /// Our address or hostname.
        this: String,
    },
    /// The peer's key is not the one that was pinned.
    #[error("{0}")]
    IdentityMismatch(String),
    /// The other side said something that the protocol does not allow.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The handler of a request failed at the peer.
    #[error("{peer} could not handle the request: {reason}")]
    RequestFailed {
        /// Who.
        peer: String,
        /// The handler's words.
        reason: String,
    },
    /// The stream ended before its time.
    #[error("stream reset: {0}")]
    StreamReset(String),
    /// The peer speaks a dialect that has no such thing.
    #[error("{0}")]
    Unsupported(String),
    /// Too many bytes.
    #[error("{what} of {size} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The most allowed.
        limit: usize,
    },
    /// The hostname belongs to another node.
    #[error("{0}")]
    HostnameTaken(String),
    /// Another process runs with the same identity.
    #[error("{0}")]
    IdentityInUse(String),
    /// The identity cannot be read or written.
    #[error("{0}")]
    Identity(String),
    /// The registry cannot be reached, hangs, or answers nonsense.
    #[error("rendezvous {rendezvous}: {reason}")]
    Rendezvous {
        /// Where.
        rendezvous: String,
        /// What happened.
        reason: String,
    },
    /// A local port is taken.
    #[error("port {0} is already in use on this node")]
    PortInUse(u16),
    /// Bad argument.
    #[error("{0}")]
    Invalid(String),
    /// The operating system said no.
    #[error("{0}")]
    Io(String),
    /// The node was closed.
    #[error("the node is closed")]
    Closed,
}
