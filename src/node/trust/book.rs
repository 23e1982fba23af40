//! Who trusts whom, as far as this node decides it: a state machine without I/O.
//!
//! Trust is bound to a key, not only to a node id: a registry that gives the id to another key does
//! not hand the trust over with it.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::crypto::verify;
use crate::node::types::TrustAnswer;
use crate::wire::NodeId;
use crate::wire::handshake::{
    HandshakeKind, HandshakeMessage, MAX_AGE_SECS, MAX_AHEAD_SECS, sign_string,
};
use crate::wire::registry::{Base64, PublicKey};

/// Requests that wait for the user; more are dropped.
const MAX_PENDING: usize = 256;
/// Requests of ours that wait for an answer.
const MAX_REQUESTED: usize = 256;
/// Peers that can be trusted; the registry keeps as many.
const MAX_TRUSTED: usize = 1_024;
/// How long a request waits for the user, in seconds.
const PENDING_LIFETIME: u64 = 30 * 24 * 3_600;
/// Requests of a peer that took its trust back are ignored for this long, in seconds.
const MUTE: u64 = 300;
/// Messages remembered against replay.
const MAX_SEEN: usize = 8_192;
/// Most bytes of a justification that is kept.
const MAX_TEXT: usize = 1_024;

/// A peer that may reach this node although it is private.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trusted {
    pub(super) node_id: NodeId,
    pub(super) public_key: PublicKey,
    /// Unix seconds.
    pub(super) since: u64,
    /// The peer has said that it trusts us.
    pub(super) mutual: bool,
}

/// A request that waits for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) node_id: NodeId,
    pub(super) public_key: PublicKey,
    pub(super) justification: String,
    /// Unix seconds.
    pub(super) received_at: u64,
}

/// A request of ours that was not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Requested {
    pub(super) node_id: NodeId,
    /// Unix seconds.
    pub(super) since: u64,
}

/// What outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) version: u32,
    #[serde(default)]
    pub(super) trusted: Vec<Trusted>,
    #[serde(default)]
    pub(super) pending: Vec<Pending>,
    #[serde(default)]
    pub(super) requested: Vec<Requested>,
}

/// What follows from a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Tell the peer, and the registry, that we trust it.
    Accept,
    /// The peer accepted our request: tell the registry that we trust it.
    Granted,
    /// The user must decide.
    Ask,
    /// The peer refused our request.
    Refused,
    /// The peer no longer trusts us, so we do not trust it either.
    Revoked,
}

/// Why a message has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ignored {
    #[error("its sender is not the peer that sent it")]
    Sender,
    #[error("it has no signature of the peer's registered key")]
    Signature,
    #[error("its time is too far from ours")]
    Time,
    #[error("it was seen before")]
    Replay,
    #[error("the peer took its trust back a moment ago")]
    Muted,
    #[error("nothing was asked of the peer")]
    Unasked,
    #[error("too many requests wait already")]
    Full,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct TrustBook {
    auto_approve: bool,
    trusted: BTreeMap<NodeId, Trusted>,
    pending: BTreeMap<NodeId, Pending>,
    requested: BTreeMap<NodeId, Requested>,
    /// Refusals of our requests, with their reasons.
    refused: HashMap<NodeId, String>,
    muted: HashMap<NodeId, u64>,
    seen: HashMap<[u8; 32], u64>,
}

impl TrustBook {
    pub(super) fn new(saved: Saved, auto_approve: bool) -> Self {
        Self {
            auto_approve,
            trusted: saved.trusted.into_iter().map(|t| (t.node_id, t)).collect(),
            pending: saved.pending.into_iter().map(|p| (p.node_id, p)).collect(),
            requested: saved.requested.into_iter().map(|r| (r.node_id, r)).collect(),
            ..Self::default()
        }
    }

    pub(super) fn save(&self, version: u32) -> Saved {
        Saved {
            version,
            trusted: self.trusted.values().copied().collect(),
            pending: self.pending.values().cloned().collect(),
            requested: self.requested.values().copied().collect(),
        }
    }

    pub(super) fn is_trusted(&self, node: NodeId, key: &[u8; 32]) -> bool {
        self.trusted.get(&node).is_some_and(|trusted| trusted.public_key.0 == *key)
    }

    pub(super) fn trusted(&self) -> impl Iterator<Item = &Trusted> {
        self.trusted.values()
    }

    pub(super) fn pending(&self) -> impl Iterator<Item = &Pending> {
        self.pending.values()
    }

    /// Whether `node` has taken its trust back a moment ago.
    pub(super) fn is_muted(&self, now: u64, node: NodeId) -> bool {
        self.muted.get(&node).is_some_and(|until| now < *until)
    }

    /// What became of our request to `node`.
    pub(super) fn answer(&self, node: NodeId) -> TrustAnswer {
        if self.requested.contains_key(&node) {
            return TrustAnswer::Undecided;
        }
        match self.trusted.get(&node) {
            Some(trusted) if trusted.mutual => TrustAnswer::Granted,
            _ => TrustAnswer::Refused(self.refused.get(&node).cloned().unwrap_or_default()),
        }
    }

    /// Notes that we ask `node` for its trust. `false` if too many requests wait.
    pub(super) fn request(&mut self, now: u64, node: NodeId) -> bool {
        self.requested.retain(|_, requested| now < requested.since + PENDING_LIFETIME);
        if self.requested.len() >= MAX_REQUESTED && !self.requested.contains_key(&node) {
            return false;
        }
        if self.refused.len() >= MAX_REQUESTED {
            self.refused.clear();
        }
        self.refused.remove(&node);
        self.requested.insert(node, Requested { node_id: node, since: now });
        true
    }

    /// Trusts a peer; whether it waited for that. `None` if too many are trusted already.
    pub(super) fn approve(&mut self, now: u64, node: NodeId, key: [u8; 32]) -> Option<bool> {
        let was_pending = self.pending.contains_key(&node);
        // Whoever asks for our trust gives its own.
        self.trust(now, node, key, was_pending).then_some(was_pending)
    }

    /// Drops a request; whether there was one.
    pub(super) fn reject(&mut self, node: NodeId) -> bool {
        self.pending.remove(&node).is_some()
    }

    /// Trusts a peer no longer; whether it was trusted.
    pub(super) fn revoke(&mut self, node: NodeId) -> bool {
        self.requested.remove(&node);
        self.trusted.remove(&node).is_some()
    }

    /// Takes a message that came from `peer`, whose registered key is `key`, over its tunnel.
    pub(super) fn receive(
        &mut self,
        now: u64,
        us: NodeId,
        peer: NodeId,
        key: &[u8; 32],
        message: &HandshakeMessage,
    ) -> Result<Verdict, Ignored> {
        if message.node_id != peer {
            return Err(Ignored::Sender);
        }
        if !message.is_fresh(i64::try_from(now).unwrap_or(i64::MAX)) {
            return Err(Ignored::Time);
        }
        let text = sign_string(peer, us);
        let is_signed = message.public_key == Some(*key)
            && message.signature.is_some_and(|signature| verify(key, text.as_bytes(), &signature));
        if !is_signed {
            return Err(Ignored::Signature);
        }
        if !self.is_first(now, message.replay_key()) {
            return Err(Ignored::Replay);
        }
        match message.kind {
            HandshakeKind::Request => self.on_request(now, peer, *key, &message.justification),
            HandshakeKind::Accept => self.on_answer(now, peer, *key, Ok(())),
            HandshakeKind::Reject => self.on_answer(now, peer, *key, Err(&message.reason)),
            HandshakeKind::Revoke => {
                self.muted.retain(|_, until| now < *until);
                if self.muted.len() < MAX_SEEN {
                    self.muted.insert(peer, now + MUTE);
                }
                self.pending.remove(&peer);
                match self.revoke(peer) {
                    true => Ok(Verdict::Revoked),
                    false => Err(Ignored::Unasked),
                }
            }
        }
    }

    /// A request; the caller knows that it is `peer`'s, and that `key` is the registered one.
    pub(super) fn on_request(
        &mut self,
        now: u64,
        peer: NodeId,
        key: [u8; 32],
        justification: &str,
    ) -> Result<Verdict, Ignored> {
        if self.is_muted(now, peer) {
            return Err(Ignored::Muted);
        }
        let is_wanted = self.is_trusted(peer, &key) || self.requested.contains_key(&peer);
        if is_wanted || self.auto_approve {
            return match self.trust(now, peer, key, true) {
                true => Ok(Verdict::Accept),
                false => Err(Ignored::Full),
            };
        }
        self.pending.retain(|_, pending| now < pending.received_at + PENDING_LIFETIME);
        if self.pending.len() >= MAX_PENDING && !self.pending.contains_key(&peer) {
            return Err(Ignored::Full);
        }
        let pending = Pending {
            node_id: peer,
            public_key: Base64(key),
            justification: clean(justification),
            received_at: now,
        };
        self.pending.insert(peer, pending);
        Ok(Verdict::Ask)
    }

    /// The answer to a request of ours.
    pub(super) fn on_answer(
        &mut self,
        now: u64,
        peer: NodeId,
        key: [u8; 32],
        answer: Result<(), &str>,
    ) -> Result<Verdict, Ignored> {
        if !self.requested.contains_key(&peer) {
            // It accepts again what we had agreed on.
            return match self.trusted.get_mut(&peer) {
                Some(trusted) if trusted.public_key.0 == key && answer.is_ok() => {
                    trusted.mutual = true;
                    Ok(Verdict::Granted)
                }
                _ => Err(Ignored::Unasked),
            };
        }
        match answer {
            Ok(()) => match self.trust(now, peer, key, true) {
                true => Ok(Verdict::Granted),
                false => Err(Ignored::Full),
            },
            Err(reason) => {
                self.requested.remove(&peer);
                self.refused.insert(peer, clean(reason));
                Ok(Verdict::Refused)
            }
        }
    }

    fn trust(&mut self, now: u64, node: NodeId, key: [u8; 32], mutual: bool) -> bool {
        if self.trusted.len() >= MAX_TRUSTED && !self.trusted.contains_key(&node) {
            return false;
        }
        self.pending.remove(&node);
        self.muted.remove(&node);
        if mutual {
            self.requested.remove(&node);
        }
        let public_key = Base64(key);
        let before = self.trusted.get(&node).filter(|before| before.public_key == public_key);
        let trusted = Trusted {
            node_id: node,
            public_key,
            since: before.map_or(now, |before| before.since),
            mutual: mutual || before.is_some_and(|before| before.mutual),
        };
        self.trusted.insert(node, trusted);
        true
    }

    /// Whether a message was not seen before. A table full of messages that could still be
    /// replayed is emptied rather than closed: their tunnel says who sent them anyway, and one
    /// peer must not silence all others.
    fn is_first(&mut self, now: u64, key: [u8; 32]) -> bool {
        if self.seen.len() >= MAX_SEEN {
            self.seen.retain(|_, at| now <= *at + MAX_AGE_SECS + MAX_AHEAD_SECS);
        }
        if self.seen.len() >= MAX_SEEN {
            self.seen.clear();
        }
        self.seen.insert(key, now).is_none()
    }
}

/// Text of a stranger, for the user's eyes: one line, no control characters, not endless.
fn clean(text: &str) -> String {
    let cut = text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default();
    cut.chars().filter(|c| !c.is_control() && !matches!(c, '\u{2028}'..='\u{202e}')).collect()
}
