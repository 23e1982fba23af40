//! How a stream can fail.

use std::time::Duration;

/// Why a stream failed, or why a call on it cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer answered SYN with RST: nobody listens on that port, or it accepts no more.
    #[error("refused: nobody listens on that port, or the peer takes no more streams")]
    Refused,
    /// The peer dropped the stream.
    #[error("reset by the peer")]
    Reset,
    /// Nothing that we sent was acknowledged for that long.
    #[error("timed out: the peer acknowledged nothing for {after:?}")]
    TimedOut {
        /// How long it was waited for.
        after: Duration,
    },
    /// The peer did not even answer probes for that long.
    #[error("idle timeout: not a single packet from the peer for {after:?}")]
    IdleTimeout {
        /// How long it was waited for.
        after: Duration,
    },
    /// The peer's process restarted and knows nothing of this stream.
    #[error("the peer restarted; open a new stream")]
    PeerRestarted,
    /// No path to the peer is left.
    #[error("the peer is unreachable")]
    PeerUnreachable,
    /// The peer, a Go node, ended the stream, and its FIN ends both directions.
    #[error("closed by the peer, which does not know half-closed streams")]
    PeerClosed,
    /// `finish` toward a Go node: its streams can only be closed as a whole.
    #[error("the peer does not know half-closed streams; close the stream instead")]
    HalfCloseUnsupported,
    /// This side has finished or closed the stream.
    #[error("the stream was closed on this side")]
    Closed,
    /// This side aborted the stream.
    #[error("the stream was aborted on this side")]
    Aborted,
}
