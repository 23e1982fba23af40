//! `Tunnel`: one peer's secure channel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::CryptoRng;

use crate::crypto::Identity;
use crate::wire::tunnel::{AuthFrame, KeyFrame};
use crate::wire::{NodeId, WireError};

/// Who we are in every tunnel: node id and identity. Cheap to clone; make a new one when the
/// registry assigns another id. (X25519 keys belong to each `Tunnel`, see the module's Why.)
#[derive(Clone, Debug)]
pub struct LocalKeys {
    node: NodeId,
    identity: Arc<Identity>,
}

impl LocalKeys {
    /// Our node id (0 while the registry has assigned none: no key exchange is sent then).
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
    /// How long a start is retried before [`TunnelEvent::GaveUp`].
    pub handshake_timeout: Duration,
    /// Age at which our X25519 key of a tunnel in use is replaced.
    pub rekey_after: Duration,
    /// Frames sealed after which it is replaced.
    pub rekey_after_frames: u64,
}

/// What a tunnel reports; drain with [`Tunnel::poll_event`] after each input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TunnelEvent {
    /// Look the peer's Ed25519 key up (registry, pins) and answer with [`Tunnel::set_peer_key`]
    /// or [`Tunnel::peer_key_unavailable`].
    NeedPeerKey,
    /// Frames can be sealed from now on.
    Established,
    /// The peer lost its state: everything it knew of our streams is gone. Fail them.
    PeerRestarted,
    /// New keys are in use; the conversation goes on.
    Rekeyed,
    /// Somebody presents a valid key exchange for this peer under another identity key. Nothing
    /// was changed. At most one per second; forgeable, so a reason to look the key up again and
    /// to explain a failure, never to end a tunnel that works.
    IdentityMismatch {
        /// The key in the frame.
        presented: [u8; 32],
    },
    /// No key exchange was answered within the configured time. `start` begins anew.
    GaveUp,
}

/// Why a frame was refused, or cannot be sent. None of them changes the tunnel's sessions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// No keys are agreed on yet; start was called, wait for `Established`.
    #[error("no keys agreed with this peer yet")]
    NotReady,
    /// The frame names another node than this tunnel's peer.
    #[error("frame names another node than the peer")]
    WrongPeer,
    /// Malformed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The signature does not verify.
    #[error("bad signature in a key exchange")]
    BadSignature,
    /// Signed by another identity than the peer's.
    #[error("key exchange signed by another identity than the peer's")]
    IdentityMismatch,
    /// The X25519 key is of low order.
    #[error("unusable key in a key exchange")]
    WeakKey,
    /// Too many key exchanges from this peer; dropped unread.
    #[error("too many key exchanges")]
    RateLimited,
    /// No session opens the frame.
    #[error("frame does not authenticate")]
    Authentication,
    /// Authentic, but seen before or too old.
    #[error("frame was seen before, or is too old")]
    Replayed,
    /// The nonce counter is used up. Cannot happen in practice; the rekey comes long before.
    #[error("nonce counter exhausted")]
    CounterExhausted,
}

/// A key-exchange frame to send to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeFrame {
    /// The whole datagram.
    pub bytes: Vec<u8>,
    /// Whether a copy may also go through the relay. Never copy a sealed frame (a key probe): a 1.18
    /// peer counts the copy as a replay.
    pub may_copy: bool,
}

/// One peer's secure channel. See the module documentation.
pub struct Tunnel {}

#[allow(
    unused_variables,
    clippy::todo,
    clippy::missing_const_for_fn,
    clippy::unused_self,
    missing_docs
)]
impl Tunnel {
    pub fn new(peer: NodeId, config: Arc<TunnelConfig>, rng: &mut impl CryptoRng) -> Self {
        todo!()
    }
    pub fn peer(&self) -> NodeId {
        todo!()
    }
    pub fn peer_key(&self) -> Option<[u8; 32]> {
        todo!()
    }
    /// The Ed25519 key that registry or pins say belongs to the peer; key exchanges that wait for it are then processed.
    pub fn set_peer_key(&mut self, now: Instant, key: [u8; 32]) {
        todo!()
    }
    /// Nobody knows the key: waiting key exchanges are dropped; the next one asks again.
    pub fn peer_key_unavailable(&mut self, now: Instant) {
        todo!()
    }
    /// Wants keys: queues a PILA (retransmitted until answered). No-op when ready or already starting.
    pub fn start(&mut self, now: Instant) {
        todo!()
    }
    pub fn handle_key_exchange(
        &mut self,
        now: Instant,
        local: &LocalKeys,
        frame: &AuthFrame<'_>,
    ) -> Result<(), TunnelError> {
        todo!()
    }
    /// PILK: never installed, answered by a PILA at most once a second.
    pub fn handle_key_request(
        &mut self,
        now: Instant,
        frame: &KeyFrame<'_>,
    ) -> Result<(), TunnelError> {
        todo!()
    }
    pub fn is_ready(&self) -> bool {
        todo!()
    }
    /// `frame` = 20 bytes of head room | packet | 16 bytes of tag room.
    pub fn seal_in_place(
        &mut self,
        now: Instant,
        local: &LocalKeys,
        frame: &mut [u8],
    ) -> Result<(), TunnelError> {
        todo!()
    }
    /// Returns the authenticated, replay-checked packet bytes. On an unknown key queues a PILA.
    pub fn open_in_place<'a>(
        &mut self,
        now: Instant,
        frame: &'a mut [u8],
    ) -> Result<&'a mut [u8], TunnelError> {
        todo!()
    }
    /// Replace our X25519 key now (also happens by itself by age and frame count).
    pub fn rekey(&mut self, now: Instant) {
        todo!()
    }
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    /// Next key-exchange frame to send; drain after each input and each `handle_timeout`.
    #[must_use]
    pub fn poll_handshake(&mut self, now: Instant, local: &LocalKeys) -> Option<HandshakeFrame> {
        todo!()
    }
    #[must_use]
    pub fn poll_event(&mut self) -> Option<TunnelEvent> {
        todo!()
    }
}
