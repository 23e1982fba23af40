//! `Tunnel`: the secure channel with one peer. Owns the key exchange, the sessions, and what was
//! seen under each; knows nothing of paths, streams, or sockets.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the tunnel's inputs and outputs |
//! | `exchange.rs` | what a received key exchange does |
//! | `announce.rs` | when we send ours |
//! | `own_key.rs` | our X25519 key |
//! | `session.rs` | one agreed key: sealing, opening, replay windows |
//! | `sessions.rs` | all of them, and under which one we send |
//! | `probe.rs` | questions under a key that the peer may not have |
//!
//! # Driving it
//! Feed one input (`handle_*`, `open_in_place`, `start`, ..); then send all of
//! [`Tunnel::poll_handshake`], take all of [`Tunnel::poll_event`], and call
//! [`Tunnel::handle_timeout`] at [`Tunnel::poll_timeout`]. Packets that wait for a key wait at
//! the caller, until [`TunnelEvent::Established`]. Probes are pings (control packets to port 0),
//! so the caller answers them like every ping, and drops pongs to port 0.
//!
//! # On the wire
//! What release 1.18.0 does and understands: PILA both ways, then PILS. We send PILK only as the
//! request that makes a 1.18 peer repeat its PILA, never install one, and never send PILT.
//!
//! # Why
//! A PILA proves who made an X25519 key, but not when, nor for whom: anybody can send it again,
//! and a PILA that our peer made for a third node is valid here too. Release 1.18 believes each
//! one and so can be unseated by a copy. The rules here:
//!
//! - *Frames decide, not key exchanges.* A PILA with another key than the one in use makes a
//!   candidate. Candidate and session in use are both asked (a ping under each key); the first
//!   authentic frame under the candidate promotes it. A restarted peer of any version answers
//!   within one round trip, also when it only listens. If neither answers for a second, we send
//!   under the candidate, and turn back at the first frame under the old key: that is for a 1.18
//!   peer that answers no ping. While nothing was confirmed yet, the latest PILA decides.
//! - *Candidates are fresh on our side too.* Our X25519 key belongs to one tunnel (1.18 has one
//!   per process), is replaced by age, and a candidate is paired with a new one. So nothing that
//!   was sealed before can open there: no frame recorded in a former life of the peer, or before
//!   we forgot an idle peer and its replay windows. What it costs: a 1.18 peer to which somebody
//!   replays us an old PILA loses what is in flight to it, at most once in five seconds; its
//!   streams send that again.
//! - *A peer that rekeys is not a peer that restarted*, but a PILA looks the same for both. So
//!   the nonce prefix under a new key is derived from the session before it
//!   (`Session::is_continued_by`); to a 1.18 node it is as random as any. Streams survive the
//!   one and are failed by the other.
//! - *One counter for all sessions of a tunnel*, so that no nonce can repeat even if a key does,
//!   and prefixes whose first bit tells the two directions apart.
//! - *Answers are seldom*: one per second for what repeats, a few at once for what is new, none
//!   for what answers us. Two tunnels never talk only to each other.

mod announce;
mod exchange;
mod own_key;
mod probe;
mod session;
mod sessions;
#[cfg(test)]
mod tests;
mod types;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{CryptoRng, SeedableRng as _};

pub use self::types::{
    HandshakeFrame, LocalKeys, TunnelConfig, TunnelError, TunnelEvent, TunnelStats,
};

use self::announce::{Announcer, Expired, RateLimit, Reason};
use self::exchange::WaitingExchanges;
use self::own_key::OwnKey;
use self::session::{PeerKey, Refused, Session};
use self::sessions::{Learned, SessionId, Sessions};
use crate::crypto::WeakKey;
use crate::wire::NodeId;
use crate::wire::tunnel::{TAG_LEN, split_sealed};

/// Frames that one tunnel may ever seal. At a million per second that is 36,000 years.
const MAX_COUNTER: u64 = 1 << 60;

/// Least time between two new keys of ours. The peer must have seen one in use before the next,
/// or it cannot tell that we are still the same.
const REKEY_PAUSE: Duration = Duration::from_secs(5);
/// How long a replaced key of ours is kept.
const PREVIOUS_FOR: Duration = Duration::from_secs(30);

/// One peer's secure channel; see the module's documentation.
pub struct Tunnel {
    peer: NodeId,
    config: Arc<TunnelConfig>,
    rng: StdRng,
    /// The Ed25519 key that the peer must sign with.
    peer_key: Option<[u8; 32]>,
    waiting: WaitingExchanges,
    /// Our key.
    own: OwnKey,
    /// Our next key, announced, until a frame opens under it.
    fresh: Option<OwnKey>,
    /// The key that ours replaced, and until when it is kept: a key of the peer that crossed it
    /// needs the proof that our new one follows on it.
    previous: Option<(OwnKey, Instant)>,
    sessions: Sessions,
    /// How many keys the peer has shown so far.
    peer_keys: u32,
    /// The last counter used, over all sessions.
    counter: u64,
    announcer: Announcer,
    /// Signatures that we verify for this peer.
    verifications: RateLimit,
    mismatches: RateLimit,
    rekeys: RateLimit,
    events: VecDeque<TunnelEvent>,
    stats: TunnelStats,
}

impl Tunnel {
    /// A tunnel without keys. `rng` seeds its own generator and is not kept.
    #[must_use]
    pub fn new(peer: NodeId, config: Arc<TunnelConfig>, rng: &mut impl CryptoRng) -> Self {
        let mut rng = StdRng::from_rng(rng);
        Self {
            peer,
            config,
            peer_key: None,
            waiting: WaitingExchanges::default(),
            own: OwnKey::generate(0, &mut rng),
            fresh: None,
            previous: None,
            sessions: Sessions::default(),
            peer_keys: 0,
            counter: 0,
            announcer: Announcer::new(),
            verifications: RateLimit::new(Duration::from_millis(100), 20),
            mismatches: RateLimit::new(Duration::from_secs(1), 1),
            rekeys: RateLimit::new(REKEY_PAUSE, 1),
            events: VecDeque::new(),
            stats: TunnelStats::default(),
            rng,
        }
    }

    /// Wants keys: announces ours until the peer's arrives, or [`TunnelEvent::GaveUp`]. Does
    /// nothing while there are keys, or while it is at it.
    pub fn start(&mut self, now: Instant) {
        if self.is_ready() {
            return;
        }
        self.announcer.begin(now, Reason::Start, self.config.handshake_timeout);
        if self.peer_key.is_none() {
            self.ask_for_peer_key(now);
        }
    }

    /// Replaces our key, as also happens by itself by age and number of frames. Traffic goes on
    /// under the old one until the peer has the new one. Does nothing before the first frame of
    /// the peer, or when it happened a moment ago.
    pub fn rekey(&mut self, now: Instant) {
        if self.sessions.is_settled() && self.rekeys.allow(now) {
            self.begin_rekey(now);
        }
    }

    /// Seals `frame` = 20 bytes of head room, the packet, 16 bytes of tag room.
    ///
    /// # Errors
    /// There are no keys yet, the frame has no room, or the tunnel is worn out.
    pub fn seal_in_place(
        &mut self,
        now: Instant,
        local: &LocalKeys,
        frame: &mut [u8],
    ) -> Result<(), TunnelError> {
        let Some(session) = self.sessions.sending() else { return Err(TunnelError::NotReady) };
        session.seal(local.node(), next_counter(&mut self.counter)?, frame)?;
        self.stats.sealed += 1;
        // The two ends begin at about the same time, but should not rekey at the same time.
        let share = if local.node() < self.peer { 4 } else { 5 };
        let max_age = self.config.rekey_after * share / 4;
        if self.own.wear(now, max_age, self.config.rekey_after_frames) {
            self.rekey(now);
        }
        Ok(())
    }

    /// Opens a sealed frame in place and returns its packet: from the peer, unchanged, and not
    /// seen before. The address inside is still the peer's claim. If no session opens it, our key
    /// is announced (seldom), as one of us seems to have lost a key.
    ///
    /// # Errors
    /// Anything else than such a frame; the tunnel is then as it was.
    pub fn open_in_place<'a>(
        &mut self,
        now: Instant,
        frame: &'a mut [u8],
    ) -> Result<&'a mut [u8], TunnelError> {
        let (header, sealed) = split_sealed(frame)?;
        if header.sender != self.peer {
            return Err(TunnelError::WrongPeer);
        }
        let Some(id) = self.sessions.decrypt(&header, sealed) else {
            self.stats.unauthentic += 1;
            self.announcer.unknown_frame(now);
            return Err(TunnelError::Authentication);
        };
        let Some(session) = self.sessions.get_mut(id) else {
            return Err(TunnelError::Authentication);
        };
        match session.accept(&header) {
            Ok(()) => {}
            Err(Refused::Replayed) => {
                self.stats.replayed += 1;
                return Err(TunnelError::Replayed);
            }
            Err(Refused::TooManyPrefixes) => {
                self.rekey(now);
                return Err(TunnelError::Replayed);
            }
        }
        session.avoid_prefix(header.nonce_prefix, &mut self.rng);
        self.stats.opened += 1;
        let learned = self.sessions.opened(now, id, header.nonce_prefix, &mut self.own);
        self.adopt_fresh_key(now, id.own);
        match learned {
            Learned::Nothing => {}
            Learned::Rekeyed => self.events.push_back(TunnelEvent::Rekeyed),
            Learned::Restarted => self.events.push_back(TunnelEvent::PeerRestarted),
        }
        let (packet, _) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(
            // Opening has seen the tag.
            TunnelError::Authentication,
        )?;
        Ok(packet)
    }

    /// Does what is due. Early and extra calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.announcer.handle_timeout(now) {
            Expired::GaveUp(Reason::Start) if !self.is_ready() => {
                self.events.push_back(TunnelEvent::GaveUp);
            }
            Expired::Again(Reason::Rekey) => {
                if let Some(fresh) = &self.fresh {
                    self.sessions.probe_own(now, fresh.generation());
                }
            }
            _ => {}
        }
        self.sessions.give_in(now);
        self.sessions.expire(now, &mut self.own);
        self.previous.take_if(|(_, until)| *until <= now);
    }

    /// When [`Tunnel::handle_timeout`] wants to be called, and the frames of
    /// [`Tunnel::poll_handshake`] to be sent. Any other call may change it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let wipe = self.previous.as_ref().map(|(_, until)| *until);
        [self.announcer.poll_timeout(), self.sessions.poll_timeout(), wipe]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next frame of the key exchange to send to the peer.
    #[must_use]
    pub fn poll_handshake(&mut self, now: Instant, local: &LocalKeys) -> Option<HandshakeFrame> {
        if local.node() == NodeId(0) {
            return None;
        }
        if self.announcer.take_announcement(now) {
            self.stats.exchanges_sent += 1;
            let key = self.fresh.as_mut().unwrap_or(&mut self.own);
            return Some(HandshakeFrame {
                bytes: key.announcement(local).to_vec(),
                may_copy: true,
            });
        }
        if self.announcer.take_request() {
            let key = self.fresh.as_ref().unwrap_or(&self.own);
            return Some(HandshakeFrame { bytes: key.request(local), may_copy: true });
        }
        let session = self.sessions.take_due_probe(now)?;
        let mut bytes = probe::frame(local.node(), self.peer).ok()?;
        let counter = next_counter(&mut self.counter).ok()?;
        session.seal(local.node(), counter, &mut bytes).ok()?;
        self.stats.sealed += 1;
        Some(HandshakeFrame { bytes, may_copy: false })
    }

    /// Whether [`Tunnel::poll_event`] has something.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// The next event.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<TunnelEvent> {
        self.events.pop_front()
    }

    /// The peer.
    #[must_use]
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// The Ed25519 key that the peer must sign with, once somebody said so.
    #[must_use]
    pub fn peer_key(&self) -> Option<[u8; 32]> {
        self.peer_key
    }

    /// Whether frames can be sealed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.sessions.sending().is_some()
    }

    /// Whether the peer has shown that it has our key: a frame of it opened.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.sessions.is_settled()
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> TunnelStats {
        self.stats
    }

    /// Once a frame opens under our new key, it is our key.
    fn adopt_fresh_key(&mut self, now: Instant, opened_under: u32) {
        if let Some(fresh) = self.fresh.take_if(|fresh| fresh.generation() == opened_under) {
            let previous = std::mem::replace(&mut self.own, fresh);
            self.previous = Some((previous, now + PREVIOUS_FOR));
            self.announcer.stop(Reason::Rekey);
        }
    }

    fn begin_rekey(&mut self, now: Instant) {
        let generation = self.own.generation() + 1;
        if self.fresh.is_none() {
            self.fresh = Some(OwnKey::generate(generation, &mut self.rng));
            for peer in self.sessions.live_peer_keys() {
                // These peer keys have passed the check for weak ones with our last key.
                let _ = self.add_session(now, WhichKey::Fresh, peer);
            }
        }
        self.sessions.probe_own(now, generation);
        self.announcer.begin(now, Reason::Rekey, self.config.handshake_timeout);
    }

    /// Derives the session of one of our keys and one of the peer's.
    fn add_session(&mut self, now: Instant, which: WhichKey, peer: PeerKey) -> Result<(), WeakKey> {
        let (key, previous) = match which {
            WhichKey::Own => (&self.own, self.previous.as_ref().map(|(key, _)| key)),
            WhichKey::Fresh => match &self.fresh {
                Some(fresh) => (fresh, Some(&self.own)),
                None => return Ok(()),
            },
        };
        if self.sessions.get(SessionId { own: key.generation(), peer: peer.generation }).is_some() {
            return Ok(());
        }
        let session = Session::derive(now, key, peer, previous, &mut self.rng)?;
        self.sessions.add(now, session, &mut self.own);
        Ok(())
    }

    fn ask_for_peer_key(&mut self, now: Instant) {
        if self.waiting.ask(now) {
            self.events.push_back(TunnelEvent::NeedPeerKey);
        }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("peer", &self.peer)
            .field("sessions", &self.sessions)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// One of our two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhichKey {
    Own,
    Fresh,
}

fn next_counter(counter: &mut u64) -> Result<u64, TunnelError> {
    if *counter >= MAX_COUNTER {
        return Err(TunnelError::CounterExhausted);
    }
    *counter += 1;
    Ok(*counter)
}
