//! What a received key exchange does.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::announce::Reason;
use super::own_key::OwnKey;
use super::session::PeerKey;
use super::{LocalKeys, Tunnel, TunnelError, TunnelEvent, WhichKey};
use crate::crypto::{WeakKey, verify};
use crate::wire::NodeId;
use crate::wire::tunnel::{AuthFrame, KeyFrame, auth_signed_bytes};

/// Key exchanges kept until somebody says which identity is the peer's.
const MAX_WAITING: usize = 4;

/// Pause before the peer's identity is asked for again after nobody knew it.
const ASK_PAUSE: Duration = Duration::from_secs(1);

/// An authenticated key exchange, copied out of its datagram.
#[derive(Clone, Copy)]
pub(super) struct Exchange {
    x25519_public: [u8; 32],
    ed25519_public: [u8; 32],
    signature: [u8; 64],
}

impl Exchange {
    fn is_signed(&self, node: NodeId) -> bool {
        let signed = auth_signed_bytes(node, &self.x25519_public);
        verify(&self.ed25519_public, &signed, &self.signature)
    }
}

impl From<&AuthFrame<'_>> for Exchange {
    fn from(frame: &AuthFrame<'_>) -> Self {
        Self {
            x25519_public: *frame.x25519_public,
            ed25519_public: *frame.ed25519_public,
            signature: *frame.signature,
        }
    }
}

/// Key exchanges that wait for the peer's identity key: the latest of each identity, four at
/// most, so that somebody else's does not push the peer's out.
#[derive(Default)]
pub(super) struct WaitingExchanges {
    list: VecDeque<Exchange>,
    asked: bool,
    ask_again: Option<Instant>,
}

impl WaitingExchanges {
    /// Whether to ask now; `false` while an answer is outstanding, and for a while after the
    /// answer was that nobody knows.
    pub(super) fn ask(&mut self, now: Instant) -> bool {
        let may_ask = !self.asked && self.ask_again.is_none_or(|at| at <= now);
        self.asked |= may_ask;
        may_ask
    }

    fn push(&mut self, exchange: Exchange) {
        self.list.retain(|other| other.ed25519_public != exchange.ed25519_public);
        if self.list.len() == MAX_WAITING {
            self.list.pop_front();
        }
        self.list.push_back(exchange);
    }

    fn answered(&mut self) -> VecDeque<Exchange> {
        self.asked = false;
        std::mem::take(&mut self.list)
    }
}

impl Tunnel {
    /// The Ed25519 key that registry or pins say is the peer's. Key exchanges that wait for it
    /// are then looked at. Another key than before ends all sessions: it is another peer.
    pub fn set_peer_key(&mut self, now: Instant, key: [u8; 32]) {
        if self.peer_key.is_some_and(|known| known != key) {
            self.sessions.clear();
            self.fresh = None;
            self.previous = None;
            self.own = OwnKey::generate(self.own.generation() + 1, &mut self.rng);
        }
        self.peer_key = Some(key);
        for exchange in self.waiting.answered() {
            // A refusal is for whoever sent it, and counted there.
            let _ = self.handle_exchange(now, key, &exchange);
        }
    }

    /// Nobody can say which key the peer has: what waits for it is dropped, and the next key
    /// exchange asks again, but not within a second.
    pub fn peer_key_unavailable(&mut self, now: Instant) {
        self.waiting.answered();
        self.waiting.ask_again = Some(now + ASK_PAUSE);
    }

    /// Takes an authenticated key exchange (PILA).
    ///
    /// # Errors
    /// It is not from this peer or not properly signed, or there are too many. If the peer's
    /// identity key is not known yet, it is kept and there is no error.
    pub fn handle_key_exchange(
        &mut self,
        now: Instant,
        local: &LocalKeys,
        frame: &AuthFrame<'_>,
    ) -> Result<(), TunnelError> {
        self.stats.exchanges_received += 1;
        if frame.node != self.peer || frame.node == local.node() {
            self.stats.exchanges_refused += 1;
            return Err(TunnelError::WrongPeer);
        }
        let exchange = Exchange::from(frame);
        let Some(key) = self.peer_key else {
            self.waiting.push(exchange);
            self.ask_for_peer_key(now);
            return Ok(());
        };
        self.handle_exchange(now, key, &exchange)
    }

    /// Takes an unauthenticated key exchange (PILK). Its key is never used; whoever sends one
    /// gets ours, at most once a second.
    ///
    /// # Errors
    /// It is not from this peer.
    pub fn handle_key_request(
        &mut self,
        now: Instant,
        frame: &KeyFrame<'_>,
    ) -> Result<(), TunnelError> {
        if frame.node != self.peer {
            return Err(TunnelError::WrongPeer);
        }
        self.announcer.answer_request(now);
        Ok(())
    }

    fn handle_exchange(
        &mut self,
        now: Instant,
        peer_key: [u8; 32],
        exchange: &Exchange,
    ) -> Result<(), TunnelError> {
        let result = if exchange.ed25519_public == peer_key {
            self.handle_own_exchange(now, exchange)
        } else {
            self.handle_foreign_exchange(now, exchange)
        };
        self.stats.exchanges_refused += u64::from(result.is_err());
        result
    }

    /// It claims the right identity.
    fn handle_own_exchange(&mut self, now: Instant, it: &Exchange) -> Result<(), TunnelError> {
        let public = &it.x25519_public;
        if self.is_known(public) {
            // We verified this key before; a false signature now can do no more than a copy.
            let known = self.sessions.with(public, self.own.generation());
            let last_opened = known.filter_map(|s| s.opened).max();
            self.sessions.named(now, public);
            self.announcer.answer_known_key(now, last_opened);
            return Ok(());
        }
        if !self.verifications.allow(now) {
            return Err(TunnelError::RateLimited);
        }
        if !it.is_signed(self.peer) {
            return Err(TunnelError::BadSignature);
        }
        self.handle_new_key(now, *public)
    }

    /// Whether the peer's key has all the sessions that it may have.
    fn is_known(&self, public: &[u8; 32]) -> bool {
        match &self.fresh {
            Some(fresh) => self.sessions.with(public, fresh.generation()).next().is_some(),
            None => self.sessions.with(public, self.own.generation()).next().is_some(),
        }
    }

    /// The peer has a key with which we have no session, or not with our fresh one.
    ///
    /// Once a frame has opened, such a key only gets a session with a fresh key of ours: what
    /// opens there was sealed after we made it, by a peer that lives now. (Without that, frames
    /// of a former life of the peer, held back by somebody, could pass for a restart.) If we
    /// made one too recently, our present key has to do.
    fn handle_new_key(&mut self, now: Instant, public: [u8; 32]) -> Result<(), TunnelError> {
        let is_first = !self.sessions.has_confirmed();
        if !is_first && self.fresh.is_none() && self.rekeys.allow(now) {
            self.begin_rekey(now);
        }
        let with_own = is_first || self.fresh.is_none();
        if with_own && self.own.is_retired(&public) {
            return Err(TunnelError::RateLimited);
        }
        let was_ready = self.is_ready();
        let known = self.sessions.with(&public, 0).map(|s| s.peer_generation).next();
        let peer = PeerKey { generation: known.unwrap_or(self.peer_keys), public };
        for (which, wanted) in [(WhichKey::Own, with_own), (WhichKey::Fresh, self.fresh.is_some())]
        {
            if wanted {
                self.add_session(now, which, peer).map_err(|WeakKey| TunnelError::WeakKey)?;
            }
        }
        if known.is_none() {
            self.peer_keys += 1;
        }
        self.announcer.answer_new_key(now);
        if !was_ready {
            self.announcer.stop(Reason::Start);
            self.events.push_back(TunnelEvent::Established);
        }
        Ok(())
    }

    /// It claims another identity. Kept, in case the registry says that this is the peer's now.
    fn handle_foreign_exchange(&mut self, now: Instant, it: &Exchange) -> Result<(), TunnelError> {
        if !self.verifications.allow(now) {
            return Err(TunnelError::RateLimited);
        }
        if !it.is_signed(self.peer) {
            return Err(TunnelError::BadSignature);
        }
        self.waiting.push(*it);
        if self.mismatches.allow(now) {
            let presented = it.ed25519_public;
            self.events.push_back(TunnelEvent::IdentityMismatch { presented });
        }
        Err(TunnelError::IdentityMismatch)
    }
}
