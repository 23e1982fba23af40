//! Our X25519 key of one tunnel.

use std::time::{Duration, Instant};

use rand::CryptoRng;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::LocalKeys;
use crate::crypto::WeakKey;
use crate::crypto::suite::agree;
use crate::wire::NodeId;
use crate::wire::tunnel::{AUTH_LEN, AuthFrame, KeyFrame, auth_signed_bytes};

/// Peer keys remembered as used up under one key of ours.
const MAX_RETIRED: usize = 32;

/// An X25519 key pair of ours, in memory only; the secret is wiped when this is dropped.
pub(super) struct OwnKey {
    secret: StaticSecret,
    public: [u8; 32],
    /// Counts our keys in this tunnel.
    generation: u32,
    /// Peer keys whose session with this key is over. To derive it again would mean an empty
    /// replay window for frames that somebody may have recorded.
    retired: Vec<[u8; 32]>,
    /// The signed announcement, made once for the node id that it names.
    announcement: Option<(NodeId, [u8; AUTH_LEN])>,
    /// When we first sealed with it.
    used_since: Option<Instant>,
    /// Frames sealed since then.
    sealed_frames: u64,
}

impl OwnKey {
    pub(super) fn generate(generation: u32, rng: &mut impl CryptoRng) -> Self {
        let secret = StaticSecret::random_from_rng(rng);
        let public = PublicKey::from(&secret).to_bytes();
        Self {
            secret,
            public,
            generation,
            retired: Vec::new(),
            announcement: None,
            used_since: None,
            sealed_frames: 0,
        }
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn public(&self) -> &[u8; 32] {
        &self.public
    }

    pub(super) fn agree(&self, peer_public: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, WeakKey> {
        agree(&self.secret, peer_public)
    }

    /// Remembers that the session with this peer key is over; the oldest of 32 is forgotten.
    pub(super) fn retire(&mut self, peer_public: [u8; 32]) {
        if !self.is_retired(&peer_public) {
            if self.retired.len() == MAX_RETIRED {
                self.retired.remove(0);
            }
            self.retired.push(peer_public);
        }
    }

    pub(super) fn is_retired(&self, peer_public: &[u8; 32]) -> bool {
        self.retired.contains(peer_public)
    }

    /// Counts a sealed frame. Returns whether it is time for another key: by age, by frames, or
    /// because so many peer keys are used up that the first would soon be forgotten.
    pub(super) fn wear(&mut self, now: Instant, max_age: Duration, max_frames: u64) -> bool {
        self.sealed_frames += 1;
        let since = *self.used_since.get_or_insert(now);
        now.saturating_duration_since(since) >= max_age
            || self.sealed_frames >= max_frames
            || self.retired.len() >= MAX_RETIRED / 2
    }

    /// The authenticated key exchange (PILA) that names this key.
    pub(super) fn announcement(&mut self, local: &LocalKeys) -> [u8; AUTH_LEN] {
        match self.announcement {
            Some((node, bytes)) if node == local.node() => bytes,
            _ => {
                let bytes = AuthFrame {
                    node: local.node(),
                    x25519_public: &self.public,
                    ed25519_public: &local.identity().public_key(),
                    signature: &local
                        .identity()
                        .sign(&auth_signed_bytes(local.node(), &self.public)),
                }
                .encode();
                self.announcement = Some((local.node(), bytes));
                bytes
            }
        }
    }

    /// The request for the peer's key (PILK).
    pub(super) fn request(&self, local: &LocalKeys) -> Vec<u8> {
        KeyFrame { node: local.node(), x25519_public: &self.public }.encode().to_vec()
    }
}
