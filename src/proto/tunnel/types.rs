//! What goes into a tunnel and comes out of it.

use std::sync::Arc;
use std::time::Duration;

use crate::crypto::Identity;
use crate::wire::{NodeId, WireError};

/// Who we are in every tunnel: node id and identity. Cheap to clone; make a new one when the
/// registry assigns another id.
#[derive(Clone, Debug)]
pub struct LocalKeys {
    node: NodeId,
    identity: Arc<Identity>,
}

impl LocalKeys {
    /// Our node id (0 while the registry has assigned none: no key exchange is sent then) and the
    /// identity that signs for it.
    #[must_use]
    pub fn new(node: NodeId, identity: Arc<Identity>) -> Self {
        Self { node, identity }
    }

    /// Our node id.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Our identity.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }
}

/// Limits and times of every tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelConfig {
    /// How long a start is retried before [`TunnelEvent::GaveUp`]. Default 20 s.
    pub handshake_timeout: Duration,
    /// Age at which our key of a tunnel in use is replaced. Default 2 h. A 1.18 peer loses what
    /// is in flight at that moment (its streams send it again), ours lose nothing.
    pub rekey_after: Duration,
    /// Frames sealed under one key of ours after which it is replaced. Default 2^32.
    pub rekey_after_frames: u64,
}

impl Default for TunnelConfig {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(20),
            rekey_after: Duration::from_secs(2 * 3600),
            rekey_after_frames: 1 << 32,
        }
    }
}

/// What a tunnel reports; drain with [`poll_event`](super::Tunnel::poll_event) after each input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TunnelEvent {
    /// Look up which Ed25519 key the peer has (registry, pins), and answer with
    /// [`set_peer_key`](super::Tunnel::set_peer_key) or
    /// [`peer_key_unavailable`](super::Tunnel::peer_key_unavailable).
    NeedPeerKey,
    /// Frames can be sealed from now on.
    Established,
    /// The peer lost its state: whatever it knew of our streams is gone. Fail them.
    PeerRestarted,
    /// New keys are in use; the conversation goes on.
    Rekeyed,
    /// Somebody presents a valid key exchange for this peer under another identity key. Nothing
    /// was changed. Anybody can cause it, so it is a reason to look the key up again and to
    /// explain a failure, never to end a tunnel that works. At most one per second.
    IdentityMismatch {
        /// The key in the frame.
        presented: [u8; 32],
    },
    /// No key exchange was answered within the configured time;
    /// [`start`](super::Tunnel::start) begins anew.
    GaveUp,
}

/// Why a frame was refused, or cannot be sent. None of them changes the tunnel's sessions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// No keys are agreed on yet: start the tunnel and wait for [`TunnelEvent::Established`].
    #[error("no keys agreed on with this peer yet")]
    NotReady,
    /// The frame names another node than this tunnel's peer, or ourselves.
    #[error("frame is not from this tunnel's peer")]
    WrongPeer,
    /// Malformed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The signature of a key exchange does not verify.
    #[error("key exchange with a bad signature")]
    BadSignature,
    /// A key exchange is signed by another identity than the peer's.
    #[error("key exchange signed by another identity than the peer's")]
    IdentityMismatch,
    /// The X25519 key of a key exchange is of low order.
    #[error("key exchange with an unusable key")]
    WeakKey,
    /// More key exchanges than a peer needs; dropped.
    #[error("too many key exchanges")]
    RateLimited,
    /// No session opens the frame.
    #[error("frame does not authenticate")]
    Authentication,
    /// Authentic, but seen before, or too old to tell.
    #[error("frame was seen before, or is too old")]
    Replayed,
    /// The nonce counter is used up; only new keys help, and those come long before.
    #[error("nonce counter exhausted")]
    CounterExhausted,
}

/// A frame of the key exchange, to be sent to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeFrame {
    /// The whole datagram.
    pub bytes: Vec<u8>,
    /// Whether a copy may also go through the relay. A sealed frame (a probe of a key) must not:
    /// a 1.18 peer takes the copy for an attack.
    pub may_copy: bool,
}

/// Counters of one tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelStats {
    /// Frames sealed, probes included.
    pub sealed: u64,
    /// Frames opened.
    pub opened: u64,
    /// Sealed frames that no session opened.
    pub unauthentic: u64,
    /// Authentic frames that were seen before.
    pub replayed: u64,
    /// Key exchanges sent.
    pub exchanges_sent: u64,
    /// Key exchanges received, whatever became of them.
    pub exchanges_received: u64,
    /// Key exchanges refused.
    pub exchanges_refused: u64,
}
